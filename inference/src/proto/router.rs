//! Whom to ask first: a pure order over providers, with the reason one can show.
//!
//! Cheapest expected cost first; at equal cost the shorter queue; then the quicker first token, by what this client saw itself if it saw any,
//! else by the provider's word, both rounded down to a power of two of [`TTFT_STEP_MS`]: a millisecond is noise, a doubling is not. Who has measured
//! none stands in the middle of those that have: silence is no speed, and a new node is asked all the same. What is still
//! equal is drawn by a hash of the client and the node: equal providers share the clients evenly, and a client keeps to its node, where its lane is
//! collected by one voucher for many answers (about 32,000 gas, whatever it is worth) and what it said before may still be cached.
//! (Scores of load against price, hedging and exploration are not here yet.)

use types::{
    amount::Amount,
    id::{Address, NodeId},
    merkle::keccak,
    split,
};

/// First-token times below this many milliseconds are all equal, and from there on within a factor of two: what a queue of one changes.
pub const TTFT_STEP_MS: u32 = 64;

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
    /// Its recent time to first token, milliseconds, by its own word; nothing if it has measured none.
    pub ttft_ms: Option<u32>,
    /// The same as this client measured it, if it did: counts in place of the word.
    pub seen_ttft_ms: Option<u32>,
}

/// Puts providers in the order in which to ask them for about `tokens_in` and `tokens_out` tokens for `client`.
///
/// A provider whose rates overflow comes last.
pub fn order(mut providers: Vec<Provider>, tokens_in: u32, tokens_out: u32, client: Address) -> Vec<Provider> {
    let step = |p: &Provider| {
        let ms = p.seen_ttft_ms.or(p.ttft_ms)?;
        Some((ms / TTFT_STEP_MS).checked_ilog2().map_or(0, |step| step + 1))
    };
    let mut known: Vec<u32> = providers.iter().filter_map(step).collect();
    known.sort_unstable();
    let middle = known.get(known.len() / 2).copied().unwrap_or_default();
    providers.sort_by_cached_key(|p| {
        let cost = split::fee(tokens_in, tokens_out, p.rate_in, p.rate_out, Amount::ZERO).unwrap_or(Amount(u128::MAX));
        (cost, p.queue, step(p).unwrap_or(middle), keccak(&[b"tributary/route/v1", &client.0, &p.node.0]))
    });
    providers
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn provider(node: u8, rate_out: u128, queue: u16) -> Provider {
        Provider {
            node: NodeId([node; 32]),
            account: Address([node; 20]),
            rate_in: Amount(1_000),
            rate_out: Amount(rate_out),
            queue,
            ttft_ms: Some(1),
            seen_ttft_ms: None,
        }
    }

    fn client(number: u32) -> Address {
        let mut client = Address([7; 20]);
        client.0[..4].copy_from_slice(&number.to_be_bytes());
        client
    }

    fn names(providers: Vec<Provider>, number: u32) -> Vec<u8> {
        order(providers, 50, 100, client(number)).iter().map(|p| p.node.0[0]).collect()
    }

    #[test]
    fn the_cheapest_comes_first_then_the_shortest_queue() {
        for number in 0..20 {
            assert_eq!(names(vec![provider(1, 9_000, 0), provider(2, 5_000, 4), provider(3, 5_000, 1)], number), [3, 2, 1]);
        }
    }

    #[test]
    fn a_first_token_seen_to_be_slow_outweighs_the_providers_word_and_a_few_milliseconds_weigh_nothing() {
        let boaster = Provider { ttft_ms: Some(0), seen_ttft_ms: Some(900), ..provider(1, 5_000, 0) };
        let plain = Provider { ttft_ms: Some(100), ..provider(2, 5_000, 0) };
        let close = Provider { ttft_ms: Some(120), ..provider(3, 5_000, 0) };
        let firsts: Vec<u8> = (0..64).map(|number| names(vec![boaster.clone(), plain.clone(), close.clone()], number)[0]).collect();
        assert!(firsts.contains(&2) && firsts.contains(&3) && !firsts.contains(&1), "{firsts:?}");
    }

    #[test]
    fn a_provider_that_has_measured_nothing_is_neither_the_quickest_nor_the_slowest() {
        let said = |node, ttft_ms| Provider { ttft_ms, ..provider(node, 5_000, 0) };
        for number in 0..32 {
            let asked = vec![said(1, Some(9_000)), said(2, None), said(3, Some(10)), said(4, Some(500))];
            let order = names(asked, number);
            assert_eq!((order[0], order[3]), (3, 1), "{order:?}");
        }
        let alone: Vec<u8> = (0..64).map(|number| names(vec![said(1, None), said(2, Some(700))], number)[0]).collect();
        assert!(alone.contains(&1) && alone.contains(&2), "who is new is asked too: {alone:?}");
    }

    /// Five equal providers, 1,000 clients: a fair draw gives each 200 with a standard deviation of 12.6; the bound is four of them.
    #[test]
    fn equal_providers_share_the_clients_evenly_and_a_client_keeps_to_its_node() {
        let mut first: BTreeMap<u8, u32> = BTreeMap::new();
        for number in 1..=1_000 {
            let order = names((1..=5).map(|node| provider(node, 5_000, 0)).collect(), number);
            assert_eq!(
                order,
                names((1..=5).rev().map(|node| provider(node, 5_000, 0)).collect(), number),
                "the order of ads changes nothing"
            );
            *first.entry(order[0]).or_default() += 1;
        }
        assert_eq!(first.len(), 5);
        assert!(first.values().all(|count| (150..=250).contains(count)), "{first:?}");
    }
}
