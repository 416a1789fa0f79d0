//! The clock beside [`Losses`]: what clients cost this process and did not pay.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use inference::proto::{loss::Losses, payment::Serving};
use types::{
    amount::{Amount, AmountError},
    id::Address,
    time::Time,
};

/// What clients cost and did not pay since this process started; a restart forgives.
#[derive(Debug)]
pub struct Ledger {
    losses: Mutex<Losses>,
    started: Instant,
}

impl Ledger {
    /// An empty one; `willing` is what one client may cost.
    pub fn new(willing: Amount) -> Self {
        Self { losses: Mutex::new(Losses::new(willing)), started: Instant::now() }
    }

    fn now(&self) -> Time {
        Time::default().after(self.started.elapsed())
    }

    /// How long `payer` has to wait for its next answer; nothing if it is welcome.
    pub fn wait(&self, payer: Address) -> Option<Duration> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner).wait(payer, self.now())
    }

    /// Counts an answer that has ended: what was promised of it makes good, what was delivered beyond is lost.
    pub fn settle(&self, payer: Address, answer: &Serving) -> Result<(), AmountError> {
        let unpaid = answer.unpaid()?;
        let paid = answer.terms().due(u32::try_from(answer.vouched().len()).unwrap_or(u32::MAX))?;
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        if !answer.vouched().is_empty() {
            losses.paid(payer, paid, self.now());
        }
        if unpaid > Amount::ZERO {
            losses.lost(payer, unpaid, self.now());
        }
        Ok(())
    }
}
