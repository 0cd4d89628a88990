//! Target `session`: calls in any order, right and wrong, on a good model. Each is answered as a simple account of the
//! sequence says, and logits are those of a plain run of the same tokens, bit for bit.
//!
//! An input begins with two bytes of choices, model and back-end; then come calls, a byte each, with their arguments.

mod world;

use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::ops::ControlFlow;

use corelm::Token;
use corelm::arena::Arena;
use corelm::generate::{Event, GenerateError, GenerationConfig, Generator, StopReason};
use corelm::sampler::{SamplerError, SamplingConfig};
use corelm::session::{Progress, SessionError};

use crate::bits;
use crate::input::Input;
use world::{Built, N_CTX, N_WORKERS, Turns, World, worlds};

/// Texts that may end a generation.
const STOPS: [&[&str]; 5] = [&[], &["a"], &["", "bb", "aab"], &[" "], &["ba", "abA", "A"]];

/// Calls of every kind that end as they must, and some that do not come to an end.
pub fn seeds() -> Vec<Vec<u8>> {
    let calls: [&[u8]; 8] = [
        &[0, 65, 0, 66, 0, 67],
        &[1, 6, 1, 2, 3, 4, 5, 6, 4, 255, 2, 2, 7, 8, 4, 3, 4, 3, 4, 255],
        &[2, 3, 65, 66, 67, 4, 1, 4, 1, 5, 3, 2, 65, 66, 7, 6, 2, 8, 0, 9],
        &[9, 3, 65, 66, 67, 5, 0, 0, 255, 9, 2, 65, 66, 4, 2, 200, 255],
        &[11, 1, 9, 3, 65, 66, 67, 5, 1, 255, 20, 10, 11, 4, 0, 255],
        &[12, 1, 0, 65, 12, 2, 0, 65, 12, 3, 0, 66, 12, 0, 0, 65],
        &[1, 14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0, 65, 6, 12, 0, 1],
        &[8, 9, 1, 65, 5, 0, 40, 3, 9, 1, 65, 5, 2, 255, 255, 8],
    ];
    (0..32u8).map(|i| [&[i, i / 8][..], calls[usize::from(i) % 8]].concat()).collect()
}

/// Panics where a call is not answered as it must be.
pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let world = &worlds()[input.below(worlds().len())];
    let backend = input.below(world.ops.len());
    let mut region = vec![MaybeUninit::uninit(); world.plan.bytes()];
    let workers = [Turns(1), Turns(N_WORKERS)];
    let mut workers = workers.iter().cycle();
    // One session after the other in the same memory, which nobody cleans in between.
    while !input.is_empty() {
        let arena = &mut Arena::new(&mut region);
        let built = world.build(arena, backend, workers.next().expect("they go round")).expect("as planned");
        let caller =
            &mut Caller { world, backend, built, tokens: vec![], pending: None, has_logits: false, n_run: 0 };
        loop {
            if input.is_empty() {
                break;
            }
            let is_over = caller.call(&mut input).is_break();
            caller.check();
            if is_over {
                break;
            }
        }
        let choice = input.byte();
        world.refuses(backend, choice);
    }
}

/// Somebody who calls, and keeps account of what must be.
struct Caller<'w, 'a> {
    world: &'w World,
    backend: usize,
    built: Built<'a>,
    /// The sequence.
    tokens: Vec<Token>,
    /// The batch in work, and whether it wants logits.
    pending: Option<(Vec<Token>, bool)>,
    has_logits: bool,
    /// Tokens run so far.
    n_run: u64,
}

impl Caller<'_, '_> {
    /// Makes one call; breaks where the session is to be dropped.
    fn call(&mut self, input: &mut Input<'_>) -> ControlFlow<()> {
        match input.below(13) {
            0 => {
                let tokens = [self.token(input)];
                let refusals = self.refusals(&tokens, usize::MAX);
                let answer = self.built.session.step(tokens[0]).map(|_| ());
                self.ran(answer, &tokens, &refusals);
            }
            1 => {
                let tokens = self.tokens(input);
                let refusals = self.refusals(&tokens, usize::MAX);
                let answer = self.built.session.prefill(&tokens).map(|_| ());
                self.ran(answer, &tokens, &refusals);
            }
            choice @ (2 | 3) => {
                let tokens = self.tokens(input);
                let refusals = self.refusals(&tokens, self.built.session.n_batch());
                let session = &mut self.built.session;
                let answer =
                    if choice == 2 { session.begin(&tokens) } else { session.begin_without_logits(&tokens) };
                if is_as_expected(answer, &refusals) {
                    (self.pending, self.has_logits) = (Some((tokens, choice == 2)), false);
                }
            }
            4 => self.poll(input.byte()),
            5 => {
                self.built.session.cancel();
                self.has_logits &= self.pending.take().is_none();
            }
            6 => {
                let pos = input.below(N_CTX + 4);
                self.built.session.truncate(pos);
                self.tokens.truncate(pos);
                (self.pending, self.has_logits) = (None, false);
            }
            7 => {
                self.built.session.reset();
                self.tokens.clear();
                (self.pending, self.has_logits) = (None, false);
            }
            8 => return ControlFlow::Break(()),
            9 => self.generate(input),
            10 => {
                let logits = self.built.session.logits().to_vec();
                let sampled = self.built.sampler.sample(&logits);
                self.is_sampled(sampled, &logits);
            }
            11 => self.reset_sampler(input),
            _ => {
                let token = self.token(input);
                self.built.sampler.accept(token); // what is no token is remembered in vain
            }
        }
        ControlFlow::Continue(())
    }

    /// A token, now and then one that is none.
    fn token(&self, input: &mut Input<'_>) -> Token {
        let vocab_size = self.world.config.vocab_size as Token;
        match input.byte() {
            255 => Token::MAX,
            254 => vocab_size,
            byte => Token::from(byte) % vocab_size,
        }
    }

    fn tokens(&self, input: &mut Input<'_>) -> Vec<Token> {
        (0..input.below(N_CTX + 3)).map(|_| self.token(input)).collect()
    }

    /// All true reasons not to take `tokens` now.
    fn refusals(&self, tokens: &[Token], n_batch: usize) -> Vec<SessionError> {
        let (need, n_tokens, vocab_size) =
            (self.tokens.len() + tokens.len(), tokens.len(), self.world.config.vocab_size);
        let bad = tokens.iter().copied().find(|&token| token as usize >= vocab_size);
        let reasons = [
            self.pending.is_some().then_some(SessionError::BatchPending),
            tokens.is_empty().then_some(SessionError::NoTokens),
            (need > N_CTX).then_some(SessionError::ContextFull { need, n_ctx: N_CTX }),
            bad.map(|token| SessionError::NoSuchToken { token, vocab_size }),
            (n_tokens > n_batch).then_some(SessionError::BatchTooLong { n_tokens, n_batch }),
        ];
        reasons.into_iter().flatten().collect()
    }

    fn ran(&mut self, answer: Result<(), SessionError>, tokens: &[Token], refusals: &[SessionError]) {
        if is_as_expected(answer, refusals) {
            self.tokens.extend_from_slice(tokens);
            self.has_logits = true;
            self.n_run += tokens.len() as u64;
        }
    }

    fn poll(&mut self, budget: u8) {
        let budget =
            if budget == 255 { NonZeroU32::MAX } else { NonZeroU32::MIN.saturating_add(budget.into()) };
        match self.built.session.poll(budget) {
            Err(error) => {
                assert!(error == SessionError::NothingPending && self.pending.is_none(), "{error}");
            }
            Ok(Progress::Pending) => assert!(self.pending.is_some() && budget < NonZeroU32::MAX),
            Ok(Progress::Ready) => {
                let (tokens, wants_logits) = self.pending.take().expect("something was in work");
                self.n_run += tokens.len() as u64;
                self.tokens.extend(tokens);
                self.has_logits = wants_logits;
            }
        }
    }

    /// Generates behind a prompt, perhaps not to the end.
    fn generate(&mut self, input: &mut Input<'_>) {
        let prompt = self.tokens(input);
        let refusals = self.refusals(&prompt, usize::MAX);
        let max_tokens = input.below(8);
        let stop = STOPS[input.below(STOPS.len())];
        let (budget, most_events, most_polls) = (input.byte(), input.byte(), input.byte());
        let config = GenerationConfig { max_tokens, stop, ignores_eog: budget % 2 == 1 };
        let is_greedy = self.built.sampler.config() == &SamplingConfig::GREEDY;
        let Built { tokenizer, session, sampler } = &mut self.built;
        let made = Generator::new(session, tokenizer, sampler, &prompt, config);
        let mut generator = match made {
            Ok(generator) => {
                assert!(refusals.is_empty(), "{refusals:?}");
                generator
            }
            Err(GenerateError::Session(error)) => return assert!(refusals.contains(&error), "{error}"),
            Err(error) => panic!("{error}"),
        };
        let mut tokens = [&self.tokens[..], &prompt].concat();
        let (n_before, mut text, mut n_events) = (tokens.len(), String::new(), 0);
        let mut end = None;
        let budget = NonZeroU32::MIN.saturating_add(u32::from(budget) * 4);
        for _ in 0..usize::from(most_polls) * 8 {
            let mut receive = |event: Event<'_>| {
                n_events += 1;
                match event {
                    Event::Token { token, logits } => {
                        assert_eq!(bits(logits), self.world.plain(self.backend, &tokens));
                        assert!((token as usize) < logits.len());
                        assert!(!is_greedy || token == best(logits));
                        tokens.push(token);
                    }
                    Event::Text(part) => text += part,
                }
                if n_events > usize::from(most_events) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let generation = generator.poll(budget, &mut receive).expect("the model is good");
            if let Some(generation) = generation {
                assert_eq!(generator.poll(budget, &mut |_| panic!("it is over")), Ok(Some(generation)));
                end = Some(generation);
                break;
            }
        }
        let n_generated = tokens.len() - n_before;
        if let Some(generation) = end {
            assert_eq!((generation.n_prompt, generation.n_generated), (prompt.len(), n_generated));
            match generation.reason {
                StopReason::MaxTokens => assert_eq!(n_generated, max_tokens),
                StopReason::EndOfGeneration(token) => {
                    assert!(
                        self.built.tokenizer.is_eog(token)
                            && tokens.last() == Some(&token)
                            && !config.ignores_eog
                    );
                }
                StopReason::StopString(index) => assert!(!stop[index].is_empty()),
                StopReason::ContextFull => assert_eq!(self.built.session.pos(), N_CTX),
                StopReason::Cancelled => assert!(n_events > usize::from(most_events)),
                other => panic!("{other:?} is new"),
            }
        }
        assert!(n_generated <= max_tokens);
        assert!(stop.iter().all(|stop| stop.is_empty() || !text.contains(stop)), "{stop:?} in {text:?}");
        // What was begun last may be in work still.
        self.built.session.cancel();
        let pos = self.built.session.pos();
        assert!((self.tokens.len()..=tokens.len()).contains(&pos));
        self.n_run += (pos - self.tokens.len()) as u64;
        tokens.truncate(pos);
        (self.tokens, self.has_logits) = (tokens, !self.built.session.logits().is_empty());
    }

    fn is_sampled(&self, sampled: Result<Token, SamplerError>, logits: &[f32]) {
        match sampled {
            Ok(token) => {
                assert!(self.has_logits && (token as usize) < logits.len());
                let is_greedy = self.built.sampler.config() == &SamplingConfig::GREEDY;
                assert!(!is_greedy || token == best(logits));
            }
            Err(SamplerError::LogitCount { have: 0, .. }) => assert!(!self.has_logits),
            Err(error) => panic!("{error}"),
        }
    }

    fn reset_sampler(&mut self, input: &mut Input<'_>) {
        let (seed, choice) = (input.byte().into(), input.below(8));
        let good =
            [SamplingConfig::GREEDY, SamplingConfig::BALANCED, SamplingConfig::CREATIVE][seed as usize % 3];
        let config = match choice {
            0 => SamplingConfig { temperature: f32::NAN, ..good },
            1 => SamplingConfig { top_p: 0.0, ..good },
            2 => SamplingConfig { repeat_last_n: 257, ..good },
            3 => {
                SamplingConfig { temperature: f32::MIN_POSITIVE, min_p: 1.0, top_k: usize::MAX, seed, ..good }
            }
            4 => SamplingConfig {
                temperature: f32::MAX,
                repeat_penalty: f32::MAX,
                repeat_last_n: 256,
                seed,
                ..good
            },
            5 => SamplingConfig {
                temperature: 1e-40,
                top_p: f32::MIN_POSITIVE,
                repeat_penalty: 1e-40,
                seed,
                ..good
            },
            _ => good,
        };
        let before = *self.built.sampler.config();
        let answer = self.built.sampler.reset(config);
        assert_eq!(answer.is_err(), choice < 3, "{answer:?}");
        let now = self.built.sampler.config();
        assert!(if choice < 3 { *now == before } else { *now == config });
    }

    /// What must be behind every call.
    fn check(&self) {
        let session = &self.built.session;
        assert_eq!(session.pos(), self.tokens.len());
        assert_eq!(session.is_pending(), self.pending.is_some());
        assert_eq!(session.stats().n_tokens, self.n_run);
        if self.has_logits {
            assert_eq!(bits(session.logits()), self.world.plain(self.backend, &self.tokens));
        } else {
            assert!(session.logits().is_empty());
        }
    }
}

/// Whether a call was taken: it must be where nothing speaks against it, or be refused for one of these reasons.
fn is_as_expected(answer: Result<(), SessionError>, refusals: &[SessionError]) -> bool {
    match answer {
        Ok(()) => assert!(refusals.is_empty(), "taken in spite of {refusals:?}"),
        Err(error) => assert!(refusals.contains(&error), "{error:?} is none of {refusals:?}"),
    }
    answer.is_ok()
}

/// The first of the greatest.
fn best(logits: &[f32]) -> Token {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&x| x == greatest).expect("there are some") as Token
}
