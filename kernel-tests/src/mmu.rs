//! Page tables: one identity map, shared by all cores, with a permission for each section.
//!
//! 4 KiB granule, 39-bit addresses, three levels (Arm ARM, D8 "The AArch64 Virtual Memory System Architecture"). The
//! largest block that fits is used: 1 GiB, 2 MiB or a 4 KiB page. Memory that is not mapped cannot be touched: page 0,
//! the pages below the stacks, and every address at which nobody said there is RAM or a device. Not one to one are the pages
//! from [`WINDOW`] on, which show others a second time ([`crate::untouched`]).
//!
//! An entry is written once, from invalid to valid, so nothing here needs break-before-make; the only entries that go
//! back are those of pages that [`unmap_page`] removes.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ops::Range;

use aarch64_cpu::asm::barrier::{ISH, ISHST, SY, dsb, isb};
use aarch64_cpu::registers::{
    ID_AA64MMFR0_EL1, MAIR_EL1, ReadWriteable, Readable, SCTLR_EL1, TCR_EL1, TTBR0_EL1, Writeable,
};

use crate::boot;
use crate::event::Region;

/// Size of the smallest mapping, in bytes.
pub const PAGE_BYTES: usize = 4096;
/// First address of pages that [`map_page`] shows a second time: no board has anything there.
pub const WINDOW: usize = 1 << 38;
/// First address that the tables cannot describe.
const END_OF_SPACE: usize = 1 << 39;
const N_TABLES: usize = 64;

/// What may be done with a range of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Cacheable; read and execute.
    Code,
    /// Cacheable; read.
    ReadOnly,
    /// Cacheable; read and write, never execute.
    ReadWrite,
    /// Device-nGnRE; read and write, never execute.
    Device,
}

/// Why a range could not be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// The range ends past the 512 GiB the tables describe.
    OutOfSpace,
    /// All page tables are in use.
    OutOfTables,
}

impl core::fmt::Display for MapError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::OutOfSpace => write!(f, "address above the limit of {} GiB", END_OF_SPACE >> 30),
            Self::OutOfTables => write!(f, "memory map needs more than the limit of {N_TABLES} page tables"),
        }
    }
}

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 1 << 1;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
const PRIVILEGED_NO_EXECUTE: u64 = 1 << 53;
const USER_NO_EXECUTE: u64 = 1 << 54;
const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;
/// Indices into `MAIR_EL1`, in place in a descriptor.
const DEVICE: u64 = 0 << 2;
const NORMAL: u64 = 1 << 2;

impl Access {
    const fn bits(self) -> u64 {
        let common = VALID | ACCESSED | USER_NO_EXECUTE;
        common
            | match self {
                Self::Code => NORMAL | INNER_SHAREABLE | READ_ONLY,
                Self::ReadOnly => NORMAL | INNER_SHAREABLE | READ_ONLY | PRIVILEGED_NO_EXECUTE,
                Self::ReadWrite => NORMAL | INNER_SHAREABLE | PRIVILEGED_NO_EXECUTE,
                Self::Device => DEVICE | PRIVILEGED_NO_EXECUTE,
            }
    }
}

/// The tables; number 0 is the root (level 1).
#[repr(C, align(4096))]
struct Tables {
    tables: [[u64; 512]; N_TABLES],
    /// Tables in use besides the root.
    used: usize,
}

struct Shared(UnsafeCell<Tables>);
// SAFETY: only core 0 changes the tables, through `map`, `map_page` and `unmap_page`, whose contracts say so; the other
// cores' walks of them are the hardware's.
unsafe impl Sync for Shared {}
static TABLES: Shared = Shared(UnsafeCell::new(Tables { tables: [[0; 512]; N_TABLES], used: 0 }));

impl Tables {
    fn map(&mut self, range: Range<usize>, access: Access) -> Result<(), MapError> {
        let mut at = range.start / PAGE_BYTES * PAGE_BYTES;
        let end = range.end.checked_next_multiple_of(PAGE_BYTES).ok_or(MapError::OutOfSpace)?;
        if end > END_OF_SPACE {
            return Err(MapError::OutOfSpace);
        }
        while at < end {
            at += self.map_one(at, at, end - at, access)?;
        }
        Ok(())
    }

    /// Maps the largest block at `at` that fits in `room` bytes to the memory at `to`; returns the bytes now mapped from `at`
    /// on. What is mapped already stays as it is.
    fn map_one(&mut self, at: usize, to: usize, room: usize, access: Access) -> Result<usize, MapError> {
        let mut table = 0;
        for level in 1..=3 {
            let bytes = 1 << (39 - 9 * level);
            let index = at / bytes % 512;
            let entry = self.tables[table][index];
            let is_leaf = level == 3 || entry & TABLE_OR_PAGE == 0;
            if entry & VALID != 0 && is_leaf {
                return Ok(bytes - at % bytes);
            }
            if entry & VALID == 0 && (at | to).is_multiple_of(bytes) && room >= bytes {
                let kind = if level == 3 { TABLE_OR_PAGE } else { 0 };
                self.tables[table][index] = to as u64 | access.bits() | kind;
                return Ok(bytes);
            }
            table = if entry & VALID == 0 {
                let new = self.used + 1;
                let address = self.tables.get(new).ok_or(MapError::OutOfTables)?.as_ptr() as u64;
                self.tables[table][index] = address | TABLE_OR_PAGE | VALID;
                self.used = new;
                new
            } else {
                ((entry & ADDRESS) as usize - self.tables.as_ptr() as usize) / PAGE_BYTES
            };
        }
        Ok(PAGE_BYTES)
    }

    /// The entry of the page at `at`, if that page has an entry of its own.
    fn page_entry(&mut self, at: usize) -> Option<&mut u64> {
        let mut table = 0;
        for level in 1..=2 {
            let entry = self.tables[table][at >> (39 - 9 * level) & 511];
            if entry & (TABLE_OR_PAGE | VALID) != TABLE_OR_PAGE | VALID {
                return None;
            }
            table = ((entry & ADDRESS) as usize - self.tables.as_ptr() as usize) / PAGE_BYTES;
        }
        Some(&mut self.tables[table][at >> 12 & 511])
    }
}

/// Adds `range` to the map; pages that are mapped already keep their access.
///
/// # Errors
///
/// [`MapError`] when the range or the tables do not reach.
///
/// # Safety
///
/// Core 0 only. `range` must be what `access` says (RAM, or a device), and nothing in it may be relied on to be
/// inaccessible.
pub unsafe fn map(range: Range<usize>, access: Access) -> Result<(), MapError> {
    // SAFETY: core 0 is the only one to come here (the caller's promise) and the reference does not leave this block.
    unsafe { (*TABLES.0.get()).map(range, access)? };
    dsb(ISHST);
    isb(SY);
    Ok(())
}

/// Shows the page of memory at `to`, to be read, at `at` too; nothing happens when there is a page.
///
/// # Errors
///
/// [`MapError`] when the tables do not reach.
///
/// # Safety
///
/// Core 0 only. `at` lies in [`WINDOW`], `to` is the address of a page of RAM, and nothing may rely on `at` being inaccessible.
pub unsafe fn map_page(at: usize, to: usize) -> Result<(), MapError> {
    // SAFETY: as in `map`.
    unsafe { (*TABLES.0.get()).map_one(at, to, PAGE_BYTES, Access::ReadOnly)? };
    dsb(ISHST);
    isb(SY);
    Ok(())
}

/// Takes the page at `at` out of the map; nothing happens when it has no entry of its own.
///
/// # Safety
///
/// Core 0 only. Nothing may use the page any more.
pub unsafe fn unmap_page(at: usize) {
    // SAFETY: as in `map`.
    if let Some(entry) = unsafe { (*TABLES.0.get()).page_entry(at) } {
        *entry = 0;
        dsb(ISHST);
        // SAFETY: forgetting a translation that the tables no longer hold.
        unsafe { asm!("tlbi vaae1is, {}", in(reg) at >> 12, options(nostack, preserves_flags)) };
        dsb(ISH);
        isb(SY);
    }
}

unsafe extern "C" {
    static __image_start: u8;
    static __rodata_start: u8;
    static __data_start: u8;
    static __image_end: u8;
}

/// Addresses of the kernel's image, from its header to the end of its data.
pub fn image() -> Range<usize> {
    (&raw const __image_start).addr()..(&raw const __image_end).addr()
}

/// Returns what the kernel keeps at `address`; RAM that is free is the heap's, and a console is not recognised.
pub fn region_of(address: usize, initrd: Option<&Range<usize>>, heap: &Range<usize>) -> Region {
    let (rodata, data) = ((&raw const __rodata_start).addr(), (&raw const __data_start).addr());
    let image = image();
    let is_guard = || (0..boot::MAX_CORES).flat_map(boot::guard_pages).any(|page| page.contains(&address));
    match address {
        _ if address < PAGE_BYTES => Region::NullPage(address),
        _ if (image.start..rodata).contains(&address) => Region::Text,
        _ if (rodata..data).contains(&address) => Region::Rodata,
        _ if is_guard() => Region::StackGuard,
        _ if boot::stack_area().contains(&address) => Region::Stack,
        _ if image.contains(&address) => Region::Data,
        _ if initrd.is_some_and(|initrd| initrd.contains(&address)) => Region::ModelImage,
        _ if heap.contains(&address) => Region::Heap,
        0..END_OF_SPACE => Region::Unmapped,
        _ if address >> 48 == 0xffff => Region::HighHalf,
        _ => Region::NoValidRange,
    }
}

/// Maps the kernel's image and the first console, then turns the MMU and the caches on.
///
/// # Safety
///
/// Once, on core 0, with the MMU off; `console` is the address of a device page.
pub unsafe fn init(console: usize) {
    let (rodata, data) = ((&raw const __rodata_start).addr(), (&raw const __data_start).addr());
    let (image, stacks) = (image(), boot::stack_area());
    let mut at = stacks.start;
    // Errors cannot be shown yet, and cannot happen: the image is small and the tables are empty.
    // SAFETY: the sections are where the linker put them, the console is the board's word; the guard pages are left out.
    unsafe {
        let _ = map(image.start..rodata, Access::Code);
        let _ = map(rodata..data, Access::ReadOnly);
        let _ = map(data..stacks.start, Access::ReadWrite);
        for guard in (0..boot::MAX_CORES).flat_map(boot::guard_pages) {
            let _ = map(at..guard.start, Access::ReadWrite);
            at = guard.end;
        }
        let _ = map(at..image.end, Access::ReadWrite);
        let _ = map(console..console + PAGE_BYTES, Access::Device);
    }
    // The tables were written past the caches: drop lines that a boot loader may have left over them.
    let start = TABLES.0.get().addr();
    for line in (start..start + size_of::<Tables>()).step_by(16) {
        // SAFETY: nothing was written to these lines through a cache since the last reset of this code's data.
        unsafe { asm!("dc ivac, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: the running code, its data and stack are mapped; this is core 0 with its MMU off.
    unsafe { enable() };
}

/// Turns the MMU, the caches and the alignment check on, for the calling core.
///
/// `SCTLR_EL1.A` is set so that every run proves that loads and stores are aligned, as an embedding kernel may demand.
///
/// # Safety
///
/// [`init`] has filled the tables, and the calling core's MMU is off.
pub unsafe fn enable() {
    // Nothing is read from memory here: a core whose caches are off does not see what another's still hold.
    dsb(SY);
    // SAFETY: the MMU is off, so no translation is in use.
    unsafe { asm!("tlbi vmalle1", "ic iallu", options(nostack, preserves_flags)) };
    dsb(SY);
    MAIR_EL1.write(
        MAIR_EL1::Attr0_Device::nonGathering_nonReordering_EarlyWriteAck
            + MAIR_EL1::Attr1_Normal_Outer::WriteBack_NonTransient_ReadWriteAlloc
            + MAIR_EL1::Attr1_Normal_Inner::WriteBack_NonTransient_ReadWriteAlloc,
    );
    // More than 48 bits (PARange 6 and above) would need larger descriptors.
    let physical_bits = ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange).min(5);
    TCR_EL1.write(
        TCR_EL1::T0SZ.val(64 - 39)
            + TCR_EL1::TG0::KiB_4
            + TCR_EL1::SH0::Inner
            + TCR_EL1::ORGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
            + TCR_EL1::IRGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
            + TCR_EL1::EPD1::DisableTTBR1Walks
            + TCR_EL1::IPS.val(physical_bits),
    );
    TTBR0_EL1.set_baddr(TABLES.0.get().addr() as u64);
    isb(SY);
    SCTLR_EL1.modify(
        SCTLR_EL1::M::Enable
            + SCTLR_EL1::C::Cacheable
            + SCTLR_EL1::I::Cacheable
            + SCTLR_EL1::A::Enable
            + SCTLR_EL1::SA::Enable
            + SCTLR_EL1::SA0::Enable
            + SCTLR_EL1::WXN::Enable,
    );
    isb(SY);
}
