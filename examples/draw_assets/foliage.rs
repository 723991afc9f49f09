//! Trees, reeds and willow branches, built leaf by leaf.

use crate::canvas::{Canvas, Point, Rgb, add, mix, scale};
use crate::noise::{Rng, lerp};

/// A tree crown: where, how big, and of what colour.
pub(crate) struct Crown {
    pub(crate) centre: Point,
    pub(crate) radius: f32,
    pub(crate) colour: Rgb,
    /// How far the air between has faded it.
    pub(crate) haze: f32,
}

/// Leaves are laid from the shaded underside to the lit top, so that the light
/// ones overlap the dark ones the way they do in a real crown.
pub(crate) fn crown(canvas: &mut Canvas, crown: &Crown, rng: &mut Rng) {
    let area = crown.radius * canvas.side() as f32;
    let leaves = (area * area * 0.5) as usize + 30;
    for leaf in 0..leaves {
        let rise = leaf as f32 / leaves as f32;
        let angle = rng.range(0.0, std::f32::consts::TAU);
        let reach = rng.unit().sqrt() * (1.0 + 0.18 * (angle * 5.0 + crown.centre[0] * 90.0).sin());
        let (dx, dy) = (angle.cos() * reach, angle.sin() * reach);
        // Later leaves stay towards the sun, up and to the left.
        let shift = rise * 0.32;
        let place = [
            crown.centre[0] + crown.radius * (dx * (1.0 - 0.4 * rise) - shift),
            crown.centre[1] + crown.radius * (dy * (0.9 - 0.4 * rise) - shift * 1.2),
        ];
        let light = lerp(0.30, 1.32, rise * rise) - 0.12 * dy + 0.22 * rng.bell();
        let warm = scale([0.14, 0.10, 0.00], rise * rise * rise);
        let colour = add(scale(crown.colour, light), warm);
        let colour = mix(colour, [0.80, 0.80, 0.74], crown.haze);
        let size = rng.range(0.0011, 0.0024);
        canvas.ellipse(place, [size * 1.5, size], rng.range(0.0, 3.1), colour);
    }
}

/// A conifer: tiers of drooping boughs around a hidden trunk.
pub(crate) fn pine(canvas: &mut Canvas, foot: Point, height: f32, haze: f32, rng: &mut Rng) {
    let boughs = (height * canvas.side() as f32 * 1.3) as usize;
    for bough in 0..boughs {
        let up = bough as f32 / boughs as f32;
        let side = rng.bell() * 1.2;
        let reach = side * height * 0.36 * (1.0 - up).powf(0.8);
        let base = [foot[0], foot[1] - height * (0.08 + 0.92 * up)];
        let tip = [foot[0] + reach, base[1] + reach.abs() * 0.45];
        let middle = [foot[0] + reach * 0.5, base[1] + reach.abs() * 0.05];
        let light = lerp(1.15, 0.45, 0.5 + 0.5 * side.clamp(-1.0, 1.0)) * rng.range(0.7, 1.2);
        let colour = mix(scale([0.17, 0.26, 0.15], light), [0.80, 0.80, 0.74], haze);
        canvas.blade([base, middle, tip], [0.0016, 0.0008], colour);
    }
}

/// A clump of reeds rising from `foot`.
pub(crate) fn reeds(canvas: &mut Canvas, foot: Point, height: f32, rng: &mut Rng) {
    let tall = height * rng.range(0.55, 1.1);
    let lean = rng.bell() * 0.35 + 0.10;
    let droop = rng.range(0.0, 0.35);
    let middle = [foot[0] + lean * tall * 0.35, foot[1] - tall * 0.62];
    let tip = [foot[0] + (lean + droop) * tall, foot[1] - tall * (1.0 - 0.25 * droop)];
    let dark = [0.10, 0.15, 0.08];
    let light = [0.52, 0.55, 0.22];
    let colour = mix(dark, light, rng.unit() * rng.unit());
    canvas.blade([foot, middle, tip], [0.0022, 0.0005], colour);
    if rng.unit() < 0.10 {
        let head = [tip[0], tip[1] + 0.012];
        canvas.ellipse(head, [0.0145, 0.0040], 1.5 + lean, [0.33, 0.20, 0.11]);
    }
}

/// One hanging willow branch, with narrow leaves along it.
pub(crate) fn willow_branch(canvas: &mut Canvas, top: Point, length: f32, rng: &mut Rng) {
    let sway = rng.range(-0.02, 0.05);
    let shade = rng.range(0.55, 1.1);
    let steps = (length * 230.0) as usize;
    let mut last = top;
    for step in 1..=steps {
        let t = step as f32 / steps as f32;
        let place = [top[0] + sway * t * t + 0.004 * (t * 9.0 + top[0] * 70.0).sin(), top[1] + length * t];
        canvas.blade([last, place, place], [0.0007, 0.0006], [0.24, 0.23, 0.10]);
        let side = if step % 2 == 0 { 1.0 } else { -1.0 };
        let angle = std::f32::consts::FRAC_PI_2 + side * rng.range(0.25, 0.75);
        let reach = rng.range(0.006, 0.010) * (1.15 - 0.5 * t);
        let middle = [place[0] + angle.cos() * reach, place[1] + angle.sin().abs() * reach];
        let light = shade * rng.range(0.6, 1.25);
        let green = mix([0.25, 0.35, 0.10], [0.60, 0.64, 0.22], rng.unit() * 0.8);
        canvas.ellipse(middle, [reach, 0.0016], angle, scale(green, light));
        last = place;
    }
}
