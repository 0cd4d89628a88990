//! What the CPU offers and the system software has switched on.

use core::fmt;

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod aarch64;
mod floats;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod x86_64;

pub(crate) use floats::DefaultMode;
pub use floats::{with_default_floats, with_default_floats_in};

bitflags::bitflags! {
    /// Names of CPU features that some back-end asks for. A set of names claims nothing; [`Features`] does.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Feature: u32 {
        /// aarch64 Advanced SIMD.
        const NEON = 1;
        /// aarch64 `FEAT_DotProd`: SDOT, UDOT.
        const DOTPROD = 1 << 1;
        /// aarch64 `FEAT_I8MM`: SMMLA, USDOT.
        const I8MM = 1 << 2;
        /// x86-64 AVX2.
        const AVX2 = 1 << 8;
        /// x86-64 FMA3.
        const FMA = 1 << 9;
        /// x86-64 conversions between halves and f32.
        const F16C = 1 << 10;
        /// x86-64 VNNI on 256-bit registers, VEX-encoded.
        const AVX_VNNI = 1 << 11;
        /// x86-64 AVX-512 F, BW, DQ and VL.
        const AVX512 = 1 << 12;
        /// x86-64 AVX-512 VNNI.
        const AVX512_VNNI = 1 << 13;
        /// x86-64 AMX: tiles, and their products of bytes.
        const AMX_INT8 = 1 << 14;
    }
}

impl Feature {
    /// What this CPU has, as far as a process may ask it, whether or not it may be used: the answer to why a back-end is
    /// missing.
    #[cfg(feature = "std")]
    pub fn of_host_cpu() -> Self {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        return x86_64::cpuid();
        #[allow(unreachable_code)]
        Features::detect_host().names()
    }
}

/// Features that this CPU has and that may be used right now: only detection, or an `unsafe` promise, makes one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Features(Feature);

impl Features {
    /// None: only the scalar back-end is available.
    pub const fn empty() -> Self {
        Self(Feature::empty())
    }

    /// What the operating system lets this process use.
    ///
    /// Linux keeps AMX from a process that has not asked for it, so this asks, where the CPU has it, for all threads of the
    /// process. A signal then puts up to 8 KiB more on the stack of its handler; where some thread has given an alternate
    /// stack without that room, Linux refuses, and AMX is not among the features.
    #[cfg(feature = "std")]
    pub fn detect_host() -> Self {
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        return Self(aarch64::detect_host());
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        return Self(x86_64::detect_host());
        #[allow(unreachable_code)]
        Self::empty()
    }

    /// What an aarch64 kernel may use at EL1, by the ID registers and `CPACR_EL1.FPEN`; nothing elsewhere.
    ///
    /// # Safety
    ///
    /// The CPU runs at EL1. As long as routines of this crate run, FP/SIMD stays switched on at this level, and
    /// whoever interrupts them saves and restores the vector registers, FPCR and FPSR.
    pub unsafe fn detect_el1() -> Self {
        #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_os = "none"))]
        // SAFETY: the caller is at EL1, where these registers can be read.
        return Self(unsafe { aarch64::detect_el1() });
        #[allow(unreachable_code)]
        Self::empty()
    }

    /// What an x86-64 kernel may use, by CPUID *and* XCR0; nothing elsewhere or where XSAVE is not switched on.
    ///
    /// Nothing on soft-float targets such as `x86_64-unknown-none`, which turn vector code into library calls.
    ///
    /// # Safety
    ///
    /// As long as routines of this crate run, XCR0 and CR4 stay as they are, IA32_XFD (if the CPU has it) disables
    /// nothing, and whoever interrupts them saves and restores the extended state: with AMX, the tiles too.
    pub unsafe fn detect_ring0() -> Self {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        return Self(x86_64::detect_cpuid());
        #[allow(unreachable_code)]
        Self::empty()
    }

    /// Takes the caller's word for `features`.
    ///
    /// # Safety
    ///
    /// The CPU has them, they are switched on, and their registers survive interrupts.
    pub const unsafe fn assume(features: Feature) -> Self {
        Self(features)
    }

    /// Whether all of `features` are here.
    pub const fn has(self, features: Feature) -> bool {
        self.0.contains(features)
    }

    /// The same without `features`.
    pub const fn without(self, features: Feature) -> Self {
        Self(self.0.difference(features))
    }

    /// The set of names.
    pub const fn names(self) -> Feature {
        self.0
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The names in lower case, separated by blanks; `none` when empty.
impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (name, _) in self.iter_names() {
            if !first {
                f.write_str(" ")?;
            }
            first = false;
            name.bytes().try_for_each(|b| fmt::Write::write_char(f, char::from(b.to_ascii_lowercase())))?;
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn features_print_their_names() {
        assert_eq!(Features::empty().to_string(), "none");
        assert_eq!(Features(Feature::NEON | Feature::DOTPROD).to_string(), "neon dotprod");
        assert!(!Features(Feature::NEON).without(Feature::NEON).has(Feature::NEON));
    }

    /// Two independent roads to the same answer.
    #[cfg(all(feature = "std", target_arch = "x86_64", not(miri)))]
    #[test]
    fn cpuid_agrees_with_the_operating_system() {
        // SAFETY: a process may execute CPUID and XGETBV, and its operating system keeps its registers.
        let (ring0, host) = (unsafe { Features::detect_ring0() }, Features::detect_host());
        // What a system keeps from a process in spite of XCR0, only a kernel knows.
        assert_eq!(ring0.without(Feature::AMX_INT8), host.without(Feature::AMX_INT8));
        assert!(ring0.has(host.names()) && Feature::of_host_cpu().contains(ring0.names()));
    }
}
