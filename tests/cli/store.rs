//! The cache: what is in it, what is wrong with it, which weights a run gets.

use crate::common::{shared, skip};
use crate::fetch::{network, sha256};
use crate::folder::{CHEAP, Folder, log};
use crate::server::Server;

const RUN: &str = "stylize content.png -s style.png --device cpu -n 2 --size 32";

/// A folder with `net.mat` (to conv2_1), imported under this name.
fn with_cached(name: &str) -> Folder {
    let folder = Folder::new();
    folder.write("net.mat", network());
    folder.done(&format!("weights import net.mat --name {name}"));
    folder
}

/// Changes one bit of a cached file's last tensor.
fn damage(folder: &Folder, name: &str) {
    let file = format!("cache/{name}.safetensors");
    let mut bytes = folder.read(&file);
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    folder.write(&file, bytes);
}

#[test]
fn an_import_is_listed_verified_found_and_used() {
    let folder = Folder::new();
    folder.write("my net.mat", network());
    let mut command = folder.command("weights import");
    let output = command.arg("my net.mat").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(folder.cached(), ["my_net.safetensors"]);
    let listed = folder.done("weights list").stdout;
    assert!(listed.contains(&format!("SHA-256 {}\n", sha256(&network()))), "{listed}");
    assert!(listed.contains("incomplete: in the file it was made from conv2_2 is missing"), "{listed}");
    assert!(
        listed.contains("vgg19: not here; `impasto weights fetch vgg19` gets it (535 MB): VGG-19, Visual"),
        "{listed}"
    );
    let path = folder.done("weights path my_net").stdout;
    assert_eq!(path.trim_end(), folder.path("cache/my_net.safetensors").to_str().unwrap());
    assert_eq!(folder.done("weights path").stdout.trim_end(), folder.path("cache").to_str().unwrap());
    // By its name, the same as by its file and as the original.
    std::fs::copy(path.trim_end(), folder.path("own.safetensors")).unwrap();
    folder.write("net.mat", network());
    for weights in ["my_net", "own.safetensors", "net.mat"] {
        folder.stylize(&format!("-n 2 -o {weights}.png --weights {weights}"));
    }
    assert_eq!(folder.read("my_net.png"), folder.read("net.mat.png"));
    assert_eq!(folder.read("my_net.png"), folder.read("own.safetensors.png"));

    let full = folder.path("cache/my_net.safetensors");
    folder.refuses(
        "weights import net.mat --name my_net",
        1,
        &format!("output {}: already exists", full.display()),
        "pass --force to replace it, or --name for another one",
    );
    folder.done("weights import net.mat --name my_net --force");
    let fetching = std::fs::File::create(folder.path("cache/other.lock")).unwrap();
    fetching.lock().unwrap();
    folder.refuses(
        "weights import net.mat --name other",
        1,
        &format!("output {}: another process is fetching it", folder.path("cache/other.safetensors").display()),
        "wait for that one, or pass --name for another name",
    );
    folder.refuses(
        "weights import style.png",
        3,
        "weights style.png: is a picture (PNG), not weights",
        "give VGG-19 as imagenet-vgg-verydeep-19.mat or as safetensors, or get it with `impasto weights fetch`",
    );
    assert_eq!(folder.cached(), ["my_net.safetensors"]);
}

#[test]
fn a_deeper_layer_than_a_cache_file_has_is_a_clear_error() {
    let folder = with_cached("mine");
    let file = folder.path("cache/mine.safetensors");
    folder.refuses(
        &format!("{RUN} -o out.png --weights mine --style-layers relu2_2"),
        3,
        &format!(
            "weights {}: conv2_2 is missing: the file it was made from was incomplete (conv2_2 is missing)",
            file.display()
        ),
        "`impasto weights import FILE --name mine --force` replaces it, `impasto weights verify mine` checks it",
    );
}

#[test]
fn a_damaged_cache_file_is_never_used() {
    for (name, again) in [
        ("mine", "`impasto weights import FILE --name mine --force`"),
        ("vgg19", "`impasto weights fetch vgg19 --force`"),
    ] {
        let folder = with_cached(name);
        damage(&folder, name);
        let file = folder.path(&format!("cache/{name}.safetensors"));
        let error = format!(
            "weights {}: damaged: it was changed after it was written: conv2_1 has another digest",
            file.display()
        );
        let hint = format!("{again} replaces it, `impasto weights verify {name}` checks it");
        let layers = "--style-layers relu2_1 --content-layers relu2_1";
        folder.refuses(&format!("{RUN} -o out.png --weights {name} {layers}"), 3, &error, &hint);
        folder.refuses("weights verify", 3, &error, &hint);
        if name == "vgg19" {
            // Not the built-in network in its place: that would silently be another picture.
            folder.refuses(&format!("{RUN} -o out.png {layers}"), 3, &error, &hint);
            folder.refuses("weights fetch", 3, &error, &hint);
        }
        // Layers that are whole are still what they were.
        folder.stylize(&format!("-n 1 --weights {name} -o out.png"));
        // The header is sealed, too: another mean would be another picture.
        let bytes = folder.read(&format!("cache/{name}.safetensors"));
        let at = bytes.windows(11).position(|text| text == b"\"10,20,30\",").unwrap();
        folder
            .write(&format!("cache/{name}.safetensors"), [&bytes[..at], b"\"10,20,31\",", &bytes[at + 11..]].concat());
        let error = format!(
            "weights {}: damaged: it was changed after it was written: its header has another digest",
            file.display()
        );
        folder.refuses(&format!("{RUN} -o out.png --overwrite --weights {name}"), 3, &error, &hint);
        // Cut off.
        folder.write(&format!("cache/{name}.safetensors"), &bytes[..bytes.len() / 2]);
        let ended = folder.run(&format!("weights verify {name}"));
        assert!(ended.code == Some(3) && ended.last_lines()[0].contains("is cut off"), "{}", ended.stderr);
        assert!(folder.done("weights list").stdout.contains(&format!("{name}: broken: weights ")));
    }
}

#[test]
fn auto_takes_vgg19_if_it_is_deep_enough_and_else_says_why_not() {
    let folder = with_cached("vgg19");
    folder.stylize("-n 2 -o auto.png");
    folder.stylize("-n 2 -o named.png --weights vgg19");
    folder.stylize("-n 2 -o file.png --weights net.mat");
    assert_eq!(folder.read("auto.png"), folder.read("file.png"));
    assert_eq!(folder.read("named.png"), folder.read("file.png"));
    folder.done("demo --size 16 -n 1 --device cpu --style-layers relu1_1 --content-layers relu1_1");
    let deep = folder.done(&format!("{RUN} -o deep.png"));
    let notice = "weights: built-in network (VGG-19's layers, random filters); offline, and vgg19 is not here";
    assert!(deep.stderr.starts_with(notice), "{}", deep.stderr);
    folder.done(&format!("{RUN} -o builtin.png --weights builtin"));
    assert_eq!(folder.read("deep.png"), folder.read("builtin.png"));
    let demo = Folder::new().done("demo --size 16 -n 1 --device cpu");
    assert!(demo.stderr.contains("; `impasto weights fetch` gets vgg19 for larger strokes"), "{}", demo.stderr);

    let folder = Folder::new();
    let file = folder.path("cache/vgg19.safetensors");
    folder.refuses(
        &format!("{RUN} -o out.png --weights vgg19"),
        3,
        &format!("weights {}: no such file", file.display()),
        "`impasto weights fetch vgg19` gets it",
    );
}

#[test]
fn auto_falls_back_soon_where_the_network_is_out_of_reach() {
    let folder = Folder::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = std::time::Instant::now();
    let mut command = folder.command(&format!("stylize content.png -s style.png {CHEAP} -n 1 -o out.png"));
    // A proxy that is not there, so that nothing leaves this machine.
    let output = command.env_remove("IMPASTO_OFFLINE").env("HTTPS_PROXY", format!("http://{closed}")).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(start.elapsed() < std::time::Duration::from_secs(8), "{:?}", start.elapsed());
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("weights: ")).collect();
    assert_eq!(lines[0], "weights: vgg19 is not here yet, fetching it once; --weights builtin does without");
    assert!(lines[1].contains("random filters); download https://www.vlfeat.org/"), "{stderr}");
    assert!(lines[1].ends_with("need vgg19, `impasto weights fetch` tries again"), "{stderr}");
    assert!(image::open(folder.path("out.png")).is_ok());
    // With a plan to be printed, or by the demo, nobody is asked.
    for run in ["demo --size 16 -n 1 --device cpu -o demo.png", "stylize content.png -s style.png -o x.png --dump-plan"]
    {
        let mut command = folder.command(run);
        let output =
            command.env_remove("IMPASTO_OFFLINE").env("HTTPS_PROXY", format!("http://{closed}")).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !stderr.contains("fetching"), "{stderr}");
    }
    // Asked for by name, there is no substitute.
    let mut command = folder.command(&format!("stylize content.png -s style.png {CHEAP} -o y.png --weights vgg19"));
    let output = command.env_remove("IMPASTO_OFFLINE").env("HTTPS_PROXY", format!("http://{closed}")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn both_layouts_fetched_give_the_losses_of_the_files_themselves() {
    let test = "both layouts of the .mat file through the cache";
    let Some(shared) = shared(test) else { return };
    for (layout, whole, deepest) in [("beta16.PARTIAL", 8, "relu3_4"), ("newformat.PARTIAL", 4, "relu2_2")] {
        let file = shared.join(format!("vgg19/imagenet-vgg-verydeep-19.{layout}.mat"));
        let Ok(body) = std::fs::read(&file) else {
            return skip(test, &format!("no {}", file.display()));
        };
        let folder = Folder::new();
        let server = Server::good(body.clone());
        let ended = folder.online(&crate::fetch::arguments(&server.url("net.mat"), &body));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains("Visual Geometry Group, University of Oxford"), "{}", ended.stdout);
        assert!(ended.stdout.contains(&format!("   {whole} of 16 convolutions, conv1_1 to ")), "{}", ended.stdout);
        assert!(ended.stdout.contains("incomplete: in the file it was made from conv"), "{}", ended.stdout);
        let run = |weights: &str, name: &str| {
            let mut command = folder.command("stylize content.png -s style.png --device cpu -n 3 --quiet");
            let layers =
                ["--content-layers", deepest, "--style-layers", &format!("relu1_1,{deepest}")].map(String::from);
            command.args(layers).args([
                "--weights",
                weights,
                "--log",
                &format!("{name}.jsonl"),
                "-o",
                &format!("{name}.png"),
            ]);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            (folder.read(&format!("{name}.jsonl")), folder.read(&format!("{name}.png")))
        };
        assert_eq!(run("mine", "cached"), run(file.to_str().unwrap(), "original"), "{layout}");
        assert_eq!(log(&folder.path("cached.jsonl")).len(), 3);
        let ended = folder
            .run("stylize content.png -s style.png --device cpu -o out.png --weights mine --style-layers relu4_1");
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        assert!(ended.last_lines()[0].contains("was incomplete (conv"), "{}", ended.stderr);
    }
}
