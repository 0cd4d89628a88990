//! What a tokenizer's helpers hold between calls, and what makes them begin again.

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/vocab.rs"]
mod vocab;

use corelm::arena::{Arena, Layout};
use corelm::tokenizer::{Chunk, Encoder, Prompt, Specials, Utf8Stream};
use std::mem::MaybeUninit;
use vocab::{BYTE, CONTROL, File, NORMAL, UNKNOWN};

/// Byte-level, with a control token that a text can look like.
fn file() -> File {
    let mut file = File::new(
        "gpt2",
        &[(b"a", NORMAL, 0.0), (b"b", NORMAL, 0.0), (b"ab", NORMAL, 0.0), (b"aba", CONTROL, 0.0)],
    );
    file.string("tokenizer.ggml.pre", b"gpt-2");
    file.array("tokenizer.ggml.merges", 8, 1, [&3u64.to_le_bytes()[..], b"a b"].concat());
    file
}

/// A scratch that forgets takes as many steps for the same text as it took first, and gives the same tokens.
#[test]
fn a_scratch_that_forgets_begins_again() {
    let Some(shared) = fixtures::shared() else { return };
    let bytes = std::fs::read(shared.join("tokenizers/ggml-vocab-gpt-2.gguf")).unwrap();
    vocab::with_tokenizer(&bytes, |t| {
        let text = b"unmistakable whereabouts of tokenizers, notwithstanding";
        let layout = t.scratch_layout(64, Layout::new()).unwrap();
        let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
        let mut scratch = t.scratch(64, &mut Arena::new(&mut region)).unwrap();
        let mut run = |forgets: bool| {
            if forgets {
                scratch.forget();
            }
            let (mut out, before) = ([0; 64], scratch.steps());
            let n = t.encode(text, Specials::Never, &mut scratch, &mut out).unwrap();
            (out[..n].to_vec(), scratch.steps() - before)
        };
        let (first, known) = (run(false), run(false));
        assert!(known.0 == first.0 && known.1 < first.1, "{} and {} steps", known.1, first.1);
        assert_eq!(run(true), first);
    })
    .unwrap();
}

/// By position in no part: an encoder of parts finds no control token where only positions tell of them.
#[test]
fn an_encoder_of_parts_knows_no_positions() {
    file()
        .with(|t| {
            let layout = t.scratch_layout(64, Layout::new()).unwrap();
            let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
            let mut scratch = t.scratch(64, &mut Arena::new(&mut region)).unwrap();
            let mut encode = |specials| {
                let mut out = [0; 64];
                let done = Encoder::new(t, specials).encode(b"aba", true, &mut scratch, &mut out).unwrap();
                out[..done.n_tokens].to_vec()
            };
            assert_eq!(encode(Specials::All), [3]);
            assert_eq!(encode(Specials::Never), [2, 0]);
            let mut region = [MaybeUninit::uninit(); 256];
            let mut prompt = Prompt::new(3, &mut Arena::new(&mut region)).unwrap();
            prompt.begin("");
            prompt.markup("aba").unwrap();
            assert!(matches!(prompt.specials(), Specials::Outside(_)));
            assert_eq!(encode(prompt.specials()), [2, 0]);
        })
        .unwrap();
}

#[test]
fn a_stream_begins_with_nothing_held() {
    let mut stream = Utf8Stream::default();
    assert!(stream.finish().is_none());
    assert_eq!(stream.next(&mut "\u{e9}".bytes()), Some(Chunk::Text("\u{e9}")));
    assert!(stream.next(&mut std::iter::empty()).is_none() && stream.finish().is_none());
}

/// A token of the kind of bytes that is named otherwise stands for its name.
#[test]
fn a_byte_with_another_name_is_text() {
    let tokens: [(&[u8], i32, f32); 4] =
        [(b"<unk>", UNKNOWN, 0.0), (b"x", BYTE, 0.0), (b"<0x41>", BYTE, 0.0), (b"y", NORMAL, 0.0)];
    let texts = File::new("llama", &tokens)
        .with(|t| [1, 2, 3].map(|token| t.piece(token).unwrap().collect::<Vec<u8>>()))
        .unwrap();
    assert_eq!(texts, [b"x", b"A", b"y"]);
}
