//! Options of pictures and their colours: what is in the files that a run writes.

use impasto::picture::color::{ColorMatch, OriginalColors};
use impasto::picture::color::{match_colors, match_histogram, original_colors};
use impasto::picture::{DecodeOptions, Decoded, EncodeOptions, Picture};

use crate::folder::{CHEAP, Folder};

fn read(folder: &Folder, name: &str) -> Decoded {
    Decoded::read(&folder.path(name), &DecodeOptions::default()).unwrap()
}

fn largest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// `content.png` with a slope of opacity, as `clear.png`.
fn with_clear(folder: &Folder) {
    let mut rgba = image::open(folder.path("content.png")).unwrap().into_rgba8();
    rgba.enumerate_pixels_mut().for_each(|(x, _, pixel)| pixel[3] = (x * 6) as u8);
    rgba.save(folder.path("clear.png")).unwrap();
}

#[test]
fn colours_of_the_result_are_those_asked_for() {
    let folder = Folder::new();
    let run = "-n 3 --size native --bit-depth 16 --save-every 2";
    folder.stylize(&format!("{run} -o plain.png"));
    let plain = ["plain.png", "plain_2.png"].map(|name| read(&folder, name).picture);
    let (content, style) = (read(&folder, "content.png").picture, read(&folder, "style.png").picture);
    for (name, option) in [
        ("yuv", "--original-colors"),
        ("also_yuv", "--original-colors=yuv"),
        ("lab", "--original-colors=lab"),
        ("content_histogram", "--match-histogram content"),
        ("style_histogram", "--match-histogram style"),
        ("none", "--original-colors=none --match-histogram none --match-colors none"),
    ] {
        folder.stylize(&format!("{run} {option} -o {name}.png"));
        for (i, file) in [format!("{name}.png"), format!("{name}_2.png")].iter().enumerate() {
            let painted = plain[i].clone();
            let expected = match name {
                "lab" => original_colors(painted, &content, OriginalColors::Lab),
                "content_histogram" => match_histogram(painted, &[&content]),
                "style_histogram" => match_histogram(painted, &[&style]),
                "none" => painted,
                _ => original_colors(painted, &content, OriginalColors::Yuv),
            };
            // What 16 bits round to the same has the same rank, which moves it where the histogram has a gap.
            let found = read(&folder, file).picture;
            let apart = found.rgb.iter().zip(&expected.rgb).filter(|(a, b)| (*a - *b).abs() > 0.05).count();
            let bar = if name.contains("histogram") { found.rgb.len() / 20 } else { 0 };
            assert!(apart <= bar, "{file}: {apart} of {}", found.rgb.len());
        }
    }
    assert_eq!(folder.pixels("yuv.png"), folder.pixels("also_yuv.png"));
    assert_ne!(folder.pixels("yuv.png"), folder.pixels("plain.png"));
}

#[test]
fn a_style_is_matched_before_the_run_as_if_it_had_been_given_so() {
    let folder = Folder::new();
    let (content, style) = (read(&folder, "content.png").picture, read(&folder, "style.png").picture);
    for (name, how) in [
        ("mean", ColorMatch::Mean),
        ("pca", ColorMatch::Pca),
        ("cholesky", ColorMatch::Cholesky),
        ("symmetric", ColorMatch::Symmetric),
    ] {
        folder.stylize(&format!("-n 2 --size native --match-colors {name} -o {name}.png --log {name}.jsonl"));
        let deep = EncodeOptions { bit_depth: impasto::picture::BitDepth::Sixteen, ..EncodeOptions::default() };
        match_colors(&style, &content, how)
            .encode_with(&folder.path("matched.png"), &EncodeOptions { overwrite: true, ..deep })
            .unwrap();
        folder
            .done(&format!("stylize content.png -s matched.png {CHEAP} -n 2 --size native -o by_hand.png --overwrite"));
        let [one, two] = [format!("{name}.png"), "by_hand.png".into()].map(|name| read(&folder, &name).picture);
        assert!(largest(&one.rgb, &two.rgb) <= 1.0, "{name}: {}", largest(&one.rgb, &two.rgb));
    }
    folder.stylize("-n 2 --size native -o plain.png");
    assert_ne!(folder.pixels("plain.png"), folder.pixels("pca.png"));
}

#[test]
fn a_transparent_content_makes_a_transparent_result() {
    let folder = Folder::new();
    with_clear(&folder);
    let run = format!("stylize clear.png -s style.png {CHEAP} -n 2 --size 20");
    for name in ["out.png", "out.webp", "out.tif"] {
        folder.done(&format!("{run} --save-every 1 -o {name}"));
        let start = read(&folder, "clear.png").alpha.unwrap();
        for name in [name.to_string(), name.replace('.', "_1.")] {
            let found = read(&folder, &name);
            let alpha = found.alpha.unwrap_or_else(|| panic!("{name} is opaque"));
            assert!(largest(&alpha.values, &start.resized(20, 14).values) < 0.003, "{name}");
        }
    }
    // Where the content is opaque or nearly, the picture is what the run painted over white.
    let flat = |p: &Picture| p.rgb[p.rgb.len() - 9..].to_vec();
    folder.done(&format!("{run} --bit-depth 16 -o deep.png"));
    let [eight, deep] = ["out.png", "deep.png"].map(|name| read(&folder, name).picture);
    assert!(largest(&flat(&eight), &flat(&deep)) < 1.5);
    let ended = folder.done(&format!("{run} -o out.jpg"));
    let note = "note: out.jpg cannot be transparent as the content is: it is written as seen over white\n";
    assert!(ended.stderr.contains(note), "{}", ended.stderr);
    let jpeg = read(&folder, "out.jpg");
    assert!(jpeg.alpha.is_none());
    let left = |p: &Picture| p.rgb[0];
    assert!(left(&jpeg.picture) > 240.0, "nothing but white is seen: {}", left(&jpeg.picture));
    // Nothing is said of it where there is no alpha, and a demo has none.
    assert!(!folder.stylize("-n 1 --size 20 -o opaque.jpg").stderr.contains("transparent"));
    assert!(read(&folder, "out.png").alpha.is_some());
}

#[test]
fn sixteen_bits_hold_more_than_eight_and_quality_makes_a_jpeg_smaller() {
    let folder = Folder::new();
    folder.stylize("-n 2 --size native -o eight.png");
    for name in ["deep.png", "deep.tif"] {
        folder.stylize(&format!("-n 2 --size native --bit-depth 16 -o {name}"));
        assert_eq!(image::open(folder.path(name)).unwrap().color(), image::ColorType::Rgb16);
        let [deep, eight] = [name, "eight.png"].map(|name| read(&folder, name).picture);
        assert!(largest(&deep.rgb, &eight.rgb) <= 0.502, "{name}");
        assert!(deep.rgb.iter().any(|v| v.fract() > 0.1 && v.fract() < 0.9), "{name}");
    }
    folder.stylize("-n 2 --size native -o usual.jpg");
    folder.stylize("-n 2 --size native --quality 95 -o same.jpg");
    folder.stylize("-n 2 --size native --quality 30 -o small.jpg");
    assert_eq!(folder.pixels("usual.jpg"), folder.pixels("same.jpg"));
    let [small, usual] = ["small.jpg", "usual.jpg"].map(|name| folder.read(name).len());
    assert!(small + 400 < usual, "{small} and {usual}");
}

#[test]
fn options_of_pictures_are_refused_where_they_do_not_fit() {
    let folder = Folder::new();
    for (options, error, hint) in [
        ("-o out.jpg --bit-depth 16", "bit-depth: 16 bits do not go into .jpg", "end the output in .png or .tif"),
        ("-o out.webp --bit-depth 16", "bit-depth: 16 bits do not go into .webp", "end the output in .png or .tif"),
        (
            "-o out.png --quality 90",
            "quality: there is none to choose for .png",
            "leave it out, or end the output in .jpg",
        ),
        (
            "-o out.png --original-colors --match-histogram style",
            "match-histogram: would undo --original-colors",
            "give one of the two",
        ),
    ] {
        folder.refuses(&format!("stylize content.png -s style.png {CHEAP} {options}"), 2, error, hint);
    }
    let pixels = "give a number of pixels, e.g. 200000000 or 200M";
    for (option, value, name, remedy) in [
        ("--max-pixels", "0", "<N>", pixels),
        ("--max-pixels", "-5", "<N>", pixels),
        ("--max-pixels", "many", "<N>", pixels),
        ("--quality", "0", "<N>", "0 is not in 1..=100"),
        ("--quality", "101", "<N>", "101 is not in 1..=100"),
        ("--bit-depth", "10", "<8|16>", "give 8 or 16"),
    ] {
        folder.misused(
            &format!("stylize content.png -s style.png --device cpu -o out.png {option} {value}"),
            &format!("invalid value '{value}' for '{option} {name}': {remedy}"),
        );
    }
    for (option, value) in [("--match-colors", "lab"), ("--match-histogram", "both"), ("--original-colors", "hsv")] {
        let ended = folder.run(&format!("stylize content.png -s style.png --device cpu -o out.png {option}={value}"));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.starts_with(&format!("error: invalid value '{value}' for '{option}")), "{}", ended.stderr);
    }
    // Without a value, the next word is not one.
    folder.stylize("-n 1 --size 12 --original-colors -o flag.png");
}

#[test]
fn a_picture_that_is_too_large_is_read_when_asked_for() {
    let folder = Folder::new();
    let run = format!("stylize content.png -s style.png {CHEAP} -n 1 --size 12 -o out.png --max-pixels");
    let hint = "make it smaller before giving it to impasto, or raise --max-pixels";
    let large = "is too large: 40x28, over 1119 pixels or 65535 a side";
    folder.refuses(&format!("{run} 1119"), 3, &format!("picture content.png: {large}"), hint);
    folder.done(&format!("{run} 1120"));
    // For every picture that is read.
    folder.refuses(
        &format!("stylize style.png -s style.png --init content.png {CHEAP} -n 1 -o new.png --max-pixels 1100"),
        3,
        &format!("picture content.png: {}", large.replace("1119", "1100")),
        hint,
    );
    folder.refuses(
        "plan content.png -s style.png --max-pixels 1119",
        3,
        &format!("picture content.png: {large}"),
        hint,
    );
}

#[test]
fn a_file_sets_these_options_too_and_what_is_typed_goes_before() {
    let folder = Folder::new();
    folder.write("my.toml", "original-colors = \"lab\"\nmatch-colors = \"pca\"\nbit-depth = 16\nmax-pixels = 2000\n");
    let run = "-n 2 --size native";
    folder.stylize(&format!("{run} --config my.toml -o one.png"));
    folder.stylize(&format!("{run} --original-colors=lab --match-colors pca --bit-depth 16 -o two.png"));
    let deep = |name: &str| image::open(folder.path(name)).unwrap().into_rgb16().into_raw();
    assert_eq!(deep("one.png"), deep("two.png"));
    // One that would undo another of the file takes its place.
    folder.stylize(&format!("{run} --config my.toml --match-histogram style -o three.png"));
    folder.stylize(&format!("{run} --match-colors pca --match-histogram style --bit-depth 16 -o four.png"));
    assert_eq!(deep("three.png"), deep("four.png"));
    folder.stylize(&format!("{run} --config my.toml --original-colors=none -o five.png"));
    assert_ne!(deep("five.png"), deep("one.png"));
}

#[test]
fn a_result_in_other_colours_is_made_again_from_itself() {
    let folder = Folder::new();
    with_clear(&folder);
    let run = format!("stylize clear.png -s style.png {CHEAP} -n 3 --size 20");
    for (name, options) in [
        ("one.png", "--original-colors --match-colors symmetric --bit-depth 16"),
        ("two.jpg", "--match-histogram style --quality 80"),
    ] {
        folder.done(&format!("{run} {options} -o {name}"));
        folder.done(&format!("rerun {name} -o again_{name}"));
        assert_eq!(folder.read(name), folder.read(&format!("again_{name}")), "{name}");
    }
}

#[test]
fn a_damaged_profile_is_a_note_and_no_failure() {
    let folder = Folder::new();
    let mut png = folder.read("content.png");
    let chunk = {
        // Text where a profile should be, compressed by nothing: one stored block.
        let text = b"no profile at all";
        let mut data = b"x\0\0\x78\x01\x01\x11\0\xee\xff".to_vec();
        data.extend(text);
        let (mut a, mut b) = (1u32, 0u32);
        text.iter().for_each(|v| (a, b) = ((a + u32::from(*v)) % 65521, (a + u32::from(*v) + b) % 65521));
        data.extend((b << 16 | a).to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(b"iCCP");
        crc.update(&data);
        [&(data.len() as u32).to_be_bytes()[..], b"iCCP", &data, &crc.sum().to_be_bytes()].concat()
    };
    png.splice(33..33, chunk);
    folder.write("profiled.png", png);
    let run = format!("stylize profiled.png -s style.png {CHEAP} -n 1 --size 12");
    let ended = folder.done(&format!("{run} -o out.png"));
    let note = "note: profiled.png: its colour profile is damaged or for other colours than its own: colours are taken \
                as sRGB\n";
    assert!(ended.stderr.starts_with(note), "{}", ended.stderr);
    assert_eq!(folder.done(&format!("{run} -o quiet.png --quiet --weights builtin")).stderr, "");
    folder.stylize("-n 1 --size 12 -o plain.png");
    assert_eq!(folder.pixels("out.png"), folder.pixels("plain.png"));
}

#[test]
fn the_demo_and_its_sheet_have_the_colours_asked_for() {
    let folder = Folder::new();
    folder.done("demo --size 24 --device cpu -n 1 --first-iterations 1 --original-colors -o demo.png");
    let [sheet, result] =
        ["demo_sheet.png", "demo.png"].map(|name| image::open(folder.path(name)).unwrap().into_rgb8());
    let (left, width) = (sheet.width() - result.width(), result.width());
    for (x, y, pixel) in result.enumerate_pixels() {
        assert_eq!(sheet.get_pixel(left + x, y), pixel, "{x} {y} of {width}");
    }
}
