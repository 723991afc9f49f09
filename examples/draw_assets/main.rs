//! Draws the two pictures the project ships: `lake.png`, a content picture, and
//! `night.png`, a style picture.
//!
//! ```text
//! cargo run --release --example draw_assets -- assets
//! ```
//!
//! Everything comes from hashes of fixed seeds, so a run repeats itself exactly
//! on one machine. `sin`, `exp` and friends may differ in the last place from
//! one platform's maths library to another's, and a few pixels may then come
//! out differently; the PNGs committed in `assets/` are the ones that get used.

mod bridge;
mod brush;
mod canvas;
mod foliage;
mod lake;
mod land;
mod night;
mod noise;
mod pagoda;
mod sky;
mod village;

use std::error::Error;
use std::path::PathBuf;

/// Width and height of each finished picture.
const SIDE: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("assets"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    lake::paint(SIDE).save(&folder.join("lake.png"), 1)?;
    night::paint(SIDE).save(&folder.join("night.png"), 2)?;
    Ok(())
}
