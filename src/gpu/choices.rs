//! How convolutions are computed on a GPU that nobody has measured.

use crate::recording::{Block, Choices, Matrices, Method, Rule};

/// From so many positions on, blocks of 128 leave enough workgroups for a large GPU: at 128 channels a direct convolution
/// has 512 of them, Winograd's products 1152, an H200 132 multiprocessors with room for two each.
const MANY: usize = 1 << 16;

/// The choices for an adapter of this kind, as `impasto devices` names it, and what it multiplies matrices with: of maps in
/// half precision nothing else is asked where that suits.
///
/// What there is to go by: Winograd's transforms move 36 bytes for each position and channel, the products that they save
/// are 13.5 per position and pair of channels. From 64 channels on a GPU with 10 operations or more per byte, as all with
/// memory of their own have, gains. A software renderer has neither caches to keep full nor many cores, and stays with the
/// closest rounding.
pub(super) fn supposed(kind: &str, matrices: Option<Matrices>) -> Choices {
    let mut choices = if kind == "software" { Choices::default() } else { hardware() };
    if let Some(matrices) = matrices {
        choices.prefer(Rule::always(Method::Cooperative(matrices)));
    }
    choices
}

fn hardware() -> Choices {
    let (wide, many) = (128..=usize::MAX, MANY..=usize::MAX);
    let winograd = |block| Rule::winograd(Method::Winograd(block));
    let direct = |block| Rule::always(Method::Direct(block));
    Choices {
        rules: vec![
            Rule { writes: wide.clone(), positions: many.clone(), ..winograd(Block::LARGE) },
            Rule { positions: many.clone(), ..winograd(Block::TALL) },
            winograd(Block::SQUARE),
            // For jobs that are held to direct ones.
            Rule { reads: wide.clone(), writes: wide, positions: many.clone(), ..direct(Block::LARGE) },
            Rule { reads: 64..=usize::MAX, writes: 64..=127, positions: many, ..direct(Block::TALL) },
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Convolution, Geometry, Pass};

    #[test]
    fn software_stays_direct_and_hardware_takes_winograd_where_there_are_channels() {
        let method = |choices: &Choices, reads, writes, positions| {
            choices.method(Geometry { pass: Pass::Backward, reads, writes, positions })
        };
        let (software, hardware) = (supposed("software", None), supposed("discrete", None));
        assert_eq!(method(&software, 256, 256, 1 << 20), Method::Direct(Block::SQUARE));
        for (reads, writes, positions, expected) in [
            (4, 64, 1 << 20, Method::Direct(Block::SHALLOW)),
            (64, 4, 1 << 20, Method::Direct(Block::THIN)),
            (64, 64, 1 << 20, Method::Winograd(Block::TALL)),
            (128, 64, 1 << 18, Method::Winograd(Block::TALL)),
            (64, 128, 1 << 18, Method::Winograd(Block::LARGE)),
            (512, 512, 28 * 28, Method::Winograd(Block::SQUARE)),
        ] {
            assert_eq!(method(&hardware, reads, writes, positions), expected, "{reads} to {writes}");
        }
        // Matrix units are for halves, which nobody has transforms of.
        let units = Matrices { edge: 16, subgroup: 32 };
        let (with, of) = (supposed("discrete", Some(units)), |reads, writes| Geometry {
            pass: Pass::Forward,
            reads,
            writes,
            positions: 1 << 20,
        });
        assert_eq!(with.method_of_halves(of(64, 128)), Method::Cooperative(units));
        assert_eq!(with.method_of_halves(of(8, 64)), Method::Direct(Block::SQUARE));
        assert_eq!(hardware.method_of_halves(of(128, 128)), Method::Direct(Block::LARGE));
        assert_eq!(with.method(of(64, 64)), hardware.method(of(64, 64)));
        let direct = hardware.held_to(Convolution::Direct);
        assert_eq!(method(&direct, 256, 256, 1 << 20), Method::Direct(Block::LARGE));
        assert_eq!(method(&direct, 64, 64, 1 << 20), Method::Direct(Block::TALL));
        assert_eq!(method(&direct, 64, 4, 1 << 20), Method::Direct(Block::THIN));
        assert_eq!(method(&direct, 512, 512, 1 << 10), Method::Direct(Block::SQUARE));
    }
}
