//! The Wasserstein style loss: the distance of two normal distributions, `|μ - μ*|² + tr(Σ* + Σ - 2 (Σ*^½ Σ Σ*^½)^½)`,
//! divided by the number of channels.
//!
//! A root is made by twelve steps of Newton and Schulz, which are part of the definition: eigenvalues under about 1e-4 of
//! the matrix's norm do not reach theirs. The gradient is crowsonkb's, that of an exact root Z at the point that the
//! steps reach: it solves Lyapunov's equation `X Z + Z X = dL/dZ` by as many steps (Lin and Maji 2017, "Improved
//! Bilinear Pooling with CNNs"). It is not the derivative of the twelve steps, from which it differs where they do not
//! converge. Here dL/dZ is a multiple of the identity, so that all matrices of these steps are polynomials in Z and
//! commute: of the four products in a step of Lin and Maji's, three are left.

use super::Entry;
use super::style::Statistics;
use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::plan::{TapTerm, Workspace};
use crate::net::tiles::Region;
use crate::net::vgg19::Tap;
use crate::ops::matmul::matmul;
use crate::ops::moments::covariance;
use crate::ops::wasserstein::{Distributions, frobenius, newton_schulz_start, wasserstein_backward, wasserstein_loss};
use crate::recording::{Purpose, Recording, Tensor};

/// Steps of a root, and of its gradient.
const STEPS: usize = 12;
/// Added to the covariances' diagonals: crowsonkb's 1e-4, and for flat pictures what rounding may take from the moments.
const RIDGE: [f32; 2] = [1e-4, 2e-5];
/// Factors of a step: `t = 3/2 - y z / 2`.
const HALF: [f32; 2] = [-0.5, 1.5];
/// A plain product.
const PLAIN: [f32; 2] = [1.0, 0.0];

/// The style's covariance and its root.
#[derive(Clone, Debug)]
pub(super) struct Distribution {
    /// Σ* with the ridge.
    cov: Tensor,
    /// `Σ*^½ / √‖Σ*‖`.
    root: Tensor,
    /// Norms: of the cross product and its root, both of the picture that is made, and of Σ*.
    norms: Tensor,
}

/// Entries of [`Distribution::norms`].
const CROSS: usize = 0;
const CROSS_ROOT: usize = 1;
const TARGET: usize = 2;

impl Distribution {
    pub(super) fn new(work: &mut Workspace, tap: Tap) -> Distribution {
        let mut tensor = |label: &str, shape: &[usize]| {
            work.table.tensor(format!("{label}/{tap}"), Scalar::F32, shape, Purpose::Targets)
        };
        let square = [tap.channels(); 2];
        Distribution {
            cov: tensor("style covariance", &square),
            root: tensor("style root", &square),
            norms: tensor("norms", &[3]),
        }
    }

    /// Records covariance and root of a style with these second moments and means.
    pub(super) fn measure(
        &self,
        work: &mut Workspace,
        rec: &mut Recording,
        second: &Tensor,
        mean: &Tensor,
    ) -> Result<()> {
        covariance(rec, "style root", second, mean, RIDGE, &self.cov)?;
        normalized_root(work, rec, "style root", &self.cov, (&self.norms, TARGET), &self.root)
    }
}

/// The loss's term for a picture with these statistics.
#[derive(Debug)]
pub(super) struct WassersteinTerm {
    sum: Statistics,
    target: Distribution,
    target_mean: Tensor,
    d_gram: Tensor,
    d_mean: Tensor,
    entry: Entry,
}

impl WassersteinTerm {
    pub(super) fn new(
        work: &mut Workspace,
        sum: Statistics,
        (target, target_mean): (Distribution, Tensor),
        d_gram: Tensor,
        entry: Entry,
    ) -> WassersteinTerm {
        let (tap, shape) = (sum.tap, [sum.tap.channels()]);
        let d_mean = work.table.tensor(format!("d_mean/{tap}"), Scalar::F32, &shape, Purpose::Reduction);
        WassersteinTerm { sum, target, target_mean, d_gram, d_mean, entry }
    }

    fn label(&self) -> String {
        format!("style/{}", self.sum.tap)
    }
}

impl TapTerm for WassersteinTerm {
    fn tap(&self) -> Tap {
        self.sum.tap
    }

    fn forward(&self, work: &mut Workspace, rec: &mut Recording, feature: &Tensor, region: &Region) -> Result<()> {
        self.sum.add(work, rec, feature, region)
    }

    fn finish(&self, work: &mut Workspace, rec: &mut Recording) -> Result<()> {
        let Some(mean) = &self.sum.mean else { return Ok(()) };
        let label = self.label();
        let Distribution { cov: target_cov, root: target_root, norms } = &self.target;
        let distributions = Distributions { mean, target_mean: &self.target_mean, norms };
        let [cov, product, cross, root] = [(); 4].map(|()| square(work, target_cov));
        covariance(rec, &label, &self.sum.gram, mean, RIDGE, &cov)?;
        matmul(rec, &label, (target_root, &cov), PLAIN, &product)?;
        matmul(rec, &label, (&product, target_root), PLAIN, &cross)?;
        normalized_root(work, rec, &label, &cross, (norms, CROSS), &root)?;
        let scale = self.entry.weight / self.sum.tap.channels() as f64;
        let to = (&self.entry.losses, self.entry.slot);
        wasserstein_loss(rec, &label, distributions, [&cov, target_cov, &root], scale as f32, to)?;
        // From here on the cross product is Lyapunov's solution, and the covariance that between two roots.
        lyapunov(work, rec, &label, &root, (norms, CROSS_ROOT), &cross)?;
        matmul(rec, &label, (target_root, &cross), PLAIN, &product)?;
        matmul(rec, &label, (&product, target_root), PLAIN, &cov)?;
        let factors = [scale, 2.0 / self.sum.divisor, 2.0 / self.sum.mean_divisor].map(|factor| factor as f32);
        wasserstein_backward(rec, &label, &cov, distributions, factors, (&self.d_gram, &self.d_mean))?;
        [cov, product, cross, root].into_iter().for_each(|tensor| work.give(tensor));
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
        self.sum.backward(work, rec, (feature, region, d_feature), (&self.d_gram, Some(&self.d_mean)))
    }
}

/// A temporary matrix of another one's shape.
fn square(work: &mut Workspace, like: &Tensor) -> Tensor {
    work.take("matrix", Scalar::F32, &like.shape)
}

/// Records `norms[slot] = ‖matrix‖` and `output = matrix^½ / √‖matrix‖`, by y ← y t, z ← t z with t = (3 - z y) / 2,
/// from y = matrix / ‖matrix‖ and z = 1 on.
fn normalized_root(
    work: &mut Workspace,
    rec: &mut Recording,
    label: &str,
    matrix: &Tensor,
    (norms, slot): (&Tensor, usize),
    output: &Tensor,
) -> Result<()> {
    frobenius(rec, label, matrix, norms, slot)?;
    let (mut y, mut t) = (square(work, matrix), square(work, matrix));
    newton_schulz_start(rec, label, matrix, (norms, slot), &y, &t)?;
    replace(work, rec, label, &mut y, Side::Right(&t))?;
    // The identity times the first t.
    let mut z = std::mem::replace(&mut t, square(work, matrix));
    for _ in 2..STEPS {
        matmul(rec, label, (&z, &y), HALF, &t)?;
        replace(work, rec, label, &mut y, Side::Right(&t))?;
        replace(work, rec, label, &mut z, Side::Left(&t))?;
    }
    matmul(rec, label, (&z, &y), HALF, &t)?;
    matmul(rec, label, (&y, &t), PLAIN, output)?;
    [y, z, t].into_iter().for_each(|tensor| work.give(tensor));
    Ok(())
}

/// Records `norms[slot] = ‖root‖` and `output = ∏ t`, by a ← a t with t = (3 - a²) / 2 from a = root / ‖root‖ on: the
/// solution of `X a + a X = 2`.
fn lyapunov(
    work: &mut Workspace,
    rec: &mut Recording,
    label: &str,
    root: &Tensor,
    (norms, slot): (&Tensor, usize),
    output: &Tensor,
) -> Result<()> {
    frobenius(rec, label, root, norms, slot)?;
    let (mut a, mut q, t) = (square(work, root), square(work, root), square(work, root));
    newton_schulz_start(rec, label, root, (norms, slot), &a, &q)?;
    matmul(rec, label, (&a, &a), HALF, &q)?;
    replace(work, rec, label, &mut a, Side::Right(&q))?;
    for _ in 2..STEPS {
        matmul(rec, label, (&a, &a), HALF, &t)?;
        replace(work, rec, label, &mut q, Side::Right(&t))?;
        replace(work, rec, label, &mut a, Side::Right(&t))?;
    }
    matmul(rec, label, (&a, &a), HALF, &t)?;
    matmul(rec, label, (&q, &t), PLAIN, output)?;
    [a, q, t].into_iter().for_each(|tensor| work.give(tensor));
    Ok(())
}

/// Records a product into a temporary, which takes the place of `old`.
fn replace(work: &mut Workspace, rec: &mut Recording, label: &str, old: &mut Tensor, side: Side<'_>) -> Result<()> {
    let next = square(work, old);
    let factors = match side {
        Side::Right(factor) => (&*old, factor),
        Side::Left(factor) => (factor, &*old),
    };
    matmul(rec, label, factors, PLAIN, &next)?;
    work.give(std::mem::replace(old, next));
    Ok(())
}

/// A factor and the side on which it stands: the steps are stable only in this order.
#[derive(Debug)]
enum Side<'a> {
    Left(&'a Tensor),
    Right(&'a Tensor),
}
