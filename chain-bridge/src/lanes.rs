//! Books of payment lanes: what a client promised a node, and whether the next promise is good.
//!
//! Flow: the client signs a [`Lane`] once and a cumulative [`Voucher`] for the prompt at the first token, then every [`VOUCHER_EVERY`] tokens,
//! then for the rest. The node checks each with [`accept_voucher`] before it streams on: a node's exposure is the prompt or
//! [`VOUCHER_EVERY`] tokens, never an answer. The last voucher of each lane is collected in a batch ([`Books::collectable`]).
//!
//! Both sides run the same arithmetic (`types::split::fee`), so an amount that is not exactly what is due is refused and nobody haggles.
//! About 600 bytes a lane: [`LANES_MAX`] lanes are 20 MB.

pub mod client;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{
    amount::{Amount, AmountError},
    id::{Address, Hash32},
    key::{Domains, SignatureError, Signed},
    receipt::token_ids_hash,
    split,
    voucher::{Lane, Voucher},
};

/// Output tokens between two vouchers.
pub const VOUCHER_EVERY: u32 = 64;
/// Most lanes a node keeps.
pub const LANES_MAX: usize = 32_768;
/// Most lanes one payer may hold at a node: concurrent sessions, not a way to fill the books.
pub const LANES_PER_PAYER_MAX: usize = 64;
/// A lane must live this many blocks longer to be served: time to answer and to collect.
pub const EXPIRY_MARGIN: u64 = 30;

/// What an answer was agreed to cost: fixed by the quote and the request before the first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Request id.
    pub request: Hash32,
    /// Attempt number.
    pub attempt: u16,
    /// Quote hash.
    pub quote: Hash32,
    /// Wei per 1,000 input tokens.
    pub rate_in: Amount,
    /// Wei per 1,000 output tokens.
    pub rate_out: Amount,
    /// The protocol's constant.
    pub protocol_fee: Amount,
    /// Output tokens that earlier attempts delivered.
    pub first_token: u32,
    /// Input tokens.
    pub tokens_in: u32,
}

impl Terms {
    /// What `tokens_out` output tokens of this attempt cost.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn due(&self, tokens_out: u32) -> Result<Amount, AmountError> {
        split::fee(self.tokens_in, tokens_out, self.rate_in, self.rate_out, self.protocol_fee)
    }
}

/// Why a lane or voucher is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// The lane pays somebody else.
    #[error("the lane pays node {got}, this node is {expected}: open a lane to this node")]
    OtherNode {
        /// This node.
        expected: Address,
        /// The lane's.
        got: Address,
    },
    /// The voucher names another lane.
    #[error("the voucher is for lane {got}, this answer is paid on lane {expected}")]
    OtherLane {
        /// The lane of this answer.
        expected: Hash32,
        /// The voucher's.
        got: Hash32,
    },
    /// No such lane.
    #[error("lane {0} is not open at this node: send the signed lane first")]
    UnknownLane(Hash32),
    /// Not what was agreed on.
    #[error("the voucher's {field} is {got}, the answer's is {expected}")]
    OtherAnswer {
        /// The field.
        field: &'static str,
        /// The answer's.
        expected: String,
        /// The voucher's.
        got: String,
    },
    /// Not rising.
    #[error("the voucher covers {got} output tokens and one for {last} is held already: it is a replay")]
    Replayed {
        /// Held.
        last: u32,
        /// Offered.
        got: u32,
    },
    /// For tokens that were not sent.
    #[error("the voucher covers {got} output tokens and {delivered} were delivered")]
    BeyondDelivery {
        /// Delivered.
        delivered: u32,
        /// Offered.
        got: u32,
    },
    /// Built on another state of the lane.
    #[error("the voucher builds on {got} wei, the lane stands at {expected} wei")]
    WrongBase {
        /// The lane's cumulative amount after its last receipt.
        expected: Amount,
        /// The voucher's base.
        got: Amount,
    },
    /// Not what is due.
    #[error("the voucher promises {got} wei, due are exactly {expected} wei (cumulative)")]
    NotDue {
        /// Due.
        expected: Amount,
        /// Promised.
        got: Amount,
    },
    /// More than the lane may carry.
    #[error("{cumulative} wei are above the lane's cap of {cap} wei: open a lane with a higher cap")]
    AboveCap {
        /// The cap.
        cap: Amount,
        /// Asked.
        cumulative: Amount,
    },
    /// More than the client allowed for the request.
    #[error("the answer would cost {cost} wei, the request's spending limit leaves {left} wei")]
    AboveLimit {
        /// Left of the limit.
        left: Amount,
        /// Asked.
        cost: Amount,
    },
    /// Too late.
    #[error(
        "the lane expires at block {expiry} and the chain is at {block}: open a new lane ({EXPIRY_MARGIN} blocks of margin are needed)"
    )]
    Expired {
        /// Last block.
        expiry: u64,
        /// Now.
        block: u64,
    },
    /// The escrow does not hold it.
    #[error("the payer's escrow has {free} wei free and {need} wei would be owed here: deposit more")]
    InsufficientEscrow {
        /// Free at the safe head.
        free: Amount,
        /// Owed and not collected, with this voucher.
        need: Amount,
    },
    /// Too many lanes.
    #[error("this node keeps at most {LANES_MAX} lanes and {LANES_PER_PAYER_MAX} of one payer: reuse an open lane")]
    TooManyLanes,
    /// A signature.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Amounts beyond what can exist.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

/// One lane as the node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneBook {
    /// The lane with the payer's signature.
    pub lane: Signed<Lane>,
    /// Cumulative amount after the lane's last receipt: base of the next answer's vouchers.
    pub settled: Amount,
    /// Best voucher held.
    pub last: Option<Signed<Voucher>>,
    /// Whether `last` belongs to an answer without a receipt yet.
    pub is_open: bool,
    /// Collected on chain.
    pub collected: Amount,
}

/// What the node knows when a voucher arrives.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Deployment whose signatures count.
    pub domains: &'a Domains,
    /// Agreed terms.
    pub terms: &'a Terms,
    /// Output tokens of this attempt streamed so far.
    pub delivered: &'a [u32],
    /// The chain's latest block.
    pub block: u64,
    /// Free escrow of the payer, less what it owes on its other lanes here.
    pub free: Amount,
}

/// Output tokens that may be streamed given the last voucher of this answer: one before any, then [`VOUCHER_EVERY`] beyond the last.
pub fn tokens_allowed(last: Option<&Voucher>) -> u32 {
    last.map_or(1, |voucher| voucher.tokens_out.saturating_add(VOUCHER_EVERY))
}

impl LaneBook {
    /// Cumulative amount promised so far.
    pub fn promised(&self) -> Amount {
        self.last.as_ref().map_or(self.settled, |voucher| voucher.document.cumulative)
    }

    /// Promised and not collected.
    pub fn outstanding(&self) -> Amount {
        Amount(self.promised().0.saturating_sub(self.collected.0))
    }

    /// The last voucher of the answer in progress, if it is the one of these terms.
    pub fn current(&self, terms: &Terms) -> Option<&Voucher> {
        let voucher = &self.last.as_ref().filter(|_| self.is_open)?.document;
        (voucher.request == terms.request && voucher.attempt == terms.attempt).then_some(voucher)
    }
}

/// The lane's books after a good voucher.
///
/// # Errors
/// [`VoucherError`], each naming what was expected and what came; the books are unchanged.
pub fn accept_voucher(book: &LaneBook, voucher: &Signed<Voucher>, facts: &Facts<'_>) -> Result<LaneBook, VoucherError> {
    let (lane, got, terms) = (&book.lane.document, &voucher.document, facts.terms);
    if got.lane != lane.id() {
        return Err(VoucherError::OtherLane { expected: lane.id(), got: got.lane });
    }
    same("request", terms.request, got.request)?;
    same("attempt", terms.attempt, got.attempt)?;
    same("quote", terms.quote, got.quote)?;
    same("first token", terms.first_token, got.first_token)?;
    same("number of input tokens", terms.tokens_in, got.tokens_in)?;
    check_expiry(lane, facts.block)?;
    let delivered = u32::try_from(facts.delivered.len()).unwrap_or(u32::MAX);
    let tokens = usize::try_from(got.tokens_out).ok().and_then(|count| facts.delivered.get(..count));
    let tokens = tokens.ok_or(VoucherError::BeyondDelivery { delivered, got: got.tokens_out })?;
    if let Some(last) = book.current(terms).filter(|last| got.tokens_out <= last.tokens_out) {
        return Err(VoucherError::Replayed { last: last.tokens_out, got: got.tokens_out });
    }
    same("token-id hash", token_ids_hash(tokens), got.token_ids)?;
    if got.base != book.settled {
        return Err(VoucherError::WrongBase { expected: book.settled, got: got.base });
    }
    let expected = book.settled.plus(terms.due(got.tokens_out)?)?;
    if got.cumulative > lane.cap {
        return Err(VoucherError::AboveCap { cap: lane.cap, cumulative: got.cumulative });
    }
    if got.cumulative != expected {
        return Err(VoucherError::NotDue { expected, got: got.cumulative });
    }
    let need = Amount(got.cumulative.0.saturating_sub(book.collected.0));
    if need > facts.free {
        return Err(VoucherError::InsufficientEscrow { free: facts.free, need });
    }
    voucher.verify(facts.domains, lane.payer)?;
    Ok(LaneBook { last: Some(voucher.clone()), is_open: true, ..book.clone() })
}

fn same<T: PartialEq + std::fmt::Display>(field: &'static str, expected: T, got: T) -> Result<(), VoucherError> {
    if expected == got { Ok(()) } else { Err(VoucherError::OtherAnswer { field, expected: expected.to_string(), got: got.to_string() }) }
}

const fn check_expiry(lane: &Lane, block: u64) -> Result<(), VoucherError> {
    if lane.expiry < block.saturating_add(EXPIRY_MARGIN) { Err(VoucherError::Expired { expiry: lane.expiry, block }) } else { Ok(()) }
}

/// All lanes of one node. Serialise it after each change: vouchers are money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Books {
    node: Address,
    lanes: BTreeMap<Hash32, LaneBook>,
}

impl Books {
    /// Empty books of `node`.
    pub const fn new(node: Address) -> Self {
        Self { node, lanes: BTreeMap::new() }
    }

    /// Opens a lane, or finds it open. `collected` is what the chain says was collected on it.
    ///
    /// # Errors
    /// [`VoucherError::OtherNode`], [`VoucherError::Expired`], [`VoucherError::Signature`], [`VoucherError::TooManyLanes`].
    pub fn open(&mut self, domains: &Domains, lane: &Signed<Lane>, block: u64, collected: Amount) -> Result<&LaneBook, VoucherError> {
        let id = lane.document.id();
        if lane.document.node != self.node {
            return Err(VoucherError::OtherNode { expected: self.node, got: lane.document.node });
        }
        check_expiry(&lane.document, block)?;
        if !self.lanes.contains_key(&id) {
            lane.verify(domains, lane.document.payer)?;
            self.prune(block);
            let of_payer = self.lanes.values().filter(|book| book.lane.document.payer == lane.document.payer).count();
            if self.lanes.len() >= LANES_MAX || of_payer >= LANES_PER_PAYER_MAX {
                return Err(VoucherError::TooManyLanes);
            }
        }
        Ok(self.lanes.entry(id).or_insert_with(|| LaneBook {
            lane: lane.clone(),
            settled: collected,
            last: None,
            is_open: false,
            collected,
        }))
    }

    /// Drops lanes that can no longer be collected.
    fn prune(&mut self, block: u64) {
        self.lanes.retain(|_, book| book.lane.document.expiry >= block);
    }

    /// One lane.
    pub fn get(&self, lane: Hash32) -> Option<&LaneBook> {
        self.lanes.get(&lane)
    }

    /// All lanes.
    pub fn lanes(&self) -> impl Iterator<Item = &LaneBook> {
        self.lanes.values()
    }

    /// What `payer` owes here on lanes other than `except`.
    pub fn owed_elsewhere(&self, payer: Address, except: Hash32) -> Amount {
        let others = self.lanes.iter().filter(|(id, book)| **id != except && book.lane.document.payer == payer);
        Amount(others.fold(0, |sum, (_, book)| book.outstanding().0.saturating_add(sum)))
    }

    /// Checks a voucher and keeps it. `free` is the payer's free escrow on chain; debts on its other lanes here are taken off.
    ///
    /// # Errors
    /// [`VoucherError`]; the books are unchanged.
    pub fn accept(&mut self, lane: Hash32, voucher: &Signed<Voucher>, facts: &Facts<'_>) -> Result<(), VoucherError> {
        let book = self.lanes.get(&lane).ok_or(VoucherError::UnknownLane(lane))?;
        let owed = self.owed_elsewhere(book.lane.document.payer, lane);
        let facts = Facts { free: Amount(facts.free.0.saturating_sub(owed.0)), ..*facts };
        let next = accept_voucher(book, voucher, &facts)?;
        self.lanes.insert(lane, next);
        Ok(())
    }

    /// Closes the answer in progress: its vouchers become the base of the next. Returns the cumulative amount its receipt states.
    pub fn settle(&mut self, lane: Hash32) -> Option<Amount> {
        let book = self.lanes.get_mut(&lane)?;
        if book.is_open {
            book.settled = book.promised();
            book.is_open = false;
        }
        Some(book.settled)
    }

    /// Takes over what the chain says was collected on a lane.
    pub fn collected(&mut self, lane: Hash32, amount: Amount) {
        if let Some(book) = self.lanes.get_mut(&lane) {
            book.collected = book.collected.max(amount);
        }
    }

    /// Lanes whose settled vouchers are worth collecting: at least `least` wei above what was collected.
    pub fn collectable(&self, least: Amount) -> Vec<(Signed<Lane>, Signed<Voucher>)> {
        let ripe = self.lanes.values().filter(|book| !book.is_open && book.outstanding() >= least && book.outstanding() > Amount::ZERO);
        ripe.filter_map(|book| Some((book.lane.clone(), book.last.clone()?))).collect()
    }

    /// Fees promised and not collected, over all lanes: what this node stands to lose, and what its stake must cover.
    pub fn exposure(&self) -> Amount {
        Amount(self.lanes.values().fold(0, |sum, book| book.outstanding().0.saturating_add(sum)))
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod tests;
