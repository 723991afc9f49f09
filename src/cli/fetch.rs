//! The download of weights. A blocking thread speaks HTTP and hands over what arrives; here it is written, counted and
//! shown. Another one reads, hashes and converts files. Ctrl-C is heard meanwhile.

use std::io::{IsTerminal, Read};
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use impasto::error::{Error, Result};
use impasto::weights::store::part::Part;
use impasto::weights::store::{About, Remote, Store};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc::{Sender, channel};
use ureq::http::Response;
use ureq::{Agent, Body, Proxy, Timeout};

use super::interrupt::exit_until_a_run_listens;
use super::note;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Between two looks at whether another process has finished its download.
const LOOK: Duration = Duration::from_millis(200);

/// What to get, and how.
#[derive(Debug)]
pub(crate) struct Request {
    /// What it must be; its URL is the one to be shown.
    pub(crate) remote: Remote,
    /// Where it is really asked for, with user name and query.
    pub(crate) url: String,
    pub(crate) proxy: Option<Proxy>,
    /// Longest wait for the next bytes.
    pub(crate) patience: Duration,
    /// Download it even if it is there.
    pub(crate) force: bool,
    pub(crate) quiet: bool,
}

/// What the other thread has to say.
enum Event {
    Answer { status: u16, length: Option<u64>, range: String, kind: String },
    Bytes(Vec<u8>),
    End,
    Failed(String),
}

/// Downloads, verifies and converts; `None` if Ctrl-C stopped it.
pub(crate) fn fetch(store: &Store, request: &Request) -> Result<Option<About>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| failed(request, error.to_string(), OTHERWISE))?;
    let fetched = runtime.block_on(run(store, request));
    // The thread may be waiting for a server that says nothing.
    runtime.shutdown_background();
    if matches!(fetched, Ok(Some(_)) | Err(_)) {
        exit_until_a_run_listens();
    }
    fetched
}

const OTHERWISE: &str =
    "check the connection, --proxy and --url, or get the file by other means and give it to `impasto weights import`";

fn failed(request: &Request, what: String, hint: &str) -> Error {
    Error::Download { url: request.remote.url.clone(), what, hint: hint.into() }
}

async fn run(store: &Store, request: &Request) -> Result<Option<About>> {
    let mut keyboard = pin!(ctrl_c());
    let name = &request.remote.name;
    let path = store.path(name)?;
    let written = || std::fs::metadata(&path).and_then(|file| file.modified()).ok();
    let before = written();
    let mut waited = false;
    let lock = loop {
        if let Some(lock) = store.lock(name)? {
            break lock;
        }
        if !waited && !request.quiet {
            note!("{name}: another process is fetching it; waiting for that one");
        }
        waited = true;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = &mut keyboard => return Ok(None),
        }
    };
    let copies = || (store.clone(), request.remote.clone());
    // The other process may have failed, or fetched another file of this name: only the right one, whole, will do.
    if !request.force || waited && written() != before {
        let (store, remote) = copies();
        let whole = move || match store.find(&remote)? {
            Some(_) => store.verify(&remote.name).map(Some),
            None => Ok(None),
        };
        match aside(keyboard.as_mut(), request, whole).await {
            Ok(Some(Some(about))) => return Ok(Some(about)),
            Ok(None) => return Ok(None),
            // What is broken is replaced.
            Ok(Some(None)) | Err(_) => {}
        }
    }
    let (store, remote) = copies();
    let open = move || Part::open(&store, &remote, lock);
    let Some(mut part) = aside(keyboard.as_mut(), request, open).await? else { return Ok(None) };
    let progress = Progress::new(request, part.length());
    // A second time only if the server cannot go on where the part-file ends.
    for _ in 0..2 {
        if part.complete() {
            break;
        }
        let arrived = tokio::select! {
            arrived = receive(request, &mut part, &progress) => Some(arrived),
            () = &mut keyboard => None,
        };
        match arrived {
            Some(Ok(true)) => break,
            Some(Ok(false)) => part.restart()?,
            Some(Err(error)) => {
                progress.finish();
                return Err(error);
            }
            None => {
                progress.finish();
                note!("interrupted: {} are here, the next run goes on from there", megabytes(part.length()));
                return Ok(None);
            }
        }
    }
    progress.finish();
    let about = aside(keyboard.as_mut(), request, || part.finish()).await?;
    if about.is_none() {
        note!("interrupted: all of it is here, the next run finishes it");
    }
    Ok(about)
}

/// Does what takes a while on another thread. `None` if Ctrl-C is pressed before it is done: then the process is to end,
/// and the work ends with it. Its lock is held until then, and what it leaves is swept by the next one to hold it.
async fn aside<T: Send + 'static>(
    keyboard: Pin<&mut impl Future<Output = ()>>,
    request: &Request,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<Option<T>> {
    tokio::select! {
        biased;
        done = tokio::task::spawn_blocking(work) => match done {
            Ok(done) => done.map(Some),
            Err(error) => Err(failed(request, error.to_string(), OTHERWISE)),
        },
        () = keyboard => Ok(None),
    }
}

/// Ends when Ctrl-C is pressed; never where that cannot be heard.
async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Asks for what is missing and takes it in. `false` if the server does not go on where the part-file ends.
async fn receive(request: &Request, part: &mut Part, progress: &Progress) -> Result<bool> {
    let (sender, mut events) = channel(16);
    let (url, from, agent) = (request.url.clone(), part.length(), agent(request));
    tokio::task::spawn_blocking(move || {
        let last = match get(&agent, &url, from, &sender) {
            Ok(()) => Event::End,
            Err(error) => Event::Failed(explain(&error)),
        };
        // Nobody listens once the download was given up.
        let _ = sender.blocking_send(last);
    });
    let whole = request.remote.length;
    let broken = |part: &Part, what: String| {
        let hint = match part.length() {
            0 => OTHERWISE,
            _ => "run it again: it goes on from here",
        };
        let what = if part.length() > 0 { format!("{what}, after {} of {whole} bytes", part.length()) } else { what };
        failed(request, what, hint)
    };
    loop {
        match events.recv().await {
            Some(Event::Answer { status: 200, length, kind, .. }) => {
                // A login page in the way is no reason to lose what is here.
                if let Some(length) = length.filter(|length| *length != whole) {
                    return Err(part.wrong(format!("sent {length} bytes ({kind}), the file has {whole}")));
                }
                // Also where a range was asked for, which the server ignores.
                part.restart()?;
            }
            Some(Event::Answer { status: 206, range, .. }) if goes_on(&range, part.length(), whole) => {}
            Some(Event::Answer { status: 206 | 416, .. }) if part.length() > 0 => return Ok(false),
            Some(Event::Answer { status, .. }) => {
                let what = ureq::http::StatusCode::from_u16(status).map(|status| status.to_string());
                return Err(failed(request, format!("the server says {}", what.unwrap_or_default()), OTHERWISE));
            }
            Some(Event::Bytes(bytes)) => {
                part.append(&bytes)?;
                progress.show(part.length());
            }
            Some(Event::End) if part.complete() => return Ok(true),
            Some(Event::End) | None => return Err(broken(part, "the server ended it".into())),
            Some(Event::Failed(what)) => return Err(broken(part, what)),
        }
    }
}

/// Whether a `Content-Range` is the rest of the file from `at`.
fn goes_on(range: &str, at: u64, whole: u64) -> bool {
    let parsed = range.strip_prefix("bytes ").and_then(|range| range.split_once('/'));
    parsed.is_some_and(|(range, total)| {
        range.split_once('-').and_then(|(start, _)| start.parse().ok()) == Some(at)
            && (total == "*" || total.parse() == Ok(whole))
    })
}

fn agent(request: &Request) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("impasto/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(request.patience))
        .timeout_per_read(Some(request.patience));
    if let Some(proxy) = &request.proxy {
        config = config.proxy(Some(proxy.clone()));
    }
    config.build().into()
}

/// Runs on a thread of its own, until nobody listens.
fn get(agent: &Agent, url: &str, from: u64, events: &Sender<Event>) -> Result<(), ureq::Error> {
    let mut get = agent.get(url);
    if from > 0 {
        get = get.header("Range", format!("bytes={from}-"));
    }
    let answer = get.call()?;
    let header = |name| header(&answer, name);
    let event = Event::Answer {
        status: answer.status().as_u16(),
        length: header("content-length").parse().ok(),
        range: header("content-range"),
        kind: header("content-type"),
    };
    let mut body = answer.into_body().into_reader();
    let mut next = Some(event);
    while let Some(event) = next {
        if events.blocking_send(event).is_err() {
            break;
        }
        let mut bytes = vec![0; 1 << 16];
        let count = body.read(&mut bytes)?;
        bytes.truncate(count);
        next = Some(bytes).filter(|bytes| !bytes.is_empty()).map(Event::Bytes);
    }
    Ok(())
}

fn header(answer: &Response<Body>, name: &str) -> String {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().into()
}

/// An error of the network in a few words.
fn explain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => "no connection within 5 s".into(),
        ureq::Error::Timeout(_) => "nothing arrives any more".into(),
        ureq::Error::HostNotFound => "there is no such server, or no network".into(),
        ureq::Error::BadUri(_) => "this is no URL".into(),
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
            Some(inner) => explain(inner),
            None if error.kind() == std::io::ErrorKind::TimedOut => "nothing arrives any more".into(),
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => "the connection broke".into(),
            None => error.to_string(),
        },
        error => error.to_string(),
    }
}

/// Bytes for people.
pub(crate) fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{} MB", bytes.div_ceil(1_000_000)),
    }
}

/// A bar on a terminal, a line now and then elsewhere.
enum Progress {
    Silent,
    Bar(ProgressBar),
    Lines { whole: u64, last: std::cell::Cell<(u64, Instant)> },
}

impl Progress {
    fn new(request: &Request, from: u64) -> Progress {
        if request.quiet {
            return Progress::Silent;
        }
        let Remote { name, url, length, .. } = &request.remote;
        let whole = megabytes(*length);
        note!("{name}: fetching {whole} from {url}; Ctrl-C stops, the next run goes on from there");
        if from > 0 {
            note!("{name}: {} of them are here already", megabytes(from));
        }
        if !std::io::stderr().is_terminal() {
            return Progress::Lines { whole: *length, last: (from, Instant::now()).into() };
        }
        let bar = ProgressBar::new(*length).with_position(from);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:32} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left")
        {
            bar.set_style(style);
        }
        Progress::Bar(bar)
    }

    fn show(&self, at: u64) {
        match self {
            Progress::Silent => {}
            Progress::Bar(bar) => bar.set_position(at),
            Progress::Lines { whole, last } => {
                let (shown, when) = last.get();
                // Every tenth, and every ten seconds at most.
                if at - shown.min(at) >= whole / 10 && when.elapsed() >= Duration::from_secs(10) {
                    note!("{} of {}", megabytes(at), megabytes(*whole));
                    last.set((at, Instant::now()));
                }
            }
        }
    }

    fn finish(&self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
