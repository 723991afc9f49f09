//! L-BFGS: vectors of the picture's size stay on the engine, numbers about them are the host's.
//!
//! The two-loop recursion of Nocedal and Wright, algorithm 7.4, in the form of Chen, Wang and Zhou 2014 ("Large-scale
//! L-BFGS using MapReduce"): the direction is a sum of the remembered vectors, whose coefficients follow from their dot
//! products alone. Of those only the ones with new vectors are computed in a step, so that the host reads a few numbers
//! twice a step instead of one for every pair. Steps and their first lengths are those of `torch.optim.LBFGS`.

use super::line_search::{Point, search};
use super::optimizer;
use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::bands::Bands;
use crate::net::plan::Workspace;
use crate::ops::Rect;
use crate::ops::copy_rect::{Mode, copy_rect};
use crate::ops::loss::partials;
use crate::ops::vector::{absolute_sum, add_scaled, dot};
use crate::recording::{Engine, Program, Purpose, Recording, Tensor};

mod memory;

pub(super) use memory::Memory;

/// Places in `factors`.
const ONE: usize = 0;
const MINUS: usize = 1;
const LENGTH: usize = 2;
const GRADIENT: usize = 3;
const PAIRS: usize = 4;
/// Places in `dots`.
const SLOPE: usize = 0;
const START_SLOPE: usize = 1;
const NORM: usize = 2;
const STEP_STEP: usize = 3;
const PRODUCTS: usize = 4;

/// The buffers beside picture and gradient.
#[derive(Clone, Debug)]
pub(super) struct Vectors {
    /// Where a search starts, the direction, and the gradient at its start.
    origin: Bands,
    direction: Bands,
    before: Bands,
    /// The gradient at the best point of a search, which another was tried after.
    best: Bands,
    /// What is remembered: steps and the differences of the gradients at their ends.
    pub(super) steps: Vec<Bands>,
    pub(super) differences: Vec<Bands>,
    factors: Tensor,
    dots: Tensor,
}

/// What the engine runs beside the gradient.
#[derive(Debug)]
pub(super) struct Parts<P> {
    /// The L1 norm of the gradient.
    norm: P,
    /// The direction out of what is remembered; the search starts here.
    aim: P,
    /// `image = origin + length * direction`.
    go: P,
    /// Slopes along the direction.
    measure: P,
    /// The gradient here may be needed again.
    keep: P,
    /// It is.
    recall: P,
    /// Back to where the search started.
    back: P,
    /// Remembers the step made in place of pair k, with every dot product that is new.
    remember: Vec<P>,
    /// Ends an iteration.
    settle: P,
}

impl<P> Parts<P> {
    pub(super) fn each(&self) -> impl Iterator<Item = &P> {
        let Parts { norm, aim, go, measure, keep, recall, back, remember, settle } = self;
        [norm, aim, go, measure, keep, recall, back, settle].into_iter().chain(remember)
    }

    fn map<Q>(&self, mut of: impl FnMut(&P) -> Result<Q>) -> Result<Parts<Q>> {
        Ok(Parts {
            norm: of(&self.norm)?,
            aim: of(&self.aim)?,
            go: of(&self.go)?,
            measure: of(&self.measure)?,
            keep: of(&self.keep)?,
            recall: of(&self.recall)?,
            back: of(&self.back)?,
            remember: self.remember.iter().map(&mut of).collect::<Result<_>>()?,
            settle: of(&self.settle)?,
        })
    }
}

impl Parts<Recording> {
    /// What an iteration runs whose first step is taken, which are nearly all.
    pub(super) fn usual(self) -> Vec<Recording> {
        let Parts { aim, go, measure, remember, settle, .. } = self;
        let pair = remember.into_iter().next();
        [aim, measure.clone(), go, measure].into_iter().chain(pair).chain([settle]).collect()
    }
}

impl Vectors {
    pub(super) fn new(work: &mut Workspace, size: [usize; 2], limit: u64, history: usize) -> Vectors {
        let table = &mut work.table;
        let mut bands = |label: &str| Bands::new(table, label, size, Purpose::Image, limit);
        let [origin, direction, before, best] = ["origin", "direction", "before", "best"].map(&mut bands);
        let steps = (0..history).map(|k| bands(&format!("step {k}"))).collect();
        let differences = (0..history).map(|k| bands(&format!("difference {k}"))).collect();
        let mut tensor = |label: &str, len| table.tensor(label, Scalar::F32, &[len], Purpose::Reduction);
        let factors = tensor("factors", PAIRS + 2 * history);
        let dots = tensor("dots", PRODUCTS + 5 * history);
        Vectors { origin, direction, before, best, steps, differences, factors, dots }
    }

    /// Everything but the gradient and the end of an iteration.
    pub(super) fn record(
        &self,
        work: &mut Workspace,
        (image, d_image): (&Bands, &Bands),
        settle: Recording,
    ) -> Result<Parts<Recording>> {
        let Vectors { origin, direction, before, best, steps, differences, .. } = self;
        let history = steps.len();
        let mut norm = Recording::new("norm");
        norm.clear(self.dots.buffer);
        for band in d_image.tensors() {
            let partial = work.take("partial", Scalar::F32, &[partials(band.len() / 4)]);
            absolute_sum(&mut norm, "norm", band, &partial, (&self.dots, NORM))?;
            work.give(partial);
        }
        let mut aim = Recording::new("direction");
        direction.clear(&mut aim);
        self.add(&mut aim, d_image, GRADIENT, direction)?;
        for (k, vector) in steps.iter().chain(differences).enumerate() {
            self.add(&mut aim, vector, PAIRS + k, direction)?;
        }
        copy(&mut aim, image, origin)?;
        copy(&mut aim, d_image, before)?;
        let mut go = Recording::new("go");
        copy(&mut go, origin, image)?;
        self.add(&mut go, direction, LENGTH, image)?;
        let mut measure = Recording::new("slopes");
        measure.clear(self.dots.buffer);
        self.dot(work, &mut measure, [d_image, direction], SLOPE)?;
        self.dot(work, &mut measure, [before, direction], START_SLOPE)?;
        let mut keep = Recording::new("keep");
        copy(&mut keep, d_image, best)?;
        let mut recall = Recording::new("recall");
        copy(&mut recall, best, d_image)?;
        let mut back = Recording::new("back");
        copy(&mut back, origin, image)?;
        copy(&mut back, before, d_image)?;
        let mut pair = |k: usize| {
            let mut recording = Recording::new(format!("remember {k}"));
            let (step, difference) = (&steps[k], &differences[k]);
            step.clear(&mut recording);
            self.add(&mut recording, direction, LENGTH, step)?;
            difference.clear(&mut recording);
            self.add(&mut recording, d_image, ONE, difference)?;
            self.add(&mut recording, before, MINUS, difference)?;
            recording.clear(self.dots.buffer);
            self.dot(work, &mut recording, [step, step], STEP_STEP)?;
            for j in 0..history {
                let at = PRODUCTS + 5 * j;
                self.dot(work, &mut recording, [step, &differences[j]], at)?;
                self.dot(work, &mut recording, [difference, &steps[j]], at + 1)?;
                self.dot(work, &mut recording, [difference, &differences[j]], at + 2)?;
                self.dot(work, &mut recording, [d_image, &steps[j]], at + 3)?;
                self.dot(work, &mut recording, [d_image, &differences[j]], at + 4)?;
            }
            Ok(recording)
        };
        let remember = (0..history).map(&mut pair).collect::<Result<_>>()?;
        Ok(Parts { norm, aim, go, measure, keep, recall, back, remember, settle })
    }

    /// `to += factors[slot] * from`.
    fn add(&self, recording: &mut Recording, from: &Bands, slot: usize, to: &Bands) -> Result<()> {
        let bands = from.tensors().iter().zip(to.tensors());
        bands.into_iter().try_for_each(|(from, to)| add_scaled(recording, "vector", from, (&self.factors, slot), to))
    }

    /// `dots[slot] += a · b`.
    fn dot(&self, work: &mut Workspace, recording: &mut Recording, [a, b]: [&Bands; 2], slot: usize) -> Result<()> {
        for (a, b) in a.tensors().iter().zip(b.tensors()) {
            let partial = work.take("partial", Scalar::F32, &[partials(a.len() / 4)]);
            dot(recording, "vector", [a, b], &partial, (&self.dots, slot))?;
            work.give(partial);
        }
        Ok(())
    }
}

fn copy(recording: &mut Recording, from: &Bands, to: &Bands) -> Result<()> {
    from.tensors().iter().zip(to.tensors()).try_for_each(|(from, to)| {
        let whole = Rect::whole(from.shape[0], from.shape[1]);
        copy_rect(recording, "vector", (from, whole), (to, 0, 0), Mode::Replace)
    })
}

/// The optimiser at work.
#[derive(Debug)]
pub(super) struct Lbfgs {
    vectors: Vectors,
    gradient: Program,
    parts: Parts<Program>,
    losses: Tensor,
    learning_rate: f64,
    pub(super) memory: Memory,
    /// Losses of the picture as it is, whose gradient the engine has; `None` where they have to be computed.
    terms: Option<Vec<f32>>,
    factors: Vec<f32>,
}

impl Lbfgs {
    pub(super) fn new(
        engine: &mut dyn Engine,
        settings: optimizer::Lbfgs,
        vectors: &Vectors,
        (gradient, parts): (Program, &Parts<Recording>),
        losses: &Tensor,
    ) -> Result<Lbfgs> {
        let history = vectors.steps.len();
        let mut factors = vec![0.0; PAIRS + 2 * history];
        (factors[ONE], factors[MINUS]) = (1.0, -1.0);
        Ok(Lbfgs {
            parts: parts.map(|recording| engine.prepare(recording))?,
            vectors: vectors.clone(),
            gradient,
            losses: losses.clone(),
            learning_rate: f64::from(settings.learning_rate),
            memory: Memory::new(history),
            terms: None,
            factors,
        })
    }

    /// One step along one direction. Gives the losses before it. Nothing is done where they are not finite.
    pub(super) fn step(&mut self, engine: &mut dyn Engine) -> Result<Vec<f32>> {
        let terms = match self.terms.take() {
            Some(terms) => terms,
            None => self.evaluate(engine)?,
        };
        let loss = total(&terms);
        if !loss.is_finite() {
            self.terms = Some(terms.clone());
            return Ok(terms);
        }
        let (mut first, mut slope) = self.aim(engine)?;
        let descends = |slope: f64| slope.is_finite() && slope < 0.0;
        if !self.memory.order.is_empty() && !descends(slope) {
            self.memory.order.clear();
            (first, slope) = self.aim(engine)?;
        }
        let mut last = (0.0, terms.clone());
        let mut best = last.clone();
        let start = Point { length: 0.0, loss, slope };
        let found = match descends(slope) {
            true => search(start, first, &mut |length, keep| {
                if keep {
                    engine.run(self.parts.keep, 1)?;
                    best.clone_from(&last);
                }
                let point = self.at(engine, length)?;
                last = (length, point.1);
                Ok(point.0)
            })?,
            false => start,
        };
        self.terms = Some(if found.length == 0.0 {
            self.short_step(engine, &terms)?
        } else {
            if found.length != last.0 {
                // The best point is not the last one.
                engine.run(self.parts.recall, 1)?;
                self.go(engine, found.length)?;
                last = best;
            }
            self.remember(engine)?;
            last.1
        });
        engine.run(self.parts.settle, 1)?;
        Ok(terms)
    }

    /// Losses and gradient of the picture as it is.
    fn evaluate(&mut self, engine: &mut dyn Engine) -> Result<Vec<f32>> {
        engine.run(self.gradient, 1)?;
        engine.read(self.losses.buffer)
    }

    /// Sets the direction. Gives the first length to try and the slope.
    fn aim(&mut self, engine: &mut dyn Engine) -> Result<(f64, f64)> {
        let history = self.vectors.steps.len();
        let first = match self.memory.order.is_empty() {
            true => {
                engine.run(self.parts.norm, 1)?;
                let norm = f64::from(engine.read(self.vectors.dots.buffer)?[NORM]);
                (1.0 / norm).min(1.0)
            }
            false => 1.0,
        };
        for (factor, value) in self.factors[GRADIENT..].iter_mut().zip(self.memory.direction(history)) {
            *factor = value as f32;
        }
        engine.write(self.vectors.factors.buffer, &self.factors)?;
        engine.run(self.parts.aim, 1)?;
        engine.run(self.parts.measure, 1)?;
        let slope = engine.read(self.vectors.dots.buffer)?[START_SLOPE];
        Ok((first * self.learning_rate, f64::from(slope)))
    }

    fn go(&mut self, engine: &mut dyn Engine, length: f64) -> Result<()> {
        self.factors[LENGTH] = length as f32;
        engine.write(self.vectors.factors.buffer, &self.factors)?;
        engine.run(self.parts.go, 1)
    }

    fn at(&mut self, engine: &mut dyn Engine, length: f64) -> Result<(Point, Vec<f32>)> {
        self.go(engine, length)?;
        let terms = self.evaluate(engine)?;
        engine.run(self.parts.measure, 1)?;
        let slope = f64::from(engine.read(self.vectors.dots.buffer)?[SLOPE]);
        Ok((Point { length, loss: total(&terms), slope }, terms))
    }

    fn remember(&mut self, engine: &mut dyn Engine) -> Result<()> {
        let history = self.vectors.steps.len();
        let used = |slot: &usize| self.memory.order.contains(&(*slot as u32));
        let oldest = self.memory.order.first().map_or(0, |slot| *slot as usize);
        let slot = (0..history).find(|slot| !used(slot)).unwrap_or(oldest);
        engine.run(self.parts.remember[slot], 1)?;
        let dots = engine.read(self.vectors.dots.buffer)?;
        self.memory.learn(history, slot, &dots);
        Ok(())
    }

    /// Where the search found nothing better: what is remembered is forgotten, and the picture moves a little along the
    /// gradient. The losses there; where those are not finite it stays, with the losses that it has.
    fn short_step(&mut self, engine: &mut dyn Engine, terms: &[f32]) -> Result<Vec<f32>> {
        self.memory.order.clear();
        engine.run(self.parts.back, 1)?;
        let (length, _) = self.aim(engine)?;
        if length.is_finite() {
            let (_, there) = self.at(engine, length)?;
            if total(&there).is_finite() {
                return Ok(there);
            }
            engine.run(self.parts.back, 1)?;
        }
        Ok(terms.to_vec())
    }
}

fn total(terms: &[f32]) -> f64 {
    terms.iter().map(|term| f64::from(*term)).sum()
}
