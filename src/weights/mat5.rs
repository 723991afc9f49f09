//! MatConvNet's `imagenet-vgg-verydeep-19.mat`, in both layouts: a reader of MAT v5 as far as that needs it.
//!
//! The file is read as a stream and by its schema: `layers` is a cell of structs, `weights` in it a cell of kernel and
//! bias. Whatever else is there is passed over by its length, so hostile nesting costs nothing.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use flate2::bufread::ZlibDecoder;

mod stream;
mod walk;

pub(super) use walk::inventory;

use stream::{Array, BUDGET, CELL, CHAR, COMPRESSED, Cursor, MATRIX, STRUCT, words};

use super::{
    Conv, Fault, HINT_FETCH, HINT_OTHER, OXFORD_MEAN, OXFORD_UNIT, Prefix, VGG19, Weights, conv, missing, row_major,
};

/// More variables or layers than this are not a network's.
const MAX_COUNT: usize = 1000;

pub(super) fn read(file: &File, length: u64, big_endian: bool, depth: usize) -> Result<Prefix, Fault> {
    let mut found = Found { convs: (0..depth).map(|_| None).collect(), layers: false, mean: None };
    let mut end = variables(file, length, big_endian, BUDGET, |cursor| {
        found.variable(cursor)?;
        Ok(!(found.layers && found.mean.is_some()))
    })
    .err();
    if found.layers {
        // The mean follows the convolutions: without it they are still whole, and its value is known.
        end = end.filter(|fault| !fault.ended);
    } else if end.is_none() {
        return Err(Fault::new("holds no variable `layers`: it is not a MatConvNet network", HINT_OTHER));
    }
    let known = if found.mean.is_some() { "" } else { ", without its mean colour: that of the Oxford network is used" };
    let about = Weights {
        convs: Vec::new(),
        mean: found.mean.unwrap_or(OXFORD_MEAN),
        activation_unit: OXFORD_UNIT,
        source: format!("VGG-19, MatConvNet file{known}"),
    };
    let convs = found.convs.into_iter().enumerate().map(|(i, conv)| conv.ok_or_else(|| missing(i)));
    let mut prefix = Prefix::of(convs, about);
    // What stopped the reading tells more than which layer is missing for it.
    prefix.end = end.or(prefix.end);
    Ok(prefix)
}

/// Hands each variable to `visit` until it has enough. Where the file ends too early the fault is `ended`.
fn variables(
    mut file: &File,
    length: u64,
    big_endian: bool,
    limit: u64,
    mut visit: impl FnMut(&mut Cursor<'_>) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    let (mut start, mut budget) = (128u64, limit);
    let cut = |needed: u64| {
        let what = format!("is cut off: {length} bytes are here, at least {needed} belong to it");
        Fault { ended: true, ..Fault::new(what, HINT_FETCH) }
    };
    for _ in 0..MAX_COUNT {
        if start == length {
            break;
        }
        if length.saturating_sub(start) < 8 {
            return Err(cut(start + 8));
        }
        let mut tag = [0; 8];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut tag)?;
        let [kind, size] = words(tag, big_endian);
        let end = start + 8 + u64::from(size);
        let input: Box<dyn Read + '_> = match kind {
            COMPRESSED => Box::new(ZlibDecoder::new(BufReader::with_capacity(1 << 16, file.take(size.into())))),
            MATRIX => {
                file.seek(SeekFrom::Start(start))?;
                Box::new(BufReader::with_capacity(1 << 16, file.take(end - start)))
            }
            _ => {
                return Err(Fault::damaged(format!("byte {start} should start a variable")));
            }
        };
        let mut cursor = Cursor { input, at: 0, budget, limit, big_endian };
        match visit(&mut cursor) {
            Ok(true) => {}
            Ok(false) => break,
            Err(fault) if fault.ended && end > length => return Err(cut(end)),
            Err(fault) => return Err(Fault { ended: false, ..fault }),
        }
        budget = budget.saturating_sub(cursor.at);
        start = end;
    }
    Ok(())
}

/// What was gathered so far.
struct Found {
    convs: Vec<Option<Conv>>,
    /// The variable `layers` was read, to its end or as deep as needed.
    layers: bool,
    mean: Option<[f32; 3]>,
}

impl Found {
    fn variable(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        let array = cursor.array(u64::MAX)?;
        match (array.name.as_str(), array.class) {
            ("layers", CELL) => self.layers(cursor, &array)?,
            // beta16 has `normalization`, later files have it in `meta`.
            ("normalization", STRUCT) => self.normalization(cursor, &array)?,
            ("meta", STRUCT) => {
                cursor.fields(&array, |cursor, name, field| match (name, field.class) {
                    ("normalization", STRUCT) => self.normalization(cursor, field),
                    _ => Ok(()),
                })?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads layers until the deepest one needed: some 500 MB of fully connected layers follow.
    fn layers(&mut self, cursor: &mut Cursor<'_>, cell: &Array) -> Result<(), Fault> {
        if cell.count()? > MAX_COUNT {
            return Err(Fault::damaged("it has more layers than any VGG"));
        }
        for _ in 0..cell.count()? {
            if self.convs.iter().all(Option::is_some) {
                break;
            }
            let array = cursor.array(cell.end)?;
            if array.class == STRUCT {
                self.layer(cursor, &array)?;
            }
            cursor.skip_to(array.end)?;
        }
        self.layers = true;
        Ok(())
    }

    /// Reads one layer and keeps it if it is a convolution asked for. Its name may come after its weights.
    fn layer(&mut self, cursor: &mut Cursor<'_>, array: &Array) -> Result<(), Fault> {
        let (mut name, mut kind, mut kernel, mut bias) = (None, None, None, None);
        cursor.fields(array, |cursor, field, value| {
            match (field, value.class) {
                ("name", CHAR) => name = Some(cursor.text(value)?),
                ("type", CHAR) => kind = Some(cursor.text(value)?),
                ("weights", CELL) => {
                    for (_, leaf) in (0..value.count()?).zip([&mut kernel, &mut bias]) {
                        let array = cursor.array(value.end)?;
                        *leaf = cursor.values(&array)?.map(|values| (array.shape.clone(), values));
                        cursor.skip_to(array.end)?;
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        let index = VGG19.iter().take(self.convs.len()).position(|(known, ..)| Some(*known) == name.as_deref());
        let (Some(index), Some("conv")) = (index, kind.as_deref()) else {
            return Ok(());
        };
        let (name, inputs, outputs) = VGG19[index];
        if self.convs[index].is_some() {
            return Err(Fault::damaged(format!("{name} is there twice")));
        }
        let (Some((kernel_shape, kernel)), Some((_, bias))) = (kernel, bias) else {
            return Err(Fault::damaged(format!("{name} has no kernel or no bias")));
        };
        if kernel_shape != [3, 3, inputs, outputs] || bias.len() != outputs {
            let what = format!(
                "{name} has a kernel {kernel_shape:?} and {} biases, VGG-19's is [3, 3, {inputs}, {outputs}]",
                bias.len()
            );
            return Err(Fault::new(what, HINT_OTHER));
        }
        self.convs[index] = Some(conv(index, row_major(&kernel, inputs, outputs, true), bias));
        Ok(())
    }

    /// The mean colour is that of `averageImage`, [224, 224, 3] or [1, 1, 3].
    fn normalization(&mut self, cursor: &mut Cursor<'_>, array: &Array) -> Result<(), Fault> {
        cursor.fields(array, |cursor, name, field| {
            if name != "averageImage" || field.count()? == 0 {
                return Ok(());
            }
            let values = cursor.values(field)?.filter(|_| field.shape.len() == 3 && field.shape[2] == 3);
            let Some(values) = values else {
                return Err(Fault::damaged(format!("its averageImage is {:?}, not [H, W, 3]", field.shape)));
            };
            let channel = values.len() / 3;
            let mean = |c: usize| values[c * channel..][..channel].iter().map(|&x| f64::from(x)).sum::<f64>();
            self.mean = Some([0, 1, 2].map(|c| (mean(c) / channel as f64) as f32));
            Ok(())
        })
    }
}
