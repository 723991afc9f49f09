//! One kernel by itself, on maps of a given shape.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::kernel::Scalar;
use crate::ops::Rect;
use crate::ops::adam::{AdamTensors, adam};
use crate::ops::conv3x3::{conv3x3, conv3x3_backward, mask_shape};
use crate::ops::conv3x3_cooperative::{conv3x3_cooperative, conv3x3_cooperative_backward};
use crate::ops::conv3x3_half::{conv3x3_half, conv3x3_half_backward};
use crate::ops::copy_rect::{Mode, copy_rect};
use crate::ops::gram::{gram, gram_backward, gram_reduce, splits};
use crate::ops::half::half_shape;
use crate::ops::matmul::matmul;
use crate::ops::pool::{pool_average, pool_average_backward, pool_max, pool_max_backward, winner_shape};
use crate::ops::{padded, winograd};
use crate::recording::{Block, BufferTable, Method, Purpose, Recording, Tensor};

/// Kernels that can be run alone.
pub const KERNELS: [&str; 19] = [
    "conv3x3",
    "conv3x3_backward",
    "conv3x3_half",
    "conv3x3_half_backward",
    "winograd_input",
    "winograd_d_output",
    "winograd_product",
    "winograd_output",
    "winograd_d_input",
    "pool_max",
    "pool_max_backward",
    "pool_average",
    "pool_average_backward",
    "gram",
    "gram_reduce",
    "gram_backward",
    "matmul",
    "adam",
    "copy_rect",
];

/// Rows, columns, channels in and out of a map: `56x56x256x256`. Where the channels out are left out they are those in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels that are read.
    pub inputs: usize,
    /// Channels that a convolution writes.
    pub outputs: usize,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Shape, String> {
        let sides: Option<Vec<usize>> = text.split('x').map(|side| side.parse().ok()).collect();
        let (height, width, inputs, outputs) = match sides.as_deref() {
            Some([height, width, inputs]) => (*height, *width, *inputs, *inputs),
            Some([height, width, inputs, outputs]) => (*height, *width, *inputs, *outputs),
            _ => return Err("give HxWxC or HxWxCIxCO, e.g. 56x56x256x256".into()),
        };
        let fits = |side: usize| (1..=65_536).contains(&side);
        let channels = padded(inputs).max(padded(outputs)) as u64;
        // Kernels index with 32 bits.
        if ![height, width, inputs, outputs].into_iter().all(fits)
            || height as u64 * width as u64 * channels > u64::from(u32::MAX)
            || 9 * channels * channels > u64::from(u32::MAX)
        {
            return Err("sides and channels are 1 to 65536, a map and a weight have fewer than 2^32 elements".into());
        }
        Ok(Shape { height, width, inputs: padded(inputs), outputs: padded(outputs) })
    }
}

/// Buffers and a recording with one launch of a kernel.
pub fn alone(kernel: &str, shape: Shape) -> Result<(BufferTable, Recording)> {
    alone_in(kernel, shape, None)
}

/// The same in blocks, where the kernel has a choice of them; the usual one if it is not given.
pub(super) fn alone_in(kernel: &str, shape: Shape, block: Option<Block>) -> Result<(BufferTable, Recording)> {
    if kernel == "conv3x3_half" || kernel == "conv3x3_half_backward" {
        let forward = kernel == "conv3x3_half";
        let (reads, writes) = if forward { (shape.inputs, shape.outputs) } else { (shape.outputs, shape.inputs) };
        return of_halves(forward, shape, Method::Direct(block.unwrap_or(Block::usual(reads, writes))));
    }
    let Shape { height, width, inputs, outputs } = shape;
    let mut table = BufferTable::default();
    let mut recording = Recording::new(kernel);
    let label = format!("{height}x{width}x{inputs}x{outputs}");
    let mut made = |name: &str, scalar: Scalar, shape: &[usize]| {
        let purpose = if name.starts_with("weight") { Purpose::Weights } else { Purpose::Tile };
        table.tensor(name, scalar, shape, purpose)
    };
    let mut float = |name: &str, shape: &[usize]| made(name, Scalar::F32, shape);
    let (map, pooled) = ([height, width, inputs], [height.div_ceil(2), width.div_ceil(2), inputs]);
    // Of the whole map, in one band.
    let count = height.div_ceil(4) * width.div_ceil(4);
    let tiles = [36, count, inputs];
    let rec = &mut recording;
    match kernel {
        "conv3x3" => {
            let (input, weight) = (float("input", &map), float("weight", &[9, inputs, outputs]));
            let (bias, output) = (float("bias", &[outputs]), float("output", &[height, width, outputs]));
            let mask = made("mask", Scalar::U32, &mask_shape(height, width, outputs));
            conv3x3(
                rec,
                (&label, block.unwrap_or(Block::usual(inputs, outputs))),
                &input,
                &weight,
                &bias,
                &output,
                &mask,
            )?;
        }
        "conv3x3_backward" => {
            let (d_input, weight) = (float("d_input", &map), float("weight_rotated", &[9, outputs, inputs]));
            let d_output = float("d_output", &[height, width, outputs]);
            let mask = made("mask", Scalar::U32, &mask_shape(height, width, outputs));
            conv3x3_backward(
                rec,
                (&label, block.unwrap_or(Block::usual(outputs, inputs))),
                &d_output,
                &mask,
                &weight,
                &d_input,
            )?;
        }
        "winograd_input" => winograd::winograd_input(rec, &label, &float("input", &map), 0, &float("tiles", &tiles))?,
        "winograd_d_output" => {
            let (d_output, tiles) = (float("d_output", &map), float("tiles", &tiles));
            let mask = made("mask", Scalar::U32, &mask_shape(height, width, inputs));
            winograd::winograd_d_output(rec, &label, (&d_output, &mask), 0, &tiles)?;
        }
        "winograd_product" => {
            let (tiles, weight) = (float("tiles", &tiles), float("weight", &[36, inputs, outputs]));
            let product = float("product", &[36, count, outputs]);
            winograd::winograd_product(
                rec,
                (&label, block.unwrap_or(Block::usual(inputs, outputs))),
                &tiles,
                &weight,
                &product,
            )?;
        }
        "winograd_output" => {
            let (product, bias, output) = (float("product", &tiles), float("bias", &[inputs]), float("output", &map));
            let mask = made("mask", Scalar::U32, &mask_shape(height, width, inputs));
            winograd::winograd_output(rec, &label, (&product, 0), &bias, (&output, &mask))?;
        }
        "winograd_d_input" => {
            let (product, d_input) = (float("product", &tiles), float("d_input", &map));
            winograd::winograd_d_input(rec, &label, (&product, 0), &d_input)?;
        }
        "pool_max" | "pool_max_backward" => {
            let (whole, small): (Tensor, Tensor) = (float("map", &map), float("pooled", &pooled));
            let winner = made("winner", Scalar::U32, &winner_shape(height, width, inputs));
            match kernel {
                "pool_max" => pool_max(rec, &label, &whole, &small, &winner)?,
                _ => pool_max_backward(rec, &label, &small, &winner, &whole)?,
            }
        }
        "pool_average" => pool_average(rec, &label, &float("input", &map), &float("output", &pooled))?,
        "pool_average_backward" => {
            pool_average_backward(rec, &label, &float("d_output", &pooled), &float("d_input", &map))?;
        }
        "gram" => {
            let partial = [splits(height * width, inputs), inputs, inputs];
            gram(rec, &label, &float("feature", &map), Rect::whole(height, width), &float("partial", &partial))?;
        }
        "gram_reduce" => {
            let partial = [splits(height * width, inputs), inputs, inputs];
            gram_reduce(rec, &label, &float("partial", &partial), 1.0, &float("gram", &[inputs, inputs]))?;
        }
        "gram_backward" => {
            let (feature, d_gram) = (float("feature", &map), float("d_gram", &[inputs, inputs]));
            gram_backward(rec, &label, &feature, Rect::whole(height, width), &d_gram, &float("d_feature", &map))?;
        }
        "matmul" => {
            // Of C x C matrices.
            let square = [inputs, inputs];
            let [a, b, output] = ["a", "b", "output"].map(|name| float(name, &square));
            matmul(rec, &label, (&a, &b), [1.0, 0.0], &output)?;
        }
        "adam" => {
            let picture = [height, width, 4];
            let [image, d_image, m, v] = ["image", "d_image", "m", "v"].map(|name| float(name, &picture));
            let schedule = float("schedule", &[1, 2]);
            let step = made("step", Scalar::U32, &[1]);
            let tensors =
                AdamTensors { d_image: &d_image, schedule: &schedule, step: &step, image: &image, m: &m, v: &v };
            adam(rec, tensors, 0.9, 0.999)?;
        }
        "copy_rect" => {
            let (from, to) = (float("source", &map), float("destination", &map));
            copy_rect(rec, &label, (&from, Rect::whole(height, width)), (&to, 0, 0), Mode::Replace)?;
        }
        other => {
            return Err(Error::Config {
                option: "kernel",
                what: format!("`{other}` does not run alone"),
                hint: format!("give one of {}", KERNELS.join(" ")),
            });
        }
    }
    Ok((table, recording))
}

/// A convolution of maps in half precision.
pub(super) fn of_halves(forward: bool, shape: Shape, method: Method) -> Result<(BufferTable, Recording)> {
    let Shape { height, width, inputs, outputs } = shape;
    let (mut table, mut recording) = (BufferTable::default(), Recording::new("halves"));
    let mut map = |channels| table.tensor("map", Scalar::U32, &half_shape([height, width, channels]), Purpose::Tile);
    let (input, output) = (map(inputs), map(outputs));
    let mask = table.tensor("mask", Scalar::U32, &mask_shape(height, width, outputs), Purpose::Tile);
    let bias = table.tensor("bias", Scalar::F32, &[outputs], Purpose::Weights);
    let taps = [9, if forward { inputs } else { outputs }, if forward { outputs } else { inputs }];
    let (scalar, taps) =
        if matches!(method, Method::Direct(_)) { (Scalar::F32, taps) } else { (Scalar::U32, half_shape(taps)) };
    let (weight, rec) = (table.tensor("weight", scalar, &taps, Purpose::Weights), &mut recording);
    match (method, forward) {
        (Method::Direct(block), true) => conv3x3_half(rec, ("", block), &input, &weight, &bias, &output, &mask)?,
        (Method::Direct(block), false) => conv3x3_half_backward(rec, ("", block), &output, &mask, &weight, &input)?,
        (Method::Cooperative(units), true) => {
            conv3x3_cooperative(rec, ("", units), &input, &weight, &bias, &output, &mask)?;
        }
        (Method::Cooperative(units), false) => {
            conv3x3_cooperative_backward(rec, ("", units), &output, &mask, &weight, &input)?;
        }
        (Method::Winograd(_), _) => {}
    }
    Ok((table, recording))
}
