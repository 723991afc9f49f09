//! Measures how fast a device runs the iterations of a job, on a small picture.

use std::time::{Duration, Instant};

use super::config::{Config, Init, Size};
use super::run::StyleTransfer;
use crate::error::Result;
use crate::picture::Picture;
use crate::recording::Backend;
use crate::weights::Weights;

/// An iteration this long is taken for typical.
const LONG_ENOUGH: Duration = Duration::from_millis(250);
/// Sides of the pictures tried.
const SIDES: [usize; 4] = [64, 128, 256, 512];

/// Floating point operations per second of an iteration with these layers on this device. Takes about two seconds, and
/// on a slow device as long as an iteration at 64x64 pixels.
pub fn calibrate(backend: &dyn Backend, weights: &Weights, config: &Config) -> Result<f64> {
    let mut rate = 1.0;
    for side in SIDES {
        let rgb = (0..side * side * 3).map(|i| (i * 37 % 256) as f32).collect();
        let picture = Picture { width: side, height: side, rgb };
        let config = Config {
            size: Size::Native,
            style_size: Some(Size::Exact(8, 8)),
            style_scale: vec![1.0],
            style_blend_weights: Vec::new(),
            min_scale: None,
            first_iterations: None,
            iterations: 3,
            init: Init::Noise,
            tile: Some(side),
            memory: None,
            ..config.clone()
        };
        let mut job = StyleTransfer::new(backend, weights, &picture, std::slice::from_ref(&picture), config)?;
        // The first one allocates, transforms filters and compiles.
        job.advance(1)?;
        let begin = Instant::now();
        job.advance(1)?;
        let took = begin.elapsed();
        rate = job.recording().flops() as f64 / took.as_secs_f64().max(1e-9);
        if took > LONG_ENOUGH / 4 {
            break;
        }
    }
    Ok(rate)
}
