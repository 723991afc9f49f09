//! Content losses: a tap's values against those that were kept.

use super::{Entry, Measure, Quotient};
use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::maps::Storage;
use crate::net::plan::{Network, TapTerm, Workspace};
use crate::net::tiles::{Region, Tile};
use crate::net::vgg19::Tap;
use crate::ops::copy_rect::{Mode, copy_rect};
use crate::ops::half::{Factor, copy_half, widen};
use crate::ops::scaled_loss::{Pair, scaled_loss_backward};
use crate::ops::{Rect, loss};
use crate::recording::{Purpose, Recording, Tensor};
use crate::transfer::config::StyleLoss;

/// Keeps a tap's values: the target of a content loss.
#[derive(Clone, Debug)]
pub(crate) struct FeatureTarget {
    pub(crate) tap: Tap,
    /// Stored as the network's maps are.
    target: Tensor,
    storage: Storage,
    /// Whether it holds what one tile owns, from its own corner on, instead of the whole map.
    of_a_tile: bool,
    /// Elements of the whole picture's map.
    numel: usize,
}

impl FeatureTarget {
    pub(crate) fn new(work: &mut Workspace, network: &Network, tap: Tap, [height, width]: [usize; 2]) -> FeatureTarget {
        let map = [height.div_ceil(1 << tap.level()), width.div_ceil(1 << tap.level()), tap.channels()];
        let storage = network.storage(tap);
        let target = storage.declare(&mut work.table, format!("content/{tap}"), map, Purpose::Targets);
        FeatureTarget { tap, target, storage, of_a_tile: false, numel: map.iter().product() }
    }

    /// Room for what one tile owns; the target is measured anew for every tile.
    pub(crate) fn of_a_tile(work: &mut Workspace, network: &Network, tap: Tap, tiles: &[Tile]) -> FeatureTarget {
        let owned = || tiles.iter().map(|tile| tile.region(tap.level()).owned);
        let most = |of: fn(Rect) -> usize| owned().map(of).max().unwrap_or(1);
        let shape = [most(|owned| owned.height), most(|owned| owned.width), tap.channels()];
        let storage = network.storage(tap);
        let target = storage.declare(&mut work.table, format!("content/{tap} of a tile"), shape, Purpose::Tile);
        let numel = owned().map(|owned| owned.area()).sum::<usize>() * tap.channels();
        FeatureTarget { tap, target, storage, of_a_tile: true, numel }
    }

    /// Where a region's owned positions begin in the target.
    fn place(&self, region: &Region) -> (&Tensor, usize, usize) {
        if self.of_a_tile { (&self.target, region.above, 0) } else { (&self.target, region.top, region.left) }
    }

    /// The target's values, and where a region's owned positions begin in them; to be given back with
    /// [`FeatureTarget::give`].
    fn values(&self, work: &mut Workspace, rec: &mut Recording, region: &Region) -> Result<(Tensor, usize, usize)> {
        let (target, top, left) = self.place(region);
        let Storage::Halves { factors, slot } = &self.storage else { return Ok((target.clone(), top, left)) };
        let Rect { height, width, .. } = region.owned;
        let wide = work.take("band", Scalar::F32, &[height, width, self.tap.channels()]);
        let (from, factor) = (Rect { top, left, height, width }, Factor { factors, slot: *slot });
        widen(rec, &format!("content/{}", self.tap), (target, from), factor, (&wide, 0, 0))?;
        Ok((wide, 0, 0))
    }

    fn give(&self, work: &mut Workspace, values: Tensor) {
        if let Storage::Halves { .. } = self.storage {
            work.give(values);
        }
    }
}

impl TapTerm for FeatureTarget {
    fn tap(&self) -> Tap {
        self.tap
    }

    fn keeps(&self) -> bool {
        true
    }

    fn forward(&self, _: &mut Workspace, rec: &mut Recording, map: &Tensor, region: &Region) -> Result<()> {
        let (label, from, to) = (format!("content/{}", self.tap), (map, region.owned), self.place(region));
        match self.storage {
            Storage::Singles => copy_rect(rec, &label, from, to, Mode::Replace),
            Storage::Halves { .. } => copy_half(rec, &label, from, to),
        }
    }
}

/// The content loss that belongs to a measure.
pub(super) fn term(
    work: &mut Workspace,
    rec: &mut Recording,
    target: &FeatureTarget,
    measure: Measure,
    entry: Entry,
) -> Box<dyn TapTerm> {
    let target = target.clone();
    let numel = target.numel as f64;
    let scale = match measure.loss {
        StyleLoss::Article => entry.weight / (2.0 * numel),
        StyleLoss::Classic | StyleLoss::Gatys | StyleLoss::Wasserstein => {
            entry.weight / (numel * measure.unit * measure.unit)
        }
        StyleLoss::ScaledMse => {
            let quotient = Quotient::new(work, rec, &format!("content/{}", target.tap), entry.weight, measure.unit);
            return Box::new(ScaledTerm { target, quotient, entry });
        }
    };
    Box::new(SquaredTerm { target, scale, entry })
}

/// `scale Σ (F - P)²`.
#[derive(Debug)]
struct SquaredTerm {
    target: FeatureTarget,
    scale: f64,
    entry: Entry,
}

impl TapTerm for SquaredTerm {
    fn tap(&self) -> Tap {
        self.target.tap
    }

    fn backward(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        feature: &Tensor,
        region: &Region,
        d_feature: &Tensor,
    ) -> Result<()> {
        let label = format!("content/{}", self.target.tap);
        let owned = region.owned.area() * self.target.tap.channels();
        let partial = work.take("partial", Scalar::F32, &[loss::partials(owned / 4)]);
        let (values, top, left) = self.target.values(work, rec, region)?;
        let (target, coefficient) = ((&values, top, left), (2.0 * self.scale) as f32);
        loss::content_loss(rec, &label, (feature, region.owned), target, coefficient, d_feature, &partial)?;
        self.target.give(work, values);
        loss::sum_reduce(rec, &label, &partial, self.scale as f32, &self.entry.losses, self.entry.slot)?;
        work.give(partial);
        Ok(())
    }
}

/// `weight Σd² / (Σ|d| + ε)`, d = F - P: the sums over the whole picture come first.
#[derive(Debug)]
struct ScaledTerm {
    target: FeatureTarget,
    quotient: Quotient,
    entry: Entry,
}

impl ScaledTerm {
    fn label(&self) -> String {
        format!("content/{}", self.target.tap)
    }
}

impl TapTerm for ScaledTerm {
    fn tap(&self) -> Tap {
        self.target.tap
    }

    fn compares(&self) -> bool {
        true
    }

    fn forward(&self, work: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<()> {
        let (values, top, left) = self.target.values(work, rec, region)?;
        let pair = Pair { feature, owned: region.owned, target: (&values, top, left) };
        self.quotient.add(work, rec, &self.label(), pair)?;
        self.target.give(work, values);
        Ok(())
    }

    fn finish(&self, _: &mut Workspace, rec: &mut Recording) -> Result<()> {
        self.quotient.finish(rec, &self.label(), &self.entry)
    }

    fn backward(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        feature: &Tensor,
        region: &Region,
        d_feature: &Tensor,
    ) -> Result<()> {
        let Quotient { sums, factors } = &self.quotient;
        let (values, top, left) = self.target.values(work, rec, region)?;
        let pair = Pair { feature, owned: region.owned, target: (&values, top, left) };
        scaled_loss_backward(rec, &self.label(), pair, sums, *factors, d_feature)?;
        self.target.give(work, values);
        Ok(())
    }
}
