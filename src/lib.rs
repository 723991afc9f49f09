//! Neural style transfer on any GPU, in hand-written WGSL compute shaders on wgpu, and on the CPU where there is none.
//!
//! ```text
//!  transfer   Config, presets, losses; StyleTransfer::new measures the targets, advance() steps and reports
//!     |
//!  net        VGG-19 by layer names; tiles with halos; pictures in bands; the plan: which kernels on which buffers
//!     |        \
//!  weights      ops     one file per kernel family: parameters, record function, CPU twin; shaders/ has the WGSL
//!  (.mat,        |
//!  safetensors,  recording   a flat list of launches over named buffers; names no wgpu object
//!  built-in)     |      \
//!               gpu     cpu     two engines that run the same recording
//! ```
//!
//! Imports go one way, `error <- kernel <- recording <- cpu, gpu <- ops <- weights <- net <- transfer`, and `picture`
//! stands beside them, `profile` above `ops`; `tests/layering.rs` holds them to it.
//!
//! Activations are `[H, W, C]` with channels fastest, padded to a multiple of four; pictures are RGB on the 0..255 scale
//! with the network's mean subtracted. The gradient with respect to the picture is exact, tiled or not; reductions have a
//! fixed order, so the same device, driver, build and settings give the same bits.
//!
//! ```no_run
//! use std::path::Path;
//! use impasto::cpu::Cpu;
//! use impasto::picture::{Picture, Rounding};
//! use impasto::transfer::{Config, StyleTransfer};
//! use impasto::weights::builtin::builtin;
//!
//! # fn main() -> impasto::error::Result<()> {
//! let config = Config { iterations: 300, ..Config::default() };
//! let weights = builtin(config.depth());
//! let content = Picture::decode(Path::new("photo.jpg"))?;
//! let style = Picture::decode(Path::new("painting.jpg"))?;
//! let mut job = StyleTransfer::new(&Cpu, &weights, &content, &[style], config)?;
//! for report in job.steps() {
//!     let report = report?;
//!     println!("{} {}", report.iteration, report.total_loss);
//! }
//! job.image()?.encode_to(Path::new("out.png"), Rounding::Nearest, false, &[])?;
//! # Ok(())
//! # }
//! ```

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
pub mod profile;
pub mod recording;
pub mod transfer;
pub mod tune;
pub mod weights;

pub use wgpu;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
