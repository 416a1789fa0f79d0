//! Whom to dial, and when again.
//!
//! Goals: a node joins from one bootstrap address however long that one is down, then holds a few connections of its own choice,
//! so that the bootstrap may die. Non-goals: the addresses; the shell knows them.
//!
//! Bootstraps are tried for ever with a wait that doubles from [`WAIT_MIN`] to [`BOOTSTRAP_WAIT_MAX`], so a returning one is
//! found within that time. Nodes known by their ads are dialled in an order that differs from node to node (hash of both ids), so
//! that the graph is random and not a star, until [`PEERS_TARGET`] are connected.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use types::id::NodeId;
use types::time::Time;

/// Connections a node seeks by itself: gossip's mesh of 8. It accepts more.
pub const PEERS_TARGET: usize = 8;
/// First wait after a failed dial.
pub const WAIT_MIN: Duration = Duration::from_millis(250);
/// Longest wait before a bootstrap is tried again.
pub const BOOTSTRAP_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest wait before a node known by its ad is tried again.
pub const NODE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Head start of the smaller id when two nodes hear of each other at once: else both dial and one connection is wasted.
pub const HEAD_START: Duration = Duration::from_secs(1);
/// Dials under way at once.
pub const DIALS_MAX: usize = 8;

/// Something to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The configured address of this index.
    Bootstrap(usize),
    /// The addresses in this node's ad.
    Node(NodeId),
}

/// What is known of a configured address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// Nobody there is connected.
    Missing,
    /// The peer behind it is connected.
    Connected,
    /// It is this node itself.
    Own,
}

/// What the plan is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// This node.
    pub me: NodeId,
    /// Peers connected now.
    pub connected: &'a BTreeSet<NodeId>,
    /// State of each configured address.
    pub bootstraps: &'a [Bootstrap],
    /// Nodes whose live ad names an address.
    pub candidates: &'a BTreeSet<NodeId>,
}

/// Remembers failures and what is under way.
#[derive(Debug, Default)]
pub struct DialBook {
    waits: BTreeMap<Target, Wait>,
    under_way: BTreeSet<Target>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    failures: u32,
    until: Time,
}

impl DialBook {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What to dial now; each counts as under way until [`DialBook::connected`] or [`DialBook::failed`].
    pub fn plan(&mut self, now: Time, facts: &Facts<'_>) -> Vec<Target> {
        self.waits.retain(|target, _| match target {
            Target::Bootstrap(_) => true,
            Target::Node(node) => facts.candidates.contains(node),
        });
        let mut planned = Vec::new();
        for (index, state) in facts.bootstraps.iter().enumerate() {
            if *state == Bootstrap::Missing {
                self.consider(now, Target::Bootstrap(index), &mut planned);
            }
        }
        let mut nodes: Vec<_> = facts.candidates.difference(facts.connected).filter(|node| **node != facts.me).collect();
        nodes.sort_by_cached_key(|node| preference(facts.me, **node));
        for node in nodes {
            if facts.connected.len() + self.under_way.len() >= PEERS_TARGET {
                break;
            }
            let target = Target::Node(*node);
            let head_start = if facts.me < *node { Duration::ZERO } else { HEAD_START };
            self.waits.entry(target).or_insert_with(|| Wait { failures: 0, until: now.after(head_start) });
            self.consider(now, target, &mut planned);
        }
        planned
    }

    fn consider(&mut self, now: Time, target: Target, planned: &mut Vec<Target>) {
        let is_due = self.waits.get(&target).is_none_or(|wait| wait.until <= now);
        if is_due && self.under_way.len() < DIALS_MAX && self.under_way.insert(target) {
            planned.push(target);
        }
    }

    /// A dial ended in a connection.
    pub fn connected(&mut self, target: Target) {
        self.under_way.remove(&target);
    }

    /// The connection proved to be of use: the next failure is the first again.
    pub fn proved(&mut self, target: Target) {
        self.waits.remove(&target);
    }

    /// A dial failed, or its connection ended before it proved to be of use: it is not tried again at once.
    pub fn failed(&mut self, now: Time, target: Target) {
        self.under_way.remove(&target);
        let failures = self.waits.get(&target).map_or(0, |wait| wait.failures).saturating_add(1);
        let longest = match target {
            Target::Bootstrap(_) => BOOTSTRAP_WAIT_MAX,
            Target::Node(_) => NODE_WAIT_MAX,
        };
        let wait = WAIT_MIN.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(longest);
        self.waits.insert(target, Wait { failures, until: now.after(wait) });
    }
}

/// A different order for each `me`.
fn preference(me: NodeId, node: NodeId) -> [u8; 32] {
    *blake3::hash(&[me.0, node.0].concat()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    fn plan(book: &mut DialBook, now_ms: u64, connected: &[u8], bootstraps: &[Bootstrap], candidates: &[u8]) -> Vec<Target> {
        let connected = connected.iter().map(|byte| node(*byte)).collect();
        let candidates = candidates.iter().map(|byte| node(*byte)).collect();
        let facts = Facts { me: node(0), connected: &connected, bootstraps, candidates: &candidates };
        book.plan(Time(now_ms * 1000), &facts)
    }

    #[test]
    fn a_missing_bootstrap_is_tried_for_ever_with_a_bounded_wait() {
        let mut book = DialBook::new();
        let mut now = 0;
        let mut tries = Vec::new();
        while now < 60_000 {
            for target in plan(&mut book, now, &[], &[Bootstrap::Missing], &[]) {
                tries.push(now);
                book.failed(Time(now * 1000), target);
            }
            now += 50;
        }
        let waits: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits[..5], [250, 500, 1000, 2000, 4000]);
        assert!(waits[5..].iter().all(|wait| *wait == 5000), "{waits:?}");
    }

    #[test]
    fn a_dial_under_way_is_not_repeated() {
        let mut book = DialBook::new();
        assert_eq!(plan(&mut book, 0, &[], &[Bootstrap::Missing], &[]), [Target::Bootstrap(0)]);
        assert_eq!(plan(&mut book, 9000, &[], &[Bootstrap::Missing], &[]), []);
    }

    #[test]
    fn connected_and_own_addresses_are_left_alone() {
        let mut book = DialBook::new();
        assert_eq!(plan(&mut book, 0, &[1], &[Bootstrap::Connected, Bootstrap::Own], &[0, 1]), []);
    }

    #[test]
    fn a_useful_bootstrap_that_is_lost_is_tried_at_once_and_a_useless_one_later() {
        let mut book = DialBook::new();
        for now_ms in [0, 250] {
            assert_eq!(plan(&mut book, now_ms, &[], &[Bootstrap::Missing], &[]), [Target::Bootstrap(0)]);
            book.connected(Target::Bootstrap(0));
            book.failed(Time(now_ms * 1000), Target::Bootstrap(0));
        }
        assert_eq!(plan(&mut book, 500, &[], &[Bootstrap::Missing], &[]), []);
        assert_eq!(plan(&mut book, 750, &[], &[Bootstrap::Missing], &[]), [Target::Bootstrap(0)]);
        book.connected(Target::Bootstrap(0));
        book.proved(Target::Bootstrap(0));
        assert_eq!(plan(&mut book, 751, &[], &[Bootstrap::Missing], &[]), [Target::Bootstrap(0)]);
        book.failed(Time(751_000), Target::Bootstrap(0));
        assert_eq!(plan(&mut book, 1_000, &[], &[Bootstrap::Missing], &[]), []);
        assert_eq!(plan(&mut book, 1_001, &[], &[Bootstrap::Missing], &[]), [Target::Bootstrap(0)], "the first wait again");
    }

    #[test]
    fn a_node_never_dials_itself() {
        let mut book = DialBook::new();
        for now_ms in [0, 2_000, 60_000] {
            assert_eq!(plan(&mut book, now_ms, &[], &[], &[0]), []);
        }
    }

    #[test]
    fn nodes_are_dialled_up_to_the_target_and_bootstraps_beyond_it() {
        let mut book = DialBook::new();
        let many: Vec<u8> = (1..100).collect();
        let planned = plan(&mut book, 0, &[200, 201, 202], &[], &many);
        assert_eq!(planned.len(), PEERS_TARGET - 3);
        let full: Vec<u8> = (1..=8).collect();
        assert_eq!(plan(&mut DialBook::new(), 0, &full, &[Bootstrap::Missing], &many), [Target::Bootstrap(0)]);
    }

    #[test]
    fn no_more_than_eight_dials_are_under_way() {
        let mut book = DialBook::new();
        let planned = plan(&mut book, 0, &[], &[Bootstrap::Missing; 20], &[1, 2, 3]);
        assert_eq!(planned, (0..DIALS_MAX).map(Target::Bootstrap).collect::<Vec<_>>());
        book.connected(Target::Bootstrap(3));
        assert_eq!(plan(&mut book, 0, &[], &[Bootstrap::Missing; 20], &[1, 2, 3]), [Target::Bootstrap(3)]);
    }

    #[test]
    fn the_smaller_id_dials_first() {
        let facts_me = |me: u8, other: u8, now: u64, book: &mut DialBook| {
            let candidates = BTreeSet::from([node(other)]);
            let facts = Facts { me: node(me), connected: &BTreeSet::new(), bootstraps: &[], candidates: &candidates };
            book.plan(Time(now), &facts)
        };
        assert_eq!(facts_me(1, 2, 0, &mut DialBook::new()).len(), 1);
        let mut larger = DialBook::new();
        assert_eq!(facts_me(2, 1, 0, &mut larger).len(), 0);
        assert_eq!(facts_me(2, 1, 1_000_000, &mut larger).len(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded_by_the_live_ads() {
        let mut book = DialBook::new();
        for target in plan(&mut book, 0, &[], &[], &[1, 2, 3]) {
            book.failed(Time(0), target);
        }
        plan(&mut book, 1, &[], &[], &[]);
        assert!(book.waits.is_empty());
    }
}
