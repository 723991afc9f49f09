//! One kernel by itself in every way that there is to run it, side by side.

use super::alone::{Shape, alone_in, of_halves};
use super::measure::{Load, measure};
use super::{Profile, Roofs, Row};
use crate::error::{Error, Result};
use crate::kernel::Scalar;
use crate::ops::conv3x3::mask_shape;
use crate::ops::winograd;
use crate::recording::{Backend, Block, BufferTable, Clock, Matrices, Method, Purpose, Recording};

/// A way to do what a kernel does.
#[derive(Clone, Debug)]
pub struct Variant {
    /// As methods are called: `direct 64x64x16`, `f16 direct 64x64x16` of maps in half precision; the kernel's name where
    /// there is one way only.
    pub name: String,
    /// The buffers.
    pub buffers: BufferTable,
    /// One launch, or several that come to the same.
    pub recording: Recording,
}

/// Every way: blocks of the products in registers, and, in place of a convolution, Winograd's transforms, and convolutions of
/// maps in half precision, by the device's matrix units too if it has some and they take so many channels.
pub fn variants(kernel: &str, shape: Shape, units: Option<Matrices>) -> Result<Vec<Variant>> {
    let convolution = kernel == "conv3x3" || kernel == "conv3x3_backward";
    if !convolution && kernel != "winograd_product" {
        let (buffers, recording) = alone_in(kernel, shape, None)?;
        return Ok(vec![Variant { name: kernel.into(), buffers, recording }]);
    }
    let mut all = Vec::new();
    for block in Block::ALL {
        let (buffers, recording) = alone_in(kernel, shape, Some(block))?;
        let name = if convolution { format!("direct {block}") } else { block.to_string() };
        all.push(Variant { name, buffers, recording });
    }
    for block in Block::ALL.into_iter().filter(|_| convolution) {
        let (buffers, recording) = transformed(kernel == "conv3x3", shape, block)?;
        all.push(Variant { name: format!("winograd {block}"), buffers, recording });
    }
    let forward = kernel == "conv3x3";
    let (reads, writes) = if forward { (shape.inputs, shape.outputs) } else { (shape.outputs, shape.inputs) };
    let units = units.filter(|_| Matrices::suit(reads, writes)).map(Method::Cooperative);
    for method in Block::ALL.map(Method::Direct).into_iter().chain(units).filter(|_| convolution) {
        let (buffers, recording) = of_halves(forward, shape, method)?;
        all.push(Variant { name: format!("f16 {method}"), buffers, recording });
    }
    Ok(all)
}

fn transformed(forward: bool, shape: Shape, block: Block) -> Result<(BufferTable, Recording)> {
    let Shape { height, width, inputs, outputs } = shape;
    let (mut table, mut recording) = (BufferTable::default(), Recording::new("winograd"));
    let mut float = |name: &str, shape: &[usize]| {
        let purpose = if name.starts_with("weight") { Purpose::Weights } else { Purpose::Tile };
        table.tensor(name, Scalar::F32, shape, purpose)
    };
    let (input, output) = (float("input", &[height, width, inputs]), float("output", &[height, width, outputs]));
    let (reads, writes) = if forward { (inputs, outputs) } else { (outputs, inputs) };
    let (weight, bias) = (float("weight", &[36, reads, writes]), float("bias", &[outputs]));
    let [tiles, product] = winograd::scratch(height, width, reads, writes).map(|shape| float("scratch", &shape));
    let mask = table.tensor("mask", Scalar::U32, &mask_shape(height, width, outputs), Purpose::Tile);
    let (label, scratch) = (("", block), [&tiles, &product]);
    match forward {
        true => winograd::convolve(&mut recording, label, &input, (&weight, &bias), (&output, &mask), scratch)?,
        false => winograd::convolve_backward(&mut recording, label, (&output, &mask), &weight, &input, scratch)?,
    }
    Ok((table, recording))
}

/// A profile with one row for each variant: its label is the variant, its operations those of the kernel itself, its bytes
/// and times those of all its launches. Beside it the variants that failed, and why.
///
/// # Errors
/// Where all fail.
pub fn measure_variants(
    backend: &dyn Backend,
    kernel: &str,
    all: &[Variant],
    times: u32,
    roofs: Roofs,
) -> Result<(Profile, Vec<(String, Error)>)> {
    let mut failed = Vec::new();
    let mut profile = Profile { device: String::new(), clock: Clock::Host, roofs, rows: Vec::new(), whole: 0.0 };
    let flops = all.first().map_or(0, |variant| variant.recording.flops());
    for Variant { name, buffers, recording } in all {
        let measured = match measure(backend, Load { buffers, recording }, times, roofs) {
            Ok(measured) => measured,
            Err(error) => {
                failed.push((name.clone(), error));
                continue;
            }
        };
        let sum = |of: fn(&Row) -> f64| measured.rows.iter().map(of).sum();
        profile.rows.push(Row {
            kernel: kernel.into(),
            label: name.clone(),
            grid: measured.rows.first().map_or([0; 3], |row| row.grid),
            flops,
            bytes: measured.rows.iter().map(|row| row.bytes).sum(),
            median: sum(|row| row.median),
            fastest: sum(|row| row.fastest),
        });
        (profile.device, profile.clock) = (measured.device, measured.clock);
        profile.whole += measured.whole;
    }
    if profile.rows.is_empty()
        && let Some((_, error)) = failed.pop()
    {
        return Err(error);
    }
    Ok((profile, failed))
}
