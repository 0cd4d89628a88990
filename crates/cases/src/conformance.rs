//! What every back-end, every kernel and every host must get right: one list, run everywhere.
//!
//! Tests panic when something is wrong; a kernel turns that into a failing exit. Bounds on floats are derived from the
//! number of roundings, never tuned.

mod attention;
mod determinism;
mod elementwise;
mod engine;
mod matmul;
mod numbers;
mod products;
mod quantize;
mod rows;
mod shapes;

use core::mem::MaybeUninit;

use corelm::arena::Arena;
use corelm::ops::{Ops, Workers};

/// One test.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// Panics when something is wrong.
    pub run: fn(&mut Stand<'_>),
}

/// What a test stands on.
pub struct Stand<'a> {
    /// The back-end under test.
    pub ops: Ops,
    /// The cores to run on.
    pub workers: &'a dyn Workers,
    /// Memory for data, at least [`TEST_BYTES`]; what it holds is unspecified.
    pub memory: &'a mut [MaybeUninit<u8>],
}

/// Memory that is enough for every test.
pub const TEST_BYTES: usize = 4 << 20;

impl Stand<'_> {
    /// An arena over the whole memory.
    fn arena(&mut self) -> Arena<'_> {
        Arena::new(self.memory)
    }
}

/// Lists functions as tests under their own names.
macro_rules! tests {
    ($($module:ident::{$($name:ident),* $(,)?}),* $(,)?) => {
        &[$($(Test { name: concat!(stringify!($module), "::", stringify!($name)), run: $module::$name },)*)*]
    };
}

/// The conformance list.
pub const TESTS: &[Test] = tests![
    products::{
        f32_dot_matches_reference,
        f16_dot_matches_reference,
        bf16_dot_matches_reference,
        q8_0_dot_matches_reference,
        q4_0_dot_matches_reference,
        q4_1_dot_matches_reference,
        dot_is_the_same_at_every_address,
        extreme_blocks_stay_exact,
        nibbles_lie_in_ggml_order,
        non_finite_values_come_through,
    },
    matmul::{
        gemv_rows_equal_dots,
        gemm_rows_equal_dots,
        quantized_products_have_the_same_bits_everywhere,
        tiles_are_cut_anywhere,
        workers_change_nothing,
    },
    numbers::{
        scales_of_every_kind_are_what_they_say,
        a_broken_row_breaks_no_other,
        subnormal_numbers_are_numbers,
        broken_weights_are_an_error,
    },
    shapes::{
        all_of_32001_rows_equal_dots,
        heads_of_every_width_agree,
        one_position_is_enough,
        models_compute_alike_at_every_address,
    },
    quantize::{
        f16_converts_all_values,
        q8_0_bytes_are_exact,
        q4_0_bytes_are_exact,
        q4_1_bytes_are_exact,
        extreme_inputs_quantize_alike,
        every_type_dequantizes_exactly,
    },
    rows::{
        rms_norm_matches_reference,
        layer_norm_matches_reference,
        softmax_matches_reference,
        softmax_survives_extremes,
        broken_numbers_show_in_rows,
        rope_pairs_neighbours,
        rope_pairs_halves,
    },
    elementwise::{
        silu_matches_reference,
        gelu_matches_reference,
        rounding_to_halves_is_exact,
        arithmetic_is_exact,
    },
    attention::{
        attend_matches_reference,
        attend_together_is_attend_alone,
        attend_over_one_position_copies_it,
    },
    determinism::{
        every_model_is_recorded,
        interleaved_sessions_equal_each_alone,
        logits_have_the_recorded_hash,
    },
    engine::{
        arena_hands_out_what_was_planned,
        parser_survives_truncation,
        parser_survives_bit_flips,
        tokens_come_back_as_text,
        sampling_obeys_its_settings,
        tiny_models_choose_the_golden_ids,
        prefill_equals_steps,
        slices_equal_steps,
        a_full_cache_is_an_error,
        truncated_cache_repeats_itself,
        a_reset_session_answers_nothing,
    },
];
