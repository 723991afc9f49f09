//! Ctrl-C. The tests wait for lines that the program prints, so that the signal meets a known state.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::folder::{CHEAP, Folder, log};

/// Longest wait for a line or for the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run whose standard error is read as it comes; killed when dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (stderr, (sender, lines)) = (child.stderr.take().unwrap(), channel());
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|l| sender.send(l))
        });
        Running { child, lines }
    }

    /// The next line that starts like this.
    fn wait_for(&self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line `{start}…`"));
            if line.starts_with(start) {
                return line;
            }
        }
    }

    fn interrupt(&self) {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "kill failed");
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the run does not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn ctrl_c_saves_the_picture_so_far_and_exits_with_130() {
    let folder = Folder::new();
    let run = "stylize content.png -s style.png --device cpu -n 1000000 --size 160x112 --print-every 1";
    let mut running = Running::start(&mut folder.command(&format!("{run} -o out.png --log log.jsonl")));
    running.wait_for("2/1000000  loss ");
    running.interrupt();
    let said = running.wait_for("interrupted after ");
    assert_eq!(running.exit_code(), Some(130));
    // The log, the message and the picture speak of the same iteration.
    let done = log(&folder.path("log.jsonl")).len();
    assert_eq!(said, format!("interrupted after {done} of 1000000 iterations; the picture so far is in out.png"));
    assert!(done >= 2);
    let picture = image::open(folder.path("out.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (160, 112));
    assert_eq!(folder.names(), ["content.png", "log.jsonl", "out.png", "out.png.checkpoint", "style.png"]);
    folder.done(&format!("{} -o whole.png", run.replace("1000000", &done.to_string())));
    assert!(folder.pixels("whole.png") == folder.pixels("out.png"), "the picture after {done} iterations");
    // And on from there, with the log going on too.
    let more = run.replace("1000000", &(done + 3).to_string());
    folder.done(&format!("{more} -o out.png --log log.jsonl --resume"));
    folder.done(&format!("{more} -o further.png --log further.jsonl"));
    assert!(folder.pixels("further.png") == folder.pixels("out.png"));
    assert_eq!(folder.read("further.jsonl"), folder.read("log.jsonl"));
    assert!(!folder.path("out.png.checkpoint").exists());
}

#[test]
fn ctrl_c_at_a_small_scale_saves_the_picture_in_the_size_of_the_result() {
    let folder = Folder::new();
    let run = "stylize content.png -s style.png --device cpu -n 1000000 --min-scale 40 --scale-factor 2 --size 160x112";
    let mut running = Running::start(&mut folder.command(&format!("{run} --print-every 1 -o out.png --log log.jsonl")));
    running.wait_for("2/3000000  40x28  loss ");
    running.interrupt();
    let said = running.wait_for("interrupted after ");
    assert_eq!(running.exit_code(), Some(130));
    let done = log(&folder.path("log.jsonl")).len();
    let so_far = "the picture so far, enlarged from 40x28 to 160x112, is in out.png";
    assert_eq!(said, format!("interrupted after {done} of 3000000 iterations; {so_far}"));
    let picture = image::open(folder.path("out.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (160, 112));
}

#[test]
fn a_quiet_run_still_says_where_the_picture_is() {
    let folder = Folder::new();
    let run = "stylize content.png -s style.png --device cpu -n 1000000 --quiet --save-every 1 -o out.png";
    let mut running = Running::start(&mut folder.command(run));
    let deadline = Instant::now() + PATIENCE;
    while !folder.path("out_1.png").exists() {
        assert!(Instant::now() < deadline, "no first picture");
        std::thread::sleep(Duration::from_millis(2));
    }
    running.interrupt();
    running.wait_for("interrupted after ");
    assert_eq!(running.exit_code(), Some(130));
    assert!(image::open(folder.path("out.png")).is_ok());
}

#[test]
fn a_second_ctrl_c_ends_at_once_and_leaves_no_half_written_file() {
    let folder = Folder::new();
    // An iteration takes a second or more; a run that finished it would save out.png.
    let run = "stylize content.png -s style.png --device cpu --preset plain -n 100 --size 600x420 --print-every 1";
    let mut running = Running::start(&mut folder.command(&format!("{run} -o out.png")));
    running.wait_for("1/100  loss ");
    running.interrupt();
    running.wait_for("stopping after this iteration; Ctrl-C again quits at once");
    let asked = Instant::now();
    running.interrupt();
    assert_eq!(running.exit_code(), Some(130));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(1), "took {took:?}");
    assert_eq!(folder.names(), ["content.png", "style.png"]);
}

#[test]
fn ctrl_c_in_a_batch_ends_it_with_the_picture_at_work_and_resume_goes_on_with_the_rest() {
    for option in ["--resume", "--skip-existing"] {
        a_batch_goes_on(option);
    }
}

fn a_batch_goes_on(option: &str) {
    let folder = Folder::new();
    let png = folder.read("content.png");
    for name in ["a.png", "b.png", "c.png"] {
        folder.write(name, &png);
    }
    let run = format!("stylize a.png b.png c.png -s style.png {CHEAP} -n 120 --size 32x24 --print-every 1 -o out");
    let mut running = Running::start(&mut folder.command(&format!("{run} --log log.jsonl")));
    running.wait_for("[2/3] b.png -> ");
    running.wait_for("2/120  loss ");
    running.interrupt();
    let said = running.wait_for("interrupted after ");
    running.wait_for("the same command with --resume goes on");
    running.wait_for("1 of 3 pictures made");
    assert_eq!(running.exit_code(), Some(130));
    let here = |name: &str| folder.path("out").join(name).exists();
    assert_eq!(
        ["a.png", "a.png.checkpoint", "b.png", "b.png.checkpoint", "c.png"].map(here),
        [true, false, true, true, false],
        "{said}"
    );
    let first = folder.read("out/a.png");
    let ended = folder.done(&format!("{run} --log log.jsonl {option}"));
    assert!(ended.stderr.contains("[1/2] b.png -> ") && ended.stderr.contains("\nresumed after "), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("2 of 3 pictures made, 1 there already\n"), "{}", ended.stderr);
    assert!(folder.read("out/a.png") == first);
    // All three were made from the same pixels.
    for name in ["b", "c"] {
        assert!(folder.pixels(&format!("out/{name}.png")) == folder.pixels("out/a.png"), "{name}");
        assert_eq!(log(&folder.path(&format!("log_{name}.jsonl"))).len(), 120);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path("out")).unwrap().collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_picture_of_a_batch_that_is_broken_off_without_a_checkpoint_has_another_name() {
    let folder = Folder::new();
    std::fs::copy(folder.path("content.png"), folder.path("b.png")).unwrap();
    let run = format!("stylize content.png b.png -s style.png {CHEAP} -n 400 --size 32x24 --print-every 1 -o out");
    let mut running = Running::start(&mut folder.command(&format!("{run} --no-checkpoint")));
    running.wait_for("2/400  loss ");
    running.interrupt();
    running.wait_for("interrupted after ");
    assert_eq!(running.exit_code(), Some(130));
    let names = |folder: &Folder| {
        let found = std::fs::read_dir(folder.path("out")).unwrap();
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    // Where it would pass for a result, --skip-existing would leave it so.
    assert_eq!(names(&folder), ["content_unfinished.png"]);
}
