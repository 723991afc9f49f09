//! The 3x3 convolution of halves, and its gradient, by a device's matrix units: a subgroup multiplies 16x16 or 8x8 halves at
//! once and adds up in single precision. Filters are halves, too.

use super::conv3x3::{ConvParams, conv_params, sizes};
use super::conv3x3_half::Halves;
use super::half::widened;
use super::{dims, grid};
use crate::error::{Error, Result};
use crate::kernel::{Call, Kernel, Needs, Real, Slot, float, kernel, words};
use crate::recording::{Launch, Matrices, Recording, Tensor};

/// See `shaders/conv3x3_cooperative16.wgsl`.
pub static CONV3X3_COOPERATIVE16: Kernel = Kernel {
    needs: Needs::Matrices16,
    ..kernel!(
        "conv3x3_cooperative16",
        ConvParams,
        forward_twin,
        [
            float("bias", "Co"),
            words("weight", "9 Ci Co/2"),
            words("input", "H W Ci/2"),
            words("output", "H W Co/2"),
            words("mask", "H/2 W/4 Co/4"),
        ]
    )
};

/// See `shaders/conv3x3_cooperative16_backward.wgsl`.
pub static CONV3X3_COOPERATIVE16_BACKWARD: Kernel = Kernel {
    needs: Needs::Matrices16,
    ..kernel!(
        "conv3x3_cooperative16_backward",
        ConvParams,
        backward_twin,
        [
            words("weight_rotated", "9 Co P"),
            words("d_output", "H W Co/2"),
            words("mask", "H/2 W/4 Co/4"),
            words("d_input", "H W P"),
        ]
    )
};

/// See `shaders/conv3x3_cooperative8.wgsl`.
pub static CONV3X3_COOPERATIVE8: Kernel = Kernel {
    needs: Needs::Matrices8,
    ..kernel!(
        "conv3x3_cooperative8",
        ConvParams,
        forward_twin,
        [
            float("bias", "Co"),
            words("weight", "9 Ci Co/2"),
            words("input", "H W Ci/2"),
            words("output", "H W Co/2"),
            words("mask", "H/2 W/4 Co/4"),
        ]
    )
};

/// See `shaders/conv3x3_cooperative8_backward.wgsl`.
pub static CONV3X3_COOPERATIVE8_BACKWARD: Kernel = Kernel {
    needs: Needs::Matrices8,
    ..kernel!(
        "conv3x3_cooperative8_backward",
        ConvParams,
        backward_twin,
        [
            words("weight_rotated", "9 Co P"),
            words("d_output", "H W Co/2"),
            words("mask", "H/2 W/4 Co/4"),
            words("d_input", "H W P"),
        ]
    )
};

/// Records `output = relu(conv(input, weight) + bias)` and its mask. Channels read must be a multiple of 32, channels written
/// of 64.
pub fn conv3x3_cooperative(
    recording: &mut Recording,
    (label, units): (&str, Matrices),
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    output: &Tensor,
    mask: &Tensor,
) -> Result<()> {
    let kernel = if units.edge == 8 { &CONV3X3_COOPERATIVE8 } else { &CONV3X3_COOPERATIVE16 };
    let [height, width, _] = dims(kernel, "input", input)?;
    let [_, inputs, pairs] = dims(kernel, "weight", weight)?;
    let launch = launch(kernel, (label, units), [height, width], [inputs, 2 * pairs])?;
    let tensors = [("input", input), ("weight", weight), ("bias", bias), ("output", output), ("mask", mask)];
    recording.dispatch(kernel, &conv_params(height, width, inputs, 2 * pairs), &tensors, launch)
}

/// Records the gradient of [`conv3x3_cooperative`] with respect to its input.
pub fn conv3x3_cooperative_backward(
    recording: &mut Recording,
    (label, units): (&str, Matrices),
    d_output: &Tensor,
    mask: &Tensor,
    weight_rotated: &Tensor,
    d_input: &Tensor,
) -> Result<()> {
    let kernel = if units.edge == 8 { &CONV3X3_COOPERATIVE8_BACKWARD } else { &CONV3X3_COOPERATIVE16_BACKWARD };
    let [height, width, _] = dims(kernel, "d_output", d_output)?;
    let [_, outputs, pairs] = dims(kernel, "weight_rotated", weight_rotated)?;
    let launch = launch(kernel, (label, units), [height, width], [outputs, 2 * pairs])?;
    let tensors = [("d_output", d_output), ("mask", mask), ("weight_rotated", weight_rotated), ("d_input", d_input)];
    recording.dispatch(kernel, &conv_params(height, width, 2 * pairs, outputs), &tensors, launch)
}

fn launch(
    kernel: &'static Kernel,
    (label, Matrices { edge, subgroup }): (&str, Matrices),
    [height, width]: [usize; 2],
    [reads, writes]: [usize; 2],
) -> Result<Launch> {
    if !Matrices::suit(reads, writes) {
        return Err(Error::Shape {
            kernel: kernel.name,
            binding: "weight".into(),
            expected: "a multiple of 32 channels read and of 64 written".into(),
            got: format!("{reads} and {writes}"),
        });
    }
    let mut constants = vec![("SUBGROUP", f64::from(subgroup))];
    // Blocks of 2x4 pixels, and channels, of a workgroup.
    let (mut pixels, mut channels) = (8, 64);
    if edge != 8 {
        // Twice as many threads where there are channels for them, as long as WebGPU's 256 are not exceeded.
        let columns = if writes % 128 == 0 && subgroup <= 32 { 2 } else { 1 };
        constants.push(("COLUMNS", f64::from(columns)));
        (pixels, channels) = (16, 64 * columns as usize);
    }
    let blocks = height.div_ceil(2) * width.div_ceil(4);
    Ok(Launch {
        label: label.into(),
        constants,
        grid: grid(blocks.div_ceil(pixels), writes.div_ceil(channels)),
        flops: 2 * 9 * (reads * writes * height * width) as u64,
        ..Launch::default()
    })
}

fn forward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let (params, derived, keeps, scratch): (ConvParams, _, _, _) =
        (call.params()?, call.derived[1], call.keeps, call.scratch);
    let [
        Slot::Read(bias),
        Slot::ReadWords(weight),
        Slot::ReadWords(input),
        Slot::WriteWords(output),
        Slot::WriteWords(mask),
    ] = call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let (_, _, inputs, outputs) = sizes(&params);
    scratch.with(9 * inputs * outputs, |wide| {
        widened(wide, weight);
        Halves { params, weight: wide, derived, keeps, scratch }.forward(bias, input, output, mask)
    })?
}

fn backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let (params, derived, keeps, scratch): (ConvParams, _, _, _) =
        (call.params()?, call.derived[0], call.keeps, call.scratch);
    let [Slot::ReadWords(weight), Slot::ReadWords(d_output), Slot::ReadWords(mask), Slot::WriteWords(d_input)] =
        call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let (_, _, inputs, outputs) = sizes(&params);
    scratch.with(9 * inputs * outputs, |wide| {
        widened(wide, weight);
        Halves { params, weight: wide, derived, keeps, scratch }.backward(d_output, mask, d_input)
    })?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::conv3x3::mask_shape;
    use super::super::half::half_shape;
    use super::super::testing::{Bench, Case, HALF_PRODUCTS, HALF_WINOGRAD};
    use super::*;

    const KERNELS: [(&Kernel, &Kernel, u32); 2] = [
        (&CONV3X3_COOPERATIVE16, &CONV3X3_COOPERATIVE16_BACKWARD, 16),
        (&CONV3X3_COOPERATIVE8, &CONV3X3_COOPERATIVE8_BACKWARD, 8),
    ];

    fn shapes() -> impl Iterator<Item = [usize; 4]> {
        let maps = [(1, 1), (1, 7), (7, 1), (5, 8), (17, 33), (16, 16), (1, 50)];
        maps.into_iter().flat_map(|(height, width)| {
            [(32, 64), (64, 128), (96, 192)].map(|(reads, writes)| [height, width, reads, writes])
        })
    }

    #[test]
    fn convolutions_on_matrix_units_agree_with_their_twins() {
        for (forward, backward, edge) in KERNELS {
            let (mut there, mut back) = (Bench::new(forward, HALF_PRODUCTS), Bench::new(backward, HALF_PRODUCTS));
            (there.cpu_bars, back.cpu_bars) = (HALF_WINOGRAD, HALF_WINOGRAD);
            for (i, [height, width, reads, writes]) in shapes().enumerate() {
                let subgroup = there.subgroup().unwrap_or(32);
                let units = ("test", Matrices { edge, subgroup });
                let name = format!("{height}x{width}, {reads} to {writes}");
                let mut case = Case::new(&name);
                let input = case.random_halves(&half_shape([height, width, reads]));
                let spread = 1.0 / (3.0 * reads as f32).sqrt();
                let values: Vec<f32> = case.noise(&[9, reads, writes]).iter().map(|value| spread * value).collect();
                let weight = case.halves(&[9, reads, writes / 2], &values);
                let bias = case.random(&[writes]);
                let output = case.output_halves(&half_shape([height, width, writes]));
                let mask = case.output_mask(&mask_shape(height, width, writes));
                conv3x3_cooperative(&mut case.recording, units, &input, &weight, &bias, &output, &mask).unwrap();
                if i % 5 == 4 {
                    case.fold();
                }
                there.run_and(&case, |ran| {
                    let (values, mask) = (ran.halves(&output), ran.words(&mask));
                    let set: u32 = mask.iter().map(|word| word.count_ones()).sum();
                    assert_eq!(set as usize, values.iter().filter(|value| **value > 0.0).count(), "{}", ran.name);
                });

                let mut case = Case::new(&name);
                let d_output = case.random_halves(&half_shape([height, width, reads]));
                let mask = case.random_words(&mask_shape(height, width, reads));
                let weight = case.random_halves(&[9, reads, writes / 2]);
                let d_input = case.output_halves(&half_shape([height, width, writes]));
                let tensors = (&d_output, &mask, &weight, &d_input);
                let (d_output, mask, weight, d_input) = tensors;
                conv3x3_cooperative_backward(&mut case.recording, units, d_output, mask, weight, d_input).unwrap();
                if i % 5 == 4 {
                    case.fold();
                }
                back.run(&case);
            }
            there.finish_after(21);
            back.finish_after(21);
        }
    }
}
