//! The content picture: a pagoda on a wooded hill over a misty lake.

use crate::bridge;
use crate::canvas::{Canvas, Point, Rgb, add, mix, scale};
use crate::foliage::{self, Crown};
use crate::noise::{Rng, bump, fbm, hash, lerp, smooth, value};
use crate::pagoda::{self, Tower};
use crate::sky::{self, SHORE};

const PAGODA: Tower = Tower { foot: [0.60, 0.475], height: 0.385 };

/// Paints the picture, oversampled.
pub(crate) fn paint(side: usize) -> Canvas {
    let mut canvas = Canvas::new(side);
    canvas.shade(|p, _| sky::backdrop([p[0], p[1].min(SHORE)]));
    far_woods(&mut canvas);
    hill_behind(&mut canvas);
    pagoda::draw(&mut canvas, &PAGODA);
    hill_front(&mut canvas);
    bridge::draw(&mut canvas);
    shore_mist(&mut canvas);
    water(&mut canvas);
    bridge::boat(&mut canvas);
    willow(&mut canvas);
    reed_bed(&mut canvas);
    develop(&mut canvas);
    canvas
}

/// Skyline of the wooded hill.
fn hill_line(x: f32) -> f32 {
    let back = 0.150 * bump(x - 0.60, 0.17) + 0.055 * bump(x - 0.83, 0.13);
    let lumps = 0.020 * (fbm(x * 9.0, 0.5, 4, 5) - 0.5);
    SHORE + 0.012 - back - lumps - 0.018 * smooth(0.25, 0.45, x)
}

fn tree_colour(rng: &mut Rng) -> Rgb {
    let kinds: [Rgb; 6] = [
        [0.20, 0.28, 0.13],
        [0.25, 0.31, 0.14],
        [0.16, 0.24, 0.14],
        [0.31, 0.33, 0.15],
        [0.42, 0.31, 0.14],
        [0.44, 0.23, 0.12],
    ];
    let pick = (rng.unit() * rng.unit() * kinds.len() as f32) as usize;
    scale(kinds[pick.min(kinds.len() - 1)], rng.range(0.85, 1.2))
}

/// A thin line of trees on the left bank, half lost in the haze.
fn far_woods(canvas: &mut Canvas) {
    let mut rng = Rng::new(21);
    for _ in 0..110 {
        let x = rng.range(-0.02, 0.5);
        let radius = rng.range(0.008, 0.017) * (1.0 - 0.5 * x);
        foliage::crown(
            canvas,
            &Crown {
                centre: [x, SHORE - radius * rng.range(0.4, 1.3)],
                radius,
                colour: tree_colour(&mut rng),
                haze: 0.38,
            },
            &mut rng,
        );
    }
}

/// Trees planted down the slope between two depths, far ones first.
fn plant(canvas: &mut Canvas, seed: u64, count: usize, depths: [f32; 2], keep: fn(Point) -> bool) {
    let mut rng = Rng::new(seed);
    for tree in 0..count {
        let depth = lerp(depths[0], depths[1], tree as f32 / count as f32);
        let x = rng.range(0.27, 1.03);
        let line = hill_line(x);
        let y = lerp(line, SHORE - 0.006, depth);
        let radius = lerp(0.010, 0.032, rng.unit() * rng.unit()) * lerp(0.9, 1.15, depth);
        // The side of the hill away from the sun lies in shade.
        let shade = smooth(0.50, 0.95, x + 0.10 * (fbm(x * 7.0, depth * 3.0, 2, 33) - 0.5));
        let colour = mix(scale(tree_colour(&mut rng), 1.08), scale(tree_colour(&mut rng), 0.62), shade);
        if SHORE - line < 0.012 || !keep([x, y]) {
            continue;
        }
        let crown = Crown { centre: [x, y - radius * 0.4], radius, colour, haze: lerp(0.16, 0.05, depth) };
        foliage::crown(canvas, &crown, &mut rng);
        if rng.unit() < 0.05 {
            let height = rng.range(0.035, 0.075);
            foliage::pine(canvas, [x, y], height, crown.haze, &mut rng);
        }
    }
}

fn hill_behind(canvas: &mut Canvas) {
    canvas.shade(|p, behind| {
        if p[1] > hill_line(p[0]) && p[1] < SHORE + 0.004 && p[0] > 0.27 {
            scale([0.14, 0.20, 0.11], 0.8 + 0.4 * value(p[0] * 300.0, p[1] * 300.0, 6))
        } else {
            behind
        }
    });
    plant(canvas, 31, 220, [0.0, 0.25], |_| true);
}

/// The slope in front of the tower; its terrace stays clear of trees.
fn hill_front(canvas: &mut Canvas) {
    plant(canvas, 32, 560, [0.06, 1.0], |p| {
        let beside = (p[0] - PAGODA.foot[0]).abs();
        beside > 0.078 || p[1] > PAGODA.foot[1] + 0.018
    });
}

/// Morning mist along the far water's edge, and a pale strip of bank.
fn shore_mist(canvas: &mut Canvas) {
    canvas.shade(|p, c| {
        let drift = fbm(p[0] * 6.0, p[1] * 40.0, 4, 61);
        let mist = bump(p[1] - SHORE + 0.012, 0.030) * smooth(0.35, 0.75, drift);
        let left = lerp(0.75, 0.30, smooth(0.2, 0.5, p[0]));
        let c = mix(c, [0.95, 0.90, 0.82], mist * left);
        let bank = SHORE - 0.004 + 0.003 * value(p[0] * 60.0, 0.0, 62);
        if p[1] > bank { scale([0.50, 0.44, 0.33], 0.7 + 0.6 * hash((p[0] * 700.0) as i32, 0, 63)) } else { c }
    });
}

/// Slope of the water's surface, as seen in perspective: ripples shrink and
/// flatten with distance.
fn ripple(p: Point, seed: u32) -> f32 {
    let depth = 1.0 / (p[1] - SHORE + 0.035);
    let (x, z) = ((p[0] - 0.5) * depth, depth);
    let swell = fbm(x * 2.2, z * 3.2, 3, seed) - 0.5;
    let chop = fbm(x * 7.0, z * 9.0, 3, seed + 7) - 0.5;
    swell + 0.7 * chop
}

fn water(canvas: &mut Canvas) {
    let scene = canvas.clone();
    canvas.shade(|p, above| {
        if p[1] < SHORE {
            return above;
        }
        water_colour(&scene, p)
    });
}

fn water_colour(scene: &Canvas, p: Point) -> Rgb {
    let near = (p[1] - SHORE) / (1.0 - SHORE);
    let calm = smooth(0.42, 0.62, fbm(p[0] * 2.0, p[1] * 14.0, 3, 83));
    let strength = lerp(0.35, 1.0, calm);
    let slope = ripple(p, 81) * strength;
    let aside = ripple([p[0] + 0.37, p[1]], 82) * strength;
    let mirrored = SHORE - (p[1] - SHORE) * 1.12;
    let mut sum = [0.0; 3];
    let taps = 5;
    for tap in 0..taps {
        // A facet too small to draw smears the mirror image up and down.
        let spread = (tap as f32 - 2.0) * (0.002 + 0.006 * near);
        let y = mirrored - slope * (0.012 + 0.13 * near) - spread;
        let x = p[0] + aside * (0.004 + 0.022 * near);
        sum = add(sum, scene.sample([x, y.clamp(0.002, SHORE - 0.006)]));
    }
    let mirror = scale(sum, 1.0 / taps as f32);
    let deep = [0.13, 0.25, 0.28];
    let seen = mix(mirror, deep, 0.16 + 0.30 * near * near);
    let glint = smooth(0.20, 0.42, slope) * (0.10 + 0.22 * near);
    let dark = smooth(0.12, 0.36, -slope) * (0.08 + 0.22 * near);
    mix(scale(seen, 1.0 - dark), [0.86, 0.90, 0.92], glint)
}

/// A willow outside the frame hangs into the upper left corner.
fn willow(canvas: &mut Canvas) {
    let mut rng = Rng::new(51);
    let bark = [0.17, 0.13, 0.09];
    canvas.blade([[-0.02, 0.14], [0.08, 0.02], [0.24, -0.01]], [0.013, 0.006], bark);
    canvas.blade([[-0.02, 0.06], [0.10, 0.05], [0.31, 0.02]], [0.008, 0.002], bark);
    for _ in 0..85 {
        let t = rng.unit();
        let x = lerp(-0.02, 0.31, t * t.sqrt());
        let top = [x, rng.range(-0.04, 0.05)];
        let length = lerp(0.52, 0.12, x / 0.31) * rng.range(0.45, 1.0);
        foliage::willow_branch(canvas, top, length, &mut rng);
    }
}

fn reed_bed(canvas: &mut Canvas) {
    let mut rng = Rng::new(41);
    for reed in 0..330 {
        let depth = reed as f32 / 330.0;
        let t = rng.unit();
        let left = rng.unit() < 0.42;
        let x = if left { t * t * 0.40 - 0.03 } else { 1.03 - t * t * 0.42 };
        let edge = if left { x } else { 1.0 - x };
        let foot = [x, lerp(0.95, 1.03, depth) + 0.06 * edge];
        let height = lerp(0.24, 0.07, (edge / 0.40).clamp(0.0, 1.0).sqrt());
        foliage::reeds(canvas, foot, height, &mut rng);
    }
}

/// The camera's part: a little contrast, a vignette and fine grain.
fn develop(canvas: &mut Canvas) {
    let side = canvas.side() as f32;
    canvas.shade(|p, c| {
        let corner = (p[0] - 0.5).powi(2) + (p[1] - 0.5).powi(2);
        let light = 1.0 - 0.30 * corner;
        let grain = hash((p[0] * side) as i32, (p[1] * side) as i32, 99) - 0.5;
        c.map(|v| {
            let v = (v * light).clamp(0.0, 1.0);
            lerp(v, v * v * (3.0 - 2.0 * v), 0.45) + grain * 0.018
        })
    });
}
