//! What the contract asks of a claim about an index (P7), from roots alone: whatever passes here, it takes.
//!
//! The contract is told no number that follows from the rest; here an opening of another number is refused.

use types::{
    id::{Address, Hash32},
    proof::{Between, Gap, Head, IndexClaim, Passage, Passed, SegmentFlaw, Shown, Source},
    text::{LEAF_BYTES, LEAF_STRIDE, WINDOW, is_single, is_word},
};

use super::{Contribution, Posted, Refused};
use crate::index::{ARRAY_LEAF_ENTRIES, is_cut_before};

/// Entries between the starts of two array leaves.
pub(super) const ARRAY_STRIDE: u64 = ARRAY_LEAF_ENTRIES as u64 - 1;
/// Bytes of an entry.
const ENTRY_BYTES: usize = 5;
/// The most bytes of a character.
const CHARACTER_BYTES_MAX: usize = 4;
/// Bytes of leaves of Datanets, segments and documents.
const SIZES: [usize; 3] = [52, 120, 85];
/// Bytes between the starts of two text leaves.
pub(super) const STRIDE: u64 = LEAF_STRIDE as u64;

type Judged = Result<bool, Refused>;

/// Whether a claim convicts who posted an index.
///
/// # Errors
/// [`Refused`] if what it opens does not lead to the posted root, or is not what its mode asks for.
pub fn convicts(claim: &IndexClaim, posted: &Posted) -> Judged {
    match claim {
        IndexClaim::Segment { source, flaw } => judge(&Case::of(source, posted)?, flaw, posted),
        IndexClaim::OtherDatanet(shown) => {
            let leaf = datanet_under(posted.root, shown)?;
            let declared = usize::try_from(shown.opening.index).ok().and_then(|number| posted.declared.get(number));
            Ok(declared.is_none_or(|declared| (declared.asset.0, declared.version) != (leaf.asset, leaf.version)))
        }
        IndexClaim::DatanetCount(head) => {
            under_head("index", posted.root, head)?;
            Ok(usize::try_from(head.leaves) != Ok(posted.declared.len()))
        }
        IndexClaim::Hollow { datanet, segments } => {
            let leaf = datanet_under(posted.root, datanet)?;
            under_head("segments", leaf.segments, segments)?;
            Ok(segments.leaves == 0 && leaf.length != 0)
        }
        IndexClaim::Form { datanet, segment, leaf } => {
            let (what, root, kind) = match (datanet, segment) {
                (None, _) => ("index", posted.root, 0),
                (Some(datanet), None) => ("segments", datanet_under(posted.root, datanet)?.segments, 1),
                (Some(datanet), Some(segment)) => {
                    let datanet = datanet_under(posted.root, datanet)?;
                    ("documents", segment_under(datanet.segments, segment)?.documents, 2)
                }
            };
            under(what, root, leaf, leaf.opening.index)?;
            Ok(leaf.leaf.len() != SIZES[kind])
        }
    }
}

/// The part of a Datanet's leaf that is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct DatanetPart {
    pub(super) asset: u64,
    pub(super) version: u32,
    pub(super) length: u64,
    pub(super) segments: Hash32,
}

/// A segment's leaf.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentPart {
    pub(super) text: Hash32,
    pub(super) documents: Hash32,
    pub(super) array: Hash32,
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) entries: u64,
}

/// A document's row.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowPart {
    pub(super) text_root: Hash32,
    pub(super) start: u64,
    pub(super) length: u32,
    pub(super) payee: Address,
    /// Block and place within it.
    pub(super) order: (u64, u32),
    pub(super) document: u32,
}

impl RowPart {
    pub(super) fn is_tombstone(&self) -> bool {
        self.payee == Address::ZERO
    }

    /// Behind its zero byte; where a tombstone stands.
    pub(super) fn end(&self) -> u64 {
        if self.is_tombstone() { self.start } else { self.start + u64::from(self.length) + 1 }
    }
}

/// The number that bytes of a leaf are, as many as there are of eight.
fn number(leaf: &[u8], at: usize, size: usize) -> u64 {
    leaf.iter().skip(at).take(size).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn hash(leaf: &[u8], at: usize) -> Hash32 {
    leaf.get(at..at + 32).and_then(|bytes| bytes.try_into().ok()).map_or(Hash32::ZERO, Hash32)
}

/// What a Datanet's leaf says; nothing of another size.
pub(super) fn datanet_of(leaf: &[u8]) -> Option<DatanetPart> {
    let part = || DatanetPart {
        asset: number(leaf, 0, 8),
        version: u32::try_from(number(leaf, 8, 4)).unwrap_or_default(),
        length: number(leaf, 12, 8),
        segments: hash(leaf, 20),
    };
    (leaf.len() == SIZES[0]).then(part)
}

/// What a segment's leaf says; nothing of another size.
pub(super) fn segment_of(leaf: &[u8]) -> Option<SegmentPart> {
    let part = || SegmentPart {
        text: hash(leaf, 0),
        documents: hash(leaf, 32),
        array: hash(leaf, 64),
        start: number(leaf, 96, 8),
        length: number(leaf, 104, 8),
        entries: number(leaf, 112, 8),
    };
    (leaf.len() == SIZES[1]).then(part)
}

/// What a row says; nothing of another size.
pub(super) fn row_of(leaf: &[u8]) -> Option<RowPart> {
    let narrow = |at| u32::try_from(number(leaf, at, 4)).unwrap_or_default();
    let part = || RowPart {
        text_root: hash(leaf, 0),
        start: number(leaf, 32, 5),
        length: narrow(37),
        payee: leaf[41..61].try_into().map_or(Address::ZERO, Address),
        order: (number(leaf, 61, 8), narrow(69)),
        document: narrow(73),
    };
    (leaf.len() == SIZES[2]).then(part)
}

/// Entry `place` of an array leaf.
pub(super) fn entry_of(leaf: &[u8], place: u64) -> Option<u64> {
    let at = usize::try_from(place).ok()?.checked_mul(ENTRY_BYTES)?;
    leaf.get(at..at.checked_add(ENTRY_BYTES)?).map(|bytes| number(bytes, 0, ENTRY_BYTES))
}

/// Bytes that array leaf `leaf` of a segment has.
pub(super) fn array_bytes(entries: u64, leaf: u64) -> u64 {
    let left = entries.saturating_sub(leaf.saturating_mul(ARRAY_STRIDE));
    left.min(ARRAY_STRIDE + 1) * 5
}

pub(super) const fn aligned(length: u64) -> u64 {
    length.saturating_add(STRIDE - 1) / STRIDE * STRIDE
}

/// What an entry at `at` is ordered by, `leaf` being the text leaf in whose stride it lies.
pub(super) fn window(leaf: &[u8], at: u64) -> &[u8] {
    let rest = &leaf[within(at).min(leaf.len())..];
    let rest = &rest[..rest.len().min(WINDOW)];
    &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())]
}

/// Whether a word begins at `at`, of which `leaf` is the text leaf and `before` the one before it.
pub(super) fn begins(leaf: &[u8], before: Option<&[u8]>, at: u64) -> bool {
    let place = within(at);
    let Some(first) = leaf.get(place..).and_then(first_character) else { return false };
    let last = match before {
        None => last_character(&leaf[..place]),
        // A leaf ends with its contribution: nothing stands before the place where it is too short.
        Some(before) => before.get(..place + LEAF_STRIDE).and_then(last_character),
    };
    is_single(first) || (is_word(first) && !last.is_some_and(|last| is_word(last) && !is_single(last)))
}

/// Whether only the leaf before shows the character before a place.
pub(super) fn needs_before(leaf: &[u8], at: u64) -> bool {
    at >= STRIDE && within(at) < leaf.len() && is_cut_before(leaf, within(at))
}

fn first_character(bytes: &[u8]) -> Option<char> {
    (1..=CHARACTER_BYTES_MAX.min(bytes.len())).find_map(|count| std::str::from_utf8(&bytes[..count]).ok()?.chars().next())
}

fn last_character(bytes: &[u8]) -> Option<char> {
    (1..=CHARACTER_BYTES_MAX.min(bytes.len())).find_map(|count| std::str::from_utf8(&bytes[bytes.len() - count..]).ok()?.chars().next())
}

/// A place in its stride.
fn within(at: u64) -> usize {
    usize::try_from(at % STRIDE).unwrap_or_default()
}

fn under(what: &'static str, root: Hash32, shown: &Shown, number: u64) -> Result<(), Refused> {
    let is_led = shown.opening.index == number && shown.opening.root(&shown.leaf) == Some(root);
    if is_led { Ok(()) } else { Err(Refused::Root(what)) }
}

fn under_head(what: &'static str, root: Hash32, head: &Head) -> Result<(), Refused> {
    let got = types::merkle::seal(head.leaves, head.byte_length, head.top);
    if got == root { Ok(()) } else { Err(Refused::Root(what)) }
}

fn datanet_under(root: Hash32, shown: &Shown) -> Result<DatanetPart, Refused> {
    under("index", root, shown, shown.opening.index)?;
    // A number is one byte, and 255 stands for the root's head.
    datanet_of(&shown.leaf).filter(|_| shown.opening.index < 255).ok_or(Refused::Leaf("Datanet"))
}

fn segment_under(root: Hash32, shown: &Shown) -> Result<SegmentPart, Refused> {
    under("segments", root, shown, shown.opening.index)?;
    segment_of(&shown.leaf).ok_or(Refused::Leaf("segment"))
}

/// The segment that a claim is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) datanet: DatanetPart,
    pub(super) segment: SegmentPart,
    pub(super) number: u64,
    /// Whether leaves are taken for what they say they are: what is looked for is shown only where it is found.
    pub(super) is_trusting: bool,
}

impl Case {
    fn of(source: &Source, posted: &Posted) -> Result<Self, Refused> {
        let datanet = datanet_under(posted.root, &source.datanet)?;
        let segment = segment_under(datanet.segments, &source.segment)?;
        Ok(Self { datanet, segment, number: source.segment.opening.index, is_trusting: false })
    }

    fn under(&self, what: &'static str, root: Hash32, shown: &Shown, number: u64) -> Result<(), Refused> {
        let is_there = shown.opening.index == number && number < shown.opening.leaves;
        if self.is_trusting && is_there { Ok(()) } else { under(what, root, shown, number) }
    }

    /// The text leaf in whose stride a place lies.
    fn text<'a>(&self, shown: &'a Shown, at: u64) -> Result<&'a [u8], Refused> {
        self.under("text", self.segment.text, shown, at / STRIDE)?;
        Ok(&shown.leaf)
    }

    fn window<'a>(&self, shown: &'a Shown, at: u64) -> Result<&'a [u8], Refused> {
        Ok(window(self.text(shown, at)?, at))
    }

    fn array<'a>(&self, shown: &'a Shown, number: u64) -> Result<&'a [u8], Refused> {
        self.under("array", self.segment.array, shown, number)?;
        Ok(&shown.leaf)
    }

    fn row(&self, shown: &Shown, number: u64) -> Result<RowPart, Refused> {
        self.under("documents", self.segment.documents, shown, number)?;
        row_of(&shown.leaf).ok_or(Refused::Leaf("document"))
    }

    fn begins(&self, passage: &Passage, at: u64) -> Judged {
        let leaf = self.text(&passage.text, at)?;
        match (&passage.before, needs_before(leaf, at)) {
            (None, false) => Ok(begins(leaf, None, at)),
            (Some(before), true) => Ok(begins(leaf, Some(self.text(before, at - STRIDE)?), at)),
            _ => Err(Refused::Leaf("text before")),
        }
    }
}

fn entry(leaf: &[u8], place: u64) -> Result<u64, Refused> {
    entry_of(leaf, place).ok_or(Refused::Leaf("array"))
}

fn is_below(a: &[u8], at: u64, b: &[u8], other: u64) -> bool {
    (a, at) < (b, other)
}

pub(super) fn judge(case: &Case, flaw: &SegmentFlaw, posted: &Posted) -> Judged {
    let segment = &case.segment;
    match flaw {
        SegmentFlaw::Order { array, place, texts } => {
            let leaf = case.array(array, array.opening.index)?;
            let (first, second) = (entry(leaf, (*place).into())?, entry(leaf, u64::from(*place) + 1)?);
            Ok(!is_below(case.window(&texts[0], first)?, first, case.window(&texts[1], second)?, second))
        }
        SegmentFlaw::ArrayLeaves { array, next } => array_disagrees(case, array, next.as_ref()),
        SegmentFlaw::TextLeaves { text, next } => text_disagrees(case, text, next.as_ref()),
        SegmentFlaw::Text { row, own, text } => {
            let row = case.row(row, row.opening.index)?;
            if row.document != 0 || row.is_tombstone() {
                return Ok(false);
            }
            under("contribution", row.text_root, own, own.opening.index)?;
            let at = own.opening.index.checked_mul(STRIDE).and_then(|at| at.checked_add(row.start)).ok_or(Refused::Root("text"))?;
            Ok(case.text(text, at)? != own.leaf)
        }
        SegmentFlaw::Entry { array, place, passage } => {
            let at = entry(case.array(array, array.opening.index)?, (*place).into())?;
            match passage {
                None => {
                    if at >= segment.length {
                        Ok(true)
                    } else {
                        Err(Refused::Leaf("text"))
                    }
                }
                Some(_) if at >= segment.length => Err(Refused::Leaf("text")),
                Some(passage) => Ok(!case.begins(passage, at)?),
            }
        }
        SegmentFlaw::Missing { place, passage, between } => {
            if *place >> 40 != 0 || !case.begins(passage, *place)? {
                return Err(Refused::NoWord(*place));
            }
            match between {
                None => {
                    if segment.entries == 0 {
                        Ok(true)
                    } else {
                        Err(Refused::NotBetween)
                    }
                }
                Some(_) if segment.entries == 0 => Err(Refused::NotBetween),
                Some(between) => belongs(case, between, window(&passage.text.leaf, *place), *place),
            }
        }
        SegmentFlaw::Row { row, number } => {
            let row = case.row(row, row.opening.index)?;
            let accepted = accepted(case, posted, *number)?;
            if row.order != (accepted.block, accepted.ordinal) {
                return Err(Refused::OtherContribution(*number));
            }
            let published = posted.published(case.datanet.asset, case.datanet.version);
            Ok(row.text_root != accepted.text_root || is_other_fate(&row, accepted, published))
        }
        SegmentFlaw::Rows { row, next } => rows_disagree(case, row, next.as_ref()),
        SegmentFlaw::Length { row, place, text } => {
            let row = case.row(row, row.opening.index)?;
            if row.is_tombstone() {
                return Ok(false);
            }
            if *place > u64::from(row.length) {
                return Err(Refused::Leaf("place"));
            }
            let at = row.start + place;
            let byte = case.text(text, at)?.get(within(at));
            Ok(byte.is_none_or(|byte| (*byte == 0) != (*place == u64::from(row.length))))
        }
        SegmentFlaw::LeftOut { row, number, missing, passed } => {
            let row = case.row(row, row.opening.index)?;
            let later = accepted(case, posted, *number)?;
            if row.order != (later.block, later.ordinal) {
                return Err(Refused::OtherContribution(*number));
            }
            if missing >= number {
                return Err(Refused::NotEarlier { number: *number, missing: *missing });
            }
            let sought = accepted(case, posted, *missing)?;
            pass_by(case, passed, (sought.block, sought.ordinal))
        }
        SegmentFlaw::Invented(row) => {
            let row = case.row(row, row.opening.index)?;
            let known = posted.contributions_of(case.datanet.asset);
            Ok(!known.iter().any(|known| (known.block, known.ordinal) == row.order))
        }
        SegmentFlaw::Counts { text, array, documents } => {
            under_head("text", segment.text, text)?;
            under_head("array", segment.array, array)?;
            under_head("documents", segment.documents, documents)?;
            let is_bare = documents.leaves == 0 && segment.length != 0;
            let is_other = text.byte_length != segment.length || text.leaves != segment.length.div_ceil(STRIDE);
            Ok(is_bare || is_other || array.leaves != segment.entries.div_ceil(ARRAY_STRIDE))
        }
        SegmentFlaw::Segments { segments, next } => segments_disagree(case, segments.as_ref(), next.as_ref()),
        SegmentFlaw::Behind { row, next, text } => goes_on(case, row, next.as_ref(), text),
    }
}

fn array_disagrees(case: &Case, array: &Shown, next: Option<&Shown>) -> Judged {
    let (number, entries) = (array.opening.index, case.segment.entries);
    let leaf = case.array(array, number)?;
    let has_other = |leaf: &[u8], number: u64| u64::try_from(leaf.len()) != Ok(array_bytes(entries, number));
    let Some(next) = next else {
        return if has_other(leaf, number) { Ok(true) } else { Err(Refused::Leaf("next array")) };
    };
    if has_other(leaf, number) {
        return Err(Refused::Leaf("next array"));
    }
    let next = case.array(next, number.saturating_add(1))?;
    Ok(has_other(next, number.saturating_add(1)) || entry(leaf, ARRAY_STRIDE)? != entry(next, 0)?)
}

fn text_disagrees(case: &Case, text: &Shown, next: Option<&Shown>) -> Judged {
    let (number, length) = (text.opening.index, case.segment.length);
    let offset = number.saturating_mul(STRIDE);
    let leaf = case.text(text, offset)?;
    let size = u64::try_from(leaf.len()).unwrap_or(u64::MAX);
    let ends = leaf.len() < LEAF_BYTES;
    let alone = if leaf.is_empty() || leaf.len() > LEAF_BYTES || (ends && leaf.last() != Some(&0)) || offset.saturating_add(size) > length {
        Some(true)
    } else if offset.saturating_add(STRIDE) >= length {
        Some(offset.saturating_add(size) != length)
    } else if leaf.len() <= LEAF_STRIDE {
        Some(false)
    } else {
        None
    };
    match (alone, next) {
        (Some(alone), None) => Ok(alone),
        (None, Some(next)) => {
            let (shared, next) = (&leaf[LEAF_STRIDE..], case.text(next, offset + STRIDE)?);
            Ok(!next.starts_with(shared) || (ends && next.len() != shared.len()))
        }
        _ => Err(Refused::Leaf("next text")),
    }
}

/// Whether an array lacks a word: both neighbours are there and it is neither.
fn belongs(case: &Case, between: &Between, own: &[u8], place: u64) -> Judged {
    let (rank, entries) = (between.rank, case.segment.entries);
    if rank > entries {
        return Err(Refused::NotBetween);
    }
    let number = rank.saturating_sub(1) / ARRAY_STRIDE;
    let leaf = case.array(&between.array, number)?;
    let first = rank - number * ARRAY_STRIDE;
    match (&between.before, rank) {
        (None, 0) => {}
        (Some(before), 1..) => {
            let at = entry(leaf, first - 1)?;
            if !is_below(case.window(before, at)?, at, own, place) {
                return Err(Refused::NotBetween);
            }
        }
        _ => return Err(Refused::NotBetween),
    }
    match (&between.after, rank < entries) {
        (None, false) => {}
        (Some(after), true) => {
            let at = entry(leaf, first)?;
            if !is_below(own, place, case.window(after, at)?, at) {
                return Err(Refused::NotBetween);
            }
        }
        _ => return Err(Refused::NotBetween),
    }
    Ok(true)
}

fn accepted<'a>(case: &Case, posted: &'a Posted, number: u64) -> Result<&'a Contribution, Refused> {
    let known = usize::try_from(number).ok().and_then(|number| posted.contributions_of(case.datanet.asset).get(number));
    known.ok_or(Refused::Unknown(number))
}

/// Whether a row says of its contribution that it was erased, and it was not, or the other way round; or names another payee.
fn is_other_fate(row: &RowPart, accepted: &Contribution, published: u64) -> bool {
    if row.is_tombstone() {
        // Within the block of the publication, either may have come first.
        let may_be = accepted.erased.is_some_and(|erased| erased <= published);
        return row.length != 0 || row.document != 0 || !may_be;
    }
    row.payee != accepted.contributor || accepted.erased.is_some_and(|erased| erased < published)
}

fn rows_disagree(case: &Case, shown: &Shown, next: Option<&Shown>) -> Judged {
    let (number, length) = (shown.opening.index, case.segment.length);
    let row = case.row(shown, number)?;
    let alone = if number == 0 && (row.start != 0 || row.document != 0) {
        Some(true)
    } else if number + 1 == shown.opening.leaves {
        Some(if row.is_tombstone() { row.start != aligned(length) } else { row.end() != length })
    } else {
        None
    };
    match (alone, next) {
        (Some(alone), None) => Ok(alone),
        (None, Some(next)) => {
            let next = case.row(next, number + 1)?;
            let is_right = if row.order == next.order {
                let is_same = !row.is_tombstone() && next.payee == row.payee && next.text_root == row.text_root;
                is_same && u64::from(next.document) == u64::from(row.document) + 1 && next.start == row.end()
            } else {
                row.order < next.order && next.document == 0 && next.start == aligned(row.end())
            };
            Ok(!is_right)
        }
        _ => Err(Refused::Leaf("next document")),
    }
}

fn pass_by(case: &Case, passed: &[Passed], sought: (u64, u32)) -> Judged {
    let count = passed.first().map_or(1, |first| first.segment.opening.leaves);
    if u64::try_from(passed.len()) != Ok(count) {
        return Err(Refused::NotPassed(count));
    }
    for (number, passed) in (0..).zip(passed) {
        under("segments", case.datanet.segments, &passed.segment, number)?;
        let segment = segment_of(&passed.segment.leaf).ok_or(Refused::Leaf("segment"))?;
        let other = Case { segment, number, ..*case };
        let is_before = |shown: &Shown| Ok::<_, Refused>(other.row(shown, shown.opening.index)?.order < sought);
        let is_after = |shown: &Shown, number: u64| Ok::<_, Refused>(other.row(shown, number)?.order > sought);
        let is_passed = match &passed.rows {
            Gap::Empty(head) => {
                under_head("documents", segment.documents, head)?;
                head.leaves == 0
            }
            Gap::Last(row) => is_before(row)? && row.opening.index + 1 == row.opening.leaves,
            Gap::First(row) => is_after(row, 0)?,
            Gap::Within(before, after) => is_before(before)? && is_after(after, before.opening.index + 1)?,
        };
        if !is_passed {
            return Err(Refused::NotPassed(number));
        }
    }
    Ok(true)
}

fn segments_disagree(case: &Case, segments: Option<&Head>, next: Option<&Shown>) -> Judged {
    let begins_elsewhere = case.number == 0 && case.segment.start != 0;
    let Some(head) = segments.filter(|_| !begins_elsewhere) else {
        return if begins_elsewhere && segments.is_none() { Ok(true) } else { Err(Refused::Leaf("segments")) };
    };
    under_head("segments", case.datanet.segments, head)?;
    // Both are lengths that a liar may have chosen.
    let end = u128::from(case.segment.start) + u128::from(case.segment.length);
    match (next, case.number + 1 == head.leaves) {
        (None, true) => Ok(end != u128::from(case.datanet.length)),
        (Some(next), false) => {
            under("segments", case.datanet.segments, next, case.number + 1)?;
            Ok(u128::from(segment_of(&next.leaf).ok_or(Refused::Leaf("segment"))?.start) != end)
        }
        _ => Err(Refused::Leaf("segment")),
    }
}

fn goes_on(case: &Case, shown: &Shown, next: Option<&Shown>, text: &Shown) -> Judged {
    let number = shown.opening.index;
    let row = case.row(shown, number)?;
    if row.is_tombstone() {
        return Ok(false);
    }
    match (next, number + 1 == shown.opening.leaves) {
        (None, true) => {}
        (Some(next), false) => {
            if case.row(next, number + 1)?.order == row.order {
                return Ok(false);
            }
        }
        _ => return Err(Refused::Leaf("next document")),
    }
    let end = row.start + u64::from(row.length);
    Ok(case.text(text, end)?.len() > within(end) + 1)
}
