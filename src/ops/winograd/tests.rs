//! Each kernel against its twin; all of them together against the direct convolution.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::conv3x3::{conv3x3, conv3x3_backward, mask_shape, rotated};
use super::super::testing::{Bench, CHANNELS, Case, ELEMENTWISE, MAPS, PRODUCTS, gpu, maps, noise, random_word};
use super::*;
use crate::cpu::CpuEngine;
use crate::kernel::Scalar;
use crate::recording::{BufferTable, Engine, Purpose};

/// The tiles of a map in one or two bands: the first tile of each, and how many.
fn halves(height: usize, width: usize) -> Vec<(usize, usize)> {
    let total = tiles_of(height, width);
    let half = total.div_ceil(2);
    [(0, half), (half, total - half)].into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Every map with every number of channels, the grid folded now and then.
fn each(kernel: &'static Kernel, mut record: impl FnMut(&mut Case, [usize; 3])) {
    let mut bench = Bench::new(kernel, ELEMENTWISE);
    for (i, shape) in maps().enumerate() {
        let mut case = Case::new(format!("{shape:?}{}", if i % 5 == 4 { ", folded grid" } else { "" }));
        record(&mut case, shape);
        if i % 5 == 4 {
            case.fold();
        }
        bench.run(&case);
    }
    bench.finish();
}

#[test]
fn winograd_input_agrees_with_its_twin_in_bands() {
    each(&WINOGRAD_INPUT, |case, shape @ [height, width, channels]| {
        let input = case.random(&shape);
        for band in halves(height, width) {
            let tiles = case.output(&[POSITIONS, band.1, channels]);
            winograd_input(&mut case.recording, "test", &input, band.0, &tiles).unwrap();
        }
    });
}

#[test]
fn winograd_d_output_agrees_with_its_twin_under_any_mask() {
    each(&WINOGRAD_D_OUTPUT, |case, shape @ [height, width, channels]| {
        let d_output = case.random(&shape);
        let mask = case.random_words(&mask_shape(height, width, channels));
        for band in halves(height, width) {
            let tiles = case.output(&[POSITIONS, band.1, channels]);
            winograd_d_output(&mut case.recording, "test", (&d_output, &mask), band.0, &tiles).unwrap();
        }
    });
}

#[test]
fn winograd_d_input_agrees_with_its_twin_in_bands() {
    each(&WINOGRAD_D_INPUT, |case, shape @ [height, width, channels]| {
        let products: Vec<_> =
            halves(height, width).into_iter().map(|band| (band, case.random(&[POSITIONS, band.1, channels]))).collect();
        let d_input = case.output(&shape);
        for (band, product) in products {
            winograd_d_input(&mut case.recording, "test", (&product, band.0), &d_input).unwrap();
        }
    });
}

#[test]
fn winograd_output_agrees_with_its_twin_and_its_mask_with_its_output() {
    let mut bench = Bench::new(&WINOGRAD_OUTPUT, ELEMENTWISE);
    for shape @ [height, width, channels] in maps() {
        let mut case = Case::new(format!("{shape:?}"));
        let products: Vec<_> =
            halves(height, width).into_iter().map(|band| (band, case.random(&[POSITIONS, band.1, channels]))).collect();
        let bias = case.random(&[channels]);
        let output = case.output(&shape);
        let mask = case.output_mask(&mask_shape(height, width, channels));
        for (band, product) in products {
            winograd_output(&mut case.recording, "test", (&product, band.0), &bias, (&output, &mask)).unwrap();
        }
        bench.run_and(&case, |ran| {
            let [_, across, quads] = mask_shape(height, width, channels);
            let (output, words) = (ran.floats(&output), ran.words(&mask));
            for y in 0..height.next_multiple_of(2) {
                for x in 0..width.next_multiple_of(4) {
                    for c in 0..channels {
                        let inside = y < height && x < width;
                        let positive = inside && output[(y * width + x) * channels + c] > 0.0;
                        let word = words[(y / 2 * across + x / 4) * quads + c / 4];
                        let bit = word >> ((y % 2 * 4 + x % 4) * 4 + c % 4) & 1 == 1;
                        assert_eq!(bit, positive, "{}: mask at {y}, {x}, {c}", ran.name);
                    }
                }
            }
        });
    }
    bench.finish();
}

#[test]
fn winograd_product_agrees_with_its_twin_in_every_block() {
    let mut bench = Bench::new(&WINOGRAD_PRODUCT, PRODUCTS);
    let sizes = [1, 2, 5, 7, 8, 63, 64, 65, 129];
    for (i, count) in sizes.into_iter().cycle().take(54).enumerate() {
        // Every pair of a block and a number of tiles, and different channels.
        let block = Block::ALL[i / sizes.len()];
        let (inputs, outputs) = (CHANNELS[i % 4], CHANNELS[(i / 2 + 1) % 5]);
        let mut case = Case::new(format!("{count} tiles, {inputs} to {outputs}, {block}"));
        let tiles = case.random(&[POSITIONS, count, inputs]);
        let weight = case.random(&[POSITIONS, inputs, outputs]);
        let product = case.output(&[POSITIONS, count, outputs]);
        winograd_product(&mut case.recording, ("test", block), &tiles, &weight, &product).unwrap();
        bench.run(&case);
    }
    bench.finish();
}

/// Both passes by Winograd's transforms, in bands of `band` tiles, and directly.
fn both_ways([height, width, inputs, outputs]: [usize; 4], band: usize, engine: &mut dyn Engine) -> [Vec<f32>; 4] {
    let mut table = BufferTable::default();
    let mut tensor = |shape: &[usize]| table.tensor("test", Scalar::F32, shape, Purpose::Tile);
    let (there, back) = ([height, width, outputs], [height, width, inputs]);
    let (input, d_output, bias) = (tensor(&back), tensor(&there), tensor(&[outputs]));
    let plain = [tensor(&[9, inputs, outputs]), tensor(&[9, outputs, inputs])];
    let made = [tensor(&[POSITIONS, inputs, outputs]), tensor(&[POSITIONS, outputs, inputs])];
    let [output, direct] = [(); 2].map(|()| tensor(&there));
    let [d_input, d_direct] = [(); 2].map(|()| tensor(&back));
    let widest = inputs.max(outputs);
    let memory = [(); 2].map(|()| tensor(&[POSITIONS, band, widest]));
    let scratch = [&memory[0], &memory[1]];
    let [mask, unused] =
        [(); 2].map(|()| table.tensor("mask", Scalar::U32, &mask_shape(height, width, outputs), Purpose::Tile));
    let mut recording = Recording::new("test");
    let block = ("test", Block::SQUARE);
    convolve(&mut recording, block, &input, (&made[0], &bias), (&output, &unused), scratch).unwrap();
    convolve_backward(&mut recording, block, (&d_output, &mask), &made[1], &d_input, scratch).unwrap();
    conv3x3(&mut recording, block, &input, &plain[0], &bias, &direct, &unused).unwrap();
    conv3x3_backward(&mut recording, block, &d_output, &mask, &plain[1], &d_direct).unwrap();
    engine.allocate(&table).unwrap();
    let weight = noise(1, 9 * inputs * outputs);
    let turned = rotated(&weight, inputs, outputs);
    for (seed, tensor) in (2..).zip([&input, &d_output, &bias]) {
        engine.write(tensor.buffer, &noise(seed, tensor.len())).unwrap();
    }
    for (plain, made, values, [reads, writes]) in
        [(&plain[0], &made[0], &weight, [inputs, outputs]), (&plain[1], &made[1], &turned, [outputs, inputs])]
    {
        engine.write(plain.buffer, values).unwrap();
        engine.write(made.buffer, &filters(values, reads, writes)).unwrap();
    }
    let words: Vec<u32> = (0..mask.len() as u64).map(|at| random_word(9, at)).collect();
    engine.write_words(mask.buffer, &words).unwrap();
    let program = engine.prepare(&recording).unwrap();
    engine.run(program, 1).unwrap();
    [output, direct, d_input, d_direct].map(|tensor| engine.read(tensor.buffer).unwrap())
}

fn nmse(a: &[f32], b: &[f32]) -> f64 {
    let energy: f64 = b.iter().map(|b| f64::from(*b).powi(2)).sum();
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / energy
}

#[test]
fn both_passes_are_the_direct_convolution_there_and_back() {
    let gpu = gpu("winograd");
    let mut worst = 0.0_f64;
    for (i, (height, width)) in MAPS.into_iter().chain([(21, 18)]).enumerate() {
        let (inputs, outputs) = [(64, 68), (4, 20), (128, 64)][i % 3];
        let shape = [height, width, inputs, outputs];
        // The oracle proves the transforms: in double precision there is no rounding to hide behind, but for the filters',
        // which are single, and the results read.
        let [output, direct, d_input, d_direct] =
            both_ways(shape, tiles_of(height, width).min(3), &mut CpuEngine::<f64>::new());
        let errors = [nmse(&output, &direct), nmse(&d_input, &d_direct)];
        assert!(errors.iter().all(|error| *error <= 1e-13), "{shape:?}: {errors:?}");
        let engines = [Some(Box::new(CpuEngine::<f32>::new()) as Box<dyn Engine>), gpu.as_ref().map(engine)];
        for mut engine in engines.into_iter().flatten() {
            let [one, _, d_one, _] = both_ways(shape, tiles_of(height, width).min(2), engine.as_mut());
            let [all, _, d_all, _] = both_ways(shape, tiles_of(height, width), engine.as_mut());
            assert!(one == all && d_one == d_all, "{shape:?}: bands change the bits");
            let errors = [nmse(&all, &direct), nmse(&d_all, &d_direct)];
            worst = errors.into_iter().fold(worst, f64::max);
            assert!(errors.iter().all(|error| *error <= 1e-9), "{shape:?} on {}: {errors:?}", engine.describe());
        }
    }
    println!("winograd against direct: worst NMSE {worst:.1e}");
}

fn engine(gpu: &crate::gpu::Gpu) -> Box<dyn Engine> {
    use crate::recording::Backend;
    gpu.engine().unwrap()
}

#[test]
fn tiles_that_a_map_does_not_have_are_refused() {
    let mut table = BufferTable::default();
    let mut tensor = |shape: &[usize]| table.tensor("test", Scalar::F32, shape, Purpose::Tile);
    let (input, tiles) = (tensor(&[9, 5, 8]), tensor(&[POSITIONS, 4, 8]));
    let mut recording = Recording::new("test");
    winograd_input(&mut recording, "test", &input, 2, &tiles).unwrap();
    let error = winograd_input(&mut recording, "test", &input, 3, &tiles).unwrap_err();
    assert!(matches!(&error, Error::Shape { binding, .. } if binding == "tiles"), "{error}");
}

#[test]
fn bands_cover_the_map_and_fit_the_scratch_memory() {
    for (height, width, reads, writes) in
        [(1, 1, 64, 64), (224, 224, 64, 64), (1024, 1024, 64, 128), (2896, 2896, 64, 64), (37, 50, 512, 512)]
    {
        let total = tiles_of(height, width);
        let [[_, count, _], _] = scratch(height, width, reads, writes);
        assert!((1..=total).contains(&count), "{count} of {total}");
        assert!(4 * POSITIONS * count * (reads + writes) <= SCRATCH, "{height}x{width}: {count} tiles");
        // No scraps: the last band is no smaller than half of the others, but for the rounding to whole blocks.
        let bands = total.div_ceil(count);
        assert!(bands * count < total + count.max(bands * STEP), "{height}x{width}: {bands} bands of {count}");
    }
}
