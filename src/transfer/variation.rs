//! Total variation of the picture, a band of rows at a time.

use super::config::{Config, TotalVariation};
use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::bands::Bands;
use crate::net::plan::Workspace;
use crate::ops::Rect;
use crate::ops::loss::{partials, sum_reduce};
use crate::ops::total_variation::{Differences, total_variation as launch};
use crate::recording::{Recording, Tensor};

/// Records `losses[slot] += total variation` and `d_image += its gradient`.
pub(super) fn total_variation(
    work: &mut Workspace,
    recording: &mut Recording,
    config: &Config,
    (image, d_image): (&Bands, &Bands),
    (losses, slot): (&Tensor, usize),
) -> Result<()> {
    let [height, width] = image.size();
    let differences = differences(config, [height, width]);
    let add = |work: &mut Workspace, recording: &mut Recording, differences, image: &Tensor, d_image: &Tensor| {
        let partial = work.take("partial", Scalar::F32, &[partials(image.len() / 4)]);
        launch(recording, image, differences, d_image, &partial)?;
        sum_reduce(recording, "tv", &partial, 1.0, losses, slot)?;
        work.give(partial);
        Ok(())
    };
    let last = image.tensors().len() - 1;
    for (i, (image, d_image)) in image.tensors().iter().zip(d_image.tensors()).enumerate() {
        let top = if i == 0 { differences.top } else { 0.0 };
        let bottom = if i == last { differences.bottom } else { 0.0 };
        add(work, recording, Differences { top, bottom, ..differences }, image, d_image)?;
    }
    // Between two bands: the last row of one and the first row of the next, as a picture of two rows.
    let ends = image.tensors().iter().scan(0, |rows, band| {
        *rows += band.shape[0];
        Some(*rows)
    });
    for top in ends.filter(|end| *end < height).map(|end| end - 1) {
        let mut rows = || work.take("seam", Scalar::F32, &[2, width, 4]);
        let (seam, d_seam) = (rows(), rows());
        let place = Rect { top, left: 0, height: 2, width };
        image.gather(recording, "seam", place, (&seam, 0, 0))?;
        recording.clear(d_seam.buffer);
        let between = Differences { column: 0.0, top: 0.0, bottom: 0.0, ..differences };
        add(work, recording, between, &seam, &d_seam)?;
        d_image.add(recording, "seam", (&d_seam, 0, 0), place)?;
        work.give(seam);
        work.give(d_seam);
    }
    Ok(())
}

/// The weights of the differences: see [`TotalVariation`].
fn differences(config: &Config, [height, width]: [usize; 2]) -> Differences {
    let weight = f64::from(config.tv_weight);
    // A picture one pixel high or wide has no differences in that direction. Three channels.
    let mean = |factor: f64, rows: usize, columns: usize| {
        if rows * columns == 0 { 0.0 } else { (weight * factor / (3 * rows * columns) as f64) as f32 }
    };
    match config.tv {
        TotalVariation::L2 => Differences {
            row: mean(1.0, height - 1, width),
            column: mean(1.0, height, width - 1),
            ..Differences::default()
        },
        TotalVariation::L1 => {
            Differences { row: config.tv_weight, column: config.tv_weight, absolute: true, ..Differences::default() }
        }
        TotalVariation::NinePoint => {
            let unit = 1.0 / (255.0 * 255.0);
            let straight = mean(2.0 / 3.0 * unit, height, width);
            let diagonal = mean(2.0 / 12.0 * unit, height + 1, width + 1);
            // Along a border that the padding repeats, either diagonal is the difference between two neighbours.
            let border = 2.0 * diagonal;
            Differences {
                row: straight,
                column: straight,
                diagonal,
                side: border,
                top: border,
                bottom: border,
                absolute: false,
            }
        }
    }
}
