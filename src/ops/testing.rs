//! The bench of the kernels' tests: one launch on the GPU and on the CPU engine, both against the twin in f64.
//!
//! Every buffer is longer than its tensor. What lies behind the tensor is poison: a kernel that reads it computes NaN, and
//! one that writes it is caught. Outputs start as poison too, except those that a kernel adds to, which start random.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../tests/common/mod.rs"]
mod common;

use super::Rect;
use super::half::{narrowed, widened};
use crate::cpu::CpuEngine;
use crate::gpu::{Gpu, UNCHECKED};
use crate::kernel::{Kernel, Needs, Scalar};
use crate::recording::{Backend, BufferTable, Command, Engine, Purpose, Recording, Tensor};
pub(super) use common::{gpu, noise, random_word};

/// Elements behind every tensor.
const GUARD: usize = 64;
/// A signalling NaN, which arithmetic never gives: even adding zero to it shows, since that makes it quiet.
const POISON: u32 = 0x7f80_dead;

/// How closely a result must agree with the twin.
#[derive(Clone, Copy)]
pub(super) struct Bars {
    /// Σ(a-b)² / Σb² of a tensor.
    nmse: f64,
    /// Of every element: |a-b| ≤ element · (|b| + root mean square of b).
    element: f64,
}

/// A handful of roundings per element.
pub(super) const ELEMENTWISE: Bars = Bars { nmse: 1e-12, element: 3e-6 };
/// Sums of hundreds of products.
pub(super) const PRODUCTS: Bars = Bars { nmse: 1e-11, element: 2e-5 };
/// The same by Winograd's transforms.
pub(super) const WINOGRAD: Bars = Bars { nmse: 1e-9, element: 1e-4 };

/// A handful of roundings in f32, then one to half: only what lies near the middle of two halves may go the other way. What
/// cuts off instead of rounding has an NMSE of about 1e-7, and so has what rounds in between.
pub(super) const HALVES: Bars = Bars { nmse: 2e-9, element: 1e-3 };
/// Sums of hundreds of products, rounded to half.
pub(super) const HALF_PRODUCTS: Bars = Bars { nmse: 5e-9, element: 1e-3 };
/// The same by Winograd's transforms.
pub(super) const HALF_WINOGRAD: Bars = Bars { nmse: 2e-8, element: 1e-3 };

/// Height and width of maps: every small parity, thin ones, and one that no tile divides.
pub(super) const MAPS: [(usize, usize); 14] = [
    (1, 1),
    (1, 2),
    (2, 1),
    (2, 2),
    (3, 3),
    (1, 7),
    (7, 1),
    (7, 7),
    (5, 8),
    (8, 5),
    (17, 33),
    (1, 50),
    (50, 1),
    (16, 16),
];
/// Channels: the picture's padded 3, odd multiples of 4, one tile of 64, just more, several.
pub(super) const CHANNELS: [usize; 6] = [4, 20, 64, 68, 128, 256];

/// Every map with every number of channels.
pub(super) fn maps() -> impl Iterator<Item = [usize; 3]> {
    MAPS.iter().flat_map(|&(height, width)| CHANNELS.map(|channels| [height, width, channels]))
}

/// The whole map, its middle, its last quarter, or its last position.
pub(super) fn owned(height: usize, width: usize, which: usize) -> Rect {
    let (top, left) = match which % 4 {
        0 => return Rect::whole(height, width),
        1 => {
            let (top, left) = (height / 4, width / 3);
            let size = [height - height / 3 - top, width - width / 4 - left].map(|size| size.max(1));
            return Rect { top, left, height: size[0], width: size[1] };
        }
        2 => (height / 2, width / 2),
        _ => (height - 1, width - 1),
    };
    Rect { top, left, height: height - top, width: width - left }
}

/// Whether an element of a `[.., width, channels]` map lies in a rectangle.
pub(super) fn within(rect: Rect, width: usize, channels: usize) -> impl Fn(usize) -> bool + 'static {
    move |at| {
        let (y, x) = (at / channels / width, at / channels % width);
        (rect.top..rect.top + rect.height).contains(&y) && (rect.left..rect.left + rect.width).contains(&x)
    }
}

/// How an operand is held against the twin's in f64.
#[derive(Clone, Copy, PartialEq)]
enum Compared {
    /// Floats within the bars, words exactly.
    Itself,
    /// Words of two halves, within the bars.
    Halves,
    /// Not at all: rounding near 0 may flip a mask, whose test looks at it.
    Not,
}

struct Operand {
    tensor: Tensor,
    /// What the buffer holds before the launch, guard included, as bits.
    start: Vec<u32>,
    /// Elements that the launch must write; all others must keep their bits.
    written: Box<dyn Fn(usize) -> bool>,
    compared: Compared,
}

/// One launch and its operands.
pub(super) struct Case {
    name: String,
    pub(super) recording: Recording,
    table: BufferTable,
    operands: Vec<Operand>,
}

impl Case {
    pub(super) fn new(name: impl Into<String>) -> Case {
        let name = name.into();
        Case { recording: Recording::new(&name), name, table: BufferTable::default(), operands: Vec::new() }
    }

    fn operand(
        &mut self,
        scalar: Scalar,
        shape: &[usize],
        mut start: Vec<u32>,
        written: impl Fn(usize) -> bool + 'static,
    ) -> Tensor {
        assert_eq!(start.len(), shape.iter().product::<usize>(), "{}: {shape:?}", self.name);
        start.resize(start.len() + GUARD, POISON);
        let buffer = self.table.add(&self.name, scalar, start.len(), Purpose::Tile);
        let tensor = Tensor { buffer, scalar, shape: shape.to_vec() };
        self.operands.push(Operand {
            tensor: tensor.clone(),
            start,
            written: Box::new(written),
            compared: Compared::Itself,
        });
        tensor
    }

    /// Numbers that differ from operand to operand and from case to case.
    pub(super) fn noise(&self, shape: &[usize]) -> Vec<f32> {
        noise(self.seed(), shape.iter().product())
    }

    fn seed(&self) -> u64 {
        self.name.bytes().fold(self.operands.len() as u64, |seed, byte| (seed * 31 + u64::from(byte)) & 0xffff_ffff)
    }

    pub(super) fn input(&mut self, shape: &[usize], values: &[f32]) -> Tensor {
        self.operand(Scalar::F32, shape, values.iter().map(|value| value.to_bits()).collect(), |_| false)
    }

    pub(super) fn random(&mut self, shape: &[usize]) -> Tensor {
        self.input(shape, &self.noise(shape))
    }

    /// Random values of a map whose last channel of four is padding: 0.
    pub(super) fn padded_noise(&self, shape: &[usize]) -> Vec<f32> {
        let pads = |(at, value)| if at % 4 == 3 { 0.0 } else { value };
        self.noise(shape).into_iter().enumerate().map(pads).collect()
    }

    pub(super) fn random_words(&mut self, shape: &[usize]) -> Tensor {
        let seed = self.seed();
        let words = (0..shape.iter().product::<usize>() as u64).map(|at| random_word(seed, at)).collect();
        self.operand(Scalar::U32, shape, words, |_| false)
    }

    pub(super) fn words(&mut self, values: &[u32], written: bool) -> Tensor {
        self.operand(Scalar::U32, &[values.len()], values.to_vec(), move |_| written)
    }

    /// Floats that the kernel writes (`=`), all of them.
    pub(super) fn output(&mut self, shape: &[usize]) -> Tensor {
        self.output_where(shape, |_| true)
    }

    /// Floats of which the kernel writes (`=`) some.
    pub(super) fn output_where(&mut self, shape: &[usize], written: impl Fn(usize) -> bool + 'static) -> Tensor {
        self.operand(Scalar::F32, shape, vec![POISON; shape.iter().product()], written)
    }

    /// Words that the kernel writes.
    pub(super) fn output_words(&mut self, shape: &[usize]) -> Tensor {
        self.operand(Scalar::U32, shape, vec![POISON; shape.iter().product()], |_| true)
    }

    /// As [`Case::output_words`], for words that the test itself derives from the result beside them.
    pub(super) fn output_mask(&mut self, shape: &[usize]) -> Tensor {
        let mask = self.output_words(shape);
        if let Some(operand) = self.operands.last_mut() {
            operand.compared = Compared::Not;
        }
        mask
    }

    fn as_halves(&mut self, tensor: Tensor) -> Tensor {
        if let Some(operand) = self.operands.last_mut() {
            operand.compared = Compared::Halves;
        }
        tensor
    }

    /// A map of halves, two in a word of `shape`.
    pub(super) fn halves(&mut self, shape: &[usize], values: &[f32]) -> Tensor {
        let mut words = vec![0; shape.iter().product()];
        narrowed(&mut words, values);
        let tensor = self.operand(Scalar::U32, shape, words, |_| false);
        self.as_halves(tensor)
    }

    pub(super) fn random_halves(&mut self, shape: &[usize]) -> Tensor {
        self.halves(shape, &self.noise(&[2 * shape.iter().product::<usize>()]))
    }

    /// Words of halves that the kernel writes (`=`), all of them.
    pub(super) fn output_halves(&mut self, shape: &[usize]) -> Tensor {
        self.halves_where(shape, false, |_| true)
    }

    /// Words of halves of which the kernel writes some, or adds to some.
    pub(super) fn halves_where(
        &mut self,
        shape: &[usize],
        adds: bool,
        written: impl Fn(usize) -> bool + 'static,
    ) -> Tensor {
        let mut start = vec![POISON; shape.iter().product()];
        if adds {
            let values = self.noise(&[2 * start.len()]);
            narrowed(&mut start, &values);
        }
        let tensor = self.operand(Scalar::U32, shape, start, written);
        self.as_halves(tensor)
    }

    /// Floats that the kernel adds to (`+=`) in some places.
    pub(super) fn update_where(&mut self, shape: &[usize], written: impl Fn(usize) -> bool + 'static) -> Tensor {
        let start = self.noise(shape).iter().map(|value| value.to_bits()).collect();
        self.operand(Scalar::F32, shape, start, written)
    }

    /// Floats that the kernel changes everywhere, from these on.
    pub(super) fn update_with(&mut self, shape: &[usize], start: &[f32]) -> Tensor {
        self.operand(Scalar::F32, shape, start.iter().map(|value| value.to_bits()).collect(), |_| true)
    }

    /// Folds the launch's grid from x into z, as a map of more than 65,535 workgroups would.
    pub(super) fn fold(&mut self) {
        if let Some(Command::Dispatch(dispatch)) = self.recording.commands.last_mut() {
            dispatch.grid = [dispatch.grid[0].div_ceil(3), dispatch.grid[1], 3];
        }
    }

    fn run(&self, engine: &mut dyn Engine) {
        engine.allocate(&self.table).unwrap();
        for operand in &self.operands {
            let buffer = operand.tensor.buffer;
            match operand.tensor.scalar {
                Scalar::F32 => engine.write(buffer, &floats(&operand.start)).unwrap(),
                Scalar::U32 => engine.write_words(buffer, &operand.start).unwrap(),
            }
        }
        let program = engine.prepare(&self.recording).unwrap();
        engine.run(program, 1).unwrap();
    }

    /// Bits of every buffer, guards included.
    fn bits(&self, engine: &mut dyn Engine) -> Vec<Vec<u32>> {
        let read = |operand: &Operand| match operand.tensor.scalar {
            Scalar::F32 => engine.read(operand.tensor.buffer).unwrap().iter().map(|value| value.to_bits()).collect(),
            Scalar::U32 => engine.read_words(operand.tensor.buffer).unwrap(),
        };
        self.operands.iter().map(read).collect()
    }

    fn index(&self, tensor: &Tensor) -> usize {
        self.operands.iter().position(|operand| operand.tensor == *tensor).unwrap()
    }
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|bits| f32::from_bits(*bits)).collect()
}

/// What a launch left behind.
pub(super) struct Ran<'a> {
    case: &'a Case,
    bits: Vec<Vec<u32>>,
    /// Engine and case, for messages.
    pub(super) name: String,
}

impl Ran<'_> {
    pub(super) fn words(&self, tensor: &Tensor) -> &[u32] {
        &self.bits[self.case.index(tensor)][..tensor.len()]
    }

    pub(super) fn floats(&self, tensor: &Tensor) -> Vec<f32> {
        floats(self.words(tensor))
    }

    /// The values of a map of halves.
    pub(super) fn halves(&self, tensor: &Tensor) -> Vec<f32> {
        let mut values = vec![0.0; 2 * tensor.len()];
        widened(&mut values, self.words(tensor));
        values
    }

    /// Panics unless the last channel of every four is exactly 0.
    pub(super) fn check_padding(&self, tensor: &Tensor) {
        let padding: Vec<f32> = self.floats(tensor).into_iter().skip(3).step_by(4).collect();
        assert!(padding.iter().all(|value| *value == 0.0), "{}: padding is {padding:?}", self.name);
    }

    /// Panics unless exactly the elements that should be written were, none of them with NaN, and no guard.
    fn check_writes(&self) {
        for (operand, bits) in self.case.operands.iter().zip(&self.bits) {
            let len = operand.tensor.len();
            for (at, (now, start)) in bits.iter().zip(&operand.start).enumerate() {
                let place = if at < len { "tensor" } else { "guard" };
                let shape = &operand.tensor.shape;
                if at >= len || !(operand.written)(at) {
                    assert_eq!(now, start, "{}: writes {place} {shape:?} at {at}", self.name);
                } else {
                    let lost = operand.tensor.scalar == Scalar::F32 && f32::from_bits(*now).is_nan();
                    assert!(!lost && *now != POISON, "{}: no value in {shape:?} at {at}", self.name);
                }
            }
        }
    }
}

/// Runs the cases of one kernel and keeps the worst disagreement.
pub(super) struct Bench {
    kernel: &'static Kernel,
    bars: Bars,
    /// Those of the CPU engine, where its twin takes another way than the shader.
    pub(super) cpu_bars: Bars,
    /// One, or where the kernel may run without checks, one with them and one without.
    gpus: Vec<Gpu>,
    cases: usize,
    worst: [f64; 2],
}

impl Bench {
    pub(super) fn new(kernel: &'static Kernel, bars: Bars) -> Bench {
        let mut gpus: Vec<Gpu> = gpu(kernel.name).into_iter().collect();
        if UNCHECKED.contains(&kernel.name) {
            gpus.extend(common::gpu_with(kernel.name, !common::checked()));
        }
        gpus.retain(|gpu| {
            let edge = gpu.matrices().map(|matrices| matrices.edge);
            let has = match kernel.needs {
                Needs::Nothing => true,
                Needs::Matrices16 => edge == Some(16),
                Needs::Matrices8 => edge == Some(8),
            };
            if !has {
                common::skip(kernel.name, &format!("{} lacks {:?}", gpu.name(), kernel.needs));
            }
            has
        });
        Bench { kernel, bars, cpu_bars: bars, gpus, cases: 0, worst: [0.0; 2] }
    }

    /// Threads of a subgroup of the GPU's, where it has matrix units.
    pub(super) fn subgroup(&self) -> Option<u32> {
        Some(self.gpus.first()?.matrices()?.subgroup)
    }

    pub(super) fn run(&mut self, case: &Case) {
        self.run_and(case, |_| {});
    }

    /// Runs a case on both engines against the oracle, then lets the test look at what each left.
    pub(super) fn run_and(&mut self, case: &Case, check: impl Fn(&Ran<'_>)) {
        let mut oracle = CpuEngine::<f64>::new();
        case.run(&mut oracle);
        let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(CpuEngine::<f32>::new())];
        engines.extend(self.gpus.iter().map(|gpu| gpu.engine().unwrap()));
        for (which, mut engine) in engines.into_iter().enumerate() {
            case.run(engine.as_mut());
            let name = format!("{} {} on {}", self.kernel.name, case.name, engine.describe());
            let ran = Ran { case, bits: case.bits(engine.as_mut()), name };
            ran.check_writes();
            for (operand, bits) in
                case.operands.iter().zip(&ran.bits).filter(|(operand, _)| operand.compared != Compared::Not)
            {
                let tensor = &operand.tensor;
                let place = format!("{} {:?}", ran.name, tensor.shape);
                if operand.compared == Compared::Halves {
                    let expected = oracle.read_words(tensor.buffer).unwrap();
                    let pairs = bits.iter().zip(&expected).take(tensor.len()).enumerate();
                    let pairs = pairs.filter(|(at, _)| (operand.written)(*at));
                    let values = |word: u32| {
                        let mut values = [0.0_f64; 2];
                        widened(&mut values, &[word]);
                        values
                    };
                    let pairs: Vec<(f64, f64)> =
                        pairs.flat_map(|(_, (a, b))| values(*a).into_iter().zip(values(*b))).collect();
                    let nmse = [self.cpu_bars, self.bars][which.min(1)].check(&pairs, &place);
                    let worst = &mut self.worst[which.min(1)];
                    *worst = worst.max(nmse);
                    continue;
                }
                if tensor.scalar == Scalar::U32 {
                    assert_eq!(*bits, oracle.read_words(tensor.buffer).unwrap(), "{place}: words");
                    continue;
                }
                let pairs = bits.iter().zip(oracle.values(tensor.buffer).unwrap()).take(tensor.len()).enumerate();
                let pairs = pairs.filter(|(at, _)| (operand.written)(*at));
                let pairs: Vec<(f64, f64)> = pairs.map(|(_, (a, b))| (f64::from(f32::from_bits(*a)), *b)).collect();
                let nmse = [self.cpu_bars, self.bars][which.min(1)].check(&pairs, &place);
                let worst = &mut self.worst[which.min(1)];
                *worst = worst.max(nmse);
            }
            check(&ran);
        }
        self.cases += 1;
    }

    /// Says how it went, and makes sure that the loops above were not empty.
    pub(super) fn finish(self) {
        self.finish_after(40);
    }

    /// As [`Bench::finish`], for a test of so many cases.
    pub(super) fn finish_after(self, cases: usize) {
        let [cpu, gpu] = self.worst;
        println!("{:22} {} cases, worst NMSE: CPU {cpu:.1e}, GPU {gpu:.1e}", self.kernel.name, self.cases);
        assert!(self.cases >= cases, "{}: only {} cases", self.kernel.name, self.cases);
    }
}

impl Bars {
    fn check(self, pairs: &[(f64, f64)], place: &str) -> f64 {
        let energy: f64 = pairs.iter().map(|(_, b)| b * b).sum();
        let error: f64 = pairs.iter().map(|(a, b)| (a - b) * (a - b)).sum();
        let scale = (energy / pairs.len().max(1) as f64).sqrt();
        for (at, (a, b)) in pairs.iter().enumerate() {
            let bound = self.element * (b.abs() + scale);
            assert!((a - b).abs() <= bound, "{place}: element {at} is {a:e}, expected {b:e} ± {bound:.1e}");
        }
        let nmse = if error == 0.0 { 0.0 } else { error / energy };
        assert!(nmse <= self.nmse, "{place}: NMSE {nmse:.1e}");
        nmse
    }
}
