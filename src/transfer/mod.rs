//! Style transfer itself: configuration, losses, and the run.

mod calibrate;
mod checkpoint;
mod config;
mod forecast;
mod inputs;
mod layout;
mod lbfgs;
mod line_search;
mod losses;
mod noise;
mod normalize;
mod optimizer;
mod parts;
pub mod presets;
mod report;
mod rig;
mod run;
mod scales;
mod stage;
mod start;
mod studio;
mod targets;
mod variation;

pub use crate::recording::Convolution;
pub use calibrate::calibrate;
pub use checkpoint::Checkpoint;
pub use config::{Config, Init, Orientation, Size, StyleLoss, TotalVariation};
pub use forecast::Plan;
pub use inputs::{Inputs, Place};
pub use layout::Way;
pub use optimizer::{Adam, AdamForm, Lbfgs, Optimizer};
pub use report::Report;
pub use run::StyleTransfer;
pub use scales::Scale;
pub use studio::Studio;
pub use targets::StyleTargets;
