//! What comes back: the ranges of the walk, each with its way to the root of its fragment, or the word that bytes are missing.
//!
//! Canonical bytes, big-endian: kind u8: 0, all ranges; 1, those before the first that is missing. Then count u8, and per range length u16, siblings u8, the bytes, the
//! siblings of 32 bytes each. 20 ranges of fragments of 4 MiB with 8 siblings each are 332,862 bytes.
//!
//! A node that lacks a range shows what it walked over before: only who has those bytes knows which range was next, and what is missing is to be asked for by name where it
//! costs stake (`AuditCase`).
//!
//! A holder that kept only its fragments would read 4 MiB to prove 16 KiB. It keeps the [`Tops`] beside each: 32 bytes per range, 0.2 % more.

use types::{
    encoding::{DecodeError, Reader, Writer},
    id::Hash32,
    merkle::{self, Tree, keccak},
};

use super::{
    RANGE_BYTES, RANGES,
    chain::{Chain, Holding, Holdings, Seed},
};
use crate::erasure::{AUDIT_LEAF_BYTES, FRAGMENT_BYTES_MAX};

/// Levels from a leaf of 1 KiB to a range.
const RANGE_LEVEL: usize = 4;
const RANGE_LEN: usize = AUDIT_LEAF_BYTES << RANGE_LEVEL;
const _: () = assert!(RANGE_LEN as u64 == RANGE_BYTES);
/// Most siblings of a range: those of the largest fragment, 21,846 leaves.
const SIBLINGS_MAX: usize = 11;
const _: () = assert!(FRAGMENT_BYTES_MAX <= RANGE_LEN << SIBLINGS_MAX);
/// Longest answer.
pub const ANSWER_BYTES_MAX: usize = 2 + RANGES as usize * (3 + RANGE_LEN + 32 * SIBLINGS_MAX);

/// Digests of a fragment's ranges, filled up to a power of two: what a holder keeps to open any of them by reading it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tops(Vec<Hash32>);

impl Tops {
    /// Those of a fragment's bytes.
    pub fn of(fragment: &[u8]) -> Self {
        Self(Tree::over(fragment.chunks(AUDIT_LEAF_BYTES)).level(RANGE_LEVEL).to_vec())
    }

    /// Their bytes, to keep beside the fragment.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|digest| digest.0).collect()
    }

    /// Reads what [`Tops::to_bytes`] wrote; nothing if it is no level of a tree.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (digests, rest) = bytes.as_chunks();
        (rest.is_empty() && digests.len().is_power_of_two()).then(|| Self(digests.iter().copied().map(Hash32).collect()))
    }

    /// Whether they lead to a holding's root. Who receives a fragment compares its BLAKE3, and a manifest may lie about the keccak root beside it: who signs for that root signs for what
    /// no bytes open, and loses its stake when it is asked for them on the chain.
    pub fn leads_to(&self, holding: &Holding) -> bool {
        let leaves = u64::from(holding.bytes).div_ceil(AUDIT_LEAF_BYTES as u64);
        let filled = usize::try_from(leaves.max(1).next_power_of_two()).expect("a fragment's length is bounded");
        self.0.len() == (filled >> RANGE_LEVEL).max(1)
            && merkle::seal(leaves, holding.bytes.into(), merkle::top(self.0.clone())) == holding.root
    }

    /// Siblings of the range at `place`, from its level upwards; nothing past the last.
    pub fn siblings(&self, place: u32) -> Option<Vec<Hash32>> {
        let mut place = usize::try_from(place).ok().filter(|place| *place < self.0.len())?;
        let (mut level, mut siblings) = (self.0.clone(), Vec::new());
        while level.len() > 1 {
            siblings.push(level[place ^ 1]);
            level = level.chunks_exact(2).map(|pair| merkle::node(pair[0], pair[1])).collect();
            place >>= 1;
        }
        Some(siblings)
    }
}

/// One range and its way to the root of its fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Siblings from the range upwards.
    pub siblings: Vec<Hash32>,
}

impl Shown {
    /// Whether these are the bytes of range `place` of `holding`.
    pub fn is_of(&self, holding: &Holding, place: u32) -> bool {
        let leaves = u64::from(holding.bytes).div_ceil(AUDIT_LEAF_BYTES as u64);
        let depth = usize::try_from(leaves.max(1).next_power_of_two().trailing_zeros()).expect("a depth is small");
        let height = depth.min(RANGE_LEVEL);
        if self.bytes.is_empty() || self.bytes.len() != holding.range_len(place) || self.siblings.len() != depth - height {
            return false;
        }
        let mut level = merkle::leaf_digests(self.bytes.chunks(AUDIT_LEAF_BYTES));
        level.resize(1 << height, Hash32::ZERO);
        while level.len() > 1 {
            level = level.chunks_exact(2).map(|pair| merkle::node(pair[0], pair[1])).collect();
        }
        let join = |digest, (height, sibling): (usize, &Hash32)| {
            if place >> height & 1 == 0 { merkle::node(digest, *sibling) } else { merkle::node(*sibling, digest) }
        };
        let top = self.siblings.iter().enumerate().fold(level[0], join);
        merkle::seal(leaves, holding.bytes.into(), top) == holding.root
    }
}

/// A node's answer to a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The ranges of the walk, in order.
    Ranges(Vec<Shown>),
    /// It does not have the range of the walk after these. Saying so costs what a wrong answer costs.
    Missing(Vec<Shown>),
}

impl Answer {
    /// Walks over the holdings, reading each range by `read`; stops at the first that is not there.
    pub fn walk(seed: &Seed, holdings: &Holdings, mut read: impl FnMut(&Holding, u32) -> Option<Shown>) -> Self {
        let (mut chain, mut shown) = (Chain::new(seed, holdings.ranges()), Vec::new());
        while let Some((holding, place)) = chain.next().and_then(|place| holdings.at(place)) {
            let Some(range) = read(holding, place) else { return Self::Missing(shown) };
            chain.take(&range.bytes);
            shown.push(range);
        }
        Self::Ranges(shown)
    }

    /// Follows the answer: the chain as far as it is right, and the first thing that is not.
    pub fn check(&self, seed: &Seed, holdings: &Holdings) -> (Chain, Result<(), Fault>) {
        let mut chain = Chain::new(seed, holdings.ranges());
        let (Self::Ranges(ranges) | Self::Missing(ranges)) = self;
        for range in ranges {
            let Some((holding, place)) = chain.next().and_then(|place| holdings.at(place)) else {
                return (chain, Err(Fault::Count { got: ranges.len() }));
            };
            if !range.is_of(holding, place) {
                let fault = Fault::Wrong { range: chain.taken(), object: holding.object, fragment: holding.fragment, place };
                return (chain, Err(fault));
            }
            chain.take(&range.bytes);
        }
        let next = chain.next().and_then(|place| holdings.at(place));
        let result = match (self, next) {
            (Self::Ranges(_), None) => Ok(()),
            (Self::Missing(_), Some((holding, place))) => {
                Err(Fault::Missing { range: chain.taken(), object: holding.object, fragment: holding.fragment, place })
            }
            _ => Err(Fault::Count { got: ranges.len() }),
        };
        (chain, result)
    }

    /// The bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, ranges) = match self {
            Self::Ranges(ranges) => (0, ranges),
            Self::Missing(ranges) => (1, ranges),
        };
        let count = u8::try_from(ranges.len()).expect("a walk has few ranges");
        let put = |w: Writer, range: &Shown| {
            let length = u16::try_from(range.bytes.len()).expect("a range is short");
            let siblings = u8::try_from(range.siblings.len()).expect("a tree has few levels");
            w.u16(length).u8(siblings).bytes(&range.bytes).each(&range.siblings, |w, sibling| w.hash(*sibling))
        };
        Writer::sized(ANSWER_BYTES_MAX).u8(kind).u8(count).each(ranges, put).finish()
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that [`Answer::encode`] would not write, and for counts and lengths that no walk has.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let within = |field, got: u64, most: u64, expected| {
            if got <= most { Ok(got) } else { Err(DecodeError::Value { field, got, expected }) }
        };
        let mut r = Reader::new(bytes);
        let kind = within("kind", r.u8("kind")?.into(), 1, "0 or 1")?;
        let count = within("ranges", r.u8("ranges")?.into(), RANGES.into(), "at most 20")?;
        let range = |r: &mut Reader<'_>| {
            let length = within("range length", r.u16("range length")?.into(), RANGE_BYTES, "at most 16384")?;
            let siblings = within("siblings", r.u8("siblings")?.into(), SIBLINGS_MAX as u64, "at most 11")?;
            let bytes = r.bytes("range", usize::try_from(length).expect("a range is short"))?.to_vec();
            let siblings = usize::try_from(siblings).expect("siblings are few");
            Ok(Shown { bytes, siblings: r.each("siblings", siblings, 32, |r| r.hash("sibling"))? })
        };
        let ranges = r.each("ranges", usize::try_from(count).expect("ranges are few"), 3, range)?;
        r.finish().map(|()| if kind == 0 { Self::Ranges(ranges) } else { Self::Missing(ranges) })
    }
}

/// Why an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The node says so itself.
    #[error("the node lacks range {range} of the walk, which is range {place} of fragment {fragment} of object {object}")]
    Missing {
        /// Which of the walk, from 0.
        range: u8,
        /// The object.
        object: types::id::BlobId,
        /// The fragment.
        fragment: u8,
        /// Which range of it.
        place: u32,
    },
    /// Bytes or siblings that do not lead to the fragment's root.
    #[error("range {range} of the walk is not range {place} of fragment {fragment} of object {object}")]
    Wrong {
        /// Which of the walk, from 0.
        range: u8,
        /// The object.
        object: types::id::BlobId,
        /// The fragment.
        fragment: u8,
        /// Which range of it.
        place: u32,
    },
    /// More or fewer ranges than the walk has.
    #[error("an answer of {got} ranges, expected {RANGES}")]
    Count {
        /// Ranges that came.
        got: usize,
    },
}

impl Fault {
    /// What the node did not show, as far as the answer tells: object, fragment, range of it.
    pub const fn unshown(&self) -> Option<(types::id::BlobId, u8, u32)> {
        match *self {
            Self::Missing { object, fragment, place, .. } | Self::Wrong { object, fragment, place, .. } => Some((object, fragment, place)),
            Self::Count { .. } => None,
        }
    }
}

/// keccak of an answer's bytes: what the node signs as chatter, so that an answer that lacks bytes is its own word.
pub fn digest(answer: &[u8]) -> Hash32 {
    keccak(&[b"tributary/audit-answer/v1", answer])
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use types::id::{Address, BlobId};

    use super::*;
    use crate::erasure::FragmentRoot;

    /// Fragments of these lengths with their bytes, and a seed.
    pub(in super::super) struct Node {
        pub(in super::super) holdings: Holdings,
        pub(in super::super) bytes: BTreeMap<BlobId, (Vec<u8>, Tops)>,
        pub(in super::super) seed: Seed,
    }

    impl Node {
        pub(in super::super) fn new(lengths: &[usize]) -> Self {
            let of = |(index, length): (u8, &usize)| {
                let bytes: Vec<u8> = (0..*length).map(|i| u8::try_from((i * 31 + usize::from(index)) % 251).unwrap()).collect();
                (BlobId([index; 32]), bytes)
            };
            let bytes: BTreeMap<_, _> = (0..).zip(lengths).map(of).collect();
            let holding = |(object, bytes): (&BlobId, &Vec<u8>)| Holding {
                object: *object,
                fragment: 0,
                fragments: 5,
                bytes: u32::try_from(bytes.len()).unwrap(),
                root: FragmentRoot::of(bytes).keccak,
            };
            let holdings = Holdings::new(bytes.iter().map(holding));
            let seed =
                Seed { beacon: Hash32([1; 32]), node: Address([2; 20]), epoch: 3, holdings: holdings.root(), nonce: Hash32([4; 32]) };
            let bytes = bytes.into_iter().map(|(object, bytes)| (object, (bytes.clone(), Tops::of(&bytes)))).collect();
            Self { holdings, bytes, seed }
        }

        pub(in super::super) fn read(&self, holding: &Holding, place: u32) -> Option<Shown> {
            let (bytes, tops) = self.bytes.get(&holding.object)?;
            let start = usize::try_from(place).unwrap() * usize::try_from(RANGE_BYTES).unwrap();
            Some(Shown { bytes: bytes[start..start + holding.range_len(place)].to_vec(), siblings: tops.siblings(place)? })
        }

        pub(in super::super) fn answer(&self) -> Answer {
            Answer::walk(&self.seed, &self.holdings, |holding, place| self.read(holding, place))
        }
    }

    #[test]
    fn every_range_of_fragments_of_all_sizes_leads_to_its_root() {
        for length in [1, 1_023, 1_024, 1_025, 5_000, 16_384, 16_385, 40_000, 300_000] {
            let node = Node::new(&[length]);
            let holding = node.holdings.entries()[0];
            for place in 0..u32::try_from(holding.ranges()).unwrap() {
                let shown = node.read(&holding, place).unwrap();
                assert!(shown.is_of(&holding, place), "range {place} of {length} bytes");
                assert!(place == 0 || !shown.is_of(&holding, place - 1));
            }
        }
    }

    #[test]
    fn digests_of_a_fragment_lead_to_its_own_root_and_not_to_one_that_a_manifest_made_up() {
        for length in [1, 1_023, 1_024, 1_025, 5_000, 16_384, 16_385, 40_000, 300_000] {
            let node = Node::new(&[length, length + 1]);
            let [one, other] = [node.holdings.entries()[0], node.holdings.entries()[1]];
            let tops = &node.bytes[&one.object].1;
            assert!(tops.leads_to(&one), "{length} bytes");
            assert!(!tops.leads_to(&other) && !tops.leads_to(&Holding { root: Hash32([1; 32]), ..one }));
            assert!(!tops.leads_to(&Holding { bytes: one.bytes + 1, ..one }), "another length under the same digests");
            assert!(!tops.leads_to(&Holding { bytes: u32::MAX, ..one }));
        }
    }

    #[test]
    fn the_largest_fragment_keeps_the_bounds() {
        let node = Node::new(&[FRAGMENT_BYTES_MAX]);
        let answer = node.answer();
        let bytes = answer.encode();
        assert!(bytes.len() <= ANSWER_BYTES_MAX);
        assert_eq!(Answer::decode(&bytes), Ok(answer.clone()));
        let (chain, result) = answer.check(&node.seed, &node.holdings);
        assert_eq!((chain.taken(), result), (RANGES, Ok(())));
    }

    #[test]
    fn a_walk_over_what_is_held_is_right_and_any_change_is_found_where_it_is() {
        let node = Node::new(&[100_000, 3_000, 70_000]);
        let good = node.answer();
        let (chain, result) = good.check(&node.seed, &node.holdings);
        assert_eq!((chain.taken(), result), (RANGES, Ok(())));
        let Answer::Ranges(ranges) = good else { panic!("nothing is missing") };
        for at in 0..ranges.len() {
            let found = |change: &dyn Fn(&mut Shown)| {
                let mut ranges = ranges.clone();
                change(&mut ranges[at]);
                let (chain, result) = Answer::Ranges(ranges).check(&node.seed, &node.holdings);
                (usize::from(chain.taken()) == at).then_some(result)
            };
            let wrong = |fault| matches!(fault, Some(Err(Fault::Wrong { range, .. })) if usize::from(range) == at);
            assert!(wrong(found(&|range| range.bytes[0] ^= 1)));
            assert!(wrong(found(&|range| range.bytes.truncate(range.bytes.len() - 1))));
            assert!(wrong(found(&|range| range.siblings.push(Hash32::ZERO))));
            let is_alone = ranges[at].siblings.is_empty();
            assert!(is_alone || wrong(found(&|range| range.siblings[0].0[0] ^= 1)));
        }
        let short = Answer::Ranges(ranges[..19].to_vec()).check(&node.seed, &node.holdings);
        assert_eq!((short.0.taken(), short.1), (19, Err(Fault::Count { got: 19 })));
        let long = Answer::Ranges([ranges.clone(), ranges[..1].to_vec()].concat()).check(&node.seed, &node.holdings);
        assert_eq!((long.0.taken(), long.1), (RANGES, Err(Fault::Count { got: 21 })));
        // Yesterday's answer.
        let replayed = Answer::Ranges(ranges).check(&Seed { epoch: 4, ..node.seed }, &node.holdings);
        assert!(matches!(replayed.1, Err(Fault::Wrong { .. })));
    }

    #[test]
    fn who_holds_nothing_answers_nothing_and_who_lost_something_says_so() {
        let empty = Node::new(&[]);
        assert_eq!(empty.answer(), Answer::Ranges(Vec::new()));
        assert_eq!(empty.answer().check(&empty.seed, &empty.holdings).1, Ok(()));
        let mut node = Node::new(&[50_000, 50_000]);
        node.bytes.remove(&BlobId([1; 32]));
        let Answer::Missing(shown) = node.answer() else { panic!("half of it is gone") };
        let (chain, result) = Answer::Missing(shown.clone()).check(&node.seed, &node.holdings);
        let Err(fault @ Fault::Missing { range, object, fragment: 0, place }) = result else { panic!("{result:?}") };
        assert_eq!((usize::from(range), object, chain.taken()), (shown.len(), BlobId([1; 32]), range));
        assert_eq!(fault.unshown(), Some((object, 0, place)));
        // It cannot name another range as missing than the one that the walk comes to.
        let silent = Answer::Missing(Vec::new()).check(&node.seed, &node.holdings);
        let first = node.holdings.at(Chain::new(&node.seed, node.holdings.ranges()).next().unwrap()).unwrap();
        assert_eq!(silent.1.unwrap_err().unshown(), Some((first.0.object, 0, first.1)));
        let bent = Answer::Missing(shown.iter().rev().cloned().chain([Shown { bytes: vec![1], siblings: vec![] }]).collect());
        assert!(matches!(bent.check(&node.seed, &node.holdings).1, Err(Fault::Wrong { .. })));
    }

    #[test]
    fn who_shows_the_whole_walk_lacks_nothing_of_it() {
        let node = Node::new(&[50_000, 50_000]);
        let Answer::Ranges(whole) = node.answer() else { panic!("nothing is missing") };
        let odd = Answer::Missing(whole).check(&node.seed, &node.holdings).1.unwrap_err();
        assert_eq!((odd, odd.unshown()), (Fault::Count { got: 20 }, None));
        let empty = Node::new(&[]);
        assert_eq!(Answer::Missing(Vec::new()).check(&empty.seed, &empty.holdings).1, Err(Fault::Count { got: 0 }));
    }

    proptest! {
        #[test]
        fn decoding_never_panics_and_answers_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..100_usize, flip in any::<(usize, u8)>()) {
            if let Ok(answer) = Answer::decode(&bytes) {
                prop_assert_eq!(answer.encode(), bytes);
            }
            let mut node = Node::new(&[2_000, 40_000]);
            let mut good = node.answer().encode();
            prop_assert_eq!(Answer::decode(&good).unwrap(), node.answer());
            prop_assert!(Answer::decode(&good[..good.len() - 1 - cut]).is_err());
            let at = flip.0 % good.len();
            good[at] ^= flip.1;
            if let Ok(answer) = Answer::decode(&good) {
                let is_right = answer.check(&node.seed, &node.holdings).1.is_ok();
                prop_assert_eq!(is_right, flip.1 == 0);
            }
            node.bytes.remove(&BlobId([1; 32]));
            let lacking = node.answer();
            prop_assert!(matches!(lacking, Answer::Missing(_)));
            prop_assert_eq!(Answer::decode(&lacking.encode()).unwrap(), lacking);
        }
    }
}
