//! The one error type. Every variant says what went wrong and what the user can do about it.

use std::path::PathBuf;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong. `Display` gives the fact in one line; [`Error::hint`] gives the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor's shape does not fit the kernel it was bound to.
    #[error("kernel {kernel}: binding `{binding}` expects {expected}, got {got}")]
    Shape {
        /// Kernel name.
        kernel: &'static str,
        /// Binding name as in the shader.
        binding: String,
        /// Symbolic shape, resolved as far as known.
        expected: String,
        /// Shape that was given.
        got: String,
    },
    /// A shader and its host declaration disagree, or the driver refused the shader.
    #[error("kernel {kernel}: {what}")]
    Kernel {
        /// Kernel name.
        kernel: String,
        /// What is wrong.
        what: String,
    },
    /// A weight file is missing, damaged, or something else altogether.
    #[error("weights {}: {what}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A file on the net cannot be had.
    #[error("download {url}: {what}")]
    Download {
        /// Where it should be.
        url: String,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A picture cannot be read.
    #[error("picture {}: {what}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A checkpoint is missing, damaged, or one of another run.
    #[error("checkpoint {}: {what}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// An option has a value that cannot work.
    #[error("{option}: {what}")]
    Config {
        /// Option as the command line spells it, without dashes.
        option: &'static str,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// No device fits what was asked for.
    #[error("no usable device: {what}")]
    NoDevice {
        /// What was looked for and found.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The device cannot hold the job.
    #[error("out of memory: {}", shortage(what, *needed, *available))]
    OutOfMemory {
        /// Which buffer or job.
        what: String,
        /// Bytes asked for, 0 where unknown.
        needed: u64,
        /// Bytes the device allows, 0 where unknown.
        available: u64,
        /// What to do.
        hint: String,
    },
    /// The device went away, or stopped answering.
    #[error("device lost: {what}")]
    DeviceLost {
        /// What the driver said.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A loss became NaN or infinite, or the picture ran far out of range.
    #[error("{term} diverged at iteration {iteration}")]
    NonFinite {
        /// Loss term, e.g. `style/relu2_2`, or `the picture`.
        term: String,
        /// Iteration at which it was noticed.
        iteration: u32,
        /// What to do.
        hint: String,
    },
    /// A file cannot be written.
    #[error("output {}: {what}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
}

fn shortage(what: &str, needed: u64, available: u64) -> String {
    match (needed, available) {
        (0, _) => format!("no room for {what}"),
        (_, 0) => format!("{what} needs {needed} bytes"),
        _ => format!("{what} needs {needed} bytes, the device allows {available}"),
    }
}

impl Error {
    /// What the user can do about it; empty where only a bug report helps.
    pub fn hint(&self) -> &str {
        match self {
            Error::Shape { .. } | Error::Kernel { .. } => {
                "this is a bug in impasto or in the driver; please report it with the output of `impasto devices`"
            }
            Error::Weights { hint, .. }
            | Error::Download { hint, .. }
            | Error::Picture { hint, .. }
            | Error::Checkpoint { hint, .. }
            | Error::Config { hint, .. }
            | Error::NoDevice { hint, .. }
            | Error::OutOfMemory { hint, .. }
            | Error::DeviceLost { hint, .. }
            | Error::NonFinite { hint, .. }
            | Error::Output { hint, .. } => hint,
        }
    }
}
