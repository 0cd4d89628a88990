//! Builds the bare-metal kernel and turns its ELF file into the flat image that boards load.

use crate::process;
use crate::setup::{KERNEL_TARGET, Toolchain};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, elf};
use std::fs;
use std::path::{Path, PathBuf};

/// A board the kernel is built for: the name of its binary, and of QEMU's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Board {
    /// QEMU's `virt` machine.
    Virt,
    /// The Raspberry Pi 3B, as QEMU models it.
    Raspi3b,
}

impl Board {
    /// The board's name, as cargo, the linker script and QEMU say it.
    pub fn name(self) -> &'static str {
        match self {
            Board::Virt => "virt",
            Board::Raspi3b => "raspi3b",
        }
    }

    /// The file name its firmware, or QEMU, expects of the flat image.
    fn image_name(self) -> &'static str {
        match self {
            Board::Virt => "virt.bin",
            Board::Raspi3b => "kernel8.img",
        }
    }
}

/// Builds the kernel for `board` in release and gives the path of its flat image. The compiler speaks on the console
/// when it is `shown`, else only in the error.
///
/// # Errors
///
/// When the build fails or the image cannot be written.
pub fn build(toolchain: Toolchain, board: Board, shown: bool) -> Result<PathBuf> {
    let mut command = toolchain.cargo("build", KERNEL_TARGET);
    command.args(["--release", "--package", "kernel-tests", "--bin", board.name()]);
    if shown {
        process::run(&mut command)?;
    } else {
        process::logged(&mut command, &format!("kernel-{}", board.name()))?;
    }
    let folder = toolchain.target_dir().join(KERNEL_TARGET).join("release");
    let elf = folder.join(board.name());
    let image = folder.join(board.image_name());
    let bytes = fs::read(&elf).with_context(|| format!("cannot read {}", elf.display()))?;
    fs::write(&image, flatten(&bytes).with_context(|| format!("{} cannot be flattened", elf.display()))?)?;
    Ok(image)
}

/// The bytes of an ELF file's loaded segments, from the lowest physical address up, gaps filled with zeros.
///
/// # Errors
///
/// When the bytes are no 64-bit ELF file, nothing in it is loaded, or its segments are more than 1 GiB apart.
pub fn flatten(elf: &[u8]) -> Result<Vec<u8>> {
    const LIMIT: u64 = 1 << 30;
    let file = ElfFile64::<Endianness>::parse(elf)?;
    let endian = file.endian();
    let header = file.elf_header();
    let mut segments = Vec::new();
    for segment in header.program_headers(endian, elf)? {
        if segment.p_type(endian) == elf::PT_LOAD && segment.p_filesz(endian) > 0 {
            let data =
                segment.data(endian, elf).map_err(|()| anyhow::anyhow!("segment past the file's end"))?;
            segments.push((segment.p_paddr(endian), data));
        }
    }
    segments.sort_by_key(|&(address, _)| address);
    let Some(&(base, _)) = segments.first() else { bail!("no loaded segment") };
    let mut image = Vec::new();
    for (address, data) in segments {
        let offset = address - base;
        ensure!(offset >= image.len() as u64, "loaded segments overlap at {address:#x}");
        ensure!(offset + (data.len() as u64) <= LIMIT, "loaded segments span more than {LIMIT} bytes");
        image.resize(usize::try_from(offset)?, 0);
        image.extend_from_slice(data);
    }
    Ok(image)
}

/// The size of a file in MiB, rounded up.
///
/// # Errors
///
/// When it is no readable file.
pub fn file_mib(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(metadata.is_file(), "{} is no file", path.display());
    fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(metadata.len().div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit little-endian ELF file with one program header per `(type, physical address, bytes)`.
    fn elf(segments: &[(u32, u64, &[u8])]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([2, 0, 183, 0, 1, 0, 0, 0]); // executable, AArch64, version 1
        file.extend([0_u64, 64, 0].iter().flat_map(|x| x.to_le_bytes())); // entry, program and section headers
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, u8::try_from(segments.len()).unwrap(), 0, 64, 0, 0, 0, 0, 0]);
        let mut offset = 64 + 56 * segments.len() as u64;
        for (kind, address, data) in segments {
            file.extend([*kind, 5].iter().flat_map(|x| x.to_le_bytes()));
            let len = data.len() as u64;
            file.extend([offset, *address, *address, len, len, 8].iter().flat_map(|x| x.to_le_bytes()));
            offset += len;
        }
        segments.iter().for_each(|(_, _, data)| file.extend_from_slice(data));
        file
    }

    #[test]
    fn segments_lie_at_their_addresses() {
        let file =
            elf(&[(elf::PT_LOAD, 0x1008, b"cd"), (elf::PT_NOTE, 0, b"note"), (elf::PT_LOAD, 0x1000, b"ab")]);
        assert_eq!(flatten(&file).unwrap(), b"ab\0\0\0\0\0\0cd");
    }

    #[test]
    fn what_cannot_be_flattened_is_refused() {
        assert!(flatten(b"no ELF").is_err());
        assert!(flatten(&elf(&[(elf::PT_NOTE, 0, b"note")])).is_err());
        assert!(flatten(&elf(&[(elf::PT_LOAD, 0, b"abcd"), (elf::PT_LOAD, 2, b"x")])).is_err());
        assert!(flatten(&elf(&[(elf::PT_LOAD, 0, b"a"), (elf::PT_LOAD, 1 << 40, b"x")])).is_err());
    }

    #[test]
    fn a_missing_model_is_named() {
        let error = file_mib(Path::new("/no/such.gguf")).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot read /no/such.gguf: "));
    }
}
