//! Coarse to fine: the sizes that a run goes through. Large strokes are laid while the picture is small, where the
//! network's filters cover more of it and an iteration costs less.

use super::config::{Config, Size};
use crate::picture::Picture;

/// One scale of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// From 0, the smallest.
    pub index: usize,
    /// Pixels in a row of the picture that is made.
    pub width: usize,
    /// Rows of the picture that is made.
    pub height: usize,
    /// Number of steps.
    pub iterations: u32,
}

impl Config {
    /// The scales of a run, the smallest first; the last one has the size of the result. There is one without
    /// [`Config::min_scale`], or where the result is no larger than that.
    pub fn scales(&self, content: &Picture) -> Vec<Scale> {
        let end = self.size.of(content);
        let longest = end[0].max(end[1]);
        let sides = sides(self.min_scale.unwrap_or(longest), longest, self.scale_factor);
        let scale = |(index, side): (usize, usize)| {
            let [height, width] = match side == longest {
                true => end,
                false => end.map(|length| ((length as f64 * side as f64 / longest as f64).round() as usize).max(1)),
            };
            let iterations = self.first_iterations.filter(|_| index == 0).unwrap_or(self.iterations);
            Scale { index, width, height, iterations }
        };
        sides.into_iter().enumerate().map(scale).collect()
    }

    /// Height and width that the style picture of this index gets at a scale.
    pub(super) fn style_size(&self, scale: &Scale, index: usize, style: &Picture) -> [usize; 2] {
        // One for all, or one for each.
        let factor = self.style_scale.get(index).or(self.style_scale.first()).copied().unwrap_or(1.0);
        let longest = scale.height.max(scale.width) as f32 * factor;
        self.style_size.unwrap_or(Size::Longest((longest.round() as usize).max(1))).of(style)
    }
}

/// `end / factor^i`, rounded, as long as it is `start` or more; ascending, each once. Always holds `end`.
fn sides(start: usize, end: usize, factor: f32) -> Vec<usize> {
    let mut sides = vec![end];
    // A factor of 1 or less would never end; `Config::validate` refuses it.
    for power in (1..64).take_while(|_| factor > 1.0) {
        let side = (end as f64 / f64::from(factor).powf(f64::from(power))).round() as usize;
        if side < start.max(1) {
            break;
        }
        sides.push(side);
    }
    sides.dedup();
    sides.reverse();
    sides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Picture {
        Picture { width, height, rgb: vec![0.0; width * height * 3] }
    }

    #[test]
    fn sides_are_those_of_crowsonkb() {
        // Its gen_scales(start, end) divides by sqrt(2).
        let root = std::f32::consts::SQRT_2;
        assert_eq!(sides(128, 512, root), [128, 181, 256, 362, 512]);
        assert_eq!(sides(128, 500, root), [177, 250, 354, 500]);
        assert_eq!(sides(128, 128, root), [128]);
        assert_eq!(sides(128, 100, root), [100]);
        assert_eq!(sides(1, 3, root), [1, 2, 3]);
        assert_eq!(sides(128, 256, 2.0), [128, 256]);
        assert_eq!(sides(128, 255, 2.0), [128, 255]);
        assert_eq!(sides(0, 3, 2.0), [1, 2, 3]);
        for factor in [1.0, 0.5, 0.0, -2.0, f32::NAN] {
            assert_eq!(sides(1, 512, factor), [512], "{factor}");
        }
        assert_eq!(sides(1, 512, f32::INFINITY), [512]);
    }

    #[test]
    fn every_scale_keeps_the_aspect_and_scales_the_style() {
        let config = Config {
            size: Size::Longest(256),
            min_scale: Some(64),
            scale_factor: 2.0,
            iterations: 10,
            first_iterations: Some(30),
            ..Config::default()
        };
        let content = picture(640, 427);
        let sizes = |config: &Config, index: usize| -> Vec<[usize; 2]> {
            config.scales(&content).iter().map(|scale| config.style_size(scale, index, &picture(100, 300))).collect()
        };
        let scales = config.scales(&content);
        let found: Vec<_> = scales.iter().map(|s| (s.index, [s.width, s.height], s.iterations)).collect();
        // 256 / 640 of 427 is 170.8.
        assert_eq!(found, [(0, [64, 43], 30), (1, [128, 86], 10), (2, [256, 171], 10)]);
        assert_eq!(sizes(&config, 0), [[64, 21], [128, 43], [256, 85]]);
        let each = Config { style_scale: vec![0.5, 2.0], ..config.clone() };
        assert_eq!(sizes(&each, 0), [[32, 11], [64, 21], [128, 43]]);
        assert_eq!(sizes(&each, 1), [[128, 43], [256, 85], [300, 100]], "never enlarged");
        let fixed = Config { style_size: Some(Size::Exact(9, 7)), size: Size::Exact(100, 1), ..config.clone() };
        assert!(fixed.scales(&content).iter().all(|scale| scale.height == 1));
        assert!(sizes(&fixed, 0).iter().all(|size| *size == [7, 9]));
        let small = config.scales(&picture(60, 64));
        assert_eq!((small.len(), small[0].width, small[0].iterations), (1, 60, 30), "one scale is the first one");
    }
}
