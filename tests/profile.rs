//! Profiles: a row for each command, the same results as a plain run, files that can be read again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;

use common::{gpu, layers, picture};
use impasto::cpu::Cpu;
use impasto::error::Error;
use impasto::kernel::Scalar;
use impasto::net::plan::Pooling;
use impasto::profile::{KERNELS, Load, Profile, Roofs, Shape, alone, measure, measure_variants, roofs, variants};
use impasto::recording::{Backend, Block, BufferTable, Clock, Command, Matrices, Purpose, Recording};
use impasto::transfer::{Config, Plan, Size, StyleTransfer};
use impasto::weights::builtin::builtin;

const ROOFS: Roofs = Roofs { flops: 1e11, bytes: 1e10 };

fn plan(tile: Option<usize>) -> Plan {
    let config = Config {
        size: Size::Native,
        style_size: Some(Size::Native),
        content_layers: layers(&["relu1_2"]),
        style_layers: layers(&["relu1_1", "relu2_1"]),
        pooling: Pooling::Max,
        tile,
        ..Config::default()
    };
    let weights = builtin(config.depth());
    StyleTransfer::plan(&weights, &picture(1, 40, 36), &[picture(2, 20, 24)], &config).unwrap().remove(0)
}

fn rows_are_the_commands(backend: &dyn Backend) {
    for tile in [None, Some(16)] {
        let plan = plan(tile);
        let load = Load { buffers: &plan.buffers, recording: &plan.step };
        let profile = measure(backend, load, 3, ROOFS).unwrap();
        assert_eq!(profile.rows.len(), plan.step.commands.len());
        for (row, command) in profile.rows.iter().zip(&plan.step.commands) {
            assert!(row.fastest <= row.median && row.median.is_finite() && row.fastest >= 0.0, "{row:?}");
            match command {
                Command::Clear(buffer) => {
                    assert_eq!((row.kernel.as_str(), &row.label), ("clear", &plan.buffers.info(*buffer).label));
                }
                Command::Dispatch(dispatch) => {
                    assert_eq!((row.kernel.as_str(), &row.label), (dispatch.kernel.name, &dispatch.label));
                    assert_eq!((row.flops, row.bytes, row.grid), (dispatch.flops, dispatch.bytes, dispatch.grid));
                }
            }
        }
        let convolutions: f64 = profile.by_kernel().iter().filter(|t| t.name == "conv3x3").map(|t| t.seconds).sum();
        assert!(convolutions > 0.0 && profile.whole > 0.0);
        let sums =
            [profile.by_kernel(), profile.by_label()].map(|totals| totals.iter().map(|t| t.seconds).sum::<f64>());
        assert!(sums.iter().all(|sum| (sum - profile.seconds()).abs() < 1e-9), "{sums:?}");
        println!("{:?}, {} rows, {:.1} % of the whole", profile.clock, profile.rows.len(), 100.0 * profile.explained());
    }
}

/// What a profiled run of a step leaves in every buffer against what a plain one leaves.
fn profiled_runs_compute_the_same(backend: &dyn Backend) {
    let plan = plan(None);
    let run = |profiled: bool| {
        let mut engine = backend.engine().unwrap();
        engine.allocate(&plan.buffers).unwrap();
        let tensors = plan.step.commands.iter().filter_map(|command| match command {
            Command::Dispatch(dispatch) => Some(&dispatch.tensors),
            Command::Clear(_) => None,
        });
        let tensors: Vec<_> = tensors.flatten().filter(|tensor| tensor.scalar == Scalar::F32).collect();
        for tensor in &tensors {
            let scale = if plan.buffers.info(tensor.buffer).purpose == Purpose::Weights { 0.1 } else { 1.0 };
            let values: Vec<f32> = common::noise(3, tensor.len()).iter().map(|value| scale * value.abs()).collect();
            engine.write(tensor.buffer, &values).unwrap();
        }
        let program = engine.prepare(&plan.step).unwrap();
        if profiled {
            assert_eq!(engine.profile(program, 2).unwrap().seconds.len(), 2);
        } else {
            engine.run(program, 2).unwrap();
        }
        tensors.iter().flat_map(|tensor| engine.read(tensor.buffer).unwrap()).map(f32::to_bits).collect::<Vec<_>>()
    };
    assert!(run(true) == run(false), "timing the launches changed what they compute");
}

#[test]
fn a_row_for_each_command_on_the_cpu_engine() {
    rows_are_the_commands(&Cpu);
    profiled_runs_compute_the_same(&Cpu);
}

#[test]
fn a_row_for_each_command_on_a_gpu() {
    let Some(gpu) = gpu("profile") else { return };
    rows_are_the_commands(&gpu);
    profiled_runs_compute_the_same(&gpu);
}

#[test]
fn every_kernel_that_runs_alone_does() {
    let shape: Shape = "9x7x6x10".parse().unwrap();
    assert_eq!(shape, Shape { height: 9, width: 7, inputs: 8, outputs: 12 });
    for kernel in KERNELS {
        let (buffers, recording) = alone(kernel, shape).unwrap();
        let profile = measure(&Cpu, Load { buffers: &buffers, recording: &recording }, 1, ROOFS).unwrap();
        assert_eq!(profile.rows.len(), 1);
        assert_eq!(profile.rows[0].kernel, kernel);
    }
    assert!(matches!(alone("style_loss", shape), Err(Error::Config { .. })));
    for bad in ["", "9", "9x7", "0x7x4", "9x7x4x4x4", "9x-7x4", "65536x65536x4", "1x1x65536x65536"] {
        assert!(bad.parse::<Shape>().is_err(), "{bad}");
    }
}

/// Blocks, Winograd's transforms, halves, and matrix units where the channels suit them.
#[test]
fn a_convolution_is_measured_in_every_way_there_is() {
    let units = Some(Matrices { edge: 16, subgroup: 32 });
    for kernel in ["conv3x3", "conv3x3_backward"] {
        for (shape, units, ways) in [("9x7x64x64", units, 19), ("9x7x64x64", None, 18), ("9x7x4x64", units, 18)] {
            let shape: Shape = shape.parse().unwrap();
            let all = variants(kernel, shape, units).unwrap();
            let mut names: Vec<&str> = all.iter().map(|variant| variant.name.as_str()).collect();
            assert_eq!(names.contains(&"f16 cooperative 16x16 by 32"), ways == 19, "{names:?}");
            for block in Block::ALL {
                for way in ["direct", "winograd", "f16 direct"] {
                    assert!(names.contains(&format!("{way} {block}").as_str()), "{way} {block}: {names:?}");
                }
            }
            let (profile, failed) = measure_variants(&Cpu, kernel, &all, 1, ROOFS).unwrap();
            assert!(failed.is_empty(), "{failed:?}");
            let rows: Vec<&str> = profile.rows.iter().map(|row| row.label.as_str()).collect();
            assert_eq!(rows, names);
            let flops = 2 * 9 * 63 * (shape.inputs * shape.outputs) as u64;
            assert!(profile.rows.iter().all(|row| row.flops == flops && row.median > 0.0), "{:?}", profile.rows);
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), ways);
        }
    }
    let alone = variants("gram", "9x7x64".parse().unwrap(), units).unwrap();
    assert_eq!((alone.len(), alone[0].name.as_str()), (1, "gram"));
}

#[test]
fn the_roofs_are_above_nothing() {
    let Roofs { flops, bytes } = roofs(&Cpu).unwrap();
    assert!(flops > 1e8 && bytes > 1e8, "{flops} {bytes}");
}

#[test]
fn a_profile_can_be_kept_and_its_trace_opened() {
    let plan = plan(None);
    let profile = measure(&Cpu, Load { buffers: &plan.buffers, recording: &plan.step }, 2, ROOFS).unwrap();
    let kept = Profile::from_json(&profile.to_json().to_string(), Path::new("kept.json")).unwrap();
    assert_eq!((&kept.device, kept.clock, kept.rows.len()), (&profile.device, Clock::Host, profile.rows.len()));
    for (kept, row) in kept.rows.iter().zip(&profile.rows) {
        assert_eq!((&kept.kernel, &kept.label, kept.grid, kept.flops), (&row.kernel, &row.label, row.grid, row.flops));
        assert!((kept.median - row.median).abs() <= 1e-9 * row.median.max(1e-9));
    }
    for broken in ["", "[]", "{}", "{\"device\": 1}", &profile.to_json().to_string().replace("median_ms", "median")] {
        let refused = Profile::from_json(broken, Path::new("broken.json")).unwrap_err();
        assert!(refused.to_string().contains("broken.json is not a profile"), "{refused}");
    }
}

/// What Perfetto and chrome://tracing need of a trace (the Trace Event Format), and what this one says beyond it.
#[test]
fn a_trace_has_the_format_s_fields_and_its_launches_lie_one_after_the_other_in_the_iteration() {
    let plan = plan(None);
    let profile = measure(&Cpu, Load { buffers: &plan.buffers, recording: &plan.step }, 2, ROOFS).unwrap();
    let trace = profile.to_trace();
    assert!(["ms", "ns"].contains(&trace["displayTimeUnit"].as_str().unwrap()));
    let events = trace["traceEvents"].as_array().unwrap();
    for event in events {
        assert!(event["name"].is_string() && event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
        let fields: &[&str] = match event["ph"].as_str().unwrap() {
            // A complete event.
            "X" => &["cat", "ts", "dur", "args"],
            "M" => &["args"],
            other => panic!("an event of kind {other}"),
        };
        assert!(fields.iter().all(|field| !event[field].is_null()), "{event} lacks one of {fields:?}");
        if event["ph"] == "X" {
            let [begin, took] = ["ts", "dur"].map(|field| event[field].as_f64().unwrap());
            assert!(begin >= 0.0 && took >= 0.0 && event["cat"].is_string(), "{event}");
        }
    }
    for name in ["process_name", "thread_name"] {
        assert!(
            events.iter().any(|event| event["ph"] == "M" && event["name"] == name && event["args"]["name"].is_string())
        );
    }
    let complete: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
    let [outer, launches @ ..] = complete.as_slice() else { panic!("no events") };
    assert_eq!((outer["name"].as_str(), launches.len()), (Some("iteration"), profile.rows.len()));
    let span = |event: &serde_json::Value| {
        let [begin, took] = ["ts", "dur"].map(|field| event[field].as_f64().unwrap());
        (begin, begin + took)
    };
    let (mut end, last) = span(outer);
    for (event, row) in launches.iter().zip(&profile.rows) {
        let (begin, after) = span(event);
        assert!(begin >= end - 1e-6, "{event} begins before the one before it ends");
        assert!(after <= last + 1e-6, "{event} ends after the iteration");
        assert_eq!(event["name"], format!("{} {}", row.kernel, row.label));
        assert_eq!((&event["cat"], &event["args"]["flops"]), (&row.kernel.clone().into(), &row.flops.into()));
        end = after;
    }
    assert!((end - 1e6 * profile.seconds()).abs() < 1.0, "microseconds");
}

/// wgpu's own clears stand outside passes, so the engine has a kernel for them.
#[test]
fn a_clear_on_a_gpu_reaches_the_last_word_and_no_other_buffer() {
    let Some(gpu) = gpu("clear") else { return };
    // Below and above a workgroup, and more than a grid of them has threads.
    for len in [1, 255, 257, 4096, 256 * 65_535 + 3] {
        let mut table = BufferTable::default();
        let [cleared, kept] = ["cleared", "kept"].map(|label| table.tensor(label, Scalar::U32, &[len], Purpose::Tile));
        let mut recording = Recording::new("test");
        recording.clear(cleared.buffer);
        let mut engine = gpu.engine().unwrap();
        engine.allocate(&table).unwrap();
        for tensor in [&cleared, &kept] {
            engine.write_words(tensor.buffer, &vec![7; len]).unwrap();
        }
        let program = engine.prepare(&recording).unwrap();
        engine.run(program, 1).unwrap();
        let [cleared, kept] = [cleared, kept].map(|tensor| engine.read_words(tensor.buffer).unwrap());
        assert!(cleared.iter().all(|word| *word == 0) && cleared.len() == len, "{len} words");
        assert!(kept.iter().all(|word| *word == 7), "{len} words beside them");
    }
}
