//! Gradients. Each backward kernel and the whole network against finite differences, in the twins' double precision; then
//! a GPU's gradient against the twins', with the masks, winners and features that the GPU itself computed.
//!
//! Differences only mean something where no ReLU and no pooling window switches between the points. The masks and winners
//! tell: the step is halved until they agree, and a direction where they never do is skipped. Between such kinks a feature
//! is linear in the picture and most losses are polynomials of degree four at most, for which the five-point difference is
//! exact: only rounding is left. Roots and absolutes take a step so short that they are nearly so.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;
#[path = "gradients/wasserstein.rs"]
mod wasserstein;

use std::sync::{Arc, LazyLock, Mutex};

use common::{gpu, noise, picture, relative_error, skip};
use impasto::cpu::CpuEngine;
use impasto::error::Result;
use impasto::gpu::GpuEngine;
use impasto::kernel::{Access, Scalar};
use impasto::net::edge::Edge;
use impasto::net::plan::Pooling;
use impasto::net::vgg19::Tap;
use impasto::ops::Rect;
use impasto::ops::conv3x3::{conv3x3, conv3x3_backward, mask_shape, rotated};
use impasto::ops::copy_rect::{Mode, copy_rect};
use impasto::ops::gram::{gram, gram_backward, gram_reduce};
use impasto::ops::loss::{content_loss, style_loss};
use impasto::ops::pool::{pool_average, pool_average_backward, pool_max, pool_max_backward, winner_shape};
use impasto::ops::pool_l2::{pool_l2, pool_l2_backward};
use impasto::ops::total_variation::{Differences, total_variation};
use impasto::picture::Picture;
use impasto::recording::{
    Backend, Block, BufferId, BufferTable, Command, Dispatch, Engine, Program, Purpose, Recording, Tensor,
};
use impasto::transfer::{Config, Convolution, Init, Size, StyleLoss, StyleTransfer, TotalVariation};
use impasto::weights::Weights;
use impasto::weights::builtin::random;

static WEIGHTS: LazyLock<Weights> = LazyLock::new(|| random(5));

/// Steps of the differences, where the loss is a polynomial and where it is not.
const LONG: f64 = 1e-2;
const SHORT: f64 = 1e-4;

/// What a test can evaluate: a loss, its gradient, and which way every kink went.
struct Point {
    loss: f64,
    gradient: Vec<f64>,
    kinks: Vec<Vec<u32>>,
}

/// Largest relative difference between `gradient · d` and differences along each direction `d`.
fn finite_differences(
    name: &str,
    longest: f64,
    at: &[f64],
    directions: &[Vec<f64>],
    mut evaluate: impl FnMut(&[f64]) -> Point,
) {
    let here = evaluate(at);
    let (mut tested, mut worst) = (0, 0.0_f64);
    for (number, direction) in directions.iter().enumerate() {
        let expected: f64 = here.gradient.iter().zip(direction).map(|(g, d)| g * d).sum();
        let difference = (0..12).find_map(|halvings| {
            let step = longest / f64::from(1 << halvings);
            let points = [-2.0, -1.0, 1.0, 2.0].map(|steps| {
                evaluate(&at.iter().zip(direction).map(|(x, d)| x + steps * step * d).collect::<Vec<_>>())
            });
            let smooth = points.iter().all(|point| point.kinks == here.kinks);
            let [a, b, c, d] = points.map(|point| point.loss);
            smooth.then(|| (8.0 * (c - b) - (d - a)) / (12.0 * step))
        });
        let Some(difference) = difference else {
            skip(&format!("{name}, direction {number}"), "a ReLU or a window switches at every step");
            continue;
        };
        tested += 1;
        // Where a window's loser stands alone, both are exactly zero.
        let error = if difference == expected { 0.0 } else { (difference - expected).abs() / expected.abs() };
        assert!(error <= 1e-6, "{name}, direction {number}: slope {expected:e}, differences {difference:e}");
        worst = worst.max(error);
    }
    println!("{name}: {tested} of {} directions, worst {worst:.1e}", directions.len());
    assert!(tested * 4 >= directions.len() * 3, "{name}: only {tested} directions could be tested");
}

/// Random directions, then single elements: the first, one in the middle, and the last pixel's blue.
fn directions(len: usize, random: u64) -> Vec<Vec<f64>> {
    let single = |at: usize| (0..len).map(|i| f64::from(u8::from(i == at))).collect();
    let random = (0..random).map(|seed| wide(&noise(100 + seed, len)));
    random.chain([0, len / 2, len - 2].map(single)).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// One operation in the middle of a graph: `loss = Σ c·y + Σ u·x`. The upstream gradient `c` reaches the backward launch
/// through `d_y`; `u` lies in `d_x` beforehand where the launch adds (`+=`), and is zero where it writes (`=`).
struct Operation {
    table: BufferTable,
    forward: Recording,
    backward: Recording,
    /// Constant operands.
    inputs: Vec<(Tensor, Vec<f64>)>,
    x: Tensor,
    y: Tensor,
    c: Vec<f64>,
    /// Where the backward launch reads its upstream gradient, and what to put there.
    d_y: Option<(Tensor, Vec<f64>)>,
    d_x: Tensor,
    adds: bool,
    step: f64,
    kinks: Vec<Tensor>,
}

impl Operation {
    fn new(x: &[usize], y: &[usize], adds: bool) -> Operation {
        let mut table = BufferTable::default();
        let mut tensor = |shape: &[usize]| table.tensor("test", Scalar::F32, shape, Purpose::Tile);
        let (x, y, d_x) = (tensor(x), tensor(y), tensor(x));
        let c = wide(&noise(7, y.len()));
        let (forward, backward) = (Recording::new("forward"), Recording::new("backward"));
        let (inputs, kinks) = (Vec::new(), Vec::new());
        Operation { table, forward, backward, inputs, x, y, c, d_y: None, d_x, adds, step: LONG, kinks }
    }

    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        self.table.tensor("test", Scalar::F32, shape, Purpose::Tile)
    }

    fn input(&mut self, shape: &[usize], values: &[f32]) -> Tensor {
        let tensor = self.tensor(shape);
        self.inputs.push((tensor.clone(), wide(values)));
        tensor
    }

    fn random(&mut self, shape: &[usize]) -> Tensor {
        self.input(shape, &noise(20 + self.inputs.len() as u64, shape.iter().product()))
    }

    fn kinks(&mut self, shape: &[usize]) -> Tensor {
        let tensor = self.table.tensor("test", Scalar::U32, shape, Purpose::Tile);
        self.kinks.push(tensor.clone());
        tensor
    }

    /// The upstream gradient as a tensor of `y`'s shape.
    fn upstream(&mut self) -> Tensor {
        let shape = self.y.shape.clone();
        let tensor = self.tensor(&shape);
        self.d_y = Some((tensor.clone(), self.c.clone()));
        tensor
    }

    fn check(self, name: &str) {
        let mut engine = CpuEngine::<f64>::new();
        engine.allocate(&self.table).unwrap();
        let [forward, backward] = [&self.forward, &self.backward].map(|recording| engine.prepare(recording).unwrap());
        let u: Vec<f64> = noise(8, self.x.len()).iter().map(|v| if self.adds { f64::from(*v) } else { 0.0 }).collect();
        let start = wide(&noise(9, self.x.len()));
        finite_differences(name, self.step, &start, &directions(start.len(), 6), |x| {
            for (tensor, values) in &self.inputs {
                engine.values_mut(tensor.buffer).unwrap().copy_from_slice(values);
            }
            engine.values_mut(self.x.buffer).unwrap().copy_from_slice(x);
            engine.run(forward, 1).unwrap();
            let y = engine.values(self.y.buffer).unwrap();
            let loss = y.iter().zip(&self.c).chain(x.iter().zip(&u)).map(|(a, b)| a * b).sum();
            if let Some((tensor, values)) = &self.d_y {
                engine.values_mut(tensor.buffer).unwrap().copy_from_slice(values);
            }
            engine.values_mut(self.d_x.buffer).unwrap().copy_from_slice(&u);
            engine.run(backward, 1).unwrap();
            let kinks = self.kinks.iter().map(|tensor| engine.read_words(tensor.buffer).unwrap()).collect();
            Point { loss, gradient: engine.values(self.d_x.buffer).unwrap().to_vec(), kinks }
        });
    }
}

const MAPS: [(usize, usize); 5] = [(7, 5), (1, 9), (6, 4), (1, 1), (5, 2)];

#[test]
fn a_convolution_passes_an_upstream_gradient_on() {
    for (height, width) in MAPS {
        let mut op = Operation::new(&[height, width, 8], &[height, width, 12], false);
        let values = noise(1, 9 * 8 * 12);
        let weight = op.input(&[9, 8, 12], &values);
        let weight_rotated = op.input(&[9, 12, 8], &rotated(&values, 8, 12));
        let bias = op.random(&[12]);
        let mask = op.kinks(&mask_shape(height, width, 12));
        conv3x3(&mut op.forward, ("test", Block::SQUARE), &op.x, &weight, &bias, &op.y, &mask).unwrap();
        let d_y = op.upstream();
        conv3x3_backward(&mut op.backward, ("test", Block::SQUARE), &d_y, &mask, &weight_rotated, &op.d_x).unwrap();
        op.check(&format!("conv3x3 {height}x{width}"));
    }
}

#[test]
fn poolings_pass_an_upstream_gradient_on() {
    for (height, width) in MAPS {
        let pooled = [height.div_ceil(2), width.div_ceil(2), 8];
        let mut op = Operation::new(&[height, width, 8], &pooled, false);
        let winner = op.kinks(&winner_shape(height, width, 8));
        pool_max(&mut op.forward, "test", &op.x, &op.y, &winner).unwrap();
        let d_y = op.upstream();
        pool_max_backward(&mut op.backward, "test", &d_y, &winner, &op.d_x).unwrap();
        op.check(&format!("pool_max {height}x{width}"));

        let mut op = Operation::new(&[height, width, 8], &pooled, false);
        pool_average(&mut op.forward, "test", &op.x, &op.y).unwrap();
        let d_y = op.upstream();
        pool_average_backward(&mut op.backward, "test", &d_y, &op.d_x).unwrap();
        op.check(&format!("pool_average {height}x{width}"));

        let mut op = Operation::new(&[height, width, 8], &pooled, false);
        op.step = SHORT;
        pool_l2(&mut op.forward, "test", &op.x, &op.y).unwrap();
        let d_y = op.upstream();
        pool_l2_backward(&mut op.backward, "test", &op.x, &d_y, &op.d_x).unwrap();
        op.check(&format!("pool_l2 {height}x{width}"));
    }
}

/// Everything but the first row and the last column, as far as there is any.
fn inner(height: usize, width: usize) -> Rect {
    let (top, left) = (usize::from(height > 1), 0);
    Rect { top, left, height: height - top, width: (width - 1).max(1) }
}

#[test]
fn a_gram_matrix_passes_an_upstream_gradient_on() {
    // The factors are powers of two, since parameters are f32.
    const SCALE: f32 = 0.125;
    for (height, width) in MAPS {
        let owned = inner(height, width);
        let mut op = Operation::new(&[height, width, 8], &[8, 8], true);
        let partial = op.tensor(&[2, 8, 8]);
        op.forward.clear(op.y.buffer);
        gram(&mut op.forward, "test", &op.x, owned, &partial).unwrap();
        gram_reduce(&mut op.forward, "test", &partial, SCALE, &op.y).unwrap();
        let d_y = op.upstream();
        let both = (0..64).map(|at| (op.c[at] + op.c[at % 8 * 8 + at / 8]) * f64::from(SCALE)).collect();
        op.d_y = Some((d_y.clone(), both));
        gram_backward(&mut op.backward, "test", &op.x, owned, &d_y, &op.d_x).unwrap();
        op.check(&format!("gram {height}x{width}"));

        // With its loss: Σ (G - A)² / 4, so that dL/dF = SCALE · F (G - A).
        let mut op = Operation::new(&[height, width, 8], &[1], true);
        op.c = vec![0.25];
        let (partial, sum, d_gram) = (op.tensor(&[2, 8, 8]), op.tensor(&[8, 8]), op.tensor(&[8, 8]));
        let target = op.random(&[8, 8]);
        // The Gram matrix of a target is symmetric.
        let values = &mut op.inputs[0].1;
        *values = (0..64).map(|at| values[at] + values[at % 8 * 8 + at / 8]).collect();
        op.forward.clear(sum.buffer);
        gram(&mut op.forward, "test", &op.x, owned, &partial).unwrap();
        gram_reduce(&mut op.forward, "test", &partial, SCALE, &sum).unwrap();
        style_loss(&mut op.forward, "test", &sum, &target, SCALE, &d_gram, &op.y).unwrap();
        gram_backward(&mut op.backward, "test", &op.x, owned, &d_gram, &op.d_x).unwrap();
        op.check(&format!("style_loss {height}x{width}"));
    }
}

#[test]
fn losses_add_to_the_gradient_that_is_there() {
    for (height, width) in MAPS {
        let owned = inner(height, width);
        let mut op = Operation::new(&[height, width, 8], &[2], true);
        op.c = vec![0.25; 2];
        let target = op.random(&[height + 2, width + 1, 8]);
        for recording in [&mut op.forward, &mut op.backward] {
            content_loss(recording, "test", (&op.x, owned), (&target, 1, 1), 0.5, &op.d_x, &op.y).unwrap();
        }
        op.check(&format!("content_loss {height}x{width}"));

        let squares = Differences { row: 0.75, column: 1.25, ..Differences::default() };
        let nine = Differences { diagonal: 0.5, side: 1.0, top: 1.5, bottom: 0.25, ..squares };
        for differences in [squares, nine, Differences { absolute: true, ..squares }] {
            let mut op = Operation::new(&[height, width, 4], &[2], true);
            op.c = vec![1.0; 2];
            op.step = if differences.absolute { SHORT } else { LONG };
            for recording in [&mut op.forward, &mut op.backward] {
                total_variation(recording, &op.x, differences, &op.d_x, &op.y).unwrap();
            }
            op.check(&format!("total_variation {height}x{width}, {differences:?}"));
        }
    }
}

#[test]
fn a_copied_rectangle_passes_an_upstream_gradient_back() {
    for (height, width) in MAPS {
        let from = inner(height, width);
        let mut op = Operation::new(&[height, width, 4], &[height + 2, width + 3, 4], true);
        copy_rect(&mut op.forward, "test", (&op.x, from), (&op.y, 2, 1), Mode::Replace).unwrap();
        let d_y = op.upstream();
        let there = Rect { top: 2, left: 1, ..from };
        copy_rect(&mut op.backward, "test", (&d_y, there), (&op.d_x, from.top, from.left), Mode::Add).unwrap();
        op.check(&format!("copy_rect {height}x{width}"));
    }
}

/// An engine that a job and the test share: the test looks behind the job's back.
#[derive(Debug)]
struct Shared<E>(Arc<Mutex<E>>);

impl<E: Engine + 'static> Backend for Shared<E> {
    fn engine(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Shared(self.0.clone())))
    }
}

impl<E: Engine> Engine for Shared<E> {
    fn describe(&self) -> String {
        self.0.lock().unwrap().describe()
    }
    fn allocate(&mut self, table: &BufferTable) -> Result<()> {
        self.0.lock().unwrap().allocate(table)
    }
    fn prepare(&mut self, recording: &Recording) -> Result<Program> {
        self.0.lock().unwrap().prepare(recording)
    }
    fn run(&mut self, program: Program, times: u32) -> Result<()> {
        self.0.lock().unwrap().run(program, times)
    }
    fn write(&mut self, buffer: BufferId, values: &[f32]) -> Result<()> {
        self.0.lock().unwrap().write(buffer, values)
    }
    fn write_words(&mut self, buffer: BufferId, values: &[u32]) -> Result<()> {
        self.0.lock().unwrap().write_words(buffer, values)
    }
    fn read(&mut self, buffer: BufferId) -> Result<Vec<f32>> {
        self.0.lock().unwrap().read(buffer)
    }
    fn read_words(&mut self, buffer: BufferId) -> Result<Vec<u32>> {
        self.0.lock().unwrap().read_words(buffer)
    }
}

/// The part of a job's step that makes the gradient, and the tensors around it.
struct Step {
    recording: Recording,
    image: Tensor,
    d_image: Tensor,
    losses: Tensor,
}

/// What sets one job apart from another.
type Kind = (Pooling, Edge, StyleLoss, Convolution);

/// Every pooling and edge, and every loss whose gradient is its derivative.
const KINDS: [Kind; 5] = [
    (Pooling::Max, Edge::Zero, StyleLoss::Article, Convolution::Auto),
    (Pooling::Average, Edge::Zero, StyleLoss::Classic, Convolution::Auto),
    (Pooling::Max, Edge::Replicate, StyleLoss::Article, Convolution::Auto),
    (Pooling::L2, Edge::Zero, StyleLoss::Gatys, Convolution::Auto),
    (Pooling::Average, Edge::Zero, StyleLoss::ScaledMse, Convolution::Auto),
];

/// A job with every kind of term. Its buffers stay with the engine.
fn step(backend: &dyn Backend, height: usize, width: usize, (pooling, edge, style_loss, convolution): Kind) -> Step {
    let layers = |names: &[(&str, f32)]| -> Vec<(Tap, f32)> {
        names.iter().map(|(name, weight)| (name.parse().unwrap(), *weight)).collect()
    };
    let config = Config {
        size: Size::Native,
        style_size: Some(Size::Native),
        content_layers: layers(&[("relu1_2", 0.5), ("relu2_1", 1.0), ("relu3_1", 2.0)]),
        style_layers: layers(&[("relu1_1", 1.0), ("relu1_2", 0.5), ("relu2_2", 1.0), ("relu3_1", 2.0)]),
        style_loss,
        tv_weight: 3.0,
        tv: if pooling == Pooling::L2 { TotalVariation::NinePoint } else { TotalVariation::L2 },
        pooling,
        edge,
        convolution,
        init: Init::Picture(picture(3, height, width)),
        ..Config::default()
    };
    step_of(backend, &WEIGHTS, [picture(1, height, width), picture(2, 11, 9)], config)
}

fn step_of(backend: &dyn Backend, weights: &Weights, [content, style]: [Picture; 2], config: Config) -> Step {
    let job = StyleTransfer::new(backend, weights, &content, &[style], config).unwrap();
    let launches = || job.recording().commands.iter().filter_map(launch);
    let tensor = |kernel: &str, binding: &str| {
        let dispatch = launches().find(|dispatch| dispatch.kernel.name == kernel).unwrap();
        dispatch.tensors[dispatch.kernel.bindings.iter().position(|b| b.name == binding).unwrap()].clone()
    };
    let mut recording = job.recording().clone();
    let end = recording.commands.iter().position(|command| launch(command).is_some_and(|d| d.kernel.name == "adam"));
    recording.commands.truncate(end.unwrap());
    let (image, d_image) = (tensor("adam", "image"), tensor("adam", "d_image"));
    Step { recording, image, d_image, losses: tensor("log_losses", "losses") }
}

fn launch(command: &Command) -> Option<&Dispatch> {
    if let Command::Dispatch(dispatch) = command { Some(dispatch) } else { None }
}

/// The tensors that a launch writes.
fn written(dispatch: &Dispatch) -> impl Iterator<Item = &Tensor> {
    let access = dispatch.kernel.reflect().unwrap().bindings.iter().map(|(_, access)| *access);
    dispatch.tensors.iter().zip(access).filter(|(_, access)| *access == Access::ReadWrite).map(|(tensor, _)| tensor)
}

/// Loss and gradient have factors of their own, rounded to f32: worth some 1e-7, and nothing where sizes are powers of two.
#[test]
fn the_whole_networks_gradient_is_that_of_finite_differences() {
    for kind in KINDS {
        for (height, width) in [(16, 8), (8, 1), (12, 10), (7, 5), (1, 9), (9, 1), (2, 3)] {
            let engine = Arc::new(Mutex::new(CpuEngine::<f64>::new()));
            let step = step(&Shared(engine.clone()), height, width, kind);
            let mut engine = engine.lock().unwrap();
            let program = engine.prepare(&step.recording).unwrap();
            let kinks: Vec<_> = step.recording.commands.iter().filter_map(launch).flat_map(written).collect();
            let kinks: Vec<_> = kinks.into_iter().filter(|tensor| tensor.scalar == Scalar::U32).collect();
            let start = engine.values(step.image.buffer).unwrap().to_vec();
            let name = format!("network {height}x{width}, {kind:?}");
            let longest = if kind.2 == StyleLoss::ScaledMse { SHORT } else { LONG };
            finite_differences(&name, longest, &start, &directions(start.len(), 9), |x| {
                engine.values_mut(step.image.buffer).unwrap().copy_from_slice(x);
                engine.run(program, 1).unwrap();
                let kinks = kinks.iter().map(|tensor| engine.read_words(tensor.buffer).unwrap()).collect();
                let loss = engine.values(step.losses.buffer).unwrap().iter().sum();
                Point { loss, gradient: engine.values(step.d_image.buffer).unwrap().to_vec(), kinks }
            });
        }
    }
}

/// Runs a step launch by launch on a GPU and on the f64 twins. Activations, masks and winners go from the GPU to the
/// twins as soon as they are compared; what follows from them, Gram matrices and every gradient, is the twins' own.
fn follow(gpu: &impasto::gpu::Gpu, height: usize, width: usize, kind: Kind) {
    let name = format!("{height}x{width}, {kind:?}");
    let subject = Arc::new(Mutex::new(GpuEngine::new(gpu)));
    let oracle = Arc::new(Mutex::new(CpuEngine::<f64>::new()));
    let plan = step(&Shared(subject.clone()), height, width, kind);
    assert_eq!(plan.recording.to_string(), step(&Shared(oracle.clone()), height, width, kind).recording.to_string());
    let (mut subject, mut oracle) = (subject.lock().unwrap(), oracle.lock().unwrap());
    for tensor in plan.recording.commands.iter().filter_map(launch).flat_map(|dispatch| &dispatch.tensors) {
        hand_over(&mut *subject, &mut oracle, tensor);
    }
    let mut features = 0.0_f64;
    for command in &plan.recording.commands {
        let single = Recording { label: name.clone(), commands: vec![command.clone()] };
        let programs = (subject.prepare(&single).unwrap(), oracle.prepare(&single).unwrap());
        subject.run(programs.0, 1).unwrap();
        oracle.run(programs.1, 1).unwrap();
        let Some(dispatch) =
            launch(command).filter(|d| ["conv3x3", "winograd_output", "pool_max"].contains(&d.kernel.name))
        else {
            continue;
        };
        for tensor in written(dispatch) {
            if tensor.scalar == Scalar::F32 {
                features = features.max(difference(&mut *subject, &mut oracle, tensor));
            }
            hand_over(&mut *subject, &mut oracle, tensor);
        }
    }
    let losses = difference(&mut *subject, &mut oracle, &plan.losses);
    let gradient = difference(&mut *subject, &mut oracle, &plan.d_image);
    println!("{name}: features {features:.1e}, losses {losses:.1e}, gradient {gradient:.1e}");
    assert!(features <= 1e-5 && losses <= 1e-5 && gradient <= 1e-5, "{name}: {features}, {losses}, {gradient}");
}

/// Gives the oracle a tensor as the subject has it.
fn hand_over(subject: &mut dyn Engine, oracle: &mut CpuEngine<f64>, tensor: &Tensor) {
    match tensor.scalar {
        Scalar::F32 => oracle.write(tensor.buffer, &subject.read(tensor.buffer).unwrap()).unwrap(),
        Scalar::U32 => oracle.write_words(tensor.buffer, &subject.read_words(tensor.buffer).unwrap()).unwrap(),
    }
}

fn difference(subject: &mut dyn Engine, oracle: &mut CpuEngine<f64>, tensor: &Tensor) -> f64 {
    let [a, b] = [subject.read(tensor.buffer), oracle.read(tensor.buffer)].map(Result::unwrap);
    assert!(b.iter().any(|value| *value != 0.0), "nothing to compare");
    relative_error(&a[..tensor.len()], &b[..tensor.len()])
}

#[test]
fn a_gpus_gradient_is_that_of_the_twins() {
    let Some(gpu) = gpu("gradients") else { return };
    let kinds = [
        (Pooling::Max, Edge::Zero, StyleLoss::Article, Convolution::Auto),
        (Pooling::Average, Edge::Zero, StyleLoss::Article, Convolution::Auto),
        (Pooling::Max, Edge::Replicate, StyleLoss::Article, Convolution::Auto),
        (Pooling::L2, Edge::Zero, StyleLoss::ScaledMse, Convolution::Auto),
        (Pooling::Max, Edge::Zero, StyleLoss::Article, Convolution::Winograd),
    ];
    for kind in kinds {
        for (height, width) in [(37, 29), (12, 10), (7, 5), (1, 9), (9, 1)] {
            follow(&gpu, height, width, kind);
        }
    }
}
