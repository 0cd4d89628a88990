//! [`Pool`]: the caller's thread and some more, which spin for a while and then sleep.

use crate::primitives::{give_way, pause, thread};
use crate::rounds::Rounds;
use std::num::NonZeroUsize;
use std::sync::Arc;
use thread::JoinHandle;

/// Turns of the waiting loop before a thread asks to sleep. Matrix products follow each other within microseconds, and
/// waking a sleeper costs more than that.
const SPINS: usize = if cfg!(loom) { 1 } else { 10_000 };

/// The caller's thread and `n - 1` more.
#[derive(Debug)]
pub struct Pool {
    rounds: Arc<Rounds>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `n` workers, the caller included.
    pub fn new(n: NonZeroUsize) -> Pool {
        let rounds = Arc::new(Rounds::new());
        let threads: Vec<JoinHandle<()>> = (1..n.get())
            .map_while(|member| {
                let rounds = Arc::clone(&rounds);
                // Fewer threads than asked for are slower, not wrong.
                thread::Builder::new().spawn(move || serve(&rounds, member)).ok()
            })
            .collect();
        rounds.open(threads.len() + 1);
        Pool { rounds, threads }
    }

    /// How many workers there are, the caller included.
    pub fn count(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `job(i)` for every `i < count()`, each on a thread of its own, and returns when all have returned. While another
    /// job runs, and so within a job, all calls are the caller's.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        let spin = |turn| if turn < SPINS { pause(turn) } else { give_way(turn) };
        self.rounds.run(job, || self.wake(), spin);
    }

    fn wake(&self) {
        self.threads.iter().for_each(|thread| thread.thread().unpark());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.rounds.close();
        self.wake();
        for thread in self.threads.drain(..) {
            // A worker that panicked has already said so.
            let _ = thread.join();
        }
    }
}

/// What a thread of the pool does until the pool closes.
fn serve(rounds: &Rounds, member: usize) {
    let _whole = Whole;
    rounds.serve(member, |turn| if turn < SPINS { pause(turn) } else { thread::park() });
}

/// A thread that is to end without a panic.
struct Whole;

impl Drop for Whole {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A part of the result is missing and nobody would notice.
            std::process::abort();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    #[test]
    fn a_panic_of_the_caller_ends_the_round_first() {
        let pool = Pool::new(NonZeroUsize::new(3).unwrap());
        let count = AtomicUsize::new(0);
        let job = |i| {
            assert!(i != 0, "planted");
            std::thread::sleep(std::time::Duration::from_millis(20));
            count.fetch_add(1, Ordering::Relaxed);
        };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.run(&job)));
        assert!(caught.is_err());
        assert_eq!(count.load(Ordering::Relaxed), 2);
        pool.run(&|_| _ = count.fetch_add(1, Ordering::Relaxed));
        assert_eq!(count.load(Ordering::Relaxed), 5);
    }
}
