//! loom's atomics, for models: each place in the code where one is used can be weakened.
//!
//! [`explore`] runs every interleaving of a list of models, and notes the places they come by. Then it starts this program
//! once more for each place and each way to weaken it, and some model must fail: an ordering that nothing needs, or a model
//! that would not see its absence, is an error too.

use loom::sync::atomic as real;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;
use std::process::Command;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Names a [`Fault`], in a process that is to fail.
const VARIABLE: &str = "CORELM_LOOM_FAULT";

/// Turns that a thread may wait in vain before what follows is run in one order only: what could come of it is also explored
/// from where the thread was scheduled later, and there is no end of schedules in which others wait for ever.
const TURNS: usize = 1;

/// What those processes print in which loom found a fault, or a model did.
const SYMPTOMS: [&str; 4] = ["Causality violation", "deadlock", "maximum number of branches", "model:"];

/// One way to weaken an atomic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weakness {
    /// The ordering is relaxed.
    Relaxed,
    /// What reads and writes in one step does so in two.
    Torn,
}

/// A place in the code with a weakness.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    place: String,
    weakness: Weakness,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}", self.place, self.weakness)
    }
}

/// What a few threads do.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// What it is called in reports.
    pub name: &'static str,
    /// The most times that a thread is stopped which could go on; any number where there is none.
    pub most_preemptions: Option<usize>,
    /// The first thread, which starts the others.
    pub body: fn(),
}

/// All that was come by.
static FAULTS: Mutex<BTreeSet<Fault>> = Mutex::new(BTreeSet::new());

/// Whether the operation of the caller's caller is to have this weakness; notes that it could.
#[track_caller]
fn has(weakness: Weakness) -> bool {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var(VARIABLE).ok());
    let place = Location::caller();
    let place = format!("{}:{}:{}", place.file(), place.line(), place.column());
    let fault = Fault { place, weakness };
    let is_wanted = wanted.as_ref() == Some(&fault.to_string());
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner).insert(fault);
    is_wanted
}

/// The ordering, or a weaker one.
#[track_caller]
fn ordering(ordering: Ordering) -> Ordering {
    if ordering != Ordering::Relaxed && has(Weakness::Relaxed) { Ordering::Relaxed } else { ordering }
}

/// Runs every interleaving of each model, prints how many there were, and then sees that no ordering can be weakened.
/// `test` is the whole name of the calling test.
///
/// # Panics
///
/// When a model fails, or fails to fail.
pub fn explore(test: &str, models: &[Model]) {
    // Faults are of one list of models.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner).clear();
    for &Model { name, most_preemptions, body } in models {
        let n = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&n);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = most_preemptions;
        builder.check(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            body();
        });
        let n = n.load(Ordering::Relaxed);
        match most_preemptions {
            None => println!("model: {name}: all {n} interleavings"),
            Some(most) => println!("model: {name}: the {n} interleavings of {most} preemptions"),
        }
    }
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(!faults.is_empty(), "no model uses an atomic that could be weaker");
    for fault in faults {
        let program = std::env::current_exe().expect("a program knows its file");
        let output = Command::new(program)
            .args([test, "--exact", "--nocapture"])
            .env(VARIABLE, fault.to_string())
            .output()
            .expect("a program can be started again");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{fault}: no model needs it");
        let symptom = SYMPTOMS.iter().find(|symptom| printed.contains(**symptom));
        let symptom = symptom.unwrap_or_else(|| panic!("{fault}: failed otherwise:\n{printed}"));
        println!("planted: {fault}: {symptom}");
    }
}

/// Waits for another thread, as [`core::hint::spin_loop`] would; `turn` counts up while the same is waited for.
pub fn wait(turn: usize) {
    if turn >= TURNS {
        loom::skip_branch();
    }
    loom::thread::yield_now();
}

/// [`core::sync::atomic::AtomicBool`].
#[derive(Debug)]
pub struct AtomicBool(real::AtomicBool);

#[allow(missing_docs)] // they are the standard library's
impl AtomicBool {
    pub fn new(value: bool) -> Self {
        Self(real::AtomicBool::new(value))
    }

    #[track_caller]
    pub fn load(&self, order: Ordering) -> bool {
        self.0.load(ordering(order))
    }

    #[track_caller]
    pub fn store(&self, value: bool, order: Ordering) {
        self.0.store(value, ordering(order));
    }

    #[track_caller]
    pub fn compare_exchange(
        &self,
        current: bool,
        new: bool,
        success: Ordering,
        failure: Ordering,
    ) -> Result<bool, bool> {
        if has(Weakness::Torn) {
            let old = self.0.load(Ordering::SeqCst);
            if old != current {
                return Err(old);
            }
            self.0.store(new, Ordering::SeqCst);
            return Ok(old);
        }
        self.0.compare_exchange(current, new, ordering(success), failure)
    }
}

/// [`core::sync::atomic::AtomicUsize`].
#[derive(Debug)]
pub struct AtomicUsize(real::AtomicUsize);

#[allow(missing_docs)] // they are the standard library's
impl AtomicUsize {
    pub fn new(value: usize) -> Self {
        Self(real::AtomicUsize::new(value))
    }

    #[track_caller]
    pub fn load(&self, order: Ordering) -> usize {
        self.0.load(ordering(order))
    }

    #[track_caller]
    pub fn store(&self, value: usize, order: Ordering) {
        self.0.store(value, ordering(order));
    }

    #[track_caller]
    pub fn fetch_add(&self, value: usize, order: Ordering) -> usize {
        self.change(order, |old| Some(old.wrapping_add(value))).unwrap_or_else(|old| old)
    }

    #[track_caller]
    pub fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
        self.change(order, |old| Some(old.wrapping_sub(value))).unwrap_or_else(|old| old)
    }

    #[track_caller]
    pub fn try_update(
        &self,
        set_order: Ordering,
        _fetch_order: Ordering,
        f: impl FnMut(usize) -> Option<usize>,
    ) -> Result<usize, usize> {
        self.change(set_order, f)
    }

    #[track_caller]
    fn change(&self, order: Ordering, mut f: impl FnMut(usize) -> Option<usize>) -> Result<usize, usize> {
        if has(Weakness::Torn) {
            let old = self.0.load(Ordering::SeqCst);
            let new = f(old).ok_or(old)?;
            self.0.store(new, Ordering::SeqCst);
            return Ok(old);
        }
        let order = ordering(order);
        // loom's is a loop of comparing and exchanging.
        self.0.fetch_update(order, Ordering::Relaxed, f)
    }
}
