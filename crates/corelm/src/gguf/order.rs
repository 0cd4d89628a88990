//! The entries of a file in the order of their keys, without memory for a list of them.
//!
//! The file cannot be sorted where it lies, and nobody has lent memory yet. So each pass over the entries takes the next few
//! hundred of them, in a sorted table on the stack: what is compared with its neighbours alone costs passes times entries,
//! and not pairs of entries.

/// Entries of a pass: places of 4 bytes, in a frame of 2 KiB.
const BATCH: usize = 256;

/// Calls `visit` with the place of every entry, in the order of their keys; equal ones in the order of their places.
///
/// `entries` gives places, which grow, and keys, the same each time, and `key_at` the key of a place.
#[inline(never)] // one table at a time on the stack
pub(super) fn for_each_in_order<K, I>(
    entries: impl Fn() -> I,
    key_at: impl Fn(u32) -> Option<K>,
    mut visit: impl FnMut(u32),
) where
    K: Ord + Copy,
    I: Iterator<Item = (u32, K)>,
{
    let mut done: Option<(K, u32)> = None;
    loop {
        let (mut table, mut n, mut last) = ([0u32; BATCH], 0usize, None);
        let mut is_rest = true;
        for (place, key) in entries() {
            if done.is_some_and(|done| (key, place) <= done) {
                continue;
            }
            if n == BATCH {
                is_rest = false;
                if last.is_some_and(|last| key >= last) {
                    continue;
                }
            }
            let sorted = table.get(..n).unwrap_or_default();
            let at = sorted.partition_point(|&before| key_at(before).is_some_and(|before| before <= key));
            n = BATCH.min(n.wrapping_add(1));
            let mut moved = place;
            for slot in table.get_mut(at..n).unwrap_or_default() {
                core::mem::swap(slot, &mut moved);
            }
            last = table.get(..n).and_then(|sorted| sorted.last()).and_then(|&last| key_at(last));
        }
        let sorted = table.get(..n).unwrap_or_default();
        sorted.iter().for_each(|&place| visit(place));
        done = last.zip(sorted.last().copied());
        // Without a last one, which there is, nothing would say where the next pass begins.
        if is_rest || done.is_none() {
            return;
        }
    }
}

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
struct Shared([u32; 1 << (Self::BITS - 5)]);

impl Shared {
    /// 8192 bits, 1 KiB: of 1000 different keys, about 30 share all of theirs with others.
    const BITS: u32 = 13;
    fn new() -> Self {
        Self([0; 1 << (Self::BITS - 5)])
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

    /// The words and bits of a key.
    fn bits(hash: u64) -> impl Iterator<Item = (usize, u32)> {
        [Self::BITS, 2 * Self::BITS, 3 * Self::BITS].into_iter().map(move |n| {
            let bit = hash.rotate_left(n) as usize % (1 << Self::BITS);
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
    use super::*;
    use std::vec::Vec;

    fn ordered(keys: &[u32]) -> Vec<u32> {
        let mut places = Vec::new();
        let entries = || (0..).zip(keys.iter().copied());
        for_each_in_order(entries, |place| keys.get(place as usize).copied(), |place| places.push(place));
        places
    }

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

    /// Keys of every kind, fewer and more than a pass takes.
    fn kinds() -> impl Iterator<Item = Vec<u32>> {
        let lengths = [0, 1, 2, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH, 3 * BATCH + 5];
        lengths.into_iter().flat_map(|n| {
            let n = n as u32;
            let mixed = |modulus: u32| (0..n).map(move |i| i.wrapping_mul(0x9e37_79b1) % modulus).collect();
            let kinds: [Vec<u32>; 6] = [
                (0..n).collect(),
                (0..n).rev().collect(),
                (0..n).map(|_| 7).collect(),
                mixed(u32::MAX),
                mixed(100),
                mixed(n.max(1)),
            ];
            kinds
        })
    }

    #[test]
    fn entries_come_in_order() {
        for keys in kinds() {
            let mut sorted: Vec<u32> = (0..keys.len() as u32).collect();
            sorted.sort_by_key(|&place| (keys[place as usize], place));
            assert_eq!(ordered(&keys), sorted);
        }
    }

    #[test]
    fn the_first_that_was_there_before_is_found() {
        for keys in kinds() {
            // Of no byte to some tens.
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
        keys.push(keys[BATCH].clone());
        assert_eq!(repeated(&keys), Some((4096, BATCH as u32)));
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
