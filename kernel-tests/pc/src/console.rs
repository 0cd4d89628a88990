//! The serial console: the first 16550 of a PC, polled.

use core::fmt::{self, Write};

use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};

const COM1: u16 = 0x3F8;

/// The port. There is one core, and no interrupt that prints.
pub struct Console(Uart16550<PioBackend>);

impl Console {
    /// The port as it was initialised; `None` where that address cannot be one.
    pub fn get() -> Option<Self> {
        // SAFETY: nobody else uses the port: each handle of this kernel lives as long as one call.
        unsafe { Uart16550::new_port(COM1) }.ok().map(Self)
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.send_bytes_exact(text.as_bytes());
        Ok(())
    }
}

/// Sets the port up.
///
/// # Safety
///
/// Called once, before anything is printed.
pub unsafe fn init() {
    // Without a port there is nobody to tell.
    if let Some(mut console) = Console::get() {
        let _ = console.0.init(Config::default());
    }
}

/// Prints what `format_args!` takes.
pub fn write(text: fmt::Arguments<'_>) {
    if let Some(mut console) = Console::get() {
        // The port takes everything.
        let _ = console.write_fmt(text);
    }
}

/// As `std`'s.
macro_rules! print {
    ($($text:tt)*) => { $crate::console::write(format_args!($($text)*)) };
}
/// As `std`'s.
macro_rules! println {
    ($($text:tt)*) => {{
        $crate::console::print!($($text)*);
        $crate::console::print!("\n");
    }};
}
pub(crate) use {print, println};
