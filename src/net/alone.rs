//! One convolution of maps in single precision by itself, there and back: to compare a method with the plain one on a device, and to time it.

use super::convolution::Layer;
use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::maps::{Maps, Precision};
use crate::net::plan::Workspace;
use crate::net::vgg19::Tap;
use crate::ops::padded;
use crate::recording::{BufferTable, Choices, Engine, Geometry, Pass, Purpose, Recording, Tensor};
use crate::weights::{Conv, VGG19};

/// A layer's buffers and recordings, as a run would have them.
#[derive(Debug)]
pub struct Alone {
    /// Every buffer.
    pub table: BufferTable,
    /// From `input` to `output` and `mask`.
    pub forward: Recording,
    /// From `d_output` and `mask` to `d_input`.
    pub backward: Recording,
    /// `[H, W, Ci]`
    pub input: Tensor,
    /// `[H, W, Co]`
    pub output: Tensor,
    /// Which outputs are positive.
    pub mask: Tensor,
    /// `[H, W, Co]`
    pub d_output: Tensor,
    /// `[H, W, Ci]`
    pub d_input: Tensor,
    convolution: Layer,
    conv: Conv,
}

impl Alone {
    /// The `layer`-th convolution of VGG-19 (from 0; the last if there are fewer) in a picture of `[height, width]`.
    pub fn new(layer: usize, size: [usize; 2], choices: &Choices) -> Result<Alone> {
        let layer = layer.min(VGG19.len() - 1);
        let (name, inputs, outputs) = VGG19[layer];
        let conv = Conv { name: name.into(), inputs, outputs, kernel: Vec::new(), bias: Vec::new() };
        let mut work = Workspace::default();
        let maps = Maps::new(&mut work.table, Precision::F32, VGG19.len());
        let convolution = Layer::declare(&mut work, &conv, layer, (&maps, choices, size));
        let [height, width] = size.map(|side| side.div_ceil(1 << Tap::from_conv(layer).level()));
        let input = work.table.tensor("input", Scalar::F32, &[height, width, padded(inputs)], Purpose::Tile);
        let (mut forward, mut backward) = (Recording::new("forward"), Recording::new("backward"));
        let (output, mask) = convolution.forward(&maps, &mut work, &mut forward, &input)?;
        let d_output = work.table.tensor("d_output", Scalar::F32, &output.shape, Purpose::Tile);
        let d_input = convolution.backward(&maps, &mut work, &mut backward, &d_output, &mask)?;
        let table = work.table;
        Ok(Alone { table, forward, backward, input, output, mask, d_output, d_input, convolution, conv })
    }

    /// What its passes are chosen by.
    pub fn geometry(&self, pass: Pass) -> Geometry {
        let [inputs, outputs] = [&self.input, &self.output].map(|tensor| tensor.shape[2]);
        let (reads, writes) = if pass == Pass::Forward { (inputs, outputs) } else { (outputs, inputs) };
        Geometry { pass, reads, writes, positions: self.input.shape[0] * self.input.shape[1] }
    }

    /// Writes filters and bias made of `noise`, numbers in -1..1 that are repeated: sums stay about as large as what is
    /// summed.
    pub fn upload(&self, engine: &mut dyn Engine, noise: &[f32]) -> Result<()> {
        let Conv { inputs, outputs, .. } = self.conv;
        let spread = 1.0 / (3.0 * inputs as f32).sqrt();
        let drawn = |count: usize| noise.iter().cycle().take(count).map(|value| spread * value).collect();
        let conv = Conv { kernel: drawn(9 * inputs * outputs), bias: drawn(outputs), ..self.conv.clone() };
        self.convolution.upload(engine, &conv, [1.0; 2])
    }
}
