//! Texts that follow a model in the initial ramdisk, each behind a line with its name and its length: `crlf 20`.
//!
//! A kernel command line is too short for them, and says none that is not UTF-8.

/// The texts one by one, by their names; ends at the first that is not whole.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'t> {
    rest: &'t [u8],
}

impl<'t> Texts<'t> {
    /// The texts in `bytes`.
    pub fn new(bytes: &'t [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'t> Iterator for Texts<'t> {
    type Item = (&'t str, &'t [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = self.rest.split_at_checked(end)?;
        let (name, n_bytes) = core::str::from_utf8(line).ok()?.split_once(' ')?;
        let (text, rest) = rest.get(1..)?.split_at_checked(n_bytes.parse().ok()?)?;
        self.rest = rest;
        Some((name, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8]) -> Vec<(&str, &[u8])> {
        Texts::new(bytes).collect()
    }

    #[test]
    fn each_is_as_long_as_its_line_says() {
        let all = texts(b"lines 3\n\n\n\nnone 0\nbytes 2\n\xff\0");
        assert_eq!(all, [("lines", &b"\n\n\n"[..]), ("none", b""), ("bytes", b"\xff\0")]);
        assert!(texts(b"").is_empty());
    }

    #[test]
    fn what_is_not_whole_is_no_text() {
        for end in ["x 3\nab", "x\nab", "x 2", "x -1\nab", "x two\nab", "\nab"] {
            assert_eq!(texts(format!("a 1\nb{end}").as_bytes()), [("a", &b"b"[..])], "{end}");
        }
    }
}
