//! How much work goes into a submission: about 100 ms of it on the adapter at hand, which is learned as it runs.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::recording::Submissions;

/// Aim for the length of a submission: Windows kills what takes 2 s, and a desktop stutters well before.
const AIM: f64 = 0.1;
/// What an unknown launch is taken to do, operations per second: so little that the first submissions are short even on
/// a software renderer (7 to 14 GFLOP/s on two cores); a fast GPU is known after some ten of them.
const UNKNOWN: f64 = 2e9;
/// The first submission for a device that waits is so many times shorter: encoding takes the host a few percent of what
/// the device takes, and is not waited for.
const HEAD_START: f64 = 8.0;
/// How many times faster than expected one submission may prove a launch to be. Slower is believed at once.
const GROWTH: f64 = 8.0;
/// How many times longer than expected puts every launch of a submission in doubt.
const SURPRISE: f64 = 2.0;
/// Shorter durations are those of the host's calls, not of the work.
const SHORTEST: f64 = 5e-5;
/// Durations kept for the median.
const KEPT: usize = 1024;

/// Number of a launch's label. Labels name kernel and layer: the rates of a kernel at two layers may be tens of times
/// apart. Numbers, because thousands of launches are looked up for each submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Work of a submission by label: operations, or elements where none are stated.
pub(super) type Work = Vec<(Label, f64)>;

/// Rates of the launches, learned from how long submissions take, and what the submissions took.
#[derive(Debug, Default)]
pub(super) struct Pace {
    labels: HashMap<String, Label>,
    /// Operations per second by label.
    rates: Vec<f64>,
    host: Duration,
    recent: VecDeque<Duration>,
    count: u64,
    longest: Duration,
    longest_of_many: Duration,
}

impl Pace {
    /// The number of a label. What is known of it stays, whichever program it comes with.
    pub(super) fn label(&mut self, text: &str) -> Label {
        if let Some(label) = self.labels.get(text) {
            return *label;
        }
        let label = Label(self.rates.len());
        self.labels.insert(text.into(), label);
        self.rates.push(UNKNOWN);
        label
    }

    /// Expected seconds of a launch.
    pub(super) fn seconds(&self, label: Label, work: f64) -> f64 {
        work / self.rates.get(label.0).copied().unwrap_or(UNKNOWN)
    }

    /// The work of these launches by label, in the order of the labels.
    pub(super) fn sum(&self, launches: impl Iterator<Item = (Label, f64)>) -> Work {
        let mut sums = vec![0.0; self.rates.len()];
        for (label, work) in launches {
            sums[label.0] += work;
        }
        let labelled = sums.into_iter().enumerate().map(|(at, work)| (Label(at), work));
        labelled.filter(|(_, work)| *work > 0.0).collect()
    }

    /// The host took so long to plan, encode and submit.
    pub(super) fn encoded_in(&mut self, took: Duration) {
        self.host += took;
    }

    /// How many of the commands ahead, each with its seconds, go into the next submission, where all of them take `total`
    /// seconds. They are shared out evenly, so that none takes longer than the aim; a command that takes longer by itself
    /// is a submission of its own. An `idle` device gets a short one first, and works on it while the host encodes the
    /// rest.
    pub(super) fn cut(total: f64, ahead: impl Iterator<Item = f64>, idle: bool) -> usize {
        let even = if idle { AIM / HEAD_START } else { total / (total / AIM).ceil().max(1.0) };
        // Slack for the last digits of the sum.
        let aim = even * (1.0 + 1e-9);
        let (mut open, mut count) = (0.0, 0);
        for seconds in ahead {
            if count > 0 && open + seconds > aim {
                break;
            }
            open += seconds;
            count += 1;
        }
        count
    }

    /// A submission of `dispatches` launches and this work took so long.
    pub(super) fn learn(&mut self, work: &Work, dispatches: usize, took: Duration) {
        self.count += 1;
        self.longest = self.longest.max(took);
        if dispatches > 1 {
            self.longest_of_many = self.longest_of_many.max(took);
        }
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(took);
        let expected: f64 = work.iter().map(|(label, work)| self.seconds(*label, *work)).sum();
        if expected <= 0.0 {
            return;
        }
        let ratio = (took.as_secs_f64().max(SHORTEST) / expected).max(1.0 / GROWTH);
        for (label, work) in work {
            // The launch that was expected to take most of the time explains most of the difference. Where all took far
            // longer it is the device that has become slower, and no rate can be relied on.
            let share = if ratio > SURPRISE { 1.0 } else { self.seconds(*label, *work) / expected };
            self.rates[label.0] /= ratio.powf(share);
        }
    }

    /// What the submissions took so far.
    pub(super) fn submissions(&self) -> Submissions {
        let mut sorted: Vec<Duration> = self.recent.iter().copied().collect();
        sorted.sort();
        Submissions {
            count: self.count,
            longest: self.longest,
            longest_of_many: self.longest_of_many,
            median: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
            host: self.host,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A device with these rates, and a long job on it: seconds of every submission in order, with the number of launches.
    struct Simulated {
        pace: Pace,
        rates: [f64; 3],
    }

    const KERNELS: [&str; 3] = ["conv", "pool", "copy"];

    /// An iteration at 512x512: convolutions of 2 to 40 GFLOP, and cheap kernels between them.
    fn iteration() -> Vec<(&'static str, f64)> {
        let convs = [1.8e9, 19e9, 9.6e9, 19e9, 9.6e9, 19e9, 19e9, 39e9];
        convs.iter().flat_map(|work| [("conv", *work), ("pool", work / 500.0), ("copy", work / 700.0)]).collect()
    }

    impl Simulated {
        fn new(rates: [f64; 3]) -> Simulated {
            Simulated { pace: Pace::default(), rates }
        }

        fn seconds(&self, kernel: &str, work: f64) -> f64 {
            KERNELS.iter().zip(self.rates).map(|(name, rate)| if *name == kernel { work / rate } else { 0.0 }).sum()
        }

        /// Runs `times` iterations as one call of the engine does: cuts first, learns from each as it ends.
        fn run(&mut self, times: usize) -> Vec<(f64, usize)> {
            let commands: Vec<_> = (0..times).flat_map(|_| iteration()).collect();
            let mut begin = 0;
            let mut all = Vec::new();
            while begin < commands.len() {
                let labels: Vec<(Label, f64)> =
                    commands[begin..].iter().map(|(kernel, work)| (self.pace.label(kernel), *work)).collect();
                let ahead = labels.iter().map(|(label, work)| self.pace.seconds(*label, *work));
                let count = Pace::cut(ahead.clone().sum(), ahead, begin == 0);
                let end = begin + count;
                let seconds: f64 = commands[begin..end].iter().map(|(name, work)| self.seconds(name, *work)).sum();
                let work = self.pace.sum(labels[..count].iter().copied());
                self.pace.learn(&work, end - begin, Duration::from_secs_f64(seconds));
                all.push((seconds, end - begin));
                begin = end;
            }
            all
        }
    }

    fn median(seconds: &[(f64, usize)]) -> f64 {
        let mut sorted: Vec<f64> = seconds.iter().map(|(seconds, _)| *seconds).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    /// From a phone to a data centre; cheap kernels do 1/3 to 1/200 of the operations that convolutions do.
    const DEVICES: [[f64; 3]; 5] =
        [[8e9, 2e9, 2e9], [5e10, 5e9, 4e9], [1e12, 3e10, 2e10], [1e13, 1e11, 5e10], [5e13, 2e12, 3e11]];

    #[test]
    fn submissions_of_an_unknown_adapter_start_short_and_soon_take_a_tenth_of_a_second() {
        for rates in DEVICES {
            let mut device = Simulated::new(rates);
            let all = device.run(2000_usize.min((rates[0] / 1e9) as usize + 20));
            // A launch that is longer by itself cannot be cut.
            let cuttable: Vec<_> = all.iter().copied().filter(|(_, launches)| *launches > 1).collect();
            assert!(cuttable.iter().all(|(seconds, _)| *seconds < 0.5), "{rates:?}: {cuttable:?}");
            assert!(all[0].0 < 0.5, "{rates:?} starts with {:?}", all[0]);
            let settled = &all[12.min(all.len() / 2)..];
            let typical = median(settled);
            assert!(typical < 0.2 || rates[0] < 1e11, "{rates:?}: {typical}");
            assert!(typical > 0.03, "{rates:?}: {typical}");
        }
    }

    #[test]
    fn a_device_that_slows_down_or_speeds_up_is_followed_at_once() {
        for factor in [0.1, 10.0] {
            let mut device = Simulated::new([1e13, 1e11, 5e10]);
            device.run(100);
            device.rates = device.rates.map(|rate| rate * factor);
            let after = device.run(1000);
            // One submission is as wrong as the change, which a slower device turns right at once.
            assert!(factor > 1.0 || after[1].0 < 0.2, "x{factor}: {:?}", &after[..6]);
            let typical = median(&after[2..7]);
            assert!((0.03..0.2).contains(&typical), "x{factor}: {:?}", &after[..6]);
        }
    }

    #[test]
    fn a_launch_longer_than_the_aim_is_alone_and_the_rest_is_shared_out_evenly() {
        let cuts = |seconds: &[f64]| {
            let mut ends = vec![0];
            while ends.last().is_some_and(|end| *end < seconds.len()) {
                let begin = *ends.last().unwrap();
                let ahead = seconds[begin..].iter().copied();
                ends.push(begin + Pace::cut(ahead.clone().sum(), ahead, false));
            }
            ends.split_off(1)
        };
        assert_eq!(cuts(&[0.01, 0.01, 0.4, 0.01, 0.01]), [2, 3, 5]);
        // 0.15 s: two of 0.075 instead of 0.1 and 0.05.
        assert_eq!(cuts(&[0.015; 10]), [5, 10]);
        assert_eq!(cuts(&[0.09]), [1]);
        assert_eq!(cuts(&[]), [0; 0]);
        assert_eq!(cuts(&[0.0, 0.0]), [2], "work that cannot be expected to take time is not dropped");
        // 12.5 ms to begin with.
        assert_eq!(Pace::cut(0.15, [0.004; 40].into_iter(), true), 3);
        assert_eq!(Pace::cut(0.15, [0.05; 3].into_iter(), true), 1, "and one launch at least");
    }

    #[test]
    fn the_kernel_that_took_the_time_is_the_one_that_is_slower() {
        let mut pace = Pace::default();
        let [conv, copy] = ["conv", "copy"].map(|kernel| pace.label(kernel));
        assert_eq!((pace.label("conv"), pace.label("copy")), (conv, copy), "known by now");
        for kernel in [conv, copy] {
            pace.learn(&vec![(kernel, 1e9)], 1, Duration::from_secs_f64(0.1));
        }
        // Expected 0.1 s + 1 ms, took 1.8 times that.
        pace.learn(&pace.sum([(conv, 4e8), (copy, 1e7), (conv, 6e8)].into_iter()), 2, Duration::from_secs_f64(0.182));
        let (conv, copy) = (pace.seconds(conv, 1e9), pace.seconds(copy, 1e9));
        assert!((0.17..0.19).contains(&conv) && (0.09..0.11).contains(&copy), "{conv} {copy}");
        let submissions = pace.submissions();
        assert_eq!((submissions.count, submissions.longest.as_millis()), (3, 182));
        assert_eq!((submissions.median.as_millis(), submissions.longest_of_many.as_millis()), (100, 182));
    }
}
