//! Gives each board's binary its memory map, `linker/<board>.ld`.

use std::path::Path;

fn main() {
    let linker = Path::new(env!("CARGO_MANIFEST_DIR")).join("../linker");
    println!("cargo:rerun-if-changed={}", linker.display());
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    for board in ["virt", "raspi3b"] {
        println!("cargo:rustc-link-arg-bin={board}=-L{}", linker.display());
        println!("cargo:rustc-link-arg-bin={board}=-T{}", linker.join(board).with_extension("ld").display());
        // Pages, not the 64 KiB the linker would pad segments to.
        println!("cargo:rustc-link-arg-bin={board}=-zmax-page-size=4096");
    }
}
