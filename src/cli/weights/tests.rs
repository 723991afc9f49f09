//! Which weights a run gets from a server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use impasto::weights::save_cache;
use sha2::{Digest, Sha256};

use super::*;

#[path = "../../../tests/cli/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "written for the tests of the command line")]
mod server;

use server::Server;

/// The bytes of a network's file.
fn file(folder: &Path, network: &Network) -> Vec<u8> {
    save_cache(network, &folder.join("file")).unwrap();
    std::fs::read(folder.join("file")).unwrap()
}

/// A file that is known as `net`: the digest of `vgg19` is that of no file that a test has.
fn remote(server: &Server, body: &[u8]) -> Remote {
    let sha256 = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    Remote { name: "net".into(), url: server.url("x"), length: body.len() as u64, sha256 }
}

fn wish(depth: usize, offline: bool) -> Wish<'static> {
    Wish { text: "auto", depth, may_fetch: true, offline, quiet: true }
}

#[test]
fn auto_fetches_once_and_takes_the_built_in_network_for_other_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network { source: "a network".into(), ..builtin(2) };
    let body = file(folder.path(), &network);
    let good = Server::good(body.clone());
    let bad = Server::good([&body[1..], b"x"].concat());
    let store = Store::at(folder.path().join("cache"));
    let get = |server, depth, offline| auto(&wish(depth, offline), &store, remote(server, &body)).unwrap().unwrap();
    let substituted = get(&bad, 2, false);
    assert_eq!(substituted.convs, builtin(2).convs);
    assert!(substituted.source.contains("; weights http://127.0.0.1"), "{}", substituted.source);
    assert!(substituted.source.contains(" sent other bytes: "), "{}", substituted.source);
    assert!(!store.contains("net"));
    assert!(get(&good, 2, true).source.contains("; offline, and net is not here"));
    assert_eq!(good.asked().len(), 0);
    assert_eq!(get(&good, 2, false), network);
    assert_eq!(get(&good, 1, false).convs, builtin(1).convs);
    assert_eq!(get(&good, 2, true), network);
    // The same file again would be no deeper.
    let shallow = get(&good, 3, false);
    assert_eq!(shallow.convs, builtin(3).convs);
    assert!(shallow.source.contains("; net here has 2 of 16 convolutions, 3 are needed; "), "{}", shallow.source);
    assert_eq!(good.asked().len(), 1);
}

#[test]
fn auto_replaces_another_file_of_that_name() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network { source: "a network".into(), ..builtin(2) };
    let body = file(folder.path(), &network);
    let server = Server::good(body.clone());
    let store = Store::at(folder.path());
    let get = |depth, offline| auto(&wish(depth, offline), &store, remote(&server, &body)).unwrap().unwrap();
    save_cache(&Network { source: "another".into(), ..builtin(2) }, &store.path("net").unwrap()).unwrap();
    let offline = get(2, true).source;
    assert!(offline.contains("; offline, and net here was made from another file; `impasto w"), "{offline}");
    let offline = get(3, true).source;
    assert!(offline.contains("; offline, and net here has 2 of 16 convolutions, 3 are needed; `i"), "{offline}");
    assert_eq!(get(2, false), network);
    assert_eq!(get(2, true), network);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn auto_fetches_itself_once_the_process_it_waited_for_has_failed() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network { source: "a network".into(), ..builtin(2) };
    let body = file(folder.path(), &network);
    let server = Server::good(body.clone());
    let store = Store::at(folder.path());
    save_cache(&builtin(1), &store.path("net").unwrap()).unwrap();
    let other = store.lock("net").unwrap().unwrap();
    let waiting = std::thread::spawn({
        let (store, remote) = (store.clone(), remote(&server, &body));
        move || auto(&wish(2, false), &store, remote).unwrap().unwrap()
    });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(server.asked().len(), 0);
    drop(other);
    assert_eq!(waiting.join().unwrap(), network);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn nothing_secret_stays_in_a_url() {
    for (url, shown) in [
        ("https://a.b/c?token=1#d", "https://a.b/c"),
        ("http://me:word@a.b:80/c/d@e", "http://a.b:80/c/d@e"),
        ("http://a.b", "http://a.b/"),
    ] {
        assert_eq!(public(url), shown);
    }
}
