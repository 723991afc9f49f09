//! What the CPU engine needs beside a job's buffers: transformed filters, and scratch memory of the convolutions.

use std::collections::{HashMap, HashSet};

use super::convolve::Needs;
use crate::recording::{BufferId, BufferTable, Command, Dispatch, Recording};

/// Memory in bytes that other processes leave, by what the system says; without bound where it says nothing.
pub(super) fn available_memory() -> u64 {
    let ram = sysinfo::MemoryRefreshKind::nothing().with_ram();
    let system = sysinfo::System::new_with_specifics(sysinfo::RefreshKind::nothing().with_memory(ram));
    let container = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    match system.available_memory().min(container) {
        0 => u64::MAX,
        bytes => bytes,
    }
}

/// Bytes of a job's buffers beyond which large transformed filters are not kept. Such a job comes in tiles, which take so
/// long that transforming the filters for each of them hardly shows, and its memory is wanted for the picture.
const FRUGAL: u64 = 1 << 30;

/// Whether a job with these buffers keeps large transformed filters.
pub(super) fn keeps(table: &BufferTable) -> bool {
    table.total() < FRUGAL
}

/// Bytes that running these recordings takes in single precision, large filters being kept or not.
pub(super) fn bytes(recordings: &[&Recording], keeps: bool) -> u64 {
    let (derived, pieces) = beside(recordings, keeps);
    let pieces: usize = pieces.iter().map(|bytes| bytes.next_multiple_of(8)).sum();
    (derived + pieces) as u64
}

/// Scratch memory for these recordings: the largest piece first, in bytes.
pub(super) fn pieces(recordings: &[&Recording], keeps: bool) -> Vec<usize> {
    beside(recordings, keeps).1
}

/// Bytes of all transformed filters, and of the pieces of scratch memory.
fn beside(recordings: &[&Recording], keeps: bool) -> (usize, Vec<usize>) {
    let mut derived: HashMap<BufferId, usize> = HashMap::new();
    let mut pieces: Vec<usize> = Vec::new();
    // Tiles repeat shapes.
    let mut seen: HashSet<(&str, &[usize], BufferId)> = HashSet::new();
    for command in recordings.iter().flat_map(|recording| &recording.commands) {
        let Command::Dispatch(dispatch) = command else { continue };
        let Some((weight, needs)) = needs(dispatch, keeps, &mut seen) else { continue };
        derived.insert(weight, 4 * needs.derived);
        let lent = (0..needs.threads).flat_map(|_| needs.scratch).filter(|len| *len > 0);
        let mut lent: Vec<usize> = lent.map(|len| 4 * len).collect();
        lent.sort_unstable_by(|a, b| b.cmp(a));
        pieces.resize(pieces.len().max(lent.len()), 0);
        pieces.iter_mut().zip(lent).for_each(|(piece, len)| *piece = len.max(*piece));
    }
    (derived.values().sum(), pieces)
}

/// The filter of a convolution, and what it needs; once for every filter and shape of a map. Other kernels need nothing.
fn needs<'a>(
    dispatch: &'a Dispatch,
    keeps: bool,
    seen: &mut HashSet<(&'a str, &'a [usize], BufferId)>,
) -> Option<(BufferId, Needs)> {
    let (source, filter, [backward, half]) = match dispatch.kernel.name {
        "conv3x3" => (0, 1, [false, false]),
        "conv3x3_backward" => (0, 2, [true, false]),
        "conv3x3_half" => (2, 0, [false, true]),
        "conv3x3_half_backward" => (1, 0, [true, true]),
        _ => return None,
    };
    let (source, weight) = (dispatch.tensors.get(source)?, dispatch.tensors.get(filter)?);
    let ([height, width, _], [_, inputs, outputs]) = (&source.shape[..], &weight.shape[..]) else { return None };
    let new = seen.insert((dispatch.kernel.name, &source.shape, weight.buffer));
    new.then(|| (weight.buffer, Needs::new([*height, *width], [*inputs, *outputs], [backward, half], keeps)))
}
