//! Single bits that flip in a model's weights, where nobody compares its digest: tokens of the vocabulary or an error, never
//! a panic. With the digest each is found: `crates/corelm/tests/digest.rs`.
//!
//! `CORELM_MUTANTS=1000000 cargo test --release -p corelm-cases --test flips` flips as many bits of weights.

#[path = "support/run.rs"]
mod run;

use corelm::gguf::Image;
use corelm_cases::mutate::flip_bit;
use run::{models, run_all};

#[test]
fn flips_in_weights_end_with_tokens_or_an_error() {
    let models = models();
    let begin = |file: &[u8]| {
        let image = Image::parse(file).unwrap();
        let addresses = image.tensors().map(|tensor| tensor.bytes.as_ptr().addr());
        addresses.min().unwrap() - file.as_ptr().addr()
    };
    let begins: Vec<usize> = models.iter().map(|file| begin(file)).collect();
    let ends = run_all("R14 weights", 4_000, &|seed, file| {
        let of = seed as usize % models.len();
        file.clear();
        file.extend_from_slice(&models[of]);
        flip_bit(&mut file[begins[of]..], seed);
        file
    });
    assert_eq!(ends.n_refused, 0, "weights are not read before they are multiplied with");
    if ends.n >= 1000 {
        assert!(ends.n_ran > ends.n / 2 && ends.n_non_finite > 0, "{ends:?}");
    }
}
