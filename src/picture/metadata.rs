//! What a file says about itself, as [`Picture::encode_to`](super::Picture::encode_to) wrote it.

use std::fs;
use std::io::{BufReader, Read};
use std::path::Path;

use super::MAX_DECODED_BYTES;
use crate::error::{Error, Result};

/// The text that a PNG or JPEG has under a key; `None` where there is none.
///
/// # Errors
/// [`Error::Picture`] if the file cannot be read.
pub fn read_metadata(path: &Path, key: &str) -> Result<Option<String>> {
    let fail = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let what = if missing { "no such file".into() } else { format!("cannot be read: {error}") };
        Error::Picture { path: path.into(), what, hint: "check the path".into() }
    };
    let file = fs::File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    BufReader::new(file).take(MAX_DECODED_BYTES).read_to_end(&mut bytes).map_err(fail)?;
    Ok(if bytes.starts_with(&[0xff, 0xd8]) { in_jpeg(&bytes, key) } else { in_png(&bytes, key) })
}

fn in_png(bytes: &[u8], key: &str) -> Option<String> {
    let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().ok()?;
    let chunks = &reader.info().utf8_text;
    chunks.iter().find(|chunk| chunk.keyword == key)?.get_text().ok()
}

fn in_jpeg(bytes: &[u8], key: &str) -> Option<String> {
    let mut rest = bytes.get(2..)?;
    loop {
        let [0xff, marker, high, low, ..] = *rest else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let segment = rest.get(4..2 + length)?;
        match marker {
            // The scan: comments come before.
            0xda | 0xd9 => return None,
            0xfe => {
                let found =
                    std::str::from_utf8(segment).ok().and_then(|text| text.strip_prefix(key)?.strip_prefix('='));
                if let Some(text) = found {
                    return Some(text.into());
                }
            }
            _ => {}
        }
        rest = &rest[2 + length..];
    }
}
