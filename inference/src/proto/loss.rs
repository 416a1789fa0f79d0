//! What a node has worked for without being paid, by payer: a client that takes prompts and first tokens and promises nothing is let wait.
//!
//! A payer may cost the node what the operator is willing to lose; above that its next answer is refused until the loss has leaked away, all
//! of it in [`FORGET`]. What a payer pays counts against its loss. The bound holds per payer and is looked at when an answer begins, so
//! answers already under way may go beyond it by one prompt each. Every payer here has shown a deposit, which is what keeps names from being free.

use std::{collections::BTreeMap, time::Duration};

use types::{amount::Amount, id::Address, time::Time};

/// In this time a payer's whole allowance is forgiven: a client with a bad line is served again after minutes, a leech gets one allowance each.
pub const FORGET: Duration = Duration::from_secs(600);
/// Payers remembered, about 60 bytes each; beyond, the one with the smallest loss is forgotten.
pub const PAYERS_MAX: usize = 4_096;

/// The losses.
#[derive(Debug)]
pub struct Losses {
    willing: Amount,
    payers: BTreeMap<Address, (Amount, Time)>,
}

impl Losses {
    /// No losses yet; `willing` is what one payer may cost.
    pub const fn new(willing: Amount) -> Self {
        Self { willing, payers: BTreeMap::new() }
    }

    /// What `payer` has cost and not made good, at `now`.
    pub fn of(&self, payer: Address, now: Time) -> Amount {
        let Some((lost, since)) = self.payers.get(&payer) else { return Amount::ZERO };
        let elapsed = now.since(*since).as_micros().min(FORGET.as_micros());
        // Multiplied last, so that nothing overflows; the remainder is less than a microsecond's leak.
        let leak =
            (self.willing.0 / FORGET.as_micros()).saturating_mul(elapsed).max(if elapsed == FORGET.as_micros() { lost.0 } else { 0 });
        Amount(lost.0.saturating_sub(leak))
    }

    /// How long until `payer` is served again; nothing if it is now.
    pub fn wait(&self, payer: Address, now: Time) -> Option<Duration> {
        let lost = self.of(payer, now);
        if lost == Amount::ZERO || lost < self.willing {
            return None;
        }
        let per_micro = (self.willing.0 / FORGET.as_micros()).max(1);
        let micros = (lost.0 - self.willing.0) / per_micro + 1;
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(FORGET))
    }

    /// Notes work worth `amount` that `payer` did not pay.
    pub fn lost(&mut self, payer: Address, amount: Amount, now: Time) {
        let lost = Amount(self.of(payer, now).0.saturating_add(amount.0));
        self.payers.insert(payer, (lost, now));
        if self.payers.len() > PAYERS_MAX
            && let Some(least) = self.payers.iter().min_by_key(|(_, (lost, since))| (*lost, *since)).map(|(payer, _)| *payer)
        {
            self.payers.remove(&least);
        }
    }

    /// Notes that `payer` paid `amount`.
    pub fn paid(&mut self, payer: Address, amount: Amount, now: Time) {
        let left = self.of(payer, now).0.saturating_sub(amount.0);
        if left == 0 {
            self.payers.remove(&payer);
        } else {
            self.payers.insert(payer, (Amount(left), now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000;
    const PAYER: Address = Address([7; 20]);

    fn losses() -> Losses {
        Losses::new(Amount(600_000_000_000))
    }

    #[test]
    fn a_payer_is_refused_from_its_allowance_on_and_served_again_as_the_loss_leaks_away() {
        let mut losses = losses();
        losses.lost(PAYER, Amount(590_000_000_000), Time(0));
        assert_eq!(losses.wait(PAYER, Time(0)), None);
        losses.lost(PAYER, Amount(130_000_000_000), Time(0));
        let wait = losses.wait(PAYER, Time(0)).unwrap();
        assert!(wait > Duration::from_secs(119) && wait < Duration::from_secs(121), "{wait:?}");
        assert_eq!(losses.wait(PAYER, Time(0).after(wait)), None);
        assert_eq!(losses.of(PAYER, Time(10 * MINUTE)), Amount::ZERO);
        assert_eq!(losses.wait(Address([8; 20]), Time(0)), None, "each payer has its own");
    }

    #[test]
    fn what_is_paid_makes_good_what_was_lost() {
        let mut losses = losses();
        losses.lost(PAYER, Amount(700_000_000_000), Time(5));
        losses.paid(PAYER, Amount(200_000_000_000), Time(5));
        assert_eq!(losses.of(PAYER, Time(5)), Amount(500_000_000_000));
        losses.paid(PAYER, Amount(u128::MAX), Time(5));
        assert_eq!(losses.of(PAYER, Time(5)), Amount::ZERO);
    }

    #[test]
    fn an_operator_willing_to_lose_nothing_still_serves_who_never_cost_anything() {
        let mut losses = Losses::new(Amount::ZERO);
        assert_eq!(losses.wait(PAYER, Time(0)), None);
        losses.lost(PAYER, Amount(1), Time(0));
        assert!(losses.wait(PAYER, Time(1)).is_some());
        assert_eq!(losses.wait(PAYER, Time(10 * MINUTE)), None);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_costliest() {
        let mut losses = losses();
        losses.lost(PAYER, Amount(1_000_000), Time(0));
        for number in 0..u32::try_from(2 * PAYERS_MAX).unwrap() {
            let mut bytes = [0; 20];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            losses.lost(Address(bytes), Amount(1), Time(0));
        }
        assert_eq!(losses.payers.len(), PAYERS_MAX);
        assert_eq!(losses.of(PAYER, Time(0)), Amount(1_000_000));
    }
}
