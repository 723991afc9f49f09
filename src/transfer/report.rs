//! What an iteration found.

use std::sync::Arc;
use std::time::Duration;

use super::scales::Scale;

/// What an iteration found, before it changed the picture.
#[derive(Clone, Debug)]
pub struct Report {
    /// From 0, through all scales.
    pub iteration: u32,
    /// The scale that it belongs to.
    pub scale: Scale,
    /// Sum of all terms.
    pub total_loss: f64,
    /// Since the run was set up.
    pub elapsed: Duration,
    pub(super) names: Arc<[String]>,
    pub(super) values: Vec<f32>,
}

impl Report {
    /// Every term with its weight in it: `content/relu1_2`, `style/relu2_2`, `tv`; with masks, `style 2/relu2_2` for the
    /// second part of the picture, and so on.
    pub fn terms(&self) -> impl Iterator<Item = (&str, f32)> {
        self.names.iter().map(String::as_str).zip(self.values.iter().copied())
    }
}
