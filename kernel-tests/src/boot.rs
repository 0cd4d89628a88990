//! The first instructions: from the firmware's state to Rust at EL1 with a stack and FP/SIMD on.
//!
//! The image starts with the arm64 Image header (Linux `Documentation/arch/arm64/booting.rst`), so that a flat copy of
//! it gets a device tree in `x0` and an initial ramdisk. The same entry serves an ELF loader.
//!
//! Code runs at EL1 with `SP_EL0` as its stack (`SPSel` = 0). An exception switches to `SP_EL1` by itself, which is a
//! stack of its own: a stack overflow is then reported like any other fault.

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::{MaybeUninit, offset_of};
use core::ops::Range;

/// Most cores this kernel starts.
pub const MAX_CORES: usize = 8;
/// Bytes of the stack that ordinary code runs on.
pub const STACK_BYTES: usize = 256 * 1024;
const EXCEPTION_STACK_BYTES: usize = 12 * 1024;
const GUARD_BYTES: usize = 4096;
/// What an unused byte of a stack holds.
const PAINT: u8 = 0x5A;

/// One core's stacks. Both grow downwards into a page that stays unmapped.
#[repr(C, align(4096))]
struct CoreStack {
    guard: [MaybeUninit<u8>; GUARD_BYTES],
    main: [MaybeUninit<u8>; STACK_BYTES],
    exception_guard: [MaybeUninit<u8>; GUARD_BYTES],
    exception: [MaybeUninit<u8>; EXCEPTION_STACK_BYTES],
}

#[repr(transparent)]
struct Stacks(UnsafeCell<[MaybeUninit<CoreStack>; MAX_CORES]>);
// SAFETY: each core touches only its own element, through its stack pointer.
unsafe impl Sync for Stacks {}

#[unsafe(link_section = ".bss.stacks")]
static STACKS: Stacks = Stacks(UnsafeCell::new([const { MaybeUninit::uninit() }; MAX_CORES]));

fn stack_base(core: usize) -> usize {
    STACKS.0.get() as usize + core * size_of::<CoreStack>()
}

/// Addresses of the pages below `core`'s stacks, which must stay unmapped.
pub fn guard_pages(core: usize) -> [Range<usize>; 2] {
    [offset_of!(CoreStack, guard), offset_of!(CoreStack, exception_guard)].map(|offset| {
        let start = stack_base(core) + offset;
        start..start + GUARD_BYTES
    })
}

/// Addresses of everything between the first and the last byte of all stacks, guard pages included.
pub fn stack_area() -> Range<usize> {
    stack_base(0)..stack_base(MAX_CORES)
}

/// Most bytes of its stack that `core` has used since boot, read from what is left of the paint.
pub fn stack_high_water(core: usize) -> usize {
    let main = stack_base(core) + offset_of!(CoreStack, main);
    let is_painted = |offset: &usize| {
        // SAFETY: the address is in a mapped static that was painted at boot; a volatile read of a byte that another
        // frame may be writing is all that is needed of a statistic.
        unsafe { ((main + offset) as *const u8).read_volatile() == PAINT }
    };
    STACK_BYTES - (0..STACK_BYTES).take_while(is_painted).count()
}

unsafe extern "C" {
    /// Entry of a secondary core started with its index in `x0` (PSCI's context argument).
    fn secondary_entry_context();
    /// Entry of a secondary core whose index is the lowest affinity level of `MPIDR_EL1` (spin table).
    fn secondary_entry_affinity();
}

/// Address to give PSCI; the context argument must be the core's index, below [`MAX_CORES`].
pub fn entry_by_context() -> usize {
    secondary_entry_context as *const () as usize
}

/// Address to give a spin table.
pub fn entry_by_affinity() -> usize {
    secondary_entry_affinity as *const () as usize
}

global_asm!(
    r#"
.section .head, "ax"
.global _start
_start:
    b       boot_primary
    .long   0
    .quad   TEXT_OFFSET
    .quad   __image_size
    .quad   2                       // little endian, 4 KiB pages
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

.section .text.boot, "ax"
boot_primary:
    mov     x19, x0                 // what the firmware passed
    bl      drop_to_el1             // x20 = level entered at
    mov     x21, #0                 // core index
    bl      set_up_core
    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
1:  cmp     x0, x1
    b.hs    2f
    stp     xzr, xzr, [x0], #16
    b       1b
2:  mov     x0, x19
    mov     x1, x20
    bl      kernel_main
    b       .

.global secondary_entry_affinity
secondary_entry_affinity:
    mrs     x0, mpidr_el1
    and     x0, x0, #0xff
.global secondary_entry_context
secondary_entry_context:
    mov     x21, x0
    bl      drop_to_el1
    cmp     x21, #{max_cores}
    b.hs    .
    bl      set_up_core
    mov     x0, x21
    bl      secondary_main
    b       .

// From EL2 or EL1 to EL1 with interrupts masked and SP_EL0 selected; the entry level goes to x20.
drop_to_el1:
    mrs     x20, CurrentEL
    lsr     x20, x20, #2
    cmp     x20, #2
    b.hi    entered_at_el3
    ldr     x0, ={sctlr}
    msr     sctlr_el1, x0           // MMU and caches off, whatever the firmware left
    b.lo    1f
    mov     x0, #(1 << 31)          // EL1 is AArch64; nothing is trapped to EL2
    msr     hcr_el2, x0
    mrs     x0, cnthctl_el2
    orr     x0, x0, #3              // EL1 may read the physical counter
    msr     cnthctl_el2, x0
    msr     cntvoff_el2, xzr
    adrp    x0, hypervisor_vectors  // what stays at EL2: interrupts.rs
    add     x0, x0, :lo12:hypervisor_vectors
    msr     vbar_el2, x0
    mov     x0, #0x33ff             // FP/SIMD is not trapped to EL2
    msr     cptr_el2, x0
    msr     hstr_el2, xzr
    mrs     x0, midr_el1
    msr     vpidr_el2, x0
    mrs     x0, mpidr_el1
    msr     vmpidr_el2, x0
    mrs     x0, pmcr_el0
    ubfx    x0, x0, #11, #5         // all event counters belong to EL1
    msr     mdcr_el2, x0
    mov     x0, #0x3c4              // EL1t, DAIF masked
    msr     spsr_el2, x0
    msr     elr_el2, x30
    isb
    eret
1:  msr     daifset, #0xf
    msr     spsel, #0
    isb
    ret

entered_at_el3:                     // nothing is set up to speak with: end with a failing status
    adr     x1, 1f
    mov     x0, #0x18
    hlt     #0xf000
    b       .
.balign 8
1:  .quad   0x20026, 2

// Vectors, FP/SIMD and stacks of core x21; paints the stack it will use.
set_up_core:
    adrp    x0, exception_vectors
    add     x0, x0, :lo12:exception_vectors
    msr     vbar_el1, x0
    mov     x0, #(3 << 20)          // CPACR_EL1.FPEN: without it the first f32 traps
    msr     cpacr_el1, x0
    isb
    adrp    x1, {stacks}
    add     x1, x1, :lo12:{stacks}
    ldr     x2, ={stride}
    madd    x1, x21, x2, x1         // the core's CoreStack
    add     x3, x1, x2
    msr     spsel, #1
    mov     sp, x3                  // exception stack: the last field
    msr     spsel, #0
    add     x3, x1, #{main_offset}
    ldr     x4, ={main_bytes}
    add     x4, x3, x4
    mov     sp, x4
    ldr     x5, =0x5a5a5a5a5a5a5a5a
1:  stp     x5, x5, [x3], #16
    cmp     x3, x4
    b.lo    1b
    ret
.ltorg
"#,
    max_cores = const MAX_CORES,
    sctlr = const 0x30d0_0800_u32, // the bits that are reserved as one (Arm ARM, SCTLR_EL1)
    stacks = sym STACKS,
    stride = const size_of::<CoreStack>(),
    main_offset = const offset_of!(CoreStack, main),
    main_bytes = const STACK_BYTES,
);

const _: () = assert!(PAINT == 0x5a, "set_up_core paints with this byte");
