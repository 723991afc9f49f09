//! What a run is given beside its settings: pictures and masks.

use super::config::{Config, Init};
use super::forecast::Plan;
use super::layout::lay_out;
use super::parts::{Scene, check_blends};
use super::targets::StyleTargets;
use crate::error::{Error, Result};
use crate::picture::{Mask, Picture};
use crate::recording::Backend;
use crate::weights::Weights;

/// Where a style goes. Masks may have any size; they are resampled to that of the picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// Where the mask is 1; where it is between 0 and 1, in proportion.
    Within(Mask),
    /// Where the masks of all other styles leave something: 1 minus their sum, or nothing where that is more than 1.
    Rest,
}

/// Pictures and masks of a run: [`StyleTransfer::with`](super::StyleTransfer::with) takes them.
///
/// ```no_run
/// # use std::path::Path;
/// # use impasto::{cpu::Cpu, picture::{Mask, Picture}, transfer::{Config, Inputs, Place, StyleTransfer}};
/// # fn main() -> impasto::error::Result<()> {
/// # let config = Config::default();
/// # let weights = impasto::weights::builtin::builtin(config.depth());
/// let picture = |path: &str| Picture::decode(Path::new(path));
/// let (content, styles) = (picture("photo.jpg")?, [picture("oil.jpg")?, picture("ink.jpg")?]);
/// let masks = [Place::Within(Mask::decode(Path::new("sky.png"))?), Place::Rest];
/// let inputs = Inputs { masks: &masks, ..Inputs::new(&content, &styles) };
/// let mut job = StyleTransfer::with(&Cpu, &weights, &inputs, config)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The picture to paint.
    pub content: &'a Picture,
    /// The pictures whose styles are taken, one at least; [`Config::style_blend_weights`] says how they are mixed.
    pub styles: &'a [Picture],
    /// Where each style goes, in their order; none means that all are blended everywhere. Styles with equal masks are
    /// blended where these are. Each mask makes a part of the picture, which is compared with its styles by statistics of
    /// its own, weighed by the mask; its loss counts in proportion to its area.
    pub masks: &'a [Place],
    /// Where the content is painted: 1 paints, 0 leaves it as it is, to the bit; between, the two are mixed. What is not
    /// painted does not count for the style either, in the same proportion.
    pub paint: Option<&'a Mask>,
    /// Where the styles' targets are kept for later runs, and looked for before they are measured.
    pub targets: Option<StyleTargets>,
}

impl<'a> Inputs<'a> {
    /// Without masks: all styles are blended everywhere.
    pub fn new(content: &'a Picture, styles: &'a [Picture]) -> Inputs<'a> {
        Inputs { content, styles, masks: &[], paint: None, targets: None }
    }

    /// Refuses what [`StyleTransfer::with`](super::StyleTransfer::with) would refuse whatever the weights and the device:
    /// settings, sizes, numbers of styles, masks and weights.
    pub fn check(&self, config: &Config) -> Result<()> {
        config.validate()?;
        let count = self.styles.len();
        let fail = |option, what: String, hint: &str| Err(Error::Config { option, what, hint: hint.into() });
        if count == 0 {
            return fail("style", "no style picture".into(), "give one at least");
        }
        let weights = config.style_blend_weights.len();
        if weights != 0 && weights != count {
            let what = format!("{weights} for {count} style pictures");
            return fail("style-blend-weights", what, "give one for each style, in their order");
        }
        let scales = config.style_scale.len();
        if scales != 1 && scales != count {
            let what = format!("{scales} for {count} style pictures");
            return fail("style-scale", what, "give one for all styles, or one for each, in their order");
        }
        if !self.masks.is_empty() && self.masks.len() != count {
            let what = format!("{} for {count} style pictures", self.masks.len());
            return fail(
                "style-mask",
                what,
                "give one for each style, in their order; `rest` is what the others leave",
            );
        }
        let init = if let Init::Picture(picture) = &config.init { Some(("init", picture)) } else { None };
        let styles = self.styles.iter().map(|style| ("style", style));
        for (option, picture) in [("content", self.content)].into_iter().chain(styles).chain(init) {
            if !picture.is_consistent() {
                let what = format!("{} samples for {}x{} pixels", picture.rgb.len(), picture.width, picture.height);
                return fail(option, what, "give width x height x 3 samples, and sides of at least one pixel");
            }
        }
        let masks = self.masks.iter().filter_map(|place| match place {
            Place::Within(mask) => Some(("style-mask", mask)),
            Place::Rest => None,
        });
        for (option, mask) in masks.chain(self.paint.map(|mask| ("content-mask", mask))) {
            if !mask.is_sound() {
                let what = format!("{} values for {}x{} pixels", mask.values.len(), mask.width, mask.height);
                return fail(option, what, "give width x height values from 0 to 1");
            }
        }
        if self.paint.is_some_and(|mask| mask.values.iter().all(|value| *value == 0.0)) {
            let hint = "make it white where the picture is to be painted";
            return fail("content-mask", "is black: nothing would be painted".into(), hint);
        }
        if let Init::Values { height, width, values } = &config.init {
            let [rows, columns] = config.size.of(self.content);
            if [*height, *width] != [rows, columns] || values.len() != rows * columns * 3 {
                let what = format!("values for {width}x{height}, the result has {columns}x{rows}");
                return fail("init", what, "make an array of shape [height, width, 3] in the size of the result");
            }
        }
        check_blends(self, config)
    }

    /// What every scale's iterations would run and the buffers they need, the smallest scale first, with the memory and
    /// the limits of a device, on which nothing is allocated.
    pub fn plan_on(&self, backend: &dyn Backend, weights: &Weights, config: &Config) -> Result<Vec<Plan>> {
        Ok(lay_out(backend, weights, self, config)?.into_iter().map(Plan::of).collect())
    }

    /// Every scale with what its layout depends on.
    pub(super) fn scenes(&self, config: &Config) -> Result<Vec<Scene>> {
        self.check(config)?;
        config.scales(self.content).into_iter().map(|scale| Scene::new(self, config, scale)).collect()
    }
}
