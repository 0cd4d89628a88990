//! Angles of rotary position embedding (Su et al. 2021, section 3.4.2).

use crate::block::F32;

/// Fills `freqs` with the turn per position of each pair: `freqs[i] = base^(-2 i / n) / factors[i]`, `n = 2 * freqs.len()`.
///
/// `factors` are a model's `rope_freqs`, 1 where it has none. Done once for a model.
pub fn frequencies(freqs: &mut [f32], base: f32, factors: Option<&[F32]>) {
    debug_assert!(factors.is_none_or(|f| f.len() == freqs.len()), "frequencies: shapes disagree");
    let pairs = freqs.len() as f64;
    for (i, freq) in freqs.iter_mut().enumerate() {
        let factor = factors.and_then(|f| f.get(i)).map_or(1.0, |f| f.to_f32());
        *freq = (libm::pow(f64::from(base), -(i as f64) / pairs) / f64::from(factor)) as f32;
    }
}

/// Fills `cos_sin` with the cosines, then the sines, of `pos * freqs[i]`; it is twice as long as `freqs`.
///
/// The angle is reduced in f64, so the error does not grow with the position.
pub fn cos_sin(cos_sin: &mut [f32], freqs: &[f32], pos: u32) {
    debug_assert!(cos_sin.len() == 2 * freqs.len(), "cos_sin: shapes disagree");
    let (cos, sin) = cos_sin.split_at_mut(cos_sin.len() / 2);
    for ((cos, sin), freq) in cos.iter_mut().zip(sin).zip(freqs) {
        let turns = f64::from(pos) * f64::from(*freq) * core::f64::consts::FRAC_1_PI / 2.0;
        let angle = ((turns - libm::round(turns)) * core::f64::consts::TAU) as f32;
        (*sin, *cos) = (libm::sinf(angle), libm::cosf(angle));
    }
}
