//! What the instructions of a function amount to, whatever the architecture.

use std::collections::BTreeMap;

/// Kinds of vector instructions that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Of 128 bits on aarch64 (`v0.16b`, `v0.4s`, ...).
    Vector128,
    /// SDOT.
    Sdot,
    /// SMMLA.
    Smmla,
    /// With a `ymm` register.
    Ymm,
    /// With a `zmm` register.
    Zmm,
    /// VPDPBUSD or VPDPBUSDS, in either encoding.
    Vpdpbusd,
    /// A product of tiles: TDPBSSD and its kin.
    Tdp,
}

impl Class {
    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vector128 => "v.16b",
            Self::Sdot => "sdot",
            Self::Smmla => "smmla",
            Self::Ymm => "ymm",
            Self::Zmm => "zmm",
            Self::Vpdpbusd => "vpdpbusd",
            Self::Tdp => "tdp",
        }
    }
}

/// A function's instructions, as far as they matter here.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// Bytes of stack that it takes, read off its instructions.
    pub frame: u64,
    /// Addresses outside of it that it calls or goes on at.
    pub targets: Vec<u64>,
    /// Addresses of constants that hold the address of what it calls: how code refers to what the linker may not find.
    pub slots: Vec<u64>,
    /// Whether it calls what a pointer points at.
    pub calls_pointer: bool,
    /// Instructions that trap.
    pub n_traps: usize,
    /// Instructions that read and write memory in one step: what every lock is taken by.
    pub n_exchanges: usize,
    /// Vector instructions by kind.
    pub counts: BTreeMap<Class, usize>,
}

impl Code {
    /// Counts one instruction of that kind.
    pub fn count(&mut self, class: Class) {
        *self.counts.entry(class).or_default() += 1;
    }

    /// How many instructions of that kind there are.
    #[cfg(test)]
    pub fn counted(&self, class: Class) -> usize {
        self.counts.get(&class).copied().unwrap_or(0)
    }
}
