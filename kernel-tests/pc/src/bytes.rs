//! What compiled code calls to copy, fill and compare bytes, and a C library has elsewhere.

use core::arch::asm;
use core::ffi::{c_int, c_void};

/// # Safety
///
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, n: usize) -> *mut c_void {
    // SAFETY: the caller's promise; the direction flag is clear by the calling convention.
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") n => _, options(nostack, preserves_flags));
    }
    to
}

/// # Safety
///
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut c_void, from: *const c_void, n: usize) -> *mut c_void {
    if to.addr().wrapping_sub(from.addr()) >= n {
        // SAFETY: no byte is read behind its being written.
        return unsafe { memcpy(to, from, n) };
    }
    // SAFETY: the caller's promise; from the last byte down none is read behind its being written.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "cld",
            inout("rdi") to.wrapping_byte_add(n).wrapping_byte_sub(1) => _,
            inout("rsi") from.wrapping_byte_add(n).wrapping_byte_sub(1) => _,
            inout("rcx") n => _,
            options(nostack)
        );
    }
    to
}

/// # Safety
///
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut c_void, byte: c_int, n: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("rep stosb", inout("rdi") to => _, in("al") byte as u8, inout("rcx") n => _, options(nostack, preserves_flags));
    }
    to
}

/// # Safety
///
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const c_void, b: *const c_void, n: usize) -> c_int {
    for i in 0..n {
        // SAFETY: the caller's promise. Volatile, or the loop would become a call of this function.
        let (a, b) =
            unsafe { (a.cast::<u8>().add(i).read_volatile(), b.cast::<u8>().add(i).read_volatile()) };
        if a != b {
            return c_int::from(a) - c_int::from(b);
        }
    }
    0
}

/// # Safety
///
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const c_void, b: *const c_void, n: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, n) }
}
