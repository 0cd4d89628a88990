//! The first instructions: from the loader's 32-bit state to Rust in long mode, with a stack and vector registers.
//!
//! The entry is that of the PVH boot protocol (Xen's `docs/misc/pvh.pandoc`), which QEMU's `-kernel` finds by the note in the
//! ELF file: protected mode, no paging, `ebx` points to the start info.
//!
//! All of the first 4 GiB are mapped as they are, but for the page below the stack, and for that at 0 once what the loader
//! says has been read. The stack is the memory below the kernel's image, which is loaded at 2 MiB.

use core::arch::global_asm;

use x86_64::VirtAddr;
use x86_64::instructions::tlb;

use crate::start_info::StartInfo;
use crate::{console, exceptions, exit, modes};

/// Bytes of the stack.
const STACK_BYTES: usize = 512 << 10;
/// Where the image begins, and the stack.
const IMAGE_BASE: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;
/// The number of the page below the stack.
const GUARD_PAGE: usize = (IMAGE_BASE - STACK_BYTES) / PAGE_BYTES - 1;

global_asm!(
    r#"
.section .note.Xen, "a", @note
    .long   4, 4, 18                // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz  "Xen"
    .long   pvh_start

.section .text.boot, "ax"
.code32
.global pvh_start
pvh_start:
    cli
    cld
    mov     esp, {image_base}
    mov     edi, ebx                // what the loader passed
    mov     eax, cr4
    or      eax, (1 << 5) | (1 << 9) | (1 << 10)    // PAE, OSFXSR, OSXMMEXCPT
    mov     cr4, eax
    mov     eax, offset page_map
    mov     cr3, eax
    mov     ecx, 0xc0000080         // IA32_EFER
    rdmsr
    or      eax, 1 << 8             // LME
    wrmsr
    mov     eax, cr0
    and     eax, ~((1 << 2) | (1 << 3))             // EM, TS
    or      eax, (1 << 31) | (1 << 16) | (1 << 1) | 1  // PG, WP, MP, PE
    mov     cr0, eax
    lgdt    [gdt_pointer]
    push    8
    mov     eax, offset long_mode
    push    eax
    retf

.code64
long_mode:
    mov     eax, 16
    mov     ds, eax
    mov     es, eax
    mov     ss, eax
    mov     esp, {image_base}
    xor     ebp, ebp
    mov     r8, rdi
    mov     eax, 1
    cpuid
    bt      ecx, 26                 // XSAVE
    jnc     2f
    mov     rax, cr4
    or      rax, 1 << 18            // OSXSAVE
    mov     cr4, rax
    mov     eax, 0xd
    xor     ecx, ecx
    cpuid
    and     eax, 0x600e7            // of what the CPU has: x87, SSE, AVX, AVX-512, tiles
    xor     ecx, ecx
    xor     edx, edx
    xsetbv
2:  lea     rdi, [rip + __bss_start]
    lea     rcx, [rip + __bss_end]
    sub     rcx, rdi
    xor     eax, eax
    rep     stosb
    mov     rdi, r8
    call    {main}

.section .rodata.boot, "a"
.balign 8
gdt:
    .quad   0
    .quad   0x00af9b000000ffff      // code, 64 bits
    .quad   0x00cf93000000ffff      // data
gdt_pointer:
    .word   . - gdt - 1
    .long   gdt

.section .data.boot, "aw"
.balign 4096
page_map:                           // 512 GiB each
    .quad   page_pointers + 3
    .fill   511, 8, 0
page_pointers:                      // 1 GiB each
    .quad   page_directories + 3, page_directories + 0x1003
    .quad   page_directories + 0x2003, page_directories + 0x3003
    .fill   508, 8, 0
page_directories:                   // 2 MiB each
    .quad   first_pages + 3
.set page, 1
.rept 2047
    .quad   (page << 21) | 0x83
    .set page, page + 1
.endr
.global first_pages
first_pages:                        // 4 KiB each
.set page, 0
.rept {guard_page}
    .quad   (page << 12) | 3
    .set page, page + 1
.endr
    .quad   0
.set page, page + 1
.rept 511 - {guard_page}
    .quad   (page << 12) | 3
    .set page, page + 1
.endr
"#,
    image_base = const IMAGE_BASE,
    guard_page = const GUARD_PAGE,
    main = sym kernel_main,
);

unsafe extern "C" {
    static __image_end: u8;
    static mut first_pages: [u64; 512];
}

/// Where the kernel itself is, its stack included.
pub fn image() -> core::ops::Range<usize> {
    IMAGE_BASE - STACK_BYTES..(&raw const __image_end).addr()
}

/// Where `pvh_start` enters Rust.
extern "C" fn kernel_main(info: *const StartInfo) -> ! {
    // SAFETY: called once, first of all.
    unsafe {
        exceptions::init();
        console::init();
    }
    // SAFETY: the loader's pointer, which the protocol promises.
    let machine = unsafe { StartInfo::read(info) };
    // SAFETY: one core, and nothing in the page at 0 is used from here on.
    unsafe { (&raw mut first_pages).cast::<u64>().write_volatile(0) };
    tlb::flush(VirtAddr::zero());
    let status = match machine {
        Ok(machine) => modes::main(&machine),
        Err(error) => {
            console::println!("error: {error}");
            exit::CONFIGURATION
        }
    };
    exit::exit(status)
}
