//! Lays the network out over tiles: forward to every tap, statistics, and backward to the picture.

use crate::error::{Error, Result};
use crate::kernel::Scalar;
use crate::net::bands::Bands;
use crate::net::convolution::Layer;
use crate::net::edge::Edge;
use crate::net::maps::{Maps, Precision, Scaling, Storage};
use crate::net::tiles::{Region, Tile};
use crate::net::vgg19::Tap;
use crate::ops::pool::{pool_average, pool_average_backward, pool_max, pool_max_backward, winner_shape};
use crate::ops::pool_l2::{pool_l2, pool_l2_backward};
use crate::recording::{BufferId, BufferTable, Choices, Engine, Purpose, Recording, Tensor};
use crate::weights::Weights;

/// How 2x2 windows are reduced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Largest value, as the network was trained.
    #[default]
    Max,
    /// Mean of the values that lie inside the map.
    Average,
    /// Twice the root of the mean of the squares that lie inside the map: inside it, the window's L2 norm.
    L2,
}

/// The buffers of a job, and a pool of temporary ones that every tile and every pass shares.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Every buffer declared so far.
    pub table: BufferTable,
    free: Vec<BufferId>,
}

impl Workspace {
    /// A temporary tensor: the smallest free buffer that holds it, else the largest one grown, else a new one.
    pub fn take(&mut self, label: &str, scalar: Scalar, shape: &[usize]) -> Tensor {
        let len: usize = shape.iter().product();
        let size = |id: &BufferId| self.table.info(*id).len;
        let fitting = |id: &&BufferId| self.table.info(**id).scalar == scalar;
        let best = self.free.iter().filter(fitting).filter(|id| size(id) >= len).min_by_key(|id| size(id));
        let chosen = best.or_else(|| self.free.iter().filter(fitting).max_by_key(|id| size(id))).copied();
        let Some(buffer) = chosen else {
            return self.table.tensor(label, scalar, shape, Purpose::Tile);
        };
        self.free.retain(|id| *id != buffer);
        self.table.grow(buffer, len);
        Tensor { buffer, scalar, shape: shape.to_vec() }
    }

    /// Gives a temporary tensor back. Later launches may overwrite it; earlier ones are done by then.
    pub fn give(&mut self, tensor: Tensor) {
        self.free.push(tensor.buffer);
    }
}

/// Something that looks at an activation: a target to be measured, or a loss.
pub trait TapTerm {
    /// Which activation.
    fn tap(&self) -> Tap;
    /// Whether [`TapTerm::forward`] takes the map as it is stored, to keep it, instead of its values.
    fn keeps(&self) -> bool {
        false
    }
    /// Called with every tile's activation in the forward pass: sums up statistics over the owned positions. A tile's map may
    /// come in several regions.
    fn forward(&self, _: &mut Workspace, _: &mut Recording, _feature: &Tensor, _: &Region) -> Result<()> {
        Ok(())
    }
    /// Whether [`TapTerm::forward`] looks at a target: where targets are measured tile by tile, they are then measured
    /// before the tile passes forward in either sweep.
    fn compares(&self) -> bool {
        false
    }
    /// Called once when all tiles have passed forward.
    fn finish(&self, _: &mut Workspace, _: &mut Recording) -> Result<()> {
        Ok(())
    }
    /// Whether [`TapTerm::measure`] is to be called, in a sweep between the two passes.
    fn measures(&self) -> bool {
        false
    }
    /// Called with every tile's activation after [`TapTerm::finish`].
    fn measure(&self, _: &mut Workspace, _: &mut Recording, _feature: &Tensor, _: &Region) -> Result<()> {
        Ok(())
    }
    /// Called once when all tiles have been measured.
    fn measured(&self, _: &mut Workspace, _: &mut Recording) -> Result<()> {
        Ok(())
    }
    /// Called with every tile's activation in the backward pass: adds its gradient at the owned positions.
    fn backward(
        &self,
        _: &mut Workspace,
        _: &mut Recording,
        _feature: &Tensor,
        _: &Region,
        _d_feature: &Tensor,
    ) -> Result<()> {
        Ok(())
    }
}

/// The network's weights as buffers, and how it is run.
#[derive(Debug)]
pub struct Network {
    convs: Vec<Layer>,
    maps: Maps,
    pooling: Pooling,
    /// What the first convolution sees beyond the picture's edge.
    pub edge: Edge,
    /// Factor on what pooling gives.
    pub pooling_scale: f32,
}

/// What a forward pass leaves for the way back: activations that a term looks at, masks of every layer, and what the
/// pooling before a layer needs.
#[derive(Debug, Default)]
struct Trace {
    features: Vec<Option<Tensor>>,
    masks: Vec<Tensor>,
    pooled: Vec<Pooled>,
}

/// What a pooling needs on its way back.
#[derive(Debug)]
enum Pooled {
    /// There is no pooling, or an average.
    Nothing,
    /// The winners of a maximum.
    Winners(Tensor),
    /// The activation of the layer before, for the L2 norm; true where it is the pooling's own, since no term looks at it.
    Input(Tensor, bool),
}

impl Network {
    /// Declares the buffers of the first `depth` convolutions, and asks how each is to be computed for a picture of
    /// `[height, width]`.
    pub fn new(
        work: &mut Workspace,
        weights: &Weights,
        depth: usize,
        (pooling, precision): (Pooling, Precision),
        (choices, size): (&Choices, [usize; 2]),
    ) -> Result<Network> {
        let maps = Maps::new(&mut work.table, precision, depth);
        let convs = weights.convs.iter().take(depth).enumerate();
        let convs: Vec<Layer> =
            convs.map(|(index, conv)| Layer::declare(work, conv, index, (&maps, choices, size))).collect();
        if convs.len() < depth {
            return Err(Error::Config {
                option: "weights",
                what: format!("{} has {} of the {depth} convolutions needed", weights.source, convs.len()),
                hint: "choose shallower layers or complete weights".into(),
            });
        }
        Ok(Network { convs, maps, pooling, edge: Edge::default(), pooling_scale: 1.0 })
    }

    /// Uploads the weights, channels padded with zeros, and the factors that halves carry.
    pub fn upload(&self, engine: &mut dyn Engine, weights: &Weights, scaling: &Scaling) -> Result<()> {
        self.maps.upload(engine, scaling)?;
        for (index, (conv, own)) in weights.convs.iter().zip(&self.convs).enumerate() {
            // The factor on what pooling gives is a factor on the filters after it, there and back.
            let tap = Tap::from_conv(index);
            let scale = if tap.starts_block() && tap.level() > 0 { self.pooling_scale } else { 1.0 };
            let (before, after) = (scaling.before(index), scaling.after(index));
            own.upload(engine, conv, [scale * after / before, after])?;
        }
        Ok(())
    }

    /// How a tap's map is stored.
    pub(crate) fn storage(&self, tap: Tap) -> Storage {
        self.maps.storage(tap)
    }

    /// Records a forward pass over every tile of `image` with the terms looking on: how targets are measured.
    pub fn record_forward(
        &self,
        work: &mut Workspace,
        recording: &mut Recording,
        image: &Bands,
        tiles: &[Tile],
        terms: &[&dyn TapTerm],
    ) -> Result<()> {
        if terms.is_empty() {
            return Ok(());
        }
        for tile in tiles {
            let trace = self.forward(work, recording, image, tile, terms, true)?;
            trace.give(work);
        }
        for term in terms {
            term.finish(work, recording)?;
        }
        Ok(())
    }

    /// Records `d_image += gradient of the terms`. A picture of one tile takes one sweep. Several tiles take two: the
    /// first one sums up statistics of the whole picture, which the second one's gradients need.
    ///
    /// With a `reference`, its picture's tile passes forward under its terms before each tile's gradient is recorded:
    /// targets that are measured tile by tile instead of being kept.
    pub fn record_gradient(
        &self,
        work: &mut Workspace,
        recording: &mut Recording,
        (image, d_image): (&Bands, &Bands),
        tiles: &[Tile],
        terms: &[&dyn TapTerm],
        reference: Option<(&Bands, &[&dyn TapTerm])>,
    ) -> Result<()> {
        let measure = |work: &mut Workspace, recording: &mut Recording, tile: &Tile| match reference {
            Some((image, terms)) => self.record_forward(work, recording, image, std::slice::from_ref(tile), terms),
            None => Ok(()),
        };
        if let [tile] = tiles {
            measure(work, recording, tile)?;
            let trace = self.forward(work, recording, image, tile, terms, true)?;
            for term in terms {
                term.finish(work, recording)?;
            }
            if terms.iter().any(|term| term.measures()) {
                self.measure(work, recording, (tile, &trace), terms)?;
                terms.iter().try_for_each(|term| term.measured(work, recording))?;
            }
            return self.backward(work, recording, trace, d_image, tile, terms);
        }
        let compares = terms.iter().any(|term| term.compares());
        for tile in tiles {
            if compares {
                measure(work, recording, tile)?;
            }
            self.forward(work, recording, image, tile, terms, true)?.give(work);
        }
        for term in terms {
            term.finish(work, recording)?;
        }
        if terms.iter().any(|term| term.measures()) {
            for tile in tiles {
                measure(work, recording, tile)?;
                let trace = self.forward(work, recording, image, tile, terms, false)?;
                self.measure(work, recording, (tile, &trace), terms)?;
                trace.give(work);
            }
            terms.iter().try_for_each(|term| term.measured(work, recording))?;
        }
        for tile in tiles {
            measure(work, recording, tile)?;
            let trace = self.forward(work, recording, image, tile, terms, false)?;
            self.backward(work, recording, trace, d_image, tile, terms)?;
        }
        Ok(())
    }

    fn forward(
        &self,
        work: &mut Workspace,
        recording: &mut Recording,
        image: &Bands,
        tile: &Tile,
        terms: &[&dyn TapTerm],
        statistics: bool,
    ) -> Result<Trace> {
        let mut trace = Trace::default();
        let around = 2 * self.edge.width();
        let mut input = work.take("tile", Scalar::F32, &[tile.area.height + around, tile.area.width + around, 4]);
        self.edge.gather(recording, image, tile.area, &input)?;
        input = self.maps.first(work, recording, input)?;
        let mut input_is_kept = false;
        // No further than the deepest term looks; nowhere without one.
        let depth = terms.iter().map(|term| term.tap().conv() + 1).max().unwrap_or(0);
        for (index, conv) in self.convs.iter().take(depth).enumerate() {
            let tap = Tap::from_conv(index);
            let region = tile.region(tap.level());
            let mut pooled = Pooled::Nothing;
            if tap.starts_block() && tap.level() > 0 {
                (input, pooled) = self.pool(work, recording, tap, (input, !input_is_kept), &region)?;
                input_is_kept = false;
            }
            let (mut output, mask) = conv.forward(&self.maps, work, recording, &input)?;
            if index == 0 {
                output = self.edge.crop(&self.maps, work, recording, output)?;
            }
            if !input_is_kept {
                work.give(input);
            }
            let looked_at = || terms.iter().filter(|term| term.tap() == tap);
            input_is_kept = looked_at().next().is_some();
            if statistics && input_is_kept {
                let (keeping, looking): (Vec<&&dyn TapTerm>, Vec<_>) = looked_at().partition(|term| term.keeps());
                keeping.iter().try_for_each(|term| term.forward(work, recording, &output, &region))?;
                let shown = (tap, &output, &region);
                self.maps.show(work, recording, shown, !looking.is_empty(), |work, recording, feature, region| {
                    looking.iter().try_for_each(|term| term.forward(work, recording, feature, region))
                })?;
            }
            trace.features.push(input_is_kept.then(|| output.clone()));
            trace.masks.push(mask);
            trace.pooled.push(pooled);
            input = output;
        }
        if !input_is_kept {
            work.give(input);
        }
        Ok(trace)
    }

    /// Pools a map and gives it back, if it is the pooling's own and of no more use.
    fn pool(
        &self,
        work: &mut Workspace,
        recording: &mut Recording,
        tap: Tap,
        (input, own): (Tensor, bool),
        region: &Region,
    ) -> Result<(Tensor, Pooled)> {
        let [height, width, channels] = self.maps.size(&input);
        let label = format!("pool{}", tap.level());
        let output = self.maps.take(work, "pooled", [region.height, region.width, channels]);
        let pooled = match self.pooling {
            Pooling::Max => {
                let winners = work.take("winner", Scalar::U32, &winner_shape(height, width, channels));
                pool_max(recording, &label, &input, &output, &winners)?;
                Pooled::Winners(winners)
            }
            Pooling::Average => {
                pool_average(recording, &label, &input, &output)?;
                Pooled::Nothing
            }
            Pooling::L2 => {
                pool_l2(recording, &label, &input, &output)?;
                return Ok((output, Pooled::Input(input, own)));
            }
        };
        if own {
            work.give(input);
        }
        Ok((output, pooled))
    }

    fn measure(
        &self,
        work: &mut Workspace,
        recording: &mut Recording,
        (tile, trace): (&Tile, &Trace),
        terms: &[&dyn TapTerm],
    ) -> Result<()> {
        for term in terms.iter().filter(|term| term.measures()) {
            let tap = term.tap();
            if let Some(Some(feature)) = trace.features.get(tap.conv()) {
                let shown = (tap, feature, &tile.region(tap.level()));
                self.maps.show(work, recording, shown, true, |work, recording, feature, region| {
                    term.measure(work, recording, feature, region)
                })?;
            }
        }
        Ok(())
    }

    fn backward(
        &self,
        work: &mut Workspace,
        recording: &mut Recording,
        trace: Trace,
        d_image: &Bands,
        tile: &Tile,
        terms: &[&dyn TapTerm],
    ) -> Result<()> {
        let mut gradient: Option<Tensor> = None;
        let layers = self.convs.iter().zip(trace.features).zip(trace.masks).zip(trace.pooled).enumerate();
        for (index, (((conv, feature), mask), pooled)) in layers.rev() {
            let tap = Tap::from_conv(index);
            let region = tile.region(tap.level());
            let mut d_output = gradient.take().unwrap_or_else(|| {
                // Nothing lies deeper: the terms of this layer are the first to add.
                let fresh = self.maps.take(work, "d_feature", [region.height, region.width, conv.outputs()]);
                recording.clear(fresh.buffer);
                fresh
            });
            if let Some(feature) = feature {
                let looked_at = || terms.iter().filter(|term| term.tap() == tap);
                let shown = (tap, &feature, &region);
                self.maps.show_with_gradient(
                    work,
                    recording,
                    shown,
                    &d_output,
                    |work, recording, feature, region, to| {
                        looked_at().try_for_each(|term| term.backward(work, recording, feature, region, to))
                    },
                )?;
                work.give(feature);
            }
            if index == 0 {
                d_output = self.edge.uncrop(&self.maps, work, recording, d_output)?;
            }
            let mut d_input = conv.backward(&self.maps, work, recording, &d_output, &mask)?;
            work.give(d_output);
            work.give(mask);
            if tap.starts_block() && tap.level() > 0 {
                let before = tile.region(tap.level() - 1);
                let [_, _, inputs] = self.maps.size(&d_input);
                let d_unpooled = self.maps.take(work, "d_feature", [before.height, before.width, inputs]);
                let label = format!("pool{}", tap.level());
                match pooled {
                    Pooled::Nothing => pool_average_backward(recording, &label, &d_input, &d_unpooled)?,
                    Pooled::Winners(winners) => {
                        pool_max_backward(recording, &label, &d_input, &winners, &d_unpooled)?;
                        work.give(winners);
                    }
                    Pooled::Input(input, own) => {
                        pool_l2_backward(recording, &label, &input, &d_input, &d_unpooled)?;
                        if own {
                            work.give(input);
                        }
                    }
                }
                work.give(std::mem::replace(&mut d_input, d_unpooled));
            }
            gradient = Some(d_input);
        }
        if let Some(gradient) = gradient {
            let gradient = self.maps.last(work, recording, gradient)?;
            self.edge.add(recording, d_image, &gradient, tile.area)?;
            work.give(gradient);
        }
        Ok(())
    }
}

impl Trace {
    fn give(self, work: &mut Workspace) {
        let pooled = self.pooled.into_iter().filter_map(|pooled| match pooled {
            Pooled::Winners(tensor) | Pooled::Input(tensor, true) => Some(tensor),
            Pooled::Nothing | Pooled::Input(_, false) => None,
        });
        for tensor in self.features.into_iter().flatten().chain(self.masks).chain(pooled) {
            work.give(tensor);
        }
    }
}

/// The dimensions of a tensor that was made here with rank 3.
pub(super) fn three(tensor: &Tensor) -> [usize; 3] {
    [0, 1, 2].map(|i| tensor.shape.get(i).copied().unwrap_or(1))
}
