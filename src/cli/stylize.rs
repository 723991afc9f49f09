//! `impasto stylize`: from files to a file.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use impasto::cpu::Cpu;
use impasto::error::{Error, Result};
use impasto::gpu::{Gpu, GpuChoice, GpuOptions, adapters};
use impasto::picture::{Picture, Rounding, check_output, numbered};
use impasto::recording::Backend;
use impasto::transfer::presets::Preset;
use impasto::transfer::{Config, Report, StyleTransfer};
use impasto::weights::builtin::builtin;
use impasto::weights::{Weights, load};

use super::args::{Options, Stylize};
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::{Outcome, note, out};

/// Kinds of adapter that `auto` takes, best first. A software renderer is not among them: the CPU engine is faster.
pub(crate) const AUTO_ORDER: [&str; 4] = ["discrete", "integrated", "virtual", "other"];

/// Everything that a run needs, checked before anything is computed.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) options: &'a Options,
    pub(crate) preset: &'static Preset,
    pub(crate) config: Config,
    pub(crate) output: PathBuf,
    pub(crate) content: Picture,
    pub(crate) styles: Vec<Picture>,
}

/// Runs `impasto stylize`.
pub(crate) fn run(arguments: &Stylize) -> Result<Outcome> {
    let options = &arguments.options;
    let preset = options.preset()?;
    let config = options.configure((preset.config)())?;
    for input in arguments.style.iter().chain([&arguments.content]) {
        refuse_same(&arguments.output, input)?;
    }
    check_outputs(options, preset, &config, &arguments.output)?;
    let content = Picture::decode(&arguments.content)?;
    let styles = arguments.style.iter().map(|path| Picture::decode(path)).collect::<Result<_>>()?;
    Job { options, preset, config, output: arguments.output.clone(), content, styles }.run()
}

/// Iterations between saved pictures, 0 for none.
fn save_every(options: &Options, preset: &Preset) -> u32 {
    options.save_every.unwrap_or(if preset.article_output { 100 } else { 0 })
}

/// Every file that the run will write must be writable before the first second is spent.
pub(crate) fn check_outputs(options: &Options, preset: &Preset, config: &Config, output: &Path) -> Result<()> {
    if options.dump_plan {
        return Ok(());
    }
    check_output(output, options.overwrite)?;
    if let every @ 1.. = save_every(options, preset) {
        for iteration in (every..=config.iterations).step_by(every as usize) {
            let path = numbered(output, iteration);
            if path.exists() || iteration == every {
                check_output(&path, options.overwrite)?;
            }
        }
    }
    Ok(())
}

fn refuse_same(output: &Path, input: &Path) -> Result<()> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    if real(output).is_some() && real(output) == real(input) {
        return Err(Error::Output {
            path: output.into(),
            what: "is one of the input pictures".into(),
            hint: "choose another name: the input is never replaced".into(),
        });
    }
    Ok(())
}

impl Job<'_> {
    /// Loads weights, opens the device, steps to the end or to Ctrl-C, saves.
    pub(crate) fn run(self) -> Result<Outcome> {
        let (options, iterations) = (self.options, self.config.iterations);
        let say = |text: &str| {
            if !options.quiet {
                note!("{text}");
            }
        };
        let weights = self.weights()?;
        say(&format!("weights: {}", weights.source));
        let (backend, why) = device(&options.device)?;
        let mut transfer =
            StyleTransfer::new(backend.as_ref(), &weights, &self.content, &self.styles, self.config.clone())?;
        drop(weights);
        let (width, height) = transfer.size();
        say(&format!("device: {}{why}", transfer.device()));
        say(&format!("size: {width}x{height}, {iterations} iterations"));
        if options.dump_plan {
            out!("{}", transfer.recording());
            return Ok(Outcome::Done);
        }

        let interrupt = Interrupt::listen();
        let mut log = options.log.as_deref().map(|path| Log::create(path, options.overwrite)).transpose()?;
        let progress = Progress::new(options.quiet, self.preset.article_output, iterations, options.print_every);
        let every = save_every(options, self.preset);
        while transfer.iteration() < iterations && !interrupt.requested() {
            let done = transfer.iteration();
            let stop = if every == 0 { iterations } else { (done / every + 1).saturating_mul(every).min(iterations) };
            for report in transfer.advance(stop - done)? {
                progress.report(&report);
                if let Some(log) = &mut log {
                    log.write(&report)?;
                }
            }
            if every > 0 && transfer.iteration() % every == 0 {
                let path = numbered(&self.output, transfer.iteration());
                self.save(&mut transfer, &path)?;
            }
        }
        progress.finish();
        if let Some(log) = &mut log {
            log.finish()?;
        }
        self.save(&mut transfer, &self.output)?;
        let (done, path) = (transfer.iteration(), self.output.display());
        if done < iterations {
            note!("interrupted after {done} of {iterations} iterations; the picture so far is in {path}");
            return Ok(Outcome::Interrupted);
        }
        say(&format!("wrote {path}"));
        Ok(Outcome::Done)
    }

    fn weights(&self) -> Result<Weights> {
        let depth = self.config.depth();
        if matches!(self.options.weights.as_str(), "builtin" | "auto") {
            let mut weights = builtin(depth);
            weights.source += "; for larger strokes and swirls give VGG-19 with --weights FILE";
            return Ok(weights);
        }
        load(Path::new(&self.options.weights), depth)
    }

    fn save(&self, transfer: &mut StyleTransfer, path: &Path) -> Result<()> {
        let rounding = if self.preset.article_output { Rounding::Truncate } else { Rounding::Nearest };
        let software = ("Software".to_string(), format!("impasto {}", env!("CARGO_PKG_VERSION")));
        transfer.image()?.encode_to(path, rounding, self.options.overwrite, &[software])
    }
}

/// Opens what `--device` asks for, and says why where the choice was ours.
fn device(wish: &str) -> Result<(Box<dyn Backend>, String)> {
    let open = |choice| Gpu::new(&GpuOptions { choice, ..GpuOptions::default() });
    Ok(match wish {
        "cpu" => (Box::new(Cpu), String::new()),
        "gpu" => (Box::new(open(GpuChoice::Any)?), String::new()),
        "auto" => match open(GpuChoice::Hardware) {
            Ok(gpu) => (Box::new(gpu), String::new()),
            Err(Error::NoDevice { .. }) => {
                let software = adapters().into_iter().find(|adapter| adapter.kind == "software");
                let why = software.map_or(" (no GPU found)".into(), |adapter| {
                    format!(" (no GPU found; {} is slower, --device gpu takes it)", adapter.name)
                });
                (Box::new(Cpu), why)
            }
            Err(error) => return Err(error),
        },
        name => {
            let choice = name.parse().map_or_else(|_| GpuChoice::Name(name.into()), GpuChoice::Index);
            (Box::new(open(choice)?), String::new())
        }
    })
}

/// The `--log` file: one JSON object per iteration.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Log {
    fn create(path: &Path, overwrite: bool) -> Result<Log> {
        let mut options = OpenOptions::new();
        options.write(true).truncate(true);
        let opened = if overwrite { options.create(true) } else { options.create_new(true) }.open(path);
        let file = opened.map_err(|error| log_error(path, &error))?;
        Ok(Log { path: path.into(), file: BufWriter::new(file) })
    }

    fn write(&mut self, report: &Report) -> Result<()> {
        let mut object = serde_json::Map::new();
        object.insert("iter".into(), report.iteration.into());
        object.insert("loss".into(), report.total_loss.into());
        for (name, value) in report.terms() {
            object.insert(name.into(), value.into());
        }
        writeln!(self.file, "{}", serde_json::Value::Object(object)).map_err(|error| log_error(&self.path, &error))
    }

    fn finish(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| log_error(&self.path, &error))
    }
}

fn log_error(path: &Path, error: &std::io::Error) -> Error {
    let (what, hint) = match error.kind() {
        std::io::ErrorKind::AlreadyExists => ("already exists".into(), "pass --overwrite to replace it"),
        _ => (format!("cannot be written: {error}"), "choose another place for --log"),
    };
    Error::Output { path: path.into(), what, hint: hint.into() }
}
