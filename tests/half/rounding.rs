//! How shaders make halves.

use half::f16;
use impasto::cpu::Cpu;
use impasto::kernel::Scalar;
use impasto::ops::Rect;
use impasto::ops::half::{Factor, add_narrowed, half_shape};
use impasto::recording::{Backend, BufferTable, Purpose, Recording};

use crate::common::gpu;

/// What no random case holds: ties, the ends of the range, infinity, and NaN as different devices write it.
#[test]
fn shaders_round_as_the_host_does_at_the_ends_of_the_range() {
    let ulp = 1.0 / 1024.0;
    let tiny = 1.0 / (1 << 24) as f32;
    let edges =
        [0.0, tiny, 0.49 * tiny, 0.5 * tiny, 1.5 * tiny, 2.65 * tiny, 1022.5 * tiny, 1023.5 * tiny, 1023.7 * tiny];
    let more = [
        1024.0 * tiny,
        1.0 + 0.5 * ulp,
        1.0 + 1.5 * ulp,
        65_504.0,
        65_519.996,
        65_520.0,
        65_536.0,
        1e30,
        f32::INFINITY,
    ];
    let mut values: Vec<f32> = edges.into_iter().chain(more).flat_map(|value| [value, -value]).collect();
    values.extend([0x7fff_ffff, 0xffff_ffff, 0x7f80_0001, 0x7fc0_0000].map(f32::from_bits));
    let mut table = BufferTable::default();
    let mut tensor = |scalar, shape: &[usize]| table.tensor("test", scalar, shape, Purpose::Tile);
    let shape = [1, values.len() / 4, 4];
    let (source, factors) = (tensor(Scalar::F32, &shape), tensor(Scalar::F32, &[1]));
    let destination = tensor(Scalar::U32, &half_shape(shape));
    let mut recording = Recording::new("test");
    let factor = Factor { factors: &factors, slot: 0 };
    add_narrowed(&mut recording, "test", (&source, Rect::whole(1, shape[1])), factor, (&destination, 0, 0)).unwrap();
    let backends = gpu("halves at the ends").map(|gpu| Box::new(gpu) as Box<dyn Backend>);
    for backend in backends.into_iter().chain([Box::new(Cpu) as Box<dyn Backend>]) {
        let mut engine = backend.engine().unwrap();
        engine.allocate(&table).unwrap();
        engine.write(source.buffer, &values).unwrap();
        engine.write(factors.buffer, &[1.0]).unwrap();
        let program = engine.prepare(&recording).unwrap();
        engine.run(program, 1).unwrap();
        let words = engine.read_words(destination.buffer).unwrap();
        for (at, value) in values.iter().enumerate() {
            let half = f16::from_bits((words[at / 2] >> (16 * (at % 2))) as u16);
            let expected = f16::from_f32(*value);
            let same = if value.is_nan() { half.is_nan() } else { f32::from(half) == f32::from(expected) };
            assert!(same, "{value:e} is {half:e}, not {expected:e}, on {}", engine.describe());
        }
    }
}
