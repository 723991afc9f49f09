//! Fast ways to compute, held against the plain one on the user's own device before they are trusted.
//!
//! A driver may compile a shader that its authors never ran into something wrong. What disagrees, or fails, is left out: the
//! run is slower and right. The verdict holds for the process.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::error::Result;
use crate::kernel::Scalar;
use crate::net::maps::Precision;
use crate::ops::conv3x3::mask_shape;
use crate::ops::conv3x3_cooperative::{conv3x3_cooperative, conv3x3_cooperative_backward};
use crate::ops::conv3x3_half::{conv3x3_half, conv3x3_half_backward};
use crate::ops::half::{half_shape, packed, unpacked};
use crate::recording::{Backend, Block, BufferTable, Choices, Matrices, Method, Purpose, Recording, Tensor};

/// ‖a - b‖² / ‖b‖² that a fast way may have: sums in another order go to another half here and there, which gives 1e-9; a
/// product that is missing or misplaced gives more than 1e-4.
const TOLERANCE: f64 = 1e-7;

/// The choices without those that this device computes wrongly, of the ones that maps of this precision use; and one that was
/// left out.
pub fn checked(backend: &dyn Backend, mut choices: Choices, precision: Precision) -> (Choices, Option<Method>) {
    let mut dropped = None;
    choices.rules.retain(|rule| match rule.method {
        Method::Cooperative(units) if precision == Precision::F16 && !trusted(backend, units) => {
            dropped = Some(rule.method);
            false
        }
        _ => true,
    });
    (choices, dropped)
}

/// Whether a device's matrix units were seen to be right; they are tried once.
fn trusted(backend: &dyn Backend, units: Matrices) -> bool {
    static VERDICTS: LazyLock<Mutex<HashMap<(String, Matrices), bool>>> = LazyLock::new(Mutex::default);
    let Ok(engine) = backend.engine() else { return false };
    let device = engine.describe();
    drop(engine);
    let known = |device: &String| {
        VERDICTS.lock().unwrap_or_else(PoisonError::into_inner).get(&(device.clone(), units)).copied()
    };
    known(&device).unwrap_or_else(|| {
        let verdict = matrix_units_agree(backend, units).unwrap_or(false);
        VERDICTS.lock().unwrap_or_else(PoisonError::into_inner).insert((device, units), verdict);
        verdict
    })
}

/// Channels in and out of the maps that matrix units are tried on: every pipeline that a network uses, there and back, with
/// one and with two columns of subgroups, and with more than one workgroup's channels.
const CHANNELS: [(usize, usize); 4] = [(64, 64), (64, 128), (128, 64), (128, 256)];

/// Whether convolutions and their gradients by matrix units are those of the portable shaders, on maps that no block divides.
///
/// # Errors
/// Where the device refuses the shaders or is lost.
pub fn matrix_units_agree(backend: &dyn Backend, units: Matrices) -> Result<bool> {
    for channels in CHANNELS {
        if !agree_on(backend, units, channels)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn agree_on(backend: &dyn Backend, units: Matrices, (inputs, outputs): (usize, usize)) -> Result<bool> {
    let (height, width) = (13, 18);
    let mut table = BufferTable::default();
    let mut tensor = |scalar, shape: &[usize]| table.tensor("check", scalar, shape, Purpose::Tile);
    let mut map = |channels: usize| tensor(Scalar::U32, &half_shape([height, width, channels]));
    let (input, d_output) = (map(inputs), map(outputs));
    let [plain, fast] = [(); 2].map(|()| map(outputs));
    let [d_plain, d_fast] = [(); 2].map(|()| map(inputs));
    let bias = tensor(Scalar::F32, &[outputs]);
    let [mask, other] = [(); 2].map(|()| tensor(Scalar::U32, &mask_shape(height, width, outputs)));
    let mut filter = |reads: usize, writes: usize| {
        let halves = tensor(Scalar::U32, &half_shape([9, reads, writes]));
        (tensor(Scalar::F32, &[9, reads, writes]), halves)
    };
    let ((there, there_packed), (back, back_packed)) = (filter(inputs, outputs), filter(outputs, inputs));
    let mut rec = Recording::new("check");
    let block = |reads, writes| ("plain", Block::usual(reads, writes));
    conv3x3_half(&mut rec, block(inputs, outputs), &input, &there, &bias, &plain, &mask)?;
    conv3x3_cooperative(&mut rec, ("fast", units), &input, &there_packed, &bias, &fast, &other)?;
    conv3x3_half_backward(&mut rec, block(outputs, inputs), &d_output, &mask, &back, &d_plain)?;
    conv3x3_cooperative_backward(&mut rec, ("fast", units), &d_output, &mask, &back_packed, &d_fast)?;

    let mut engine = backend.engine()?;
    engine.allocate(&table)?;
    for (seed, map) in [(1, &input), (2, &d_output)] {
        engine.write_words(map.buffer, &packed(&noise(seed, 2 * map.len())))?;
    }
    engine.write(bias.buffer, &noise(3, outputs))?;
    for (seed, wide, halves) in [(4, &there, &there_packed), (5, &back, &back_packed)] {
        let words = packed(&noise(seed, wide.len()).iter().map(|value| 0.05 * value).collect::<Vec<_>>());
        engine.write_words(halves.buffer, &words)?;
        // The very same numbers.
        engine.write(wide.buffer, &unpacked(&words))?;
    }
    let program = engine.prepare(&rec)?;
    engine.run(program, 1)?;
    let mut values = |map: &Tensor| Ok::<_, crate::error::Error>(unpacked(&engine.read_words(map.buffer)?));
    let mut agrees =
        |fast: &Tensor, plain: &Tensor| Ok::<_, crate::error::Error>(close(&values(fast)?, &values(plain)?));
    Ok(agrees(&fast, &plain)? && agrees(&d_fast, &d_plain)? && {
        // A sum near zero may be let through by one and not by the other.
        let words = |map: &Tensor, engine: &mut dyn crate::recording::Engine| engine.read_words(map.buffer);
        let (a, b) = (words(&mask, engine.as_mut())?, words(&other, engine.as_mut())?);
        let differing: u32 = a.iter().zip(&b).map(|(a, b)| (a ^ b).count_ones()).sum();
        differing as usize <= height * width * outputs / 1000
    })
}

/// Whether two maps are the same up to rounding, and not empty.
fn close(a: &[f32], b: &[f32]) -> bool {
    let sum = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let energy = sum(&mut b.iter().map(|b| f64::from(*b)));
    let error = sum(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    energy > 0.0 && error <= TOLERANCE * energy
}

/// Numbers in -1..1 that depend on nothing.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let word = |at: u32| (at.wrapping_add(seed << 20)).wrapping_mul(0x9e37_79b9);
    let mixed = |word: u32| (word ^ word >> 15).wrapping_mul(0x85eb_ca6b);
    (0..count as u32).map(|at| (mixed(word(at)) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_element_in_a_thousand_is_noticed() {
        let values = noise(1, 1000);
        assert!(close(&values, &values));
        let mut wrong = values.clone();
        wrong[500] += 0.5;
        assert!(!close(&wrong, &values));
        assert!(!close(&[0.0; 4], &[0.0; 4]), "a shader that writes nothing");
        assert!(!close(&[f32::NAN; 4], &[1.0; 4]));
    }
}
