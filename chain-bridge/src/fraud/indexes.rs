//! X1 to X5 as `IndexVerifier` reads them: what `attribution` found wrong with an index, packed (Protocol P7).

use types::proof::{Between, Gap, Head, IndexClaim, Passage, SegmentFlaw, Shown};

use super::pack::Packer;

/// Instead of a Datanet's number: the head of the index root follows.
const INDEX_HEAD: u8 = 255;

/// The evidence of a claim.
pub fn evidence(claim: &IndexClaim) -> Vec<u8> {
    match claim {
        IndexClaim::Segment { source, flaw } => flawed(numbered(datanet(Packer::new(), &source.datanet), &source.segment), flaw),
        IndexClaim::OtherDatanet(shown) => datanet(Packer::new(), shown),
        IndexClaim::DatanetCount(of) => head(Packer::new().u8(INDEX_HEAD), of),
        IndexClaim::Hollow { datanet: shown, segments } => head(datanet(Packer::new(), shown), segments),
        IndexClaim::Form { datanet: None, leaf, .. } => blob(Packer::new().u8(0).u8(number(leaf)), leaf),
        IndexClaim::Form { datanet: Some(above), segment: None, leaf } => {
            blob(datanet(Packer::new().u8(1), above).u64(leaf.opening.index), leaf)
        }
        IndexClaim::Form { datanet: Some(above), segment: Some(segment), leaf } => {
            blob(numbered(datanet(Packer::new().u8(2), above), segment).u64(leaf.opening.index), leaf)
        }
    }
    .finish()
}

fn flawed(packer: Packer, flaw: &SegmentFlaw) -> Packer {
    match flaw {
        SegmentFlaw::Order { array, place, texts } => texts.iter().fold(indexed(packer, array).u8(*place), blob),
        SegmentFlaw::ArrayLeaves { array: first, next } | SegmentFlaw::TextLeaves { text: first, next } => {
            next.iter().fold(indexed(packer, first), blob)
        }
        SegmentFlaw::Text { row, own, text } => blob(indexed(numbered(packer, row), own), text),
        SegmentFlaw::Entry { array, place, passage: at } => at.iter().fold(indexed(packer, array).u8(*place), passage),
        SegmentFlaw::Missing { place, passage: at, between } => {
            // A place in a segment has 40 bits.
            between.iter().fold(passage(packer.raw(&place.to_be_bytes()[3..]), at), neighbours)
        }
        SegmentFlaw::Row { row, number } => numbered(packer, row).u64(*number),
        SegmentFlaw::Rows { row, next } => rows(packer, row, next.as_ref()),
        SegmentFlaw::Length { row, place, text } => blob(numbered(packer, row).u64(*place), text),
        SegmentFlaw::LeftOut { row, number, missing, passed } => passed
            .iter()
            .fold(numbered(packer, row).u64(*number).u64(*missing), |packer, passed| gap(alone(packer, &passed.segment), &passed.rows)),
        SegmentFlaw::Invented(row) => numbered(packer, row),
        SegmentFlaw::Counts { text, array, documents } => [text, array, documents].into_iter().fold(packer, head),
        SegmentFlaw::Segments { segments, next } => next.iter().fold(segments.iter().fold(packer, head), alone),
        SegmentFlaw::Behind { row, next, text } => blob(rows(packer, row, next.as_ref()), text),
    }
}

fn neighbours(packer: Packer, of: &Between) -> Packer {
    of.before.iter().chain(&of.after).fold(blob(packer.u64(of.rank), &of.array), blob)
}

/// Which neighbours are shown, and they.
fn gap(packer: Packer, rows: &Gap) -> Packer {
    match rows {
        Gap::Empty(of) => head(packer.u8(0), of),
        Gap::Last(row) => alone(packer.u8(1).u64(row.opening.index), row),
        Gap::First(row) => alone(packer.u8(2).u64(row.opening.index), row),
        Gap::Within(before, after) => alone(alone(packer.u8(3).u64(before.opening.index), before), after),
    }
}

/// A row whose index stands first, and the next.
fn rows(packer: Packer, row: &Shown, next: Option<&Shown>) -> Packer {
    next.into_iter().fold(alone(packer.u64(row.opening.index), row), alone)
}

/// A Datanet's number is one byte: one beyond is of no manifest, and leads nowhere as another's.
fn number(datanet: &Shown) -> u8 {
    u8::try_from(datanet.opening.index).unwrap_or(u8::MAX)
}

fn datanet(packer: Packer, shown: &Shown) -> Packer {
    alone(packer.u8(number(shown)), shown)
}

/// A leaf of a length that the verifier knows, at an index that it knows.
fn alone(packer: Packer, shown: &Shown) -> Packer {
    packer.raw(&shown.leaf).opening(&shown.opening)
}

/// The same at an index that it does not know.
fn numbered(packer: Packer, shown: &Shown) -> Packer {
    packer.raw(&shown.leaf).u64(shown.opening.index).opening(&shown.opening)
}

/// A leaf of any length; its index follows from the rest.
fn blob(packer: Packer, shown: &Shown) -> Packer {
    packer.blob(&shown.leaf).opening(&shown.opening)
}

/// The same at an index that stands before it.
fn indexed(packer: Packer, shown: &Shown) -> Packer {
    blob(packer.u64(shown.opening.index), shown)
}

fn head(packer: Packer, Head { leaves, byte_length, top }: &Head) -> Packer {
    packer.head(*leaves, *byte_length, *top)
}

fn passage(packer: Packer, of: &Passage) -> Packer {
    of.before.iter().fold(blob(packer, &of.text), blob)
}
