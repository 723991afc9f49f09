//! `impasto stylize`: from files to a file.

use std::path::{Path, PathBuf};

use impasto::cpu::Cpu;
use impasto::error::Result;
use impasto::gpu::{Gpu, GpuChoice, GpuOptions, HARDWARE, adapters};
use impasto::picture::{Picture, Rounding, numbered};
use impasto::recording::Backend;
use impasto::transfer::presets::Preset;
use impasto::transfer::{Config, StyleTransfer};

use super::args::{Options, Stylize};
use super::files::{Log, Outputs};
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::weights::{Wish, resolve};
use super::{Outcome, note, one_line, out};

/// Everything that a run needs, checked before anything is computed.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) options: &'a Options,
    pub(crate) preset: &'static Preset,
    pub(crate) config: Config,
    pub(crate) output: PathBuf,
    pub(crate) content: Picture,
    pub(crate) styles: Vec<Picture>,
    /// Whether VGG-19 may be downloaded for it.
    pub(crate) may_fetch: bool,
}

/// Runs `impasto stylize`.
pub(crate) fn run(arguments: &Stylize) -> Result<Outcome> {
    let options = &arguments.options;
    let preset = options.preset()?;
    let config = options.configure((preset.config)())?;
    let inputs = arguments.style.iter().chain([&arguments.content]).map(PathBuf::as_path);
    check_outputs(options, preset, &config, &arguments.output, inputs)?;
    let content = Picture::decode(&arguments.content)?;
    let styles = arguments.style.iter().map(|path| Picture::decode(path)).collect::<Result<_>>()?;
    Job { options, preset, config, output: arguments.output.clone(), content, styles, may_fetch: true }.run()
}

/// Iterations between saved pictures, 0 for none.
fn save_every(options: &Options, preset: &Preset) -> u32 {
    options.save_every.unwrap_or(if preset.article_output { 100 } else { 0 })
}

/// Every file that the run writes must be writable before the first second is spent. `inputs` come on top of the files
/// that the options name.
pub(crate) fn check_outputs<'a>(
    options: &'a Options,
    preset: &Preset,
    config: &Config,
    output: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    if options.dump_plan {
        return Ok(());
    }
    let outputs = Outputs {
        picture: output,
        save_every: save_every(options, preset),
        iterations: config.iterations,
        log: options.log.as_deref(),
        overwrite: options.overwrite,
    };
    outputs.check(inputs.into_iter().chain(options.input_files()))
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
        let Some(weights) = resolve(&Wish {
            text: &options.weights,
            depth: self.config.depth(),
            may_fetch: self.may_fetch && !options.dump_plan,
            offline: options.offline,
            quiet: options.quiet,
        })?
        else {
            return Ok(Outcome::Interrupted);
        };
        say(&format!("weights: {}", one_line(&weights.source)));
        if options.dump_plan {
            out!("{}", StyleTransfer::plan(&weights, &self.content, &self.styles, &self.config)?.0);
            return Ok(Outcome::Done);
        }
        let (backend, why) = device(&options.device)?;
        let mut transfer =
            StyleTransfer::new(backend.as_ref(), &weights, &self.content, &self.styles, self.config.clone())?;
        drop(weights);
        let (width, height) = transfer.size();
        say(&format!("device: {}{why}", transfer.device()));
        say(&format!("size: {width}x{height}, {iterations} iterations"));
        let mut log = options.log.as_deref().map(|path| Log::create(path, options.overwrite)).transpose()?;
        let progress = Progress::new(options.quiet, self.preset.article_output, iterations, options.print_every);
        let interrupt = Interrupt::listen(&progress);
        let every = save_every(options, self.preset);
        while transfer.iteration() < iterations && !interrupt.requested() {
            let done = transfer.iteration();
            let next_save = done.checked_div(every).map_or(iterations, |saved| (saved + 1).saturating_mul(every));
            let stop = next_save.min(iterations);
            let reports = transfer.advance(stop - done)?;
            for report in &reports {
                progress.report(report);
            }
            if let Some(log) = &mut log {
                log.write(&reports);
            }
            if every > 0 && transfer.iteration() % every == 0 {
                let path = numbered(&self.output, transfer.iteration());
                self.save(&mut transfer, &path)?;
            }
        }
        progress.finish();
        self.save(&mut transfer, &self.output)?;
        log.map_or(Ok(()), Log::finish)?;
        let (done, path) = (transfer.iteration(), self.output.display());
        if done < iterations {
            note!("interrupted after {done} of {iterations} iterations; the picture so far is in {path}");
            return Ok(Outcome::Interrupted);
        }
        say(&format!("wrote {path}"));
        Ok(Outcome::Done)
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
        "auto" => {
            let adapters = adapters();
            if adapters.iter().any(|adapter| HARDWARE.contains(&adapter.kind)) {
                // A GPU that is there but does not open is an error, not a reason for a silent, slower run.
                return Ok((Box::new(open(GpuChoice::Hardware)?), String::new()));
            }
            let why = adapters.first().map_or(" (no GPU found)".into(), |adapter| {
                format!(" (no GPU found; {} is slower, --device gpu takes it)", adapter.name)
            });
            (Box::new(Cpu), why)
        }
        name => {
            let choice = name.parse().map_or_else(|_| GpuChoice::Name(name.into()), GpuChoice::Index);
            (Box::new(open(choice)?), String::new())
        }
    })
}
