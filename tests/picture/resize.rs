//! Other sizes, and pictures whose fields contradict each other.

use impasto::picture::{Picture, Rounding};

use super::{FORMATS, names_in, picture};

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
