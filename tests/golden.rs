//! The article's run and two odd ones against an independent float64 implementation (`../shared/golden`).
//!
//! Bars: the table "Expected agreement" of the design, direct convolution, with one exception. The design gives 1e-5 for
//! the first gradient of `article_noise`. Ten million ReLU inputs include some as near to zero as 1.6e-6 (conv2_1, root
//! mean square 8.6), which single precision puts on the other side: measured 1.9e-5 to 3.2e-5 with one or two such units,
//! by the order of summation; 4e-7 without the 1 % of pixels that see them, 4e-8 for the same recording in double precision.
//! So the bars are 1e-4 for the whole, 1e-6 (not 1e-5) for the trimmed gradient and for double precision.
//!
//! The CPU engine has those of the column for Winograd's transforms, and so has a GPU where it is held to them. For a
//! content start with max pooling the design sets no bar for the first gradient, since flat areas tie maxima and rounding
//! decides: measured 2.4e-2 for article_content, whose sky is flat, where a bar of 0.1 still tells it from a wrong one, and
//! 9.4e-5 for odd_max.
//!
//! `IMPASTO_GOLDEN_ITERATIONS` sets how far a run is followed: by default 40, but 6 on a software renderer, which takes
//! seconds for each. At 40 on software Vulkan the worst terms were odd_max 4.3e-4, odd_avg 1.3e-4, article_content 2.5e-4.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;

use common::{gpu, layers, relative_error, shared, skip};
use impasto::cpu::{Cpu, CpuOracle};
use impasto::net::plan::Pooling;
use impasto::picture::{Picture, read_npy};
use impasto::recording::Backend;
use impasto::transfer::{
    Adam, AdamForm, Config, Convolution, Init, Orientation, Precision, Report, Size, StyleTransfer, presets,
};
use impasto::weights::{Weights, load};

/// Bar of the first gradient of halves: 1e-3 from noise, 2e-2 from a photo, where the ReLU and the windows of one unit in some
/// thousands go the other way.
const HALVES: f64 = 0.05;

struct Golden {
    name: &'static str,
    content: &'static str,
    style: &'static str,
    config: Config,
    /// Bar of every term over iterations 0..5, and over all 40.
    terms: [f64; 2],
    /// Bar of the first gradient, and of the gradient without its worst 1 % of pixels.
    gradient: [f64; 2],
    /// Bar of the first losses.
    first: f64,
    /// The final pictures agree to so many 255ths on that share of values.
    final_picture: Option<[f64; 2]>,
}

fn article(shared: &Path, noise: bool) -> Golden {
    let mut config = (presets::find("article").unwrap().config)();
    config.init = Init::Content;
    if noise {
        let (shape, values) = read_npy(&shared.join("golden/noise_224.npy")).unwrap();
        config.init = Init::Values { height: shape[0], width: shape[1], values };
    }
    Golden {
        name: if noise { "article_noise" } else { "article_content" },
        content: "westlake_224.png",
        style: "starry_224.png",
        config,
        terms: if noise { [1e-4, 1e-4] } else { [1e-3, 5e-3] },
        gradient: if noise { [1e-4, 1e-6] } else { [1e-3, 1e-5] },
        first: 1e-5,
        final_picture: noise.then_some([1.0, 0.999]),
    }
}

impl Golden {
    /// Bars for a convolution by Winograd's transforms.
    fn winograd(self) -> Golden {
        let ties = self.name == "article_content";
        let terms = if self.final_picture.is_some() { [1e-4, 1e-4] } else { [3e-3, 1e-2] };
        Golden { gradient: if ties { [0.1, 0.1] } else { [1e-3, 1e-3] }, terms, ..self }
    }

    /// Bars for maps of halves.
    fn halves(mut self) -> Golden {
        let noise = self.final_picture.is_some();
        self.config.precision = Precision::F16;
        let (terms, first) = if noise { ([1e-3; 2], 1e-4) } else { ([1e-2; 2], 1e-4) };
        Golden { terms, gradient: [HALVES; 2], first, final_picture: noise.then_some([2.0, 0.99]), ..self }
    }
}

fn odd(pooling: Pooling) -> Golden {
    let average = pooling == Pooling::Average;
    Golden {
        name: if average { "odd_avg" } else { "odd_max" },
        content: "tubingen_149x101.png",
        style: "wave_120x90.png",
        config: Config {
            size: Size::Native,
            style_size: Some(Size::Native),
            content_layers: layers(&["relu2_2", "relu3_1"]),
            style_layers: layers(&["relu1_1", "relu2_1", "relu3_1", "relu3_4"]),
            content_weight: 0.5,
            style_weight: 1000.0,
            tv_weight: 0.05,
            pooling,
            adam: Adam { learning_rate: 2.0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, form: AdamForm::TensorFlow },
            init: Init::Content,
            orientation: Orientation::True,
            mean: Some([123.68, 116.779, 103.939]),
            ..Config::default()
        },
        terms: [1e-3, 5e-3],
        gradient: if average { [1e-5, 1e-5] } else { [1e-3, 1e-5] },
        first: 1e-5,
        final_picture: None,
    }
}

fn weights(shared: &Path, depth: usize) -> Weights {
    load(&shared.join("vgg19/imagenet-vgg-verydeep-19.beta16.PARTIAL.mat"), depth).unwrap()
}

/// Largest difference of any term, relative to the larger of the reference and a thousandth of the total.
fn term_error(report: &Report, reference: &serde_json::Value) -> f64 {
    let total = reference["loss"].as_f64().unwrap();
    let mut worst = (report.total_loss - total).abs() / total;
    for (name, value) in report.terms() {
        let expected = reference[name].as_f64().unwrap_or_else(|| panic!("the reference has no term {name}"));
        worst = worst.max((f64::from(value) - expected).abs() / expected.abs().max(1e-3 * total));
    }
    worst
}

/// The gradient's relative error without the 1 % of pixels that differ most.
fn trimmed_error(a: &[f32], b: &[f32]) -> f64 {
    let mut pixels: Vec<(f64, usize)> =
        (0..a.len() / 3).map(|p| ((0..3).map(|c| f64::from(a[p * 3 + c] - b[p * 3 + c]).powi(2)).sum(), p)).collect();
    pixels.sort_by(|a, b| a.0.total_cmp(&b.0));
    pixels.truncate(pixels.len() - pixels.len().div_ceil(100));
    let kept =
        |values: &[f32]| pixels.iter().flat_map(|(_, p)| values[p * 3..p * 3 + 3].to_vec()).collect::<Vec<f32>>();
    relative_error(&kept(a), &kept(b))
}

fn follow(backend: &dyn Backend, shared: &Path, golden: Golden, iterations: usize) {
    let folder = shared.join("golden");
    let npy = |suffix: &str| read_npy(&folder.join(format!("{}_{suffix}.npy", golden.name))).unwrap().1;
    let log = std::fs::read_to_string(folder.join(format!("{}_log.json", golden.name))).unwrap();
    let log: Vec<serde_json::Value> = serde_json::from_str(&log).unwrap();
    let content = Picture::decode(&folder.join(golden.content)).unwrap();
    let style = Picture::decode(&folder.join(golden.style)).unwrap();
    let weights = weights(shared, golden.config.depth());
    let mean = golden.config.mean.unwrap();
    let mut job = StyleTransfer::new(backend, &weights, &content, &[style], golden.config).unwrap();

    let mut worst = [0.0_f64; 2];
    for reference in log.iter().take(iterations) {
        let report = job.advance(1).unwrap().remove(0);
        let error = term_error(&report, reference);
        if report.iteration == 0 {
            assert_eq!(report.terms().count() + 2, reference.as_object().unwrap().len(), "terms missing");
            assert!(error <= golden.first, "{}: iteration 0 differs by {error:.2e}", golden.name);
            let (gradient, expected) = (job.gradient().unwrap(), npy("grad0"));
            let errors = [relative_error(&gradient, &expected), trimmed_error(&gradient, &expected)];
            println!(
                "{}: first losses {error:.2e}, gradient {:.2e}, trimmed {:.2e}",
                golden.name, errors[0], errors[1]
            );
            assert!(errors[0] <= golden.gradient[0], "{}: gradient differs by {:.2e}", golden.name, errors[0]);
            assert!(errors[1] <= golden.gradient[1], "{}: trimmed gradient: {:.2e}", golden.name, errors[1]);
        }
        let window = usize::from(report.iteration >= 5);
        worst[window] = worst[window].max(error);
        let bar = golden.terms[window];
        assert!(error <= bar, "{}: iteration {} differs by {error:.2e}", golden.name, report.iteration);
    }
    println!("{}: terms over 5 iterations {:.2e}, up to {iterations} {:.2e}", golden.name, worst[0], worst[1]);
    if let Some([distance, bar]) = golden.final_picture.filter(|_| iterations >= log.len()) {
        let picture = job.image().unwrap().rgb;
        let expected = npy("final");
        let near = picture.iter().zip(&expected).enumerate();
        let near = near.filter(|(i, (a, b))| f64::from((*a - mean[i % 3] - *b).abs()) <= distance).count();
        let share = near as f64 / expected.len() as f64;
        println!("{}: final picture within {distance}/255 on {:.3} %", golden.name, 100.0 * share);
        assert!(share >= bar, "{}: only {share} of the final values agree", golden.name);
    }
}

fn iterations(default: usize) -> usize {
    std::env::var("IMPASTO_GOLDEN_ITERATIONS").ok().map_or(default, |n| n.parse().unwrap())
}

fn on_cpu(test: &str, golden: impl Fn(&Path) -> Golden) {
    if let Some(shared) = shared(test) {
        follow(&Cpu, &shared, golden(&shared).winograd(), iterations(40));
    }
}

fn on_gpu(test: &str, golden: impl Fn(&Path) -> Golden) {
    if let (Some(shared), Some(gpu)) = (shared(test), gpu(test)) {
        let mut golden = golden(&shared);
        golden.config.convolution = Convolution::Direct;
        // A software renderer without AVX-512 took 19 s for an iteration of the article.
        let software = gpu.name().contains("software");
        follow(&gpu, &shared, golden, iterations(if software { 6 } else { 40 }));
    }
}

/// With Winograd's transforms wherever there are channels, the first two iterations.
fn on_gpu_transformed(test: &str, golden: impl Fn(&Path) -> Golden) {
    if let (Some(shared), Some(gpu)) = (shared(test), gpu(test)) {
        let mut golden = golden(&shared).winograd();
        golden.config.convolution = Convolution::Winograd;
        follow(&gpu, &shared, golden, iterations(2));
    }
}

/// A software renderer takes up to a minute for an iteration: one run on it has to do.
fn of_halves(test: &str, golden: impl Fn(&Path) -> Golden) {
    let Some(shared) = shared(test) else { return };
    follow(&Cpu, &shared, golden(&shared).halves(), iterations(40));
    let Some(gpu) = gpu(test) else { return };
    let (mut golden, software) = (golden(&shared).halves(), gpu.name().contains("software"));
    // Matrix units take filters that are halves, too.
    golden.first = if gpu.matrices().is_some() { 1e-3 } else { golden.first };
    match software && golden.final_picture.is_none() {
        true => skip(test, "too slow on a software renderer"),
        false => follow(&gpu, &shared, golden, iterations(if software { 1 } else { 40 })),
    }
}

#[test]
fn the_article_from_noise_on_the_cpu_engine() {
    on_cpu("article_noise, CPU engine", |shared| article(shared, true));
}

#[test]
fn the_article_from_content_on_the_cpu_engine() {
    on_cpu("article_content, CPU engine", |shared| article(shared, false));
}

#[test]
fn an_odd_size_with_max_pooling_on_the_cpu_engine() {
    on_cpu("odd_max, CPU engine", |_| odd(Pooling::Max));
}

#[test]
fn an_odd_size_with_average_pooling_on_the_cpu_engine() {
    on_cpu("odd_avg, CPU engine", |_| odd(Pooling::Average));
}

#[test]
fn the_article_from_noise_on_a_gpu() {
    on_gpu("article_noise", |shared| article(shared, true));
}

#[test]
fn the_article_from_content_on_a_gpu() {
    on_gpu("article_content", |shared| article(shared, false));
}

#[test]
fn an_odd_size_with_max_pooling_on_a_gpu() {
    on_gpu("odd_max", |_| odd(Pooling::Max));
}

#[test]
fn an_odd_size_with_average_pooling_on_a_gpu() {
    on_gpu("odd_avg", |_| odd(Pooling::Average));
}

#[test]
fn the_article_from_noise_by_transforms_on_a_gpu() {
    on_gpu_transformed("article_noise, transforms", |shared| article(shared, true));
}

#[test]
fn the_article_from_content_by_transforms_on_a_gpu() {
    on_gpu_transformed("article_content, transforms", |shared| article(shared, false));
}

#[test]
fn an_odd_size_with_max_pooling_by_transforms_on_a_gpu() {
    on_gpu_transformed("odd_max, transforms", |_| odd(Pooling::Max));
}

#[test]
fn an_odd_size_with_average_pooling_by_transforms_on_a_gpu() {
    on_gpu_transformed("odd_avg, transforms", |_| odd(Pooling::Average));
}

#[test]
fn the_article_from_noise_by_halves_on_both_engines() {
    of_halves("article_noise, halves", |shared| article(shared, true));
}

#[test]
fn the_article_from_content_by_halves_on_both_engines() {
    of_halves("article_content, halves", |shared| article(shared, false));
}

#[test]
fn odd_sizes_by_halves_on_both_engines() {
    of_halves("odd_max, halves", |_| odd(Pooling::Max));
    of_halves("odd_avg, halves", |_| odd(Pooling::Average));
}

#[test]
fn the_article_from_noise_in_double_precision() {
    if let Some(shared) = shared("article_noise, double precision") {
        let golden = Golden { gradient: [1e-6, 1e-6], terms: [1e-6, 1e-6], ..article(&shared, true) };
        follow(&CpuOracle, &shared, golden, iterations(2).min(2));
    }
}
