//! The same of x86-64 instructions, which another crate decodes.

use super::code::{Class, Code};
use iced_x86::{
    Code as Opcode, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

/// Bytes of stack that a call takes for the address it returns to.
pub const RETURN_BYTES: u64 = 8;

/// How far back the sum that makes a jump table's target is looked for, in instructions.
const TABLE_WINDOW: usize = 8;

/// Reads the instructions of a function at `address`.
pub fn read(bytes: &[u8], address: u64) -> Code {
    let instructions: Vec<Instruction> = decode(bytes, address).collect();
    let mut code = Code { frame: instructions.iter().map(stack_bytes).sum(), ..Code::default() };
    let own = address..address + bytes.len() as u64;
    for (i, instruction) in instructions.iter().enumerate() {
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                let target = instruction.near_branch_target();
                let is_call = instruction.flow_control() == FlowControl::Call;
                if is_call || !own.contains(&target) {
                    code.targets.push(target);
                }
            }
            FlowControl::IndirectCall | FlowControl::IndirectBranch if is_slot(instruction) => {
                code.slots.push(instruction.memory_displacement64());
            }
            FlowControl::IndirectCall => match origin(instruction, &instructions[..i]) {
                Some(Origin::Slot(slot)) => code.slots.push(slot),
                Some(Origin::Target(target)) => code.targets.push(target),
                None => code.calls_pointer = true,
            },
            FlowControl::IndirectBranch => {
                let before = &instructions[i.saturating_sub(TABLE_WINDOW)..i];
                code.calls_pointer |= !is_table(instruction, before);
            }
            _ => {}
        }
        let is_trap = matches!(instruction.code(), Opcode::Ud2 | Opcode::Int1 | Opcode::INVALID);
        code.n_traps += usize::from(is_trap);
        let swaps = instruction.mnemonic() == Mnemonic::Xchg && instruction.op0_kind() == OpKind::Memory;
        code.n_exchanges += usize::from(swaps || instruction.has_lock_prefix());
        classes(instruction).into_iter().flatten().for_each(|class| code.count(class));
    }
    code
}

/// Addresses that instructions mention: those of memory relative to the instruction, and constants.
pub fn computed_addresses(bytes: &[u8], address: u64) -> Vec<u64> {
    let mut addresses = Vec::new();
    for instruction in decode(bytes, address) {
        if instruction.mnemonic() == Mnemonic::Lea || instruction.mnemonic() == Mnemonic::Mov {
            addresses.push(instruction.memory_displacement64());
        }
        for operand in 0..instruction.op_count() {
            if is_constant(instruction.op_kind(operand)) {
                addresses.push(instruction.immediate(operand));
            }
        }
    }
    addresses
}

fn decode(bytes: &[u8], address: u64) -> impl Iterator<Item = Instruction> {
    Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).into_iter()
}

fn is_constant(kind: OpKind) -> bool {
    matches!(kind, OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64)
}

/// Whether the address to go to lies at a fixed address.
fn is_slot(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Memory
        && instruction.memory_index() == Register::None
        && matches!(instruction.memory_base(), Register::RIP | Register::None)
}

/// Where a call goes whose address is in a register.
enum Origin {
    /// To the address that this constant holds.
    Slot(u64),
    /// To this address.
    Target(u64),
}

/// What the register called was last set to: code that calls one function often keeps its address so. `None` where that
/// is no constant.
fn origin(call: &Instruction, before: &[Instruction]) -> Option<Origin> {
    let target = (call.op0_kind() == OpKind::Register).then(|| call.op0_register())?;
    // Apart from these, an instruction sets its first operand; what ends a function restores registers, and another of
    // its blocks may follow.
    let keeps = [Mnemonic::Cmp, Mnemonic::Test, Mnemonic::Push, Mnemonic::Call, Mnemonic::Pop];
    let sets = |instruction: &&Instruction| {
        instruction.op0_kind() == OpKind::Register
            && instruction.op0_register().full_register() == target
            && !keeps.contains(&instruction.mnemonic())
    };
    let load = before.iter().rev().find(sets)?;
    let is_fixed = load.memory_base() == Register::RIP && load.memory_index() == Register::None;
    match load.mnemonic() {
        Mnemonic::Mov if is_constant(load.op1_kind()) => Some(Origin::Target(load.immediate(1))),
        Mnemonic::Mov if is_fixed => Some(Origin::Slot(load.memory_displacement64())),
        Mnemonic::Lea if is_fixed => Some(Origin::Target(load.memory_displacement64())),
        _ => None,
    }
}

/// Whether the indirect jump goes through a table of this function: an address scaled by an index, or a register that a
/// sum was made in.
fn is_table(jump: &Instruction, before: &[Instruction]) -> bool {
    if jump.op0_kind() == OpKind::Memory {
        return jump.memory_index() != Register::None;
    }
    let target = jump.op0_register();
    before.iter().any(|instruction| {
        let is_sum = instruction.mnemonic() == Mnemonic::Add
            || (instruction.mnemonic() == Mnemonic::Mov && instruction.memory_index() != Register::None);
        is_sum && instruction.op0_register() == target
    })
}

/// Bytes by which the instruction moves the stack pointer down.
fn stack_bytes(instruction: &Instruction) -> u64 {
    match instruction.mnemonic() {
        Mnemonic::Push => 8,
        Mnemonic::Sub
            if instruction.op0_register() == Register::RSP && instruction.op1_kind() != OpKind::Register =>
        {
            instruction.immediate(1)
        }
        _ => 0,
    }
}

/// What the instruction counts as.
fn classes(instruction: &Instruction) -> [Option<Class>; 2] {
    let has = |is: fn(Register) -> bool| (0..instruction.op_count()).any(|i| is(instruction.op_register(i)));
    let width = if has(Register::is_zmm) {
        Some(Class::Zmm)
    } else if has(Register::is_ymm) {
        Some(Class::Ymm)
    } else {
        None
    };
    let product = match instruction.mnemonic() {
        Mnemonic::Vpdpbusd | Mnemonic::Vpdpbusds => Some(Class::Vpdpbusd),
        Mnemonic::Tdpbssd | Mnemonic::Tdpbsud | Mnemonic::Tdpbusd | Mnemonic::Tdpbuud => Some(Class::Tdp),
        _ => None,
    };
    [width, product]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_jumps_have_targets() {
        assert_eq!(read(&[0xe8, 0x0b, 0, 0, 0], 0x1000).targets, [0x1010]); // call
        assert_eq!(read(&[0xe9, 0x0b, 0, 0, 0], 0x1000).targets, [0x1010]); // jmp, a tail call
        assert!(read(&[0x90, 0xeb, 0xfd], 0x1000).targets.is_empty()); // a loop
        assert!(read(&[0xff, 0xd0], 0).calls_pointer); // call rax
        assert!(read(&[0xff, 0xe0], 0).calls_pointer); // jmp rax
        assert!(read(&[0xff, 0x60, 0x18], 0).calls_pointer); // jmp [rax + 24]
        let call = read(&[0xff, 0x15, 0xfa, 0x0f, 0, 0], 0x1000); // call [rip + 0xffa]
        assert!(!call.calls_pointer && call.slots == [0x2000]);
        let load = [0x48, 0x8b, 0x05, 0xf9, 0x0f, 0, 0, 0xff, 0xd0]; // mov rax, [rip + 0xff9]; call rax
        assert_eq!(read(&load, 0x1000).slots, [0x2000]);
        let other = [0x48, 0x8b, 0x05, 0xf9, 0x0f, 0, 0, 0x48, 0x8b, 0x07, 0xff, 0xd0]; // ...; mov rax, [rdi]; call rax
        assert!(read(&other, 0x1000).calls_pointer);
        assert!(!read(&[0xff, 0x24, 0xc5, 0, 0x10, 0, 0], 0).calls_pointer); // jmp [rax * 8 + 0x1000]
        assert!(!read(&[0x48, 0x01, 0xc8, 0xff, 0xe0], 0).calls_pointer); // add rax, rcx; jmp rax
    }

    #[test]
    fn frames_are_read_off() {
        // push rbp; push rbx; sub rsp, 24; sub rsp, 0x1000
        let code = read(&[0x55, 0x53, 0x48, 0x83, 0xec, 24, 0x48, 0x81, 0xec, 0, 0x10, 0, 0], 0);
        assert_eq!(code.frame, 16 + 24 + 4096);
    }

    #[test]
    fn traps_and_vector_instructions_are_counted() {
        let code = read(
            &[
                0x0f, 0x0b, // ud2
                0xc5, 0xfc, 0x58, 0xc1, // vaddps ymm0, ymm0, ymm1
                0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1, // vaddps zmm0, zmm0, zmm1
                0xc4, 0xe2, 0x75, 0x50, 0xc2, // {vex} vpdpbusd ymm0, ymm1, ymm2
                0xc4, 0xe2, 0x6b, 0x5e, 0xc1, // tdpbssd tmm0, tmm1, tmm2
                0xc5, 0xf0, 0x58, 0xc2, // vaddps xmm0, xmm1, xmm2
            ],
            0,
        );
        assert_eq!((code.n_traps, code.counted(Class::Ymm), code.counted(Class::Zmm)), (1, 2, 1));
        assert_eq!((code.counted(Class::Vpdpbusd), code.counted(Class::Tdp)), (1, 1));
    }

    #[test]
    fn exchanges_are_told_from_loads_and_stores() {
        assert_eq!(read(&[0xf0, 0x48, 0x0f, 0xb1, 0x37], 0).n_exchanges, 1); // lock cmpxchg [rdi], rsi
        assert_eq!(read(&[0x86, 0x07], 0).n_exchanges, 1); // xchg [rdi], al
        assert_eq!(read(&[0x48, 0x87, 0xd8, 0x88, 0x07, 0x8a, 0x07], 0).n_exchanges, 0); // xchg rax, rbx; mov
    }

    #[test]
    fn addresses_in_instructions_are_seen() {
        let code = [
            0x48, 0x8d, 0x05, 0xf9, 0x0f, 0, 0, // lea rax, [rip + 0xff9]
            0x48, 0xc7, 0xc0, 0, 0x30, 0, 0, // mov rax, 0x3000
        ];
        let addresses = computed_addresses(&code, 0x1000);
        assert!(addresses.contains(&0x2000) && addresses.contains(&0x3000), "{addresses:x?}");
    }
}
