//! What a result says about how it was made, and `impasto rerun`, which makes it again from that.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser};
use impasto::error::{Error, Result};
use impasto::picture;
use impasto::transfer::{Config, Way};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::args::{Arguments, Command, Options};
use super::stylize::{Job, Repeats};
use super::{Outcome, demo, note, one_line, stylize};

/// The key of PNG's text chunk.
const KEY: &str = "impasto";

#[derive(Args, Debug)]
pub(crate) struct Rerun {
    /// Result of an earlier run, PNG or JPEG
    result: PathBuf,
    /// Where to write the new result; OUT_again.EXT beside the old one if not given
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// The content picture, if it is no longer where it was
    #[arg(long)]
    content: Option<PathBuf>,
    /// The style picture, if it is no longer where it was
    #[arg(long, short)]
    style: Vec<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    overwrite: bool,
    /// Print errors only
    #[arg(long, short)]
    quiet: bool,
}

/// Options of a run that its result does not depend on, and whether a value follows.
const OWN: [(&str, bool); 15] = [
    // What it came to is among them.
    ("--config", true),
    ("-o", true),
    ("--output", true),
    ("--log", true),
    ("--plot", true),
    ("--print-every", true),
    ("--preview", false),
    ("--save-every", true),
    ("--checkpoint-every", true),
    ("--fail-allocation", true),
    ("--no-checkpoint", false),
    ("--resume", false),
    ("--overwrite", false),
    ("--quiet", false),
    ("-q", false),
];

/// The arguments without some options.
fn without(arguments: impl Iterator<Item = String>, options: &[(&str, bool)]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut skip = false;
    for argument in arguments {
        if std::mem::take(&mut skip) {
            continue;
        }
        let (name, value) = argument.split_once('=').map_or((&argument[..], false), |(name, _)| (name, true));
        match options.iter().find(|(option, _)| *option == name) {
            Some((_, follows)) => skip = *follows && !value,
            // Short options together, the last with its value attached or following.
            None => match name.strip_prefix('-').map(|short| short.trim_start_matches('q')) {
                Some("") if name.len() > 1 => {}
                Some("o") => skip = true,
                Some(short) if short.starts_with('o') => {}
                _ => kept.push(argument),
            },
        }
    }
    kept
}

/// How a picture was made.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// As the command line had them, without the program and what the result does not depend on.
    pub(crate) arguments: Vec<String>,
    /// Absolute paths of the files that were read, with their digests.
    pub(crate) files: Vec<(PathBuf, String)>,
    about: Map<String, Value>,
}

impl Record {
    /// Of the process's own arguments, and those that come from a configuration file.
    pub(crate) fn new(files: &[&Path], options: &Options, config: &Config) -> Result<Record> {
        let mut given = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
        let command = given.next();
        let mut arguments = without(command.into_iter().chain(options.from_file.iter().cloned()).chain(given), &OWN);
        if let Some(file) = std::path::absolute(&options.weights).ok().filter(|file| file.is_file()) {
            // Rerun from anywhere.
            let (file, typed) = (file.to_string_lossy(), options.weights.as_str());
            for at in 1..arguments.len() {
                if arguments[at - 1] == "--weights" && arguments[at] == typed {
                    arguments[at] = file.to_string();
                } else if arguments[at].strip_prefix("--weights=") == Some(typed) {
                    arguments[at] = format!("--weights={file}");
                }
            }
        }
        let file = |path: &&Path| Ok((std::path::absolute(path).unwrap_or_else(|_| path.into()), digest(path)?));
        let settings: Map<String, Value> =
            config.described().into_iter().map(|(key, value)| (key, value.into())).collect();
        let about = Map::from_iter([
            ("version".to_string(), env!("CARGO_PKG_VERSION").into()),
            ("settings".to_string(), settings.into()),
        ]);
        Ok(Record { arguments, files: files.iter().map(file).collect::<Result<_>>()?, about })
    }

    /// Adds what is known once the run has begun.
    pub(crate) fn add(&mut self, key: &str, value: impl Into<Value>) {
        self.about.insert(key.into(), value.into());
    }

    /// For a picture after so many iterations, cut up like this: the metadata of a file.
    pub(crate) fn metadata(&self, iterations: u32, ways: &[Way]) -> Vec<(String, String)> {
        let files: Vec<Value> =
            self.files.iter().map(|(path, sha256)| json!({"path": path.to_string_lossy(), "sha256": sha256})).collect();
        let mut object = self.about.clone();
        object.insert("arguments".into(), self.arguments.clone().into());
        object.insert("files".into(), files.into());
        object.insert("iterations".into(), iterations.into());
        object.insert("tiles".into(), ways.iter().map(Way::to_string).collect());
        let software = format!("impasto {}", env!("CARGO_PKG_VERSION"));
        vec![("Software".into(), software), (KEY.into(), Value::Object(object).to_string())]
    }
}

fn digest(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| Error::Picture {
        path: path.into(),
        what: format!("cannot be read: {error}"),
        hint: "check the path and its permissions".into(),
    })?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a result says.
#[derive(Debug)]
struct Found {
    arguments: Vec<String>,
    files: Vec<(PathBuf, String)>,
    iterations: u32,
    weights: String,
    device: String,
    /// How its scales were cut up; none in what older versions wrote.
    ways: Vec<Way>,
    kernels: Option<String>,
    version: String,
    settings: Map<String, Value>,
}

fn read(path: &Path) -> Result<Found> {
    let fail = |what: &str, hint: &str| Error::Picture { path: path.into(), what: what.into(), hint: hint.into() };
    let text = picture::read_metadata(path, KEY)?
        .ok_or_else(|| fail("does not say how it was made", "give a PNG or JPEG that impasto wrote, as it wrote it"))?;
    let parse = || -> Option<Found> {
        let value: Value = serde_json::from_str(&text).ok()?;
        let texts = |value: &Value| -> Option<Vec<String>> {
            value.as_array()?.iter().map(|value| value.as_str().map(String::from)).collect()
        };
        let file = |value: &Value| Some((value["path"].as_str()?.into(), value["sha256"].as_str()?.to_string()));
        Some(Found {
            arguments: texts(&value["arguments"])?,
            files: value["files"].as_array()?.iter().map(file).collect::<Option<_>>()?,
            iterations: value["iterations"].as_u64()?.try_into().ok()?,
            weights: value["weights_sha256"].as_str()?.into(),
            device: value["device"].as_str()?.into(),
            ways: match value.get("tiles") {
                Some(ways) => texts(ways)?.iter().map(|way| way.parse().ok()).collect::<Option<_>>()?,
                None => Vec::new(),
            },
            kernels: value["kernels"].as_str().map(String::from),
            version: value["version"].as_str()?.into(),
            settings: value["settings"].as_object()?.clone(),
        })
    };
    parse().ok_or_else(|| fail("says how it was made in words that are damaged", "give the file as impasto wrote it"))
}

/// Runs `impasto rerun`.
pub(crate) fn run(arguments: &Rerun) -> Result<Outcome> {
    let path = &arguments.result;
    let found = read(path)?;
    let fail = |what: String, hint: &str| Error::Picture { path: path.clone(), what, hint: hint.into() };
    let output = arguments.output.clone().unwrap_or_else(|| picture::beside(path, "again"));
    let mut line: Vec<OsString> = found.arguments.iter().map(OsString::from).collect();
    // After the command, since nothing after `--` is an option.
    let after = line.len().min(1);
    line.splice(after..after, ["-o".into(), output.clone().into()]);
    let line = std::iter::once("impasto".into()).chain(line);
    let parsed = Arguments::try_parse_from(line).map_err(|error| {
        let what = one_line(error.to_string().lines().next().unwrap_or_default());
        fail(format!("was made with options that this version does not know: {what}"), "use the version that made it")
    })?;
    let same = "the file that it was";
    let mut files = found.files.iter();
    let mut next = |new: Option<&PathBuf>, option: &str| -> Result<PathBuf> {
        let Some((old, sha256)) = files.next() else {
            return Err(fail("says too little about how it was made".into(), "give the file as impasto wrote it"));
        };
        let place = new.unwrap_or(old).clone();
        if !place.is_file() {
            let hint = if option == same { "put it back".into() } else { format!("give it as {option}") };
            return Err(Error::Picture { path: place, what: "is no longer there".into(), hint });
        }
        if digest(&place)? != *sha256 {
            let what = "is not the file that the result was made from".into();
            let hint = format!("give the one with SHA-256 {sha256} as {option}");
            return Err(Error::Picture { path: place, what, hint });
        }
        Ok(place)
    };
    let (mut stylize, mut demo);
    let mut job = match parsed.command {
        Command::Stylize(was) => {
            stylize = was;
            // A folder was every picture in it.
            let styles = found.files.len().saturating_sub(1 + stylize.options.picture_files().count());
            stylize.style = (0..styles).map(|i| next(arguments.style.get(i), "--style FILE")).collect::<Result<_>>()?;
            stylize.content = vec![next(arguments.content.as_ref(), "--content FILE")?];
            for place in stylize.options.picture_files_mut() {
                *place = next(None, same)?.to_string_lossy().into_owned();
            }
            stylize.options.repeat(arguments.overwrite, arguments.quiet);
            stylize::job(&stylize.content[0], &stylize)?
        }
        Command::Demo(was) => {
            demo = was;
            for place in demo.options.picture_files_mut() {
                *place = next(None, same)?.to_string_lossy().into_owned();
            }
            demo.options.repeat(arguments.overwrite, arguments.quiet);
            Job { sheet: None, ..demo::job(&demo)? }
        }
        _ => return Err(fail("was made by a command that makes no pictures".into(), "give a result of impasto")),
    };
    for (name, value) in job.config.described() {
        let was = found.settings.get(&name).and_then(Value::as_str).unwrap_or("nothing");
        if was != value && name != "memory" {
            let what = format!("was made by impasto {} with {name} {was}, where this one has {value}", found.version);
            return Err(fail(what, "use the version that made it"));
        }
    }
    job.config.ways = found.ways;
    let Found { iterations, weights, device, kernels, .. } = found;
    job.repeats = Some(Repeats { iterations, weights, device, kernels });
    job.record.arguments = found.arguments;
    if !arguments.quiet && found.version != env!("CARGO_PKG_VERSION") {
        note!("note: made by impasto {}; its bits may be others", one_line(&found.version));
    }
    job.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_leaves_out_where_the_files_of_the_run_went() {
        let arguments = "stylize a.png -s b.png -o out.png -n 3 --log=x.jsonl --plot y.svg --resume -oz.png -qo w.png -q -qov.png --overwrite";
        let kept = without(arguments.split(' ').map(String::from), &OWN);
        assert_eq!(kept.join(" "), "stylize a.png -s b.png -n 3");
    }
}
