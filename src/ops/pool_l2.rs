//! L2 pooling over 2x2 windows.

use rayon::prelude::*;

use super::dims;
use super::pool::{PoolParams, Sizes, launch, pool_params};
use super::pool_half::{pool_l2_half, pool_l2_half_backward};
use crate::cpu::vectorized;
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Scalar, Slot, float, kernel};
use crate::recording::{Recording, Tensor};

/// See `shaders/pool_l2.wgsl`.
pub static POOL_L2: Kernel =
    kernel!("pool_l2", PoolParams, pool_l2_twin, [float("input", "H W C"), float("output", "H/2 W/2 C")]);

/// See `shaders/pool_l2_backward.wgsl`.
pub static POOL_L2_BACKWARD: Kernel = kernel!(
    "pool_l2_backward",
    PoolParams,
    pool_l2_backward_twin,
    [float("input", "H W C"), float("d_output", "H/2 W/2 C"), float("d_input", "H W C")]
);

/// Records L2 pooling: twice the root of the mean of squares; of halves where the input is words.
pub fn pool_l2(recording: &mut Recording, label: &str, input: &Tensor, output: &Tensor) -> Result<()> {
    if input.scalar == Scalar::U32 {
        return pool_l2_half(recording, label, input, output);
    }
    let [height, width, channels] = dims(&POOL_L2, "input", input)?;
    recording.dispatch(
        &POOL_L2,
        &pool_params(height, width, channels),
        &[("input", input), ("output", output)],
        launch(label, (output.len() / 4).div_ceil(256), 2 * input.len()),
    )
}

/// Records the gradient of [`pool_l2`] at the same `input`.
pub fn pool_l2_backward(
    recording: &mut Recording,
    label: &str,
    input: &Tensor,
    d_output: &Tensor,
    d_input: &Tensor,
) -> Result<()> {
    if input.scalar == Scalar::U32 {
        return pool_l2_half_backward(recording, label, input, d_output, d_input);
    }
    let [height, width, channels] = dims(&POOL_L2_BACKWARD, "input", input)?;
    recording.dispatch(
        &POOL_L2_BACKWARD,
        &pool_params(height, width, channels),
        &[("input", input), ("d_output", d_output), ("d_input", d_input)],
        launch(label, (d_output.len() / 4).div_ceil(256), 3 * input.len()),
    )
}

fn pool_l2_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = Sizes::of(&call.params()?);
    let [Slot::Read(input), Slot::Write(output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let row = sizes.out_width * sizes.channels;
    output.par_chunks_mut(row).enumerate().for_each(|(out_y, output)| norms(output, sizes.rows(input, out_y), sizes));
    Ok(())
}

#[inline(always)]
fn norm<T: Real>([a, b, c, d]: [T; 4]) -> T {
    ((a * a + b * b) + (c * c + d * d)).sqrt()
}

vectorized! {
    /// A row of norms. A window that sticks out of the map holds each of its values twice or four times.
    fn norms<T>(output: &'a mut [T], rows: [&'a [T]; 2], sizes: Sizes) {
        for (out_x, output) in output.chunks_exact_mut(sizes.channels).enumerate() {
            let [a, b, c, d] = sizes.window(rows, out_x);
            for i in 0..sizes.channels {
                output[i] = norm([a[i], b[i], c[i], d[i]]);
            }
        }
    }
}

fn pool_l2_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let sizes = Sizes::of(&call.params()?);
    let [Slot::Read(input), Slot::Read(d_output), Slot::Write(d_input)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    d_input.par_chunks_mut(sizes.width * sizes.channels).enumerate().for_each(|(y, d_input)| {
        let here = &input[y * sizes.width * sizes.channels..][..sizes.width * sizes.channels];
        let upstream = &d_output[y / 2 * sizes.out_width * sizes.channels..];
        let repeats = if y / 2 * 2 + 1 < sizes.height { 1.0 } else { 2.0 };
        slopes(d_input, here, sizes.rows(input, y / 2), upstream, repeats, sizes);
    });
    Ok(())
}

vectorized! {
    /// A row of gradients. `repeats` is how often the row's positions count in their windows.
    fn slopes<T>(
        d_input: &'a mut [T],
        here: &'a [T],
        rows: [&'a [T]; 2],
        d_output: &'a [T],
        repeats: f32,
        sizes: Sizes,
    ) {
        let channels = sizes.channels;
        for (x, (d_input, here)) in d_input.chunks_exact_mut(channels).zip(here.chunks_exact(channels)).enumerate() {
            let [a, b, c, d] = sizes.window(rows, x / 2);
            let share = T::of(if x / 2 * 2 + 1 < sizes.width { repeats } else { 2.0 * repeats });
            let upstream = &d_output[x / 2 * channels..][..channels];
            for i in 0..channels {
                let output = norm([a[i], b[i], c[i], d[i]]);
                let slope = share * upstream[i] / output;
                d_input[i] = if output > T::zero() { slope * here[i] } else { T::zero() };
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, ELEMENTWISE, maps};
    use super::*;

    /// Activations, of which a third and some whole windows are zero.
    fn activations(case: &Case, shape: &[usize], all: bool) -> Vec<f32> {
        let zero = |value: &f32| if all { 0.0 } else { (value + 0.3).max(0.0) };
        case.noise(shape).iter().map(zero).collect()
    }

    #[test]
    fn l2_pooling_and_its_gradient_agree_with_their_twins() {
        let (mut forward, mut backward) =
            (Bench::new(&POOL_L2, ELEMENTWISE), Bench::new(&POOL_L2_BACKWARD, ELEMENTWISE));
        for (i, shape @ [height, width, channels]) in maps().enumerate() {
            let pooled = [height.div_ceil(2), width.div_ceil(2), channels];
            let mut case = Case::new(format!("{shape:?}"));
            let values = activations(&case, &shape, i % 7 == 3);
            let input = case.input(&shape, &values);
            let output = case.output(&pooled);
            pool_l2(&mut case.recording, "test", &input, &output).unwrap();
            if i % 5 == 4 {
                case.fold();
            }
            forward.run(&case);

            let mut case = Case::new(format!("{shape:?}"));
            let input = case.input(&shape, &values);
            let d_output = case.random(&pooled);
            let d_input = case.output(&shape);
            pool_l2_backward(&mut case.recording, "test", &input, &d_output, &d_input).unwrap();
            if i % 5 == 4 {
                case.fold();
            }
            backward.run(&case);
        }
        forward.finish();
        backward.finish();
    }
}
