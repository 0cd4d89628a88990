//! The copy of the repository that changes are made in. It stays, and what was built of it: only what differs is written again.

use crate::parts::Part;
use crate::process;
use crate::workspace;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Brings the copy in `folder` up to date, and gives its root.
///
/// # Errors
///
/// When a file cannot be read or written, or this is no git repository.
pub fn update(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("corelm");
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = process::output(git.current_dir(workspace::root()))?;
    let names: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
    let mut kept = BTreeSet::new();
    for name in names {
        let from = workspace::root().join(name);
        // A file that was deleted and not committed is listed too.
        if from.is_file() {
            let text = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            write(&root.join(name), &text)?;
            kept.insert(root.join(name));
        }
    }
    remove_others(&root, &kept)?;
    if let Some(shared) = workspace::shared()? {
        link(&shared.canonicalize()?, &folder.join("shared"))?;
    }
    Ok(root)
}

/// Puts a part's tests into one program, whose name this gives: a dozen programs take as long to build as all else.
///
/// # Errors
///
/// When it cannot be written.
pub fn join_tests(root: &Path, part: &Part) -> Result<String> {
    let name = format!("all_of_{}", part.name);
    let mut source = format!("//! The tests of the {}, in one program.\n", part.name);
    for test in part.tests {
        let _ = write!(source, "\n#[path = \"{test}.rs\"]\nmod {test};\n");
    }
    write(&root.join("crates/corelm/tests").join(&name).with_extension("rs"), source.as_bytes())?;
    Ok(name)
}

/// Writes a file unless it has that text already, which would make it newer than what was built of it.
fn write(path: &Path, text: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let folder = path.parent().with_context(|| format!("{} has no folder", path.display()))?;
    fs::create_dir_all(folder)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Removes files that are gone from the repository.
fn remove_others(root: &Path, kept: &BTreeSet<PathBuf>) -> Result<()> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if !kept.contains(&path) {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> Result<()> {
    if !at.exists() {
        std::os::unix::fs::symlink(to, at).with_context(|| format!("cannot make {}", at.display()))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::PARTS;

    #[test]
    fn what_is_as_it_was_is_not_written_again() {
        let folder = std::env::temp_dir().join(format!("corelm-copy-{}", std::process::id()));
        let (a, b) = (folder.join("x/a.rs"), folder.join("x/y/b.rs"));
        for path in [&a, &b] {
            write(path, b"1").unwrap();
        }
        let old = fs::metadata(&a).unwrap().modified().unwrap();
        write(&a, b"1").unwrap();
        assert_eq!(fs::metadata(&a).unwrap().modified().unwrap(), old);
        write(&a, b"2").unwrap();
        assert_eq!(fs::read(&a).unwrap(), b"2");
        remove_others(&folder, &BTreeSet::from([a.clone()])).unwrap();
        assert!(a.is_file() && !b.exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn tests_of_a_part_are_one_program() {
        let folder = std::env::temp_dir().join(format!("corelm-tests-{}", std::process::id()));
        let name = join_tests(&folder, &PARTS[2]).unwrap();
        let source = fs::read_to_string(folder.join("crates/corelm/tests").join(name + ".rs")).unwrap();
        assert!(source.contains("#[path = \"errors.rs\"]\nmod errors;\n"), "{source}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
