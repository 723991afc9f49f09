//! Resampling of plain numbers, which pictures between two scales and an optimiser's moments are: nothing is clamped.

/// Weights of neighbouring samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// A straight line between the two nearest.
    Bilinear,
    /// Keys' cubic convolution with a = -0.75, as `torch.nn.functional.interpolate` has it.
    Bicubic,
}

impl Filter {
    /// Samples further away than this do not count.
    fn radius(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        const A: f64 = -0.75;
        let x = distance.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
            Filter::Bicubic => 0.0,
        }
    }

    /// For each of `to` samples, the ones of `from` that it is made of. The edge is repeated; when shrinking, the filter
    /// widens to cover every sample.
    fn taps(self, from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
        let step = from as f64 / to as f64;
        let width = step.max(1.0);
        let tap = |at: usize| {
            let center = (at as f64 + 0.5) * step - 0.5;
            let reach = self.radius() * width;
            let near = (center - reach).ceil() as i64..=(center + reach).floor() as i64;
            let weight = |sample: i64| self.weight((sample as f64 - center) / width);
            let sum: f64 = near.clone().map(weight).sum();
            near.map(|sample| (sample.clamp(0, from as i64 - 1) as usize, (weight(sample) / sum) as f32)).collect()
        };
        (0..to).map(tap).collect()
    }
}

/// `values` of shape `[H, W, channels]`, `from = [H, W]`, resampled to `to = [H, W]`. An equal size gives equal bits.
/// No side is zero and `values` has the size that `from` says.
pub(crate) fn resampled(values: &[f32], from: [usize; 2], to: [usize; 2], channels: usize, filter: Filter) -> Vec<f32> {
    if from == to {
        return values.to_vec();
    }
    let mut wide = Vec::with_capacity(from[0] * to[1] * channels);
    let columns = filter.taps(from[1], to[1]);
    for row in values.chunks_exact(from[1] * channels) {
        for taps in &columns {
            wide.extend((0..channels).map(|c| taps.iter().map(|(x, w)| w * row[x * channels + c]).sum::<f32>()));
        }
    }
    let length = to[1] * channels;
    let mut out = vec![0.0; to[0] * length];
    for (row, taps) in out.chunks_exact_mut(length).zip(filter.taps(from[0], to[0])) {
        for (y, weight) in taps {
            row.iter_mut().zip(&wide[y * length..]).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} is not {expected}");
        }
    }

    /// PyTorch 2: `interpolate(x, size, mode=mode, align_corners=False)`; unlike ours, its shrinking skips samples.
    #[test]
    fn enlarging_agrees_with_pytorch() {
        let ramp = [0.0, 10.0, -20.0, 40.0];
        let bilinear = [0.0, 2.5, 7.5, 2.5, -12.5, -5.0, 25.0, 40.0];
        close(&resampled(&ramp, [1, 4], [1, 8], 1, Filter::Bilinear), &bilinear);
        close(&resampled(&ramp, [4, 1], [8, 1], 1, Filter::Bilinear), &bilinear);
        let bicubic = [-0.99216, 5.25237, 10.81359, -9.6875, -17.95281, 17.71046, 45.95299];
        close(&resampled(&ramp, [1, 4], [1, 7], 1, Filter::Bicubic), &bicubic);
    }

    #[test]
    fn channels_stay_apart_and_a_constant_stays_constant() {
        let values: Vec<f32> = (0..5 * 3).flat_map(|i| [i as f32, 7.0, 0.0, -3.0]).collect();
        for to in [[5, 3], [11, 4], [2, 2], [1, 9], [17, 1]] {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                let out = resampled(&values, [5, 3], to, 4, filter);
                assert_eq!(out.len(), to[0] * to[1] * 4);
                for pixel in out.chunks_exact(4) {
                    close(&pixel[1..], &[7.0, 0.0, -3.0]);
                }
            }
        }
        assert_eq!(resampled(&values, [5, 3], [5, 3], 4, Filter::Bicubic), values);
    }

    #[test]
    fn shrinking_counts_every_sample() {
        let spike: Vec<f32> = (0..64).map(|i| if i == 37 { 8.0 } else { 0.0 }).collect();
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let sum: f32 = resampled(&spike, [1, 64], [1, 8], 1, filter).iter().sum();
            assert!((sum - 1.0).abs() < 0.05, "{filter:?}: {sum}");
        }
    }
}
