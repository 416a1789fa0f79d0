//! A proof as the verifier's calldata.

use alloy::sol_types::{SolCall, SolValue};
use types::{
    id::{Address, Hash32},
    merkle::keccak,
};

use super::FalseSpan;
use crate::{
    bindings::FraudVerifier::{self, proveFalseSpanCall},
    convert,
};

/// A proof ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// What `commitProof` is given: keccak(abi.encode(reporter, proof)).
    pub hash: Hash32,
    /// Calldata of `proveFalseSpan`.
    pub prove: Vec<u8>,
}

impl Encoded {
    /// Encodes a proof that `reporter` will send.
    pub fn new(reporter: Address, proof: &FalseSpan) -> Self {
        let call = call(proof);
        let hash = keccak(&[&(convert::address(reporter), call.proof.clone()).abi_encode_params()]);
        Self { hash, prove: call.abi_encode() }
    }
}

/// The call of `proveFalseSpan`.
pub(crate) fn call(proof: &FalseSpan) -> proveFalseSpanCall {
    let evidence = &proof.evidence;
    let proof = FraudVerifier::FalseSpan {
        mode: proof.mode.code(),
        receipt: proof.receipt.clone().into(),
        signature: proof.signature.0.to_vec().into(),
        span: proof.span,
        top: convert::word(proof.top),
        answer: convert::opening(evidence.answer.opening.as_ref()),
        answerLeaf: evidence.answer.leaf.clone().into(),
        datanet: convert::opening(evidence.datanet.opening.as_ref()),
        datanetLeaf: evidence.datanet.leaf.clone().into(),
        segment: convert::opening(evidence.segment.opening.as_ref()),
        segmentLeaf: evidence.segment.leaf.clone().into(),
        text: convert::opening(evidence.text.opening.as_ref()),
        textLeaf: evidence.text.leaf.clone().into(),
    };
    proveFalseSpanCall { proof }
}
