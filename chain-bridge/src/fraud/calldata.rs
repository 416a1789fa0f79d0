//! Proofs as calldata, and who takes them.

use alloy::sol_types::{SolCall, SolValue as _};
use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, AssetVersion, Hash32},
    key::Signed,
    merkle::keccak,
    proof::{self, Claim, FalseLeaf, FalseMask, Holder, IndexClaim, Ineligible, Payee},
    receipt::Receipt,
    request::Request,
    voucher::Lane,
};

use super::{
    FalseSpan, Mode,
    challenge::{Answer, Stretch, answers_evidence},
    pack::{Packer, Place},
    payout::PayoutProof,
};
use crate::{
    bindings::{
        AnswerVerifier, BillingVerifier, FraudVerifier, IndexVerifier, MaskVerifier, PayoutVerifier, ReceiptChallenge, SpanVerifier,
    },
    deploy::Deployment,
};

/// W, among the modes of F10.
const TOTAL: u8 = 3;
/// A missing mask, among those of F11.
const MISSING: u8 = 6;

/// A contract that takes proofs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verifier {
    /// `FraudVerifier`: F1, F3, the block of F5.
    Fraud,
    /// `BillingVerifier`: F4, F5, F6.
    Billing,
    /// `PayoutVerifier`: F7.
    Payout,
    /// `SpanVerifier`: F2, F9.
    Spans,
    /// `AnswerVerifier`: ineligible spans of F1, F10.
    Answers,
    /// `MaskVerifier`: F11.
    Masks,
    /// `IndexVerifier`: X1 to X5.
    Indexes,
}

impl Verifier {
    /// Where it stands.
    pub const fn address(self, deployment: &Deployment) -> Address {
        match self {
            Self::Fraud => deployment.fraud,
            Self::Billing => deployment.billing,
            Self::Payout => deployment.payout,
            Self::Spans => deployment.spans,
            Self::Answers => deployment.answers,
            Self::Masks => deployment.masks,
            Self::Indexes => deployment.indexes,
        }
    }
}

/// A proof ready to be committed to and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What it proves, in words.
    pub what: &'static str,
    /// Who takes it.
    pub verifier: Verifier,
    /// Calldata.
    pub call: Vec<u8>,
}

impl Proof {
    /// What `commitProof` is given by the account that will send it: keccak(reporter || calldata).
    pub fn hash(&self, reporter: Address) -> Hash32 {
        keccak(&[&reporter.0, &self.call])
    }

    fn fraud(what: &'static str, call: &impl SolCall) -> Self {
        Self { what, verifier: Verifier::Fraud, call: call.abi_encode() }
    }

    /// F1: a false span. It is void from then on: what it would pay goes to the insurance pool if W1 has not ended.
    pub fn false_span(proof: &FalseSpan) -> Self {
        let call = FraudVerifier::proveFalseSpanCall {
            receipt: proof.receipt.clone().into(),
            signature: proof.signature.0.to_vec().into(),
            span: proof.span,
            mode: proof.mode.code(),
            evidence: evidence(proof).into(),
        };
        Self::fraud("prove false span", &call)
    }

    /// F1: a false span, for a receipt whose W1 has ended: the node is slashed, and what becomes void now would change no payout any more. Takes what
    /// [`Proof::false_span`] takes.
    pub fn late_false_span(proof: &FalseSpan) -> Self {
        let mut late = Self::false_span(proof);
        late.call[..4].copy_from_slice(&FraudVerifier::slashFalseSpanCall::SELECTOR);
        late
    }

    /// F2, F9, F10, F11, or F1 of an ineligible span. A span that pays the wrong account, may not be there or weighs something else is void from then on, as a
    /// false span is.
    pub fn attribution(proof: &proof::Proof) -> Self {
        let (receipt, signature) = (proof.receipt.clone().into(), proof.signature.0.to_vec().into());
        let evidence = super::spans::evidence(&proof.claim).into();
        let payee = |span, mode, receipt, signature, evidence| {
            SpanVerifier::provePayeeCall { receipt, signature, span, mode, evidence }.abi_encode()
        };
        let weight =
            |mode, receipt, signature, evidence| AnswerVerifier::proveWeightCall { receipt, signature, mode, evidence }.abi_encode();
        let mask = |mode, receipt, signature, evidence| MaskVerifier::proveMaskCall { receipt, signature, mode, evidence }.abi_encode();
        let (what, verifier, call) = match &proof.claim {
            Claim::Omission(_) => {
                ("prove omitted span", Verifier::Spans, SpanVerifier::proveOmissionCall { receipt, signature, evidence }.abi_encode())
            }
            Claim::Payee(Payee { span, .. }) => ("prove wrong payee", Verifier::Spans, payee(*span, 0, receipt, signature, evidence)),
            Claim::Holder(Holder { span, .. }) => ("prove later holder", Verifier::Spans, payee(*span, 1, receipt, signature, evidence)),
            Claim::Ineligible(Ineligible { span, rule }) => {
                let call = AnswerVerifier::proveIneligibleCall { receipt, signature, span: *span, mode: rule.code(), evidence };
                ("prove ineligible span", Verifier::Answers, call.abi_encode())
            }
            Claim::Total(_) => ("prove false weight", Verifier::Answers, weight(TOTAL, receipt, signature, evidence)),
            Claim::FalseLeaf(FalseLeaf { why, .. }) => {
                ("prove false weight", Verifier::Answers, weight(why.code(), receipt, signature, evidence))
            }
            Claim::FalseMask(FalseMask { flaw, .. }) => {
                ("prove false mask", Verifier::Masks, mask(flaw.code(), receipt, signature, evidence))
            }
            Claim::MissingMask(_) => ("prove missing mask", Verifier::Masks, mask(MISSING, receipt, signature, evidence)),
        };
        Self { what, verifier, call }
    }

    /// X1 to X5: a wrong index of a version, whose indexer is accused.
    pub fn index(version: AssetVersion, claim: &IndexClaim) -> Self {
        let call = IndexVerifier::proveIndexCall {
            asset: version.asset.0,
            version: version.version,
            mode: claim.mode(),
            evidence: super::indexes::evidence(claim).into(),
        };
        Self { what: "refute index root", verifier: Verifier::Indexes, call: call.abi_encode() }
    }

    /// The same for a receipt whose W1 has ended: the node is slashed, and what becomes void now would change no payout any more.
    pub fn late_attribution(proof: &proof::Proof) -> Self {
        let mut late = Self::attribution(proof);
        let selector = match proof.claim {
            Claim::Payee(_) | Claim::Holder(_) => SpanVerifier::slashPayeeCall::SELECTOR,
            Claim::Ineligible(_) => AnswerVerifier::slashIneligibleCall::SELECTOR,
            Claim::Omission(_) | Claim::Total(_) | Claim::FalseLeaf(_) | Claim::FalseMask(_) | Claim::MissingMask(_) => return late,
        };
        late.call[..4].copy_from_slice(&selector);
        late
    }

    /// F3: two receipts that contradict each other; see [`super::node::contradict`].
    pub fn equivocation(first: &Signed<Receipt>, second: &Signed<Receipt>) -> Self {
        let call = FraudVerifier::proveEquivocationCall {
            first: first.document.encode().into(),
            firstSignature: first.signature.0.to_vec().into(),
            second: second.document.encode().into(),
            secondSignature: second.signature.0.to_vec().into(),
        };
        Self::fraud("prove equivocation", &call)
    }

    /// F3: one receipt at two places.
    pub fn repeat(receipt: &Receipt, first: &Place, second: &Place) -> Self {
        let call = FraudVerifier::proveRepeatCall {
            receipt: receipt.encode().into(),
            evidence: Packer::new().place(first).place(second).finish().into(),
        };
        Self::fraud("prove repeated receipt", &call)
    }

    /// F5: a named block that does not fit the node root's; see [`super::node::block_fault`].
    pub fn block(receipt: &Receipt, place: &Place) -> Self {
        let call = FraudVerifier::proveBlockCall { receipt: receipt.encode().into(), evidence: Packer::new().place(place).finish().into() };
        Self::fraud("refute named block", &call)
    }

    /// F6: a receipt that takes from a lane what it does not promise; see [`super::node::is_promised`].
    pub fn lane(receipt: &Signed<Receipt>, lane: &Lane) -> Self {
        let call = FraudVerifier::proveLaneCall {
            receipt: receipt.document.encode().into(),
            signature: receipt.signature.0.to_vec().into(),
            lane: lane.encode().into(),
        };
        Self::fraud("refute lane", &call)
    }

    /// F4 to F6: a broken rule; quote and manifest as bodies, empty where the rule needs none.
    pub fn rule(rule: u8, receipt: &[u8], signature: &[u8], quote: &[u8], manifest: &[u8]) -> Self {
        let call = BillingVerifier::proveBrokenCall {
            rule,
            receipt: receipt.to_vec().into(),
            signature: signature.to_vec().into(),
            quote: quote.to_vec().into(),
            manifest: manifest.to_vec().into(),
        };
        Self { what: "prove broken rule", verifier: Verifier::Billing, call: call.abi_encode() }
    }

    /// F7: a wrong payout.
    pub fn payout(proof: &PayoutProof) -> Self {
        let call = PayoutVerifier::provePayoutCall { mode: proof.mode.code(), evidence: proof.evidence.clone().into() };
        Self { what: "refute payout", verifier: Verifier::Payout, call: call.abi_encode() }
    }
}

/// A step of a challenge: asked with a bond, answered, or settled when nobody answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does, in words.
    pub what: &'static str,
    /// How often the challenge's bond is attached: once for each receipt asked for, once for everything else.
    pub bonds: u64,
    /// Calldata for `ReceiptChallenge`.
    pub call: Vec<u8>,
}

impl Step {
    fn ask(what: &'static str, call: &impl SolCall) -> Self {
        Self { what, bonds: 1, call: call.abi_encode() }
    }

    fn free(what: &'static str, call: &impl SolCall) -> Self {
        Self { what, bonds: 0, call: call.abi_encode() }
    }

    /// What is to be attached, at `bond` each.
    pub const fn value(&self, bond: Amount) -> Amount {
        // No account holds as much as 2^128 wei.
        Amount(bond.0.saturating_mul(self.bonds as u128))
    }

    /// F8: asks for a stretch of receipts, one to [`super::challenge::STRETCH_MAX`] of them.
    pub fn ask_receipts(of: &Stretch) -> Self {
        let (node_root, block) = (of.root.encode().into(), of.block);
        let call = ReceiptChallenge::challengeReceiptsCall { nodeRoot: node_root, blockNumber: block, first: of.first, count: of.count };
        Self { bonds: of.count, ..Self::ask("challenge withheld receipts", &call) }
    }

    /// F8: shows receipts of a stretch, or publishes them; see [`super::challenge::receipts_evidence`].
    pub fn show_receipts(evidence: Vec<u8>) -> Self {
        Self::free("show receipts", &ReceiptChallenge::showReceiptsCall { evidence: evidence.into() })
    }

    /// F8: not all of a stretch were shown.
    pub fn settle_receipts(of: &Stretch) -> Self {
        let (node_root, block) = (of.root.encode().into(), of.block);
        let call = ReceiptChallenge::settleReceiptsCall { nodeRoot: node_root, blockNumber: block, first: of.first, count: of.count };
        Self::free("settle withheld receipts", &call)
    }

    /// F6: holds a client's request against a receipt; see [`super::challenge::request_evidence`].
    pub fn ask_request(request: &Signed<Request>, evidence: Vec<u8>) -> Self {
        let call = ReceiptChallenge::challengeRequestCall {
            request: request.document.encode().into(),
            signature: request.signature.0.to_vec().into(),
            evidence: evidence.into(),
        };
        Self::ask("challenge request", &call)
    }

    /// F6: shows the request that was answered.
    pub fn show_request(request: &Signed<Request>, evidence: Vec<u8>) -> Self {
        let call = ReceiptChallenge::showRequestCall {
            request: request.document.encode().into(),
            signature: request.signature.0.to_vec().into(),
            evidence: evidence.into(),
        };
        Self::free("show request", &call)
    }

    /// F6: nobody showed it.
    pub fn settle_request(receipt: &[u8]) -> Self {
        Self::free("settle request", &ReceiptChallenge::settleRequestCall { receipt: receipt.to_vec().into() })
    }

    /// F7: asks the poster of the pending payout for a leaf.
    pub fn ask_leaf(index: u64) -> Self {
        Self::ask("challenge withheld leaf", &ReceiptChallenge::challengeLeafCall { index })
    }

    /// F7: shows it; see [`super::challenge::leaf_evidence`].
    pub fn show_leaf(index: u64, evidence: Vec<u8>) -> Self {
        Self::free("show leaf", &ReceiptChallenge::showLeafCall { index, evidence: evidence.into() })
    }

    /// F7: nobody showed it.
    pub fn settle_leaf(index: u64) -> Self {
        Self::free("settle withheld leaf", &ReceiptChallenge::settleLeafCall { index })
    }

    /// F7: asks for part `index` of the leaf that `leaf` opens; see [`super::challenge::asked_leaf`].
    pub fn ask_part(leaf: Vec<u8>, index: u64) -> Self {
        Self::ask("challenge withheld part", &ReceiptChallenge::challengePartCall { evidence: leaf.into(), index })
    }

    /// F7: shows it; see [`super::challenge::part_evidence`].
    pub fn show_part(index: u64, evidence: Vec<u8>) -> Self {
        Self::free("show part", &ReceiptChallenge::showPartCall { index, evidence: evidence.into() })
    }

    /// F7: shows many leaves and parts; what was shown before is passed over.
    pub fn show_lines<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Self {
        Self::free("show lines", &ReceiptChallenge::showLinesCall { answers: answers_evidence(answers).into() })
    }

    /// F7: nobody showed it.
    pub fn settle_part(leaf: u64, index: u64) -> Self {
        Self::free("settle withheld part", &ReceiptChallenge::settlePartCall { leafIndex: leaf, index })
    }

    /// The bond of a challenge of a payout that was taken back before anybody answered.
    pub fn reclaim(id: Hash32) -> Self {
        Self::free("reclaim bond", &ReceiptChallenge::reclaimCall { id: id.0.into() })
    }
}

/// The id of the challenge for `count` receipts of a node's root, from `first` on; of what it publishes from there, if that is 0.
pub fn receipts_challenge(epoch: u64, node: Address, first: u64, count: u64) -> Hash32 {
    let of = ("F8".to_owned(), epoch, crate::convert::address(node), first, count);
    keccak(&[&of.abi_encode_params()])
}

/// Leaves of a payout tree that are tried for the one a challenge of a part speaks of.
const LEAVES_TRIED: u64 = 1 << 20;

/// The payout that is pending, as the ids of challenges name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Its epoch.
    pub epoch: u64,
    /// Its root.
    pub root: Hash32,
    /// When it was posted.
    pub posted_at: u64,
}

impl Pending {
    /// The payout of an epoch by the books, where W2 lasts `w2_s` seconds.
    pub fn of(epoch: u64, payout: &crate::registry::state::Payout, w2_s: u64) -> Option<Self> {
        Some(Self { epoch, root: payout.root, posted_at: payout.final_at.checked_sub(w2_s)? })
    }

    /// The id of the challenge for leaf `index`.
    pub fn leaf_challenge(&self, index: u64) -> Hash32 {
        let of = ("leaf".to_owned(), self.epoch, alloy::primitives::B256::from(self.root.0), self.posted_at, index);
        keccak(&[&of.abi_encode_params()])
    }

    /// The id of the challenge for part `index` of leaf `leaf`.
    pub fn part_challenge(&self, leaf: u64, index: u64) -> Hash32 {
        keccak(&[&self.part_words(leaf, index)])
    }

    fn part_words(&self, leaf: u64, index: u64) -> Vec<u8> {
        ("part".to_owned(), self.epoch, alloy::primitives::B256::from(self.root.0), self.posted_at, leaf, index).abi_encode_params()
    }

    /// The place of the leaf that the challenge `id` for part `index` of it speaks of: the event names its account alone, and what settles it its place.
    /// Nothing if it is another payout's, or the leaf stands beyond a million. A second at most.
    pub fn leaf_of(&self, id: Hash32, index: u64) -> Option<u64> {
        // Offset, epoch, root and time stand before the leaf's word, which ends with its number.
        let (at, mut words) = (5 * 32 - 8, self.part_words(0, index));
        (0..LEAVES_TRIED).find(|leaf| {
            words[at..at + 8].copy_from_slice(&leaf.to_be_bytes());
            keccak(&[&words]) == id
        })
    }
}

/// What the mode of a false span opens, packed.
pub fn evidence(proof: &FalseSpan) -> Vec<u8> {
    let given = &proof.evidence;
    let head = |opened: &super::Opened| {
        let (leaves, bytes) = opened.opening.as_ref().map_or((0, 0), |opening| (opening.leaves, opening.byte_length));
        Packer::new().head(leaves, bytes, proof.top)
    };
    let open = |packer: Packer, opened: &super::Opened| match &opened.opening {
        Some(opening) => packer.opening(opening),
        None => packer.u64(0).u64(0),
    };
    let index = given.segment.opening.as_ref().map_or(0, |opening| opening.index);
    let packer = match proof.mode {
        Mode::Length => Packer::new(),
        Mode::AnswerEnd => head(&given.answer),
        Mode::DatanetIndex => head(&given.datanet),
        Mode::DatanetEnd => open(Packer::new().raw(&given.datanet.leaf), &given.datanet),
        Mode::Bytes => {
            let packer = open(Packer::new().raw(&given.datanet.leaf), &given.datanet);
            let packer = open(packer.raw(&given.segment.leaf).u64(index), &given.segment);
            let packer = open(packer.blob(&given.text.leaf), &given.text);
            open(packer.blob(&given.answer.leaf), &given.answer)
        }
    };
    packer.finish()
}
