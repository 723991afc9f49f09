//! Which pictures a user means by files, folders and patterns.

use std::collections::HashSet;
use std::fs::canonicalize;
use std::path::{Path, PathBuf};

use impasto::error::{Error, Result};

/// How the names of pictures end.
const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "tif", "tiff"];

/// A picture that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// Its place below what was named, without its extension.
    pub(crate) name: PathBuf,
}

/// Whether a name ends as a picture's does.
pub(crate) fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// Whether something may stand for several pictures, or none: a folder, or a pattern that no file is called by.
pub(crate) fn is_several(named: &Path) -> bool {
    named.is_dir() || is_pattern(named)
}

fn is_pattern(named: &Path) -> bool {
    !named.exists() && named.to_string_lossy().contains(['*', '?', '['])
}

/// Every picture that is meant, in the order named, those of a folder or pattern in that of their names; each once. Of a
/// folder those below it, too, if `recursive`.
///
/// # Errors
/// [`Error::Picture`] where something named stands for no picture at all. Whether files hold pictures is not looked at.
pub(crate) fn expand(named: &[PathBuf], recursive: bool) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for named in named {
        let before = found.len();
        let fail =
            |what: &str, hint: &str| Error::Picture { path: named.clone(), what: what.into(), hint: hint.into() };
        if named.is_dir() {
            folder(named, Path::new(""), recursive, &mut found)
                .map_err(|error| fail(&format!("cannot be read: {error}"), "check the folder's permissions"))?;
        } else if is_pattern(named) {
            match pattern(&named.to_string_lossy()) {
                Ok(paths) => found.extend(paths.into_iter().map(plain)),
                Err(error) => return Err(fail(&format!("is no pattern: {error}"), "write it as 'photos/*.jpg'")),
            }
        } else if named.exists() {
            found.push(plain(named.clone()));
        } else {
            return Err(fail("no such file", "check the path"));
        }
        if found.len() == before {
            let hint = "give pictures that end in .png, .jpg, .webp or .tif, or a folder of them";
            return Err(fail("stands for no picture", hint));
        }
    }
    let mut seen = HashSet::new();
    found.retain(|found| seen.insert(canonicalize(&found.path).unwrap_or_else(|_| found.path.clone())));
    Ok(found)
}

fn plain(path: PathBuf) -> Found {
    let name = path.file_stem().unwrap_or_default().into();
    Found { path, name }
}

/// Links to folders are not followed: they may lead in a circle.
fn folder(folder_path: &Path, below: &Path, recursive: bool, found: &mut Vec<Found>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder_path)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), below.join(entry.file_name()));
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            if recursive {
                folder(&path, &name, recursive, found)?;
            }
        } else if is_picture(&path) && path.is_file() {
            found.push(Found { path, name: name.with_extension("") });
        }
    }
    Ok(())
}

/// What a pattern matches, in order: files only, hidden ones only if the pattern names the dot.
fn pattern(pattern: &str) -> Result<Vec<PathBuf>, glob::PatternError> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let paths = glob::glob_with(pattern, options)?;
    Ok(paths.filter_map(Result::ok).filter(|path| path.is_file()).collect())
}

/// Part I of N: every N-th of a list, from the I-th on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    pub(crate) fn parse(text: &str) -> Result<Shard, String> {
        let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match numbers {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Shard { index, count }),
            _ => Err("give I/N as 2/8, I from 1 to N".into()),
        }
    }

    pub(crate) fn of<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.index - 1).step_by(self.count).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("in/deep/deeper")).unwrap();
        for name in ["in/b.JPG", "in/a.png", "in/notes.txt", "in/.hidden.png", "in/c", "in/deep/a.tiff", "in/[1].png"] {
            std::fs::write(tree.path().join(name), "").unwrap();
        }
        std::fs::write(tree.path().join("in/deep/deeper/z.webp"), "").unwrap();
        tree
    }

    fn names(tree: &Path, named: &[&str], recursive: bool) -> Vec<String> {
        let named: Vec<PathBuf> = named.iter().map(|name| tree.join(name)).collect();
        let show = |found: Found| {
            assert!(found.path.is_file());
            found.name.to_string_lossy().replace('\\', "/")
        };
        expand(&named, recursive).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn folders_and_patterns_stand_for_their_pictures_in_order() {
        let tree = tree();
        let names = |named: &[&str], recursive| names(tree.path(), named, recursive);
        assert_eq!(names(&["in"], false), ["[1]", "a", "b"]);
        assert_eq!(names(&["in"], true), ["[1]", "a", "b", "deep/a", "deep/deeper/z"]);
        assert_eq!(names(&["in/b.JPG", "in/a.png"], false), ["b", "a"], "as named");
        assert_eq!(names(&["in/b.JPG", "in", "in/deep/../b.JPG"], false), ["b", "[1]", "a"], "each once");
        assert_eq!(names(&["in/*.png"], false), ["[1]", "a"]);
        assert_eq!(names(&["in/**/*.w?bp"], false), ["z"]);
        assert_eq!(names(&["in/[1].png"], false), ["[1]"], "a file that is called so");
        assert_eq!(names(&["in/*"], false), ["[1]", "a", "b", "c", "notes"], "as a shell has it");
        for (named, what) in [("in/x.png", "no such file"), ("in/*.gif", "stands for no picture"), ("in/a**", "is no")]
        {
            let error = expand(&[tree.path().join(named)], false).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn shards_are_disjoint_and_complete() {
        let all: Vec<usize> = (0..20).collect();
        for count in 1..25 {
            let shard = |index| Shard::parse(&format!("{index}/{count}")).unwrap();
            let mut together: Vec<usize> = (1..=count).flat_map(|index| shard(index).of(all.clone())).collect();
            let sizes = (1..=count).map(|index| shard(index).of(all.clone()).len());
            assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            together.sort();
            assert_eq!(together, all);
        }
        for bad in ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2", "1.5/2"] {
            assert!(Shard::parse(bad).is_err(), "{bad}");
        }
    }
}
