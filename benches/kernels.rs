//! Kernels one by one, and whole iterations, on both engines: `cargo bench`, or `cargo bench --bench kernels -- conv3x3`.
//!
//! A name is KERNEL/ENGINE SHAPE, where the shape is that of `impasto profile --kernel KERNEL --shape SHAPE`: rows, columns,
//! channels in and out. The convolutions are those of VGG-19 at 224² and 512². Without a hardware GPU the GPU engine runs on
//! a software renderer, at tiny sizes only: that shows that it runs, and what a change does to the host's part, not how fast
//! the kernels are. What each kernel reaches of the device's roofs is for `impasto profile` to say.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a bench is run by hand")]

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use impasto::cpu::Cpu;
use impasto::gpu::{Gpu, GpuChoice, GpuOptions};
use impasto::picture::Picture;
use impasto::profile::{Load, Ready, Shape, alone};
use impasto::recording::Backend;
use impasto::transfer::{Config, Init, Size, StyleTransfer};
use impasto::weights::builtin::builtin;

/// Of the convolutions' maps: how many times smaller than the picture they are, channels in and out.
const CONVOLUTIONS: [(usize, usize, usize); 9] = [
    (1, 4, 64),
    (1, 64, 64),
    (2, 64, 128),
    (2, 128, 128),
    (4, 128, 256),
    (4, 256, 256),
    (8, 256, 512),
    (8, 512, 512),
    (16, 512, 512),
];
/// Kernels that read the maps before or after a block: how many times smaller, and channels.
const MAPS: [(usize, usize); 4] = [(1, 64), (2, 128), (4, 256), (8, 512)];
const ON_MAPS: [&str; 7] =
    ["pool_max", "pool_max_backward", "pool_average", "pool_average_backward", "gram", "gram_reduce", "gram_backward"];
/// Pictures where a device is worth timing, and where it is not.
const SIZES: [usize; 2] = [224, 512];
const TINY: usize = 32;

struct Device {
    name: &'static str,
    backend: Box<dyn Backend>,
    sizes: &'static [usize],
}

fn devices() -> Vec<Device> {
    let mut all = vec![Device { name: "cpu", backend: Box::new(Cpu), sizes: &SIZES }];
    let open = |choice| Gpu::new(&GpuOptions { choice, ..GpuOptions::default() });
    if let Ok(gpu) = open(GpuChoice::Hardware) {
        eprintln!("gpu: {}", gpu.name());
        all.push(Device { name: "gpu", backend: Box::new(gpu), sizes: &SIZES });
    } else if let Ok(gpu) = open(GpuChoice::Any) {
        eprintln!("software: {}, at {TINY}x{TINY} only; no hardware GPU found", gpu.name());
        all.push(Device { name: "software", backend: Box::new(gpu), sizes: &[TINY] });
    }
    all
}

fn settings(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
}

fn kernel(criterion: &mut Criterion, device: &Device, name: &str, shapes: &[Shape]) {
    let mut group = criterion.benchmark_group(name);
    settings(&mut group);
    for shape in shapes {
        let (buffers, recording) = alone(name, *shape).unwrap();
        let load = Load { buffers: &buffers, recording: &recording };
        if recording.flops() > 0 {
            group.throughput(Throughput::Elements(recording.flops()));
        }
        let Shape { height, width, inputs, outputs } = shape;
        let id = BenchmarkId::from_parameter(format!("{} {height}x{width}x{inputs}x{outputs}", device.name));
        // Made only where a filter leaves it in.
        let mut ready = None;
        group.bench_function(id, |bencher| {
            let ready = ready.get_or_insert_with(|| Ready::new(device.backend.as_ref(), load).unwrap());
            bencher.iter_custom(|times| ready.run(times as u32).unwrap());
        });
    }
    group.finish();
}

fn iteration(criterion: &mut Criterion, device: &Device, name: &str, (content, style): (&str, &str)) {
    let layers = |names: &str| names.split(' ').map(|name| (name.parse().unwrap(), 1.0)).collect();
    let mut group = criterion.benchmark_group("iteration");
    settings(&mut group);
    for size in device.sizes {
        let mut job = None;
        group.bench_function(BenchmarkId::from_parameter(format!("{} {name} {size}", device.name)), |bencher| {
            let job = job.get_or_insert_with(|| {
                let picture = |seed: usize| Picture {
                    width: *size,
                    height: *size,
                    rgb: (0..size * size * 3).map(|i| ((i * 2_654_435_761 + seed) >> 7 & 255) as f32).collect(),
                };
                let config = Config {
                    size: Size::Native,
                    style_size: Some(Size::Native),
                    content_layers: layers(content),
                    style_layers: layers(style),
                    init: Init::Noise,
                    iterations: 1_000_000,
                    ..Config::default()
                };
                let weights = builtin(config.depth());
                StyleTransfer::new(device.backend.as_ref(), &weights, &picture(1), &[picture(2)], config).unwrap()
            });
            bencher.iter_custom(|times| {
                let begin = Instant::now();
                let mut left = times as u32;
                while left > 0 {
                    left -= job.advance(left).unwrap().len() as u32;
                }
                begin.elapsed()
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for device in devices() {
        let shapes = |all: &[(usize, usize, usize)]| -> Vec<Shape> {
            let at = |size: &usize| {
                let size = *size;
                all.iter().map(move |(smaller, inputs, outputs)| {
                    let side = size.div_ceil(*smaller);
                    Shape { height: side, width: side, inputs: *inputs, outputs: *outputs }
                })
            };
            device.sizes.iter().flat_map(at).collect()
        };
        for name in ["conv3x3", "conv3x3_backward"] {
            kernel(&mut criterion, &device, name, &shapes(&CONVOLUTIONS));
        }
        let maps = shapes(&MAPS.map(|(smaller, channels)| (smaller, channels, channels)));
        for name in ON_MAPS {
            kernel(&mut criterion, &device, name, &maps);
        }
        kernel(&mut criterion, &device, "adam", &shapes(&[(1, 4, 4)]));
        // Of C x C matrices, which are all that the shape says of it.
        let square = |channels| Shape { height: 1, width: 1, inputs: channels, outputs: channels };
        kernel(&mut criterion, &device, "matmul", &[64, 256, 512].map(square));
        iteration(&mut criterion, &device, "article", ("relu1_2", "relu1_2 relu2_2 relu3_2"));
        iteration(&mut criterion, &device, "classic", ("relu4_2", "relu1_1 relu2_1 relu3_1 relu4_1 relu5_1"));
    }
    criterion.final_summary();
}
