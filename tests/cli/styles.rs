//! Several styles, masks, and starts, as a user gives them.

use crate::folder::{CHEAP, Folder, log};

/// A folder with a second style, a mask from black to white, and one of a disc.
fn folder() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("album")).unwrap();
    image::RgbImage::from_fn(20, 24, |x, y| image::Rgb([(x * 12) as u8, 40, (y * 10) as u8]))
        .save(folder.path("album/b.png"))
        .unwrap();
    std::fs::copy(folder.path("style.png"), folder.path("album/a.PNG")).unwrap();
    folder.write("album/notes.txt", "no picture");
    let grey = |name: &str, of: fn(u32, u32) -> u8| {
        image::GrayImage::from_fn(40, 28, |x, y| image::Luma([of(x, y)])).save(folder.path(name)).unwrap();
    };
    grey("left.png", |x, _| (255.0 * (1.5 - x as f32 / 20.0).clamp(0.0, 1.0)) as u8);
    grey("disc.png", |x, y| if x.abs_diff(20).pow(2) + y.abs_diff(14).pow(2) < 80 { 255 } else { 0 });
    grey("black.png", |_, _| 0);
    folder
}

#[test]
fn a_folder_of_styles_is_its_pictures_and_weights_blend_them() {
    let folder = folder();
    let run = |styles: &str, output: &str| {
        folder.done(&format!("stylize content.png {styles} {CHEAP} -n 3 -q --weights builtin -o {output}"));
        folder.pixels(output)
    };
    let files = run("-s style.png -s album/b.png", "files.png");
    assert!(run("-s album", "folder.png") == files);
    assert!(run("-s album --style-blend-weights 2,2", "even.png") == files);
    let one = run("-s style.png", "one.png");
    assert!(run("-s album --style-blend-weights 5,0", "first.png") == one);
    assert!(files != one && run("-s album --style-blend-weights 3,1", "more.png") != files);
    assert!(run("-s album --style-scale 1,0.4", "scales.png") != files);
    assert!(run("-s album --style-scale 1,1", "scale.png") == files);
}

#[test]
fn masks_part_the_picture_and_each_part_has_terms_of_its_own() {
    let folder = folder();
    let masks = "-s style.png -s album/b.png --style-mask left.png --style-mask rest";
    folder.done(&format!("stylize content.png {masks} {CHEAP} -n 2 --log log.jsonl -o out.png"));
    let keys: Vec<String> = log(&folder.path("log.jsonl"))[0].keys().cloned().collect();
    let style = ["style 2/relu1_1", "style 2/relu1_2", "style/relu1_1", "style/relu1_2", "tv"];
    assert_eq!(keys[..3], ["content/relu1_2", "iter", "loss"]);
    assert_eq!(keys[3..], style);
    folder.write("my.toml", "style-mask = [\"left.png\", \"rest\"]\nstyle-blend-weights = [1, 2]\n");
    let file = "-s style.png -s album/b.png --config my.toml";
    folder.done(&format!("stylize content.png {file} {CHEAP} -n 2 -o file.png"));
    assert!(folder.pixels("out.png") == folder.pixels("file.png"), "weights count among styles of the same mask");
    let plan = folder.done(&format!("plan content.png {masks} {CHEAP} --no-calibrate --style-scale 1,0.5"));
    assert!(plan.stdout.starts_with("40x28 (style 30x36, 17x20), 200 iterations\n"), "{}", plan.stdout);
}

#[test]
fn what_a_content_mask_leaves_black_is_the_photo() {
    let folder = folder();
    let content = folder.pixels("content.png");
    for (options, output) in [
        ("--init noise --optimizer lbfgs", "a.png"),
        ("--init style-stats --ema 0.9", "b.png"),
        ("--init-noise 0.7 --min-scale 16", "c.png"),
    ] {
        folder.stylize(&format!("-n 3 --content-mask disc.png {options} -o {output}"));
        let (mut kept, mut moved) = (0, 0);
        for (at, (pixel, own)) in folder.pixels(output).chunks(3).zip(content.chunks(3)).enumerate() {
            let (x, y) = (at as u32 % 40, at as u32 / 40);
            match x.abs_diff(20).pow(2) + y.abs_diff(14).pow(2) < 80 {
                true => moved += usize::from(pixel != own),
                false => {
                    assert_eq!(pixel, own, "{options} at {x}, {y}");
                    kept += 1;
                }
            }
        }
        assert!(kept > 800 && moved > 200, "{options}: {kept} kept, {moved} moved");
    }
}

#[test]
fn a_result_with_a_folder_and_masks_is_made_again_and_a_changed_mask_is_noticed() {
    let folder = folder();
    let options =
        "--style-mask left.png --style-mask none --content-mask disc.png --init style-stats --init-noise 0.25";
    folder.done(&format!("stylize content.png -s album {options} {CHEAP} -n 3 -o out.png"));
    std::fs::copy(folder.path("style.png"), folder.path("album/c.png")).unwrap();
    folder.done("rerun out.png -o again.png");
    assert!(folder.pixels("out.png") == folder.pixels("again.png"), "as the folder was");
    let left = folder.read("left.png");
    std::fs::copy(folder.path("black.png"), folder.path("left.png")).unwrap();
    let ended = folder.run("rerun out.png -o third.png");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("left.png: is not the file that the result was made from"), "{}", ended.stderr);
    folder.write("left.png", left);
    // A checkpoint knows its masks, too.
    let run = format!("stylize content.png -s album/a.PNG -s album/b.png {CHEAP}");
    let first = format!("{run} --style-mask left.png --style-mask rest -n 400 -q -o long.png");
    let mut child = folder.command(&format!("{first} --checkpoint-every 0")).spawn().unwrap();
    while !folder.path("long.png.checkpoint").is_file() {
        assert!(child.try_wait().unwrap().is_none(), "ended without a checkpoint");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for masks in [
        "--style-mask rest --style-mask left.png",
        "--style-mask left.png --style-mask rest --content-mask disc.png",
        "",
    ] {
        let ended = folder.run(&format!("{run} {masks} -n 400 -o long.png --resume"));
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        assert!(ended.stderr.contains("was made with another"), "{masks}: {}", ended.stderr);
    }
}

#[test]
fn styles_masks_and_starts_that_do_not_fit_are_named_with_the_remedy() {
    let folder = folder();
    std::fs::create_dir(folder.path("empty")).unwrap();
    let run = |options: &str| format!("stylize content.png {CHEAP} -o out.png {options}");
    let two = "-s style.png -s album/b.png";
    let each = "give one for each style, in their order";
    for (options, code, error, hint) in [
        (
            "-s empty".to_string(),
            3,
            "picture empty: stands for no picture",
            "give pictures that end in .png, .jpg, .webp or .tif, or a folder of them",
        ),
        (format!("{two} --style-blend-weights 1"), 2, "style-blend-weights: 1 for 2 style pictures", each),
        (
            format!("{two} --style-blend-weights -1,2"),
            2,
            "style-blend-weights: -1",
            "weights are finite and not negative",
        ),
        (
            format!("{two} --style-blend-weights 0,0"),
            2,
            "style-blend-weights: the styles of one part of the picture all have weight 0",
            "give one of them a weight above 0, or leave these styles out",
        ),
        (
            format!("{two} --style-scale 1,2,3"),
            2,
            "style-scale: 3 for 2 style pictures",
            "give one for all styles, or one for each, in their order",
        ),
        (format!("{two} --style-scale 1,0"), 2, "style-scale: 0", "give a finite number above 0"),
        (
            format!("{two} --style-mask left.png"),
            2,
            "style-mask: 1 for 2 style pictures",
            "give one for each style, in their order; `rest` is what the others leave",
        ),
        (
            format!("{two} --style-mask absent.png --style-mask rest"),
            3,
            "picture absent.png: no such file",
            "check the path",
        ),
        (
            "-s style.png --content-mask black.png".into(),
            2,
            "content-mask: is black: nothing would be painted",
            "make it white where the picture is to be painted",
        ),
        (
            "-s style.png --content-mask album/notes.txt".into(),
            3,
            "picture album/notes.txt: is not a picture in a known format",
            "open it in an image editor and save it as PNG, JPEG, WebP or TIFF",
        ),
        (
            "-s style.png --init-noise 1.5".into(),
            2,
            "init-noise: 1.5",
            "give a number from 0, no noise, to 1, noise alone",
        ),
        (
            "-s style.png --init-noise -0.5".into(),
            2,
            "init-noise: -0.5",
            "give a number from 0, no noise, to 1, noise alone",
        ),
    ] {
        folder.refuses(&run(&options), code, error, hint);
    }
    folder.misused(
        &run("-s style.png --style-scale 1,x"),
        "invalid value '1,x' for '--style-scale <FACTOR,…>': `x` is not a number",
    );
    // Masks are read, and never replaced.
    let read = "is one of the files that the run reads";
    let hint = "choose another name: this one is never replaced";
    let replace = format!("stylize content.png -s style.png {CHEAP} --overwrite --content-mask disc.png -o disc.png");
    folder.refuses(&replace, 1, &format!("output disc.png: {read}"), hint);
}
