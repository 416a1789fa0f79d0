//! Proving faults: look first for free, then commit, then reveal. Challenges: asked with a bond, answered, settled.

use std::time::Duration;

use alloy::primitives::U256;
use types::{
    amount::Amount,
    id::{Address, AssetId, Hash32},
    merkle::keccak,
};

use super::{ChainClient, Sent, key, logged};
use crate::{
    bindings::{AssetRegistry, FraudVerifier, IndexVerifier, ReceiptChallenge, StakeManager},
    chain::error::ChainError,
    convert,
    fraud::{
        calldata::{Proof, Step},
        search::Bodies,
    },
};

/// Contributions that one transaction enters, at 38,000 gas each.
const ENTERED_AT_ONCE: u64 = 200;
/// Longest wait for the block after the commitment.
const NEXT_BLOCK: Duration = Duration::from_secs(60);

/// What a proof brought about. What was taken waits to be divided: see [`ChainClient::release_slash`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slashed {
    /// The accused account.
    pub node: Address,
    /// The commitment to the proof's hash.
    pub commit: Sent,
    /// The proof.
    pub prove: Sent,
    /// Slashable stake before.
    pub stake_before: Amount,
    /// Slashable stake after.
    pub stake_after: Amount,
    /// Taken.
    pub amount: Amount,
    /// What the victim lost, and is paid first.
    pub victim_amount: Amount,
    /// When the slash may be divided.
    pub release_at: u64,
    /// The fault's hash.
    pub fault: Hash32,
}

/// A receipt that its node showed on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownReceipt {
    /// The challenge it answers, or under whose id it was published.
    pub challenge: Hash32,
    /// Its place under its node's root.
    pub index: u64,
    /// Receipt, quote, manifest; the last two are empty where nothing is billed.
    pub bodies: Bodies,
    /// The node's signature over the receipt.
    pub signature: Vec<u8>,
}

impl ChainClient {
    /// Asks, answers or settles a challenge.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Reverted`] if it was done already or the time for it is over.
    pub async fn challenge(&self, step: &Step) -> Result<Sent, ChainError> {
        let value = step.value(self.deployment().config.challenge_bond);
        let call = crate::chain::Call { to: Some(self.deployment().challenge), data: step.call.clone(), value };
        self.sender(step.what)?.send(step.what, None, call).await
    }

    /// Receipts that nodes showed from block `from` to block `to`.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn shown_receipts(&self, from: u64, to: u64) -> Result<Vec<ShownReceipt>, ChainError> {
        let logs = self.rpc.logs(&[self.deployment().challenge], from, to).await?;
        let events = logs.iter().filter_map(|log| log.log_decode::<ReceiptChallenge::ReceiptShown>().ok());
        let shown = events.map(|event| event.inner.data).map(|event| ShownReceipt {
            challenge: convert::hash(event.id),
            index: event.index,
            bodies: Bodies { receipt: event.receipt.to_vec(), quote: event.quote.to_vec(), manifest: event.manifest.to_vec() },
            signature: event.signature.to_vec(),
        });
        Ok(shown.collect())
    }

    /// What posters showed of their payout trees from block `from` to block `to`: evidence of `showLeaf` and `showPart`, in order.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn shown_payouts(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, ChainError> {
        let logs = self.rpc.logs(&[self.deployment().challenge], from, to).await?;
        let events = logs.iter().filter_map(|log| log.log_decode::<ReceiptChallenge::PayoutShown>().ok());
        Ok(events.map(|event| event.inner.data.evidence.to_vec()).collect())
    }

    /// Has every contribution of a Datanet entered with the verifier of indexes, by as many transactions as it takes: before a row of none can be told.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn enter_contributions(&self, datanet: AssetId) -> Result<Vec<Sent>, ChainError> {
        let (registry, indexes) = (self.deployment().registry, self.deployment().indexes);
        let mut sent = Vec::new();
        loop {
            let entered = self.read(indexes, &IndexVerifier::enteredOfCall(datanet.0)).await?;
            let count = self.read(registry, &AssetRegistry::contributionCountCall { datanet: datanet.0 }).await?;
            if entered >= count {
                return Ok(sent);
            }
            let call = IndexVerifier::enterCall { datanet: datanet.0, most: U256::from(ENTERED_AT_ONCE) };
            sent.push(self.write("enter contributions", None, indexes, &call, Amount::ZERO).await?);
        }
    }

    /// Runs a proof against the chain's state without sending anything: its commitment is laid into storage for the one call.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with the contract's reason.
    pub async fn dry_run(&self, accused: Address, proof: &Proof) -> Result<(), ChainError> {
        let reporter = self.address().unwrap_or_else(|| self.deployment().deployer);
        let verifier = proof.verifier.address(self.deployment());
        // `committedAt` is every verifier's first variable: its slot for a key is keccak(key, 0).
        let slot = keccak(&[&proof.hash(reporter).0, &[0; 32]]);
        let overrides = serde_json::json!({ verifier.to_string(): { "stateDiff": { slot.to_string(): format!("0x{:064x}", 1) } } });
        let answer = self.rpc.call(reporter, verifier, &proof.call, Some(overrides)).await;
        answer.map(|_| ()).map_err(|error| match error {
            ChainError::Reverted { reason, error, .. } => {
                ChainError::Reverted { what: format!("the proof against {accused}"), reason, error }
            }
            other => other,
        })
    }

    /// Proves a fault: dry run, commitment to the proof's hash, and from the next block on the proof itself. Returns both transactions.
    ///
    /// # Errors
    /// [`ChainError`]; nothing is sent if the dry run fails.
    pub async fn send_proof(&self, accused: Address, proof: &Proof) -> Result<(Sent, Sent), ChainError> {
        let reporter = self.sender(proof.what)?.address();
        self.dry_run(accused, proof).await?;
        let verifier = proof.verifier.address(self.deployment());
        let hash = proof.hash(reporter);
        let commit_call = FraudVerifier::commitProofCall { hash: convert::word(hash) };
        let commit = self.write("commit proof", key("commit-proof", &[hash]), verifier, &commit_call, Amount::ZERO).await;
        let commit = self.unless_rehearsed(commit)?;
        if let Some(commit) = &commit {
            self.wait_for_block(commit.block.number.saturating_add(1), NEXT_BLOCK).await?;
        }
        let call = crate::chain::Call { to: Some(verifier), data: proof.call.clone(), value: Amount::ZERO };
        let prove = self.sender(proof.what)?.send(proof.what, key("prove", &[hash]).as_deref(), call).await?;
        // A dry run has ended at the proof.
        Ok((commit.unwrap_or_else(|| prove.clone()), prove))
    }

    /// [`ChainClient::send_proof`] of a fault that costs the accused stake, and what it cost.
    ///
    /// # Errors
    /// [`ChainError`]; nothing is sent if the dry run fails.
    pub async fn prove(&self, accused: Address, proof: &Proof) -> Result<Slashed, ChainError> {
        let stake_before = self.slashable_of(accused).await?;
        let (commit, prove) = self.send_proof(accused, proof).await?;
        let event: StakeManager::Slashed = logged(&prove, self.deployment().stake)?;
        let stake_after = self.slashable_of(accused).await?;
        Ok(Slashed {
            node: accused,
            commit,
            prove,
            stake_before,
            stake_after,
            amount: Amount(event.amount),
            victim_amount: Amount(event.victimAmount),
            release_at: event.releaseAt,
            fault: convert::hash(event.faultHash),
        })
    }
}
