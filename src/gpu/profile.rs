//! Times single launches: with timestamps between them where the device has those, with timestamps at the ends of passes
//! and a pass for each launch where it has only those (Apple), else with the host's clock and a submission for each.

use std::time::Instant;

use super::engine::{Encoded, GpuEngine};
use super::pace::Pace;
use crate::error::{Error, Result};
use crate::recording::Clock;

/// Commands of a submission: each takes two of the queries that a set may have.
const MOST: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;
/// Timestamps between launches.
const BETWEEN: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES;

/// The features that profiles use where an adapter has them.
pub(super) fn features() -> wgpu::Features {
    BETWEEN | wgpu::Features::TIMESTAMP_QUERY
}

impl GpuEngine {
    /// What this device's launches are timed with.
    pub(super) fn clock(&self) -> Clock {
        let features = self.shared.device.features();
        match () {
            () if features.contains(BETWEEN | wgpu::Features::TIMESTAMP_QUERY) => Clock::Launches,
            () if features.contains(wgpu::Features::TIMESTAMP_QUERY) => Clock::Passes,
            () => Clock::Host,
        }
    }

    /// Seconds of each command.
    pub(super) fn time(&mut self, commands: &[Encoded], clock: Clock) -> Result<Vec<f64>> {
        let mut seconds = Vec::with_capacity(commands.len());
        while let Some(ahead) = commands.get(seconds.len()..).filter(|ahead| !ahead.is_empty()) {
            // As short as the submissions of a run, so that no watchdog ends a profile.
            let expected: Vec<f64> = ahead
                .iter()
                .map(|command| {
                    let (label, work) = command.work();
                    self.pace.seconds(label, work)
                })
                .collect();
            let count = match clock {
                Clock::Host => 1,
                _ => Pace::cut(expected.iter().sum(), expected.into_iter(), false).min(MOST),
            };
            let batch: Vec<&Encoded> = ahead.iter().take(count).collect();
            while !self.pending.is_empty() {
                self.retire()?;
            }
            seconds.extend(match clock {
                Clock::Host => vec![self.waited(&batch)?],
                _ => self.stamped(&batch, clock == Clock::Launches)?,
            });
        }
        Ok(seconds)
    }

    /// A submission's duration on the host's clock.
    fn waited(&mut self, batch: &[&Encoded]) -> Result<f64> {
        let begin = Instant::now();
        self.submit(batch)?;
        while !self.pending.is_empty() {
            self.retire()?;
        }
        Ok(begin.elapsed().as_secs_f64())
    }

    /// Seconds by the device's timestamps, between launches or at the ends of passes.
    fn stamped(&mut self, batch: &[&Encoded], between: bool) -> Result<Vec<f64>> {
        let count = 2 * batch.len() as u32;
        let bytes = 8 * u64::from(count);
        let shared = self.shared.clone();
        let set = shared.scoped("timestamps", || {
            let descriptor = wgpu::QuerySetDescriptor { label: Some("profile"), ty: wgpu::QueryType::Timestamp, count };
            shared.device.create_query_set(&descriptor)
        })?;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = shared.create("timestamps", bytes, self.held, usage, false)?;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = shared.create("timestamps", bytes, self.held, usage, false)?;
        let work = self.pace.sum(batch.iter().map(|command| command.work()));
        let index = self.send("profile", (work, batch.len()), |encoder, epoch| {
            if between {
                epoch.pass(encoder, |pass| {
                    for (query, command) in (0..).step_by(2).zip(batch) {
                        pass.write_timestamp(&set, query);
                        command.launch(pass, true);
                        pass.write_timestamp(&set, query + 1);
                    }
                });
            } else {
                for (query, command) in (0..).step_by(2).zip(batch) {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: None,
                        timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                            query_set: &set,
                            beginning_of_pass_write_index: Some(query),
                            end_of_pass_write_index: Some(query + 1),
                        }),
                    });
                    command.launch(&mut pass, true);
                }
            }
            encoder.resolve_query_set(&set, 0..count, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, bytes);
        })?;
        self.wait(index)?;
        let words = self.map(&staging)?;
        let ticks: Vec<u64> =
            words.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_ne_bytes).collect();
        if ticks.len() != 2 * batch.len() {
            return Err(Error::Kernel { kernel: "profile".into(), what: "timestamps are missing".into() });
        }
        let period = 1e-9 * f64::from(shared.queue.get_timestamp_period());
        Ok(ticks.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 * period).collect())
    }
}
