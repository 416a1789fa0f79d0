//! Whose piece is sent next: deficit round robin over peers (Shreedhar and Varghese, 1996) under token buckets, one per peer and one for all.
//!
//! A read wishes for its next piece and waits for its turn. Peers come round in order; each round adds [`QUANTUM`] to what a peer may send, and within a
//! peer its reads come round likewise. So of two peers that both wish for full pieces each gets half, be it with one stream or with sixteen, and a peer
//! alone gets everything its own bucket allows. A turn costs its bytes when it is given; whoever then does not read delays nobody.
//!
//! Bounds: a wish per open read ([`super::Admission`] bounds those), [`PEERS_MAX`] buckets; a bucket that is full again is forgotten, which is as if it
//! had stayed.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use types::{id::NodeId, time::Time};

use super::PIECE_BYTES;

/// Bytes added to a peer's account each round; no piece is longer.
const QUANTUM: u64 = PIECE_BYTES as u64;
/// Most peers remembered. 1,024: a bucket is full again within a second, so this many have read within the last one.
pub const PEERS_MAX: usize = 1_024;
/// Least bytes that may go at once: a few pieces.
pub const PACE_BURST_MIN: u64 = 4 * QUANTUM;
const MICROS: u128 = 1_000_000;

/// How fast is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// Bytes a second to all peers together; 0 sets no limit. 125,000,000: a line of 1 Gbit/s, so that a queue forms here, where it is fair, and not in
    /// the line's buffers.
    pub bytes_per_s: u64,
    /// Bytes a second to one peer; 0 sets no limit. 62,500,000: half of that; sixteen holders fill any reader's line at a tenth of it.
    pub peer_bytes_per_s: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { bytes_per_s: 125_000_000, peer_bytes_per_s: 62_500_000 }
    }
}

impl Pace {
    /// A pace of so many bytes a second to all, half of it to one peer.
    pub const fn of(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, peer_bytes_per_s: bytes_per_s.div_ceil(2) }
    }
}

/// Fills at a rate up to half a second's worth; nothing: no limit.
#[derive(Debug, Clone)]
struct Bucket {
    rate: u64,
    burst: u64,
    /// Millionths of a byte.
    level: u128,
    at: Time,
}

impl Bucket {
    fn full(rate: u64, now: Time) -> Self {
        let burst = (rate / 2).max(PACE_BURST_MIN);
        Self { rate, burst, level: u128::from(burst) * MICROS, at: now }
    }

    fn refill(&mut self, now: Time) {
        let gained = now.since(self.at).as_micros().saturating_mul(self.rate.into());
        self.level = self.level.saturating_add(gained).min(u128::from(self.burst) * MICROS);
        self.at = self.at.max(now);
    }

    const fn is_full(&self) -> bool {
        self.level >= self.burst as u128 * MICROS
    }

    const fn has(&self, bytes: u64) -> bool {
        self.rate == 0 || self.level >= bytes as u128 * MICROS
    }

    fn take(&mut self, bytes: u64) {
        self.level = self.level.saturating_sub(u128::from(bytes) * MICROS);
    }

    /// When it has so many bytes.
    fn ready(&self, bytes: u64) -> Time {
        let lacks = (u128::from(bytes) * MICROS).saturating_sub(self.level);
        let wait = lacks.div_ceil(u128::from(self.rate.max(1)));
        Time(self.at.0.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX)))
    }
}

#[derive(Debug)]
struct Peer {
    bucket: Bucket,
    /// Bytes it may send in this round.
    credit: u64,
    has_turn: bool,
    /// Its reads' next pieces, in order of wishing.
    wishes: VecDeque<(u64, u64)>,
}

/// The queue of pieces to be sent.
#[derive(Debug)]
pub struct Turns {
    pace: Pace,
    all: Bucket,
    peers: BTreeMap<NodeId, Peer>,
    /// Peers with wishes, next first.
    ring: VecDeque<NodeId>,
}

impl Turns {
    /// Nobody waits.
    pub fn new(pace: Pace, now: Time) -> Self {
        let all = Bucket::full(pace.bytes_per_s, now);
        Self { pace, all, peers: BTreeMap::new(), ring: VecDeque::new() }
    }

    /// A read's next piece is of so many bytes. Its `id` comes back from [`Turns::grant`]. False if too many peers are remembered: then try later.
    pub fn wish(&mut self, now: Time, peer: NodeId, id: u64, bytes: usize) -> bool {
        if !self.peers.contains_key(&peer) {
            if self.peers.len() >= PEERS_MAX {
                self.forget(now);
            }
            if self.peers.len() >= PEERS_MAX {
                return false;
            }
            let bucket = Bucket::full(self.pace.peer_bytes_per_s, now);
            self.peers.insert(peer, Peer { bucket, credit: 0, has_turn: false, wishes: VecDeque::new() });
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            if known.wishes.is_empty() {
                self.ring.push_back(peer);
            }
            known.wishes.push_back((id, u64::try_from(bytes).unwrap_or(QUANTUM).min(QUANTUM)));
        }
        true
    }

    /// A read ended, or no longer waits.
    pub fn withdraw(&mut self, peer: NodeId, id: u64) {
        let Some(known) = self.peers.get_mut(&peer).filter(|known| !known.wishes.is_empty()) else { return };
        known.wishes.retain(|(wish, _)| *wish != id);
        if known.wishes.is_empty() {
            (known.credit, known.has_turn) = (0, false);
            self.ring.retain(|other| *other != peer);
        }
    }

    /// The read whose piece goes now; nothing if none waits or the buckets are empty. To be called until it gives nothing.
    pub fn grant(&mut self, now: Time) -> Option<u64> {
        self.all.refill(now);
        // A round that finds every peer's bucket empty ends. Credit of one quantum covers any piece, so two rounds see everybody able to send.
        for _ in 0..2 * self.ring.len() {
            let id = *self.ring.front()?;
            let peer = self.peers.get_mut(&id)?;
            if !peer.has_turn {
                (peer.has_turn, peer.credit) = (true, peer.credit.saturating_add(QUANTUM).min(2 * QUANTUM));
            }
            peer.bucket.refill(now);
            let (wish, bytes) = *peer.wishes.front()?;
            if bytes > peer.credit || !peer.bucket.has(bytes) {
                peer.has_turn = false;
                self.ring.rotate_left(1);
                continue;
            }
            if !self.all.has(bytes) {
                return None;
            }
            self.all.take(bytes);
            peer.bucket.take(bytes);
            peer.credit -= bytes;
            peer.wishes.pop_front();
            if peer.wishes.is_empty() {
                (peer.credit, peer.has_turn) = (0, false);
                self.ring.pop_front();
            }
            return Some(wish);
        }
        None
    }

    /// When [`Turns::grant`] is worth calling again: it then gives something. Nothing if nobody waits.
    pub fn next(&self) -> Option<Time> {
        let heads = self.ring.iter().filter_map(|id| self.peers.get(id)).filter_map(|peer| Some((peer, peer.wishes.front()?.1)));
        let ready = |bucket: &Bucket, bytes| if bucket.rate == 0 { Time(0) } else { bucket.ready(bytes) };
        let some_peer = heads.clone().map(|(peer, bytes)| ready(&peer.bucket, bytes)).min()?;
        let longest = heads.map(|(_, bytes)| bytes).max()?;
        Some(some_peer.max(ready(&self.all, longest)))
    }

    fn forget(&mut self, now: Time) {
        self.peers.retain(|_, peer| {
            peer.bucket.refill(now);
            !peer.wishes.is_empty() || !(peer.bucket.is_full() || peer.bucket.rate == 0)
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIECE: usize = PIECE_BYTES;

    fn peer(number: u8) -> NodeId {
        NodeId([number; 32])
    }

    /// Peers that wish again as soon as they were served, each with so many streams and pieces of so many bytes, for some seconds; bytes each got.
    fn serve(pace: &Pace, peers: &[(usize, usize)], seconds: u64) -> Vec<u64> {
        let mut turns = Turns::new(pace.clone(), Time(0));
        let mut got = vec![0; peers.len()];
        for (number, (streams, bytes)) in peers.iter().enumerate() {
            for stream in 0..*streams {
                let id = u64::try_from(number * 1_000 + stream).unwrap();
                assert!(turns.wish(Time(0), peer(u8::try_from(number).unwrap()), id, *bytes));
            }
        }
        let mut now = Time(0);
        while now < Time(seconds * 1_000_000) {
            while let Some(id) = turns.grant(now) {
                let number = usize::try_from(id / 1_000).unwrap();
                got[number] += peers[number].1 as u64;
                turns.wish(now, peer(u8::try_from(number).unwrap()), id, peers[number].1);
            }
            let next = turns.next().unwrap();
            assert!(next > now, "there is nothing to wait for");
            now = next;
        }
        got
    }

    #[test]
    fn a_peer_with_sixteen_streams_gets_no_more_than_one_with_one() {
        let pace = Pace { bytes_per_s: 10_000_000, peer_bytes_per_s: 10_000_000 };
        let got = serve(&pace, &[(16, PIECE), (1, PIECE), (4, PIECE), (2, PIECE)], 20);
        let share = 10_000_000 * 20 / 4;
        for bytes in &got {
            assert!(bytes.abs_diff(share) < share / 20, "{got:?}");
        }
    }

    #[test]
    fn a_peer_alone_gets_its_own_limit_and_all_together_get_the_limit_of_all() {
        let pace = Pace { bytes_per_s: 10_000_000, peer_bytes_per_s: 4_000_000 };
        let burst = (4_000_000 / 2).max(PACE_BURST_MIN);
        let alone = serve(&pace, &[(16, PIECE)], 10)[0];
        assert!(alone <= 40_000_000 + burst && alone + PIECE as u64 > 40_000_000, "{alone}");
        let all: u64 = serve(&pace, &[(1, PIECE); 5], 10).iter().sum();
        let burst = (10_000_000 / 2).max(PACE_BURST_MIN);
        assert!(all <= 100_000_000 + burst && all + PIECE as u64 > 100_000_000, "{all}");
    }

    #[test]
    fn without_limits_everybody_goes_at_once_in_turn() {
        let mut turns = Turns::new(Pace { bytes_per_s: 0, peer_bytes_per_s: 0 }, Time(0));
        for id in 0..3 {
            turns.wish(Time(0), peer(0), id, PIECE);
            turns.wish(Time(0), peer(1), 10 + id, PIECE);
        }
        let order: Vec<u64> = std::iter::from_fn(|| turns.grant(Time(0))).collect();
        assert_eq!(order, [0, 10, 1, 11, 2, 12]);
        assert_eq!(turns.next(), None);
    }

    #[test]
    fn a_peer_that_does_not_read_wishes_for_nothing_and_delays_nobody() {
        let pace = Pace { bytes_per_s: 1_000_000, peer_bytes_per_s: 1_000_000 };
        let mut turns = Turns::new(pace, Time(0));
        // The slow one was given its piece, sits on it, and has no further wish: one piece is all it holds.
        turns.wish(Time(0), peer(0), 0, PIECE);
        assert_eq!(turns.grant(Time(0)), Some(0));
        let (mut now, mut served) = (Time(0), 0);
        turns.wish(now, peer(1), 1, PIECE);
        while now < Time(10_000_000) {
            while turns.grant(now).is_some() {
                served += PIECE;
                turns.wish(now, peer(1), 1, PIECE);
            }
            now = turns.next().unwrap();
        }
        assert!(served + PIECE >= 10_000_000, "{served}");
    }

    #[test]
    fn whoever_comes_back_with_a_new_stream_does_not_get_a_new_bucket() {
        let pace = Pace { bytes_per_s: 0, peer_bytes_per_s: 1_000_000 };
        let mut turns = Turns::new(pace, Time(0));
        let mut got = 0;
        for id in 0..100 {
            turns.wish(Time(0), peer(0), id, PIECE);
            got += turns.grant(Time(0)).map_or(0, |_| PIECE as u64);
            turns.withdraw(peer(0), id);
        }
        assert!(got <= PACE_BURST_MIN.max(500_000), "{got}");
    }

    #[test]
    fn peers_are_remembered_within_bounds() {
        let mut turns = Turns::new(Pace { bytes_per_s: 0, peer_bytes_per_s: 1_000_000 }, Time(0));
        let node = |number: usize| {
            let mut bytes = [u8::try_from(number % 256).unwrap(); 32];
            bytes[0] = u8::try_from(number / 256).unwrap();
            NodeId(bytes)
        };
        for number in 0..PEERS_MAX {
            assert!(turns.wish(Time(0), node(number), 0, PIECE));
            assert_eq!(turns.grant(Time(0)), Some(0));
        }
        assert!(!turns.wish(Time(1), node(PEERS_MAX), 0, PIECE), "everybody has read a moment ago");
        assert!(turns.wish(Time(2_000_000), node(PEERS_MAX), 0, PIECE), "and their buckets are full again");
        assert_eq!(turns.peers.len(), 1);
    }

    proptest! {
        #[test]
        fn every_wish_is_granted_once_unless_withdrawn_and_time_always_helps(
            wishes in prop::collection::vec((0..6_u8, 1..2 * PIECE, any::<bool>()), 1..60), rate in 1_000_000..100_000_000_u64,
        ) {
            let mut turns = Turns::new(Pace { bytes_per_s: rate, peer_bytes_per_s: rate / 2 }, Time(0));
            let mut open = std::collections::BTreeSet::new();
            for (id, (number, bytes, stays)) in (0..).zip(&wishes) {
                turns.wish(Time(0), peer(*number), id, *bytes);
                if *stays { open.insert(id); } else { turns.withdraw(peer(*number), id); }
            }
            let mut now = Time(0);
            while !open.is_empty() {
                while let Some(id) = turns.grant(now) {
                    prop_assert!(open.remove(&id), "{} was granted twice or after it was withdrawn", id);
                }
                if let Some(next) = turns.next() {
                    prop_assert!(next > now);
                    now = next;
                }
            }
            prop_assert!(turns.ring.is_empty() && turns.next().is_none());
        }
    }
}
