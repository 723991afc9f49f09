//! The content's colours at the result's lightness.

use super::super::Picture;
use super::OriginalColors;
use super::matrix::{Matrix, apply, inverse};

/// From linear sRGB to CIE XYZ for D65 (IEC 61966-2-1).
const TO_XYZ: Matrix = [
    [0.412_456_4, 0.357_576_1, 0.180_437_5],
    [0.212_672_9, 0.715_152_2, 0.072_175_0],
    [0.019_333_9, 0.119_192_0, 0.950_304_1],
];

/// A result, clipped to 0..=255, with the colours of the content (resampled to its size) and its own lightness; clipped
/// again, since not every lightness has every colour.
pub fn original_colors(result: Picture, content: &Picture, how: OriginalColors) -> Picture {
    if how == OriginalColors::None {
        return result;
    }
    let lab = Lab::new();
    let recolored = |painted: &[f32; 3], content: &[f32; 3]| match how {
        OriginalColors::Lab => lab.recolored(painted, content),
        OriginalColors::Yuv | OriginalColors::None => in_yuv(painted, content),
    };
    let content = content.resized(result.width, result.height);
    let Picture { width, height, mut rgb } = result;
    for (painted, content) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(content.rgb.as_chunks().0) {
        let clipped = painted.map(|v| v.clamp(0.0, 255.0));
        *painted = recolored(&clipped, content).map(|v| v.clamp(0.0, 255.0) as f32);
    }
    Picture { width, height, rgb }
}

fn in_yuv(painted: &[f32; 3], content: &[f32; 3]) -> [f64; 3] {
    let luma = |[r, g, b]: &[f32; 3]| 0.299 * f64::from(*r) + 0.587 * f64::from(*g) + 0.114 * f64::from(*b);
    // Equal chroma: every channel differs from the content's as the luma does.
    let lighter = luma(painted) - luma(content);
    content.map(|v| f64::from(v) + lighter)
}

/// Between sRGB and CIE Lab.
struct Lab {
    from_xyz: Matrix,
    /// Of white, so that grey has no colour to the last bit.
    white: [f64; 3],
}

impl Lab {
    fn new() -> Lab {
        Lab { from_xyz: inverse(&TO_XYZ), white: apply(&TO_XYZ, [1.0; 3]) }
    }

    /// `L*` of one colour with `a*` and `b*` of another.
    fn recolored(&self, painted: &[f32; 3], content: &[f32; 3]) -> [f64; 3] {
        // L* is 116 f(Y) - 16, a* is 500 (f(X) - f(Y)), b* is 200 (f(Y) - f(Z)): equal differences are equal a* and b*.
        let [x, y, z] = self.cone(content);
        let lighter = self.cone(painted)[1] - y;
        let linear = [x + lighter, y + lighter, z + lighter]
            .map(|f| if f > 6.0 / 29.0 { f.powi(3) } else { 3.0 * (6.0f64 / 29.0).powi(2) * (f - 4.0 / 29.0) });
        let xyz = std::array::from_fn(|i| linear[i] * self.white[i]);
        apply(&self.from_xyz, xyz).map(|v| {
            let v = v.clamp(0.0, 1.0);
            255.0 * if v > 0.003_130_8 { 1.055 * v.powf(1.0 / 2.4) - 0.055 } else { 12.92 * v }
        })
    }

    /// Lab's `f` of X, Y and Z.
    fn cone(&self, rgb: &[f32; 3]) -> [f64; 3] {
        let linear = rgb.map(|v| {
            let v = f64::from(v) / 255.0;
            if v > 0.040_45 { ((v + 0.055) / 1.055).powf(2.4) } else { v / 12.92 }
        });
        let xyz = apply(&TO_XYZ, linear);
        std::array::from_fn(|i| {
            let t = xyz[i] / self.white[i];
            if t > (6.0f64 / 29.0).powi(3) { t.cbrt() } else { t / (3.0 * (6.0f64 / 29.0).powi(2)) + 4.0 / 29.0 }
        })
    }
}
