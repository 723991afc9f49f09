//! What a run does when the engine fails under it: memory that runs out at any buffer, a device that dies or drops work at
//! any submission. It goes on to the same result, or says what to do; never a wrong picture.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use common::{layers, picture, relative_error};
use impasto::cpu::FaultyCpu;
use impasto::error::{Error, Result};
use impasto::gpu::{Gpu, GpuChoice, GpuOptions};
use impasto::kernel::Scalar;
use impasto::recording::{Backend, BufferTable, Faults, Purpose};
use impasto::transfer::{Config, Size, StyleTransfer};
use impasto::weights::builtin::builtin;

/// Two scales, the second in tiles.
fn small() -> Config {
    Config {
        size: Size::Exact(34, 26),
        min_scale: Some(17),
        scale_factor: 2.0,
        content_layers: layers(&["relu1_2"]),
        style_layers: layers(&["relu1_1", "relu2_1"]),
        tile: Some(16),
        iterations: 5,
        first_iterations: Some(4),
        ..Config::default()
    }
}

/// One scale that two or four tiles of 128 pixels can hold instead of one.
fn wide() -> Config {
    Config {
        size: Size::Exact(168, 136),
        content_layers: layers(&["relu1_2"]),
        style_layers: layers(&["relu1_1", "relu2_1"]),
        iterations: 2,
        ..Config::default()
    }
}

fn job(backend: &dyn Backend, config: Config) -> Result<StyleTransfer> {
    StyleTransfer::new(backend, &builtin(config.depth()), &picture(7, 40, 50), &[picture(31, 30, 40)], config)
}

/// What a run reported and left.
#[derive(Debug, PartialEq)]
struct Ran {
    /// Number and terms of every iteration.
    reports: Vec<(u32, Vec<f32>)>,
    image: Vec<f32>,
    notes: Vec<String>,
    tile: Option<usize>,
}

/// Runs to the end, two iterations at a time.
fn run(backend: &dyn Backend, config: Config, keep_every: Duration) -> Result<Ran> {
    let mut job = job(backend, config)?;
    job.keep_state_every(keep_every);
    let mut reports = Vec::new();
    loop {
        let more = job.advance(2)?;
        if more.is_empty() {
            break;
        }
        reports.extend(more.iter().map(|report| (report.iteration, report.terms().map(|term| term.1).collect())));
    }
    let image = job.image()?.rgb;
    Ok(Ran { reports, image, notes: job.notes(), tile: job.tile() })
}

fn open(faults: &Faults) -> Gpu {
    let choice = std::env::var("IMPASTO_TEST_ADAPTER").map_or(GpuChoice::Any, GpuChoice::Name);
    Gpu::new(&GpuOptions { choice, faults: faults.clone(), ..GpuOptions::default() }).unwrap()
}

/// `count` numbers from 1 to `last`, both included.
fn points(last: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |i| 1 + i * (last - 1) / (count - 1))
}

/// Orders a failure of one submission at 20 points of a run, from the first upload to the last readback.
fn fail_at_twenty_points(test: &str, fault: fn(&[u64]) -> Faults, said: &str) {
    if common::gpu(test).is_none() {
        return;
    }
    let none = Faults::default();
    let expected = run(&open(&none), small(), Duration::MAX).unwrap();
    assert_eq!(expected.notes, [""; 0]);
    assert_eq!(expected.reports.iter().map(|report| report.0).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    // With a state after every call there are more submissions, so that the points lie elsewhere.
    for (keep_every, count) in [(Duration::MAX, 10), (Duration::ZERO, 10)] {
        let counter = Faults::default();
        run(&open(&counter), small(), keep_every).unwrap();
        let mut reached = 0;
        for number in points(counter.submissions(), count) {
            let faults = fault(&[number]);
            let ran = run(&open(&faults), small(), keep_every).unwrap();
            assert!(ran.reports == expected.reports, "submission {number}: other reports");
            assert!(ran.image == expected.image, "submission {number}: another picture");
            // How many submissions there are depends on their durations: the last points may lie behind the end.
            if faults.submissions() >= number {
                assert_eq!(ran.notes.len(), 1, "submission {number} of {}: {:?}", counter.submissions(), ran.notes);
                assert!(ran.notes[0].contains(said), "{:?}", ran.notes);
                reached += 1;
            }
        }
        println!("{reached} of {count} failures, among {} submissions", counter.submissions());
        assert!(reached >= count - 3, "only {reached} of {count} failures took place");
    }
}

#[test]
fn a_device_lost_at_any_point_of_a_run_is_opened_again_and_the_result_is_the_same_to_the_bit() {
    fail_at_twenty_points("a device lost at 20 points", Faults::lose_at, "the device was lost (");
}

#[test]
fn work_that_is_reported_as_finished_but_was_not_done_is_noticed_at_any_point_of_a_run() {
    let said = "the device reports work as finished that it has not done";
    fail_at_twenty_points("work not done at 20 points", Faults::drop_at, said);
}

#[test]
fn a_device_lost_for_the_second_time_ends_the_run_with_the_last_good_picture() {
    if common::gpu("a device lost twice").is_none() {
        return;
    }
    let config = || Config { min_scale: None, first_iterations: None, iterations: 6, ..small() };
    let gpu = open(&Faults::default());
    let mut undisturbed = job(&gpu, config()).unwrap();
    undisturbed.advance(1).unwrap();
    undisturbed.advance(1).unwrap();
    let after_two = undisturbed.image().unwrap();
    for keep in [false, true] {
        // Opened again once, after which everything fails that is submitted: there is no third device.
        let gpu = open(&Faults::default());
        let mut job = job(&gpu, config()).unwrap();
        job.keep_state_every(if keep { Duration::ZERO } else { Duration::MAX });
        job.advance(1).unwrap();
        assert_eq!(job.advance(1).unwrap()[0].iteration, 1);
        let from = gpu.faults().submissions();
        gpu.faults().lose_from(from + 1);
        let error = job.advance(2).unwrap_err();
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
        assert!(error.to_string().contains("for the second time"), "{error}");
        assert!(error.hint().contains("--device cpu"), "{}", error.hint());
        assert_eq!(job.notes().len(), 1);
        assert!(matches!(job.image(), Err(Error::DeviceLost { .. })), "a picture from a dead device");
        assert!(matches!(job.advance(2), Err(Error::DeviceLost { .. })), "and again");
        let expected = keep.then(|| (2, after_two.clone()));
        assert!(job.last_good() == expected, "{:?}", job.last_good().map(|good| good.0));
    }
}

#[test]
fn a_device_may_be_lost_again_once_there_is_a_new_state() {
    if common::gpu("a device lost now and then").is_none() {
        return;
    }
    let expected = run(&open(&Faults::default()), small(), Duration::MAX).unwrap();
    let counter = Faults::default();
    run(&open(&counter), small(), Duration::ZERO).unwrap();
    // The second number falls well after the state that follows what the first one cost.
    let (first, second) = (counter.submissions() / 8, counter.submissions() * 7 / 8);
    let ran = run(&open(&Faults::lose_at(&[first, second])), small(), Duration::ZERO).unwrap();
    assert_eq!(ran.notes.len(), 2, "{:?}", ran.notes);
    assert!(ran.reports == expected.reports && ran.image == expected.image);
}

/// The same to tiling tolerance: what rounding does to two steps of Adam.
fn same(ran: &Ran, expected: &Ran, case: &str) {
    for (found, expected) in ran.reports.iter().zip(&expected.reports) {
        assert_eq!(found.0, expected.0, "{case}");
        for (a, b) in found.1.iter().zip(&expected.1) {
            let bound = if found.0 == 0 { 1e-5 } else { 1e-3 };
            assert!((a - b).abs() <= bound * b.abs(), "{case}, iteration {}: {a}, not {b}", found.0);
        }
    }
    assert_eq!(ran.reports.len(), expected.reports.len(), "{case}");
    let error = relative_error(&ran.image, &expected.image);
    assert!(error < 1e-3, "{case}: the picture differs by {error:.1e}");
}

#[test]
fn any_buffer_of_the_cpu_engine_may_find_no_memory() {
    let counter = Faults::default();
    let expected = run(&FaultyCpu(counter.clone()), wide(), Duration::MAX).unwrap();
    assert!(counter.creations() > 20, "{}", counter.creations());
    for number in 1..=counter.creations() {
        let ran = run(&FaultyCpu(Faults::fail_allocation(number)), wide(), Duration::MAX).unwrap();
        assert_eq!((ran.tile, ran.notes.len()), (Some(128), 1), "buffer {number}: {:?}", ran.notes);
        let note = &ran.notes[0];
        assert!(note.starts_with("out of memory: ") && note.contains("; in tiles of 128 pixels it needs "), "{note}");
        same(&ran, &expected, &format!("buffer {number}"));
    }
}

#[test]
fn any_buffer_of_a_gpu_may_find_no_memory_those_for_readbacks_too() {
    if common::gpu("memory that runs out at 16 points").is_none() {
        return;
    }
    let counter = Faults::default();
    let expected = run(&open(&counter), Config { iterations: 1, ..wide() }, Duration::MAX).unwrap();
    for number in points(counter.creations(), 16) {
        let gpu = open(&Faults::fail_allocation(number));
        let ran = run(&gpu, Config { iterations: 1, ..wide() }, Duration::MAX).unwrap();
        assert_eq!((ran.tile, ran.notes.len()), (Some(128), 1), "buffer {number}: {:?}", ran.notes);
        same(&ran, &expected, &format!("buffer {number} of {}", counter.creations()));
    }
}

#[test]
fn with_less_and_less_memory_the_tiles_become_smaller_until_the_need_is_said() {
    let config = || Config { size: Size::Exact(420, 300), iterations: 1, ..wide() };
    let expected = run(&FaultyCpu::default(), config(), Duration::MAX).unwrap();
    let plans = StyleTransfer::plan(&builtin(3), &picture(7, 40, 50), &[picture(31, 30, 40)], &config()).unwrap();
    let needed = plans[0].buffers.total();
    let mut tiles = Vec::new();
    for percent in [100, 90, 50, 30, 10] {
        match run(&FaultyCpu(Faults::memory(needed * percent / 100)), config(), Duration::MAX) {
            Ok(ran) => {
                same(&ran, &expected, &format!("{percent} % of the memory"));
                tiles.push(ran.tile);
            }
            Err(Error::OutOfMemory { needed: least, available, hint, what }) => {
                println!("{percent} %: {what} {least} {available} / {hint}");
                assert!(least > available && available > 0 && least < needed, "{what} {least} {available}");
                assert!(hint.contains("--size"), "{hint}");
                tiles.push(Some(0));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((tiles[0], tiles[4]), (None, Some(0)), "{tiles:?}");
    assert!(tiles[1].is_some_and(|edge| edge >= 256) && tiles[2..4].contains(&Some(128)), "{tiles:?}");
}

#[test]
fn a_tile_that_was_asked_for_becomes_smaller_too_and_the_smallest_keeps_less_until_there_is_no_less() {
    let with = |config| run(&FaultyCpu(Faults::fail_allocation(9)), config, Duration::MAX);
    assert_eq!(with(Config { tile: Some(160), ..wide() }).unwrap().tile, Some(128));
    let expected = run(&FaultyCpu::default(), Config { tile: Some(128), ..wide() }, Duration::MAX).unwrap();
    let ran = with(Config { tile: Some(128), ..wide() }).unwrap();
    assert!(
        ran.notes.len() == 1 && ran.notes[0].contains("with the content's features computed anew"),
        "{:?}",
        ran.notes
    );
    same(&ran, &expected, "content computed anew");
    let bare = Config { tile: Some(128), content_layers: Vec::new(), ..wide() };
    let Err(Error::OutOfMemory { needed, .. }) = with(bare) else { panic!("there is nothing to save") };
    assert!(needed > 0);
}

/// Of two scales the larger is in tiles already, and needs less than the smaller, which is whole.
#[test]
fn the_scale_that_finds_no_room_is_the_one_that_becomes_smaller() {
    let (content, styles, weights) = (picture(7, 40, 50), [picture(31, 30, 40)], builtin(wide().depth()));
    let plan =
        |config: &Config| StyleTransfer::plan_on(&FaultyCpu::default(), &weights, &content, &styles, config).unwrap();
    let small = plan(&Config { size: Size::Exact(200, 200), ..wide() });
    let config = Config { size: Size::Exact(400, 400), min_scale: Some(200), scale_factor: 2.0, ..wide() };
    let config = Config { memory: Some(small[0].bytes()), iterations: 1, ..config };
    let plans = plan(&config);
    let [first, last] = &plans[..] else { panic!("two scales") };
    assert!(first.tile.is_none() && last.tile.is_some_and(|edge| edge > 128), "{:?} {:?}", first.tile, last.tile);
    assert!(first.bytes() >= last.bytes(), "{} {}", first.bytes(), last.bytes());
    let expected = run(&FaultyCpu::default(), config.clone(), Duration::MAX).unwrap();
    // The largest scale's buffers come first, as a test of whether there is room.
    let ran = run(&FaultyCpu(Faults::fail_allocation(9)), config, Duration::MAX).unwrap();
    assert_eq!((ran.tile, ran.notes.len()), (Some(128), 1), "{:?}", ran.notes);
    same(&ran, &expected, "the larger scale in smaller tiles");
}

#[test]
fn a_failed_allocation_gives_everything_back() {
    if common::gpu("memory after a failed allocation").is_none() {
        return;
    }
    let gpu = open(&Faults::memory(20 << 20));
    let mut table = BufferTable::default();
    for name in ["first", "second", "third"] {
        table.add(name, Scalar::F32, 2 << 20, Purpose::Tile);
    }
    let mut engine = gpu.engine().unwrap();
    let Some(before) = gpu.allocated() else { return common::skip("memory given back", "the adapter does not tell") };
    let Err(Error::OutOfMemory { what, needed, available, .. }) = engine.allocate(&table) else { panic!("no failure") };
    assert_eq!((needed, available), (24 << 20, 16 << 20));
    assert!(what.contains("third"), "{what}");
    assert_eq!(gpu.allocated(), Some(before));
    // What fits, fits.
    let mut smaller = BufferTable::default();
    smaller.add("first", Scalar::F32, 2 << 20, Purpose::Tile);
    engine.allocate(&smaller).unwrap();
    assert!(gpu.allocated().unwrap() >= before + (8 << 20));
}

#[test]
fn submissions_are_measured() {
    let Some(gpu) = common::gpu("measured submissions") else { return };
    let mut job = job(&gpu, Config { iterations: 6, ..wide() }).unwrap();
    while !job.advance(2).unwrap().is_empty() {}
    let done = job.submissions().unwrap();
    println!("{done:?}");
    assert!(done.count > 3 && done.longest >= done.median && done.longest >= done.longest_of_many, "{done:?}");
    assert!(done.median > Duration::ZERO);
}
