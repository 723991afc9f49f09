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

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
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
    for _ in 0..5 {
        assert_eq!(job.advance(1).unwrap().len(), 1);
    }
    let bytes = (BYTES.load(Ordering::Relaxed) - before) / 5;
    println!("{bytes} bytes per iteration");
    // 490 kB on two threads, nearly all of it what the gemm crate packs operands into for the length of a product. The
    // smallest feature map, relu3_1, has 491 kB.
    assert!(bytes < 800_000, "{bytes} bytes per iteration");
}
