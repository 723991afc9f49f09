//! Several styles, and masks: which style goes where, and what is painted at all.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::LazyLock;

use common::{gpu, layers, noise, picture, relative_error};
use impasto::cpu::{Cpu, CpuOracle};
use impasto::net::plan::Pooling;
use impasto::net::vgg19::Tap;
use impasto::picture::{Mask, Picture};
use impasto::recording::Backend;
use impasto::transfer::{
    Config, Init, Inputs, Optimizer, Place, Size, StyleLoss, StyleTargets, StyleTransfer, TotalVariation,
};
use impasto::weights::{Conv, VGG19, Weights};
use serde_json::Value;

/// The network of the reference scripts.
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

const LOSSES: [StyleLoss; 5] =
    [StyleLoss::Article, StyleLoss::Classic, StyleLoss::Gatys, StyleLoss::ScaledMse, StyleLoss::Wasserstein];

/// Seeded values with soft edges, a seventh of them 0 and a seventh 1; black for seed 0.
fn mask(seed: u64, height: usize, width: usize) -> Mask {
    let value = |noise: &f32| if seed == 0 { 0.0 } else { (0.7 * noise + 0.5).clamp(0.0, 1.0) };
    let values = noise(seed, height * width).iter().map(value).collect();
    Mask { width, height, values }
}

/// One value everywhere.
fn flat(value: f32, height: usize, width: usize) -> Mask {
    Mask { width, height, values: vec![value; height * width] }
}

/// Losses by name and the gradient, both of the first iteration.
fn first_step(mut job: StyleTransfer) -> (Vec<(String, f32)>, Vec<f32>) {
    let report = job.advance(1).unwrap().remove(0);
    let terms = report.terms().map(|(name, value)| (name.to_string(), value)).collect();
    (terms, job.gradient().unwrap())
}

/// Worst relative difference of a term, and that of the gradient.
fn difference(a: &(Vec<(String, f32)>, Vec<f32>), b: &(Vec<(String, f32)>, Vec<f32>)) -> [f64; 2] {
    let mut worst = 0.0_f64;
    for ((name, found), (other, expected)) in a.0.iter().zip(&b.0) {
        assert_eq!(name, other);
        worst = worst.max(f64::from((found - expected).abs()) / f64::from(expected.abs()).max(1e-30));
    }
    assert_eq!(a.0.len(), b.0.len());
    [worst, relative_error(&a.1, &b.1)]
}

/// A case of `tests/reference/masks.json`.
fn check_reference(backend: &dyn Backend, figure: &Value, bar: f64) {
    let numbers = |value: &Value| -> Vec<usize> {
        value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
    };
    let weighted = |key: &str| -> Vec<(Tap, f32)> {
        let layers = figure[key].as_object().unwrap().iter();
        layers.map(|(name, weight)| (name.parse().unwrap(), weight.as_f64().unwrap() as f32)).collect()
    };
    let size = numbers(&figure["size"]);
    let styles: Vec<Picture> = figure["styles"]
        .as_array()
        .unwrap()
        .iter()
        .map(numbers)
        .enumerate()
        .map(|(i, size)| picture(30 + i as u64, size[0], size[1]))
        .collect();
    let masks: Vec<Place> = figure["masks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| match entry.is_string() {
            true => Place::Rest,
            false => {
                let entry = numbers(entry);
                Place::Within(mask(entry[0] as u64, entry[1], entry[2]))
            }
        })
        .collect();
    let paint = figure["paint"].is_array().then(|| {
        let size = numbers(&figure["paint"]);
        mask(20, size[0], size[1])
    });
    let config = Config {
        size: Size::Native,
        style_size: Some(Size::Native),
        content_layers: weighted("content_layers"),
        style_layers: weighted("style_layers"),
        content_weight: 1.0,
        style_weight: figure["style_weight"].as_f64().unwrap() as f32,
        style_loss: LOSSES[["article", "classic", "gatys", "scaled-mse", "wasserstein"]
            .iter()
            .position(|name| figure["style_loss"] == **name)
            .unwrap()],
        style_blend_weights: figure["blend"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect(),
        tv_weight: figure["tv_weight"].as_f64().unwrap() as f32,
        pooling: if figure["pooling"] == "max" { Pooling::Max } else { Pooling::Average },
        init: Init::Picture(picture(3, size[0], size[1])),
        iterations: 1,
        ..Config::default()
    };
    let content = picture(1, size[0], size[1]);
    let inputs = Inputs { masks: &masks, paint: paint.as_ref(), ..Inputs::new(&content, &styles) };
    let (terms, gradient) = first_step(StyleTransfer::with(backend, &WEIGHTS, &inputs, config).unwrap());
    let losses = figure["losses"].as_object().unwrap();
    assert_eq!(terms.len(), losses.len(), "{}", figure["name"]);
    let mut worst = 0.0_f64;
    for (name, found) in &terms {
        let expected = losses[name].as_f64().unwrap();
        let error = (f64::from(*found) - expected).abs() / if expected == 0.0 { 1.0 } else { expected };
        worst = worst.max(error);
    }
    let expected: Vec<f32> =
        figure["gradient"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    let error = relative_error(&gradient, &expected);
    let engine = backend.engine().unwrap().describe();
    println!("{}, {engine}: losses {worst:.1e}, gradient {error:.1e}", figure["name"]);
    assert!(worst <= bar && error <= bar, "{}: losses {worst:.1e}, gradient {error:.1e}", figure["name"]);
}

fn check_references(backend: &dyn Backend, bar: f64, root: f64) {
    let figures: Vec<Value> = serde_json::from_str(include_str!("reference/masks.json")).unwrap();
    assert!(figures.len() >= 19);
    for figure in &figures {
        // The matrix root's small eigenvalues come out of rounding errors of the large ones.
        check_reference(backend, figure, if figure["style_loss"] == "wasserstein" { root } else { bar });
    }
}

#[test]
fn the_oracle_agrees_with_the_reference() {
    // Factors, masks and read-back are in single precision.
    check_references(&CpuOracle, 1e-6, 1e-6);
}

#[test]
fn the_cpu_engine_agrees_with_the_reference() {
    check_references(&Cpu, 2e-5, 1e-4);
}

#[test]
fn a_gpu_agrees_with_the_reference() {
    if let Some(gpu) = gpu("masks") {
        check_references(&gpu, 2e-5, 1e-4);
    }
}

/// Settings with every loss, from a picture that is neither content nor style.
fn settings(style_loss: StyleLoss, (height, width): (usize, usize)) -> Config {
    Config {
        size: Size::Native,
        style_size: Some(Size::Native),
        content_layers: layers(&["relu2_1", "relu3_1"]),
        style_layers: layers(&["relu1_1", "relu2_2", "relu3_1"]),
        style_weight: 100.0,
        style_loss,
        tv_weight: 0.05,
        tv: TotalVariation::NinePoint,
        pooling: Pooling::Average,
        iterations: 3,
        init: Init::Picture(picture(3, height, width)),
        ..Config::default()
    }
}

/// A mask that is white everywhere, and two halves of a grey one for the same style, against no mask.
fn compare_with_none(backend: &dyn Backend) {
    for style_loss in LOSSES {
        let (height, width) = (23, 17);
        let (content, styles) = (picture(1, height, width), [picture(2, 19, 21)]);
        let inputs = Inputs::new(&content, &styles);
        let job =
            |inputs: &Inputs<'_>, config| first_step(StyleTransfer::with(backend, &WEIGHTS, inputs, config).unwrap());
        let config = settings(style_loss, (height, width));
        let none = job(&inputs, config.clone());
        // Wasserstein's gradients of the mean and of the moments cancel, and are added up in another order.
        let [white, bar] = if style_loss == StyleLoss::Wasserstein { [1e-5, 1e-4] } else { [1e-6, 1e-5] };
        let everywhere = [Place::Within(flat(1.0, 5, 4))];
        let grey = [Place::Within(flat(0.25, height, width)), Place::Rest];
        let twice = [styles[0].clone(), styles[0].clone()];
        for masks in [&everywhere[..], &[Place::Rest]] {
            let errors = difference(&job(&Inputs { masks, ..inputs.clone() }, config.clone()), &none);
            println!("{style_loss:?}, white: {errors:?}");
            assert!(errors.iter().all(|error| *error <= white), "{style_loss:?}: {errors:?}");
        }
        let paint = flat(1.0, 2, 3);
        let errors = difference(&job(&Inputs { paint: Some(&paint), ..inputs.clone() }, config.clone()), &none);
        assert!(errors.iter().all(|error| *error <= white), "{style_loss:?}, content mask: {errors:?}");
        // Statistics do not change when every position counts by a quarter: losses by area, gradients add up.
        let (terms, gradient) = job(&Inputs { masks: &grey, styles: &twice, ..inputs.clone() }, config.clone());
        for (name, whole) in &none.0 {
            let of = |name: &str| terms.iter().find(|(other, _)| other == name).unwrap().1;
            if let Some(tap) = name.strip_prefix("style/") {
                let (own, rest) = (of(name), of(&format!("style 2/{tap}")));
                let away = ((own / whole - 0.25).abs()).max((rest / whole - 0.75).abs());
                assert!(f64::from(away) <= bar, "{style_loss:?}: {own} and {rest} of {whole}");
            }
        }
        let error = relative_error(&gradient, &none.1);
        println!("{style_loss:?}, quarters: gradient {error:.1e}");
        assert!(error <= bar, "{style_loss:?}: {error:.1e}");
        // The same style twice is the style.
        let errors = difference(&job(&Inputs { styles: &twice, ..inputs.clone() }, config), &none);
        assert!(errors.iter().all(|error| *error <= bar), "{style_loss:?}, twice: {errors:?}");
    }
}

#[test]
fn a_white_mask_is_none_and_grey_ones_share_the_loss_on_the_cpu_engine() {
    compare_with_none(&Cpu);
}

#[test]
fn a_white_mask_is_none_and_grey_ones_share_the_loss_on_a_gpu() {
    if let Some(gpu) = gpu("white masks") {
        compare_with_none(&gpu);
    }
}

/// Three styles, soft masks of which one is black over whole tiles, and a content mask.
fn masked(backend: &dyn Backend, (height, width): (usize, usize), config: Config) -> StyleTransfer {
    let (content, styles) = (picture(1, height, width), [picture(2, 19, 21), picture(4, 40, 9), picture(5, 3, 50)]);
    let mut corner = mask(11, height, width);
    for (at, value) in corner.values.iter_mut().enumerate() {
        if at / width > 20 || at % width > 20 {
            *value = 0.0;
        }
    }
    let masks = [Place::Within(mask(10, 7, 9)), Place::Rest, Place::Within(corner)];
    let paint = mask(12, height, width);
    let inputs = Inputs { masks: &masks, paint: Some(&paint), ..Inputs::new(&content, &styles) };
    let config = Config { style_blend_weights: vec![1.0, 2.0, 0.5], ..config };
    StyleTransfer::with(backend, &WEIGHTS, &inputs, config).unwrap()
}

fn compare_tiles(backend: &dyn Backend, size: (usize, usize), losses: &[StyleLoss]) {
    for &style_loss in losses {
        let config = Config { pooling: Pooling::Max, ..settings(style_loss, size) };
        let whole = first_step(masked(backend, size, config.clone()));
        let bar = if style_loss == StyleLoss::Wasserstein { 1e-4 } else { 1e-5 };
        for (tile, max_buffer) in [(32, 128 << 20), (48, 128 << 20), (32, 5 * 16 * size.1 as u64)] {
            let config = Config { tile: Some(tile), max_buffer, ..config.clone() };
            let errors = difference(&first_step(masked(backend, size, config)), &whole);
            println!("{style_loss:?} in tiles of {tile}, {max_buffer} bytes a band: {errors:?}");
            assert!(errors.iter().all(|error| *error <= bar), "{style_loss:?} in tiles of {tile}: {errors:?}");
        }
    }
}

#[test]
fn tiles_and_bands_change_nothing_with_masks_on_the_cpu_engine() {
    compare_tiles(&Cpu, (53, 67), &LOSSES);
    compare_tiles(&Cpu, (1, 113), &[StyleLoss::ScaledMse]);
}

#[test]
fn tiles_and_bands_change_nothing_with_masks_on_a_gpu() {
    if let Some(gpu) = gpu("masks in tiles") {
        compare_tiles(&gpu, (37, 41), &[StyleLoss::Article, StyleLoss::Wasserstein]);
    }
}

/// Every start and optimiser, averages and scales: nothing moves where the mask is black.
#[test]
fn what_is_not_painted_stays_the_content_to_the_bit() {
    let (height, width) = (40, 52);
    let (content, styles) = (picture(1, height, width), [picture(2, 30, 24)]);
    let content = Picture { rgb: content.rgb.iter().map(|value| value.round()).collect(), ..content };
    let paint = Mask {
        values: (0..height * width).map(|at| ((at % width) as f32 / 20.0 - 0.5).clamp(0.0, 1.0)).collect(),
        ..flat(0.0, height, width)
    };
    let inits = [
        Init::Content,
        Init::Noise,
        Init::StyleStats,
        Init::Picture(picture(3, 20, 20)),
        Init::Values { height, width, values: vec![5.0; height * width * 3] },
    ];
    let base = Config {
        size: Size::Native,
        content_layers: layers(&["relu1_2"]),
        style_layers: layers(&["relu1_1", "relu2_1"]),
        iterations: 4,
        ..Config::default()
    };
    let mut configs: Vec<Config> = inits.into_iter().map(|init| Config { init, ..base.clone() }).collect();
    let adam = Config { init: Init::Noise, ..base.clone() };
    configs.extend([
        Config { optimizer: Optimizer::Lbfgs, ..adam.clone() },
        Config { ema: 0.9, clamp: true, normalize_gradients: true, tile: Some(32), max_buffer: 5000, ..adam.clone() },
        Config {
            min_scale: Some(16),
            scale_factor: 1.7,
            keep_moments: true,
            ema: 0.9,
            init_noise: 0.5,
            ..base.clone()
        },
        Config { min_scale: Some(16), optimizer: Optimizer::Lbfgs, ..adam },
    ]);
    for config in configs {
        let inputs = Inputs { paint: Some(&paint), ..Inputs::new(&content, &styles) };
        let mut job = StyleTransfer::with(&Cpu, &WEIGHTS, &inputs, config.clone()).unwrap();
        while job.iteration() < job.scales().iter().map(|scale| scale.iterations).sum() {
            job.advance(2).unwrap();
            let image = job.image().unwrap();
            let (mut moved, mut kept) = (0, 0);
            for ((pixel, own), share) in image.rgb.chunks(3).zip(content.rgb.chunks(3)).zip(&paint.values) {
                if *share == 0.0 {
                    assert_eq!(pixel, own, "{config:?}");
                    kept += 1;
                } else {
                    moved += usize::from(pixel != own);
                }
            }
            assert!(kept > 300 && moved > 1000, "{kept} kept, {moved} moved");
        }
    }
}

/// The kept part is the content while the run goes on, too: it is what the network sees beside the painted part.
#[test]
fn the_gradient_is_zero_where_nothing_is_painted() {
    let size = (23, 17);
    let mut job = masked(&Cpu, size, settings(StyleLoss::Article, size));
    job.advance(1).unwrap();
    let paint = mask(12, size.0, size.1);
    for (gradient, share) in job.gradient().unwrap().chunks(3).zip(&paint.values) {
        assert_eq!(gradient.iter().all(|value| *value == 0.0), *share == 0.0);
    }
}

#[test]
fn the_memory_with_masks_and_several_styles_is_what_was_forecast() {
    let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(Cpu)];
    backends.extend(gpu("forecast with masks").map(|gpu| Box::new(gpu) as Box<dyn Backend>));
    for backend in &backends {
        for (tile, max_buffer) in [(None, 128 << 20), (Some(32), 20_000)] {
            let (content, styles) = (picture(1, 61, 67), [picture(2, 40, 50), picture(4, 90, 30)]);
            let (masks, paint) = ([Place::Within(mask(10, 61, 67)), Place::Rest], mask(12, 61, 67));
            let inputs = Inputs { masks: &masks, paint: Some(&paint), ..Inputs::new(&content, &styles) };
            let config = Config { tile, max_buffer, ..settings(StyleLoss::Wasserstein, (61, 67)) };
            let forecast = inputs.plan_on(backend.as_ref(), &WEIGHTS, &config).unwrap().remove(0);
            assert_eq!(forecast.styles, [(50, 40), (30, 90)]);
            let mut job = StyleTransfer::with(backend.as_ref(), &WEIGHTS, &inputs, config).unwrap();
            job.advance(2).unwrap();
            job.image().unwrap();
            let held = job.ledger();
            println!("held {held:?}, forecast {}", forecast.bytes());
            assert_eq!(held.buffers, forecast.buffers.total());
            assert!(held.total() <= forecast.bytes(), "{held:?}, forecast {}", forecast.bytes());
            assert!(held.total() as f64 >= 0.95 * forecast.bytes() as f64, "{held:?}, forecast {}", forecast.bytes());
        }
    }
}

#[test]
fn kept_targets_give_the_same_bits_and_are_those_of_the_same_styles_and_settings_only() {
    let targets = StyleTargets::default();
    let (content, styles) = (picture(1, 40, 52), [picture(2, 60, 48), picture(4, 40, 66)]);
    let base = Config {
        size: Size::Native,
        min_scale: Some(30),
        content_layers: layers(&["relu1_2"]),
        style_layers: layers(&["relu1_1", "relu2_1"]),
        style_loss: StyleLoss::Wasserstein,
        iterations: 2,
        ..Config::default()
    };
    let run = |content: &Picture, styles: &[Picture], config: &Config, targets: Option<&StyleTargets>| {
        let inputs = Inputs { targets: targets.cloned(), ..Inputs::new(content, styles) };
        let mut job = StyleTransfer::with(&Cpu, &WEIGHTS, &inputs, config.clone()).unwrap();
        job.steps().for_each(|report| drop(report.unwrap()));
        job.image().unwrap().rgb
    };
    let alone = run(&content, &styles, &base, None);
    assert!(run(&content, &styles, &base, Some(&targets)) == alone);
    let scales = targets.len();
    assert_eq!(scales, 2, "one for each scale");
    assert!(run(&content, &styles, &base, Some(&targets)) == alone, "the second run takes them");
    assert_eq!(targets.len(), scales);
    // Another content of the same size, another content weight, another start: the same targets.
    let other = picture(7, 40, 52);
    assert!(run(&other, &styles, &base, Some(&targets)) == run(&other, &styles, &base, None));
    run(&content, &styles, &Config { content_weight: 3.0, init: Init::Noise, ..base.clone() }, Some(&targets));
    assert_eq!(targets.len(), scales);
    let mut swapped = styles.clone();
    swapped.reverse();
    for (styles, config) in [
        (&swapped, base.clone()),
        (&styles, Config { style_blend_weights: vec![1.0, 3.0], ..base.clone() }),
        (&styles, Config { style_scale: vec![0.5], ..base.clone() }),
        (&styles, Config { style_loss: StyleLoss::Gatys, ..base.clone() }),
        (&styles, Config { pooling: Pooling::Max, ..base.clone() }),
        (&styles, Config { mean: Some([100.0; 3]), ..base.clone() }),
        (&styles, Config { style_layers: layers(&["relu1_2", "relu2_1"]), ..base.clone() }),
    ] {
        let before = targets.len();
        assert!(run(&content, styles, &config, Some(&targets)) == run(&content, styles, &config, None));
        assert_eq!(targets.len(), before + 2, "{config:?}");
    }
    targets.clear();
    assert!(targets.is_empty());
}

#[test]
fn numbers_of_masks_weights_and_scales_that_do_not_fit_are_refused() {
    let (content, styles) = (picture(1, 8, 8), [picture(2, 8, 8), picture(4, 8, 8)]);
    let inputs = Inputs::new(&content, &styles);
    let config = Config::default;
    let refused = |inputs: &Inputs<'_>, config: Config, what: &str| {
        let error = inputs.check(&config).unwrap_err().to_string();
        assert_eq!(error, what);
    };
    assert!(inputs.check(&config()).is_ok());
    refused(&Inputs { styles: &[], ..inputs.clone() }, config(), "style: no style picture");
    let weights = Config { style_blend_weights: vec![1.0; 3], ..config() };
    refused(&inputs, weights, "style-blend-weights: 3 for 2 style pictures");
    let scales = Config { style_scale: vec![1.0; 3], ..config() };
    refused(&inputs, scales, "style-scale: 3 for 2 style pictures");
    let one = [Place::Rest];
    refused(&Inputs { masks: &one, ..inputs.clone() }, config(), "style-mask: 1 for 2 style pictures");
    let wrong = [Place::Rest, Place::Within(flat(1.5, 2, 2))];
    refused(&Inputs { masks: &wrong, ..inputs.clone() }, config(), "style-mask: 4 values for 2x2 pixels");
    let black = flat(0.0, 3, 3);
    let nothing = "content-mask: is black: nothing would be painted";
    refused(&Inputs { paint: Some(&black), ..inputs.clone() }, config(), nothing);
    let zero = Config { style_blend_weights: vec![0.0, 1.0], ..config() };
    let own = [Place::Within(flat(0.5, 2, 2)), Place::Rest];
    let none = "style-blend-weights: the styles of one part of the picture all have weight 0";
    refused(&Inputs { masks: &own, ..inputs.clone() }, zero.clone(), none);
    assert!(inputs.check(&zero).is_ok());
}
