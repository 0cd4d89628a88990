//! Target `tokenizer`: a text by one of the small vocabularies, whole and in parts, without control tokens and with them, and
//! back; and tokens that no text has given.
//!
//! An input begins with six bytes of choices: the vocabulary, where parts end (three), control tokens, and what is to be
//! done with the rest; this is the text, or tokens.

use std::mem::MaybeUninit;
use std::sync::OnceLock;

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::error::TokenizeError;
use corelm::gguf::Image;
use corelm::tokenizer::{
    Chunk, Controls, Encoded, Encoder, Prompt, Scratch, Span, Specials, TokenKind, Tokenizer, Utf8Stream,
};

use crate::input::Input;
use crate::vocabularies::{self, Back, CONTROLS};

/// A tokenizer that lasts as long as the program.
struct Loaded {
    name: &'static str,
    tokenizer: Tokenizer<'static, 'static>,
    back: Back,
    /// Every second control token.
    some: Vec<Token>,
}

fn loaded() -> &'static [Loaded] {
    static LOADED: OnceLock<Vec<Loaded>> = OnceLock::new();
    LOADED.get_or_init(|| {
        let load = |vocabularies::Made { name, file, back }| {
            let image = Image::parse(file.leak()).expect(name);
            let layout = Tokenizer::layout(&image, Layout::new()).expect(name);
            let region = vec![MaybeUninit::uninit(); layout.bytes()].leak();
            let tokenizer = Tokenizer::new(&image, &mut Arena::new(region)).expect(name);
            Loaded { name, tokenizer, back, some: vocabularies::some_controls(&tokenizer) }
        };
        vocabularies::all().into_iter().map(load).collect()
    })
}

/// Words of several languages, names of control tokens, bytes that are no text; for each vocabulary.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 8] = [
        b"the<|im_start|>user\nHello, <tool>World! 12345<|im_end|>",
        "  \n\n\t l'été № ½ 中文 字\u{301} é\u{200d}👩‍💻 ﷺ it's I'LL".as_bytes(),
        b"\xff\xfe<\x80>\xc0\xae\xed\xa0\x80\xf4\x90\x80\x80\xe2\x96",
        "▁the ▁▁<s></s>[INST] <unk><0x41>".as_bytes(),
        b"a\r\n \r\n  b   c\x00\x7f\\n\\x41'\"",
        "Ünïcödé ΑΣ ß İ ﬁ ｆｕｌｌ １２ ㎏".as_bytes(),
        b"ThisIsCamelCase HTTPServer fn main() { x += 1_000; }",
        b"the the the the the",
    ];
    let seed = |i: usize| {
        let (vocabulary, text) = (i % loaded().len(), i / loaded().len());
        [&[vocabulary as u8, 1, 7, 30, i as u8, i as u8 / 3][..], texts[text]].concat()
    };
    // Found once: the name of a token that is allowed keeps its own U+2581, beside another one.
    let found = [&[7, 30, 111, 114, 1, 1][..], "▁<｜end▁of▁sentence｜>".as_bytes()].concat();
    (0..loaded().len() * texts.len()).map(seed).chain([found]).collect()
}

/// Panics unless the tokens of a text are as promised.
pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let vocabulary = &loaded()[input.below(loaded().len())];
    let parts = [input.byte(), input.byte(), input.byte()];
    let (specials, action) = (input.below(3), input.below(4));
    if action == 3 {
        return check_any_tokens(vocabulary, &mut input);
    }
    let text = input.rest();
    let layout = vocabulary.tokenizer.scratch_layout(text.len(), Layout::new()).expect("a short text");
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut arena = Arena::new(&mut region);
    let scratch = vocabulary.tokenizer.scratch(text.len(), &mut arena).expect("as much as was asked for");
    assert_eq!(arena.stats().used, layout.used());
    let mut check = Check { vocabulary, text, scratch, parts };
    let specials = match specials {
        0 => Specials::Never,
        1 => Specials::All,
        _ => Specials::Only(&vocabulary.some),
    };
    let plain = check.whole(Specials::Never);
    check.is_plain(&plain);
    match action {
        0 => check.parts_are_the_whole(Specials::Never, &plain),
        1 if specials != Specials::Never => {
            let tokens = check.whole(specials);
            check.is_allowed(specials, &tokens);
            check.parts_are_the_whole(specials, &tokens);
        }
        1 => {}
        _ => check.contents_stay_text(),
    }
    // Whatever was done in between, it left nothing behind in the working memory.
    assert_eq!(check.encode(Specials::Never), plain);
}

struct Check<'t> {
    vocabulary: &'static Loaded,
    text: &'t [u8],
    scratch: Scratch<'t>,
    parts: [u8; 3],
}

impl Check<'_> {
    /// The tokens of the text.
    fn encode(&mut self, specials: Specials<'_>) -> Vec<Token> {
        let Loaded { name, tokenizer, .. } = self.vocabulary;
        let mut tokens = vec![Token::MAX; self.text.len() + 1];
        match tokenizer.encode(self.text, specials, &mut self.scratch, &mut tokens) {
            Ok(n) => tokens.truncate(n),
            Err(TokenizeError::OutputFull { need, have }) => {
                assert!(have == tokens.len() && need > have, "{name}: {need} for {have}");
                tokens.resize(need, Token::MAX);
                let n = tokenizer.encode(self.text, specials, &mut self.scratch, &mut tokens);
                assert_eq!(n, Ok(need), "{name}");
            }
            Err(error) => panic!("{name}: {error}"), // every vocabulary here has all bytes, or an unknown token
        }
        assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocab_size()), "{name}: {tokens:?}");
        tokens
    }

    /// The tokens of the text, if counting, cutting and locating them say the same.
    fn whole(&mut self, specials: Specials<'_>) -> Vec<Token> {
        let tokens = self.encode(specials);
        let Loaded { name, tokenizer, back, .. } = self.vocabulary;
        let (text, scratch, need) = (self.text, &mut self.scratch, tokens.len());
        let few = usize::from(self.parts[0]).min(need);
        let mut out = vec![Token::MAX; few];
        let full = if few < need { Err(TokenizeError::OutputFull { need, have: few }) } else { Ok(need) };
        assert_eq!(tokenizer.encode(text, specials, scratch, &mut out), full, "{name}");
        assert_eq!(out, tokens[..few], "{name}");

        let (mut out, mut spans) = (vec![Token::MAX; need], vec![Span { start: 9, end: 9 }; need]);
        let n = tokenizer.encode_with_spans(text, specials, scratch, &mut out, &mut spans);
        assert_eq!((n, &out), (Ok(need), &tokens), "{name}");
        // They go up, and leave nothing out but what the model drops; what it makes several tokens of they share.
        let is_exact = *back != Back::Normalized && specials == Specials::Never;
        let mut last = Span::default();
        for &span in &spans {
            let least = if *back == Back::Normalized { last.start } else { last.end };
            let begins_right = if is_exact { span.start == last.end } else { span.start >= least };
            let is_inside = span.start <= span.end && last.end <= span.end && span.end <= text.len();
            assert!(begins_right && is_inside, "{name}: {spans:?}");
            last = span;
        }
        assert!(last.end == text.len() || !is_exact, "{name}: {spans:?} of {}", text.len());
        let mut few_spans = vec![Span { start: 9, end: 9 }; few];
        assert_eq!(tokenizer.encode_with_spans(text, specials, scratch, &mut out, &mut few_spans), full);
        assert_eq!(few_spans, spans[..few], "{name}");
        tokens
    }

    /// No token is a control token, and together they are the text.
    fn is_plain(&self, tokens: &[Token]) {
        let Loaded { name, tokenizer, back, .. } = self.vocabulary;
        for &token in tokens {
            let kind = tokenizer.kind(token).expect("checked");
            // Text without a token is unknown, and in WordPiece files the unknown token is a control token.
            let is_unknown = *back == Back::Normalized
                && (kind == TokenKind::Unknown || tokenizer.token(b"[UNK]") == Some(token));
            let is_text = !matches!(kind, TokenKind::Control | TokenKind::Unknown);
            assert!(is_text || is_unknown, "{name}: {token} ({kind:?}) of {}", self.text.escape_ascii());
        }
        self.comes_back(tokens, Controls::Hide);
    }

    fn comes_back(&self, tokens: &[Token], controls: Controls) {
        let Loaded { name, back, .. } = self.vocabulary;
        let text = decode(self.vocabulary, tokens, controls);
        let is_same = match back {
            Back::Exact => text == self.text,
            Back::Spaces if self.has_own_spaces(tokens) => is_with_spaces(&text, self.text),
            Back::Spaces => text == self.text || text == with_spaces(self.text),
            Back::FewerSpaces => words(&text) == words(self.text),
            Back::Normalized => true,
        };
        assert!(is_same, "{name}: {} gives {}", self.text.escape_ascii(), text.escape_ascii());
    }

    /// Whether one of `tokens` is a control token with U+2581 in its name, which stays.
    fn has_own_spaces(&self, tokens: &[Token]) -> bool {
        let tokenizer = &self.vocabulary.tokenizer;
        let mut controls = tokens.iter().filter(|token| tokenizer.kind(**token) == Some(TokenKind::Control));
        controls.any(|&token| {
            let name: Vec<u8> = tokenizer.piece(token).into_iter().flatten().collect();
            name.windows(3).any(|bytes| bytes == "▁".as_bytes())
        })
    }

    /// Of control tokens there are those that were allowed, and the text comes back with their names.
    fn is_allowed(&self, specials: Specials<'_>, tokens: &[Token]) {
        let Loaded { name, tokenizer, back, .. } = self.vocabulary;
        if let Specials::Only(some) = specials {
            let is_control = |token: &&Token| tokenizer.kind(**token) == Some(TokenKind::Control);
            let unknown = tokenizer.token(b"[UNK]");
            let is_allowed =
                |token: &Token| some.contains(token) || *back == Back::Normalized && unknown == Some(*token);
            assert!(tokens.iter().filter(is_control).all(is_allowed), "{name}: {tokens:?}");
        }
        self.comes_back(tokens, Controls::Show);
    }

    /// The text in parts has the tokens of the whole, however few are taken at once.
    fn parts_are_the_whole(&mut self, specials: Specials<'_>, whole: &[Token]) {
        let Loaded { name, tokenizer, back, .. } = self.vocabulary;
        let mut encoder = Encoder::new(tokenizer, specials);
        let (mut begin, mut end, mut tokens) = (0, 0, Vec::new());
        let mut out = vec![Token::MAX; whole.len().max(1)];
        let mut turn = 0;
        loop {
            let is_end = end == self.text.len();
            let part = &self.text[begin..end];
            let room = 1 + usize::from(self.parts[turn % 3] >> 3).min(whole.len().saturating_sub(1));
            turn += 1;
            let done = match encoder.encode(part, is_end, &mut self.scratch, &mut out[..room]) {
                Err(TokenizeError::OutputFull { need, have }) => {
                    assert!(have == room && need > have && need <= whole.len(), "{name}: {need} {have}");
                    encoder.encode(part, is_end, &mut self.scratch, &mut out[..need]).expect(name)
                }
                done => done.expect(name),
            };
            tokens.extend_from_slice(&out[..done.n_tokens]);
            begin += done.n_bytes;
            assert!(begin <= end, "{name}");
            if done == Encoded::default() {
                if is_end {
                    break;
                }
                end = self.text.len().min(end + 1 + usize::from(self.parts[turn % 3] & 31));
            }
        }
        assert_eq!(tokens, whole, "{name}: parts of {}", self.text.escape_ascii());
        // What is dropped at the end may be left.
        assert!(begin == self.text.len() || *back == Back::Normalized, "{name}: {begin}");
    }

    /// A prompt of markup and messages by turns: no byte of a message belongs to a control token.
    fn contents_stay_text(&mut self) {
        let Loaded { name, tokenizer, back, .. } = self.vocabulary;
        let (text, parts) = (self.text, self.parts);
        let n_markup = CONTROLS[2].len() + CONTROLS[4].len();
        let n_parts = text.len() / (1 + usize::from(parts[1] & 31)) + 2;
        let max_bytes = text.len() + n_parts * n_markup;
        let layout = Prompt::layout(max_bytes, Layout::new()).expect("short");
        let layout = tokenizer.scratch_layout(max_bytes, layout).expect("short");
        let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
        let mut arena = Arena::new(&mut region);
        let mut prompt = Prompt::new(max_bytes, &mut arena).expect("as planned");
        let mut scratch = tokenizer.scratch(max_bytes, &mut arena).expect("as planned");
        prompt.begin("<|im_start|>{{ m.role }}<tool>");
        let mut is_content = Vec::new();
        for part in text.chunks(1 + usize::from(parts[1] & 31)) {
            prompt.markup("<|im_start|>").expect("room");
            prompt.content(part).expect("room");
            is_content.extend([vec![false; 12], vec![true; part.len()]].concat());
            if parts[2] & 1 == 0 {
                prompt.markup("<|im_end|>").expect("room");
                is_content.extend([false; 10]);
            }
        }
        let mut tokens = vec![Token::MAX; max_bytes + 2];
        let n = tokenizer.encode_prompt(&prompt, &mut scratch, &mut tokens).expect(name);
        let (mut out, mut spans) = (vec![Token::MAX; max_bytes + 2], vec![Span::default(); max_bytes + 2]);
        let specials = prompt.specials();
        let located =
            tokenizer.encode_with_spans(prompt.bytes(), specials, &mut scratch, &mut out, &mut spans);
        let n_text = located.expect(name);
        assert!(n == n_text || n == n_text + 1, "{name}: {n} {n_text}");
        assert_eq!(tokens[n - n_text..n], out[..n_text], "{name}");
        let unknown = tokenizer.token(b"[UNK]");
        for (token, span) in out[..n_text].iter().zip(&spans) {
            let is_control = tokenizer.kind(*token) == Some(TokenKind::Control)
                && !(*back == Back::Normalized && unknown == Some(*token));
            let touches = is_content[span.start..span.end].contains(&true);
            // Behind its name, white space may belong to a control token: of markup it is one all the same.
            let name_touches = tokenizer.piece(*token).is_none_or(|piece| {
                is_content[span.start..span.end.min(span.start + piece.count())].contains(&true)
            });
            assert!(!(is_control && touches && name_touches), "{name}: {token} of {}", text.escape_ascii());
        }
    }
}

/// Tokens of no text: bytes or an error, and never less of them in characters.
fn check_any_tokens(vocabulary: &Loaded, input: &mut Input<'_>) {
    let tokenizer = &vocabulary.tokenizer;
    let mut tokens = Vec::new();
    while !input.is_empty() {
        let token = u32::from(input.byte()) | u32::from(input.byte()) << 8;
        // Some are none.
        tokens.push(if token == 0xFFFF { input.u32() } else { token % (tokenizer.vocab_size() as u32 + 1) });
    }
    let bad = tokens.iter().copied().find(|&token| tokenizer.kind(token).is_none());
    if let Some(token) = bad {
        let error = Err(TokenizeError::BadToken { token });
        assert_eq!(tokenizer.decode(&tokens, Controls::Show, &mut [0; 64]), error);
        assert!(tokenizer.piece(token).is_none() && !tokenizer.is_eog(token));
        return;
    }
    let bytes = decode(vocabulary, &tokens, Controls::Show);
    decode(vocabulary, &tokens, Controls::Hide);
    let mut stream = Utf8Stream::new();
    let mut chunks = Vec::new();
    let mut decoder = tokenizer.decoder(Controls::Show);
    let mut push = |chunk: Chunk<'_>| {
        assert!(!chunk.bytes().is_empty());
        chunks.extend_from_slice(chunk.bytes());
    };
    for &token in &tokens {
        let mut piece = decoder.piece(token).expect("no bad one");
        while let Some(chunk) = stream.next(&mut piece) {
            push(chunk);
        }
    }
    if let Some(chunk) = stream.finish() {
        push(chunk);
    }
    // Text of WordPiece tokens is cleaned of spaces as a whole only.
    assert!(chunks == bytes || vocabulary.name == "word-piece", "{tokens:?}");
}

/// The bytes of tokens.
fn decode(vocabulary: &Loaded, tokens: &[Token], controls: Controls) -> Vec<u8> {
    let Loaded { name, tokenizer, .. } = vocabulary;
    let need = match tokenizer.decode(tokens, controls, &mut []) {
        Ok(0) => return Vec::new(),
        Err(TokenizeError::OutputFull { need, have: 0 }) => need,
        other => panic!("{name}: {other:?}"),
    };
    let mut text = vec![0; need];
    assert_eq!(tokenizer.decode(tokens, controls, &mut text), Ok(need), "{name}");
    text
}

/// `text` with a space for each U+2581.
fn with_spaces(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((&first, tail)) = rest.split_first() {
        let behind = rest.strip_prefix("▁".as_bytes());
        out.push(if behind.is_some() { b' ' } else { first });
        rest = behind.unwrap_or(tail);
    }
    out
}

/// Whether `text` is `other` with spaces for some of its U+2581.
fn is_with_spaces(text: &[u8], other: &[u8]) -> bool {
    let (mut text, mut other) = (text, other);
    while let Some((&first, tail)) = other.split_first() {
        (text, other) = match (text.strip_prefix(b" "), other.strip_prefix("▁".as_bytes())) {
            (Some(text), Some(other)) => (text, other),
            _ if text.first() == Some(&first) => (&text[1..], tail),
            _ => return false,
        };
    }
    text.is_empty()
}

/// `text` without its white space.
fn words(text: &[u8]) -> String {
    String::from_utf8_lossy(text).split_whitespace().collect()
}
