//! What the command line calls the values of the library's enums.

use clap::ValueEnum;
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

/// The name as it is typed.
pub(crate) fn typed(name: impl ValueEnum) -> String {
    name.to_possible_value().map_or(String::new(), |value| value.get_name().to_string())
}
