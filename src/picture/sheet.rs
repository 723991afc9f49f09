//! Pictures side by side.

use std::path::{Path, PathBuf};

use super::Picture;

/// White pixels between two pictures.
const GAP: usize = 4;

/// The pictures in a row, in the height of the last one, each with its own aspect ratio, a thin white gap between them.
pub fn contact_sheet(pictures: &[&Picture]) -> Picture {
    let height = pictures.last().map_or(1, |last| last.height);
    let fitted = |picture: &&Picture| {
        let width = (picture.width as f64 * height as f64 / picture.height.max(1) as f64).round() as usize;
        picture.resized(width, height)
    };
    let fitted: Vec<Picture> = pictures.iter().map(fitted).collect();
    let width = fitted.iter().map(|picture| picture.width + GAP).sum::<usize>().saturating_sub(GAP).max(1);
    let mut sheet = Picture { width, height, rgb: vec![255.0; width * height * 3] };
    let mut left = 0;
    for picture in &fitted {
        let rows = sheet.rgb.chunks_exact_mut(width * 3).zip(picture.rgb.chunks_exact(picture.width * 3));
        rows.for_each(|(to, from)| to[left * 3..][..from.len()].copy_from_slice(from));
        left += picture.width + GAP;
    }
    sheet
}

/// `OUT_SUFFIX.EXT` beside `OUT.EXT`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("_{suffix}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_in_a_row_at_equal_height() {
        let plain = |width, height, value| Picture { width, height, rgb: vec![value; width * height * 3] };
        let last = plain(3, 4, 30.0);
        let sheet = contact_sheet(&[&plain(6, 8, 10.0), &plain(5, 2, 20.0), &last]);
        assert_eq!((sheet.width, sheet.height, sheet.rgb.len()), (3 + 4 + 10 + 4 + 3, 4, 24 * 4 * 3));
        for row in sheet.rgb.chunks_exact(24 * 3) {
            let parts = [(0..3, 10.0), (3..7, 255.0), (7..17, 20.0), (17..21, 255.0), (21..24, 30.0)];
            for (columns, value) in parts {
                let part = &row[columns.start * 3..columns.end * 3];
                assert!(part.iter().all(|v| (v - value).abs() < 1e-3), "{columns:?}: {part:?}");
            }
        }
        assert_eq!(contact_sheet(&[&last]), last);
        assert_eq!(contact_sheet(&[]).rgb.len(), 3);
    }

    #[test]
    fn a_suffix_goes_before_the_extension() {
        for (path, expected) in
            [("a/demo.png", "a/demo_sheet.png"), ("x.y.jpg", "x.y_sheet.jpg"), ("bare", "bare_sheet")]
        {
            assert_eq!(beside(Path::new(path), "sheet"), Path::new(expected));
        }
    }
}
