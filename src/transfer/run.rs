//! One job: measures the targets, then steps.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpoint::Checkpoint;
use super::config::Config;
use super::forecast::{Anywhere, Plan};
use super::layout::{RING, check_inputs, lay_out};
use super::rehearsal::Rehearsal;
use super::rig::{Kept, Rig};
use super::scales::Scale;
use super::stage::{Carry, Queue, Running};
use crate::error::{Error, Result};
use crate::net::maps::Precision;
use crate::picture::{Filter, Picture, resampled};
use crate::recording::{Backend, BufferTable, Ledger, Recording, Submissions};
use crate::weights::Weights;

/// No picture is this far from 0..255 unless the optimiser diverged.
const RUNAWAY: f32 = 1e6;
/// The same where maps are halves: beyond it activations may overflow, which a ReLU hides.
const RUNAWAY_OF_HALVES: f32 = 2e3;
/// Batches of iterations grow until one takes about this long: often enough to stay responsive.
const BATCH: Duration = Duration::from_millis(100);

/// What an iteration found, before it changed the picture.
#[derive(Clone, Debug)]
pub struct Report {
    /// From 0, through all scales.
    pub iteration: u32,
    /// The scale that it belongs to.
    pub scale: Scale,
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
    /// `weights` must reach down to [`Config::depth`]. Exactly one style picture is supported so far.
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
        let (stages, style) = lay_out(backend, weights, content, styles, &config)?;
        let rehearsal = Rehearsal::of(backend, weights, (content, style), &config)?;
        let scales = stages.iter().map(|stage| stage.scale).collect();
        let names = stages.first().map(|stage| stage.layout.names.clone()).unwrap_or_default();
        let queue = Queue::new(stages, weights, (content, style), rehearsal, &config);
        let mean = config.mean.unwrap_or(weights.mean);
        let mut rig = Rig::new(backend.engine()?, queue, config);
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
        check_inputs(content, styles, config).map(drop)
    }

    /// What every scale's iterations would run and the buffers they need, the smallest scale first, without a device.
    pub fn plan(weights: &Weights, content: &Picture, styles: &[Picture], config: &Config) -> Result<Vec<Plan>> {
        StyleTransfer::plan_on(&Anywhere, weights, content, styles, config)
    }

    /// [`StyleTransfer::plan`] with the memory and the limits of a device, which may make it other tiles. Nothing is
    /// allocated on it.
    pub fn plan_on(
        backend: &dyn Backend,
        weights: &Weights,
        content: &Picture,
        styles: &[Picture],
        config: &Config,
    ) -> Result<Vec<Plan>> {
        let (stages, _) = lay_out(backend, weights, content, styles, config)?;
        Ok(stages.into_iter().map(Plan::of).collect())
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
            reports.push(Report {
                iteration,
                scale: self.running.scale,
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
            return Ok(Picture { width, height, rgb });
        }
        let values = match &self.left {
            Some(left) => left.image.clone(),
            None => self.values()?,
        };
        Ok(self.picture(&values, self.running.size()))
    }

    /// The state now, for [`StyleTransfer::resume`] in another process: the picture, its average, all that the optimiser
    /// keeps, and where the run is.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where the state is not worth going on from.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        self.check_diverged()?;
        if self.left.is_some() {
            // The scale that could not begin has taken the buffers.
            self.next_scale()?;
        }
        let kept = self.surviving(|job| job.rig.look(&job.running, job.iteration))?;
        let kept = Arc::new(kept.ok_or_else(|| self.rig.diverged("the picture".into(), self.iteration))?);
        self.kept = Some(kept.clone());
        let (scale, first) = (self.running.scale.index, self.running.first);
        let (identity, device) = (self.identity(), self.device());
        Ok(Checkpoint { identity, device, scale, size: self.running.size(), first, kept })
    }

    /// Goes on from a state that a run with the same pictures, network and settings has left; the number of iterations
    /// may be another one. On the same device the result is that of a run without a break, to the bit. `path` is for
    /// messages.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where it belongs to something else.
    pub fn resume(&mut self, checkpoint: &Checkpoint, path: Option<&PathBuf>) -> Result<()> {
        checkpoint.check(path, &self.identity())?;
        let fail = |what: String| {
            Error::Checkpoint {
            path: path.cloned().unwrap_or_default(),
            what,
            hint: "give the iterations that it was made with (only those of the scale at work and after it may be more), or \
                   start the run anew without --resume"
                .into(),
        }
        };
        let Checkpoint { scale, first, ref kept, .. } = *checkpoint;
        let before: u32 = self.scales.iter().take(scale).map(|scale| scale.iterations).sum();
        let here = self.scales.get(scale).filter(|scale| [scale.height, scale.width] == checkpoint.size);
        let Some(here) = here.filter(|_| before == first) else {
            return Err(fail("the scales before have another number of iterations".into()));
        };
        if !(first..=first + here.iterations).contains(&kept.iteration) {
            let (done, all) = (kept.iteration, first + here.iterations);
            return Err(fail(format!("has {done} iterations behind it, more than the {all} of its scale")));
        }
        self.running = self.rig.attempt(|rig| rig.begin(scale, first, None))?;
        let names = |state: Vec<(String, _)>| state.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let fits = names(self.running.state()).iter().eq(kept.values.iter().map(|(name, _)| name));
        if !fits || !self.running.takes(&kept.memory) || kept.counter != [kept.iteration - first] {
            return Err(fail("does not have what the optimiser keeps".into()));
        }
        (self.from, self.left, self.kept) = (None, None, Some(kept.clone()));
        (self.iteration, self.diverged, self.batch) = (kept.iteration, None, 1);
        self.rig.stale = true;
        self.surviving(|_| Ok(()))
    }

    fn identity(&mut self) -> Arc<BTreeMap<String, String>> {
        let rig = &self.rig;
        let found = self.identity.get_or_insert_with(|| {
            let mut identity = rig.config.identity();
            identity.extend(rig.queue.digests().map(|(name, digest)| (name.to_string(), digest)));
            identity.insert("impasto".into(), env!("CARGO_PKG_VERSION").into());
            Arc::new(identity)
        });
        found.clone()
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
        Picture { width, height, rgb: without_padding(&values, self.mean).collect() }
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

    /// Gradient of the loss with respect to the picture at the last iteration, `[H, W, 3]` in the size of its scale.
    pub fn gradient(&mut self) -> Result<Vec<f32>> {
        if self.left.is_some() {
            // The scale that could not begin has taken the buffers.
            self.next_scale()?;
        }
        // Not repeated after a failure: the state alone does not say what its last gradient was.
        let values = self.running.d_image.read(self.rig.engine.as_mut())?;
        Ok(values.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect())
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

/// `[H, W, 4]` plus the mean as RGB.
fn without_padding(values: &[f32], mean: [f32; 3]) -> impl Iterator<Item = f32> {
    values.chunks_exact(4).flat_map(move |p| [0, 1, 2].map(|c| p[c] + mean[c]))
}
