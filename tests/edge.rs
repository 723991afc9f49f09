//! What the first convolution sees beyond the picture's edge, against a plain sum with clamped indices.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::LazyLock;

use common::{gpu, layers, picture, relative_error};
use impasto::cpu::{Cpu, CpuOracle};
use impasto::net::edge::Edge;
use impasto::picture::Picture;
use impasto::recording::Backend;
use impasto::transfer::{Config, Init, Size, StyleTransfer};
use impasto::weights::Weights;
use impasto::weights::builtin::builtin;

static WEIGHTS: LazyLock<Weights> = LazyLock::new(|| builtin(1));

/// relu1_1 `[H, W, Co]` of a picture whose outermost pixels are repeated.
fn relu1_1(picture: &Picture) -> Vec<f64> {
    let conv = &WEIGHTS.convs[0];
    let mut features = Vec::new();
    for (y, x) in (0..picture.height).flat_map(|y| (0..picture.width).map(move |x| (y, x))) {
        for co in 0..conv.outputs {
            let mut sum = f64::from(conv.bias[co]);
            for (tap, ci) in (0..9).flat_map(|tap| (0..3).map(move |ci| (tap, ci))) {
                let row = (y + tap / 3).saturating_sub(1).min(picture.height - 1);
                let column = (x + tap % 3).saturating_sub(1).min(picture.width - 1);
                let value = picture.rgb[(row * picture.width + column) * 3 + ci] - WEIGHTS.mean[ci];
                sum += f64::from(value) * f64::from(conv.kernel[(tap * 3 + ci) * conv.outputs + co]);
            }
            features.push(sum.max(0.0));
        }
    }
    features
}

/// The gradient of `½ mean (F - P)²` with respect to the picture.
fn gradient(picture: &Picture, features: &[f64], target: &[f64]) -> Vec<f32> {
    let conv = &WEIGHTS.convs[0];
    let mut gradient = vec![0.0; picture.rgb.len()];
    for (position, (ours, wanted)) in features.chunks(conv.outputs).zip(target.chunks(conv.outputs)).enumerate() {
        let (y, x) = (position / picture.width, position % picture.width);
        for co in (0..conv.outputs).filter(|co| ours[*co] > 0.0) {
            let upstream = (ours[co] - wanted[co]) / features.len() as f64;
            for (tap, ci) in (0..9).flat_map(|tap| (0..3).map(move |ci| (tap, ci))) {
                let row = (y + tap / 3).saturating_sub(1).min(picture.height - 1);
                let column = (x + tap % 3).saturating_sub(1).min(picture.width - 1);
                let weight = f64::from(conv.kernel[(tap * 3 + ci) * conv.outputs + co]);
                gradient[(row * picture.width + column) * 3 + ci] += upstream * weight;
            }
        }
    }
    gradient.into_iter().map(|value| value as f32).collect()
}

fn compare(backend: &dyn Backend, bar: f64) {
    for (height, width, tile) in [(1, 1, None), (1, 6, None), (7, 1, None), (9, 13, None), (19, 11, Some(8))] {
        let (content, start) = (picture(1, height, width), picture(2, height, width));
        let config = Config {
            size: Size::Native,
            content_layers: layers(&["relu1_1"]),
            style_layers: Vec::new(),
            tv_weight: 0.0,
            edge: Edge::Replicate,
            init: Init::Picture(start.clone()),
            tile,
            ..Config::default()
        };
        let mut job = StyleTransfer::new(backend, &WEIGHTS, &content, std::slice::from_ref(&content), config).unwrap();
        let loss = job.advance(1).unwrap()[0].total_loss;
        let (ours, wanted) = (relu1_1(&start), relu1_1(&content));
        let squares: f64 = ours.iter().zip(&wanted).map(|(a, b)| (a - b) * (a - b)).sum();
        let expected = squares / (2 * ours.len()) as f64;
        let gradients = relative_error(&job.gradient().unwrap(), &gradient(&start, &ours, &wanted));
        let losses = (loss - expected).abs() / expected;
        println!("{height}x{width}, tiles {tile:?}: loss {losses:.1e}, gradient {gradients:.1e}");
        assert!(losses <= bar && gradients <= bar, "{height}x{width}: {loss}, not {expected}; {gradients:.1e}");
    }
}

#[test]
fn a_replicated_edge_is_that_of_clamped_indices_on_the_cpu_engine() {
    compare(&Cpu, 1e-5);
    // What is left in double precision is the rounding of the losses' factors.
    compare(&CpuOracle, 1e-6);
}

#[test]
fn a_replicated_edge_is_that_of_clamped_indices_on_a_gpu() {
    if let Some(gpu) = gpu("edge") {
        compare(&gpu, 1e-5);
    }
}
