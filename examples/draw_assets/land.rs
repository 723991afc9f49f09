//! The dark lower part of the night: hills, river and cypresses.

use crate::brush::{Painting, Pass};
use crate::canvas::{Point, Rgb, mix, scale};
use crate::noise::{bump, fbm, smooth, value};
use crate::village::RIVER;

/// Skyline of one of three ranges, far to near.
fn hill_line(range: usize, x: f32) -> f32 {
    let (base, relief, shift) = [(0.700, 0.085, 0.0), (0.755, 0.065, 2.1), (0.815, 0.045, 4.4)][range];
    let wave = (x * 7.0 + shift).sin() * 0.4 + (x * 13.0 + shift * 2.0).sin() * 0.2;
    base - relief * (wave + 0.8 * (value(x * 5.0, shift, 19) - 0.5))
}

/// Paints one of the three ranges of hills.
pub(crate) fn hills(painting: &mut Painting, range: usize) {
    let inside = |p: Point| p[1] > hill_line(range, p[0]) && p[1] < RIVER + 0.01;
    let flow = |p: Point| {
        let slope = (hill_line(range, p[0] + 0.01) - hill_line(range, p[0] - 0.01)) / 0.02;
        let swing = 0.6 * (p[0] * 30.0 + p[1] * 60.0).sin();
        [1.0, slope * 1.4 + 0.5 * swing]
    };
    let colour = |p: Point| {
        let tones: [(Rgb, Rgb); 3] = [
            ([0.20, 0.36, 0.60], [0.46, 0.66, 0.72]),
            ([0.08, 0.18, 0.44], [0.26, 0.50, 0.54]),
            ([0.05, 0.13, 0.22], [0.30, 0.44, 0.24]),
        ];
        let (dark, light) = tones[range];
        let rim = bump(p[1] - hill_line(range, p[0]), 0.014);
        let patch = smooth(0.4, 0.7, fbm(p[0] * 9.0, p[1] * 22.0, 3, 40 + range as u32));
        mix(mix(dark, light, patch), scale(light, 1.35), 0.75 * rim)
    };
    for (pass, (count, length, width)) in [(2600, 0.080, 0.018), (2400, 0.050, 0.0115)].into_iter().enumerate() {
        painting.cover(&Pass {
            count,
            length,
            width,
            load: 1.0,
            stray: 0.22,
            seed: 200 + 10 * range as u64 + pass as u64,
            inside: &inside,
            flow: &flow,
            colour: &colour,
        });
    }
}

/// Paints the river below the village.
pub(crate) fn river(painting: &mut Painting) {
    let inside = |p: Point| p[1] > RIVER;
    let flow = |p: Point| [1.0, 0.25 * (p[0] * 22.0 + p[1] * 40.0).sin()];
    let colour = |p: Point| {
        let patch = fbm(p[0] * 6.0, p[1] * 34.0, 3, 55);
        mix([0.05, 0.10, 0.30], [0.22, 0.42, 0.62], smooth(0.38, 0.68, patch))
    };
    for (pass, (count, length, width)) in [(4500, 0.09, 0.016), (4000, 0.06, 0.0105)].into_iter().enumerate() {
        painting.cover(&Pass {
            count,
            length,
            width,
            load: 1.0,
            stray: 0.22,
            seed: 260 + pass as u64,
            inside: &inside,
            flow: &flow,
            colour: &colour,
        });
    }
}

/// Signed place inside a cypress: `None` outside, else -1..1 across it.
fn across_cypress(p: Point) -> Option<f32> {
    let trees = [(0.865, 0.34, 0.062), (0.945, 0.52, 0.048)];
    trees.into_iter().find_map(|(x, top, half)| {
        let t = (p[1] - top) / (1.04 - top);
        if !(0.0..1.0).contains(&t) {
            return None;
        }
        let sway = 0.016 * (p[1] * 13.0).sin();
        let flame = 1.0 + 0.22 * (p[1] * 46.0 + 3.0 * (p[0] - x).signum()).sin();
        let width = half * t.powf(0.62) * (1.15 - 0.3 * t) * flame;
        let across = (p[0] - x - sway) / width;
        (across.abs() < 1.0).then_some(across)
    })
}

/// Paints the two cypresses, in strokes that climb like flames.
pub(crate) fn cypresses(painting: &mut Painting) {
    let inside = |p: Point| across_cypress(p).is_some();
    let flow = |p: Point| {
        let across = across_cypress(p).unwrap_or(0.0);
        [0.55 * across + 0.45 * (p[1] * 40.0 + p[0] * 60.0).sin(), -1.0]
    };
    let colour = |p: Point| {
        let across = across_cypress(p).unwrap_or(0.0);
        let patch = smooth(0.45, 0.72, fbm(p[0] * 30.0, p[1] * 12.0, 3, 66));
        let c = mix([0.04, 0.07, 0.09], [0.18, 0.36, 0.22], patch);
        mix(c, [0.66, 0.60, 0.24], 0.45 * smooth(0.2, -0.9, across) * patch)
    };
    for (pass, (count, length, width)) in [(9000, 0.10, 0.016), (9000, 0.065, 0.0105)].into_iter().enumerate() {
        painting.cover(&Pass {
            count,
            length,
            width,
            load: 1.2,
            stray: 0.22,
            seed: 280 + pass as u64,
            inside: &inside,
            flow: &flow,
            colour: &colour,
        });
    }
}
