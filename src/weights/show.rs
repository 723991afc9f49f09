//! What is in a weight file: every entry with its name, type, shapes and first values, for people to look at.
//!
//! Nothing is refused that can be read at all: a damaged or partial file is shown as far as it goes, and why no further.
//! One layer is held at a time.

use std::path::Path;

use super::safetensors::{self, Source};
use super::{Conv, Format, TOLERANCE, VGG19, is_oxford, mat5, open, plausible};
use crate::error::Result;

/// Tap [0, 1] of the Oxford network's conv1_1, red, the first outputs: where a transposed kernel has tap [1, 0].
const OXFORD_RIGHT: [f32; 3] = [0.377_403_08, -0.078_762_57, -0.047_759_79];

/// A file's contents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// The file's format and layout.
    pub format: String,
    /// What the file says about itself, and what follows from its values: mean, orientation, licence …
    pub facts: Vec<(String, String)>,
    /// Its layers in the file's order.
    pub entries: Vec<Entry>,
    /// Convolutions of VGG-19 that are not among them, in the network's order.
    pub missing: Vec<&'static str>,
    /// Why reading ended before the file's end.
    pub end: Option<String>,
}

/// A layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Its name, e.g. `conv1_1`.
    pub name: String,
    /// Its type, e.g. `conv`.
    pub kind: String,
    /// Shapes of kernel and bias, as the file has them; empty for a layer without weights.
    pub shapes: Vec<Vec<usize>>,
    /// The first values of kernel and bias: of tap [0, 0], first input, first outputs.
    pub first: Vec<Vec<f32>>,
    /// Of a convolution of VGG-19: `complete`, or what is wrong with it.
    pub state: Option<String>,
}

/// Reads all of a weight file.
///
/// # Errors
/// [`Error::Weights`](crate::error::Error::Weights) if the file cannot be read or is not a weight file of a known kind.
pub fn inventory(path: &Path) -> Result<Inventory> {
    let mut inventory = Inventory::default();
    let found = open(path).and_then(|(file, format, length)| match format {
        Format::Mat5 { big_endian } => {
            mat5::inventory(&file, length, big_endian, &mut inventory);
            Ok(())
        }
        Format::Safetensors => safetensors::inventory(&Source::open(&file, length)?, &mut inventory),
    });
    found.map_err(|fault| fault.at(path))?;
    let there = |name: &str| inventory.entries.iter().any(|entry| entry.name == name);
    inventory.missing = VGG19.iter().map(|(name, ..)| *name).filter(|name| !there(name)).collect();
    Ok(inventory)
}

impl Inventory {
    pub(super) fn fact(&mut self, key: &str, value: impl Into<String>) {
        self.facts.push((key.into(), value.into()));
    }

    /// Adds a layer whose values are known, if it is one of VGG-19's convolutions.
    pub(super) fn conv(&mut self, mut entry: Entry, found: &Conv) {
        entry.first = vec![first(&found.kernel), first(&found.bias)];
        entry.state = Some(plausible(found).map_or_else(|fault| fault.what, |()| "complete".into()));
        if found.name == VGG19[0].0 {
            let orientation = orientation(found);
            self.fact("orientation", orientation);
        }
        self.entries.push(entry);
    }
}

/// The first three values.
pub(super) fn first(values: &[f32]) -> Vec<f32> {
    values.iter().take(3).copied().collect()
}

/// Whose conv1_1 it is, and which way its kernels lie.
fn orientation(conv1_1: &Conv) -> &'static str {
    let tap = conv1_1.inputs * conv1_1.outputs;
    let at = |tap: usize| conv1_1.kernel[tap..].iter().zip(OXFORD_RIGHT).all(|(a, b)| (a - b).abs() < TOLERANCE);
    match is_oxford(conv1_1) {
        true if at(tap) => "as trained, rows first (preset `article` transposes them)",
        true if at(3 * tap) => "transposed: rows and columns of the kernels are swapped",
        true => "unknown: the Oxford network's biases, but other kernels (BGR?)",
        false => "unknown: not the Oxford network's values",
    }
}
