//! Opacity, kept beside the colours.

use super::{Filter, Picture, resampled};

/// How opaque each pixel of a picture is.
#[derive(Clone, Debug, PartialEq)]
pub struct Alpha {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Opacities, row-major `[H, W]`, 0 for transparent to 1 for opaque.
    pub values: Vec<f32>,
}

impl Alpha {
    /// Resampled to another size (linear, widened to cover every sample when shrinking); an equal size gives equal bits.
    /// A zero side counts as one. Fields that contradict each other come back opaque.
    pub fn resized(&self, width: usize, height: usize) -> Alpha {
        let (width, height) = (width.max(1), height.max(1));
        let values = if self.is_consistent() {
            resampled(&self.values, [self.height, self.width], [height, width], 1, Filter::Bilinear)
        } else {
            vec![1.0; width * height]
        };
        Alpha { width, height, values }
    }

    /// The colours that, seen through this opacity over white, look like `picture`, as far as 0..=255 has them: what a
    /// file with alpha has to hold. Where nothing is seen, the picture's own. The picture has this size, or comes back as
    /// it is.
    pub fn under_white(&self, picture: &Picture) -> Picture {
        self.mapped(picture, |value, alpha| {
            if alpha > 0.0 { ((value - 255.0 * (1.0 - alpha)) / alpha).clamp(0.0, 255.0) } else { value }
        })
    }

    /// `picture` seen through this opacity over white. The picture has this size, or comes back as it is.
    pub fn over_white(&self, picture: &Picture) -> Picture {
        self.mapped(picture, |value, alpha| value * alpha + 255.0 * (1.0 - alpha))
    }

    fn mapped(&self, picture: &Picture, each: impl Fn(f32, f32) -> f32) -> Picture {
        let mut mapped = picture.clone();
        if (self.width, self.height) == (picture.width, picture.height) {
            for (pixel, alpha) in mapped.rgb.as_chunks_mut::<3>().0.iter_mut().zip(&self.values) {
                pixel.iter_mut().for_each(|value| *value = each(*value, *alpha));
            }
        }
        mapped
    }

    /// True if the sides are not zero and there are as many opacities as they say.
    fn is_consistent(&self) -> bool {
        self.width.checked_mul(self.height).is_some_and(|pixels| pixels > 0 && pixels == self.values.len())
    }
}
