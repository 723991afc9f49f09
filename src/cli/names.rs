//! What the command line calls the values of the library's enums, and numbers that come in twos.

use std::str::FromStr;

use clap::ValueEnum;
use impasto::error::{Error, Result};
use impasto::net::edge::Edge;
use impasto::net::plan::Pooling;
use impasto::picture::color::{ColorMatch, HistogramMatch, OriginalColors};
use impasto::transfer::{AdamForm, Convolution, Optimizer, Orientation, Precision, StyleLoss, TotalVariation};

/// Declares an enum of names beside one of the library's, and the way from either to the other.
macro_rules! names {
    ($name:ident for $of:ident { $($(#[$meta:meta])* $variant:ident),+ $(,)? }) => {
        #[derive(Clone, Copy, Debug, ValueEnum)]
        pub(crate) enum $name { $($(#[$meta])* $variant),+ }

        impl From<$name> for $of {
            fn from(name: $name) -> $of {
                match name { $($name::$variant => $of::$variant),+ }
            }
        }

        impl From<$of> for $name {
            fn from(value: $of) -> $name {
                match value { $($of::$variant => $name::$variant),+ }
            }
        }
    };
}

names!(PoolingName for Pooling { Max, #[value(name = "avg")] Average, L2 });
names!(EdgeName for Edge { Zero, Replicate });
names!(ConvolutionName for Convolution { Auto, Direct, Winograd });
names!(OrientationName for Orientation { True, Article });
names!(OptimizerName for Optimizer { Adam, Lbfgs });
names!(AdamFormName for AdamForm { #[value(name = "tensorflow")] TensorFlow, Standard });
names!(StyleLossName for StyleLoss { Article, Classic, Gatys, ScaledMse, Wasserstein });
names!(TotalVariationName for TotalVariation { L2, L1, NinePoint });
names!(OriginalColorsName for OriginalColors { None, Yuv, Lab });
names!(ColorMatchName for ColorMatch { None, Mean, Pca, Cholesky, Symmetric });
names!(HistogramMatchName for HistogramMatch { None, Content, Style });

/// What [`Precision`] is called, and a name for leaving the choice to the program.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PrecisionName {
    Auto,
    F32,
    F16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Precision {
        match name {
            PrecisionName::Auto | PrecisionName::F32 => Precision::F32,
            PrecisionName::F16 => Precision::F16,
        }
    }
}

impl From<Precision> for PrecisionName {
    fn from(value: Precision) -> PrecisionName {
        match value {
            Precision::F32 => PrecisionName::F32,
            Precision::F16 => PrecisionName::F16,
        }
    }
}

/// `500`, or `1000,500`: the first scale's before that of the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Iterations {
    first: Option<u32>,
    each: u32,
}

impl Iterations {
    /// The first scale's, if it differs, and the others', where `--first-iterations` may say the former too.
    pub(crate) fn beside(self, first_iterations: Option<u32>) -> Result<(Option<u32>, u32)> {
        match (self.first, first_iterations) {
            (Some(first), Some(_)) => Err(Error::Config {
                option: "iterations",
                what: format!("{first},{} beside --first-iterations", self.each),
                hint: "give the first scale's number once".into(),
            }),
            (first, _) => Ok((first, self.each)),
        }
    }
}

impl FromStr for Iterations {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Iterations, String> {
        let number =
            |text: &str| text.trim().parse::<u32>().map_err(|_| "give N, or FIRST,N, e.g. 1000,500".to_string());
        match text.split_once(',') {
            Some((first, each)) => Ok(Iterations { first: Some(number(first)?), each: number(each)? }),
            None => Ok(Iterations { first: None, each: number(text)? }),
        }
    }
}

/// The name as it is typed.
pub(crate) fn typed(name: impl ValueEnum) -> String {
    name.to_possible_value().map_or(String::new(), |value| value.get_name().to_string())
}
