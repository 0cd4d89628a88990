//! Random numbers: PCG-XSH-RR 64/32 (O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good
//! Algorithms for Random Number Generation", HMC-CS-2014-0905, section 6.3.1).

/// A small seeded generator; each number moves it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pcg32 {
    state: u64,
    /// Odd; picks one of 2^63 sequences.
    increment: u64,
}

impl Pcg32 {
    const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

    /// The generator's sequence number 54 (the reference's demonstration), started at `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self { state: 0, increment: (54 << 1) | 1 };
        random.next_u32();
        random.state = random.state.wrapping_add(seed);
        random.next_u32();
        random
    }

    /// The next 32 bits.
    pub(crate) fn next_u32(&mut self) -> u32 {
        let old = self.state;
        self.state = old.wrapping_mul(Self::MULTIPLIER).wrapping_add(self.increment);
        let mixed = ((old >> 18) ^ old) >> 27;
        (mixed as u32).rotate_right((old >> 59) as u32) // the low 32 bits, turned by the top 5
    }

    /// The next number in [0, 1), a multiple of 2^-32.
    pub(crate) fn unit(&mut self) -> f64 {
        f64::from(self.next_u32()) * (1.0 / 4_294_967_296.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_reference_demonstration() {
        let mut random = Pcg32::new(42);
        let want = [0xa15c_02b7, 0x7b47_f409, 0xba1d_3330, 0x83d2_f293, 0xbfa4_784b, 0xcbed_606e];
        assert_eq!(want.map(|_| random.next_u32()), want);
    }
}
