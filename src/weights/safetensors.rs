//! safetensors: torchvision's key names with whatever network's values, and this crate's own cache file.
//!
//! Only the header and the tensors asked for are read. The format promises that tensors fill the file without gaps;
//! that and every shape is checked first, so a cut or padded file is refused before a tensor is read.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use ::safetensors::Dtype;
use ::safetensors::tensor::{Metadata, TensorInfo};
use sha2::{Digest, Sha256};

use super::{
    Conv, Fault, HINT_FETCH, HINT_OTHER, OXFORD_MEAN, OXFORD_RED, OXFORD_UNIT, Prefix, TOLERANCE, VGG19, Weights, conv,
    is_oxford, missing, row_major,
};
use crate::error::{Error, Result};

mod inventory;

pub(super) use inventory::inventory;

/// VGG-19's header has about 5 KB.
const MAX_HEADER: u64 = 1 << 20;
/// torchvision's numbers of the 16 convolutions: `features.N.weight`.
const FEATURES: [usize; 16] = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34];
/// A cache file's key for the digest of everything else that its header says about it.
const SEAL: &str = "seal";
/// torchvision's networks are fed `(x/255 - mean)/std`, RGB.
const TORCHVISION_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const TORCHVISION_STD: [f32; 3] = [0.229, 0.224, 0.225];
const LICENSE: &str =
    "CC BY 4.0, Visual Geometry Group, University of Oxford; K. Simonyan and A. Zisserman, arXiv:1409.1556";

pub(super) fn read(file: &dyn ReadAt, length: u64, depth: usize) -> Result<Prefix, Fault> {
    let source = Source::open(file, length)?;
    if let Some(about) = source.about() {
        return source.cache(about, depth);
    }
    let names = source.header.offset_keys();
    let Some(prefix) = names.iter().find_map(|name| name.strip_suffix("features.0.weight")) else {
        let first = names.first().map_or("no tensor", String::as_str);
        return Err(Fault::new(format!("is not VGG-19: it has {first}, but no features.0.weight"), HINT_OTHER));
    };
    if source.header.info(&format!("{prefix}features.1.running_mean")).is_some() {
        return Err(Fault::new("is VGG-19 with batch normalisation", "use the network without it"));
    }
    source.torchvision(prefix, depth)
}

/// Where the bytes are: in a file, or in the program itself.
pub(super) trait ReadAt {
    /// Fills the buffer with what begins at `start`.
    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut file = self;
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(buffer)
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.get(start as usize..).unwrap_or_default().read_exact(buffer)
    }
}

pub(super) struct Source<'a> {
    file: &'a dyn ReadAt,
    pub(super) header: Metadata,
    /// Where tensors start.
    data: u64,
}

impl<'a> Source<'a> {
    pub(super) fn open(file: &'a dyn ReadAt, length: u64) -> Result<Self, Fault> {
        let mut size = [0; 8];
        file.read_at(0, &mut size)?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER {
            return Err(Fault::damaged(format!("its header claims {size} bytes")));
        }
        if length < 8 + size {
            return Err(Fault::new(format!("is cut off: {length} bytes are here, its header has {size}"), HINT_FETCH));
        }
        let mut text = vec![0; size as usize];
        file.read_at(8, &mut text)?;
        let header: Metadata =
            serde_json::from_slice(&text).map_err(|error| Fault::damaged(format!("its header: {error}")))?;
        let (data, tensors) = (8 + size, header.data_len() as u64);
        match length.saturating_sub(data).cmp(&tensors) {
            std::cmp::Ordering::Equal => Ok(Source { file, header, data }),
            std::cmp::Ordering::Less => {
                let what =
                    format!("is cut off: {length} bytes are here, {} belong to it", data.saturating_add(tensors));
                Err(Fault::new(what, HINT_FETCH))
            }
            std::cmp::Ordering::Greater => Err(Fault::damaged("something follows its tensors")),
        }
    }

    /// What a file of [`save_cache`] says about itself, if it is one.
    pub(super) fn about(&self) -> Option<&HashMap<String, String>> {
        self.header.metadata().as_ref().filter(|about| about.get("format").is_some_and(|format| format == "impasto"))
    }

    /// One tensor as f32, in the file's order of values.
    fn tensor(&self, index: usize, name: &str, shape: &[usize]) -> Result<Vec<f32>, Fault> {
        let info = self.header.info(name).ok_or_else(|| missing(index))?;
        if info.shape != shape {
            let what = format!("{}: {name} is {:?}, VGG-19's is {shape:?}", VGG19[index].0, info.shape);
            return Err(Fault::new(what, HINT_OTHER));
        }
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        self.file.read_at(self.data + start as u64, &mut bytes)?;
        Ok(match info.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| half(u16::from_le_bytes(b))).collect(),
            Dtype::BF16 => bytes.as_chunks().0.iter().map(|&[a, b]| f32::from_le_bytes([0, 0, a, b])).collect(),
            other => {
                let what = format!("{name} holds {other:?}, which is not supported");
                return Err(Fault::new(what, "convert it to F32, F16 or BF16"));
            }
        })
    }

    /// The file [`save_cache`] writes: kernels as they are used. What is read of it is checked against its digests.
    fn cache(&self, about: &HashMap<String, String>, depth: usize) -> Result<Prefix, Fault> {
        const CHANGED: &str = "it was changed after it was written";
        if about.get(SEAL) != Some(&seal(about.iter().map(|(key, value)| (key.as_str(), value.as_str())))) {
            return Err(Fault::damaged(format!("{CHANGED}: its header has another digest")));
        }
        let whole = about.get("incomplete");
        let read = |index: usize| {
            let (name, inputs, outputs) = VGG19[index];
            let weight = format!("{name}.weight");
            if let (Some(why), None) = (whole, self.header.info(&weight)) {
                return Err(Fault::new(
                    format!("{name} is missing: the file it was made from was incomplete ({why})"),
                    HINT_FETCH,
                ));
            }
            let kernel = self.tensor(index, &weight, &[3, 3, inputs, outputs])?;
            let conv = conv(index, kernel, self.tensor(index, &format!("{name}.bias"), &[outputs])?);
            match about.get(&format!("sha256.{name}")) {
                Some(known) if *known == digest(&conv) => Ok(conv),
                _ => Err(Fault::damaged(format!("{CHANGED}: {name} has another digest"))),
            }
        };
        let about = |key: &str| about.get(key).ok_or_else(|| Fault::damaged(format!("its header has no {key}")));
        let numbers = |key: &str| -> Result<Vec<f32>, Fault> {
            let bad = |_| Fault::damaged(format!("its header's {key} is no number"));
            about(key)?.split(',').map(|number| number.parse().map_err(bad)).collect()
        };
        let mean = numbers("mean")?.try_into().map_err(|_| Fault::damaged("its header's mean is not r,g,b"))?;
        let activation_unit = match numbers("activation_unit")?.as_slice() {
            [unit] if unit.is_finite() && *unit > 0.0 => *unit,
            unit => return Err(Fault::damaged(format!("its activation_unit is {unit:?}"))),
        };
        let about = Weights { convs: Vec::new(), mean, activation_unit, source: about("source")?.clone() };
        Ok(Prefix::of((0..depth).map(read), about))
    }

    /// torchvision's names and [Co, Ci, 3, 3]. The values tell whose network it is, and so what it must be fed.
    fn torchvision(&self, prefix: &str, depth: usize) -> Result<Prefix, Fault> {
        let read = |index: usize| {
            let (_, inputs, outputs) = VGG19[index];
            let key = |part| format!("{prefix}features.{}.{part}", FEATURES[index]);
            let kernel = self.tensor(index, &key("weight"), &[outputs, inputs, 3, 3])?;
            Ok(conv(index, row_major(&kernel, inputs, outputs, false), self.tensor(index, &key("bias"), &[outputs])?))
        };
        let mut first = read(0)?;
        if is_oxford(&first) {
            rgb(&mut first)?;
            let source = "VGG-19 of Oxford in torchvision's layout".into();
            let about = Weights { convs: vec![first], mean: OXFORD_MEAN, activation_unit: OXFORD_UNIT, source };
            return Ok(Prefix::of((1..depth).map(read), about));
        }
        // (x/255 - mean)/std = (x - 255 mean)/(255 std): the scale goes into conv1_1, whose zero padding stays zero.
        for (k, values) in first.kernel.chunks_mut(first.outputs).enumerate() {
            values.iter_mut().for_each(|value| *value /= 255.0 * TORCHVISION_STD[k % 3]);
        }
        let (mean, source) = (TORCHVISION_MEAN.map(|m| 255.0 * m), "VGG-19 of torchvision".into());
        let about = Weights { convs: vec![first], mean, activation_unit: 1.0, source };
        Ok(Prefix::of((1..depth).map(read), about))
    }
}

/// Brings the Oxford network's conv1_1 to RGB: conversions of the Caffe model keep its BGR.
fn rgb(conv1_1: &mut Conv) -> Result<(), Fault> {
    let outputs = conv1_1.outputs;
    let red = |ci: usize| {
        let values = &conv1_1.kernel[ci * outputs..];
        values.iter().zip(OXFORD_RED).all(|(a, b)| (a - b).abs() < TOLERANCE)
    };
    if red(0) {
        return Ok(());
    }
    if !red(2) {
        return Err(Fault::damaged("it has the Oxford network's biases, but not its kernels"));
    }
    for tap in conv1_1.kernel.chunks_mut(3 * outputs) {
        let (first, last) = tap.split_at_mut(2 * outputs);
        first[..outputs].swap_with_slice(last);
    }
    Ok(())
}

/// IEEE half to single, exactly.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (u32::from(bits >> 10 & 31), u32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction as f32 / (1 << 24) as f32,
        31 => f32::from_bits(0x7f80_0000 | fraction << 13),
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    if bits >> 15 == 0 { magnitude } else { -magnitude }
}

/// A convolution's values, kernel then bias, little-endian, some at a time.
fn in_bytes(conv: &Conv, mut put: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 16);
    for values in conv.kernel.chunks(1 << 14).chain([conv.bias.as_slice()]) {
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        put(&bytes)?;
    }
    Ok(())
}

/// Digest of a convolution's values.
fn digest(conv: &Conv) -> String {
    let mut hasher = Sha256::new();
    // A hasher takes everything.
    let _ = in_bytes(conv, |bytes| {
        hasher.update(bytes);
        Ok(())
    });
    hex(&hasher.finalize())
}

/// Hashes a file from where it stands to its end; how many bytes that were.
pub(super) fn hash_rest(hasher: &mut Sha256, file: &mut File) -> io::Result<u64> {
    let (mut buffer, mut length) = (vec![0; 1 << 16], 0);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(length),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Digest of all that a header says but its seal.
fn seal<'a>(about: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let sorted: BTreeMap<_, _> = about.filter(|(key, _)| *key != SEAL).collect();
    let mut hasher = Sha256::new();
    for (key, value) in sorted {
        for text in [key, value] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
    }
    hex(&hasher.finalize())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `weights` to `path` as safetensors, for [`super::load`] to read: `conv1_1.weight` `[3, 3, Ci, Co]`,
/// `conv1_1.bias` `[Co]` …, with mean, unit, source, licence and digests in the header. The same weights give the same
/// bytes.
///
/// The file appears whole or not at all; several processes may write it at once.
///
/// # Errors
/// [`Error::Output`] if the folder cannot be written to.
pub fn save_cache(weights: &Weights, path: &Path) -> Result<()> {
    save(weights, BTreeMap::new(), path)
}

/// [`save_cache`] with more to say in the header.
pub(super) fn save(weights: &Weights, about: BTreeMap<String, String>, path: &Path) -> Result<()> {
    write(weights, about, path).map_err(|error| {
        let size = weights.convs.iter().map(|conv| 4 * (conv.kernel.len() + conv.bias.len()) as u64).sum();
        unwritable(path, &error, size)
    })
}

/// Why a file of `size` bytes cannot be written.
pub(super) fn unwritable(path: &Path, error: &io::Error, size: u64) -> Error {
    let megabytes = size.div_ceil(1_000_000);
    let (what, hint) = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            (format!("the disk is full: the file takes {megabytes} MB"), "free some space, or set IMPASTO_CACHE")
        }
        _ => (format!("cannot be written: {error}"), "check that the folder exists, can be written to and has room"),
    };
    Error::Output { path: path.to_path_buf(), what, hint: hint.into() }
}

fn write(weights: &Weights, mut about: BTreeMap<String, String>, path: &Path) -> io::Result<()> {
    let license = if weights.convs.first().is_some_and(is_oxford) { LICENSE } else { "see source" };
    let [r, g, b] = weights.mean;
    let mut header = serde_json::Map::new();
    let mut end = 0;
    let mut entry = |name: String, shape: Vec<usize>| -> io::Result<()> {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let info = TensorInfo { dtype: Dtype::F32, shape, data_offsets: (start, end) };
        header.insert(name, serde_json::to_value(info)?);
        Ok(())
    };
    for conv in &weights.convs {
        entry(format!("{}.weight", conv.name), vec![3, 3, conv.inputs, conv.outputs])?;
        entry(format!("{}.bias", conv.name), vec![conv.outputs])?;
        about.insert(format!("sha256.{}", conv.name), digest(conv));
    }
    about.extend(
        [
            ("format", "impasto".into()),
            ("source", weights.source.clone()),
            ("mean", format!("{r},{g},{b}")),
            ("activation_unit", weights.activation_unit.to_string()),
            ("orientation", "[row, column, input, output], as trained".into()),
            ("license", license.into()),
        ]
        .map(|(key, value): (&str, String)| (key.into(), value)),
    );
    let seal = seal(about.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    about.insert(SEAL.into(), seal);
    header.insert("__metadata__".into(), serde_json::to_value(about)?);
    let mut text = serde_json::to_string(&header)?;
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));

    // A temporary file's name is only safe to move from within the same file system.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = temporary_prefix(&name);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    // The permissions of any new file: others may share the folder.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut part = builder.tempfile_in(folder)?;
    let mut written = Sha256::new();
    let mut put = |bytes: &[u8]| {
        written.update(bytes);
        part.as_file_mut().write_all(bytes)
    };
    put(&(text.len() as u64).to_le_bytes())?;
    put(text.as_bytes())?;
    for conv in &weights.convs {
        in_bytes(conv, &mut put)?;
    }
    part.as_file().sync_all()?;
    let mut found = Sha256::new();
    part.as_file_mut().seek(SeekFrom::Start(0))?;
    hash_rest(&mut found, part.as_file_mut())?;
    if found.finalize() != written.finalize() {
        return Err(io::Error::new(ErrorKind::InvalidData, "other bytes come back than were written"));
    }
    part.persist(path)?;
    // The file is in place; systems that cannot sync a folder do not make that a failure.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// How the names of the temporary files for `name` start.
pub(super) fn temporary_prefix(name: &str) -> String {
    format!(".{name}-")
}
