//! How the maps between convolutions are kept: in single precision, or as halves, which take half the memory.
//!
//! Halves are scaled, so that none is too large and few are too small for their five bits of exponent. A ReLU and a pooling
//! commute with positive factors, so each layer's activations may carry one of their own, which is folded into its filters
//! and bias and taken out again where a loss looks; the gradients of the loss carry one for all layers on top of that.
//! Factors are powers of two: they round nothing. Losses, Gram matrices and the picture's gradient are f32 and see the
//! activations as they are, a band of rows at a time, so that no map is ever widened as a whole.

use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::plan::{Workspace, three};
use crate::net::tiles::Region;
use crate::net::vgg19::Tap;
use crate::ops::Rect;
use crate::ops::copy_rect::{Mode, copy_rect};
use crate::ops::half::{Factor, add_narrowed, copy_half, half_shape, split_picture, widen};
use crate::recording::{BufferTable, Engine, Purpose, Recording, Tensor};

/// What the activations and gradients between convolutions are stored in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// IEEE single precision.
    #[default]
    F32,
    /// IEEE half precision. Products and sums, filters, losses, Gram matrices, the picture and all that the optimiser keeps
    /// are single as before.
    F16,
}

/// Elements of a band: 8 MiB in single precision, 128 rows of the first layer at 256 pixels.
const BAND: usize = 1 << 21;

/// The factors that a network's maps carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// Of the activations of each convolution; 1 beyond them.
    pub activations: Vec<f32>,
    /// Of every gradient, beside one over that of its activation.
    pub gradient: f32,
}

impl Default for Scaling {
    /// None.
    fn default() -> Scaling {
        Scaling { activations: Vec::new(), gradient: 1.0 }
    }
}

impl Scaling {
    /// Of the activations after a convolution.
    pub(super) fn after(&self, conv: usize) -> f32 {
        self.activations.get(conv).copied().unwrap_or(1.0)
    }

    /// Of the activations before a convolution; the picture has none.
    pub(super) fn before(&self, conv: usize) -> f32 {
        conv.checked_sub(1).map_or(1.0, |before| self.after(before))
    }
}

/// How a map is stored, for those who keep one.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    /// As it is.
    Singles,
    /// As halves, which this factor makes the activations.
    Halves { factors: Tensor, slot: usize },
}

impl Storage {
    /// A buffer for such a map of `[H, W, C]`.
    pub(crate) fn declare(
        &self,
        table: &mut BufferTable,
        label: String,
        shape: [usize; 3],
        purpose: Purpose,
    ) -> Tensor {
        match self {
            Storage::Singles => table.tensor(label, Scalar::F32, &shape, purpose),
            Storage::Halves { .. } => table.tensor(label, Scalar::U32, &half_shape(shape), purpose),
        }
    }
}

/// Makes and converts maps of the precision that a network is run in.
#[derive(Clone, Debug)]
pub(super) struct Maps {
    /// Of halves: for every convolution one over its activations' factor, and the factor of their gradients; at the end one
    /// over that of the picture's gradient.
    factors: Option<Tensor>,
    depth: usize,
}

impl Maps {
    pub(super) fn new(table: &mut BufferTable, precision: Precision, depth: usize) -> Maps {
        let mut factors = || table.tensor("factors", Scalar::F32, &[2 * depth + 1], Purpose::Weights);
        Maps { factors: (precision == Precision::F16).then(&mut factors), depth }
    }

    /// Whether they are halves.
    pub(super) fn halves(&self) -> bool {
        self.factors.is_some()
    }

    /// Writes the factors.
    pub(super) fn upload(&self, engine: &mut dyn Engine, scaling: &Scaling) -> Result<()> {
        let Some(factors) = &self.factors else { return Ok(()) };
        let pair = |conv: usize| [1.0 / scaling.after(conv), scaling.gradient / scaling.after(conv)];
        let mut values: Vec<f32> = (0..self.depth).flat_map(pair).collect();
        values.push(1.0 / scaling.gradient);
        engine.write(factors.buffer, &values)
    }

    /// A temporary map of `[H, W, C]`.
    pub(super) fn take(&self, work: &mut Workspace, label: &str, shape: [usize; 3]) -> Tensor {
        match self.halves() {
            true => work.take(label, Scalar::U32, &half_shape(shape)),
            false => work.take(label, Scalar::F32, &shape),
        }
    }

    /// `[H, W, C]` of a map.
    pub(super) fn size(&self, map: &Tensor) -> [usize; 3] {
        let [height, width, last] = three(map);
        [height, width, if self.halves() { 2 * last } else { last }]
    }

    pub(super) fn storage(&self, tap: Tap) -> Storage {
        let halves = |factors: &Tensor| Storage::Halves { factors: factors.clone(), slot: 2 * tap.conv() };
        self.factors.as_ref().map_or(Storage::Singles, halves)
    }

    /// Records the copy of a rectangle of a map to a place in another.
    pub(super) fn copy(
        &self,
        recording: &mut Recording,
        label: &str,
        from: (&Tensor, Rect),
        to: (&Tensor, usize, usize),
    ) -> Result<()> {
        match self.halves() {
            true => copy_half(recording, label, from, to),
            false => copy_rect(recording, label, from, to, Mode::Replace),
        }
    }

    /// A tile of the picture, `[H, W, 4]` in single precision, as the first convolution reads it.
    pub(super) fn first(&self, work: &mut Workspace, recording: &mut Recording, tile: Tensor) -> Result<Tensor> {
        if !self.halves() {
            return Ok(tile);
        }
        let [height, width, _] = three(&tile);
        let split = self.take(work, "tile", [height, width, 8]);
        split_picture(recording, "tile in", &tile, &split)?;
        work.give(tile);
        Ok(split)
    }

    /// What the first convolution's gradient gives as the gradient of the picture's tile, in single precision.
    pub(super) fn last(&self, work: &mut Workspace, recording: &mut Recording, d_tile: Tensor) -> Result<Tensor> {
        let Some(factors) = &self.factors else { return Ok(d_tile) };
        let shape @ [height, width, _] = self.size(&d_tile);
        let wide = work.take("d_tile", Scalar::F32, &shape);
        let factor = Factor { factors, slot: 2 * self.depth };
        widen(recording, "tile out", (&d_tile, Rect::whole(height, width)), factor, (&wide, 0, 0))?;
        work.give(d_tile);
        Ok(wide)
    }

    /// Shows what a tile owns of a tap's activation, in single precision, if that is `wanted`: at once, or of halves in
    /// bands.
    pub(super) fn show(
        &self,
        work: &mut Workspace,
        recording: &mut Recording,
        (tap, feature, region): (Tap, &Tensor, &Region),
        wanted: bool,
        mut to: impl FnMut(&mut Workspace, &mut Recording, &Tensor, &Region) -> Result<()>,
    ) -> Result<()> {
        if !wanted {
            return Ok(());
        }
        let Some(factors) = &self.factors else { return to(work, recording, feature, region) };
        for (rows, region) in bands(region, tap.channels()) {
            let wide = work.take("band", Scalar::F32, &[rows.height, rows.width, tap.channels()]);
            let factor = Factor { factors, slot: 2 * tap.conv() };
            widen(recording, &tap.to_string(), (feature, rows), factor, (&wide, 0, 0))?;
            to(work, recording, &wide, &region)?;
            work.give(wide);
        }
        Ok(())
    }

    /// The same with the gradient, to which is added.
    pub(super) fn show_with_gradient(
        &self,
        work: &mut Workspace,
        recording: &mut Recording,
        (tap, feature, region): (Tap, &Tensor, &Region),
        d_feature: &Tensor,
        mut to: impl FnMut(&mut Workspace, &mut Recording, &Tensor, &Region, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let Some(factors) = &self.factors else { return to(work, recording, feature, region, d_feature) };
        for (rows, region) in bands(region, tap.channels()) {
            let mut band = || work.take("band", Scalar::F32, &[rows.height, rows.width, tap.channels()]);
            let (wide, d_wide) = (band(), band());
            let factor = |slot| Factor { factors, slot };
            widen(recording, &tap.to_string(), (feature, rows), factor(2 * tap.conv()), (&wide, 0, 0))?;
            recording.clear(d_wide.buffer);
            to(work, recording, &wide, &region, &d_wide)?;
            let whole = (&d_wide, Rect::whole(rows.height, rows.width));
            let place = (d_feature, rows.top, rows.left);
            add_narrowed(recording, &tap.to_string(), whole, factor(2 * tap.conv() + 1), place)?;
            work.give(wide);
            work.give(d_wide);
        }
        Ok(())
    }
}

/// What a tile owns of a map in bands of rows: each band's place in the tile's map, and as a region of its own.
fn bands(region: &Region, channels: usize) -> impl Iterator<Item = (Rect, Region)> {
    let Region { owned, top, left, above, .. } = *region;
    let rows = (BAND / (owned.width * channels).max(1)).max(1);
    (0..owned.height).step_by(rows).map(move |row| {
        let height = rows.min(owned.height - row);
        let place = Rect { top: owned.top + row, height, ..owned };
        let (width, owned) = (owned.width, Rect::whole(height, owned.width));
        (place, Region { height, width, owned, top: top + row, left, above: above + row })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_what_a_tile_owns_once() {
        let owned = Rect { top: 3, left: 5, height: 100, width: 1000 };
        let region = Region { height: 110, width: 1020, owned, top: 40, left: 16, above: 0 };
        let all: Vec<(Rect, Region)> = bands(&region, 64).collect();
        assert!(all.len() > 2);
        let mut row = 0;
        for (place, band) in all {
            assert_eq!((place.top, place.left, place.width), (3 + row, 5, 1000));
            assert_eq!((band.top, band.left, band.above), (40 + row, 16, row));
            assert_eq!(band.owned, Rect::whole(place.height, 1000));
            assert!(place.area() * 64 <= BAND);
            row += place.height;
        }
        assert_eq!(row, 100);
    }
}
