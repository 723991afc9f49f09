//! Exact tiles. Every position of every feature map is owned by one tile; a tile is computed with a halo as wide as the
//! deepest tap's receptive field, so that what it owns is as if the whole picture had been computed at once.

use super::vgg19::Tap;
use crate::ops::Rect;

/// A tile of a picture, in pixels. `area` and `owned` start at multiples of [`grid()`], so that the poolings of
/// a tile and those of the whole picture have the same windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// What is computed: the owned rectangle and its halo, cut at the picture's border.
    pub area: Rect,
    /// What counts: the owned rectangles of all tiles cover the picture once.
    pub owned: Rect,
}

/// A tile's feature map after some poolings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Rows of the tile's map.
    pub height: usize,
    /// Columns of the tile's map.
    pub width: usize,
    /// Owned positions in the tile's map.
    pub owned: Rect,
    /// Row of the first owned position in the whole picture's map.
    pub top: usize,
    /// Column of the first owned position in the whole picture's map.
    pub left: usize,
    /// Rows that the tile owns above the first owned position: 0, except in a region that is part of a tile's.
    pub above: usize,
}

impl Tile {
    /// The tile's map after `level` poolings with ceil sizes.
    pub fn region(&self, level: usize) -> Region {
        let step = 1 << level;
        let (area, owned) = (self.area, self.owned);
        let top = owned.top / step;
        let left = owned.left / step;
        Region {
            height: area.height.div_ceil(step),
            width: area.width.div_ceil(step),
            owned: Rect {
                top: (owned.top - area.top) / step,
                left: (owned.left - area.left) / step,
                height: (owned.top + owned.height).div_ceil(step) - top,
                width: (owned.left + owned.width).div_ceil(step) - left,
            },
            top,
            left,
            above: 0,
        }
    }
}

/// What tiles and halos down to a tap are rounded to, in pixels: the poolings' windows, and four positions of the deepest
/// map, since Winograd's tiles of 4x4 outputs round differently when they shift, which may flip a maximum.
pub fn grid(deepest: Tap) -> usize {
    4 << deepest.level()
}

/// Cuts a picture into tiles that own at most `tile` x `tile` pixels each; `None` makes one tile of the whole.
/// `radius` is the deepest tap's, `step` 2^poolings down to it, `grid` a multiple of it, better [`grid()`]. Tiles and the
/// halos before them are rounded up to the grid; the halos after them, where no map begins, to the step.
pub fn tiles(height: usize, width: usize, tile: Option<usize>, radius: usize, [step, grid]: [usize; 2]) -> Vec<Tile> {
    let [halo_before, halo_after] = [radius.next_multiple_of(grid), radius.next_multiple_of(step)];
    let edge = tile.unwrap_or(usize::MAX >> 1).max(1).checked_next_multiple_of(grid).unwrap_or(usize::MAX >> 1);
    let spans = |size: usize| {
        (0..size.div_ceil(edge)).map(move |i| {
            let (begin, end) = (i * edge, (i + 1).saturating_mul(edge).min(size));
            (begin, end, begin.saturating_sub(halo_before), end.saturating_add(halo_after).min(size))
        })
    };
    let mut tiles = Vec::new();
    for (top, bottom, area_top, area_bottom) in spans(height) {
        for (left, right, area_left, area_right) in spans(width) {
            tiles.push(Tile {
                area: Rect {
                    top: area_top,
                    left: area_left,
                    height: area_bottom - area_top,
                    width: area_right - area_left,
                },
                owned: Rect { top, left, height: bottom - top, width: right - left },
            });
        }
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_positions_cover_every_map_once() {
        for (height, width, tile, radius, grid) in
            [(149, 101, 32, 14, 4), (1, 1, 16, 2, 1), (67, 43, 48, 22, 4), (224, 224, 64, 38, 8), (31, 97, 16, 70, 16)]
        {
            let tiles = tiles(height, width, Some(tile), radius, [grid; 2]);
            let levels = grid.trailing_zeros() as usize;
            for level in 0..=levels {
                let (map_height, map_width) = (height.div_ceil(1 << level), width.div_ceil(1 << level));
                let mut owners = vec![0; map_height * map_width];
                for region in tiles.iter().map(|tile| tile.region(level)) {
                    assert!(region.owned.top + region.owned.height <= region.height);
                    assert!(region.owned.left + region.owned.width <= region.width);
                    for y in 0..region.owned.height {
                        for x in 0..region.owned.width {
                            owners[(region.top + y) * map_width + region.left + x] += 1;
                        }
                    }
                }
                assert!(owners.iter().all(|&count| count == 1), "{height}x{width} tile {tile} level {level}");
            }
        }
    }

    #[test]
    fn a_picture_that_fits_is_one_tile_without_halo() {
        let whole = Rect::whole(149, 101);
        assert_eq!(tiles(149, 101, None, 14, [4, 4]), [Tile { area: whole, owned: whole }]);
        assert_eq!(tiles(149, 101, Some(152), 14, [4, 16]), [Tile { area: whole, owned: whole }]);
    }
}
