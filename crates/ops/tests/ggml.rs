//! Quantizing against ggml's reference, by way of the PyPI package `gguf` (0.19.0, `gguf.quants.quantize`): 32 000 values
//! of sizes from 2^-30 to 2^15, with ties, equal peaks of both signs and a block of zeros; what it makes of them is here
//! as FNV-1a hashes of its bytes.
#![cfg(feature = "std")]

use corelm_ops::*;

/// Thirty-two values for each of 1000 blocks; the generator is SplitMix64, its upper 24 bits scaled to -1..1.
fn values() -> Vec<f32> {
    let mut state = 20_260u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    let mut values: Vec<f32> = (0..32_000).map(|_| next()).collect();
    for (i, block) in values.chunks_mut(32).enumerate() {
        let exponent = i as i32 % 46 - 30;
        block.iter_mut().for_each(|x| *x *= 2f32.powi(exponent));
        match i {
            5 => block.fill(0.0),
            _ if i % 10 == 3 => block
                .iter_mut()
                .for_each(|x| *x = (*x * 2f32.powi(-exponent) * 254.0).round_ties_even() / 2.0),
            _ if i % 10 == 7 => {
                let first = block[0];
                block.iter_mut().for_each(|x| *x = x.signum() * first);
            }
            _ => {}
        }
    }
    values
}

fn fnv1a<B: Block>(row: &[B]) -> u64 {
    // SAFETY: blocks have alignment 1 and no padding.
    let bytes = unsafe { std::slice::from_raw_parts(row.as_ptr().cast::<u8>(), size_of_val(row)) };
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn blocks_are_those_of_ggml() {
    let x = values();
    for ops in Ops::available(Features::detect_host()) {
        let mut q4_0 = [BlockQ4_0::ZERO; 1000];
        ops.quantize_q4_0(&mut q4_0, &x);
        assert_eq!(fnv1a(&q4_0), 0x2141_2704_3179_0cf6, "{ops:?} q4_0");
        let mut q4_1 = [BlockQ4_1::ZERO; 1000];
        ops.quantize_q4_1(&mut q4_1, &x);
        assert_eq!(fnv1a(&q4_1), 0x3bf5_238b_43f8_5913, "{ops:?} q4_1");
        let mut q8_0 = [BlockQ8_0::ZERO; 1000];
        ops.quantize_q8_0(&mut q8_0, &x);
        assert_eq!(fnv1a(&q8_0), 0x7f67_b4d5_1ba7_b0d4, "{ops:?} q8_0");
        let mut f16 = vec![F16::default(); x.len()];
        ops.f16_from_f32(&mut f16, &x);
        assert_eq!(fnv1a(&f16), 0xc5a1_e7a2_55b3_b3ae, "{ops:?} f16");
    }
    let bf16: Vec<Bf16> = x.iter().map(|x| Bf16::new(*x)).collect();
    assert_eq!(fnv1a(&bf16), 0xbd5b_672e_05da_b65c, "bf16");
}
