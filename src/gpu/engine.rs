//! Runs recordings on wgpu: encodes each once into bind groups, then packs launches into short submissions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::{Gpu, Shared, lost};
use super::epoch::Epoch;
use super::pace::{Label, Pace, Work};
use crate::error::{Error, Result};
use crate::recording::{
    BufferId, BufferInfo, BufferTable, Command, Engine, Fate, Ledger, Program, Purpose, Recording, Submissions,
    Timings, no_program, no_room,
};

/// A submission that takes longer than this is taken for a hung device.
const PATIENCE: Duration = Duration::from_secs(300);
/// Offset between parameter structs in a uniform buffer: the largest alignment that WebGPU allows a device to ask for.
const UNIFORM_STRIDE: usize = 256;
/// Uploads go through buffers of this size at most, so that a large one does not take twice its memory.
const UPLOAD: usize = 16 << 20;

/// Runs recordings on a [`Gpu`].
#[derive(Debug)]
pub struct GpuEngine {
    gpu: Gpu,
    /// The device that this engine was made on.
    pub(super) shared: Arc<Shared>,
    buffers: Vec<wgpu::Buffer>,
    /// Bytes of all buffers.
    pub(super) held: u64,
    pub(super) programs: Vec<Vec<Encoded>>,
    epoch: Option<Epoch>,
    pub(super) pending: VecDeque<Pending>,
    last_done: Instant,
    pub(super) pace: Pace,
    /// Bytes of parameters, and the most that reading back took at once.
    uniforms: u64,
    staging: u64,
}

/// A command: a launch, also where it is a clear.
#[derive(Debug)]
pub(super) struct Encoded {
    /// For graphics debuggers.
    name: String,
    label: Label,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: [u32; 3],
    work: f64,
}

impl Encoded {
    /// What the pace is learned by, and how much of it.
    pub(super) fn work(&self) -> (Label, f64) {
        (self.label, self.work)
    }

    /// The launch, in a debug group of its name if that is wanted.
    pub(super) fn launch(&self, pass: &mut wgpu::ComputePass<'_>, named: bool) {
        let Encoded { name, pipeline, bind_group, grid, .. } = self;
        if named {
            pass.push_debug_group(name);
        }
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, bind_group, &[]);
        pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
        if named {
            pass.pop_debug_group();
        }
    }
}

#[derive(Debug)]
pub(super) struct Pending {
    index: wgpu::SubmissionIndex,
    submitted: Instant,
    work: Work,
    commands: usize,
}

impl GpuEngine {
    /// An engine without buffers.
    pub fn new(gpu: &Gpu) -> GpuEngine {
        GpuEngine {
            gpu: gpu.clone(),
            shared: gpu.shared(),
            buffers: Vec::new(),
            held: 0,
            programs: Vec::new(),
            epoch: None,
            pending: VecDeque::new(),
            last_done: Instant::now(),
            pace: Pace::default(),
            uniforms: 0,
            staging: 0,
        }
    }

    fn epoch(&self) -> Result<&Epoch> {
        self.epoch
            .as_ref()
            .ok_or_else(|| Error::Kernel { kernel: "gpu engine".into(), what: "no buffers allocated".into() })
    }

    fn buffer(&self, buffer: BufferId, bytes: u64) -> Result<&wgpu::Buffer> {
        self.buffers.get(buffer.index()).filter(|buffer| buffer.size() >= bytes).ok_or_else(|| Error::Kernel {
            kernel: "gpu engine".into(),
            what: format!("no buffer #{} of {bytes} bytes", buffer.index()),
        })
    }

    fn encode(&mut self, command: &Command, uniforms: &wgpu::Buffer, slot: usize) -> Result<Encoded> {
        let dispatch = match command {
            Command::Clear(buffer) => return self.encode_clear(*buffer),
            Command::Dispatch(dispatch) => dispatch,
        };
        let reflection = dispatch.kernel.reflect()?;
        let pipeline = self.shared.pipeline(dispatch.kernel, &dispatch.constants)?;
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: reflection.params_binding,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: uniforms,
                offset: (slot * UNIFORM_STRIDE) as u64,
                size: wgpu::BufferSize::new(dispatch.params.len() as u64),
            }),
        }];
        let mut elements = 0;
        for (tensor, (binding, _)) in dispatch.tensors.iter().zip(&reflection.bindings) {
            let buffer = self.buffer(tensor.buffer, 4 * tensor.len() as u64)?;
            entries.push(wgpu::BindGroupEntry { binding: *binding, resource: buffer.as_entire_binding() });
            elements += tensor.len() as u64;
        }
        let bind_group = self.bind(dispatch.kernel.name, &dispatch.label, &pipeline, &entries)?;
        let name = format!("{} {}", dispatch.kernel.name, dispatch.label);
        // A launch that states no operations still takes its time.
        let work = if dispatch.flops > 0 { dispatch.flops } else { elements } as f64;
        Ok(Encoded { label: self.pace.label(&name), name, pipeline, bind_group, grid: dispatch.grid, work })
    }

    fn encode_clear(&mut self, buffer: BufferId) -> Result<Encoded> {
        let pipeline = self.shared.compiled("clear", include_str!("clear.wgsl"), &[])?;
        let buffer = self.buffer(buffer, 0)?;
        let words = buffer.size() / 4;
        let entries = [wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }];
        let bind_group = self.bind("clear", "clear", &pipeline, &entries)?;
        let grid = [words.div_ceil(256).clamp(1, 65_535) as u32, 1, 1];
        let label = self.pace.label("clear");
        Ok(Encoded { name: "clear".into(), label, pipeline, bind_group, grid, work: words as f64 })
    }

    fn bind(
        &self,
        kernel: &str,
        label: &str,
        pipeline: &wgpu::ComputePipeline,
        entries: &[wgpu::BindGroupEntry<'_>],
    ) -> Result<wgpu::BindGroup> {
        self.shared.scoped(kernel, || {
            let layout = &pipeline.get_bind_group_layout(0);
            self.shared.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries })
        })
    }

    /// Makes one submission. One runs while the next is being encoded; more would only delay an interruption.
    pub(super) fn send(
        &mut self,
        what: &str,
        (work, commands): (Work, usize),
        record: impl FnOnce(&mut wgpu::CommandEncoder, &Epoch),
    ) -> Result<wgpu::SubmissionIndex> {
        let fate = self.shared.faults.submission();
        if fate == Fate::Lose {
            self.shared.device.destroy();
        }
        let (shared, epoch) = (&self.shared, self.epoch()?);
        let submitted = Instant::now();
        let index = shared.scoped(what, || {
            let mut encoder = shared.device.create_command_encoder(&Default::default());
            record(&mut encoder, epoch);
            if fate == Fate::Drop {
                encoder = shared.device.create_command_encoder(&Default::default());
            }
            shared.queue.submit([encoder.finish()])
        })?;
        self.pace.encoded_in(submitted.elapsed());
        self.pending.push_back(Pending { index: index.clone(), submitted, work, commands });
        while self.pending.len() > 2 {
            self.retire()?;
        }
        Ok(index)
    }

    pub(super) fn submit(&mut self, batch: &[&Encoded]) -> Result<()> {
        let work = self.pace.sum(batch.iter().map(|command| command.work()));
        let named = self.shared.names_launches;
        self.send("submission", (work, batch.len()), |encoder, epoch| {
            epoch.pass(encoder, |pass| batch.iter().for_each(|command| command.launch(pass, named)));
        })?;
        Ok(())
    }

    /// Waits for the oldest submission and learns from its duration.
    pub(super) fn retire(&mut self) -> Result<()> {
        let Some(pending) = self.pending.pop_front() else { return Ok(()) };
        self.wait(pending.index)?;
        let now = Instant::now();
        if pending.commands > 0 {
            let busy = now.duration_since(self.last_done.max(pending.submitted));
            self.pace.learn(&pending.work, pending.commands, busy);
        }
        self.last_done = now;
        Ok(())
    }

    pub(super) fn wait(&self, index: wgpu::SubmissionIndex) -> Result<()> {
        let submission_index = Some(index);
        let outcome = self.shared.device.poll(wgpu::PollType::Wait { submission_index, timeout: Some(PATIENCE) });
        self.shared.check_lost()?;
        match outcome {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => Err(lost("no answer from the device for five minutes")),
            Err(error) => Err(lost(&error.to_string())),
        }
    }

    fn upload(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<()> {
        let target = self.buffer(buffer, bytes.len() as u64)?.clone();
        self.fill(&target, bytes)
    }

    /// Copies `bytes` through buffers of our own, because running out of memory for wgpu's loses the device.
    fn fill(&mut self, target: &wgpu::Buffer, bytes: &[u8]) -> Result<()> {
        for (piece, chunk) in bytes.chunks(UPLOAD).enumerate() {
            let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
            let staging = self.shared.create("upload", chunk.len() as u64, self.held, usage, true)?;
            staging
                .get_mapped_range_mut(..)
                .map_err(|error| lost(&format!("upload failed: {error}")))?
                .copy_from_slice(chunk);
            staging.unmap();
            self.send("upload", (Work::new(), 0), |encoder, epoch| {
                encoder.copy_buffer_to_buffer(&staging, 0, target, (piece * UPLOAD) as u64, chunk.len() as u64);
                epoch.pass(encoder, |_| ());
            })?;
        }
        Ok(())
    }

    fn download(&mut self, buffer: BufferId) -> Result<Vec<u8>> {
        let source = self.buffer(buffer, 0)?.clone();
        let size = source.size();
        self.staging = self.staging.max(size);
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.shared.create("readback", size + 4, self.held, usage, false)?;
        let index = self.send("readback", (Work::new(), 0), |encoder, epoch| {
            epoch.pass(encoder, |_| ());
            encoder.copy_buffer_to_buffer(&source, 0, &staging, 0, size);
            encoder.copy_buffer_to_buffer(&epoch.buffer, 0, &staging, size, 4);
        })?;
        // Each by itself: their durations teach the pace.
        while !self.pending.is_empty() {
            self.retire()?;
        }
        self.wait(index)?;
        let mut bytes = self.map(&staging)?;
        let count = bytes.split_off(bytes.len().saturating_sub(4));
        self.epoch()?.verify(count.try_into().map_or(0, u32::from_ne_bytes))?;
        Ok(bytes)
    }

    /// What a staging buffer holds, once the submission that fills it is done.
    pub(super) fn map(&self, staging: &wgpu::Buffer) -> Result<Vec<u8>> {
        let (sender, receiver) = std::sync::mpsc::channel();
        // In a scope, because mapping a lost device's buffer is an error that panics in a host without a handler.
        self.shared.scoped("readback", || {
            staging.map_async(wgpu::MapMode::Read, .., move |result| {
                // The receiver waits below; if it is gone, so is the wish for the answer.
                let _ = sender.send(result);
            });
        })?;
        self.shared.device.poll(wgpu::PollType::Poll).map_err(|error| lost(&error.to_string()))?;
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(lost(&format!("readback failed: {error}"))),
            Err(_) => return Err(lost("readback was never answered")),
        }
        let view = staging.get_mapped_range(..).map_err(|error| lost(&format!("readback failed: {error}")))?;
        Ok(view.to_vec())
    }

    /// Frees every buffer; they are free indeed when this returns.
    fn release(&mut self) {
        while !self.pending.is_empty() && self.retire().is_ok() {}
        self.pending.clear();
        self.programs.clear();
        self.buffers.clear();
        self.epoch = None;
        (self.held, self.uniforms, self.staging) = (0, 0, 0);
        // Memory goes back when the device is polled; where it is lost there is nothing to wait for.
        let _ = self.shared.device.poll(wgpu::PollType::Poll);
    }

    fn run_encoded(&mut self, encoded: &[Encoded], times: u32) -> Result<()> {
        let total = encoded.len() * times as usize;
        let mut done = 0;
        while done < total {
            let begin = Instant::now();
            let seconds = encoded.iter().map(Encoded::work).map(|(label, work)| self.pace.seconds(label, work));
            let seconds: Vec<f64> = seconds.collect();
            let (at, left) = (done % encoded.len(), total - done);
            let sum = |part: &[f64]| part.iter().sum::<f64>();
            // Whole rounds, and the rest of the one that was begun.
            let ahead = sum(&seconds) * (left / encoded.len()) as f64 + if at > 0 { sum(&seconds[at..]) } else { 0.0 };
            let idle = self.pending.is_empty();
            let count = Pace::cut(ahead, seconds.iter().cycle().skip(at).take(left).copied(), idle);
            let batch: Vec<&Encoded> = encoded.iter().cycle().skip(at).take(count).collect();
            self.pace.encoded_in(begin.elapsed());
            self.submit(&batch)?;
            done += count;
        }
        Ok(())
    }

    fn create_all(&mut self, table: &BufferTable) -> Result<()> {
        let limits = self.shared.device.limits();
        let available = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
        let needed = |info: &BufferInfo| 4 * info.len as u64;
        if let Some(info) = table.infos().iter().find(|info| needed(info) > available) {
            return Err(Error::OutOfMemory {
                what: format!("buffer {}", info.label),
                needed: needed(info),
                available,
                hint: "use a smaller --size or --tile".into(),
            });
        }
        self.epoch = Some(Epoch::new(&self.shared)?);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        for info in table.infos() {
            let buffer = self.shared.create(&info.label, needed(info), self.held, usage, false);
            self.buffers.push(buffer.map_err(|error| match error {
                Error::OutOfMemory { .. } => no_room(&info.label, table, self.held),
                other => other,
            })?);
            self.held += needed(info);
        }
        Ok(())
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
        self.release();
        let result = self.create_all(table);
        if result.is_err() {
            self.release();
        }
        result
    }

    fn prepare(&mut self, recording: &Recording) -> Result<Program> {
        let mut bytes = vec![0; UNIFORM_STRIDE * recording.commands.len().max(1)];
        for (slot, command) in recording.commands.iter().enumerate() {
            if let Command::Dispatch(dispatch) = command {
                bytes[slot * UNIFORM_STRIDE..][..dispatch.params.len()].copy_from_slice(&dispatch.params);
            }
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let uniforms = self.shared.create(&recording.label, bytes.len() as u64, self.held, usage, false)?;
        self.fill(&uniforms, &bytes)?;
        let commands = recording.commands.iter().enumerate();
        let encoded = commands.map(|(slot, command)| self.encode(command, &uniforms, slot)).collect::<Result<_>>()?;
        self.programs.push(encoded);
        self.uniforms += uniforms.size();
        Ok(Program(self.programs.len() - 1))
    }

    fn run(&mut self, program: Program, times: u32) -> Result<()> {
        let slot = self.programs.get_mut(program.0).ok_or_else(|| no_program("gpu engine"))?;
        let encoded = std::mem::take(slot);
        let result = self.run_encoded(&encoded, times);
        self.programs[program.0] = encoded;
        result
    }

    fn profile(&mut self, program: Program, times: u32) -> Result<Timings> {
        let slot = self.programs.get_mut(program.0).ok_or_else(|| no_program("gpu engine"))?;
        let encoded = std::mem::take(slot);
        let clock = self.clock();
        let seconds: Result<_> = (0..times).map(|_| self.time(&encoded, clock)).collect();
        self.programs[program.0] = encoded;
        Ok(Timings { clock, seconds: seconds? })
    }

    fn ledger(&self) -> Ledger {
        Ledger { buffers: self.held, overhead: self.uniforms + self.staging }
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

    fn reopen(&self) -> Result<Box<dyn Engine>> {
        self.gpu.reopen(&self.shared)?;
        Ok(Box::new(GpuEngine::new(&self.gpu)))
    }

    fn submissions(&self) -> Option<Submissions> {
        Some(self.pace.submissions())
    }
}
