//! What a device can do at most: multiply-adds in registers. (Bytes per second are those of a copy.)

use rayon::prelude::*;

use super::{dims, grid};
use crate::cpu::vectorized;
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params};
use crate::recording::{Launch, Recording, Tensor};

/// Values of a thread: as many chains as keep a multiply-add unit busy.
pub const CHAINS: usize = 16;
/// Values that the twin keeps in registers: twelve of AVX-512's or more of narrower ones.
const BLOCK: usize = 128;

params! {
    /// Parameters of `roof_fma`.
    RoofParams {
        /// Rows of 16 values.
        rows: u32,
        /// Pairs of multiply-adds.
        rounds: u32,
        /// Factor.
        a: f32,
        /// Summand.
        b: f32,
    }
}

/// See `shaders/roof_fma.wgsl`.
pub static ROOF_FMA: Kernel = kernel!("roof_fma", RoofParams, roof_fma_twin, [float("values", "N 16")]);

/// Records `values = a values + b`, twice `rounds` times.
pub fn roof_fma(recording: &mut Recording, values: &Tensor, rounds: u32, [a, b]: [f32; 2]) -> Result<()> {
    let [rows, _] = dims(&ROOF_FMA, "values", values)?;
    recording.dispatch(
        &ROOF_FMA,
        &RoofParams { rows: rows as u32, rounds, a, b },
        &[("values", values)],
        Launch {
            label: "roof".into(),
            grid: grid(rows.div_ceil(64), 1),
            flops: 4 * u64::from(rounds) * values.len() as u64,
            ..Launch::default()
        },
    )
}

fn roof_fma_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: RoofParams = call.params()?;
    let [Slot::Write(values)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let [a, b] = [params.a, params.b].map(T::of);
    values.par_chunks_mut(64 * BLOCK).for_each(|values| chains(values, params.rounds, a, b));
    Ok(())
}

vectorized! {
    fn chains<T>(values: &'a mut [T], rounds: u32, a: T, b: T) {
        for values in values.chunks_mut(BLOCK) {
            let mut block = [T::zero(); BLOCK];
            block[..values.len()].copy_from_slice(values);
            for _ in 0..2 * rounds {
                for value in &mut block {
                    *value = value.mul_add(a, b);
                }
            }
            values.copy_from_slice(&block[..values.len()]);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, ELEMENTWISE};
    use super::*;

    #[test]
    fn roof_fma_agrees_with_its_twin() {
        let mut bench = Bench::new(&ROOF_FMA, ELEMENTWISE);
        for (i, rows) in [1, 3, 63, 64, 65, 500].into_iter().enumerate() {
            for rounds in [0, 1, 7] {
                let mut case = Case::new(format!("{rows} rows, {rounds} rounds"));
                let values = case.update_where(&[rows, CHAINS], |_| true);
                roof_fma(&mut case.recording, &values, rounds, [0.75, 0.5]).unwrap();
                if i % 2 == 1 {
                    case.fold();
                }
                bench.run(&case);
            }
        }
        bench.finish_after(18);
    }
}
