//! Runs recordings over plain vectors.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::forecast;
use crate::error::{Error, Result};
use crate::kernel::{Access, Call, Real, Scalar, Scratch, Slot};
use crate::recording::{
    Backend, BufferId, BufferInfo, BufferTable, Clock, Command, Dispatch, Engine, Faults, Ledger, Program, Recording,
    Room, Timings, no_program, no_room,
};

/// The CPU as a device: single precision on every core (`RAYON_NUM_THREADS` limits them).
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Backend for Cpu {
    fn engine(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(CpuEngine::<f32>::new()))
    }

    /// Half of the memory that is available; buffers are bounded by nothing else.
    fn room(&self) -> Room {
        Room { memory: forecast::available_memory() / 2, ..Room::default() }
    }

    fn overhead(&self, table: &BufferTable, recordings: &[&Recording]) -> u64 {
        forecast::bytes(recordings, forecast::keeps(table))
    }
}

/// The CPU with failures that tests order.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct FaultyCpu(pub Faults);

impl Backend for FaultyCpu {
    fn engine(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(CpuEngine::<f32> { faults: self.0.clone(), ..CpuEngine::new() }))
    }

    fn room(&self) -> Room {
        Cpu.room()
    }

    fn overhead(&self, table: &BufferTable, recordings: &[&Recording]) -> u64 {
        Cpu.overhead(table, recordings)
    }
}

/// The CPU in double precision: what the other engines are measured against.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuOracle;

impl Backend for CpuOracle {
    fn engine(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(CpuEngine::<f64>::new()))
    }
}

#[derive(Debug)]
enum Storage<T> {
    Floats(Vec<T>),
    Words(Vec<u32>),
}

/// Runs recordings through the CPU twins; with `T = f64` it is the oracle of the tests.
#[derive(Debug)]
pub struct CpuEngine<T: Real> {
    storage: Vec<Storage<T>>,
    /// One per buffer: what twins made of its values, e.g. transformed filters.
    derived: Vec<OnceLock<Vec<T>>>,
    /// Whether large ones are kept.
    keeps: bool,
    scratch: Scratch,
    programs: Vec<Recording>,
    faults: Faults,
}

impl<T: Real> Default for CpuEngine<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Real> CpuEngine<T> {
    /// An engine without buffers.
    pub fn new() -> CpuEngine<T> {
        CpuEngine {
            storage: Vec::new(),
            derived: Vec::new(),
            keeps: true,
            scratch: Scratch::default(),
            programs: Vec::new(),
            faults: Faults::default(),
        }
    }

    /// Has large filters transformed for each use, as a job beyond 1 GiB has. Comes after [`Engine::allocate`].
    #[cfg(test)]
    pub(crate) fn forget_large_filters(&mut self) {
        self.keeps = false;
    }

    /// What is forecast for the scratch memory and transformed filters of a recording.
    #[cfg(test)]
    pub(crate) fn forecast(&self, recording: &Recording) -> u64 {
        forecast::bytes(&[recording], self.keeps)
    }

    /// A float buffer in the engine's own precision.
    pub fn values(&self, buffer: BufferId) -> Result<&[T]> {
        match self.storage.get(buffer.index()) {
            Some(Storage::Floats(values)) => Ok(values),
            _ => Err(no_buffer("float")),
        }
    }

    /// A float buffer in the engine's own precision, to be changed.
    pub fn values_mut(&mut self, buffer: BufferId) -> Result<&mut [T]> {
        if let Some(derived) = self.derived.get_mut(buffer.index()) {
            derived.take();
        }
        match self.storage.get_mut(buffer.index()) {
            Some(Storage::Floats(values)) => Ok(values),
            _ => Err(no_buffer("float")),
        }
    }

    fn words_mut(&mut self, buffer: BufferId) -> Result<&mut Vec<u32>> {
        match self.storage.get_mut(buffer.index()) {
            Some(Storage::Words(values)) => Ok(values),
            _ => Err(no_buffer("word")),
        }
    }

    fn dispatch(&mut self, dispatch: &Dispatch) -> Result<()> {
        let reflection = dispatch.kernel.reflect()?;
        // Written buffers are taken out, so that the others can be borrowed beside them. Recordings never bind a
        // written buffer twice, so each is there to be taken.
        let mut written: Vec<Option<Storage<T>>> = dispatch
            .tensors
            .iter()
            .zip(&reflection.bindings)
            .map(|(tensor, (_, access))| {
                (*access == Access::ReadWrite)
                    .then(|| std::mem::replace(&mut self.storage[tensor.buffer.index()], Storage::Words(Vec::new())))
            })
            .collect();
        let mut slots = Vec::with_capacity(dispatch.tensors.len());
        for (tensor, taken) in dispatch.tensors.iter().zip(&mut written) {
            let len = tensor.len();
            slots.push(match taken {
                Some(Storage::Floats(values)) => Slot::Write(&mut values[..len]),
                Some(Storage::Words(values)) => Slot::WriteWords(&mut values[..len]),
                None => match &self.storage[tensor.buffer.index()] {
                    Storage::Floats(values) => Slot::Read(&values[..len]),
                    Storage::Words(values) => Slot::ReadWords(&values[..len]),
                },
            });
        }
        let derived = dispatch.tensors.iter().map(|tensor| &self.derived[tensor.buffer.index()]).collect();
        let mut call = Call {
            kernel: dispatch.kernel,
            params: &dispatch.params,
            slots,
            derived,
            keeps: self.keeps,
            scratch: &self.scratch,
        };
        let result = T::twin(dispatch.kernel.twin)(&mut call);
        for (tensor, taken) in dispatch.tensors.iter().zip(written) {
            if let Some(storage) = taken {
                self.storage[tensor.buffer.index()] = storage;
                self.derived[tensor.buffer.index()].take();
            }
        }
        result
    }
}

impl<T: Real> CpuEngine<T> {
    /// Runs a program `times` times and tells the index and duration of each of its commands.
    fn each(&mut self, program: Program, times: u32, mut done: impl FnMut(usize, Duration)) -> Result<()> {
        let slot = self.programs.get_mut(program.0).ok_or_else(|| no_program("cpu engine"))?;
        let recording = std::mem::take(slot);
        let mut commands = (0..times).flat_map(|_| recording.commands.iter().enumerate());
        let result = commands.try_for_each(|(at, command)| {
            let begin = Instant::now();
            match command {
                Command::Dispatch(dispatch) => self.dispatch(dispatch)?,
                Command::Clear(buffer) => match &mut self.storage[buffer.index()] {
                    Storage::Floats(values) => values.fill(T::zero()),
                    Storage::Words(values) => values.fill(0),
                },
            }
            done(at, begin.elapsed());
            Ok(())
        });
        self.programs[program.0] = recording;
        result
    }
}

/// Storage for a buffer; `None` where there is no room for it.
fn zeroed<T: Real>(info: &BufferInfo) -> Option<Storage<T>> {
    fn zeros<N: Clone>(len: usize, zero: N) -> Option<Vec<N>> {
        let mut values = Vec::new();
        values.try_reserve_exact(len).ok()?;
        values.resize(len, zero);
        Some(values)
    }
    match info.scalar {
        Scalar::F32 => zeros(info.len, T::zero()).map(Storage::Floats),
        Scalar::U32 => zeros(info.len, 0).map(Storage::Words),
    }
}

fn no_buffer(kind: &str) -> Error {
    Error::Kernel { kernel: "cpu engine".into(), what: format!("no such {kind} buffer") }
}

impl<T: Real> CpuEngine<T> {
    fn check(&self, buffer: BufferId, len: usize) -> Result<()> {
        let capacity = match self.storage.get(buffer.index()) {
            Some(Storage::Floats(values)) => values.len(),
            Some(Storage::Words(values)) => values.len(),
            None => 0,
        };
        if len > capacity {
            return Err(Error::Kernel {
                kernel: "cpu engine".into(),
                what: format!("{len} elements do not fit in buffer #{} of {capacity}", buffer.index()),
            });
        }
        Ok(())
    }
}

impl<T: Real> Engine for CpuEngine<T> {
    fn describe(&self) -> String {
        format!("CPU engine ({}, {} threads)", T::NAME, rayon::current_num_threads())
    }

    fn allocate(&mut self, table: &BufferTable) -> Result<()> {
        self.programs.clear();
        self.storage.clear();
        self.scratch = Scratch::default();
        self.derived.clear();
        self.keeps = forecast::keeps(table);
        self.derived.resize_with(table.infos().len(), OnceLock::new);
        let mut held = 0;
        for info in table.infos() {
            let bytes = 4 * info.len as u64;
            let storage = if self.faults.room(bytes, held) { zeroed(info) } else { None };
            let Some(storage) = storage else {
                self.storage = Vec::new();
                return Err(no_room(&info.label, table, held));
            };
            self.storage.push(storage);
            held += bytes;
        }
        Ok(())
    }

    fn prepare(&mut self, recording: &Recording) -> Result<Program> {
        for command in &recording.commands {
            match command {
                Command::Clear(buffer) => self.check(*buffer, 1)?,
                Command::Dispatch(dispatch) => {
                    for tensor in &dispatch.tensors {
                        self.check(tensor.buffer, tensor.len())?;
                    }
                }
            }
        }
        if !T::ORACLE {
            let pieces = forecast::pieces(&[recording], self.keeps);
            self.scratch.reserve(&pieces).map_err(|_| Error::OutOfMemory {
                what: "scratch memory".into(),
                needed: pieces.iter().sum::<usize>() as u64,
                available: 0,
                hint: "use a smaller --size or --tile".into(),
            })?;
        }
        self.programs.push(recording.clone());
        Ok(Program(self.programs.len() - 1))
    }

    fn run(&mut self, program: Program, times: u32) -> Result<()> {
        self.each(program, times, |_, _| ())
    }

    fn profile(&mut self, program: Program, times: u32) -> Result<Timings> {
        let mut seconds: Vec<Vec<f64>> = Vec::new();
        self.each(program, times, |at, took| {
            if at == 0 {
                seconds.push(Vec::new());
            }
            if let Some(run) = seconds.last_mut() {
                run.push(took.as_secs_f64());
            }
        })?;
        Ok(Timings { clock: Clock::Host, seconds })
    }

    fn write(&mut self, buffer: BufferId, values: &[f32]) -> Result<()> {
        self.check(buffer, values.len())?;
        for (to, from) in self.values_mut(buffer)?.iter_mut().zip(values) {
            *to = T::of(*from);
        }
        Ok(())
    }

    fn write_words(&mut self, buffer: BufferId, values: &[u32]) -> Result<()> {
        self.check(buffer, values.len())?;
        self.words_mut(buffer)?[..values.len()].copy_from_slice(values);
        Ok(())
    }

    fn read(&mut self, buffer: BufferId) -> Result<Vec<f32>> {
        Ok(self.values(buffer)?.iter().map(|value| value.wide() as f32).collect())
    }

    fn read_words(&mut self, buffer: BufferId) -> Result<Vec<u32>> {
        Ok(self.words_mut(buffer)?.clone())
    }

    fn ledger(&self) -> Ledger {
        let size = size_of::<T>();
        let bytes = |storage: &Storage<T>| match storage {
            Storage::Floats(values) => values.capacity() * size,
            Storage::Words(values) => values.capacity() * 4,
        };
        let derived = self.derived.iter().filter_map(OnceLock::get).map(|values| values.capacity() * size);
        Ledger {
            buffers: self.storage.iter().map(bytes).sum::<usize>() as u64,
            overhead: derived.sum::<usize>() as u64 + self.scratch.bytes(),
        }
    }
}
