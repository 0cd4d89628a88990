//! What everything here is made of: the atomics of `core` and the threads of `std`, or loom's in a model.

#[cfg(loom)]
pub use crate::model::{AtomicBool, AtomicUsize};
#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicBool, AtomicUsize};

pub use core::sync::atomic::Ordering;

#[cfg(loom)]
pub use loom::cell::UnsafeCell;
#[cfg(loom)]
pub use loom::thread;
#[cfg(all(not(loom), feature = "std"))]
pub use std::thread;

/// A cell that is read and written through pointers, with the interface of loom's, which knows when.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Waits a moment for another thread; `turn` counts up from 0 while the same is waited for.
#[cfg(all(not(loom), feature = "std"))]
pub fn pause(_turn: usize) {
    core::hint::spin_loop();
}

/// Lets another thread go on.
#[cfg(all(not(loom), feature = "std"))]
pub fn give_way(_turn: usize) {
    thread::yield_now();
}

#[cfg(loom)]
pub use crate::model::{wait as give_way, wait as pause};

/// A constructor that is `const` but in a model, where an atomic belongs to an exploration.
macro_rules! constant {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $ty:ty),*) -> $result:ty $body:block) => {
        #[cfg(not(loom))]
        $(#[$attribute])* $visibility const fn $name($($argument: $ty),*) -> $result $body
        #[cfg(loom)]
        $(#[$attribute])* $visibility fn $name($($argument: $ty),*) -> $result $body
    };
}
pub(crate) use constant;
