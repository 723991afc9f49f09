//! `impasto tune`: checks and times the kernels on a GPU, and prints what it found.

use std::time::Duration;

use clap::Args;
use impasto::error::{Error, Result};
use impasto::recording::Pass;
use impasto::tune::{Effort, Source, Timing, Tuned, settle};

use super::{Outcome, device, one_line, out};

#[derive(Args, Debug)]
pub(crate) struct Tune {
    /// `auto` (discrete, then integrated GPU), `gpu` (any, software too), a name, or an index
    #[arg(long, default_value = "auto")]
    device: String,
    /// No timing is begun after so many seconds
    #[arg(long, default_value_t = 30.0, value_parser = parse_seconds, allow_negative_numbers = true)]
    seconds: f64,
    /// Edges of the pictures whose convolutions are timed, the most important first
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "512,224,1024",
          value_parser = clap::value_parser!(u16).range(32..=4096), allow_negative_numbers = true)]
    sizes: Vec<u16>,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds, 0 to 3600".into()),
    }
}

/// Runs `impasto tune`.
pub(crate) fn run(arguments: &Tune) -> Result<Outcome> {
    let gpu = device::open_gpu(&arguments.device)?;
    let folder = device::kernels_folder()?;
    let sizes = arguments.sizes.iter().map(|size| usize::from(*size)).collect();
    let effort = Effort { sizes, limit: Duration::from_secs_f64(arguments.seconds) };
    out!("device: {}", one_line(gpu.adapter()));
    let Some((tuned, source)) = settle(&gpu, &folder, Some(&effort), true)? else {
        return Err(Error::NoDevice {
            what: format!("another process is tuning {}", one_line(gpu.adapter())),
            hint: "run `impasto tune` again when that has ended".into(),
        });
    };
    print(&tuned);
    match source {
        Source::Unkept => out!("not kept: {} cannot be written to", folder.display()),
        Source::Kept | Source::Now => out!("kept in {}", folder.display()),
    }
    Ok(Outcome::Done)
}

fn print(tuned: &Tuned) {
    for dropped in &tuned.dropped {
        out!("not used: {}: {}", dropped.method, one_line(&dropped.why));
    }
    out!(
        "{:9} {:>5} {:>6} {:>9}  {:22} {:>10} {:>9}",
        "pass",
        "reads",
        "writes",
        "positions",
        "method",
        "ms",
        "GFLOP/s"
    );
    let mut seen = Vec::new();
    for Timing { geometry: at, .. } in &tuned.timings {
        if seen.contains(at) {
            continue;
        }
        seen.push(*at);
        let mut here: Vec<&Timing> = tuned.timings.iter().filter(|timing| timing.geometry == *at).collect();
        here.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let chosen = tuned.choices.method(*at);
        for timing in here {
            // Of a direct convolution, whatever the method does with.
            let operations = 18.0 * (at.reads * at.writes * at.positions) as f64;
            out!(
                "{:9} {:>5} {:>6} {:>9}  {:22} {:>10.4} {:>9.1}{}",
                if at.pass == Pass::Forward { "forward" } else { "backward" },
                at.reads,
                at.writes,
                at.positions,
                timing.method.to_string(),
                timing.seconds * 1e3,
                operations / timing.seconds * 1e-9,
                if timing.method == chosen { "  <- chosen" } else { "" }
            );
        }
    }
    out!("{} timings in {:.1} s; choices {}", tuned.timings.len(), tuned.took.as_secs_f64(), tuned.choices.digest());
}
