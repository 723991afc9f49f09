//! Style transfer itself: configuration, losses, and the run.

mod config;
mod layout;
mod losses;
mod noise;
pub mod presets;
mod rig;
mod run;
mod scales;
mod stage;

pub use config::{Adam, AdamForm, Config, Init, Orientation, Size};
pub use run::{Plan, Report, StyleTransfer};
pub use scales::Scale;
