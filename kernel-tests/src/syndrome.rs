//! A synchronous exception in words: `ESR_EL1` decoded (Arm ARM, ESR_EL1 and its ISS encodings).

use core::fmt;

/// What the CPU recorded about a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Exception syndrome, `ESR_EL1`.
    pub esr: u64,
    /// Faulting address, `FAR_EL1`; of use only when [`Fault::has_address`].
    pub far: u64,
    /// Address of the instruction, `ELR_EL1`.
    pub elr: u64,
}

/// The direction of the access that faulted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// A load, or a cache operation that counts as one.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Fetch,
}

impl Direction {
    /// One word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Fetch => "instruction fetch",
        }
    }
}

impl Fault {
    /// Exception class, bits 31:26.
    pub const fn class(self) -> u8 {
        (self.esr >> 26 & 0x3f) as u8
    }

    /// The class in words.
    pub const fn class_name(self) -> &'static str {
        match self.class() {
            0x00 => "unknown instruction",
            0x01 => "trapped WFI or WFE",
            0x07 => "FP/SIMD access while it is off",
            0x0d => "branch target exception",
            0x0e => "illegal execution state",
            0x15 => "SVC instruction",
            0x16 => "HVC instruction",
            0x17 => "SMC instruction",
            0x18 => "trapped system register access",
            0x19 => "SVE access while it is off",
            0x1c => "pointer authentication failure",
            0x20 | 0x21 => "instruction abort",
            0x22 => "PC alignment fault",
            0x24 | 0x25 => "data abort",
            0x26 => "SP alignment fault",
            0x2c => "floating-point exception",
            0x2f => "SError interrupt",
            0x30 | 0x31 => "breakpoint",
            0x32 | 0x33 => "single step",
            0x34 | 0x35 => "watchpoint",
            0x3c => "BRK instruction",
            _ => "unlisted exception class",
        }
    }

    const fn is_abort(self) -> bool {
        matches!(self.class(), 0x20 | 0x21 | 0x24 | 0x25)
    }

    /// Whether [`Fault::far`] holds the address that faulted.
    pub const fn has_address(self) -> bool {
        const FAR_NOT_VALID: u64 = 1 << 10;
        (self.is_abort() && self.esr & FAR_NOT_VALID == 0) || matches!(self.class(), 0x22 | 0x34 | 0x35)
    }

    /// The direction of the access; `None` when the fault is not an abort.
    pub const fn direction(self) -> Option<Direction> {
        const WRITE: u64 = 1 << 6;
        match self.class() {
            0x20 | 0x21 => Some(Direction::Fetch),
            0x24 | 0x25 if self.esr & WRITE != 0 => Some(Direction::Write),
            0x24 | 0x25 => Some(Direction::Read),
            _ => None,
        }
    }

    /// What went wrong with the access, and at which level of the page tables where that has a meaning; `None` when
    /// the fault is not an abort.
    pub const fn cause(self) -> Option<(&'static str, Option<u8>)> {
        if !self.is_abort() {
            return None;
        }
        let code = (self.esr & 0x3f) as u8;
        let level = Some(code & 3);
        Some(match code {
            0x00..=0x03 => ("address size fault", level),
            0x04..=0x07 => ("translation fault", level),
            0x08..=0x0b => ("access flag fault", level),
            0x0c..=0x0f => ("permission fault", level),
            0x10 => ("external abort", None),
            0x11 => ("synchronous tag check fault", None),
            0x14..=0x17 => ("external abort on a table walk", level),
            0x18 => ("parity or ECC error", None),
            0x1c..=0x1f => ("parity or ECC error on a table walk", level),
            0x21 => ("alignment fault", None),
            0x30 => ("TLB conflict", None),
            _ => ("unlisted fault status", None),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class_name())?;
        if let Some((cause, level)) = self.cause() {
            write!(f, ": {cause}")?;
            if let Some(level) = level {
                write!(f, ", level {level}")?;
            }
        }
        if let Some(direction) = self.direction() {
            write!(f, ", {}", direction.name())?;
        }
        if self.has_address() {
            write!(f, " of address {:#018x}", self.far)?;
        }
        write!(f, ", at pc {:#018x}", self.elr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(esr: u64) -> String {
        Fault { esr, far: 0x1234, elr: 0x4020_0040 }.to_string()
    }

    #[test]
    fn data_aborts_name_cause_level_direction_and_address() {
        assert_eq!(
            text(0x9600_0007),
            "data abort: translation fault, level 3, read of address 0x0000000000001234, at pc 0x0000000040200040"
        );
        assert!(text(0x9600_004f).contains("permission fault, level 3, write of address"));
        assert!(text(0x9600_0061).contains("alignment fault, write of address"));
    }

    #[test]
    fn instruction_aborts_are_fetches() {
        assert!(
            text(0x8600_000f).starts_with("instruction abort: permission fault, level 3, instruction fetch")
        );
    }

    #[test]
    fn an_invalid_far_is_not_shown() {
        assert!(!text(0x9600_0410).contains("0x0000000000001234"));
    }

    #[test]
    fn other_classes_have_no_cause() {
        assert_eq!(text(0x1fe0_0000), "FP/SIMD access while it is off, at pc 0x0000000040200040");
        assert_eq!(Fault { esr: 0xf200_0001, far: 0, elr: 0 }.cause(), None);
    }

    #[test]
    fn every_syndrome_has_words() {
        for esr in
            (0..1_u64 << 32).step_by(0x0200_0000).flat_map(|class| (0..64).map(move |code| class | code))
        {
            assert!(!text(esr).is_empty());
        }
    }
}
