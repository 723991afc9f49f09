//! A folder with two small pictures to run the program in, and what came of a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The first two convolutions on the CPU engine: milliseconds an iteration.
pub(crate) const CHEAP: &str = "--device cpu --preset plain --content-layers relu1_2 --style-layers relu1_1,relu1_2";

/// A temporary folder with `content.png` (40x28) and `style.png` (30x36).
pub(crate) struct Folder(tempfile::TempDir);

/// How a run ended and what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Folder {
    pub(crate) fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        let level = |value: u32| (value % 256) as u8;
        image::RgbImage::from_fn(40, 28, |x, y| {
            image::Rgb([level(x * 6), level(y * 9), level((x / 4 + y / 4) % 2 * 200)])
        })
        .save(folder.path("content.png"))
        .unwrap();
        image::RgbImage::from_fn(30, 36, |x, y| image::Rgb([level(x * y), level(255 - x * 7), level(x % 3 * 120)]))
            .save(folder.path("style.png"))
            .unwrap();
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Samples of a picture: what a result says about itself differs with the command.
    pub(crate) fn pixels(&self, name: &str) -> Vec<u8> {
        image::open(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}")).into_rgb8().into_raw()
    }

    /// Name and bytes of every file, hidden ones included.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.0.path()).unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| entry.path().is_file());
        files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }

    /// `impasto` with these arguments, parted at spaces, to be run in the folder: without the network, and with a cache
    /// of its own.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_impasto"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        command.env("IMPASTO_OFFLINE", "1").env("IMPASTO_CACHE", self.path("cache"));
        for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_ascii_lowercase());
        }
        command
    }

    /// Names of the files in the cache; locks, which stay, are left out.
    pub(crate) fn cached(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("cache")).into_iter().flatten().map(Result::unwrap);
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.ends_with(".lock"));
        names.sort();
        names
    }

    pub(crate) fn run(&self, arguments: &str) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    /// Runs to success.
    pub(crate) fn done(&self, arguments: &str) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "impasto {arguments}\n{}", ended.stderr);
        ended
    }

    /// `stylize content.png -s style.png` with the cheap layers and `options`, to success.
    pub(crate) fn stylize(&self, options: &str) -> Ended {
        self.done(&format!("stylize content.png -s style.png {CHEAP} {options}"))
    }

    /// Runs to failure: the last two lines are exactly `error:` and `hint:`, and no file changed, came or went.
    pub(crate) fn fails(&self, arguments: &str, code: i32, error: &str, hint: &str) -> Ended {
        let before = self.files();
        let ended = self.run(arguments);
        let case = format!("impasto {arguments}\n{}", ended.stderr);
        assert_eq!(ended.code, Some(code), "{case}");
        assert_eq!(ended.last_lines(), [format!("error: {error}"), format!("hint: {hint}")], "{case}");
        assert!(!ended.stderr.contains("panicked"), "{case}");
        self.unchanged(&before, &case);
        ended
    }

    /// Like [`Folder::fails`], before anything was computed: nothing else is printed.
    pub(crate) fn refuses(&self, arguments: &str, code: i32, error: &str, hint: &str) {
        let ended = self.fails(arguments, code, error, hint);
        assert_eq!(ended.stderr.lines().count(), 2, "impasto {arguments}\n{}", ended.stderr);
    }

    /// Runs into a refusal by the argument parser: exit 2, `error:` in the first line, a word on help in the last.
    pub(crate) fn misused(&self, arguments: &str, error: &str) {
        let before = self.files();
        let ended = self.run(arguments);
        let case = format!("impasto {arguments}\n{}", ended.stderr);
        assert_eq!(ended.code, Some(2), "{case}");
        assert_eq!(ended.stderr.lines().next(), Some(&*format!("error: {error}")), "{case}");
        assert!(ended.stderr.trim_end().ends_with("For more information, try '--help'."), "{case}");
        self.unchanged(&before, &case);
    }

    fn unchanged(&self, before: &BTreeMap<String, Vec<u8>>, case: &str) {
        let after = self.files();
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{case}");
        assert!(*before == after, "a file has new bytes: {case}");
    }
}

impl Ended {
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let lines: Vec<String> = self.stderr.lines().map(str::to_string).collect();
        lines[lines.len().saturating_sub(2)..].to_vec()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The lines of a `--log` file.
pub(crate) fn log(path: &Path) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}
