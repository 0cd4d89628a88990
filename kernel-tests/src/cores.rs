//! Secondary cores: started once, then waiting in `wfe` for work.
//!
//! One job at a time. Core 0 publishes it, the others run their part, core 0 runs its own and waits for them.

use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::asm::{barrier, sev, wfe};
use corelm::ops::Workers;
use corelm_sync::Rounds;

use crate::counter::{CycleCounter, Timer};
use crate::mmu;

static ROUNDS: Rounds = Rounds::new();
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
        if IS_TAKEN.swap(true, Ordering::Relaxed) {
            return Self { count: 1 };
        }
        for core in 1..wanted {
            let deadline = Timer.now().saturating_add(Timer.hz());
            let is_started = start(core);
            while is_started && ROUNDS.n_arrived() < core && Timer.now() < deadline {
                core::hint::spin_loop();
            }
            if ROUNDS.n_arrived() < core {
                break;
            }
        }
        let count = 1 + ROUNDS.n_arrived();
        ROUNDS.open(count);
        Self { count }
    }
}

impl Workers for Team {
    fn count(&self) -> usize {
        self.count
    }

    /// Each call is on a core of its own; called from within a job, all are on the calling core.
    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        if self.count == 1 {
            return job(0);
        }
        ROUNDS.run(job, wake, |_| core::hint::spin_loop());
    }
}

/// Wakes all cores. The round is visible to them before the event is: who wakes too early would sleep on.
fn wake() {
    barrier::dsb(barrier::ISHST);
    sev();
}

/// Where a secondary core enters Rust, with the MMU off.
#[unsafe(no_mangle)]
extern "C" fn secondary_main(core: usize) -> ! {
    // SAFETY: core 0 filled the tables before it started this core.
    unsafe { mmu::enable() };
    CycleCounter::enable();
    ROUNDS.arrive();
    ROUNDS.serve(core, |_| wfe());
    // Nobody closes the team.
    loop {
        wfe();
    }
}
