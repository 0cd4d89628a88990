//! Gives each board's binary its memory map, `linker/<board>.ld`, and the kernel the demo model.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let linker = root.join("linker");
    println!("cargo:rerun-if-changed={}", linker.display());
    demo_model(&root.join("models/corelm-demo-q4_0.gguf"))?;
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return Ok(());
    }
    for board in ["virt", "raspi3b"] {
        println!("cargo:rustc-link-arg-bin={board}=-L{}", linker.display());
        println!("cargo:rustc-link-arg-bin={board}=-T{}", linker.join(board).with_extension("ld").display());
        // Pages, not the 64 KiB the linker would pad segments to.
        println!("cargo:rustc-link-arg-bin={board}=-zmax-page-size=4096");
    }
    Ok(())
}

/// Puts the model where `model.rs` includes it from. Without the file the kernel builds too, and says so when asked for
/// it: a checkout may leave models out.
fn demo_model(model: &Path) -> io::Result<()> {
    println!("cargo:rerun-if-changed={}", model.display());
    let bytes = if model.exists() { fs::read(model)? } else { Vec::new() };
    let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or(io::ErrorKind::NotFound)?;
    fs::write(out.join("demo.gguf"), bytes)
}
