//! The object that things are proved about: every public function of the libraries, linked for one target.

use crate::binary::program::{Function, Program};
use crate::process::logged;
use crate::prove::api::Api;
use crate::setup::{KERNEL_TARGET, Toolchain, X86_TARGET};
use crate::workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// What an object is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in reports.
    pub name: &'static str,
    /// The triple.
    pub triple: &'static str,
    /// The architecture, as `cfg(target_arch)` has it.
    pub architecture: &'static str,
    /// Whether floats are computed with in registers.
    pub has_float: bool,
    /// Bytes of stack that no export may exceed. Not asked without floats.
    pub stack: u64,
    /// What else the compiler is told about all code.
    pub flags: &'static [&'static str],
    /// What else the linker is told.
    pub link: &'static [&'static str],
}

/// Names with their types, also in what cargo would otherwise take over from the builds of kernels.
const MANGLING: &str = "-Csymbol-mangling-version=v0";

/// Kernels for x86-64 that switch floating point on.
pub const X86_KERNEL: Target = Target {
    name: "x86_64",
    triple: "x86_64-unknown-linux-gnu",
    architecture: "x86_64",
    has_float: true,
    stack: 4_096,
    flags: &[MANGLING, "-Cno-redzone=yes", "-Crelocation-model=static", "-Ccode-model=kernel"],
    link: &["-Clinker=rust-lld", "-Clinker-flavor=ld.lld"],
};

/// Everything that `targets/README.md` says to build a kernel's engine for.
pub const TARGETS: [Target; 3] = [
    Target {
        name: "aarch64",
        triple: KERNEL_TARGET,
        architecture: "aarch64",
        has_float: true,
        stack: 4_096,
        flags: &[MANGLING],
        link: &[],
    },
    X86_KERNEL,
    Target {
        name: "x86_64 without SSE",
        triple: X86_TARGET,
        architecture: "x86_64",
        has_float: false,
        stack: 0,
        flags: &[MANGLING, "-Crelocation-model=static"],
        link: &[],
    },
];

/// What is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// As shipped.
    Release,
    /// With checks of overflow in the parser, the tokenizer and all that counts memory.
    Overflow,
    /// Checks of overflow there, and this planted.
    OverflowPlanted(&'static str),
    /// As shipped, without exports, and with this planted.
    Planted(&'static str),
}

/// Modules that the proof without overflow is about.
const CHECKED: [&str; 8] = [
    "corelm::arena",
    "corelm::chat",
    "corelm::config",
    "corelm::error",
    "corelm::gguf",
    "corelm::plan",
    "corelm::tokenizer",
    "corelm::weights",
];

/// A linked object.
#[derive(Debug)]
pub struct Object {
    /// What it was built for.
    pub target: Target,
    /// Its functions by address.
    pub functions: Vec<Function>,
    /// Names that it refers to and does not define.
    pub imports: Vec<String>,
    /// Variables that code may write, and their bytes.
    pub variables: Vec<(String, u64)>,
    /// Exported functions: their names and addresses.
    pub exports: Vec<(String, u64)>,
}

/// What rustdoc says is public.
///
/// # Errors
///
/// When it cannot be run or says something unknown.
pub fn api(toolchain: Toolchain) -> Result<Api> {
    let mut api = Api::default();
    for package in ["corelm-ops", "corelm"] {
        let mut rustdoc = toolchain.cargo("rustdoc", KERNEL_TARGET);
        rustdoc.args(["--package", package, "--", "-Zunstable-options", "--output-format", "json"]);
        logged(rustdoc.env("RUSTC_BOOTSTRAP", "1"), "prove-api")?;
        let folder = toolchain.target_dir().join(KERNEL_TARGET).join("doc");
        let path = folder.join(package.replace('-', "_")).with_extension("json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        api.add(&text).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(api)
}

/// Builds the object and reads it.
///
/// # Errors
///
/// When it cannot be built or read.
pub fn build(toolchain: Toolchain, api: &Api, target: Target, variant: Variant) -> Result<Object> {
    let is_checked = |name: &str| {
        let name = name.trim_start_matches(['<', '&', '[']).trim_start_matches("drop ");
        CHECKED.iter().any(|module| name.starts_with(module))
    };
    let (source, names) = match variant {
        Variant::Release => api.source(target.architecture, |_| true),
        Variant::Overflow => api.source(target.architecture, is_checked),
        Variant::Planted(_) | Variant::OverflowPlanted(_) => api.source(target.architecture, |_| false),
    };
    let path = workspace::scratch_file(&format!("exports-{}-{}.rs", target.architecture, names.len()))?;
    write_if_new(&path, &source)?;

    let mut cargo = toolchain.cargo_with("rustc", target.triple, target.flags);
    let profile = match variant {
        Variant::Release | Variant::Planted(_) => "release",
        Variant::Overflow | Variant::OverflowPlanted(_) => "overflow",
    };
    cargo.args([
        "--profile",
        profile,
        "--package",
        "prove-exports",
        "--",
        "-Zemit-stack-sizes",
        "--cfg",
        "prove",
    ]);
    match variant {
        Variant::Release => drop(cargo.args(["--cfg", "generic"])),
        Variant::Overflow => {}
        Variant::Planted(what) | Variant::OverflowPlanted(what) => {
            cargo.args(["--cfg", "plant", "--cfg", &format!("plant=\"{what}\"")]);
        }
    }
    // The linker lets imports be: they are read off the object.
    cargo.args(["-Clink-arg=--unresolved-symbols=ignore-all", "-Clink-arg=-e_start"]).args(target.link);
    cargo.env("RUSTC_BOOTSTRAP", "1").env("CORELM_EXPORTS", &path);
    logged(&mut cargo, "prove-build")?;

    let linked = toolchain.target_dir().join(target.triple).join(profile).join("prove-exports");
    let read = || -> Result<Object> {
        let bytes = fs::read(&linked)?;
        let program = Program::parse(&bytes)?;
        let addresses = program.numbers(".corelm_exports")?;
        anyhow::ensure!(
            addresses.len() == names.len(),
            "{} exports for {} names",
            addresses.len(),
            names.len()
        );
        Ok(Object {
            target,
            functions: program.functions()?,
            imports: program.imports()?,
            variables: program.variables()?,
            exports: names.iter().cloned().zip(addresses).collect(),
        })
    };
    read().with_context(|| format!("cannot read {}", linked.display()))
}

/// Writes a file unless it has these contents, so that cargo sees a change only where there is one.
fn write_if_new(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
