//! Maps in half precision that the losses see in bands of rows.

use impasto::cpu::Cpu;
use impasto::net::maps::Precision;
use impasto::picture::Mask;
use impasto::transfer::{Config, Init, Inputs, Place, Size, StyleLoss, StyleTargets, StyleTransfer};

use super::{GRADIENT, WEIGHTS, scene};
use crate::common::{layers, relative_error};

/// Losses see a map of more than two million elements in bands of rows, also where content targets are computed anew for
/// every tile.
#[test]
fn large_maps_are_shown_to_the_losses_in_bands() {
    let size @ (height, width) = (200, 230);
    let start = |precision, tile, max_buffer, style_loss| {
        let config = Config {
            size: Size::Native,
            style_size: Some(Size::Exact(40, 40)),
            style_layers: layers(&["relu1_1"]),
            content_layers: layers(&["relu1_1"]),
            init: Init::Picture(scene(7, height, width)),
            precision,
            tile,
            max_buffer,
            style_loss,
            ..Config::default()
        };
        let (content, style) = (scene(1, height, width), scene(2, 40, 40));
        let mut job = StyleTransfer::new(&Cpu, &WEIGHTS, &content, &[style], config).unwrap();
        let report = job.advance(1).unwrap().remove(0);
        let bands = job.recording().to_string().matches("  widen ").count();
        let terms: Vec<f32> = report.terms().map(|(_, value)| value).collect();
        (terms, job.gradient().unwrap(), bands)
    };
    let usual = Config::default().max_buffer;
    for style_loss in [StyleLoss::Article, StyleLoss::ScaledMse] {
        let (terms, gradient, none) = start(Precision::F32, None, usual, style_loss);
        assert_eq!(none, 0);
        // Forward and backward in two bands, and the picture's gradient; in tiles twice of each, and the targets.
        for (tile, max_buffer, least) in [(None, usual, 5), (Some(192), usual, 10), (Some(192), 1 << 20, 15)] {
            let (half_terms, half_gradient, bands) = start(Precision::F16, tile, max_buffer, style_loss);
            assert!(bands >= least, "{bands} bands at {size:?}");
            for (half, single) in half_terms.iter().zip(&terms) {
                assert!((half - single).abs() <= 1e-3 * single.abs(), "{style_loss:?}, {tile:?}: {half} and {single}");
            }
            let error = relative_error(&half_gradient, &gradient);
            println!("{style_loss:?}, {tile:?}, {max_buffer}: {bands} bands, gradient {error:.1e}");
            assert!(error <= GRADIENT, "{style_loss:?}, {tile:?}: {error:.1e}");
        }
    }
}

/// Two styles side by side under a soft mask, on maps that the losses see in bands: every band has the shares of its own
/// rows. Targets that were kept in one precision are not the other's.
#[test]
fn masked_styles_have_nearly_the_losses_of_singles_in_every_band() {
    let (height, width) = (200, 230);
    let content = scene(1, height, width);
    let styles = [scene(2, 40, 44), scene(3, 38, 40)];
    // More of the first style the lower and the further to the right a pixel is.
    let share = |at: usize| ((at / width) as f32 / 250.0 + (at % width) as f32 / 1500.0).min(1.0);
    let mask = Mask { width, height, values: (0..height * width).map(share).collect() };
    let masks = [Place::Within(mask), Place::Rest];
    let targets = StyleTargets::default();
    for style_loss in [StyleLoss::Article, StyleLoss::Wasserstein] {
        let start = |precision, tile| {
            let config = Config {
                size: Size::Native,
                style_size: Some(Size::Native),
                style_layers: layers(&["relu1_1", "relu2_1"]),
                content_layers: layers(&["relu1_1"]),
                init: Init::Picture(scene(7, height, width)),
                iterations: 2,
                precision,
                tile,
                style_loss,
                ..Config::default()
            };
            let inputs = Inputs { masks: &masks, targets: Some(targets.clone()), ..Inputs::new(&content, &styles) };
            let mut job = StyleTransfer::with(&Cpu, &WEIGHTS, &inputs, config).unwrap();
            let mut reports = job.advance(1).unwrap();
            let gradient = job.gradient().unwrap();
            reports.extend(job.advance(1).unwrap());
            let terms = |report: &impasto::transfer::Report| report.terms().map(|(_, value)| value).collect::<Vec<_>>();
            (reports.iter().flat_map(terms).collect::<Vec<f32>>(), gradient)
        };
        let before = targets.len();
        let (terms, gradient) = start(Precision::F32, None);
        let halves = start(Precision::F16, None);
        assert_eq!(targets.len(), before + 2, "a scale of each precision");
        assert_eq!(start(Precision::F16, None), halves, "with targets that were kept");
        assert_eq!(targets.len(), before + 2);
        for (tile, (half_terms, half_gradient)) in [(None, halves), (Some(192), start(Precision::F16, Some(192)))] {
            assert_eq!(half_terms.len(), terms.len());
            for (half, single) in half_terms.iter().zip(&terms) {
                assert!((half - single).abs() <= 1e-2 * single.abs(), "{style_loss:?}, {tile:?}: {half} and {single}");
            }
            let error = relative_error(&half_gradient, &gradient);
            println!("{style_loss:?}, {tile:?}: gradient {error:.1e}");
            assert!(error <= GRADIENT, "{style_loss:?}, {tile:?}: {error:.1e}");
        }
    }
}
