//! How long it takes to load VGG-19 from a `.mat` file of the article's kind, and how much memory, against inflating the
//! same stream alone.
//!
//! ```sh
//! weights_load write FILE     # all 16 convolutions with random values, compressed as MATLAB does: 80 MB inflated
//! weights_load inflate FILE   # flate2 alone, to nowhere
//! weights_load load FILE      # the reader; also of safetensors and cache files
//! weights_load save FILE TO   # the reader, and the cache file
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measurement, not a program")]

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Instant;

use flate2::bufread::ZlibDecoder;
use impasto::weights::{VGG19, load, save_cache};

#[path = "../../tests/weights/writer.rs"]
#[allow(dead_code, reason = "written for the tests of the reader")]
mod writer;

use writer::Style;

/// Numbers of a trained layer's size, whose bits compress as badly as a trained layer's.
fn random(counter: usize) -> f32 {
    let mut z = (counter as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z >> 40) as f32 / 8_388_608.0 - 1.0) / 50.0
}

fn write(path: &Path) {
    let style = Style { compressed: true, ..Style::default() };
    let conv = |layer: usize| {
        let (_, inputs, outputs) = VGG19[layer];
        style.conv(layer, |i, j, ci, co| random((((layer * 3 + i) * 3 + j) * inputs + ci) * outputs + co))
    };
    let layers: Vec<Vec<u8>> = (0..16).map(conv).collect();
    std::fs::write(path, style.file(&[style.layers(&layers), style.mean()])).unwrap();
}

/// The first variable's stream, which holds the layers.
fn inflate(path: &Path) -> u64 {
    let mut file = File::open(path).unwrap();
    let mut tag = [0; 8];
    file.seek(SeekFrom::Start(128)).unwrap();
    file.read_exact(&mut tag).unwrap();
    let [_, _, _, _, size @ ..] = tag;
    let stream = BufReader::with_capacity(1 << 16, file.take(u32::from_le_bytes(size).into()));
    std::io::copy(&mut ZlibDecoder::new(stream), &mut std::io::sink()).unwrap()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, path, ..] = arguments.as_slice() else { panic!("weights_load write|inflate|load|save FILE [TO]") };
    let path = Path::new(path);
    let start = Instant::now();
    let bytes = match what.as_str() {
        "write" => {
            write(path);
            std::fs::metadata(path).unwrap().len()
        }
        "inflate" => inflate(path),
        "load" | "save" => {
            let weights = load(path, 16).unwrap();
            if what == "save" {
                save_cache(&weights, Path::new(&arguments[2])).unwrap();
            }
            weights.convs.iter().map(|conv| 4 * (conv.kernel.len() + conv.bias.len()) as u64).sum()
        }
        _ => panic!("{what}?"),
    };
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown");
    println!("{what}: {seconds:.3} s, {bytes} bytes, {peak}");
}
