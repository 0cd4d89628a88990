//! Angles of rotary position embedding (Su et al. 2021, section 3.4.2).

use crate::block::F32;

/// How a model turns its pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotation<'m> {
    /// From one pair to the next the angle is multiplied by this: `base^(-2 / n)` of the `n` values that rotate.
    ratio: f32,
    /// All angles are multiplied by this.
    scale: f32,
    /// The angle of pair `i` is divided by `factors[i]`, by 1 where there is none: a model's `rope_freqs`.
    factors: &'m [F32],
}

impl<'m> Rotation<'m> {
    /// Of `n_dims` values with this base, scale of all angles, and divisors of single ones.
    pub fn new(n_dims: usize, base: f32, scale: f32, factors: &'m [F32]) -> Self {
        let exponent = -2.0 / n_dims.max(1) as f32;
        let ratio = libm::pow(f64::from(base), f64::from(exponent)) as f32;
        Self { ratio, scale, factors }
    }

    /// Fills `cos_sin` with the cosines, then the sines, of the angles at `pos`, one of each for each pair.
    ///
    /// The angles are ggml's: f32, each the one before times the ratio. They are reduced in f64, so that the cosine and
    /// sine of each are right at any size.
    #[inline(never)] // once for a token; the stack of libm's reductions is then not that of all that follows
    pub fn cos_sin(&self, cos_sin: &mut [f32], pos: u32) {
        let (cos, sin) = cos_sin.split_at_mut(cos_sin.len() / 2);
        let mut angle = pos as f32;
        for (i, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
            let factor = self.factors.get(i).map_or(1.0, |factor| factor.to_f32());
            let turns = f64::from(angle / factor * self.scale) * (0.5 * core::f64::consts::FRAC_1_PI);
            let reduced = (turns - libm::round(turns)) * core::f64::consts::TAU;
            (*sin, *cos) = (libm::sin(reduced) as f32, libm::cos(reduced) as f32);
            angle *= self.ratio;
        }
    }
}
