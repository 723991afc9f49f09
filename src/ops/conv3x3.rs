//! 3x3 convolution with zero padding, bias and ReLU, and its gradient with respect to the input.

use rayon::prelude::*;

use super::{dims, grid, keep};
use crate::cpu::{Linear, Rows, vectorized};
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params, words};
use crate::recording::{Block, Launch, Recording, Tensor};

params! {
    /// Parameters of both kernels.
    ConvParams {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
        /// Channels of the convolution's input.
        inputs: u32,
        /// Channels of the convolution's output.
        outputs: u32,
    }
}

/// See `shaders/conv3x3.wgsl`.
pub static CONV3X3: Kernel = kernel!(
    "conv3x3",
    ConvParams,
    conv3x3_twin,
    [
        float("input", "H W Ci"),
        float("weight", "9 Ci Co"),
        float("bias", "Co"),
        float("output", "H W Co"),
        words("mask", "H/2 W/4 Co/4"),
    ]
);

/// See `shaders/conv3x3_backward.wgsl`.
pub static CONV3X3_BACKWARD: Kernel = kernel!(
    "conv3x3_backward",
    ConvParams,
    conv3x3_backward_twin,
    [
        float("d_output", "H W Co"),
        words("mask", "H/2 W/4 Co/4"),
        float("weight_rotated", "9 Co Ci"),
        float("d_input", "H W Ci"),
    ]
);

/// Shape of the ReLU mask of an `[H, W, C]` activation: a word per 2x4 pixels and 4 channels.
pub fn mask_shape(height: usize, width: usize, channels: usize) -> [usize; 3] {
    [height.div_ceil(2), width.div_ceil(4), channels.div_ceil(4)]
}

/// Weight of the backward convolution: `[9, Ci, Co]` turned by 180 degrees, channels swapped, `[9, Co, Ci]`.
pub fn rotated(weight: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let mut rotated = vec![0.0; weight.len()];
    for tap in 0..9 {
        for ci in 0..inputs {
            for co in 0..outputs {
                rotated[((8 - tap) * outputs + co) * inputs + ci] = weight[(tap * inputs + ci) * outputs + co];
            }
        }
    }
    rotated
}

/// Records `output = relu(conv(input, weight) + bias)` and its mask, in workgroups of a block.
pub fn conv3x3(
    recording: &mut Recording,
    (label, block): (&str, Block),
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    output: &Tensor,
    mask: &Tensor,
) -> Result<()> {
    let [height, width, inputs] = dims(&CONV3X3, "input", input)?;
    let [_, _, outputs] = dims(&CONV3X3, "output", output)?;
    recording.dispatch(
        &CONV3X3,
        &conv_params(height, width, inputs, outputs),
        &[("input", input), ("weight", weight), ("bias", bias), ("output", output), ("mask", mask)],
        launch((label, block), height, width, inputs, outputs),
    )
}

/// Records the gradient of [`conv3x3`] with respect to its input; `mask` is the one that the forward pass wrote.
pub fn conv3x3_backward(
    recording: &mut Recording,
    (label, block): (&str, Block),
    d_output: &Tensor,
    mask: &Tensor,
    weight_rotated: &Tensor,
    d_input: &Tensor,
) -> Result<()> {
    let [height, width, outputs] = dims(&CONV3X3_BACKWARD, "d_output", d_output)?;
    let [_, _, inputs] = dims(&CONV3X3_BACKWARD, "d_input", d_input)?;
    recording.dispatch(
        &CONV3X3_BACKWARD,
        &conv_params(height, width, inputs, outputs),
        &[("d_output", d_output), ("mask", mask), ("weight_rotated", weight_rotated), ("d_input", d_input)],
        launch((label, block), height, width, outputs, inputs),
    )
}

pub(super) fn conv_params(height: usize, width: usize, inputs: usize, outputs: usize) -> ConvParams {
    ConvParams { height: height as u32, width: width as u32, inputs: inputs as u32, outputs: outputs as u32 }
}

pub(super) fn launch(
    (label, block): (&str, Block),
    height: usize,
    width: usize,
    depth: usize,
    columns: usize,
) -> Launch {
    let (pixel_threads, channel_threads) = (block.rows / 8, block.columns / 8);
    let blocks = height.div_ceil(2) * width.div_ceil(4);
    Launch {
        label: label.into(),
        constants: vec![
            ("PIXEL_THREADS", f64::from(pixel_threads)),
            ("CHANNEL_THREADS", f64::from(channel_threads)),
            ("DEPTH", f64::from(block.depth)),
        ],
        grid: grid(blocks.div_ceil(pixel_threads as usize), columns.div_ceil(block.columns as usize)),
        flops: 2 * 9 * (depth * columns * height * width) as u64,
        ..Launch::default()
    }
}

fn conv3x3_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ConvParams = call.params()?;
    let (derived, keeps, scratch) = (call.derived[1], call.keeps, call.scratch);
    let [Slot::Read(input), Slot::Read(weight), Slot::Read(bias), Slot::Write(output), Slot::WriteWords(mask)] =
        call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let (height, width, inputs, outputs) = sizes(&params);
    let linear = Linear::new(weight, inputs, outputs, derived, keeps)?;
    let rows = linear.band_rows(height, width);
    let mask_row = width.div_ceil(4) * outputs.div_ceil(4);
    let source = Rows { values: input, first: 0, width, channels: inputs };
    let bands = output.par_chunks_mut(rows * width * outputs).zip(mask.par_chunks_mut(rows / 2 * mask_row));
    bands.enumerate().try_for_each(|(band, (output, mask))| {
        linear.apply(output, band * rows, source, scratch)?;
        rectify(output, mask, bias, width);
        Ok(())
    })
}

fn conv3x3_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ConvParams = call.params()?;
    let (derived, keeps, scratch) = (call.derived[2], call.keeps, call.scratch);
    let [Slot::Read(d_output), Slot::ReadWords(mask), Slot::Read(weight), Slot::Write(d_input)] =
        call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let (height, width, inputs, outputs) = sizes(&params);
    let linear = Linear::new(weight, outputs, inputs, derived, keeps)?;
    let rows = linear.band_rows(height, width);
    let (row, mask_row) = (width * outputs, width.div_ceil(4) * outputs.div_ceil(4));
    d_input.par_chunks_mut(rows * width * inputs).enumerate().try_for_each(|(band, d_input)| {
        // The band's rows and one more above and below.
        let (first, end) = ((band * rows).saturating_sub(1), (band * rows + rows + 1).min(height));
        scratch.with((end - first) * row, |gated| {
            for (y, gated) in (first..end).zip(gated.chunks_exact_mut(row)) {
                let mask = &mask[y / 2 * mask_row..][..mask_row];
                gate(gated, &d_output[y * row..][..row], mask, y % 2 * 4, outputs);
            }
            linear.apply(d_input, band * rows, Rows { values: gated, first, width, channels: outputs }, scratch)
        })?
    })
}

pub(super) fn sizes(params: &ConvParams) -> (usize, usize, usize, usize) {
    (params.height as usize, params.width as usize, params.inputs as usize, params.outputs as usize)
}

vectorized! {
    /// Adds the bias, cuts at zero, and writes the mask, two rows at a time.
    pub(super) fn rectify<T>(output: &'a mut [T], mask: &'a mut [u32], bias: &'a [T], width: usize) {
        let channels = bias.len();
        let (quads, wide) = (channels.div_ceil(4), channels / 16 * 16);
        let pairs = output.chunks_mut(2 * width * channels).zip(mask.chunks_mut(width.div_ceil(4) * quads));
        for (pair, mask) in pairs {
            for (block, words) in mask.chunks_exact_mut(quads).enumerate() {
                for c in (0..wide).step_by(16) {
                    rectify_block::<T, 16>(pair, &mut words[c / 4..], bias, width, block * 4, c);
                }
                for c in (wide..channels).step_by(4) {
                    rectify_block::<T, 4>(pair, &mut words[c / 4..], bias, width, block * 4, c);
                }
            }
        }
    }
}

/// 2x4 pixels x `L` channels of [`rectify`].
#[inline(always)]
fn rectify_block<T: Real, const L: usize>(
    pair: &mut [T],
    words: &mut [u32],
    bias: &[T],
    width: usize,
    left: usize,
    c: usize,
) {
    let (channels, bias) = (bias.len(), &bias[c..c + L]);
    let mut bits = [0; L];
    for (y, row) in pair.chunks_exact_mut(width * channels).enumerate() {
        for (x, pixel) in row[left * channels..].chunks_exact_mut(channels).take(4).enumerate() {
            let values = &mut pixel[c..c + L];
            for l in 0..L {
                let value = values[l] + bias[l];
                let positive = value > T::zero();
                values[l] = if positive { value } else { T::zero() };
                bits[l] |= u32::from(positive) << ((y * 4 + x) * 4 + l % 4);
            }
        }
    }
    for (word, bits) in words.iter_mut().zip(bits.chunks_exact(4)) {
        *word = bits[0] | bits[1] | bits[2] | bits[3];
    }
}

vectorized! {
    /// Lets through what the forward pass let through, of one row; `first` is its first pixel in the mask's words.
    pub(super) fn gate<T>(gated: &'a mut [T], values: &'a [T], mask: &'a [u32], first: usize, channels: usize) {
        let quads = channels.div_ceil(4);
        let pixels = gated.chunks_exact_mut(channels).zip(values.chunks_exact(channels));
        for (x, (gated, values)) in pixels.enumerate() {
            let (words, bit) = (&mask[x / 4 * quads..][..quads], (first + x % 4) * 4);
            let quads = gated.chunks_exact_mut(4).zip(values.chunks_exact(4));
            for ((gated, values), word) in quads.zip(words) {
                // Bits 0 to 3, moved to the even places.
                let bits = word >> bit & 15;
                let pairs = (bits | bits << 2) & 0x33;
                keep(gated, values, pairs | pairs << 1);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::cell::RefCell;

    use super::super::testing::{Bars, Bench, CHANNELS, Case, MAPS, PRODUCTS, WINOGRAD};
    use super::*;
    use crate::cpu::CpuEngine;
    use crate::kernel::Scalar;
    use crate::recording::{Block, BufferTable, Engine, Purpose};

    /// `(H, W, Ci, Co)`: every map with every Ci and with every Co, without the most expensive combinations.
    fn shapes() -> impl Iterator<Item = [usize; 4]> {
        let pairs = (0..CHANNELS.len()).flat_map(|i| [0, 1, 3].map(|step| (CHANNELS[i], CHANNELS[(i + step) % 6])));
        let all = pairs.flat_map(|(a, b)| MAPS.map(|(height, width)| [height, width, a, b]));
        all.filter(|[height, width, a, b]| height * width * a * b <= 1_200_000)
    }

    fn cpu_bars(inputs: usize, outputs: usize) -> Bars {
        if inputs >= 32 && outputs >= 32 { WINOGRAD } else { PRODUCTS }
    }

    fn name([height, width, inputs, outputs]: [usize; 4], folded: bool) -> String {
        format!("{height}x{width}x{inputs} to {outputs}{}", if folded { ", folded grid" } else { "" })
    }

    /// The mask by its definition, from an output.
    fn mask_of(output: &[f32], height: usize, width: usize, channels: usize) -> Vec<u32> {
        let [rows, words_x, quads] = mask_shape(height, width, channels);
        let mut mask = vec![0; rows * words_x * quads];
        for (at, value) in output.iter().enumerate() {
            let (y, x, c) = (at / channels / width, at / channels % width, at % channels);
            let bit = ((y % 2) * 4 + x % 4) * 4 + c % 4;
            mask[(y / 2 * words_x + x / 4) * quads + c / 4] |= u32::from(*value > 0.0) << bit;
        }
        mask
    }

    #[test]
    fn conv3x3_agrees_with_its_twin_and_its_mask_with_its_output() {
        let mut bench = Bench::new(&CONV3X3, PRODUCTS);
        for (i, [height, width, inputs, outputs]) in shapes().enumerate() {
            let (folded, block) = (i % 5 == 4, Block::ALL[i % Block::ALL.len()]);
            bench.cpu_bars = cpu_bars(inputs, outputs);
            let mut case = Case::new(name([height, width, inputs, outputs], folded));
            let input = case.random(&[height, width, inputs]);
            let spread = 1.0 / (3.0 * inputs as f32).sqrt();
            let weight: Vec<f32> = case.noise(&[9, inputs, outputs]).iter().map(|value| spread * value).collect();
            let weight = case.input(&[9, inputs, outputs], &weight);
            let bias = case.random(&[outputs]);
            let output = case.output(&[height, width, outputs]);
            let mask = case.output_mask(&mask_shape(height, width, outputs));
            conv3x3(&mut case.recording, ("test", block), &input, &weight, &bias, &output, &mask).unwrap();
            if folded {
                case.fold();
            }
            bench.run_and(&case, |ran| {
                let expected = mask_of(&ran.floats(&output), height, width, outputs);
                assert_eq!(ran.words(&mask), expected, "{}: mask", ran.name);
            });
        }
        bench.finish();
    }

    #[test]
    fn conv3x3_backward_agrees_with_its_twin_under_any_mask() {
        let mut bench = Bench::new(&CONV3X3_BACKWARD, PRODUCTS);
        for (i, [height, width, inputs, outputs]) in shapes().enumerate() {
            let (folded, block) = (i % 5 == 4, Block::ALL[i % Block::ALL.len()]);
            bench.cpu_bars = cpu_bars(inputs, outputs);
            let mut case = Case::new(name([height, width, inputs, outputs], folded));
            let d_output = case.random(&[height, width, outputs]);
            let mask = case.random_words(&mask_shape(height, width, outputs));
            let weight = case.random(&[9, outputs, inputs]);
            let d_input = case.output(&[height, width, inputs]);
            conv3x3_backward(&mut case.recording, ("test", block), &d_output, &mask, &weight, &d_input).unwrap();
            if folded {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }

    /// A weight from 3 channels padded to 4: rows of the fourth are 0.
    fn padded_weight(case: &Case, outputs: usize) -> Vec<f32> {
        let mut weight = case.noise(&[9, 4, outputs]);
        weight.chunks_exact_mut(4 * outputs).for_each(|tap| tap[3 * outputs..].fill(0.0));
        weight
    }

    #[test]
    fn the_picture_s_fourth_channel_adds_nothing_forward() {
        let mut bench = Bench::new(&CONV3X3, PRODUCTS);
        for (height, width, outputs) in [(5, 8, 4), (17, 33, 64), (7, 7, 68)] {
            // The oracle has the padding too, so a third opinion: junk in the channel, then in its weights, both times
            // against zeros, must give the same bits.
            let mut outcomes: Vec<Vec<Vec<f32>>> = Vec::new();
            let block = Block::usual(4, outputs);
            for (junk_in_input, junk_in_weight) in [(false, false), (true, false), (false, true)] {
                // The same name, hence the same noise.
                let mut case = Case::new(name([height, width, 3, outputs], false));
                let shape = [height, width, 4];
                let pixels = if junk_in_input { case.noise(&shape) } else { case.padded_noise(&shape) };
                let input = case.input(&shape, &pixels);
                let weight = if junk_in_weight { case.noise(&[9, 4, outputs]) } else { padded_weight(&case, outputs) };
                let weight = case.input(&[9, 4, outputs], &weight);
                let bias = case.random(&[outputs]);
                let output = case.output(&[height, width, outputs]);
                let mask = case.output_mask(&mask_shape(height, width, outputs));
                conv3x3(&mut case.recording, ("test", block), &input, &weight, &bias, &output, &mask).unwrap();
                let engines = RefCell::new(Vec::new());
                bench.run_and(&case, |ran| engines.borrow_mut().push(ran.floats(&output)));
                outcomes.push(engines.into_inner());
            }
            assert!(outcomes[0] == outcomes[1] && outcomes[0] == outcomes[2], "{height}x{width} to {outputs}");
        }
        bench.finish_after(9);
    }

    #[test]
    fn the_picture_s_fourth_channel_gets_no_gradient() {
        let mut bench = Bench::new(&CONV3X3_BACKWARD, PRODUCTS);
        for (height, width, outputs) in [(5, 8, 4), (17, 33, 64), (7, 7, 68)] {
            let mut case = Case::new(name([height, width, 3, outputs], false));
            let d_output = case.random(&[height, width, outputs]);
            let mask = case.random_words(&mask_shape(height, width, outputs));
            let weight = rotated(&padded_weight(&case, outputs), 4, outputs);
            let weight = case.input(&[9, outputs, 4], &weight);
            let d_input = case.output(&[height, width, 4]);
            let block = Block::usual(outputs, 4);
            conv3x3_backward(&mut case.recording, ("test", block), &d_output, &mask, &weight, &d_input).unwrap();
            bench.run_and(&case, |ran| ran.check_padding(&d_input));
        }
        bench.finish_after(3);
    }

    #[test]
    fn turning_a_weight_twice_gives_it_back() {
        let weight: Vec<f32> = (0..9 * 4 * 8).map(|i| i as f32).collect();
        let turned = rotated(&weight, 4, 8);
        assert_eq!(turned[(8 * 8 + 5) * 4 + 3], weight[3 * 8 + 5], "tap 0 becomes tap 8");
        assert_eq!(rotated(&turned, 8, 4), weight);
    }

    /// Keeping large filters or not is a matter of memory only, and the forecast knows it.
    #[test]
    fn large_filters_made_anew_give_the_same_bits_in_less_memory() {
        let (height, width, inputs, outputs) = (23, 21, 264, 256);
        let run = |keeps: bool| {
            let mut table = BufferTable::default();
            let mut tensor = |shape: &[usize]| table.tensor("test", Scalar::F32, shape, Purpose::Tile);
            let [input, d_input] = [(); 2].map(|()| tensor(&[height, width, inputs]));
            let [output, d_output] = [(); 2].map(|()| tensor(&[height, width, outputs]));
            let (weight, bias) = (tensor(&[9, inputs, outputs]), tensor(&[outputs]));
            let rotated = tensor(&[9, outputs, inputs]);
            let mask = table.tensor("mask", Scalar::U32, &mask_shape(height, width, outputs), Purpose::Tile);
            let mut recording = Recording::new("test");
            conv3x3(&mut recording, ("there", Block::SQUARE), &input, &weight, &bias, &output, &mask).unwrap();
            conv3x3_backward(&mut recording, ("back", Block::SQUARE), &d_output, &mask, &rotated, &d_input).unwrap();
            let mut engine = CpuEngine::<f32>::new();
            engine.allocate(&table).unwrap();
            if !keeps {
                engine.forget_large_filters();
            }
            let program = engine.prepare(&recording).unwrap();
            for (seed, tensor) in (1_u32..).zip([&input, &weight, &bias, &rotated, &d_output]) {
                let word = |at: u32| at.wrapping_mul(2_654_435_761).wrapping_mul(seed).wrapping_add(seed) >> 8;
                let values: Vec<f32> =
                    (0..tensor.len() as u32).map(|at| word(at) as f32 / (1 << 23) as f32 - 1.0).collect();
                engine.write(tensor.buffer, &values).unwrap();
            }
            engine.run(program, 2).unwrap();
            let bits = |tensor: &Tensor| -> Vec<u32> {
                engine.values(tensor.buffer).unwrap().iter().map(|value| value.to_bits()).collect()
            };
            let (held, forecast) = (engine.ledger().overhead, engine.forecast(&recording));
            assert!(held <= forecast && forecast as f64 <= 1.05 * held as f64, "held {held}, forecast {forecast}");
            ((bits(&output), bits(&d_input)), held)
        };
        let (kept, anew) = (run(true), run(false));
        assert!(kept.0.0.iter().any(|bits| *bits != 0) && kept.0.1.iter().any(|bits| *bits != 0), "nothing to compare");
        assert!(kept.0 == anew.0, "the values differ");
        // Two filters are kept in the one, one at a time is made in the other.
        let filter = 4 * 36 * inputs * outputs;
        assert_eq!(kept.1 - anew.1, filter as u64);
    }
}
