//! Whole runs with convolutions by Winograd's transforms beside direct ones, and their plans.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{gpu, layers, picture, relative_error, shared};
use impasto::cpu::Cpu;
use impasto::net::plan::Pooling;
use impasto::picture::Picture;
use impasto::recording::{Backend, Command};
use impasto::transfer::{Config, Convolution, Init, Size, StyleTransfer};
use impasto::weights::builtin::builtin;
use impasto::weights::{Weights, load};

fn config(pooling: Pooling, init: Init, convolution: Convolution) -> Config {
    Config {
        size: Size::Longest(56),
        style_size: Some(Size::Longest(56)),
        content_layers: layers(&["relu2_2"]),
        style_layers: layers(&["relu1_2", "relu2_2", "relu3_2"]),
        tv_weight: 0.0,
        pooling,
        init,
        convolution,
        ..Config::default()
    }
}

/// The original network and pictures where they are, else the built-in network and noise.
fn inputs(test: &str) -> (Weights, Picture, Picture) {
    match shared(test) {
        Some(shared) => {
            let decode = |name: &str| Picture::decode(&shared.join("golden").join(name)).unwrap();
            let weights = load(&shared.join("vgg19/imagenet-vgg-verydeep-19.beta16.PARTIAL.mat"), 6).unwrap();
            (weights, decode("westlake_224.png"), decode("starry_224.png"))
        }
        None => (builtin(6), picture(1, 56, 56), picture(2, 56, 56)),
    }
}

/// Losses and gradient of the first iteration.
fn first(backend: &dyn Backend, inputs: &(Weights, Picture, Picture), config: Config) -> (Vec<f32>, Vec<f32>) {
    let (weights, content, style) = inputs;
    let mut job = StyleTransfer::new(backend, weights, content, std::slice::from_ref(style), config).unwrap();
    let report = job.advance(1).unwrap().remove(0);
    (report.terms().map(|(_, value)| value).collect(), job.gradient().unwrap())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Flat areas of a content start tie maxima, hence its bar; elsewhere only rounding differs.
fn compare(backend: &dyn Backend, test: &str) {
    let inputs = inputs(test);
    for (name, pooling, init, bar) in [
        ("noise, max pooling", Pooling::Max, Init::Noise, 0.9999),
        ("content, average pooling", Pooling::Average, Init::Content, 0.9999),
        ("content, max pooling", Pooling::Max, Init::Content, 0.999),
    ] {
        let with = |convolution| first(backend, &inputs, config(pooling, init.clone(), convolution));
        let ((terms, gradient), (direct, d_direct)) = (with(Convolution::Winograd), with(Convolution::Direct));
        let cosine = cosine(&gradient, &d_direct);
        let error = terms.iter().zip(&direct).map(|(a, b)| f64::from(((a - b) / b).abs())).fold(0.0, f64::max);
        let (relative, same) = (relative_error(&gradient, &d_direct), gradient == d_direct);
        println!("{test}, {name}: losses {error:.1e}, gradient {relative:.1e}, 1 - cosine {:.1e}", 1.0 - cosine);
        assert!(!same, "{name}: the method makes no difference to the bits, so it was not taken");
        assert!(error <= 1e-4, "{name}: losses differ by {error:.1e}");
        assert!(cosine >= bar, "{name}: cosine {cosine}");
    }
}

#[test]
fn gradients_point_where_those_of_direct_convolutions_do_on_a_gpu() {
    if let Some(gpu) = gpu("winograd beside direct") {
        compare(&gpu, "winograd on a GPU");
    }
}

#[test]
fn gradients_point_where_those_of_direct_convolutions_do_on_the_cpu_engine() {
    compare(&Cpu, "winograd's kernels on the CPU engine");
}

/// Tiles lie on the transforms' grid, so that tiled and whole round alike.
#[test]
fn tiles_change_nothing_on_a_gpu() {
    let Some(gpu) = gpu("winograd in tiles") else { return };
    let inputs = (builtin(6), picture(1, 45, 53), picture(2, 31, 40));
    for pooling in [Pooling::Max, Pooling::Average] {
        let with = |tile| {
            let size = Size::Native;
            let config = config(pooling, Init::Picture(picture(3, 45, 53)), Convolution::Winograd);
            first(&gpu, &inputs, Config { size, style_size: Some(size), tile, ..config })
        };
        let ((terms, gradient), (whole, d_whole)) = (with(Some(16)), with(None));
        let errors = terms.iter().zip(&whole).map(|(a, b)| f64::from(((a - b) / b).abs()));
        let (loss, gradient) = (errors.fold(0.0, f64::max), relative_error(&gradient, &d_whole));
        println!("{pooling:?}: losses {loss:.1e}, gradient {gradient:.1e}");
        assert!(loss <= 1e-5 && gradient <= 1e-5, "{pooling:?}: losses {loss:.1e}, gradient {gradient:.1e}");
    }
}

#[test]
fn a_plan_takes_the_transforms_where_there_are_channels_and_little_memory_for_them() {
    let weights = builtin(9);
    let picture = picture(1, 2, 2);
    let plan = |convolution, side| {
        let size = Size::Exact(side, side);
        let deep = layers(&["relu4_1"]);
        let config =
            Config { size, style_layers: deep, convolution, ..config(Pooling::Max, Init::Content, convolution) };
        StyleTransfer::plan(&weights, &picture, std::slice::from_ref(&picture), &config).unwrap().remove(0)
    };
    let (direct, winograd) = (plan(Convolution::Direct, 1000), plan(Convolution::Winograd, 1000));
    let labels = |kernel: &str| -> Vec<String> {
        let launches = winograd.step.commands.iter().filter_map(|command| match command {
            Command::Dispatch(dispatch) if dispatch.kernel.name == kernel => Some(dispatch.label.clone()),
            _ => None,
        });
        let mut labels: Vec<String> = launches.collect();
        labels.dedup();
        labels
    };
    assert_eq!(labels("conv3x3"), ["conv1_1"]);
    assert_eq!(labels("conv3x3_backward"), ["conv1_1"]);
    let all = ["conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv3_4", "conv4_1"];
    assert_eq!(labels("winograd_output"), all);
    assert!(labels("winograd_d_input").iter().eq(all.iter().rev()), "{:?}", labels("winograd_d_input"));
    // Four times the filters, and two buffers of a band.
    let filters: u64 = weights.convs[1..9].iter().map(|conv| 2 * 4 * 27 * (conv.inputs * conv.outputs) as u64).sum();
    let more = winograd.buffers.total() - direct.buffers.total();
    println!("{more} bytes more, {filters} of them filters");
    assert!((filters..=filters + (80 << 20)).contains(&more), "{more}, {filters} of them filters");
}
