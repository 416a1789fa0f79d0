//! Which lanes a node may be paid on.
//!
//! A client signs a [`Lane`] and cumulative vouchers on it; the chain learns of both with the first collect. So before its first token a node
//! must know that the lane is its own, the asking client's, and open long enough for the answer to be given, receipted and collected: the
//! escrow refuses every voucher of an expired lane. What an answer costs and which voucher is due are `types::split` and the rules of the answer.

use types::{
    amount::Amount,
    id::Address,
    key::{Domains, SignatureError, Signed},
    voucher::Lane,
};

/// A lane must live this many blocks longer to be served: half an hour of two-second blocks for the answer, its receipt and the collect.
pub const LANE_BLOCKS_MIN: u64 = 900;

/// Why an answer is not begun on a lane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// Another payer's or another node's.
    #[error("the lane is from {payer} to {node}, expected from {client} to {me}")]
    Foreign {
        /// Who pays on it.
        payer: Address,
        /// Who is paid on it.
        node: Address,
        /// Who asks.
        client: Address,
        /// Who answers.
        me: Address,
    },
    /// Too late to be collected for certain.
    #[error("the lane expires at block {expiry} and the chain is at {block}: sign one that lasts {LANE_BLOCKS_MIN} blocks more")]
    Expiring {
        /// Last block in which it may be collected.
        expiry: u64,
        /// Now.
        block: u64,
    },
    /// Not signed by its payer, nor by the session key named.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The escrow knows no such session key.
    #[error("{payer} lets no session key {signer} sign for it: authorise it with `tributary wallet session add`")]
    NoSession {
        /// Who pays.
        payer: Address,
        /// Who signs.
        signer: Address,
    },
    /// The session key's time is over, or so near its end that its vouchers may not be collected.
    #[error("the session key {signer} ends at block {expiry} and the chain is at {block}: it must last {LANE_BLOCKS_MIN} blocks more")]
    SessionEnding {
        /// Who signs.
        signer: Address,
        /// Its last block.
        expiry: u64,
        /// Now.
        block: u64,
    },
    /// The payer has revoked the session key.
    #[error("the session key {signer} is revoked by its payer")]
    SessionRevoked {
        /// Who signs.
        signer: Address,
    },
}

/// What the escrow says of a session key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRight {
    /// Most that may be collected by its signature.
    pub cap: Amount,
    /// Collected so far.
    pub spent: Amount,
    /// Last block in which anything is collected by it.
    pub expiry: u64,
    /// When a revocation takes effect, if it was revoked: until then the escrow still pays what was signed before.
    pub revoked_at: Option<u64>,
}

/// What may still be collected by the signature of `signer` for `payer`, of which the escrow says `right`. The escrow pays nothing of a voucher that goes beyond
/// it, not even a part: whoever serves more serves for nothing.
///
/// # Errors
/// [`LaneError`]: it may not sign, or not for long enough.
pub const fn admit_session(right: Option<SessionRight>, payer: Address, signer: Address, block: u64) -> Result<Amount, LaneError> {
    let Some(right) = right else { return Err(LaneError::NoSession { payer, signer }) };
    if right.revoked_at.is_some() {
        return Err(LaneError::SessionRevoked { signer });
    }
    if right.expiry < block.saturating_add(LANE_BLOCKS_MIN) {
        return Err(LaneError::SessionEnding { signer, expiry: right.expiry, block });
    }
    Ok(Amount(right.cap.0.saturating_sub(right.spent.0)))
}

/// Whether node `me` may begin an answer to `client` on `lane`, signed by `signer` (the payer, or a session key that [`admit_session`] lets sign), while the chain
/// is at `block`. `known` is the lane as it was verified before,
/// if it was: the same bytes are not verified again.
///
/// # Errors
/// [`LaneError`], each naming what was expected and what came.
pub fn admit(
    lane: &Signed<Lane>,
    known: Option<&Signed<Lane>>,
    domains: &Domains,
    client: Address,
    signer: Address,
    me: Address,
    block: u64,
) -> Result<(), LaneError> {
    let Lane { payer, node, expiry, .. } = lane.document;
    if payer != client || node != me {
        return Err(LaneError::Foreign { payer, node, client, me });
    }
    if expiry < block.saturating_add(LANE_BLOCKS_MIN) {
        return Err(LaneError::Expiring { expiry, block });
    }
    if known != Some(lane) {
        lane.verify(domains, signer)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use types::{amount::Amount, key::Account};

    use super::*;

    const ME: Address = Address([7; 20]);
    const BLOCK: u64 = 100;

    fn domains() -> Domains {
        Domains { chain_id: 1, escrow: Address([3; 20]), registry: Address([4; 20]), settlement: Address([5; 20]), stake: Address([6; 20]) }
    }

    fn account(byte: u8) -> Account {
        Account::from_bytes(&[byte; 32]).unwrap()
    }

    fn check(change: impl FnOnce(&mut Lane)) -> Result<(), LaneError> {
        let mut lane = Lane { payer: account(1).address(), node: ME, cap: Amount(9), expiry: BLOCK + LANE_BLOCKS_MIN, nonce: 1 };
        change(&mut lane);
        let client = account(1).address();
        admit(&Signed::new(&account(1), &domains(), lane), None, &domains(), client, client, ME, BLOCK)
    }

    #[test]
    fn a_lane_is_admitted_while_it_lasts_long_enough_to_be_collected() {
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(|lane| lane.expiry = u64::MAX), Ok(()));
        assert_eq!(check(|lane| lane.expiry -= 1), Err(LaneError::Expiring { expiry: BLOCK + LANE_BLOCKS_MIN - 1, block: BLOCK }));
        assert_eq!(check(|lane| lane.expiry = 0), Err(LaneError::Expiring { expiry: 0, block: BLOCK }));
    }

    #[test]
    fn a_lane_of_another_payer_or_to_another_node_is_refused() {
        let (client, stranger) = (account(1).address(), Address([9; 20]));
        let foreign = |payer, node| Err(LaneError::Foreign { payer, node, client, me: ME });
        assert_eq!(check(|lane| lane.node = stranger), foreign(client, stranger));
        assert_eq!(check(|lane| lane.payer = stranger), foreign(stranger, ME));
    }

    #[test]
    fn a_session_key_signs_a_lane_in_its_payers_name_only_where_it_is_named() {
        let client = account(1).address();
        let lane = Lane { payer: client, node: ME, cap: Amount(9), expiry: 10_000, nonce: 1 };
        let signed = Signed::new(&account(2), &domains(), lane);
        let by = |signer| admit(&signed, None, &domains(), client, signer, ME, BLOCK);
        assert_eq!(by(account(2).address()), Ok(()));
        assert!(matches!(by(client), Err(LaneError::Signature(_))));
    }

    #[test]
    fn a_session_is_good_for_what_its_cap_leaves_while_it_lasts() {
        let (payer, signer) = (account(1).address(), account(2).address());
        let right = SessionRight { cap: Amount(100), spent: Amount(30), expiry: BLOCK + LANE_BLOCKS_MIN, revoked_at: None };
        let check = |right| admit_session(right, payer, signer, BLOCK);
        assert_eq!(check(Some(right)), Ok(Amount(70)));
        assert_eq!(check(Some(SessionRight { spent: Amount(100), ..right })), Ok(Amount::ZERO));
        assert_eq!(check(None), Err(LaneError::NoSession { payer, signer }));
        let expiry = right.expiry - 1;
        assert_eq!(check(Some(SessionRight { expiry, ..right })), Err(LaneError::SessionEnding { signer, expiry, block: BLOCK }));
        assert_eq!(check(Some(SessionRight { revoked_at: Some(u64::MAX), ..right })), Err(LaneError::SessionRevoked { signer }));
    }

    #[test]
    fn a_lane_its_payer_did_not_sign_for_this_deployment_is_refused() {
        let lane = Lane { payer: account(1).address(), node: ME, cap: Amount(9), expiry: 10_000, nonce: 1 };
        let refused = |signed: &Signed<Lane>| admit(signed, None, &domains(), lane.payer, lane.payer, ME, BLOCK);
        assert!(matches!(refused(&Signed::new(&account(2), &domains(), lane)), Err(LaneError::Signature(SignatureError::Foreign { .. }))));
        let elsewhere = Domains { chain_id: 2, ..domains() };
        assert!(matches!(refused(&Signed::new(&account(1), &elsewhere, lane)), Err(LaneError::Signature(_))));
        let good = Signed::new(&account(1), &domains(), lane);
        assert_eq!(refused(&good), Ok(()));
        // What was verified before helps the same bytes alone.
        let forged = Signed::new(&account(2), &domains(), lane);
        let known = |signed: &Signed<Lane>| admit(signed, Some(&good), &domains(), lane.payer, lane.payer, ME, BLOCK);
        assert_eq!(known(&good), Ok(()));
        assert!(matches!(known(&forged), Err(LaneError::Signature(_))));
    }
}
