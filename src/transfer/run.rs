//! One job: measures the targets, then steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Config;
use super::forecast::{Anywhere, Plan};
use super::inputs::Inputs;
use super::layout::{RING, Way, lay_out};
use super::rehearsal::Rehearsal;
use super::report::Report;
use super::rig::{Kept, Rig};
use super::scales::Scale;
use super::stage::{Carry, Queue, Running, without_padding};
use super::studio::{Network, Sizes};
use crate::error::{Error, Result};
use crate::net::maps::Precision;
use crate::picture::{Filter, Picture, resampled};
use crate::recording::{Backend, BufferTable, Ledger, Recording, Submissions};
use crate::weights::Weights;

mod resume;

/// No picture is this far from 0..255 unless the optimiser diverged.
const RUNAWAY: f32 = 1e6;
/// The same where maps are halves: beyond it activations may overflow, which a ReLU hides.
const RUNAWAY_OF_HALVES: f32 = 2e3;
/// Batches of iterations grow until one takes about this long: often enough to stay responsive.
const BATCH: Duration = Duration::from_millis(100);

/// A style transfer on one engine. Dropping it frees everything it holds.
#[derive(Debug)]
pub struct StyleTransfer {
    rig: Rig,
    scales: Vec<Scale>,
    running: Running,
    /// What the scale at work began with; `None` for the first.
    from: Option<Carry>,
    /// The last state of the scale at work that was looked at.
    kept: Option<Arc<Kept>>,
    /// What the scale at work has left, from its end until the next one has begun.
    left: Option<Carry>,
    mean: [f32; 3],
    names: Arc<[String]>,
    /// How the scales that are done were cut up.
    past: Vec<Way>,
    /// Terms of every iteration reported, `[iterations, terms]`.
    history: Vec<f32>,
    /// What this is a run of; known once a checkpoint is asked for.
    identity: Option<Arc<BTreeMap<String, String>>>,
    iteration: u32,
    /// The term that stopped being finite, and when.
    diverged: Option<(String, u32)>,
    batch: u32,
    start: Instant,
}

impl StyleTransfer {
    /// Sets a run up: resamples the pictures, allocates every buffer of the first scale, measures its targets, writes
    /// the start. Where the device has no room for the largest scale, it is laid out in smaller tiles, and
    /// [`StyleTransfer::notes`] says so.
    ///
    /// `weights` must reach down to [`Config::depth`]. Several styles are blended; for masks see [`StyleTransfer::with`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where no smaller tile helps, [`Error::DeviceLost`] where the device is lost twice.
    pub fn new(
        backend: &dyn Backend,
        weights: &Weights,
        content: &Picture,
        styles: &[Picture],
        config: Config,
    ) -> Result<StyleTransfer> {
        StyleTransfer::with(backend, weights, &Inputs::new(content, styles), config)
    }

    /// [`StyleTransfer::new`] with all that a run can be given: masks that say where each style goes and what is painted
    /// at all, and styles' targets from earlier runs.
    pub fn with(
        backend: &dyn Backend,
        weights: &Weights,
        inputs: &Inputs<'_>,
        config: Config,
    ) -> Result<StyleTransfer> {
        let network = Network::of(weights, &config);
        StyleTransfer::sharing(backend, &network, inputs, config, &mut Sizes::default())
    }

    /// [`StyleTransfer::with`] a network that is ready, and with pictures resampled for jobs before.
    pub(super) fn sharing(
        backend: &dyn Backend,
        network: &Network,
        inputs: &Inputs<'_>,
        config: Config,
        sizes: &mut Sizes,
    ) -> Result<StyleTransfer> {
        let stages = lay_out(backend, &network.weights, inputs, &config)?;
        let rehearsal = Rehearsal::of(backend, network, inputs, &config)?;
        let notes: Vec<String> = stages.iter().filter_map(|stage| stage.note.clone()).collect();
        let scales = stages.iter().map(|stage| stage.scene.scale).collect();
        let names = stages.first().map(|stage| stage.layout.names.clone()).unwrap_or_default();
        let (queue, mean) = (Queue::new(stages, network, inputs, rehearsal, sizes), network.mean);
        let mut rig = Rig::new(backend.engine()?, queue, config);
        if !notes.is_empty() {
            rig.notes.push(notes.join("; "));
        }
        rig.attempt(Rig::check_room)?;
        let running = rig.attempt(|rig| rig.begin(0, 0, None))?;
        Ok(StyleTransfer {
            rig,
            scales,
            running,
            from: None,
            kept: None,
            left: None,
            mean,
            names: names.into(),
            past: Vec::new(),
            history: Vec::new(),
            identity: None,
            iteration: 0,
            diverged: None,
            batch: 1,
            start: Instant::now(),
        })
    }

    /// Refuses what [`StyleTransfer::new`] would refuse whatever the weights and the device: settings, sizes, the number
    /// of styles.
    pub fn check(content: &Picture, styles: &[Picture], config: &Config) -> Result<()> {
        Inputs::new(content, styles).check(config)
    }

    /// What every scale's iterations would run and the buffers they need, the smallest scale first, without a device.
    pub fn plan(weights: &Weights, content: &Picture, styles: &[Picture], config: &Config) -> Result<Vec<Plan>> {
        StyleTransfer::plan_on(&Anywhere, weights, content, styles, config)
    }

    /// [`StyleTransfer::plan`] with the memory and the limits of a device, which may make it other tiles. Nothing is
    /// allocated on it, but for a trial of its matrix units where maps are halves.
    pub fn plan_on(
        backend: &dyn Backend,
        weights: &Weights,
        content: &Picture,
        styles: &[Picture],
        config: &Config,
    ) -> Result<Vec<Plan>> {
        Inputs::new(content, styles).plan_on(backend, weights, config)
    }

    /// Runs up to `limit` further iterations, as many as fit in about 100 ms and at least one, and reports each. All are
    /// of one scale; the next scale begins with the call after its end. Empty when the run is complete. Afterwards [`StyleTransfer::image`] is the picture after the last one reported,
    /// unless the run diverged.
    ///
    /// # Errors
    /// [`Error::NonFinite`] once a loss is NaN or infinite: the iterations before it are reported first, and every later
    /// call fails alike. Where the next scale cannot begin, [`StyleTransfer::image`] still has the picture, and a later
    /// call tries again.
    ///
    /// A lost device is opened again once, and the run goes on from the state of some seconds before: each iteration is
    /// reported once all the same, and the same device gives the same bits. [`Error::DeviceLost`] if it is lost again
    /// before there is a new state, or is a host's own: [`StyleTransfer::last_good`] is what is left.
    pub fn advance(&mut self, limit: u32) -> Result<Vec<Report>> {
        self.check_diverged()?;
        if limit > 0 && self.iteration == self.running.end() && self.next().is_some() {
            self.next_scale()?;
        }
        let count = self.batch.min(limit).min(self.running.end() - self.iteration);
        if count == 0 {
            return Ok(Vec::new());
        }
        let begin = Instant::now();
        let rows = self.surviving(|job| {
            let done = job.iteration - job.running.first;
            job.running.iterate(job.rig.engine.as_mut(), done, count)
        })?;
        let took = begin.elapsed();
        if took < BATCH / 2 && count == self.batch {
            self.batch = (self.batch * 2).min(RING);
        } else if took > BATCH * 2 {
            self.batch = (self.batch / 2).max(1);
        }
        let mut reports = Vec::new();
        for (iteration, values) in (self.iteration..).zip(rows) {
            if let Some((name, _)) = self.names.iter().zip(&values).find(|(_, value)| !value.is_finite()) {
                self.diverged = Some((name.clone(), iteration));
                break;
            }
            self.history.extend_from_slice(&values);
            let (scale, elapsed, names) = (self.running.scale, self.start.elapsed(), self.names.clone());
            reports.push(Report::new(iteration, scale, elapsed, (names, values)));
        }
        self.iteration += count;
        if reports.is_empty() {
            self.check_diverged()?;
        }
        if self.diverged.is_none() && self.rig.look_is_due() {
            // If this fails there is an older state, and the next call meets the same failure.
            if let Ok(Some(kept)) = self.rig.look(&self.running, self.iteration) {
                self.kept = Some(Arc::new(kept));
            }
        }
        Ok(reports)
    }

    /// Runs `work`, which begins at the state after the iterations done. If the engine fails and can be put right, it is
    /// brought to that state again and `work` repeated.
    fn surviving<R>(&mut self, mut work: impl FnMut(&mut StyleTransfer) -> Result<R>) -> Result<R> {
        loop {
            let StyleTransfer { rig, running, from, kept, iteration, .. } = self;
            let ready = match rig.stale {
                true => rig.restore(running, from.as_ref(), kept.as_deref(), *iteration),
                false => Ok(()),
            };
            match ready.and_then(|()| work(self)) {
                Ok(result) => return Ok(result),
                Err(error) => self.rig.survive(error)?,
            }
        }
    }

    /// The index of the scale after the one at work.
    fn next(&self) -> Option<usize> {
        Some(self.running.scale.index + 1).filter(|next| *next < self.rig.queue.len())
    }

    fn next_scale(&mut self) -> Result<()> {
        let Some(next) = self.next() else { return Ok(()) };
        if self.left.is_none() {
            let image = self.values()?;
            let moments = self.surviving(|job| {
                let keep = job.running.moments().filter(|_| job.rig.config.keep_moments);
                let engine = job.rig.engine.as_mut();
                keep.map(|[m, v]| Ok([m.read(engine)?, v.read(engine)?])).transpose()
            })?;
            self.left = Some(Carry { image, moments, size: self.running.size() });
            // Read back and verified: a state to go on from.
            self.rig.trust();
        }
        self.past = self.ways().into_iter().take(next).collect();
        let (first, left) = (self.iteration, self.left.as_ref());
        self.running = self.rig.attempt(|rig| rig.begin(next, first, left))?;
        self.from = self.left.take();
        self.kept = None;
        self.batch = 1;
        Ok(())
    }

    fn check_diverged(&self) -> Result<()> {
        self.diverged.clone().map_or(Ok(()), |(term, iteration)| Err(self.rig.diverged(term, iteration)))
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

    /// The picture as it is now: RGB on the 0..255 scale, not clipped, in the size of the result: at a smaller scale it
    /// is enlarged (bicubic).
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a loss stopped being finite, or the picture itself ran away: a ReLU may turn NaN into
    /// zero, so finite losses do not vouch for it.
    pub fn image(&mut self) -> Result<Picture> {
        self.check_diverged()?;
        let (width, height) = self.size();
        if self.left.is_none() && self.running.size() == [height, width] {
            let mut rgb = Vec::with_capacity(width * height * 3);
            self.each_value(|values, mean| rgb.extend(without_padding(values, mean)))?;
            return Ok(self.rig.queue.composed(Picture { width, height, rgb }));
        }
        let values = match &self.left {
            Some(left) => left.image.clone(),
            None => self.values()?,
        };
        Ok(self.picture(&values, self.running.size()))
    }

    /// The last good picture, in the size of the result, and the number of iterations before it: what is left when
    /// [`StyleTransfer::advance`] and [`StyleTransfer::image`] fail for good. Where a run diverged it is the picture of the
    /// last iteration that had finite losses, which is computed once more from the last state known; where a device was
    /// lost, that state's own. `None` where there is none.
    pub fn last_good(&mut self) -> Option<(u32, Picture)> {
        if let (Some((_, iteration)), None) = (&self.diverged, &self.left) {
            // The losses of an iteration are those of the picture before it.
            let last = iteration.saturating_sub(1).max(self.running.first);
            // A ReLU hides what is not a number: then the losses of the last iterations vouch for nothing.
            for iteration in [last, self.running.first] {
                if let Some(found) = self.again(iteration) {
                    return Some(found);
                }
            }
        }
        match (&self.left, &self.kept, &self.from) {
            (Some(left), _, _) => Some((self.iteration, self.picture(&left.image, left.size))),
            (None, Some(kept), _) => Some((kept.iteration, self.picture(kept.image(), self.running.size()))),
            (None, None, Some(from)) => Some((self.running.first, self.picture(&from.image, from.size))),
            (None, None, None) => None,
        }
    }

    /// The picture after `last` iterations, if it is sound. The run cannot go on from there: it would diverge again.
    fn again(&mut self, last: u32) -> Option<(u32, Picture)> {
        let kept = self.kept.take().filter(|kept| kept.iteration <= last);
        self.kept.clone_from(&kept);
        self.iteration = last;
        self.rig.stale = true;
        let values = self.values().ok()?;
        Some((last, self.picture(&values, self.running.size())))
    }

    /// `[H, W, 4]` with the mean subtracted, as a picture in the size of the result.
    fn picture(&self, values: &[f32], size: [usize; 2]) -> Picture {
        let (width, height) = self.size();
        let values = resampled(values, size, [height, width], 4, Filter::Bicubic);
        let rgb = without_padding(&values, self.mean).collect();
        self.rig.queue.composed(Picture { width, height, rgb })
    }

    /// What was done since the last call about failures that the run survived, in sentences for people: smaller tiles
    /// where memory ran out, a device that was opened again.
    pub fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.rig.notes)
    }

    /// Edge of the tiles in pixels at the largest scale, as asked for, chosen, or left where memory ran out; `None` where
    /// the picture is computed as a whole.
    pub fn tile(&self) -> Option<usize> {
        self.rig.queue.tile()
    }

    /// How every scale is cut up, the smallest first: for [`Config::ways`] of a run that is to have the same bits.
    pub fn ways(&self) -> Vec<Way> {
        let now = self.rig.queue.ways();
        self.past.iter().copied().chain(now.into_iter().skip(self.past.len())).collect()
    }

    /// What every iteration so far found, those before the checkpoint that the run went on from included. How long they
    /// took is not kept: `elapsed` is zero.
    pub fn history(&self) -> impl Iterator<Item = Report> {
        let of = |scale: &Scale| std::iter::repeat_n(*scale, scale.iterations as usize);
        // A run without terms has no layers: there is none.
        let rows = self.history.chunks_exact(self.names.len().max(1));
        let each = (0..).zip(self.scales.iter().flat_map(of)).zip(rows);
        each.map(|((iteration, scale), values)| {
            Report::new(iteration, scale, Duration::ZERO, (self.names.clone(), values.to_vec()))
        })
    }

    /// What the engine's submissions took so far; `None` on the CPU engine.
    pub fn submissions(&self) -> Option<Submissions> {
        self.rig.engine.submissions()
    }

    /// Least time between two states that the run could go on from, 5 s unless a test wants another.
    #[doc(hidden)]
    pub fn keep_state_every(&mut self, interval: Duration) {
        self.rig.keep_every(interval);
    }

    /// The picture at the scale at work, `[H, W, 4]` with the mean subtracted.
    fn values(&mut self) -> Result<Vec<f32>> {
        let [height, width] = self.running.size();
        let mut all = Vec::with_capacity(4 * height * width);
        self.each_value(|values, _| all.extend_from_slice(values))?;
        Ok(all)
    }

    /// The same in pieces of whole rows, each with the mean.
    fn each_value(&mut self, mut take: impl FnMut(&[f32], [f32; 3])) -> Result<()> {
        let (iteration, mean) = (self.iteration, self.mean);
        let runaway = if self.rig.config.precision == Precision::F16 { RUNAWAY_OF_HALVES } else { RUNAWAY };
        for band in 0..self.running.result().tensors().len() {
            let values = self.surviving(|job| job.running.result().read_band(job.rig.engine.as_mut(), band))?;
            if values.iter().any(|value| value.is_nan() || value.abs() > runaway) {
                self.diverged = Some(("the picture".into(), iteration));
                return Err(self.rig.diverged("the picture".into(), iteration));
            }
            take(&values, mean);
        }
        Ok(())
    }

    /// Gradient of the loss with respect to the picture at the last iteration, `[H, W, 3]` in the size of its scale; zero
    /// where nothing is painted.
    pub fn gradient(&mut self) -> Result<Vec<f32>> {
        if self.left.is_some() {
            // The scale that could not begin has taken the buffers.
            self.next_scale()?;
        }
        // Not repeated after a failure: the state alone does not say what its last gradient was.
        let values = self.running.d_image.read(self.rig.engine.as_mut())?;
        Ok(values.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect())
    }

    /// What the picture's gradient is multiplied with between convolutions: 1 in single precision.
    #[doc(hidden)]
    pub fn gradient_factor(&mut self) -> Result<f32> {
        match self.rig.config.precision {
            Precision::F32 => Ok(1.0),
            Precision::F16 => Ok(self.buffer("factors")?.last().map_or(1.0, |inverse| 1.0 / inverse)),
        }
    }

    /// A float buffer of the scale at work by its label.
    pub(super) fn buffer(&mut self, label: &str) -> Result<Vec<f32>> {
        let missing = || Error::Kernel { kernel: "transfer".into(), what: format!("no buffer is called {label}") };
        self.rig.engine.read(self.running.table.find(label).ok_or_else(missing)?)
    }

    /// Iterations done.
    pub fn iteration(&self) -> u32 {
        self.iteration
    }

    /// Width and height of the result.
    pub fn size(&self) -> (usize, usize) {
        let scale = self.scales.last().unwrap_or(&self.running.scale);
        (scale.width, scale.height)
    }

    /// Every scale of the run, the smallest first.
    pub fn scales(&self) -> &[Scale] {
        &self.scales
    }

    /// Device and engine, for people.
    pub fn device(&self) -> String {
        self.rig.engine.describe()
    }

    /// Digest of the choices of kernels at the largest scale, which bear on the last bits; `plain` where there are none.
    pub fn kernels(&self) -> String {
        let last = self.rig.queue.len().saturating_sub(1);
        self.rig.queue.stage(last).map(|stage| stage.choices.digest()).unwrap_or_default()
    }

    /// What one iteration does at the scale at work: for profiles.
    pub fn recording(&self) -> &Recording {
        &self.running.recording
    }

    /// Bytes that the engine holds for the scale at work: what [`Plan::bytes`] forecasts.
    pub fn ledger(&self) -> Ledger {
        self.rig.engine.ledger()
    }

    /// Every buffer of the scale at work.
    pub fn buffers(&self) -> &BufferTable {
        &self.running.table
    }
}
