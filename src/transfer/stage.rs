//! One scale at work: what is allocated and uploaded when its turn comes, and what it leaves to the next one.

use super::checkpoint::digest;
use super::config::{Config, Init, Orientation};
use super::forecast::keeps_little;
use super::layout::{Layout, RING, Stage, State, Way, bounds};
use super::lbfgs::{Lbfgs, Memory, Vectors};
use super::noise::normal;
use super::optimizer::AdamForm;
use super::rehearsal::Rehearsal;
use super::scales::Scale;
use crate::error::{Error, Result};
use crate::net::bands::Bands;
use crate::picture::{Filter, Picture, resampled};
use crate::recording::{BufferTable, Engine, Program, Recording, Tensor};
use crate::weights::Weights;

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
    style: Picture,
}

/// Every scale and what it needs. Pictures are resampled beforehand from the ones given, which may be large. All stays
/// until the run ends, so that a scale can be begun again on another device or in smaller tiles.
#[derive(Debug)]
pub(super) struct Queue {
    scales: Vec<Prepared>,
    /// Turned as [`Config::orientation`] says.
    weights: Weights,
    mean: [f32; 3],
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
    pub(super) fn new(
        stages: Vec<Stage>,
        weights: &Weights,
        (content, style): (&Picture, &Picture),
        rehearsal: Option<Rehearsal>,
        config: &Config,
    ) -> Queue {
        let prepared = |stage: Stage| {
            let Scale { width, height, style_width, style_height, .. } = stage.scale;
            let (content, style) = (content.resized(width, height), style.resized(style_width, style_height));
            Prepared { stage, content, style }
        };
        let weights = weights.clone();
        Queue {
            scales: stages.into_iter().map(prepared).collect(),
            mean: config.mean.unwrap_or(weights.mean),
            rehearsal,
            weights: match config.orientation {
                Orientation::True => weights,
                Orientation::Article => weights.transposed(),
            },
        }
    }

    /// Number of scales.
    pub(super) fn len(&self) -> usize {
        self.scales.len()
    }

    /// Digests of the pictures at every scale, and of the weights.
    pub(super) fn digests(&self) -> [(&'static str, String); 3] {
        let pictures = |of: fn(&Prepared) -> &Picture| digest(self.scales.iter().map(|scale| &of(scale).rgb[..]));
        let weights = self.weights.convs.iter().flat_map(|conv| [&conv.kernel[..], &conv.bias[..]]);
        [
            ("content picture", pictures(|scale| &scale.content)),
            ("style picture", pictures(|scale| &scale.style)),
            ("network", digest(weights.chain([&self.mean[..]]))),
        ]
    }

    /// How a scale is laid out.
    pub(super) fn stage(&self, scale: usize) -> Option<&Stage> {
        self.scales.get(scale).map(|scale| &scale.stage)
    }

    /// Edge of the tiles at the largest scale.
    pub(super) fn tile(&self) -> Option<usize> {
        self.scales.last().and_then(|scale| scale.stage.way.tile)
    }

    /// Lays a scale out in another way, if that keeps less than `bytes` and no large content target.
    pub(super) fn lay_out_again(&mut self, scale: usize, config: &Config, way: Way, bytes: u64) -> bool {
        let Some(prepared) = self.scales.get_mut(scale) else { return false };
        let Ok(stage) = Stage::new(config, &self.weights, prepared.stage.scale, way, &prepared.stage.choices) else {
            return false;
        };
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
        let Stage { scale, layout, step: recording, .. } = &next.stage;
        let Layout { work, image, d_image, average, counter, .. } = layout;
        Ok(Running {
            scale: *scale,
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
        Prepared { stage, content, style }: &Prepared,
        (first, left): (u32, Option<&Carry>),
    ) -> Result<Method> {
        let Stage { scale, layout, style_pass, content_pass, step, parts, .. } = stage;
        engine.allocate(&layout.work.table)?;
        let scaling = self.rehearsal.as_ref().map(|found| found.scaling(scale)).unwrap_or_default();
        layout.network.upload(engine, &self.weights, &scaling)?;
        if let Some(style_image) = &layout.style_image {
            write_picture(engine, style_image, style, self.mean)?;
        }
        let style_pass = engine.prepare(style_pass)?;
        engine.run(style_pass, 1)?;
        // Measured now, from the buffers that later hold the result, or in every iteration from its own.
        write_picture(engine, layout.content_image.as_ref().unwrap_or(&layout.image), content, self.mean)?;
        let content_pass = engine.prepare(content_pass)?;
        engine.run(content_pass, 1)?;
        self.start(engine, config, layout, left, content)?;
        if let Some((_, weights)) = &layout.average {
            engine.write(weights.buffer, &average_weights(config.ema, scale.iterations))?;
        }
        let step = engine.prepare(step)?;
        match (&layout.state, parts) {
            (State::Lbfgs(vectors), Some(parts)) => {
                let lbfgs = Lbfgs::new(engine, config.lbfgs, vectors, (step, parts), &layout.losses)?;
                Ok(Method::Lbfgs(Box::new(lbfgs), vectors.clone()))
            }
            (State::Adam { m, v, schedule }, _) => {
                let before = if config.keep_moments { first } else { 0 };
                engine.write(schedule.buffer, &schedule_values(config, before, scale.iterations))?;
                Ok(Method::Adam { step, ring: layout.ring.clone(), m: m.clone(), v: v.clone() })
            }
            (State::Lbfgs(_), None) => {
                Err(Error::Kernel { kernel: "transfer".into(), what: "half an optimiser".into() })
            }
        }
    }

    /// Writes the picture to start from, and the moments if they are kept.
    fn start(
        &self,
        engine: &mut dyn Engine,
        config: &Config,
        layout: &Layout,
        left: Option<&Carry>,
        content: &Picture,
    ) -> Result<()> {
        let to = [Some(&layout.image), layout.average.as_ref().map(|(average, _)| average)];
        let Some(left) = left else {
            for to in to.into_iter().flatten() {
                if config.init == Init::Content {
                    write_picture(engine, to, content, self.mean)?;
                } else {
                    write_values(engine, to, &start_values(config, content, self.mean))?;
                }
            }
            return Ok(());
        };
        let size = [content.height, content.width];
        let to_size = |values: &[f32], filter| resampled(values, left.size, size, 4, filter);
        let mut image = to_size(&left.image, Filter::Bicubic);
        if config.clamp {
            // A cubic overshoots.
            let [lower, upper] = bounds(self.mean);
            for pixel in image.chunks_exact_mut(4) {
                pixel.iter_mut().zip(lower).zip(upper).for_each(|((value, lower), upper)| {
                    *value = value.max(lower).min(upper);
                });
            }
        }
        for to in to.into_iter().flatten() {
            write_values(engine, to, &image)?;
        }
        if let (Some([m, v]), State::Adam { m: to_m, v: to_v, .. }) = (&left.moments, &layout.state) {
            write_values(engine, to_m, &to_size(m, Filter::Bicubic))?;
            // A second moment is not negative; a straight line between two of them is not either.
            write_values(engine, to_v, &to_size(v, Filter::Bilinear))?;
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

/// `[H, W, 3]` minus the mean, as `[H, W, 4]` with a zero in the fourth channel.
fn padded_pixels(rgb: &[f32], mean: [f32; 3]) -> Vec<f32> {
    rgb.chunks_exact(3).flat_map(|p| [p[0] - mean[0], p[1] - mean[1], p[2] - mean[2], 0.0]).collect()
}

/// Writes a picture minus the mean.
fn write_picture(engine: &mut dyn Engine, to: &Bands, picture: &Picture, mean: [f32; 3]) -> Result<()> {
    let row = 3 * picture.width;
    to.write(engine, |rows| padded_pixels(&picture.rgb[rows.start * row..rows.end * row], mean))
}

/// Writes values `[H, W, 4]`.
pub(super) fn write_values(engine: &mut dyn Engine, to: &Bands, values: &[f32]) -> Result<()> {
    let row = 4 * to.size()[1];
    to.write(engine, |rows| values[rows.start * row..rows.end * row].to_vec())
}

/// The start as `[H, W, 4]`; its size has been checked.
fn start_values(config: &Config, content: &Picture, mean: [f32; 3]) -> Vec<f32> {
    let size @ [height, width] = [content.height, content.width];
    match &config.init {
        Init::Content => padded_pixels(&content.rgb, mean),
        Init::Noise => padded_pixels(&normal(config.seed, height * width * 3), [0.0; 3]),
        Init::Picture(picture) => padded_pixels(&picture.resized(width, height).rgb, mean),
        Init::Values { height, width, values } => {
            padded_pixels(&resampled(values, [*height, *width], size, 3, Filter::Bicubic), [0.0; 3])
        }
    }
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
