//! The command line: arguments, progress, printing. The only place that prints, and the only one where tokio lives.

mod args;
mod batch;
mod checkpoint;
mod config_file;
mod contents;
mod demo;
mod device;
mod fetch;
mod files;
mod grid;
mod idle;
mod info;
mod interrupt;
mod line;
mod names;
mod optimizer;
mod pictures;
mod plan;
mod plot;
mod preview;
mod profile;
mod progress;
mod record;
mod saver;
mod shaders;
mod styles;
mod stylize;
mod tune;
mod weights;
mod workshop;

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use impasto::error::{Error, Result};

/// Exit code when Ctrl-C ended a run; the picture so far is saved.
const INTERRUPTED: u8 = 130;

/// Prints a line to standard output; a closed pipe is not an error.
macro_rules! out {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

/// Prints a line to standard error.
macro_rules! note {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}

pub(crate) use {note, out};

/// How a command ended when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// Of several pictures some failed, which is said already.
    Failed,
    Interrupted,
}

/// Parses the arguments, runs the command, and turns its result into an exit code.
pub(crate) fn run() -> ExitCode {
    let result = config_file::arguments(std::env::args_os()).and_then(|arguments| dispatch(&arguments.command));
    let _ = std::io::stdout().flush();
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Ok(Outcome::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            note!("error: {}", one_line(&error.to_string()));
            if !error.hint().is_empty() {
                note!("hint: {}", one_line(error.hint()));
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

fn dispatch(command: &args::Command) -> Result<Outcome> {
    match command {
        args::Command::Stylize(stylize) => stylize::run(stylize),
        args::Command::Demo(demo) => demo::run(demo),
        args::Command::Rerun(rerun) => record::run(rerun),
        args::Command::Plan(plan) => plan::run(plan),
        args::Command::Profile(profile) => profile::run(profile),
        args::Command::Shaders(shaders) => shaders::run(shaders),
        args::Command::Tune(tune) => tune::run(tune),
        args::Command::Devices => {
            info::devices();
            Ok(Outcome::Done)
        }
        args::Command::Presets { show: None } => {
            info::presets();
            Ok(Outcome::Done)
        }
        args::Command::Presets { show: Some(name) } => {
            let text = config_file::show(name)?;
            out!("{}", text.trim_end());
            Ok(Outcome::Done)
        }
        args::Command::Weights(command) => weights::run(command),
        args::Command::Grid(grid) => grid::run(grid),
        args::Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut args::Arguments::command(), "impasto", &mut script);
            // A reader that has gone is no error.
            let _ = std::io::stdout().write_all(&script);
            Ok(Outcome::Done)
        }
    }
}

/// File names may hold line breaks and control characters; a message is one line.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// The documented exit codes: 1 failed, 2 usage, 3 bad input file, 4 no usable device or out of memory.
fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Config { .. } => 2,
        Error::Weights { .. } | Error::Picture { .. } | Error::Checkpoint { .. } => 3,
        Error::NoDevice { .. } | Error::OutOfMemory { .. } | Error::DeviceLost { .. } => 4,
        _ => 1,
    }
}
