//! 3x3 convolutions over slices: what the twins of `conv3x3` and its gradient have in common.

use std::sync::OnceLock;

use super::{Matrix, matmul, winograd};
use crate::error::Result;
use crate::kernel::{Real, Scratch};

/// Some rows of an `[H, W, C]` map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a, T> {
    /// The rows, without gaps.
    pub(crate) values: &'a [T],
    /// Index of the first of them in the map.
    pub(crate) first: usize,
    /// W.
    pub(crate) width: usize,
    /// C.
    pub(crate) channels: usize,
}

impl<'a, T> Rows<'a, T> {
    /// A row by its index in the map shifted by one, so that row 0 is the padding above; `None` where there is none.
    pub(crate) fn row(&self, shifted: usize) -> Option<&'a [T]> {
        let at = (shifted.checked_sub(1)?.checked_sub(self.first)?) * self.width * self.channels;
        self.values.get(at..at + self.width * self.channels)
    }
}

/// A 3x3 convolution with zero padding, in the way that suits the precision and the channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear<'a, T> {
    way: Way,
    /// As the way wants it.
    weight: &'a [T],
    inputs: usize,
    outputs: usize,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// Rows of the lowered picture times the weight: few inputs, and the oracle.
    Lower,
    /// The picture times the weight's nine taps side by side, each added up where it belongs: few outputs.
    Gather,
    /// F(4x4, 3x3): a quarter of the multiplications.
    Winograd,
    /// The same, with large filters transformed for each use instead of being kept: four times the weight's memory less
    /// for 7 to 9 % of the time (relu5_1 at 1024x1024 in tiles of 512).
    WinogradAnew,
}

impl Way {
    fn of(oracle: bool, keeps: bool, inputs: usize, outputs: usize) -> Way {
        match () {
            () if oracle => Way::Lower,
            () if !keeps && winograd::together(inputs, outputs) => Way::WinogradAnew,
            () if inputs >= 32 && outputs >= 32 => Way::Winograd,
            () if outputs < inputs => Way::Gather,
            () => Way::Lower,
        }
    }

    fn band_rows(self, [height, width]: [usize; 2], inputs: usize, outputs: usize) -> usize {
        match self {
            Way::Winograd | Way::WinogradAnew => winograd::band_rows(height, width, inputs, outputs),
            // Even, since a word of the mask spans two rows; well-filled matrix products near the caches.
            Way::Lower => ((1 << 19) / (9 * inputs * width)).min(512 / width).max(2).next_multiple_of(2),
            Way::Gather => ((1 << 17) / (9 * outputs * width)).clamp(2, 16).next_multiple_of(2),
        }
    }
}

/// Elements that a convolution in single precision takes beside its buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// What is made of the filter and kept.
    pub(crate) derived: usize,
    /// Scratch memory of a thread: the convolution's, that of the gated gradient around it or of a map of halves widened,
    /// filters that are not kept, and sums that become halves.
    pub(crate) scratch: [usize; 4],
    /// Threads that take so much at once.
    pub(crate) threads: usize,
}

impl Needs {
    /// Of a convolution that reads an `[H, W, Ci]` map; on the way back it gates the map first, and one of halves is widened.
    pub(crate) fn new(
        [height, width]: [usize; 2],
        [inputs, outputs]: [usize; 2],
        [backward, half]: [bool; 2],
        keeps: bool,
    ) -> Needs {
        let way = Way::of(false, keeps, inputs, outputs);
        let rows = way.band_rows([height, width], inputs, outputs);
        let band = rows.min(height);
        let around = (band + 2).min(height);
        let own = match way {
            Way::Lower => band * width * 9 * inputs,
            Way::Gather => around * width * 9 * outputs,
            Way::Winograd | Way::WinogradAnew => winograd::memory([band, width], inputs, outputs),
        };
        let anew = if let Way::WinogradAnew = way { winograd::filters_len(inputs, outputs) } else { 0 };
        Needs {
            derived: match way {
                Way::Lower | Way::WinogradAnew => 0,
                Way::Gather => 9 * inputs * outputs,
                Way::Winograd => winograd::filters_len(inputs, outputs),
            },
            scratch: [
                own,
                if backward || half { around * width * inputs } else { 0 },
                anew,
                if half { band * width * outputs } else { 0 },
            ],
            threads: height.div_ceil(rows).min(rayon::current_num_threads()),
        }
    }
}

impl<'a, T: Real> Linear<'a, T> {
    /// `weight` is `[9, Ci, Co]`; what a way makes of it is kept in `derived`, large filters only if it `keeps` them.
    pub(crate) fn new(
        weight: &'a [T],
        inputs: usize,
        outputs: usize,
        derived: &'a OnceLock<Vec<T>>,
        keeps: bool,
    ) -> Result<Linear<'a, T>> {
        let way = Way::of(T::ORACLE, keeps, inputs, outputs);
        let weight = match (way, derived.get()) {
            (Way::Lower | Way::WinogradAnew, _) => weight,
            (_, Some(made)) => made,
            (Way::Winograd, None) => {
                let filters = winograd::filters(bytemuck::cast_slice(weight), inputs, outputs)?;
                derived.get_or_init(|| bytemuck::allocation::cast_vec(filters))
            }
            (Way::Gather, None) => derived.get_or_init(|| side_by_side(weight, inputs, outputs)),
        };
        Ok(Linear { way, weight, inputs, outputs })
    }

    /// Rows per band: the unit of work of a thread.
    pub(crate) fn band_rows(&self, height: usize, width: usize) -> usize {
        self.way.band_rows([height, width], self.inputs, self.outputs)
    }

    /// Writes `output`, the rows from `top` on.
    pub(crate) fn apply(&self, output: &mut [T], top: usize, source: Rows<'_, T>, scratch: &Scratch) -> Result<()> {
        match self.way {
            Way::Lower => lower(output, top, source, self.weight, self.outputs, scratch),
            Way::Gather => gather(output, top, source, self.weight, self.outputs, scratch),
            Way::Winograd => winograd(output, top, source, self.weight, self.outputs, scratch),
            Way::WinogradAnew => scratch.with(winograd::filters_len(self.inputs, self.outputs), |filters| {
                let weight = bytemuck::cast_slice(self.weight);
                winograd::transform(weight, bytemuck::cast_slice_mut(filters), self.inputs, self.outputs);
                winograd(output, top, source, filters, self.outputs, scratch)
            })?,
        }
    }
}

/// Only chosen in single precision, where the casts change nothing.
fn winograd<T: Real>(
    output: &mut [T],
    top: usize,
    source: Rows<'_, T>,
    filters: &[T],
    outputs: usize,
    scratch: &Scratch,
) -> Result<()> {
    let Rows { values, first, width, channels } = source;
    let source = Rows { values: bytemuck::cast_slice(values), first, width, channels };
    let (output, filters) = (bytemuck::cast_slice_mut(output), bytemuck::cast_slice(filters));
    winograd::convolve(output, top, source, filters, outputs, scratch)
}

/// Lowers the rows to `[rows * W, 9 * Ci]`, zero outside the picture, and multiplies.
fn lower<T: Real>(
    output: &mut [T],
    top: usize,
    source: Rows<'_, T>,
    weight: &[T],
    outputs: usize,
    scratch: &Scratch,
) -> Result<()> {
    let (width, channels) = (source.width, source.channels);
    let (pixels, depth) = (output.len() / outputs, 9 * channels);
    scratch.with(pixels * depth, |columns| {
        for (y, columns) in (top..).zip(columns.chunks_exact_mut(width * depth)) {
            for dy in 0..3 {
                let row = source.row(y + dy);
                for (x, columns) in columns.chunks_exact_mut(depth).enumerate() {
                    let taps = &mut columns[dy * 3 * channels..][..3 * channels];
                    match row {
                        // The three taps of a row are neighbours in the picture as well.
                        Some(row) if x > 0 && x + 1 < width => {
                            taps.copy_from_slice(&row[(x - 1) * channels..][..3 * channels]);
                        }
                        Some(row) => {
                            taps.fill(T::zero());
                            for dx in (0..3).filter(|dx| (1..=width).contains(&(x + dx))) {
                                taps[dx * channels..][..channels]
                                    .copy_from_slice(&row[(x + dx - 1) * channels..][..channels]);
                            }
                        }
                        None => taps.fill(T::zero()),
                    }
                }
            }
        }
        let (a, b) = (Matrix::rows(columns, depth), Matrix::rows(weight, outputs));
        matmul(output, outputs, [pixels, outputs, depth], a, b, false);
    })
}

/// `[9, Ci, Co]` to `[Ci, 9, Co]`.
fn side_by_side<T: Real>(weight: &[T], inputs: usize, outputs: usize) -> Vec<T> {
    let at = |ci: usize, tap: usize| (tap * inputs + ci) * outputs;
    let mut beside = Vec::with_capacity(weight.len());
    (0..inputs * 9).for_each(|i| beside.extend_from_slice(&weight[at(i / 9, i % 9)..][..outputs]));
    beside
}

/// Multiplies first, `[rows, W, 9 * Co]`, then adds up the nine neighbours of each output.
fn gather<T: Real>(
    output: &mut [T],
    top: usize,
    source: Rows<'_, T>,
    weight: &[T],
    outputs: usize,
    scratch: &Scratch,
) -> Result<()> {
    let (width, wide) = (source.width, 9 * outputs);
    let rows = top.saturating_sub(1).max(source.first)..(top + output.len() / (width * outputs) + 1);
    let values = &source.values[(rows.start - source.first) * width * source.channels..];
    let count = rows.len().min(values.len() / (width * source.channels));
    scratch.with(count * width * wide, |products| {
        let size = [count * width, wide, source.channels];
        matmul(products, wide, size, Matrix::rows(values, source.channels), Matrix::rows(weight, wide), false);
        let products = Rows { values: products, first: rows.start, width, channels: wide };
        for (y, output) in (top..).zip(output.chunks_exact_mut(width * outputs)) {
            output.fill(T::zero());
            for (dy, row) in (0..3).filter_map(|dy| Some((dy, products.row(y + dy)?))) {
                for (x, output) in output.chunks_exact_mut(outputs).enumerate() {
                    for dx in (0..3).filter(|dx| (1..=width).contains(&(x + dx))) {
                        let from = &row[(x + dx - 1) * wide + (dy * 3 + dx) * outputs..][..outputs];
                        output.iter_mut().zip(from).for_each(|(sum, product)| *sum += *product);
                    }
                }
            }
        }
    })
}
