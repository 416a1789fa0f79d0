//! What only silence proves, asked for and answered: F8 (a receipt is withheld), F6 by request, F7 (a payout tree nobody can open).
//!
//! A challenger attaches a bond, for receipts one for each; who answers in time is given it. The evidence of an answer is built here, from what the
//! accused holds. A receipt is shown with its quote and manifest (about 1 KB) and 48 bytes a level of its tree: near 70 to a transaction.

use types::{
    encoding::Document,
    key::{Signed, Signed65},
    merkle::SumTree,
    operator::NodeRoot,
    quote::Quote,
    receipt::Receipt,
    request::Request,
};

use super::{
    pack::{Packer, Place},
    payout::Shown,
    search::Bodies,
};

/// Most receipts that one challenge asks for.
pub const STRETCH_MAX: u64 = 256;
/// Most bytes of evidence that one transaction shows: below what a transaction may carry, with room for what stands around it.
pub const EVIDENCE_BYTES_MAX: usize = 120 << 10;

/// Most questions that one transaction answers: with [`EVIDENCE_BYTES_MAX`] it bounds its gas, 10 million at most.
pub const ANSWERS_MAX: usize = 256;

/// What answers a question for a leaf or a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether a part was asked for.
    pub is_part: bool,
    /// The place that was asked for.
    pub index: u64,
    /// See [`leaf_evidence`] and [`part_evidence`].
    pub evidence: Vec<u8>,
}

impl Answer {
    /// Bytes that it takes among others.
    pub const fn bytes(&self) -> usize {
        self.evidence.len() + 13
    }
}

/// What `showLines` opens: how many, then of each what was asked for, its index and its evidence.
pub fn answers_evidence<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Vec<u8> {
    let (mut count, mut packer) = (0_u32, Packer::new());
    for answer in answers {
        packer = packer.u8(answer.is_part.into()).u64(answer.index).blob(&answer.evidence);
        count = count.saturating_add(1);
    }
    Packer::new().u32(count).raw(&packer.finish()).finish()
}

/// Receipts that follow each other under a node's root: what one challenge asks for; or, counting none, what is published from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The node root, as its event gives it.
    pub root: NodeRoot,
    /// Block of its submission.
    pub block: u64,
    /// Place of the first one.
    pub first: u64,
    /// How many; 0 if nobody asked.
    pub count: u64,
}

/// A receipt as it is shown on the chain. Quote and manifest may be empty where nothing is billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhibit {
    /// Receipt, quote, manifest.
    pub bodies: Bodies,
    /// The node's signature over the receipt.
    pub signature: Signed65,
}

/// What `showReceipts` opens, in as many transactions as the receipts need, each of `bytes_max` bytes at most unless one receipt alone is longer: root,
/// first, count, the place of the transaction's first receipt, then for each receipt its blobs and siblings. `exhibits` begin with the receipt at
/// `next`: the one behind the last that was shown, or one before it, since the contract passes over those that were. Nothing if they reach beyond
/// the tree.
pub fn receipts_evidence(of: &Stretch, next: u64, tree: &SumTree, exhibits: &[Exhibit], bytes_max: usize) -> Option<Vec<Vec<u8>>> {
    // Whoever publishes begins a stretch of none with each transaction, whose place is the stretch's.
    let head = |at: u64| {
        let packer = Packer::new().node_root(&of.root, of.block);
        if of.count == 0 { packer.u64(at).u64(0) } else { packer.u64(of.first).u64(of.count).u64(at) }
    };
    let (mut all, mut packer, mut is_begun) = (Vec::new(), head(next), false);
    for (at, exhibit) in (next..).zip(exhibits) {
        let Bodies { receipt, quote, manifest } = &exhibit.bodies;
        let shown = Packer::new().blob(receipt).blob(&exhibit.signature.0).blob(quote).blob(manifest);
        let shown = shown.siblings(&tree.open(at)?.siblings);
        if is_begun && packer.len() + shown.len() > bytes_max {
            all.push(std::mem::replace(&mut packer, head(at)).finish());
        }
        (packer, is_begun) = (packer.raw(&shown.finish()), true);
    }
    if is_begun {
        all.push(packer.finish());
    }
    Some(all)
}

/// What `challengeRequest` and `showRequest` open: root, place, blobs of receipt and quote, siblings.
pub fn request_evidence(place: &Place, receipt: &[u8], quote: &[u8]) -> Vec<u8> {
    let packer = Packer::new().node_root(&place.root, place.block).u64(place.opening.index);
    packer.blob(receipt).blob(quote).siblings(&place.opening.siblings).finish()
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
