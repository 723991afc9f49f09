//! One scale at work: what is allocated and uploaded when its turn comes, and what it leaves to the next one.

use super::config::{Config, Init, Orientation};
use super::forecast::keeps_little;
use super::layout::{Layout, Stage, Way};
use super::noise::normal;
use super::optimizer::AdamForm;
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
}

/// The scale that is at work.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) scale: Scale,
    pub(super) table: BufferTable,
    pub(super) recording: Recording,
    pub(super) step: Program,
    pub(super) image: Bands,
    pub(super) d_image: Bands,
    pub(super) ring: Tensor,
    pub(super) m: Bands,
    pub(super) v: Bands,
    /// Steps done at this scale, `[1]` words.
    pub(super) counter: Tensor,
    /// Iterations of the scales before it.
    pub(super) first: u32,
}

impl Queue {
    pub(super) fn new(
        stages: Vec<Stage>,
        weights: &Weights,
        content: &Picture,
        style: &Picture,
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
        let Ok(stage) = Stage::new(config, &self.weights, prepared.stage.scale, way) else { return false };
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
        let step = self.load(engine, config, next, (first, left))?;
        let Stage { scale, layout, step: recording, .. } = &next.stage;
        let Layout { work, image, d_image, ring, m, v, counter, .. } = layout;
        let [image, d_image, m, v] = [image, d_image, m, v].map(Clone::clone);
        let [ring, counter] = [ring, counter].map(Clone::clone);
        let (scale, table, recording) = (*scale, work.table.clone(), recording.clone());
        Ok(Running { scale, table, recording, step, image, d_image, ring, m, v, counter, first })
    }

    fn load(
        &self,
        engine: &mut dyn Engine,
        config: &Config,
        Prepared { stage, content, style }: &Prepared,
        (first, left): (u32, Option<&Carry>),
    ) -> Result<Program> {
        let Stage { scale, layout, style_pass, content_pass, step, .. } = stage;
        engine.allocate(&layout.work.table)?;
        layout.network.upload(engine, &self.weights)?;
        if let Some(style_image) = &layout.style_image {
            write_picture(engine, style_image, style, self.mean)?;
        }
        let style_pass = engine.prepare(style_pass)?;
        engine.run(style_pass, 1)?;
        // Measured now, from the buffers that later hold the result, or in every iteration from its own.
        write_picture(engine, layout.content_image.as_ref().unwrap_or(&layout.image), content, self.mean)?;
        let content_pass = engine.prepare(content_pass)?;
        engine.run(content_pass, 1)?;
        let before = self.start(engine, config, layout, (first, left), content)?;
        engine.write(layout.schedule.buffer, &schedule_values(config, before, scale.iterations))?;
        engine.prepare(step)
    }

    /// Writes the picture to start from, and the moments if they are kept. Returns the steps that Adam has behind it.
    fn start(
        &self,
        engine: &mut dyn Engine,
        config: &Config,
        layout: &Layout,
        (first, left): (u32, Option<&Carry>),
        content: &Picture,
    ) -> Result<u32> {
        let Some(left) = left else {
            if config.init == Init::Content {
                write_picture(engine, &layout.image, content, self.mean)?;
            } else {
                write_values(engine, &layout.image, &start_values(config, content, self.mean))?;
            }
            return Ok(0);
        };
        let size = [content.height, content.width];
        let to_size = |values: &[f32], filter| resampled(values, left.size, size, 4, filter);
        write_values(engine, &layout.image, &to_size(&left.image, Filter::Bicubic))?;
        let Some([m, v]) = &left.moments else { return Ok(0) };
        write_values(engine, &layout.m, &to_size(m, Filter::Bicubic))?;
        // A second moment is not negative; a straight line between two of them is not either.
        write_values(engine, &layout.v, &to_size(v, Filter::Bilinear))?;
        Ok(first)
    }
}

impl Running {
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
            let rate = f64::from(adam.learning_rate) * correction / (1.0 - beta1.powf(f64::from(t)));
            let epsilon = match adam.form {
                AdamForm::TensorFlow => f64::from(adam.epsilon),
                AdamForm::Standard => f64::from(adam.epsilon) * correction,
            };
            [rate as f32, epsilon as f32]
        })
        .collect()
}
