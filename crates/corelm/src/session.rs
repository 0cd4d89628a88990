//! Session: one sequence of tokens through the model, a token, a prompt or a slice of work at a time.

use core::fmt;
use core::num::NonZeroU32;
use core::sync::atomic::{Ordering, compiler_fence};

use crate::Token;
use crate::arena::Arena;
use crate::config::Config;
use crate::error::ArenaError;
use crate::forward::{Crew, Cursor, Forward, Scratch, Stage, Widths};
use crate::kv_cache::{KvCache, KvError, KvStats};
use crate::ops::cpu::{with_default_floats, with_default_floats_in};
use crate::ops::{Ops, Rotation, Workers};
use crate::plan::MemoryPlan;
use crate::weights::Weights;

/// A sequence, its keys and values, and the work on its next tokens.
///
/// Nothing allocates after [`Session::new`]. What the session held is overwritten with zeros when it is dropped.
pub struct Session<'a, 'm> {
    forward: Forward<'a, 'm>,
    state: State,
    /// How far the batch in work is.
    cursor: Cursor,
    n_ctx: usize,
    n_batch: usize,
    counts: Counts,
}

/// What may be called next. One byte: there is no moment at which half of it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No logits: nothing was run since the start, or the last batch asked for none or was given up.
    Idle,
    /// A batch is in work.
    Pending,
    /// The last batch is done and has logits.
    Ready,
    /// A slice or a wipe began and did not come to its end: shapes disagreed, or its core was taken away.
    Poisoned,
}

/// How far work is that is done in slices: a batch, or a check of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Work is left: call `poll` again.
    Pending,
    /// Done: the tokens are part of the sequence, or the file is the right one.
    Ready,
}

/// What a session has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStats {
    /// Use of the cache.
    pub kv: KvStats,
    /// Tokens run, those of sequences forgotten since included.
    pub n_tokens: u64,
    /// Batches run.
    pub n_batches: u64,
    /// Slices of work done.
    pub n_slices: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    n_tokens: u64,
    n_batches: u64,
    n_slices: u64,
}

/// Why a session did not do as asked. The sequence is as before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// No tokens were given.
    NoTokens,
    /// A batch is longer than planned.
    BatchTooLong {
        /// Tokens given.
        n_tokens: usize,
        /// Tokens planned for.
        n_batch: usize,
    },
    /// The context has no room for the tokens.
    ContextFull {
        /// Positions that the sequence would need, those in use included.
        need: usize,
        /// Positions there are.
        n_ctx: usize,
    },
    /// A token is not of the vocabulary.
    NoSuchToken {
        /// The token.
        token: Token,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A value became infinite, not a number or too large to normalize: the weights are damaged, or made for a wider
    /// range.
    NonFinite {
        /// First position of the batch in work.
        pos: usize,
    },
    /// [`Session::poll`] without a batch.
    NothingPending,
    /// A batch is in work: poll it to its end or cancel it.
    BatchPending,
    /// A slice did not come to its end: parts of the model or its memory disagreed, or whoever called never returned from it.
    /// [`Session::reset`] makes the session usable again.
    Poisoned,
    /// The storage of keys and values does not fit the model's heads: the plan is of another model.
    Kv(KvError),
    /// There are more workers than planned.
    TooManyWorkers {
        /// Workers there are.
        n_workers: usize,
        /// Workers planned for.
        planned: usize,
    },
    /// The arena is too small.
    Arena(ArenaError),
}

impl<'a, 'm> Session<'a, 'm> {
    /// Takes from `arena` what `plan` says; `config`, `weights` and `plan` are of one model.
    ///
    /// # Errors
    ///
    /// [`SessionError::Arena`] when the arena is too small, [`SessionError::TooManyWorkers`] when fewer were planned for.
    pub fn new(
        ops: Ops,
        workers: &'a dyn Workers,
        config: &Config,
        weights: Weights<'a, 'm>,
        plan: &MemoryPlan,
        arena: &mut Arena<'a>,
    ) -> Result<Self, SessionError> {
        let (n_workers, planned) = (workers.count(), plan.session_config.n_workers);
        if n_workers > planned {
            return Err(SessionError::TooManyWorkers { n_workers, planned });
        }
        let widths = Widths::new(config).ok_or(ArenaError::TooLarge)?;
        let (n_ctx, n_batch) = (plan.session_config.n_ctx, plan.session_config.n_batch);
        let (base, scale) = config.rope.map_or((1.0, 1.0), |rope| (rope.base, rope.scale));
        let factors = weights.rope_freqs.unwrap_or_default();
        let forward = Forward {
            ops,
            config: *config,
            widths,
            weights,
            rotation: with_default_floats(|| Rotation::new(widths.rope, base, scale, factors)),
            kv: KvCache::new(plan.kv_shape, plan.session_config.kv_type, arena)?,
            s: Scratch::new(widths, n_batch, arena)?,
            crew: Crew::new(workers, &plan.kv_shape, widths, &plan.session_config, arena)?,
            m: 0,
            wants_logits: false,
            is_finite: true,
        };
        Ok(Self {
            forward,
            state: State::Idle,
            cursor: Cursor::START,
            n_ctx,
            n_batch,
            counts: Counts::default(),
        })
    }

    /// Runs one token and returns the logits behind it, (vocab_size).
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin) and [`poll`](Self::poll).
    pub fn step(&mut self, token: Token) -> Result<&[f32], SessionError> {
        self.prefill(&[token])
    }

    /// Runs any number of tokens, in batches, and returns the logits behind the last, (vocab_size).
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin) and [`poll`](Self::poll); the length is no matter as long as the context has room.
    pub fn prefill(&mut self, tokens: &[Token]) -> Result<&[f32], SessionError> {
        self.check(tokens)?;
        let pos = self.pos();
        let mut left = tokens;
        while let Some((batch, rest)) = left.split_at_checked(self.n_batch.min(left.len()))
            && !batch.is_empty()
        {
            left = rest;
            let done = self.begin_batch(batch, rest.is_empty()).and_then(|()| self.poll(NonZeroU32::MAX));
            if let Err(error) = done {
                self.forward.kv.truncate(pos);
                return Err(error);
            }
        }
        Ok(self.logits())
    }

    /// Takes `tokens`, at most `n_batch`, into work; [`poll`](Self::poll) does it.
    ///
    /// # Errors
    ///
    /// [`SessionError`] when there is no token, too many for a batch or for the context, one that is not of the
    /// vocabulary, or when another batch is in work.
    pub fn begin(&mut self, tokens: &[Token]) -> Result<(), SessionError> {
        self.begin_batch(tokens, true)
    }

    /// [`begin`](Self::begin) for tokens that others follow: there will be no logits, which saves their product.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn begin_without_logits(&mut self, tokens: &[Token]) -> Result<(), SessionError> {
        self.begin_batch(tokens, false)
    }

    /// Does at most `budget` units of the batch in work.
    ///
    /// A unit is a token of a cheap stage, one head of attention for one token, or rows of weights that hold about
    /// 32 Ki values, times the tokens of the batch: its time is bounded by the shape of the model. The result does not
    /// depend on the budgets.
    ///
    /// # Errors
    ///
    /// [`SessionError::NothingPending`] without a batch; [`SessionError::NonFinite`] when the numbers broke down, after
    /// which the batch is given up.
    pub fn poll(&mut self, budget: NonZeroU32) -> Result<Progress, SessionError> {
        match self.state {
            State::Pending => {}
            State::Poisoned => return Err(SessionError::Poisoned),
            State::Idle | State::Ready => return Err(SessionError::NothingPending),
        }
        self.poison(); // unless the slice below comes to its end
        self.counts.n_slices = self.counts.n_slices.saturating_add(1);
        let budget = usize::try_from(budget.get()).unwrap_or(usize::MAX);
        with_default_floats_in(self, |session| session.forward.advance(&mut session.cursor, budget))
            .ok_or(SessionError::Poisoned)?;
        if !self.forward.is_finite {
            self.enter(State::Idle);
            return Err(SessionError::NonFinite { pos: self.pos() });
        }
        if self.cursor.stage != Stage::Done {
            self.enter(State::Pending);
            return Ok(Progress::Pending);
        }
        self.forward.kv.advance(self.forward.m)?; // the only place where the sequence grows: every layer has its rows
        self.counts.n_batches = self.counts.n_batches.saturating_add(1);
        self.counts.n_tokens = self.counts.n_tokens.saturating_add(self.forward.m as u64);
        self.enter(if self.forward.wants_logits { State::Ready } else { State::Idle });
        Ok(Progress::Ready)
    }

    /// Gives up the batch in work, if any; the sequence is as before its `begin`.
    pub fn cancel(&mut self) {
        if self.is_pending() {
            self.state = State::Idle;
        }
    }

    /// Whether a batch is in work.
    pub fn is_pending(&self) -> bool {
        self.state == State::Pending
    }

    /// Logits behind the last token, (vocab_size); empty when the last call did not make any.
    pub fn logits(&self) -> &[f32] {
        if self.state == State::Ready { self.forward.s.logits } else { &[] }
    }

    /// Tokens in the sequence; the position of the next one.
    pub fn pos(&self) -> usize {
        self.forward.kv.len()
    }

    /// Positions there are.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Tokens that one batch may have.
    pub fn n_batch(&self) -> usize {
        self.n_batch
    }

    /// Size of the vocabulary: the length of logits.
    pub fn vocab_size(&self) -> usize {
        self.forward.widths.vocab
    }

    /// The routines in use.
    pub fn ops(&self) -> Ops {
        self.forward.ops
    }

    /// Forgets the tokens from position `pos` on, and the batch in work. Does nothing to a shorter sequence.
    pub fn truncate(&mut self, pos: usize) {
        if self.state != State::Poisoned {
            self.state = State::Idle;
        }
        self.forward.kv.truncate(pos);
    }

    /// Forgets all tokens and overwrites what is left of them with zeros.
    pub fn reset(&mut self) {
        self.poison();
        self.forward.kv.wipe();
        self.forward.s.wipe();
        self.forward.crew.wipe();
        self.enter(State::Idle);
    }

    /// What has been done so far.
    pub fn stats(&self) -> SessionStats {
        let Counts { n_tokens, n_batches, n_slices } = self.counts;
        SessionStats { kv: self.forward.kv.stats(), n_tokens, n_batches, n_slices }
    }

    /// From here on whoever interrupts this core, and may never let it go on, finds a session that only
    /// [`reset`](Self::reset) makes usable again.
    fn poison(&mut self) {
        self.state = State::Poisoned;
        compiler_fence(Ordering::SeqCst); // nothing of what follows comes before
    }

    /// From here on it is found in `state`.
    fn enter(&mut self, state: State) {
        compiler_fence(Ordering::SeqCst); // nothing of what came before is still to come
        self.state = state;
    }

    fn begin_batch(&mut self, tokens: &[Token], wants_logits: bool) -> Result<(), SessionError> {
        self.check(tokens)?;
        if tokens.len() > self.n_batch {
            return Err(SessionError::BatchTooLong { n_tokens: tokens.len(), n_batch: self.n_batch });
        }
        self.cursor = self.forward.begin(tokens, wants_logits);
        self.enter(State::Pending);
        Ok(())
    }

    /// Whether `tokens` can follow now.
    pub(crate) fn check(&self, tokens: &[Token]) -> Result<(), SessionError> {
        match self.state {
            State::Pending => return Err(SessionError::BatchPending),
            State::Poisoned => return Err(SessionError::Poisoned),
            State::Idle | State::Ready => {}
        }
        if tokens.is_empty() {
            return Err(SessionError::NoTokens);
        }
        let need = self.pos().saturating_add(tokens.len());
        if need > self.n_ctx {
            return Err(SessionError::ContextFull { need, n_ctx: self.n_ctx });
        }
        let vocab_size = self.vocab_size();
        let is_token = |&token: &Token| usize::try_from(token).is_ok_and(|token| token < vocab_size);
        match tokens.iter().copied().find(|token| !is_token(token)) {
            Some(token) => Err(SessionError::NoSuchToken { token, vocab_size }),
            None => Ok(()),
        }
    }
}

impl Drop for Session<'_, '_> {
    fn drop(&mut self) {
        self.reset();
    }
}

impl fmt::Debug for Session<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pos, state) = (self.pos(), self.state);
        f.debug_struct("Session").field("pos", &pos).field("state", &state).finish_non_exhaustive()
    }
}

impl SessionError {
    /// A number for C callers and logs; never reused.
    pub const fn code(self) -> u32 {
        match self {
            Self::NoTokens => 300,
            Self::BatchTooLong { .. } => 301,
            Self::ContextFull { .. } => 302,
            Self::NoSuchToken { .. } => 303,
            Self::NonFinite { .. } => 304,
            Self::NothingPending => 305,
            Self::BatchPending => 306,
            Self::Poisoned => 307,
            Self::TooManyWorkers { .. } => 308,
            Self::Kv(error) => error.code(),
            Self::Arena(error) => error.code(),
        }
    }
}

impl From<ArenaError> for SessionError {
    fn from(error: ArenaError) -> Self {
        Self::Arena(error)
    }
}

impl From<KvError> for SessionError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Arena(error) => Self::Arena(error),
            error => Self::Kv(error),
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTokens => f.write_str("no tokens to run"),
            Self::BatchTooLong { n_tokens, n_batch } => {
                write!(f, "a batch of {n_tokens} tokens; the session was planned for {n_batch}")
            }
            Self::ContextFull { need, n_ctx } => {
                write!(f, "context is full: {need} positions needed, {n_ctx} there are")
            }
            Self::NoSuchToken { token, vocab_size } => {
                write!(f, "no token {token} in a vocabulary of {vocab_size}")
            }
            Self::NonFinite { pos } => write!(f, "numbers broke down in the batch at position {pos}"),
            Self::NothingPending => f.write_str("no batch is in work"),
            Self::BatchPending => f.write_str("a batch is in work"),
            Self::Poisoned => f.write_str("session is poisoned by an earlier fault; reset it"),
            Self::TooManyWorkers { n_workers, planned } => {
                write!(f, "{n_workers} workers; the session was planned for {planned}")
            }
            Self::Kv(error) => error.fmt(f),
            Self::Arena(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SessionError {}
