//! One job: measures the targets, then steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{AdamForm, Config, Init, Orientation, Size};
use super::losses::{ContentTerm, FeatureTarget, GramSum, StyleTerm};
use super::noise::normal;
use crate::error::{Error, Result};
use crate::kernel::Scalar;
use crate::net::plan::{Network, TapTerm, Workspace};
use crate::net::tiles::{Tile, tiles};
use crate::net::vgg19::Tap;
use crate::ops::adam::{AdamTensors, adam};
use crate::ops::loss::{log_losses, partials, sum_reduce};
use crate::ops::total_variation::total_variation;
use crate::picture::Picture;
use crate::recording::{Backend, BufferTable, Engine, Program, Purpose, Recording, Tensor};
use crate::weights::Weights;

/// Most iterations that run without a look at their losses.
const RING: u32 = 32;
/// No picture is this far from 0..255 unless the optimiser diverged.
const RUNAWAY: f32 = 1e6;
/// Each tile adds a few dozen launches to the recording; more of them than this is a mistake.
const MAX_TILES: usize = 4096;
/// Batches of iterations grow until one takes about this long: often enough to stay responsive.
const BATCH: Duration = Duration::from_millis(100);

/// What an iteration found, before it changed the picture.
#[derive(Clone, Debug)]
pub struct Report {
    /// From 0.
    pub iteration: u32,
    /// Sum of all terms.
    pub total_loss: f64,
    /// Since the run was set up.
    pub elapsed: Duration,
    names: Arc<[String]>,
    values: Vec<f32>,
}

impl Report {
    /// Every term with its weight in it: `content/relu1_2`, `style/relu2_2`, `tv`.
    pub fn terms(&self) -> impl Iterator<Item = (&str, f32)> {
        self.names.iter().map(String::as_str).zip(self.values.iter().copied())
    }
}

/// A style transfer on one engine. Dropping it frees everything it holds.
#[derive(Debug)]
pub struct StyleTransfer {
    engine: Box<dyn Engine>,
    config: Config,
    table: BufferTable,
    step_recording: Recording,
    step: Program,
    image: Tensor,
    d_image: Tensor,
    ring: Tensor,
    mean: [f32; 3],
    height: usize,
    width: usize,
    names: Arc<[String]>,
    iteration: u32,
    /// The term that stopped being finite, and when.
    diverged: Option<(String, u32)>,
    batch: u32,
    start: Instant,
}

impl StyleTransfer {
    /// Sets a run up: resamples the pictures, allocates every buffer, measures the targets, writes the start.
    ///
    /// `weights` must reach down to [`Config::depth`]. Exactly one style picture is supported so far.
    pub fn new(
        backend: &dyn Backend,
        weights: &Weights,
        content: &Picture,
        styles: &[Picture],
        config: Config,
    ) -> Result<StyleTransfer> {
        let (sizes, layout, [style_pass, content_pass, step_recording]) = lay_out(weights, content, styles, &config)?;
        let Layout { work, network, image, d_image, ring, schedule, names, style_image, .. } = layout;
        let content = content.resized(sizes.content[1], sizes.content[0]);
        let style = styles.first().map(|style| style.resized(sizes.style[1], sizes.style[0]));
        let mean = config.mean.unwrap_or(weights.mean);
        let start_values = start_values(&config, &content, mean)?;

        let mut engine = backend.engine()?;
        engine.allocate(&work.table)?;
        match config.orientation {
            Orientation::True => network.upload(engine.as_mut(), weights)?,
            Orientation::Article => network.upload(engine.as_mut(), &weights.clone().transposed())?,
        }
        if let (Some(style_image), Some(style)) = (style_image, style) {
            engine.write(style_image.buffer, &padded_pixels(&style.rgb, mean))?;
        }
        let style_pass = engine.prepare(&style_pass)?;
        engine.run(style_pass, 1)?;
        engine.write(image.buffer, &padded_pixels(&content.rgb, mean))?;
        let content_pass = engine.prepare(&content_pass)?;
        engine.run(content_pass, 1)?;
        engine.write(image.buffer, &start_values)?;
        engine.write(schedule.buffer, &schedule_values(&config))?;
        let step = engine.prepare(&step_recording)?;

        Ok(StyleTransfer {
            engine,
            table: work.table,
            step_recording,
            step,
            image,
            d_image,
            ring,
            mean,
            height: content.height,
            width: content.width,
            names: names.into(),
            iteration: 0,
            diverged: None,
            batch: 1,
            start: Instant::now(),
            config,
        })
    }

    /// What [`StyleTransfer::new`] would run in every iteration and the buffers it would allocate, without a device.
    pub fn plan(
        weights: &Weights,
        content: &Picture,
        styles: &[Picture],
        config: &Config,
    ) -> Result<(Recording, BufferTable)> {
        let (_, layout, [_, _, step]) = lay_out(weights, content, styles, config)?;
        Ok((step, layout.work.table))
    }

    /// Runs up to `limit` further iterations, as many as fit in about 100 ms and at least one, and reports each.
    /// Empty when the run is complete. Afterwards [`StyleTransfer::image`] is the picture after the last one reported.
    ///
    /// # Errors
    /// [`Error::NonFinite`] once a loss is NaN or infinite: the iterations before it are reported first, and every later
    /// call fails alike.
    pub fn advance(&mut self, limit: u32) -> Result<Vec<Report>> {
        self.check_diverged()?;
        let count = self.batch.min(limit).min(self.config.iterations - self.iteration);
        if count == 0 {
            return Ok(Vec::new());
        }
        let begin = Instant::now();
        self.engine.run(self.step, count)?;
        let ring = self.engine.read(self.ring.buffer)?;
        let took = begin.elapsed();
        if took < BATCH / 2 && count == self.batch {
            self.batch = (self.batch * 2).min(RING);
        } else if took > BATCH * 2 {
            self.batch = (self.batch / 2).max(1);
        }
        let mut reports = Vec::new();
        for iteration in self.iteration..self.iteration + count {
            let row = (iteration % RING) as usize * self.names.len();
            let values = ring[row..row + self.names.len()].to_vec();
            if let Some((name, _)) = self.names.iter().zip(&values).find(|(_, value)| !value.is_finite()) {
                self.diverged = Some((name.clone(), iteration));
                break;
            }
            reports.push(Report {
                iteration,
                total_loss: values.iter().map(|value| f64::from(*value)).sum(),
                elapsed: self.start.elapsed(),
                names: self.names.clone(),
                values,
            });
        }
        self.iteration += count;
        if reports.is_empty() {
            self.check_diverged()?;
        }
        Ok(reports)
    }

    fn check_diverged(&self) -> Result<()> {
        self.diverged.clone().map_or(Ok(()), |(term, iteration)| Err(diverged(term, iteration)))
    }

    /// Runs to the end, one report per iteration. Stop by dropping the iterator. Iterations run in batches of about
    /// 100 ms, so the picture may be some iterations ahead of the report last seen; [`StyleTransfer::advance`] is exact.
    pub fn steps(&mut self) -> impl Iterator<Item = Result<Report>> + '_ {
        let mut ready = std::collections::VecDeque::new();
        let mut failed = false;
        std::iter::from_fn(move || {
            if ready.is_empty() && !failed {
                match self.advance(u32::MAX) {
                    Ok(reports) => ready.extend(reports.into_iter().map(Ok)),
                    Err(error) => {
                        failed = true;
                        ready.push_back(Err(error));
                    }
                }
            }
            ready.pop_front()
        })
    }

    /// The picture as it is now: RGB on the 0..255 scale, not clipped.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if the picture itself ran away: a ReLU may turn NaN into zero, so finite losses do not
    /// vouch for it.
    pub fn image(&mut self) -> Result<Picture> {
        self.check_diverged()?;
        let values = self.engine.read(self.image.buffer)?;
        if values.iter().any(|value| !(value.abs() <= RUNAWAY)) {
            return Err(diverged("the picture".into(), self.iteration));
        }
        let rgb = values.chunks_exact(4).flat_map(|p| [0, 1, 2].map(|c| p[c] + self.mean[c])).collect();
        Ok(Picture { width: self.width, height: self.height, rgb })
    }

    /// Gradient of the loss with respect to the picture at the last iteration, `[H, W, 3]`.
    pub fn gradient(&mut self) -> Result<Vec<f32>> {
        let values = self.engine.read(self.d_image.buffer)?;
        Ok(values.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect())
    }

    /// Iterations done.
    pub fn iteration(&self) -> u32 {
        self.iteration
    }

    /// Width and height of the result.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Device and engine, for people.
    pub fn device(&self) -> String {
        self.engine.describe()
    }

    /// What one iteration does: for profiles and `--dump-plan`.
    pub fn recording(&self) -> &Recording {
        &self.step_recording
    }

    /// Every buffer of the job.
    pub fn buffers(&self) -> &BufferTable {
        &self.table
    }
}

fn diverged(term: String, iteration: u32) -> Error {
    Error::NonFinite { term, iteration, hint: "lower --learning-rate, or the weights of the losses".into() }
}

/// Height and width of the pictures at work.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    content: [usize; 2],
    style: [usize; 2],
}

/// Everything that can be said and refused before a picture is resampled or a device opened: sizes, buffers, and the
/// recordings for the style's targets, the content's targets, and one iteration.
fn lay_out(
    weights: &Weights,
    content: &Picture,
    styles: &[Picture],
    config: &Config,
) -> Result<(Sizes, Layout, [Recording; 3])> {
    config.validate()?;
    let [style] = styles else {
        return Err(Error::Config {
            option: "style",
            what: format!("{} style pictures", styles.len()),
            hint: "give exactly one".into(),
        });
    };
    let init = if let Init::Picture(picture) = &config.init { Some(("init", picture)) } else { None };
    for (option, picture) in [("content", content), ("style", style)].into_iter().chain(init) {
        if !picture.is_consistent() {
            return Err(Error::Config {
                option,
                what: format!("{} samples for {}x{} pixels", picture.rgb.len(), picture.width, picture.height),
                hint: "give width x height x 3 samples, and sides of at least one pixel".into(),
            });
        }
    }
    let content_size = config.size.of(content);
    let longest = content_size[0].max(content_size[1]) as f32 * config.style_scale;
    let style_size = config.style_size.unwrap_or(Size::Longest((longest.round() as usize).max(1)));
    let sizes = Sizes { content: content_size, style: style_size.of(style) };
    check_indices(config, &sizes)?;
    let mut layout = Layout::new(config, weights, sizes.content)?;
    let recordings = [layout.style_pass(config, sizes.style)?, layout.content_pass()?, layout.step(config)?];
    Ok((sizes, layout, recordings))
}

/// Kernels index with 32 bits: no map may reach 2^32 elements, neither a tile's nor the content's target.
fn check_indices(config: &Config, sizes: &Sizes) -> Result<()> {
    let elements = |[height, width]: [usize; 2], tap: Tap| {
        let side = |length: usize| length.div_ceil(1 << tap.level()) as u64;
        side(height) * side(width) * tap.channels() as u64
    };
    let mut largest = 0;
    for [height, width] in [sizes.content, sizes.style] {
        let tiles = tiles_for(config, height, width);
        if tiles.len() > MAX_TILES {
            return Err(Error::Config {
                option: "tile",
                what: format!("{} tiles for {width}x{height} pixels", tiles.len()),
                hint: "give a larger one, e.g. 512".into(),
            });
        }
        for tile in tiles {
            let area = [tile.area.height, tile.area.width];
            largest = (0..config.depth()).map(|conv| elements(area, Tap::from_conv(conv))).fold(largest, u64::max);
        }
    }
    let targets = config.content_layers.iter().map(|(tap, _)| elements(sizes.content, *tap));
    if let Some(elements) = targets.chain([largest]).max().filter(|elements| u32::try_from(*elements).is_err()) {
        return Err(Error::OutOfMemory {
            what: "a feature map".into(),
            needed: elements.saturating_mul(4),
            available: 4 * u64::from(u32::MAX),
            hint: "use a smaller --size, or --tile 1024 with deeper --content-layers".into(),
        });
    }
    Ok(())
}

/// `[H, W, 3]` minus the mean, as `[H, W, 4]` with a zero in the fourth channel.
fn padded_pixels(rgb: &[f32], mean: [f32; 3]) -> Vec<f32> {
    rgb.chunks_exact(3).flat_map(|p| [p[0] - mean[0], p[1] - mean[1], p[2] - mean[2], 0.0]).collect()
}

fn start_values(config: &Config, content: &Picture, mean: [f32; 3]) -> Result<Vec<f32>> {
    let (height, width) = (content.height, content.width);
    Ok(match &config.init {
        Init::Content => padded_pixels(&content.rgb, mean),
        Init::Noise => padded_pixels(&normal(config.seed, height * width * 3), [0.0; 3]),
        Init::Picture(picture) => padded_pixels(&picture.resized(width, height).rgb, mean),
        Init::Values { height: rows, width: columns, values } => {
            if (*rows, *columns) != (height, width) || values.len() != height * width * 3 {
                return Err(Error::Config {
                    option: "init",
                    what: format!("values for {columns}x{rows}, the result has {width}x{height}"),
                    hint: "make an array of shape [height, width, 3] in the size of the result".into(),
                });
            }
            padded_pixels(values, [0.0; 3])
        }
    })
}

/// `(rate, epsilon)` of every iteration, in double precision: see `shaders/adam.wgsl`.
fn schedule_values(config: &Config) -> Vec<f32> {
    let adam = &config.adam;
    let (beta1, beta2) = (f64::from(adam.beta1), f64::from(adam.beta2));
    (1..=config.iterations)
        .flat_map(|t| {
            let correction = (1.0 - beta2.powf(f64::from(t))).sqrt();
            let rate = f64::from(adam.learning_rate) * correction / (1.0 - beta1.powf(f64::from(t)));
            let epsilon = match adam.form {
                AdamForm::TensorFlow => f64::from(adam.epsilon),
                AdamForm::Standard => f64::from(adam.epsilon) * correction,
            };
            [rate as f32, epsilon as f32]
        })
        .collect()
}

/// The buffers of a job while its recordings are being written.
struct Layout {
    work: Workspace,
    network: Network,
    tiles: Vec<Tile>,
    image: Tensor,
    d_image: Tensor,
    losses: Tensor,
    ring: Tensor,
    schedule: Tensor,
    style_image: Option<Tensor>,
    names: Vec<String>,
    targets: Vec<Tensor>,
    contents: Vec<FeatureTarget>,
}

impl Layout {
    fn new(config: &Config, weights: &Weights, [height, width]: [usize; 2]) -> Result<Layout> {
        let mut work = Workspace::default();
        let network = Network::new(&mut work, weights, config.depth(), config.pooling)?;
        let mut names: Vec<String> = config.content_layers.iter().map(|(tap, _)| format!("content/{tap}")).collect();
        names.extend(config.style_layers.iter().map(|(tap, _)| format!("style/{tap}")));
        if config.tv_weight > 0.0 {
            names.push("tv".into());
        }
        let terms = names.len();
        let mut tensor = |label: &str, shape: &[usize], purpose| work.table.tensor(label, Scalar::F32, shape, purpose);
        let image = tensor("image", &[height, width, 4], Purpose::Image);
        let d_image = tensor("d_image", &[height, width, 4], Purpose::Image);
        let losses = tensor("losses", &[terms], Purpose::Reduction);
        let ring = tensor("ring", &[RING as usize, terms], Purpose::Reduction);
        let schedule = tensor("schedule", &[config.iterations as usize, 2], Purpose::Reduction);
        let contents =
            config.content_layers.iter().map(|(tap, _)| FeatureTarget::new(&mut work, *tap, height, width)).collect();
        let tiles = tiles_for(config, height, width);
        let (style_image, targets) = (None, Vec::new());
        Ok(Layout {
            work,
            network,
            tiles,
            image,
            d_image,
            losses,
            ring,
            schedule,
            style_image,
            names,
            targets,
            contents,
        })
    }

    /// Measures the style picture's Gram matrices.
    fn style_pass(&mut self, config: &Config, [height, width]: [usize; 2]) -> Result<Recording> {
        let mut recording = Recording::new("style targets");
        let tiles = tiles_for(config, height, width);
        let sums: Vec<GramSum> = config
            .style_layers
            .iter()
            .map(|(tap, _)| GramSum::new(&mut self.work, "style target", *tap, &tiles, Purpose::Targets))
            .collect();
        let terms: Vec<&dyn TapTerm> = sums.iter().map(|sum| sum as &dyn TapTerm).collect();
        let image = self.work.take("style image", Scalar::F32, &[height, width, 4]);
        self.network.record_forward(&mut self.work, &mut recording, &image, &tiles, &terms)?;
        self.work.give(image.clone());
        self.style_image = Some(image);
        self.targets = sums.into_iter().map(|sum| sum.gram).collect();
        Ok(recording)
    }

    /// Measures the content picture's features, from the buffer that later holds the result.
    fn content_pass(&mut self) -> Result<Recording> {
        let mut recording = Recording::new("content targets");
        let terms: Vec<&dyn TapTerm> = self.contents.iter().map(|target| target as &dyn TapTerm).collect();
        self.network.record_forward(&mut self.work, &mut recording, &self.image, &self.tiles, &terms)?;
        Ok(recording)
    }

    /// One iteration: gradient of every term, Adam, losses into the ring.
    fn step(&mut self, config: &Config) -> Result<Recording> {
        let mut recording = Recording::new("step");
        let mut terms: Vec<Box<dyn TapTerm>> = Vec::new();
        recording.clear(self.losses.buffer);
        recording.clear(self.d_image.buffer);
        let losses = &self.losses;
        for (slot, ((tap, weight), target)) in config.content_layers.iter().zip(&self.contents).enumerate() {
            let weight = weight * config.content_weight;
            let target = target.target.clone();
            terms.push(Box::new(ContentTerm { tap: *tap, target, weight, losses: losses.clone(), slot }));
        }
        for ((tap, weight), target) in config.style_layers.iter().zip(&self.targets) {
            let sum = GramSum::new(&mut self.work, "gram", *tap, &self.tiles, Purpose::Reduction);
            recording.clear(sum.gram.buffer);
            let (weight, slot) = (weight * config.style_weight, terms.len());
            terms.push(Box::new(StyleTerm::new(&mut self.work, sum, target.clone(), weight, losses, slot)));
        }
        let terms: Vec<&dyn TapTerm> = terms.iter().map(AsRef::as_ref).collect();
        let pictures = (&self.image, &self.d_image);
        self.network.record_gradient(&mut self.work, &mut recording, pictures, &self.tiles, &terms)?;
        if config.tv_weight > 0.0 {
            self.total_variation(&mut recording, config.tv_weight, terms.len())?;
        }
        let mut table =
            |label: &str, scalar, shape: &[usize]| self.work.table.tensor(label, scalar, shape, Purpose::Image);
        let m = table("m", Scalar::F32, &self.image.shape);
        let v = table("v", Scalar::F32, &self.image.shape);
        let step = table("step", Scalar::U32, &[1]);
        let tensors = AdamTensors {
            d_image: &self.d_image,
            schedule: &self.schedule,
            step: &step,
            image: &self.image,
            m: &m,
            v: &v,
        };
        adam(&mut recording, tensors, config.adam.beta1, config.adam.beta2)?;
        log_losses(&mut recording, &self.losses, &self.ring, &step)?;
        Ok(recording)
    }

    /// anishathalye's form: each direction's squared differences are averaged over their own number, three channels.
    fn total_variation(&mut self, recording: &mut Recording, weight: f32, slot: usize) -> Result<()> {
        let [height, width] = [self.image.shape[0], self.image.shape[1]];
        let mean = |rows: usize, columns: usize| {
            // A picture one pixel high or wide has no differences in that direction.
            if rows * columns == 0 { 0.0 } else { (f64::from(weight) / (3 * rows * columns) as f64) as f32 }
        };
        let (row_weight, column_weight) = (mean(height - 1, width), mean(height, width - 1));
        let partial = self.work.take("partial", Scalar::F32, &[partials(height * width)]);
        total_variation(recording, &self.image, row_weight, column_weight, &self.d_image, &partial)?;
        sum_reduce(recording, "tv", &partial, 1.0, &self.losses, slot)?;
        self.work.give(partial);
        Ok(())
    }
}

fn tiles_for(config: &Config, height: usize, width: usize) -> Vec<Tile> {
    let deepest = Tap::from_conv(config.depth().saturating_sub(1));
    tiles(height, width, config.tile, deepest.radius(), 1 << deepest.level())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_too_large_to_index_is_refused_before_anything_is_allocated() {
        let check = |config: &Config, side| check_indices(config, &Sizes { content: [side; 2], style: [8; 2] });
        let whole = Config::default();
        let tiled = Config { tile: Some(512), ..Config::default() };
        assert!(check(&whole, 8191).is_ok());
        assert!(matches!(check(&whole, 8192), Err(Error::OutOfMemory { needed: 17_179_869_184, .. })));
        assert!(check(&tiled, 8192).is_ok(), "the content target at relu2_2 has 2^31 elements");
        assert!(check(&tiled, 11_600).is_err(), "and here more than 2^32");
    }
}
