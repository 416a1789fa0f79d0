//! Credit claims that this node pays with its own money: its stake would pay them otherwise.
//!
//! One that cannot be paid now (no money yet, an endpoint that is away) is tried again, each time after twice as long, as long as the claim is open:
//! with the longest wait of ten minutes the tries reach over a day, and a restart begins anew. A claim takes about 100 bytes here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chain_bridge::registry::{
    State,
    money::{CreditClaim, CreditState},
};
use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use super::Settling;

/// Wait after the first failure.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Tries at one claim.
const TRIES_MAX: u32 = 200;

/// A claim by its lane and request.
type Name = (Hash32, Hash32);

/// Tries at open claims.
#[derive(Debug, Default)]
pub(super) struct Tries(BTreeMap<Name, Tried>);

#[derive(Debug, Clone, Copy)]
struct Tried {
    count: u32,
    next: Instant,
}

impl Tries {
    /// Which of the open claims are to be paid now; what is said of others is forgotten.
    fn due(&mut self, open: &BTreeSet<Name>, now: Instant) -> BTreeSet<Name> {
        self.0.retain(|name, _| open.contains(name));
        let is_due = |name: &&Name| self.0.get(name).is_none_or(|tried| tried.count < TRIES_MAX && tried.next <= now);
        open.iter().filter(is_due).copied().collect()
    }

    /// Notes a try, before it is made: until the next one is due, or the books show that the claim is paid, nothing is sent for it.
    fn note(&mut self, name: Name, now: Instant) -> Duration {
        let tried = self.0.entry(name).or_insert(Tried { count: 0, next: now });
        let wait = FIRST_WAIT.saturating_mul(1 << tried.count.min(16)).min(LONGEST_WAIT);
        (tried.count, tried.next) = (tried.count + 1, now + wait);
        wait
    }

    /// Notes that a try succeeded: the books follow within seconds, and if a reorganisation takes it back, the claim is due again later.
    fn paid(&mut self, name: Name, now: Instant) {
        if let Some(tried) = self.0.get_mut(&name) {
            tried.next = now + LONGEST_WAIT;
        }
    }
}

fn open_claims(state: &State, node: Address) -> BTreeMap<Name, CreditClaim> {
    let open = state.credits().filter(|(_, _, claim)| claim.node == node && claim.state == CreditState::Open);
    open.map(|(lane, request, claim)| ((lane, request), claim)).collect()
}

impl Settling {
    /// Pays the claims on credit notes that this node's operator signed, as far as they are due.
    pub(super) async fn pay_credits(&self, state: &State, tries: &mut Tries) {
        let open = open_claims(state, self.account.address());
        let due = tries.due(&open.keys().copied().collect(), Instant::now());
        for (name, claim) in open.into_iter().filter(|(name, _)| due.contains(name)) {
            let wait = tries.note(name, Instant::now());
            let (lane, request) = name;
            match self.pay_credit(lane, request, claim.left).await {
                Ok(()) => {
                    tries.paid(name, Instant::now());
                    tracing::info!(%lane, %request, payer = %claim.payer, amount = %claim.left, "paid a credit note");
                }
                Err(error) => {
                    tracing::warn!(%lane, %request, error = format!("{error:#}"), again_s = wait.as_secs(), "a credit note was not paid");
                }
            }
        }
    }

    async fn pay_credit(&self, lane: Hash32, request: Hash32, left: Amount) -> anyhow::Result<()> {
        let record = self.books.lane(lane)?.context("the lane is not in this node's books: pay by hand with `tributary refund --pay`")?;
        self.chain.pay_credit(&record.lane.document, request, left).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Name = (Hash32([1; 32]), Hash32([2; 32]));

    #[test]
    fn a_claim_that_fails_is_tried_again_after_twice_as_long_and_not_for_ever() {
        let (mut tries, open) = (Tries::default(), BTreeSet::from([CLAIM]));
        let mut now = Instant::now();
        let mut waits = Vec::new();
        while tries.due(&open, now) == open {
            let wait = tries.note(CLAIM, now);
            assert_eq!(tries.due(&open, now + wait - Duration::from_millis(1)), BTreeSet::new());
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits[..10], [2, 4, 8, 16, 32, 64, 128, 256, 512, 600]);
        assert_eq!(waits.len(), usize::try_from(TRIES_MAX).unwrap());
        assert!(waits.iter().sum::<u64>() > 86_400, "over a day");
    }

    #[test]
    fn a_paid_claim_is_left_alone_until_the_books_follow_and_forgotten_when_they_do() {
        let (mut tries, open) = (Tries::default(), BTreeSet::from([CLAIM]));
        let now = Instant::now();
        tries.note(CLAIM, now);
        tries.paid(CLAIM, now);
        assert_eq!(tries.due(&open, now + LONGEST_WAIT / 2), BTreeSet::new());
        assert_eq!(tries.due(&open, now + LONGEST_WAIT), open, "a reorganisation took the payment back");
        assert_eq!(tries.due(&BTreeSet::new(), now), BTreeSet::new());
        assert!(tries.0.is_empty());
    }
}
