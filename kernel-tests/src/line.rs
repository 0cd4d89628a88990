//! The line editor: bytes from a terminal in, an edited line and the bytes to echo out.
//!
//! Backspace and Delete take the last character, Ctrl-U the line, Ctrl-C gives up, the arrows up and down go through the
//! last few lines. Text is UTF-8; a character is taken back whole.

use heapless::{Deque, String, Vec};

/// Longest line, in bytes.
pub const MAX_LINE: usize = 256;
const MAX_HISTORY: usize = 8;

/// What a byte did to the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edit {
    /// Nothing that shows.
    Ignored,
    /// A character was added: echo [`LineEditor::line`]'s last character.
    Added,
    /// The last character was taken back.
    Removed,
    /// The line is another one: show it in place of the old, which was this many characters long.
    Replaced {
        /// Characters on the screen.
        old_chars: usize,
    },
    /// Ctrl-C: the line is empty again.
    Cancelled,
    /// Enter: the line is complete; call [`LineEditor::take`].
    Complete,
}

/// A line under way and the lines before it.
#[derive(Debug, Default)]
pub struct LineEditor {
    line: String<MAX_LINE>,
    /// Bytes of a character that is not complete.
    pending: Vec<u8, 4>,
    history: Deque<String<MAX_LINE>, MAX_HISTORY>,
    /// How many lines back the arrows have gone.
    back: usize,
    escape: Escape,
    was_return: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Started,
    Bracket,
}

impl LineEditor {
    /// The line so far.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Takes the line, leaves an empty one, and remembers it.
    pub fn take(&mut self) -> String<MAX_LINE> {
        let line = core::mem::take(&mut self.line);
        self.back = 0;
        if !line.is_empty() && self.history.back() != Some(&line) {
            if self.history.is_full() {
                self.history.pop_front();
            }
            let _ = self.history.push_back(line.clone());
        }
        line
    }

    /// Handles one byte from the terminal.
    pub fn push(&mut self, byte: u8) -> Edit {
        // A terminal that sends CR LF means one Enter.
        let is_second_half = byte == b'\n' && self.was_return;
        self.was_return = byte == b'\r';
        match (self.escape, byte) {
            (Escape::Started, b'[') => {
                self.escape = Escape::Bracket;
                return Edit::Ignored;
            }
            (Escape::Bracket, b'0'..=b'9' | b';') => return Edit::Ignored,
            (Escape::Bracket, _) => {
                self.escape = Escape::None;
                return match byte {
                    b'A' => self.recall(self.back + 1),
                    b'B' => self.recall(self.back.saturating_sub(1)),
                    _ => Edit::Ignored,
                };
            }
            _ => self.escape = Escape::None,
        }
        if byte >= 0x80 {
            return self.push_utf8(byte);
        }
        self.pending.clear();
        match byte {
            b'\n' if is_second_half => Edit::Ignored,
            b'\r' | b'\n' => Edit::Complete,
            0x08 | 0x7f => self.line.pop().map_or(Edit::Ignored, |_| Edit::Removed),
            0x03 => {
                self.line.clear();
                self.back = 0;
                Edit::Cancelled
            }
            0x15 => self.replace(String::new()),
            0x1b => {
                self.escape = Escape::Started;
                Edit::Ignored
            }
            b' '..=b'~' => self.add(char::from(byte)),
            _ => Edit::Ignored,
        }
    }

    fn push_utf8(&mut self, byte: u8) -> Edit {
        if byte >= 0xc0 || self.pending.is_full() {
            self.pending.clear();
        }
        let _ = self.pending.push(byte);
        let Ok(text) = core::str::from_utf8(&self.pending) else { return Edit::Ignored };
        let Some(c) = text.chars().next() else { return Edit::Ignored };
        self.pending.clear();
        self.add(c)
    }

    fn add(&mut self, c: char) -> Edit {
        self.line.push(c).map_or(Edit::Ignored, |()| Edit::Added)
    }

    fn recall(&mut self, back: usize) -> Edit {
        let line = match back {
            0 => String::new(),
            _ => match self.history.iter().rev().nth(back - 1) {
                Some(line) => line.clone(),
                None => return Edit::Ignored,
            },
        };
        self.back = back;
        self.replace(line)
    }

    fn replace(&mut self, line: String<MAX_LINE>) -> Edit {
        let old_chars = self.line.chars().count();
        self.line = line;
        Edit::Replaced { old_chars }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(editor: &mut LineEditor, bytes: &[u8]) -> Edit {
        bytes.iter().fold(Edit::Ignored, |_, byte| editor.push(*byte))
    }

    #[test]
    fn backspace_takes_whole_characters() {
        let mut editor = LineEditor::default();
        typed(&mut editor, "aé€\x7f\x08b".as_bytes());
        assert_eq!(editor.line(), "ab");
        assert_eq!(typed(&mut editor, b"\x7f\x7f\x7f"), Edit::Ignored);
    }

    #[test]
    fn the_line_has_a_limit() {
        let mut editor = LineEditor::default();
        assert_eq!(typed(&mut editor, &[b'x'; MAX_LINE + 1]), Edit::Ignored);
        assert_eq!(editor.line().len(), MAX_LINE);
        assert_eq!(editor.push(b'\r'), Edit::Complete);
        assert_eq!(editor.push(b'\n'), Edit::Ignored);
    }

    #[test]
    fn control_keys_clear() {
        let mut editor = LineEditor::default();
        typed(&mut editor, b"abc");
        assert_eq!(editor.push(0x15), Edit::Replaced { old_chars: 3 });
        typed(&mut editor, b"abc");
        assert_eq!(editor.push(0x03), Edit::Cancelled);
        assert_eq!(editor.line(), "");
    }

    #[test]
    fn arrows_go_through_the_last_lines() {
        let mut editor = LineEditor::default();
        for line in 0..MAX_HISTORY + 2 {
            typed(&mut editor, format!("line {line}\r").as_bytes());
            editor.take();
        }
        typed(&mut editor, b"\x1b[A\x1b[A");
        assert_eq!(editor.line(), "line 8");
        typed(&mut editor, b"\x1b[B");
        assert_eq!(editor.line(), "line 9");
        typed(&mut editor, b"\x1b[B");
        assert_eq!(editor.line(), "");
        for _ in 0..20 {
            typed(&mut editor, b"\x1b[A");
        }
        assert_eq!(editor.line(), "line 2");
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut editor = LineEditor::default();
        for n in 0..200_000_u32 {
            editor.push((n.wrapping_mul(2_654_435_761) >> 13) as u8);
        }
    }
}
