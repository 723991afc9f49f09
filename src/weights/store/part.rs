//! A download as far as it came: `NAME.part`, whose bytes count for nothing before their digest is right.

use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::super::safetensors::{hash_rest, hex, temporary_prefix, unwritable};
use super::{About, Lock, Remote, Store};
use crate::error::{Error, Result};

/// A part-file, open for appending, and the digest of what it holds.
#[derive(Debug)]
pub struct Part {
    store: Store,
    remote: Remote,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    length: u64,
    /// Removes a part-file of one's own; that of the lock's holder stays to be resumed.
    _own: Option<tempfile::TempPath>,
    _lock: Lock,
}

impl Part {
    /// Opens the part-file of a network and hashes what an earlier run left in it.
    ///
    /// # Errors
    /// [`Error::Output`] if it cannot be read or written.
    pub fn open(store: &Store, remote: &Remote, lock: Lock) -> Result<Part> {
        let mut path = store.file(&remote.name, "part")?;
        let opened = if lock.held && lock.name == remote.name {
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map(|file| (file, None))
        } else {
            let prefix = temporary_prefix(&remote.name);
            let own = tempfile::Builder::new().prefix(&prefix).suffix(".part").tempfile_in(&store.folder);
            own.map(|own| {
                path = own.path().into();
                let (file, own) = own.into_parts();
                (file, Some(own))
            })
        };
        let failed = |path: &Path, error| unwritable(path, &error, remote.length);
        let (mut file, own) = opened.map_err(|error| failed(&path, error))?;
        let mut hasher = Sha256::new();
        let length = hash_rest(&mut hasher, &mut file).map_err(|error| failed(&path, error))?;
        let (store, remote) = (store.clone(), remote.clone());
        let mut part = Part { store, remote, path, file, hasher, length, _own: own, _lock: lock };
        if part.length > part.remote.length {
            part.restart()?;
        }
        Ok(part)
    }

    /// What it is a part of.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Bytes that are here.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether all bytes are here, whatever they are.
    pub fn complete(&self) -> bool {
        self.length == self.remote.length
    }

    /// Forgets what is here.
    ///
    /// # Errors
    /// [`Error::Output`] if the file cannot be written.
    pub fn restart(&mut self) -> Result<()> {
        (self.hasher, self.length) = (Sha256::new(), 0);
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)).map(drop));
        emptied.map_err(|error| unwritable(&self.path, &error, self.remote.length))
    }

    /// Appends what arrived. More bytes than the network's file has are refused, and with them all that came before.
    ///
    /// # Errors
    /// [`Error::Weights`] for too many bytes, [`Error::Output`] if the file cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > self.remote.length - self.length {
            self.discard();
            let what = format!("sent more than the {} bytes that the file has", self.remote.length);
            return Err(self.wrong(what));
        }
        let written = self.file.write_all(bytes);
        if written.is_err() {
            // Some of the bytes may have been written; what is counted and what is there stay the same.
            let _ = self.file.set_len(self.length);
        }
        written.map_err(|error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Error::Output {
                path: self.path.clone(),
                what: format!(
                    "the disk is full: {} MB are needed, {} MB of them are here",
                    self.remote.length.div_ceil(1_000_000),
                    self.length / 1_000_000
                ),
                hint: "free some space and run it again (it goes on from here), or set IMPASTO_CACHE".into(),
            },
            _ => unwritable(&self.path, &error, self.remote.length),
        })?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Compares length and digest with what they must be, makes the cache file, and removes the part-file.
    ///
    /// # Errors
    /// [`Error::Weights`] if these are not the right bytes (they are removed) or not usable weights, [`Error::Output`]
    /// if the cache cannot be written (they stay).
    pub fn finish(mut self) -> Result<About> {
        let found = hex(&std::mem::take(&mut self.hasher).finalize());
        if !self.complete() || found != self.remote.sha256 {
            self.discard();
            let what = format!("sent other bytes: their SHA-256 is {found}, not {}", self.remote.sha256);
            return Err(self.wrong(what));
        }
        // A crash of the machine must not leave a cache file made from bytes that were never on the disk.
        self.file.sync_all().map_err(|error| unwritable(&self.path, &error, self.remote.length))?;
        let about = self.store.convert(&self.path, &self.remote, None);
        if matches!(about, Ok(_) | Err(Error::Weights { .. })) {
            self.discard();
        }
        about
    }

    /// Empties the file and removes it.
    fn discard(&mut self) {
        (self.hasher, self.length) = (Sha256::new(), 0);
        let _ = self.file.set_len(0);
        let _ = fs::remove_file(&self.path);
    }

    /// The server has another file than the one that belongs to the name.
    pub fn wrong(&self, what: String) -> Error {
        Error::Weights {
            path: self.remote.url.clone().into(),
            what,
            hint: "nothing of it was kept; run it again, or give another mirror with --url".into(),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.length == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}
