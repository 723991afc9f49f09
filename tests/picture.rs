//! Pictures in and out: what is read, what is refused and how, and what an output file may replace.

#![expect(clippy::unwrap_used, reason = "a test panics on failure")]

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
use impasto::error::Error;
use impasto::picture::{Picture, Rounding, check_output, numbered, read_npy};

const FORMATS: [(&str, ImageFormat); 4] =
    [("png", ImageFormat::Png), ("jpg", ImageFormat::Jpeg), ("webp", ImageFormat::WebP), ("tif", ImageFormat::Tiff)];

fn bytes_of(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.into().write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// A picture without symmetry; smooth enough for JPEG to keep.
fn gradient(width: u32, height: u32) -> image::RgbImage {
    ImageBuffer::from_fn(width, height, |x, y| Rgb([(x * 200 / width) as u8, (y * 200 / height) as u8, 30]))
}

fn picture(width: usize, height: usize) -> Picture {
    let rgb = gradient(width as u32, height as u32).into_raw();
    let rgb = rgb.into_iter().map(f32::from).collect();
    Picture { width, height, rgb }
}

fn decode(bytes: &[u8]) -> Result<Picture, Error> {
    Picture::decode_bytes(bytes, Path::new("given.bin"))
}

fn decode_file(bytes: &[u8]) -> Result<Picture, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("given.bin");
    fs::write(&path, bytes).unwrap();
    Picture::decode(&path)
}

/// Asserts that an error is one line, names the file, says `what`, and has a one-line remedy.
fn assert_says(error: &Error, file: &str, what: &str) {
    let (message, hint) = (error.to_string(), error.hint());
    assert!(message.contains(what), "`{message}` does not say `{what}`");
    assert!(message.contains(file), "`{message}` does not name {file}");
    assert!(!message.contains('\n') && !hint.contains('\n') && !hint.is_empty());
}

#[track_caller]
fn assert_refused(bytes: &[u8], what: &str) {
    assert_says(&decode(bytes).unwrap_err(), "given.bin", what);
    assert_says(&decode_file(bytes).unwrap_err(), "given.bin", what);
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

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

#[test]
fn resizing_to_the_same_size_keeps_every_bit() {
    let mut p = picture(13, 7);
    for (i, v) in p.rgb.iter_mut().enumerate() {
        *v = (i as f32).sqrt() * 13.7;
    }
    assert_eq!(p.resized(13, 7), p);
    assert_eq!(p.fitted(13), p);
    assert_eq!(p.fitted(usize::MAX), p);
}

#[test]
fn a_constant_picture_stays_constant() {
    for level in [0.0, 1.0, 100.3, 255.0] {
        let p = Picture { width: 31, height: 17, rgb: vec![level; 31 * 17 * 3] };
        for (w, h) in [(7, 5), (64, 64), (1, 1), (31, 40), (100, 3)] {
            let r = p.resized(w, h);
            assert_eq!((r.width, r.height, r.rgb.len()), (w, h, w * h * 3));
            for v in r.rgb {
                assert!((v - level).abs() < 1e-3 && (0.0..=255.0).contains(&v), "{v} for {level}");
            }
        }
    }
}

#[test]
fn resizing_keeps_channels_and_directions_and_the_range() {
    let r = picture(60, 40).resized(30, 20);
    let at = |x: usize, y: usize, c: usize| r.rgb[(y * 30 + x) * 3 + c];
    assert!((at(20, 3, 0) - 136.0).abs() < 3.0 && (at(20, 3, 2) - 30.0).abs() < 0.5);
    assert!((at(3, 15, 1) - 152.0).abs() < 4.0);
    let edge = (0..40 * 3).map(|i| if i < 60 { 0.0 } else { 255.0 }).collect();
    let edge = Picture { width: 40, height: 1, rgb: edge }.resized(93, 1);
    assert!(edge.rgb.iter().all(|v| (0.0..=255.0).contains(v)), "Lanczos overshoot is clipped");
}

#[test]
fn fitting_keeps_the_aspect_ratio_and_never_enlarges() {
    for (from, longest, to) in [
        ((640, 480), 512, (512, 384)),
        ((480, 641), 64, (48, 64)),
        ((300, 1), 10, (10, 1)),
        ((1, 300), 10, (1, 10)),
        ((30, 20), 512, (30, 20)),
        ((30, 20), 0, (1, 1)),
    ] {
        let p = picture(from.0, from.1).fitted(longest);
        assert_eq!((p.width, p.height), to, "{from:?} into {longest}");
    }
}

#[test]
fn contradictory_fields_do_not_panic() {
    let p = Picture { width: 4, height: 4, rgb: vec![9.0; 5] };
    assert_eq!(p.resized(2, 2).rgb, [0.0; 12]);
    assert_eq!(p.resized(0, 0).rgb, [0.0; 3]);
    let dir = tempfile::tempdir().unwrap();
    assert!(p.encode_to(&dir.path().join("a.png"), Rounding::Nearest, false, &[]).is_err());
    let none = Picture { width: 0, height: 0, rgb: vec![] };
    for (extension, _) in FORMATS {
        let path = dir.path().join("none").with_extension(extension);
        assert!(none.encode_to(&path, Rounding::Nearest, false, &[]).is_err(), "{extension}");
    }
    assert!(names_in(dir.path()).is_empty());
}

#[test]
fn every_format_is_written_by_extension_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let p = picture(23, 19);
    for name in ["a.png", "a.JPG", "a.jpeg", "a.webp", "a.tif", "a.TIFF"] {
        let path = dir.path().join(name);
        check_output(&path, false).unwrap();
        p.encode_to(&path, Rounding::Nearest, false, &[("k".into(), "v".into())]).unwrap();
        let tolerance = if name.to_lowercase().contains(".j") { 5.0 } else { 0.0 };
        let back = Picture::decode(&path).unwrap();
        for (got, want) in back.rgb.iter().zip(&p.rgb) {
            assert!((got - want).abs() <= tolerance, "{name}: {got} for {want}");
        }
    }
}

#[test]
fn jpeg_is_written_without_chroma_subsampling() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jpg");
    picture(16, 16).encode_to(&path, Rounding::Nearest, false, &[]).unwrap();
    let bytes = fs::read(&path).unwrap();
    let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let sampling: Vec<_> = (0..3).map(|i| bytes[frame + 11 + 3 * i]).collect();
    assert_eq!(sampling, [0x11; 3]);
}

#[test]
fn values_are_clipped_then_rounded_or_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let rgb = vec![-5.0, 300.0, 1.5, 1.49, 254.6, f32::NAN, f32::INFINITY, -0.4, 0.99];
    let p = Picture { width: 3, height: 1, rgb };
    for (rounding, want) in [
        (Rounding::Nearest, [0.0, 255.0, 2.0, 1.0, 255.0, 0.0, 255.0, 0.0, 1.0]),
        (Rounding::Truncate, [0.0, 255.0, 1.0, 1.0, 254.0, 0.0, 255.0, 0.0, 0.0]),
    ] {
        let path = dir.path().join("a.png");
        p.encode_to(&path, rounding, true, &[]).unwrap();
        assert_eq!(Picture::decode(&path).unwrap().rgb, want);
    }
}

#[test]
fn png_carries_settings_and_the_srgb_tag() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    let settings = ("impasto".to_string(), r#"{"style":"Größe 星月夜.jpg"}"#.to_string());
    picture(4, 3).encode_to(&path, Rounding::Nearest, false, std::slice::from_ref(&settings)).unwrap();
    let file = std::io::BufReader::new(fs::File::open(&path).unwrap());
    let reader = png::Decoder::new(file).read_info().unwrap();
    let info = reader.info();
    assert_eq!(info.srgb, Some(png::SrgbRenderingIntent::Perceptual));
    assert_eq!(info.utf8_text.len(), 1);
    assert_eq!(info.utf8_text[0].keyword, settings.0);
    assert_eq!(info.utf8_text[0].get_text().unwrap(), settings.1);
    let bad = [(String::new(), String::new())];
    let other = dir.path().join("b.png");
    assert!(picture(4, 3).encode_to(&other, Rounding::Nearest, false, &bad).is_err());
    assert_eq!(names_in(dir.path()), ["a.png"]);
}

#[test]
fn a_file_is_replaced_only_with_overwrite() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.png");
    fs::write(&path, "old").unwrap();
    for result in [check_output(&path, false), picture(4, 4).encode_to(&path, Rounding::Nearest, false, &[])] {
        let error = result.unwrap_err();
        assert_says(&error, "out.png", "already exists");
        assert!(error.hint().contains("--overwrite"));
    }
    assert_eq!(fs::read(&path).unwrap(), b"old");
    check_output(&path, true).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    picture(4, 4).encode_to(&path, Rounding::Nearest, true, &[]).unwrap();
    assert_eq!(Picture::decode(&path).unwrap(), picture(4, 4));
    assert_eq!(names_in(dir.path()), ["out.png"]);
}

#[test]
fn of_many_writers_without_overwrite_exactly_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let path = dir.path().join(format!("{round}.png"));
        let won = std::thread::scope(|s| {
            let write = || picture(3, 3).encode_to(&path, Rounding::Nearest, false, &[]).is_ok();
            let threads: Vec<_> = (0..8).map(|_| s.spawn(write)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).filter(|ok| *ok).count()
        });
        assert_eq!(won, 1);
    }
    assert_eq!(names_in(dir.path()).len(), 20, "temporary files remain");
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let p = Picture { width: 70_000, height: 1, rgb: vec![0.0; 210_000] };
    let q = Picture { width: 16_384, height: 1, rgb: vec![0.0; 3 * 16_384] };
    for (p, name) in [(p, "out.jpg"), (q, "out.webp")] {
        let path = dir.path().join(name);
        fs::write(&path, "old").unwrap();
        let error = p.encode_to(&path, Rounding::Nearest, true, &[]).unwrap_err();
        assert_says(&error, name, "");
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
    assert_eq!(names_in(dir.path()), ["out.jpg", "out.webp"]);
}

#[test]
fn hopeless_outputs_are_refused_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("folder.png")).unwrap();
    let slash = PathBuf::from(format!("{}/new.png/", dir.path().display()));
    let cases = [
        (dir.path().join("out"), "no extension"),
        (dir.path().join("out.gif"), "`.gif` is not supported"),
        (dir.path().join("missing/out.png"), "folder does not exist"),
        (dir.path().join("folder.png"), "is a folder"),
        (dir.path().to_path_buf(), ""),
        (slash, "is a folder"),
        (dir.path().join("x".repeat(5000)).with_extension("png"), "cannot be written"),
    ];
    for (path, what) in cases {
        for overwrite in [false, true] {
            assert_says(&check_output(&path, overwrite).unwrap_err(), "", what);
            let written = picture(2, 2).encode_to(&path, Rounding::Nearest, overwrite, &[]);
            assert_says(&written.unwrap_err(), "", what);
        }
    }
    assert_eq!(names_in(dir.path()), ["folder.png"]);
}

#[test]
fn read_only_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.png");
    fs::write(&path, "old").unwrap();
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    assert_says(&check_output(&path, true).unwrap_err(), "out.png", "read-only");
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[cfg(target_os = "linux")]
#[test]
fn unwritable_folders_and_devices_are_refused() {
    // Not even root may create files in /sys.
    assert_says(&check_output(Path::new("/sys/out.png"), false).unwrap_err(), "/sys", "not writable");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("null.png");
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    assert_says(&check_output(&path, true).unwrap_err(), "null", "not a regular file");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_permissions_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real.png"), dir.path().join("link.png"));
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&real, &link).unwrap();
    picture(2, 2).encode_to(&link, Rounding::Nearest, true, &[]).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(Picture::decode(&real).unwrap(), picture(2, 2));
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);

    let dangling = dir.path().join("dangling.png");
    symlink(dir.path().join("nowhere.png"), &dangling).unwrap();
    assert!(check_output(&dangling, false).is_err());

    // A new picture is as readable as any new file, not private like a temporary one.
    let (new, other) = (dir.path().join("new.png"), dir.path().join("other"));
    picture(2, 2).encode_to(&new, Rounding::Nearest, false, &[]).unwrap();
    fs::write(&other, "").unwrap();
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode();
    assert_eq!(mode(&new), mode(&other));
}

#[test]
fn numbered_names_stand_beside_the_output() {
    for (path, want) in [("a/OUT.png", "a/OUT_100.png"), ("OUT.tar.jpg", "OUT.tar_100.jpg"), ("OUT", "OUT_100")] {
        assert_eq!(numbered(Path::new(path), 100), Path::new(want));
    }
}

fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    if version == 1 {
        bytes.extend((header.len() as u16).to_le_bytes());
    } else {
        bytes.extend((header.len() as u32).to_le_bytes());
    }
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn read_npy_bytes(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>), Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("init.npy");
    fs::write(&path, bytes).unwrap();
    read_npy(&path)
}

const NPY: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }   \n";

#[test]
fn npy_arrays_are_read() {
    let values = [1.5f32, -2.0, 0.0, f32::MIN_POSITIVE, 255.0, -128.25];
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    for version in [1, 2, 3] {
        let (shape, got) = read_npy_bytes(&npy(version, NPY, &data)).unwrap();
        assert_eq!((shape, got), (vec![1, 2, 3], values.to_vec()));
    }
    for (text, want) in [("(6,)", vec![6]), ("(2,3)", vec![2, 3]), ("(1,1,1,6)", vec![1, 1, 1, 6])] {
        let header = NPY.replace("(1, 2, 3)", text);
        assert_eq!(read_npy_bytes(&npy(1, &header, &data)).unwrap().0, want);
    }
    let scalar = NPY.replace("(1, 2, 3)", "()");
    assert_eq!(read_npy_bytes(&npy(1, &scalar, &data[..4])).unwrap(), (vec![], vec![1.5]));
}

#[test]
fn malformed_npy_files_are_refused() {
    let data = [0; 24];
    let good = npy(1, NPY, &data);
    for cut in 0..good.len() {
        assert_says(&read_npy_bytes(&good[..cut]).unwrap_err(), "init.npy", "");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert_says(&read_npy_bytes(&longer).unwrap_err(), "init.npy", "25 bytes");
    let with = |from: &str, to: &str| npy(2, &NPY.replace(from, to), &data);
    for (bytes, what) in [
        (b"MATLAB 5.0".to_vec(), "not a NumPy"),
        (npy(9, NPY, &data), "unknown .npy version"),
        (with("<f4", "<f8"), "little-endian float32"),
        (with("<f4", ">f4"), "little-endian float32"),
        (with("False", "True"), "C order"),
        (with("'descr'", "'other'"), "little-endian float32"),
        (with("(1, 2, 3)", "(1, 2, -3)"), "no usable shape"),
        (with("(1, 2, 3)", "(1, 2, 3"), "no usable shape"),
        (with("(1, 2, 3)", "(,)"), "no usable shape"),
        (with("(1, 2, 3)", "(1,1,1,1,1,1,1,2,3)"), "no usable shape"),
        (with("(1, 2, 3)", "(99999999999999999999,)"), "no usable shape"),
        (with("(1, 2, 3)", "(4294967296, 4294967296, 6)"), "24 bytes"),
        (with("(1, 2, 3)", "(2, 2, 3)"), "24 bytes"),
        (npy(2, &" ".repeat(70_000), &data), "unlikely length"),
        ([b"\x93NUMPY\x02\0".as_slice(), &[0xff; 40]].concat(), "unlikely length"),
        ([b"\x93NUMPY\x01\0\x04\0".as_slice(), &[0xff; 40]].concat(), "no text"),
    ] {
        assert_says(&read_npy_bytes(&bytes).unwrap_err(), "init.npy", what);
    }
}
