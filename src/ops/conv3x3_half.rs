//! The 3x3 convolution and its gradient on maps of half precision; filters, products and sums are single.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::conv3x3::{ConvParams, conv_params, gate, launch, rectify, sizes};
use super::dims;
use super::half::{narrowed, widened};
use crate::cpu::{Linear, Rows};
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Scratch, Slot, float, kernel, words};
use crate::recording::{Block, Recording, Tensor};

/// See `shaders/conv3x3_half.wgsl`.
pub static CONV3X3_HALF: Kernel = kernel!(
    "conv3x3_half",
    ConvParams,
    conv3x3_half_twin,
    [
        float("weight", "9 Ci Co"),
        float("bias", "Co"),
        words("input", "H W Ci/2"),
        words("output", "H W Co/2"),
        words("mask", "H/2 W/4 Co/4"),
    ]
);

/// See `shaders/conv3x3_half_backward.wgsl`.
pub static CONV3X3_HALF_BACKWARD: Kernel = kernel!(
    "conv3x3_half_backward",
    ConvParams,
    conv3x3_half_backward_twin,
    [
        float("weight_rotated", "9 Co Ci"),
        words("d_output", "H W Co/2"),
        words("mask", "H/2 W/4 Co/4"),
        words("d_input", "H W Ci/2"),
    ]
);

/// Records `output = relu(conv(input, weight) + bias)` and its mask; input and output are halves.
pub fn conv3x3_half(
    recording: &mut Recording,
    (label, block): (&str, Block),
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    output: &Tensor,
    mask: &Tensor,
) -> Result<()> {
    let [height, width, _] = dims(&CONV3X3_HALF, "input", input)?;
    let [_, inputs, outputs] = dims(&CONV3X3_HALF, "weight", weight)?;
    recording.dispatch(
        &CONV3X3_HALF,
        &conv_params(height, width, inputs, outputs),
        &[("input", input), ("weight", weight), ("bias", bias), ("output", output), ("mask", mask)],
        launch((label, block), height, width, inputs, outputs),
    )
}

/// Records the gradient of [`conv3x3_half`] with respect to its input; `mask` is the one that the forward pass wrote.
pub fn conv3x3_half_backward(
    recording: &mut Recording,
    (label, block): (&str, Block),
    d_output: &Tensor,
    mask: &Tensor,
    weight_rotated: &Tensor,
    d_input: &Tensor,
) -> Result<()> {
    let [height, width, _] = dims(&CONV3X3_HALF_BACKWARD, "d_output", d_output)?;
    let [_, outputs, inputs] = dims(&CONV3X3_HALF_BACKWARD, "weight_rotated", weight_rotated)?;
    recording.dispatch(
        &CONV3X3_HALF_BACKWARD,
        &conv_params(height, width, inputs, outputs),
        &[("d_output", d_output), ("mask", mask), ("weight_rotated", weight_rotated), ("d_input", d_input)],
        launch((label, block), height, width, outputs, inputs),
    )
}

/// A band's rows and one more above and below.
fn around(band: usize, rows: usize, height: usize) -> (usize, usize) {
    ((band * rows).saturating_sub(1), (band * rows + rows + 1).min(height))
}

/// A convolution of halves on the CPU: its filter in single or double precision, and where it works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halves<'a, T> {
    pub(super) params: ConvParams,
    pub(super) weight: &'a [T],
    pub(super) derived: &'a OnceLock<Vec<T>>,
    pub(super) keeps: bool,
    pub(super) scratch: &'a Scratch,
}

impl<T: Real> Halves<'_, T> {
    pub(super) fn forward(&self, bias: &[T], input: &[u32], output: &mut [u32], mask: &mut [u32]) -> Result<()> {
        let (height, width, inputs, outputs) = sizes(&self.params);
        let scratch = self.scratch;
        let linear = Linear::new(self.weight, inputs, outputs, self.derived, self.keeps)?;
        let rows = linear.band_rows(height, width);
        let mask_row = width.div_ceil(4) * outputs.div_ceil(4);
        let bands = output.par_chunks_mut(rows * width * outputs / 2).zip(mask.par_chunks_mut(rows / 2 * mask_row));
        bands.enumerate().try_for_each(|(band, (output, mask))| {
            let (first, end) = around(band, rows, height);
            scratch.with((end - first) * width * inputs, |values| {
                widened(values, &input[first * width * inputs / 2..end * width * inputs / 2]);
                scratch.with(2 * output.len(), |sums| {
                    linear.apply(sums, band * rows, Rows { values, first, width, channels: inputs }, scratch)?;
                    rectify(sums, mask, bias, width);
                    narrowed(output, sums);
                    Ok(())
                })?
            })?
        })
    }

    pub(super) fn backward(&self, d_output: &[u32], mask: &[u32], d_input: &mut [u32]) -> Result<()> {
        let (height, width, inputs, outputs) = sizes(&self.params);
        let scratch = self.scratch;
        let linear = Linear::new(self.weight, outputs, inputs, self.derived, self.keeps)?;
        let rows = linear.band_rows(height, width);
        let (row, mask_row) = (width * outputs, width.div_ceil(4) * outputs.div_ceil(4));
        d_input.par_chunks_mut(rows * width * inputs / 2).enumerate().try_for_each(|(band, d_input)| {
            let (first, end) = around(band, rows, height);
            scratch.with((end - first) * row, |gated| {
                scratch.with(row, |values| {
                    for (y, gated) in (first..end).zip(gated.chunks_exact_mut(row)) {
                        widened(values, &d_output[y * row / 2..][..row / 2]);
                        gate(gated, values, &mask[y / 2 * mask_row..][..mask_row], y % 2 * 4, outputs);
                    }
                })?;
                scratch.with(2 * d_input.len(), |sums| {
                    linear.apply(
                        sums,
                        band * rows,
                        Rows { values: gated, first, width, channels: outputs },
                        scratch,
                    )?;
                    narrowed(d_input, sums);
                    Ok(())
                })?
            })?
        })
    }
}

fn conv3x3_half_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let (params, derived, keeps, scratch) = (call.params()?, call.derived[0], call.keeps, call.scratch);
    let [
        Slot::Read(weight),
        Slot::Read(bias),
        Slot::ReadWords(input),
        Slot::WriteWords(output),
        Slot::WriteWords(mask),
    ] = call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    Halves { params, weight, derived, keeps, scratch }.forward(bias, input, output, mask)
}

fn conv3x3_half_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let (params, derived, keeps, scratch) = (call.params()?, call.derived[0], call.keeps, call.scratch);
    let [Slot::Read(weight), Slot::ReadWords(d_output), Slot::ReadWords(mask), Slot::WriteWords(d_input)] =
        call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    Halves { params, weight, derived, keeps, scratch }.backward(d_output, mask, d_input)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::conv3x3::mask_shape;
    use super::super::half::half_shape;
    use super::super::testing::{Bars, Bench, Case, HALF_PRODUCTS, HALF_WINOGRAD, MAPS};
    use super::*;

    /// `(H, W, Ci, Co)`: every map, each with four pairs of channels.
    fn shapes() -> impl Iterator<Item = [usize; 4]> {
        let pairs = [(8, 64), (20, 20), (64, 68), (128, 64), (4, 4), (256, 20)];
        let all = MAPS.iter().flat_map(move |&(height, width)| pairs.map(|(a, b)| [height, width, a, b]));
        all.filter(|[height, width, a, b]| height * width * a * b <= 1_200_000)
    }

    fn cpu_bars(inputs: usize, outputs: usize) -> Bars {
        if inputs >= 32 && outputs >= 32 { HALF_WINOGRAD } else { HALF_PRODUCTS }
    }

    fn name([height, width, inputs, outputs]: [usize; 4]) -> String {
        format!("{height}x{width}x{inputs} to {outputs}")
    }

    #[test]
    fn conv3x3_half_agrees_with_its_twin_and_its_mask_with_its_output() {
        let mut bench = Bench::new(&CONV3X3_HALF, HALF_PRODUCTS);
        for (i, shape @ [height, width, inputs, outputs]) in shapes().enumerate() {
            bench.cpu_bars = cpu_bars(inputs, outputs);
            let block = Block::ALL[i % Block::ALL.len()];
            let mut case = Case::new(name(shape));
            let input = case.random_halves(&half_shape([height, width, inputs]));
            let spread = 1.0 / (3.0 * inputs as f32).sqrt();
            let weight: Vec<f32> = case.noise(&[9, inputs, outputs]).iter().map(|value| spread * value).collect();
            let weight = case.input(&[9, inputs, outputs], &weight);
            let bias = case.random(&[outputs]);
            let output = case.output_halves(&half_shape([height, width, outputs]));
            let mask = case.output_mask(&mask_shape(height, width, outputs));
            conv3x3_half(&mut case.recording, ("test", block), &input, &weight, &bias, &output, &mask).unwrap();
            if i % 5 == 4 {
                case.fold();
            }
            bench.run_and(&case, |ran| {
                let (values, mask) = (ran.halves(&output), ran.words(&mask));
                let [_, words_x, quads] = mask_shape(height, width, outputs);
                for (at, value) in values.iter().enumerate() {
                    let (y, x, c) = (at / outputs / width, at / outputs % width, at % outputs);
                    let word = mask[(y / 2 * words_x + x / 4) * quads + c / 4];
                    let set = word >> ((y % 2 * 4 + x % 4) * 4 + c % 4) & 1 == 1;
                    assert_eq!(set, *value > 0.0, "{}: mask at {y} {x} {c}", ran.name);
                }
            });
        }
        bench.finish();
    }

    #[test]
    fn conv3x3_half_backward_agrees_with_its_twin_under_any_mask() {
        let mut bench = Bench::new(&CONV3X3_HALF_BACKWARD, HALF_PRODUCTS);
        for (i, shape @ [height, width, inputs, outputs]) in shapes().enumerate() {
            bench.cpu_bars = cpu_bars(inputs, outputs);
            let block = Block::ALL[i % Block::ALL.len()];
            let mut case = Case::new(name(shape));
            let d_output = case.random_halves(&half_shape([height, width, outputs]));
            let mask = case.random_words(&mask_shape(height, width, outputs));
            let weight = case.random(&[9, outputs, inputs]);
            let d_input = case.output_halves(&half_shape([height, width, inputs]));
            conv3x3_half_backward(&mut case.recording, ("test", block), &d_output, &mask, &weight, &d_input).unwrap();
            if i % 5 == 4 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }
}
