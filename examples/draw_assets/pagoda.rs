//! The pagoda: five storeys of an eight-sided tower, drawn face by face.

use crate::canvas::{Canvas, Point, Rgb, mix, scale};
use crate::noise::{hash, lerp, smooth, value};

/// Where the tower stands (middle of its base) and how tall it is.
pub(crate) struct Tower {
    pub(crate) foot: Point,
    pub(crate) height: f32,
}

const STOREYS: usize = 5;

/// Fraction of the height taken by the spire.
const SPIRE: f32 = 0.17;

/// How far the corners of the eaves curl up.
const TIP_LIFT: f32 = 0.046;

/// One storey in the tower's own measure: y up from the foot, tower height 1.
struct Storey {
    floor: f32,
    eave: f32,
    top: f32,
    wall: f32,
    reach: f32,
    next_wall: f32,
}

impl Storey {
    fn new(index: usize) -> Self {
        let pitch = (1.0 - SPIRE - 0.05) / STOREYS as f32;
        let floor = 0.05 + pitch * index as f32;
        let wall = |i: usize| lerp(0.146, 0.082, i as f32 / (STOREYS - 1) as f32);
        let last = index + 1 == STOREYS;
        Self {
            floor,
            eave: floor + pitch * 0.56,
            top: floor + pitch * if last { 1.35 } else { 1.04 },
            wall: wall(index),
            reach: wall(index) * 1.58 + 0.018,
            next_wall: if last { 0.012 } else { wall(index + 1) * 1.04 },
        }
    }

    /// Height of the eave's edge; it turns up towards the corners.
    fn eave_line(&self, x: f32) -> f32 {
        let side = (x.abs() / self.reach).min(1.0);
        self.eave + TIP_LIFT * side.powi(4) - 0.006 * (1.0 - side)
    }

    /// Half-width of the roof at a height above the eave: a sagging curve.
    fn roof_half_width(&self, y: f32) -> f32 {
        let t = ((y - self.eave) / (self.top - self.eave)).clamp(0.0, 1.0);
        lerp(self.reach, self.next_wall, t.powf(0.48))
    }
}

/// Draws the tower over whatever is on the canvas.
pub(crate) fn draw(canvas: &mut Canvas, tower: &Tower) {
    let side = canvas.side() as f32;
    let storeys: Vec<Storey> = (0..STOREYS).map(Storey::new).collect();
    let left = ((tower.foot[0] - 0.3 * tower.height) * side) as i32;
    let right = ((tower.foot[0] + 0.3 * tower.height) * side) as i32;
    let top = ((tower.foot[1] - tower.height) * side) as i32;
    for py in top..=(tower.foot[1] * side) as i32 {
        for px in left..=right {
            let x = ((px as f32 + 0.5) / side - tower.foot[0]) / tower.height;
            let y = (tower.foot[1] - (py as f32 + 0.5) / side) / tower.height;
            if let Some(colour) = tower_colour(&storeys, x, y) {
                canvas.set(px, py, colour);
            }
        }
    }
}

fn tower_colour(storeys: &[Storey], x: f32, y: f32) -> Option<Rgb> {
    let roof = storeys.iter().find_map(|s| roof_colour(s, x, y));
    roof.or_else(|| storeys.iter().find_map(|s| wall_colour(s, x, y)))
        .or_else(|| spire_colour(x, y))
        .or_else(|| plinth_colour(x, y))
}

/// A colour in the light that falls on a face, by how far across the tower the
/// point lies (-1 left edge, 1 right edge). Three faces of the octagon can be
/// seen: one in warm sun, one in half light, one in the cool light of the sky.
fn face(across: f32, colour: Rgb) -> Rgb {
    let light: Rgb = if across < -0.42 {
        [1.26, 1.14, 0.94]
    } else if across < 0.42 {
        [0.98, 0.94, 0.90]
    } else {
        [0.54, 0.56, 0.66]
    };
    [0, 1, 2].map(|i| colour[i] * light[i])
}

fn roof_colour(storey: &Storey, x: f32, y: f32) -> Option<Rgb> {
    let eave = storey.eave_line(x);
    let tip_lift = TIP_LIFT * (x.abs() / storey.reach).min(1.0).powi(4);
    let half = storey.roof_half_width(y - tip_lift);
    if y < eave || y > storey.top || x.abs() > half {
        return None;
    }
    let across = x / half;
    if y < eave + 0.007 {
        // The painted edge of the eave catches the light.
        return Some(face(across, [0.80, 0.62, 0.36]));
    }
    let ribs = (across * 30.0 * storey.reach / 0.23 * std::f32::consts::PI).sin();
    let up = (y - storey.eave) / (storey.top - storey.eave);
    let hip = smooth(0.06, 0.0, (across.abs() - 0.42).abs()) * 0.35;
    let tile = scale([0.41, 0.38, 0.37], 1.0 + 0.20 * ribs + hip - 0.25 * up);
    let weather = value(x * 60.0, y * 40.0, 91) - 0.5;
    let colour = mix(tile, [0.40, 0.39, 0.27], 0.30 + 0.6 * weather);
    Some(face(across, colour))
}

fn wall_colour(storey: &Storey, x: f32, y: f32) -> Option<Rgb> {
    let railing = y < storey.floor + 0.030;
    let half = storey.wall * if railing { 1.16 } else { 1.0 };
    if y < storey.floor || y > storey.eave + 0.01 || x.abs() > half {
        return None;
    }
    let across = x / half;
    let shadow = smooth(storey.eave - 0.045, storey.eave - 0.008, y);
    if railing {
        return Some(face(across, railing_colour(across, y - storey.floor)));
    }
    let colour = bay_colour(across, (y - storey.floor) / (storey.eave - storey.floor));
    Some(face(across, scale(colour, 1.0 - 0.58 * shadow)))
}

fn railing_colour(across: f32, y: f32) -> Rgb {
    let rail = y > 0.024 || (y > 0.009 && y < 0.013);
    let post = (across * 9.0).rem_euclid(1.0) < 0.22;
    if rail || post { [0.66, 0.27, 0.17] } else { [0.27, 0.14, 0.11] }
}

/// Red columns at the corners and between the bays, plaster and dark lattice
/// openings between them.
fn bay_colour(across: f32, up: f32) -> Rgb {
    let column = [-0.96f32, -0.42, 0.42, 0.96].iter().any(|c| (across - c).abs() < 0.06);
    if column {
        return [0.64, 0.22, 0.14];
    }
    let (middle, half) = if across.abs() < 0.42 { (0.0, 0.20) } else { (0.69 * across.signum(), 0.13) };
    let dx = (across - middle).abs();
    let arch = 0.74 - 0.5 * (dx / half) * (dx / half) * 0.3;
    if dx < half && up < arch {
        return [0.17, 0.11, 0.10];
    }
    let stain = hash((across * 40.0) as i32, (up * 20.0) as i32, 3) * 0.05;
    [0.86 - stain, 0.72 - stain, 0.53 - stain]
}

fn spire_colour(x: f32, y: f32) -> Option<Rgb> {
    let base = 1.0 - SPIRE + 0.03;
    let t = (y - base) / (1.0 - base);
    if !(0.0..=1.0).contains(&t) {
        return None;
    }
    // Rings that shrink upwards, a ball, then a needle.
    let ring = 0.5 + 0.5 * (t * 44.0).cos();
    let half = if t < 0.68 {
        lerp(0.021, 0.009, t / 0.68) * (0.55 + 0.45 * ring)
    } else if t < 0.78 {
        0.014 * (1.0 - ((t - 0.73) / 0.05).powi(2)).max(0.05).sqrt()
    } else {
        lerp(0.005, 0.0015, (t - 0.78) / 0.22)
    };
    let light = 1.05 - 0.45 * (x / half);
    (x.abs() < half).then(|| scale([0.58, 0.45, 0.24], light))
}

fn plinth_colour(x: f32, y: f32) -> Option<Rgb> {
    let half = if y < 0.025 { 0.215 } else { 0.185 };
    if !(0.0..0.05).contains(&y) || x.abs() > half {
        return None;
    }
    let course = hash((x * 60.0) as i32, (y * 130.0) as i32, 9) * 0.12;
    Some(face(x / half, scale([0.72, 0.67, 0.60], 1.0 - course)))
}
