//! Whether a key or a name is there twice, without memory for an index.

use super::order::for_each_in_order;

/// The places of the first entry whose key was there before, and of the one before; the second one first.
///
/// Equal keys share all bits of a filter. Those that do not are left out, so that of as many different ones as a file has, few
/// are put in order.
#[inline(never)] // its filter is off the stack when it returns
pub(super) fn first_repeated<'k, I>(
    entries: impl Fn() -> I,
    key_at: impl Fn(u32) -> Option<&'k [u8]>,
) -> Option<(u32, u32)>
where
    I: Iterator<Item = (u32, &'k [u8])>,
{
    let hashed = |key| (hash(key), key);
    let mut shared = Shared::new();
    shared.fill(entries().map(|entry| hash(entry.1)));
    let (mut before, mut repeated): (Option<u32>, Option<(u32, u32)>) = (None, None);
    for_each_in_order(
        || entries().map(|(place, key)| (place, hashed(key))).filter(|entry| shared.has_all(entry.1.0)),
        |place| key_at(place).map(hashed), // the bytes of two keys are seldom compared
        |place| match before {
            Some(first) if key_at(first) == key_at(place) => {
                let pair = (place, first);
                repeated = Some(repeated.map_or(pair, |found| found.min(pair)));
            }
            _ => before = Some(place),
        },
    );
    repeated
}

/// What keys have in common with others: the bits of a Bloom filter that more than one of them has set.
struct Shared([u32; N_BITS / 32]);

/// 1 KiB of them: of 1000 different keys, about 30 share all of theirs with others.
const N_BITS: usize = 1 << LOG_N_BITS;
const LOG_N_BITS: u32 = 13;

impl Shared {
    fn new() -> Self {
        Self([0; N_BITS / 32])
    }

    /// Adds what more than one of `hashes` have.
    #[inline(never)] // what one alone has is off the stack when keys are put in order
    fn fill(&mut self, hashes: impl Iterator<Item = u64>) {
        let mut taken = Self::new();
        for (word, bit) in hashes.flat_map(Self::bits) {
            let is_taken =
                taken.0.get_mut(word).is_some_and(|word| core::mem::replace(word, *word | bit) & bit != 0);
            if let Some(word) = self.0.get_mut(word) {
                *word |= if is_taken { bit } else { 0 };
            }
        }
    }

    /// Whether a key of this hash may have been there twice.
    fn has_all(&self, hash: u64) -> bool {
        Self::bits(hash).all(|(word, bit)| self.0.get(word).is_some_and(|word| word & bit != 0))
    }

    /// The words and bits of a key: three.
    fn bits(hash: u64) -> impl Iterator<Item = (usize, u32)> {
        [1, 2, 3].into_iter().map(move |n| {
            let bit = hash.rotate_left(LOG_N_BITS.wrapping_mul(n)) as usize % N_BITS;
            (bit / 32, 1 << (bit % 32))
        })
    }
}

/// The hash of a key. Whoever writes a file can give all of them one: that takes the passes it would without a filter.
fn hash(key: &[u8]) -> u64 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / golden ratio, odd
    let (words, rest) = key.as_chunks::<8>();
    let rest = rest.iter().fold(0, |rest, &byte| (rest << 8) | u64::from(byte));
    let words = words.iter().map(|&word| u64::from_le_bytes(word)).chain([rest]);
    let mixed = words.fold(key.len() as u64, |mixed, word| (mixed.rotate_left(23) ^ word).wrapping_mul(MIX));
    (mixed ^ (mixed >> 32)).wrapping_mul(MIX)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::order::tests::kinds;
    use super::*;
    use std::vec::Vec;

    fn repeated(keys: &[Vec<u8>]) -> Option<(u32, u32)> {
        let key_at = |place| keys.get(place as usize).map(Vec::as_slice);
        first_repeated(|| (0..).zip(keys.iter().map(Vec::as_slice)), key_at)
    }

    /// What is repeated first, by comparing each with all before.
    fn naive(keys: &[Vec<u8>]) -> Option<(u32, u32)> {
        (0..keys.len()).find_map(|second| {
            let first = keys[..second].iter().position(|key| *key == keys[second])?;
            Some((second as u32, first as u32))
        })
    }

    #[test]
    fn the_first_that_was_there_before_is_found() {
        for keys in kinds() {
            // Of one byte to some tens.
            let name = |key: &u32| std::format!("{:1$}", key, *key as usize % 40).into_bytes();
            let keys: Vec<Vec<u8>> = keys.iter().map(name).collect();
            assert_eq!(repeated(&keys), naive(&keys), "{} keys", keys.len());
        }
    }

    #[test]
    fn keys_that_share_all_bits_are_told_apart() {
        // Of 4096 about half: more than two passes take.
        let mut keys: Vec<Vec<u8>> = (0u32..4096).map(|i| i.to_le_bytes().to_vec()).collect();
        assert_eq!(repeated(&keys), None);
        keys.push(keys[256].clone());
        assert_eq!(repeated(&keys), Some((4096, 256)));
    }

    #[test]
    fn different_keys_are_seldom_put_in_order() {
        let keys: Vec<Vec<u8>> = (0..1000).map(|i| std::format!("llama.{i:044}").into_bytes()).collect();
        let hashes = || keys.iter().map(|key| hash(key));
        let mut shared = Shared::new();
        shared.fill(hashes());
        let n_left = hashes().filter(|&hash| shared.has_all(hash)).count();
        assert!((10..60).contains(&n_left), "{n_left}");
    }
}
