//! Pictures: decoding, resampling, encoding, and the rules for output files.
//!
//! Reads PNG, JPEG, WebP and TIFF by content, writes the same four by extension. Everything here is
//! plain CPU work on sRGB values; embedded ICC profiles are not applied (values are taken as sRGB).

mod decode;
mod encode;
mod mask;
mod metadata;
mod npy;
mod resample;
mod sheet;

use std::path::{Path, PathBuf};

use image::imageops::FilterType;

pub use encode::{Rounding, check_output, write_file};
pub use mask::Mask;
pub use metadata::read_metadata;
pub use npy::read_npy;
pub(crate) use resample::{Filter, resampled};
pub use sheet::{beside, contact_sheet};

/// Longest side accepted, in pixels.
pub const MAX_SIDE: u32 = 65_535;

/// Most memory a decoded picture may take as `f32` RGB (12 bytes a pixel: 89 megapixels).
/// The same bound holds for the decoder's own buffers and for the size of the file.
pub const MAX_DECODED_BYTES: u64 = 1 << 30;

/// An sRGB picture: RGB values 0..=255 as `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Samples, row-major `[H, W, 3]`; its length is `height * width * 3`.
    pub rgb: Vec<f32>,
}

impl Picture {
    /// Resamples with Lanczos3 on sRGB values, clamped to 0..=255; an equal size gives equal bits.
    ///
    /// A zero side counts as one. A picture whose fields contradict each other comes back black.
    pub fn resized(&self, width: usize, height: usize) -> Picture {
        let (width, height) = (width.max(1), height.max(1));
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let mut rgb = vec![0.0; width * height * 3];
        if let (Some((w, h)), Ok(to_w), Ok(to_h)) = (self.size(), width.try_into(), height.try_into()) {
            // `image` clamps float samples to 0..=1.
            let unit = self.rgb.iter().map(|v| v / 255.0).collect();
            if let Some(source) = image::Rgb32FImage::from_raw(w, h, unit) {
                rgb = image::imageops::resize(&source, to_w, to_h, FilterType::Lanczos3).into_raw();
                rgb.iter_mut().for_each(|v| *v *= 255.0);
            }
        }
        Picture { width, height, rgb }
    }

    /// Shrinks so that the longer side is `longest`, keeping the aspect ratio (rounded, at least one
    /// pixel). Never enlarges.
    pub fn fitted(&self, longest: usize) -> Picture {
        let [height, width] = self.fitted_size(longest);
        self.resized(width, height)
    }

    /// Height and width that [`Picture::fitted`] gives.
    pub fn fitted_size(&self, longest: usize) -> [usize; 2] {
        let scale = (longest as f64 / self.width.max(self.height) as f64).min(1.0);
        [self.height, self.width].map(|side| ((side as f64 * scale).round() as usize).max(1))
    }

    /// True if the sides are not zero and `rgb` has as many samples as they say.
    pub fn is_consistent(&self) -> bool {
        self.size().is_some()
    }

    /// Width and height where they are not zero and fit `rgb`.
    fn size(&self) -> Option<(u32, u32)> {
        let samples = self.width.checked_mul(self.height)?.checked_mul(3)?;
        let fits = samples == self.rgb.len() && samples > 0;
        fits.then_some((self.width.try_into().ok()?, self.height.try_into().ok()?))
    }
}

/// `OUT_100.EXT` beside `OUT.EXT`.
pub fn numbered(path: &Path, n: u32) -> PathBuf {
    beside(path, &n.to_string())
}
