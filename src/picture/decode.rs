//! From a file's bytes to a [`Picture`]. Everything that is no picture is named before decoding.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use image::{DynamicImage, ImageError, ImageFormat};

use super::icc::{Kind, Transform};
use super::samples::{Fault, Samples};
use super::{Alpha, MAX_DECODED_BYTES, MAX_SIDE, Picture};
use crate::error::{Error, Result};

const SAVE_AS: &str = "open it in an image editor and save it as PNG, JPEG, WebP or TIFF";
const AGAIN: &str = "copy or download the file again";
const SMALLER: &str = "make it smaller before giving it to impasto";
const RAISE: &str = "make it smaller before giving it to impasto, or raise --max-pixels";
const WEIGHTS: &str = "pass it to --weights, and give a picture here";
const ARRAY: &str = "only --init takes a .npy file; give a picture here";
const PAGE: &str = "download the picture itself, not the page that shows it";
const CUT: &str = "is cut short: the end of the file is missing";
const DAMAGED_PROFILE: &str =
    "its colour profile is damaged or for other colours than its own: colours are taken as sRGB";

/// What a picture may be to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Most pixels, checked before any is decoded. Each takes 12 bytes once decoded, and up to 20 on the way there.
    pub max_pixels: u64,
}

impl Default for DecodeOptions {
    fn default() -> DecodeOptions {
        DecodeOptions { max_pixels: MAX_DECODED_BYTES / 12 }
    }
}

/// A picture with what its file has beside the colours.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The colours over white.
    pub picture: Picture,
    /// Opacity, where any pixel is less than opaque.
    pub alpha: Option<Alpha>,
    /// What a user may want to know, each a line without the file's name.
    pub notes: Vec<String>,
}

impl Picture {
    /// Reads a picture file. The content decides the format, not the extension.
    ///
    /// EXIF (or TIFF) orientation is applied, an ICC profile's colours (RGB, grey or CMYK) become sRGB, grey becomes
    /// RGB, 16-bit samples keep their fraction, float samples are clipped to 0..=1, alpha is flattened over white, and
    /// of an animation only the first frame is read (of an animated PNG, the picture that plain readers show). CMYK
    /// without a profile becomes `(1 - ink) (1 - black)`. A profile that is damaged or for other colours is left aside.
    /// Sizes are checked against [`MAX_SIDE`] and [`DecodeOptions::max_pixels`] before any pixel is decoded.
    pub fn decode(path: &Path) -> Result<Picture> {
        Ok(Decoded::read(path, &DecodeOptions::default())?.picture)
    }

    /// Like [`Picture::decode`], for bytes in memory; errors call them `label`.
    pub fn decode_bytes(bytes: &[u8], label: &Path) -> Result<Picture> {
        Ok(Decoded::from_bytes(bytes, label, &DecodeOptions::default())?.picture)
    }
}

impl Decoded {
    /// Reads a picture file as [`Picture::decode`] does, and keeps its alpha.
    ///
    /// # Errors
    /// [`Error::Picture`] with the reason and a remedy.
    pub fn read(path: &Path, options: &DecodeOptions) -> Result<Decoded> {
        let bytes = read(path, |head| refuse_other_kinds(head, path))?;
        decode(&bytes, path, options)
    }

    /// Like [`Decoded::read`], for bytes in memory; errors call them `label`.
    pub fn from_bytes(bytes: &[u8], label: &Path, options: &DecodeOptions) -> Result<Decoded> {
        refuse_other_kinds(bytes, label)?;
        decode(bytes, label, options)
    }
}

/// An [`Error::Picture`], `what` on one line.
pub(super) fn error(path: &Path, what: &str, hint: &str) -> Error {
    let (path, hint) = (path.to_path_buf(), hint.into());
    let what = what.replace(char::is_control, " ");
    Error::Picture { path, what, hint }
}

/// Reads a file of at most [`MAX_DECODED_BYTES`], showing its first bytes to `check` before the rest.
pub(super) fn read(path: &Path, check: impl Fn(&[u8]) -> Result<()>) -> Result<Vec<u8>> {
    let io = |e: std::io::Error| match e.kind() {
        ErrorKind::NotFound => error(path, "no such file", "check the path"),
        ErrorKind::PermissionDenied => error(path, "permission denied", "make it readable"),
        _ => error(path, &format!("cannot be read: {e}"), "check the path"),
    };
    if fs::metadata(path).map_err(io)?.is_dir() {
        return Err(error(path, "is a folder", "name a file in it"));
    }
    let (mut file, mut bytes) = (File::open(path).map_err(io)?, Vec::new());
    let mut head = file.by_ref().take(512);
    head.read_to_end(&mut bytes).map_err(io)?;
    check(&bytes)?;
    let mut rest = file.take(MAX_DECODED_BYTES);
    rest.read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_DECODED_BYTES {
        return Err(error(path, "is too large: over 1 GiB", SMALLER));
    }
    Ok(bytes)
}

/// Fails unless the first bytes of a file are those of a picture in a supported format.
fn refuse_other_kinds(bytes: &[u8], path: &Path) -> Result<()> {
    let start = &bytes[..bytes.len().min(512)];
    let text = start.trim_ascii_start().to_ascii_lowercase();
    let is_html = text.starts_with(b"<!doctype html") || text.starts_with(b"<html");
    // Length of the header, at most 100 MB, then the header, which is JSON.
    let is_safetensors = start.get(4..9) == Some(b"\0\0\0\0{");
    let format = image::guess_format(start).ok();
    let (what, hint) = match start {
        _ if format.is_some_and(|f| f.reading_enabled()) => return Ok(()),
        [] => ("is empty", AGAIN),
        [b'M', b'A', b'T', b'L', b'A', b'B', ..] => ("is MATLAB data, not a picture", WEIGHTS),
        _ if is_safetensors => ("is a safetensors file, not a picture", WEIGHTS),
        [b'P', b'K', 3, 4, ..] => ("is a zip archive, not a picture", "give a picture"),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => ("is a NumPy array, not a picture", ARRAY),
        _ if is_html => ("is a web page, not a picture", PAGE),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => ("is HEIC, AVIF or video: unsupported", SAVE_AS),
        _ if format.is_some() => ("is a picture in an unsupported format", SAVE_AS),
        _ => ("is not a picture in a known format", SAVE_AS),
    };
    Err(error(path, what, hint))
}

fn decode(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<Decoded> {
    let fail = |fault: Fault| match fault {
        Fault::Image(ImageError::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof => error(path, CUT, AGAIN),
        Fault::Image(ImageError::Limits(_)) => error(path, "is too large to decode", RAISE),
        Fault::Image(ImageError::Unsupported(e)) => error(path, &format!("cannot be decoded: {e}"), SAVE_AS),
        Fault::Image(e) => error(path, &format!("is damaged: {e}"), AGAIN),
        Fault::Empty => error(path, "has no pixels", AGAIN),
        Fault::TooLarge([width, height]) => {
            let limit = match options.max_pixels {
                few @ ..1_000_000 => format!("{few} pixels"),
                many => format!("{} megapixels", many / 1_000_000),
            };
            let what = format!("is too large: {width}x{height}, over {limit} or {MAX_SIDE} a side");
            error(path, &what, if width.max(height) > MAX_SIDE { SMALLER } else { RAISE })
        }
    };
    let format = image::guess_format(bytes).map_err(|e| fail(e.into()))?;
    // These two decoders do not always notice, the others do.
    if (format == ImageFormat::Jpeg && !jpeg_is_whole(bytes)) || (format == ImageFormat::WebP && !riff_is_whole(bytes))
    {
        return Err(error(path, CUT, AGAIN));
    }
    let samples = Samples::read(bytes, format, options.max_pixels).map_err(fail)?;
    let grey = !samples.image.color().has_color();
    let kind = if samples.inks {
        Kind::Inks
    } else if grey {
        Kind::Grey
    } else {
        Kind::Rgb
    };
    let mut notes = Vec::new();
    let transform = samples.profile.as_deref().map_or(Ok(None), |profile| Transform::new(profile, kind));
    let transform = transform.unwrap_or_else(|_| {
        notes.push(DAMAGED_PROFILE.into());
        None
    });
    let [width, height] = [samples.image.width() as usize, samples.image.height() as usize];
    let Some((rgb, values)) = to_rgb(&samples, transform.as_ref()) else {
        return Err(error(path, "has an unknown kind of samples", SAVE_AS));
    };
    let alpha = values.iter().any(|v| *v < 1.0).then_some(Alpha { width, height, values });
    Ok(Decoded { picture: Picture { width, height, rgb }, alpha, notes })
}

/// Colours over white, `[H, W, 3]` in 0..=255, and opacities in 0..=1: one for each pixel, or none where all are 1.
fn to_rgb(samples: &Samples, transform: Option<&Transform>) -> Option<(Vec<f32>, Vec<f32>)> {
    let from_16 = |v| f32::from(v) / 257.0;
    let from_float = |v| {
        if v > 0.0 { f32::min(v, 1.0) * 255.0 } else { 0.0 }
    }; // NaN becomes black
    let how = Conversion { width: samples.image.width() as usize, transform, samples };
    Some(match &samples.image {
        DynamicImage::ImageLuma8(i) => how.convert::<u8, 1>(i, f32::from),
        DynamicImage::ImageLumaA8(i) => how.convert::<u8, 2>(i, f32::from),
        DynamicImage::ImageRgb8(i) => how.convert::<u8, 3>(i, f32::from),
        DynamicImage::ImageRgba8(i) => how.convert::<u8, 4>(i, f32::from),
        DynamicImage::ImageLuma16(i) => how.convert::<u16, 1>(i, from_16),
        DynamicImage::ImageLumaA16(i) => how.convert::<u16, 2>(i, from_16),
        DynamicImage::ImageRgb16(i) => how.convert::<u16, 3>(i, from_16),
        DynamicImage::ImageRgba16(i) => how.convert::<u16, 4>(i, from_16),
        DynamicImage::ImageRgb32F(i) => how.convert::<f32, 3>(i, from_float),
        DynamicImage::ImageRgba32F(i) => how.convert::<f32, 4>(i, from_float),
        _ => return None,
    })
}

/// How samples become RGB.
struct Conversion<'a> {
    width: usize,
    transform: Option<&'a Transform>,
    samples: &'a Samples,
}

impl Conversion<'_> {
    /// Interleaved samples of `C` channels (grey, grey and alpha, RGB, RGBA or CMYK), row by row. `level` maps a sample
    /// to 0..=255.
    fn convert<T: Copy, const C: usize>(&self, samples: &[T], level: fn(T) -> f32) -> (Vec<f32>, Vec<f32>) {
        let Samples { inks, premultiplied, .. } = *self.samples;
        let with_alpha = C.is_multiple_of(2) && !inks;
        let colors = if with_alpha { C - 1 } else { C };
        let pixels = samples.len() / C;
        let mut rgb: Vec<f32> = Vec::with_capacity(pixels * 3);
        let mut alphas = Vec::with_capacity(if with_alpha { pixels } else { 0 });
        let mut row = Vec::new();
        let mut wide = (Vec::new(), Vec::new());
        for pixels in samples.chunks(self.width.max(1) * C) {
            row.clear();
            let first = alphas.len();
            for pixel in pixels.as_chunks::<C>().0 {
                let alpha = if with_alpha { level(pixel[C - 1]) / 255.0 } else { 1.0 };
                let color = |v: &T| match level(*v) {
                    value if premultiplied && alpha > 0.0 => (value / alpha).min(255.0),
                    value => value,
                };
                row.extend(pixel[..colors].iter().map(color));
                if with_alpha {
                    alphas.push(alpha);
                }
            }
            let start = rgb.len();
            match self.transform {
                Some(transform) => transform.extend(&row, &mut wide, &mut rgb),
                None if inks => {
                    let paper = |cmyk: &[f32; 4]| [0, 1, 2].map(|i| (255.0 - cmyk[i]) * (255.0 - cmyk[3]) / 255.0);
                    rgb.extend(row.as_chunks().0.iter().flat_map(paper));
                }
                None if colors == 1 => rgb.extend(row.iter().flat_map(|grey| [*grey; 3])),
                None => rgb.extend(&row),
            }
            for (color, alpha) in rgb[start..].as_chunks_mut::<3>().0.iter_mut().zip(&alphas[first..]) {
                color.iter_mut().for_each(|v| *v = *v * alpha + 255.0 * (1.0 - alpha));
            }
        }
        (rgb, alphas)
    }
}

/// Whether a JPEG reaches its end marker. (The decoder fills what is missing with grey.)
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        rest = match rest {
            [0xff, 0xd9, ..] => return true,
            [0xff, 0x00 | 0x01 | 0xd0..=0xd8, rest @ ..] => rest, // no segment follows
            [0xff, 0xff, ..] => &rest[1..],                       // fill byte
            [0xff, _, segment @ ..] => {
                let length = segment.first_chunk::<2>().map(|b| u16::from_be_bytes(*b));
                match length.and_then(|n| segment.get(n.into()..)) {
                    Some(rest) => rest,
                    None => return false,
                }
            }
            [_, rest @ ..] => rest, // entropy-coded data
            [] => return false,
        }
    }
}

fn riff_is_whole(bytes: &[u8]) -> bool {
    let size = bytes.get(4..8).and_then(|b| b.first_chunk::<4>());
    size.is_some_and(|b| u64::from(u32::from_le_bytes(*b)) + 8 <= bytes.len() as u64)
}
