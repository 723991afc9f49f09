//! `impasto demo`: the bundled pictures, so that the first run needs nothing.

use std::path::Path;

use impasto::error::Result;
use impasto::picture::Picture;
use impasto::transfer::{Config, Size};

use super::args::Demo;
use super::stylize::{Job, check_outputs};
use super::{Outcome, note};

/// Drawn by `examples/draw_assets`.
const LAKE: &[u8] = include_bytes!("../../assets/lake.png");
const NIGHT: &[u8] = include_bytes!("../../assets/night.png");

/// Runs `impasto demo`.
pub(crate) fn run(arguments: &Demo) -> Result<Outcome> {
    let options = &arguments.options;
    let preset = options.preset()?;
    let base = if options.preset.is_some() { (preset.config)() } else { settings() };
    let config = options.configure(base)?;
    check_outputs(options, preset, &config, &arguments.output, [])?;
    let content = Picture::decode_bytes(LAKE, Path::new("bundled lake.png"))?;
    let styles = vec![Picture::decode_bytes(NIGHT, Path::new("bundled night.png"))?];
    let outcome =
        Job { options, preset, config, output: arguments.output.clone(), content, styles, may_fetch: false }.run()?;
    if outcome == Outcome::Done && !options.quiet && !options.dump_plan {
        note!("your own: impasto stylize PHOTO --style PAINTING -o OUT.png");
    }
    Ok(outcome)
}

/// The defaults, smaller and shorter: about half a minute on two CPU cores.
fn settings() -> Config {
    Config { size: Size::Longest(256), iterations: 100, ..Config::default() }
}
