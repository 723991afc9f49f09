//! Lays a job out: sizes, buffers and recordings, before a picture is resampled or an engine made.

use super::config::{Config, Init};
use super::forecast;
use super::lbfgs::{Parts, Vectors};
use super::losses::{FeatureTarget, Measure, StyleTarget, terms};
use super::normalize::Normalized;
use super::optimizer::Optimizer;
use super::scales::Scale;
use super::variation::total_variation;
use crate::error::{Error, Result};
use crate::kernel::Scalar;
use crate::net::bands::Bands;
use crate::net::plan::{Network, TapTerm, Workspace};
use crate::net::tiles::{Tile, grid, tiles};
use crate::net::vgg19::Tap;
use crate::ops::adam::{AdamTensors, adam};
use crate::ops::loss::log_losses;
use crate::ops::vector::{average_image, clamp_image};
use crate::picture::Picture;
use crate::recording::{Backend, Choices, Purpose, Recording, Tensor};
use crate::weights::Weights;

/// Most iterations that run without a look at their losses.
pub(super) const RING: u32 = 32;
/// Each tile adds a few dozen launches to the recording; more of them than this is a mistake.
const MAX_TILES: usize = 4096;

/// One scale before a picture is resampled or an engine made: its buffers, and the recordings for the style's targets,
/// the content's targets, and one iteration.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) scale: Scale,
    pub(super) way: Way,
    /// How the convolutions are computed.
    pub(super) choices: Choices,
    pub(super) layout: Layout,
    pub(super) style_pass: Recording,
    pub(super) content_pass: Recording,
    /// One iteration of Adam; of L-BFGS the gradient, which an iteration needs once or more.
    pub(super) step: Recording,
    /// What else L-BFGS does.
    pub(super) parts: Option<Parts<Recording>>,
    /// Bytes that the engine needs beside the buffers.
    pub(super) overhead: u64,
}

/// Every scale of a job, the smallest first, with everything that can be said and refused before any work; and the
/// style, of which there is one.
pub(super) fn lay_out<'a>(
    backend: &dyn Backend,
    weights: &Weights,
    content: &Picture,
    styles: &'a [Picture],
    config: &Config,
) -> Result<(Vec<Stage>, &'a Picture)> {
    let (scales, style) = check_inputs(content, styles, config)?;
    let stage = |scale| forecast::stage(backend, weights, config, scale);
    Ok((scales.into_iter().map(stage).collect::<Result<_>>()?, style))
}

/// Everything that can be refused without the weights.
pub(super) fn check_inputs<'a>(
    content: &Picture,
    styles: &'a [Picture],
    config: &Config,
) -> Result<(Vec<Scale>, &'a Picture)> {
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
    if let Init::Values { height, width, values } = &config.init {
        let [rows, columns] = config.size.of(content);
        if [*height, *width] != [rows, columns] || values.len() != rows * columns * 3 {
            return Err(Error::Config {
                option: "init",
                what: format!("values for {width}x{height}, the result has {columns}x{rows}"),
                hint: "make an array of shape [height, width, 3] in the size of the result".into(),
            });
        }
    }
    let scales = config.scales(content, style);
    Ok((scales, style))
}

impl Stage {
    /// Lays a scale out in a given way. Its overhead is left to be filled in.
    pub(super) fn new(config: &Config, weights: &Weights, scale: Scale, way: Way, choices: &Choices) -> Result<Stage> {
        check_indices(config, &scale, way)?;
        let mut layout = Layout::new(config, weights, &scale, way, choices)?;
        let style_pass = layout.style_pass(config, [scale.style_height, scale.style_width])?;
        let content_pass = layout.content_pass()?;
        let (step, parts) = layout.step(config, config.mean.unwrap_or(weights.mean))?;
        let choices = choices.clone();
        Ok(Stage { scale, way, choices, layout, style_pass, content_pass, step, parts, overhead: 0 })
    }

    /// Everything that runs.
    pub(super) fn recordings(&self) -> Vec<&Recording> {
        let parts = self.parts.iter().flat_map(Parts::each);
        [&self.style_pass, &self.content_pass, &self.step].into_iter().chain(parts).collect()
    }

    /// Bytes of all buffers.
    pub(super) fn bytes(&self) -> u64 {
        self.layout.work.table.total()
    }
}

/// How a scale is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Edge of the tiles; `None` makes one of the whole picture.
    pub(super) tile: Option<usize>,
    /// Whether content targets are computed anew for every tile instead of being kept.
    pub(super) recompute: bool,
}

/// Kernels index with 32 bits: no map may reach 2^32 elements, neither a tile's nor a content target that is kept.
fn check_indices(config: &Config, scale: &Scale, way: Way) -> Result<()> {
    let elements = |[height, width]: [usize; 2], tap: Tap| {
        let side = |length: usize| length.div_ceil(1 << tap.level()) as u64;
        side(height) * side(width) * tap.channels() as u64
    };
    let content = [scale.height, scale.width];
    let mut largest = 0;
    for [height, width] in [content, [scale.style_height, scale.style_width]] {
        let count = way.tile.map_or(1, |tile| height.div_ceil(tile).saturating_mul(width.div_ceil(tile)));
        if count > MAX_TILES {
            return Err(Error::Config {
                option: "tile",
                what: format!("{count} tiles for {width}x{height} pixels"),
                hint: "give a larger one, e.g. 512".into(),
            });
        }
        for tile in tiles_for(config, way, height, width) {
            let area = [tile.area.height, tile.area.width];
            largest = (0..config.depth()).map(|conv| elements(area, Tap::from_conv(conv))).fold(largest, u64::max);
        }
    }
    let kept = config.content_layers.iter().filter(|_| !way.recompute);
    let targets = kept.map(|(tap, _)| elements(content, *tap));
    if let Some(elements) = targets.chain([largest]).max().filter(|elements| u32::try_from(*elements).is_err()) {
        return Err(Error::OutOfMemory {
            what: "a feature map".into(),
            needed: elements.saturating_mul(4),
            available: 4 * u64::from(u32::MAX),
            hint: "use a smaller --size or --tile".into(),
        });
    }
    Ok(())
}

/// What the optimiser keeps from one iteration to the next.
#[derive(Debug)]
pub(super) enum State {
    Adam { m: Bands, v: Bands, schedule: Tensor },
    Lbfgs(Vectors),
}

/// The buffers of a scale while its recordings are being written.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) work: Workspace,
    pub(super) network: Network,
    pub(super) tiles: Vec<Tile>,
    pub(super) image: Bands,
    pub(super) d_image: Bands,
    pub(super) losses: Tensor,
    pub(super) ring: Tensor,
    pub(super) state: State,
    /// The running average of the pictures, and the weight of each.
    pub(super) average: Option<(Bands, Tensor)>,
    pub(super) counter: Tensor,
    pub(super) style_image: Option<Bands>,
    /// The content picture, where its features are computed anew for every tile.
    pub(super) content_image: Option<Bands>,
    way: Way,
    pub(super) names: Vec<String>,
    measure: Measure,
    pub(super) targets: Vec<StyleTarget>,
    pub(super) contents: Vec<FeatureTarget>,
}

impl Layout {
    fn new(config: &Config, weights: &Weights, scale: &Scale, way: Way, choices: &Choices) -> Result<Layout> {
        let (height, width) = (scale.height, scale.width);
        let mut work = Workspace::default();
        let measure = Measure::new(config, weights.activation_unit);
        let mut network = Network::new(
            &mut work,
            weights,
            config.depth(),
            (config.pooling, config.precision),
            (choices, [height, width]),
        )?;
        (network.edge, network.pooling_scale) = (config.edge, config.pooling_scale);
        let mut names: Vec<String> = config.content_layers.iter().map(|(tap, _)| format!("content/{tap}")).collect();
        names.extend(config.style_layers.iter().map(|(tap, _)| format!("style/{tap}")));
        if config.tv_weight > 0.0 {
            names.push("tv".into());
        }
        let terms = names.len();
        let mut tensor =
            |label: &str, shape: &[usize]| work.table.tensor(label, Scalar::F32, shape, Purpose::Reduction);
        let losses = tensor("losses", &[terms]);
        let ring = tensor("ring", &[RING as usize, terms]);
        let iterations = scale.iterations as usize;
        let schedule = (config.optimizer == Optimizer::Adam).then(|| tensor("schedule", &[iterations, 2]));
        let weights = (config.ema > 0.0).then(|| tensor("weights", &[iterations]));
        let mut bands =
            |label: &str| Bands::new(&mut work.table, label, [height, width], Purpose::Image, config.max_buffer);
        let [image, d_image] = ["image", "d_image"].map(&mut bands);
        let state = schedule.map(|schedule| State::Adam { m: bands("m"), v: bands("v"), schedule });
        let average = weights.map(|weights| (bands("average"), weights));
        let recompute = way.recompute && !config.content_layers.is_empty();
        let content_image = recompute.then(|| bands("content image"));
        let lbfgs = |work| Vectors::new(work, [height, width], config.max_buffer, config.lbfgs.history);
        let state = state.unwrap_or_else(|| State::Lbfgs(lbfgs(&mut work)));
        let tiles = tiles_for(config, way, height, width);
        let content = |(tap, _): &(Tap, f32)| match recompute {
            true => FeatureTarget::of_a_tile(&mut work, &network, *tap, &tiles),
            false => FeatureTarget::new(&mut work, &network, *tap, [height, width]),
        };
        let contents = config.content_layers.iter().map(content).collect();
        let counter = work.table.tensor("step", Scalar::U32, &[1], Purpose::Image);
        let (style_image, targets) = (None, Vec::new());
        Ok(Layout {
            work,
            network,
            tiles,
            image,
            d_image,
            losses,
            ring,
            state,
            average,
            counter,
            style_image,
            content_image,
            way,
            names,
            measure,
            targets,
            contents,
        })
    }

    /// Measures the style picture.
    fn style_pass(&mut self, config: &Config, [height, width]: [usize; 2]) -> Result<Recording> {
        let mut recording = Recording::new("style targets");
        let tiles = tiles_for(config, self.way, height, width);
        let target = |(tap, _): &(Tap, f32)| StyleTarget::new(&mut self.work, *tap, &tiles, self.measure);
        let targets: Vec<StyleTarget> = config.style_layers.iter().map(target).collect();
        let terms: Vec<&dyn TapTerm> = targets.iter().map(|target| target as &dyn TapTerm).collect();
        // In the buffers of the picture, which is written later.
        let size = [height, width];
        let image = self.image.lend(&mut self.work.table, "style image", size, Purpose::Image, config.max_buffer);
        self.network.record_forward(&mut self.work, &mut recording, &image, &tiles, &terms)?;
        self.style_image = Some(image);
        self.targets = targets;
        Ok(recording)
    }

    /// Measures the content picture's features, from the buffer that later holds the result.
    fn content_pass(&mut self) -> Result<Recording> {
        let mut recording = Recording::new("content targets");
        if self.content_image.is_some() {
            return Ok(recording);
        }
        let terms: Vec<&dyn TapTerm> = self.contents.iter().map(|target| target as &dyn TapTerm).collect();
        self.network.record_forward(&mut self.work, &mut recording, &self.image, &self.tiles, &terms)?;
        Ok(recording)
    }

    /// One iteration: gradient of every term, step, losses into the ring.
    fn step(&mut self, config: &Config, mean: [f32; 3]) -> Result<(Recording, Option<Parts<Recording>>)> {
        let mut recording = self.gradient(config)?;
        let mut settle = Recording::new("settle");
        self.settle(&mut settle)?;
        let Layout { work, image, d_image, state, .. } = self;
        match state {
            State::Adam { m, v, schedule } => {
                let moments = m.tensors().iter().zip(v.tensors());
                for ((image, d_image), (m, v)) in image.tensors().iter().zip(d_image.tensors()).zip(moments) {
                    let tensors = AdamTensors { d_image, schedule, step: &self.counter, image, m, v };
                    adam(&mut recording, tensors, config.adam.beta1, config.adam.beta2)?;
                    if config.clamp {
                        let [lower, upper] = bounds(mean);
                        clamp_image(&mut recording, image, lower, upper)?;
                    }
                }
                recording.commands.append(&mut settle.commands);
                Ok((recording, None))
            }
            State::Lbfgs(vectors) => {
                let parts = vectors.record(work, (image, d_image), settle)?;
                Ok((recording, Some(parts)))
            }
        }
    }

    /// The end of an iteration: the average takes the picture in, losses go into the ring, the counter moves on.
    fn settle(&self, recording: &mut Recording) -> Result<()> {
        if let Some((average, weights)) = &self.average {
            for (image, average) in self.image.tensors().iter().zip(average.tensors()) {
                average_image(recording, image, weights, &self.counter, average)?;
            }
        }
        log_losses(recording, &self.losses, &self.ring, &self.counter)
    }

    /// Losses of the picture and the gradient of their sum.
    fn gradient(&mut self, config: &Config) -> Result<Recording> {
        let mut recording = Recording::new("step");
        recording.clear(self.losses.buffer);
        self.d_image.clear(&mut recording);
        let targets = (&self.contents[..], &self.targets[..]);
        let own = (self.measure, &self.losses);
        let mut terms = terms(&mut self.work, &mut recording, config, &self.tiles, targets, own);
        if config.normalize_gradients {
            terms = self.normalized(config, &mut recording, terms);
        }
        let terms: Vec<&dyn TapTerm> = terms.iter().map(AsRef::as_ref).collect();
        let pictures = (&self.image, &self.d_image);
        let contents: Vec<&dyn TapTerm> = self.contents.iter().map(|target| target as &dyn TapTerm).collect();
        let reference = self.content_image.as_ref().map(|image| (image, &contents[..]));
        self.network.record_gradient(&mut self.work, &mut recording, pictures, &self.tiles, &terms, reference)?;
        if config.tv_weight > 0.0 {
            let picture = (&self.image, &self.d_image);
            total_variation(&mut self.work, &mut recording, config, picture, (&self.losses, terms.len()))?;
        }
        Ok(recording)
    }

    /// The terms, content first, with their gradients normalised.
    fn normalized(
        &mut self,
        config: &Config,
        recording: &mut Recording,
        terms: Vec<Box<dyn TapTerm>>,
    ) -> Vec<Box<dyn TapTerm>> {
        let norms = self.work.table.tensor("norms", Scalar::F32, &[terms.len().max(1)], Purpose::Reduction);
        recording.clear(norms.buffer);
        let content = config.content_layers.iter().map(|(_, weight)| weight * config.content_weight);
        let weights = content.chain(config.style_weights());
        let normalized = |(slot, (inner, weight)): (usize, (Box<dyn TapTerm>, f32))| -> Box<dyn TapTerm> {
            let losses = (slot == 0).then(|| self.losses.clone());
            // Its gradient is zero: whatever it is divided by.
            let weight = if weight > 0.0 { weight } else { 1.0 };
            Box::new(Normalized { inner, weight, norms: norms.clone(), slot, losses })
        };
        terms.into_iter().zip(weights).enumerate().map(normalized).collect()
    }
}

/// 0 and 255 with the mean subtracted.
pub(super) fn bounds(mean: [f32; 3]) -> [[f32; 3]; 2] {
    [mean.map(|mean| -mean), mean.map(|mean| 255.0 - mean)]
}

fn tiles_for(config: &Config, way: Way, height: usize, width: usize) -> Vec<Tile> {
    let deepest = deepest(config);
    tiles(height, width, way.tile, deepest.radius(), [1 << deepest.level(), grid(deepest)])
}

/// The deepest layer that is looked at.
pub(super) fn deepest(config: &Config) -> Tap {
    Tap::from_conv(config.depth().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_too_large_to_index_is_refused_before_anything_is_allocated() {
        let config = Config::default();
        let check = |tile, recompute, side| {
            let (style_width, style_height) = (8, 8);
            let scale = Scale { index: 0, width: side, height: side, style_width, style_height, iterations: 1 };
            check_indices(&config, &scale, Way { tile, recompute })
        };
        let (whole, tiled) = (None, Some(512));
        assert!(check(whole, false, 8191).is_ok());
        assert!(matches!(check(whole, false, 8192), Err(Error::OutOfMemory { needed: 17_179_869_184, .. })));
        assert!(check(tiled, false, 8192).is_ok(), "the content target at relu2_2 has 2^31 elements");
        assert!(check(tiled, false, 11_600).is_err(), "and here more than 2^32");
        assert!(check(tiled, true, 11_600).is_ok(), "which need not be kept");
    }
}
