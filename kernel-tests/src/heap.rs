//! The kernel's own heap: `linked_list_allocator` over the largest piece of RAM that nobody else uses.
//!
//! The engine never allocates from it behind the kernel's back: the kernel takes one block for a session's arena and
//! hands it over. First fit costs a walk over all holes, which is what the arena is measured against.

use core::alloc::{GlobalAlloc, Layout};
use core::mem::{MaybeUninit, align_of};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use linked_list_allocator::Heap;

use crate::lock::Lock;

struct KernelHeap(Lock<Heap>);

/// How many blocks are still given before one is refused; none is where it is `usize::MAX`.
static UNTIL_REFUSED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Refuses the block behind the next `n`, once, as if there were no memory for it: so that what then happens can be tested.
pub fn refuse_behind(n: usize) {
    UNTIL_REFUSED.store(n, Ordering::Relaxed);
}

/// Whether this block is the one to refuse.
fn is_refused() -> bool {
    let until = UNTIL_REFUSED.load(Ordering::Relaxed);
    if until != usize::MAX {
        UNTIL_REFUSED.store(until.wrapping_sub(1), Ordering::Relaxed);
    }
    until == 0
}

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(Lock::new(Heap::empty()));

// SAFETY: every block comes from `Heap`, which hands out each byte of its region once until it comes back.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused() {
            return core::ptr::null_mut();
        }
        self.0.with(|heap| heap.allocate_first_fit(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr))
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller of `dealloc` got the block from `alloc` with this layout.
            self.0.with(|heap| unsafe { heap.deallocate(block, layout) });
        }
    }
}

/// Gives `region` to the heap; returns false, and leaves the heap empty, when it is too small to be one.
///
/// # Safety
///
/// Once. `region` is mapped, writable memory that nothing else uses from now on.
pub unsafe fn init(region: Range<usize>) -> bool {
    // `Heap::init` panics below three words and outside word alignment (RUSTSEC-2022-0063): decide before asking it.
    const LEAST_BYTES: usize = 4096;
    let Some(start) = region.start.checked_next_multiple_of(align_of::<usize>()) else { return false };
    let bytes = region.end.saturating_sub(start) / align_of::<usize>() * align_of::<usize>();
    if start == 0 || bytes < LEAST_BYTES {
        return false;
    }
    // SAFETY: the caller's promise, and start and size were checked above.
    HEAP.0.with(|heap| unsafe { heap.init(start as *mut u8, bytes) });
    true
}

/// What the heap holds, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct HeapUse {
    /// First address.
    pub start: usize,
    /// Bytes given to the heap.
    pub size_bytes: usize,
    /// Bytes handed out.
    pub used_bytes: usize,
}

/// Returns what the heap holds now.
pub fn usage() -> HeapUse {
    HEAP.0.with(|heap| HeapUse {
        start: heap.bottom().addr(),
        size_bytes: heap.size(),
        used_bytes: heap.used(),
    })
}

/// A block of the heap, for a region that the engine or a benchmark borrows.
#[derive(Debug)]
pub struct Block {
    start: NonNull<MaybeUninit<u8>>,
    layout: Layout,
}

impl Block {
    /// Takes `bytes` bytes, aligned to 64; `None` when no hole in the heap is that large.
    pub fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.max(1), 64).ok()?;
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc::alloc::alloc(layout) }.cast())?;
        Some(Self { start, layout })
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the block is this long, belongs to `self` alone, and its bytes need not be initialised.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Block {
    /// The bytes, all made zeros.
    pub fn zeroed(&mut self) -> &mut [u8] {
        let bytes = self.bytes();
        bytes.fill(MaybeUninit::new(0));
        // SAFETY: all of them were written just now.
        unsafe { bytes.assume_init_mut() }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `new` got the block with this layout.
        unsafe { alloc::alloc::dealloc(self.start.as_ptr().cast(), self.layout) };
    }
}
