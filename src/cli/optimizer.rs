//! Options of the optimisers.

use clap::Args;
use impasto::error::{Error, Result};
use impasto::transfer::{Config, Optimizer};

use super::names::{AdamFormName, OptimizerName};

#[derive(Args, Debug, Default)]
pub(crate) struct OptimizerOptions {
    /// What moves the picture: `adam`, or `lbfgs`, whose iterations reach further, and may take several gradients each
    #[arg(long)]
    optimizer: Option<OptimizerName>,
    /// Adam: step size on the 0..255 scale. L-BFGS: first length tried of every step, usually 1
    #[arg(long, allow_negative_numbers = true)]
    learning_rate: Option<f32>,
    /// Factor on Adam's learning rate after every iteration, e.g. 0.995; every scale begins anew
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    learning_rate_decay: Option<f32>,
    /// Decay of Adam's first moment
    #[arg(long, allow_negative_numbers = true)]
    adam_beta1: Option<f32>,
    /// Decay of Adam's second moment
    #[arg(long, allow_negative_numbers = true)]
    adam_beta2: Option<f32>,
    /// Adam's epsilon
    #[arg(long, allow_negative_numbers = true)]
    adam_epsilon: Option<f32>,
    /// Where Adam's epsilon stands
    #[arg(long)]
    adam_form: Option<AdamFormName>,
    /// Coarse to fine: take Adam's moments over to the next scale
    #[arg(long, value_name = "true|false")]
    keep_moments: Option<bool>,
    /// Clamp the picture to 0..255 after every step of Adam
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    clamp: Option<bool>,
    /// Steps that L-BFGS remembers; each takes two vectors of the picture's size
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    lbfgs_history: Option<usize>,
    /// Decay of the running average of the pictures, e.g. 0.99, which is then the result; 0 takes the last picture
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    ema: Option<f32>,
    /// Divide every layer's gradient by its L1 norm, so that each pulls as hard as its weight says
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    normalize_gradients: Option<bool>,
}

impl OptimizerOptions {
    /// Puts every option given over `config`.
    ///
    /// # Errors
    /// [`Error::Config`] for an option of the optimiser that is not at work.
    pub(crate) fn configure(&self, config: &mut Config) -> Result<()> {
        fn put<T: Copy>(target: &mut T, value: Option<T>) {
            *target = value.unwrap_or(*target);
        }
        put(&mut config.optimizer, self.optimizer.map(Into::into));
        let lbfgs = config.optimizer == Optimizer::Lbfgs;
        if lbfgs {
            // What a preset sets for Adam is not meant for L-BFGS; an option that asks for it is refused later.
            (config.clamp, config.normalize_gradients) = (false, false);
        }
        let adams = [
            ("adam-beta1", self.adam_beta1.is_some()),
            ("adam-beta2", self.adam_beta2.is_some()),
            ("adam-epsilon", self.adam_epsilon.is_some()),
            ("adam-form", self.adam_form.is_some()),
            ("keep-moments", self.keep_moments == Some(true)),
            ("learning-rate-decay", self.learning_rate_decay.is_some()),
        ];
        let [adams, lbfgss] = [&adams[..], &[("lbfgs-history", self.lbfgs_history.is_some())]];
        let (others, at_work, other) = if lbfgs { (adams, "L-BFGS", "adam") } else { (lbfgss, "Adam", "lbfgs") };
        if let Some((option, _)) = others.iter().find(|(_, given)| *given) {
            return Err(Error::Config {
                option,
                what: format!("is nothing that {at_work} knows, which is the optimiser"),
                hint: format!("leave it out, or choose --optimizer {other}"),
            });
        }
        put(if lbfgs { &mut config.lbfgs.learning_rate } else { &mut config.adam.learning_rate }, self.learning_rate);
        put(&mut config.learning_rate_decay, self.learning_rate_decay);
        put(&mut config.adam.beta1, self.adam_beta1);
        put(&mut config.adam.beta2, self.adam_beta2);
        put(&mut config.adam.epsilon, self.adam_epsilon);
        put(&mut config.adam.form, self.adam_form.map(Into::into));
        put(&mut config.keep_moments, self.keep_moments);
        put(&mut config.clamp, self.clamp);
        put(&mut config.lbfgs.history, self.lbfgs_history);
        put(&mut config.ema, self.ema);
        put(&mut config.normalize_gradients, self.normalize_gradients);
        Ok(())
    }
}
