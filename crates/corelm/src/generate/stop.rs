//! Stop strings in a stream of text: what could be the beginning of one is held back until that is ruled out.
//!
//! Held-back text is always the beginning of a stop string, so it needs no buffer: an index and a length say it all.

use core::ops::ControlFlow;

/// Passes text on, up to the first stop string.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopFilter<'g> {
    stops: &'g [&'g str],
    /// The text held back: the first `.1` bytes of stop string `.0`.
    held: (usize, usize),
}

/// Why no more text will be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// This stop string is complete.
    Stop(usize),
    /// The receiver wants no more.
    Cancelled,
}

/// Receives text.
pub(super) type Emit<'e> = dyn FnMut(&str) -> ControlFlow<()> + 'e;

impl<'g> StopFilter<'g> {
    /// Looks for `stops`; empty ones are never found.
    pub(super) fn new(stops: &'g [&'g str]) -> Self {
        Self { stops, held: (0, 0) }
    }

    /// Takes in `text`; passes on what cannot belong to a stop string.
    pub(super) fn push(&mut self, text: &str, emit: &mut Emit<'_>) -> ControlFlow<Halt> {
        let mut plain_start = 0; // what lies from here on is neither passed on nor held back
        for (at, c) in text.char_indices() {
            let mut bytes = [0; 4];
            let c = &*c.encode_utf8(&mut bytes);
            let held = self.held();
            let Some((start, stop)) = self.find(held, c) else {
                if !held.is_empty() {
                    self.held = (0, 0);
                    pass(held, emit)?;
                    plain_start = at;
                }
                continue;
            };
            if held.is_empty() {
                pass(text.get(plain_start..at).unwrap_or_default(), emit)?;
            }
            pass(held.get(..start).unwrap_or_default(), emit)?;
            let len = held.len().saturating_sub(start).saturating_add(c.len());
            self.held = (stop, len);
            plain_start = at.saturating_add(c.len());
            if self.stops.get(stop).is_some_and(|stop| stop.len() == len) {
                self.held = (0, 0);
                return ControlFlow::Break(Halt::Stop(stop));
            }
        }
        if self.held().is_empty() {
            pass(text.get(plain_start..).unwrap_or_default(), emit)?;
        }
        ControlFlow::Continue(())
    }

    /// No more text comes: passes on what is held back.
    pub(super) fn finish(&mut self, emit: &mut Emit<'_>) -> ControlFlow<Halt> {
        let held = self.held();
        self.held = (0, 0);
        pass(held, emit)
    }

    fn held(&self) -> &'g str {
        self.stops.get(self.held.0).and_then(|stop| stop.get(..self.held.1)).unwrap_or_default()
    }

    /// Where in `held + c` a stop string ends with `c`, or else begins and is not ruled out; and which one.
    fn find(&self, held: &str, c: &str) -> Option<(usize, usize)> {
        let starts = || (0..=held.len()).filter(|&start| held.is_char_boundary(start));
        let find = |is_whole: bool| {
            starts().find_map(|start| {
                let tail = held.get(start..)?;
                let begins = |stop: &&str| match stop.strip_prefix(tail).and_then(|rest| rest.strip_prefix(c))
                {
                    Some(rest) => rest.is_empty() || !is_whole,
                    None => false,
                };
                Some((start, self.stops.iter().position(begins)?))
            })
        };
        find(true).or_else(|| find(false))
    }
}

fn pass(text: &str, emit: &mut Emit<'_>) -> ControlFlow<Halt> {
    if text.is_empty() || emit(text).is_continue() {
        return ControlFlow::Continue(());
    }
    ControlFlow::Break(Halt::Cancelled)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    /// Text passed on and the stop string met, when `text` comes in pieces of `len` characters.
    fn filter(stops: &[&str], text: &str, len: usize) -> (String, Option<usize>) {
        let mut out = String::new();
        let mut emit = |text: &str| {
            assert!(!text.is_empty());
            out.push_str(text);
            ControlFlow::Continue(())
        };
        let mut filter = StopFilter::new(stops);
        let chars: std::vec::Vec<char> = text.chars().collect();
        for piece in chars.chunks(len) {
            let piece: String = piece.iter().collect();
            if let ControlFlow::Break(Halt::Stop(stop)) = filter.push(&piece, &mut emit) {
                return (out, Some(stop));
            }
        }
        assert!(filter.finish(&mut emit).is_continue());
        (out, None)
    }

    #[test]
    fn text_ends_before_the_first_stop_string_to_end() {
        let cases: [(&[&str], &str, &str, Option<usize>); 10] = [
            (&[], "plain", "plain", None),
            (&["</s>"], "a < b </s> c", "a < b ", Some(0)),
            (&["</s>"], "</s", "</s", None),
            (&["aab"], "aaaab!", "aa", Some(0)),
            (&["abcd", "bc"], "xabcx", "xa", Some(1)),
            (&["abcd", "bc"], "xabd", "xabd", None),
            (&["ab", "abc"], "abc", "", Some(0)),
            (&["", "é!"], "né né!", "né n", Some(1)),
            (&["\n\n"], "one\ntwo\n\nthree", "one\ntwo", Some(0)),
            (&["User:", "Us"], "Use", "", Some(1)),
        ];
        for (stops, text, want, stop) in cases {
            for len in 1..=text.len() {
                assert_eq!(filter(stops, text, len), (want.into(), stop), "{text} by {len}");
            }
        }
    }

    #[test]
    fn every_text_over_two_letters() {
        let stops = ["abba", "bab", "aaa"];
        for bits in 0..1u32 << 12 {
            let text: String = (0..12).map(|i| if bits >> i & 1 == 1 { 'a' } else { 'b' }).collect();
            let ends = |stop: &&str| text.find(*stop).map(|start| (start + stop.len(), start));
            let first = stops.iter().filter_map(ends).min();
            let want = first.map_or(&*text, |(_, start)| &text[..start]);
            assert_eq!(filter(&stops, &text, 5).0, want, "{text}");
        }
    }

    #[test]
    fn what_is_ruled_out_comes_at_once_and_no_more_after_a_refusal() {
        let mut filter = StopFilter::new(&["stop"]);
        let mut n = 0;
        let mut emit = |_: &str| {
            n += 1;
            ControlFlow::Break(())
        };
        assert_eq!(filter.push("st", &mut emit), ControlFlow::Continue(()));
        assert_eq!(filter.push("st", &mut emit), ControlFlow::Break(Halt::Cancelled));
        assert_eq!(n, 1);
    }
}
