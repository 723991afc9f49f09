//! What the decoders find in a file, before it is made RGB.

use std::io::Cursor;

use image::error::{DecodingError, LimitError, LimitErrorKind, UnsupportedError, UnsupportedErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbaImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{MAX_DECODED_BYTES, MAX_SIDE, tiff};

/// A picture as its file has it, turned upright.
pub(super) struct Samples {
    pub(super) image: DynamicImage,
    /// Four channels are cyan, magenta, yellow and black, 0 for no ink, rather than RGB and alpha.
    pub(super) inks: bool,
    /// The colours have been multiplied with alpha.
    pub(super) premultiplied: bool,
    /// An ICC profile.
    pub(super) profile: Option<Vec<u8>>,
}

/// Why a picture could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    Image(ImageError),
    Empty,
    TooLarge([u32; 2]),
}

impl From<ImageError> for Fault {
    fn from(error: ImageError) -> Fault {
        Fault::Image(error)
    }
}

/// A damaged file.
pub(super) fn damaged(format: ImageFormat, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImageError {
    ImageError::Decoding(DecodingError::new(format.into(), error))
}

/// A file that needs what the decoder lacks.
pub(super) fn unsupported(format: ImageFormat, what: String) -> ImageError {
    let kind = UnsupportedErrorKind::GenericFeature(what);
    ImageError::Unsupported(UnsupportedError::from_format_and_kind(format.into(), kind))
}

/// A file that needs more memory than it may have.
pub(super) fn over_limit() -> ImageError {
    ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
}

/// Bytes that a decoder may take for so many pixels.
pub(super) fn room(max_pixels: u64) -> u64 {
    max_pixels.saturating_mul(12).max(MAX_DECODED_BYTES)
}

/// Refuses a size before anything is decoded; `bytes` is what the samples will take.
pub(super) fn check_size([width, height]: [u32; 2], bytes: u64, max_pixels: u64) -> Result<(), Fault> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Fault::Empty);
    }
    // Floats with alpha take 16 bytes a pixel on the way to 12.
    if pixels > max_pixels || bytes / 16 > max_pixels || width.max(height) > MAX_SIDE {
        return Err(Fault::TooLarge([width, height]));
    }
    Ok(())
}

impl Samples {
    /// Decodes a file of this format, of at most so many pixels.
    pub(super) fn read(bytes: &[u8], format: ImageFormat, max_pixels: u64) -> Result<Samples, Fault> {
        match format {
            ImageFormat::Tiff => return tiff::read(bytes, max_pixels),
            ImageFormat::Jpeg => {
                if let Some(samples) = jpeg_of_inks(bytes, max_pixels)? {
                    return Ok(samples);
                }
            }
            _ => {}
        }
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(room(max_pixels));
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits);
        let mut decoder = reader.into_decoder()?;
        check_size(decoder.dimensions().into(), decoder.total_bytes(), max_pixels)?;
        // Damaged EXIF data is no reason to refuse a picture.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let profile = decoder.icc_profile().unwrap_or(None);
        let mut image = DynamicImage::from_decoder(decoder)?;
        image.apply_orientation(orientation);
        Ok(Samples { image, inks: false, premultiplied: false, profile })
    }
}

/// A JPEG of four components: CMYK, or YCCK, whose first three are those of cyan, magenta and yellow. `None` for others.
///
/// All four are stored inverted, as every program has written them since the first one did, with or without its marker.
fn jpeg_of_inks(bytes: &[u8], max_pixels: u64) -> Result<Option<Samples>, Fault> {
    let fail = |error: zune_jpeg::errors::DecodeErrors| damaged(ImageFormat::Jpeg, error);
    // Sizes are checked here.
    let options = DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    // What is damaged here is damaged for the other decoder too, and that one says it better.
    let (Ok(()), Some(info)) = (decoder.decode_headers(), decoder.info()) else { return Ok(None) };
    if info.components != 4 {
        return Ok(None);
    }
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    check_size([width, height], u64::from(width) * u64::from(height) * 4, max_pixels)?;
    let luma = decoder.input_colorspace() == Some(ColorSpace::YCCK);
    let space = if luma { ColorSpace::YCCK } else { ColorSpace::CMYK };
    let profile = decoder.icc_profile();
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let mut values = decoder.decode().map_err(fail)?;
    for pixel in values.as_chunks_mut::<4>().0 {
        let [y, cb, cr, black] = *pixel;
        let inks = if luma {
            // JFIF's YCbCr gives the ink itself: two inversions.
            let [y, cb, cr] = [f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0];
            [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|v| v.round() as u8)
        } else {
            [y, cb, cr].map(|v| 255 - v)
        };
        *pixel = [inks[0], inks[1], inks[2], 255 - black];
    }
    let Some(inks) = RgbaImage::from_raw(width, height, values) else {
        return Err(damaged(ImageFormat::Jpeg, "fewer samples than its size says").into());
    };
    let mut image = DynamicImage::ImageRgba8(inks);
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(Some(Samples { image, inks: true, premultiplied: false, profile }))
}
