//! Picture files written by hand, so that what is in them is known to the bit: no encoder has a say.

use std::io::Write;

/// PNG: `kind` is the colour type, `raw` the samples, packed, row by row without filter bytes.
pub(crate) struct Png {
    pub(crate) size: [u32; 2],
    pub(crate) depth: u8,
    pub(crate) kind: u8,
    pub(crate) raw: Vec<u8>,
    /// Chunks before the data.
    pub(crate) before: Vec<([u8; 4], Vec<u8>)>,
    /// Chunks after it.
    pub(crate) after: Vec<([u8; 4], Vec<u8>)>,
}

impl Png {
    pub(crate) fn new(size: [u32; 2], depth: u8, kind: u8, raw: Vec<u8>) -> Png {
        Png { size, depth, kind, raw, before: Vec::new(), after: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &[u8; 4], data: impl Into<Vec<u8>>) -> Png {
        self.before.push((*name, data.into()));
        self
    }

    /// An iCCP chunk.
    pub(crate) fn profile(self, profile: &[u8]) -> Png {
        self.with(b"iCCP", [b"made here\0\0".to_vec(), deflated(profile)].concat())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
        let [width, height] = self.size.map(u32::to_be_bytes);
        chunk(&mut out, b"IHDR", &[&width[..], &height, &[self.depth, self.kind, 0, 0, 0]].concat());
        self.before.iter().for_each(|(name, data)| chunk(&mut out, name, data));
        chunk(&mut out, b"IDAT", &self.data());
        self.after.iter().for_each(|(name, data)| chunk(&mut out, name, data));
        chunk(&mut out, b"IEND", &[]);
        out
    }

    /// The size that it says, with the data of a small picture.
    pub(crate) fn bomb(self) -> Vec<u8> {
        let mut bytes = Png::new([6, 4], 8, 6, self.raw).bytes();
        let [width, height] = self.size.map(u32::to_be_bytes);
        let mut header = Vec::new();
        chunk(&mut header, b"IHDR", &[&width[..], &height, &[8, 6, 0, 0, 0]].concat());
        bytes.splice(8..8 + 25, header);
        bytes
    }

    /// The samples as an IDAT chunk has them.
    pub(crate) fn data(&self) -> Vec<u8> {
        let row = self.raw.len() / self.size[1] as usize;
        deflated(&self.raw.chunks(row).flat_map(|row| [&[0], row].concat()).collect::<Vec<u8>>())
    }
}

pub(crate) fn chunk(out: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    out.extend((data.len() as u32).to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(data);
    out.extend(name);
    out.extend(data);
    out.extend(crc.sum().to_be_bytes());
}

pub(crate) fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A TIFF block as EXIF has it, with an orientation, in either byte order.
pub(crate) fn exif(orientation: u16, little: bool) -> Vec<u8> {
    let mut tiff = Tiff { little, tags: vec![(274, vec![orientation.into()], 3)], ..Tiff::default() };
    tiff.strips.clear();
    tiff.bytes()
}

/// TIFF with the tags that are given, values of 16 bits (type 3), 32 bits (4) or bytes (7).
#[derive(Default)]
pub(crate) struct Tiff {
    pub(crate) little: bool,
    /// Number, values, type.
    pub(crate) tags: Vec<(u16, Vec<u32>, u16)>,
    /// Sample data; its offsets and lengths are added to the tags.
    pub(crate) strips: Vec<Vec<u8>>,
}

impl Tiff {
    /// `samples` of `bits` each in `channels`; `photometric` as the standard numbers it.
    pub(crate) fn new(size: [u32; 2], channels: u32, bits: u32, photometric: u32, samples: Vec<u8>) -> Tiff {
        let tags = vec![
            (256, vec![size[0]], 4),
            (257, vec![size[1]], 4),
            (258, vec![bits; channels as usize], 3),
            (259, vec![1], 3),
            (262, vec![photometric], 3),
            (277, vec![channels], 3),
            (278, vec![size[1]], 4),
        ];
        Tiff { little: true, tags, strips: vec![samples] }
    }

    pub(crate) fn with(mut self, number: u16, values: &[u32], kind: u16) -> Tiff {
        self.tags.retain(|tag| tag.0 != number);
        self.tags.push((number, values.to_vec(), kind));
        self
    }

    pub(crate) fn profile(self, profile: &[u8]) -> Tiff {
        let bytes: Vec<u32> = profile.iter().map(|byte| (*byte).into()).collect();
        self.with(34675, &bytes, 7)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let two = |v: u32| if self.little { (v as u16).to_le_bytes() } else { (v as u16).to_be_bytes() };
        let four = |v: u32| if self.little { v.to_le_bytes() } else { v.to_be_bytes() };
        let mut tags = self.tags.clone();
        let mut data = Vec::new();
        let mut offsets = Vec::new();
        for strip in &self.strips {
            offsets.push(8 + data.len() as u32);
            data.extend(strip);
            data.resize(data.len().next_multiple_of(2), 0);
        }
        if !self.strips.is_empty() {
            tags.push((273, offsets, 4));
            tags.push((279, self.strips.iter().map(|strip| strip.len() as u32).collect(), 4));
        }
        tags.sort_by_key(|tag| tag.0);
        let mut directory = two(tags.len() as u32).to_vec();
        for (number, values, kind) in &tags {
            let mut field: Vec<u8> = match kind {
                3 => values.iter().flat_map(|v| two(*v)).collect(),
                7 => values.iter().map(|v| *v as u8).collect(),
                _ => values.iter().flat_map(|v| four(*v)).collect(),
            };
            directory.extend(two((*number).into()));
            directory.extend(two((*kind).into()));
            directory.extend(four(values.len() as u32));
            if field.len() > 4 {
                directory.extend(four(8 + data.len() as u32));
                data.append(&mut field);
                data.resize(data.len().next_multiple_of(2), 0);
            } else {
                field.resize(4, 0);
                directory.extend(field);
            }
        }
        directory.extend([0; 4]);
        let magic: &[u8] = if self.little { b"II*\0" } else { b"MM\0*" };
        [magic, &four(8 + data.len() as u32), &data, &directory].concat()
    }
}

/// WebP: a RIFF container of these chunks.
pub(crate) fn riff(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (name, data) in chunks {
        body.extend(*name);
        body.extend((data.len() as u32).to_le_bytes());
        body.extend(data);
        body.resize(body.len().next_multiple_of(2), 0);
    }
    [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// Three bytes, the lowest first.
pub(crate) fn three(value: u32) -> [u8; 3] {
    [value as u8, (value >> 8) as u8, (value >> 16) as u8]
}

/// A VP8X chunk. Flags: 0x20 profile, 0x10 alpha, 0x08 EXIF, 0x02 animation.
pub(crate) fn vp8x(flags: u8, [width, height]: [u32; 2]) -> Vec<u8> {
    [&[flags, 0, 0, 0][..], &three(width - 1), &three(height - 1)].concat()
}

/// The VP8L chunk's data of a lossless picture. (The one encoder in use here; what it loses, the tests would show.)
pub(crate) fn vp8l(size: [u32; 2], samples: &[u8], alpha: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let color = if alpha { image::ExtendedColorType::Rgba8 } else { image::ExtendedColorType::Rgb8 };
    image::codecs::webp::WebPEncoder::new_lossless(&mut out).encode(samples, size[0], size[1], color).unwrap();
    assert_eq!(&out[12..16], b"VP8L");
    let length = u32::from_le_bytes(out[16..20].try_into().unwrap()) as usize;
    out[20..20 + length].to_vec()
}

/// Baseline JPEG of flat 8x8 blocks: every coefficient but the mean is zero and every quantum 1, so that nothing is lost.
pub(crate) struct Jpeg {
    /// Blocks in a row, and rows of them.
    pub(crate) blocks: [usize; 2],
    /// Every block's values, one for each component.
    pub(crate) values: Vec<Vec<u8>>,
    /// Segments behind the first marker.
    pub(crate) segments: Vec<(u8, Vec<u8>)>,
}

impl Jpeg {
    pub(crate) fn new(blocks: [usize; 2], values: Vec<Vec<u8>>) -> Jpeg {
        Jpeg { blocks, values, segments: Vec::new() }
    }

    pub(crate) fn with(mut self, marker: u8, data: &[u8]) -> Jpeg {
        self.segments.push((marker, data.to_vec()));
        self
    }

    pub(crate) fn oriented(self, orientation: u16, little: bool) -> Jpeg {
        self.with(0xe1, &[b"Exif\0\0".to_vec(), exif(orientation, little)].concat())
    }

    /// Adobe's marker: 0 is RGB or CMYK, 1 YCbCr, 2 YCCK.
    pub(crate) fn adobe(self, transform: u8) -> Jpeg {
        self.with(0xee, &[b"Adobe\0d\0\0\0\0".as_slice(), &[transform]].concat())
    }

    /// A profile in so many parts.
    pub(crate) fn profile(mut self, profile: &[u8], parts: usize) -> Jpeg {
        for (i, part) in profile.chunks(profile.len().div_ceil(parts)).enumerate() {
            self = self.with(0xe2, &[b"ICC_PROFILE\0", &[i as u8 + 1, parts as u8][..], part].concat());
        }
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let components = self.values[0].len() as u8;
        let mut out = vec![0xff, 0xd8];
        let mut segment = |marker: u8, data: &[u8]| {
            out.extend([0xff, marker]);
            out.extend((data.len() as u16 + 2).to_be_bytes());
            out.extend(data);
        };
        self.segments.iter().for_each(|(marker, data)| segment(*marker, data));
        segment(0xdb, &[&[0][..], &[1; 64]].concat());
        let [width, height] = self.blocks.map(|n| (n as u16 * 8).to_be_bytes());
        let parts: Vec<u8> = (1..=components).flat_map(|id| [id, 0x11, 0]).collect();
        segment(0xc0, &[&[8], &height[..], &width, &[components], &parts].concat());
        // Means: twelve codes of four bits, which are the numbers of bits that follow. The rest: one code, the end.
        segment(0xc4, &[&[0, 0, 0, 0, 12][..], &[0; 12], &(0..12).collect::<Vec<u8>>()].concat());
        segment(0xc4, &[&[0x10, 1][..], &[0; 15], &[0]].concat());
        let parts: Vec<u8> = (1..=components).flat_map(|id| [id, 0]).collect();
        segment(0xda, &[&[components][..], &parts, &[0, 63, 0]].concat());
        let mut last = vec![0; components.into()];
        let (mut bits, mut count) = (0u64, 0);
        let mut put = |value: u64, length: u32| {
            (bits, count) = (bits << length | value, count + length);
            while count >= 8 {
                let byte = (bits >> (count - 8)) as u8;
                out.push(byte);
                if byte == 0xff {
                    out.push(0);
                }
                count -= 8;
                bits &= (1 << count) - 1;
            }
        };
        for block in &self.values {
            for (value, last) in block.iter().zip(&mut last) {
                let mean = 8 * (i32::from(*value) - 128);
                let step = mean - std::mem::replace(last, mean);
                let length = 32 - step.unsigned_abs().leading_zeros();
                put(length.into(), 4);
                put(if step < 0 { step + (1 << length) - 1 } else { step } as u64, length);
                put(0, 1);
            }
        }
        put(0x7f, 7);
        out.extend([0xff, 0xd9]);
        out
    }
}
