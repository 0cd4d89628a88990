//! Tokenizers against the reference: the fixtures of `../shared/tokenizers`, golden prompts and hostile ones.

use corelm::Token;
use corelm::arena::{Arena, Layout};
use corelm::error::{ModelError, TokenizeError};
use corelm::gguf::Image;
use corelm::tokenizer::{Controls, Specials, Tokenizer};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

/// `../shared`, or `None` with a line that says so; its absence is a failure in CI.
fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "no ../shared in CI");
    println!("skipped: no ../shared");
    None
}

/// Runs `body` with the tokenizer of a file, in exactly the memory its layout asks for.
fn with_tokenizer<T>(path: &Path, body: impl FnOnce(&Tokenizer<'_, '_>) -> T) -> Result<T, ModelError> {
    let file = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let image = Image::parse(&file)?;
    let layout = Tokenizer::layout(&image, Layout::new())?;
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut arena = Arena::new(&mut region);
    let tokenizer = Tokenizer::new(&image, &mut arena)?;
    assert_eq!(arena.stats().used, layout.used(), "{}", path.display());
    Ok(body(&tokenizer))
}

fn encode(
    tokenizer: &Tokenizer<'_, '_>,
    text: &[u8],
    specials: Specials<'_>,
) -> Result<Vec<Token>, TokenizeError> {
    let layout = tokenizer.scratch_layout(text.len(), Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let mut arena = Arena::new(&mut region);
    let mut scratch = tokenizer.scratch(text.len(), &mut arena).unwrap();
    assert_eq!(arena.stats().used, layout.used());
    let mut ids = vec![0; text.len() + 8];
    let n = tokenizer.encode(text, specials, &mut scratch, &mut ids)?;
    ids.truncate(n);
    Ok(ids)
}

fn decode(tokenizer: &Tokenizer<'_, '_>, ids: &[Token]) -> Vec<u8> {
    let need = match tokenizer.decode(ids, Controls::Show, &mut []) {
        Ok(_) => 0,
        Err(TokenizeError::OutputFull { need, .. }) => need,
        Err(error) => panic!("{error}"),
    };
    let mut text = vec![0; need];
    assert_eq!(tokenizer.decode(ids, Controls::Show, &mut text), Ok(need));
    text
}

/// The strings and ids of a fixture.
fn cases(stem: &Path) -> Vec<(Vec<u8>, Vec<Token>)> {
    let read = |extension| std::fs::read(stem.with_extension(extension)).unwrap();
    let (inputs, outputs) = (read("gguf.inp"), String::from_utf8(read("gguf.out")).unwrap());
    let marker = b"\n__ggml_vocab_test__\n";
    let mut texts = Vec::new();
    let mut rest = &inputs[..];
    while let Some(at) = rest.windows(marker.len()).position(|window| window == marker) {
        texts.push(rest[..at].to_vec());
        rest = &rest[at + marker.len()..];
    }
    let ids = outputs.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
    let cases: Vec<_> = texts.into_iter().zip(ids).collect();
    assert_eq!(cases.len(), outputs.lines().count());
    cases
}

#[test]
fn fixtures_are_exact() {
    let Some(shared) = shared() else { return };
    for name in [
        "ggml-vocab-gpt-2",
        "ggml-vocab-llama-bpe",
        "ggml-vocab-qwen2",
        "ggml-vocab-llama-spm",
        "ggml-vocab-phi-3",
        "probe-gpt-2",
        "probe-phi-2",
        "probe-llama-bpe",
        "probe-qwen2",
    ] {
        let path = shared.join("tokenizers").join(name).with_extension("gguf");
        let n_wrong = with_tokenizer(&path, |tokenizer| {
            let mut n_wrong = 0;
            for (text, want) in cases(&path.with_extension("")) {
                let ids = encode(tokenizer, &text, Specials::Never).unwrap();
                if ids != want {
                    println!(
                        "{name}: {:?}\n  is     {ids:?}\n  should {want:?}",
                        String::from_utf8_lossy(&text)
                    );
                    n_wrong += 1;
                }
                assert_eq!(decode(tokenizer, &ids), text, "{name}");
            }
            n_wrong
        });
        assert_eq!(n_wrong.unwrap(), 0, "{name}");
    }
}
