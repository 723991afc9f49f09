//! Total variation of the picture: differences between neighbours.

use rayon::prelude::*;

use super::dims;
use super::loss::narrow;
use crate::cpu::vectorized;
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params};
use crate::recording::{Launch, Recording, Tensor};

params! {
    /// Parameters of `total_variation`.
    TotalVariationParams {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
        /// Weight of a difference between rows.
        row_weight: f32,
        /// Weight of a difference between columns.
        column_weight: f32,
        /// Weight of a difference between diagonal neighbours.
        diagonal_weight: f32,
        /// More weight for differences between rows in the first, and in the last column.
        side_weight: f32,
        /// More weight for differences between columns in the first row.
        top_weight: f32,
        /// More weight for differences between columns in the last row.
        bottom_weight: f32,
        /// 1 for absolute differences, 0 for squared ones.
        absolute: u32,
    }
}

/// Weights of the differences between neighbours; their squares count, or their absolutes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Differences {
    /// Between rows.
    pub row: f32,
    /// Between columns.
    pub column: f32,
    /// Between diagonal neighbours.
    pub diagonal: f32,
    /// On top of `row`, once for the first column and once for the last.
    pub side: f32,
    /// On top of `column` in the first row.
    pub top: f32,
    /// On top of `column` in the last row.
    pub bottom: f32,
    /// Whether absolutes count instead of squares.
    pub absolute: bool,
}

/// See `shaders/total_variation.wgsl`.
pub static TOTAL_VARIATION: Kernel = kernel!(
    "total_variation",
    TotalVariationParams,
    total_variation_twin,
    [float("image", "H W 4"), float("d_image", "H W 4"), float("partial", "P"),]
);

/// Records `partial = weighted differences` and `d_image += their gradient`.
pub fn total_variation(
    recording: &mut Recording,
    image: &Tensor,
    differences: Differences,
    d_image: &Tensor,
    partial: &Tensor,
) -> Result<()> {
    let [height, width, _] = dims(&TOTAL_VARIATION, "image", image)?;
    let [partials] = dims(&TOTAL_VARIATION, "partial", partial)?;
    recording.dispatch(
        &TOTAL_VARIATION,
        &TotalVariationParams {
            height: height as u32,
            width: width as u32,
            row_weight: differences.row,
            column_weight: differences.column,
            diagonal_weight: differences.diagonal,
            side_weight: differences.side,
            top_weight: differences.top,
            bottom_weight: differences.bottom,
            absolute: u32::from(differences.absolute),
        },
        &[("image", image), ("d_image", d_image), ("partial", partial)],
        Launch {
            label: "tv".into(),
            grid: [partials as u32, 1, 1],
            flops: 12 * image.len() as u64,
            ..Launch::default()
        },
    )
}

fn total_variation_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: TotalVariationParams = call.params()?;
    let [Slot::Read(image), Slot::Write(d_image), Slot::Write(partial)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let (height, width) = (params.height as usize, params.width as usize);
    let (row, absolute) = (width * 4, params.absolute == 1);
    let line = |y: usize| &image[y * row..][..row];
    let column = |y: usize| {
        let top = if y == 0 { params.top_weight } else { 0.0 };
        T::of(params.column_weight + top + if y + 1 == height { params.bottom_weight } else { 0.0 })
    };
    let [down, diagonal, side] = [params.row_weight, params.diagonal_weight, params.side_weight].map(T::of);
    d_image.par_chunks_mut(row).enumerate().for_each(|(y, d_image)| {
        let here = line(y);
        let mut add = |at: usize, there: &[T], from: usize, len: usize, weight: T| {
            add_slopes(&mut d_image[at..at + len], &here[at..at + len], &there[from..from + len], weight, absolute);
        };
        add(0, here, 4, row - 4, column(y));
        add(4, here, 0, row - 4, column(y));
        for other in [y.checked_sub(1), Some(y + 1).filter(|y| *y < height)].into_iter().flatten().map(line) {
            add(0, other, 0, row, down);
            add(0, other, 0, 4, side);
            add(row - 4, other, row - 4, 4, side);
            if diagonal > T::zero() {
                add(0, other, 4, row - 4, diagonal);
                add(4, other, 0, row - 4, diagonal);
            }
        }
    });
    // Partial sum i takes every P-th group of 256 pixels from group i on, in the shader as here.
    let (count, pixels) = (partial.len(), height * width);
    partial.par_iter_mut().enumerate().for_each(|(group, partial)| {
        let mut sum = 0.0;
        for begin in (group * 256..pixels).step_by(count * 256) {
            for pixel in begin..(begin + 256).min(pixels) {
                let (y, x) = (pixel / width, pixel % width);
                let size = |weight: T, there: usize| {
                    let pairs = (0..4).map(|c| image[pixel * 4 + c] - image[there * 4 + c]);
                    pairs.map(|d| (weight * if absolute { d.abs() } else { d * d }).wide()).sum::<f64>()
                };
                let (left, right) = (x > 0, x + 1 < width);
                if right {
                    sum += size(column(y), pixel + 1);
                }
                if y + 1 < height {
                    let sides = T::of(f32::from(u8::from(!left) + u8::from(!right)));
                    sum += size(down + sides * side, pixel + width);
                    sum += if right { size(diagonal, pixel + width + 1) } else { 0.0 };
                    sum += if left { size(diagonal, pixel + width - 1) } else { 0.0 };
                }
            }
        }
        *partial = narrow(sum);
    });
    Ok(())
}

vectorized! {
    /// Adds the gradient of `weight` times the differences between pixels and their neighbours.
    fn add_slopes<T>(d_image: &'a mut [T], here: &'a [T], there: &'a [T], weight: T, absolute: bool) {
        let twice = weight + weight;
        let pixels = d_image.iter_mut().zip(here.iter().zip(there));
        if absolute {
            for (d_image, (here, there)) in pixels {
                let up = if *here > *there { weight } else { T::zero() };
                *d_image += if *here < *there { -weight } else { up };
            }
        } else {
            for (d_image, (here, there)) in pixels {
                *d_image += twice * (*here - *there);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, ELEMENTWISE, MAPS};
    use super::*;

    #[test]
    fn total_variation_agrees_with_its_twin() {
        let mut bench = Bench::new(&TOTAL_VARIATION, ELEMENTWISE);
        for (height, width) in MAPS.into_iter().chain([(40, 61), (1, 1000)]) {
            let squares = Differences { row: 0.3, column: 0.7, ..Differences::default() };
            let nine = Differences { diagonal: 0.2, side: 0.4, top: 0.5, bottom: 0.6, ..squares };
            let rows = Differences { row: 1.5, ..Differences::default() };
            let absolute = Differences { absolute: true, ..squares };
            for (i, differences) in
                [squares, rows, nine, Differences { top: 0.0, ..nine }, absolute].into_iter().enumerate()
            {
                let partials = [1, 2, 5][i % 3];
                let mut case = Case::new(format!("{height}x{width}, {partials} partial sums, {differences:?}"));
                let image = case.random(&[height, width, 4]);
                let d_image = case.update_where(&[height, width, 4], |_| true);
                let partial = case.output(&[partials]);
                total_variation(&mut case.recording, &image, differences, &d_image, &partial).unwrap();
                bench.run(&case);
            }
        }
        bench.finish();
    }

    #[test]
    fn the_fourth_channel_gets_no_gradient() {
        let mut bench = Bench::new(&TOTAL_VARIATION, ELEMENTWISE);
        for (height, width) in [(1, 1), (5, 8), (17, 33)] {
            let mut case = Case::new(format!("{height}x{width} of 3 channels"));
            let shape = [height, width, 4];
            let image = case.input(&shape, &case.padded_noise(&shape));
            let d_image = case.update_with(&shape, &case.padded_noise(&shape));
            let partial = case.output(&[2]);
            let differences = Differences { row: 0.3, column: 0.7, diagonal: 0.2, ..Differences::default() };
            total_variation(&mut case.recording, &image, differences, &d_image, &partial).unwrap();
            bench.run_and(&case, |ran| ran.check_padding(&d_image));
        }
        bench.finish_after(3);
    }
}
