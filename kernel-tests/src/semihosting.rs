//! How a run ends with a status that the host sees: Arm semihosting, `SYS_EXIT` (Arm IHI, "Semihosting for AArch32 and
//! AArch64"). A PSCI power-off would always look like success.

use core::arch::asm;

/// Ends the run; the emulator or debugger exits with `status`. Without one, the core stops here.
pub fn exit(status: u32) -> ! {
    const SYS_EXIT: u64 = 0x18;
    const APPLICATION_EXIT: u64 = 0x20026;
    let block = [APPLICATION_EXIT, u64::from(status)];
    // SAFETY: the block outlives the call, which reads it and does not come back.
    unsafe { asm!("hlt #0xf000", in("x0") SYS_EXIT, in("x1") block.as_ptr(), options(nostack, readonly)) };
    loop {
        aarch64_cpu::asm::wfe();
    }
}
