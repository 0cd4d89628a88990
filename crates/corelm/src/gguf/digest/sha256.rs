//! SHA-256 as in FIPS 180-4, of bytes that come in pieces of any length.
//!
//! Names are the standard's. In portable arithmetic: it costs a check of a model some cycles a byte, once, and no kernel
//! that makes none anything.

use super::Digest;

/// Bytes of a block.
const BLOCK: usize = 64;
/// Where the length of the message stands in the last block.
const LENGTH_AT: usize = BLOCK - size_of::<u64>();

/// The first 32 bits of the fractional parts of the square roots of the first 8 primes (5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes (4.2.2).
#[rustfmt::skip]
const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// The SHA-256 of a message that is not all there yet.
#[derive(Clone, Debug)]
pub struct Sha256 {
    hash: [u32; 8],
    /// The block that is not whole yet: [`n_begun`](Self::n_begun) bytes of it are there.
    block: [u8; BLOCK],
    n_bytes: u64,
}

impl Sha256 {
    /// Of no bytes so far.
    pub const fn new() -> Self {
        Self { hash: INITIAL, block: [0; BLOCK], n_bytes: 0 }
    }

    fn n_begun(&self) -> usize {
        (self.n_bytes % BLOCK as u64) as usize
    }

    /// Appends bytes to the message, which may have 2^61 of them.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let n_begun = self.n_begun();
        self.n_bytes = self.n_bytes.wrapping_add(bytes.len() as u64);
        if n_begun > 0 {
            let room = self.block.get_mut(n_begun..).unwrap_or_default();
            let (begin, rest) = bytes.split_at_checked(room.len()).unwrap_or((bytes, &[]));
            room.iter_mut().zip(begin).for_each(|(to, from)| *to = *from);
            if begin.len() < room.len() {
                return;
            }
            compress(&mut self.hash, &self.block);
            bytes = rest;
        }
        let (blocks, rest) = bytes.as_chunks();
        blocks.iter().for_each(|block| compress(&mut self.hash, block));
        self.block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    }

    /// Ends the message.
    pub fn finish(mut self) -> Digest {
        // Padded with a one, zeros, and the length in bits at the end of a block (5.1.1).
        let n_bits = self.n_bytes.wrapping_mul(8);
        self.update(&[0x80]);
        let n_zeros = (LENGTH_AT + BLOCK - self.n_begun()) % BLOCK;
        self.update([0; BLOCK].get(..n_zeros).unwrap_or_default());
        self.update(&n_bits.to_be_bytes());
        let mut bytes = [0; 32];
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.hash) {
            *to = word.to_be_bytes();
        }
        Digest::new(bytes)
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes a block into the hash value (6.2.2).
fn compress(hash: &mut [u32; 8], block: &[u8; BLOCK]) {
    let mut w = [0u32; 64];
    for (w, bytes) in w.iter_mut().zip(block.as_chunks().0) {
        *w = u32::from_be_bytes(*bytes);
    }
    for t in 16..64 {
        w[t] = small_sigma_1(w[t - 2])
            .wrapping_add(w[t - 7])
            .wrapping_add(small_sigma_0(w[t - 15]))
            .wrapping_add(w[t - 16]);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *hash;
    for (w, k) in w.into_iter().zip(K) {
        let t1 = h.wrapping_add(big_sigma_1(e)).wrapping_add(ch(e, f, g)).wrapping_add(k).wrapping_add(w);
        let t2 = big_sigma_0(a).wrapping_add(maj(a, b, c));
        (h, g, f, e) = (g, f, e, d.wrapping_add(t1));
        (d, c, b, a) = (c, b, a, t1.wrapping_add(t2));
    }
    for (hash, word) in hash.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *hash = hash.wrapping_add(word);
    }
}

// The functions of 4.1.2.

fn ch(x: u32, y: u32, z: u32) -> u32 {
    (x & y) ^ (!x & z)
}

fn maj(x: u32, y: u32, z: u32) -> u32 {
    (x & y) ^ (x & z) ^ (y & z)
}

fn big_sigma_0(x: u32) -> u32 {
    x.rotate_right(2) ^ x.rotate_right(13) ^ x.rotate_right(22)
}

fn big_sigma_1(x: u32) -> u32 {
    x.rotate_right(6) ^ x.rotate_right(11) ^ x.rotate_right(25)
}

fn small_sigma_0(x: u32) -> u32 {
    x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3)
}

fn small_sigma_1(x: u32) -> u32 {
    x.rotate_right(17) ^ x.rotate_right(19) ^ (x >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first 32 bits of the fractional part of the `n`-th root: the low ones of the root of `prime * 2^(32 n)`.
    fn fraction_of_root(prime: u128, n: u32) -> u32 {
        let scaled = prime << (32 * n);
        let (mut low, mut high) = (0u128, 1 << 40);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if middle.pow(n) <= scaled { low = middle } else { high = middle }
        }
        low as u32
    }

    #[test]
    fn the_tables_are_roots_of_primes() {
        let primes = (2u128..).filter(|n| (2..*n).all(|d| n % d != 0));
        for (i, prime) in primes.take(64).enumerate() {
            assert_eq!(K[i], fraction_of_root(prime, 3), "the constant of {prime}");
            assert!(INITIAL.get(i).is_none_or(|&h| h == fraction_of_root(prime, 2)), "the start of {prime}");
        }
    }
}
