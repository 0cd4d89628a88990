//! Counts of lines and branches in the format of lcov, as far as `llvm-cov` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A line, the number of a decision in it, and of one of its outcomes.
pub type Branch = (usize, String, String);

/// Counts of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// How often each line was run that has code.
    pub lines: BTreeMap<usize, u64>,
    /// How often each branch was taken.
    pub branches: BTreeMap<Branch, u64>,
}

/// The counts of all files; where a file is told more than once, counts are added.
pub fn read(text: &str) -> BTreeMap<PathBuf, File> {
    let mut files: BTreeMap<PathBuf, File> = BTreeMap::new();
    let mut file = PathBuf::new();
    for line in text.lines() {
        let Some((kind, rest)) = line.split_once(':') else { continue };
        let fields: Vec<&str> = rest.split(',').collect();
        let count = |field: &str| field.parse::<u64>().unwrap_or(0); // `-`: the decision was never come by
        match (kind, &fields[..]) {
            ("SF", _) => file = PathBuf::from(rest),
            ("DA", [line, n, ..]) => {
                let Ok(line) = line.parse() else { continue };
                *files.entry(file.clone()).or_default().lines.entry(line).or_default() += count(n);
            }
            ("BRDA", [line, decision, outcome, n]) => {
                let Ok(line) = line.parse() else { continue };
                let branch = (line, (*decision).to_owned(), (*outcome).to_owned());
                *files.entry(file.clone()).or_default().branches.entry(branch).or_default() += count(n);
            }
            _ => {}
        }
    }
    files
}

/// Lines of functions that the compiler evaluates: `const fn`s of whose lines none was run.
pub fn constants(source: &[&str], counts: &BTreeMap<usize, u64>) -> BTreeSet<usize> {
    let mut constants = BTreeSet::new();
    let mut n = 0;
    while n < source.len() {
        let begin = n;
        n += 1;
        let words: Vec<&str> = source[begin].split_whitespace().take(4).collect();
        if !words.windows(2).any(|pair| pair == ["const", "fn"]) {
            continue;
        }
        let (mut depth, mut end) = (0i32, begin);
        for (i, line) in source.iter().enumerate().skip(begin) {
            let count = |c| i32::try_from(line.matches(c).count()).unwrap_or(0);
            depth += count('{') - count('}');
            end = i;
            if depth == 0 && line.contains('}') {
                break;
            }
        }
        let own = begin + 1..=end + 1;
        if counts.range(own.clone()).all(|(_, &count)| count == 0) {
            constants.extend(own);
        }
    }
    constants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_and_added() {
        let text = "SF:/a.rs\nFN:1,x\nDA:1,2\nDA:2,0\nBRDA:2,0,0,1\nBRDA:2,0,1,-\nend_of_record\nSF:/a.rs\nDA:2,3\nLF:2\n";
        let files = read(text);
        let file = &files[&PathBuf::from("/a.rs")];
        assert_eq!(file.lines, BTreeMap::from([(1, 2), (2, 3)]));
        let counts: Vec<u64> = file.branches.values().copied().collect();
        assert_eq!(counts, [1, 0]);
    }

    #[test]
    fn constants_are_functions_that_nothing_runs() {
        let source =
            ["pub const fn a() -> u8 {", "1", "}", "const fn b() {", "if x {", "}", "}", "fn c() {", "}"];
        let counts = BTreeMap::from([(1, 0), (2, 0), (4, 1), (5, 0), (8, 0)]);
        assert_eq!(constants(&source, &counts), BTreeSet::from([1, 2, 3]));
        let counts = BTreeMap::from([(4, 0), (5, 0), (6, 0)]);
        assert_eq!(constants(&source, &counts), BTreeSet::from([1, 2, 3, 4, 5, 6, 7]));
    }
}
