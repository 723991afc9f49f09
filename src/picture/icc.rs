//! ICC profiles: from a picture's colours to sRGB, and the profile that says sRGB.

use std::sync::{Arc, OnceLock};

use moxcms::{
    ColorProfile, DataColorSpace, InterpolationMethod, Layout, LutStore, LutWarehouse, ProfileVersion, RenderingIntent,
    Transform16BitExecutor, TransformOptions,
};

/// Profiles larger than this are left aside; those of printing presses have 1 to 3 MB.
const MAX_PROFILE: usize = 64 << 20;

/// What a picture's channels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Grey,
    Rgb,
    /// Cyan, magenta, yellow, black; 0 for no ink.
    Inks,
}

/// From a picture's colours to sRGB, in 16 bits.
pub(super) struct Transform {
    executor: Arc<Transform16BitExecutor>,
    /// Channels that the profile has.
    channels: usize,
    /// A sample of the picture is given so many times: a grey picture may have an RGB profile.
    repeat: usize,
}

impl Transform {
    /// `None` where the colours may stay as they are: the profile moves none of them by more than half a level.
    ///
    /// # Errors
    /// For a profile that cannot be read, or is not for such a picture.
    pub(super) fn new(profile: &[u8], kind: Kind) -> Result<Option<Transform>, moxcms::CmsError> {
        if profile.len() > MAX_PROFILE {
            return Err(moxcms::CmsError::InvalidProfile);
        }
        let mut profile = ColorProfile::new_from_slice(profile)?;
        widen_tables(&mut profile);
        let (layout, repeat) = match (kind, profile.color_space) {
            (Kind::Grey, DataColorSpace::Gray) => (Layout::Gray, 1),
            (Kind::Grey, DataColorSpace::Rgb) => (Layout::Rgb, 3),
            (Kind::Rgb, DataColorSpace::Rgb) => (Layout::Rgb, 1),
            (Kind::Inks, DataColorSpace::Cmyk) => (Layout::Rgba, 1),
            _ => return Err(moxcms::CmsError::InvalidProfile),
        };
        let options = TransformOptions {
            rendering_intent: RenderingIntent::Perceptual,
            allow_use_cicp_transfer: false,
            prefer_fixed_point: false,
            interpolation_method: InterpolationMethod::Linear,
            ..TransformOptions::default()
        };
        let executor = profile.create_transform_16bit(layout, &ColorProfile::new_srgb(), Layout::Rgb, options)?;
        let transform = Transform { executor, channels: layout.channels(), repeat };
        Ok((kind == Kind::Inks || transform.moves(kind)).then_some(transform))
    }

    /// Whether any of a grid of colours moves by more than half a level.
    fn moves(&self, kind: Kind) -> bool {
        let steps = || (0..=16u8).map(|step| f32::from(step) * 255.0 / 16.0);
        let (colors, same): (Vec<f32>, Vec<f32>) = match kind {
            Kind::Grey => {
                let greys: Vec<f32> = (0..=255u8).map(f32::from).collect();
                (greys.clone(), greys.iter().flat_map(|grey| [*grey; 3]).collect())
            }
            Kind::Rgb | Kind::Inks => {
                let grid = steps().flat_map(|r| steps().flat_map(move |g| steps().flat_map(move |b| [r, g, b])));
                let grid: Vec<f32> = grid.collect();
                (grid.clone(), grid)
            }
        };
        let mut found = Vec::new();
        self.extend(&colors, &mut Default::default(), &mut found);
        found.len() != same.len() || found.iter().zip(&same).any(|(found, same)| (found - same).abs() > 0.5)
    }

    /// Appends to `rgb` the colours of `samples`, which are in 0..=255 as `rgb` is. `room` is scratch space.
    pub(super) fn extend(&self, samples: &[f32], room: &mut (Vec<u16>, Vec<u16>), rgb: &mut Vec<f32>) {
        let (from, to) = room;
        from.clear();
        let word = |v: &f32| std::iter::repeat_n((v * 257.0).round() as u16, self.repeat);
        from.extend(samples.iter().flat_map(word));
        let channels = self.channels;
        to.clear();
        to.resize(from.len() / channels * 3, 0);
        // The only error is of lengths that do not fit each other.
        let _ = self.executor.transform(from, to);
        rgb.extend(to.iter().map(|v| f32::from(*v) / 257.0));
    }
}

/// Makes tables of 8 bits such of 16. In profiles before version 4, Lab's white is 255 in the one and 0xff00 in the other;
/// moxcms takes it for 0xff00 in both, which is off by two levels.
fn widen_tables(profile: &mut ColorProfile) {
    if profile.version() >= ProfileVersion::V4_0 || profile.pcs != DataColorSpace::Lab {
        return;
    }
    let tables =
        [&mut profile.lut_a_to_b_perceptual, &mut profile.lut_a_to_b_colorimetric, &mut profile.lut_a_to_b_saturation];
    for table in tables.into_iter().flatten() {
        if let LutWarehouse::Lut(lut) = table {
            for (part, factor) in
                [(&mut lut.input_table, 257), (&mut lut.clut_table, 257), (&mut lut.output_table, 256)]
            {
                if let LutStore::Store8(values) = part {
                    *part = LutStore::Store16(values.iter().map(|v| u16::from(*v) * factor).collect());
                }
            }
        }
    }
}

/// An ICC profile that says sRGB.
pub(super) fn srgb() -> &'static [u8] {
    static PROFILE: OnceLock<Vec<u8>> = OnceLock::new();
    PROFILE.get_or_init(|| {
        // Its tag for video signals says less than the curves do, and some readers do not know it.
        let mut profile = ColorProfile::new_srgb();
        profile.cicp = None;
        let mut bytes = profile.encode().unwrap_or_default();
        // The encoder's clock has no place in a file that is to be the same on every day.
        if let Some(date) = bytes.get_mut(24..36) {
            date.copy_from_slice(&[0x07, 0xea, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
        }
        bytes
    })
}
