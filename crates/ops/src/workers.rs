//! [`Workers`]: the cores an embedder lends, and the two ways work is cut up for them.
//!
//! Parts are handed out by an atomic counter, so that no part is done twice and none is left undone whatever the
//! embedder's `run` does; results never depend on which worker took a part.

use core::marker::PhantomData;
use core::num::NonZeroUsize;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

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

/// Calls `body(columns, tile)` for parts of `cols_per_part` columns (the last may be narrower) that cover `dst`.
///
/// `columns` counts from `dst`'s first column. Returns when all parts are done.
pub fn for_each_columns(
    workers: &dyn Workers,
    dst: TileMut<'_>,
    cols_per_part: NonZeroUsize,
    body: &(dyn Fn(Range<usize>, TileMut<'_>) + Sync),
) {
    let cols = dst.cols();
    for_each_part(workers, div_ceil(cols, cols_per_part), &|part| {
        let start = part.saturating_mul(cols_per_part.get());
        let columns = start..start.saturating_add(cols_per_part.get()).min(cols);
        // SAFETY: each part number is handed out once, so these columns are borrowed once; `dst` itself stays unused.
        let tile = unsafe { dst.columns(columns.clone()) };
        body(columns, tile);
    });
}

/// The same with memory for each part: `body(columns, tile, scratch)`, where `scratch` is `scratch_len` elements (fewer for
/// the last parts when there are not enough).
#[allow(clippy::type_complexity)] // an alias would hide what the body is given
pub fn for_each_columns_with<T: Send>(
    workers: &dyn Workers,
    dst: TileMut<'_>,
    cols_per_part: NonZeroUsize,
    scratch: &mut [T],
    scratch_len: usize,
    body: &(dyn Fn(Range<usize>, TileMut<'_>, &mut [T]) + Sync),
) {
    let (cols, len) = (dst.cols(), scratch.len());
    let parts = Parts { origin: NonNull::from(scratch).cast::<T>(), borrow: PhantomData };
    for_each_part(workers, div_ceil(cols, cols_per_part), &|part| {
        let start = part.saturating_mul(cols_per_part.get());
        let columns = start..start.saturating_add(cols_per_part.get()).min(cols);
        let from = part.saturating_mul(scratch_len).min(len);
        let n = (len - from).min(scratch_len);
        // SAFETY: each part number is handed out once, so these columns and this piece of `scratch`, which ends at
        // `from + n <= len`, are borrowed once; `dst` itself stays unused.
        let (tile, scratch) = unsafe {
            (
                dst.columns(columns.clone()),
                core::slice::from_raw_parts_mut(parts.origin().add(from).as_ptr(), n),
            )
        };
        body(columns, tile, scratch);
    });
}

/// Hands the numbers `0..n_parts` to the workers, each once; the caller does what they left.
fn for_each_part(workers: &dyn Workers, n_parts: usize, body: &(dyn Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    let work = |_worker: usize| {
        // Relaxed is enough: parts share nothing, and `run` returning orders their results before what follows.
        while let Ok(part) =
            next.try_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < n_parts).then(|| n + 1))
        {
            body(part);
        }
    };
    if workers.count() > 1 && n_parts > 1 {
        workers.run(&work);
    }
    work(0);
}

/// `n / by`, rounded up.
fn div_ceil(n: usize, by: NonZeroUsize) -> usize {
    n / by + usize::from(n % by != 0)
}

/// A slice whose chunks go to different workers.
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

// SAFETY: shared only to hand out disjoint chunks, each to one worker, and `T: Send` may move there.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

#[cfg(test)]
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

    #[test]
    fn every_column_is_done_once() {
        for workers in ALL {
            for part in 1..9 {
                let mut values = [0.0f32; 2 * 7];
                let part = NonZeroUsize::new(part).unwrap();
                for_each_columns(workers, TileMut::new(&mut values, 7), part, &|columns, mut tile| {
                    for i in 0..tile.rows() {
                        for (x, c) in tile.row_mut(i).unwrap().iter_mut().zip(columns.clone()) {
                            *x += (10 * i + c) as f32;
                        }
                    }
                });
                let want: [f32; 14] = core::array::from_fn(|i| (10 * (i / 7) + i % 7) as f32);
                assert_eq!(values, want);
            }
        }
    }

    #[test]
    fn every_part_has_scratch_of_its_own() {
        for workers in ALL {
            let (mut values, mut scratch) = ([0.0f32; 2 * 7], [0usize; 11]);
            let part = NonZeroUsize::new(2).unwrap();
            let dst = TileMut::new(&mut values, 7);
            for_each_columns_with(workers, dst, part, &mut scratch, 3, &|columns, mut tile, scratch| {
                scratch.iter_mut().for_each(|x| *x += columns.start);
                (0..2).for_each(|i| tile.row_mut(i).unwrap().fill(scratch.len() as f32));
            });
            assert_eq!(scratch, [0, 0, 0, 2, 2, 2, 4, 4, 4, 6, 6]);
            assert_eq!(values[..7], [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 2.0]);
        }
    }
}
