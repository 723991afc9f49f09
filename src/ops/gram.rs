//! Gram matrices over the owned positions of a feature map, and the way back to the features.

use rayon::prelude::*;

use super::{Rect, dims, grid, inside};
use crate::cpu::{Matrix, matmul};
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params};
use crate::recording::{Launch, Recording, Tensor};

/// Edge of the square of Gram entries that one workgroup computes.
const TILE: usize = 64;

params! {
    /// Parameters of `gram`.
    GramParams {
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
    /// Parameters of `gram_reduce`.
    GramReduceParams {
        /// Channels.
        channels: u32,
        /// Number of splits.
        splits: u32,
        /// Factor on the sum: 1 / numel.
        scale: f32,
    }
}

params! {
    /// Parameters of `gram_backward`.
    GramBackwardParams {
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

/// See `shaders/gram.wgsl`.
pub static GRAM: Kernel =
    kernel!("gram", GramParams, gram_twin, [float("feature", "H W C"), float("partial", "S C C")]);

/// See `shaders/gram_reduce.wgsl`.
pub static GRAM_REDUCE: Kernel =
    kernel!("gram_reduce", GramReduceParams, gram_reduce_twin, [float("partial", "S C C"), float("gram", "C C")]);

/// See `shaders/gram_backward.wgsl`.
pub static GRAM_BACKWARD: Kernel = kernel!(
    "gram_backward",
    GramBackwardParams,
    gram_backward_twin,
    [float("feature", "H W C"), float("d_gram", "C C"), float("d_feature", "H W C"),]
);

/// Number of splits for so many positions: about a thousand positions each, partial sums of 16 MiB at most. 64 channels have
/// one tile only: with 512 splits a GPU of 132 multiprocessors still has four workgroups for each.
pub fn splits(positions: usize, channels: usize) -> usize {
    let most = ((1 << 22) / (channels * channels)).clamp(1, 512);
    positions.div_ceil(1024).clamp(1, most)
}

/// Records `partial[s] = sum of feature ⊗ feature` over the owned positions of each split. `partial` is `[S, C, C]`.
pub fn gram(recording: &mut Recording, label: &str, feature: &Tensor, owned: Rect, partial: &Tensor) -> Result<()> {
    let [height, width, channels] = dims(&GRAM, "feature", feature)?;
    let [splits, _, _] = dims(&GRAM, "partial", partial)?;
    inside(&GRAM, "feature", owned, height, width)?;
    let tiles = channels.div_ceil(TILE);
    recording.dispatch(
        &GRAM,
        &GramParams {
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
            grid: grid(tiles * (tiles + 1) / 2, splits),
            flops: (owned.area() * channels * (channels + TILE.min(channels))) as u64,
            ..Launch::default()
        },
    )
}

/// Records `gram += scale * sum of partial`.
pub fn gram_reduce(recording: &mut Recording, label: &str, partial: &Tensor, scale: f32, gram: &Tensor) -> Result<()> {
    let [splits, channels, _] = dims(&GRAM_REDUCE, "partial", partial)?;
    recording.dispatch(
        &GRAM_REDUCE,
        &GramReduceParams { channels: channels as u32, splits: splits as u32, scale },
        &[("partial", partial), ("gram", gram)],
        Launch {
            label: label.into(),
            grid: grid((channels * channels).div_ceil(256), 1),
            flops: partial.len() as u64,
            ..Launch::default()
        },
    )
}

/// Records `d_feature += feature · d_gram` on the owned positions; `d_gram` is symmetric and carries every factor.
pub fn gram_backward(
    recording: &mut Recording,
    label: &str,
    feature: &Tensor,
    owned: Rect,
    d_gram: &Tensor,
    d_feature: &Tensor,
) -> Result<()> {
    let [height, width, channels] = dims(&GRAM_BACKWARD, "feature", feature)?;
    inside(&GRAM_BACKWARD, "feature", owned, height, width)?;
    recording.dispatch(
        &GRAM_BACKWARD,
        &GramBackwardParams {
            width: width as u32,
            channels: channels as u32,
            top: owned.top as u32,
            left: owned.left as u32,
            owned_height: owned.height as u32,
            owned_width: owned.width as u32,
        },
        &[("feature", feature), ("d_gram", d_gram), ("d_feature", d_feature)],
        Launch {
            label: label.into(),
            grid: grid(owned.area().div_ceil(TILE), channels.div_ceil(TILE)),
            flops: 2 * (owned.area() * channels * channels) as u64,
            ..Launch::default()
        },
    )
}

fn gram_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: GramParams = call.params()?;
    let [Slot::Read(feature), Slot::Write(partial)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let (channels, width) = (params.channels as usize, params.width as usize);
    let (top, left, owned_width) = (params.top as usize, params.left as usize, params.owned_width as usize);
    let (positions, split) = (params.owned_height as usize * owned_width, params.split as usize);
    partial.par_chunks_mut(channels * channels).enumerate().for_each(|(index, partial)| {
        let (begin, end) = (index * split, (index * split + split).min(positions));
        for (row, partial) in partial.chunks_exact_mut(channels).enumerate() {
            partial[row / TILE * TILE..].fill(T::zero());
        }
        let mut at = begin;
        while at < end {
            // Positions that follow each other in memory: to the end of the owned row, or of the split.
            let (y, x) = (at / owned_width, at % owned_width);
            let count = if owned_width == width { end - at } else { (owned_width - x).min(end - at) };
            let feature = &feature[((top + y) * width + left + x) * channels..][..count * channels];
            // Only what lies on or right of the diagonal's tiles: gram_reduce mirrors it.
            for tile in (0..channels).step_by(TILE) {
                let size = [TILE.min(channels - tile), channels - tile, count];
                let a = Matrix::transposed(&feature[tile..], channels);
                let b = Matrix::rows(&feature[tile..], channels);
                matmul(&mut partial[tile * channels + tile..], channels, size, a, b, true);
            }
            at += count;
        }
    });
    Ok(())
}

fn gram_reduce_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: GramReduceParams = call.params()?;
    let [Slot::Read(partial), Slot::Write(gram)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let channels = params.channels as usize;
    gram.par_chunks_mut(channels).enumerate().for_each(|(i, row)| {
        for (j, entry) in row.iter_mut().enumerate() {
            let source = if i / TILE > j / TILE { j * channels + i } else { i * channels + j };
            let total: T = partial.chunks_exact(channels * channels).map(|split| split[source]).sum();
            *entry += T::of(params.scale) * total;
        }
    });
    Ok(())
}

fn gram_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: GramBackwardParams = call.params()?;
    let [Slot::Read(feature), Slot::Read(d_gram), Slot::Write(d_feature)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let channels = params.channels as usize;
    let row = params.width as usize * channels;
    let (begin, len) = (params.left as usize * channels, params.owned_width as usize * channels);
    d_feature
        .par_chunks_mut(row)
        .zip(feature.par_chunks(row))
        .skip(params.top as usize)
        .take(params.owned_height as usize)
        .for_each(|(d_feature, feature)| {
            let size = [params.owned_width as usize, channels, channels];
            let a = Matrix::rows(&feature[begin..begin + len], channels);
            matmul(&mut d_feature[begin..begin + len], channels, size, a, Matrix::rows(d_gram, channels), true);
        });
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, CHANNELS, Case, PRODUCTS, maps, owned, within};
    use super::*;

    #[test]
    fn gram_agrees_with_its_twin_on_rectangles_and_splits() {
        let mut bench = Bench::new(&GRAM, PRODUCTS);
        for (i, [height, width, channels]) in maps().enumerate() {
            let rect = owned(height, width, i / 2);
            // 5 splits of a few positions leave some without any.
            let splits = [1, 2, 3, 5][i % 4];
            let mut case = Case::new(format!("{rect:?} of {height}x{width}x{channels}, {splits} splits"));
            let feature = case.random(&[height, width, channels]);
            let upper = move |at: usize| at / channels % channels / TILE <= at % channels / TILE;
            let partial = case.output_where(&[splits, channels, channels], upper);
            gram(&mut case.recording, "test", &feature, rect, &partial).unwrap();
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn gram_reduce_mirrors_the_upper_tiles_and_adds_every_split() {
        let mut bench = Bench::new(&GRAM_REDUCE, PRODUCTS);
        let channels = (1..=33).map(|quads| 4 * quads).chain([192, 200, 256]);
        for (i, channels) in channels.chain(CHANNELS).enumerate() {
            let splits = [1, 2, 3, 7, 8, 13][i % 6];
            let mut case = Case::new(format!("{channels} channels, {splits} splits"));
            let mut values = case.noise(&[splits, channels, channels]);
            for (at, value) in values.iter_mut().enumerate() {
                // gram leaves what lies below the diagonal's tiles unwritten.
                if at / channels % channels / TILE > at % channels / TILE {
                    *value = f32::NAN;
                }
            }
            let partial = case.input(&[splits, channels, channels], &values);
            let gram = case.update_where(&[channels, channels], |_| true);
            gram_reduce(&mut case.recording, "test", &partial, 0.37, &gram).unwrap();
            if i % 3 == 2 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn gram_backward_agrees_with_its_twin_and_adds_on_owned_positions_only() {
        let mut bench = Bench::new(&GRAM_BACKWARD, PRODUCTS);
        for (i, [height, width, channels]) in maps().enumerate() {
            let rect = owned(height, width, i / 2);
            let mut case = Case::new(format!("{rect:?} of {height}x{width}x{channels}"));
            let feature = case.random(&[height, width, channels]);
            // Not symmetric, so that swapped indices show.
            let d_gram = case.random(&[channels, channels]);
            let d_feature = case.update_where(&[height, width, channels], within(rect, width, channels));
            gram_backward(&mut case.recording, "test", &feature, rect, &d_gram, &d_feature).unwrap();
            if i % 3 == 2 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }
}
