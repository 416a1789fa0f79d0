//! Puts the contract suite on a chain, remembers where, and checks that it stands there.
//!
//! Fourteen transactions in consecutive nonces, sent without waiting for one another: about three blocks. The addresses follow from deployer and nonce,
//! so each constructor names contracts that stand before it in the queue, and Settlement's the treasury that comes last. What was deployed is compared byte for byte with what the embedded
//! artifacts give for the file's constructor values, immutables included: the creation code is run by `eth_call`, which returns the runtime code.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

use alloy::{
    primitives::{Bytes, aliases::U96},
    sol_types::{SolCall, SolConstructor},
};
use serde::{Deserialize, Serialize};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Address,
    key::{Account, Domains},
    merkle::keccak,
};

use crate::{
    bindings::{
        ARTIFACTS, AssetRegistry, BillingVerifier, DatanetRent, DatanetTreasury, FraudVerifier, InferenceEscrow, InsurancePool,
        PayoutVerifier, ReceiptChallenge, RewardsVault, Settlement, StakeManager,
    },
    chain::{Call, error::ChainError, rpc::Rpc},
    client::{
        quote::{Quote, quote},
        send::{INCLUSION_TIMEOUT, Sender, Sent},
    },
    convert::{account, address},
};

/// Between two looks at the deployer's nonce.
const POLL: std::time::Duration = std::time::Duration::from_millis(250);
/// Largest `registry.json` read; one holds about a kilobyte.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What the constructors are given. Times are seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployConfig {
    /// Window in which faults are proven, from an epoch's opening until its payout.
    pub w1_s: u64,
    /// Window between a payout and its finality.
    pub w2_s: u64,
    /// Least time between two epochs.
    pub epoch_min_s: u64,
    /// From when a payout is due until anybody may post it against the bond.
    pub fallback_s: u64,
    /// What a poster without the role attaches; below 2^96 wei.
    pub poster_bond: Amount,
    /// Least data row of a split table, in basis points.
    pub min_data_bps: u16,
    /// Wait of unbonding stake; longer than both windows.
    pub unbonding_s: u64,
    /// Wait between a slash and its division.
    pub slash_delay_s: u64,
    /// Least stake of a node.
    pub stake_min: Amount,
    /// Least stake of a poster, on top of what its other roles demand.
    pub poster_stake_min: Amount,
    /// Least stake of an indexer, on top of what its other roles demand.
    pub indexer_stake_min: Amount,
    /// Wait of a withdrawal from the escrow.
    pub thaw_s: u64,
    /// In which a node can pay a claimed credit note before its stake does; no less than `unbonding_s`.
    pub honour_s: u64,
    /// Window in which an index root may be challenged.
    pub index_window_s: u64,
    /// Wait of a rise of the rent, and of unspent rent that its owner takes back.
    pub rent_delay_s: u64,
    /// Wait of an accepted contribution until it shares in what its Datanet earns, and of a Datanet's first division.
    pub treasury_delay_s: u64,
    /// Rent in wei per GiB and epoch; below 2^96.
    pub rent_price: Amount,
    /// Blocks that a receipt may name beyond its node root's, and after a freeze.
    pub grace_blocks: u64,
    /// Blocks that a receipt may lie behind its node root; refunds wait as long after a lane's expiry.
    pub max_age_blocks: u64,
    /// Bond of a challenge.
    pub challenge_bond: Amount,
    /// In which a challenge is answered.
    pub answer_s: u64,
    /// Takes the protocol's constant.
    pub protocol: Address,
    /// Approves parameters, sets the rent.
    pub governor: Address,
}

impl DeployConfig {
    /// Values for a network that people rely on: windows of a day and six hours, 14 days of unbonding, seven of thaw and of a slash's delay.
    pub const fn standard(protocol: Address, governor: Address) -> Self {
        const HOUR: u64 = 3_600;
        Self {
            w1_s: 24 * HOUR,
            w2_s: 6 * HOUR,
            epoch_min_s: 8 * HOUR,
            fallback_s: HOUR,
            poster_bond: Amount(5 * WEI_PER_OPEN),
            min_data_bps: 1_000,
            unbonding_s: 14 * 24 * HOUR,
            slash_delay_s: 7 * 24 * HOUR,
            stake_min: Amount(10 * WEI_PER_OPEN),
            poster_stake_min: Amount(5 * WEI_PER_OPEN),
            indexer_stake_min: Amount(WEI_PER_OPEN),
            thaw_s: 7 * 24 * HOUR,
            honour_s: 14 * 24 * HOUR,
            index_window_s: 24 * HOUR,
            rent_delay_s: 7 * 24 * HOUR,
            treasury_delay_s: 7 * 24 * HOUR,
            rent_price: Amount(WEI_PER_OPEN),
            grace_blocks: 16,
            // A day of two-second blocks: an epoch with its time for node roots takes two thirds of it.
            max_age_blocks: 43_200,
            challenge_bond: Amount(WEI_PER_OPEN),
            answer_s: 6 * HOUR,
            protocol,
            governor,
        }
    }
}

/// Where the suite stands: the content of `registry.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Chain id.
    pub chain_id: u64,
    /// Block before the first contract: events are read from the next on.
    pub block: u64,
    /// Who deployed; also the sender that reads name.
    pub deployer: Address,
    /// `StakeManager`.
    pub stake: Address,
    /// `InsurancePool`: takes data pots of answers without a weighed word.
    pub insurance: Address,
    /// `RewardsVault`: takes the stakers' share.
    pub rewards: Address,
    /// `Settlement`.
    pub settlement: Address,
    /// `InferenceEscrow`.
    pub escrow: Address,
    /// `AssetRegistry`.
    pub registry: Address,
    /// `DatanetRent`.
    pub rent: Address,
    /// `FraudVerifier`.
    pub fraud: Address,
    /// `BillingVerifier`.
    pub billing: Address,
    /// `ReceiptChallenge`.
    pub challenge: Address,
    /// `PayoutVerifier`.
    pub payout: Address,
    /// `DatanetTreasury`: divides what the treasuries of Datanets earn over who contributed.
    pub treasury: Address,
    /// Constructor values.
    pub config: DeployConfig,
}

impl Deployment {
    /// What signatures name.
    pub const fn domains(&self) -> Domains {
        Domains { chain_id: self.chain_id, escrow: self.escrow, registry: self.registry, settlement: self.settlement, stake: self.stake }
    }

    /// Each contract with its address, in the order of deployment.
    pub const fn contracts(&self) -> [(&'static str, Address); 12] {
        [
            ("StakeManager", self.stake),
            ("InsurancePool", self.insurance),
            ("RewardsVault", self.rewards),
            ("Settlement", self.settlement),
            ("InferenceEscrow", self.escrow),
            ("AssetRegistry", self.registry),
            ("DatanetRent", self.rent),
            ("FraudVerifier", self.fraud),
            ("BillingVerifier", self.billing),
            ("ReceiptChallenge", self.challenge),
            ("PayoutVerifier", self.payout),
            ("DatanetTreasury", self.treasury),
        ]
    }

    /// Reads `registry.json`.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let name = || path.display().to_string();
        let mut text = String::new();
        let read = fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
        read.map_err(|error| FileError { path: name(), why: error.to_string() })?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(FileError { path: name(), why: format!("not a deployment: more than {FILE_BYTES_MAX} bytes") });
        }
        serde_json::from_str(&text).map_err(|error| FileError { path: name(), why: format!("not a deployment: {error}") })
    }

    /// Writes `registry.json`, whole or not at all.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(self).expect("plain data serialises");
        replace(path, text.as_bytes()).map_err(|error| FileError { path: path.display().to_string(), why: error.to_string() })
    }
}

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct FileError {
    path: String,
    why: String,
}

/// Writes a file beside its place and moves it there, so that a crash leaves the old or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// Where the suite will stand if `deployer` sends [`calls`] with consecutive nonces from `first_nonce` on.
pub fn plan(chain_id: u64, block: u64, deployer: Address, first_nonce: u64, config: DeployConfig) -> Deployment {
    let at = |place: u64| account(address(deployer).create(first_nonce + place));
    Deployment {
        chain_id,
        block,
        deployer,
        stake: at(0),
        insurance: at(1),
        rewards: at(2),
        settlement: at(3),
        escrow: at(4),
        registry: at(5),
        rent: at(6),
        fraud: at(7),
        billing: at(8),
        challenge: at(9),
        payout: at(10),
        treasury: at(11),
        config,
    }
}

/// The transactions of a deployment, in order, each with its name.
pub fn calls(deployment: &Deployment) -> Vec<(&'static str, Call)> {
    let mut calls = creations(deployment);
    calls.extend(introductions(deployment));
    calls
}

/// A deployment under way. Kept in a file until it is done, it is gone on with after a kill: what stands is not sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The deployer's nonce of the first transaction; the others follow without a gap.
    pub first_nonce: u64,
    /// Where everything will stand.
    pub deployment: Deployment,
}

impl Plan {
    /// A deployment that starts with the deployer's next transaction.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Argument`] for values that the constructors would refuse.
    pub async fn new(rpc: &Rpc, deployer: Address, config: DeployConfig) -> Result<Self, ChainError> {
        check_config(&config)?;
        let block = rpc.latest().await?.block.number;
        let first_nonce = rpc.nonce(deployer, true).await?;
        Ok(Self { first_nonce, deployment: plan(rpc.chain_id(), block, deployer, first_nonce, config) })
    }

    /// Reads the file of a deployment under way; nothing if there is none.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn read(path: &Path) -> Result<Option<Self>, FileError> {
        let failed = |why: String| FileError { path: path.display().to_string(), why };
        let mut text = Vec::new();
        match fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text)) {
            Ok(_) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(format!("not a deployment under way: {error}"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Writes that file, whole or not at all.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(self).expect("plain data serialises");
        replace(path, text.as_bytes()).map_err(|error| FileError { path: path.display().to_string(), why: error.to_string() })
    }

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
            quotes.push(quote(rpc, deployer, name, &call, (estimate, CREATE_GAS), fees).await?);
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

/// Deploys the suite with `deployer`'s money.
///
/// # Errors
/// [`ChainError`].
pub async fn deploy(rpc: &Rpc, deployer: &Account, config: DeployConfig) -> Result<Deployment, ChainError> {
    let plan = Plan::new(rpc, deployer.address(), config).await?;
    plan.carry_out(rpc, &Sender::new(rpc.clone(), deployer.clone())).await?;
    Ok(plan.deployment)
}

/// Gas limit of each deployment transaction: the largest contract (24.9 kB with its creation code) takes 5.6 million, the block 30.
const CREATE_GAS: u64 = 7_000_000;
/// Gas of a creation by bytes of its code, about: 200 are charged for each byte that stays, 16 for each that is sent, and constructors do little.
const CREATE_GAS_PER_BYTE: u64 = 230;
/// Gas of each introduction, about.
const INTRODUCTION_GAS: u64 = 150_000;

/// As `FaultBase` has it: blocks of no chain that the suite stands on are further apart.
const BLOCK_SECONDS_MAX: u64 = 12;

/// What the constructors would refuse, in words before anything is sent.
fn check_config(c: &DeployConfig) -> Result<(), ChainError> {
    let refuse = |why: String| Err(ChainError::Argument(why));
    if c.unbonding_s <= c.w1_s.saturating_add(c.w2_s) {
        return refuse(format!(
            "stake must unbond for longer than both windows: unbonding_s is {}, w1_s + w2_s are {}",
            c.unbonding_s,
            c.w1_s.saturating_add(c.w2_s)
        ));
    }
    if c.honour_s < c.unbonding_s {
        return refuse(format!(
            "a credit note must not take stake sooner than unbonding does: honour_s is {}, unbonding_s {}",
            c.honour_s, c.unbonding_s
        ));
    }
    if c.poster_bond == Amount::ZERO || c.poster_bond.0 >> 96 != 0 {
        return refuse(format!("poster_bond is {}, expected 1 to 2^96 - 1 wei", c.poster_bond));
    }
    if c.rent_price.0 >> 96 != 0 {
        return refuse(format!("rent_price is {}, expected below 2^96 wei", c.rent_price));
    }
    if c.governor == Address::ZERO || c.protocol == Address::ZERO {
        return refuse(format!("governor is {}, protocol {}: neither may be the zero address", c.governor, c.protocol));
    }
    if usize::from(c.min_data_bps) > usize::from(types::split::SPLIT_TOTAL) {
        return refuse(format!("min_data_bps is {}, expected at most {}", c.min_data_bps, types::split::SPLIT_TOTAL));
    }
    let times = [("w1_s", c.w1_s), ("w2_s", c.w2_s), ("slash_delay_s", c.slash_delay_s), ("thaw_s", c.thaw_s), ("honour_s", c.honour_s)];
    if let Some((name, _)) = times.iter().find(|(_, seconds)| *seconds == 0) {
        return refuse(format!("{name} is 0: that window would be over when it opens"));
    }
    if c.answer_s == 0 {
        return refuse("answer_s is 0: nobody could answer a challenge".into());
    }
    let epoch = c.epoch_min_s.saturating_add(c.w1_s / 3);
    if c.max_age_blocks.saturating_mul(BLOCK_SECONDS_MAX) <= epoch {
        return refuse(format!(
            "max_age_blocks is {}: an epoch with its time for node roots takes {epoch} s, which no chain of blocks at most {BLOCK_SECONDS_MAX} s \
             apart holds in so few; give it more blocks than this chain makes in that time",
            c.max_age_blocks
        ));
    }
    Ok(())
}

fn u96(amount: Amount) -> U96 {
    U96::saturating_from(amount.0)
}

/// The contracts' creations, in order: the same as [`Deployment::contracts`].
fn creations(deployment: &Deployment) -> Vec<(&'static str, Call)> {
    let c = &deployment.config;
    let (stake, settlement, registry) = (address(deployment.stake), address(deployment.settlement), address(deployment.registry));
    let stakes = StakeManager::constructorCall {
        unbondingSeconds_: c.unbonding_s,
        slashDelay_: c.slash_delay_s,
        minStake_: c.stake_min.0,
        minPosterStake_: c.poster_stake_min.0,
        minIndexerStake_: c.indexer_stake_min.0,
    };
    let books = Settlement::constructorCall {
        w1_: c.w1_s,
        w2_: c.w2_s,
        epochMinSeconds_: c.epoch_min_s,
        fallbackSeconds_: c.fallback_s,
        posterBond_: u96(c.poster_bond),
        stakeManager_: stake,
        protocol_: address(c.protocol),
        insurance_: address(deployment.insurance),
        stakers_: address(deployment.rewards),
        datanetTreasury_: address(deployment.treasury),
    };
    let escrow = InferenceEscrow::constructorCall {
        settlement_: settlement,
        stakeManager_: stake,
        thawSeconds_: c.thaw_s,
        honourSeconds_: c.honour_s,
    };
    let assets = AssetRegistry::constructorCall {
        governor_: address(c.governor),
        stakeManager_: stake,
        treasuries_: settlement,
        indexWindow_: c.index_window_s,
        minDataBps_: c.min_data_bps,
    };
    let rent = DatanetRent::constructorCall {
        registry_: registry,
        settlement_: settlement,
        governor_: address(c.governor),
        delaySeconds_: c.rent_delay_s,
        price_: u96(c.rent_price),
    };
    let fraud = FraudVerifier::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        graceBlocks_: c.grace_blocks,
        maxAgeBlocks_: c.max_age_blocks,
    };
    let billing = BillingVerifier::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        registry_: registry,
        graceBlocks_: c.grace_blocks,
    };
    let challenge = ReceiptChallenge::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        escrow_: address(deployment.escrow),
        bond_: c.challenge_bond.0,
        answerSeconds_: c.answer_s,
    };
    let payout = PayoutVerifier::constructorCall {
        stakeManager_: stake,
        settlement_: settlement,
        registry_: registry,
        escrow_: address(deployment.escrow),
        challenges_: address(deployment.challenge),
        maxAgeBlocks_: c.max_age_blocks,
    };
    let treasury = DatanetTreasury::constructorCall { registry_: registry, settlement_: settlement, delaySeconds_: c.treasury_delay_s };
    vec![
        ("StakeManager", create(&StakeManager::BYTECODE, stakes.abi_encode())),
        ("InsurancePool", create(&InsurancePool::BYTECODE, InsurancePool::constructorCall { stakeManager_: stake }.abi_encode())),
        ("RewardsVault", create(&RewardsVault::BYTECODE, RewardsVault::constructorCall { stakeManager_: stake }.abi_encode())),
        ("Settlement", create(&Settlement::BYTECODE, books.abi_encode())),
        ("InferenceEscrow", create(&InferenceEscrow::BYTECODE, escrow.abi_encode())),
        ("AssetRegistry", create(&AssetRegistry::BYTECODE, assets.abi_encode())),
        ("DatanetRent", create(&DatanetRent::BYTECODE, rent.abi_encode())),
        ("FraudVerifier", create(&FraudVerifier::BYTECODE, fraud.abi_encode())),
        ("BillingVerifier", create(&BillingVerifier::BYTECODE, billing.abi_encode())),
        ("ReceiptChallenge", create(&ReceiptChallenge::BYTECODE, challenge.abi_encode())),
        ("PayoutVerifier", create(&PayoutVerifier::BYTECODE, payout.abi_encode())),
        ("DatanetTreasury", create(&DatanetTreasury::BYTECODE, treasury.abi_encode())),
    ]
}

/// The verifiers that may slash.
const fn verifiers(deployment: &Deployment) -> [Address; 4] {
    [deployment.fraud, deployment.billing, deployment.challenge, deployment.payout]
}

/// The two calls by which StakeManager learns of those that stand after it.
fn introductions(deployment: &Deployment) -> [(&'static str, Call); 2] {
    let peers = StakeManager::setPeersCall {
        insurance_: address(deployment.insurance),
        rewards_: address(deployment.rewards),
        creditDesk_: address(deployment.escrow),
    };
    let named = StakeManager::setVerifiersCall { verifiers: verifiers(deployment).map(address).to_vec() };
    let to_stake = |data| Call { to: Some(deployment.stake), data, value: Amount::ZERO };
    [("setPeers", to_stake(peers.abi_encode())), ("setVerifiers", to_stake(named.abi_encode()))]
}

fn create(code: &Bytes, arguments: Vec<u8>) -> Call {
    Call { to: None, data: [code.as_ref(), &arguments].concat(), value: Amount::ZERO }
}

/// Checks that a deployment is on this chain, each contract with this program's code but for its immutable values; these too are compared
/// before money goes there ([`verify_contract`]). One round trip of about 400 kB.
///
/// # Errors
/// [`ChainError::WrongChain`] with both ids, [`ChainError::NoCode`] and [`ChainError::OtherCode`] with the contract's name.
pub async fn verify_deployment(rpc: &Rpc, deployment: &Deployment) -> Result<(), ChainError> {
    if rpc.chain_id() != deployment.chain_id {
        return Err(ChainError::WrongChain { url: rpc.url().to_owned(), expected: deployment.chain_id, got: rpc.chain_id() });
    }
    let contracts = deployment.contracts();
    let found = rpc.codes(&contracts.map(|(_, address)| address)).await?;
    for (((contract, address), artifact), code) in contracts.into_iter().zip(codes()).zip(found) {
        if code.is_empty() {
            return Err(ChainError::NoCode { contract, address });
        }
        let (expected, got) = without_immutables(artifact, &code);
        if expected != got {
            return Err(ChainError::OtherCode { contract, address, expected: keccak(&[&expected]), got: keccak(&[&got]) });
        }
    }
    Ok(())
}

/// Runtime code by an artifact and as it was found, both with zeros for immutable values, so that they are equal if only these differ. The
/// artifact's creation code ends with the runtime code, where each immutable value is a 32-byte zero that is pushed.
fn without_immutables(creation: &[u8], found: &[u8]) -> (Vec<u8>, Vec<u8>) {
    const PUSH32: u8 = 0x7f;
    const INVALID: u8 = 0xfe;
    // The constructor's code ends with an opcode that nothing else ends with: a part of the code is not the code.
    let start = creation.len().checked_sub(found.len()).filter(|start| creation[..*start].ends_with(&[INVALID]));
    let Some(start) = start else { return (creation.to_vec(), found.to_vec()) };
    let (expected, mut got) = (creation[start..].to_vec(), found.to_vec());
    let mut place = 0;
    while let Some(word) = expected.get(place + 1..place + 33) {
        if expected[place] == PUSH32 && word.iter().all(|byte| *byte == 0) {
            got[place + 1..place + 33].fill(0);
            place += 33;
        } else {
            place += 1;
        }
    }
    (expected, got)
}

/// The artifacts' creation code, in the order of [`Deployment::contracts`].
fn codes() -> [&'static [u8]; 12] {
    [
        &StakeManager::BYTECODE,
        &InsurancePool::BYTECODE,
        &RewardsVault::BYTECODE,
        &Settlement::BYTECODE,
        &InferenceEscrow::BYTECODE,
        &AssetRegistry::BYTECODE,
        &DatanetRent::BYTECODE,
        &FraudVerifier::BYTECODE,
        &BillingVerifier::BYTECODE,
        &ReceiptChallenge::BYTECODE,
        &PayoutVerifier::BYTECODE,
        &DatanetTreasury::BYTECODE,
    ]
}

/// Compares the code of one contract of the file with its artifact, byte for byte: before money goes there, and not back from anybody else's. An address that
/// is not the file's is not looked at. Two calls of 25 kB.
///
/// # Errors
/// [`ChainError::OtherCode`] with the contract's name; [`ChainError`] of the endpoint.
pub async fn verify_contract(rpc: &Rpc, deployment: &Deployment, to: Address) -> Result<(), ChainError> {
    let mut known = deployment.contracts().into_iter().zip(creations(deployment));
    let Some(((contract, address), (_, creation))) = known.find(|((_, address), _)| *address == to) else { return Ok(()) };
    let found = rpc.code(address).await?;
    let expected = rpc.run_creation(deployment.deployer, &creation.data).await?;
    if found != expected {
        return Err(ChainError::OtherCode { contract, address, expected: keccak(&[&expected]), got: keccak(&[&found]) });
    }
    Ok(())
}

/// Compares what stands on the chain with the embedded artifacts and the file, byte for byte, and reads back what no code tells: the peers and
/// verifiers that StakeManager knows. A dozen calls of 25 kB: for `deploy` and for whoever is about to trust a deployment file.
///
/// # Errors
/// As [`verify_deployment`]; [`ChainError::OtherCode`], [`ChainError::OtherPeer`] with the contract's name.
pub async fn verify_code(rpc: &Rpc, deployment: &Deployment) -> Result<(), ChainError> {
    verify_deployment(rpc, deployment).await?;
    for (_, address) in deployment.contracts() {
        verify_contract(rpc, deployment, address).await?;
    }
    let stake = deployment.stake;
    let peers = [
        ("insurance", deployment.insurance, read(rpc, deployment, stake, &StakeManager::insuranceCall {}).await?),
        ("rewards", deployment.rewards, read(rpc, deployment, stake, &StakeManager::rewardsCall {}).await?),
        ("credit desk", deployment.escrow, read(rpc, deployment, stake, &StakeManager::creditDeskCall {}).await?),
    ];
    for (what, expected, got) in peers {
        let got = account(got);
        if got != expected {
            return Err(ChainError::OtherPeer { what, expected, got });
        }
    }
    for verifier in verifiers(deployment) {
        if !read(rpc, deployment, stake, &StakeManager::isVerifierCall(address(verifier))).await? {
            return Err(ChainError::OtherPeer { what: "verifier", expected: verifier, got: Address::ZERO });
        }
    }
    Ok(())
}

/// Who governs what a governor may: not fixed by code, since either may hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Governors {
    /// Approves attribution parameters.
    pub assets_governor: Address,
    /// Sets the rent.
    pub rent_governor: Address,
}

/// Reads who governs now.
///
/// # Errors
/// [`ChainError`].
pub async fn governors(rpc: &Rpc, deployment: &Deployment) -> Result<Governors, ChainError> {
    let assets = read(rpc, deployment, deployment.registry, &AssetRegistry::governorCall {}).await?;
    let rent = read(rpc, deployment, deployment.rent, &DatanetRent::governorCall {}).await?;
    Ok(Governors { assets_governor: account(assets), rent_governor: account(rent) })
}

async fn read<C: SolCall>(rpc: &Rpc, deployment: &Deployment, to: Address, call: &C) -> Result<C::Return, ChainError> {
    let data = rpc.call(deployment.deployer, to, &call.abi_encode(), None).await?;
    C::abi_decode_returns(&data).map_err(|error| ChainError::Unreadable { what: C::SIGNATURE, why: error.to_string() })
}

/// Hash of the sources that each embedded artifact was compiled from: what a reader compares with a fresh compile.
pub fn source_hashes() -> Vec<(&'static str, String)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Artifact {
        source_hash: String,
    }
    let read = |text: &str| serde_json::from_str::<Artifact>(text).expect("embedded artifacts name their source hash").source_hash;
    ARTIFACTS.iter().map(|(name, text)| (*name, read(text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devnet::DevnetConfig;

    #[test]
    fn only_immutable_values_may_differ_from_the_artifact() {
        let word = [&[0x7f][..], &[0; 32]].concat();
        let runtime = [&[0x60, 1][..], &word, &[0x50, 0, 0]].concat();
        let creation = [&[1, 2, 0xfe][..], &runtime].concat();
        let same = |found: &[u8]| {
            let (expected, got) = without_immutables(&creation, found);
            expected == got
        };
        let mut found = runtime.clone();
        assert!(same(&found));
        found[3..35].fill(9);
        assert!(same(&found), "an immutable value was filled in");
        for place in [0, 1, 2, 35, 36, 37] {
            let mut other = found.clone();
            other[place] ^= 1;
            assert!(!same(&other), "byte {place}");
        }
        assert!(!same(&found[1..]) && !same(&[]) && !same(&[&[9; 3][..], &found].concat()) && !same(&[0; 99]));
    }

    #[test]
    fn values_that_a_constructor_would_refuse_are_refused_by_name_before_anything_is_sent() {
        let good = DevnetConfig::new("anvil".into()).deploy;
        check_config(&good).unwrap();
        check_config(&DeployConfig::standard(good.protocol, good.governor)).unwrap();
        let epoch = good.epoch_min_s + good.w1_s / 3;
        let least = epoch / BLOCK_SECONDS_MAX + 1;
        check_config(&DeployConfig { max_age_blocks: least, ..good.clone() }).unwrap();
        let refused = |config: DeployConfig, word: &str| {
            let why = check_config(&config).unwrap_err().to_string();
            assert!(why.contains(word), "{why}");
        };
        refused(DeployConfig { max_age_blocks: least - 1, ..good.clone() }, "max_age_blocks");
        refused(DeployConfig { answer_s: 0, ..good.clone() }, "answer_s");
        refused(DeployConfig { unbonding_s: good.w1_s + good.w2_s, ..good.clone() }, "unbonding_s");
        refused(DeployConfig { honour_s: good.unbonding_s - 1, ..good.clone() }, "honour_s");
        refused(DeployConfig { poster_bond: Amount::ZERO, ..good.clone() }, "poster_bond");
        refused(DeployConfig { rent_price: Amount(1 << 96), ..good }, "rent_price");
    }
}
