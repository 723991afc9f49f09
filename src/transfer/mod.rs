//! Style transfer itself: configuration, losses, and the run.

mod calibrate;
mod checkpoint;
mod config;
mod forecast;
mod layout;
mod lbfgs;
mod line_search;
mod losses;
mod noise;
mod normalize;
mod optimizer;
pub mod presets;
mod rehearsal;
mod rig;
mod run;
mod scales;
mod stage;
mod variation;

pub use crate::net::maps::Precision;
pub use crate::recording::Convolution;
pub use calibrate::calibrate;
pub use checkpoint::Checkpoint;
pub use config::{Config, Init, Orientation, Size, StyleLoss, TotalVariation};
pub use forecast::Plan;
pub use optimizer::{Adam, AdamForm, Lbfgs, Optimizer};
pub use run::{Report, StyleTransfer};
pub use scales::Scale;
