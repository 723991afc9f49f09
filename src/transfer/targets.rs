//! The styles' targets of earlier runs, so that many runs with the same styles measure them once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Gram matrices and means of a scale's parts, each `f32` as the engine had it.
pub(super) type Values = Arc<Vec<Vec<f32>>>;

/// Targets of styles that were measured already. Cheap to clone: clones share what they hold. Give the same one to several
/// runs in [`Inputs::targets`](super::Inputs::targets), and those with the same styles, network, sizes, settings that bear
/// on the targets, tiles and device pass over measuring them; their results are the same to the bit. Of every other run
/// the targets are measured and kept as well: for each scale and layer, 4 bytes times the square of its channels. Where maps
/// are halves, the factors that they carry must be the same, too, which follow from the content as well.
#[derive(Clone, Debug, Default)]
pub struct StyleTargets(Arc<Mutex<HashMap<String, Values>>>);

impl StyleTargets {
    /// How many scales' targets are held.
    pub fn len(&self) -> usize {
        self.map(|held| held.len())
    }

    /// True where nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.map(HashMap::clear);
    }

    pub(super) fn get(&self, key: &str) -> Option<Values> {
        self.map(|held| held.get(key).cloned())
    }

    pub(super) fn keep(&self, key: String, values: Vec<Vec<f32>>) {
        self.map(|held| held.insert(key, Arc::new(values)));
    }

    fn map<R>(&self, work: impl FnOnce(&mut HashMap<String, Values>) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
