//! The cache file and torchvision's layout.

use impasto::error::Error;
use impasto::weights::{load, save_cache};
use safetensors::tensor::{Dtype, TensorView};

use super::writer::{Style, value};
use super::{OXFORD_MEAN, Scratch, assert_complaint, assert_sane, random};

#[test]
fn the_cache_gives_back_what_was_saved_in_the_same_bytes_each_time() {
    let scratch = Scratch::new();
    let mut weights = scratch.load(&Style::default().sample(), 1).unwrap();
    weights.mean = [0.1 + 0.2, 1.0 / 3.0, 255.0];
    weights.activation_unit = 0.1;
    weights.convs[0].kernel[0] = f32::MIN_POSITIVE / 2.0;
    let paths = ["a", "b"].map(|name| scratch.0.path().join(name));
    for path in &paths {
        save_cache(&weights, path).unwrap();
        save_cache(&weights, path).unwrap();
        assert_eq!(load(path, 1).unwrap(), weights);
    }
    let bytes = std::fs::read(&paths[0]).unwrap();
    assert_eq!(bytes, std::fs::read(&paths[1]).unwrap());
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(parsed.tensor("conv1_1.weight").unwrap().shape(), [3, 3, 3, 64]);
    let files = std::fs::read_dir(scratch.0.path()).unwrap().count();
    assert_eq!(files, 3, "a temporary file was left behind");
    let nowhere = scratch.0.path().join("none/cache");
    assert!(matches!(save_cache(&weights, &nowhere), Err(Error::Output { .. })));
}

#[test]
fn a_cut_or_changed_cache_never_panics_or_gives_wrong_shapes() {
    let scratch = Scratch::new();
    let weights = scratch.load(&Style::default().sample(), 1).unwrap();
    let path = scratch.0.path().join("cache");
    save_cache(&weights, &path).unwrap();
    let bytes = std::fs::read(path).unwrap();
    for length in (0..bytes.len()).filter(|n| n % 7 == 0 || *n < 700) {
        assert!(assert_sane(&scratch, &bytes[..length], 1).is_err());
    }
    assert_complaint(scratch.load(&bytes[..2000], 1), "cut off");
    assert_complaint(scratch.load(&[&bytes[..], b"x"].concat(), 1), "follows");
    let mut seed = 2;
    for _ in 0..3000 {
        let mut bytes = bytes.clone();
        let at = random(&mut seed) % 500;
        bytes[at] = [b'0', b'9', b'"', b'-', b'[', b'{', 0xff, 0][random(&mut seed) % 8];
        let _ = assert_sane(&scratch, &bytes, 1);
    }
    let claims = [u64::MAX.to_le_bytes().as_slice(), b"{"].concat();
    assert!(assert_sane(&scratch, &claims, 1).is_err());
    let mut nested = (100_000u64).to_le_bytes().to_vec();
    nested.extend(b"{\"a\":".repeat(20_000));
    assert!(assert_sane(&scratch, &nested, 1).is_err());
}

/// A file with torchvision's names for conv1_1: kernel as `(co, ci, i, j)`, values encoded by `bytes`.
fn torchvision(
    prefix: &str,
    dtype: Dtype,
    bias: impl Fn(usize) -> f32,
    kernel: impl Fn(usize, usize, usize, usize) -> f32,
    bytes: impl Fn(f32) -> Vec<u8>,
) -> Vec<u8> {
    let kernel: Vec<u8> = (0..1728).flat_map(|k| bytes(kernel(k / 27, k / 9 % 3, k / 3 % 3, k % 3))).collect();
    let bias: Vec<u8> = (0..64).flat_map(|c| bytes(bias(c))).collect();
    let tensors = [
        ("weight", TensorView::new(dtype, vec![64, 3, 3, 3], &kernel)),
        ("bias", TensorView::new(dtype, vec![64], &bias)),
    ]
    .map(|(name, view)| (format!("{prefix}features.0.{name}"), view.unwrap()));
    safetensors::serialize(tensors, None).unwrap()
}

#[test]
fn torchvisions_normalisation_is_folded_into_conv1_1() {
    let scratch = Scratch::new();
    let kernel = |co, ci, i, j| value(i, j, ci, co);
    for prefix in ["", "module.", "model."] {
        let file = torchvision(prefix, Dtype::F32, |c| c as f32, kernel, |v| v.to_le_bytes().to_vec());
        let weights = scratch.load(&file, 1).unwrap();
        assert_eq!(weights.activation_unit, 1.0);
        let (mean, std) = ([0.485f32, 0.456, 0.406], [0.229f32, 0.224, 0.225]);
        assert_eq!(weights.mean, mean.map(|m| 255.0 * m));
        for (k, &got) in weights.convs[0].kernel.iter().enumerate() {
            let (i, j, ci, co) = (k / 576, k / 192 % 3, k / 64 % 3, k % 64);
            // What the network was trained on, against what the program feeds it, for one pixel.
            let x = 200.0;
            let trained = value(i, j, ci, co) * (x / 255.0 - mean[ci]) / std[ci];
            let fed = got * (x - weights.mean[ci]);
            assert!((trained - fed).abs() <= 1e-5 * trained.abs(), "{k}");
        }
        assert_complaint(scratch.load(&file, 2), "conv1_2 is missing");
    }
}

#[test]
fn the_oxford_network_is_known_by_its_values_in_any_precision_and_channel_order() {
    let scratch = Scratch::new();
    let bias = |c| *[0.7301776, 0.06493629, 0.03428847, 0.8260386].get(c).unwrap_or(&0.2578029);
    let red = [0.39416704, -0.08419707, -0.03631314];
    let rgb = |co: usize, ci: usize, i: usize, j: usize| match (ci, i, j) {
        (0, 0, 0) => *red.get(co).unwrap_or(&0.5),
        _ => ci as f32 + 1.0,
    };
    let single = |v: f32| v.to_le_bytes().to_vec();
    let bf16 = |v: f32| v.to_le_bytes()[2..].to_vec();
    // Truncating conversion of normal halves: enough for these values.
    let f16 = |v: f32| {
        let bits = v.to_bits();
        let exponent = (bits >> 23 & 255) - 112;
        let half = (bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 1023);
        (half as u16).to_le_bytes().to_vec()
    };
    let whole = scratch.load(&torchvision("", Dtype::F32, bias, rgb, single), 1).unwrap();
    assert_eq!((whole.mean, whole.activation_unit), (OXFORD_MEAN, 57.4));
    assert_eq!(whole.convs[0].kernel[..3], red);

    let bgr = torchvision("", Dtype::F32, bias, |co, ci, i, j| rgb(co, 2 - ci, i, j), single);
    assert_eq!(scratch.load(&bgr, 1).unwrap(), whole);

    for (name, step, file) in [
        ("f16", 1e-3, torchvision("", Dtype::F16, bias, rgb, f16)),
        ("bf16", 8e-3, torchvision("", Dtype::BF16, bias, rgb, bf16)),
    ] {
        let weights = scratch.load(&file, 1).expect(name);
        assert_eq!(weights.mean, OXFORD_MEAN, "{name}");
        for (a, b) in weights.convs[0].kernel.iter().zip(&whole.convs[0].kernel) {
            assert!((a - b).abs() <= step * b.abs(), "{name} {a} {b}");
        }
    }
    let other = torchvision("", Dtype::F32, bias, |_, ci, _, _| ci as f32 + 1.0, single);
    assert_complaint(scratch.load(&other, 1), "not its kernels");
}
