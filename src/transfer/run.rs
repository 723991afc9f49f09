//! One job: measures the targets, then steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{AdamForm, Config, Init, Orientation};
use super::layout::{Layout, RING, lay_out};
use super::noise::normal;
use crate::error::{Error, Result};
use crate::picture::Picture;
use crate::recording::{Backend, BufferTable, Engine, Program, Recording, Tensor};
use crate::weights::Weights;

/// No picture is this far from 0..255 unless the optimiser diverged.
const RUNAWAY: f32 = 1e6;
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
        let start_values = start_values(&config, &content, mean);

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
    /// Empty when the run is complete. Afterwards [`StyleTransfer::image`] is the picture after the last one reported,
    /// unless the run diverged.
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
    /// [`Error::NonFinite`] if a loss stopped being finite, or the picture itself ran away: a ReLU may turn NaN into
    /// zero, so finite losses do not vouch for it.
    pub fn image(&mut self) -> Result<Picture> {
        self.check_diverged()?;
        let values = self.engine.read(self.image.buffer)?;
        if values.iter().any(|value| value.is_nan() || value.abs() > RUNAWAY) {
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

/// `[H, W, 3]` minus the mean, as `[H, W, 4]` with a zero in the fourth channel.
fn padded_pixels(rgb: &[f32], mean: [f32; 3]) -> Vec<f32> {
    rgb.chunks_exact(3).flat_map(|p| [p[0] - mean[0], p[1] - mean[1], p[2] - mean[2], 0.0]).collect()
}

/// The start as `[H, W, 4]`; its size has been checked.
fn start_values(config: &Config, content: &Picture, mean: [f32; 3]) -> Vec<f32> {
    let (height, width) = (content.height, content.width);
    match &config.init {
        Init::Content => padded_pixels(&content.rgb, mean),
        Init::Noise => padded_pixels(&normal(config.seed, height * width * 3), [0.0; 3]),
        Init::Picture(picture) => padded_pixels(&picture.resized(width, height).rgb, mean),
        Init::Values { values, .. } => padded_pixels(values, [0.0; 3]),
    }
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
