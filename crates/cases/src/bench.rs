//! The benchmark module: clocks, cases, samples, statistics, tables.

mod case;
mod clock;
mod report;
mod stats;
mod suite;

pub use case::{Bencher, Case, CaseError, CaseName, Lab, Target};
pub use clock::{Clock, ClockCost, Unit};
pub use report::{CaseReport, Summary, Verdict, print_header, print_summary};
pub use stats::{BenchmarkStats, Regression};
pub use suite::{BenchmarkConfig, Host, MAX_SAMPLES, SUITE_BYTES, run_benchmark_suite};
