//! `--plot`: the losses over the iterations, on a logarithmic scale, as SVG or PNG.

use std::fmt::Write;
use std::path::Path;

use impasto::error::{Error, Result};
use impasto::picture::{Rounding, write_file};
use impasto::transfer::Report;

mod raster;

/// The page, in points.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 540.0;
/// Room for the numbers at the left, the names at the right, the scales at the top, and the iterations at the bottom.
const MARGINS: [f64; 4] = [80.0, 190.0, 30.0, 50.0];
/// Okabe and Ito's colours, which the colour-blind tell apart.
const COLOURS: [Colour; 7] = [
    [0x00, 0x72, 0xb2],
    [0xd5, 0x5e, 0x00],
    [0x00, 0x9e, 0x73],
    [0xcc, 0x79, 0xa7],
    [0xe6, 0x9f, 0x00],
    [0x56, 0xb4, 0xe9],
    [0x7f, 0x7f, 0x7f],
];
const BLACK: Colour = [0; 3];
const GRID: Colour = [0xdd; 3];
const BORDER: Colour = [0x88; 3];
/// Powers of ten that are drawn at most: a term that begins at nothing would press all others into a line.
const DECADES: f64 = 8.0;

type Colour = [u8; 3];

/// What a drawing is made of.
#[derive(Debug)]
enum Shape {
    Line { points: Vec<[f64; 2]>, colour: Colour, width: f64, dashed: bool },
    Text { at: [f64; 2], anchor: Anchor, text: String },
}

#[derive(Clone, Copy, Debug)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// What was reported.
#[derive(Debug, Default)]
pub(crate) struct Plot {
    /// Name and points of every term, the total first. A logarithm has no zero: such points are missing.
    curves: Vec<(String, Vec<(u32, f64)>)>,
    /// The iteration at which each scale begins, and its size.
    scales: Vec<(u32, String)>,
    /// The last iteration.
    most: u32,
}

impl Plot {
    /// Refuses a file that no plot can be written to.
    pub(crate) fn check(path: &Path) -> Result<()> {
        if is_png(path) || has_extension(path, "svg") {
            return Ok(());
        }
        let (what, hint) = ("plots are written as SVG and PNG", "end it in .svg or .png".into());
        Err(Error::Output { path: path.into(), what: what.into(), hint })
    }

    /// Of every iteration of a run.
    pub(crate) fn of(reports: impl Iterator<Item = Report>) -> Plot {
        let mut plot = Plot::default();
        let mut index = None;
        for report in reports {
            if index != Some(report.scale.index) {
                index = Some(report.scale.index);
                let size = format!("{}x{}", report.scale.width, report.scale.height);
                plot.scales.push((report.iteration, size));
            }
            plot.most = report.iteration;
            let terms = report.terms().map(|(name, value)| (name, f64::from(value)));
            for (k, (name, value)) in [("total", report.total_loss)].into_iter().chain(terms).enumerate() {
                if k == plot.curves.len() {
                    plot.curves.push((name.into(), Vec::new()));
                }
                if value > 0.0 {
                    plot.curves[k].1.push((report.iteration, value));
                }
            }
        }
        plot
    }

    /// The drawing, what lies behind first.
    fn shapes(&self) -> Vec<Shape> {
        let [left, right, top, bottom] = MARGINS;
        let (end, foot) = (WIDTH - right, HEIGHT - bottom);
        let exponents = || self.curves.iter().flat_map(|(_, points)| points).map(|(_, value)| value.log10());
        let high = exponents().fold(f64::NEG_INFINITY, f64::max).ceil();
        let low = exponents().fold(f64::INFINITY, f64::min).floor();
        let high = if high.is_finite() { high } else { 1.0 };
        let low = if low.is_finite() { low.clamp(high - DECADES, high - 1.0) } else { 0.0 };
        let most = self.most.max(1);
        let x = |iteration: u32| left + (end - left) * f64::from(iteration) / f64::from(most);
        let y = |exponent: f64| top + (foot - top) * (high - exponent.max(low)) / (high - low);
        let line = |points: Vec<[f64; 2]>, colour, width| Shape::Line { points, colour, width, dashed: false };
        let text = |at, anchor, text: &str| Shape::Text { at, anchor, text: text.into() };
        let mut shapes = Vec::new();
        for exponent in low as i32..=high as i32 {
            let y = y(f64::from(exponent));
            shapes.push(line(vec![[left, y], [end, y]], GRID, 1.0));
            shapes.push(text([left - 8.0, y + 4.0], Anchor::End, &format!("1e{exponent}")));
        }
        for iteration in (0..=most).step_by(tick(most) as usize) {
            let x = x(iteration);
            shapes.push(line(vec![[x, top], [x, foot]], GRID, 1.0));
            shapes.push(text([x, foot + 18.0], Anchor::Middle, &iteration.to_string()));
        }
        shapes.push(text([x(most) / 2.0 + left / 2.0, HEIGHT - 10.0], Anchor::Middle, "iteration"));
        let mut free = 0.0;
        for (iteration, size) in self.scales.iter().filter(|_| self.scales.len() > 1) {
            let x = x(*iteration);
            let points = vec![[x, top], [x, foot]];
            shapes.push(Shape::Line { points, colour: BORDER, width: 1.0, dashed: true });
            // Names that would run into each other are left out.
            if x >= free {
                shapes.push(text([x + 2.0, top - 8.0], Anchor::Start, size));
                free = x + 8.0 * size.len() as f64 + 8.0;
            }
        }
        for (number, (name, points)) in self.curves.iter().enumerate() {
            let colour = if number == 0 { BLACK } else { COLOURS[(number - 1) % COLOURS.len()] };
            let (width, dashed) = (if number == 0 { 2.5 } else { 1.5 }, number > COLOURS.len());
            let points = points.iter().map(|(iteration, value)| [x(*iteration), y(value.log10())]).collect();
            shapes.push(Shape::Line { points, colour, width, dashed });
            let (from, at) = (end + 12.0, top + 12.0 + 20.0 * number as f64);
            shapes.push(Shape::Line {
                points: vec![[from, at], [from + 20.0, at]],
                colour,
                width: width + 0.5,
                dashed,
            });
            shapes.push(text([from + 26.0, at + 4.0], Anchor::Start, name));
        }
        shapes
    }

    /// The drawing as SVG.
    pub(crate) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        for shape in self.shapes() {
            // Writing to a string does not fail.
            let _ = match shape {
                Shape::Line { points, colour: [r, g, b], width, dashed } => {
                    let points: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
                    let dash = if dashed { " stroke-dasharray=\"5 3\"" } else { "" };
                    writeln!(
                        svg,
                        "<polyline points=\"{}\" fill=\"none\" stroke=\"#{r:02x}{g:02x}{b:02x}\" \
                         stroke-width=\"{width}\"{dash}/>",
                        points.join(" ")
                    )
                }
                Shape::Text { at: [x, y], anchor, text } => {
                    let anchor = match anchor {
                        Anchor::Start => "start",
                        Anchor::Middle => "middle",
                        Anchor::End => "end",
                    };
                    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
                }
            };
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Writes the drawing in the format that the file's name asks for.
    pub(crate) fn save(&self, path: &Path, overwrite: bool) -> Result<()> {
        match is_png(path) {
            true => raster::draw(&self.shapes()).encode_to(path, Rounding::Nearest, overwrite, &[]),
            false => write_file(path, self.svg().as_bytes(), overwrite),
        }
    }
}

fn is_png(path: &Path) -> bool {
    has_extension(path, "png")
}

fn has_extension(path: &Path, name: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(name))
}

/// A round number of iterations, of which at most seven go into `most`.
fn tick(most: u32) -> u32 {
    let steps = (0..9).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u32.pow(power)));
    steps.into_iter().find(|step| most / step <= 7).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_and_round() {
        for (most, expected) in
            [(1, 1), (7, 1), (8, 2), (39, 5), (40, 10), (599, 100), (2999, 500), (1_000_000, 200_000)]
        {
            assert_eq!(tick(most), expected, "{most}");
        }
        assert!(tick(u32::MAX) > 0);
    }

    #[test]
    fn the_same_drawing_is_made_of_lines_and_of_pixels() {
        let falling = |from: f64| (0..100).map(|i| (i, from / f64::from(1 + i))).collect();
        let curves = vec![("total".into(), falling(40.0)), ("style/relu1_1".into(), falling(1.0))];
        let plot = Plot { curves, scales: vec![(0, "8x6".into()), (60, "16x12".into())], most: 99 };
        let svg = plot.svg();
        assert_eq!(svg.matches("stroke-dasharray").count(), 2, "one border for each scale: {svg}");
        assert!(svg.contains(">16x12</text>") && svg.contains(">1e2</text>") && svg.contains(">80</text>"), "{svg}");
        let picture = raster::draw(&plot.shapes());
        assert_eq!((picture.width, picture.height), (1440, 810));
        let has = |colour: [u8; 3]| picture.rgb.chunks_exact(3).filter(|pixel| *pixel == colour.map(f32::from)).count();
        // Curves, their names in black, the empty page: every one takes its part.
        assert!(has(COLOURS[0]) > 500 && has(BLACK) > 1500 && has(GRID) > 1000, "{} {}", has(COLOURS[0]), has(BLACK));
        assert!(has([255; 3]) > 1_000_000 && has(COLOURS[1]) == 0);
    }

    #[test]
    fn nothing_and_zeros_are_drawn_too() {
        for curves in [Vec::new(), vec![("total".into(), Vec::new())], vec![("total".into(), vec![(0, 5.0)])]] {
            let plot = Plot { curves, ..Plot::default() };
            assert!(plot.svg().ends_with("</svg>\n") && !plot.svg().contains("NaN"), "{}", plot.svg());
            raster::draw(&plot.shapes());
        }
    }
}
