//! The commands beside `stylize`, and help.

use crate::folder::Folder;

#[test]
fn help_and_version_are_printed_to_standard_output() {
    let folder = Folder::new();
    assert_eq!(folder.done("--version").stdout, concat!("impasto ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = folder.done("--help").stdout;
    for word in ["stylize", "demo", "devices", "presets", "weights", "Exit codes: 0 done"] {
        assert!(help.contains(word), "no {word} in\n{help}");
    }
    let alone = folder.run("");
    assert_eq!((alone.code, alone.stdout.as_str()), (Some(2), ""));
    assert!(alone.stderr.contains("Usage: impasto <COMMAND>"), "{}", alone.stderr);
}

#[test]
fn every_option_has_help_text() {
    let folder = Folder::new();
    for (command, least) in [("stylize", 29), ("demo", 28), ("devices", 1), ("presets", 1), ("weights fetch", 8)] {
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
    let ended = folder.done("demo --size 48 -n 2 --device cpu -o painted.png");
    assert!(ended.stderr.contains("wrote painted.png\nyour own: impasto stylize PHOTO"), "{}", ended.stderr);
    let picture = image::open(folder.path("painted.png")).unwrap();
    assert_eq!(picture.width().max(picture.height()), 48);
    let quiet = folder.done("demo --size 16 -n 1 --device cpu --quiet");
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    assert!(image::open(folder.path("demo.png")).is_ok(), "demo.png is the default");
}
