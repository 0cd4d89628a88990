//! Deliberate ends, for proving that none of them looks like success.

use core::arch::asm;

use crate::command::Crash;

/// Ends the kernel in the way asked for; comes back only when the machine let it pass.
pub fn crash(kind: Crash) {
    static CONSTANT: u64 = 0x5eed;
    match kind {
        Crash::Panic => panic!("asked for by the shell"),
        // SAFETY: the store faults, which is what is asked for; it hides from the compiler that it would be undefined.
        Crash::Write => unsafe { asm!("str xzr, [{}]", in(reg) &raw const CONSTANT, options(nostack)) },
        // SAFETY: the branch faults, as constants cannot be executed.
        Crash::Execute => unsafe { asm!("blr {}", in(reg) &raw const CONSTANT, clobber_abi("C")) },
        // SAFETY: the instruction is permanently undefined.
        Crash::Undefined => unsafe { asm!("udf #0", options(nostack, nomem)) },
        Crash::Stack => {
            descend(0);
        }
        // SAFETY: the load faults while SCTLR_EL1.A is set, and else reads eight bytes of a static and its neighbours
        // in mapped, readable memory.
        Crash::Align => unsafe {
            asm!("ldr {out}, [{at}]", out = out(reg) _, at = in(reg) (&raw const CONSTANT).addr() - 4 + 1,
                options(nostack, readonly));
        },
    }
}

#[expect(unconditional_recursion, reason = "the stack is to overflow")]
fn descend(depth: u64) -> u64 {
    core::hint::black_box([depth; 64]);
    descend(depth + 1) + 1
}
