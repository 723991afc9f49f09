//! Arithmetic on whole pictures and other vectors: what optimisers other than Adam's own kernel are made of.

use rayon::prelude::*;

use super::loss::{narrow, sum_reduce};
use super::{dims, grid};
use crate::cpu::vectorized;
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params, words};
use crate::recording::{Launch, Recording, Tensor};

params! {
    /// Parameters of `average_image`.
    AverageImageParams {
        /// Pixels of the picture.
        pixels: u32,
        /// Number of weights.
        iterations: u32,
    }
}

params! {
    /// Parameters of `clamp_image`.
    ClampImageParams {
        /// Pixels of the picture.
        pixels: u32,
        /// Least red.
        lower_red: f32,
        /// Least green.
        lower_green: f32,
        /// Least blue.
        lower_blue: f32,
        /// Most red.
        upper_red: f32,
        /// Most green.
        upper_green: f32,
        /// Most blue.
        upper_blue: f32,
    }
}

params! {
    /// Parameters of `add_scaled`.
    AddScaledParams {
        /// Elements divided by four.
        quads: u32,
        /// Which factor.
        slot: u32,
    }
}

params! {
    /// Parameters of `add_normalized`.
    AddNormalizedParams {
        /// Elements divided by four.
        quads: u32,
        /// Which norm.
        slot: u32,
        /// Weight that is in `input` and in the norm.
        weight: f32,
    }
}

params! {
    /// Parameters of `dot_partial` and `absolute_partial`.
    PartialParams {
        /// Elements divided by four.
        quads: u32,
    }
}

/// See `shaders/average_image.wgsl`.
pub static AVERAGE_IMAGE: Kernel = kernel!(
    "average_image",
    AverageImageParams,
    average_image_twin,
    [float("image", "H W 4"), float("weights", "T"), words("step", "1"), float("average", "H W 4"),]
);

/// See `shaders/clamp_image.wgsl`.
pub static CLAMP_IMAGE: Kernel = kernel!("clamp_image", ClampImageParams, clamp_image_twin, [float("image", "H W 4")]);

/// See `shaders/add_scaled.wgsl`.
pub static ADD_SCALED: Kernel = kernel!(
    "add_scaled",
    AddScaledParams,
    add_scaled_twin,
    [float("input", "H W C"), float("factors", "K"), float("output", "H W C"),]
);

/// See `shaders/add_normalized.wgsl`.
pub static ADD_NORMALIZED: Kernel = kernel!(
    "add_normalized",
    AddNormalizedParams,
    add_normalized_twin,
    [float("input", "H W C"), float("norms", "K"), float("output", "H W C"),]
);

/// See `shaders/dot_partial.wgsl`.
pub static DOT_PARTIAL: Kernel = kernel!(
    "dot_partial",
    PartialParams,
    dot_partial_twin,
    [float("input", "H W C"), float("other", "H W C"), float("partial", "P"),]
);

/// See `shaders/absolute_partial.wgsl`.
pub static ABSOLUTE_PARTIAL: Kernel = kernel!(
    "absolute_partial",
    PartialParams,
    absolute_partial_twin,
    [float("input", "H W C"), float("partial", "P"),]
);

/// Pixels or quads of a tensor, and the grid of one thread for each.
fn quads(kernel: &'static Kernel, binding: &'static str, tensor: &Tensor) -> Result<(u32, [u32; 3])> {
    let [height, width, channels] = dims(kernel, binding, tensor)?;
    let quads = height * width * channels / 4;
    Ok((quads as u32, grid(quads.div_ceil(256), 1)))
}

/// Records `average += weights[step] * (image - average)`.
pub fn average_image(
    recording: &mut Recording,
    image: &Tensor,
    weights: &Tensor,
    step: &Tensor,
    average: &Tensor,
) -> Result<()> {
    let (pixels, grid) = quads(&AVERAGE_IMAGE, "image", image)?;
    let [iterations] = dims(&AVERAGE_IMAGE, "weights", weights)?;
    recording.dispatch(
        &AVERAGE_IMAGE,
        &AverageImageParams { pixels, iterations: iterations as u32 },
        &[("image", image), ("weights", weights), ("step", step), ("average", average)],
        Launch { label: "average".into(), grid, flops: 3 * image.len() as u64, ..Launch::default() },
    )
}

/// Records `image = min(max(image, lower), upper)`.
pub fn clamp_image(recording: &mut Recording, image: &Tensor, lower: [f32; 3], upper: [f32; 3]) -> Result<()> {
    let (pixels, grid) = quads(&CLAMP_IMAGE, "image", image)?;
    let [lower_red, lower_green, lower_blue] = lower;
    let [upper_red, upper_green, upper_blue] = upper;
    recording.dispatch(
        &CLAMP_IMAGE,
        &ClampImageParams { pixels, lower_red, lower_green, lower_blue, upper_red, upper_green, upper_blue },
        &[("image", image)],
        Launch { label: "image".into(), grid, flops: 2 * image.len() as u64, ..Launch::default() },
    )
}

/// Records `output += factors[slot] * input`.
pub fn add_scaled(
    recording: &mut Recording,
    label: &str,
    input: &Tensor,
    (factors, slot): (&Tensor, usize),
    output: &Tensor,
) -> Result<()> {
    let (quads, grid) = quads(&ADD_SCALED, "input", input)?;
    recording.dispatch(
        &ADD_SCALED,
        &AddScaledParams { quads, slot: slot as u32 },
        &[("input", input), ("factors", factors), ("output", output)],
        Launch { label: label.into(), grid, flops: 2 * input.len() as u64, ..Launch::default() },
    )
}

/// Records `output += input / (norms[slot] / weight + 1e-8)`.
pub fn add_normalized(
    recording: &mut Recording,
    label: &str,
    input: &Tensor,
    (norms, slot, weight): (&Tensor, usize, f32),
    output: &Tensor,
) -> Result<()> {
    let (quads, grid) = quads(&ADD_NORMALIZED, "input", input)?;
    recording.dispatch(
        &ADD_NORMALIZED,
        &AddNormalizedParams { quads, slot: slot as u32, weight },
        &[("input", input), ("norms", norms), ("output", output)],
        Launch { label: label.into(), grid, flops: 2 * input.len() as u64, ..Launch::default() },
    )
}

/// Records `sums[slot] += input · other`. `partial` is scratch memory.
pub fn dot(
    recording: &mut Recording,
    label: &str,
    [input, other]: [&Tensor; 2],
    partial: &Tensor,
    (sums, slot): (&Tensor, usize),
) -> Result<()> {
    let (quads, _) = quads(&DOT_PARTIAL, "input", input)?;
    let [partials] = dims(&DOT_PARTIAL, "partial", partial)?;
    recording.dispatch(
        &DOT_PARTIAL,
        &PartialParams { quads },
        &[("input", input), ("other", other), ("partial", partial)],
        Launch {
            label: label.into(),
            grid: [partials as u32, 1, 1],
            flops: 2 * input.len() as u64,
            ..Launch::default()
        },
    )?;
    sum_reduce(recording, label, partial, 1.0, sums, slot)
}

/// Records `sums[slot] += sum of |input|`. `partial` is scratch memory.
pub fn absolute_sum(
    recording: &mut Recording,
    label: &str,
    input: &Tensor,
    partial: &Tensor,
    (sums, slot): (&Tensor, usize),
) -> Result<()> {
    let (quads, _) = quads(&ABSOLUTE_PARTIAL, "input", input)?;
    let [partials] = dims(&ABSOLUTE_PARTIAL, "partial", partial)?;
    recording.dispatch(
        &ABSOLUTE_PARTIAL,
        &PartialParams { quads },
        &[("input", input), ("partial", partial)],
        Launch { label: label.into(), grid: [partials as u32, 1, 1], flops: input.len() as u64, ..Launch::default() },
    )?;
    sum_reduce(recording, label, partial, 1.0, sums, slot)
}

/// Elements that a thread of the CPU engine takes at once.
const CHUNK: usize = 4096;

fn average_image_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: AverageImageParams = call.params()?;
    let [Slot::Read(image), Slot::Read(weights), Slot::ReadWords(step), Slot::Write(average)] =
        call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let weight = weights[step[0].min(params.iterations.saturating_sub(1)) as usize];
    average.par_chunks_mut(CHUNK).zip(image.par_chunks(CHUNK)).for_each(|(average, image)| {
        approach(average, image, weight);
    });
    Ok(())
}

fn clamp_image_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ClampImageParams = call.params()?;
    let [Slot::Write(image)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let lower = [params.lower_red, params.lower_green, params.lower_blue, 0.0].map(T::of);
    let upper = [params.upper_red, params.upper_green, params.upper_blue, 0.0].map(T::of);
    image.par_chunks_mut(4).for_each(|pixel| {
        for ((value, lower), upper) in pixel.iter_mut().zip(lower).zip(upper) {
            *value = value.max(lower).min(upper);
        }
    });
    Ok(())
}

fn add_scaled_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: AddScaledParams = call.params()?;
    let [Slot::Read(input), Slot::Read(factors), Slot::Write(output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    add_all(output, input, factors[params.slot as usize]);
    Ok(())
}

fn add_normalized_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: AddNormalizedParams = call.params()?;
    let [Slot::Read(input), Slot::Read(norms), Slot::Write(output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let divisor = norms[params.slot as usize] / T::of(params.weight) + T::of(1e-8);
    add_all(output, input, T::one() / divisor);
    Ok(())
}

fn add_all<T: Real>(output: &mut [T], input: &[T], factor: T) {
    let pieces = output.par_chunks_mut(CHUNK).zip(input.par_chunks(CHUNK));
    pieces.for_each(|(output, input)| add_multiple(output, input, factor));
}

fn dot_partial_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let [Slot::Read(input), Slot::Read(other), Slot::Write(partial)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    runs(partial, input.len(), |sums, run| add_products(sums, &input[run.clone()], &other[run]));
    Ok(())
}

fn absolute_partial_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let [Slot::Read(input), Slot::Write(partial)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    runs(partial, input.len(), |sums, run| add_absolutes(sums, &input[run]));
    Ok(())
}

/// Partial sum i takes every P-th run of 1024 elements from run i on, in the shaders as here; added up in double
/// precision.
fn runs<T: Real>(partial: &mut [T], total: usize, add: impl Fn(&mut [f64; 16], std::ops::Range<usize>) + Sync) {
    let count = partial.len();
    partial.par_iter_mut().enumerate().for_each(|(group, partial)| {
        let mut sums = [0.0; 16];
        for begin in (group * 1024..total).step_by(count * 1024) {
            add(&mut sums, begin..(begin + 1024).min(total));
        }
        *partial = narrow(sums.iter().sum());
    });
}

vectorized! {
    /// `to += weight * (from - to)`.
    fn approach<T>(to: &'a mut [T], from: &'a [T], weight: T) {
        for (to, from) in to.iter_mut().zip(from) {
            *to += weight * (*from - *to);
        }
    }
}

vectorized! {
    /// `to += factor * from`.
    fn add_multiple<T>(to: &'a mut [T], from: &'a [T], factor: T) {
        for (to, from) in to.iter_mut().zip(from) {
            *to += factor * *from;
        }
    }
}

vectorized! {
    /// `sums += a b`, in lanes.
    fn add_products<T>(sums: &'a mut [f64; 16], a: &'a [T], b: &'a [T]) {
        for (a, b) in a.chunks(16).zip(b.chunks(16)) {
            for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                *sum += a.wide() * b.wide();
            }
        }
    }
}

vectorized! {
    /// `sums += |a|`, in lanes.
    fn add_absolutes<T>(sums: &'a mut [f64; 16], a: &'a [T]) {
        for a in a.chunks(16) {
            for (sum, a) in sums.iter_mut().zip(a) {
                *sum += a.wide().abs();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, ELEMENTWISE, MAPS, maps};
    use super::*;

    #[test]
    fn average_image_agrees_with_its_twin() {
        let mut bench = Bench::new(&AVERAGE_IMAGE, ELEMENTWISE);
        for (i, (height, width)) in MAPS.into_iter().chain([(40, 61)]).enumerate() {
            // The last step lies beyond the weights, whose last one then holds.
            for now in [0, 2, 9] {
                let mut case = Case::new(format!("{height}x{width}, step {now}"));
                let shape = [height, width, 4];
                let image = case.random(&shape);
                let weights = case.input(&[4], &[0.5, 0.3, 0.1, 0.01]);
                let step = case.words(&[now], false);
                let average = case.update_where(&shape, |_| true);
                average_image(&mut case.recording, &image, &weights, &step, &average).unwrap();
                if i % 3 == 2 {
                    case.fold();
                }
                bench.run(&case);
            }
        }
        bench.finish();
    }

    #[test]
    fn clamp_image_agrees_with_its_twin_and_keeps_the_padding() {
        let mut bench = Bench::new(&CLAMP_IMAGE, ELEMENTWISE);
        for (i, (height, width)) in MAPS.into_iter().chain([(40, 61)]).enumerate() {
            for (lower, upper) in [([-0.5, -0.25, 0.0], [0.5, 0.75, 0.1]), ([-2.0; 3], [2.0; 3]), ([0.1; 3], [0.2; 3])]
            {
                let mut case = Case::new(format!("{height}x{width} to {lower:?}..{upper:?}"));
                let shape = [height, width, 4];
                let image = case.update_with(&shape, &case.padded_noise(&shape));
                clamp_image(&mut case.recording, &image, lower, upper).unwrap();
                if i % 3 == 2 {
                    case.fold();
                }
                bench.run_and(&case, |ran| ran.check_padding(&image));
            }
        }
        bench.finish();
    }

    #[test]
    fn add_scaled_agrees_with_its_twin() {
        let mut bench = Bench::new(&ADD_SCALED, ELEMENTWISE);
        for (i, shape) in maps().enumerate() {
            let mut case = Case::new(format!("{shape:?}"));
            let input = case.random(&shape);
            let factors = case.input(&[3], &[0.37, -1.25, 1e-3]);
            let output = case.update_where(&shape, |_| true);
            add_scaled(&mut case.recording, "test", &input, (&factors, i % 3), &output).unwrap();
            if i % 4 == 3 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn add_normalized_agrees_with_its_twin() {
        let mut bench = Bench::new(&ADD_NORMALIZED, ELEMENTWISE);
        for (i, shape) in maps().enumerate() {
            let mut case = Case::new(format!("{shape:?}"));
            let input = case.random(&shape);
            // Nothing at all is divided by nothing at all.
            let norms = case.input(&[3], &[12.5, 3e4, 1e-7]);
            let output = case.update_where(&shape, |_| true);
            add_normalized(&mut case.recording, "test", &input, (&norms, i % 3, 0.7), &output).unwrap();
            if i % 4 == 3 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn partial_sums_agree_with_their_twins() {
        let [mut dots, mut absolutes] = [&DOT_PARTIAL, &ABSOLUTE_PARTIAL].map(|kernel| Bench::new(kernel, ELEMENTWISE));
        for (i, shape) in maps().enumerate() {
            let mut case = Case::new(format!("{shape:?}"));
            // Of one sign: sums that cancel have no relative error to speak of.
            let values: Vec<f32> = case.noise(&shape).iter().map(|value| value.abs()).collect();
            let input = case.input(&shape, &values);
            let other = case.input(&shape, &values.iter().rev().copied().collect::<Vec<_>>());
            let partial = case.output(&[[1, 2, 5][i % 3]]);
            let sums = case.update_where(&[4], move |at| at == i % 4);
            dot(&mut case.recording, "test", [&input, &other], &partial, (&sums, i % 4)).unwrap();
            dots.run(&case);
            let mut case = Case::new(format!("{shape:?}"));
            let input = case.random(&shape);
            let partial = case.output(&[[1, 2, 5][i % 3]]);
            let sums = case.update_where(&[4], move |at| at == i % 4);
            absolute_sum(&mut case.recording, "test", &input, &partial, (&sums, i % 4)).unwrap();
            absolutes.run(&case);
        }
        dots.finish();
        absolutes.finish();
    }
}
