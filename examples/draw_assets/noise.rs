//! Hashes, smooth noise and the shaping functions used by both pictures.

/// Small deterministic generator (splitmix64), one per thing drawn, so that
/// changing one thing leaves the others as they were.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..1`.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Uniform in `low..high`.
    pub(crate) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Bell-shaped, centred on 0, within -1..1.
    pub(crate) fn bell(&mut self) -> f32 {
        (self.unit() + self.unit() + self.unit()) * (2.0 / 3.0) - 1.0
    }

    /// A fresh seed for something drawn later.
    pub(crate) fn seed(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }
}

/// Uniform in `0..1`, a pure function of a lattice point and a seed.
pub(crate) fn hash(x: i32, y: i32, seed: u32) -> f32 {
    let mut h = seed ^ (x as u32).wrapping_mul(0x85eb_ca6b) ^ (y as u32).wrapping_mul(0xc2b2_ae35);
    h = (h ^ (h >> 16)).wrapping_mul(0x7feb_352d);
    h = (h ^ (h >> 15)).wrapping_mul(0x846c_a68b);
    h ^= h >> 16;
    (h >> 8) as f32 / (1u32 << 24) as f32
}

/// Smooth value noise in `0..1` with features of size 1.
pub(crate) fn value(x: f32, y: f32, seed: u32) -> f32 {
    let (x0, y0) = (x.floor(), y.floor());
    let (ix, iy) = (x0 as i32, y0 as i32);
    let fade = |t: f32| t * t * t * (t * (t * 6.0 - 15.0) + 10.0);
    let (fx, fy) = (fade(x - x0), fade(y - y0));
    let top = lerp(hash(ix, iy, seed), hash(ix + 1, iy, seed), fx);
    let low = lerp(hash(ix, iy + 1, seed), hash(ix + 1, iy + 1, seed), fx);
    lerp(top, low, fy)
}

/// Fractal noise, about `0..1`. Each octave is turned a little so that the
/// lattice does not show as horizontal and vertical streaks.
pub(crate) fn fbm(x: f32, y: f32, octaves: u32, seed: u32) -> f32 {
    let (mut x, mut y) = (x, y);
    let (mut sum, mut total, mut weight) = (0.0, 0.0, 1.0);
    for octave in 0..octaves {
        sum += weight * value(x, y, seed.wrapping_add(octave.wrapping_mul(101)));
        total += weight;
        weight *= 0.5;
        (x, y) = (1.62 * x + 1.21 * y + 3.7, -1.21 * x + 1.62 * y + 1.3);
    }
    sum / total
}

/// Fractal noise with sharp crests, about `0..1`: mountains.
pub(crate) fn ridged(x: f32, y: f32, octaves: u32, seed: u32) -> f32 {
    let (mut x, mut y) = (x, y);
    let (mut sum, mut total, mut weight) = (0.0, 0.0, 1.0);
    for octave in 0..octaves {
        let n = value(x, y, seed.wrapping_add(octave.wrapping_mul(211)));
        sum += weight * (1.0 - (2.0 * n - 1.0).abs());
        total += weight;
        weight *= 0.52;
        (x, y) = (1.62 * x + 1.21 * y + 5.1, -1.21 * x + 1.62 * y + 2.9);
    }
    sum / total
}

pub(crate) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// 0 below `low`, 1 above `high`, smooth between; `low > high` falls instead.
pub(crate) fn smooth(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A bump of height 1 and the given width around 0.
pub(crate) fn bump(x: f32, width: f32) -> f32 {
    (-(x / width) * (x / width)).exp()
}
