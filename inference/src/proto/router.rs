//! Whom to ask first: a pure choice among providers, with the reasons one can show.
//!
//! 1. [`filter`]: who serves it, is registered, and meets the client's bounds; who does not is counted with its reason ([`Unfit`]).
//! 2. [`score`]: what an answer would cost and how long it would take there, in integers, by what this client saw itself ([`Memory`]), else by the
//!    provider's word.
//! 3. [`choose`]: an order by the client's wish ([`Mode`]). `Economic` is cheapest first, to the wei, and nothing weighs against a wei; `Fast` and
//!    `Balanced` spread what is as good as the best over two random choices of it, and now and then ask somebody nobody has measured.
//!
//! No clock, no socket, no randomness of its own: times are handed in, draws are hashes of the client and of its count of choices. A choice among n
//! providers is one sort by keys made once, of at most as many as an ad table holds.
//!
//! Not here: adapters' places, free keys and values, a provider's own forecast. No ad says them yet.

mod choose;
mod filter;
mod memory;
mod preference;
mod score;

#[cfg(test)]
mod tests;

use types::{
    amount::Amount,
    id::{Address, NodeId},
    quote::Profile,
};

pub use self::{
    choose::{BAND_PERCENT, EXPLORED_PERMILLE, Route, Why, choose},
    filter::{Holds, Tally, Unfit, filter},
    memory::{BAN_MAX, BAN_MIN, ERROR_HALF_LIFE, Memory, NODES_MAX, STALE_AFTER},
    preference::{Mode, Preference},
    score::{Middle, Score, TTFT_STEP_MS, score},
};

/// What is known of a provider: its ad, and what the chain says of its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The node.
    pub node: NodeId,
    /// Its account.
    pub account: Address,
    /// How much of what is asked for it serves.
    pub holds: Holds,
    /// Numeric rules that it answers under; nothing if it answers nobody.
    pub profile: Option<Profile>,
    /// Its account's active stake; zero for a node that is not registered under that account.
    pub stake: Amount,
    /// The country it says it stands in, as two capital letters.
    pub region: Option<[u8; 2]>,
    /// Wei per 1,000 input tokens.
    pub rate_in: Amount,
    /// Wei per 1,000 output tokens.
    pub rate_out: Amount,
    /// Requests waiting there.
    pub queue: u16,
    /// Its recent time to first token, milliseconds, by its own word; nothing if it has measured none.
    pub ttft_ms: Option<u32>,
    /// Its recent output tokens per second, by its own word; nothing if it has measured none.
    pub tokens_per_s: Option<u16>,
}

/// A question as far as it decides whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Numeric rules to answer under.
    pub profile: Profile,
    /// Input tokens, about.
    pub tokens_in: u32,
    /// Output tokens at most.
    pub tokens_out: u32,
    /// Who asks.
    pub client: Address,
    /// Counts the client's choices: each draws anew.
    pub number: u64,
}
