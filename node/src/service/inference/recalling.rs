//! What became of an attempt, said to the client that was cut off from it: the bundle that bills it, or the signed word that nothing is billed.
//!
//! An attempt that was begun and has no receipt when nothing of it is under way never gets one that bills: it is begun once. So its receipt of fee 0
//! is signed, and kept, when it is first asked for. Whoever did not sign the attempt's lane learns as much as of an attempt that never was.
//! The bundle of a checked answer is opened for it as long as it may be checked; from then on, and of a sealed answer, the node has no text to send.

use attribution::{bundle::Bundle, transcript::wrap::ExchangeSecret};
use inference::proto::{
    message::{FromNode, NODE_FRAME_MAX, RefusalCode},
    recall::Recall,
};
use types::{encoding::Document as _, key::Signed, receipt::Reason};

use super::{Answering, Broken, DISMISS_WAIT, Escrow, internal, refuse};
use crate::books::Outcome;

/// Room for the envelope of a bundle in its frame.
const ENVELOPE_BYTES: usize = 64;

impl<E: Escrow> Answering<E> {
    /// Answers `asked`. It costs a verification and two look-ups; a first word of fee 0 costs a signature and a record, once per attempt begun.
    /// An answer that is kept for its client ends by it.
    pub(super) async fn recall(&self, asked: &Signed<Recall>) -> Result<FromNode, Broken> {
        let Recall { node, request, attempt } = asked.document;
        let me = self.account.address();
        if node != me {
            return Err(refuse(RefusalCode::Invalid, format!("{node} is asked, this is {me}")));
        }
        let unknown = || refuse(RefusalCode::Unknown, format!("no attempt {attempt} at request {request} was begun here by who asks"));
        let begun = self.books.begun(request, attempt).map_err(internal)?.ok_or_else(unknown)?;
        asked.verify(&self.domains, begun.signer).map_err(|_| unknown())?;
        let busy = || refuse(RefusalCode::Busy, format!("request {request} has not ended here yet: ask again in some seconds"));
        self.seats.dismiss(begun.signer, request, None, DISMISS_WAIT).await;
        let _held = self.books.hold_request(request).ok_or_else(busy)?;
        match self.books.outcome(request, attempt).map_err(internal)? {
            Some(Outcome::Billed(number)) => {
                let bundle = self.books.receipts(&[number]).map_err(internal)?.pop().ok_or_else(unknown)?;
                let bundle = self.with_text(bundle)?.to_json();
                if bundle.len() + ENVELOPE_BYTES > NODE_FRAME_MAX {
                    return Err(internal(format!("the bundle has {} bytes, more than a frame holds", bundle.len())));
                }
                Ok(FromNode::Kept { bundle })
            }
            Some(Outcome::Unbilled(delivered)) => Ok(FromNode::Receipt(delivered)),
            None => Ok(FromNode::Receipt(Box::new(self.unbilled(begun, Reason::EngineFailure)?))),
        }
    }

    /// A bundle of the books with its text.
    fn with_text(&self, bundle: Bundle) -> Result<Bundle, Broken> {
        if !bundle.is_without_text() {
            return Ok(bundle);
        }
        let receipt = bundle.receipt.document.hash();
        let Some((_, text)) = self.books.text(receipt).map_err(internal)? else {
            let why =
                format!("receipt {receipt} bills the attempt; its question and answer are kept while it may be checked, and not any more");
            return Err(refuse(RefusalCode::Expired, why));
        };
        text.open(&ExchangeSecret::of(&self.account), &bundle.receipt, &bundle.domains).map_err(internal)
    }
}
