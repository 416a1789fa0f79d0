//! Proofs as calldata, and who takes them.

use alloy::sol_types::SolCall;
use types::{
    encoding::Document,
    id::{Address, Hash32},
    key::Signed,
    merkle::keccak,
    receipt::Receipt,
    voucher::Lane,
};

use super::{
    FalseSpan, Mode,
    pack::{Packer, Place},
};
use crate::{
    bindings::{BillingVerifier, FraudVerifier, PayoutVerifier},
    deploy::Deployment,
};

/// A contract that takes proofs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verifier {
    /// `FraudVerifier`: F1, F3, the block of F5.
    Fraud,
    /// `BillingVerifier`: F4, F5, F6.
    Billing,
    /// `PayoutVerifier`: F7.
    Payout,
}

impl Verifier {
    /// Where it stands.
    pub const fn address(self, deployment: &Deployment) -> Address {
        match self {
            Self::Fraud => deployment.fraud,
            Self::Billing => deployment.billing,
            Self::Payout => deployment.payout,
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

    /// F1: a false span.
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

    /// F7: a wrong payout; `evidence` as Protocol P7 asks for `mode`.
    pub fn payout(mode: u8, evidence: Vec<u8>) -> Self {
        let call = PayoutVerifier::provePayoutCall { mode, evidence: evidence.into() };
        Self { what: "refute payout", verifier: Verifier::Payout, call: call.abi_encode() }
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
