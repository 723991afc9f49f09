//! The lower part of the night: houses with lit windows and their reflections.

use crate::brush::{Painting, Stroke, vary};
use crate::canvas::{Point, Rgb, scale};
use crate::noise::Rng;

/// Where the houses stand and where the river begins.
pub(crate) const RIVER: f32 = 0.865;

/// Paints the houses from far to near, then their lights in the river.
pub(crate) fn paint(painting: &mut Painting) {
    let mut rng = Rng::new(301);
    for row in 0..3 {
        for house in (row..17).step_by(3) {
            let x = 0.03 + house as f32 * 0.043 + 0.020 * rng.bell();
            let back = 0.034 - 0.017 * row as f32;
            let floor = RIVER - 0.004 - back - 0.008 * rng.unit();
            paint_house(painting, [x, floor], rng.range(0.7, 1.55), &mut rng);
        }
    }
}

fn straight(painting: &mut Painting, from: Point, to: Point, width: f32, colour: Rgb, rng: &mut Rng) {
    let along = [to[0] - from[0], to[1] - from[1]];
    let stroke = Stroke {
        start: [from[0] + 0.5 * along[0], from[1] + 0.5 * along[1]],
        length: along[0].hypot(along[1]),
        width,
        colour: vary(colour, 0.12, rng),
        streak: vary(colour, 0.22, rng),
        load: 1.1,
        seed: rng.seed(),
    };
    painting.stroke(&stroke, &|_| along, &|_| true);
}

fn paint_house(painting: &mut Painting, foot: Point, size: f32, rng: &mut Rng) {
    let walls: [Rgb; 4] = [[0.24, 0.34, 0.52], [0.46, 0.44, 0.42], [0.13, 0.20, 0.38], [0.36, 0.30, 0.34]];
    let wall = walls[(rng.unit() * 3.99) as usize];
    let (half, tall) = (0.021 * size, 0.030 * size);
    let [x, y] = foot;
    for part in 0..4 {
        let side = x + half * (part as f32 / 1.5 - 1.0);
        let (from, to) = ([side, y - tall], [side, y + 0.004]);
        straight(painting, from, to, half * 0.8, wall, rng);
    }
    paint_roof(painting, [x, y - tall], half * 1.5, 0.024 * size, rng);
    for window in 0..2 {
        if rng.unit() < 0.68 {
            let at = [x + half * (window as f32 - 0.5) * 1.1, y - tall * 0.5];
            paint_light(painting, at, size, rng);
        }
    }
}

/// A roof in level strokes, with moonlight along its left slope.
fn paint_roof(painting: &mut Painting, eave: Point, half: f32, rise: f32, rng: &mut Rng) {
    let roofs: [Rgb; 3] = [[0.42, 0.20, 0.13], [0.20, 0.14, 0.24], [0.30, 0.20, 0.16]];
    let roof = roofs[(rng.unit() * 2.99) as usize];
    let [x, y] = eave;
    for course in 0..5 {
        let up = course as f32 / 4.0;
        let (reach, row) = (half * (1.0 - 0.85 * up), y - rise * up);
        let (from, to) = ([x - reach, row], [x + reach, row]);
        straight(painting, from, to, 0.010, roof, rng);
    }
    let moonlit = scale(roof, 1.7);
    straight(painting, [x - half, y], [x, y - rise], 0.006, moonlit, rng);
}

/// A lit window, and the broken column of its reflection.
fn paint_light(painting: &mut Painting, at: Point, size: f32, rng: &mut Rng) {
    let glow: Rgb = [0.98, 0.80, 0.30];
    let tall = 0.011 * size;
    straight(painting, [at[0], at[1] - tall * 0.5], [at[0], at[1] + tall * 0.5], 0.010, glow, rng);
    paint_reflection(painting, at[0], rng);
}

/// Dabs that widen and scatter as they come nearer.
fn paint_reflection(painting: &mut Painting, x: f32, rng: &mut Rng) {
    let colours: [Rgb; 4] = [[0.97, 0.86, 0.44], [0.95, 0.72, 0.26], [0.90, 0.50, 0.14], [0.70, 0.72, 0.52]];
    let end = rng.range(0.925, 1.0);
    let mut y = RIVER + 0.008;
    while y < end {
        let near = (y - RIVER) / (1.0 - RIVER);
        let reach = rng.range(0.012, 0.024) * (0.8 + near);
        let middle = x + (0.004 + 0.018 * near) * rng.bell();
        let colour = colours[(rng.unit() * rng.unit() * 3.99) as usize];
        let tilt = 0.004 * rng.bell();
        let from = [middle - reach * 0.5, y - tilt];
        let to = [middle + reach * 0.5, y + tilt];
        straight(painting, from, to, rng.range(0.006, 0.011), colour, rng);
        y += rng.range(0.006, 0.016) * (1.0 + 0.8 * near);
    }
}
