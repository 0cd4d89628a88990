//! A list of checks run one after another: one line each with its time, and a summary at the end.

use anyhow::{Result, bail};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// How a step ended when it did not fail.
pub enum Outcome {
    /// So many tests or checks passed.
    Passed(usize),
    /// So many passed, and there is this to say about them.
    Noted(usize, String),
    /// Nothing was checked, for this reason.
    Skipped(String),
}

/// What was run so far.
#[derive(Default)]
pub struct Steps {
    /// Only steps whose name has this in it are run; it is empty for all.
    filter: String,
    /// Names of those that were left out, and whether any was not.
    left_out: Vec<String>,
    has_run: bool,
    passed: usize,
    failures: Vec<String>,
    skipped: Vec<String>,
    elapsed: Duration,
}

impl Steps {
    /// No step so far; of those that come, the ones are run whose name has `filter` in it.
    pub fn new(filter: &str) -> Steps {
        Steps { filter: filter.to_owned(), ..Steps::default() }
    }

    /// Runs one step and prints its line; a failure is kept for [`Steps::finish`].
    pub fn step(&mut self, name: &str, body: impl FnOnce() -> Result<Outcome>) {
        if name.contains(&self.filter) {
            self.has_run = true;
            self.run(name, body);
        } else {
            self.left_out.push(name.to_owned());
        }
    }

    /// Runs one step that makes something other steps need, so it is never left out; `None` when it failed.
    pub fn build<T>(&mut self, name: &str, body: impl FnOnce() -> Result<T>) -> Option<T> {
        let mut built = None;
        self.run(name, || {
            built = Some(body()?);
            Ok(Outcome::Passed(1))
        });
        built
    }

    fn run(&mut self, name: &str, body: impl FnOnce() -> Result<Outcome>) {
        print!("{name:<44} ");
        let _ = io::stdout().flush();
        let start = Instant::now();
        let outcome = body();
        let elapsed = start.elapsed();
        self.elapsed += elapsed;
        let seconds = elapsed.as_secs_f64();
        match outcome {
            Ok(Outcome::Passed(1)) => println!("ok {seconds:>8.1} s"),
            Ok(Outcome::Passed(n)) => println!("ok {seconds:>8.1} s  {n} passed"),
            Ok(Outcome::Noted(n, ref note)) => println!("ok {seconds:>8.1} s  {n} passed; {note}"),
            Ok(Outcome::Skipped(ref reason)) => println!("skipped: {reason}"),
            Err(ref error) => println!("FAILED {seconds:>4.1} s\n{error:#}\n"),
        }
        match outcome {
            Ok(Outcome::Passed(n) | Outcome::Noted(n, _)) => self.passed += n,
            Ok(Outcome::Skipped(_)) => self.skipped.push(name.to_owned()),
            Err(_) => self.failures.push(name.to_owned()),
        }
    }

    /// Prints the summary.
    ///
    /// # Errors
    ///
    /// When a step failed; names them. When all were left out.
    pub fn finish(self) -> Result<()> {
        if !self.has_run && !self.left_out.is_empty() {
            bail!("no step has '{}' in its name; there are: {}", self.filter, self.left_out.join(", "));
        }
        println!("\ntotal {:.0} s", self.elapsed.as_secs_f64());
        if !self.skipped.is_empty() {
            println!("skipped: {}", self.skipped.join(", "));
        }
        println!("{} passed, {} failed", self.passed, self.failures.len());
        if !self.failures.is_empty() {
            bail!("failed: {}", self.failures.join(", "));
        }
        Ok(())
    }
}

/// One step that passes as a whole when the work does.
///
/// # Errors
///
/// The work's own.
pub fn passed<T>(work: Result<T>) -> Result<Outcome> {
    work.map(|_| Outcome::Passed(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_skips_are_counted_apart() {
        let mut steps = Steps::default();
        steps.step("three", || Ok(Outcome::Passed(3)));
        steps.step("none", || Ok(Outcome::Skipped("no model".into())));
        assert_eq!(steps.build("built", || Ok(7)), Some(7));
        steps.step("bad", || bail!("broken"));
        assert_eq!((steps.passed, steps.failures.len(), steps.skipped.len()), (4, 1, 1));
        assert_eq!(steps.finish().unwrap_err().to_string(), "failed: bad");
    }

    #[test]
    fn a_filter_leaves_steps_out_but_no_builds() {
        let mut steps = Steps::new("golden");
        steps.step("golden outputs", || passed(Ok(())));
        steps.step("format", || bail!("left out"));
        assert_eq!(steps.build("kernel", || Ok(1)), Some(1));
        assert_eq!((steps.passed, steps.failures.len()), (2, 0));
        assert!(steps.finish().is_ok());
    }

    #[test]
    fn a_filter_that_leaves_all_out_is_an_error() {
        let mut steps = Steps::new("gloden");
        steps.step("golden outputs", || passed(Ok(())));
        let error = steps.finish().unwrap_err().to_string();
        assert_eq!(error, "no step has 'gloden' in its name; there are: golden outputs");
    }

    #[test]
    fn no_failure_is_no_error() {
        let mut steps = Steps::default();
        steps.step("one", || passed(Ok(())));
        assert!(steps.finish().is_ok());
    }
}
