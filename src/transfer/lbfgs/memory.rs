//! What L-BFGS knows of the vectors that it remembers, and the direction that follows.

use super::{PRODUCTS, STEP_STEP};

/// A pair whose vectors are nearer than this to a right angle says nothing about curvature in single precision.
const LEAST_COSINE: f64 = 1e-7;

/// What the host knows of the vectors remembered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    /// The pairs in use, the oldest first.
    pub(crate) order: Vec<u32>,
    /// Dot products: steps with differences `[m, m]`, differences with differences `[m, m]`, the gradient here with steps
    /// `[m]` and with differences `[m]`.
    pub(crate) dots: Vec<f32>,
}

impl Memory {
    pub(super) fn new(history: usize) -> Memory {
        Memory { order: Vec::new(), dots: vec![0.0; Memory::len(history)] }
    }

    fn len(history: usize) -> usize {
        2 * history * (history + 1)
    }

    /// Whether it can be that of so many pairs.
    pub(in crate::transfer) fn fits(&self, history: usize) -> bool {
        let mut order = self.order.clone();
        order.sort_unstable();
        order.dedup();
        order.len() == self.order.len()
            && order.last().is_none_or(|slot| (*slot as usize) < history)
            && self.dots.len() == Memory::len(history)
            && self.dots.iter().all(|dot| dot.is_finite())
    }

    fn at(&self, index: usize) -> f64 {
        f64::from(self.dots[index])
    }

    /// Coefficients of the direction: of the gradient, of every step, of every difference.
    pub(super) fn direction(&self, history: usize) -> Vec<f64> {
        let mut factors = vec![0.0; 1 + 2 * history];
        let order: Vec<usize> = self.order.iter().map(|slot| *slot as usize).collect();
        let step_difference = |i: usize, j: usize| self.at(i * history + j);
        let differences = |i: usize, j: usize| self.at((history + i) * history + j);
        let [with_step, with_difference] = [0, 1].map(|which| (2 * history + which) * history);
        let Some(&newest) = order.last() else {
            factors[0] = -1.0;
            return factors;
        };
        let (mut alpha, mut rest) = (vec![0.0; history], vec![0.0; history]);
        for (place, &i) in order.iter().enumerate().rev() {
            let newer = order[place + 1..].iter().map(|&j| alpha[j] * step_difference(i, j)).sum::<f64>();
            alpha[i] = (self.at(with_step + i) - newer) / step_difference(i, i);
        }
        let scale = step_difference(newest, newest) / differences(newest, newest);
        for (place, &i) in order.iter().enumerate() {
            let all = order.iter().map(|&j| alpha[j] * differences(j, i)).sum::<f64>();
            let older = order[..place].iter().map(|&k| rest[k] * step_difference(k, i)).sum::<f64>();
            let beta = (scale * (self.at(with_difference + i) - all) + older) / step_difference(i, i);
            rest[i] = alpha[i] - beta;
        }
        factors[0] = -scale;
        for &i in &order {
            factors[1 + i] = -rest[i];
            factors[1 + history + i] = scale * alpha[i];
        }
        factors
    }

    /// Takes the products in that belong to a new pair, and the pair if it tells of curvature.
    pub(super) fn learn(&mut self, history: usize, slot: usize, dots: &[f32]) {
        self.order.retain(|other| *other as usize != slot);
        for j in 0..history {
            let new = &dots[PRODUCTS + 5 * j..][..5];
            self.dots[slot * history + j] = new[0];
            self.dots[j * history + slot] = if j == slot { new[0] } else { new[1] };
            self.dots[(history + slot) * history + j] = new[2];
            self.dots[(history + j) * history + slot] = new[2];
            self.dots[2 * history * history + j] = new[3];
            self.dots[(2 * history + 1) * history + j] = new[4];
        }
        let own = &dots[PRODUCTS + 5 * slot..][..5];
        let [curvature, change, step] = [own[0], own[2], dots[STEP_STEP]].map(f64::from);
        if curvature.is_finite() && curvature > LEAST_COSINE * (change * step).sqrt() {
            self.order.push(slot as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recursion on vectors themselves.
    fn two_loop(pairs: &[([f64; 3], [f64; 3])], gradient: [f64; 3]) -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut q = gradient.to_vec();
        let mut alphas = Vec::new();
        for (s, y) in pairs.iter().rev() {
            let alpha = dot(s, &q) / dot(s, y);
            q.iter_mut().zip(y).for_each(|(q, y)| *q -= alpha * y);
            alphas.push(alpha);
        }
        let (s, y) = &pairs[pairs.len() - 1];
        let scale = dot(s, y) / dot(y, y);
        q.iter_mut().for_each(|q| *q *= scale);
        for ((s, y), alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
            let beta = dot(y, &q) / dot(s, y);
            q.iter_mut().zip(s).for_each(|(q, s)| *q += (alpha - beta) * s);
        }
        q.iter().map(|q| -q).collect()
    }

    #[test]
    fn the_direction_out_of_dot_products_is_that_of_the_recursion() {
        let dot = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() as f32;
        let gradient = [0.5, -2.0, 1.0];
        let pairs = [
            ([1.0, 0.25, -0.5], [2.0, 0.5, -0.25]),
            ([-0.5, 1.0, 0.125], [-0.5, 3.0, 0.5]),
            ([0.25, 0.5, 1.0], [0.5, 1.5, 4.0]),
            ([2.0, -1.0, 0.5], [3.0, -2.0, 0.25]),
        ];
        for (history, count) in [(1, 1), (3, 1), (3, 3), (4, 4), (2, 3), (3, 4)] {
            let mut memory = Memory::new(history);
            let mut slots = vec![([0.0; 3], [0.0; 3]); history];
            for (number, (s, y)) in pairs[..count].iter().enumerate() {
                let slot = number % history;
                slots[slot] = (*s, *y);
                let mut dots = vec![0.0; PRODUCTS + 5 * history];
                dots[STEP_STEP] = dot(s, s);
                for (j, (other_s, other_y)) in slots.iter().enumerate() {
                    let products = [
                        dot(s, other_y),
                        dot(y, other_s),
                        dot(y, other_y),
                        dot(&gradient, other_s),
                        dot(&gradient, other_y),
                    ];
                    dots[PRODUCTS + 5 * j..][..5].copy_from_slice(&products);
                }
                memory.learn(history, slot, &dots);
            }
            assert_eq!(memory.order.len(), count.min(history));
            assert!(memory.fits(history));
            let factors = memory.direction(history);
            let found = (0..3).map(|c| {
                let pairs = slots.iter().enumerate();
                factors[0] * gradient[c]
                    + pairs.map(|(k, (s, y))| factors[1 + k] * s[c] + factors[1 + history + k] * y[c]).sum::<f64>()
            });
            let expected = two_loop(&pairs[count.saturating_sub(history)..count], gradient);
            for (found, expected) in found.zip(expected) {
                assert!((found - expected).abs() < 1e-12, "{found}, not {expected}: {history} of {count}");
            }
        }
    }

    #[test]
    fn a_pair_at_a_right_angle_is_not_remembered() {
        let mut memory = Memory::new(2);
        let mut dots = vec![0.0; PRODUCTS + 10];
        (dots[STEP_STEP], dots[PRODUCTS], dots[PRODUCTS + 2]) = (1.0, 1e-9, 1.0);
        memory.learn(2, 0, &dots);
        assert_eq!(memory.order, [0; 0]);
        dots[PRODUCTS] = -0.5;
        memory.learn(2, 0, &dots);
        assert_eq!(memory.order, [0; 0]);
    }
}
