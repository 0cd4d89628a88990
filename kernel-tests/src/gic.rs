//! The interrupt controller of `virt`: an Arm GIC, version 2 (Arm IHI 0048), of which one interrupt is of use here, the
//! virtual timer's.

use core::ptr;

use crate::mmu::{self, Access, MapError, PAGE_BYTES};

/// The virtual timer's interrupt, the same on every machine (Arm BSA).
const VIRTUAL_TIMER: u32 = 27;

// Registers of the distributor and of a core's interface, by their offsets.
const DISTRIBUTOR_CONTROL: usize = 0;
const ENABLE_SET: usize = 0x100;
const CORE_CONTROL: usize = 0;
const PRIORITY_MASK: usize = 4;

/// Where a core reads which interrupt it takes, from the start of its interface.
pub const ACKNOWLEDGE: usize = 0xc;
/// Where it writes that it is done.
pub const END: usize = 0x10;

/// Addresses of an interrupt controller.
#[derive(Clone, Copy, Debug)]
pub struct Gic {
    /// Of the distributor.
    pub distributor: usize,
    /// Of the interface of the core that asks.
    pub core: usize,
}

impl Gic {
    /// Lets the virtual timer interrupt the calling core, as an IRQ.
    ///
    /// # Errors
    ///
    /// [`MapError`] when the page tables do not reach.
    ///
    /// # Safety
    ///
    /// Core 0 only; there is a GIC of version 2 at these addresses.
    pub unsafe fn enable_timer(self) -> Result<(), MapError> {
        for start in [self.distributor, self.core] {
            // SAFETY: a device by the caller's word; core 0.
            unsafe { mmu::map(start..start + PAGE_BYTES, Access::Device)? };
        }
        let write = |address: usize, value: u32| {
            // SAFETY: a register of the device that was mapped just now, aligned to its size.
            unsafe { ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(value) };
        };
        write(self.distributor + ENABLE_SET, 1 << VIRTUAL_TIMER);
        write(self.distributor + DISTRIBUTOR_CONTROL, 1);
        write(self.core + PRIORITY_MASK, 0xff);
        write(self.core + CORE_CONTROL, 1);
        Ok(())
    }
}
