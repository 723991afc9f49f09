//! What the GPU side says when something is wrong: no adapter, wrong tensors, too little memory, a device that dies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{layers, picture};
use impasto::error::{Error, Result};
use impasto::gpu::{Gpu, GpuChoice, GpuOptions};
use impasto::kernel::Scalar;
use impasto::ops::conv3x3::{conv3x3, mask_shape};
use impasto::ops::{gram::gram, pool::pool_max};
use impasto::recording::{Backend, Block, BufferTable, Purpose, Recording, Tensor};
use impasto::transfer::{Config, Size, StyleTransfer};
use impasto::weights::builtin::builtin;
use impasto::wgpu;

/// Longest that anything here may take to notice a dead device.
const PATIENCE: Duration = Duration::from_secs(60);

/// A device that this test opened itself, as a host application would, with WebGPU's default limits.
fn own_device(test: &str) -> Option<(wgpu::Adapter, wgpu::Device, wgpu::Queue)> {
    let gpu = common::gpu(test)?;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY))
        .into_iter()
        .find(|adapter| gpu.name().starts_with(&adapter.get_info().name))
        .unwrap();
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_limits: wgpu::Limits::default(),
        ..wgpu::DeviceDescriptor::default()
    }))
    .unwrap();
    Some((adapter, device, queue))
}

/// One convolution, 3 rows of 5 pixels, 4 -> 8 channels: table, recording, input, weight, output.
fn small() -> (BufferTable, Recording, [Tensor; 3]) {
    let mut table = BufferTable::default();
    let mut tensor = |name: &str, scalar, shape: &[usize]| table.tensor(name, scalar, shape, Purpose::Tile);
    let input = tensor("input", Scalar::F32, &[3, 5, 4]);
    let weight = tensor("weight", Scalar::F32, &[9, 4, 8]);
    let bias = tensor("bias", Scalar::F32, &[8]);
    let output = tensor("output", Scalar::F32, &[3, 5, 8]);
    let mask = tensor("mask", Scalar::U32, &mask_shape(3, 5, 8));
    let mut recording = Recording::new("small");
    conv3x3(&mut recording, ("small", Block::SQUARE), &input, &weight, &bias, &output, &mask).unwrap();
    (table, recording, [input, weight, output])
}

/// Runs [`small`] and calls `hook` before each of its six steps; every filter passes its tap's input through.
fn run_small(backend: &dyn Backend, mut hook: impl FnMut(usize)) -> Result<Vec<f32>> {
    let (table, recording, [input, weight, output]) = small();
    hook(0);
    let mut engine = backend.engine()?;
    engine.allocate(&table)?;
    hook(1);
    engine.write(weight.buffer, &vec![1.0; weight.len()])?;
    hook(2);
    engine.write(input.buffer, &vec![1.0; input.len()])?;
    hook(3);
    let program = engine.prepare(&recording)?;
    hook(4);
    engine.run(program, 3)?;
    hook(5);
    engine.read(output.buffer)
}

/// Sums of ones under 3x3 windows of a 3x5 picture, times 4 channels.
fn expected() -> Vec<f32> {
    let near = |at: usize, size: usize| if at == 0 || at + 1 == size { 2 } else { 3 };
    (0..15).flat_map(|at| [(4 * near(at / 5, 3) * near(at % 5, 5)) as f32; 8]).collect()
}

fn job(backend: &dyn Backend, iterations: u32) -> Result<StyleTransfer> {
    let config = Config {
        size: Size::Native,
        style_size: Some(Size::Native),
        content_layers: layers(&["relu1_2"]),
        style_layers: layers(&["relu1_1", "relu2_1"]),
        tv_weight: 1.0,
        tile: Some(16),
        iterations,
        ..Config::default()
    };
    StyleTransfer::new(backend, &builtin(config.depth()), &picture(7, 30, 40), &[picture(31, 30, 40)], config)
}

#[test]
fn an_adapter_that_does_not_exist_is_refused_with_the_list_of_those_that_do() {
    let adapters = impasto::gpu::adapters();
    for choice in [GpuChoice::Name("no such adapter".into()), GpuChoice::Index(adapters.len())] {
        let error = Gpu::new(&GpuOptions { choice, ..GpuOptions::default() }).unwrap_err();
        assert!(matches!(error, Error::NoDevice { .. }), "{error}");
        let said = error.to_string();
        assert!(!said.contains('\n') && !error.hint().is_empty(), "{said} / {}", error.hint());
        for adapter in &adapters {
            assert!(said.contains(&adapter.name), "{said} does not list {}", adapter.name);
        }
        assert!(!adapters.is_empty() || said.contains("(found: none)"), "{said}");
    }
}

#[test]
fn wrong_tensors_are_refused_when_recorded() {
    let mut table = BufferTable::default();
    let mut tensor = |scalar, shape: &[usize]| table.tensor("t", scalar, shape, Purpose::Tile);
    let input = tensor(Scalar::F32, &[6, 10, 4]);
    let weight = tensor(Scalar::F32, &[9, 4, 8]);
    let bias = tensor(Scalar::F32, &[8]);
    let output = tensor(Scalar::F32, &[6, 10, 8]);
    let mask = tensor(Scalar::U32, &[3, 3, 2]);
    let flat = tensor(Scalar::F32, &[60, 4]);
    let short = tensor(Scalar::F32, &[6, 9, 8]);
    let words = tensor(Scalar::U32, &[8]);
    let wide_mask = tensor(Scalar::U32, &[3, 4, 2]);
    let filters_5x5 = tensor(Scalar::F32, &[25, 4, 8]);
    let rgb = tensor(Scalar::F32, &[6, 10, 3]);
    let alias = Tensor { buffer: input.buffer, ..output.clone() };

    let mut recording = Recording::new("refused");
    let mut refused = |tensors: [&Tensor; 5], binding: &str, part: &str| {
        let [input, weight, bias, output, mask] = tensors;
        let error = conv3x3(&mut recording, ("x", Block::SQUARE), input, weight, bias, output, mask).unwrap_err();
        let Error::Shape { kernel, binding: at, .. } = &error else { panic!("{error}") };
        assert_eq!((*kernel, at.as_str()), ("conv3x3", binding), "{error}");
        assert!(error.to_string().contains(part), "{error} does not say {part}");
    };
    refused([&flat, &weight, &bias, &output, &mask], "input", "[60, 4]");
    refused([&rgb, &weight, &bias, &output, &mask], "input", "that 4 divides");
    refused([&input, &filters_5x5, &bias, &output, &mask], "weight", "[25, 4, 8]");
    refused([&input, &weight, &words, &output, &mask], "bias", "U32");
    refused([&input, &weight, &bias, &short, &mask], "output", "W = 10");
    refused([&input, &weight, &bias, &output, &wide_mask], "mask", "W/4 = 3");
    refused([&input, &weight, &bias, &alias, &mask], "output", "bound twice");
    assert!(recording.commands.is_empty(), "a refused launch must leave no trace");
}

#[test]
fn other_kernels_refuse_too() {
    let mut table = BufferTable::default();
    let mut tensor = |scalar, shape: &[usize]| table.tensor("t", scalar, shape, Purpose::Tile);
    let input = tensor(Scalar::F32, &[5, 17, 4]);
    let output = tensor(Scalar::F32, &[3, 9, 4]);
    let floor = tensor(Scalar::F32, &[2, 8, 4]);
    let winner = tensor(Scalar::U32, &[3, 3, 1]);
    let partial = tensor(Scalar::F32, &[1, 4, 4]);
    let mut recording = Recording::new("refused");
    pool_max(&mut recording, "fits", &input, &output, &winner).unwrap();
    let error = pool_max(&mut recording, "x", &input, &floor, &winner).unwrap_err();
    assert!(error.to_string().contains("H/2 = 3"), "{error}");
    let outside = impasto::ops::Rect { top: 3, left: 0, height: 3, width: 17 };
    let error = gram(&mut recording, "x", &input, outside, &partial).unwrap_err();
    assert!(error.to_string().contains("a rectangle inside 5x17"), "{error}");
    assert_eq!(recording.commands.len(), 1);
}

#[test]
fn a_buffer_above_the_limit_is_refused_with_both_numbers() {
    let Some((adapter, device, queue)) = own_device("a buffer above the limit") else { return };
    let available = device.limits().max_storage_buffer_binding_size.min(device.limits().max_buffer_size);
    let gpu = Gpu::from_device(&adapter, device, queue);
    let mut table = BufferTable::default();
    table.add("far too large", Scalar::F32, available as usize / 4 + 1, Purpose::Tile);
    let mut engine = gpu.engine().unwrap();
    let error = engine.allocate(&table).unwrap_err();
    let Error::OutOfMemory { what, needed, available: allowed, .. } = &error else { panic!("{error}") };
    assert_eq!((*needed, *allowed), (available + 4, available));
    assert!(what.contains("far too large") && error.hint().contains("--size"), "{error} / {}", error.hint());
    // The engine can still be used for something smaller.
    drop(engine);
    assert_eq!(run_small(&gpu, |_| ()).unwrap(), expected());
}

#[test]
fn a_host_s_own_device_with_default_limits_runs_everything() {
    let Some((adapter, device, queue)) = own_device("a device with WebGPU's default limits") else { return };
    let gpu = Gpu::from_device(&adapter, device, queue);
    assert_eq!(run_small(&gpu, |_| ()).unwrap(), expected());
    let mut job = job(&gpu, 2).unwrap();
    for report in [job.advance(1).unwrap().remove(0), job.advance(1).unwrap().remove(0)] {
        assert!(report.total_loss.is_finite() && report.total_loss > 0.0, "{}", report.total_loss);
    }
}

#[test]
fn a_device_destroyed_at_any_step_is_noticed_before_a_result_is_given() {
    let test = "a device destroyed at each step";
    for step in 0..6 {
        let Some((adapter, device, queue)) = own_device(test) else { return };
        let gpu = Gpu::from_device(&adapter, device.clone(), queue);
        let start = Instant::now();
        let result = run_small(&gpu, |at| {
            if at == step {
                device.destroy();
            }
        });
        assert!(matches!(result, Err(Error::DeviceLost { .. })), "destroyed before step {step}: {result:?}");
        assert!(start.elapsed() < PATIENCE, "step {step} took {:?}", start.elapsed());
    }
}

#[test]
fn a_device_destroyed_while_it_works_ends_the_run_with_an_error() {
    for milliseconds in [0, 3, 20, 150] {
        let Some((adapter, device, queue)) = own_device("a device destroyed while it works") else { return };
        let gpu = Gpu::from_device(&adapter, device.clone(), queue);
        let mut job = job(&gpu, 100_000).unwrap();
        job.advance(1).unwrap();
        let start = Instant::now();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(milliseconds));
            device.destroy();
        });
        let error = loop {
            match job.advance(100) {
                Ok(reports) => assert!(reports.iter().all(|report| report.total_loss > 0.0), "zeros for losses"),
                Err(error) => break error,
            }
            assert!(start.elapsed() < PATIENCE, "never noticed");
        };
        killer.join().unwrap();
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
        assert!(error.to_string().contains("the host application's"), "{error} does not say why it ends");
        assert!(!error.to_string().contains('\n') && !error.hint().is_empty(), "{error} / {}", error.hint());
        let image = job.image();
        assert!(matches!(image, Err(Error::DeviceLost { .. })), "a picture from a dead device");
    }
}

#[test]
fn two_engines_on_one_gpu_do_not_disturb_each_other() {
    let Some(gpu) = common::gpu("two engines at once") else { return };
    let run = |iterations| {
        let mut job = job(&gpu, iterations).unwrap();
        let mut losses = Vec::new();
        while losses.len() < iterations as usize {
            losses.extend(job.advance(1).unwrap().iter().map(|report| report.total_loss));
        }
        (losses, job.image().unwrap().rgb)
    };
    let alone = run(3);
    let (first, second) = std::thread::scope(|scope| {
        let threads = [scope.spawn(|| run(3)), scope.spawn(|| run(3))];
        let [first, second] = threads.map(|thread| thread.join().unwrap());
        (first, second)
    });
    assert!(first == alone && second == alone, "results differ from those of a job alone");
}
