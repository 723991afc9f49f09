//! A recording is the network compiled for one geometry: a flat list of dispatches over named buffers.
//!
//! It names no wgpu object, so it can be printed, summed, profiled and tested, and either engine runs it.

mod choices;
mod faults;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use bytemuck::Pod;

use crate::error::{Error, Result};
use crate::kernel::{Access, Kernel, Scalar};

pub use choices::{Block, Choices, Convolution, Geometry, Matrices, Method, Pass, Rule};
pub(crate) use faults::Fate;
#[doc(hidden)]
pub use faults::Faults;

/// Index into a [`BufferTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId(pub(crate) u32);

impl BufferId {
    /// Its place in the table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a buffer is for: the rows of the memory forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Picture, gradient and optimiser state: grow with the picture.
    Image,
    /// Filters and biases.
    Weights,
    /// Features and Gram matrices of the inputs.
    Targets,
    /// Activations, gradients, masks and winners of one tile; reused by every tile.
    Tile,
    /// Gram matrices, partial sums, losses, schedules.
    Reduction,
}

/// A buffer of 4-byte elements.
#[derive(Clone, Debug)]
pub struct BufferInfo {
    /// Name shown in plans and graphics debuggers.
    pub label: String,
    /// Element type.
    pub scalar: Scalar,
    /// Number of elements.
    pub len: usize,
    /// What it is for.
    pub purpose: Purpose,
}

/// All buffers of a job. Engines allocate exactly these.
#[derive(Clone, Debug, Default)]
pub struct BufferTable {
    infos: Vec<BufferInfo>,
}

impl BufferTable {
    /// Declares a buffer that holds one tensor of `shape`.
    pub fn tensor(&mut self, label: impl Into<String>, scalar: Scalar, shape: &[usize], purpose: Purpose) -> Tensor {
        let buffer = self.add(label, scalar, shape.iter().product(), purpose);
        Tensor { buffer, scalar, shape: shape.to_vec() }
    }

    /// Declares a buffer of `len` elements (at least one: no API binds an empty buffer).
    pub fn add(&mut self, label: impl Into<String>, scalar: Scalar, len: usize, purpose: Purpose) -> BufferId {
        let id = BufferId(self.infos.len() as u32);
        self.infos.push(BufferInfo { label: label.into(), scalar, len: len.max(1), purpose });
        id
    }

    /// Enlarges a buffer that is shared by several tensors.
    pub(crate) fn grow(&mut self, buffer: BufferId, len: usize) {
        let info = &mut self.infos[buffer.index()];
        info.len = info.len.max(len);
    }

    /// Every buffer, indexed by [`BufferId`].
    pub fn infos(&self) -> &[BufferInfo] {
        &self.infos
    }

    /// One buffer.
    pub fn info(&self, buffer: BufferId) -> &BufferInfo {
        &self.infos[buffer.index()]
    }

    /// The first buffer with a label.
    pub fn find(&self, label: &str) -> Option<BufferId> {
        (0..).zip(&self.infos).find(|(_, info)| info.label == label).map(|(at, _)| BufferId(at))
    }

    /// Bytes of all buffers.
    pub fn total(&self) -> u64 {
        self.infos.iter().map(|info| 4 * info.len as u64).sum()
    }

    /// Bytes of the largest buffer.
    pub fn largest(&self) -> u64 {
        self.infos.iter().map(|info| 4 * info.len as u64).max().unwrap_or(0)
    }

    /// Bytes of all buffers of one purpose.
    pub fn bytes(&self, purpose: Purpose) -> u64 {
        self.infos.iter().filter(|info| info.purpose == purpose).map(|info| 4 * info.len as u64).sum()
    }
}

/// A view of a buffer's first elements as an array, outermost dimension first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Where the elements are.
    pub buffer: BufferId,
    /// Element type.
    pub scalar: Scalar,
    /// Dimensions, e.g. `[H, W, C]`.
    pub shape: Vec<usize>,
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True for a tensor without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One kernel launch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// What it works on: `conv2_1`, `style/relu1_2`. Shown in profiles.
    pub label: String,
    /// Parameter struct as bytes.
    pub params: Vec<u8>,
    /// Values of the shader's `override` constants.
    pub constants: Vec<(&'static str, f64)>,
    /// Tensors in the order of [`Kernel::bindings`].
    pub tensors: Vec<Tensor>,
    /// Workgroups in x, y, z.
    pub grid: [u32; 3],
    /// Floating point operations, for profiles and for the length of submissions.
    pub flops: u64,
    /// Bytes that have to be moved at least: every tensor once, unless a kernel takes part of one.
    pub bytes: u64,
}

/// One step of a recording.
#[derive(Clone, Debug)]
pub enum Command {
    /// Run a kernel.
    Dispatch(Dispatch),
    /// Fill a buffer with zeros.
    Clear(BufferId),
}

/// A list of commands in execution order.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// What the whole recording does.
    pub label: String,
    /// The commands.
    pub commands: Vec<Command>,
}

/// Everything that a record function says about one launch, besides kernel and tensors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launch {
    pub(crate) label: String,
    pub(crate) constants: Vec<(&'static str, f64)>,
    pub(crate) grid: [u32; 3],
    pub(crate) flops: u64,
    /// Where a kernel takes part of a tensor only.
    pub(crate) bytes: Option<u64>,
}

impl Recording {
    /// An empty recording.
    pub fn new(label: impl Into<String>) -> Recording {
        Recording { label: label.into(), commands: Vec::new() }
    }

    /// Fills `buffer` with zeros.
    pub fn clear(&mut self, buffer: BufferId) {
        self.commands.push(Command::Clear(buffer));
    }

    /// Appends a launch after checking names, element types, symbolic shapes and aliasing.
    pub(crate) fn dispatch<P: Pod>(
        &mut self,
        kernel: &'static Kernel,
        params: &P,
        tensors: &[(&'static str, &Tensor)],
        launch: Launch,
    ) -> Result<()> {
        let ordered = check(kernel, tensors)?;
        self.commands.push(Command::Dispatch(Dispatch {
            kernel,
            label: launch.label,
            params: bytemuck::bytes_of(params).to_vec(),
            constants: launch.constants,
            bytes: launch.bytes.unwrap_or_else(|| ordered.iter().map(|tensor| 4 * tensor.len() as u64).sum()),
            tensors: ordered,
            grid: launch.grid,
            flops: launch.flops,
        }));
        Ok(())
    }

    /// Kernels that one run launches.
    pub fn launches(&self) -> usize {
        self.commands.iter().filter(|command| matches!(command, Command::Dispatch(_))).count()
    }

    /// Floating point operations of one run.
    pub fn flops(&self) -> u64 {
        self.commands.iter().map(|command| if let Command::Dispatch(d) = command { d.flops } else { 0 }).sum()
    }
}

impl Recording {
    /// Bytes that one run has to move at least, without what it clears.
    pub fn bytes(&self) -> u64 {
        self.commands.iter().map(|command| if let Command::Dispatch(d) = command { d.bytes } else { 0 }).sum()
    }
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} commands, {:.3} GFLOP", self.label, self.commands.len(), self.flops() as f64 * 1e-9)?;
        for command in &self.commands {
            match command {
                Command::Clear(buffer) => writeln!(f, "  clear                  #{}", buffer.0)?,
                Command::Dispatch(d) => {
                    write!(f, "  {:22} {:22} grid {:?}", d.kernel.name, d.label, d.grid)?;
                    for (binding, tensor) in d.kernel.bindings.iter().zip(&d.tensors) {
                        write!(f, " {}=#{}{:?}", binding.name, tensor.buffer.0, tensor.shape)?;
                    }
                    writeln!(f)?;
                }
            }
        }
        Ok(())
    }
}

/// Tensors sorted into the kernel's declared order, or the first disagreement.
fn check(kernel: &'static Kernel, tensors: &[(&'static str, &Tensor)]) -> Result<Vec<Tensor>> {
    let reflection = kernel.reflect()?;
    let mut ordered: Vec<Tensor> = Vec::with_capacity(tensors.len());
    let mut dims: HashMap<&str, usize> = HashMap::new();
    let fail = |binding: &str, expected: String, got: String| Error::Shape {
        kernel: kernel.name,
        binding: binding.into(),
        expected,
        got,
    };
    for (binding, lanes) in kernel.bindings.iter().zip(&reflection.lanes) {
        let Some((_, tensor)) = tensors.iter().find(|(name, _)| *name == binding.name) else {
            return Err(fail(binding.name, binding.shape.into(), "nothing".into()));
        };
        if tensor.scalar != binding.scalar {
            return Err(fail(binding.name, format!("{:?}", binding.scalar), format!("{:?}", tensor.scalar)));
        }
        let symbols: Vec<&str> = binding.shape.split(' ').collect();
        if symbols.len() != tensor.shape.len() {
            return Err(fail(binding.name, binding.shape.into(), format!("{:?}", tensor.shape)));
        }
        for (symbol, &size) in symbols.iter().zip(&tensor.shape) {
            let expected = expected_size(symbol, size, &mut dims);
            if expected != Some(size) {
                let known = expected.map_or(String::new(), |n| format!(" with {symbol} = {n}"));
                return Err(fail(binding.name, format!("{}{known}", binding.shape), format!("{:?}", tensor.shape)));
            }
        }
        if tensor.shape.last().is_some_and(|size| size % lanes != 0) {
            let expected = format!("{} with a last dimension that {lanes} divides", binding.shape);
            return Err(fail(binding.name, expected, format!("{:?}", tensor.shape)));
        }
        ordered.push((*tensor).clone());
    }
    if let Some((name, _)) = tensors.iter().find(|(name, _)| kernel.bindings.iter().all(|b| b.name != *name)) {
        return Err(fail(name, "no such binding".into(), "a tensor".into()));
    }
    // Usage is tracked per whole buffer on a GPU: a written buffer must not appear twice in one launch.
    for (i, (a, (_, access))) in ordered.iter().zip(&reflection.bindings).enumerate() {
        let aliased = ordered.iter().enumerate().any(|(j, b)| i != j && a.buffer == b.buffer);
        if *access == Access::ReadWrite && aliased {
            return Err(fail(kernel.bindings[i].name, "a buffer of its own".into(), "one that is bound twice".into()));
        }
    }
    Ok(ordered)
}

/// Size that a symbol stands for. A plain letter takes the size it meets first; `X/k` needs X to be known.
fn expected_size<'a>(symbol: &'a str, size: usize, dims: &mut HashMap<&'a str, usize>) -> Option<usize> {
    if let Ok(number) = symbol.parse() {
        return Some(number);
    }
    match symbol.split_once('/') {
        Some((name, divisor)) => Some(dims.get(name)?.div_ceil(divisor.parse().ok()?)),
        None => Some(*dims.entry(symbol).or_insert(size)),
    }
}

/// Handle of a recording that an engine has prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program(pub(crate) usize);

/// The error of an engine that is asked to run a program it has not prepared.
pub(crate) fn no_program(engine: &str) -> Error {
    Error::Kernel { kernel: engine.into(), what: "no such program in this engine".into() }
}

/// What a device offers to a job, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Largest buffer that a kernel can use as a whole.
    pub binding: u64,
    /// Memory that a job may fill where its settings do not say.
    pub memory: u64,
}

impl Default for Room {
    /// No bounds.
    fn default() -> Room {
        Room { binding: u64::MAX, memory: u64::MAX }
    }
}

/// Bytes that an engine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The buffers of the table.
    pub buffers: u64,
    /// What the engine needs beside them: parameters and read-back on a GPU, scratch memory and transformed filters on
    /// the CPU.
    pub overhead: u64,
}

impl Ledger {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.buffers + self.overhead
    }
}

/// How long an engine's submissions took, from when the device was free for them until they were done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Submissions {
    /// How many are done.
    pub count: u64,
    /// The longest of all.
    pub longest: Duration,
    /// The longest of those with more than one launch: a single launch cannot be cut.
    pub longest_of_many: Duration,
    /// Of the last thousand.
    pub median: Duration,
    /// What the host took to plan, encode and submit all of them, waiting left out.
    pub host: Duration,
}

/// What the times of single launches are taken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The device's own, between launches.
    Launches,
    /// The device's own, where compute passes begin and end: every launch is a pass of its own.
    Passes,
    /// The host's: a launch on the CPU, or a submission of its own and the wait for it.
    Host,
}

/// How long each command of a recording took.
#[derive(Clone, Debug, PartialEq)]
pub struct Timings {
    /// What they were taken with.
    pub clock: Clock,
    /// Seconds of every command in order, for each repetition.
    pub seconds: Vec<Vec<f64>>,
}

/// The error of an engine that has no room for a buffer. `held` are the bytes that the job's other buffers have.
pub(crate) fn no_room(label: &str, table: &BufferTable, held: u64) -> Error {
    Error::OutOfMemory {
        what: format!("the job, for which {label} is one buffer too many,"),
        needed: table.total(),
        available: held,
        hint: "use a smaller --size or --tile, or close other programs that use the device".into(),
    }
}

/// Runs recordings. One engine serves one job and owns its buffers.
pub trait Engine: fmt::Debug + Send {
    /// Name of the device and engine, for people.
    fn describe(&self) -> String;
    /// Creates every buffer of the table, zeroed, in place of those that the engine had.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where one does not fit: the engine then has none, and their memory is free again.
    fn allocate(&mut self, table: &BufferTable) -> Result<()>;
    /// Compiles and encodes a recording; it can then be run many times.
    fn prepare(&mut self, recording: &Recording) -> Result<Program>;
    /// Runs a program `times` times in a row. Returns when the work is submitted; reads wait for it.
    fn run(&mut self, program: Program, times: u32) -> Result<()>;
    /// Runs a program `times` times in a row and times each of its commands.
    fn profile(&mut self, _: Program, _times: u32) -> Result<Timings> {
        Err(Error::Kernel { kernel: self.describe(), what: "does not time single launches".into() })
    }
    /// Replaces the first elements of a float buffer.
    fn write(&mut self, buffer: BufferId, values: &[f32]) -> Result<()>;
    /// Replaces the first elements of a buffer of words.
    fn write_words(&mut self, buffer: BufferId, values: &[u32]) -> Result<()>;
    /// A float buffer's elements, after all submitted work.
    fn read(&mut self, buffer: BufferId) -> Result<Vec<f32>>;
    /// The elements of a buffer of words, after all submitted work.
    fn read_words(&mut self, buffer: BufferId) -> Result<Vec<u32>>;
    /// Bytes held now, or at most since [`Engine::allocate`]. Zero where an engine does not count.
    fn ledger(&self) -> Ledger {
        Ledger::default()
    }
    /// An engine without buffers on a device opened anew, after this one's was lost.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] where the device cannot be opened again.
    fn reopen(&self) -> Result<Box<dyn Engine>> {
        Err(Error::DeviceLost { what: format!("{} cannot be opened again", self.describe()), hint: "run again".into() })
    }
    /// What the submissions took so far; `None` where work is not submitted.
    fn submissions(&self) -> Option<Submissions> {
        None
    }
}

/// Something that engines can be made on: a GPU, or the CPU.
pub trait Backend: fmt::Debug {
    /// A fresh engine without buffers.
    fn engine(&self) -> Result<Box<dyn Engine>>;
    /// What jobs on it may take.
    fn room(&self) -> Room {
        Room::default()
    }
    /// How jobs on it compute their convolutions.
    fn choices(&self) -> Choices {
        Choices::default()
    }
    /// Forecast of [`Ledger::overhead`] for a job with these buffers and recordings.
    fn overhead(&self, _: &BufferTable, _recordings: &[&Recording]) -> u64 {
        0
    }
}
