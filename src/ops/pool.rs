//! 2x2 pooling with stride 2 and ceil sizes (TensorFlow's SAME, Caffe's default): max and average, with gradients.

use rayon::prelude::*;

use super::pool_half::{pool_average_half, pool_average_half_backward, pool_max_half, pool_max_half_backward};
use super::{dims, grid, keep};
use crate::cpu::vectorized;
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Scalar, Slot, float, kernel, params, words};
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

/// Records max pooling and its winners; of halves where the input is words.
pub fn pool_max(
    recording: &mut Recording,
    label: &str,
    input: &Tensor,
    output: &Tensor,
    winner: &Tensor,
) -> Result<()> {
    if input.scalar == Scalar::U32 {
        return pool_max_half(recording, label, input, output, winner);
    }
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
    if d_output.scalar == Scalar::U32 {
        return pool_max_half_backward(recording, label, d_output, winner, d_input);
    }
    let [height, width, channels] = dims(&POOL_MAX_BACKWARD, "d_input", d_input)?;
    recording.dispatch(
        &POOL_MAX_BACKWARD,
        &pool_params(height, width, channels),
        &[("d_output", d_output), ("winner", winner), ("d_input", d_input)],
        launch(label, (d_input.len() / 4).div_ceil(256), d_input.len()),
    )
}

/// Records average pooling; of halves where the input is words.
pub fn pool_average(recording: &mut Recording, label: &str, input: &Tensor, output: &Tensor) -> Result<()> {
    if input.scalar == Scalar::U32 {
        return pool_average_half(recording, label, input, output);
    }
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
    if d_output.scalar == Scalar::U32 {
        return pool_average_half_backward(recording, label, d_output, d_input);
    }
    let [height, width, channels] = dims(&POOL_AVERAGE_BACKWARD, "d_input", d_input)?;
    recording.dispatch(
        &POOL_AVERAGE_BACKWARD,
        &pool_params(height, width, channels),
        &[("d_output", d_output), ("d_input", d_input)],
        launch(label, (d_input.len() / 4).div_ceil(256), d_input.len()),
    )
}

pub(super) fn pool_params(height: usize, width: usize, channels: usize) -> PoolParams {
    PoolParams { height: height as u32, width: width as u32, channels: channels as u32 }
}

pub(super) fn launch(label: &str, groups: usize, elements: usize) -> Launch {
    Launch { label: label.into(), grid: grid(groups, 1), flops: elements as u64, ..Launch::default() }
}

/// Height, width and channels of the unpooled side, width of the pooled.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) out_width: usize,
}

impl Sizes {
    pub(super) fn of(params: &PoolParams) -> Sizes {
        let (height, width, channels) = (params.height as usize, params.width as usize, params.channels as usize);
        Sizes { height, width, channels, out_width: width.div_ceil(2) }
    }

    /// The two rows of a pooled row's windows; the last row stands in for one that the map does not have.
    pub(super) fn rows<T>(self, input: &[T], out_y: usize) -> [&[T]; 2] {
        let row = self.width * self.channels;
        [2 * out_y, (2 * out_y + 1).min(self.height - 1)].map(|y| &input[y * row..][..row])
    }

    /// The window of a pooled pixel in two rows, row-major: places that the map does not have repeat others.
    #[inline(always)]
    pub(super) fn window<T>(self, [upper, lower]: [&[T]; 2], out_x: usize) -> [&[T]; 4] {
        let [left, right] = [2 * out_x, (2 * out_x + 1).min(self.width - 1)].map(|x| x * self.channels);
        [(upper, left), (upper, right), (lower, left), (lower, right)].map(|(row, at)| &row[at..][..self.channels])
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
        .for_each(|(out_y, (output, winner))| greatest(output, winner, sizes.rows(input, out_y), sizes));
    Ok(())
}

vectorized! {
    /// A row of maxima and their winners.
    fn greatest<T>(output: &'a mut [T], winner: &'a mut [u32], rows: [&'a [T]; 2], sizes: Sizes) {
        winner.fill(0);
        let (quads, wide) = (sizes.channels.div_ceil(4), sizes.channels / 16 * 16);
        for (out_x, output) in output.chunks_exact_mut(sizes.channels).enumerate() {
            let window = sizes.window(rows, out_x);
            let winner = &mut winner[out_x / 4 * quads..][..quads];
            for c in (0..wide).step_by(16) {
                greatest_lanes::<T, 16>(&mut output[c..], &mut winner[c / 4..], window, c, out_x % 4);
            }
            for c in (wide..sizes.channels).step_by(4) {
                greatest_lanes::<T, 4>(&mut output[c..], &mut winner[c / 4..], window, c, out_x % 4);
            }
        }
    }
}

#[inline(always)]
fn greatest_lanes<T: Real, const L: usize>(
    output: &mut [T],
    winner: &mut [u32],
    window: [&[T]; 4],
    c: usize,
    slot: usize,
) {
    let [first, others @ ..] = window.map(|values| &values[c..c + L]);
    let (mut best, mut which) = ([T::zero(); L], [0; L]);
    best.copy_from_slice(first);
    for (values, k) in others.into_iter().zip(1..) {
        for l in 0..L {
            // Only a strictly greater value wins: ties go to the first in row-major order, and what stands in for a
            // place outside the map never wins.
            let wins = values[l] > best[l];
            best[l] = if wins { values[l] } else { best[l] };
            which[l] = if wins { k } else { which[l] };
        }
    }
    output[..L].copy_from_slice(&best);
    for (word, which) in winner.iter_mut().zip(which.chunks_exact(4)) {
        *word |= (which[0] | which[1] << 2 | which[2] << 4 | which[3] << 6) << (slot * 8);
    }
}

fn pool_max_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = Sizes::of(&call.params()?);
    let [Slot::Write(d_input), Slot::Read(d_output), Slot::ReadWords(winner)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let words = sizes.width.div_ceil(8) * sizes.channels.div_ceil(4);
    d_input.par_chunks_mut(sizes.width * sizes.channels).enumerate().for_each(|(y, d_input)| {
        let d_output = &d_output[y / 2 * sizes.out_width * sizes.channels..];
        to_winners(d_input, d_output, &winner[y / 2 * words..][..words], y % 2 * 2, sizes.channels);
    });
    Ok(())
}

vectorized! {
    /// A row of gradients: each pooled pixel's goes to its winner. `place` is 0 in a window's upper row, 2 in its lower.
    fn to_winners<T>(d_input: &'a mut [T], d_output: &'a [T], winner: &'a [u32], place: usize, channels: usize) {
        let quads = channels.div_ceil(4);
        for (x, d_input) in d_input.chunks_exact_mut(channels).enumerate() {
            let values = d_output[x / 2 * channels..][..channels].chunks_exact(4);
            let winner = &winner[x / 8 * quads..][..quads];
            // A pair of bits becomes zero where the winner is this place.
            let (shift, place) = (x / 2 % 4 * 8, 0x55 * (place + x % 2) as u32);
            for ((d_input, values), word) in d_input.chunks_exact_mut(4).zip(values).zip(winner) {
                let other = word >> shift ^ place;
                keep(d_input, values, !(other | other >> 1));
            }
        }
    }
}

fn pool_average_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = Sizes::of(&call.params()?);
    let [Slot::Read(input), Slot::Write(output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let row = sizes.out_width * sizes.channels;
    output
        .par_chunks_mut(row)
        .enumerate()
        .for_each(|(out_y, output)| averages(output, sizes.rows(input, out_y), sizes));
    Ok(())
}

vectorized! {
    /// A row of averages. A window that sticks out of the map holds each of its values twice or four times.
    fn averages<T>(output: &'a mut [T], rows: [&'a [T]; 2], sizes: Sizes) {
        for (out_x, output) in output.chunks_exact_mut(sizes.channels).enumerate() {
            let [a, b, c, d] = sizes.window(rows, out_x);
            for i in 0..sizes.channels {
                output[i] = ((a[i] + b[i]) + (c[i] + d[i])) * T::of(0.25);
            }
        }
    }
}

fn pool_average_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = Sizes::of(&call.params()?);
    let [Slot::Write(d_input), Slot::Read(d_output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    d_input.par_chunks_mut(sizes.width * sizes.channels).enumerate().for_each(|(y, d_input)| {
        let rows = if y / 2 * 2 + 1 < sizes.height { 2.0 } else { 1.0 };
        share(d_input, &d_output[y / 2 * sizes.out_width * sizes.channels..], rows, sizes);
    });
    Ok(())
}

vectorized! {
    /// A row of gradients: each pooled pixel's in equal parts, one for each position present.
    fn share<T>(d_input: &'a mut [T], d_output: &'a [T], rows: f32, sizes: Sizes) {
        for (x, d_input) in d_input.chunks_exact_mut(sizes.channels).enumerate() {
            let columns = if x / 2 * 2 + 1 < sizes.width { 2.0 } else { 1.0 };
            let part = T::of(1.0 / (rows * columns));
            let from = &d_output[x / 2 * sizes.channels..][..sizes.channels];
            for (gradient, value) in d_input.iter_mut().zip(from) {
                *gradient = *value * part;
            }
        }
    }
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
