//! The CPU engine allocates its memory at the start: iterations after the first borrow it and give it back.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use impasto::cpu::Cpu;
use impasto::picture::Picture;
use impasto::transfer::{Config, Init, Size, StyleTransfer};
use impasto::weights::builtin::builtin;

/// Counts the bytes asked for.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn picture(width: usize, height: usize) -> Picture {
    let rgb = (0..width * height * 3).map(|i| (i * 37 % 256) as f32).collect();
    Picture { width, height, rgb }
}

#[test]
fn an_iteration_allocates_less_than_a_feature_map() {
    let config = Config { size: Size::Native, init: Init::Noise, iterations: 25, ..Config::default() };
    let weights = builtin(config.depth());
    let styles = [picture(64, 64)];
    let mut job = StyleTransfer::new(&Cpu, &weights, &picture(96, 80), &styles, config).unwrap();
    for _ in 0..20 {
        job.advance(1).unwrap();
    }
    let before = BYTES.load(Ordering::Relaxed);
    LARGEST.store(0, Ordering::Relaxed);
    for _ in 0..5 {
        assert_eq!(job.advance(1).unwrap().len(), 1);
    }
    let bytes = (BYTES.load(Ordering::Relaxed) - before) / 5;
    let largest = LARGEST.load(Ordering::Relaxed);
    println!("{bytes} bytes per iteration, {largest} at once");
    // Nearly all of it is what the gemm crate packs operands into for the length of a product, in pieces as large as the
    // processor's caches ask for: on two threads 0.49 MB with AVX-512 and 1 MiB of L2, 2.5 MB with AVX2 and 512 KiB, of
    // which the largest piece has 135 kB. A map that is made anew, the smallest of which, relu3_1, has 491 kB, is larger.
    assert!(largest < 24 * 20 * 256 * 4, "{largest} bytes at once");
    assert!(bytes < 8 << 20, "{bytes} bytes per iteration");
}
