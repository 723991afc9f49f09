//! Against the definition, in bands.

use super::*;

fn noise(seed: u64, count: usize) -> Vec<f32> {
    let word =
        |at: u64| (at * 2 + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(seed | 1) >> 40;
    (0..count as u64).map(|at| word(at) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// By definition, in double precision.
fn direct(input: &[f32], weight: &[f32], [height, width, inputs, outputs]: [usize; 4]) -> Vec<f64> {
    let mut output = vec![0.0; height * width * outputs];
    for (at, sum) in output.iter_mut().enumerate() {
        let (y, x, co) = (at / outputs / width, at / outputs % width, at % outputs);
        for tap in 0..9 {
            let (y, x) = (y + tap / 3, x + tap % 3);
            if (1..=height).contains(&y) && (1..=width).contains(&x) {
                for ci in 0..inputs {
                    let pixel = f64::from(input[((y - 1) * width + x - 1) * inputs + ci]);
                    *sum += pixel * f64::from(weight[(tap * inputs + ci) * outputs + co]);
                }
            }
        }
    }
    output
}

#[test]
fn agrees_with_the_definition_in_any_bands_and_on_any_threads() {
    // Borders on every side, tiles cut off, several blocks, panels that are not full, and filters read together.
    for (height, width, inputs, outputs) in [
        (1, 1, 32, 32),
        (4, 4, 36, 32),
        (7, 3, 32, 68),
        (5, 18, 40, 132),
        (9, 61, 32, 36),
        (130, 6, 32, 32),
        (11, 9, 260, 256),
        (40, 21, 260, 256),
    ] {
        let shape = [height, width, inputs, outputs];
        let (input, weight) = (noise(1, height * width * inputs), noise(2, 9 * inputs * outputs));
        let (expected, filters) = (direct(&input, &weight, shape), filters(&weight, inputs, outputs).unwrap());
        let source = Rows { values: &input, first: 0, width, channels: inputs };
        for rows in [4, 8, band_rows(height, width, inputs, outputs), 1000] {
            let mut output = vec![f32::NAN; height * width * outputs];
            let bands = output.chunks_mut(rows * width * outputs).enumerate();
            for (band, output) in bands {
                convolve(output, band * rows, source, &filters, outputs, &Scratch::default()).unwrap();
            }
            let energy: f64 = expected.iter().map(|value| value * value).sum();
            let error: f64 = output.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
            assert!(error / energy < 1e-10, "{shape:?} in bands of {rows}: NMSE {:.1e}", error / energy);
        }
    }
}

#[test]
fn bands_share_the_work_and_hold_enough_tiles() {
    let busiest = |down: usize, rows: usize| down.div_ceil(rows).div_ceil(rayon::current_num_threads()) * rows;
    for (down, across) in [(1, 1), (56, 56), (28, 28), (14, 14), (7, 7), (3, 100), (100, 3), (1000, 1)] {
        let rows = balanced(down, across);
        let least = 24_usize.div_ceil(across).min(down);
        assert!((least..=down).contains(&rows), "{rows} of {down}, {across} across");
        for other in least..=down {
            let better = busiest(down, other) < busiest(down, rows);
            assert!(!better, "{down}x{across}: bands of {rows}, {other} is better");
        }
    }
}
