//! Runs cases against a clock.

use core::fmt;
use core::mem::MaybeUninit;

use corelm::arena::Arena;
use corelm::ops::{Backend, Features, Ops, Workers};

use super::case::{Bencher, Case, CaseError, CaseName, Lab};
use super::clock::{Clock, ClockCost};
use super::report::{CaseReport, Summary, print_header, print_summary};
use super::stats::BenchmarkStats;
use crate::cases::{CASE_BYTES, MODEL_BYTES, write_model};
use crate::text::Text;

/// How a suite is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BenchmarkConfig<'a> {
    /// Iterations before anything is measured.
    pub warmup_iterations: usize,
    /// Samples for each case, at most [`MAX_SAMPLES`].
    pub measurement_iterations: usize,
    /// Whether the SIMD back-ends run beside the scalar one.
    pub use_simd: bool,
    /// Whether each row also shows mean, deviation, p99 and samples.
    pub verbose: bool,
    /// Whether each row is also written as a JSON line.
    pub json: bool,
    /// Cases with more floating-point operations in one iteration are left out, and on back-ends below the best those
    /// with more than an eighth as many: the scalar one takes about eight times as long.
    pub max_flops: u64,
    /// Counts of the clock after which a case takes no further sample; warm-up obeys it too. Bounds slow cases.
    pub case_budget: u64,
    /// Only cases whose full name contains this text.
    pub filter: &'a str,
    /// The CPU's name, for the JSON lines.
    pub cpu: &'a str,
}

/// Most samples of one case.
pub const MAX_SAMPLES: usize = 1000;

/// Memory that is enough for a suite: the model, the largest case, the samples.
pub const SUITE_BYTES: usize = MODEL_BYTES + CASE_BYTES + SAMPLES_BYTES;
const SAMPLES_BYTES: usize = MAX_SAMPLES * size_of::<f64>() + 2 * Arena::ALIGN;

impl BenchmarkConfig<'_> {
    /// What an emulator can do in a minute: its counts repeat, so few samples say all; of the model, up to 5 tokens one by
    /// one and 16 at once on the best back-end, one token on the others.
    pub const QUICK: BenchmarkConfig<'static> = BenchmarkConfig {
        warmup_iterations: 0,
        measurement_iterations: 3,
        use_simd: true,
        verbose: false,
        json: false,
        max_flops: 480_000_000,
        case_budget: u64::MAX,
        filter: "",
        cpu: "",
    };
}

impl Default for BenchmarkConfig<'_> {
    fn default() -> Self {
        BenchmarkConfig {
            warmup_iterations: 100,
            measurement_iterations: MAX_SAMPLES,
            max_flops: u64::MAX,
            ..BenchmarkConfig::QUICK
        }
    }
}

/// What the host of a suite lends.
pub struct Host<'a> {
    /// What counts.
    pub clock: &'a dyn Clock,
    /// The features that this CPU and its system allow.
    pub features: Features,
    /// The cores to run on.
    pub workers: &'a dyn Workers,
    /// Memory; [`SUITE_BYTES`] are enough, and with less some cases fail. What it holds is unspecified.
    pub memory: &'a mut [MaybeUninit<u8>],
}

/// Runs `cases` on every back-end of the host, the same case on one after the other, and writes a row for each to `out`
/// as soon as it is there, a heading before and a summary behind. A case that does not depend on the back-end runs once,
/// on the best.
///
/// # Errors
///
/// What `out` reports.
pub fn run_benchmark_suite(
    cases: &[Case],
    config: &BenchmarkConfig<'_>,
    host: Host<'_>,
    out: &mut dyn fmt::Write,
) -> Result<Summary, fmt::Error> {
    let Host { clock, features, workers, memory } = host;
    let unit = clock.unit();
    let available =
        || Ops::available(features).filter(|ops| config.use_simd || ops.backend() == Backend::Scalar);
    let best = available().last().unwrap_or(Ops::scalar());
    let is_wanted = |case: &Case, ops: Ops| {
        (case.per_backend || ops == best) && contains(&case.full_name(ops), config.filter)
    };
    let (front, memory) = memory.split_at_mut(SAMPLES_BYTES.min(memory.len()));
    let samples = Arena::new(front).alloc(MAX_SAMPLES, 0.0).unwrap_or_default();
    let mut bench = Bench { clock, cost: ClockCost::measure(clock), config, samples, n_samples: 0 };
    let is_too_large = |case: &Case, ops: Ops| {
        case.flops > if ops == best { config.max_flops } else { config.max_flops / 8 }
    };
    let needs_model = cases.iter().any(|case| {
        case.needs_model && available().any(|ops| is_wanted(case, ops) && !is_too_large(case, ops))
    });
    let (model, memory) = match needs_model && memory.len() >= MODEL_BYTES + CASE_BYTES {
        true => write_model(memory).unwrap_or_default(),
        // Where there is no room, the cases that need the model say so.
        false => (&[][..], memory),
    };
    let mut summary = Summary::default();
    print_header(out, unit)?;
    for case in cases {
        for ops in available().filter(|&ops| is_wanted(case, ops)) {
            if is_too_large(case, ops) {
                summary.n_left_out += 1;
                continue;
            }
            let report = run_case(case, ops, &mut bench, Lent { workers, memory: &mut *memory, model });
            summary.add(&report);
            report.write_row(out, config.verbose)?;
            if config.json {
                report.write_json(out, config.cpu)?;
            }
        }
    }
    print_summary(out, &summary, unit)?;
    Ok(summary)
}

/// Runs one case on one back-end.
fn run_case(case: &Case, ops: Ops, bench: &mut Bench<'_>, lent: Lent<'_>) -> CaseReport {
    bench.n_samples = 0;
    let Lent { workers, memory, model } = lent;
    // A clock that stands still would have the routine repeated for hours in search of a long enough sample.
    let outcome = match bench.cost.is_stopped() {
        true => Err(CaseError::StoppedClock),
        false => (case.body)(&mut Lab { ops, workers, memory, model, bencher: bench }),
    };
    let hz = bench.clock.hz();
    let result = outcome.and_then(|()| match bench.samples.get_mut(..bench.n_samples) {
        Some(samples) if !samples.is_empty() => Ok(BenchmarkStats::from_samples(samples, hz)),
        _ => Err(CaseError::Memory),
    });
    CaseReport {
        name: case.full_name(ops),
        bytes: case.bytes,
        flops: case.flops,
        target_ns: case.target.map(|target| target.nanoseconds),
        unit: bench.clock.unit(),
        hz,
        result,
    }
}

/// Whether the full name, written out, contains `needle`.
fn contains(name: &CaseName, needle: &str) -> bool {
    Text::<96>::format(format_args!("{name}")).as_str().contains(needle)
}

/// What [`run_case`] lends to a case beside the bencher.
struct Lent<'a> {
    workers: &'a dyn Workers,
    memory: &'a mut [MaybeUninit<u8>],
    model: &'a [u8],
}

/// Takes samples of a routine into borrowed memory.
struct Bench<'a> {
    clock: &'a dyn Clock,
    cost: ClockCost,
    config: &'a BenchmarkConfig<'a>,
    samples: &'a mut [f64],
    n_samples: usize,
}

impl Bench<'_> {
    /// Counts for `repeats` runs, less what reading the clock costs.
    fn time(&self, repeats: u64, routine: &mut dyn FnMut()) -> u64 {
        let start = self.clock.now();
        for _ in 0..repeats {
            routine();
        }
        self.clock.now().wrapping_sub(start).saturating_sub(self.cost.overhead)
    }
}

impl Bencher for Bench<'_> {
    fn iter(&mut self, routine: &mut dyn FnMut()) {
        let begun = self.clock.now();
        let is_spent = |clock: &dyn Clock| clock.now().wrapping_sub(begun) >= self.config.case_budget;
        for _ in 0..self.config.warmup_iterations {
            if is_spent(self.clock) {
                break;
            }
            routine();
        }
        // Enough runs in a sample that the clock's steps and its own cost drown.
        let shortest = self.cost.shortest_sample();
        let (mut repeats, mut first) = (1, self.time(1, routine));
        while repeats < 1 << 20 && first < shortest {
            repeats *= 2;
            first = self.time(repeats, routine);
        }
        let n_wanted = self.config.measurement_iterations.clamp(1, MAX_SAMPLES);
        for n in 0..n_wanted {
            if n > 0 && is_spent(self.clock) {
                break;
            }
            let elapsed = if n == 0 { first } else { self.time(repeats, routine) };
            if let Some(sample) = self.samples.get_mut(n) {
                *sample = elapsed as f64 / repeats as f64;
                self.n_samples = n + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::cell::Cell;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    use corelm::ops::Single;

    use super::*;
    use crate::bench::{Target, Unit};

    /// A clock of a thousand counts a second that steps by one for each reading and by ten for each [`work`].
    struct Fake(Unit);

    std::thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });

    fn work(lab: &mut Lab<'_>) -> Result<(), CaseError> {
        lab.bencher.iter(&mut || NOW.set(NOW.get() + 10));
        Ok(())
    }

    impl Clock for Fake {
        fn now(&self) -> u64 {
            NOW.set(NOW.get() + 1);
            NOW.get()
        }
        fn hz(&self) -> Option<u64> {
            self.0.is_time().then_some(1000)
        }
        fn unit(&self) -> Unit {
            self.0
        }
    }

    fn case(name: &'static str, target: Option<Target>) -> Case {
        Case {
            name,
            shape: "1",
            bytes: 20,
            flops: 1,
            target,
            per_backend: false,
            needs_model: false,
            body: work,
        }
    }

    fn run(cases: &[Case], config: &BenchmarkConfig<'_>, unit: Unit) -> (Summary, String) {
        let mut memory: Vec<MaybeUninit<u8>> = vec![MaybeUninit::uninit(); SAMPLES_BYTES + 1000];
        let mut out = String::new();
        let host =
            Host { clock: &Fake(unit), features: Features::empty(), workers: &Single, memory: &mut memory };
        (run_benchmark_suite(cases, config, host, &mut out).unwrap(), out)
    }

    #[test]
    fn counts_are_those_of_one_iteration() {
        let met = Target::micros(10_000);
        let missed = Target::micros(9_000);
        let cases = [case("met", met), case("missed", missed), case("free", None)];
        let config = BenchmarkConfig { json: true, cpu: "fake", ..BenchmarkConfig::QUICK };
        let (summary, out) = run(&cases, &config, Unit::Ticks);
        assert_eq!(summary, Summary { n_timed: 3, n_met: 1, n_missed: 1, ..Summary::default() }, "{out}");
        assert!(!summary.meets_targets());
        assert!(
            out.contains(r#"{"case":"met/1","cpu":"fake","unit":"ticks","iterations":3,"min":10.000,"#),
            "{out}"
        );
        assert!(out.contains("MISSED") && out.contains("1 met, 1 missed"), "{out}");
    }

    #[test]
    fn emulated_counts_meet_and_miss_nothing() {
        for unit in [Unit::EmulatedInstructions, Unit::EmulatedTicks] {
            let cases = [case("a", Target::micros(1))];
            let (summary, out) = run(&cases, &BenchmarkConfig::QUICK, unit);
            assert_eq!((summary.n_timed, summary.n_met, summary.n_missed), (1, 0, 0));
            assert!(out.contains("n/a") && out.contains(unit.name()), "{out}");
            assert!(!out.contains(" ns") && !out.contains("µs"), "{out}");
        }
    }

    #[test]
    fn cases_can_be_chosen_and_left_out() {
        let cases = [case("small", None), Case { flops: 1 << 40, ..case("huge", None) }];
        let (summary, _) = run(&cases, &BenchmarkConfig::QUICK, Unit::Ticks);
        assert_eq!((summary.n_timed, summary.n_left_out), (1, 1));
        let config = BenchmarkConfig { filter: "smal", ..BenchmarkConfig::QUICK };
        let (summary, out) = run(&cases, &config, Unit::Ticks);
        assert_eq!((summary.n_timed, summary.n_left_out), (1, 0));
        assert!(!out.contains("huge"));
    }

    #[test]
    fn a_stopped_clock_fails_the_suite_before_a_case_runs() {
        struct Stopped;
        impl Clock for Stopped {
            fn now(&self) -> u64 {
                7
            }
            fn hz(&self) -> Option<u64> {
                None
            }
            fn unit(&self) -> Unit {
                Unit::Cycles
            }
        }
        let never = Case { body: |_| panic!("a case ran"), ..case("a", None) };
        let mut memory = [MaybeUninit::uninit(); SAMPLES_BYTES];
        let host =
            Host { clock: &Stopped, features: Features::empty(), workers: &Single, memory: &mut memory };
        let mut out = String::new();
        let summary =
            run_benchmark_suite(&[never], &BenchmarkConfig::QUICK, host, &mut out).expect("written");
        assert!(summary.n_failed == 1 && out.contains("stands still"), "{out}");
    }

    #[test]
    fn a_case_without_memory_fails_the_suite() {
        let model = Case { needs_model: true, body: |_| Err(CaseError::Memory), ..case("model", None) };
        let (summary, out) = run(&[model], &BenchmarkConfig::QUICK, Unit::Ticks);
        assert_eq!(summary.n_failed, 1);
        assert!(out.contains("too little memory"), "{out}");
    }
}
