//! What contracts keep for a payee that did not take it when it was paid.

use types::{amount::Amount, id::Address};

use super::{ChainClient, Sent};
use crate::{
    bindings::{AuditCase, AuditRent, DatanetRent, ReceiptChallenge, Settlement, StakeManager},
    chain::error::ChainError,
    convert,
    registry::event::Custody,
};

impl ChainClient {
    /// Wei that a contract keeps for `account`.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn kept_by(&self, custody: Custody, account: Address) -> Result<Amount, ChainError> {
        let (payee, at) = (convert::address(account), self.deployment());
        let kept = match custody {
            Custody::Stake => self.read(at.stake, &StakeManager::owedCall(payee)).await?,
            Custody::Settlement => self.read(at.settlement, &Settlement::owedCall(payee)).await?,
            Custody::Challenge => self.read(at.challenge, &ReceiptChallenge::owedCall(payee)).await?,
            Custody::Rent => self.read(at.rent, &DatanetRent::owedCall(payee)).await?,
            Custody::Audits => self.read(at.audits, &AuditRent::owedCall(payee)).await?,
            Custody::Cases => self.read(at.cases, &AuditCase::owedCall(payee)).await?,
        };
        kept.try_into().map(Amount).map_err(|_| ChainError::Unreadable { what: "what is kept", why: "beyond 2^128 wei".into() })
    }

    /// Has a contract pay `account` all it keeps for it.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn take_kept(&self, custody: Custody, account: Address) -> Result<Sent, ChainError> {
        let (account, at, what) = (convert::address(account), self.deployment(), "take what is kept");
        match custody {
            Custody::Stake => self.write(what, None, at.stake, &StakeManager::withdrawOwedCall { account }, Amount::ZERO).await,
            Custody::Settlement => self.write(what, None, at.settlement, &Settlement::withdrawOwedCall { account }, Amount::ZERO).await,
            Custody::Challenge => self.write(what, None, at.challenge, &ReceiptChallenge::withdrawOwedCall { account }, Amount::ZERO).await,
            Custody::Rent => self.write(what, None, at.rent, &DatanetRent::withdrawOwedCall { account }, Amount::ZERO).await,
            Custody::Audits => self.write(what, None, at.audits, &AuditRent::withdrawOwedCall { account }, Amount::ZERO).await,
            Custody::Cases => self.write(what, None, at.cases, &AuditCase::withdrawOwedCall { account }, Amount::ZERO).await,
        }
    }
}
