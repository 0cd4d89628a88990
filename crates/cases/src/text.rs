//! A short text on the stack.

use core::fmt;

/// Up to `N` bytes of text; writing more is an error of the write.
#[derive(Clone, Copy, Debug)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// No text.
    pub const EMPTY: Text<N> = Text { bytes: [0; N], len: 0 };

    /// The text of `arguments`; as much of it as whole parts fit.
    pub fn format(arguments: fmt::Arguments<'_>) -> Text<N> {
        let mut text = Text::EMPTY;
        let fits = fmt::write(&mut text, arguments);
        debug_assert!(fits.is_ok(), "text longer than {N} bytes");
        text
    }

    /// Appends one character, if it fits.
    pub fn push(&mut self, character: char) {
        let fits = fmt::Write::write_char(self, character);
        debug_assert!(fits.is_ok(), "text longer than {N} bytes");
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl<const N: usize> AsRef<[u8]> for Text<N> {
    fn as_ref(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.len + part.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
