//! Every activation down to pool3 and the Gram matrices against an independent float64 implementation
//! (`../shared/golden/features.json`), in both orientations of the kernels.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{gpu, shared};
use impasto::cpu::{Cpu, CpuOracle};
use impasto::kernel::Scalar;
use impasto::ops::conv3x3::{conv3x3, mask_shape};
use impasto::ops::gram::{gram, gram_reduce, splits};
use impasto::ops::pool::{pool_max, winner_shape};
use impasto::ops::{Rect, padded};
use impasto::picture::Picture;
use impasto::recording::{Backend, Block, BufferTable, Engine, Purpose, Recording, Tensor};
use impasto::weights::{Conv, Weights, load};
use serde_json::Value;

/// Convolutions down to relu3_4.
const DEPTH: usize = 8;

/// How closely an engine must agree.
#[derive(Clone, Copy)]
struct Bars {
    /// Every figure, see [`Comparison::figure`].
    figure: f64,
    /// Difference in the number of zeros, as a share of the activation's elements.
    zeros: f64,
}

/// Direct convolution in single precision. Rounding puts a sum that is almost 0 on the other side of the ReLU.
const SINGLE: Bars = Bars { figure: 1e-5, zeros: 1e-5 };
/// The same with Winograd's transforms, which the CPU engine uses in single precision.
const WINOGRAD: Bars = Bars { figure: 1e-4, zeros: 1e-5 };
/// In double precision only the reading of results as f32 rounds. Not one zero more or less.
const DOUBLE: Bars = Bars { figure: 1e-6, zeros: 0.0 };

/// One picture through one set of weights.
struct Case {
    name: &'static str,
    picture: &'static str,
    mean: [f32; 3],
    transposed: bool,
}

const ARTICLE: Case = Case {
    name: "article_orientation_westlake_224_minus_128",
    picture: "westlake_224.png",
    mean: [128.0; 3],
    transposed: true,
};
const TRUE: Case = Case {
    name: "true_orientation_tubingen_149x101_minus_vgg_mean",
    picture: "tubingen_149x101.png",
    mean: [123.68, 116.779, 103.939],
    transposed: false,
};

/// A chain of layers, each with an output of its own.
struct Chain {
    table: BufferTable,
    recording: Recording,
    /// What to write before the run.
    uploads: Vec<(Tensor, Vec<f32>)>,
    /// Activations by name, in order.
    layers: Vec<(String, Tensor)>,
    /// Sums of products of the activations' channels.
    grams: BTreeMap<String, Tensor>,
}

impl Chain {
    fn tensor(&mut self, name: &str, scalar: Scalar, shape: &[usize]) -> Tensor {
        self.table.tensor(name, scalar, shape, Purpose::Tile)
    }

    fn upload(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Tensor {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
        let tensor = self.tensor(name, Scalar::F32, shape);
        self.uploads.push((tensor.clone(), values));
        tensor
    }

    /// Convolution and ReLU; input channels are padded, in the activation as in the weight.
    fn convolve(&mut self, input: &Tensor, conv: &Conv) -> Tensor {
        let [height, width, inputs] = input.shape[..] else { panic!("not a map: {:?}", input.shape) };
        let mut weight = vec![0.0; 9 * inputs * conv.outputs];
        for (row, values) in conv.kernel.chunks_exact(conv.outputs).enumerate() {
            let (tap, ci) = (row / conv.inputs, row % conv.inputs);
            weight[(tap * inputs + ci) * conv.outputs..][..conv.outputs].copy_from_slice(values);
        }
        let weight = self.upload("weight", &[9, inputs, conv.outputs], weight);
        let bias = self.upload("bias", &[conv.outputs], conv.bias.clone());
        let output = self.tensor(&conv.name, Scalar::F32, &[height, width, conv.outputs]);
        let mask = self.tensor("mask", Scalar::U32, &mask_shape(height, width, conv.outputs));
        let block = Block::usual(inputs, conv.outputs);
        conv3x3(&mut self.recording, (&conv.name, block), input, &weight, &bias, &output, &mask).unwrap();
        self.layers.push((conv.name.replace("conv", "relu"), output.clone()));
        output
    }

    fn pool(&mut self, input: &Tensor, name: &str) -> Tensor {
        let [height, width, channels] = input.shape[..] else { panic!("not a map: {:?}", input.shape) };
        let output = self.tensor(name, Scalar::F32, &[height.div_ceil(2), width.div_ceil(2), channels]);
        let winner = self.tensor("winner", Scalar::U32, &winner_shape(height, width, channels));
        pool_max(&mut self.recording, name, input, &output, &winner).unwrap();
        self.layers.push((name.into(), output.clone()));
        output
    }

    fn gram(&mut self, name: &str, feature: &Tensor) {
        let [height, width, channels] = feature.shape[..] else { panic!("not a map: {:?}", feature.shape) };
        let splits = splits(height * width, channels);
        let partial = self.tensor("partial", Scalar::F32, &[splits, channels, channels]);
        let sum = self.tensor("gram", Scalar::F32, &[channels, channels]);
        gram(&mut self.recording, name, feature, Rect::whole(height, width), &partial).unwrap();
        gram_reduce(&mut self.recording, name, &partial, 1.0 / feature.len() as f32, &sum).unwrap();
        self.grams.insert(name.into(), sum);
    }

    /// The network over a picture, with the Gram matrices that the reference has.
    fn new(picture: &Picture, mean: [f32; 3], weights: &Weights, reference: &Value) -> Chain {
        let mut chain = Chain {
            table: BufferTable::default(),
            recording: Recording::new("features"),
            uploads: Vec::new(),
            layers: Vec::new(),
            grams: BTreeMap::new(),
        };
        let channels = padded(3);
        let pixels = picture.rgb.chunks_exact(3).flat_map(|rgb| {
            let mut pixel = vec![0.0; channels];
            pixel.iter_mut().zip(rgb).zip(mean).for_each(|((to, from), mean)| *to = from - mean);
            pixel
        });
        let mut map = chain.upload("input", &[picture.height, picture.width, channels], pixels.collect());
        for (i, conv) in weights.convs.iter().enumerate() {
            map = chain.convolve(&map, conv);
            // conv1_2, conv2_2 and conv3_4 end their blocks.
            if let Some(block) = [1, 3, 7].iter().position(|last| *last == i) {
                map = chain.pool(&map, &format!("pool{}", block + 1));
            }
        }
        for (name, layer) in chain.layers.clone() {
            if reference[&name].get("gram_over_hwc_samples").is_some() {
                chain.gram(&name, &layer);
            }
        }
        chain
    }

    fn run(&self, backend: &dyn Backend) -> Box<dyn Engine> {
        let mut engine = backend.engine().unwrap();
        engine.allocate(&self.table).unwrap();
        for (tensor, values) in &self.uploads {
            engine.write(tensor.buffer, values).unwrap();
        }
        let program = engine.prepare(&self.recording).unwrap();
        engine.run(program, 1).unwrap();
        engine
    }
}

/// Collects every disagreement, so that one run shows where they begin.
struct Comparison {
    bars: Bars,
    worst: BTreeMap<&'static str, (f64, String)>,
    faults: Vec<String>,
}

impl Comparison {
    /// |a - b| / max(|b|, scale)
    fn figure(&mut self, kind: &'static str, layer: &str, found: f64, expected: f64, scale: f64) {
        self.note(kind, layer, (found - expected).abs() / expected.abs().max(scale), self.bars.figure);
    }

    fn note(&mut self, kind: &'static str, layer: &str, error: f64, bar: f64) {
        let worst = self.worst.entry(kind).or_insert((0.0, layer.into()));
        if error > worst.0 {
            *worst = (error, layer.into());
        }
        // NaN is a fault too.
        if error.is_nan() || error > bar {
            self.faults.push(format!("{kind} of {layer} differs by {error:.2e}, more than {bar:.0e}"));
        }
    }

    fn activation(&mut self, layer: &str, found: &[f32], width: usize, channels: usize, expected: &Value) {
        let wide = || found.iter().map(|value| f64::from(*value));
        for (kind, value) in [
            ("sum", wide().sum()),
            ("sum_of_squares", wide().map(|value| value * value).sum()),
            ("max", wide().fold(f64::NEG_INFINITY, f64::max)),
        ] {
            self.figure(kind, layer, value, expected[kind].as_f64().unwrap(), 0.0);
        }
        let zeros = found.iter().filter(|value| **value == 0.0).count() as f64;
        let share = (zeros - expected["zeros"].as_f64().unwrap()).abs() / found.len() as f64;
        self.note("zeros", layer, share, self.bars.zeros);
        let samples = expected["samples"].as_array().unwrap();
        // A value near 0 is a sum of products that are not: it rounds as they do. (Relative to max(|value|, 1e-3 of the
        // largest value) one sample differs by 8.5e-6, and another order of summation would be past the bar.)
        let scale = (expected["sum_of_squares"].as_f64().unwrap() / found.len() as f64).sqrt();
        assert!(samples.len() >= 6, "{layer}: {} samples", samples.len());
        for sample in samples {
            let [y, x, c] = [0, 1, 2].map(|i| sample[i].as_u64().unwrap() as usize);
            let value = f64::from(found[(y * width + x) * channels + c]);
            self.figure("sample", layer, value, sample[3].as_f64().unwrap(), scale);
        }
    }

    fn gram(&mut self, layer: &str, found: &[f32], channels: usize, expected: &Value) {
        let norm = found.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        self.figure("gram norm", layer, norm, expected["gram_over_hwc_frobenius"].as_f64().unwrap(), 0.0);
        for sample in expected["gram_over_hwc_samples"].as_array().unwrap() {
            let [i, j] = [0, 1].map(|k| sample[k].as_u64().unwrap() as usize);
            for at in [i * channels + j, j * channels + i] {
                self.figure("gram sample", layer, found[at].into(), sample[2].as_f64().unwrap(), 0.0);
            }
        }
    }
}

fn compare(backend: &dyn Backend, shared: &Path, case: &Case, bars: Bars) {
    let golden = std::fs::read_to_string(shared.join("golden/features.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let reference = &golden[case.name];
    let mut weights = load(&shared.join("vgg19/imagenet-vgg-verydeep-19.beta16.PARTIAL.mat"), DEPTH).unwrap();
    if case.transposed {
        weights = weights.transposed();
    }
    let picture = Picture::decode(&shared.join("golden").join(case.picture)).unwrap();
    let chain = Chain::new(&picture, case.mean, &weights, reference);
    assert_eq!(chain.layers.len(), reference.as_object().expect("the case").len(), "layers of the reference");
    assert_eq!(chain.grams.len(), 3, "Gram matrices of the reference");

    let mut engine = chain.run(backend);
    let mut comparison = Comparison { bars, worst: BTreeMap::new(), faults: Vec::new() };
    for (name, layer) in &chain.layers {
        let expected = &reference[name];
        assert_eq!(serde_json::json!(layer.shape), expected["shape_hwc"], "shape of {name}");
        let found = engine.read(layer.buffer).unwrap();
        comparison.activation(name, &found, layer.shape[1], layer.shape[2], expected);
        if let Some(gram) = chain.grams.get(name) {
            comparison.gram(name, &engine.read(gram.buffer).unwrap(), layer.shape[2], expected);
        }
    }
    println!("{} on {}:", case.name, engine.describe());
    for (kind, (error, layer)) in &comparison.worst {
        println!("  {kind:14} {error:.1e} ({layer})");
    }
    assert!(comparison.faults.is_empty(), "{}:\n{}", case.name, comparison.faults.join("\n"));
}

fn on_gpu(test: &str, case: &Case) {
    if let (Some(shared), Some(gpu)) = (shared(test), gpu(test)) {
        compare(&gpu, &shared, case, SINGLE);
    }
}

#[test]
fn the_articles_orientation_on_the_cpu_engine() {
    let Some(shared) = shared("features, article's orientation, CPU engine") else { return };
    compare(&Cpu, &shared, &ARTICLE, WINOGRAD);
}

#[test]
fn the_true_orientation_on_the_cpu_engine() {
    let Some(shared) = shared("features, true orientation, CPU engine") else { return };
    compare(&Cpu, &shared, &TRUE, WINOGRAD);
}

#[test]
fn the_articles_orientation_on_a_gpu() {
    on_gpu("features, article's orientation", &ARTICLE);
}

#[test]
fn the_true_orientation_on_a_gpu() {
    on_gpu("features, true orientation", &TRUE);
}

/// On the odd size, which is also the smaller.
#[test]
fn the_true_orientation_in_double_precision() {
    let Some(shared) = shared("features, true orientation, double precision") else { return };
    compare(&CpuOracle, &shared, &TRUE, DOUBLE);
}
