use proptest::prelude::*;
use serde_json::{Value, json};
use types::{
    fingerprint::{self, FINGERPRINTS_MAX, Fingerprint},
    id::Address,
    quote::{Class, Profile},
    receipt::{Reason, token_ids_hash},
    split,
};

use super::*;
use crate::{
    index::{HeadOpenings, Opened, TextLeaf},
    prompt::Role,
    sample::{ANSWER, Sample, account, answer, datanet, private_sample, sample},
};

impl Sample {
    /// Signs receipt and quote again with the node's own key.
    fn resign(&self, bundle: &mut Bundle) {
        bundle.receipt = Signed::new(&self.node, &bundle.domains, bundle.receipt.document.clone());
        bundle.quote = Signed::new(&self.node, &bundle.domains, bundle.quote.document);
    }
}

/// The field that must be named, all fields that are (sorted, each once), and the change.
type Row = (&'static str, &'static [&'static str], Change);
type Change = fn(&mut Bundle);

/// Makes each change to the sample, re-signs with the node's key, and compares the fields named: exactly these, so that a check that is taken away
/// shows here even where another one still catches the change.
fn check(rows: &[Row]) {
    let sample = sample();
    let mut wrong = Vec::new();
    for (number, (field, expected, change)) in rows.iter().enumerate() {
        let mut bundle = sample.bundle.clone();
        change(&mut bundle);
        assert_ne!(bundle, sample.bundle, "row {number}: {field}");
        sample.resign(&mut bundle);
        let faults = verify(&bundle).err().map_or_else(Vec::new, |faults| faults.0);
        let mut named: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        named.sort_unstable();
        named.dedup();
        if named != *expected || !named.contains(field) {
            wrong.push(format!("row {number} ({field}): {named:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the quote and the counts of a changed receipt come to, billed.
fn rebill(bundle: &mut Bundle) {
    let (quote, receipt) = (&bundle.quote.document, &mut bundle.receipt.document);
    receipt.fee = split::fee(receipt.tokens_in, receipt.tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee).unwrap();
    receipt.cumulative_after = bundle.voucher.document.base.plus(receipt.fee).unwrap();
}

/// A changed manifest in every document that the node signs.
fn redeclare(bundle: &mut Bundle) {
    let root = bundle.manifest.root();
    (bundle.receipt.document.manifest, bundle.quote.document.manifest) = (root, root);
    bundle.receipt.document.quote = bundle.quote.document.hash();
}

#[test]
fn an_honest_bundle_verifies_and_survives_its_file() {
    let sample = sample();
    assert_eq!((sample.bundle.receipt.document.spans.len(), sample.bundle.receipt.document.masks.len()), (2, 1));
    let verified = verify(&sample.bundle).unwrap();
    assert_eq!(Amount::sum(verified.parts.iter().map(|part| part.1)), Ok(sample.bundle.receipt.document.fee));
    assert_eq!(Bundle::from_json(sample.bundle.to_json().as_bytes()).unwrap(), sample.bundle);
    assert_eq!(verify_full(&sample.bundle, &sample.index), Ok(verified));
}

const RECEIPT: &[Row] = &[
    ("span 0: start", &["span 0: start", "span 0: text"], |b| b.receipt.document.spans[0].start += 1),
    ("span 0: text", &["span 0: length", "span 0: text"], |b| {
        b.receipt.document.spans[0].start = u32::try_from(ANSWER.find("describe").unwrap()).unwrap()
    }),
    ("span 0: start", &["span 0: start", "span 0: text", "span 1: start"], |b| b.receipt.document.spans[0].start = u32::MAX),
    ("span 1: length", &["span 1: length"], |b| b.receipt.document.spans[1].length += 1),
    ("span 1: length", &["span 1: length"], |b| b.receipt.document.spans[1].length = 0),
    ("span 1: length", &["span 1: document", "span 1: length", "span 1: text"], |b| b.receipt.document.spans[1].length = u16::MAX),
    ("span 1: weight", &["span 1: weight"], |b| b.receipt.document.spans[1].weight -= 1),
    ("fee and weights", &["fee and weights", "span 0: weight"], |b| b.receipt.document.spans[0].weight = u32::MAX),
    ("span 0: payee", &["span 0: payee"], |b| b.receipt.document.spans[0].payee.0[3] ^= 1),
    ("span 0: position", &["span 0: document", "span 0: position"], |b| b.receipt.document.spans[0].position += 64),
    ("span 0: text", &["span 0: position", "span 0: text"], |b| b.receipt.document.spans[0].position += 1),
    ("span 0: position", &["span 0: position"], |b| b.receipt.document.spans[0].position = (1 << 40) - 1),
    ("span 0: Datanet", &["span 0: Datanet"], |b| b.receipt.document.spans[0].datanet = 1),
    ("span 0: Datanet", &["span 0: Datanet"], |b| b.receipt.document.spans[0].datanet = 9),
    (
        "span 1: start",
        &[
            "span 0: Datanet",
            "span 0: document",
            "span 0: position",
            "span 1: Datanet",
            "span 1: document",
            "span 1: position",
            "span 1: start",
        ],
        |b| b.receipt.document.spans.swap(0, 1),
    ),
    ("openings", &["openings", "span 2: start"], |b| b.receipt.document.spans.push(b.receipt.document.spans[1])),
    ("openings", &["openings"], |b| b.receipt.document.spans.truncate(1)),
    ("total weight W", &["total weight W"], |b| b.receipt.document.weight_total -= 1),
    ("total weight W", &["total weight W"], |b| b.receipt.document.weight_total += 1),
    ("total weight W", &["total weight W"], |b| b.receipt.document.weight_total = 0),
    ("fee", &["fee"], |b| b.receipt.document.fee.0 += 1),
    ("fee", &["fee", "fee and weights"], |b| b.receipt.document.fee.0 = 1),
    ("fee", &["fee", "fee and weights"], |b| b.receipt.document.fee.0 = u128::MAX),
    ("input tokens", &["fee", "input tokens"], |b| b.receipt.document.tokens_in += 1),
    ("output tokens", &["fee", "output tokens"], |b| b.receipt.document.tokens_out += 1),
    ("output tokens", &["fee", "first token plus output tokens", "output tokens"], |b| b.receipt.document.tokens_out = u32::MAX),
    ("first token", &["first token"], |b| b.receipt.document.first_token += 1),
    ("first token plus output tokens", &["first token", "first token plus output tokens"], |b| b.receipt.document.first_token = u32::MAX),
    ("attempt", &["attempt"], |b| b.receipt.document.attempt += 1),
    ("cumulative after", &["cumulative after"], |b| b.receipt.document.cumulative_after.0 += 1),
    ("cumulative after", &["cumulative after"], |b| b.receipt.document.cumulative_after.0 = u128::MAX),
    ("manifest root", &["manifest root"], |b| b.receipt.document.manifest.0[0] ^= 1),
    ("index root", &["index root", "span 0: Datanet", "span 1: Datanet"], |b| b.receipt.document.index.0[0] ^= 1),
    ("quote hash", &["quote hash"], |b| b.receipt.document.quote.0[0] ^= 1),
    ("request id", &["request id"], |b| b.receipt.document.request.0[0] ^= 1),
    ("lane", &["lane"], |b| b.receipt.document.lane.0[0] ^= 1),
    ("client", &["client"], |b| b.receipt.document.client.0[0] ^= 1),
    ("node", &["node", "receipt: signature"], |b| b.receipt.document.node.0[0] ^= 1),
    ("block", &["block"], |b| b.receipt.document.block.number += 1),
    ("block", &["block"], |b| b.receipt.document.block.hash.0[0] ^= 1),
    ("prompt root", &["prompt root"], |b| b.receipt.document.prompt_root.0[0] ^= 1),
    ("answer root", &["answer root"], |b| b.receipt.document.answer_root.0[0] ^= 1),
    ("token-id hash", &["token-id hash"], |b| b.receipt.document.token_ids.0[0] ^= 1),
    ("fingerprint root", &["fingerprint root", "profile"], |b| {
        b.receipt.document.profile = Profile::CandleF32B1;
        b.receipt.document.fingerprint_root.0[0] ^= 1;
    }),
    ("fingerprint root", &["fingerprint root"], |b| b.receipt.document.fingerprint_root.0[0] ^= 1),
    ("profile", &["fingerprints", "profile"], |b| b.receipt.document.profile = Profile::Fast),
    ("parameter id", &["parameter id"], |b| b.receipt.document.parameters = 2),
    ("assets", &["assets"], |b| b.receipt.document.assets[1].version += 1),
    ("assets", &["assets"], |b| b.receipt.document.assets.swap(0, 1)),
    ("class", &["class"], |b| b.receipt.document.class = Class::Open),
    ("mask 0", &["mask 0"], |b| b.receipt.document.masks[0].start += 1),
    ("mask 0", &["mask 0"], |b| b.receipt.document.masks[0].length = u32::MAX),
    ("mask 0", &["mask 0"], |b| b.receipt.document.masks[0].prompt += 1),
    ("mask 0", &["mask 0"], |b| b.receipt.document.masks.clear()),
    ("mask 1", &["mask 1"], |b| b.receipt.document.masks.push(b.receipt.document.masks[0])),
    ("fee", &["cumulative after", "fee", "fee and weights"], |b| b.receipt.document.reason = Reason::EngineFailure),
];

const EVIDENCE: &[Row] = &[
    ("answer root", &["answer root", "total weight W"], |b| b.answer = b.answer.replace("matters", "differs")),
    ("answer", &["answer"], |b| b.answer.push('\u{7}')),
    ("answer", &["answer", "answer root", "total weight W"], |b| b.answer.push_str("e\u{301}")),
    ("answer root", &["answer root"], |b| b.answer_salt.0[0] ^= 1),
    ("prompt root", &["prompt root", "request: prompt root"], |b| b.messages[1].content.push('?')),
    ("prompt root", &["prompt root", "request: prompt root"], |b| b.messages[0].role = Role::User),
    ("prompt root", &["prompt root", "request: prompt root"], |b| b.prompt_salt.0[0] ^= 1),
    ("message 1", &["message 1"], |b| b.messages[1].content.push('\u{7}')),
    ("token ids", &["token ids"], |b| b.token_ids[5] += 1),
    ("token ids", &["output tokens", "token ids"], |b| b.token_ids.push(1)),
    ("first token", &["first token", "token ids"], |b| b.continued.push(1)),
    ("first token", &["first token", "output tokens"], |b| b.continued = b.token_ids.drain(..3).collect()),
    ("manifest", &["manifest", "manifest root", "quote: manifest root", "request: manifest root"], |b| b.manifest.split.node -= 1),
    (
        "manifest: treasury of Datanet 1",
        &["manifest root", "manifest: treasury of Datanet 1", "quote: manifest root", "request: manifest root"],
        |b| b.manifest.datanets[1].treasury.0[0] ^= 1,
    ),
    ("manifest root", &["manifest root", "quote: manifest root", "request: manifest root"], |b| b.manifest.datanets[1].weight += 1),
    ("index root", &["index root", "manifest root", "quote: manifest root", "request: manifest root"], |b| b.manifest.index.0[0] ^= 1),
    ("parameter id", &["manifest root", "parameter id", "quote: manifest root", "request: manifest root"], |b| b.manifest.parameters = 2),
    ("span 1: Datanet", &["manifest root", "quote: manifest root", "request: manifest root", "span 1: Datanet"], |b| {
        b.manifest.datanets.truncate(1)
    }),
    ("quote hash", &["quote hash", "voucher: quote hash"], |b| b.quote.document.rate_out.0 += 1),
    ("quote: input rate", &["fee", "quote hash", "quote: input rate", "voucher: quote hash"], |b| b.quote.document.rate_in.0 *= 2),
    ("quote: output rate", &["fee", "quote hash", "quote: output rate", "voucher: quote hash"], |b| b.quote.document.rate_out.0 *= 2),
    ("quote hash", &["quote hash", "voucher: quote hash"], |b| b.quote.document.tokens_max += 1),
    ("output tokens", &["output tokens", "quote hash", "voucher: quote hash"], |b| b.quote.document.tokens_max = 1),
    ("quote: block", &["quote hash", "quote: block", "voucher: quote hash"], |b| b.quote.document.expiry = 1),
    ("quote: block", &["block", "quote hash", "quote: block", "voucher: quote hash"], |b| b.quote.document.block.number = 1_000),
    ("quote: manifest root", &["quote hash", "quote: manifest root", "voucher: quote hash"], |b| b.quote.document.manifest.0[0] ^= 1),
    ("quote: class", &["quote hash", "quote: class", "voucher: quote hash"], |b| b.quote.document.class = Class::Open),
    ("node", &["lane: node", "node", "quote hash", "quote: signature", "voucher: quote hash"], |b| b.quote.document.node.0[0] ^= 1),
    ("openings", &["openings"], |b| b.openings.truncate(1)),
    (
        "span 0: Datanet",
        &["span 0: Datanet", "span 0: document", "span 0: position", "span 1: Datanet", "span 1: document", "span 1: position"],
        |b| b.openings.swap(0, 1),
    ),
    ("span 0: document", &["span 0: document"], |b| b.openings[0].document.leaf.payee.0[0] ^= 1),
    ("span 0: document", &["span 0: document"], |b| b.openings[0].document.opening.index ^= 1),
    ("span 1: text", &["span 1: text"], |b| b.openings[1].text.as_mut().unwrap().leaf.0[70] ^= 1),
    ("span 1: segment", &["span 1: segment"], |b| b.openings[1].segment.leaf.length += 1),
    ("span 1: Datanet", &["span 1: Datanet"], |b| b.openings[1].datanet.leaf.version.version += 1),
    ("request: signature", &["options", "request: signature"], |b| b.request.document.sampling.top_k += 1),
    ("request: signature", &["options", "request: signature"], |b| b.request.document.options.0[0] ^= 1),
    ("request: signature", &["options", "request: signature"], |b| b.request.document.options = Hash32::ZERO),
    ("options", &["options"], |b| b.options.0[15] ^= 1),
    ("options", &["options"], |b| b.options.0.push(0)),
    ("options", &["options"], |b| b.options.0.clear()),
    ("request: signature", &["request id", "request: signature", "voucher: request id"], |b| b.request.document.nonce += 1),
    ("request: manifest root", &["request: manifest root", "request: signature"], |b| b.request.document.manifest.0[0] ^= 1),
    ("first token plus output tokens", &["first token plus output tokens", "request: signature"], |b| b.request.document.tokens_max = 1),
    ("fee", &["fee", "request: signature"], |b| b.request.document.spending_limit.0 = 1),
    ("lane: signature", &["lane", "lane: signature", "voucher: lane"], |b| b.lane.document.nonce += 1),
    ("lane: payer", &["lane", "lane: payer", "lane: signature", "voucher: lane", "voucher: signature"], |b| {
        b.lane.document.payer.0[0] ^= 1
    }),
    ("lane: node", &["lane", "lane: node", "lane: signature", "voucher: lane"], |b| b.lane.document.node.0[0] ^= 1),
    ("cumulative after", &["cumulative after", "lane", "lane: signature", "voucher: lane"], |b| b.lane.document.cap.0 = 1),
    ("quote: block", &["lane", "lane: signature", "quote: block", "voucher: lane"], |b| b.lane.document.expiry = 200),
    ("lane: signature", &["lane: signature", "voucher: signature"], |b| b.session = Some(Address([9; 20]))),
    ("voucher: signature", &["output tokens", "voucher: signature"], |b| b.voucher.document.tokens_out += 1),
    ("voucher: request id", &["voucher: request id", "voucher: signature"], |b| b.voucher.document.request.0[0] ^= 1),
    ("voucher: lane", &["voucher: lane", "voucher: signature"], |b| b.voucher.document.lane.0[0] ^= 1),
    ("voucher: cumulative", &["cumulative after", "voucher: cumulative", "voucher: signature"], |b| b.voucher.document.cumulative.0 = 0),
    ("request: signature", &["request: signature"], |b| b.domains.settlement.0[0] ^= 1),
    ("voucher: signature", &["lane: signature", "voucher: signature"], |b| b.domains.escrow.0[0] ^= 1),
    ("answer", &["answer"], |b| b.answer.push_str(&"a".repeat(65 << 10))),
    ("span 1: Datanet", &["manifest root", "quote: manifest root", "request: manifest root", "span 1: Datanet"], |b| {
        b.manifest.datanets[1].version.version += 1;
    }),
];

#[test]
fn a_session_key_may_sign_for_its_payer_where_the_bundle_names_it_and_nobody_else_may() {
    let honest = sample().bundle;
    let (client, session) = (honest.request.document.client, account(11));
    let mut bundle = honest.clone();
    bundle.session = Some(session.address());
    bundle.lane = Signed::new(&session, &bundle.domains, bundle.lane.document);
    bundle.voucher = Signed::new(&session, &bundle.domains, bundle.voucher.document);
    assert!(verify(&bundle).is_ok(), "the request by the client itself");
    assert_eq!(bundle.request_signer(), client);
    bundle.request = Signed::new(&session, &bundle.domains, bundle.request.document);
    assert!(verify(&bundle).is_ok(), "all three by the session key");
    assert_eq!(bundle.request_signer(), session.address());
    let unnamed = Bundle { session: None, ..bundle.clone() };
    assert!(verify(&unnamed).unwrap_err().to_string().contains("request: signature"));
    bundle.request = Signed::new(&account(12), &bundle.domains, bundle.request.document);
    assert!(verify(&bundle).unwrap_err().to_string().contains("request: signature"));
}

/// Changes that agree with each other wherever the node alone signs.
const CONSISTENT: &[Row] = &[
    // A dearer quote, billed as quoted.
    ("voucher: quote hash", &["cumulative after", "fee", "voucher: quote hash"], |b| {
        b.quote.document.rate_out.0 += 1_000_000;
        b.receipt.document.quote = b.quote.document.hash();
        rebill(b);
    }),
    // More tokens than were promised, billed.
    ("output tokens", &["cumulative after", "fee", "output tokens", "token ids", "token-id hash"], |b| {
        b.receipt.document.tokens_out += 1;
        b.token_ids.push(9);
        b.receipt.document.token_ids = token_ids_hash(&b.token_ids);
        rebill(b);
    }),
    // Another token, with its hash.
    ("token-id hash", &["token ids", "token-id hash"], |b| {
        b.token_ids[3] ^= 1;
        b.receipt.document.token_ids = token_ids_hash(&b.token_ids);
    }),
    // The first tokens passed off as another node's.
    ("first token", &["first token", "output tokens"], |b| {
        b.continued = b.token_ids.drain(..3).collect();
        b.receipt.document.first_token = 3;
    }),
    // A table that pays the node more, in every document that the node signs.
    ("request: manifest root", &["request: manifest root", "voucher: quote hash"], |b| {
        (b.manifest.split.node, b.manifest.split.data) = (6_500, 0);
        redeclare(b);
    }),
    // A Datanet's treasury that belongs to somebody.
    ("manifest: treasury of Datanet 0", &["manifest: treasury of Datanet 0", "request: manifest root", "voucher: quote hash"], |b| {
        b.manifest.datanets[0].treasury = Address([9; 20]);
        redeclare(b);
    }),
    // Another block's owners.
    ("voucher: quote hash", &["voucher: quote hash"], |b| {
        b.quote.document.block.number += 1;
        b.receipt.document.block = b.quote.document.block;
        b.receipt.document.quote = b.quote.document.hash();
    }),
    // A payee with a document row to match.
    ("span 0: document", &["span 0: document"], |b| {
        b.receipt.document.spans[0].payee = Address([9; 20]);
        b.openings[0].document.leaf.payee = Address([9; 20]);
    }),
    // A payee by a cluster head of the node's own making.
    ("span 0: document", &["span 0: document"], |b| {
        let mut document = b.openings[0].document.clone();
        document.leaf.payee = Address([9; 20]);
        b.receipt.document.spans[0].payee = Address([9; 20]);
        b.openings[0].head = Some(HeadOpenings { document, segment: b.openings[0].segment.clone() });
    }),
    // The same words sold twice.
    ("span 1: start", &["span 1: start"], |b| {
        b.receipt.document.spans.insert(1, b.receipt.document.spans[0]);
        b.openings.insert(1, b.openings[0].clone());
    }),
    // A span over nothing.
    ("span 2: length", &["span 2: length", "span 2: start"], |b| {
        let empty = Span { start: u32::try_from(ANSWER.len()).unwrap(), length: 0, weight: 0, ..b.receipt.document.spans[1] };
        b.receipt.document.spans.push(empty);
        b.openings.push(b.openings[1].clone());
    }),
    // A lighter W, so that each source weighs more.
    ("total weight W", &["total weight W"], |b| {
        b.receipt.document.weight_total = b.receipt.document.spans.iter().map(|span| u64::from(span.weight)).sum();
    }),
    // No mask, and its words counted.
    ("mask 0", &["mask 0", "total weight W"], |b| {
        b.receipt.document.masks.clear();
        let words = crate::span::weigh(Parameters::builtin(1).unwrap(), ANSWER);
        b.receipt.document.weight_total = words.iter().map(|word| u64::from(word.weight)).sum();
    }),
    // Words weighed otherwise, in the answer root too.
    ("answer root", &["answer root", "total weight W"], |b| {
        let mut words = crate::span::weigh(Parameters::builtin(1).unwrap(), ANSWER);
        words[0].weight += 1;
        b.receipt.document.weight_total += 1;
        b.receipt.document.answer_root = crate::answer::answer_root(ANSWER, &words, b.answer_salt);
    }),
    // Another account's signature on everything of the node's.
    ("voucher: quote hash", &["lane: node", "quote: signature", "receipt: signature", "voucher: quote hash"], |b| {
        let other = account(9).address();
        (b.receipt.document.node, b.quote.document.node) = (other, other);
        b.receipt.document.quote = b.quote.document.hash();
    }),
    // Another question with its own root.
    ("request: prompt root", &["request: prompt root"], |b| {
        b.messages[1].content = "What is gout?".into();
        b.receipt.document.prompt_root = types::text::prompt_root(&crate::prompt::prompt_bytes(&b.messages), b.prompt_salt);
        b.receipt.document.masks.clear();
        let words = crate::span::weigh(Parameters::builtin(1).unwrap(), ANSWER);
        b.receipt.document.weight_total = words.iter().map(|word| u64::from(word.weight)).sum();
    }),
    // The fee of an answer that failed, kept.
    ("fee", &["fee", "fee and weights"], |b| {
        b.receipt.document.reason = Reason::Empty;
        b.receipt.document.cumulative_after = b.voucher.document.base;
    }),
    // Parameters that nobody knows.
    ("parameter id", &["parameter id", "request: manifest root", "voucher: quote hash"], |b| {
        (b.manifest.parameters, b.receipt.document.parameters) = (2, 2);
        redeclare(b);
    }),
    // A span of the first Datanet under the second's number, declared twice.
    (
        "span 0: Datanet",
        &["manifest: treasury of Datanet 1", "request: manifest root", "span 0: Datanet", "span 1: Datanet", "voucher: quote hash"],
        |b| {
            b.manifest.datanets[1].version = b.manifest.datanets[0].version;
            b.receipt.document.spans[0].datanet = 1;
            redeclare(b);
        },
    ),
];

#[test]
fn each_changed_field_of_a_receipt_is_named_although_the_node_signed_it() {
    check(RECEIPT);
}

#[test]
fn changed_evidence_is_named_as_well() {
    check(EVIDENCE);
}

#[test]
fn changes_that_agree_with_each_other_contradict_the_client_or_the_index() {
    check(CONSISTENT);
}

/// What the node alone signs and nothing in the bundle derives. `receipt verify` says so; another text is found by reading the tokens.
#[test]
fn a_text_of_the_node_s_own_is_found_by_reading_the_tokens() {
    let sample = sample();
    let text = "Nothing that the tokens say, and nothing that anybody contributed.";
    let mut bundle = Bundle { answer: text.into(), openings: vec![], ..sample.bundle.clone() };
    let found = crate::span::attribute(
        &sample.index,
        Parameters::builtin(1).unwrap(),
        &crate::prompt::prompt_bytes(&bundle.messages),
        &bundle.answer,
    )
    .unwrap();
    let receipt = &mut bundle.receipt.document;
    receipt.answer_root = crate::answer::answer_root(text, &found.words, bundle.answer_salt);
    (receipt.spans, receipt.masks, receipt.weight_total) = (found.spans, found.masks, found.weight_total);
    sample.resign(&mut bundle);
    assert!(verify_full(&bundle, &sample.index).is_ok(), "no tokenizer, no difference");
    let honest = Reading { answer: ANSWER.into(), prompt_tokens: 40 };
    assert_eq!(compare_reading(&sample.bundle, &honest), Ok(()));
    let faults = compare_reading(&bundle, &honest).unwrap_err();
    assert_eq!((faults.0[0].field.as_str(), faults.0[0].finding, faults.0[0].position), ("answer", Finding::Text, 0));
    let miscounted = compare_reading(&sample.bundle, &Reading { prompt_tokens: 39, ..honest }).unwrap_err();
    assert_eq!(miscounted.to_string(), "input tokens is 40, prompt and earlier tokens are 39");
}

/// A node may say that it failed: then it is paid nothing, and nobody loses by its word.
#[test]
fn a_failure_that_bills_nothing_stands_on_the_node_s_word() {
    let sample = sample();
    let mut bundle = sample.bundle.clone();
    let receipt = &mut bundle.receipt.document;
    (receipt.reason, receipt.fee, receipt.cumulative_after) = (Reason::EngineFailure, Amount::ZERO, bundle.voucher.document.base);
    sample.resign(&mut bundle);
    assert_eq!(verify(&bundle).unwrap().parts, []);
}

/// What a request asks beyond its own three fields is signed for; a bundle of a request that asks for no more carries none.
#[test]
fn a_bundle_carries_the_options_its_request_names_and_none_if_it_names_none() {
    let sample = sample();
    let refused = |bundle: &Bundle| {
        let faults = verify(bundle).unwrap_err().0;
        let fault = faults.into_iter().find(|fault| fault.field == "options").unwrap();
        assert_eq!(fault.finding, Finding::Signature);
        fault.problem
    };
    let asked = sample.bundle.request.document;
    assert_eq!(asked.asked(&sample.bundle.options.0).map(|options| options.digest()), Ok(asked.options));
    let resigned = |bundle: &mut Bundle, change: fn(&mut Request)| {
        change(&mut bundle.request.document);
        bundle.request = Signed::new(&account(8), &bundle.domains, bundle.request.document);
    };
    let mut other = sample.bundle.clone();
    other.options.0[19] ^= 1;
    assert!(refused(&other).contains("the request names"), "{}", refused(&other));
    let mut bare = Bundle { options: Body::default(), ..sample.bundle.clone() };
    assert!(refused(&bare).contains("none came"));
    // The client signs for none: then the same bytes are too many, and without them all stands.
    resigned(&mut bare, |request| request.options = Hash32::ZERO);
    verify(&bare).unwrap();
    assert!(!bare.to_json().contains("\"options\": \"0x\""), "nothing is not written down");
    assert_eq!(Bundle::from_json(bare.to_json().as_bytes()).unwrap(), bare);
    let unasked = Bundle { options: sample.bundle.options.clone(), ..bare };
    assert!(refused(&unasked).contains("names no options"));
    // Two temperatures signed for are no request.
    let mut torn = sample.bundle.clone();
    resigned(&mut torn, |request| request.sampling.temperature_milli += 1);
    assert!(refused(&torn).contains("must be the same"));
}

#[test]
fn an_answer_that_goes_on_names_the_tokens_before_it() {
    let sample = sample();
    let mut bundle = sample.bundle.clone();
    bundle.continued = bundle.token_ids.drain(..20).collect();
    let voucher = &mut bundle.voucher.document;
    (voucher.first_token, voucher.tokens_out, voucher.attempt) = (20, 40, 1);
    let receipt = &mut bundle.receipt.document;
    (receipt.first_token, receipt.tokens_out, receipt.attempt) = (20, 40, 1);
    rebill(&mut bundle);
    bundle.voucher.document.cumulative = bundle.receipt.document.cumulative_after;
    bundle.voucher = Signed::new(&account(8), &bundle.domains, bundle.voucher.document);
    sample.resign(&mut bundle);
    verify(&bundle).unwrap();
    assert_eq!(Bundle::from_json(bundle.to_json().as_bytes()).unwrap(), bundle);
    for (change, field) in [
        ((|b| b.continued[7] ^= 1) as Change, "token ids"),
        (|b| b.continued.clear(), "token ids"),
        (|b| b.continued.truncate(19), "first token"),
        (|b| b.continued.push(0), "first token"),
        (|b| b.continued.swap(0, 1), "token ids"),
    ] {
        let mut changed = bundle.clone();
        change(&mut changed);
        let faults = verify(&changed).unwrap_err();
        assert!(faults.0.iter().any(|fault| fault.field == field), "{field}: {faults}");
    }
}

/// The sample as a node of the profile `fast` makes it.
fn in_fast() -> Sample {
    let (mut sample, client) = (sample(), account(8));
    let bundle = &mut sample.bundle;
    let (receipt, request) = (&mut bundle.receipt.document, &mut bundle.request.document);
    (receipt.profile, request.profile, bundle.quote.document.profile) = (Profile::Fast, Profile::Fast, Profile::Fast);
    let numbers = (1..).take(usize::try_from(fingerprint::count(receipt.tokens_out)).unwrap());
    bundle.fingerprints = numbers.map(|number| Fingerprint::new(65_497, &[number, 7]).unwrap()).collect();
    receipt.fingerprint_root = fingerprint::root(&bundle.fingerprints);
    receipt.quote = bundle.quote.document.hash();
    bundle.voucher.document.quote = receipt.quote;
    bundle.request = Signed::new(&client, &bundle.domains, bundle.request.document);
    bundle.voucher = Signed::new(&client, &bundle.domains, bundle.voucher.document);
    let mut bundle = sample.bundle.clone();
    sample.resign(&mut bundle);
    Sample { bundle, ..sample }
}

#[test]
fn a_fast_receipt_names_the_root_of_fingerprints_that_are_as_many_as_its_tokens_have() {
    let sample = in_fast();
    verify(&sample.bundle).unwrap();
    assert_eq!(Bundle::from_json(sample.bundle.to_json().as_bytes()).unwrap(), sample.bundle);
    let changes: [(&str, Change); 6] = [
        ("fingerprint root", |b| b.fingerprints[0] = Fingerprint::new(65_497, &[9, 9]).unwrap()),
        ("fingerprint root", |b| b.receipt.document.fingerprint_root = Hash32::ZERO),
        ("fingerprints", |b| b.fingerprints.push(b.fingerprints[0].clone())),
        ("fingerprints", |b| {
            b.fingerprints.push(b.fingerprints[0].clone());
            b.receipt.document.fingerprint_root = fingerprint::root(&b.fingerprints);
        }),
        ("fingerprints", |b| {
            b.fingerprints.clear();
            b.receipt.document.fingerprint_root = Hash32::ZERO;
        }),
        // A profile without them does not carry what nothing was compared with.
        ("fingerprints", |b| b.receipt.document.profile = Profile::Exact),
    ];
    for (number, (field, change)) in changes.iter().enumerate() {
        let mut bundle = sample.bundle.clone();
        change(&mut bundle);
        sample.resign(&mut bundle);
        let faults = verify(&bundle).unwrap_err();
        let named = faults.0.iter().find(|fault| fault.field == *field);
        assert_eq!(named.map(|fault| fault.finding), Some(Finding::Activations), "change {number}: {faults}");
    }
    // Read no further than a receipt can have them.
    let mut long: Value = serde_json::from_str(&sample.bundle.to_json()).unwrap();
    long["fingerprints"] = json!(vec!["0x00070001"; FINGERPRINTS_MAX + 1]);
    assert!(Bundle::from_json(long.to_string().as_bytes()).unwrap_err().to_string().contains("more than 4096 items"));
}

/// Every number and string of the file, changed one at a time; the node signs again what it may sign.
#[test]
fn no_value_of_the_file_can_change_unseen() {
    let sample = sample();
    let whole: Value = serde_json::from_str(&sample.bundle.to_json()).unwrap();
    let mut places = Vec::new();
    leaves(&whole, "", &mut places);
    let mut tried = 0;
    for place in places {
        // Why an answer ended is the node's word alone; its own signatures are made again below; no document of a bundle is signed for the other two
        // contracts.
        let words = ["/receipt/document/reason"];
        let signed = ["/receipt/signature", "/quote/signature", "/domains/registry", "/domains/stake"];
        if words.iter().chain(&signed).any(|own| *own == place) {
            continue;
        }
        let mut changed = whole.clone();
        change(changed.pointer_mut(&place).unwrap());
        let Ok(mut bundle) = Bundle::from_json(changed.to_string().as_bytes()) else { continue };
        assert_ne!(bundle, sample.bundle, "{place}");
        sample.resign(&mut bundle);
        assert!(verify(&bundle).is_err(), "{place} changed unseen");
        tried += 1;
    }
    assert!(tried > 200, "{tried}");
}

fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found)),
        Value::Array(list) => list.iter().enumerate().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found)),
        _ => found.push(path.to_owned()),
    }
}

fn change(value: &mut Value) {
    *value = match value {
        Value::Number(n) => Value::from(n.as_u64().unwrap() ^ 1),
        Value::String(s) => {
            let last = s.pop().unwrap_or('0');
            s.push(if last == '0' { '1' } else { '0' });
            Value::from(s.clone())
        }
        other => panic!("no leaf: {other}"),
    };
}

#[test]
fn unknown_keys_are_refused_wherever_they_stand() {
    let whole: Value = serde_json::from_str(&sample().bundle.to_json()).unwrap();
    let mut objects = vec![String::new()];
    let mut tried = 0;
    while let Some(place) = objects.pop() {
        let value = whole.pointer(&place).unwrap();
        let children: Vec<String> = match value {
            Value::Object(map) => map.keys().map(|key| format!("{place}/{key}")).collect(),
            Value::Array(list) => (0..list.len()).map(|at| format!("{place}/{at}")).collect(),
            _ => Vec::new(),
        };
        objects.extend(children);
        if value.is_object() {
            let mut changed = whole.clone();
            changed.pointer_mut(&place).unwrap().as_object_mut().unwrap().insert("extra".into(), Value::from(1));
            assert!(Bundle::from_json(changed.to_string().as_bytes()).is_err(), "an unknown key under {place:?} was read");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried}");
    assert!(Bundle::from_json(b"{}").is_err());
}

#[test]
fn an_omitted_span_shows_in_the_full_search_only() {
    let sample = sample();
    let mut bundle = sample.bundle.clone();
    bundle.receipt.document.spans.remove(0);
    bundle.openings.remove(0);
    sample.resign(&mut bundle);
    assert!(verify(&bundle).is_ok());
    let faults = verify_full(&bundle, &sample.index).unwrap_err();
    assert!(faults.to_string().starts_with("spans omit"), "{faults}");
}

#[test]
fn a_later_holder_and_a_shortened_span_show_in_the_full_search() {
    let sample = sample();
    let mut bundle = sample.bundle.clone();
    let span = &mut bundle.receipt.document.spans[0];
    let text = &ANSWER[span.start as usize..][..usize::from(span.length)];
    let segment = &sample.index.datanets()[0].segments()[0];
    let later = segment.array().slice(segment.range(text.as_bytes())).iter().max().unwrap();
    assert_ne!(u64::from(later), span.position, "the copy stands later");
    span.position = later.into();
    bundle.openings[0] = sample.index.open_span(0, later.into()).unwrap();
    span.payee = bundle.openings[0].document.leaf.payee;
    sample.resign(&mut bundle);
    assert!(verify(&bundle).is_ok(), "{:?}", verify(&bundle));
    assert!(verify_full(&bundle, &sample.index).unwrap_err().to_string().starts_with("span 0 is"));

    let mut bundle = sample.bundle.clone();
    let span = &mut bundle.receipt.document.spans[1];
    let words = crate::span::weigh(Parameters::builtin(1).unwrap(), ANSWER);
    let last = words.iter().find(|word| word.range.end == span.start as usize + usize::from(span.length)).unwrap();
    span.length -= u16::try_from(last.range.len() + 1).unwrap();
    span.weight -= last.weight;
    sample.resign(&mut bundle);
    assert!(verify(&bundle).is_ok(), "{:?}", verify(&bundle));
    assert!(verify_full(&bundle, &sample.index).unwrap_err().to_string().starts_with("span 1 is"));
}

#[test]
fn a_span_into_the_middle_of_a_word_and_one_over_a_mask_are_refused() {
    let sample = sample();
    let index =
        Index::new(vec![datanet(3, &[(0xa1, "presensorineural hearing impairment of congenital onset affecting speech development")])])
            .unwrap();
    let mut bundle = answer(&sample.node, &index, 1, ANSWER);
    let found = bundle.receipt.document.spans.clone();
    assert_eq!(found.len(), 1, "from the second word on");
    let first = ANSWER.find("sensorineural").unwrap();
    let added = found[0].start - u32::try_from(first).unwrap();
    let parameters = Parameters::builtin(1).unwrap();
    let span = &mut bundle.receipt.document.spans[0];
    span.start -= added;
    span.length += u16::try_from(added).unwrap();
    span.position -= u64::from(added);
    span.weight += parameters.weight("sensorineural");
    bundle.openings[0] = index.open_span(0, span.position).unwrap();
    sample.resign(&mut bundle);
    let faults = verify(&bundle).unwrap_err();
    assert_eq!(faults.to_string(), "span 0: position is 3, inside a word of the document");

    let index = Index::new(vec![datanet(3, &[(0xa1, "an unusual combination of questions from rather different disciplines")])]).unwrap();
    let mut bundle = answer(&sample.node, &index, 1, ANSWER);
    assert!(bundle.receipt.document.spans.is_empty());
    let mask = bundle.receipt.document.masks[0];
    let text = &ANSWER[mask.start as usize..][..mask.length as usize];
    let weight = text.split(' ').map(|word| parameters.weight(word)).sum();
    let holder = index.holder(text.as_bytes()).unwrap();
    bundle.receipt.document.spans.push(Span {
        start: mask.start,
        length: u16::try_from(mask.length).unwrap(),
        datanet: 0,
        position: holder.position,
        weight,
        payee: holder.payee,
    });
    bundle.openings.push(index.open_span(0, holder.position).unwrap());
    sample.resign(&mut bundle);
    assert!(verify(&bundle).unwrap_err().to_string().contains("covers words that stand in the prompt"));
}

#[test]
fn a_leaf_longer_than_any_text_leaf_is_not_read() {
    let opening = sample().bundle.openings[0].text.clone().unwrap().opening;
    let is_read = |bytes| {
        let leaf = Opened { leaf: TextLeaf(vec![0; bytes]), opening: opening.clone() };
        serde_json::from_str::<Opened<TextLeaf>>(&serde_json::to_string(&leaf).unwrap()).is_ok()
    };
    assert!(is_read(352) && !is_read(353), "a salt and the text");
    let of = |bytes, is_private| TextLeaf(vec![0; bytes]).text(is_private).map(<[u8]>::len);
    assert_eq!([of(320, false), of(321, false), of(352, true), of(31, true), of(32, true)], [Some(320), None, Some(320), None, Some(0)]);
}

/// Puts `value` at `place` of the sample's file and returns why it is not read.
fn unread(place: &str, value: Value) -> String {
    let mut whole: Value = serde_json::from_str(&sample().bundle.to_json()).unwrap();
    *whole.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value;
    Bundle::from_json(whole.to_string().as_bytes()).map_or_else(|error| error.to_string(), |_| panic!("{place} was read"))
}

#[test]
fn values_that_no_document_holds_are_refused_by_the_field_s_name() {
    let many = |value: Value, count: usize| Value::Array(vec![value; count]);
    let span = serde_json::to_value(sample().bundle.receipt.document.spans[0]).unwrap();
    let mask = serde_json::to_value(sample().bundle.receipt.document.masks[0]).unwrap();
    let rows = [
        ("/receipt/document/spans/1/start", json!("7"), "receipt.document.spans[1].start: invalid type: string"),
        ("/receipt/document/spans/1/start", json!(-7), "receipt.document.spans[1].start: invalid value: integer `-7`"),
        ("/receipt/document/spans/0/length", json!(65_536), "receipt.document.spans[0].length: invalid value"),
        (
            "/receipt/document/spans/0/position",
            json!(1_u64 << 40),
            "receipt.document.spans[0].position: 1099511627776 does not fit 40 bits",
        ),
        ("/receipt/document/spans/0/weight", json!(1.5), "receipt.document.spans[0].weight: invalid type: floating point"),
        ("/receipt/document/spans", many(span, 1_025), "receipt.document.spans[1024]: more than 1024"),
        ("/receipt/document/masks", many(mask, 1_025), "receipt.document.masks[1024]: more than 1024"),
        (
            "/manifest/datanets",
            many(json!({"version": {"asset": 1, "version": 1}, "treasury": Address::ZERO, "weight": 1}), 33),
            "more than 32",
        ),
        ("/receipt/document/fee", json!(5), "receipt.document.fee: invalid type: integer"),
        ("/receipt/document/fee", json!("-5"), "receipt.document.fee: "),
        ("/receipt/document/fee", json!("340282366920938463463374607431768211456"), "receipt.document.fee: "),
        ("/voucher/document/tokens_in", json!(4_294_967_296_u64), "voucher.document.tokens_in: invalid value"),
        ("/token_ids/59", json!(null), "token_ids[59]: invalid type: null"),
        ("/messages/0/role", json!("robot"), "messages[0].role: unknown variant"),
        ("/openings/1/text/opening/siblings/0", json!("0x12"), "openings[1].text.opening.siblings[0]: "),
        ("/openings/0/document/leaf/start", json!(1_u64 << 40), "openings[0].document.leaf.start: "),
        ("/answer", json!({}), "answer: invalid type: map"),
        ("/receipt/document", json!({}), "receipt.document: missing field `request`"),
        ("/quote", json!([]), "quote[0]: invalid length"),
    ];
    for (place, value, says) in rows {
        let error = unread(place, value);
        assert!(
            error.contains(&format!("the file is no bundle: {says}")) || (says.starts_with("more") && error.contains(says)),
            "{place}: {error}"
        );
    }
}

#[test]
fn hostile_json_is_refused_in_words_whatever_its_shape() {
    let whole = sample().bundle.to_json();
    let says = |text: &str, expected: &str| {
        let error = Bundle::from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    };
    says("", "EOF");
    says("null", "the file is no bundle: invalid type: null");
    says(&"[".repeat(1 << 20), "the file is no bundle");
    says(&"{\"a\":".repeat(1 << 20), "unknown field `a`");
    says(&whole.replacen("\"answer\": \"", "\"answer\": [[[[[[\"", 1), "answer: invalid type: sequence");
    says(&whole.replacen("\"answer\":", "\"answer\": \"twice\", \"answer\":", 1), "answer: duplicate field `answer`");
    says(&whole.replacen("\"weight\":", "\"weight\": 1, \"weight\":", 1), "duplicate field `weight`");
    says(&whole.replacen("\"weight\":", "\"wei\\\"ght\": 1, \"weight\":", 1), "unknown field `wei\"ght`");
    says(&whole[..whole.len() / 2], "EOF");
    says(&format!("{whole}{{}}"), "trailing characters");
    assert!(matches!(Bundle::from_json(&vec![b' '; BUNDLE_BYTES_MAX + 1]), Err(BundleError::TooLong(_))));
    let error = Bundle::from_json(b"{").unwrap_err();
    assert!(std::error::Error::source(&error).is_none(), "its words are in the error's own, once");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_file_changed_anywhere_is_read_and_verified_without_a_panic(at in 0..1_000_000_usize, byte in any::<u8>(), length in 0..6_usize) {
        let mut bytes = sample().bundle.to_json().into_bytes();
        let at = at % bytes.len();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, [byte]);
        if let Ok(bundle) = Bundle::from_json(&bytes) {
            let _ = verify(&bundle);
        }
    }

    #[test]
    fn numbers_at_their_ends_are_verified_without_a_panic(place in any::<proptest::sample::Index>(), value in prop_oneof![Just(0), Just(u64::from(u8::MAX)), Just(u64::from(u16::MAX)), Just(u64::from(u32::MAX)), Just((1 << 40) - 1), Just(u64::MAX)]) {
        let mut whole: Value = serde_json::from_str(&sample().bundle.to_json()).unwrap();
        let mut places = Vec::new();
        leaves(&whole, "", &mut places);
        places.retain(|place| whole.pointer(place).is_some_and(Value::is_number));
        *whole.pointer_mut(&places[place.index(places.len())]).unwrap() = value.into();
        if let Ok(bundle) = Bundle::from_json(whole.to_string().as_bytes()) {
            let _ = verify(&bundle);
        }
    }
}

#[test]
fn of_a_private_datanet_a_bundle_shows_place_and_payee_and_its_text_to_grant_holders_alone() {
    let sample = private_sample();
    let mut bundle = sample.bundle.clone();
    let shown: Vec<bool> = bundle.openings.iter().map(|open| open.text.is_some()).collect();
    assert_eq!(shown, [false, true], "the first span stands in the private Datanet");
    let file = bundle.to_json();
    let hidden = sample.index.open_span(0, bundle.receipt.document.spans[0].position).unwrap().text.unwrap();
    assert!(!file.contains(&hex::encode(&hidden.leaf.0[..32])), "no salt is shown");
    assert_eq!(Bundle::from_json(file.as_bytes()).unwrap(), bundle);
    assert_eq!(verify(&bundle).unwrap().unseen, [0]);
    assert_eq!(verify_full(&bundle, &sample.index).unwrap().unseen, Vec::<u32>::new());
    // With the leaf that a grant holder opens the bundle shows the words by itself.
    bundle.openings[0].text = Some(hidden);
    assert_eq!(verify(&bundle).unwrap().unseen, Vec::<u32>::new());
    bundle.openings[0].text.as_mut().unwrap().leaf.0[60] ^= 1;
    assert!(verify(&bundle).unwrap_err().to_string().starts_with("span 0: text shown does not lead"));
    // What does not show by itself is found by who has the index.
    let mut later = sample.bundle.clone();
    later.receipt.document.spans[0].position += 1;
    sample.resign(&mut later);
    assert_eq!(verify(&later).unwrap().unseen, [0]);
    assert!(verify_full(&later, &sample.index).unwrap_err().to_string().starts_with("span 0 is"));
}
