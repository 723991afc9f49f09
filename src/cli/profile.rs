//! `impasto profile`: where an iteration's time goes, launch by launch.

use std::path::{Path, PathBuf};

use clap::Args;
use impasto::error::{Error, Result};
use impasto::net::check::checked;
use impasto::net::maps::Precision;
use impasto::picture::{Picture, write_file};
use impasto::profile::{
    KERNELS, Load, Profile, Roofs, Shape, Total, alone, measure, measure_variants, roofs, variants,
};
use impasto::recording::{Backend, Faults};
use impasto::transfer::Config;
use impasto::transfer::presets::DEFAULT;
use impasto::weights::builtin::builtin;

use super::args::Options;
use super::demo::{LAKE, NIGHT};
use super::files::Claims;
use super::{Outcome, device, note, one_line, out, styles};

/// Enough for a median that a busy moment does not move.
const REPEAT: u32 = 10;

#[derive(Args, Debug)]
pub(crate) struct ProfileArguments {
    /// Picture to paint; the bundled one if not given. Only its size matters
    content: Option<PathBuf>,
    /// Picture whose style is taken, or a folder of them; the bundled one if not given
    #[arg(long, short)]
    style: Vec<PathBuf>,
    /// Repetitions that medians are taken of
    #[arg(long, default_value_t = REPEAT, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// Write the profile as JSON, for --compare
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one iteration as a trace for Perfetto or chrome://tracing
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Compare two profiles written with --json instead of measuring
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    compare: Vec<PathBuf>,
    /// One kernel by itself, at --shape, in every way there is to run it
    #[arg(long, value_name = "NAME", requires = "shape")]
    kernel: Option<String>,
    /// Shape for --kernel: HxWxC or HxWxCIxCO, e.g. 56x56x256x256
    #[arg(long, requires = "kernel")]
    shape: Option<Shape>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// Runs `impasto profile`.
pub(crate) fn run(arguments: &ProfileArguments) -> Result<Outcome> {
    if let [a, b] = &arguments.compare[..] {
        return compare(&read(a)?, &read(b)?);
    }
    let options = &arguments.options;
    // Before the device is kept busy.
    let pictures = arguments.content.iter().chain(&arguments.style).map(PathBuf::as_path);
    let mut claims = Claims::new(pictures.chain(options.input_files()));
    for path in [&arguments.json, &arguments.trace].into_iter().flatten() {
        claims.file(path, options.overwrite)?;
    }
    device::set_threads(options.threads)?;
    if let Some(kernel) = arguments.kernel.as_deref().filter(|kernel| !KERNELS.contains(kernel)) {
        alone(kernel, Shape { height: 1, width: 1, inputs: 4, outputs: 4 })?;
    }
    let plan = |backend: &dyn Backend, config: &Config| -> Result<_> {
        let picture = |path: Option<&PathBuf>, bundled: &[u8], name: &str| match path {
            Some(path) => Ok(options.pictures.read(path, options.quiet)?.picture),
            None => Picture::decode_bytes(bundled, Path::new(name)),
        };
        let content = picture(arguments.content.as_ref(), LAKE, "bundled lake.png")?;
        let styles = match arguments.style.is_empty() {
            true => vec![picture(None, NIGHT, "bundled night.png")?],
            false => styles::read(&arguments.style, options)?,
        };
        let masks = options.styles.masks(&options.pictures, options.quiet)?;
        let inputs = masks.inputs(&content, &styles);
        // The time does not depend on the numbers in the filters.
        let weights = builtin(config.depth());
        let plans = inputs.plan_on(backend, &weights, config)?;
        // The largest scale takes nearly all the time of a run.
        plans
            .into_iter()
            .last()
            .ok_or_else(|| Error::Kernel { kernel: "profile".into(), what: "nothing to run".into() })
    };
    let config = options.configure((options.preset(DEFAULT)?.config)())?;
    let (backend, why) = device::open(&options.device, Faults::default(), options.tuning())?;
    if !options.quiet {
        note!("device: {} ({})", backend.engine()?.describe(), one_line(&why));
    }
    let roofs = roofs(backend.as_ref())?;
    let (profile, title) = match (&arguments.kernel, arguments.shape) {
        (Some(kernel), Some(shape)) => {
            // Matrix units that give something else would only look fast.
            let (choices, _) = checked(backend.as_ref(), backend.choices(), Precision::F16);
            let all = variants(kernel, shape, choices.matrices())?;
            let Shape { height, width, inputs, outputs } = shape;
            let title = format!("{kernel} at {height}x{width}x{inputs}x{outputs}");
            let (profile, failed) = measure_variants(backend.as_ref(), kernel, &all, arguments.repeat, roofs)?;
            for (name, error) in failed {
                note!("note: {name} fails: {}", one_line(&error.to_string()));
            }
            (profile, title)
        }
        _ => {
            let plan = plan(backend.as_ref(), &config)?;
            let tiles = if plan.tiles > 1 { format!(", {} tiles", plan.tiles) } else { String::new() };
            let title = format!("one iteration at {}x{}{tiles}", plan.scale.width, plan.scale.height);
            let load = Load { buffers: &plan.buffers, recording: &plan.step };
            (measure(backend.as_ref(), load, arguments.repeat, roofs)?, title)
        }
    };
    print(&profile, &title, arguments.repeat, arguments.kernel.is_none());
    for (path, value) in [(&arguments.json, profile.to_json()), (&arguments.trace, profile.to_trace())] {
        if let Some(path) = path {
            write_file(path, format!("{value:#}\n").as_bytes(), options.overwrite)?;
            note!("wrote {}", path.display());
        }
    }
    Ok(Outcome::Done)
}

fn read(path: &Path) -> Result<Profile> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::Config {
        option: "compare",
        what: format!("{}: {error}", path.display()),
        hint: "give two files that `impasto profile --json FILE` has written".into(),
    })?;
    Profile::from_json(&text, path)
}

fn print(profile: &Profile, title: &str, repeat: u32, whole: bool) {
    let Roofs { flops, bytes } = profile.roofs;
    out!("{title}; medians of {repeat}; clock: {}", profile.clock_name());
    out!("roofs: {:.1} GFLOP/s multiply-add, {:.1} GB/s copy", flops * 1e-9, bytes * 1e-9);
    out!(
        "{:22} {:22} {:>18} {:>10} {:>10} {:>9} {:>8} {:>6}",
        "kernel",
        "label",
        "grid",
        "ms",
        "fastest",
        "GFLOP/s",
        "GB/s",
        "roof"
    );
    for row in &profile.rows {
        let [x, y, z] = row.grid;
        out!(
            "{:22} {:22} {:>18} {:>10.4} {:>10.4} {:>9.1} {:>8.1} {:>5.0}%",
            row.kernel,
            row.label,
            if x == 0 { String::new() } else { format!("{x}x{y}x{z}") },
            row.median * 1e3,
            row.fastest * 1e3,
            row.flops_rate() * 1e-9,
            row.bytes_rate() * 1e-9,
            100.0 * row.share(&profile.roofs)
        );
    }
    if whole {
        totals("by kernel", &profile.by_kernel(), profile.seconds());
        totals("by label", &profile.by_label(), profile.seconds());
    }
    if profile.device.starts_with("CPU engine") {
        // Winograd's convolutions do with fewer.
        out!("operations are those of a direct convolution: rates may exceed the roof");
    } else if !whole && profile.rows.len() > 1 {
        out!("operations are those of {title}, whatever a variant does with: rates may exceed the roof");
    }
    if !whole {
        return;
    }
    let (sum, whole) = (profile.seconds() * 1e3, profile.whole * 1e3);
    out!("rows {sum:.3} ms, the whole on the host's clock {whole:.3} ms: {:.1} %", 100.0 * profile.explained());
}

fn totals(title: &str, totals: &[Total], all: f64) {
    out!("{title}:");
    for Total { name, launches, seconds, flops } in totals {
        let share = 100.0 * seconds / all.max(f64::MIN_POSITIVE);
        let rate = if *seconds > 0.0 { *flops as f64 / seconds * 1e-9 } else { 0.0 };
        out!("  {name:24} {launches:>5} x {:>11.4} ms {share:>5.1} % {rate:>9.1} GFLOP/s", seconds * 1e3);
    }
}

/// Rows of two profiles side by side: the n-th of a kernel at a label with the n-th.
fn compare(a: &Profile, b: &Profile) -> Result<Outcome> {
    out!("A: {} ({})\nB: {} ({})", a.device, a.clock_name(), b.device, b.clock_name());
    out!("{:22} {:22} {:>10} {:>10} {:>7}", "kernel", "label", "A ms", "B ms", "B/A");
    let line = |name: &str, label: &str, a: Option<f64>, b: Option<f64>| {
        let ms = |seconds: Option<f64>| seconds.map_or("-".into(), |seconds| format!("{:.4}", seconds * 1e3));
        let ratio = match (a, b) {
            (Some(a), Some(b)) if a > 0.0 => format!("{:.3}", b / a),
            _ => "-".into(),
        };
        out!("{name:22} {label:22} {:>10} {:>10} {ratio:>7}", ms(a), ms(b));
    };
    let mut rest: Vec<_> = b.rows.iter().collect();
    for row in &a.rows {
        let at = rest.iter().position(|other| (&other.kernel, &other.label) == (&row.kernel, &row.label));
        let other = at.map(|at| rest.remove(at).median);
        line(&row.kernel, &row.label, Some(row.median), other);
    }
    for row in rest {
        line(&row.kernel, &row.label, None, Some(row.median));
    }
    line("rows", "", Some(a.seconds()), Some(b.seconds()));
    line("whole", "", Some(a.whole), Some(b.whole));
    Ok(Outcome::Done)
}
