//! Proving false spans: look first for free, then commit, then reveal.

use std::time::Duration;

use types::{
    amount::Amount,
    id::{Address, Hash32},
    merkle::keccak,
};

use super::{ChainClient, Sent, key, logged};
use crate::{
    bindings::{FraudVerifier, StakeManager},
    chain::error::ChainError,
    convert,
    fraud::{FalseSpan, calldata},
};

/// Longest wait for the block after the commitment.
const NEXT_BLOCK: Duration = Duration::from_secs(60);

/// What a proof brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slashed {
    /// The accused node.
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
    /// To the client that was overcharged.
    pub victim_amount: Amount,
    /// To this account.
    pub reporter_amount: Amount,
    /// Burned.
    pub burned: Amount,
    /// The fault's hash.
    pub fault: Hash32,
}

impl ChainClient {
    /// Runs a proof against the chain's state without sending anything: its commitment is laid into storage for the one call.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with the contract's reason: an honest receipt is `span is true`.
    pub async fn dry_run_f1(&self, node: Address, proof: &FalseSpan) -> Result<(), ChainError> {
        let reporter = self.address().unwrap_or_else(|| self.deployment().deployer);
        let proof = calldata::Encoded::new(reporter, proof);
        // `committedAt` is the contract's first variable: its slot for a key is keccak(key, 0).
        let slot = keccak(&[&proof.hash.0, &[0; 32]]);
        let overrides =
            serde_json::json!({ self.deployment().fraud.to_string(): { "stateDiff": { slot.to_string(): format!("0x{:064x}", 1) } } });
        let answer = self.rpc.call(reporter, self.deployment().fraud, &proof.prove, Some(overrides)).await;
        answer.map(|_| ()).map_err(|error| match error {
            ChainError::Reverted { reason, error, .. } => ChainError::Reverted { what: format!("the proof against {node}"), reason, error },
            other => other,
        })
    }

    /// Proves a false span: dry run, commitment to the proof's hash, and from the next block on the proof itself.
    ///
    /// # Errors
    /// [`ChainError`]; nothing is sent if the dry run fails.
    pub async fn prove_f1(&self, node: Address, proof: &FalseSpan) -> Result<Slashed, ChainError> {
        let reporter = self.sender("prove a false span")?.address();
        self.dry_run_f1(node, proof).await?;
        let fraud = self.deployment().fraud;
        let encoded = calldata::Encoded::new(reporter, proof);
        let commit_call = FraudVerifier::commitProofCall { hash: convert::word(encoded.hash) };
        let commit = self.write("commit proof", key("commit-proof", &[encoded.hash]), fraud, &commit_call, Amount::ZERO).await?;
        self.wait_for_block(commit.block.number.saturating_add(1), NEXT_BLOCK).await?;
        let stake_before = self.slashable_of(node).await?;
        let prove = self.write("prove false span", key("prove-f1", &[encoded.hash]), fraud, &calldata::call(proof), Amount::ZERO).await?;
        let event: StakeManager::Slashed = logged(&prove, self.deployment().stake)?;
        let stake_after = self.slashable_of(node).await?;
        Ok(Slashed {
            node,
            commit,
            prove,
            stake_before,
            stake_after,
            amount: Amount(event.amount),
            victim_amount: Amount(event.victimAmount),
            reporter_amount: Amount(event.reporterAmount),
            burned: Amount(event.burned),
            fault: convert::hash(event.faultHash),
        })
    }
}
