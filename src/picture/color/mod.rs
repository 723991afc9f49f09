//! Colours before and after a run: style pictures in the content's colours, results in the content's or the style's.
//!
//! * [`ColorMatch`] moves the colours of a style picture to those of the content before the run: their mean, or their
//!   mean and covariance (Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer", section 3.1).
//! * [`OriginalColors`] gives a result the content's colours and keeps only its own lightness (section 3.2 there).
//! * [`HistogramMatch`] gives every channel of a result the histogram of the content or of the style.

mod histogram;
mod luma;
mod matrix;
mod statistics;

pub use histogram::match_histogram;
pub use luma::original_colors;
pub use statistics::match_colors;

use super::Picture;
use crate::error::{Error, Result};

/// How the colours of a style picture are moved to those of the content before a run. `x` is a style colour, `µ` are means
/// and `Σ` covariances of the RGB values of style `s` and content `c`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorMatch {
    /// Not at all.
    #[default]
    None,
    /// `x - µs + µc`
    Mean,
    /// `Σc^½ Σs^-½ (x - µs) + µc`, with the symmetric roots that eigenvectors give.
    Pca,
    /// `Lc Ls⁻¹ (x - µs) + µc`, with the lower triangular roots `L Lᵀ = Σ`.
    Cholesky,
    /// `Σs^-½ (Σs^½ Σc Σs^½)^½ Σs^-½ (x - µs) + µc`: of all linear maps between the two, that which moves colours least
    /// (Monge and Kantorovich's).
    Symmetric,
}

/// Which part of a result's colours comes from the content, resampled to its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OriginalColors {
    /// None.
    #[default]
    None,
    /// The chroma of ITU-R BT.601, as jcjohnson's option of this name has it: the result's luma `0.299 R + 0.587 G +
    /// 0.114 B` with the content's `B - Y` and `R - Y`.
    Yuv,
    /// `a*` and `b*` of CIE Lab (D65, sRGB's curve): the result's `L*` with them. Keeps hues better at other lightness.
    Lab,
}

/// Whose histogram a result gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistogramMatch {
    /// Its own.
    #[default]
    None,
    /// The content's.
    Content,
    /// The style's; of several, that of all their pixels together.
    Style,
}

/// What is done to colours before and after a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colors {
    /// Before the run, to every style picture.
    pub matching: ColorMatch,
    /// After the run, to the result.
    pub original: OriginalColors,
    /// After the run, to the result.
    pub histogram: HistogramMatch,
}

impl Colors {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// [`Error::Config`] where one would undo another.
    pub fn validate(&self) -> Result<()> {
        if self.original != OriginalColors::None && self.histogram != HistogramMatch::None {
            return Err(Error::Config {
                option: "match-histogram",
                what: "would undo --original-colors".into(),
                hint: "give one of the two".into(),
            });
        }
        Ok(())
    }

    /// A style picture as the run is to see it.
    pub fn before(&self, style: &Picture, content: &Picture) -> Picture {
        match_colors(style, content, self.matching)
    }

    /// A result as it is to be shown: `styles` as the run saw them. All as they were given: sizes may differ.
    pub fn after(&self, result: Picture, content: &Picture, styles: &[Picture]) -> Picture {
        let result = original_colors(result, content, self.original);
        match self.histogram {
            HistogramMatch::None => result,
            HistogramMatch::Content => match_histogram(result, &[content]),
            HistogramMatch::Style => match_histogram(result, &styles.iter().collect::<Vec<_>>()),
        }
    }
}
