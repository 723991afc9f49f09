//! What the first convolution sees beyond the picture's edge.
//!
//! Zeros after the mean was subtracted are a frame of the mean colour: a loss can be lowered by painting against it, and
//! pictures get a rim. With the outermost pixels repeated there is no frame. A tile repeats its own outermost pixels,
//! inside the picture as well: what that reaches lies in the tile's halo, which counts nowhere.

use crate::error::Result;
use crate::net::bands::Bands;
use crate::net::maps::Maps;
use crate::net::plan::Workspace;
use crate::ops::Rect;
use crate::recording::{Recording, Tensor};

/// How the first convolution's input goes on beyond the picture's edge. Deeper layers see zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edge {
    /// The mean colour.
    #[default]
    Zero,
    /// The nearest pixel.
    Replicate,
}

impl Edge {
    /// Pixels that a tile's input has beyond the tile on every side.
    pub(super) fn width(self) -> usize {
        match self {
            Edge::Zero => 0,
            Edge::Replicate => 1,
        }
    }

    /// Records a tile's input: the picture's rectangle and what lies around it.
    pub(super) fn gather(self, recording: &mut Recording, image: &Bands, area: Rect, input: &Tensor) -> Result<()> {
        self.pieces(area)
            .into_iter()
            .try_for_each(|(from, top, left)| image.gather(recording, "tile in", from, (input, top, left)))
    }

    /// Records the gradient of a tile's input added into the picture's.
    pub(super) fn add(self, recording: &mut Recording, d_image: &Bands, d_input: &Tensor, area: Rect) -> Result<()> {
        self.pieces(area)
            .into_iter()
            .try_for_each(|(to, top, left)| d_image.add(recording, "tile out", (d_input, top, left), to))
    }

    /// Rectangles of the picture that a tile's input is made of, and where each lies in it: one, or nine.
    fn pieces(self, area: Rect) -> Vec<(Rect, usize, usize)> {
        if self == Edge::Zero {
            return vec![(area, 0, 0)];
        }
        let spans = |begin: usize, len: usize| [(begin, len, 1), (begin, 1, 0), (begin + len - 1, 1, len + 1)];
        let rows = spans(area.top, area.height);
        rows.into_iter()
            .flat_map(|(top, height, to_top)| {
                let columns = spans(area.left, area.width);
                columns.map(|(left, width, to_left)| (Rect { top, left, height, width }, to_top, to_left))
            })
            .collect()
    }

    /// Records the first activation without what lies around the tile, and gives the other back.
    pub(super) fn crop(
        self,
        maps: &Maps,
        work: &mut Workspace,
        recording: &mut Recording,
        map: Tensor,
    ) -> Result<Tensor> {
        if self == Edge::Zero {
            return Ok(map);
        }
        let [height, width, channels] = maps.size(&map);
        let inner = Rect { top: 1, left: 1, height: height - 2, width: width - 2 };
        let cropped = maps.take(work, "feature", [inner.height, inner.width, channels]);
        maps.copy(recording, "crop", (&map, inner), (&cropped, 0, 0))?;
        work.give(map);
        Ok(cropped)
    }

    /// Records the gradient of [`Edge::crop`]: zeros around the tile.
    pub(super) fn uncrop(
        self,
        maps: &Maps,
        work: &mut Workspace,
        recording: &mut Recording,
        d_map: Tensor,
    ) -> Result<Tensor> {
        if self == Edge::Zero {
            return Ok(d_map);
        }
        let [height, width, channels] = maps.size(&d_map);
        let whole = maps.take(work, "d_feature", [height + 2, width + 2, channels]);
        recording.clear(whole.buffer);
        maps.copy(recording, "crop", (&d_map, Rect::whole(height, width)), (&whole, 1, 1))?;
        work.give(d_map);
        Ok(whole)
    }
}
