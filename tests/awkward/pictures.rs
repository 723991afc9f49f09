//! The awkward pictures: files and what they have to come out as, by the formulas of the formats' own standards.

use crate::containers::{Jpeg, Png, Tiff, exif, riff, three, vp8l, vp8x};
use crate::profiles::Profile;

/// A file, and what is expected of it.
pub(crate) struct Awkward {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Expected,
}

pub(crate) enum Expected {
    /// A picture: what it looks like over white, and its opacity, if it has one.
    Picture(Shown),
    /// An error that says so.
    Refused(&'static str),
}

pub(crate) struct Shown {
    pub(crate) size: [usize; 2],
    pub(crate) rgb: Vec<f64>,
    pub(crate) alpha: Option<Vec<f64>>,
    pub(crate) notes: usize,
}

/// Colours of a grid of cells, without symmetry: 6 by 4 of them, all corners of the cube among them.
const CELLS: [usize; 2] = [6, 4];

fn cell(x: usize, y: usize) -> [u8; 3] {
    let corner = |bit: usize| if (x + y * 6) >> bit & 1 == 1 { 255 } else { 0 };
    match x + y * 6 {
        0..8 => [corner(0), corner(1), corner(2)],
        n => [(n * 37 % 256) as u8, (n * 91 % 256) as u8, (n * 53 % 256) as u8],
    }
}

fn cells() -> Vec<[u8; 3]> {
    (0..CELLS[0] * CELLS[1]).map(|n| cell(n % CELLS[0], n / CELLS[0])).collect()
}

fn shown(size: [usize; 2], pixels: &[[f64; 3]]) -> Shown {
    Shown { size, rgb: pixels.concat(), alpha: None, notes: 0 }
}

fn plain(pixels: &[[u8; 3]]) -> Vec<[f64; 3]> {
    pixels.iter().map(|pixel| pixel.map(f64::from)).collect()
}

/// Every pixel `n` times in both directions.
fn enlarged(size: [usize; 2], pixels: &[[f64; 3]], n: usize) -> ([usize; 2], Vec<[f64; 3]>) {
    let [width, height] = [size[0] * n, size[1] * n];
    ([width, height], (0..width * height).map(|i| pixels[i / width / n * size[0] + i % width / n]).collect())
}

/// A stored picture as it is to be shown: for each shown place, the stored one.
fn turned([w, h]: [usize; 2], pixels: &[[f64; 3]], orientation: u16) -> ([usize; 2], Vec<[f64; 3]>) {
    let size = if orientation < 5 { [w, h] } else { [h, w] };
    let stored = |x: usize, y: usize| match orientation {
        2 => (w - 1 - x, y),
        3 => (w - 1 - x, h - 1 - y),
        4 => (x, h - 1 - y),
        5 => (y, x),
        6 => (y, h - 1 - x),
        7 => (w - 1 - y, h - 1 - x),
        8 => (w - 1 - y, x),
        _ => (x, y),
    };
    let pixel = |i: usize| {
        let (x, y) = stored(i % size[0], i / size[0]);
        pixels[y * w + x]
    };
    (size, (0..w * h).map(pixel).collect())
}

/// JFIF's YCbCr, rounded, and the colour that it stands for.
fn ycc([r, g, b]: [u8; 3]) -> ([u8; 3], [f64; 3]) {
    let [r, g, b] = [r, g, b].map(f64::from);
    let y = 0.299 * r + 0.587 * g + 0.114 * b;
    let [y, cb, cr] = [y, 128.0 + (b - y) / 1.772, 128.0 + (r - y) / 1.402].map(|v| v.round().clamp(0.0, 255.0));
    let green = (y - 0.299 * (y + 1.402 * (cr - 128.0)) - 0.114 * (y + 1.772 * (cb - 128.0))) / 0.587;
    let back = [y + 1.402 * (cr - 128.0), green, y + 1.772 * (cb - 128.0)];
    ([y as u8, cb as u8, cr as u8], back.map(|v| v.clamp(0.0, 255.0)))
}

/// Inks of a cell: three from its colour, black from its place.
fn inks() -> Vec<[u8; 4]> {
    cells().iter().enumerate().map(|(n, [c, m, y])| [*c, *m, *y, (n * 9 % 200) as u8]).collect()
}

fn on_paper(inks: [f64; 4]) -> [f64; 3] {
    [0, 1, 2].map(|i| (255.0 - inks[i]) * (255.0 - inks[3]) / 255.0)
}

const SIZE: [u32; 2] = [CELLS[0] as u32, CELLS[1] as u32];

fn big_endian(values: impl IntoIterator<Item = u16>) -> Vec<u8> {
    values.into_iter().flat_map(u16::to_be_bytes).collect()
}

/// The list.
pub(crate) fn all() -> Vec<Awkward> {
    let mut list = List(Vec::new());
    list.orientations();
    list.jpegs();
    list.pngs();
    list.transparent_pngs();
    list.tiffs();
    list.webps();
    list.extreme();
    list.broken();
    list.0
}

struct List(Vec<Awkward>);

impl List {
    fn add(&mut self, name: impl Into<String>, bytes: Vec<u8>, shown: Shown) {
        self.0.push(Awkward { name: name.into(), bytes, expected: Expected::Picture(shown) });
    }

    fn refuse(&mut self, name: &str, bytes: Vec<u8>, what: &'static str) {
        self.0.push(Awkward { name: name.into(), bytes, expected: Expected::Refused(what) });
    }

    fn orientations(&mut self) {
        let (rgb, flat) = (cells(), cells().concat());
        for orientation in 1..=8u16 {
            let little = orientation % 2 == 0;
            let (size, pixels) = turned(CELLS, &plain(&rgb), orientation);
            let exif = exif(orientation, little);
            let png = Png::new(SIZE, 8, 2, flat.clone()).with(b"eXIf", exif.clone());
            self.add(format!("orientation_{orientation}.png"), png.bytes(), shown(size, &pixels));
            let mut tiff = Tiff::new(SIZE, 3, 8, 2, flat.clone()).with(274, &[orientation.into()], 3);
            tiff.little = little;
            self.add(format!("orientation_{orientation}.tif"), tiff.bytes(), shown(size, &pixels));
            let webp =
                riff(&[(b"VP8X", vp8x(0x08, SIZE)), (b"VP8L", vp8l(SIZE, &flat, false)), (b"EXIF", exif.clone())]);
            self.add(format!("orientation_{orientation}.webp"), webp, shown(size, &pixels));
            let both: Vec<_> = rgb.iter().map(|pixel| ycc(*pixel)).collect();
            let jpeg = Jpeg::new(CELLS, both.iter().map(|both| both.0.to_vec()).collect());
            let (size, pixels) = enlarged(CELLS, &both.iter().map(|both| both.1).collect::<Vec<_>>(), 8);
            let (size, pixels) = turned(size, &pixels, orientation);
            let jpeg = jpeg.oriented(orientation, little).bytes();
            self.add(format!("orientation_{orientation}.jpg"), jpeg, shown(size, &pixels));
        }
    }

    fn jpegs(&mut self) {
        let rgb = cells();
        let large = |pixels: Vec<[f64; 3]>| {
            let (size, pixels) = enlarged(CELLS, &pixels, 8);
            shown(size, &pixels)
        };
        let three = |pixels: &[[u8; 3]]| Jpeg::new(CELLS, pixels.iter().map(|pixel| pixel.to_vec()).collect());
        let of_rgb = |profile: Profile| rgb.iter().map(|p| profile.srgb(&p.map(f64::from))).collect::<Vec<_>>();
        self.add("rgb.jpg", three(&rgb).adobe(0).bytes(), large(plain(&rgb)));
        let both: Vec<_> = rgb.iter().map(|pixel| ycc(*pixel)).collect();
        let (values, backs): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        self.add("ycc_adobe.jpg", three(&values).adobe(1).bytes(), large(backs));
        let grey: Vec<u8> = (0..24).map(|n| n * 11).collect();
        let one = || Jpeg::new(CELLS, grey.iter().map(|v| vec![*v]).collect());
        self.add("grey.jpg", one().bytes(), large(grey.iter().map(|v| [f64::from(*v); 3]).collect()));
        for gamma in [1.0, 1.8] {
            let profile = Profile::Grey(gamma);
            let looks = grey.iter().map(|v| profile.srgb(&[f64::from(*v)])).collect();
            self.add(format!("grey_gamma_{gamma}.jpg"), one().profile(&profile.bytes(), 1).bytes(), large(looks));
        }
        let profiles = [
            ("srgb", Profile::Srgb, 1),
            ("p3", Profile::DisplayP3, 1),
            ("adobe", Profile::AdobeRgb, 3),
            ("swapped", Profile::Swapped, 2),
        ];
        for (name, profile, parts) in profiles {
            let bytes = three(&rgb).adobe(0).profile(&profile.bytes(), parts).bytes();
            self.add(format!("{name}.jpg"), bytes, large(of_rgb(profile)));
        }
        let (size, pixels) = enlarged(CELLS, &of_rgb(Profile::DisplayP3), 8);
        let (size, pixels) = turned(size, &pixels, 7);
        let bytes = three(&rgb).adobe(0).oriented(7, true).profile(&Profile::DisplayP3.bytes(), 1).bytes();
        self.add("p3_orientation_7.jpg", bytes, shown(size, &pixels));
        let inks = inks();
        let stored =
            |f: &dyn Fn([u8; 4]) -> [u8; 4]| Jpeg::new(CELLS, inks.iter().map(|pixel| f(*pixel).to_vec()).collect());
        // Inverted, as all of them are.
        let cmyk = || stored(&|pixel| pixel.map(|v| 255 - v));
        let looks: Vec<_> = inks.iter().map(|pixel| on_paper(pixel.map(f64::from))).collect();
        let printed: Vec<_> = inks.iter().map(|pixel| Profile::Cmyk.srgb(&pixel.map(f64::from))).collect();
        self.add("cmyk.jpg", cmyk().bytes(), large(looks.clone()));
        self.add("cmyk_adobe.jpg", cmyk().adobe(0).bytes(), large(looks));
        let press = Profile::Cmyk.bytes();
        self.add("cmyk_profile.jpg", cmyk().adobe(0).profile(&press, 2).bytes(), large(printed));
        // YCbCr of the three inks themselves, black inverted.
        let ycck = || {
            stored(&|[c, m, y, k]| {
                let [a, b, d] = ycc([c, m, y]).0;
                [a, b, d, 255 - k]
            })
        };
        let back = |pixel: &[u8; 4]| {
            let [c, m, y] = ycc([pixel[0], pixel[1], pixel[2]]).1;
            [c, m, y, f64::from(pixel[3])]
        };
        self.add("ycck.jpg", ycck().adobe(2).bytes(), large(inks.iter().map(|p| on_paper(back(p))).collect()));
        let printed = inks.iter().map(|p| Profile::Cmyk.srgb(&back(p))).collect();
        self.add("ycck_profile.jpg", ycck().adobe(2).profile(&press, 1).bytes(), large(printed));
        // Profiles that are none, or for something else: colours as they are, and a note.
        for (name, profile) in [
            ("cut", Profile::DisplayP3.bytes()[..300].to_vec()),
            ("text", b"this is no profile".repeat(30)),
            ("for_inks", press.clone()),
            ("for_grey", Profile::Grey(1.0).bytes()),
        ] {
            let bytes = three(&rgb).adobe(0).profile(&profile, 1).bytes();
            self.add(format!("profile_{name}.jpg"), bytes, Shown { notes: 1, ..large(plain(&rgb)) });
        }
        self.add("wrong_extension.png", three(&rgb).adobe(0).bytes(), large(plain(&rgb)));
    }

    fn pngs(&mut self) {
        let flat = cells().concat();
        let whole = plain(&cells());
        let rgb = || Png::new(SIZE, 8, 2, flat.clone());
        for profile in [Profile::DisplayP3, Profile::AdobeRgb, Profile::Swapped] {
            let looks: Vec<_> = whole.iter().map(|pixel| profile.srgb(pixel)).collect();
            self.add(format!("{profile:?}.png"), rgb().profile(&profile.bytes()).bytes(), shown(CELLS, &looks));
        }
        let broken = rgb().with(b"iCCP", b"x\0\0no zlib".to_vec()).bytes();
        self.add("profile_no_zlib.png", broken, shown(CELLS, &whole));
        let text = rgb().profile(&b"no profile".repeat(50)).bytes();
        self.add("profile_text.png", text, Shown { notes: 1, ..shown(CELLS, &whole) });
        // Nothing but zeros, which take no room in the file and much outside.
        let bomb = rgb().profile(&vec![0; 40 << 20]).bytes();
        self.add("profile_bomb.png", bomb, Shown { notes: 1, ..shown(CELLS, &whole) });
        let deep: Vec<u16> = (0..72).map(|n| (n * 907 % 65536) as u16).collect();
        let looks = |profile: Option<Profile>| -> Vec<[f64; 3]> {
            let levels: Vec<[f64; 3]> =
                deep.as_chunks::<3>().0.iter().map(|pixel| pixel.map(|v| f64::from(v) / 257.0)).collect();
            profile.map_or(levels.clone(), |profile| levels.iter().map(|pixel| profile.srgb(pixel)).collect())
        };
        let sixteen = || Png::new(SIZE, 16, 2, big_endian(deep.clone()));
        self.add("deep.png", sixteen().bytes(), shown(CELLS, &looks(None)));
        let p3 = Profile::DisplayP3;
        self.add("deep_p3.png", sixteen().profile(&p3.bytes()).bytes(), shown(CELLS, &looks(Some(p3))));
        for bits in [1u8, 2, 4, 8] {
            let most = ((1u32 << bits) - 1) as u8;
            // 8 samples in a row fill whole bytes.
            let levels: Vec<u8> = (0..24u32).map(|n| (n * 7 / 3 % (u32::from(most) + 1)) as u8).collect();
            let each = usize::from(8 / bits);
            let packed = |levels: &[u8]| -> Vec<u8> {
                levels
                    .chunks(each)
                    .map(|some| some.iter().fold(0u8, |byte, v| byte.checked_shl(bits.into()).unwrap_or(0) | v))
                    .collect()
            };
            let raw: Vec<u8> = levels.chunks(8).flat_map(packed).collect();
            let greys: Vec<_> = levels.iter().map(|v| [f64::from(*v) * 255.0 / f64::from(most); 3]).collect();
            self.add(format!("grey_{bits}.png"), Png::new([8, 3], bits, 0, raw.clone()).bytes(), shown([8, 3], &greys));
            let entries = 1usize << bits;
            let palette: Vec<u8> = (0..entries * 3).map(|n| (n * 83 % 256) as u8).collect();
            let looks: Vec<_> =
                levels.iter().map(|v| [0, 1, 2].map(|i| f64::from(palette[usize::from(*v) * 3 + i]))).collect();
            let png = Png::new([8, 3], bits, 3, raw).with(b"PLTE", palette);
            self.add(format!("palette_{bits}.png"), png.bytes(), shown([8, 3], &looks));
        }
        let grey: Vec<u8> = (0..24).map(|n| n * 10).collect();
        let gamma = Profile::Grey(1.0);
        let linear: Vec<_> = grey.iter().map(|v| gamma.srgb(&[f64::from(*v)])).collect();
        let png = Png::new(SIZE, 8, 0, grey.clone()).profile(&gamma.bytes());
        self.add("grey_linear.png", png.bytes(), shown(CELLS, &linear));
        let through: Vec<_> = grey.iter().map(|v| Profile::AdobeRgb.srgb(&[f64::from(*v); 3])).collect();
        let png = Png::new(SIZE, 8, 0, grey).profile(&Profile::AdobeRgb.bytes());
        self.add("grey_with_rgb_profile.png", png.bytes(), shown(CELLS, &through));
        // Animated: the picture that readers show who know nothing of animations.
        let other = Png::new(SIZE, 8, 2, vec![99; 72]);
        let [width, height] = SIZE.map(u32::to_be_bytes);
        let control =
            |number: u32| [&number.to_be_bytes()[..], &width, &height, &[0; 8], &[0, 1, 0, 10, 0, 0]].concat();
        let mut animated =
            rgb().with(b"acTL", [2u32.to_be_bytes(), 0u32.to_be_bytes()].concat()).with(b"fcTL", control(0));
        animated.after.push((*b"fcTL", control(1)));
        animated.after.push((*b"fdAT", [2u32.to_be_bytes().to_vec(), other.data()].concat()));
        self.add("animated.png", animated.bytes(), shown(CELLS, &whole));
    }

    fn transparent_pngs(&mut self) {
        let rgb = plain(&cells());
        let seen = |colors: &[[f64; 3]], alpha: &[f64]| {
            let over = |(color, alpha): (&[f64; 3], &f64)| color.map(|v| v * alpha + 255.0 * (1.0 - alpha));
            let pixels: Vec<[f64; 3]> = colors.iter().zip(alpha).map(over).collect();
            Shown { alpha: Some(alpha.to_vec()), ..shown(CELLS, &pixels) }
        };
        let levels: Vec<u8> = (0..24).map(|n| n * 11).collect();
        let alpha: Vec<f64> = levels.iter().map(|v| f64::from(*v) / 255.0).collect();
        let rgba: Vec<u8> = cells().iter().zip(&levels).flat_map(|(rgb, a)| [rgb[0], rgb[1], rgb[2], *a]).collect();
        self.add("alpha.png", Png::new(SIZE, 8, 6, rgba.clone()).bytes(), seen(&rgb, &alpha));
        let p3: Vec<_> = rgb.iter().map(|pixel| Profile::DisplayP3.srgb(pixel)).collect();
        let png = Png::new(SIZE, 8, 6, rgba.clone()).profile(&Profile::DisplayP3.bytes());
        self.add("alpha_p3.png", png.bytes(), seen(&p3, &alpha));
        let deep = big_endian(rgba.iter().map(|v| u16::from(*v) * 257));
        self.add("alpha_16.png", Png::new(SIZE, 16, 6, deep).bytes(), seen(&rgb, &alpha));
        let grey: Vec<u8> = levels.iter().flat_map(|a| [255 - a / 2, *a]).collect();
        let greys: Vec<_> = levels.iter().map(|a| [f64::from(255 - a / 2); 3]).collect();
        self.add("grey_alpha.png", Png::new(SIZE, 8, 4, grey.clone()).bytes(), seen(&greys, &alpha));
        let deep = big_endian(grey.iter().map(|v| u16::from(*v) * 257));
        self.add("grey_alpha_16.png", Png::new(SIZE, 16, 4, deep).bytes(), seen(&greys, &alpha));
        let opaque: Vec<u8> = cells().iter().flat_map(|rgb| [rgb[0], rgb[1], rgb[2], 255]).collect();
        self.add("opaque_alpha.png", Png::new(SIZE, 8, 6, opaque).bytes(), shown(CELLS, &rgb));
        // A palette whose first entries are transparent, and single colours that are.
        let png = Png::new(SIZE, 8, 3, (0..24).collect());
        let png = png.with(b"PLTE", cells().concat()).with(b"tRNS", levels[..20].to_vec());
        let first: Vec<f64> = (0..24).map(|n| if n < 20 { alpha[n] } else { 1.0 }).collect();
        self.add("palette_alpha.png", png.bytes(), seen(&rgb, &first));
        let key: Vec<f64> = (0..24).map(|n| if n == 9 { 0.0 } else { 1.0 }).collect();
        let png = Png::new(SIZE, 8, 2, cells().concat()).with(b"tRNS", big_endian(cells()[9].map(u16::from)));
        self.add("rgb_key.png", png.bytes(), seen(&rgb, &key));
        let png = Png::new(SIZE, 8, 0, levels.clone()).with(b"tRNS", big_endian([99]));
        let greys: Vec<_> = levels.iter().map(|v| [f64::from(*v); 3]).collect();
        self.add("grey_key.png", png.bytes(), seen(&greys, &key));
        // WebP and TIFF have the same.
        let webp = riff(&[(b"VP8X", vp8x(0x10, SIZE)), (b"VP8L", vp8l(SIZE, &rgba, true))]);
        self.add("alpha.webp", webp, seen(&rgb, &alpha));
        let tiff = Tiff::new(SIZE, 4, 8, 2, rgba).with(338, &[2], 3);
        self.add("alpha.tif", tiff.bytes(), seen(&rgb, &alpha));
        let tiff = Tiff::new(SIZE, 2, 8, 1, grey).with(338, &[2], 3);
        let greys: Vec<_> = levels.iter().map(|a| [f64::from(255 - a / 2); 3]).collect();
        self.add("grey_alpha.tif", tiff.bytes(), seen(&greys, &alpha));
        // Colours that were multiplied with alpha before they were stored, in 16 bits and little-endian.
        let product = |v: u8, a: f64| ((f64::from(v) * a * 257.0).round() as u16).to_le_bytes();
        let multiplied: Vec<u8> = cells()
            .iter()
            .zip(&levels)
            .flat_map(|(rgb, a)| {
                let [r, g, b] = rgb.map(|v| product(v, f64::from(*a) / 255.0));
                [r, g, b, (u16::from(*a) * 257).to_le_bytes()].concat()
            })
            .collect();
        let tiff = Tiff::new(SIZE, 4, 16, 2, multiplied).with(338, &[1], 3);
        self.add("premultiplied.tif", tiff.bytes(), seen(&rgb, &alpha));
    }

    fn tiffs(&mut self) {
        let (rgb, flat) = (plain(&cells()), cells().concat());
        let deep: Vec<u16> = (0..72).map(|n| (n * 907 % 65536) as u16).collect();
        let looks: Vec<[f64; 3]> =
            deep.as_chunks::<3>().0.iter().map(|pixel| pixel.map(|v| f64::from(v) / 257.0)).collect();
        let mut tiff = Tiff::new(SIZE, 3, 16, 2, big_endian(deep));
        tiff.little = false;
        self.add("deep_big_endian.tif", tiff.bytes(), shown(CELLS, &looks));
        let adobe: Vec<_> = rgb.iter().map(|pixel| Profile::AdobeRgb.srgb(pixel)).collect();
        let tiff = Tiff::new(SIZE, 3, 8, 2, flat.clone()).profile(&Profile::AdobeRgb.bytes());
        self.add("adobe.tif", tiff.bytes(), shown(CELLS, &adobe));
        let inks = inks();
        let paper: Vec<_> = inks.iter().map(|pixel| on_paper(pixel.map(f64::from))).collect();
        let printed: Vec<_> = inks.iter().map(|pixel| Profile::Cmyk.srgb(&pixel.map(f64::from))).collect();
        let tiff = || Tiff::new(SIZE, 4, 8, 5, inks.concat());
        self.add("cmyk.tif", tiff().bytes(), shown(CELLS, &paper));
        self.add("cmyk_profile.tif", tiff().profile(&Profile::Cmyk.bytes()).bytes(), shown(CELLS, &printed));
        let wide = inks.concat().iter().flat_map(|v| (u16::from(*v) * 257).to_le_bytes()).collect();
        self.add("cmyk_16.tif", Tiff::new(SIZE, 4, 16, 5, wide).bytes(), shown(CELLS, &paper));
        let floats = [-1.0f32, 0.0, 0.25, 1.0, 7.0, f32::NAN, f32::INFINITY, 0.5];
        let clipped = [0.0, 0.0, 63.75, 255.0, 255.0, 0.0, 255.0, 127.5];
        let bytes = |floats: &[f32]| floats.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let tiff = Tiff::new([8, 1], 1, 32, 1, bytes(&floats)).with(339, &[3], 3);
        self.add("grey_float.tif", tiff.bytes(), shown([8, 1], &clipped.map(|v| [v; 3])));
        let tiff = Tiff::new([2, 1], 3, 32, 2, bytes(&floats[1..7])).with(339, &[3, 3, 3], 3);
        self.add("float.tif", tiff.bytes(), shown([2, 1], &[[0.0, 63.75, 255.0], [255.0, 0.0, 255.0]]));
        // Rows of 1 bit that end within a byte; black is zero, or white is.
        let bit = |white: bool| {
            let on = |v: u32| if (v == 1) != white { 255.0 } else { 0.0 };
            let pixels: Vec<_> = [1, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 1].map(|v| [on(v); 3]).to_vec();
            (Tiff::new([6, 2], 1, 1, u32::from(!white), vec![0b1011_0000, 0b0111_0100]).bytes(), shown([6, 2], &pixels))
        };
        for (name, white) in [("black_is_zero.tif", false), ("white_is_zero.tif", true)] {
            let (bytes, shown) = bit(white);
            self.add(name, bytes, shown);
        }
        let nibbles: Vec<u8> = (0..12u8).map(|n| n * 2 % 16 * 16 + (n * 5 + 1) % 16).collect();
        let greys: Vec<_> = nibbles.iter().flat_map(|v| [v >> 4, v & 15]).map(|v| [f64::from(v) * 17.0; 3]).collect();
        self.add("grey_4.tif", Tiff::new(SIZE, 1, 4, 1, nibbles).bytes(), shown(CELLS, &greys));
        // Red, green and blue one after the other.
        let mut planar = Tiff::new(SIZE, 3, 8, 2, Vec::new()).with(284, &[2], 3);
        planar.strips = (0..3).map(|i| cells().iter().map(|pixel| pixel[i]).collect()).collect();
        self.add("planar.tif", planar.bytes(), shown(CELLS, &rgb));
        // A row to a strip.
        let mut strips = Tiff::new(SIZE, 3, 8, 2, Vec::new()).with(278, &[1], 4);
        strips.strips = flat.chunks(18).map(<[u8]>::to_vec).collect();
        self.add("strips.tif", strips.bytes(), shown(CELLS, &rgb));
        let palette: Vec<u32> = (0..768).map(|n| n * 85).collect();
        let tiff = Tiff::new(SIZE, 1, 8, 3, (0..24).collect()).with(320, &palette, 3);
        self.refuse("palette.tif", tiff.bytes(), "cannot be decoded");
        self.refuse(
            "signed.tif",
            Tiff::new(SIZE, 3, 8, 2, flat.clone()).with(339, &[2, 2, 2], 3).bytes(),
            "cannot be decoded",
        );
        self.refuse("lab.tif", Tiff::new(SIZE, 3, 8, 8, flat).bytes(), "cannot be decoded");
    }

    fn webps(&mut self) {
        let (rgb, flat) = (plain(&cells()), cells().concat());
        let p3: Vec<_> = rgb.iter().map(|pixel| Profile::DisplayP3.srgb(pixel)).collect();
        let webp = riff(&[
            (b"VP8X", vp8x(0x20, SIZE)),
            (b"ICCP", Profile::DisplayP3.bytes()),
            (b"VP8L", vp8l(SIZE, &flat, false)),
        ]);
        self.add("p3.webp", webp, shown(CELLS, &p3));
        let frame = |samples: &[u8]| {
            let picture = vp8l(SIZE, samples, false);
            let mut data = [0; 6].to_vec();
            data.extend([three(SIZE[0] - 1), three(SIZE[1] - 1), three(100)].concat());
            data.push(0);
            data.extend(b"VP8L");
            data.extend((picture.len() as u32).to_le_bytes());
            data.extend(&picture);
            data.resize(data.len().next_multiple_of(2), 0);
            data
        };
        let webp = riff(&[
            (b"VP8X", vp8x(0x02, SIZE)),
            (b"ANIM", vec![0; 6]),
            (b"ANMF", frame(&flat)),
            (b"ANMF", frame(&[99; 72])),
        ]);
        self.add("animated.webp", webp, shown(CELLS, &rgb));
    }

    /// Very small, very thin.
    fn extreme(&mut self) {
        for (name, size) in [("dot", [1, 1]), ("wide", [30_000, 1]), ("tall", [1, 30_000])] {
            let count = size[0] * size[1];
            let flat: Vec<u8> = (0..count * 3).map(|n| (n * 7 % 251) as u8).collect();
            let pixels = plain(flat.as_chunks().0);
            let sides = size.map(|side| side as usize);
            self.add(format!("{name}.png"), Png::new(size, 8, 2, flat.clone()).bytes(), shown(sides, &pixels));
            self.add(format!("{name}.tif"), Tiff::new(size, 3, 8, 2, flat.clone()).bytes(), shown(sides, &pixels));
            if count == 1 {
                self.add("dot.webp", riff(&[(b"VP8L", vp8l(size, &flat, false))]), shown(sides, &pixels));
            }
        }
    }

    fn broken(&mut self) {
        let rgb = Png::new(SIZE, 8, 2, cells().concat());
        self.refuse("zero.png", Vec::new(), "is empty");
        self.refuse("page.png", b"<!doctype html><title>Not found</title>".to_vec(), "is a web page");
        self.refuse("animation.gif", b"GIF89a\x01\0\x01\0\0\0\0".to_vec(), "unsupported format");
        self.refuse("bitmap.png", b"BM\x1a\0\0\0\0\0\0\0\0\0\0\0\x0c\0\0\0".to_vec(), "unsupported format");
        self.refuse("noise.jpg", (0..999u32).map(|n| (n * n * 31 % 251 + 3) as u8).collect(), "not a picture");
        let mut short = rgb.bytes();
        short.truncate(short.len() - 30);
        self.refuse("short.png", short, "cut short");
        let mut wrong = rgb.bytes();
        let at = wrong.windows(4).position(|w| w == b"IDAT").unwrap() + 9;
        wrong[at] ^= 0x55;
        self.refuse("checksum.png", wrong, "is damaged");
        let jpeg = Jpeg::new([2, 2], vec![vec![9, 128, 128]; 4]).bytes();
        self.refuse("header_only.jpg", jpeg[..jpeg.len() - 12].to_vec(), "cut short");
        let side = 65_535u32;
        self.refuse("bomb.png", Png { size: [side, side], ..Png::new(SIZE, 8, 6, vec![0; 96]) }.bomb(), "too large");
        let mut bomb = jpeg.clone();
        let at = bomb.windows(2).position(|w| w == [0xff, 0xc0]).unwrap() + 5;
        bomb[at..at + 4].fill(0xff);
        self.refuse("bomb.jpg", bomb, "too large");
        let mut inks = Jpeg::new([1, 1], vec![vec![1, 2, 3, 4]]).adobe(0).bytes();
        let at = inks.windows(2).position(|w| w == [0xff, 0xc0]).unwrap() + 5;
        inks[at..at + 4].fill(0xff);
        self.refuse("bomb_cmyk.jpg", inks, "too large");
        let tiff = |size: [u32; 2], channels, bits, photometric| {
            Tiff::new(size, channels, bits, photometric, vec![0; 64]).bytes()
        };
        self.refuse("bomb.tif", tiff([side, side], 3, 8, 2), "too large");
        self.refuse(
            "bomb_float.tif",
            Tiff::new([side, side], 4, 32, 2, vec![0; 64]).with(339, &[3; 4], 3).bytes(),
            "too large",
        );
        self.refuse("bomb_cmyk.tif", tiff([side, side], 4, 16, 5), "too large");
        self.refuse("bomb_endless.tif", tiff([u32::MAX, u32::MAX], 3, 8, 2), "");
        // Small enough by its header, but with nothing behind it.
        self.refuse("hollow.tif", tiff([9000, 9000], 3, 8, 2), "");
        let webp = riff(&[(b"VP8X", vp8x(0, [1 << 24, 1 << 24])), (b"VP8L", vp8l([1, 1], &[0; 3], false))]);
        self.refuse("bomb.webp", webp, "");
        // 16,383 a side.
        let webp = riff(&[(b"VP8L", [&[0x2f, 0xfe, 0xbf, 0xff, 0x0f][..], &[0; 30]].concat())]);
        self.refuse("bomb_lossless.webp", webp, "too large");
    }
}
