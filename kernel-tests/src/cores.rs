//! Secondary cores: started once, then waiting in `wfe` for work.
//!
//! One job at a time. Core 0 publishes it, the others run their part, core 0 runs its own and waits for them.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aarch64_cpu::asm::{sev, wfe};
use corelm::ops::Workers;

use crate::counter::{CycleCounter, Timer};
use crate::mmu;

type Job = *const (dyn Fn(usize) + Sync);

struct Published(UnsafeCell<Option<Job>>);
// SAFETY: written only by the core that took `IS_BUSY`, before it raises `ROUND`; the others read it
// after they have seen `ROUND` rise and before they lower `AT_WORK`.
unsafe impl Sync for Published {}

static JOB: Published = Published(UnsafeCell::new(None));
/// Number of the latest job.
static ROUND: AtomicUsize = AtomicUsize::new(0);
/// Cores that have not finished the latest job.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);
/// Cores that have arrived to wait for jobs.
static READY: AtomicUsize = AtomicUsize::new(0);
/// Cores in the team; one that arrives after this was written has no part in any job.
static TEAM: AtomicUsize = AtomicUsize::new(1);
/// Whether a job is under way.
static IS_BUSY: AtomicBool = AtomicBool::new(false);
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// All started cores as workers. There is at most one value of this type.
#[derive(Debug)]
pub struct Team {
    count: usize,
}

impl Team {
    /// Starts cores 1 to `wanted` - 1 by `start`, waits until each has arrived, and returns the team, core 0 included.
    ///
    /// A core that does not start, or does not arrive within a second, ends the search: the team is then smaller.
    /// A second call gets a team of one.
    pub fn start(wanted: usize, mut start: impl FnMut(usize) -> bool) -> Self {
        let is_first = !IS_TAKEN.swap(true, Ordering::AcqRel);
        let wanted = if is_first { wanted.max(1) } else { 1 };
        for core in 1..wanted {
            let deadline = Timer.now().saturating_add(Timer.hz());
            let is_started = start(core);
            while is_started && READY.load(Ordering::Acquire) < core && Timer.now() < deadline {
                core::hint::spin_loop();
            }
            if READY.load(Ordering::Acquire) < core {
                break;
            }
        }
        let count = if is_first { 1 + READY.load(Ordering::Acquire) } else { 1 };
        TEAM.store(count, Ordering::Release);
        Self { count }
    }
}

impl Workers for Team {
    fn count(&self) -> usize {
        self.count
    }

    /// Each call is on a core of its own; called from within a job, all are on the calling core.
    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        if self.count == 1 || IS_BUSY.swap(true, Ordering::Acquire) {
            return (0..self.count).for_each(job);
        }
        AT_WORK.store(self.count - 1, Ordering::Relaxed);
        // SAFETY: only the lifetime changes. No core keeps the job past its part, and this function waits for all parts,
        // so the borrow outlives every use.
        let job_for_all: Job = unsafe { core::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        // SAFETY: `IS_BUSY` was free, so no core is at work.
        unsafe { *JOB.0.get() = Some(job_for_all) };
        ROUND.fetch_add(1, Ordering::Release);
        sev();
        job(0);
        while AT_WORK.load(Ordering::Acquire) != 0 {
            core::hint::spin_loop();
        }
        IS_BUSY.store(false, Ordering::Release);
    }
}

/// Where a secondary core enters Rust, with the MMU off.
#[unsafe(no_mangle)]
extern "C" fn secondary_main(core: usize) -> ! {
    // SAFETY: core 0 filled the tables before it started this core.
    unsafe { mmu::enable() };
    CycleCounter::enable();
    let mut seen = ROUND.load(Ordering::Acquire);
    READY.fetch_add(1, Ordering::Release);
    loop {
        while ROUND.load(Ordering::Acquire) == seen {
            wfe();
        }
        seen = seen.wrapping_add(1);
        if core >= TEAM.load(Ordering::Acquire) {
            continue;
        }
        // SAFETY: `ROUND` has risen, so core 0 has published a job and waits for this core.
        if let Some(job) = unsafe { *JOB.0.get() } {
            // SAFETY: `Team::run` keeps the job alive until `AT_WORK` is 0.
            unsafe { (*job)(core) };
        }
        AT_WORK.fetch_sub(1, Ordering::Release);
    }
}
