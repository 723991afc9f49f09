//! The kernels around the matrix root of the Wasserstein style loss.

use super::{dims, grid, inside};
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params};
use crate::ops::Rect;
use crate::recording::{Launch, Recording, Tensor};

params! {
    /// Parameters of `frobenius`.
    FrobeniusParams {
        /// Rows and columns.
        channels: u32,
        /// Entry of `norms` that is written.
        slot: u32,
    }
}

params! {
    /// Parameters of `newton_schulz_start`.
    NewtonSchulzStartParams {
        /// Rows and columns.
        channels: u32,
        /// Entry of `norms` that is read.
        slot: u32,
    }
}

params! {
    /// Parameters of `wasserstein_loss`.
    WassersteinLossParams {
        /// Channels.
        channels: u32,
        /// Entry of `losses` that is added to.
        slot: u32,
        /// Factor on the sum.
        scale: f32,
    }
}

params! {
    /// Parameters of `wasserstein_backward`.
    WassersteinBackwardParams {
        /// Channels.
        channels: u32,
        /// The factor on the sum in the loss.
        scale: f32,
        /// From the covariance's gradient to the one that `gram_backward` takes.
        gram_scale: f32,
        /// From half the mean's gradient to the one that `mean_backward` takes.
        mean_scale: f32,
    }
}

/// See `shaders/frobenius.wgsl`.
pub static FROBENIUS: Kernel =
    kernel!("frobenius", FrobeniusParams, frobenius_twin, [float("matrix", "C C"), float("norms", "K")]);

/// See `shaders/newton_schulz_start.wgsl`.
pub static NEWTON_SCHULZ_START: Kernel = kernel!(
    "newton_schulz_start",
    NewtonSchulzStartParams,
    newton_schulz_start_twin,
    [float("matrix", "C C"), float("norms", "K"), float("y", "C C"), float("t", "C C")]
);

/// See `shaders/wasserstein_loss.wgsl`.
pub static WASSERSTEIN_LOSS: Kernel = kernel!(
    "wasserstein_loss",
    WassersteinLossParams,
    wasserstein_loss_twin,
    [
        float("mean", "C"),
        float("target_mean", "C"),
        float("cov", "C C"),
        float("target_cov", "C C"),
        float("root", "C C"),
        float("norms", "3"),
        float("losses", "L"),
    ]
);

/// See `shaders/wasserstein_backward.wgsl`.
pub static WASSERSTEIN_BACKWARD: Kernel = kernel!(
    "wasserstein_backward",
    WassersteinBackwardParams,
    wasserstein_backward_twin,
    [
        float("lyapunov", "C C"),
        float("mean", "C"),
        float("target_mean", "C"),
        float("norms", "3"),
        float("d_gram", "C C"),
        float("d_mean", "C"),
    ]
);

/// Records `norms[slot] = ‖matrix‖`.
pub fn frobenius(recording: &mut Recording, label: &str, matrix: &Tensor, norms: &Tensor, slot: usize) -> Result<()> {
    let [channels, _] = dims(&FROBENIUS, "matrix", matrix)?;
    let [count] = dims(&FROBENIUS, "norms", norms)?;
    inside(&FROBENIUS, "norms", Rect { top: 0, left: slot, height: 1, width: 1 }, 1, count)?;
    recording.dispatch(
        &FROBENIUS,
        &FrobeniusParams { channels: channels as u32, slot: slot as u32 },
        &[("matrix", matrix), ("norms", norms)],
        Launch { label: label.into(), grid: [1, 1, 1], flops: 2 * matrix.len() as u64, ..Launch::default() },
    )
}

/// Records `y = matrix / norms[slot]` and the first factor of its root, `t = (3 - y) / 2`.
pub fn newton_schulz_start(
    recording: &mut Recording,
    label: &str,
    matrix: &Tensor,
    (norms, slot): (&Tensor, usize),
    y: &Tensor,
    t: &Tensor,
) -> Result<()> {
    let [channels, _] = dims(&NEWTON_SCHULZ_START, "matrix", matrix)?;
    let [count] = dims(&NEWTON_SCHULZ_START, "norms", norms)?;
    inside(&NEWTON_SCHULZ_START, "norms", Rect { top: 0, left: slot, height: 1, width: 1 }, 1, count)?;
    recording.dispatch(
        &NEWTON_SCHULZ_START,
        &NewtonSchulzStartParams { channels: channels as u32, slot: slot as u32 },
        &[("matrix", matrix), ("norms", norms), ("y", y), ("t", t)],
        Launch {
            label: label.into(),
            grid: grid((channels * channels / 4).div_ceil(64), 1),
            flops: 3 * matrix.len() as u64,
            ..Launch::default()
        },
    )
}

/// Means, covariances and roots of the picture and of its target.
#[derive(Clone, Copy, Debug)]
pub struct Distributions<'a> {
    /// Mean, `[C]`.
    pub mean: &'a Tensor,
    /// The target's mean.
    pub target_mean: &'a Tensor,
    /// Norms of the cross product, of its normalised root, and of the target's covariance: `[3]`.
    pub norms: &'a Tensor,
}

/// Records `losses[slot] += scale * channels * (the squared distance's mean over the channels)`.
pub fn wasserstein_loss(
    recording: &mut Recording,
    label: &str,
    Distributions { mean, target_mean, norms }: Distributions<'_>,
    [cov, target_cov, root]: [&Tensor; 3],
    scale: f32,
    (losses, slot): (&Tensor, usize),
) -> Result<()> {
    let [channels] = dims(&WASSERSTEIN_LOSS, "mean", mean)?;
    let [terms] = dims(&WASSERSTEIN_LOSS, "losses", losses)?;
    inside(&WASSERSTEIN_LOSS, "losses", Rect { top: 0, left: slot, height: 1, width: 1 }, 1, terms)?;
    recording.dispatch(
        &WASSERSTEIN_LOSS,
        &WassersteinLossParams { channels: channels as u32, slot: slot as u32, scale },
        &[
            ("mean", mean),
            ("target_mean", target_mean),
            ("cov", cov),
            ("target_cov", target_cov),
            ("root", root),
            ("norms", norms),
            ("losses", losses),
        ],
        Launch { label: label.into(), grid: [1, 1, 1], flops: 9 * channels as u64, ..Launch::default() },
    )
}

/// Records the gradients that `gram_backward` and `mean_backward` take. `lyapunov` is `Y Q Y`: see the shader.
pub fn wasserstein_backward(
    recording: &mut Recording,
    label: &str,
    lyapunov: &Tensor,
    Distributions { mean, target_mean, norms }: Distributions<'_>,
    [scale, gram_scale, mean_scale]: [f32; 3],
    (d_gram, d_mean): (&Tensor, &Tensor),
) -> Result<()> {
    let [channels, _] = dims(&WASSERSTEIN_BACKWARD, "lyapunov", lyapunov)?;
    recording.dispatch(
        &WASSERSTEIN_BACKWARD,
        &WassersteinBackwardParams { channels: channels as u32, scale, gram_scale, mean_scale },
        &[
            ("lyapunov", lyapunov),
            ("mean", mean),
            ("target_mean", target_mean),
            ("norms", norms),
            ("d_gram", d_gram),
            ("d_mean", d_mean),
        ],
        Launch {
            label: label.into(),
            grid: [channels as u32, 1, 1],
            flops: 5 * lyapunov.len() as u64,
            ..Launch::default()
        },
    )
}

fn frobenius_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: FrobeniusParams = call.params()?;
    let [Slot::Read(matrix), Slot::Write(norms)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let squares: f64 = matrix.iter().map(|value| value.wide() * value.wide()).sum();
    norms[params.slot as usize] = T::of_wide(squares.sqrt());
    Ok(())
}

fn newton_schulz_start_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: NewtonSchulzStartParams = call.params()?;
    let [Slot::Read(matrix), Slot::Read(norms), Slot::Write(y), Slot::Write(t)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let norm = norms[params.slot as usize];
    for ((y, t), value) in y.iter_mut().zip(t.iter_mut()).zip(matrix.iter()) {
        *y = *value / norm;
        *t = T::of(-0.5) * *y;
    }
    t.iter_mut().step_by(params.channels as usize + 1).for_each(|entry| *entry += T::of(1.5));
    Ok(())
}

fn wasserstein_loss_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: WassersteinLossParams = call.params()?;
    let [
        Slot::Read(mean),
        Slot::Read(target_mean),
        Slot::Read(cov),
        Slot::Read(target_cov),
        Slot::Read(root),
        Slot::Read(norms),
        Slot::Write(losses),
    ] = call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let norm = norms[0].sqrt() * norms[2].sqrt();
    let mut total = T::zero();
    for (c, (mean, target_mean)) in mean.iter().zip(target_mean.iter()).enumerate() {
        let at = c * (params.channels as usize + 1);
        let difference = *mean - *target_mean;
        total += difference * difference + (target_cov[at] - norm * root[at]) + (cov[at] - norm * root[at]);
    }
    losses[params.slot as usize] += T::of(params.scale) * total;
    Ok(())
}

fn wasserstein_backward_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: WassersteinBackwardParams = call.params()?;
    let [
        Slot::Read(lyapunov),
        Slot::Read(mean),
        Slot::Read(target_mean),
        Slot::Read(norms),
        Slot::Write(d_gram),
        Slot::Write(d_mean),
    ] = call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let channels = params.channels as usize;
    let [scale, gram_scale, mean_scale] = [params.scale, params.gram_scale, params.mean_scale].map(T::of);
    let factor = scale * (norms[2].sqrt() / norms[0].sqrt() / norms[1]);
    for (i, (d_gram, d_mean)) in d_gram.chunks_exact_mut(channels).zip(d_mean.iter_mut()).enumerate() {
        let mut total = T::zero();
        for (j, d_gram) in d_gram.iter_mut().enumerate() {
            let diagonal = if i == j { scale } else { T::zero() };
            let d_cov = diagonal - factor * lyapunov[i * channels + j];
            *d_gram = gram_scale * d_cov;
            total += d_cov * mean[j];
        }
        *d_mean = mean_scale * (scale * (mean[i] - target_mean[i]) - total);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, CHANNELS, Case, ELEMENTWISE, PRODUCTS};
    use super::*;

    /// Small ones of every residue, and those of the network.
    fn sizes() -> impl Iterator<Item = usize> {
        (1..=40).map(|quads| 4 * quads).chain(CHANNELS)
    }

    #[test]
    fn frobenius_agrees_with_its_twin() {
        let mut bench = Bench::new(&FROBENIUS, ELEMENTWISE);
        for (i, channels) in sizes().enumerate() {
            let mut case = Case::new(format!("{channels} channels"));
            let matrix = case.random(&[channels, channels]);
            let slot = i % 3;
            let norms = case.output_where(&[3], move |at| at == slot);
            frobenius(&mut case.recording, "test", &matrix, &norms, slot).unwrap();
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn newton_schulz_start_agrees_with_its_twin() {
        let mut bench = Bench::new(&NEWTON_SCHULZ_START, ELEMENTWISE);
        for (i, channels) in sizes().enumerate() {
            let mut case = Case::new(format!("{channels} channels"));
            let matrix = case.random(&[channels, channels]);
            let norms = case.input(&[3], &[3.0, 0.7, 11.0]);
            let [y, t] = [0, 1].map(|_| case.output(&[channels, channels]));
            newton_schulz_start(&mut case.recording, "test", &matrix, (&norms, i % 3), &y, &t).unwrap();
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn the_loss_and_its_gradient_agree_with_their_twins() {
        let (mut loss, mut backward) =
            (Bench::new(&WASSERSTEIN_LOSS, PRODUCTS), Bench::new(&WASSERSTEIN_BACKWARD, PRODUCTS));
        for (i, channels) in sizes().enumerate() {
            let mut case = Case::new(format!("{channels} channels"));
            let [mean, target_mean] = [0, 1].map(|_| case.random(&[channels]));
            let norms = case.input(&[3], &[3.0, 0.7, 11.0]);
            let distributions = Distributions { mean: &mean, target_mean: &target_mean, norms: &norms };
            // A distance is a sum of positive differences: nothing cancels.
            let [cov, target_cov, root] = [3.0, 3.0, 0.1].map(|scale| {
                let values = case.noise(&[channels, channels]);
                let least = if scale > 1.0 { scale } else { 0.0 };
                let values: Vec<f32> = values.iter().map(|value| least + scale * value.abs()).collect();
                case.input(&[channels, channels], &values)
            });
            let slot = i % 4;
            let losses = case.update_where(&[4], move |at| at == slot);
            let matrices = [&cov, &target_cov, &root];
            wasserstein_loss(&mut case.recording, "test", distributions, matrices, 0.37, (&losses, slot)).unwrap();
            loss.run(&case);

            let mut case = Case::new(format!("{channels} channels"));
            let lyapunov = case.random(&[channels, channels]);
            let [mean, target_mean] = [0, 1].map(|_| case.random(&[channels]));
            let norms = case.input(&[3], &[3.0, 0.7, 11.0]);
            let distributions = Distributions { mean: &mean, target_mean: &target_mean, norms: &norms };
            let (d_gram, d_mean) = (case.output(&[channels, channels]), case.output(&[channels]));
            let factors = [0.37, 1.7, 0.6];
            let to = (&d_gram, &d_mean);
            wasserstein_backward(&mut case.recording, "test", &lyapunov, distributions, factors, to).unwrap();
            backward.run(&case);
        }
        loss.finish();
        backward.finish();
    }
}
