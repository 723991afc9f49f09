//! What is written, and what an output file may replace.

use std::fs;
use std::path::{Path, PathBuf};

use impasto::picture::{Alpha, BitDepth, DecodeOptions, Decoded, EncodeOptions, Holds};
use impasto::picture::{Picture, Rounding, check_output, holds, numbered};

use super::{assert_says, names_in, picture};

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

/// A slope of opacity, from nothing to all.
fn slope(width: usize, height: usize) -> Alpha {
    let values = (0..width * height).map(|i| (i % width) as f32 / (width - 1) as f32).collect();
    Alpha { width, height, values }
}

#[test]
fn every_format_says_that_it_is_srgb() {
    use image::{ImageDecoder, ImageReader};
    let dir = tempfile::tempdir().unwrap();
    let alpha = slope(5, 4);
    for name in ["a.jpg", "a.webp", "a.tif", "clear.webp", "clear.tif"] {
        let path = dir.path().join(name);
        let alpha = name.starts_with("clear").then_some(&alpha);
        picture(5, 4).encode_with(&path, &EncodeOptions { alpha, ..EncodeOptions::default() }).unwrap();
        let profile = if name.ends_with("tif") {
            let file = fs::File::open(&path).unwrap();
            tiff::decoder::Decoder::new(file).unwrap().get_tag_u8_vec(tiff::tags::Tag::IccProfile).unwrap()
        } else {
            ImageReader::open(&path).unwrap().into_decoder().unwrap().icc_profile().unwrap().unwrap()
        };
        assert_eq!(&profile[36..40], b"acsp", "{name}");
        assert_eq!(profile.len(), u32::from_be_bytes(profile[..4].try_into().unwrap()) as usize, "{name}");
        // The same bytes on every day: 1 January 2026.
        let date = [0x07, 0xea, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
        assert!(profile.len() < 1000 && profile[24..36] == date, "{name}: {:?}", &profile[24..36]);
        let back = Decoded::read(&path, &DecodeOptions::default()).unwrap();
        assert!(back.notes.is_empty(), "{name}: {:?}", back.notes);
    }
}

#[test]
fn sixteen_bits_and_opacity_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut p = picture(23, 19);
    p.rgb.iter_mut().enumerate().for_each(|(i, v)| *v = (*v + i as f32 * 0.01).min(255.0));
    let alpha = slope(23, 19);
    for (name, bit_depth, with_alpha) in [
        ("a.png", BitDepth::Eight, true),
        ("a.webp", BitDepth::Eight, true),
        ("a.tif", BitDepth::Eight, true),
        ("deep.png", BitDepth::Sixteen, false),
        ("deep.tif", BitDepth::Sixteen, false),
        ("both.png", BitDepth::Sixteen, true),
        ("both.tif", BitDepth::Sixteen, true),
    ] {
        let path = dir.path().join(name);
        let options = EncodeOptions { bit_depth, alpha: with_alpha.then_some(&alpha), ..EncodeOptions::default() };
        p.encode_with(&path, &options).unwrap();
        let back = Decoded::read(&path, &DecodeOptions::default()).unwrap();
        let bar = if bit_depth == BitDepth::Eight { 0.51 } else { 0.51 / 257.0 };
        assert_eq!(back.alpha.is_some(), with_alpha, "{name}");
        let seen = match (with_alpha, &back.alpha) {
            (true, Some(found)) => {
                for (got, want) in found.values.iter().zip(&alpha.values) {
                    assert!((got - want).abs() * 255.0 <= bar, "{name}: {got} for {want}");
                }
                // What can be seen of it: below the opacity, colours reach no further from white than it lets them.
                alpha.over_white(&alpha.under_white(&p))
            }
            _ => p.clone(),
        };
        for (got, want) in back.picture.rgb.iter().zip(&seen.rgb) {
            // Rounded opacity moves a colour by up to half a level more.
            assert!((got - want).abs() <= bar * 2.0 + 1e-3, "{name}: {got} for {want}");
        }
    }
    // Over white, the picture itself is seen, as far as an opacity lets it.
    let (under, opaque) = (alpha.under_white(&p), Alpha { values: vec![1.0; 23 * 19], ..alpha.clone() });
    assert_eq!(opaque.under_white(&p), p);
    for ((seen, want), alpha) in alpha.over_white(&under).rgb.chunks(3).zip(p.rgb.chunks(3)).zip(&alpha.values) {
        for (seen, want) in seen.iter().zip(want) {
            let darkest = 255.0 * (1.0 - alpha);
            assert!((seen - want.max(darkest)).abs() < 1e-3, "{seen} for {want} at {alpha}");
        }
    }
}

#[test]
fn a_jpeg_is_what_is_seen_over_white_and_has_the_quality_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jpg");
    let (p, alpha) = (picture(24, 16), slope(24, 16));
    let write = |quality, alpha| {
        let options = EncodeOptions { overwrite: true, quality, alpha, ..EncodeOptions::default() };
        p.encode_with(&path, &options).unwrap();
        fs::read(&path).unwrap()
    };
    let clear = write(100, Some(&alpha));
    assert_eq!(Decoded::read(&path, &DecodeOptions::default()).unwrap().alpha, None);
    let back = Picture::decode(&path).unwrap();
    for (got, want) in back.rgb.iter().zip(&alpha.over_white(&alpha.under_white(&p)).rgb) {
        assert!((got - want).abs() < 8.0, "{got} for {want}");
    }
    assert!(clear != write(100, None) && write(20, None).len() < write(95, None).len());
}

#[test]
fn what_a_format_cannot_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let deep = EncodeOptions { bit_depth: BitDepth::Sixteen, ..EncodeOptions::default() };
    for name in ["a.jpg", "a.webp"] {
        let error = picture(4, 4).encode_with(&dir.path().join(name), &deep).unwrap_err();
        assert_says(&error, name, "16 bits go into PNG and TIFF only");
        assert!(!holds(Path::new(name)).sixteen_bits);
    }
    let alpha = slope(3, 4);
    let clear = EncodeOptions { alpha: Some(&alpha), ..EncodeOptions::default() };
    assert_says(&picture(4, 4).encode_with(&dir.path().join("a.png"), &clear).unwrap_err(), "a.png", "another size");
    assert!(names_in(dir.path()).is_empty());
    let all = Holds { alpha: true, sixteen_bits: true, quality: false };
    for (name, expected) in [
        ("a.PNG", all),
        ("a.tiff", all),
        ("a.webp", Holds { sixteen_bits: false, ..all }),
        ("a.jpeg", Holds { alpha: false, sixteen_bits: false, quality: true }),
        ("a.gif", Holds { alpha: false, sixteen_bits: false, quality: false }),
    ] {
        assert_eq!(holds(Path::new(name)), expected, "{name}");
    }
}

#[test]
fn opacity_is_resampled_within_its_range() {
    let alpha = slope(9, 4);
    assert_eq!(alpha.resized(9, 4), alpha);
    for [w, h] in [[30, 7], [3, 2], [1, 1], [0, 0]] {
        let found = alpha.resized(w, h);
        assert_eq!((found.width, found.height), (w.max(1), h.max(1)));
        assert_eq!(found.values.len(), found.width * found.height);
        assert!(found.values.iter().all(|v| (0.0..=1.0).contains(v)));
        assert!(found.values[..found.width].is_sorted());
    }
    let contradictory = Alpha { width: 3, height: 3, values: vec![0.5; 4] };
    assert_eq!(contradictory.resized(2, 2).values, [1.0; 4]);
    assert_eq!(contradictory.over_white(&picture(2, 2)), picture(2, 2));
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
