//! A run that meets too little memory: what it says, and that the picture is the one it would have been.

use crate::folder::{CHEAP, Folder};

#[test]
fn memory_that_runs_out_makes_the_tiles_smaller_and_says_so() {
    let folder = Folder::new();
    let run = format!("stylize content.png -s style.png {CHEAP} --weights builtin --size 160x144 -n 1");
    let plain = folder.done(&format!("{run} -o plain.png"));
    assert!(!plain.stderr.contains("note: "), "{}", plain.stderr);
    let squeezed = folder.done(&format!("{run} --fail-allocation 9 -o squeezed.png"));
    let notes: Vec<&str> = squeezed.stderr.lines().filter(|line| line.starts_with("note: ")).collect();
    assert_eq!(notes.len(), 1, "{}", squeezed.stderr);
    assert!(notes[0].starts_with("note: out of memory: the job, for which "), "{notes:?}");
    assert!(notes[0].contains("; in tiles of 128 pixels it needs "), "{notes:?}");
    let open = |name| image::open(folder.path(name)).unwrap().to_rgb8();
    let apart = open("plain.png").iter().zip(open("squeezed.png").iter()).filter(|(a, b)| a.abs_diff(**b) > 1).count();
    assert!(apart < 20, "{apart} samples differ by more than rounding");
    let quiet = folder.done(&format!("{run} --fail-allocation 9 --quiet -o quiet.png"));
    assert_eq!(quiet.stderr, "");
}

#[test]
fn where_no_smaller_tile_helps_the_need_is_said_and_nothing_written() {
    let folder = Folder::new();
    let run = format!("stylize content.png -s style.png {CHEAP} --weights builtin -n 1 -o out.png --fail-allocation 9");
    let ended = folder.run(&run);
    let [error, hint] = &ended.last_lines()[..] else { panic!("{}", ended.stderr) };
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert!(error.starts_with("error: out of memory: the job, for which ") && error.contains(" needs "), "{error}");
    assert_eq!(hint, "hint: no smaller tile helps: use a smaller --size, or --device cpu");
    assert_eq!(folder.names(), ["content.png", "style.png"]);
}

#[test]
fn the_picture_so_far_is_saved_where_a_later_scale_finds_no_memory() {
    let folder = Folder::new();
    let run =
        format!("stylize content.png -s style.png {CHEAP} --weights builtin --size 40 --min-scale 20 --scale-factor 2");
    let mut rescued = 0;
    // Too small for tiles to help: whichever buffer finds no memory ends the run, until none is left to fail.
    for number in (1..).step_by(4) {
        let ended = folder.run(&format!("{run} -n 2 -o out.png --fail-allocation {number}"));
        if ended.code == Some(0) {
            assert!(number > 20, "{number}: {}", ended.stderr);
            break;
        }
        assert_eq!(ended.code, Some(4), "{number}: {}", ended.stderr);
        assert!(ended.stderr.contains("error: out of memory: "), "{number}: {}", ended.stderr);
        let saved = ended.stderr.contains("the picture after 2 iterations is in out.png");
        assert_eq!(folder.path("out.png").exists(), saved, "{number}: {}", ended.stderr);
        if saved {
            rescued += 1;
            assert_eq!(image::open(folder.path("out.png")).unwrap().width(), 40, "enlarged to the size of the result");
            std::fs::remove_file(folder.path("out.png")).unwrap();
        }
    }
    assert!(rescued > 3, "{rescued}");
}
