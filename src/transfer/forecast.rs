//! How a scale is cut so that it fits: lays it out in several ways, forecasts their memory, and takes the fastest way
//! that fits. Nothing is allocated on a device meanwhile, but for the trial of matrix units where maps are halves.

use super::config::Config;
use super::layout::{Stage, Way, deepest};
use super::lbfgs::Parts;
use super::parts::Scene;
use super::scales::Scale;
use crate::error::{Error, Result};
use crate::net::check::checked;
use crate::net::tiles::grid;
use crate::recording::{Backend, BufferInfo, BufferTable, Choices, Engine, Purpose, Recording, Room};
use crate::weights::Weights;

/// Below this edge the halos are most of the work.
const SMALLEST: usize = 128;
/// From this edge on, halos cost less than computing content targets anew would.
const ROOMY: usize = 512;
/// Tiles along a side of the picture: more of them would only make the list of launches longer.
const MOST_ALONG: usize = 64;

/// What one scale of a run does and needs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sizes and number of iterations.
    pub scale: Scale,
    /// Width and height of each style picture.
    pub styles: Vec<(usize, usize)>,
    /// One iteration; of L-BFGS the gradient, which an iteration needs once or more.
    pub step: Recording,
    /// What an iteration runs beside it: of L-BFGS everything that is done with vectors when it remembers as many as it may.
    /// Memory-bound, unlike the gradient.
    pub rest: Vec<Recording>,
    /// Every buffer. Those of the next scale take their place: the scales' memory does not add up.
    pub buffers: BufferTable,
    /// What the engine needs beside the buffers, in bytes.
    pub overhead: u64,
    /// Edge of the tiles in pixels as asked for or chosen; `None` where the picture is computed as a whole.
    pub tile: Option<usize>,
    /// Number of tiles of the picture.
    pub tiles: usize,
    /// Whether the content's features are computed anew for every tile, since keeping them would take too much memory.
    pub recomputes_content: bool,
}

impl Plan {
    pub(super) fn of(stage: Stage) -> Plan {
        let recomputes_content = stage.layout.content_image.is_some();
        Plan {
            scale: stage.scene.scale,
            styles: stage.scene.styles.iter().map(|[height, width]| (*width, *height)).collect(),
            step: stage.step,
            rest: stage.parts.map(Parts::usual).unwrap_or_default(),
            overhead: stage.overhead,
            tile: stage.way.tile,
            tiles: stage.layout.tiles.len(),
            recomputes_content,
            buffers: stage.layout.work.table,
        }
    }

    /// Bytes on the device: all buffers and the overhead.
    pub fn bytes(&self) -> u64 {
        self.buffers.total() + self.overhead
    }
}

/// A backend without bounds, for plans that belong to no device.
#[derive(Debug)]
pub(super) struct Anywhere;

impl Backend for Anywhere {
    fn engine(&self) -> Result<Box<dyn Engine>> {
        Err(Error::NoDevice { what: "a plan runs on no device".into(), hint: "choose a device".into() })
    }
}

/// Lays a scale out in the way that [`Config::ways`], or else [`Config::tile`] and [`Config::memory`], ask for on this device.
pub(super) fn stage(backend: &dyn Backend, weights: &Weights, config: &Config, scene: Scene) -> Result<Stage> {
    let scale = scene.scale;
    let (choices, dropped) = checked(backend, backend.choices().held_to(config.convolution), config.precision);
    let planner = Planner { backend, weights, config, scene, room: backend.room(), choices };
    let mut stage = planner.best()?;
    // Once for a job.
    let dropped = dropped.filter(|_| scale.index == 0).map(|method| {
        format!("convolutions by `{method}` are wrong on this device, or fail, and are left out; the run is slower")
    });
    let notes: Vec<String> = dropped.into_iter().chain(stage.note.take()).collect();
    stage.note = Some(notes.join("; ")).filter(|text| !text.is_empty());
    Ok(stage)
}

#[derive(Debug)]
struct Planner<'a> {
    backend: &'a dyn Backend,
    weights: &'a Weights,
    config: &'a Config,
    scene: Scene,
    room: Room,
    choices: Choices,
}

impl Planner<'_> {
    /// The way of an earlier run, or else what is asked for, with a note where the two differ.
    fn best(&self) -> Result<Stage> {
        let scale = self.scene.scale;
        let before = self.config.ways.get(scale.index);
        if let Some(stage) = before.and_then(|way| self.again(*way)) {
            return Ok(stage);
        }
        let mut stage = match self.config.tile {
            Some(_) => self.given(),
            None => self.chosen(),
        }?;
        stage.note = before.filter(|way| **way != stage.way).map(|way| {
            let (Scale { width, height, .. }, now) = (scale, stage.way);
            format!("{width}x{height}: tiles were \"{way}\" before, are \"{now}\" now; the bits may be others")
        });
        Ok(stage)
    }

    fn lay(&self, tile: Option<usize>, recompute: bool) -> Result<Stage> {
        let way = Way { tile, recompute };
        let mut stage = Stage::new(self.config, self.weights, self.scene.clone(), way, &self.choices)?;
        stage.overhead = self.backend.overhead(&stage.layout.work.table, &stage.recordings());
        Ok(stage)
    }

    fn budget(&self) -> u64 {
        self.config.memory.unwrap_or(self.room.memory)
    }

    fn fits(&self, stage: &Stage) -> bool {
        let largest = stage.layout.work.table.largest();
        keeps_little(stage, self.config) && largest <= self.room.binding && bytes(stage) <= self.budget()
    }

    /// The way of an earlier run, unless another edge is asked for or it needs more than there is.
    fn again(&self, way: Way) -> Option<Stage> {
        let wanted = self.config.tile.is_none_or(|edge| way.tile == Some(edge));
        let stage = self.lay(way.tile, way.recompute).ok().filter(|_| wanted)?;
        // What a device seems to have is a careful guess (half of what is free), and half of it may have gone to someone
        // else since: the same bits are worth more.
        let budget = self.config.memory.unwrap_or(self.room.memory.saturating_mul(2));
        let fits = keeps_little(&stage, self.config) && stage.layout.work.table.largest() <= self.room.binding;
        (fits && bytes(&stage) <= budget).then_some(stage)
    }

    /// The edge that was asked for.
    fn given(&self) -> Result<Stage> {
        let tile = self.config.tile;
        let whole = tile.is_some_and(|edge| edge >= self.scene.scale.width.max(self.scene.scale.height));
        let kept = self.lay(tile, false);
        if whole || kept.as_ref().is_ok_and(|stage| self.fits(stage)) {
            return self.within(kept?);
        }
        self.within(self.lay(tile, true)?)
    }

    /// The whole picture if it fits, else the largest tiles that do. Small tiles with kept content targets give way to
    /// larger ones without.
    fn chosen(&self) -> Result<Stage> {
        let whole = self.lay(None, false);
        if whole.as_ref().is_ok_and(|stage| self.fits(stage)) {
            return whole;
        }
        let mut best: Option<Stage> = None;
        for recompute in [false, true] {
            let found = self.largest(recompute);
            let edge = |stage: &Option<Stage>| stage.as_ref().and_then(|stage| stage.way.tile).unwrap_or(0);
            if edge(&found) > edge(&best) {
                best = found;
            }
            if edge(&best) >= ROOMY {
                break;
            }
        }
        if let Some(best) = best {
            return Ok(best);
        }
        // Nothing fits: what takes least is refused if a bound was given. If it was only supposed, tiles of a usual size
        // are tried, since smaller ones take many times the work to save little.
        let (step, longest) = self.steps();
        let edge = if self.config.memory.is_some() { SMALLEST } else { ROOMY };
        let edge = edge.div_ceil(step).max(longest.div_ceil(MOST_ALONG)).min(longest);
        self.within(self.lay(Some(step * edge), true).or(whole)?)
    }

    /// The grid that tiles keep to, and how many steps of it the longest side has.
    fn steps(&self) -> (usize, usize) {
        let Scale { width, height, .. } = self.scene.scale;
        let step = grid(deepest(self.config));
        let longest = self.scene.styles.iter().flatten().copied().fold(width.max(height), usize::max);
        (step, longest.div_ceil(step))
    }

    /// The largest tiles that fit, a search by halves; then the smallest that are no more of them.
    fn largest(&self, recompute: bool) -> Option<Stage> {
        let (step, longest) = self.steps();
        let mut found = None;
        let (mut low, mut high) = (SMALLEST.div_ceil(step).max(longest.div_ceil(MOST_ALONG)), longest);
        while low < high {
            let middle = low.midpoint(high);
            match self.lay(Some(middle * step), recompute).ok().filter(|stage| self.fits(stage)) {
                Some(stage) => {
                    found = Some((middle, stage));
                    low = middle + 1;
                }
                None => high = middle,
            }
        }
        let (edge, stage) = found?;
        let even = longest.div_ceil(longest.div_ceil(edge));
        let evened = self.lay(Some(even * step), recompute).ok().filter(|stage| self.fits(stage));
        Some(evened.unwrap_or(stage))
    }

    /// Refuses what exceeds the memory that [`Config::memory`] grants.
    fn within(&self, stage: Stage) -> Result<Stage> {
        match self.config.memory {
            Some(available) if bytes(&stage) > available => Err(Error::OutOfMemory {
                what: format!("{}x{} pixels", self.scene.scale.width, self.scene.scale.height),
                needed: bytes(&stage),
                available,
                hint: "use a smaller --size or --tile, or grant more with --memory".into(),
            }),
            _ => Ok(stage),
        }
    }
}

/// Whether no content target of a picture in tiles takes more than [`Config::max_buffer`]: they are the only buffers that
/// grow with it beside the bands.
pub(super) fn keeps_little(stage: &Stage, config: &Config) -> bool {
    let large = |info: &BufferInfo| info.purpose == Purpose::Targets && 4 * info.len as u64 > config.max_buffer;
    stage.layout.tiles.len() == 1 || !stage.layout.work.table.infos().iter().any(large)
}

fn bytes(stage: &Stage) -> u64 {
    stage.layout.work.table.total() + stage.overhead
}
