//! Transactions that must happen once: one key, one nonce, whatever restarts and retries come between.
//!
//! Pure: the shell asks [`Outbox::enqueue`] for a place, hands the transaction over, reports what it sees and asks [`Outbox::due`] what to do.
//! - One key has one nonce. Every resend, with whatever fee, uses that nonce, so the chain can take at most one of them.
//! - The entry is recorded before the first send (persist [`Outbox`] between the two): after a crash the same nonce is sent again.
//! - A nonce that somebody else's transaction of the account took (the account's nonce passed it [`Config::bump_after`] blocks ago and none of
//!   ours is included) frees the key for a new nonce: nothing of ours can be included any more.
//! - A fee rises by a quarter (nodes ask for a tenth) when a transaction waited [`Config::bump_after`] blocks, at most [`BUMPS_MAX`] times.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{amount::Amount, id::Hash32, time::BlockRef};

use crate::chain::Call;

/// Most transactions waiting at once: what one account can do in a few blocks.
pub const WAITING_MAX: usize = 256;
/// Most finished keys remembered; the oldest is forgotten first.
pub const DONE_MAX: usize = 4_096;
/// Most fee rises: 1.25^12 is about 15 times the first fee.
pub const BUMPS_MAX: u8 = 12;

/// When to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Blocks without inclusion after which the fee rises.
    pub bump_after: u64,
    /// Blocks on top after which an inclusion counts as done.
    pub confirmations: u64,
}

impl Default for Config {
    /// Three blocks: an unfilled block takes everything, so waiting longer means the fee is too low. Twelve blocks on top: deeper than the
    /// sequencer's own reorganisations; what must be final waits for finality instead.
    fn default() -> Self {
        Self { bump_after: 3, confirmations: 12 }
    }
}

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
    fn raised(self) -> Self {
        let raise = |fee: u128| fee.saturating_add(fee / 4).saturating_add(1);
        Self { most: raise(self.most), tip: raise(self.tip) }
    }
}

/// One key's transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What is called.
    pub call: Call,
    /// Most gas it may use.
    pub gas: u64,
    /// The account's nonce it has for life.
    pub nonce: u64,
    /// Fees of the last send.
    pub fees: Fees,
    /// Hashes handed over so far, oldest first.
    pub sent: Vec<Hash32>,
    /// Head when it was last sent.
    pub sent_at: u64,
    /// Fee rises so far.
    pub bumps: u8,
    /// Where one of the hashes is included.
    pub included: Option<(Hash32, BlockRef)>,
    /// Head at which the account's nonce was first seen past ours without an inclusion.
    pub passed_at: Option<u64>,
}

/// What the shell shall do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Sign and hand over the key's entry as it stands.
    Send,
    /// The key's transaction is deep enough.
    Done(Hash32),
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
#[serde(deny_unknown_fields)]
pub struct Outbox {
    config: Config,
    next_nonce: u64,
    waiting: BTreeMap<String, Entry>,
    done: BTreeMap<String, Hash32>,
    /// Done keys in the order they finished.
    order: std::collections::VecDeque<String>,
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
    pub fn enqueue(&mut self, key: &str, call: Call, gas: u64, fees: Fees, account_nonce: u64, head: u64) -> Result<Place, OutboxError> {
        if let Some(place) = self.place(key, &call)? {
            return Ok(place);
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(OutboxError::Full);
        }
        let nonce = self.take_nonce(account_nonce);
        self.waiting.insert(
            key.to_owned(),
            Entry { call, gas, nonce, fees, sent: Vec::new(), sent_at: head, bumps: 0, included: None, passed_at: None },
        );
        Ok(Place::New)
    }

    fn take_nonce(&mut self, account_nonce: u64) -> u64 {
        let nonce = self.free_nonce(account_nonce);
        self.next_nonce = nonce.saturating_add(1);
        nonce
    }

    /// The first nonce from the chain's count on that none of ours on its way has. The chain knows best: its count falls when a reorganisation
    /// takes transactions out, and a number above it that nobody fills would keep all behind it waiting.
    fn free_nonce(&self, account_nonce: u64) -> u64 {
        let is_taken = |nonce: u64| self.waiting.values().any(|entry| entry.included.is_none() && entry.nonce == nonce);
        let mut nonce = account_nonce;
        while is_taken(nonce) {
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

    /// Waiting keys that are to be looked for on the chain at `head`: included long enough ago to be done, or taken out again by a
    /// reorganisation and not found since. Those still on their way to a first block are looked for by whoever waits for them.
    pub fn to_look_for(&self, head: u64) -> Vec<String> {
        let is_due = |entry: &Entry| match entry.included {
            Some((_, block)) => head >= block.number.saturating_add(self.config.confirmations),
            None => entry.passed_at.is_some() || head >= entry.sent_at.saturating_add(self.config.bump_after),
        };
        self.waiting.iter().filter(|(_, entry)| is_due(entry)).map(|(key, _)| key.clone()).collect()
    }

    /// Reports that a transaction of `key` was handed over.
    pub fn sent(&mut self, key: &str, hash: Hash32, head: u64) {
        if let Some(entry) = self.waiting.get_mut(key) {
            if !entry.sent.contains(&hash) {
                entry.sent.push(hash);
            }
            entry.sent_at = head;
        }
    }

    /// Raises the fees of a copy that the chain would not take because they were too low: at least to `least`, and by a quarter. False once it was
    /// raised [`BUMPS_MAX`] times.
    pub fn outbid(&mut self, key: &str, least: Fees) -> bool {
        let Some(entry) = self.waiting.get_mut(key).filter(|entry| entry.bumps < BUMPS_MAX) else { return false };
        let raised = entry.fees.raised();
        entry.bumps += 1;
        entry.fees = Fees { most: raised.most.max(least.most), tip: raised.tip.max(least.tip) };
        true
    }

    /// Takes back the note of a copy that the chain did not take; see [`Outbox::sent`].
    pub fn not_taken(&mut self, key: &str, hash: Hash32) {
        if let Some(entry) = self.waiting.get_mut(key) {
            entry.sent.retain(|sent| *sent != hash);
        }
    }

    /// What a key stands for so far; nothing if it is new.
    ///
    /// # Errors
    /// [`OutboxError::KeyReused`] if it waits with another call.
    pub fn place(&self, key: &str, call: &Call) -> Result<Option<Place>, OutboxError> {
        if let Some(hash) = self.done.get(key) {
            return Ok(Some(Place::Done(*hash)));
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

    /// Forgets a key whose transaction can never be included: it was refused before any copy was taken by the chain. Its nonce is free again
    /// if it was the last one given.
    pub fn refuse(&mut self, key: &str) {
        if let Some(entry) = self.waiting.get(key).filter(|entry| entry.sent.is_empty()) {
            if entry.nonce.saturating_add(1) == self.next_nonce {
                self.next_nonce = entry.nonce;
            }
            self.waiting.remove(key);
        }
    }

    /// Closes a key whose transaction is included: carried out (then the key is remembered and never sent again), or refused by its contract
    /// (then the key is free for another try).
    pub fn finish(&mut self, key: &str, is_success: bool) {
        if let Some((hash, _)) = self.waiting.get(key).and_then(|entry| entry.included) {
            self.waiting.remove(key);
            if is_success {
                self.remember(key.to_owned(), hash);
            }
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
        let free_nonce = self.free_nonce(account_nonce);
        let entry = self.waiting.get_mut(key)?;
        if let Some((hash, block)) = entry.included {
            if head < block.number.saturating_add(confirmations) {
                return None;
            }
            self.finish(key, true);
            return Some(Action::Done(hash));
        }
        if account_nonce > entry.nonce {
            if head < entry.passed_at.get_or_insert(head).saturating_add(bump_after) {
                return None;
            }
            entry.nonce = free_nonce;
            (entry.bumps, entry.sent_at, entry.passed_at) = (0, head, None);
            entry.sent.clear();
            self.next_nonce = entry.nonce.saturating_add(1);
            return Some(Action::Send);
        }
        entry.passed_at = None;
        if entry.sent.is_empty() {
            return Some(Action::Send);
        }
        if head < entry.sent_at.saturating_add(bump_after) {
            return None;
        }
        if entry.bumps < BUMPS_MAX {
            entry.bumps += 1;
            entry.fees = entry.fees.raised();
        }
        entry.sent_at = head;
        Some(Action::Send)
    }

    /// Wei that waiting transactions may still cost beyond gas.
    pub fn promised(&self) -> Amount {
        Amount(self.waiting.values().filter(|entry| entry.included.is_none()).fold(0, |sum, entry| entry.call.value.0.saturating_add(sum)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::id::Address;

    use super::*;

    const FEES: Fees = Fees { most: 100, tip: 10 };

    fn call(byte: u8) -> Call {
        Call { to: Some(Address([byte; 20])), data: vec![byte], value: Amount(7) }
    }

    fn block(number: u64) -> BlockRef {
        BlockRef { number, hash: Hash32([1; 32]) }
    }

    #[test]
    fn one_key_never_gets_a_second_nonce_while_its_first_can_be_included() {
        let mut outbox = Outbox::new(Config::default());
        assert_eq!(outbox.enqueue("a", call(1), 21_000, FEES, 5, 0), Ok(Place::New));
        assert_eq!(outbox.enqueue("a", call(1), 21_000, FEES, 9, 3), Ok(Place::Waiting));
        assert_eq!(outbox.enqueue("a", call(2), 21_000, FEES, 9, 3), Err(OutboxError::KeyReused("a".into())));
        assert_eq!(outbox.enqueue("b", call(2), 21_000, FEES, 5, 0), Ok(Place::New));
        assert_eq!((outbox.entry("a").unwrap().nonce, outbox.entry("b").unwrap().nonce), (5, 6));
    }

    #[test]
    fn a_restart_sends_the_same_nonce_again() {
        let mut outbox = Outbox::new(Config::default());
        outbox.enqueue("a", call(1), 21_000, FEES, 5, 0).unwrap();
        let mut restarted: Outbox = serde_json::from_str(&serde_json::to_string(&outbox).unwrap()).unwrap();
        assert_eq!(restarted, outbox);
        assert_eq!(restarted.due("a", 1, 5), Some(Action::Send));
        assert_eq!(restarted.entry("a").unwrap().nonce, 5);
    }

    #[test]
    fn a_waiting_transaction_is_sent_again_with_a_higher_fee_and_the_same_nonce() {
        let mut outbox = Outbox::new(Config::default());
        outbox.enqueue("a", call(1), 21_000, FEES, 5, 0).unwrap();
        outbox.sent("a", Hash32([1; 32]), 0);
        assert_eq!(outbox.due("a", 2, 5), None);
        assert_eq!(outbox.due("a", 3, 5), Some(Action::Send));
        let entry = outbox.entry("a").unwrap();
        assert_eq!((entry.nonce, entry.fees), (5, Fees { most: 126, tip: 13 }));
        for head in 4..1_000 {
            outbox.due("a", head, 5);
        }
        assert_eq!(outbox.entry("a").unwrap().bumps, BUMPS_MAX);
    }

    #[test]
    fn fees_that_are_too_low_rise_to_what_is_asked_and_not_for_ever() {
        let mut outbox = Outbox::new(Config::default());
        outbox.enqueue("a", call(1), 21_000, FEES, 5, 0).unwrap();
        assert!(outbox.outbid("a", Fees { most: 1_000, tip: 1 }));
        assert_eq!(outbox.entry("a").unwrap().fees, Fees { most: 1_000, tip: 13 });
        assert!(outbox.outbid("a", Fees { most: 1, tip: 1 }));
        assert_eq!(outbox.entry("a").unwrap().fees, Fees { most: 1_251, tip: 17 });
        while outbox.outbid("a", FEES) {}
        assert_eq!((outbox.entry("a").unwrap().bumps, outbox.entry("a").unwrap().nonce), (BUMPS_MAX, 5));
    }

    #[test]
    fn a_nonce_that_was_passed_for_a_moment_only_starts_its_wait_again() {
        let mut outbox = Outbox::new(Config::default());
        outbox.enqueue("a", call(1), 21_000, FEES, 5, 0).unwrap();
        outbox.sent("a", Hash32([1; 32]), 0);
        assert_eq!(outbox.due("a", 1, 6), None);
        // The stranger's block was taken back, so ours may be included after all.
        assert_eq!(outbox.due("a", 2, 5), None);
        assert_eq!(outbox.due("a", 4, 6), None, "the wait begins anew");
        assert_eq!(outbox.entry("a").unwrap().nonce, 5);
        assert_eq!(outbox.due("a", 7, 6), Some(Action::Send));
        assert_eq!(outbox.entry("a").unwrap().nonce, 6);
    }

    #[test]
    fn money_of_waiting_transactions_is_promised_until_they_are_included() {
        let mut outbox = Outbox::new(Config::default());
        outbox.enqueue("a", call(1), 21_000, FEES, 5, 0).unwrap();
        outbox.enqueue("b", call(2), 21_000, FEES, 5, 0).unwrap();
        assert_eq!(outbox.promised(), Amount(14));
        outbox.sent("a", Hash32([1; 32]), 0);
        outbox.seen("a", Some((Hash32([1; 32]), block(3))));
        assert_eq!(outbox.promised(), Amount(7));
    }

    #[test]
    fn the_oldest_finished_keys_are_forgotten() {
        let mut outbox = Outbox::new(Config::default());
        for nonce in 0..=DONE_MAX as u64 {
            let key = nonce.to_string();
            outbox.enqueue(&key, call(1), 1, FEES, nonce, 0).unwrap();
            outbox.sent(&key, Hash32([1; 32]), 0);
            outbox.seen(&key, Some((Hash32([1; 32]), block(1))));
            outbox.finish(&key, true);
        }
        assert_eq!(outbox.place("0", &call(1)), Ok(None));
        assert_eq!(outbox.place("1", &call(1)), Ok(Some(Place::Done(Hash32([1; 32])))));
    }

    #[test]
    fn a_nonce_taken_by_a_stranger_frees_the_key() {
        let mut outbox = Outbox::new(Config::default());
        outbox.enqueue("a", call(1), 21_000, FEES, 5, 0).unwrap();
        outbox.sent("a", Hash32([1; 32]), 0);
        assert_eq!(outbox.due("a", 1, 6), None, "an inclusion may yet be reported");
        assert_eq!(outbox.due("a", 4, 6), Some(Action::Send));
        assert_eq!(outbox.entry("a").unwrap().nonce, 6);
        assert!(outbox.entry("a").unwrap().sent.is_empty());
    }

    #[test]
    fn an_inclusion_is_done_only_at_depth_and_a_reorganisation_takes_it_back() {
        let mut outbox = Outbox::new(Config { bump_after: 3, confirmations: 4 });
        let hash = Hash32([1; 32]);
        outbox.enqueue("a", call(1), 21_000, FEES, 5, 0).unwrap();
        outbox.sent("a", hash, 0);
        outbox.seen("a", Some((hash, block(10))));
        assert_eq!(outbox.due("a", 13, 6), None);
        outbox.seen("a", None);
        assert_eq!(outbox.due("a", 13, 5), Some(Action::Send));
        outbox.seen("a", Some((hash, block(12))));
        assert_eq!(outbox.due("a", 16, 6), Some(Action::Done(hash)));
        assert_eq!(outbox.enqueue("a", call(1), 21_000, FEES, 6, 17), Ok(Place::Done(hash)));
    }

    #[test]
    fn what_a_reorganisation_took_out_is_looked_for_until_it_is_sent_under_a_nonce_that_is_free() {
        let mut outbox = Outbox::new(Config { bump_after: 3, confirmations: 4 });
        let hash = Hash32([1; 32]);
        outbox.enqueue("a", call(1), 21_000, FEES, 5, 0).unwrap();
        outbox.sent("a", hash, 0);
        assert!(outbox.to_look_for(2).is_empty(), "on its way");
        outbox.seen("a", Some((hash, block(2))));
        assert!(outbox.to_look_for(5).is_empty() && outbox.to_look_for(6) == ["a"]);
        // Gone, and its nonce was taken by the next transaction of the account.
        outbox.seen("a", None);
        assert_eq!(outbox.due("a", 6, 6), None);
        assert_eq!(outbox.to_look_for(6), ["a"], "whoever waited for it has left");
        assert_eq!(outbox.due("a", 9, 6), Some(Action::Send));
        assert_eq!(outbox.entry("a").unwrap().nonce, 6);
    }

    #[test]
    fn a_nonce_that_a_reorganisation_freed_is_filled_before_higher_ones() {
        let mut outbox = Outbox::new(Config::default());
        let hash = Hash32([1; 32]);
        for (key, nonce, byte) in [("a", 5, 1), ("b", 6, 2)] {
            outbox.enqueue(key, call(byte), 21_000, FEES, nonce, 0).unwrap();
            outbox.sent(key, hash, 0);
        }
        outbox.seen("b", Some((hash, block(1))));
        // Both are gone again: "a" is known to be on its way, "b" is not yet known to be missing.
        outbox.enqueue("c", call(3), 21_000, FEES, 5, 2).unwrap();
        assert_eq!([outbox.entry("a").unwrap().nonce, outbox.entry("c").unwrap().nonce], [5, 6], "no gap that nobody fills");
        outbox.seen("b", None);
        assert_eq!(outbox.due("b", 2, 7), None);
        assert_eq!(outbox.due("b", 5, 7), Some(Action::Send));
        assert_eq!(outbox.entry("b").unwrap().nonce, 7);
    }

    #[test]
    fn with_nothing_waiting_the_nonce_is_the_chain_s_even_if_it_fell_behind() {
        let mut outbox = Outbox::new(Config { bump_after: 3, confirmations: 1 });
        let hash = Hash32([1; 32]);
        outbox.enqueue("a", call(1), 21_000, FEES, 5, 0).unwrap();
        outbox.sent("a", hash, 0);
        outbox.seen("a", Some((hash, block(1))));
        assert_eq!(outbox.due("a", 2, 6), Some(Action::Done(hash)));
        // The block was taken back after all: nonce 6 would wait for a 5 that nobody sends.
        outbox.enqueue("b", call(2), 21_000, FEES, 5, 3).unwrap();
        assert_eq!(outbox.entry("b").unwrap().nonce, 5);
    }

    #[test]
    fn a_refused_key_gives_its_nonce_back_and_a_reverted_one_may_try_again() {
        let mut outbox = Outbox::new(Config::default());
        outbox.enqueue("a", call(1), 21_000, FEES, 5, 0).unwrap();
        outbox.sent("a", Hash32([1; 32]), 0);
        outbox.enqueue("b", call(2), 21_000, FEES, 5, 0).unwrap();
        outbox.refuse("b");
        outbox.enqueue("c", call(3), 21_000, FEES, 5, 0).unwrap();
        assert_eq!(outbox.entry("c").unwrap().nonce, 6, "a gap would hold up everything after it");
        outbox.refuse("a");
        assert!(outbox.entry("a").is_some(), "what was sent may be included");
        outbox.seen("a", Some((Hash32([1; 32]), block(3))));
        outbox.finish("a", false);
        assert_eq!(outbox.enqueue("a", call(1), 21_000, FEES, 6, 4), Ok(Place::New));
    }

    #[test]
    fn waiting_transactions_are_bounded() {
        let mut outbox = Outbox::new(Config::default());
        for i in 0..WAITING_MAX {
            outbox.enqueue(&i.to_string(), call(1), 1, FEES, 0, 0).unwrap();
        }
        assert_eq!(outbox.enqueue("more", call(1), 1, FEES, 0, 0), Err(OutboxError::Full));
    }

    proptest! {
        /// A chain that includes, drops and takes back at random (what is not done yet), with a stranger's transactions in between: no key is
        /// ever included by two nonces at once.
        #[test]
        fn no_key_is_included_twice(steps in proptest::collection::vec((0..6_u8, 0..6_u8), 1..120)) {
            let mut outbox = Outbox::new(Config { bump_after: 2, confirmations: 3 });
            let mut chain: Vec<(u64, String)> = Vec::new();
            let mut pool: BTreeMap<u64, String> = BTreeMap::new();
            let mut head = 0_u64;
            for (what, which) in steps {
                head += 1;
                let key = which.to_string();
                match what {
                    0 | 1 => { outbox.enqueue(&key, call(which), 1, FEES, chain.len() as u64, head).unwrap(); }
                    2 => { let next = chain.len() as u64; if let Some(key) = pool.remove(&next) { chain.push((next, key)); } }
                    3 => { let next = chain.len() as u64; if !pool.contains_key(&next) { chain.push((next, "stranger".into())); } }
                    4 => if let Some((nonce, key)) = chain.pop_if(|(_, key)| outbox.entry(key).is_some()) { pool.insert(nonce, key); }
                    _ => {}
                }
                let waiting: Vec<String> = outbox.waiting().map(|(key, _)| key.to_owned()).collect();
                for key in waiting {
                    let at = chain.iter().find(|(_, k)| *k == key).map(|(n, _)| *n);
                    outbox.seen(&key, at.map(|n| (Hash32([which; 32]), BlockRef { number: n, hash: Hash32::ZERO })));
                }
                pool.retain(|nonce, _| *nonce >= chain.len() as u64);
                let waiting: Vec<String> = outbox.waiting().map(|(key, _)| key.to_owned()).collect();
                for key in waiting {
                    if let Some(Action::Send) = outbox.due(&key, head, chain.len() as u64) {
                        let nonce = outbox.entry(&key).unwrap().nonce;
                        prop_assert!(pool.get(&nonce).is_none_or(|k| *k == key), "nonce {nonce} given twice");
                        pool.insert(nonce, key.clone());
                        outbox.sent(&key, Hash32([which; 32]), head);
                    }
                }
                for key in 0..6_u8 {
                    prop_assert!(chain.iter().filter(|(_, k)| *k == key.to_string()).count() <= 1);
                }
            }
        }
    }
}
