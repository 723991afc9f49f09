//! States of a run in files: taken, and gone on from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::StyleTransfer;
use crate::error::{Error, Result};
use crate::transfer::checkpoint::{ANEW, Checkpoint};

impl StyleTransfer {
    /// The state now, for [`StyleTransfer::resume`] in another process: the picture, its average, all that the optimiser
    /// keeps, and where the run is.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where the state is not worth going on from.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        self.check_diverged()?;
        if self.left.is_some() {
            // The scale that could not begin has taken the buffers.
            self.next_scale()?;
        }
        let kept = self.surviving(|job| job.rig.look(&job.running, job.iteration))?;
        let kept = Arc::new(kept.ok_or_else(|| self.rig.diverged("the picture".into(), self.iteration))?);
        self.kept = Some(kept.clone());
        let (scale, first) = (self.running.scale.index, self.running.first);
        let (identity, device, ways, history) = (self.identity(), self.device(), self.ways(), self.history.clone());
        let iterations = self.scales.iter().map(|scale| scale.iterations).collect();
        let (kernels, size) = (Some(self.kernels()), self.running.size());
        Ok(Checkpoint { identity, device, kernels, scale, size, first, iterations, ways, history, kept })
    }

    /// Goes on from a state that a run with the same pictures, network and settings has left; the number of iterations of
    /// the scale at work and of those after it may be another one. On the same device, and with [`Checkpoint::ways`] in
    /// [`Config::ways`](crate::transfer::Config::ways), the result is that of a run without a break, to the bit.
    /// [`StyleTransfer::notes`] says where the device is another. `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where it belongs to something else.
    pub fn resume(&mut self, checkpoint: &Checkpoint, path: Option<&PathBuf>) -> Result<()> {
        checkpoint.check(path, &self.identity())?;
        let fail = |what: String, hint: String| Error::Checkpoint {
            path: path.cloned().unwrap_or_default(),
            what,
            hint: format!("{hint}, or {ANEW}"),
        };
        let Checkpoint { scale, first, ref kept, ref iterations, .. } = *checkpoint;
        let broken = || fail("does not have what the optimiser keeps".into(), "give another".into());
        let here = self.scales.get(scale).filter(|scale| [scale.height, scale.width] == checkpoint.size).copied();
        let Some(here) = here.filter(|_| iterations.len() == self.scales.len()) else { return Err(broken()) };
        let before = |numbers: &[u32]| numbers[..scale].iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let now: Vec<u32> = self.scales.iter().map(|scale| scale.iterations).collect();
        if iterations[..scale] != now[..scale] {
            // What every scale after the first has is one number.
            let rest = iterations[1..scale].first().map_or(String::new(), |number| format!(" --iterations {number}"));
            return Err(fail(
                format!("the scales before had {} iterations, not {}", before(iterations), before(&now)),
                format!("pass --first-iterations {}{rest}: what is done cannot be changed", iterations[0]),
            ));
        }
        if !(first..=first + here.iterations).contains(&kept.iteration) {
            let done = kept.iteration.saturating_sub(first);
            let option = if scale == 0 && self.scales.len() > 1 { "first-iterations" } else { "iterations" };
            return Err(fail(
                format!("has {done} iterations of its scale behind it, more than {}", here.iterations),
                format!("pass --{option} {done} or more"),
            ));
        }
        self.running = self.rig.attempt(|rig| rig.begin(scale, first, None))?;
        let names = |state: Vec<(String, _)>| state.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let fits = names(self.running.state()).iter().eq(kept.values.iter().map(|(name, _)| name));
        let whole = checkpoint.history.len() == kept.iteration as usize * self.names.len();
        if !fits || !whole || !self.running.takes(&kept.memory) || kept.counter != [kept.iteration - first] {
            return Err(broken());
        }
        if !self.is_on(&checkpoint.device) {
            let what = format!("the checkpoint is of {}; the bits of this device may be others", checkpoint.device);
            self.rig.notes.push(what);
        } else if checkpoint.kernels.as_ref().is_some_and(|kernels| *kernels != self.kernels()) {
            let what = "the checkpoint is of another choice of kernels; the last bits of the result may be others";
            self.rig.notes.push(what.into());
        }
        (self.from, self.left, self.kept) = (None, None, Some(kept.clone()));
        (self.iteration, self.diverged, self.batch) = (kept.iteration, None, 1);
        self.past = checkpoint.ways.iter().copied().take(scale).collect();
        self.history.clone_from(&checkpoint.history);
        self.rig.stale = true;
        self.surviving(|_| Ok(()))
    }

    /// Whether a run on the device of this description has the same bits. The CPU engine's number of threads does not count.
    pub fn is_on(&self, device: &str) -> bool {
        let engine = |text: &str| {
            text.split_once(" threads)")
                .map_or(text, |(text, _)| text)
                .trim_end_matches(|c: char| c.is_ascii_digit())
                .to_string()
        };
        engine(device) == engine(&self.device())
    }

    fn identity(&mut self) -> Arc<BTreeMap<String, String>> {
        let rig = &self.rig;
        let found = self.identity.get_or_insert_with(|| {
            let mut identity = rig.config.identity();
            identity.extend(rig.queue.digests().map(|(name, digest)| (name.to_string(), digest)));
            identity.insert("impasto".into(), env!("CARGO_PKG_VERSION").into());
            Arc::new(identity)
        });
        found.clone()
    }
}
