//! Runs recordings on wgpu: encodes each once into bind groups, then packs launches into short submissions.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::context::{Gpu, Shared, lost};
use crate::error::{Error, Result};
use crate::recording::{BufferId, BufferTable, Command, Engine, Ledger, Program, Purpose, Recording, no_program};

/// Aim for the length of one submission: Windows kills what takes 2 s, and a desktop stutters well before.
const SUBMISSION: Duration = Duration::from_millis(100);
/// A submission that takes longer than this is taken for a hung device.
const PATIENCE: Duration = Duration::from_secs(300);
/// Offset between parameter structs in a uniform buffer: the largest alignment that WebGPU allows a device to ask for.
const UNIFORM_STRIDE: usize = 256;
/// wgpu stages uploads; large ones go in pieces, since running out of memory there loses the device.
const UPLOAD: usize = 16 << 20;

/// Runs recordings on a [`Gpu`].
#[derive(Debug)]
pub struct GpuEngine {
    gpu: Gpu,
    buffers: Vec<wgpu::Buffer>,
    programs: Vec<Vec<Encoded>>,
    pending: VecDeque<Pending>,
    last_done: Instant,
    /// Bytes of parameters, and the most that reading back took at once.
    uniforms: u64,
    staging: u64,
    /// Measured throughput, to size submissions: FLOP per second.
    rate: f64,
}

#[derive(Debug)]
enum Encoded {
    Dispatch { label: String, pipeline: wgpu::ComputePipeline, bind_group: wgpu::BindGroup, grid: [u32; 3], flops: u64 },
    Clear(BufferId),
}

#[derive(Debug)]
struct Pending {
    index: wgpu::SubmissionIndex,
    submitted: Instant,
    flops: u64,
}

impl GpuEngine {
    /// An engine without buffers.
    pub fn new(gpu: &Gpu) -> GpuEngine {
        GpuEngine {
            gpu: gpu.clone(),
            buffers: Vec::new(),
            programs: Vec::new(),
            pending: VecDeque::new(),
            last_done: Instant::now(),
            uniforms: 0,
            staging: 0,
            rate: 5e9,
        }
    }

    fn shared(&self) -> &Shared {
        &self.gpu.shared
    }

    fn buffer(&self, buffer: BufferId, bytes: u64) -> Result<&wgpu::Buffer> {
        self.buffers.get(buffer.index()).filter(|buffer| buffer.size() >= bytes).ok_or_else(|| Error::Kernel {
            kernel: "gpu engine".into(),
            what: format!("no buffer #{} of {bytes} bytes", buffer.index()),
        })
    }

    fn encode(&self, command: &Command, uniforms: &wgpu::Buffer, slot: usize) -> Result<Encoded> {
        let dispatch = match command {
            Command::Clear(buffer) => {
                self.buffer(*buffer, 0)?;
                return Ok(Encoded::Clear(*buffer));
            }
            Command::Dispatch(dispatch) => dispatch,
        };
        let reflection = dispatch.kernel.reflect()?;
        let pipeline = self.shared().pipeline(dispatch.kernel, &dispatch.constants)?;
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: reflection.params_binding,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: uniforms,
                offset: (slot * UNIFORM_STRIDE) as u64,
                size: wgpu::BufferSize::new(dispatch.params.len() as u64),
            }),
        }];
        for (tensor, (binding, _)) in dispatch.tensors.iter().zip(&reflection.bindings) {
            let buffer = self.buffer(tensor.buffer, 4 * tensor.len() as u64)?;
            entries.push(wgpu::BindGroupEntry { binding: *binding, resource: buffer.as_entire_binding() });
        }
        let bind_group = self.shared().scoped(dispatch.kernel.name, || {
            self.shared().device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&dispatch.label),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            })
        })?;
        let label = format!("{} {}", dispatch.kernel.name, dispatch.label);
        Ok(Encoded::Dispatch { label, pipeline, bind_group, grid: dispatch.grid, flops: dispatch.flops })
    }

    fn submit(&mut self, commands: &[&Encoded], flops: u64) -> Result<()> {
        let shared = &self.gpu.shared;
        let buffers = &self.buffers;
        let submitted = Instant::now();
        let index = shared.scoped("submission", || {
            let mut encoder = shared.device.create_command_encoder(&Default::default());
            let mut rest = commands;
            while let Some((first, after)) = rest.split_first() {
                if let Encoded::Clear(buffer) = first {
                    encoder.clear_buffer(&buffers[buffer.index()], 0, None);
                    rest = after;
                    continue;
                }
                let mut pass = encoder.begin_compute_pass(&Default::default());
                while let Some((Encoded::Dispatch { label, pipeline, bind_group, grid, .. }, after)) =
                    rest.split_first()
                {
                    pass.push_debug_group(label);
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, bind_group, &[]);
                    pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
                    pass.pop_debug_group();
                    rest = after;
                }
            }
            shared.queue.submit([encoder.finish()])
        })?;
        self.pending.push_back(Pending { index, submitted, flops });
        // One submission runs while the next is being encoded; more would only delay an interruption.
        while self.pending.len() > 2 {
            self.retire()?;
        }
        Ok(())
    }

    /// Waits for the oldest submission and learns from its duration.
    fn retire(&mut self) -> Result<()> {
        let Some(pending) = self.pending.pop_front() else { return Ok(()) };
        self.wait(pending.index)?;
        let now = Instant::now();
        let busy = now.duration_since(self.last_done.max(pending.submitted)).as_secs_f64();
        if busy > 1e-4 && pending.flops > 0 {
            self.rate = 0.5 * self.rate + 0.5 * (pending.flops as f64 / busy);
        }
        self.last_done = now;
        Ok(())
    }

    fn wait(&self, index: wgpu::SubmissionIndex) -> Result<()> {
        let submission_index = Some(index);
        let outcome = self.shared().device.poll(wgpu::PollType::Wait { submission_index, timeout: Some(PATIENCE) });
        self.shared().check_lost()?;
        match outcome {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => Err(lost("no answer from the device for five minutes")),
            Err(error) => Err(lost(&error.to_string())),
        }
    }

    fn upload(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<()> {
        let target = self.buffer(buffer, bytes.len() as u64)?.clone();
        for (piece, chunk) in bytes.chunks(UPLOAD).enumerate() {
            let shared = self.shared();
            let index = shared.scoped("upload", || {
                shared.queue.write_buffer(&target, (piece * UPLOAD) as u64, chunk);
                (bytes.len() > UPLOAD).then(|| shared.queue.submit([]))
            })?;
            if let Some(index) = index {
                self.wait(index)?;
            }
        }
        Ok(())
    }

    fn download(&mut self, buffer: BufferId) -> Result<Vec<u8>> {
        while !self.pending.is_empty() {
            self.retire()?;
        }
        self.staging = self.staging.max(self.buffer(buffer, 0)?.size());
        let source = self.buffer(buffer, 0)?;
        let shared = self.shared();
        let (sender, receiver) = std::sync::mpsc::channel();
        let (staging, index) = shared.scoped("readback", || {
            let staging = shared.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("readback"),
                size: source.size(),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let mut encoder = shared.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(source, 0, &staging, 0, None);
            let index = shared.queue.submit([encoder.finish()]);
            // Inside the scope, because mapping a lost device's buffer is an error that panics in a host without a handler.
            staging.map_async(wgpu::MapMode::Read, .., move |result| {
                // The receiver waits below; if it is gone, so is the wish for the answer.
                let _ = sender.send(result);
            });
            (staging, index)
        })?;
        self.wait(index)?;
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(lost(&format!("readback failed: {error}"))),
            Err(_) => return Err(lost("readback was never answered")),
        }
        let view = staging.get_mapped_range(..).map_err(|error| lost(&format!("readback failed: {error}")))?;
        Ok(view.to_vec())
    }
}

/// Forecast of [`Ledger::overhead`]: parameters of every command, and room to read back the largest band of the picture.
pub(super) fn overhead(table: &BufferTable, recordings: &[&Recording]) -> u64 {
    let commands: usize = recordings.iter().map(|recording| recording.commands.len().max(1)).sum();
    let read =
        |purpose| table.infos().iter().filter(move |info| info.purpose == purpose).map(|info| 4 * info.len as u64);
    (UNIFORM_STRIDE * commands) as u64 + read(Purpose::Image).max().unwrap_or(0)
}

impl Engine for GpuEngine {
    fn describe(&self) -> String {
        self.gpu.name().to_string()
    }

    fn allocate(&mut self, table: &BufferTable) -> Result<()> {
        self.programs.clear();
        self.buffers.clear();
        (self.uniforms, self.staging) = (0, 0);
        let limits = self.shared().device.limits();
        let available = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
        for info in table.infos() {
            let needed = 4 * info.len as u64;
            if needed > available {
                return Err(Error::OutOfMemory {
                    what: format!("buffer {}", info.label),
                    needed,
                    available,
                    hint: "use a smaller --size or --tile".into(),
                });
            }
            let shared = self.shared();
            let buffer = shared.scoped(&info.label, || {
                shared.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(&info.label),
                    size: needed,
                    usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                })
            })?;
            self.buffers.push(buffer);
        }
        Ok(())
    }

    fn prepare(&mut self, recording: &Recording) -> Result<Program> {
        let mut bytes = vec![0; UNIFORM_STRIDE * recording.commands.len().max(1)];
        for (slot, command) in recording.commands.iter().enumerate() {
            if let Command::Dispatch(dispatch) = command {
                bytes[slot * UNIFORM_STRIDE..][..dispatch.params.len()].copy_from_slice(&dispatch.params);
            }
        }
        let shared = self.shared();
        let uniforms = shared.scoped(&recording.label, || {
            let uniforms = shared.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(&recording.label),
                size: bytes.len() as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            shared.queue.write_buffer(&uniforms, 0, &bytes);
            uniforms
        })?;
        let commands = recording.commands.iter().enumerate();
        let encoded = commands.map(|(slot, command)| self.encode(command, &uniforms, slot)).collect::<Result<_>>()?;
        self.programs.push(encoded);
        self.uniforms += uniforms.size();
        Ok(Program(self.programs.len() - 1))
    }

    fn run(&mut self, program: Program, times: u32) -> Result<()> {
        let slot = self.programs.get_mut(program.0).ok_or_else(|| no_program("gpu engine"))?;
        let encoded = std::mem::take(slot);
        let mut result = Ok(());
        let mut batch = Vec::new();
        let mut flops = 0;
        let total = encoded.len() * times as usize;
        for (done, command) in (0..times).flat_map(|_| &encoded).enumerate() {
            batch.push(command);
            if let Encoded::Dispatch { flops: more, .. } = command {
                flops += more;
            }
            let full = flops as f64 >= self.rate * SUBMISSION.as_secs_f64();
            if full || done + 1 == total {
                result = self.submit(&batch, flops);
                if result.is_err() {
                    break;
                }
                batch.clear();
                flops = 0;
            }
        }
        drop(batch);
        self.programs[program.0] = encoded;
        result
    }

    fn ledger(&self) -> Ledger {
        let buffers = self.buffers.iter().map(wgpu::Buffer::size).sum();
        Ledger { buffers, overhead: self.uniforms + self.staging }
    }

    fn write(&mut self, buffer: BufferId, values: &[f32]) -> Result<()> {
        self.upload(buffer, bytemuck::cast_slice(values))
    }

    fn write_words(&mut self, buffer: BufferId, values: &[u32]) -> Result<()> {
        self.upload(buffer, bytemuck::cast_slice(values))
    }

    fn read(&mut self, buffer: BufferId) -> Result<Vec<f32>> {
        Ok(self
            .download(buffer)?
            .chunks_exact(4)
            .map(|bytes| f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect())
    }

    fn read_words(&mut self, buffer: BufferId) -> Result<Vec<u32>> {
        Ok(self
            .download(buffer)?
            .chunks_exact(4)
            .map(|bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect())
    }
}
