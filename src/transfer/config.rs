//! What a run can be told. [`Config::default`] is the one place for defaults; what the command line does by itself is the
//! preset [`presets::DEFAULT`](super::presets::DEFAULT).

use super::layout::Way;
use super::optimizer::{self, Adam, AdamForm, Lbfgs, Optimizer};
use crate::error::{Error, Result};
use crate::net::edge::Edge;
use crate::net::maps::Precision;
use crate::net::plan::Pooling;
use crate::net::vgg19::Tap;
use crate::picture::{MAX_DECODED_BYTES, Picture};
use crate::recording::Convolution;
use crate::weights::Weights;

/// Size of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Longest side in pixels, aspect ratio kept, never enlarged.
    Longest(usize),
    /// Width and height in pixels; the picture is squashed to fit.
    Exact(usize, usize),
    /// The content picture's own size.
    Native,
}

/// Where the optimisation starts. Pictures are resampled to the size of the first scale.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Init {
    /// The content picture.
    #[default]
    Content,
    /// N(0, 1) per channel around the mean colour, from [`Config::seed`].
    Noise,
    /// Normal noise with mean and covariance of the styles' colours, clamped to 0..255: crowsonkb's, who has variances
    /// instead of covariances, and draws again instead of clamping. Of several styles, means and covariances are averaged
    /// with [`Config::style_blend_weights`].
    StyleStats,
    /// A picture.
    Picture(Picture),
    /// Values `[H, W, 3]` with the mean already subtracted; must have the size of the result, also where the run starts
    /// at a smaller scale.
    Values {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Row-major samples, RGB.
        values: Vec<f32>,
    },
}

/// Orientation of the network's kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orientation {
    /// As the network was trained.
    #[default]
    True,
    /// Rows and columns of every kernel swapped, as the article (and much code descended from it) loads them: the
    /// network sees the picture mirrored along its diagonal.
    Article,
}

impl Orientation {
    /// Weights as they were trained, in this orientation.
    pub(super) fn turn(self, weights: Weights) -> Weights {
        match self {
            Orientation::True => weights,
            Orientation::Article => weights.transposed(),
        }
    }
}

/// How style and content are compared. F are a layer's activations at N positions in C channels, w the layer's weight,
/// and the mean is over all entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StyleLoss {
    /// The article's: style `w / (2NC) Σ (G - A)²` with `G = FᵀF / NC`, content `w / (2NC) Σ (F - P)²`.
    #[default]
    Article,
    /// jcjohnson's and its descendants': style `w mean (G - A)²` with `G = FᵀF / NC`, content `w mean (F - P)²`.
    Classic,
    /// Gatys': style `1000 w / C² mean (G - A)²` with `G = FᵀF / N`, content `w mean (F - P)²`.
    Gatys,
    /// crowsonkb's: `w Σ d² / (Σ|d| + 1e-8)`, `d = G - A` with `G = FᵀF / N` for style, `F - P` for content;
    /// activations in [`Weights::activation_unit`](crate::weights::Weights::activation_unit).
    ScaledMse,
    /// crowsonkb's: for style, the squared Wasserstein distance of the normal distributions with the activations' means
    /// and covariances, divided by C; content `w mean (F - P)²`; activations in
    /// [`Weights::activation_unit`](crate::weights::Weights::activation_unit). Twelve steps of Newton and Schulz make the
    /// matrix root; its gradient is that of a root which these steps reach, though small eigenvalues do not.
    Wasserstein,
}

/// Which differences between neighbouring pixels count as roughness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TotalVariation {
    /// anishathalye's: `w (mean dy² + mean dx²)` on the 0..255 scale.
    #[default]
    L2,
    /// neural-style-pt's: `w (Σ|dy| + Σ|dx|)` on the 0..255 scale.
    L1,
    /// crowsonkb's: `2w (mean dx² / 3 + mean dy² / 3 + mean d↘² / 12 + mean d↙² / 12)` on the 0..1 scale, the picture
    /// padded by one pixel that repeats its border.
    NinePoint,
}

/// Settings of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Size of the result.
    pub size: Size,
    /// Size of the style pictures at every scale; `None` = longest side of the scale x `style_scale`, never enlarged.
    pub style_size: Option<Size>,
    /// Scale of the style picture relative to the result: one for all style pictures, or one for each.
    pub style_scale: Vec<f32>,
    /// How much of each style is in the blend, relative to the others; empty = all alike. With masks it counts among the
    /// styles of the same mask.
    pub style_blend_weights: Vec<f32>,
    /// Activations whose values are kept, with relative weights.
    pub content_layers: Vec<(Tap, f32)>,
    /// Activations whose Gram matrices are matched, with relative weights.
    pub style_layers: Vec<(Tap, f32)>,
    /// Multiplies every content layer's weight.
    pub content_weight: f32,
    /// Multiplies every style layer's weight.
    pub style_weight: f32,
    /// How style and content are compared.
    pub style_loss: StyleLoss,
    /// Weight of a style layer relative to the one above it, on top of its own; the sum of all weights stays.
    pub style_layer_weight_exp: f32,
    /// Weight of the total variation, 0 switches it off.
    pub tv_weight: f32,
    /// Which total variation.
    pub tv: TotalVariation,
    /// Pooling between blocks.
    pub pooling: Pooling,
    /// What the first convolution sees beyond the picture's edge.
    pub edge: Edge,
    /// Factor on what pooling gives: crowsonkb has 2 for average and 0.78 for L2 pooling.
    pub pooling_scale: f32,
    /// What the maps between convolutions are stored in.
    pub precision: Precision,
    /// The ways in which convolutions may be computed, which differ in time and rounding.
    pub convolution: Convolution,
    /// Number of steps at each scale.
    pub iterations: u32,
    /// Number of steps at the first scale, which has the whole way to go; `None` = `iterations`.
    pub first_iterations: Option<u32>,
    /// Coarse to fine: the longest side that no scale goes below. `None` = one scale, the result's own.
    pub min_scale: Option<usize>,
    /// Coarse to fine: size of a scale relative to the one before, above 1.
    pub scale_factor: f32,
    /// Takes Adam's moments, resampled, and its count of steps over to the next scale, as crowsonkb does, instead of
    /// starting them afresh. A loss that is a mean has smaller gradients on more pixels, so that steps are short until
    /// the second moment has forgotten the smaller scale: about 1 / (1 - beta2) iterations.
    pub keep_moments: bool,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Settings of Adam, where that is the optimiser.
    pub adam: Adam,
    /// Settings of L-BFGS, where that is the optimiser.
    pub lbfgs: Lbfgs,
    /// Factor on Adam's learning rate after every iteration; every scale begins anew. 1 leaves the rate as it is.
    pub learning_rate_decay: f32,
    /// Clamps the picture to 0..255 after every step of Adam.
    pub clamp: bool,
    /// Decay of the running average of the pictures after every step, which is then the result and what the next scale
    /// starts from: crowsonkb's, bias-corrected, with the start as its first picture. 0 takes the last picture itself.
    pub ema: f32,
    /// Divides the gradient of every style and content layer at its activation by its L1 norm, as jcjohnson's option of
    /// this name does, so that every layer pulls as hard as its weight says.
    pub normalize_gradients: bool,
    /// Starting point.
    pub init: Init,
    /// How much of the start is noise: it is `(1 - r) init + r noise`, the noise being normal around the mean colour with
    /// a standard deviation of 64 of 255, about what photos have.
    pub init_noise: f32,
    /// Seed of the noise.
    pub seed: u64,
    /// Mean colour that is subtracted, RGB in 0..255; `None` = the weight source's own.
    pub mean: Option<[f32; 3]>,
    /// Orientation of the kernels.
    pub orientation: Orientation,
    /// Edge of the tiles in pixels; `None` computes the picture as one tile where that fits into the memory, else in the
    /// largest tiles that do. Losses and gradient are the same up to rounding.
    pub tile: Option<usize>,
    /// How every scale was cut up in an earlier run whose bits are wanted again, the smallest first. Where a way contradicts
    /// [`Config::tile`], or does not fit into the memory any more, another is taken, and
    /// [`StyleTransfer::notes`](super::StyleTransfer::notes) says so. Empty: there is none.
    pub ways: Vec<Way>,
    /// Bytes that the job may take on its device, by forecast; `None` leaves it to the device, see
    /// [`Backend::room`](crate::recording::Backend::room).
    pub memory: Option<u64>,
    /// Most bytes of a buffer that grows with the picture. Picture, gradient and moments are kept as bands of rows no
    /// larger, and where a content target of a picture in tiles would be larger, it is computed anew for every tile.
    /// The default, 128 MiB, is what every WebGPU device can bind.
    pub max_buffer: u64,
}

/// These layers, each with weight 1.
pub(super) fn layers(names: &[&str]) -> Vec<(Tap, f32)> {
    names.iter().filter_map(|name| Some((name.parse().ok()?, 1.0))).collect()
}

impl Default for Config {
    fn default() -> Config {
        Config {
            size: Size::Longest(512),
            style_size: None,
            style_scale: vec![1.0],
            style_blend_weights: Vec::new(),
            // Chosen by looking: good with the original network and with the built-in one.
            content_layers: layers(&["relu2_2"]),
            style_layers: layers(&["relu1_1", "relu2_1", "relu3_1"]),
            content_weight: 1.0,
            style_weight: 500.0,
            style_loss: StyleLoss::Article,
            style_layer_weight_exp: 1.0,
            tv_weight: 2.0,
            tv: TotalVariation::L2,
            pooling: Pooling::Average,
            edge: Edge::Zero,
            pooling_scale: 1.0,
            precision: Precision::F32,
            convolution: Convolution::Auto,
            iterations: 200,
            first_iterations: None,
            min_scale: None,
            scale_factor: std::f32::consts::SQRT_2,
            keep_moments: false,
            optimizer: Optimizer::Adam,
            adam: Adam { learning_rate: 5.0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, form: AdamForm::TensorFlow },
            lbfgs: Lbfgs::default(),
            learning_rate_decay: 1.0,
            clamp: false,
            ema: 0.0,
            normalize_gradients: false,
            init: Init::Content,
            init_noise: 0.0,
            seed: 0,
            mean: None,
            orientation: Orientation::True,
            tile: None,
            ways: Vec::new(),
            memory: None,
            max_buffer: 128 << 20,
        }
    }
}

impl Config {
    /// Convolutions that the layers asked for need: how deep to load the weights.
    pub fn depth(&self) -> usize {
        self.content_layers.iter().chain(&self.style_layers).map(|(tap, _)| tap.conv() + 1).max().unwrap_or(0)
    }

    /// The weight of each style layer in the loss, in the order of [`Config::style_layers`].
    pub(super) fn style_weights(&self) -> Vec<f32> {
        let weight = |(tap, weight): &(Tap, f32)| {
            let above = self.style_layers.iter().filter(|(other, _)| other < tap).count();
            f64::from(*weight) * f64::from(self.style_layer_weight_exp).powi(above as i32)
        };
        let raw: Vec<f64> = self.style_layers.iter().map(weight).collect();
        let given: f64 = self.style_layers.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let (total, one) = (raw.iter().sum::<f64>(), self.style_layer_weight_exp == 1.0);
        let factor = f64::from(self.style_weight) * if one || total <= 0.0 { 1.0 } else { given / total };
        raw.into_iter().map(|weight| (weight * factor) as f32).collect()
    }

    /// Checks every value by itself and against the others.
    pub fn validate(&self) -> Result<()> {
        let fail = |option, what: String, hint: &str| Err(Error::Config { option, what, hint: hint.into() });
        let weighted = [("content-layers", &self.content_layers), ("style-layers", &self.style_layers)];
        for (option, layers) in weighted {
            for (i, (tap, weight)) in layers.iter().enumerate() {
                if !weight.is_finite() || *weight < 0.0 {
                    return fail(option, format!("weight {weight} of {tap}"), "weights are finite and not negative");
                }
                if layers[..i].iter().any(|(other, _)| other == tap) {
                    return fail(option, format!("{tap} is named twice"), "name each layer once, as layer=weight");
                }
            }
        }
        if self.depth() == 0 {
            return fail(
                "style-layers",
                "no layer is left to optimise".into(),
                "give --style-layers or --content-layers, e.g. relu1_2,relu2_2",
            );
        }
        for (option, weight) in [
            ("content-weight", self.content_weight),
            ("style-weight", self.style_weight),
            ("tv-weight", self.tv_weight),
        ] {
            if !weight.is_finite() || weight < 0.0 {
                return fail(option, format!("{weight}"), "give a finite number, 0 or more");
            }
        }
        let scales = self.style_scale.iter().map(|scale| ("style-scale", *scale));
        let positive = [("style-layer-weight-exp", self.style_layer_weight_exp), ("pooling-scale", self.pooling_scale)];
        for (option, value) in positive.into_iter().chain(scales) {
            if !value.is_finite() || value <= 0.0 {
                return fail(option, format!("{value}"), "give a finite number above 0");
            }
        }
        if let Some(weight) = self.style_blend_weights.iter().find(|weight| !weight.is_finite() || **weight < 0.0) {
            return fail("style-blend-weights", format!("{weight}"), "weights are finite and not negative");
        }
        if !(0.0..=1.0).contains(&self.init_noise) {
            return fail(
                "init-noise",
                format!("{}", self.init_noise),
                "give a number from 0, no noise, to 1, noise alone",
            );
        }
        if self.precision == Precision::F16 && self.convolution == Convolution::Winograd {
            let what = "winograd does not go with maps in half precision".into();
            return fail("convolution", what, "use `auto` or `direct`, or --precision f32");
        }
        self.validate_optimizer()?;
        let iterations = [("iterations", Some(self.iterations)), ("first-iterations", self.first_iterations)];
        for (option, number) in iterations {
            if let Some(number) = number.filter(|number| !(1..=1_000_000).contains(number)) {
                return fail(option, format!("{number}"), "give 1 to 1000000");
            }
        }
        if self.min_scale == Some(0) {
            return fail("min-scale", "0".into(), "give the longest side of the smallest scale in pixels, e.g. 128");
        }
        // Nearer to 1, the scales would be hundreds.
        if !self.scale_factor.is_finite() || self.scale_factor < 1.1 {
            return fail("scale-factor", format!("{}", self.scale_factor), "give 1.1 or more, e.g. 1.4142 or 2");
        }
        if self.tile == Some(0) {
            return fail("tile", "0".into(), "give the edge of a tile in pixels, e.g. 512");
        }
        if self.memory == Some(0) || self.max_buffer == 0 {
            return fail("memory", "0".into(), "give the bytes that the job may take, e.g. 2GiB");
        }
        for size in [Some(self.size), self.style_size].into_iter().flatten() {
            let sides = match size {
                Size::Longest(side) => [side, side],
                Size::Exact(width, height) => [width, height],
                Size::Native => [1, 1],
            };
            if sides.iter().any(|side| !(1..=65_535).contains(side)) {
                return fail("size", format!("{}x{}", sides[0], sides[1]), "sides are 1 to 65535 pixels");
            }
            if let Size::Exact(width, height) = size
                && width as u64 * height as u64 * 12 > MAX_DECODED_BYTES
            {
                let hint = "give a smaller one: pictures have at most 89 megapixels";
                return fail("size", format!("{width}x{height} is too large"), hint);
            }
        }
        if let Some(mean) = self.mean
            && mean.iter().any(|value| !value.is_finite())
        {
            return fail("mean", format!("{mean:?}"), "give three finite numbers, e.g. 123.68,116.779,103.939");
        }
        Ok(())
    }
}

impl Config {
    fn validate_optimizer(&self) -> Result<()> {
        self.adam.validate()?;
        self.lbfgs.validate()?;
        optimizer::decay("ema", self.ema)?;
        if !(self.learning_rate_decay > 0.0 && self.learning_rate_decay <= 1.0) {
            let hint = "give a number above 0, at most 1, e.g. 0.995";
            return optimizer::fail("learning-rate-decay", format!("{}", self.learning_rate_decay), hint);
        }
        // Both would take the line search's ground away: the loss it measures would not be the one it follows.
        for (option, set) in [("clamp", self.clamp), ("normalize-gradients", self.normalize_gradients)] {
            if set && self.optimizer == Optimizer::Lbfgs {
                return optimizer::fail(option, "does not go with L-BFGS".into(), "use Adam, or leave it out");
            }
        }
        Ok(())
    }
}

impl Size {
    /// Height and width that a picture gets.
    pub fn of(self, picture: &Picture) -> [usize; 2] {
        match self {
            Size::Longest(longest) => picture.fitted_size(longest),
            Size::Exact(width, height) => [height, width],
            Size::Native => [picture.height, picture.width],
        }
    }
}
