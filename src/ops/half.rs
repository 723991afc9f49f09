//! Maps of half precision: a word holds two channels, the lower one in the lower bits. Between convolutions nothing else is
//! kept; whatever sums up (losses, Gram matrices, the picture's gradient) does it in single precision, and converts here.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use rayon::prelude::*;

use super::{Rect, dims, grid, inside};
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params, words};
use crate::recording::{Launch, Recording, Tensor};

params! {
    /// Parameters of `widen` and `add_narrowed`: those of `copy_half`, and a factor.
    ConvertParams {
        /// Rows of the rectangle.
        height: u32,
        /// Columns of the rectangle.
        width: u32,
        /// Channels.
        channels: u32,
        /// Columns of the source.
        source_width: u32,
        /// First row in the source.
        from_top: u32,
        /// First column in the source.
        from_left: u32,
        /// Columns of the destination.
        destination_width: u32,
        /// First row in the destination.
        to_top: u32,
        /// First column in the destination.
        to_left: u32,
        /// Index of the factor.
        slot: u32,
    }
}

params! {
    /// Parameters of `copy_half`.
    CopyHalfParams {
        /// Rows of the rectangle.
        height: u32,
        /// Columns of the rectangle.
        width: u32,
        /// Channels.
        channels: u32,
        /// Columns of the source.
        source_width: u32,
        /// First row in the source.
        from_top: u32,
        /// First column in the source.
        from_left: u32,
        /// Columns of the destination.
        destination_width: u32,
        /// First row in the destination.
        to_top: u32,
        /// First column in the destination.
        to_left: u32,
    }
}

params! {
    /// Parameters of `split_picture`.
    SplitPictureParams {
        /// Number of pixels.
        pixels: u32,
    }
}

/// See `shaders/widen.wgsl`.
pub static WIDEN: Kernel = kernel!(
    "widen",
    ConvertParams,
    widen_twin,
    [float("destination", "Hd Wd C"), words("source", "Hs Ws C/2"), float("factors", "K")]
);

/// See `shaders/add_narrowed.wgsl`.
pub static ADD_NARROWED: Kernel = kernel!(
    "add_narrowed",
    ConvertParams,
    add_narrowed_twin,
    [float("source", "Hs Ws C"), float("factors", "K"), words("destination", "Hd Wd C/2")]
);

/// See `shaders/copy_half.wgsl`.
pub static COPY_HALF: Kernel =
    kernel!("copy_half", CopyHalfParams, copy_half_twin, [words("source", "Hs Ws P"), words("destination", "Hd Wd P")]);

/// See `shaders/split_picture.wgsl`.
pub static SPLIT_PICTURE: Kernel = kernel!(
    "split_picture",
    SplitPictureParams,
    split_picture_twin,
    [float("input", "H W 4"), words("output", "H W 4")]
);

/// Shape of an `[H, W, C]` map's words.
pub fn half_shape([height, width, channels]: [usize; 3]) -> [usize; 3] {
    [height, width, channels.div_ceil(2)]
}

/// A factor among others, which lie in a buffer of `[K]`.
#[derive(Clone, Copy, Debug)]
pub struct Factor<'a> {
    /// All of them.
    pub factors: &'a Tensor,
    /// Which.
    pub slot: usize,
}

/// Records `destination = factor * source` of the rectangle `from` of a map of halves, put at a place of an f32 map.
pub fn widen(
    recording: &mut Recording,
    label: &str,
    (source, from): (&Tensor, Rect),
    factor: Factor<'_>,
    (destination, top, left): (&Tensor, usize, usize),
) -> Result<()> {
    let [height, width, channels] = dims(&WIDEN, "destination", destination)?;
    let source_size: [usize; 3] = dims(&WIDEN, "source", source)?;
    let place = Place { from, source: source_size, to: (top, left), destination: [height, width], channels };
    let params = place.params(&WIDEN, factor)?;
    let tensors = [("source", source), ("factors", factor.factors), ("destination", destination)];
    recording.dispatch(&WIDEN, &params, &tensors, place.launch(label, 6))
}

/// Records `destination += factor * source` of the rectangle `from` of an f32 map, put at a place of a map of halves.
pub fn add_narrowed(
    recording: &mut Recording,
    label: &str,
    (source, from): (&Tensor, Rect),
    factor: Factor<'_>,
    (destination, top, left): (&Tensor, usize, usize),
) -> Result<()> {
    let [height, width, _] = dims(&ADD_NARROWED, "destination", destination)?;
    let source_size @ [_, _, channels] = dims(&ADD_NARROWED, "source", source)?;
    let place = Place { from, source: source_size, to: (top, left), destination: [height, width], channels };
    let params = place.params(&ADD_NARROWED, factor)?;
    let tensors = [("source", source), ("factors", factor.factors), ("destination", destination)];
    recording.dispatch(&ADD_NARROWED, &params, &tensors, place.launch(label, 6))
}

/// Records a copy of the rectangle `from` of a map of halves to a place in another.
pub fn copy_half(
    recording: &mut Recording,
    label: &str,
    (source, from): (&Tensor, Rect),
    (destination, top, left): (&Tensor, usize, usize),
) -> Result<()> {
    let [height, width, _] = dims(&COPY_HALF, "destination", destination)?;
    let source_size @ [_, _, pairs] = dims(&COPY_HALF, "source", source)?;
    let place = Place { from, source: source_size, to: (top, left), destination: [height, width], channels: 2 * pairs };
    let params: CopyHalfParams = bytemuck::cast(place.numbers(&COPY_HALF)?);
    let tensors = [("source", source), ("destination", destination)];
    recording.dispatch(&COPY_HALF, &params, &tensors, place.launch(label, 4))
}

/// Records a picture `[H, W, 4]` as eight channels of halves, of which the first four and the last four add up to it.
pub fn split_picture(recording: &mut Recording, label: &str, input: &Tensor, output: &Tensor) -> Result<()> {
    let [height, width, _] = dims(&SPLIT_PICTURE, "input", input)?;
    let pixels = height * width;
    let launch = Launch {
        label: label.into(),
        grid: grid(pixels.div_ceil(256), 1),
        flops: 8 * pixels as u64,
        ..Launch::default()
    };
    let params = SplitPictureParams { pixels: pixels as u32 };
    recording.dispatch(&SPLIT_PICTURE, &params, &[("input", input), ("output", output)], launch)
}

impl ConvertParams {
    /// What it begins with.
    fn place(&self) -> CopyHalfParams {
        bytemuck::pod_read_unaligned(&bytemuck::bytes_of(self)[..size_of::<CopyHalfParams>()])
    }
}

/// A rectangle of one map and where it goes in another.
struct Place {
    from: Rect,
    source: [usize; 3],
    to: (usize, usize),
    destination: [usize; 2],
    channels: usize,
}

impl Place {
    fn numbers(&self, kernel: &'static Kernel) -> Result<[u32; 9]> {
        let Place { from, source: [source_height, source_width, _], to: (top, left), .. } = *self;
        let [height, width] = self.destination;
        inside(kernel, "source", from, source_height, source_width)?;
        inside(kernel, "destination", Rect { top, left, ..from }, height, width)?;
        let of = [from.height, from.width, self.channels, source_width, from.top, from.left, width, top, left];
        Ok(of.map(|number| number as u32))
    }

    fn params(&self, kernel: &'static Kernel, Factor { factors, slot }: Factor<'_>) -> Result<ConvertParams> {
        let [count] = dims(kernel, "factors", factors)?;
        inside(kernel, "factors", Rect { top: slot, left: 0, height: 1, width: 1 }, count, 1)?;
        let mut numbers = [slot as u32; 10];
        numbers[..9].copy_from_slice(&self.numbers(kernel)?);
        Ok(bytemuck::cast(numbers))
    }

    /// With the bytes that move per element.
    fn launch(&self, label: &str, bytes: u64) -> Launch {
        let elements = self.from.area() * self.channels;
        Launch {
            label: label.into(),
            grid: grid((elements / 4).div_ceil(256), 1),
            flops: elements as u64,
            bytes: Some(bytes * elements as u64),
            ..Launch::default()
        }
    }
}

/// Words of halves as numbers, which are exact.
pub(crate) fn widened<T: Real>(to: &mut [T], words: &[u32]) {
    // Words are little-endian wherever wgpu runs: the lower half comes first.
    let halves: &[f16] = bytemuck::cast_slice::<u32, u16>(words).reinterpret_cast();
    if T::ORACLE {
        to.iter_mut().zip(halves).for_each(|(to, half)| *to = T::of(half.to_f32()));
    } else {
        halves.convert_to_f32_slice(bytemuck::cast_slice_mut(to));
    }
}

/// Numbers rounded to halves.
pub(crate) fn narrowed<T: Real>(words: &mut [u32], from: &[T]) {
    let halves: &mut [f16] = bytemuck::cast_slice_mut::<u32, u16>(words).reinterpret_cast_mut();
    if T::ORACLE {
        halves.iter_mut().zip(from).for_each(|(half, from)| *half = f16::from_f64(from.wide()));
    } else {
        halves.convert_from_f32_slice(bytemuck::cast_slice(from));
    }
}

/// Numbers as words of halves, for uploads.
pub fn packed(values: &[f32]) -> Vec<u32> {
    let mut words = vec![0; values.len().div_ceil(2)];
    for (word, pair) in words.iter_mut().zip(values.chunks(2)) {
        let half = |at: usize| u32::from(f16::from_f32(pair.get(at).copied().unwrap_or(0.0)).to_bits());
        *word = half(0) | half(1) << 16;
    }
    words
}

/// The numbers that words of halves hold.
pub fn unpacked(words: &[u32]) -> Vec<f32> {
    let half = |bits: u32| f16::from_bits(bits as u16).to_f32();
    words.iter().flat_map(|word| [half(*word), half(word >> 16)]).collect()
}

/// Four channels of two words.
#[inline(always)]
pub(super) fn quad<T: Real>(words: &[u32]) -> [T; 4] {
    [0, 1, 2, 3].map(|c| T::of(f16::from_bits((words[c / 2] >> (c % 2 * 16)) as u16).to_f32()))
}

/// Two words of four channels.
#[inline(always)]
pub(super) fn pair<T: Real>(values: [T; 4]) -> [u32; 2] {
    let half = |value: T| {
        let half = if T::ORACLE { f16::from_f64(value.wide()) } else { f16::from_f32(value.wide() as f32) };
        u32::from(half.to_bits())
    };
    let [a, b, c, d] = values.map(half);
    [a | b << 16, c | d << 16]
}

/// The rows of a rectangle in two maps, with `[source, destination]` elements per pixel.
fn rows<'a, A: Sync, B: Send>(
    params: &CopyHalfParams,
    source: &'a [A],
    destination: &'a mut [B],
    [per_source, per_destination]: [usize; 2],
) -> impl IndexedParallelIterator<Item = (&'a mut [B], &'a [A])> {
    let [from_row, row] =
        [params.source_width as usize * per_source, params.destination_width as usize * per_destination];
    let (from, to) = (params.from_left as usize * per_source, params.to_left as usize * per_destination);
    let (taken, written) = (params.width as usize * per_source, params.width as usize * per_destination);
    let source = &source[params.from_top as usize * from_row..];
    let destination = &mut destination[params.to_top as usize * row..];
    destination
        .par_chunks_mut(row)
        .zip(source.par_chunks(from_row))
        .take(params.height as usize)
        .map(move |(destination, source)| (&mut destination[to..][..written], &source[from..][..taken]))
}

fn widen_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ConvertParams = call.params()?;
    let [Slot::Write(destination), Slot::ReadWords(source), Slot::Read(factors)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let (channels, factor) = (params.channels as usize, factors[params.slot as usize]);
    rows(&params.place(), source, destination, [channels / 2, channels]).for_each(|(to, words)| {
        for (to, words) in to.chunks_exact_mut(4).zip(words.chunks_exact(2)) {
            for (to, value) in to.iter_mut().zip(quad::<T>(words)) {
                *to = factor * value;
            }
        }
    });
    Ok(())
}

fn add_narrowed_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ConvertParams = call.params()?;
    let [Slot::Read(source), Slot::Read(factors), Slot::WriteWords(destination)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let (channels, factor) = (params.channels as usize, factors[params.slot as usize]);
    rows(&params.place(), source, destination, [channels, channels / 2]).for_each(|(words, from)| {
        for (words, from) in words.chunks_exact_mut(2).zip(from.chunks_exact(4)) {
            let before = quad::<T>(words);
            words.copy_from_slice(&pair([0, 1, 2, 3].map(|c| before[c] + factor * from[c])));
        }
    });
    Ok(())
}

fn copy_half_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: CopyHalfParams = call.params()?;
    let [Slot::ReadWords(source), Slot::WriteWords(destination)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let pairs = params.channels as usize / 2;
    rows(&params, source, destination, [pairs; 2]).for_each(|(to, from)| to.copy_from_slice(from));
    Ok(())
}

fn split_picture_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let [Slot::Read(input), Slot::WriteWords(output)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    for (words, pixel) in output.chunks_exact_mut(4).zip(input.chunks_exact(4)) {
        let all = [pixel[0], pixel[1], pixel[2], pixel[3]];
        let high = pair(all);
        let near = quad::<T>(&high);
        words[..2].copy_from_slice(&high);
        words[2..].copy_from_slice(&pair([0, 1, 2, 3].map(|c| all[c] - near[c])));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, ELEMENTWISE, HALVES, maps, owned, within};
    use super::*;

    /// A rectangle of each map, and a map that it goes to.
    fn places() -> impl Iterator<Item = ([usize; 3], Rect, [usize; 3], [usize; 2], usize)> {
        maps().enumerate().map(|(i, shape @ [height, width, channels])| {
            let from = owned(height, width, i);
            let (top, left) = (i % 3, i % 4);
            let destination = [top + from.height + i % 2, left + from.width + i % 5, channels];
            (shape, from, destination, [top, left], i)
        })
    }

    #[test]
    fn widen_agrees_with_its_twin_inside_its_rectangle() {
        let mut bench = Bench::new(&WIDEN, ELEMENTWISE);
        for (shape, from, destination, [top, left], i) in places() {
            let mut case = Case::new(format!("{from:?} of {shape:?}"));
            let source = case.random_halves(&half_shape(shape));
            let factors = case.input(&[3], &[0.5, -0.25, 4.0]);
            let written = within(Rect { top, left, ..from }, destination[1], destination[2]);
            let to = case.output_where(&destination, written);
            let factor = Factor { factors: &factors, slot: i % 3 };
            widen(&mut case.recording, "test", (&source, from), factor, (&to, top, left)).unwrap();
            if i % 7 == 6 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn add_narrowed_agrees_with_its_twin_inside_its_rectangle() {
        let mut bench = Bench::new(&ADD_NARROWED, HALVES);
        for (shape, from, destination, [top, left], i) in places() {
            let mut case = Case::new(format!("{from:?} of {shape:?}"));
            let source = case.random(&shape);
            let factors = case.input(&[3], &[0.5, -0.25, 4.0]);
            let pairs = destination[2] / 2;
            let written = within(Rect { top, left, ..from }, destination[1], pairs);
            let to = case.halves_where(&half_shape(destination), true, written);
            let factor = Factor { factors: &factors, slot: i % 3 };
            add_narrowed(&mut case.recording, "test", (&source, from), factor, (&to, top, left)).unwrap();
            if i % 7 == 6 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn copy_half_writes_its_rectangle_and_nothing_else() {
        let mut bench = Bench::new(&COPY_HALF, HALVES);
        for (shape, from, destination, [top, left], i) in places() {
            let mut case = Case::new(format!("{from:?} of {shape:?}"));
            let source = case.random_halves(&half_shape(shape));
            let written = within(Rect { top, left, ..from }, destination[1], destination[2] / 2);
            let to = case.halves_where(&half_shape(destination), false, written);
            copy_half(&mut case.recording, "test", (&source, from), (&to, top, left)).unwrap();
            if i % 7 == 6 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }

    #[test]
    fn a_split_picture_adds_up_to_itself() {
        let mut bench = Bench::new(&SPLIT_PICTURE, HALVES);
        for (i, [height, width, _]) in maps().filter(|[_, _, channels]| *channels == 4).enumerate() {
            let mut case = Case::new(format!("{height}x{width}"));
            let values: Vec<f32> = case.noise(&[height, width, 4]).iter().map(|value| 150.0 * value).collect();
            let input = case.input(&[height, width, 4], &values);
            let output = case.output_halves(&[height, width, 4]);
            split_picture(&mut case.recording, "test", &input, &output).unwrap();
            if i % 3 == 2 {
                case.fold();
            }
            bench.run_and(&case, |ran| {
                let halves = ran.halves(&output);
                for (parts, values) in halves.chunks_exact(8).zip(values.chunks_exact(4)) {
                    for c in 0..4 {
                        let sum = parts[c] + parts[c + 4];
                        assert!((sum - values[c]).abs() <= 150.0 / (1 << 21) as f32, "{}: {sum}", ran.name);
                    }
                }
            });
        }
        bench.finish_after(14);
    }

    /// Ties go to the even neighbour, what is too large becomes infinite, what is small keeps fewer bits.
    #[test]
    fn numbers_are_rounded_to_the_nearest_half() {
        let ulp = 1.0 / 1024.0;
        for (value, expected) in [
            (1.0 + 0.5 * ulp, 1.0),
            (1.0 + 1.5 * ulp, 1.0 + 2.0 * ulp),
            (-1.0 - 0.51 * ulp, -1.0 - ulp),
            (65_504.0, 65_504.0),
            (65_519.0, 65_504.0),
            (65_520.0, f32::INFINITY),
            (3.0 / (1 << 24) as f32, 3.0 / (1 << 24) as f32),
        ] {
            let mut words = [0];
            narrowed(&mut words, &[value, 0.0]);
            let mut back = [0.0_f32; 2];
            widened(&mut back, &words);
            assert_eq!(back, [expected, 0.0], "{value}");
            assert_eq!(quad::<f32>(&pair([value, 0.0, value, value])), [expected, 0.0, expected, expected]);
            assert_eq!(pair([f64::from(value), 0.0, 0.0, 0.0]), [words[0], 0], "{value}: both precisions");
        }
    }
}
