//! An oversized picture in floating point, with the few shapes the lake needs.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use crate::noise::lerp;

/// Display-referred red, green and blue, each `0..1`.
pub(crate) type Rgb = [f32; 3];

/// A point in the unit square, y down.
pub(crate) type Point = [f32; 2];

/// How many canvas pixels a finished pixel is averaged from, along one side.
pub(crate) const OVERSAMPLE: usize = 2;

/// Blends two colours.
pub(crate) fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    [lerp(a[0], b[0], t), lerp(a[1], b[1], t), lerp(a[2], b[2], t)]
}

/// Lightens or darkens a colour.
pub(crate) fn scale(c: Rgb, k: f32) -> Rgb {
    [c[0] * k, c[1] * k, c[2] * k]
}

/// Adds two colours.
pub(crate) fn add(a: Rgb, b: Rgb) -> Rgb {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// A square picture addressed in unit coordinates.
#[derive(Clone)]
pub(crate) struct Canvas {
    side: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// A canvas that will shrink to `side` pixels a side.
    pub(crate) fn new(side: usize) -> Self {
        let side = side * OVERSAMPLE;
        Self { side, pixels: vec![[0.0; 3]; side * side] }
    }

    /// Pixels along one side, before shrinking.
    pub(crate) fn side(&self) -> usize {
        self.side
    }

    /// Recolours each pixel from its place and its present colour.
    pub(crate) fn shade(&mut self, mut colour: impl FnMut(Point, Rgb) -> Rgb) {
        let side = self.side as f32;
        for (index, pixel) in self.pixels.iter_mut().enumerate() {
            let x = ((index % self.side) as f32 + 0.5) / side;
            let y = ((index / self.side) as f32 + 0.5) / side;
            *pixel = colour([x, y], *pixel);
        }
    }

    /// The colour at a pixel, the nearest one when outside.
    pub(crate) fn pixel(&self, x: i32, y: i32) -> Rgb {
        let last = self.side as i32 - 1;
        let (x, y) = (x.clamp(0, last) as usize, y.clamp(0, last) as usize);
        self.pixels[y * self.side + x]
    }

    /// The colour between pixels, by bilinear interpolation.
    pub(crate) fn sample(&self, p: Point) -> Rgb {
        let x = p[0] * self.side as f32 - 0.5;
        let y = p[1] * self.side as f32 - 0.5;
        let (x0, y0) = (x.floor(), y.floor());
        let (ix, iy) = (x0 as i32, y0 as i32);
        let top = mix(self.pixel(ix, iy), self.pixel(ix + 1, iy), x - x0);
        let low = mix(self.pixel(ix, iy + 1), self.pixel(ix + 1, iy + 1), x - x0);
        mix(top, low, y - y0)
    }

    /// Replaces a pixel; outside the canvas, nothing happens.
    pub(crate) fn set(&mut self, x: i32, y: i32, colour: Rgb) {
        self.blend(x, y, colour, 1.0);
    }

    /// Covers a pixel to the given degree.
    pub(crate) fn blend(&mut self, x: i32, y: i32, colour: Rgb, cover: f32) {
        let side = self.side as i32;
        if x < 0 || y < 0 || x >= side || y >= side {
            return;
        }
        let pixel = &mut self.pixels[y as usize * self.side + x as usize];
        *pixel = mix(*pixel, colour, cover);
    }

    /// An ellipse turned by `angle`, with an edge about one pixel soft.
    pub(crate) fn ellipse(&mut self, centre: Point, radii: Point, angle: f32, colour: Rgb) {
        let side = self.side as f32;
        let (sin, cos) = angle.sin_cos();
        let (rx, ry) = (radii[0] * side, radii[1] * side);
        let (cx, cy) = (centre[0] * side, centre[1] * side);
        let reach = rx.max(ry) + 1.0;
        for y in (cy - reach).floor() as i32..=(cy + reach).ceil() as i32 {
            for x in (cx - reach).floor() as i32..=(cx + reach).ceil() as i32 {
                let (dx, dy) = (x as f32 + 0.5 - cx, y as f32 + 0.5 - cy);
                let along = (dx * cos + dy * sin) / rx.max(0.4);
                let across = (dy * cos - dx * sin) / ry.max(0.4);
                let inside = 1.0 - (along * along + across * across).sqrt();
                let cover = (inside * rx.min(ry).max(0.4) + 0.5).clamp(0.0, 1.0);
                if cover > 0.0 {
                    self.blend(x, y, colour, cover);
                }
            }
        }
    }

    /// A curve from `a` to `c`, pulled towards `b`, its half-width going from
    /// `widths[0]` to `widths[1]`.
    pub(crate) fn blade(&mut self, [a, b, c]: [Point; 3], widths: [f32; 2], colour: Rgb) {
        let length = (b[0] - a[0]).hypot(b[1] - a[1]) + (c[0] - b[0]).hypot(c[1] - b[1]);
        let steps = (length * self.side as f32).ceil().max(1.0) as usize;
        for step in 0..=steps {
            let t = step as f32 / steps as f32;
            let along = |i: usize| lerp(lerp(a[i], b[i], t), lerp(b[i], c[i], t), t);
            let width = lerp(widths[0], widths[1], t);
            self.ellipse([along(0), along(1)], [width, width], 0.0, colour);
        }
    }

    /// Shrinks the canvas by averaging and writes it as an 8-bit RGB PNG whose
    /// values are multiples of `step`: paint texture hardly compresses, and
    /// dropping a bit nobody sees keeps the file small.
    pub(crate) fn save(&self, path: &Path, step: u8) -> Result<(), Box<dyn Error>> {
        let side = self.side / OVERSAMPLE;
        let levels = (255 / step.max(1)) as f32;
        let mut bytes = Vec::with_capacity(side * side * 3);
        for y in 0..side {
            for x in 0..side {
                let mean = self.block_mean(x, y);
                bytes.extend(mean.map(|v| (v.clamp(0.0, 1.0) * levels + 0.5) as u8 * step));
            }
        }
        let file = BufWriter::new(File::create(path)?);
        PngEncoder::new_with_quality(file, CompressionType::Best, FilterType::Adaptive).write_image(
            &bytes,
            side as u32,
            side as u32,
            ExtendedColorType::Rgb8,
        )?;
        Ok(())
    }

    fn block_mean(&self, x: usize, y: usize) -> Rgb {
        let mut sum = [0.0; 3];
        for row in y * OVERSAMPLE..(y + 1) * OVERSAMPLE {
            for column in x * OVERSAMPLE..(x + 1) * OVERSAMPLE {
                sum = add(sum, self.pixels[row * self.side + column]);
            }
        }
        scale(sum, 1.0 / (OVERSAMPLE * OVERSAMPLE) as f32)
    }
}
