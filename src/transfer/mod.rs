//! Style transfer itself: configuration, losses, and the run.

mod calibrate;
mod config;
mod forecast;
mod layout;
mod losses;
mod noise;
mod optimizer;
pub mod presets;
mod rig;
mod run;
mod scales;
mod stage;

pub use calibrate::calibrate;
pub use config::{Config, Init, Orientation, Size};
pub use forecast::Plan;
pub use optimizer::{Adam, AdamForm, Lbfgs, Optimizer};
pub use run::{Report, StyleTransfer};
pub use scales::Scale;
