//! The only place that calls wgpu: adapters, pipelines, buffers, submissions.

mod context;
mod engine;
mod epoch;
mod pace;

pub use context::{AdapterReport, Gpu, GpuChoice, GpuOptions, HARDWARE, adapters};
pub use engine::GpuEngine;
