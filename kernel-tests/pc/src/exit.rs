//! How a run ends: by QEMU's `isa-debug-exit`, a port that ends QEMU with twice the number written to it and 1. That is never
//! 0, and 1 is what QEMU itself ends with when it fails, so [`BASE`] is added to every status.

use x86_64::instructions::port::Port;

/// What is added to each status.
pub const BASE: u32 = 0x10;
/// All that was asked for was done, and was right.
pub const DONE: u32 = 0;
/// Something asked for could not be done.
pub const FAILED: u32 = 1;
/// The machine or the command line is not usable.
pub const CONFIGURATION: u32 = 2;
/// A panic.
pub const PANIC: u32 = 101;
/// An exception.
pub const EXCEPTION: u32 = 102;

/// `-device isa-debug-exit,iobase=0xf4`
const PORT: u16 = 0xF4;

/// Ends with `status`.
pub fn exit(status: u32) -> ! {
    // SAFETY: the port is that of the device that `cargo xtask` gives QEMU, and of nothing on a machine without it.
    unsafe { Port::new(PORT).write(BASE + status) };
    loop {
        x86_64::instructions::hlt();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crate::console::println!("\n{info}");
    exit(PANIC)
}
