//! What a client has promised and may still promise: per request, per day, per key.
//!
//! A request counts with all it may cost from before it is sent until it has ended; then with its receipts, and with what was promised in it and no
//! receipt took back. Such a promise counts until its lane has expired: from then on no voucher of it can be collected, and what was collected is on the
//! chain. A process that dies has left a note of what it had promised; the rest of its request is free again, because no voucher of it exists.
//! So no order of promises, receipts and crashes brings the sum above a cap, and what counts is never less than what nodes can collect.
//!
//! Size: about 200 bytes per request under way, 350 per promise left open, 90 per key; the file that keeps it has some kilobytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::{
    amount::{Amount, AmountError},
    id::{Address, Hash32},
};

/// Most requests counted by themselves; beyond, the oldest is counted in full for good.
pub const OPEN_MAX: usize = 1_024;
/// Most promises without a receipt counted by themselves; beyond, the one whose lane expires first is counted for good.
pub const OWED_MAX: usize = 2_048;
/// Most keys whose sums are kept.
pub const KEYS_MAX: usize = 4_096;
/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// The UTC day, counted from 1970, of a time in seconds since then.
pub const fn day_of(seconds: u64) -> u64 {
    seconds / DAY_S
}

/// Caps in wei; nothing is no cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// Most that one request may cost.
    pub per_request: Option<Amount>,
    /// Most that the requests begun in one UTC day may cost together.
    pub per_day: Option<Amount>,
    /// Most that one key's promises may sum to, ever.
    pub per_key: Option<Amount>,
}

/// What one attempt's vouchers are good for: all that its node can come to collect by them, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// Number of the attempt in its request.
    pub attempt: u16,
    /// The lane.
    pub lane: Hash32,
    /// What the lane stood at before.
    pub base: Amount,
    /// Promised beyond that.
    pub sum: Amount,
    /// Last block in which the lane can be collected.
    pub expiry: u64,
}

/// How a request ended, as far as this run of it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What receipts charge that came in this run.
    pub paid: Amount,
    /// Attempts that have a receipt, one that bills or one that says that nothing is charged: their promises count no more.
    pub settled: BTreeSet<u16>,
    /// What was promised in this run.
    pub promised: Vec<Promise>,
}

/// A request under way, or left behind by a process that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    key: Address,
    day: u64,
    /// What it may still come to cost, beyond what is counted of its earlier runs.
    most: Amount,
}

/// A promise without a receipt, of a request that is not under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owed {
    request: Hash32,
    key: Address,
    day: u64,
    promise: Promise,
}

/// The books of a client's spending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spending {
    /// The day counted. It never goes back, so a clock set back frees nothing.
    day: u64,
    /// For good, of requests begun on that day.
    spent: Amount,
    /// For good, by key.
    keys: BTreeMap<Address, Amount>,
    open: BTreeMap<Hash32, Open>,
    /// Ended, and may still be collected.
    #[serde(default)]
    owed: Vec<Owed>,
}

/// Why a request is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One request.
    #[error(
        "the answer may cost {}, the cap per request is {}: ask with --max-fee \"{}\" or less, or raise `per_request` under [spending] in tributary.toml",
        asked.in_open(), cap.in_open(), cap.in_open()
    )]
    Request {
        /// What it may cost.
        asked: Amount,
        /// The cap.
        cap: Amount,
    },
    /// One day.
    #[error(
        "{} is spent or promised today (UTC), the answer may cost {} more, the cap per day is {}: ask with a smaller --max-fee, wait until midnight UTC, or raise `per_day` under [spending] in tributary.toml",
        counted.in_open(), asked.in_open(), cap.in_open()
    )]
    Day {
        /// Counted so far.
        counted: Amount,
        /// What it may cost.
        asked: Amount,
        /// The cap.
        cap: Amount,
    },
    /// One key.
    #[error(
        "the key {key} has spent or promised {}, the answer may cost {} more, its cap is {}: ask with a smaller --max-fee, use another session, or raise the cap (`tributary wallet session add`, `per_key` under [spending] in tributary.toml)",
        counted.in_open(), asked.in_open(), cap.in_open()
    )]
    Key {
        /// The key.
        key: Address,
        /// Counted so far.
        counted: Amount,
        /// What it may cost.
        asked: Amount,
        /// The cap.
        cap: Amount,
    },
    /// Too many keys.
    #[error("{KEYS_MAX} keys have signed promises here already, at most that many are counted: use one of them, or another data folder")]
    Keys,
    /// A sum does not fit.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

impl Spending {
    /// Counts a request that may come to cost `limit` in all, `before` of which was counted when it ended earlier; refused if a cap would be
    /// exceeded, and then nothing changes. One that is counted already stays as it is.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn begin(&mut self, caps: Caps, request: Hash32, key: Address, limit: Amount, before: Amount, day: u64) -> Result<(), Refused> {
        self.turn_to(day);
        if self.open.contains_key(&request) {
            return Ok(());
        }
        let asked = limit.minus(before).unwrap_or_default();
        if let Some(cap) = caps.per_request.filter(|cap| limit > *cap) {
            return Err(Refused::Request { asked: limit, cap });
        }
        let counted = self.today()?;
        let sum = counted.plus(asked)?;
        if let Some(cap) = caps.per_day.filter(|cap| sum > *cap) {
            return Err(Refused::Day { counted, asked, cap });
        }
        let counted = self.of_key(key)?;
        let sum = counted.plus(asked)?;
        if let Some(cap) = caps.per_key.filter(|cap| sum > *cap) {
            return Err(Refused::Key { key, counted, asked, cap });
        }
        if !self.keys.contains_key(&key) {
            if self.keys.len() >= KEYS_MAX {
                return Err(Refused::Keys);
            }
            self.keys.insert(key, Amount::ZERO);
        }
        if self.open.len() >= OPEN_MAX
            && let Some(oldest) = self.open.iter().min_by_key(|(_, open)| open.day).map(|(request, _)| *request)
        {
            self.died(oldest, None);
        }
        self.open.insert(request, Open { key, day: self.day, most: asked });
        Ok(())
    }

    /// A request has ended.
    pub fn end(&mut self, request: Hash32, outcome: Outcome) {
        let Outcome { paid, settled, promised } = outcome;
        self.owed.retain(|owed| owed.request != request || !settled.contains(&owed.promise.attempt));
        let Some(open) = self.open.remove(&request) else { return };
        self.charge(open.key, open.day, paid);
        for promise in promised.into_iter().filter(|promise| promise.sum > Amount::ZERO && !settled.contains(&promise.attempt)) {
            if self.owed.len() >= OWED_MAX
                && let Some((place, _)) = self.owed.iter().enumerate().min_by_key(|(_, owed)| owed.promise.expiry)
            {
                let first = self.owed.swap_remove(place);
                self.charge(first.key, first.day, first.promise.sum);
            }
            self.owed.push(Owed { request, key: open.key, day: open.day, promise });
        }
    }

    /// The process of a request has died; `promised` is what it had noted. Where it left no note, all that it might have promised counts for good.
    pub fn died(&mut self, request: Hash32, promised: Option<Vec<Promise>>) {
        let paid = match &promised {
            Some(_) => Amount::ZERO,
            None => self.open.get(&request).map_or(Amount::ZERO, |open| open.most),
        };
        self.end(request, Outcome { paid, promised: promised.unwrap_or_default(), settled: BTreeSet::new() });
    }

    /// What is counted of an attempt of a request that is not under way, because no receipt of it has come.
    pub fn owed(&self, request: Hash32, attempt: u16) -> Option<Promise> {
        let is_its = |owed: &&Owed| owed.request == request && owed.promise.attempt == attempt;
        self.owed.iter().find(is_its).map(|owed| owed.promise)
    }

    /// A receipt of such an attempt has come after all and charges `fee`, which counts for good in place of what was promised; false if nothing was
    /// counted of it any more.
    pub fn settle(&mut self, request: Hash32, attempt: u16, fee: Amount) -> bool {
        let Some(place) = self.owed.iter().position(|owed| owed.request == request && owed.promise.attempt == attempt) else {
            return false;
        };
        let owed = self.owed.remove(place);
        self.charge(owed.key, owed.day, fee);
        true
    }

    /// Requests under way, or left behind by a process that died.
    pub fn open(&self) -> impl Iterator<Item = Hash32> {
        self.open.keys().copied()
    }

    /// Lanes with promises that no block after `last_final`, which is final, can change any more; at most `most`.
    pub fn expired(&self, last_final: u64, most: usize) -> BTreeSet<Hash32> {
        let expired = self.owed.iter().filter(|owed| owed.promise.expiry < last_final);
        expired.map(|owed| owed.promise.lane).take(most).collect()
    }

    /// Counts of the promises on expired lanes what was collected: `collected` is the chain's word on lanes in block `last_final`, which is final.
    pub fn reckon(&mut self, last_final: u64, collected: &BTreeMap<Hash32, Amount>) {
        for owed in std::mem::take(&mut self.owed) {
            let Promise { lane, base, sum, expiry, .. } = owed.promise;
            match collected.get(&lane).filter(|_| expiry < last_final) {
                Some(collected) => self.charge(owed.key, owed.day, Amount(collected.0.saturating_sub(base.0)).min(sum)),
                None => self.owed.push(owed),
            }
        }
    }

    /// What requests begun on the day counted cost or may cost.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn today(&self) -> Result<Amount, AmountError> {
        let open = self.open.values().filter(|open| open.day == self.day).map(|open| open.most);
        let owed = self.owed.iter().filter(|owed| owed.day == self.day).map(|owed| owed.promise.sum);
        Amount::sum(open.chain(owed).chain([self.spent]))
    }

    /// What a key's requests cost or may cost.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn of_key(&self, key: Address) -> Result<Amount, AmountError> {
        let open = self.open.values().filter(|open| open.key == key).map(|open| open.most);
        let owed = self.owed.iter().filter(|owed| owed.key == key).map(|owed| owed.promise.sum);
        Amount::sum(open.chain(owed).chain(self.keys.get(&key).copied()))
    }

    /// Begins a later day.
    pub fn turn_to(&mut self, day: u64) {
        if day > self.day {
            (self.day, self.spent) = (day, Amount::ZERO);
        }
    }

    fn charge(&mut self, key: Address, day: u64, sum: Amount) {
        if day == self.day {
            self.spent = Amount(self.spent.0.saturating_add(sum.0));
        }
        let of_key = self.keys.entry(key).or_default();
        *of_key = Amount(of_key.0.saturating_add(sum.0));
    }
}

#[cfg(test)]
mod tests;
