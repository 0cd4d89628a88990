//! Tests of the sampler against definitions that sort.

extern crate std;
use super::*;
use core::mem::MaybeUninit;
use std::vec::Vec;

/// Runs `body` with a sampler over `vocab_size` tokens in a region of exactly the planned size.
fn with_sampler(config: SamplingConfig, vocab_size: usize, body: impl FnOnce(&mut Sampler<'_>)) {
    let mut region = std::vec![MaybeUninit::uninit(); Sampler::layout(vocab_size).unwrap().bytes()];
    let mut arena = Arena::new(&mut region);
    let mut sampler = Sampler::new(config, vocab_size, &mut arena).unwrap();
    assert_eq!(arena.stats().used, arena.stats().capacity);
    body(&mut sampler);
}

/// Logits without order: many ties, both zeros.
fn logits(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Pcg32::new(seed);
    (0..n)
        .map(|_| (random.next_u32() % 64) as f32 * 0.25 - 8.0)
        .map(|x| if x == 0.0 { -0.0 } else { x })
        .collect()
}

/// Token ids, best first, by sorting.
fn ranking(logits: &[f32]) -> Vec<Token> {
    let mut ids: Vec<Token> = (0..logits.len() as Token).collect();
    ids.sort_by(|&a, &b| (logits[b as usize] + 0.0).total_cmp(&(logits[a as usize] + 0.0)).then(a.cmp(&b)));
    ids
}

/// The tokens that can be drawn, sorted.
fn kept(sampler: &mut Sampler<'_>, logits: &[f32]) -> Vec<Token> {
    sampler.sample(logits).unwrap(); // fills the candidates
    for (candidate, (token, &score)) in sampler.candidates.iter_mut().zip((0..).zip(logits)) {
        *candidate = Candidate { score: score + 0.0, token };
    }
    let n = sampler.filter();
    let mut ids: Vec<_> = sampler.candidates.iter().rev().take(n).map(|c| c.token).collect();
    ids.sort();
    ids
}

const NEUTRAL: SamplingConfig = SamplingConfig { temperature: 1.0, ..SamplingConfig::GREEDY };

#[test]
fn greedy_takes_the_first_of_the_best() {
    with_sampler(SamplingConfig::GREEDY, 5, |sampler| {
        assert_eq!(sampler.sample(&[0.0, 3.0, -1.0, 3.0, 2.0]), Ok(1));
        assert_eq!(sampler.sample(&[-0.0, 0.0, -1.0, -2.0, 0.0]), Ok(0));
        assert_eq!(sampler.sample(&[-3.0, f32::MIN, -2.5, f32::MIN_POSITIVE, -0.0]), Ok(3));
    });
}

#[test]
fn top_k_keeps_exactly_k() {
    for n in [1, 2, 3, 10, 33, 257] {
        for k in [1, 2, 3, 7, n - 1, n, n + 5] {
            let logits = logits(n, (n * 1000 + k) as u64);
            let mut want = ranking(&logits);
            want.truncate(if k == 0 { n } else { k });
            want.sort();
            with_sampler(SamplingConfig { top_k: k, ..NEUTRAL }, n, |sampler| {
                assert_eq!(kept(sampler, &logits), want, "n {n} k {k}");
            });
        }
    }
}

#[test]
fn top_p_and_min_p_cut_where_the_definition_says() {
    for seed in 0..50 {
        let logits = logits(100, seed);
        let ids = ranking(&logits);
        let p = |token: Token| f64::from(logits[token as usize] - logits[ids[0] as usize]).exp();
        for (top_k, top_p, min_p) in [
            (0, 0.9, 0.0),
            (0, 0.5, 0.0),
            (0, 1.0, 0.2),
            (20, 0.95, 0.05),
            (20, 0.3, 0.0),
            (0, 1e-9, 0.0),
            (0, 0.99, 1.0),
        ] {
            let n_top = if top_k == 0 { 100 } else { top_k };
            let total: f64 = ids[..n_top].iter().map(|&token| p(token)).sum();
            let (mut want, mut sum) = (Vec::new(), 0.0);
            for &token in &ids[..n_top] {
                if !want.is_empty() && (sum >= f64::from(top_p) * total || p(token) < f64::from(min_p) - 1e-6)
                {
                    break;
                }
                sum += p(token);
                want.push(token);
            }
            want.sort();
            let config = SamplingConfig { top_k, top_p, min_p, ..NEUTRAL };
            with_sampler(config, 100, |sampler| assert_eq!(kept(sampler, &logits), want, "{config:?}"));
        }
    }
}

#[test]
fn draws_follow_the_probabilities_and_the_temperature() {
    let logits = [1.0f32, 0.0, -1.0, 2.0];
    for (temperature, top_k) in [(1.0, 0), (0.5, 0), (2.0, 0), (1.0, 2)] {
        let config = SamplingConfig { temperature, top_k, seed: 7, ..NEUTRAL };
        let kept: &[usize] = if top_k == 2 { &[3, 0] } else { &[0, 1, 2, 3] };
        let weight = |i: usize| f64::from(logits[i] / temperature).exp();
        let total: f64 = kept.iter().map(|&i| weight(i)).sum();
        with_sampler(config, 4, |sampler| {
            let (mut counts, n) = ([0; 4], 100_000);
            (0..n).for_each(|_| counts[sampler.sample(&logits).unwrap() as usize] += 1);
            for (i, &count) in counts.iter().enumerate() {
                let want = if kept.contains(&i) { weight(i) / total } else { 0.0 };
                let have = f64::from(count) / f64::from(n);
                assert!((have - want).abs() < 0.01, "token {i}: {have} for {want}"); // six sigma
            }
        });
    }
}

#[test]
fn equal_seeds_draw_alike_and_the_sequence_moves_on() {
    let logits = logits(50, 3);
    let draw = |seed| {
        let mut tokens = Vec::new();
        with_sampler(SamplingConfig { seed, ..NEUTRAL }, 50, |sampler| {
            tokens.extend((0..40).map(|_| sampler.sample(&logits).unwrap()));
            let config = *sampler.config();
            sampler.reset(config).unwrap();
            tokens.extend((0..40).map(|_| sampler.sample(&logits).unwrap()));
        });
        assert_eq!(tokens[..40], tokens[40..]);
        tokens
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert!(draw(1)[..40].windows(2).any(|pair| pair[0] != pair[1]));
}

#[test]
fn the_penalty_reaches_back_as_far_as_the_window() {
    let config = SamplingConfig { repeat_penalty: 2.0, repeat_last_n: 3, ..SamplingConfig::GREEDY };
    with_sampler(config, 4, |sampler| {
        let logits = [4.0, 3.0, -1.0, 1.5];
        assert_eq!(sampler.sample(&logits), Ok(0));
        (0..2).for_each(|_| sampler.accept(0)); // twice in the window, penalized once: 2.0
        assert_eq!(sampler.sample(&logits), Ok(1));
        sampler.accept(1); // 1.5: token 0 has 2.0
        assert_eq!(sampler.sample(&logits), Ok(0));
        (0..2).for_each(|_| sampler.accept(2));
        assert_eq!(sampler.sample(&logits), Ok(0), "token 0 has left the window");
        assert_eq!(sampler.candidates[2].score, -2.0);
        sampler.accept(99); // no such token: no effect
        assert_eq!(sampler.sample(&logits), Ok(0));
    });
}

#[test]
fn what_is_not_finite_or_out_of_range_is_an_error() {
    with_sampler(NEUTRAL, 3, |sampler| {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(sampler.sample(&[1.0, bad, 0.0]), Err(SamplerError::NonFinite { token: 1 }));
        }
        assert_eq!(sampler.sample(&[1.0]), Err(SamplerError::LogitCount { have: 1, want: 3 }));
        for extreme in [[f32::MAX; 3], [f32::MIN; 3], [f32::MIN, 0.0, f32::MAX]] {
            assert!(sampler.sample(&extreme).is_ok());
        }
        let bad = [
            (Setting::Temperature, SamplingConfig { temperature: -0.1, ..NEUTRAL }),
            (Setting::Temperature, SamplingConfig { temperature: f32::NAN, ..NEUTRAL }),
            (Setting::Temperature, SamplingConfig { temperature: f32::INFINITY, ..NEUTRAL }),
            (Setting::TopP, SamplingConfig { top_p: 0.0, ..NEUTRAL }),
            (Setting::TopP, SamplingConfig { top_p: 1.01, ..NEUTRAL }),
            (Setting::TopP, SamplingConfig { top_p: f32::NAN, ..NEUTRAL }),
            (Setting::MinP, SamplingConfig { min_p: 1.5, ..NEUTRAL }),
            (Setting::MinP, SamplingConfig { min_p: -0.1, ..NEUTRAL }),
            (Setting::RepeatPenalty, SamplingConfig { repeat_penalty: 0.0, ..NEUTRAL }),
            (Setting::RepeatPenalty, SamplingConfig { repeat_penalty: -1.0, ..NEUTRAL }),
            (Setting::RepeatPenalty, SamplingConfig { repeat_penalty: f32::INFINITY, ..NEUTRAL }),
            (Setting::RepeatLastN, SamplingConfig { repeat_last_n: 257, ..NEUTRAL }),
        ];
        let good = SamplingConfig { top_p: 1.0, min_p: 1.0, repeat_last_n: 256, temperature: 0.0, ..NEUTRAL };
        assert_eq!(good.check(), Ok(()));
        for (setting, config) in bad {
            assert_eq!(sampler.reset(config), Err(SamplerError::Setting { setting }));
        }
        for preset in [SamplingConfig::GREEDY, SamplingConfig::BALANCED, SamplingConfig::CREATIVE] {
            assert_eq!(sampler.reset(preset), Ok(()));
        }
    });
}

#[test]
fn no_vocabulary_has_no_token() {
    with_sampler(NEUTRAL, 0, |sampler| {
        assert_eq!(sampler.sample(&[]), Err(SamplerError::LogitCount { have: 0, want: 0 }));
        assert_eq!(sampler.sample(&[1.0]), Err(SamplerError::LogitCount { have: 1, want: 0 }));
    });
}

/// The sequence of the reference's demonstration (see `random.rs`), as numbers in [0, 1).
#[test]
fn draws_are_where_the_random_numbers_fall() {
    let config = SamplingConfig { seed: 42, ..NEUTRAL };
    with_sampler(config, 4, |sampler| {
        // Four equal weights, drawn from the back of the candidates: quarters of [0, 1) in the order of the tokens.
        let want = [0xa15c_02b7u32, 0x7b47_f409, 0xba1d_3330, 0x83d2_f293, 0xbfa4_784b, 0xcbed_606e];
        for number in want {
            let quarter = 3 - (number >> 30); // token 3 is the last candidate
            assert_eq!(sampler.sample(&[0.5; 4]), Ok(quarter));
        }
        // An error leaves the sequence where it is.
        sampler.reset(config).unwrap();
        sampler.sample(&[f32::NAN; 4]).unwrap_err();
        assert_eq!(sampler.sample(&[0.5; 4]), Ok(3 - (want[0] >> 30)));
    });
}

#[test]
fn the_token_that_makes_the_share_full_is_the_last() {
    with_sampler(SamplingConfig { top_p: 0.5, ..NEUTRAL }, 4, |sampler| {
        assert_eq!(kept(sampler, &[1.0, 1.0, -200.0, -200.0]), [0]);
    });
}

/// A share of all is all, also where the weights of the last are too small to be seen in the sum.
#[test]
fn the_whole_share_keeps_what_has_no_weight() {
    with_sampler(SamplingConfig { top_k: 3, top_p: 1.0, ..NEUTRAL }, 4, |sampler| {
        assert_eq!(kept(sampler, &[1.0, 1.0, -200.0, -200.0]), [0, 1, 2]);
    });
}

/// A number between two tokens is the second's: what has no weight is not drawn. Of these seeds the first numbers are 0 and 1/4.
#[test]
fn a_token_without_weight_is_not_drawn() {
    with_sampler(SamplingConfig { seed: 1_739_563_282, ..NEUTRAL }, 3, |sampler| {
        assert_eq!(sampler.sample(&[0.0, 0.0, -200.0]), Ok(1));
    });
    with_sampler(SamplingConfig { seed: 5_055_543_910, ..NEUTRAL }, 4, |sampler| {
        assert_eq!(sampler.sample(&[0.5; 4]), Ok(2));
    });
}

/// Weights are relative to the best: e^1000 is no number.
#[test]
fn large_logits_are_drawn_by_their_differences() {
    with_sampler(SamplingConfig { seed: 3, ..NEUTRAL }, 2, |sampler| {
        let n = (0..2000).filter(|_| sampler.sample(&[1000.0, 1000.0]) == Ok(0)).count();
        assert!((850..1150).contains(&n), "{n} of 2000");
    });
}

/// A penalty divides what is above 0 and multiplies what is not, and stays finite.
#[test]
fn penalties_have_the_signs_of_llama_cpp_and_stay_finite() {
    let config = SamplingConfig { repeat_penalty: 4.0, repeat_last_n: 4, ..SamplingConfig::GREEDY };
    with_sampler(config, 4, |sampler| {
        (0..4).for_each(|token| sampler.accept(token));
        sampler.sample(&[8.0, -8.0, 0.0, f32::MIN]).unwrap();
        let scores: Vec<f32> = sampler.candidates.iter().map(|candidate| candidate.score).collect();
        assert_eq!(scores, [2.0, -32.0, 0.0, f32::MIN]);
    });
    // Below 1 it is a reward.
    let config = SamplingConfig { repeat_penalty: 0.5, repeat_last_n: 4, ..SamplingConfig::GREEDY };
    with_sampler(config, 2, |sampler| {
        sampler.accept(1);
        sampler.sample(&[f32::MAX, f32::MAX]).unwrap();
        assert_eq!(sampler.candidates[1].score, f32::MAX);
    });
}

/// A window without room remembers nothing, and a new configuration forgets.
#[test]
fn what_is_remembered_is_the_window() {
    let config = SamplingConfig { repeat_penalty: 2.0, repeat_last_n: 2, ..SamplingConfig::GREEDY };
    with_sampler(SamplingConfig { repeat_last_n: 0, ..config }, 2, |sampler| {
        sampler.accept(0);
        assert_eq!(sampler.sample(&[3.0, 2.0]), Ok(0));
        sampler.reset(config).unwrap();
        assert_eq!(sampler.config().repeat_last_n, 2);
        assert_eq!(sampler.sample(&[3.0, 2.0]), Ok(0));
        sampler.accept(0);
        assert_eq!((sampler.n_recent, sampler.next), (1, 1));
        assert_eq!(sampler.sample(&[3.0, 2.0]), Ok(1));
        (0..4).for_each(|_| sampler.accept(1));
        assert_eq!((sampler.n_recent, sampler.next), (2, 1));
        assert_eq!(sampler.sample(&[3.0, 2.0]), Ok(0));
        sampler.reset(config).unwrap();
        assert_eq!((sampler.n_recent, sampler.next), (0, 0));
        assert!(sampler.recent.iter().all(|&token| token == 0));
    });
}

/// Ranked one by one, all of them, whatever was asked for before.
#[test]
fn candidates_come_in_the_order_of_a_sort() {
    for n in 0..40 {
        let logits = logits(n, n as u64);
        let ids = ranking(&logits);
        let mut all: Vec<Candidate> =
            (0..).zip(&logits).map(|(token, &score)| Candidate { score: score + 0.0, token }).collect();
        let mut ranked = Ranked::new(&mut all);
        ranked.rank(n / 3);
        assert_eq!(ranked.ranked().len(), n / 3);
        for (i, &id) in ids.iter().enumerate() {
            assert_eq!(ranked.nth(i).map(|candidate| candidate.token), Some(id), "{n}: {i}");
        }
        assert!(ranked.nth(n).is_none() && ranked.all().len() == n);
    }
}

/// A place that is not there is left alone.
#[test]
fn nothing_sinks_outside_of_a_heap() {
    sift_down(&mut [], 0);
    let mut heap = [3.0, 1.0, 2.0].map(|score| Candidate { score, token: 7 });
    sift_down(&mut heap, 3);
    assert_eq!(heap.map(|candidate| candidate.score), [3.0, 1.0, 2.0]);
}
