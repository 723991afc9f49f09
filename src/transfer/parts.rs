//! Which style goes where: the parts of a picture, each with its styles and with how much of every position is its own.

use std::sync::Arc;

use super::checkpoint::digest;
use super::config::Config;
use super::inputs::{Inputs, Place};
use super::scales::Scale;
use crate::error::{Error, Result};
use crate::picture::Mask;

/// Fewer positions than this are none: a part that has no more contributes nothing.
const NOTHING: f64 = 1e-6;

/// How much of each position of a level's maps belongs to a part.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) width: usize,
    /// From 0 to 1, `[H, W]`.
    pub(super) values: Vec<f32>,
    /// Sum of the values: the positions that the part has.
    pub(super) positions: f64,
    /// What part of the map that is.
    pub(super) area: f64,
}

/// A part of the picture and the styles that are blended in it.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Which, and by how much: these weights add up to 1.
    pub(super) styles: Vec<(usize, f64)>,
    /// Level by level; empty where the part is the whole picture.
    pub(super) levels: Vec<Arc<Level>>,
}

/// A scale with everything that its layout depends on.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) scale: Scale,
    /// Height and width of every style picture.
    pub(super) styles: Vec<[usize; 2]>,
    pub(super) parts: Arc<[Part]>,
    /// Where the picture is painted, in the size of the scale; `None` for everywhere.
    pub(super) paint: Option<Arc<Mask>>,
}

impl Level {
    /// `None` where the part has nothing.
    pub(super) fn some(&self) -> Option<&Level> {
        Some(self).filter(|level| level.positions > NOTHING)
    }
}

impl Part {
    /// Of its styles and of what it has at the scale's own size.
    pub(super) fn digest(&self) -> String {
        let styles: Vec<f32> = self.styles.iter().map(|(style, _)| *style as f32).collect();
        digest([&styles[..]].into_iter().chain(self.levels.first().map(|level| &level.values[..])))
    }
}

impl Scene {
    pub(super) fn new(inputs: &Inputs<'_>, config: &Config, scale: Scale) -> Result<Scene> {
        let size = [scale.height, scale.width];
        let paint = inputs.paint.map(|mask| Arc::new(mask.resized(scale.width, scale.height)));
        let depth = config.style_layers.iter().map(|(tap, _)| tap.level() + 1).max().unwrap_or(0);
        let groups = groups(inputs.styles.len(), inputs.masks);
        let masks: Vec<Option<Mask>> =
            groups.iter().map(|group| group.mask.map(|mask| mask.resized(scale.width, scale.height))).collect();
        let part = |(group, mask): (&Group<'_>, &Option<Mask>)| {
            let styles = blend(config, &group.styles)?;
            if inputs.masks.is_empty() && paint.is_none() {
                return Ok(Part { styles, levels: Vec::new() });
            }
            let share = |at: usize| {
                let own = match mask {
                    Some(mask) => f64::from(mask.values[at]),
                    None => (1.0 - masks.iter().flatten().map(|mask| f64::from(mask.values[at])).sum::<f64>()).max(0.0),
                };
                // What is not painted has no style.
                own * paint.as_ref().map_or(1.0, |paint| f64::from(paint.values[at]))
            };
            let values = (0..scale.width * scale.height).map(share).collect();
            Ok(Part { styles, levels: levels(values, size, depth) })
        };
        let parts = groups.iter().zip(&masks).map(part).collect::<Result<_>>()?;
        let styles = inputs.styles.iter().enumerate().map(|(i, style)| config.style_size(&scale, i, style)).collect();
        Ok(Scene { scale, styles, parts, paint })
    }

    /// The part that a style is painted in, and the style's weight in it.
    pub(super) fn place(&self, style: usize) -> Option<(usize, f64)> {
        let weight = |part: &Part| part.styles.iter().find(|(other, _)| *other == style).map(|(_, weight)| *weight);
        self.parts.iter().enumerate().find_map(|(at, part)| Some((at, weight(part)?)))
    }
}

/// Styles with the same mask.
#[derive(Debug)]
struct Group<'a> {
    /// `None` for what the others leave.
    mask: Option<&'a Mask>,
    styles: Vec<usize>,
}

/// In the order of their first styles. Without masks all styles share what nobody takes.
fn groups<'a>(styles: usize, masks: &'a [Place]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for style in 0..styles {
        let mask = match masks.get(style) {
            Some(Place::Within(mask)) => Some(mask),
            Some(Place::Rest) | None => None,
        };
        match groups.iter_mut().find(|group| group.mask == mask) {
            Some(group) => group.styles.push(style),
            None => groups.push(Group { mask, styles: vec![style] }),
        }
    }
    groups
}

/// Refuses weights that leave a part without a style.
pub(super) fn check_blends(inputs: &Inputs<'_>, config: &Config) -> Result<()> {
    groups(inputs.styles.len(), inputs.masks).iter().try_for_each(|group| blend(config, &group.styles).map(drop))
}

/// The styles with their weights, which add up to 1.
fn blend(config: &Config, styles: &[usize]) -> Result<Vec<(usize, f64)>> {
    let weight = |style: usize| config.style_blend_weights.get(style).map_or(1.0, |weight| f64::from(*weight));
    let total: f64 = styles.iter().map(|style| weight(*style)).sum();
    if total <= 0.0 {
        return Err(Error::Config {
            option: "style-blend-weights",
            what: "the styles of one part of the picture all have weight 0".into(),
            hint: "give one of them a weight above 0, or leave these styles out".into(),
        });
    }
    Ok(styles.iter().map(|style| (*style, weight(*style) / total)).collect())
}

/// Brings shares to the maps of `depth` levels, as average pooling with ceil sizes does.
fn levels(mut values: Vec<f64>, [mut height, mut width]: [usize; 2], depth: usize) -> Vec<Arc<Level>> {
    let mut levels = Vec::new();
    for level in 0..depth {
        if level > 0 {
            values = halved(&values, [height, width]);
            (height, width) = (height.div_ceil(2), width.div_ceil(2));
        }
        let positions: f64 = values.iter().sum();
        let area = positions / (height * width) as f64;
        let values = values.iter().map(|value| *value as f32).collect();
        levels.push(Arc::new(Level { width, values, positions, area }));
    }
    levels
}

/// Means over windows of 2x2, of the positions that are there.
fn halved(values: &[f64], [height, width]: [usize; 2]) -> Vec<f64> {
    let mut means = Vec::with_capacity(height.div_ceil(2) * width.div_ceil(2));
    for y in (0..height).step_by(2) {
        for x in (0..width).step_by(2) {
            let (rows, columns) = (y..height.min(y + 2), x..width.min(x + 2));
            let count = rows.len() * columns.len();
            let sum: f64 = rows.flat_map(|y| &values[y * width + columns.start..y * width + columns.end]).sum();
            means.push(sum / count as f64);
        }
    }
    means
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn windows_at_an_odd_border_count_the_positions_that_are_there() {
        let levels = levels(vec![1.0, 0.0, 0.5, 0.0, 0.0, 0.5, 1.0, 1.0, 0.25], [3, 3], 3);
        assert_eq!(levels[1].values, [0.25, 0.5, 1.0, 0.25]);
        assert_eq!((levels[1].positions, levels[1].area), (2.0, 0.5));
        assert_eq!(levels[2].values, [0.5]);
    }

    #[test]
    fn styles_with_the_same_mask_are_one_part_and_their_weights_add_up_to_one() {
        let mask = |value| Place::Within(Mask { width: 1, height: 1, values: vec![value] });
        let masks = [mask(0.5), Place::Rest, mask(0.25), mask(0.5), Place::Rest];
        let found: Vec<_> = groups(5, &masks).into_iter().map(|group| group.styles).collect();
        assert_eq!(found, [vec![0, 3], vec![1, 4], vec![2]]);
        let config = Config { style_blend_weights: vec![3.0, 0.0, 2.0, 1.0, 4.0], ..Config::default() };
        assert_eq!(blend(&config, &[0, 3]).unwrap(), [(0, 0.75), (3, 0.25)]);
        assert_eq!(blend(&config, &[1, 4]).unwrap(), [(1, 0.0), (4, 1.0)]);
        assert!(blend(&config, &[1]).is_err());
        assert_eq!(blend(&Config::default(), &[0, 1]).unwrap(), [(0, 0.5), (1, 0.5)]);
    }
}
