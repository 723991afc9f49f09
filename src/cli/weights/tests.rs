//! Which weights a run gets from a server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use impasto::weights::save_cache;
use sha2::{Digest, Sha256};

use super::*;

#[path = "../../../tests/cli/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "written for the tests of the command line")]
mod server;

use server::Server;

#[test]
fn auto_fetches_once_and_takes_the_built_in_network_for_other_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network { source: "a network".into(), ..builtin(2) };
    let file = folder.path().join("file");
    save_cache(&network, &file).unwrap();
    let body = std::fs::read(&file).unwrap();
    let good = Server::good(body.clone());
    let bad = Server::good([&body[1..], b"x"].concat());
    let remote = |server: &Server| Remote {
        name: "vgg19".into(),
        url: server.url("x"),
        length: body.len() as u64,
        sha256: Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let store = Store::at(folder.path().join("cache"));
    let wish = |depth, offline| Wish { text: "auto", depth, may_fetch: true, offline, quiet: true };
    let get = |server, depth, offline| auto(&wish(depth, offline), &store, remote(server)).unwrap().unwrap();
    let substituted = get(&bad, 2, false);
    assert_eq!(substituted.convs, builtin(2).convs);
    assert!(substituted.source.contains("; weights http://127.0.0.1"), "{}", substituted.source);
    assert!(substituted.source.contains(" sent other bytes: "), "{}", substituted.source);
    assert!(!store.contains("vgg19"));
    assert!(get(&good, 2, true).source.contains("; offline, and vgg19 is not here"));
    assert_eq!(good.asked().len(), 0);
    assert_eq!(get(&good, 2, false), network);
    assert_eq!(get(&good, 1, false).convs, builtin(1).convs);
    assert_eq!(get(&good, 2, true), network);
    assert_eq!(good.asked().len(), 1);
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
