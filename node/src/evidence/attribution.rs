//! What a receipt's bundle and the public Datanets prove of its attribution: false and ineligible spans (F1), wrong payees and later holders (F9), omitted spans (F2),
//! false weights (F10), false and missing masks (F11).

use ::attribution::{
    bundle::Bundle,
    fault::{self, FalseSpan, FaultError, Shown},
    index::Index,
    parameters::Parameters,
    proof,
};
use chain_bridge::fraud::{self, calldata::Proof};
use serde::Serialize;
use types::{
    id::Address,
    proof::{Claim, FalseLeaf, FalseMask, Flaw, Holder, Ineligible, Omission, Payee, Row, Rule, SharedRun},
    receipt::{Mask, Span},
};

/// A fault of a receipt's attribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// Its name in Protocol P7.
    pub(crate) fault: &'static str,
    /// The span that is void once it is proven; nothing where none is.
    pub(crate) span: Option<u16>,
    pub(crate) mode: &'static str,
    pub(crate) why: String,
    /// What the answer says there, as far as it goes.
    pub(crate) answer: String,
}

/// A fault with what the chain takes for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) fault: Fault,
    /// While a payout that the receipt is in can change.
    pub(crate) proof: Proof,
    /// After that.
    pub(crate) late: Proof,
}

/// What a search came to.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    /// All that was found, in the order in which it is sent.
    pub(crate) found: Vec<Found>,
    /// Why a part of the search was not made: beside what was found there may be more.
    pub(crate) unsearched: Vec<FaultError>,
}

/// All that bundle and index prove, in the order in which it is sent: what voids a span first, so that nobody is paid by it; of the others one is enough.
/// `lies` are those of the answer's leaves, where somebody was shown them.
///
/// # Errors
/// [`FaultError`] if nothing was found by a search that was not made whole: nothing is said of an honest receipt alone.
pub(crate) fn find(bundle: &Bundle, index: &Index, lies: Vec<proof::Proof>) -> Result<Searched, FaultError> {
    let id = bundle.receipt.document.parameters;
    let others = Parameters::builtin(id).ok_or(FaultError::Parameters(id)).and_then(|set| proof::find(bundle, set, index));
    joined(bundle, fault::find_false_spans(bundle, index), others, lies)
}

/// Two searches as one: neither hides that the other was not made.
fn joined(
    bundle: &Bundle,
    false_spans: Result<Vec<FalseSpan>, FaultError>,
    others: Result<Vec<proof::Proof>, FaultError>,
    lies: Vec<proof::Proof>,
) -> Result<Searched, FaultError> {
    let mut unsearched = Vec::new();
    let mut taken = |error| unsearched.push(error);
    let false_spans = false_spans.map_err(&mut taken).unwrap_or_default();
    let mut others = others.map_err(&mut taken).unwrap_or_default();
    others.extend(lies);
    let found = ordered(bundle, &false_spans, &others);
    unsearched.dedup();
    match unsearched.first() {
        Some(error) if found.is_empty() => Err(error.clone()),
        _ => Ok(Searched { found, unsearched }),
    }
}

fn ordered(bundle: &Bundle, false_spans: &[FalseSpan], others: &[proof::Proof]) -> Vec<Found> {
    let is_false = |span: u16| false_spans.iter().any(|proof| proof.span == span);
    // What a false span lies over is not to lose its part for that.
    let is_blameless =
        |proof: &&proof::Proof| matches!(&proof.claim, Claim::Ineligible(Ineligible { rule: Rule::Overlap(by), .. }) if is_false(*by));
    let (voiding, rest): (Vec<_>, Vec<_>) =
        others.iter().filter(|proof| !is_blameless(proof)).partition(|proof| proof.claim.voids().is_some());
    let mut found: Vec<Found> = false_spans.iter().map(|proof| of_false_span(bundle, proof)).collect();
    // What is false is void by that: who else would be paid for it does not matter.
    found.extend(voiding.into_iter().filter(|proof| proof.claim.voids().is_none_or(|span| !is_false(span))).map(|proof| of(bundle, proof)));
    found.extend(rest.into_iter().map(|proof| of(bundle, proof)));
    // A span that is void is void: one proof of each.
    let mut voided = Vec::new();
    found.retain(|found| {
        let is_new = found.fault.span.is_none_or(|span| !voided.contains(&span));
        voided.extend(found.fault.span);
        is_new
    });
    found
}

fn of_false_span(bundle: &Bundle, proof: &FalseSpan) -> Found {
    let encoded = on_chain(proof);
    Found { fault: describe_false(bundle, proof), proof: Proof::false_span(&encoded), late: Proof::late_false_span(&encoded) }
}

fn of(bundle: &Bundle, proof: &proof::Proof) -> Found {
    Found { fault: describe(bundle, &proof.claim), proof: Proof::attribution(proof), late: Proof::late_attribution(proof) }
}

fn describe(bundle: &Bundle, claim: &Claim) -> Fault {
    let span = |number: u16| bundle.receipt.document.spans.get(usize::from(number)).copied();
    let (mode, why, quoted) = match claim {
        Claim::Omission(Omission { start, length, datanet, position, .. }) => {
            let why = format!(
                "{length} bytes from byte {start} on stand in Datanet number {datanet} at position {position}, and no span of the receipt is worth as much"
            );
            let missing = Span { start: *start, length: *length, datanet: *datanet, position: *position, weight: 0, payee: Address::ZERO };
            ("omitted", why, Some(missing))
        }
        Claim::Payee(Payee { span: number, row, head, .. }) => {
            let right = payee_of(head.as_ref().map_or(row, |(_, head)| head));
            let named = span(*number).map_or(Address::ZERO, |span| span.payee);
            ("payee", format!("it pays {named}, the document it names is paid by way of {right}"), span(*number))
        }
        Claim::Holder(Holder { span: number, datanet, position, .. }) => {
            ("holder", format!("an earlier document holds its bytes: Datanet number {datanet}, position {position}"), span(*number))
        }
        Claim::Ineligible(Ineligible { span: number, rule }) => {
            let (mode, why) = broken(*number, rule);
            (mode, why, span(*number))
        }
        Claim::Total(_) => {
            let why = format!("W is {}, which is not the weight of the words that its masks leave", bundle.receipt.document.weight_total);
            ("total", why, None)
        }
        Claim::FalseLeaf(FalseLeaf { number, .. }) => ("leaf", format!("leaf {number} of the answer says what is not so"), None),
        Claim::FalseMask(FalseMask { mask: number, flaw }) => {
            let mask = bundle.receipt.document.masks.get(usize::from(*number));
            ("mask", format!("mask {number} {}", flawed(flaw)), mask.map(at_mask))
        }
        Claim::MissingMask(SharedRun { start, length, prompt_start, .. }) => {
            let why =
                format!("{length} bytes from byte {start} on stand in the prompt from its byte {prompt_start} on, and no mask holds them");
            ("unmasked", why, Some(at_mask(&Mask { start: *start, length: u32::from(*length), prompt: *prompt_start })))
        }
    };
    let answer = quoted.map(|span| quote(&bundle.answer, &span)).unwrap_or_default();
    Fault { fault: claim.fault(), span: claim.voids(), mode, why, answer }
}

/// The bytes of the answer that a mask takes, as far as they are shown.
fn at_mask(mask: &Mask) -> Span {
    let length = u16::try_from(mask.length).unwrap_or(u16::MAX);
    Span { start: mask.start, length, datanet: 0, position: 0, weight: 0, payee: Address::ZERO }
}

/// What a span breaks, and in words.
fn broken(number: u16, rule: &Rule) -> (&'static str, String) {
    let (mode, why) = match rule {
        Rule::Start(_) => ("start", "no word of the answer starts where it starts"),
        Rule::End { .. } => ("end", "no word of the answer ends where it ends"),
        Rule::Document { .. } => ("document", "no word of the document begins at its position"),
        Rule::Delimiter(_) => ("delimiter", "it reaches over a sentence's end"),
        Rule::FewWords { .. } => ("words", "it has fewer words than a span must have"),
        Rule::Light(_) => ("theta", "it weighs less than a span must"),
        // These name no span that is void: either of the two may be the lie.
        Rule::Masked(mask) => return ("masked", format!("mask {mask} lies over span {number}")),
        Rule::Overlap(other) => return ("overlap", format!("span {other} lies over span {number} and ranks before it")),
        Rule::Weight(_) => ("weight", "its weight is not that of its words"),
        Rule::Copied(SharedRun { start, length, prompt_start, .. }) => {
            let why = format!("of its words {length} bytes from byte {start} on stand in the prompt from its byte {prompt_start} on");
            return ("copied", why);
        }
        Rule::Twin(other) => return ("twin", format!("span {other} says the same")),
    };
    (mode, why.to_owned())
}

const fn flawed(flaw: &Flaw) -> &'static str {
    match flaw {
        Flaw::Form => "is empty, or not behind the one before it",
        Flaw::AnswerEnd(_) => "ends beyond the answer",
        Flaw::PromptEnd(_) => "ends beyond the prompt",
        Flaw::Bytes { .. } => "is not what stands in the prompt",
        Flaw::Bounds { .. } => "begins or ends inside a word",
        Flaw::FewWords { .. } => "has fewer words than a mask must have",
        Flaw::Longer { .. } => "is shorter than what answer and prompt share there",
    }
}

/// The payee in a document row's bytes (P5).
fn payee_of(row: &Row) -> Address {
    row.row.leaf.get(41..61).and_then(|bytes| bytes.try_into().ok()).map_or(Address::ZERO, Address)
}

/// The same proof in the form that becomes calldata.
fn on_chain(proof: &FalseSpan) -> fraud::FalseSpan {
    let opened = |shown: &Shown| {
        // Nothing shown is a tree of nothing, in both forms.
        let is_shown = shown.opening.leaves > 0 || shown.opening.byte_length > 0 || !shown.leaf.is_empty();
        fraud::Opened { leaf: shown.leaf.clone(), opening: is_shown.then(|| shown.opening.clone()) }
    };
    let evidence = fraud::Evidence {
        answer: opened(&proof.answer),
        datanet: opened(&proof.datanet),
        segment: opened(&proof.segment),
        text: opened(&proof.text),
    };
    fraud::FalseSpan {
        mode: mode(proof.mode),
        receipt: proof.receipt.clone(),
        signature: proof.signature,
        span: proof.span,
        top: proof.top,
        evidence,
    }
}

const fn mode(mode: fault::Mode) -> fraud::Mode {
    match mode {
        fault::Mode::Length => fraud::Mode::Length,
        fault::Mode::AnswerEnd => fraud::Mode::AnswerEnd,
        fault::Mode::DatanetIndex => fraud::Mode::DatanetIndex,
        fault::Mode::DatanetEnd => fraud::Mode::DatanetEnd,
        fault::Mode::Bytes => fraud::Mode::Bytes,
    }
}

fn describe_false(bundle: &Bundle, proof: &FalseSpan) -> Fault {
    let span = bundle.receipt.document.spans.get(usize::from(proof.span)).copied();
    let (mode, why) = match (proof.mode, span) {
        (fault::Mode::Length, Some(span)) => ("length", format!("it has {} bytes, a span has 1 to 256", span.length)),
        (fault::Mode::AnswerEnd, Some(span)) => (
            "answer-end",
            format!("it ends at byte {}, the answer has {}", u64::from(span.start) + u64::from(span.length), bundle.answer.len()),
        ),
        (fault::Mode::DatanetIndex, Some(span)) => {
            ("datanet-index", format!("it names Datanet number {}, which the index does not have", span.datanet))
        }
        (fault::Mode::DatanetEnd, Some(span)) => {
            ("datanet-end", format!("it ends beyond its Datanet, at position {}", span.position.saturating_add(span.length.into())))
        }
        (fault::Mode::Bytes, Some(span)) => {
            ("bytes", format!("Datanet number {} holds other bytes at position {}", span.datanet, span.position))
        }
        (_, None) => ("length", "the receipt has no such span".to_owned()),
    };
    Fault { fault: "F1", span: Some(proof.span), mode, why, answer: span.map(|span| quote(&bundle.answer, &span)).unwrap_or_default() }
}

fn quote(answer: &str, span: &Span) -> String {
    let start = usize::try_from(span.start).unwrap_or(usize::MAX).min(answer.len());
    let end = start.saturating_add(usize::from(span.length)).min(answer.len());
    String::from_utf8_lossy(&answer.as_bytes()[start..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use ::attribution::index::ReadError;
    use types::{id::Hash32, key::Signed65, merkle::Opening};

    use super::*;

    fn shown(leaves: u64) -> Shown {
        Shown {
            leaf: vec![1; usize::try_from(leaves).unwrap()],
            opening: Opening { leaves, byte_length: leaves, index: 0, siblings: vec![] },
        }
    }

    #[test]
    fn a_proof_keeps_every_part_in_the_form_of_the_chain() {
        let proof = FalseSpan {
            receipt: vec![5; 4],
            signature: Signed65([6; 65]),
            span: 7,
            mode: fault::Mode::AnswerEnd,
            top: Hash32([8; 32]),
            answer: shown(3),
            datanet: shown(0),
            segment: shown(0),
            text: shown(2),
        };
        let encoded = on_chain(&proof);
        assert_eq!((encoded.mode, encoded.span, encoded.top), (fraud::Mode::AnswerEnd, 7, Hash32([8; 32])));
        assert_eq!((encoded.evidence.answer.leaf.len(), encoded.evidence.answer.opening.map(|opening| opening.leaves)), (3, Some(3)));
        assert_eq!((encoded.evidence.datanet.opening, encoded.evidence.text.opening.is_some()), (None, true));
        for (one, other) in [
            (fault::Mode::Length, 0),
            (fault::Mode::AnswerEnd, 1),
            (fault::Mode::DatanetIndex, 2),
            (fault::Mode::DatanetEnd, 3),
            (fault::Mode::Bytes, 4),
        ] {
            assert_eq!((mode(one).code(), one as u8), (other, other));
        }
    }

    #[test]
    fn a_search_that_was_not_made_is_no_empty_list() {
        let damaged = || FaultError::Read(ReadError::Unheld);
        let bundle: Bundle = serde_json::from_str(include_str!("../../../tests/fixtures/bundles/honest-two-datanets.json")).unwrap();
        let proof = FalseSpan {
            receipt: vec![],
            signature: Signed65([6; 65]),
            span: 0,
            mode: fault::Mode::Length,
            top: Hash32::ZERO,
            answer: shown(0),
            datanet: shown(0),
            segment: shown(0),
            text: shown(0),
        };
        let faults = |false_spans, others| {
            joined(&bundle, false_spans, others, Vec::new()).map(|searched| (searched.found.len(), searched.unsearched))
        };
        assert_eq!(faults(Ok(vec![]), Ok(vec![])), Ok((0, vec![])));
        for (one, other) in [(Err(damaged()), Ok(vec![])), (Err(damaged()), Err(damaged())), (Ok(vec![]), Err(damaged()))] {
            assert_eq!(faults(one, other), Err(damaged()));
        }
        assert_eq!(faults(Ok(vec![proof]), Err(damaged())), Ok((1, vec![damaged()])), "what is found is said, and what was not searched");
    }

    #[test]
    fn a_quote_is_cut_where_the_answer_ends_and_never_splits_the_program() {
        let span = |start, length| Span { start, length, datanet: 0, position: 0, weight: 0, payee: Address::ZERO };
        assert_eq!(quote("gout and ataxia", &span(9, 100)), "ataxia");
        assert_eq!(quote("gout", &span(u32::MAX, u16::MAX)), "");
        assert_eq!(quote("ü", &span(1, 1)), "\u{fffd}");
    }
}
