//! Carries a plan out: what it costs, what is left of it, until it stands.

use types::{amount::Amount, key::Account};

use super::{DeployConfig, Deployment, Plan, calls, governors, verify_code};
use crate::{
    chain::{Call, error::ChainError, rpc::Rpc},
    client::{
        quote::{Quote, quote},
        send::{INCLUSION_TIMEOUT, Sender, Sent},
    },
};

/// Between two looks at the deployer's nonce.
const POLL: std::time::Duration = std::time::Duration::from_millis(250);
/// Gas limit of each deployment transaction: the largest contract (24.9 kB with its creation code) takes 5.6 million, the block 30.
const CREATE_GAS: u64 = 7_000_000;
/// Gas of a creation by bytes of its code, about: 200 are charged for each byte that stays, 16 for each that is sent, and constructors do little.
const CREATE_GAS_PER_BYTE: u64 = 230;
/// Gas of each introduction, about.
const INTRODUCTION_GAS: u64 = 150_000;

impl Plan {
    /// The transactions that are not sent yet, each with its place.
    async fn left(&self, rpc: &Rpc) -> Result<Vec<(u64, &'static str, Call)>, ChainError> {
        let next = rpc.nonce(self.deployment.deployer, true).await?;
        let all = (self.first_nonce..).zip(calls(&self.deployment));
        Ok(all.filter(|(nonce, _)| *nonce >= next).map(|(nonce, (name, call))| (nonce, name, call)).collect())
    }

    /// What the transactions that are not sent yet will cost the deployer.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::TooDear`] if the deployer cannot pay for all of them.
    pub async fn quotes(&self, rpc: &Rpc, deployer: &Account) -> Result<Vec<Quote>, ChainError> {
        let fees = rpc.fees().await?;
        let mut quotes: Vec<Quote> = Vec::new();
        for (_, name, call) in self.left(rpc).await? {
            // Tried alone they would fail: constructors and introductions call what stands before them in the queue.
            let estimate = if call.to.is_none() { call.data.len() as u64 * CREATE_GAS_PER_BYTE } else { INTRODUCTION_GAS };
            quotes.push(quote(rpc, deployer, name, &call, Some((estimate, CREATE_GAS)), fees).await?);
        }
        let most = quotes.iter().fold(0_u128, |sum, quote| sum.saturating_add(quote.most().0));
        match quotes.first() {
            Some(first) if most > first.balance.0 => Err(ChainError::TooDear {
                what: "the deployment".into(),
                account: deployer.address(),
                most: Amount(most),
                balance: first.balance,
            }),
            _ => Ok(quotes),
        }
    }

    /// Sends what is not sent yet, waits until all of it is in blocks, and verifies what stands there. Run again after a kill it goes on.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Argument`] if the deployer's key was used for something else in between.
    pub async fn carry_out(&self, rpc: &Rpc, sender: &Sender) -> Result<(), ChainError> {
        let deployer = self.deployment.deployer;
        if (rpc.chain_id(), sender.address()) != (self.deployment.chain_id, deployer) {
            return Err(ChainError::Argument(format!(
                "the deployment was begun by {deployer} on chain {}, this is {} on chain {}: go on with the same key and endpoint",
                self.deployment.chain_id,
                sender.address(),
                rpc.chain_id()
            )));
        }
        let created = |name: &str| self.deployment.contracts().into_iter().find(|(contract, _)| *contract == name).map(|(_, at)| at);
        let elsewhere = |name: &str, got: String| {
            ChainError::Argument(format!(
                "{name} is not at {:?} ({got}): the deployer's key was used for something else in between; begin a new deployment with a key of its own",
                created(name)
            ))
        };
        let left = self.left(rpc).await?;
        let mut sends = Vec::new();
        for (nonce, name, call) in left {
            // In order: each waits for its nonce, none for its inclusion.
            let key = format!("deploy/{}/{nonce}/{name}", self.first_nonce);
            sends.push((name, key.clone(), sender.hand_over(name, &key, call, Some(CREATE_GAS)).await?));
        }
        for (name, key, hash) in sends {
            let sent: Sent = sender.await_inclusion(name, &key, hash).await?;
            if created(name).is_some() && sent.contract != created(name) {
                return Err(elsewhere(name, format!("it is at {:?}", sent.contract)));
            }
        }
        // What an earlier process sent without leaving a note may still be waiting.
        let end = self.first_nonce.saturating_add(calls(&self.deployment).len() as u64);
        let deadline = tokio::time::Instant::now() + INCLUSION_TIMEOUT;
        while rpc.nonce(deployer, false).await? < end {
            if tokio::time::Instant::now() >= deadline {
                let what = format!("nonce {end} of {deployer}");
                return Err(ChainError::TooLate { what, seconds: INCLUSION_TIMEOUT.as_secs() });
            }
            tokio::time::sleep(POLL).await;
        }
        verify_code(rpc, &self.deployment).await.map_err(|error| match error {
            ChainError::NoCode { contract, .. } => elsewhere(contract, "nothing is there".to_owned()),
            other => other,
        })?;
        let (found, expected) = (governors(rpc, &self.deployment).await?, self.deployment.config.governor);
        for (what, got) in [("AssetRegistry", found.assets_governor), ("DatanetRent", found.rent_governor)] {
            if got != expected {
                return Err(ChainError::Argument(format!(
                    "the governor of {what} is {got}, expected {expected}: it was handed over meanwhile"
                )));
            }
        }
        Ok(())
    }
}

/// Deploys the suite with `deployer`'s money on a development chain: windows that are too short for epochs without end are taken.
///
/// # Errors
/// [`ChainError`].
pub async fn deploy(rpc: &Rpc, deployer: &Account, config: DeployConfig) -> Result<Deployment, ChainError> {
    let plan = Plan::at_next(rpc, deployer.address(), config).await?;
    plan.carry_out(rpc, &Sender::new(rpc.clone(), deployer.clone())).await?;
    Ok(plan.deployment)
}
