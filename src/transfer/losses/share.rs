//! A part's shares of the positions of a level's maps, as buffers.

use std::sync::Arc;

use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::plan::Workspace;
use crate::net::tiles::{Region, Tile};
use crate::ops::copy_rect::Mode;
use crate::ops::share::{Factor, weigh_positions};
use crate::recording::{Engine, Purpose, Recording, Tensor};
use crate::transfer::parts::Level;

/// One tensor for each row of tiles, so that none is larger than a tile's maps by more than the tiles in a row.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    /// Row of the map where each begins.
    rows: Vec<(usize, Tensor)>,
    pub(super) level: Arc<Level>,
}

impl Shares {
    pub(crate) fn new(work: &mut Workspace, label: &str, which: usize, level: &Arc<Level>, tiles: &[Tile]) -> Shares {
        let mut rows: Vec<(usize, Tensor)> = Vec::new();
        for region in tiles.iter().map(|tile| tile.region(which)) {
            if rows.last().is_none_or(|(top, _)| *top != region.top) {
                let shape = [region.owned.height, level.width];
                rows.push((region.top, work.table.tensor(label, Scalar::F32, &shape, Purpose::Targets)));
            }
        }
        Shares { rows, level: level.clone() }
    }

    /// Writes the values.
    pub(crate) fn upload(&self, engine: &mut dyn Engine) -> Result<()> {
        self.rows.iter().try_for_each(|(top, tensor)| {
            engine.write(tensor.buffer, &self.level.values[top * self.level.width..][..tensor.len()])
        })
    }

    /// The shares of a region's owned positions, and the row and column where they begin; `None` where all are zero.
    fn of(&self, region: &Region) -> Option<(&Tensor, usize, usize)> {
        let Region { top, left, owned, above, .. } = *region;
        let row = |y: usize| &self.level.values[y * self.level.width + left..][..owned.width];
        let any = (top..top + owned.height).any(|y| row(y).iter().any(|share| *share > 0.0));
        let (_, tensor) = self.rows.iter().find(|(begin, _)| *begin + above == top)?;
        any.then_some((tensor, above, left))
    }

    /// Records `feature * factor` at the owned positions into a temporary tensor; `None` where that is zero.
    pub(super) fn weighed(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        label: &str,
        (feature, region): (&Tensor, &Region),
        factor: Factor,
    ) -> Result<Option<Tensor>> {
        let Some(share) = self.of(region) else { return Ok(None) };
        let weighed = work.take("feature", Scalar::F32, &feature.shape);
        let to = (&weighed, Mode::Replace);
        weigh_positions(rec, label, (feature, region.owned), share, factor, to)?;
        Ok(Some(weighed))
    }

    /// Records `d_feature += share * (what gradient adds)` at the owned positions.
    pub(super) fn add(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        label: &str,
        (d_feature, region): (&Tensor, &Region),
        gradient: impl FnOnce(&mut Recording, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let Some(share) = self.of(region) else { return Ok(()) };
        let own = work.take("d_feature", Scalar::F32, &d_feature.shape);
        rec.clear(own.buffer);
        gradient(rec, &own)?;
        let to = (d_feature, Mode::Add);
        weigh_positions(rec, label, (&own, region.owned), share, Factor::Share, to)?;
        work.give(own);
        Ok(())
    }
}
