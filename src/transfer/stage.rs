//! One scale at work: what is allocated and uploaded when its turn comes, and what it leaves to the next one.

use std::sync::Arc;

use super::checkpoint::digest;
use super::config::{Config, Init};
use super::forecast::keeps_little;
use super::inputs::Inputs;
use super::layout::{Layout, RING, Stage, State, Way};
use super::lbfgs::{Lbfgs, Memory, Vectors};
use super::losses::StyleTarget;
use super::optimizer::AdamForm;
use super::parts::Part;
use super::rehearsal::Rehearsal;
use super::scales::Scale;
use super::start::{clamped, hold, hold_content, start_values, write_picture, write_values};
use super::studio::{Network, Sizes};
use super::targets::StyleTargets;
use crate::error::{Error, Result};
use crate::net::bands::Bands;
use crate::picture::{Filter, Picture, resampled};
use crate::recording::{BufferTable, Engine, Program, Recording, Tensor};

/// What one scale leaves to the next: `[H, W, 4]` each, as in the engine's buffers.
#[derive(Debug)]
pub(super) struct Carry {
    pub(super) image: Vec<f32>,
    /// Adam's moments, where they are kept.
    pub(super) moments: Option<[Vec<f32>; 2]>,
    /// Height and width.
    pub(super) size: [usize; 2],
}

/// A scale with its pictures.
#[derive(Debug)]
struct Prepared {
    stage: Stage,
    content: Picture,
    styles: Vec<Arc<Picture>>,
}

/// Every scale and what it needs. Pictures are resampled beforehand from the ones given, which may be large. All stays
/// until the run ends, so that a scale can be begun again on another device or in smaller tiles.
#[derive(Debug)]
pub(super) struct Queue {
    scales: Vec<Prepared>,
    network: Network,
    targets: Option<StyleTargets>,
    /// Where maps are halves.
    rehearsal: Option<Rehearsal>,
}

/// The scale that is at work.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) scale: Scale,
    pub(super) table: BufferTable,
    pub(super) recording: Recording,
    pub(super) image: Bands,
    pub(super) d_image: Bands,
    /// The running average of the pictures, where that is the result.
    average: Option<Bands>,
    method: Method,
    /// Steps done at this scale, `[1]` words.
    pub(super) counter: Tensor,
    /// Iterations of the scales before it.
    pub(super) first: u32,
}

/// The optimiser with what it keeps.
#[derive(Debug)]
enum Method {
    Adam { step: Program, ring: Tensor, m: Bands, v: Bands },
    Lbfgs(Box<Lbfgs>, Vectors),
}

impl Queue {
    /// `sizes` are where the styles are resampled.
    pub(super) fn new(
        stages: Vec<Stage>,
        network: &Network,
        inputs: &Inputs<'_>,
        rehearsal: Option<Rehearsal>,
        sizes: &mut Sizes,
    ) -> Queue {
        let mut prepared = |stage: Stage| {
            let Scale { width, height, .. } = stage.scene.scale;
            let wanted = inputs.styles.iter().zip(&stage.scene.styles);
            let styles = wanted.map(|(style, [height, width])| sizes.get(style, *width, *height)).collect();
            Prepared { content: inputs.content.resized(width, height), styles, stage }
        };
        let scales = stages.into_iter().map(&mut prepared).collect();
        Queue { scales, network: network.clone(), targets: inputs.targets.clone(), rehearsal }
    }

    /// Number of scales.
    pub(super) fn len(&self) -> usize {
        self.scales.len()
    }

    /// Digests of the pictures and masks at every scale, and of the weights.
    pub(super) fn digests(&self) -> [(&'static str, String); 5] {
        let scales = || self.scales.iter();
        let places = scales().flat_map(|scale| scale.stage.scene.parts.iter().map(Part::digest)).collect::<String>();
        let paint = scales().filter_map(|scale| scale.stage.scene.paint.as_ref()).map(|mask| &mask.values[..]);
        [
            ("content picture", digest(scales().map(|scale| &scale.content.rgb[..]))),
            ("style picture", digest(scales().flat_map(|scale| &scale.styles).map(|style| &style.rgb[..]))),
            ("style mask", digest([&places.bytes().map(f32::from).collect::<Vec<_>>()[..]])),
            ("content mask", digest(paint)),
            ("network", self.network.digest()),
        ]
    }

    /// What the targets of a scale are kept by: all that their bits depend on.
    fn targets_key(&self, engine: &dyn Engine, config: &Config, Prepared { stage, styles, .. }: &Prepared) -> String {
        let parts: Vec<_> = stage.scene.parts.iter().map(|part| &part.styles).collect();
        let styles = styles.iter().map(|style| digest([&[style.width as f32][..], &style.rgb[..]]));
        let layers: Vec<_> = config.style_layers.iter().map(|(tap, _)| tap.to_string()).collect();
        let Config { style_loss, pooling, pooling_scale, edge, max_buffer, precision, .. } = config;
        let (network, unit) = (self.network.digest(), self.network.weights.activation_unit);
        let how = (style_loss, pooling, pooling_scale, edge, max_buffer, stage.way.tile, config.depth());
        // Rules go by the size of the content's maps; where there are none, contents of every size share targets.
        let size = [stage.scene.scale.height, stage.scene.scale.width];
        let rules = (!stage.choices.rules.is_empty()).then_some((&stage.choices.rules, size));
        // Halves are rounded after their factors, which follow from the other pictures, too.
        let stored = (precision, self.rehearsal.as_ref().map(Rehearsal::activations));
        let (device, styles) = (engine.describe(), styles.collect::<String>());
        format!("{device} {network} {unit} {how:?} {rules:?} {stored:?} {layers:?} {parts:?} {styles}")
    }

    /// The picture that a run gives: painted over the content, in the size of the result.
    pub(super) fn composed(&self, painted: Picture) -> Picture {
        match self.scales.last().and_then(|last| Some((last.stage.scene.paint.as_deref()?, &last.content))) {
            Some((paint, content)) => paint.over(painted, content),
            None => painted,
        }
    }

    /// How a scale is laid out.
    pub(super) fn stage(&self, scale: usize) -> Option<&Stage> {
        self.scales.get(scale).map(|scale| &scale.stage)
    }

    /// How every scale is cut up.
    pub(super) fn ways(&self) -> Vec<Way> {
        self.scales.iter().map(|scale| scale.stage.way).collect()
    }

    /// Edge of the tiles at the largest scale.
    pub(super) fn tile(&self) -> Option<usize> {
        self.scales.last().and_then(|scale| scale.stage.way.tile)
    }

    /// Lays a scale out in another way, if that keeps less than `bytes` and no large content target.
    pub(super) fn lay_out_again(&mut self, scale: usize, config: &Config, way: Way, bytes: u64) -> bool {
        let Some(prepared) = self.scales.get_mut(scale) else { return false };
        let scene = prepared.stage.scene.clone();
        let choices = &prepared.stage.choices;
        let Ok(stage) = Stage::new(config, &self.network.weights, scene, way, choices) else { return false };
        let less = stage.bytes() < bytes && keeps_little(&stage, config);
        if less {
            prepared.stage = Stage { overhead: prepared.stage.overhead, ..stage };
        }
        less
    }

    /// Allocates what the largest scale needs, so that a job too large is refused before the small scales have taken
    /// their time. Nothing to do where the first scale is the only one.
    pub(super) fn check_room(&self, engine: &mut dyn Engine) -> Result<()> {
        match self.scales.last() {
            Some(last) if self.scales.len() > 1 => engine.allocate(&last.stage.layout.work.table),
            _ => Ok(()),
        }
    }

    /// Gives the engine to a scale: buffers, weights, targets, and the picture to start from, which is what was left
    /// after `first` iterations, or else [`Config::init`].
    pub(super) fn begin(
        &self,
        scale: usize,
        engine: &mut dyn Engine,
        config: &Config,
        (first, left): (u32, Option<&Carry>),
    ) -> Result<Running> {
        let Some(next) = self.scales.get(scale) else {
            return Err(Error::Kernel { kernel: "transfer".into(), what: "no scale is left".into() });
        };
        let method = self.load(engine, config, next, (first, left))?;
        let Stage { scene, layout, step: recording, .. } = &next.stage;
        let Layout { work, image, d_image, average, counter, .. } = layout;
        Ok(Running {
            scale: scene.scale,
            table: work.table.clone(),
            recording: recording.clone(),
            image: image.clone(),
            d_image: d_image.clone(),
            average: average.as_ref().map(|(average, _)| average.clone()),
            method,
            counter: counter.clone(),
            first,
        })
    }

    fn load(
        &self,
        engine: &mut dyn Engine,
        config: &Config,
        prepared: &Prepared,
        (first, left): (u32, Option<&Carry>),
    ) -> Result<Method> {
        let Prepared { stage, content, .. } = prepared;
        let Stage { scene, layout, content_pass, step, parts, .. } = stage;
        engine.allocate(&layout.work.table)?;
        let scaling = self.rehearsal.as_ref().map(|found| found.scaling(&scene.scale)).unwrap_or_default();
        layout.network.upload(engine, &self.network.weights, &scaling)?;
        layout.shares.iter().try_for_each(|shares| shares.upload(engine))?;
        if let Some(paint) = &scene.paint {
            let mut rest = &paint.values[..];
            for gate in &layout.gates {
                let (own, after) = rest.split_at(gate.len());
                engine.write(gate.buffer, own)?;
                rest = after;
            }
        }
        self.style_targets(engine, config, prepared)?;
        // Measured now, from the buffers that later hold the result, or in every iteration from its own.
        write_picture(engine, layout.content_image.as_ref().unwrap_or(&layout.image), content, self.network.mean)?;
        let content_pass = engine.prepare(content_pass)?;
        engine.run(content_pass, 1)?;
        self.start(engine, config, prepared, left)?;
        if let Some((_, weights)) = &layout.average {
            engine.write(weights.buffer, &average_weights(config.ema, scene.scale.iterations))?;
        }
        let step = engine.prepare(step)?;
        match (&layout.state, parts) {
            (State::Lbfgs(vectors), Some(parts)) => {
                let lbfgs = Lbfgs::new(engine, config.lbfgs, vectors, (step, parts), &layout.losses)?;
                Ok(Method::Lbfgs(Box::new(lbfgs), vectors.clone()))
            }
            (State::Adam { m, v, schedule }, _) => {
                let before = if config.keep_moments { first } else { 0 };
                engine.write(schedule.buffer, &schedule_values(config, before, scene.scale.iterations))?;
                Ok(Method::Adam { step, ring: layout.ring.clone(), m: m.clone(), v: v.clone() })
            }
            (State::Lbfgs(_), None) => {
                Err(Error::Kernel { kernel: "transfer".into(), what: "half an optimiser".into() })
            }
        }
    }

    /// Measures the styles, or takes what an earlier run has found.
    fn style_targets(&self, engine: &mut dyn Engine, config: &Config, prepared: &Prepared) -> Result<()> {
        let Prepared { stage, styles, .. } = prepared;
        let tensors = || stage.layout.targets.iter().flat_map(StyleTarget::tensors);
        let kept = self.targets.as_ref().map(|targets| (targets, self.targets_key(engine, config, prepared)));
        let known = kept.as_ref().and_then(|(targets, key)| targets.get(key));
        if let Some(values) = &known {
            for (tensor, values) in tensors().zip(values.iter()) {
                engine.write(tensor.buffer, values)?;
            }
        } else {
            for ((image, pass), style) in stage.style_passes.iter().zip(styles) {
                write_picture(engine, image, style, self.network.mean)?;
                let pass = engine.prepare(pass)?;
                engine.run(pass, 1)?;
            }
        }
        if let (None, Some((targets, key))) = (known, kept) {
            targets.keep(key, tensors().map(|tensor| engine.read(tensor.buffer)).collect::<Result<_>>()?);
        }
        let end = engine.prepare(&stage.style_end)?;
        engine.run(end, 1)
    }

    /// Writes the picture to start from, and the moments if they are kept. What is not painted is the content, and stays it.
    fn start(
        &self,
        engine: &mut dyn Engine,
        config: &Config,
        Prepared { stage, content, styles }: &Prepared,
        left: Option<&Carry>,
    ) -> Result<()> {
        let (layout, paint) = (&stage.layout, stage.scene.paint.as_deref());
        let to = [Some(&layout.image), layout.average.as_ref().map(|(average, _)| average)];
        let size = [content.height, content.width];
        let to_size = |values: &[f32], from, filter| resampled(values, from, size, 4, filter);
        let mut image = match left {
            None if config.init == Init::Content && config.init_noise == 0.0 => {
                return to
                    .into_iter()
                    .flatten()
                    .try_for_each(|to| write_picture(engine, to, content, self.network.mean));
            }
            None => {
                let total: f32 = config.style_blend_weights.iter().sum();
                let weight = |at: usize| match config.style_blend_weights.get(at) {
                    Some(weight) => f64::from(*weight) / f64::from(total),
                    None => 1.0 / styles.len() as f64,
                };
                let styles: Vec<_> =
                    styles.iter().enumerate().map(|(at, style)| (style.as_ref(), weight(at))).collect();
                start_values(config, content, &styles, self.network.mean)
            }
            Some(left) => {
                let mut image = to_size(&left.image, left.size, Filter::Bicubic);
                if config.clamp {
                    clamped(&mut image, self.network.mean);
                }
                image
            }
        };
        hold_content(paint, &mut image, content, self.network.mean);
        for to in to.into_iter().flatten() {
            write_values(engine, to, &image)?;
        }
        let moments = left.and_then(|left| Some((left.size, left.moments.as_ref()?)));
        if let (Some((from, [m, v])), State::Adam { m: to_m, v: to_v, .. }) = (moments, &layout.state) {
            // A second moment is not negative; a straight line between two of them is not either.
            for (values, to, filter) in [(m, to_m, Filter::Bicubic), (v, to_v, Filter::Bilinear)] {
                let mut values = to_size(values, from, filter);
                hold(paint, &mut values, |_| [0.0; 4]);
                write_values(engine, to, &values)?;
            }
        }
        Ok(())
    }
}

impl Running {
    /// The picture that a run gives: the average, where there is one.
    pub(super) fn result(&self) -> &Bands {
        self.average.as_ref().unwrap_or(&self.image)
    }

    /// Adam's moments.
    pub(super) fn moments(&self) -> Option<[&Bands; 2]> {
        match &self.method {
            Method::Adam { m, v, .. } => Some([m, v]),
            Method::Lbfgs(..) => None,
        }
    }

    /// Every vector that a run needs to go on, by name. The first one is what [`Running::result`] gives.
    pub(super) fn state(&self) -> Vec<(String, &Bands)> {
        let mut state: Vec<(String, &Bands)> = self.average.iter().map(|bands| ("average".into(), bands)).collect();
        state.push(("image".into(), &self.image));
        match &self.method {
            Method::Adam { m, v, .. } => state.extend([("m".into(), m), ("v".into(), v)]),
            Method::Lbfgs(_, vectors) => {
                let named = |name: &str, k: usize| format!("{name} {k}");
                state.extend(vectors.steps.iter().enumerate().map(|(k, bands)| (named("step", k), bands)));
                state.extend(vectors.differences.iter().enumerate().map(|(k, bands)| (named("difference", k), bands)));
            }
        }
        state
    }

    /// What the host knows beside them.
    pub(super) fn memory(&self) -> Memory {
        match &self.method {
            Method::Adam { .. } => Memory::default(),
            Method::Lbfgs(lbfgs, _) => lbfgs.memory.clone(),
        }
    }

    pub(super) fn set_memory(&mut self, memory: &Memory) {
        if let Method::Lbfgs(lbfgs, _) = &mut self.method {
            lbfgs.memory = memory.clone();
        }
    }

    /// Whether the memory can be this scale's.
    pub(super) fn takes(&self, memory: &Memory) -> bool {
        match &self.method {
            Method::Adam { .. } => *memory == Memory::default(),
            Method::Lbfgs(_, vectors) => memory.fits(vectors.steps.len()),
        }
    }

    /// `count` iterations after the `done` of this scale. The losses before each.
    pub(super) fn iterate(&mut self, engine: &mut dyn Engine, done: u32, count: u32) -> Result<Vec<Vec<f32>>> {
        match &mut self.method {
            Method::Adam { step, ring, .. } => {
                engine.run(*step, count)?;
                let (all, terms) = (engine.read(ring.buffer)?, ring.shape[1]);
                let row = |at: u32| all[(at % RING) as usize * terms..][..terms].to_vec();
                Ok((done + count.saturating_sub(RING)..done + count).map(row).collect())
            }
            Method::Lbfgs(lbfgs, _) => (0..count).map(|_| lbfgs.step(engine)).collect(),
        }
    }

    /// Height and width.
    pub(super) fn size(&self) -> [usize; 2] {
        [self.scale.height, self.scale.width]
    }

    /// The number of iterations of the whole run when this scale is done.
    pub(super) fn end(&self) -> u32 {
        self.first + self.scale.iterations
    }
}

/// `[H, W, 4]` plus the mean as RGB.
pub(super) fn without_padding(values: &[f32], mean: [f32; 3]) -> impl Iterator<Item = f32> {
    values.chunks_exact(4).flat_map(move |p| [0, 1, 2].map(|c| p[c] + mean[c]))
}

/// `(rate, epsilon)` of `count` iterations after the first `before`, in double precision: see `shaders/adam.wgsl`.
fn schedule_values(config: &Config, before: u32, count: u32) -> Vec<f32> {
    let adam = &config.adam;
    let (beta1, beta2) = (f64::from(adam.beta1), f64::from(adam.beta2));
    (before + 1..=before + count)
        .flat_map(|t| {
            let correction = (1.0 - beta2.powf(f64::from(t))).sqrt();
            let decayed = f64::from(config.learning_rate_decay).powf(f64::from(t - before - 1));
            let rate = f64::from(adam.learning_rate) * decayed * correction / (1.0 - beta1.powf(f64::from(t)));
            let epsilon = match adam.form {
                AdamForm::TensorFlow => f64::from(adam.epsilon),
                AdamForm::Standard => f64::from(adam.epsilon) * correction,
            };
            [rate as f32, epsilon as f32]
        })
        .collect()
}

/// Weights of the pictures of `count` iterations in a running average that begins with the start: see
/// `shaders/average_image.wgsl`.
fn average_weights(decay: f32, count: u32) -> Vec<f32> {
    let decay = f64::from(decay);
    (0..count).map(|t| ((1.0 - decay) / (1.0 - decay.powf(f64::from(t) + 2.0))) as f32).collect()
}
