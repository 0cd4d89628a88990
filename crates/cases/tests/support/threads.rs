//! Workers of the operating system; they come in no order.

use corelm::ops::Workers;

/// Threads that are started for each job.
pub struct Threads(pub usize);

impl Workers for Threads {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| (0..self.0).for_each(|i| drop(scope.spawn(move || job(i)))));
    }
}
