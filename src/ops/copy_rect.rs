//! Copies or adds a rectangle of one map into another: tiles out of the picture and back.

use rayon::prelude::*;

use super::{Rect, dims, grid, inside};
use crate::error::Result;
use crate::kernel::{Call, Kernel, Real, Slot, float, kernel, params};
use crate::recording::{Launch, Recording, Tensor};

params! {
    /// Parameters of `copy_rect`.
    CopyRectParams {
        /// Rows of the rectangle.
        height: u32,
        /// Columns of the rectangle.
        width: u32,
        /// Channels.
        channels: u32,
        /// Columns of the source.
        source_width: u32,
        /// First row in the source.
        from_top: u32,
        /// First column in the source.
        from_left: u32,
        /// Columns of the destination.
        destination_width: u32,
        /// First row in the destination.
        to_top: u32,
        /// First column in the destination.
        to_left: u32,
        /// 1 adds into the destination, 0 replaces.
        accumulate: u32,
    }
}

/// See `shaders/copy_rect.wgsl`.
pub static COPY_RECT: Kernel = kernel!(
    "copy_rect",
    CopyRectParams,
    copy_rect_twin,
    [float("source", "Hs Ws C"), float("destination", "Hd Wd C"),]
);

/// Whether a copy replaces or adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `destination = source`
    Replace,
    /// `destination += source`
    Add,
}

/// Records a copy of `from` in `source` to `(to_top, to_left)` in `destination`.
pub fn copy_rect(
    recording: &mut Recording,
    label: &str,
    (source, from): (&Tensor, Rect),
    (destination, to_top, to_left): (&Tensor, usize, usize),
    mode: Mode,
) -> Result<()> {
    let [source_height, source_width, channels] = dims(&COPY_RECT, "source", source)?;
    let [destination_height, destination_width, _] = dims(&COPY_RECT, "destination", destination)?;
    inside(&COPY_RECT, "source", from, source_height, source_width)?;
    let to = Rect { top: to_top, left: to_left, ..from };
    inside(&COPY_RECT, "destination", to, destination_height, destination_width)?;
    recording.dispatch(
        &COPY_RECT,
        &CopyRectParams {
            height: from.height as u32,
            width: from.width as u32,
            channels: channels as u32,
            source_width: source_width as u32,
            from_top: from.top as u32,
            from_left: from.left as u32,
            destination_width: destination_width as u32,
            to_top: to_top as u32,
            to_left: to_left as u32,
            accumulate: u32::from(mode == Mode::Add),
        },
        &[("source", source), ("destination", destination)],
        Launch {
            label: label.into(),
            grid: grid((from.area() * channels / 4).div_ceil(256), 1),
            flops: (from.area() * channels) as u64,
            bytes: Some(8 * (from.area() * channels) as u64),
            ..Launch::default()
        },
    )
}

fn copy_rect_twin<T: Real>(call: &mut Call<'_, T>) -> Result<()> {
    let params: CopyRectParams = call.params()?;
    let [Slot::Read(source), Slot::Write(destination)] = call.slots.as_mut_slice() else {
        return Err(call.mismatch("set of slots"));
    };
    let channels = params.channels as usize;
    let [source_row, row] = [params.source_width, params.destination_width].map(|width| width as usize * channels);
    let (from_left, to_left) = (params.from_left as usize * channels, params.to_left as usize * channels);
    let (len, accumulate) = (params.width as usize * channels, params.accumulate == 1);
    let source = &source[params.from_top as usize * source_row..];
    let rows = destination[params.to_top as usize * row..].par_chunks_mut(row).take(params.height as usize);
    rows.zip(source.par_chunks(source_row)).for_each(|(to, from)| {
        let (to, from) = (&mut to[to_left..][..len], &from[from_left..][..len]);
        match accumulate {
            true => to.iter_mut().zip(from).for_each(|(to, from)| *to += *from),
            false => to.copy_from_slice(from),
        }
    });
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::testing::{Bench, Case, ELEMENTWISE, maps, owned, within};
    use super::*;

    #[test]
    fn copy_rect_writes_its_rectangle_and_nothing_else() {
        let mut bench = Bench::new(&COPY_RECT, ELEMENTWISE);
        for (i, [height, width, channels]) in maps().enumerate() {
            let from = owned(height, width, i);
            let (top, left) = (i % 3, i % 4);
            let destination = [top + from.height + i % 2, left + from.width + i % 5, channels];
            let mode = if i % 2 == 0 { Mode::Replace } else { Mode::Add };
            let mut case = Case::new(format!("{from:?} of {height}x{width}x{channels}, {mode:?}"));
            let source = case.random(&[height, width, channels]);
            let written = within(Rect { top, left, ..from }, destination[1], channels);
            let destination = match mode {
                Mode::Replace => case.output_where(&destination, written),
                Mode::Add => case.update_where(&destination, written),
            };
            copy_rect(&mut case.recording, "test", (&source, from), (&destination, top, left), mode).unwrap();
            if i % 7 == 6 {
                case.fold();
            }
            bench.run(&case);
        }
        bench.finish();
    }
}
