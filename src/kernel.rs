//! What a kernel is: a WGSL file, the host's declaration of its bindings and parameters, and its CPU twin.
//!
//! WGSL is the truth. The host declares the symbolic shape of every binding once; names, access, binding numbers and the
//! workgroup size are read from the shader by naga. `tests/shaders.rs` walks every kernel and fails on any drift.

pub mod registers;
pub mod translate;

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use bytemuck::Pod;

use crate::error::{Error, Result};

/// Scalar type of a buffer; both are 4 bytes wide on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// IEEE single precision. The f64 oracle widens these buffers to doubles.
    F32,
    /// Unsigned words: masks, winners, counters.
    U32,
}

/// A binding as the host declares it.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Name of the variable in the shader.
    pub name: &'static str,
    /// Space-separated dimensions, outermost first: a letter or word (`H`, `Ci`), a number, or `X/k` for ⌈X/k⌉.
    pub shape: &'static str,
    /// Element type, `vec4` counted as four elements.
    pub scalar: Scalar,
}

/// Shorthand for a float binding.
pub const fn float(name: &'static str, shape: &'static str) -> Binding {
    Binding { name, shape, scalar: Scalar::F32 }
}

/// Shorthand for a binding of unsigned words.
pub const fn words(name: &'static str, shape: &'static str) -> Binding {
    Binding { name, shape, scalar: Scalar::U32 }
}

/// One kernel: file, entry point, label, CPU twin and profile row share its name.
#[derive(Debug)]
pub struct Kernel {
    /// Name of the file in `shaders/` and of the entry point.
    pub name: &'static str,
    /// The shader's text.
    pub source: &'static str,
    /// Storage bindings in the order in which the twin receives them.
    pub bindings: &'static [Binding],
    /// Fields of the uniform parameter struct, in order: all are 4 bytes wide.
    pub params: &'static [(&'static str, Scalar)],
    /// What a device must have for it.
    pub needs: Needs,
    /// The same computation on the CPU.
    pub twin: Twin,
}

/// What a kernel asks of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Needs {
    /// What WebGPU promises: the shader can be said in every language.
    #[default]
    Nothing,
    /// Products of 16x16 matrices by a subgroup, and halves as a type.
    Matrices16,
    /// The same of 8x8 matrices.
    Matrices8,
}

impl Needs {
    /// What naga's validator lets pass.
    pub fn capabilities(self) -> naga::valid::Capabilities {
        use naga::valid::Capabilities;
        // `pack2x16float` and its inverse, which every device has that conforms to WebGPU.
        let promised = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        match self {
            Needs::Nothing => promised,
            Needs::Matrices16 | Needs::Matrices8 => {
                promised | Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX
            }
        }
    }

    /// Why a shader with these needs is not said in a language; `None` where it is.
    pub fn excused(self, language: &str) -> Option<&'static str> {
        match (self, language) {
            (Needs::Nothing, _) | (_, "SPIR-V") | (Needs::Matrices8, "MSL") => None,
            (Needs::Matrices16, "MSL") => Some("Metal multiplies 8x8 matrices only"),
            (_, "HLSL") => Some("Direct3D 12 has no such matrices that naga could write"),
            _ => Some("OpenGL has neither halves nor such matrices"),
        }
    }
}

/// A kernel's CPU twin in both precisions: f32 to work with, f64 as the oracle of the tests.
#[derive(Clone, Copy, Debug)]
pub struct Twin {
    /// Single precision.
    pub f32: fn(&mut Call<'_, f32>) -> Result<()>,
    /// Double precision.
    pub f64: fn(&mut Call<'_, f64>) -> Result<()>,
}

/// Declares a `#[repr(C)]` parameter struct together with the field list that the shader is checked against.
macro_rules! params {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident : $kind:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$field_meta])* pub $field: $kind),+ }
        impl $name {
            /// Field names and types in memory order.
            pub const FIELDS: &'static [(&'static str, $crate::kernel::Scalar)] =
                &[$((stringify!($field), $crate::kernel::params!(@scalar $kind))),+];
        }
    };
    (@scalar u32) => { $crate::kernel::Scalar::U32 };
    (@scalar f32) => { $crate::kernel::Scalar::F32 };
}
pub(crate) use params;

/// Declares a kernel: shader text by name, twin instantiated in both precisions.
macro_rules! kernel {
    ($name:literal, $params:ident, $twin:ident, [$($binding:expr),+ $(,)?]) => {
        $crate::kernel::Kernel {
            name: $name,
            source: include_str!(concat!("../../shaders/", $name, ".wgsl")),
            bindings: &[$($binding),+],
            params: $params::FIELDS,
            needs: $crate::kernel::Needs::Nothing,
            twin: $crate::kernel::Twin { f32: $twin::<f32>, f64: $twin::<f64> },
        }
    };
}
pub(crate) use kernel;

/// Floating point type of a twin.
pub trait Real:
    num_traits::Float + num_traits::NumAssign + std::iter::Sum + Default + Send + Sync + Pod + std::fmt::Debug
{
    /// Widens or keeps a single.
    fn of(value: f32) -> Self;
    /// Rounds or keeps a double.
    fn of_wide(value: f64) -> Self;
    /// For reports and comparisons.
    fn wide(self) -> f64;
    /// The value itself where `keep` is all ones, zero where it is zero.
    fn kept(self, keep: u32) -> Self;
    /// The twin of this precision.
    fn twin(twin: Twin) -> fn(&mut Call<'_, Self>) -> Result<()>;
    /// Name for people.
    const NAME: &'static str;
    /// The oracle's precision: its twins take the plainest way.
    const ORACLE: bool;
}

impl Real for f32 {
    #[inline(always)]
    fn of(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    fn of_wide(value: f64) -> f32 {
        value as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn kept(self, keep: u32) -> f32 {
        f32::from_bits(self.to_bits() & keep)
    }
    fn twin(twin: Twin) -> fn(&mut Call<'_, f32>) -> Result<()> {
        twin.f32
    }
    const NAME: &'static str = "f32";
    const ORACLE: bool = false;
}

impl Real for f64 {
    #[inline(always)]
    fn of(value: f32) -> f64 {
        f64::from(value)
    }
    #[inline(always)]
    fn of_wide(value: f64) -> f64 {
        value
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn kept(self, keep: u32) -> f64 {
        if keep == 0 { 0.0 } else { self }
    }
    fn twin(twin: Twin) -> fn(&mut Call<'_, f64>) -> Result<()> {
        twin.f64
    }
    const NAME: &'static str = "f64";
    const ORACLE: bool = true;
}

/// A buffer as a twin sees it, cut to the tensor's length.
#[derive(Debug)]
pub enum Slot<'a, T> {
    /// Floats, read only.
    Read(&'a [T]),
    /// Floats, read and written.
    Write(&'a mut [T]),
    /// Words, read only.
    ReadWords(&'a [u32]),
    /// Words, read and written.
    WriteWords(&'a mut [u32]),
}

/// One call of a twin.
#[derive(Debug)]
pub struct Call<'a, T> {
    /// The kernel called.
    pub kernel: &'static Kernel,
    /// Parameter struct as bytes.
    pub params: &'a [u8],
    /// Buffers in the order of [`Kernel::bindings`].
    pub slots: Vec<Slot<'a, T>>,
    /// For each slot, what twins made of its values; the engine forgets it when they change.
    pub derived: Vec<&'a OnceLock<Vec<T>>>,
    /// Whether large ones among them may stay, instead of being made anew for each call.
    pub keeps: bool,
    /// Memory for intermediate results.
    pub scratch: &'a Scratch,
}

/// Memory that twins borrow and give back, so that an iteration allocates none once the first has run. The smallest
/// piece that fits is lent, so that pieces reserved for the largest, the second largest … need of a launch are enough.
#[derive(Debug, Default)]
pub struct Scratch(Mutex<Vec<Vec<u64>>>);

impl Scratch {
    /// Runs `work` with `len` elements of any value.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is no room for them.
    pub fn with<T: Pod, R>(&self, len: usize, work: impl FnOnce(&mut [T]) -> R) -> Result<R> {
        let words = (len * size_of::<T>()).div_ceil(8);
        let mut memory = self.take(words);
        if memory.len() < words {
            let more = words - memory.len();
            memory.try_reserve_exact(more).map_err(|_| no_room("intermediate results", 8 * words))?;
            memory.resize(words, 0);
        }
        let result = work(&mut bytemuck::cast_slice_mut(&mut memory[..words])[..len]);
        self.free().push(memory);
        Ok(result)
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, words: usize) -> Vec<u64> {
        let mut free = self.free();
        let fitting = (0..free.len()).filter(|at| free[*at].len() >= words).min_by_key(|at| free[*at].len());
        let chosen = fitting.or_else(|| (0..free.len()).max_by_key(|at| free[*at].len()));
        chosen.map(|at| free.swap_remove(at)).unwrap_or_default()
    }

    /// Has pieces of these bytes at least, the largest first.
    pub(crate) fn reserve(&self, pieces: &[usize]) -> std::result::Result<(), std::collections::TryReserveError> {
        let mut free = self.free();
        free.sort_unstable_by_key(|memory| std::cmp::Reverse(memory.len()));
        for (at, words) in pieces.iter().map(|bytes| bytes.div_ceil(8)).enumerate() {
            if at == free.len() {
                free.push(Vec::new());
            }
            if free[at].len() < words {
                // Nothing of the old piece is needed, which may go first.
                free[at] = Vec::new();
                free[at].try_reserve_exact(words)?;
                free[at].resize(words, 0);
            }
        }
        Ok(())
    }

    /// Bytes held while nothing is lent.
    pub(crate) fn bytes(&self) -> u64 {
        self.free().iter().map(|memory| 8 * memory.capacity() as u64).sum()
    }
}

/// The error of an allocation that failed.
pub(crate) fn no_room(what: &str, bytes: usize) -> Error {
    let hint = "use a smaller --size or --tile, or shallower layers".into();
    Error::OutOfMemory { what: what.into(), needed: bytes as u64, available: 0, hint }
}

impl<T> Call<'_, T> {
    /// The parameter struct.
    pub fn params<P: Pod>(&self) -> Result<P> {
        bytemuck::try_pod_read_unaligned(self.params).map_err(|_| self.mismatch("parameter struct"))
    }

    /// The error of a twin whose slots are not what it declares.
    pub fn mismatch(&self, what: &str) -> Error {
        Error::Kernel {
            kernel: self.kernel.name.into(),
            what: format!("twin called with another {what} than declared"),
        }
    }
}

/// How a shader uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
}

/// What naga says about a shader.
#[derive(Debug)]
pub struct Reflection {
    /// Parsed and validated module.
    pub module: naga::Module,
    /// naga's validation result, which translation to other languages needs.
    pub info: naga::valid::ModuleInfo,
    /// Binding number of the parameter struct.
    pub params_binding: u32,
    /// `(binding number, access)` of each declared binding, in the order of [`Kernel::bindings`].
    pub bindings: Vec<(u32, Access)>,
    /// Scalars per element of each declared binding: 4 for `array<vec4<f32>>`. They divide the last dimension.
    pub lanes: Vec<usize>,
}

impl Kernel {
    /// Parses, validates and reflects the shader; once per process and kernel.
    pub fn reflect(&'static self) -> Result<&'static Reflection> {
        static DONE: LazyLock<Mutex<HashMap<&'static str, &'static Reflection>>> = LazyLock::new(Mutex::default);
        let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reflection) = done.get(self.name) {
            return Ok(reflection);
        }
        // Leaked on purpose: a handful of small modules that live as long as the kernel list itself.
        let reflection: &'static Reflection = Box::leak(Box::new(reflect(self)?));
        done.insert(self.name, reflection);
        Ok(reflection)
    }
}

fn reflect(kernel: &Kernel) -> Result<Reflection> {
    let fail = |what: String| Error::Kernel { kernel: kernel.name.into(), what };
    let module = naga::front::wgsl::parse_str(kernel.source)
        .map_err(|error| fail(format!("does not parse: {}", error.emit_to_string(kernel.source))))?;
    let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), kernel.needs.capabilities())
        .validate(&module)
        .map_err(|error| fail(format!("does not validate: {}", error.emit_to_string(kernel.source))))?;

    let mut params_binding = None;
    let mut found = HashMap::new();
    for (_, variable) in module.global_variables.iter() {
        let (Some(name), Some(binding)) = (variable.name.as_deref(), variable.binding) else { continue };
        match variable.space {
            naga::AddressSpace::Uniform => params_binding = Some(binding.binding),
            naga::AddressSpace::Storage { access } => {
                let access = if access.contains(naga::StorageAccess::STORE) { Access::ReadWrite } else { Access::Read };
                found.insert(name, (binding.binding, access, lanes(&module, variable.ty)));
            }
            _ => {}
        }
    }
    let (mut bindings, mut all_lanes) = (Vec::new(), Vec::new());
    for binding in kernel.bindings {
        let (number, access, lanes) =
            found.remove(binding.name).ok_or_else(|| fail(format!("shader has no binding `{}`", binding.name)))?;
        bindings.push((number, access));
        all_lanes.push(lanes);
    }
    if let Some(name) = found.keys().next() {
        return Err(fail(format!("shader binds `{name}`, which the host does not declare")));
    }
    let params_binding = params_binding.ok_or_else(|| fail("shader has no uniform parameters".into()))?;
    Ok(Reflection { params_binding, bindings, lanes: all_lanes, module, info })
}

/// Scalars per element of an array.
fn lanes(module: &naga::Module, array: naga::Handle<naga::Type>) -> usize {
    let naga::TypeInner::Array { base, .. } = module.types[array].inner else { return 1 };
    module.types[base].inner.vector_size_and_scalar().and_then(|(size, _)| size).map_or(1, |size| size as usize)
}
