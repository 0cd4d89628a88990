//! The ID registers of aarch64.

use super::Feature;

/// What the standard library found.
#[cfg(feature = "std")]
pub(super) fn detect_host() -> Feature {
    extern crate std;
    use std::arch::is_aarch64_feature_detected as has;
    let mut found = Feature::empty();
    found.set(Feature::NEON, has!("neon"));
    found.set(Feature::DOTPROD, has!("dotprod"));
    found.set(Feature::I8MM, has!("i8mm"));
    found
}

/// `CPACR_EL1`, `ID_AA64PFR0_EL1`, `ID_AA64ISAR0_EL1` and `ID_AA64ISAR1_EL1` (Arm ARM, D19.2).
///
/// # Safety
///
/// The CPU runs at EL1 or above.
#[cfg(target_os = "none")]
pub(super) unsafe fn detect_el1() -> Feature {
    let (cpacr, pfr0, isar0, isar1): (u64, u64, u64, u64);
    // SAFETY: reads of system registers that exist at EL1 and above in every Armv8 CPU.
    unsafe {
        core::arch::asm!(
            "mrs {cpacr}, CPACR_EL1",
            "mrs {pfr0}, ID_AA64PFR0_EL1",
            "mrs {isar0}, ID_AA64ISAR0_EL1",
            "mrs {isar1}, S3_0_C0_C6_1",
            cpacr = out(reg) cpacr, pfr0 = out(reg) pfr0, isar0 = out(reg) isar0, isar1 = out(reg) isar1,
            options(nomem, nostack, preserves_flags)
        );
    }
    let field = |register: u64, shift: u32| register >> shift & 15;
    // Both FP and Advanced SIMD: 15 means absent. FPEN bit 0: no trap at EL1.
    let is_here = field(pfr0, 16) != 15 && field(pfr0, 20) != 15;
    let is_on = cpacr >> 20 & 1 == 1;
    let mut found = Feature::empty();
    if is_here && is_on {
        found.set(Feature::NEON, true);
        found.set(Feature::DOTPROD, field(isar0, 44) >= 1);
        found.set(Feature::I8MM, field(isar1, 52) >= 1);
    }
    found
}
