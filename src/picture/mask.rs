//! Masks: grey pictures that say how much of each pixel belongs to something.

use std::path::Path;

use super::{DecodeOptions, Decoded, Filter, Picture, resampled};
use crate::error::Result;

/// How much of each pixel is meant: 1 all of it (white), 0 nothing (black), soft edges between.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Values from 0 to 1, row-major `[H, W]`.
    pub values: Vec<f32>,
}

impl Mask {
    /// Reads a picture as a mask. A coloured one counts as the mean of its channels; what is transparent is black.
    pub fn decode(path: &Path) -> Result<Mask> {
        Ok(Mask::from(&Decoded::read(path, &DecodeOptions::default())?))
    }

    /// In another size: bilinear, over all pixels when shrinking, so that soft edges stay soft and nothing leaves 0..1.
    /// No side is zero. An equal size gives equal bits.
    pub fn resized(&self, width: usize, height: usize) -> Mask {
        let from = [self.height, self.width];
        let mut values = resampled(&self.values, from, [height, width], 1, Filter::Bilinear);
        if from != [height, width] {
            values.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0));
        }
        Mask { width, height, values }
    }

    /// What is painted over `content`, both brought to the size of `painted`: in proportion to the mask, to the bit where
    /// that is 0 or 1.
    pub fn over(&self, painted: Picture, content: &Picture) -> Picture {
        let (width, height) = (painted.width, painted.height);
        let (mask, content) = (self.resized(width, height), content.resized(width, height));
        let mut rgb = painted.rgb;
        for ((value, content), at) in rgb.iter_mut().zip(&content.rgb).zip(0..) {
            let share: f32 = mask.values.get(at / 3).copied().unwrap_or(1.0);
            *value = match share {
                share if share <= 0.0 => *content,
                share if share >= 1.0 => *value,
                share => share * *value + (1.0 - share) * content,
            };
        }
        Picture { width, height, rgb }
    }

    /// True if the sides are not zero, `values` has as many as they say, and all lie in 0..=1.
    pub fn is_sound(&self) -> bool {
        let count = self.width.checked_mul(self.height).unwrap_or(0);
        count > 0 && count == self.values.len() && self.values.iter().all(|value| (0.0..=1.0).contains(value))
    }
}

impl From<&Decoded> for Mask {
    fn from(decoded: &Decoded) -> Mask {
        let mut mask = Mask::from(&decoded.picture);
        if let Some(alpha) = &decoded.alpha {
            // The picture is seen over white: what is not opaque has added to it.
            let values = mask.values.iter_mut().zip(&alpha.values);
            values.for_each(|(value, alpha)| *value = (*value + alpha - 1.0).clamp(0.0, 1.0));
        }
        mask
    }
}

impl From<&Picture> for Mask {
    fn from(picture: &Picture) -> Mask {
        let grey = |pixel: &[f32]| (pixel.iter().sum::<f32>() / 3.0 / 255.0).clamp(0.0, 1.0);
        let values = picture.rgb.chunks_exact(3).map(grey).collect();
        Mask { width: picture.width, height: picture.height, values }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Alpha;
    use super::*;

    #[test]
    fn white_is_exactly_one_and_black_exactly_zero_in_every_size() {
        let rgb = (0..6).flat_map(|i| [[0.0; 3], [255.0; 3]][usize::from(i % 3 > 0)]).collect();
        let mask = Mask::from(&Picture { width: 3, height: 2, rgb });
        assert_eq!(mask.values, [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
        for (width, height) in [(3, 2), (12, 7), (30, 1)] {
            let resized = mask.resized(width, height);
            assert!(resized.is_sound() && resized.values.len() == width * height);
            let row = &resized.values[..width];
            assert_eq!((row[0], row[width - 1]), (0.0, 1.0), "{row:?}");
            assert!(row.is_sorted(), "no ringing: {row:?}");
        }
        let grey = Mask::from(&Picture { width: 1, height: 1, rgb: vec![30.0, 60.0, 90.0] });
        assert!((grey.values[0] - 60.0 / 255.0).abs() < 1e-6);
        for values in [vec![1.5], vec![f32::NAN], vec![-0.1], vec![0.0; 2], Vec::new()] {
            assert!(!Mask { width: 1, height: 1, values }.is_sound());
        }
    }

    #[test]
    fn what_is_transparent_is_black_whatever_colour_it_has() {
        let picture = Picture { width: 4, height: 1, rgb: [255.0, 255.0, 255.0, 127.5].map(|v| [v; 3]).concat() };
        let alpha = Alpha { width: 4, height: 1, values: vec![1.0, 0.0, 0.5, 1.0] };
        let mask = Mask::from(&Decoded { picture, alpha: Some(alpha), notes: Vec::new() });
        assert_eq!(mask.values, [1.0, 0.0, 0.5, 0.5]);
    }

    #[test]
    fn what_is_painted_lies_over_the_content_in_proportion() {
        let content = Picture { width: 3, height: 1, rgb: (0..9).map(|i| i as f32 * 0.1).collect() };
        let painted = Picture { rgb: vec![200.0; 9], ..content.clone() };
        let paint = Mask { width: 3, height: 1, values: vec![0.0, 0.25, 1.0] };
        let mixed = paint.over(painted.clone(), &content);
        assert_eq!((&mixed.rgb[..3], &mixed.rgb[6..]), (&content.rgb[..3], &painted.rgb[6..]));
        assert!((mixed.rgb[3] - (50.0 + 0.75 * 0.3)).abs() < 1e-4);
    }
}
