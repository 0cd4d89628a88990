//! QEMU `virt`: RAM from 1 GiB up, everything else in the device tree, cores by PSCI.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod board {
    use kernel_tests::board::{Board, read_device_tree};
    use kernel_tests::gic::Gic;
    use kernel_tests::machine::{Core, Machine, MachineError};
    use kernel_tests::{boot, psci};

    /// QEMU's board for which there is no hardware.
    pub struct Virt;

    /// Where the device tree lies when the kernel was loaded as an ELF file and `x0` is 0.
    const RAM_BASE: usize = 0x4000_0000;

    impl Board for Virt {
        const NAME: &'static str = "virt";
        const CONSOLE: usize = 0x0900_0000;
        const CONSOLE_CLOCK_HZ: u32 = 24_000_000;
        const GIC: Option<Gic> = Some(Gic { distributor: 0x0800_0000, core: 0x0801_0000 });

        fn memory(firmware: usize) -> Result<Machine, MachineError> {
            read_device_tree(if firmware == 0 { RAM_BASE } else { firmware })
        }

        fn is_emulated() -> bool {
            true
        }

        fn start_core(core: Core, index: usize) -> bool {
            // SAFETY: the entry expects just this: MMU off, no stack, the core's number in x0.
            unsafe { psci::start_core(core.start, core.mpidr, boot::entry_by_context(), index) }.is_ok()
        }
    }
}

#[cfg(target_os = "none")]
kernel_tests::entry!(board::Virt);

#[cfg(not(target_os = "none"))]
fn main() {
    println!("a kernel: build it with --target aarch64-unknown-none, or type `cargo xtask run`");
}
