//! corelm-sync: how cores and threads around the engine wait for each other. The engine itself never waits.
//!
//! | module | what |
//! |---|---|
//! | [`rounds`] | [`Rounds`]: one job at a time for a team of cores or threads |
//! | [`pool`] | [`Pool`]: threads that serve such rounds (feature `std`) |
//! | `primitives` | what these are made of: `core`'s atomics, or loom's |
//! | `model` | loom's atomics, each of whose orderings can be weakened (`cfg(loom)`) |
//!
//! Under `cfg(loom)` the same code is explored: `tests/models.rs` runs every interleaving of two or three threads, and then
//! asks of every ordering, and of every operation that reads and writes in one step, that some model fails without it.
#![cfg_attr(not(any(test, loom, feature = "std")), no_std)]

#[cfg(loom)]
pub mod model;
#[cfg(any(loom, feature = "std"))]
pub mod pool;
mod primitives;
pub mod rounds;

#[cfg(any(loom, feature = "std"))]
pub use pool::Pool;
pub use rounds::Rounds;
