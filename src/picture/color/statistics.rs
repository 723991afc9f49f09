//! Means and covariances of colours, moved from one picture to another.

use super::super::Picture;
use super::ColorMatch;
use super::matrix::{IDENTITY, Matrix, apply, cholesky, inverse, product, spectral};

/// Variances of a style below this are taken as this: a direction in which its colours differ by less than a level has
/// nothing but noise to stretch.
const LEAST_VARIANCE: f64 = 1.0;

/// A style picture with the mean, or mean and covariance, of the content's colours; clipped to 0..=255.
///
/// A grey content makes a grey style, a flat one a flat style. A style that is flat in some direction stays so. The mean
/// is the content's up to clipping.
pub fn match_colors(style: &Picture, content: &Picture, how: ColorMatch) -> Picture {
    if how == ColorMatch::None || style.rgb.is_empty() || content.rgb.is_empty() {
        return style.clone();
    }
    let (from, to) = (Moments::of(style), Moments::of(content));
    let floored = spectral(&from.covariance, |value| value.max(LEAST_VARIANCE));
    let root = |a: &Matrix| spectral(a, |value| value.max(0.0).sqrt());
    let map = match how {
        ColorMatch::None | ColorMatch::Mean => IDENTITY,
        ColorMatch::Pca => product(&root(&to.covariance), &inverse(&root(&floored))),
        ColorMatch::Cholesky => product(&cholesky(&to.covariance), &inverse(&cholesky(&floored))),
        ColorMatch::Symmetric => {
            let half = root(&floored);
            let back = inverse(&half);
            let between = root(&product(&product(&half, &to.covariance), &half));
            product(&product(&back, &between), &back)
        }
    };
    let moved = |pixel: &[f32; 3]| {
        let centered = std::array::from_fn(|i| f64::from(pixel[i]) - from.mean[i]);
        let moved = apply(&map, centered);
        [0, 1, 2].map(|i| (moved[i] + to.mean[i]).clamp(0.0, 255.0) as f32)
    };
    let rgb = style.rgb.as_chunks().0.iter().flat_map(moved).collect();
    Picture { width: style.width, height: style.height, rgb }
}

/// Of a picture's colours.
struct Moments {
    mean: [f64; 3],
    covariance: Matrix,
}

impl Moments {
    fn of(picture: &Picture) -> Moments {
        let pixels = picture.rgb.as_chunks::<3>().0;
        let count = pixels.len().max(1) as f64;
        let mut mean = [0.0; 3];
        for pixel in pixels {
            (0..3).for_each(|i| mean[i] += f64::from(pixel[i]));
        }
        let mean = mean.map(|sum| sum / count);
        let mut covariance = [[0.0; 3]; 3];
        for pixel in pixels {
            let centered: [f64; 3] = std::array::from_fn(|i| f64::from(pixel[i]) - mean[i]);
            for (i, row) in covariance.iter_mut().enumerate() {
                (0..3).for_each(|j| row[j] += centered[i] * centered[j]);
            }
        }
        Moments { mean, covariance: covariance.map(|row| row.map(|sum| sum / count)) }
    }
}
