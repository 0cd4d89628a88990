//! A model file against its digest: what a byte of it costs.

use core::hint::black_box;

use corelm::arena::Arena;
use corelm::gguf::{Digest, Verify};

use super::expect;
use crate::bench::{Case, CaseError, Lab};

/// Bytes that are hashed.
const N_BYTES: usize = 1 << 16;
/// `hashlib.sha256(bytes(i * 31 % 251 for i in range(65536)))`.
const WANTED: &str = "755682d23142311edaceadbb28c139b343b1ee0507241771d1530db1441747c9";

/// The case of digests.
pub const CASES: &[Case] = &[Case {
    name: "verify/sha256",
    shape: "65536",
    bytes: N_BYTES as u64,
    flops: 0,
    target: None,
    per_backend: false,
    needs_model: false,
    body: verify,
}];

fn verify(lab: &mut Lab<'_>) -> Result<(), CaseError> {
    let file = Arena::new(lab.memory).alloc(N_BYTES, 0u8).map_err(|_| CaseError::Memory)?;
    for (i, byte) in file.iter_mut().enumerate() {
        *byte = (i * 31 % 251) as u8;
    }
    let wanted = Digest::from_hex(WANTED).ok_or(CaseError::Wrong("no digest"))?;
    let mut verify = Verify::new(file, wanted);
    expect(verify.run().is_ok(), "another digest")?;
    lab.bencher.iter(&mut || {
        // It went well above, and each call begins anew.
        let _ = black_box(black_box(&mut verify).run());
    });
    Ok(())
}
