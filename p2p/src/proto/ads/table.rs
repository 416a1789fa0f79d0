//! The table of ads: who is there now, and what each node said last.
//!
//! Time is each receiver's own and monotonic; nodes agree by incarnation and sequence number alone. A node whose ad has expired
//! or who left is *remembered* for its numbers, so that replaying its old ads does not bring it back; memory is bounded by
//! [`TABLE_NODES_MAX`], the longest-gone forgotten first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use types::id::NodeId;
use types::time::Time;

use super::{Ad, SignedAd};
use crate::proto::limits::{Bucket, Rate};

/// Most nodes with a live ad: at this size routing wants a sharded topic, not a longer table.
pub const TABLE_LIVE_MAX: usize = 4096;
/// Most nodes known at all, the gone included: about 100 bytes each.
pub const TABLE_NODES_MAX: usize = 2 * TABLE_LIVE_MAX;
/// Most bytes of live ads: 4096 of ordinary size, or 1024 of the largest.
pub const TABLE_BYTES_MAX: usize = 16 << 20;

/// How often one author is heard: a node repeats its ad every few seconds and says changes at most twice a second; what comes faster is noise that
/// every node would forward.
pub const AUTHOR_RATE: Rate = Rate { burst: 8, pause: Duration::from_millis(250) };
/// Most nodes that are preferred.
pub const PREFERRED_MAX: usize = TABLE_LIVE_MAX / 2;

/// Why an ad changed nothing. None is a fault: gossip repeats and reorders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// A later start of the same node was heard of: this one is its ghost.
    #[error("incarnation {got} of a node that has reached {known}")]
    OldIncarnation {
        /// The ad's incarnation.
        got: u64,
        /// The highest heard of.
        known: u64,
    },
    /// The ad, or a later one, is known.
    #[error("sequence number {got}, {known} is known")]
    OldSeq {
        /// The ad's number.
        got: u64,
        /// The highest heard of.
        known: u64,
    },
    /// No room among the live.
    #[error("table is full")]
    Full,
    /// The author speaks faster than [`AUTHOR_RATE`].
    #[error("author speaks too often")]
    TooOften,
    /// The operator wants nothing to do with the author.
    #[error("author is refused here")]
    Refused,
}

/// Live ads by node, and the numbers of those that went.
#[derive(Debug, Default)]
pub struct AdTable {
    nodes: BTreeMap<NodeId, Entry>,
    live: usize,
    live_bytes: usize,
    preferred: BTreeSet<NodeId>,
    refused: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Entry {
    heard: Bucket,
    incarnation: u64,
    seq: u64,
    /// When the ad expires; for the gone, when they went.
    until: Time,
    ad: Option<Arc<SignedAd>>,
}

impl AdTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the nodes that find room even in a full table, in the place of one that is not preferred: names cost a stranger nothing, so a flood of
    /// them must not keep out those the caller knows. Beyond [`PREFERRED_MAX`] the rest is as everybody.
    pub fn prefer(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.preferred = nodes.into_iter().take(PREFERRED_MAX).collect();
    }

    /// Whether a node is among those that are preferred.
    #[must_use]
    pub fn is_preferred(&self, node: NodeId) -> bool {
        self.preferred.contains(&node)
    }

    /// Names the nodes of which nothing is taken from now on, and forgets the ads of those among them that are live; returns these. Replaces the names
    /// given before.
    pub fn refuse(&mut self, nodes: BTreeSet<NodeId>) -> Vec<NodeId> {
        self.refused = nodes;
        let mut gone = Vec::new();
        for node in &self.refused {
            if let Some(old) = self.nodes.get_mut(node).and_then(|entry| entry.ad.take()) {
                self.live -= 1;
                self.live_bytes -= old.bytes().len();
                gone.push(*node);
            }
        }
        gone
    }

    /// Whether nothing of a node is taken.
    #[must_use]
    pub fn is_refused(&self, node: NodeId) -> bool {
        self.refused.contains(&node)
    }

    /// Whether a node has ever been heard of, as far as remembered.
    #[must_use]
    pub fn is_known(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Would this be news? Asked before the signature is checked.
    ///
    /// # Errors
    /// [`Ignored`]: why not.
    pub fn is_news(&self, ad: &Ad) -> Result<(), Ignored> {
        if self.is_refused(ad.node) {
            return Err(Ignored::Refused);
        }
        let Some(known) = self.nodes.get(&ad.node) else { return Ok(()) };
        if ad.incarnation < known.incarnation {
            return Err(Ignored::OldIncarnation { got: ad.incarnation, known: known.incarnation });
        }
        if ad.incarnation == known.incarnation && ad.seq <= known.seq {
            return Err(Ignored::OldSeq { got: ad.seq, known: known.seq });
        }
        Ok(())
    }

    /// Takes an ad that arrived at `now`. A leaving ad removes its node at once.
    ///
    /// # Errors
    /// [`Ignored`]; the table is unchanged but for what had expired.
    pub fn handle(&mut self, now: Time, signed: SignedAd) -> Result<(), Ignored> {
        self.expire(now);
        self.is_news(signed.ad())?;
        let node = signed.ad().node;
        let heard = match self.nodes.get_mut(&node) {
            Some(known) => {
                if !known.heard.take(AUTHOR_RATE, now) && !signed.ad().leaving {
                    return Err(Ignored::TooOften);
                }
                known.heard
            }
            None => Bucket::full(AUTHOR_RATE, now),
        };
        self.check_room(node, &signed)?;
        self.make_room(node);
        let entry = Entry {
            heard,
            incarnation: signed.ad().incarnation,
            seq: signed.ad().seq,
            until: now.after(Duration::from_secs(u64::from(signed.ad().ttl_s))),
            ad: None,
        };
        let entry = if signed.ad().leaving {
            Entry { until: now, ..entry }
        } else {
            self.live += 1;
            self.live_bytes += signed.bytes().len();
            Entry { ad: Some(Arc::new(signed)), ..entry }
        };
        if let Some(old) = self.nodes.insert(node, entry).and_then(|old| old.ad) {
            self.live -= 1;
            self.live_bytes -= old.bytes().len();
        }
        Ok(())
    }

    /// Removes the ads whose time is over; returns their nodes.
    pub fn expire(&mut self, now: Time) -> Vec<NodeId> {
        let mut gone = Vec::new();
        for (node, entry) in &mut self.nodes {
            if entry.until <= now
                && let Some(old) = entry.ad.take()
            {
                self.live -= 1;
                self.live_bytes -= old.bytes().len();
                gone.push(*node);
            }
        }
        gone
    }

    /// The live ads, by node.
    pub fn live(&self) -> impl Iterator<Item = &Arc<SignedAd>> {
        self.nodes.values().filter_map(|entry| entry.ad.as_ref())
    }

    /// The live ad of a node.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Arc<SignedAd>> {
        self.nodes.get(&node)?.ad.as_ref()
    }

    /// Number of live ads.
    #[must_use]
    pub fn live_len(&self) -> usize {
        self.live
    }

    fn check_room(&mut self, node: NodeId, signed: &SignedAd) -> Result<(), Ignored> {
        while self.has_no_room(node, signed) {
            let stranger = self.nodes.iter().filter(|(other, entry)| entry.ad.is_some() && !self.preferred.contains(other));
            let stranger = stranger.min_by_key(|(_, entry)| entry.until).map(|(stranger, _)| *stranger);
            let Some(stranger) = stranger.filter(|stranger| self.preferred.contains(&node) && *stranger != node) else {
                return Err(Ignored::Full);
            };
            if let Some(old) = self.nodes.remove(&stranger).and_then(|entry| entry.ad) {
                self.live -= 1;
                self.live_bytes -= old.bytes().len();
            }
        }
        Ok(())
    }

    fn has_no_room(&self, node: NodeId, signed: &SignedAd) -> bool {
        let replaced = self.get(node).map_or(0, |old| old.bytes().len());
        let is_new = replaced == 0;
        let bytes = self.live_bytes - replaced + signed.bytes().len();
        !signed.ad().leaving && ((is_new && self.live >= TABLE_LIVE_MAX) || bytes > TABLE_BYTES_MAX)
    }

    /// Forgets the longest-gone node when a new one would exceed the bound. There is one: the live are fewer than the bound.
    fn make_room(&mut self, node: NodeId) {
        if self.nodes.len() < TABLE_NODES_MAX || self.nodes.contains_key(&node) {
            return;
        }
        let gone = self.nodes.iter().filter(|(_, entry)| entry.ad.is_none());
        if let Some(longest) = gone.min_by_key(|(_, entry)| entry.until).map(|(node, _)| *node) {
            self.nodes.remove(&longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{ad, seed};
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn signed(byte: u8, incarnation: u64, seq: u64) -> SignedAd {
        SignedAd::sign(&seed(byte), ad(incarnation, seq)).unwrap()
    }

    fn leaving(byte: u8, incarnation: u64, seq: u64) -> SignedAd {
        SignedAd::sign(&seed(byte), Ad { leaving: true, ..ad(incarnation, seq) }).unwrap()
    }

    #[test]
    fn a_higher_sequence_number_replaces_and_an_equal_one_does_not() {
        let mut table = AdTable::new();
        assert_eq!(table.handle(Time(0), signed(1, 1, 5)), Ok(()));
        assert_eq!(table.handle(Time(0), signed(1, 1, 5)), Err(Ignored::OldSeq { got: 5, known: 5 }));
        assert_eq!(table.handle(Time(0), signed(1, 1, 6)), Ok(()));
        assert_eq!(table.live().next().unwrap().ad().seq, 6);
    }

    #[test]
    fn a_later_incarnation_fences_the_earlier_for_good() {
        let mut table = AdTable::new();
        table.handle(Time(0), signed(1, 1, 900)).unwrap();
        assert_eq!(table.handle(Time(0), signed(1, 2, 1)), Ok(()));
        assert_eq!(table.handle(Time(1), signed(1, 1, 901)), Err(Ignored::OldIncarnation { got: 1, known: 2 }));
        table.expire(Time(60 * SECOND));
        assert_eq!(table.live_len(), 0);
        assert_eq!(table.handle(Time(60 * SECOND), signed(1, 1, 902)), Err(Ignored::OldIncarnation { got: 1, known: 2 }));
    }

    #[test]
    fn an_ad_counts_for_its_time_to_live_after_arrival() {
        let mut table = AdTable::new();
        table.handle(Time(5 * SECOND), signed(1, 1, 1)).unwrap();
        assert_eq!(table.expire(Time(15 * SECOND - 1)), []);
        assert_eq!(table.expire(Time(15 * SECOND)), [seed(1).node_id()]);
        assert_eq!(table.handle(Time(16 * SECOND), signed(1, 1, 1)), Err(Ignored::OldSeq { got: 1, known: 1 }), "a replay");
    }

    #[test]
    fn a_leaving_node_is_gone_at_once_and_its_earlier_ads_stay_out() {
        let mut table = AdTable::new();
        table.handle(Time(0), signed(1, 1, 1)).unwrap();
        table.handle(Time(0), leaving(1, 1, 3)).unwrap();
        assert_eq!(table.live_len(), 0);
        assert_eq!(table.handle(Time(0), signed(1, 1, 2)), Err(Ignored::OldSeq { got: 2, known: 3 }));
        assert_eq!(table.handle(Time(0), signed(1, 2, 1)), Ok(()), "its next start is welcome");
    }

    #[test]
    fn nothing_of_a_refused_node_is_taken_until_it_is_refused_no_longer() {
        let mut table = AdTable::new();
        table.handle(Time(0), signed(1, 1, 1)).unwrap();
        table.handle(Time(0), signed(2, 1, 1)).unwrap();
        let (one, three) = (seed(1).node_id(), seed(3).node_id());
        assert_eq!(table.refuse(BTreeSet::from([one, three])), [one], "who has no ad here is not told of");
        assert_eq!((table.live_len(), table.get(one)), (1, None));
        for ad in [signed(1, 1, 2), signed(1, 2, 1), signed(3, 1, 1)] {
            assert_eq!(table.handle(Time(1), ad), Err(Ignored::Refused));
        }
        assert_eq!(table.refuse(BTreeSet::new()), []);
        assert_eq!(table.handle(Time(2), signed(1, 1, 1)), Err(Ignored::OldSeq { got: 1, known: 1 }), "a replay from before");
        assert_eq!(table.handle(Time(2), signed(1, 1, 2)), Ok(()));
        assert_eq!((table.live_len(), table.expire(Time(100 * SECOND)).len(), table.live_bytes), (2, 2, 0));
    }

    fn of_node(number: u16, ad: Ad) -> SignedAd {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        SignedAd::sign(&NodeSeed::new(bytes), ad).unwrap()
    }

    #[test]
    fn large_ads_fill_the_table_by_their_bytes_and_one_that_shrinks_makes_room() {
        let adapter = ad(1, 1).adapters[0];
        let large = |number, seq| of_node(number, Ad { adapters: vec![adapter; super::super::ADAPTERS_MAX], ..ad(1, seq) });
        let fit = TABLE_BYTES_MAX / large(0, 1).bytes().len();
        assert!(fit < TABLE_LIVE_MAX, "{fit} of the largest fit");
        let mut table = AdTable::new();
        for number in 0..fit {
            table.handle(Time(0), large(u16::try_from(number).unwrap(), 1)).unwrap();
        }
        assert_eq!(table.handle(Time(0), large(20_000, 1)), Err(Ignored::Full));
        assert_eq!(table.handle(Time(0), large(0, 2)), Ok(()), "an ad that takes the place of an equal one always fits");
        table.handle(Time(0), of_node(0, ad(1, 3))).unwrap();
        assert_eq!(table.handle(Time(0), large(20_000, 1)), Ok(()));
        assert!(table.live_bytes <= TABLE_BYTES_MAX);
    }

    #[test]
    fn the_longest_gone_is_forgotten_first() {
        let mut table = AdTable::new();
        let gone = |number: u16, seq| of_node(number, Ad { leaving: true, ..ad(1, seq) });
        // The numbers say nothing of the order of the ids.
        for number in 0..u16::try_from(TABLE_NODES_MAX).unwrap() {
            table.handle(Time(u64::from(number)), gone(number, 5)).unwrap();
        }
        table.handle(Time(10_000), gone(20_000, 5)).unwrap();
        assert_eq!(table.nodes.len(), TABLE_NODES_MAX);
        assert_eq!(table.is_news(gone(0, 1).ad()), Ok(()), "the first that went is a stranger again");
        for number in [1, 2, 8191, 20_000] {
            assert_eq!(table.is_news(gone(number, 1).ad()), Err(Ignored::OldSeq { got: 1, known: 5 }), "node {number}");
        }
    }

    #[test]
    fn a_full_table_keeps_the_live_and_takes_more_when_they_expire() {
        let numbered = |number: u16| of_node(number, ad(1, 1));
        let mut table = AdTable::new();
        for number in 0..4096 {
            table.handle(Time(0), numbered(number)).unwrap();
        }
        assert_eq!(table.handle(Time(0), numbered(5000)), Err(Ignored::Full));
        assert_eq!(table.live_len(), TABLE_LIVE_MAX);
        for number in 5000..10_000 {
            table.handle(Time(u64::from(number) * SECOND), numbered(number)).unwrap();
        }
        assert!(table.nodes.len() <= TABLE_NODES_MAX);
    }

    #[test]
    fn an_author_that_floods_is_heard_at_its_rate_and_others_as_before() {
        let mut table = AdTable::new();
        let heard = (1..=1_000).filter(|seq| table.handle(Time(0), signed(1, 1, *seq)).is_ok()).count();
        assert_eq!(heard, 9, "the first and the burst");
        assert_eq!(table.handle(Time(0), signed(1, 1, 2_000)), Err(Ignored::TooOften));
        assert_eq!(table.handle(Time(0), signed(2, 1, 1)), Ok(()));
        assert_eq!(table.handle(Time(SECOND), signed(1, 1, 2_001)), Ok(()), "a second later it is heard again");
        assert_eq!(table.handle(Time(SECOND), leaving(1, 1, 3_000)), Ok(()), "that it leaves is always heard");
    }

    #[test]
    fn a_flood_of_names_does_not_keep_out_who_is_preferred() {
        let numbered = |number: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            NodeSeed::new(bytes)
        };
        let mut table = AdTable::new();
        let staked: Vec<NodeSeed> = (5_000..5_003).map(numbered).collect();
        table.prefer(staked.iter().map(NodeSeed::node_id));
        for number in 0..4096 {
            table.handle(Time(u64::from(number)), SignedAd::sign(&numbered(number), ad(1, 1)).unwrap()).unwrap();
        }
        for seed in &staked {
            assert_eq!(table.handle(Time(5_000), SignedAd::sign(seed, ad(1, 1)).unwrap()), Ok(()));
            assert!(table.get(seed.node_id()).is_some());
        }
        assert_eq!(table.handle(Time(5_000), SignedAd::sign(&numbered(6_000), ad(1, 1)).unwrap()), Err(Ignored::Full));
        assert_eq!(table.live_len(), TABLE_LIVE_MAX);
        assert_eq!(table.live_bytes, table.live().map(|signed| signed.bytes().len()).sum::<usize>());
    }

    use crate::identity::NodeSeed;

    proptest! {
        /// The plain rule: the live ad of a node is the highest (incarnation, seq) that arrived, unless it expired or leaves.
        #[test]
        fn the_table_agrees_with_the_plain_rule(
            events in prop::collection::vec((0u8..3, 0u64..3, 0u64..4, 0u64..8, any::<bool>()), 0..40),
        ) {
            let mut table = AdTable::new();
            let mut best: BTreeMap<u8, (u64, u64, u64, bool)> = BTreeMap::new();
            let mut now = 0;
            for (node, incarnation, seq, wait_s, leaves) in events {
                now += wait_s * SECOND;
                let ad = if leaves { leaving(node, incarnation, seq) } else { signed(node, incarnation, seq) };
                let is_news = best.get(&node).is_none_or(|&(i, s, ..)| (incarnation, seq) > (i, s));
                prop_assert_eq!(table.handle(Time(now), ad).is_ok(), is_news);
                if is_news {
                    best.insert(node, (incarnation, seq, now + 10 * SECOND, leaves));
                }
                table.expire(Time(now));
                for node in 0..3 {
                    let expected = best.get(&node).filter(|&&(_, _, until, leaves)| until > now && !leaves).map(|&(i, s, ..)| (i, s));
                    let got = table.get(seed(node).node_id()).map(|signed| (signed.ad().incarnation, signed.ad().seq));
                    prop_assert_eq!(got, expected);
                }
                prop_assert_eq!(table.live_len(), table.live().count());
                prop_assert_eq!(table.live_bytes, table.live().map(|signed| signed.bytes().len()).sum::<usize>());
            }
        }
    }
}
