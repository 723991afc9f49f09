//! Weight files: the real ones in ../shared/vgg19 (or `$IMPASTO_SHARED/vgg19`), and hostile ones made here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flate2::{Compression, write::ZlibEncoder};
use impasto::error::{Error, Result};
use impasto::weights::{VGG19, Weights, load, save_cache};

mod common;
#[path = "weights/safetensors.rs"]
mod in_safetensors;
#[path = "weights/writer.rs"]
mod writer;

use writer::{CELL, SINGLE, STRUCT, Style, value};

const BETA16: &str = "imagenet-vgg-verydeep-19.beta16.PARTIAL.mat";
const LATER: &str = "imagenet-vgg-verydeep-19.newformat.PARTIAL.mat";
const GENUINE: &str = "imagenet-vgg-verydeep-19.newformat.GENUINE-first-75776-bytes.mat";
const TORCH: &str = "vgg19-original-conv1_1-conv3_1.safetensors";
const OXFORD_MEAN: [f32; 3] = [123.68, 116.779, 103.939];

// ---- real files ----

fn shared(name: &str) -> Option<PathBuf> {
    let path = common::shared(name)?.join("vgg19").join(name);
    if !path.is_file() {
        common::skip(name, &format!("no {}", path.display()));
        return None;
    }
    Some(path)
}

#[test]
fn the_real_conv1_1_has_the_published_values_in_all_four_files() {
    for name in [BETA16, LATER, GENUINE, TORCH] {
        let Some(path) = shared(name) else { return };
        let weights = load(&path, 1).unwrap();
        let conv = &weights.convs[0];
        assert_eq!(conv.kernel[..3], [0.39416704, -0.08419707, -0.03631314], "{name}");
        assert_eq!(conv.bias[..5], [0.7301776, 0.06493629, 0.03428847, 0.8260386, 0.2578029], "{name}");
        assert_eq!(weights.mean, OXFORD_MEAN, "{name}");
        assert_eq!(weights.activation_unit, 57.4, "{name}");
    }
}

#[test]
fn both_layouts_of_the_real_mat_file_are_equal_down_to_conv2_2() {
    let (Some(beta16), Some(later)) = (shared(BETA16), shared(LATER)) else {
        return;
    };
    assert_eq!(load(&beta16, 4).unwrap(), load(&later, 4).unwrap());
}

#[test]
fn the_real_safetensors_and_mat_files_are_equal_down_to_conv3_1() {
    let (Some(mat), Some(torch)) = (shared(BETA16), shared(TORCH)) else {
        return;
    };
    let (mat, torch) = (load(&mat, 5).unwrap(), load(&torch, 5).unwrap());
    assert_eq!(mat.convs, torch.convs);
    assert_eq!(mat.mean, torch.mean);
}

#[test]
fn the_real_file_survives_the_cache_bit_by_bit() {
    let Some(path) = shared(BETA16) else { return };
    let weights = load(&path, 8).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    save_cache(&weights, &cache).unwrap();
    assert_eq!(load(&cache, 8).unwrap(), weights);
    assert_complaint(load(&cache, 9), "conv4_1 is missing");
}

#[test]
fn the_genuine_truncated_file_gives_conv1_1_and_says_that_it_is_cut_off_below() {
    let (Some(genuine), Some(beta16)) = (shared(GENUINE), shared(BETA16)) else {
        return;
    };
    assert_eq!(load(&genuine, 1).unwrap().convs, load(&beta16, 1).unwrap().convs);
    assert_complaint(load(&genuine, 2), "cut off: 75776 bytes are here");
}

#[test]
fn partial_copies_of_the_network_are_refused_where_they_become_partial() {
    let (Some(beta16), Some(later)) = (shared(BETA16), shared(LATER)) else {
        return;
    };
    assert_eq!(load(&beta16, 8).unwrap().convs.len(), 8);
    assert_complaint(load(&beta16, 9), "conv4_1 has one tap of nine");
    assert_complaint(load(&later, 5), "conv3_1 is all zero");
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Scratch(tempfile::tempdir().unwrap())
    }

    fn put(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn load(&self, bytes: &[u8], depth: usize) -> Result<Weights> {
        load(&self.put(bytes), depth)
    }
}

#[track_caller]
fn assert_complaint(result: Result<Weights>, words: &str) {
    let Err(error) = result else {
        panic!("no error that says `{words}`");
    };
    let Error::Weights { path, .. } = &error else {
        panic!("another kind of error: {error}");
    };
    let text = error.to_string();
    assert!(text.contains(words), "`{text}` does not say `{words}`");
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(!error.hint().is_empty() && !text.contains('\n'), "{error:?}");
}

/// Either an error with a remedy, or tensors of the right shapes; and soon.
#[track_caller]
fn assert_sane(scratch: &Scratch, bytes: &[u8], depth: usize) -> Result<Weights> {
    let start = Instant::now();
    let result = scratch.load(bytes, depth);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    match &result {
        Ok(weights) => {
            assert_eq!(weights.convs.len(), depth);
            for (conv, (name, ci, co)) in weights.convs.iter().zip(VGG19) {
                assert_eq!((conv.name.as_str(), conv.inputs, conv.outputs), (name, ci, co));
                assert_eq!((conv.kernel.len(), conv.bias.len()), (9 * ci * co, co));
                assert!(conv.kernel.iter().chain(&conv.bias).all(|x| x.is_finite()));
            }
            assert!(weights.mean.iter().all(|m| (0.0..=255.0).contains(m)));
        }
        Err(error) => assert!(!error.hint().is_empty(), "{error:?}"),
    }
    result
}

fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

// ---- MAT files made here ----

#[test]
fn every_layout_byte_order_and_encoding_gives_the_same_convolution() {
    let scratch = Scratch::new();
    for style in Style::all() {
        let weights = scratch.load(&style.sample(), 1).unwrap_or_else(|error| panic!("{style:?}: {error}"));
        let conv = &weights.convs[0];
        for (k, &got) in conv.kernel.iter().enumerate() {
            let (i, j, ci, co) = (k / 576, k / 192 % 3, k / 64 % 3, k % 64);
            assert_eq!(got, value(i, j, ci, co), "{style:?} {i} {j} {ci} {co}");
        }
        assert!(conv.bias.iter().zip(0..).all(|(&b, c)| b == c as f32 - 7.5));
        assert_eq!(weights.mean, [10.0, 20.0, 30.0], "{style:?}");
    }
}

#[test]
fn layers_are_found_by_name_whatever_their_order() {
    let style = Style::default();
    let layers = style.layers(&[style.conv(1, value), style.conv(0, value)]);
    let weights = Scratch::new().load(&style.file(&[style.mean(), layers]), 2).unwrap();
    assert_eq!(weights.convs[1].name, "conv1_2");
    assert_eq!(weights.mean, [10.0, 20.0, 30.0]);
}

#[test]
fn a_file_without_a_mean_gets_that_of_the_oxford_network_and_says_so() {
    let style = Style::default();
    let file = style.file(&[style.layers(&[style.conv(0, value)])]);
    let weights = Scratch::new().load(&file, 1).unwrap();
    assert_eq!(weights.mean, OXFORD_MEAN);
    assert!(weights.source.contains("Oxford"), "{}", weights.source);
}

#[test]
fn missing_doubled_and_misshapen_layers_are_named() {
    let scratch = Scratch::new();
    let style = Style::default();
    let try_layers = |layers: &[Vec<u8>], depth| scratch.load(&style.file(&[style.layers(layers)]), depth);
    let conv = style.conv(0, value);
    assert_complaint(try_layers(std::slice::from_ref(&conv), 2), "conv1_2 is missing");
    assert_complaint(try_layers(&[conv.clone(), conv], 2), "conv1_1 is there twice");
    let none = style.layer("conv1_1", "conv", style.array(CELL, &[0, 0], "", &[]));
    assert_complaint(try_layers(&[none], 1), "conv1_1 has no kernel");
    let parts = [style.numbers(&[3, 3, 3, 32], &[1.0; 864]), style.numbers(&[1, 32], &[0.0; 32])];
    let narrow = style.layer("conv1_1", "conv", style.array(CELL, &[1, 2], "", &parts.concat()));
    assert_complaint(try_layers(&[narrow], 1), "VGG-19's is [3, 3, 3, 64]");
    assert_complaint(scratch.load(&style.file(&[style.mean()]), 1), "no variable `layers`");
}

#[test]
fn values_no_trained_layer_has_are_refused() {
    let scratch = Scratch::new();
    let style = Style::default();
    let try_values = |value: fn(usize, usize, usize, usize) -> f32| {
        scratch.load(&style.file(&[style.layers(&[style.conv(0, value)])]), 1)
    };
    assert_complaint(try_values(|_, _, _, _| 0.0), "conv1_1 is all zero");
    let one_tap = |i, j, _, _| if (i, j) == (2, 2) { 1.0 } else { 0.0 };
    assert_complaint(try_values(one_tap), "conv1_1 has one tap of nine");
    let nan = |i, _, _, co| if i + co == 65 { f32::NAN } else { 1.0 };
    assert_complaint(try_values(nan), "conv1_1 holds NaN");
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_whole() {
    let scratch = Scratch::new();
    for (big, compressed) in [(false, false), (false, true), (true, false)] {
        let style = Style { big, compressed, beta16: big, ..Style::default() };
        let file = style.sample();
        let whole = scratch.load(&file, 1).unwrap();
        for length in 0..file.len() {
            match assert_sane(&scratch, &file[..length], 1) {
                Ok(weights) => assert_eq!(weights.convs, whole.convs, "{length}"),
                Err(error) if length > 128 => {
                    assert!(error.to_string().contains("cut off"), "{length}: {error}");
                }
                Err(_) => {}
            }
        }
    }
}

#[test]
fn a_file_with_changed_bytes_never_panics_or_gives_wrong_shapes() {
    let scratch = Scratch::new();
    let mut seed = 1;
    for style in Style::all().filter(|style| !style.doubles) {
        let file = style.sample();
        for _ in 0..200 {
            let mut file = file.clone();
            for _ in 0..1 + random(&mut seed) % 3 {
                // Most of a file is numbers, whose change is allowed: aim at the structure too.
                let range = match random(&mut seed) % 3 {
                    0 => file.len(),
                    1 => 700.min(file.len()),
                    _ => 128 + 8,
                };
                let at = random(&mut seed) % range;
                file[at] = [0, 1, 4, 14, 15, 0x7f, 0x80, 0xff, file[at] ^ 1 << (at & 7)][random(&mut seed) % 9];
            }
            let _ = assert_sane(&scratch, &file, 1);
        }
    }
    // The same inside a zlib stream, where the checksum of a whole file would not help.
    for _ in 0..1500 {
        let style = Style::default();
        let relu = style.layer("relu1_1", "relu", style.array(CELL, &[0, 0], "", &[]));
        let mut variable = style.layers(&[relu, style.conv(0, value)]);
        let at = random(&mut seed) % 2000;
        variable[at] = random(&mut seed) as u8;
        let style = Style { compressed: true, ..style };
        let _ = assert_sane(&scratch, &style.file(&[variable, style.mean()]), 1);
    }
}

#[test]
fn every_word_at_its_largest_is_an_error_or_harmless() {
    let scratch = Scratch::new();
    for big in [false, true] {
        let style = Style { big, ..Style::default() };
        let file = style.sample();
        for at in (128..1100).step_by(4) {
            for word in [0xffff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fff8, 0, 1 << 16] {
                let mut file = file.clone();
                file[at..at + 4].copy_from_slice(&style.word(word));
                let _ = assert_sane(&scratch, &file, 1);
            }
        }
    }
    let style = Style::default();
    for shape in [&[65536; 4][..], &[u32::MAX; 32], &[0x8000_0000, 2], &[1 << 31; 2], &[]] {
        let leaf = style.array(SINGLE, shape, "", &style.tag(7, 0xffff_fff8));
        let weights = style.array(CELL, &[1, 2], "", &[leaf.clone(), leaf].concat());
        let layers = style.layers(&[style.layer("conv1_1", "conv", weights)]);
        assert!(assert_sane(&scratch, &style.file(&[layers]), 1).is_err());
    }
}

#[test]
fn nesting_ten_thousand_deep_is_an_error_and_no_stack_overflow() {
    let scratch = Scratch::new();
    for class in [CELL, STRUCT] {
        let style = Style::default();
        let mut deep = style.numbers(&[1, 1], &[1.0]);
        // Built from the inside out: each level is a header before what is there.
        let mut headers = Vec::new();
        let mut size = deep.len();
        for _ in 0..10_000 {
            let body = match class {
                CELL => Vec::new(),
                _ => [style.element(5, &style.word(8)), style.element(1, b"weights\0")].concat(),
            };
            let mut header = style.array(class, &[1, 1], "", &body);
            size += header.len();
            header[4..8].copy_from_slice(&style.word(size as u32 - 8));
            headers.push(header);
        }
        headers.reverse();
        deep = [headers.concat(), deep].concat();
        let weights = style.array(CELL, &[1, 1], "", &deep);
        let layers = style.layers(&[style.layer("conv1_1", "conv", weights)]);
        assert_complaint(scratch.load(&style.file(&[layers]), 1), "conv1_1 has no kernel");
        let meta = style.array(CELL, &[1, 1], "layers", &deep);
        assert!(assert_sane(&scratch, &style.file(&[meta]), 1).is_err());
    }
}

#[test]
fn a_zip_bomb_is_refused_soon() {
    let style = Style { compressed: true, ..Style::default() };
    // A cell whose first layer claims 4 GB, of which 300 MB of zeros are really there.
    let mut layer = style.array(SINGLE, &[1, 1], "", &[]);
    layer[4..8].copy_from_slice(&style.word(0xffff_fe00));
    let mut head = style.layers(&[layer]);
    head[4..8].copy_from_slice(&style.word(0xffff_ff00));
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&head).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..300 {
        zlib.write_all(&zeros).unwrap();
    }
    let data = zlib.finish().unwrap();
    let file = [style.file(&[]), style.tag(15, data.len()), data].concat();
    let result = assert_sane(&Scratch::new(), &file, 1);
    assert_complaint(result, "first 256 MiB");
}

// ---- other files ----

#[test]
fn files_that_are_something_else_are_called_by_their_name() {
    let scratch = Scratch::new();
    let mut hdf5 = format!("{:124}", "MATLAB 7.3 MAT-file").into_bytes();
    hdf5.extend(b"\x00\x02IM");
    let mut zeros = vec![0; 4096];
    let mat4 = [0u32, 3, 3, 0, 7].map(u32::to_le_bytes).concat();
    zeros[8] = b'{';
    let cases: &[(&[u8], &str)] = &[
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404", "web page"),
        (b"\n\n  <html>", "web page"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "picture (JPEG)"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "picture (PNG)"),
        (&hdf5, "MATLAB v7.3"),
        (b"\x89HDF\r\n\x1a\n\0\0", "HDF5"),
        (&mat4, "MATLAB v4"),
        (b"PK\x03\x04\0\0", "PyTorch"),
        (b"\x80\x02\x8a\nl\xfc\x9c", "pickle"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"MATLAB 5.0 MAT-file, Platf", "cut off"),
        (b"hello", "not a weight file"),
        (&zeros, "damaged"),
        (b"\x02\0\0\0\0\0\0\0{}", "it has no tensor"),
        (b"\x09\0\0\0\0\0\0\0{}", "cut off"),
    ];
    for (bytes, words) in cases {
        assert_complaint(scratch.load(bytes, 1), words);
    }
    assert_complaint(load(&scratch.0.path().join("none"), 1), "no such file");
    assert_complaint(load(scratch.0.path(), 1), "is a folder");
}

#[test]
fn a_depth_vgg_19_does_not_have_is_an_error() {
    let path = Scratch::new().put(&Style::default().sample());
    for depth in [0, 17, usize::MAX] {
        assert!(matches!(load(&path, depth), Err(Error::Config { .. })));
    }
}

#[test]
fn transposing_swaps_rows_and_columns_and_twice_gives_the_same() {
    let weights = Scratch::new().load(&Style::default().sample(), 1).unwrap();
    let turned = weights.clone().transposed();
    for (k, &got) in turned.convs[0].kernel.iter().enumerate() {
        let (i, j, ci, co) = (k / 576, k / 192 % 3, k / 64 % 3, k % 64);
        assert_eq!(got, value(j, i, ci, co));
    }
    assert_eq!(turned.transposed(), weights);
}
