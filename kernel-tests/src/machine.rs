//! What the firmware says about the machine: memory, cores, initial ramdisk, command line.

use core::ops::Range;

use heapless::{String, Vec};

/// Most pieces of RAM, and most holes in them, that are kept.
pub const MAX_RANGES: usize = 8;
/// Most reserved ranges that are kept.
pub const MAX_RESERVED: usize = 16;
/// Longest kernel command line, in bytes.
pub const MAX_BOOT_ARGS: usize = 2048;
/// Most cores that are kept.
pub const MAX_CORES: usize = 8;

/// How a secondary core is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartMethod {
    /// PSCI by the `hvc` instruction (firmware at EL2).
    PsciHvc,
    /// PSCI by the `smc` instruction (firmware at EL3, or QEMU in its place).
    PsciSmc,
    /// The core polls this address for its entry point.
    SpinTable {
        /// Address of the 64-bit word it polls.
        release_address: usize,
    },
    /// Nobody said how.
    Unknown,
}

/// One core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Core {
    /// Affinity fields of its `MPIDR_EL1`.
    pub mpidr: u64,
    /// How to start it.
    pub start: StartMethod,
}

/// What the firmware said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Machine {
    /// RAM, as physical addresses.
    pub ram: Vec<Range<usize>, MAX_RANGES>,
    /// RAM that is not to be used: the firmware's, and the device tree itself.
    pub reserved: Vec<Range<usize>, MAX_RESERVED>,
    /// The initial ramdisk, where a model may lie.
    pub initrd: Option<Range<usize>>,
    /// Kernel command line; empty when there is none.
    pub boot_args: String<MAX_BOOT_ARGS>,
    /// All cores, the one that boots among them.
    pub cores: Vec<Core, MAX_CORES>,
    /// Address of the PL011 that is the console, if the firmware names one.
    pub uart: Option<usize>,
}

/// Why the firmware's words could not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MachineError {
    /// There is no device tree and no tag list where one was expected.
    NoDescription {
        /// What the firmware passed in `x0`.
        pointer: usize,
    },
    /// The device tree is damaged.
    BadDeviceTree,
    /// More than [`MAX_RESERVED`] ranges are reserved: using RAM that is not known to be free is no choice.
    TooManyReserved,
    /// No RAM is described.
    NoMemory,
    /// The command line is longer than [`MAX_BOOT_ARGS`] or not UTF-8.
    BadBootArgs {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The initial ramdisk does not lie in RAM.
    BadInitrd {
        /// Its first address.
        start: usize,
        /// The address after its last.
        end: usize,
    },
}

impl core::fmt::Display for MachineError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::NoDescription { pointer } => write!(f, "no device tree or tag list at {pointer:#x}"),
            Self::BadDeviceTree => f.write_str("device tree is damaged"),
            Self::TooManyReserved => {
                write!(f, "more reserved memory ranges than the limit of {MAX_RESERVED}")
            }
            Self::NoMemory => f.write_str("firmware describes no memory"),
            Self::BadBootArgs { bytes } => {
                write!(f, "kernel command line of {bytes} bytes: the limit is {MAX_BOOT_ARGS} bytes of UTF-8")
            }
            Self::BadInitrd { start, end } => {
                write!(f, "initial ramdisk at {start:#x}..{end:#x} is outside memory")
            }
        }
    }
}

impl Machine {
    /// Checks what must hold before the machine can be used.
    ///
    /// # Errors
    ///
    /// `NoMemory` without RAM; `BadInitrd` when the ramdisk is not inside one piece of RAM.
    pub fn check(self) -> Result<Self, MachineError> {
        if self.ram_bytes() == 0 {
            return Err(MachineError::NoMemory);
        }
        if let Some(Range { start, end }) = self.initrd
            && !self.ram.iter().any(|ram| ram.start <= start && start < end && end <= ram.end)
        {
            return Err(MachineError::BadInitrd { start, end });
        }
        Ok(self)
    }

    /// Bytes of RAM.
    pub fn ram_bytes(&self) -> usize {
        self.ram.iter().map(Range::len).fold(0, usize::saturating_add)
    }

    /// The whole pages of RAM that are neither reserved, nor the initial ramdisk, nor in `taken`.
    ///
    /// Where more than [`MAX_RANGES`] pieces would be left, the smallest are forgotten.
    ///
    /// # Panics
    ///
    /// When `page_bytes` is 0.
    pub fn free_ram(&self, taken: &[Range<usize>], page_bytes: usize) -> Vec<Range<usize>, MAX_RANGES> {
        let mut free: Vec<_, MAX_RANGES> = self
            .ram
            .iter()
            .map(|ram| round_up(ram.start, page_bytes)..ram.end / page_bytes * page_bytes)
            .collect();
        let taken = taken.iter().chain(&self.reserved).chain(&self.initrd).filter(|hole| !hole.is_empty());
        for hole in taken.map(|hole| hole.start / page_bytes * page_bytes..round_up(hole.end, page_bytes)) {
            let mut left: Vec<Range<usize>, MAX_RANGES> = Vec::new();
            for piece in &free {
                let below = piece.start..piece.end.min(hole.start);
                let above = piece.start.max(hole.end)..piece.end;
                for part in [below, above] {
                    if !part.is_empty() {
                        push_or_replace_smallest(&mut left, part);
                    }
                }
            }
            free = left;
        }
        free
    }
}

fn round_up(address: usize, page_bytes: usize) -> usize {
    address.checked_next_multiple_of(page_bytes).unwrap_or(usize::MAX)
}

fn push_or_replace_smallest(ranges: &mut Vec<Range<usize>, MAX_RANGES>, range: Range<usize>) {
    if let Err(range) = ranges.push(range)
        && let Some(smallest) = ranges.iter_mut().min_by_key(|kept| kept.len())
        && smallest.len() < range.len()
    {
        *smallest = range;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(ram: &[Range<usize>]) -> Machine {
        Machine { ram: Vec::from_slice(ram).unwrap(), ..Machine::default() }
    }

    #[test]
    fn free_ram_has_holes_where_something_is_taken() {
        let machine = machine(&[100..200, 300..400]);
        let free = |taken: &[Range<usize>]| machine.free_ram(taken, 1).to_vec();
        assert_eq!(free(&[]), [100..200, 300..400]);
        assert_eq!(free(&[120..130, 130..140]), [100..120, 140..200, 300..400]);
        assert_eq!(free(&[0..110, 190..310]), [110..190, 310..400]);
        assert_eq!(free(&[0..1000]), []);
        assert_eq!(free(&[150..150]), [100..200, 300..400]);
    }

    #[test]
    fn only_whole_pages_are_free() {
        let page = 16;
        let mut machine = machine(&[5..200]);
        assert_eq!(machine.free_ram(&[], page).as_slice(), [16..192]);
        machine.initrd = Some(33..34);
        machine.reserved.push(64..65).unwrap();
        assert_eq!(machine.free_ram(&[100..112], page).as_slice(), [16..32, 48..64, 80..96, 112..192]);
    }

    #[test]
    fn the_largest_pieces_survive_many_holes() {
        let machine = machine(&[0..1000]);
        let holes: std::vec::Vec<_> = (0..20).map(|n| n * 10..n * 10 + 5).collect();
        let free = machine.free_ram(&holes, 1);
        assert!(free.contains(&(195..1000)));
    }

    #[test]
    fn a_ramdisk_outside_memory_is_refused() {
        let with = |initrd| Machine { initrd, ..machine(&[100..200]) }.check();
        assert!(with(Some(150..200)).is_ok());
        assert!(with(None).is_ok());
        assert_eq!(with(Some(150..201)), Err(MachineError::BadInitrd { start: 150, end: 201 }));
        assert_eq!(with(Some(150..150)), Err(MachineError::BadInitrd { start: 150, end: 150 }));
        assert_eq!(machine(&[]).check(), Err(MachineError::NoMemory));
    }
}
