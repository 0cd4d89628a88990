//! Expressions one after the other: each splits the pieces of the one before.

use super::ahead::Ahead;
use super::chars::Chars;
use super::deepseek::Deepseek;
use super::gpt2::{Gpt2, gpt2};
use super::punctuated::{Newlines, punctuated};
use super::ranges::HAN_CHARS;
use super::starts::Starts;
use super::words::{InAscii, KIMI_K2, LLAMA3, QWEN2, Style, words, words_ahead};
use super::{chameleon, digits, isolate, jais2};

/// An expression, by the function that scans for it.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// See [`gpt2`].
    Gpt2,
    /// [`LLAMA3`]
    Llama3,
    /// [`QWEN2`]
    Qwen2,
    /// See [`words`].
    Words(&'static Style),
    /// `[\p{Han}]+` or [`KIMI_K2`]
    KimiK2,
    /// See [`punctuated`].
    Punctuated(Newlines),
    /// See [`Deepseek`].
    Deepseek(Deepseek),
    /// `[chars]`
    Each(&'static Chars),
    /// `[chars]+`
    Runs(&'static Chars),
    /// See [`isolate::runs_of`].
    RunsOf(&'static [&'static Chars]),
    /// `[chars]{1,3}`
    Threes(&'static Chars),
    /// ` ?[chars]+`
    LedByBlank(&'static Chars),
    /// `[^\n]+|[\n]+`
    Lines,
    /// See [`digits::triples`].
    Triples,
    /// See [`digits::grouped`].
    Grouped,
    /// See [`digits::grouped_triples`].
    GroupedTriples,
    /// See [`digits::numbers`].
    Numbers,
    /// See [`digits::numbers_by_threes`].
    NumbersByThrees,
    /// See [`jais2::white_by_powers`].
    WhiteByPowers,
    /// See [`chameleon::sentinels`].
    Sentinels,
    /// See [`chameleon::images`].
    Images,
    /// See [`chameleon::indents`].
    Indents,
}

impl Stage {
    /// Writes where pieces end to `ends`, the first of which begins at `at`: matches and what stands between them, as many
    /// as there is room for. When there are fewer, a 0 follows. `starts` is what it knows ahead.
    fn cut(self, text: &[u8], at: usize, starts: &mut Starts, ends: &mut [usize]) {
        match self {
            Self::Gpt2 => starts.cut::<Gpt2>(text, at, ends, gpt2),
            Self::Llama3 => starts.cut::<InAscii<3>>(text, at, ends, |text, at| words(text, at, &LLAMA3)),
            Self::Qwen2 => starts.cut::<InAscii<1>>(text, at, ends, |text, at| words(text, at, &QWEN2)),
            Self::Words(style) if style.is_plain() => {
                let scan = |text: &[u8], at| words(text, at, style);
                match style.max_digits() {
                    1 => starts.cut::<InAscii<1>>(text, at, ends, scan),
                    _ => starts.cut::<InAscii<3>>(text, at, ends, scan),
                }
            }
            Self::Words(style) => cut(text, at, ends, |text, at, ahead| words_ahead(text, at, style, ahead)),
            Self::KimiK2 => cut(text, at, ends, |text, at, ahead| match HAN_CHARS.one(text, at) {
                Some(next) => HAN_CHARS.run(text, next),
                None => words_ahead(text, at, &KIMI_K2, ahead),
            }),
            Self::Punctuated(newlines) => {
                cut(text, at, ends, |text, at, ahead| punctuated(text, at, newlines, ahead))
            }
            Self::Deepseek(model) => cut(text, at, ends, |text, at, _| model.scan(text, at)),
            Self::Each(chars) => cut(text, at, ends, |text, at, _| isolate::each(text, at, chars)),
            Self::Runs(chars) => cut(text, at, ends, |text, at, _| isolate::runs(text, at, chars)),
            Self::RunsOf(sets) => cut(text, at, ends, |text, at, _| isolate::runs_of(text, at, sets)),
            Self::Threes(chars) => cut(text, at, ends, |text, at, _| isolate::threes(text, at, chars)),
            Self::LedByBlank(chars) => {
                cut(text, at, ends, |text, at, _| isolate::led_by_blank(text, at, chars))
            }
            Self::Lines => cut(text, at, ends, |text, at, _| isolate::lines(text, at)),
            Self::Triples => cut(text, at, ends, |text, at, _| digits::triples(text, at)),
            Self::Grouped => cut(text, at, ends, |text, at, _| digits::grouped(text, at)),
            Self::GroupedTriples => cut(text, at, ends, |text, at, _| digits::grouped_triples(text, at)),
            Self::Numbers => cut(text, at, ends, |text, at, _| digits::numbers(text, at)),
            Self::NumbersByThrees => cut(text, at, ends, |text, at, _| digits::numbers_by_threes(text, at)),
            Self::WhiteByPowers => cut(text, at, ends, |text, at, _| jais2::white_by_powers(text, at)),
            Self::Sentinels => cut(text, at, ends, |text, at, _| chameleon::sentinels(text, at)),
            Self::Images => cut(text, at, ends, |text, at, _| chameleon::images(text, at)),
            Self::Indents => cut(text, at, ends, |text, at, _| chameleon::indents(text, at)),
        }
    }

    /// How many runs of characters of a kind must stand behind the end of a piece, the last of which may go on, so that no
    /// text behind them changes the piece: see [`certain`](super::certain).
    pub fn looks_ahead(self) -> usize {
        match self {
            // `<`, letters, `:`, digits and `>`
            Self::Sentinels => 5,
            // An apostrophe and letters, or a space and what follows it.
            Self::Gpt2
            | Self::Llama3
            | Self::Qwen2
            | Self::Words(_)
            | Self::KimiK2
            | Self::Punctuated(_)
            | Self::Deepseek(_)
            | Self::LedByBlank(_) => 3,
            Self::Each(_)
            | Self::Runs(_)
            | Self::RunsOf(_)
            | Self::Threes(_)
            | Self::Lines
            | Self::Triples
            | Self::Grouped
            | Self::GroupedTriples
            | Self::Numbers
            | Self::NumbersByThrees
            | Self::WhiteByPowers
            | Self::Images
            | Self::Indents => 1,
        }
    }
}

/// As [`Stage::cut`]; `scan` gives where the piece ends that begins at a place. Each scanner has such a loop of its own.
#[inline(never)]
fn cut(text: &[u8], at: usize, ends: &mut [usize], scan: impl Fn(&[u8], usize, &mut Ahead) -> usize) {
    let mut at = at;
    let mut ahead = Ahead::default();
    for end in ends {
        if at >= text.len() {
            *end = 0;
            return;
        }
        at = scan(text, at, &mut ahead);
        *end = at;
    }
}

/// No pre-tokenizer has more expressions.
pub const MAX_STAGES: usize = 6;

/// Where the pieces of a text end: one after the other they are the text, and none is empty.
#[derive(Clone, Debug)]
pub struct Ends<'t> {
    text: &'t [u8],
    /// Where the next piece begins.
    start: usize,
    /// All expressions but the last, and what they have cut.
    stages: &'static [Stage],
    cuts: [Cuts; MAX_STAGES - 1],
    /// The last, and what it knows ahead.
    last: Stage,
    starts: Starts,
    ends: [usize; 32],
    /// How many of them were found.
    n_found: usize,
}

impl<'t> Ends<'t> {
    pub(super) fn new(stages: &'static [Stage], text: &'t [u8]) -> Self {
        let (last, stages) = stages.split_last().unwrap_or((&Stage::Lines, &[]));
        let cuts = [Cuts::NONE; MAX_STAGES - 1];
        Self { text, start: 0, stages, cuts, last: *last, starts: Starts::NONE, ends: [0; 32], n_found: 0 }
    }

    /// Finds the ends of the next pieces; of none behind the last one.
    #[inline(never)]
    pub fn find(&mut self) -> &[usize] {
        let mut text = self.text;
        for (stage, cuts) in self.stages.iter().zip(&mut self.cuts) {
            text = text.get(..cuts.end(*stage, text, self.start)).unwrap_or_default();
        }
        self.last.cut(text, self.start, &mut self.starts, &mut self.ends);
        self.n_found = if self.ends[0] > self.start {
            self.ends.iter().position(|&end| end == 0).unwrap_or(self.ends.len())
        } else {
            // A scanner that did not move would not end: all that is left is a piece then.
            self.ends[0] = text.len();
            (text.len() > self.start).into()
        };
        self.start = self.found().last().copied().unwrap_or(self.start);
        self.found()
    }

    /// What [`Ends::find`] gave.
    #[inline]
    fn found(&self) -> &[usize] {
        self.ends.get(..self.n_found).unwrap_or_default()
    }
}

/// Where pieces end, from `at` on and up to a 0: a scanner is faster when it cuts several at a time.
#[derive(Clone, Debug)]
struct Cuts {
    ends: [usize; 8],
    at: usize,
}

impl Cuts {
    const NONE: Self = Self { ends: [0; 8], at: 0 };

    /// Where the piece ends that `start` is in; cuts it if need be, and more, of a text that ends with it or after it.
    #[inline]
    fn end(&mut self, stage: Stage, text: &[u8], start: usize) -> usize {
        loop {
            match self.ends.get(self.at) {
                Some(&end) if end > start => return end,
                Some(1..) => self.at += 1,
                _ => {
                    stage.cut(text, start, &mut { Starts::NONE }, &mut self.ends);
                    self.at = 0;
                    // As in `Ends::find`.
                    return self.ends.first().copied().filter(|&end| end > start).unwrap_or(text.len());
                }
            }
        }
    }
}

/// The pieces of a text.
#[derive(Clone, Debug)]
pub struct Pieces<'t> {
    ends: Ends<'t>,
    /// How many of the ends that were found have been given.
    n_given: usize,
    /// Where the next piece begins.
    start: usize,
}

impl<'t> Pieces<'t> {
    pub(super) fn new(ends: Ends<'t>) -> Self {
        Self { ends, n_given: 0, start: 0 }
    }
}

impl<'t> Iterator for Pieces<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        if self.n_given >= self.ends.found().len() {
            self.ends.find();
            self.n_given = 0;
        }
        let end = *self.ends.found().get(self.n_given)?;
        self.n_given = self.n_given.saturating_add(1);
        self.ends.text.get(core::mem::replace(&mut self.start, end)..end)
    }
}
