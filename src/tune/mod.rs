//! Which way of computing a convolution is right on the user's own adapter, and which is fastest there.
//!
//! [`tune`] compares every method with the plain one on a small case, forward and backward, drops those that disagree or
//! fail, and times the rest on the shapes of VGG-19, but for matrix units, which are taken wherever maps are halves. [`settle`] does so once for each adapter, driver and build, and keeps
//! what it found in a folder: choices bear on the last bits of a result, so they must not change from run to run.

mod check;
mod file;
mod time;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::net::alone::Alone;
use crate::recording::{Backend, Block, Choices, Engine, Faults, Geometry, Method, Rule};

/// Values that pictures and filters of a test case are made of: a prime number of them, so that no row equals the next.
const NOISE: usize = 1_048_573;
/// A process that ended so often while it checked a method was ended by it.
const STRIKES: u32 = 2;

/// How long a tuning may take, and on which pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Effort {
    /// Edges of square pictures, the most important first.
    pub sizes: Vec<usize>,
    /// No timing is begun after this. Checks are not cut short.
    pub limit: Duration,
}

impl Effort {
    /// What a first run takes, without being asked.
    pub fn unasked() -> Effort {
        Effort { sizes: vec![512, 224], limit: Duration::from_millis(2500) }
    }
}

/// A method timed on one convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// The convolution and its way.
    pub geometry: Geometry,
    /// How it was computed.
    pub method: Method,
    /// The fastest of some repetitions.
    pub seconds: f64,
}

/// A method that is not used on an adapter, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Which one.
    pub method: Method,
    /// In words.
    pub why: String,
}

/// What is known of an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// What it holds for: adapter, driver, version and shaders.
    pub key: String,
    /// What was fastest, and right.
    pub choices: Choices,
    /// What was wrong.
    pub dropped: Vec<Dropped>,
    /// Everything that was timed.
    pub timings: Vec<Timing>,
    /// How long it took.
    pub took: Duration,
}

/// Methods that are checked and timed: blocks for maps of some size. Those for the picture's three channels have no rival.
pub fn methods() -> Vec<Method> {
    let blocks = [Block::SQUARE, Block::LARGE, Block::TALL, Block::WIDE];
    blocks.map(Method::Direct).into_iter().chain(blocks.map(Method::Winograd)).collect()
}

/// What tuning works with.
struct Bench<'a> {
    backend: &'a dyn Backend,
    engine: Box<dyn Engine>,
    faults: &'a Faults,
    noise: Vec<f32>,
}

impl Bench<'_> {
    /// A lost device is opened again, so that a method that loses it is one that does not count.
    fn recover(&mut self, error: &Error) -> Result<()> {
        if let Error::DeviceLost { .. } = error {
            self.engine = self.engine.reopen()?;
        }
        Ok(())
    }

    /// Fills the buffers of a case with noise.
    fn load(&mut self, case: &Alone) -> Result<()> {
        self.engine.allocate(&case.table)?;
        for (tensor, first) in [(&case.input, 0), (&case.d_output, 7)] {
            let values: Vec<f32> = self.noise.iter().cycle().skip(first).take(tensor.len()).copied().collect();
            self.engine.write(tensor.buffer, &values)?;
        }
        Ok(())
    }
}

/// Checks and times every method on a device. `suspects` are dropped unseen; `trying` is told before each method is run
/// for the first time.
///
/// # Errors
/// Where the plain method fails, or the device is lost for good.
pub fn tune(
    backend: &dyn Backend,
    effort: &Effort,
    suspects: &[Method],
    faults: &Faults,
    mut trying: impl FnMut(Method),
) -> Result<Tuned> {
    let begin = Instant::now();
    let word = |at: u32| at.wrapping_mul(2_654_435_761) >> 8;
    let noise = (1..=NOISE as u32).map(|at| word(at) as f32 / 8_388_608.0 - 1.0).collect();
    let mut bench = Bench { backend, engine: backend.engine()?, faults, noise };
    let mut dropped = Vec::new();
    let mut right = Vec::new();
    let plain = check::plain(&mut bench)?;
    // Matrix units have no rival among maps in half precision: they are checked, and not timed.
    let supposed = backend.choices();
    let units = supposed.matrices().map(Method::Cooperative);
    for method in methods().into_iter().chain(units) {
        if suspects.contains(&method) {
            dropped.push(Dropped { method, why: "the program was ended while it was checked, twice".into() });
            continue;
        }
        trying(method);
        match check::agrees(&mut bench, method, &plain) {
            Ok(()) => right.push(method),
            Err(why) => dropped.push(Dropped { method, why: why? }),
        }
    }
    let (singles, units): (Vec<Method>, Vec<Method>) = right.into_iter().partition(|method| method.takes_singles());
    let timings = time::all(&mut bench, effort, begin, &singles)?;
    let mut choices = Choices { rules: units.into_iter().map(Rule::always).collect() };
    choices.rules.extend(time::rules(&timings));
    // What was not timed is as supposed, if it is right.
    let left = supposed.rules.into_iter().filter(|rule| dropped.iter().all(|dropped| dropped.method != rule.method));
    choices.rules.extend(left.filter(|rule| rule.method.takes_singles()));
    Ok(Tuned { key: String::new(), choices, dropped, timings, took: begin.elapsed() })
}

/// Where [`settle`] found what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the folder.
    Kept,
    /// It was tuned now.
    Now,
}

/// Gives a GPU the choices that suit it: those in the folder if they are there and whole and `again` is not asked for, else
/// those that it finds now, which it keeps. `None` where there are none and `effort` is `None`.
///
/// # Errors
/// Where the plain method fails, or the device is lost for good. A folder that cannot be written to is none.
pub fn settle(gpu: &Gpu, folder: &Path, effort: Option<&Effort>, again: bool) -> Result<Option<(Tuned, Source)>> {
    let key = file::key(gpu.adapter());
    let place = Place::of(folder, &key);
    // Another process may be at it: what it finds is what this one takes.
    let _lock = effort.and_then(|_| place.lock());
    let kept =
        if again { None } else { fs::read_to_string(&place.file).ok().and_then(|text| file::parse(&text, &key)) };
    let found = match (kept, effort) {
        (Some(kept), _) => Some((kept, Source::Kept)),
        (None, None) => None,
        (None, Some(effort)) => {
            let (strikes, suspects) = place.suspects();
            let tried = tune(gpu, effort, &suspects, &gpu.faults(), |method| place.try_out(&strikes, method));
            place.forget();
            let tuned = Tuned { key, ..tried? };
            place.keep(&tuned);
            Some((tuned, Source::Now))
        }
    };
    if let Some((tuned, _)) = &found {
        gpu.choose(tuned.choices.clone());
    }
    Ok(found)
}

/// The files of an adapter.
struct Place {
    file: PathBuf,
    /// There while a method is run for the first time: the method, and how often that has ended a process before.
    trying: PathBuf,
    lock: PathBuf,
}

impl Place {
    fn of(folder: &Path, key: &str) -> Place {
        let name = |extension: &str| folder.join(format!("{}.{extension}", file::digest(key)));
        Place { file: name("json"), trying: name("trying"), lock: name("lock") }
    }

    /// Waits for other processes. Where there are no locks, or no folder, there is nothing to wait for.
    fn lock(&self) -> Option<File> {
        fs::create_dir_all(self.lock.parent()?).ok()?;
        let file = File::options().create(true).append(true).open(&self.lock).ok()?;
        file.lock().ok().map(|()| file)
    }

    /// What a process that ended has left: each method with its strikes, and those that have too many.
    fn suspects(&self) -> (Vec<(Method, u32)>, Vec<Method>) {
        let text = fs::read_to_string(&self.trying).unwrap_or_default();
        let entry = |line: &str| {
            let (strikes, method) = line.split_once(' ')?;
            Some((method.parse().ok()?, strikes.parse::<u32>().ok()?))
        };
        let strikes: Vec<(Method, u32)> = text.lines().filter_map(entry).collect();
        let out = strikes.iter().filter(|(_, strikes)| *strikes >= STRIKES).map(|(method, _)| *method).collect();
        (strikes, out)
    }

    /// Says that a method is about to be run.
    fn try_out(&self, before: &[(Method, u32)], method: Method) {
        let strikes = before.iter().find(|(known, _)| *known == method).map_or(0, |(_, strikes)| *strikes);
        let others = before.iter().filter(|(known, _)| *known != method);
        let lines =
            others.copied().chain([(method, strikes + 1)]).map(|(method, strikes)| format!("{strikes} {method}\n"));
        // Without it a crash is met again, no worse.
        let _ = fs::write(&self.trying, lines.collect::<String>());
    }

    fn forget(&self) {
        match fs::remove_file(&self.trying) {
            Err(error) if error.kind() != ErrorKind::NotFound => drop(fs::write(&self.trying, "")),
            _ => {}
        }
    }

    /// Written aside and moved into place; what cannot be kept is found again.
    fn keep(&self, tuned: &Tuned) {
        let Some(folder) = self.file.parent() else { return };
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(folder)?;
            let aside = tempfile::NamedTempFile::new_in(folder)?;
            fs::write(aside.path(), file::text(tuned))?;
            aside.persist(&self.file)?;
            Ok(())
        };
        let _ = write();
    }
}
