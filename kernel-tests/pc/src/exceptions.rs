//! Exceptions: each is printed in words and ends the kernel. They have a stack of their own, so that an overflow of the other
//! is reported too.

use core::arch::global_asm;
use core::cell::UnsafeCell;

use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::Cr2;
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

use crate::console::println;
use crate::exit;

const STACK_BYTES: usize = 16 << 10;

/// What the CPU and an entry push.
#[repr(C)]
struct Frame {
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

// An entry of 16 bytes for each vector; those for which the CPU pushes no error push a 0.
global_asm!(
    r#"
.balign 16
exception_entries:
.set vector, 0
.rept 32
    .balign 16
    .if !((vector == 8) | ((vector >= 10) & (vector <= 14)) | (vector == 17) | (vector == 21) | (vector == 29) | (vector == 30))
    push    0
    .endif
    push    vector
    jmp     exception_common
    .set vector, vector + 1
.endr
exception_common:
    mov     rdi, rsp
    and     rsp, -16
    cld
    call    {exception}
"#,
    exception = sym exception,
);

#[repr(align(16))]
struct Stack(UnsafeCell<[u8; STACK_BYTES]>);
// SAFETY: only the CPU writes to it, on the one core that there is.
unsafe impl Sync for Stack {}

struct Tables {
    tss: TaskStateSegment,
    gdt: GlobalDescriptorTable,
    idt: InterruptDescriptorTable,
}

struct Kept(UnsafeCell<Tables>);
// SAFETY: written by `init` once, on the one core that there is, and read by the CPU afterwards.
unsafe impl Sync for Kept {}

static STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));
static TABLES: Kept = Kept(UnsafeCell::new(Tables {
    tss: TaskStateSegment::new(),
    gdt: GlobalDescriptorTable::new(),
    idt: InterruptDescriptorTable::new(),
}));

unsafe extern "C" {
    fn exception_entries();
}

/// Gives the CPU its tables.
///
/// # Safety
///
/// Called once.
pub unsafe fn init() {
    // SAFETY: the only reference there ever is.
    let Tables { tss, gdt, idt } = unsafe { &mut *TABLES.0.get() };
    tss.interrupt_stack_table[0] = VirtAddr::from_ptr(STACK.0.get()) + STACK_BYTES as u64;
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    macro_rules! set {
        ($($vector:literal: $name:ident),* $(,)?) => {$(
            let entry = VirtAddr::from_ptr(exception_entries as *const ()) + 16 * $vector;
            // SAFETY: the entry takes what the CPU pushes for this vector, and does not return.
            unsafe { idt.$name.set_handler_addr(entry).set_stack_index(0) };
        )*};
    }
    gdt.load();
    // SAFETY: the segments are those of the table that was loaded just now.
    unsafe {
        CS::set_reg(code);
        DS::set_reg(data);
        ES::set_reg(data);
        SS::set_reg(data);
        load_tss(task);
    }
    set!(
        0: divide_error, 1: debug, 2: non_maskable_interrupt, 3: breakpoint, 4: overflow, 5: bound_range_exceeded,
        6: invalid_opcode, 7: device_not_available, 8: double_fault, 10: invalid_tss, 11: segment_not_present,
        12: stack_segment_fault, 13: general_protection_fault, 14: page_fault, 16: x87_floating_point,
        17: alignment_check, 18: machine_check, 19: simd_floating_point,
    );
    idt.load();
}

/// Where the entries end.
extern "C" fn exception(frame: &Frame) -> ! {
    let name = match frame.vector {
        0 => "division",
        1 => "debug",
        2 => "interrupt that cannot be masked",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bounds",
        6 => "undefined instruction",
        7 => "no floating point",
        8 => "double fault",
        10 => "task state",
        11 => "segment not present",
        12 => "stack segment",
        13 => "general protection",
        14 => "page fault",
        16 | 19 => "floating-point exception",
        17 => "alignment",
        18 => "machine check",
        _ => "exception without a name",
    };
    let Frame { vector, error, rip, cs, rflags, rsp, ss } = frame;
    println!("\nexception {vector}: {name}, error code {error:#x}");
    println!("rip {rip:#018x}  cs {cs:#06x}  rflags {rflags:#010x}  rsp {rsp:#018x}  ss {ss:#06x}");
    println!("cr2 {:#018x}", Cr2::read_raw());
    exit::exit(exit::EXCEPTION)
}
