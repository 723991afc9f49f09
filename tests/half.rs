//! Runs whose maps are halves against runs in single precision: losses, gradients, pictures, tiles, scales, memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "half/bands.rs"]
mod bands;
mod common;
#[path = "half/rehearsal.rs"]
mod rehearsal;
#[path = "half/rounding.rs"]
mod rounding;

use std::sync::LazyLock;

use common::{gpu, layers, noise, picture, relative_error};
use impasto::cpu::Cpu;
use impasto::error::{Error, Result};
use impasto::kernel::Scalar;
use impasto::net::bands::Bands;
use impasto::net::check::{checked, matrix_units_agree};
use impasto::net::edge::Edge;
use impasto::net::maps::{Precision, Scaling};
use impasto::net::plan::{Network, Pooling, TapTerm, Workspace};
use impasto::net::tiles::{Region, tiles};
use impasto::net::vgg19::Tap;
use impasto::ops::loss::{content_loss, sum_reduce};
use impasto::picture::Picture;
use impasto::recording::{Backend, Choices, Engine, Matrices, Method, Purpose, Recording, Rule, Tensor};
use impasto::transfer::{Adam, Config, Init, Optimizer, Size, StyleLoss, StyleTransfer};
use impasto::weights::Weights;
use impasto::weights::builtin::builtin;

/// What the program has built in, down to relu3_1: its activations are those of a network that was learnt.
static WEIGHTS: LazyLock<Weights> = LazyLock::new(|| builtin(5));

/// Smooth blobs and some grain, which have activations of all sizes.
fn scene(seed: u64, height: usize, width: usize) -> Picture {
    let smooth = picture(seed, height.div_ceil(9), width.div_ceil(9)).resized(width, height);
    let grain = noise(seed + 100, height * width * 3);
    let rgb = smooth.rgb.iter().zip(grain).map(|(value, grain)| (value + 12.0 * grain).clamp(0.0, 255.0)).collect();
    Picture { width, height, rgb }
}

fn job(
    backend: &dyn Backend,
    weights: &Weights,
    (height, width): (usize, usize),
    precision: Precision,
    config: &Config,
) -> StyleTransfer {
    let config = Config {
        size: Size::Native,
        style_size: Some(Size::Native),
        style_layers: layers(&["relu1_1", "relu2_2", "relu3_1"]),
        content_layers: layers(&["relu2_1"]),
        precision,
        ..config.clone()
    };
    let (content, style) = (scene(1, height, width), scene(2, height + 5, width - 3));
    StyleTransfer::new(backend, weights, &content, &[style], config).unwrap()
}

/// Terms of the loss in every iteration, and the picture after the last.
fn run(mut job: StyleTransfer) -> (Vec<Vec<(String, f64)>>, Picture) {
    let terms = |report: impasto::transfer::Report| -> Vec<(String, f64)> {
        report.terms().map(|(name, value)| (name.to_string(), f64::from(value))).collect()
    };
    let losses = job.steps().map(|report| terms(report.unwrap())).collect();
    (losses, job.image().unwrap())
}

/// The largest disagreement of a term, over |ref| or a thousandth of the total; and the part of the values that differ by more than 2.
fn disagreement(half: StyleTransfer, single: StyleTransfer) -> (f64, f64) {
    let ((half, picture), (single, expected)) = (run(half), run(single));
    assert!(half.len() == single.len() && half.len() > 1);
    let mut worst = 0.0_f64;
    for (half, single) in half.iter().zip(&single) {
        let total: f64 = single.iter().map(|(_, value)| value).sum();
        for ((name, a), (_, b)) in half.iter().zip(single) {
            assert!(a.is_finite(), "{name} is {a}");
            worst = worst.max((a - b).abs() / b.abs().max(1e-3 * total));
        }
    }
    let far = picture.rgb.iter().zip(&expected.rgb).filter(|(a, b)| (**a - **b).abs() > 2.0).count();
    (worst, far as f64 / expected.rgb.len() as f64)
}

fn compare(backend: &dyn Backend, size: (usize, usize), config: &Config, bars: [f64; 2]) {
    let [half, single] =
        [Precision::F16, Precision::F32].map(|precision| job(backend, &WEIGHTS, size, precision, config));
    let (losses, far) = disagreement(half, single);
    let Config { style_loss, pooling, edge, init, .. } = config;
    let place = format!("{style_loss:?}, {pooling:?}, {edge:?}, {init:?}");
    println!("{place}: losses {losses:.1e}, {:.2} % of values by more than 2", 100.0 * far);
    assert!(losses <= bars[0], "{place}: losses differ by {losses:.1e}");
    assert!(far <= bars[1], "{place}: {far} of the values differ by more than 2");
}

/// The article's start and its learning rate.
fn noise_init(style_loss: StyleLoss) -> Config {
    let adam = Adam { learning_rate: 0.5, ..Config::default().adam };
    Config { init: Init::Noise, iterations: 40, style_loss, adam, ..Config::default() }
}

#[test]
fn from_noise_halves_give_the_losses_and_nearly_the_picture_of_singles() {
    let quick = noise_init(StyleLoss::Article);
    compare(&Cpu, (61, 67), &quick, [1e-3, 0.01]);
    // Noise of one step in 255 around the mean colour changes activations by a hundredth of the bias: many windows of four
    // halves tie, and the first wins. Measured: losses 2.5e-3, 10 % of the values.
    let maximum = Config { pooling: Pooling::Max, ..quick.clone() };
    compare(&Cpu, (61, 67), &maximum, [5e-3, 0.2]);
    compare(&Cpu, (61, 67), &Config { pooling: Pooling::Average, ..noise_init(StyleLoss::Classic) }, [1e-3, 0.01]);
    let wasserstein = Config { pooling: Pooling::L2, edge: Edge::Replicate, ..noise_init(StyleLoss::Wasserstein) };
    // Its matrix roots see the smallest eigenvalues best. Measured: losses 1.1e-3, 1.2 % of the values.
    compare(&Cpu, (40, 53), &wasserstein, [2e-3, 0.03]);
    if let Some(gpu) = gpu("halves from noise") {
        compare(&gpu, (33, 29), &Config { iterations: 12, ..quick }, [1e-3, 0.01]);
    }
}

/// Where flat areas tie, a rounding decides which way a pixel goes, by 5 of 255 in each of Adam's first steps: the pictures
/// drift apart, the losses hardly.
#[test]
fn from_the_content_halves_give_nearly_the_losses_of_singles() {
    let content = |style_loss| Config { init: Init::Content, iterations: 40, style_loss, ..Config::default() };
    compare(&Cpu, (61, 67), &Config { pooling: Pooling::Max, ..content(StyleLoss::Article) }, [1e-2, 1.0]);
    let scales = Config { min_scale: Some(32), ema: 0.9, edge: Edge::Replicate, ..content(StyleLoss::Wasserstein) };
    compare(&Cpu, (61, 67), &scales, [1e-2, 1.0]);
    let normalized = Config { normalize_gradients: true, iterations: 10, ..content(StyleLoss::ScaledMse) };
    compare(&Cpu, (40, 31), &normalized, [1e-2, 1.0]);
}

/// ‖half - single‖ / ‖single‖ of a gradient: a value is rounded by up to 2^-11 of itself, so that about as large a share of
/// the units is let through by one and not by the other, or wins its window, and √2^-11 is what they make of the gradient.
const GRADIENT: f64 = 2.2e-2;

/// The first gradient of halves against that of singles.
fn gradient_error(weights: &Weights, config: &Config) -> f64 {
    let [half, single] = [Precision::F16, Precision::F32].map(|precision| {
        let mut job = job(&Cpu, weights, (45, 51), precision, config);
        assert!(job.advance(1).unwrap()[0].total_loss.is_finite());
        job.gradient().unwrap()
    });
    assert!(single.iter().any(|value| *value != 0.0));
    relative_error(&half, &single)
}

#[test]
fn gradients_of_any_size_survive_as_halves() {
    // Without total variation, which does not go through halves.
    let weighted = |weight: f32, style_loss| Config {
        style_weight: weight,
        content_weight: weight,
        tv_weight: 0.0,
        style_loss,
        init: Init::Picture(scene(7, 45, 51)),
        ..Config::default()
    };
    for style_loss in [StyleLoss::Article, StyleLoss::Gatys] {
        for weight in [1.0, 1e-12, 1e12] {
            let error = gradient_error(&WEIGHTS, &weighted(weight, style_loss));
            println!("{style_loss:?}, weight {weight:e}: {error:.1e}");
            assert!(error <= GRADIENT, "{style_loss:?}, weight {weight:e}: {error:.1e}");
        }
    }
}

/// Filters and bias of one layer many times as large: everything after it is, too.
fn louder(conv: usize, factor: f32) -> Weights {
    let mut weights = WEIGHTS.clone();
    weights.convs[conv].kernel.iter_mut().for_each(|value| *value *= factor);
    weights.convs[conv].bias.iter_mut().for_each(|value| *value *= factor);
    weights
}

#[test]
fn activations_beyond_the_range_of_halves_are_scaled_into_it() {
    let config = Config { init: Init::Noise, tv_weight: 0.0, ..Config::default() };
    for (conv, factor) in [(0, 4096.0), (2, 1e6), (1, 1e-6)] {
        let error = gradient_error(&louder(conv, factor), &config);
        println!("conv {conv} times {factor:e}: {error:.1e}");
        assert!(error <= GRADIENT, "conv {conv} times {factor:e}: {error:.1e}");
    }
}

/// A loss that needs no target: `Σ f²/2`, whose gradient is f.
struct Squares {
    tap: Tap,
    zeros: Tensor,
    losses: Tensor,
}

impl TapTerm for Squares {
    fn tap(&self) -> Tap {
        self.tap
    }

    fn backward(
        &self,
        work: &mut Workspace,
        recording: &mut Recording,
        feature: &Tensor,
        region: &Region,
        d_feature: &Tensor,
    ) -> Result<()> {
        let partial = work.take("partial", Scalar::F32, &[3]);
        let target = (&self.zeros, region.top, region.left);
        content_loss(recording, "squares", (feature, region.owned), target, 1.0, d_feature, &partial)?;
        sum_reduce(recording, "squares", &partial, 0.5, &self.losses, 0)?;
        work.give(partial);
        Ok(())
    }
}

/// Loss and gradient of [`Squares`] at relu2_1 with factors given by hand.
fn squares(weights: &Weights, precision: Precision, scaling: &Scaling) -> (f32, Vec<f32>) {
    let (height, width, tap) = (33, 37, "relu2_1".parse::<Tap>().unwrap());
    let (mut work, choices) = (Workspace::default(), Cpu.choices());
    let size = (&choices, [height, width]);
    let network = Network::new(&mut work, weights, tap.conv() + 1, (Pooling::Max, precision), size).unwrap();
    let mut tensor = |shape: &[usize]| work.table.tensor("test", Scalar::F32, shape, Purpose::Image);
    let (image, d_image, losses) = (tensor(&[height, width, 4]), tensor(&[height, width, 4]), tensor(&[1]));
    let zeros = tensor(&[height.div_ceil(2), width.div_ceil(2), tap.channels()]);
    let term = Squares { tap, zeros, losses: losses.clone() };
    let mut recording = Recording::new("squares");
    let tiles = tiles(height, width, None, tap.radius(), [2, 8]);
    let pictures = (&Bands::from(&image), &Bands::from(&d_image));
    network.record_gradient(&mut work, &mut recording, pictures, &tiles, &[&term], None).unwrap();
    let mut engine = Cpu.engine().unwrap();
    engine.allocate(&work.table).unwrap();
    network.upload(engine.as_mut(), weights, scaling).unwrap();
    let pixels = scene(4, height, width).rgb;
    let pixels: Vec<f32> =
        pixels.chunks_exact(3).flat_map(|p| [p[0] - 120.0, p[1] - 120.0, p[2] - 120.0, 0.0]).collect();
    engine.write(image.buffer, &pixels).unwrap();
    let program = engine.prepare(&recording).unwrap();
    engine.run(program, 1).unwrap();
    (engine.read(losses.buffer).unwrap()[0], engine.read(d_image.buffer).unwrap())
}

/// The factors are powers of two: whatever they are, results differ by no bit, until a half runs out of exponents.
#[test]
fn factors_change_nothing_but_the_range() {
    let scaling = |activations: [f32; 3], gradient| Scaling { activations: activations.to_vec(), gradient };
    let plain = squares(&WEIGHTS, Precision::F16, &scaling([1.0; 3], 1.0 / 1024.0));
    let scaled = squares(&WEIGHTS, Precision::F16, &scaling([0.25, 2.0, 0.5], 1.0 / 4096.0));
    assert!(plain.1.iter().any(|value| *value != 0.0));
    assert_eq!(plain.0, scaled.0, "the loss");
    let error = relative_error(&scaled.1, &plain.1);
    assert!(error <= 1e-5, "the gradient: {error:.1e}");
    let single = squares(&WEIGHTS, Precision::F32, &Scaling::default());
    assert!((plain.0 / single.0 - 1.0).abs() < 1e-3 && relative_error(&plain.1, &single.1) < GRADIENT);
    // A layer that is too loud overflows without a factor, which the ReLU after it hides, and with one does not.
    let loud = louder(1, 4096.0);
    let without = squares(&loud, Precision::F16, &scaling([1.0; 3], 1.0));
    let with = squares(&loud, Precision::F16, &scaling([1.0, 1.0 / 4096.0, 1.0 / 4096.0], 1.0 / (1 << 30) as f32));
    let single = squares(&loud, Precision::F32, &Scaling::default());
    assert!(!(without.0.is_finite() && (without.0 / single.0 - 1.0).abs() < 0.1), "the loss is {}", without.0);
    assert!((with.0 / single.0 - 1.0).abs() < 1e-3, "{} and {}", with.0, single.0);
    assert!(relative_error(&with.1, &single.1) < GRADIENT);
}

/// Both round alike; the sums of the Gram matrices are those of tiles and bands.
#[test]
fn tiles_of_halves_have_the_losses_and_the_gradient_of_the_whole() {
    for (pooling, edge) in [(Pooling::Max, Edge::Replicate), (Pooling::Average, Edge::Zero), (Pooling::L2, Edge::Zero)]
    {
        let start = |tile| {
            let init = Init::Picture(scene(7, 61, 67));
            let mut job = job(
                &Cpu,
                &WEIGHTS,
                (61, 67),
                Precision::F16,
                &Config { tile, pooling, edge, init, ..Config::default() },
            );
            let report = job.advance(1).unwrap().remove(0);
            let terms: Vec<f32> = report.terms().map(|(_, value)| value).collect();
            (terms, job.gradient().unwrap())
        };
        let ((terms, gradient), (tiled_terms, tiled_gradient)) = (start(None), start(Some(32)));
        for (tiled, whole) in tiled_terms.iter().zip(&terms) {
            assert!((tiled - whole).abs() <= 1e-5 * whole.abs(), "{pooling:?}: {tiled} and {whole}");
        }
        let error = relative_error(&tiled_gradient, &gradient);
        println!("{pooling:?}, {edge:?}: {error:.1e}");
        // Where halos overlap, each tile's part of the gradient is rounded by itself.
        assert!(error <= 1e-3, "{pooling:?}: {error:.1e}");
    }
}

#[test]
fn both_engines_agree_on_halves() {
    let Some(gpu) = gpu("halves on both engines") else { return };
    for pooling in [Pooling::Max, Pooling::L2] {
        let config =
            Config { pooling, init: Init::Picture(scene(7, 29, 35)), edge: Edge::Replicate, ..Config::default() };
        let outcomes = [&Cpu as &dyn Backend, &gpu].map(|backend| {
            let mut job = job(backend, &WEIGHTS, (29, 35), Precision::F16, &config);
            let loss = job.advance(1).unwrap()[0].total_loss;
            (loss, job.gradient().unwrap())
        });
        let [(cpu_loss, cpu), (gpu_loss, gpu)] = outcomes;
        assert!((cpu_loss / gpu_loss - 1.0).abs() < 1e-4, "{cpu_loss} and {gpu_loss}");
        let error = relative_error(&gpu, &cpu);
        println!("{pooling:?}: {error:.1e}");
        assert!(error <= 3e-3, "{pooling:?}: {error:.1e}");
    }
}

#[test]
fn lbfgs_gets_as_far_with_halves() {
    let config = Config { optimizer: Optimizer::Lbfgs, iterations: 15, ..Config::default() };
    let [half, single] = [Precision::F16, Precision::F32].map(|precision| {
        let (losses, _) = run(job(&Cpu, &WEIGHTS, (45, 51), precision, &config));
        losses.last().unwrap().iter().map(|(_, value)| value).sum::<f64>()
    });
    println!("{half} and {single}");
    assert!(half <= 1.05 * single, "{half} after 15 iterations, {single} with singles");
}

/// Same device, same settings, same bits; also of a run that was broken off.
#[test]
fn a_run_of_halves_can_be_repeated_and_resumed_to_the_bit() {
    let config = Config { iterations: 6, min_scale: Some(32), scale_factor: 1.5, ..Config::default() };
    let fresh = || job(&Cpu, &WEIGHTS, (48, 40), Precision::F16, &config);
    let (mut straight, mut broken) = (fresh(), fresh());
    let all: Vec<_> = straight.steps().collect::<Result<_>>().unwrap();
    while broken.iteration() < 9 {
        broken.advance(1).unwrap();
    }
    let checkpoint = broken.checkpoint().unwrap();
    let mut resumed = fresh();
    resumed.resume(&checkpoint, None).unwrap();
    let rest: Vec<_> = resumed.steps().collect::<Result<_>>().unwrap();
    assert_eq!(rest.len() + 9, all.len());
    for (a, b) in rest.iter().zip(&all[9..]) {
        assert_eq!(a.total_loss, b.total_loss, "iteration {}", a.iteration);
    }
    assert_eq!(resumed.image().unwrap(), straight.image().unwrap());
    // A checkpoint of the other precision is refused.
    let mut single = job(&Cpu, &WEIGHTS, (48, 40), Precision::F32, &config);
    let refused = single.resume(&checkpoint, None).unwrap_err().to_string();
    assert!(refused.contains("precision"), "{refused}");
}

#[test]
fn halves_take_little_more_than_half_the_memory_and_the_forecast_knows() {
    let size = (600, 640);
    let bytes = |precision| {
        let config = Config {
            size: Size::Native,
            style_size: Some(Size::Exact(64, 64)),
            style_layers: layers(&["relu1_1", "relu2_1", "relu3_1"]),
            content_layers: layers(&["relu3_1"]),
            precision,
            ..Config::default()
        };
        let pictures = [picture(1, size.0, size.1), picture(2, 64, 64)];
        let plan = StyleTransfer::plan_on(&Cpu, &WEIGHTS, &pictures[0], &pictures[1..], &config).unwrap().remove(0);
        plan.buffers.bytes(Purpose::Tile)
    };
    let (half, single) = (bytes(Precision::F16), bytes(Precision::F32));
    println!("a tile of 600x640: {} MiB, {} MiB with singles", half >> 20, single >> 20);
    assert!(half as f64 <= 0.62 * single as f64, "{half} and {single}");
    // And the engine holds what was forecast.
    for pooling in [Pooling::Max, Pooling::L2] {
        let config = Config { pooling, ..Config::default() };
        let mut job = job(&Cpu, &WEIGHTS, (160, 170), Precision::F16, &config);
        let (content, style) = (scene(1, 160, 170), scene(2, 165, 167));
        let config = Config {
            size: Size::Native,
            style_size: Some(Size::Native),
            style_layers: layers(&["relu1_1", "relu2_2", "relu3_1"]),
            content_layers: layers(&["relu2_1"]),
            precision: Precision::F16,
            ..config
        };
        let plan = StyleTransfer::plan_on(&Cpu, &WEIGHTS, &content, &[style], &config).unwrap().remove(0);
        job.advance(1).unwrap();
        let held = job.ledger();
        assert_eq!(held.buffers, plan.buffers.total());
        let (held, forecast) = (held.total() as f64, plan.bytes() as f64);
        assert!(held <= forecast && forecast <= 1.05 * held, "{pooling:?}: holds {held}, forecast {forecast}");
    }
}

/// The CPU engine has no matrix units, but it has their twins: the check itself can be run on it.
#[test]
fn matrix_units_are_trusted_where_they_agree_and_left_out_where_they_fail() {
    #[derive(Debug)]
    struct Broken;
    impl Backend for Broken {
        fn engine(&self) -> Result<Box<dyn Engine>> {
            Err(Error::NoDevice { what: "broken".into(), hint: "none".into() })
        }
    }
    for edge in [8, 16] {
        let units = Matrices { edge, subgroup: 32 };
        assert!(matrix_units_agree(&Cpu, units).unwrap());
        let choices = Choices { rules: vec![Rule::always(Method::Cooperative(units))] };
        assert_eq!(checked(&Cpu, choices.clone(), Precision::F16), (choices.clone(), None));
        let dropped = (Choices::default(), Some(Method::Cooperative(units)));
        assert_eq!(checked(&Broken, choices.clone(), Precision::F16), dropped);
        assert_eq!(checked(&Broken, choices.clone(), Precision::F32), (choices, None), "not used there");
    }
    // Shaders that a device refuses are an error, not a panic, and no reason to fail.
    if let Some(gpu) = gpu("matrix units") {
        match gpu.matrices() {
            Some(units) => assert!(matrix_units_agree(&gpu, units).unwrap()),
            None => assert!(matrix_units_agree(&gpu, Matrices { edge: 16, subgroup: 32 }).is_err()),
        }
    }
}

/// A whole run by the twins of the matrix units: filters are halves, too.
#[test]
fn a_run_on_matrix_units_has_nearly_the_losses_of_singles() {
    #[derive(Debug)]
    struct Units;
    impl Backend for Units {
        fn engine(&self) -> Result<Box<dyn Engine>> {
            Cpu.engine()
        }
        fn choices(&self) -> Choices {
            Choices { rules: vec![Rule::always(Method::Cooperative(Matrices { edge: 16, subgroup: 32 }))] }
        }
    }
    let config = Config { iterations: 10, ..noise_init(StyleLoss::Article) };
    let half = job(&Units, &WEIGHTS, (45, 51), Precision::F16, &config);
    assert!(half.recording().to_string().contains("conv3x3_cooperative16_backward"));
    let (losses, far) = disagreement(half, job(&Cpu, &WEIGHTS, (45, 51), Precision::F32, &config));
    println!("losses {losses:.1e}, {far}");
    assert!(losses <= 3e-3 && far <= 0.01, "losses differ by {losses:.1e}, {far} of the values by more than 2");
}
