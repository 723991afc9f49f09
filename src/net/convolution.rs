//! One convolution of the network: its filters as buffers, and the method by which each pass computes it.

use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::plan::{Workspace, three};
use crate::net::vgg19::Tap;
use crate::ops::conv3x3::{conv3x3, conv3x3_backward, mask_shape, rotated};
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
}

impl Layer {
    /// Declares the buffers of the `index`-th convolution in a network for a picture of `size`.
    pub(super) fn declare(
        work: &mut Workspace,
        conv: &Conv,
        index: usize,
        (choices, size): (&Choices, [usize; 2]),
    ) -> Layer {
        let (inputs, outputs) = (padded(conv.inputs), padded(conv.outputs));
        let level = Tap::from_conv(index).level();
        let positions = size.map(|side| side.div_ceil(1 << level)).iter().product();
        let mut tensor = |suffix: &str, shape: &[usize]| {
            work.table.tensor(format!("{}.{suffix}", conv.name), Scalar::F32, shape, Purpose::Weights)
        };
        let mut filter = |suffix, pass, [reads, writes]: [usize; 2]| {
            let method = choices.method(Geometry { pass, reads, writes, positions });
            let weight = match method {
                Method::Direct(_) => tensor(suffix, &[9, reads, writes]),
                Method::Winograd(_) => tensor(suffix, &[36, reads, writes]),
            };
            Filter { method, weight }
        };
        let forward = filter("weight", Pass::Forward, [inputs, outputs]);
        let backward = filter("weight_rotated", Pass::Backward, [outputs, inputs]);
        Layer { name: conv.name.clone(), bias: tensor("bias", &[outputs]), forward, backward }
    }

    /// Uploads filters and bias, channels padded with zeros; `scale` is a factor on the filters.
    pub(super) fn upload(&self, engine: &mut dyn Engine, conv: &Conv, scale: f32) -> Result<()> {
        let (inputs, outputs) = (padded(conv.inputs), padded(conv.outputs));
        let mut weight = vec![0.0; 9 * inputs * outputs];
        for (row, values) in conv.kernel.chunks_exact(conv.outputs).enumerate() {
            let (tap, ci) = (row / conv.inputs, row % conv.inputs);
            weight[(tap * inputs + ci) * outputs..][..conv.outputs].copy_from_slice(values);
        }
        weight.iter_mut().for_each(|value| *value *= scale);
        let turned = rotated(&weight, inputs, outputs);
        let passes = [(&self.forward, weight, [inputs, outputs]), (&self.backward, turned, [outputs, inputs])];
        for (filter, plain, [reads, writes]) in passes {
            let buffer = filter.weight.buffer;
            match filter.method {
                Method::Direct(_) => engine.write(buffer, &plain)?,
                Method::Winograd(_) => engine.write(buffer, &winograd::filters(&plain, reads, writes))?,
            }
        }
        let mut bias = conv.bias.clone();
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
        work: &mut Workspace,
        recording: &mut Recording,
        input: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let [height, width, _] = three(input);
        let output = work.take("feature", Scalar::F32, &[height, width, self.outputs()]);
        let mask = work.take("mask", Scalar::U32, &mask_shape(height, width, self.outputs()));
        let Filter { method, weight } = &self.forward;
        match *method {
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
        work: &mut Workspace,
        recording: &mut Recording,
        d_output: &Tensor,
        mask: &Tensor,
    ) -> Result<Tensor> {
        let [height, width, _] = three(d_output);
        let Filter { method, weight } = &self.backward;
        let [_, _, inputs] = three(weight);
        let d_input = work.take("d_feature", Scalar::F32, &[height, width, inputs]);
        match *method {
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
