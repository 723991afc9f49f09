//! Times methods, and makes rules of the times.

use std::time::{Duration, Instant};

use super::{Bench, Dropped, Timing};
use crate::error::{Error, Result};
use crate::net::alone::Alone;
use crate::recording::{Choices, Method, Pass, Rule};

/// Layers with channels of every kind, those with most work in an iteration first; conv5_1 has conv4_2's channels at a
/// quarter of the positions.
const LAYERS: [usize; 7] = [1, 3, 5, 9, 2, 4, 8];
/// A device wakes up, and its clock rises, in the first tenths of a second.
const WARM_UP: Duration = Duration::from_millis(150);
/// Repetitions, of which the fastest counts.
const REPEAT: u32 = 3;
/// A method so many times slower than another is not repeated.
const HOPELESS: f64 = 1.5;
/// How much faster a method must be than the one listed before it, to be taken: below this is chance.
const GAIN: f64 = 0.98;

/// Times the methods on every layer and size, until the time is up. One that fails is dropped.
pub(super) fn all(
    bench: &mut Bench<'_>,
    (sizes, deadline): (&[usize], Instant),
    methods: &[Method],
    trying: &mut impl FnMut(Option<Method>),
    dropped: &mut Vec<Dropped>,
) -> Result<Vec<Timing>> {
    let mut timings: Vec<Timing> = Vec::new();
    let mut cold = true;
    for (size, layer) in sizes.iter().flat_map(|size| LAYERS.map(|layer| (*size, layer))) {
        let mut best = [f64::MAX; 2];
        let mut here = Vec::new();
        for method in methods {
            if dropped.iter().any(|dropped| dropped.method == *method) {
                continue;
            }
            if Instant::now() >= deadline {
                // A layer that is not complete has no winner.
                return Ok(timings);
            }
            trying(Some(*method));
            match one(bench, layer, size, *method, (&mut best, std::mem::take(&mut cold))) {
                Ok(more) => here.extend(more),
                // No room for it in this size: it does not take part.
                Err(Error::OutOfMemory { .. }) => {}
                Err(error) => {
                    bench.recover(&error)?;
                    dropped.push(Dropped { method: *method, why: format!("fails while it is timed: {error}") });
                    timings.retain(|timing| timing.method != *method);
                }
            }
            trying(None);
        }
        timings.extend(here);
    }
    Ok(timings)
}

/// Both passes of a layer.
fn one(
    bench: &mut Bench<'_>,
    layer: usize,
    size: usize,
    method: Method,
    (best, cold): (&mut [f64; 2], bool),
) -> Result<[Timing; 2]> {
    let case = Alone::new(layer, [size; 2], &Choices { rules: vec![Rule::always(method)] })?;
    let room = bench.backend.room();
    if case.table.largest() > room.binding || case.table.total() > room.memory {
        let (what, hint) = ("a case to be timed".into(), String::new());
        return Err(Error::OutOfMemory { what, needed: case.table.total(), available: room.memory, hint });
    }
    // Filters stay zero: what is multiplied does not bear on which method is faster, and transforming them takes longer
    // than all the rest.
    bench.load(&case)?;
    let engine = bench.engine.as_mut();
    let programs = [engine.prepare(&case.forward)?, engine.prepare(&case.backward)?];
    let awake = Instant::now();
    while cold && awake.elapsed() < WARM_UP {
        engine.profile(programs[0], 1)?;
    }
    let mut seconds = [f64::MAX; 2];
    for ((program, seconds), best) in programs.into_iter().zip(&mut seconds).zip(best) {
        for repetition in 0..REPEAT {
            let timed = engine.profile(program, 1)?;
            let took: f64 = timed.seconds.iter().flatten().sum();
            // The first one compiles, on some drivers.
            if repetition > 0 || took > HOPELESS * *best {
                *seconds = seconds.min(took);
            }
            if took > HOPELESS * *best && repetition > 0 {
                break;
            }
        }
        *best = best.min(*seconds);
    }
    let timing = |pass, seconds| Timing { geometry: case.geometry(pass), method, seconds };
    Ok([timing(Pass::Forward, seconds[0]), timing(Pass::Backward, seconds[1])])
}

/// The fastest method for every kind of convolution that was timed; between two sizes of map the nearer one's, as factors
/// go.
pub(super) fn rules(timings: &[Timing]) -> Vec<Rule> {
    let mut kinds: Vec<(Pass, usize, usize)> = Vec::new();
    for Timing { geometry: at, .. } in timings {
        if !kinds.contains(&(at.pass, at.reads, at.writes)) {
            kinds.push((at.pass, at.reads, at.writes));
        }
    }
    let mut rules = Vec::new();
    for (pass, reads, writes) in kinds {
        let mut winners: Vec<Timing> = Vec::new();
        for timing in timings {
            let at = timing.geometry;
            if (at.pass, at.reads, at.writes) != (pass, reads, writes) {
                continue;
            }
            match winners.iter_mut().find(|winner| winner.geometry == at) {
                Some(winner) if timing.seconds < GAIN * winner.seconds => *winner = *timing,
                Some(_) => {}
                None => winners.push(*timing),
            }
        }
        winners.sort_by_key(|winner| winner.geometry.positions);
        let (first, mut from) = (rules.len(), 0);
        for (at, winner) in winners.iter().enumerate() {
            let until = match winners.get(at + 1) {
                Some(next) => (winner.geometry.positions * next.geometry.positions).isqrt(),
                None => usize::MAX,
            };
            match rules[first..].last_mut().filter(|rule: &&mut Rule| rule.method == winner.method) {
                Some(rule) => rule.positions = *rule.positions.start()..=until,
                None => rules.push(Rule {
                    pass: Some(pass),
                    reads: reads..=reads,
                    writes: writes..=writes,
                    positions: from..=until,
                    method: winner.method,
                }),
            }
            from = until.saturating_add(1);
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Block, Geometry};

    #[test]
    fn the_fastest_method_is_taken_between_its_neighbours_in_size() {
        let [direct, winograd, large] =
            [Method::Direct(Block::SQUARE), Method::Winograd(Block::SQUARE), Method::Winograd(Block::LARGE)];
        let at = |pass, positions| Geometry { pass, reads: 64, writes: 128, positions };
        let timing = |pass, positions, method, seconds| Timing { geometry: at(pass, positions), method, seconds };
        let timings = [
            timing(Pass::Forward, 100, direct, 1.0),
            timing(Pass::Forward, 100, winograd, 2.0),
            timing(Pass::Forward, 10_000, direct, 100.0),
            timing(Pass::Forward, 10_000, winograd, 40.0),
            timing(Pass::Forward, 10_000, large, 39.9),
            timing(Pass::Forward, 1_000_000, winograd, 50.0),
            timing(Pass::Forward, 1_000_000, large, 30.0),
            timing(Pass::Backward, 100, direct, 2.0),
            timing(Pass::Backward, 100, large, 1.0),
            timing(Pass::Backward, 10_000, large, 1.0),
            timing(Pass::Backward, 1_000_000, direct, 1.0),
        ];
        let choices = Choices { rules: rules(&timings) };
        for (pass, positions, expected) in [
            (Pass::Forward, 1, direct),
            (Pass::Forward, 1_000, direct),
            (Pass::Forward, 1_001, winograd),
            (Pass::Forward, 100_000, winograd),
            (Pass::Forward, 100_001, large),
            (Pass::Forward, usize::MAX, large),
            (Pass::Backward, 5, large),
            (Pass::Backward, 100_000, large),
            (Pass::Backward, 100_001, direct),
        ] {
            assert_eq!(choices.method(at(pass, positions)), expected, "{pass:?} {positions}");
        }
        assert_eq!(choices.rules.len(), 5, "one where the sizes agree: {choices:?}");
        let other = Geometry { reads: 256, ..at(Pass::Forward, 100) };
        assert_eq!(choices.method(other), Method::Direct(Block::usual(256, 128)), "nothing is said of it");
    }
}
