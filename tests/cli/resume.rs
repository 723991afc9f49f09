//! Runs that are broken off and go on, and results that are made again from what they say.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::folder::{CHEAP, Folder, log};

/// Longest wait for a checkpoint.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two scales, everything that a state can hold.
const ADAM: &str =
    "-n 120 --size 64x48 --min-scale 32 --scale-factor 2 --keep-moments true --clamp --ema 0.9 --init noise";
const LBFGS: &str = "-n 60 --size 48x36 --optimizer lbfgs --lbfgs-history 4 --ema 0.8";

fn command(options: &str) -> String {
    format!("stylize content.png -s style.png {CHEAP} {options} --checkpoint-every 0")
}

fn start(folder: &Folder, arguments: &str) -> Child {
    folder.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills the run some time after its first checkpoint is there. False if it was complete by then.
fn kill_after(folder: &Folder, mut run: Child, delay: Duration) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !folder.path("out.png.checkpoint").exists() && run.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "no checkpoint");
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(delay);
    // SIGKILL on Unix.
    let _ = run.kill();
    let _ = run.wait();
    folder.path("out.png.checkpoint").exists()
}

/// Breaks a run off again and again, until it is complete. The result must be that of a run without a break.
fn killed(options: &str, points: u32) -> u32 {
    let folder = Folder::new();
    let begin = Instant::now();
    folder.done(&format!("{} -o whole.png --log whole.jsonl --plot whole.svg", command(options)));
    let whole = begin.elapsed();
    let run = format!("{} -o out.png --log out.jsonl --plot out.svg", command(options));
    let mut kills = 0;
    for point in 0..points {
        let broken =
            kill_after(&folder, start(&folder, &run), whole.mul_f64(0.6 * f64::from(point) / f64::from(points)));
        if broken {
            kills += 1;
            // Killed once more on its way.
            if point % 3 == 1 && !kill_after(&folder, start(&folder, &format!("{run} --resume")), Duration::ZERO) {
                continue;
            }
            folder.done(&format!("{run} --resume"));
        }
        assert_eq!(folder.pixels("out.png"), folder.pixels("whole.png"), "point {point}");
        assert_eq!(folder.read("out.jsonl"), folder.read("whole.jsonl"), "point {point}");
        assert!(folder.read("out.svg") == folder.read("whole.svg"), "point {point}: another plot");
        assert!(!folder.path("out.png.checkpoint").exists());
        for name in ["out.png", "out.jsonl", "out.svg"] {
            std::fs::remove_file(folder.path(name)).unwrap();
        }
    }
    println!("{kills} of {points} runs were killed; one takes {whole:.2?}");
    kills
}

/// More points with IMPASTO_TEST_KILLS.
fn points() -> u32 {
    std::env::var("IMPASTO_TEST_KILLS").ok().and_then(|points| points.parse().ok()).unwrap_or(4)
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_bits() {
    assert!(killed(ADAM, points()) > 0, "no run was killed");
}

#[test]
fn a_run_of_l_bfgs_that_was_killed_goes_on_to_the_same_bits() {
    assert!(killed(LBFGS, points()) > 0, "no run was killed");
}

/// Leaves the checkpoint of a run that was killed after some iterations.
fn broken_off(folder: &Folder, options: &str) {
    let mut run = start(folder, &format!("{} -n 100000 --save-every 5 -o out.png", command(options)));
    let deadline = Instant::now() + PATIENCE;
    // Files are written in their order, two at a time: by then there is a checkpoint of ten iterations or more.
    while !folder.path("out_20.png").exists() {
        assert!(Instant::now() < deadline, "no picture on the way");
        std::thread::sleep(Duration::from_millis(1));
    }
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn a_checkpoint_of_another_run_is_refused_and_more_iterations_are_welcome() {
    let folder = Folder::new();
    broken_off(&folder, "--size 24");
    std::fs::copy(folder.path("style.png"), folder.path("other.png")).unwrap();
    let run = |content: &str, options: &str| {
        format!("stylize {content} -s style.png {CHEAP} --size 24 -n 200000 -o out.png --resume {options}")
    };
    let hint = "use what it was made with, or start the run anew, without --resume";
    for (content, options, error) in [
        ("other.png", "", "was made with another content picture"),
        ("content.png", "--tv-weight 7", "was made with tv-weight 2.0, not 7.0"),
        ("content.png", "--seed 7", "was made with seed 0, not 7"),
    ] {
        folder.fails(&run(content, options), 3, &format!("checkpoint out.png.checkpoint: {error}"), hint);
    }
    let fewer = "checkpoint out.png.checkpoint: has ";
    let ended = folder.run(&run("content.png", "-n 1").replace("-n 200000 ", ""));
    assert!(ended.code == Some(3) && ended.stderr.contains(fewer), "{}", ended.stderr);
    let [said, hint] = [0, 1].map(|line| ended.last_lines()[line].clone());
    let done = said.split(' ').find_map(|word| word.parse::<u32>().ok()).unwrap();
    assert!(hint.starts_with(&format!("hint: pass --iterations {done} or more, or start the run anew")), "{hint}");
    let anew = format!("stylize content.png -s style.png {CHEAP} --size 24 -n 2 -o out.png");
    let lost = "pass --resume to go on with that run, or --overwrite to start anew";
    folder.refuses(&anew, 1, "output out.png.checkpoint: already exists", lost);
    folder.done(&format!("{anew} --overwrite"));
    assert!(!folder.path("out.png.checkpoint").exists());
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let folder = Folder::new();
    broken_off(&folder, &LBFGS.replace("-n 60", ""));
    let good = folder.read("out.png.checkpoint");
    let run =
        format!("{} -o new.png --resume=bad --no-checkpoint", command(LBFGS).replace(" --checkpoint-every 0", ""));
    let run = run.replace(" --no-checkpoint", "");
    let damaged = "checkpoint bad: is cut off or was changed after it was written";
    let anew = "start the run anew, without --resume";
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for case in 0..24 {
        let mut bad = good.clone();
        match case % 3 {
            0 => bad.truncate(1000 + random(good.len() - 1000)),
            1 => bad[random(good.len() - 2000) + 2000] ^= 1 << random(8),
            // In the numbers of the header.
            _ => bad[9 + random(1500)] ^= 1 << random(7),
        }
        folder.write("bad", &bad);
        let ended = folder.run(&run);
        assert_eq!(ended.code, Some(3), "case {case}: {}", ended.stderr);
        assert!(!ended.stderr.contains("panicked") && ended.stderr.contains("hint: "), "{}", ended.stderr);
    }
    folder.write("bad", &good[..good.len() / 2]);
    folder.fails(&run, 3, damaged, anew);
    folder.write("bad", "{\"__metadata__\":{\"format\":\"impasto checkpoint 1\"}}");
    let other = "checkpoint bad: was written by another version of impasto";
    folder.fails(&run, 3, other, "use that one, or start the run anew, without --resume");
    folder.write("bad", "not a checkpoint at all");
    let hint = "give the .checkpoint file that a run has left";
    folder.fails(&run, 3, "checkpoint bad: is not a checkpoint", hint);
    let hint = "give its path, or start the run anew without --resume";
    folder.fails(&run.replace("=bad", ""), 3, "checkpoint new.png.checkpoint: no such file", hint);
}

#[test]
fn a_result_is_made_again_from_what_it_says() {
    let folder = Folder::new();
    folder.stylize("-n 7 --size 30 --init noise --seed 5 --ema 0.5 -o one.png --save-every 3");
    folder.stylize("-n 3 --size 30 --init content.png --optimizer lbfgs -o one.jpg");
    folder.done("rerun one.png");
    assert_eq!(folder.read("one.png"), folder.read("one_again.png"));
    folder.done("rerun one.jpg -o two.jpg");
    assert_eq!(folder.read("one.jpg"), folder.read("two.jpg"));
    // A picture on the way is made again as it was.
    folder.done("rerun one_3.png -o three.png");
    assert_eq!(folder.read("one_3.png"), folder.read("three.png"));
    folder.done("demo --size 24 -n 2 --min-scale none --device cpu -o demo.png");
    folder.done("rerun demo.png -o demo_two.png");
    assert_eq!(folder.read("demo.png"), folder.read("demo_two.png"));
    assert!(!folder.path("demo_two_sheet.png").exists());
}

#[test]
fn a_result_whose_inputs_are_gone_or_changed_is_refused() {
    let folder = Folder::new();
    folder.stylize("-n 1 --size 16 -o one.png");
    let there = folder.path("content.png").canonicalize().unwrap().display().to_string();
    std::fs::rename(folder.path("content.png"), folder.path("moved.png")).unwrap();
    let again = "rerun one.png -o two.png";
    folder.refuses(again, 3, &format!("picture {there}: is no longer there"), "give it as --content FILE");
    folder.done(&format!("{again} --content moved.png"));
    let ended = folder.run("rerun one.png -o three.png --content style.png");
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stderr.contains("picture style.png: is not the file that the result was made from"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("give the one with SHA-256 "), "{}", ended.stderr);
    let none = "give a PNG or JPEG that impasto wrote, as it wrote it";
    folder.refuses("rerun style.png", 3, "picture style.png: does not say how it was made", none);
    folder.refuses("rerun nothing.png", 3, "picture nothing.png: no such file", "check the path");
    let other = "pass --overwrite to replace it, or choose another name";
    folder.fails("rerun one.png -o two.png --content moved.png", 1, "output two.png: already exists", other);
}

#[test]
fn a_run_that_diverges_leaves_its_last_good_picture() {
    let folder = Folder::new();
    let run = format!("stylize content.png -s style.png {CHEAP} --size native -n 9 -o out.png --log log.jsonl");
    let ended = folder.run(&format!("{run} --learning-rate 1e30"));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("the picture after 0 iterations is in out.png\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("error: content/relu1_2 diverged at iteration 1\nhint: lower --learning-rate"));
    // Its losses were finite, its successor's are not: the start.
    assert_eq!(folder.pixels("out.png"), folder.pixels("content.png"));
    assert_eq!(log(&folder.path("log.jsonl")).len(), 1);
}

#[test]
fn losses_are_drawn() {
    let folder = Folder::new();
    folder.stylize("-n 5 --size 24 -o out.png --plot losses.svg");
    let svg = String::from_utf8(folder.read("losses.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for name in ["total", "content/relu1_2", "style/relu1_1", "style/relu1_2", "tv"] {
        assert!(svg.contains(&format!(">{name}</text>")), "no {name}");
    }
    folder.stylize("-n 5 --size 24 -o other.png --plot losses.png");
    let drawn = image::open(folder.path("losses.png")).unwrap().into_rgb8();
    assert_eq!(drawn.dimensions(), (1440, 810));
    let coloured = drawn.pixels().filter(|pixel| pixel.0.iter().max() > pixel.0.iter().min());
    assert!(coloured.count() > 1000, "no curves");
    let hint = "end it in .svg or .png";
    let run = format!("stylize content.png -s style.png {CHEAP} -n 1 -o new.png --plot");
    folder.refuses(&format!("{run} losses.jpg"), 1, "output losses.jpg: plots are written as SVG and PNG", hint);
    for name in ["losses.svg", "losses.png"] {
        let (error, again) = (format!("output {name}: already exists"), "pass --overwrite to replace it");
        folder.refuses(&format!("{run} {name}"), 1, &error, again);
    }
    let twice = "choose another name: this one is never replaced";
    folder.refuses(&format!("{run} new.png"), 1, "output new.png: is named for two of the run's files", twice);
}

#[test]
fn going_on_from_another_runs_checkpoint_replaces_nothing() {
    let folder = Folder::new();
    for name in ["other.checkpoint", "old.png", "new.png.checkpoint"] {
        folder.write(name, "precious");
    }
    let run = format!("stylize content.png -s style.png {CHEAP} -n 2 --resume=other.checkpoint");
    let hint = "pass --overwrite to replace it, or choose another name";
    folder.refuses(&format!("{run} -o old.png"), 1, "output old.png: already exists", hint);
    let hint = "pass --resume to go on with that run, or --overwrite to start anew";
    folder.refuses(&format!("{run} -o new.png"), 1, "output new.png.checkpoint: already exists", hint);
}

#[test]
fn a_result_is_made_again_wherever_its_options_stood() {
    let folder = Folder::new();
    let run = format!("stylize -s style.png {CHEAP} -n 2");
    folder.done(&format!("{run} -qo first.png content.png"));
    folder.done(&format!("{run} -o second.png -- content.png"));
    for name in ["first", "second"] {
        folder.done(&format!("rerun {name}.png -o {name}_again.png"));
        assert_eq!(folder.pixels(&format!("{name}_again.png")), folder.pixels(&format!("{name}.png")));
    }
}

/// Leaves the checkpoint of the second of three scales, of which the first had 30 iterations and the others may have many.
fn in_the_second_scale(folder: &Folder) {
    let options = "--size 40 --min-scale 10 --scale-factor 2 --first-iterations 30 -n 100000";
    let mut run = start(folder, &format!("{} {options} --save-every 10 -o out.png", command("")));
    let deadline = Instant::now() + PATIENCE;
    while !folder.path("out_60.png").exists() {
        assert!(Instant::now() < deadline, "no picture on the way");
        std::thread::sleep(Duration::from_millis(1));
    }
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn iterations_that_cannot_be_changed_any_more_are_named_with_what_to_type() {
    let folder = Folder::new();
    in_the_second_scale(&folder);
    let run = |options: &str| {
        let scales = "--size 40 --min-scale 10 --scale-factor 2";
        format!("stylize content.png -s style.png {CHEAP} {scales} -o out.png --resume {options}")
    };
    folder.fails(
        &run("-n 500000"),
        3,
        "checkpoint out.png.checkpoint: the scales before had 30 iterations, not 500000",
        "pass --first-iterations 30: what is done cannot be changed, or start the run anew, without --resume",
    );
    let ended = folder.run(&run("-n 1 --first-iterations 30"));
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains(" iterations of its scale behind it, more than 1\nhint: pass --iterations "));
}

/// Tiles of a run whose memory ran out: smaller ones than a later run would choose.
const SQUEEZED: &str = "--size 200x150 --fail-allocation 9";

#[test]
fn a_run_goes_on_and_is_made_again_in_the_tiles_that_it_had() {
    let folder = Folder::new();
    let tiles = |name: &str| {
        let text = impasto::picture::read_metadata(&folder.path(name), "impasto").unwrap().unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["tiles"].clone()
    };
    folder.stylize(&format!("{SQUEEZED} -n 12 -o squeezed.png"));
    assert_eq!(tiles("squeezed.png"), serde_json::json!(["192"]));
    let again = folder.done("rerun squeezed.png -o again.png");
    assert!(folder.read("again.png") == folder.read("squeezed.png"), "{}", again.stderr);
    let free = SQUEEZED.replace(" --fail-allocation 9", "");
    folder.stylize(&format!("{free} -n 12 -o whole.png"));
    assert_eq!(tiles("whole.png"), serde_json::json!(["whole"]));

    let run = |options: &str| format!("{} {options} -n 12 -o out.png", command(""));
    let broken_off = || {
        let mut first = start(&folder, &run(SQUEEZED).replace("-n 12", "-n 100000"));
        let deadline = Instant::now() + PATIENCE;
        while !folder.path("out.png.checkpoint").exists() {
            assert!(Instant::now() < deadline, "no checkpoint");
            std::thread::sleep(Duration::from_micros(200));
        }
        first.kill().unwrap();
        first.wait().unwrap();
        // Killed early enough for twelve iterations to be more.
        folder.run(&format!("{} --resume", run(&free)))
    };
    let ended = (0..20).map(|_| broken_off()).find(|ended| ended.code == Some(0)).expect("always late");
    assert!(
        !ended.stderr.contains("note: ") && ended.stderr.contains(", in tiles of 192 pixels\n"),
        "{}",
        ended.stderr
    );
    assert_eq!(tiles("out.png"), serde_json::json!(["192"]));
    assert!(folder.pixels("out.png") == folder.pixels("squeezed.png"));

    // Unless another edge is asked for, or they are more than is granted.
    std::fs::remove_file(folder.path("out.png")).unwrap();
    let mut first = start(&folder, &format!("{} --save-every 1", run(&free).replace("-n 12", "-n 100000")));
    while !folder.path("out_4.png").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    std::fs::copy(folder.path("out.png.checkpoint"), folder.path("kept")).unwrap();
    for (options, way) in [("--tile 64", "64"), ("--memory 30MiB", "")] {
        let ended = folder.done(&format!("{} -n 60 {options} -o other{way}.png --resume=kept", command(&free)));
        let note = format!("note: 200x150: tiles were \"whole\" before, are \"{way}");
        assert!(ended.stderr.contains(&note) && ended.stderr.contains("; the bits may be others"), "{}", ended.stderr);
    }
}

#[test]
fn a_result_that_was_made_on_another_device_says_so() {
    let folder = Folder::new();
    folder.stylize("-n 1 --size 16 --threads 1 -o one.jpg");
    // Another number of threads is no other device.
    assert!(!folder.done("rerun one.jpg -o two.jpg").stderr.contains("note: "));
    let mut bytes = folder.read("one.jpg");
    let at = bytes.windows(10).position(|part| part == b"CPU engine").unwrap();
    bytes[at..at + 3].copy_from_slice(b"Old");
    folder.write("old.jpg", &bytes);
    let said = folder.done("rerun old.jpg -o three.jpg").stderr;
    assert!(
        said.contains("\nnote: made on Old engine (f32, 1 threads); the bits of this device may be others\n"),
        "{said}"
    );
}
