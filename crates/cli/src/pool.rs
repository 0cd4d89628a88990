//! A pool of threads behind the engine's `Workers`.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use corelm::ops::Workers;

/// Turns of the waiting loop before a thread asks to sleep. Matrix products follow each other within microseconds, and
/// waking a sleeper costs more than that.
const SPINS: usize = 10_000;

/// The caller's thread and `n - 1` more.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Held while a job runs: the one slot for jobs belongs to one caller.
    turn: Mutex<()>,
}

/// What the threads watch.
struct Shared {
    /// The job of the current round; cleared before `run` returns.
    job: Mutex<Option<&'static (dyn Fn(usize) + Sync)>>,
    /// Counts rounds; a change means there is a job.
    round: AtomicUsize,
    /// Threads that have not finished the round.
    n_running: AtomicUsize,
    is_closing: AtomicBool,
}

impl Pool {
    /// A pool of `n` workers, the caller included.
    pub fn new(n: NonZeroUsize) -> Pool {
        let shared = Arc::new(Shared {
            job: Mutex::new(None),
            round: AtomicUsize::new(0),
            n_running: AtomicUsize::new(0),
            is_closing: AtomicBool::new(false),
        });
        let threads = (1..n.get())
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                // Fewer threads than asked for are slower, not wrong.
                thread::Builder::new().spawn(move || shared.serve(index)).ok()
            })
            .collect();
        Pool { shared, threads, turn: Mutex::new(()) }
    }
}

impl Workers for Pool {
    fn count(&self) -> usize {
        self.threads.len() + 1
    }

    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        let turn = self.turn.try_lock();
        if self.threads.is_empty() || turn.is_err() {
            // Alone, or a job within a job: the caller does all parts.
            return (0..self.count()).for_each(job);
        }
        // SAFETY: only the lifetime changes. `Round::drop` below takes the reference back and waits for every thread
        // that may hold it, also when `job` panics here, so nobody uses it after this call.
        let job_forever =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(job) };
        *lock(&self.shared.job) = Some(job_forever);
        self.shared.n_running.store(self.threads.len(), Ordering::Relaxed);
        self.shared.round.fetch_add(1, Ordering::Release);
        let _round = Round(&self.shared);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
        job(0);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A worker that panicked has already said so.
            let _ = thread.join();
        }
    }
}

/// A round that is under way; dropping it waits for its end.
struct Round<'a>(&'a Shared);

impl Drop for Round<'_> {
    fn drop(&mut self) {
        let mut turns = 0;
        while self.0.n_running.load(Ordering::Acquire) > 0 {
            turns += 1;
            if turns < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
        }
        *lock(&self.0.job) = None;
    }
}

impl Shared {
    /// What a thread of the pool does until the pool closes.
    fn serve(&self, index: usize) {
        let mut seen = 0;
        loop {
            let mut turns = 0;
            while self.round.load(Ordering::Acquire) == seen {
                if self.is_closing.load(Ordering::Acquire) {
                    return;
                }
                turns += 1;
                if turns < SPINS { std::hint::spin_loop() } else { thread::park() }
            }
            seen += 1;
            let job = *lock(&self.job);
            let _done = Done(&self.n_running);
            if let Some(job) = job {
                job(index);
            }
        }
    }
}

/// Reports the end of a thread's part.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // A part of the result is missing and nobody would notice.
            std::process::abort();
        }
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Locks, whatever happened to an earlier holder: the data is one word, whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_runs_each_round_once() {
        for n in 1..=4 {
            let pool = Pool::new(NonZeroUsize::new(n).unwrap());
            let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..200 {
                pool.run(&|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 200), "{n} workers");
        }
    }

    #[test]
    fn a_job_within_a_job_runs() {
        let pool = Pool::new(NonZeroUsize::new(2).unwrap());
        let count = AtomicUsize::new(0);
        pool.run(&|_| {
            pool.run(&|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.load(Ordering::Relaxed), 4);
    }
}
