//! Transactions that must happen once: one key, one nonce, whatever restarts and retries come between.
//!
//! Pure: the shell asks [`Outbox::enqueue`] for a place, hands the transaction over, reports what it sees and asks [`Outbox::due`] what to do.
//! - One key has one nonce. Every resend, with whatever fee, uses that nonce, so the chain can take at most one of them.
//! - What is wanted is recorded before it is signed, each copy before it leaves (persist [`Outbox`] between): after a crash the same nonce is sent again.
//! - A nonce that somebody else's transaction of the account took frees the key for a new nonce only when that one is as deep as what counts as done
//!   ([`Config::confirmations`]); one under which nothing of ours ever left is given up at once. Copies under earlier nonces are looked for on.
//! - A fee rises by a quarter (nodes ask for a tenth) when a transaction waited [`Config::bump_after`] blocks, at most [`BUMPS_MAX`] times.
//! - A transaction that a command wanted stays [untold](Outbox::untold) until somebody was told how it ended: the same command, run again after a kill, finds it.
//! - A key ends by one of its transactions in a block, or by a refusal that its caller is given. It is never forgotten in between.
//! - What a contract refused is looked for until that is deep: on another branch it may be carried out after all ([`Outbox::refused_seen`]).

mod entry;
#[cfg(test)]
mod model;
mod refused;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use types::{amount::Amount, id::Hash32, time::BlockRef};

use self::refused::Refused;
pub use self::{
    entry::{Ended, Entry, Fees, Intent, Untold},
    refused::Revived,
};
use crate::chain::Call;

/// Most transactions waiting at once: what one account can do in a few blocks.
pub const WAITING_MAX: usize = 256;
/// Most finished keys remembered; the oldest is forgotten first.
pub const DONE_MAX: usize = 4_096;
/// Most ended transactions remembered of which nobody was told; the oldest is forgotten first. Each stands for a command that was stopped.
pub const ENDED_MAX: usize = 256;
/// Most fee rises: 1.25^8 is about six times the first fee, which is twice the base fee.
pub const BUMPS_MAX: u8 = 8;
/// Most copies under earlier nonces that are looked for: those of five renewals with every fee rise.
pub const FORMER_MAX: usize = 48;

/// When to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Blocks without inclusion after which the fee rises.
    pub bump_after: u64,
    /// Blocks on top after which an inclusion counts as done, and a stranger's transaction as staying.
    pub confirmations: u64,
}

impl Default for Config {
    /// Three blocks: an unfilled block takes everything, so waiting longer means the fee is too low. Twelve blocks on top: deeper than the
    /// sequencer's own reorganisations; what must be final waits for finality instead.
    fn default() -> Self {
        Self { bump_after: 3, confirmations: 12 }
    }
}

/// What the shell shall do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Sign and hand over the key's entry as it stands.
    Send,
    /// Its nonce is a stranger's for good: [`Outbox::renew`], then send.
    Renew,
    /// The key's transaction is deep enough.
    Done(Hash32),
}

/// What the chain said to a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was not taken: its fee is below what the chain asks for, which is at least this.
    Underpriced(Fees),
    /// It was not taken: its nonce is used.
    NonceUsed,
    /// It was not taken for another reason, and will not be as it stands.
    Refused,
    /// Nobody knows whether it was taken.
    Unknown,
}

/// What follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Sign and hand over the entry as it stands now.
    Send,
    /// [`Outbox::renew`], then send.
    Renew,
    /// A copy is on its way, or may be: look for it.
    Wait,
    /// Nothing of the key is on its way or can be: it ended, and its caller is told.
    Failed,
}

/// Why a key got no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// Too many wait.
    #[error("{WAITING_MAX} transactions are waiting already: wait until some are included")]
    Full,
    /// The key stands for something else.
    #[error("key {0:?} was used for a different call: give each call its own key")]
    KeyReused(String),
}

/// Where a key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// New: send it.
    New,
    /// Known and waiting or included.
    Waiting,
    /// Done by this transaction.
    Done(Hash32),
}

/// All transactions of one account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    config: Config,
    waiting: BTreeMap<String, Entry>,
    done: BTreeMap<String, Hash32>,
    /// Done keys in the order they finished.
    order: VecDeque<String>,
    /// What ended and nobody was told of.
    #[serde(default)]
    ended: BTreeMap<String, Ended>,
    /// What contracts refused, oldest first, as long as a reorganisation may have it carried out after all.
    #[serde(default)]
    refused: Vec<Refused>,
}

impl Outbox {
    /// An outbox without history.
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    /// Gives `key` its nonce. A key that is known keeps what it has: no second transaction comes of it. `account_nonce` is the chain's count
    /// including what waits in its pool.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn enqueue(&mut self, key: &str, intent: Intent, account_nonce: u64, head: u64) -> Result<Place, OutboxError> {
        if let Some(place) = self.place(key, &intent.call)? {
            return Ok(place);
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(OutboxError::Full);
        }
        // What the key ended as before was refused: this is another try.
        self.ended.remove(key);
        let nonce = self.free_nonce(account_nonce);
        self.waiting.insert(key.to_owned(), Entry::new(intent, nonce, head));
        Ok(Place::New)
    }

    /// The first nonce from the chain's count on that none of ours has. The chain knows best: its count falls when a reorganisation takes
    /// transactions out, and a number above it that nobody fills would keep all behind it waiting. Those that are ours are filled: see
    /// [`Outbox::to_look_for`].
    fn free_nonce(&self, account_nonce: u64) -> u64 {
        let mut nonce = account_nonce;
        while self.waiting.values().any(|entry| entry.nonce == nonce) {
            nonce = nonce.saturating_add(1);
        }
        nonce
    }

    /// The entry of a waiting key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.waiting.get(key)
    }

    /// Keys that wait, with their entries.
    pub fn waiting(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.waiting.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    /// Waiting keys that are to be looked for on the chain at `head`, where it has included `account_nonce` transactions of the account: included
    /// long enough ago to be done, or taken out again by a reorganisation (the count says so) and not found since. Those still on their way to a
    /// first block are looked for by whoever waits for them.
    pub fn to_look_for(&self, head: u64, account_nonce: u64) -> Vec<String> {
        let is_due = |entry: &Entry| match entry.included {
            Some((_, block)) => head >= block.number.saturating_add(self.config.confirmations) || entry.nonce >= account_nonce,
            None => entry.passed_at.is_some() || head >= entry.sent_at.saturating_add(self.config.bump_after),
        };
        self.waiting.iter().filter(|(_, entry)| is_due(entry)).map(|(key, _)| key.clone()).collect()
    }

    /// Reports that a copy of `key` is about to be handed over; false if that very copy was before.
    pub fn sending(&mut self, key: &str, hash: Hash32, head: u64) -> bool {
        let Some(entry) = self.waiting.get_mut(key) else { return false };
        entry.sent_at = head;
        let is_new = !entry.sent.contains(&hash);
        if is_new {
            entry.sent.push(hash);
        }
        is_new
    }

    /// What follows from the chain's answer to a copy that it did not take; `is_new` is what [`Outbox::sending`] said of it.
    pub fn answered(&mut self, key: &str, hash: Hash32, is_new: bool, answer: Answer) -> Next {
        let Some(entry) = self.waiting.get_mut(key) else { return Next::Failed };
        if answer == Answer::Unknown {
            return Next::Wait;
        }
        // A copy that was noted by an earlier process, or sent before, may have been taken then.
        if is_new {
            entry.sent.retain(|sent| *sent != hash);
        }
        let may_come = !entry.sent.is_empty();
        match answer {
            Answer::Underpriced(least) => match entry.outbidding(Some(least)) {
                Some(fees) => {
                    entry.raise(fees);
                    Next::Send
                }
                None if may_come => Next::Wait,
                None => self.give_up(key),
            },
            Answer::NonceUsed if !may_come => Next::Renew,
            Answer::Refused if !may_come => self.give_up(key),
            _ => Next::Wait,
        }
    }

    /// Gives `key` a nonce that is free: nothing can be included under the one it had. `account_nonce` counts what waits in the chain's pool.
    pub fn renew(&mut self, key: &str, account_nonce: u64, head: u64) {
        let nonce = self.free_nonce(account_nonce);
        if let Some(entry) = self.waiting.get_mut(key) {
            entry.renew(nonce, head);
        }
    }

    /// What a key stands for so far; nothing if it is new, or was refused.
    ///
    /// # Errors
    /// [`OutboxError::KeyReused`] if it waits with another call.
    pub fn place(&self, key: &str, call: &Call) -> Result<Option<Place>, OutboxError> {
        let untold = self.ended.get(key).filter(|ended| ended.is_success).and_then(|ended| ended.transaction);
        if let Some(hash) = self.done.get(key).copied().or(untold) {
            return Ok(Some(Place::Done(hash)));
        }
        match self.waiting.get(key) {
            None => Ok(None),
            Some(entry) if entry.call == *call => Ok(Some(Place::Waiting)),
            Some(_) => Err(OutboxError::KeyReused(key.to_owned())),
        }
    }

    /// Reports where one of the key's transactions is included, or that none is (after a reorganisation).
    pub fn seen(&mut self, key: &str, included: Option<(Hash32, BlockRef)>) {
        if let Some(entry) = self.waiting.get_mut(key) {
            entry.included = included;
        }
    }

    /// Ends a key of which nothing is on its way.
    fn give_up(&mut self, key: &str) -> Next {
        // Whoever asked for it may have left: it must not end in silence.
        if let Some(entry) = self.waiting.remove(key) {
            self.keep_untold(key, entry, None, false);
        }
        Next::Failed
    }

    /// Closes a key whose transaction is included: carried out (then the key is remembered and never sent again), or refused by its contract
    /// (then the key is free for another try).
    pub fn finish(&mut self, key: &str, is_success: bool) {
        if let Some((hash, _)) = self.waiting.get(key).and_then(|entry| entry.included)
            && let Some(entry) = self.waiting.remove(key)
        {
            if !is_success {
                self.keep_refused(key, &entry);
            }
            self.keep_untold(key, entry, Some(hash), is_success);
            if is_success {
                self.remember(key.to_owned(), hash);
            }
        }
    }

    fn keep_untold(&mut self, key: &str, entry: Entry, transaction: Option<Hash32>, is_success: bool) {
        let Some(origin) = entry.origin.filter(|_| !entry.is_reported) else { return };
        let Entry { what, since, call, gas, fees, .. } = entry;
        self.ended.insert(key.to_owned(), Ended { what, origin, since, call, gas, fees, transaction, is_success });
        while self.ended.len() > ENDED_MAX {
            let oldest = self.ended.iter().min_by_key(|(key, ended)| (ended.since, *key)).map(|(key, _)| key.clone());
            oldest.map(|key| self.ended.remove(&key));
        }
    }

    fn remember(&mut self, key: String, hash: Hash32) {
        self.done.insert(key.clone(), hash);
        self.order.push_back(key);
        while self.order.len() > DONE_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.done.remove(&oldest);
            }
        }
    }

    /// What to do about `key` at `head`, where the chain has included `account_nonce` transactions of the account. Ask for the nonce first, then
    /// for inclusions, and report these by [`Outbox::seen`] before: a nonce that has passed without an inclusion then means a stranger's.
    pub fn due(&mut self, key: &str, head: u64, account_nonce: u64) -> Option<Action> {
        let Config { bump_after, confirmations } = self.config;
        let entry = self.waiting.get_mut(key)?;
        if let Some((hash, block)) = entry.included {
            if head < block.number.saturating_add(confirmations) {
                return None;
            }
            self.finish(key, true);
            return Some(Action::Done(hash));
        }
        if account_nonce > entry.nonce {
            // A head that fell is a reorganisation: the stranger's block may be another one, and its depth counts anew.
            let passed_at = entry.passed_at.map_or(head, |at| at.min(head));
            let is_reorganised = entry.passed_at.is_some_and(|at| head < at);
            entry.passed_at = Some(passed_at);
            let is_deep = !is_reorganised && head >= passed_at.saturating_add(confirmations);
            return (entry.sent.is_empty() || is_deep).then_some(Action::Renew);
        }
        entry.passed_at = None;
        if entry.sent.is_empty() {
            return Some(Action::Send);
        }
        if head < entry.sent_at.saturating_add(bump_after) {
            return None;
        }
        if let Some(fees) = entry.outbidding(None) {
            entry.raise(fees);
        }
        entry.sent_at = head;
        Some(Action::Send)
    }

    /// Wei that waiting transactions may still cost beyond gas.
    pub fn promised(&self) -> Amount {
        Amount(self.waiting.values().filter(|entry| entry.included.is_none()).fold(0, |sum, entry| entry.call.value.0.saturating_add(sum)))
    }
}
