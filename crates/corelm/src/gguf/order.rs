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

#[cfg(test)]
pub(super) mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn ordered(keys: &[u32]) -> Vec<u32> {
        let mut places = Vec::new();
        let entries = || (0..).zip(keys.iter().copied());
        for_each_in_order(entries, |place| keys.get(place as usize).copied(), |place| places.push(place));
        places
    }

    /// Keys of every kind, fewer and more than a pass takes.
    pub fn kinds() -> impl Iterator<Item = Vec<u32>> {
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
}
