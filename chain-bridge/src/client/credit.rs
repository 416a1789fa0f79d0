//! Credit notes that a node did not pay, and the session keys that a payer lets sign.

use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, Hash32},
    key::Signed,
    voucher::{CreditNote, Lane},
};

use super::{ChainClient, Sent, key};
use crate::{bindings::InferenceEscrow, chain::error::ChainError, convert, lanes::SessionRight};

/// A credit claim as the escrow keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditOnChain {
    /// Not yet paid.
    pub left: Amount,
    /// From when on it is paid out of stake.
    pub settle_from: u64,
    /// Whether it is open still.
    pub is_open: bool,
    /// Whether its payer gave up what was not paid.
    pub is_given_up: bool,
}

impl ChainClient {
    /// Claims a credit note that its node did not honour; the payer alone may, once per request of a lane.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn claim_credit(&self, lane: &Lane, note: &Signed<CreditNote>) -> Result<Sent, ChainError> {
        let call = InferenceEscrow::claimCreditCall {
            laneBody: lane.encode().into(),
            note: note.document.encode().into(),
            signature: note.signature.0.to_vec().into(),
        };
        let key = key("claim-credit", &[lane.id(), note.document.request]);
        self.write("claim credit", key, self.deployment().escrow, &call, Amount::ZERO).await
    }

    /// Pays a claim of `amount`, what is left of it exactly, into the payer's deposit; the node does, or anybody.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn pay_credit(&self, lane: &Lane, request: Hash32, amount: Amount) -> Result<Sent, ChainError> {
        let call = InferenceEscrow::payCreditCall { laneBody: lane.encode().into(), request: convert::word(request) };
        self.write("pay credit claim", None, self.deployment().escrow, &call, amount).await
    }

    /// Has a claim that nobody paid in time paid out of the node's stake into the payer's deposit; anybody may.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn settle_credit(&self, lane: &Lane, request: Hash32) -> Result<Sent, ChainError> {
        let call = InferenceEscrow::settleCreditCall { laneBody: lane.encode().into(), request: convert::word(request) };
        self.write("settle credit claim", None, self.deployment().escrow, &call, Amount::ZERO).await
    }

    /// Gives up what is left of a claim, so that the lane's refund, or a slash, may pay it instead; the payer alone may, before it asks for the refund.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn drop_credit(&self, lane: &Lane, request: Hash32) -> Result<Sent, ChainError> {
        let call = InferenceEscrow::dropCreditCall { laneBody: lane.encode().into(), request: convert::word(request) };
        self.write("give up credit claim", None, self.deployment().escrow, &call, Amount::ZERO).await
    }

    /// What a lane has given back so far: by credit notes that were claimed and not given up, and by slashes that were divided.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn given_back(&self, lane: Hash32) -> Result<(Amount, Amount), ChainError> {
        let lane = convert::word(lane);
        let credited = self.read(self.deployment().escrow, &InferenceEscrow::creditedOfCall { lane }).await?;
        let refunded = self.read(self.deployment().escrow, &InferenceEscrow::refundedOfCall { lane }).await?;
        Ok((Amount(credited), Amount(refunded)))
    }

    /// The claim on a credit note; nothing if there is none.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn credit_of(&self, lane: Hash32, request: Hash32) -> Result<Option<CreditOnChain>, ChainError> {
        let call = InferenceEscrow::creditOfCall { lane: convert::word(lane), request: convert::word(request) };
        let found = self.read(self.deployment().escrow, &call).await?;
        Ok((found.state != 0).then_some(CreditOnChain {
            left: Amount(found.amount),
            settle_from: found.settleFrom,
            is_open: found.state == OPEN,
            is_given_up: found.state == GIVEN_UP,
        }))
    }

    /// Lets `signer` sign lanes and vouchers worth up to `cap` until block `expiry`; while it is live its bounds may only grow.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn set_signer(&self, signer: Address, cap: Amount, expiry: u64) -> Result<Sent, ChainError> {
        let call = InferenceEscrow::setSignerCall { signer: convert::address(signer), cap: cap.0, expiryBlock: expiry };
        self.write("set signer", None, self.deployment().escrow, &call, Amount::ZERO).await
    }

    /// Ends a signer after the thaw.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn revoke_signer(&self, signer: Address) -> Result<Sent, ChainError> {
        let call = InferenceEscrow::revokeSignerCall { signer: convert::address(signer) };
        self.write("revoke signer", None, self.deployment().escrow, &call, Amount::ZERO).await
    }

    /// A payer's signer; nothing if there is none.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn session_of(&self, payer: Address, signer: Address) -> Result<Option<SessionRight>, ChainError> {
        let call = InferenceEscrow::sessionOfCall { payer: convert::address(payer), signer: convert::address(signer) };
        let found = self.read(self.deployment().escrow, &call).await?;
        Ok((found.expiryBlock != 0).then(|| SessionRight {
            cap: Amount(found.cap),
            spent: Amount(found.spent),
            expiry: found.expiryBlock,
            revoked_at: (found.revokedAt != 0).then_some(found.revokedAt),
        }))
    }
}

/// The contract's code of an open claim.
const OPEN: u8 = 1;
/// The contract's code of a claim that its payer gave up.
const GIVEN_UP: u8 = 3;
