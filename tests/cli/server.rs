//! A server of one file on the loopback interface, as well or as badly behaved as a test wants it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The first line.
    pub(crate) line: String,
    /// Where the range asked for starts.
    pub(crate) from: Option<usize>,
}

/// Answers every connection on a thread of its own, for as long as the test process lives.
pub(crate) struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { port: listener.local_addr().unwrap().port(), asked: Arc::default() };
        let (log, answer) = (server.asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || {
                    if let Some(asked) = read(&stream) {
                        log.lock().unwrap().push(asked.clone());
                        answer(&asked, &mut stream);
                    }
                });
            }
        });
        server
    }

    /// Serves `body`, ranges too, as a good server does.
    pub(crate) fn good(body: Vec<u8>) -> Server {
        Server::new(move |asked, stream| send(stream, asked, &body, usize::MAX))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// The head of a request; `None` from a client that went away.
pub(crate) fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut asked = Asked { line: lines.next()?, from: None };
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            asked.from = range.trim_end_matches('-').parse().ok();
        }
    }
    Some(asked)
}

/// Sends `body`, or the range asked for, but not more than `most` bytes of it. A client that goes away is no matter.
pub(crate) fn send(stream: &mut TcpStream, asked: &Asked, body: &[u8], most: usize) {
    let head = match asked.from {
        None => format!("200 OK\r\nContent-Length: {}", body.len()),
        Some(from) if from >= body.len() => "416 Range Not Satisfiable\r\nContent-Length: 0".into(),
        Some(from) => format!(
            "206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}",
            body.len() - from,
            body.len() - 1,
            body.len()
        ),
    };
    let rest = &body[asked.from.unwrap_or(0).min(body.len())..];
    say(stream, &head, &rest[..most.min(rest.len())]);
}

/// Sends a status with header lines, and a body.
pub(crate) fn say(stream: &mut TcpStream, head: &str, body: &[u8]) {
    let _ = stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes());
    let _ = stream.write_all(body);
}
