//! The kernels: one file per family with parameters, record function, CPU twin and test.
//!
//! A record function checks shapes and appends one launch to a [`Recording`](crate::recording::Recording).

pub mod adam;
pub mod conv3x3;
pub mod conv3x3_cooperative;
pub mod conv3x3_half;
pub mod copy_rect;
pub mod gram;
pub mod half;
pub mod loss;
pub mod matmul;
pub mod moments;
pub mod pool;
pub mod pool_half;
pub mod pool_l2;
pub mod roof;
pub mod scaled_loss;
pub mod share;
#[cfg(test)]
mod testing;
pub mod total_variation;
pub mod vector;
pub mod wasserstein;
pub mod winograd;

use crate::error::{Error, Result};
use crate::kernel::{Kernel, Real};
use crate::recording::Tensor;

/// Every kernel there is. Validation, translation and drift tests walk this list.
pub static KERNELS: &[&Kernel] = &[
    &conv3x3::CONV3X3,
    &conv3x3::CONV3X3_BACKWARD,
    &winograd::WINOGRAD_INPUT,
    &winograd::WINOGRAD_D_OUTPUT,
    &winograd::WINOGRAD_PRODUCT,
    &winograd::WINOGRAD_OUTPUT,
    &winograd::WINOGRAD_D_INPUT,
    &pool::POOL_MAX,
    &pool::POOL_MAX_BACKWARD,
    &pool::POOL_AVERAGE,
    &pool::POOL_AVERAGE_BACKWARD,
    &pool_l2::POOL_L2,
    &pool_l2::POOL_L2_BACKWARD,
    &conv3x3_half::CONV3X3_HALF,
    &conv3x3_half::CONV3X3_HALF_BACKWARD,
    &pool_half::POOL_MAX_HALF,
    &pool_half::POOL_MAX_HALF_BACKWARD,
    &pool_half::POOL_AVERAGE_HALF,
    &pool_half::POOL_AVERAGE_HALF_BACKWARD,
    &pool_half::POOL_L2_HALF,
    &pool_half::POOL_L2_HALF_BACKWARD,
    &conv3x3_cooperative::CONV3X3_COOPERATIVE16,
    &conv3x3_cooperative::CONV3X3_COOPERATIVE16_BACKWARD,
    &conv3x3_cooperative::CONV3X3_COOPERATIVE8,
    &conv3x3_cooperative::CONV3X3_COOPERATIVE8_BACKWARD,
    &half::WIDEN,
    &half::ADD_NARROWED,
    &half::COPY_HALF,
    &half::SPLIT_PICTURE,
    &gram::GRAM,
    &gram::GRAM_REDUCE,
    &gram::GRAM_BACKWARD,
    &loss::STYLE_LOSS,
    &loss::CONTENT_LOSS,
    &loss::SUM_REDUCE,
    &scaled_loss::SCALED_LOSS_SUMS,
    &scaled_loss::SCALED_LOSS,
    &scaled_loss::SCALED_LOSS_BACKWARD,
    &matmul::MATMUL,
    &moments::CHANNEL_SUM,
    &moments::CHANNEL_SUM_REDUCE,
    &moments::MEAN_BACKWARD,
    &moments::COVARIANCE,
    &wasserstein::FROBENIUS,
    &wasserstein::NEWTON_SCHULZ_START,
    &wasserstein::WASSERSTEIN_LOSS,
    &wasserstein::WASSERSTEIN_BACKWARD,
    &loss::LOG_LOSSES,
    &share::WEIGH_POSITIONS,
    &share::GATE_IMAGE,
    &total_variation::TOTAL_VARIATION,
    &adam::ADAM,
    &copy_rect::COPY_RECT,
    &vector::AVERAGE_IMAGE,
    &vector::CLAMP_IMAGE,
    &vector::ADD_SCALED,
    &vector::ADD_NORMALIZED,
    &vector::DOT_PARTIAL,
    &vector::ABSOLUTE_PARTIAL,
    &roof::ROOF_FMA,
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

/// For each pattern of the even bits 0, 2, 4 and 6, the words that keep the channels whose bit is set, and clear the others.
static KEEP: [[u32; 4]; 0x56] = {
    let mut table = [[0; 4]; 0x56];
    let mut entry = 0;
    while entry < 4 * table.len() {
        table[entry / 4][entry % 4] = if (entry / 4) >> (2 * (entry % 4)) & 1 == 1 { u32::MAX } else { 0 };
        entry += 1;
    }
    table
};

/// Of four channels, those whose even bit is set in `pattern`; the others become zero.
#[inline(always)]
fn keep<T: Real>(to: &mut [T], from: &[T], pattern: u32) {
    let keep = &KEEP[(pattern & 0x55) as usize];
    for ((to, from), keep) in to.iter_mut().zip(from).zip(keep) {
        *to = from.kept(*keep);
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
