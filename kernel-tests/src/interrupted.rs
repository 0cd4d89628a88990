//! `mode=interrupts` and `mode=faults`: one token, computed over and over, each time interrupted at another instruction.
//!
//! Whatever happens, the logits are those of the token undisturbed, bit for bit, and the registers that a call must keep are
//! the neighbour's; or an SError took the call away, and the session says so until it is reset. Under `-icount shift=0` a
//! run repeats itself exactly.
//!
//! `plant=vectors` and `plant=control` leave registers unrestored in the handler, `plant=neighbour` changes FPCR behind a
//! slice, `plant=unhealed` goes on with a session that was given up: the modes must then fail.

use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use corelm::Token;
use corelm::ops::Ops;
use corelm::session::{Progress, Session, SessionError};
use corelm_cases::synth::SynthConfig;

use crate::board::Context;
use crate::interrupts::{self, Call, Ended, Plant, Registers};
use crate::model::{self, EngineError};
use crate::{println, tiny};

const PROMPT: [Token; 5] = [84, 256, 300, 12, 400];
const TOKEN: Token = 301;

/// Units of a slice: a token takes several.
const BUDGET: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// A delay that ends within the token.
const FIRST_DELAY: u64 = 4096;

/// Interrupts the engine.
///
/// # Errors
///
/// `Broken` when the engine did not stand it.
pub fn by_interrupts(context: &Context) -> Result<(), EngineError> {
    on_each_backend(context, |ops, session, sweep| {
        neighbour(session, context.args.plant == "neighbour")?;
        for i in 0..sweep.n_calls {
            let mut registers = Registers::pattern(i);
            let (ended, result) = sweep.call(i, Fault::None, session, &mut registers);
            if ended == Ended::GivenUp || result != Some(Ok(())) {
                return Err(EngineError::Broken("an interrupted token did not come to its end"));
            }
            sweep.check(session, &registers, &Registers::pattern(i))?;
            session.truncate(PROMPT.len());
        }
        sweep.report(ops, 0)
    })
}

/// Interrupts the engine, each time with an SError behind it; every second one gives up the call.
///
/// # Errors
///
/// `Broken` when the engine did not stand it.
pub fn by_faults(context: &Context) -> Result<(), EngineError> {
    if context.entry_level != 2 {
        return Err(EngineError::NoInterrupts);
    }
    on_each_backend(context, |ops, session, sweep| {
        let (before, mut n_poisoned) = (interrupts::n_faults(), 0);
        for i in 0..sweep.n_calls {
            let fault = if i % 2 == 0 { Fault::Survived } else { Fault::GivesUp };
            let mut registers = Registers::pattern(i);
            let (ended, result) = sweep.call(i, fault, session, &mut registers);
            match (ended, result) {
                (Ended::Returned, Some(Ok(()))) => {
                    sweep.check(session, &registers, &Registers::pattern(i))?;
                }
                (Ended::GivenUp, _) => n_poisoned += u64::from(sweep.given_up(session, context)?),
                _ => return Err(EngineError::Broken("a token with an SError in it did not come to its end")),
            }
            session.truncate(PROMPT.len());
        }
        if interrupts::n_faults() - before != sweep.n_taken || n_poisoned < sweep.n_calls / 4 {
            return Err(EngineError::Broken("SErrors did not come where they were asked for"));
        }
        sweep.report(ops, n_poisoned)
    })
}

/// What follows the interrupt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Survived,
    GivesUp,
}

/// The token as it should be, and where it was interrupted so far.
struct Sweep {
    n_calls: u64,
    /// Bits of its logits.
    want: Vec<u32>,
    /// Instructions of the token.
    total: u64,
    /// Instructions from the arming of the timer to the call.
    lead: u64,
    n_taken: u64,
    /// A bit for each instruction of the token.
    places: Vec<u64>,
}

/// Runs `body` for the back-end of the command line, or for each.
fn on_each_backend(
    context: &Context,
    mut body: impl FnMut(Ops, &mut Session<'_, '_>, &mut Sweep) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let only = context.args.backend.as_ref().map(|_| model::backend(context)).transpose()?;
    let plant = match context.args.plant.as_str() {
        "vectors" => Plant::Vectors,
        "control" => Plant::Control,
        _ => Plant::None,
    };
    let gic = context.gic.ok_or(EngineError::NoInterrupts)?;
    // SAFETY: this runs on core 0, and the board says that there is such a GIC.
    unsafe { interrupts::enable(gic, plant) }.map_err(|_| EngineError::NoInterrupts)?;
    tiny::with_file(&SynthConfig::TINY, |file| {
        for ops in model::backends().filter(|ops| only.is_none_or(|only| only == *ops)) {
            tiny::with_session(file, ops, 16, |session| {
                let mut sweep = Sweep::new(session, context.args.n as u64)?;
                body(ops, session, &mut sweep)
            })?;
        }
        Ok(())
    })
}

/// Computes [`TOKEN`], in slices.
fn token(session: &mut Session<'_, '_>) -> Result<(), SessionError> {
    session.begin(&[TOKEN])?;
    finish(session)
}

fn finish(session: &mut Session<'_, '_>) -> Result<(), SessionError> {
    while session.poll(BUDGET)? == Progress::Pending {}
    Ok(())
}

fn is_same(logits: &[f32], want: &[u32]) -> bool {
    logits.len() == want.len() && logits.iter().zip(want).all(|(x, bits)| x.to_bits() == *bits)
}

impl Sweep {
    /// Computes the token undisturbed, then once with an interrupt, to learn when it comes.
    fn new(session: &mut Session<'_, '_>, n_calls: u64) -> Result<Self, EngineError> {
        session.prefill(&PROMPT)?;
        let want = session.step(TOKEN)?.iter().map(|x| x.to_bits()).collect();
        let mut times = |delay| {
            session.truncate(PROMPT.len());
            let call = Call { delay, asks_fault: false, gives_up: false };
            let mut result = None;
            let (_, times) = call.run(&mut Registers::pattern(0), &mut || result = Some(token(session)));
            if result == Some(Ok(())) {
                Ok(times)
            } else {
                Err(EngineError::Broken("an interrupted token did not come to its end"))
            }
        };
        times(0)?; // the first one may map, fill caches and translate
        let total = times(0)?.total;
        let at = times(FIRST_DELAY)?.taken_at;
        let at = at.ok_or(EngineError::Broken("the timer's interrupt did not come in time"))?;
        session.truncate(PROMPT.len());
        let places = vec![0; (total / 64 + 1) as usize];
        Ok(Self { n_calls, want, total, lead: FIRST_DELAY.saturating_sub(at), n_taken: 0, places })
    }

    /// Computes the token with an interrupt at place `i`.
    fn call(
        &mut self,
        i: u64,
        fault: Fault,
        session: &mut Session<'_, '_>,
        registers: &mut Registers,
    ) -> (Ended, Option<Result<(), SessionError>>) {
        let call = Call {
            delay: self.lead + i * self.total / self.n_calls,
            asks_fault: fault != Fault::None,
            gives_up: fault == Fault::GivesUp,
        };
        let mut result = None;
        let (ended, times) = call.run(registers, &mut || result = Some(token(session)));
        if let Some(at) = times.taken_at {
            self.n_taken += 1;
            if let Some(word) = self.places.get_mut((at / 64) as usize) {
                *word |= 1 << (at % 64);
            }
        }
        (ended, result)
    }

    /// Whether all is as it should be behind a token that came to its end.
    fn check(
        &self,
        session: &Session<'_, '_>,
        have: &Registers,
        before: &Registers,
    ) -> Result<(), EngineError> {
        if !have.keeps(before) {
            return Err(EngineError::Broken("a register that a call must keep is not the neighbour's"));
        }
        if !is_same(session.logits(), &self.want) || session.pos() != PROMPT.len() + 1 {
            return Err(EngineError::Broken("an interrupt changed the logits"));
        }
        Ok(())
    }

    /// What is left of a call that was given up: a session as before it or behind it, or one that answers nothing until it
    /// is reset. Says whether it was the last; afterwards the token comes out right.
    fn given_up(&self, session: &mut Session<'_, '_>, context: &Context) -> Result<bool, EngineError> {
        let broken = Err(EngineError::Broken("a session that was given up is neither right nor poisoned"));
        if session.is_pending() {
            finish(session)?; // between two slices
        }
        if !session.logits().is_empty() && !is_same(session.logits(), &self.want) {
            return broken;
        }
        let is_poisoned = session.begin(&[TOKEN]) == Err(SessionError::Poisoned);
        session.cancel();
        if is_poisoned {
            let says_so = session.logits().is_empty()
                && session.poll(BUDGET) == Err(SessionError::Poisoned)
                && session.prefill(&PROMPT) == Err(SessionError::Poisoned);
            session.truncate(0);
            if !says_so || session.step(TOKEN) != Err(SessionError::Poisoned) {
                return broken;
            }
            if context.args.plant != "unhealed" {
                session.reset();
            }
            session.prefill(&PROMPT)?;
        }
        session.truncate(PROMPT.len());
        if session.pos() != PROMPT.len() || !is_same(session.step(TOKEN)?, &self.want) {
            return broken;
        }
        Ok(is_poisoned)
    }

    /// Prints what was done; an error when the places were too few.
    fn report(&self, ops: Ops, n_poisoned: u64) -> Result<(), EngineError> {
        let n_places: u64 = self.places.iter().map(|word| u64::from(word.count_ones())).sum();
        println!(
            "{{\"interrupted\":\"{}\",\"calls\":{},\"places\":{n_places},\"instructions\":{},\"poisoned\":{n_poisoned}}}",
            ops.backend().name(),
            self.n_calls,
            self.total
        );
        // What lies behind the call's end is not in it.
        if n_places < self.n_calls.min(self.total) * 9 / 10 {
            return Err(EngineError::Broken("interrupts came at too few places"));
        }
        Ok(())
    }
}

/// Every slice by itself: what a call must keep is kept.
fn neighbour(session: &mut Session<'_, '_>, is_planted: bool) -> Result<(), EngineError> {
    session.truncate(PROMPT.len());
    session.begin(&[TOKEN])?;
    let call = Call { delay: 0, asks_fault: false, gives_up: false };
    for seed in 0.. {
        let mut registers = Registers::pattern(seed);
        let mut progress = Ok(Progress::Ready);
        call.run(&mut registers, &mut || {
            progress = session.poll(NonZeroU32::MIN);
            if is_planted {
                interrupts::spoil_control();
            }
        });
        if !registers.keeps(&Registers::pattern(seed)) {
            return Err(EngineError::Broken("a slice does not keep the neighbour's registers"));
        }
        if progress? == Progress::Ready {
            break;
        }
    }
    session.truncate(PROMPT.len());
    Ok(())
}
