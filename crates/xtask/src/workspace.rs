//! Where things are: the repository, what is built from it, and the data kept beside it.

use anyhow::Result;
use std::env;
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.and_then(Path::parent).expect("xtask lives in <root>/crates/xtask")
}

/// The folder cargo builds into.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A file in `target/xtask`, whose folder is made when missing.
///
/// # Errors
///
/// When the folder cannot be made.
pub fn scratch_file(name: &str) -> Result<PathBuf> {
    let dir = target_dir().join("xtask");
    std::fs::create_dir_all(&dir)?;
    Ok(dir.join(name))
}
