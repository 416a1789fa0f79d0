//! Joining what the client signed, what the node found and what the index proves into one bundle. No rule is here: `attribution` owns them all.
//! [`search`] finds what of it is wrong, and proves it; where a poster shows nothing `chain_bridge::fraud::withheld` does.

pub(crate) mod attribution;
pub mod search;

use ::attribution::{
    bundle::{self, Bundle},
    index::{ReadError, SpanOpenings},
    parameters::Parameters,
    prompt::{self, Message, Role},
    span::{self, AttributeError, Attribution},
};
use inference::proto::message::{Begin, Delivered, Turn};
use types::{
    key::{Domains, Signed},
    receipt::Receipt,
    text::canonical_lossy,
    voucher::Voucher,
};

use crate::service::inference::Offer;

/// A conversation as attribution hashes it.
pub fn messages(turns: &[Turn]) -> Result<Vec<Message>, String> {
    let message = |turn: &Turn| {
        let role = Role::from_code(turn.role).ok_or_else(|| format!("role {} is unknown: 1 system, 2 user, 3 assistant", turn.role))?;
        // The root is over canonical text; another spelling of it would be a message that nobody signed.
        if canonical_lossy(turn.content.as_bytes()) != turn.content {
            return Err(
                "a message is not canonical text (NFC, LF, no control character but tab and LF): bring it into that form first".into()
            );
        }
        Ok(Message { role, content: turn.content.clone() })
    };
    turns.iter().map(message).collect()
}

/// The bytes a request's prompt root commits to.
pub fn prompt_bytes(turns: &[Turn]) -> Result<Vec<u8>, String> {
    Ok(prompt::prompt_bytes(&messages(turns)?))
}

/// Attributes an answer under an offer, with what leads from each span to the index root. Where a segment has changed under the index nothing is attributed, also
/// if nothing was found in it, and it is read whole before it is answered from again.
pub fn attribute(offer: &Offer, prompt: &[u8], answer: &str) -> anyhow::Result<(Attribution, Vec<SpanOpenings>)> {
    let id = offer.manifest.parameters;
    let parameters = Parameters::builtin(id).ok_or_else(|| anyhow::anyhow!("attribution parameters {id} are not in this build"))?;
    let attributed = span::attribute(&offer.index, parameters, prompt, answer).inspect_err(|error| {
        if matches!(error, AttributeError::IndexChanged) {
            // What was found is in none of them any more: which one has changed only reading tells.
            let segments = offer.index.datanets().iter().flat_map(|datanet| datanet.segments());
            segments.for_each(|segment| offer.indexes.suspect(segment.id()));
        }
    })?;
    let opened = bundle::openings(&offer.index, &attributed.spans);
    // After the last look at a file, so that no change is missed that a search may have met.
    let openings = opened.and_then(|openings| offer.index.check_unwritten().map(|()| openings)).inspect_err(|error| {
        if let ReadError::Changed { segment, .. } | ReadError::Written { segment, .. } = error {
            offer.indexes.suspect(*segment);
        }
    })?;
    Ok((attributed, openings))
}

/// The bundle, from what both sides hold.
pub fn assemble(
    domains: &Domains,
    begin: &Begin,
    voucher: &Signed<Voucher>,
    delivered: Delivered,
    tokens: &[u32],
) -> anyhow::Result<Bundle> {
    Ok(Bundle {
        domains: *domains,
        receipt: Signed::<Receipt> { document: delivered.receipt, signature: delivered.signature },
        request: begin.request.clone(),
        options: begin.options.clone(),
        quote: begin.quote.clone(),
        lane: begin.lane.clone(),
        session: begin.session,
        voucher: voucher.clone(),
        manifest: begin.manifest.clone(),
        messages: messages(&begin.turns).map_err(anyhow::Error::msg)?,
        prompt_salt: begin.prompt_salt,
        answer: delivered.answer,
        answer_salt: delivered.answer_salt,
        continued: begin.continued.clone(),
        token_ids: tokens.to_vec(),
        openings: serde_json::from_str(&delivered.openings)?,
        fingerprints: delivered.fingerprints,
    })
}
