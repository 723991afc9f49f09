//! Colours before and after a run against `tests/reference/colors.json`, which `colors.py` beside it computes in float64
//! with NumPy, and what must hold of any picture.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::LazyLock;

use common::picture;
use impasto::picture::Picture;
use impasto::picture::color::{ColorMatch, Colors, HistogramMatch, OriginalColors};
use impasto::picture::color::{match_colors, match_histogram, original_colors};
use serde_json::Value;

static FIGURES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("reference/colors.json")).unwrap());

const MATCHES: [ColorMatch; 4] = [ColorMatch::Mean, ColorMatch::Pca, ColorMatch::Cholesky, ColorMatch::Symmetric];

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn named(name: &str) -> Picture {
    let figure = &FIGURES["pictures"][name];
    let side = |key: &str| figure[key].as_u64().unwrap() as usize;
    Picture { width: side("width"), height: side("height"), rgb: floats(&figure["rgb"]) }
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn flat(width: usize, height: usize, color: [f32; 3]) -> Picture {
    Picture { width, height, rgb: color.repeat(width * height) }
}

#[test]
fn colours_agree_with_the_reference() {
    let mut kinds = std::collections::BTreeMap::new();
    for case in FIGURES["cases"].as_array().unwrap() {
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let (kind, name) = (text(&case["kind"]), text(&case["picture"]));
        let given = named(&name);
        let others: Vec<Picture> = case["others"].as_array().unwrap().iter().map(|name| named(&text(name))).collect();
        let found = match &*kind {
            "mean" => match_colors(&given, &others[0], ColorMatch::Mean),
            "pca" => match_colors(&given, &others[0], ColorMatch::Pca),
            "cholesky" => match_colors(&given, &others[0], ColorMatch::Cholesky),
            "symmetric" => match_colors(&given, &others[0], ColorMatch::Symmetric),
            "yuv" => original_colors(given, &others[0], OriginalColors::Yuv),
            "lab" => original_colors(given, &others[0], OriginalColors::Lab),
            "histogram" => match_histogram(given, &others.iter().collect::<Vec<_>>()),
            other => panic!("{other}"),
        };
        let error = worst(&found.rgb, &floats(&case["expected"]));
        assert!(error < 1e-4, "{kind} of {name} with {}: {error}", case["others"]);
        let entry = kinds.entry(kind).or_insert((0, 0.0f32));
        *entry = (entry.0 + 1, entry.1.max(error));
    }
    println!("{kinds:?}");
    assert_eq!(kinds.values().map(|(count, _)| count).sum::<i32>(), 4 * 9 + 4 + 6);
}

#[test]
fn a_style_gets_the_contents_mean_and_covariance() {
    // Far from black and white, so that nothing is clipped.
    let narrow = |seed: u64, gain: [f32; 3]| {
        let mut p = picture(seed, 40, 30);
        for rgb in p.rgb.as_chunks_mut::<3>().0 {
            let [r, g, b] = rgb.map(|v| (v - 127.5) / 127.5);
            *rgb = [120.0 + gain[0] * (r + 0.5 * g), 130.0 + gain[1] * (g - 0.3 * r), 110.0 + gain[2] * (b + 0.4 * r)];
        }
        p
    };
    let moments = |p: &Picture| {
        let count = (p.rgb.len() / 3) as f64;
        let pixels = p.rgb.as_chunks::<3>().0;
        let mean: Vec<f64> = (0..3).map(|i| pixels.iter().map(|x| f64::from(x[i])).sum::<f64>() / count).collect();
        let product = |i: usize, j: usize| {
            pixels.iter().map(|x| (f64::from(x[i]) - mean[i]) * (f64::from(x[j]) - mean[j])).sum::<f64>() / count
        };
        (mean.clone(), (0..9).map(|k| product(k / 3, k % 3)).collect::<Vec<f64>>())
    };
    let (style, content) = (narrow(1, [20.0, 6.0, 11.0]), narrow(2, [5.0, 14.0, 9.0]));
    let (mean, covariance) = moments(&content);
    for how in MATCHES {
        let (its_mean, its_covariance) = moments(&match_colors(&style, &content, how));
        for (a, b) in its_mean.iter().zip(&mean) {
            assert!((a - b).abs() < 1e-4, "{how:?}: mean {a} for {b}");
        }
        if how != ColorMatch::Mean {
            for (a, b) in its_covariance.iter().zip(&covariance) {
                assert!((a - b).abs() < 1e-3, "{how:?}: covariance {a} for {b}");
            }
        }
    }
}

#[test]
fn grey_and_flat_pictures_are_matched_without_a_word_of_noise() {
    let (noise, grey) = (picture(3, 9, 8), named("grey"));
    for how in MATCHES {
        for style in [&noise, &grey, &flat(4, 4, [10.0, 20.0, 30.0])] {
            for content in [&noise, &grey, &flat(1, 1, [200.0, 100.0, 0.0]), &flat(3, 2, [255.0; 3])] {
                let out = match_colors(style, content, how);
                assert_eq!((out.width, out.height, out.rgb.len()), (style.width, style.height, style.rgb.len()));
                assert!(out.rgb.iter().all(|v| (0.0..=255.0).contains(v)), "{how:?}");
            }
        }
        let flat_style = match_colors(&flat(4, 4, [10.0, 20.0, 30.0]), &noise, how);
        assert!(flat_style.rgb.chunks(3).all(|p| worst(p, &flat_style.rgb[..3]) < 1e-4), "{how:?}");
        if how != ColorMatch::Mean {
            let out = match_colors(&noise, &grey, how);
            assert!(out.rgb.chunks(3).all(|p| worst(p, &[p[0]; 3]) < 1e-3), "{how:?}: a grey content, a grey style");
            let out = match_colors(&noise, &flat(2, 2, [9.0, 99.0, 199.0]), how);
            assert!(out.rgb.chunks(3).all(|p| worst(p, &[9.0, 99.0, 199.0]) < 1e-3), "{how:?}");
        }
    }
    assert_eq!(match_colors(&noise, &grey, ColorMatch::None), noise);
}

#[test]
fn a_picture_with_its_own_colours_or_histogram_stays_as_it_is() {
    let p = picture(5, 13, 11);
    for how in [OriginalColors::Yuv, OriginalColors::Lab] {
        assert!(worst(&original_colors(p.clone(), &p, how).rgb, &p.rgb) < 1e-3, "{how:?}");
    }
    for how in MATCHES {
        assert!(worst(&match_colors(&p, &p, how).rgb, &p.rgb) < 1e-3, "{how:?}");
    }
    assert!(worst(&match_histogram(p.clone(), &[&p]).rgb, &p.rgb) < 1e-3);
    // Twice itself is itself in distribution.
    assert!(worst(&match_histogram(p.clone(), &[&p, &p]).rgb, &p.rgb) < 1e-3);
    assert_eq!(match_histogram(p.clone(), &[]), p);
    assert_eq!(original_colors(p.clone(), &p, OriginalColors::None), p);
}

#[test]
fn a_grey_content_makes_a_grey_result_and_sizes_may_differ() {
    let result = picture(6, 12, 10);
    let content = flat(31, 7, [77.0; 3]);
    for how in [OriginalColors::Yuv, OriginalColors::Lab] {
        let out = original_colors(result.clone(), &content, how);
        assert_eq!((out.width, out.height), (10, 12));
        assert!(out.rgb.chunks(3).all(|p| worst(p, &[p[0]; 3]) < 2e-3), "{how:?}");
    }
    let wild = Picture { width: 2, height: 1, rgb: vec![-50.0, 300.0, 128.0, f32::MAX, 0.0, -1.0] };
    for how in [OriginalColors::Yuv, OriginalColors::Lab] {
        let out = original_colors(wild.clone(), &content, how);
        assert!(out.rgb.iter().all(|v| (0.0..=255.0).contains(v)), "{how:?}: {:?}", out.rgb);
    }
}

#[test]
fn the_whole_order_of_colours_is_matched_before_and_after() {
    let (content, style, result) = (picture(7, 8, 9), picture(8, 7, 6), picture(9, 8, 9));
    let colors = |original, histogram| Colors { matching: ColorMatch::Pca, original, histogram };
    let none = colors(OriginalColors::None, HistogramMatch::None);
    assert_eq!(none.before(&style, &content), match_colors(&style, &content, ColorMatch::Pca));
    assert_eq!(none.after(result.clone(), &content, &[]), result);
    let styles = [style.clone(), content.clone()];
    let both = colors(OriginalColors::None, HistogramMatch::Style).after(result.clone(), &content, &styles);
    assert_eq!(both, match_histogram(result.clone(), &[&style, &content]));
    let one = colors(OriginalColors::None, HistogramMatch::Content).after(result.clone(), &content, &styles);
    assert_eq!(one, match_histogram(result.clone(), &[&content]));
    let lab = colors(OriginalColors::Lab, HistogramMatch::None).after(result.clone(), &content, &styles);
    assert_eq!(lab, original_colors(result, &content, OriginalColors::Lab));
    let error = colors(OriginalColors::Yuv, HistogramMatch::Style).validate().unwrap_err();
    assert_eq!(error.to_string(), "match-histogram: would undo --original-colors");
    assert_eq!(error.hint(), "give one of the two");
}
