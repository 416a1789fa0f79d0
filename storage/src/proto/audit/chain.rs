//! What is asked: a list of fragments that a node is bound to, and a walk over their ranges that nobody can know before reading it.

use types::{
    audit::HeldFragment,
    id::{Address, BlobId, Hash32},
    merkle::{Opening, Tree, keccak},
};

use super::{RANGE_BYTES, RANGES};

/// One fragment that a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holding {
    /// The object.
    pub object: BlobId,
    /// Which fragment.
    pub fragment: u8,
    /// Fragments of the object.
    pub fragments: u8,
    /// Its bytes.
    pub bytes: u32,
    /// Its keccak root, as the object's manifest names it.
    pub root: Hash32,
}

impl Holding {
    /// Ranges in it; the last may be short.
    pub fn ranges(&self) -> u64 {
        u64::from(self.bytes).div_ceil(RANGE_BYTES)
    }

    /// Bytes of one of its ranges; zero past the last.
    pub fn range_len(&self, place: u32) -> usize {
        let start = u64::from(place).saturating_mul(RANGE_BYTES);
        usize::try_from(u64::from(self.bytes).saturating_sub(start).min(RANGE_BYTES)).expect("a range is short")
    }

    /// As the chain reads it.
    pub const fn held(&self) -> HeldFragment {
        let Self { object, fragment, fragments, bytes, root } = *self;
        HeldFragment { object, fragment, fragments, bytes, root }
    }
}

/// All that a node holds, in order of object and fragment. Its root is in what the node signs before an epoch's seed is known, so it can choose
/// neither list nor order afterwards. Node and auditors both derive the list from placement; one that leaves out an assigned fragment admits a loss.
///
/// 5,000 fragments are 350 KB and 5,000 hashes, once a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    entries: Vec<Holding>,
    /// Range number behind each entry's last.
    ends: Vec<u64>,
}

impl Holdings {
    /// The list of these fragments, ordered and without doubles; empty ones are left out.
    pub fn new(entries: impl IntoIterator<Item = Holding>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().filter(|holding| holding.bytes > 0).collect();
        entries.sort_unstable();
        entries.dedup_by_key(|holding| (holding.object, holding.fragment));
        let ends = entries.iter().scan(0, |end, holding| {
            *end += holding.ranges();
            Some(*end)
        });
        Self { ends: ends.collect(), entries }
    }

    /// Ranges in all of them.
    pub fn ranges(&self) -> u64 {
        self.ends.last().copied().unwrap_or_default()
    }

    /// The fragments, in order.
    pub fn entries(&self) -> &[Holding] {
        &self.entries
    }

    /// The root that the node signs: keccak tree over object, fragment u8, fragments u8, bytes u32, root.
    pub fn root(&self) -> Hash32 {
        let leaves: Vec<_> = self.entries.iter().map(|entry| entry.held().leaf()).collect();
        Tree::over(leaves.iter().map(Vec::as_slice)).root()
    }

    /// The way of a fragment to that root; nothing past the last.
    pub fn open(&self, place: usize) -> Option<Opening> {
        let leaves: Vec<_> = self.entries.iter().map(|entry| entry.held().leaf()).collect();
        Tree::over(leaves.iter().map(Vec::as_slice)).open(u64::try_from(place).ok()?)
    }

    /// Fragment and range at a place of the whole list; nothing past the end.
    pub fn at(&self, place: u64) -> Option<(&Holding, u32)> {
        let entry = self.ends.partition_point(|end| *end <= place);
        let holding = self.entries.get(entry)?;
        let start = self.ends[entry] - holding.ranges();
        Some((holding, u32::try_from(place - start).ok()?))
    }
}

/// What an epoch's walk starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    /// Drawn after the nodes committed to their holdings.
    pub beacon: Hash32,
    /// The audited node.
    pub node: Address,
    /// The epoch.
    pub epoch: u64,
    /// Root of [`Holdings`].
    pub holdings: Hash32,
    /// The opener's secret until it challenges: the beacon is public, and who knew the walk beforehand could fetch its ranges at leisure.
    pub nonce: Hash32,
}

/// The walk: each range is drawn by the bytes of the one before.
#[derive(Debug, Clone)]
pub struct Chain {
    state: Hash32,
    ranges: u64,
    taken: u8,
}

impl Chain {
    /// The walk of `seed` over so many ranges.
    pub fn new(seed: &Seed, ranges: u64) -> Self {
        let Seed { beacon, node, epoch, holdings, nonce } = seed;
        let state = keccak(&[b"tributary/audit/v1", &beacon.0, &node.0, &epoch.to_be_bytes(), &holdings.0, &nonce.0]);
        Self { state, ranges, taken: 0 }
    }

    /// Place of the range that is next; nothing when all were taken, or there are none.
    pub fn next(&self) -> Option<u64> {
        // 128 bits over at most 2^40 ranges: none is likelier than another by more than 2^-88.
        let high = u128::from_be_bytes(*self.state.0.first_chunk().expect("a hash has 32 bytes"));
        let place = high.checked_rem(self.ranges.into())?;
        (self.taken < RANGES).then(|| u64::try_from(place).expect("below a count of 64 bits"))
    }

    /// Goes on with the bytes of the range at [`Chain::next`].
    pub fn take(&mut self, bytes: &[u8]) {
        self.state = keccak(&[&self.state.0, bytes]);
        self.taken = self.taken.saturating_add(1);
    }

    /// Ranges taken.
    pub const fn taken(&self) -> u8 {
        self.taken
    }

    /// Where the walk stands: after the last range, the digest that a verdict names.
    pub const fn digest(&self) -> Hash32 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn holding(index: u8, bytes: u32) -> Holding {
        Holding { object: BlobId([index; 32]), fragment: index, fragments: 48, bytes, root: Hash32([index; 32]) }
    }

    fn seed() -> Seed {
        Seed { beacon: Hash32([1; 32]), node: Address([2; 20]), epoch: 3, holdings: Hash32([4; 32]), nonce: Hash32([5; 32]) }
    }

    #[test]
    fn a_walk_depends_on_every_part_of_its_seed_and_on_every_byte_it_took() {
        let at = |seed: &Seed, bytes: &[u8]| {
            let mut chain = Chain::new(seed, 1 << 40);
            chain.take(bytes);
            chain.next().unwrap()
        };
        let base = at(&seed(), b"range");
        let others = [
            Seed { beacon: Hash32::ZERO, ..seed() },
            Seed { node: Address::ZERO, ..seed() },
            Seed { epoch: 4, ..seed() },
            Seed { holdings: Hash32::ZERO, ..seed() },
            Seed { nonce: Hash32::ZERO, ..seed() },
        ];
        others.iter().for_each(|other| assert_ne!(at(other, b"range"), base, "{other:?}"));
        assert_ne!(at(&seed(), b"Range"), base);
        assert_eq!(Chain::new(&seed(), 0).next(), None, "who holds nothing is asked nothing");
    }

    #[test]
    fn a_walk_ends_after_its_ranges_and_meets_all_places_alike() {
        let mut met = [0_u32; 10];
        for nonce in 0..500_u32 {
            let mut chain = Chain::new(&Seed { nonce: keccak(&[&nonce.to_be_bytes()]), ..seed() }, 10);
            while let Some(place) = chain.next() {
                met[usize::try_from(place).unwrap()] += 1;
                chain.take(&place.to_be_bytes());
            }
            assert_eq!(chain.taken(), RANGES);
        }
        // 10,000 over 10 places: 1,000 each, standard deviation 30.
        assert!(met.iter().all(|count| (850..=1_150).contains(count)), "{met:?}");
    }

    proptest! {
        #[test]
        fn every_place_is_one_range_of_one_fragment(lengths in proptest::collection::vec(0..100_000_u32, 0..12)) {
            let holdings = Holdings::new((0..).zip(&lengths).map(|(index, bytes)| holding(index, *bytes)));
            let mut place = 0;
            for (index, bytes) in (0..).zip(&lengths) {
                let (mut left, mut range) = (usize::try_from(*bytes).unwrap(), 0);
                while left > 0 {
                    let (found, at) = holdings.at(place).unwrap();
                    prop_assert_eq!((found.fragment, at), (index, range));
                    let len = found.range_len(at);
                    prop_assert!(len > 0 && len <= left);
                    (left, range, place) = (left - len, range + 1, place + 1);
                }
                prop_assert_eq!(holding(index, *bytes).range_len(range), 0);
            }
            prop_assert_eq!(place, holdings.ranges());
            prop_assert_eq!(holdings.at(place), None);
        }
    }

    #[test]
    fn the_root_of_a_list_does_not_depend_on_how_it_was_given() {
        let one = Holdings::new([holding(1, 5), holding(2, 70_000), holding(3, 0)]);
        let two = Holdings::new([holding(2, 70_000), holding(1, 5), holding(2, 70_000)]);
        assert_eq!((one.root(), one.ranges(), one.entries().len()), (two.root(), 6, 2));
        assert_ne!(one.root(), Holdings::new([holding(1, 5)]).root());
    }
}
