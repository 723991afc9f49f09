//! Squared differences of features or Gram matrices, divided by the sum of the absolute ones.

use rayon::prelude::*;

use super::loss::narrow;
use super::{Rect, dims, grid, inside};
use crate::cpu::vectorized;
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params};
use crate::recording::{Launch, Recording, Tensor};

params! {
    /// Parameters of `scaled_loss_sums`.
    ScaledLossSumsParams {
        /// Columns of the tile's feature map.
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
        /// Columns of the target.
        target_width: u32,
        /// Row of the target at the first owned row.
        target_top: u32,
        /// Column of the target at the first owned column.
        target_left: u32,
    }
}

params! {
    /// Parameters of `scaled_loss`.
    ScaledLossParams {
        /// Entry of `losses` that is added to.
        slot: u32,
        /// Factor on the quotient.
        scale: f32,
        /// Added to the sum of absolutes.
        epsilon: f32,
    }
}

params! {
    /// Parameters of `scaled_loss_backward`.
    ScaledLossBackwardParams {
        /// Columns of the tile's feature map.
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
        /// Columns of the target.
        target_width: u32,
        /// Row of the target at the first owned row.
        target_top: u32,
        /// Column of the target at the first owned column.
        target_left: u32,
        /// Factor on the quotient.
        scale: f32,
        /// Added to the sum of absolutes.
        epsilon: f32,
    }
}

/// See `shaders/scaled_loss_sums.wgsl`.
pub static SCALED_LOSS_SUMS: Kernel = kernel!(
    "scaled_loss_sums",
    ScaledLossSumsParams,
    scaled_loss_sums_twin,
    [float("feature", "H W C"), float("target_feature", "Ht Wt C"), float("squares", "P"), float("absolutes", "P"),]
);

/// See `shaders/scaled_loss.wgsl`.
pub static SCALED_LOSS: Kernel =
    kernel!("scaled_loss", ScaledLossParams, scaled_loss_twin, [float("sums", "2"), float("losses", "L")]);

/// See `shaders/scaled_loss_backward.wgsl`.
pub static SCALED_LOSS_BACKWARD: Kernel = kernel!(
    "scaled_loss_backward",
    ScaledLossBackwardParams,
    scaled_loss_backward_twin,
    [float("feature", "H W C"), float("target_feature", "Ht Wt C"), float("sums", "2"), float("d_feature", "H W C")]
);

/// What is compared: owned positions of a map with the same places of a target, where the first lies at
/// `(target_top, target_left)`.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// `[H, W, C]`.
    pub feature: &'a Tensor,
    /// Owned positions.
    pub owned: Rect,
    /// Target `[Ht, Wt, C]`, and the row and column of the first owned position in it.
    pub target: (&'a Tensor, usize, usize),
}

impl Pair<'_> {
    fn params(&self, kernel: &'static Kernel) -> Result<ScaledLossSumsParams> {
        let Pair { feature, owned, target: (target, target_top, target_left) } = *self;
        let [height, width, channels] = dims(kernel, "feature", feature)?;
        let [target_height, target_width, _] = dims(kernel, "target_feature", target)?;
        inside(kernel, "feature", owned, height, width)?;
        let there = Rect { top: target_top, left: target_left, ..owned };
        inside(kernel, "target_feature", there, target_height, target_width)?;
        Ok(ScaledLossSumsParams {
            width: width as u32,
            channels: channels as u32,
            top: owned.top as u32,
            left: owned.left as u32,
            owned_height: owned.height as u32,
            owned_width: owned.width as u32,
            target_width: target_width as u32,
            target_top: target_top as u32,
            target_left: target_left as u32,
        })
    }

    fn elements(&self) -> usize {
        self.owned.area() * self.feature.shape.last().copied().unwrap_or(1)
    }
}

/// Records the partial sums of squared and of absolute differences.
pub fn scaled_loss_sums(
    recording: &mut Recording,
    label: &str,
    pair: Pair<'_>,
    [squares, absolutes]: [&Tensor; 2],
) -> Result<()> {
    let [partials] = dims(&SCALED_LOSS_SUMS, "squares", squares)?;
    recording.dispatch(
        &SCALED_LOSS_SUMS,
        &pair.params(&SCALED_LOSS_SUMS)?,
        &[("feature", pair.feature), ("target_feature", pair.target.0), ("squares", squares), ("absolutes", absolutes)],
        Launch {
            label: label.into(),
            grid: [partials as u32, 1, 1],
            flops: 4 * pair.elements() as u64,
            ..Launch::default()
        },
    )
}

/// Records `losses[slot] += scale * sums[0] / (sums[1] + epsilon)`.
pub fn scaled_loss(
    recording: &mut Recording,
    label: &str,
    sums: &Tensor,
    [scale, epsilon]: [f32; 2],
    losses: &Tensor,
    slot: usize,
) -> Result<()> {
    let [terms] = dims(&SCALED_LOSS, "losses", losses)?;
    inside(&SCALED_LOSS, "losses", Rect { top: 0, left: slot, height: 1, width: 1 }, 1, terms)?;
    recording.dispatch(
        &SCALED_LOSS,
        &ScaledLossParams { slot: slot as u32, scale, epsilon },
        &[("sums", sums), ("losses", losses)],
        Launch { label: label.into(), grid: [1, 1, 1], flops: 4, ..Launch::default() },
    )
}

/// Records `d_feature += the gradient of scale * sums[0] / (sums[1] + epsilon)` on the owned positions.
pub fn scaled_loss_backward(
    recording: &mut Recording,
    label: &str,
    pair: Pair<'_>,
    sums: &Tensor,
    [scale, epsilon]: [f32; 2],
    d_feature: &Tensor,
) -> Result<()> {
    let ScaledLossSumsParams {
        width,
        channels,
        top,
        left,
        owned_height,
        owned_width,
        target_width,
        target_top,
        target_left,
    } = pair.params(&SCALED_LOSS_BACKWARD)?;
    recording.dispatch(
        &SCALED_LOSS_BACKWARD,
        &ScaledLossBackwardParams {
            width,
            channels,
            top,
            left,
            owned_height,
            owned_width,
            target_width,
            target_top,
            target_left,
            scale,
            epsilon,
        },
        &[("feature", pair.feature), ("target_feature", pair.target.0), ("sums", sums), ("d_feature", d_feature)],
        Launch {
            label: label.into(),
            grid: grid((pair.elements() / 4).div_ceil(256), 1),
            flops: 6 * pair.elements() as u64,
            ..Launch::default()
        },
    )
}

fn scaled_loss_sums_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ScaledLossSumsParams = call.params()?;
    let [Slot::Read(feature), Slot::Read(target), Slot::Write(squares), Slot::Write(absolutes)] =
        call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let channels = params.channels as usize;
    let row = params.owned_width as usize * channels;
    let total = params.owned_height as usize * row;
    let from =
        |width: u32, top: u32, left: u32, y: usize| ((top as usize + y) * width as usize + left as usize) * channels;
    // Partial sum i takes every P-th group of 1024 elements from group i on, in the shader as here.
    let count = squares.len();
    squares.par_iter_mut().zip(absolutes.par_iter_mut()).enumerate().for_each(|(group, (squares, absolutes))| {
        let mut sums = [[0.0; 16]; 2];
        for begin in (group * 1024..total).step_by(count * 1024) {
            let end = (begin + 1024).min(total);
            let mut at = begin;
            while at < end {
                let (y, x) = (at / row, at % row);
                let len = (row - x).min(end - at);
                let here = from(params.width, params.top, params.left, y) + x;
                let there = from(params.target_width, params.target_top, params.target_left, y) + x;
                add_sums(&mut sums, &feature[here..here + len], &target[there..there + len]);
                at += len;
            }
        }
        [*squares, *absolutes] = sums.map(|lanes| narrow(lanes.iter().sum()));
    });
    Ok(())
}

vectorized! {
    /// `sums += [(a - b)², |a - b|]`, in double precision: a single one would carry thousands of additions.
    fn add_sums<T>(sums: &'a mut [[f64; 16]; 2], a: &'a [T], b: &'a [T]) {
        let [mut squares, mut absolutes] = *sums;
        for (a, b) in a.chunks(16).zip(b.chunks(16)) {
            for (l, (a, b)) in a.iter().zip(b).enumerate() {
                let difference = (*a - *b).wide();
                squares[l] += difference * difference;
                absolutes[l] += difference.abs();
            }
        }
        *sums = [squares, absolutes];
    }
}

fn scaled_loss_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ScaledLossParams = call.params()?;
    let [Slot::Read(sums), Slot::Write(losses)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    losses[params.slot as usize] += T::of(params.scale) * (sums[0] / (sums[1] + T::of(params.epsilon)));
    Ok(())
}

fn scaled_loss_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ScaledLossBackwardParams = call.params()?;
    let [Slot::Read(feature), Slot::Read(target), Slot::Read(sums), Slot::Write(d_feature)] = call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let channels = params.channels as usize;
    let (width, len) = (params.width as usize * channels, params.owned_width as usize * channels);
    let s = sums[1] + T::of(params.epsilon);
    let (factor, slope) = (T::of(params.scale) / s, sums[0] / s);
    let rows = d_feature.par_chunks_mut(width).enumerate();
    let rows = rows.skip(params.top as usize).take(params.owned_height as usize);
    rows.for_each(|(y, d_feature)| {
        let left = params.left as usize * channels;
        let row = params.target_top as usize + y - params.top as usize;
        let there = (row * params.target_width as usize + params.target_left as usize) * channels;
        let (here, target) = (&feature[y * width + left..][..len], &target[there..there + len]);
        add_slopes(&mut d_feature[left..left + len], here, target, factor, slope);
    });
    Ok(())
}

vectorized! {
    /// `to += factor * (2 d - slope * sign(d))`, d = a - b; the sign of 0 is 0.
    fn add_slopes<T>(to: &'a mut [T], a: &'a [T], b: &'a [T], factor: T, slope: T) {
        for (to, (a, b)) in to.iter_mut().zip(a.iter().zip(b)) {
            let d = *a - *b;
            let sign = if d > T::zero() { slope } else if d < T::zero() { -slope } else { T::zero() };
            *to += factor * (d + d - sign);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, ELEMENTWISE, maps, owned, within};
    use super::*;

    #[test]
    fn the_sums_and_the_gradient_agree_with_their_twins_on_rectangles() {
        let (mut sums, mut backward) =
            (Bench::new(&SCALED_LOSS_SUMS, ELEMENTWISE), Bench::new(&SCALED_LOSS_BACKWARD, ELEMENTWISE));
        for (i, shape @ [height, width, channels]) in maps().enumerate() {
            let rect = owned(height, width, i);
            let (top, left) = (i % 3, i % 4);
            let target_shape = [top + rect.height + i % 2, left + rect.width + i % 5, channels];
            let mut case = Case::new(format!("{rect:?} of {shape:?}"));
            let (feature, target) = (case.random(&shape), case.random(&target_shape));
            let [squares, absolutes] = [0, 1].map(|_| case.output(&[[1, 2, 5][i % 3]]));
            let pair = Pair { feature: &feature, owned: rect, target: (&target, top, left) };
            scaled_loss_sums(&mut case.recording, "test", pair, [&squares, &absolutes]).unwrap();
            sums.run(&case);

            let mut case = Case::new(format!("{rect:?} of {shape:?}"));
            let (feature, target) = (case.random(&shape), case.random(&target_shape));
            let totals = case.input(&[2], &[0.7, 1.9]);
            let d_feature = case.update_where(&shape, within(rect, width, channels));
            let pair = Pair { feature: &feature, owned: rect, target: (&target, top, left) };
            scaled_loss_backward(&mut case.recording, "test", pair, &totals, [0.37, 0.01], &d_feature).unwrap();
            if i % 5 == 4 {
                case.fold();
            }
            backward.run(&case);
        }
        sums.finish();
        backward.finish();
    }

    #[test]
    fn the_quotient_goes_into_its_slot() {
        let mut bench = Bench::new(&SCALED_LOSS, ELEMENTWISE);
        for i in 1..=40 {
            let mut case = Case::new(format!("case {i}"));
            let sums = case.input(&[2], &[0.3 * i as f32, 1.7 + i as f32]);
            let (terms, slot) = (1 + i % 7, i % (1 + i % 7));
            let losses = case.update_where(&[terms], move |at| at == slot);
            scaled_loss(&mut case.recording, "test", &sums, [0.37, 0.5], &losses, slot).unwrap();
            bench.run(&case);
        }
        bench.finish();
    }
}
