//! Payout trees rebuilt by a stranger from what is public: receipts with their quotes and manifests, and what the chain says.
//!
//! Epoch after epoch from the first: every receipt is checked against its node's signature and root, every fee divided anew, every refund
//! computed, and the tree compared with the posted root and total. What the chain says comes through [`Facts`], so that nothing here knows
//! an event. Memory: the receipts of one epoch with their parts, about 2 kB a receipt, and for each lane how far its receipts speak for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    encoding::Body,
    id::{Address, AssetId, Hash32},
    key::{Domains, SignatureError},
    operator::NAMED_BYTES_MAX,
    payout::{PartLeaf, PayoutLeaf},
};

use super::{
    Division, Payout, PayoutError, Refund, Standing, Unpaid, Workers, divide,
    division::{gather, one_by_one},
    receipts::root_over,
};
use crate::message::ReceiptItem;

/// What a deployment fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// What signatures name.
    pub domains: Domains,
    /// Takes the protocol's constant.
    pub protocol: Address,
    /// The stakers' vault.
    pub stakers: Address,
    /// The insurance pool.
    pub insurance: Address,
}

/// A node's root as the chain has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootFacts {
    /// Root over its receipts.
    pub receipts: Hash32,
    /// How many.
    pub count: u64,
    /// Sum of their fees.
    pub fees: Amount,
    /// Block that it was submitted in.
    pub block: u64,
}

/// A payout as it was posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posted {
    /// Root.
    pub root: Hash32,
    /// Sum of all cumulative amounts.
    pub total: Amount,
    /// Root it builds on; zero for the first.
    pub previous: Hash32,
}

/// A refund that is due in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundFacts {
    /// The lane.
    pub lane: Hash32,
    /// Its payer.
    pub payer: Address,
    /// Its node.
    pub node: Address,
    /// What the lane collected in all.
    pub collected: Amount,
    /// What notes and slashes had given back on it when the refund was asked for: nothing is given back after that.
    pub given_back: Amount,
}

/// What the chain says of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochFacts {
    /// Roots by node.
    pub roots: BTreeMap<Address, RootFacts>,
    /// The payout; nothing before it was posted.
    pub posted: Option<Posted>,
    /// Refunds due in it.
    pub refunds: Vec<RefundFacts>,
}

/// What the chain says, as far as payouts depend on it.
pub trait Facts {
    /// One epoch; nothing if it never opened.
    fn epoch(&self, epoch: u64) -> Option<EpochFacts>;

    /// Whether a receipt was void, or its node found to withhold one of the same root, when W1 of `epoch` ended.
    fn is_out(&self, epoch: u64, node: Address, receipt: Hash32) -> bool;

    /// Whether a span of a receipt had been proven false when W1 of `epoch` ended: what it would pay goes to the insurance pool.
    fn is_span_out(&self, epoch: u64, receipt: Hash32, span: u16) -> bool;

    /// Whether a lane had collected at least `cumulative_after` when W1 of `epoch` ended.
    fn is_collected(&self, epoch: u64, lane: Hash32, cumulative_after: Amount) -> bool;

    /// Owner of an asset at a block; nothing if nobody owned it.
    fn owner_at(&self, asset: AssetId, block: u64) -> Option<Address>;

    /// Payout account of an operator at a block; nothing if it was none.
    fn payout_at(&self, node: Address, block: u64) -> Option<Address>;
}

/// Why a shown receipt is not the one the chain committed to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Another node's.
    #[error("it is of node {0}")]
    Node(Address),
    /// Not signed by its node.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The quote is another one.
    #[error("the quote shown hashes to {got}, the receipt names {expected}")]
    Quote {
        /// Hash of the one shown.
        got: Hash32,
        /// Hash in the receipt.
        expected: Hash32,
    },
    /// It is billed, and shown without its quote.
    #[error("it may be billed, and what it names as its quote ({0}) is not shown")]
    NoQuote(Hash32),
    /// It is billed, and shown without its manifest.
    #[error("it may be billed, and what it names as its manifest ({0}) is not shown")]
    NoManifest(Hash32),
    /// What it names takes more bytes than can be shown on the chain.
    #[error("what it names as quote or manifest takes {got} bytes, at most {NAMED_BYTES_MAX} can be shown")]
    TooLong {
        /// How many.
        got: usize,
    },
    /// The manifest is another one.
    #[error("the manifest shown has the root {got}, the receipt names {expected}")]
    Manifest {
        /// Root of the one shown.
        got: Hash32,
        /// Root in the receipt.
        expected: Hash32,
    },
}

/// Why an epoch does not give what the chain says. Each names the first record that is at odds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// No such epoch.
    #[error("epoch {0}: it never opened on the chain")]
    Unknown(u64),
    /// No payout.
    #[error("epoch {0}: no payout was posted for it")]
    NotPosted(u64),
    /// Epochs out of order.
    #[error("epoch {got}: epoch {last} was rebuilt before it, epochs must ascend")]
    Order {
        /// The one given.
        got: u64,
        /// The one before.
        last: u64,
    },
    /// The payout builds on another tree.
    #[error("epoch {epoch}: its payout builds on root {got} by the chain, the tree rebuilt before it has {expected}")]
    Previous {
        /// The epoch.
        epoch: u64,
        /// By the chain.
        got: Hash32,
        /// Rebuilt.
        expected: Hash32,
    },
    /// A root without receipts.
    #[error("epoch {epoch}, node {node}: it submitted a root, and its receipts are missing")]
    Missing {
        /// The epoch.
        epoch: u64,
        /// The node.
        node: Address,
    },
    /// Receipts without a root.
    #[error("epoch {epoch}, node {node}: there are receipts of it, and it submitted no root")]
    Foreign {
        /// The epoch.
        epoch: u64,
        /// The node.
        node: Address,
    },
    /// One receipt.
    #[error("epoch {epoch}, node {node}, receipt {receipt}: {why}")]
    Receipt {
        /// The epoch.
        epoch: u64,
        /// The node.
        node: Address,
        /// Its place.
        receipt: u64,
        /// What is wrong with it.
        why: ItemError,
    },
    /// Too many or too few.
    #[error("epoch {epoch}, node {node}: {got} receipts, its root covers {expected}")]
    Count {
        /// The epoch.
        epoch: u64,
        /// The node.
        node: Address,
        /// Shown.
        got: u64,
        /// By the chain.
        expected: u64,
    },
    /// Another root, or another sum of fees than the root's tree has.
    #[error(
        "epoch {epoch}, node {node}: its receipts give the root {got} over fees of {got_fees} wei, it submitted {expected} over {expected_fees}"
    )]
    Root {
        /// The epoch.
        epoch: u64,
        /// The node.
        node: Address,
        /// Rebuilt.
        got: Hash32,
        /// Sum of the receipts' fees.
        got_fees: Amount,
        /// By the chain.
        expected: Hash32,
        /// By the chain.
        expected_fees: Amount,
    },
    /// The shares make no tree.
    #[error("epoch {epoch}: {why}")]
    Payout {
        /// The epoch.
        epoch: u64,
        /// Why.
        why: PayoutError,
    },
    /// A posted root or total is another one.
    #[error("epoch {epoch}: the payout rebuilt is {got} of {got_total} wei, posted was {expected} of {expected_total} wei")]
    Posted {
        /// The epoch.
        epoch: u64,
        /// Rebuilt root.
        got: Hash32,
        /// Rebuilt total.
        got_total: Amount,
        /// Posted root.
        expected: Hash32,
        /// Posted total.
        expected_total: Amount,
    },
}

/// Whether signatures of receipts are still to be verified: each costs more than all the rest of its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatures {
    /// They are verified here.
    Verify,
    /// The caller verified them when the receipts came.
    Verified,
}

/// An epoch rebuilt, equal to what was posted.
#[derive(Debug)]
pub struct Rebuilt {
    /// Its tree.
    pub payout: Payout,
    /// What the chain says, which the tree equals.
    pub posted: Posted,
    /// Receipts under its roots.
    pub receipts: u64,
    /// Those without parts.
    pub unpaid: Vec<Unpaid>,
    /// Refunds in it.
    pub refunds: Vec<Refund>,
}

/// Rebuilds epoch after epoch.
#[derive(Debug)]
pub struct Replay<'f, F> {
    facts: &'f F,
    accounts: Accounts,
    last: Option<u64>,
    root: Hash32,
    cumulative: BTreeMap<Address, Amount>,
    /// What each lane's receipts so far speak for.
    standing: BTreeMap<Hash32, Standing>,
}

impl<'f, F: Facts + Sync> Replay<'f, F> {
    /// Before the first epoch.
    pub const fn new(facts: &'f F, accounts: Accounts) -> Self {
        Self { facts, accounts, last: None, root: Hash32::ZERO, cumulative: BTreeMap::new(), standing: BTreeMap::new() }
    }

    /// Rebuilds the next epoch that has a payout from its receipts by node, each node's in its own order.
    ///
    /// # Errors
    /// [`ReplayError`]; going on after one is of no use.
    pub fn next(&mut self, epoch: u64, receipts: &BTreeMap<Address, Vec<ReceiptItem>>) -> Result<Rebuilt, ReplayError> {
        self.next_by(&one_by_one, epoch, receipts, Signatures::Verify)
    }

    /// The same by the workers of a shell.
    ///
    /// # Errors
    /// [`ReplayError`], the same whoever worked.
    pub fn next_by(
        &mut self,
        workers: Workers<'_>,
        epoch: u64,
        receipts: &BTreeMap<Address, Vec<ReceiptItem>>,
        signatures: Signatures,
    ) -> Result<Rebuilt, ReplayError> {
        if let Some(last) = self.last.filter(|last| *last >= epoch) {
            return Err(ReplayError::Order { got: epoch, last });
        }
        let facts = self.facts.epoch(epoch).ok_or(ReplayError::Unknown(epoch))?;
        let posted = facts.posted.ok_or(ReplayError::NotPosted(epoch))?;
        if posted.previous != self.root {
            return Err(ReplayError::Previous { epoch, got: posted.previous, expected: self.root });
        }
        self.check_receipts(workers, epoch, &facts, receipts, signatures)?;
        let Division { parts, unpaid, refunds } =
            divide(self.facts, &self.accounts, epoch, receipts, &facts.refunds, &mut self.standing, workers);
        let payout = Payout::over(&self.cumulative, parts, workers).map_err(|why| ReplayError::Payout { epoch, why })?;
        if (payout.root(), payout.total()) != (posted.root, posted.total) {
            return Err(ReplayError::Posted {
                epoch,
                got: payout.root(),
                got_total: payout.total(),
                expected: posted.root,
                expected_total: posted.total,
            });
        }
        (self.last, self.root, self.cumulative) = (Some(epoch), posted.root, payout.cumulative());
        let count = receipts.values().map(Vec::len).sum::<usize>();
        Ok(Rebuilt { payout, posted, receipts: u64::try_from(count).unwrap_or(u64::MAX), unpaid, refunds })
    }

    /// Whether the receipts are those that every node of the epoch committed to. A node that was found to withhold one has no parts, so of it
    /// nothing needs to be shown.
    fn check_receipts(
        &self,
        workers: Workers<'_>,
        epoch: u64,
        facts: &EpochFacts,
        receipts: &BTreeMap<Address, Vec<ReceiptItem>>,
        signatures: Signatures,
    ) -> Result<(), ReplayError> {
        if let Some(node) = receipts.keys().find(|node| !facts.roots.contains_key(node)) {
            return Err(ReplayError::Foreign { epoch, node: *node });
        }
        let roots: Vec<_> = facts.roots.iter().collect();
        let check = |place: usize| {
            let (node, root) = roots[place];
            match receipts.get(node) {
                Some(items) => check_root_by(&self.accounts.domains, epoch, *node, root, items, signatures),
                // No receipt hashes to zero, so only the node itself can be out by it.
                None if self.facts.is_out(epoch, *node, Hash32::ZERO) => Ok(()),
                None => Err(ReplayError::Missing { epoch, node: *node }),
            }
        };
        gather(workers, roots.len(), check).into_iter().collect()
    }
}

/// Whether `items` are what `node` committed to in `epoch`: the first receipt that is not is named.
///
/// # Errors
/// [`ReplayError`].
pub fn check_root(domains: &Domains, epoch: u64, node: Address, root: &RootFacts, items: &[ReceiptItem]) -> Result<(), ReplayError> {
    check_root_by(domains, epoch, node, root, items, Signatures::Verify)
}

fn check_root_by(
    domains: &Domains,
    epoch: u64,
    node: Address,
    root: &RootFacts,
    items: &[ReceiptItem],
    signatures: Signatures,
) -> Result<(), ReplayError> {
    // Answers of one node mostly have one manifest: the last one is not hashed again.
    let mut last: Option<(&Body, Hash32)> = None;
    for (place, item) in (0..).zip(items) {
        let manifest = item.manifest.as_ref().map(|body| match last {
            Some((manifest, root)) if manifest == body => root,
            _ => last.insert((body, body.hash())).1,
        });
        check_opened(domains, node, item, manifest, signatures).map_err(|why| ReplayError::Receipt { epoch, node, receipt: place, why })?;
    }
    let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
    if count != root.count {
        return Err(ReplayError::Count { epoch, node, got: count, expected: root.count });
    }
    let rebuilt = root_over(node, epoch, items.iter().map(|item| &item.receipt.document))
        .map_err(|error| ReplayError::Payout { epoch, why: PayoutError::Amount(error) })?;
    if (rebuilt.receipts, rebuilt.fees) != (root.receipts, root.fees) {
        let (got, got_fees) = (rebuilt.receipts, rebuilt.fees);
        return Err(ReplayError::Root { epoch, node, got, got_fees, expected: root.receipts, expected_fees: root.fees });
    }
    Ok(())
}

/// Whether one receipt is `node`'s, signed by it, and shown with what it names: a quote and a manifest if it may be billed, and nothing else in
/// their place.
///
/// # Errors
/// [`ItemError`].
pub fn check_item(domains: &Domains, node: Address, item: &ReceiptItem) -> Result<(), ItemError> {
    check_opened(domains, node, item, item.manifest.as_ref().map(Body::hash), Signatures::Verify)
}

fn check_opened(
    domains: &Domains,
    node: Address,
    item: &ReceiptItem,
    manifest: Option<Hash32>,
    signatures: Signatures,
) -> Result<(), ItemError> {
    let receipt = &item.receipt.document;
    if receipt.node != node {
        return Err(ItemError::Node(receipt.node));
    }
    if signatures == Signatures::Verify {
        item.receipt.verify(domains, node)?;
    }
    let longest = item.quote.iter().chain(&item.manifest).map(|body| body.0.len()).max().unwrap_or_default();
    if longest > NAMED_BYTES_MAX {
        return Err(ItemError::TooLong { got: longest });
    }
    match item.quote.as_ref().map(Body::hash) {
        Some(got) if got != receipt.quote => return Err(ItemError::Quote { got, expected: receipt.quote }),
        None if receipt.reason.is_billable() => return Err(ItemError::NoQuote(receipt.quote)),
        _ => {}
    }
    match manifest {
        Some(got) if got != receipt.manifest => Err(ItemError::Manifest { got, expected: receipt.manifest }),
        None if receipt.reason.is_billable() => Err(ItemError::NoManifest(receipt.manifest)),
        _ => Ok(()),
    }
}

/// One account of a payout tree, as it is shown beside the receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The leaf.
    pub leaf: PayoutLeaf,
    /// What makes the difference to the tree before, ascending.
    pub parts: Vec<PartLeaf>,
}

/// The lines of a tree, ascending by account.
pub fn lines(payout: &Payout) -> impl Iterator<Item = Line> {
    payout.leaves().iter().zip(payout.parts()).map(|(leaf, parts)| Line { leaf: *leaf, parts: parts.clone() })
}

/// Where a shown tree is not the one its receipts give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// An account is shown that the receipts do not pay.
    #[error("account {0} is shown, the receipts give it no line there")]
    Foreign(Address),
    /// An account is missing.
    #[error("account {0} is not shown, the receipts give it a line there")]
    Missing(Address),
    /// A part differs, is missing, or is too much.
    #[error("account {account}, node {}, receipt {}, part {}: shown are {shown} wei, the receipts give {rebuilt}", part.node, part.receipt, part.part)]
    Part {
        /// The account.
        account: Address,
        /// The part, as far as both agree on its place; else the first of both.
        part: PartLeaf,
        /// Shown; 0 if it is not.
        shown: Amount,
        /// Rebuilt; 0 if there is none.
        rebuilt: Amount,
    },
    /// The leaf differs though its parts do not.
    #[error("account {account}: shown are {} + {} = {} wei, the receipts give {} + {} = {}", .shown.previous, earned(.shown), .shown.cumulative, .rebuilt.previous, earned(.rebuilt), .rebuilt.cumulative)]
    Leaf {
        /// The account.
        account: Address,
        /// Shown.
        shown: PayoutLeaf,
        /// Rebuilt.
        rebuilt: PayoutLeaf,
    },
}

/// What a leaf adds to the tree before.
pub const fn earned(leaf: &PayoutLeaf) -> Amount {
    Amount(leaf.cumulative.0.saturating_sub(leaf.previous.0))
}

/// The first account, and in it the first part, in which a shown tree differs from a rebuilt one; nothing if they are equal.
pub fn first_difference(payout: &Payout, shown: &[Line]) -> Option<Difference> {
    let mut rebuilt = lines(payout);
    for line in shown {
        let Some(own) = rebuilt.next() else { return Some(Difference::Foreign(line.leaf.account)) };
        if own == *line {
            continue;
        }
        let (account, expected) = (line.leaf.account, own.leaf.account);
        return Some(match account.cmp(&expected) {
            std::cmp::Ordering::Less => Difference::Foreign(account),
            std::cmp::Ordering::Greater => Difference::Missing(expected),
            std::cmp::Ordering::Equal => {
                first_part(account, &own.parts, &line.parts).unwrap_or(Difference::Leaf { account, shown: line.leaf, rebuilt: own.leaf })
            }
        });
    }
    rebuilt.next().map(|own| Difference::Missing(own.leaf.account))
}

fn first_part(account: Address, rebuilt: &[PartLeaf], shown: &[PartLeaf]) -> Option<Difference> {
    let at = (0..rebuilt.len().max(shown.len())).find(|place| rebuilt.get(*place) != shown.get(*place))?;
    let amount = |part: Option<&PartLeaf>| part.map_or(Amount::ZERO, |part| part.amount);
    let difference = |part: PartLeaf, shown: Amount, rebuilt: Amount| Difference::Part { account, part, shown, rebuilt };
    match (rebuilt.get(at), shown.get(at)) {
        (Some(own), Some(other)) if own.place() == other.place() => Some(difference(*own, other.amount, own.amount)),
        (Some(own), Some(other)) if other.place() < own.place() => Some(difference(*other, other.amount, Amount::ZERO)),
        (Some(own), _) => Some(difference(*own, Amount::ZERO, own.amount)),
        (None, other) => other.map(|part| difference(*part, amount(other), Amount::ZERO)),
    }
}

#[cfg(test)]
mod tests;
