//! Seeded normal noise: SplitMix64 as a counter-based generator, Box–Muller in double precision on the host, so that
//! every engine starts from the same bits.

use crate::weights::builtin::split_mix;

/// `count` samples of N(0, 1); a longer request starts with the same samples.
pub(crate) fn normal(seed: u64, count: usize) -> Vec<f32> {
    // 53 random bits; the half step keeps the logarithm's argument away from zero.
    let uniform = |counter: u64| ((split_mix(seed, counter) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    (0..count.next_multiple_of(2) as u64)
        .step_by(2)
        .flat_map(|pair| {
            let radius = (-2.0 * uniform(pair).ln()).sqrt();
            let (sine, cosine) = (std::f64::consts::TAU * uniform(pair + 1)).sin_cos();
            [(radius * cosine) as f32, (radius * sine) as f32]
        })
        .take(count)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_normal_and_seeded() {
        let noise = normal(7, 100_001);
        let moment =
            |power: i32| noise.iter().map(|value| f64::from(*value).powi(power)).sum::<f64>() / noise.len() as f64;
        // Five standard errors of each moment.
        assert!(moment(1).abs() < 0.016, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.023, "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.16, "kurtosis {}", moment(4));
        assert_eq!(noise[..10], normal(7, 10), "a prefix is a prefix");
        assert_ne!(noise[..10], normal(8, 10), "seeds differ");
    }
}
