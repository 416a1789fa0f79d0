//! Escrow: deposits, withdrawals, collecting vouchers.

use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, Hash32},
    key::Signed,
    voucher::{Lane, Voucher},
};

use super::{ChainClient, Sent, logged};
use crate::{
    bindings::InferenceEscrow::{self, Collected},
    chain::error::ChainError,
    convert,
    registry::state::Escrow,
};

/// Most vouchers of one collect: below 36,000 gas each, so a batch stays below three million.
pub const COLLECT_MAX: usize = 64;

impl ChainClient {
    /// Adds to the account's deposit.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn deposit(&self, value: Amount) -> Result<Sent, ChainError> {
        self.write("deposit", None, self.deployment().escrow, &InferenceEscrow::depositCall {}, value).await
    }

    /// Asks for part of the deposit back; it can be taken after the thaw.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn request_withdraw(&self, amount: Amount) -> Result<Sent, ChainError> {
        let call = InferenceEscrow::requestWithdrawCall { amount: amount.0 };
        self.write("request withdrawal", None, self.deployment().escrow, &call, Amount::ZERO).await
    }

    /// Takes what was asked back and has thawed.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn withdraw(&self) -> Result<Sent, ChainError> {
        self.write("withdraw", None, self.deployment().escrow, &InferenceEscrow::withdrawCall {}, Amount::ZERO).await
    }

    /// Collects vouchers into Settlement, each with its lane. Returns what was collected in all.
    ///
    /// # Errors
    /// [`ChainError`]; the contract's error names the place of a bad voucher in the batch.
    pub async fn collect_many(&self, vouchers: &[(Signed<Lane>, Signed<Voucher>)]) -> Result<(Amount, Sent), ChainError> {
        if vouchers.is_empty() || vouchers.len() > COLLECT_MAX {
            return Err(ChainError::Argument(format!("a batch holds 1 to {COLLECT_MAX} vouchers, got {}", vouchers.len())));
        }
        let mut known = Vec::with_capacity(vouchers.len());
        for (lane, _) in vouchers {
            known.push(self.lane_collected(lane.document.id()).await? > Amount::ZERO);
        }
        // The chain knows who signed a lane that it has collected from; 65 bytes are 2,600 gas. A lane that comes twice in one batch keeps its own.
        let items = vouchers.iter().zip(known).map(|((lane, voucher), is_known)| InferenceEscrow::Item {
            lane: lane.document.encode().into(),
            laneSig: if is_known { Vec::new() } else { lane.signature.0.to_vec() }.into(),
            voucher: voucher.document.encode().into(),
            voucherSig: voucher.signature.0.to_vec().into(),
        });
        let call = InferenceEscrow::collectManyCall { items: items.collect() };
        let sent = self.write("collect", None, self.deployment().escrow, &call, Amount::ZERO).await?;
        logged::<Collected>(&sent, self.deployment().escrow)?;
        let escrow = convert::address(self.deployment().escrow);
        let events = sent.logs.iter().filter(|log| log.address() == escrow).filter_map(|log| log.log_decode::<Collected>().ok());
        let amount = Amount::sum(events.map(|event| Amount(event.inner.data.amount)));
        Ok((amount.map_err(|error| ChainError::Unreadable { what: "Collected", why: error.to_string() })?, sent))
    }

    /// Deposit of a payer that is not being withdrawn.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn free_balance(&self, payer: Address) -> Result<Amount, ChainError> {
        let free = self.read(self.deployment().escrow, &InferenceEscrow::freeBalanceCall { payer: convert::address(payer) }).await?;
        Ok(Amount(free))
    }

    /// A payer's deposit.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn escrow_of(&self, payer: Address) -> Result<Escrow, ChainError> {
        let found = self.read(self.deployment().escrow, &InferenceEscrow::accountOfCall { payer: convert::address(payer) }).await?;
        Ok(Escrow { balance: Amount(found.balance), thawing: Amount(found.thawing), thawed_at: found.thawedAt })
    }

    /// Collected on a lane so far.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn lane_collected(&self, lane: Hash32) -> Result<Amount, ChainError> {
        let call = InferenceEscrow::collectedOfCall { lane: convert::word(lane) };
        Ok(Amount(self.read(self.deployment().escrow, &call).await?))
    }
}
