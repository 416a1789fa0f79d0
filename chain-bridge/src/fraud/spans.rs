//! F2 and F9 as `SpanVerifier` reads them, F10 and ineligible spans as `AnswerVerifier` does, F11 as `MaskVerifier`: what `attribution` found, packed (Protocol P7).

use types::{
    proof::{
        Claim, FalseLeaf, FalseMask, Flaw, Head, Holder, Ineligible, Leaf, Omission, Passage, Payee, Row, Rule, SharedRun, Shown, Source,
        TableEntry, Total,
    },
    text::LEAF_STRIDE,
};

use super::pack::Packer;

/// The evidence of a claim.
pub fn evidence(claim: &Claim) -> Vec<u8> {
    match claim {
        Claim::Omission(omission) => omitted(omission),
        Claim::Payee(payee) => paid(payee),
        Claim::Holder(holder) => held(holder),
        Claim::Ineligible(Ineligible { rule, .. }) => broken(rule),
        Claim::Total(Total { last, answer }) => blobs(Packer::new().u32(*last), answer).finish(),
        Claim::FalseLeaf(leaf) => lying(leaf),
        Claim::FalseMask(mask) => refuted(mask),
        Claim::MissingMask(run) => shared(Packer::new(), run).finish(),
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

fn broken(rule: &Rule) -> Vec<u8> {
    let packer = Packer::new();
    match rule {
        Rule::Start(leaf) | Rule::Delimiter(leaf) => blob(packer, leaf),
        Rule::End { skipped, answer } => blobs(packer.u8(*skipped), answer),
        Rule::Document { source: of, passage: at } => passage(source(packer, of), at),
        Rule::FewWords { parameters, answer } => blobs(packer.raw(parameters), answer),
        Rule::Light(parameters) => packer.raw(parameters),
        Rule::Masked(number) | Rule::Overlap(number) | Rule::Twin(number) => packer.raw(&number.to_be_bytes()),
        Rule::Weight(answer) => blobs(packer, answer),
        Rule::Copied(run) => shared(packer, run),
    }
    .finish()
}

fn lying(FalseLeaf { number, why }: &FalseLeaf) -> Vec<u8> {
    let packer = Packer::new();
    match why {
        Leaf::Row { parameters, answer, row, table } => listed(blob(packer.raw(parameters).u32(*number), answer).u8(*row), table),
        Leaf::Running(answer) | Leaf::Texts(answer) => blobs(packer.u32(*number), answer),
        Leaf::Bounds { place, text } => passage(packer.u32(*number).u8(*place), text),
        Leaf::Form(answer) => blob(packer.u32(*number), answer),
    }
    .finish()
}

/// Rows of the word table say their own length.
fn listed(packer: Packer, entry: &TableEntry) -> Packer {
    let alone = |packer: Packer, row: &Shown| packer.raw(&row.leaf).opening(&row.opening);
    let packer = packer.u8(entry.code());
    match entry {
        TableEntry::Known(row) | TableEntry::BehindLast(row) => numbered(packer, row),
        TableEntry::Between(row, next) => alone(numbered(packer, row), next),
        TableEntry::BeforeFirst(row) => alone(packer, row),
        TableEntry::TooLong => packer,
    }
}

fn refuted(of: &FalseMask) -> Vec<u8> {
    let head = |packer: Packer, Head { leaves, byte_length, top }: &Head| packer.head(*leaves, *byte_length, *top);
    let packer = Packer::new().raw(&of.mask.to_be_bytes());
    match &of.flaw {
        Flaw::Form => packer,
        Flaw::AnswerEnd(of) => head(packer.u8(0), of),
        Flaw::PromptEnd(of) => head(packer.u8(1), of),
        Flaw::Bytes { at, answer, prompt } => blob(blob(packer.u32(*at), answer), prompt),
        Flaw::Bounds { edge, text } => passage(packer.u8(*edge), text),
        Flaw::FewWords { parameters, answer } => blobs(packer.raw(parameters), answer),
        Flaw::Longer { is_before, length, answer, prompt } => {
            passage(passage(packer.u8(u8::from(*is_before)).raw(&length.to_be_bytes()), answer), prompt)
        }
    }
    .finish()
}

fn shared(packer: Packer, of: &SharedRun) -> Packer {
    let packer = packer.raw(&of.parameters).u32(of.start).raw(&of.length.to_be_bytes()).u32(of.prompt_start);
    passage(passage(packer, &of.answer), &of.prompt)
}

fn blobs(packer: Packer, leaves: &[Shown]) -> Packer {
    leaves.iter().fold(packer, blob)
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
