//! What a run shows while it goes on: a bar on a terminal, plain lines otherwise, the article's lines for the article.

use std::io::IsTerminal;
use std::time::Duration;

use impasto::transfer::{Report, Scale};
use indicatif::{ProgressBar, ProgressStyle};

use super::{note, out};

#[derive(Clone, Debug)]
pub(crate) enum Progress {
    Silent,
    Article,
    Bar(ProgressBar, Course),
    Lines { every: u32, course: Course },
}

/// What lies ahead of a run.
#[derive(Clone, Debug)]
pub(crate) struct Course(Vec<Scale>);

impl Course {
    fn iterations(&self) -> u32 {
        self.0.iter().map(|scale| scale.iterations).sum()
    }

    /// Work of the first `done` iterations, in pixels: those of a large scale take longer.
    fn work(&self, mut done: u32) -> u64 {
        let mut work = 0;
        for scale in &self.0 {
            let here = done.min(scale.iterations);
            work += u64::from(here) * pixels(scale);
            done -= here;
        }
        work
    }

    /// `12/230`, with the size where it changes.
    fn place(&self, report: &Report) -> String {
        let place = format!("{}/{}", report.iteration + 1, self.iterations());
        let Scale { width, height, .. } = report.scale;
        if self.0.len() > 1 { format!("{place}  {width}x{height}") } else { place }
    }
}

fn pixels(scale: &Scale) -> u64 {
    (scale.width * scale.height) as u64
}

impl Progress {
    pub(crate) fn new(quiet: bool, article: bool, scales: &[Scale], every: Option<u32>) -> Progress {
        let course = Course(scales.to_vec());
        if article {
            // The lines are the preset's output, not decoration: `--quiet` leaves them.
            return Progress::Article;
        }
        if quiet {
            return Progress::Silent;
        }
        if !std::io::stderr().is_terminal() {
            let every = every.unwrap_or((course.iterations() / 10).max(1)).max(1);
            return Progress::Lines { every, course };
        }
        let bar = ProgressBar::new(course.work(u32::MAX));
        if let Ok(style) = ProgressStyle::with_template("{prefix}{bar:32} {msg}  {eta} left") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Progress::Bar(bar, course)
    }

    pub(crate) fn report(&self, report: &Report) {
        match self {
            Progress::Silent => {}
            Progress::Article => out!("iter:{},loss:{:.9}", report.iteration, report.total_loss),
            Progress::Bar(bar, course) => {
                let rate = bar.per_sec() / pixels(&report.scale) as f64;
                let place = course.place(report);
                bar.set_message(format!("{place}  loss {:.5e}  {rate:.1}/s", report.total_loss));
                bar.set_position(course.work(report.iteration + 1));
            }
            Progress::Lines { every, course } => {
                let done = report.iteration + 1;
                if done.is_multiple_of(*every) || done == course.iterations() {
                    let seconds = report.elapsed.as_secs_f64();
                    note!("{}  loss {:.5e}  {seconds:.1} s", course.place(report), report.total_loss);
                }
            }
        }
    }

    /// Whether there is a bar.
    pub(crate) fn is_a_bar(&self) -> bool {
        matches!(self, Progress::Bar(..))
    }

    /// Puts lines above the bar, in place of those that stood there. Each ends in a line break.
    pub(crate) fn show_above(&self, lines: String) {
        if let Progress::Bar(bar, _) = self {
            bar.set_prefix(lines);
        }
    }

    /// Prints a line where it does not disturb the bar.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Progress::Bar(bar, _) => bar.suspend(|| note!("{text}")),
            Progress::Silent | Progress::Article | Progress::Lines { .. } => note!("{text}"),
        }
    }

    /// Takes the bar off the screen, so that what follows starts on a clean line.
    pub(crate) fn finish(&self) {
        if let Progress::Bar(bar, _) = self {
            bar.finish_and_clear();
        }
    }
}
