//! Means of a feature map's channels over the owned positions, the way back to the features, and covariances.

use rayon::prelude::*;

use super::{Rect, dims, grid, inside};
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params};
use crate::recording::{Launch, Recording, Tensor};

params! {
    /// Parameters of `channel_sum`.
    ChannelSumParams {
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
        /// Positions per split.
        split: u32,
    }
}

params! {
    /// Parameters of `channel_sum_reduce`.
    ChannelSumReduceParams {
        /// Channels.
        channels: u32,
        /// Number of splits.
        splits: u32,
        /// Factor on the sum.
        scale: f32,
    }
}

params! {
    /// Parameters of `mean_backward`.
    MeanBackwardParams {
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
    }
}

params! {
    /// Parameters of `covariance`.
    CovarianceParams {
        /// Channels.
        channels: u32,
        /// Added on the diagonal.
        ridge: f32,
        /// What the trace lacks of this times the sum of the squared means is added, too.
        relative: f32,
    }
}

/// See `shaders/channel_sum.wgsl`.
pub static CHANNEL_SUM: Kernel =
    kernel!("channel_sum", ChannelSumParams, channel_sum_twin, [float("feature", "H W C"), float("partial", "S C")]);

/// See `shaders/channel_sum_reduce.wgsl`.
pub static CHANNEL_SUM_REDUCE: Kernel = kernel!(
    "channel_sum_reduce",
    ChannelSumReduceParams,
    channel_sum_reduce_twin,
    [float("partial", "S C"), float("mean", "C")]
);

/// See `shaders/mean_backward.wgsl`.
pub static MEAN_BACKWARD: Kernel = kernel!(
    "mean_backward",
    MeanBackwardParams,
    mean_backward_twin,
    [float("d_mean", "C"), float("d_feature", "H W C")]
);

/// See `shaders/covariance.wgsl`.
pub static COVARIANCE: Kernel = kernel!(
    "covariance",
    CovarianceParams,
    covariance_twin,
    [float("second", "C C"), float("mean", "C"), float("cov", "C C")]
);

/// Number of splits for so many positions: about a thousand positions each.
pub fn splits(positions: usize) -> usize {
    positions.div_ceil(1024).clamp(1, 256)
}

/// Records `partial[s] = sum of feature` over the owned positions of each split. `partial` is `[S, C]`.
pub fn channel_sum(
    recording: &mut Recording,
    label: &str,
    feature: &Tensor,
    owned: Rect,
    partial: &Tensor,
) -> Result<()> {
    let [height, width, channels] = dims(&CHANNEL_SUM, "feature", feature)?;
    let [splits, _] = dims(&CHANNEL_SUM, "partial", partial)?;
    inside(&CHANNEL_SUM, "feature", owned, height, width)?;
    recording.dispatch(
        &CHANNEL_SUM,
        &ChannelSumParams {
            width: width as u32,
            channels: channels as u32,
            top: owned.top as u32,
            left: owned.left as u32,
            owned_height: owned.height as u32,
            owned_width: owned.width as u32,
            split: owned.area().div_ceil(splits.max(1)) as u32,
        },
        &[("feature", feature), ("partial", partial)],
        Launch {
            label: label.into(),
            grid: [channels.div_ceil(64) as u32, splits as u32, 1],
            flops: (owned.area() * channels) as u64,
            ..Launch::default()
        },
    )
}

/// Records `mean += scale * sum of partial`.
pub fn channel_sum_reduce(
    recording: &mut Recording,
    label: &str,
    partial: &Tensor,
    scale: f32,
    mean: &Tensor,
) -> Result<()> {
    let [splits, channels] = dims(&CHANNEL_SUM_REDUCE, "partial", partial)?;
    recording.dispatch(
        &CHANNEL_SUM_REDUCE,
        &ChannelSumReduceParams { channels: channels as u32, splits: splits as u32, scale },
        &[("partial", partial), ("mean", mean)],
        Launch {
            label: label.into(),
            grid: grid(channels.div_ceil(64), 1),
            flops: partial.len() as u64,
            ..Launch::default()
        },
    )
}

/// Records `d_feature += d_mean` at every owned position; `d_mean` carries every factor.
pub fn mean_backward(
    recording: &mut Recording,
    label: &str,
    d_mean: &Tensor,
    owned: Rect,
    d_feature: &Tensor,
) -> Result<()> {
    let [height, width, channels] = dims(&MEAN_BACKWARD, "d_feature", d_feature)?;
    inside(&MEAN_BACKWARD, "d_feature", owned, height, width)?;
    let elements = owned.area() * channels;
    recording.dispatch(
        &MEAN_BACKWARD,
        &MeanBackwardParams {
            width: width as u32,
            channels: channels as u32,
            top: owned.top as u32,
            left: owned.left as u32,
            owned_height: owned.height as u32,
            owned_width: owned.width as u32,
        },
        &[("d_mean", d_mean), ("d_feature", d_feature)],
        Launch {
            label: label.into(),
            grid: grid((elements / 4).div_ceil(256), 1),
            flops: elements as u64,
            ..Launch::default()
        },
    )
}

/// Records `cov = second - mean ⊗ mean + (ridge + max(0, relative Σ mean² - trace)) * identity`, the trace being that of the
/// covariance: what is within rounding of a flat picture's zero gets more.
pub fn covariance(
    recording: &mut Recording,
    label: &str,
    second: &Tensor,
    mean: &Tensor,
    [ridge, relative]: [f32; 2],
    cov: &Tensor,
) -> Result<()> {
    let [channels, _] = dims(&COVARIANCE, "second", second)?;
    recording.dispatch(
        &COVARIANCE,
        &CovarianceParams { channels: channels as u32, ridge, relative },
        &[("second", second), ("mean", mean), ("cov", cov)],
        Launch {
            label: label.into(),
            grid: grid((channels * channels / 4).div_ceil(64), 1),
            flops: 2 * second.len() as u64,
            ..Launch::default()
        },
    )
}

fn channel_sum_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ChannelSumParams = call.params()?;
    let [Slot::Read(feature), Slot::Write(partial)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let (channels, width) = (params.channels as usize, params.width as usize);
    let (top, left, owned_width) = (params.top as usize, params.left as usize, params.owned_width as usize);
    let (positions, split) = (params.owned_height as usize * owned_width, params.split as usize);
    partial.par_chunks_mut(channels).enumerate().for_each(|(index, partial)| {
        partial.fill(T::zero());
        for p in index * split..(index * split + split).min(positions) {
            let position = (top + p / owned_width) * width + left + p % owned_width;
            for (sum, value) in partial.iter_mut().zip(&feature[position * channels..]) {
                *sum += *value;
            }
        }
    });
    Ok(())
}

fn channel_sum_reduce_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ChannelSumReduceParams = call.params()?;
    let [Slot::Read(partial), Slot::Write(mean)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    for (c, mean) in mean.iter_mut().enumerate() {
        let total: T = partial.chunks_exact(params.channels as usize).map(|split| split[c]).sum();
        *mean += T::of(params.scale) * total;
    }
    Ok(())
}

fn mean_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: MeanBackwardParams = call.params()?;
    let [Slot::Read(d_mean), Slot::Write(d_feature)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let (channels, row) = (params.channels as usize, params.width as usize * params.channels as usize);
    let (begin, len) = (params.left as usize * channels, params.owned_width as usize * channels);
    let rows = d_feature.par_chunks_mut(row).skip(params.top as usize).take(params.owned_height as usize);
    rows.for_each(|row| {
        for position in row[begin..begin + len].chunks_exact_mut(channels) {
            position.iter_mut().zip(d_mean.iter()).for_each(|(gradient, value)| *gradient += *value);
        }
    });
    Ok(())
}

fn covariance_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: CovarianceParams = call.params()?;
    let [Slot::Read(second), Slot::Read(mean), Slot::Write(cov)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let channels = params.channels as usize;
    let squares: T = mean.iter().map(|mean| *mean * *mean).sum();
    let trace: T = (0..channels).map(|k| second[k * channels + k] - mean[k] * mean[k]).sum();
    let ridge = T::of(params.ridge) + (T::of(params.relative) * squares - trace).max(T::zero());
    for (i, cov) in cov.chunks_exact_mut(channels).enumerate() {
        let second = &second[i * channels..];
        for (j, cov) in cov.iter_mut().enumerate() {
            *cov = second[j] - mean[i] * mean[j];
        }
        cov[i] += ridge;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, CHANNELS, Case, ELEMENTWISE, PRODUCTS, maps, owned, within};
    use super::*;

    #[test]
    fn channel_sum_agrees_with_its_twin_on_rectangles_and_splits() {
        let mut bench = Bench::new(&CHANNEL_SUM, PRODUCTS);
        for (i, [height, width, channels]) in maps().enumerate() {
            let rect = owned(height, width, i / 2);
            let mut case = Case::new(format!("{rect:?} of {height}x{width}x{channels}"));
            let feature = case.random(&[height, width, channels]);
            // 5 splits of a few positions leave some without any.
            let partial = case.output(&[[1, 2, 5][i % 3], channels]);
            channel_sum(&mut case.recording, "test", &feature, rect, &partial).unwrap();
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn channel_sum_reduce_adds_every_split() {
        let mut bench = Bench::new(&CHANNEL_SUM_REDUCE, ELEMENTWISE);
        for channels in CHANNELS {
            for splits in 1..=8 {
                let mut case = Case::new(format!("{splits} splits of {channels} channels"));
                let partial = case.random(&[splits, channels]);
                let mean = case.update_where(&[channels], |_| true);
                channel_sum_reduce(&mut case.recording, "test", &partial, 0.37, &mean).unwrap();
                bench.run(&case);
            }
        }
        bench.finish();
    }

    #[test]
    fn mean_backward_adds_on_owned_positions_only() {
        let mut bench = Bench::new(&MEAN_BACKWARD, ELEMENTWISE);
        for (i, shape @ [height, width, channels]) in maps().enumerate() {
            let rect = owned(height, width, i / 2);
            let mut case = Case::new(format!("{rect:?} of {shape:?}"));
            let d_mean = case.random(&[channels]);
            let d_feature = case.update_where(&shape, within(rect, width, channels));
            mean_backward(&mut case.recording, "test", &d_mean, rect, &d_feature).unwrap();
            if i % 5 == 4 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn covariance_agrees_with_its_twin() {
        let mut bench = Bench::new(&COVARIANCE, ELEMENTWISE);
        for (i, channels) in (1..=40).map(|quads| 4 * quads).chain(CHANNELS).enumerate() {
            let mut case = Case::new(format!("{channels} channels"));
            let second = case.random(&[channels, channels]);
            let mean = case.random(&[channels]);
            let cov = case.output(&[channels, channels]);
            // With and without an addition to the trace.
            let ridge = [0.25 * (i % 3) as f32, 3.0 * (i % 2) as f32];
            covariance(&mut case.recording, "test", &second, &mean, ridge, &cov).unwrap();
            bench.run(&case);
        }
        bench.finish();
    }
}
