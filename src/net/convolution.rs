//! One convolution of the network: its filters as buffers, and the method by which each pass computes it.

use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::maps::Maps;
use crate::net::plan::{Workspace, three};
use crate::net::vgg19::Tap;
use crate::ops::conv3x3::{conv3x3, conv3x3_backward, mask_shape, rotated};
use crate::ops::conv3x3_cooperative::{conv3x3_cooperative, conv3x3_cooperative_backward};
use crate::ops::conv3x3_half::{conv3x3_half, conv3x3_half_backward};
use crate::ops::half::{half_shape, packed};
use crate::ops::{padded, winograd};
use crate::recording::{Choices, Engine, Geometry, Method, Pass, Purpose, Recording, Tensor};
use crate::weights::Conv;

/// What a pass needs: the filter in the form that its method reads.
#[derive(Debug)]
struct Filter {
    method: Method,
    weight: Tensor,
}

/// A convolution of the network.
#[derive(Debug)]
pub(super) struct Layer {
    name: String,
    bias: Tensor,
    forward: Filter,
    backward: Filter,
    /// Whether it reads a picture split into halves, whose parts have the same filters.
    split: bool,
}

impl Layer {
    /// Declares the buffers of the `index`-th convolution in a network for a picture of `size`.
    pub(super) fn declare(
        work: &mut Workspace,
        conv: &Conv,
        index: usize,
        (maps, choices, size): (&Maps, &Choices, [usize; 2]),
    ) -> Layer {
        let (inputs, outputs) = (padded(conv.inputs), padded(conv.outputs));
        let split = maps.halves() && index == 0;
        let level = Tap::from_conv(index).level();
        let positions = size.map(|side| side.div_ceil(1 << level)).iter().product();
        let mut tensor = |scalar: Scalar, suffix: &str, shape: &[usize]| {
            work.table.tensor(format!("{}.{suffix}", conv.name), scalar, shape, Purpose::Weights)
        };
        let mut filter = |suffix, pass, [reads, writes]: [usize; 2]| {
            let geometry = Geometry { pass, reads, writes, positions };
            let method = if maps.halves() { choices.method_of_halves(geometry) } else { choices.method(geometry) };
            let weight = match method {
                Method::Direct(_) => tensor(Scalar::F32, suffix, &[9, reads, writes]),
                Method::Winograd(_) => tensor(Scalar::F32, suffix, &[36, reads, writes]),
                Method::Cooperative(_) => tensor(Scalar::U32, suffix, &half_shape([9, reads, writes])),
            };
            Filter { method, weight }
        };
        let forward = filter("weight", Pass::Forward, [if split { 2 * inputs } else { inputs }, outputs]);
        let backward = filter("weight_rotated", Pass::Backward, [outputs, inputs]);
        Layer { name: conv.name.clone(), bias: tensor(Scalar::F32, "bias", &[outputs]), forward, backward, split }
    }

    /// Uploads filters and bias, channels padded with zeros; there are factors on the filters
    /// and on the bias.
    pub(super) fn upload(&self, engine: &mut dyn Engine, conv: &Conv, [scale, on_bias]: [f32; 2]) -> Result<()> {
        let (inputs, outputs) = (padded(conv.inputs), padded(conv.outputs));
        let mut weight = vec![0.0; 9 * inputs * outputs];
        for (row, values) in conv.kernel.chunks_exact(conv.outputs).enumerate() {
            let (tap, ci) = (row / conv.inputs, row % conv.inputs);
            weight[(tap * inputs + ci) * outputs..][..conv.outputs].copy_from_slice(values);
        }
        weight.iter_mut().for_each(|value| *value *= scale);
        let turned = rotated(&weight, inputs, outputs);
        if self.split {
            weight = weight.chunks_exact(inputs * outputs).flat_map(|tap| [tap, tap]).flatten().copied().collect();
        }
        let passes = [(&self.forward, weight, [inputs, outputs]), (&self.backward, turned, [outputs, inputs])];
        for (filter, plain, [reads, writes]) in passes {
            let buffer = filter.weight.buffer;
            match filter.method {
                Method::Direct(_) => engine.write(buffer, &plain)?,
                Method::Winograd(_) => engine.write(buffer, &winograd::filters(&plain, reads, writes))?,
                Method::Cooperative(_) => engine.write_words(buffer, &packed(&plain))?,
            }
        }
        let mut bias: Vec<f32> = conv.bias.iter().map(|value| on_bias * value).collect();
        bias.resize(outputs, 0.0);
        engine.write(self.bias.buffer, &bias)
    }

    /// Channels that it writes.
    pub(super) fn outputs(&self) -> usize {
        self.bias.shape[0]
    }

    /// Records it with its ReLU; returns the activation and its mask.
    pub(super) fn forward(
        &self,
        maps: &Maps,
        work: &mut Workspace,
        recording: &mut Recording,
        input: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let [height, width, _] = three(input);
        let output = maps.take(work, "feature", [height, width, self.outputs()]);
        let mask = work.take("mask", Scalar::U32, &mask_shape(height, width, self.outputs()));
        let Filter { method, weight } = &self.forward;
        match *method {
            Method::Cooperative(units) => {
                conv3x3_cooperative(recording, (&self.name, units), input, weight, &self.bias, &output, &mask)?;
            }
            Method::Direct(block) if maps.halves() => {
                conv3x3_half(recording, (&self.name, block), input, weight, &self.bias, &output, &mask)?;
            }
            Method::Direct(block) => {
                conv3x3(recording, (&self.name, block), input, weight, &self.bias, &output, &mask)?;
            }
            Method::Winograd(block) => self.transformed(work, [height, width], weight, |label, scratch| {
                let filter = (weight, &self.bias);
                winograd::convolve(recording, (label, block), input, filter, (&output, &mask), scratch)
            })?,
        }
        Ok((output, mask))
    }

    /// Records its gradient with respect to its input, which it returns.
    pub(super) fn backward(
        &self,
        maps: &Maps,
        work: &mut Workspace,
        recording: &mut Recording,
        d_output: &Tensor,
        mask: &Tensor,
    ) -> Result<Tensor> {
        let [height, width, _] = three(d_output);
        let Filter { method, weight } = &self.backward;
        let [_, _, last] = three(weight);
        let inputs = if weight.scalar == Scalar::U32 { 2 * last } else { last };
        let d_input = maps.take(work, "d_feature", [height, width, inputs]);
        match *method {
            Method::Cooperative(units) => {
                conv3x3_cooperative_backward(recording, (&self.name, units), d_output, mask, weight, &d_input)?;
            }
            Method::Direct(block) if maps.halves() => {
                conv3x3_half_backward(recording, (&self.name, block), d_output, mask, weight, &d_input)?;
            }
            Method::Direct(block) => {
                conv3x3_backward(recording, (&self.name, block), d_output, mask, weight, &d_input)?;
            }
            Method::Winograd(block) => self.transformed(work, [height, width], weight, |label, scratch| {
                winograd::convolve_backward(recording, (label, block), (d_output, mask), weight, &d_input, scratch)
            })?,
        }
        Ok(d_input)
    }

    /// Lends the memory that Winograd's transforms need beside a map of `size`.
    fn transformed(
        &self,
        work: &mut Workspace,
        [height, width]: [usize; 2],
        weight: &Tensor,
        record: impl FnOnce(&str, [&Tensor; 2]) -> Result<()>,
    ) -> Result<()> {
        let [_, reads, writes] = three(weight);
        let shapes = winograd::scratch(height, width, reads, writes);
        let [tiles, product] = shapes.map(|shape| work.take("winograd", Scalar::F32, &shape));
        let result = record(&self.name, [&tiles, &product]);
        work.give(tiles);
        work.give(product);
        result
    }
}
