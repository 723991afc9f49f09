//! `impasto plan`: what a run would take, in memory and time, without running it.

use std::path::PathBuf;

use clap::Args;
use impasto::error::Result;
use impasto::profile::{Roofs, roofs};
use impasto::recording::{Faults, Purpose, Recording};
use impasto::transfer::presets::DEFAULT;
use impasto::transfer::{Plan, calibrate};

use super::args::Options;
use super::device::Tuning;
use super::weights::{Wish, resolve};
use super::{Outcome, device, note, one_line, out, styles};

/// Submissions to a GPU are made about this long, in seconds.
const SUBMISSION: f64 = 0.1;

#[derive(Args, Debug)]
pub(crate) struct PlanArguments {
    /// Picture to paint
    content: PathBuf,
    /// Picture whose style is taken, or a folder of them
    #[arg(long, short, required = true)]
    style: Vec<PathBuf>,
    /// Do not measure the device's speed, which takes about two seconds: no forecast of the time
    #[arg(long)]
    no_calibrate: bool,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// Runs `impasto plan`.
pub(crate) fn run(arguments: &PlanArguments) -> Result<Outcome> {
    let options = &arguments.options;
    let config = options.configure((options.preset(DEFAULT)?.config)())?;
    let content = options.pictures.read(&arguments.content, options.quiet)?.picture;
    let styles = styles::read(&arguments.style, options)?;
    let masks = options.styles.masks(&options.pictures, options.quiet)?;
    let inputs = masks.inputs(&content, &styles);
    device::set_threads(options.threads)?;
    let wish = Wish {
        text: &options.weights,
        depth: config.depth(),
        may_fetch: false,
        offline: options.offline,
        quiet: options.quiet,
    };
    let Some(weights) = resolve(&wish)? else { return Ok(Outcome::Interrupted) };
    // Nothing of the job is run on the device.
    let tuning = if options.no_tune { Tuning::Not } else { Tuning::Kept };
    let (backend, why) = device::open(&options.device, Faults::default(), tuning)?;
    let plans = inputs.plan_on(backend.as_ref(), &weights, &config)?;
    if !options.quiet {
        note!("weights: {}", one_line(&weights.source));
        note!("device: {} ({})", backend.engine()?.describe(), one_line(&why));
    }
    let rate = match arguments.no_calibrate {
        true => None,
        false => {
            let flops = calibrate(backend.as_ref(), &weights, &config)?;
            let vectors = plans.iter().any(|plan| !plan.rest.is_empty());
            // What is done with vectors takes as long as the memory does.
            let bytes = if vectors { roofs(backend.as_ref())?.bytes } else { f64::INFINITY };
            Some(Roofs { flops, bytes })
        }
    };
    let mut whole = 0.0;
    for plan in &plans {
        print(plan, rate);
        whole += rate.map_or(0.0, |rate| f64::from(plan.scale.iterations) * seconds(plan, rate));
    }
    let most = plans.iter().map(Plan::bytes).max().unwrap_or(0);
    out!(
        "whole run: {} of memory at most{}",
        size(most),
        match rate {
            Some(_) => format!(", about {}", duration(whole)),
            None => String::new(),
        }
    );
    Ok(Outcome::Done)
}

fn seconds(plan: &Plan, rate: Roofs) -> f64 {
    let moved: u64 = plan.rest.iter().map(Recording::bytes).sum();
    plan.step.flops() as f64 / rate.flops + moved as f64 / rate.bytes
}

fn print(plan: &Plan, rate: Option<Roofs>) {
    let scale = &plan.scale;
    let styles: Vec<String> = plan.styles.iter().map(|(width, height)| format!("{width}x{height}")).collect();
    out!("{}x{} (style {}), {} iterations", scale.width, scale.height, styles.join(", "), scale.iterations);
    let tiles = match plan.tile {
        Some(edge) if plan.tiles > 1 => format!("{} of {edge} pixels and their halos", plan.tiles),
        _ => "one, the whole picture".into(),
    };
    out!("  tiles              {tiles}");
    let content = if plan.recomputes_content { "computed anew for every tile" } else { "kept" };
    out!("  content targets    {content}");
    for (name, purpose) in [
        ("picture, optimiser", Purpose::Image),
        ("weights", Purpose::Weights),
        ("targets", Purpose::Targets),
        ("one tile", Purpose::Tile),
        ("sums", Purpose::Reduction),
    ] {
        out!("  {name:18} {:>12}", size(plan.buffers.bytes(purpose)));
    }
    out!("  engine             {:>12}", size(plan.overhead));
    out!("  memory             {:>12}", size(plan.bytes()));
    out!("  largest buffer     {:>12}", size(plan.buffers.largest()));
    out!("  per iteration      {:.3} GFLOP, {} launches", plan.step.flops() as f64 * 1e-9, plan.step.launches());
    if let Some(rate) = rate {
        let each = seconds(plan, rate);
        let submissions = (each / SUBMISSION).ceil().max(1.0);
        let least = if plan.rest.is_empty() { "" } else { " or more" };
        out!("  time               {}{least} an iteration, at {:.1} GFLOP/s", duration(each), rate.flops * 1e-9);
        out!("  submissions        about {submissions} an iteration, on a GPU");
        out!("                     {} for this size", duration(each * f64::from(scale.iterations)));
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.0995 => format!("{:.1} ms", s * 1e3),
        s if s < 99.5 => format!("{s:.1} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// `2GiB`, `512MiB`, `1.5GB`, or bytes.
pub(crate) fn parse_memory(text: &str) -> Result<u64, String> {
    let at = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => f64::NAN,
    };
    match number.parse::<f64>().map(|number| number * factor) {
        // 2^53 bytes: beyond it a double skips numbers, and memories end.
        Ok(bytes) if (1.0..=9e15).contains(&bytes) => Ok(bytes as u64),
        _ => Err("give a size as 2GiB, 512MiB or 1.5GB".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_memory_are_read() {
        for (text, bytes) in [
            ("2GiB", 2 << 30),
            ("512MiB", 512 << 20),
            ("1.5GB", 1_500_000_000),
            ("4096", 4096),
            ("1 kb", 1000),
            ("1g", 1 << 30),
        ] {
            assert_eq!(parse_memory(text), Ok(bytes), "{text}");
        }
        for bad in ["", "GiB", "-1GiB", "0", "1.2.3MiB", "1TiBs", "1e3", "99999999GiB"] {
            assert!(parse_memory(bad).is_err(), "{bad}");
        }
    }
}
