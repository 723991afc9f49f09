//! The files of a run. What it writes is checked before the first second is spent: nothing it reads is ever replaced, no
//! two of its files are the same, every one can be written.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, canonicalize};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use impasto::error::{Error, Result};
use impasto::picture::{check_output, numbered, write_file};
use impasto::transfer::Report;

use super::plot::Plot;

/// What a run is going to write.
#[derive(Debug)]
pub(crate) struct Outputs<'a> {
    pub(crate) picture: &'a Path,
    /// Content, style and result side by side.
    pub(crate) sheet: Option<&'a Path>,
    /// Iterations between saved pictures, 0 for none.
    pub(crate) save_every: u32,
    pub(crate) iterations: u32,
    pub(crate) log: Option<&'a Path>,
    pub(crate) plot: Option<&'a Path>,
    pub(crate) checkpoint: Option<&'a Path>,
    pub(crate) overwrite: bool,
}

impl Outputs<'_> {
    /// Fails where writing could not succeed, or would replace one of `inputs` or another output. Leaves nothing behind.
    pub(crate) fn check<'i>(&self, inputs: impl IntoIterator<Item = &'i Path>) -> Result<()> {
        let mut claims = Claims::new(inputs);
        for picture in [Some(self.picture), self.sheet].into_iter().flatten() {
            claims.claim(picture)?;
            check_output(picture, self.overwrite)?;
        }
        self.plot.map_or(Ok(()), Plot::check)?;
        for file in [self.log, self.plot].into_iter().flatten() {
            claims.file(file, self.overwrite)?;
        }
        if let Some(checkpoint) = self.checkpoint {
            claims.claim(checkpoint)?;
        }
        if let every @ 1.. = self.save_every {
            for iteration in (every..=self.iterations).step_by(every as usize) {
                let path = numbered(self.picture, iteration);
                claims.claim(&path)?;
                if iteration == every || path.exists() {
                    check_output(&path, self.overwrite)?;
                }
            }
        }
        Ok(())
    }
}

/// Files that are read or going to be written.
#[derive(Debug)]
pub(crate) struct Claims(HashMap<PathBuf, &'static str>);

impl Claims {
    pub(crate) fn new<'i>(inputs: impl IntoIterator<Item = &'i Path>) -> Claims {
        let read = |input: &Path| (place(input), "is one of the files that the run reads");
        Claims(inputs.into_iter().map(read).collect())
    }

    /// Refuses a path that is taken.
    fn claim(&mut self, path: &Path) -> Result<()> {
        match self.0.insert(place(path), "is named for two of the run's files") {
            Some(what) => Err(output_error(path, what, "choose another name: this one is never replaced")),
            None => Ok(()),
        }
    }

    /// The same for a file of any kind, which must be writable too.
    pub(crate) fn file(&mut self, path: &Path, overwrite: bool) -> Result<()> {
        self.claim(path)?;
        check_file(path, overwrite).map_err(|error| file_error(path, &error))
    }
}

/// One name for every way to write a path, also of a file that is not there yet.
fn place(path: &Path) -> PathBuf {
    let folder = || canonicalize(folder_of(path)).ok();
    let absent = || Some(folder()?.join(path.file_name()?));
    canonicalize(path).ok().or_else(absent).unwrap_or_else(|| path.into())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn output_error(path: &Path, what: &str, hint: &str) -> Error {
    Error::Output { path: path.into(), what: what.into(), hint: hint.into() }
}

fn check_file(path: &Path, overwrite: bool) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(_) if !overwrite => Err(ErrorKind::AlreadyExists.into()),
        Ok(_) => OpenOptions::new().write(true).open(path).map(drop),
        // The only portable proof that a folder is writable is to write in it.
        Err(_) => tempfile::tempfile_in(folder_of(path)).map(drop),
    }
}

/// The `--log` file: one JSON object per iteration, with its `scale` where there are several.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    several: bool,
    file: BufWriter<File>,
    failed: Option<io::Error>,
}

impl Log {
    /// A new file; of a run that is `resumed` after so many iterations, what an older one says of those before stays.
    pub(crate) fn create(path: &Path, overwrite: bool, scales: usize, resumed: Option<u32>) -> Result<Log> {
        if let Some(kept) = resumed.map(|done| lines_before(path, done)) {
            if kept.is_empty() && !overwrite && std::fs::metadata(path).is_ok_and(|old| old.len() > 0) {
                let hint = "give the log of the run that goes on, another name, or --overwrite";
                return Err(output_error(path, "is not a log of this run", hint));
            }
            // As a whole or not at all: a run that is killed here has lost nothing.
            write_file(path, kept.as_bytes(), true)?;
            let file = OpenOptions::new().append(true).open(path).map_err(|error| file_error(path, &error))?;
            return Ok(Log { path: path.into(), several: scales > 1, file: BufWriter::new(file), failed: None });
        }
        let mut options = OpenOptions::new();
        options.write(true).truncate(true);
        let opened = if overwrite { options.create(true) } else { options.create_new(true) }.open(path);
        let file = opened.map_err(|error| file_error(path, &error))?;
        Ok(Log { path: path.into(), several: scales > 1, file: BufWriter::new(file), failed: None })
    }

    /// Writes the reports through to the file, which others may be watching. A log that fails does not stop the run;
    /// [`Log::finish`] tells.
    pub(crate) fn write(&mut self, reports: &[Report]) {
        if self.failed.is_none() {
            self.failed = self.try_write(reports).err();
        }
    }

    fn try_write(&mut self, reports: &[Report]) -> io::Result<()> {
        for report in reports {
            let mut object = serde_json::Map::new();
            object.insert("iter".into(), report.iteration.into());
            object.insert("loss".into(), report.total_loss.into());
            if self.several {
                object.insert("scale".into(), format!("{}x{}", report.scale.width, report.scale.height).into());
            }
            for (name, value) in report.terms() {
                object.insert(name.into(), value.into());
            }
            writeln!(self.file, "{}", serde_json::Value::Object(object))?;
        }
        self.file.flush()
    }

    /// Whether the log is complete. To be asked once the picture is safe.
    pub(crate) fn finish(self) -> Result<()> {
        self.failed.map_or(Ok(()), |error| Err(file_error(&self.path, &error)))
    }
}

/// The lines of an older log about the first `done` iterations.
fn lines_before(path: &Path, done: u32) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let number = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["iter"].as_u64();
    let before = |line: &&str| number(line).is_some_and(|iteration| iteration < u64::from(done));
    text.lines().take_while(before).flat_map(|line| [line, "\n"]).collect()
}

fn file_error(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::AlreadyExists => output_error(path, "already exists", "pass --overwrite to replace it"),
        ErrorKind::NotFound if !folder_of(path).is_dir() => {
            output_error(path, "its folder does not exist", "create the folder first")
        }
        _ => output_error(path, &format!("cannot be written: {error}"), "choose another place"),
    }
}
