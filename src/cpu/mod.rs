//! The CPU engine: the same recordings, run through the kernels' twins.

/// A function compiled for the best instructions of the processor at hand, and run with those: plain loops over slices
/// become vector loops. (Closures will not do: what they are called through is not compiled so.)
macro_rules! vectorized {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident<T>($($argument:ident: $type:ty),+ $(,)?) $body:block) => {
        $(#[$meta])*
        $visibility fn $name<'a, T: $crate::kernel::Real>($($argument: $type),+) {
            struct Pass<'a, T> { $($argument: $type,)+ lanes: std::marker::PhantomData<&'a T> }
            impl<'a, T: $crate::kernel::Real> pulp::WithSimd for Pass<'a, T> {
                type Output = ();
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) {
                    let Pass { $($argument,)+ .. } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Pass { $($argument,)+ lanes: std::marker::PhantomData });
        }
    };
}
pub(crate) use vectorized;

mod convolve;
mod engine;
mod forecast;
mod instructions;
mod matmul;
mod winograd;

pub(crate) use convolve::{Linear, Rows};
#[doc(hidden)]
pub use engine::FaultyCpu;
pub use engine::{Cpu, CpuEngine, CpuOracle};
pub use instructions::instructions;
pub(crate) use matmul::{Matrix, matmul};
pub(crate) use winograd::G as WINOGRAD_FILTER;
