//! The container: MAT v5's elements and arrays as a bounded stream, numeric leaves decoded by `matfile`.
//!
//! Every length is checked against what holds the thing, nothing is allocated before its bytes are there, and
//! [`BUDGET`] bounds what is read and inflated.

use std::io::{self, Read};

use matfile::{MatFile, NumericData};

use super::super::{Fault, HINT_OTHER};

/// Bytes read and inflated in all: the convolutions as doubles take 160 MB, a bomb takes any number.
pub(super) const BUDGET: u64 = 256 << 20;
/// Values of VGG-19's largest convolution; larger leaves (the fully connected layers) are passed over.
const MAX_VALUES: usize = 9 * 512 * 512;
/// Values decoded at a time: what the decoder makes of them stays in the processor's cache.
const PIECE: usize = 4096;

/// Data types.
const INT32: u32 = 5;
const UINT32: u32 = 6;
const MI_SINGLE: u32 = 7;
pub(super) const MATRIX: u32 = 14;
pub(super) const COMPRESSED: u32 = 15;
/// Array classes.
pub(super) const CELL: u32 = 1;
pub(super) const STRUCT: u32 = 2;
pub(super) const CHAR: u32 = 4;
const DOUBLE: u32 = 6;
const SINGLE: u32 = 7;
const LAST_CLASS: u32 = 15;

/// An array's header.
pub(super) struct Array {
    pub(super) class: u32,
    complex: bool,
    pub(super) shape: Vec<usize>,
    pub(super) name: String,
    /// Where the array ends.
    pub(super) end: u64,
}

impl Array {
    fn is_real(&self) -> bool {
        matches!(self.class, DOUBLE | SINGLE) && !self.complex
    }

    pub(super) fn count(&self) -> Result<usize, Fault> {
        let count = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        count.ok_or_else(|| Fault::damaged(format!("an array has the shape {:?}", self.shape)))
    }
}

/// A variable's bytes, inflated if need be. `end` is always where what holds the thing read ends.
pub(super) struct Cursor<'a> {
    pub(super) input: Box<dyn Read + 'a>,
    pub(super) at: u64,
    pub(super) budget: u64,
    /// What the budget was for the whole file.
    pub(super) limit: u64,
    pub(super) big_endian: bool,
}

impl Cursor<'_> {
    /// Claims `size` bytes that are about to be read.
    fn claim(&mut self, size: u64, end: u64) -> Result<(), Fault> {
        if size > end.saturating_sub(self.at) {
            return Err(Fault::damaged("a part of it is larger than the whole"));
        }
        if size > self.budget.saturating_sub(self.at) {
            let what = format!("its convolutions are not within the first {} MiB of its contents", self.limit >> 20);
            return Err(Fault::new(what, HINT_OTHER));
        }
        self.at += size;
        Ok(())
    }

    pub(super) fn skip_to(&mut self, end: u64) -> Result<(), Fault> {
        let size = end.saturating_sub(self.at);
        self.claim(size, end)?;
        if io::copy(&mut (&mut self.input).take(size), &mut io::sink())? < size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }

    /// A tag: type, size, and the data themselves if the element is a small one.
    fn tag(&mut self, end: u64) -> Result<(u32, u32, Option<[u8; 4]>), Fault> {
        let mut bytes = [0; 8];
        self.claim(8, end)?;
        self.input.read_exact(&mut bytes)?;
        let [kind, size] = words(bytes, self.big_endian);
        if kind >> 16 == 0 {
            return Ok((kind, size, None));
        }
        let [_, _, _, _, data @ ..] = bytes;
        match kind >> 16 {
            size @ 1..=4 => Ok((kind & 0xffff, size, Some(data))),
            size => Err(Fault::damaged(format!("a small element has {size} bytes"))),
        }
    }

    /// A whole element of at most `max` bytes: type and data.
    fn element(&mut self, end: u64, max: u32) -> Result<(u32, Vec<u8>), Fault> {
        let (kind, size, small) = self.tag(end)?;
        if size > max {
            return Err(Fault::damaged(format!("{size} bytes where at most {max} belong")));
        }
        let mut data = vec![0; size as usize];
        match small {
            Some(small) => data.copy_from_slice(&small[..size as usize]),
            None => {
                self.claim(size.into(), end)?;
                self.input.read_exact(&mut data)?;
                self.skip_to(end.min(self.at.next_multiple_of(8)))?;
            }
        }
        Ok((kind, data))
    }

    fn element_u32(&mut self, end: u64, kind: u32, max: u32) -> Result<Vec<u32>, Fault> {
        let (found, data) = self.element(end, max)?;
        if found != kind || data.len() % 4 != 0 {
            return Err(Fault::damaged(format!("an element has type {found} instead of {kind}")));
        }
        Ok(data.as_chunks().0.iter().map(|&bytes| word(bytes, self.big_endian)).collect())
    }

    pub(super) fn array(&mut self, end: u64) -> Result<Array, Fault> {
        let (kind, size, small) = self.tag(end)?;
        let mut array =
            Array { class: 0, complex: false, shape: vec![0, 0], name: String::new(), end: self.at + u64::from(size) };
        if kind != MATRIX || small.is_some() || array.end > end {
            return Err(Fault::damaged("an array does not start where it should"));
        }
        if size == 0 {
            return Ok(array); // MATLAB's empty cell
        }
        let flags = self.element_u32(array.end, UINT32, 8)?;
        let flags = flags.first().copied().unwrap_or(0);
        (array.class, array.complex) = (flags & 0xff, flags & 0x800 != 0);
        if (CELL..=LAST_CLASS).contains(&array.class) {
            let shape = self.element_u32(array.end, INT32, 4 * 32)?;
            array.shape = shape.into_iter().map(|d| d as usize).collect();
            array.name = String::from_utf8_lossy(&self.element(array.end, 256)?.1).into_owned();
        }
        Ok(array)
    }

    /// Hands each field of a 1x1 struct to `visit`, which may read as much of it as it likes.
    pub(super) fn fields(
        &mut self,
        array: &Array,
        mut visit: impl FnMut(&mut Self, &str, &Array) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if array.count()? != 1 {
            return Ok(());
        }
        let length = self.element_u32(array.end, INT32, 4)?.first().copied().unwrap_or(0);
        let (_, names) = self.element(array.end, 1 << 14)?;
        if !(1..=256).contains(&length) {
            return Err(Fault::damaged("a struct has no field names"));
        }
        for name in names.chunks_exact(length as usize) {
            let name = String::from_utf8_lossy(name.split(|&b| b == 0).next().unwrap_or_default());
            let field = self.array(array.end)?;
            visit(self, &name, &field)?;
            self.skip_to(field.end)?;
        }
        Ok(())
    }

    pub(super) fn text(&mut self, array: &Array) -> Result<String, Fault> {
        let (kind, data) = self.element(array.end, 1024)?;
        Ok(match kind {
            1 | 2 | 16 => String::from_utf8_lossy(&data).into_owned(), // miINT8, miUINT8, miUTF8
            3 | 4 | 17 => {
                // miINT16, miUINT16, miUTF16
                let order = if self.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
                String::from_utf16_lossy(&data.as_chunks().0.iter().map(|&b| order(b)).collect::<Vec<_>>())
            }
            _ => return Err(Fault::damaged(format!("a text has type {kind}"))),
        })
    }

    /// The values of an array of real floating point class, first dimension fastest; `None` for any other array and for
    /// larger ones than a convolution's. Values stored as integers to save space are converted.
    pub(super) fn values(&mut self, array: &Array) -> Result<Option<Vec<f32>>, Fault> {
        let count = array.count()?;
        if !array.is_real() || !(1..=MAX_VALUES).contains(&count) {
            return Ok(None);
        }
        self.numbers(array, count).map(Some)
    }

    /// The first `count` of an array's values, or none.
    pub(super) fn head(&mut self, array: &Array, count: usize) -> Result<Vec<f32>, Fault> {
        let count = count.min(array.count()?);
        if !array.is_real() || !(1..=MAX_VALUES).contains(&count) {
            return Ok(Vec::new());
        }
        self.numbers(array, count)
    }

    /// The first `count` of an array's values.
    fn numbers(&mut self, array: &Array, count: usize) -> Result<Vec<f32>, Fault> {
        let (kind, size, small) = self.tag(array.end)?;
        let width = match kind {
            1 | 2 => 1,
            3 | 4 => 2,
            5..=7 => 4,
            9 | 12 | 13 => 8,
            _ => return Err(Fault::damaged(format!("numbers of type {kind}"))),
        };
        if array.count()?.checked_mul(width) != Some(size as usize) {
            return Err(Fault::damaged(format!("{size} bytes of numbers for the shape {:?}", array.shape)));
        }
        let mut values = Vec::with_capacity(count);
        if let Some(data) = small {
            self.decode(array.class, kind, &data[..count * width], count, &mut values)?;
            return Ok(values);
        }
        self.claim((count * width) as u64, array.end)?;
        let mut buffer = [0; PIECE * 8];
        while values.len() < count {
            let piece = PIECE.min(count - values.len());
            let bytes = &mut buffer[..piece * width];
            self.input.read_exact(bytes)?;
            self.decode(array.class, kind, bytes, piece, &mut values)?;
        }
        Ok(values)
    }

    /// Decodes `count` numbers of a data type in an array of a class. The decoder takes a file and wants a name, so they
    /// become a file of their own with one array, `x`.
    fn decode(&self, class: u32, kind: u32, bytes: &[u8], count: usize, values: &mut Vec<f32>) -> Result<(), Fault> {
        if (class, kind) == (SINGLE, MI_SINGLE) {
            // As nearly every file has them: the decoder would take a sixth of the time of inflating them.
            values.extend(bytes.as_chunks().0.iter().map(|&bytes| f32::from_bits(word(bytes, self.big_endian))));
            return Ok(());
        }
        let word = |value: usize| {
            let value = value as u32;
            if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
        };
        let (class_word, kind_word) = (word(class as usize), word(kind as usize));
        let padding = &[0; 8][..bytes.len().next_multiple_of(8) - bytes.len()];
        let mut header = vec![b' '; 124];
        header.extend(if self.big_endian { b"\x01\x00MI" } else { b"\x00\x01IM" });
        let flags = [word(UINT32 as usize), word(8), class_word, word(0)];
        let shape = [word(INT32 as usize), word(8), word(count), word(1)];
        let name = [word(1), word(1), *b"x\0\0\0", [0; 4]];
        let body = [flags, shape, name].concat();
        header.extend([word(MATRIX as usize), word(4 * body.len() + 8 + bytes.len() + padding.len())].concat());
        header.extend(body.concat());
        header.extend([kind_word, word(bytes.len())].concat());
        let parsed = MatFile::parse(header.chain(bytes).chain(padding)).map_err(Fault::damaged)?;
        // It returns nothing for much of what it cannot read, so what comes back is checked.
        let before = values.len();
        match parsed.arrays().as_slice() {
            [one] if *one.size() == [count, 1] => match one.data() {
                NumericData::Single { real, imag: None } => values.extend(real),
                NumericData::Double { real, imag: None } => values.extend(real.iter().map(|&x| x as f32)),
                _ => {}
            },
            _ => {}
        }
        if values.len() != before + count {
            return Err(Fault::damaged(format!("numbers of type {kind} in an array of class {class}")));
        }
        Ok(())
    }
}

fn word(bytes: [u8; 4], big_endian: bool) -> u32 {
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

pub(super) fn words([a, b, c, d, e, f, g, h]: [u8; 8], big_endian: bool) -> [u32; 2] {
    [word([a, b, c, d], big_endian), word([e, f, g, h], big_endian)]
}
