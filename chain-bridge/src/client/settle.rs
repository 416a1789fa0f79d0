//! Settlement: node roots, payout trees, claims.

use alloy::rpc::types::Log;
use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, Hash32},
    key::Signed,
    merkle::SumOpening,
    operator::NodeRoot,
    payout::PayoutLeaf,
};

use super::{ChainClient, Sent, key, logged};
use crate::{bindings::Settlement, chain::error::ChainError, convert, registry::money::ROLE_POSTER};

/// Most claims of one batch: below 45,000 gas each, so a batch stays below three million.
pub const CLAIMS_MAX: usize = 64;

/// An epoch as the contract keeps it; zeros where nothing happened yet. Payouts before the last final one are in events alone: zeros here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EpochState {
    /// Number.
    pub epoch: u64,
    /// Seconds since 1970; 0 if it never opened.
    pub opened_at: u64,
    /// Seconds since 1970 from which a payout may be posted.
    pub payout_from: u64,
    /// Seconds since 1970; 0 if no payout was posted.
    pub posted_at: u64,
    /// Seconds since 1970 at which the payout is final; 0 if there is none.
    pub final_at: u64,
    /// Node roots submitted.
    pub nodes: u64,
    /// Total of all cumulative amounts.
    pub total: Amount,
    /// Payout root; zero if there is none.
    pub root: Hash32,
    /// Who posted it.
    pub poster: Address,
}

/// A leaf of a payout tree with its opening.
pub type Opened = (PayoutLeaf, SumOpening);

fn many(claims: &[Opened]) -> Result<Settlement::claimManyCall, ChainError> {
    if claims.is_empty() || claims.len() > CLAIMS_MAX {
        return Err(ChainError::Argument(format!("a batch holds 1 to {CLAIMS_MAX} claims, got {}", claims.len())));
    }
    let count = claims[0].1.leaves;
    if claims.iter().any(|(_, opening)| opening.leaves != count) {
        return Err(ChainError::Argument("a batch claims by one tree: these openings are of several".into()));
    }
    let claims = claims.iter().map(|(leaf, opening)| Settlement::Claim {
        account: convert::address(leaf.account),
        previous: leaf.previous.0,
        cumulative: leaf.cumulative.0,
        partsRoot: convert::word(leaf.parts),
        index: opening.index,
        siblings: convert::siblings(opening),
    });
    Ok(Settlement::claimManyCall { count, claims: claims.collect() })
}

impl ChainClient {
    /// Submits a node's signed receipts root; anybody may carry it.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn submit_node_root(&self, root: &Signed<NodeRoot>) -> Result<Sent, ChainError> {
        let call = Settlement::submitNodeRootCall { body: root.document.encode().into(), signature: root.signature.0.to_vec().into() };
        let key = key("node-root", &[root.document.hash()]);
        self.write("submit node root", key, self.deployment().settlement, &call, Amount::ZERO).await
    }

    /// The epoch that a node root submitted now must name.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn submission_epoch(&self) -> Result<u64, ChainError> {
        self.read(self.deployment().settlement, &Settlement::submissionEpochCall {}).await
    }

    /// The last epoch that opened; 0 before the first.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn current_epoch(&self) -> Result<u64, ChainError> {
        self.read(self.deployment().settlement, &Settlement::currentEpochCall {}).await
    }

    /// The last epoch whose payout was posted; 0 before the first.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn last_posted(&self) -> Result<u64, ChainError> {
        self.read(self.deployment().settlement, &Settlement::lastPostedCall {}).await
    }

    /// The last epoch whose payout is final; 0 before the first.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn last_final(&self) -> Result<u64, ChainError> {
        self.read(self.deployment().settlement, &Settlement::lastFinalCall {}).await
    }

    /// One epoch.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn epoch(&self, epoch: u64) -> Result<EpochState, ChainError> {
        let found = self.read(self.deployment().settlement, &Settlement::epochsCall { epoch }).await?;
        let payout = self.read(self.deployment().settlement, &Settlement::payoutOfCall { epoch }).await?;
        let config = &self.deployment().config;
        let after = |start: u64, wait: u64| if start == 0 { 0 } else { start.saturating_add(wait) };
        Ok(EpochState {
            epoch,
            opened_at: found.openedAt,
            payout_from: after(found.openedAt, config.w1_s),
            posted_at: payout.postedAt,
            final_at: after(payout.postedAt, config.w2_s),
            nodes: found.nodes,
            total: Amount(payout.total),
            root: convert::hash(payout.root),
            poster: convert::account(payout.poster),
        })
    }

    /// The slot of a node's root of an epoch: keccak(body || block u64); nothing if it submitted none. The body is in the event.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn node_root_of(&self, epoch: u64, node: Address) -> Result<Option<Hash32>, ChainError> {
        let call = Settlement::nodeRootOfCall { _0: epoch, _1: convert::address(node) };
        let root = self.read(self.deployment().settlement, &call).await?;
        Ok((!root.is_zero()).then(|| convert::hash(root)))
    }

    /// The block in which a payout of an epoch was posted under `root`, at or after block `from`; the last one if that was done again, nothing if it was not
    /// done.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn payout_block(&self, epoch: u64, root: Hash32, from: u64) -> Result<Option<u64>, ChainError> {
        let head = self.rpc().latest().await?.block.number;
        let logs = self.rpc().logs(&[self.deployment().settlement], from, head).await?;
        let is_it = |log: &&Log| {
            let event = log.log_decode::<Settlement::PayoutPosted>().map(|event| event.inner.data);
            event.is_ok_and(|event| (event.epoch, convert::hash(event.root)) == (epoch, root))
        };
        Ok(logs.iter().rfind(is_it).and_then(|log| log.block_number))
    }

    /// Posts the payout tree of an epoch, built on `previous`, the last final root (zero for the first). An account without the poster's role posts
    /// against the bond, once the payout has been due for the fall-back time.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn post_payout(&self, epoch: u64, previous: Hash32, root: Hash32, total: Amount) -> Result<Sent, ChainError> {
        let own = self.sender("post payout")?.address();
        let bond = if self.is_bonded_as(own, ROLE_POSTER).await? { Amount::ZERO } else { self.deployment().config.poster_bond };
        let call = Settlement::postPayoutCall { epoch, previousRoot: convert::word(previous), root: convert::word(root), total: total.0 };
        // A payout that was overturned may be posted again: the key then names the attempt by what was posted before it.
        let key = key(&format!("payout/{epoch}/{}", self.last_posted().await?), &[root]);
        self.write("post payout", key, self.deployment().settlement, &call, bond).await
    }

    /// Gives the poster of the last final payout its bond back; anybody may.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn return_bond(&self) -> Result<Sent, ChainError> {
        self.write("return bond", None, self.deployment().settlement, &Settlement::returnBondCall {}, Amount::ZERO).await
    }

    /// Pays many accounts by leaves of the last final payout tree; anybody may. Returns what was paid or, where a payee would not take it, credited.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Argument`] if the batch is empty, too long, or of several trees.
    pub async fn claim_many(&self, claims: &[Opened]) -> Result<(Amount, Sent), ChainError> {
        let call = many(claims)?;
        let sent = self.write("claim for many", None, self.deployment().settlement, &call, Amount::ZERO).await?;
        let settlement = convert::address(self.deployment().settlement);
        let events = sent.logs.iter().filter(|log| log.address() == settlement);
        let events = events.filter_map(|log| log.log_decode::<Settlement::Claimed>().ok());
        let amount = Amount::sum(events.map(|event| Amount(event.inner.data.amount)));
        Ok((amount.map_err(|error| ChainError::Unreadable { what: "Claimed", why: error.to_string() })?, sent))
    }

    /// Those of some claims that the last final payout pays now, and why it pays none of the others: one that is refused would refuse its batch. Asked of
    /// the contract, nothing is sent.
    ///
    /// # Errors
    /// [`ChainError`], but for a refusal.
    pub async fn payable(&self, claims: Vec<Opened>) -> Result<(Vec<Opened>, Vec<(Address, String)>), ChainError> {
        let (mut good, mut refused) = (Vec::with_capacity(claims.len()), Vec::new());
        for batch in claims.chunks(CLAIMS_MAX) {
            if self.is_payable(batch).await?.is_none() {
                good.extend_from_slice(batch);
                continue;
            }
            for claim in batch {
                match self.is_payable(std::slice::from_ref(claim)).await? {
                    None => good.push(claim.clone()),
                    Some(why) => refused.push((claim.0.account, why)),
                }
            }
        }
        Ok((good, refused))
    }

    /// Why the contract would refuse a batch; nothing if it would not.
    async fn is_payable(&self, batch: &[Opened]) -> Result<Option<String>, ChainError> {
        match self.read(self.deployment().settlement, &many(batch)?).await {
            Ok(_) => Ok(None),
            Err(ChainError::Reverted { reason, .. }) => Ok(Some(reason)),
            Err(error) => Err(error),
        }
    }

    /// Fees of a node that may still be void; they stay below a tenth of its stake.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn open_fees_of(&self, node: Address) -> Result<Amount, ChainError> {
        let fees = self.read(self.deployment().settlement, &Settlement::openFeesOfCall { node: convert::address(node) }).await?;
        fees.try_into().map(Amount).map_err(|_| ChainError::Unreadable { what: "open fees", why: "beyond 2^128 wei".into() })
    }

    /// Whether a receipt was proven void.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn is_void(&self, receipt: Hash32) -> Result<bool, ChainError> {
        self.read(self.deployment().settlement, &Settlement::isVoidCall { receiptHash: convert::word(receipt) }).await
    }

    /// Claims by a leaf of the last final payout tree; returns what was paid. The leaf must be the account's own.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn claim(&self, leaf: &PayoutLeaf, opening: &SumOpening) -> Result<(Amount, Sent), ChainError> {
        let own = self.sender("claim")?.address();
        if leaf.account != own {
            return Err(ChainError::Argument(format!("the leaf pays {}, this account is {own}: claim with the payee's key", leaf.account)));
        }
        let call = Settlement::claimCall {
            previous: leaf.previous.0,
            cumulative: leaf.cumulative.0,
            partsRoot: convert::word(leaf.parts),
            index: opening.index,
            count: opening.leaves,
            siblings: convert::siblings(opening),
        };
        let sent = self.write("claim", None, self.deployment().settlement, &call, Amount::ZERO).await?;
        let event: Settlement::Claimed = logged(&sent, self.deployment().settlement)?;
        Ok((Amount(event.amount), sent))
    }

    /// Claimed by an account since deployment.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn claimed_of(&self, account: Address) -> Result<Amount, ChainError> {
        let call = Settlement::claimedCall { account: convert::address(account) };
        Ok(Amount(self.read(self.deployment().settlement, &call).await?))
    }

    /// Received from the escrow and claimed since deployment.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn settled_totals(&self) -> Result<(Amount, Amount), ChainError> {
        let received = self.read(self.deployment().settlement, &Settlement::totalReceivedCall {}).await?;
        let claimed = self.read(self.deployment().settlement, &Settlement::totalClaimedCall {}).await?;
        Ok((Amount(received), Amount(claimed)))
    }
}
