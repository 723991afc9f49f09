//! The style picture: a night sky of swirling strokes over a village.

use crate::brush::{Painting, Pass, Stroke, vary};
use crate::canvas::{Canvas, Point, Rgb, mix, scale};
use crate::land;
use crate::noise::{Rng, bump, fbm, lerp, smooth, value};
use crate::village;

/// Something the sky turns around.
struct Eddy {
    centre: Point,
    radius: f32,
    /// Sense and strength of the turning.
    spin: f32,
    /// How far it winds inwards, in radians from a circle.
    pitch: f32,
}

const EDDIES: [Eddy; 4] = [
    Eddy { centre: [0.56, 0.345], radius: 0.15, spin: 2.6, pitch: 0.16 },
    Eddy { centre: [0.29, 0.49], radius: 0.1, spin: -2.2, pitch: -0.18 },
    Eddy { centre: [0.86, 0.23], radius: 0.085, spin: -2.0, pitch: -0.2 },
    Eddy { centre: [0.05, 0.41], radius: 0.07, spin: 1.9, pitch: 0.2 },
];

/// A star or the moon: a core and rings around it.
struct Star {
    centre: Point,
    radius: f32,
    core: Rgb,
}

const WARM: Rgb = [0.99, 0.84, 0.36];
const PALE: Rgb = [0.96, 0.95, 0.80];
const ORANGE: Rgb = [0.97, 0.66, 0.22];

const STARS: [Star; 10] = [
    Star { centre: [0.19, 0.175], radius: 0.14, core: PALE },
    Star { centre: [0.42, 0.085], radius: 0.052, core: PALE },
    Star { centre: [0.645, 0.095], radius: 0.046, core: WARM },
    Star { centre: [0.955, 0.065], radius: 0.05, core: PALE },
    Star { centre: [0.385, 0.265], radius: 0.04, core: ORANGE },
    Star { centre: [0.755, 0.435], radius: 0.062, core: WARM },
    Star { centre: [0.035, 0.045], radius: 0.036, core: PALE },
    Star { centre: [0.1, 0.605], radius: 0.044, core: PALE },
    Star { centre: [0.485, 0.565], radius: 0.046, core: ORANGE },
    Star { centre: [0.64, 0.6], radius: 0.034, core: PALE },
];

/// Paints the picture, oversampled.
pub(crate) fn paint(side: usize) -> Canvas {
    let mut painting = Painting::new(side, [0.10, 0.16, 0.32]);
    paint_sky(&mut painting);
    accent_sky(&mut painting);
    for star in &STARS {
        paint_star(&mut painting, star);
    }
    paint_crescent(&mut painting, STARS[0].centre);
    for range in 0..3 {
        land::hills(&mut painting, range);
    }
    land::river(&mut painting);
    village::paint(&mut painting);
    land::cypresses(&mut painting);
    let mut canvas = painting.light(1.9);
    canvas.shade(|_, c| varnish(c));
    canvas
}

/// How far below the middle of the river of light a point lies.
fn below_stream(p: Point) -> f32 {
    p[1] - 0.60 + 0.46 * p[0] - 0.045 * (p[0] * 8.0).sin()
}

/// Varnish deepens the darks and the colours.
fn varnish(c: Rgb) -> Rgb {
    let grey = 0.3 * c[0] + 0.5 * c[1] + 0.2 * c[2];
    c.map(|v| {
        let v = lerp(grey, v, 1.04).clamp(0.0, 1.0);
        lerp(v, v * v * (3.0 - 2.0 * v), 0.42)
    })
}

fn sky_flow(p: Point) -> Point {
    // The current runs up to the right with the river of light, and wavers.
    let along = -0.46 + 0.36 * (p[0] * 8.0).cos() * bump(below_stream(p), 0.25);
    let waver = 1.3 * (fbm(p[0] * 3.2, p[1] * 3.2, 2, 17) - 0.5);
    let mut sum = [1.0, along + waver];
    for eddy in &EDDIES {
        let (dx, dy) = (p[0] - eddy.centre[0], p[1] - eddy.centre[1]);
        let r = dx.hypot(dy).max(1e-4);
        let pull = eddy.spin * bump(r, eddy.radius * 1.15) * 2.2;
        let (sin, cos) = eddy.pitch.sin_cos();
        let (tx, ty) = (-dy / r, dx / r);
        sum[0] += pull * (tx * cos - ty * sin);
        sum[1] += pull * (tx * sin + ty * cos);
    }
    for star in &STARS {
        let (dx, dy) = (p[0] - star.centre[0], p[1] - star.centre[1]);
        let r = dx.hypot(dy).max(1e-4);
        let pull = 5.0 * bump(r, star.radius * 0.85);
        sum[0] += pull * -dy / r;
        sum[1] += pull * dx / r;
    }
    sum
}

fn sky_colour(p: Point) -> Rgb {
    let night: Rgb = [0.08, 0.12, 0.36];
    let ultramarine: Rgb = [0.16, 0.28, 0.60];
    let cobalt: Rgb = [0.25, 0.46, 0.74];
    let teal: Rgb = [0.36, 0.62, 0.66];
    let low = smooth(0.15, 0.68, p[1]);
    let patch = fbm(p[0] * 4.0, p[1] * 6.0, 3, 23);
    let mut c = mix(mix(night, ultramarine, smooth(0.35, 0.6, patch)), mix(cobalt, teal, low), 0.25 + 0.5 * low);
    c = stream_colour(p, c);
    for eddy in &EDDIES {
        c = eddy_colour(p, eddy, c);
    }
    for star in &STARS {
        let r = (p[0] - star.centre[0]).hypot(p[1] - star.centre[1]) / star.radius;
        c = mix(c, halo_colour(star, r), 0.9 * smooth(1.25, 0.55, r));
    }
    c
}

/// A milky way: threads of pale paint along the current.
fn stream_colour(p: Point, behind: Rgb) -> Rgb {
    let off = below_stream(p);
    let thread = value(off * 46.0 + 2.0 * fbm(p[0] * 6.0, p[1] * 6.0, 2, 31), p[0] * 3.0, 33);
    let light: Rgb = [0.78, 0.90, 0.82];
    let gold: Rgb = [0.94, 0.82, 0.42];
    let colour = mix(light, gold, smooth(0.50, 0.78, thread));
    mix(behind, colour, bump(off, 0.080) * smooth(0.25, 0.65, thread) * 0.92)
}

/// Light and dark arms wound into a spiral.
fn eddy_colour(p: Point, eddy: &Eddy, behind: Rgb) -> Rgb {
    let (dx, dy) = (p[0] - eddy.centre[0], p[1] - eddy.centre[1]);
    let r = dx.hypot(dy) / eddy.radius;
    let phase = 2.0 * dy.atan2(dx) * eddy.spin.signum() - 7.0 * (r + 0.15).ln();
    let arm = 0.5 + 0.5 * phase.sin();
    let light: Rgb = [0.74, 0.86, 0.84];
    let dark: Rgb = [0.07, 0.16, 0.46];
    let colour = mix(dark, light, arm * arm);
    mix(behind, colour, 0.85 * smooth(1.35, 0.7, r))
}

/// Rings around a star: core, gold, green-white, blue, fading outwards.
fn halo_colour(star: &Star, r: f32) -> Rgb {
    let ring = 0.5 + 0.5 * (r * 17.0).cos();
    let near = mix(star.core, [0.80, 0.78, 0.36], smooth(0.2, 0.6, r));
    let far = mix(near, [0.42, 0.66, 0.74], smooth(0.45, 0.95, r));
    let blue: Rgb = [0.16, 0.36, 0.66];
    let ringed = mix(far, blue, (1.0 - ring) * 0.55 * smooth(0.25, 0.6, r));
    mix(mix([1.0, 0.98, 0.86], star.core, smooth(0.0, 0.22, r)), ringed, smooth(0.2, 0.4, r))
}

fn paint_sky(painting: &mut Painting) {
    let inside = |p: Point| p[1] < 0.78;
    let sizes = [(1600, 0.130, 0.028, 0.8, 0.22), (3600, 0.095, 0.017, 1.0, 0.28), (2400, 0.060, 0.0115, 1.3, 0.34)];
    for (pass, (count, length, width, load, stray)) in sizes.into_iter().enumerate() {
        painting.cover(&Pass {
            count,
            length,
            width,
            load,
            stray,
            seed: 100 + pass as u64,
            inside: &inside,
            flow: &sky_flow,
            colour: &sky_colour,
        });
    }
}

/// A few bold last strokes, loaded with lighter or darker paint.
fn accent_sky(painting: &mut Painting) {
    let inside = |p: Point| p[1] < 0.70;
    let light = |p: Point| mix(scale(sky_colour(p), 1.35), [0.85, 0.92, 0.84], 0.22);
    let dark = |p: Point| scale(sky_colour(p), 0.55);
    let ochre = |p: Point| mix([0.86, 0.70, 0.26], [0.55, 0.66, 0.40], smooth(0.1, 0.6, p[1]));
    let colours: [&dyn Fn(Point) -> Rgb; 3] = [&dark, &ochre, &light];
    for (pass, colour) in colours.into_iter().enumerate() {
        painting.cover(&Pass {
            count: [420, 130, 420][pass],
            length: [0.085, 0.048, 0.085][pass],
            width: 0.014,
            load: 1.9,
            stray: 0.24,
            seed: 120 + pass as u64,
            inside: &inside,
            flow: &sky_flow,
            colour,
        });
    }
}

/// Short thick dashes set in rings, the outermost first.
fn paint_star(painting: &mut Painting, star: &Star) {
    let mut rng = Rng::new((star.centre[0] * 4096.0) as u64 + 7);
    let flow = |p: Point| [star.centre[1] - p[1], p[0] - star.centre[0]];
    let rings = (star.radius / 0.0115).ceil() as i32;
    for ring in (0..rings).rev() {
        let r = (ring as f32 + 0.4) / rings as f32;
        let radius = r * star.radius;
        let dashes = ((radius * std::f32::consts::TAU / 0.030) as i32).max(2);
        let turn = rng.range(0.0, 6.0);
        for dash in 0..dashes {
            let angle = turn + std::f32::consts::TAU * (dash as f32 + 0.4 * rng.bell()) / dashes as f32;
            if r > 0.6 && rng.unit() < (r - 0.5) * 1.3 {
                continue;
            }
            let wobble = radius + 0.002 * rng.bell();
            let colour = vary(halo_colour(star, r), 0.14, &mut rng);
            let stroke = Stroke {
                start: [star.centre[0] + wobble * angle.cos(), star.centre[1] + wobble * angle.sin()],
                length: rng.range(0.018, 0.034).min(0.012 + radius * 2.0),
                width: rng.range(0.0085, 0.0125),
                colour,
                streak: vary(colour, 0.2, &mut rng),
                load: lerp(1.7, 1.0, r),
                seed: rng.seed(),
            };
            painting.stroke(&stroke, &flow, &|_| true);
        }
    }
}

/// The moon's dim disc, then its bright crescent in fresh thick paint.
fn paint_crescent(painting: &mut Painting, centre: Point) {
    let radius = 0.062;
    let from = |c: Point, p: Point| (p[0] - c[0]).hypot(p[1] - c[1]);
    let bite = [centre[0] + 0.030, centre[1] - 0.014];
    let disc = |p: Point| from(centre, p) < radius;
    let crescent = |p: Point| disc(p) && from(bite, p) > radius * 0.80;
    let flow = |p: Point| [centre[1] - p[1], p[0] - centre[0]];
    let dim = |_: Point| [0.52, 0.68, 0.62];
    let bright = |p: Point| mix([1.0, 0.93, 0.58], [1.0, 0.72, 0.16], from(centre, p) / radius);
    let mut pass = Pass {
        count: 9000,
        length: 0.04,
        width: 0.011,
        load: 1.2,
        stray: 0.10,
        seed: 190,
        inside: &disc,
        flow: &flow,
        colour: &dim,
    };
    painting.cover(&pass);
    pass = Pass { count: 14000, length: 0.05, load: 1.9, stray: 0.09, inside: &crescent, colour: &bright, ..pass };
    painting.cover(&pass);
}
