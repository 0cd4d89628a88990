//! [`Workers`]: the cores an embedder lends, and the two ways work is cut up for them.
//!
//! Parts are handed out by an atomic counter, so that no part is done twice and none is left undone whatever the
//! embedder's `run` does; results never depend on which worker took a part.

use core::marker::PhantomData;
use core::num::NonZeroUsize;
use core::ops::Range;
use core::ptr::NonNull;
#[cfg(not(all(loom, test)))]
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering;

#[cfg(all(loom, test))]
use corelm_sync::model::AtomicUsize;

use crate::cpu::DefaultMode;
use crate::tile::TileMut;

/// Cores that can run a job together.
pub trait Workers: Sync {
    /// How many workers there are, the caller among them: at least 1.
    fn count(&self) -> usize;

    /// Calls `job(i)` once for every `i < count()`, at the same time where it can, and returns when all have returned.
    fn run(&self, job: &(dyn Fn(usize) + Sync));
}

/// The calling core alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Single;

impl Workers for Single {
    fn count(&self) -> usize {
        1
    }

    fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        job(0);
    }
}

/// Rows and columns of the parts that [`for_each_tile`] cuts a matrix into.
#[derive(Clone, Copy, Debug)]
pub struct PartSize {
    /// Rows; the last part of a column may have fewer.
    pub rows: NonZeroUsize,
    /// Columns; the last part of a row may have fewer.
    pub cols: NonZeroUsize,
}

/// Calls `body(rows, columns, tile, scratch)` for parts that cover `dst`, all parts of a column one after the other.
///
/// `rows` and `columns` count from `dst`'s first. Each worker has `scratch_len` elements of `scratch` for all its parts;
/// where there are not enough for all workers, the last of them do nothing. Returns when all parts are done.
#[allow(clippy::type_complexity)] // an alias would hide what the body is given
pub fn for_each_tile<T: Send>(
    workers: &dyn Workers,
    dst: TileMut<'_>,
    part_size: PartSize,
    scratch: &mut [T],
    scratch_len: usize,
    body: &(dyn Fn(Range<usize>, Range<usize>, TileMut<'_>, &mut [T]) + Sync),
) {
    let n_down = div_ceil(dst.rows(), part_size.rows);
    let Some(down) = NonZeroUsize::new(n_down) else { return };
    let n_parts = n_down.saturating_mul(div_ceil(dst.cols(), part_size.cols));
    let scratch_len = scratch_len.min(scratch.len());
    let n_places = scratch.len().checked_div(scratch_len).unwrap_or(usize::MAX);
    let scratch = Parts { origin: NonNull::from(scratch).cast::<T>(), borrow: PhantomData };
    let (next_place, next_part) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = |_worker: usize| {
        let Some(place) = take_number(&next_place, n_places) else { return };
        // SAFETY: each place is taken once, so these elements, of which `n_places` times as many are there, are borrowed
        // once.
        let scratch = unsafe {
            let origin = scratch.origin().add(place.wrapping_mul(scratch_len));
            core::slice::from_raw_parts_mut(origin.as_ptr(), scratch_len)
        };
        while let Some(part) = take_number(&next_part, n_parts) {
            let rows = part_range(part % down, part_size.rows, dst.rows());
            let cols = part_range(part / down, part_size.cols, dst.cols());
            // SAFETY: each part is taken once, so these elements are borrowed once; `dst` itself stays unused.
            let tile = unsafe { dst.part(rows.clone(), cols.clone()) };
            body(rows, cols, tile, scratch);
        }
    };
    if workers.count() > 1 && n_parts > 1 {
        // Each worker's core computes in a mode of its own.
        workers.run(&|worker| {
            let _mode = DefaultMode::enter();
            work(worker);
        });
        // All have returned, and their places are free.
        next_place.store(0, Ordering::Relaxed);
    }
    // What they left, which is all where the caller is alone.
    work(0);
}

/// Part `i` of `n` things, in parts of `by`.
fn part_range(i: usize, by: NonZeroUsize, n: usize) -> Range<usize> {
    let start = i.saturating_mul(by.get());
    start..start.saturating_add(by.get()).min(n)
}

/// The next number below `n`, which nobody else gets.
fn take_number(next: &AtomicUsize, n: usize) -> Option<usize> {
    // Relaxed is enough: parts share nothing, and `run` returning orders their results before what follows.
    next.try_update(Ordering::Relaxed, Ordering::Relaxed, |i| (i < n).then(|| i + 1)).ok()
}

/// `n / by`, rounded up.
fn div_ceil(n: usize, by: NonZeroUsize) -> usize {
    n / by + usize::from(n % by != 0)
}

/// A slice whose parts go to different workers.
struct Parts<'a, T> {
    origin: NonNull<T>,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Parts<'_, T> {
    /// The first element; a method, so that closures capture the whole (and `Sync`) struct.
    fn origin(&self) -> NonNull<T> {
        self.origin
    }
}

// SAFETY: shared only to hand out disjoint parts, each to one worker, and `T: Send` may move there.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;

    /// `n` scoped threads; with `lazy`, all but the caller stay away.
    struct Threads {
        n: usize,
        lazy: bool,
    }

    impl Workers for Threads {
        fn count(&self) -> usize {
            self.n
        }
        fn run(&self, job: &(dyn Fn(usize) + Sync)) {
            if !self.lazy {
                std::thread::scope(|s| (0..self.n).for_each(|i| drop(s.spawn(move || job(i)))));
            }
        }
    }

    const ALL: [&dyn Workers; 4] = [
        &Single,
        &Threads { n: 3, lazy: false },
        &Threads { n: 3, lazy: true },
        &Threads { n: 0, lazy: false },
    ];

    fn size(rows: usize, cols: usize) -> PartSize {
        PartSize { rows: NonZeroUsize::new(rows).unwrap(), cols: NonZeroUsize::new(cols).unwrap() }
    }

    #[test]
    fn every_element_is_done_once() {
        for workers in ALL {
            for (rows, cols) in (1..5).flat_map(|rows| (1..9).map(move |cols| (rows, cols))) {
                let mut values = [0.0f32; 3 * 7];
                let (dst, _) = TileMut::new(&mut values, 7).split_at_col(6);
                for_each_tile(
                    workers,
                    dst,
                    size(rows, cols),
                    &mut [(); 9],
                    1,
                    &|rows, columns, mut tile, _| {
                        for (i, row) in rows.enumerate() {
                            for (x, c) in tile.row_mut(i).unwrap().iter_mut().zip(columns.clone()) {
                                *x += (10 * row + c + 1) as f32;
                            }
                        }
                    },
                );
                let want: [f32; 21] =
                    core::array::from_fn(|i| if i % 7 < 6 { (10 * (i / 7) + i % 7 + 1) as f32 } else { 0.0 });
                assert_eq!(values, want);
            }
        }
    }

    #[test]
    fn every_worker_has_scratch_of_its_own() {
        for workers in ALL {
            for (n, len, places) in [(11, 3, 3), (3, 3, 1), (2, 3, 1), (5, 0, 3), (0, 0, 3)] {
                let (mut values, mut scratch) = ([0.0f32; 2 * 7], [0usize; 11]);
                let dst = TileMut::new(&mut values, 7);
                for_each_tile(
                    workers,
                    dst,
                    size(2, 2),
                    &mut scratch[..n],
                    len,
                    &|_, columns, mut tile, scratch| {
                        assert_eq!(scratch.len(), len.min(n));
                        scratch.iter_mut().for_each(|x| *x += columns.len());
                        (0..2).for_each(|i| tile.row_mut(i).unwrap().fill(1.0));
                    },
                );
                assert_eq!(values, [1.0; 14]);
                let len = len.min(n);
                assert_eq!(scratch.iter().sum::<usize>(), 7 * len);
                assert!(scratch.iter().skip(places * len).all(|&x| x == 0));
            }
        }
    }
}

/// Every interleaving of what hands parts out.
#[cfg(all(test, loom))]
mod models {
    extern crate std;
    use super::*;
    use corelm_sync::model::{Model, explore};
    use loom::cell::UnsafeCell;
    use std::vec::Vec;

    /// The caller and `n - 1` of loom's threads.
    struct Threads(usize);

    impl Workers for Threads {
        fn count(&self) -> usize {
            self.0
        }

        fn run(&self, job: &(dyn Fn(usize) + Sync)) {
            // SAFETY: only the lifetime changes; all threads that have it are joined below.
            let job = unsafe {
                core::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(job)
            };
            let threads: Vec<_> = (1..self.0).map(|i| loom::thread::spawn(move || job(i))).collect();
            job(0);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }

    /// A number of which loom knows who adds to it, and whether it may.
    struct Count(UnsafeCell<usize>);

    // SAFETY: loom says when two threads reach it without an order.
    unsafe impl Send for Count {}
    // SAFETY: as above.
    unsafe impl Sync for Count {}

    impl Count {
        fn new() -> Self {
            Self(UnsafeCell::new(0))
        }

        fn add_one(&self) {
            // SAFETY: as above.
            self.0.with_mut(|count| unsafe { *count += 1 });
        }

        fn get(&self) -> usize {
            // SAFETY: as above.
            self.0.with(|count| unsafe { *count })
        }
    }

    /// Two parts, each done once, by whom ever; and nobody's scratch is anybody else's.
    fn two_parts(n_workers: usize, n_places: usize) {
        let size = PartSize { rows: NonZeroUsize::MIN, cols: NonZeroUsize::MIN };
        let mut values = [0.0; 2];
        let parts = [Count::new(), Count::new()];
        let mut scratch: Vec<Count> = (0..n_places).map(|_| Count::new()).collect();
        let dst = TileMut::new(&mut values, 2);
        for_each_tile(&Threads(n_workers), dst, size, &mut scratch, 1, &|_, columns, _, scratch| {
            parts[columns.start].add_one();
            scratch[0].add_one();
        });
        assert!(parts.iter().all(|count| count.get() == 1), "model: a part was not done once");
        assert_eq!(scratch.iter().map(Count::get).sum::<usize>(), 2, "model: scratch was lost");
    }

    #[test]
    fn parts() {
        let all = |name, body| Model { name, most_preemptions: None, body };
        explore(
            "workers::models::parts",
            &[
                all("two parts for two workers", || two_parts(2, 2)),
                all("two parts for three workers, of whom two have scratch", || two_parts(3, 2)),
            ],
        );
    }
}
