//! Options about a run's files, which have no effect where nothing is run: `plan` and `profile` take the other options of
//! `stylize`, refuse these, and leave them out of their help.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use impasto::error::{Error, Result};

/// What is idle in both.
const IDLE: [&str; 11] = [
    "save-every",
    "print-every",
    "log",
    "plot",
    "resume",
    "checkpoint-every",
    "no-checkpoint",
    "dump-plan",
    "preview",
    "quality",
    "bit-depth",
];

fn idle(command: &str) -> impl Iterator<Item = &'static str> {
    let (both, own): (&[&str], &[&str]) = match command {
        // A profile writes files.
        "plan" => (&IDLE, &["overwrite"]),
        "profile" => (&IDLE, &[]),
        _ => (&[], &[]),
    };
    both.iter().chain(own).copied()
}

/// The argument as the command's help has it.
pub(super) fn hidden(command: &str, argument: Arg) -> Arg {
    let hide = argument.get_long().is_some_and(|name| idle(command).any(|idle| idle == name));
    if hide { argument.hide(true) } else { argument }
}

/// Refuses idle options that were typed. A configuration file may hold them: it is for runs as well.
pub(super) fn refuse(command: &str, matches: &ArgMatches) -> Result<()> {
    let typed = |option: &&str| {
        let id = option.replace('-', "_");
        matches.ids().any(|known| known.as_str() == id) && matches.value_source(&id) == Some(ValueSource::CommandLine)
    };
    match idle(command).find(typed) {
        Some(option) => Err(Error::Config {
            option,
            what: format!("has no effect on `impasto {command}`, which runs no transfer"),
            hint: "leave it out".into(),
        }),
        None => Ok(()),
    }
}
