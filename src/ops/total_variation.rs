//! Total variation of the picture in its squared form.

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
        /// Weight of a squared difference between rows.
        row_weight: f32,
        /// Weight of a squared difference between columns.
        column_weight: f32,
    }
}

/// See `shaders/total_variation.wgsl`.
pub static TOTAL_VARIATION: Kernel = kernel!(
    "total_variation",
    TotalVariationParams,
    total_variation_twin,
    [float("image", "H W 4"), float("d_image", "H W 4"), float("partial", "P"),]
);

/// Records `partial = weighted squared differences` and `d_image += their gradient`.
pub fn total_variation(
    recording: &mut Recording,
    image: &Tensor,
    row_weight: f32,
    column_weight: f32,
    d_image: &Tensor,
    partial: &Tensor,
) -> Result<()> {
    let [height, width, _] = dims(&TOTAL_VARIATION, "image", image)?;
    let [partials] = dims(&TOTAL_VARIATION, "partial", partial)?;
    recording.dispatch(
        &TOTAL_VARIATION,
        &TotalVariationParams { height: height as u32, width: width as u32, row_weight, column_weight },
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
    let row = width * 4;
    let weights = [params.row_weight, params.column_weight].map(T::of);
    d_image.par_chunks_mut(row).enumerate().for_each(|(y, d_image)| {
        let here = &image[y * row..][..row];
        // Neighbours outside the picture are the pixels themselves: no difference.
        let above = &image[y.saturating_sub(1) * row..][..row];
        let below = &image[(y + 1).min(height - 1) * row..][..row];
        add_curvature(d_image, here, [above, below], weights);
    });
    // Partial sum i takes every P-th group of 256 pixels from group i on, in the shader as here.
    let (count, pixels) = (partial.len(), height * width);
    partial.par_iter_mut().enumerate().for_each(|(group, partial)| {
        let mut sum = 0.0;
        for begin in (group * 256..pixels).step_by(count * 256) {
            for pixel in begin..(begin + 256).min(pixels) {
                let here = &image[pixel * 4..][..4];
                let right = if pixel % width + 1 < width { &image[pixel * 4 + 4..][..4] } else { here };
                let below = if pixel + width < pixels { &image[pixel * 4 + row..][..4] } else { here };
                for c in 0..4 {
                    let (down, across) = (below[c] - here[c], right[c] - here[c]);
                    sum += (weights[0] * down * down + weights[1] * across * across).wide();
                }
            }
        }
        *partial = narrow(sum);
    });
    Ok(())
}

vectorized! {
    /// Adds the gradient of a row's pixels.
    fn add_curvature<T>(d_image: &'a mut [T], here: &'a [T], vertical: [&'a [T]; 2], weights: [T; 2]) {
        let [above, below] = vertical;
        let two = T::of(2.0);
        for at in 0..d_image.len() {
            let left = here[at.checked_sub(4).unwrap_or(at)];
            let right = here[if at + 4 < here.len() { at + 4 } else { at }];
            let down = (here[at] - above[at]) - (below[at] - here[at]);
            let across = (here[at] - left) - (right - here[at]);
            d_image[at] += two * (weights[0] * down + weights[1] * across);
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
            for (partials, weights) in [(1, (0.3, 0.7)), (2, (0.0, 1.5)), (5, (1.5, 0.0))] {
                let mut case = Case::new(format!("{height}x{width}, {partials} partial sums"));
                let image = case.random(&[height, width, 4]);
                let d_image = case.update_where(&[height, width, 4], |_| true);
                let partial = case.output(&[partials]);
                total_variation(&mut case.recording, &image, weights.0, weights.1, &d_image, &partial).unwrap();
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
            total_variation(&mut case.recording, &image, 0.3, 0.7, &d_image, &partial).unwrap();
            bench.run_and(&case, |ran| ran.check_padding(&d_image));
        }
        bench.finish_after(3);
    }
}
