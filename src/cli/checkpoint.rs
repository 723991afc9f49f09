//! `--resume` and what makes it possible: a file beside the result from which a run goes on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use impasto::error::{Error, Result};
use impasto::transfer::{Checkpoint, StyleTransfer};

use super::saver::Saver;

/// Seconds between two checkpoints. Runs that take less write none.
const EVERY: f64 = 60.0;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CheckpointOptions {
    /// Go on with a run that was broken off, from OUT.checkpoint or from FILE; settings and inputs must be the same, but
    /// the iterations of the scale at work and of those after it may be more
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, conflicts_with = "no_checkpoint")]
    resume: Option<Option<PathBuf>>,
    /// Seconds between two checkpoints in OUT.checkpoint, which is removed when the run is complete [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, allow_negative_numbers = true)]
    checkpoint_every: Option<f64>,
    /// Write no checkpoint
    #[arg(long, conflicts_with = "checkpoint_every")]
    no_checkpoint: bool,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds, 0 to 1000000, or use --no-checkpoint".into()),
    }
}

impl CheckpointOptions {
    /// Whether the run goes on from a file.
    pub(crate) fn resumes(&self) -> bool {
        self.resume.is_some()
    }

    /// Whether it goes on from the checkpoint beside its own output, so that what is there is its own.
    pub(crate) fn resumes_own(&self, output: &Path) -> bool {
        self.resumes() && self.source(output) == self.path(output)
    }

    /// Whether the file to go on from is named.
    pub(crate) fn names_a_file(&self) -> bool {
        matches!(self.resume, Some(Some(_)))
    }

    /// Goes on from the checkpoint beside its own output.
    pub(crate) fn go_on(&mut self) {
        self.resume = Some(None);
    }

    /// Goes on from nothing.
    pub(crate) fn begin_anew(&mut self) {
        self.resume = None;
    }

    /// A run that begins at its beginning and leaves nothing but its result.
    pub(crate) fn forget(&mut self) {
        *self = CheckpointOptions { no_checkpoint: true, ..CheckpointOptions::default() };
    }

    /// The file that a run with this output writes.
    pub(crate) fn path(&self, output: &Path) -> Option<PathBuf> {
        let mut name = output.as_os_str().to_owned();
        name.push(".checkpoint");
        (!self.no_checkpoint).then(|| name.into())
    }

    /// The file to go on from.
    pub(crate) fn source(&self, output: &Path) -> Option<PathBuf> {
        self.resume.clone().and_then(|file| file.or_else(|| self.path(output)))
    }

    /// Refuses to lose an old checkpoint by accident.
    pub(crate) fn check(&self, output: &Path, overwrite: bool) -> Result<()> {
        match self.path(output) {
            Some(path) if path.is_dir() || (path.exists() && !overwrite && !self.resumes_own(output)) => {
                Err(Error::Output {
                    path,
                    what: "already exists".into(),
                    hint: "pass --resume to go on with that run, or --overwrite to start anew".into(),
                })
            }
            _ => Ok(()),
        }
    }
}

/// Writes checkpoints beside the run.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    path: Option<PathBuf>,
    every: Duration,
    last: Instant,
}

impl Checkpoints {
    pub(crate) fn new(options: &CheckpointOptions, output: &Path) -> Checkpoints {
        let every = Duration::from_secs_f64(options.checkpoint_every.unwrap_or(EVERY));
        Checkpoints { path: options.path(output), every, last: Instant::now() }
    }

    /// What the file that the options name holds, if they name one.
    pub(crate) fn load(options: &CheckpointOptions, output: &Path) -> Result<Option<(PathBuf, Checkpoint)>> {
        options.source(output).map(|path| Ok((path.clone(), Checkpoint::load(&path)?))).transpose()
    }

    /// Goes on from there. The iterations done.
    pub(crate) fn resume(from: Option<(PathBuf, Checkpoint)>, transfer: &mut StyleTransfer) -> Result<Option<u32>> {
        let Some((path, checkpoint)) = from else { return Ok(None) };
        transfer.resume(&checkpoint, Some(&path))?;
        Ok(Some(checkpoint.iteration()))
    }

    /// Writes one if it is time.
    pub(crate) fn tick(&mut self, transfer: &mut StyleTransfer, saver: &mut Saver) -> Result<()> {
        if self.last.elapsed() >= self.every { self.write(transfer, saver) } else { Ok(()) }
    }

    /// Writes one now: the state is read at once, the file beside what follows.
    pub(crate) fn write(&mut self, transfer: &mut StyleTransfer, saver: &mut Saver) -> Result<()> {
        if let Some(path) = self.path.clone() {
            let checkpoint = transfer.checkpoint()?;
            saver.start(move || checkpoint.save(&path));
            self.last = Instant::now();
        }
        Ok(())
    }

    /// The run is complete, and its result safe.
    pub(crate) fn remove(&self) {
        if let Some(path) = &self.path {
            // Nothing hangs on it any more.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Whether there is one to go on from.
    pub(crate) fn there(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.exists())
    }
}
