//! Coarse to fine: what a scale takes over from the one before, and what a failure between two scales leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{layers, picture};
use impasto::cpu::Cpu;
use impasto::error::{Error, Result};
use impasto::recording::{Backend, BufferId, BufferTable, Engine, Program, Recording};
use impasto::transfer::{Config, Init, Report, Size, StyleTransfer};
use impasto::weights::Weights;
use impasto::weights::builtin::builtin;

/// Three scales: 14x10, 28x20, 56x40 pixels.
fn config() -> Config {
    Config {
        size: Size::Exact(56, 40),
        content_layers: layers(&["relu1_2"]),
        style_layers: layers(&["relu1_1", "relu2_1"]),
        min_scale: Some(14),
        scale_factor: 2.0,
        iterations: 6,
        first_iterations: Some(10),
        ..Config::default()
    }
}

fn weights() -> Weights {
    builtin(config().depth())
}

fn job(backend: &dyn Backend, config: Config) -> Result<StyleTransfer> {
    StyleTransfer::new(backend, &weights(), &picture(7, 44, 60), &[picture(31, 50, 36)], config)
}

fn run_to(job: &mut StyleTransfer, iteration: u32) -> Vec<Report> {
    let mut reports = Vec::new();
    while job.iteration() < iteration {
        let more = job.advance(iteration - job.iteration()).unwrap();
        assert!(!more.is_empty() && more.iter().all(|report| report.scale == more[0].scale), "of one scale");
        reports.extend(more);
    }
    reports
}

#[test]
fn iterations_run_on_through_the_scales_and_pictures_have_the_size_of_the_result() {
    let mut job = job(&Cpu, config()).unwrap();
    let sizes: Vec<[usize; 3]> = job.scales().iter().map(|s| [s.width, s.height, s.iterations as usize]).collect();
    assert_eq!(sizes, [[14, 10, 10], [28, 20, 6], [56, 40, 6]]);
    let mut seen = Vec::new();
    for end in [3, 10, 11, 22] {
        seen.extend(run_to(&mut job, end));
        let (image, report) = (job.image().unwrap(), seen.last().unwrap());
        assert_eq!((image.width, image.height), (56, 40));
        assert_eq!(job.size(), (56, 40));
        assert_eq!(job.gradient().unwrap().len(), report.scale.width * report.scale.height * 3);
    }
    assert!(job.advance(5).unwrap().is_empty(), "complete");
    assert_eq!(seen.iter().map(|report| report.iteration).collect::<Vec<_>>(), (0..22).collect::<Vec<_>>());
    let widths: Vec<usize> = seen.iter().map(|report| report.scale.width).collect();
    assert_eq!(widths, [[14; 10].to_vec(), [28; 6].to_vec(), [56; 6].to_vec()].concat());
    let plans = StyleTransfer::plan(&weights(), &picture(7, 44, 60), &[picture(31, 50, 36)], &config()).unwrap();
    assert_eq!(plans.iter().map(|plan| plan.scale).collect::<Vec<_>>(), job.scales());
    assert_eq!(plans[2].step.to_string(), job.recording().to_string());
}

/// The second scale against a run of its own that begins at the picture which the first scale left.
#[test]
fn a_scale_starts_from_the_picture_of_the_one_before() {
    let two = Config { size: Size::Exact(28, 20), ..config() };
    let mut both = job(&Cpu, two.clone()).unwrap();
    run_to(&mut both, 10);
    // Enlarged to the size of the result, which is that of the second scale.
    let left = both.image().unwrap();
    let mean = weights().mean;
    let values = left.rgb.iter().enumerate().map(|(i, value)| value - mean[i % 3]).collect();
    let init = Init::Values { height: 20, width: 28, values };
    let single = Config { min_scale: None, first_iterations: None, init, ..two.clone() };
    let mut alone = job(&Cpu, single).unwrap();
    let (second, expected) = (run_to(&mut both, 16), run_to(&mut alone, 6));
    for (found, expected) in second.iter().zip(&expected) {
        assert_eq!(found.iteration, expected.iteration + 10);
        for ((name, a), (_, b)) in found.terms().zip(expected.terms()) {
            assert!((a - b).abs() <= 1e-3 * b.abs(), "{name} at {}: {a}, alone {b}", found.iteration);
        }
    }
    let from_content = run_to(&mut job(&Cpu, Config { min_scale: None, ..two }).unwrap(), 1);
    let content = |report: &Report| report.terms().next().unwrap().1;
    assert_eq!(content(&from_content[0]), 0.0);
    assert!(content(&second[0]) > 1.0, "the second scale does not start at the content picture");
}

#[test]
fn a_start_of_values_is_brought_to_the_first_scale() {
    let flat = |height: usize, width: usize| Init::Values { height, width, values: vec![25.0; height * width * 3] };
    let mut given = job(&Cpu, Config { init: flat(40, 56), ..config() }).unwrap();
    let direct = Config { size: Size::Exact(14, 10), min_scale: None, init: flat(10, 14), ..config() };
    let direct = run_to(&mut job(&Cpu, direct).unwrap(), 1)[0].total_loss;
    let found = run_to(&mut given, 1)[0].total_loss;
    assert!((found - direct).abs() <= 1e-4 * direct, "{found}, at the small size {direct}");
    assert!(job(&Cpu, Config { init: flat(10, 14), ..config() }).is_err(), "not the size of the result");
}

/// A fresh Adam's first step has the length of the learning rate for every value; one with a past does not.
#[test]
fn moments_are_taken_over_only_when_asked_for() {
    let first_step = |keep_moments| {
        let mut job = job(&Cpu, Config { size: Size::Exact(28, 20), keep_moments, ..config() }).unwrap();
        run_to(&mut job, 10);
        let before = job.image().unwrap().rgb;
        run_to(&mut job, 11);
        let after = job.image().unwrap().rgb;
        let steps: Vec<f32> = before.iter().zip(after).map(|(a, b)| (a - b).abs()).collect();
        let whole = steps.iter().filter(|step| (**step - 5.0).abs() < 0.05).count();
        whole as f64 / steps.len() as f64
    };
    let [fresh, kept] = [false, true].map(first_step);
    assert!(fresh > 0.95, "{fresh}");
    assert!(kept < 0.2, "{kept}");
}

/// The CPU engine with little room, which keeps what is written.
#[derive(Clone, Debug, Default)]
struct Cramped {
    /// The allocation that finds none, counting from 1.
    fails: usize,
    /// Most elements of all buffers, if there is a bound.
    room: Option<usize>,
    allocations: Arc<AtomicUsize>,
    written: Arc<Mutex<Vec<Vec<f32>>>>,
}

#[derive(Debug)]
struct CrampedEngine {
    inner: Box<dyn Engine>,
    limits: Cramped,
}

impl Backend for Cramped {
    fn engine(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(CrampedEngine { inner: Cpu.engine()?, limits: self.clone() }))
    }
}

fn elements(table: &BufferTable) -> usize {
    table.infos().iter().map(|info| info.len).sum()
}

impl Engine for CrampedEngine {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn allocate(&mut self, table: &BufferTable) -> Result<()> {
        let limits = &self.limits;
        let number = limits.allocations.fetch_add(1, Ordering::Relaxed) + 1;
        if number == limits.fails || limits.room.is_some_and(|room| elements(table) > room) {
            // Whatever was there is gone, as on a real device.
            self.inner.allocate(&BufferTable::default())?;
            return Err(Error::OutOfMemory { what: "test".into(), needed: 1, available: 0, hint: "none".into() });
        }
        self.inner.allocate(table)
    }
    fn prepare(&mut self, recording: &Recording) -> Result<Program> {
        self.inner.prepare(recording)
    }
    fn run(&mut self, program: Program, times: u32) -> Result<()> {
        self.inner.run(program, times)
    }
    fn write(&mut self, buffer: BufferId, values: &[f32]) -> Result<()> {
        self.limits.written.lock().unwrap().push(values.to_vec());
        self.inner.write(buffer, values)
    }
    fn write_words(&mut self, buffer: BufferId, values: &[u32]) -> Result<()> {
        self.inner.write_words(buffer, values)
    }
    fn read(&mut self, buffer: BufferId) -> Result<Vec<f32>> {
        self.inner.read(buffer)
    }
    fn read_words(&mut self, buffer: BufferId) -> Result<Vec<u32>> {
        self.inner.read_words(buffer)
    }
}

#[test]
fn a_scale_that_finds_no_room_leaves_the_picture_and_can_be_tried_again() {
    // The first allocation asks for the largest scale's room, the second is the first scale's, the third the second's.
    let cramped = Cramped { fails: 3, ..Cramped::default() };
    let mut squeezed = job(&cramped, config()).unwrap();
    run_to(&mut squeezed, 10);
    let before = squeezed.image().unwrap();
    let error = squeezed.advance(1).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert_eq!(squeezed.iteration(), 10);
    assert_eq!(squeezed.image().unwrap(), before);
    run_to(&mut squeezed, 22);
    let mut whole = job(&Cpu, config()).unwrap();
    run_to(&mut whole, 22);
    assert_eq!(squeezed.image().unwrap(), whole.image().unwrap(), "as if nothing had been");
}

#[test]
fn a_job_whose_largest_scale_has_no_room_is_refused_at_once() {
    let plans = StyleTransfer::plan(&weights(), &picture(7, 44, 60), &[picture(31, 50, 36)], &config()).unwrap();
    let needed = plans.iter().map(|plan| elements(&plan.buffers)).max().unwrap();
    let with_room = |room| Cramped { room: Some(room), ..Cramped::default() };
    assert!(matches!(job(&with_room(needed - 1), config()), Err(Error::OutOfMemory { .. })));
    let enough = with_room(needed);
    run_to(&mut job(&enough, config()).unwrap(), 22);
    assert_eq!(enough.allocations.load(Ordering::Relaxed), 4, "the largest to see, and each of three");
    let single = with_room(needed);
    job(&single, Config { min_scale: None, first_iterations: None, ..config() }).unwrap();
    assert_eq!(single.allocations.load(Ordering::Relaxed), 1, "a single scale is allocated once");
}

#[test]
fn adam_counts_its_steps_through_the_scales_only_where_it_keeps_its_moments() {
    for (keep_moments, step) in [(false, 1), (true, 11)] {
        let spy = Cramped::default();
        let mut job = job(&spy, Config { size: Size::Exact(28, 20), keep_moments, ..config() }).unwrap();
        run_to(&mut job, 11);
        // The second scale's schedule is the only thing of this length: rate and epsilon of six iterations.
        let written = spy.written.lock().unwrap();
        let schedule = written.iter().find(|values| values.len() == 12).unwrap();
        let rate = |step: i32| 5.0 * (1.0 - 0.999_f64.powi(step)).sqrt() / (1.0 - 0.9_f64.powi(step));
        for (i, pair) in schedule.chunks_exact(2).enumerate() {
            let expected = rate(step + i as i32);
            assert!((f64::from(pair[0]) - expected).abs() < 1e-3 * expected, "{keep_moments}: {schedule:?}");
        }
    }
}
