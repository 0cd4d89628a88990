//! A race on purpose, which ThreadSanitizer must see: `cargo xtask sanitize --thread` runs it and wants it to fail.
#![cfg(all(feature = "std", not(loom)))]

use corelm_sync::Pool;
use std::cell::UnsafeCell;
use std::num::NonZeroUsize;

/// A number that every worker writes.
struct Shared(UnsafeCell<usize>);

// SAFETY: none, and that is the point.
unsafe impl Sync for Shared {}

impl Shared {
    fn add(&self, what: usize) {
        // SAFETY: none. No other test runs this one, and nothing follows from what is read.
        unsafe { *self.0.get() += what };
    }
}

#[test]
#[ignore = "a race on purpose, for ThreadSanitizer"]
fn workers_that_write_the_same() {
    let pool = Pool::new(NonZeroUsize::new(4).unwrap());
    let shared = Shared(UnsafeCell::new(0));
    (0..100).for_each(|_| pool.run(&|member| shared.add(member)));
}
