//! The arena: one region of memory that the caller owns, handed out in aligned, initialised slices.
//!
//! The only file of this crate with `unsafe`: two lines that turn checked bytes into typed slots, and one that sees bytes of
//! a file as numbers.
#![allow(unsafe_code)]

use crate::error::ArenaError;
use core::mem::{self, MaybeUninit};
use core::{ptr, slice};

/// A bump allocator over a region that the caller owns.
///
/// Slices begin on multiples of [`Arena::ALIGN`] *in memory*, wherever the region begins, and every element is written
/// before it is seen. Nothing is freed piece by piece: [`Arena::scope`] lends what is free and takes it back whole.
///
/// ```
/// use core::mem::MaybeUninit;
/// use corelm::arena::{Arena, Layout};
///
/// const NEED: Layout = match Layout::new().add::<f32>(100) {
///     Ok(layout) => layout,
///     Err(_) => Layout::new(),
/// };
/// let mut region = [MaybeUninit::uninit(); NEED.bytes()];
/// let mut arena = Arena::new(&mut region);
/// let row = arena.alloc(100, 0.0f32)?;
/// assert_eq!(row.len(), 100);
/// assert_eq!(arena.stats().used, arena.stats().capacity);
/// # Ok::<(), corelm::error::ArenaError>(())
/// ```
#[derive(Debug)]
pub struct Arena<'a> {
    /// What is left; begins on a multiple of `ALIGN`, and its length is one.
    free: &'a mut [MaybeUninit<u8>],
    capacity: usize,
    n_allocs: usize,
    high_water: HighWater<'a>,
}

/// Where the mark is kept: a scope raises the one of the arena it came from.
#[derive(Debug)]
enum HighWater<'a> {
    Own(usize),
    Lent(&'a mut usize),
}

/// What an arena has given out, in bytes with padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaStats {
    /// Bytes that could be given out in all.
    pub capacity: usize,
    /// Bytes given out now, those of the enclosing arenas included.
    pub used: usize,
    /// The most that `used` has ever been, scopes included.
    pub high_water: usize,
    /// Slices given out by this arena or scope.
    pub n_allocs: usize,
}

impl<'a> Arena<'a> {
    /// Bytes: the alignment of every slice, a cache line; no type with a larger one may be allocated.
    pub const ALIGN: usize = 64;

    /// Takes `region` over. `region.len() - 63` bytes rounded down to 64 can be given out, wherever it begins.
    pub fn new(region: &'a mut [MaybeUninit<u8>]) -> Self {
        let slack = Self::ALIGN - 1;
        let capacity = region.len().saturating_sub(slack) & !slack;
        let skip = region.as_ptr().addr().wrapping_neg() & slack;
        let free = region.get_mut(skip..).and_then(|r| r.get_mut(..capacity)).unwrap_or_default();
        Self { capacity: free.len(), free, n_allocs: 0, high_water: HighWater::Own(0) }
    }

    /// Hands out `len` elements, each a copy of `value`.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when fewer bytes are left; the arena is as before.
    pub fn alloc<T: Copy>(&mut self, len: usize, value: T) -> Result<&'a mut [T], ArenaError> {
        self.alloc_with(len, |_| value)
    }

    /// Hands out `len` elements, element `i` being `value(i)`.
    ///
    /// # Errors
    ///
    /// [`ArenaError`] when fewer bytes are left; the arena is as before and `value` was not called.
    pub fn alloc_with<T: Copy>(
        &mut self,
        len: usize,
        mut value: impl FnMut(usize) -> T,
    ) -> Result<&'a mut [T], ArenaError> {
        const { assert!(align_of::<T>() <= Arena::ALIGN, "type is aligned more than the arena") };
        let need = padded_bytes::<T>(len)?;
        let have = self.free.len();
        if need > have {
            return Err(ArenaError::OutOfMemory { need, have });
        }
        let Some((taken, rest)) = mem::take(&mut self.free).split_at_mut_checked(need) else {
            return Err(ArenaError::OutOfMemory { need, have });
        };
        self.free = rest;
        self.n_allocs = self.n_allocs.wrapping_add(1);
        let used = self.used();
        let mark = self.high_water.get_mut();
        *mark = used.max(*mark);

        let first = match need {
            0 => ptr::dangling_mut(), // an empty arena may begin anywhere
            _ => taken.as_mut_ptr().cast::<MaybeUninit<T>>(),
        };
        // SAFETY: `taken` is `need >= len * size_of::<T>()` bytes borrowed for `'a` and by no one else. If there are
        // any, it begins on a multiple of `ALIGN >= align_of::<T>()`, because the region was cut so and every length
        // is a multiple of it; else `first` is aligned. `MaybeUninit<T>` asks nothing of the bytes.
        let slots = unsafe { slice::from_raw_parts_mut(first, len) };
        for (i, slot) in slots.iter_mut().enumerate() {
            slot.write(value(i));
        }
        // SAFETY: the loop above wrote every slot.
        Ok(unsafe { slots.assume_init_mut() })
    }

    /// Lends all that is free; it comes back when the scope and the slices it gave are gone, which the borrow checker
    /// watches.
    ///
    /// ```compile_fail
    /// # use corelm::arena::Arena;
    /// # let mut region = [core::mem::MaybeUninit::uninit(); 256];
    /// let mut arena = Arena::new(&mut region);
    /// let lent = arena.scope().alloc(1, 0u8)?;
    /// let again = arena.alloc(1, 0u8)?;
    /// lent[0] = 1; // still borrowed from the scope
    /// # Ok::<(), corelm::error::ArenaError>(())
    /// ```
    pub fn scope(&mut self) -> Arena<'_> {
        let high_water = HighWater::Lent(self.high_water.get_mut());
        Arena { free: &mut *self.free, capacity: self.capacity, n_allocs: 0, high_water }
    }

    /// What has been given out so far.
    pub fn stats(&self) -> ArenaStats {
        let high_water = match &self.high_water {
            HighWater::Own(mark) => *mark,
            HighWater::Lent(mark) => **mark,
        };
        ArenaStats { capacity: self.capacity, used: self.used(), high_water, n_allocs: self.n_allocs }
    }

    fn used(&self) -> usize {
        self.capacity.saturating_sub(self.free.len())
    }
}

impl HighWater<'_> {
    fn get_mut(&mut self) -> &mut usize {
        match self {
            Self::Own(mark) => mark,
            Self::Lent(mark) => mark,
        }
    }
}

/// Numbers of which any bytes are one.
///
/// # Safety
///
/// Every value of all bytes of `Self` is a `Self`, and it has no padding.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for u8 {}
// SAFETY: an integer.
unsafe impl Plain for u16 {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: integers side by side.
unsafe impl Plain for [u64; 2] {}

/// `bytes` as the numbers that they are on this machine; `None` where these would not be aligned, or the last not whole.
pub(crate) fn numbers_in<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: any bytes are numbers of this type: see `Plain`.
    let (before, numbers, behind) = unsafe { bytes.align_to() };
    (before.is_empty() && behind.is_empty()).then_some(numbers)
}

/// Counts, before there is any memory, the bytes that the same calls to [`Arena::alloc`] will take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    used: usize,
}

impl Layout {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { used: 0 }
    }

    /// Adds one slice of `len` elements of `T`.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`] when the bytes do not fit in `usize`.
    pub const fn add<T>(self, len: usize) -> Result<Self, ArenaError> {
        match padded_bytes::<T>(len) {
            Ok(bytes) => self.then(Self { used: bytes }),
            Err(error) => Err(error),
        }
    }

    /// Adds all of `other`, allocated after `self` and held together with it.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`] when the bytes do not fit in `usize`.
    pub const fn then(self, other: Self) -> Result<Self, ArenaError> {
        match self.used.checked_add(other.used) {
            Some(used) if used <= usize::MAX - (Arena::ALIGN - 1) => Ok(Self { used }),
            _ => Err(ArenaError::TooLarge),
        }
    }

    /// Bytes given out, padding included: [`ArenaStats::used`] afterwards.
    pub const fn used(self) -> usize {
        self.used
    }

    /// Bytes that a region must have for this layout, wherever it begins: [`Layout::used`] and 63 more.
    pub const fn bytes(self) -> usize {
        self.used.saturating_add(Arena::ALIGN - 1)
    }
}

/// Bytes of `len` elements, rounded up to [`Arena::ALIGN`].
const fn padded_bytes<T>(len: usize) -> Result<usize, ArenaError> {
    let Some(bytes) = size_of::<T>().checked_mul(len) else { return Err(ArenaError::TooLarge) };
    match bytes.checked_next_multiple_of(Arena::ALIGN) {
        Some(padded) => Ok(padded),
        None => Err(ArenaError::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNINIT: MaybeUninit<u8> = MaybeUninit::uninit();

    /// Two slices and, in a scope between them, a third; `Err` when one did not fit.
    fn fill(arena: &mut Arena<'_>) -> Result<usize, ArenaError> {
        let bytes = arena.alloc(65, 0xa5u8)?;
        {
            let mut scope = arena.scope();
            let words = scope.alloc_with(20, |i| i as u64)?;
            assert!(words.iter().zip(0..).all(|(&word, i)| word == i));
            words.fill(u64::MAX);
        }
        let floats = arena.alloc(32, 1.5f32)?;
        assert!(floats.iter().all(|&x| x == 1.5), "stale bytes of the scope");
        assert!(bytes.iter().all(|&x| x == 0xa5), "slices overlap");
        assert_eq!((bytes.as_ptr().addr() | floats.as_ptr().addr()) % Arena::ALIGN, 0);
        Ok(bytes.len() + floats.len() * 4)
    }

    #[test]
    fn every_size_at_every_base() {
        let need = Layout::new().add::<u8>(65).unwrap().add::<u64>(20).unwrap().bytes();
        let mut region = [UNINIT; 1024];
        let step = if cfg!(miri) { 13 } else { 1 };
        for base in (0..64).step_by(step) {
            for len in (0..=need + 64).step_by(step).chain([need - 1, need]) {
                let mut arena = Arena::new(&mut region[base..base + len]);
                let done = fill(&mut arena);
                assert_eq!(done.is_ok(), len >= need, "base {base} length {len}: {done:?}");
                let stats = arena.stats();
                assert!(stats.used <= stats.high_water && stats.high_water <= stats.capacity);
                assert_eq!(stats.capacity, len.saturating_sub(63) / 64 * 64);
                if done.is_ok() {
                    assert_eq!((stats.used, stats.high_water, stats.n_allocs), (256, 320, 2));
                }
            }
        }
    }

    #[test]
    fn a_refused_request_changes_nothing() {
        let mut region = [UNINIT; 63 + 128];
        let mut arena = Arena::new(&mut region);
        let before = arena.stats();
        assert_eq!(arena.alloc(129, 0u8), Err(ArenaError::OutOfMemory { need: 192, have: 128 }));
        assert_eq!(arena.alloc(usize::MAX, 0u64), Err(ArenaError::TooLarge));
        assert_eq!(arena.alloc(usize::MAX, 0u8), Err(ArenaError::TooLarge));
        assert_eq!(arena.stats(), before);
        assert!(arena.alloc(128, 0u8).is_ok());
    }

    #[test]
    fn nothing_costs_nothing() {
        let mut arena = Arena::new(&mut []);
        assert_eq!(arena.alloc(0, 0u64).map(|s| s.len()), Ok(0));
        assert_eq!(arena.alloc(1000, ()).map(|s| s.len()), Ok(1000));
        assert_eq!(arena.alloc(1, 0u8), Err(ArenaError::OutOfMemory { need: 64, have: 0 }));
    }

    #[test]
    fn nested_scopes_raise_the_one_mark() {
        let mut region = [UNINIT; 63 + 64 * 4];
        let mut arena = Arena::new(&mut region);
        let kept = arena.alloc(1, 7u8).unwrap();
        let mut outer = arena.scope();
        outer.alloc(1, 8u8).unwrap();
        let mut inner = outer.scope();
        inner.alloc(1, 9u8).unwrap();
        assert_eq!((inner.stats().used, inner.stats().high_water), (192, 192));
        assert_eq!((outer.stats().used, outer.stats().high_water), (128, 192));
        assert_eq!((arena.stats().used, arena.stats().high_water), (64, 192));
        assert_eq!(kept, [7]);
    }

    #[test]
    fn layouts_add_up_or_say_too_large() {
        let one = Layout::new().add::<u8>(1).unwrap();
        assert_eq!((one.used(), one.bytes()), (64, 127));
        assert_eq!(one.then(one).unwrap().used(), 128);
        assert_eq!(Layout::new().add::<u16>(usize::MAX), Err(ArenaError::TooLarge));
        assert_eq!(Layout::new().add::<u8>(usize::MAX - 62), Err(ArenaError::TooLarge));
        let most = Layout::new().add::<u8>(usize::MAX - 127).unwrap();
        assert_eq!(most.then(one).unwrap().bytes(), usize::MAX);
        assert_eq!(most.then(one).unwrap().then(one), Err(ArenaError::TooLarge));
    }
}
