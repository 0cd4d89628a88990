//! The few A64 instructions that say who calls whom, how much stack a function takes, where it traps and what it
//! computes with (Arm ARM, C4.1).

use super::code::{Class, Code};

/// How far back the sum that makes a jump table's target is looked for, in instructions.
const TABLE_WINDOW: usize = 8;

/// Reads the instructions of a function at `address`.
pub fn read(bytes: &[u8], address: u64) -> Code {
    let (words, _) = bytes.as_chunks();
    let words: Vec<u32> = words.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let mut code = Code { frame: words.iter().map(|&word| stack_bytes(word)).sum(), ..Code::default() };
    let own = address..address + 4 * words.len() as u64;
    for (i, (&word, pc)) in words.iter().zip((address..).step_by(4)).enumerate() {
        match flow(word, pc) {
            Flow::Straight => {}
            Flow::Branch(target) if own.contains(&target) => {}
            Flow::Branch(target) | Flow::Call(target) => code.targets.push(target),
            Flow::CallRegister(_) => code.calls_pointer = true,
            Flow::BranchRegister(register) => {
                let before = &words[i.saturating_sub(TABLE_WINDOW)..i];
                code.calls_pointer |= !before.iter().any(|&word| adds_into(word, register));
            }
        }
        code.n_traps += usize::from(is_trap(word));
        code.n_exchanges += usize::from(is_exchange(word));
        classes(word).for_each(|class| code.count(class));
    }
    code
}

/// `brk`, and `udf`, which is also what a word of zeros is.
fn is_trap(word: u32) -> bool {
    word & 0xffe0_001f == 0xd420_0000 || word & 0xffff_0000 == 0
}

/// `stxr` and its kin, `cas`, `swp`, `ldadd` and the other atomic operations on memory.
fn is_exchange(word: u32) -> bool {
    let is = |mask: u32, value: u32| word & mask == value;
    let is_exclusive = is(0x3fc0_0000, 0x0800_0000);
    let is_compare = is(0x3fa0_7c00, 0x08a0_7c00) || is(0xbfa0_7c00, 0x0820_7c00);
    is_exclusive || is_compare || is(0x3f20_0c00, 0x3820_0000)
}

/// What the instruction counts as.
fn classes(word: u32) -> impl Iterator<Item = Class> {
    let is = |mask: u32, value: u32| word & mask == value;
    [
        (is(0xde00_0000, 0x4e00_0000), Class::Vector128),
        (is(0xffe0_fc00, 0x4e80_9400) || is(0xffc0_f400, 0x4f80_e000), Class::Sdot),
        (is(0xffe0_fc00, 0x4e80_a400), Class::Smmla),
    ]
    .into_iter()
    .filter_map(|(is, class)| is.then_some(class))
}

/// Addresses that instructions put together, as far as `adr`, and `adrp` followed by `add` on the same register, do.
pub fn computed_addresses(code: &[u8], base: u64) -> Vec<u64> {
    let mut pages: [Option<u64>; 32] = [None; 32];
    let mut addresses = Vec::new();
    let (words, _) = code.as_chunks();
    for (word, pc) in words.iter().map(|bytes| u32::from_le_bytes(*bytes)).zip((base..).step_by(4)) {
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

/// What one instruction means for a call graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Nothing.
    Straight,
    /// Goes on at this address: `b`, `b.cond`, `cbz`, `tbz` and their kin.
    Branch(u64),
    /// Calls this address: `bl`.
    Call(u64),
    /// Calls what this register points at: `blr`.
    CallRegister(u32),
    /// Goes on where this register points: `br`, a jump table or a tail call.
    BranchRegister(u32),
}

/// Decodes the instruction `word` at `address`.
fn flow(word: u32, address: u64) -> Flow {
    let target = |shift: u32, bits: u32| {
        let field = i64::from(word >> shift) << (64 - bits) >> (64 - bits);
        address.wrapping_add_signed(field * 4)
    };
    let register = word >> 5 & 31;
    match word {
        w if w & 0xfc00_0000 == 0x9400_0000 => Flow::Call(target(0, 26)),
        w if w & 0xfc00_0000 == 0x1400_0000 => Flow::Branch(target(0, 26)),
        w if w & 0xff00_0000 == 0x5400_0000 => Flow::Branch(target(5, 19)),
        w if w & 0x7e00_0000 == 0x3400_0000 => Flow::Branch(target(5, 19)),
        w if w & 0x7e00_0000 == 0x3600_0000 => Flow::Branch(target(5, 14)),
        w if w & 0xffff_fc1f == 0xd63f_0000 => Flow::CallRegister(register),
        w if w & 0xffff_fc1f == 0xd61f_0000 => Flow::BranchRegister(register),
        _ => Flow::Straight,
    }
}

/// Whether the instruction computes `register` as a sum of two registers, which is how a jump table's target is made.
fn adds_into(word: u32, register: u32) -> bool {
    word & 0xff20_0000 == 0x8b00_0000 && word & 31 == register
}

/// Bytes by which the instruction moves the stack pointer down: `sub sp, sp, #n` and stores with `[sp, #-n]!`.
fn stack_bytes(word: u32) -> u64 {
    if word & 0xff80_03ff == 0xd100_03ff {
        let bytes = u64::from(word >> 10 & 0xfff);
        return if word & 1 << 22 == 0 { bytes } else { bytes << 12 };
    }
    let base_is_sp = word >> 5 & 31 == 31;
    let down = |field: i64, scale: i64| u64::try_from(-field * scale).unwrap_or(0);
    if base_is_sp && word & 0x3bc0_0000 == 0x2980_0000 {
        // stp, pre-index: the scale is the register's size.
        let is_vector = word & 1 << 26 != 0;
        let size = word >> 30;
        let scale = if is_vector { 4 << size } else { 4 << (size >> 1) };
        return down(i64::from(word >> 15) << 57 >> 57, scale);
    }
    if base_is_sp && word & 0x3be0_0c00 == 0x3800_0c00 {
        // str, pre-index: bytes.
        return down(i64::from(word >> 12) << 55 >> 55, 1);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_branches_have_targets() {
        assert_eq!(flow(0x9400_0002, 0x1000), Flow::Call(0x1008));
        assert_eq!(flow(0x97ff_ffff, 0x1000), Flow::Call(0xffc));
        assert_eq!(flow(0x17ff_fffe, 0x1000), Flow::Branch(0xff8));
        assert_eq!(flow(0x5400_0041, 0x1000), Flow::Branch(0x1008)); // b.ne
        assert_eq!(flow(0xb4ff_ffe0, 0x1000), Flow::Branch(0xffc)); // cbz x0
        assert_eq!(flow(0x3700_0040, 0x1000), Flow::Branch(0x1008)); // tbnz w0, #0
        assert_eq!(flow(0xd65f_03c0, 0x1000), Flow::Straight); // ret
        assert_eq!(flow(0xd503_201f, 0x1000), Flow::Straight); // nop
    }

    #[test]
    fn indirect_branches_name_their_register() {
        assert_eq!(flow(0xd63f_0100, 0), Flow::CallRegister(8)); // blr x8
        assert_eq!(flow(0xd61f_0120, 0), Flow::BranchRegister(9)); // br x9
        assert!(adds_into(0x8b0a_0929, 9)); // add x9, x9, x10, lsl #2
        assert!(!adds_into(0x8b0a_0929, 10));
        assert!(!adds_into(0xf940_0129, 9)); // ldr x9, [x9]
    }

    #[test]
    fn exchanges_are_told_from_loads_and_stores() {
        let exchanges = [
            0xc808_7c09, // stxr w8, x9, [x0]
            0xc808_fc09, // stlxr w8, x9, [x0]
            0xc823_0440, // stxp w3, x0, x1, [x2]
            0xc8a0_7c41, // cas x0, x1, [x2]
            0x88e0_fc41, // casal w0, w1, [x2]
            0x4820_7c82, // casp x0, x1, x2, x3, [x4]
            0x4860_fc82, // caspal x0, x1, x2, x3, [x4]
            0xb8e8_8009, // swpal w8, w9, [x0]
            0x3828_8009, // swpb w8, w9, [x0]
            0xf828_0009, // ldadd x8, x9, [x0]
        ];
        assert!(exchanges.into_iter().all(is_exchange));
        let others = [
            0xc85f_7c09, // ldxr x9, [x0]
            0xc87f_0440, // ldxp x0, x1, [x2]
            0xc8df_fc00, // ldar x0, [x0]
            0xc89f_fc00, // stlr x0, [x0]
            0xf940_0129, // ldr x9, [x9]
            0xf862_6820, // ldr x0, [x1, x2]
        ];
        assert!(!others.into_iter().any(is_exchange));
    }

    #[test]
    fn prologues_are_measured() {
        assert_eq!(stack_bytes(0xd101_03ff), 64); // sub sp, sp, #64
        assert_eq!(stack_bytes(0xd140_07ff), 4096); // sub sp, sp, #1, lsl #12
        assert_eq!(stack_bytes(0xa9be_7bfd), 32); // stp x29, x30, [sp, #-32]!
        assert_eq!(stack_bytes(0x6dbd_2beb), 48); // stp d11, d10, [sp, #-48]!
        assert_eq!(stack_bytes(0xf81f_0ffe), 16); // str x30, [sp, #-16]!
        assert_eq!(stack_bytes(0x9101_03ff), 0); // add sp, sp, #64
        assert_eq!(stack_bytes(0xa901_7bfd), 0); // stp x29, x30, [sp, #16]
        assert_eq!(stack_bytes(0xa8c2_7bfd), 0); // ldp x29, x30, [sp], #32
        assert_eq!(stack_bytes(0xf81f_0c1e), 0); // str x30, [x0, #-16]!
    }

    fn code(words: &[u32], address: u64) -> Code {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        read(&bytes, address)
    }

    #[test]
    fn a_jump_table_is_no_call_but_a_tail_call_is() {
        let table = code(&[0x8b0a_0929, 0xd61f_0120], 0); // add x9, x9, x10, lsl #2; br x9
        assert!(!table.calls_pointer);
        assert!(code(&[0xf940_0129, 0xd61f_0120], 0).calls_pointer); // ldr x9, [x9]; br x9
        assert!(code(&[0xd63f_0100], 0).calls_pointer); // blr x8
        assert_eq!(code(&[0xd503_201f, 0x1400_0003], 0).targets, [16]); // nop; b . + 12
        assert!(code(&[0xd503_201f, 0x17ff_ffff], 0).targets.is_empty()); // a loop
    }

    #[test]
    fn traps_and_vector_instructions_are_counted() {
        let code = code(
            &[
                0xd420_0020, // brk #1
                0x4e22_8420, // add v0.16b, v1.16b, v2.16b
                0x4e82_9420, // sdot v0.4s, v1.16b, v2.16b
                0x4fa2_e020, // sdot v0.4s, v1.16b, v2.4b[1]
                0x4e82_a420, // smmla v0.4s, v1.16b, v2.16b
                0x0e22_8420, // add v0.8b, v1.8b, v2.8b
                0x1e22_2820, // fadd s0, s1, s2
            ],
            0,
        );
        assert_eq!((code.n_traps, code.counted(Class::Vector128)), (1, 4));
        assert_eq!((code.counted(Class::Sdot), code.counted(Class::Smmla)), (2, 1));
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
}
