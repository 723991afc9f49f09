//! `impasto demo`: the bundled pictures, so that the first run needs nothing.

use std::path::Path;
use std::sync::Arc;

use impasto::error::Result;
use impasto::picture::{Picture, beside};

use super::args::Demo;
use super::record::Record;
use super::stylize::Job;
use super::{Outcome, note};

/// Drawn by `examples/draw_assets`.
pub(super) const LAKE: &[u8] = include_bytes!("../../assets/lake.png");
pub(super) const NIGHT: &[u8] = include_bytes!("../../assets/night.png");

const DRAFT: &str = "draft";
/// Of the start: nothing in the lake's flat sky tells the built-in network where strokes go, and a brown patch stays without.
const NOISE: f32 = 0.15;

/// Runs `impasto demo`.
pub(crate) fn run(arguments: &Demo) -> Result<Outcome> {
    let options = &arguments.options;
    let job = job(arguments)?;
    let sheet = beside(&arguments.output, "sheet");
    let outcome = job.run()?;
    if outcome == Outcome::Done && !options.quiet && !options.dump_plan {
        note!("wrote {}: content, style, result", sheet.display());
        note!("next, your own pictures:  impasto stylize PHOTO --style PAINTING -o OUT.png");
        note!("stronger strokes:         impasto demo --style-weight 20000 --overwrite");
        note!("larger:                   impasto demo --size 512 --overwrite");
    }
    Ok(outcome)
}

/// The run that the arguments ask for.
pub(crate) fn job(arguments: &Demo) -> Result<Job<'_>> {
    let options = &arguments.options;
    let preset = options.preset(DRAFT)?;
    let mut config = (preset.config)();
    if preset.name == DRAFT {
        config.init_noise = NOISE;
    }
    let config = options.configure(config)?;
    let record = Record::new(&options.picture_files().collect::<Vec<_>>(), options, &config)?;
    let content = Picture::decode_bytes(LAKE, Path::new("bundled lake.png"))?;
    let styles = Arc::new(vec![Picture::decode_bytes(NIGHT, Path::new("bundled night.png"))?]);
    let masks = Arc::new(options.styles.masks(&options.pictures, options.quiet)?);
    let job = Job::new(options, (preset, config), (content, styles), arguments.output.clone(), record);
    Ok(Job { sheet: Some(beside(&arguments.output, "sheet")), may_fetch: false, masks, ..job })
}
