//! Reads a linked program: bytes in each kind of section, its functions and their frames, what it lacks.

use super::code::Code;
use super::{a64, x64};
use anyhow::{Context, Result, bail, ensure};
use object::read::elf::ElfFile64;
use object::{
    Architecture, Endianness, Object, ObjectSection, ObjectSymbol, SectionFlags, SectionKind, SymbolKind, elf,
};
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

/// A function of a program.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its first address.
    pub address: u64,
    /// Its bytes.
    pub size: u64,
    /// What its instructions amount to.
    pub code: Code,
    /// Bytes of stack that a call of it takes: as the compiler said, else read off its instructions.
    pub frame: u64,
    /// Whether its address is stored somewhere, so that a pointer may call it.
    pub is_pointed_at: bool,
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
    /// When the bytes are no little-endian ELF file for aarch64 or x86-64.
    pub fn parse(bytes: &'a [u8]) -> Result<Program<'a>> {
        let file = ElfFile64::parse(bytes)?;
        let is_known = matches!(file.architecture(), Architecture::Aarch64 | Architecture::X86_64);
        ensure!(is_known && file.is_little_endian(), "no program for aarch64 or x86-64");
        Ok(Program { file })
    }

    /// The names that the program refers to and does not define.
    ///
    /// # Errors
    ///
    /// When a name is no UTF-8.
    pub fn imports(&self) -> Result<Vec<String>> {
        let undefined = self.file.symbols().filter(|symbol| symbol.is_undefined());
        let names = undefined.map(|symbol| Ok(symbol.name()?.to_owned()));
        names.filter(|name| !name.as_ref().is_ok_and(String::is_empty)).collect()
    }

    /// The numbers of 64 bits in the section `name`; none where there is no such section.
    ///
    /// # Errors
    ///
    /// When it lies outside of the file.
    pub fn numbers(&self, name: &str) -> Result<Vec<u64>> {
        let Some(section) = self.file.section_by_name(name) else { return Ok(vec![]) };
        let (numbers, _) = section.data()?.as_chunks();
        Ok(numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }

    /// Variables: the symbols of sections that code may write, the linker's own apart, with their bytes; and, where there are
    /// bytes beside them, the section.
    ///
    /// # Errors
    ///
    /// When a name is no UTF-8.
    pub fn variables(&self) -> Result<Vec<(String, u64)>> {
        let mut variables = Vec::new();
        for section in self.file.sections().filter(|section| section.size() > 0) {
            let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
            let name = section.name()?;
            // Constants until the program is loaded, and nothing afterwards.
            let is_relocated = [".got", ".relro_padding", ".data.rel.ro"].iter().any(|s| name.starts_with(s));
            if sh_flags & u64::from(elf::SHF_WRITE) == 0 || is_relocated {
                continue;
            }
            let mut left = section.size();
            for symbol in self.file.symbols() {
                if symbol.section_index() == Some(section.index()) && symbol.size() > 0 {
                    let name = format!("{:#}", rustc_demangle::demangle(symbol.name()?));
                    variables.push((name, symbol.size()));
                    left = left.saturating_sub(symbol.size());
                }
            }
            if left > 0 {
                variables.push((name.to_owned(), left));
            }
        }
        Ok(variables)
    }

    /// The constant at an address; `None` where there is none.
    fn number_at(&self, address: u64) -> Result<Option<u64>> {
        for section in self.file.sections() {
            let is_constant =
                matches!(section.kind(), SectionKind::ReadOnlyData | SectionKind::ReadOnlyDataWithRel)
                    || section.name() == Ok(".got");
            if is_constant && let Some(bytes) = section.data_range(address, 8)? {
                return Ok(bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)));
            }
        }
        Ok(None)
    }

    fn is_x86(&self) -> bool {
        self.file.architecture() == Architecture::X86_64
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

    /// All functions, sorted by address. Of several names for one address the first in the alphabet is kept. Addresses in
    /// sections whose name begins with `.corelm` make no function one that is pointed at.
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
            let size = symbol.size();
            let Some(bytes) = self.bytes(address, size)? else { continue };
            let entry = functions.entry(address).or_default();
            if entry.name.is_empty() || name < entry.name {
                let read = if self.is_x86() { x64::read } else { a64::read };
                let mut code = read(bytes, address);
                for slot in std::mem::take(&mut code.slots) {
                    match self.number_at(slot)? {
                        Some(target) => code.targets.push(target),
                        None => code.calls_pointer = true,
                    }
                }
                let told = frames.get(&address).copied();
                let frame = told.unwrap_or(code.frame) + if self.is_x86() { x64::RETURN_BYTES } else { 0 };
                let is_pointed_at = pointers.contains(&address);
                *entry = Function { name, address, size, code, frame, is_pointed_at };
            }
        }
        ensure!(!functions.is_empty(), "the program has no function symbols");
        Ok(functions.into_values().collect())
    }

    /// The instructions of a symbol; `None` for one without size, such as a label in assembly.
    fn bytes(&self, address: u64, size: u64) -> Result<Option<&'a [u8]>> {
        if size == 0 {
            return Ok(None);
        }
        for section in self.file.sections().filter(|section| section.kind() == SectionKind::Text) {
            if let Some(bytes) = section.data_range(address, size)? {
                return Ok(Some(bytes));
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

    /// Every address that stands in constants or variables, or that code computes.
    fn pointers(&self) -> Result<HashSet<u64>> {
        let mut pointers = HashSet::new();
        for section in self.file.sections() {
            match section.kind() {
                _ if section.name().is_ok_and(|name| name.starts_with(".corelm")) => {}
                SectionKind::Data
                | SectionKind::ReadOnlyData
                | SectionKind::ReadOnlyDataWithRel
                | SectionKind::ReadOnlyString => {
                    let (addresses, _) = section.data()?.as_chunks();
                    pointers.extend(addresses.iter().map(|bytes| u64::from_le_bytes(*bytes)));
                }
                SectionKind::Text => {
                    let computed =
                        if self.is_x86() { x64::computed_addresses } else { a64::computed_addresses };
                    pointers.extend(computed(section.data()?, section.address()));
                }
                _ => {}
            }
        }
        Ok(pointers)
    }
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
    fn other_files_are_refused() {
        assert!(Program::parse(b"text").is_err());
    }
}
