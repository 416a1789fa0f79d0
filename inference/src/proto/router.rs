//! Whom to ask first: a pure order over providers, with the reason one can show.
//!
//! Cheapest expected cost first; at equal cost the shorter queue, then the quicker first token, then the node id, so that two clients with
//! the same ads agree. (Scores of latency and load against price, hedging and exploration are not here yet.)

use types::{
    amount::Amount,
    id::{Address, NodeId},
    split,
};

/// What is known of a provider that serves what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The node.
    pub node: NodeId,
    /// Its account.
    pub account: Address,
    /// Wei per 1,000 input tokens.
    pub rate_in: Amount,
    /// Wei per 1,000 output tokens.
    pub rate_out: Amount,
    /// Requests waiting there.
    pub queue: u16,
    /// Its recent time to first token, milliseconds.
    pub ttft_ms: u32,
}

/// Puts providers in the order in which to ask them for about `tokens_in` and `tokens_out` tokens.
///
/// A provider whose rates overflow comes last.
pub fn order(mut providers: Vec<Provider>, tokens_in: u32, tokens_out: u32) -> Vec<Provider> {
    providers.sort_by_key(|p| {
        let cost = split::fee(tokens_in, tokens_out, p.rate_in, p.rate_out, Amount::ZERO).unwrap_or(Amount(u128::MAX));
        (cost, p.queue, p.ttft_ms, p.node)
    });
    providers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_comes_first_then_the_shortest_queue() {
        let provider = |node: u8, rate_out, queue| Provider {
            node: NodeId([node; 32]),
            account: Address([node; 20]),
            rate_in: Amount(1_000),
            rate_out: Amount(rate_out),
            queue,
            ttft_ms: 1,
        };
        let order = order(vec![provider(1, 9_000, 0), provider(2, 5_000, 4), provider(3, 5_000, 1)], 50, 100);
        assert_eq!(order.iter().map(|p| p.node.0[0]).collect::<Vec<_>>(), [3, 2, 1]);
    }
}
