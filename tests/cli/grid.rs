//! `impasto grid`: what is on the sheet, and what is refused.

use crate::folder::{CHEAP, Folder};

const GRID: &str = "grid content.png -s style.png";

#[test]
fn every_cell_is_the_picture_that_stylize_makes_with_its_settings() {
    let folder = Folder::new();
    let options = format!("{CHEAP} --size 40x28 --weights builtin");
    let axes = "--rows iterations=1,2 --columns style-weight=1,100,10000";
    let ended = folder.done(&format!("{GRID} {options} {axes} -o grid.png --keep kept"));
    assert!(ended.stderr.ends_with("6 of 6 pictures made\nwrote grid.png\n"), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("device: ").count(), 1, "{}", ended.stderr);
    let sheet = image::open(folder.path("grid.png")).unwrap().into_rgb8();
    // Glyphs of 8: labels of 10 characters at the left, of two and three lines above.
    for (row, iterations) in [1, 2].into_iter().enumerate() {
        for (column, weight) in [1, 100, 10000].into_iter().enumerate() {
            let name = format!("kept/iterations={iterations}_style-weight={weight}.png");
            let settings = format!("-n {iterations} --style-weight {weight}");
            folder
                .done(&format!("stylize content.png -s style.png {options} {settings} -o one.png --overwrite --quiet"));
            assert!(folder.pixels(&name) == folder.pixels("one.png"), "{name}");
            let cell = image::open(folder.path(&name)).unwrap().into_rgb8();
            let (left, top) = (sheet.width() - (3 - column as u32) * 48, sheet.height() - (2 - row as u32) * 36);
            let same = cell.enumerate_pixels().all(|(x, y, pixel)| sheet.get_pixel(left + x, top + y) == pixel);
            assert!(same, "{name} is not where it should be");
        }
    }
    folder.done("rerun kept/iterations=2_style-weight=100.png -o again.png");
    assert!(folder.pixels("again.png") == folder.pixels("kept/iterations=2_style-weight=100.png"));
    assert_eq!(folder.names(), ["again.png", "content.png", "grid.png", "one.png", "style.png"]);
}

#[test]
fn a_cell_that_fails_is_named_and_the_others_are_shown() {
    let folder = Folder::new();
    let run = format!("{GRID} {CHEAP} -n 9 --size 64x48 --columns learning-rate=1,1e30 -o grid.png");
    let ended = folder.run(&run);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("[2/2] failed: content/relu1_2 diverged at iteration 1\n"), "{}", ended.stderr);
    let summary =
        "1 of 2 pictures made, 1 failed:\n  learning-rate=1e30: content/relu1_2 diverged at iteration 1\nwrote ";
    assert!(ended.stderr.contains(summary), "{}", ended.stderr);
    let sheet = image::open(folder.path("grid.png")).unwrap().into_rgb8();
    let grey = sheet.pixels().filter(|pixel| pixel.0 == [225; 3]).count();
    assert!(grey > 64 * 48 / 2 && grey < 64 * 48, "{grey} grey pixels, and words on them");
    // A shown cell is shrunk to the size asked for.
    folder.done(&run.replace("1,1e30", "1,2").replace("grid.png", "small.png --cell 32"));
    let small = image::open(folder.path("small.png")).unwrap().into_rgb8();
    assert_eq!(small.width(), 8 + 2 * (32 + 8));
}

#[test]
fn networks_and_files_are_settings_too() {
    let folder = Folder::new();
    folder.write("my.toml", "style-weight = 3\niterations = 7\n");
    let options = "--device cpu --preset plain --content-layers relu1_2 --config my.toml --size 24";
    let layers = "--rows style-layers=relu1_1;relu1_1,relu2_1=0.5 --columns iterations=1,2 --keep kept";
    folder.done(&format!("{GRID} {options} {layers} -o grid.png"));
    let run = "stylize content.png -s style.png --device cpu --preset plain --content-layers relu1_2 --size 24";
    folder.done(&format!("{run} --style-weight 3 --style-layers relu1_1,relu2_1=0.5 -n 2 -o one.png"));
    assert!(folder.pixels("kept/style-layers=relu1_1,relu2_1=0.5_iterations=2.png") == folder.pixels("one.png"));
}

#[test]
fn what_no_grid_can_have_is_refused_before_anything_runs() {
    let folder = Folder::new();
    let run = |options: &str| format!("{GRID} {CHEAP} -o grid.png {options}");
    for (axis, what) in [
        ("style-wait=1", "there is no option `style-wait`; see `impasto stylize --help`"),
        ("size=64,64", "`64` is there twice"),
        ("log=a.jsonl", "`log` changes nothing that a picture shows"),
        ("size", "write it as style-weight=1,10,100"),
    ] {
        folder.misused(
            &run(&format!("--rows {axis}")),
            &format!("invalid value '{axis}' for '--rows <OPTION=VALUE,…>': {what}"),
        );
    }
    folder.misused(&run(""), "the following required arguments were not provided:");
    folder.misused(
        &run("--rows tv-weight=1,2 --tv-weight 3"),
        "the argument '--tv-weight <TV_WEIGHT>' cannot be used multiple times",
    );
    let hint = "give a finite number, 0 or more";
    folder.refuses(&run("--rows tv-weight=1,-2"), 2, "tv-weight: -2", hint);
    let presets = format!("{GRID} -o grid.png --rows preset=draft,plain2");
    folder.refuses(&presets, 2, "preset: there is no preset `plain2`", "`impasto presets` lists them");
    let hint = "give the columns another option";
    folder.refuses(&run("--rows size=8,9 --columns size=7"), 2, "columns: size is what the rows have already", hint);
    let hint = "leave it out; `impasto stylize` makes one of them by itself";
    folder.refuses(&run("--rows size=8,9 --log x.jsonl"), 2, "log: is for one picture, and a grid makes several", hint);
    let hint = "give smaller cells, e.g. --cell 256, or fewer values";
    let huge = folder.run(&run("--rows size=4000x4000,9 --columns seed=1,2,3"));
    assert_eq!(huge.code, Some(2), "{}", huge.stderr);
    assert!(huge.stderr.ends_with(&format!(" pixels is too large\nhint: {hint}\n")), "{}", huge.stderr);
    folder.write("grid.png", "old");
    let hint = "pass --overwrite to replace it, or choose another name";
    folder.refuses(&run("--rows size=8,9"), 1, "output grid.png: already exists", hint);
}
