//! Takes the times.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Profile, Roofs, Row};
use crate::error::Result;
use crate::kernel::Scalar;
use crate::ops::Rect;
use crate::ops::copy_rect::{Mode, copy_rect};
use crate::ops::half::packed;
use crate::ops::roof::{CHAINS, roof_fma};
use crate::recording::{
    Backend, BufferId, BufferTable, Clock, Command, Engine, Program, Purpose, Recording, Tensor, Timings,
};

/// A roof's launch is lengthened until it takes so long.
const LONG_ENOUGH: f64 = 0.02;
/// Longest launch of a roof, in multiply-adds per value: a slow device is not kept busy for seconds.
const MOST_ROUNDS: u32 = 1 << 16;
/// Bytes of each side of the copy: beyond every cache.
const COPIED: usize = 256 << 20;

/// What is to be run: a recording and its buffers, which are filled with numbers of the usual sizes.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The buffers.
    pub buffers: &'a BufferTable,
    /// The commands.
    pub recording: &'a Recording,
}

/// A load on an engine, ready to run.
#[derive(Debug)]
pub struct Ready {
    engine: Box<dyn Engine>,
    program: Program,
    /// Read back to wait.
    word: BufferId,
}

impl Ready {
    /// Allocates, fills and prepares.
    pub fn new(backend: &dyn Backend, load: Load<'_>) -> Result<Ready> {
        let mut engine = backend.engine()?;
        let mut buffers = load.buffers.clone();
        let word = buffers.add("wait", Scalar::U32, 1, Purpose::Reduction);
        engine.allocate(&buffers)?;
        fill(engine.as_mut(), load)?;
        let program = engine.prepare(load.recording)?;
        Ok(Ready { engine, program, word })
    }

    /// Runs it so many times in a row and waits for the end: how long that took on the host's clock.
    pub fn run(&mut self, times: u32) -> Result<Duration> {
        let begin = Instant::now();
        self.engine.run(self.program, times)?;
        self.engine.read_words(self.word)?;
        Ok(begin.elapsed())
    }
}

/// Runs a load twice to warm up, `times` times as a whole, and `times` times with every command timed.
pub fn measure(backend: &dyn Backend, load: Load<'_>, times: u32, roofs: Roofs) -> Result<Profile> {
    let mut ready = Ready::new(backend, load)?;
    for _ in 0..2 {
        ready.run(1)?;
    }
    // In turns, lest a busy moment of the machine meets one of the two only.
    let (mut whole, mut clock, mut seconds) = (Vec::new(), Clock::Host, Vec::new());
    for _ in 0..times {
        whole.push(ready.run(1)?.as_secs_f64());
        let timed = ready.engine.profile(ready.program, 1)?;
        clock = timed.clock;
        seconds.extend(timed.seconds);
    }
    let rows = load.recording.commands.iter().enumerate().map(|(at, command)| {
        let mut taken: Vec<f64> = seconds.iter().filter_map(|run| run.get(at).copied()).collect();
        let (median, fastest) = (median(&mut taken), taken.first().copied().unwrap_or(0.0));
        let (kernel, label, grid, flops, bytes) = match command {
            Command::Clear(buffer) => {
                let info = load.buffers.info(*buffer);
                ("clear", info.label.clone(), [0; 3], 0, 4 * info.len as u64)
            }
            Command::Dispatch(d) => (d.kernel.name, d.label.clone(), d.grid, d.flops, d.bytes),
        };
        Row { kernel: kernel.into(), label, grid, flops, bytes, median, fastest }
    });
    Ok(Profile { device: ready.engine.describe(), clock, roofs, rows: rows.collect(), whole: median(&mut whole) })
}

/// Every tensor of every launch.
fn tensors(recording: &Recording) -> impl Iterator<Item = &Tensor> {
    recording.commands.iter().flat_map(|command| match command {
        Command::Dispatch(dispatch) => dispatch.tensors.as_slice(),
        Command::Clear(_) => &[],
    })
}

/// Sorts, and gives the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Numbers without denormals, infinities or NaN, which some devices take longer over, and not all zero, which some take less
/// power for. Words of a map are two such halves, which make masks with bits of both kinds, too.
fn fill(engine: &mut dyn Engine, load: Load<'_>) -> Result<()> {
    let mut seen = HashSet::new();
    for tensor in tensors(load.recording) {
        let info = load.buffers.info(tensor.buffer);
        let counts = tensor.scalar == Scalar::U32 && tensor.shape.len() < 3;
        if counts || !seen.insert(tensor.buffer.index()) {
            continue;
        }
        let scale = if info.purpose == Purpose::Weights { 0.05 } else { 1.0 };
        let value = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 8 & 0xffff) as f32 / 65536.0 - 0.25) * scale;
        let signed = info.purpose == Purpose::Weights || info.label.starts_with("image");
        let values = |len: usize| -> Vec<f32> {
            (0..len).map(|i| if signed { value(i) } else { value(i).abs() + 1e-3 }).collect()
        };
        match tensor.scalar {
            Scalar::F32 => engine.write(tensor.buffer, &values(info.len))?,
            Scalar::U32 => engine.write_words(tensor.buffer, &packed(&values(2 * info.len)))?,
        }
    }
    Ok(())
}

/// Measures what a device can do, in about a second.
pub fn roofs(backend: &dyn Backend) -> Result<Roofs> {
    // As many threads as any device runs at once, for the multiply-adds.
    let rows = 1 << 14;
    let mut rounds = 64;
    let flops = loop {
        let rate = best(backend, |table| {
            let values = table.tensor("values", Scalar::F32, &[rows, CHAINS], Purpose::Tile);
            let mut recording = Recording::new("roof");
            roof_fma(&mut recording, &values, rounds, [0.75, 0.25])?;
            Ok(recording)
        })?;
        if rate.took >= LONG_ENOUGH || rounds >= MOST_ROUNDS {
            break rate.flops;
        }
        rounds *= 4;
    };
    let side = backend.room().binding.min(COPIED as u64) / 16;
    let width = 4096;
    let height = (side as usize / width).max(1);
    let copied = best(backend, |table| {
        let mut map = |label: &str| table.tensor(label, Scalar::F32, &[height, width, 4], Purpose::Tile);
        let (from, to): (Tensor, Tensor) = (map("from"), map("to"));
        let mut recording = Recording::new("roof");
        copy_rect(&mut recording, "roof", (&from, Rect::whole(height, width)), (&to, 0, 0), Mode::Replace)?;
        Ok(recording)
    })?;
    Ok(Roofs { flops, bytes: copied.bytes })
}

struct Best {
    took: f64,
    flops: f64,
    bytes: f64,
}

/// The best of some repetitions of a recording with one launch.
fn best(backend: &dyn Backend, record: impl FnOnce(&mut BufferTable) -> Result<Recording>) -> Result<Best> {
    let mut table = BufferTable::default();
    let recording = record(&mut table)?;
    let mut engine = backend.engine()?;
    engine.allocate(&table)?;
    fill(engine.as_mut(), Load { buffers: &table, recording: &recording })?;
    let program = engine.prepare(&recording)?;
    let begin = Instant::now();
    let mut took = f64::MAX;
    // A device wakes up, and a processor's clock rises, in the first tenths of a second.
    while begin.elapsed() < Duration::from_millis(250) || took == f64::MAX {
        let Timings { seconds, .. } = engine.profile(program, 3)?;
        took = seconds.iter().flatten().copied().filter(|seconds| *seconds > 0.0).fold(took, f64::min);
        if took == f64::MAX && begin.elapsed() > Duration::from_secs(2) {
            took = begin.elapsed().as_secs_f64();
        }
    }
    let (mut flops, mut bytes) = (0, 0);
    for command in &recording.commands {
        if let Command::Dispatch(dispatch) = command {
            flops += dispatch.flops;
            bytes += dispatch.bytes;
        }
    }
    Ok(Best { took, flops: flops as f64 / took, bytes: bytes as f64 / took })
}
