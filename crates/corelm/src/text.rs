//! Bytes of text: what `str` knows how to do, for text that need not be UTF-8.

/// Whether `part` stands in `text`.
pub(crate) fn contains(text: &[u8], part: &[u8]) -> bool {
    let Some((first, rest)) = part.split_first() else { return true };
    let mut left = text;
    while let Some(at) = left.iter().position(|byte| byte == first) {
        left = left.get(at.saturating_add(1)..).unwrap_or_default();
        if left.starts_with(rest) {
            return true;
        }
    }
    false
}

/// `text` without the white space of C (`isspace`) around it.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let mut left = text;
    while let [b' ' | b'\t'..=b'\r', rest @ ..] | [rest @ .., b' ' | b'\t'..=b'\r'] = left {
        left = rest;
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        assert!(
            contains(b"aab", b"ab") && contains(b"ab", b"ab") && contains(b"ab", b"") && contains(b"", b"")
        );
        assert!(!contains(b"aba", b"abb") && !contains(b"a", b"ab") && !contains(b"", b"a"));
    }

    #[test]
    fn white_space_is_that_of_c() {
        assert_eq!(trim(b" \t\n\x0b\x0c\ra b\r\n "), b"a b");
        assert_eq!(trim(b" \n "), b"");
        assert_eq!(trim("\u{a0}a\u{85}".as_bytes()), "\u{a0}a\u{85}".as_bytes());
    }
}
