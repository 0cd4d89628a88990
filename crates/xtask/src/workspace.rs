//! Where things are: the repository, what is built from it, and the data kept beside it.

use anyhow::{Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The repository's root: cargo says where this crate is, at run time too, so that a moved repository is not mistaken.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let own = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        Path::new(&own).join("../..").canonicalize().expect("this crate lies in <root>/crates/xtask")
    })
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
