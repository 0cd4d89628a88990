//! The ARM tag list, the device tree's predecessor: what QEMU's Raspberry Pi leaves when it is given no device tree.
//!
//! A list of `{ size in words, tag, payload }`, little endian (Linux `Documentation/arch/arm/booting.rst`).

use heapless::String;

use crate::machine::{Machine, MachineError};

/// Longest list that is believed, in bytes.
pub const MAX_BYTES: usize = 4096 - START;
/// Where the Raspberry Pi's list starts.
pub const START: usize = 0x100;

const NONE: u32 = 0;
const CORE: u32 = 0x5441_0001;
const MEM: u32 = 0x5441_0002;
const INITRD2: u32 = 0x5442_0005;
const CMDLINE: u32 = 0x5441_0009;

/// Reads memory, initial ramdisk and command line; tag lists do not know about cores.
///
/// # Errors
///
/// `NoDescription` when `list` does not start with the core tag; the errors of [`Machine::check`].
pub fn machine(list: &[u8]) -> Result<Machine, MachineError> {
    let mut machine = Machine::default();
    let mut rest = list;
    let mut is_first = true;
    while let Some((words, tag)) = word(rest, 0).zip(word(rest, 1)) {
        if is_first && tag != CORE {
            return Err(MachineError::NoDescription { pointer: START });
        }
        is_first = false;
        let Some((entry, next)) =
            (words as usize).checked_mul(4).and_then(|bytes| rest.split_at_checked(bytes))
        else {
            break;
        };
        match (tag, word(entry, 2), word(entry, 3)) {
            (NONE, ..) => break,
            (MEM, Some(bytes), Some(start)) => {
                let _ = machine.ram.push(start as usize..(start as usize).saturating_add(bytes as usize));
            }
            (INITRD2, Some(start), Some(bytes)) => {
                machine.initrd = Some(start as usize..(start as usize).saturating_add(bytes as usize));
            }
            (CMDLINE, ..) => {
                let bytes = entry.get(8..).unwrap_or_default();
                let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                machine.boot_args = core::str::from_utf8(bytes)
                    .ok()
                    .and_then(|text| String::try_from(text).ok())
                    .ok_or(MachineError::BadBootArgs { bytes: bytes.len() })?;
            }
            _ => {}
        }
        if words < 2 {
            break;
        }
        rest = next;
    }
    machine.check()
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    bytes.get(index * 4..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<u8> {
        let mut words = vec![5, CORE, 1, 0x1000, 0, 4, MEM, 0x3c00_0000, 0, 4, INITRD2, 0x800_0000, 0x1234];
        words.extend([4, CMDLINE, u32::from_le_bytes(*b"mode"), u32::from_le_bytes(*b"=x\0\0"), 0, NONE]);
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn a_list_is_read() {
        let machine = machine(&list()).unwrap();
        assert_eq!(machine.ram.as_slice(), [0..0x3c00_0000]);
        assert_eq!(machine.initrd, Some(0x800_0000..0x800_1234));
        assert_eq!(machine.boot_args, "mode=x");
    }

    #[test]
    fn every_prefix_and_every_flip_ends() {
        let list = list();
        for end in 0..list.len() {
            let _ = machine(&list[..end]);
        }
        for bit in 0..list.len() * 8 {
            let mut bad = list.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let _ = machine(&bad);
        }
    }

    #[test]
    fn something_else_is_no_list() {
        assert_eq!(machine(&[0; 64]), Err(MachineError::NoDescription { pointer: START }));
    }
}
