//! Statistics of one case's samples, without an allocator: the caller lends the samples.

/// What the samples of one case say. All figures are counts of the clock for one iteration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BenchmarkStats {
    /// The fastest sample.
    pub min: f64,
    /// The slowest sample.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// Half of the samples are at most this.
    pub median: f64,
    /// The standard deviation of the samples (divided by `n - 1`; 0 for one sample).
    pub stddev: f64,
    /// A quarter of the samples are at most this.
    pub p25: f64,
    /// Three quarters of the samples are at most this.
    pub p75: f64,
    /// Nine tenths of the samples are at most this.
    pub p90: f64,
    /// 99 of 100 samples are at most this.
    pub p99: f64,
    /// How many samples there were.
    pub iterations: usize,
    /// Iterations in a second at the median; `None` when the clock's counts are no time.
    pub throughput: Option<f64>,
}

/// How a median compares with a recorded one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Regression {
    /// Within the tolerance, either way.
    Same,
    /// Faster by more than the tolerance; holds `new / old`, below 1.
    Faster(f64),
    /// Slower by more than the tolerance; holds `new / old`, above 1.
    Slower(f64),
    /// There is nothing to compare: one of the two has no samples, or no positive median.
    Unknown,
}

impl BenchmarkStats {
    /// Statistics of `samples` (counts for one iteration each), which end up sorted. `hz` is how many counts make a
    /// second, where they make one.
    pub fn from_samples(samples: &mut [f64], hz: Option<u64>) -> BenchmarkStats {
        heap_sort(samples);
        let (Some(&min), Some(&max)) = (samples.first(), samples.last()) else {
            return BenchmarkStats::default();
        };
        let n = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / n;
        let variance = samples.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>()
            / if n > 1.0 { n - 1.0 } else { 1.0 };
        let median = quantile(samples, 0.5);
        BenchmarkStats {
            min,
            max,
            mean,
            median,
            stddev: libm::sqrt(variance),
            p25: quantile(samples, 0.25),
            p75: quantile(samples, 0.75),
            p90: quantile(samples, 0.90),
            p99: quantile(samples, 0.99),
            iterations: samples.len(),
            throughput: hz.filter(|_| median > 0.0).map(|hz| hz as f64 / median),
        }
    }

    /// Whether a sample lies more than three interquartile ranges outside the quartiles (Tukey's outer fences).
    pub fn has_outliers(&self) -> bool {
        let fence = 3.0 * (self.p75 - self.p25);
        self.max > self.p75 + fence || self.min < self.p25 - fence
    }

    /// Compares medians: more than `tolerance` (0.05 is 5 %) away from `baseline` is a change.
    pub fn check_regression(&self, baseline: &BenchmarkStats, tolerance: f64) -> Regression {
        if self.iterations == 0 || baseline.iterations == 0 || self.median <= 0.0 || baseline.median <= 0.0 {
            return Regression::Unknown;
        }
        let ratio = self.median / baseline.median;
        if ratio > 1.0 + tolerance {
            Regression::Slower(ratio)
        } else if ratio < 1.0 - tolerance {
            Regression::Faster(ratio)
        } else {
            Regression::Same
        }
    }
}

/// The value below which the share `q` of the ascending `sorted` lies, between neighbours by a straight line.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = q * last as f64;
    let below = place as usize;
    let low = sorted.get(below).copied().unwrap_or(0.0);
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    low + (high - low) * (place - below as f64)
}

/// Sorts ascending in place. `core`'s sorts may panic and want more stack than a kernel likes to lend.
fn heap_sort(values: &mut [f64]) {
    for root in (0..values.len() / 2).rev() {
        sift_down(values, root);
    }
    for end in (1..values.len()).rev() {
        values.swap(0, end);
        sift_down(&mut values[..end], 0);
    }
}

/// Lets `values[root]` sink until no child is larger.
fn sift_down(values: &mut [f64], mut root: usize) {
    loop {
        let mut child = 2 * root + 1;
        if child >= values.len() {
            return;
        }
        if child + 1 < values.len() && values[child + 1] > values[child] {
            child += 1;
        }
        if values[root] >= values[child] {
            return;
        }
        values.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_known_series() {
        let mut samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        let stats = BenchmarkStats::from_samples(&mut samples, Some(300));
        assert_eq!(samples, [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((stats.min, stats.median, stats.mean, stats.max), (1.0, 3.0, 3.0, 5.0));
        assert_eq!((stats.p25, stats.p75, stats.p90), (2.0, 4.0, 4.6));
        assert!((stats.stddev - libm::sqrt(2.5)).abs() < 1e-12);
        assert_eq!((stats.iterations, stats.throughput), (5, Some(100.0)));
    }

    #[test]
    fn few_samples_are_no_accident() {
        assert_eq!(BenchmarkStats::from_samples(&mut [], Some(1)), BenchmarkStats::default());
        let one = BenchmarkStats::from_samples(&mut [7.0], None);
        assert_eq!((one.median, one.p99, one.stddev, one.throughput), (7.0, 7.0, 0.0, None));
    }

    #[test]
    fn sorts_every_short_permutation() {
        for code in 0..5usize.pow(5) {
            let mut values: [f64; 5] = core::array::from_fn(|i| (code / 5usize.pow(i as u32) % 5) as f64);
            heap_sort(&mut values);
            assert!(values.is_sorted(), "{code}");
        }
    }

    #[test]
    fn outliers_are_those_far_outside() {
        let mut flat = [10.0, 11.0, 10.0, 11.0, 10.5];
        assert!(!BenchmarkStats::from_samples(&mut flat, None).has_outliers());
        let mut spiked = [10.0, 11.0, 10.0, 11.0, 10.5, 90.0];
        assert!(BenchmarkStats::from_samples(&mut spiked, None).has_outliers());
    }

    #[test]
    fn regressions_have_a_direction() {
        let of = |x: f64| BenchmarkStats::from_samples(&mut [x], None);
        assert_eq!(of(104.0).check_regression(&of(100.0), 0.05), Regression::Same);
        assert_eq!(of(110.0).check_regression(&of(100.0), 0.05), Regression::Slower(1.1));
        assert_eq!(of(50.0).check_regression(&of(100.0), 0.05), Regression::Faster(0.5));
        assert_eq!(of(50.0).check_regression(&BenchmarkStats::default(), 0.05), Regression::Unknown);
    }
}
