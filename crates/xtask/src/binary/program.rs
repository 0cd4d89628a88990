//! Reads a linked aarch64 program: bytes in each kind of section, its functions and their frames.

use super::stack::Function;
use anyhow::{Context, Result, bail, ensure};
use object::read::elf::ElfFile64;
use object::{Architecture, Endianness, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Bytes of a program by kind of section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// Instructions.
    pub text: u64,
    /// Constants.
    pub rodata: u64,
    /// Variables with a first value.
    pub data: u64,
    /// Variables that start as zeros.
    pub bss: u64,
}

/// The parsed file.
pub struct Program<'a> {
    file: ElfFile64<'a, Endianness>,
}

impl<'a> Program<'a> {
    /// Parses an ELF file.
    ///
    /// # Errors
    ///
    /// When the bytes are no little-endian aarch64 ELF file.
    pub fn parse(bytes: &'a [u8]) -> Result<Program<'a>> {
        let file = ElfFile64::parse(bytes)?;
        ensure!(
            file.architecture() == Architecture::Aarch64 && file.is_little_endian(),
            "no aarch64 program"
        );
        Ok(Program { file })
    }

    /// The bytes of each kind of section, unwind tables apart: a kernel discards them.
    pub fn sections(&self) -> Sections {
        let mut sizes = Sections::default();
        let is_unwind = |name: &str| name.starts_with(".eh_frame");
        for section in self.file.sections().filter(|section| !section.name().is_ok_and(is_unwind)) {
            match section.kind() {
                SectionKind::Text => sizes.text += section.size(),
                SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => sizes.rodata += section.size(),
                SectionKind::Data => sizes.data += section.size(),
                SectionKind::UninitializedData => sizes.bss += section.size(),
                _ => {}
            }
        }
        sizes
    }

    /// All functions, sorted by address. Of several names for one address the first in the alphabet is kept.
    ///
    /// # Errors
    ///
    /// When the file has no function symbols, or they or their frames lie outside of it.
    pub fn functions(&self) -> Result<Vec<Function>> {
        let frames = self.frames()?;
        let pointers = self.pointers()?;
        let mut functions: BTreeMap<u64, Function> = BTreeMap::new();
        for symbol in self.file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
            let name = format!("{:#}", rustc_demangle::demangle(symbol.name()?));
            let address = symbol.address();
            let Some(code) = self.code(address, symbol.size())? else { continue };
            let entry = functions.entry(address).or_default();
            if entry.name.is_empty() || name < entry.name {
                let (frame, is_pointed_at) = (frames.get(&address).copied(), pointers.contains(&address));
                *entry = Function { name, address, code, frame, is_pointed_at };
            }
        }
        ensure!(!functions.is_empty(), "the program has no function symbols");
        Ok(functions.into_values().collect())
    }

    /// The instructions of a symbol; `None` for one without size, such as a label in assembly.
    fn code(&self, address: u64, size: u64) -> Result<Option<Vec<u32>>> {
        if size == 0 {
            return Ok(None);
        }
        for section in self.file.sections().filter(|section| section.kind() == SectionKind::Text) {
            if let Some(bytes) = section.data_range(address, size)? {
                return Ok(Some(words(bytes).collect()));
            }
        }
        bail!("a function at {address:#x} lies in no section");
    }

    /// Frames by function address, as `-Z emit-stack-sizes` tells them: pairs of address and ULEB128.
    fn frames(&self) -> Result<HashMap<u64, u64>> {
        let mut frames = HashMap::new();
        for section in self.file.sections().filter(|section| section.name() == Ok(".stack_sizes")) {
            let mut rest = section.data()?;
            while let Some((address, after)) = rest.split_first_chunk::<8>() {
                let (frame, after) = uleb128(after).context("a frame's size is cut off")?;
                frames.insert(u64::from_le_bytes(*address), frame);
                rest = after;
            }
        }
        Ok(frames)
    }

    /// Every address that stands in constants or variables, or that code computes (`adrp` with `add`, or `adr`).
    fn pointers(&self) -> Result<HashSet<u64>> {
        let mut pointers = HashSet::new();
        for section in self.file.sections() {
            match section.kind() {
                SectionKind::Data | SectionKind::ReadOnlyData => {
                    let (addresses, _) = section.data()?.as_chunks();
                    pointers.extend(addresses.iter().map(|bytes| u64::from_le_bytes(*bytes)));
                }
                SectionKind::Text => pointers.extend(computed_addresses(section.data()?, section.address())),
                _ => {}
            }
        }
        Ok(pointers)
    }
}

/// The instructions in `code`.
fn words(code: &[u8]) -> impl Iterator<Item = u32> {
    let (words, _) = code.as_chunks();
    words.iter().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Addresses that instructions put together, as far as `adr`, and `adrp` followed by `add` on the same register, do.
fn computed_addresses(code: &[u8], base: u64) -> Vec<u64> {
    let mut pages: [Option<u64>; 32] = [None; 32];
    let mut addresses = Vec::new();
    for (word, pc) in words(code).zip((base..).step_by(4)) {
        let (to, from) = ((word & 31) as usize, (word >> 5 & 31) as usize);
        if word & 0x1f00_0000 == 0x1000_0000 {
            let field = i64::from((word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3) << 43 >> 43;
            if word >> 31 == 1 {
                pages[to] = Some((pc & !0xfff).wrapping_add_signed(field << 12));
            } else {
                addresses.push(pc.wrapping_add_signed(field));
            }
        } else if word & 0xffc0_0000 == 0x9100_0000
            && let Some(page) = pages[from]
        {
            addresses.push(page + u64::from(word >> 10 & 0xfff));
        }
    }
    addresses
}

/// A ULEB128 number and what follows it.
fn uleb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uleb128_is_decoded() {
        assert_eq!(uleb128(&[0x10, 9]), Some((16, &[9][..])));
        assert_eq!(uleb128(&[0xd0, 0x0d]), Some((1744, &[][..])));
        assert_eq!(uleb128(&[0x80]), None);
        assert_eq!(uleb128(&[]), None);
    }

    #[test]
    fn computed_addresses_are_seen() {
        let words: [u32; 4] = [
            0x9000_0008, // adrp x8, the page of 0x1000
            0x9100_4109, // add x9, x8, #16
            0x1000_0040, // adr x0, . + 8
            0x9100_43e0, // add x0, sp, #16: x31 was never a page
        ];
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(computed_addresses(&code, 0x1000), [0x1010, 0x1010]);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(Program::parse(b"text").is_err());
    }
}
