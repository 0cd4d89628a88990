//! What the loader says (Xen's `public/arch-x86/hvm/start_info.h`).

use core::slice;

use kernel_tests::machine::{MAX_BOOT_ARGS, Machine, MachineError};

const MAGIC: u32 = 0x336E_C578;
/// The type of a piece of memory that is RAM.
const RAM: u32 = 1;

/// The head of it.
#[derive(Debug)]
#[repr(C)]
pub struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    n_modules: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    n_memory: u32,
    reserved: u32,
}

/// A file that was loaded with the kernel.
#[repr(C)]
struct Module {
    start: u64,
    bytes: u64,
    command_line: u64,
    reserved: u64,
}

/// A piece of the address space.
#[repr(C)]
struct Memory {
    start: u64,
    bytes: u64,
    kind: u32,
    reserved: u32,
}

impl StartInfo {
    /// What is needed of it.
    ///
    /// # Errors
    ///
    /// [`MachineError`] when there is none, or it cannot be right.
    ///
    /// # Safety
    ///
    /// `this` is what a loader passed by the protocol: all that it points to can be read, and nobody writes it.
    pub unsafe fn read(this: *const Self) -> Result<Machine, MachineError> {
        let none = MachineError::NoDescription { pointer: this.addr() };
        // SAFETY: the caller's promise.
        let info =
            unsafe { this.as_ref() }.filter(|info| info.magic == MAGIC && info.version >= 1).ok_or(none)?;
        // SAFETY: the same.
        let (modules, memory) = unsafe {
            (list::<Module>(info.modules, info.n_modules), list::<Memory>(info.memory_map, info.n_memory))
        };
        let range = |start: u64, bytes: u64| start as usize..start.saturating_add(bytes) as usize;
        let mut machine = Machine {
            initrd: modules.first().map(|module| range(module.start, module.bytes)),
            ..Machine::default()
        };
        for piece in memory.iter().filter(|piece| piece.kind == RAM) {
            // What has no place is not used.
            let _ = machine.ram.push(range(piece.start, piece.bytes));
        }
        // SAFETY: the caller's promise.
        let line = unsafe { text(info.command_line) };
        let bad = MachineError::BadBootArgs { bytes: line.len() };
        machine.boot_args.push_str(str::from_utf8(line).map_err(|_| bad)?).map_err(|_| bad)?;
        machine.check()
    }
}

/// `n` of what lies at an address.
///
/// # Safety
///
/// They do, for good.
unsafe fn list<T>(address: u64, n: u32) -> &'static [T] {
    if address == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(address as *const T, n as usize) }
}

/// The bytes from an address on up to a 0, or one more than a command line may have.
///
/// # Safety
///
/// They are there, for good.
unsafe fn text(address: u64) -> &'static [u8] {
    if address == 0 {
        return &[];
    }
    let first = address as *const u8;
    // SAFETY: the caller's promise: all bytes before this one are there, and none of them is 0.
    let is_inside = |at: &usize| unsafe { first.add(*at).read() != 0 };
    let n = (0..=MAX_BOOT_ARGS).take_while(is_inside).count();
    // SAFETY: the same.
    unsafe { slice::from_raw_parts(first, n) }
}
