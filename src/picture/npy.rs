//! NumPy's `.npy`: little-endian `float32`, C order.

use std::path::Path;

use super::decode::{error, read};
use crate::error::Result;

const HINT: &str = "save it with numpy.save(path, numpy.ascontiguousarray(array, dtype='<f4'))";

/// Longest header accepted; NumPy's own are below 256 bytes.
const MAX_HEADER: usize = 65_535;

/// Reads a `.npy` array of little-endian `float32` in C order (header version 1, 2 or 3; up to eight
/// dimensions) and returns its shape and values. The data must be exactly as long as the shape says.
/// Values are returned as they are, NaN included.
pub fn read_npy(path: &Path) -> Result<(Vec<usize>, Vec<f32>)> {
    let bytes = read(path, |head| match head.starts_with(b"\x93NUMPY") {
        true => Ok(()),
        false => Err(error(path, "is not a NumPy .npy file", HINT)),
    })?;
    parse(&bytes).map_err(|what| error(path, &what, HINT))
}

fn parse(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>), String> {
    let (length, rest) = match bytes.get(6..) {
        Some([1, _, a, b, rest @ ..]) => (u16::from_le_bytes([*a, *b]).into(), rest),
        Some([2 | 3, _, a, b, c, d, rest @ ..]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        Some([] | [1..=3, ..]) | None => return Err("is cut short".into()),
        Some(_) => return Err("has an unknown .npy version".into()),
    };
    if length > MAX_HEADER {
        return Err("has a header of an unlikely length".into());
    }
    let (header, data) = rest.split_at_checked(length).ok_or("is cut short")?;
    let header = str::from_utf8(header).map_err(|_| "has a header that is no text")?;
    let field = |key: &str| Some(header.split_once(key)?.1.trim_start());
    if !field("'descr':").is_some_and(|v| v.starts_with("'<f4'")) {
        return Err("does not hold little-endian float32".into());
    }
    if !field("'fortran_order':").is_some_and(|v| v.starts_with("False")) {
        return Err("is not in C order".into());
    }
    let shape = field("'shape':").and_then(parse_shape);
    let shape = shape.ok_or("has no usable shape")?;
    let wanted = shape.iter().try_fold(4usize, |n, side| n.checked_mul(*side));
    if wanted != Some(data.len()) {
        return Err(format!("has {} bytes of data, which is not shape {shape:?}", data.len()));
    }
    let values = data.as_chunks::<4>().0.iter();
    Ok((shape, values.map(|b| f32::from_le_bytes(*b)).collect()))
}

/// A Python tuple of at most eight sizes, e.g. `(2, 3)`, `(5,)` or `()`.
fn parse_shape(text: &str) -> Option<Vec<usize>> {
    let inside = text.strip_prefix('(')?.split_once(')')?.0.trim();
    if inside.is_empty() {
        return Some(Vec::new());
    }
    let sides = inside.strip_suffix(',').unwrap_or(inside).split(',');
    let sides: Option<Vec<usize>> = sides.map(|side| side.trim().parse().ok()).collect();
    sides.filter(|s| s.len() <= 8)
}
