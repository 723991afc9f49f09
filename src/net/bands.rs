//! A picture as bands of rows. At 4096x4096 a picture of four floats a pixel takes 256 MiB, which not every device can
//! bind; a band is a buffer of its own. Tiles are gathered from the bands that they touch and added back into them.

use std::ops::Range;

use crate::error::Result;
use crate::kernel::Scalar;
use crate::ops::Rect;
use crate::ops::copy_rect::{Mode, copy_rect};
use crate::recording::{BufferTable, Engine, Purpose, Recording, Tensor};

/// A picture, or a vector of its size, `[H, W, 4]`: whole rows from top to bottom in one buffer or several.
#[derive(Clone, Debug)]
pub struct Bands {
    bands: Vec<Tensor>,
    /// Rows of every band but the last, which may have fewer.
    rows: usize,
    height: usize,
    width: usize,
}

/// Rows of a band that takes at most `limit` bytes, at least one.
fn rows(width: usize, height: usize, limit: u64) -> usize {
    let rows = usize::try_from(limit / (16 * width.max(1) as u64)).unwrap_or(usize::MAX);
    rows.clamp(1, height.max(1))
}

impl Bands {
    /// Declares buffers of at most `limit` bytes, or of one row where a row takes more.
    pub fn new(
        table: &mut BufferTable,
        label: &str,
        [height, width]: [usize; 2],
        purpose: Purpose,
        limit: u64,
    ) -> Bands {
        let rows = rows(width, height, limit);
        let several = rows < height;
        let bands = (0..height).step_by(rows).map(|top| {
            let label = if several { format!("{label} from row {top}") } else { label.to_string() };
            table.tensor(label, Scalar::F32, &[rows.min(height - top), width, 4], purpose)
        });
        Bands { bands: bands.collect(), rows, height, width }
    }

    /// Another picture in the buffers of this one, while this one's values are not needed: buffers are enlarged up to
    /// `limit` bytes, and more are declared, where that takes it.
    pub fn lend(
        &self,
        table: &mut BufferTable,
        label: &str,
        [height, width]: [usize; 2],
        purpose: Purpose,
        limit: u64,
    ) -> Bands {
        let rows = rows(width, height, limit);
        let bands = (0..height).step_by(rows).enumerate().map(|(i, top)| {
            let shape = vec![rows.min(height - top), width, 4];
            match self.bands.get(i) {
                Some(Tensor { buffer, scalar, .. }) => {
                    table.grow(*buffer, shape.iter().product());
                    Tensor { buffer: *buffer, scalar: *scalar, shape }
                }
                None => table.tensor(format!("{label} from row {top}"), Scalar::F32, &shape, purpose),
            }
        });
        Bands { bands: bands.collect(), rows, height, width }
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// The bands from top to bottom, `[rows, W, 4]` each.
    pub fn tensors(&self) -> &[Tensor] {
        &self.bands
    }

    /// Where a rectangle lies: each band that it touches, the part in that band, and the rows of the rectangle above it.
    fn pieces(&self, rect: Rect) -> impl Iterator<Item = (&Tensor, Rect, usize)> {
        self.bands.iter().enumerate().filter_map(move |(i, band)| {
            let above = i * self.rows;
            let begin = rect.top.max(above);
            // The last band takes what sticks out, so that a rectangle that does not fit is noticed.
            let end = if i + 1 == self.bands.len() { usize::MAX } else { above + self.rows };
            let end = end.min(rect.top + rect.height);
            let part = || Rect { top: begin - above, left: rect.left, height: end - begin, width: rect.width };
            (begin < end).then(|| (band, part(), begin - rect.top))
        })
    }

    /// Records `to = the rectangle`, from a row and column of `to` on.
    pub fn gather(
        &self,
        recording: &mut Recording,
        label: &str,
        from: Rect,
        (to, top, left): (&Tensor, usize, usize),
    ) -> Result<()> {
        self.pieces(from).try_for_each(|(band, part, row)| {
            copy_rect(recording, label, (band, part), (to, top + row, left), Mode::Replace)
        })
    }

    /// Records `the rectangle += from`, from a row and column of `from` on.
    pub fn add(
        &self,
        recording: &mut Recording,
        label: &str,
        (from, top, left): (&Tensor, usize, usize),
        to: Rect,
    ) -> Result<()> {
        self.pieces(to).try_for_each(|(band, part, row)| {
            let piece = Rect { top: top + row, left, ..part };
            copy_rect(recording, label, (from, piece), (band, part.top, part.left), Mode::Add)
        })
    }

    /// Records zeros.
    pub fn clear(&self, recording: &mut Recording) {
        self.bands.iter().for_each(|band| recording.clear(band.buffer));
    }

    /// The values, `[H, W, 4]`.
    pub fn read(&self, engine: &mut dyn Engine) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(self.height * self.width * 4);
        self.read_each(engine, |values| {
            all.extend_from_slice(values);
            Ok(())
        })?;
        Ok(all)
    }

    /// Hands the values of each band on, `[rows, W, 4]`, from top to bottom: a band at a time, to spare memory.
    pub fn read_each(&self, engine: &mut dyn Engine, mut take: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        (0..self.bands.len()).try_for_each(|band| take(&self.read_band(engine, band)?))
    }

    /// The values of one band, `[rows, W, 4]`.
    pub fn read_band(&self, engine: &mut dyn Engine, band: usize) -> Result<Vec<f32>> {
        let band = &self.bands[band];
        let mut values = engine.read(band.buffer)?;
        // A buffer that was lent may be larger than its band.
        values.truncate(band.len());
        Ok(values)
    }

    /// Writes the values that `of` gives for a range of rows, `[rows, W, 4]`: a band at a time, to spare memory.
    pub fn write(&self, engine: &mut dyn Engine, mut of: impl FnMut(Range<usize>) -> Vec<f32>) -> Result<()> {
        for (i, band) in self.bands.iter().enumerate() {
            let top = i * self.rows;
            engine.write(band.buffer, &of(top..(top + self.rows).min(self.height)))?;
        }
        Ok(())
    }
}

impl From<&Tensor> for Bands {
    /// One band: the whole of a tensor `[H, W, 4]`.
    fn from(tensor: &Tensor) -> Bands {
        let [height, width] = [0, 1].map(|i| tensor.shape.get(i).copied().unwrap_or(1));
        Bands { bands: vec![tensor.clone()], rows: height.max(1), height, width }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_keep_to_the_limit_and_every_row_lies_in_one() {
        for (height, width, limit) in [(7, 5, 1), (7, 5, 160), (7, 5, 240), (100, 3, 48 * 99), (4096, 4096, 128 << 20)]
        {
            let mut table = BufferTable::default();
            let bands = Bands::new(&mut table, "image", [height, width], Purpose::Image, limit);
            let total: usize = bands.tensors().iter().map(|band| band.shape[0]).sum();
            assert_eq!(total, height);
            for band in bands.tensors() {
                assert!(band.len() as u64 * 4 <= limit.max(16 * width as u64), "{height}x{width}, {limit}");
            }
            for rect in [Rect::whole(height, width), Rect { top: height / 3, left: 1, height: height / 2, width: 2 }] {
                let parts: Vec<_> = bands.pieces(rect).map(|(_, part, row)| (row, part.height)).collect();
                assert_eq!(parts.iter().map(|(_, height)| height).sum::<usize>(), rect.height);
                assert!(parts.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{parts:?}");
            }
        }
    }
}
