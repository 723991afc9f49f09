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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, ELEMENTWISE, maps};
    use super::*;

    fn case([height, width, channels]: [usize; 3], folded: bool) -> Case {
        Case::new(format!("{height}x{width}x{channels}{}", if folded { ", folded grid" } else { "" }))
    }

    /// Shape of the pooled map.
    fn pooled([height, width, channels]: [usize; 3]) -> [usize; 3] {
        [height.div_ceil(2), width.div_ceil(2), channels]
    }

    /// The winners by their definition, from an input: the first of the largest.
    fn winners_of(input: &[f32], [height, width, channels]: [usize; 3]) -> Vec<u32> {
        let [_, words_x, quads] = winner_shape(height, width, channels);
        let mut winners = vec![0; winner_shape(height, width, channels).iter().product()];
        for y in 0..height.div_ceil(2) {
            for x in 0..width.div_ceil(2) {
                for c in 0..channels {
                    let inside = |k: usize| {
                        let (y, x) = (2 * y + k / 2, 2 * x + k % 2);
                        (y < height && x < width).then(|| input[(y * width + x) * channels + c])
                    };
                    let values = [0, 1, 2, 3].map(|k| inside(k).unwrap_or(f32::NEG_INFINITY));
                    let largest = values.into_iter().fold(f32::NEG_INFINITY, f32::max);
                    let first = values.iter().position(|value| *value == largest).unwrap() as u32;
                    winners[(y * words_x + x / 4) * quads + c / 4] |= first << ((x % 4 * 4 + c % 4) * 2);
                }
            }
        }
        winners
    }

    #[test]
    fn pool_max_agrees_with_its_twin_and_its_winners_with_its_input() {
        let mut bench = Bench::new(&POOL_MAX, ELEMENTWISE);
        for (i, shape) in maps().enumerate() {
            let mut case = case(shape, i % 5 == 4);
            let mut values = case.noise(&shape);
            if i % 2 == 0 {
                // Few levels, so that windows tie.
                values.iter_mut().for_each(|value| *value = (*value * 2.0).round());
            }
            let input = case.input(&shape, &values);
            let output = case.output(&pooled(shape));
            let winner = case.output_words(&winner_shape(shape[0], shape[1], shape[2]));
            pool_max(&mut case.recording, "test", &input, &output, &winner).unwrap();
            if i % 5 == 4 {
                case.fold();
            }
            let expected = winners_of(&values, shape);
            bench.run_and(&case, |ran| assert_eq!(ran.words(&winner), expected, "{}: winners", ran.name));
        }
        bench.finish();
    }

    #[test]
    fn pool_max_backward_agrees_with_its_twin_under_any_winners() {
        let mut bench = Bench::new(&POOL_MAX_BACKWARD, ELEMENTWISE);
        for (i, shape) in maps().enumerate() {
            let mut case = case(shape, i % 5 == 4);
            let d_output = case.random(&pooled(shape));
            let winner = case.random_words(&winner_shape(shape[0], shape[1], shape[2]));
            let d_input = case.output(&shape);
            pool_max_backward(&mut case.recording, "test", &d_output, &winner, &d_input).unwrap();
            if i % 5 == 4 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn pool_average_agrees_with_its_twin() {
        let mut bench = Bench::new(&POOL_AVERAGE, ELEMENTWISE);
        for (i, shape) in maps().enumerate() {
            let mut case = case(shape, i % 5 == 4);
            let input = case.random(&shape);
            let output = case.output(&pooled(shape));
            pool_average(&mut case.recording, "test", &input, &output).unwrap();
            if i % 5 == 4 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn pool_average_backward_agrees_with_its_twin() {
        let mut bench = Bench::new(&POOL_AVERAGE_BACKWARD, ELEMENTWISE);
        for (i, shape) in maps().enumerate() {
            let mut case = case(shape, i % 5 == 4);
            let d_output = case.random(&pooled(shape));
            let d_input = case.output(&shape);
            pool_average_backward(&mut case.recording, "test", &d_output, &d_input).unwrap();
            if i % 5 == 4 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }
}
