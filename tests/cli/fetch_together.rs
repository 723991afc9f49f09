//! Downloads that other things happen to: a second process, Ctrl-C, a kill, a full disk.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::skip;
use crate::fetch::{arguments, network, sha256, written};
use crate::folder::{Ended, Folder};
use crate::server::{Server, send};
use crate::writer::Style;

/// Sends all but slowly: 60 pieces, 20 ms apart.
fn slow(body: &[u8]) -> Server {
    let body = body.to_vec();
    Server::new(move |asked, stream| {
        send(stream, asked, &body, 0);
        for piece in body[asked.from.unwrap_or(0)..].chunks(body.len() / 60) {
            std::thread::sleep(Duration::from_millis(20));
            if stream.write_all(piece).is_err() {
                return;
            }
        }
    })
}

fn wait_for_part(folder: &Folder) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::fs::metadata(folder.path("cache/mine.part")).map_or(0, |part| part.len()) < 10_000 {
        assert!(Instant::now() < deadline, "no download begins");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn three_processes_at_once_make_one_download_and_one_cache_file() {
    let (folder, body) = (Folder::new(), network());
    let server = slow(&body);
    let run = arguments(&server.url(""), &body);
    let start = || {
        let mut command = folder.command(&run);
        command.env_remove("IMPASTO_OFFLINE").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..3).map(|_| start()).collect();
    let ended: Vec<Ended> = children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect();
    for ended in &ended {
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.starts_with("mine: VGG-19, MatConvNet file"), "{}", ended.stdout);
    }
    let waited = ended.iter().filter(|ended| ended.stderr.contains("another process is fetching it")).count();
    assert_eq!((waited, server.asked().len()), (2, 1));
    assert_eq!(folder.cached(), ["mine.safetensors"]);
    folder.done("weights verify");
}

#[test]
fn a_second_process_takes_over_from_one_that_is_killed() {
    let (folder, body) = (Folder::new(), network());
    let server = slow(&body);
    let run = arguments(&server.url(""), &body);
    let start = || folder.command(&run).env_remove("IMPASTO_OFFLINE").stderr(Stdio::null()).spawn().unwrap();
    let mut first = start();
    wait_for_part(&folder);
    let mut second = start();
    std::thread::sleep(Duration::from_millis(100));
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(second.wait().unwrap().success());
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].from.is_some_and(|from| from >= 10_000), "{asked:?}");
    assert_eq!(folder.cached(), ["mine.safetensors"]);
    folder.done("weights verify");
}

/// Fetches while another process holds the lock, which does `then` and gives it back. How often the server was asked.
fn asked_after_waiting(folder: &Folder, options: &str, then: impl FnOnce()) -> usize {
    let body = network();
    let server = Server::good(body.clone());
    let lock = std::fs::File::create(folder.path("cache/mine.lock")).unwrap();
    lock.lock().unwrap();
    let mut command = folder.command(&format!("{} {options}", arguments(&server.url(""), &body)));
    let mut child = command.env_remove("IMPASTO_OFFLINE").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "mine: another process is fetching it; waiting for that one"));
    then();
    drop(lock);
    let said: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{said:?}");
    assert_eq!(folder.cached(), ["mine.safetensors"]);
    folder.done("weights verify mine");
    let listed = folder.done("weights list").stdout;
    assert!(listed.contains(&sha256(&body)), "{listed}");
    server.asked().len()
}

#[test]
fn what_another_process_left_is_taken_only_if_it_is_the_right_file_and_whole() {
    let (folder, cache) = (Folder::new(), "cache/mine.safetensors");
    folder.write("net.mat", network());
    folder.done("weights import net.mat --name mine");
    let good = folder.read(cache);
    let mut damaged = good.clone();
    let at = damaged.len() - 3;
    damaged[at] ^= 1;
    folder.write("other.mat", written(Style { doubles: true, ..Style::default() }));
    folder.done("weights import other.mat --name other");
    let other = folder.read("cache/other.safetensors");
    std::fs::remove_file(folder.path("cache/other.safetensors")).unwrap();
    let remove = || std::fs::remove_file(folder.path(cache)).unwrap();

    // What --force was to replace is still there.
    folder.write(cache, &damaged);
    assert_eq!(asked_after_waiting(&folder, "--force", || {}), 1);
    assert_eq!(asked_after_waiting(&folder, "--force", || {}), 1);
    assert_eq!(asked_after_waiting(&folder, "--force", || folder.write(cache, &damaged)), 1);
    assert_eq!(asked_after_waiting(&folder, "--force", || folder.write(cache, &good)), 0);
    for (left, asked) in [(&damaged, 1), (&other, 1), (&good, 0)] {
        remove();
        assert_eq!(asked_after_waiting(&folder, "", || folder.write(cache, left)), asked);
    }
    remove();
    assert_eq!(asked_after_waiting(&folder, "", || {}), 1);
    // Without anybody to wait for, too, another file is not the one that was asked for.
    folder.write(cache, &other);
    let (server, body) = (Server::good(network()), network());
    let ended = folder.online(&arguments(&server.url(""), &body));
    assert!(ended.stderr.starts_with("mine: what is here was made from another file, and will"), "{}", ended.stderr);
    assert_eq!((ended.code, server.asked().len()), (Some(0), 1));
}

#[test]
fn killed_at_any_moment_it_leaves_a_verified_file_or_none() {
    let (folder, body) = (Folder::new(), network());
    let server = Server::good(body.clone());
    let run = arguments(&server.url(""), &body);
    for delay in 0..25 {
        let mut command = folder.command(&format!("{run} --force"));
        let mut child =
            command.env_remove("IMPASTO_OFFLINE").stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let _ = child.kill();
        child.wait().unwrap();
        if folder.path("cache/mine.safetensors").exists() {
            folder.done("weights verify mine");
        }
    }
    assert_eq!(folder.online(&format!("{run} --force")).code, Some(0));
    assert_eq!(folder.cached(), ["mine.safetensors"], "what the killed ones left is cleared away");
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_download_at_once_and_the_next_run_goes_on() {
    let (folder, body) = (Folder::new(), network());
    let bytes = body.clone();
    let times = AtomicUsize::new(0);
    let server = Server::new(move |asked, stream| {
        // The first time it says nothing more after some of it.
        let first = times.fetch_add(1, Ordering::Relaxed) == 0;
        send(stream, asked, &bytes, if first { 50_000 } else { usize::MAX });
        std::thread::sleep(Duration::from_secs(if first { 60 } else { 0 }));
    });
    let mut command = folder.command(&arguments(&server.url(""), &body));
    let child = command.env_remove("IMPASTO_OFFLINE").stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    wait_for_part(&folder);
    let asked = Instant::now();
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(
        ended.stderr.ends_with("interrupted: 50 kB are here, the next run goes on from there\n"),
        "{}",
        ended.stderr
    );
    assert_eq!(folder.cached(), ["mine.part"]);
    assert_eq!(folder.online(&arguments(&server.url(""), &body)).code, Some(0));
    assert_eq!(server.asked()[1].from, Some(50_000));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_conversion_and_the_next_run_finishes_it() {
    let folder = Folder::new();
    // All 16 convolutions: the conversion writes 80 MB, syncs and reads them back.
    let style = Style::default();
    let layers: Vec<Vec<u8>> = (0..16).map(|index| style.conv(index, |i, _, _, co| (i + co) as f32)).collect();
    let body = style.file(&[style.layers(&layers), style.mean()]);
    let server = Server::good(body.clone());
    let run = arguments(&server.url(""), &body);
    let mut command = folder.command(&run);
    let child = command.env_remove("IMPASTO_OFFLINE").stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !folder.cached().iter().any(|name| name.ends_with(".tmp")) {
        assert!(Instant::now() < deadline, "no conversion begins");
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("interrupted: all of it is here, the next run finishes it\n"), "{}", ended.stderr);
    assert!(!folder.path("cache/mine.safetensors").exists());
    assert_eq!(folder.read("cache/mine.part").len(), body.len());
    assert_eq!(folder.online(&run).code, Some(0));
    assert_eq!(server.asked().len(), 1);
    assert_eq!(folder.cached(), ["mine.safetensors"], "what the first one left is cleared away");
    folder.done("weights verify mine");
    // One that ended after the conversion leaves the download.
    folder.write("cache/mine.part", &body);
    assert_eq!(folder.online(&run).code, Some(0));
    assert_eq!(folder.cached(), ["mine.safetensors"]);
}

/// Runs `fetch` through a shell that takes room away first, and again with room.
#[cfg(unix)]
fn with_little_room(folder: &Folder, shell: &str, body: &[u8], keeps: &[&str]) {
    let server = Server::good(body.to_vec());
    let run = arguments(&server.url(""), body);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("{shell} exec \"$@\""), "sh", env!("CARGO_BIN_EXE_impasto")]);
    command.args(run.split_whitespace()).env("IMPASTO_CACHE", folder.path("cache"));
    let ended = Ended::from(command.output().unwrap());
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let lines = ended.last_lines();
    assert!(lines[0].starts_with("error: output ") && lines[0].contains(": the disk is full: "), "{}", ended.stderr);
    assert!(lines[1].starts_with("hint: free some space"), "{}", ended.stderr);
    assert_eq!(folder.cached(), keeps);
    if !keeps.is_empty() {
        assert_eq!(folder.online(&run).code, Some(0));
        assert_eq!(folder.cached(), ["mine.safetensors"]);
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_said_and_the_download_goes_on_once_there_is_room() {
    let body = network();
    // A file may have 400 blocks of 512 bytes, and growing beyond is an error and no signal.
    let limit = |blocks: usize| format!("trap '' XFSZ; ulimit -f {blocks};");
    with_little_room(&Folder::new(), &limit(400), &body, &["mine.part"]);
    // Room for all of the download, which is compressed, but not for the cache file.
    let small = written(Style { compressed: true, ..Style::default() });
    with_little_room(&Folder::new(), &limit(small.len().div_ceil(512)), &small, &["mine.part"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_system_without_room_is_said_and_keeps_nothing_unverified() {
    let test = "a full file system";
    let folder = Folder::new();
    std::fs::create_dir(folder.path("cache")).unwrap();
    let mount = format!("mount -t tmpfs -o size=256k none {}", folder.path("cache").display());
    let able = std::process::Command::new("unshare").args(["-m", "sh", "-c", &mount]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        return skip(test, "this user may not mount one");
    }
    let body = network();
    let server = Server::good(body.clone());
    let shell = format!("{mount}; \"$@\"; code=$?; ls {}; exit $code", folder.path("cache").display());
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "sh", "-c", &shell, "sh", env!("CARGO_BIN_EXE_impasto")]);
    command.args(arguments(&server.url(""), &body).split_whitespace()).env("IMPASTO_CACHE", folder.path("cache"));
    let ended = Ended::from(command.output().unwrap());
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.last_lines()[0].contains("mine.part: the disk is full: 1 MB are needed, 0 MB"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "mine.lock\nmine.part\n");
}
