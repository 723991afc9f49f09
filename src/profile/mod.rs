//! Where an iteration's time goes: one row per launch, beside what the device can do at most.

mod alone;
mod exchange;
mod measure;
mod variants;

use std::collections::HashMap;

use crate::recording::Clock;

pub use alone::{KERNELS, Shape, alone};
pub use measure::{Load, Ready, measure, roofs};
pub use variants::{Variant, measure_variants, variants};

/// What a device can do at most, measured on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofs {
    /// Floating point operations per second: multiply-adds in registers count two each.
    pub flops: f64,
    /// Bytes per second that a copy reads and writes.
    pub bytes: f64,
}

/// One command of a recording and its times.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Kernel, or `clear`.
    pub kernel: String,
    /// What it works on: `conv2_1`, `style/relu1_2`; a buffer's label for a clear.
    pub label: String,
    /// Workgroups in x, y, z.
    pub grid: [u32; 3],
    /// Floating point operations.
    pub flops: u64,
    /// Bytes that have to be moved at least.
    pub bytes: u64,
    /// Median of the repetitions in seconds.
    pub median: f64,
    /// The fastest repetition in seconds.
    pub fastest: f64,
}

impl Row {
    /// Floating point operations per second.
    pub fn flops_rate(&self) -> f64 {
        rate(self.flops, self.median)
    }

    /// Bytes per second.
    pub fn bytes_rate(&self) -> f64 {
        rate(self.bytes, self.median)
    }

    /// The part that it reaches of the roof it is nearer to.
    pub fn share(&self, roofs: &Roofs) -> f64 {
        (self.flops_rate() / roofs.flops).max(self.bytes_rate() / roofs.bytes)
    }
}

/// A clock's tick may be longer than a launch.
fn rate(amount: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { amount as f64 / seconds } else { 0.0 }
}

/// A recording's launches and how long each took.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Device and engine.
    pub device: String,
    /// What the rows were timed with.
    pub clock: Clock,
    /// What the device can do.
    pub roofs: Roofs,
    /// Every command in order.
    pub rows: Vec<Row>,
    /// Seconds of a whole run of the recording on the host's clock, nothing timed inside: the median.
    pub whole: f64,
}

/// The rows of a kernel or of a layer added up.
#[derive(Clone, Debug, PartialEq)]
pub struct Total {
    /// Kernel or label.
    pub name: String,
    /// Rows.
    pub launches: usize,
    /// Sum of the medians in seconds.
    pub seconds: f64,
    /// Sum of the operations.
    pub flops: u64,
}

impl Profile {
    /// Sum of the rows' medians in seconds.
    pub fn seconds(&self) -> f64 {
        self.rows.iter().map(|row| row.median).sum()
    }

    /// The part of a whole run that the rows explain.
    pub fn explained(&self) -> f64 {
        if self.whole > 0.0 { self.seconds() / self.whole } else { 0.0 }
    }

    /// Rows by kernel, the longest first.
    pub fn by_kernel(&self) -> Vec<Total> {
        self.totals(|row| &row.kernel)
    }

    /// Rows by label, the longest first.
    pub fn by_label(&self) -> Vec<Total> {
        self.totals(|row| &row.label)
    }

    fn totals(&self, name: impl Fn(&Row) -> &String) -> Vec<Total> {
        let mut totals: Vec<Total> = Vec::new();
        let mut places: HashMap<&String, usize> = HashMap::new();
        for row in &self.rows {
            let place = *places.entry(name(row)).or_insert(totals.len());
            if place == totals.len() {
                totals.push(Total { name: name(row).clone(), launches: 0, seconds: 0.0, flops: 0 });
            }
            let total = &mut totals[place];
            total.launches += 1;
            total.seconds += row.median;
            total.flops += row.flops;
        }
        totals.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        totals
    }
}
