//! What a benchmark case is, and what a host of cases lends it.

use core::fmt;
use core::mem::MaybeUninit;

use corelm::ops::{Ops, Workers};

/// One thing that is timed. The body prepares its data, checks a first result and then hands a routine to the bencher.
#[derive(Clone, Copy)]
pub struct Case {
    /// What runs, on which type: `gemv/q4_0`.
    pub name: &'static str,
    /// The shape it runs on: `384x384`.
    pub shape: &'static str,
    /// Bytes read and written by one iteration, weights and activations together; 0 when that says nothing.
    pub bytes: u64,
    /// Floating-point operations of one iteration, a multiply-add counted as two; 0 when that says nothing.
    pub flops: u64,
    /// The longest one iteration should take.
    pub target: Option<Target>,
    /// Whether the result depends on the back-end, so that each one is timed.
    pub per_backend: bool,
    /// Whether it runs [`Lab::model`].
    pub needs_model: bool,
    /// Prepares, checks, times.
    pub body: fn(&mut Lab<'_>) -> Result<(), CaseError>,
}

/// The longest one iteration of a case should take, on the machine the target was set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Nanoseconds for one iteration.
    pub nanoseconds: u64,
}

impl Target {
    /// A target in microseconds.
    pub const fn micros(micros: u64) -> Option<Target> {
        Some(Target { nanoseconds: micros * 1000 })
    }
}

/// What the host of the cases lends to one of them.
pub struct Lab<'a> {
    /// The back-end under test.
    pub ops: Ops,
    /// The cores to run on.
    pub workers: &'a dyn Workers,
    /// Memory for the case's data; what it holds is unspecified.
    pub memory: &'a mut [MaybeUninit<u8>],
    /// The benchmark model as GGUF bytes ([`crate::cases::write_model`]); empty for cases that do not need it.
    pub model: &'a [u8],
    /// Where the routine goes once its result has been checked.
    pub bencher: &'a mut dyn Bencher,
}

/// Times a routine. A case calls it exactly once, last.
pub trait Bencher {
    /// Runs `routine` as often as the measurement wants; one call is one iteration.
    fn iter(&mut self, routine: &mut dyn FnMut());
}

/// Why a case was not timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaseError {
    /// The host lends too little memory for this case.
    Memory,
    /// The result, checked before timing, is wrong.
    Wrong(&'static str),
    /// The engine refused; holds the error's stable code.
    Engine(u32),
    /// The clock does not move, so that nothing can be timed.
    StoppedClock,
}

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaseError::Memory => f.write_str("too little memory lent"),
            CaseError::Wrong(what) => write!(f, "wrong result: {what}"),
            CaseError::Engine(code) => write!(f, "engine error {code}"),
            CaseError::StoppedClock => f.write_str("the clock stands still"),
        }
    }
}

/// A case's full name, `name/shape` and the back-end where there is one: `gemv/q4_0/384x384/avx2`.
#[derive(Clone, Copy, Debug)]
pub struct CaseName {
    name: &'static str,
    shape: &'static str,
    backend: Option<&'static str>,
}

impl Case {
    /// The full name of this case on `ops`.
    pub fn full_name(&self, ops: Ops) -> CaseName {
        let backend = self.per_backend.then(|| ops.backend().name());
        CaseName { name: self.name, shape: self.shape, backend }
    }
}

impl fmt::Display for CaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` needs one string, so the width asked for is filled by hand: columns stay columns without an allocator.
        let mut written = 0;
        for (i, part) in [Some(self.name), Some(self.shape), self.backend].into_iter().flatten().enumerate() {
            if i > 0 {
                f.write_str("/")?;
                written += 1;
            }
            f.write_str(part)?;
            written += part.len();
        }
        for _ in written..f.width().unwrap_or(0) {
            f.write_str(" ")?;
        }
        Ok(())
    }
}
