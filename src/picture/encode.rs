//! From a [`Picture`] to a file, and the rules about which files may be written.

use std::fs;
use std::io::{self, Cursor, ErrorKind, Write};
use std::path::{Path, PathBuf, is_separator};

use image::codecs::{jpeg::JpegEncoder, tiff::TiffEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageFormat};
use tempfile::NamedTempFile;

use super::Picture;
use crate::error::{Error, Result};

const EXTENSION: &str = "end it in .png, .jpg, .webp or .tif";
const OVERWRITE: &str = "pass --overwrite to replace it, or choose another name";
const ELSEWHERE: &str = "choose a folder that you may write to";
const OTHER: &str = "choose another path";

/// How a sample becomes 8 bits, after clipping to 0..=255 (NaN becomes 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest integer.
    #[default]
    Nearest,
    /// Towards zero, as the article does.
    Truncate,
}

impl Picture {
    /// Writes the picture in the format of the path's extension, atomically: encoded in memory,
    /// written to a temporary file in the same directory, synced, renamed, directory synced. On any
    /// error the previous file is intact and no temporary file remains. Without `overwrite` an
    /// existing file is never replaced, not even one that appears meanwhile.
    ///
    /// * PNG: 8-bit RGB, tagged sRGB; `metadata` becomes iTXt chunks (keys: 1 to 79 Latin-1 characters).
    /// * JPEG: quality 95, 4:4:4 (the `image` encoder never subsamples chroma).
    /// * WebP: lossless, at most 16,383 a side. TIFF: 8-bit RGB, uncompressed.
    ///
    /// JPEG has `metadata` as comments `key=text`. JPEG, WebP and TIFF are written without tags, which readers take as
    /// sRGB; WebP and TIFF ignore `metadata`.
    pub fn encode_to(
        &self,
        path: &Path,
        rounding: Rounding,
        overwrite: bool,
        metadata: &[(String, String)],
    ) -> Result<()> {
        let (format, path) = target(path, overwrite)?;
        let encoded = encode(self, format, rounding, metadata)
            .map_err(|e| error(&path, &e.to_string(), "choose another format or size"))?;
        write_file(&path, &encoded, overwrite)
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

/// The format to write, and the file to write it to (where a symbolic link leads).
fn target(path: &Path, overwrite: bool) -> Result<(ImageFormat, PathBuf)> {
    let refuse = |what: &str, hint: &str| Err(error(path, what, hint));
    if path.is_dir() || path.to_string_lossy().ends_with(is_separator) {
        return refuse("is a folder", "add a file name, for example out.png");
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let format = match extension.to_ascii_lowercase().as_str() {
        "png" => ImageFormat::Png,
        "jpg" | "jpeg" => ImageFormat::Jpeg,
        "webp" => ImageFormat::WebP,
        "tif" | "tiff" => ImageFormat::Tiff,
        "" => return refuse("has no extension to tell its format", EXTENSION),
        _ => return refuse(&format!("`.{extension}` is not supported"), EXTENSION),
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

fn encode(
    picture: &Picture,
    format: ImageFormat,
    rounding: Rounding,
    metadata: &[(String, String)],
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (w, h) = picture.size().ok_or("has no pixels, or not as many as its size says")?;
    let to_byte = |v: &f32| match rounding {
        Rounding::Nearest => v.round() as u8, // `as` clips, and takes NaN to 0
        Rounding::Truncate => *v as u8,
    };
    let bytes: Vec<u8> = picture.rgb.iter().map(to_byte).collect();
    let (mut out, rgb) = (Cursor::new(Vec::new()), ExtendedColorType::Rgb8);
    match format {
        ImageFormat::Png => {
            let mut encoder = png::Encoder::new(&mut out, w, h);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
            for (key, text) in metadata {
                encoder.add_itxt_chunk(key.clone(), text.clone())?;
            }
            encoder.write_header()?.write_image_data(&bytes)?;
        }
        ImageFormat::Jpeg => {
            JpegEncoder::new_with_quality(&mut out, 95).write_image(&bytes, w, h, rgb)?;
            return Ok(with_comments(out.into_inner(), metadata));
        }
        // `image` would write 16,384, which neither it nor libwebp can read.
        ImageFormat::WebP if w.max(h) > 16_383 => return Err("WebP allows 16383 a side".into()),
        ImageFormat::WebP => WebPEncoder::new_lossless(&mut out).write_image(&bytes, w, h, rgb)?,
        _ => TiffEncoder::new(&mut out).write_image(&bytes, w, h, rgb)?,
    }
    Ok(out.into_inner())
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
