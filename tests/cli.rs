//! The program as a user meets it: files in, files out, messages, exit codes, Ctrl-C. Runs the real binary on the CPU
//! engine with pictures of a few pixels that the tests draw themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

#[path = "cli/batch.rs"]
mod batch;
#[path = "cli/commands.rs"]
mod commands;
#[path = "cli/fetch.rs"]
mod fetch;
#[path = "cli/fetch_together.rs"]
mod fetch_together;
#[path = "cli/folder.rs"]
mod folder;
#[path = "cli/grid.rs"]
mod grid;
#[path = "cli/inspect.rs"]
mod inspect;
#[cfg(unix)]
#[path = "cli/interrupt.rs"]
mod interrupt;
#[path = "cli/pictures.rs"]
mod pictures;
#[path = "cli/refusals.rs"]
mod refusals;
#[path = "cli/results.rs"]
mod results;
#[path = "cli/resume.rs"]
mod resume;
#[path = "cli/server.rs"]
mod server;
#[path = "cli/show.rs"]
mod show;
#[path = "cli/store.rs"]
mod store;
#[path = "cli/styles.rs"]
mod styles;
#[path = "cli/survival.rs"]
mod survival;
#[path = "cli/tune.rs"]
mod tune;
#[path = "weights/writer.rs"]
#[allow(dead_code, reason = "written for the tests of the reader")]
mod writer;
