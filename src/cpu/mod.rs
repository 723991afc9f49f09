//! The CPU engine: the same recordings, run through the kernels' twins.

mod engine;
mod matmul;

pub use engine::{Cpu, CpuEngine, CpuOracle};
pub(crate) use matmul::{Matrix, matmul};
