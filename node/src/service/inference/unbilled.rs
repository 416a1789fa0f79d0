//! The receipt of an answer that failed: fee 0, signed, so that the client needs nobody's word that it is not charged.
//!
//! It pays nobody and is never posted. For its request and attempt the node signs no other, because an attempt is begun once and the receipt is kept
//! before it is sent: whoever was cut off may recall it ([`super::recalling`]).

use attribution::answer::answer_root;
use inference::proto::{
    message::{Begin, Delivered},
    payment::Terms,
};
use types::{
    amount::{Amount, AmountError},
    encoding::Document as _,
    id::Hash32,
    key::Signed,
    receipt::{Reason, Receipt},
};

use super::{Answering, Broken, Escrow, internal, signer};
use crate::books::Begun;

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

/// What is noted of an attempt when it is begun.
pub(super) fn begun(begin: &Begin, terms: &Terms) -> Result<Begun, Broken> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(internal)?;
    let answer_salt = Hash32(salt);
    let unbilled = failed(begin, terms, Reason::EngineFailure, answer_salt).map_err(internal)?;
    Ok(Begun { signer: signer(begin), unbilled, answer_salt })
}

impl<E: Escrow> Answering<E> {
    /// Signs that an attempt that was begun ended by `reason` and charges nothing; kept when this returns.
    pub(super) fn unbilled(&self, begun: Begun, reason: Reason) -> Result<Delivered, Broken> {
        let Begun { unbilled, answer_salt, .. } = begun;
        let receipt = Receipt { reason, ..unbilled };
        tracing::info!(request = %receipt.request, attempt = receipt.attempt, ?reason, "a receipt says that nothing is charged");
        let signed = Signed::new(&self.account, &self.domains, receipt);
        let delivered = Delivered {
            receipt: signed.document,
            signature: signed.signature,
            answer: String::new(),
            answer_salt,
            openings: "[]".to_owned(),
            fingerprints: Vec::new(),
        };
        if self.books.keep_unbilled(&delivered).map_err(internal)? {
            self.metrics.receipt(&delivered.receipt);
            Ok(delivered)
        } else {
            Err(internal("something else was signed of this attempt before"))
        }
    }

    /// The same for the attempt that `begin` began.
    pub(super) fn failed_now(&self, begin: &Begin, reason: Reason) -> Result<Delivered, Broken> {
        let begun = self.books.begun(begin.request.document.id(), begin.attempt).map_err(internal)?;
        self.unbilled(begun.ok_or_else(|| internal("the note of an attempt that was begun is missing"))?, reason)
    }
}
