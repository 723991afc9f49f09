//! `impasto stylize`: from files to a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use impasto::error::Result;
use impasto::picture::color::ColorMatch;
use impasto::picture::{Alpha, Decoded, Picture, Rounding, numbered};
use impasto::transfer::presets::DEFAULT;
use impasto::transfer::presets::Preset;
use impasto::transfer::{Config, Inputs, Report, Scale, StyleTransfer};

use super::args::{Options, Stylize};
use super::checkpoint::{CheckpointOptions, Checkpoints};
use super::files::{Claims, Outputs};
use super::interrupt::Interrupt;
use super::pictures::Finish;
use super::plot::Plot;
use super::progress::Progress;
use super::record::Record;
use super::saver::Saver;
use super::styles::{Masks, style_files};
use super::workshop::Workshop;
use super::{Outcome, batch, note, one_line};

/// Everything that a run needs, checked before anything is computed.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) options: &'a Options,
    pub(crate) preset: &'static Preset,
    pub(crate) config: Config,
    pub(crate) output: PathBuf,
    /// Where the last good picture goes if the run fails.
    pub(crate) rescued: PathBuf,
    /// Where the picture so far goes if the run is interrupted.
    pub(crate) unfinished: PathBuf,
    /// Where content, style and result go side by side.
    pub(crate) sheet: Option<PathBuf>,
    pub(crate) content: Picture,
    /// Opacity of the content, which the result gets.
    pub(crate) alpha: Option<Alpha>,
    pub(crate) styles: Arc<Vec<Picture>>,
    pub(crate) masks: Arc<Masks>,
    /// What is done to what the run paints before it is written; see [`Job::prepare_colors`].
    pub(crate) finish: Arc<Finish>,
    /// The files read so far, which no output may replace.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) checkpoint: CheckpointOptions,
    pub(crate) log: Option<PathBuf>,
    pub(crate) plot: Option<PathBuf>,
    /// Whether logs and plots that are there are its own, of an earlier try.
    pub(crate) replaces: bool,
    /// Whether to say where the result is.
    pub(crate) says_where: bool,
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
    /// Digest of its choice of kernels, if it says.
    pub(crate) kernels: Option<String>,
}

/// Runs `impasto stylize`.
pub(crate) fn run(arguments: &Stylize) -> Result<Outcome> {
    match &arguments.content[..] {
        [content] if !batch::is_asked_for(arguments) => job(content, arguments)?.run(),
        _ => batch::run(arguments),
    }
}

/// The run that the arguments ask for, of one content.
pub(crate) fn job<'a>(content: &'a Path, arguments: &'a Stylize) -> Result<Job<'a>> {
    let options = &arguments.options;
    let preset = options.preset(DEFAULT)?;
    let config = options.configure((preset.config)())?;
    let read = |path: &Path| options.pictures.read(path, options.quiet);
    let Decoded { picture, alpha, .. } = read(content)?;
    let mut files = style_files(&arguments.style)?;
    let styles = files.iter().map(|path| Ok(read(path)?.picture)).collect::<Result<_>>()?;
    files.push(content.into());
    let masks = Arc::new(options.styles.masks(&options.pictures, options.quiet)?);
    let all: Vec<&Path> = files.iter().map(PathBuf::as_path).chain(options.picture_files()).collect();
    let record = Record::new(&all, options, &config)?;
    let job = Job::new(options, (preset, config), (picture, Arc::new(styles)), arguments.output.clone(), record);
    Ok(Job { files, alpha, masks, ..job })
}

impl<'a> Job<'a> {
    /// A run that writes what the options name, and that may fetch VGG-19. Reads the masks.
    pub(crate) fn new(
        options: &'a Options,
        (preset, config): (&'static Preset, Config),
        (content, styles): (Picture, Arc<Vec<Picture>>),
        output: PathBuf,
        record: Record,
    ) -> Job<'a> {
        Job {
            options,
            preset,
            config,
            rescued: output.clone(),
            unfinished: output.clone(),
            output,
            sheet: None,
            content,
            alpha: None,
            styles,
            masks: Arc::default(),
            finish: Arc::default(),
            files: Vec::new(),
            checkpoint: options.checkpoint.clone(),
            log: options.log.clone(),
            plot: options.plot.clone(),
            replaces: false,
            says_where: true,
            may_fetch: true,
            record,
            repeats: None,
        }
    }

    /// Checks what will be written, opens a workshop, and paints there.
    pub(crate) fn run(mut self) -> Result<Outcome> {
        if !self.options.dump_plan {
            self.check_outputs()?;
        }
        // Before anything is downloaded.
        self.inputs().check(&self.config)?;
        let Some(mut workshop) = Workshop::open(self.options, self.config.depth(), (self.may_fetch, false))? else {
            return Ok(Outcome::Interrupted);
        };
        if self.options.dump_plan {
            return workshop.dump_plan(&self);
        }
        workshop.paint(&mut self)
    }

    /// Says something to who wants to know.
    pub(crate) fn say(&self, text: &str) {
        if !self.options.quiet {
            note!("{text}");
        }
    }

    /// Pictures and masks.
    pub(crate) fn inputs(&self) -> Inputs<'_> {
        self.masks.inputs(&self.content, &self.styles)
    }

    /// Every file that the run writes must be writable before the first second is spent.
    fn check_outputs(&self) -> Result<()> {
        let mut claims = Claims::new(self.files.iter().map(PathBuf::as_path).chain(self.options.input_files()));
        self.outputs(|outputs| {
            outputs.check(&mut claims)?;
            outputs.check_numbered(&mut claims)
        })?;
        self.options.pictures.check(&self.output)?;
        self.checkpoint.check(&self.output, self.options.overwrite)
    }

    /// Lends `look` what the run is going to write.
    pub(crate) fn outputs(&self, look: impl FnOnce(Outputs<'_>) -> Result<()>) -> Result<()> {
        let checkpoint = self.checkpoint.path(&self.output);
        look(Outputs {
            picture: &self.output,
            sheet: self.sheet.as_deref(),
            save_every: self.save_every(),
            iterations: iterations(&self.config.scales(&self.content)),
            log: self.log.as_deref(),
            plot: self.plot.as_deref(),
            checkpoint: checkpoint.as_deref(),
            overwrite: self.overwrites(),
        })
    }

    /// Moves the styles' colours where that is asked for, and sets what is to be done to the result's.
    pub(crate) fn prepare_colors(&mut self) {
        let (pictures, content) = (&self.options.pictures, &self.content);
        let colors = pictures.colors();
        if colors.matching != ColorMatch::None {
            self.styles = Arc::new(self.styles.iter().map(|style| colors.before(style, content)).collect());
        }
        let rounding = if self.preset.article_output { Rounding::Truncate } else { Rounding::Nearest };
        self.finish = Arc::new(pictures.finish(
            content,
            (self.alpha.as_ref(), self.masks.paint.as_ref()),
            &self.styles,
            rounding,
        ));
    }

    /// Whether files that are there may be replaced. Who goes on with a run wants its files to be the new ones.
    pub(crate) fn overwrites(&self) -> bool {
        self.options.overwrite || self.replaces || self.checkpoint.resumes_own(&self.output)
    }

    /// The iterations after which the run is complete.
    pub(crate) fn last(&self, scales: &[Scale]) -> u32 {
        self.repeats.as_ref().map_or(u32::MAX, |run| run.iterations).min(iterations(scales))
    }

    /// Steps to the end or to Ctrl-C. The scale of the last iteration.
    pub(crate) fn paint(
        &self,
        transfer: &mut StyleTransfer,
        (interrupt, progress): (&Interrupt, &Progress),
        saver: &mut Saver,
        checkpoints: &mut Checkpoints,
        watch: &mut dyn FnMut(&[Report], &mut StyleTransfer) -> Result<()>,
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
            watch(&reports, transfer)?;
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
    pub(crate) fn rescue(&self, transfer: &mut StyleTransfer, saver: &mut Saver) {
        for text in transfer.notes().iter().filter(|_| !self.options.quiet) {
            note!("note: {}", one_line(text));
        }
        let Some((done, picture)) = transfer.last_good() else { return };
        self.write_after(done, saver, picture, self.rescued.clone(), transfer);
        match saver.finish() {
            Ok(()) => note!("the picture after {done} iterations is in {}", self.rescued.display()),
            // The lost device is what the run ends with; this comes on top.
            Err(error) => note!("{}", one_line(&error.to_string())),
        }
    }

    /// Iterations between saved pictures, 0 for none.
    fn save_every(&self) -> u32 {
        self.options.save_every.unwrap_or(if self.preset.article_output { 100 } else { 0 })
    }

    /// Draws the losses of the whole run, where that is asked for.
    pub(crate) fn plot(&self, transfer: &StyleTransfer) -> Result<()> {
        let draw = |path: &PathBuf| Plot::of(transfer.history()).save(path, self.overwrites());
        self.plot.as_ref().map_or(Ok(()), draw)
    }

    /// Starts saving a picture of now.
    pub(crate) fn write(&self, saver: &mut Saver, picture: Picture, path: PathBuf, transfer: &StyleTransfer) {
        self.write_after(transfer.iteration(), saver, picture, path, transfer);
    }

    /// Starts saving a picture after so many iterations.
    fn write_after(&self, done: u32, saver: &mut Saver, picture: Picture, path: PathBuf, transfer: &StyleTransfer) {
        // A name that was not asked for was not checked, either: what was typed counts.
        let own = path == self.output || ![&self.rescued, &self.unfinished].contains(&&path);
        let overwrite = if own { self.overwrites() } else { self.options.overwrite };
        let (finish, metadata) = (self.finish.clone(), self.record.metadata(done, &transfer.ways()));
        saver.start(move || finish.save(picture, (&path, overwrite), &metadata));
    }
}

/// Iterations of all scales.
fn iterations(scales: &[Scale]) -> u32 {
    scales.iter().map(|scale| scale.iterations).sum()
}
