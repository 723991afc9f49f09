//! `impasto weights`, and which weights a run gets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use impasto::error::{Error, Result};
use impasto::weights::builtin::builtin;
use impasto::weights::show::{Entry, inventory};
use impasto::weights::store::{About, KNOWN, Known, Remote, Store};
use impasto::weights::{VGG19, Weights as Network, load};
use ureq::Proxy;

use super::fetch::{Request, fetch, megabytes};
use super::{Outcome, note, one_line, out};

/// Longest wait for the next bytes of a download that nobody asked for by name.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub(crate) enum Weights {
    /// Download weights into the cache, verified; an interrupted download goes on where it ended
    Fetch(Fetch),
    /// List the weights in the cache
    List,
    /// Read weights in the cache and compare them with their digests
    Verify {
        /// Name in the cache; all without it
        name: Option<String>,
    },
    /// Print the path of weights in the cache, or of the cache
    Path {
        /// Name in the cache
        name: Option<String>,
    },
    /// Put a weight file of your own into the cache
    Import {
        /// imagenet-vgg-verydeep-19.mat, or VGG-19 as safetensors
        file: PathBuf,
        /// Name in the cache; without it `vgg19`, which is for the known file only, else the file's own
        #[arg(long)]
        name: Option<String>,
        /// Replace weights of the same name
        #[arg(long)]
        force: bool,
    },
    /// Show every layer of a weight file: name, type, shapes, first values, what is missing
    Show {
        /// The file, or a name in the cache
        file: PathBuf,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct Fetch {
    /// Name in the cache
    #[arg(default_value = "vgg19")]
    name: String,
    /// Get the file from this mirror instead; it must have the same bytes
    #[arg(long)]
    url: Option<String>,
    /// SHA-256 of a file of your own choice, under a name of your own
    #[arg(long, value_name = "HEX", requires_all = ["url", "length"])]
    sha256: Option<String>,
    /// Its length in bytes
    #[arg(long, value_name = "BYTES", requires = "sha256")]
    length: Option<u64>,
    /// Proxy, instead of that in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Give up when nothing has arrived for this long
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE.as_secs(), value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Download it again even if it is there
    #[arg(long)]
    force: bool,
    /// Do not use the network (so does IMPASTO_OFFLINE=1)
    #[arg(long)]
    offline: bool,
    /// Print errors only
    #[arg(long, short)]
    quiet: bool,
}

/// Runs `impasto weights`.
pub(crate) fn run(command: &Weights) -> Result<Outcome> {
    let store = Store::user()?;
    match command {
        Weights::Fetch(arguments) => return fetch_command(&store, arguments),
        Weights::List => list(&store)?,
        Weights::Verify { name } => verify(&store, name.as_deref())?,
        Weights::Path { name: None } => out!("{}", store.folder().display()),
        Weights::Path { name: Some(name) } => out!("{}", store.about(name)?.path.display()),
        Weights::Import { file, name, force } => {
            let about = store.import(file, name.as_deref(), *force)?;
            describe(&about);
            if Known::find(&about.name).is_none() {
                out!("   --weights {} uses it", about.name);
            }
        }
        Weights::Show { file } => show(&store, file)?,
    }
    Ok(Outcome::Done)
}

/// The environment's word against the network.
fn offline(flag: bool) -> bool {
    flag || std::env::var_os("IMPASTO_OFFLINE").is_some_and(|value| !value.is_empty() && value != "0")
}

fn fetch_command(store: &Store, arguments: &Fetch) -> Result<Outcome> {
    let request = request(arguments)?;
    let name = &request.remote.name;
    store.path(name)?;
    if !arguments.force && store.find(&request.remote)?.is_some() {
        let about = store.verify(name)?;
        store.sweep_part(&request.remote);
        if !arguments.quiet {
            note!("{name} is here already; --force gets it again");
            describe(&about);
        }
        return Ok(Outcome::Done);
    }
    if offline(arguments.offline) {
        return Err(Error::Download {
            url: request.remote.url,
            what: "not tried, because --offline or IMPASTO_OFFLINE is set".into(),
            hint: "get the file by other means and give it to `impasto weights import`".into(),
        });
    }
    if !arguments.force && !arguments.quiet && store.contains(name) {
        note!("{name}: what is here was made from another file, and will be replaced");
    }
    match fetch(store, &request)? {
        Some(about) if !arguments.quiet => describe(&about),
        Some(_) => {}
        None => return Ok(Outcome::Interrupted),
    }
    Ok(Outcome::Done)
}

/// What the arguments of `fetch` ask for.
fn request(arguments: &Fetch) -> Result<Request> {
    let wrong = |option, what: String, hint: &str| Error::Config { option, what, hint: hint.into() };
    let name = &arguments.name;
    let mut remote = match (Known::find(name), &arguments.sha256, arguments.length) {
        (Some(known), None, _) => known.remote(),
        (None, Some(sha256), Some(length)) => {
            if sha256.len() != 64 || !sha256.chars().all(|c| c.is_ascii_hexdigit()) {
                return Err(wrong("sha256", format!("`{sha256}` is not a SHA-256"), "give its 64 hexadecimal digits"));
            }
            let sha256 = sha256.to_ascii_lowercase();
            Remote { name: name.clone(), url: String::new(), length, sha256 }
        }
        (Some(_), Some(_), _) => {
            let what = format!("the digest of `{name}` is known and fixed");
            return Err(wrong("sha256", what, "give the file a name of your own: impasto weights fetch NAME …"));
        }
        _ => {
            let what = format!("nothing is known about `{name}`");
            return Err(wrong("name", what, "known is vgg19; for another file give --url, --sha256 and --length"));
        }
    };
    let url = arguments.url.clone().unwrap_or_else(|| remote.url.clone());
    if !["http://", "https://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme)) {
        return Err(wrong(
            "url",
            format!("`{}` is not http:// or https://", public(&url)),
            "give the address of the file itself",
        ));
    }
    remote.url = public(&url);
    let proxy = |proxy: &String| {
        let hint = "give it as http://host:port";
        Proxy::new(proxy).map_err(|_| wrong("proxy", "this is not the URL of a proxy".into(), hint))
    };
    Ok(Request {
        remote,
        url,
        proxy: arguments.proxy.as_ref().map(proxy).transpose()?,
        patience: Duration::from_secs(arguments.timeout),
        force: arguments.force,
        quiet: arguments.quiet,
    })
}

/// A URL without user name, password, query and fragment: those may be secret, and what is left is printed and kept.
fn public(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}/{path}")
}

fn list(store: &Store) -> Result<()> {
    let (names, parts) = store.names()?;
    for name in &names {
        match store.about(name) {
            Ok(about) => describe(&about),
            Err(error) => out!("{name}: broken: {}", one_line(&error.to_string())),
        }
    }
    for name in &parts {
        let part = store.folder().join(format!("{name}.part"));
        let size = std::fs::metadata(part).map_or(0, |part| part.len());
        out!("{name}: {} of its download are here; `impasto weights fetch {name}` goes on", megabytes(size));
    }
    for known in KNOWN.iter().filter(|known| !names.iter().any(|name| name == known.name)) {
        let size = megabytes(known.remote().length);
        out!("{}: not here; `impasto weights fetch {}` gets it ({size}): {}", known.name, known.name, known.summary);
    }
    Ok(())
}

fn describe(about: &About) {
    let depth = VGG19[about.layers.clamp(1, VGG19.len()) - 1].0;
    out!("{}: {}, {}", about.name, one_line(&about.source), one_line(&about.license));
    out!("   {} of 16 convolutions, conv1_1 to {depth}, {}", about.layers, megabytes(about.size));
    if about.misnamed() {
        out!("   not the known file of this name, and not used: `impasto weights fetch {}` replaces it", about.name);
    }
    if let Some(why) = &about.incomplete {
        out!("   incomplete: in the file it was made from {}", one_line(why));
    }
    out!("   made from {}, SHA-256 {}", one_line(&about.origin), one_line(&about.origin_sha256));
    out!("   {}", one_line(&about.path.display().to_string()));
}

/// Checks one or all; the first fault is the error, after all were looked at.
fn verify(store: &Store, name: Option<&str>) -> Result<()> {
    let names = match name {
        Some(name) => vec![name.to_string()],
        None => store.names()?.0,
    };
    if names.is_empty() {
        out!("nothing in {}", store.folder().display());
    }
    let mut first = None;
    for name in names {
        match store.verify(&name) {
            Ok(about) => out!("{name}: OK, {} of 16 convolutions", about.layers),
            Err(error) => {
                out!("{name}: {}", one_line(&error.to_string()));
                first.get_or_insert(error);
            }
        }
    }
    first.map_or(Ok(()), Err)
}

fn show(store: &Store, file: &Path) -> Result<()> {
    let cached = file.to_str().filter(|name| !file.exists() && store.contains(name));
    let file = cached.map_or_else(|| Ok(file.into()), |name| store.path(name))?;
    let found = inventory(&file)?;
    out!("{}", found.format);
    for (key, value) in &found.facts {
        out!("{key}: {}", one_line(value));
    }
    for (index, Entry { name, kind, shapes, first, state }) in found.entries.iter().enumerate() {
        let mut line = format!("{index:3} {name:10} {kind:8}");
        for (shape, first) in shapes.iter().zip(first.iter().map(Some).chain(std::iter::repeat(None))) {
            line += &format!(" {shape:?}");
            if let Some(first) = first.filter(|first| !first.is_empty()) {
                let values: Vec<String> = first.iter().map(|value| format!("{value:.8}")).collect();
                line += &format!(" = {} …", values.join(" "));
            }
        }
        if let Some(state) = state {
            line += &format!(" {state}");
        }
        out!("{}", one_line(line.trim_end()));
    }
    if !found.missing.is_empty() {
        out!("missing: {}", found.missing.join(" "));
    }
    if let Some(end) = &found.end {
        out!("reading ended there: the file {}", one_line(end));
    }
    Ok(())
}

/// What a run wants.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    /// The text of `--weights`.
    pub(crate) text: &'a str,
    /// Convolutions needed.
    pub(crate) depth: usize,
    /// Whether a download is welcome.
    pub(crate) may_fetch: bool,
    pub(crate) offline: bool,
    pub(crate) quiet: bool,
}

/// The weights of a run; `None` if Ctrl-C stopped the download.
pub(crate) fn resolve(wish: &Wish<'_>) -> Result<Option<Network>> {
    let known = KNOWN[0].remote();
    match wish.text {
        "builtin" => Ok(Some(builtin(wish.depth))),
        "auto" => match Store::user() {
            Ok(store) => auto(wish, &store, known),
            Err(error) => Ok(Some(substitute(wish.depth, &error.to_string()))),
        },
        name if name == known.name => {
            let store = Store::user()?;
            let may_fetch = wish.may_fetch && !offline(wish.offline) && store.find(&known)?.is_none();
            if may_fetch && fetch(&store, &from(known, wish.quiet))?.is_none() {
                return Ok(None);
            }
            store.load(name, wish.depth).map(Some)
        }
        text => {
            let file = Path::new(text);
            let store = Store::user().ok().filter(|store| !file.exists() && store.contains(text));
            store.map_or_else(|| load(file, wish.depth), |store| store.load(text, wish.depth)).map(Some)
        }
    }
}

fn from(remote: Remote, quiet: bool) -> Request {
    let url = remote.url.clone();
    Request { remote, url, proxy: None, patience: PATIENCE, force: false, quiet }
}

/// The cached network if it is the right one and as deep as needed, else a download, else the built-in network with the
/// reason. A cache file that is broken is an error: another picture than the last time would be worse.
fn auto(wish: &Wish<'_>, store: &Store, remote: Remote) -> Result<Option<Network>> {
    let name = remote.name.clone();
    let here = store.contains(&name).then(|| store.about(&name)).transpose()?;
    let (right, deep) =
        here.as_ref().map_or((false, false), |here| (here.origin_sha256 == remote.sha256, here.layers >= wish.depth));
    if right && deep {
        return store.load(&name, wish.depth).map(Some);
    }
    let shallow =
        |here: &About| format!("{name} here has {} of 16 convolutions, {} are needed", here.layers, wish.depth);
    let lack = match &here {
        None => format!("{name} is not here"),
        Some(_) if deep => format!("{name} here was made from another file"),
        Some(here) => shallow(here),
    };
    let why = if right {
        // Not by itself, every time: the same file should be no deeper.
        format!("{lack}; `impasto weights fetch {name} --force` gets it again")
    } else if !wish.may_fetch {
        let lack = here.map(|_| lack + "; ").unwrap_or_default();
        format!("{lack}`impasto weights fetch` gets {name} for clearer pictures")
    } else if offline(wish.offline) {
        format!("offline, and {lack}; `impasto weights fetch` gets it for clearer pictures")
    } else {
        if !wish.quiet {
            note!("weights: {lack}; fetching it once, --weights builtin does without");
        }
        match fetch(store, &from(remote, wish.quiet)) {
            Ok(Some(about)) if about.layers < wish.depth => shallow(&about),
            Ok(Some(_)) => return store.load(&name, wish.depth).map(Some),
            Ok(None) => return Ok(None),
            Err(error) => {
                format!("{error}; clearer pictures need {name}, `impasto weights fetch` tries again")
            }
        }
    };
    Ok(Some(substitute(wish.depth, &why)))
}

/// The built-in network, and why it is that one.
fn substitute(depth: usize, why: &str) -> Network {
    let mut weights = builtin(depth);
    weights.source += &format!("; {why}");
    weights
}

#[cfg(test)]
mod tests;
