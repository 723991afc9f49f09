//! Ctrl-C: the first one asks the run to stop and save, the second one quits at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use super::INTERRUPTED;
use super::progress::Progress;

/// Whether a run listens, and will save what it has.
static LISTENING: AtomicBool = AtomicBool::new(false);

/// Has Ctrl-C end the process until a run listens. Once tokio has listened to a signal it is deaf to those that nobody
/// waits for.
pub(crate) fn exit_until_a_run_listens() {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() && !LISTENING.load(Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
}

/// Set once Ctrl-C was pressed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts listening, on a thread of the runtime. Where signals cannot be listened to, Ctrl-C simply ends the process.
    pub(crate) fn listen(runtime: &Handle, progress: &Progress) -> Interrupt {
        let progress = progress.clone();
        let interrupt = Interrupt::default();
        let flag = interrupt.clone();
        LISTENING.store(true, Ordering::Relaxed);
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
