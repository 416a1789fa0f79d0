//! F2 and F9 as `SpanVerifier` reads them: what `attribution` found, packed (Protocol P7).

use types::{
    proof::{Claim, Head, Holder, Omission, Passage, Payee, Row, Shown, Source},
    text::LEAF_STRIDE,
};

use super::pack::Packer;

/// The evidence of a claim.
pub fn evidence(claim: &Claim) -> Vec<u8> {
    match claim {
        Claim::Omission(omission) => omitted(omission),
        Claim::Payee(payee) => paid(payee),
        Claim::Holder(holder) => held(holder),
    }
}

fn omitted(of: &Omission) -> Vec<u8> {
    let packer = Packer::new().raw(&of.parameters).u32(of.start).raw(&of.length.to_be_bytes());
    let stride = u32::try_from(LEAF_STRIDE).expect("64");
    let first = u64::from(of.start / stride);
    let (begin, more) = match of.answer.split_first() {
        Some((begin, more)) => (blob(packer, begin), more),
        None => (packer, &[][..]),
    };
    // A span has at most a window, which reaches into five strides.
    let packer = begin.u8(u8::try_from(more.len()).unwrap_or(u8::MAX));
    let packer = more.iter().fold(packer, |packer, leaf| {
        let behind = leaf.opening.index.saturating_sub(first);
        blob(packer.u8(u8::try_from(behind).unwrap_or(u8::MAX)), leaf)
    });
    let packer = source(place(packer, of.datanet, of.position), &of.source);
    passage(packer, &of.passage).finish()
}

fn paid(of: &Payee) -> Vec<u8> {
    let packer = counted(source(Packer::new(), &of.source), &of.row);
    match &of.head {
        Some((segment, row)) => counted(numbered(packer, segment), row).finish(),
        None => packer.finish(),
    }
}

fn held(of: &Holder) -> Vec<u8> {
    let packer = source(blob(Packer::new(), &of.answer), &of.named);
    let packer = place(numbered(packer, &of.named_row), of.datanet, of.position);
    passage(numbered(source(packer, &of.source), &of.row), &of.passage).finish()
}

/// A leaf of any length; its index follows from the rest.
fn blob(packer: Packer, shown: &Shown) -> Packer {
    packer.blob(&shown.leaf).opening(&shown.opening)
}

/// A leaf of a length that the verifier knows, at an index that it does not.
fn numbered(packer: Packer, shown: &Shown) -> Packer {
    packer.raw(&shown.leaf).u64(shown.opening.index).opening(&shown.opening)
}

fn place(packer: Packer, datanet: u8, position: u64) -> Packer {
    // A Datanet has at most 2^40 bytes.
    packer.u8(datanet).raw(&position.to_be_bytes()[3..])
}

fn source(packer: Packer, of: &Source) -> Packer {
    numbered(packer.raw(&of.datanet.leaf).opening(&of.datanet.opening), &of.segment)
}

fn passage(packer: Packer, of: &Passage) -> Packer {
    of.before.iter().fold(blob(packer, &of.text), blob)
}

/// A row, and the segments that are counted for its number.
fn counted(packer: Packer, row: &Row) -> Packer {
    row.ahead.iter().fold(numbered(packer, &row.row), |packer, ahead| {
        let Head { leaves, byte_length, top } = ahead.documents;
        packer.raw(&ahead.segment.leaf).opening(&ahead.segment.opening).head(leaves, byte_length, top)
    })
}
