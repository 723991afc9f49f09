//! What a run shows while it goes on: a bar on a terminal, plain lines otherwise, the article's lines for the article.

use std::io::IsTerminal;
use std::time::Duration;

use impasto::transfer::Report;
use indicatif::{ProgressBar, ProgressStyle};

use super::{note, out};

#[derive(Clone, Debug)]
pub(crate) enum Progress {
    Silent,
    Article,
    Bar(ProgressBar),
    Lines { every: u32, iterations: u32 },
}

impl Progress {
    pub(crate) fn new(quiet: bool, article: bool, iterations: u32, every: Option<u32>) -> Progress {
        if article {
            // The lines are the preset's output, not decoration: `--quiet` leaves them.
            return Progress::Article;
        }
        if quiet {
            return Progress::Silent;
        }
        if !std::io::stderr().is_terminal() {
            let every = every.unwrap_or((iterations / 10).max(1)).max(1);
            return Progress::Lines { every, iterations };
        }
        let bar = ProgressBar::new(u64::from(iterations));
        let template = "{bar:32} {pos}/{len}  loss {msg}  {per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Progress::Bar(bar)
    }

    pub(crate) fn report(&self, report: &Report) {
        match self {
            Progress::Silent => {}
            Progress::Article => out!("iter:{},loss:{:.9}", report.iteration, report.total_loss),
            Progress::Bar(bar) => {
                bar.set_message(format!("{:.5e}", report.total_loss));
                bar.set_position(u64::from(report.iteration) + 1);
            }
            Progress::Lines { every, iterations } => {
                let done = report.iteration + 1;
                if done.is_multiple_of(*every) || done == *iterations {
                    let seconds = report.elapsed.as_secs_f64();
                    note!("{done}/{iterations}  loss {:.5e}  {seconds:.1} s", report.total_loss);
                }
            }
        }
    }

    /// Prints a line where it does not disturb the bar.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Progress::Bar(bar) => bar.suspend(|| note!("{text}")),
            Progress::Silent | Progress::Article | Progress::Lines { .. } => note!("{text}"),
        }
    }

    /// Takes the bar off the screen, so that what follows starts on a clean line.
    pub(crate) fn finish(&self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
