//! Runs every benchmark case once, so that each first result is checked and no case is left unable to run.

use std::mem::MaybeUninit;
use std::time::Instant;

use corelm::ops::{Features, Single};
use corelm_cases::CASES;
use corelm_cases::bench::{BenchmarkConfig, Clock, Host, SUITE_BYTES, Unit, run_benchmark_suite};

/// Nanoseconds since it was made.
struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    fn hz(&self) -> Option<u64> {
        Some(1_000_000_000)
    }

    fn unit(&self) -> Unit {
        Unit::Nanoseconds
    }
}

#[test]
fn every_case_runs() {
    let mut memory = vec![MaybeUninit::<u8>::uninit(); SUITE_BYTES];
    let host = Host {
        clock: &Wall(Instant::now()),
        features: Features::detect_host(),
        workers: &Single,
        memory: &mut memory,
    };
    // As few iterations as there can be, of cases that a debug build can do: this is about results, not about time.
    let config = BenchmarkConfig { measurement_iterations: 1, verbose: true, ..BenchmarkConfig::QUICK };
    let mut out = String::new();
    let summary = run_benchmark_suite(CASES, &config, host, &mut out).unwrap();
    println!("{out}");
    assert_eq!(summary.n_failed, 0, "{out}");
    let n_backends = corelm::ops::Ops::available(Features::detect_host()).count();
    let n_rows: usize = CASES.iter().map(|case| if case.per_backend { n_backends } else { 1 }).sum();
    assert_eq!(summary.n_timed + summary.n_left_out, n_rows);
    // The more back-ends there are, the more of them have one above that does the long cases.
    assert!(summary.n_timed > summary.n_left_out, "{out}");
}
