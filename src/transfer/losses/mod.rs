//! Losses as terms of the plan. Each owns its buffers, sums statistics on the way forward, and adds `weight * dL/dtap`
//! into the tap's gradient on the way back.

mod content;
mod share;
mod style;
mod wasserstein;

use super::config::{Config, StyleLoss};
use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::plan::{TapTerm, Workspace};
use crate::net::tiles::Tile;
use crate::ops::{loss, scaled_loss};
use crate::recording::{Purpose, Recording, Tensor};

pub(crate) use content::FeatureTarget;
pub(crate) use share::Shares;
pub(crate) use style::StyleTarget;

/// How activations are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    pub(crate) loss: StyleLoss,
    /// What activations are divided by.
    pub(crate) unit: f64,
}

impl Measure {
    pub(crate) fn new(config: &Config, activation_unit: f32) -> Measure {
        let unit = match config.style_loss {
            StyleLoss::Article | StyleLoss::Classic | StyleLoss::Gatys => 1.0,
            StyleLoss::ScaledMse | StyleLoss::Wasserstein => f64::from(activation_unit),
        };
        Measure { loss: config.style_loss, unit }
    }
}

/// Where a term writes its loss, and what it multiplies it by.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) weight: f64,
    pub(crate) losses: Tensor,
    pub(crate) slot: usize,
}

/// The terms of one step: content first, then style, part by part, each in the order of the configuration. What they sum up
/// in is cleared beforehand.
pub(crate) fn terms(
    work: &mut Workspace,
    rec: &mut Recording,
    config: &Config,
    tiles: &[Tile],
    (contents, styles): (&[FeatureTarget], &[StyleTarget]),
    (measure, losses): (Measure, &Tensor),
) -> Vec<Box<dyn TapTerm>> {
    let mut terms: Vec<Box<dyn TapTerm>> = Vec::new();
    let entry = |slot: usize, weight: f32| Entry { weight: f64::from(weight), losses: losses.clone(), slot };
    for ((_, weight), target) in config.content_layers.iter().zip(contents) {
        let entry = entry(terms.len(), weight * config.content_weight);
        terms.push(content::term(work, rec, target, measure, entry));
    }
    for (weight, target) in config.style_weights().into_iter().cycle().zip(styles) {
        let entry = entry(terms.len(), weight);
        terms.push(target.term(work, rec, tiles, entry));
    }
    terms
}

/// The quotient of crowsonkb's scaled loss, `weight / unit · Σd² / (Σ|d| + ε)` with d in the activations' own unit: its
/// sums over all tiles, `[2]`.
#[derive(Debug)]
struct Quotient {
    sums: Tensor,
    /// Scale and ε.
    factors: [f32; 2],
}

impl Quotient {
    /// Added to the sum of absolutes.
    const EPSILON: f64 = 1e-8;

    fn new(work: &mut Workspace, rec: &mut Recording, label: &str, scale: f64, unit: f64) -> Quotient {
        let sums = work.table.tensor(format!("sums/{label}"), Scalar::F32, &[2], Purpose::Reduction);
        rec.clear(sums.buffer);
        Quotient { sums, factors: [(scale / unit) as f32, (Quotient::EPSILON * unit) as f32] }
    }

    /// Adds a pair's sums.
    fn add(&self, work: &mut Workspace, rec: &mut Recording, label: &str, pair: scaled_loss::Pair<'_>) -> Result<()> {
        let quads = pair.owned.area() * pair.feature.shape.last().map_or(1, |channels| channels / 4);
        let mut partial = || work.take("partial", Scalar::F32, &[loss::partials(quads)]);
        let (squares, absolutes) = (partial(), partial());
        scaled_loss::scaled_loss_sums(rec, label, pair, [&squares, &absolutes])?;
        loss::sum_reduce(rec, label, &squares, 1.0, &self.sums, 0)?;
        loss::sum_reduce(rec, label, &absolutes, 1.0, &self.sums, 1)?;
        work.give(squares);
        work.give(absolutes);
        Ok(())
    }

    fn finish(&self, rec: &mut Recording, label: &str, entry: &Entry) -> Result<()> {
        scaled_loss::scaled_loss(rec, label, &self.sums, self.factors, &entry.losses, entry.slot)
    }
}
