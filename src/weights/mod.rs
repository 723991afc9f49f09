//! The network's weights: VGG-19's 16 convolutions, read from whatever file the user has.
//!
//! [`load`] finds the format by content: MatConvNet's `imagenet-vgg-verydeep-19.mat` in both its layouts, torchvision's
//! key names in safetensors, and this crate's own cache file ([`save_cache`]), of which [`store`] keeps a folder. All give the same [`Weights`]: kernels
//! `[3, 3, Ci, Co]` for RGB input in 0..255 minus [`Weights::mean`]. A file is whole and plausible as deep as it was
//! asked for, or it is an error that says what to do; nothing is guessed in silence.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

pub mod builtin;
mod mat5;
mod safetensors;
pub mod show;
pub mod store;

pub use safetensors::save_cache;

/// One 3x3 convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// The layer's name, e.g. `conv1_1`.
    pub name: String,
    /// Input channels Ci.
    pub inputs: usize,
    /// Output channels Co.
    pub outputs: usize,
    /// `[3, 3, Ci, Co]` row-major: tap row, tap column, input, output; output fastest.
    pub kernel: Vec<f32>,
    /// `[Co]`.
    pub bias: Vec<f32>,
}

/// The convolutions of VGG-19 in network order, as deep as asked for, plus what belongs to their source.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// From conv1_1 down, without gaps.
    pub convs: Vec<Conv>,
    /// RGB, on the 0..255 scale: subtracted from the picture before conv1_1.
    pub mean: [f32; 3],
    /// What activations are divided by to get those of a network fed `(x/255 - mean)/std`: 57.4 for the Oxford
    /// weights, 1 for weights trained that way.
    pub activation_unit: f32,
    /// Where the weights come from, in one line for people.
    pub source: String,
}

impl Weights {
    /// SHA-256 of every kernel and bias, in hexadecimal.
    pub fn digest(&self) -> String {
        self.digest_of(self.convs.len())
    }

    /// [`Weights::digest`] of the first `depth` convolutions alone: that of weights loaded no deeper.
    pub fn digest_of(&self, depth: usize) -> String {
        let mut hash = Sha256::new();
        for values in self.convs.iter().take(depth).flat_map(|conv| [&conv.kernel, &conv.bias]) {
            hash.update((values.len() as u64).to_le_bytes());
            for values in values.chunks(4096) {
                hash.update(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Swaps rows and columns of every kernel: the orientation in which the article runs the network.
    pub fn transposed(mut self) -> Weights {
        for conv in &mut self.convs {
            let tap = conv.inputs * conv.outputs;
            for (i, j) in [(0, 1), (0, 2), (1, 2)] {
                let (upper, lower) = conv.kernel.split_at_mut((j * 3 + i) * tap);
                upper[(i * 3 + j) * tap..][..tap].swap_with_slice(&mut lower[..tap]);
            }
        }
        self
    }
}

/// VGG-19's convolutions: name, input channels, output channels.
pub const VGG19: [(&str, usize, usize); 16] = [
    ("conv1_1", 3, 64),
    ("conv1_2", 64, 64),
    ("conv2_1", 64, 128),
    ("conv2_2", 128, 128),
    ("conv3_1", 128, 256),
    ("conv3_2", 256, 256),
    ("conv3_3", 256, 256),
    ("conv3_4", 256, 256),
    ("conv4_1", 256, 512),
    ("conv4_2", 512, 512),
    ("conv4_3", 512, 512),
    ("conv4_4", 512, 512),
    ("conv5_1", 512, 512),
    ("conv5_2", 512, 512),
    ("conv5_3", 512, 512),
    ("conv5_4", 512, 512),
];

/// Mean colour of the Oxford network's training pictures, RGB in 0..255.
const OXFORD_MEAN: [f32; 3] = [123.68, 116.779, 103.939];
/// 255 * 0.225: turns the Oxford network's activations into those of one fed normalised pictures.
const OXFORD_UNIT: f32 = 57.4;
/// The first biases of the Oxford network's conv1_1, by which it is known whatever file it is in.
const OXFORD_BIAS: [f32; 5] = [0.730_177_6, 0.064_936_29, 0.034_288_47, 0.826_038_6, 0.257_802_9];
/// Its first kernel values: tap [0, 0], red, the first outputs.
const OXFORD_RED: [f32; 3] = [0.394_167_04, -0.084_197_07, -0.036_313_14];
/// Between these and a copy in bf16, whose steps are 2^-8.
const TOLERANCE: f32 = 4e-3;

const HINT_FETCH: &str = "get the whole file again: `impasto weights fetch`";
const HINT_OTHER: &str =
    "give VGG-19 as imagenet-vgg-verydeep-19.mat or as safetensors, or get it with `impasto weights fetch`";

/// What is wrong with a file, for [`load`] to put the path to.
#[derive(Debug)]
struct Fault {
    what: String,
    hint: &'static str,
    /// The data ended before they should, because the file does.
    ended: bool,
}

impl Fault {
    fn new(what: impl Into<String>, hint: &'static str) -> Self {
        Fault { what: what.into(), hint, ended: false }
    }

    fn damaged(what: impl std::fmt::Display) -> Self {
        Fault::new(format!("damaged: {what}"), HINT_FETCH)
    }

    fn at(self, path: &Path) -> Error {
        Error::Weights { path: path.to_path_buf(), what: self.what, hint: self.hint.into() }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Fault::new("no such file", "check the path, or use --weights builtin"),
            io::ErrorKind::PermissionDenied => Fault::new("no permission to read it", "check the file's permissions"),
            io::ErrorKind::UnexpectedEof => Fault { ended: true, ..Fault::damaged("its data end early") },
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Fault::damaged(error),
            _ => Fault::new(format!("cannot be read: {error}"), "check the disk, or copy the file to another place"),
        }
    }
}

/// Reads the first `depth` convolutions (1..=16) from `path`; the format is found by content, never by extension.
///
/// Memory stays near the size of the tensors asked for; the file is never held whole.
///
/// # Errors
/// [`Error::Weights`] with the remedy if the file is missing, something else, cut off, damaged, or a partial copy.
pub fn load(path: &Path, depth: usize) -> Result<Weights> {
    if !(1..=VGG19.len()).contains(&depth) {
        return Err(Error::Config {
            option: "depth",
            what: format!("{depth} convolutions were asked for, VGG-19 has {}", VGG19.len()),
            hint: "ask for 1 to 16".into(),
        });
    }
    let whole = |prefix: Prefix| prefix.end.map_or(Ok(prefix.weights), Err);
    read(path, depth).and_then(whole).map_err(|fault| fault.at(path))
}

/// What a file holds of VGG-19 from conv1_1 down without gaps: at least that.
#[derive(Debug)]
struct Prefix {
    weights: Weights,
    /// Why it is not as deep as was asked for.
    end: Option<Fault>,
}

impl Prefix {
    /// The convolutions up to the first that cannot be read.
    fn of(convs: impl Iterator<Item = Result<Conv, Fault>>, about: Weights) -> Prefix {
        let mut prefix = Prefix { weights: about, end: None };
        for conv in convs {
            match conv {
                Ok(conv) => prefix.weights.convs.push(conv),
                Err(fault) => {
                    prefix.end = Some(fault);
                    break;
                }
            }
        }
        prefix
    }
}

/// Opens a weight file and tells its format and length.
fn open(path: &Path) -> Result<(File, Format, u64), Fault> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "is a folder, not a file" } else { "is not a regular file" };
        return Err(Fault::new(what, "give the weight file itself"));
    }
    let file = File::open(path)?;
    let mut head = Vec::new();
    (&file).take(512).read_to_end(&mut head)?;
    Ok((file, format(&head)?, metadata.len()))
}

/// The longest whole prefix of at most `depth` convolutions.
fn read(path: &Path, depth: usize) -> Result<Prefix, Fault> {
    let (file, format, length) = open(path)?;
    let mut prefix = match format {
        Format::Mat5 { big_endian } => mat5::read(&file, length, big_endian, depth)?,
        Format::Safetensors => safetensors::read(&file, length, depth)?,
    };
    let weights = &mut prefix.weights;
    let found = weights.convs.iter().map(plausible).enumerate().find_map(|(at, found)| Some((at, found.err()?)));
    if let Some((at, fault)) = found {
        weights.convs.truncate(at);
        prefix.end = Some(fault);
    }
    if weights.convs.is_empty() {
        return Err(prefix.end.unwrap_or_else(|| missing(0)));
    }
    if !weights.mean.iter().all(|m| (0.0..=255.0).contains(m)) {
        return Err(Fault::damaged(format!("its mean colour is {:?}", weights.mean)));
    }
    Ok(prefix)
}

enum Format {
    Mat5 { big_endian: bool },
    Safetensors,
}

/// Tells formats apart by the file's first 512 bytes, and names the ones users mistake for weights.
fn format(head: &[u8]) -> Result<Format, Fault> {
    const UNPACK: &str = "unpack it first";
    const KNOWN: [(&[u8], &str, &str); 18] = [
        (b"\xff\xd8\xff", "is a picture (JPEG), not weights", HINT_OTHER),
        (b"\x89PNG", "is a picture (PNG), not weights", HINT_OTHER),
        (b"GIF8", "is a picture (GIF), not weights", HINT_OTHER),
        (b"RIFF", "is a picture or sound (RIFF), not weights", HINT_OTHER),
        (b"II*\0", "is a picture (TIFF), not weights", HINT_OTHER),
        (b"MM\0*", "is a picture (TIFF), not weights", HINT_OTHER),
        (b"BM", "is a picture (BMP), not weights", HINT_OTHER),
        (b"\x1f\x8b", "is compressed with gzip", UNPACK),
        (b"BZh", "is compressed with bzip2", UNPACK),
        (b"\xfd7zXZ", "is compressed with xz", UNPACK),
        (b"\x28\xb5\x2f\xfd", "is compressed with zstd", UNPACK),
        (b"PK\x03\x04", "is a PyTorch file (.pth) or another zip archive", HINT_TORCH),
        (b"\x80\x02", "is a pickle (an old PyTorch .pth)", HINT_TORCH),
        (b"\x80\x03", "is a pickle (Python)", HINT_TORCH),
        (b"\x80\x04", "is a pickle (Python)", HINT_TORCH),
        (b"version https://git-lfs", "is a Git LFS pointer: the file itself was not downloaded", "run `git lfs pull`"),
        (b"\x89HDF\r\n\x1a\n", "is HDF5 (MATLAB v7.3 or Keras), which is not supported", HINT_HDF5),
        (b"MATLAB 7.3", "is MATLAB v7.3 (HDF5), which is not supported", HINT_HDF5),
    ];
    const HINT_TORCH: &str = "convert it to safetensors in Python: \
        safetensors.torch.save_file(torch.load('vgg19.pth'), 'vgg19.safetensors')";
    const HINT_HDF5: &str = "in MATLAB save it again with -v7";

    if head.is_empty() {
        return Err(Fault::new("is empty", HINT_FETCH));
    }
    // A v5 header is 116 bytes of text, an offset, the version and "IM" or "MI" in the writer's byte order.
    match head.get(124..128) {
        Some(b"\x00\x01IM") => return Ok(Format::Mat5 { big_endian: false }),
        Some(b"\x01\x00MI") => return Ok(Format::Mat5 { big_endian: true }),
        Some(b"\x00\x02IM" | b"\x02\x00MI") => {
            return Err(Fault::new("is MATLAB v7.3 (HDF5), which is not supported", HINT_HDF5));
        }
        _ => {}
    }
    // A safetensors file starts with a length of 8 bytes and a JSON object.
    if head.get(6..9) == Some(b"\0\0{") {
        return Ok(Format::Safetensors);
    }
    if let Some((_, what, hint)) = KNOWN.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Err(Fault::new(*what, hint));
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    Err(if text.starts_with(b"<") {
        Fault::new("is a web page, not weights", "the download went wrong: get the file with `impasto weights fetch`")
    } else if head.starts_with(b"MATLAB 5.0 MAT-file") && head.len() < 128 {
        Fault::new(format!("is cut off: {} bytes are here", head.len()), HINT_FETCH)
    } else if mat4(head) {
        Fault::new("is MATLAB v4, which cannot hold a network", HINT_OTHER)
    } else {
        Fault::new("is not a weight file of any known kind", HINT_OTHER)
    })
}

/// A v4 file starts with five words: MOPT (four decimal digits), rows, columns, imaginary flag, length of the name.
fn mat4(head: &[u8]) -> bool {
    let fits = |word: fn([u8; 4]) -> u32| {
        let mut words = head.as_chunks().0.iter().copied().map(word);
        let mut next = || words.next().unwrap_or(u32::MAX);
        let (kind, _rows, _columns, imaginary, name) = (next(), next(), next(), next(), next());
        kind < 5000 && kind / 100 % 10 == 0 && imaginary <= 1 && (1..=256).contains(&name)
    };
    fits(u32::from_le_bytes) || fits(u32::from_be_bytes)
}

/// Refuses values no trained layer has: a partial copy of the network passes every other test, and paints nonsense.
fn plausible(conv: &Conv) -> Result<(), Fault> {
    const WHOLE: &str = "this copy of the network is incomplete: get the whole one with `impasto weights fetch`";
    let name = &conv.name;
    for values in [&conv.kernel, &conv.bias] {
        // Without an early end, which would keep the compiler from taking many at a time.
        if values.iter().fold(false, |bad, value| bad | !value.is_finite()) {
            let bad = values.iter().find(|value| !value.is_finite()).copied().unwrap_or(f32::NAN);
            return Err(Fault::damaged(format!("{name} holds {bad}")));
        }
    }
    let taps = conv.kernel.chunks(conv.inputs * conv.outputs);
    match taps.filter(|tap| tap.iter().any(|&x| x != 0.0)).count() {
        0 => Err(Fault::new(format!("{name} is all zero: this file is a partial copy"), WHOLE)),
        1 => Err(Fault::new(
            format!("{name} has one tap of nine, the others are zero: this file is a partial copy"),
            WHOLE,
        )),
        _ => Ok(()),
    }
}

/// One convolution of `VGG19`, once its file has given values of the right number.
fn conv(index: usize, kernel: Vec<f32>, bias: Vec<f32>) -> Conv {
    let (name, inputs, outputs) = VGG19[index];
    Conv { name: name.into(), inputs, outputs, kernel, bias }
}

/// Taps fastest, then inputs, then outputs, as every format but ours has it, to [3, 3, Ci, Co]. MATLAB's taps have
/// their rows fastest.
fn row_major(values: &[f32], inputs: usize, outputs: usize, rows_fastest: bool) -> Vec<f32> {
    // As many outputs at a time as fill a line of the processor's cache.
    const BLOCK: usize = 16;
    let mut kernel = vec![0.0; values.len()];
    for (block, values) in values.chunks(BLOCK * 9 * inputs).enumerate() {
        for (ci, t) in (0..9 * inputs).map(|k| (k / 9, k % 9)) {
            let tap = if rows_fastest { t % 3 * 3 + t / 3 } else { t };
            let line = &mut kernel[(tap * inputs + ci) * outputs + block * BLOCK..];
            for (value, taps) in line.iter_mut().zip(values[9 * ci..].chunks(9 * inputs)) {
                *value = taps[t];
            }
        }
    }
    kernel
}

fn missing(index: usize) -> Fault {
    Fault::new(
        format!("{} is missing", VGG19[index].0),
        "this is not the whole of VGG-19: get it with `impasto weights fetch`",
    )
}

/// Whether conv1_1 is that of the Oxford network.
fn is_oxford(conv1_1: &Conv) -> bool {
    conv1_1.bias.iter().zip(OXFORD_BIAS).all(|(a, b)| (a - b).abs() < TOLERANCE)
}
