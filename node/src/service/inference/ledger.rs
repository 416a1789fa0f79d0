//! The clock beside [`Losses`]: what clients cost this process and did not pay.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use inference::proto::{
    loss::Losses,
    message::VOUCHER_TOKENS,
    payment::{AHEAD_TOKENS, Serving},
};
use types::{
    amount::{Amount, AmountError},
    id::Address,
    quote::PROTOCOL_FEE,
    split,
    time::Time,
};

/// Contexts full of prompt that a client may leave unpaid: as many readers of one gateway press stop at once, and it is served on.
const CONTEXTS: u32 = 4;

/// What one client may cost where the operator has not said: `CONTEXTS` full contexts at the node's own rate, and the tokens of a voucher. At 8,192 tokens
/// of 0.002 OPEN a thousand that is 0.066 OPEN; it leaks away at 55 tokens a second, above what a slow node computes for one who is tired of waiting.
///
/// # Errors
/// [`AmountError::Overflow`].
pub fn willing(context: usize, rate_in: Amount, rate_out: Amount) -> Result<Amount, AmountError> {
    let context = u32::try_from(context).map_err(|_| AmountError::Overflow("context"))?;
    let prompts = context.checked_mul(CONTEXTS).ok_or(AmountError::Overflow("context"))?;
    split::fee(prompts, VOUCHER_TOKENS + AHEAD_TOKENS, rate_in, rate_out, PROTOCOL_FEE)
}

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

    /// Counts an answer that has ended, for whose prompt `computed` rows were made: what was promised of it makes good, what was done beyond is lost.
    pub fn settle(&self, payer: Address, answer: &Serving, computed: u32) -> Result<(), AmountError> {
        let unpaid = answer.unpaid(computed)?;
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

#[cfg(test)]
mod tests {
    use inference::proto::payment::Terms;
    use types::id::Hash32;

    use super::*;
    use crate::config::Config;

    const PAYER: Address = Address([7; 20]);
    const CONTEXT: u32 = 8_192;

    fn answer(tokens_in: u32) -> Serving {
        let Config { rate_in, rate_out, .. } = Config::default();
        let (lane, request, quote) = (Hash32([1; 32]), Hash32([2; 32]), Hash32([3; 32]));
        let terms = Terms {
            lane,
            request,
            attempt: 0,
            quote,
            continued: Vec::new(),
            tokens_in,
            base: Amount::ZERO,
            rate_in,
            rate_out,
            protocol_fee: PROTOCOL_FEE,
        };
        Serving::new(terms, 100, Amount(u128::MAX / 2_000)).unwrap()
    }

    fn ledger() -> Ledger {
        let Config { rate_in, rate_out, willing_to_lose, .. } = Config::default();
        assert_eq!(willing_to_lose, None);
        Ledger::new(willing(usize::try_from(CONTEXT).unwrap(), rate_in, rate_out).unwrap())
    }

    #[test]
    fn a_client_one_of_whose_readers_leaves_the_longest_question_is_served_on() {
        let ledger = ledger();
        ledger.settle(PAYER, &answer(CONTEXT), CONTEXT).unwrap();
        assert_eq!(ledger.wait(PAYER), None);
        for _ in 0..1_000 {
            ledger.settle(PAYER, &answer(CONTEXT), 0).unwrap();
        }
        assert_eq!(ledger.wait(PAYER), None, "nothing was computed for who left a queue");
    }

    #[test]
    fn a_client_that_takes_prompts_for_nothing_again_and_again_is_let_wait() {
        let ledger = ledger();
        for _ in 0..=CONTEXTS {
            assert_eq!(ledger.wait(PAYER), None);
            ledger.settle(PAYER, &answer(CONTEXT), CONTEXT).unwrap();
        }
        assert!(ledger.wait(PAYER).is_some());
        assert_eq!(ledger.wait(Address([8; 20])), None);
    }
}
