//! [`Rounds`]: one job at a time for a team, whose first member calls for it and whose others serve.
//!
//! The caller publishes the job, counts the others in and raises the number of the round. Each of the others sees the number
//! rise, does its part and counts itself out. The caller does part 0 and waits until nobody is counted in. How one waits, and
//! how those are woken who sleep, is for the machine to say.

use crate::primitives::{AtomicBool, AtomicUsize, Ordering, UnsafeCell, constant};

type Job = *const (dyn Fn(usize) + Sync);

/// What a team watches.
#[derive(Debug)]
pub struct Rounds {
    /// The job of the latest round.
    job: UnsafeCell<Option<Job>>,
    /// Number of the latest round.
    round: AtomicUsize,
    /// Members that have not finished it.
    n_running: AtomicUsize,
    /// Members of the team, the caller included; who has another number has no part in any round.
    n_members: AtomicUsize,
    /// How many have arrived, where they say so.
    n_arrived: AtomicUsize,
    /// Whether a round is under way.
    is_busy: AtomicBool,
    is_closed: AtomicBool,
}

// SAFETY: `job` is written only by who took `is_busy`, before `round` rises. The others read it when they have seen that, and
// before they lower `n_running`, for which the writer waits before it gives `is_busy` back.
unsafe impl Sync for Rounds {}
// SAFETY: the pointer in `job` is followed only within `run`, which has what it points to borrowed.
unsafe impl Send for Rounds {}

impl Rounds {
    constant! {
        /// A team of the caller alone.
        #[allow(clippy::new_without_default)] // nobody asks for a default
        pub fn new() -> Self {
            Self {
                job: UnsafeCell::new(None),
                round: AtomicUsize::new(0),
                n_running: AtomicUsize::new(0),
                n_members: AtomicUsize::new(1),
                n_arrived: AtomicUsize::new(0),
                is_busy: AtomicBool::new(false),
                is_closed: AtomicBool::new(false),
            }
        }
    }

    /// Counts the calling core in, which is about to [`serve`](Self::serve): for those who have to know before they
    /// [open](Self::open) the team.
    pub fn arrive(&self) {
        self.n_arrived.fetch_add(1, Ordering::Relaxed);
    }

    /// How many have [arrived](Self::arrive).
    pub fn n_arrived(&self) -> usize {
        self.n_arrived.load(Ordering::Relaxed)
    }

    /// Makes a team of the caller and members 1 to `n_members` - 1, who serve or will. Before the first round, and once.
    pub fn open(&self, n_members: usize) {
        // Members read it when they have seen a round begin.
        self.n_members.store(n_members, Ordering::Relaxed);
    }

    /// Calls `job(i)` for each member `i` of the team, on its core or thread, and returns when all have returned.
    ///
    /// While a round is under way, and so within a job, all calls are the caller's. `wake` is called when there is a job;
    /// `wait(turn)`, with turns from 0 up, for as long as there is nothing to do but wait.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync), wake: impl FnOnce(), wait: impl FnMut(usize)) {
        let n_members = self.n_members.load(Ordering::Relaxed);
        if n_members <= 1 || !self.take() {
            return (0..n_members).for_each(job);
        }
        let under_way = UnderWay { rounds: self, wait };
        // SAFETY: only the lifetime changes. Dropping `under_way` waits for every member that may follow the pointer, also
        // when `job` panics here, so nobody does after this call.
        let job_for_all = unsafe { core::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        // SAFETY: `is_busy` was free, so nobody reads or writes it.
        self.job.with_mut(|job| unsafe { *job = Some(job_for_all) });
        self.n_running.store(n_members.wrapping_sub(1), Ordering::Relaxed);
        let round = self.round.load(Ordering::Relaxed).wrapping_add(1);
        self.round.store(round, Ordering::Release);
        wake();
        job(0);
        drop(under_way);
    }

    /// Whether the next round is the caller's.
    fn take(&self) -> bool {
        self.is_busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// What `member` does, from 1 up, until the team is [closed](Self::close); `wait` is as for [`run`](Self::run).
    pub fn serve(&self, member: usize, mut wait: impl FnMut(usize)) {
        let mut seen: usize = 0;
        loop {
            let mut turn: usize = 0;
            while self.round.load(Ordering::Acquire) == seen {
                if self.is_closed.load(Ordering::Relaxed) {
                    return;
                }
                wait(turn);
                turn = turn.saturating_add(1);
            }
            seen = seen.wrapping_add(1);
            if member >= self.n_members.load(Ordering::Relaxed) {
                continue;
            }
            // SAFETY: the round has risen, so the job is published, and stays until this member has counted itself out.
            if let Some(job) = self.job.with(|job| unsafe { *job }) {
                // SAFETY: `run` has it borrowed until then.
                unsafe { (*job)(member) };
            }
            self.n_running.fetch_sub(1, Ordering::Release);
        }
    }

    /// Has those who serve return, once they have done what they were called for; they may have to be woken.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

/// A round that is under way; dropping it waits for its end.
struct UnderWay<'a, W: FnMut(usize)> {
    rounds: &'a Rounds,
    wait: W,
}

impl<W: FnMut(usize)> Drop for UnderWay<'_, W> {
    fn drop(&mut self) {
        let mut turn: usize = 0;
        while self.rounds.n_running.load(Ordering::Acquire) != 0 {
            (self.wait)(turn);
            turn = turn.saturating_add(1);
        }
        self.rounds.is_busy.store(false, Ordering::Release);
    }
}
