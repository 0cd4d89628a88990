//! What others wrote and this repository builds on: from one registry, under licences that are listed, in one version.
//!
//! Read off `cargo metadata --locked`, which also fails where a lock file does not say all.

use crate::figures;
use crate::process::{self, cargo};
use crate::steps::Outcome;
use crate::{fuzz, peers, tokenizers};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// How the source of all packages ends that are not this repository's.
const REGISTRY: &str = "/crates.io-index";

/// Licences that ask for nothing but to be named.
const LICENCES: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages of a program that measures the engine beside others, whose licence asks for more of who passes them on, which
/// nobody does.
const MEASURED: [(&str, &str); 1] = [("colored", "MPL-2.0")];

/// Packages of the workspace in two versions: macros that others are between the versions of, which run in the compiler.
const TWICE: [&str; 1] = ["syn"];

/// All lock files, and whether a package may be in one only once. What fuzzes or is measured against brings
/// what it likes.
const LOCKS: [(&str, bool); 4] =
    [("Cargo.toml", true), (fuzz::MANIFEST, false), (peers::MANIFEST, false), (tokenizers::MANIFEST, false)];

/// A package that somebody else wrote.
#[derive(Clone, Debug, Default, PartialEq)]
struct Package {
    name: String,
    version: String,
    source: String,
    licence: String,
}

/// The step of `cargo xtask test`.
///
/// # Errors
///
/// When a lock file is out of date, or a package is from elsewhere, under another licence, or there twice.
pub fn check() -> Result<Outcome> {
    let mut n_packages = 0;
    for (manifest, is_single) in LOCKS {
        let packages = packages(manifest)?;
        let is_measured = |package: &&Package| {
            !is_single && MEASURED.contains(&(package.name.as_str(), package.licence.as_str()))
        };
        let mut wrong: Vec<String> =
            packages.iter().filter(|package| !is_measured(package)).filter_map(objection).collect();
        if is_single {
            wrong.extend(duplicates(&packages));
        }
        ensure!(wrong.is_empty(), "{manifest}: {}", wrong.join("; "));
        n_packages += packages.len();
    }
    let told = format!(
        "{n_packages} packages in {} lock files: 0 from elsewhere, 0 under another licence",
        LOCKS.len()
    );
    figures::note("R21", "packages", told);
    Ok(Outcome::Passed(n_packages))
}

/// The packages of a lock file, with every feature, for every target.
fn packages(manifest: &str) -> Result<Vec<Package>> {
    let args = ["metadata", "--locked", "--all-features", "--format-version", "1", "--manifest-path"];
    let text = process::output(cargo(&args).arg(manifest))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let all = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let foreign = all.iter().filter(|package| !package["source"].is_null()).map(|package| Package {
        name: text(&package["name"]),
        version: text(&package["version"]),
        source: text(&package["source"]),
        licence: text(&package["license"]),
    });
    Ok(foreign.collect())
}

/// What is wrong with a package by itself.
fn objection(package: &Package) -> Option<String> {
    let Package { name, version, source, licence } = package;
    if !source.ends_with(REGISTRY) {
        return Some(format!("{name} {version} is from {source}"));
    }
    (!is_allowed(licence)).then(|| format!("{name} {version} has the licence `{licence}`"))
}

/// Whether a licence expression (SPDX, or the older form with a slash) can be met by licences of the list.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut words = Words { rest: expression.trim() };
    words.any() && words.rest.is_empty()
}

/// The rest of a licence expression.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn take(&mut self, word: &str) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest).trim_start();
        rest.is_some()
    }

    /// `all OR all OR ...`: one of them will do.
    fn any(&mut self) -> bool {
        let mut is_met = self.all();
        while self.take("OR ") {
            is_met |= self.all();
        }
        is_met
    }

    /// `one AND one AND ...`: each of them holds.
    fn all(&mut self) -> bool {
        let mut is_met = self.one();
        while self.take("AND ") {
            is_met &= self.one();
        }
        is_met
    }

    /// A licence, or an expression in parentheses.
    fn one(&mut self) -> bool {
        if self.take("(") {
            let is_met = self.any();
            return self.take(")") && is_met;
        }
        let ends = [" OR ", " AND ", ")"].iter().filter_map(|end| self.rest.find(end));
        let (licence, rest) = self.rest.split_at(ends.min().unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        LICENCES.contains(&licence.trim())
    }
}

/// Packages that are there in more than one version.
fn duplicates(packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let unexpected = versions.iter().filter(|(name, versions)| (versions.len() > 1) != TWICE.contains(name));
    let line = |(name, versions): (&&str, &Vec<&str>)| match versions.len() {
        1 => format!("{name} need not be listed as there twice"),
        _ => format!("{name} is there as {}", versions.join(" and ")),
    };
    unexpected.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_licences_are_understood() {
        for licence in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "Unlicense OR MIT",
            "MIT OR LGPL-2.1-or-later",
            "(GPL-3.0) OR MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Unicode-3.0 AND (GPL-3.0 OR (ISC AND Zlib))",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        ] {
            assert!(is_allowed(licence), "{licence}");
        }
        for licence in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT-0",
            "(MIT OR Apache-2.0) AND MPL-2.0",
            "MIT)",
            "(MIT",
            "MIT OR",
            "MIT WITH LLVM-exception",
            "OR MIT",
        ] {
            assert!(!is_allowed(licence), "{licence}");
        }
    }

    #[test]
    fn what_is_foreign_or_there_twice_is_named() {
        let package = |name: &str, version: &str| Package {
            name: name.into(),
            version: version.into(),
            source: REGISTRY.into(),
            licence: "MIT".into(),
        };
        let good = package("a", "1.0.0");
        assert_eq!(objection(&good), None);
        let elsewhere = Package { source: "git+https://example.org/a".into(), ..good.clone() };
        assert_eq!(objection(&elsewhere).unwrap(), "a 1.0.0 is from git+https://example.org/a");
        let other = Package { licence: "GPL-3.0".into(), ..good.clone() };
        assert!(objection(&other).unwrap().contains("`GPL-3.0`"));
        let twice = [good, package("a", "2.0.0"), package(TWICE[0], "1.0.0"), package(TWICE[0], "2.0.0")];
        assert_eq!(duplicates(&twice), ["a is there as 1.0.0 and 2.0.0"]);
        assert_eq!(duplicates(&twice[..3]).len(), 2, "an exception that is none is named too");
    }
}
