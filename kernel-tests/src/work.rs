//! `mode=work`: how many instructions tokens and slices take, for each back-end.
//!
//! A step at one position is counted for every token of a vocabulary, then every step and every slice of one unit of a
//! generation, in which attention has more to do at each step; and a step for some tokens at a position so far that
//! attention puts together two blocks. Under `-icount shift=0` counts are instructions and repeat.
//!
//! `plant=branch` adds a branch that depends on the token: the mode must then fail.

use core::hint::black_box;
use core::num::NonZeroU32;

use corelm::Token;
use corelm::ops::Ops;
use corelm::session::{Progress, Session, SessionError};
use corelm_cases::synth::SynthConfig;

use crate::board::Context;
use crate::counter::CycleCounter;
use crate::model::{self, EngineError};
use crate::{println, tiny};

const PROMPT: [Token; 5] = [84, 256, 300, 12, 400];
const N_GENERATED: usize = 64;

/// The same model with a longer context, and the position that is far: in attention's second block of 256.
const LONG: SynthConfig = SynthConfig { n_ctx: 288, ..SynthConfig::TINY };
const FAR: usize = 260;
/// From one token that is tried there to the next.
const FAR_STRIDE: usize = 16;

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
                session.prefill(&PROMPT)?;
                let tokens = each_token(session, 1, is_planted)?;
                report(ops, "token", &tokens);
                let (steps, slices) = generation(session)?;
                report(ops, "step", &steps);
                report(ops, "slice", &slices);
                if steps.most > 2 * steps.least {
                    return Err(EngineError::Broken("a step of a generation takes more than twice another"));
                }
                tokens.are_the_same()
            })?;
        }
        Ok(())
    })?;
    tiny::with_file(&LONG, |file| {
        for ops in model::backends() {
            tiny::with_session(file, ops, LONG.n_ctx, |session| {
                for token in TOKENS.into_iter().cycle().take(FAR) {
                    session.step(token)?;
                }
                let tokens = each_token(session, FAR_STRIDE, false)?;
                report(ops, "far", &tokens);
                tokens.are_the_same()
            })?;
        }
        Ok(())
    })
}

/// The least and the most instructions of a step at the session's position, over each `stride`-th token.
fn each_token(session: &mut Session<'_, '_>, stride: usize, is_planted: bool) -> Result<Counts, EngineError> {
    let pos = session.pos();
    session.step(0)?;
    let mut counts = Counts::NONE;
    for token in (0..).take(session.vocab_size()).step_by(stride) {
        session.truncate(pos);
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

    /// An error when the counts of tokens are not.
    fn are_the_same(&self) -> Result<(), EngineError> {
        if self.least == self.most {
            return Ok(());
        }
        Err(EngineError::Broken("the token decides how many instructions its step takes"))
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
