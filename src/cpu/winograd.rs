//! Winograd's F(4x4, 3x3): a tile of 4x4 outputs from 36 products per channel pair instead of 144.
//!
//! Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A. A block of tiles is transformed, its 36 positions are 36 matrix products, and the
//! way back writes the outputs: about 10 % of the time goes into the transforms, and rounding grows to about 1e-5 of the
//! values. Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.3.

use pulp::Simd;
use rayon::prelude::*;

use super::{Matrix, Rows, matmul};
use crate::error::Result;
use crate::kernel::{Scratch, no_room};

/// Outputs along the edge of a tile.
pub(crate) const EDGE: usize = 4;
/// Inputs along the edge of a tile.
const PATCH: usize = EDGE + 2;
/// Positions of a transformed tile.
const POSITIONS: usize = PATCH * PATCH;
/// Outputs whose filters lie together.
const PANEL: usize = 64;
/// Elements that keep the positions of a block apart, lest all 36 fall into the same cache set.
const GAP: usize = 16;

/// G of `g' = G g Gᵀ`.
pub(crate) const G: [[f64; 3]; PATCH] = [
    [0.25, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// The expression six times, its constant running from 0 to 5: a loop that is sure to be unrolled.
macro_rules! six {
    ($i:ident => $body:expr) => {
        [
            {
                const $i: usize = 0;
                $body
            },
            {
                const $i: usize = 1;
                $body
            },
            {
                const $i: usize = 2;
                $body
            },
            {
                const $i: usize = 3;
                $body
            },
            {
                const $i: usize = 4;
                $body
            },
            {
                const $i: usize = 5;
                $body
            },
        ]
    };
}

impl<'a> Rows<'a, f32> {
    /// The rows of the patch around the tile at `(top, left)`, `[6, C]` each: in place, or, where padding belongs to it,
    /// copied into `border`.
    #[inline(always)]
    fn patch<'b>(&self, top: usize, left: usize, border: &'b mut [f32]) -> [&'b [f32]; PATCH]
    where
        'a: 'b,
    {
        let (width, channels) = (self.width, self.channels);
        let rows = six!(I => self.row(top + I));
        let inside = left > 0 && left + EDGE < width;
        if let ([Some(a), Some(b), Some(c), Some(d), Some(e), Some(f)], true) = (rows, inside) {
            return [a, b, c, d, e, f].map(|row| &row[(left - 1) * channels..(left + EDGE + 1) * channels]);
        }
        // Column 0 is the padding, as row 0 is.
        let (from, to) = (left.max(1), (left + PATCH).min(width + 1));
        border.fill(0.0);
        for (row, border) in rows.iter().zip(border.chunks_exact_mut(PATCH * channels)) {
            if let Some(row) = row {
                let (begin, end) = ((from - left) * channels, (to - left) * channels);
                border[begin..end].copy_from_slice(&row[(from - 1) * channels..(to - 1) * channels]);
            }
        }
        six!(I => &border[I * PATCH * channels..][..PATCH * channels])
    }
}

/// Transformed filters of a weight `[9, Ci, Co]`: `[36, Co/64, Ci, 64]`, the last panel as narrow as it is. Panels are
/// read from end to end, where columns of the whole would touch a page for every few values.
pub(crate) fn filters(weight: &[f32], inputs: usize, outputs: usize) -> Result<Vec<f32>> {
    let mut filters = Vec::new();
    let len = filters_len(inputs, outputs);
    filters.try_reserve_exact(len).map_err(|_| no_room("transformed filters", 4 * len))?;
    filters.resize(len, 0.0);
    transform(weight, &mut filters, inputs, outputs);
    Ok(filters)
}

/// Writes [`filters`], on every thread. Sums in double precision.
pub(crate) fn transform(weight: &[f32], filters: &mut [f32], inputs: usize, outputs: usize) {
    let mut panels: Vec<Vec<&mut [f32]>> = (0..outputs.div_ceil(PANEL)).map(|_| Vec::new()).collect();
    for position in filters.chunks_mut(inputs * outputs) {
        panels.iter_mut().zip(position.chunks_mut(PANEL * inputs)).for_each(|(panel, part)| panel.push(part));
    }
    panels.into_par_iter().enumerate().for_each(|(panel, positions)| {
        pulp::Arch::new().dispatch(Filters { weight, positions, first: panel * PANEL, inputs, outputs });
    });
}

/// G g Gᵀ of a panel's filters.
struct Filters<'a> {
    weight: &'a [f32],
    /// `[Ci, 64]` each.
    positions: Vec<&'a mut [f32]>,
    /// The panel's first output.
    first: usize,
    inputs: usize,
    outputs: usize,
}

impl pulp::WithSimd for Filters<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Filters { weight, mut positions, first, inputs, outputs } = self;
        let width = PANEL.min(outputs - first);
        for ci in 0..inputs {
            let taps: [&[f32]; 9] =
                std::array::from_fn(|tap| &weight[(tap * inputs + ci) * outputs + first..][..width]);
            for (position, filter) in positions.iter_mut().enumerate() {
                let [down, across] = [G[position / PATCH], G[position % PATCH]];
                let factors: [f64; 9] = std::array::from_fn(|tap| down[tap / 3] * across[tap % 3]);
                for (at, filter) in filter[ci * width..][..width].iter_mut().enumerate() {
                    let terms: [f64; 9] = std::array::from_fn(|tap| factors[tap] * f64::from(taps[tap][at]));
                    *filter = terms.iter().sum::<f64>() as f32;
                }
            }
        }
    }
}

/// Rows of a map for each call of [`convolve`]: a thread's share, or all where the threads work together.
pub(crate) fn band_rows(height: usize, width: usize, inputs: usize, outputs: usize) -> usize {
    let down = height.div_ceil(EDGE);
    EDGE * if together(inputs, outputs) { down } else { balanced(down, width.div_ceil(EDGE)) }
}

/// Splits `down` rows of tiles into bands of a few dozen tiles, if that can be, so that the busiest thread has as few as
/// possible.
fn balanced(down: usize, across: usize) -> usize {
    let threads = rayon::current_num_threads();
    let load = |rows: usize| down.div_ceil(rows).div_ceil(threads) * rows;
    (24_usize.div_ceil(across).min(down)..=down).min_by_key(|rows| (load(*rows), *rows)).unwrap_or(1)
}

/// Whether the filters outgrow the caches, so that each is better read once by one thread than by every thread.
pub(crate) fn together(inputs: usize, outputs: usize) -> bool {
    inputs * outputs > 256 * 256
}

/// `output = conv(source)` with zero padding, on the rows `top..` that `output` holds; `top` is a multiple of 4.
/// `source` holds one row more above and below, where the map has them.
pub(crate) fn convolve(
    output: &mut [f32],
    top: usize,
    source: Rows<'_, f32>,
    filters: &[f32],
    outputs: usize,
    scratch: &Scratch,
) -> Result<()> {
    let (inputs, width) = (source.channels, source.width);
    if together(inputs, outputs) {
        return convolve_together(output, top, source, filters, outputs, scratch);
    }
    let tiles = Tiles::new(top, output.len() / (width * outputs), width);
    let size = block_size(tiles, inputs, outputs);
    scratch.with(Block::memory(size, inputs, outputs), |memory| {
        let mut block = Block::new(memory, size, source, outputs);
        for first in (0..tiles.count()).step_by(size) {
            block.load(tiles, first, size.min(tiles.count() - first));
            for (product, filter) in block.products().zip(filters.chunks(inputs * outputs)) {
                product.fill(filter);
            }
            block.store(output);
        }
    })
}

/// Tiles of a block: few enough for patches and products to stay near the L2 cache, enough for the filters to be worth
/// reading.
fn block_size(tiles: Tiles, inputs: usize, outputs: usize) -> usize {
    tiles.count().div_ceil(tiles.count().div_ceil(largest_block(inputs, outputs)))
}

fn largest_block(inputs: usize, outputs: usize) -> usize {
    ((1 << 20) / (POSITIONS * 4 * (inputs + outputs))).clamp(32, 128)
}

/// Rows of a thread's block of tiles, and rows that all threads work on at once.
fn shares(height: usize, width: usize) -> (usize, usize) {
    let across = width.div_ceil(EDGE);
    let rows = balanced(height.div_ceil(EDGE), across);
    // About a thousand tiles at a time: with 512 channels they take 150 MB.
    (rows, (1024 / (rows * across)).max(1) * rows * EDGE)
}

/// Elements that [`convolve`] borrows for an output of this height and width.
pub(crate) fn memory([height, width]: [usize; 2], inputs: usize, outputs: usize) -> usize {
    let tiles = Tiles::new(0, height, width);
    if !together(inputs, outputs) {
        // A last band with fewer tiles may have larger blocks, if not more than these.
        return Block::memory(largest_block(inputs, outputs).min(tiles.count()), inputs, outputs);
    }
    let (rows, group) = shares(height, width);
    let blocks = group.min(height).div_ceil(rows * EDGE);
    blocks * Block::memory(rows * tiles.across, inputs, outputs)
}

/// Elements of [`filters`].
pub(crate) fn filters_len(inputs: usize, outputs: usize) -> usize {
    POSITIONS * inputs * outputs
}

/// [`convolve`] on every thread, which share out the tiles, then the positions, then the tiles.
fn convolve_together(
    output: &mut [f32],
    top: usize,
    source: Rows<'_, f32>,
    filters: &[f32],
    outputs: usize,
    scratch: &Scratch,
) -> Result<()> {
    let (inputs, width) = (source.channels, source.width);
    let (across, row) = (width.div_ceil(EDGE), width * outputs);
    let (rows, group) = shares(output.len() / row, width);
    let (size, band) = (rows * across, rows * EDGE);
    let memory = Block::memory(size, inputs, outputs);
    for (top, output) in (top..).step_by(group).zip(output.chunks_mut(group * row)) {
        scratch.with(output.len().div_ceil(band * row) * memory, |scratch| {
            let memories = scratch.chunks_exact_mut(memory);
            let mut blocks: Vec<_> = memories.map(|memory| Block::new(memory, size, source, outputs)).collect();
            blocks.par_iter_mut().zip(output.par_chunks(band * row)).enumerate().for_each(|(i, (block, output))| {
                let tiles = Tiles::new(top + i * band, output.len() / row, width);
                block.load(tiles, 0, tiles.count());
            });
            let mut products: Vec<_> = blocks.iter_mut().flat_map(|block| block.products().enumerate()).collect();
            products.sort_by_key(|(position, _)| *position);
            let filter = |position: usize| &filters[position * inputs * outputs..][..inputs * outputs];
            products.into_par_iter().for_each(|(position, product)| product.fill(filter(position)));
            blocks.par_iter().zip(output.par_chunks_mut(band * row)).for_each(|(block, output)| block.store(output));
        })?;
    }
    Ok(())
}

/// The tiles of a band of rows.
#[derive(Clone, Copy, Debug)]
struct Tiles {
    top: usize,
    height: usize,
    width: usize,
    across: usize,
}

impl Tiles {
    fn new(top: usize, height: usize, width: usize) -> Tiles {
        Tiles { top, height, width, across: width.div_ceil(EDGE) }
    }

    fn count(self) -> usize {
        self.height.div_ceil(EDGE) * self.across
    }

    /// Row in the band and column of a tile's first output.
    #[inline(always)]
    fn place(self, tile: usize) -> (usize, usize) {
        (tile / self.across * EDGE, tile % self.across * EDGE)
    }
}

/// Some tiles on their way: patches `[36, tiles, Ci]`, products `[36, tiles, Co]`.
#[derive(Debug)]
struct Block<'a> {
    source: Rows<'a, f32>,
    outputs: usize,
    patches: &'a mut [f32],
    products: &'a mut [f32],
    /// Room for a patch that sticks out of the map.
    border: &'a mut [f32],
    /// Distances between positions.
    strides: [usize; 2],
    tiles: Tiles,
    first: usize,
    size: usize,
}

/// The matrix product at one position.
struct Product<'a> {
    patches: &'a [f32],
    products: &'a mut [f32],
    size: usize,
    inputs: usize,
    outputs: usize,
}

impl Product<'_> {
    fn fill(self, filter: &[f32]) {
        for (column, panel) in (0..).step_by(PANEL).zip(filter.chunks(PANEL * self.inputs)) {
            let width = panel.len() / self.inputs;
            let (a, b) = (Matrix::rows(self.patches, self.inputs), Matrix::rows(panel, width));
            matmul(&mut self.products[column..], self.outputs, [self.size, width, self.inputs], a, b, false);
        }
    }
}

impl<'a> Block<'a> {
    fn strides(size: usize, inputs: usize, outputs: usize) -> [usize; 2] {
        [inputs, outputs].map(|channels| size * channels + GAP)
    }

    /// Elements that a block of `size` tiles needs.
    fn memory(size: usize, inputs: usize, outputs: usize) -> usize {
        POSITIONS * (inputs + Block::strides(size, inputs, outputs).iter().sum::<usize>())
    }

    fn new(memory: &'a mut [f32], size: usize, source: Rows<'a, f32>, outputs: usize) -> Block<'a> {
        let strides = Block::strides(size, source.channels, outputs);
        let (border, memory) = memory.split_at_mut(POSITIONS * source.channels);
        let (patches, products) = memory.split_at_mut(POSITIONS * strides[0]);
        let tiles = Tiles::new(0, 0, source.width);
        Block { source, outputs, patches, products, border, strides, tiles, first: 0, size }
    }

    /// Patches of `size` tiles from `first` on, transformed.
    fn load(&mut self, tiles: Tiles, first: usize, size: usize) {
        (self.tiles, self.first, self.size) = (tiles, first, size);
        pulp::Arch::new().dispatch(Inputs(self));
    }

    /// The 36 products to be made.
    fn products(&mut self) -> impl Iterator<Item = Product<'_>> {
        let (size, inputs, outputs) = (self.size, self.source.channels, self.outputs);
        let positions = self.patches.chunks(self.strides[0]).zip(self.products.chunks_mut(self.strides[1]));
        positions.take(POSITIONS).map(move |(patches, products)| Product { patches, products, size, inputs, outputs })
    }

    /// Writes the products, transformed, to the band of the tiles.
    fn store(&self, output: &mut [f32]) {
        pulp::Arch::new().dispatch(Outputs(self, output));
    }
}

/// Bᵀ d B of a block. (A struct, since only `with_simd` is compiled for the processor at hand.)
struct Inputs<'b, 'a>(&'b mut Block<'a>);

impl pulp::WithSimd for Inputs<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Block { source, patches, border, strides: [stride, _], tiles, first, size, .. } = self.0;
        let channels = source.channels;
        for tile in 0..*size {
            let (y, x) = tiles.place(*first + tile);
            let rows = source.patch(tiles.top + y, x, border);
            for channel in (0..channels).step_by(S::F32_LANES) {
                let lanes = S::F32_LANES.min(channels - channel);
                let [a, b, c, d, e, f] = six!(J => input_transform(
                    simd,
                    six!(I => load(simd, &rows[I][J * channels + channel..][..lanes])),
                ));
                six!(I => {
                    let row = input_transform(simd, [a[I], b[I], c[I], d[I], e[I], f[I]]);
                    six!(J => {
                        let at = (I * PATCH + J) * *stride + tile * channels + channel;
                        store(simd, &mut patches[at..][..lanes], row[J]);
                    });
                });
            }
        }
    }
}

/// Aᵀ m A of a block, cut at the edges of the band.
struct Outputs<'b, 'a>(&'b Block<'a>, &'b mut [f32]);

impl pulp::WithSimd for Outputs<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Outputs(Block { products, outputs, strides: [_, stride], tiles, first, size, .. }, output) = self;
        for tile in 0..*size {
            let (y, x) = tiles.place(first + tile);
            for channel in (0..*outputs).step_by(S::F32_LANES) {
                let lanes = S::F32_LANES.min(outputs - channel);
                let [a, b, c, d, e, f] = six!(J => output_transform(
                    simd,
                    six!(I => {
                        let at = (I * PATCH + J) * stride + tile * outputs + channel;
                        load(simd, &products[at..][..lanes])
                    }),
                ));
                for i in 0..EDGE.min(tiles.height - y) {
                    let row = output_transform(simd, [a[i], b[i], c[i], d[i], e[i], f[i]]);
                    for (j, values) in row.into_iter().enumerate().take(tiles.width - x) {
                        let at = ((y + i) * tiles.width + x + j) * outputs + channel;
                        store(simd, &mut output[at..][..lanes], values);
                    }
                }
            }
        }
    }
}

/// A whole vector, or the rest of the channels.
#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
    if values.len() == S::F32_LANES {
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(values))
    } else {
        simd.partial_load_f32s(values)
    }
}

#[inline(always)]
fn store<S: Simd>(simd: S, to: &mut [f32], values: S::f32s) {
    if to.len() == S::F32_LANES {
        to.copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(&values)));
    } else {
        simd.partial_store_f32s(to, values);
    }
}

/// Bᵀ of Lavin and Gray's section 4.3, with common terms taken out.
#[inline(always)]
fn input_transform<S: Simd>(simd: S, d: [S::f32s; PATCH]) -> [S::f32s; PATCH] {
    let [two, four, minus_four, minus_five] = [2.0, 4.0, -4.0, -5.0].map(|factor| simd.splat_f32s(factor));
    let (a, b) = (simd.mul_add_e_f32s(minus_four, d[2], d[4]), simd.mul_add_e_f32s(minus_four, d[1], d[3]));
    let (c, e) = (simd.sub_f32s(d[4], d[2]), simd.mul_f32s(two, simd.sub_f32s(d[3], d[1])));
    [
        simd.mul_add_e_f32s(four, d[0], simd.mul_add_e_f32s(minus_five, d[2], d[4])),
        simd.add_f32s(a, b),
        simd.sub_f32s(a, b),
        simd.add_f32s(c, e),
        simd.sub_f32s(c, e),
        simd.mul_add_e_f32s(four, d[1], simd.mul_add_e_f32s(minus_five, d[3], d[5])),
    ]
}

/// Aᵀ of the same section.
#[inline(always)]
fn output_transform<S: Simd>(simd: S, m: [S::f32s; PATCH]) -> [S::f32s; EDGE] {
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|factor| simd.splat_f32s(factor));
    let (a, b) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (c, d) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(a, c)),
        simd.mul_add_e_f32s(two, d, b),
        simd.mul_add_e_f32s(four, c, a),
        simd.mul_add_e_f32s(eight, d, simd.add_f32s(b, m[5])),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
