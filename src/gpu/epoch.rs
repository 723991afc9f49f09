//! Whether the device did what it was given: every compute pass counts itself, and every readback compares.
//!
//! On Metal a command buffer that the system killed counts as finished (gfx-rs/wgpu#9545), and a lost device takes work
//! without a word: what is read back then is old, or zeros. wgpu makes a command buffer of every pass, so each counts.

use std::cell::Cell;

use super::context::{Shared, lost};
use crate::error::Result;

/// Times that a pass counts: before and after its work. Both write the same word, so the second waits for what lies
/// between.
const COUNTS: u32 = 2;

/// The count on the device, and what it must be.
#[derive(Debug)]
pub(super) struct Epoch {
    pub(super) buffer: wgpu::Buffer,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    expected: Cell<u32>,
}

impl Epoch {
    /// Starts at zero, in a new buffer.
    pub(super) fn new(shared: &Shared) -> Result<Epoch> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let buffer = shared.create("epoch", 4, 0, usage, false)?;
        let pipeline = shared.compiled("epoch_count", include_str!("epoch.wgsl"), &[])?;
        let bind_group = shared.scoped("epoch", || {
            shared.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("epoch"),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &[wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
            })
        })?;
        Ok(Epoch { buffer, pipeline, bind_group, expected: Cell::new(0) })
    }

    /// A compute pass that counts itself.
    pub(super) fn pass(&self, encoder: &mut wgpu::CommandEncoder, work: impl FnOnce(&mut wgpu::ComputePass<'_>)) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.count(&mut pass);
        work(&mut pass);
        self.count(&mut pass);
        self.expected.set(self.expected.get().wrapping_add(COUNTS));
    }

    fn count(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }

    /// Compares the count that came back with what was submitted.
    pub(super) fn verify(&self, count: u32) -> Result<()> {
        if count == self.expected.get() {
            return Ok(());
        }
        Err(lost("the device reports work as finished that it has not done"))
    }
}
