//! Failures that tests order of an engine: memory that runs out, a device that dies, work that is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an engine does wrong on request. Clones share their counters, so that an order is carried out once, whatever
/// engine or device meets it. The default orders nothing and counts all the same.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Orders>);

#[derive(Debug, Default)]
struct Orders {
    /// Numbers of the creation and of the submissions that go wrong, from 1; 0 is none.
    fail_creation: u64,
    lose: Vec<u64>,
    drop_work: Vec<u64>,
    /// Bytes that an engine's buffers may have in all; 0 is no limit.
    memory: u64,
    /// The method, as it is displayed, whose results count as wrong.
    wrong: String,
    creations: AtomicU64,
    submissions: AtomicU64,
    /// From this submission on the device is destroyed before each; 0 is none.
    lose_from: AtomicU64,
}

/// What becomes of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is carried out.
    Run,
    /// The device is destroyed before it.
    Lose,
    /// It is reported as finished, but nothing in it is carried out.
    Drop,
}

impl Faults {
    /// The `number`-th buffer to be created, from 1, fails for want of memory; 0 fails none.
    pub fn fail_allocation(number: u64) -> Faults {
        Faults(Arc::new(Orders { fail_creation: number, ..Orders::default() }))
    }

    /// The buffers of an engine's job may have `bytes` in all.
    pub fn memory(bytes: u64) -> Faults {
        Faults(Arc::new(Orders { memory: bytes, ..Orders::default() }))
    }

    /// The device is destroyed before each of these submissions, numbered from 1.
    pub fn lose_at(numbers: &[u64]) -> Faults {
        Faults(Arc::new(Orders { lose: numbers.to_vec(), ..Orders::default() }))
    }

    /// The device reports each of these submissions, numbered from 1, as finished without carrying it out.
    pub fn drop_at(numbers: &[u64]) -> Faults {
        Faults(Arc::new(Orders { drop_work: numbers.to_vec(), ..Orders::default() }))
    }

    /// The method of this name gives wrong results where methods are checked.
    pub fn wrong(method: &str) -> Faults {
        Faults(Arc::new(Orders { wrong: method.into(), ..Orders::default() }))
    }

    /// From now on the device is destroyed before every submission from this number on.
    pub fn lose_from(&self, number: u64) {
        self.0.lose_from.store(number, Ordering::Relaxed);
    }

    /// Buffers created so far.
    pub fn creations(&self) -> u64 {
        self.0.creations.load(Ordering::Relaxed)
    }

    /// Submissions made so far.
    pub fn submissions(&self) -> u64 {
        self.0.submissions.load(Ordering::Relaxed)
    }

    /// Whether this method is to give wrong results.
    pub(crate) fn spoils(&self, method: &str) -> bool {
        self.0.wrong == method
    }

    /// Counts a creation of `bytes` by an engine whose job holds `held` already: whether there is room for it.
    pub(crate) fn room(&self, bytes: u64, held: u64) -> bool {
        let number = self.0.creations.fetch_add(1, Ordering::Relaxed) + 1;
        number != self.0.fail_creation && (self.0.memory == 0 || held + bytes <= self.0.memory)
    }

    /// Counts a submission and says what becomes of it.
    pub(crate) fn submission(&self) -> Fate {
        let number = self.0.submissions.fetch_add(1, Ordering::Relaxed) + 1;
        let lose_from = self.0.lose_from.load(Ordering::Relaxed);
        match () {
            () if self.0.lose.contains(&number) || (lose_from > 0 && number >= lose_from) => Fate::Lose,
            () if self.0.drop_work.contains(&number) => Fate::Drop,
            () => Fate::Run,
        }
    }
}
