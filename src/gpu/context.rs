//! Adapter choice, limits, pipelines.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::adapters::{enumerate, kind, name, preferred};
use super::engine::GpuEngine;
use super::matrices;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::recording::{Backend, BufferTable, Choices, Engine, Faults, Matrices, Recording, Room};

/// Bytes that a job takes on a GPU at most where its settings do not say: no API tells how much is free.
pub const DEFAULT_MEMORY: u64 = 2 << 30;

/// Kernels whose shaders run without checks of their indices and loops: matrix products, whose inner loops pay for them
/// (580 against 860 GFLOP/s on an M1, by others' measurements). Each one's tests run it both ways.
#[doc(hidden)]
pub const UNCHECKED: [&str; 8] = [
    "conv3x3",
    "conv3x3_backward",
    "conv3x3_half",
    "conv3x3_half_backward",
    "gram",
    "gram_backward",
    "matmul",
    "winograd_product",
];

/// Which adapter to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GpuChoice {
    /// A discrete GPU, else an integrated one; nothing else.
    #[default]
    Hardware,
    /// As `Hardware`, else a virtual GPU or one of unknown kind, else a software renderer.
    Any,
    /// The first adapter whose name contains this, in any case.
    Name(String),
    /// The adapter with this index in [`adapters`](super::adapters()).
    Index(usize),
}

/// How to open a GPU.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Which adapter.
    pub choice: GpuChoice,
    /// Ask for WebGPU's default limits instead of the adapter's, as a browser or a careful host would.
    pub default_limits: bool,
    /// Have every shader's accesses and loops checked on the device, also those of the kernels that are known to keep to
    /// their buffers; some take half as long again.
    pub checked: bool,
    /// Failures that tests order.
    #[doc(hidden)]
    pub faults: Faults,
}

/// An open GPU. Cheap to clone; engines made on it share its pipelines. When its device is lost, a run opens a new one,
/// which all clones then use.
#[derive(Clone, Debug)]
pub struct Gpu {
    shared: Arc<Mutex<Arc<Shared>>>,
    name: String,
    /// As [`AdapterReport::kind`].
    kind: &'static str,
    adapter: String,
    /// What was measured, in place of what is supposed of its kind.
    chosen: Arc<Mutex<Option<Choices>>>,
    /// How to open it again; a host's own device cannot be.
    options: Option<GpuOptions>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) device: wgpu::Device,
    /// As [`GpuOptions::checked`].
    checked: bool,
    pub(super) queue: wgpu::Queue,
    pub(super) faults: Faults,
    /// Whether graphics debuggers are told the name of every launch.
    pub(super) names_launches: bool,
    /// What the device multiplies matrices with, if it does.
    matrices: Option<Matrices>,
    lost: Arc<AtomicBool>,
    pipelines: Mutex<HashMap<String, wgpu::ComputePipeline>>,
}

impl Gpu {
    /// Opens the adapter that the options choose.
    pub fn new(options: &GpuOptions) -> Result<Gpu> {
        let (shared, info) = open(options)?;
        Ok(Gpu::made(shared, &info, Some(options.clone())))
    }

    /// Runs on a device that the host application owns. Its error handler and lost callback are left as they are. When
    /// it is lost the run ends, since only the host can open it again.
    pub fn from_device(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Gpu {
        let shared = Shared::new(device, queue, &GpuOptions::default(), None);
        Gpu::made(shared, &adapter.get_info(), None)
    }

    fn made(shared: Shared, info: &wgpu::AdapterInfo, options: Option<GpuOptions>) -> Gpu {
        let wgpu::AdapterInfo { vendor, device, driver, driver_info, .. } = info;
        Gpu {
            shared: Arc::new(Mutex::new(Arc::new(shared))),
            name: name(info),
            kind: kind(info),
            adapter: format!("{}; {vendor:04x}:{device:04x}; {driver} {driver_info}", name(info)),
            chosen: Arc::default(),
            options,
        }
    }

    /// Adapter and driver: what a measurement holds for.
    pub fn adapter(&self) -> &str {
        &self.adapter
    }

    /// Whether it is a software renderer.
    pub fn is_software(&self) -> bool {
        self.kind == "software"
    }

    /// How jobs begun from now on compute their convolutions, on all clones.
    pub fn choose(&self, choices: Choices) {
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = Some(choices);
    }

    /// Name, backend and kind of the adapter.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The matrix units that its device was opened with; `None` where there are none, or it is the host's.
    pub fn matrices(&self) -> Option<Matrices> {
        self.shared().matrices
    }

    /// Destroys the device, as a driver's reset would.
    #[doc(hidden)]
    pub fn destroy(&self) {
        self.shared().device.destroy();
    }

    /// Bytes that the device's buffers have, where it tells.
    #[doc(hidden)]
    pub fn allocated(&self) -> Option<u64> {
        self.shared().device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    /// The failures ordered, and what happened so far.
    #[doc(hidden)]
    pub fn faults(&self) -> Faults {
        self.shared().faults.clone()
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new device in place of `dead`, or the one that another run has opened in the meantime.
    pub(super) fn reopen(&self, dead: &Arc<Shared>) -> Result<()> {
        let Some(options) = &self.options else {
            return Err(Error::DeviceLost {
                what: "it is the host application's, which alone can open it again".into(),
                hint: "give the run a new device".into(),
            });
        };
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&shared, dead) {
            *shared = Arc::new(open(options)?.0);
        }
        Ok(())
    }
}

/// Opens a device on the adapter that the options choose, and says what that is.
fn open(options: &GpuOptions) -> Result<(Shared, wgpu::AdapterInfo)> {
    let mut found = enumerate();
    let names: Vec<String> = found.iter().map(|adapter| adapter.get_info().name).collect();
    let pick = match &options.choice {
        GpuChoice::Hardware | GpuChoice::Any => {
            let kinds: Vec<&str> = found.iter().map(|adapter| kind(&adapter.get_info())).collect();
            preferred(&kinds, &options.choice)
        }
        GpuChoice::Name(name) => {
            let wanted = name.to_lowercase();
            names.iter().position(|name| name.to_lowercase().contains(&wanted))
        }
        GpuChoice::Index(index) => Some(*index).filter(|&index| index < found.len()),
    };
    let Some(pick) = pick else {
        let wish = match &options.choice {
            GpuChoice::Hardware => "no hardware adapter".to_string(),
            GpuChoice::Any => "no adapter".to_string(),
            GpuChoice::Name(name) => format!("no adapter is named `{name}`"),
            GpuChoice::Index(index) => format!("no adapter has the number {index}"),
        };
        let listed = if names.is_empty() { "none".to_string() } else { names.join(", ") };
        return Err(Error::NoDevice {
            what: format!("{wish} (found: {listed})"),
            hint: "`impasto devices` lists what there is; `--device cpu` always works".into(),
        });
    };
    let adapter = found.swap_remove(pick);
    let required_limits = if options.default_limits { wgpu::Limits::default() } else { adapter.limits() };
    let request = |matrices: Option<Matrices>| {
        let mut required_features = adapter.features() & super::profile::features();
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if matrices.is_some() {
            required_features |= wgpu::Features::SHADER_F16 | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            // SAFETY: wgpu asks for the acknowledgement that what this feature compiles is less well tested. The shaders that
            // use it stay within their buffers by their own comparisons, their workgroup arrays are indexed by constants and
            // by their own thread's number, and no run uses one before it gave on this device what the plain ones give.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("impasto"),
            required_limits: required_limits.clone(),
            required_features,
            experimental_features,
            ..Default::default()
        };
        pollster::block_on(adapter.request_device(&descriptor))
    };
    let mut matrices = matrices::usable(&adapter).filter(|_| !options.default_limits);
    let mut opened = request(matrices);
    if opened.is_err() && matrices.take().is_some() {
        // A driver that offers what it cannot open is slower, not useless.
        opened = request(None);
    }
    let (device, queue) = opened.map_err(|error| Error::NoDevice {
        what: format!("{} does not open: {error}", names[pick]),
        hint: "update the driver, or use `--device cpu`".into(),
    })?;
    let shared = Shared::new(device, queue, options, matrices);
    let lost = shared.lost.clone();
    shared.device.set_device_lost_callback(move |_, _| lost.store(true, Ordering::Relaxed));
    // By default wgpu panics on an error outside every scope; all our calls are scoped, and none may panic.
    shared.device.on_uncaptured_error(Arc::new(|_| {}));
    Ok((shared, adapter.get_info()))
}

impl Backend for Gpu {
    fn engine(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(GpuEngine::new(self)))
    }

    /// What the device binds, and [`DEFAULT_MEMORY`].
    fn room(&self) -> Room {
        let limits = self.shared().device.limits();
        Room { binding: limits.max_buffer_size.min(limits.max_storage_buffer_binding_size), memory: DEFAULT_MEMORY }
    }

    fn choices(&self) -> Choices {
        let chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        chosen.unwrap_or_else(|| super::choices::supposed(self.kind, self.matrices()))
    }

    fn overhead(&self, table: &BufferTable, recordings: &[&Recording]) -> u64 {
        super::engine::overhead(table, recordings)
    }
}

impl Shared {
    fn new(device: wgpu::Device, queue: wgpu::Queue, options: &GpuOptions, matrices: Option<Matrices>) -> Shared {
        let (checked, faults) = (options.checked, options.faults.clone());
        let flags = wgpu::InstanceFlags::from_build_config().with_env();
        let names_launches = flags.contains(wgpu::InstanceFlags::DEBUG);
        let (lost, pipelines) = (Arc::default(), Mutex::default());
        Shared { device, checked, queue, faults, names_launches, matrices, lost, pipelines }
    }

    /// Compiles a shader, without checks at run time if its kernel is one of [`UNCHECKED`].
    fn module(&self, name: &'static str, source: &'static str) -> wgpu::ShaderModule {
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(source.into()) };
        if self.checked || !UNCHECKED.contains(&name) {
            return self.device.create_shader_module(descriptor);
        }
        // SAFETY: without checks a shader must not index past its buffers, nor loop for ever. The source is compiled into
        // this library, and wgpu validates it as any other. Its indices are compared with the sizes in its parameters;
        // record functions derive those from the very tensors that they bind, whose shapes are checked against one another
        // and, when an engine prepares them, against their buffers. Its loops run over these sizes. The kernel's tests run
        // it on hundreds of odd shapes with and without checks, guard words around every buffer.
        unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    }

    /// A buffer of `size` bytes for an engine whose job holds `held` bytes already; its words are zero.
    pub(super) fn create(
        &self,
        label: &str,
        size: u64,
        held: u64,
        usage: wgpu::BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<wgpu::Buffer> {
        if !self.faults.room(size, held) {
            return Err(no_memory(label, size));
        }
        self.scoped(label, || {
            self.device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation })
        })
        .map_err(|error| if let Error::OutOfMemory { .. } = error { no_memory(label, size) } else { error })
    }

    /// The pipeline of a kernel with these constants; compiled at first use.
    pub(super) fn pipeline(
        &self,
        kernel: &'static Kernel,
        constants: &[(&'static str, f64)],
    ) -> Result<wgpu::ComputePipeline> {
        self.compiled(kernel.name, kernel.source, constants)
    }

    /// The pipeline of a shader's entry point.
    pub(super) fn compiled(
        &self,
        name: &'static str,
        source: &'static str,
        constants: &[(&'static str, f64)],
    ) -> Result<wgpu::ComputePipeline> {
        let key = format!("{name} {constants:?}");
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = self.scoped(name, || {
            let module = self.module(name, source);
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: None,
                module: &module,
                entry_point: Some(name),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants,
                    // Every kernel writes its workgroup memory before it reads it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            })
        })?;
        pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// Runs `body` with wgpu's errors caught and turned into ours. `what` names the kernel or buffer.
    pub(super) fn scoped<R>(&self, what: &str, body: impl FnOnce() -> R) -> Result<R> {
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let result = body();
        let memory = pollster::block_on(memory.pop());
        let internal = pollster::block_on(internal.pop());
        let validation = pollster::block_on(validation.pop());
        if memory.is_some() {
            return Err(no_memory(what, 0));
        }
        if let Some(error) = internal.or(validation) {
            // What a lost device hands out is invalid, and using it is a validation error: the effect, not the cause.
            if !self.answers() {
                return Err(lost("the device has gone away"));
            }
            return Err(Error::Kernel { kernel: what.into(), what: error.to_string().replace('\n', " ") });
        }
        self.check_lost()?;
        Ok(result)
    }

    /// Maps a fresh buffer, which fails at once on a lost device. A host's own device has the host's lost callback, so
    /// the flag does not tell.
    fn answers(&self) -> bool {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let probe = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("probe"),
            size: 4,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let (sender, receiver) = std::sync::mpsc::channel();
        probe.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver outlives the poll below; a later answer is of no use.
            let _ = sender.send(result.is_ok());
        });
        let polled = self.device.poll(wgpu::PollType::Poll).is_ok();
        let refused = pollster::block_on(scope.pop()).is_some();
        polled && !refused && receiver.try_recv() != Ok(false)
    }

    pub(super) fn check_lost(&self) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) { Err(lost("the driver reports a lost device")) } else { Ok(()) }
    }
}

fn no_memory(what: &str, needed: u64) -> Error {
    Error::OutOfMemory {
        what: what.into(),
        needed,
        available: 0,
        hint: "use a smaller --size or --tile, or close other programs that use the GPU".into(),
    }
}

pub(super) fn lost(what: &str) -> Error {
    Error::DeviceLost {
        // wgpu's own words may run over several lines.
        what: what.replace(char::is_control, " "),
        hint: "run again; if it happens again, update the driver or use `--device cpu`".into(),
    }
}
