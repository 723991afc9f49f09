//! The only place that calls wgpu: adapters, pipelines, buffers, submissions.

mod adapters;
mod choices;
mod context;
mod engine;
mod epoch;
mod matrices;
mod pace;
mod profile;

pub use adapters::{AdapterReport, FEATURES, adapters, preferred};
#[doc(hidden)]
pub use context::UNCHECKED;
pub use context::{DEFAULT_MEMORY, Gpu, GpuChoice, GpuOptions};
pub use engine::GpuEngine;
