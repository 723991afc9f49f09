//! Ctrl-C: the first one asks the run to stop and save, the second one quits at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

/// Whether Ctrl-C was pressed. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    pressed: Arc<AtomicBool>,
    /// What the run at work shows; `None` until one listens.
    progress: Arc<Mutex<Option<Progress>>>,
}

impl Interrupt {
    /// Starts listening, on a thread of the runtime; from the second run on, speaks through its progress. Where signals
    /// cannot be listened to, Ctrl-C simply ends the process.
    pub(crate) fn listen(&self, runtime: &Handle, progress: &Progress) {
        let shown = |of: &Interrupt| of.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let before = self.progress.lock().unwrap_or_else(PoisonError::into_inner).replace(progress.clone());
        if before.is_some() {
            return;
        }
        let flag = self.clone();
        LISTENING.store(true, Ordering::Relaxed);
        runtime.spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if flag.pressed.swap(true, Ordering::Relaxed) {
                    std::process::exit(i32::from(INTERRUPTED));
                }
                if let Some(progress) = shown(&flag) {
                    progress.note("stopping after this iteration; Ctrl-C again quits at once");
                }
            }
        });
    }

    /// Whether to stop.
    pub(crate) fn requested(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }
}
