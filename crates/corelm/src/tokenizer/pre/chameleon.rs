//! What Chameleon's tokenizer keeps whole or apart before anything else.

use super::isolate::gap_or;
use super::scan::{after, behind};

/// `<sentinel:[0-9]+>`
pub fn sentinels(text: &[u8], at: usize) -> usize {
    find(
        text,
        at,
        |byte| byte == b'<',
        |text| {
            let digits = text.strip_prefix(b"<sentinel:")?;
            let n = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (n > 0 && digits.get(n) == Some(&b'>')).then_some(behind(n, 10 + 1))
        },
    )
}

/// `(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z`
pub fn images(text: &[u8], at: usize) -> usize {
    find(
        text,
        at,
        |byte| byte == b'I',
        |text| {
            let letters = text.strip_prefix(b"IMGIMG")?;
            let n = letters.iter().take(4).take_while(|byte| matches!(byte, b'A'..=b'I')).count();
            (n > 0 && letters.get(n) == Some(&b'Z')).then_some(behind(n, 6 + 1))
        },
    )
}

/// `([\t\n]|    |  )`
pub fn indents(text: &[u8], at: usize) -> usize {
    find(
        text,
        at,
        |byte| matches!(byte, b'\t' | b'\n' | b' '),
        |text| match text {
            [b'\t' | b'\n', ..] => Some(1),
            [b' ', b' ', b' ', b' ', ..] => Some(4),
            [b' ', b' ', ..] => Some(2),
            _ => None,
        },
    )
}

/// Where the first match begins, or where the match at `at` ends; `len` gives the length of a match at the front, which
/// has a first byte that `begins`.
fn find(text: &[u8], at: usize, begins: impl Fn(u8) -> bool, len: impl Fn(&[u8]) -> Option<usize>) -> usize {
    let mut found = at;
    loop {
        found = behind(found, after(text, found).iter().take_while(|&&byte| !begins(byte)).count());
        let rest = after(text, found);
        match len(rest) {
            _ if rest.is_empty() => return found,
            Some(len) => return gap_or(at, found, || behind(at, len)),
            None => found = behind(found, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::pre::tests::pieces;

    #[test]
    fn pieces_are_those_of_the_expressions() {
        let split = |text| pieces("chameleon", text);
        assert_eq!(split("aIMGIMGIMGIABZb"), ["aIMG", "IMGIMGIABZ", "b"]);
        assert_eq!(split("IMGIMGABCDEZ"), ["IMGIMGABCDEZ"]);
        assert_eq!(split("a       b\t\nc"), ["a", "    ", "  ", " b", "\t", "\n", "c"]);
        assert_eq!(split("it's 12"), ["it", "'", "s", " ", "1", "2"]);
        // A sentinel does not stay whole: what comes behind takes out digits and signs.
        assert_eq!(split("x<sentinel:12>y"), ["x", "<", "sentinel", ":", "1", "2", ">", "y"]);
        let ends = [0, 1, 14].map(|at| super::sentinels(b"x<sentinel:12><sentinel:>", at));
        assert_eq!(ends, [1, 14, 25]);
    }
}
