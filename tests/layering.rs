//! Imports go one way: every `crate::` path in `src` is read, and an upward one fails. Needs no GPU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

/// Each module with the modules that it may use, besides itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("kernel", &["error"]),
    ("recording", &["error", "kernel"]),
    ("cpu", &["error", "kernel", "recording"]),
    ("gpu", &["error", "kernel", "recording"]),
    // `cpu` for the blocked matrix product that the twins share.
    ("ops", &["error", "kernel", "recording", "cpu"]),
    ("weights", &["error", "kernel", "recording", "ops"]),
    ("net", &["error", "kernel", "recording", "ops", "weights"]),
    ("picture", &["error"]),
    ("profile", &["error", "kernel", "recording", "ops"]),
    // `gpu` for what it is a choice for.
    ("tune", &["error", "kernel", "recording", "gpu", "ops", "net"]),
    ("transfer", &["error", "kernel", "recording", "ops", "weights", "net", "picture"]),
    (
        "cli",
        &[
            "error",
            "kernel",
            "recording",
            "cpu",
            "gpu",
            "ops",
            "weights",
            "net",
            "picture",
            "profile",
            "tune",
            "transfer",
        ],
    ),
];

/// Words that only one part of the house may say, and the modules that may.
const RESERVED: &[(&str, &[&str])] = &[
    ("wgpu::", &["gpu"]),
    ("print!(", &["cli", "main"]),
    ("println!(", &["cli", "main"]),
    ("eprint!(", &["cli", "main"]),
    ("eprintln!(", &["cli", "main"]),
    ("tokio::", &["cli", "main"]),
    ("ureq::", &["cli", "main"]),
    ("clap::", &["cli", "main"]),
    ("indicatif::", &["cli", "main"]),
];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code without comments (a `//` inside a string ends a line early, which hides nothing that matters here).
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Places after `needle` where it stands as a word of its own.
fn after<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(needle)
        .filter(|(at, _)| !text[..*at].ends_with(is_word))
        .map(|(at, _)| &text[at + needle.len()..])
}

/// Modules that a text names as `crate::x`, `crate::{x, y::z}`, or from outside the library as `impasto::x`.
fn modules_named(text: &str) -> Vec<String> {
    let mut named = Vec::new();
    for rest in ["crate::", "impasto::"].iter().flat_map(|prefix| after(text, prefix)) {
        if let Some(list) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (0, true);
            for (at, character) in list.char_indices() {
                match character {
                    '}' if depth == 0 => break,
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    _ if start && is_word(character) => {
                        named.push(list[at..].chars().take_while(|c| is_word(*c)).collect());
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            named.push(rest.chars().take_while(|c| is_word(*c)).collect());
        }
    }
    named
}

/// The files that `file` declares as `#[cfg(test)] mod name;`: no other build has them.
fn test_files(file: &Path, text: &str) -> Vec<PathBuf> {
    let stem = file.file_stem().unwrap();
    let folder = match stem.to_str().unwrap() {
        "lib" | "main" | "mod" => file.parent().unwrap().to_path_buf(),
        _ => file.with_extension(""),
    };
    let declared = code(text);
    let names = declared.split("#[cfg(test)]").skip(1).filter_map(|rest| {
        let (name, _) = rest.trim_start().strip_prefix("mod ")?.split_once(';')?;
        name.chars().all(is_word).then(|| name.to_string())
    });
    names.flat_map(|name| [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")]).collect()
}

/// What is wrong with one file of module `module`. A file that only tests have may use a GPU and print.
fn faults(module: &str, only_for_tests: bool, text: &str) -> Vec<String> {
    let text = code(text);
    let mut faults = Vec::new();
    for (word, places) in RESERVED {
        // lib.rs re-exports wgpu for hosts that bring their own device.
        let excused = only_for_tests && word.contains("print");
        if !excused && !places.contains(&module) && after(&text, word).next().is_some() {
            faults.push(format!("says {word}, which belongs to {}", places.join(" and ")));
        }
    }
    if module == "lib" || module == "main" {
        return faults;
    }
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
        faults.push("is a module without a place in MAY_USE".into());
        return faults;
    };
    for used in modules_named(&text) {
        let excused = only_for_tests && used == "gpu";
        if !excused && used != module && !allowed.contains(&used.as_str()) {
            faults.push(format!("uses crate::{used}, which is not below it"));
        }
    }
    faults
}

#[test]
fn imports_go_one_way_and_each_part_keeps_to_its_trade() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 20, "only {} files found", files.len());
    let read = |file: &PathBuf| std::fs::read_to_string(file).unwrap();
    let for_tests: Vec<PathBuf> = files.iter().flat_map(|file| test_files(file, &read(file))).collect();
    let mut all = Vec::new();
    for file in &files {
        let relative = file.strip_prefix(&src).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        let found = faults(module, for_tests.contains(file), &read(file));
        all.extend(found.into_iter().map(|fault| format!("src/{} {fault}", relative.display())));
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn the_check_sees_every_form_of_an_upward_import() {
    for text in [
        "use crate::gpu::Gpu;",
        "use crate::{error::Result, gpu};",
        "use crate::{error::{Error, Result}, gpu::Gpu};",
        "fn f() { let _ = crate::gpu::adapters(); }",
        "    use crate::transfer::{Config};",
        "fn f(device: &wgpu::Device) {}",
        "fn f() { println!(\"hello\"); }",
        "use tokio::signal;",
    ] {
        assert_eq!(faults("net", false, text).len(), 1, "{text}");
    }
    assert_eq!(faults("picture", false, "use crate::kernel::Scalar;").len(), 1);
    assert_eq!(faults("surprise", false, "").len(), 1);
    for text in [
        "use crate::error::{Error, Result};",
        "use crate::{error::{Error, Result}, ops};",
        "// use crate::gpu::Gpu;",
        "/// Prints with println!( nothing.",
        "$crate::kernel::Scalar::U32",
        "fn f() { my_print!(1); }",
    ] {
        assert!(faults("net", false, text).is_empty(), "{text}: {:?}", faults("net", false, text));
    }
}

#[test]
fn a_file_that_only_tests_have_may_use_a_gpu_and_print_and_no_more() {
    let declares = "#[cfg(test)]\nmod testing;\nmod real;\n#[cfg(test)]\nmod tests {\n}\n// #[cfg(test)] mod no;";
    let found = |file: &str| test_files(Path::new(file), declares);
    assert_eq!(found("src/ops/mod.rs"), ["src/ops/testing.rs", "src/ops/testing/mod.rs"].map(PathBuf::from));
    assert_eq!(found("src/ops.rs"), ["src/ops/testing.rs", "src/ops/testing/mod.rs"].map(PathBuf::from));
    for (text, excused) in [
        ("use crate::gpu::Gpu;", true),
        ("fn f() { println!(\"hello\"); }", true),
        ("use crate::cli::Args;", false),
        ("fn f(device: &wgpu::Device) {}", false),
    ] {
        assert_eq!(faults("ops", true, text).is_empty(), excused, "{text}");
        assert_eq!(faults("ops", false, text).len(), 1, "{text}");
    }
}
