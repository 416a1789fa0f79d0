//! What the outbox remembers of a transaction, from before it is signed until somebody was told how it ended.

use serde::{Deserialize, Serialize};
use types::{id::Hash32, time::BlockRef};

use super::{BUMPS_MAX, FORMER_MAX, Outbox};
use crate::chain::Call;

/// What an account pays for gas at most, in wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fees {
    /// Most per gas in all.
    pub most: u128,
    /// Tip per gas.
    pub tip: u128,
}

impl Fees {
    /// A quarter more, at least one wei.
    pub(super) fn raised(self) -> Self {
        let raise = |fee: u128| fee.saturating_add(fee / 4).saturating_add(1);
        Self { most: raise(self.most), tip: raise(self.tip) }
    }

    /// The highest that a transaction which somebody agreed to may come to offer: raised [`BUMPS_MAX`] times.
    #[must_use]
    pub fn highest(self) -> Self {
        (0..BUMPS_MAX).fold(self, |fees, _| fees.raised())
    }

    pub(super) fn at_least(self, least: Self) -> Self {
        Self { most: self.most.max(least.most), tip: self.tip.max(least.tip) }
    }

    pub(super) fn at_most(self, most: Self) -> Self {
        Self { most: self.most.min(most.most), tip: self.tip.min(most.tip) }
    }
}

/// What somebody wants to happen once. It is written down before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The kind of call.
    pub what: String,
    /// Fingerprint of the command that wants it, which tells somebody how it ended; nothing in a process that runs by itself, where nobody is told.
    pub origin: Option<Hash32>,
    /// What is called, with its amount.
    pub call: Call,
    /// Most gas it may use.
    pub gas: u64,
    /// Fees of the first send.
    pub fees: Fees,
    /// When it was wanted, in seconds since 1970.
    pub since: u64,
}

/// One key's transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The kind of call; empty if an earlier version wrote it.
    #[serde(default)]
    pub what: String,
    /// See [`Intent::origin`].
    #[serde(default)]
    pub origin: Option<Hash32>,
    /// See [`Intent::since`].
    #[serde(default)]
    pub since: u64,
    /// Whether somebody was told how it ended.
    #[serde(default)]
    pub is_reported: bool,
    /// What is called.
    pub call: Call,
    /// Most gas it may use.
    pub gas: u64,
    /// The account's nonce it has until a stranger's transaction has taken that one for good.
    pub nonce: u64,
    /// Fees of the last send.
    pub fees: Fees,
    /// What fees may rise to, as somebody agreed to; nothing where nobody was asked.
    #[serde(default)]
    pub most: Option<Fees>,
    /// Hashes handed over so far under its nonce, oldest first.
    pub sent: Vec<Hash32>,
    /// Hashes handed over under nonces that strangers took, oldest first: looked for all the same.
    #[serde(default)]
    pub former: Vec<Hash32>,
    /// Head when it was last sent.
    pub sent_at: u64,
    /// Fee rises so far.
    pub bumps: u8,
    /// Where one of the hashes is included.
    pub included: Option<(Hash32, BlockRef)>,
    /// Head at which the account's nonce was first seen past ours without an inclusion.
    pub passed_at: Option<u64>,
}

impl Entry {
    /// A transaction that was never sent.
    pub fn new(intent: Intent, nonce: u64, head: u64) -> Self {
        let Intent { what, origin, call, gas, fees, since } = intent;
        Self {
            what,
            origin,
            since,
            is_reported: false,
            call,
            gas,
            nonce,
            fees,
            most: origin.map(|_| fees.highest()),
            sent: Vec::new(),
            former: Vec::new(),
            sent_at: head,
            bumps: 0,
            included: None,
            passed_at: None,
        }
    }

    /// Every copy that was ever handed over, newest first.
    pub fn copies(&self) -> impl Iterator<Item = Hash32> + '_ {
        self.sent.iter().rev().chain(self.former.iter().rev()).copied()
    }

    /// Fees a quarter higher, at least `least`, as far as somebody agreed to. Nothing if they cannot rise.
    pub(super) fn outbidding(&self, least: Option<Fees>) -> Option<Fees> {
        let raised = self.fees.raised().at_least(least.unwrap_or(self.fees));
        let (fees, may_rise) = match self.most {
            Some(most) => (raised.at_most(most), self.bumps < BUMPS_MAX),
            // Nobody set a bound: what the chain asks for is offered, however often it rises.
            None => (raised, self.bumps < BUMPS_MAX || least.is_some_and(|least| least.most > self.fees.most)),
        };
        (may_rise && fees.most > self.fees.most).then_some(fees)
    }

    pub(super) fn raise(&mut self, fees: Fees) {
        self.fees = fees;
        self.bumps = self.bumps.saturating_add(1);
    }

    /// Leaves its nonce to whoever took it.
    pub(super) fn renew(&mut self, nonce: u64, head: u64) {
        self.former.append(&mut self.sent);
        let beyond = self.former.len().saturating_sub(FORMER_MAX);
        self.former.drain(..beyond);
        (self.nonce, self.sent_at, self.passed_at) = (nonce, head, None);
    }
}

/// A transaction that ended, and of whose end nobody was told yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// What was wanted.
    pub what: String,
    /// Who wanted it.
    pub origin: Hash32,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// What was called.
    pub call: Call,
    /// Most gas it could use.
    pub gas: u64,
    /// Fees it offered last.
    pub fees: Fees,
    /// The copy that is included; nothing if none ever can be.
    pub transaction: Option<Hash32>,
    /// Whether it was carried out.
    pub is_success: bool,
}

/// A transaction of whose end nobody was told: the command that wanted it was stopped, or is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// Its key.
    pub key: String,
    /// What was wanted.
    pub what: String,
    /// Who wanted it.
    pub origin: Hash32,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// What is called.
    pub call: Call,
    /// Most gas it may use.
    pub gas: u64,
    /// Fees it offered last.
    pub fees: Fees,
    /// Its last copy.
    pub transaction: Option<Hash32>,
    /// How it ended, as far as the chain was asked: carried out or not. Nothing while it is on its way.
    pub ended: Option<bool>,
}

impl Untold {
    pub(super) fn of(key: &str, entry: &Entry) -> Option<Self> {
        let origin = entry.origin.filter(|_| !entry.is_reported)?;
        Some(Self {
            key: key.to_owned(),
            what: entry.what.clone(),
            origin,
            since: entry.since,
            call: entry.call.clone(),
            gas: entry.gas,
            fees: entry.fees,
            transaction: entry.included.map(|(hash, _)| hash).or_else(|| entry.copies().next()),
            ended: entry.included.map(|_| true),
        })
    }

    pub(super) fn after(key: &str, ended: &Ended) -> Self {
        Self {
            key: key.to_owned(),
            what: ended.what.clone(),
            origin: ended.origin,
            since: ended.since,
            call: ended.call.clone(),
            gas: ended.gas,
            fees: ended.fees,
            transaction: ended.transaction,
            ended: Some(ended.is_success),
        }
    }
}

impl Outbox {
    /// Transactions of whose end nobody was told, the oldest first.
    pub fn untold(&self) -> Vec<Untold> {
        let waiting = self.waiting.iter().filter_map(|(key, entry)| Untold::of(key, entry));
        let ended = self.ended.iter().map(|(key, ended)| Untold::after(key, ended));
        let mut all: Vec<Untold> = waiting.chain(ended).collect();
        all.sort_by(|a, b| (a.since, &a.key).cmp(&(b.since, &b.key)));
        all
    }

    /// Notes that somebody was told how `key` ended. One that is not deep enough yet is looked after all the same.
    pub fn reported(&mut self, key: &str) {
        self.ended.remove(key);
        if let Some(entry) = self.waiting.get_mut(key) {
            entry.is_reported = true;
        }
    }
}
