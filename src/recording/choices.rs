//! How convolutions are computed: a method for each, chosen by its geometry.
//!
//! Choices are plain data: a backend says them ([`Backend::choices`](super::Backend::choices)), a plan asks them once for
//! every convolution and pass, and whoever measures a device puts what it found before the rules that are there.

use std::fmt;
use std::ops::RangeInclusive;

/// Which way a convolution goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// To the activations.
    Forward,
    /// Back to the gradient of its input.
    Backward,
}

/// What a convolution is chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Which way it goes.
    pub pass: Pass,
    /// Channels that it reads, padded: Ci, on the way back Co.
    pub reads: usize,
    /// Channels that it writes, padded: Co, on the way back Ci.
    pub writes: usize,
    /// Positions of the whole picture's map, also where that is computed in tiles: tiled and whole then agree.
    pub positions: usize,
}

/// What a workgroup of a matrix product in registers computes: 8x8 outputs a thread. A kernel's override constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// Rows: pixels, or Winograd's tiles. A multiple of 8.
    pub rows: u32,
    /// Columns: channels that are written. A multiple of 8.
    pub columns: u32,
    /// Channels that are read in one step, a multiple of 4.
    pub depth: u32,
}

impl Block {
    /// 64 threads: many workgroups, where maps are small.
    pub const SQUARE: Block = Block::new(64, 64, 16);
    /// The same for the picture's four channels, which a deeper step would pad with zeros.
    pub const SHALLOW: Block = Block::new(64, 64, 4);
    /// 32 threads for few columns: the gradient of the picture.
    pub const THIN: Block = Block::new(256, 8, 8);
    /// 256 threads: each value that is fetched is used 128 times.
    pub const LARGE: Block = Block::new(128, 128, 8);
    /// 128 threads.
    pub const TALL: Block = Block::new(128, 64, 16);
    /// 128 threads.
    pub const WIDE: Block = Block::new(64, 128, 16);
    /// Every one: each is launched by a test, and within 16 KiB of workgroup memory and 256 threads.
    pub const ALL: [Block; 6] = [Block::SQUARE, Block::SHALLOW, Block::THIN, Block::LARGE, Block::TALL, Block::WIDE];

    const fn new(rows: u32, columns: u32, depth: u32) -> Block {
        Block { rows, columns, depth }
    }

    /// What suits so many channels where nothing else is known.
    pub fn usual(reads: usize, writes: usize) -> Block {
        match () {
            () if writes <= 8 => Block::THIN,
            () if reads <= 4 => Block::SHALLOW,
            () => Block::SQUARE,
        }
    }
}

/// One of several ways to compute a convolution. They agree up to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// One product with the picture's taps as rows, gathered on the way. All blocks give the same bits.
    Direct(Block),
    /// Of halves, by the device's matrix units. Sums are single, in another order than a direct one's.
    Cooperative(Matrices),
}

/// Matrix units, which multiply halves and add up in single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrices {
    /// Rows and columns of a matrix: 16 or 8.
    pub edge: u32,
    /// Threads of a subgroup, which multiply two together.
    pub subgroup: u32,
}

impl Matrices {
    /// Whether the shaders take so many channels.
    pub fn suit(reads: usize, writes: usize) -> bool {
        reads.is_multiple_of(32) && writes.is_multiple_of(64)
    }
}

impl Method {
    /// Whether there is such a convolution of maps in half precision.
    pub fn takes_halves(self, of: Geometry) -> bool {
        match self {
            Method::Direct(_) => true,
            Method::Cooperative(_) => Matrices::suit(of.reads, of.writes),
        }
    }

    /// Whether there is one of maps in single precision.
    pub fn takes_singles(self) -> bool {
        !matches!(self, Method::Cooperative(_))
    }
}

/// A method, and the convolutions that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which way; `None` is both.
    pub pass: Option<Pass>,
    /// Channels read.
    pub reads: RangeInclusive<usize>,
    /// Channels written.
    pub writes: RangeInclusive<usize>,
    /// Positions of the whole picture's map.
    pub positions: RangeInclusive<usize>,
    /// What fits in all of these is computed so.
    pub method: Method,
}

impl Rule {
    /// For every convolution.
    pub fn always(method: Method) -> Rule {
        let any = || 0..=usize::MAX;
        Rule { pass: None, reads: any(), writes: any(), positions: any(), method }
    }

    fn fits(&self, of: Geometry) -> bool {
        self.pass.is_none_or(|pass| pass == of.pass)
            && self.reads.contains(&of.reads)
            && self.writes.contains(&of.writes)
            && self.positions.contains(&of.positions)
    }
}

/// The convolutions that a job may be held to: to compare them, or where rounding matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Convolution {
    /// What the device's choices say.
    #[default]
    Auto,
    /// Direct ones only: the closest rounding.
    Direct,
}

/// A method for every convolution. By default direct ones with the usual blocks, which says nothing to the CPU engine: its
/// twins choose for themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// The first that fits decides.
    pub rules: Vec<Rule>,
}

impl Choices {
    /// How a convolution is computed.
    pub fn method(&self, of: Geometry) -> Method {
        let usual = Method::Direct(Block::usual(of.reads, of.writes));
        let found = self.rules.iter().find(|rule| rule.fits(of) && rule.method.takes_singles());
        found.map_or(usual, |rule| rule.method)
    }

    /// How a convolution of maps in half precision is computed.
    pub fn method_of_halves(&self, of: Geometry) -> Method {
        let usual = Method::Direct(Block::usual(of.reads, of.writes));
        let found = self.rules.iter().find(|rule| rule.fits(of) && rule.method.takes_halves(of));
        found.map_or(usual, |rule| rule.method)
    }

    /// Puts a rule before all others: what was measured goes before what was supposed.
    pub fn prefer(&mut self, rule: Rule) {
        self.rules.insert(0, rule);
    }

    /// What is left of them for a job that is held to some.
    pub fn held_to(mut self, wish: Convolution) -> Choices {
        match wish {
            Convolution::Auto => {}
            Convolution::Direct => self.rules.retain(|rule| matches!(rule.method, Method::Direct(_))),
        }
        self
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.rows, self.columns, self.depth)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::Direct(block) => write!(f, "direct {block}"),
            Method::Cooperative(Matrices { edge, .. }) => write!(f, "matrix units of {edge}x{edge}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(reads: usize, writes: usize, positions: usize) -> Geometry {
        Geometry { pass: Pass::Forward, reads, writes, positions }
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_without_one_the_usual_block() {
        let mut choices = Choices::default();
        let direct = |block| Method::Direct(block);
        assert_eq!(choices.method(geometry(64, 64, 100)), direct(Block::SQUARE));
        assert_eq!(choices.method(geometry(64, 4, 100)), direct(Block::THIN));
        assert_eq!(choices.method(geometry(4, 64, 100)), direct(Block::SHALLOW));
        choices.prefer(Rule { reads: 64..=usize::MAX, ..Rule::always(direct(Block::LARGE)) });
        choices.prefer(Rule { positions: 0..=99, pass: Some(Pass::Forward), ..Rule::always(direct(Block::TALL)) });
        assert_eq!(choices.method(geometry(64, 64, 100)), direct(Block::LARGE));
        assert_eq!(choices.method(geometry(60, 64, 100)), direct(Block::SQUARE));
        assert_eq!(choices.method(geometry(64, 64, 99)), direct(Block::TALL));
        let back = Geometry { pass: Pass::Backward, ..geometry(64, 64, 99) };
        assert_eq!(choices.method(back), direct(Block::LARGE));
    }
}
