//! The receipt of an answer that failed: fee 0, signed, so that the client needs nobody's word that it is not charged.
//!
//! It is not kept and never posted: it pays nobody. For its request and attempt the node signs no other, because an attempt is begun once.

use attribution::answer::answer_root;
use inference::proto::{
    message::{Begin, Delivered},
    payment::{Serving, Terms},
};
use types::{
    amount::{Amount, AmountError},
    encoding::Document as _,
    id::Hash32,
    key::Signed,
    receipt::{Reason, Receipt},
};

use super::{Answering, Broken, Escrow, internal};

/// What the node of `begin`'s quote says of an attempt that ended by `reason`.
pub(crate) fn failed(begin: &Begin, terms: &Terms, reason: Reason, answer_salt: Hash32) -> Result<Receipt, AmountError> {
    let (request, quote) = (&begin.request.document, &begin.quote.document);
    Ok(Receipt {
        request: terms.request,
        attempt: terms.attempt,
        client: request.client,
        node: quote.node,
        lane: terms.lane,
        cumulative_after: terms.base,
        manifest: request.manifest,
        index: begin.manifest.index,
        parameters: begin.manifest.parameters,
        profile: request.profile,
        class: request.class,
        block: quote.block,
        prompt_root: request.prompt_root,
        answer_root: answer_root("", &[], answer_salt),
        token_ids: terms.token_ids(&[]),
        tokens_in: terms.tokens_in,
        first_token: terms.first_token()?,
        tokens_out: 0,
        quote: quote.hash(),
        fee: Amount::ZERO,
        reason,
        weight_total: 0,
        fingerprint_root: Hash32::ZERO,
        assets: attribution::bundle::assets(&begin.manifest),
        spans: Vec::new(),
        masks: Vec::new(),
    })
}

impl<E: Escrow> Answering<E> {
    /// Signs that this attempt ended by `reason` and charges nothing.
    pub(super) fn unbilled(&self, begin: &Begin, serving: &Serving, reason: Reason) -> Result<Delivered, Broken> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(internal)?;
        let answer_salt = Hash32(salt);
        let receipt = failed(begin, serving.terms(), reason, answer_salt).map_err(internal)?;
        tracing::info!(request = %receipt.request, ?reason, "the answer failed: a receipt says that nothing is charged");
        let signed = Signed::new(&self.account, &self.domains, receipt);
        Ok(Delivered {
            receipt: signed.document,
            signature: signed.signature,
            answer: String::new(),
            answer_salt,
            openings: "[]".to_owned(),
        })
    }
}
