//! The files of a run. What it writes is checked before the first second is spent: nothing it reads is ever replaced, no
//! two of its files are the same, every one can be written.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, canonicalize};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use impasto::error::{Error, Result};
use impasto::picture::{check_output, numbered};
use impasto::transfer::Report;

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
    pub(crate) overwrite: bool,
}

impl Outputs<'_> {
    /// Fails where writing could not succeed, or would replace one of `inputs` or another output. Leaves nothing behind.
    pub(crate) fn check<'i>(&self, inputs: impl IntoIterator<Item = &'i Path>) -> Result<()> {
        let mut taken: HashMap<PathBuf, &str> =
            inputs.into_iter().map(|input| (place(input), "is one of the files that the run reads")).collect();
        let mut claim = |path: &Path| match taken.insert(place(path), "is named for two of the run's files") {
            Some(what) => Err(output_error(path, what, "choose another name: this one is never replaced")),
            None => Ok(()),
        };
        for picture in [Some(self.picture), self.sheet].into_iter().flatten() {
            claim(picture)?;
            check_output(picture, self.overwrite)?;
        }
        if let Some(log) = self.log {
            claim(log)?;
            check_log(log, self.overwrite).map_err(|error| log_error(log, &error))?;
        }
        if let every @ 1.. = self.save_every {
            for iteration in (every..=self.iterations).step_by(every as usize) {
                let path = numbered(self.picture, iteration);
                claim(&path)?;
                if iteration == every || path.exists() {
                    check_output(&path, self.overwrite)?;
                }
            }
        }
        Ok(())
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

fn check_log(path: &Path, overwrite: bool) -> io::Result<()> {
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
    pub(crate) fn create(path: &Path, overwrite: bool, scales: usize) -> Result<Log> {
        let mut options = OpenOptions::new();
        options.write(true).truncate(true);
        let opened = if overwrite { options.create(true) } else { options.create_new(true) }.open(path);
        let file = opened.map_err(|error| log_error(path, &error))?;
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
        self.failed.map_or(Ok(()), |error| Err(log_error(&self.path, &error)))
    }
}

fn log_error(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::AlreadyExists => output_error(path, "already exists", "pass --overwrite to replace it"),
        ErrorKind::NotFound if !folder_of(path).is_dir() => {
            output_error(path, "its folder does not exist", "create the folder first")
        }
        _ => output_error(path, &format!("cannot be written: {error}"), "choose another place for --log"),
    }
}
