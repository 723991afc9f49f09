//! Several pictures in one go: files, folders and patterns in, a folder out.

use std::collections::BTreeMap;

use crate::folder::{CHEAP, Ended, Folder, log};

/// Settings of milliseconds a picture.
const SMALL: &str = "-n 2 --size 24";

/// A small picture, another one for every number.
fn draw(folder: &Folder, name: &str, number: usize) {
    let level = |value: usize| (value % 256) as u8;
    image::RgbImage::from_fn(26, 20, |x, y| {
        let [x, y] = [x, y].map(|at| at as usize);
        image::Rgb([level(x * (number + 3)), level(y * (9 + number) + x), level((x / 3 + y / 4) % 2 * 180)])
    })
    .save(folder.path(name))
    .unwrap();
}

/// A folder `in` with so many pictures.
fn album(count: usize) -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("in")).unwrap();
    (0..count).for_each(|number| draw(&folder, &format!("in/{number:02}.png"), number));
    folder
}

/// Name and bytes of every file below, with `/` between folders.
fn below(folder: &Folder, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let entries = std::fs::read_dir(folder.path(name)).into_iter().flatten().map(Result::unwrap);
    for entry in entries {
        let own = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            let deeper = below(folder, &format!("{name}/{own}"));
            found.extend(deeper.into_iter().map(|(deep, bytes)| (format!("{own}/{deep}"), bytes)));
        } else {
            found.insert(own, std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn names(folder: &Folder, name: &str) -> Vec<String> {
    below(folder, name).into_keys().collect()
}

fn batch(folder: &Folder, contents: &str, options: &str) -> Ended {
    folder.run(&format!("stylize {contents} -s style.png {CHEAP} {SMALL} {options}"))
}

/// Runs a batch to success.
fn made(folder: &Folder, contents: &str, options: &str) -> Ended {
    let ended = batch(folder, contents, options);
    assert_eq!(ended.code, Some(0), "{contents} {options}\n{}", ended.stderr);
    ended
}

#[test]
fn two_broken_pictures_of_twenty_do_not_stop_the_others_which_are_those_of_single_runs() {
    let folder = album(20);
    folder.write("in/07.png", "a note");
    let whole = folder.read("in/13.png");
    folder.write("in/13.png", &whole[..whole.len() / 2]);
    let ended = batch(&folder, "in", "-o out");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let join = |folder: &str, name: &str| std::path::Path::new(folder).join(name).display().to_string();
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let header = format!("[8/20] {} -> {}", join("in", "07.png"), join("out", "07.png"));
    assert!(lines.contains(&&*header), "{}", ended.stderr);
    let broken =
        [("07.png", "is not a picture in a known format"), ("13.png", "is cut short: the end of the file is missing")];
    for (place, (name, what)) in ["[8/20]", "[14/20]"].into_iter().zip(broken) {
        let line = format!("{place} failed: picture {}: {what}", join("in", name));
        assert!(lines.contains(&&*line), "{line} in\n{}", ended.stderr);
    }
    assert_eq!(lines[lines.len() - 3], "18 of 20 pictures made, 2 failed:");
    assert_eq!(lines[lines.len() - 2], format!("  {}: picture {0}: {}", join("in", "07.png"), broken[0].1));
    for once in ["weights: ", "device: "] {
        assert_eq!(lines.iter().filter(|line| line.starts_with(once)).count(), 1, "{once}");
    }
    let results = below(&folder, "out");
    assert_eq!(results.len(), 18, "{:?}", results.keys());
    for (name, bytes) in results {
        folder.done(&format!("stylize in/{name} -s style.png {CHEAP} {SMALL} -o single.png --overwrite --quiet"));
        assert!(folder.read("single.png") == bytes, "{name} has other bytes by itself");
    }
    // What a result says makes it alone again.
    folder.done("rerun out/02.png -o again.png");
    assert!(folder.pixels("again.png") == folder.pixels("out/02.png"));
}

#[test]
fn three_shards_are_the_whole_and_share_nothing() {
    let folder = album(7);
    made(&folder, "in", "-o whole");
    let mut together = BTreeMap::new();
    for (shard, count) in [("1/3", 3), ("2/3", 2), ("3/3", 2)] {
        let out = format!("part{}", &shard[..1]);
        made(&folder, "in", &format!("-o {out} --shard {shard}"));
        let part = below(&folder, &out);
        assert_eq!(part.len(), count, "{shard}");
        for (name, bytes) in part {
            assert!(together.insert(name.clone(), bytes).is_none(), "{name} twice");
        }
    }
    assert!(together == below(&folder, "whole"));
    // A part reads nothing of another's: a broken picture is no matter to it.
    folder.write("in/00.png", "broken");
    made(&folder, "in", "-o other --shard 2/3");
    assert_eq!(made(&folder, "in/00.png", "-o none --shard 2/2").stderr, "0 of 0 pictures made\n");
    for bad in ["0/3", "4/3", "3", "a/b"] {
        let error = format!("invalid value '{bad}' for '--shard <I/N>': give I/N as 2/8, I from 1 to N");
        folder.misused(&format!("stylize in -s style.png -o out --shard {bad}"), &error);
    }
}

#[test]
fn every_style_of_a_folder_is_used_by_itself() {
    let folder = album(2);
    std::fs::create_dir(folder.path("styles")).unwrap();
    draw(&folder, "styles/north.png", 40);
    draw(&folder, "styles/south.png", 50);
    folder.write("styles/broken.png", "");
    let ended = folder.run(&format!("stylize in --styles styles {CHEAP} {SMALL} -o out --format webp"));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("4 of 6 pictures made, 2 failed:\n"), "{}", ended.stderr);
    let results = below(&folder, "out");
    let expected = ["00_north.webp", "00_south.webp", "01_north.webp", "01_south.webp"];
    assert_eq!(results.keys().collect::<Vec<_>>(), expected);
    for (name, bytes) in results {
        let (content, style) = name.trim_end_matches(".webp").split_once('_').unwrap();
        let run = format!("stylize in/{content}.png -s styles/{style}.png {CHEAP} {SMALL}");
        folder.done(&format!("{run} -o single.webp --overwrite --quiet"));
        assert!(folder.read("single.webp") == bytes, "{name}");
    }
    let both = format!("stylize in -s style.png --styles styles {CHEAP} -o other");
    folder.misused(&both, "the argument '--style <STYLE>' cannot be used with '--styles <DIR>'");
}

#[test]
fn folders_and_patterns_stand_for_their_pictures() {
    let folder = album(2);
    std::fs::create_dir_all(folder.path("in/deep")).unwrap();
    draw(&folder, "in/deep/00.jpg", 8);
    folder.write("in/deep/notes.txt", "not a picture");
    made(&folder, "in", "-o flat");
    assert_eq!(names(&folder, "flat"), ["00.png", "01.png"]);
    made(&folder, "in content.png", "-o deep --recursive --log log.jsonl --plot losses.svg");
    assert_eq!(names(&folder, "deep"), ["00.png", "01.png", "content.png", "deep/00.png"]);
    for name in ["00", "01", "content", "deep_00"] {
        assert_eq!(log(&folder.path(&format!("log_{name}.jsonl"))).len(), 2, "{name}");
        assert!(folder.path(&format!("losses_{name}.svg")).is_file(), "{name}");
    }
    // No shell is between: the program itself finds what a pattern matches.
    made(&folder, "in/0?.png", "-o png --save-every 1");
    assert_eq!(names(&folder, "png"), ["00.png", "00_1.png", "00_2.png", "01.png", "01_1.png", "01_2.png"]);
    made(&folder, "in/**/*.jpg", "-o jpg --format jpg");
    assert_eq!(names(&folder, "jpg"), ["00.jpg"]);
    // Of one picture, too, if it is meant as one of several.
    made(&folder, "in/00.png", "-o one --shard 1/1");
    assert_eq!(names(&folder, "one"), ["00.png"]);
}

#[test]
fn what_is_named_twice_is_refused_before_anything_runs() {
    let folder = album(2);
    std::fs::copy(folder.path("in/00.png"), folder.path("00.png")).unwrap();
    std::fs::write(folder.path("out.txt"), "").unwrap();
    let run = |contents: &str, options: &str| format!("stylize {contents} -s style.png {CHEAP} {SMALL} {options}");
    let twice = |a: &str, b: &str| {
        let [output, a, b] = [("out", "00.png"), ("in", a), ("", b)]
            .map(|(folder, name)| std::path::Path::new(folder).join(name).display().to_string());
        format!("output {output}: would be the result of {a} and of {b}")
    };
    let hint = "rename one of them, or paint them into different folders";
    folder.refuses(&run("in 00.png", "-o out"), 1, &twice("00.png", "00.png"), hint);
    // Each shard refuses it, also where only others have them.
    folder.refuses(&run("in 00.png", "-o out --shard 2/3"), 1, &twice("00.png", "00.png"), hint);
    assert!(!folder.path("out").exists(), "no folder is left behind");
    let hint = "name a folder, which is made if it is missing";
    folder.refuses(
        &run("in", "-o out.png"),
        1,
        "output out.png: is the name of one picture, and this is a batch (2)",
        hint,
    );
    let hint = "name a folder: several pictures go into it";
    folder.refuses(&run("in", "-o out.txt"), 1, "output out.txt: is a file", hint);
    for (out, options) in [("in", ""), ("in/deep", "--recursive")] {
        let error = format!("output {out}: is where pictures are read from: in would have the results among them");
        folder.refuses(&run("in", &format!("-o {out} {options}")), 1, &error, "name another folder");
    }
    folder.refuses(&run("in absent.png", "-o out"), 3, "picture absent.png: no such file", "check the path");
    let hint = "give it without a name: every picture has its own";
    folder.refuses(&run("in", "-o out --resume=x"), 2, "resume: names one file for several pictures", hint);
    let hint = "give one content, and the name of one result";
    folder.refuses(&run("in", "-o out --dump-plan"), 2, "dump-plan: is about one picture", hint);
    let hint = "give a finite number, 0 or more";
    folder.refuses(&run("in", "-o out --tv-weight -1"), 2, "tv-weight: -1", hint);
    assert!(!folder.path("out").exists());
}

#[test]
fn results_that_are_there_are_refused_skipped_or_replaced() {
    let folder = album(3);
    made(&folder, "in", "-o out");
    let first = below(&folder, "out");
    std::fs::remove_file(folder.path("out/01.png")).unwrap();
    folder.write("out/02.png", "precious");
    let refused = batch(&folder, "in", "-o out");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.ends_with("hint: pass --overwrite to replace it, or choose another name\n"),
        "{}",
        refused.stderr
    );
    assert_eq!(refused.stderr.lines().count(), 2, "before anything is opened: {}", refused.stderr);
    assert!(!folder.path("out/01.png").exists());
    let ended = made(&folder, "in", "-o out --skip-existing");
    assert!(ended.stderr.contains("[1/1] "), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("1 of 3 pictures made, 2 there already\n"), "{}", ended.stderr);
    assert!(folder.read("out/01.png") == first["01.png"]);
    assert_eq!(folder.read("out/02.png"), b"precious");
    let none = made(&folder, "in", "-o out --skip-existing");
    assert_eq!(none.stderr, "0 of 3 pictures made, 3 there already\n");
    made(&folder, "in", "-o out --overwrite");
    assert!(below(&folder, "out") == first);
    folder.misused(
        &format!("stylize in -s style.png {CHEAP} -o out --skip-existing --overwrite"),
        "the argument '--skip-existing' cannot be used with '--overwrite'",
    );
}

#[test]
fn a_run_that_diverges_leaves_nothing_that_looks_like_a_result() {
    let folder = album(2);
    let ended = batch(&folder, "in", "-n 9 --learning-rate 1e30 -o out --quiet --weights builtin".trim());
    assert_eq!(ended.code, Some(2), "two -n: {}", ended.stderr);
    let run = format!("stylize in -s style.png {CHEAP} --size 24 -n 9 --learning-rate 1e30 -o out");
    let ended = folder.run(&run);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("0 of 2 pictures made, 2 failed:\n"), "{}", ended.stderr);
    assert_eq!(names(&folder, "out"), ["00_failed.png", "01_failed.png"]);
    // The same without the cause makes them; nothing is in the way.
    folder.done(&format!("{} --skip-existing", run.replace("1e30", "1")));
    assert_eq!(names(&folder, "out"), ["00.png", "00_failed.png", "01.png", "01_failed.png"]);
}
