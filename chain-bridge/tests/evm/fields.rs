//! Protocol P7's table: each field of a receipt, changed and signed anew by the node, falls to the fault that the table names. What an honest
//! receipt says falls to none of them.

use chain_bridge::fraud::{
    Evidence, Opened,
    calldata::Proof,
    prove,
    rules::{Case as Bill, Rule, opened},
};
use types::{
    amount::Amount,
    encoding::{Contract, DecodeError, Document},
    id::{Address, Hash32},
    key::Account,
    quote::{Class, Profile, Quote},
    receipt::{Reason, Receipt},
    voucher::Lane,
};

use super::{
    fixture::World,
    harness::account,
    transcript::{PAYEE, Transcript},
};

/// A receipt's bytes, signed as they are.
struct Raw(Vec<u8>);

impl Document for Raw {
    const NAME: &'static str = "Receipt";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(body.to_vec()))
    }
}

/// What a changed receipt falls to.
#[derive(Debug, Clone, Copy)]
enum Falls {
    /// F1.
    Span,
    /// F3, with the receipt as it was.
    Contradiction,
    /// F4 to F6.
    Broken(Rule),
    /// F6, the lane.
    Lane,
}

/// A receipt with what it may name.
struct Case {
    receipt: Receipt,
    lane: Lane,
    text: World,
    /// A byte of the body that no receipt of ours can say.
    byte: Option<(usize, u8)>,
    signer: Account,
}

/// The field, what it falls to, how it is changed.
type Field = (&'static str, &'static [Falls], fn(&mut Case));

/// Offset of the spare bytes of the first span, after two assets.
const SPARE: usize = 430 + 2 * 12 + 2 + 36;

fn renamed(case: &mut Case, change: impl FnOnce(&mut Lane)) {
    change(&mut case.lane);
    case.receipt.lane = case.lane.id();
}

const FIELDS: [Field; 35] = [
    ("request id", &[Falls::Contradiction], |case| case.receipt.request.0[0] ^= 1),
    ("attempt", &[Falls::Contradiction], |case| case.receipt.attempt = 1),
    ("first token", &[Falls::Contradiction], |case| case.receipt.first_token = 1),
    ("client", &[Falls::Contradiction, Falls::Lane], |case| case.receipt.client = Address([1; 20])),
    ("prompt root", &[Falls::Contradiction], |case| case.receipt.prompt_root.0[0] ^= 1),
    ("node", &[Falls::Broken(Rule::QuoteForeign), Falls::Lane], |case| {
        (case.receipt.node, case.signer) = (account(5).address(), account(5));
    }),
    ("lane's payer", &[Falls::Lane], |case| renamed(case, |lane| lane.payer = Address([1; 20]))),
    ("lane's node", &[Falls::Lane], |case| renamed(case, |lane| lane.node = Address([1; 20]))),
    ("lane's expiry", &[Falls::Lane], |case| renamed(case, |lane| lane.expiry = 1)),
    ("lane's cap", &[Falls::Lane], |case| renamed(case, |lane| lane.cap.0 /= 4)),
    ("cumulative-after above the cap", &[Falls::Lane], |case| case.receipt.cumulative_after.0 *= 3),
    ("cumulative-after of another wei", &[Falls::Contradiction], |case| case.receipt.cumulative_after.0 += 1),
    ("cumulative-after below the fee", &[Falls::Broken(Rule::Weights)], |case| case.receipt.cumulative_after.0 = case.receipt.fee.0 - 1),
    ("manifest root", &[Falls::Broken(Rule::QuoteTerms)], |case| case.receipt.manifest.0[0] ^= 1),
    ("index root", &[Falls::Broken(Rule::ManifestMatch)], |case| case.receipt.index.0[0] ^= 1),
    ("parameter id", &[Falls::Broken(Rule::ManifestMatch)], |case| case.receipt.parameters += 1),
    ("assets", &[Falls::Broken(Rule::ManifestMatch)], |case| case.receipt.assets.swap(0, 1)),
    ("class", &[Falls::Broken(Rule::QuoteTerms)], |case| case.receipt.class = Class::Sealed),
    ("class, unknown", &[Falls::Broken(Rule::Form)], |case| case.byte = Some((191, 4))),
    ("profile", &[Falls::Broken(Rule::QuoteTerms)], |case| case.receipt.profile = Profile::Fast),
    ("profile, unknown", &[Falls::Broken(Rule::Form)], |case| case.byte = Some((190, 4))),
    ("fingerprint root, in a profile without", &[Falls::Broken(Rule::Form)], |case| {
        case.receipt.fingerprint_root.0[0] = 1;
        case.byte = Some((190, 1));
    }),
    ("block", &[Falls::Broken(Rule::QuoteBlock)], |case| case.receipt.block.number -= 1),
    ("block hash", &[Falls::Broken(Rule::QuoteBlock)], |case| case.receipt.block.hash.0[31] ^= 1),
    ("answer root", &[Falls::Span], |case| {
        case.text.answer =
            "You asked what it is. Another answer altogether, which quotes nobody and says nothing of what was asked, at length.";
        case.receipt.answer_root = case.text.receipt(Address::ZERO, Address::ZERO, 0, vec![]).answer_root;
    }),
    ("span's position", &[Falls::Span], |case| case.receipt.spans[0].position += 1),
    ("span's start", &[Falls::Span], |case| case.receipt.spans[0].start += 1),
    ("span's length", &[Falls::Span], |case| case.receipt.spans[0].length = 0),
    ("span's Datanet", &[Falls::Span], |case| case.receipt.spans[0].datanet = 1),
    ("span's weight", &[Falls::Broken(Rule::Weights)], |case| case.receipt.spans[0].weight = u32::MAX),
    ("span's spare bytes", &[Falls::Broken(Rule::Form)], |case| case.byte = Some((SPARE, 1))),
    ("Tin", &[Falls::Broken(Rule::Fee)], |case| case.receipt.tokens_in += 1),
    ("Tout", &[Falls::Broken(Rule::Fee)], |case| case.receipt.tokens_out += 1),
    ("reason", &[Falls::Broken(Rule::Unbillable)], |case| case.receipt.reason = Reason::EngineFailure),
    ("W", &[Falls::Broken(Rule::Weights)], |case| case.receipt.weight_total = 1),
];

fn evidence(case: &Case) -> Evidence {
    let span = &case.receipt.spans[0];
    let opened = |(leaf, opening)| Opened { leaf, opening: Some(opening) };
    Evidence {
        answer: opened(case.text.open_answer(span)),
        datanet: opened(case.text.open_datanet()),
        segment: opened(case.text.open_segment()),
        text: opened(case.text.open_text(span)),
    }
}

/// The proof that a case falls to a fault; nothing if Rust finds none.
fn proof(t: &Transcript, honest: &Receipt, case: &Case, falls: Falls) -> Option<Proof> {
    let domains = t.evm.deployment.domains();
    let mut body = case.receipt.encode();
    if let Some((at, byte)) = case.byte {
        body[at] = byte;
    }
    let signature = case.signer.sign(&domains, &Raw(body.clone()));
    let signed = types::key::Signed { document: case.receipt.clone(), signature };
    match falls {
        Falls::Span => prove(&domains, &signed, 0, &evidence(case)).ok().map(|proof| Proof::false_span(&proof)),
        Falls::Contradiction => Some(Proof::equivocation(&t.sign(honest.clone()), &signed)),
        Falls::Lane => Some(Proof::lane(&signed, &case.lane)),
        Falls::Broken(rule) => {
            let grace_blocks = t.evm.deployment.config.grace_blocks;
            let bill = Bill { receipt: &case.receipt, quote: Some(&t.quote), manifest: Some(&t.manifest), grace_blocks };
            let (quote, manifest) = opened(rule, &bill);
            let (quote, manifest) = (quote.map(Document::encode).unwrap_or_default(), manifest.map(Document::encode).unwrap_or_default());
            Some(Proof::rule(rule.code(), &body, &signature.0, &quote, &manifest))
        }
    }
}

#[test]
fn each_field_signed_anew_falls_to_the_fault_that_the_table_names() {
    let mut t = Transcript::new();
    let lane = Lane {
        payer: t.receipt.client,
        node: t.receipt.node,
        cap: Amount(t.receipt.fee.0 * 2),
        expiry: t.receipt.block.number + 50,
        nonce: 3,
    };
    let honest = Receipt { lane: lane.id(), ..t.receipt.clone() };
    let case = || Case { receipt: honest.clone(), lane, text: World::new(), byte: None, signer: t_node() };
    assert_eq!(t_node().address(), t.node.address());
    let reporter = account(4).address();
    let all = [Falls::Span, Falls::Contradiction, Falls::Lane].into_iter().chain(Rule::ALL.map(Falls::Broken));
    for falls in all {
        if let Some(proof) = proof(&t, &honest, &case(), falls) {
            assert!(t.evm.try_proof(reporter, &proof).is_err(), "an honest receipt falls to {falls:?}");
        }
    }
    for (field, faults, change) in FIELDS {
        let mut changed = case();
        change(&mut changed);
        assert!(changed.byte.is_some() || changed.receipt != honest, "{field}: nothing is changed");
        for falls in faults {
            let proof = proof(&t, &honest, &changed, *falls).unwrap_or_else(|| panic!("{field}: Rust finds no {falls:?}"));
            let done = t.evm.try_proof(reporter, &proof);
            assert!(done.is_ok(), "{field} falls to {falls:?}: {done:?}");
        }
    }
}

fn t_node() -> Account {
    account(1)
}

/// What the other quote breaks, and how it differs.
type Other = (Rule, fn(&mut Quote));

#[test]
fn a_quote_hash_that_opens_to_another_quote_falls_to_what_that_quote_says() {
    let mut t = Transcript::new();
    let others: [Other; 6] = [
        (Rule::Fee, |quote| quote.rate_out.0 += 1_000),
        (Rule::QuoteForeign, |quote| quote.node = Address([1; 20])),
        (Rule::QuoteTerms, |quote| quote.class = Class::Open),
        (Rule::QuoteTokens, |quote| quote.tokens_max = 1),
        (Rule::QuoteBlock, |quote| quote.block.hash = Hash32([1; 32])),
        (Rule::QuoteBlock, |quote| quote.expiry = 1),
    ];
    for (rule, change) in others {
        let mut quote = t.quote;
        change(&mut quote);
        let receipt = Receipt { quote: quote.hash(), spans: vec![t.text.true_span(PAYEE)], ..t.receipt.clone() };
        let signed = t.sign(receipt);
        let proof = Proof::rule(rule.code(), &signed.document.encode(), &signed.signature.0, &quote.encode(), &[]);
        let done = t.evm.try_proof(account(4).address(), &proof);
        assert!(done.is_ok(), "{rule:?}: {done:?}");
    }
}
