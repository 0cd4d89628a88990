//! What a board must say, and the steps from [`crate::boot`] to a running machine.

use crate::args::Args;
use crate::console;
use crate::cores::Team;
use crate::counter::CycleCounter;
use crate::gic::Gic;
use crate::machine::{Core, Machine, MachineError};
use crate::mmu::{self, Access, MapError, PAGE_BYTES};
use crate::{boot, dtb, heap, println, semihosting};

/// Exit status when the machine or the command line is not usable.
pub const STATUS_CONFIGURATION: u32 = 2;

/// A board: data and a few functions, in a file of its own with a binary and a linker script of its own.
pub trait Board {
    /// Name shown in the banner, as QEMU's `-machine` knows it.
    const NAME: &'static str;
    /// Address of the PL011 that is the console until the firmware names another.
    const CONSOLE: usize;
    /// Frequency of the clock that feeds the console, in Hz.
    const CONSOLE_CLOCK_HZ: u32;
    /// The interrupt controller, where it is one that this kernel knows.
    const GIC: Option<Gic> = None;

    /// Returns memory, cores, ramdisk and command line. `firmware` is what `x0` held at the first instruction.
    ///
    /// # Errors
    ///
    /// [`MachineError`] when the firmware's words are not to be had or not usable.
    fn memory(firmware: usize) -> Result<Machine, MachineError>;

    /// Starts `core` as number `index`; returns whether it was accepted.
    fn start_core(core: Core, index: usize) -> bool;

    /// Whether this is an emulator, whose counts are nobody's speed.
    fn is_emulated() -> bool;

    /// Ends the run with `status`.
    fn exit(status: u32) -> ! {
        semihosting::exit(status)
    }
}

/// Where the kernel runs, once everything is switched on.
#[derive(Debug)]
pub struct Context {
    /// [`Board::NAME`].
    pub board: &'static str,
    /// [`Board::is_emulated`].
    pub is_emulated: bool,
    /// Exception level the firmware entered the kernel at.
    pub entry_level: u64,
    /// [`Board::GIC`].
    pub gic: Option<Gic>,
    /// What the firmware said.
    pub machine: Machine,
    /// The kernel command line.
    pub args: Args,
    /// The cores at work.
    pub team: Team,
}

/// Maps and reads the device tree at `address`, if there is one.
///
/// # Errors
///
/// `NoDescription` when there is none; the errors of [`dtb::machine`].
pub fn read_device_tree(address: usize) -> Result<Machine, MachineError> {
    let none = MachineError::NoDescription { pointer: address };
    let total = |header: &[u8]| header.first_chunk().and_then(|header| dtb::total_bytes(*header));
    let bytes = with_firmware(address, dtb::HEADER_BYTES, total).flatten().ok_or(none)?;
    with_firmware(address, bytes, dtb::machine).unwrap_or(Err(none))
}

/// Maps `bytes` bytes of memory that the firmware wrote and gives them to `read`.
///
/// `None` when the address cannot be one: null, unaligned to 8 bytes, or out of reach. Nothing is reserved: all that is
/// of use is copied, and the memory is free afterwards.
pub fn with_firmware<R>(address: usize, bytes: usize, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
    if address == 0 || !address.is_multiple_of(8) {
        return None;
    }
    // SAFETY: core 0; what the firmware passes points into RAM, which it is harmless to map.
    unsafe { mmu::map(address..address.checked_add(bytes)?, Access::ReadWrite).ok()? };
    // SAFETY: just mapped; any bytes are a `[u8]`, and nobody writes them while `read` runs.
    Some(read(unsafe { core::slice::from_raw_parts(address as *const u8, bytes) }))
}

/// Switches everything on in order, then runs `main` and ends with its status.
///
/// # Safety
///
/// Called once, by [`crate::entry!`], as the first Rust code on core 0.
pub unsafe fn start<B: Board>(firmware: usize, entry_level: u64, main: fn(&Context) -> u32) -> ! {
    // SAFETY: the first call on core 0, with the MMU off.
    unsafe { mmu::init(B::CONSOLE) };
    // SAFETY: the board says that its console is a PL011, and it was mapped just now.
    unsafe { console::init(B::CONSOLE, B::CONSOLE_CLOCK_HZ) };
    CycleCounter::enable();
    let machine = match prepare::<B>(firmware) {
        Ok(machine) => machine,
        Err(error) => {
            println!("error: {error}");
            B::exit(STATUS_CONFIGURATION)
        }
    };
    let args = match Args::parse(&machine.boot_args) {
        Ok(args) => args,
        Err(error) => {
            println!("error: {error}");
            B::exit(STATUS_CONFIGURATION)
        }
    };
    let mut others = others(&machine);
    let wanted = (1 + others.len()).min(args.smp.unwrap_or(boot::MAX_CORES)).min(boot::MAX_CORES);
    let team = Team::start(wanted, |index| others.next().is_some_and(|core| B::start_core(core, index)));
    drop(others);
    // The tag list and the spin table of a Raspberry Pi lie in page 0; both have been used.
    // SAFETY: core 0; nothing reads page 0 from here on.
    unsafe { mmu::unmap_page(0) };
    B::exit(main(&Context {
        board: B::NAME,
        is_emulated: B::is_emulated(),
        entry_level,
        gic: B::GIC,
        machine,
        args,
        team,
    }))
}

/// Why the kernel cannot start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StartError {
    Machine(MachineError),
    Map(MapError),
    NoFreeMemory { bytes: usize },
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Machine(error) => error.fmt(f),
            Self::Map(error) => error.fmt(f),
            Self::NoFreeMemory { bytes } => {
                write!(f, "largest free piece of memory, {bytes} bytes, is too small")
            }
        }
    }
}

/// Reads the machine's description, maps its memory, and gives the heap the largest free piece.
fn prepare<B: Board>(firmware: usize) -> Result<Machine, StartError> {
    let machine = B::memory(firmware).map_err(StartError::Machine)?;
    if let Some(uart) = machine.uart.filter(|uart| *uart != B::CONSOLE) {
        // SAFETY: the device tree calls it a PL011; core 0.
        unsafe {
            mmu::map(uart..uart.saturating_add(PAGE_BYTES), Access::Device).map_err(StartError::Map)?;
            console::init(uart, B::CONSOLE_CLOCK_HZ);
        }
    }
    let null_page = 0..PAGE_BYTES;
    let free = machine.free_ram(&[mmu::image(), null_page], PAGE_BYTES);
    for range in &free {
        // SAFETY: core 0; RAM by the firmware's word, and nobody's so far.
        unsafe { mmu::map(range.clone(), Access::ReadWrite).map_err(StartError::Map)? };
    }
    if let Some(initrd) = &machine.initrd {
        // SAFETY: core 0; inside RAM, as `Machine::check` found.
        unsafe { mmu::map(initrd.clone(), Access::ReadOnly).map_err(StartError::Map)? };
    }
    let region = free.iter().max_by_key(|range| range.len()).cloned().unwrap_or_default();
    let bytes = region.len();
    // SAFETY: called once; the region was mapped above and belongs to nobody else.
    if unsafe { heap::init(region) } { Ok(machine) } else { Err(StartError::NoFreeMemory { bytes }) }
}

/// The cores other than the one that boots.
fn others(machine: &Machine) -> impl ExactSizeIterator<Item = Core> {
    use aarch64_cpu::registers::{MPIDR_EL1, Readable};
    const AFFINITY: u64 = 0xff_00ff_ffff;
    let own = MPIDR_EL1.get() & AFFINITY;
    let others: heapless::Vec<Core, { crate::machine::MAX_CORES }> =
        machine.cores.iter().copied().filter(|core| core.mpidr & AFFINITY != own).collect();
    others.into_iter()
}

/// Makes the type given the board of the binary: defines its entry point.
///
/// On a host there is nothing to run; the binary then says how to build it.
#[macro_export]
macro_rules! entry {
    ($board:ty) => {
        /// Where `boot.rs` enters Rust.
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "C" fn kernel_main(firmware: usize, entry_level: u64) -> ! {
            // SAFETY: `boot.rs` comes here once, first of all, on core 0.
            unsafe { $crate::board::start::<$board>(firmware, entry_level, $crate::modes::main) }
        }
    };
}
