//! What has to be known of a job before its maps can be halves: how large activations and gradients become. Found by single
//! iterations on small copies of the pictures, on the same device, in single precision.

use super::config::{Config, Init, Size, StyleLoss};
use super::inputs::Inputs;
use super::run::StyleTransfer;
use super::scales::Scale;
use super::studio::{Network, Sizes};
use crate::error::Result;
use crate::net::maps::{Precision, Scaling};
use crate::net::vgg19::Tap;
use crate::picture::Picture;
use crate::recording::{Backend, Convolution};

/// Longest side of the copies.
const SIDE: usize = 96;
/// The largest activation of every layer is scaled to between half of this and this. A half ends at 65,504, so that a
/// picture may have activations 32 times as large as those of content and style.
const LARGEST_ACTIVATION: f64 = 2048.0;
/// The same for the gradient of the picture. With VGG-19 and six kinds of losses the largest gradients of the layers, scaled
/// as their activations ask for, were 4 to 100 times smaller, and their root mean squares 100 to 1000 times, which leaves
/// these a factor of 4,000 and more to sink before they lose bits.
const LARGEST_GRADIENT: f64 = 512.0;

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Rehearsal {
    /// Factors of the activations.
    activations: Vec<f32>,
    /// Largest elements of the picture's gradient that its content and its style give, and pixels of that picture.
    gradients: [f64; 2],
    pixels: f64,
    /// How each changes with the number of pixels: as its power of this.
    powers: [i32; 2],
}

impl Rehearsal {
    /// Nothing to do in single precision.
    pub(super) fn of(
        backend: &dyn Backend,
        network: &Network,
        inputs: &Inputs<'_>,
        config: &Config,
    ) -> Result<Option<Rehearsal>> {
        if config.precision == Precision::F32 {
            return Ok(None);
        }
        let small = |picture: &Picture| {
            let [height, width] = Size::Longest(SIDE).of(picture);
            picture.resized(width, height)
        };
        let (content, styles) = (small(inputs.content), inputs.styles.iter().map(small).collect::<Vec<_>>());
        // Every layer's activations are kept as a content target that counts nothing.
        let mut content_layers = config.content_layers.clone();
        let every = Tap::all().take(config.depth());
        content_layers.extend(
            every.filter(|tap| config.content_layers.iter().all(|(other, _)| other != tap)).map(|tap| (tap, 0.0)),
        );
        let config = Config {
            size: Size::Native,
            style_size: Some(Size::Native),
            content_layers,
            tv_weight: 0.0,
            precision: Precision::F32,
            // Its filters take least memory.
            convolution: Convolution::Direct,
            iterations: 1,
            first_iterations: None,
            min_scale: None,
            tile: None,
            ways: Vec::new(),
            memory: None,
            ..config.clone()
        };
        let start = |picture: &Picture, config: Config| {
            // Without masks: a part counts by its area, so that its gradients are about as large as those of a whole picture.
            let inputs = Inputs::new(picture, &styles);
            StyleTransfer::sharing(backend, network, &inputs, config, &mut Sizes::default())
        };
        let mut largest = vec![0.0_f32; config.depth()];
        let begun = if let Init::Picture(picture) = &config.init { Some(small(picture)) } else { None };
        for picture in [&content].into_iter().chain(&styles).chain(&begun) {
            let mut job = start(picture, Config { init: Init::Content, ..config.clone() })?;
            for (tap, largest) in Tap::all().zip(&mut largest) {
                let values = job.buffer(&format!("content/{tap}"))?;
                *largest = values.into_iter().fold(*largest, f32::max);
            }
        }
        // The content's own activations are all about it, but its features are nowhere where they should be: gradients
        // are about as large as they get. Noise, where turning a picture changes nothing.
        let mut turned = content.clone();
        turned.rgb = content.rgb.chunks_exact(3).rev().flatten().copied().collect();
        let gradient = |content_weight: f32, style_weight: f32| -> Result<f64> {
            if content_weight == 0.0 && style_weight == 0.0 {
                return Ok(0.0);
            }
            for init in [Init::Picture(turned.clone()), Init::Noise] {
                let mut job = start(&content, Config { init, content_weight, style_weight, ..config.clone() })?;
                job.advance(1)?;
                let found = job.gradient()?.into_iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
                if found > 0.0 {
                    return Ok(f64::from(found));
                }
            }
            Ok(0.0)
        };
        let gradients = [gradient(config.content_weight, 0.0)?, gradient(0.0, config.style_weight)?];
        Ok(Some(Rehearsal {
            activations: largest.iter().map(|value| power_of_two(LARGEST_ACTIVATION, f64::from(*value))).collect(),
            gradients,
            pixels: (content.width * content.height) as f64,
            powers: match config.style_loss {
                _ if config.normalize_gradients => [1, 1],
                // Divided by the number of activations once in the Gram matrix, and once more.
                StyleLoss::Article => [1, 2],
                StyleLoss::Classic | StyleLoss::Gatys | StyleLoss::ScaledMse | StyleLoss::Wasserstein => [1, 1],
            },
        }))
    }

    /// The factors of the activations, which every scale has.
    pub(super) fn activations(&self) -> &[f32] {
        &self.activations
    }

    /// The factors for a scale.
    pub(super) fn scaling(&self, scale: &Scale) -> Scaling {
        let ratio = self.pixels / (scale.width * scale.height) as f64;
        let expected: f64 =
            self.gradients.iter().zip(self.powers).map(|(found, power)| found * ratio.powi(power)).sum();
        Scaling { activations: self.activations.clone(), gradient: power_of_two(LARGEST_GRADIENT, expected) }
    }
}

/// The power of two that brings a value to `largest` or less, by no more than half; 1 for zero and what is not finite.
fn power_of_two(largest: f64, value: f64) -> f32 {
    let power = (largest / value).log2().floor();
    if value > 0.0 && power.is_finite() { power.clamp(-100.0, 100.0).exp2() as f32 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_powers_of_two_that_bring_the_largest_near_the_bound() {
        for (value, expected) in [(2048.0, 1.0), (2049.0, 0.5), (1.0, 2048.0), (1.5, 1024.0), (1e6, 1.0 / 512.0)] {
            assert_eq!(power_of_two(2048.0, value), expected, "{value}");
        }
        for odd in [0.0, f64::INFINITY, f64::NAN, -1.0] {
            assert_eq!(power_of_two(2048.0, odd), 1.0, "{odd}");
        }
        assert_eq!(power_of_two(1.0, 1e-300), 2.0_f32.powi(100));
    }

    #[test]
    fn a_larger_picture_has_smaller_gradients() {
        let found = |gradients, powers| Rehearsal { activations: vec![2.0], gradients, pixels: 4096.0, powers };
        let scale = |side| Scale { index: 0, width: side, height: side, iterations: 1 };
        assert_eq!(found([0.0, 1.0], [1, 1]).scaling(&scale(64)).gradient, 512.0);
        assert_eq!(found([0.0, 1.0], [1, 1]).scaling(&scale(128)).gradient, 2048.0);
        assert_eq!(found([0.0, 1.0], [1, 2]).scaling(&scale(128)).gradient, 8192.0);
        assert_eq!(found([0.25, 1.0], [1, 2]).scaling(&scale(128)).gradient, 4096.0, "1/16 of each");
        assert_eq!(found([1.0, 1.0], [1, 2]).scaling(&scale(128)).activations, [2.0]);
    }
}
