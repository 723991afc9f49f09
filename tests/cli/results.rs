//! What a run writes when all is well.

use std::path::Path;

use crate::common::{shared, skip};
use crate::folder::{CHEAP, Folder, log};

/// Samples of a picture, once it has been seen to be RGB of this size.
fn pixels(path: &Path, size: (u32, u32)) -> Vec<u8> {
    let picture = image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!((picture.width(), picture.height()), size, "{}", path.display());
    assert_eq!(picture.color(), image::ColorType::Rgb8, "{}", path.display());
    picture.into_rgb8().into_raw()
}

fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn the_result_has_the_format_of_its_extension_and_the_size_asked_for() {
    let folder = Folder::new();
    for (output, size, expected, magic) in [
        ("longest.png", "--size 20", (20, 14), &b"\x89PNG"[..]),
        ("exact.jpg", "--size 33x17", (33, 17), b"\xff\xd8\xff"),
        ("native.webp", "--size native", (40, 28), b"RIFF"),
        ("never_enlarged.tif", "--size 4000", (40, 28), b"II*\0"),
        ("enlarged.TIFF", "--size 61x50", (61, 50), b"II*\0"),
        ("by_default.JPEG", "", (40, 28), b"\xff\xd8\xff"),
    ] {
        folder.stylize(&format!("-n 2 -o {output} {size}"));
        assert!(folder.read(output).starts_with(magic), "{output}");
        pixels(&folder.path(output), expected);
    }
}

#[test]
fn grey_tiny_and_narrow_pictures_are_painted_and_give_style() {
    let folder = Folder::new();
    image::GrayImage::from_fn(17, 9, |x, y| image::Luma([(x * 15 + y) as u8])).save(folder.path("grey.png")).unwrap();
    image::RgbImage::from_pixel(1, 1, image::Rgb([200, 90, 10])).save(folder.path("dot.png")).unwrap();
    image::RgbImage::from_pixel(70, 60, image::Rgb([255, 255, 255])).save(folder.path("white.png")).unwrap();
    image::RgbImage::from_fn(3, 200, |x, y| image::Rgb([y as u8, (x * 80) as u8, 7]))
        .save(folder.path("tall.jpg"))
        .unwrap();
    for (content, style, size, expected) in [
        ("grey.png", "style.png", "native", (17, 9)),
        ("content.png", "grey.png", "12", (12, 8)),
        ("dot.png", "style.png", "512", (1, 1)),
        ("content.png", "dot.png", "9x31", (9, 31)),
        ("dot.png", "dot.png", "native", (1, 1)),
        ("tall.jpg", "content.png", "100", (2, 100)),
        ("tall.jpg", "tall.jpg", "native", (3, 200)),
        ("white.png", "style.png", "native", (70, 60)),
        ("content.png", "white.png", "native", (40, 28)),
    ] {
        // With the default layers, which pool twice, and the default loss, which needs roots of covariances.
        let options = format!("--device cpu -n 2 --tv-weight 0.1 --size {size} -o out.png --overwrite");
        folder.done(&format!("stylize {content} -s {style} {options}"));
        pixels(&folder.path("out.png"), expected);
    }
}

#[test]
fn the_log_has_an_object_for_every_iteration_whose_loss_is_the_sum_of_its_terms() {
    let folder = Folder::new();
    folder.stylize("-n 40 --size 12 --tv-weight 0.5 --content-weight 3 -o out.png --log log.jsonl");
    let objects = log(&folder.path("log.jsonl"));
    assert_eq!(objects.len(), 40);
    for (i, object) in objects.iter().enumerate() {
        let keys: Vec<&str> = object.keys().map(String::as_str).collect();
        assert_eq!(keys, ["content/relu1_2", "iter", "loss", "style/relu1_1", "style/relu1_2", "tv"]);
        assert_eq!(object["iter"], i);
        let number = |key: &str| object[key].as_f64().unwrap();
        let sum: f64 = ["content/relu1_2", "style/relu1_1", "style/relu1_2", "tv"].map(number).iter().sum();
        assert!((number("loss") - sum).abs() <= 1e-12 * sum, "iteration {i}: {} is not {sum}", number("loss"));
    }
    let loss = |i: usize| objects[i]["loss"].as_f64().unwrap();
    assert_eq!(objects[0]["content/relu1_2"], 0.0, "the run starts at the content picture");
    assert!(loss(39) < loss(0), "40 iterations lower the loss: {} to {}", loss(0), loss(39));
}

#[test]
fn pictures_on_the_way_are_saved_under_numbered_names() {
    let folder = Folder::new();
    folder.stylize("-n 5 --size 16 --save-every 2 -o out.png");
    assert_eq!(folder.names(), ["content.png", "out.png", "out_2.png", "out_4.png", "style.png"]);
    folder.stylize("-n 4 --size 16 -o four.png");
    let [fourth, four, last] = ["out_4.png", "four.png", "out.png"].map(|name| pixels(&folder.path(name), (16, 11)));
    assert!(fourth == four, "OUT_4 is the picture after 4 iterations");
    assert!(fourth != last);
}

#[test]
fn coarse_to_fine_every_picture_has_the_size_of_the_result_and_the_log_names_the_scale() {
    let folder = Folder::new();
    let scales = "-n 3,2 --size 32x24 --min-scale 16 --scale-factor 2";
    let ended = folder.stylize(&format!("{scales} --save-every 2 -o out.png --log log.jsonl --print-every 5"));
    assert!(ended.stderr.contains("\nsize: 16x12, 3 iterations, then 32x24, 2 iterations\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("\n5/5  32x24  loss "), "{}", ended.stderr);
    for name in ["out_2.png", "out_4.png", "out.png"] {
        pixels(&folder.path(name), (32, 24));
    }
    assert_eq!(folder.names().len(), 6);
    let objects = log(&folder.path("log.jsonl"));
    let found: Vec<_> = objects.iter().map(|object| object["scale"].as_str().unwrap()).collect();
    assert_eq!(found, ["16x12", "16x12", "16x12", "32x24", "32x24"]);
    let plan = folder.stylize(&format!("{scales} -o none.png --dump-plan")).stdout;
    for start in ["16x12, 3 iterations\nstep: ", "32x24, 2 iterations\nstep: "] {
        assert_eq!(plan.matches(start).count(), 1, "{plan}");
    }
    // One number that a user gives holds for every scale; a size below the smallest scale leaves one.
    let cheap = CHEAP.replace("--preset plain", "--preset draft");
    let draft = format!("stylize content.png -s style.png {cheap} --min-scale 16");
    let ended = folder.done(&format!("{draft} --size 32x24 -n 2 -o draft.png"));
    assert!(ended.stderr.contains("\nsize: 16x12, 2 iterations, then 32x24, 2 iterations\n"), "{}", ended.stderr);
    let ended = folder.done(&format!("{draft} --size 15 -n 2 -o small.png"));
    assert!(ended.stderr.contains("\nsize: 15x11, 2 iterations\n"), "{}", ended.stderr);
    let ended = folder.done(&format!("{draft} --min-scale none -n 2 -o one.png").replace("--min-scale 16 ", ""));
    assert!(ended.stderr.contains("\nsize: 40x28, 2 iterations\n"), "{}", ended.stderr);
}

#[test]
fn a_picture_on_the_way_that_cannot_be_saved_costs_the_run_nothing_else_and_fails_it_in_the_end() {
    let folder = Folder::new();
    let run = "-n 4000 --size 16 --save-every 500 -o out.png";
    let mut command = folder.command(&format!("stylize content.png -s style.png {CHEAP} {run}"));
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    while !folder.path("out_500.png").exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    folder.write("out_2000.png", "someone else's");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("\noutput out_2000.png: already exists; the run goes on\n"), "{stderr}");
    assert!(stderr.contains("\nerror: output out_2000.png: already exists\n"), "{stderr}");
    assert_eq!(folder.read("out_2000.png"), b"someone else's");
    assert_eq!(folder.read("out_4000.png"), folder.read("out.png"), "the result and later pictures are there");
}

#[test]
fn the_article_prints_its_lines_alone_and_they_agree_with_the_log() {
    let folder = Folder::new();
    let article = "stylize content.png -s style.png --preset article --weights builtin --device cpu --size 32x32 -n 3";
    let ended = folder.done(&format!("{article} -o out.png --save-every 1 --log log.jsonl"));
    let lines = log(&folder.path("log.jsonl"));
    let lines = lines.iter().map(|line| format!("iter:{},loss:{:.9}\n", line["iter"], line["loss"].as_f64().unwrap()));
    let expected: String = lines.collect();
    assert_eq!(expected.lines().count(), 3);
    assert_eq!(ended.stdout, expected);
    for name in ["out_1.png", "out_2.png", "out_3.png", "out.png"] {
        pixels(&folder.path(name), (32, 32));
    }
    assert_eq!(folder.read("out_3.png"), folder.read("out.png"));
    let quiet = folder.done(&format!("{article} -o quiet.png --quiet"));
    assert_eq!((quiet.stdout, quiet.stderr), (expected, String::new()), "the lines are output, not decoration");
}

#[test]
fn a_quiet_run_prints_nothing_and_a_plain_one_only_to_standard_error() {
    let folder = Folder::new();
    let quiet = folder.stylize("-n 2 --size 16 --weights builtin -o quiet.png --quiet");
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let replaced = folder.stylize("-n 2 --size 16 -o replaced.png --quiet");
    assert!(replaced.stderr.starts_with("weights: built-in network"), "another network, in silence");
    assert_eq!((replaced.stdout.as_str(), replaced.stderr.lines().count()), ("", 1));
    let plain = folder.stylize("-n 4 --size 16 -o plain.png --print-every 2");
    assert_eq!(plain.stdout, "");
    let starts =
        ["weights: ", "device: CPU engine", "size: 16x11, 4 iterations", "2/4  loss ", "4/4  loss ", "wrote plain.png"];
    let lines: Vec<&str> = plain.stderr.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{}", plain.stderr);
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{}", plain.stderr);
    }
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let folder = Folder::new();
    for name in ["one", "two"] {
        folder.stylize(&format!("-n 4 --tv-weight 0.1 -o {name}.png --log {name}.jsonl"));
    }
    assert_eq!(folder.read("one.png"), folder.read("two.png"));
    assert_eq!(folder.read("one.jsonl"), folder.read("two.jsonl"));
}

#[test]
fn the_seed_chooses_the_noise_and_nothing_else_does() {
    let folder = Folder::new();
    for (name, seed) in [("one", 1), ("two", 2), ("again", 1)] {
        folder.stylize(&format!("-n 2 --size 16 --init noise --seed {seed} -o {name}.png"));
    }
    assert_eq!(folder.read("one.png"), folder.read("again.png"));
    assert_ne!(folder.read("one.png"), folder.read("two.png"));
}

#[test]
fn tiles_do_not_change_the_picture() {
    let folder = Folder::new();
    let run =
        "stylize content.png -s style.png --device cpu --size 80x56 -n 3 --learning-rate 4 --content-layers relu1_2";
    folder.done(&format!("{run} --style-layers relu1_1,relu2_2 -o whole.png"));
    folder.done(&format!("{run} --style-layers relu1_1,relu2_2 -o tiled.png --tile 32"));
    let [start, whole, tiled] =
        ["content.png", "whole.png", "tiled.png"].map(|name| image::open(folder.path(name)).unwrap());
    let start = start.resize_exact(80, 56, image::imageops::FilterType::Lanczos3).into_rgb8();
    let (whole, tiled) = (whole.into_rgb8(), tiled.into_rgb8());
    assert!(largest_difference(&whole, &tiled) <= 1, "{}", largest_difference(&whole, &tiled));
    assert!(largest_difference(&whole, &start) > 5, "the runs did something");
}

#[test]
fn a_start_can_be_a_picture_or_an_array() {
    let folder = Folder::new();
    folder.stylize("-n 1 --size native -o content_start.png");
    folder.stylize("-n 1 --size native --init content.png -o picture_start.png");
    let [content, picture] =
        ["content_start.png", "picture_start.png"].map(|name| pixels(&folder.path(name), (40, 28)));
    assert!(content == picture);
    // Zeros with the mean subtracted are the mean colour; one step hardly moves it.
    folder.write("flat.npy", npy(&[28, 40, 3], &[0.0; 28 * 40 * 3]));
    folder.stylize("-n 1 --size native --mean 100,150,200 --learning-rate 0.5 --init flat.npy -o array_start.png");
    let picture = pixels(&folder.path("array_start.png"), (40, 28));
    let flat: Vec<u8> = [100, 150, 200].into_iter().cycle().take(picture.len()).collect();
    assert!(largest_difference(&picture, &flat) <= 1);
}

#[test]
fn an_existing_result_is_replaced_only_when_asked() {
    let folder = Folder::new();
    folder.stylize("-n 1 --size 16 -o out.png --log log.jsonl --save-every 1");
    let first = folder.files();
    folder.stylize("-n 2 --size 16 -o out.png --log log.jsonl --save-every 1 --overwrite");
    assert_ne!(folder.read("out.png"), first["out.png"]);
    assert_eq!(log(&folder.path("log.jsonl")).len(), 2);
    assert_eq!(folder.names(), ["content.png", "log.jsonl", "out.png", "out_1.png", "out_2.png", "style.png"]);
}

#[test]
fn both_layouts_of_the_mat_file_give_the_same_losses() {
    let test = "both layouts of the .mat file";
    let Some(shared) = shared(test) else { return };
    let folder = Folder::new();
    for (log, name) in [("beta16.jsonl", "beta16.PARTIAL"), ("newformat.jsonl", "newformat.PARTIAL")] {
        let weights = shared.join(format!("vgg19/imagenet-vgg-verydeep-19.{name}.mat"));
        if !weights.is_file() {
            return skip(test, &format!("no {}", weights.display()));
        }
        let mut command = folder.command("stylize content.png -s style.png --device cpu --content-layers relu1_2 -n 3");
        let rest = ["--style-layers", "relu1_2,relu2_2", "--quiet", "--overwrite", "-o", "out.png", "--log", log];
        let output = command.args(rest).arg("--weights").arg(&weights).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(log(&folder.path("beta16.jsonl")).len(), 3);
    assert_eq!(folder.read("beta16.jsonl"), folder.read("newformat.jsonl"));
}

#[test]
fn the_plan_is_printed_and_nothing_is_written() {
    let folder = Folder::new();
    let before = folder.names();
    let ended =
        folder.done(&format!("stylize content.png -s style.png {CHEAP} -o out.png --log log.jsonl --dump-plan"));
    assert_eq!(folder.names(), before);
    for launch in ["conv3x3 ", "gram ", "conv3x3_backward ", "style_loss ", "adam ", "log_losses "] {
        let found = ended.stdout.lines().any(|line| line.trim_start().starts_with(launch) && line.contains("grid ["));
        assert!(found, "no {launch}in\n{}", ended.stdout);
    }
}

/// A `.npy` file of float32.
pub(crate) fn npy(shape: &[usize], values: &[f32]) -> Vec<u8> {
    let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}\n", sides.join(", "));
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}
