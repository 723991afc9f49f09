//! `impasto demo`: the bundled pictures, so that the first run needs nothing.

use std::path::Path;

use impasto::error::Result;
use impasto::picture::{Picture, beside};

use super::args::Demo;
use super::stylize::Job;
use super::{Outcome, note};

/// Drawn by `examples/draw_assets`.
const LAKE: &[u8] = include_bytes!("../../assets/lake.png");
const NIGHT: &[u8] = include_bytes!("../../assets/night.png");

/// Runs `impasto demo`.
pub(crate) fn run(arguments: &Demo) -> Result<Outcome> {
    let options = &arguments.options;
    let preset = options.preset("draft")?;
    let config = options.configure((preset.config)())?;
    let content = Picture::decode_bytes(LAKE, Path::new("bundled lake.png"))?;
    let styles = vec![Picture::decode_bytes(NIGHT, Path::new("bundled night.png"))?];
    let (output, sheet) = (arguments.output.clone(), beside(&arguments.output, "sheet"));
    let job = Job { options, preset, config, output, sheet: Some(sheet.clone()), content, styles, may_fetch: false };
    let outcome = job.run(&[])?;
    if outcome == Outcome::Done && !options.quiet && !options.dump_plan {
        note!("wrote {}: content, style, result", sheet.display());
        note!("next, your own pictures:  impasto stylize PHOTO --style PAINTING -o OUT.png");
        note!("stronger strokes:         impasto demo --style-weight 20000 --overwrite");
        note!("larger:                   impasto demo --size 512 --overwrite");
    }
    Ok(outcome)
}
