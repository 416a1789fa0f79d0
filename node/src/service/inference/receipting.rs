//! The receipt of an answer: the vouched text attributed, signed, and kept with its lane before anything is sent.

use std::sync::Arc;

use attribution::{
    answer::answer_root,
    bundle::Bundle,
    transcript::wrap::{ExchangeSecret, Wrap},
};
use inference::{
    engine::Activations,
    proto::{
        message::{Begin, Delivered, RefusalCode},
        payment::Serving,
    },
};
use types::{
    fingerprint,
    id::{ExchangeKey, Hash32},
    key::Signed,
    quote::Class,
    receipt::{Reason, Receipt},
    text,
    voucher::Voucher,
};

use super::{Answering, Broken, Escrow, Offer, internal, refuse};
use crate::{books::texts::Text, evidence};

/// What a client gave for its receipt.
pub(super) struct Given {
    /// Its last promise.
    pub(super) voucher: Signed<Voucher>,
    /// What a transcript's key is wrapped for, if it said.
    pub(super) exchange: Option<ExchangeKey>,
}

impl<E: Escrow> Answering<E> {
    /// Attributes the vouched prefix up to the stop string that ended it, signs the receipt, and keeps both before anything is sent.
    pub(super) async fn receipt(
        &self,
        begin: &Begin,
        offer: &Arc<Offer>,
        serving: &Serving,
        stop: &[String],
        Given { voucher, exchange }: Given,
        activations: Option<Activations>,
    ) -> Result<(Delivered, Option<Wrap>), Broken> {
        let vouched = serving.vouched().to_vec();
        let answer = text::canonical_lossy(&self.engine.text(stop, &serving.terms().continued, &vouched));
        let prompt_bytes = evidence::prompt_bytes(&begin.turns).map_err(|why| refuse(RefusalCode::Invalid, why))?;
        let (attributed, openings, fingerprints) = {
            let (offer, answer, count) = (Arc::clone(offer), answer.clone(), vouched.len());
            let work = tokio::task::spawn_blocking(move || {
                let (attributed, openings) = evidence::attribute(&offer, &prompt_bytes, &answer)?;
                let fingerprints = activations.map_or_else(Vec::new, |activations| activations.fingerprints(count));
                anyhow::Ok((attributed, openings, fingerprints))
            });
            work.await.map_err(internal)?.map_err(internal)?
        };
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(internal)?;
        let answer_salt = Hash32(salt);
        let terms = serving.terms();
        let tokens_out = u32::try_from(vouched.len()).map_err(internal)?;
        let receipt = Receipt {
            request: terms.request,
            attempt: terms.attempt,
            client: begin.request.document.client,
            node: self.account.address(),
            lane: terms.lane,
            cumulative_after: voucher.document.cumulative,
            manifest: begin.request.document.manifest,
            index: offer.manifest.index,
            parameters: offer.manifest.parameters,
            profile: begin.request.document.profile,
            class: begin.request.document.class,
            block: begin.quote.document.block,
            prompt_root: begin.request.document.prompt_root,
            answer_root: answer_root(&answer, &attributed.words, answer_salt),
            token_ids: terms.token_ids(&vouched),
            tokens_in: terms.tokens_in,
            first_token: terms.first_token().map_err(internal)?,
            tokens_out,
            quote: terms.quote,
            fee: terms.due(tokens_out).map_err(internal)?,
            // A receipt over a prefix of what was sent does not say that the model ended there.
            reason: serving.finished().filter(|_| serving.is_settled()).unwrap_or(Reason::Cancelled),
            weight_total: attributed.weight_total,
            fingerprint_root: fingerprint::root(&fingerprints),
            assets: attribution::bundle::assets(&offer.manifest),
            spans: attributed.spans,
            masks: attributed.masks,
        };
        let signed = Signed::new(&self.account, &self.domains, receipt);
        let openings = serde_json::to_string(&openings).map_err(internal)?;
        let delivered = Delivered { receipt: signed.document, signature: signed.signature, answer, answer_salt, openings, fingerprints };
        let bundle = evidence::assemble(&self.domains, begin, &voucher, delivered.clone(), &vouched).map_err(internal)?;
        let wrap = self.keep(&bundle, begin, &voucher, exchange)?;
        Ok((delivered, wrap))
    }

    /// Keeps what the class asks for: of an open answer all of it, of a checked one the text sealed, of a sealed one no text. Gives the key's wrap for the client, if it
    /// gave something to wrap for.
    fn keep(
        &self,
        bundle: &Bundle,
        begin: &Begin,
        voucher: &Signed<Voucher>,
        exchange: Option<ExchangeKey>,
    ) -> Result<Option<Wrap>, Broken> {
        let text = match bundle.receipt.document.class {
            Class::Open => return self.books.keep_receipt(bundle, &begin.lane, voucher).map(|_| None).map_err(internal),
            Class::Sealed => None,
            Class::Checked => {
                let mut drawn = zeroize::Zeroizing::new([0; 32]);
                getrandom::fill(&mut *drawn).map_err(internal)?;
                Some(Text::of(bundle, ExchangeSecret::of(&self.account).public(), exchange, &drawn).map_err(internal)?)
            }
        };
        self.books.keep_closed(bundle, &begin.lane, voucher, text.as_ref()).map_err(internal)?;
        Ok(text.and_then(|text| text.client_wrap()))
    }
}
