//! Lays a job out: sizes, buffers and recordings, before a picture is resampled or an engine made.

use std::fmt;
use std::str::FromStr;

use super::config::Config;
use super::forecast;
use super::inputs::Inputs;
use super::lbfgs::{Parts, Vectors};
use super::losses::{FeatureTarget, Measure, Shares, StyleTarget, terms};
use super::normalize::Normalized;
use super::optimizer::Optimizer;
use super::parts::{Part, Scene};
use super::variation::total_variation;
use crate::error::{Error, Result};
use crate::kernel::Scalar;
use crate::net::bands::Bands;
use crate::net::plan::{Network, TapTerm, Workspace};
use crate::net::tiles::{Tile, grid, tiles};
use crate::net::vgg19::Tap;
use crate::ops::adam::{AdamTensors, adam};
use crate::ops::loss::log_losses;
use crate::ops::share::gate_image;
use crate::ops::vector::{average_image, clamp_image};
use crate::recording::{Backend, Choices, Purpose, Recording, Tensor};
use crate::weights::Weights;

/// Most iterations that run without a look at their losses.
pub(super) const RING: u32 = 32;
/// Each tile adds a few dozen launches to the recording; more of them than this is a mistake.
const MAX_TILES: usize = 4096;

/// One scale before a picture is resampled or an engine made: its buffers, and the recordings for the styles' targets,
/// the content's targets, and one iteration.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) scene: Scene,
    pub(super) way: Way,
    /// How the convolutions are computed.
    pub(super) choices: Choices,
    pub(super) layout: Layout,
    /// One for each style picture, which lies in its bands when the pass runs.
    pub(super) style_passes: Vec<(Bands, Recording)>,
    /// What follows from all of them.
    pub(super) style_end: Recording,
    pub(super) content_pass: Recording,
    /// One iteration of Adam; of L-BFGS the gradient, which an iteration needs once or more.
    pub(super) step: Recording,
    /// What else L-BFGS does.
    pub(super) parts: Option<Parts<Recording>>,
    /// Bytes that the engine needs beside the buffers.
    pub(super) overhead: u64,
    /// What people should know of the way that was chosen.
    pub(super) note: Option<String>,
}

/// Every scale of a job, the smallest first, with everything that can be said and refused before any work.
pub(super) fn lay_out(
    backend: &dyn Backend,
    weights: &Weights,
    inputs: &Inputs<'_>,
    config: &Config,
) -> Result<Vec<Stage>> {
    let stage = |scene| forecast::stage(backend, weights, config, scene);
    inputs.scenes(config)?.into_iter().map(stage).collect()
}

impl Stage {
    /// Lays a scale out in a given way. Its overhead is left to be filled in.
    pub(super) fn new(config: &Config, weights: &Weights, scene: Scene, way: Way, choices: &Choices) -> Result<Stage> {
        check_indices(config, &scene, way)?;
        let mut layout = Layout::new(config, weights, &scene, way, choices)?;
        let style_passes = layout.style_passes(config, &scene)?;
        let style_end = layout.style_end()?;
        let content_pass = layout.content_pass()?;
        let (step, parts) = layout.step(config, config.mean.unwrap_or(weights.mean))?;
        let (choices, overhead, note) = (choices.clone(), 0, None);
        Ok(Stage { scene, way, choices, layout, style_passes, style_end, content_pass, step, parts, overhead, note })
    }

    /// Everything that runs.
    pub(super) fn recordings(&self) -> Vec<&Recording> {
        let parts = self.parts.iter().flat_map(Parts::each);
        let styles = self.style_passes.iter().map(|(_, pass)| pass);
        styles.chain([&self.style_end, &self.content_pass, &self.step]).chain(parts).collect()
    }

    /// Bytes of all buffers.
    pub(super) fn bytes(&self) -> u64 {
        self.layout.work.table.total()
    }
}

/// How a scale is cut up. As text it is `whole` or the edge of the tiles, and ` anew` where content targets are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Edge of the tiles; `None` makes one of the whole picture.
    pub tile: Option<usize>,
    /// Whether content targets are computed anew for every tile instead of being kept.
    pub recompute: bool,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tile {
            Some(edge) => write!(f, "{edge}")?,
            None => f.write_str("whole")?,
        }
        f.write_str(if self.recompute { " anew" } else { "" })
    }
}

impl FromStr for Way {
    type Err = ();

    fn from_str(text: &str) -> Result<Way, ()> {
        let tile = text.strip_suffix(" anew");
        let (tile, recompute) = (tile.unwrap_or(text), tile.is_some());
        let edge = |text: &str| text.parse().ok().filter(|edge| *edge > 0).map(Some).ok_or(());
        Ok(Way { tile: if tile == "whole" { None } else { edge(tile)? }, recompute })
    }
}

/// Kernels index with 32 bits: no map may reach 2^32 elements, neither a tile's nor a content target that is kept.
fn check_indices(config: &Config, scene: &Scene, way: Way) -> Result<()> {
    let elements = |[height, width]: [usize; 2], tap: Tap| {
        let side = |length: usize| length.div_ceil(1 << tap.level()) as u64;
        side(height) * side(width) * tap.channels() as u64
    };
    let content = [scene.scale.height, scene.scale.width];
    let mut largest = 0;
    for [height, width] in [content].into_iter().chain(scene.styles.iter().copied()) {
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
    /// The content picture, where its features are computed anew for every tile.
    pub(super) content_image: Option<Bands>,
    way: Way,
    pub(super) names: Vec<String>,
    measure: Measure,
    /// Part by part, those of every style layer.
    pub(super) targets: Vec<StyleTarget>,
    /// What the parts have of every level's maps.
    pub(super) shares: Vec<Shares>,
    /// Where the picture may move: one for each of its bands, none where it may move everywhere.
    pub(super) gates: Vec<Tensor>,
    pub(super) contents: Vec<FeatureTarget>,
}

impl Layout {
    fn new(config: &Config, weights: &Weights, scene: &Scene, way: Way, choices: &Choices) -> Result<Layout> {
        let scale = &scene.scale;
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
        for part in 1..=scene.parts.len() {
            let style = if part == 1 { "style".to_string() } else { format!("style {part}") };
            names.extend(config.style_layers.iter().map(|(tap, _)| format!("{style}/{tap}")));
        }
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
        let mut shares = Vec::new();
        let mut targets = Vec::new();
        for part in scene.parts.iter() {
            let own = part_shares(&mut work, config, part, &tiles);
            let target = |(tap, _): &(Tap, f32)| {
                let shares = own.iter().find(|(level, _)| *level == tap.level()).map(|(_, shares)| shares.clone());
                StyleTarget::new(&mut work, *tap, measure, shares)
            };
            targets.extend(config.style_layers.iter().map(target));
            shares.extend(own.into_iter().map(|(_, shares)| shares));
        }
        let gated = image.tensors().iter().filter(|_| scene.paint.is_some());
        let gates =
            gated.map(|band| work.table.tensor("gate", Scalar::F32, &band.shape[..2], Purpose::Image)).collect();
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
            content_image,
            way,
            names,
            measure,
            targets,
            shares,
            gates,
            contents,
        })
    }

    /// Measures every style picture in turn, in its own size and tiles, and adds what it has to the targets of its part.
    fn style_passes(&mut self, config: &Config, scene: &Scene) -> Result<Vec<(Bands, Recording)>> {
        let layers = config.style_layers.len();
        let mut passes = Vec::new();
        // In the buffers of the picture, which is written later.
        let mut room = self.image.clone();
        for (style, &[height, width]) in scene.styles.iter().enumerate() {
            let mut recording = Recording::new("style targets");
            let tiles = tiles_for(config, self.way, height, width);
            let (part, weight) = scene.place(style).unwrap_or((0, 1.0));
            let targets = self.targets.iter().skip(part * layers).take(layers);
            let shares: Vec<_> = targets.map(|target| target.share(&tiles, weight)).collect();
            let terms: Vec<&dyn TapTerm> = shares.iter().map(|share| share as &dyn TapTerm).collect();
            let size = [height, width];
            let image = room.lend(&mut self.work.table, "style image", size, Purpose::Image, config.max_buffer);
            self.network.record_forward(&mut self.work, &mut recording, &image, &tiles, &terms)?;
            if image.tensors().len() > room.tensors().len() {
                room = image.clone();
            }
            passes.push((image, recording));
        }
        Ok(passes)
    }

    /// What follows from the styles' statistics.
    fn style_end(&mut self) -> Result<Recording> {
        let mut recording = Recording::new("style roots");
        self.targets.iter().try_for_each(|target| target.finish(&mut self.work, &mut recording))?;
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
        let gated = self.gates.iter().zip(self.d_image.tensors());
        gated.into_iter().try_for_each(|(gate, d_image)| gate_image(&mut recording, gate, d_image))?;
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
        let style = config.style_weights().into_iter().cycle().zip(&self.targets);
        // A part's gradient has its area in it.
        let weights = content.chain(style.map(|(weight, target)| (f64::from(weight) * target.area()) as f32));
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

/// What a part has of the maps of each level that a style layer lies on; nothing where it is the whole picture.
fn part_shares(work: &mut Workspace, config: &Config, part: &Part, tiles: &[Tile]) -> Vec<(usize, Shares)> {
    let mut shares: Vec<(usize, Shares)> = Vec::new();
    for level in config.style_layers.iter().map(|(tap, _)| tap.level()) {
        let new = part.levels.get(level).filter(|_| shares.iter().all(|(other, _)| *other != level));
        shares.extend(new.map(|values| (level, Shares::new(work, "share", level, values, tiles))));
    }
    shares
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
    use std::sync::Arc;

    use super::super::scales::Scale;
    use super::*;

    #[test]
    fn a_way_is_read_as_it_is_written() {
        for (tile, recompute, text) in
            [(None, false, "whole"), (Some(512), false, "512"), (Some(96), true, "96 anew"), (None, true, "whole anew")]
        {
            let way = Way { tile, recompute };
            assert_eq!((way.to_string().as_str(), text.parse()), (text, Ok(way)));
        }
        for bad in ["", "0", "-1", " anew", "12 old", "wholeanew"] {
            assert_eq!(bad.parse::<Way>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn a_map_too_large_to_index_is_refused_before_anything_is_allocated() {
        let config = Config::default();
        let check = |tile, recompute, side| {
            let scale = Scale { index: 0, width: side, height: side, iterations: 1 };
            let scene = Scene { scale, styles: vec![[8, 8]], parts: Arc::new([]), paint: None };
            check_indices(&config, &scene, Way { tile, recompute })
        };
        let (whole, tiled) = (None, Some(512));
        assert!(check(whole, false, 8191).is_ok());
        assert!(matches!(check(whole, false, 8192), Err(Error::OutOfMemory { needed: 17_179_869_184, .. })));
        assert!(check(tiled, false, 8192).is_ok(), "the content target at relu2_2 has 2^31 elements");
        assert!(check(tiled, false, 11_600).is_err(), "and here more than 2^32");
        assert!(check(tiled, true, 11_600).is_ok(), "which need not be kept");
    }
}
