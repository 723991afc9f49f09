//! Named settings. The command line and the README's table are derived from this list.

use super::config::{Config, Init, Orientation, Size};

/// A named configuration.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// What `--preset` takes.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// The settings.
    pub config: fn() -> Config,
    /// Prints `iter:%d,loss:%.9f` and saves every 100 iterations with values truncated, as the article does.
    pub article_output: bool,
}

/// Every preset.
pub static PRESETS: &[Preset] = &[
    Preset {
        name: "default",
        summary: "content init, longest side 512, Gram losses on relu1_2 relu2_2 relu3_2, Adam, 500 iterations",
        config: Config::default,
        article_output: false,
    },
    Preset {
        name: "article",
        summary: "the article exactly: 224x224, minus 128, kernels transposed, noise init, TensorFlow's Adam at 0.5",
        config: article,
        article_output: true,
    },
];

/// The preset of this name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

fn article() -> Config {
    Config {
        size: Size::Exact(224, 224),
        style_size: Some(Size::Exact(224, 224)),
        init: Init::Noise,
        mean: Some([128.0; 3]),
        orientation: Orientation::Article,
        ..Config::default()
    }
}
