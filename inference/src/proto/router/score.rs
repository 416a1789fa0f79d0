//! What an answer would cost and how long it would take: integers, saturating, each from what is known.
//!
//! First token: what this client waited here lately, else the provider's word, else the middle of all words, for silence is no speed and a new node is
//! asked all the same. Each request that waits there is read before this one, so the wait grows by as much again. A provider that failed lately counts
//! as slower by [`FAILED_MS`] for each failure, which halves as the failure ages.
//!
//! A client's own measure holds its way there as well, a word does not: who is unmeasured looks a little better than it is, which costs one answer.

use types::{amount::Amount, split, time::Time};

use super::{Asked, Memory, Mode, Provider};

/// First-token times below this many milliseconds are all equal where they only break ties, and from there on within a factor of two: what a queue of one changes.
pub const TTFT_STEP_MS: u32 = 64;
/// What a fresh failure counts: noticing a dead node and going on elsewhere takes about so long.
const FAILED_MS: u64 = 4_000;
/// Tokens per second where nobody says any: a small model on a processor.
const SPEED: u32 = 20;
/// First token where nobody says any.
const TTFT_MS: u32 = 1_000;
/// Beyond so many times the best, a cost or a time is as bad as any.
const TIMES_MAX: u128 = 1_000;
const MILLION: u128 = 1_000_000;

/// Middle values of what is known of the providers that may be asked: what stands for those who say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Middle {
    /// First token, milliseconds.
    pub ttft_ms: u32,
    /// Output tokens per second.
    pub tokens_per_s: u32,
}

impl Middle {
    /// Of these providers.
    pub fn of(providers: &[Provider], memory: &Memory) -> Self {
        let middle = |mut known: Vec<u32>, else_: u32| {
            known.sort_unstable();
            known.get(known.len() / 2).copied().unwrap_or(else_)
        };
        Self {
            ttft_ms: middle(providers.iter().filter_map(|p| known_ttft_ms(p, memory)).collect(), TTFT_MS),
            tokens_per_s: middle(providers.iter().filter_map(|p| p.tokens_per_s).map(u32::from).collect(), SPEED),
        }
    }
}

/// First-token time by this client's own measure, else by the provider's word.
fn known_ttft_ms(provider: &Provider, memory: &Memory) -> Option<u32> {
    memory.ttft_ms(provider.node).or(provider.ttft_ms)
}

/// What an answer of a provider would be, as far as one can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Score {
    /// Its whole fee without the protocol's part, which is the same everywhere; the most there is if the rates overflow.
    pub fee: Amount,
    /// Time to the first token, milliseconds, waiting and failures included.
    pub first_ms: u64,
    /// Time to the last token, milliseconds.
    pub whole_ms: u64,
    /// First-token time without the rest, rounded so that milliseconds decide nothing: breaks ties of equal fees.
    pub step: u32,
}

/// What an answer of `provider` would be now.
pub fn score(provider: &Provider, asked: &Asked, memory: &Memory, middle: Middle, now: Time) -> Score {
    let known = known_ttft_ms(provider, memory).unwrap_or(middle.ttft_ms);
    let waits = 1 + u64::from(provider.queue);
    let failed = memory.errors_milli(provider.node, now).saturating_mul(FAILED_MS) / 1_000;
    let first_ms = u64::from(known).saturating_mul(waits).saturating_add(failed);
    let speed = provider.tokens_per_s.map_or(middle.tokens_per_s, u32::from).max(1);
    let whole_ms = first_ms.saturating_add(u64::from(asked.tokens_out) * 1_000 / u64::from(speed));
    let fee = split::fee(asked.tokens_in, asked.tokens_out, provider.rate_in, provider.rate_out, Amount::ZERO);
    let step = (known / TTFT_STEP_MS).checked_ilog2().map_or(0, |step| step + 1);
    Score { fee: fee.unwrap_or(Amount(u128::MAX)), first_ms, whole_ms, step }
}

impl Score {
    /// What is to be little, against the least fee and the least time of all: nothing weighs against a wei in [`Mode::Economic`].
    pub(super) fn key(self, mode: Mode, least: (Amount, u64)) -> u128 {
        match mode {
            Mode::Economic => self.fee.0,
            Mode::Fast => u128::from(self.first_ms),
            // One is added on both sides: what is free, or takes no time, divides nothing.
            Mode::Balanced => times(self.fee.0, least.0.0).saturating_add(times(self.whole_ms.into(), least.1.into())),
        }
    }
}

/// How many times `least` that is, in millionths.
fn times(is: u128, least: u128) -> u128 {
    let most = TIMES_MAX * MILLION;
    split::mul_div(is.saturating_add(1), MILLION, least.saturating_add(1)).map_or(most, |times| times.min(most))
}
