//! One step of Adam on the picture.

use rayon::prelude::*;

use super::{dims, grid};
use crate::cpu::vectorized;
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params, words};
use crate::recording::{Launch, Recording, Tensor};

params! {
    /// Parameters of `adam`.
    AdamParams {
        /// Pixels of the picture.
        pixels: u32,
        /// Rows of the schedule.
        iterations: u32,
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
    }
}

/// See `shaders/adam.wgsl`.
pub static ADAM: Kernel = kernel!(
    "adam",
    AdamParams,
    adam_twin,
    [
        float("d_image", "H W 4"),
        float("schedule", "T 2"),
        words("step", "1"),
        float("image", "H W 4"),
        float("m", "H W 4"),
        float("v", "H W 4"),
    ]
);

/// What a step reads and changes.
#[derive(Clone, Copy, Debug)]
pub struct AdamTensors<'a> {
    /// Gradient, `[H, W, 4]`.
    pub d_image: &'a Tensor,
    /// `(rate, epsilon)` of each iteration, `[T, 2]`: see the shader for the two forms.
    pub schedule: &'a Tensor,
    /// The iteration, `[1]`.
    pub step: &'a Tensor,
    /// Picture, `[H, W, 4]`.
    pub image: &'a Tensor,
    /// First moment.
    pub m: &'a Tensor,
    /// Second moment.
    pub v: &'a Tensor,
}

/// Records one step.
pub fn adam(recording: &mut Recording, tensors: AdamTensors<'_>, beta1: f32, beta2: f32) -> Result<()> {
    let [height, width, _] = dims(&ADAM, "image", tensors.image)?;
    let [iterations, _] = dims(&ADAM, "schedule", tensors.schedule)?;
    recording.dispatch(
        &ADAM,
        &AdamParams { pixels: (height * width) as u32, iterations: iterations as u32, beta1, beta2 },
        &[
            ("d_image", tensors.d_image),
            ("schedule", tensors.schedule),
            ("step", tensors.step),
            ("image", tensors.image),
            ("m", tensors.m),
            ("v", tensors.v),
        ],
        Launch {
            label: "image".into(),
            grid: grid((height * width).div_ceil(256), 1),
            flops: 12 * tensors.image.len() as u64,
            ..Launch::default()
        },
    )
}

fn adam_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: AdamParams = call.params()?;
    let [
        Slot::Read(d_image),
        Slot::Read(schedule),
        Slot::ReadWords(step),
        Slot::Write(image),
        Slot::Write(m),
        Slot::Write(v),
    ] = call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let row = step[0].min(params.iterations.saturating_sub(1)) as usize;
    let (rate, epsilon) = (schedule[row * 2], schedule[row * 2 + 1]);
    // 1 - beta is formed in single precision, as the shader forms it.
    let [beta1, beta2] = [params.beta1, params.beta2].map(T::of);
    let [rest1, rest2] = [1.0 - params.beta1, 1.0 - params.beta2].map(T::of);
    let state = image.par_chunks_mut(4096).zip(m.par_chunks_mut(4096)).zip(v.par_chunks_mut(4096));
    state.zip(d_image.par_chunks(4096)).for_each(|(((image, m), v), d_image)| {
        update(image, [m, v], d_image, [[beta1, rest1], [beta2, rest2]], rate, epsilon);
    });
    Ok(())
}

vectorized! {
    fn update<T>(
        image: &'a mut [T],
        moments: [&'a mut [T]; 2],
        d_image: &'a [T],
        decays: [[T; 2]; 2],
        rate: T,
        epsilon: T,
    ) {
        let ([m, v], [first, second]) = (moments, decays);
        for (((x, m), v), g) in image.iter_mut().zip(m).zip(v).zip(d_image) {
            *m = first[0] * *m + first[1] * *g;
            *v = second[0] * *v + second[1] * *g * *g;
            *x -= rate * *m / (v.sqrt() + epsilon);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, ELEMENTWISE, MAPS};
    use super::*;

    #[test]
    fn adam_agrees_with_its_twin() {
        let mut bench = Bench::new(&ADAM, ELEMENTWISE);
        for (i, (height, width)) in MAPS.into_iter().chain([(40, 61)]).enumerate() {
            // The last step lies beyond the schedule, whose last row then holds.
            for now in [0, 2, 9] {
                let mut case = Case::new(format!("{height}x{width}, step {now}"));
                let shape = [height, width, 4];
                let d_image = case.random(&shape);
                let schedule = case.input(&[4, 2], &[0.5, 1e-3, 0.4, 1e-2, 0.3, 1e-1, 0.2, 1.0]);
                let step = case.words(&[now], false);
                let image = case.update_where(&shape, |_| true);
                let m = case.update_where(&shape, |_| true);
                let v = case.update_with(&shape, &case.noise(&shape).iter().map(|v| v.abs()).collect::<Vec<_>>());
                let tensors =
                    AdamTensors { d_image: &d_image, schedule: &schedule, step: &step, image: &image, m: &m, v: &v };
                adam(&mut case.recording, tensors, 0.9, 0.999).unwrap();
                if i % 3 == 2 {
                    case.fold();
                }
                bench.run(&case);
            }
        }
        bench.finish();
    }
    #[test]
    fn the_fourth_channel_stays_zero() {
        let mut bench = Bench::new(&ADAM, ELEMENTWISE);
        for (height, width) in [(1, 1), (5, 8), (17, 33)] {
            let mut case = Case::new(format!("{height}x{width} of 3 channels"));
            let shape = [height, width, 4];
            let d_image = case.input(&shape, &case.padded_noise(&shape));
            let schedule = case.input(&[1, 2], &[5.0, 1e-8]);
            let step = case.words(&[0], false);
            let image = case.update_with(&shape, &case.padded_noise(&shape));
            let m = case.update_with(&shape, &case.padded_noise(&shape));
            let v = case.padded_noise(&shape).iter().map(|v| v.abs()).collect::<Vec<_>>();
            let v = case.update_with(&shape, &v);
            let tensors =
                AdamTensors { d_image: &d_image, schedule: &schedule, step: &step, image: &image, m: &m, v: &v };
            adam(&mut case.recording, tensors, 0.9, 0.999).unwrap();
            bench.run_and(&case, |ran| [&image, &m, &v].into_iter().for_each(|tensor| ran.check_padding(tensor)));
        }
        bench.finish_after(3);
    }
}
