//! The factor of the gradients, which is found on small copies of the pictures.

use impasto::cpu::Cpu;
use impasto::net::maps::Precision;
use impasto::picture::Picture;
use impasto::transfer::{Config, Init, Inputs, Size, StyleLoss, StyleTransfer};
use impasto::weights::builtin::builtin;

use crate::common::layers;

/// Waves of all lengths, so that small and large copies have much in common.
fn scene(height: usize, width: usize, turn: f32) -> Picture {
    let value = |at: usize| {
        let (y, x) = ((at / 3 / width) as f32 / height as f32, (at / 3 % width) as f32 / width as f32);
        let wave = |k: f32| (k * (x + turn * y) + (at % 3) as f32).sin() / k.sqrt();
        120.0 + 60.0 * [4.0, 9.0, 23.0, 60.0].map(wave).iter().sum::<f32>()
    };
    Picture { width, height, rgb: (0..height * width * 3).map(value).collect() }
}

/// A picture sixteen times as large as its copy: a wrong power would be wrong by sixteen.
#[test]
fn what_is_rehearsed_holds_for_the_picture_itself() {
    let weights = builtin(3);
    let (content, style) = (scene(288, 384, 1.3), scene(288, 384, -0.4));
    let mut turned = content.clone();
    turned.rgb = content.rgb.chunks_exact(3).rev().flatten().copied().collect();
    for style_loss in [StyleLoss::Article, StyleLoss::Classic] {
        for (content_weight, style_weight, normalize_gradients) in
            [(1.0, 0.0, false), (0.0, 1.0, false), (1.0, 1e3, false), (0.0, 1.0, true)]
        {
            let config = Config {
                size: Size::Native,
                style_size: Some(Size::Native),
                content_layers: layers(&["relu2_1"]),
                style_layers: layers(&["relu1_2"]),
                init: Init::Picture(turned.clone()),
                tv_weight: 0.0,
                min_scale: None,
                style_loss,
                content_weight,
                style_weight,
                normalize_gradients,
                ..Config::default()
            };
            let styles = [style.clone()];
            let inputs = Inputs::new(&content, &styles);
            let mut job = StyleTransfer::with(&Cpu, &weights, &inputs, config.clone()).unwrap();
            job.advance(1).unwrap();
            let largest = job.gradient().unwrap().into_iter().fold(0.0, |largest: f32, v| largest.max(v.abs()));
            let halves = Config { precision: Precision::F16, ..config };
            let scaled =
                largest * StyleTransfer::with(&Cpu, &weights, &inputs, halves).unwrap().gradient_factor().unwrap();
            println!("{style_loss:?}, {content_weight}, {style_weight}, {normalize_gradients}: {scaled}");
            assert!((64.0..2048.0).contains(&scaled), "{style_loss:?}, {content_weight}, {style_weight}: {scaled}");
        }
    }
}
