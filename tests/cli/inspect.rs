//! `profile` and `shaders`.

use crate::folder::Folder;

#[test]
fn a_profile_is_printed_kept_and_compared() {
    let folder = Folder::new();
    let run =
        "profile content.png -s style.png --device cpu --style-layers relu1_1 --content-layers relu1_2 --repeat 2";
    let ended = folder.done(&format!("{run} --json a.json --trace a.trace.json"));
    for part in ["one iteration at 40x28", "clock: host", "conv3x3                conv1_1", "by kernel:", "by label:"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert!(ended.stderr.contains("wrote a.json") && folder.path("a.trace.json").exists(), "{}", ended.stderr);
    let again = format!("{run} --json a.json");
    folder.refuses(&again, 1, "output a.json: already exists", "pass --overwrite to replace it");
    let other = "choose another name: this one is never replaced";
    for (names, error) in [
        ("--json new.json --trace new.json", "output new.json: is named for two of the run's files"),
        ("--trace style.png --overwrite", "output style.png: is one of the files that the run reads"),
    ] {
        folder.refuses(&format!("{run} {names}"), 1, error, other);
    }
    folder.refuses(
        &format!("{run} --json no/a.json"),
        1,
        "output no/a.json: its folder does not exist",
        "create the folder first",
    );
    let compared = folder.done("profile --compare a.json a.json");
    assert!(compared.stdout.lines().filter(|line| line.ends_with("1.000")).count() > 10, "{}", compared.stdout);
    let hint = "give a file that `impasto profile --json FILE` has written";
    folder.refuses("profile --compare a.json a.trace.json", 2, "compare: a.trace.json is not a profile", hint);
    let alone = folder.done("profile --kernel conv3x3 --shape 12x10x8x16 --device cpu --repeat 1");
    assert!(alone.stdout.contains("12x10x8x16"), "{}", alone.stdout);
    folder.refuses(
        "profile --kernel conv --shape 12x10x8 --device cpu",
        2,
        "kernel: `conv` does not run alone",
        &format!("give one of {}", impasto::profile::KERNELS.join(" ")),
    );
    folder.misused(
        "profile --kernel conv3x3 --shape 12x10",
        "invalid value '12x10' for '--shape <SHAPE>': give HxWxC or HxWxCIxCO, e.g. 56x56x256x256",
    );
}

#[test]
fn a_shader_is_shown_in_every_language() {
    let folder = Folder::new();
    let list = folder.done("shaders").stdout;
    for kernel in impasto::ops::KERNELS {
        assert!(list.lines().any(|line| line.starts_with(&format!("{} ", kernel.name))), "{}", kernel.name);
    }
    for (language, part) in [
        ("source", "override DEPTH: u32 = 16u;"),
        ("wgsl", "@compute @workgroup_size(64, 1, 1)"),
        ("msl", "#include <metal_stdlib>"),
        ("hlsl", "[numthreads(64, 1, 1)]"),
        ("glsl", "#version 310 es"),
    ] {
        let shown = folder.done(&format!("shaders conv3x3 --lang {language}")).stdout;
        assert!(shown.contains(part), "{language}: {shown}");
    }
    let narrow = folder.done("shaders conv3x3 --lang wgsl --set PIXEL_THREADS=16 --set CHANNEL_THREADS=1").stdout;
    assert!(narrow.contains("@workgroup_size(16, 1, 1)"), "{narrow}");
    folder.done("shaders conv3x3 --lang spirv -o conv.spv");
    assert_eq!(std::fs::read(folder.path("conv.spv")).unwrap()[..4], 0x0723_0203_u32.to_le_bytes());
    folder.refuses(
        "shaders conv3x3 --lang spirv",
        2,
        "output: SPIR-V is binary",
        "give a file with --output, or --lang spirv-text",
    );
    folder.refuses("shaders conv", 2, "kernel: there is no `conv`", "`impasto shaders` lists them");
    folder.refuses("shaders adam --lang msl --set DEPTH=8", 2, "set: adam has no override `DEPTH`", "it has none");
    folder.misused(
        "shaders conv3x3 --set DEPTH",
        "invalid value 'DEPTH' for '--set <NAME=VALUE>': give NAME=VALUE, e.g. DEPTH=8",
    );
}
