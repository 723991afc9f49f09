//! Ctrl-C: the first one asks the run to stop and save, the second one quits at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use super::INTERRUPTED;
use super::progress::Progress;

/// Set once Ctrl-C was pressed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts listening, on a thread of the runtime. Where signals cannot be listened to, Ctrl-C simply ends the process.
    pub(crate) fn listen(runtime: &Handle, progress: &Progress) -> Interrupt {
        let progress = progress.clone();
        let interrupt = Interrupt::default();
        let flag = interrupt.clone();
        runtime.spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if flag.0.swap(true, Ordering::Relaxed) {
                    std::process::exit(i32::from(INTERRUPTED));
                }
                progress.note("stopping after this iteration; Ctrl-C again quits at once");
            }
        });
        interrupt
    }

    /// Whether to stop.
    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
