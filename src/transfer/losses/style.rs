//! Style losses: statistics of a tap over the whole picture against the style's.

use super::wasserstein::{Distribution, WassersteinTerm};
use super::{Entry, Measure, Quotient};
use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::plan::{TapTerm, Workspace};
use crate::net::tiles::{Region, Tile};
use crate::net::vgg19::Tap;
use crate::ops::scaled_loss::{Pair, scaled_loss_backward};
use crate::ops::{Rect, gram, loss, moments};
use crate::recording::{Purpose, Recording, Tensor};
use crate::transfer::config::StyleLoss;

/// Gram matrix of a tap, `G = FᵀF / divisor`, and the mean of its activations where the loss looks at it.
#[derive(Clone, Debug)]
pub(super) struct Statistics {
    pub(super) tap: Tap,
    pub(super) gram: Tensor,
    pub(super) mean: Option<Tensor>,
    /// What the sum of products is divided by.
    pub(super) divisor: f64,
    /// What the sum of activations is divided by.
    pub(super) mean_divisor: f64,
}

impl Statistics {
    fn new(
        work: &mut Workspace,
        label: &str,
        tap: Tap,
        tiles: &[Tile],
        Measure { loss, unit }: Measure,
        purpose: Purpose,
    ) -> Statistics {
        let channels = tap.channels();
        let positions = tiles.iter().map(|tile| tile.region(tap.level()).owned.area()).sum::<usize>() as f64;
        let divisor = match loss {
            StyleLoss::Article | StyleLoss::Classic => positions * channels as f64,
            StyleLoss::Gatys => positions,
            StyleLoss::ScaledMse | StyleLoss::Wasserstein => positions * unit * unit,
        };
        let gram = work.table.tensor(format!("{label}/{tap}"), Scalar::F32, &[channels, channels], purpose);
        let mut mean = || work.table.tensor(format!("{label} mean/{tap}"), Scalar::F32, &[channels], purpose);
        let mean = (loss == StyleLoss::Wasserstein).then(&mut mean);
        Statistics { tap, gram, mean, divisor, mean_divisor: positions * unit }
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
        let channels = self.tap.channels();
        let splits = gram::splits(region.owned.area(), channels);
        let partial = work.take("partial", Scalar::F32, &[splits, channels, channels]);
        let label = self.tap.to_string();
        gram::gram(rec, &label, feature, region.owned, &partial)?;
        gram::gram_reduce(rec, &label, &partial, (1.0 / self.divisor) as f32, &self.gram)?;
        work.give(partial);
        if let Some(mean) = &self.mean {
            let partial = work.take("partial", Scalar::F32, &[moments::splits(region.owned.area()), channels]);
            moments::channel_sum(rec, &label, feature, region.owned, &partial)?;
            moments::channel_sum_reduce(rec, &label, &partial, (1.0 / self.mean_divisor) as f32, mean)?;
            work.give(partial);
        }
        Ok(())
    }
}

/// What the style's picture has at a tap.
#[derive(Clone, Debug)]
pub(crate) struct StyleTarget {
    statistics: Statistics,
    /// Of the normal distribution with these moments, where the loss looks at it.
    distribution: Option<Distribution>,
    measure: Measure,
}

impl StyleTarget {
    pub(crate) fn new(work: &mut Workspace, tap: Tap, tiles: &[Tile], measure: Measure) -> StyleTarget {
        let statistics = Statistics::new(work, "style target", tap, tiles, measure, Purpose::Targets);
        let distribution = statistics.mean.as_ref().map(|_| Distribution::new(work, tap));
        StyleTarget { statistics, distribution, measure }
    }

    /// The loss against this target, for a picture cut into `tiles`.
    pub(super) fn term(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        tiles: &[Tile],
        entry: Entry,
    ) -> Box<dyn TapTerm> {
        let StyleTarget { statistics: Statistics { tap, gram: target, mean, .. }, distribution, measure } = self;
        let sum = Statistics::new(work, "gram", *tap, tiles, *measure, Purpose::Reduction);
        sum.clear(rec);
        let channels = tap.channels() as f64;
        let target = target.clone();
        let d_gram = work.table.tensor(format!("d_gram/{tap}"), Scalar::F32, &sum.gram.shape, Purpose::Reduction);
        let scale = match measure.loss {
            // Half the number of the activations, by which the Gram matrix is divided.
            StyleLoss::Article => entry.weight / (2.0 * sum.divisor),
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

impl TapTerm for StyleTarget {
    fn tap(&self) -> Tap {
        self.statistics.tap
    }

    fn forward(&self, work: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<()> {
        self.statistics.add(work, rec, feature, region)
    }

    fn finish(&self, work: &mut Workspace, rec: &mut Recording) -> Result<()> {
        match (&self.distribution, &self.statistics.mean) {
            (Some(distribution), Some(mean)) => distribution.measure(work, rec, &self.statistics.gram, mean),
            _ => Ok(()),
        }
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
        _: &mut Workspace,
        rec: &mut Recording,
        feature: &Tensor,
        region: &Region,
        d_feature: &Tensor,
    ) -> Result<()> {
        gram::gram_backward(rec, &format!("style/{}", self.sum.tap), feature, region.owned, &self.d_gram, d_feature)
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
        _: &mut Workspace,
        rec: &mut Recording,
        feature: &Tensor,
        region: &Region,
        d_feature: &Tensor,
    ) -> Result<()> {
        gram::gram_backward(rec, &format!("style/{}", self.sum.tap), feature, region.owned, &self.d_gram, d_feature)
    }
}
