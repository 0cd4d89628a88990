//! How the CPU computes with floats: rounding, subnormals, traps. A register says it, and whoever ran before has set it.

use core::marker::PhantomData;

/// Runs `body` as Rust, and every number of this crate, takes floats to be: rounded to the nearest, ties to even,
/// subnormals kept, halves as IEEE 754 has them, no traps. Afterwards the register is as before, flags included.
///
/// The registers are MXCSR on x86-64, FPCR and FPSR on aarch64. Soft-float targets have none, and Miri does not let them be
/// set.
#[inline]
pub fn with_default_floats<R>(body: impl FnOnce() -> R) -> R {
    let _mode = DefaultMode::enter();
    apart(body)
}

/// The same for a `body` that computes with what is in `state` and leaves its results there: it needs no stack of its own.
#[inline]
pub fn with_default_floats_in<T, R>(state: &mut T, body: impl FnOnce(&mut T) -> R) -> R {
    let _mode = DefaultMode::enter();
    body(behind(state))
}

/// Not inlined, so that no computation moves to where the caller's mode is.
#[inline(never)]
fn apart<R>(body: impl FnOnce() -> R) -> R {
    body()
}

/// The same state, of which the compiler does not know that: so nothing is read of it before the mode is set, nor written
/// to it behind the setting of another.
#[inline]
fn behind<T>(state: &mut T) -> &mut T {
    #[cfg(not(miri))]
    {
        let mut same: *mut T = state;
        // SAFETY: no instruction; memory counts as touched, and the pointer is what it was.
        unsafe {
            core::arch::asm!("/* {} */", inout(reg) same, options(nostack, preserves_flags));
            &mut *same
        }
    }
    #[cfg(miri)]
    state
}

/// The default mode; when dropped, the caller's again. Whoever holds one computes no float itself that the compiler could
/// move, but calls what does through a pointer, not inlined, or with what it has from [`behind`].
pub(crate) struct DefaultMode {
    callers: mode::Mode,
    /// Registers are a core's: to drop this on another thread would give that one this one's mode.
    _stays: PhantomData<*const ()>,
}

impl DefaultMode {
    #[inline]
    pub(crate) fn enter() -> Self {
        let callers = mode::read();
        mode::write(mode::DEFAULT);
        Self { callers, _stays: PhantomData }
    }
}

impl Drop for DefaultMode {
    #[inline]
    fn drop(&mut self) {
        mode::write(self.callers);
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
mod mode {
    use core::arch::asm;

    /// MXCSR (Intel SDM vol. 1, 10.2.3).
    pub(super) type Mode = u32;
    /// All exceptions masked, nothing else set: as after reset.
    pub(super) const DEFAULT: Mode = 0x1f80;

    #[inline]
    pub(super) fn read() -> Mode {
        let mut mode = 0;
        // SAFETY: stores four bytes to where there are four.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
        mode
    }

    #[inline]
    pub(super) fn write(mode: Mode) {
        // SAFETY: loads four bytes from where there are four. They are the default, or what the register held before, so
        // no reserved bit is set. Where that is another mode it was the caller's, and no float is computed between here and
        // there. Memory counts as touched, so nothing that reads it moves past.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags)) };
    }
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
mod mode {
    use core::arch::asm;

    /// FPCR and FPSR (Arm ARM, C5.2.8 and C5.2.10).
    pub(super) type Mode = (u64, u64);
    /// As after reset, without flags.
    pub(super) const DEFAULT: Mode = (0, 0);

    #[inline]
    pub(super) fn read() -> Mode {
        let (control, status);
        // SAFETY: these registers can be read wherever floats can be computed, as this target does.
        unsafe {
            asm!("mrs {}, fpcr", "mrs {}, fpsr", out(reg) control, out(reg) status, options(nostack, preserves_flags))
        };
        (control, status)
    }

    #[inline]
    pub(super) fn write((control, status): Mode) {
        // SAFETY: the values are the default, or what the registers held before. Where that is another mode it was the
        // caller's, and no float is computed between here and there. Memory counts as touched, so nothing that reads it
        // moves past.
        unsafe {
            asm!("msr fpcr, {}", "msr fpsr, {}", in(reg) control, in(reg) status, options(nostack, preserves_flags))
        };
    }
}

#[cfg(not(any(
    all(target_arch = "x86_64", target_feature = "sse2", not(miri)),
    all(target_arch = "aarch64", target_feature = "neon", not(miri))
)))]
mod mode {
    /// Nothing to set.
    pub(super) type Mode = ();
    pub(super) const DEFAULT: Mode = ();

    pub(super) fn read() -> Mode {}

    pub(super) fn write(_: Mode) {}
}

#[cfg(all(test, target_arch = "x86_64", target_feature = "sse2", not(miri)))]
mod tests {
    extern crate std;
    use core::hint::black_box;

    use super::*;

    /// Towards zero, subnormals flushed and taken for zero; a flag is up.
    const STRANGE: u32 = 0x1f80 | 3 << 13 | 1 << 15 | 1 << 6 | 1;

    /// Not inlined, so that the division is where it is written.
    #[inline(never)]
    fn divide(by: f32) -> (f32, f32) {
        (black_box(2.0) / black_box(by), black_box(f32::MIN_POSITIVE) / black_box(by))
    }

    #[test]
    fn the_mode_is_the_default_inside_and_the_callers_outside() {
        let before = mode::read();
        let want = divide(3.0);
        mode::write(STRANGE);
        let strange = divide(3.0);
        mode::write(STRANGE); // without the flags of that
        let inside = with_default_floats(|| divide(3.0));
        let (after, mut state) = (mode::read(), (3.0, (0.0, 0.0)));
        with_default_floats_in(&mut state, |(by, results)| {
            *results = (2.0 / *by, f32::MIN_POSITIVE / *by);
        });
        let state_after = mode::read();
        mode::write(before);
        assert_eq!((state.1, state_after), (want, STRANGE));
        assert!(strange.0 < want.0 && strange.1 == 0.0, "the mode made no difference");
        assert_eq!((inside, after), (want, STRANGE));
    }

    #[test]
    fn a_panic_restores_the_callers_mode() {
        let before = mode::read();
        mode::write(STRANGE);
        let result = std::panic::catch_unwind(|| {
            with_default_floats(|| std::panic::resume_unwind(std::boxed::Box::new(())))
        });
        let after = mode::read();
        mode::write(before);
        assert!(result.is_err());
        assert_eq!(after, STRANGE);
    }
}
