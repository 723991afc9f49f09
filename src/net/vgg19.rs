//! VGG-19's layers by name.

use std::fmt;
use std::str::FromStr;

use crate::weights::VGG19;

/// Convolutions in each of the five blocks; a pooling follows each block.
const BLOCKS: [usize; 5] = [2, 2, 4, 4, 4];

/// An activation `relu1_1 … relu5_4`, the output of a convolution after its ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tap(u8);

impl Tap {
    /// Every activation, shallowest first.
    pub fn all() -> impl Iterator<Item = Tap> {
        (0..VGG19.len() as u8).map(Tap)
    }

    /// Index of the convolution, 0 for conv1_1.
    pub fn conv(self) -> usize {
        self.0 as usize
    }

    /// Poolings between the picture and this activation: its map is ⌈size / 2^level⌉.
    pub fn level(self) -> usize {
        self.block().0
    }

    /// Channels.
    pub fn channels(self) -> usize {
        VGG19[self.conv()].2
    }

    /// Radius of the receptive field in pixels: what a position of this activation sees beyond its own square.
    pub fn radius(self) -> usize {
        (0..=self.conv()).rev().map(Tap::from_conv).fold(0, |radius, tap| {
            // Walking back from the tap: a convolution sees one further, a pooling halves the map.
            let radius = radius + 1;
            if tap.starts_block() && tap.level() > 0 { radius * 2 } else { radius }
        })
    }

    /// True where a pooling lies between this convolution and the one before.
    pub fn starts_block(self) -> bool {
        self.block().1 == 0
    }

    pub(crate) fn from_conv(conv: usize) -> Tap {
        Tap(conv.min(VGG19.len() - 1) as u8)
    }

    /// Block and index in it, both from 0.
    fn block(self) -> (usize, usize) {
        let mut index = self.conv();
        for (block, size) in BLOCKS.iter().enumerate() {
            if index < *size {
                return (block, index);
            }
            index -= size;
        }
        (BLOCKS.len() - 1, index)
    }
}

impl fmt::Display for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (block, index) = self.block();
        write!(f, "relu{}_{}", block + 1, index + 1)
    }
}

/// A layer name that VGG-19 does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTap(pub String);

impl FromStr for Tap {
    type Err = UnknownTap;

    fn from_str(name: &str) -> Result<Tap, UnknownTap> {
        Tap::all().find(|tap| tap.to_string() == name).ok_or_else(|| UnknownTap(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn radii_are_those_of_the_design() {
        let expected =
            [("relu1_2", 2), ("relu2_2", 6), ("relu3_2", 14), ("relu3_4", 22), ("relu4_2", 38), ("relu5_1", 70)];
        for (name, radius) in expected {
            assert_eq!(name.parse::<Tap>().map(Tap::radius), Ok(radius), "{name}");
        }
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        assert_eq!(Tap::all().count(), 16);
        for tap in Tap::all() {
            assert_eq!(tap.to_string().parse(), Ok(tap));
        }
        for name in ["", "relu", "relu0_1", "relu1_3", "relu6_1", "conv1_1", "RELU1_1"] {
            assert!(name.parse::<Tap>().is_err(), "{name}");
        }
    }
}
