//! CPUID, checked against XCR0: what the CPU has and the kernel saves.

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

use super::Feature;

/// What the standard library found.
#[cfg(feature = "std")]
pub(super) fn detect_host() -> Feature {
    extern crate std;
    use std::arch::is_x86_feature_detected as has;
    let mut found = Feature::empty();
    found.set(Feature::AVX2, has!("avx2"));
    found.set(Feature::FMA, has!("fma"));
    found.set(Feature::F16C, has!("f16c"));
    found.set(Feature::AVX_VNNI, has!("avxvnni"));
    let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
    found.set(Feature::AVX512, avx512);
    found.set(Feature::AVX512_VNNI, avx512 && has!("avx512vnni"));
    // The standard library does not know AMX yet.
    #[cfg(all(target_os = "linux", not(miri)))]
    found.set(Feature::AMX_INT8, detect_cpuid().contains(Feature::AMX_INT8) && linux::permits_tiles());
    found
}

#[cfg(all(feature = "std", target_os = "linux", not(miri)))]
mod linux {
    use core::ffi::{c_long, c_ulong};

    unsafe extern "C" {
        /// Of the C library, which the standard library is linked with.
        fn syscall(number: c_long, ...) -> c_long;
    }

    /// Asks for the tiles' state, which Linux since 5.16 disables for each process that has not asked
    /// (Documentation/arch/x86/xstate.rst); asking again does no harm.
    pub(super) fn permits_tiles() -> bool {
        const ARCH_PRCTL: c_long = 158;
        const ARCH_REQ_XCOMP_PERM: c_long = 0x1023;
        const XTILEDATA: c_ulong = 18;
        // SAFETY: the call takes two integers and touches no memory of the process.
        unsafe { syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
    }
}

/// What the CPU has, by CPUID leaves 1 and 7, switched on or not.
pub(super) fn cpuid() -> Feature {
    if __cpuid(0).eax < 7 {
        return Feature::empty();
    }
    let (leaf1, leaf7) = (__cpuid(1), __cpuid_count(7, 0));
    let has_avx_vnni = leaf7.eax >= 1 && bit(__cpuid_count(7, 1).eax, 4);
    let mut found = Feature::empty();
    found.set(Feature::FMA, bit(leaf1.ecx, 12));
    found.set(Feature::F16C, bit(leaf1.ecx, 29));
    found.set(Feature::AVX2, bit(leaf7.ebx, 5));
    found.set(Feature::AVX_VNNI, has_avx_vnni);
    let avx512 = [16, 17, 30, 31].iter().all(|n| bit(leaf7.ebx, *n));
    found.set(Feature::AVX512, avx512);
    found.set(Feature::AVX512_VNNI, avx512 && bit(leaf7.ecx, 11));
    found.set(Feature::AMX_INT8, bit(leaf7.edx, 24) && bit(leaf7.edx, 25));
    found
}

/// The part of it whose state components XCR0 switches on (Intel SDM vol. 1, 13.3, 14.3 and 15.4).
pub(super) fn detect_cpuid() -> Feature {
    if !bit(__cpuid(1).ecx, 27) {
        return Feature::empty();
    }
    // SAFETY: OSXSAVE says that XGETBV may be executed.
    let xcr0 = unsafe { xcr0() };
    let is_on = |components: u64| xcr0 & components == components;
    let mut found = if is_on(SSE | AVX) { cpuid() } else { Feature::empty() };
    if !is_on(OPMASK | ZMM_HIGH | ZMM_16_31) {
        found.remove(Feature::AVX512 | Feature::AVX512_VNNI);
    }
    if !is_on(XTILECFG | XTILEDATA) {
        found.remove(Feature::AMX_INT8);
    }
    found
}

// State components.
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const OPMASK: u64 = 1 << 5;
const ZMM_HIGH: u64 = 1 << 6;
const ZMM_16_31: u64 = 1 << 7;
const XTILECFG: u64 = 1 << 17;
const XTILEDATA: u64 = 1 << 18;

fn bit(word: u32, n: u32) -> bool {
    word >> n & 1 == 1
}

/// The register of enabled state components.
#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: the caller saw OSXSAVE; register 0 exists wherever XGETBV does.
    unsafe { _xgetbv(0) }
}
