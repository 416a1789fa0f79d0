//! F4 to F6 against the compiled verifier: an honest receipt breaks no rule; each field changed and signed again with the node's key breaks one, and
//! what Rust finds is what the contract finds.

use chain_bridge::{
    bindings::{AssetRegistry, BillingVerifier},
    fraud::{
        calldata::Proof,
        rules::{Case, Rule, opened},
    },
};
use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, AssetId, AssetVersion},
    manifest::{AssetKind, Manifest},
    quote::{Class, Quote},
    receipt::{Reason, Receipt},
};

use super::{harness::account, transcript::Transcript};

/// What an answer is billed by.
#[derive(Clone)]
struct Bill {
    receipt: Receipt,
    quote: Quote,
    manifest: Manifest,
}

impl Bill {
    fn of(t: &Transcript) -> Self {
        Self { receipt: t.receipt.clone(), quote: t.quote, manifest: t.manifest.clone() }
    }

    /// With the hashes of what it names.
    fn linked(mut self) -> Self {
        self.quote.manifest = self.manifest.root();
        self.receipt.manifest = self.manifest.root();
        self.receipt.quote = self.quote.hash();
        self
    }
}

fn check(t: &mut Transcript, what: &str, bill: &Bill, expected: &[Rule]) {
    let found = t.broken(&bill.receipt, &bill.quote, &bill.manifest);
    let call = BillingVerifier::brokenRulesCall {
        receipt: bill.receipt.encode().into(),
        quote: bill.quote.encode().into(),
        manifest: bill.manifest.encode().into(),
    };
    let on_chain = t.evm.view(t.evm.deployment.billing, &call).unwrap();
    let codes: Vec<Rule> = Rule::ALL.into_iter().filter(|rule| on_chain.bit(usize::from(rule.code()))).collect();
    assert_eq!(found, codes, "{what}: Rust and the contract differ");
    assert!(expected.iter().all(|rule| found.contains(rule)), "{what}: {expected:?} expected, {found:?} found");
    assert_eq!(expected.is_empty(), found.is_empty(), "{what}: {found:?}");
    let signed = t.sign(bill.receipt.clone());
    let grace_blocks = t.evm.deployment.config.grace_blocks;
    for rule in Rule::ALL {
        let case = Case { receipt: &bill.receipt, quote: Some(&bill.quote), manifest: Some(&bill.manifest), grace_blocks };
        let (quote, manifest) = opened(rule, &case);
        let (quote, manifest) = (quote.map(Document::encode).unwrap_or_default(), manifest.map(Document::encode).unwrap_or_default());
        let proof = Proof::rule(rule.code(), &bill.receipt.encode(), &signed.signature.0, &quote, &manifest);
        let done = t.evm.try_proof(account(4).address(), &proof);
        assert_eq!(done.is_ok(), found.contains(&rule), "{what}, {rule:?}: {done:?}");
    }
}

/// What is changed, which rules that must break, and how.
type Change = (&'static str, &'static [Rule], fn(&mut Bill));

#[test]
fn an_honest_bill_breaks_no_rule() {
    let mut t = Transcript::new();
    let honest = Bill::of(&t);
    check(&mut t, "honest", &honest, &[]);
    let unbilled = Bill { receipt: Receipt { reason: Reason::Empty, fee: Amount::ZERO, ..honest.receipt.clone() }, ..honest };
    check(&mut t, "nothing billed", &unbilled, &[]);
}

#[test]
fn each_changed_field_of_a_receipt_breaks_a_rule() {
    let mut t = Transcript::new();
    let honest = Bill::of(&t);
    let changes: [Change; 18] = [
        ("fee", &[Rule::Fee], |b| b.receipt.fee.0 -= 1),
        ("fee above the lane", &[Rule::Fee, Rule::Weights], |b| b.receipt.fee.0 += 1),
        ("reason", &[Rule::Unbillable], |b| b.receipt.reason = Reason::EngineFailure),
        ("tokens in", &[Rule::Fee], |b| b.receipt.tokens_in += 1),
        ("tokens out", &[Rule::Fee], |b| b.receipt.tokens_out += 1),
        ("tokens beyond the offer", &[Rule::QuoteTokens], |b| b.receipt.tokens_out = 65),
        ("weight", &[Rule::Weights], |b| b.receipt.weight_total = 5_119),
        ("span weight", &[Rule::Weights], |b| b.receipt.spans[0].weight = u32::MAX),
        ("index", &[Rule::ManifestMatch], |b| b.receipt.index.0[3] ^= 1),
        ("parameters", &[Rule::ManifestMatch], |b| b.receipt.parameters = 2),
        ("assets", &[Rule::ManifestMatch], |b| b.receipt.assets.truncate(1)),
        ("asset version", &[Rule::ManifestMatch, Rule::Unpublished], |b| b.receipt.assets[0].version = 2),
        ("class", &[Rule::QuoteTerms], |b| b.receipt.class = Class::Open),
        ("block", &[Rule::QuoteBlock], |b| b.receipt.block.number += 1),
        ("early block", &[Rule::QuoteBlock, Rule::Unpublished, Rule::Index], |b| b.receipt.block.number = 1),
        ("block hash", &[Rule::QuoteBlock], |b| b.receipt.block.hash.0[0] ^= 1),
        ("quote of another node", &[Rule::QuoteForeign], |b| b.quote.node = Address([1; 20])),
        ("expiry", &[Rule::QuoteBlock], |b| b.quote.expiry = b.receipt.block.number - 1),
    ];
    for (what, rules, change) in changes {
        let mut bill = honest.clone();
        change(&mut bill);
        bill.receipt.quote = bill.quote.hash();
        check(&mut t, what, &bill, rules);
    }
}

#[test]
fn each_changed_field_of_quote_and_manifest_breaks_a_rule() {
    let mut t = Transcript::new();
    let honest = Bill::of(&t);
    let changes: [Change; 12] = [
        ("rate in", &[Rule::Fee], |b| b.quote.rate_in.0 += 1_000),
        ("rate out", &[Rule::Fee], |b| b.quote.rate_out.0 += 1_000),
        ("protocol fee", &[Rule::Fee], |b| b.quote.protocol_fee.0 += 1),
        ("content", &[Rule::Versions], |b| b.manifest.assets[0].content.0[0] ^= 1),
        ("kind", &[Rule::Versions], |b| b.manifest.assets[0].kind = AssetKind::Agent),
        ("missing parent", &[Rule::Versions, Rule::ManifestMatch], |b| {
            b.manifest.assets.remove(0);
        }),
        ("split", &[Rule::SplitTable], |b| (b.manifest.split.node, b.manifest.split.data) = (5_000, 2_000)),
        ("no Datanet", &[Rule::Datanets], |b| b.manifest.datanets.clear()),
        ("treasury", &[Rule::Datanets], |b| b.manifest.datanets[0].treasury = Address([1; 20])),
        ("other Datanet", &[Rule::Datanets, Rule::Unpublished], |b| b.manifest.datanets[0].version.asset = AssetId(9)),
        ("index of the manifest", &[Rule::Index], |b| {
            b.manifest.index.0[0] ^= 1;
            b.receipt.index = b.manifest.index;
        }),
        ("parameters of the manifest", &[Rule::Index], |b| (b.manifest.parameters, b.receipt.parameters) = (7, 7)),
    ];
    for (what, rules, change) in changes {
        let mut bill = honest.clone();
        change(&mut bill);
        check(&mut t, what, &bill.linked(), rules);
    }
}

#[test]
fn a_frozen_version_is_billed_for_the_grace_and_no_longer() {
    let mut t = Transcript::new();
    let frozen_at = t.evm.block;
    let call = AssetRegistry::freezeCall { asset: 1, version: 1 };
    t.evm.call(account(3).address(), t.evm.deployment.registry, &call, Amount::ZERO).unwrap();
    let grace = t.evm.deployment.config.grace_blocks;
    t.evm.block += 100;
    let base = Bill::of(&t);
    for (named, expected) in [(frozen_at - 1, vec![]), (frozen_at + grace - 1, vec![]), (frozen_at + grace, vec![Rule::Frozen])] {
        let mut bill = base.clone();
        (bill.receipt.block.number, bill.quote.block.number, bill.quote.expiry) = (named, named, named + 9);
        check(&mut t, "frozen", &bill.linked(), &expected);
    }
    assert_eq!(t.evm.state.version(AssetVersion { asset: AssetId(1), version: 1 }).unwrap().frozen, Some(frozen_at));
}

#[test]
fn a_receipt_that_another_signed_or_that_was_not_billed_wrongly_is_nobodys_fault() {
    let mut t = Transcript::new();
    let lie = Receipt { fee: Amount(t.receipt.fee.0 - 1), ..t.receipt.clone() };
    let signature = account(5).sign(&t.evm.deployment.domains(), &lie);
    let quote = t.quote.encode();
    let refused = t.evm.try_proof(account(4).address(), &Proof::rule(Rule::Fee.code(), &lie.encode(), &signature.0, &quote, &[]));
    assert!(refused.unwrap_err().starts_with("receipt signature"));
    // A quote that the receipt does not name proves nothing.
    let other = Quote { rate_in: Amount(1), ..t.quote }.encode();
    let honest = t.sign(t.receipt.clone());
    let proof = Proof::rule(Rule::Fee.code(), &honest.document.encode(), &honest.signature.0, &other, &[]);
    assert!(t.evm.try_proof(account(4).address(), &proof).unwrap_err().starts_with("not the quote"));
}
