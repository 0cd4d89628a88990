//! [`Lock`]: a value for all cores. Interrupts are masked first, then the lock is taken.
//!
//! In that order, because an interrupt that arrives between taking the lock and masking would find its own core
//! holding it.

use crate::primitives::{AtomicBool, Ordering, UnsafeCell, constant, pause};
use core::marker::PhantomData;

/// How a core keeps interrupts away.
pub trait Mask {
    /// What was masked before.
    type Before;

    /// Masks all interrupts of the calling core.
    fn mask() -> Self::Before;

    /// Masks what was masked before, and nothing else.
    fn restore(before: Self::Before);
}

/// A value behind a spin lock that is only ever held with interrupts masked.
#[derive(Debug)]
pub struct Lock<T, M> {
    is_held: AtomicBool,
    value: UnsafeCell<T>,
    mask: PhantomData<fn() -> M>,
}

// SAFETY: only who holds the lock reaches the value, so it is in one place at a time, wherever it is sent.
unsafe impl<T: Send, M> Sync for Lock<T, M> {}

impl<T, M: Mask> Lock<T, M> {
    constant! {
        /// Wraps `value`.
        pub fn new(value: T) -> Self {
            Self { is_held: AtomicBool::new(false), value: UnsafeCell::new(value), mask: PhantomData }
        }
    }

    /// Runs `f` with the value, waiting for another core that holds it.
    ///
    /// Taking the same lock inside `f` never returns, nor does taking it after `f` has panicked.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let before = M::mask();
        let mut turn: usize = 0;
        while self.is_held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            pause(turn);
            turn = turn.saturating_add(1);
        }
        // SAFETY: the lock was free and is held now, so nobody else has a reference to the value.
        let result = self.value.with_mut(|value| f(unsafe { &mut *value }));
        self.is_held.store(false, Ordering::Release);
        M::restore(before);
        result
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    static LOCK: Lock<u32, Watch> = Lock::new(7);
    static N_MASKED: AtomicU32 = AtomicU32::new(0);

    /// Interrupts that look whether the lock is held when they are masked and when they are not any more.
    struct Watch;

    impl Mask for Watch {
        type Before = u32;

        fn mask() -> u32 {
            assert!(!LOCK.is_held.load(Ordering::Relaxed), "masked after the lock was taken");
            N_MASKED.fetch_add(1, Ordering::Relaxed)
        }

        fn restore(before: u32) {
            assert!(!LOCK.is_held.load(Ordering::Relaxed), "unmasked with the lock held");
            N_MASKED.store(before, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_held_only_while_interrupts_are_masked() {
        let n_masked = || N_MASKED.load(Ordering::Relaxed);
        let seen = LOCK.with(|value| {
            *value += 1;
            (*value, n_masked(), LOCK.is_held.load(Ordering::Relaxed))
        });
        assert_eq!((seen, n_masked()), ((8, 1, true), 0));
        assert_eq!(LOCK.with(|value| *value), 8);
    }
}
