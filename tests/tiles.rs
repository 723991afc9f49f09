//! Tiles change nothing: losses and gradient of a picture cut into tiles are those of the whole. Neither does repetition.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::LazyLock;

use common::{gpu, layers, noise, picture, relative_error};
use impasto::cpu::Cpu;
use impasto::error::Result;
use impasto::kernel::Scalar;
use impasto::net::bands::Bands;
use impasto::net::edge::Edge;
use impasto::net::maps::{Precision, Scaling};
use impasto::net::plan::{Network, Pooling, TapTerm, Workspace};
use impasto::net::tiles::{Region, grid, tiles};
use impasto::net::vgg19::Tap;
use impasto::ops::loss::{content_loss, sum_reduce};
use impasto::recording::{Backend, Purpose, Recording, Tensor};
use impasto::transfer::{Config, Init, Size, StyleLoss, StyleTransfer, TotalVariation};
use impasto::weights::Weights;
use impasto::weights::builtin::random;

static WEIGHTS: LazyLock<Weights> = LazyLock::new(|| random(6));

/// A job over `height` x `width` pixels that looks at every level down to relu3_1.
fn job(backend: &dyn Backend, (height, width): (usize, usize), config: Config) -> StyleTransfer {
    let config = Config {
        size: Size::Native,
        style_size: Some(Size::Native),
        content_layers: layers(&["relu2_1", "relu3_1"]),
        style_layers: layers(&["relu1_1", "relu2_2", "relu3_1"]),
        style_weight: 100.0,
        tv_weight: 0.05,
        iterations: 4,
        init: Init::Picture(picture(3, height, width)),
        ..config
    };
    let style = picture(2, height.div_ceil(2) + 3, width);
    StyleTransfer::new(backend, &WEIGHTS, &picture(1, height, width), &[style], config).unwrap()
}

/// Losses by name and the gradient, both of the first iteration.
fn first_step(mut job: StyleTransfer) -> (Vec<(String, f32)>, Vec<f32>) {
    let report = job.advance(1).unwrap().remove(0);
    let terms = report.terms().map(|(name, value)| (name.to_string(), value)).collect();
    (terms, job.gradient().unwrap())
}

/// Compares every tile size with the whole picture.
fn compare(backend: &dyn Backend, size: (usize, usize), (pooling, edge): (Pooling, Edge), sides: &[usize]) {
    compare_with(backend, size, sides, 1e-5, &Config { pooling, edge, ..Config::default() });
}

/// Returns what the whole picture has.
fn compare_with(
    backend: &dyn Backend,
    size: (usize, usize),
    sides: &[usize],
    bar: f64,
    config: &Config,
) -> (Vec<(String, f32)>, Vec<f32>) {
    let cut = |tile| job(backend, size, Config { tile, ..config.clone() });
    let (terms, gradient) = first_step(cut(None));
    assert!(gradient.iter().any(|value| *value != 0.0));
    for &side in sides {
        let (tiled_terms, tiled_gradient) = first_step(cut(Some(side)));
        let Config { pooling, edge, style_loss, .. } = config;
        let place = format!("{size:?}, {pooling:?}, {edge:?}, {style_loss:?}, tiles of {side}");
        for ((name, tiled), (_, whole)) in tiled_terms.iter().zip(&terms) {
            assert!(
                f64::from((tiled - whole).abs()) <= bar * f64::from(whole.abs()),
                "{place}: {name} is {tiled}, not {whole}"
            );
        }
        let error = relative_error(&tiled_gradient, &gradient);
        println!("{place}: gradient {error:.1e}");
        assert!(error <= bar, "{place}: the gradient differs by {error:.1e}");
    }
    (terms, gradient)
}

/// Sizes with primes, sides of one pixel, and pictures smaller than the halo of 12 pixels; sides of tiles for each.
const SIZES: [((usize, usize), &[usize]); 12] = [
    ((127, 131), &[112]),
    ((113, 229), &[64, 112]),
    ((5, 89), &[32, 48]),
    ((101, 149), &[32, 48, 64]),
    ((97, 31), &[32, 48, 64]),
    ((61, 67), &[32, 48, 64]),
    ((64, 96), &[32, 48, 64]),
    ((1, 113), &[32, 48]),
    ((113, 1), &[32, 64]),
    ((7, 5), &[4]),
    ((11, 13), &[8]),
    ((2, 37), &[1, 16]),
];
/// Ways that the network may be run.
const KINDS: [(Pooling, Edge); 3] =
    [(Pooling::Max, Edge::Zero), (Pooling::Average, Edge::Zero), (Pooling::Max, Edge::Replicate)];

/// Every size with every side of tiles and every way.
fn compare_all(backend: &dyn Backend) {
    for (size, sides) in SIZES {
        let sides: Vec<usize> = sides.iter().copied().filter(|side| *side < 32).chain([32, 48, 64, 112]).collect();
        for kind in KINDS.into_iter().chain([(Pooling::Average, Edge::Replicate)]) {
            compare(backend, size, kind, &sides);
        }
    }
}

#[test]
fn tiles_give_the_whole_pictures_gradient_on_the_cpu_engine() {
    compare_all(&Cpu);
}

#[test]
fn tiles_give_the_whole_pictures_gradient_on_a_gpu() {
    let Some(gpu) = gpu("tiles") else { return };
    compare(&gpu, (61, 67), KINDS[0], &[32]);
    compare(&gpu, (53, 41), KINDS[1], &[32, 48]);
    for (size, sides) in SIZES.into_iter().filter(|((height, width), _)| height * width < 1000) {
        compare(&gpu, size, KINDS[0], sides);
        KINDS[1..].iter().for_each(|kind| compare(&gpu, size, *kind, &sides[..1]));
    }
}

#[test]
#[ignore = "takes many minutes on software Vulkan; the test above has a part of it"]
fn tiles_of_every_size_give_the_whole_pictures_gradient_on_a_gpu() {
    if let Some(gpu) = gpu("table of tiles") {
        compare_all(&gpu);
    }
}

/// Every loss, and the pooling that keeps what it pools. Wasserstein's root has eigenvalues of a ten thousandth of others
/// in single precision, hence its bar.
const LOSSES: [(StyleLoss, Pooling, f64); 5] = [
    (StyleLoss::Article, Pooling::L2, 1e-5),
    (StyleLoss::Classic, Pooling::Average, 1e-5),
    (StyleLoss::Gatys, Pooling::Max, 1e-5),
    (StyleLoss::ScaledMse, Pooling::L2, 1e-5),
    (StyleLoss::Wasserstein, Pooling::Average, 1e-4),
];

/// Targets that are kept, and targets computed anew, which a loss that compares in the first sweep needs twice.
fn compare_losses(backend: &dyn Backend, size: (usize, usize), edge: usize) {
    for (style_loss, pooling, bar) in LOSSES {
        let config = Config { style_loss, pooling, tv: TotalVariation::NinePoint, ..Config::default() };
        let whole = compare_with(backend, size, &[edge], bar, &config);
        let config = Config { tile: Some(edge), max_buffer: 5 * 16 * size.1 as u64, ..config };
        let (terms, gradient) = first_step(job(backend, size, config));
        for ((name, banded), (_, whole)) in terms.iter().zip(&whole.0) {
            let error = f64::from((banded - whole).abs() / whole);
            assert!(error <= bar, "{size:?}, {style_loss:?} in bands: {name} is {banded}, not {whole}");
        }
        let error = relative_error(&gradient, &whole.1);
        println!("{size:?}, {style_loss:?}, bands, tiles of {edge}, targets anew: gradient {error:.1e}");
        assert!(error <= bar, "{size:?}, {style_loss:?} in bands: the gradient differs by {error:.1e}");
    }
}

#[test]
fn tiles_and_bands_change_no_loss_on_the_cpu_engine() {
    compare_losses(&Cpu, (53, 37), 32);
    compare_losses(&Cpu, (1, 113), 48);
}

#[test]
fn tiles_and_bands_change_no_loss_on_a_gpu() {
    if let Some(gpu) = gpu("losses in tiles") {
        compare_losses(&gpu, (37, 41), 32);
    }
}

/// Half the sum of a tap's squares: the simplest loss that sees every position.
#[derive(Debug)]
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

/// Loss and gradient of [`Squares`] with tiles of 32 pixels, or none, and whatever radius.
fn squares(backend: &dyn Backend, tap: Tap, tile: Option<usize>, radius: usize, grid: usize) -> (f32, Vec<f32>) {
    let (height, width) = (61, 67);
    let (mut work, choices, precision) = (Workspace::default(), backend.choices(), Precision::F32);
    let network =
        Network::new(&mut work, &WEIGHTS, tap.conv() + 1, (Pooling::Max, precision), (&choices, [height, width]))
            .unwrap();
    let mut tensor = |shape: &[usize]| work.table.tensor("test", Scalar::F32, shape, Purpose::Image);
    let (image, d_image, losses) = (tensor(&[height, width, 4]), tensor(&[height, width, 4]), tensor(&[1]));
    let step = 1 << tap.level();
    let zeros = tensor(&[height.div_ceil(step), width.div_ceil(step), tap.channels()]);
    let term = Squares { tap, zeros, losses: losses.clone() };
    let mut recording = Recording::new("squares");
    let tiles = tiles(height, width, tile, radius, [step, grid]);
    let pictures = (&Bands::from(&image), &Bands::from(&d_image));
    network.record_gradient(&mut work, &mut recording, pictures, &tiles, &[&term], None).unwrap();
    let mut engine = backend.engine().unwrap();
    engine.allocate(&work.table).unwrap();
    network.upload(engine.as_mut(), &WEIGHTS, &Scaling::default()).unwrap();
    engine.write(image.buffer, &noise(4, image.len()).iter().map(|v| 100.0 * v).collect::<Vec<_>>()).unwrap();
    let program = engine.prepare(&recording).unwrap();
    engine.run(program, 1).unwrap();
    (engine.read(losses.buffer).unwrap()[0], engine.read(d_image.buffer).unwrap())
}

/// A halo of the design's width is right, one grid step less is wrong.
fn cut_the_halo(backend: &dyn Backend, names: &[&str]) {
    for (tap, _) in layers(names) {
        let (loss, gradient) = squares(backend, tap, None, tap.radius(), grid(tap));
        let errors = |radius: usize, grid: usize| {
            let (tiled_loss, tiled_gradient) = squares(backend, tap, Some(32), radius, grid);
            [f64::from((tiled_loss - loss).abs() / loss), relative_error(&tiled_gradient, &gradient)]
        };
        let step = 1 << tap.level();
        let cut = tap.radius().next_multiple_of(step) - step;
        let (right, wrong) = (errors(tap.radius(), grid(tap)), errors(cut, step));
        println!("{tap}: loss and gradient with the halo {right:?}, cut to {cut} pixels {wrong:?}");
        assert!(right.iter().all(|error| *error <= 1e-5), "{tap}: {right:?}");
        assert!(wrong.iter().all(|error| *error >= 1e-4), "{tap}: a halo of {cut} pixels should not do: {wrong:?}");
    }
}

#[test]
fn a_halo_one_grid_step_too_narrow_goes_wrong_on_the_cpu_engine() {
    cut_the_halo(&Cpu, &["relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2"]);
}

#[test]
fn a_halo_one_grid_step_too_narrow_goes_wrong_on_a_gpu() {
    if let Some(gpu) = gpu("halo") {
        cut_the_halo(&gpu, &["relu2_1"]);
    }
}

/// Bits of the losses of three iterations and of the picture after them.
fn bits(backend: &dyn Backend) -> Vec<u64> {
    let config = Config { pooling: Pooling::Max, tile: Some(32), ..Config::default() };
    let mut job = job(backend, (61, 43), config);
    let reports: Vec<_> = (0..3).flat_map(|_| job.advance(1).unwrap()).collect();
    let losses = reports.iter().map(|report| report.total_loss.to_bits());
    losses.chain(job.image().unwrap().rgb.iter().map(|value| u64::from(value.to_bits()))).collect()
}

/// Bands of one row, of a few, and of many, against one; content targets that are kept against ones computed anew.
fn compare_bands(backend: &dyn Backend, size: (usize, usize), tile: Option<usize>, rows: &[u64]) {
    let with = |max_buffer| job(backend, size, Config { tile, max_buffer, ..Config::default() });
    let (terms, gradient) = first_step(with(128 << 20));
    for rows in rows {
        let job = with(rows * 16 * size.1 as u64);
        let labels: Vec<&str> = job.buffers().infos().iter().map(|info| info.label.as_str()).collect();
        let bands = labels.iter().filter(|label| label.starts_with("d_image")).count();
        assert_eq!(bands, size.0.div_ceil(*rows as usize));
        let tiled = tile.is_some_and(|edge| edge < size.0.max(size.1));
        assert_eq!(labels.contains(&"content/relu2_1 of a tile"), tiled, "{labels:?}");
        let (banded_terms, banded_gradient) = first_step(job);
        for ((name, banded), (_, whole)) in banded_terms.iter().zip(&terms) {
            // Only the total variation is added up in another order.
            let same = if name == "tv" { (banded - whole).abs() <= 1e-5 * whole } else { banded == whole };
            assert!(same, "{size:?}, {rows} rows: {name} is {banded}, not {whole}");
        }
        let error = relative_error(&banded_gradient, &gradient);
        println!("{size:?}, tiles {tile:?}, bands of {rows} rows: gradient {error:.1e}");
        assert!(error <= 1e-6, "{size:?}, {rows} rows: the gradient differs by {error:.1e}");
    }
}

#[test]
fn bands_and_targets_computed_anew_change_nothing_on_the_cpu_engine() {
    compare_bands(&Cpu, (61, 67), Some(32), &[1, 7, 60]);
    compare_bands(&Cpu, (61, 67), None, &[2, 61]);
    compare_bands(&Cpu, (1, 113), Some(48), &[1]);
    compare_bands(&Cpu, (113, 1), Some(64), &[3]);
}

#[test]
fn bands_and_targets_computed_anew_change_nothing_on_a_gpu() {
    if let Some(gpu) = gpu("bands") {
        compare_bands(&gpu, (37, 41), Some(32), &[5]);
    }
}

/// Three iterations with bands end at the same picture, read back from and written into bands.
#[test]
fn a_run_in_bands_ends_at_the_same_picture() {
    let end = |max_buffer| {
        let mut job = job(&Cpu, (61, 43), Config { tile: Some(32), max_buffer, ..Config::default() });
        (0..3).for_each(|_| assert_eq!(job.advance(1).unwrap().len(), 1));
        job.image().unwrap().rgb
    };
    let (whole, banded) = (end(128 << 20), end(9 * 16 * 43));
    let near = whole.iter().zip(&banded).filter(|(a, b)| (*a - *b).abs() <= 0.5).count();
    assert!(near as f64 >= 0.999 * whole.len() as f64, "{near} of {}", whole.len());
}

#[test]
fn the_cpu_engine_repeats_itself_to_the_bit_whatever_the_threads() {
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(&Cpu))
    };
    let first = with_threads(1);
    assert!(first == with_threads(1), "a repetition differs");
    assert!(first == with_threads(3), "three threads differ from one");
}

#[test]
fn a_gpu_repeats_itself_to_the_bit() {
    if let Some(gpu) = gpu("repetition") {
        let first = bits(&gpu);
        assert!(first == bits(&gpu), "a repetition differs");
    }
}
