//! Seconds per iteration of a whole job, as the peer of `peers/run.py` counts them.
//!
//! `cargo bench --bench iteration -- --config article --size 224 --iters 50 --device cpu`
//!
//! `article`: content relu1_2, style relu1_2 relu2_2 relu3_2, max pooling. `classic`: content relu4_2, style relu1_1 …
//! relu5_1; `--tile 512` computes the picture in tiles. `--way` takes one of the ways to compute that `--ways` lists. The
//! built-in network's filters and noise for pictures: the time does not depend on them. `--device` is `cpu`, `gpu` or a part of
//! an adapter's name. Prints one JSON object with the median over 5 blocks of `--iters` / 5 iterations, or more where these take
//! less than 0.2 s.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a bench is run by hand")]

use std::time::Instant;

use impasto::cpu::Cpu;
use impasto::gpu::{Gpu, GpuChoice, GpuOptions};
use impasto::net::plan::Pooling;
use impasto::picture::Picture;
use impasto::recording::Backend;
use impasto::transfer::{Config, Convolution, Init, Precision, Size, StyleTransfer};
use impasto::tune::settle;
use impasto::weights::builtin::builtin;
use impasto::weights::store::Store;

fn layers(names: &str) -> Vec<(impasto::net::vgg19::Tap, f32)> {
    names.split(' ').map(|name| (name.parse().unwrap(), 1.0)).collect()
}

fn noise(side: usize, seed: usize) -> Picture {
    let value = |i: usize| ((i * 2_654_435_761 + seed * 40_503) >> 7) % 256;
    Picture { width: side, height: side, rgb: (0..side * side * 3).map(|i| value(i) as f32).collect() }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str, default: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).map_or(default.to_string(), String::clone)
    };
    let ways = |device: &str| {
        if device == "cpu" { &["f32", "f16"][..] } else { &["f32", "f32-direct", "f32-winograd", "f16"] }
    };
    if arguments.iter().any(|argument| argument == "--ways") {
        ways(&option("--device", "cpu")).iter().for_each(|way| println!("{way}"));
        return;
    }
    let (config, device) = (option("--config", "article"), option("--device", "cpu"));
    let (size, iters): (usize, usize) =
        (option("--size", "224").parse().unwrap(), option("--iters", "50").parse().unwrap());
    let (content, style) = match config.as_str() {
        "article" => ("relu1_2", "relu1_2 relu2_2 relu3_2"),
        "classic" => ("relu4_2", "relu1_1 relu2_1 relu3_1 relu4_1 relu5_1"),
        other => panic!("no config {other}: article or classic"),
    };
    let (convolution, precision) = match option("--way", "f32").as_str() {
        "f32" => (Convolution::Auto, Precision::F32),
        "f32-direct" => (Convolution::Direct, Precision::F32),
        "f32-winograd" => (Convolution::Winograd, Precision::F32),
        "f16" => (Convolution::Auto, Precision::F16),
        other => panic!("no way {other}: --ways lists them"),
    };
    let block = (iters / 5).max(1);
    let settings = Config {
        size: Size::Exact(size, size),
        style_size: Some(Size::Exact(size, size)),
        content_layers: layers(content),
        style_layers: layers(style),
        pooling: Pooling::Max,
        tv_weight: 0.0,
        init: Init::Noise,
        tile: option("--tile", "").parse().ok(),
        convolution,
        precision,
        // It is not run to the end.
        iterations: 1_000_000,
        ..Config::default()
    };
    let backend: Box<dyn Backend> = match device.as_str() {
        "cpu" => Box::new(Cpu),
        name => {
            let choice = if name == "gpu" { GpuChoice::Any } else { GpuChoice::Name(name.into()) };
            let gpu = Gpu::new(&GpuOptions { choice, ..GpuOptions::default() }).unwrap();
            // What `impasto tune` has found, as runs of the program take it.
            let folder = Store::user().unwrap().folder().join("kernels");
            settle(&gpu, &folder, None, false).unwrap();
            Box::new(gpu)
        }
    };
    let weights = builtin(settings.depth());
    let mut job = StyleTransfer::new(backend.as_ref(), &weights, &noise(size, 1), &[noise(size, 2)], settings).unwrap();
    let gflop = 1e-9 * job.recording().flops() as f64;
    let run = |job: &mut StyleTransfer, count: usize| {
        let mut left = count as u32;
        while left > 0 {
            left -= job.advance(left).unwrap().len() as u32;
        }
    };
    // Of submissions: what the host takes to encode them, while the device works or waits. The CPU engine has none.
    let host = |job: &StyleTransfer| job.submissions().map(|submissions| submissions.host.as_secs_f64());
    // A GPU's clock rises, and lengths of submissions are learned, in the first tenths of a second.
    let begin = Instant::now();
    let mut each = f64::MAX;
    while each == f64::MAX || begin.elapsed().as_secs_f64() < 0.5 {
        let begin = Instant::now();
        run(&mut job, 3);
        each = begin.elapsed().as_secs_f64() / 3.0;
    }
    // Of 0.2 s at least, so that the end of one is not a large part of it.
    let block = block.max((0.2 / each) as usize);
    let (mut hosts, mut times) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let (begin, before) = (Instant::now(), host(&job));
        run(&mut job, block);
        times.push(begin.elapsed().as_secs_f64() / block as f64);
        hosts.extend(host(&job).zip(before).map(|(after, before)| (after - before) / block as f64));
    }
    times.sort_by(f64::total_cmp);
    hosts.sort_by(f64::total_cmp);
    let report = serde_json::json!({
        "config": config, "size": size, "kernels": job.kernels(), "tile": job.tile(), "device": job.device(), "seconds_per_iteration": times[2],
        "fastest": times[0], "slowest": times[4], "gflop_per_iteration": gflop,
        "launches_per_iteration": job.recording().launches(), "host_seconds_per_iteration": hosts.get(2),
    });
    println!("{report}");
}
