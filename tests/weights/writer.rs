//! A writer of MAT v5, after MathWorks' description of the format and not after the reader.

use std::io::Write as _;

use flate2::{Compression, write::ZlibEncoder};
use impasto::weights::VGG19;

/// How to write a file; `Default` is little-endian, inflated, singles, chars as UTF-8, the later layout.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Style {
    pub(super) big: bool,
    pub(super) compressed: bool,
    pub(super) beta16: bool,
    pub(super) doubles: bool,
    pub(super) utf16: bool,
}

pub(super) const CELL: u32 = 1;
pub(super) const STRUCT: u32 = 2;
const CHAR: u32 = 4;
const DOUBLE: u32 = 6;
pub(super) const SINGLE: u32 = 7;
const UINT8: u32 = 9;

impl Style {
    pub(super) fn all() -> impl Iterator<Item = Style> {
        (0..32).map(|n| Style {
            big: n & 1 > 0,
            compressed: n & 2 > 0,
            beta16: n & 4 > 0,
            doubles: n & 8 > 0,
            utf16: n & 16 > 0,
        })
    }

    fn number(self, little_endian: &[u8]) -> Vec<u8> {
        let mut bytes = little_endian.to_vec();
        if self.big {
            bytes.reverse();
        }
        bytes
    }

    pub(super) fn word(self, value: u32) -> Vec<u8> {
        self.number(&value.to_le_bytes())
    }

    pub(super) fn tag(self, kind: u32, size: usize) -> Vec<u8> {
        [self.word(kind), self.word(size as u32)].concat()
    }

    pub(super) fn element(self, kind: u32, data: &[u8]) -> Vec<u8> {
        let small = (1..=4).contains(&data.len());
        let mut bytes = if small { self.word((data.len() as u32) << 16 | kind) } else { self.tag(kind, data.len()) };
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn words(self, values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|&v| self.word(v)).collect()
    }

    pub(super) fn array(self, class: u32, shape: &[u32], name: &str, body: &[u8]) -> Vec<u8> {
        let bytes = [
            self.tag(6, 8),
            self.words(&[class, 0]),
            self.element(5, &self.words(shape)),
            self.element(1, name.as_bytes()),
            body.to_vec(),
        ]
        .concat();
        [self.tag(14, bytes.len()), bytes].concat()
    }

    fn fields(self, name: &str, fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let names: Vec<u8> = fields
            .iter()
            .flat_map(|(name, _)| {
                let mut name = name.as_bytes().to_vec();
                name.resize(32, 0);
                name
            })
            .collect();
        let mut body = [self.element(5, &self.word(32)), self.element(1, &names)].concat();
        body.extend(fields.iter().flat_map(|(_, value)| value.clone()));
        self.array(STRUCT, &[1, 1], name, &body)
    }

    fn text(self, text: &str) -> Vec<u8> {
        let data = if self.utf16 {
            let unit = |u: u16| self.number(&u.to_le_bytes());
            self.element(17, &text.encode_utf16().flat_map(unit).collect::<Vec<_>>())
        } else {
            self.element(16, text.as_bytes())
        };
        self.array(CHAR, &[1, text.len() as u32], "", &data)
    }

    pub(super) fn numbers(self, shape: &[u32], values: &[f32]) -> Vec<u8> {
        let data = if self.doubles {
            let bytes = |&v: &f32| self.number(&f64::from(v).to_le_bytes());
            self.element(9, &values.iter().flat_map(bytes).collect::<Vec<_>>())
        } else {
            let bytes = |v: &f32| self.number(&v.to_le_bytes());
            self.element(7, &values.iter().flat_map(bytes).collect::<Vec<_>>())
        };
        self.array(if self.doubles { DOUBLE } else { SINGLE }, shape, "", &data)
    }

    /// A convolution of VGG-19 with kernel values from `value(row, column, input, output)`.
    pub(super) fn conv(self, index: usize, value: impl Fn(usize, usize, usize, usize) -> f32) -> Vec<u8> {
        let (name, ci, co) = VGG19[index];
        let kernel: Vec<f32> = (0..9 * ci * co).map(|k| value(k % 3, k / 3 % 3, k / 9 % ci, k / 9 / ci)).collect();
        let bias: Vec<f32> = (0..co).map(|c| c as f32 - 7.5).collect();
        let shape = [1, co as u32];
        let shape = if self.beta16 { shape } else { [shape[1], shape[0]] };
        let parts = [self.numbers(&[3, 3, ci as u32, co as u32], &kernel), self.numbers(&shape, &bias)];
        self.layer(name, "conv", self.array(CELL, &[1, 2], "", &parts.concat()))
    }

    pub(super) fn layer(self, name: &str, kind: &str, weights: Vec<u8>) -> Vec<u8> {
        // MATLAB stores doubles that are small integers as bytes.
        let pad = self.array(DOUBLE, &[1, 4], "", &self.element(2, &[1, 1, 1, 1]));
        let (name, kind) = (self.text(name), self.text(kind));
        if self.beta16 {
            self.fields("", &[("weights", weights), ("pad", pad), ("type", kind), ("name", name)])
        } else {
            let logical = [
                self.tag(6, 8),
                self.words(&[0x200 | UINT8, 0]),
                self.element(5, &self.words(&[1, 1])),
                self.element(1, b""),
                self.element(2, &[0]),
            ]
            .concat();
            let logical = [self.tag(14, logical.len()), logical].concat();
            let opts = self.array(CELL, &[0, 0], "", &[]);
            self.fields(
                "",
                &[
                    ("name", name),
                    ("type", kind),
                    ("weights", weights),
                    ("pad", pad),
                    ("precious", logical),
                    ("leak", self.tag(14, 0)),
                    ("opts", opts),
                ],
            )
        }
    }

    pub(super) fn layers(self, layers: &[Vec<u8>]) -> Vec<u8> {
        self.array(CELL, &[1, layers.len() as u32], "layers", &layers.concat())
    }

    /// Mean colour 10, 20, 30; as bytes in an array of doubles.
    pub(super) fn mean(self) -> Vec<u8> {
        if self.beta16 {
            let image = self.element(2, &[9, 11, 10, 10, 20, 20, 19, 21, 30, 30, 30, 30]);
            let image = self.array(DOUBLE, &[2, 2, 3], "", &image);
            self.fields("normalization", &[("averageImage", image)])
        } else {
            let image = self.array(DOUBLE, &[1, 1, 3], "", &self.element(2, &[10, 20, 30]));
            let inner = self.fields("", &[("border", self.text("none")), ("averageImage", image)]);
            self.fields("meta", &[("classes", self.text("?")), ("normalization", inner)])
        }
    }

    pub(super) fn file(self, variables: &[Vec<u8>]) -> Vec<u8> {
        let mut file = format!("{:124}", "MATLAB 5.0 MAT-file").into_bytes();
        file.extend(if self.big { b"\x01\x00MI" } else { b"\x00\x01IM" });
        for variable in variables {
            if self.compressed {
                let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
                zlib.write_all(variable).unwrap();
                let data = zlib.finish().unwrap();
                file.extend(self.tag(15, data.len()));
                file.extend(data);
            } else {
                file.extend(variable);
            }
        }
        file
    }

    /// conv1_1, a relu without weights, the mean.
    pub(super) fn sample(self) -> Vec<u8> {
        let relu = self.layer("relu1_1", "relu", self.array(CELL, &[0, 0], "", &[]));
        self.file(&[self.layers(&[self.conv(0, value), relu]), self.mean()])
    }
}

/// A value that tells its place.
pub(super) fn value(i: usize, j: usize, ci: usize, co: usize) -> f32 {
    (i * 1000 + j * 100 + ci * 10) as f32 + co as f32 / 64.0 + 0.5
}
