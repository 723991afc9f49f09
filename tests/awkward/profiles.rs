//! ICC profiles written by hand, and what they mean, computed here in double precision.

type Matrix = [[f64; 3]; 3];

fn apply(a: &Matrix, x: [f64; 3]) -> [f64; 3] {
    [0, 1, 2].map(|i| (0..3).map(|k| a[i][k] * x[k]).sum())
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

/// By Gauss and Jordan.
fn inverse(a: &Matrix) -> Matrix {
    let mut a = *a;
    let mut b = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for i in 0..3 {
        let pivot = (i..3).max_by(|p, q| a[*p][i].abs().total_cmp(&a[*q][i].abs())).unwrap();
        a.swap(i, pivot);
        b.swap(i, pivot);
        let scale = a[i][i];
        (0..3).for_each(|k| (a[i][k], b[i][k]) = (a[i][k] / scale, b[i][k] / scale));
        for r in (0..3).filter(|r| *r != i) {
            let factor = a[r][i];
            (0..3).for_each(|k| (a[r][k], b[r][k]) = (a[r][k] - factor * a[i][k], b[r][k] - factor * b[i][k]));
        }
    }
    b
}

fn xyz([x, y]: [f64; 2]) -> [f64; 3] {
    [x / y, 1.0, (1.0 - x - y) / y]
}

/// From linear RGB with these primaries and white D65 to XYZ as profiles have it: adapted to D50 after Bradford.
fn to_d50(primaries: [[f64; 2]; 3]) -> Matrix {
    let columns = primaries.map(xyz);
    let transposed = |m: [[f64; 3]; 3]| [0, 1, 2].map(|i| [0, 1, 2].map(|j| m[j][i]));
    let raw = transposed(columns);
    let white = xyz([0.3127, 0.3290]);
    let gains = apply(&inverse(&raw), white);
    let d65 = raw.map(|row| [row[0] * gains[0], row[1] * gains[1], row[2] * gains[2]]);
    let bradford = [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]];
    let (from, to) = (apply(&bradford, white), apply(&bradford, D50));
    let scaled = [0, 1, 2].map(|i| bradford[i].map(|v| v * to[i] / from[i]));
    product(&product(&inverse(&bradford), &scaled), &d65)
}

const D50: [f64; 3] = [0.9642, 1.0, 0.8249];
const SRGB: [[f64; 2]; 3] = [[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]];
const P3: [[f64; 2]; 3] = [[0.680, 0.320], [0.265, 0.690], [0.150, 0.060]];
const ADOBE: [[f64; 2]; 3] = [[0.64, 0.33], [0.21, 0.71], [0.15, 0.06]];

/// From XYZ (D50) to sRGB in 0..=255, clipped.
fn srgb_of(xyz: [f64; 3]) -> [f64; 3] {
    apply(&inverse(&to_d50(SRGB)), xyz).map(|v| {
        let v = v.clamp(0.0, 1.0);
        255.0 * if v > 0.0031308 { 1.055 * v.powf(1.0 / 2.4) - 0.055 } else { 12.92 * v }
    })
}

fn srgb_curve(v: f64) -> f64 {
    if v > 0.04045 { ((v + 0.055) / 1.055).powf(2.4) } else { v / 12.92 }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Profile {
    Srgb,
    DisplayP3,
    AdobeRgb,
    /// sRGB, but what is called red is green, green is blue, blue is red.
    Swapped,
    /// Grey of this gamma.
    Grey(f64),
    /// Inks: Lab's axes are linear in them.
    Cmyk,
}

impl Profile {
    /// sRGB of a colour, both in 0..=255.
    pub(crate) fn srgb(self, samples: &[f64]) -> [f64; 3] {
        let unit = |i: usize| samples[i] / 255.0;
        let rgb = |primaries, curve: &dyn Fn(f64) -> f64| {
            srgb_of(apply(&to_d50(primaries), [0, 1, 2].map(|i| curve(unit(i)))))
        };
        match self {
            Profile::Srgb => rgb(SRGB, &srgb_curve),
            Profile::DisplayP3 => rgb(P3, &srgb_curve),
            Profile::AdobeRgb => rgb(ADOBE, &|v| v.powf(563.0 / 256.0)),
            Profile::Swapped => [samples[2], samples[0], samples[1]],
            Profile::Grey(gamma) => srgb_of(D50.map(|white| white * unit(0).powf(gamma))),
            Profile::Cmyk => {
                let lab = lab_of_inks([0, 1, 2, 3].map(unit));
                let [l, a, b] = [lab[0] / 255.0 * 100.0, lab[1] - 128.0, lab[2] - 128.0];
                let y = (l + 16.0) / 116.0;
                let f = [y + a / 500.0, y, y - b / 200.0];
                srgb_of([0, 1, 2].map(|i| {
                    let t: f64 = f[i];
                    D50[i] * if t > 6.0 / 29.0 { t.powi(3) } else { 3.0 * (6.0f64 / 29.0).powi(2) * (t - 4.0 / 29.0) }
                }))
            }
        }
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let columns = |m: Matrix, order: [usize; 3]| {
            order.map(|j| [0, 1, 2].map(|i| ((m[i][j] * 65536.0).round() as i32).to_be_bytes()).concat())
        };
        // Parametric, type 3: the curve of IEC 61966-2-1.
        let curve: Vec<u8> = [2.4, 1.0 / 1.055, 0.055 / 1.055, 1.0 / 12.92, 0.04045]
            .iter()
            .flat_map(|v: &f64| ((v * 65536.0).round() as i32).to_be_bytes())
            .collect();
        let srgb = [b"para\0\0\0\0\0\x03\0\0".as_slice(), &curve].concat();
        let gamma =
            |v: f64| [b"curv\0\0\0\0\0\0\0\x01".as_slice(), &((v * 256.0).round() as u16).to_be_bytes()].concat();
        match self {
            Profile::Srgb => rgb_profile(columns(to_d50(SRGB), [0, 1, 2]), &srgb),
            Profile::DisplayP3 => rgb_profile(columns(to_d50(P3), [0, 1, 2]), &srgb),
            Profile::AdobeRgb => rgb_profile(columns(to_d50(ADOBE), [0, 1, 2]), &gamma(563.0 / 256.0)),
            Profile::Swapped => rgb_profile(columns(to_d50(SRGB), [1, 2, 0]), &srgb),
            Profile::Grey(value) => profile(b"GRAY", b"XYZ ", b"mntr", &[(b"kTRC", gamma(value))]),
            Profile::Cmyk => profile(b"CMYK", b"Lab ", b"prtr", &[(b"A2B0", inks_to_lab())]),
        }
    }
}

fn rgb_profile([red, green, blue]: [Vec<u8>; 3], curve: &[u8]) -> Vec<u8> {
    let point = |bytes: Vec<u8>| [b"XYZ \0\0\0\0".to_vec(), bytes].concat();
    let tags: [(&[u8; 4], Vec<u8>); 6] = [
        (b"rXYZ", point(red)),
        (b"gXYZ", point(green)),
        (b"bXYZ", point(blue)),
        (b"rTRC", curve.to_vec()),
        (b"gTRC", curve.to_vec()),
        (b"bTRC", curve.to_vec()),
    ];
    profile(b"RGB ", b"XYZ ", b"mntr", &tags)
}

/// Lab in 8 bits as old profiles have it, linear in the inks: any interpolation gives the same.
fn lab_of_inks([c, m, y, k]: [f64; 4]) -> [f64; 3] {
    [
        255.0 - 60.0 * c - 80.0 * m - 20.0 * y - 90.0 * k,
        128.0 - 40.0 * c + 50.0 * m - 5.0 * y,
        128.0 - 30.0 * c - 10.0 * m + 60.0 * y,
    ]
}

/// A table of two points an ink, with straight curves on both sides.
fn inks_to_lab() -> Vec<u8> {
    let mut out = b"mft1\0\0\0\0\x04\x03\x02\0".to_vec();
    let identity: [[u8; 4]; 9] = [1, 0, 0, 0, 1, 0, 0, 0, 1].map(|v: i32| (v * 65536).to_be_bytes());
    out.extend(identity.concat());
    (0..4).for_each(|_| out.extend(0..=255u8));
    for node in 0..16u8 {
        // The first ink changes slowest.
        let inks = [3, 2, 1, 0].map(|bit| f64::from(node >> bit & 1));
        out.extend(lab_of_inks(inks).map(|v| v as u8));
    }
    (0..3).for_each(|_| out.extend(0..=255u8));
    out
}

fn profile(space: &[u8; 4], connection: &[u8; 4], class: &[u8; 4], tags: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let text = |key: &[u8; 4], text: &str| {
        // Both versions' ways of saying it.
        let mut out = key.to_vec();
        out.extend([0; 4]);
        if key == b"desc" {
            out.extend((text.len() as u32 + 1).to_be_bytes());
            out.extend(text.bytes());
            out.extend([0; 1 + 8 + 3 + 67]);
        } else {
            out.extend(text.bytes());
            out.push(0);
        }
        out
    };
    let white: Vec<u8> = D50.iter().flat_map(|v| ((v * 65536.0).round() as i32).to_be_bytes()).collect();
    let mut all: Vec<(&[u8; 4], Vec<u8>)> = vec![
        (b"desc", text(b"desc", "made by a test")),
        (b"cprt", text(b"text", "none")),
        (b"wtpt", [b"XYZ \0\0\0\0".to_vec(), white.clone()].concat()),
    ];
    all.extend(tags.iter().map(|(name, data)| (*name, data.clone())));
    let mut data = Vec::new();
    let mut table = (all.len() as u32).to_be_bytes().to_vec();
    let start = 128 + 4 + 12 * all.len();
    for (name, bytes) in &all {
        table.extend(*name);
        table.extend((start as u32 + data.len() as u32).to_be_bytes());
        table.extend((bytes.len() as u32).to_be_bytes());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(4), 0);
    }
    let mut header = vec![0; 128];
    let size = (start + data.len()) as u32;
    header[..4].copy_from_slice(&size.to_be_bytes());
    // Parametric curves came with version 4, this description went with it: 2.4 reads both.
    header[8..12].copy_from_slice(&[2, 0x40, 0, 0]);
    header[12..16].copy_from_slice(class);
    header[16..20].copy_from_slice(space);
    header[20..24].copy_from_slice(connection);
    header[24..36].copy_from_slice(&[7, 0xea, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    header[36..40].copy_from_slice(b"acsp");
    header[68..80].copy_from_slice(&white);
    [header, table, data].concat()
}
