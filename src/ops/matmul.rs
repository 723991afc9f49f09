//! Products of square matrices.

use rayon::prelude::*;

use super::dims;
use crate::cpu::{Matrix, matmul as product};
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params};
use crate::recording::{Launch, Recording, Tensor};

/// Edge of the square of entries that one workgroup computes.
const TILE: usize = 32;

params! {
    /// Parameters of `matmul`.
    MatmulParams {
        /// Rows and columns.
        channels: u32,
        /// Factor on the product.
        alpha: f32,
        /// Factor on the identity.
        gamma: f32,
    }
}

/// See `shaders/matmul.wgsl`.
pub static MATMUL: Kernel =
    kernel!("matmul", MatmulParams, matmul_twin, [float("a", "C C"), float("b", "C C"), float("output", "C C")]);

/// Records `output = alpha * a · b + gamma * identity`.
pub fn matmul(
    recording: &mut Recording,
    label: &str,
    (a, b): (&Tensor, &Tensor),
    [alpha, gamma]: [f32; 2],
    output: &Tensor,
) -> Result<()> {
    let [channels, _] = dims(&MATMUL, "a", a)?;
    let tiles = channels.div_ceil(TILE) as u32;
    recording.dispatch(
        &MATMUL,
        &MatmulParams { channels: channels as u32, alpha, gamma },
        &[("a", a), ("b", b), ("output", output)],
        Launch {
            label: label.into(),
            grid: [tiles, tiles, 1],
            flops: 2 * (channels * channels * channels) as u64,
            ..Launch::default()
        },
    )
}

fn matmul_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: MatmulParams = call.params()?;
    let [Slot::Read(a), Slot::Read(b), Slot::Write(output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let channels = params.channels as usize;
    let (alpha, gamma) = (T::of(params.alpha), T::of(params.gamma));
    // Few and large pieces: a matrix product packs its operands.
    let rows = channels.div_ceil(rayon::current_num_threads()).next_multiple_of(16);
    output.par_chunks_mut(rows * channels).enumerate().for_each(|(i, output)| {
        let (first, count) = (i * rows, output.len() / channels);
        let (a, b) = (Matrix::rows(&a[first * channels..], channels), Matrix::rows(b, channels));
        product(output, channels, [count, channels, channels], a, b, false);
        for (row, output) in output.chunks_exact_mut(channels).enumerate() {
            output.iter_mut().for_each(|entry| *entry *= alpha);
            output[first + row] += gamma;
        }
    });
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, PRODUCTS};
    use super::*;

    #[test]
    fn matmul_agrees_with_its_twin() {
        let mut bench = Bench::new(&MATMUL, PRODUCTS);
        for channels in (1..=20).map(|quads| 4 * quads).chain([100, 128, 132, 256]) {
            for factors in [[1.0, 0.0], [-0.5, 1.5]] {
                let mut case = Case::new(format!("{channels} channels, {factors:?}"));
                let a = case.random(&[channels, channels]);
                let b = case.random(&[channels, channels]);
                let output = case.output(&[channels, channels]);
                matmul(&mut case.recording, "test", (&a, &b), factors, &output).unwrap();
                bench.run(&case);
            }
        }
        bench.finish();
    }
}
