//! Oil paint: strokes that follow a flow, leave bristle marks and build up
//! thickness, and the light that rakes across them.

use crate::canvas::{Canvas, Point, Rgb, add, mix, scale};
use crate::noise::{Rng, lerp, smooth, value};

/// A picture under way: colour, thickness of paint, and which stroke was last.
pub(crate) struct Painting {
    canvas: Canvas,
    height: Vec<f32>,
    last: Vec<u32>,
    strokes: u32,
}

/// One stroke of the brush. Lengths are fractions of the picture's side.
pub(crate) struct Stroke {
    pub(crate) start: Point,
    pub(crate) length: f32,
    pub(crate) width: f32,
    pub(crate) colour: Rgb,
    /// A second colour left unmixed on the brush.
    pub(crate) streak: Rgb,
    /// How much paint: 1 is ordinary, more stands out.
    pub(crate) load: f32,
    pub(crate) seed: u32,
}

/// What to cover a region with.
pub(crate) struct Pass<'a> {
    pub(crate) count: usize,
    pub(crate) length: f32,
    pub(crate) width: f32,
    pub(crate) load: f32,
    /// How far a stroke's colour may stray from the one asked for.
    pub(crate) stray: f32,
    pub(crate) seed: u64,
    pub(crate) inside: &'a dyn Fn(Point) -> bool,
    pub(crate) flow: &'a dyn Fn(Point) -> Point,
    pub(crate) colour: &'a dyn Fn(Point) -> Rgb,
}

impl Painting {
    /// A canvas toned with one colour.
    pub(crate) fn new(side: usize, tone: Rgb) -> Self {
        let mut canvas = Canvas::new(side);
        canvas.shade(|_, _| tone);
        let pixels = canvas.side() * canvas.side();
        Self { canvas, height: vec![0.0; pixels], last: vec![0; pixels], strokes: 0 }
    }

    /// Covers a region with many strokes.
    pub(crate) fn cover(&mut self, pass: &Pass<'_>) {
        let mut rng = Rng::new(pass.seed);
        for _ in 0..pass.count {
            let start = [rng.range(-0.02, 1.02), rng.range(-0.02, 1.02)];
            let length = pass.length * rng.range(0.6, 1.4);
            let width = pass.width * rng.range(0.65, 1.3);
            let stray = pass.stray;
            let colour = vary((pass.colour)(start), stray, &mut rng);
            let streak = vary(colour, stray * 1.3, &mut rng);
            let seed = rng.seed();
            if !(pass.inside)(start) {
                continue;
            }
            let stroke = Stroke { start, length, width, colour, streak, load: pass.load, seed };
            self.stroke(&stroke, pass.flow, pass.inside);
        }
    }

    /// Lays one stroke centred on its start, along the flow both ways, stopping
    /// where `inside` ends.
    pub(crate) fn stroke(&mut self, stroke: &Stroke, flow: &dyn Fn(Point) -> Point, inside: &dyn Fn(Point) -> bool) {
        let path = trace(stroke, flow, inside, self.canvas.side());
        if path.len() < 3 {
            return;
        }
        self.strokes += 1;
        for (step, pair) in path.windows(2).enumerate() {
            let done = step as f32 / (path.len() - 1) as f32;
            self.lay(stroke, pair[0], pair[1], done);
        }
    }

    /// Lays the bristles of one short step.
    fn lay(&mut self, stroke: &Stroke, from: Point, to: Point, done: f32) {
        let side = self.canvas.side() as f32;
        let (dx, dy) = ((to[0] - from[0]) * side, (to[1] - from[1]) * side);
        let length = dx.hypot(dy).max(1e-6);
        let (nx, ny) = (-dy / length, dx / length);
        let end = 2.0 * done - 1.0;
        let half = 0.5 * stroke.width * side * (1.0 - end.powi(4)).max(0.0).sqrt();
        let bristles = (half / 0.55).ceil() as i32;
        for half_step in 0..2 {
            let along = half_step as f32 * 0.5;
            let (cx, cy) = (from[0] * side + dx * along, from[1] * side + dy * along);
            for bristle in -bristles..=bristles {
                let across = bristle as f32 / bristles.max(1) as f32;
                let x = (cx + nx * across * half).floor() as i32;
                let y = (cy + ny * across * half).floor() as i32;
                self.touch(stroke, [x, y], across, done);
            }
        }
    }

    /// Leaves paint on a pixel, once for each stroke.
    fn touch(&mut self, stroke: &Stroke, [x, y]: [i32; 2], across: f32, done: f32) {
        let side = self.canvas.side();
        if x < 0 || y < 0 || x >= side as i32 || y >= side as i32 {
            return;
        }
        let index = y as usize * side + x as usize;
        if self.last[index] == self.strokes {
            return;
        }
        self.last[index] = self.strokes;
        let hairs = stroke.width * side as f32 * 0.24;
        let ridge = value(across * hairs, done * 2.5, stroke.seed);
        // The brush runs dry towards the end and skips.
        if ridge < 0.30 * smooth(0.55, 1.0, done) {
            return;
        }
        let blend = smooth(0.42, 0.75, value(across * hairs * 0.45 + 9.0, done * 1.5, stroke.seed));
        let colour = mix(stroke.colour, stroke.streak, blend);
        self.canvas.blend(x, y, scale(colour, 0.94 + 0.12 * ridge), 0.95);
        // Paint is pushed out to the stroke's sides and heaped where it starts.
        let lip = 0.75 + 0.45 * across * across + 0.25 * smooth(0.12, 0.0, done);
        let edge = smooth(1.0, 0.86, across.abs());
        let paint = stroke.load * lip * lerp(0.45, 1.0, ridge) * lerp(0.3, 1.0, edge);
        self.height[index] = 0.35 * self.height[index] + paint;
    }

    /// Lights the relief of the paint from the upper left.
    pub(crate) fn light(mut self, depth: f32) -> Canvas {
        let side = self.canvas.side();
        let last = side - 1;
        let height = &level(&self.height, side);
        let at = |x: usize, y: usize| height[y.min(last) * side + x.min(last)];
        let scale_to = side as f32;
        self.canvas.shade(|p, c| {
            let (x, y) = ((p[0] * scale_to) as usize, (p[1] * scale_to) as usize);
            let (left, up) = (x.saturating_sub(1), y.saturating_sub(1));
            let dx = (at(x + 1, y) - at(left, y)) * depth;
            let dy = (at(x, y + 1) - at(x, up)) * depth;
            light_pixel(c, dx, dy)
        });
        self.canvas
    }
}

/// Wet paint levels a little: each height is averaged with its neighbours, in
/// rows and then in columns.
fn level(height: &[f32], side: usize) -> Vec<f32> {
    let pass = |from: &[f32], stride: usize| -> Vec<f32> {
        let last = from.len() - 1;
        (0..from.len())
            .map(|i| {
                let (before, after) = (from[i.saturating_sub(stride)], from[(i + stride).min(last)]);
                0.5 * from[i] + 0.25 * (before + after)
            })
            .collect()
    };
    pass(&pass(height, 1), side)
}

fn light_pixel(c: Rgb, dx: f32, dy: f32) -> Rgb {
    let long = (dx * dx + dy * dy + 1.0).sqrt();
    // Towards the light: left, up and out of the picture.
    let lit = (0.46 * dx + 0.58 * dy + 0.67) / long;
    let shade = 1.0 + 0.85 * (lit - 0.67);
    let gloss = smooth(0.90, 1.0, lit).powi(2) * 0.16;
    add(scale(c, shade), [gloss; 3])
}

/// Follows the flow from the stroke's start, first backwards, then forwards.
fn trace(stroke: &Stroke, flow: &dyn Fn(Point) -> Point, inside: &dyn Fn(Point) -> bool, side: usize) -> Vec<Point> {
    let step = 1.0 / side as f32;
    let steps = (stroke.length * 0.5 / step) as usize;
    let walk = |sign: f32| {
        let mut path = Vec::with_capacity(steps);
        let mut p = stroke.start;
        for _ in 0..steps {
            let d = flow(p);
            let long = d[0].hypot(d[1]).max(1e-6);
            p = [p[0] + sign * step * d[0] / long, p[1] + sign * step * d[1] / long];
            if !inside(p) {
                break;
            }
            path.push(p);
        }
        path
    };
    let mut path = walk(-1.0);
    path.reverse();
    path.push(stroke.start);
    path.extend(walk(1.0));
    path
}

/// A colour near the one given: lighter or darker, warmer or cooler.
pub(crate) fn vary(c: Rgb, stray: f32, rng: &mut Rng) -> Rgb {
    let light = 1.0 + stray * 1.6 * rng.bell();
    let warm = stray * 0.55 * rng.bell();
    let green = stray * 0.35 * rng.bell();
    [
        (c[0] * light + warm * 0.6).clamp(0.0, 1.0),
        (c[1] * light + green).clamp(0.0, 1.0),
        (c[2] * light - warm * 0.5).clamp(0.0, 1.0),
    ]
}
