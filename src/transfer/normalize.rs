//! Normalised gradients: every layer pulls as hard as its weight says, however large its gradient is.

use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::plan::{TapTerm, Workspace};
use crate::net::tiles::Region;
use crate::net::vgg19::Tap;
use crate::ops::loss::partials;
use crate::ops::vector::{absolute_sum, add_normalized};
use crate::recording::{Recording, Tensor};

/// A term whose gradient at its tap is divided by its L1 norm over the whole picture, plus 1e-8, and multiplied by its
/// weight: jcjohnson's definition. What it reports is the loss as it is.
///
/// The norm takes a sweep of its own before the gradient's: `dG` is known only when every tile has passed forward, and the
/// norm only when every tile has passed again.
pub(super) struct Normalized {
    pub(super) inner: Box<dyn TapTerm>,
    /// The weight that the inner term's gradient has in it.
    pub(super) weight: f32,
    /// `[terms]`, all zero when the iteration begins.
    pub(super) norms: Tensor,
    pub(super) slot: usize,
    /// The losses of all terms, which measuring has added to: the first term clears them.
    pub(super) losses: Option<Tensor>,
}

impl Normalized {
    /// The inner term's gradient alone.
    fn gradient(&self, work: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<Tensor> {
        let own = work.take("d_feature", Scalar::F32, &feature.shape);
        rec.clear(own.buffer);
        self.inner.backward(work, rec, feature, region, &own)?;
        Ok(own)
    }

    fn label(&self) -> String {
        self.tap().to_string()
    }
}

impl TapTerm for Normalized {
    fn tap(&self) -> Tap {
        self.inner.tap()
    }

    fn forward(&self, work: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<()> {
        self.inner.forward(work, rec, feature, region)
    }

    fn compares(&self) -> bool {
        self.inner.compares()
    }

    fn finish(&self, work: &mut Workspace, rec: &mut Recording) -> Result<()> {
        self.inner.finish(work, rec)
    }

    fn measures(&self) -> bool {
        true
    }

    fn measure(&self, work: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<()> {
        let own = self.gradient(work, rec, feature, region)?;
        let partial = work.take("partial", Scalar::F32, &[partials(own.len() / 4)]);
        absolute_sum(rec, &self.label(), &own, &partial, (&self.norms, self.slot))?;
        work.give(partial);
        work.give(own);
        Ok(())
    }

    fn measured(&self, work: &mut Workspace, rec: &mut Recording) -> Result<()> {
        if let Some(losses) = &self.losses {
            rec.clear(losses.buffer);
        }
        self.inner.finish(work, rec)
    }

    fn backward(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        feature: &Tensor,
        region: &Region,
        d_feature: &Tensor,
    ) -> Result<()> {
        let own = self.gradient(work, rec, feature, region)?;
        add_normalized(rec, &self.label(), &own, (&self.norms, self.slot, self.weight), d_feature)?;
        work.give(own);
        Ok(())
    }
}
