//! The cache: what is in it, what is wrong with it, which weights a run gets.

use std::collections::BTreeMap;

use crate::common::{shared, skip};
use crate::fetch::{network, sha256};
use crate::folder::{CHEAP, Ended, Folder, log};
use crate::server::Server;

const RUN: &str = "stylize content.png -s style.png --device cpu -n 2 --size 32";

/// The digest that belongs to the name `vgg19`.
const PINNED: &str = "abdb57167f82a2a1fbab1e1c16ad9373411883f262a1a37ee5db2e6fb0044695";

/// A folder with `net.mat` (to conv2_1) and its cache file under this name, which as `vgg19` claims to be of the known
/// file.
fn with_cached(name: &str) -> Folder {
    let folder = Folder::new();
    folder.write("net.mat", network());
    folder.done("weights import net.mat --name mine");
    let cached = folder.read("cache/mine.safetensors");
    std::fs::remove_file(folder.path("cache/mine.safetensors")).unwrap();
    let cached = if name == "vgg19" { from_another(&cached, PINNED) } else { cached };
    folder.write(&format!("cache/{name}.safetensors"), cached);
    folder
}

/// A cache file that says it was made from the file with this digest, sealed like any other.
fn from_another(cached: &[u8], sha256: &str) -> Vec<u8> {
    let (size, rest) = cached.split_first_chunk().unwrap();
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*size) as usize);
    let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let about = header["__metadata__"].as_object_mut().unwrap();
    about["origin_sha256"] = sha256.into();
    about.remove("seal");
    let sorted: BTreeMap<&str, &str> = about.iter().map(|(key, value)| (&**key, value.as_str().unwrap())).collect();
    let texts = sorted.into_iter().flat_map(|(key, value)| [key, value]);
    let sealed: Vec<u8> =
        texts.flat_map(|text| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()).collect();
    about.insert("seal".into(), crate::fetch::sha256(&sealed).into());
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes(), &header[..], tensors].concat()
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
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("   --weights my_net uses it\n"));
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
    assert_eq!(folder.pixels("my_net.png"), folder.pixels("net.mat.png"));
    assert_eq!(folder.pixels("my_net.png"), folder.pixels("own.safetensors.png"));

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
    assert_eq!(folder.pixels("auto.png"), folder.pixels("file.png"));
    assert_eq!(folder.pixels("named.png"), folder.pixels("file.png"));
    folder.done("demo --size 16 -n 1 --device cpu --style-layers relu1_1 --content-layers relu1_1");
    let said = |run: &str, why: &str| {
        let stderr = folder.done(run).stderr;
        let notice = format!("weights: built-in network (VGG-19's layers, learnt from drawn textures); {why}\n");
        assert!(stderr.starts_with(&notice), "{stderr}");
    };
    let shallow = "vgg19 here has 3 of 16 convolutions, 5 are needed";
    let run = format!("{RUN} --style-layers relu3_1 --content-layers relu3_1");
    said(&format!("{run} -o deep.png"), &format!("{shallow}; `impasto weights fetch vgg19 --force` gets it again"));
    folder.done(&format!("{run} -o builtin.png --weights builtin"));
    assert_eq!(folder.pixels("deep.png"), folder.pixels("builtin.png"));

    // Another file under that name is not used, and what is advised helps.
    let (file, gets) = (folder.path("cache/vgg19.safetensors"), "`impasto weights fetch` gets");
    let other = from_another(&folder.read("cache/vgg19.safetensors"), &"0".repeat(64));
    folder.write("cache/vgg19.safetensors", other);
    said(&format!("{run} -o a.png"), &format!("offline, and {shallow}; {gets} it for clearer pictures"));
    let another = "vgg19 here was made from another file";
    let cheap = format!("stylize content.png -s style.png {CHEAP} -n 2");
    said(&format!("{cheap} -o b.png"), &format!("offline, and {another}; {gets} it for clearer pictures"));
    let demo = "demo --size 16 -n 1 --device cpu --style-layers relu1_1 --content-layers relu1_1 -o c.png";
    said(demo, &format!("{another}; {gets} vgg19 for clearer pictures"));
    let error = format!("weights {}: is not vgg19: it has 3 of 16 convolutions of another file", file.display());
    let hint = "`impasto weights fetch vgg19` replaces it; other files need names of their own";
    folder.refuses(&format!("{cheap} -o d.png --weights vgg19"), 3, &error, hint);
    folder.refuses("weights verify", 3, &error, hint);
    let listed = folder.done("weights list").stdout;
    assert!(listed.contains("not used: `impasto weights fetch vgg19` replaces it\n"), "{listed}");
    let ended = folder.run("weights fetch");
    assert!(ended.last_lines()[0].contains("net-vgg-verydeep-19.mat: not tried, because"), "{}", ended.stderr);

    let demo = Folder::new().done("demo --size 16 -n 1 --device cpu");
    assert!(demo.stderr.contains("; `impasto weights fetch` gets vgg19 for clearer pictures"), "{}", demo.stderr);

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
fn names_that_mean_something_else_are_refused() {
    let folder = Folder::new();
    folder.write("net.mat", network());
    std::fs::copy(folder.path("net.mat"), folder.path("vgg19.mat")).unwrap();
    let sha256 = sha256(&network());
    for (import, name) in [("net.mat --name vgg19", "vgg19"), ("net.mat --name VGG19", "VGG19"), ("vgg19.mat", "vgg19")]
    {
        let error = format!("name: `{name}` is for the file with the SHA-256 {PINNED}, this one has {sha256}");
        let hint = "give it a name of its own: --name my-vgg19, then --weights my-vgg19";
        folder.refuses(&format!("weights import {import} --force"), 2, &error, hint);
    }
    for name in ["auto", "builtin", "Auto"] {
        let error = format!("name: `{name}` cannot be a name in the cache: --weights {name} means something else");
        let hint = "take another one, for example my-vgg19";
        folder.refuses(&format!("weights import net.mat --name {name}"), 2, &error, hint);
        let fetch = format!("weights fetch {name} --url http://127.0.0.1:9/x --sha256 {sha256} --length 9");
        folder.refuses(&fetch, 2, &error, hint);
    }
    assert!(folder.cached().is_empty(), "{:?}", folder.cached());
}

/// Starts `weights import net.mat --name mine`, which stops where it asks for its lock, and lets it go on after `then`.
#[cfg(unix)]
fn import_meanwhile(folder: &Folder, then: impl FnOnce()) -> Ended {
    use std::process::{Command, Stdio};
    folder.write("net.mat", network());
    std::fs::create_dir(folder.path("cache")).unwrap();
    // Opening a pipe waits for somebody at its other end.
    let lock = folder.path("cache/mine.lock");
    assert!(Command::new("mkfifo").arg(&lock).status().unwrap().success());
    let mut command = folder.command("weights import net.mat --name mine");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    then();
    let _other = std::fs::File::open(&lock).unwrap();
    child.wait_with_output().unwrap().into()
}

#[cfg(unix)]
#[test]
fn an_import_looks_again_once_it_has_the_lock() {
    let folder = Folder::new();
    let ended = import_meanwhile(&folder, || folder.write("cache/mine.safetensors", "another process's"));
    let file = folder.path("cache/mine.safetensors");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(ended.last_lines()[0], format!("error: output {}: already exists", file.display()));
    assert_eq!(folder.read("cache/mine.safetensors"), b"another process's");
}

#[cfg(unix)]
#[test]
fn a_file_that_changes_while_it_is_imported_is_refused() {
    for longer in [0, 1] {
        let folder = Folder::new();
        let ended = import_meanwhile(&folder, || {
            let mut bytes = network();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            bytes.resize(bytes.len() + longer, 0);
            folder.write("net.mat", bytes);
        });
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        let lines =
            ["error: weights net.mat: was changed while it was read", "hint: run it again once the file is whole"];
        assert_eq!(ended.last_lines(), lines);
        assert_eq!(folder.cached(), Vec::<String>::new());
    }
}

#[test]
fn what_dead_processes_left_is_swept() {
    use std::time::{Duration, SystemTime};
    let (folder, body) = (Folder::new(), network());
    std::fs::create_dir(folder.path("cache")).unwrap();
    let put = |name: &str, hours: u64| {
        folder.write(&format!("cache/{name}"), "something");
        let file = std::fs::File::options().write(true).open(folder.path(&format!("cache/{name}"))).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    // Of others that found no locks, of other names, and of this one.
    for name in [".mine-aB3dE6.part", ".mine-2-aB3dE6.part", ".mine.safetensors-x.safetensors-aB3dE6.tmp"] {
        put(name, if name.starts_with(".mine-a") { 23 } else { 25 });
    }
    put(".mine-fG7hI9.part", 25);
    put(".mine.safetensors-aB3dE6.tmp", 0);
    folder.write("net.mat", &body);
    folder.done("weights import net.mat --name mine");
    let kept = [".mine-2-aB3dE6.part", ".mine-aB3dE6.part", ".mine.safetensors-x.safetensors-aB3dE6.tmp"];
    assert_eq!(folder.cached(), [&kept[..], &["mine.safetensors"]].concat());
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
    assert_eq!(lines[0], "weights: vgg19 is not here; fetching it once, --weights builtin does without");
    assert!(lines[1].contains("learnt from drawn textures); download https://www.vlfeat.org/"), "{stderr}");
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
            (folder.read(&format!("{name}.jsonl")), folder.pixels(&format!("{name}.png")))
        };
        assert_eq!(run("mine", "cached"), run(file.to_str().unwrap(), "original"), "{layout}");
        assert_eq!(log(&folder.path("cached.jsonl")).len(), 3);
        let ended = folder
            .run("stylize content.png -s style.png --device cpu -o out.png --weights mine --style-layers relu4_1");
        assert_eq!(ended.code, Some(3), "{}", ended.stderr);
        assert!(ended.last_lines()[0].contains("was incomplete (conv"), "{}", ended.stderr);
    }
}
