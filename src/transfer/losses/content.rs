//! Content losses: a tap's values against those that were kept.

use super::{Entry, Measure, Quotient};
use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::plan::{TapTerm, Workspace};
use crate::net::tiles::{Region, Tile};
use crate::net::vgg19::Tap;
use crate::ops::copy_rect::{Mode, copy_rect};
use crate::ops::scaled_loss::{Pair, scaled_loss_backward};
use crate::ops::{Rect, loss};
use crate::recording::{Purpose, Recording, Tensor};
use crate::transfer::config::StyleLoss;

/// Keeps a tap's values: the target of a content loss.
#[derive(Clone, Debug)]
pub(crate) struct FeatureTarget {
    pub(crate) tap: Tap,
    target: Tensor,
    /// Whether it holds what one tile owns, from its own corner on, instead of the whole map.
    of_a_tile: bool,
    /// Elements of the whole picture's map.
    numel: usize,
}

impl FeatureTarget {
    pub(crate) fn new(work: &mut Workspace, tap: Tap, height: usize, width: usize) -> FeatureTarget {
        let map = [height.div_ceil(1 << tap.level()), width.div_ceil(1 << tap.level()), tap.channels()];
        let target = work.table.tensor(format!("content/{tap}"), Scalar::F32, &map, Purpose::Targets);
        FeatureTarget { tap, target, of_a_tile: false, numel: map.iter().product() }
    }

    /// Room for what one tile owns; the target is measured anew for every tile.
    pub(crate) fn of_a_tile(work: &mut Workspace, tap: Tap, tiles: &[Tile]) -> FeatureTarget {
        let owned = || tiles.iter().map(|tile| tile.region(tap.level()).owned);
        let most = |of: fn(Rect) -> usize| owned().map(of).max().unwrap_or(1);
        let shape = [most(|owned| owned.height), most(|owned| owned.width), tap.channels()];
        let target = work.table.tensor(format!("content/{tap} of a tile"), Scalar::F32, &shape, Purpose::Tile);
        let numel = owned().map(|owned| owned.area()).sum::<usize>() * tap.channels();
        FeatureTarget { tap, target, of_a_tile: true, numel }
    }

    /// Where a region's owned positions begin in the target.
    fn place(&self, region: &Region) -> (&Tensor, usize, usize) {
        if self.of_a_tile { (&self.target, 0, 0) } else { (&self.target, region.top, region.left) }
    }
}

impl TapTerm for FeatureTarget {
    fn tap(&self) -> Tap {
        self.tap
    }

    fn forward(&self, _: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<()> {
        let label = format!("content/{}", self.tap);
        copy_rect(rec, &label, (feature, region.owned), self.place(region), Mode::Replace)
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
        let target = self.target.place(region);
        let coefficient = (2.0 * self.scale) as f32;
        loss::content_loss(rec, &label, (feature, region.owned), target, coefficient, d_feature, &partial)?;
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
    fn pair<'a>(&'a self, feature: &'a Tensor, region: &Region) -> Pair<'a> {
        Pair { feature, owned: region.owned, target: self.target.place(region) }
    }

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
        self.quotient.add(work, rec, &self.label(), self.pair(feature, region))
    }

    fn finish(&self, _: &mut Workspace, rec: &mut Recording) -> Result<()> {
        self.quotient.finish(rec, &self.label(), &self.entry)
    }

    fn backward(
        &self,
        _: &mut Workspace,
        rec: &mut Recording,
        feature: &Tensor,
        region: &Region,
        d_feature: &Tensor,
    ) -> Result<()> {
        let Quotient { sums, factors } = &self.quotient;
        scaled_loss_backward(rec, &self.label(), self.pair(feature, region), sums, *factors, d_feature)
    }
}
