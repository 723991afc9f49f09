//! What is read and what is refused, and how.

use image::{ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
use impasto::picture::Picture;

use super::{FORMATS, assert_refused, assert_says, bytes_of, decode, decode_file, gradient, picture};

/// A JPEG with this EXIF orientation, little or big endian.
fn oriented(image: &image::RgbImage, orientation: u8, little: bool) -> Vec<u8> {
    let jpeg = bytes_of(image.clone(), ImageFormat::Jpeg);
    let tiff: [u8; 26] = if little {
        [b'I', b'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0]
    } else {
        [b'M', b'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0]
    };
    let mut out = jpeg[..2].to_vec();
    out.extend([0xff, 0xe1, 0, 2 + 6 + 26]);
    out.extend(b"Exif\0\0");
    out.extend(tiff);
    out.extend(&jpeg[2..]);
    out
}

#[test]
fn all_eight_orientations_are_applied() {
    // Quadrants named as stored: 0 1 / 2 3; 16x8 pixels each, so that JPEG blocks do not mix them.
    let level = [20u8, 90, 160, 230];
    let stored = ImageBuffer::from_fn(32, 16, |x, y| Rgb([level[(x / 16 + y / 8 * 2) as usize]; 3]));
    let shown = [
        [0, 1, 2, 3],
        [1, 0, 3, 2],
        [3, 2, 1, 0],
        [2, 3, 0, 1],
        [0, 2, 1, 3],
        [2, 0, 3, 1],
        [3, 1, 2, 0],
        [1, 3, 0, 2],
    ];
    for (orientation, quadrants) in (1u8..).zip(shown) {
        for little in [true, false] {
            let p = decode(&oriented(&stored, orientation, little)).unwrap();
            let size = if orientation < 5 { (32, 16) } else { (16, 32) };
            assert_eq!((p.width, p.height), size, "orientation {orientation}");
            for (i, quadrant) in quadrants.into_iter().enumerate() {
                let (x, y) = (p.width / 4 + i % 2 * p.width / 2, p.height / 4 + i / 2 * p.height / 2);
                let got = p.rgb[(y * p.width + x) * 3];
                let want = f32::from(level[quadrant]);
                assert!((got - want).abs() < 4.0, "orientation {orientation}, quadrant {i}: {got}");
            }
        }
    }
}

#[test]
fn a_senseless_orientation_is_ignored() {
    for orientation in [0, 9, 255] {
        let p = decode(&oriented(&gradient(16, 8), orientation, true)).unwrap();
        assert_eq!((p.width, p.height), (16, 8));
    }
}

#[test]
fn every_format_is_read_by_content() {
    for (name, format) in FORMATS {
        let p = decode_file(&bytes_of(gradient(17, 9), format)).unwrap();
        assert_eq!((p.width, p.height), (17, 9), "{name}");
        let tolerance = if name == "jpg" { 12.0 } else { 0.0 };
        let expected = picture(17, 9);
        for (got, want) in p.rgb.iter().zip(&expected.rgb) {
            assert!((got - want).abs() <= tolerance, "{name}: {got} for {want}");
        }
    }
}

#[test]
fn grey_becomes_rgb() {
    let image: ImageBuffer<Luma<u8>, _> = ImageBuffer::from_raw(2, 1, vec![7, 250]).unwrap();
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let p = decode(&bytes_of(image.clone(), format)).unwrap();
        assert_eq!(p.rgb, [7.0, 7.0, 7.0, 250.0, 250.0, 250.0]);
    }
}

#[test]
fn sixteen_bits_keep_their_fraction() {
    let image: ImageBuffer<Rgb<u16>, Vec<u16>> = ImageBuffer::from_raw(1, 1, vec![0, 1000, 65_535]).unwrap();
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let p = decode(&bytes_of(image.clone(), format)).unwrap();
        assert_eq!(p.rgb, [0.0, 1000.0 / 257.0, 255.0]);
    }
}

#[test]
fn float_samples_are_clipped_and_nan_is_black() {
    let samples = vec![f32::NAN, 0.5, 7.0];
    let image: ImageBuffer<Rgb<f32>, _> = ImageBuffer::from_raw(1, 1, samples).unwrap();
    let p = decode(&bytes_of(image, ImageFormat::Tiff)).unwrap();
    assert_eq!(p.rgb, [0.0, 127.5, 255.0]);
}

#[test]
fn alpha_is_flattened_over_white() {
    let samples = vec![10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 200, 51];
    let image: ImageBuffer<Rgba<u8>, _> = ImageBuffer::from_raw(3, 1, samples).unwrap();
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff] {
        let p = decode(&bytes_of(image.clone(), format)).unwrap();
        assert_eq!(p.rgb[..6], [10.0, 20.0, 30.0, 255.0, 255.0, 255.0]);
        for (got, want) in p.rgb[6..].iter().zip([204.0, 224.0, 244.0]) {
            assert!((got - want).abs() < 1e-4, "{got} for {want}");
        }
    }
    let image: ImageBuffer<LumaA<u16>, _> = ImageBuffer::from_raw(1, 1, vec![0, 0]).unwrap();
    assert_eq!(decode(&bytes_of(image, ImageFormat::Png)).unwrap().rgb, [255.0; 3]);
}

#[test]
fn a_palette_is_expanded() {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 5, 1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::One);
    encoder.set_palette(vec![9, 8, 7, 1, 2, 3]);
    encoder.write_header().unwrap().write_image_data(&[0b0100_1000]).unwrap();
    let p = decode(&bytes).unwrap();
    assert_eq!(p.rgb[..6], [9.0, 8.0, 7.0, 1.0, 2.0, 3.0]);
    assert_eq!(p.rgb[12..], [1.0, 2.0, 3.0]);
}

#[test]
fn a_cmyk_jpeg_is_read() {
    // One 8x8 block of middle grey, its frame and scan rewritten for four components. With the
    // standard tables a flat block is the bits 00 (same level as before) 1010 (end of block).
    let grey: ImageBuffer<Luma<u8>, _> = ImageBuffer::from_pixel(8, 8, Luma([128]));
    let bytes = bytes_of(grey, ImageFormat::Jpeg);
    let find = |marker: u8| bytes.windows(2).position(|w| w == [0xff, marker]).unwrap();
    let (frame, scan) = (find(0xc0), find(0xda));
    let mut cmyk = bytes[..frame].to_vec();
    cmyk.extend([0xff, 0xc0, 0, 20, 8, 0, 8, 0, 8, 4]);
    (1..=4).for_each(|id| cmyk.extend([id, 0x11, 0]));
    cmyk.extend(&bytes[frame + 13..scan]);
    cmyk.extend([0xff, 0xda, 0, 14, 4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]);
    cmyk.extend([0b0010_1000, 0b1010_0010, 0b1000_1010, 0xff, 0xd9]);
    let p = decode(&cmyk).unwrap();
    assert_eq!((p.width, p.height), (8, 8));
    assert!(p.rgb.iter().all(|v| *v == p.rgb[0] && (40.0..90.0).contains(v)), "{:?}", &p.rgb[..3]);
}

#[test]
fn thin_and_tiny_pictures_are_read() {
    for (name, format) in FORMATS {
        for (w, h) in [(1, 1), (1, 300), (300, 1)] {
            let p = decode(&bytes_of(gradient(w, h), format)).unwrap();
            assert_eq!((p.width, p.height), (w as usize, h as usize), "{name}");
            assert_eq!(p.rgb.len(), (w * h * 3) as usize);
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_or_still_whole() {
    for (name, format) in FORMATS {
        let bytes = bytes_of(gradient(24, 20), format);
        let whole = decode(&bytes).unwrap();
        let mut refused = 0;
        for cut in 0..bytes.len() {
            match decode(&bytes[..cut]) {
                Ok(p) => assert_eq!(p, whole, "{name} cut at {cut}: another picture"),
                Err(e) => {
                    refused += 1;
                    assert_says(&e, "given.bin", "");
                }
            }
        }
        assert!(refused + 20 >= bytes.len(), "{name}: {refused} of {}", bytes.len());
        assert_refused(&bytes[..bytes.len() / 2], "cut short");
    }
}

#[test]
fn damaged_files_never_panic() {
    let rounds = std::env::var("IMPASTO_FUZZ").ok().and_then(|v| v.parse().ok()).unwrap_or(300);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let mut seeds: Vec<_> = FORMATS.map(|(_, f)| bytes_of(gradient(13, 11), f)).into();
    seeds.push(oriented(&gradient(16, 16), 6, false));
    for seed in seeds {
        for _ in 0..rounds {
            let mut bytes = seed.clone();
            for _ in 0..=random(6) {
                let at = if random(2) == 0 { random(bytes.len().min(200)) } else { random(bytes.len()) };
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
            }
            if let Ok(p) = decode(&bytes) {
                assert_eq!(p.rgb.len(), p.width * p.height * 3);
                assert!(p.rgb.iter().all(|v| (0.0..=255.0).contains(v)));
            }
        }
    }
}

/// Writes `side` over the size fields of a small picture, leaving its data.
fn bomb(format: ImageFormat, side: u16) -> Vec<u8> {
    let mut bytes = bytes_of(gradient(8, 8), format);
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what).unwrap();
    match format {
        ImageFormat::Png => {
            let mut header = Vec::new();
            let encoder = png::Encoder::new(&mut header, side.into(), side.into());
            drop(encoder.write_header()); // grey, but only the size matters
            bytes.splice(..33, header.into_iter().take(33));
        }
        ImageFormat::Jpeg => {
            let at = find(&bytes, &[0xff, 0xc0]) + 5;
            bytes[at..at + 2].copy_from_slice(&side.to_be_bytes());
            bytes[at + 2..at + 4].copy_from_slice(&side.to_be_bytes());
        }
        ImageFormat::WebP => {
            let at = find(&bytes, b"VP8L") + 9; // 14 bits each of width - 1 and height - 1
            let both = u32::from(side.min(16_383) - 1) * (1 + (1 << 14));
            bytes[at..at + 4].copy_from_slice(&both.to_le_bytes());
        }
        _ => {
            for tag in [256u16, 257, 278] {
                // width, height, rows in a strip
                let [a, b] = tag.to_le_bytes();
                let at = find(&bytes, &[a, b, 4, 0, 1, 0, 0, 0]) + 8;
                bytes[at..at + 4].copy_from_slice(&u32::from(side).to_le_bytes());
            }
        }
    }
    bytes
}

#[test]
fn header_only_bombs_are_refused_by_size() {
    for (_, format) in FORMATS {
        let start = std::time::Instant::now();
        assert_refused(&bomb(format, 65_535), "too large");
        assert!(start.elapsed().as_secs() < 2, "{format:?} was decoded first");
    }
    let mut bytes = bomb(ImageFormat::Tiff, 10_000); // 100 megapixels: small sides, too much memory
    assert_refused(&bytes, "megapixels");
    bytes.truncate(bytes.len() - 1);
    assert!(decode(&bytes).is_err());
}

#[test]
fn pictures_without_pixels_are_refused() {
    let mut header = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    header.extend([0; 8]);
    header.extend([8, 2, 0, 0, 0, 0x6e, 0xc4, 0x35, 0x49]);
    assert!(decode(&header).is_err());
    for format in [ImageFormat::Jpeg, ImageFormat::Tiff] {
        assert_says(&decode(&bomb(format, 0)).unwrap_err(), "given.bin", "");
    }
}

#[test]
fn wrong_files_are_named_for_what_they_are() {
    assert_refused(b"", "is empty");
    assert_refused(b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "MATLAB");
    assert_refused(b"\x40\x20\0\0\0\0\0\0{\"conv1_1.weight\":{", "safetensors");
    assert_refused(b"PK\x03\x04............................", "zip archive");
    assert_refused(b"\x93NUMPY\x01\0v\0{'descr'", "NumPy");
    assert_refused(b"\n  <!DOCTYPE html><title>404</title>", "web page");
    assert_refused(b"<HTML><body>", "web page");
    assert_refused(b"\0\0\0\x24ftypheic\0\0\0\0", "HEIC");
    assert_refused(b"GIF89a\x01\0\x01\0\0\0\0", "unsupported format");
    assert_refused(&[0; 4096], "not a picture in a known format");
    let error = decode(b"MATLAB 5.0 MAT-file").unwrap_err();
    assert!(error.hint().contains("--weights"));
    assert!(decode(b"GIF89a").unwrap_err().hint().contains("PNG, JPEG, WebP or TIFF"));
}

#[test]
fn missing_files_and_folders_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Picture::decode(&dir.path().join("cat.jpg")).unwrap_err();
    assert_says(&missing, "cat.jpg", "no such file");
    assert_says(&Picture::decode(dir.path()).unwrap_err(), "", "is a folder");
}
