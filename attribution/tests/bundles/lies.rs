//! Lies about honest answers, signed by the node that tells them, each with the field that must be named first.

use attribution::{
    bundle::Bundle,
    index::{HeadOpenings, Opened, TextLeaf},
    parameters::Parameters,
    span::{Word, weigh},
};
use types::{
    encoding::Document as _,
    id::{Address, Hash32},
    key::Signed,
    quote::{Class, Profile},
    receipt::{Reason, Span, token_ids_hash},
    split,
};

use crate::honest::{ANSWER, USUAL, account, index, node, over};

/// In the place of a field: nothing in the bundle contradicts the lie.
pub(crate) const STANDS: &str = "";

/// Name, honest answer it is about, field named first, what is changed before receipt and quote are signed again.
type Row = (&'static str, &'static str, &'static str, fn(&mut Bundle));

/// The same of the file's text, which no signature covers.
type FileRow = (&'static str, &'static str, fn(&str) -> String);

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

fn words() -> Vec<Word> {
    weigh(Parameters::builtin(1).unwrap(), ANSWER)
}

/// The words that `span` covers.
fn words_of(span: Span) -> Vec<Word> {
    let (start, end) = (span.start as usize, span.start as usize + usize::from(span.length));
    words().into_iter().filter(|word| word.range.start >= start && word.range.end <= end).collect()
}

pub(crate) const SIGNED: &[Row] = &[
    ("span-start-in-a-word", USUAL, "span 0: start", |b| b.receipt.document.spans[0].start += 1),
    ("span-end-in-a-word", USUAL, "span 1: length", |b| b.receipt.document.spans[1].length += 1),
    ("span-of-nothing", USUAL, "span 1: length", |b| b.receipt.document.spans[1].length = 0),
    ("span-beyond-the-answer", USUAL, "span 1: length", |b| b.receipt.document.spans[1].length = u16::MAX),
    ("span-of-five-words", USUAL, "span 1: length", |b| {
        let span = &mut b.receipt.document.spans[1];
        let words = &words_of(*span)[..5];
        span.length = u16::try_from(words[4].range.end - words[0].range.start).unwrap();
        span.weight = words.iter().map(|word| word.weight).sum();
    }),
    ("span-over-a-sentence-s-end", USUAL, "span 1: length", |b| {
        let span = &mut b.receipt.document.spans[1];
        span.length = u16::try_from(ANSWER.find("You asked").unwrap() + 3 - span.start as usize).unwrap();
        span.weight = words_of(*span).iter().map(|word| word.weight).sum();
    }),
    ("span-over-a-mask", USUAL, "span 2: start", |b| {
        let mask = b.receipt.document.masks[0];
        let mut span = Span { start: mask.start, length: u16::try_from(mask.length).unwrap(), ..b.receipt.document.spans[1] };
        span.weight = words_of(span).iter().map(|word| word.weight).sum();
        b.receipt.document.spans.push(span);
        b.openings.push(b.openings[1].clone());
    }),
    ("span-weight", USUAL, "span 1: weight", |b| b.receipt.document.spans[1].weight -= 1),
    ("span-weight-beyond-the-pot", USUAL, "fee and weights", |b| b.receipt.document.spans[0].weight = u32::MAX),
    ("span-payee", USUAL, "span 0: payee", |b| b.receipt.document.spans[0].payee.0[3] ^= 1),
    ("span-position-in-another-leaf", USUAL, "span 0: position", |b| b.receipt.document.spans[0].position += 64),
    ("span-position-beside", USUAL, "span 0: text", |b| b.receipt.document.spans[0].position += 1),
    ("span-position-outside", USUAL, "span 0: position", |b| b.receipt.document.spans[0].position = (1 << 40) - 1),
    ("span-of-the-other-datanet", USUAL, "span 0: Datanet", |b| b.receipt.document.spans[0].datanet = 1),
    ("span-of-no-datanet", USUAL, "span 0: Datanet", |b| b.receipt.document.spans[0].datanet = 9),
    ("span-in-a-word-of-the-document", USUAL, "span 0: position", |b| {
        let index = index(&[(3, &[&[(0xa1, "presensorineural hearing impairment of congenital onset affecting speech development")]])]);
        let (start, root) = (ANSWER.find("sensorineural").unwrap(), index.root());
        *b = over(index, ANSWER);
        assert_eq!((b.receipt.document.spans.len(), b.receipt.document.index), (1, root), "from the second word on");
        let span = &mut b.receipt.document.spans[0];
        let added = span.start - u32::try_from(start).unwrap();
        (span.start, span.position) = (span.start - added, span.position - u64::from(added));
        span.length += u16::try_from(added).unwrap();
        span.weight = words_of(*span).iter().map(|word| word.weight).sum();
    }),
    ("spans-out-of-order", USUAL, "span 0: Datanet", |b| b.receipt.document.spans.swap(0, 1)),
    ("words-sold-twice", USUAL, "span 1: start", |b| {
        b.receipt.document.spans.insert(1, b.receipt.document.spans[0]);
        b.openings.insert(1, b.openings[0].clone());
    }),
    ("span-without-an-opening", USUAL, "openings", |b| b.openings.truncate(1)),
    ("total-weight", USUAL, "total weight W", |b| {
        b.receipt.document.weight_total = b.receipt.document.spans.iter().map(|span| u64::from(span.weight)).sum();
    }),
    ("words-weighed-otherwise", USUAL, "answer root", |b| {
        let mut words = words();
        words[0].weight += 1;
        b.receipt.document.weight_total += 1;
        b.receipt.document.answer_root = attribution::answer::answer_root(ANSWER, &words, b.answer_salt);
    }),
    ("mask-left-out", "masks-and-han", "mask 1", |b| {
        b.receipt.document.masks.remove(1);
    }),
    ("mask-elsewhere-in-the-prompt", "masks-and-han", "mask 0", |b| b.receipt.document.masks[0].prompt += 1),
    ("mask-too-many", "masks-and-han", "mask 3", |b| b.receipt.document.masks.push(b.receipt.document.masks[0])),
    ("total-weight-over-han-words", "masks-and-han", "total weight W", |b| b.receipt.document.weight_total -= 1),
    ("fee", USUAL, "fee", |b| b.receipt.document.fee.0 += 1),
    ("fee-of-a-failure", USUAL, "fee", |b| {
        b.receipt.document.reason = Reason::Empty;
        b.receipt.document.cumulative_after = b.voucher.document.base;
    }),
    ("lane-used-up-by-a-failure", "unbilled", "cumulative after", |b| b.receipt.document.cumulative_after = b.voucher.document.cumulative),
    ("more-tokens-than-promised", USUAL, "output tokens", |b| {
        b.receipt.document.tokens_out += 1;
        b.token_ids.push(9);
        b.receipt.document.token_ids = token_ids_hash(&b.token_ids);
        rebill(b);
    }),
    ("another-token", USUAL, "token-id hash", |b| {
        b.token_ids[3] ^= 1;
        b.receipt.document.token_ids = token_ids_hash(&b.token_ids);
    }),
    ("tokens-passed-off-as-another-s", USUAL, "first token", |b| {
        b.continued = b.token_ids.drain(..3).collect();
        b.receipt.document.first_token = 3;
    }),
    ("continued-tokens-dropped", "fast-session", "token ids", |b| b.continued.clear()),
    ("dearer-quote", USUAL, "voucher: quote hash", |b| {
        b.quote.document.rate_out.0 += 1_000_000;
        b.receipt.document.quote = b.quote.document.hash();
        rebill(b);
    }),
    ("expired-quote", USUAL, "quote hash", |b| b.quote.document.expiry = 1),
    ("table-that-pays-the-node-more", USUAL, "voucher: quote hash", |b| {
        (b.manifest.split.node, b.manifest.split.data) = (6_500, 0);
        redeclare(b);
    }),
    ("table-that-is-not-whole", USUAL, "manifest root", |b| b.manifest.split.node -= 1),
    ("treasury-of-somebody", USUAL, "voucher: quote hash", |b| {
        b.manifest.datanets[0].treasury = Address([9; 20]);
        redeclare(b);
    }),
    ("unknown-parameters", USUAL, "voucher: quote hash", |b| {
        (b.manifest.parameters, b.receipt.document.parameters) = (2, 2);
        redeclare(b);
    }),
    ("index-root", "no-match", "index root", |b| b.receipt.document.index.0[0] ^= 1),
    ("assets-out-of-order", USUAL, "assets", |b| b.receipt.document.assets.swap(0, 1)),
    ("class", USUAL, "class", |b| b.receipt.document.class = Class::Open),
    ("block", USUAL, "block", |b| b.receipt.document.block.number += 1),
    ("profile-without-fingerprints", USUAL, "profile", |b| b.receipt.document.profile = Profile::Fast),
    ("fingerprint-left-out", "fast-session", "fingerprint root", |b| {
        b.fingerprints.pop();
    }),
    ("fingerprints-of-a-failure", "fast-session", "fingerprint root", |b| {
        (b.receipt.document.reason, b.receipt.document.fee.0) = (Reason::EngineFailure, 0);
        b.receipt.document.cumulative_after = b.voucher.document.base;
    }),
    ("answer-changed", USUAL, "answer root", |b| b.answer = b.answer.replace("matters", "differs")),
    ("answer-decomposed", "masks-and-han", "answer", |b| b.answer = b.answer.replace('ï', "i\u{308}")),
    ("message-with-a-control-character", USUAL, "message 1", |b| b.messages[1].content.push('\u{7}')),
    ("question-changed", USUAL, "prompt root", |b| b.messages[1].content = "What is gout?".into()),
    ("options-changed", USUAL, "options", |b| b.options.0[15] ^= 1),
    ("options-that-nobody-signed", "fast-session", "options", |b| b.options.0.push(0)),
    ("session-left-out", "fast-session", "request: signature", |b| b.session = None),
    ("foreign-deployment", USUAL, "lane: signature", |b| b.domains.escrow.0[0] ^= 1),
    ("lane-of-a-small-cap", USUAL, "lane: signature", |b| b.lane.document.cap.0 = 1),
    ("row-that-pays-another", USUAL, "span 0: document", |b| {
        b.receipt.document.spans[0].payee = Address([9; 20]);
        b.openings[0].document.leaf.payee = Address([9; 20]);
    }),
    ("cluster-of-the-node-s-making", USUAL, "span 0: document", |b| {
        let mut document = b.openings[0].document.clone();
        document.leaf.payee = Address([9; 20]);
        b.receipt.document.spans[0].payee = Address([9; 20]);
        b.openings[0].head = Some(HeadOpenings { document, segment: b.openings[0].segment.clone() });
    }),
    ("cluster-left-out", "cluster-in-one-segment", "span 0: document", |b| {
        b.openings[0].head = None;
        b.receipt.document.spans[0].payee = b.openings[0].document.leaf.payee;
    }),
    // A row's number in its Datanet is known from its openings in the first segment only: in a later one the search of the whole index tells.
    ("cluster-left-out-in-a-later-segment", "cluster-in-two-segments", STANDS, |b| {
        b.openings[0].head = None;
        b.receipt.document.spans[0].payee = b.openings[0].document.leaf.payee;
    }),
    ("copy-paid-for-itself", "cluster-in-two-segments", "span 0: payee", |b| {
        b.receipt.document.spans[0].payee = b.openings[0].document.leaf.payee;
    }),
    ("text-leaf-changed", USUAL, "span 1: text", |b| shown(b, 1).leaf.0[70] ^= 1),
    ("segment-longer", USUAL, "span 1: segment", |b| b.openings[1].segment.leaf.length += 1),
    ("opening-too-deep", USUAL, "span 0: text", |b| shown(b, 0).opening.siblings.push(Hash32::ZERO)),
    ("public-text-hidden", USUAL, "span 1: text", |b| b.openings[1].text = None),
    ("private-text-changed", "private-shown", "span 0: text", |b| shown(b, 0).leaf.0[100] ^= 1),
    ("private-salt-changed", "private-shown", "span 0: text", |b| shown(b, 0).leaf.0[0] ^= 1),
    ("private-leaf-without-its-salt", "private-shown", "span 0: text", |b| drop(shown(b, 0).leaf.0.drain(..32))),
    // Where the span stands and whom it pays shows without the text.
    ("private-row-that-pays-another", "private", "span 0: document", |b| {
        b.receipt.document.spans[0].payee = Address([9; 20]);
        b.openings[0].document.leaf.payee = Address([9; 20]);
    }),
    ("private-span-of-another-document", "private", "span 0: document", |b| b.receipt.document.spans[0].position += 128),
    ("private-datanet-as-a-public-one", "private", "span 0: Datanet", |b| {
        b.openings[0].datanet.leaf.segments = b.openings[0].segment.root().unwrap();
    }),
];

/// What is shown of a span's text.
fn shown(bundle: &mut Bundle, span: usize) -> &mut Opened<TextLeaf> {
    bundle.openings[span].text.as_mut().unwrap()
}

/// Lies about who signed, told after everything is signed.
pub(crate) const SIGNATURES: &[Row] = &[
    ("another-node-s-signature", USUAL, "receipt: signature", |b| {
        b.receipt = Signed::new(&account(9), &b.domains, b.receipt.document.clone());
    }),
    ("signature-with-v-0", USUAL, "receipt: signature", |b| b.receipt.signature.0[64] -= 27),
    ("signature-in-the-upper-half", USUAL, "quote: signature", |b| {
        let order = hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").unwrap();
        let signature = &mut b.quote.signature.0;
        let mut borrow = 0_i16;
        for at in (0..32).rev() {
            let digit = i16::from(order[at]) - i16::from(signature[32 + at]) - borrow;
            borrow = i16::from(digit < 0);
            signature[32 + at] = u8::try_from(digit.rem_euclid(256)).unwrap();
        }
        signature[64] ^= 27 ^ 28;
    }),
    ("signature-of-nothing", USUAL, "voucher: signature", |b| b.voucher.signature.0[..64].fill(0)),
];

pub(crate) const FILES: &[FileRow] = &[
    ("file-and-more-behind-it", "file", |json| format!("{json}{{}}")),
    ("file-with-an-unknown-key", "lane.document.note", |json| {
        json.replacen(r#""lane":{"document":{"#, r#""lane":{"document":{"note":1,"#, 1)
    }),
    ("file-with-a-key-twice", "answer_salt", |json| {
        json.replacen(r#""answer_salt":"#, &format!(r#""answer_salt":"{}","answer_salt":"#, Hash32::ZERO), 1)
    }),
    ("file-without-the-quote-s-block", "quote.document", |json| {
        let quote = json.find(r#""quote":{"document""#).unwrap();
        let start = quote + json[quote..].find(r#""block":"#).unwrap();
        let end = start + json[start..].find("},").unwrap() + 2;
        [&json[..start], &json[end..]].concat()
    }),
    ("file-with-a-number-as-text", "receipt.document.spans[0].weight", |json| {
        let at = json.find(r#""spans":[{"#).unwrap();
        [&json[..at], &json[at..].replacen(r#""weight":"#, r#""weight":"7","x":"#, 1)].concat()
    }),
    ("file-with-a-position-of-41-bits", "receipt.document.spans[0].position", |json| {
        let at = json.find(r#""position":"#).unwrap() + r#""position":"#.len();
        let end = at + json[at..].find(',').unwrap();
        format!("{}{}{}", &json[..at], 1_u64 << 40, &json[end..])
    }),
    ("file-with-a-fraction", "voucher.document.tokens_in", |json| {
        let at = json.find(r#""voucher":{"#).unwrap();
        [&json[..at], &json[at..].replacen(r#""tokens_in":33"#, r#""tokens_in":33.0"#, 1)].concat()
    }),
    ("file-with-half-a-surrogate", "answer", |json| json.replacen("What you describe", r"What \ud800 describe", 1)),
    ("file-with-an-unknown-role", "messages[0].role", |json| json.replacen(r#""role":"system""#, r#""role":"robot""#, 1)),
];

/// The changed answers, with the field that is named first.
pub(crate) fn all(honest: &[(&'static str, Bundle)]) -> Vec<(String, &'static str, String)> {
    let base = |name: &str| honest.iter().find(|(base, _)| *base == name).unwrap_or_else(|| panic!("{name}")).1.clone();
    let mut made = Vec::new();
    for (rows, resigns) in [(SIGNED, true), (SIGNATURES, false)] {
        for (name, base_name, field, change) in rows {
            let mut bundle = base(base_name);
            change(&mut bundle);
            if resigns {
                bundle.receipt = Signed::new(&node(), &bundle.domains, bundle.receipt.document.clone());
                bundle.quote = Signed::new(&node(), &bundle.domains, bundle.quote.document);
            }
            assert_ne!(bundle, base(base_name), "{name} changes nothing");
            made.push(((*name).to_owned(), *field, crate::json(&bundle)));
        }
    }
    let usual = crate::json(&base(USUAL));
    for (name, field, change) in FILES {
        let changed = change(&usual);
        assert_ne!(changed, usual, "{name} changes nothing");
        made.push(((*name).to_owned(), *field, changed));
    }
    made
}
