//! From a file's bytes to a [`Picture`]. Everything that is no picture is named before decoding.

use std::fs::{self, File};
use std::io::{Cursor, ErrorKind, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::{MAX_DECODED_BYTES, MAX_SIDE, Picture};
use crate::error::{Error, Result};

const SAVE_AS: &str = "open it in an image editor and save it as PNG, JPEG, WebP or TIFF";
const AGAIN: &str = "copy or download the file again";
const SMALLER: &str = "make it smaller before giving it to impasto";
const WEIGHTS: &str = "pass it to --weights, and give a picture here";
const ARRAY: &str = "only --init takes a .npy file; give a picture here";
const PAGE: &str = "download the picture itself, not the page that shows it";
const CUT: &str = "is cut short: the end of the file is missing";

impl Picture {
    /// Reads a picture file. The content decides the format, not the extension.
    ///
    /// EXIF (or TIFF) orientation is applied, grey becomes RGB, 16-bit samples keep their fraction,
    /// alpha is flattened over white, and of an animation only the first frame is read. Sizes are
    /// checked against [`MAX_SIDE`] and [`MAX_DECODED_BYTES`] before any pixel is decoded.
    pub fn decode(path: &Path) -> Result<Picture> {
        let bytes = read(path, |head| refuse_other_kinds(head, path))?;
        decode(&bytes, path)
    }

    /// Like [`Picture::decode`], for bytes in memory; errors call them `label`.
    pub fn decode_bytes(bytes: &[u8], label: &Path) -> Result<Picture> {
        refuse_other_kinds(bytes, label)?;
        decode(bytes, label)
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

fn decode(bytes: &[u8], path: &Path) -> Result<Picture> {
    let fail = |e: ImageError| match e {
        ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => error(path, CUT, AGAIN),
        ImageError::Limits(_) => error(path, "is too large to decode", SMALLER),
        ImageError::Unsupported(e) => error(path, &format!("cannot be decoded: {e}"), SAVE_AS),
        e => error(path, &format!("is damaged: {e}"), AGAIN),
    };
    let format = image::guess_format(bytes).map_err(fail)?;
    // These two decoders do not always notice, the others do.
    if (format == ImageFormat::Jpeg && !jpeg_is_whole(bytes)) || (format == ImageFormat::WebP && !riff_is_whole(bytes))
    {
        return Err(error(path, CUT, AGAIN));
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(fail)?;
    let (width, height) = decoder.dimensions();
    let needed = u64::from(width) * u64::from(height) * 12;
    if needed == 0 {
        return Err(error(path, "has no pixels", AGAIN));
    }
    if needed.max(decoder.total_bytes()) > MAX_DECODED_BYTES || width.max(height) > MAX_SIDE {
        let limit = MAX_DECODED_BYTES / 12_000_000;
        let what = format!("is too large: {width}x{height}, over {limit} megapixels or {MAX_SIDE} a side");
        return Err(error(path, &what, SMALLER));
    }
    // Damaged EXIF data is no reason to refuse a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(fail)?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let from_16 = |v| f32::from(v) / 257.0;
    let from_float = |v| {
        if v > 0.0 { f32::min(v, 1.0) * 255.0 } else { 0.0 }
    }; // NaN becomes black
    let rgb = match &image {
        DynamicImage::ImageLuma8(i) => to_rgb::<u8, 1>(i, f32::from),
        DynamicImage::ImageLumaA8(i) => to_rgb::<u8, 2>(i, f32::from),
        DynamicImage::ImageRgb8(i) => to_rgb::<u8, 3>(i, f32::from),
        DynamicImage::ImageRgba8(i) => to_rgb::<u8, 4>(i, f32::from),
        DynamicImage::ImageLuma16(i) => to_rgb::<u16, 1>(i, from_16),
        DynamicImage::ImageLumaA16(i) => to_rgb::<u16, 2>(i, from_16),
        DynamicImage::ImageRgb16(i) => to_rgb::<u16, 3>(i, from_16),
        DynamicImage::ImageRgba16(i) => to_rgb::<u16, 4>(i, from_16),
        DynamicImage::ImageRgb32F(i) => to_rgb::<f32, 3>(i, from_float),
        DynamicImage::ImageRgba32F(i) => to_rgb::<f32, 4>(i, from_float),
        _ => return Err(error(path, "has an unknown kind of samples", SAVE_AS)),
    };
    Ok(Picture { width, height, rgb })
}

/// Interleaved samples of `C` channels (grey, grey and alpha, RGB, RGBA) to RGB over white.
/// `level` maps a sample to 0..=255.
fn to_rgb<T: Copy, const C: usize>(samples: &[T], level: fn(T) -> f32) -> Vec<f32> {
    let mut rgb = Vec::with_capacity(samples.len() / C * 3);
    for pixel in samples.as_chunks::<C>().0 {
        let alpha = if C.is_multiple_of(2) { level(pixel[C - 1]) / 255.0 } else { 1.0 };
        let over_white = |channel: usize| level(pixel[channel]) * alpha + 255.0 * (1.0 - alpha);
        rgb.extend(if C < 3 { [0; 3] } else { [0, 1, 2 % C] }.map(over_white));
    }
    rgb
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
