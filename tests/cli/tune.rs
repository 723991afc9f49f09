//! `impasto tune`, and runs that take what it found.

use impasto::gpu::{GpuChoice, adapters, preferred};

use crate::common::gpu;
use crate::folder::Folder;

/// What a result says about its kernels.
fn kernels(folder: &Folder, name: &str) -> String {
    let text = impasto::picture::read_metadata(&folder.path(name), "impasto").unwrap().unwrap();
    let about: serde_json::Value = serde_json::from_str(&text).unwrap();
    about["kernels"].as_str().unwrap().into()
}

#[test]
fn a_run_takes_what_was_found_on_its_adapter_and_says_so_in_the_result() {
    let Some(_) = gpu("cli tune") else { return };
    let folder = Folder::new();
    let run = |name: &str, options: &str| {
        let layers = "--content-layers relu2_1 --style-layers relu1_2 -n 1 --size 24";
        folder
            .done(&format!("stylize content.png -s style.png --device gpu --preset plain {layers} -o {name} {options}"))
    };
    run("plain.png", "--no-tune");
    let printed = folder.done("tune --device gpu --sizes 32 --seconds 60").stdout;
    assert!(printed.starts_with("device: ") && printed.contains("\nkept in "), "{printed}");
    assert!(printed.contains("<- chosen"), "nothing was timed: {printed}");
    let found = printed.rsplit_once("; choices ").unwrap().1.lines().next().unwrap();
    let run = |name: &str, options: &str| {
        run(name, options);
        kernels(&folder, name)
    };
    assert_eq!(run("tuned.png", ""), found);
    assert_eq!(run("again.png", "--no-tune"), kernels(&folder, "plain.png"));
    let again = folder.done("rerun tuned.png -o rerun.png --overwrite");
    assert!(!again.stderr.contains("choice of kernels"), "{}", again.stderr);
    assert_eq!(folder.pixels("rerun.png"), folder.pixels("tuned.png"), "the same choices, the same bits");
    std::fs::remove_dir_all(folder.path("cache")).unwrap();
    let software = adapters();
    let kinds: Vec<&str> = software.iter().map(|adapter| adapter.kind).collect();
    if preferred(&kinds, &GpuChoice::Any).is_some_and(|at| kinds[at] == "software") {
        let ended = folder.done("rerun tuned.png -o other.png");
        assert_eq!(folder.cached(), [""; 0], "a software renderer is not tuned unasked");
        assert_eq!(kernels(&folder, "other.png"), "plain");
        let note = "note: made with another choice of kernels; its last bits may be others";
        assert_eq!(ended.stderr.lines().any(|line| line == note), found != "plain", "{}", ended.stderr);
    }
}

#[test]
fn a_tuning_without_a_gpu_and_one_of_nothing_are_refused() {
    let folder = Folder::new();
    folder.refuses(
        "tune --device cpu",
        4,
        "no usable device: the CPU engine has nothing to choose from",
        "give --device gpu, a name, or an index from `impasto devices`",
    );
    for seconds in ["-1", "x", "1e9"] {
        folder.misused(
            &format!("tune --seconds {seconds}"),
            &format!("invalid value '{seconds}' for '--seconds <SECONDS>': give seconds, 0 to 3600"),
        );
    }
    folder.misused("tune --sizes 512,7", "invalid value '7' for '--sizes <N,…>': 7 is not in 32..=4096");
}
