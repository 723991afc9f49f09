//! Which device a run takes, the sentence that says why, and the kernels that suit it.

use std::path::PathBuf;

use impasto::cpu::FaultyCpu;
use impasto::error::{Error, Result};
use impasto::gpu::{AdapterReport, Gpu, GpuChoice, GpuOptions, adapters, preferred};
use impasto::recording::{Backend, Choices, Faults};
use impasto::tune::{Effort, Source, settle};
use impasto::weights::store::Store;

use super::{note, one_line};

/// What runs a job.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pick {
    Cpu,
    Gpu(GpuChoice),
}

/// Whether kernels are chosen by what was measured on the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tuning {
    /// By what is supposed of it.
    Not,
    /// If it was measured before.
    Kept,
    /// It is measured, if it was not before.
    Now { quiet: bool },
}

/// Set, it is as `--no-tune`.
const NO_TUNE: &str = "IMPASTO_NO_TUNE";

/// Opens what `--device` asks for. The second part says why it is this one. `faults` are for tests.
pub(crate) fn open(wish: &str, faults: Faults, tuning: Tuning) -> Result<(Box<dyn Backend>, String)> {
    // The CPU engine needs no driver looked for.
    let adapters = if wish == "cpu" { Vec::new() } else { adapters() };
    let (pick, why) = pick(wish, &adapters);
    let backend: Box<dyn Backend> = match pick {
        Pick::Cpu => Box::new(FaultyCpu(faults)),
        Pick::Gpu(choice) => {
            let gpu = Gpu::new(&GpuOptions { choice, faults, ..GpuOptions::default() })?;
            if tuning != Tuning::Not && !std::env::var(NO_TUNE).is_ok_and(|value| !["", "0"].contains(&&*value)) {
                tune(&gpu, tuning);
            }
            Box::new(gpu)
        }
    };
    Ok((backend, why))
}

/// Opens the GPU that `--device` asks for, if it is one.
pub(crate) fn open_gpu(wish: &str) -> Result<Gpu> {
    match pick(wish, &adapters()).0 {
        Pick::Cpu => Err(Error::NoDevice {
            what: "the CPU engine has nothing to choose from".into(),
            hint: "give --device gpu, a name, or an index from `impasto devices`".into(),
        }),
        Pick::Gpu(choice) => Gpu::new(&GpuOptions { choice, ..GpuOptions::default() }),
    }
}

/// The folder where choices are kept.
pub(crate) fn kernels_folder() -> Result<PathBuf> {
    Ok(Store::user()?.folder().join("kernels"))
}

/// Takes the choices that were found on this adapter before, or finds them now, which is done once. A software renderer
/// is only tuned when asked to.
fn tune(gpu: &Gpu, tuning: Tuning) {
    let Ok(folder) = kernels_folder() else { return };
    let effort = Some(Effort::unasked()).filter(|_| tuning != Tuning::Kept && !gpu.is_software());
    let quiet = tuning == Tuning::Now { quiet: true };
    let (tuned, source) = match settle(gpu, &folder, effort.as_ref(), false) {
        Ok(Some(found)) => found,
        Ok(None) => {
            if effort.is_some() && !quiet {
                note!(
                    "note: another process is choosing kernels for this adapter; this run takes those supposed of it"
                );
            }
            return;
        }
        Err(error) => {
            // The job itself says better what is wrong with the device, if it is.
            gpu.choose(Choices::default());
            let error = one_line(&error.to_string());
            return note!("note: the plain kernels are used: those of this adapter cannot be compared: {error}");
        }
    };
    if source == Source::Kept || quiet {
        return;
    }
    if source == Source::Unkept {
        note!("note: this choice of kernels cannot be kept: {} cannot be written to", folder.display());
    } else {
        let (count, seconds) = (tuned.timings.len(), tuned.took.as_secs_f64());
        note!(
            "kernels: {count} timings on this adapter in {seconds:.1} s, for this run and later ones (`impasto tune`)"
        );
    }
    for dropped in &tuned.dropped {
        note!("note: `{}` is not used on this adapter: {}", dropped.method, one_line(&dropped.why));
    }
}

/// A GPU that is there but does not open is an error, not a reason for a silent, slower run: `auto` does not try again.
fn pick(wish: &str, adapters: &[AdapterReport]) -> (Pick, String) {
    let kinds: Vec<&str> = adapters.iter().map(|adapter| adapter.kind).collect();
    match wish {
        "cpu" => (Pick::Cpu, "--device cpu".into()),
        "gpu" => {
            let taken = preferred(&kinds, &GpuChoice::Any).map(|at| kinds[at]);
            let why = match taken {
                Some("software") => "--device gpu, and a software renderer is all there is; --device cpu is faster",
                _ => "--device gpu",
            };
            (Pick::Gpu(GpuChoice::Any), why.into())
        }
        "auto" => match preferred(&kinds, &GpuChoice::Hardware) {
            Some(at) => (Pick::Gpu(GpuChoice::Hardware), format!("auto: the first {} GPU", kinds[at])),
            None => {
                let rest = match preferred(&kinds, &GpuChoice::Any) {
                    None => "no GPU found".into(),
                    Some(at) if kinds[at] == "software" => {
                        format!("no GPU found; {} is slower, --device gpu takes it", adapters[at].name)
                    }
                    Some(at) => {
                        format!("no discrete or integrated GPU found; --device gpu takes {}", adapters[at].name)
                    }
                };
                (Pick::Cpu, format!("auto: {rest}"))
            }
        },
        name => {
            let choice = name.parse().map_or_else(|_| GpuChoice::Name(name.into()), GpuChoice::Index);
            (Pick::Gpu(choice), format!("--device {name}"))
        }
    }
}

/// Gives the CPU engine this many threads. Must come before anything has used them.
pub(crate) fn set_threads(threads: Option<u16>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global().map_err(|error| Error::Config {
        option: "threads",
        what: format!("{threads}: {error}"),
        hint: "give fewer, or leave it out".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: &'static str) -> AdapterReport {
        AdapterReport {
            name: name.into(),
            backend: "vulkan".into(),
            kind,
            driver: String::new(),
            max_binding: 0,
            max_buffer: 0,
            workgroup_memory: 0,
            features: Vec::new(),
            cooperative_matrices: Vec::new(),
        }
    }

    #[test]
    fn every_choice_says_why() {
        let llvmpipe = || adapter("llvmpipe", "software");
        let venus = || adapter("venus", "virtual");
        let laptop = || vec![llvmpipe(), adapter("iris", "integrated"), adapter("arc", "discrete")];
        let gpu = Pick::Gpu;
        for (wish, adapters, expected, why) in [
            ("auto", laptop(), gpu(GpuChoice::Hardware), "auto: the first discrete GPU"),
            ("auto", laptop()[..2].to_vec(), gpu(GpuChoice::Hardware), "auto: the first integrated GPU"),
            ("auto", vec![llvmpipe()], Pick::Cpu, "auto: no GPU found; llvmpipe is slower, --device gpu takes it"),
            (
                "auto",
                vec![llvmpipe(), venus()],
                Pick::Cpu,
                "auto: no discrete or integrated GPU found; --device gpu takes venus",
            ),
            ("auto", vec![], Pick::Cpu, "auto: no GPU found"),
            ("cpu", laptop(), Pick::Cpu, "--device cpu"),
            ("gpu", laptop(), gpu(GpuChoice::Any), "--device gpu"),
            (
                "gpu",
                vec![llvmpipe()],
                gpu(GpuChoice::Any),
                "--device gpu, and a software renderer is all there is; --device cpu is faster",
            ),
            ("iris", laptop(), gpu(GpuChoice::Name("iris".into())), "--device iris"),
            ("1", laptop(), gpu(GpuChoice::Index(1)), "--device 1"),
        ] {
            assert_eq!(pick(wish, &adapters), (expected, why.to_string()), "{wish} of {adapters:?}");
        }
    }
}
