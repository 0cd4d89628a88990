//! The few A64 instructions that say who calls whom and how much stack a function takes (Arm ARM, C4.1).

/// What one instruction means for a call graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
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
pub fn flow(word: u32, address: u64) -> Flow {
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
pub fn adds_into(word: u32, register: u32) -> bool {
    word & 0xff20_0000 == 0x8b00_0000 && word & 31 == register
}

/// Bytes by which the instruction moves the stack pointer down: `sub sp, sp, #n` and stores with `[sp, #-n]!`.
pub fn stack_bytes(word: u32) -> u64 {
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
}
