//! The commands beside `stylize`, and help.

use crate::folder::{CHEAP, Folder};

#[test]
fn help_and_version_are_printed_to_standard_output() {
    let folder = Folder::new();
    assert_eq!(folder.done("--version").stdout, concat!("impasto ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = folder.done("--help").stdout;
    for word in ["stylize", "plan", "demo", "devices", "presets", "weights", "Exit codes: 0 done"] {
        assert!(help.contains(word), "no {word} in\n{help}");
    }
    let alone = folder.run("");
    assert_eq!((alone.code, alone.stdout.as_str()), (Some(2), ""));
    assert!(alone.stderr.contains("Usage: impasto <COMMAND>"), "{}", alone.stderr);
}

#[test]
fn every_option_has_help_text() {
    let folder = Folder::new();
    for (command, least) in
        [("stylize", 41), ("plan", 36), ("demo", 40), ("devices", 1), ("presets", 2), ("weights fetch", 8)]
    {
        let help = folder.done(&format!("{command} --help")).stdout;
        let (_, options) = help.split_once("Options:\n").unwrap();
        let lines: Vec<&str> = options.lines().collect();
        let is_option = |line: &str| line.trim_start().starts_with('-') && line.len() - line.trim_start().len() <= 6;
        let starts: Vec<usize> = (0..lines.len()).filter(|&i| is_option(lines[i])).collect();
        assert!(starts.len() >= least, "{} options of {command} found in\n{help}", starts.len());
        for i in starts {
            // Beside the option where there is room, else in the line below.
            let beside = lines[i].trim_start().split_once("  ").is_some_and(|(_, text)| !text.trim().is_empty());
            let below = lines.get(i + 1).is_some_and(|line| !line.trim().is_empty() && !is_option(line));
            assert!(beside || below, "`{}` has no help text", lines[i]);
        }
    }
}

#[test]
fn devices_lists_the_cpu_engine_and_marks_one_choice() {
    let listed = Folder::new().done("devices").stdout;
    assert!(listed.lines().any(|line| line.starts_with("cpu: CPU engine, f32, ")), "{listed}");
    assert_eq!(listed.matches("<- auto").count(), 1, "{listed}");
}

#[test]
fn presets_lists_every_preset_with_its_summary() {
    let listed = Folder::new().done("presets").stdout;
    let presets = impasto::transfer::presets::PRESETS;
    assert_eq!(listed.lines().count(), presets.len());
    for (line, preset) in listed.lines().zip(presets) {
        assert!(line.starts_with(preset.name) && line.ends_with(preset.summary), "{line}");
    }
}

#[test]
fn an_option_goes_before_the_files_and_the_files_before_the_presets() {
    let folder = Folder::new();
    folder.write(
        "my.toml",
        "preset = \"article\"\nsize = 24\niterations = 2\nstyle-layers = [\"relu1_1\", \"relu1_2=0.5\"]\ncontent-layers = []\n\
         style-weight = 1.5\nquiet = true\noverwrite = false\n",
    );
    let run = |name: &str, options: &str| {
        let log = format!("{name}.jsonl");
        folder.done(&format!("stylize content.png -s style.png --device cpu -o {name}.png --log {log} {options}"));
        std::fs::read_to_string(folder.path(&log)).unwrap()
    };
    let typed = "--preset article --size 24 --style-layers relu1_1,relu1_2=0.5 --content-layers , --style-weight 1.5";
    let written = run("file", "--config my.toml");
    assert_eq!(written, run("typed", &format!("{typed} -n 2 --quiet")));
    assert_eq!(written.lines().count(), 2);
    // A result says what the file came to, not where it was.
    let moved = folder.path("my.toml");
    std::fs::rename(&moved, folder.path("other.toml")).unwrap();
    folder.done("rerun file.png -o again.png --quiet");
    let samples = |name: &str| image::open(folder.path(name)).unwrap().into_rgb8().into_raw();
    assert_eq!(samples("again.png"), samples("file.png"));
    std::fs::rename(folder.path("other.toml"), moved).unwrap();
    assert_eq!(run("more", "-n 3 --config my.toml"), run("typed_more", &format!("{typed} -n 3 --quiet")));
    // What an option makes moot does not count against it, nor does it stay.
    folder.write("all.toml", folder.done("presets --show draft").stdout);
    let size = "--size 16 --content-layers , --style-layers relu1_1";
    assert_eq!(
        run("short", &format!("--config all.toml {size} -n 2")).lines().count(),
        2,
        "first-iterations is not meant"
    );
    folder.write("pair.toml", "iterations = \"2,1\"\nmin-scale = 12\nscale-factor = 2\nsize = 24\n");
    assert_eq!(
        run("pair", "--preset plain --content-layers , --style-layers relu1_1 --config pair.toml").lines().count(),
        3
    );
    for options in ["--tv-weight 0", "--style-size 20", "--optimizer lbfgs"] {
        run(&options[2..6], &format!("--config all.toml {size} -n 1 {options}"));
    }
    // A preset of one's own leaves the file's other lines.
    assert_eq!(run("draft", "--preset draft --config=my.toml").lines().count(), 2);
}

#[test]
fn a_preset_is_shown_as_a_file_that_is_read_again() {
    let folder = Folder::new();
    for preset in impasto::transfer::presets::PRESETS {
        let text = folder.done(&format!("presets --show {}", preset.name)).stdout;
        assert!(text.contains("\nstyle-loss = \""), "{text}");
        folder.write("shown.toml", text);
        let plan = |options: &str| {
            let rest = "--device cpu --weights builtin --no-calibrate --quiet";
            folder.done(&format!("plan content.png -s style.png {rest} {options}")).stdout
        };
        assert_eq!(plan("--config shown.toml"), plan(&format!("--preset {}", preset.name)));
    }
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let folder = Folder::new();
    for arguments in [
        "presets",
        "devices",
        "--help",
        "stylize --help",
        "demo --size 16 -n 1 --device cpu --dump-plan",
        "demo --size 16 -n 2 --device cpu --preset article -o out.png",
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = folder.command(arguments).stdout(writer).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments}: {stderr}");
    }
    assert!(image::open(folder.path("out.png")).is_ok());
}

#[test]
fn the_demo_needs_no_file() {
    let folder = Folder::new();
    let ended = folder.done("demo --size 48 --min-scale 24 -n 2 --device cpu -o painted.png");
    assert!(ended.stderr.contains("size: 24x24, 2 iterations, then 48x48, 2 iterations\n"), "{}", ended.stderr);
    let wrote = "wrote painted.png\nwrote painted_sheet.png: content, style, result\nnext, your own pictures: ";
    assert!(ended.stderr.contains(wrote), "{}", ended.stderr);
    let picture = image::open(folder.path("painted.png")).unwrap().into_rgb8();
    assert_eq!(picture.dimensions(), (48, 48));
    // Both bundled pictures are square.
    let sheet = image::open(folder.path("painted_sheet.png")).unwrap().into_rgb8();
    assert_eq!(sheet.dimensions(), (3 * 48 + 2 * 4, 48));
    assert!((0..48).all(|y| (0..48).all(|x| sheet.get_pixel(104 + x, y) == picture.get_pixel(x, y))));
    let quiet = folder.done("demo --size 16 -n 1 --device cpu --quiet");
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    for name in ["demo.png", "demo_sheet.png"] {
        assert!(image::open(folder.path(name)).is_ok(), "{name} is the default");
    }
    assert_eq!(folder.names().len(), 6);
}

#[test]
fn the_demo_replaces_neither_of_its_files() {
    let folder = Folder::new();
    folder.write("demo_sheet.png", "old");
    let hint = "pass --overwrite to replace it, or choose another name";
    folder.refuses("demo --size 16 -n 1 --device cpu", 1, "output demo_sheet.png: already exists", hint);
    folder.done("demo --size 16 -n 1 --device cpu --overwrite");
    let twice = "is named for two of the run's files";
    let error = format!("output demo_sheet.png: {twice}");
    let hint = "choose another name: this one is never replaced";
    folder.refuses("demo --size 16 -n 1 --device cpu --overwrite --log demo_sheet.png", 1, &error, hint);
}

#[test]
fn plan_forecasts_a_run_and_writes_nothing() {
    let folder = Folder::new();
    let before = folder.files();
    let plan = |options: &str| folder.done(&format!("plan content.png -s style.png {CHEAP} {options}")).stdout;
    let timed = plan("--min-scale 20 --scale-factor 2 -n 7");
    for line in
        ["20x14 (style 17x20), 7 iterations", "40x28 (style 30x36), 7 iterations", "  tiles              one, the"]
    {
        assert!(timed.lines().any(|found| found.starts_with(line)), "no {line} in\n{timed}");
    }
    assert_eq!(timed.matches(" an iteration, at ").count(), 2, "{timed}");
    assert!(timed.contains("of memory at most, about "), "{timed}");
    let engine: Vec<&str> = timed.lines().filter(|line| line.starts_with("  engine ")).collect();
    assert!(engine.len() == 2 && engine.iter().all(|line| !line.ends_with(" 0.0 MiB")), "no scratch memory: {timed}");
    let tiled = plan("--no-calibrate --tile 32");
    assert!(tiled.contains("\n  tiles              2 of 32 pixels and their halos\n"), "{tiled}");
    assert!(tiled.contains("\n  content targets    kept\n") && !tiled.contains("an iteration, at"), "{tiled}");
    assert!(before == folder.files() && folder.cached().is_empty(), "{:?}", folder.names());
    let ended = folder.run(&format!("plan content.png -s style.png {CHEAP} --memory 100KiB"));
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert!(ended.last_lines()[1].ends_with("or grant more with --memory"), "{}", ended.stderr);
    folder.misused(
        "plan content.png -s style.png --memory much",
        "invalid value 'much' for '--memory <SIZE>': give a size as 2GiB, 512MiB or 1.5GB",
    );
}

#[test]
fn a_run_says_what_it_uses_and_why() {
    let folder = Folder::new();
    let said = folder.stylize("-n 1 --size 16 --threads 1 -o out.png").stderr;
    assert!(said.contains("\ndevice: CPU engine (f32, 1 threads) (--device cpu)\n"), "{said}");
    // Whatever this machine has.
    let said = folder.done("demo --size 16 -n 1 --device auto").stderr;
    assert!(said.lines().any(|line| line.starts_with("device: ") && line.contains(" (auto: ")), "{said}");
    for threads in ["0", "-1", "1025", "many"] {
        let run = format!("stylize content.png -s style.png -o new.png --threads {threads}");
        assert_eq!(folder.run(&run).code, Some(2), "{threads}");
    }
}

#[test]
fn options_that_have_no_effect_are_refused_and_not_in_the_help() {
    let folder = Folder::new();
    for (command, options) in [
        ("plan", &["--log x", "--plot x.svg", "--save-every 3", "--resume", "--overwrite", "--dump-plan"][..]),
        ("profile", &["--log x", "--plot x.svg", "--print-every 3", "--no-checkpoint", "--checkpoint-every 3"][..]),
    ] {
        let help = folder.done(&format!("{command} --help")).stdout;
        for option in options {
            let name = option.split(' ').next().unwrap();
            let error = format!(
                "{}: has no effect on `impasto {command}`, which runs no transfer",
                name.trim_start_matches('-')
            );
            folder.refuses(&format!("{command} content.png -s style.png {option}"), 2, &error, "leave it out");
            assert!(!help.contains(&format!("{name} ")) && !help.contains(&format!("{name}\n")), "{name} in\n{help}");
        }
        assert!(help.contains("--style-layers "), "{help}");
    }
    assert!(folder.done("profile --help").stdout.contains("--overwrite"));
    // A file is for runs as well.
    folder.write("my.toml", "log = \"x.jsonl\"\noverwrite = true\nsize = 16\n");
    folder.done(&format!("plan content.png -s style.png {CHEAP} --no-calibrate --config my.toml"));
    assert!(!folder.path("x.jsonl").exists());
}

#[test]
fn a_plan_counts_what_l_bfgs_does_with_vectors() {
    let folder = Folder::new();
    let plan = |options: &str| {
        let ended = folder.done(&format!("plan content.png -s style.png {CHEAP} --size 40 -n 3 {options}"));
        assert_eq!(ended.stdout.contains(" or more an iteration, at "), options.contains("lbfgs"), "{}", ended.stdout);
    };
    plan("");
    plan("--optimizer lbfgs");
}

#[test]
fn completions_name_commands_and_options_for_every_shell() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = folder.done(&format!("completions {shell}")).stdout;
        for word in ["stylize", "grid", "rerun", "style-weight", "skip-existing", "preview", "nine-point"] {
            assert!(script.contains(word), "no {word} for {shell}");
        }
    }
    folder.misused("completions cmd", "invalid value 'cmd' for '<SHELL>'");
}

#[test]
fn a_preview_without_a_terminal_is_none_and_changes_nothing() {
    let folder = Folder::new();
    let ended = folder.stylize("-n 2 -o shown.png --preview");
    assert!(ended.stderr.contains("note: no preview: "), "{}", ended.stderr);
    assert!(!ended.stderr.contains('\x1b'), "{}", ended.stderr);
    folder.stylize("-n 2 -o plain.png");
    assert!(folder.read("shown.png") == folder.read("plain.png"));
    folder.write("my.toml", "preview = true");
    let quiet = folder.stylize("-n 2 -o quiet.png --quiet --config my.toml --weights builtin");
    assert_eq!(quiet.stderr, "");
}
