//! 2x2 pooling with stride 2 and ceil sizes (TensorFlow's SAME, Caffe's default): max and average, with gradients.

use rayon::prelude::*;

use super::{dims, grid};
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params, words};
use crate::recording::{Launch, Recording, Tensor};

params! {
    /// Size of the unpooled side.
    PoolParams {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
        /// Channels.
        channels: u32,
    }
}

/// See `shaders/pool_max.wgsl`.
pub static POOL_MAX: Kernel = kernel!(
    "pool_max",
    PoolParams,
    pool_max_twin,
    [float("input", "H W C"), float("output", "H/2 W/2 C"), words("winner", "H/2 W/8 C/4"),]
);

/// See `shaders/pool_max_backward.wgsl`.
pub static POOL_MAX_BACKWARD: Kernel = kernel!(
    "pool_max_backward",
    PoolParams,
    pool_max_backward_twin,
    [float("d_input", "H W C"), float("d_output", "H/2 W/2 C"), words("winner", "H/2 W/8 C/4"),]
);

/// See `shaders/pool_average.wgsl`.
pub static POOL_AVERAGE: Kernel =
    kernel!("pool_average", PoolParams, pool_average_twin, [float("input", "H W C"), float("output", "H/2 W/2 C")]);

/// See `shaders/pool_average_backward.wgsl`.
pub static POOL_AVERAGE_BACKWARD: Kernel = kernel!(
    "pool_average_backward",
    PoolParams,
    pool_average_backward_twin,
    [float("d_input", "H W C"), float("d_output", "H/2 W/2 C"),]
);

/// Shape of the winners of an `[H, W, C]` input: a word per 4 pooled pixels and 4 channels.
pub fn winner_shape(height: usize, width: usize, channels: usize) -> [usize; 3] {
    [height.div_ceil(2), width.div_ceil(8), channels.div_ceil(4)]
}

/// Records max pooling and its winners.
pub fn pool_max(
    recording: &mut Recording,
    label: &str,
    input: &Tensor,
    output: &Tensor,
    winner: &Tensor,
) -> Result<()> {
    let [height, width, channels] = dims(&POOL_MAX, "input", input)?;
    let words: usize = winner_shape(height, width, channels).iter().product();
    recording.dispatch(
        &POOL_MAX,
        &pool_params(height, width, channels),
        &[("input", input), ("output", output), ("winner", winner)],
        launch(label, words.div_ceil(64), input.len()),
    )
}

/// Records the gradient of [`pool_max`]; `winner` is the one that the forward pass wrote.
pub fn pool_max_backward(
    recording: &mut Recording,
    label: &str,
    d_output: &Tensor,
    winner: &Tensor,
    d_input: &Tensor,
) -> Result<()> {
    let [height, width, channels] = dims(&POOL_MAX_BACKWARD, "d_input", d_input)?;
    recording.dispatch(
        &POOL_MAX_BACKWARD,
        &pool_params(height, width, channels),
        &[("d_output", d_output), ("winner", winner), ("d_input", d_input)],
        launch(label, (d_input.len() / 4).div_ceil(256), d_input.len()),
    )
}

/// Records average pooling.
pub fn pool_average(recording: &mut Recording, label: &str, input: &Tensor, output: &Tensor) -> Result<()> {
    let [height, width, channels] = dims(&POOL_AVERAGE, "input", input)?;
    recording.dispatch(
        &POOL_AVERAGE,
        &pool_params(height, width, channels),
        &[("input", input), ("output", output)],
        launch(label, (output.len() / 4).div_ceil(256), input.len()),
    )
}

/// Records the gradient of [`pool_average`].
pub fn pool_average_backward(
    recording: &mut Recording,
    label: &str,
    d_output: &Tensor,
    d_input: &Tensor,
) -> Result<()> {
    let [height, width, channels] = dims(&POOL_AVERAGE_BACKWARD, "d_input", d_input)?;
    recording.dispatch(
        &POOL_AVERAGE_BACKWARD,
        &pool_params(height, width, channels),
        &[("d_output", d_output), ("d_input", d_input)],
        launch(label, (d_input.len() / 4).div_ceil(256), d_input.len()),
    )
}

fn pool_params(height: usize, width: usize, channels: usize) -> PoolParams {
    PoolParams { height: height as u32, width: width as u32, channels: channels as u32 }
}

fn launch(label: &str, groups: usize, elements: usize) -> Launch {
    Launch { label: label.into(), constants: Vec::new(), grid: grid(groups, 1), flops: elements as u64 }
}

struct Sizes {
    height: usize,
    width: usize,
    channels: usize,
    out_width: usize,
}

impl Sizes {
    fn of(params: &PoolParams) -> Sizes {
        let (height, width, channels) = (params.height as usize, params.width as usize, params.channels as usize);
        Sizes { height, width, channels, out_width: width.div_ceil(2) }
    }

    /// Offsets of the window's positions that lie inside, each with its index 2*dy + dx.
    fn window(&self, out_y: usize, out_x: usize) -> impl Iterator<Item = (u32, usize)> + use<'_> {
        (0..4)
            .map(move |k| (k as u32, 2 * out_y + k / 2, 2 * out_x + k % 2))
            .filter(|&(_, y, x)| y < self.height && x < self.width)
            .map(|(k, y, x)| (k, (y * self.width + x) * self.channels))
    }
}

fn pool_max_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = Sizes::of(&call.params()?);
    let [Slot::Read(input), Slot::Write(output), Slot::WriteWords(winner)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let quads = sizes.channels.div_ceil(4);
    output
        .par_chunks_mut(sizes.out_width * sizes.channels)
        .zip(winner.par_chunks_mut(sizes.width.div_ceil(8) * quads))
        .enumerate()
        .for_each(|(out_y, (output, winner))| {
            winner.fill(0);
            for (at, best) in output.iter_mut().enumerate() {
                let (out_x, c) = (at / sizes.channels, at % sizes.channels);
                let mut which = 0;
                for (k, offset) in sizes.window(out_y, out_x) {
                    let value = input[offset + c];
                    // Only a strictly greater value wins: ties go to the first in row-major order.
                    if k == 0 || value > *best {
                        (*best, which) = (value, k);
                    }
                }
                winner[out_x / 4 * quads + c / 4] |= which << ((out_x % 4 * 4 + c % 4) * 2);
            }
        });
    Ok(())
}

fn pool_max_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = Sizes::of(&call.params()?);
    let [Slot::Write(d_input), Slot::Read(d_output), Slot::ReadWords(winner)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let quads = sizes.channels.div_ceil(4);
    d_input.par_chunks_mut(sizes.width * sizes.channels).enumerate().for_each(|(y, d_input)| {
        for (at, gradient) in d_input.iter_mut().enumerate() {
            let (x, c) = (at / sizes.channels, at % sizes.channels);
            let (out_y, out_x) = (y / 2, x / 2);
            let word = winner[(out_y * sizes.width.div_ceil(8) + out_x / 4) * quads + c / 4];
            let which = word >> ((out_x % 4 * 4 + c % 4) * 2) & 3;
            let won = which as usize == y % 2 * 2 + x % 2;
            *gradient = if won { d_output[(out_y * sizes.out_width + out_x) * sizes.channels + c] } else { T::zero() };
        }
    });
    Ok(())
}

fn pool_average_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = Sizes::of(&call.params()?);
    let [Slot::Read(input), Slot::Write(output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    output.par_chunks_mut(sizes.out_width * sizes.channels).enumerate().for_each(|(out_y, output)| {
        for (out_x, values) in output.chunks_exact_mut(sizes.channels).enumerate() {
            let count = T::of(sizes.window(out_y, out_x).count() as f32);
            for (c, value) in values.iter_mut().enumerate() {
                *value = sizes.window(out_y, out_x).map(|(_, offset)| input[offset + c]).sum::<T>() / count;
            }
        }
    });
    Ok(())
}

fn pool_average_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = Sizes::of(&call.params()?);
    let [Slot::Write(d_input), Slot::Read(d_output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    d_input.par_chunks_mut(sizes.width * sizes.channels).enumerate().for_each(|(y, d_input)| {
        for (x, gradients) in d_input.chunks_exact_mut(sizes.channels).enumerate() {
            let count = T::of(sizes.window(y / 2, x / 2).count() as f32);
            let from = &d_output[(y / 2 * sizes.out_width + x / 2) * sizes.channels..];
            for (gradient, value) in gradients.iter_mut().zip(from) {
                *gradient = *value / count;
            }
        }
    });
    Ok(())
}
