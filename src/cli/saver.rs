//! Saving while the engine goes on: encoding a large picture takes seconds, and none of them need the engine.

use std::collections::VecDeque;

use impasto::error::{Error, Result};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Pictures that are being saved at most, so that a slow disk cannot fill the memory.
const IN_FLIGHT: usize = 2;

/// Runs jobs beside the engine, on tokio's threads for work that blocks. Dropping it waits for all of them.
#[derive(Debug)]
pub(crate) struct Saver {
    runtime: Handle,
    pending: VecDeque<JoinHandle<Result<()>>>,
    failed: Option<Error>,
}

impl Saver {
    /// A saver on this runtime.
    pub(crate) fn new(runtime: &Handle) -> Saver {
        Saver { runtime: runtime.clone(), pending: VecDeque::new(), failed: None }
    }

    /// Starts a job. Where enough are under way, waits for the oldest first.
    pub(crate) fn start(&mut self, job: impl FnOnce() -> Result<()> + Send + 'static) {
        while self.pending.len() >= IN_FLIGHT {
            self.wait();
        }
        self.pending.push_back(self.runtime.spawn_blocking(job));
    }

    /// The first failure, once it is known. Does not wait.
    pub(crate) fn failed(&mut self) -> Option<&Error> {
        while self.pending.front().is_some_and(JoinHandle::is_finished) {
            self.wait();
        }
        self.failed.as_ref()
    }

    /// Waits for every job.
    ///
    /// # Errors
    /// The first of theirs; the others are waited for all the same.
    pub(crate) fn finish(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            self.wait();
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Waits for the oldest job.
    fn wait(&mut self) {
        let Some(oldest) = self.pending.pop_front() else { return };
        let ended = self
            .runtime
            .block_on(oldest)
            .unwrap_or_else(|error| Err(Error::Kernel { kernel: "saving a picture".into(), what: error.to_string() }));
        if let Err(error) = ended {
            self.failed.get_or_insert(error);
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // Another error is on its way to the user; what this one would add is a second file that is not there.
        let _ = self.finish();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
    }

    fn failure(what: &str) -> Error {
        Error::Output { path: "out.png".into(), what: what.into(), hint: "try again".into() }
    }

    /// A job that ends when its sender says so, or is gone.
    fn held() -> (Sender<Result<()>>, impl FnOnce() -> Result<()> + Send + 'static) {
        let (sender, receiver): (_, Receiver<Result<()>>) = channel();
        (sender, move || receiver.recv().unwrap_or(Ok(())))
    }

    #[test]
    fn jobs_run_beside_the_caller_and_no_more_than_two_of_them() {
        let runtime = runtime();
        let mut saver = Saver::new(runtime.handle());
        let ((first, job_1), (second, job_2), (third, job_3)) = (held(), held(), held());
        // Both calls return although neither job can end.
        saver.start(job_1);
        saver.start(job_2);
        assert!(saver.failed().is_none());
        let (started, waiting) = channel();
        let other = std::thread::spawn(move || {
            saver.start(job_3);
            started.send(()).unwrap();
            saver
        });
        assert!(waiting.recv_timeout(Duration::from_millis(200)).is_err(), "a third job while two are under way");
        first.send(Ok(())).unwrap();
        waiting.recv_timeout(Duration::from_secs(60)).unwrap();
        drop((second, third));
        other.join().unwrap().finish().unwrap();
    }

    #[test]
    fn the_first_failure_is_told_as_soon_as_it_is_known_and_later_jobs_run_all_the_same() {
        let runtime = runtime();
        let mut saver = Saver::new(runtime.handle());
        saver.start(|| Err(failure("first")));
        let told = (0..10_000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            saver.failed().map(Error::to_string)
        });
        assert_eq!(told.unwrap(), "output out.png: first");
        let (done, ended) = channel();
        for _ in 0..3 {
            let done = done.clone();
            saver.start(move || {
                std::thread::sleep(Duration::from_millis(20));
                done.send(()).unwrap();
                Err(failure("later"))
            });
        }
        assert_eq!(saver.finish().unwrap_err().to_string(), "output out.png: first");
        assert_eq!(ended.try_iter().count(), 3);
    }

    #[test]
    fn dropping_waits() {
        let runtime = runtime();
        let mut saver = Saver::new(runtime.handle());
        let (done, ended) = channel();
        saver.start(move || {
            std::thread::sleep(Duration::from_millis(50));
            done.send(()).unwrap();
            Ok(())
        });
        drop(saver);
        ended.try_recv().unwrap();
    }

    #[test]
    fn a_job_that_panics_is_an_error() {
        let runtime = runtime();
        let mut saver = Saver::new(runtime.handle());
        saver.start(|| std::panic::panic_any(1));
        assert!(saver.finish().unwrap_err().to_string().starts_with("kernel saving a picture: task"));
    }
}
