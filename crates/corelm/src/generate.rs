//! Generation: a prompt in, text out piece by piece, until something says stop.
//!
//! A [`Generator`] is polled like a session, so that a kernel decides how much is done at a time; [`Generator::run`]
//! polls it to its end.

use core::fmt;
use core::num::NonZeroU32;
use core::ops::ControlFlow;

use crate::Token;
use crate::sampler::{Sampler, SamplerError};
use crate::session::{Progress, Session, SessionError};
use crate::tokenizer::{Chunk, Controls, Decoder, Tokenizer, Utf8Stream};

mod stop;

use stop::{Halt, StopFilter};

/// When a generation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationConfig<'g> {
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// Texts that end the generation where they begin; empty ones never do.
    pub stop: &'g [&'g str],
    /// Whether to go on behind a token that ends the model's turn.
    pub ignores_eog: bool,
}

/// What a generation tells as it goes.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// A token was chosen.
    Token {
        /// The token.
        token: Token,
        /// The logits it was chosen from, (vocab_size).
        logits: &'e [f32],
    },
    /// Whole characters of the text; U+FFFD stands for bytes that are no UTF-8. Comes when no stop string can begin
    /// with it any more.
    Text(&'e str),
}

/// Receives events; `Break` cancels the generation.
pub type Receiver<'r> = dyn FnMut(Event<'_>) -> ControlFlow<()> + 'r;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// As many tokens as wanted.
    MaxTokens,
    /// The model ended its turn with this token.
    EndOfGeneration(Token),
    /// The stop string of this index appeared.
    StopString(usize),
    /// The context has no position left for another token.
    ContextFull,
    /// The receiver wanted no more.
    Cancelled,
}

/// What came of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens generated, the one that ended the turn included.
    pub n_generated: usize,
    /// Why it ended.
    pub reason: StopReason,
}

/// Why a generation broke off. The session is as before the step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GenerateError {
    /// The session could not run a token.
    Session(SessionError),
    /// No token could be chosen.
    Sampler(SamplerError),
}

/// A generation in work. When it is dropped before its end, [`Session::cancel`] gives up the batch that it leaves in work.
#[derive(Debug)]
pub struct Generator<'g, 'a, 'm> {
    session: &'g mut Session<'a, 'm>,
    tokenizer: &'g Tokenizer<'a, 'm>,
    sampler: &'g mut Sampler<'a>,
    config: GenerationConfig<'g>,
    decoder: Decoder<'g, 'a, 'm>,
    utf8: Utf8Stream,
    stop: StopFilter<'g>,
    /// Tokens of the prompt that are not yet in work.
    prompt: &'g [Token],
    n_prompt: usize,
    n_generated: usize,
    end: Option<StopReason>,
}

impl<'g, 'a, 'm> Generator<'g, 'a, 'm> {
    /// Begins to go on from `prompt`, which follows what `session` holds already.
    ///
    /// # Errors
    ///
    /// [`SessionError`] when the prompt is empty, does not fit the context, has a token that is not of the vocabulary, or
    /// a batch is in work; session and sampler are then as before.
    pub fn new(
        session: &'g mut Session<'a, 'm>,
        tokenizer: &'g Tokenizer<'a, 'm>,
        sampler: &'g mut Sampler<'a>,
        prompt: &'g [Token],
        config: GenerationConfig<'g>,
    ) -> Result<Self, GenerateError> {
        session.check(prompt)?; // all of it, so that nothing has changed when it is refused
        prompt.iter().for_each(|&token| sampler.accept(token));
        let mut generator = Self {
            session,
            tokenizer,
            sampler,
            config,
            decoder: tokenizer.decoder(Controls::Hide).continuing(),
            utf8: Utf8Stream::new(),
            stop: StopFilter::new(config.stop),
            prompt,
            n_prompt: prompt.len(),
            n_generated: 0,
            end: None,
        };
        generator.begin_batch_of_prompt()?;
        Ok(generator)
    }

    /// Does at most `budget` units of the session's work, chooses a token when its logits are there, and says what came
    /// of it all when it is over.
    ///
    /// # Errors
    ///
    /// [`GenerateError`]: as [`Session::poll`] and [`Sampler::sample`].
    pub fn poll(
        &mut self,
        budget: NonZeroU32,
        receiver: &mut Receiver<'_>,
    ) -> Result<Option<Generation>, GenerateError> {
        self.advance(budget, receiver)?;
        Ok(self.outcome())
    }

    /// Polls to the end.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn run(mut self, receiver: &mut Receiver<'_>) -> Result<Generation, GenerateError> {
        loop {
            self.advance(NonZeroU32::MAX, receiver)?;
            if let Some(generation) = self.outcome() {
                return Ok(generation);
            }
        }
    }

    /// Part of its two callers, so that they have one frame above the session's and not two.
    #[inline(always)]
    fn advance(&mut self, budget: NonZeroU32, receiver: &mut Receiver<'_>) -> Result<(), GenerateError> {
        if self.end.is_none() && self.session.poll(budget)? == Progress::Ready {
            if self.prompt.is_empty() {
                self.end = self.next_token(receiver)?;
            } else {
                self.begin_batch_of_prompt()?;
            }
        }
        Ok(())
    }

    /// What came of it, when it is over.
    fn outcome(&self) -> Option<Generation> {
        let (n_prompt, n_generated) = (self.n_prompt, self.n_generated);
        self.end.map(|reason| Generation { n_prompt, n_generated, reason })
    }

    fn begin_batch_of_prompt(&mut self) -> Result<(), SessionError> {
        let n = self.session.n_batch().min(self.prompt.len());
        let (batch, rest) = self.prompt.split_at_checked(n).unwrap_or_default();
        self.prompt = rest;
        if rest.is_empty() { self.session.begin(batch) } else { self.session.begin_without_logits(batch) }
    }

    /// Chooses a token, tells of it, and puts it to work unless something says stop.
    #[inline(never)]
    fn next_token(&mut self, receiver: &mut Receiver<'_>) -> Result<Option<StopReason>, GenerateError> {
        if self.n_generated >= self.config.max_tokens {
            return Ok(Some(StopReason::MaxTokens));
        }
        let logits = self.session.logits();
        let token = self.sampler.sample(logits)?;
        self.sampler.accept(token);
        self.n_generated = self.n_generated.saturating_add(1);
        let told = receiver(Event::Token { token, logits });
        let is_end = self.tokenizer.is_eog(token) && !self.config.ignores_eog;
        let reason = if told.is_break() {
            Some(StopReason::Cancelled)
        } else if is_end {
            Some(StopReason::EndOfGeneration(token))
        } else if let Some(reason) = self.tell_text(token, receiver) {
            return Ok(Some(reason));
        } else if self.n_generated >= self.config.max_tokens {
            Some(StopReason::MaxTokens)
        } else if self.session.pos() >= self.session.n_ctx() {
            Some(StopReason::ContextFull)
        } else {
            self.session.begin(&[token])?;
            None
        };
        if reason.is_some_and(|reason| reason != StopReason::Cancelled) && self.tell_rest(receiver).is_break()
        {
            return Ok(Some(StopReason::Cancelled));
        }
        Ok(reason)
    }

    /// Passes the text of `token` on as far as it is whole and no stop string.
    fn tell_text(&mut self, token: Token, receiver: &mut Receiver<'_>) -> Option<StopReason> {
        let mut emit = |text: &str| receiver(Event::Text(text));
        let mut bytes = self.decoder.piece(token).unwrap_or_default();
        while let Some(chunk) = self.utf8.next(&mut bytes) {
            if let ControlFlow::Break(halt) = self.stop.push(text_of(chunk), &mut emit) {
                return Some(halt.into());
            }
        }
        None
    }

    /// Passes on what was held back.
    fn tell_rest(&mut self, receiver: &mut Receiver<'_>) -> ControlFlow<Halt> {
        let mut emit = |text: &str| receiver(Event::Text(text));
        if let Some(chunk) = self.utf8.finish() {
            self.stop.push(text_of(chunk), &mut emit)?;
        }
        self.stop.finish(&mut emit)
    }
}

impl From<Halt> for StopReason {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Stop(index) => Self::StopString(index),
            Halt::Cancelled => Self::Cancelled,
        }
    }
}

/// Text for people: U+FFFD in place of bytes that are none.
fn text_of(chunk: Chunk<'_>) -> &str {
    match chunk {
        Chunk::Text(text) => text,
        Chunk::Invalid(_) => "\u{FFFD}",
    }
}

impl GenerateError {
    /// A number for C callers and logs; never reused.
    pub const fn code(self) -> u32 {
        match self {
            Self::Session(error) => error.code(),
            Self::Sampler(error) => error.code(),
        }
    }
}

impl From<SessionError> for GenerateError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<SamplerError> for GenerateError {
    fn from(error: SamplerError) -> Self {
        Self::Sampler(error)
    }
}

impl fmt::Display for GenerateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(error) => error.fmt(f),
            Self::Sampler(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for GenerateError {}
