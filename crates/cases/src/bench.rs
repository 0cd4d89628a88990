//! The benchmark module: clocks, cases, samples, statistics, tables.

mod case;
mod clock;
mod stats;
mod suite;

pub use case::{Bencher, Case, CaseError, CaseName, Lab, Target};
pub use clock::{Clock, ClockCost, Unit};
pub use stats::{BenchmarkStats, Regression};
pub use suite::{
    BenchmarkConfig, CaseReport, Host, MAX_SAMPLES, SUITE_BYTES, Summary, Verdict, print_header,
    print_summary, run_benchmark_suite,
};
