//! The patterns of the table: text with names in braces.

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Itself.
    Text(&'static str),
    /// `{role}`: the name of the message's role.
    Role,
    /// `{content}`: what the message says.
    Content,
    /// `{trimmed}`: the same without white space around it.
    Trimmed,
    /// `{hold}`: the message is written where the next pattern has `{held}`.
    Hold,
    /// `{held}`: what was held back, and an empty line behind it.
    Held,
    /// `{first}`: the message must be the first.
    First,
    /// `{end}`: the turn ends here, and the next message begins with the family's `reopen`.
    End,
}

/// The parts of a pattern. What is no name in braces is text.
pub(super) fn pieces(pattern: &'static str) -> impl Iterator<Item = Piece> {
    let mut rest = pattern;
    core::iter::from_fn(move || {
        if let Some((piece, tail)) = name(rest) {
            rest = tail;
            return Some(piece);
        }
        let brace = rest.char_indices().skip(1).find(|&(_, c)| c == '{').map_or(rest.len(), |(at, _)| at);
        let (text, tail) = rest.split_at_checked(brace)?;
        rest = tail;
        (!text.is_empty()).then_some(Piece::Text(text))
    })
}

/// Whether a message of this pattern is held back.
pub(super) fn holds(pattern: &'static str) -> bool {
    pieces(pattern).next() == Some(Piece::Hold)
}

/// The name in braces at the beginning, and what follows.
fn name(rest: &'static str) -> Option<(Piece, &'static str)> {
    const NAMES: [(&str, Piece); 7] = [
        ("{role}", Piece::Role),
        ("{content}", Piece::Content),
        ("{trimmed}", Piece::Trimmed),
        ("{hold}", Piece::Hold),
        ("{held}", Piece::Held),
        ("{first}", Piece::First),
        ("{end}", Piece::End),
    ];
    NAMES.iter().find_map(|&(name, piece)| Some((piece, rest.strip_prefix(name)?)))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn names_are_told_from_text() {
        let all = |pattern| pieces(pattern).collect::<Vec<_>>();
        assert_eq!(
            all("<{role}>{content}"),
            [Piece::Text("<"), Piece::Role, Piece::Text(">"), Piece::Content]
        );
        assert_eq!(
            all("{hold}{trimmed}{held}{first}{end}"),
            [Piece::Hold, Piece::Trimmed, Piece::Held, Piece::First, Piece::End]
        );
        assert_eq!(all("{{role}"), [Piece::Text("{"), Piece::Role]);
        assert_eq!(all("<用户>{"), [Piece::Text("<用户>"), Piece::Text("{")]);
        assert_eq!(all(""), []);
        assert!(holds("{hold}{content}") && !holds("{content}{hold}") && !holds(""));
    }
}
