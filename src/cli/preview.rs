//! `--preview`: the picture above the progress bar, two pixels to a character.
//!
//! Half blocks are what every terminal shows, tmux and ssh included. The graphics protocols of single terminals need an
//! answer read from the terminal, which would have to be parted from the user's keys while the run goes on.

use std::fmt::Write;
use std::time::{Duration, Instant};

use console::Term;
use impasto::error::Result;
use impasto::picture::Picture;
use impasto::transfer::StyleTransfer;

use super::progress::Progress;

/// Least time between two pictures.
const PAUSE: Duration = Duration::from_secs(1);
/// A picture may take one part in so many of the time.
const SHARE: u32 = 20;
/// Lines of the terminal that are left to other things.
const LEFT: usize = 6;

/// Shows the picture from time to time, if that is wanted.
#[derive(Debug)]
pub(crate) struct Preview {
    wanted: bool,
    /// When the next one is due.
    due: Instant,
}

impl Preview {
    pub(crate) fn new(wanted: bool) -> Preview {
        Preview { wanted, due: Instant::now() }
    }

    /// False where a preview is wanted and cannot be: it then stays away.
    pub(crate) fn fits(&mut self, progress: &Progress) -> bool {
        let fits = !self.wanted || progress.is_a_bar();
        self.wanted &= fits;
        fits
    }

    /// Shows the picture if it is time.
    pub(crate) fn tick(&mut self, progress: &Progress, transfer: &mut StyleTransfer) -> Result<()> {
        let begin = Instant::now();
        if !self.wanted || begin < self.due {
            return Ok(());
        }
        let picture = transfer.image()?;
        let terminal = Term::stderr();
        let (rows, columns) = terminal.size();
        let room = [usize::from(rows).saturating_sub(LEFT), usize::from(columns).saturating_sub(1)];
        progress.show_above(half_blocks(&picture, room, terminal.features().true_colors_supported()));
        self.due = Instant::now() + PAUSE.max(begin.elapsed() * SHARE);
        Ok(())
    }
}

/// The picture in characters of two pixels each, the upper one in front and the lower one behind, fitted into so many
/// rows and columns. Nothing where there is no room. With `fine` colours, 24 bits; else the 256 that old terminals know.
fn half_blocks(picture: &Picture, [rows, columns]: [usize; 2], fine: bool) -> String {
    let mut text = String::new();
    let scale = (columns as f64 / picture.width as f64).min(2.0 * rows as f64 / picture.height as f64).min(1.0);
    let [width, height] = [picture.width, picture.height].map(|side| ((side as f64 * scale).round() as usize).max(1));
    if rows == 0 || columns == 0 {
        return text;
    }
    let small = picture.resized(width, height);
    let colour = |x: usize, y: usize| {
        let pixel = small.rgb.get(3 * (y * width + x)..)?.first_chunk::<3>()?;
        // `as` clips.
        let [r, g, b] = pixel.map(|value| value.round() as u8);
        Some(if fine { format!("2;{r};{g};{b}") } else { format!("5;{}", of_256([r, g, b])) })
    };
    for y in (0..height).step_by(2) {
        for x in 0..width {
            let behind = if y + 1 < height { colour(x, y + 1) } else { None };
            let behind = behind.map_or("49".into(), |colour| format!("48;{colour}"));
            // Writing to a string does not fail.
            let _ = write!(text, "\x1b[38;{};{behind}m\u{2580}", colour(x, y).unwrap_or_default());
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

/// The nearest of xterm's cube of 6 x 6 x 6 colours and its ramp of 24 greys.
fn of_256(rgb: [u8; 3]) -> usize {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let away = |other: [u8; 3]| rgb.iter().zip(other).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum::<u32>();
    let nearest = |value: u8| (0..6).min_by_key(|level| LEVELS[*level].abs_diff(value)).unwrap_or(0);
    let cube = rgb.map(nearest);
    let grey = (0..24).min_by_key(|step| away([8 + 10 * step; 3])).unwrap_or(0);
    if away([8 + 10 * grey; 3]) < away(cube.map(|level| LEVELS[level])) {
        return 232 + usize::from(grey);
    }
    16 + cube.into_iter().fold(0, |index, level| 6 * index + level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_of_pixels_are_one_of_characters_in_their_colours() {
        let rgb = vec![255.0, 0.0, 0.0, 0.0, 128.4, 0.0, 0.0, 0.0, 300.0, 9.0, 9.0, 9.0, 1.0, 2.0, 3.0, -4.0, 5.0, 6.0];
        let picture = Picture { width: 2, height: 3, rgb };
        let expected = "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[38;2;0;128;0;48;2;9;9;9m▀\x1b[0m\n\
                        \x1b[38;2;1;2;3;49m▀\x1b[38;2;0;5;6;49m▀\x1b[0m\n";
        assert_eq!(half_blocks(&picture, [9, 9], true), expected);
        let coarse = half_blocks(&picture, [9, 9], false);
        assert!(coarse.starts_with("\x1b[38;5;196;48;5;21m▀\x1b[38;5;28;48;5;232m▀\x1b[0m\n"), "{coarse:?}");
    }

    #[test]
    fn a_picture_fits_into_the_room_there_is() {
        let picture = Picture { width: 300, height: 100, rgb: vec![50.0; 90_000] };
        for (room, rows, columns) in [([20, 60], 10, 60), ([5, 300], 5, 30), ([1, 1], 1, 1)] {
            let text = half_blocks(&picture, room, true);
            assert_eq!((text.lines().count(), text.matches('▀').count()), (rows, rows * columns), "{room:?}");
        }
        assert_eq!(half_blocks(&picture, [0, 80], true), "");
        assert_eq!(half_blocks(&picture, [24, 0], true), "");
    }
}
