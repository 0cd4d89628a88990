//! `mode=work`: how many instructions tokens and slices take, for each back-end.
//!
//! A step at one position is counted for every token of a vocabulary, then every step and every slice of one unit of a
//! generation, in which attention has more to do at each step. Under `-icount shift=0` counts are instructions and repeat.
//!
//! `plant=branch` adds a branch that depends on the token: the mode must then fail.

use core::hint::black_box;
use core::num::NonZeroU32;

use corelm::Token;
use corelm::ops::{Backend, Ops};
use corelm::session::{Progress, Session, SessionError};
use corelm_cases::synth::SynthConfig;

use crate::board::Context;
use crate::counter::CycleCounter;
use crate::model::{self, EngineError};
use crate::{println, tiny};

const PROMPT: [Token; 5] = [84, 256, 300, 12, 400];
const N_GENERATED: usize = 64;

/// How far counts of the portable back-end may be apart, in thousandths of the least: its exponential is `libm`'s, which
/// branches, and so do its conversions to halves.
const SCALAR_SPREAD: u64 = 5;

/// Counts on each back-end.
///
/// # Errors
///
/// `Broken` when the token decides how much work there is, or a step of a generation takes more than twice another.
pub fn run(context: &Context) -> Result<(), EngineError> {
    let is_planted = context.args.plant == "branch";
    let config = SynthConfig::TINY;
    tiny::with_file(&config, |file| {
        for ops in model::backends() {
            tiny::with_session(file, ops, config.n_ctx, |session| {
                let tokens = each_token(session, is_planted)?;
                report(ops, "token", &tokens);
                let (steps, slices) = generation(session)?;
                report(ops, "step", &steps);
                report(ops, "slice", &slices);
                let spread = if ops.backend() == Backend::Scalar { SCALAR_SPREAD } else { 0 };
                if (tokens.most - tokens.least) * 1000 > tokens.least * spread {
                    return Err(EngineError::Broken(
                        "the token decides how many instructions its step takes",
                    ));
                }
                if steps.most > 2 * steps.least {
                    return Err(EngineError::Broken("a step of a generation takes more than twice another"));
                }
                Ok(())
            })?;
        }
        Ok(())
    })
}

/// The least and the most instructions of a step, over all tokens at one position.
fn each_token(session: &mut Session<'_, '_>, is_planted: bool) -> Result<Counts, EngineError> {
    session.prefill(&PROMPT)?;
    session.step(0)?;
    let mut counts = Counts::NONE;
    for token in (0..).take(session.vocab_size()) {
        session.truncate(PROMPT.len());
        let count = counted(|| {
            if is_planted && token % 2 == 1 {
                black_box(token);
            }
            session.step(token).map(|_| ())
        })?;
        counts.include(count);
    }
    Ok(counts)
}

/// The least and the most instructions of a step, and of a slice of one unit, over a generation behind [`PROMPT`].
fn generation(session: &mut Session<'_, '_>) -> Result<(Counts, Counts), EngineError> {
    session.reset();
    session.prefill(&PROMPT)?;
    let (mut steps, mut slices) = (Counts::NONE, Counts::NONE);
    while session.pos() < PROMPT.len() + N_GENERATED {
        session.begin(&[TOKENS[session.pos() % TOKENS.len()]])?;
        let (mut step, mut progress) = (0, Progress::Pending);
        while progress == Progress::Pending {
            let slice = counted(|| {
                progress = session.poll(NonZeroU32::MIN)?;
                Ok(())
            })?;
            slices.include(slice);
            step += slice;
        }
        steps.include(step);
    }
    Ok((steps, slices))
}

/// What is generated.
const TOKENS: [Token; 4] = [84, 301, 12, 400];

/// Instructions of `body`, with those of two readings of the counter.
fn counted(body: impl FnOnce() -> Result<(), SessionError>) -> Result<u64, SessionError> {
    let began = CycleCounter.now();
    let result = body();
    let count = CycleCounter.now() - began;
    result.map(|()| count)
}

/// The least and the most of some counts.
struct Counts {
    least: u64,
    most: u64,
}

impl Counts {
    const NONE: Self = Self { least: u64::MAX, most: 0 };

    fn include(&mut self, count: u64) {
        self.least = self.least.min(count);
        self.most = self.most.max(count);
    }
}

/// A row as those of benchmarks, so that what is recorded can be compared.
fn report(ops: Ops, what: &str, counts: &Counts) {
    println!(
        "{{\"case\":\"{what}/{}\",\"median\":{},\"min\":{}}}",
        ops.backend().name(),
        counts.most,
        counts.least
    );
}
