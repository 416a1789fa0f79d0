//! The client's side of a lane: what to sign next, and when to refuse.

use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    id::Hash32,
    receipt::token_ids_hash,
    voucher::{Lane, Voucher},
};

use super::{Terms, VoucherError};

/// A lane as the client knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientLane {
    /// The lane.
    pub lane: Lane,
    /// Cumulative amount after the last receipt on it.
    pub settled: Amount,
    /// Cumulative amount of the last voucher signed.
    pub promised: Amount,
}

impl ClientLane {
    /// A lane nothing was paid on.
    pub const fn new(lane: Lane) -> Self {
        Self { lane, settled: Amount::ZERO, promised: Amount::ZERO }
    }

    /// The lane's id.
    pub fn id(&self) -> Hash32 {
        self.lane.id()
    }

    /// The voucher for the tokens received so far. `left` is what the request's spending limit leaves for this attempt.
    ///
    /// # Errors
    /// [`VoucherError::AboveCap`], [`VoucherError::AboveLimit`], [`VoucherError::Amount`].
    pub fn next_voucher(&self, terms: &Terms, received: &[u32], left: Amount) -> Result<Voucher, VoucherError> {
        let tokens_out = u32::try_from(received.len()).map_err(|_| types::amount::AmountError::Overflow("token count"))?;
        let cost = terms.due(tokens_out)?;
        if cost > left {
            return Err(VoucherError::AboveLimit { left, cost });
        }
        let cumulative = self.settled.plus(cost)?;
        if cumulative > self.lane.cap {
            return Err(VoucherError::AboveCap { cap: self.lane.cap, cumulative });
        }
        Ok(Voucher {
            lane: self.id(),
            request: terms.request,
            attempt: terms.attempt,
            quote: terms.quote,
            first_token: terms.first_token,
            tokens_in: terms.tokens_in,
            tokens_out,
            token_ids: token_ids_hash(received),
            base: self.settled,
            cumulative,
        })
    }

    /// Most output tokens this lane and limit still pay for; what the client asks a node for before it starts.
    pub fn tokens_affordable(&self, terms: &Terms, left: Amount) -> u32 {
        let budget = Amount(self.lane.cap.0.saturating_sub(self.settled.0)).min(left);
        let fits = |tokens: u32| terms.due(tokens).is_ok_and(|due| due <= budget);
        if !fits(0) {
            return 0;
        }
        let (mut low, mut high) = (0_u32, u32::MAX);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if fits(middle) { low = middle } else { high = middle - 1 }
        }
        low
    }

    /// Notes that `voucher` was signed and sent.
    pub fn signed(&mut self, voucher: &Voucher) {
        self.promised = self.promised.max(voucher.cumulative);
    }

    /// Closes an answer by its receipt, or without one: then the promise stands, because the node may collect it.
    pub fn settle(&mut self) {
        self.settled = self.promised;
    }
}
