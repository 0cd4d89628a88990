//! AVX-VNNI: AVX2 with dot products of bytes by fours, eight rows to a register.

use core::arch::x86_64::*;

use super::avx2;
use super::avx2::panels::{accumulate_halves, load_nibbles, rows_of, scales, splat_group};
use crate::cpu::Feature;
use crate::panel::{BlockQ8, Kernel, PanelQ4_0, PanelQ4_1, PanelQ8_0, Results, is_enough};
use crate::table::{Backend, OpTable};
use crate::workspace::Spill;

pub(crate) const TABLE: OpTable = OpTable {
    backend: Backend::AvxVnni,
    needs: avx2::TABLE.needs.union(Feature::AVX_VNNI),
    q8_0: Kernel { accumulate: accumulate_q8_0, two_streams: None, ..avx2::TABLE.q8_0 },
    q4_0: Kernel { accumulate: accumulate_q4_0, two_streams: None, ..avx2::TABLE.q4_0 },
    q4_1: Kernel { accumulate: accumulate_q4_1, two_streams: None, ..avx2::TABLE.q4_1 },
    ..avx2::TABLE
};

/// The sums of unsigned quants and activations for eight rows, `start` added. Two chains, for the latency.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn sum_groups(w: &[__m256i; 8], x: &BlockQ8, start: i32) -> __m256 {
    let (mut even, mut odd) = (_mm256_set1_epi32(start), _mm256_setzero_si256());
    for (pair, w) in w.as_chunks::<2>().0.iter().enumerate() {
        even = _mm256_dpbusd_avx_epi32(even, w[0], splat_group(x, 2 * pair));
        odd = _mm256_dpbusd_avx_epi32(odd, w[1], splat_group(x, 2 * pair + 1));
    }
    _mm256_cvtepi32_ps(_mm256_add_epi32(even, odd))
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn accumulate_q4_0(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[PanelQ4_0], _: &mut Spill) {
    accumulate_halves!(
        acc,
        x,
        stride,
        panels,
        |panel, half| (scales(&panel.d, half), load_nibbles(&panel.qs, half)),
        |acc, x, w| _mm256_fmadd_ps(
            sum_groups(&w.1, x, x.offset),
            _mm256_mul_ps(w.0, _mm256_set1_ps(x.d)),
            acc
        )
    );
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn accumulate_q4_1(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[PanelQ4_1], _: &mut Spill) {
    accumulate_halves!(
        acc,
        x,
        stride,
        panels,
        |panel, half| (scales(&panel.d, half), scales(&panel.m, half), load_nibbles(&panel.qs, half)),
        |acc, x, w| {
            let acc = _mm256_fmadd_ps(sum_groups(&w.2, x, 0), _mm256_mul_ps(w.0, _mm256_set1_ps(x.d)), acc);
            _mm256_fmadd_ps(_mm256_set1_ps(x.offset as f32 * -0.125 * x.d), w.1, acc)
        }
    );
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn accumulate_q8_0(acc: &mut [Results], x: &[BlockQ8], stride: usize, panels: &[PanelQ8_0], _: &mut Spill) {
    accumulate_halves!(
        acc,
        x,
        stride,
        panels,
        |panel, half| {
            let groups = panel.qs.each_ref().map(|group| {
                // SAFETY: a group is 64 bytes, a half of it 32; the load is unaligned.
                let signed = unsafe { _mm256_loadu_si256(group.as_ptr().cast::<__m256i>().add(half)) };
                // 128 more, which 16 times the offset takes off again.
                _mm256_xor_si256(signed, _mm256_set1_epi8(-128))
            });
            (scales(&panel.d, half), groups)
        },
        |acc, x, w| {
            let sums = sum_groups(&w.1, x, 16 * x.offset);
            _mm256_fmadd_ps(sums, _mm256_mul_ps(w.0, _mm256_set1_ps(x.d)), acc)
        }
    );
}
