//! Whether a method gives what the plain one gives, on a small case with odd edges.

use super::Bench;
use crate::error::{Error, Result};
use crate::net::alone::Alone;
use crate::net::check::matrix_units_agree;
use crate::recording::{Choices, Engine, Method, Rule};

/// conv2_1, 64 channels to 128, of a picture of 42x38: a map of 21x19, which no block and no tile of four divides.
const LAYER: usize = 2;
const SIZE: [usize; 2] = [42, 38];
/// ‖a - b‖ / ‖b‖. Winograd's rounding is about 1e-6 of that here; one wrong value of 51,072 is 4e-3.
const BAR: f64 = 1e-4;
/// The part of the mask's bits that rounding may turn: outputs next to zero.
const TURNED: f64 = 1e-3;

/// What the plain method gives.
pub(super) struct Plain {
    output: Vec<f32>,
    mask: Vec<u32>,
    d_input: Vec<f32>,
}

/// Runs the plain method, which everything is compared with.
pub(super) fn plain(bench: &mut Bench<'_>) -> Result<Plain> {
    let case = Alone::new(LAYER, SIZE, &Choices::default())?;
    run(bench, &case, None)
}

/// A method that does not agree comes back as the reason; the error of a device that is lost for good as itself.
pub(super) fn agrees(bench: &mut Bench<'_>, method: Method, plain: &Plain) -> Result<(), Result<String>> {
    if let Method::Cooperative(units) = method {
        return match matrix_units_agree(bench.backend, units) {
            Ok(true) if !bench.faults.spoils(&method.to_string()) => Ok(()),
            Ok(_) => Err(Ok("what it gives differs from the plain one's halves".into())),
            Err(error) => Err(bench.recover(&error).map(|()| format!("fails: {error}"))),
        };
    }
    let case = Alone::new(LAYER, SIZE, &Choices { rules: vec![Rule::always(method)] });
    let ran = case.and_then(|case| run(bench, &case, Some(&plain.mask)));
    let mut ran = match ran {
        Ok(ran) => ran,
        Err(error) => return Err(bench.recover(&error).map(|()| format!("fails: {error}"))),
    };
    if bench.faults.spoils(&method.to_string()) {
        ran.d_input.iter_mut().skip(5000).take(1).for_each(|value| *value += 1.0);
    }
    let turned: u32 = ran.mask.iter().zip(&plain.mask).map(|(a, b)| (a ^ b).count_ones()).sum();
    let checks = [
        ("output", difference(&ran.output, &plain.output), BAR),
        ("mask", f64::from(turned) / (32 * plain.mask.len()) as f64, TURNED),
        ("gradient", difference(&ran.d_input, &plain.d_input), BAR),
    ];
    for (what, difference, bar) in checks {
        if difference.is_nan() || difference > bar {
            return Err(Ok(format!("its {what} differs by {difference:.1e} from the plain one's")));
        }
    }
    Ok(())
}

/// Runs a case. The gradient is taken with the mask of the plain method, so that one next to zero does not count twice.
fn run(bench: &mut Bench<'_>, case: &Alone, mask: Option<&[u32]>) -> Result<Plain> {
    bench.load(case)?;
    let (engine, noise): (&mut dyn Engine, _) = (bench.engine.as_mut(), &bench.noise);
    case.upload(engine, noise)?;
    let forward = engine.prepare(&case.forward)?;
    engine.run(forward, 1)?;
    let (mut output, mut own) = (engine.read(case.output.buffer)?, engine.read_words(case.mask.buffer)?);
    if let Some(mask) = mask {
        engine.write_words(case.mask.buffer, mask)?;
    }
    let backward = engine.prepare(&case.backward)?;
    engine.run(backward, 1)?;
    let mut d_input = engine.read(case.d_input.buffer)?;
    // Buffers may be longer than what a case has in them.
    output.truncate(case.output.len());
    own.truncate(case.mask.len());
    d_input.truncate(case.d_input.len());
    if output.len() != case.output.len() || d_input.len() != case.d_input.len() {
        return Err(Error::Kernel { kernel: "tune".into(), what: "a buffer is too short".into() });
    }
    Ok(Plain { output, mask: own, d_input })
}

fn difference(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let apart = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    apart / norm(&mut b.iter().map(|value| f64::from(*value))).max(f64::MIN_POSITIVE)
}
