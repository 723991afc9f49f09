//! Where pictures are painted: the device and the network, opened once for all of them, and who listens to Ctrl-C.

use impasto::error::{Error, Result};
use impasto::picture::{contact_sheet, holds};
use impasto::recording::Faults;
use impasto::transfer::{Report, Scale, Studio, StyleTransfer};
use impasto::weights::Weights;

use super::args::Options;
use super::checkpoint::Checkpoints;
use super::device;
use super::files::Log;
use super::interrupt::Interrupt;
use super::preview::Preview;
use super::progress::Progress;
use super::saver::Saver;
use super::stylize::Job;
use super::weights::{Wish, resolve};
use super::{Outcome, note, one_line, out};

/// A device with a network.
#[derive(Debug)]
pub(crate) struct Workshop {
    studio: Studio,
    runtime: tokio::runtime::Runtime,
    interrupt: Interrupt,
    /// Why it is this device, until that is said.
    why: Option<String>,
}

impl Workshop {
    /// Opens the device and loads weights for jobs of this depth at most. `None` if Ctrl-C stopped a download.
    /// What `many` of them can share is kept.
    pub(crate) fn open(options: &Options, depth: usize, (may_fetch, many): (bool, bool)) -> Result<Option<Workshop>> {
        device::set_threads(options.threads)?;
        let faults = Faults::fail_allocation(options.fail_allocation);
        let (backend, why) = device::open(&options.device, faults, options.tuning())?;
        let Some(weights) = network(options, depth, may_fetch)? else { return Ok(None) };
        let (studio, runtime) = (Studio::new(backend, weights), runtime()?);
        let studio = if many { studio } else { studio.without_targets() };
        Ok(Some(Workshop { studio, runtime, interrupt: Interrupt::default(), why: Some(why) }))
    }

    /// Takes another network. False if Ctrl-C stopped a download.
    pub(crate) fn change_weights(&mut self, options: &Options, depth: usize) -> Result<bool> {
        let Some(weights) = network(options, depth, true)? else { return Ok(false) };
        self.studio.set_weights(weights);
        Ok(true)
    }

    /// Prints what a job would run.
    pub(crate) fn dump_plan(&self, job: &Job<'_>) -> Result<Outcome> {
        for plan in self.studio.plan(&job.inputs(), &job.config)? {
            out!("{}x{}, {} iterations", plan.scale.width, plan.scale.height, plan.scale.iterations);
            out!("{}", plan.step);
        }
        Ok(Outcome::Done)
    }

    /// Whether Ctrl-C was pressed while there was a job to stop.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupt.requested()
    }

    /// Runs something beside the engine.
    pub(crate) fn beside<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> tokio::task::JoinHandle<R> {
        self.runtime.spawn_blocking(work)
    }

    /// What came of [`Workshop::beside`].
    pub(crate) fn wait<R>(&self, work: tokio::task::JoinHandle<R>) -> Result<R> {
        let failed =
            |error: tokio::task::JoinError| Error::Kernel { kernel: "a thread".into(), what: error.to_string() };
        self.runtime.block_on(work).map_err(failed)
    }

    /// Steps to the end of a job or to Ctrl-C, and saves.
    pub(crate) fn paint(&mut self, job: &mut Job<'_>) -> Result<Outcome> {
        let options = job.options;
        job.prepare_colors();
        let from = Checkpoints::load(&job.checkpoint, &job.output)?;
        if let Some((_, checkpoint)) = &from {
            job.config.ways = checkpoint.ways().to_vec();
        }
        let mut transfer = self.studio.start(&job.inputs(), job.config.clone())?;
        job.record.add("weights", one_line(&self.studio.weights().source));
        let network = self.studio.digest(&job.config);
        if job.repeats.as_ref().is_some_and(|run| run.weights != network) {
            return Err(Error::Weights {
                path: one_line(&self.studio.weights().source).into(),
                what: "is not the network that the result was made with".into(),
                hint: "`impasto weights list` says what is here; use the one with which the result was made".into(),
            });
        }
        job.record.add("weights_sha256", network);
        job.record.add("device", transfer.device());
        let kernels = transfer.kernels();
        job.record.add("kernels", kernels.clone());
        let resumed = Checkpoints::resume(from, &mut transfer)?;
        self.introduce(job, &mut transfer);
        if let Some(run) = job.repeats.as_ref().filter(|run| !transfer.is_on(&run.device)) {
            job.say(&format!("note: made on {}; the bits of this device may be others", one_line(&run.device)));
        } else if job.repeats.as_ref().and_then(|run| run.kernels.as_ref()).is_some_and(|was| *was != kernels) {
            job.say("note: made with another choice of kernels; its last bits may be others");
        }
        if let Some(done) = resumed {
            job.say(&format!("resumed after {done} iterations"));
        }
        let scales = transfer.scales().len();
        let own = resumed.filter(|_| job.checkpoint.resumes_own(&job.output));
        let log = |path| Log::create(path, options.overwrite || job.replaces, scales, own);
        let mut log = job.log.as_deref().map(log).transpose()?;
        let mut checkpoints = Checkpoints::new(&job.checkpoint, &job.output);
        let (article, mut preview) = (job.preset.article_output, Preview::new(options.preview));
        let progress = Progress::new(options.quiet, article, transfer.scales(), options.print_every);
        if !preview.fits(&progress) {
            job.say("note: no preview: it needs a progress bar to stand above, and so a terminal");
        }
        self.interrupt.listen(self.runtime.handle(), &progress);
        let mut saver = Saver::new(self.runtime.handle());
        let mut watch = |reports: &[Report], transfer: &mut StyleTransfer| -> Result<()> {
            for report in reports {
                progress.report(report);
            }
            if let Some(log) = &mut log {
                log.write(reports);
            }
            preview.tick(&progress, transfer)
        };
        let painted = job.paint(&mut transfer, (&self.interrupt, &progress), &mut saver, &mut checkpoints, &mut watch);
        progress.finish();
        let (last, result) = match painted.and_then(|last| Ok((last, transfer.image()?))) {
            Ok(done) => done,
            Err(error) => {
                if matches!(error, Error::DeviceLost { .. } | Error::OutOfMemory { .. } | Error::NonFinite { .. }) {
                    job.rescue(&mut transfer, &mut saver);
                }
                if let Err(lost) = job.plot(&transfer) {
                    note!("{}", one_line(&lost.to_string()));
                }
                return Err(error);
            }
        };
        if let (Some(path), [style, ..]) = (&job.sheet, &job.styles[..]) {
            let sheet = contact_sheet(&[&job.content, style, &job.finish.colored(result.clone())]);
            let (finish, path, overwrite) = (job.finish.clone(), path.clone(), job.overwrites());
            let metadata = job.record.metadata(transfer.iteration(), &transfer.ways());
            saver.start(move || finish.save_sheet(&sheet, (&path, overwrite), &metadata));
        }
        let (done, all) = (transfer.iteration(), job.last(transfer.scales()));
        let path = if done < all { &job.unfinished } else { &job.output };
        // First, lest a picture that is not finished be there without what says so.
        let kept = match done < all {
            true => checkpoints.write(&mut transfer, &mut saver).and_then(|()| saver.finish()),
            false => Ok(()),
        };
        job.write(&mut saver, result, path.clone(), &transfer);
        saver.finish()?;
        kept?;
        let path = path.display();
        log.map_or(Ok(()), Log::finish)?;
        job.plot(&transfer)?;
        if done < all {
            let size = |scale: &Scale| format!("{}x{}", scale.width, scale.height);
            let so_far = match (last, transfer.scales().last()) {
                (Some(at), Some(end)) if at.index < end.index => {
                    format!("the picture so far, enlarged from {} to {},", size(&at), size(end))
                }
                _ => "the picture so far".into(),
            };
            let place = if job.says_where { format!("; {so_far} is in {path}") } else { String::new() };
            note!("interrupted after {done} of {all} iterations{place}");
            if checkpoints.there() && !options.quiet {
                note!("the same command with --resume goes on");
            }
            return Ok(Outcome::Interrupted);
        }
        checkpoints.remove();
        if job.says_where {
            job.say(&format!("wrote {path}"));
        }
        Ok(Outcome::Done)
    }

    /// Says where and in which sizes a job runs; the device once for all jobs.
    fn introduce(&mut self, job: &Job<'_>, transfer: &mut StyleTransfer) {
        if let Some(why) = self.why.take() {
            job.say(&format!("device: {} ({})", transfer.device(), one_line(&why)));
        }
        let tiles = transfer.tile().map_or(String::new(), |edge| format!(", in tiles of {edge} pixels"));
        job.say(&format!("{}{tiles}", size_line(transfer.scales())));
        for text in transfer.notes() {
            job.say(&format!("note: {}", one_line(&text)));
        }
        if job.alpha.is_some() && !holds(&job.output).alpha {
            let path = job.output.display();
            job.say(&format!("note: {path} cannot be transparent as the content is: it is written as seen over white"));
        }
    }
}

/// The weights that the options name, told. `None` if Ctrl-C stopped a download.
fn network(options: &Options, depth: usize, may_fetch: bool) -> Result<Option<Weights>> {
    let weights = resolve(&Wish {
        text: &options.weights,
        depth,
        may_fetch: may_fetch && !options.dump_plan,
        offline: options.offline,
        quiet: options.quiet,
    })?;
    // A network that nobody asked for is never taken in silence.
    if let Some(weights) = &weights
        && (!options.quiet || (may_fetch && options.weights == "auto" && weights.source.starts_with("built-in")))
    {
        note!("weights: {}", one_line(&weights.source));
    }
    Ok(weights)
}

fn size_line(scales: &[Scale]) -> String {
    let one = |scale: &Scale| format!("{}x{}, {} iterations", scale.width, scale.height, scale.iterations);
    format!("size: {}", scales.iter().map(one).collect::<Vec<_>>().join(", then "))
}

/// Listens for Ctrl-C, saves pictures and reads them, while the engine has the main thread.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_io()
        .build()
        .map_err(|error| Error::Kernel { kernel: "tokio".into(), what: error.to_string() })
}
