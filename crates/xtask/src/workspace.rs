//! Where things are: the repository, what is built from it, and the data kept beside it.

use anyhow::{Result, bail};
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

/// `../shared`, the models and golden outputs kept outside the repository; `None` when it is absent.
///
/// # Errors
///
/// When it is absent under continuous integration (`CI` is set), where nothing may be skipped silently.
pub fn shared() -> Result<Option<PathBuf>> {
    let dir = root().join("../shared");
    if dir.is_dir() {
        return Ok(Some(dir));
    }
    if env::var_os("CI").is_some() {
        bail!("no ../shared: the models and golden outputs are needed in CI");
    }
    Ok(None)
}
