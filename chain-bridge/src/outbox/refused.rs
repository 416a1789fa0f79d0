//! Transactions that their contracts refused: told as failed, and looked for on until that is as deep as what counts as done. A reorganisation may
//! put one into another block, where it is carried out after all: then the books say so, whoever was told otherwise is told again, and a second try that
//! has not left is not sent.
//!
//! Under the nonce of one that is gone from the chain the account's next transaction is sent, which then stands in its place; one of the two comes.

use serde::{Deserialize, Serialize};
use types::{id::Hash32, time::BlockRef};

use super::{Entry, Outbox, entry::Ended};

/// Most refused transactions looked for at once; the oldest is given up first. Twelve blocks hold fewer of one account.
const REFUSED_MAX: usize = 256;

/// A transaction that is in a block, and that its contract refused there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refused {
    key: String,
    entry: Entry,
    /// Head at which its nonce was first seen taken by another one.
    gone_at: Option<u64>,
}

/// What became of a refused transaction that was carried out after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revived {
    /// It is what was wanted: nothing else was sent for it.
    Alone,
    /// Another try is on its way, or was carried out: both may be.
    Beside,
}

impl Outbox {
    /// Keeps a refused transaction in sight.
    pub(super) fn keep_refused(&mut self, key: &str, entry: &Entry) {
        self.refused.push(Refused { key: key.to_owned(), entry: entry.clone(), gone_at: None });
        let beyond = self.refused.len().saturating_sub(REFUSED_MAX);
        self.refused.drain(..beyond);
    }

    /// Whether nothing is to be looked for.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.refused.is_empty()
    }

    /// Refused transactions that are to be looked for at `head`, where the chain has included `account_nonce` transactions of the account: by their hashes, in
    /// any of which they may be in a block by now.
    pub fn refused_to_look_for(&self, head: u64, account_nonce: u64) -> Vec<Vec<Hash32>> {
        let is_due = |refused: &&Refused| {
            let deep = refused.entry.included.map_or(0, |(_, block)| block.number.saturating_add(self.config.confirmations));
            head >= deep || refused.entry.nonce >= account_nonce
        };
        self.refused.iter().filter(is_due).map(|refused| refused.entry.copies().collect()).collect()
    }

    /// Reports where the refused transaction with one of these copies is now, and whether it was carried out there; nothing if it is in no block. Says
    /// what follows if it was.
    pub fn refused_seen(
        &mut self,
        copies: &[Hash32],
        found: Option<(Hash32, BlockRef, bool)>,
        head: u64,
        account_nonce: u64,
    ) -> Option<Revived> {
        let place = self.refused.iter().position(|refused| refused.entry.copies().eq(copies.iter().copied()))?;
        let confirmations = self.config.confirmations;
        let refused = &mut self.refused[place];
        let is_over = match found {
            Some((hash, block, true)) => {
                let Refused { key, mut entry, .. } = self.refused.remove(place);
                entry.included = Some((hash, block));
                return Some(self.revive(key, entry));
            }
            Some((hash, block, false)) => {
                (refused.entry.included, refused.gone_at) = (Some((hash, block)), None);
                head >= block.number.saturating_add(confirmations)
            }
            None if account_nonce > refused.entry.nonce => {
                // A head that fell is another reorganisation: the depth counts anew.
                let gone_at = refused.gone_at.filter(|at| *at <= head).unwrap_or(head);
                refused.gone_at = Some(gone_at);
                head >= gone_at.saturating_add(confirmations)
            }
            None => {
                refused.gone_at = None;
                false
            }
        };
        if is_over {
            self.refused.remove(place);
        }
        None
    }

    fn revive(&mut self, key: String, mut entry: Entry) -> Revived {
        // Whoever was told that it failed is told again.
        entry.is_reported = false;
        self.ended.remove(&key);
        let hash = entry.included.map(|(hash, _)| hash);
        if self.done.contains_key(&key) {
            let transaction = hash;
            let Entry { what, origin, since, call, gas, fees, .. } = entry;
            if let Some(origin) = origin {
                self.ended.insert(format!("{key}/again"), Ended { what, origin, since, call, gas, fees, transaction, is_success: true });
            }
            return Revived::Beside;
        }
        let again = self.waiting.insert(key.clone(), entry);
        let left: Vec<Hash32> = again.iter().flat_map(Entry::copies).collect();
        if left.is_empty() {
            return Revived::Alone;
        }
        // The other try cannot be called back: it is looked for, and not sent again.
        if let Some(entry) = self.waiting.get_mut(&key) {
            entry.former.extend(left);
        }
        Revived::Beside
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{amount::Amount, id::Address};

    use super::{
        super::{Action, Config, Fees, Intent, Place},
        *,
    };
    use crate::chain::Call;

    const CONFIG: Config = Config { bump_after: 3, confirmations: 4 };
    const HASH: Hash32 = Hash32([1; 32]);

    fn call() -> Call {
        Call { to: Some(Address([1; 20])), data: vec![1], value: Amount(7) }
    }

    fn intent() -> Intent {
        let fees = Fees { most: 100, tip: 10 };
        Intent { what: "deposit".into(), origin: Some(Hash32([9; 32])), call: call(), gas: 21_000, fees, since: 50 }
    }

    const fn block(number: u64) -> BlockRef {
        BlockRef { number, hash: Hash32([1; 32]) }
    }

    /// An outbox whose transaction was refused in block 10, and told as failed.
    fn refused() -> Outbox {
        let mut outbox = Outbox::new(CONFIG);
        outbox.enqueue("a", intent(), 5, 0).unwrap();
        outbox.sending("a", HASH, 0);
        outbox.seen("a", Some((HASH, block(10))));
        outbox.finish("a", false);
        outbox.reported("a");
        outbox
    }

    fn untold(outbox: &Outbox) -> Vec<Option<bool>> {
        outbox.untold().iter().map(|one| one.ended).collect()
    }

    #[test]
    fn a_refused_transaction_that_another_branch_carries_out_is_done_and_told_again() {
        let mut outbox = refused();
        assert_eq!((outbox.place("a", &call()), untold(&outbox)), (Ok(None), vec![]));
        assert!(outbox.refused_to_look_for(11, 6).is_empty(), "it stands");
        assert_eq!(outbox.refused_to_look_for(11, 5), [[HASH]], "its nonce is free again: its block is gone");
        assert_eq!(outbox.refused_seen(&[HASH], None, 11, 5), None);
        // It is written down: a restart goes on looking.
        let mut outbox: Outbox = serde_json::from_str(&serde_json::to_string(&outbox).unwrap()).unwrap();
        assert_eq!(outbox.refused_seen(&[HASH], Some((HASH, block(12), true)), 12, 6), Some(Revived::Alone));
        assert_eq!((outbox.place("a", &call()), untold(&outbox)), (Ok(Some(Place::Waiting)), vec![Some(true)]));
        assert_eq!(outbox.due("a", 16, 6), Some(Action::Done(HASH)));
        assert_eq!(outbox.enqueue("a", intent(), 6, 17), Ok(Place::Done(HASH)), "nothing is sent a second time");
    }

    #[test]
    fn a_refusal_that_is_deep_is_over_and_one_in_another_block_counts_from_there() {
        let mut outbox = refused();
        assert_eq!(outbox.refused_seen(&[HASH], Some((HASH, block(13), false)), 14, 6), None);
        assert!(outbox.refused_to_look_for(16, 6).is_empty());
        assert_eq!(outbox.refused_to_look_for(17, 6), [[HASH]]);
        assert_eq!(outbox.refused_seen(&[HASH], Some((HASH, block(13), false)), 17, 6), None);
        assert!(outbox.is_idle());
    }

    #[test]
    fn one_whose_nonce_another_transaction_took_is_given_up_when_that_is_deep() {
        let mut outbox = refused();
        assert_eq!(outbox.refused_seen(&[HASH], None, 14, 6), None);
        assert_eq!(outbox.refused_seen(&[HASH], None, 12, 6), None, "a head that fell counts anew");
        assert_eq!(outbox.refused_seen(&[HASH], None, 15, 6), None);
        assert!(!outbox.is_idle());
        assert_eq!(outbox.refused_seen(&[HASH], None, 16, 6), None);
        assert!(outbox.is_idle());
    }

    #[test]
    fn a_second_try_that_has_not_left_is_not_sent_and_one_that_has_is_looked_for() {
        for has_left in [false, true] {
            let mut outbox = refused();
            assert_eq!(outbox.enqueue("a", intent(), 6, 11), Ok(Place::New), "who was told that it failed may try again");
            let other = Hash32([2; 32]);
            if has_left {
                outbox.sending("a", other, 11);
            }
            let expected = if has_left { Revived::Beside } else { Revived::Alone };
            assert_eq!(outbox.refused_seen(&[HASH], Some((HASH, block(12), true)), 12, 6), Some(expected));
            let entry = outbox.entry("a").unwrap();
            assert_eq!((entry.nonce, entry.copies().any(|copy| copy == other)), (5, has_left));
            assert_eq!(outbox.due("a", 16, 6), Some(Action::Done(HASH)));
        }
    }

    /// What a chain does with the one transaction.
    #[derive(Debug, Clone)]
    enum Step {
        /// A block with it, if it waits: carried out or refused there.
        Mine(bool),
        /// A block without it.
        Pass,
        Reorganise(u64),
        Look,
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => any::<bool>().prop_map(Step::Mine),
            2 => Just(Step::Pass),
            2 => (1..4_u64).prop_map(Step::Reorganise),
            3 => Just(Step::Look),
            1 => Just(Step::Restart),
        ];
        proptest::collection::vec(step, 1..80)
    }

    /// As the shell looks: what waits, then what was refused.
    fn look(outbox: &mut Outbox, at: Option<(u64, bool)>, head: u64) {
        let nonce = 5 + u64::from(at.is_some());
        if outbox.entry("a").is_some() {
            outbox.seen("a", at.map(|(number, _)| (HASH, block(number))));
            if at.is_some_and(|(_, is_success)| !is_success) {
                outbox.finish("a", false);
                outbox.reported("a");
            } else {
                outbox.due("a", head, nonce);
            }
        }
        for copies in outbox.refused_to_look_for(head, nonce) {
            let found = at.map(|(number, is_success)| (HASH, block(number), is_success));
            outbox.refused_seen(&copies, found, head, nonce);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
        #[test]
        fn whatever_reorganisations_do_the_books_end_where_the_chain_does(steps in steps()) {
            let mut outbox = Outbox::new(CONFIG);
            outbox.enqueue("a", intent(), 5, 0).unwrap();
            outbox.sending("a", HASH, 0);
            // Where it is, if it is in a block; the deepest head ever shown: what is as deep as counts for done stays.
            let (mut at, mut head, mut deepest) = (None::<(u64, bool)>, 10_u64, 10_u64);
            for step in steps {
                match step {
                    Step::Mine(is_success) => {
                        head += 1;
                        at = at.or(Some((head, is_success)));
                    }
                    Step::Pass => head += 1,
                    Step::Reorganise(depth) => {
                        head = head.saturating_sub(depth).max(deepest - (CONFIG.confirmations - 1));
                        at = at.filter(|(number, _)| *number <= head);
                    }
                    Step::Look => look(&mut outbox, at, head),
                    Step::Restart => outbox = serde_json::from_str(&serde_json::to_string(&outbox).unwrap()).unwrap(),
                }
                deepest = deepest.max(head);
            }
            // Quiet: its block comes, and others on top.
            let (_, is_success) = *at.get_or_insert((head + 1, true));
            for _ in 0..3 * CONFIG.confirmations {
                head += 1;
                look(&mut outbox, at, head);
            }
            prop_assert_eq!(outbox.place("a", &call()), Ok(is_success.then_some(Place::Done(HASH))), "at {:?}", at);
            prop_assert!(outbox.is_idle(), "{:?}", outbox);
            let told: Vec<_> = untold(&outbox);
            prop_assert!(told.iter().all(|ended| *ended == Some(is_success)), "{:?}", told);
        }
    }
}
