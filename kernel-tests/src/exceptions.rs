//! Exception vectors: any exception is printed with its registers and its syndrome in words, and ends the run with a
//! failing status. The one that is survived is a fault of [`try_read`], which was expected.

use core::arch::global_asm;
use core::panic::PanicInfo;

use aarch64_cpu::registers::{MPIDR_EL1, Readable};

use crate::boot;
use crate::console::emergency;
use crate::lock::Lock;
use crate::semihosting;
use crate::syndrome::Fault;

/// Exit status after a panic.
pub const STATUS_PANIC: u32 = 101;
/// Exit status after an exception nobody expected.
pub const STATUS_EXCEPTION: u32 = 102;

/// The interrupted code's registers, in the order the vectors save them.
#[repr(C)]
struct TrapFrame {
    x: [u64; 31],
    elr: u64,
    spsr: u64,
    esr: u64,
    far: u64,
    sp: u64,
}
const _: () = assert!(size_of::<TrapFrame>() == 288, "the vectors save this many bytes");

static LAST_EXPECTED: Lock<Option<Fault>> = Lock::new(None);

/// What [`probe_read`] returns, in `x0` and `x1`.
#[repr(C)]
struct Probe {
    byte: u64,
    has_faulted: u64,
}

unsafe extern "C" {
    fn probe_read(address: usize) -> Probe;
    /// The instruction of `probe_read` that may fault, and where to go on after it did.
    fn probe_read_load();
    fn probe_read_fixup();
}

/// Reads the byte at `address`, wherever that is.
///
/// # Errors
///
/// The fault, when the read raised one.
///
/// # Safety
///
/// Where a device answers at `address`, the read may change the device's state.
pub unsafe fn try_read(address: usize) -> Result<u8, Fault> {
    // SAFETY: a fault of the one load in it comes back as a result; the caller answers for what the read does.
    let probe = unsafe { probe_read(address) };
    let fault = LAST_EXPECTED.with(Option::take);
    match fault {
        Some(fault) if probe.has_faulted != 0 => Err(fault),
        _ => Ok((probe.byte & 0xff) as u8),
    }
}

/// Called by the vectors. `vector` counts them from the base: 0 to 3 for code on the ordinary stack, 4 to 7 for this
/// handler itself, above for EL0.
#[unsafe(no_mangle)]
extern "C" fn on_exception(frame: &mut TrapFrame, vector: u64) {
    let fault = Fault { esr: frame.esr, far: frame.far, elr: frame.elr };
    if vector == 0 && frame.elr == probe_read_load as *const () as u64 {
        LAST_EXPECTED.with(|last| *last = Some(fault));
        frame.elr = probe_read_fixup as *const () as u64;
        return;
    }
    if vector >= 4 {
        emergency(format_args!("\nexception in the exception handler: {fault}\n"));
        semihosting::exit(STATUS_EXCEPTION);
    }
    let kind = ["synchronous exception", "IRQ", "FIQ", "SError"][(vector & 3) as usize];
    emergency(format_args!("\nEXCEPTION: {kind} on core {}\n{fault}\n", MPIDR_EL1.get() & 0xff));
    let is_overflow = |far| (0..boot::MAX_CORES).flat_map(boot::guard_pages).any(|page| page.contains(&far));
    if fault.has_address() && is_overflow(fault.far as usize) {
        emergency(format_args!("the address is in a guard page: stack overflow\n"));
    }
    for (n, x) in frame.x.iter().enumerate() {
        emergency(format_args!("x{n:<2} {x:#018x}{}", if n % 4 == 3 { '\n' } else { ' ' }));
    }
    let TrapFrame { sp, spsr, esr, far, elr, .. } = frame;
    emergency(format_args!("sp  {sp:#018x}\nelr {elr:#018x} spsr {spsr:#x} esr {esr:#x} far {far:#018x}\n"));
    semihosting::exit(STATUS_EXCEPTION)
}

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => emergency(format_args!("\nPANIC at {}:{}: {}\n", at.file(), at.line(), info.message())),
        None => emergency(format_args!("\nPANIC: {}\n", info.message())),
    }
    semihosting::exit(STATUS_PANIC)
}

global_asm!(
    r#"
.section .text.exceptions, "ax"
.macro VECTOR number
    .balign 0x80
    sub     sp, sp, #288
    stp     x0, x1, [sp]
    mov     x1, #\number
    b       save_and_call
.endm

.balign 0x800
.global exception_vectors
exception_vectors:
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    VECTOR \number
    .endr

.balign 0x80
save_and_call:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x2, elr_el1
    stp     x30, x2, [sp, #240]
    mrs     x2, spsr_el1
    mrs     x3, esr_el1
    stp     x2, x3, [sp, #256]
    mrs     x2, far_el1
    mrs     x3, sp_el0
    stp     x2, x3, [sp, #272]
    mov     x0, sp
    bl      on_exception
    ldp     x30, x2, [sp, #240]     // only an expected fault of probe_read comes back:
    msr     elr_el1, x2             // its caller takes x0-x17 and v0-v7, v16-v31 as changed,
    ldp     x0, x1, [sp]            // and on_exception keeps the others
    add     sp, sp, #288
    eret

.global probe_read
.global probe_read_load
.global probe_read_fixup
probe_read:
probe_read_load:
    ldrb    w0, [x0]
    mov     x1, #0
    ret
probe_read_fixup:
    mov     x1, #1
    ret
"#
);
