//! A drawing as pixels.

use std::convert::Infallible;

use embedded_graphics::Pixel;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_10X20;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{Dimensions, DrawTarget, Drawable, Point, Primitive, Size};
use embedded_graphics::primitives::{Line, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Alignment, Text};
use impasto::picture::Picture;

use super::{Anchor, Colour, HEIGHT, Shape, WIDTH};

/// Pixels to a point: letters of 20 pixels are then as large as the SVG's.
const SCALE: f64 = 1.5;
/// Lines are drawn so many times larger, then averaged: their edges are smooth.
const FINER: usize = 2;
/// Points of a dash and of the gap behind it.
const DASH: [f64; 2] = [5.0, 3.0];

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    fn new(scale: f64) -> Canvas {
        let [width, height] = [WIDTH, HEIGHT].map(|length| (length * scale) as usize);
        Canvas { width, height, pixels: vec![[255; 3]; width * height] }
    }

    /// A canvas of the averages of `FINER` x `FINER` pixels.
    fn averaged(&self) -> Canvas {
        let mut small = Canvas::new(SCALE);
        for (i, pixel) in small.pixels.iter_mut().enumerate() {
            let (y, x) = (i / small.width * FINER, i % small.width * FINER);
            let all = (0..FINER * FINER).map(|k| self.pixels[(y + k / FINER) * self.width + x + k % FINER]);
            let sums = all.fold([0_u32; 3], |sums, pixel| [0, 1, 2].map(|c| sums[c] + u32::from(pixel[c])));
            *pixel = sums.map(|sum| (sum / (FINER * FINER) as u32) as u8);
        }
        small
    }
}

impl Dimensions for Canvas {
    fn bounding_box(&self) -> Rectangle {
        Rectangle::new(Point::zero(), Size::new(self.width as u32, self.height as u32))
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, colour) in pixels {
            let inside = |at: i32, length: usize| usize::try_from(at).ok().filter(|at| *at < length);
            if let (Some(x), Some(y)) = (inside(x, self.width), inside(y, self.height)) {
                self.pixels[y * self.width + x] = [colour.r(), colour.g(), colour.b()];
            }
        }
        Ok(())
    }
}

/// Draws on a white page.
pub(super) fn draw(shapes: &[Shape]) -> Picture {
    let mut fine = Canvas::new(SCALE * FINER as f64);
    for shape in shapes {
        if let Shape::Line { points, colour, width, dashed } = shape {
            stroke(&mut fine, points, *colour, (*width, *dashed));
        }
    }
    let mut canvas = fine.averaged();
    for shape in shapes {
        if let Shape::Text { at, anchor, text } = shape {
            let alignment = match anchor {
                Anchor::Start => Alignment::Left,
                Anchor::Middle => Alignment::Center,
                Anchor::End => Alignment::Right,
            };
            let style = MonoTextStyle::new(&FONT_10X20, Rgb888::BLACK);
            let Ok(_) = Text::with_alignment(text, point(*at, SCALE), style, alignment).draw(&mut canvas);
        }
    }
    let rgb = canvas.pixels.into_iter().flatten().map(f32::from).collect();
    Picture { width: canvas.width, height: canvas.height, rgb }
}

fn point([x, y]: [f64; 2], scale: f64) -> Point {
    Point::new((x * scale).round() as i32, (y * scale).round() as i32)
}

fn stroke(canvas: &mut Canvas, points: &[[f64; 2]], [r, g, b]: Colour, (width, dashed): (f64, bool)) {
    let scale = SCALE * FINER as f64;
    let style = PrimitiveStyle::with_stroke(Rgb888::new(r, g, b), (width * scale).round() as u32);
    let mut line = |from, to| {
        let Ok(()) = Line::new(point(from, scale), point(to, scale)).into_styled(style).draw(canvas);
    };
    // How far along a dash and its gap.
    let mut along = 0.0;
    for pair in points.windows(2) {
        let [from, to] = [pair[0], pair[1]];
        if !dashed {
            line(from, to);
            continue;
        }
        let length = (to[0] - from[0]).hypot(to[1] - from[1]);
        let at = |way: f64| [0, 1].map(|k| from[k] + (to[k] - from[k]) * way / length);
        let mut way = 0.0;
        while way < length {
            let (dash, all) = (along < DASH[0], DASH[0] + DASH[1]);
            let next = (way + if dash { DASH[0] - along } else { all - along }).min(length);
            if dash {
                line(at(way), at(next));
            }
            along = (along + next - way) % all;
            // Rounding must not stop it short of the end of a dash.
            along = if next < length { if dash { DASH[0] } else { 0.0 } } else { along };
            way = next;
        }
    }
}
