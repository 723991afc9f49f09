//! What the integration tests share: test data, engines, visible skips.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::Write;
use std::path::PathBuf;

use impasto::gpu::{Gpu, GpuChoice, GpuOptions};
use impasto::net::vgg19::Tap;
use impasto::picture::Picture;

/// Says on the terminal, past the test harness's capture, that a test did not run.
pub(crate) fn skip(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
}

/// The folder of test data: `IMPASTO_SHARED`, which must then have them, else `../shared` beside the repository.
pub(crate) fn shared(test: &str) -> Option<PathBuf> {
    let wish = std::env::var_os("IMPASTO_SHARED").map(PathBuf::from);
    let path = wish.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    if path.join("golden").is_dir() {
        return Some(path);
    }
    assert!(wish.is_none(), "IMPASTO_SHARED={}, but there is no folder golden in it", path.display());
    skip(test, &format!("no test data in {} (IMPASTO_SHARED)", path.display()));
    None
}

/// Whether `IMPASTO_UNCHECKED=0` asks for checks in every shader.
pub(crate) fn checked() -> bool {
    match std::env::var("IMPASTO_UNCHECKED").as_deref() {
        Ok("0") => true,
        Ok("1") | Err(_) => false,
        Ok(other) => panic!("IMPASTO_UNCHECKED={other}: give 0 or 1"),
    }
}

/// An adapter, software ones included. `IMPASTO_TEST_GPU=required` fails without one, `skip` never looks.
pub(crate) fn gpu(test: &str) -> Option<Gpu> {
    gpu_with(test, checked())
}

/// The same, with or without checks in the shaders that may do without.
pub(crate) fn gpu_with(test: &str, checked: bool) -> Option<Gpu> {
    let wish = std::env::var("IMPASTO_TEST_GPU").unwrap_or_default();
    if wish == "skip" {
        skip(test, "IMPASTO_TEST_GPU=skip");
        return None;
    }
    let choice = std::env::var("IMPASTO_TEST_ADAPTER").map_or(GpuChoice::Any, GpuChoice::Name);
    match Gpu::new(&GpuOptions { choice, checked, ..GpuOptions::default() }) {
        Ok(gpu) => {
            let _ = writeln!(std::io::stderr(), "GPU TEST {test}: {}", gpu.name());
            Some(gpu)
        }
        Err(error) if wish == "required" => panic!("IMPASTO_TEST_GPU=required, but {error}"),
        Err(error) => {
            skip(test, &error.to_string());
            None
        }
    }
}

/// ‖a - b‖ / ‖b‖
pub(crate) fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut b.iter().map(|b| f64::from(*b))).max(f64::MIN_POSITIVE)
}

/// `count` seeded numbers, uniform in -1..1: SplitMix64 of a counter, so that a longer request starts with the same ones.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|counter| (random_word(seed, counter) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

/// A picture of seeded noise.
pub(crate) fn picture(seed: u64, height: usize, width: usize) -> Picture {
    Picture { width, height, rgb: noise(seed, height * width * 3).iter().map(|v| 127.5 + 127.5 * v).collect() }
}

/// These layers, each with weight 1.
pub(crate) fn layers(names: &[&str]) -> Vec<(Tap, f32)> {
    names.iter().map(|name| (name.parse().unwrap(), 1.0)).collect()
}

/// The `counter`-th 32-bit word of a seeded stream.
pub(crate) fn random_word(seed: u64, counter: u64) -> u32 {
    let mut z = (seed << 32).wrapping_add(counter + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as u32
}
