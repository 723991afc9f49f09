//! The kernels: one file per family with parameters, record function, CPU twin and test.
//!
//! A record function checks shapes and appends one launch to a [`Recording`](crate::recording::Recording).

pub mod adam;
pub mod conv3x3;
pub mod copy_rect;
pub mod gram;
pub mod loss;
pub mod pool;
#[cfg(test)]
mod testing;
pub mod total_variation;

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::recording::Tensor;

/// Every kernel there is. Validation, translation and drift tests walk this list.
pub static KERNELS: &[&Kernel] = &[
    &conv3x3::CONV3X3,
    &conv3x3::CONV3X3_BACKWARD,
    &pool::POOL_MAX,
    &pool::POOL_MAX_BACKWARD,
    &pool::POOL_AVERAGE,
    &pool::POOL_AVERAGE_BACKWARD,
    &gram::GRAM,
    &gram::GRAM_REDUCE,
    &gram::GRAM_BACKWARD,
    &loss::STYLE_LOSS,
    &loss::CONTENT_LOSS,
    &loss::SUM_REDUCE,
    &loss::LOG_LOSSES,
    &total_variation::TOTAL_VARIATION,
    &adam::ADAM,
    &copy_rect::COPY_RECT,
];

/// Largest grid dimension that every WebGPU device has.
const MAX_GRID: usize = 65_535;

/// Channels are stored in multiples of four, so that kernels load `vec4`s.
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(4)
}

/// A rectangle of positions: of a picture, of a tile, or of a feature map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rect {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Rect {
    /// The whole of a `height` x `width` map.
    pub fn whole(height: usize, width: usize) -> Rect {
        Rect { top: 0, left: 0, height, width }
    }

    /// Number of positions.
    pub fn area(&self) -> usize {
        self.height * self.width
    }
}

/// `groups` workgroups in x and z, `y` in y.
fn grid(groups: usize, y: usize) -> [u32; 3] {
    let groups = groups.max(1);
    [groups.min(MAX_GRID) as u32, y as u32, groups.div_ceil(MAX_GRID) as u32]
}

/// Dimensions of a tensor that a record function needs before the shape check proper.
fn dims<const N: usize>(kernel: &'static Kernel, binding: &'static str, tensor: &Tensor) -> Result<[usize; N]> {
    let shape: Option<[usize; N]> = tensor.shape.as_slice().try_into().ok();
    // Kernels index with 32 bits.
    shape.filter(|_| u32::try_from(tensor.len()).is_ok()).ok_or_else(|| Error::Shape {
        kernel: kernel.name,
        binding: binding.into(),
        expected: format!("{N} dimensions and fewer than 2^32 elements"),
        got: format!("{:?}", tensor.shape),
    })
}

/// A rectangle must lie inside the map that it selects from.
fn inside(kernel: &'static Kernel, binding: &'static str, rect: Rect, height: usize, width: usize) -> Result<()> {
    if rect.top + rect.height <= height && rect.left + rect.width <= width {
        return Ok(());
    }
    Err(Error::Shape {
        kernel: kernel.name,
        binding: binding.into(),
        expected: format!("a rectangle inside {height}x{width}"),
        got: format!("{rect:?}"),
    })
}
