//! The only place that calls wgpu: adapters, pipelines, buffers, submissions.

mod choices;
mod context;
mod engine;
mod epoch;
mod matrices;
mod pace;
mod profile;

#[doc(hidden)]
pub use context::UNCHECKED;
pub use context::{AdapterReport, DEFAULT_MEMORY, FEATURES, Gpu, GpuChoice, GpuOptions, adapters, preferred};
pub use engine::GpuEngine;
