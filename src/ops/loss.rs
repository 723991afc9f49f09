//! Squared-difference losses of Gram matrices and features, and what closes an iteration.

use rayon::prelude::*;

use super::{Rect, dims, grid, inside};
use crate::cpu::vectorized;
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params, words};
use crate::recording::{Launch, Recording, Tensor};

params! {
    /// Parameters of `style_loss`.
    StyleLossParams {
        /// Channels.
        channels: u32,
        /// Factor on the difference in `d_gram`.
        coefficient: f32,
    }
}

params! {
    /// Parameters of `content_loss`.
    ContentLossParams {
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
        /// Factor on the difference in the gradient.
        coefficient: f32,
    }
}

params! {
    /// Parameters of `sum_reduce`.
    SumReduceParams {
        /// Number of partial sums.
        count: u32,
        /// Entry of `losses` that is added to.
        slot: u32,
        /// Factor on the sum.
        scale: f32,
    }
}

params! {
    /// Parameters of `log_losses`.
    LogLossesParams {
        /// Number of loss terms.
        terms: u32,
        /// Rows of the ring.
        capacity: u32,
    }
}

/// See `shaders/style_loss.wgsl`.
pub static STYLE_LOSS: Kernel = kernel!(
    "style_loss",
    StyleLossParams,
    style_loss_twin,
    [float("gram", "C C"), float("target_gram", "C C"), float("d_gram", "C C"), float("partial", "P"),]
);

/// See `shaders/content_loss.wgsl`.
pub static CONTENT_LOSS: Kernel = kernel!(
    "content_loss",
    ContentLossParams,
    content_loss_twin,
    [float("feature", "H W C"), float("target_feature", "Ht Wt C"), float("d_feature", "H W C"), float("partial", "P"),]
);

/// See `shaders/sum_reduce.wgsl`.
pub static SUM_REDUCE: Kernel =
    kernel!("sum_reduce", SumReduceParams, sum_reduce_twin, [float("partial", "P"), float("losses", "L")]);

/// See `shaders/log_losses.wgsl`.
pub static LOG_LOSSES: Kernel = kernel!(
    "log_losses",
    LogLossesParams,
    log_losses_twin,
    [float("losses", "L"), float("ring", "R L"), words("step", "1"),]
);

/// Partial sums of a [`style_loss`] over `channels`² entries.
pub fn style_partials(channels: usize) -> usize {
    (channels * channels).div_ceil(1024)
}

/// Partial sums for `quads` elements of four floats: enough workgroups to fill a GPU, few enough to add up at once.
pub fn partials(quads: usize) -> usize {
    quads.div_ceil(1024).clamp(1, 256)
}

/// Records `d_gram = coefficient * (gram - target)` and the partial sums of the squared difference.
pub fn style_loss(
    recording: &mut Recording,
    label: &str,
    gram: &Tensor,
    target_gram: &Tensor,
    coefficient: f32,
    d_gram: &Tensor,
    partial: &Tensor,
) -> Result<()> {
    let [channels, _] = dims(&STYLE_LOSS, "gram", gram)?;
    recording.dispatch(
        &STYLE_LOSS,
        &StyleLossParams { channels: channels as u32, coefficient },
        &[("gram", gram), ("target_gram", target_gram), ("d_gram", d_gram), ("partial", partial)],
        Launch {
            label: label.into(),
            grid: grid(style_partials(channels), 1),
            flops: 4 * gram.len() as u64,
            ..Launch::default()
        },
    )
}

/// Records `d_feature += coefficient * (feature - target)` on the owned positions and the partial sums of the squared
/// difference. `(target_top, target_left)` is where the first owned position lies in the target.
pub fn content_loss(
    recording: &mut Recording,
    label: &str,
    (feature, owned): (&Tensor, Rect),
    (target_feature, target_top, target_left): (&Tensor, usize, usize),
    coefficient: f32,
    d_feature: &Tensor,
    partial: &Tensor,
) -> Result<()> {
    let [height, width, channels] = dims(&CONTENT_LOSS, "feature", feature)?;
    let [target_height, target_width, _] = dims(&CONTENT_LOSS, "target_feature", target_feature)?;
    let [partials] = dims(&CONTENT_LOSS, "partial", partial)?;
    inside(&CONTENT_LOSS, "feature", owned, height, width)?;
    let there = Rect { top: target_top, left: target_left, ..owned };
    inside(&CONTENT_LOSS, "target_feature", there, target_height, target_width)?;
    recording.dispatch(
        &CONTENT_LOSS,
        &ContentLossParams {
            width: width as u32,
            channels: channels as u32,
            top: owned.top as u32,
            left: owned.left as u32,
            owned_height: owned.height as u32,
            owned_width: owned.width as u32,
            target_width: target_width as u32,
            target_top: target_top as u32,
            target_left: target_left as u32,
            coefficient,
        },
        &[("feature", feature), ("target_feature", target_feature), ("d_feature", d_feature), ("partial", partial)],
        Launch {
            label: label.into(),
            grid: [partials as u32, 1, 1],
            flops: 5 * (owned.area() * channels) as u64,
            ..Launch::default()
        },
    )
}

/// Records `losses[slot] += scale * sum of partial`.
pub fn sum_reduce(
    recording: &mut Recording,
    label: &str,
    partial: &Tensor,
    scale: f32,
    losses: &Tensor,
    slot: usize,
) -> Result<()> {
    let [count] = dims(&SUM_REDUCE, "partial", partial)?;
    let [terms] = dims(&SUM_REDUCE, "losses", losses)?;
    inside(&SUM_REDUCE, "losses", Rect { top: 0, left: slot, height: 1, width: 1 }, 1, terms)?;
    recording.dispatch(
        &SUM_REDUCE,
        &SumReduceParams { count: count as u32, slot: slot as u32, scale },
        &[("partial", partial), ("losses", losses)],
        Launch { label: label.into(), grid: [1, 1, 1], flops: count as u64, ..Launch::default() },
    )
}

/// Records the end of an iteration: losses go into their row of the ring, the step counter moves on.
pub fn log_losses(recording: &mut Recording, losses: &Tensor, ring: &Tensor, step: &Tensor) -> Result<()> {
    let [capacity, terms] = dims(&LOG_LOSSES, "ring", ring)?;
    recording.dispatch(
        &LOG_LOSSES,
        &LogLossesParams { terms: terms as u32, capacity: capacity as u32 },
        &[("losses", losses), ("ring", ring), ("step", step)],
        Launch { label: "step".into(), grid: [1, 1, 1], ..Launch::default() },
    )
}

fn style_loss_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: StyleLossParams = call.params()?;
    let [Slot::Read(gram), Slot::Read(target), Slot::Write(d_gram), Slot::Write(partial)] = call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    for (group, partial) in partial.iter_mut().enumerate() {
        let range = group * 1024..(group * 1024 + 1024).min(gram.len());
        let mut squares = 0.0;
        for at in range {
            let difference = gram[at] - target[at];
            d_gram[at] = T::of(params.coefficient) * difference;
            squares += difference.wide().powi(2);
        }
        *partial = narrow(squares);
    }
    Ok(())
}

fn content_loss_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ContentLossParams = call.params()?;
    let [Slot::Read(feature), Slot::Read(target), Slot::Write(d_feature), Slot::Write(partial)] =
        call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let (width, channels) = (params.width as usize * params.channels as usize, params.channels as usize);
    let (left, row) = (params.left as usize * channels, params.owned_width as usize * channels);
    let there = |y: usize| {
        let position = (params.target_top as usize + y) * params.target_width as usize + params.target_left as usize;
        &target[position * channels..][..row]
    };
    let here = |y: usize| &feature[(params.top as usize + y) * width + left..][..row];
    let owned = params.owned_height as usize;
    let rows = d_feature.par_chunks_mut(width).skip(params.top as usize).take(owned);
    rows.enumerate().for_each(|(y, d_feature)| {
        add_difference(&mut d_feature[left..left + row], here(y), there(y), params.coefficient);
    });
    // Partial sum i takes every P-th group of 1024 elements from group i on, in the shader as here.
    let (count, total) = (partial.len(), owned * row);
    partial.par_iter_mut().enumerate().for_each(|(group, partial)| {
        let mut sums = [0.0; 16];
        for begin in (group * 1024..total).step_by(count * 1024) {
            let end = (begin + 1024).min(total);
            let mut at = begin;
            while at < end {
                let (y, x) = (at / row, at % row);
                let len = (row - x).min(end - at);
                add_squares(&mut sums, &here(y)[x..x + len], &there(y)[x..x + len]);
                at += len;
            }
        }
        *partial = narrow(sums.iter().sum());
    });
    Ok(())
}

vectorized! {
    /// `to += coefficient * (a - b)`.
    fn add_difference<T>(to: &'a mut [T], a: &'a [T], b: &'a [T], coefficient: f32) {
        let coefficient = T::of(coefficient);
        for (to, (a, b)) in to.iter_mut().zip(a.iter().zip(b)) {
            *to += coefficient * (*a - *b);
        }
    }
}

vectorized! {
    /// `sums += (a - b)²`, in double precision: a single one would carry thousands of additions.
    fn add_squares<T>(sums: &'a mut [f64; 16], a: &'a [T], b: &'a [T]) {
        let mut lanes = *sums;
        let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
        for (lane, (a, b)) in lanes.iter_mut().zip(a.remainder().iter().zip(b.remainder())) {
            *lane += (*a - *b).wide() * (*a - *b).wide();
        }
        for (a, b) in a.zip(b) {
            for l in 0..16 {
                let difference = (a[l] - b[l]).wide();
                lanes[l] += difference * difference;
            }
        }
        *sums = lanes;
    }
}

fn sum_reduce_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: SumReduceParams = call.params()?;
    let [Slot::Read(partial), Slot::Write(losses)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let total: f64 = partial.iter().map(|value| value.wide()).sum();
    losses[params.slot as usize] += T::of(params.scale) * narrow(total);
    Ok(())
}

fn log_losses_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: LogLossesParams = call.params()?;
    let [Slot::Read(losses), Slot::Write(ring), Slot::WriteWords(step)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let row = (step[0] % params.capacity) as usize;
    ring[row * losses.len()..][..losses.len()].copy_from_slice(losses);
    step[0] = step[0].wrapping_add(1);
    Ok(())
}

/// A sum in the twin's own precision.
pub(super) fn narrow<T: Real>(sum: f64) -> T {
    T::from(sum).unwrap_or_else(T::nan)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, ELEMENTWISE, maps, owned, within};
    use super::*;

    #[test]
    fn style_loss_agrees_with_its_twin() {
        let mut bench = Bench::new(&STYLE_LOSS, ELEMENTWISE);
        for channels in (1..=34).map(|quads| 4 * quads).chain([192, 200, 252, 256, 260, 512]) {
            let mut case = Case::new(format!("{channels} channels"));
            let gram = case.random(&[channels, channels]);
            let target = case.random(&[channels, channels]);
            let d_gram = case.output(&[channels, channels]);
            let partial = case.output(&[style_partials(channels)]);
            style_loss(&mut case.recording, "test", &gram, &target, 0.37, &d_gram, &partial).unwrap();
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn content_loss_agrees_with_its_twin_and_adds_on_owned_positions_only() {
        let mut bench = Bench::new(&CONTENT_LOSS, ELEMENTWISE);
        for (i, [height, width, channels]) in maps().enumerate() {
            let rect = owned(height, width, i);
            let (top, left) = (i % 3, i % 4);
            let mut case = Case::new(format!("{rect:?} of {height}x{width}x{channels}"));
            let feature = case.random(&[height, width, channels]);
            let target = case.random(&[top + rect.height + i % 2, left + rect.width + i % 5, channels]);
            let d_feature = case.update_where(&[height, width, channels], within(rect, width, channels));
            let partial = case.output(&[[1, 2, 5][i % 3]]);
            let target = (&target, top, left);
            content_loss(&mut case.recording, "test", (&feature, rect), target, 0.37, &d_feature, &partial).unwrap();
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn sum_reduce_adds_every_partial_sum_into_its_slot() {
        let mut bench = Bench::new(&SUM_REDUCE, ELEMENTWISE);
        let near_a_power = (0..=12).flat_map(|power| [1_usize << power, (1 << power) + 1, (2 << power) - 1]);
        for (i, count) in near_a_power.chain([100, 300, 700, 5000]).enumerate() {
            let mut case = Case::new(format!("{count} partial sums"));
            // Partial sums of squares are not negative.
            let values: Vec<f32> = case.noise(&[count]).iter().map(|value| value.abs()).collect();
            let partial = case.input(&[count], &values);
            let terms = 1 + i % 7;
            let slot = i % terms;
            let losses = case.update_where(&[terms], move |at| at == slot);
            sum_reduce(&mut case.recording, "test", &partial, 0.37, &losses, slot).unwrap();
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn log_losses_fills_one_row_of_the_ring_and_counts_on() {
        let mut bench = Bench::new(&LOG_LOSSES, ELEMENTWISE);
        for terms in 1..=8 {
            for (capacity, step) in [(1, 0), (1, 5), (3, 2), (3, 3), (32, 31), (32, 4_000_000_001_u32)] {
                let mut case = Case::new(format!("{terms} terms, step {step} of {capacity}"));
                let losses = case.random(&[terms]);
                let row = step as usize % capacity;
                let ring = case.output_where(&[capacity, terms], move |at| at / terms == row);
                let counter = case.words(&[step], true);
                log_losses(&mut case.recording, &losses, &ring, &counter).unwrap();
                bench.run_and(&case, |ran| assert_eq!(ran.words(&counter), [step + 1], "{}", ran.name));
            }
        }
        bench.finish();
    }
}
