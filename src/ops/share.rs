//! Masks: features and gradients weighed by how much of each position belongs to a part of the picture.

use rayon::prelude::*;

use super::{Rect, dims, grid, inside};
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params};
use crate::ops::copy_rect::Mode;
use crate::recording::{Launch, Recording, Tensor};

params! {
    /// Parameters of `weigh_positions`.
    WeighPositionsParams {
        /// Columns of the feature map.
        width: u32,
        /// Channels.
        channels: u32,
        /// First owned row.
        top: u32,
        /// First owned column.
        left: u32,
        /// Owned rows.
        owned_height: u32,
        /// Owned columns.
        owned_width: u32,
        /// Columns of the shares.
        share_width: u32,
        /// Row of the shares at the first owned row.
        share_top: u32,
        /// Column of the shares at the first owned column.
        share_left: u32,
        /// 1 takes the shares' square roots.
        root: u32,
        /// 1 adds into the output, 0 replaces.
        accumulate: u32,
    }
}

params! {
    /// Parameters of `gate_image`.
    GateImageParams {
        /// Pixels of the picture.
        pixels: u32,
    }
}

/// See `shaders/weigh_positions.wgsl`.
pub static WEIGH_POSITIONS: Kernel = kernel!(
    "weigh_positions",
    WeighPositionsParams,
    weigh_positions_twin,
    [float("input", "H W C"), float("share", "Hs Ws"), float("output", "H W C")]
);

/// See `shaders/gate_image.wgsl`.
pub static GATE_IMAGE: Kernel =
    kernel!("gate_image", GateImageParams, gate_image_twin, [float("gate", "H W"), float("image", "H W 4")]);

/// What a position is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// Its share.
    Share,
    /// The square root of its share: products of two such values count by the share.
    Root,
}

/// Records `output (= or +=) input * factor` on the owned positions. `(share_top, share_left)` is where the first owned
/// position lies among the shares.
pub fn weigh_positions(
    recording: &mut Recording,
    label: &str,
    (input, owned): (&Tensor, Rect),
    (share, share_top, share_left): (&Tensor, usize, usize),
    factor: Factor,
    (output, mode): (&Tensor, Mode),
) -> Result<()> {
    let [height, width, channels] = dims(&WEIGH_POSITIONS, "input", input)?;
    let [share_height, share_width] = dims(&WEIGH_POSITIONS, "share", share)?;
    inside(&WEIGH_POSITIONS, "input", owned, height, width)?;
    let there = Rect { top: share_top, left: share_left, ..owned };
    inside(&WEIGH_POSITIONS, "share", there, share_height, share_width)?;
    let elements = owned.area() * channels;
    recording.dispatch(
        &WEIGH_POSITIONS,
        &WeighPositionsParams {
            width: width as u32,
            channels: channels as u32,
            top: owned.top as u32,
            left: owned.left as u32,
            owned_height: owned.height as u32,
            owned_width: owned.width as u32,
            share_width: share_width as u32,
            share_top: share_top as u32,
            share_left: share_left as u32,
            root: u32::from(factor == Factor::Root),
            accumulate: u32::from(mode == Mode::Add),
        },
        &[("input", input), ("share", share), ("output", output)],
        Launch {
            label: label.into(),
            grid: grid((elements / 4).div_ceil(256), 1),
            flops: elements as u64,
            bytes: Some(4 * (2 * elements + owned.area()) as u64),
            ..Launch::default()
        },
    )
}

/// Records `image = 0` where the gate is 0.
pub fn gate_image(recording: &mut Recording, gate: &Tensor, image: &Tensor) -> Result<()> {
    let [height, width, _] = dims(&GATE_IMAGE, "image", image)?;
    recording.dispatch(
        &GATE_IMAGE,
        &GateImageParams { pixels: (height * width) as u32 },
        &[("gate", gate), ("image", image)],
        Launch {
            label: "content mask".into(),
            grid: grid((height * width).div_ceil(256), 1),
            flops: (height * width) as u64,
            ..Launch::default()
        },
    )
}

fn weigh_positions_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: WeighPositionsParams = call.params()?;
    let [Slot::Read(input), Slot::Read(share), Slot::Write(output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let channels = params.channels as usize;
    let (row, columns) = (params.width as usize * channels, params.share_width as usize);
    let (begin, len) = (params.left as usize * channels, params.owned_width as usize * channels);
    let rows = output.par_chunks_mut(row).zip(input.par_chunks(row)).enumerate().skip(params.top as usize);
    rows.take(params.owned_height as usize).for_each(|(y, (output, input))| {
        let place = (params.share_top as usize + y - params.top as usize) * columns + params.share_left as usize;
        let (output, input) = (&mut output[begin..begin + len], &input[begin..begin + len]);
        let positions = output.chunks_exact_mut(channels).zip(input.chunks_exact(channels)).zip(&share[place..]);
        for ((output, input), share) in positions {
            let factor = if params.root == 1 { share.sqrt() } else { *share };
            for (output, input) in output.iter_mut().zip(input) {
                let value = factor * *input;
                *output = if params.accumulate == 1 { *output + value } else { value };
            }
        }
    });
    Ok(())
}

fn gate_image_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let _: GateImageParams = call.params()?;
    let [Slot::Read(gate), Slot::Write(image)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    for (pixel, gate) in image.chunks_exact_mut(4).zip(gate.iter()) {
        if *gate <= T::zero() {
            pixel.fill(T::zero());
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, ELEMENTWISE, MAPS, maps, owned, within};
    use super::*;

    /// Shares from 0 to 1, both ends among them.
    fn shares(case: &Case, shape: &[usize]) -> Vec<f32> {
        case.noise(shape).iter().map(|value| (0.7 * value + 0.5).clamp(0.0, 1.0)).collect()
    }

    #[test]
    fn weigh_positions_agrees_with_its_twin_on_owned_positions_only() {
        let mut bench = Bench::new(&WEIGH_POSITIONS, ELEMENTWISE);
        for (i, shape @ [height, width, channels]) in maps().enumerate() {
            let rect = owned(height, width, i / 2);
            let (top, left) = (i % 3, i % 4);
            let map = [top + rect.height + i % 2, left + rect.width + i % 5];
            let factor = if i % 2 == 0 { Factor::Share } else { Factor::Root };
            let mode = if i / 2 % 2 == 0 { Mode::Replace } else { Mode::Add };
            let mut case = Case::new(format!("{rect:?} of {shape:?}, {factor:?}, {mode:?}"));
            let input = case.random(&shape);
            let share = case.input(&map, &shares(&case, &map));
            let written = within(rect, width, channels);
            let output = match mode {
                Mode::Replace => case.output_where(&shape, written),
                Mode::Add => case.update_where(&shape, written),
            };
            let to = (&output, mode);
            weigh_positions(&mut case.recording, "test", (&input, rect), (&share, top, left), factor, to).unwrap();
            if i % 7 == 6 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn gate_image_clears_pixels_where_the_gate_is_shut_and_no_others() {
        let mut bench = Bench::new(&GATE_IMAGE, ELEMENTWISE);
        for (i, (height, width)) in MAPS.into_iter().cycle().take(3 * MAPS.len()).enumerate() {
            let mut case = Case::new(format!("{height}x{width}, number {i}"));
            let values = shares(&case, &[height, width]);
            let gate = case.input(&[height, width], &values);
            let image = case.update_where(&[height, width, 4], move |at| values[at / 4] <= 0.0);
            gate_image(&mut case.recording, &gate, &image).unwrap();
            if i % 5 == 4 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }
}
