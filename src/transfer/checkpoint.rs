//! A state of a run in a file, from which a later process goes on to the same bits.
//!
//! The file is a safetensors container: every vector as `[H, W, 4]`, the optimiser's numbers, the losses of every iteration
//! so far as `[iterations, terms]`, and in its metadata where the run was, what it was a run of, how its scales were cut up,
//! and a SHA-256 of all the rest. A file that was cut or changed is refused. It is written straight from the state, without
//! a copy of it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::safetensors::tensor::{Metadata, TensorInfo, TensorView};
use ::safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::config::{Config, Init};
use super::layout::Way;
use super::lbfgs::Memory;
use super::rig::Kept;
use crate::error::{Error, Result};
use crate::net::vgg19::Tap;
use crate::picture::{Picture, write_file_with};

/// What the metadata says first.
const FORMAT: &str = "impasto checkpoint 2";
/// What that of any version begins with.
const ANY_FORMAT: &str = "impasto checkpoint ";
const SEAL: &str = "seal";
const HISTORY: &str = "history";
pub(super) const ANEW: &str = "start the run anew, without --resume";

/// A state of a run. Cheap to clone; see [`StyleTransfer::checkpoint`](super::StyleTransfer::checkpoint).
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// What it is a run of, by name.
    pub(super) identity: Arc<BTreeMap<String, String>>,
    /// Device and engine.
    pub(super) device: String,
    /// Digest of the run's choices of kernels; older files have none.
    pub(super) kernels: Option<String>,
    pub(super) scale: usize,
    /// Height and width of that scale.
    pub(super) size: [usize; 2],
    /// Iterations of the scales before.
    pub(super) first: u32,
    /// Iterations of every scale.
    pub(super) iterations: Vec<u32>,
    /// How every scale is cut up.
    pub(super) ways: Vec<Way>,
    /// Terms of every iteration so far, `[iterations, terms]`.
    pub(super) history: Vec<f32>,
    pub(super) kept: Arc<Kept>,
}

/// A tensor of the file: name, shape, values.
type Entry<'a> = (&'a str, Vec<usize>, &'a [f32]);

impl Checkpoint {
    /// Iterations of the whole run that it has behind it.
    pub fn iteration(&self) -> u32 {
        self.kept.iteration
    }

    /// How every scale is cut up: for [`Config::ways`] of the run that goes on.
    pub fn ways(&self) -> &[Way] {
        &self.ways
    }

    /// Writes the file atomically, over an older one.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut about = self.about();
        let entries = self.entries();
        let parts = entries.iter().map(|(name, _, values)| (*name, 4 * values.len(), little_endian(values)));
        about.insert(SEAL.into(), seal(&about, parts));
        let header = header(about, &entries).map_err(|error| Error::Output {
            path: path.into(),
            what: format!("cannot be made: {error}"),
            hint: "use --no-checkpoint".into(),
        })?;
        write_file_with(path, true, |file| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            entries.iter().flat_map(|(_, _, values)| little_endian(values)).try_for_each(|bytes| file.write_all(&bytes))
        })
    }

    /// What the metadata says, without the seal.
    fn about(&self) -> BTreeMap<String, String> {
        let numbers = |values: &[u32]| joined(values);
        let ([height, width], kept) = (self.size, &self.kept);
        let mut about: BTreeMap<String, String> =
            self.identity.iter().map(|(name, value)| (format!("of.{name}"), value.clone())).collect();
        for (key, value) in [
            ("format", FORMAT.to_string()),
            ("device", self.device.clone()),
            ("kernels", self.kernels.clone().unwrap_or_default()),
            ("place", numbers(&[kept.iteration, self.first, self.scale as u32, height as u32, width as u32])),
            ("iterations", numbers(&self.iterations)),
            ("ways", joined(&self.ways)),
            ("counter", numbers(&kept.counter)),
            ("order", numbers(&kept.memory.order)),
        ] {
            about.insert(key.into(), value);
        }
        about
    }

    /// Every tensor, in the file's order.
    fn entries(&self) -> Vec<Entry<'_>> {
        let ([height, width], kept) = (self.size, &self.kept);
        let rows = kept.iteration as usize;
        let history = [rows, self.history.len().checked_div(rows).unwrap_or(0)].to_vec();
        let vectors = kept.values.iter().map(|(name, values)| (name.as_str(), vec![height, width, 4], &values[..]));
        let dots = ("dots", vec![kept.memory.dots.len()], &kept.memory.dots[..]);
        vectors.chain([dots, (HISTORY, history, &self.history[..])]).collect()
    }

    /// Reads a file that [`Checkpoint::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is missing, something else, cut, or changed.
    pub fn load(path: &Path) -> Result<Checkpoint> {
        let fail =
            |what: &str, hint: &str| Error::Checkpoint { path: path.into(), what: what.into(), hint: hint.into() };
        let bytes = std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                fail("no such file", "give its path, or start the run anew without --resume")
            }
            _ => fail(&format!("cannot be read: {error}"), "check the path and its permissions"),
        })?;
        let says = |text: &str| bytes.windows(text.len()).take(1 << 16).any(|part| part == text.as_bytes());
        parse(&bytes).ok_or_else(|| match (says(FORMAT), says(ANY_FORMAT)) {
            (true, _) => fail("is cut off or was changed after it was written", ANEW),
            (_, true) => fail("was written by another version of impasto", &format!("use that one, or {ANEW}")),
            _ => fail("is not a checkpoint", "give the .checkpoint file that a run has left"),
        })
    }

    /// Refuses to go on with a run of something else.
    pub(super) fn check(&self, path: Option<&PathBuf>, identity: &BTreeMap<String, String>) -> Result<()> {
        for (name, mine) in identity {
            let its = self.identity.get(name).map_or("unknown", String::as_str);
            if its != mine {
                let what = match (name.as_str(), mine.len() == its.len() && mine.len() == 64) {
                    (name, true) => format!("was made with another {name}"),
                    (name, false) => format!("was made with {name} {its}, not {mine}"),
                };
                let path = path.cloned().unwrap_or_default();
                return Err(Error::Checkpoint { path, what, hint: format!("use what it was made with, or {ANEW}") });
            }
        }
        Ok(())
    }
}

/// Anything that is not whole is nothing.
fn parse(bytes: &[u8]) -> Option<Checkpoint> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let mut about: BTreeMap<String, String> = header.metadata().clone()?.into_iter().collect();
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let order = ["average", "image", "m", "v"].map(String::from).into_iter();
    let numbered = |name: &'static str| (0..100).map(move |k| format!("{name} {k}"));
    let names: Vec<String> = order
        .chain(numbered("step"))
        .chain(numbered("difference"))
        .chain(["dots".to_string(), HISTORY.to_string()])
        .filter(|name| tensors.tensor(name).is_ok())
        .collect();
    let views: Vec<TensorView<'_>> = names.iter().map_while(|name| tensors.tensor(name).ok()).collect();
    let known = about.remove(SEAL)?;
    let part =
        |(name, view)| (String::as_str(name), TensorView::data(view).len(), std::iter::once(TensorView::data(view)));
    let data = names.iter().zip(&views).map(part);
    if views.len() != tensors.len() || about.get("format")? != FORMAT || known != seal(&about, data) {
        return None;
    }
    let numbers = |key: &str| -> Option<Vec<u32>> {
        let text = about.get(key)?;
        text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
    };
    let ways = about.get("ways")?.split(',').map(|way| way.parse().ok()).collect::<Option<_>>()?;
    let [iteration, first, scale, height, width] = numbers("place")?.try_into().ok()?;
    let size = [height as usize, width as usize];
    let (mut values, mut history) = (Vec::new(), Vec::new());
    let mut memory = Memory { order: numbers("order")?, dots: Vec::new() };
    for (name, view) in names.into_iter().zip(&views) {
        let floats = view.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        if view.dtype() != Dtype::F32 {
            return None;
        }
        match name.as_str() {
            "dots" => memory.dots = floats,
            HISTORY if view.shape().first() == Some(&(iteration as usize)) => history = floats,
            _ if view.shape() == [size[0], size[1], 4] => values.push((name, floats)),
            _ => return None,
        }
    }
    let kept = Kept { iteration, values, memory, counter: numbers("counter")? };
    let of = about.iter().filter_map(|(key, value)| Some((key.strip_prefix("of.")?.to_string(), value.clone())));
    let (identity, device) = (Arc::new(of.collect()), about.get("device")?.clone());
    let kernels = about.get("kernels").filter(|text| !text.is_empty()).cloned();
    let (scale, iterations, kept) = (scale as usize, numbers("iterations")?, Arc::new(kept));
    Some(Checkpoint { identity, device, kernels, scale, size, first, iterations, ways, history, kept })
}

fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

/// The container's header: names, shapes and places of all tensors, padded to a multiple of eight bytes.
fn header(about: BTreeMap<String, String>, entries: &[Entry<'_>]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut end = 0;
    let infos = entries.iter().map(|(name, shape, values)| {
        let begin = end;
        end += 4 * values.len();
        let info = TensorInfo { dtype: Dtype::F32, shape: shape.clone(), data_offsets: (begin, end) };
        (name.to_string(), info)
    });
    let infos = infos.collect();
    let metadata = Metadata::new(Some(HashMap::from_iter(about)), infos)?;
    let mut header = serde_json::to_vec(&metadata)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// Numbers as bytes, in small pieces.
fn little_endian(values: &[f32]) -> impl Iterator<Item = Vec<u8>> {
    values.chunks(4096).map(|values| values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// A digest of everything in the file; tensors with their names and lengths in bytes.
fn seal<'a, P: AsRef<[u8]>>(
    about: &BTreeMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, usize, impl Iterator<Item = P>)>,
) -> String {
    let mut hash = Sha256::new();
    let add = |hash: &mut Sha256, part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    for (key, value) in about {
        add(&mut hash, key.as_bytes());
        add(&mut hash, value.as_bytes());
    }
    for (name, length, pieces) in tensors {
        add(&mut hash, name.as_bytes());
        hash.update((length as u64).to_le_bytes());
        pieces.for_each(|piece| hash.update(piece));
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of numbers, in little-endian order.
pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a [f32]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        little_endian(part).for_each(|bytes| hash.update(bytes));
    }
    hex(&hash.finalize())
}

impl Config {
    /// Every setting by name, for people and for comparisons.
    pub fn described(&self) -> BTreeMap<String, String> {
        let init = match &self.init {
            Init::Picture(Picture { rgb, .. }) => digest([&rgb[..]]),
            Init::Values { values, .. } => digest([&values[..]]),
            simple => format!("{simple:?}"),
        };
        let layers = |layers: &[(Tap, f32)]| {
            layers.iter().map(|(tap, weight)| format!("{tap}={weight}")).collect::<Vec<_>>().join(",")
        };
        let (content, style) = (layers(&self.content_layers), layers(&self.style_layers));
        let numbers = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        let (scale, mut blend) = (numbers(&self.style_scale), numbers(&self.style_blend_weights));
        if blend.is_empty() {
            blend.push_str("equal");
        }
        // What the lines below say of these is not for people.
        let rest = Config {
            init: Init::Content,
            content_layers: Vec::new(),
            style_layers: Vec::new(),
            style_scale: Vec::new(),
            style_blend_weights: Vec::new(),
            ways: Vec::new(),
            ..self.clone()
        };
        let mut settings = BTreeMap::new();
        let mut name = String::new();
        // `field: value,`, deeper where a value has fields of its own.
        for line in format!("{rest:#?}").lines().filter_map(|line| line.strip_prefix("    ")) {
            match line.split_once(": ").filter(|_| !line.starts_with(' ')) {
                Some((field, value)) => {
                    name = field.replace('_', "-");
                    settings.insert(name.clone(), value.trim_end_matches(',').to_string());
                }
                None => {
                    if let Some(value) = settings.get_mut(&name) {
                        value.push_str(line.trim().trim_end_matches(|c| "}),]".contains(c)));
                        value.push(' ');
                    }
                }
            }
        }
        // The same picture up to rounding, and said elsewhere.
        settings.remove("ways");
        for value in settings.values_mut() {
            *value = value.replace(['{', '('], " ").split_whitespace().collect::<Vec<_>>().join(" ");
        }
        let own = [
            ("init", init),
            ("content-layers", content),
            ("style-layers", style),
            ("style-scale", scale),
            ("style-blend-weights", blend),
        ];
        settings.extend(own.map(|(name, value)| (name.to_string(), value)));
        settings
    }

    /// Those that bear on a state: how many iterations there will be does not change those that are done, and tiles change
    /// nothing but the rounding.
    pub(super) fn identity(&self) -> BTreeMap<String, String> {
        let mut settings = self.described();
        settings.retain(|name, _| !["iterations", "first-iterations", "memory", "tile"].contains(&name.as_str()));
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Size;
    use super::super::optimizer::Adam;
    use super::*;

    #[test]
    fn every_setting_has_a_name_and_a_value() {
        let described = Config { ema: 0.99, size: Size::Exact(3, 4), ..Config::default() }.described();
        for (name, value) in [
            ("ema", "0.99"),
            ("size", "Exact 3 4"),
            ("tile", "None"),
            ("style-layers", "relu1_1=1,relu2_1=1,relu3_1=1"),
            ("lbfgs", "Lbfgs learning_rate: 1.0 history: 10"),
            ("init", "Content"),
            ("style-scale", "1"),
            ("style-blend-weights", "equal"),
        ] {
            assert_eq!(described.get(name).map(String::as_str), Some(value), "{described:#?}");
        }
        // A field of a setting's own that changes must show.
        let base = Config::default();
        let others = [
            Config { adam: Adam { beta2: 0.9, ..base.adam }, ..base.clone() },
            Config { style_size: Some(Size::Native), ..base.clone() },
            Config { style_layers: Vec::new(), ..base.clone() },
            Config { mean: Some([1.0, 2.0, 3.0]), ..base.clone() },
            Config { init: Init::Noise, ..base.clone() },
            Config { init_noise: 0.5, ..base.clone() },
            Config { style_scale: vec![1.0, 2.0], ..base.clone() },
            Config { style_blend_weights: vec![1.0, 2.0], ..base.clone() },
        ];
        for other in others {
            assert_eq!(other.identity().iter().filter(|setting| !base.identity().contains_key(setting.0)).count(), 0);
            assert_ne!(other.identity(), base.identity());
        }
        assert_eq!(Config { iterations: 7, tile: Some(32), ..base.clone() }.identity(), base.identity());
        let ways = vec![Way { tile: None, recompute: true }];
        assert_eq!(Config { ways, ..base.clone() }.described(), base.described());
    }
}
