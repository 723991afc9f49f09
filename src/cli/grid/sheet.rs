//! The sheet of a grid: pictures in rows and columns with labels beside and above them.

use font8x8::UnicodeFonts;
use impasto::picture::Picture;

/// White pixels between two cells.
const GAP: usize = 8;
/// Sides of a glyph before it is enlarged.
const GLYPH: usize = 8;
/// A cell this large has its labels in glyphs twice as large; and so on.
const PER_GLYPH: usize = 128;
/// The ground.
const WHITE: f32 = 255.0;
/// Ink.
const BLACK: f32 = 0.0;
/// A cell without a picture.
const GREY: f32 = 225.0;

/// What a cell shows: a picture, or in words why there is none.
pub(crate) type Cell = Result<Picture, String>;

/// The sizes of a sheet before it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Width and height of a cell.
    cell: [usize; 2],
    /// Side of a glyph.
    glyph: usize,
    /// Width of the rows' labels and height of the columns'.
    labels: [usize; 2],
    /// Width and height of all.
    pub(crate) size: [usize; 2],
}

impl Layout {
    /// For cells of this width and height.
    pub(crate) fn new(rows: &[String], columns: &[String], cell: [usize; 2]) -> Layout {
        let glyph = GLYPH * (cell[0].min(cell[1]) / PER_GLYPH).max(1);
        // A label by the side takes as much room as it needs up to a cell's, one above the width of its column.
        let widest = rows.iter().flat_map(|row| row.split('\n')).map(|line| line.chars().count()).max().unwrap_or(0);
        let side = (widest * glyph).min(cell[0].max(16 * glyph));
        let lines = |label: &String| wrapped(label, cell[0] / glyph).len();
        let above = columns.iter().map(lines).max().unwrap_or(0) * glyph * 5 / 4;
        let labels = [side, above].map(|length| if length > 0 { length + GAP } else { 0 });
        let along = |count: usize, cell: usize, labels: usize| GAP + labels + count.max(1) * (cell + GAP);
        let size = [along(columns.len(), cell[0], labels[0]), along(rows.len(), cell[1], labels[1])];
        Layout { cell, glyph, labels, size }
    }

    /// The sheet; cells row by row. A picture larger than a cell is shrunk, a smaller one stands in the middle.
    pub(crate) fn draw(&self, rows: &[String], columns: &[String], cells: &[Cell]) -> Picture {
        let [width, height] = self.size;
        let mut sheet = Picture { width, height, rgb: vec![WHITE; width * height * 3] };
        let across = columns.len().max(1);
        let corner = |row: usize, column: usize| {
            [column, row]
                .into_iter()
                .zip(self.labels)
                .zip(self.cell)
                .map(|((at, labels), cell)| GAP + labels + at * (cell + GAP))
        };
        let at = |row, column| {
            let mut corner = corner(row, column);
            [corner.next().unwrap_or(0), corner.next().unwrap_or(0)]
        };
        for (column, label) in columns.iter().enumerate() {
            let lines = wrapped(label, self.cell[0] / self.glyph);
            let line = self.glyph * 5 / 4;
            for (number, text) in lines.iter().enumerate() {
                // At the foot of its room, in the middle of its column.
                let top = at(0, column)[1].saturating_sub(GAP / 2 + (lines.len() - number) * line);
                let left = at(0, column)[0] + self.cell[0].saturating_sub(text.chars().count() * self.glyph) / 2;
                write(&mut sheet, text, [left, top], self.glyph);
            }
        }
        for (row, label) in rows.iter().enumerate() {
            let lines = wrapped(label, self.labels[0].saturating_sub(GAP) / self.glyph);
            let line = self.glyph * 5 / 4;
            let top = at(row, 0)[1] + self.cell[1].saturating_sub(lines.len() * line) / 2;
            for (number, text) in lines.iter().enumerate() {
                write(&mut sheet, text, [GAP, top + number * line], self.glyph);
            }
        }
        for (index, cell) in cells.iter().enumerate() {
            let [left, top] = at(index / across, index % across);
            match cell {
                Ok(picture) => {
                    let fitted = fitted(picture, self.cell);
                    let (x, y) = ((self.cell[0] - fitted.width) / 2, (self.cell[1] - fitted.height) / 2);
                    paste(&mut sheet, &fitted, [left + x, top + y]);
                }
                Err(why) => {
                    let [width, height] = self.cell;
                    paste(&mut sheet, &Picture { width, height, rgb: vec![GREY; width * height * 3] }, [left, top]);
                    // The whole reason is said elsewhere: as much of it as there is room for.
                    let glyph = (self.glyph / 2).max(GLYPH);
                    let lines = wrapped(why, (width.saturating_sub(2 * GAP) / glyph).max(1));
                    let line = glyph * 5 / 4;
                    for (number, text) in lines.iter().take(height.saturating_sub(2 * GAP) / line).enumerate() {
                        write(&mut sheet, text, [left + GAP, top + GAP + number * line], glyph);
                    }
                }
            }
        }
        sheet
    }
}

fn fitted(picture: &Picture, [width, height]: [usize; 2]) -> Picture {
    let scale = (width as f64 / picture.width as f64).min(height as f64 / picture.height as f64).min(1.0);
    let side = |length: usize, most: usize| ((length as f64 * scale).round() as usize).clamp(1, most.max(1));
    picture.resized(side(picture.width, width), side(picture.height, height))
}

/// Copies a picture onto another; what would stand beyond its edges is left out.
fn paste(sheet: &mut Picture, picture: &Picture, [left, top]: [usize; 2]) {
    let count = 3 * picture.width.min(sheet.width.saturating_sub(left));
    let rows = sheet.rgb.chunks_exact_mut(3 * sheet.width).skip(top).zip(picture.rgb.chunks_exact(3 * picture.width));
    rows.for_each(|(to, from)| to[3 * left..][..count].copy_from_slice(&from[..count]));
}

/// A text in lines of at most so many characters: parted at its line breaks, else at spaces, else anywhere.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let most = most.max(1);
    let mut lines = Vec::new();
    for part in text.split('\n').filter(|part| !part.is_empty()) {
        let mut line = String::new();
        for word in part.split(' ') {
            let mut word: Vec<char> = word.chars().collect();
            if !line.is_empty() && line.chars().count() + 1 + word.len() > most {
                lines.push(std::mem::take(&mut line));
            }
            while word.len() > most {
                let rest = word.split_off(most);
                lines.push(word.into_iter().collect());
                word = rest;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.extend(word);
        }
        lines.push(line);
    }
    lines
}

/// Writes one line in black, its glyphs with sides of so many pixels. A character that the font lacks is a question mark.
fn write(sheet: &mut Picture, text: &str, [left, top]: [usize; 2], glyph: usize) {
    let bits = |character: char| {
        let fonts = [font8x8::BASIC_FONTS.get(character), font8x8::LATIN_FONTS.get(character)];
        fonts.into_iter().flatten().next().or_else(|| font8x8::BASIC_FONTS.get('?')).unwrap_or_default()
    };
    let scale = (glyph / GLYPH).max(1);
    for (number, character) in text.chars().enumerate() {
        let (bits, left) = (bits(character), left + number * glyph);
        for (y, x) in (0..glyph).flat_map(|y| (0..glyph).map(move |x| (y, x))) {
            let ink = bits.get(y / scale).is_some_and(|row| row >> (x / scale) & 1 == 1);
            let inside = left + x < sheet.width && top + y < sheet.height;
            if ink && inside {
                sheet.rgb[3 * ((top + y) * sheet.width + left + x)..][..3].fill(BLACK);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: usize, height: usize, value: f32) -> Picture {
        Picture { width, height, rgb: vec![value; width * height * 3] }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| text.to_string()).collect()
    }

    /// The region of a picture as text, dark pixels as #.
    fn dark(picture: &Picture, [left, top]: [usize; 2], [width, height]: [usize; 2]) -> Vec<String> {
        let pixel = |x, y| if picture.rgb[3 * (y * picture.width + x)] < 128.0 { '#' } else { '.' };
        (top..top + height).map(|y| (left..left + width).map(|x| pixel(x, y)).collect()).collect()
    }

    #[test]
    fn every_cell_stands_in_its_row_and_column() {
        let (rows, columns) = (texts(&["a=1", "a=2"]), texts(&["b=1", "b=2", "b=3"]));
        let layout = Layout::new(&rows, &columns, [64, 48]);
        let cells: Vec<Cell> = (0..6)
            .map(|i| if i == 4 { Err("failed: why it did".into()) } else { Ok(plain(64 - i, 48, 10.0 * i as f32)) })
            .collect();
        let sheet = layout.draw(&rows, &columns, &cells);
        assert_eq!([sheet.width, sheet.height], layout.size);
        assert_eq!(layout.size, [8 + 24 + 8 + 3 * 72, 8 + 10 + 8 + 2 * 56]);
        for (index, cell) in cells.iter().enumerate() {
            let [x, y] = [40 + index % 3 * 72, 26 + index / 3 * 56];
            let at = |x: usize, y: usize| sheet.rgb[3 * (y * sheet.width + x)];
            assert_eq!(
                at(x + 63, y + 47),
                if cell.is_err() {
                    GREY
                } else if index > 0 {
                    WHITE
                } else {
                    10.0 * index as f32
                }
            );
            if let Ok(picture) = cell {
                assert_eq!(at(x + 32, y + 24), picture.rgb[0]);
            }
            assert_eq!([at(x + 64, y), at(x, y + 48)], [WHITE; 2], "the gap");
        }
        assert!(dark(&sheet, [40 + 72, 26 + 56], [64, 48]).concat().contains('#'), "words in the failed cell");
        // One picture that is too large is shrunk.
        let sheet = Layout::new(&[], &columns[..1], [64, 48]).draw(&[], &columns[..1], &[Ok(plain(640, 100, 7.0))]);
        let row = &sheet.rgb[3 * ((26 + 24) * sheet.width + 8)..][..3 * 64];
        assert!(row.iter().all(|value| (value - 7.0).abs() < 0.01));
    }

    #[test]
    fn labels_can_be_read() {
        let columns = texts(&["n=1"]);
        let layout = Layout::new(&[], &columns, [64, 48]);
        let sheet = layout.draw(&[], &columns, &[Ok(plain(64, 48, 200.0))]);
        // In the middle of the column: 3 glyphs of 8 pixels.
        let [n, equals, one] = [0, 8, 16].map(|x| dark(&sheet, [8 + 20 + x, 12], [8, 8]));
        for (glyph, character) in [(n, 'n'), (equals, '='), (one, '1')] {
            let bits = font8x8::BASIC_FONTS.get(character).map(|rows| {
                rows.map(|row| (0..8).map(|x| if row >> x & 1 == 1 { '#' } else { '.' }).collect::<String>())
            });
            assert_eq!(glyph, bits.map(Vec::from).unwrap_or_default(), "{character}");
        }
        let twice = Layout::new(&[], &columns, [300, 260]);
        assert_eq!(twice.glyph, 16);
    }

    #[test]
    fn a_text_is_parted_where_it_can_be() {
        for (text, most, lines) in [
            ("style-weight\n=10", 20, &["style-weight", "=10"][..]),
            ("out of memory", 8, &["out of", "memory"]),
            ("relu1_1,relu2_1", 8, &["relu1_1,", "relu2_1"]),
            ("", 5, &[]),
            ("ab", 0, &["a", "b"]),
        ] {
            assert_eq!(wrapped(text, most), lines, "{text}");
        }
    }
}
