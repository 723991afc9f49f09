//! From a [`Picture`] to a file, and the rules about which files may be written.

use std::fs;
use std::io::{self, Cursor, ErrorKind, Write};
use std::path::{Path, PathBuf, is_separator};

use image::codecs::{jpeg::JpegEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageFormat};
use tempfile::NamedTempFile;
use tiff::encoder::colortype::{ColorType, RGB8, RGB16, RGBA8, RGBA16};
use tiff::encoder::{TiffEncoder, TiffValue};
use tiff::tags::{ExtraSamples, Tag};

use super::icc::srgb;
use super::{Alpha, Picture};
use crate::error::{Error, Result};

const EXTENSION: &str = "end it in .png, .jpg, .webp or .tif";
const OVERWRITE: &str = "pass --overwrite to replace it, or choose another name";
const ELSEWHERE: &str = "choose a folder that you may write to";
const OTHER: &str = "choose another path";

/// How a sample becomes 8 or 16 bits, after clipping to 0..=255 (NaN becomes 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest integer.
    #[default]
    Nearest,
    /// Towards zero, as the article does.
    Truncate,
}

/// How many bits a sample of a written picture has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BitDepth {
    /// 8 bits.
    #[default]
    Eight,
    /// 16 bits, which PNG and TIFF have.
    Sixteen,
}

/// How a picture is written.
#[derive(Clone, Copy, Debug)]
pub struct EncodeOptions<'a> {
    /// How samples are rounded to the bits they get. Nothing is dithered.
    pub rounding: Rounding,
    /// Replaces an existing file.
    pub overwrite: bool,
    /// What the file says of itself, by keys of 1 to 79 Latin-1 characters.
    pub metadata: &'a [(String, String)],
    /// Of a JPEG, 1 to 100.
    pub quality: u8,
    /// Of a PNG or TIFF; 16 bits are an error for the others.
    pub bit_depth: BitDepth,
    /// Opacity, of the picture's size: the file looks like the picture where it is laid over white. A JPEG has none,
    /// and is what is seen so.
    pub alpha: Option<&'a Alpha>,
}

impl Default for EncodeOptions<'_> {
    fn default() -> Self {
        let (rounding, bit_depth) = (Rounding::default(), BitDepth::default());
        EncodeOptions { rounding, overwrite: false, metadata: &[], quality: 95, bit_depth, alpha: None }
    }
}

/// What a file of some extension can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Opacity.
    pub alpha: bool,
    /// 16 bits a sample.
    pub sixteen_bits: bool,
    /// Whether it is made smaller at the cost of a quality that can be chosen.
    pub quality: bool,
}

/// What a picture written to `path` can hold. An extension that cannot be written holds nothing.
pub fn holds(path: &Path) -> Holds {
    let format = format_of(path);
    let is = |formats: &[ImageFormat]| format.is_some_and(|format| formats.contains(&format));
    Holds {
        alpha: is(&[ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff]),
        sixteen_bits: is(&[ImageFormat::Png, ImageFormat::Tiff]),
        quality: is(&[ImageFormat::Jpeg]),
    }
}

impl Picture {
    /// [`Picture::encode_with`] in 8 bits, with the usual quality and without alpha.
    pub fn encode_to(
        &self,
        path: &Path,
        rounding: Rounding,
        overwrite: bool,
        metadata: &[(String, String)],
    ) -> Result<()> {
        self.encode_with(path, &EncodeOptions { rounding, overwrite, metadata, ..EncodeOptions::default() })
    }

    /// Writes the picture in the format of the path's extension, atomically: encoded in memory,
    /// written to a temporary file in the same directory, synced, renamed, directory synced. On any
    /// error the previous file is intact and no temporary file remains. Without `overwrite` an
    /// existing file is never replaced, not even one that appears meanwhile.
    ///
    /// * PNG: RGB or RGBA in 8 or 16 bits; `metadata` becomes iTXt chunks.
    /// * JPEG: 4:4:4 (the `image` encoder never subsamples chroma); `metadata` becomes comments `key=text`.
    /// * WebP: lossless, at most 16,383 a side. TIFF: RGB or RGBA in 8 or 16 bits, uncompressed. Neither has `metadata`.
    ///
    /// All say that they are sRGB: PNG by its chunk of that name, the others by an ICC profile.
    pub fn encode_with(&self, path: &Path, options: &EncodeOptions<'_>) -> Result<()> {
        let (format, path) = target(path, options.overwrite)?;
        let encoded =
            encode(self, format, options).map_err(|e| error(&path, &e.to_string(), "choose another format or size"))?;
        write_file(&path, &encoded, options.overwrite)
    }
}

/// Writes a file so that it is there as a whole or not at all.
///
/// # Errors
/// [`Error::Output`] where it is there already and not to be replaced, or cannot be written.
pub fn write_file(path: &Path, bytes: &[u8], overwrite: bool) -> Result<()> {
    write_file_with(path, overwrite, |file| file.write_all(bytes))
}

/// [`write_file`] for what is too large to be put together in memory first: `write` writes it piece by piece.
pub(crate) fn write_file_with(
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    save(path, overwrite, write).map_err(|e| io_error(path, &e))
}

/// Fails early, before any computing, where writing a picture to `path` could not succeed: unknown
/// extension, missing or unwritable directory, an existing file without `overwrite` or a read-only
/// one with it, a directory or device at that path. Leaves nothing behind.
pub fn check_output(path: &Path, overwrite: bool) -> Result<()> {
    let (_, path) = target(path, overwrite)?;
    // The only portable proof that a directory is writable is to write in it.
    temporary(&path).map_err(|e| io_error(&path, &e))?;
    Ok(())
}

/// An [`Error::Output`], `what` on one line.
fn error(path: &Path, what: &str, hint: &str) -> Error {
    let (path, hint) = (path.to_path_buf(), hint.into());
    let what = what.replace(char::is_control, " ");
    Error::Output { path, what, hint }
}

fn io_error(path: &Path, e: &io::Error) -> Error {
    use ErrorKind as Kind;
    let (what, hint) = match e.kind() {
        Kind::AlreadyExists => ("already exists", OVERWRITE),
        // Linux says so too for a folder in which nobody may create a file, like /proc.
        Kind::NotFound if directory(path).is_dir() => ("its folder is not writable", ELSEWHERE),
        Kind::NotFound => ("its folder does not exist", "create the folder first"),
        Kind::NotADirectory => ("its folder is a file", OTHER),
        Kind::PermissionDenied => ("its folder is not writable", ELSEWHERE),
        Kind::ReadOnlyFilesystem => ("its disk is read-only", ELSEWHERE),
        Kind::StorageFull | Kind::QuotaExceeded => ("the disk is full", "free some space"),
        _ => (&*format!("cannot be written: {e}"), OTHER),
    };
    error(path, what, hint)
}

fn format_of(path: &Path) -> Option<ImageFormat> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    match extension.to_ascii_lowercase().as_str() {
        "png" => Some(ImageFormat::Png),
        "jpg" | "jpeg" => Some(ImageFormat::Jpeg),
        "webp" => Some(ImageFormat::WebP),
        "tif" | "tiff" => Some(ImageFormat::Tiff),
        _ => None,
    }
}

/// The format to write, and the file to write it to (where a symbolic link leads).
fn target(path: &Path, overwrite: bool) -> Result<(ImageFormat, PathBuf)> {
    let refuse = |what: &str, hint: &str| Err(error(path, what, hint));
    if path.is_dir() || path.to_string_lossy().ends_with(is_separator) {
        return refuse("is a folder", "add a file name, for example out.png");
    }
    let Some(format) = format_of(path) else {
        return match &*path.extension().unwrap_or_default().to_string_lossy() {
            "" => refuse("has no extension to tell its format", EXTENSION),
            other => refuse(&format!("`.{other}` is not supported"), EXTENSION),
        };
    };
    match fs::symlink_metadata(path) {
        Ok(_) if !overwrite => return refuse("already exists", OVERWRITE),
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(io_error(path, &e)),
        Ok(_) | Err(_) => {}
    }
    match fs::metadata(path) {
        Ok(old) if !old.is_file() => return refuse("is not a regular file", OTHER),
        Ok(old) if old.permissions().readonly() => return refuse("is read-only", OTHER),
        Ok(_) | Err(_) => {}
    }
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    Ok((format, path))
}

fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// An empty file beside `path`, removed when dropped, with the permissions of the file it is to
/// replace or else those of any new file.
fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".impasto-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(match fs::metadata(path) {
        Ok(old) => old.permissions(),
        Err(_) => std::os::unix::fs::PermissionsExt::from_mode(0o666),
    });
    builder.tempfile_in(directory(path))
}

fn save(path: &Path, overwrite: bool, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = temporary(path)?;
    write(&mut file)?;
    file.as_file().sync_all()?;
    match overwrite {
        true => file.persist(path)?,
        false => file.persist_noclobber(path)?,
    };
    // The picture is in place; systems that cannot sync a directory do not make that a failure.
    let _ = fs::File::open(directory(path)).and_then(|d| d.sync_all());
    Ok(())
}

type Encoded<T> = Result<T, Box<dyn std::error::Error>>;

fn encode(picture: &Picture, format: ImageFormat, options: &EncodeOptions<'_>) -> Encoded<Vec<u8>> {
    let (w, h) = picture.size().ok_or("has no pixels, or not as many as its size says")?;
    // `image` would write 16,384, which neither it nor libwebp can read.
    if format == ImageFormat::WebP && w.max(h) > 16_383 {
        return Err("WebP allows 16383 a side".into());
    }
    let deep = options.bit_depth == BitDepth::Sixteen;
    if deep && !matches!(format, ImageFormat::Png | ImageFormat::Tiff) {
        return Err("16 bits go into PNG and TIFF only".into());
    }
    let seen = options.alpha.map(|alpha| alpha.under_white(picture));
    if options.alpha.is_some_and(|alpha| (alpha.width, alpha.height) != (picture.width, picture.height)) {
        return Err("its opacity has another size".into());
    }
    let (seen, alpha) = match (&seen, options.alpha) {
        (Some(seen), Some(alpha)) if format == ImageFormat::Jpeg => (&alpha.over_white(seen), None),
        (Some(seen), alpha) => (seen, alpha),
        (None, _) => (picture, None),
    };
    let (mut out, image) = (Cursor::new(Vec::new()), Levels { size: [w, h], picture: seen, alpha, options });
    match format {
        ImageFormat::Png => image.png(&mut out)?,
        ImageFormat::Jpeg => {
            let mut encoder = JpegEncoder::new_with_quality(&mut out, options.quality.clamp(1, 100));
            encoder.set_icc_profile(srgb().to_vec())?;
            encoder.write_image(&image.bytes(), w, h, ExtendedColorType::Rgb8)?;
            return Ok(with_comments(out.into_inner(), options.metadata));
        }
        ImageFormat::WebP => {
            let color = if alpha.is_some() { ExtendedColorType::Rgba8 } else { ExtendedColorType::Rgb8 };
            let mut encoder = WebPEncoder::new_lossless(&mut out);
            encoder.set_icc_profile(srgb().to_vec())?;
            encoder.write_image(&image.bytes(), w, h, color)?;
        }
        _ => match (deep, alpha.is_some()) {
            (false, false) => image.tiff::<RGB8>(&mut out, &image.bytes())?,
            (false, true) => image.tiff::<RGBA8>(&mut out, &image.bytes())?,
            (true, false) => image.tiff::<RGB16>(&mut out, &image.words())?,
            (true, true) => image.tiff::<RGBA16>(&mut out, &image.words())?,
        },
    }
    Ok(out.into_inner())
}

/// A picture on its way to the samples of a file.
struct Levels<'a> {
    size: [u32; 2],
    picture: &'a Picture,
    alpha: Option<&'a Alpha>,
    options: &'a EncodeOptions<'a>,
}

impl Levels<'_> {
    /// Samples 0..=255 times `scale`, rounded, colours and opacity interleaved.
    fn samples<T>(&self, scale: f32, to: impl Fn(f32) -> T) -> Vec<T> {
        let rounded = |v: &f32| match self.options.rounding {
            Rounding::Nearest => to((v * scale).round()),
            Rounding::Truncate => to(v * scale),
        };
        match self.alpha {
            None => self.picture.rgb.iter().map(rounded).collect(),
            Some(alpha) => {
                let pixels = self.picture.rgb.as_chunks::<3>().0.iter().zip(&alpha.values);
                pixels
                    .flat_map(|([r, g, b], a)| [rounded(r), rounded(g), rounded(b), to((a * 255.0 * scale).round())])
                    .collect()
            }
        }
    }

    // `as` clips, and takes NaN to 0.
    fn bytes(&self) -> Vec<u8> {
        self.samples(1.0, |v| v as u8)
    }

    fn words(&self) -> Vec<u16> {
        self.samples(257.0, |v| v as u16)
    }

    fn png(&self, out: &mut Cursor<Vec<u8>>) -> Encoded<()> {
        let mut encoder = png::Encoder::new(out, self.size[0], self.size[1]);
        encoder.set_color(if self.alpha.is_some() { png::ColorType::Rgba } else { png::ColorType::Rgb });
        encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
        for (key, text) in self.options.metadata {
            encoder.add_itxt_chunk(key.clone(), text.clone())?;
        }
        let bytes = match self.options.bit_depth {
            BitDepth::Eight => self.bytes(),
            BitDepth::Sixteen => {
                encoder.set_depth(png::BitDepth::Sixteen);
                self.words().into_iter().flat_map(u16::to_be_bytes).collect()
            }
        };
        encoder.write_header()?.write_image_data(&bytes)?;
        Ok(())
    }

    fn tiff<C: ColorType>(&self, out: &mut Cursor<Vec<u8>>, samples: &[C::Inner]) -> Encoded<()>
    where
        [C::Inner]: TiffValue,
    {
        let mut encoder = TiffEncoder::new(out)?;
        let mut image = encoder.new_image::<C>(self.size[0], self.size[1])?;
        image.encoder().write_tag(Tag::IccProfile, srgb())?;
        if self.alpha.is_some() {
            // Which of the two it is: colours are not multiplied with it.
            image.encoder().write_tag(Tag::ExtraSamples, &[ExtraSamples::UnassociatedAlpha][..])?;
        }
        image.write_data(samples)?;
        Ok(())
    }
}

/// Puts comments of at most 65,533 bytes behind the first segment of a JPEG, which JFIF wants in its place.
fn with_comments(jpeg: Vec<u8>, metadata: &[(String, String)]) -> Vec<u8> {
    let first = jpeg.get(4..6).map_or(0, |length| usize::from(u16::from_be_bytes([length[0], length[1]])));
    let (head, tail) = jpeg.split_at((4 + first).min(jpeg.len()));
    let mut out = head.to_vec();
    for (key, text) in metadata {
        let text = format!("{key}={text}");
        if let Ok(length) = u16::try_from(text.len() + 2) {
            out.extend([0xff, 0xfe]);
            out.extend(length.to_be_bytes());
            out.extend(text.bytes());
        }
    }
    out.extend(tail);
    out
}
