//! The CPU engine: the same recordings, run through the kernels' twins.

mod engine;
mod instructions;
mod matmul;

pub use engine::{Cpu, CpuEngine, CpuOracle};
pub use instructions::instructions;
pub(crate) use matmul::{Matrix, matmul};
