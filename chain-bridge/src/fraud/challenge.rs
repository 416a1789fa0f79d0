//! What only silence proves, asked for and answered: F8 (a receipt is withheld), F6 by request, F7 (a payout tree nobody can open).
//!
//! A challenger attaches a bond; who answers in time is given it. The evidence of an answer is built here, from what the accused holds.

use types::{
    encoding::Document,
    key::{Signed, Signed65},
    quote::Quote,
    receipt::Receipt,
    request::Request,
};

use super::{
    pack::{Packer, Place},
    payout::Shown,
};

/// What `showReceipt` opens: root, place, blobs of receipt, signature, quote and manifest, opening. Quote and manifest may be empty where nothing is
/// billed.
pub fn receipt_evidence(place: &Place, receipt: &[u8], signature: &Signed65, quote: &[u8], manifest: &[u8]) -> Vec<u8> {
    let packer = Packer::new().node_root(&place.root, place.block).u64(place.opening.index);
    packer.blob(receipt).blob(&signature.0).blob(quote).blob(manifest).opening(&place.opening).finish()
}

/// What `challengeRequest` and `showRequest` open: root, place, blobs of receipt and quote, opening.
pub fn request_evidence(place: &Place, receipt: &[u8], quote: &[u8]) -> Vec<u8> {
    let packer = Packer::new().node_root(&place.root, place.block).u64(place.opening.index);
    packer.blob(receipt).blob(quote).opening(&place.opening).finish()
}

/// Whether a receipt is within what its client asked for; the contract's test.
pub fn is_met(asked: &Request, receipt: &Receipt, quote: &Quote) -> bool {
    let terms = (asked.client, asked.manifest, asked.prompt_root, asked.profile, asked.class)
        == (receipt.client, receipt.manifest, receipt.prompt_root, receipt.profile, receipt.class);
    let tokens = u64::from(receipt.first_token) + u64::from(receipt.tokens_out) <= u64::from(asked.tokens_max);
    terms && tokens && receipt.fee <= asked.spending_limit && quote.rate_in <= asked.rate_in_max && quote.rate_out <= asked.rate_out_max
}

/// A request that its receipt does not meet: what there is to challenge with.
pub fn unmet<'a>(request: &'a Signed<Request>, receipt: &Receipt, quote: &Quote) -> Option<&'a Signed<Request>> {
    let is_of_it = request.document.id() == receipt.request && receipt.reason.is_billable() && quote.hash() == receipt.quote;
    (is_of_it && !is_met(&request.document, receipt, quote)).then_some(request)
}

/// What `showLeaf` opens: the leaf asked for, the last one of fewer, the head of an empty tree.
pub fn leaf_evidence(shown: &Shown, index: u64) -> Vec<u8> {
    let packer = match last_of(index, shown.leaves().len()) {
        Some(place) => shown.put_leaf(Packer::new(), place),
        None => Some(shown.put_head(Packer::new())),
    };
    packer.expect("the place was cut to the leaves there are").finish()
}

/// What `showPart` opens: the leaf, then the part asked for, the last one of fewer, or the head of no parts. Nothing past the last leaf.
pub fn part_evidence(shown: &Shown, leaf: usize, index: u64) -> Option<Vec<u8>> {
    let packer = shown.put_leaf(Packer::new(), leaf)?;
    let packer = match last_of(index, shown.parts(leaf).len()) {
        Some(place) => shown.put_part(packer, leaf, place)?,
        None => shown.put_parts_head(packer, leaf)?,
    };
    Some(packer.finish())
}

/// What `challengePart` opens: the leaf. Nothing past the last.
pub fn asked_leaf(shown: &Shown, leaf: usize) -> Option<Vec<u8>> {
    shown.put_leaf(Packer::new(), leaf).map(Packer::finish)
}

fn last_of(index: u64, count: usize) -> Option<usize> {
    let last = count.checked_sub(1)?;
    Some(usize::try_from(index).unwrap_or(last).min(last))
}
