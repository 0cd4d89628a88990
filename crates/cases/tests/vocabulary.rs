//! A vocabulary of 32 001 tokens, one more than whole tiles of rows: every logit, in either order of the weights, on one
//! worker and two, by every back-end.

#[path = "support/threads.rs"]
mod threads;

use std::mem::MaybeUninit;

use corelm::Token;
use corelm::arena::Arena;
use corelm::config::{Architecture, Config};
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Features, GgmlType, Ops};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::session::{Session, SessionError};
use corelm::tokenizer::{Controls, Tokenizer};
use corelm::weights::Weights;
use corelm_cases::synth::{SynthConfig, model_bytes, write_model};
use threads::Threads;

const N: usize = 32_001;
const LAST: Token = N as Token - 1;
/// Its rows of the embedding and of the output are those of the last token, too.
const TWIN: Token = 20_000;
const PROMPT: [Token; 5] = [84, LAST, 300, 31_999, 12];
const TYPES: [GgmlType; 6] =
    [GgmlType::F32, GgmlType::F16, GgmlType::BF16, GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0];

/// A model whose last token is the twin of another.
fn file(arch: Architecture, ty: GgmlType) -> Vec<u8> {
    let n_kv_heads = if arch == Architecture::Gpt2 { 4 } else { 2 };
    let config = SynthConfig { arch, ty, n_kv_heads, n_layers: 1, vocab_size: N, ..SynthConfig::TINY };
    let mut file = vec![0; model_bytes(&config).unwrap() as usize];
    assert!(write_model(&config, &mut file[..]).unwrap().is_empty());
    for name in ["token_embd.weight", "output.weight"] {
        let Some((at, len)) = place(&file, name) else { continue };
        let row = len / N;
        let twin = at + TWIN as usize * row;
        file.copy_within(twin..twin + row, at + LAST as usize * row);
    }
    file
}

/// Where the data of a tensor begins, and its length.
fn place(file: &[u8], name: &str) -> Option<(usize, usize)> {
    let image = Image::parse(file).unwrap();
    let tensor = image.tensor(name)?;
    Some((tensor.bytes.as_ptr().addr() - file.as_ptr().addr(), tensor.bytes.len()))
}

/// The logits behind [`PROMPT`], and behind the last token and its twin alone.
fn logits(file: &[u8], ops: Ops, n_workers: usize, is_packed: bool) -> [Vec<f32>; 3] {
    let image = Image::parse(file).unwrap();
    let config = Config::from_image(&image).unwrap();
    let wanted = SessionConfig { n_ctx: 8, n_batch: 3, kv_type: KvType::F16, n_workers };
    let plan = MemoryPlan::new(&image, &config, &wanted).unwrap();
    let mut region = vec![MaybeUninit::uninit(); plan.bytes() + plan.packed_len()];
    let mut arena = Arena::new(&mut region);
    let mut weights = Weights::resolve(&image, &config, &mut arena).unwrap();
    if is_packed {
        weights = weights.pack(ops, &mut arena).unwrap();
    }
    let workers = Threads(n_workers);
    let mut session = Session::new(ops, &workers, &config, weights, &plan, &mut arena).unwrap();
    let behind = [&PROMPT[..], &[LAST], &[TWIN]].map(|tokens| {
        session.reset();
        session.prefill(tokens).unwrap().to_vec()
    });
    let beyond = SessionError::NoSuchToken { token: LAST + 1, vocab_size: N };
    assert_eq!(session.step(LAST + 1), Err(beyond));
    behind
}

fn is_same(one: &[f32], two: &[f32]) -> bool {
    one.iter().map(|x| x.to_bits()).eq(two.iter().map(|x| x.to_bits()))
}

#[test]
fn all_logits_of_32001_tokens_are_right() {
    for ty in TYPES {
        // With an output of its own, and with the embedding for one.
        for arch in [Architecture::Llama, Architecture::Gpt2] {
            let file = file(arch, ty);
            let [portable, ..] = logits(&file, Ops::scalar(), 1, false);
            for ops in Ops::available(Features::detect_host()) {
                let want = logits(&file, ops, 1, false);
                let about = format!("{arch:?} {ty:?} {ops:?}");
                assert!(want.iter().all(|row| row.len() == N), "{about}");
                for row in &want {
                    assert_eq!(
                        row[LAST as usize].to_bits(),
                        row[TWIN as usize].to_bits(),
                        "{about}: the last row"
                    );
                    assert!(row.iter().all(|x| x.is_finite()), "{about}");
                    // Of rows drawn at random hardly any two give the same: none was left out or computed twice.
                    let mut bits: Vec<u32> = row.iter().map(|x| x.to_bits()).collect();
                    bits.sort_unstable();
                    bits.dedup();
                    assert!(bits.len() > N - N / 50, "{about}: {} logits of {N}", bits.len());
                }
                assert!(is_same(&want[1], &want[2]), "{about}: the last token and its twin as input");
                let size = portable.iter().fold(0f32, |max, x| max.max(x.abs()));
                for (i, (have, want)) in want[0].iter().zip(&portable).enumerate() {
                    // Where rounding moves a quantized activation to its neighbour, logits move by that of their size.
                    assert!((have - want).abs() <= 5e-3 * size, "{about}: logit {i}, {have} for {want}");
                }
                for (n_workers, is_packed) in [(2, false), (1, true), (2, true)] {
                    let have = logits(&file, ops, n_workers, is_packed);
                    let is_same = have.iter().zip(&want).all(|(have, want)| is_same(have, want));
                    assert!(is_same, "{about}: {n_workers} workers, packed: {is_packed}");
                }
            }
        }
    }
}

#[test]
fn the_last_of_32001_tokens_is_text() {
    let file = file(Architecture::Llama, GgmlType::Q4_0);
    let image = Image::parse(&file).unwrap();
    let layout = Tokenizer::layout(&image, corelm::arena::Layout::new()).unwrap();
    let mut region = vec![MaybeUninit::uninit(); layout.bytes()];
    let tokenizer = Tokenizer::new(&image, &mut Arena::new(&mut region)).unwrap();
    assert_eq!(tokenizer.vocab_size(), N);
    let mut text = [0; 32];
    let n = tokenizer.decode(&[LAST], Controls::Show, &mut text).unwrap();
    let vocabulary = corelm_cases::synth::Vocabulary::new(corelm_cases::synth::Tokenizer::Bpe, N).unwrap();
    let (want, _) = vocabulary.token(N - 1).unwrap();
    assert!(n > 1 && text[..n].trim_ascii() == want.as_str().replace('\u{120}', " ").trim().as_bytes());
    assert!(tokenizer.decode(&[LAST + 1], Controls::Show, &mut text).is_err());
}
