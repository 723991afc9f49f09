//! Neural style transfer on any GPU, in hand-written WGSL compute shaders on wgpu.

// The kernels' tests share helpers with the integration tests, which know the crate by this name.
#[cfg(test)]
extern crate self as impasto;

pub mod cpu;
pub mod error;
pub mod gpu;
pub mod kernel;
pub mod net;
pub mod ops;
pub mod picture;
pub mod recording;
pub mod transfer;
pub mod weights;

pub use wgpu;
