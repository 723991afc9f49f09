//! The far part of the lake view: sky, clouds and hazy mountain ranges.

use crate::canvas::{Point, Rgb, add, mix, scale};
use crate::noise::{bump, fbm, ridged, smooth};

/// Where the water begins.
pub(crate) const SHORE: f32 = 0.62;

/// The colour distance fades to.
const HAZE: Rgb = [0.93, 0.88, 0.80];

/// The sun stands low, outside the left edge.
const SUN: Point = [0.10, 0.40];

/// One mountain range: broad peaks as `[place, height, breadth]`, roughened.
struct Range {
    peaks: [[f32; 3]; 4],
    haze: f32,
    body: Rgb,
    seed: u32,
}

/// Far to near.
const RANGES: [Range; 4] = [
    Range {
        peaks: [[0.33, 0.21, 0.12], [0.16, 0.13, 0.10], [0.80, 0.17, 0.10], [1.00, 0.12, 0.10]],
        haze: 0.58,
        body: [0.38, 0.48, 0.66],
        seed: 11,
    },
    Range {
        peaks: [[0.06, 0.16, 0.10], [0.25, 0.09, 0.09], [0.94, 0.14, 0.09], [0.48, 0.11, 0.10]],
        haze: 0.42,
        body: [0.30, 0.42, 0.55],
        seed: 27,
    },
    Range {
        peaks: [[-0.04, 0.11, 0.11], [0.17, 0.055, 0.08], [0.38, 0.075, 0.09], [1.04, 0.12, 0.08]],
        haze: 0.30,
        body: [0.22, 0.35, 0.40],
        seed: 35,
    },
    Range {
        peaks: [[-0.05, 0.055, 0.09], [0.29, 0.045, 0.08], [0.10, 0.022, 0.06], [1.00, 0.04, 0.08]],
        haze: 0.18,
        body: [0.18, 0.29, 0.27],
        seed: 44,
    },
];

/// Sky with mountains in front of it, at a point above the shore.
pub(crate) fn backdrop(p: Point) -> Rgb {
    let mut colour = clouds(p, clear_sky(p));
    for range in &RANGES {
        colour = mountains(p, range, colour);
    }
    colour
}

fn clear_sky(p: Point) -> Rgb {
    let zenith = [0.30, 0.50, 0.74];
    let middle = [0.62, 0.76, 0.88];
    let t = p[1] / SHORE;
    let colour = mix(zenith, middle, smooth(0.0, 0.62, t));
    let colour = mix(colour, HAZE, smooth(0.38, 0.95, t));
    let glow = bump((p[0] - SUN[0]).hypot((p[1] - SUN[1]) * 1.3), 0.34);
    mix(colour, [1.0, 0.90, 0.70], 0.65 * glow)
}

/// Cloud thickness on a flat ceiling seen in perspective, broken up by warping.
fn cloud_density(p: Point) -> f32 {
    let depth = 1.0 / (SHORE - p[1] + 0.16);
    let (x, y) = ((p[0] - 0.5) * depth * 1.25, depth * 1.55);
    let warp = fbm(x * 1.3 + 4.0, y * 1.3, 4, 71) - 0.5;
    fbm(x + 1.1 * warp + 2.3, y + 0.8 * warp, 7, 72)
}

fn clouds(p: Point, behind: Rgb) -> Rgb {
    let density = cloud_density(p);
    let cover = smooth(0.44, 0.66, density);
    if cover <= 0.0 {
        return behind;
    }
    // Less cloud towards the sun means a lit edge.
    let sunward = cloud_density([p[0] - 0.014, p[1] + 0.006]);
    let lit = (0.55 + (density - sunward) * 5.0 - 0.8 * (density - 0.58)).clamp(0.0, 1.0);
    let colour = mix([0.70, 0.73, 0.82], [1.0, 0.97, 0.92], lit);
    mix(behind, colour, 0.92 * cover)
}

fn crest(x: f32, range: &Range) -> f32 {
    let rise: f32 = range.peaks.iter().map(|[place, height, breadth]| height * bump(x - place, *breadth)).sum();
    let rough = ridged(x * 9.0, 0.8, 6, range.seed + 1) - 0.6;
    SHORE - 0.012 - rise - 0.35 * rough * (rise + 0.02)
}

fn mountains(p: Point, range: &Range, behind: Rgb) -> Rgb {
    let below = p[1] - crest(p[0], range);
    if below < 0.0 {
        return behind;
    }
    // Spurs run down the slope: relief lit from the left.
    let bent = 0.9 * fbm(p[0] * 9.0, p[1] * 12.0, 2, range.seed + 5);
    let (x, y) = (p[0] * 26.0 + bent, p[1] * 13.0);
    let relief = |x: f32, y: f32| ridged(x, y, 4, range.seed + 2);
    let slope = relief(x, y) - relief(x - 0.30, y + 0.05);
    let woods = fbm(p[0] * 160.0, p[1] * 190.0, 3, range.seed + 3) - 0.5;
    let body = scale(range.body, 1.0 + 0.85 * slope + 0.5 * woods);
    let body = add(body, scale([0.05, 0.03, 0.00], (slope * 3.0).clamp(0.0, 1.0)));
    // Mist lies in the valleys, thicker lower down and in drifts.
    let drift = fbm(p[0] * 4.0, p[1] * 18.0, 3, range.seed + 4) - 0.5;
    let mist = smooth(0.02, 0.15, below + 0.05 * drift) * 0.62;
    let haze = (range.haze + mist * (1.0 - range.haze)).min(0.95);
    let warm = bump(p[0] - SUN[0], 0.35);
    let low = smooth(0.0, 0.16, below);
    let air = mix([0.76, 0.81, 0.87], mix(HAZE, [1.0, 0.88, 0.68], 0.4 * warm), 0.25 + 0.75 * low);
    mix(body, air, haze)
}
