//! The built-in network, so that the program works without a download: VGG-19's layer table, its convolutions down to
//! conv3_4 learnt by this project from textures that it draws from rules (`assets/network`), in half precision.
//!
//! The layers below have seeded random filters, which make usable textures when every channel's pre-activation is centred
//! and scaled (Ustyuzhaninov et al. 2016, "Texture Synthesis Using Shallow Convolutional Networks with Random Filters";
//! He, Wang and Hopcroft 2016, "A Powerful Generative Model Using Random Weights for the Deep Image Representation").
//!
//! The bits are the same on every platform: integer random numbers, sums in a fixed order, no library functions.

use rayon::prelude::*;

use super::{Conv, OXFORD_MEAN, OXFORD_UNIT, VGG19, Weights, safetensors};

/// Made by `assets/network`.
const LEARNT: &[u8] = include_bytes!("../../assets/builtin.safetensors");

const SEED: u64 = 0x1a9a_570e;
/// Side of the picture on which the channels are measured; relu5 still has 36 positions.
const SIDE: usize = 96;
/// Standard deviation of the pre-activations, chosen so that activations are about as large as the trained network's
/// (root mean square of relu1_2 … relu3_2 of a photo: 175 … 282) and the weights of losses carry over.
const DEVIATION: f32 = 4.0 * OXFORD_UNIT;

/// SplitMix64: the `counter`-th number of a stream. Steele, Lea and Flood 2014.
pub(crate) fn split_mix(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Nearly normal with mean 0 and variance 1: twelve 16-bit uniforms added up, exact in f32.
fn normal(seed: u64, counter: u64) -> f32 {
    let sum: u64 = (0..3)
        .map(|i| split_mix(seed, counter * 3 + i))
        .map(|word| (0..4).map(|part| word >> (16 * part) & 0xffff).sum::<u64>())
        .sum();
    (sum as f32 - 12.0 * 32767.5) / 65536.0
}

/// The first `depth` convolutions (clamped to 1..=16) of the built-in network.
pub fn builtin(depth: usize) -> Weights {
    let depth = depth.clamp(1, VGG19.len());
    let learnt = safetensors::read(&LEARNT, LEARNT.len() as u64, depth).map(|prefix| prefix.weights.convs);
    let mut convs = learnt.unwrap_or_default();
    let known = convs.len();
    if known < depth {
        grow(&mut convs, depth);
    }
    let source = match known {
        known if known >= depth => "learnt from drawn textures".into(),
        0 => "random filters".into(),
        known => format!("learnt from drawn textures down to {}, random filters below", VGG19[known - 1].0),
    };
    weights(convs, &source)
}

/// The same layers with random filters all through. A poorer network, but a better conditioned one: the learnt one's
/// activations are large beside their differences. Engines are tested with it.
pub fn random(depth: usize) -> Weights {
    let mut convs = Vec::new();
    grow(&mut convs, depth.clamp(1, VGG19.len()));
    weights(convs, "random filters")
}

fn weights(convs: Vec<Conv>, source: &str) -> Weights {
    Weights {
        convs,
        mean: OXFORD_MEAN,
        activation_unit: OXFORD_UNIT,
        source: format!("built-in network (VGG-19's layers, {source})"),
    }
}

/// Adds layers of random filters up to `depth`.
fn grow(convs: &mut Vec<Conv>, depth: usize) {
    let mut map = calibration_picture();
    let mut side = SIDE;
    for (layer, &(name, inputs, outputs)) in VGG19.iter().take(depth).enumerate() {
        if name.ends_with("_1") && layer > 0 {
            map = pool(&map, side, inputs);
            side = side.div_ceil(2);
        }
        if let Some(conv) = convs.get(layer) {
            map = convolve(&map, side, inputs, outputs, &conv.kernel);
            for values in map.chunks_exact_mut(outputs) {
                values.iter_mut().zip(&conv.bias).for_each(|(value, bias)| *value = (*value + bias).max(0.0));
            }
            continue;
        }
        let scale = (2.0 / (9 * inputs) as f32).sqrt();
        let seed = SEED + layer as u64;
        let mut kernel: Vec<f32> = (0..9 * inputs * outputs).map(|at| scale * normal(seed, at as u64)).collect();
        let mut output = convolve(&map, side, inputs, outputs, &kernel);
        let mut bias = vec![0.0; outputs];
        for (channel, bias) in bias.iter_mut().enumerate() {
            let (mean, deviation) = moments(&output, outputs, channel);
            let gain = DEVIATION / deviation.max(1e-6);
            kernel.iter_mut().skip(channel).step_by(outputs).for_each(|value| *value *= gain);
            *bias = -mean * gain;
            for value in output.iter_mut().skip(channel).step_by(outputs) {
                *value = (*value * gain + *bias).max(0.0);
            }
        }
        convs.push(Conv { name: name.into(), inputs, outputs, kernel, bias });
        map = output;
    }
}

/// Smooth noise over seven octaves of equal strength, mostly grey: about the spectrum of a photo. `[SIDE, SIDE, 3]`.
fn calibration_picture() -> Vec<f32> {
    let mut picture = vec![0.0; SIDE * SIDE * 3];
    for octave in 0..7 {
        let cell = 1 << octave;
        let columns = SIDE / cell + 2;
        let lattice = |y: usize, x: usize, channel: u64| {
            normal(SEED + 100 + octave as u64, ((y * columns + x) * 4) as u64 + channel)
        };
        for (pixel, rgb) in picture.chunks_exact_mut(3).enumerate() {
            let (y, x) = (pixel / SIDE, pixel % SIDE);
            let (fy, fx) = ((y % cell) as f32 / cell as f32, (x % cell) as f32 / cell as f32);
            let smooth = |channel: u64| {
                let at = |dy, dx| lattice(y / cell + dy, x / cell + dx, channel);
                let top = at(0, 0) * (1.0 - fx) + at(0, 1) * fx;
                let bottom = at(1, 0) * (1.0 - fx) + at(1, 1) * fx;
                top * (1.0 - fy) + bottom * fy
            };
            let grey = smooth(3);
            for (channel, value) in rgb.iter_mut().enumerate() {
                *value += 30.0 * (grey + 0.4 * smooth(channel as u64));
            }
        }
    }
    picture
}

/// Plain multiply-adds in a fixed order; Rust never fuses them, so every platform rounds alike.
fn convolve(input: &[f32], side: usize, inputs: usize, outputs: usize, kernel: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; side * side * outputs];
    output.par_chunks_mut(outputs).enumerate().for_each(|(pixel, output)| {
        let (y, x) = (pixel / side, pixel % side);
        for tap in 0..9 {
            let (y, x) = (y + tap / 3, x + tap % 3);
            if y == 0 || y > side || x == 0 || x > side {
                continue;
            }
            for (ci, value) in input[((y - 1) * side + x - 1) * inputs..][..inputs].iter().enumerate() {
                for (sum, weight) in output.iter_mut().zip(&kernel[(tap * inputs + ci) * outputs..]) {
                    *sum += value * weight;
                }
            }
        }
    });
    output
}

/// Mean and standard deviation of a channel.
fn moments(map: &[f32], channels: usize, channel: usize) -> (f32, f32) {
    let count = (map.len() / channels) as f64;
    let values = || map.iter().skip(channel).step_by(channels).map(|value| f64::from(*value));
    let mean = values().sum::<f64>() / count;
    let variance = values().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
    (mean as f32, variance.sqrt() as f32)
}

fn pool(map: &[f32], side: usize, channels: usize) -> Vec<f32> {
    let out = side.div_ceil(2);
    let mut pooled = vec![0.0; out * out * channels];
    for (at, value) in pooled.iter_mut().enumerate() {
        let (y, x, channel) = (at / channels / out, at / channels % out, at % channels);
        *value = (0..4)
            .map(|k| (2 * y + k / 2, 2 * x + k % 2))
            .filter(|(y, x)| *y < side && *x < side)
            .map(|(y, x)| map[(y * side + x) * channels + channel])
            .fold(0.0, f32::max);
    }
    pooled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(convs: &[Conv]) -> u64 {
        let values = convs.iter().flat_map(|conv| conv.kernel.iter().chain(&conv.bias));
        values.fold(0, |hash, value| split_mix(hash ^ u64::from(value.to_bits()), 0))
    }

    #[test]
    fn the_network_is_the_same_everywhere() {
        const CHANGED: &str = "the built-in network changed: pictures made with it will, too";
        let learnt = builtin(8);
        assert_eq!(learnt.source, "built-in network (VGG-19's layers, learnt from drawn textures)");
        assert_eq!(digest(&learnt.convs), 16590419368908923498, "{CHANGED}");
        let random = random(3).convs;
        assert_eq!(digest(&random), 3402842493436820267, "{CHANGED}");
        let names = VGG19.map(|(name, inputs, outputs)| (name.to_owned(), inputs, outputs));
        let found = |convs: &[Conv]| {
            convs.iter().map(|conv| (conv.name.clone(), conv.inputs, conv.outputs)).collect::<Vec<_>>()
        };
        assert_eq!(found(&learnt.convs), names[..8]);
        assert_eq!(found(&random), names[..3]);
    }

    #[test]
    fn random_layers_go_on_below_the_learnt_ones() {
        let weights = builtin(9);
        assert_eq!(weights.convs[..8], builtin(8).convs);
        assert!(weights.source.ends_with("learnt from drawn textures down to conv3_4, random filters below)"));
    }
}
