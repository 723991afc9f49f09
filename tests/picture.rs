//! Pictures in and out: what is read, what is refused and how, and what an output file may replace.

#![expect(clippy::unwrap_used, reason = "a test panics on failure")]

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, Rgb};
use impasto::error::Error;
use impasto::picture::Picture;

#[path = "picture/decode.rs"]
mod decode;
#[path = "picture/encode.rs"]
mod encode;
#[path = "picture/npy.rs"]
mod npy;
#[path = "picture/resize.rs"]
mod resize;

const FORMATS: [(&str, ImageFormat); 4] =
    [("png", ImageFormat::Png), ("jpg", ImageFormat::Jpeg), ("webp", ImageFormat::WebP), ("tif", ImageFormat::Tiff)];

fn bytes_of(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.into().write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// A picture without symmetry; smooth enough for JPEG to keep.
fn gradient(width: u32, height: u32) -> image::RgbImage {
    ImageBuffer::from_fn(width, height, |x, y| Rgb([(x * 200 / width) as u8, (y * 200 / height) as u8, 30]))
}

fn picture(width: usize, height: usize) -> Picture {
    let rgb = gradient(width as u32, height as u32).into_raw();
    let rgb = rgb.into_iter().map(f32::from).collect();
    Picture { width, height, rgb }
}

fn decode(bytes: &[u8]) -> Result<Picture, Error> {
    Picture::decode_bytes(bytes, Path::new("given.bin"))
}

fn decode_file(bytes: &[u8]) -> Result<Picture, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("given.bin");
    fs::write(&path, bytes).unwrap();
    Picture::decode(&path)
}

/// Asserts that an error is one line, names the file, says `what`, and has a one-line remedy.
fn assert_says(error: &Error, file: &str, what: &str) {
    let (message, hint) = (error.to_string(), error.hint());
    assert!(message.contains(what), "`{message}` does not say `{what}`");
    assert!(message.contains(file), "`{message}` does not name {file}");
    assert!(!message.contains('\n') && !hint.contains('\n') && !hint.is_empty());
}

#[track_caller]
fn assert_refused(bytes: &[u8], what: &str) {
    assert_says(&decode(bytes).unwrap_err(), "given.bin", what);
    assert_says(&decode_file(bytes).unwrap_err(), "given.bin", what);
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
