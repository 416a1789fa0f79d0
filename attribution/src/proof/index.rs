//! Proofs that an index root is wrong: X1 to X5 (P7), found in what somebody has of the index under it.
//!
//! Whoever has leaves of a foreign index and their ways to its root ([`Held`]: a whole index, or the pieces that receipts under the root carry) and the texts that
//! the registry names compares the leaves with each other, with those texts and with the registry. What comes out convicts by the contract's own rule
//! ([`convicts`]), from the root alone; against an honest index nothing comes out. A leaf that nobody shows convicts nobody.
//!
//! Work: every leaf is looked at a few times without a hash, a word start searched for in the array where it has no entry; some two dozen openings a claim. Segments
//! that are known to be right are passed over ([`Texts::and_segments_of`]). Memory beside what is held: twelve bytes a row, a bit a byte of text of one segment.

mod held;
mod listed;
mod rule;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use types::{
    id::{Address, AssetId, AssetVersion, Hash32},
    merkle::{Tree, seal},
    proof::{Between, Gap, Head, IndexClaim, Passage, Passed, SegmentFlaw, Shown, Source},
    text::{self, LEAF_STRIDE},
};

use self::listed::Listed;
use self::rule::{ARRAY_STRIDE, Case, RowPart, STRIDE, begins, entry_of, judge, needs_before, row_of, segment_of, window};
pub use self::{
    held::{DatanetLeaves, Held, Laid, Leaves, Part, Pieces, SegmentLeaves},
    rule::convicts,
    whole::Whole,
};
use crate::index::{Index, Leaf as _, Segment};

/// A contribution as the registry accepted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contribution {
    /// Who is paid.
    pub contributor: Address,
    /// Root of its text.
    pub text_root: Hash32,
    /// Block of its commitment.
    pub block: u64,
    /// Its place among that block's commitments.
    pub ordinal: u32,
    /// In which block it was erased, if it was.
    pub erased: Option<u64>,
}

/// A posted root, and what the chain says of what must stand under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The index root.
    pub root: Hash32,
    /// The Datanets that the version declares, in its order.
    pub declared: Vec<AssetVersion>,
    /// In which block each was published.
    pub published: BTreeMap<AssetVersion, u64>,
    /// The contributions of each Datanet in the order of acceptance, up to now.
    pub contributions: BTreeMap<AssetId, Vec<Contribution>>,
}

impl Posted {
    fn contributions_of(&self, asset: u64) -> &[Contribution] {
        self.contributions.get(&AssetId(asset)).map_or(&[], Vec::as_slice)
    }

    /// One that was not published yet comes after everything.
    fn published(&self, asset: u64, version: u32) -> u64 {
        self.published.get(&AssetVersion { asset: AssetId(asset), version }).copied().unwrap_or(u64::MAX)
    }
}

/// Why a claim says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A leaf, or a head, of another root or at another place.
    #[error("the {0} leaf or head shown is not under its root at its place")]
    Root(&'static str),
    /// Not what the mode reads.
    #[error("the {0} shown is not what the mode reads")]
    Leaf(&'static str),
    /// No word begins there.
    #[error("no word begins at byte {0} of the segment")]
    NoWord(u64),
    /// The array has the entry, or it belongs elsewhere.
    #[error("the place does not belong between the two entries shown")]
    NotBetween,
    /// The registry has none of this number.
    #[error("the Datanet has no contribution {0}")]
    Unknown(u64),
    /// Not the row's contribution.
    #[error("the row is not of contribution {0}")]
    OtherContribution(u64),
    /// Whether a later one is missing, nothing tells.
    #[error("contribution {missing} was not accepted before contribution {number}")]
    NotEarlier {
        /// The one whose row is there.
        number: u64,
        /// The one that is missing.
        missing: u64,
    },
    /// It may stand there.
    #[error("segment {0} is not shown to pass the contribution by")]
    NotPassed(u64),
}

/// What is known to be right.
#[derive(Debug, Clone, Default)]
pub struct Texts<'a> {
    /// The texts of contributions, by Datanet, block and ordinal of their commitments.
    texts: BTreeMap<(AssetId, u64, u32), &'a [u8]>,
    /// Leaves of segments that are as they ought to be, by Datanet.
    segments: BTreeSet<(AssetId, Vec<u8>)>,
}

impl<'a> Texts<'a> {
    /// The texts that an honest index holds.
    pub fn of(index: &'a Index) -> Self {
        let mut texts = BTreeMap::new();
        for datanet in index.datanets() {
            for segment in datanet.segments() {
                let mut places = BTreeMap::<(u64, u32), (u64, u64)>::new();
                for row in segment.documents().iter().filter(|row| row.length > 0) {
                    let place = places.entry((row.priority.block, row.priority.ordinal)).or_insert((row.start, 0));
                    place.1 = row.end() + 1;
                }
                for ((block, ordinal), (start, end)) in places {
                    let range = usize::try_from(start).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
                    texts.extend(segment.text().get(range).map(|text| ((datanet.version().asset, block, ordinal), text)));
                }
            }
        }
        Self { texts, segments: BTreeSet::new() }
    }

    /// The same, and the segments of that index: who holds one of them as well has nothing to look for in it. Of a large index that was made false in one
    /// place one segment is looked through and no other.
    pub fn and_segments_of(index: &'a Index) -> Self {
        let segments = index.datanets().iter().flat_map(|datanet| {
            let asset = datanet.version().asset;
            (0..datanet.segments().len()).filter_map(move |place| Some((asset, datanet.open_segment(place)?.leaf.bytes())))
        });
        Self { segments: segments.collect(), ..Self::of(index) }
    }

    fn is_right(&self, asset: u64, segment: &[u8]) -> bool {
        !self.segments.is_empty() && self.segments.contains(&(AssetId(asset), segment.to_vec()))
    }

    fn get(&self, asset: u64, order: (u64, u32)) -> Option<&'a [u8]> {
        self.texts.get(&(AssetId(asset), order.0, order.1)).copied()
    }
}

/// The faults of an index that is held wholly or in part, at most `most` of them: none of an honest one.
pub fn find_index(held: &impl Held, posted: &Posted, texts: &Texts<'_>, most: usize) -> Vec<IndexClaim> {
    let mut finder = Finder { held, posted, texts, most, found: Vec::new() };
    finder.datanets();
    finder.found
}

struct Finder<'a, H> {
    held: &'a H,
    posted: &'a Posted,
    texts: &'a Texts<'a>,
    most: usize,
    found: Vec<IndexClaim>,
}

/// A segment that is looked through.
struct Looked {
    source: Source,
    case: Case,
    /// Numbers of Datanet and segment.
    at: (u64, u64),
    /// Numbers of contributions by block and ordinal.
    known: BTreeMap<(u64, u32), u64>,
}

/// How a leaf is shown: with its way up, or for what it says.
type Show<'s> = dyn Fn(Part, u64) -> Option<Shown> + 's;

impl<H: Held> Finder<'_, H> {
    fn is_full(&self) -> bool {
        self.found.len() >= self.most
    }

    fn claim(&mut self, claim: IndexClaim) {
        if !self.is_full() && convicts(&claim, self.posted) == Ok(true) {
            self.found.push(claim);
        }
    }

    /// What `make` makes of leaves, if it convicts: first of what they say, then of what is shown.
    fn flaw(&mut self, looked: &Looked, make: impl Fn(&Show<'_>) -> Option<SegmentFlaw>) {
        let ((datanet, segment), held) = (looked.at, self.held);
        let bare = make(&|part, number| held.bare(datanet, segment, part, number));
        let is_wrong = bare.is_some_and(|flaw| judge(&looked.case, &flaw, self.posted) == Ok(true));
        if !self.is_full() && is_wrong {
            let shown = make(&|part, number| held.show(datanet, segment, part, number));
            if let Some(flaw) = shown {
                self.claim(IndexClaim::Segment { source: looked.source.clone(), flaw });
            }
        }
    }

    fn datanets(&mut self) {
        let numbers = self.held.datanets();
        let first = numbers.first().and_then(|number| self.held.datanet(*number));
        if let Some(head) = head_of(self.posted.root, first.as_ref()) {
            self.claim(IndexClaim::DatanetCount(head));
        }
        for number in numbers {
            let Some(shown) = self.held.datanet(number) else { continue };
            let Some(leaf) = rule::datanet_of(&shown.leaf) else {
                self.claim(IndexClaim::Form { datanet: None, segment: None, leaf: shown });
                continue;
            };
            self.claim(IndexClaim::OtherDatanet(shown.clone()));
            let segments = self.held.segments(number);
            if let (true, Some(head)) = (segments.is_empty(), head_of(leaf.segments, None)) {
                self.claim(IndexClaim::Hollow { datanet: shown.clone(), segments: head });
            }
            let known: BTreeMap<_, _> =
                self.posted.contributions_of(leaf.asset).iter().zip(0..).map(|(known, at)| ((known.block, known.ordinal), at)).collect();
            let mut looked = Vec::new();
            for segment in segments {
                let Some(segment_shown) = self.held.segment(number, segment) else { continue };
                let Some(part) = segment_of(&segment_shown.leaf) else {
                    self.claim(IndexClaim::Form { datanet: Some(shown.clone()), segment: None, leaf: segment_shown });
                    continue;
                };
                let source = Source { datanet: shown.clone(), segment: segment_shown };
                let case = Case { datanet: leaf, segment: part, number: segment, is_trusting: true };
                looked.push(Looked { source, case, at: (number, segment), known: known.clone() });
            }
            for one in &looked {
                self.segment(one);
            }
            self.left_out(&looked);
        }
    }

    fn segment(&mut self, looked: &Looked) {
        self.sizes(looked);
        if self.texts.is_right(looked.case.datanet.asset, &looked.source.segment.leaf) {
            return;
        }
        for number in self.held.numbers(looked.at.0, looked.at.1, Part::Documents, 0) {
            if self.is_full() {
                return;
            }
            self.row(looked, number);
        }
        for number in self.held.numbers(looked.at.0, looked.at.1, Part::Text, 0) {
            if self.is_full() {
                return;
            }
            self.flaw(looked, |show| Some(SegmentFlaw::TextLeaves { text: show(Part::Text, number)?, next: None }));
            self.flaw(looked, |show| {
                Some(SegmentFlaw::TextLeaves { text: show(Part::Text, number)?, next: Some(show(Part::Text, number + 1)?) })
            });
        }
        for number in self.held.numbers(looked.at.0, looked.at.1, Part::Array, 0) {
            if self.is_full() {
                return;
            }
            self.array(looked, number);
        }
        self.missing(looked);
    }

    fn leaf(&self, looked: &Looked, part: Part, number: u64) -> Option<Vec<u8>> {
        Some(self.held.bare(looked.at.0, looked.at.1, part, number)?.leaf)
    }

    fn head(&self, looked: &Looked, part: Part, root: Hash32) -> Option<Head> {
        let first = self.held.numbers(looked.at.0, looked.at.1, part, 0).next();
        head_of(root, first.and_then(|number| self.held.show(looked.at.0, looked.at.1, part, number)).as_ref())
    }

    fn sizes(&mut self, looked: &Looked) {
        let segment = looked.case.segment;
        let heads = [(Part::Text, segment.text), (Part::Array, segment.array), (Part::Documents, segment.documents)];
        if let [Some(text), Some(array), Some(documents)] = heads.map(|(part, root)| self.head(looked, part, root)) {
            self.claim(IndexClaim::Segment { source: looked.source.clone(), flaw: SegmentFlaw::Counts { text, array, documents } });
        }
        let head = head_of(looked.case.datanet.segments, Some(&looked.source.segment));
        let next = self.held.segment(looked.at.0, looked.at.1 + 1);
        for segments in [None, head] {
            let next = if segments.is_some() { next.clone() } else { None };
            self.claim(IndexClaim::Segment { source: looked.source.clone(), flaw: SegmentFlaw::Segments { segments, next } });
        }
    }

    fn row(&mut self, looked: &Looked, number: u64) {
        let Some(leaf) = self.leaf(looked, Part::Documents, number) else { return };
        let Some(row) = row_of(&leaf) else {
            if let Some(leaf) = self.held.show(looked.at.0, looked.at.1, Part::Documents, number) {
                let Source { datanet, segment } = looked.source.clone();
                self.claim(IndexClaim::Form { datanet: Some(datanet), segment: Some(segment), leaf });
            }
            return;
        };
        match looked.known.get(&row.order) {
            Some(known) => {
                self.flaw(looked, |show| Some(SegmentFlaw::Row { row: show(Part::Documents, number)?, number: *known }));
            }
            None => self.flaw(looked, |show| Some(SegmentFlaw::Invented(show(Part::Documents, number)?))),
        }
        for is_alone in [true, false] {
            self.flaw(looked, |show| {
                let next = if is_alone { None } else { Some(show(Part::Documents, number + 1)?) };
                Some(SegmentFlaw::Rows { row: show(Part::Documents, number)?, next })
            });
            self.flaw(looked, |show| {
                let next = if is_alone { None } else { Some(show(Part::Documents, number + 1)?) };
                let text = show(Part::Text, (row.start + u64::from(row.length)) / STRIDE)?;
                Some(SegmentFlaw::Behind { row: show(Part::Documents, number)?, next, text })
            });
        }
        if let Some(place) = self.wrong_length(looked, &row) {
            self.flaw(looked, |show| {
                let text = show(Part::Text, (row.start + place) / STRIDE)?;
                Some(SegmentFlaw::Length { row: show(Part::Documents, number)?, place, text })
            });
        }
        if row.document == 0 && !row.is_tombstone() {
            self.text(looked, number, &row);
        }
    }

    /// The first place of a row's document that holds a zero byte, or its end where none is, as far as leaves are there.
    fn wrong_length(&self, looked: &Looked, row: &RowPart) -> Option<u64> {
        let end = row.start + u64::from(row.length);
        let numbers = self.held.numbers(looked.at.0, looked.at.1, Part::Text, row.start / STRIDE);
        numbers.take_while(|number| *number <= end / STRIDE).find_map(|number| {
            let leaf = self.leaf(looked, Part::Text, number)?;
            let mut stride = (number * STRIDE..).zip(0..LEAF_STRIDE).filter(|(at, _)| (row.start..=end).contains(at));
            let is_wrong = |(at, byte): &(u64, usize)| leaf.get(*byte).is_none_or(|byte| (*byte == 0) != (*at == end));
            stride.find(is_wrong).map(|(at, _)| at - row.start)
        })
    }

    /// Text leaves that are not those of the contribution to which a row belongs.
    fn text(&mut self, looked: &Looked, number: u64, row: &RowPart) {
        let Some(own) = self.texts.get(looked.case.datanet.asset, row.order) else { return };
        let first = row.start / STRIDE;
        let differs = |(leaf, own): &(u64, &[u8])| self.leaf(looked, Part::Text, first + leaf).is_some_and(|shown| shown != *own);
        let Some((leaf, bytes)) = (0..).zip(text::leaves(own)).find(differs) else { return };
        let tree = Tree::new(types::merkle::leaf_digests(text::leaves(own)), u64::try_from(own.len()).unwrap_or(u64::MAX));
        let Some(opening) = tree.open(leaf) else { return };
        let own = Shown { leaf: bytes.to_vec(), opening };
        self.flaw(looked, |show| {
            Some(SegmentFlaw::Text { row: show(Part::Documents, number)?, own: own.clone(), text: show(Part::Text, first + leaf)? })
        });
    }

    fn array(&mut self, looked: &Looked, number: u64) {
        let Some(leaf) = self.leaf(looked, Part::Array, number) else { return };
        for is_alone in [true, false] {
            self.flaw(looked, |show| {
                let next = if is_alone { None } else { Some(show(Part::Array, number + 1)?) };
                Some(SegmentFlaw::ArrayLeaves { array: show(Part::Array, number)?, next })
            });
        }
        for place in 0..=u8::try_from(ARRAY_STRIDE).unwrap_or(u8::MAX) {
            let Some(entry) = entry_of(&leaf, place.into()) else { break };
            self.flaw(looked, |show| {
                let passage = if entry < looked.case.segment.length { Some(passage(show, entry)?) } else { None };
                Some(SegmentFlaw::Entry { array: show(Part::Array, number)?, place, passage })
            });
            if let Some(next) = entry_of(&leaf, u64::from(place) + 1) {
                self.flaw(looked, |show| {
                    let texts = [show(Part::Text, entry / STRIDE)?, show(Part::Text, next / STRIDE)?];
                    Some(SegmentFlaw::Order { array: show(Part::Array, number)?, place, texts })
                });
            }
        }
    }

    /// The entry at a rank, if its leaf is there.
    fn entry(&self, looked: &Looked, rank: u64) -> Option<u64> {
        // The last entry of a leaf is the next one's first as well.
        let number = rank.saturating_sub(1) / ARRAY_STRIDE;
        entry_of(&self.leaf(looked, Part::Array, number)?, rank - number * ARRAY_STRIDE)
    }

    /// Words that the array lacks, where all of it is there.
    fn missing(&mut self, looked: &Looked) {
        let ((datanet, segment), entries, held) = (looked.at, looked.case.segment.entries, self.held);
        let mut listed = Listed::of(looked.case.segment.length, held.numbers(datanet, segment, Part::Array, 0).count());
        for number in held.numbers(datanet, segment, Part::Array, 0) {
            let leaf = self.leaf(looked, Part::Array, number).unwrap_or_default();
            listed.extend((0..).map_while(|place| entry_of(&leaf, place)));
        }
        for number in held.numbers(datanet, segment, Part::Text, 0) {
            let Some(leaf) = self.leaf(looked, Part::Text, number) else { continue };
            for at in number * STRIDE..(number + 1) * STRIDE {
                if self.is_full() {
                    return;
                }
                let before = needs_before(&leaf, at).then(|| self.leaf(looked, Part::Text, number - 1));
                let is_known = before.as_ref().is_none_or(Option::is_some);
                if !listed.holds(at) && is_known && begins(&leaf, before.flatten().as_deref(), at) {
                    let Some(rank) = self.rank(looked, window(&leaf, at), at, entries) else { continue };
                    self.flaw(looked, |show| {
                        Some(SegmentFlaw::Missing { place: at, passage: passage(show, at)?, between: between(held, looked, show, rank)? })
                    });
                }
            }
        }
    }

    /// How many entries come before a place.
    fn rank(&self, looked: &Looked, own: &[u8], at: u64, entries: u64) -> Option<u64> {
        let (mut low, mut high) = (0, entries);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(looked, middle)?;
            let leaf = self.leaf(looked, Part::Text, entry / STRIDE)?;
            if (window(&leaf, entry), entry) < (own, at) { low = middle + 1 } else { high = middle }
        }
        Some(low)
    }

    /// Contributions of a Datanet that none of its segments has, all of which are there.
    fn left_out(&mut self, looked: &[Looked]) {
        let Some(first) = looked.first() else { return };
        if u64::try_from(looked.len()) != Ok(first.source.segment.opening.leaves) {
            return;
        }
        let mut rows: Vec<Vec<(u64, u32)>> = Vec::new();
        for one in looked {
            let mut of_segment = Vec::new();
            for number in self.held.numbers(one.at.0, one.at.1, Part::Documents, 0) {
                let Some(row) = self.leaf(one, Part::Documents, number).and_then(|leaf| row_of(&leaf)) else { return };
                of_segment.push(row.order);
            }
            rows.push(of_segment);
        }
        let present = |order: &(u64, u32)| {
            let place = |rows: &Vec<(u64, u32)>| rows.binary_search(order).ok();
            rows.iter().enumerate().find_map(|(segment, rows)| Some((segment, place(rows)?)))
        };
        // The last one accepted that is there: whatever came before it should be.
        let last = first.known.iter().filter_map(|(order, number)| Some((*number, present(order)?))).max();
        let Some((number, (segment, row))) = last else { return };
        let absent = first.known.iter().filter(|(order, missing)| **missing < number && present(order).is_none());
        for (order, missing) in absent {
            if self.is_full() {
                return;
            }
            let show = |one: &Looked, row: usize| self.held.show(one.at.0, one.at.1, Part::Documents, u64::try_from(row).ok()?);
            let passed = looked.iter().zip(&rows).map(|(one, rows)| {
                let after = rows.partition_point(|row| row < order);
                let gap = match (after.checked_sub(1), after < rows.len()) {
                    (None, false) => Gap::Empty(self.head(one, Part::Documents, one.case.segment.documents)?),
                    (Some(before), false) => Gap::Last(show(one, before)?),
                    (None, true) => Gap::First(show(one, after)?),
                    (Some(before), true) => Gap::Within(show(one, before)?, show(one, after)?),
                };
                Some(Passed { segment: one.source.segment.clone(), rows: gap })
            });
            let (Some(passed), Some(row)) = (passed.collect(), show(&looked[segment], row)) else { continue };
            let flaw = SegmentFlaw::LeftOut { row, number, missing: *missing, passed };
            self.claim(IndexClaim::Segment { source: looked[segment].source.clone(), flaw });
        }
    }
}

/// Where a foreign index first says something else than an honest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Number of the Datanet.
    pub datanet: u64,
    /// Number of the segment; nothing where the Datanet's leaf alone is known.
    pub segment: Option<u64>,
    /// The leaf of a tree of that segment; nothing where the segment's leaf alone is known.
    pub leaf: Option<(Part, u64)>,
}

/// The first difference between what is held of an index and an honest one, as far down as leaves are held; nothing where all that is held is alike.
pub fn first_difference(held: &impl Held, honest: &Index) -> Option<Difference> {
    let mut first = None;
    for datanet in held.datanets() {
        let own = honest.open_datanet(u8::try_from(datanet).unwrap_or(u8::MAX)).map(|own| own.leaf.bytes());
        if held.datanet(datanet).map(|shown| shown.leaf) == own {
            continue;
        }
        first = first.or(Some(Difference { datanet, segment: None, leaf: None }));
        let segments = usize::try_from(datanet).ok().and_then(|number| honest.datanets().get(number));
        let mut start = 0;
        let own = segments.iter().flat_map(|datanet| datanet.segments()).map(|segment| {
            let leaf = segment.leaf(start);
            start += leaf.length;
            (segment, leaf.bytes())
        });
        let own: Vec<_> = own.collect();
        for segment in held.segments(datanet) {
            let honest = usize::try_from(segment).ok().and_then(|number| own.get(number));
            if held.segment(datanet, segment).map(|shown| shown.leaf).as_ref() == honest.map(|(_, leaf)| leaf) {
                continue;
            }
            let at = Difference { datanet, segment: Some(segment), leaf: None };
            first = first.filter(|first| first.segment.is_some()).or(Some(at));
            for part in [Part::Text, Part::Documents, Part::Array] {
                let differs = |number: &u64| {
                    let own = honest.and_then(|(segment, _)| own_leaf(segment, part, *number));
                    held.bare(datanet, segment, part, *number).map(|shown| shown.leaf) != own
                };
                if let Some(number) = held.numbers(datanet, segment, part, 0).find(differs) {
                    return Some(Difference { leaf: Some((part, number)), ..at });
                }
            }
        }
    }
    first
}

fn own_leaf(segment: &Segment, part: Part, number: u64) -> Option<Vec<u8>> {
    // No segment has as many leaves of any kind as it has bytes, nor as many rows, but for what stands in tombstones.
    let number = usize::try_from(number).ok().filter(|number| *number <= segment.text().len().max(segment.documents().len()))?;
    let leaf = match part {
        Part::Text => segment.text_leaf(number).to_vec(),
        Part::Documents => segment.documents().get(number)?.bytes(),
        Part::Array => segment.array().leaf(number).bytes(),
    };
    (!leaf.is_empty()).then_some(leaf)
}

/// The text at a place of a segment, and the leaf before where it is needed.
fn passage(show: &Show<'_>, at: u64) -> Option<Passage> {
    let text = show(Part::Text, at / STRIDE)?;
    let before = if needs_before(&text.leaf, at) { Some(show(Part::Text, at / STRIDE - 1)?) } else { None };
    Some(Passage { text, before })
}

/// The neighbours of rank `rank`; nothing inside of an array without entries, and nothing at all where a leaf is not there.
#[expect(clippy::option_option, reason = "no neighbours are one thing, neighbours that nobody shows another")]
fn between(held: &impl Held, looked: &Looked, show: &Show<'_>, rank: u64) -> Option<Option<Between>> {
    let entries = looked.case.segment.entries;
    if entries == 0 {
        return Some(None);
    }
    let number = rank.saturating_sub(1) / ARRAY_STRIDE;
    let leaf = held.bare(looked.at.0, looked.at.1, Part::Array, number)?.leaf;
    let text = |rank: u64| show(Part::Text, entry_of(&leaf, rank - number * ARRAY_STRIDE)? / STRIDE);
    let before = if rank > 0 { Some(text(rank - 1)?) } else { None };
    let after = if rank < entries { Some(text(rank)?) } else { None };
    Some(Some(Between { rank, array: show(Part::Array, number)?, before, after }))
}

/// The head of a root, by a leaf under it, or of no leaves.
fn head_of(root: Hash32, first: Option<&Shown>) -> Option<Head> {
    match first {
        Some(Shown { leaf, opening }) => Some(Head { leaves: opening.leaves, byte_length: opening.byte_length, top: opening.top(leaf)? }),
        None => (seal(0, 0, Hash32::ZERO) == root).then_some(Head { leaves: 0, byte_length: 0, top: Hash32::ZERO }),
    }
}

#[cfg(test)]
mod tests;
