//! What a run stands on, the engine and the scales laid out for it, and what is done when the engine fails: a lost device
//! is opened again once, and where memory runs out the tiles become smaller.

use std::time::{Duration, Instant};

use super::config::Config;
use super::layout::{Stage, Way};
use super::lbfgs::Memory;
use super::stage::{Carry, Queue, Running};
use super::start::write_values;
use crate::error::{Error, Result};
use crate::net::bands::Bands;
use crate::net::maps::Precision;
use crate::recording::Engine;

/// Edges of the tiles that are tried when memory runs out, in pixels. All are multiples of every grid.
const EDGES: [usize; 7] = [1024, 768, 512, 384, 256, 192, 128];
/// Least time between two looks at the state. At 512x512 one takes 12 MB, some milliseconds through any bus; what a lost
/// device costs is then a few seconds' work, which happens to few runs once.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// A look at the state may take one part in so many of the time, where the picture is large or the bus slow.
const KEEP_SHARE: u32 = 50;

/// A state of the scale at work that the device has vouched for.
#[derive(Debug)]
pub(super) struct Kept {
    /// Iterations of the whole run that it has behind it.
    pub(super) iteration: u32,
    /// Every vector by name, the picture that is the result first.
    pub(super) values: Vec<(String, Vec<f32>)>,
    pub(super) memory: Memory,
    pub(super) counter: Vec<u32>,
}

impl Kept {
    /// The picture as `[H, W, 4]`.
    pub(super) fn image(&self) -> &[f32] {
        self.values.first().map_or(&[], |(_, values)| values)
    }
}

#[derive(Debug)]
pub(super) struct Rig {
    pub(super) engine: Box<dyn Engine>,
    pub(super) queue: Queue,
    pub(super) config: Config,
    /// The scale whose buffers the engine has or should have.
    at: usize,
    /// What was done about failures, for people.
    pub(super) notes: Vec<String>,
    /// The engine has not the state that it should have: it failed, and was not put right yet.
    pub(super) stale: bool,
    /// The device has been lost since the state that a run would go on from.
    struck: bool,
    keep_every: Duration,
    last_look: Instant,
    look_took: Duration,
}

impl Rig {
    /// The error of a run whose losses or picture stopped being finite.
    pub(super) fn diverged(&self, term: String, iteration: u32) -> Error {
        let halves = if self.config.precision == Precision::F16 { ", or use --precision f32" } else { "" };
        let hint = format!("lower --learning-rate, or the weights of the losses{halves}");
        Error::NonFinite { term, iteration, hint }
    }

    pub(super) fn new(engine: Box<dyn Engine>, queue: Queue, config: Config) -> Rig {
        Rig {
            engine,
            queue,
            config,
            at: 0,
            notes: Vec::new(),
            stale: false,
            struck: false,
            keep_every: KEEP_EVERY,
            last_look: Instant::now(),
            look_took: Duration::ZERO,
        }
    }

    pub(super) fn keep_every(&mut self, interval: Duration) {
        self.keep_every = interval;
    }

    /// Runs `work` on the engine, which is put right as long as it fails and can be.
    pub(super) fn attempt<R>(&mut self, mut work: impl FnMut(&mut Rig) -> Result<R>) -> Result<R> {
        loop {
            match work(self) {
                Ok(result) => return Ok(result),
                Err(error) => self.survive(error)?,
            }
        }
    }

    /// See [`Queue::check_room`].
    pub(super) fn check_room(&mut self) -> Result<()> {
        self.at = self.queue.len().saturating_sub(1);
        self.queue.check_room(self.engine.as_mut())
    }

    /// Begins a scale from what the one before has left.
    pub(super) fn begin(&mut self, scale: usize, first: u32, left: Option<&Carry>) -> Result<Running> {
        self.at = scale;
        let running = self.queue.begin(scale, self.engine.as_mut(), &self.config, (first, left))?;
        self.stale = false;
        Ok(running)
    }

    /// Prepares for another attempt after a failure, or gives up with an error that says what to do.
    pub(super) fn survive(&mut self, error: Error) -> Result<()> {
        self.stale |= matches!(error, Error::DeviceLost { .. } | Error::OutOfMemory { .. });
        match error {
            Error::DeviceLost { what, .. } => self.reopen(what),
            Error::OutOfMemory { .. } => self.smaller(error),
            other => Err(other),
        }
    }

    fn reopen(&mut self, what: String) -> Result<()> {
        if self.struck {
            return Err(Error::DeviceLost {
                what: format!("{what}, for the second time within seconds of work"),
                hint: "use a smaller --size or --tile, update the driver, or use `--device cpu`".into(),
            });
        }
        self.engine = self.engine.reopen().map_err(|error| Error::DeviceLost {
            what: match &error {
                Error::DeviceLost { what: why, .. } => format!("{what}; {why}"),
                other => format!("{what}, and cannot be opened again: {other}"),
            },
            hint: error.hint().into(),
        })?;
        self.struck = true;
        self.notes.push(format!("the device was lost ({what}); opened again: {}", self.engine.describe()));
        Ok(())
    }

    /// Lays the scale that found no room out in the next smaller tiles that need less.
    fn smaller(&mut self, error: Error) -> Result<()> {
        let Some(stage) = self.queue.stage(self.at) else { return Err(error) };
        let (before, needed) = (stage.way, stage.bytes());
        // Computing the content's features anew takes time: smaller tiles come first.
        for recompute in [false, true] {
            for edge in EDGES {
                let tile = before.tile.map_or(edge, |before| before.min(edge));
                let way = Way { tile: Some(tile), recompute: before.recompute || recompute };
                if self.queue.lay_out_again(self.at, &self.config, way, needed) {
                    let now = self.queue.stage(self.at).map_or(0, Stage::bytes);
                    let anew = if recompute { ", with the content's features computed anew," } else { "" };
                    self.notes.push(format!("{error}; in tiles of {tile} pixels{anew} it needs {now} bytes"));
                    return Ok(());
                }
            }
        }
        Err(match error {
            Error::OutOfMemory { what, needed: asked, available, .. } => Error::OutOfMemory {
                what,
                // Where an engine cannot say more than that one buffer found no room, the job's need is still known.
                needed: if available == 0 { asked.max(needed) } else { asked },
                available,
                hint: "no smaller tile helps: use a smaller --size, or --device cpu".into(),
            },
            other => other,
        })
    }

    /// Whether it is time to look at the state: what a lost device, and a run that diverges, go back to.
    pub(super) fn look_is_due(&self) -> bool {
        let share = self.look_took.saturating_mul(KEEP_SHARE).min(self.keep_every.saturating_mul(100));
        let interval = self.keep_every.max(share);
        self.last_look.elapsed() >= interval
    }

    /// Reads the state, which a run can go on from later. `None` where the picture is not finite: it is not worth going
    /// back to.
    pub(super) fn look(&mut self, running: &Running, iteration: u32) -> Result<Option<Kept>> {
        let begin = Instant::now();
        let engine = self.engine.as_mut();
        let read = |(name, bands): (String, &Bands)| Ok((name, bands.read(engine)?));
        let values = running.state().into_iter().map(read).collect::<Result<Vec<_>>>()?;
        let counter = self.engine.read_words(running.counter.buffer)?;
        (self.last_look, self.look_took) = (Instant::now(), begin.elapsed());
        if values.iter().any(|(_, values)| values.iter().any(|value| !value.is_finite())) {
            return Ok(None);
        }
        self.trust();
        Ok(Some(Kept { iteration, values, memory: running.memory(), counter }))
    }

    /// There is a new state to go on from: the device may be lost once more.
    pub(super) fn trust(&mut self) {
        self.struck = false;
        self.last_look = Instant::now();
    }

    /// Puts the engine into the state after `iteration` iterations: the scale begins
    /// again, from what was kept of it if anything was, and repeats the iterations since.
    pub(super) fn restore(
        &mut self,
        running: &mut Running,
        left: Option<&Carry>,
        kept: Option<&Kept>,
        iteration: u32,
    ) -> Result<()> {
        *running = self.begin(running.scale.index, running.first, left)?;
        let engine = self.engine.as_mut();
        let mut from = running.first;
        if let Some(kept) = kept {
            for ((_, bands), (_, values)) in running.state().into_iter().zip(&kept.values) {
                write_values(engine, bands, values)?;
            }
            running.set_memory(&kept.memory);
            self.engine.write_words(running.counter.buffer, &kept.counter)?;
            from = kept.iteration;
        }
        running.iterate(self.engine.as_mut(), from - running.first, iteration - from).map(drop)
    }
}
