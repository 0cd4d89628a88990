//! Which CPU this is.

use aarch64_cpu::registers::{MIDR_EL1, Readable};

/// Returns the name of the calling core's part, or `None` for one that is not in the table.
pub fn name() -> Option<&'static str> {
    const ARM: u64 = 0x41;
    /// QEMU's `-cpu max` is nobody's part: implementer 0, part 0x51.
    const QEMU: u64 = 0;
    Some(match (MIDR_EL1.read(MIDR_EL1::Implementer), MIDR_EL1.read(MIDR_EL1::PartNum)) {
        (ARM, 0xd03) => "Cortex-A53",
        (ARM, 0xd04) => "Cortex-A35",
        (ARM, 0xd05) => "Cortex-A55",
        (ARM, 0xd07) => "Cortex-A57",
        (ARM, 0xd08) => "Cortex-A72",
        (ARM, 0xd09) => "Cortex-A73",
        (ARM, 0xd0a) => "Cortex-A75",
        (ARM, 0xd0b) => "Cortex-A76",
        (ARM, 0xd0c) => "Neoverse N1",
        (ARM, 0xd0d) => "Cortex-A77",
        (ARM, 0xd40) => "Neoverse V1",
        (ARM, 0xd41) => "Cortex-A78",
        (ARM, 0xd46) => "Cortex-A510",
        (ARM, 0xd47) => "Cortex-A710",
        (ARM, 0xd49) => "Neoverse N2",
        (QEMU, 0x051) => "QEMU max",
        _ => return None,
    })
}

/// Returns the calling core's `MIDR_EL1`.
pub fn midr() -> u64 {
    MIDR_EL1.get()
}
