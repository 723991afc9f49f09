//! How much work goes into a submission: about 100 ms of it on the adapter at hand, which is learned as it runs.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::recording::Submissions;

/// Aim for the length of a submission: Windows kills what takes 2 s, and a desktop stutters well before.
const AIM: f64 = 0.1;
/// What an unknown launch is taken to do, operations per second: so little that the first submissions are short even on
/// a software renderer (7 to 14 GFLOP/s on two cores); a fast GPU is known after some ten of them.
const UNKNOWN: f64 = 2e9;
/// How many times faster than expected one submission may prove a launch to be. Slower is believed at once.
const GROWTH: f64 = 8.0;
/// How many times longer than expected puts every launch of a submission in doubt.
const SURPRISE: f64 = 2.0;
/// Shorter durations are those of the host's calls, not of the work.
const SHORTEST: f64 = 5e-5;
/// Durations kept for the median.
const KEPT: usize = 1024;

/// Work of each launch by its label: operations, or elements where none are stated. Labels name kernel and layer: the rates
/// of a kernel at two layers may be tens of times apart.
pub(super) type Work = Vec<(Arc<str>, f64)>;

/// Rates of the launches, learned from how long submissions take, and what the submissions took.
#[derive(Debug, Default)]
pub(super) struct Pace {
    rates: HashMap<Arc<str>, f64>,
    recent: VecDeque<Duration>,
    count: u64,
    longest: Duration,
    longest_of_many: Duration,
}

impl Pace {
    /// Expected seconds of a launch.
    pub(super) fn seconds(&self, label: &str, work: f64) -> f64 {
        work / self.rates.get(label).copied().unwrap_or(UNKNOWN)
    }

    /// How many of the commands ahead, each with its seconds, go into the next submission, where all of them take `total`
    /// seconds. They are shared out evenly, so that none takes longer than the aim; a command that takes longer by itself
    /// is a submission of its own.
    pub(super) fn cut(total: f64, ahead: impl Iterator<Item = f64>) -> usize {
        // Slack for the last digits of the sum.
        let aim = total / (total / AIM).ceil().max(1.0) * (1.0 + 1e-9);
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
        let expected: f64 = work.iter().map(|(label, work)| self.seconds(label, *work)).sum();
        if expected <= 0.0 {
            return;
        }
        let ratio = (took.as_secs_f64().max(SHORTEST) / expected).max(1.0 / GROWTH);
        for (label, work) in work {
            // The launch that was expected to take most of the time explains most of the difference. Where all took far
            // longer it is the device that has become slower, and no rate can be relied on.
            let share = if ratio > SURPRISE { 1.0 } else { self.seconds(label, *work) / expected };
            let rate = self.rates.entry(label.clone()).or_insert(UNKNOWN);
            *rate /= ratio.powf(share);
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
                let ahead = commands[begin..].iter().map(|(kernel, work)| self.pace.seconds(kernel, *work));
                let end = begin + Pace::cut(ahead.clone().sum(), ahead);
                let seconds: f64 = commands[begin..end].iter().map(|(name, work)| self.seconds(name, *work)).sum();
                let work: Work = KERNELS
                    .iter()
                    .map(|kernel| {
                        (
                            Arc::from(*kernel),
                            commands[begin..end].iter().filter(|c| c.0 == *kernel).map(|c| c.1).sum::<f64>(),
                        )
                    })
                    .filter(|(_, work)| *work > 0.0)
                    .collect();
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
                ends.push(begin + Pace::cut(ahead.clone().sum(), ahead));
            }
            ends.split_off(1)
        };
        assert_eq!(cuts(&[0.01, 0.01, 0.4, 0.01, 0.01]), [2, 3, 5]);
        // 0.15 s: two of 0.075 instead of 0.1 and 0.05.
        assert_eq!(cuts(&[0.015; 10]), [5, 10]);
        assert_eq!(cuts(&[0.09]), [1]);
        assert_eq!(cuts(&[]), [0; 0]);
        assert_eq!(cuts(&[0.0, 0.0]), [2], "work that cannot be expected to take time is not dropped");
    }

    #[test]
    fn the_kernel_that_took_the_time_is_the_one_that_is_slower() {
        let mut pace = Pace::default();
        for kernel in ["conv", "copy"] {
            pace.learn(&vec![(kernel.into(), 1e9)], 1, Duration::from_secs_f64(0.1));
        }
        // Expected 0.1 s + 1 ms, took 1.8 times that.
        pace.learn(&vec![("conv".into(), 1e9), ("copy".into(), 1e7)], 2, Duration::from_secs_f64(0.182));
        let (conv, copy) = (pace.seconds("conv", 1e9), pace.seconds("copy", 1e9));
        assert!((0.17..0.19).contains(&conv) && (0.09..0.11).contains(&copy), "{conv} {copy}");
        let submissions = pace.submissions();
        assert_eq!((submissions.count, submissions.longest.as_millis()), (3, 182));
        assert_eq!((submissions.median.as_millis(), submissions.longest_of_many.as_millis()), (100, 182));
    }
}
