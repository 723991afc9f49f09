//! `--plot`: the losses over the iterations as an SVG, on a logarithmic scale.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use impasto::error::{Error, Result};
use impasto::picture::write_file;
use impasto::transfer::Report;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 540.0;
/// Room for the numbers at the left, the names at the right, the top, and the bottom.
const MARGINS: [f64; 4] = [80.0, 190.0, 20.0, 50.0];
/// Okabe and Ito's colours, which the colour-blind tell apart.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"];

/// What was reported, by term.
#[derive(Debug, Default)]
pub(crate) struct Plot {
    /// In the order of the reports; the total first.
    names: Vec<String>,
    curves: BTreeMap<String, Vec<(u32, f64)>>,
}

impl Plot {
    /// Refuses a file that no plot can be written to.
    pub(crate) fn check(path: &Path) -> Result<()> {
        let svg = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg"));
        if svg {
            return Ok(());
        }
        let hint = "end it in .svg, which browsers show and Inkscape turns into PNG".into();
        Err(Error::Output { path: path.into(), what: "plots are written as SVG only".into(), hint })
    }

    pub(crate) fn add(&mut self, report: &Report) {
        let terms = report.terms().map(|(name, value)| (name.to_string(), f64::from(value)));
        for (name, value) in [("total".to_string(), report.total_loss)].into_iter().chain(terms) {
            if !self.curves.contains_key(&name) {
                self.names.push(name.clone());
            }
            // A logarithm has no zero.
            if value > 0.0 {
                self.curves.entry(name).or_default().push((report.iteration, value));
            } else {
                self.curves.entry(name).or_default();
            }
        }
    }

    /// The drawing.
    pub(crate) fn svg(&self) -> String {
        let [left, right, top, bottom] = MARGINS;
        let points = || self.curves.values().flatten();
        let most = points().map(|(iteration, _)| *iteration).max().unwrap_or(0).max(1);
        let bound = |pick: fn(f64, f64) -> f64, start| points().map(|(_, value)| value.log10()).fold(start, pick);
        let (low, high) = (bound(f64::min, f64::INFINITY).floor(), bound(f64::max, f64::NEG_INFINITY).ceil());
        let (low, high) = if low.is_finite() { (low, high.max(low + 1.0)) } else { (0.0, 1.0) };
        let x = |iteration: f64| left + (WIDTH - left - right) * iteration / f64::from(most);
        let y = |exponent: f64| top + (HEIGHT - top - bottom) * (high - exponent) / (high - low);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut line = |text: std::fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = svg.write_fmt(text);
            svg.push('\n');
        };
        for exponent in low as i32..=high as i32 {
            let (y, end) = (y(f64::from(exponent)), WIDTH - right);
            line(format_args!("<path d=\"M{left} {y:.1}H{end}\" stroke=\"#ddd\"/>"));
            line(format_args!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">1e{exponent}</text>",
                left - 8.0,
                y + 4.0
            ));
        }
        for part in 0..=4 {
            let iteration = f64::from(most) * f64::from(part) / 4.0;
            let (x, foot) = (x(iteration), HEIGHT - bottom);
            line(format_args!("<path d=\"M{x:.1} {top}V{foot}\" stroke=\"#ddd\"/>"));
            let below = foot + 18.0;
            line(format_args!("<text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{iteration:.0}</text>"));
        }
        line(format_args!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">iteration</text>",
            x(f64::from(most) / 2.0),
            HEIGHT - 10.0
        ));
        for (number, name) in self.names.iter().enumerate() {
            let colour = if number == 0 { "black" } else { COLOURS[(number - 1) % COLOURS.len()] };
            let dash = if number > COLOURS.len() { " stroke-dasharray=\"5 3\"" } else { "" };
            let path: Vec<String> = self
                .curves
                .get(name)
                .into_iter()
                .flatten()
                .map(|(iteration, value)| format!("{:.1},{:.1}", x(f64::from(*iteration)), y(value.log10())))
                .collect();
            line(format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dash}/>",
                path.join(" ")
            ));
            let (from, at) = (WIDTH - right + 12.0, top + 12.0 + 20.0 * number as f64);
            line(format_args!("<path d=\"M{from} {at}h20\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>"));
            line(format_args!("<text x=\"{}\" y=\"{}\">{name}</text>", from + 26.0, at + 4.0));
        }
        svg.push_str("</svg>\n");
        svg
    }

    pub(crate) fn save(&self, path: &Path, overwrite: bool) -> Result<()> {
        write_file(path, self.svg().as_bytes(), overwrite)
    }
}
