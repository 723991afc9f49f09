//! The poolings and their gradients on maps of half precision.

use rayon::prelude::*;

use super::dims;
use super::half::{pair, quad};
use super::pool::{PoolParams, Sizes, launch, pool_params};
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, kernel, words};
use crate::recording::{Recording, Tensor};

/// See `shaders/pool_max_half.wgsl`.
pub static POOL_MAX_HALF: Kernel = kernel!(
    "pool_max_half",
    PoolParams,
    pool_max_half_twin,
    [words("input", "H W P"), words("output", "H/2 W/2 P"), words("winner", "H/2 W/8 P/2")]
);

/// See `shaders/pool_max_half_backward.wgsl`.
pub static POOL_MAX_HALF_BACKWARD: Kernel = kernel!(
    "pool_max_half_backward",
    PoolParams,
    pool_max_half_backward_twin,
    [words("d_input", "H W P"), words("d_output", "H/2 W/2 P"), words("winner", "H/2 W/8 P/2")]
);

/// See `shaders/pool_average_half.wgsl`.
pub static POOL_AVERAGE_HALF: Kernel = kernel!(
    "pool_average_half",
    PoolParams,
    pool_average_half_twin,
    [words("input", "H W P"), words("output", "H/2 W/2 P")]
);

/// See `shaders/pool_average_half_backward.wgsl`.
pub static POOL_AVERAGE_HALF_BACKWARD: Kernel = kernel!(
    "pool_average_half_backward",
    PoolParams,
    pool_average_half_backward_twin,
    [words("d_input", "H W P"), words("d_output", "H/2 W/2 P")]
);

/// See `shaders/pool_l2_half.wgsl`.
pub static POOL_L2_HALF: Kernel =
    kernel!("pool_l2_half", PoolParams, pool_l2_half_twin, [words("input", "H W P"), words("output", "H/2 W/2 P")]);

/// See `shaders/pool_l2_half_backward.wgsl`.
pub static POOL_L2_HALF_BACKWARD: Kernel = kernel!(
    "pool_l2_half_backward",
    PoolParams,
    pool_l2_half_backward_twin,
    [words("input", "H W P"), words("d_output", "H/2 W/2 P"), words("d_input", "H W P")]
);

/// Parameters of a pooling whose unpooled side is `map`.
fn params(kernel: &'static Kernel, binding: &'static str, map: &Tensor) -> Result<PoolParams> {
    let [height, width, pairs] = dims(kernel, binding, map)?;
    Ok(pool_params(height, width, 2 * pairs))
}

/// Records max pooling of halves and its winners.
pub fn pool_max_half(
    recording: &mut Recording,
    label: &str,
    input: &Tensor,
    output: &Tensor,
    winner: &Tensor,
) -> Result<()> {
    recording.dispatch(
        &POOL_MAX_HALF,
        &params(&POOL_MAX_HALF, "input", input)?,
        &[("input", input), ("output", output), ("winner", winner)],
        launch(label, winner.len().div_ceil(64), 2 * input.len()),
    )
}

/// Records the gradient of [`pool_max_half`]; `winner` is the one that the forward pass wrote.
pub fn pool_max_half_backward(
    recording: &mut Recording,
    label: &str,
    d_output: &Tensor,
    winner: &Tensor,
    d_input: &Tensor,
) -> Result<()> {
    recording.dispatch(
        &POOL_MAX_HALF_BACKWARD,
        &params(&POOL_MAX_HALF_BACKWARD, "d_input", d_input)?,
        &[("d_output", d_output), ("winner", winner), ("d_input", d_input)],
        launch(label, (d_input.len() / 2).div_ceil(256), 2 * d_input.len()),
    )
}

/// Records average pooling of halves.
pub fn pool_average_half(recording: &mut Recording, label: &str, input: &Tensor, output: &Tensor) -> Result<()> {
    recording.dispatch(
        &POOL_AVERAGE_HALF,
        &params(&POOL_AVERAGE_HALF, "input", input)?,
        &[("input", input), ("output", output)],
        launch(label, (output.len() / 2).div_ceil(256), 2 * input.len()),
    )
}

/// Records the gradient of [`pool_average_half`].
pub fn pool_average_half_backward(
    recording: &mut Recording,
    label: &str,
    d_output: &Tensor,
    d_input: &Tensor,
) -> Result<()> {
    recording.dispatch(
        &POOL_AVERAGE_HALF_BACKWARD,
        &params(&POOL_AVERAGE_HALF_BACKWARD, "d_input", d_input)?,
        &[("d_output", d_output), ("d_input", d_input)],
        launch(label, (d_input.len() / 2).div_ceil(256), 2 * d_input.len()),
    )
}

/// Records L2 pooling of halves.
pub fn pool_l2_half(recording: &mut Recording, label: &str, input: &Tensor, output: &Tensor) -> Result<()> {
    recording.dispatch(
        &POOL_L2_HALF,
        &params(&POOL_L2_HALF, "input", input)?,
        &[("input", input), ("output", output)],
        launch(label, (output.len() / 2).div_ceil(256), 4 * input.len()),
    )
}

/// Records the gradient of [`pool_l2_half`] at the same `input`.
pub fn pool_l2_half_backward(
    recording: &mut Recording,
    label: &str,
    input: &Tensor,
    d_output: &Tensor,
    d_input: &Tensor,
) -> Result<()> {
    recording.dispatch(
        &POOL_L2_HALF_BACKWARD,
        &params(&POOL_L2_HALF_BACKWARD, "input", input)?,
        &[("input", input), ("d_output", d_output), ("d_input", d_input)],
        launch(label, (d_output.len() / 2).div_ceil(256), 6 * input.len()),
    )
}

/// Sizes whose channels are words.
fn word_sizes(params: &PoolParams) -> Sizes {
    let sizes = Sizes::of(params);
    Sizes { channels: sizes.channels / 2, ..sizes }
}

/// For each pooled pixel and quad of channels: four channels of the window's four places, and the two words to write.
/// Places that the map does not have repeat others.
fn reduce<T: Real>(sizes: Sizes, input: &[u32], output: &mut [u32], of: impl Fn([[T; 4]; 4]) -> [T; 4] + Sync) {
    output.par_chunks_mut(sizes.out_width * sizes.channels).enumerate().for_each(|(out_y, output)| {
        let rows = sizes.rows(input, out_y);
        for (out_x, output) in output.chunks_exact_mut(sizes.channels).enumerate() {
            let window = sizes.window(rows, out_x);
            for (q, words) in output.chunks_exact_mut(2).enumerate() {
                words.copy_from_slice(&pair(of(window.map(|place| quad(&place[2 * q..])))));
            }
        }
    });
}

/// For each unpooled row, pixel and quad of channels: writes the two words that `of` makes of `(y, x, quad)` and of the
/// words of the pooled gradient there.
fn spread(sizes: Sizes, d_output: &[u32], d_input: &mut [u32], of: impl Fn([usize; 3], &[u32]) -> [u32; 2] + Sync) {
    d_input.par_chunks_mut(sizes.width * sizes.channels).enumerate().for_each(|(y, d_input)| {
        let upstream = &d_output[y / 2 * sizes.out_width * sizes.channels..];
        for (x, d_input) in d_input.chunks_exact_mut(sizes.channels).enumerate() {
            let upstream = &upstream[x / 2 * sizes.channels..][..sizes.channels];
            for (q, (words, upstream)) in d_input.chunks_exact_mut(2).zip(upstream.chunks_exact(2)).enumerate() {
                words.copy_from_slice(&of([y, x, q], upstream));
            }
        }
    });
}

/// How often a position counts in its window: more than once where the window sticks out of the map.
fn repeats(sizes: Sizes, y: usize, x: usize) -> f32 {
    let out = |at: usize, end: usize| if (at | 1) < end { 1.0 } else { 2.0 };
    out(y, sizes.height) * out(x, sizes.width)
}

fn pool_max_half_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = word_sizes(&call.params()?);
    let [Slot::ReadWords(input), Slot::WriteWords(output), Slot::WriteWords(winner)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    // Only a strictly greater value wins: ties go to the first in row-major order, and a repeated place never wins.
    let first = |window: [[T; 4]; 4], c: usize| (1..4).fold(0, |w, k| if window[k][c] > window[w][c] { k } else { w });
    reduce::<T>(sizes, input, output, |window| [0, 1, 2, 3].map(|c| window[first(window, c)][c]));
    let quads = sizes.channels / 2;
    winner.par_chunks_mut(sizes.width.div_ceil(8) * quads).enumerate().for_each(|(out_y, winner)| {
        winner.fill(0);
        let rows = sizes.rows(input, out_y);
        for out_x in 0..sizes.out_width {
            let window = sizes.window(rows, out_x);
            for q in 0..quads {
                let values = window.map(|place| quad::<T>(&place[2 * q..]));
                let bits = (0..4).fold(0, |bits, c| bits | (first(values, c) as u32) << (2 * c));
                winner[out_x / 4 * quads + q] |= bits << (out_x % 4 * 8);
            }
        }
    });
    Ok(())
}

fn pool_max_half_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = word_sizes(&call.params()?);
    let [Slot::WriteWords(d_input), Slot::ReadWords(d_output), Slot::ReadWords(winner)] = call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let quads = sizes.channels / 2;
    spread(sizes, d_output, d_input, |[y, x, q], upstream| {
        let word = winner[(y / 2 * sizes.width.div_ceil(8) + x / 8) * quads + q] >> (x / 2 % 4 * 8);
        let place = (y % 2 * 2 + x % 2) as u32;
        let keep = |c: usize| if word >> (2 * c) & 3 == place { 0xffff << (c % 2 * 16) } else { 0 };
        [upstream[0] & (keep(0) | keep(1)), upstream[1] & (keep(2) | keep(3))]
    });
    Ok(())
}

fn pool_average_half_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = word_sizes(&call.params()?);
    let [Slot::ReadWords(input), Slot::WriteWords(output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let mean = |[a, b, c, d]: [[T; 4]; 4]| [0, 1, 2, 3].map(|i| ((a[i] + b[i]) + (c[i] + d[i])) * T::of(0.25));
    reduce(sizes, input, output, mean);
    Ok(())
}

fn pool_average_half_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = word_sizes(&call.params()?);
    let [Slot::WriteWords(d_input), Slot::ReadWords(d_output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    spread(sizes, d_output, d_input, |[y, x, _], upstream| {
        let part = T::of(0.25 * repeats(sizes, y, x));
        pair(quad::<T>(upstream).map(|value| part * value))
    });
    Ok(())
}

fn norm<T: Real>([a, b, c, d]: [[T; 4]; 4]) -> [T; 4] {
    [0, 1, 2, 3].map(|i| ((a[i] * a[i] + b[i] * b[i]) + (c[i] * c[i] + d[i] * d[i])).sqrt())
}

fn pool_l2_half_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = word_sizes(&call.params()?);
    let [Slot::ReadWords(input), Slot::WriteWords(output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    reduce(sizes, input, output, norm::<T>);
    Ok(())
}

fn pool_l2_half_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = word_sizes(&call.params()?);
    let [Slot::ReadWords(input), Slot::ReadWords(d_output), Slot::WriteWords(d_input)] = call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    spread(sizes, d_output, d_input, |[y, x, q], upstream| {
        let window = sizes.window(sizes.rows(input, y / 2), x / 2).map(|place| quad::<T>(&place[2 * q..]));
        let here = quad::<T>(&input[(y * sizes.width + x) * sizes.channels + 2 * q..]);
        let (output, upstream, share) = (norm(window), quad::<T>(upstream), T::of(repeats(sizes, y, x)));
        let slope = |i: usize| if output[i] > T::zero() { share * upstream[i] / output[i] } else { T::zero() };
        pair([0, 1, 2, 3].map(|i| slope(i) * here[i]))
    });
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::half::half_shape;
    use super::super::pool::winner_shape;
    use super::super::testing::{Bench, Case, HALVES, maps};
    use super::*;

    /// The words of a map and those of the pooled one.
    fn shapes(shape @ [height, width, channels]: [usize; 3]) -> [[usize; 3]; 2] {
        [half_shape(shape), half_shape([height.div_ceil(2), width.div_ceil(2), channels])]
    }

    /// Activations, of which a third and some whole windows are zero.
    fn activations(case: &Case, len: usize, which: usize) -> Vec<f32> {
        let noise = case.noise(&[len]);
        let value = |value: &f32| match which % 7 {
            3 => 0.0,
            // Few levels, so that windows tie.
            1 | 2 => (value * 2.0).round(),
            _ => (value + 0.3).max(0.0),
        };
        noise.iter().map(value).collect()
    }

    #[test]
    fn poolings_of_halves_agree_with_their_twins() {
        let kernels = [&POOL_MAX_HALF, &POOL_AVERAGE_HALF, &POOL_L2_HALF];
        for (which, kernel) in kernels.into_iter().enumerate() {
            let mut bench = Bench::new(kernel, HALVES);
            for (i, shape) in maps().enumerate() {
                let [map, pooled] = shapes(shape);
                let mut case = Case::new(format!("{shape:?}"));
                let values = activations(&case, shape.iter().product(), i);
                let input = case.halves(&map, &values);
                let output = case.output_halves(&pooled);
                match which {
                    0 => {
                        let winner = case.output_words(&winner_shape(shape[0], shape[1], shape[2]));
                        pool_max_half(&mut case.recording, "test", &input, &output, &winner)
                    }
                    1 => pool_average_half(&mut case.recording, "test", &input, &output),
                    _ => pool_l2_half(&mut case.recording, "test", &input, &output),
                }
                .unwrap();
                if i % 5 == 4 {
                    case.fold();
                }
                bench.run(&case);
            }
            bench.finish();
        }
    }

    #[test]
    fn gradients_of_poolings_of_halves_agree_with_their_twins() {
        let kernels = [&POOL_MAX_HALF_BACKWARD, &POOL_AVERAGE_HALF_BACKWARD, &POOL_L2_HALF_BACKWARD];
        for (which, kernel) in kernels.into_iter().enumerate() {
            let mut bench = Bench::new(kernel, HALVES);
            for (i, shape) in maps().enumerate() {
                let [map, pooled] = shapes(shape);
                let mut case = Case::new(format!("{shape:?}"));
                let d_output = case.random_halves(&pooled);
                match which {
                    0 => {
                        let winner = case.random_words(&winner_shape(shape[0], shape[1], shape[2]));
                        let d_input = case.output_halves(&map);
                        pool_max_half_backward(&mut case.recording, "test", &d_output, &winner, &d_input)
                    }
                    1 => {
                        let d_input = case.output_halves(&map);
                        pool_average_half_backward(&mut case.recording, "test", &d_output, &d_input)
                    }
                    _ => {
                        let values = activations(&case, shape.iter().product(), i);
                        let input = case.halves(&map, &values);
                        let d_input = case.output_halves(&map);
                        pool_l2_half_backward(&mut case.recording, "test", &input, &d_output, &d_input)
                    }
                }
                .unwrap();
                if i % 5 == 4 {
                    case.fold();
                }
                bench.run(&case);
            }
            bench.finish();
        }
    }
}
