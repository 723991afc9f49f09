//! TIFF, read with the `tiff` crate itself: `image` has no grey with alpha, no float grey, and no inks.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, ImageFormat, Pixel};
use tiff::decoder::{BufferLayoutPreference, Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::samples::{Fault, Samples, check_size, damaged, over_limit, room, unsupported};

fn fault(error: TiffError) -> Fault {
    let format = ImageFormat::Tiff;
    Fault::Image(match error {
        TiffError::IoError(error) => error.into(),
        TiffError::UnsupportedError(error) => unsupported(format, error.to_string()),
        TiffError::LimitsExceeded => over_limit(),
        error => damaged(format, error),
    })
}

/// Reads the first picture of a TIFF of at most so many pixels.
pub(super) fn read(bytes: &[u8], max_pixels: u64) -> Result<Samples, Fault> {
    let mut limits = Limits::default();
    let most = usize::try_from(room(max_pixels)).unwrap_or(usize::MAX);
    (limits.decoding_buffer_size, limits.intermediate_buffer_size, limits.ifd_value_size) = (most, most, most);
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(fault)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(fault)?;
    let color = decoder.colortype().map_err(fault)?;
    let sample_bytes = u64::from(color.bit_depth().div_ceil(8)) * u64::from(color.num_samples());
    check_size([width, height], u64::from(width) * u64::from(height) * sample_bytes, max_pixels)?;
    // Tags that are damaged are no reason to refuse a picture.
    let profile = decoder.get_tag_u8_vec(Tag::IccProfile).ok();
    let orientation = decoder.find_tag_unsigned::<u8>(Tag::Orientation).ok().flatten();
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten().unwrap_or_default();
    let extra = extra.first().copied();
    let mut found = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut found).map_err(fault)?;
    if found.as_buffer(0).as_bytes().len() < layout.complete_len {
        return Err(over_limit().into());
    }
    let shape = Shape {
        size: [width, height],
        stored: color.num_samples().into(),
        used: match color {
            ColorType::Gray(_) => 1,
            ColorType::GrayA(_) => 2,
            ColorType::RGB(_) => 3,
            ColorType::RGBA(_) | ColorType::CMYK(_) => 4,
            // Grey and further planes, of which the first may be alpha.
            ColorType::Multiband { .. } => {
                if matches!(extra, Some(1 | 2)) {
                    2
                } else {
                    1
                }
            }
            other => return Err(unsupported(ImageFormat::Tiff, format!("{other:?}")).into()),
        },
        layout,
    };
    let bits = color.bit_depth();
    let image = match found {
        DecodingResult::U8(packed) if bits < 8 => shape.whole(&unpacked(&packed, width, bits, shape.used)?),
        DecodingResult::U8(values) => shape.whole(&values),
        DecodingResult::U16(values) => shape.words(&values),
        DecodingResult::U32(values) => shape.words(&values.iter().map(|v| (v >> 16) as u16).collect::<Vec<_>>()),
        DecodingResult::F16(values) => shape.floats(values.iter().map(|v| v.to_f32()).collect()),
        DecodingResult::F32(values) => shape.floats(values),
        DecodingResult::F64(values) => shape.floats(values.iter().map(|v| *v as f32).collect()),
        _ => return Err(unsupported(ImageFormat::Tiff, format!("{bits}-bit samples of this kind")).into()),
    };
    let mut image = image.ok_or_else(|| damaged(ImageFormat::Tiff, "fewer samples than its size says"))?;
    image.apply_orientation(orientation.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms));
    let inks = matches!(color, ColorType::CMYK(_));
    Ok(Samples { image, inks, premultiplied: extra == Some(1) && !inks, profile })
}

/// Grey of 1, 2 or 4 bits, rows padded to bytes, as 8 bits.
fn unpacked(packed: &[u8], width: u32, bits: u8, channels: usize) -> Result<Vec<u8>, Fault> {
    if channels != 1 || ![1, 2, 4].contains(&bits) {
        return Err(unsupported(ImageFormat::Tiff, format!("{bits}-bit samples in {channels} channels")).into());
    }
    let (width, each) = (width as usize, usize::from(8 / bits));
    let most = (1u8 << bits) - 1;
    let row = |row: &[u8]| -> Vec<u8> {
        let sample = |x: usize| row[x / each] >> (8 - usize::from(bits) * (x % each + 1)) & most;
        (0..width.min(row.len() * each)).map(|x| sample(x) * (255 / most)).collect()
    };
    Ok(packed.chunks(width.div_ceil(each).max(1)).flat_map(row).collect())
}

/// How the samples lie.
struct Shape {
    size: [u32; 2],
    /// Channels in the file.
    stored: usize,
    /// Those of them that make the picture, which are the first.
    used: usize,
    layout: BufferLayoutPreference,
}

impl Shape {
    /// The channels that are used, interleaved.
    fn interleaved<T: Copy>(&self, values: &[T]) -> Vec<T> {
        if self.layout.planes > 1 {
            let plane = self.layout.plane_stride.map_or(0, |bytes| bytes.get()) / size_of::<T>();
            let pixels = self.size[0] as usize * self.size[1] as usize;
            let sample = |at: usize| values.get(at % self.used * plane + at / self.used);
            return (0..pixels * self.used).map_while(sample).copied().collect();
        }
        values.chunks_exact(self.stored).flat_map(|pixel| &pixel[..self.used.min(pixel.len())]).copied().collect()
    }

    fn buffer<P: Pixel>(&self, values: Vec<P::Subpixel>) -> Option<ImageBuffer<P, Vec<P::Subpixel>>> {
        ImageBuffer::from_raw(self.size[0], self.size[1], values)
    }

    fn whole(&self, values: &[u8]) -> Option<DynamicImage> {
        let values = self.interleaved(values);
        Some(match self.used {
            1 => DynamicImage::ImageLuma8(self.buffer(values)?),
            2 => DynamicImage::ImageLumaA8(self.buffer(values)?),
            3 => DynamicImage::ImageRgb8(self.buffer(values)?),
            _ => DynamicImage::ImageRgba8(self.buffer(values)?),
        })
    }

    fn words(&self, values: &[u16]) -> Option<DynamicImage> {
        let values = self.interleaved(values);
        Some(match self.used {
            1 => DynamicImage::ImageLuma16(self.buffer(values)?),
            2 => DynamicImage::ImageLumaA16(self.buffer(values)?),
            3 => DynamicImage::ImageRgb16(self.buffer(values)?),
            _ => DynamicImage::ImageRgba16(self.buffer(values)?),
        })
    }

    /// Grey becomes RGB, since `image` has no grey of this kind.
    fn floats(&self, values: Vec<f32>) -> Option<DynamicImage> {
        let values = self.interleaved(&values);
        Some(match self.used {
            1 => DynamicImage::ImageRgb32F(self.buffer(values.iter().flat_map(|v| [*v; 3]).collect())?),
            2 => {
                let wide = |pixel: &[f32; 2]| [pixel[0], pixel[0], pixel[0], pixel[1]];
                DynamicImage::ImageRgba32F(self.buffer(values.as_chunks().0.iter().flat_map(wide).collect())?)
            }
            3 => DynamicImage::ImageRgb32F(self.buffer(values)?),
            _ => DynamicImage::ImageRgba32F(self.buffer(values)?),
        })
    }
}
