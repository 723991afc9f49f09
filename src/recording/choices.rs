//! How convolutions are computed: a method for each, chosen by its geometry.
//!
//! Choices are plain data: a backend says them ([`Backend::choices`](super::Backend::choices)), a plan asks them once for
//! every convolution and pass, and whoever measures a device puts what it found before the rules that are there.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use sha2::{Digest, Sha256};

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
    /// F(4x4, 3x3): a quarter of the multiplications in as many products as a transformed tile has positions, 36, each in
    /// such blocks; rounding grows to about 1e-5 of the values. Blocks make no difference to the bits. Not of halves.
    Winograd(Block),
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
            Method::Winograd(_) => false,
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

    /// For every convolution with channels enough for Winograd's transforms to be worth their while.
    pub fn winograd(method: Method) -> Rule {
        let channels = || WINOGRAD_CHANNELS..=usize::MAX;
        Rule { reads: channels(), writes: channels(), ..Rule::always(method) }
    }

    fn fits(&self, of: Geometry) -> bool {
        self.pass.is_none_or(|pass| pass == of.pass)
            && self.reads.contains(&of.reads)
            && self.writes.contains(&of.writes)
            && self.positions.contains(&of.positions)
    }
}

/// Least channels, read and written, that Winograd's transforms are taken for: their time goes with the sum of the two, what
/// they save with the product.
const WINOGRAD_CHANNELS: usize = 64;

/// The convolutions that a job may be held to: to compare them, or where rounding matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Convolution {
    /// What the device's choices say.
    #[default]
    Auto,
    /// Direct ones only: the closest rounding.
    Direct,
    /// Winograd's transforms wherever 64 channels or more are read and written.
    Winograd,
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

    /// The matrix units that they use.
    pub fn matrices(&self) -> Option<Matrices> {
        self.rules.iter().find_map(|rule| if let Method::Cooperative(units) = rule.method { Some(units) } else { None })
    }

    /// A digest of them all: with other choices the last bits of a result are others.
    pub fn digest(&self) -> String {
        if self.rules.is_empty() {
            return "plain".into();
        }
        let mut hash = Sha256::new();
        for Rule { pass, reads, writes, positions, method } in &self.rules {
            hash.update(format!("{pass:?} {reads:?} {writes:?} {positions:?} {method}\n"));
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
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
            Convolution::Winograd => {
                self.rules.retain(|rule| matches!(rule.method, Method::Winograd(_)));
                self.rules.push(Rule::winograd(Method::Winograd(Block::SQUARE)));
            }
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
            Method::Winograd(block) => write!(f, "winograd {block}"),
            Method::Cooperative(units) => write!(f, "cooperative {units}"),
        }
    }
}

impl fmt::Display for Matrices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{0}x{0} by {1}", self.edge, self.subgroup)
    }
}

impl FromStr for Method {
    type Err = String;

    /// Reads what [`fmt::Display`] writes, if its block is one of [`Block::ALL`] and its matrix units can be.
    fn from_str(text: &str) -> Result<Method, String> {
        let unknown = || format!("`{text}` is no method of convolution");
        let (name, of) = text.split_once(' ').ok_or_else(unknown)?;
        let block = || Block::ALL.into_iter().find(|known| known.to_string() == of).ok_or_else(unknown);
        let units = || [8, 16].into_iter().flat_map(|edge| [8, 16, 32, 64].map(|subgroup| Matrices { edge, subgroup }));
        match name {
            "direct" => Ok(Method::Direct(block()?)),
            "winograd" => Ok(Method::Winograd(block()?)),
            "cooperative" => units().find(|known| known.to_string() == of).map(Method::Cooperative).ok_or_else(unknown),
            _ => Err(unknown()),
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
    fn a_method_that_is_written_down_is_read_again() {
        let units = [(8, 32), (16, 32), (16, 64)].map(|(edge, subgroup)| Matrices { edge, subgroup });
        let blocks = Block::ALL.into_iter().flat_map(|block| [Method::Direct(block), Method::Winograd(block)]);
        for method in blocks.chain(units.map(Method::Cooperative)) {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        for bad in [
            "",
            "direct",
            "direct 64x64",
            "direct 64x64x17",
            "fft 64x64x16",
            "direct  64x64x16",
            "cooperative 4x4 by 32",
        ] {
            assert!(bad.parse::<Method>().is_err(), "{bad}");
        }
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
        let others = [Choices::default(), choices.clone().held_to(Convolution::Winograd), choices.clone()];
        let digests = others.map(|choices| choices.digest());
        assert!(digests[0] == "plain" && digests[1] != digests[2] && digests[2].len() == 16, "{digests:?}");
        let winograd = choices.clone().held_to(Convolution::Winograd);
        assert_eq!(winograd.method(back), Method::Winograd(Block::SQUARE));
        assert_eq!(winograd.method(geometry(4, 64, 99)), direct(Block::SHALLOW));
        assert_eq!(winograd.held_to(Convolution::Direct), Choices::default());
        assert_eq!(choices.clone().held_to(Convolution::Direct), choices);
    }

    #[test]
    fn halves_pass_over_winograd_and_singles_over_matrix_units() {
        let cooperative = Method::Cooperative(Matrices { edge: 16, subgroup: 32 });
        let winograd = Method::Winograd(Block::LARGE);
        let rules = [cooperative, winograd, Method::Direct(Block::TALL)].map(Rule::always).into();
        let mut choices = Choices { rules };
        assert_eq!(choices.method(geometry(64, 64, 100)), winograd);
        assert_eq!(choices.method_of_halves(geometry(64, 64, 100)), cooperative);
        // No channels for the matrix units.
        assert_eq!(choices.method_of_halves(geometry(8, 64, 100)), Method::Direct(Block::TALL));
        choices.rules.retain(|rule| rule.method == winograd);
        assert_eq!(choices.method_of_halves(geometry(64, 64, 100)), Method::Direct(Block::SQUARE));
    }
}
