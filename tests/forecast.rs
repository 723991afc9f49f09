//! The forecast of memory: what a plan says before anything is allocated, what engines then hold, and how `tile: None`
//! is decided.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{gpu, layers, noise, picture, relative_error};
use impasto::cpu::Cpu;
use impasto::error::{Error, Result};
use impasto::net::plan::Pooling;
use impasto::picture::Picture;
use impasto::recording::{Backend, BufferTable, Command, Dispatch, Engine, Purpose, Recording, Room, Tensor};
use impasto::transfer::{Config, Convolution, Plan, Size, StyleLoss, StyleTransfer, TotalVariation};
use impasto::weights::builtin::builtin;

/// The layers of the article, and those of jcjohnson's neural-style.
fn article() -> Config {
    let style_layers = layers(&["relu1_2", "relu2_2", "relu3_2"]);
    Config { content_layers: layers(&["relu1_2"]), style_layers, pooling: Pooling::Max, ..Config::default() }
}

fn classic() -> Config {
    let style_layers = layers(&["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]);
    Config { content_layers: layers(&["relu4_2"]), style_layers, ..Config::default() }
}

fn flat(width: usize, height: usize) -> Picture {
    Picture { width, height, rgb: vec![100.0; width * height * 3] }
}

fn plan(backend: &dyn Backend, config: &Config) -> Result<Plan> {
    let weights = builtin(config.depth());
    Ok(StyleTransfer::plan_on(backend, &weights, &flat(64, 64), &[flat(64, 64)], config)?.remove(0))
}

/// A device with the limits that every WebGPU device has, on which nothing runs.
#[derive(Debug)]
struct Least(u64);

impl Backend for Least {
    fn engine(&self) -> Result<Box<dyn Engine>> {
        Err(Error::NoDevice { what: "nothing runs here".into(), hint: String::new() })
    }

    fn room(&self) -> Room {
        Room { binding: 128 << 20, memory: self.0 }
    }

    fn overhead(&self, table: &BufferTable, recordings: &[&Recording]) -> u64 {
        Cpu.overhead(table, recordings)
    }
}

fn square(side: usize) -> Config {
    Config { size: Size::Exact(side, side), style_size: Some(Size::Exact(side, side)), ..Config::default() }
}

#[test]
fn the_largest_picture_keeps_to_the_default_limits_and_tiles_take_what_they_take() {
    for (name, layers) in [("article", article()), ("classic", classic())] {
        let mut tile_bytes = Vec::new();
        for side in [2048, 4096] {
            let Config { size, style_size, .. } = square(side);
            let config = Config { size, style_size, tile: Some(512), ..layers.clone() };
            let begin = std::time::Instant::now();
            let plan = plan(&Least(u64::MAX), &config).unwrap();
            let took = begin.elapsed();
            for info in plan.buffers.infos() {
                assert!(info.len * 4 <= 128 << 20, "{name}, {side}: {} has {} elements", info.label, info.len);
            }
            for command in &plan.step.commands {
                if let Command::Dispatch(dispatch) = command {
                    assert!(dispatch.grid.iter().all(|groups| (1..=65_535).contains(groups)), "{dispatch:?}");
                    assert!(dispatch.tensors.len() <= 8, "WebGPU's storage bindings");
                }
            }
            let bytes = |purpose| plan.buffers.bytes(purpose);
            println!(
                "{name} {side}: image {} MiB, tile {} MiB, total {} MiB, {} launches, laid out in {took:.1?}",
                bytes(Purpose::Image) >> 20,
                bytes(Purpose::Tile) >> 20,
                plan.bytes() >> 20,
                plan.step.launches()
            );
            let pictures = if plan.recomputes_content { 5 } else { 4 };
            // And the counter of the optimiser's steps.
            assert_eq!(bytes(Purpose::Image), pictures * 16 * (side * side) as u64 + 4);
            let content: u64 = if plan.recomputes_content { 0 } else { bytes(Purpose::Targets) };
            tile_bytes.push((bytes(Purpose::Tile), plan.bytes() - bytes(Purpose::Image) - content));
        }
        let content_tile = 512 * 512 * 64 * 4;
        assert!(tile_bytes[1].0 <= tile_bytes[0].0 + content_tile, "{name}: {tile_bytes:?}");
    }
}

/// One step, a picture read back: what the engine then holds against what was forecast.
fn check(backend: &dyn Backend, (width, height): (usize, usize), config: Config) {
    let config = Config { size: Size::Native, style_size: Some(Size::Native), iterations: 2, ..config };
    let (weights, content, styles) = (builtin(config.depth()), picture(1, height, width), [picture(2, 40, 50)]);
    let forecast = StyleTransfer::plan_on(backend, &weights, &content, &styles, &config).unwrap().remove(0);
    let mut job = StyleTransfer::new(backend, &weights, &content, &styles, config).unwrap();
    job.advance(2).unwrap();
    job.image().unwrap();
    let held = job.ledger();
    println!("{width}x{height}: held {held:?}, forecast {}", forecast.bytes());
    assert!(held.overhead > 0);
    assert_eq!(held.buffers, forecast.buffers.total());
    assert!(held.total() <= forecast.bytes(), "{held:?}, forecast {}", forecast.bytes());
    assert!(held.total() as f64 >= 0.95 * forecast.bytes() as f64, "{held:?}, forecast {}", forecast.bytes());
}

#[test]
fn the_cpu_engine_holds_what_was_forecast() {
    check(&Cpu, (96, 80), Config::default());
    check(&Cpu, (61, 131), Config { tile: Some(48), ..article() });
    check(&Cpu, (149, 101), Config { tile: Some(64), max_buffer: 50_000, ..article() });
    check(&Cpu, (120, 90), classic());
    let wasserstein = Config { style_loss: StyleLoss::Wasserstein, pooling: Pooling::L2, ..article() };
    check(&Cpu, (120, 90), wasserstein.clone());
    check(&Cpu, (149, 101), Config { tile: Some(64), ..wasserstein });
    let scaled = Config { style_loss: StyleLoss::ScaledMse, tv: TotalVariation::NinePoint, ..article() };
    check(&Cpu, (149, 101), Config { tile: Some(64), max_buffer: 50_000, ..scaled });
    let one = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    one.install(|| check(&Cpu, (149, 101), Config { tile: Some(64), ..article() }));
    check(&Cpu, (61, 43), Config { tile: Some(48), convolution: Convolution::Winograd, ..article() });
}

#[test]
fn a_gpu_holds_what_was_forecast() {
    let Some(gpu) = gpu("forecast") else { return };
    let small = || Config { content_layers: layers(&["relu2_1"]), style_layers: layers(&["relu1_1"]), ..article() };
    check(&gpu, (40, 30), small());
    check(&gpu, (67, 43), Config { tile: Some(32), max_buffer: 20_000, ..small() });
    let wasserstein = Config { style_loss: StyleLoss::Wasserstein, pooling: Pooling::L2, ..small() };
    check(&gpu, (67, 43), Config { tile: Some(32), ..wasserstein });
    let convolution = Convolution::Winograd;
    check(&gpu, (67, 43), Config { tile: Some(32), convolution, ..small() });
}

fn dispatch(command: &Command) -> Option<&Dispatch> {
    if let Command::Dispatch(dispatch) = command { Some(dispatch) } else { None }
}

/// Everything that 4096x4096 pixels need is allocated; the first and the last tile and the optimiser run.
#[test]
#[ignore = "takes 4 GiB and minutes on software Vulkan"]
fn tiles_of_the_largest_picture_run_on_a_gpu_as_on_the_cpu_engine() {
    let Some(gpu) = gpu("largest picture") else { return };
    let config = Config { tile: Some(512), size: square(4096).size, tv_weight: 0.0, ..article() };
    let plan = plan(&gpu, &config).unwrap();
    let begins = |command: &Command| dispatch(command).is_some_and(|dispatch| dispatch.label == "tile in");
    let tiles: Vec<usize> = (0..plan.step.commands.len()).filter(|at| begins(&plan.step.commands[*at])).collect();
    let mut recording = Recording::new("two tiles");
    recording.commands.extend_from_slice(&plan.step.commands[..tiles[1]]);
    recording.commands.extend_from_slice(&plan.step.commands[tiles[tiles.len() - 1]..]);
    let tensors: Vec<&Tensor> = recording.commands.iter().filter_map(dispatch).flat_map(|d| &d.tensors).collect();
    let label = |tensor: &Tensor| plan.buffers.info(tensor.buffer).label.as_str();
    let last = tensors.iter().rfind(|tensor| label(tensor).starts_with("d_image")).unwrap();
    let run = |backend: &dyn Backend| {
        let mut engine = backend.engine().unwrap();
        engine.allocate(&plan.buffers).unwrap();
        let program = engine.prepare(&recording).unwrap();
        for tensor in &tensors {
            let scale = match label(tensor).split([' ', '.']).collect::<Vec<_>>()[..] {
                ["image", ..] => 100.0,
                [_, "weight" | "weight_rotated"] => 0.05,
                _ => continue,
            };
            let values: Vec<f32> = noise(5, tensor.len()).iter().map(|value| scale * value).collect();
            engine.write(tensor.buffer, &values).unwrap();
        }
        let begin = std::time::Instant::now();
        engine.run(program, 1).unwrap();
        let gradient = engine.read(last.buffer).unwrap();
        println!("{}: {:.1?}, holds {:?}", engine.describe(), begin.elapsed(), engine.ledger());
        gradient
    };
    let (subject, reference) = (run(&gpu), run(&Cpu));
    let error = relative_error(&subject, &reference);
    println!("gradient {error:.1e}");
    assert!(error <= 1e-4 && reference.iter().any(|value| *value != 0.0), "{error:.1e}");
}

#[test]
fn the_memory_decides_between_the_whole_and_tiles() {
    let config = Config { size: Size::Exact(1000, 700), style_size: Some(Size::Exact(500, 300)), ..article() };
    let with = |memory| plan(&Cpu, &Config { memory: Some(memory), ..config.clone() });
    let whole = with(u64::MAX).unwrap();
    assert_eq!((whole.tile, whole.tiles, whole.recomputes_content), (None, 1, false));
    assert_eq!(with(whole.bytes()).unwrap().tiles, 1, "it fits to the byte");
    let mut edges = Vec::new();
    for part in [2, 3, 4] {
        let memory = whole.bytes() / part;
        let plan = with(memory).unwrap();
        assert!(plan.bytes() <= memory && plan.tiles > 1, "{} of {memory}", plan.bytes());
        assert_eq!(plan.tile.unwrap() % 16, 0, "on the grid");
        edges.push(plan.tile.unwrap());
    }
    assert!(edges.is_sorted_by(|a, b| a >= b), "{edges:?}");
    let refused = with(1 << 20).unwrap_err();
    assert!(
        matches!(refused, Error::OutOfMemory { needed, available: 1_048_576, .. } if needed > 1 << 20),
        "{refused}"
    );
    // A bound that nobody gave is no reason to refuse.
    let supposed = plan(&Least(1 << 20), &config).unwrap();
    assert_eq!(supposed.tile, Some(512), "smaller ones take many times the work to save little");
    // A map of the whole would be larger than what can be bound.
    let bound = plan(&Least(u64::MAX), &config).unwrap();
    assert!(bound.tiles > 1 && bound.buffers.largest() <= 128 << 20);
    // Small tiles with kept targets give way to larger ones without.
    let large = Config { size: Size::Exact(2000, 2000), ..config.clone() };
    assert!(plan(&Least(900 << 20), &large).unwrap().recomputes_content);
}
