//! Every optimiser, the running average, and what a scale takes over, against PyTorch in float64:
//! `tests/reference/optimizers.py` made the figures, and says what is computed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use common::{gpu, layers, noise, picture, relative_error};
use impasto::cpu::Cpu;
use impasto::gpu::{Gpu, GpuChoice, GpuOptions};
use impasto::net::plan::Pooling;
use impasto::picture::Picture;
use impasto::recording::{Backend, Faults};
use impasto::transfer::{Adam, AdamForm, Checkpoint, Config, Init, Lbfgs, Optimizer, Size, StyleTransfer};
use impasto::weights::{Conv, Weights};

/// One convolution with seeded weights.
fn weights() -> Weights {
    let kernel = noise(5, 9 * 3 * 64).iter().map(|value| 0.25 * value).collect();
    let conv = Conv { name: "conv1_1".into(), inputs: 3, outputs: 64, kernel, bias: noise(6, 64) };
    let mean = [123.68, 116.779, 103.939];
    Weights { convs: vec![conv], mean, activation_unit: 1.0, source: "seeded".into() }
}

fn config() -> Config {
    Config {
        size: Size::Exact(16, 20),
        style_size: Some(Size::Native),
        content_layers: layers(&["relu1_1"]),
        style_layers: layers(&["relu1_1"]),
        // With less, a millionth of a difference in the start sends the search of a step another way.
        content_weight: 4.0,
        style_weight: 200.0,
        tv_weight: 0.5,
        pooling: Pooling::Max,
        iterations: 20,
        first_iterations: None,
        min_scale: None,
        optimizer: Optimizer::Adam,
        adam: Adam { learning_rate: 2.0, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, form: AdamForm::Standard },
        // Where vectors lie in several bands, too.
        max_buffer: 16 * 16 * 9,
        ..Config::default()
    }
}

fn averaged() -> Config {
    let adam = Adam { learning_rate: 9.0, ..config().adam };
    Config { adam, learning_rate_decay: 0.9, clamp: true, ema: 0.8, ..config() }
}

fn lbfgs(history: usize, ema: f32) -> Config {
    Config { optimizer: Optimizer::Lbfgs, lbfgs: Lbfgs { learning_rate: 1.0, history }, ema, ..config() }
}

fn normalized() -> Config {
    Config { normalize_gradients: true, tv_weight: 0.0, ..config() }
}

fn two_scales() -> Config {
    Config {
        min_scale: Some(10),
        scale_factor: 2.0,
        iterations: 12,
        keep_moments: true,
        init: Init::Noise,
        seed: 3,
        learning_rate_decay: 1.0,
        ..averaged()
    }
}

/// Losses before every iteration, and the result.
fn run(backend: &dyn Backend, content: &Picture, config: Config) -> (Vec<f64>, Vec<f32>) {
    let mut job = StyleTransfer::new(backend, &weights(), content, &[picture(31, 15, 18)], config).unwrap();
    let losses = job.steps().map(|report| report.unwrap().total_loss).collect();
    (losses, job.image().unwrap().rgb)
}

/// Compares with the reference's case of this name.
fn check(backend: &dyn Backend, name: &str, config: Config, [losses, samples]: [f64; 2]) {
    let reference: serde_json::Value = serde_json::from_str(include_str!("reference/optimizers.json")).unwrap();
    let numbers = |key: &str| -> Vec<f64> {
        reference[name][key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let flat = Picture { width: 16, height: 20, rgb: [90.0, 120.0, 150.0].repeat(320) };
    let content = if config.min_scale.is_some() { flat } else { picture(7, 20, 16) };
    let (found, rgb) = run(backend, &content, config);
    let expected = numbers("losses");
    assert_eq!(found.len(), expected.len());
    let errors: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b).collect();
    let worst = errors.iter().copied().fold(0.0, f64::max);
    let expected: Vec<f32> = numbers("samples").iter().map(|value| *value as f32).collect();
    let error = relative_error(&rgb.iter().step_by(7).copied().collect::<Vec<_>>(), &expected);
    println!("{name}: losses differ by {worst:.1e}, the picture by {error:.1e}");
    assert!(worst < losses, "{name}: {errors:?}");
    assert!(error < samples, "{name}: the picture differs by {error:.1e}");
}

fn check_all(backend: &dyn Backend) {
    check(backend, "adam", config(), [1e-4; 2]);
    check(backend, "decay clamp average", averaged(), [1e-4; 2]);
    check(backend, "two scales", two_scales(), [1e-4; 2]);
    check(backend, "normalized", normalized(), [1e-4; 2]);
    check(backend, "normalized", Config { tile: Some(8), ..normalized() }, [1e-4; 2]);
    check(backend, "lbfgs", lbfgs(10, 0.0), [1e-3; 2]);
    check(backend, "lbfgs of three pairs", lbfgs(3, 0.0), [1e-3; 2]);
    check(backend, "lbfgs average", lbfgs(10, 0.7), [1e-3; 2]);
}

#[test]
fn the_cpu_engine_goes_the_way_of_pytorch() {
    check_all(&Cpu);
}

#[test]
fn a_gpu_goes_the_way_of_pytorch() {
    let Some(gpu) = gpu("the way of PyTorch") else { return };
    check_all(&gpu);
}

#[test]
fn l_bfgs_holds_what_was_forecast_and_repeats_to_the_bit() {
    let content = picture(7, 20, 16);
    let (weights, styles) = (weights(), [picture(31, 15, 18)]);
    let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(Cpu)];
    backends.extend(gpu("the forecast of L-BFGS").map(|gpu| Box::new(gpu) as Box<dyn Backend>));
    for backend in &backends {
        let config = Config { iterations: 8, ..lbfgs(5, 0.5) };
        let plan = &StyleTransfer::plan_on(backend.as_ref(), &weights, &content, &styles, &config).unwrap()[0];
        let mut job = StyleTransfer::new(backend.as_ref(), &weights, &content, &styles, config.clone()).unwrap();
        while !job.advance(u32::MAX).unwrap().is_empty() {}
        job.image().unwrap();
        let held = job.ledger();
        assert_eq!(held.buffers, plan.buffers.total());
        assert!(held.total() <= plan.bytes() && held.total() as f64 >= 0.9 * plan.bytes() as f64, "{held:?}");
        let again = run(backend.as_ref(), &content, config.clone());
        assert!(again == run(backend.as_ref(), &content, config), "other bits");
        assert!(again.1 == job.image().unwrap().rgb);
    }
}

/// Where the search finds nothing better, the run goes on all the same.
#[test]
fn l_bfgs_never_stops() {
    // The start is the minimum: the content itself, with no other term.
    let bare = Config { style_layers: Vec::new(), tv_weight: 0.0, iterations: 6, ..lbfgs(4, 0.0) };
    let (losses, image) = run(&Cpu, &picture(7, 20, 16), bare);
    assert_eq!(losses, [0.0; 6]);
    assert!(relative_error(&image, &picture(7, 20, 16).rgb) < 1e-6);
    // Far beyond what single precision can still improve.
    let long = Config { iterations: 400, ..lbfgs(10, 0.0) };
    let (losses, _) = run(&Cpu, &picture(7, 20, 16), long);
    assert_eq!(losses.len(), 400);
    assert!(losses[399] <= losses[100] && losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
}

fn job(backend: &dyn Backend, config: Config) -> StyleTransfer {
    StyleTransfer::new(backend, &weights(), &picture(7, 20, 16), &[picture(31, 15, 18)], config).unwrap()
}

/// Losses of what is left, one iteration at a time, and the result.
fn rest(mut job: StyleTransfer) -> (Vec<f64>, Vec<f32>) {
    let mut losses = Vec::new();
    while let [report] = &job.advance(1).unwrap()[..] {
        losses.push(report.total_loss);
    }
    (losses, job.image().unwrap().rgb)
}

#[test]
fn a_state_in_a_file_leads_to_the_same_bits() {
    let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(Cpu)];
    backends.extend(gpu("a state in a file").map(|gpu| Box::new(gpu) as Box<dyn Backend>));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for backend in &backends {
        for config in [two_scales(), Config { iterations: 12, ..lbfgs(3, 0.5) }, lbfgs(5, 0.0)] {
            let (losses, image) = rest(job(backend.as_ref(), config.clone()));
            // The start, the middle, the end of the first scale of two, and behind it.
            for stop in [0, 5, 12, 13] {
                let stop = stop.min(losses.len());
                let mut broken = job(backend.as_ref(), config.clone());
                (0..stop).for_each(|_| assert_eq!(broken.advance(1).unwrap().len(), 1));
                broken.checkpoint().unwrap().save(&path).unwrap();
                let seen = broken.image().unwrap();
                drop(broken);
                let state = Checkpoint::load(&path).unwrap();
                assert_eq!(state.iteration() as usize, stop);
                let mut again = job(backend.as_ref(), config.clone());
                again.resume(&state, None).unwrap();
                assert!(again.image().unwrap() == seen, "another picture after {stop}");
                let (more, end) = rest(again);
                assert!(more == losses[stop..] && end == image, "other bits after {stop}: {config:?}");
            }
        }
    }
}

/// A state taken at every iteration, and a device that dies in between.
#[test]
fn l_bfgs_goes_on_to_the_same_bits_when_the_device_is_lost() {
    if gpu("a device lost under L-BFGS").is_none() {
        return;
    }
    let open = |faults: &Faults| {
        let choice = std::env::var("IMPASTO_TEST_ADAPTER").map_or(GpuChoice::Any, GpuChoice::Name);
        Gpu::new(&GpuOptions { choice, faults: faults.clone(), ..GpuOptions::default() }).unwrap()
    };
    let config = || Config { iterations: 8, ..lbfgs(3, 0.5) };
    let counter = Faults::default();
    let whole = rest(job(&open(&counter), config()));
    for interval in [Duration::ZERO, Duration::MAX] {
        for part in 1..5 {
            let faults = Faults::lose_at(&[counter.submissions() * part / 5]);
            let mut job = job(&open(&faults), config());
            job.keep_state_every(interval);
            assert!(rest(job) == whole, "lost at {part} of 5");
        }
    }
}
