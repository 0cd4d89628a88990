//! Sampler: logits to the next token.
//!
//! The filters run in the order of llama.cpp's default chain: repetition penalty, top-k, top-p, min-p, temperature, draw.
//! Candidates live in one array from the arena. Nothing is sorted: a heap gives up its best candidates one at a
//! time, for as long as a filter asks for another.

use core::fmt;

use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::ArenaError;
use crate::ops::cpu::with_default_floats;

mod random;

use random::Pcg32;

/// Longest window of the repetition penalty, in tokens.
pub const MAX_REPEAT_LAST_N: usize = 256;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingConfig {
    /// Divides the logits before the draw; 0 takes the best token and draws nothing.
    pub temperature: f32,
    /// Keeps the `top_k` best tokens, exactly; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest best tokens whose probabilities sum to `top_p` or more; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least `min_p` times as probable as the best; 0 keeps all.
    pub min_p: f32,
    /// Divides positive logits, and multiplies negative ones, of recent tokens; 1 leaves them alone.
    pub repeat_penalty: f32,
    /// How many recent tokens the penalty looks back on, at most [`MAX_REPEAT_LAST_N`].
    pub repeat_last_n: usize,
    /// Start of the random sequence: equal seeds give equal draws.
    pub seed: u64,
}

impl SamplingConfig {
    /// Always the most probable token.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        repeat_last_n: 0,
        seed: 0,
    };
    /// Some variety, few surprises.
    pub const BALANCED: Self = Self {
        temperature: 0.7,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.05,
        repeat_penalty: 1.1,
        repeat_last_n: 64,
        seed: 0,
    };
    /// Much variety.
    pub const CREATIVE: Self = Self {
        temperature: 1.0,
        top_k: 100,
        top_p: 0.95,
        min_p: 0.02,
        repeat_penalty: 1.15,
        repeat_last_n: 64,
        seed: 0,
    };

    /// Checks every field's range.
    ///
    /// # Errors
    ///
    /// [`SamplerError::Setting`] names the first field out of range.
    pub fn check(&self) -> Result<(), SamplerError> {
        let claims = [
            (Setting::Temperature, self.temperature >= 0.0 && self.temperature.is_finite()),
            (Setting::TopP, self.top_p > 0.0 && self.top_p <= 1.0),
            (Setting::MinP, self.min_p >= 0.0 && self.min_p <= 1.0),
            (Setting::RepeatPenalty, self.repeat_penalty > 0.0 && self.repeat_penalty.is_finite()),
            (Setting::RepeatLastN, self.repeat_last_n <= MAX_REPEAT_LAST_N),
        ];
        match claims.into_iter().find(|&(_, holds)| !holds) {
            Some((setting, _)) => Err(SamplerError::Setting { setting }),
            None => Ok(()),
        }
    }
}

/// A field of [`SamplingConfig`], named in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting {
    /// `temperature`: finite, at least 0.
    Temperature,
    /// `top_p`: above 0, at most 1.
    TopP,
    /// `min_p`: 0 to 1.
    MinP,
    /// `repeat_penalty`: finite, above 0.
    RepeatPenalty,
    /// `repeat_last_n`: at most [`MAX_REPEAT_LAST_N`].
    RepeatLastN,
}

/// Why no token was sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SamplerError {
    /// A setting is out of its range.
    Setting {
        /// The field.
        setting: Setting,
    },
    /// The arena has no room for the candidates.
    Arena(ArenaError),
    /// The logits are not one per token of the vocabulary.
    LogitCount {
        /// Logits given.
        have: usize,
        /// Size of the vocabulary.
        want: usize,
    },
    /// A logit is infinite or not a number.
    NonFinite {
        /// The first such token.
        token: Token,
    },
}

impl SamplerError {
    /// A number for C callers and logs; never reused.
    pub const fn code(self) -> u32 {
        match self {
            Self::Setting { .. } => 500,
            Self::Arena(error) => error.code(),
            Self::LogitCount { .. } => 501,
            Self::NonFinite { .. } => 502,
        }
    }
}

impl From<ArenaError> for SamplerError {
    fn from(error: ArenaError) -> Self {
        Self::Arena(error)
    }
}

impl fmt::Display for SamplerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Setting { setting } => f.write_str(match setting {
                Setting::Temperature => "temperature must be finite and at least 0",
                Setting::TopP => "top-p must be above 0 and at most 1",
                Setting::MinP => "min-p must be from 0 to 1",
                Setting::RepeatPenalty => "repeat penalty must be finite and above 0",
                Setting::RepeatLastN => "repeat window is limited to 256 tokens",
            }),
            Self::Arena(error) => error.fmt(f),
            Self::LogitCount { have, want } => write!(f, "{have} logits for a vocabulary of {want}"),
            Self::NonFinite { token } => write!(f, "the logit of token {token} is not finite"),
        }
    }
}

impl core::error::Error for SamplerError {}

/// Chooses tokens; remembers the recent ones and where its random sequence stands. What it held of them is overwritten
/// with zeros when it is dropped or [`reset`](Self::reset).
#[derive(Debug)]
pub struct Sampler<'a> {
    config: SamplingConfig,
    /// (vocab_size): heap first, then what the heap gave up, the best at the very end.
    candidates: &'a mut [Candidate],
    /// Ring of the last `repeat_last_n` tokens.
    recent: &'a mut [Token],
    n_recent: usize,
    /// Where in the ring the next token goes.
    next: usize,
    random: Pcg32,
}

impl<'a> Sampler<'a> {
    /// What [`new`](Self::new) takes from an arena; the same for every configuration.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`] when the bytes do not fit in `usize`.
    pub fn layout(vocab_size: usize) -> Result<Layout, ArenaError> {
        Layout::new().add::<Candidate>(vocab_size)?.add::<Token>(MAX_REPEAT_LAST_N)
    }

    /// A sampler for logits over `vocab_size` tokens.
    ///
    /// # Errors
    ///
    /// [`SamplerError::Setting`] when `config` is out of range, [`SamplerError::Arena`] when the arena is too small.
    pub fn new(
        config: SamplingConfig,
        vocab_size: usize,
        arena: &mut Arena<'a>,
    ) -> Result<Self, SamplerError> {
        config.check()?;
        let candidates = arena.alloc(vocab_size, Candidate { score: 0.0, token: 0 })?;
        let recent = arena.alloc(MAX_REPEAT_LAST_N, 0)?;
        Ok(Self { config, candidates, recent, n_recent: 0, next: 0, random: Pcg32::new(config.seed) })
    }

    /// The settings in force.
    pub fn config(&self) -> &SamplingConfig {
        &self.config
    }

    /// Starts over with other settings: forgets recent tokens, begins the random sequence of the new seed.
    ///
    /// # Errors
    ///
    /// [`SamplerError::Setting`] when `config` is out of range; nothing has changed then.
    pub fn reset(&mut self, config: SamplingConfig) -> Result<(), SamplerError> {
        config.check()?;
        self.wipe();
        self.config = config;
        self.n_recent = 0;
        self.next = 0;
        self.random = Pcg32::new(config.seed);
        Ok(())
    }

    /// Remembers `token` for the repetition penalty: call it for the prompt's tokens and for each one chosen.
    pub fn accept(&mut self, token: Token) {
        let window = self.recent.get_mut(..self.config.repeat_last_n).unwrap_or_default();
        if let Some(oldest) = window.get_mut(self.next) {
            *oldest = token;
            self.next = if self.next + 1 < window.len() { self.next + 1 } else { 0 };
            self.n_recent = window.len().min(self.n_recent + 1);
        }
    }

    /// Chooses a token from `logits` (vocab_size); does not [`accept`](Self::accept) it.
    ///
    /// Ties go to the lowest token id.
    ///
    /// # Errors
    ///
    /// [`SamplerError::LogitCount`] when the vocabulary differs, [`SamplerError::NonFinite`] when a logit is not finite:
    /// the random sequence then stands where it stood.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Token, SamplerError> {
        with_default_floats(|| self.choose(logits))
    }

    fn choose(&mut self, logits: &[f32]) -> Result<Token, SamplerError> {
        if logits.len() != self.candidates.len() || logits.is_empty() {
            return Err(SamplerError::LogitCount { have: logits.len(), want: self.candidates.len() });
        }
        for ((candidate, &logit), token) in self.candidates.iter_mut().zip(logits).zip(0..) {
            if !logit.is_finite() {
                return Err(SamplerError::NonFinite { token });
            }
            *candidate = Candidate { score: logit + 0.0, token }; // -0 becomes 0: one order on the bits
        }
        self.penalize_recent();
        if self.config.temperature == 0.0 {
            return Ok(best(self.candidates).token);
        }
        let n_kept = self.filter();
        let n_left = self.candidates.len().saturating_sub(n_kept);
        let kept = self.candidates.get_mut(n_left..).unwrap_or_default();
        Ok(draw(kept, self.config.temperature, &mut self.random))
    }

    /// Overwrites what tells of logits and tokens.
    fn wipe(&mut self) {
        self.candidates.fill(Candidate { score: 0.0, token: 0 });
        self.recent.fill(0);
        // The zeros are meant for whoever has the memory next.
        core::hint::black_box((&mut *self.candidates, &mut *self.recent));
    }

    /// Makes each recent token less probable, once however often it came (CTRL, section 4.1; llama.cpp's signs).
    fn penalize_recent(&mut self) {
        let recent = self.recent.get(..self.n_recent).unwrap_or_default();
        for (i, &token) in recent.iter().enumerate() {
            let came_before = recent.iter().take(i).any(|&earlier| earlier == token);
            let candidate = usize::try_from(token).ok().and_then(|token| self.candidates.get_mut(token));
            if let (false, Some(candidate)) = (came_before, candidate) {
                let (score, penalty) = (candidate.score, self.config.repeat_penalty);
                let penalized = if score > 0.0 { score / penalty } else { score * penalty };
                candidate.score = penalized.clamp(f32::MIN, f32::MAX);
            }
        }
    }

    /// Top-k, top-p and min-p: moves the candidates they keep to the end of the array and says how many they are.
    fn filter(&mut self) -> usize {
        let SamplingConfig { top_k, top_p, min_p, .. } = self.config;
        let n_all = self.candidates.len();
        let n_top = if top_k == 0 { n_all } else { top_k.min(n_all) };
        if n_top == n_all && top_p >= 1.0 && min_p <= 0.0 {
            return n_all;
        }
        let max = best(self.candidates).score;
        let mut ranked = Ranked::new(self.candidates);
        if n_top < n_all {
            ranked.rank(n_top);
        }
        let pool = if n_top < n_all { ranked.ranked() } else { ranked.all() };
        let total: f64 = pool.iter().map(|candidate| weight(candidate.score - max)).sum();
        let (enough, least) = (f64::from(top_p) * total, max + libm::logf(min_p));

        let (mut n_kept, mut sum) = (0, 0.0);
        while n_kept < n_top && (n_kept == 0 || sum < enough || top_p >= 1.0) {
            match ranked.nth(n_kept) {
                Some(next) if n_kept == 0 || next.score >= least => sum += weight(next.score - max),
                _ => break,
            }
            n_kept += 1;
        }
        n_kept
    }
}

impl Drop for Sampler<'_> {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// A token and how good it is: a logit, later a weight.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: f32,
    token: Token,
}

impl Candidate {
    /// Whether this one ranks before `other`; of equal scores the lower id does. Scores are finite, and 0 has one sign.
    fn beats(&self, other: &Self) -> bool {
        self.score > other.score || (self.score == other.score && self.token < other.token)
    }
}

/// The first in rank of `candidates`.
fn best(candidates: &[Candidate]) -> Candidate {
    let first = candidates.first().copied().unwrap_or(Candidate { score: 0.0, token: 0 });
    candidates.iter().fold(first, |best, &candidate| if candidate.beats(&best) { candidate } else { best })
}

/// e^x for x at most 0.
fn weight(x: f32) -> f64 {
    f64::from(libm::expf(x))
}

/// Draws one of `kept` with probabilities softmax(score / temperature).
fn draw(kept: &mut [Candidate], temperature: f32, random: &mut Pcg32) -> Token {
    let best = best(kept);
    let mut total = 0.0;
    for candidate in &mut *kept {
        candidate.score = libm::expf((candidate.score - best.score) / temperature);
        total += f64::from(candidate.score);
    }
    let mut left = random.unit() * total;
    for candidate in kept.iter().rev() {
        left -= f64::from(candidate.score);
        if left < 0.0 {
            return candidate.token;
        }
    }
    best.token // rounding left a sliver past the last candidate
}

/// Candidates ranked on demand: a heap in front, at the back those it gave up, the best at the very end.
struct Ranked<'c> {
    candidates: &'c mut [Candidate],
    n_heap: usize,
}

impl<'c> Ranked<'c> {
    /// Makes `candidates` a heap (Floyd 1964), none ranked yet.
    fn new(candidates: &'c mut [Candidate]) -> Self {
        let n_heap = candidates.len();
        for at in (0..n_heap / 2).rev() {
            sift_down(candidates, at);
        }
        Self { candidates, n_heap }
    }

    fn all(&self) -> &[Candidate] {
        self.candidates
    }

    fn ranked(&self) -> &[Candidate] {
        self.candidates.get(self.n_heap..).unwrap_or_default()
    }

    /// The `n`-th best, from 0.
    fn nth(&mut self, n: usize) -> Option<Candidate> {
        self.rank(n.saturating_add(1));
        self.candidates.iter().rev().nth(n).copied()
    }

    /// Ranks the `n` best, or all when there are fewer.
    fn rank(&mut self, n: usize) {
        let n_heap_after = self.candidates.len().saturating_sub(n);
        while self.n_heap > n_heap_after {
            let heap = self.candidates.get_mut(..self.n_heap).unwrap_or_default();
            let Some((last, rest)) = heap.split_last_mut() else { return };
            if let Some(top) = rest.first_mut() {
                core::mem::swap(top, last);
            }
            sift_down(rest, 0);
            self.n_heap -= 1;
        }
    }
}

/// Lets the candidate at `at` sink until no child beats it.
fn sift_down(heap: &mut [Candidate], mut at: usize) {
    let Some(&sinking) = heap.get(at) else { return };
    loop {
        let (left, right) = (2 * at + 1, 2 * at + 2);
        let child = match (heap.get(left), heap.get(right)) {
            (Some(l), Some(r)) if r.beats(l) => right,
            (Some(_), _) => left,
            _ => break,
        };
        match heap.get(child).copied() {
            Some(risen) if risen.beats(&sinking) => {
                if let Some(slot) = heap.get_mut(at) {
                    *slot = risen;
                }
                at = child;
            }
            _ => break,
        }
    }
    if let Some(slot) = heap.get_mut(at) {
        *slot = sinking;
    }
}

#[cfg(test)]
#[path = "sampler/tests.rs"]
mod tests;
