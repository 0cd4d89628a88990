//! What is timed: the components with their targets, tokenization, a file's digest, and a whole model.

mod components;
mod digest;
mod model;
mod tokenize;

pub use model::{MODEL, MODEL_BYTES, write_model};

use crate::bench::{Case, CaseError};

/// The lists that make up [`CASES`].
const PARTS: [&[Case]; 4] = [components::CASES, tokenize::CASES, digest::CASES, model::CASES];

/// How many cases there are.
const N_CASES: usize = PARTS[0].len() + PARTS[1].len() + PARTS[2].len() + PARTS[3].len();

/// All cases: components, tokenization, the digest, the model.
pub const CASES: &[Case] = &{
    let mut all = [PARTS[0][0]; N_CASES];
    let (mut n, mut part) = (0, 0);
    while part < PARTS.len() {
        let mut i = 0;
        while i < PARTS[part].len() {
            all[n] = PARTS[part][i];
            n += 1;
            i += 1;
        }
        part += 1;
    }
    all
};

/// Memory beside the model that is enough for every case.
pub const CASE_BYTES: usize = 16 << 20;

/// `Ok` when a first result is right.
fn expect(is_right: bool, what: &'static str) -> Result<(), CaseError> {
    if is_right { Ok(()) } else { Err(CaseError::Wrong(what)) }
}
