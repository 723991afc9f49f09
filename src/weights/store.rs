//! A folder of weights that are ready to use: one cache file per network, `NAME.safetensors`, convolutions only.
//!
//! A file in it is whole and verified or not there: what arrives is hashed against the digest that [`KNOWN`] or the user
//! names before anything is made of it, the cache file is written aside, read back and moved into place, and every
//! convolution is hashed again each time it is loaded. `NAME.part` beside it is an unfinished download ([`part`]),
//! `NAME.lock` keeps two processes from fetching the same network at once.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::safetensors::{Source, hash_rest, hex, save, temporary_prefix, unwritable};
use super::{Fault, Format, HINT_FETCH, HINT_OTHER, VGG19, Weights, load, open, read};
use crate::error::{Error, Result};

pub mod part;

/// What `--weights` takes for something else than a name in the cache.
const RESERVED: [&str; 2] = ["auto", "builtin"];
/// A temporary file that nothing was written to for this long was left by a process that died.
const LEFT: Duration = Duration::from_secs(24 * 60 * 60);

/// A file on the net, known to the last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Name in the cache.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
}

/// A network that the program knows by itself.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Name in the cache.
    pub name: &'static str,
    /// What it is, and whose.
    pub summary: &'static str,
    url: &'static str,
    length: u64,
    sha256: &'static str,
}

/// What `fetch` gets without being told where.
pub const KNOWN: [Known; 1] = [Known {
    name: "vgg19",
    summary: "VGG-19, Visual Geometry Group, Oxford, CC BY 4.0",
    url: "https://www.vlfeat.org/matconvnet/models/imagenet-vgg-verydeep-19.mat",
    length: 534_904_783,
    sha256: "abdb57167f82a2a1fbab1e1c16ad9373411883f262a1a37ee5db2e6fb0044695",
}];

impl Known {
    /// The network of this name, in whatever case: some file systems do not tell them apart.
    pub fn find(name: &str) -> Option<Known> {
        KNOWN.into_iter().find(|known| known.name.eq_ignore_ascii_case(name))
    }

    /// Its file.
    pub fn remote(&self) -> Remote {
        Remote { name: self.name.into(), url: self.url.into(), length: self.length, sha256: self.sha256.into() }
    }
}

/// What a cache file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Name in the cache.
    pub name: String,
    /// The cache file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// How many of VGG-19's 16 convolutions it holds, from conv1_1 down.
    pub layers: usize,
    /// What it is, in one line.
    pub source: String,
    /// Its licence.
    pub license: String,
    /// URL or path of the file it was made from.
    pub origin: String,
    /// SHA-256 of that file.
    pub origin_sha256: String,
    /// Why it does not hold all 16 convolutions.
    pub incomplete: Option<String>,
}

impl About {
    /// Whether it has the name of a known network, but was made from another file.
    pub fn misnamed(&self) -> bool {
        Known::find(&self.name).is_some_and(|known| self.origin_sha256 != known.sha256)
    }
}

/// A folder of cache files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store in the folder `IMPASTO_CACHE` names, or else in the platform's folder for caches.
    ///
    /// # Errors
    /// [`Error::Config`] where neither is known.
    pub fn user() -> Result<Store> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let platform = || {
            if cfg!(windows) {
                return set("LOCALAPPDATA");
            }
            let home = env::home_dir().filter(|home| home.is_absolute());
            if cfg!(target_os = "macos") {
                return home.map(|home| home.join("Library/Caches"));
            }
            // The XDG specification has a relative path ignored.
            set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or(home.map(|home| home.join(".cache")))
        };
        match set("IMPASTO_CACHE").or_else(|| Some(platform()?.join("impasto"))) {
            Some(folder) => Ok(Store { folder }),
            None => Err(Error::Config {
                option: "IMPASTO_CACHE",
                what: "there is no home folder to keep weights in".into(),
                hint: "set IMPASTO_CACHE to a folder".into(),
            }),
        }
    }

    /// The store in this folder, which need not exist.
    pub fn at(folder: impl Into<PathBuf>) -> Store {
        Store { folder: folder.into() }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The cache file of a network, whether it is there or not.
    ///
    /// # Errors
    /// [`Error::Config`] if the name is not letters, digits, `-`, `_` and `.`, starts with a dot, or is `auto` or
    /// `builtin`.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        self.file(name, "safetensors")
    }

    fn file(&self, name: &str, extension: &str) -> Result<PathBuf> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !(1..=100).contains(&name.len()) || name.starts_with('.') || !name.chars().all(good) {
            return Err(Error::Config {
                option: "name",
                what: format!("`{name}` cannot be a name in the cache"),
                hint: "use letters, digits, - and _, for example my-vgg19".into(),
            });
        }
        if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
            return Err(Error::Config {
                option: "name",
                what: format!("`{name}` cannot be a name in the cache: --weights {name} means something else"),
                hint: "take another one, for example my-vgg19".into(),
            });
        }
        Ok(self.folder.join(format!("{name}.{extension}")))
    }

    /// Whether there is a cache file of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.path(name).is_ok_and(|path| path.is_file())
    }

    /// What the cache has under this name if it was made from that very file.
    ///
    /// # Errors
    /// [`Error::Weights`] if what is there is not a cache file.
    pub fn find(&self, remote: &Remote) -> Result<Option<About>> {
        let about = self.contains(&remote.name).then(|| self.about(&remote.name)).transpose()?;
        Ok(about.filter(|about| about.origin_sha256 == remote.sha256))
    }

    /// The first `depth` convolutions of a cached network, each compared with its digest.
    ///
    /// # Errors
    /// [`Error::Weights`] if it is not there, not as deep, damaged, or another network than the one known by this name.
    pub fn load(&self, name: &str, depth: usize) -> Result<Weights> {
        let path = self.path(name)?;
        if Known::find(name).is_some() && path.is_file() {
            let about = self.about(name)?;
            if about.misnamed() {
                let what = format!("is not {name}: it has {} of 16 convolutions of another file", about.layers);
                let hint = format!("`impasto weights fetch {name}` replaces it; other files need names of their own");
                return Err(Error::Weights { path, what, hint });
            }
        }
        load(&path, depth).map_err(|error| remedy(name, error))
    }

    /// What a cache file says about itself; its convolutions are not read.
    ///
    /// # Errors
    /// [`Error::Weights`] if it is not there or not a cache file.
    pub fn about(&self, name: &str) -> Result<About> {
        let path = self.path(name)?;
        about(name, &path).map_err(|fault| remedy(name, fault.at(&path)))
    }

    /// Reads all of a cache file and compares it with its digests.
    ///
    /// # Errors
    /// [`Error::Weights`] with what is wrong.
    pub fn verify(&self, name: &str) -> Result<About> {
        let about = self.about(name)?;
        self.load(name, about.layers.max(1))?;
        Ok(about)
    }

    /// Names of the networks in the store, and of those partly downloaded.
    ///
    /// # Errors
    /// [`Error::Weights`] if the folder cannot be read; one that is not there is empty.
    pub fn names(&self) -> Result<(Vec<String>, Vec<String>)> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Default::default()),
            entries => entries.map_err(|error| Fault::from(error).at(&self.folder))?,
        };
        let names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let with = |extension: &str| {
            let names = names.iter().filter_map(|name| name.strip_suffix(extension));
            let mut names: Vec<String> = names.filter(|name| self.path(name).is_ok()).map(str::to_string).collect();
            names.sort();
            names
        };
        Ok((with(".safetensors"), with(".part")))
    }

    /// Makes a cache file of any weight file that [`load`] reads, as deep as it is whole. Without a name it gets that of
    /// the known network with the file's digest, else the file's own.
    ///
    /// # Errors
    /// [`Error::Weights`] if the file is not usable at all or changes meanwhile, [`Error::Config`] if the name is that of
    /// a known network and this is another one, [`Error::Output`] if the cache cannot be written or has the name already
    /// and `replace` is not set.
    pub fn import(&self, file: &Path, name: Option<&str>, replace: bool) -> Result<About> {
        let unreadable = |error| Fault::from(error).at(file);
        let stamp = stamp(file).map_err(unreadable)?;
        let (length, sha256) = digest(file).map_err(unreadable)?;
        let known = || Some(KNOWN.iter().find(|known| known.sha256 == sha256)?.name.to_string());
        let own = || {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            stem.replace(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c), "_")
        };
        let name = name.map(str::to_string).or_else(known).unwrap_or_else(own);
        let name = match Known::find(&name) {
            None => name,
            Some(known) if known.sha256 == sha256 => known.name.into(),
            Some(known) => {
                return Err(Error::Config {
                    option: "name",
                    what: format!("`{name}` is for the file with the SHA-256 {}, this one has {sha256}", known.sha256),
                    hint: "give it a name of its own: --name my-vgg19, then --weights my-vgg19".into(),
                });
            }
        };
        let path = self.path(&name)?;
        let free = || match path.exists() && !replace {
            true => Err(Error::Output {
                path: path.clone(),
                what: "already exists".into(),
                hint: "pass --force to replace it, or --name for another one".into(),
            }),
            false => Ok(()),
        };
        free()?;
        let Some(_lock) = self.lock(&name)? else {
            return Err(Error::Output {
                path,
                what: "another process is fetching it".into(),
                hint: "wait for that one, or pass --name for another name".into(),
            });
        };
        // Another process may have made it in the meantime.
        free()?;
        let origin = fs::canonicalize(file).unwrap_or_else(|_| file.into()).display().to_string();
        self.convert(file, &Remote { name, url: origin, length, sha256 }, Some(stamp))
    }

    /// Makes the cache file of the verified file `from`, and reads it back. What is read must still be what was verified:
    /// a file that others may write to gives its `before`.
    fn convert(&self, from: &Path, origin: &Remote, before: Option<Stamp>) -> Result<About> {
        let prefix = read(from, VGG19.len());
        if before.is_some_and(|before| stamp(from).ok() != Some(before)) {
            return Err(Fault::new("was changed while it was read", "run it again once the file is whole").at(from));
        }
        let prefix = prefix.map_err(|fault| fault.at(from))?;
        let (weights, mut about) = (prefix.weights, BTreeMap::new());
        if let Some(end) = prefix.end {
            if weights.convs.len() == VGG19.len() {
                return Err(end.at(from));
            }
            about.insert("incomplete".to_string(), end.what);
        }
        about.insert("origin".into(), origin.url.clone());
        about.insert("origin_length".into(), origin.length.to_string());
        about.insert("origin_sha256".into(), origin.sha256.clone());
        let path = self.path(&origin.name)?;
        save(&weights, about, &path)?;
        self.about(&origin.name)
    }

    fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(|error| unwritable(&self.folder, &error, 0))
    }

    /// Tries to become the only process that fetches this network; `None` while another one is. Where the file system
    /// has no locks everyone is let in, and part-files are unique instead.
    ///
    /// # Errors
    /// [`Error::Output`] if the folder cannot be written to.
    pub fn lock(&self, name: &str) -> Result<Option<Lock>> {
        let path = self.file(name, "lock")?;
        self.create()?;
        // Never deleted: a second process may hold the deleted file's lock while a third creates a new one.
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(|error| unwritable(&path, &error, 0))?;
        let held = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(_)) => false,
        };
        self.sweep(name, held);
        Ok(Some(Lock { name: name.into(), _file: file, held }))
    }

    /// Removes what processes that died left: conversions, of which the lock's holder has the only right one, and
    /// part-files of those who found no locks.
    fn sweep(&self, name: &str, held: bool) {
        let (cache, part) = (temporary_prefix(&format!("{name}.safetensors")), temporary_prefix(name));
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let found = entry.file_name();
            let found = found.to_string_lossy();
            // What is between is random; a longer name that starts with this one has a `-` or a `.` there.
            let is = |prefix: &str, suffix| {
                let random = found.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
                random.is_some_and(|random| random.chars().all(|c| c.is_ascii_alphanumeric()))
            };
            let age = || entry.metadata().and_then(|file| file.modified()).ok()?.elapsed().ok();
            let left = || age().is_some_and(|age| age > LEFT);
            let conversion = is(&cache, ".tmp");
            if conversion && held || (conversion || is(&part, ".part")) && left() {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes a whole download whose cache file is here: a process that ended between the two left it.
    pub fn sweep_part(&self, remote: &Remote) {
        let Ok(part) = self.file(&remote.name, "part") else { return };
        let whole = || fs::metadata(&part).is_ok_and(|part| part.len() == remote.length);
        if whole()
            && let Ok(Some(lock)) = self.lock(&remote.name)
            && lock.held
            && whole()
        {
            let _ = fs::remove_file(&part);
        }
    }
}

/// The right to fetch a network; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    name: String,
    /// Closing it unlocks it.
    _file: File,
    /// The file system has locks, so nobody else is here.
    held: bool,
}

/// A broken cache file is replaced, not mended.
fn remedy(name: &str, error: Error) -> Error {
    match error {
        Error::Weights { path, what, .. } => {
            let again = match Known::find(name) {
                Some(_) => format!("`impasto weights fetch {name} --force`"),
                None => format!("`impasto weights import FILE --name {name} --force`"),
            };
            let hint = match what.as_str() {
                "no such file" => format!("{} gets it", again.replace(" --force", "")),
                _ => format!("{again} replaces it, `impasto weights verify {name}` checks it"),
            };
            Error::Weights { path, what, hint }
        }
        other => other,
    }
}

fn about(name: &str, path: &Path) -> Result<About, Fault> {
    let (file, Format::Safetensors, size) = open(path)? else {
        return Err(Fault::new("is not a cache file", HINT_OTHER));
    };
    let source = Source::open(&file, size)?;
    let Some(about) = source.about() else {
        return Err(Fault::new("is not a cache file", HINT_OTHER));
    };
    let layers = VGG19.iter().take_while(|(name, ..)| source.header.info(&format!("{name}.weight")).is_some()).count();
    let get = |key: &str| about.get(key).cloned().unwrap_or_else(|| "unknown".into());
    if layers == 0 {
        return Err(Fault::new("holds no convolution", HINT_FETCH));
    }
    Ok(About {
        name: name.into(),
        path: path.into(),
        size,
        layers,
        source: get("source"),
        license: get("license"),
        origin: get("origin"),
        origin_sha256: get("origin_sha256"),
        incomplete: about.get("incomplete").cloned(),
    })
}

/// Length and time of the last change of a file.
type Stamp = (u64, Option<SystemTime>);

fn stamp(path: &Path) -> io::Result<Stamp> {
    fs::metadata(path).map(|file| (file.len(), file.modified().ok()))
}

/// Length and SHA-256 of a file.
fn digest(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let length = hash_rest(&mut hasher, &mut file)?;
    Ok((length, hex(&hasher.finalize())))
}
