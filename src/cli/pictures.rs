//! Options of the pictures that are read and written, and of their colours.

use std::path::Path;

use clap::Args;
use impasto::error::{Error, Result};
use impasto::picture::color::{Colors, HistogramMatch, OriginalColors};
use impasto::picture::{Alpha, BitDepth, DecodeOptions, Decoded, EncodeOptions, Mask, Picture, Rounding, holds};

use super::names::{ColorMatchName, HistogramMatchName, OriginalColorsName};
use super::{note, one_line};

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PictureOptions {
    /// Keep the content's colours: the result has its own lightness and the content's chroma, in YUV (as jcjohnson's
    /// option of this name) or in CIE Lab
    #[arg(long, value_name = "yuv|lab|none", num_args = 0..=1, require_equals = true, default_missing_value = "yuv")]
    original_colors: Option<OriginalColorsName>,
    /// Move the style's colours to the content's before the run: their mean, or also their covariance, by one of three
    /// roots (Gatys 2016)
    #[arg(long)]
    match_colors: Option<ColorMatchName>,
    /// Give every channel of the result the content's or the style's histogram
    #[arg(long)]
    match_histogram: Option<HistogramMatchName>,
    /// Quality of a JPEG, 1 to 100 [default: 95]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100), allow_negative_numbers = true)]
    quality: Option<u8>,
    /// Bits of a sample in a PNG or TIFF [default: 8]
    #[arg(long, value_name = "8|16", value_parser = parse_bit_depth, allow_negative_numbers = true)]
    bit_depth: Option<Bits>,
    /// Most pixels that a picture may have to be read [default: 89 million]
    #[arg(long, value_name = "N", value_parser = parse_pixels, allow_negative_numbers = true)]
    max_pixels: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Bits(BitDepth);

fn parse_bit_depth(text: &str) -> Result<Bits, String> {
    match text {
        "8" => Ok(Bits(BitDepth::Eight)),
        "16" => Ok(Bits(BitDepth::Sixteen)),
        _ => Err("give 8 or 16".into()),
    }
}

/// `200000000`, `2e8`, `200M`.
fn parse_pixels(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.strip_suffix(['M', 'm']) {
        Some(number) => (number, 1e6),
        None => (text, 1.0),
    };
    match number.parse::<f64>().map(|number| number * factor) {
        // All that the longest sides allow.
        Ok(pixels) if (1.0..=4_294_836_225.0).contains(&pixels) => Ok(pixels as u64),
        _ => Err("give a number of pixels, e.g. 200000000 or 200M".into()),
    }
}

impl PictureOptions {
    /// Reads a picture, and says what there is to say about it.
    pub(crate) fn read(&self, path: &Path, quiet: bool) -> Result<Decoded> {
        let decoded = Decoded::read(path, &self.limits())?;
        PictureOptions::tell(&decoded, path, quiet);
        Ok(decoded)
    }

    /// Says what there is to say about a picture.
    pub(crate) fn tell(decoded: &Decoded, path: &Path, quiet: bool) {
        for text in decoded.notes.iter().filter(|_| !quiet) {
            note!("note: {}: {}", one_line(&path.display().to_string()), one_line(text));
        }
    }

    /// What a picture may be to be read.
    pub(crate) fn limits(&self) -> DecodeOptions {
        let usual = DecodeOptions::default();
        DecodeOptions { max_pixels: self.max_pixels.unwrap_or(usual.max_pixels) }
    }

    /// Checks the options by themselves.
    pub(crate) fn validate(&self) -> Result<()> {
        self.colors().validate()
    }

    /// Checks them against the file that the result goes to.
    ///
    /// # Errors
    /// [`Error::Config`] for what its format cannot hold.
    pub(crate) fn check(&self, output: &Path) -> Result<()> {
        let holds = holds(output);
        let extension = one_line(&output.extension().unwrap_or_default().to_string_lossy());
        let refuse = |option, what, hint: &str| {
            Err(Error::Config { option, what: format!("{what} .{extension}"), hint: hint.into() })
        };
        if self.deep() && !holds.sixteen_bits {
            return refuse("bit-depth", "16 bits do not go into", "end the output in .png or .tif");
        }
        if self.quality.is_some() && !holds.quality {
            return refuse("quality", "there is none to choose for", "leave it out, or end the output in .jpg");
        }
        Ok(())
    }

    /// What is done to colours before and after the run.
    pub(crate) fn colors(&self) -> Colors {
        Colors {
            matching: self.match_colors.map_or_else(Default::default, Into::into),
            original: self.original_colors.map_or_else(Default::default, Into::into),
            histogram: self.match_histogram.map_or_else(Default::default, Into::into),
        }
    }

    fn deep(&self) -> bool {
        matches!(self.bit_depth, Some(Bits(BitDepth::Sixteen)))
    }

    /// Writes a picture whose colours are final.
    pub(crate) fn save_sheet(&self, sheet: &Picture, to: (&Path, bool), metadata: &[(String, String)]) -> Result<()> {
        let nothing = Picture { width: 0, height: 0, rgb: Vec::new() };
        self.finish(&nothing, (None, None), &[], Rounding::Nearest).save_sheet(sheet, to, metadata)
    }

    /// What is to be done to what the run paints. `styles` as the run sees them.
    pub(crate) fn finish(
        &self,
        content: &Picture,
        (alpha, paint): (Option<&Alpha>, Option<&Mask>),
        styles: &[Picture],
        rounding: Rounding,
    ) -> Finish {
        let colors = self.colors();
        let of_content = colors.original != OriginalColors::None || colors.histogram == HistogramMatch::Content;
        let nothing = Picture { width: 0, height: 0, rgb: Vec::new() };
        Finish {
            content: if of_content || paint.is_some() { content.clone() } else { nothing },
            styles: if colors.histogram == HistogramMatch::Style { styles.to_vec() } else { Vec::new() },
            alpha: alpha.cloned(),
            // Without a change of colours the run itself has kept what is not painted.
            paint: paint.filter(|_| colors != Colors { matching: colors.matching, ..Colors::default() }).cloned(),
            colors,
            quality: self.quality.unwrap_or(EncodeOptions::default().quality),
            bit_depth: self.bit_depth.map_or_else(BitDepth::default, |bits| bits.0),
            rounding,
        }
    }
}

/// From what a run paints to what is in its files.
#[derive(Debug)]
pub(crate) struct Finish {
    colors: Colors,
    /// Empty where it is not needed.
    content: Picture,
    styles: Vec<Picture>,
    alpha: Option<Alpha>,
    /// Where colours are changed.
    paint: Option<Mask>,
    quality: u8,
    bit_depth: BitDepth,
    rounding: Rounding,
}

impl Default for Finish {
    /// Nothing.
    fn default() -> Finish {
        let nothing = Picture { width: 0, height: 0, rgb: Vec::new() };
        PictureOptions::default().finish(&nothing, (None, None), &[], Rounding::default())
    }
}

impl Finish {
    /// The picture in its final colours, over white.
    pub(crate) fn colored(&self, painted: Picture) -> Picture {
        let colored = self.colors.after(painted, &self.content, &self.styles);
        match &self.paint {
            Some(paint) => paint.over(colored, &self.content),
            None => colored,
        }
    }

    /// Writes a picture with this opacity, if any.
    fn encode(
        &self,
        picture: &Picture,
        alpha: Option<&Alpha>,
        (path, overwrite): (&Path, bool),
        metadata: &[(String, String)],
    ) -> Result<()> {
        let (rounding, quality, bit_depth) = (self.rounding, self.quality, self.bit_depth);
        picture.encode_with(path, &EncodeOptions { rounding, overwrite, metadata, quality, bit_depth, alpha })
    }

    /// Writes what was painted, in its final colours and with the content's opacity.
    pub(crate) fn save(&self, painted: Picture, to: (&Path, bool), metadata: &[(String, String)]) -> Result<()> {
        let picture = self.colored(painted);
        let alpha = self.alpha.as_ref().map(|alpha| alpha.resized(picture.width, picture.height));
        self.encode(&picture, alpha.as_ref(), to, metadata)
    }

    /// Writes a picture as it is: one of several in a sheet, whose colours are final.
    pub(crate) fn save_sheet(&self, sheet: &Picture, to: (&Path, bool), metadata: &[(String, String)]) -> Result<()> {
        self.encode(sheet, None, to, metadata)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_pixels_are_read() {
        for (text, pixels) in [("200000000", 200_000_000), ("2e8", 200_000_000), ("1.5M", 1_500_000), ("1", 1)] {
            assert_eq!(parse_pixels(text), Ok(pixels), "{text}");
        }
        for bad in ["", "0", "-1", "many", "NaN", "5e9", "M", "0.5"] {
            assert!(parse_pixels(bad).is_err(), "{bad}");
        }
    }
}
