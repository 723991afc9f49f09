//! Choice of kernels: what is wrong or fails is dropped and the run goes on, what was found is kept and found again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{gpu, layers, picture};
use impasto::cpu::Cpu;
use impasto::error::Result;
use impasto::gpu::{Gpu, GpuChoice, GpuOptions};
use impasto::recording::{Backend, Block, Choices, Engine, Faults, Geometry, Matrices, Method, Pass, Rule};
use impasto::transfer::{Config, Size, StyleTransfer};
use impasto::tune::{Effort, Source, Tuned, methods, settle, tune};
use impasto::weights::builtin::builtin;

/// Pictures so small that a software renderer times all of them in seconds.
fn effort() -> Effort {
    Effort { sizes: vec![32], limit: Duration::from_secs(5) }
}

fn faulty(faults: Faults) -> Gpu {
    let choice = std::env::var("IMPASTO_TEST_ADAPTER").map_or(GpuChoice::Any, GpuChoice::Name);
    Gpu::new(&GpuOptions { choice, faults, ..GpuOptions::default() }).unwrap()
}

fn tuned(backend: &dyn Backend, faults: &Faults) -> Tuned {
    tune(backend, &effort(), &[], faults, |_| ()).unwrap()
}

fn files(folder: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn finishes(gpu: &Gpu) {
    let config = Config {
        size: Size::Native,
        style_size: Some(Size::Native),
        content_layers: layers(&["relu2_2"]),
        style_layers: layers(&["relu1_2", "relu2_2"]),
        iterations: 2,
        ..Config::default()
    };
    let weights = builtin(config.depth());
    let mut job = StyleTransfer::new(gpu, &weights, &picture(1, 24, 20), &[picture(2, 16, 16)], config).unwrap();
    assert_eq!(job.kernels(), gpu.choices().digest());
    let losses: Vec<f64> = job.steps().map(|report| report.unwrap().total_loss).collect();
    assert!(losses.len() == 2 && losses[1] < losses[0], "{losses:?}");
}

#[test]
fn every_method_is_right_on_the_adapter_at_hand() {
    let Some(gpu) = gpu("tune") else { return };
    // Time for one layer at least, on whatever device.
    let patient = Effort { limit: Duration::from_secs(60), ..effort() };
    let found = tune(&gpu, &patient, &[], &Faults::default(), |_| ()).unwrap();
    assert!(found.dropped.is_empty(), "{:?}", found.dropped);
    let timed: Vec<Method> = found.timings.iter().map(|timing| timing.method).collect();
    println!("{} timings in {:?}", timed.len(), found.took);
    assert!(!timed.is_empty(), "nothing was timed");
    for timing in &found.timings {
        assert!(timing.seconds > 0.0 && timing.seconds.is_finite(), "{timing:?}");
        let chosen = found.choices.method(timing.geometry);
        assert!(timed.contains(&chosen), "{chosen} was not timed");
    }
}

#[test]
fn a_wrong_method_is_dropped_and_the_run_goes_on_without_it() {
    let Some(_) = gpu("tune") else { return };
    let wrong = Method::Winograd(Block::LARGE);
    let gpu = faulty(Faults::wrong(&wrong.to_string()));
    let folder = tempfile::tempdir().unwrap();
    let (found, source) = settle(&gpu, folder.path(), Some(&effort()), false).unwrap().unwrap();
    assert_eq!(source, Source::Now);
    let [dropped] = &found.dropped[..] else { panic!("{:?}", found.dropped) };
    assert!(dropped.method == wrong && dropped.why.contains("gradient differs"), "{dropped:?}");
    assert!(gpu.choices().rules.iter().all(|rule| rule.method != wrong), "{:?}", gpu.choices());
    assert!(found.timings.iter().all(|timing| timing.method != wrong));
    finishes(&gpu);
}

#[test]
fn a_method_that_loses_the_device_is_dropped_and_the_device_opened_again() {
    let Some(_) = gpu("tune") else { return };
    // The plain case's submissions, then the first method's.
    let counted = faulty(Faults::default());
    let mut first = None;
    let faults = counted.faults();
    tune(&counted, &Effort { sizes: Vec::new(), ..effort() }, &[], &Faults::default(), |_| {
        first.get_or_insert(faults.submissions());
    })
    .unwrap();
    let gpu = faulty(Faults::lose_at(&[first.unwrap() + 2]));
    let found = tuned(&gpu, &Faults::default());
    let [dropped] = &found.dropped[..] else { panic!("{:?}", found.dropped) };
    assert!(dropped.method == methods()[0] && dropped.why.contains("device lost"), "{dropped:?}");
    gpu.choose(found.choices);
    finishes(&gpu);
}

/// Also one that was right in the small, and ends the device or the process only where it is timed.
#[test]
fn a_method_that_loses_the_device_while_it_is_timed_is_dropped_too() {
    let Some(_) = gpu("tune") else { return };
    let one_size = effort();
    let run = |gpu: &Gpu, effort: &Effort| {
        let (mut told, faults) = (Vec::new(), gpu.faults());
        let found = tune(gpu, effort, &[], &Faults::default(), |method| told.push((method, faults.submissions())));
        (found.unwrap(), told)
    };
    let checked = run(&faulty(Faults::default()), &Effort { sizes: Vec::new(), ..one_size.clone() }).1.len();
    let (_, told) = run(&faulty(Faults::default()), &one_size);
    // Everything is told twice: that it begins, and that it has ended.
    assert!(told.len() > checked && told.iter().step_by(2).all(|(method, _)| method.is_some()));
    assert!(told.iter().skip(1).step_by(2).all(|(method, _)| method.is_none()));
    let (method, before) = told[checked + 2];
    let (found, _) = run(&faulty(Faults::lose_at(&[before + 2])), &one_size);
    let [dropped] = &found.dropped[..] else { panic!("{:?}", found.dropped) };
    assert!(Some(dropped.method) == method && dropped.why.contains("device lost"), "{dropped:?}");
    assert!(found.timings.iter().all(|timing| Some(timing.method) != method));
    assert!(found.choices.rules.iter().all(|rule| Some(rule.method) != method));
}

#[test]
fn another_process_at_the_same_adapter_is_not_waited_for_for_ever() {
    let Some(_) = gpu("tune") else { return };
    let gpu = faulty(Faults::default());
    let folder = tempfile::tempdir().unwrap();
    let short = Effort { sizes: Vec::new(), limit: Duration::ZERO };
    settle(&gpu, folder.path(), Some(&short), false).unwrap();
    let [file] = &files(folder.path(), "lock")[..] else { panic!("one file") };
    let other = std::fs::File::options().append(true).open(file).unwrap();
    other.lock().unwrap();
    let kept = settle(&gpu, folder.path(), Some(&short), false).unwrap().unwrap();
    assert_eq!(kept.1, Source::Kept, "what is there can be read meanwhile");
    assert_eq!(settle(&gpu, folder.path(), Some(&short), true).unwrap(), None, "but not found anew");
}

#[test]
fn what_was_found_is_kept_until_the_file_is_damaged() {
    let Some(_) = gpu("tune") else { return };
    let gpu = faulty(Faults::default());
    let folder = tempfile::tempdir().unwrap();
    let short = Effort { sizes: vec![32], limit: Duration::from_millis(300) };
    assert_eq!(settle(&gpu, folder.path(), None, false).unwrap(), None, "nothing is there, and nothing was asked for");
    let (found, source) = settle(&gpu, folder.path(), Some(&short), false).unwrap().unwrap();
    assert_eq!((source, files(folder.path(), "trying").len()), (Source::Now, 0));
    let (kept, source) = settle(&gpu, folder.path(), Some(&short), false).unwrap().unwrap();
    assert_eq!((&kept.choices, &kept.timings, source), (&found.choices, &found.timings, Source::Kept));
    assert_eq!(gpu.choices(), found.choices);
    let (_, source) = settle(&gpu, folder.path(), Some(&short), true).unwrap().unwrap();
    assert_eq!(source, Source::Now, "again, as asked");
    let [file] = &files(folder.path(), "json")[..] else { panic!("one file") };
    std::fs::write(file, "{").unwrap();
    assert_eq!(settle(&gpu, folder.path(), Some(&short), false).unwrap().unwrap().1, Source::Now);
    assert_eq!(settle(&gpu, folder.path(), Some(&short), false).unwrap().unwrap().1, Source::Kept);
}

#[test]
fn a_method_that_ended_the_process_twice_is_not_tried_again() {
    let Some(_) = gpu("tune") else { return };
    let gpu = faulty(Faults::default());
    let folder = tempfile::tempdir().unwrap();
    let short = Effort { sizes: Vec::new(), limit: Duration::ZERO };
    settle(&gpu, folder.path(), Some(&short), false).unwrap();
    let [file] = &files(folder.path(), "json")[..] else { panic!("one file") };
    let suspect = Method::Winograd(Block::TALL);
    for (strikes, gone) in [(1, false), (2, true)] {
        // What a process that was ended has left.
        std::fs::write(file.with_extension("trying"), format!("{strikes} {suspect}\n")).unwrap();
        let (found, _) = settle(&gpu, folder.path(), Some(&short), true).unwrap().unwrap();
        assert_eq!(found.dropped.iter().any(|dropped| dropped.method == suspect), gone, "{strikes}");
        assert!(!gone || found.choices.rules.iter().all(|rule| rule.method != suspect));
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_none() {
    let Some(_) = gpu("tune") else { return };
    let gpu = faulty(Faults::default());
    let file = tempfile::NamedTempFile::new().unwrap();
    let (found, source) = settle(&gpu, &file.path().join("kernels"), Some(&effort()), false).unwrap().unwrap();
    // What is timed anew in every run would not be the same in every run.
    assert_eq!((source, found.timings.len()), (Source::Unkept, 0));
}

/// The CPU engine has the twins of the matrix units.
#[test]
fn matrix_units_are_checked_too_and_taken_for_halves_whatever_is_fastest_for_singles() {
    const UNITS: Method = Method::Cooperative(Matrices { edge: 16, subgroup: 32 });
    #[derive(Debug)]
    struct Units;
    impl Backend for Units {
        fn engine(&self) -> Result<Box<dyn Engine>> {
            Cpu.engine()
        }
        fn choices(&self) -> Choices {
            Choices { rules: vec![Rule::always(UNITS)] }
        }
    }
    let mut tried = Vec::new();
    let found = tune(&Units, &effort(), &[], &Faults::default(), |method| tried.push(method)).unwrap();
    assert!(tried.contains(&Some(UNITS)) && found.dropped.is_empty(), "{tried:?} {:?}", found.dropped);
    let at = Geometry { pass: Pass::Forward, reads: 64, writes: 64, positions: 32 * 32 };
    assert!(found.timings.iter().any(|timing| timing.geometry == at));
    assert_eq!(found.choices.method_of_halves(at), UNITS);
    assert_ne!(found.choices.method(at), UNITS);
    for (suspects, faults) in [(&[UNITS][..], Faults::default()), (&[], Faults::wrong(&UNITS.to_string()))] {
        let found = tune(&Units, &effort(), suspects, &faults, |_| ()).unwrap();
        assert_eq!(found.dropped.iter().map(|dropped| dropped.method).collect::<Vec<_>>(), [UNITS]);
        assert!(found.choices.rules.iter().all(|rule| rule.method != UNITS), "{:?}", found.choices);
    }
}

#[test]
fn the_cpu_engine_has_one_way_and_its_own() {
    assert_eq!(Cpu.choices().digest(), "plain");
}
