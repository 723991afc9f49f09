//! What the jobs of a tool that makes many pictures share, so that none of it is done twice: an opened device with its
//! compiled pipelines, a network, the style pictures in the sizes that the last job had them in, and what was measured in
//! them.
//!
//! ```no_run
//! # use impasto::{cpu::Cpu, error::Result, picture::Picture, transfer::{Config, Inputs, Studio}, weights::builtin::builtin};
//! # fn paint(photos: &[Picture], painting: Picture) -> Result<()> {
//! let config = Config::default();
//! let mut studio = Studio::new(Box::new(Cpu), builtin(config.depth()));
//! for photo in photos {
//!     let mut job = studio.start(&Inputs::new(photo, std::slice::from_ref(&painting)), config.clone())?;
//!     for report in job.steps() {
//!         report?;
//!     }
//!     let result = job.image()?;
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use super::checkpoint::digest;
use super::config::{Config, Orientation};
use super::forecast::Plan;
use super::inputs::Inputs;
use super::run::StyleTransfer;
use super::targets::StyleTargets;
use crate::error::Result;
use crate::picture::Picture;
use crate::recording::Backend;
use crate::weights::Weights;

/// Scales whose styles' targets are kept at most. One takes up to some megabytes.
const TARGETS: usize = 32;

/// A device and a network on which one job after the other is started. What it keeps between them does not grow with
/// their number, and does not change their results: a job has the bits that [`StyleTransfer::with`] gives it.
///
/// A job that was started stands by itself: several may run side by side, and one that failed leaves nothing behind.
#[derive(Debug)]
pub struct Studio {
    backend: Box<dyn Backend>,
    weights: Arc<Weights>,
    /// The network as the last job wanted it: so many convolutions, turned.
    network: Option<(usize, Orientation, Network)>,
    /// Digests of the network by depth.
    digests: BTreeMap<usize, String>,
    sizes: Sizes,
    /// Where the styles' targets are kept, if they are.
    targets: Option<StyleTargets>,
}

impl Studio {
    /// A studio on a device, with a network that reaches down to the [`Config::depth`] of every job to come.
    pub fn new(backend: Box<dyn Backend>, weights: Weights) -> Studio {
        Studio {
            backend,
            weights: Arc::new(weights),
            network: None,
            digests: BTreeMap::new(),
            sizes: Sizes::default(),
            targets: Some(StyleTargets::default()),
        }
    }

    /// Keeps no styles' targets: for a single job, which would spend time on keeping what nobody asks for.
    pub fn without_targets(self) -> Studio {
        Studio { targets: None, ..self }
    }

    /// Starts a job, as [`StyleTransfer::with`] does, and with its errors. [`Inputs::targets`] that are given go before
    /// the studio's own.
    pub fn start(&mut self, inputs: &Inputs<'_>, config: Config) -> Result<StyleTransfer> {
        let network = self.network(&config);
        self.sizes.turn_page();
        if let Some(targets) = self.targets.as_ref().filter(|targets| targets.len() >= TARGETS) {
            targets.clear();
        }
        let inputs = Inputs { targets: inputs.targets.clone().or_else(|| self.targets.clone()), ..inputs.clone() };
        StyleTransfer::sharing(self.backend.as_ref(), &network, &inputs, config, &mut self.sizes)
    }

    /// See [`Inputs::plan_on`].
    pub fn plan(&self, inputs: &Inputs<'_>, config: &Config) -> Result<Vec<Plan>> {
        inputs.plan_on(self.backend.as_ref(), &self.weights, config)
    }

    /// Takes another network for the jobs to come.
    pub fn set_weights(&mut self, weights: Weights) {
        self.weights = Arc::new(weights);
        self.network = None;
        self.digests.clear();
        self.targets.iter().for_each(StyleTargets::clear);
    }

    /// The network as it was given.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// [`Weights::digest`] of as much of the network as a job with these settings uses.
    pub fn digest(&mut self, config: &Config) -> String {
        let depth = config.depth();
        self.digests.entry(depth).or_insert_with(|| self.weights.digest_of(depth)).clone()
    }

    /// The network that a job needs; no copy of it where the one given is that.
    fn network(&mut self, config: &Config) -> Network {
        let (depth, orientation) = (config.depth(), config.orientation);
        let mean = config.mean.unwrap_or(self.weights.mean);
        let kept = self.network.as_ref().filter(|(kept, turned, _)| (*kept, *turned) == (depth, orientation));
        if let Some((_, _, network)) = kept {
            if network.mean == mean {
                return network.clone();
            }
            return Network::new(network.weights.clone(), mean);
        }
        let weights = if depth >= self.weights.convs.len() && orientation == Orientation::True {
            self.weights.clone()
        } else {
            let convs = self.weights.convs.iter().take(depth).cloned().collect();
            let Weights { mean, activation_unit, ref source, .. } = *self.weights;
            Arc::new(orientation.turn(Weights { convs, mean, activation_unit, source: source.clone() }))
        };
        let network = Network::new(weights, mean);
        self.network = Some((depth, orientation, network.clone()));
        network
    }
}

/// A network as a job uses it. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Network {
    /// Turned as [`Config::orientation`] says.
    pub(super) weights: Arc<Weights>,
    /// What is subtracted from pictures.
    pub(super) mean: [f32; 3],
    /// Of both, once it is asked for.
    digest: Arc<OnceLock<String>>,
}

impl Network {
    fn new(weights: Arc<Weights>, mean: [f32; 3]) -> Network {
        Network { weights, mean, digest: Arc::default() }
    }

    /// For a job by itself.
    pub(super) fn of(weights: &Weights, config: &Config) -> Network {
        let mean = config.mean.unwrap_or(weights.mean);
        Network::new(Arc::new(config.orientation.turn(weights.clone())), mean)
    }

    pub(super) fn digest(&self) -> String {
        let weights = self.weights.convs.iter().flat_map(|conv| [&conv.kernel[..], &conv.bias[..]]);
        self.digest.get_or_init(|| digest(weights.chain([&self.mean[..]]))).clone()
    }
}

/// Pictures in the sizes that a job has asked for, until a later job asks for others.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// Seeded for each process: nobody makes two pictures that it takes for one.
    hasher: RandomState,
    now: BTreeMap<Key, Arc<Picture>>,
    /// Those of the job before.
    before: BTreeMap<Key, Arc<Picture>>,
}

/// Hash of the samples, size of the source, and the size wanted.
type Key = (u64, [usize; 4]);

impl Sizes {
    /// A new job begins: what it does not ask for is forgotten when the next one begins.
    fn turn_page(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// [`Picture::resized`].
    pub(super) fn get(&mut self, source: &Picture, width: usize, height: usize) -> Arc<Picture> {
        let samples: &[u8] = bytemuck::cast_slice(&source.rgb);
        let key = (self.hasher.hash_one(samples), [source.width, source.height, width, height]);
        if let Some(kept) = self.now.get(&key) {
            return kept.clone();
        }
        let resized = self.before.remove(&key).unwrap_or_else(|| Arc::new(source.resized(width, height)));
        self.now.insert(key, resized.clone());
        resized
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(seed: usize, width: usize, height: usize) -> Picture {
        let rgb = (0..width * height * 3).map(|i| ((i * (seed + 7) * 37) % 251) as f32).collect();
        Picture { width, height, rgb }
    }

    #[test]
    fn sizes_are_made_once_and_forgotten_after_a_job_without_them() {
        let (a, b) = (picture(1, 30, 20), picture(2, 30, 20));
        let mut sizes = Sizes::default();
        let first = sizes.get(&a, 15, 10);
        assert_eq!(*first, a.resized(15, 10));
        assert!(Arc::ptr_eq(&first, &sizes.get(&a, 15, 10)));
        assert_ne!(first, sizes.get(&b, 15, 10));
        sizes.turn_page();
        assert!(Arc::ptr_eq(&first, &sizes.get(&a.clone(), 15, 10)), "kept for the next job");
        assert_eq!(sizes.now.len(), 1);
        sizes.turn_page();
        sizes.get(&a, 10, 15);
        sizes.turn_page();
        assert!(!Arc::ptr_eq(&first, &sizes.get(&a, 15, 10)), "forgotten");
        assert_eq!(sizes.before.len(), 1);
    }
}
