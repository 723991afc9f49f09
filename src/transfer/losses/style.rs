//! Style losses: statistics of a tap, over the whole picture or a part of it, against those of the styles there.

use super::share::Shares;
use super::wasserstein::{Distribution, WassersteinTerm};
use super::{Entry, Measure, Quotient};
use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::plan::{TapTerm, Workspace};
use crate::net::tiles::{Region, Tile};
use crate::net::vgg19::Tap;
use crate::ops::scaled_loss::{Pair, scaled_loss_backward};
use crate::ops::share::Factor;
use crate::ops::{Rect, gram, loss, moments};
use crate::recording::{Purpose, Recording, Tensor};
use crate::transfer::config::StyleLoss;

/// Gram matrix of a tap, `G = FᵀF / divisor`, and the mean of its activations where the loss looks at it. Of a part of the
/// picture, every position counts by its share.
#[derive(Clone, Debug)]
pub(super) struct Statistics {
    pub(super) tap: Tap,
    pub(super) gram: Tensor,
    pub(super) mean: Option<Tensor>,
    /// What the sum of products is divided by.
    pub(super) divisor: f64,
    /// What the sum of activations is divided by.
    pub(super) mean_divisor: f64,
    shares: Option<Shares>,
}

impl Statistics {
    /// Tensors for what [`Statistics::counting`] sums up.
    fn new(work: &mut Workspace, label: &str, tap: Tap, loss: StyleLoss, purpose: Purpose) -> Statistics {
        let channels = tap.channels();
        let gram = work.table.tensor(format!("{label}/{tap}"), Scalar::F32, &[channels, channels], purpose);
        let mut mean = || work.table.tensor(format!("{label} mean/{tap}"), Scalar::F32, &[channels], purpose);
        let mean = (loss == StyleLoss::Wasserstein).then(&mut mean);
        Statistics { tap, gram, mean, divisor: 1.0, mean_divisor: 1.0, shares: None }
    }

    /// In the same tensors: means over so many positions.
    fn counting(self, Measure { loss, unit }: Measure, positions: f64) -> Statistics {
        let divisor = match loss {
            StyleLoss::Article | StyleLoss::Classic => positions * self.tap.channels() as f64,
            StyleLoss::Gatys => positions,
            StyleLoss::ScaledMse | StyleLoss::Wasserstein => positions * unit * unit,
        };
        Statistics { divisor, mean_divisor: positions * unit, ..self }
    }

    /// In the same tensors, by so much of a blend.
    fn blended(self, weight: f64) -> Statistics {
        Statistics { divisor: self.divisor / weight, mean_divisor: self.mean_divisor / weight, ..self }
    }

    fn clear(&self, rec: &mut Recording) {
        rec.clear(self.gram.buffer);
        if let Some(mean) = &self.mean {
            rec.clear(mean.buffer);
        }
    }

    /// Adds what a tile owns.
    pub(super) fn add(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        feature: &Tensor,
        region: &Region,
    ) -> Result<()> {
        self.weighed(work, rec, (feature, region), Factor::Root, |work, rec, feature| {
            let channels = self.tap.channels();
            let splits = gram::splits(region.owned.area(), channels);
            let partial = work.take("partial", Scalar::F32, &[splits, channels, channels]);
            let label = self.tap.to_string();
            gram::gram(rec, &label, feature, region.owned, &partial)?;
            gram::gram_reduce(rec, &label, &partial, (1.0 / self.divisor) as f32, &self.gram)?;
            work.give(partial);
            Ok(())
        })?;
        let Some(mean) = &self.mean else { return Ok(()) };
        self.weighed(work, rec, (feature, region), Factor::Share, |work, rec, feature| {
            let splits = moments::splits(region.owned.area());
            let partial = work.take("partial", Scalar::F32, &[splits, self.tap.channels()]);
            let label = self.tap.to_string();
            moments::channel_sum(rec, &label, feature, region.owned, &partial)?;
            moments::channel_sum_reduce(rec, &label, &partial, (1.0 / self.mean_divisor) as f32, mean)?;
            work.give(partial);
            Ok(())
        })
    }

    /// Has `sum` look at a tile's activation, weighed where only a part of it counts; not at all where nothing does.
    fn weighed(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        (feature, region): (&Tensor, &Region),
        factor: Factor,
        sum: impl FnOnce(&mut Workspace, &mut Recording, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let Some(shares) = &self.shares else { return sum(work, rec, feature) };
        let weighed = shares.weighed(work, rec, &self.tap.to_string(), (feature, region), factor)?;
        weighed.map_or(Ok(()), |weighed| {
            sum(work, rec, &weighed)?;
            work.give(weighed);
            Ok(())
        })
    }

    /// Adds the gradient at what a tile owns: `d_gram` and `d_mean` carry every factor but the shares.
    pub(super) fn backward(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        (feature, region, d_feature): (&Tensor, &Region, &Tensor),
        (d_gram, d_mean): (&Tensor, Option<&Tensor>),
    ) -> Result<()> {
        let label = format!("style/{}", self.tap);
        let gradient = |rec: &mut Recording, to: &Tensor| {
            gram::gram_backward(rec, &label, feature, region.owned, d_gram, to)?;
            d_mean.map_or(Ok(()), |d_mean| moments::mean_backward(rec, &label, d_mean, region.owned, to))
        };
        match &self.shares {
            Some(shares) => shares.add(work, rec, &label, (d_feature, region), gradient),
            None => gradient(rec, d_feature),
        }
    }
}

/// What the styles of a part of the picture have at a tap, blended.
#[derive(Clone, Debug)]
pub(crate) struct StyleTarget {
    statistics: Statistics,
    /// Of the normal distribution with these moments, where the loss looks at it.
    distribution: Option<Distribution>,
    measure: Measure,
    /// Positions of the part; `None` where it is the whole picture.
    shares: Option<Shares>,
}

impl StyleTarget {
    pub(crate) fn new(work: &mut Workspace, tap: Tap, measure: Measure, shares: Option<Shares>) -> StyleTarget {
        let statistics = Statistics::new(work, "style target", tap, measure.loss, Purpose::Targets);
        let distribution = statistics.mean.as_ref().map(|_| Distribution::new(work, tap));
        StyleTarget { statistics, distribution, measure, shares }
    }

    /// What measures a style picture cut into `tiles`, and adds it by so much of the blend.
    pub(crate) fn share(&self, tiles: &[Tile], weight: f64) -> StyleShare {
        let positions = positions(self.statistics.tap, tiles);
        StyleShare(self.statistics.clone().counting(self.measure, positions).blended(weight))
    }

    /// What is measured: Gram matrix, and mean where there is one.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [&self.statistics.gram].into_iter().chain(&self.statistics.mean)
    }

    /// Records what follows from the tensors once all styles are in them.
    pub(crate) fn finish(&self, work: &mut Workspace, rec: &mut Recording) -> Result<()> {
        match (&self.distribution, &self.statistics.mean) {
            (Some(distribution), Some(mean)) => distribution.measure(work, rec, &self.statistics.gram, mean),
            _ => Ok(()),
        }
    }

    /// What part of the picture it is for, by area.
    pub(crate) fn area(&self) -> f64 {
        self.shares.as_ref().map_or(1.0, |shares| shares.level.some().map_or(0.0, |level| level.area))
    }

    /// The loss against this target, for a picture cut into `tiles`. That of a part counts by its area, so that it pulls at
    /// a pixel as hard as the loss of a whole picture would.
    pub(super) fn term(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        tiles: &[Tile],
        entry: Entry,
    ) -> Box<dyn TapTerm> {
        let StyleTarget { statistics: Statistics { tap, gram: target, mean, .. }, distribution, measure, shares } =
            self;
        let whole = positions(*tap, tiles);
        let part = shares.as_ref().map(|shares| shares.level.some().map(|level| level.positions));
        let Some(counted) = part.unwrap_or(Some(whole)) else {
            return Box::new(Nothing { tap: *tap });
        };
        let entry = Entry { weight: entry.weight * self.area(), ..entry };
        let mut sum = Statistics::new(work, "gram", *tap, measure.loss, Purpose::Reduction).counting(*measure, counted);
        sum.shares.clone_from(shares);
        sum.clear(rec);
        let channels = tap.channels() as f64;
        let target = target.clone();
        let d_gram = work.table.tensor(format!("d_gram/{tap}"), Scalar::F32, &sum.gram.shape, Purpose::Reduction);
        let scale = match measure.loss {
            // Half the number of the picture's activations, those of all its parts.
            StyleLoss::Article => entry.weight / (2.0 * whole * channels),
            StyleLoss::Classic => entry.weight / (channels * channels),
            StyleLoss::Gatys => entry.weight * 1000.0 / channels.powi(4),
            StyleLoss::ScaledMse | StyleLoss::Wasserstein => {
                if let (Some(distribution), Some(target_mean)) = (distribution, mean) {
                    let target = (distribution.clone(), target_mean.clone());
                    return Box::new(WassersteinTerm::new(work, sum, target, d_gram, entry));
                }
                // The Gram matrices are in the unit already.
                let quotient = Quotient::new(work, rec, &format!("style/{tap}"), entry.weight, 1.0);
                return Box::new(ScaledTerm { sum, target, d_gram, quotient, entry });
            }
        };
        Box::new(SquaredTerm { sum, target, d_gram, scale, entry })
    }
}

/// Positions of a tap's map.
fn positions(tap: Tap, tiles: &[Tile]) -> f64 {
    tiles.iter().map(|tile| tile.region(tap.level()).owned.area()).sum::<usize>() as f64
}

/// Measures one style picture.
#[derive(Debug)]
pub(crate) struct StyleShare(Statistics);

impl TapTerm for StyleShare {
    fn tap(&self) -> Tap {
        self.0.tap
    }

    fn forward(&self, work: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<()> {
        self.0.add(work, rec, feature, region)
    }
}

/// The term of a part that has no positions.
#[derive(Debug)]
struct Nothing {
    tap: Tap,
}

impl TapTerm for Nothing {
    fn tap(&self) -> Tap {
        self.tap
    }
}

/// `scale Σ (G - A)²`.
#[derive(Debug)]
struct SquaredTerm {
    sum: Statistics,
    target: Tensor,
    d_gram: Tensor,
    scale: f64,
    entry: Entry,
}

impl TapTerm for SquaredTerm {
    fn tap(&self) -> Tap {
        self.sum.tap
    }

    fn forward(&self, work: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<()> {
        self.sum.add(work, rec, feature, region)
    }

    fn finish(&self, work: &mut Workspace, rec: &mut Recording) -> Result<()> {
        let label = format!("style/{}", self.sum.tap);
        let partial = work.take("partial", Scalar::F32, &[loss::style_partials(self.sum.tap.channels())]);
        // dL/dF = 4 scale / divisor · F (G - A)
        let coefficient = (4.0 * self.scale / self.sum.divisor) as f32;
        loss::style_loss(rec, &label, &self.sum.gram, &self.target, coefficient, &self.d_gram, &partial)?;
        loss::sum_reduce(rec, &label, &partial, self.scale as f32, &self.entry.losses, self.entry.slot)?;
        work.give(partial);
        Ok(())
    }

    fn backward(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        feature: &Tensor,
        region: &Region,
        d_feature: &Tensor,
    ) -> Result<()> {
        self.sum.backward(work, rec, (feature, region, d_feature), (&self.d_gram, None))
    }
}

/// `weight Σd² / (Σ|d| + ε)`, d = G - A.
#[derive(Debug)]
struct ScaledTerm {
    sum: Statistics,
    target: Tensor,
    d_gram: Tensor,
    quotient: Quotient,
    entry: Entry,
}

impl TapTerm for ScaledTerm {
    fn tap(&self) -> Tap {
        self.sum.tap
    }

    fn forward(&self, work: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<()> {
        self.sum.add(work, rec, feature, region)
    }

    fn finish(&self, work: &mut Workspace, rec: &mut Recording) -> Result<()> {
        let label = format!("style/{}", self.sum.tap);
        // A matrix as a map of one row.
        let channels = self.sum.tap.channels();
        let row = |matrix: &Tensor| Tensor { shape: vec![1, channels, channels], ..matrix.clone() };
        let (gram, target, d_gram) = (row(&self.sum.gram), row(&self.target), row(&self.d_gram));
        let pair = Pair { feature: &gram, owned: Rect::whole(1, channels), target: (&target, 0, 0) };
        // A term may be finished twice.
        rec.clear(self.quotient.sums.buffer);
        self.quotient.add(work, rec, &label, pair)?;
        self.quotient.finish(rec, &label, &self.entry)?;
        let [scale, epsilon] = self.quotient.factors;
        // dL/dF = 2 / divisor · F dL/dG
        let scale = (f64::from(scale) * 2.0 / self.sum.divisor) as f32;
        rec.clear(d_gram.buffer);
        scaled_loss_backward(rec, &label, pair, &self.quotient.sums, [scale, epsilon], &d_gram)
    }

    fn backward(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        feature: &Tensor,
        region: &Region,
        d_feature: &Tensor,
    ) -> Result<()> {
        self.sum.backward(work, rec, (feature, region, d_feature), (&self.d_gram, None))
    }
}
