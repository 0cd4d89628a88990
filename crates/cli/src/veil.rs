//! A veil over what messages say, so that it can be found again in what a template made of it.
//!
//! Each character but white space gets a stand-in of its own from Unicode's private use areas, which neither the
//! template nor any message uses. A template trims, cuts and repeats stand-ins as it does characters, and writes none
//! itself: where one comes out, a message speaks.

use std::collections::{BTreeMap, BTreeSet};

/// A part of a rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Whether a message says it, not the template.
    pub is_content: bool,
    pub text: String,
}

/// Characters and their stand-ins.
pub struct Veil {
    stand_ins: BTreeMap<char, char>,
    characters: BTreeMap<char, char>,
}

impl Veil {
    /// Stand-ins for the characters of `messages` that are in none of the texts; `None` when there are not enough.
    pub fn over(messages: &[&str], template: &[&str]) -> Option<Veil> {
        let characters: BTreeSet<char> =
            messages.iter().flat_map(|text| text.chars()).filter(|c| !c.is_whitespace()).collect();
        let taken: BTreeSet<char> = messages.iter().chain(template).flat_map(|text| text.chars()).collect();
        let mut free =
            ('\u{F0000}'..='\u{FFFFD}').chain('\u{100000}'..='\u{10FFFD}').filter(|c| !taken.contains(c));
        let stand_ins: BTreeMap<char, char> =
            characters.into_iter().map(|c| Some((c, free.next()?))).collect::<Option<_>>()?;
        let characters = stand_ins.iter().map(|(&c, &stand_in)| (stand_in, c)).collect();
        Some(Veil { stand_ins, characters })
    }

    /// `text` with stand-ins for the characters at the byte offsets that `is_veiled`.
    pub fn put_on(&self, text: &str, is_veiled: impl Fn(usize) -> bool) -> String {
        let veiled = |(at, c)| self.stand_ins.get(&c).copied().filter(|_| is_veiled(at)).unwrap_or(c);
        text.char_indices().map(veiled).collect()
    }

    /// What is under the veil, told from the rest. White space beside it belongs to it.
    pub fn lift(&self, text: &str) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        for c in text.chars() {
            let (is_content, c) = match self.characters.get(&c) {
                Some(&c) => (true, c),
                None => (false, c),
            };
            match parts.last_mut() {
                // White space goes on as what is before it.
                Some(last) if last.is_content == is_content || last.is_content && c.is_whitespace() => {
                    last.text.push(c);
                }
                Some(last) => {
                    let before = last.text.trim_end().len();
                    let space = if is_content { last.text.split_off(before) } else { String::new() };
                    parts.push(Part { is_content, text: space + c.encode_utf8(&mut [0; 4]) });
                }
                None => parts.push(Part { is_content, text: c.into() }),
            }
        }
        parts.retain(|part| !part.text.is_empty());
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(is_content: bool, text: &str) -> Part {
        Part { is_content, text: text.into() }
    }

    #[test]
    fn what_is_veiled_is_found_again() {
        let veil = Veil::over(&[" a <b> ", "字\u{F0000}"], &["<user>"]).unwrap();
        let [first, second] = [" a <b> ", "字\u{F0000}"].map(|text| veil.put_on(text, |_| true));
        assert!(first.starts_with(' ') && first.ends_with(' ') && !first.contains(['a', '<', 'b', '>']));
        assert!(!second.contains(['字', '\u{F0000}']));
        let text = format!("<user>{first}</user>\n{}{second}!", second.trim());
        let parts = veil.lift(&text);
        assert_eq!(
            parts,
            [
                part(false, "<user>"),
                part(true, " a <b> "),
                part(false, "</user>"),
                part(true, "\n字\u{F0000}字\u{F0000}"),
                part(false, "!"),
            ]
        );
        assert_eq!(veil.lift(""), []);
        assert_eq!(veil.put_on("<b", |at| at > 0).chars().next(), Some('<'));
    }

    #[test]
    fn there_may_be_too_few_stand_ins() {
        let all: String = ('\u{F0000}'..='\u{FFFFD}').chain('\u{100000}'..='\u{10FFFD}').collect();
        assert!(Veil::over(&[&all], &[]).is_none());
        assert!(Veil::over(&["a"], &[&all[4..]]).is_some());
        assert!(Veil::over(&["ab"], &[&all[4..]]).is_none());
    }
}
