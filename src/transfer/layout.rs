//! Lays a job out: sizes, buffers and recordings, before a picture is resampled or an engine made.

use super::config::{Config, Init};
use super::losses::{ContentTerm, FeatureTarget, GramSum, StyleTerm};
use super::scales::Scale;
use crate::error::{Error, Result};
use crate::kernel::Scalar;
use crate::net::plan::{Network, TapTerm, Workspace};
use crate::net::tiles::{Tile, grid, tiles};
use crate::net::vgg19::Tap;
use crate::ops::adam::{AdamTensors, adam};
use crate::ops::loss::{log_losses, partials, sum_reduce};
use crate::ops::total_variation::total_variation;
use crate::picture::Picture;
use crate::recording::{Purpose, Recording, Tensor};
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
    pub(super) layout: Layout,
    pub(super) style_pass: Recording,
    pub(super) content_pass: Recording,
    pub(super) step: Recording,
}

/// Every scale of a job, the smallest first, with everything that can be said and refused before any work; and the
/// style, of which there is one.
pub(super) fn lay_out<'a>(
    weights: &Weights,
    content: &Picture,
    styles: &'a [Picture],
    config: &Config,
) -> Result<(Vec<Stage>, &'a Picture)> {
    let (scales, style) = check_inputs(content, styles, config)?;
    let stage = |scale: Scale| Stage::new(weights, scale, config);
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
    for scale in &scales {
        check_indices(config, scale)?;
    }
    Ok((scales, style))
}

impl Stage {
    /// Lays one scale out. `config` and `scale` have been checked; of the weights only the shapes count.
    pub(super) fn new(weights: &Weights, scale: Scale, config: &Config) -> Result<Stage> {
        let mut layout = Layout::new(config, weights, &scale)?;
        let style_pass = layout.style_pass(config, [scale.style_height, scale.style_width])?;
        let content_pass = layout.content_pass()?;
        let step = layout.step(config)?;
        Ok(Stage { scale, layout, style_pass, content_pass, step })
    }

    /// Bytes of all buffers.
    pub(super) fn bytes(&self) -> u64 {
        self.layout.work.table.total_bytes()
    }
}

/// Kernels index with 32 bits: no map may reach 2^32 elements, neither a tile's nor the content's target.
fn check_indices(config: &Config, scale: &Scale) -> Result<()> {
    let elements = |[height, width]: [usize; 2], tap: Tap| {
        let side = |length: usize| length.div_ceil(1 << tap.level()) as u64;
        side(height) * side(width) * tap.channels() as u64
    };
    let content = [scale.height, scale.width];
    let mut largest = 0;
    for [height, width] in [content, [scale.style_height, scale.style_width]] {
        let count = config.tile.map_or(1, |tile| height.div_ceil(tile).saturating_mul(width.div_ceil(tile)));
        if count > MAX_TILES {
            return Err(Error::Config {
                option: "tile",
                what: format!("{count} tiles for {width}x{height} pixels"),
                hint: "give a larger one, e.g. 512".into(),
            });
        }
        for tile in tiles_for(config, height, width) {
            let area = [tile.area.height, tile.area.width];
            largest = (0..config.depth()).map(|conv| elements(area, Tap::from_conv(conv))).fold(largest, u64::max);
        }
    }
    let targets = config.content_layers.iter().map(|(tap, _)| elements(content, *tap));
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

/// The buffers of a scale while its recordings are being written.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) work: Workspace,
    pub(super) network: Network,
    pub(super) tiles: Vec<Tile>,
    pub(super) image: Tensor,
    pub(super) d_image: Tensor,
    pub(super) losses: Tensor,
    pub(super) ring: Tensor,
    pub(super) schedule: Tensor,
    pub(super) m: Tensor,
    pub(super) v: Tensor,
    pub(super) counter: Tensor,
    pub(super) style_image: Option<Tensor>,
    pub(super) names: Vec<String>,
    pub(super) targets: Vec<Tensor>,
    pub(super) contents: Vec<FeatureTarget>,
}

impl Layout {
    fn new(config: &Config, weights: &Weights, scale: &Scale) -> Result<Layout> {
        let (height, width) = (scale.height, scale.width);
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
        let schedule = tensor("schedule", &[scale.iterations as usize, 2], Purpose::Reduction);
        let m = tensor("m", &[height, width, 4], Purpose::Image);
        let v = tensor("v", &[height, width, 4], Purpose::Image);
        let counter = work.table.tensor("step", Scalar::U32, &[1], Purpose::Image);
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
            m,
            v,
            counter,
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
        let tensors = AdamTensors {
            d_image: &self.d_image,
            schedule: &self.schedule,
            step: &self.counter,
            image: &self.image,
            m: &self.m,
            v: &self.v,
        };
        adam(&mut recording, tensors, config.adam.beta1, config.adam.beta2)?;
        log_losses(&mut recording, &self.losses, &self.ring, &self.counter)?;
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
    tiles(height, width, config.tile, deepest.radius(), grid(deepest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_too_large_to_index_is_refused_before_anything_is_allocated() {
        let check = |config: &Config, side| {
            let (style_width, style_height) = (8, 8);
            let scale = Scale { index: 0, width: side, height: side, style_width, style_height, iterations: 1 };
            check_indices(config, &scale)
        };
        let whole = Config::default();
        let tiled = Config { tile: Some(512), ..Config::default() };
        assert!(check(&whole, 8191).is_ok());
        assert!(matches!(check(&whole, 8192), Err(Error::OutOfMemory { needed: 17_179_869_184, .. })));
        assert!(check(&tiled, 8192).is_ok(), "the content target at relu2_2 has 2^31 elements");
        assert!(check(&tiled, 11_600).is_err(), "and here more than 2^32");
    }
}
