//! Raspberry Pi 3B: RAM from 0 up, cores in a spin table, a device tree only if someone gave one.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod board {
    use core::arch::asm;

    use aarch64_cpu::asm::barrier::{SY, dsb};
    use aarch64_cpu::asm::sev;
    use kernel_tests::board::{Board, read_device_tree, with_firmware};
    use kernel_tests::counter::Timer;
    use kernel_tests::machine::{Core, Machine, MachineError, StartMethod};
    use kernel_tests::mmu::{self, Access};
    use kernel_tests::{atags, boot};

    /// Broadcom BCM2837, four Cortex-A53.
    ///
    /// On the board itself the PL011 speaks to the Bluetooth chip until `config.txt` says `dtoverlay=disable-bt`.
    pub struct Raspi3b;

    const CRYSTAL_HZ: u64 = 19_200_000;
    /// The firmware's spin table: one word for each core (raspberrypi/tools, armstubs/armstub8.S).
    const SPIN_TABLE: usize = 0xd8;

    impl Board for Raspi3b {
        const NAME: &'static str = "raspi3b";
        const CONSOLE: usize = 0x3f20_1000;
        const CONSOLE_CLOCK_HZ: u32 = 48_000_000;

        fn memory(firmware: usize) -> Result<Machine, MachineError> {
            // The spin table and QEMU's tag list lie in page 0.
            // SAFETY: core 0; page 0 is RAM, the firmware's, and `board::start` takes it out of the map again.
            let _ = unsafe { mmu::map(0..mmu::PAGE_BYTES, Access::ReadWrite) };
            let machine = match read_device_tree(firmware) {
                Err(MachineError::NoDescription { pointer }) => {
                    let none = MachineError::NoDescription { pointer };
                    // QEMU without `-dtb` passes a tag list.
                    with_firmware(atags::START, atags::MAX_BYTES, atags::machine).unwrap_or(Err(none))
                }
                other => other,
            }?;
            Ok(Machine {
                cores: (0..4)
                    .map(|n| Core {
                        mpidr: n,
                        start: StartMethod::SpinTable { release_address: SPIN_TABLE + 8 * n as usize },
                    })
                    .collect(),
                ..machine
            })
        }

        fn is_emulated() -> bool {
            // The board's timer runs from its crystal; QEMU's does not know about crystals.
            Timer.hz() != CRYSTAL_HZ
        }

        fn start_core(core: Core, _index: usize) -> bool {
            let StartMethod::SpinTable { release_address } = core.start else { return false };
            let release = release_address as *mut u64;
            // SAFETY: `memory` mapped page 0. The waiting core has its caches off, so the word is cleaned to memory.
            unsafe {
                release.write_volatile(boot::entry_by_affinity() as u64);
                asm!("dc cvac, {}", in(reg) release, options(nostack, preserves_flags));
            }
            dsb(SY);
            sev();
            true
        }
    }
}

#[cfg(target_os = "none")]
kernel_tests::entry!(board::Raspi3b);

#[cfg(not(target_os = "none"))]
fn main() {
    println!(
        "a kernel: build it with --target aarch64-unknown-none, or type `cargo xtask run --board raspi3b`"
    );
}
