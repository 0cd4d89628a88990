//! What the gates must find: `cargo xtask prove --self-test` builds with one of these at a time.

/// Nothing. With `--cfg plant="..."` it does what that names, in a way that no optimizer takes away.
#[cfg(any(not(plant), plant = "nothing"))]
pub fn plant(_: usize) -> *const () {
    core::ptr::null()
}

/// An index out of bounds.
#[cfg(plant = "panic")]
pub fn plant(i: usize) -> *const () {
    core::hint::black_box([1u8, 2, 3])[i] as usize as *const ()
}

/// A sum that may not fit.
#[cfg(plant = "overflow")]
pub fn plant(i: usize) -> *const () {
    (i + core::hint::black_box(1)) as *const ()
}

/// 5 KiB of stack.
#[cfg(plant = "frame")]
pub fn plant(i: usize) -> *const () {
    core::hint::black_box(&[i as u8; 5 << 10]).as_ptr().cast()
}

/// A function that calls itself and has something left to do then.
#[cfg(plant = "recursion")]
#[inline(never)]
pub fn plant(i: usize) -> *const () {
    let below = if i < core::hint::black_box(9) { i } else { plant(i / 2) as usize };
    core::hint::black_box(below).wrapping_add(i) as *const ()
}

/// An allocation.
#[cfg(plant = "allocation")]
pub fn plant(i: usize) -> *const () {
    unsafe extern "C" {
        fn malloc(bytes: usize) -> *const ();
    }
    // SAFETY: this is never run.
    unsafe { malloc(i) }
}

/// Something that is remembered.
#[cfg(plant = "variable")]
pub fn plant(i: usize) -> *const () {
    use core::sync::atomic::{AtomicUsize, Ordering};
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let before = LAST.load(Ordering::Relaxed);
    LAST.store(i, Ordering::Relaxed);
    before as *const ()
}

/// A lock in memory of the caller's.
#[cfg(plant = "lock")]
pub fn plant(i: usize) -> *const () {
    use core::sync::atomic::{AtomicBool, Ordering};
    // SAFETY: this is never run.
    let is_taken = unsafe { AtomicBool::from_ptr(i as *mut bool) };
    while is_taken.swap(true, Ordering::Acquire) {}
    core::ptr::null()
}

/// An instruction that traps.
#[cfg(plant = "trap")]
pub fn plant(i: usize) -> *const () {
    // SAFETY: this is never run.
    match i {
        #[cfg(target_arch = "aarch64")]
        7 => unsafe { core::arch::asm!("brk #1") },
        #[cfg(target_arch = "x86_64")]
        7 => unsafe { core::arch::asm!("ud2") },
        _ => {}
    }
    core::ptr::null()
}
