//! Small things on the lake: a far arched bridge and a boat.

use crate::canvas::{Canvas, Point, Rgb, mix, scale};
use crate::noise::{Rng, bump, hash, lerp};
use crate::sky::SHORE;

/// Middle of the bridge along the far bank.
const MIDDLE: f32 = 0.235;

/// Line of the causeway and of the bridge's hump.
fn deck(x: f32) -> f32 {
    SHORE - 0.010 - 0.030 * bump(x - MIDDLE, 0.050)
}

/// Draws a causeway with one round arch, standing in the water.
pub(crate) fn draw(canvas: &mut Canvas) {
    canvas.shade(|p, behind| bridge_colour(p).unwrap_or(behind));
}

fn bridge_colour(p: Point) -> Option<Rgb> {
    let dx = p[0] - MIDDLE;
    let below = p[1] - deck(p[0]);
    if dx.abs() > 0.125 || p[1] > SHORE || below < -0.007 {
        return None;
    }
    let stone = 0.9 + 0.16 * hash((p[0] * 220.0) as i32, (below * 260.0) as i32, 12);
    let colour: Rgb = if below < 0.0 {
        let post = (p[0] * 110.0).rem_euclid(1.0) < 0.35;
        if below > -0.0055 && !post {
            return None;
        }
        [0.80, 0.75, 0.66]
    } else if dx.hypot(p[1] - SHORE) < 0.0255 {
        [0.27, 0.31, 0.32]
    } else if dx.hypot(p[1] - SHORE) < 0.0290 || below < 0.003 {
        [0.84, 0.79, 0.69]
    } else {
        [0.62, 0.58, 0.51]
    };
    Some(mix(scale(colour, stone), [0.93, 0.88, 0.80], 0.12))
}

/// Dark oiled wood.
const HULL: Rgb = [0.20, 0.13, 0.09];

/// Draws a covered rowing boat with its boatman, and their broken reflection.
pub(crate) fn boat(canvas: &mut Canvas) {
    let place = [0.335, 0.742];
    boat_reflection(canvas, place);
    boat_hull(canvas, place);
    boat_roof(canvas, place);
    boatman(canvas, place);
}

fn boat_hull(canvas: &mut Canvas, [x, y]: Point) {
    for plank in 0..5 {
        let t = plank as f32 / 4.0;
        let (reach, row) = (lerp(0.060, 0.040, t), y + 0.0021 * plank as f32);
        let bow = [x - reach, row - 0.010 * (1.0 - t)];
        let stern = [x + reach, row - 0.013 * (1.0 - t)];
        let colour = if plank == 0 { [0.52, 0.36, 0.22] } else { HULL };
        canvas.blade([bow, [x, row + 0.006], stern], [0.0016, 0.0016], colour);
    }
}

/// Woven hoops, lit from the left.
fn boat_roof(canvas: &mut Canvas, [x, y]: Point) {
    for hoop in 0..22 {
        let t = hoop as f32 / 21.0;
        let foot = [x + lerp(-0.022, 0.024, t), y];
        let tall = 0.020 * (1.0 - (2.0 * t - 1.0).powi(4)).sqrt();
        let weave = if hoop % 3 == 0 { 0.8 } else { 1.0 };
        let colour = scale([0.60, 0.48, 0.30], lerp(1.15, 0.62, t) * weave);
        let up = |part: f32| [foot[0], foot[1] - tall * part];
        canvas.blade([foot, up(0.5), up(1.0)], [0.0014, 0.0014], colour);
    }
}

/// Coat, head, straw hat and oar.
fn boatman(canvas: &mut Canvas, [x, y]: Point) {
    let at = |dx: f32, dy: f32| [x + dx, y + dy];
    let coat = [at(0.041, -0.006), at(0.042, -0.016), at(0.039, -0.027)];
    canvas.blade(coat, [0.0048, 0.0034], [0.16, 0.20, 0.28]);
    let head = at(0.0385, -0.0325);
    canvas.ellipse(head, [0.0030, 0.0036], 0.0, [0.62, 0.46, 0.35]);
    let hat = [at(0.030, -0.0335), at(0.0385, -0.0405), at(0.047, -0.0335)];
    canvas.blade(hat, [0.0014, 0.0014], [0.82, 0.70, 0.44]);
    let oar = [at(0.034, -0.020), at(0.052, -0.012), at(0.078, 0.010)];
    canvas.blade(oar, [0.0011, 0.0009], HULL);
}

fn boat_reflection(canvas: &mut Canvas, [x, y]: Point) {
    let mut rng = Rng::new(77);
    for line in 0..44 {
        let t = line as f32 / 43.0;
        let row = y + 0.006 + 0.040 * t;
        let reach = lerp(0.046, 0.012, t) * (0.8 + 0.2 * (t * 40.0).sin() + 0.12 * rng.bell());
        let middle = x + 0.006 + 0.014 * t * rng.bell();
        let colour = mix([0.15, 0.14, 0.12], [0.42, 0.45, 0.44], 0.85 * t * rng.range(0.7, 1.0));
        let left = [middle - reach, row];
        canvas.blade([left, [middle, row + 0.001], [middle + reach, row]], [0.0009, 0.0007], colour);
    }
}
