//! Whether the libraries are the same bytes wherever they are built: from copies of the repository in two folders.

use crate::process::{self, cargo, logged};
use crate::setup::{KERNEL_TARGET, Toolchain};
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is built for which target: the engine linked into a kernel, and the libraries for one that does its own linking.
const BUILDS: [(&str, &str); 2] = [("minimal-kernel", KERNEL_TARGET), ("corelm", "x86_64-unknown-linux-gnu")];

/// Folders for the copies: neither name nor depth is the same.
const FOLDERS: [&str; 2] = ["one", "another/folder"];

/// Digests of what was built, by target and name.
type Digests = BTreeMap<String, String>;

/// Builds twice and gives a line for each file.
///
/// # Errors
///
/// When a file differs, or something cannot be built.
pub fn run(toolchain: Toolchain) -> Result<Vec<String>> {
    ensure!(toolchain == Toolchain::Rustup, "this needs rustup's targets: CORELM_TOOLCHAIN=rustup");
    let place = workspace::scratch_file("reproduce")?;
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    let mut builds = vec![];
    for folder in FOLDERS.map(|folder| place.join(folder)) {
        copy_repository(&folder)?;
        builds.push(build(&folder)?);
    }
    let [one, another] = &builds[..] else { bail!("two builds") };
    ensure!(one.keys().any(|name| name.contains("libcorelm")), "no library was built: {one:?}");
    let differing = differing(one, another);
    ensure!(differing.is_empty(), "not the same when built in another folder: {}", differing.join(", "));
    fs::remove_dir_all(&place)?;
    Ok(one.iter().map(|(name, digest)| format!("{digest}  {name}")).collect())
}

/// Copies the files that git knows, as they are now.
fn copy_repository(folder: &Path) -> Result<()> {
    let files = process::output(Command::new("git").args(["ls-files", "-z"]).current_dir(workspace::root()))?;
    for file in files.split_terminator('\0') {
        let (from, to) = (workspace::root().join(file), folder.join(file));
        fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// Builds in `folder`, whose name is kept out of what is built.
fn build(folder: &Path) -> Result<Digests> {
    let mut digests = Digests::new();
    let remap = format!("--remap-path-prefix={}=/corelm", folder.display());
    for (package, target) in BUILDS {
        let mut cargo = cargo(&["build", "--locked", "--release", "--package", package, "--target", target]);
        cargo.current_dir(folder).env("CARGO_TARGET_DIR", folder.join("target"));
        logged(cargo.env("CARGO_ENCODED_RUSTFLAGS", &remap), "reproduce")?;
        let built = folder.join("target").join(target).join("release");
        let libraries = fs::read_dir(built.join("deps"))?.map(|entry| Ok(entry?.path()));
        let libraries: Vec<PathBuf> = libraries.collect::<Result<_>>()?;
        let is_library = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rlib");
        for path in libraries.into_iter().filter(is_library).chain([built.join(package)]) {
            if path.is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                digests.insert(format!("{target}/{name}"), digest(&path)?);
            }
        }
    }
    Ok(digests)
}

fn digest(path: &Path) -> Result<String> {
    let printed = process::output(Command::new("sha256sum").arg(path))?;
    Ok(printed.split_whitespace().next().context("sha256sum printed nothing")?.to_owned())
}

/// Names that do not have the same digest in both.
fn differing(one: &Digests, another: &Digests) -> Vec<String> {
    let names: BTreeSet<&String> = one.keys().chain(another.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != another.get(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_or_is_missing_is_named() {
        let digests = |pairs: &[(&str, &str)]| -> Digests {
            pairs.iter().map(|&(name, digest)| (name.to_owned(), digest.to_owned())).collect()
        };
        let one = digests(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert!(differing(&one, &one).is_empty());
        assert_eq!(differing(&one, &digests(&[("a", "1"), ("b", "3"), ("d", "4")])), ["b", "c", "d"]);
    }
}
