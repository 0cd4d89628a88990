//! The engine interrupted: a timer's interrupt at a chosen moment, whose handler saves the vector unit, wrecks it and
//! restores it; and, where the kernel was entered at EL2, an SError at that moment.
//!
//! [`Call`] runs engine code with the registers of a neighbour: every vector register, FPCR and FPSR hold a pattern, and
//! what they hold afterwards is kept.
//!
//! Only modes that test this switch it on; everywhere else interrupts stay masked.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::registers::{CNTV_CTL_EL0, CNTV_CVAL_EL0, Writeable};

use crate::counter::Timer;
use crate::gic::{self, Gic};
use crate::mmu::MapError;

/// Something to leave undone on purpose, to see that the tests notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Plant {
    /// Nothing.
    None = 0,
    /// The handler does not restore the vector registers.
    Vectors = 1,
    /// The handler does not restore FPCR and FPSR.
    Control = 2,
}

/// What handlers and [`Call`] read and write. Assembly knows the fields by their offsets.
#[repr(C)]
struct Shared {
    /// Address of the core's interface to the interrupt controller.
    gic_core: AtomicU64,
    /// Interrupts taken.
    n_taken: AtomicU64,
    /// The cycle counter when the last one was taken.
    taken_at: AtomicU64,
    /// A [`Plant`].
    plant: AtomicU64,
    /// Whether the handler asks EL2 for an SError.
    asks_fault: AtomicU64,
    /// SErrors taken.
    n_faults: AtomicU64,
    /// Whether the handler of an SError gives up the call.
    gives_up: AtomicU64,
    /// Stack pointer of the call.
    stack: AtomicU64,
    /// The cycle counter right before the call and right behind it.
    began: AtomicU64,
    ended: AtomicU64,
}

static SHARED: Shared = Shared {
    gic_core: AtomicU64::new(0),
    n_taken: AtomicU64::new(0),
    taken_at: AtomicU64::new(0),
    plant: AtomicU64::new(0),
    asks_fault: AtomicU64::new(0),
    n_faults: AtomicU64::new(0),
    gives_up: AtomicU64::new(0),
    stack: AtomicU64::new(0),
    began: AtomicU64::new(0),
    ended: AtomicU64::new(0),
};

/// The vector unit's registers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
pub struct Registers {
    /// Vector registers, the lower half first.
    pub v: [[u64; 2]; 32],
    /// The mode of computing with floats.
    pub fpcr: u64,
    /// Flags of what happened in computing.
    pub fpsr: u64,
}

impl Registers {
    /// A pattern in every register: rounding towards zero, subnormals flushed, default NaNs, alternative halves; flags up.
    pub fn pattern(seed: u64) -> Self {
        let word = |n: usize, half: u64| {
            (seed + 2 * n as u64 + half + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0x7ff0_0000_7f80_0000
        };
        Self { v: core::array::from_fn(|n| [word(n, 0), word(n, 1)]), fpcr: 0x07c0_0000, fpsr: 0x0800_001f }
    }

    /// Whether all that a call must keep (AAPCS64, 6.1.2 and 6.1.3: the lower halves of v8 to v15, and FPCR) is as in
    /// `before`, and FPSR, which the engine keeps of its own accord.
    pub fn keeps(&self, before: &Self) -> bool {
        let halves = |registers: &Self| -> [u64; 8] { core::array::from_fn(|n| registers.v[8 + n][0]) };
        halves(self) == halves(before) && (self.fpcr, self.fpsr) == (before.fpcr, before.fpsr)
    }
}

/// What came of a [`Call`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It returned.
    Returned,
    /// An SError's handler gave it up, and it will never return.
    GivenUp,
}

/// A call of engine code that may be interrupted.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Instructions from the arming of the timer to the interrupt, about; none where it is 0.
    pub delay: u64,
    /// Whether an SError follows the interrupt.
    pub asks_fault: bool,
    /// Whether the SError's handler gives up the call.
    pub gives_up: bool,
}

/// When things happened in a call, in counts of the cycle counter.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Of the whole call, its interruption included.
    pub total: u64,
    /// From the call to the interrupt, when there was one in it.
    pub taken_at: Option<u64>,
}

impl Call {
    /// Calls `body` with the vector unit's registers from `registers`, where they are left again, interrupts unmasked.
    pub fn run<F: FnMut()>(self, registers: &mut Registers, body: &mut F) -> (Ended, Times) {
        extern "C" fn enter<F: FnMut()>(body: &mut F) {
            body();
        }
        let n_taken = SHARED.n_taken.load(Ordering::Relaxed);
        SHARED.asks_fault.store(self.asks_fault.into(), Ordering::Relaxed);
        SHARED.gives_up.store(self.gives_up.into(), Ordering::Relaxed);
        // A tick of the timer is 16 instructions under -icount; the rest is passed by doing nothing.
        let (ticks, rest) = (self.delay / 16, self.delay % 16);
        if self.delay > 0 {
            CNTV_CVAL_EL0.set(Timer.now() + ticks);
            CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::IMASK::CLEAR);
        }
        // SAFETY: `enter::<F>` takes the address of an `F`, which is borrowed for the call. When the call is given up its
        // frames are never returned to, and what it borrowed is for the caller to mistrust.
        let is_given_up = unsafe {
            interruptible_call(enter::<F> as *const (), (&raw mut *body).cast(), registers, 15 - rest)
        };
        CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR);
        let [began, ended, taken_at] =
            [&SHARED.began, &SHARED.ended, &SHARED.taken_at].map(|at| at.load(Ordering::Relaxed));
        let is_taken = SHARED.n_taken.load(Ordering::Relaxed) != n_taken;
        let times = Times {
            total: ended.wrapping_sub(began),
            taken_at: is_taken
                .then(|| taken_at.wrapping_sub(began))
                .filter(|&at| at < ended.wrapping_sub(began)),
        };
        (if is_given_up == 0 { Ended::Returned } else { Ended::GivenUp }, times)
    }
}

/// Leaves FPCR other than it was: what a test of the neighbour must notice.
pub fn spoil_control() {
    // SAFETY: the mode is the default one, in which Rust computes.
    unsafe { asm!("msr fpcr, xzr", options(nomem, nostack, preserves_flags)) };
}

/// SErrors taken so far.
pub fn n_faults() -> u64 {
    SHARED.n_faults.load(Ordering::Relaxed)
}

/// Switches interrupts of the timer on, for the calling core; they stay masked but in a [`Call`].
///
/// # Errors
///
/// As [`Gic::enable_timer`].
///
/// # Safety
///
/// Core 0 only; there is such a `gic`.
pub unsafe fn enable(gic: Gic, plant: Plant) -> Result<(), MapError> {
    SHARED.gic_core.store(gic.core as u64, Ordering::Relaxed);
    SHARED.plant.store(plant as u64, Ordering::Relaxed);
    // SAFETY: the caller's promise.
    unsafe { gic.enable_timer()? };
    // SAFETY: these vectors go on to the usual ones but for an IRQ and an SError of ordinary code.
    unsafe {
        asm!("msr vbar_el1, {}", "isb", in(reg) interrupt_vectors as *const (), options(nostack, preserves_flags))
    };
    Ok(())
}

unsafe extern "C" {
    fn interrupt_vectors();
    fn interruptible_call(
        function: *const (),
        argument: *mut (),
        registers: &mut Registers,
        n_skipped: u64,
    ) -> u64;
}

global_asm!(
    r#"
.macro ALL_VECTORS instruction, base, offset
    \instruction q0, q1, [\base, #\offset + 0]
    \instruction q2, q3, [\base, #\offset + 32]
    \instruction q4, q5, [\base, #\offset + 64]
    \instruction q6, q7, [\base, #\offset + 96]
    \instruction q8, q9, [\base, #\offset + 128]
    \instruction q10, q11, [\base, #\offset + 160]
    \instruction q12, q13, [\base, #\offset + 192]
    \instruction q14, q15, [\base, #\offset + 224]
    \instruction q16, q17, [\base, #\offset + 256]
    \instruction q18, q19, [\base, #\offset + 288]
    \instruction q20, q21, [\base, #\offset + 320]
    \instruction q22, q23, [\base, #\offset + 352]
    \instruction q24, q25, [\base, #\offset + 384]
    \instruction q26, q27, [\base, #\offset + 416]
    \instruction q28, q29, [\base, #\offset + 448]
    \instruction q30, q31, [\base, #\offset + 480]
.endm

.section .text.interrupts, "ax"
.macro USUAL number
    .balign 0x80
    b       exception_vectors + 0x80 * \number
.endm

.balign 0x800
.global interrupt_vectors
interrupt_vectors:
    USUAL 0
    .balign 0x80
    b       take_interrupt
    USUAL 2
    .balign 0x80
    b       take_fault
    .irp number, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    USUAL \number
    .endr

.balign 0x80
take_interrupt:
    sub     sp, sp, #560
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    isb
    mrs     x0, pmccntr_el0
    mrs     x1, fpcr
    mrs     x2, fpsr
    stp     x1, x2, [sp, #32]
    ALL_VECTORS stp, sp, 48
    adrp    x3, {shared}
    add     x3, x3, :lo12:{shared}
    str     x0, [x3, #{taken_at}]
    ldr     x1, [x3, #{n_taken}]
    add     x1, x1, #1
    str     x1, [x3, #{n_taken}]
    msr     cntv_ctl_el0, xzr       // the one interrupt that was asked for
    ldr     x1, [x3, #{gic_core}]
    ldr     w2, [x1, #{acknowledge}]
    str     w2, [x1, #{end}]
    ldr     x1, =0xa5a5a5a55a5a5a5a // all that a handler may do with the unit
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    dup     v\n\().2d, x1
    .endr
    mov     x1, #0x07c00000
    msr     fpcr, x1
    ldr     x1, =0x0800009f
    msr     fpsr, x1
    ldr     x1, [x3, #{plant}]
    cmp     x1, #{plant_vectors}
    b.eq    1f
    ALL_VECTORS ldp, sp, 48
1:  cmp     x1, #{plant_control}
    b.eq    2f
    ldp     x0, x2, [sp, #32]
    msr     fpcr, x0
    msr     fpsr, x2
2:  ldr     x1, [x3, #{asks_fault}]
    cbz     x1, 3f
    hvc     #0                      // EL2 makes an SError pending; it is masked up to the eret
3:  ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp]
    add     sp, sp, #560
    eret

take_fault:
    stp     x0, x1, [sp, #-16]!
    adrp    x0, {shared}
    add     x0, x0, :lo12:{shared}
    ldr     x1, [x0, #{n_faults}]
    add     x1, x1, #1
    str     x1, [x0, #{n_faults}]
    ldr     x1, [x0, #{gives_up}]
    cbz     x1, 1f
    adr     x0, give_up
    msr     elr_el1, x0
    mov     x0, #0x3c4              // EL1t, DAIF masked
    msr     spsr_el1, x0
1:  ldp     x0, x1, [sp], #16
    eret

// x0 function, x1 argument, x2 registers, x3 how many of 15 instructions to skip; returns whether it was given up.
interruptible_call:
    stp     x29, x30, [sp, #-192]!
    mov     x29, sp
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    mrs     x19, fpcr
    mrs     x20, fpsr
    stp     x19, x20, [sp, #160]
    str     x2, [sp, #176]
    adrp    x21, {shared}
    add     x21, x21, :lo12:{shared}
    mov     x22, sp
    str     x22, [x21, #{stack}]
    mov     x22, x0
    ALL_VECTORS ldp, x2, 0
    add     x23, x2, #512
    ldp     x23, x24, [x23]
    msr     fpcr, x23
    msr     fpsr, x24
    adr     x23, 1f
    add     x23, x23, x3, lsl #2
    br      x23
1:  .rept   15
    nop
    .endr
    isb
    mrs     x23, pmccntr_el0
    str     x23, [x21, #{began}]
    mov     x0, x1
    msr     daifclr, #6             // A and I
    blr     x22
    msr     daifset, #0xf
    isb
    mrs     x23, pmccntr_el0
    str     x23, [x21, #{ended}]
    mov     x0, #0
2:  ldr     x2, [sp, #176]
    ALL_VECTORS stp, x2, 0
    mrs     x23, fpcr
    mrs     x24, fpsr
    add     x2, x2, #512
    stp     x23, x24, [x2]
    ldp     x19, x20, [sp, #160]
    msr     fpcr, x19
    msr     fpsr, x20
    ldp     d8, d9, [sp, #96]
    ldp     d10, d11, [sp, #112]
    ldp     d12, d13, [sp, #128]
    ldp     d14, d15, [sp, #144]
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #192
    ret

give_up:
    adrp    x21, {shared}
    add     x21, x21, :lo12:{shared}
    ldr     x22, [x21, #{stack}]
    mov     sp, x22
    isb
    mrs     x23, pmccntr_el0
    str     x23, [x21, #{ended}]
    mov     x0, #1
    b       2b
.ltorg

// What EL2 does for EL1, with its MMU off and without memory: an SError on request.
.macro NOT_ASKED_FOR
    .balign 0x80
    b       not_asked_for
.endm
.balign 0x800
.global hypervisor_vectors
hypervisor_vectors:
    .rept   8
    NOT_ASKED_FOR
    .endr
    .balign 0x80                    // synchronous, from EL1 in AArch64: hvc
    movz    x0, #0x8000, lsl #16    // EL1 is AArch64
    movk    x0, #0x120              // SErrors are virtual, and one is pending: AMO, VSE
    msr     hcr_el2, x0
    eret
    .rept   7
    NOT_ASKED_FOR
    .endr
not_asked_for:
    adr     x1, 1f
    mov     x0, #0x18
    hlt     #0xf000
    b       .
.balign 8
1:  .quad   0x20026, 102
"#,
    shared = sym SHARED,
    gic_core = const offset_of!(Shared, gic_core),
    n_taken = const offset_of!(Shared, n_taken),
    taken_at = const offset_of!(Shared, taken_at),
    plant = const offset_of!(Shared, plant),
    asks_fault = const offset_of!(Shared, asks_fault),
    n_faults = const offset_of!(Shared, n_faults),
    gives_up = const offset_of!(Shared, gives_up),
    stack = const offset_of!(Shared, stack),
    began = const offset_of!(Shared, began),
    ended = const offset_of!(Shared, ended),
    acknowledge = const gic::ACKNOWLEDGE,
    end = const gic::END,
    plant_vectors = const Plant::Vectors as u64,
    plant_control = const Plant::Control as u64,
);

const _: () = assert!(offset_of!(Registers, fpcr) == 512, "assembly finds FPCR behind the vector registers");
