//! Neural style transfer on any GPU, in hand-written WGSL compute shaders on wgpu.

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
