//! What came out of a case, as a row of the table and as JSON, and what came out of all of them.

use core::fmt;

use super::case::{CaseError, CaseName};
use super::clock::Unit;
use super::stats::BenchmarkStats;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct CaseReport {
    /// Which case, on which back-end.
    pub name: CaseName,
    /// The case's own numbers.
    pub bytes: u64,
    /// Floating-point operations of one iteration.
    pub flops: u64,
    /// The target in nanoseconds, if there is one.
    pub target_ns: Option<u64>,
    /// What the samples count.
    pub unit: Unit,
    /// Counts in a second, where they are time.
    pub hz: Option<u64>,
    /// What the samples say, or why there are none.
    pub result: Result<BenchmarkStats, CaseError>,
}

/// How a measured case stands to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The case has no target.
    NoTarget,
    /// The median is within it.
    Met,
    /// The median is beyond it.
    Missed,
    /// The clock counts something that is no time, so there is nothing to say.
    NotComparable,
}

impl Verdict {
    /// The word printed in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::NoTarget => "-",
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::NotComparable => "n/a",
        }
    }
}

impl CaseReport {
    /// The median in nanoseconds, where the clock's counts are time.
    pub fn median_ns(&self) -> Option<f64> {
        let hz = self.hz.filter(|_| self.unit.is_time())?;
        Some(self.result.ok()?.median * 1e9 / hz as f64)
    }

    /// Whether the target is met; see [`Verdict`].
    pub fn meets_targets(&self) -> Verdict {
        match (self.target_ns, self.median_ns()) {
            (None, _) => Verdict::NoTarget,
            (Some(_), None) => Verdict::NotComparable,
            (Some(target), Some(median)) if median <= target as f64 => Verdict::Met,
            (Some(_), Some(_)) => Verdict::Missed,
        }
    }

    /// Writes the row as one JSON object and a newline; `cpu` says where it ran.
    ///
    /// # Errors
    ///
    /// What `out` reports.
    pub fn write_json(&self, out: &mut dyn fmt::Write, cpu: &str) -> fmt::Result {
        write!(out, "{{\"case\":\"{}\",\"cpu\":\"{cpu}\",\"unit\":\"{}\"", self.name, self.unit)?;
        match self.result {
            Err(error) => write!(out, ",\"error\":\"{error}\"")?,
            Ok(s) => write!(
                out,
                ",\"iterations\":{},\"min\":{:.3},\"median\":{:.3},\"mean\":{:.3},\"stddev\":{:.3},\"p90\":{:.3},\
                 \"p99\":{:.3},\"max\":{:.3}",
                s.iterations, s.min, s.median, s.mean, s.stddev, s.p90, s.p99, s.max
            )?,
        }
        write!(out, ",\"bytes\":{},\"flops\":{}", self.bytes, self.flops)?;
        if let Some(target) = self.target_ns {
            write!(out, ",\"target_ns\":{target},\"target\":\"{}\"", self.meets_targets().name())?;
        }
        out.write_str("}\n")
    }

    /// Writes the row of the table; [`print_header`] writes the heading that belongs to it.
    ///
    /// # Errors
    ///
    /// What `out` reports.
    pub fn write_row(&self, out: &mut dyn fmt::Write, verbose: bool) -> fmt::Result {
        write!(out, "{:<44}", self.name)?;
        match self.result {
            Err(error) => write!(out, " {error}")?,
            Ok(s) => {
                write!(out, " {:>14.1} {:>14.1} {:>14.1}", s.min, s.median, s.p90)?;
                match self.bytes as f64 / s.median {
                    rate if self.bytes > 0 && rate.is_finite() => write!(out, " {rate:>8.3}")?,
                    _ => write!(out, " {:>8}", "-")?,
                }
                write!(out, " {:>6}", self.meets_targets().name())?;
                if verbose {
                    let mark = if s.has_outliers() { " outliers" } else { "" };
                    write!(
                        out,
                        "  mean {:.1} sd {:.1} p99 {:.1} n {}{mark}",
                        s.mean, s.stddev, s.p99, s.iterations
                    )?;
                }
            }
        }
        out.write_str("\n")
    }
}

/// The result of a suite in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Cases that were timed.
    pub n_timed: usize,
    /// Cases that could not be timed; any makes the suite a failure.
    pub n_failed: usize,
    /// Targets that were met.
    pub n_met: usize,
    /// Targets that were missed.
    pub n_missed: usize,
    /// Cases that were left out because of [`BenchmarkConfig::max_flops`](super::BenchmarkConfig::max_flops).
    pub n_left_out: usize,
}

impl Summary {
    /// Whether every case ran and no comparable target was missed.
    pub fn meets_targets(&self) -> bool {
        self.n_failed == 0 && self.n_missed == 0
    }

    /// Counts one more row.
    pub fn add(&mut self, report: &CaseReport) {
        match report.result {
            Ok(_) => self.n_timed += 1,
            Err(_) => self.n_failed += 1,
        }
        match report.meets_targets() {
            Verdict::Met => self.n_met += 1,
            Verdict::Missed => self.n_missed += 1,
            Verdict::NoTarget | Verdict::NotComparable => {}
        }
    }
}

/// The heading over [`CaseReport::write_row`].
///
/// # Errors
///
/// What `out` reports.
pub fn print_header(out: &mut dyn fmt::Write, unit: Unit) -> fmt::Result {
    let per = match unit {
        Unit::EmulatedInstructions => "B/insn",
        Unit::EmulatedTicks => "B/tick",
        Unit::Cycles => "B/cycle",
        Unit::Nanoseconds => "B/ns",
        Unit::Ticks => "B/tick",
    };
    writeln!(out, "all counts are {unit} for one iteration")?;
    writeln!(
        out,
        "{:<44} {:>14} {:>14} {:>14} {per:>8} {:>6}",
        "case/shape/back-end", "min", "median", "p90", "target"
    )
}

/// The line under the table.
///
/// # Errors
///
/// What `out` reports.
pub fn print_summary(out: &mut dyn fmt::Write, summary: &Summary, unit: Unit) -> fmt::Result {
    let Summary { n_timed, n_failed, n_left_out, .. } = summary;
    write!(out, "{n_timed} timed, {n_failed} failed, {n_left_out} left out as too large; ")?;
    if unit.is_time() {
        writeln!(out, "targets: {} met, {} missed", summary.n_met, summary.n_missed)
    } else {
        writeln!(out, "targets are times, and {unit} are none: compare with a baseline")
    }
}
