//! What the plans really launch: recordings of whole runs, taken from an engine that computes nothing.

use std::sync::{Arc, Mutex};

use impasto::error::Result;
use impasto::kernel::Kernel;
use impasto::net::check::matrix_units_agree;
use impasto::net::edge::Edge;
use impasto::net::plan::Pooling;
use impasto::ops::KERNELS;
use impasto::picture::Picture;
use impasto::recording::{
    Backend, Block, BufferId, BufferTable, Choices, Command, Dispatch, Engine, Matrices, Method, Program, Recording,
    Rule,
};
use impasto::transfer::{Config, Precision, Size, StyleLoss, StyleTransfer};
use impasto::weights::builtin::builtin;

/// Values of a shader's overrides.
pub(crate) type Constants = Vec<(&'static str, f64)>;

#[derive(Clone, Debug, Default)]
struct Spy {
    choices: Choices,
    seen: Arc<Mutex<Vec<Dispatch>>>,
}

#[derive(Debug)]
struct SpyEngine {
    spy: Spy,
    /// Hands out programs; it only ever sees empty recordings.
    real: Box<dyn Engine>,
    /// Lengths of the buffers, which read as zeros.
    lens: Vec<usize>,
}

impl Backend for Spy {
    fn engine(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(SpyEngine { spy: self.clone(), real: impasto::cpu::Cpu.engine()?, lens: Vec::new() }))
    }
    fn choices(&self) -> Choices {
        self.choices.clone()
    }
}

impl Engine for SpyEngine {
    fn describe(&self) -> String {
        "spy".into()
    }
    fn allocate(&mut self, table: &BufferTable) -> Result<()> {
        self.lens = table.infos().iter().map(|info| info.len).collect();
        Ok(())
    }
    fn prepare(&mut self, recording: &Recording) -> Result<Program> {
        let dispatches = recording.commands.iter().filter_map(|command| match command {
            Command::Dispatch(dispatch) => Some(dispatch.clone()),
            _ => None,
        });
        self.spy.seen.lock().unwrap().extend(dispatches);
        self.real.prepare(&Recording::new("empty"))
    }
    fn run(&mut self, _: Program, _: u32) -> Result<()> {
        Ok(())
    }
    fn write(&mut self, _: BufferId, _: &[f32]) -> Result<()> {
        Ok(())
    }
    fn write_words(&mut self, _: BufferId, _: &[u32]) -> Result<()> {
        Ok(())
    }
    fn read(&mut self, buffer: BufferId) -> Result<Vec<f32>> {
        Ok(vec![0.0; self.lens[buffer.index()]])
    }
    fn read_words(&mut self, _: BufferId) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }
}

/// Every launch of runs that differ in size, tiles, pooling, losses and methods of convolution.
pub(crate) fn launches() -> Vec<Dispatch> {
    let mut spy = Spy::default();
    let weights = builtin(9);
    let layers = |names: &[&str]| names.iter().map(|name| (name.parse().unwrap(), 1.0)).collect::<Vec<_>>();
    use StyleLoss::{Article, ScaledMse, Wasserstein};
    for (width, height, tile, pooling, style_loss) in [
        (37, 29, Some(16), Pooling::Max, Wasserstein),
        (1, 1, None, Pooling::Average, Article),
        (7, 5, None, Pooling::L2, ScaledMse),
        (1920, 1080, None, Pooling::Max, Wasserstein),
    ] {
        let picture = Picture { height, width, rgb: vec![100.0; height * width * 3] };
        let config = Config {
            size: Size::Native,
            style_size: Some(Size::Native),
            content_layers: layers(&["relu1_1", "relu4_1"]),
            style_layers: layers(&["relu1_1", "relu2_1", "relu3_1", "relu4_1"]),
            style_loss,
            tv_weight: 1.0,
            pooling,
            tile,
            ..Config::default()
        };
        StyleTransfer::new(&spy, &weights, &picture, std::slice::from_ref(&picture), config).unwrap();
    }
    for method in Block::ALL.into_iter().flat_map(|block| [Method::Direct(block), Method::Winograd(block)]) {
        spy.choices = Choices { rules: vec![Rule::always(method)] };
        let picture = Picture { height: 9, width: 10, rgb: vec![100.0; 270] };
        let config = Config { size: Size::Native, ..Config::default() };
        StyleTransfer::new(&spy, &weights, &picture, std::slice::from_ref(&picture), config).unwrap();
    }
    // Matrix units of both sizes, with one and two columns of subgroups: a spy computes nothing, so that no run trusts them.
    for (edge, subgroup) in [(8, 32), (16, 32), (16, 64)] {
        assert!(!matrix_units_agree(&spy, Matrices { edge, subgroup }).unwrap());
    }
    // Halves: every pooling and block, a cropped edge.
    for (at, block) in Block::ALL.into_iter().enumerate() {
        spy.choices = Choices { rules: vec![Rule::always(Method::Direct(block))] };
        let picture = Picture { height: 9, width: 10, rgb: vec![100.0; 270] };
        let config = Config {
            size: Size::Native,
            pooling: [Pooling::Max, Pooling::Average, Pooling::L2][at % 3],
            edge: if at == 0 { Edge::Replicate } else { Edge::Zero },
            precision: Precision::F16,
            ..Config::default()
        };
        StyleTransfer::new(&spy, &weights, &picture, std::slice::from_ref(&picture), config).unwrap();
    }
    let seen = spy.seen.lock().unwrap();
    seen.clone()
}

/// Every kernel with its defaults and with each set of override values that a run uses.
pub(crate) fn variants() -> Vec<(&'static Kernel, Constants)> {
    let mut variants: Vec<(&'static Kernel, Constants)> = KERNELS.iter().map(|kernel| (*kernel, Vec::new())).collect();
    for launch in launches() {
        let known = |(kernel, constants): &(&Kernel, Constants)| {
            kernel.name == launch.kernel.name && *constants == launch.constants
        };
        if !variants.iter().any(known) {
            variants.push((launch.kernel, launch.constants));
        }
    }
    for kernel in KERNELS.iter().filter(|kernel| kernel.source.contains("\noverride ")) {
        let used = variants.iter().any(|(other, constants)| other.name == kernel.name && !constants.is_empty());
        assert!(used, "{} has overrides, but no run above launches it: add one that does", kernel.name);
    }
    variants
}
