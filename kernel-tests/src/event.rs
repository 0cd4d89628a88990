//! A fault as the one line that the demo model was trained to explain.
//!
//! The form is that of `tools/demo-model`: class, direction, cause and level, the region of the address, exception level.

use core::fmt;

use crate::syndrome::{Direction, Fault};

/// The part of the address space that an address lies in, named as the model knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// The page at 0; holds the offset.
    NullPage(usize),
    /// A page below a stack.
    StackGuard,
    /// The kernel's code.
    Text,
    /// The kernel's constants.
    Rodata,
    /// The kernel's variables.
    Data,
    /// A core's stack.
    Stack,
    /// The heap.
    Heap,
    /// The initial ramdisk.
    ModelImage,
    /// A device's registers.
    Device,
    /// Nothing that the kernel knows.
    Unmapped,
    /// Addresses that translate through `TTBR1_EL1`, which this kernel does not use.
    HighHalf,
    /// Addresses whose upper bits are neither all zero nor all one.
    NoValidRange,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NullPage(offset) => return write!(f, "the null page at offset {offset:#x}"),
            Self::StackGuard => "the stack guard page",
            Self::Text => "kernel text",
            Self::Rodata => "kernel rodata",
            Self::Data => "kernel data",
            Self::Stack => "kernel stack",
            Self::Heap => "the kernel heap",
            Self::ModelImage => "the model image",
            Self::Device => "device memory",
            Self::Unmapped => "unmapped memory",
            Self::HighHalf => "the high half",
            Self::NoValidRange => "no valid range",
        })
    }
}

/// A fault and the region of its address; displayed, it is the prompt for the model.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The fault, taken from EL1.
    pub fault: Fault,
    /// Where its address lies.
    pub region: Region,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel: {}", self.fault.class_name())?;
        match self.fault.direction() {
            Some(Direction::Read) => f.write_str(", read")?,
            Some(Direction::Write) => f.write_str(", write")?,
            Some(Direction::Fetch) | None => {}
        }
        if let Some((cause, level)) = self.fault.cause() {
            write!(f, ", {cause}")?;
            if let Some(level) = level {
                write!(f, " level {level}")?;
            }
        }
        if self.fault.has_address() {
            write!(f, ", address in {}", self.region)?;
        }
        f.write_str(", EL1\nexplain:")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(esr: u64, region: Region) -> String {
        Event { fault: Fault { esr, far: 0, elr: 0 }, region }.to_string()
    }

    #[test]
    fn events_have_the_form_the_model_knows() {
        assert_eq!(
            line(0x9600_0007, Region::NullPage(0x18)),
            "kernel: data abort, read, translation fault level 3, address in the null page at offset 0x18, EL1\nexplain:"
        );
        assert_eq!(
            line(0x9600_0061, Region::Device),
            "kernel: data abort, write, alignment fault, address in device memory, EL1\nexplain:"
        );
        assert_eq!(
            line(0x8600_000e, Region::Heap),
            "kernel: instruction abort, permission fault level 2, address in the kernel heap, EL1\nexplain:"
        );
    }
}
