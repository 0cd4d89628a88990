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
    // The best back-end leaves out what is too large, each of the others already an eighth of that.
    let (most, per_backend) = (config.max_flops, CASES.iter().filter(|case| case.per_backend));
    let n_large = CASES.iter().filter(|case| case.flops > most).count();
    let n_large_below = per_backend.clone().filter(|case| case.flops > most / 8).count();
    let n_rows = |n_backends: usize| CASES.len() + (n_backends - 1) * per_backend.clone().count();
    let n_left_out = |n_backends: usize| n_large + (n_backends - 1) * n_large_below;
    assert_eq!(summary.n_left_out, n_left_out(n_backends), "{out}");
    assert_eq!(summary.n_timed + summary.n_left_out, n_rows(n_backends));
    // Of four back-ends, more than two rows of three are timed, whatever this CPU has.
    assert!(n_rows(4) > 3 * n_left_out(4), "{out}");
}
