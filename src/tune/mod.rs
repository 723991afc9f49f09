//! Which way of computing a convolution is right on the user's own adapter, and which is fastest there.
//!
//! [`tune`] compares every method with the plain one on a small case, forward and backward, drops those that disagree or
//! fail, and times the rest on the shapes of VGG-19, but for matrix units, which are taken wherever maps are halves. [`settle`] does so once for each adapter, driver and build, and keeps
//! what it found in a folder: choices bear on the last bits of a result, so they must not change from run to run.

mod check;
mod file;
mod time;

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::net::alone::Alone;
use crate::recording::{Backend, Block, Choices, Engine, Faults, Geometry, Method, Rule};

/// Values that pictures and filters of a test case are made of: a prime number of them, so that no row equals the next.
const NOISE: usize = 1_048_573;
/// A process that ended so often while it checked a method was ended by it.
const STRIKES: u32 = 2;
/// How long another process that tunes the same adapter is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a tuning may take, and on which pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Effort {
    /// Edges of square pictures, the most important first.
    pub sizes: Vec<usize>,
    /// No timing is begun after this; if checks took most of it, after a third of it more. Checks are not cut short.
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
            // A large map's beginning: uploading all of it would take longer than what is timed.
            let count = tensor.len().min(NOISE);
            let values: Vec<f32> = self.noise.iter().cycle().skip(first).take(count).copied().collect();
            self.engine.write(tensor.buffer, &values)?;
        }
        Ok(())
    }
}

/// Checks and times every method on a device. `suspects` are dropped unseen; `trying` is told each method before it is run,
/// and `None` when that has ended well.
///
/// # Errors
/// Where the plain method fails, or the device is lost for good.
pub fn tune(
    backend: &dyn Backend,
    effort: &Effort,
    suspects: &[Method],
    faults: &Faults,
    mut trying: impl FnMut(Option<Method>),
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
        trying(Some(method));
        match check::agrees(&mut bench, method, &plain) {
            Ok(()) => right.push(method),
            Err(why) => dropped.push(Dropped { method, why: why? }),
        }
        trying(None);
    }
    let (singles, units): (Vec<Method>, Vec<Method>) = right.into_iter().partition(|method| method.takes_singles());
    // Some time is left for it where shaders took long to compile.
    let deadline = (begin + effort.limit).max(Instant::now() + effort.limit / 3);
    let timings = time::all(&mut bench, (&effort.sizes, deadline), &singles, &mut trying, &mut dropped)?;
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
    /// It was tuned now, and is kept.
    Now,
    /// It was tuned now, and cannot be kept.
    Unkept,
}

/// Gives a GPU the choices that suit it: those in the folder if they are there and whole and `again` is not asked for, else
/// those that it finds now, which it keeps. `None` where there are none and `effort` is `None`, or where another process
/// has been at it for ten seconds. Where nothing can be kept, methods are checked and not timed: the next run would find
/// other times, and its bits would be others.
///
/// # Errors
/// Where the plain method fails, or the device is lost for good.
pub fn settle(gpu: &Gpu, folder: &Path, effort: Option<&Effort>, again: bool) -> Result<Option<(Tuned, Source)>> {
    let key = file::key(gpu.adapter());
    let place = Place::of(folder, &key);
    let read = || fs::read_to_string(&place.file).ok().and_then(|text| file::parse(&text, &key));
    let found = match (read().filter(|_| !again), effort) {
        (Some(kept), _) => Some((kept, Source::Kept)),
        (None, None) => None,
        (None, Some(effort)) => match place.lock() {
            Lock::Busy => None,
            // Another process was at it: what it found is what this one takes.
            Lock::Held(lock) => match read().filter(|_| !again) {
                Some(kept) => Some((kept, Source::Kept)),
                None => {
                    let tuned = place.tune(gpu, &key, effort)?;
                    let source = if place.keep(&tuned).is_ok() { Source::Now } else { Source::Unkept };
                    drop(lock);
                    Some((tuned, source))
                }
            },
            Lock::Nowhere => {
                let effort = Effort { sizes: if again { effort.sizes.clone() } else { Vec::new() }, ..effort.clone() };
                Some((place.tune(gpu, &key, &effort)?, Source::Unkept))
            }
        },
    };
    if let Some((tuned, _)) = &found {
        gpu.choose(tuned.choices.clone());
    }
    Ok(found)
}

/// Whether this process may tune.
enum Lock {
    /// While this lives.
    Held(File),
    /// Another one does.
    Busy,
    /// There is no folder to keep anything in.
    Nowhere,
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

    /// Waits for other processes, but not for ever.
    fn lock(&self) -> Lock {
        let open = || {
            fs::create_dir_all(self.lock.parent()?).ok()?;
            File::options().create(true).append(true).open(&self.lock).ok()
        };
        let Some(file) = open() else { return Lock::Nowhere };
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Lock::Held(file),
                Err(TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => sleep(Duration::from_millis(50)),
                Err(TryLockError::WouldBlock) => return Lock::Busy,
                // A file system without locks.
                Err(TryLockError::Error(_)) => return Lock::Held(file),
            }
        }
    }

    fn tune(&self, gpu: &Gpu, key: &str, effort: &Effort) -> Result<Tuned> {
        let (strikes, suspects) = self.suspects();
        let tried = tune(gpu, effort, &suspects, &gpu.faults(), |method| self.try_out(&strikes, method));
        self.forget();
        Ok(Tuned { key: key.into(), ..tried? })
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

    /// Says that a method is about to be run, or that none is.
    fn try_out(&self, before: &[(Method, u32)], now: Option<Method>) {
        let strikes = |method| before.iter().find(|(known, _)| *known == method).map_or(0, |(_, strikes)| *strikes);
        let others = before.iter().copied().filter(|(known, _)| Some(*known) != now);
        let lines = others.chain(now.map(|method| (method, strikes(method) + 1)));
        // Without it a crash is met again, no worse.
        let text: String = lines.map(|(method, strikes)| format!("{strikes} {method}\n")).collect();
        let _ = fs::write(&self.trying, text);
    }

    fn forget(&self) {
        match fs::remove_file(&self.trying) {
            Err(error) if error.kind() != ErrorKind::NotFound => drop(fs::write(&self.trying, "")),
            _ => {}
        }
    }

    /// Written aside and moved into place.
    fn keep(&self, tuned: &Tuned) -> std::io::Result<()> {
        let folder = self.file.parent().ok_or(ErrorKind::NotFound)?;
        let mut aside = tempfile::NamedTempFile::new_in(folder)?;
        aside.write_all(file::text(tuned).as_bytes())?;
        aside.as_file().sync_all()?;
        aside.persist(&self.file)?;
        Ok(())
    }
}
