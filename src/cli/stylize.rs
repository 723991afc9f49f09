//! `impasto stylize`: from files to a file.

use std::path::{Path, PathBuf};

use impasto::error::{Error, Result};
use impasto::picture::{Picture, Rounding, contact_sheet, numbered};
use impasto::recording::Faults;
use impasto::transfer::presets::DEFAULT;
use impasto::transfer::presets::Preset;
use impasto::transfer::{Config, Report, Scale, StyleTransfer};

use super::args::{Options, Stylize};
use super::checkpoint::Checkpoints;
use super::device;
use super::files::{Log, Outputs};
use super::interrupt::Interrupt;
use super::plot::Plot;
use super::progress::Progress;
use super::record::Record;
use super::saver::Saver;
use super::weights::{Wish, resolve};
use super::{Outcome, note, one_line, out};

/// Everything that a run needs, checked before anything is computed.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) options: &'a Options,
    pub(crate) preset: &'static Preset,
    pub(crate) config: Config,
    pub(crate) output: PathBuf,
    /// Where content, style and result go side by side.
    pub(crate) sheet: Option<PathBuf>,
    pub(crate) content: Picture,
    pub(crate) styles: Vec<Picture>,
    /// The files read so far, which no output may replace.
    pub(crate) inputs: Vec<&'a Path>,
    /// Whether VGG-19 may be downloaded for it.
    pub(crate) may_fetch: bool,
    /// What the result will say about how it was made.
    pub(crate) record: Record,
    /// What it repeats, if it does.
    pub(crate) repeats: Option<Repeats>,
}

/// An earlier run.
#[derive(Clone, Debug)]
pub(crate) struct Repeats {
    /// The iteration after which its picture was written.
    pub(crate) iterations: u32,
    /// Digest of its network.
    pub(crate) weights: String,
    /// Its device, as [`StyleTransfer::device`] had it.
    pub(crate) device: String,
}

/// Runs `impasto stylize`.
pub(crate) fn run(arguments: &Stylize) -> Result<Outcome> {
    job(arguments)?.run()
}

/// The run that the arguments ask for.
pub(crate) fn job(arguments: &Stylize) -> Result<Job<'_>> {
    let options = &arguments.options;
    let preset = options.preset(DEFAULT)?;
    let config = options.configure((preset.config)())?;
    let content = Picture::decode(&arguments.content)?;
    let styles = arguments.style.iter().map(|path| Picture::decode(path)).collect::<Result<_>>()?;
    let inputs: Vec<&Path> = arguments.style.iter().chain([&arguments.content]).map(PathBuf::as_path).collect();
    let files: Vec<&Path> = inputs.iter().copied().chain(options.init_file()).collect();
    let record = Record::new(&files, options, &config)?;
    let output = arguments.output.clone();
    let (sheet, may_fetch, repeats) = (None, true, None);
    Ok(Job { options, preset, config, output, sheet, content, styles, inputs, may_fetch, record, repeats })
}

impl Job<'_> {
    /// Checks what will be written, loads weights, opens the device, steps to the end or to Ctrl-C, saves.
    pub(crate) fn run(mut self) -> Result<Outcome> {
        let options = self.options;
        let say = |text: &str| {
            if !options.quiet {
                note!("{text}");
            }
        };
        if !options.dump_plan {
            self.check_outputs()?;
        }
        let from = Checkpoints::load(&options.checkpoint, &self.output)?;
        if let Some((_, checkpoint)) = &from {
            self.config.ways = checkpoint.ways().to_vec();
        }
        // Before anything is downloaded.
        StyleTransfer::check(&self.content, &self.styles, &self.config)?;
        device::set_threads(options.threads)?;
        let faults = Faults::fail_allocation(options.fail_allocation);
        let (backend, why) = device::open(&options.device, faults)?;
        let Some(weights) = resolve(&Wish {
            text: &options.weights,
            depth: self.config.depth(),
            may_fetch: self.may_fetch && !options.dump_plan,
            offline: options.offline,
            quiet: options.quiet,
        })?
        else {
            return Ok(Outcome::Interrupted);
        };
        // A network that nobody asked for is never taken in silence.
        if !options.quiet || (self.may_fetch && options.weights == "auto" && weights.source.starts_with("built-in")) {
            note!("weights: {}", one_line(&weights.source));
        }
        if options.dump_plan {
            for plan in StyleTransfer::plan_on(backend.as_ref(), &weights, &self.content, &self.styles, &self.config)? {
                out!("{}x{}, {} iterations", plan.scale.width, plan.scale.height, plan.scale.iterations);
                out!("{}", plan.step);
            }
            return Ok(Outcome::Done);
        }
        let mut transfer =
            StyleTransfer::new(backend.as_ref(), &weights, &self.content, &self.styles, self.config.clone())?;
        self.record.add("weights", one_line(&weights.source));
        let network = weights.digest();
        if self.repeats.as_ref().is_some_and(|run| run.weights != network) {
            return Err(Error::Weights {
                path: one_line(&weights.source).into(),
                what: "is not the network that the result was made with".into(),
                hint: "`impasto weights list` says what is here; use the one with which the result was made".into(),
            });
        }
        self.record.add("weights_sha256", network);
        drop(weights);
        self.record.add("device", transfer.device());
        let resumed = Checkpoints::resume(from, &mut transfer)?;
        say(&format!("device: {} ({})", transfer.device(), one_line(&why)));
        let tiles = transfer.tile().map_or(String::new(), |edge| format!(", in tiles of {edge} pixels"));
        say(&format!("{}{tiles}", size_line(transfer.scales())));
        for text in transfer.notes() {
            say(&format!("note: {}", one_line(&text)));
        }
        if let Some(run) = self.repeats.as_ref().filter(|run| !transfer.is_on(&run.device)) {
            say(&format!("note: made on {}; the bits of this device may be others", one_line(&run.device)));
        }
        if let Some(done) = resumed {
            say(&format!("resumed after {done} iterations"));
        }
        let scales = transfer.scales().len();
        let own = resumed.filter(|_| options.checkpoint.resumes_own(&self.output));
        let log = |path| Log::create(path, options.overwrite, scales, own);
        let mut log = options.log.as_deref().map(log).transpose()?;
        let mut checkpoints = Checkpoints::new(&options.checkpoint, &self.output);
        let progress = Progress::new(options.quiet, self.preset.article_output, transfer.scales(), options.print_every);
        let runtime = runtime()?;
        let interrupt = Interrupt::listen(runtime.handle(), &progress);
        let mut saver = Saver::new(runtime.handle());
        let mut watch = |reports: &[Report]| {
            for report in reports {
                progress.report(report);
            }
            if let Some(log) = &mut log {
                log.write(reports);
            }
        };
        let painted = self.paint(&mut transfer, (&interrupt, &progress), &mut saver, &mut checkpoints, &mut watch);
        progress.finish();
        let (last, result) = match painted.and_then(|last| Ok((last, transfer.image()?))) {
            Ok(done) => done,
            Err(error) => {
                if matches!(error, Error::DeviceLost { .. } | Error::OutOfMemory { .. } | Error::NonFinite { .. }) {
                    self.rescue(&mut transfer, &mut saver);
                }
                if let Err(lost) = self.plot(&transfer) {
                    note!("{}", one_line(&lost.to_string()));
                }
                return Err(error);
            }
        };
        if let (Some(path), [style, ..]) = (&self.sheet, &self.styles[..]) {
            let sheet = contact_sheet(&[&self.content, style, &result]);
            self.write(&mut saver, sheet, path.clone(), &transfer);
        }
        let (done, all, path) = (transfer.iteration(), self.last(transfer.scales()), self.output.display());
        self.write(&mut saver, result, self.output.clone(), &transfer);
        if done < all {
            checkpoints.write(&mut transfer, &mut saver)?;
        }
        saver.finish()?;
        log.map_or(Ok(()), Log::finish)?;
        self.plot(&transfer)?;
        if done < all {
            let size = |scale: &Scale| format!("{}x{}", scale.width, scale.height);
            let so_far = match (last, transfer.scales().last()) {
                (Some(at), Some(end)) if at.index < end.index => {
                    format!("the picture so far, enlarged from {} to {},", size(&at), size(end))
                }
                _ => "the picture so far".into(),
            };
            note!("interrupted after {done} of {all} iterations; {so_far} is in {path}");
            if checkpoints.there() && !options.quiet {
                note!("the same command with --resume goes on");
            }
            return Ok(Outcome::Interrupted);
        }
        checkpoints.remove();
        say(&format!("wrote {path}"));
        Ok(Outcome::Done)
    }

    /// Every file that the run writes must be writable before the first second is spent.
    fn check_outputs(&self) -> Result<()> {
        // More styles than one, or none, are refused later.
        let style = self.styles.first().unwrap_or(&self.content);
        let checkpoint = self.options.checkpoint.path(&self.output);
        let outputs = Outputs {
            picture: &self.output,
            sheet: self.sheet.as_deref(),
            save_every: self.save_every(),
            iterations: iterations(&self.config.scales(&self.content, style)),
            log: self.options.log.as_deref(),
            plot: self.options.plot.as_deref(),
            checkpoint: checkpoint.as_deref(),
            overwrite: self.overwrites(),
        };
        outputs.check(self.inputs.iter().copied().chain(self.options.input_files()))?;
        self.options.checkpoint.check(&self.output, self.options.overwrite)
    }

    /// Whether files that are there may be replaced. Who goes on with a run wants its files to be the new ones.
    fn overwrites(&self) -> bool {
        self.options.overwrite || self.options.checkpoint.resumes_own(&self.output)
    }

    /// The iterations after which the run is complete.
    fn last(&self, scales: &[Scale]) -> u32 {
        self.repeats.as_ref().map_or(u32::MAX, |run| run.iterations).min(iterations(scales))
    }

    /// Steps to the end or to Ctrl-C. The scale of the last iteration.
    fn paint(
        &self,
        transfer: &mut StyleTransfer,
        (interrupt, progress): (&Interrupt, &Progress),
        saver: &mut Saver,
        checkpoints: &mut Checkpoints,
        watch: &mut dyn FnMut(&[Report]),
    ) -> Result<Option<Scale>> {
        let (all, every) = (self.last(transfer.scales()), self.save_every());
        let mut told = false;
        let mut last = transfer.scales().first().copied();
        while transfer.iteration() < all && !interrupt.requested() {
            let done = transfer.iteration();
            let next_save = done.checked_div(every).map_or(all, |saved| (saved + 1).saturating_mul(every));
            let reports = transfer.advance(next_save.min(all) - done)?;
            last = reports.last().map(|report| report.scale).or(last);
            for text in transfer.notes().iter().filter(|_| !self.options.quiet) {
                progress.note(&format!("note: {}", one_line(text)));
            }
            watch(&reports);
            if transfer.iteration() < all {
                checkpoints.tick(transfer, saver)?;
            }
            if let (Some(error), false) = (saver.failed(), told) {
                // Minutes of work are worth more than a picture on the way: the run goes on, and fails in the end.
                progress.note(&format!("{}; the run goes on", one_line(&error.to_string())));
                told = true;
            }
            if every > 0 && transfer.iteration().is_multiple_of(every) {
                let image = transfer.image()?;
                self.write(saver, image, numbered(&self.output, transfer.iteration()), transfer);
            }
        }
        Ok(last)
    }

    /// Saves what a device that was lost for good, or a run that diverged, has left.
    fn rescue(&self, transfer: &mut StyleTransfer, saver: &mut Saver) {
        for text in transfer.notes().iter().filter(|_| !self.options.quiet) {
            note!("note: {}", one_line(text));
        }
        let Some((done, picture)) = transfer.last_good() else { return };
        self.write_after(done, saver, picture, self.output.clone(), transfer);
        match saver.finish() {
            Ok(()) => note!("the picture after {done} iterations is in {}", self.output.display()),
            // The lost device is what the run ends with; this comes on top.
            Err(error) => note!("{}", one_line(&error.to_string())),
        }
    }

    /// Iterations between saved pictures, 0 for none.
    fn save_every(&self) -> u32 {
        self.options.save_every.unwrap_or(if self.preset.article_output { 100 } else { 0 })
    }

    /// Draws the losses of the whole run, where that is asked for.
    fn plot(&self, transfer: &StyleTransfer) -> Result<()> {
        let draw = |path: &PathBuf| Plot::of(transfer.history()).save(path, self.overwrites());
        self.options.plot.as_ref().map_or(Ok(()), draw)
    }

    /// Starts saving a picture of now.
    fn write(&self, saver: &mut Saver, picture: Picture, path: PathBuf, transfer: &StyleTransfer) {
        self.write_after(transfer.iteration(), saver, picture, path, transfer);
    }

    /// Starts saving a picture after so many iterations.
    fn write_after(&self, done: u32, saver: &mut Saver, picture: Picture, path: PathBuf, transfer: &StyleTransfer) {
        let rounding = if self.preset.article_output { Rounding::Truncate } else { Rounding::Nearest };
        let (overwrite, metadata) = (self.overwrites(), self.record.metadata(done, &transfer.ways()));
        saver.start(move || picture.encode_to(&path, rounding, overwrite, &metadata));
    }
}

/// Iterations of all scales.
fn iterations(scales: &[Scale]) -> u32 {
    scales.iter().map(|scale| scale.iterations).sum()
}

fn size_line(scales: &[Scale]) -> String {
    let one = |scale: &Scale| format!("{}x{}, {} iterations", scale.width, scale.height, scale.iterations);
    format!("size: {}", scales.iter().map(one).collect::<Vec<_>>().join(", then "))
}

/// Listens for Ctrl-C and saves pictures, while the engine has the main thread.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_io()
        .build()
        .map_err(|error| Error::Kernel { kernel: "tokio".into(), what: error.to_string() })
}
