//! `impasto weights fetch` against servers that are well, slow, gone, cut off or liars. Whatever they do, the cache holds
//! a verified file or none, and a failure is one line with its remedy.

use std::io::Write;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::folder::{Ended, Folder};
use crate::server::{Asked, Server, say, send};
use crate::writer::Style;

const AGAIN: &str = "run it again: it goes on from here";
const OTHERWISE: &str =
    "check the connection, --proxy and --url, or get the file by other means and give it to `impasto weights import`";
const NOTHING_KEPT: &str = "nothing of it was kept; run it again, or give another mirror with --url";

/// A network down to conv2_1: half a megabyte.
pub(crate) fn network() -> Vec<u8> {
    written(Style::default())
}

pub(crate) fn written(style: Style) -> Vec<u8> {
    let value = |i, j, ci, co| ((7 * i + 3 * j + 5 * ci + 11 * co) % 17) as f32 / 100.0 - 0.08;
    let layers: Vec<Vec<u8>> = (0..3).map(|index| style.conv(index, value)).collect();
    style.file(&[style.layers(&layers), style.mean()])
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The arguments that fetch `url` as `mine`, to be `body`.
pub(crate) fn arguments(url: &str, body: &[u8]) -> String {
    format!("weights fetch mine --url {url} --sha256 {} --length {}", sha256(body), body.len())
}

impl Folder {
    pub(crate) fn online(&self, arguments: &str) -> Ended {
        Ended::from(self.command(arguments).env_remove("IMPASTO_OFFLINE").output().unwrap())
    }

    /// Fetches to success: a verified file, and nothing else.
    fn fetches(&self, url: &str, body: &[u8]) -> Ended {
        let ended = self.online(&arguments(url, body));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(self.cached(), ["mine.safetensors"]);
        assert_eq!(self.done("weights verify mine").stdout, "mine: OK, 3 of 16 convolutions\n");
        ended
    }

    /// Fetches in vain: `error` after the kind and the URL, no cache file, and a part-file of `part` bytes or none.
    fn fetch_fails(&self, run: &str, code: i32, error: &str, hint: &str, part: Option<usize>) {
        let ended = self.online(run);
        let case = format!("impasto {run}\n{}", ended.stderr);
        assert_eq!(ended.code, Some(code), "{case}");
        let lines = ended.last_lines();
        let kind = if code == 3 { "error: weights http://" } else { "error: download http://" };
        assert!(lines[0].starts_with(kind) && lines[0].ends_with(&format!(": {error}")), "{case}");
        assert_eq!(lines[1], format!("hint: {hint}"), "{case}");
        assert_eq!(ended.stderr.matches("error").count(), 1, "{case}");
        let left: Vec<&str> = part.iter().map(|_| "mine.part").collect();
        assert_eq!(self.cached(), left, "{case}");
        if let Some(length) = part {
            assert_eq!(self.read("cache/mine.part").len(), length, "{case}");
        }
    }
}

#[test]
fn a_download_becomes_a_verified_cache_file_with_its_origin() {
    let (folder, body) = (Folder::new(), network());
    let server = Server::good(body.clone());
    let ended = folder.fetches(&server.url("vgg.mat"), &body);
    for line in ["mine: VGG-19, MatConvNet file, see source", "   3 of 16 convolutions, conv1_1 to conv2_1, 452 kB"] {
        assert!(ended.stdout.lines().any(|found| found == line), "{}", ended.stdout);
    }
    let origin = format!("   made from {}, SHA-256 {}", server.url("vgg.mat"), sha256(&body));
    assert!(ended.stdout.contains(&origin), "{}", ended.stdout);
    assert_eq!(folder.done("weights list").stdout.lines().next(), ended.stdout.lines().next());
    // Once is enough.
    let again = folder.online(&arguments(&server.url("vgg.mat"), &body));
    assert_eq!((again.code, server.asked().len()), (Some(0), 1), "{}", again.stderr);
    assert!(again.stderr.contains("mine is here already"), "{}", again.stderr);
    folder.online(&format!("{} --force", arguments(&server.url("vgg.mat"), &body)));
    assert_eq!(server.asked().len(), 2);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| std::fs::metadata(folder.path(name)).unwrap().permissions().mode();
        assert_eq!(mode("cache/mine.safetensors"), mode("content.png"), "the mode of any new file");
    }
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_ended() {
    let (folder, body) = (Folder::new(), network());
    let (cut, bytes) = (200_000, body.clone());
    let server = Server::new(move |asked, stream| {
        send(stream, asked, &bytes, if asked.from.is_none() { cut } else { usize::MAX });
    });
    let run = arguments(&server.url(""), &body);
    let error = format!("the connection broke, after {cut} of {} bytes", body.len());
    folder.fetch_fails(&run, 1, &error, AGAIN, Some(cut));
    assert!(folder.done("weights list").stdout.contains("mine: 200 kB of its download are here"));
    let ended = folder.fetches(&server.url(""), &body);
    assert!(ended.stderr.contains("mine: 200 kB of them are here already"), "{}", ended.stderr);
    let asked: Vec<Option<usize>> = server.asked().iter().map(|asked| asked.from).collect();
    assert_eq!(asked, [None, Some(cut)]);
}

#[test]
fn a_server_that_knows_no_ranges_sends_all_of_it_again() {
    let body = network();
    let answers: [fn(&Asked, &mut std::net::TcpStream, &[u8]); 4] = [
        |_, stream, body| send(stream, &Asked { line: String::new(), from: None }, body, usize::MAX),
        |asked, stream, body| match asked.from {
            Some(_) => say(stream, "416 Range Not Satisfiable\r\nContent-Length: 0", b""),
            None => send(stream, asked, body, usize::MAX),
        },
        // Another range than was asked for, and one of another file.
        |asked, stream, body| match asked.from {
            Some(from) => send(stream, &Asked { from: Some(from + 1), ..asked.clone() }, body, usize::MAX),
            None => send(stream, asked, body, usize::MAX),
        },
        |asked, stream, body| match asked.from {
            Some(from) => {
                let head =
                    format!("206 Partial Content\r\nContent-Length: 3\r\nContent-Range: bytes {from}-{}/9", from + 2);
                say(stream, &head, b"abc");
            }
            None => send(stream, asked, body, usize::MAX),
        },
    ];
    for answer in answers {
        let (folder, bytes) = (Folder::new(), body.clone());
        let server = Server::new(move |asked, stream| answer(asked, stream, &bytes));
        std::fs::create_dir(folder.path("cache")).unwrap();
        folder.write("cache/mine.part", &body[..1000]);
        folder.fetches(&server.url(""), &body);
        assert_eq!(server.asked()[0].from, Some(1000));
    }
}

#[test]
fn a_part_file_of_other_bytes_never_becomes_a_cache_file() {
    let body = network();
    let server = Server::good(body.clone());
    let run = arguments(&server.url(""), &body);
    let folder = Folder::new();
    std::fs::create_dir(folder.path("cache")).unwrap();
    // As long as the file, or half of it, with one bit changed: noticed at the end, and not kept.
    for length in [body.len() / 2, body.len()] {
        let mut wrong = body[..length].to_vec();
        wrong[1000] ^= 1;
        let mut all = wrong.clone();
        all.extend(&body[length..]);
        folder.write("cache/mine.part", wrong);
        let error = format!("sent other bytes: their SHA-256 is {}, not {}", sha256(&all), sha256(&body));
        folder.fetch_fails(&run, 3, &error, NOTHING_KEPT, None);
    }
    // All of it, but not converted yet; or more than all of it.
    let asked = server.asked().len();
    folder.write("cache/mine.part", &body);
    folder.fetches(&server.url(""), &body);
    assert_eq!(server.asked().len(), asked, "nothing was left to be asked for");
    let folder = Folder::new();
    std::fs::create_dir(folder.path("cache")).unwrap();
    folder.write("cache/mine.part", [&body[..], b"more"].concat());
    folder.fetches(&server.url(""), &body);
    assert_eq!(server.asked().last().unwrap().from, None, "of more than all of it, nothing can be right");
}

#[test]
fn other_bytes_and_other_lengths_than_the_pinned_ones_are_refused() {
    let body = network();
    let folder = Folder::new();
    let mut other = body.clone();
    other[5000] ^= 0x80;
    let server = Server::good(other.clone());
    let error = format!("sent other bytes: their SHA-256 is {}, not {}", sha256(&other), sha256(&body));
    folder.fetch_fails(&arguments(&server.url(""), &body), 3, &error, NOTHING_KEPT, None);

    let page = b"<html>please log in</html>";
    let server = Server::new(|_, stream| {
        say(stream, &format!("200 OK\r\nContent-Type: text/html\r\nContent-Length: {}", page.len()), page);
    });
    let error = format!("sent {} bytes (text/html), the file has {}", page.len(), body.len());
    folder.fetch_fails(&arguments(&server.url(""), &body), 3, &error, NOTHING_KEPT, None);
    // A login page in the way is no reason to lose what is here.
    folder.write("cache/mine.part", &body[..1000]);
    folder.fetch_fails(&arguments(&server.url(""), &body), 3, &error, NOTHING_KEPT, Some(1000));
    std::fs::remove_file(folder.path("cache/mine.part")).unwrap();

    // Without a length, more than there should be.
    let server = Server::new(|_, stream| {
        say(stream, "200 OK", b"");
        // Much more than it should be, but not so much that a client without the check fills a disk.
        let _ = (0..100).try_for_each(|_| stream.write_all(&[0; 1 << 16]));
    });
    let error = format!("sent more than the {} bytes that the file has", body.len());
    folder.fetch_fails(&arguments(&server.url(""), &body), 3, &error, NOTHING_KEPT, None);

    // Without a length, less than there should be.
    let half = body[..body.len() / 2].to_vec();
    let server = Server::new(move |_, stream| say(stream, "200 OK", &half));
    let error = format!("the server ended it, after {} of {} bytes", body.len() / 2, body.len());
    folder.fetch_fails(&arguments(&server.url(""), &body), 1, &error, AGAIN, Some(body.len() / 2));
}

#[test]
fn right_bytes_that_are_no_weights_are_not_kept() {
    let folder = Folder::new();
    let page = b"<html>not a network</html>".to_vec();
    let server = Server::good(page.clone());
    let ended = folder.online(&arguments(&server.url(""), &page));
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.last_lines()[0].ends_with("mine.part: is a web page, not weights"), "{}", ended.stderr);
    assert!(folder.cached().is_empty(), "{:?}", folder.cached());
}

#[test]
fn what_the_server_refuses_is_said() {
    let (folder, body) = (Folder::new(), network());
    for status in ["404 Not Found", "403 Forbidden", "500 Internal Server Error", "304 Not Modified"] {
        let server = Server::new(move |_, stream| say(stream, &format!("{status}\r\nContent-Length: 0"), b""));
        let error = format!("the server says {status}");
        folder.fetch_fails(&arguments(&server.url("x"), &body), 1, &error, OTHERWISE, None);
    }
    // What is here already survives a server that is out of order.
    folder.write("cache/mine.part", &body[..1000]);
    let server = Server::new(|_, stream| say(stream, "503 Service Unavailable\r\nContent-Length: 0", b""));
    let error = "the server says 503 Service Unavailable";
    folder.fetch_fails(&arguments(&server.url("x"), &body), 1, error, OTHERWISE, Some(1000));
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let (folder, body) = (Folder::new(), network());
    let goal = Server::good(body.clone());
    let location = goal.url("there");
    let server = Server::new(move |_, stream| {
        say(stream, &format!("302 Found\r\nLocation: {location}\r\nContent-Length: 0"), b"");
    });
    std::fs::create_dir(folder.path("cache")).unwrap();
    folder.write("cache/mine.part", &body[..1000]);
    folder.fetches(&server.url("here"), &body);
    assert!(goal.asked()[0].line.starts_with("GET /there "), "{:?}", goal.asked());
    assert_eq!(goal.asked()[0].from, Some(1000), "the range goes along");

    let folder = Folder::new();
    let server = Server::new(|_, stream| say(stream, "302 Found\r\nLocation: /again\r\nContent-Length: 0", b""));
    folder.fetch_fails(&arguments(&server.url(""), &body), 1, "too many redirects", OTHERWISE, None);
}

#[test]
fn a_server_that_stalls_is_given_up_and_a_slow_one_is_not() {
    let (folder, body) = (Folder::new(), network());
    let bytes = body.clone();
    let server = Server::new(move |asked, stream| {
        send(stream, asked, &bytes, 100_000);
        std::thread::sleep(Duration::from_secs(60));
    });
    let start = Instant::now();
    let error = format!("nothing arrives any more, after 100000 of {} bytes", body.len());
    folder.fetch_fails(&format!("{} --timeout 1", arguments(&server.url(""), &body)), 1, &error, AGAIN, Some(100_000));
    let silent = Server::new(|_, _| std::thread::sleep(Duration::from_secs(60)));
    let run = format!("{} --timeout 1", arguments(&silent.url(""), &body));
    let error = format!("nothing arrives any more, after 100000 of {} bytes", body.len());
    folder.fetch_fails(&run, 1, &error, AGAIN, Some(100_000));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());

    // Two seconds in all, never one without a byte.
    let bytes = body.clone();
    let server = Server::new(move |asked, stream| {
        let from = asked.from.unwrap_or(0);
        send(stream, asked, &bytes, 0);
        for piece in bytes[from..].chunks(bytes.len() / 8) {
            std::thread::sleep(Duration::from_millis(250));
            let _ = stream.write_all(piece);
        }
    });
    let ended = folder.online(&format!("{} --timeout 1", arguments(&server.url(""), &body)));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn a_server_that_is_not_there_fails_soon() {
    let (folder, body) = (Folder::new(), network());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = Instant::now();
    for url in [
        format!("http://127.0.0.1:{port}/x"),
        // An address for documentation, behind which there is nobody, and a name that nobody may have.
        "http://192.0.2.1/x".into(),
        "http://nowhere.invalid/x".into(),
    ] {
        let ended = folder.online(&arguments(&url, &body));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.last_lines()[0].starts_with(&format!("error: download {url}: ")), "{}", ended.stderr);
        assert_eq!(ended.last_lines()[1], format!("hint: {OTHERWISE}"));
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_proxy_is_used_when_named_and_not_for_exempt_hosts() {
    let body = network();
    let bytes = body.clone();
    // Grants every tunnel and plays the server at its end.
    let proxy = Server::new(move |asked, stream| {
        assert!(asked.line.starts_with("CONNECT mirror.invalid:80 "), "{}", asked.line);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        if let Some(asked) = crate::server::read(stream) {
            send(stream, &asked, &bytes, usize::MAX);
        }
    });
    let run = arguments("http://mirror.invalid/x", &body);
    let folder = Folder::new();
    let ended = folder.online(&format!("{run} --proxy {}", proxy.url("")));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let through = |exempt: &str| {
        let folder = Folder::new();
        let mut command = folder.command(&run);
        command.env_remove("IMPASTO_OFFLINE").env("HTTP_PROXY", proxy.url("")).env("NO_PROXY", exempt);
        Ended::from(command.output().unwrap()).code
    };
    assert_eq!((through("other.invalid"), through("mirror.invalid")), (Some(0), Some(1)));
    assert_eq!(proxy.asked().len(), 2);
}

#[test]
fn offline_means_that_nobody_is_asked() {
    let (folder, body) = (Folder::new(), network());
    let server = Server::good(body.clone());
    let run = arguments(&server.url(""), &body);
    let error = "not tried, because --offline or IMPASTO_OFFLINE is set";
    let hint = "get the file by other means and give it to `impasto weights import`";
    folder.refuses(&run, 1, &format!("download {}: {error}", server.url("")), hint);
    let ended = folder.online(&format!("{run} --offline"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(server.asked().is_empty() && folder.cached().is_empty());
}

#[test]
fn what_is_secret_in_a_url_is_neither_shown_nor_kept() {
    let (folder, body) = (Folder::new(), network());
    let server = Server::good(body.clone());
    let url = server.url("x?token=hush").replace("//", "//me:hush@");
    let ended = folder.online(&arguments(&url, &body));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(server.asked()[0].line.starts_with("GET /x?token=hush "), "{:?}", server.asked());
    let kept = String::from_utf8_lossy(&folder.read("cache/mine.safetensors")).into_owned();
    for text in [ended.stdout, ended.stderr, kept] {
        assert!(!text.contains("hush"), "{}", &text[..text.len().min(3000)]);
    }
    let ended = folder.online(&arguments(&url.replace("http:", "ftp:"), &body));
    assert!(ended.code == Some(2) && !ended.stderr.contains("hush"), "{}", ended.stderr);
}

#[test]
fn arguments_that_name_no_certain_file_are_refused() {
    let folder = Folder::new();
    let digest = "0".repeat(64);
    let own = "give the file a name of your own: impasto weights fetch NAME …";
    let known = "known is vgg19; for another file give --url, --sha256 and --length";
    for (arguments, error, hint) in [
        ("mine", "name: nothing is known about `mine`", known),
        ("mine --url http://x/y", "name: nothing is known about `mine`", known),
        ("--url ftp://x/y", "url: `ftp://x/y` is not http:// or https://", "give the address of the file itself"),
        ("--url http://x --proxy ftp://y", "proxy: this is not the URL of a proxy", "give it as http://host:port"),
        (
            &format!("--url http://x/y --sha256 {digest} --length 3"),
            "sha256: the digest of `vgg19` is known and fixed",
            own,
        ),
        (
            "mine --url http://x/y --sha256 12 --length 3",
            "sha256: `12` is not a SHA-256",
            "give its 64 hexadecimal digits",
        ),
        (
            &format!("../x --url http://x/y --sha256 {digest} --length 3"),
            "name: `../x` cannot be a name in the cache",
            "use letters, digits, - and _, for example my-vgg19",
        ),
    ] {
        let ended = folder.online(&format!("weights fetch {arguments}"));
        assert_eq!(ended.code, Some(2), "{arguments}: {}", ended.stderr);
        assert_eq!(ended.last_lines(), [format!("error: {error}"), format!("hint: {hint}")], "{arguments}");
    }
    assert!(folder.cached().is_empty());
}
