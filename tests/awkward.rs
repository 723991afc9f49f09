//! Pictures as they come: turned, printed, grey, deep, transparent, animated, profiled, broken. Every file is written here
//! by hand, and what it has to look like is computed from what was written, by the formulas of its standard.
//!
//! `IMPASTO_AWKWARD=DIR` leaves the files in DIR together with what came of them, for `reference/pictures.py`, which
//! compares that with other decoders.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "awkward/containers.rs"]
mod containers;
#[path = "awkward/pictures.rs"]
mod pictures;
#[path = "awkward/profiles.rs"]
mod profiles;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};

use impasto::error::{Error, Result};
use impasto::picture::{DecodeOptions, Decoded};
use pictures::{Awkward, Expected, Shown};

/// Follows what a thread has allocated, and the most that it had at once.
struct Peak;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Peak = Peak;

fn count(bytes: isize) {
    // Threads that end have no counters any more.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        MOST.with(|most| most.set(most.get().max(now.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Peak {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What came of a file, and the most bytes that it took.
fn read(bytes: &[u8]) -> (Result<Decoded>, usize) {
    let before = NOW.get();
    MOST.set(before);
    let read = Decoded::from_bytes(bytes, Path::new("given.bin"), &DecodeOptions::default());
    (read, (MOST.get() - before) as usize)
}

fn one_line(error: &Error) -> String {
    let (message, hint) = (error.to_string(), error.hint());
    assert!(message.contains("given.bin") && !message.contains('\n'), "{message}");
    assert!(!hint.is_empty() && !hint.contains('\n'), "{message}: {hint}");
    message
}

/// The largest difference between what a file looks like and what it should, colours in levels.
fn difference(found: &Decoded, expected: &Shown) -> f64 {
    assert_eq!([found.picture.width, found.picture.height], expected.size);
    assert_eq!(found.picture.rgb.len(), expected.rgb.len());
    assert_eq!(found.alpha.is_some(), expected.alpha.is_some(), "alpha");
    assert_eq!(found.notes.len(), expected.notes, "{:?}", found.notes);
    let most = |found: &[f32], expected: &[f64], scale: f64| {
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs() * scale).fold(0.0, f64::max)
    };
    let alpha = match (&found.alpha, &expected.alpha) {
        (Some(alpha), Some(expected)) => {
            assert_eq!([alpha.width, alpha.height], [found.picture.width, found.picture.height]);
            most(&alpha.values, expected, 255.0)
        }
        _ => 0.0,
    };
    most(&found.picture.rgb, &expected.rgb, 1.0).max(alpha)
}

/// Leaves a file and what came of it where another program can compare them.
fn leave(folder: &Path, awkward: &Awkward, found: &Result<Decoded>) {
    std::fs::write(folder.join(&awkward.name), &awkward.bytes).unwrap();
    let mut out = Vec::new();
    if let Ok(found) = found {
        let numbers = [found.picture.width as f32, found.picture.height as f32];
        out.extend(numbers.iter().chain(&found.picture.rgb).flat_map(|v| v.to_le_bytes()));
    }
    std::fs::write(folder.join(format!("{}.ours", awkward.name)), out).unwrap();
}

#[test]
fn awkward_pictures_have_the_colours_that_were_put_into_them_or_are_refused() {
    let folder = std::env::var_os("IMPASTO_AWKWARD").map(PathBuf::from);
    let all = pictures::all();
    assert!(all.len() >= 60, "{}", all.len());
    let (mut worst, mut most, mut wrong) = ((0.0, String::new()), (0, String::new()), Vec::new());
    for awkward in &all {
        let (found, bytes) = read(&awkward.bytes);
        if let Some(folder) = &folder {
            leave(folder, awkward, &found);
        }
        let name = &awkward.name;
        // Profiles of inks become tables of some megabytes. Two files ask for much that is not there.
        let cap = match &**name {
            // 81 megapixels, for which a decoder may take what their samples have.
            "hollow.tif" => 9000 * 9000 * 3 + (2 << 20),
            // 40 MiB of profile in 40 kB of file; a buffer that doubles, and a copy.
            "profile_bomb.png" => 128 << 20,
            _ => 4 << 20,
        };
        if bytes > cap {
            wrong.push(format!("{name}: took {bytes} bytes"));
        }
        if bytes > most.0 {
            most = (bytes, name.clone());
        }
        match (&found, &awkward.expected) {
            (Ok(found), Expected::Picture(shown)) => {
                let error = difference(found, shown);
                if error > worst.0 {
                    worst = (error, name.clone());
                }
                if error > 2.0 {
                    wrong.push(format!("{name}: off by {error:.2} levels"));
                }
            }
            (Err(error), Expected::Refused(what)) => {
                let message = one_line(error);
                if !message.contains(what) {
                    wrong.push(format!("{name}: `{message}` does not say `{what}`"));
                }
            }
            (Err(error), _) => wrong.push(format!("{name}: {error}")),
            (Ok(_), Expected::Refused(what)) => wrong.push(format!("{name}: was read, though it {what}")),
        }
    }
    println!("{} files, worst {:.3} levels ({}), most memory {} ({})", all.len(), worst.0, worst.1, most.0, most.1);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn more_pixels_are_read_where_they_are_allowed_and_fewer_where_they_are_not() {
    let png = containers::Png::new([20, 10], 8, 2, vec![7; 600]).bytes();
    let read = |max_pixels| Decoded::from_bytes(&png, Path::new("given.bin"), &DecodeOptions { max_pixels });
    assert_eq!(read(200).unwrap().picture.rgb, [7.0; 600]);
    let error = read(199).unwrap_err();
    assert_eq!(one_line(&error), "picture given.bin: is too large: 20x10, over 199 pixels or 65535 a side");
    assert!(error.hint().ends_with("or raise --max-pixels"), "{}", error.hint());
}

#[test]
fn a_file_cut_anywhere_is_refused_or_still_the_same_picture() {
    let (mut cuts, mut refused) = (0, 0);
    for awkward in pictures::all() {
        let (Expected::Picture(_), true) = (&awkward.expected, awkward.bytes.len() < 20_000) else { continue };
        let (Ok(whole), _) = read(&awkward.bytes) else { panic!("{}", awkward.name) };
        let step = (awkward.bytes.len() / 16).max(1);
        for cut in (0..awkward.bytes.len()).step_by(step) {
            cuts += 1;
            match read(&awkward.bytes[..cut]).0 {
                Ok(found) => {
                    assert!(found.picture == whole.picture, "{} cut at {cut} is another picture", awkward.name);
                }
                Err(error) => {
                    one_line(&error);
                    refused += 1;
                }
            }
        }
    }
    println!("{refused} of {cuts} refused");
    assert!(refused * 10 > cuts * 9, "{refused} of {cuts}");
}

#[test]
fn damaged_awkward_files_never_panic_nor_take_much_memory() {
    let rounds = std::env::var("IMPASTO_FUZZ").ok().and_then(|v| v.parse().ok()).unwrap_or(12);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let (mut read_anyway, mut all) = (0, 0);
    for awkward in pictures::all() {
        if awkward.bytes.is_empty() || awkward.bytes.len() > 20_000 {
            continue;
        }
        for _ in 0..rounds {
            let mut bytes = awkward.bytes.clone();
            for _ in 0..=random(5) {
                let at = if random(2) == 0 { random(bytes.len().min(300)) } else { random(bytes.len()) };
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
            }
            all += 1;
            let (found, most) = read(&bytes);
            // A header may ask for all that it is allowed: what the decoder has, and what comes of it.
            assert!(most < 3 << 30, "{}: {most} bytes", awkward.name);
            match found {
                Ok(found) => {
                    read_anyway += 1;
                    assert_eq!(found.picture.rgb.len(), found.picture.width * found.picture.height * 3);
                    assert!(found.picture.rgb.iter().all(|v| (0.0..=255.0).contains(v)), "{}", awkward.name);
                }
                Err(error) => {
                    one_line(&error);
                }
            }
        }
    }
    println!("{all} damaged files, {read_anyway} read");
}
