//! 3x3 convolution by Winograd's F(4x4, 3x3), there and back: a quarter of the multiplications, in three kernels.
//!
//! Tiles of 4x4 outputs are transformed, 36 matrix products follow in one launch, and the way back writes the outputs.
//! Transformed tiles and products of a large map would take 4.5 times its memory: they come in bands.

use rayon::prelude::*;

use super::{dims, grid};
use crate::cpu::{Matrix, WINOGRAD_FILTER, matmul};
use crate::error::{Error, Result};
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params, words};
use crate::recording::{Block, Launch, Recording, Tensor};

/// Positions of a transformed tile.
const POSITIONS: usize = 36;
/// Bytes of the transformed tiles and products of a band. Both then stay in the second-level cache of a large GPU
/// (50 MB on an H100) between the launches, and a band of the 64-channel layers has a thousand workgroups.
const SCRATCH: usize = 32 << 20;
/// Tiles of a band are a multiple of this where there are more: whole rows of any block.
const STEP: usize = 128;
/// Workgroups of the transforms have so many threads.
const THREADS: usize = 64;

/// Bᵀ of `Bᵀ d B`.
const INPUT: [[f64; 6]; 6] = [
    [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
    [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
    [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
];
/// Aᵀ of `Aᵀ m A`.
const OUTPUT: [[f64; 6]; 4] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
];

params! {
    /// Parameters of the four transforms.
    WinogradParams {
        /// Rows of the map.
        height: u32,
        /// Columns of the map.
        width: u32,
        /// Channels.
        channels: u32,
        /// Number of the band's first tile.
        first: u32,
        /// Tiles of the band.
        count: u32,
    }
}

params! {
    /// Parameters of `winograd_product`.
    ProductParams {
        /// Tiles of the band.
        count: u32,
        /// Channels read.
        inputs: u32,
        /// Channels written.
        outputs: u32,
    }
}

/// See `shaders/winograd_input.wgsl`.
pub static WINOGRAD_INPUT: Kernel =
    kernel!("winograd_input", WinogradParams, winograd_input_twin, [float("input", "H W C"), float("tiles", "36 N C")]);

/// See `shaders/winograd_d_output.wgsl`.
pub static WINOGRAD_D_OUTPUT: Kernel = kernel!(
    "winograd_d_output",
    WinogradParams,
    winograd_d_output_twin,
    [float("d_output", "H W C"), words("mask", "H/2 W/4 C/4"), float("tiles", "36 N C")]
);

/// See `shaders/winograd_product.wgsl`.
pub static WINOGRAD_PRODUCT: Kernel = kernel!(
    "winograd_product",
    ProductParams,
    winograd_product_twin,
    [float("tiles", "36 N Ci"), float("weight", "36 Ci Co"), float("product", "36 N Co")]
);

/// See `shaders/winograd_output.wgsl`.
pub static WINOGRAD_OUTPUT: Kernel = kernel!(
    "winograd_output",
    WinogradParams,
    winograd_output_twin,
    [float("product", "36 N C"), float("bias", "C"), float("output", "H W C"), words("mask", "H/2 W/4 C/4")]
);

/// See `shaders/winograd_d_input.wgsl`.
pub static WINOGRAD_D_INPUT: Kernel = kernel!(
    "winograd_d_input",
    WinogradParams,
    winograd_d_input_twin,
    [float("product", "36 N C"), float("d_input", "H W C")]
);

/// G g Gᵀ of a weight `[9, Ci, Co]`: `[36, Ci, Co]`, summed in double precision. On the way back it is given the rotated
/// weight.
pub fn filters(weight: &[f32], reads: usize, writes: usize) -> Vec<f32> {
    let size = reads * writes;
    let mut filters = vec![0.0; POSITIONS * size];
    filters.par_chunks_mut(size.max(1)).enumerate().for_each(|(position, filters)| {
        let [down, across] = [WINOGRAD_FILTER[position / 6], WINOGRAD_FILTER[position % 6]];
        for (at, filter) in filters.iter_mut().enumerate() {
            let term = |tap: usize| down[tap / 3] * across[tap % 3] * f64::from(weight[tap * size + at]);
            *filter = (0..9).map(term).sum::<f64>() as f32;
        }
    });
    filters
}

/// Tiles of a band of a map with so many tiles.
fn band(tiles: usize, reads: usize, writes: usize) -> usize {
    let most = (SCRATCH / (4 * POSITIONS * (reads + writes)) / STEP * STEP).max(STEP);
    let bands = tiles.div_ceil(most);
    // All but the last of the same size, so that the last is not a scrap.
    tiles.div_ceil(bands.max(1)).next_multiple_of(STEP).min(tiles)
}

/// Tiles of an `[H, W]` map.
fn tiles_of(height: usize, width: usize) -> usize {
    height.div_ceil(4) * width.div_ceil(4)
}

/// Shapes of the transformed tiles and of the products that [`convolve`] and [`convolve_backward`] need beside them for an
/// `[H, W]` map.
pub fn scratch(height: usize, width: usize, reads: usize, writes: usize) -> [[usize; 3]; 2] {
    let count = band(tiles_of(height, width), reads, writes);
    [[POSITIONS, count, reads], [POSITIONS, count, writes]]
}

/// Records `output = relu(conv(input, weight) + bias)` and its mask. `weight` is as [`filters`] makes it; `scratch` has
/// the shapes of [`scratch()`].
pub fn convolve(
    recording: &mut Recording,
    (label, block): (&str, Block),
    input: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    (output, mask): (&Tensor, &Tensor),
    scratch: [&Tensor; 2],
) -> Result<()> {
    let [height, width, reads] = dims(&WINOGRAD_INPUT, "input", input)?;
    let [_, _, writes] = dims(&WINOGRAD_OUTPUT, "output", output)?;
    for (first, [tiles, product]) in bands([height, width], [reads, writes], scratch) {
        winograd_input(recording, label, input, first, &tiles)?;
        winograd_product(recording, (label, block), &tiles, weight, &product)?;
        winograd_output(recording, label, (&product, first), bias, (output, mask))?;
    }
    Ok(())
}

/// Records the gradient of [`convolve`] with respect to its input; `mask` is the one that the forward pass wrote, `weight`
/// is as [`filters`] makes it of the rotated weight.
pub fn convolve_backward(
    recording: &mut Recording,
    (label, block): (&str, Block),
    (d_output, mask): (&Tensor, &Tensor),
    weight: &Tensor,
    d_input: &Tensor,
    scratch: [&Tensor; 2],
) -> Result<()> {
    let [height, width, reads] = dims(&WINOGRAD_D_OUTPUT, "d_output", d_output)?;
    let [_, _, writes] = dims(&WINOGRAD_D_INPUT, "d_input", d_input)?;
    for (first, [tiles, product]) in bands([height, width], [reads, writes], scratch) {
        winograd_d_output(recording, label, (d_output, mask), first, &tiles)?;
        winograd_product(recording, (label, block), &tiles, weight, &product)?;
        winograd_d_input(recording, label, (&product, first), d_input)?;
    }
    Ok(())
}

/// The first tile of each band, and its views of the scratch memory.
fn bands(
    [height, width]: [usize; 2],
    [reads, writes]: [usize; 2],
    scratch: [&Tensor; 2],
) -> impl Iterator<Item = (usize, [Tensor; 2])> {
    let total = tiles_of(height, width);
    let step = scratch[0].shape[1].max(1);
    (0..total).step_by(step).map(move |first| {
        let count = step.min(total - first);
        let view = |tensor: &Tensor, channels| Tensor { shape: vec![POSITIONS, count, channels], ..tensor.clone() };
        (first, [view(scratch[0], reads), view(scratch[1], writes)])
    })
}

/// Records the transforms of an input's tiles from number `first` on, as many as `tiles`, `[36, N, C]`, holds.
pub fn winograd_input(
    recording: &mut Recording,
    label: &str,
    input: &Tensor,
    first: usize,
    tiles: &Tensor,
) -> Result<()> {
    let params = transform_params(&WINOGRAD_INPUT, ("input", input), first, ("tiles", tiles))?;
    let tensors = [("input", input), ("tiles", tiles)];
    recording.dispatch(&WINOGRAD_INPUT, &params, &tensors, transform(label, tiles, INPUT_WORK, 2))
}

/// Records the transforms of the tiles of a gradient where the ReLU let it through.
pub fn winograd_d_output(
    recording: &mut Recording,
    label: &str,
    (d_output, mask): (&Tensor, &Tensor),
    first: usize,
    tiles: &Tensor,
) -> Result<()> {
    let params = transform_params(&WINOGRAD_D_OUTPUT, ("d_output", d_output), first, ("tiles", tiles))?;
    let tensors = [("d_output", d_output), ("mask", mask), ("tiles", tiles)];
    recording.dispatch(&WINOGRAD_D_OUTPUT, &params, &tensors, transform(label, tiles, INPUT_WORK, 2))
}

/// Records the product of each position's tiles and weight, in workgroups of a block.
pub fn winograd_product(
    recording: &mut Recording,
    (label, block): (&str, Block),
    tiles: &Tensor,
    weight: &Tensor,
    product: &Tensor,
) -> Result<()> {
    let [_, count, inputs] = dims(&WINOGRAD_PRODUCT, "tiles", tiles)?;
    let [_, _, outputs] = dims(&WINOGRAD_PRODUCT, "product", product)?;
    let groups = |size: usize, block: u32| size.div_ceil(block as usize) as u32;
    recording.dispatch(
        &WINOGRAD_PRODUCT,
        &ProductParams { count: count as u32, inputs: inputs as u32, outputs: outputs as u32 },
        &[("tiles", tiles), ("weight", weight), ("product", product)],
        Launch {
            label: label.into(),
            constants: vec![
                ("ROW_THREADS", f64::from(block.rows / 8)),
                ("COLUMN_THREADS", f64::from(block.columns / 8)),
                ("DEPTH", f64::from(block.depth)),
            ],
            grid: [groups(count, block.rows), groups(outputs, block.columns), POSITIONS as u32],
            flops: (2 * POSITIONS * count * inputs * outputs) as u64,
            ..Launch::default()
        },
    )
}

/// Records the way back of the tiles from number `first` on to the activation, and its mask.
pub fn winograd_output(
    recording: &mut Recording,
    label: &str,
    (product, first): (&Tensor, usize),
    bias: &Tensor,
    (output, mask): (&Tensor, &Tensor),
) -> Result<()> {
    let params = transform_params(&WINOGRAD_OUTPUT, ("output", output), first, ("product", product))?;
    let tensors = [("product", product), ("bias", bias), ("output", output), ("mask", mask)];
    recording.dispatch(&WINOGRAD_OUTPUT, &params, &tensors, transform(label, product, OUTPUT_WORK, 4))
}

/// Records the way back of the tiles from number `first` on to a gradient.
pub fn winograd_d_input(
    recording: &mut Recording,
    label: &str,
    (product, first): (&Tensor, usize),
    d_input: &Tensor,
) -> Result<()> {
    let params = transform_params(&WINOGRAD_D_INPUT, ("d_input", d_input), first, ("product", product))?;
    let tensors = [("product", product), ("d_input", d_input)];
    recording.dispatch(&WINOGRAD_D_INPUT, &params, &tensors, transform(label, product, OUTPUT_WORK, 2))
}

/// Operations of a transform for each tile and channel: 12 or 10 products with Bᵀ or Aᵀ, as the shaders write them.
const INPUT_WORK: usize = 12 * 19;
const OUTPUT_WORK: usize = 10 * 13;

/// Parameters of a transform between an `[H, W, C]` map and the tiles from number `first` on.
fn transform_params(
    kernel: &'static Kernel,
    (map_name, map): (&'static str, &Tensor),
    first: usize,
    (tiles_name, tiles): (&'static str, &Tensor),
) -> Result<WinogradParams> {
    let [height, width, channels] = dims(kernel, map_name, map)?;
    let [_, count, _] = dims(kernel, tiles_name, tiles)?;
    if first + count > tiles_of(height, width) {
        return Err(Error::Shape {
            kernel: kernel.name,
            binding: tiles_name.into(),
            expected: format!("tiles {first} and after it of the {} in {height}x{width}", tiles_of(height, width)),
            got: format!("{count} of them"),
        });
    }
    let [height, width, channels, first, count] = [height, width, channels, first, count].map(|size| size as u32);
    Ok(WinogradParams { height, width, channels, first, count })
}

/// A transform from or to `[36, N, C]`, whose threads own so many channels. It moves the map's tiles, not all of the map.
fn transform(label: &str, tiles: &Tensor, work: usize, channels: usize) -> Launch {
    let values = tiles.len() / POSITIONS;
    Launch {
        label: label.into(),
        grid: grid((values / channels).div_ceil(THREADS), 1),
        flops: (work * values) as u64,
        bytes: Some(4 * (tiles.len() + 16 * values) as u64),
        ..Launch::default()
    }
}

/// `matrix · d · matrixᵀ` of a 6x6 patch.
fn sandwich<T: Real, const R: usize>(matrix: &[[f64; 6]; R], patch: &[T; POSITIONS]) -> [[T; R]; R] {
    let times = |row: &[f64; 6], at: &dyn Fn(usize) -> T| {
        row.iter()
            .enumerate()
            .filter(|(_, factor)| **factor != 0.0)
            .map(|(i, factor)| T::of_wide(*factor) * at(i))
            .sum()
    };
    let half: [[T; 6]; R] = matrix.map(|row| std::array::from_fn(|j| times(&row, &|i| patch[6 * i + j])));
    half.map(|half| matrix.map(|row| times(&row, &|j| half[j])))
}

/// Transforms the patches of a band, whose values `at` tells: row and column, offset by one, and channel.
fn transform_patches<T: Real>(params: &WinogradParams, tiles: &mut [T], at: impl Fn(usize, usize, usize) -> T) {
    let [height, width, channels, first, count] =
        [params.height, params.width, params.channels, params.first, params.count].map(|size| size as usize);
    let across = width.div_ceil(4);
    for n in 0..count {
        let (y, x) = ((first + n) / across * 4, (first + n) % across * 4);
        for c in 0..channels {
            let patch: [T; POSITIONS] = std::array::from_fn(|position| {
                let (y, x) = (y + position / 6, x + position % 6);
                let inside = (1..=height).contains(&y) && (1..=width).contains(&x);
                if inside { at(y - 1, x - 1, c) } else { T::zero() }
            });
            for (position, value) in sandwich(&INPUT, &patch).into_iter().flatten().enumerate() {
                tiles[(position * count + n) * channels + c] = value;
            }
        }
    }
}

fn winograd_input_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: WinogradParams = call.params()?;
    let [Slot::Read(input), Slot::Write(tiles)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let (width, channels) = (params.width as usize, params.channels as usize);
    transform_patches(&params, tiles, |y, x, c| input[(y * width + x) * channels + c]);
    Ok(())
}

fn winograd_d_output_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: WinogradParams = call.params()?;
    let [Slot::Read(d_output), Slot::ReadWords(mask), Slot::Write(tiles)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let (width, channels) = (params.width as usize, params.channels as usize);
    transform_patches(&params, tiles, |y, x, c| {
        let word = mask[(y / 2 * width.div_ceil(4) + x / 4) * channels.div_ceil(4) + c / 4];
        let bit = word >> ((y % 2 * 4 + x % 4) * 4 + c % 4) & 1;
        if bit == 1 { d_output[(y * width + x) * channels + c] } else { T::zero() }
    });
    Ok(())
}

fn winograd_product_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: ProductParams = call.params()?;
    let [Slot::Read(tiles), Slot::Read(weight), Slot::Write(product)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let [count, inputs, outputs] = [params.count, params.inputs, params.outputs].map(|size| size as usize);
    product.par_chunks_mut(count * outputs).enumerate().for_each(|(position, product)| {
        let a = Matrix::rows(&tiles[position * count * inputs..], inputs);
        let b = Matrix::rows(&weight[position * inputs * outputs..], outputs);
        matmul(product, outputs, [count, outputs, inputs], a, b, false);
    });
    Ok(())
}

/// Gives every output of a band that lies inside the map: row, column, channel, value.
fn transform_back<T: Real>(params: &WinogradParams, product: &[T], mut put: impl FnMut(usize, usize, usize, T)) {
    let [height, width, channels, first, count] =
        [params.height, params.width, params.channels, params.first, params.count].map(|size| size as usize);
    let across = width.div_ceil(4);
    for n in 0..count {
        let (top, left) = ((first + n) / across * 4, (first + n) % across * 4);
        for c in 0..channels {
            let patch = std::array::from_fn(|position| product[(position * count + n) * channels + c]);
            for (y, row) in (top..height).zip(sandwich(&OUTPUT, &patch)) {
                (left..width).zip(row).for_each(|(x, value)| put(y, x, c, value));
            }
        }
    }
}

fn winograd_output_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: WinogradParams = call.params()?;
    let [Slot::Read(product), Slot::Read(bias), Slot::Write(output), Slot::WriteWords(mask)] =
        call.slots.as_mut_slice()
    else {
        return Err(call.mismatch("set of slots"));
    };
    let (width, channels) = (params.width as usize, params.channels as usize);
    transform_back(&params, product, |y, x, c, value| {
        let value = value + bias[c];
        let positive = value > T::zero();
        output[(y * width + x) * channels + c] = if positive { value } else { T::zero() };
        let word = &mut mask[(y / 2 * width.div_ceil(4) + x / 4) * channels.div_ceil(4) + c / 4];
        let bit = (y % 2 * 4 + x % 4) * 4 + c % 4;
        // The first of a word's pixels and channels clears it.
        let kept = if bit == 0 { 0 } else { *word & !(1 << bit) };
        *word = kept | u32::from(positive) << bit;
    });
    Ok(())
}

fn winograd_d_input_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: WinogradParams = call.params()?;
    let [Slot::Read(product), Slot::Write(d_input)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let (width, channels) = (params.width as usize, params.channels as usize);
    transform_back(&params, product, |y, x, c, value| d_input[(y * width + x) * channels + c] = value);
    Ok(())
}

#[cfg(test)]
mod tests;
