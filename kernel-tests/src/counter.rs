//! The two clocks of an aarch64 core: the cycle counter and the generic timer.

use core::arch::asm;

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable};

/// The PMU's cycle counter, `PMCCNTR_EL0`; each core has its own.
#[derive(Clone, Copy, Debug)]
pub struct CycleCounter;

impl CycleCounter {
    /// Switches the calling core's counter on: 64 bits wide, counting at EL1.
    pub fn enable() -> Self {
        const ENABLE_RESET_CYCLES_LONG: u64 = 1 | 1 << 2 | 1 << 6;
        // SAFETY: these registers of the PMU only start a counter.
        unsafe {
            asm!(
                "msr pmccfiltr_el0, xzr",
                "msr pmcntenset_el0, {cycles}",
                "msr pmcr_el0, {control}",
                "isb",
                cycles = in(reg) 1_u64 << 31,
                control = in(reg) ENABLE_RESET_CYCLES_LONG,
                options(nomem, nostack, preserves_flags),
            );
        }
        Self
    }

    /// Cycles since it was enabled. Instructions before the call have finished.
    #[inline]
    pub fn now(self) -> u64 {
        let cycles;
        // SAFETY: reads a counter; not `pure`, so that two reads stay two.
        unsafe {
            asm!("isb", "mrs {}, pmccntr_el0", out(reg) cycles, options(nomem, nostack, preserves_flags))
        };
        cycles
    }
}

/// Whether the performance monitor can count instructions (`PMCEID0_EL0`, INST_RETIRED).
///
/// Every CPU of today can; QEMU can only under `-icount`, where its cycle counter counts them too.
pub fn counts_instructions() -> bool {
    const INST_RETIRED: u64 = 1 << 8;
    let events: u64;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, pmceid0_el0", out(reg) events, options(nomem, nostack, preserves_flags)) };
    events & INST_RETIRED != 0
}

/// The generic timer's virtual count, `CNTVCT_EL0`, the same on all cores.
#[derive(Clone, Copy, Debug)]
pub struct Timer;

impl Timer {
    /// Ticks since some moment before boot.
    #[inline]
    pub fn now(self) -> u64 {
        aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
        CNTVCT_EL0.get()
    }

    /// Ticks for each second, as the firmware wrote it; 0 when it did not.
    pub fn hz(self) -> u64 {
        CNTFRQ_EL0.get()
    }
}
