//! Losses and gradients against `tests/reference/losses.json`, which `losses.py` beside it computes in float64 with PyTorch.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::LazyLock;

use common::{gpu, noise, picture, relative_error};
use impasto::cpu::{Cpu, CpuOracle};
use impasto::net::plan::Pooling;
use impasto::net::vgg19::Tap;
use impasto::recording::Backend;
use impasto::transfer::{Config, Init, Size, StyleLoss, StyleTransfer, TotalVariation};
use impasto::weights::{Conv, VGG19, Weights};
use serde_json::Value;

/// The script's network: uniform noise times powers of two, of which its file gives the activations' unit.
static WEIGHTS: LazyLock<Weights> = LazyLock::new(|| {
    let conv = |(layer, &(name, inputs, outputs)): (usize, &(&str, usize, usize))| {
        let scale = (6.0 / (9 * inputs) as f64).sqrt().log2().round().exp2() as f32;
        let values = |seed: usize, count: usize, scale: f32| {
            noise((seed + layer) as u64, count).iter().map(|value| value * scale).collect()
        };
        let (kernel, bias) = (values(1000, 9 * inputs * outputs, scale), values(2000, outputs, 16.0));
        Conv { name: name.into(), inputs, outputs, kernel, bias }
    };
    let convs = VGG19.iter().take(5).enumerate().map(conv).collect();
    Weights { convs, mean: [128.0; 3], activation_unit: 32.0, source: "tests/reference/losses.py".into() }
});

/// A case of the script's and what it found.
struct Case {
    name: String,
    size: [usize; 2],
    style_size: [usize; 2],
    config: Config,
    losses: Vec<(String, f64)>,
    gradient: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let figures: Vec<Value> = serde_json::from_str(include_str!("reference/losses.json")).unwrap();
    figures.iter().map(Case::new).collect()
}

impl Case {
    fn new(figure: &Value) -> Case {
        let text = |key: &str| figure[key].as_str().unwrap();
        let number = |key: &str| figure[key].as_f64().unwrap() as f32;
        let layers = |key: &str| -> Vec<(Tap, f32)> {
            let layers = figure[key].as_object().unwrap().iter();
            layers.map(|(name, weight)| (name.parse().unwrap(), weight.as_f64().unwrap() as f32)).collect()
        };
        let size = |key: &str| [0, 1].map(|i| figure[key][i].as_u64().unwrap() as usize);
        let [height, width] = size("size");
        let config = Config {
            size: Size::Native,
            style_size: Some(Size::Native),
            content_layers: layers("content_layers"),
            style_layers: layers("style_layers"),
            content_weight: number("content_weight"),
            style_weight: number("style_weight"),
            style_layer_weight_exp: number("exponent"),
            style_loss: match text("style_loss") {
                "article" => StyleLoss::Article,
                "classic" => StyleLoss::Classic,
                "gatys" => StyleLoss::Gatys,
                "scaled-mse" => StyleLoss::ScaledMse,
                "wasserstein" => StyleLoss::Wasserstein,
                other => panic!("{other}"),
            },
            tv_weight: number("tv_weight"),
            tv: match text("tv") {
                "l2" => TotalVariation::L2,
                "l1" => TotalVariation::L1,
                "nine-point" => TotalVariation::NinePoint,
                other => panic!("{other}"),
            },
            pooling: match text("pooling") {
                "max" => Pooling::Max,
                "average" => Pooling::Average,
                "l2" => Pooling::L2,
                other => panic!("{other}"),
            },
            pooling_scale: number("pooling_scale"),
            normalize_gradients: figure["normalize"].as_bool().unwrap_or(false),
            iterations: 1,
            init: Init::Picture(picture(3, height, width)),
            ..Config::default()
        };
        let losses = figure["losses"].as_object().unwrap().iter();
        Case {
            name: text("name").into(),
            size: [height, width],
            style_size: size("style_size"),
            config,
            losses: losses.map(|(name, value)| (name.clone(), value.as_f64().unwrap())).collect(),
            gradient: figure["gradient"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect(),
        }
    }

    /// Worst relative error of a loss, and that of the gradient.
    fn errors(&self, backend: &dyn Backend) -> [f64; 2] {
        let ([height, width], [style_height, style_width]) = (self.size, self.style_size);
        let (content, style) = (picture(1, height, width), picture(2, style_height, style_width));
        let mut job = StyleTransfer::new(backend, &WEIGHTS, &content, &[style], self.config.clone()).unwrap();
        let report = job.advance(1).unwrap().remove(0);
        let mut worst = 0.0_f64;
        for (name, expected) in &self.losses {
            let found = report.terms().find(|(term, _)| term == name).unwrap().1;
            let error =
                if *expected == 0.0 { f64::from(found).abs() } else { (f64::from(found) / expected - 1.0).abs() };
            worst = worst.max(error);
        }
        [worst, relative_error(&job.gradient().unwrap(), &self.gradient)]
    }

    fn check(&self, backend: &dyn Backend, what: &str, bar: f64) {
        let errors = self.errors(backend);
        println!("{}, {what}: losses {:.1e}, gradient {:.1e}", self.name, errors[0], errors[1]);
        assert!(errors.iter().all(|error| *error <= bar), "{}, {what}: {errors:?}", self.name);
    }

    /// For single precision. The matrix root's small eigenvalues come out of rounding errors of the large ones.
    fn bar(&self) -> f64 {
        let root = self.config.style_loss == StyleLoss::Wasserstein && !self.config.style_layers.is_empty();
        if root { 1e-4 } else { 2e-5 }
    }
}

#[test]
fn the_oracle_agrees_with_the_reference() {
    for case in cases() {
        // Factors and read-back are in single precision.
        case.check(&CpuOracle, "oracle", 1e-6);
    }
}

#[test]
fn the_cpu_engine_agrees_with_the_reference() {
    for case in cases() {
        case.check(&Cpu, "CPU engine", case.bar());
    }
}

#[test]
fn a_gpu_agrees_with_the_reference() {
    let Some(gpu) = gpu("reference") else { return };
    for case in cases() {
        case.check(&gpu, "GPU", case.bar());
    }
}
