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
    found
}

/// CPUID leaves 1 and 7, masked by the state components that XCR0 switches on (Intel SDM vol. 1, 14.3 and 15.4).
pub(super) fn detect_cpuid() -> Feature {
    let bit = |word: u32, n: u32| word >> n & 1 == 1;
    let (max_leaf, leaf1) = (__cpuid(0).eax, __cpuid(1));
    let (osxsave, avx) = (bit(leaf1.ecx, 27), bit(leaf1.ecx, 28));
    if !(osxsave && avx) || max_leaf < 7 {
        return Feature::empty();
    }
    // SAFETY: OSXSAVE says that XGETBV may be executed.
    let xcr0 = unsafe { xcr0() };
    if xcr0 & 0b110 != 0b110 {
        return Feature::empty();
    }
    let (leaf7, leaf7_1) = (__cpuid_count(7, 0), __cpuid_count(7, 1));
    let has_leaf7_1 = leaf7.eax >= 1;
    let mut found = Feature::empty();
    found.set(Feature::FMA, bit(leaf1.ecx, 12));
    found.set(Feature::F16C, bit(leaf1.ecx, 29));
    found.set(Feature::AVX2, bit(leaf7.ebx, 5));
    found.set(Feature::AVX_VNNI, has_leaf7_1 && bit(leaf7_1.eax, 4));
    let avx512 = xcr0 & 0xe0 == 0xe0 && [16, 17, 30, 31].iter().all(|n| bit(leaf7.ebx, *n));
    found.set(Feature::AVX512, avx512);
    found.set(Feature::AVX512_VNNI, avx512 && bit(leaf7.ecx, 11));
    found
}

/// The register of enabled state components.
#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: the caller saw OSXSAVE; register 0 exists wherever XGETBV does.
    unsafe { _xgetbv(0) }
}
