//! Settings of the optimisers.

use crate::error::{Error, Result};

/// What moves the picture along the gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimizer {
    /// Adam, one gradient an iteration.
    #[default]
    Adam,
    /// L-BFGS with a line search. An iteration is one step along one direction: one gradient as a rule, more where the
    /// first length tried is not good enough.
    Lbfgs,
}

/// Where Adam's ε stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdamForm {
    /// TensorFlow 1's: ε is added to the uncorrected √v.
    #[default]
    TensorFlow,
    /// The paper's algorithm 1 and PyTorch's: ε is added to the bias-corrected √v̂.
    Standard,
}

/// Settings of the optimiser Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Step size on the 0..255 scale.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the denominator.
    pub epsilon: f32,
    /// Where ε stands.
    pub form: AdamForm,
}

/// Settings of the optimiser L-BFGS.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lbfgs {
    /// First length tried of every step, relative to the one that the curvature suggests.
    pub learning_rate: f32,
    /// Pairs of steps and gradient differences that are remembered. Each takes two vectors of the picture's size.
    pub history: usize,
}

impl Default for Lbfgs {
    fn default() -> Lbfgs {
        Lbfgs { learning_rate: 1.0, history: 10 }
    }
}

impl Adam {
    pub(super) fn validate(&self) -> Result<()> {
        for (option, value) in [("learning-rate", self.learning_rate), ("adam-epsilon", self.epsilon)] {
            above_zero(option, value)?;
        }
        [("adam-beta1", self.beta1), ("adam-beta2", self.beta2)].into_iter().try_for_each(|(o, beta)| decay(o, beta))
    }
}

impl Lbfgs {
    pub(super) fn validate(&self) -> Result<()> {
        above_zero("learning-rate", self.learning_rate)?;
        match self.history {
            1..=100 => Ok(()),
            history => fail("lbfgs-history", format!("{history}"), "give 1 to 100; 10 is usual"),
        }
    }
}

fn above_zero(option: &'static str, value: f32) -> Result<()> {
    match value.is_finite() && value > 0.0 {
        true => Ok(()),
        false => fail(option, format!("{value}"), "give a finite number above 0"),
    }
}

/// The factor of a running average.
pub(super) fn decay(option: &'static str, value: f32) -> Result<()> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => fail(option, format!("{value}"), "give a number from 0 up to, but not including, 1"),
    }
}

pub(super) fn fail(option: &'static str, what: String, hint: &str) -> Result<()> {
    Err(Error::Config { option, what, hint: hint.into() })
}
