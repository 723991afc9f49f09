//! Losses as terms of the plan. Each owns its buffers, sums statistics on the way forward, and adds `weight * dL/dtap`
//! into the tap's gradient on the way back.

use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::plan::{TapTerm, Workspace};
use crate::net::tiles::{Region, Tile};
use crate::net::vgg19::Tap;
use crate::ops::copy_rect::{Mode, copy_rect};
use crate::ops::{Rect, gram, loss};
use crate::recording::{Purpose, Recording, Tensor};

/// Gram matrix of a tap, divided by its number of elements: `G = FᵀF / (N C)`.
#[derive(Debug)]
pub(crate) struct GramSum {
    pub(crate) tap: Tap,
    pub(crate) gram: Tensor,
    /// Elements of the whole picture's map.
    numel: usize,
}

impl GramSum {
    pub(crate) fn new(work: &mut Workspace, label: &str, tap: Tap, tiles: &[Tile], purpose: Purpose) -> GramSum {
        let channels = tap.channels();
        let numel = channels * tiles.iter().map(|tile| tile.region(tap.level()).owned.area()).sum::<usize>();
        let gram = work.table.tensor(format!("{label}/{tap}"), Scalar::F32, &[channels, channels], purpose);
        GramSum { tap, gram, numel }
    }
}

impl TapTerm for GramSum {
    fn tap(&self) -> Tap {
        self.tap
    }

    fn forward(&self, work: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<()> {
        let channels = self.tap.channels();
        let splits = gram::splits(region.owned.area(), channels);
        let partial = work.take("partial", Scalar::F32, &[splits, channels, channels]);
        let label = self.tap.to_string();
        gram::gram(rec, &label, feature, region.owned, &partial)?;
        gram::gram_reduce(rec, &label, &partial, 1.0 / self.numel as f32, &self.gram)?;
        work.give(partial);
        Ok(())
    }
}

/// The article's style loss: `w / (2 numel) Σ (G - A)²`.
#[derive(Debug)]
pub(crate) struct StyleTerm {
    pub(crate) sum: GramSum,
    target: Tensor,
    d_gram: Tensor,
    weight: f32,
    losses: Tensor,
    slot: usize,
}

impl StyleTerm {
    pub(crate) fn new(
        work: &mut Workspace,
        sum: GramSum,
        target: Tensor,
        weight: f32,
        losses: &Tensor,
        slot: usize,
    ) -> StyleTerm {
        let d_gram = work.table.tensor(format!("d_gram/{}", sum.tap), Scalar::F32, &sum.gram.shape, Purpose::Reduction);
        StyleTerm { sum, target, d_gram, weight, losses: losses.clone(), slot }
    }
}

impl TapTerm for StyleTerm {
    fn tap(&self) -> Tap {
        self.sum.tap
    }

    fn forward(&self, work: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<()> {
        self.sum.forward(work, rec, feature, region)
    }

    fn finish(&self, work: &mut Workspace, rec: &mut Recording) -> Result<()> {
        let label = format!("style/{}", self.sum.tap);
        let numel = self.sum.numel as f64;
        let partial = work.take("partial", Scalar::F32, &[loss::style_partials(self.sum.tap.channels())]);
        // dL/dF = 2 w / numel² · F (G - A)
        let coefficient = (2.0 * f64::from(self.weight) / (numel * numel)) as f32;
        loss::style_loss(rec, &label, &self.sum.gram, &self.target, coefficient, &self.d_gram, &partial)?;
        let scale = (f64::from(self.weight) / (2.0 * numel)) as f32;
        loss::sum_reduce(rec, &label, &partial, scale, &self.losses, self.slot)?;
        work.give(partial);
        Ok(())
    }

    fn backward(
        &self,
        _: &mut Workspace,
        rec: &mut Recording,
        feature: &Tensor,
        region: &Region,
        d_feature: &Tensor,
    ) -> Result<()> {
        gram::gram_backward(rec, &format!("style/{}", self.sum.tap), feature, region.owned, &self.d_gram, d_feature)
    }
}

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

/// The article's content loss: `w / (2 numel) Σ (F - P)²`.
#[derive(Debug)]
pub(crate) struct ContentTerm {
    pub(crate) target: FeatureTarget,
    pub(crate) weight: f32,
    pub(crate) losses: Tensor,
    pub(crate) slot: usize,
}

impl TapTerm for ContentTerm {
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
        let numel = self.target.numel as f64;
        let owned = region.owned.area() * self.target.tap.channels();
        let partial = work.take("partial", Scalar::F32, &[loss::partials(owned / 4)]);
        let coefficient = (f64::from(self.weight) / numel) as f32;
        let target = self.target.place(region);
        loss::content_loss(rec, &label, (feature, region.owned), target, coefficient, d_feature, &partial)?;
        let scale = (f64::from(self.weight) / (2.0 * numel)) as f32;
        loss::sum_reduce(rec, &label, &partial, scale, &self.losses, self.slot)?;
        work.give(partial);
        Ok(())
    }
}
