//! The device tree (Devicetree Specification v0.4): from its bytes to a [`Machine`].

use core::ops::Range;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::{NodeStandard, Reg, Status};
use dtoolkit::{Node, Property};
use heapless::String;

use crate::machine::{Core, Machine, MachineError, StartMethod};

/// Bytes of the header that [`total_bytes`] needs.
pub const HEADER_BYTES: usize = 8;
/// Largest device tree that is believed, in bytes (as in the arm64 boot protocol).
pub const MAX_BYTES: usize = 2 << 20;
const MAGIC: u32 = 0xd00d_feed;

/// Returns the size of the device tree that starts with `header`, or `None` when this is no device tree.
pub fn total_bytes(header: [u8; HEADER_BYTES]) -> Option<usize> {
    let [m0, m1, m2, m3, s0, s1, s2, s3] = header;
    let bytes = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    let is_tree = u32::from_be_bytes([m0, m1, m2, m3]) == MAGIC;
    (is_tree && (HEADER_BYTES..=MAX_BYTES).contains(&bytes)).then_some(bytes)
}

/// Reads the machine's description.
///
/// # Errors
///
/// [`MachineError`] when the tree is damaged, describes no RAM, or holds a command line that is too long.
pub fn machine(tree: &[u8]) -> Result<Machine, MachineError> {
    let tree = Fdt::new(tree).map_err(|_| MachineError::BadDeviceTree)?;
    let mut machine = Machine::default();
    let root = tree.root();
    let is_memory = |node: &FdtNode<'_>| text(node, "device_type") == Some("memory");
    // What only the secure world sees is "disabled" for us.
    for node in root.children().filter(|node| is_memory(node) && node.status() == Ok(Status::Okay)) {
        for range in regions(node) {
            // What does not fit is left unused.
            let _ = machine.ram.push(range);
        }
    }
    let nodes = tree.root().child("reserved-memory");
    let reserved = nodes.iter().flat_map(|nodes| nodes.children()).flat_map(regions);
    let reserved =
        reserved.chain(tree.memory_reservations().filter_map(|range| span(range.address(), range.size())));
    for range in reserved {
        machine.reserved.push(range).map_err(|_| MachineError::TooManyReserved)?;
    }
    let psci = match root.child("psci").as_ref().and_then(|psci| text(psci, "method")) {
        Some("hvc") => StartMethod::PsciHvc,
        Some("smc") => StartMethod::PsciSmc,
        _ => StartMethod::Unknown,
    };
    for cpu in root.child("cpus").iter().flat_map(|cpus| cpus.children()) {
        if text(&cpu, "device_type") != Some("cpu") {
            continue;
        }
        let start = match text(&cpu, "enable-method") {
            Some("psci") => psci,
            Some("spin-table") => number(&cpu, "cpu-release-addr")
                .map_or(StartMethod::Unknown, |release_address| StartMethod::SpinTable { release_address }),
            _ => StartMethod::Unknown,
        };
        if let Some(mpidr) = regs(cpu).next().and_then(|reg| reg.address().ok()) {
            let _ = machine.cores.push(Core { mpidr, start });
        }
    }
    if let Some(chosen) = root.child("chosen") {
        let boot_args = text(&chosen, "bootargs").unwrap_or_default();
        machine.boot_args =
            String::try_from(boot_args).map_err(|_| MachineError::BadBootArgs { bytes: boot_args.len() })?;
        machine.initrd =
            number(&chosen, "linux,initrd-start").zip(number(&chosen, "linux,initrd-end")).map(|(a, b)| a..b);
        let path = text(&chosen, "stdout-path").and_then(|path| path.split(':').next());
        machine.uart = path
            .and_then(|path| tree.find_node(path))
            .filter(|node| node.is_compatible("arm,pl011"))
            .and_then(|node| regions(node).next())
            .map(|range| range.start);
    }
    machine.check()
}

fn regs(node: FdtNode<'_>) -> impl Iterator<Item = Reg<'_>> {
    node.reg().ok().flatten().into_iter().flatten()
}

/// The `reg` property as addresses; entries that are empty or reach past the address space are left out.
fn regions(node: FdtNode<'_>) -> impl Iterator<Item = Range<usize>> {
    regs(node).filter_map(|reg| span(reg.address().ok()?, reg.size().ok()?))
}

fn span(start: u64, bytes: u64) -> Option<Range<usize>> {
    let end = start.checked_add(bytes)?;
    let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
    (!range.is_empty()).then_some(range)
}

fn text<'a>(node: &FdtNode<'a>, name: &str) -> Option<&'a str> {
    node.property(name)?.value_as().ok()
}

/// A property of one or two cells.
fn number(node: &FdtNode<'_>, name: &str) -> Option<usize> {
    match *node.property(name)?.value() {
        [a, b, c, d] => usize::try_from(u32::from_be_bytes([a, b, c, d])).ok(),
        [a, b, c, d, e, f, g, h] => usize::try_from(u64::from_be_bytes([a, b, c, d, e, f, g, h])).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree under construction: the structure block, and the strings it refers to.
    #[derive(Default)]
    struct Builder {
        structure: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Builder {
        fn padded(&mut self, bytes: &[u8]) {
            self.structure.extend(bytes);
            self.structure.resize(self.structure.len().next_multiple_of(4), 0);
        }

        fn open(mut self, name: &str) -> Self {
            self.structure.extend(1_u32.to_be_bytes());
            self.padded(format!("{name}\0").as_bytes());
            self
        }

        fn close(mut self) -> Self {
            self.structure.extend(2_u32.to_be_bytes());
            self
        }

        fn text(self, name: &str, value: &str) -> Self {
            self.property(name, format!("{value}\0").as_bytes())
        }

        fn cells(self, name: &str, value: &[u32]) -> Self {
            self.property(name, &value.iter().flat_map(|cell| cell.to_be_bytes()).collect::<Vec<u8>>())
        }

        fn property(mut self, name: &str, value: &[u8]) -> Self {
            self.structure
                .extend([3, value.len() as u32, self.strings.len() as u32].map(u32::to_be_bytes).concat());
            self.strings.extend(format!("{name}\0").as_bytes());
            self.padded(value);
            self
        }

        fn tree(mut self) -> Vec<u8> {
            self.structure.extend(9_u32.to_be_bytes());
            let (structure, strings) = (56, 56 + self.structure.len() as u32);
            let total = strings + self.strings.len() as u32;
            let header = [MAGIC, total, structure, strings, 40, 17, 16, 0];
            let sizes = [self.strings.len() as u32, self.structure.len() as u32];
            let mut bytes: Vec<u8> =
                header.iter().chain(&sizes).flat_map(|word| word.to_be_bytes()).collect();
            bytes.extend([0; 16]);
            bytes.extend(self.structure);
            bytes.extend(self.strings);
            bytes
        }
    }

    fn tree(boot_args: &str) -> Vec<u8> {
        let two = |builder: Builder| builder.cells("#address-cells", &[2]).cells("#size-cells", &[2]);
        let root = two(Builder::default().open("")).open("psci").text("method", "hvc").close();
        let root = root.open("memory@40000000").text("device_type", "memory");
        let root = root.cells("reg", &[0, 0x4000_0000, 0, 0x1000_0000]).close();
        let root = root.open("secram@e000000").text("device_type", "memory").text("status", "disabled");
        let root = root.cells("reg", &[0, 0xe00_0000, 0, 0x100_0000]).close();
        let root = two(root.open("reserved-memory")).open("firmware");
        let root = root.cells("reg", &[0, 0x4100_0000, 0, 0x1000]).close().close();
        let root = root.open("pl011@9000000").text("compatible", "arm,pl011");
        let root = root.cells("reg", &[0, 0x900_0000, 0, 0x1000]).close();
        let root = root.open("cpus").cells("#address-cells", &[1]).cells("#size-cells", &[0]);
        let cpu = |root: Builder, name: &str, id, method: &str| {
            let cpu = root.open(name).text("device_type", "cpu").cells("reg", &[id]);
            cpu.text("enable-method", method).cells("cpu-release-addr", &[0, 0xd8 + 8 * id]).close()
        };
        let root = cpu(cpu(root, "cpu@0", 0, "psci"), "cpu@1", 1, "spin-table").close();
        let root = root.open("chosen").text("bootargs", boot_args).text("stdout-path", "/pl011@9000000");
        let root =
            root.cells("linux,initrd-start", &[0x4800_0000]).cells("linux,initrd-end", &[0, 0x4800_1000]);
        root.close().close().tree()
    }

    #[test]
    fn a_tree_is_read() {
        let machine = machine(&tree("mode=test")).unwrap();
        assert_eq!(machine.ram.as_slice(), [0x4000_0000..0x5000_0000]);
        assert_eq!(machine.reserved.as_slice(), [0x4100_0000..0x4100_1000]);
        assert_eq!(machine.initrd, Some(0x4800_0000..0x4800_1000));
        assert_eq!(machine.boot_args, "mode=test");
        assert_eq!(machine.uart, Some(0x0900_0000));
        let second = StartMethod::SpinTable { release_address: 0xe0 };
        assert_eq!(
            machine.cores.as_slice(),
            [Core { mpidr: 0, start: StartMethod::PsciHvc }, Core { mpidr: 1, start: second }]
        );
    }

    #[test]
    fn a_long_command_line_is_refused() {
        let bytes = crate::machine::MAX_BOOT_ARGS + 1;
        assert_eq!(machine(&tree(&"x".repeat(bytes))), Err(MachineError::BadBootArgs { bytes }));
    }

    #[test]
    fn the_header_tells_size_and_kind() {
        let tree = tree("");
        assert_eq!(total_bytes(*tree.first_chunk().unwrap()), Some(tree.len()));
        assert_eq!(total_bytes([0; HEADER_BYTES]), None);
        assert_eq!(total_bytes([0xd0, 0x0d, 0xfe, 0xed, 0xff, 0, 0, 0]), None);
    }

    #[test]
    fn every_prefix_and_every_flip_ends() {
        let tree = tree("a=b");
        for end in 0..tree.len() {
            let _ = machine(&tree[..end]);
        }
        for bit in 0..tree.len() * 8 {
            let mut bad = tree.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let _ = machine(&bad);
        }
    }
}
