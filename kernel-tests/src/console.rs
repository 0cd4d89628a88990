//! The serial console: a PL011, polled.

use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use arm_pl011_uart::{DataBits, LineConfig, PL011Registers, Parity, StopBits, Uart, UniqueMmioPointer};

use heapless::Deque;

use crate::lock::Lock;

const BAUD: u32 = 115_200;

/// Bytes kept that were typed while nobody read.
const TYPED_AHEAD: usize = 1024;

/// One PL011 at a mapped address.
pub struct Console {
    uart: Uart<'static>,
    typed_ahead: Deque<u8, TYPED_AHEAD>,
}

static CONSOLE: Lock<Option<Console>> = Lock::new(None);
/// Address of the console in use, for [`emergency`]; 0 before there is one.
static ADDRESS: AtomicUsize = AtomicUsize::new(0);

impl Console {
    /// # Safety
    ///
    /// `address` is that of a PL011's registers, mapped as device memory.
    unsafe fn at(address: usize) -> Option<Self> {
        let registers = NonNull::new(address as *mut PL011Registers)?;
        // SAFETY: the caller's promise. A second pointer to the same registers exists only in `emergency`, after which
        // nothing else prints.
        let uart = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
        Some(Self { uart, typed_ahead: Deque::new() })
    }

    fn receive(&mut self) -> Option<u8> {
        self.uart.read_word().ok().flatten()
    }

    fn put(&mut self, byte: u8) {
        while self.uart.is_tx_fifo_full() {
            core::hint::spin_loop();
        }
        self.uart.write_word(byte);
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        Ok(())
    }
}

/// Makes the PL011 at `address`, fed by a clock of `clock_hz`, the console.
///
/// # Safety
///
/// `address` is that of a PL011's registers, mapped as device memory.
pub unsafe fn init(address: usize, clock_hz: u32) {
    // SAFETY: the caller's promise.
    let mut console = unsafe { Console::at(address) };
    if let Some(console) = &mut console {
        let line = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
        // A clock that cannot make the rate leaves the port as the firmware set it, which is the best guess there is.
        let _ = console.uart.enable(line, BAUD, clock_hz);
    }
    CONSOLE.with(|shared| *shared = console);
    ADDRESS.store(address, Ordering::Release);
}

/// Prints formatted text; nothing before [`init`].
pub fn print(text: fmt::Arguments<'_>) {
    CONSOLE.with(|console| {
        if let Some(console) = console {
            let _ = console.write_fmt(text);
        }
    });
}

/// Returns the next byte that was received, if any; bytes lost or damaged on the line are skipped.
pub fn read() -> Option<u8> {
    CONSOLE.with(|console| {
        let console = console.as_mut()?;
        console.typed_ahead.pop_front().or_else(|| console.receive())
    })
}

/// Whether Ctrl-C was typed; what was typed before it is dropped. Anything else waits for [`read`].
pub fn is_cancelled() -> bool {
    const CTRL_C: u8 = 0x03;
    CONSOLE.with(|console| {
        let Some(console) = console else { return false };
        // What does not fit stays in the device, and with it the sender.
        while !console.typed_ahead.is_full() {
            match console.receive() {
                Some(CTRL_C) => {
                    console.typed_ahead.clear();
                    return true;
                }
                Some(byte) => {
                    let _ = console.typed_ahead.push_back(byte);
                }
                None => break,
            }
        }
        false
    })
}

/// Prints without the lock: for a panic or a fault, when whoever holds the lock may never give it back.
pub fn emergency(text: fmt::Arguments<'_>) {
    // SAFETY: the address was given to `init`, with the same promise; 0 makes no console.
    if let Some(mut console) = unsafe { Console::at(ADDRESS.load(Ordering::Acquire)) } {
        let _ = console.write_fmt(text);
    }
}

/// Prints to the console, as `std::print!` does.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console::print(core::format_args!($($arg)*)) };
}

/// Prints a line to the console, as `std::println!` does.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($format:literal $($arg:tt)*) => { $crate::print!("{}\n", core::format_args!($format $($arg)*)) };
}
