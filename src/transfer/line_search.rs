//! How far to go along a direction: a line search for the strong Wolfe conditions.
//!
//! Nocedal and Wright, Numerical Optimization, 2nd edition, algorithms 3.5 and 3.6, with cubic interpolation (3.59) and
//! the safeguards, constants and bounds of Mark Schmidt's minFunc, which PyTorch's L-BFGS has too: the same steps are
//! tried as by `torch.optim.LBFGS(line_search_fn="strong_wolfe")`, but for two things that single precision asks for.
//! Reaching out goes by the slopes alone: the first lengths are so short that losses hardly differ, and a cubic through
//! them bends as their last digits fall. Narrowing ends where losses cannot be told apart.

use crate::error::Result;

/// Sufficient decrease, relative to the slope at the start.
const DECREASE: f64 = 1e-4;
/// The slope must fall to this part of the one at the start.
const CURVATURE: f64 = 0.9;
/// Most evaluations of a search after its first.
const MOST: u32 = 25;
/// Losses nearer to one another than this are not told apart in single precision.
const RESOLUTION: f64 = 1e-7;

/// What is known at one length along the direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Length of the step.
    pub(super) length: f64,
    pub(super) loss: f64,
    /// Derivative of the loss by the length.
    pub(super) slope: f64,
}

impl Point {
    fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.slope.is_finite()
    }

    /// Infinitely bad where the loss is not a number.
    fn bounded(self) -> Point {
        if self.is_finite() { self } else { Point { loss: f64::INFINITY, ..self } }
    }
}

/// Finds a length from `start`, whose length is 0 and slope negative, trying `first` first.
///
/// `evaluate` gives the point of a length. Its flag says that the point evaluated last is the best so far, which the
/// search may come back to. Returns the best point found: of length 0 where there is none better.
pub(super) fn search(start: Point, first: f64, evaluate: &mut dyn FnMut(f64, bool) -> Result<Point>) -> Result<Point> {
    let enough = |point: &Point| point.loss <= start.loss + DECREASE * point.length * start.slope;
    let flat = |point: &Point| point.slope.abs() <= -CURVATURE * start.slope;
    let mut tries = 0;
    let mut before = start;
    let mut now = evaluate(first, false)?.bounded();
    // Reaches out until the minimum lies between two points.
    let mut bracket = loop {
        if !enough(&now) || (tries > 1 && now.loss >= before.loss) {
            break [before, now];
        }
        if flat(&now) {
            return Ok(now);
        }
        if now.slope >= 0.0 {
            break [before, now];
        }
        if tries == MOST {
            return Ok(if now.loss < start.loss { now } else { start });
        }
        let bounds = (now.length + 0.01 * (now.length - before.length), now.length * 10.0);
        let next = secant(before, now, bounds);
        before = now;
        now = evaluate(next, true)?.bounded();
        tries += 1;
    };
    let mut low = usize::from(bracket[0].loss > bracket[1].loss);
    // Whether the point evaluated last is the lower end.
    let mut fresh = low == 1;
    let mut slow = false;
    // Narrows the bracket.
    while tries < MOST {
        let (least, most) = (bracket[0].length.min(bracket[1].length), bracket[0].length.max(bracket[1].length));
        let (lower, higher) = (bracket[low], bracket[1 - low]);
        let told_apart = (higher.loss - lower.loss).abs() > RESOLUTION * lower.loss.abs();
        if most - least <= f64::EPSILON * most || (!told_apart && lower.length > 0.0) {
            break;
        }
        let mut length = match higher.is_finite() {
            true => interpolated(bracket[0], bracket[1], (least, most)),
            false => least.midpoint(most),
        };
        // Too near to an end twice in a row, or on it: a tenth of the way in.
        let tenth = 0.1 * (most - least);
        let near = (most - length).min(length - least) < tenth;
        if near && (slow || length >= most || length <= least) {
            length = if (length - most).abs() < (length - least).abs() { most - tenth } else { least + tenth };
            slow = false;
        } else {
            slow = near;
        }
        now = evaluate(length, fresh)?.bounded();
        tries += 1;
        if !enough(&now) || now.loss >= lower.loss {
            bracket[1 - low] = now;
            let lowest = usize::from(bracket[0].loss > bracket[1].loss);
            fresh = lowest != low;
            low = lowest;
            continue;
        }
        if flat(&now) {
            return Ok(now);
        }
        if now.slope * (higher.length - lower.length) >= 0.0 {
            bracket[1 - low] = lower;
        }
        bracket[low] = now;
        fresh = true;
    }
    Ok(bracket[low])
}

/// The minimum of the cubic through two points with their slopes, kept within bounds; their middle where there is none.
fn interpolated(a: Point, b: Point, (least, most): (f64, f64)) -> f64 {
    let [a, b] = if a.length <= b.length { [a, b] } else { [b, a] };
    let d1 = a.slope + b.slope - 3.0 * (a.loss - b.loss) / (a.length - b.length);
    let square = d1 * d1 - a.slope * b.slope;
    let d2 = square.sqrt();
    let length = b.length - (b.length - a.length) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2));
    if square >= 0.0 && !length.is_nan() { length.max(least).min(most) } else { least.midpoint(most) }
}

/// Where the slope would become zero on a straight line, kept within bounds; as far as they go if nowhere.
fn secant(a: Point, b: Point, (least, most): (f64, f64)) -> f64 {
    let change = b.slope - a.slope;
    let length = b.length - b.slope * (b.length - a.length) / change;
    if change > 0.0 { length.max(least).min(most) } else { most }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Searches along a function given with its derivative; the point found and the lengths tried.
    fn along(function: fn(f64) -> [f64; 2], first: f64) -> (Point, Vec<f64>) {
        let point = |length: f64| {
            let [loss, slope] = function(length);
            Point { length, loss, slope }
        };
        let mut tried: Vec<f64> = Vec::new();
        let mut kept = 0.0;
        let found = search(point(0.0), first, &mut |length, best| {
            if best {
                kept = *tried.last().unwrap();
            }
            tried.push(length);
            Ok(point(length))
        });
        let found = found.unwrap();
        let last = *tried.last().unwrap();
        assert!([0.0, kept, last].contains(&found.length), "{found:?} was not kept: {kept}, {last}");
        (found, tried)
    }

    fn satisfies(function: fn(f64) -> [f64; 2], found: Point) {
        let [loss, slope] = function(0.0);
        assert!(found.loss <= loss + DECREASE * found.length * slope, "{found:?}: no decrease");
        assert!(found.slope.abs() <= CURVATURE * slope.abs(), "{found:?}: too steep");
    }

    #[test]
    fn the_point_found_satisfies_the_strong_wolfe_conditions() {
        let functions: [fn(f64) -> [f64; 2]; 4] = [
            |x| [(x - 3.0).powi(2), 2.0 * (x - 3.0)],
            |x| [x.powi(4) - 2.0 * x, 4.0 * x.powi(3) - 2.0],
            |x| [-x / (x * x + 2.0), (x * x - 2.0) / (x * x + 2.0).powi(2)],
            |x| [(x - 5.0).cosh() + 0.3 * (3.0 * x).sin(), (x - 5.0).sinh() + 0.9 * (3.0 * x).cos()],
        ];
        for function in functions {
            for first in [1e-6, 1e-2, 0.5, 1.0, 7.0, 300.0] {
                let (found, tried) = along(function, first);
                assert!(tried.len() <= MOST as usize + 1, "{tried:?}");
                satisfies(function, found);
            }
        }
    }

    /// Found with torch 2's `_strong_wolfe` on the same functions.
    #[test]
    fn the_lengths_tried_are_those_of_pytorch() {
        let function: fn(f64) -> [f64; 2] = |x| [x.powi(4) - 2.0 * x, 4.0 * x.powi(3) - 2.0];
        for (first, expected) in TORCH {
            let (_, tried) = along(function, *first);
            assert_eq!(tried.len(), expected.len(), "{tried:?}");
            for (found, expected) in tried.iter().zip(*expected) {
                assert!((found - expected).abs() < 1e-9 * expected, "{tried:?}");
            }
        }
    }

    const TORCH: &[(f64, &[f64])] = &[
        (1e-6, &[1e-6, 9.999999999999999e-6, 9.999999999999999e-5, 0.001, 0.01, 0.1, 1.0, 0.775185529395461]),
        (0.01, &[0.01, 0.1, 1.0, 0.775185529395461]),
        (0.5, &[0.5]),
        (1.0, &[1.0, 0.7675918792439982]),
        (7.0, &[7.0, 2.3535660552966213, 0.9358580595155397]),
        (
            300.0,
            &[
                300.0,
                100.00001111110984,
                33.333437036714415,
                11.112045600417797,
                3.712096207584538,
                1.3061161948273696,
                0.7677739927969561,
            ],
        ),
    ];

    #[test]
    fn a_loss_that_is_infinite_or_no_number_far_out_is_backed_away_from() {
        let cliff: fn(f64) -> [f64; 2] =
            |x| if x > 0.01 { [f64::NAN, f64::NAN] } else { [(x - 0.005).powi(2), 2.0 * (x - 0.005)] };
        let (found, _) = along(cliff, 1.0);
        satisfies(cliff, found);
        let wall: fn(f64) -> [f64; 2] = |x| if x > 0.0 { [f64::INFINITY, 0.0] } else { [1.0, -1.0] };
        let (found, tried) = along(wall, 1.0);
        assert_eq!((found.length, tried.len()), (0.0, MOST as usize + 1));
    }

    #[test]
    fn a_direction_without_descent_ends_at_the_start() {
        // The slope says down, every loss says up: what rounding does near a minimum.
        let up: fn(f64) -> [f64; 2] = |x| [1.0 + x, -1.0];
        assert_eq!(along(up, 1.0).0.length, 0.0);
    }
}
