//! The picture that a run starts from, and what of it never moves.

use super::config::{Config, Init};
use super::layout::bounds;
use super::noise::normal;
use crate::error::Result;
use crate::net::bands::Bands;
use crate::picture::{Filter, Mask, Picture, resampled};
use crate::recording::Engine;

/// Standard deviation of the noise that [`Config::init_noise`] blends in, of 255.
const SPREAD: f32 = 64.0;
/// Has the blended noise differ from that of [`Init`], which has the same seed.
const OTHER: u64 = 0x9e37_79b9_7f4a_7c15;

/// `[H, W, 3]` minus the mean, as `[H, W, 4]` with a zero in the fourth channel.
fn padded_pixels(rgb: &[f32], mean: [f32; 3]) -> Vec<f32> {
    rgb.chunks_exact(3).flat_map(|p| [p[0] - mean[0], p[1] - mean[1], p[2] - mean[2], 0.0]).collect()
}

/// Writes a picture minus the mean.
pub(super) fn write_picture(engine: &mut dyn Engine, to: &Bands, picture: &Picture, mean: [f32; 3]) -> Result<()> {
    let row = 3 * picture.width;
    to.write(engine, |rows| padded_pixels(&picture.rgb[rows.start * row..rows.end * row], mean))
}

/// Writes values `[H, W, 4]`.
pub(super) fn write_values(engine: &mut dyn Engine, to: &Bands, values: &[f32]) -> Result<()> {
    let row = 4 * to.size()[1];
    to.write(engine, |rows| values[rows.start * row..rows.end * row].to_vec())
}

/// The start as `[H, W, 4]`; its size has been checked. `styles` are the style pictures, each with its weight in the blend
/// of all.
pub(super) fn start_values(config: &Config, content: &Picture, styles: &[(&Picture, f64)], mean: [f32; 3]) -> Vec<f32> {
    let size @ [height, width] = [content.height, content.width];
    let count = height * width * 3;
    let mut values = match &config.init {
        Init::Content => padded_pixels(&content.rgb, mean),
        Init::Noise => padded_pixels(&normal(config.seed, count), [0.0; 3]),
        Init::StyleStats => padded_pixels(&coloured(styles, &normal(config.seed, count)), mean),
        Init::Picture(picture) => padded_pixels(&picture.resized(width, height).rgb, mean),
        Init::Values { height, width, values } => {
            padded_pixels(&resampled(values, [*height, *width], size, 3, Filter::Bicubic), [0.0; 3])
        }
    };
    let ratio = config.init_noise;
    if ratio > 0.0 {
        let noise = padded_pixels(&normal(config.seed.wrapping_add(OTHER), count), [0.0; 3]);
        for (value, noise) in values.iter_mut().zip(noise) {
            *value = (1.0 - ratio) * *value + ratio * SPREAD * noise;
        }
    }
    values
}

/// Noise with mean and covariance of the styles' colours, in 0..255.
fn coloured(styles: &[(&Picture, f64)], noise: &[f32]) -> Vec<f32> {
    let (mut mean, mut covariance) = ([0.0; 3], [[0.0; 3]; 3]);
    for (style, weight) in styles {
        let (own, spread) = colours(style);
        for i in 0..3 {
            mean[i] += weight * own[i];
            (0..3).for_each(|j| covariance[i][j] += weight * spread[i][j]);
        }
    }
    let root = cholesky(covariance);
    let pixel = |n: &[f32]| {
        let sum = |i: usize| mean[i] + (0..=i).map(|j| root[i][j] * f64::from(n[j])).sum::<f64>();
        [0, 1, 2].map(|i| (sum(i) as f32).clamp(0.0, 255.0))
    };
    noise.chunks_exact(3).flat_map(pixel).collect()
}

/// Mean and covariance of a picture's pixels.
fn colours(picture: &Picture) -> ([f64; 3], [[f64; 3]; 3]) {
    let count = (picture.width * picture.height) as f64;
    let pixels = || picture.rgb.chunks_exact(3).map(|pixel| [0, 1, 2].map(|c| f64::from(pixel[c])));
    let mean = pixels().fold([0.0; 3], |sum, pixel| [0, 1, 2].map(|c| sum[c] + pixel[c] / count));
    let mut covariance = [[0.0; 3]; 3];
    for pixel in pixels() {
        let away = [0, 1, 2].map(|c| pixel[c] - mean[c]);
        for (row, a) in covariance.iter_mut().zip(away) {
            row.iter_mut().zip(away).for_each(|(sum, b)| *sum += a * b / count);
        }
    }
    (mean, covariance)
}

/// A lower triangle L with `LLᵀ` the matrix. Colours that depend on others, as those of a grey picture do, get no column of
/// their own.
fn cholesky(matrix: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let mut root = [[0.0; 3]; 3];
    for i in 0..3 {
        for j in 0..=i {
            let rest = matrix[i][j] - (0..j).map(|k| root[i][k] * root[j][k]).sum::<f64>();
            root[i][j] = match (i == j, root[j][j] > 0.0) {
                // What rounding leaves of zero is none.
                (true, _) => (rest.max(0.0) * f64::from(u8::from(rest > 1e-9 * matrix[i][i]))).sqrt(),
                (false, true) => rest / root[j][j],
                (false, false) => 0.0,
            };
        }
    }
    root
}

/// Puts `still`, a pixel `[4]` for each of the picture, where nothing is painted.
pub(super) fn hold(paint: Option<&Mask>, values: &mut [f32], mut still: impl FnMut(usize) -> [f32; 4]) {
    let Some(paint) = paint else { return };
    for (at, (pixel, paint)) in values.chunks_exact_mut(4).zip(&paint.values).enumerate() {
        if *paint <= 0.0 {
            pixel.copy_from_slice(&still(at));
        }
    }
}

/// The content's pixels where nothing is painted.
pub(super) fn hold_content(paint: Option<&Mask>, values: &mut [f32], content: &Picture, mean: [f32; 3]) {
    hold(paint, values, |at| {
        let pixel = &content.rgb[3 * at..];
        [pixel[0] - mean[0], pixel[1] - mean[1], pixel[2] - mean[2], 0.0]
    });
}

/// Within 0..255, where the picture is to stay there: a cubic overshoots.
pub(super) fn clamped(values: &mut [f32], mean: [f32; 3]) {
    let [lower, upper] = bounds(mean);
    for pixel in values.chunks_exact_mut(4) {
        pixel.iter_mut().zip(lower).zip(upper).for_each(|((value, lower), upper)| {
            *value = value.max(lower).min(upper);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_of_the_styles_has_their_colours_mean_and_covariance() {
        // Red and green move together, blue against them, each within 60..190, so that nothing is clamped.
        let tone = |i: usize| (i * 7919 % 101) as f32 / 100.0;
        let rgb = (0..4000).flat_map(|i| {
            let (a, b) = (tone(i), tone(i + 37));
            [110.0 + 30.0 * a, 90.0 + 20.0 * a + 10.0 * b, 150.0 - 25.0 * a + 20.0 * b]
        });
        let style = Picture { width: 80, height: 50, rgb: rgb.collect() };
        let flat = Picture { width: 1, height: 1, rgb: vec![100.0, 120.0, 140.0] };
        let noise = normal(3, 3 * 40_000);
        let of = |values: Vec<f32>| colours(&Picture { width: 200, height: 200, rgb: values });
        let (mean, covariance) = of(coloured(&[(&style, 1.0)], &noise));
        let (blended_mean, blended) = of(coloured(&[(&style, 0.25), (&flat, 0.75)], &noise));
        let (own, spread) = colours(&style);
        for i in 0..3 {
            assert!((mean[i] - own[i]).abs() < 0.3, "{mean:?}, not {own:?}");
            let mixed = 0.25 * own[i] + 0.75 * f64::from(flat.rgb[i]);
            assert!((blended_mean[i] - mixed).abs() < 0.3, "{blended_mean:?}");
            for j in 0..3 {
                let scale = (spread[i][i] * spread[j][j]).sqrt();
                assert!((covariance[i][j] - spread[i][j]).abs() < 0.03 * scale, "{covariance:?}, not {spread:?}");
                assert!((blended[i][j] - 0.25 * spread[i][j]).abs() < 0.03 * scale, "{blended:?}");
            }
        }
        assert!(spread[0][2] < 0.0 && spread[0][1] > 0.0);
        // Grey: one direction of three.
        let grey = Picture { width: 2, height: 1, rgb: vec![50.0, 50.0, 50.0, 150.0, 150.0, 150.0] };
        for pixel in coloured(&[(&grey, 1.0)], &noise[..300]).chunks(3) {
            assert!(pixel.iter().all(|value| (value - pixel[0]).abs() < 0.01), "{pixel:?}");
        }
    }

    #[test]
    fn noise_is_blended_into_the_start_with_the_spread_that_is_documented() {
        let content = Picture { width: 100, height: 100, rgb: vec![130.0; 30_000] };
        let start = |init_noise| {
            let config = Config { init_noise, ..Config::default() };
            let values = start_values(&config, &content, &[], [100.0; 3]);
            assert!(values.chunks(4).all(|pixel| pixel[3] == 0.0));
            let rgb = values.chunks(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
            let (mean, covariance) = colours(&Picture { rgb, ..content.clone() });
            (mean[0], covariance[0][0].sqrt())
        };
        // Four standard errors of each.
        for (ratio, mean, spread) in [(0.0, 30.0, 0.0), (0.25, 22.5, 16.0), (1.0, 0.0, 64.0)] {
            let ((found, deviation), bound) = (start(ratio), 1e-6 + 0.04 * spread);
            assert!(
                (found - mean).abs() < bound && (deviation - spread).abs() < bound,
                "{ratio}: {found}, {deviation}"
            );
        }
    }
}
