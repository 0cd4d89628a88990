//! Pre-tokenizers against the expressions they stand for: cases that `tools/pre-tokenizers/generate.py` wrote.

use corelm::tokenizer::Pre;
use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read};

/// Cases for every name.
const CASES: &str = include_str!("pre_tokenizers.txt");

/// Compares the pieces of every case, in the form that the generator describes. Gives the number of comparisons, and the
/// names that were in them.
fn check(cases: impl Read) -> (usize, BTreeSet<String>) {
    let mut families: HashMap<char, Vec<Pre>> = HashMap::new();
    let (mut text, mut n, mut names) = (Vec::new(), 0, BTreeSet::new());
    for line in BufReader::new(cases).lines().map(Result::unwrap).filter(|line| !line.starts_with('#')) {
        if let Some(family) = line.strip_prefix('=') {
            let mut words = family.split(' ');
            let letter = words.next().and_then(|word| word.chars().next()).unwrap();
            let known = |name: &str| Pre::by_name(name.as_bytes()).unwrap_or_else(|| panic!("no {name}"));
            families.insert(letter, words.map(known).collect());
            continue;
        }
        let Some((letters, lengths)) = line.strip_prefix(' ').and_then(|pieces| pieces.split_once(':'))
        else {
            text = from_hex(&line);
            continue;
        };
        let want: Vec<usize> = lengths.split_whitespace().map(|len| len.parse().unwrap()).collect();
        for pre in letters.chars().flat_map(|letter| &families[&letter]) {
            let is: Vec<usize> = pre.pieces(&text).map(<[u8]>::len).collect();
            assert_eq!(is, want, "{}: {:?}", pre.name(), String::from_utf8_lossy(&text));
            n += 1;
            names.insert(pre.name().to_owned());
        }
    }
    (n, names)
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[test]
fn pieces_are_those_of_the_expressions() {
    let (n, names) = check(CASES.as_bytes());
    assert!(n > 10_000, "{n}");
    assert_eq!(names, Pre::names().map(str::to_owned).collect());
}

/// The long form: `generate.py --random N > FILE`, and `CORELM_PRE_CASES=FILE`.
#[test]
fn pieces_are_those_of_a_file() {
    let Some(path) = std::env::var_os("CORELM_PRE_CASES") else {
        println!("skipped: no CORELM_PRE_CASES");
        return;
    };
    let (n, names) = check(std::fs::File::open(path).unwrap());
    println!("{n} cases of {} names agree", names.len());
}
