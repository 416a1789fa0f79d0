//! A development chain: anvil in OP mode with the L1 fee charged, the suite deployed, accounts funded.
//!
//! The OP execution rules read the L1Block predeploy, which anvil does not bring: [`l1`] places it and lets its L1 advance by deposit transactions, as a
//! sequencer would. Nothing warps time: windows pass in real seconds. The keys are anvil's published ones: never use them elsewhere.
//! The chain ends with its [`Devnet`], or with the process that started it, however that one ends.

pub mod gas;
pub mod l1;
pub mod tied;

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::ChildStdout,
    task::JoinHandle,
};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Address,
    key::Account,
};

use crate::{
    chain::{Call, error::ChainError, rpc::Rpc},
    client::send::Sender,
    deploy::{DeployConfig, Deployment, deploy},
};

use tied::Tied;

/// Longest wait for anvil to listen: it takes well under a second.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest error output kept.
const ERROR_MAX: usize = 4_096;

/// Published keys of anvil's first accounts.
const KEYS: [&str; 4] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
];

/// Accounts that every devnet has, each richly funded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Deploys; reads name it as their sender.
    Deployer,
    /// Funds others.
    Faucet,
    /// Approves parameters.
    Governor,
    /// Takes the protocol's constant.
    Protocol,
}

impl Role {
    /// The role's account.
    pub fn account(self) -> Account {
        let place = match self {
            Self::Deployer => 0,
            Self::Faucet => 1,
            Self::Governor => 2,
            Self::Protocol => 3,
        };
        let mut secret = [0; 32];
        hex::decode_to_slice(KEYS[place], &mut secret).expect("the published keys are 64 hex digits");
        Account::from_bytes(&secret).expect("the published keys are valid")
    }
}

/// What the devnet is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevnetConfig {
    /// anvil's program.
    pub anvil: PathBuf,
    /// Port on loopback; any free one if not given.
    pub port: Option<u16>,
    /// Seconds between blocks.
    pub block_time_s: u64,
    /// Chain id.
    pub chain_id: u64,
    /// L2 blocks between two L1 blocks.
    pub blocks_per_l1: u64,
    /// Constructor values.
    pub deploy: DeployConfig,
}

impl DevnetConfig {
    /// The demo's chain: one-second blocks, W1 15 s, W2 10 s.
    ///
    /// Its epochs may follow one another faster than payouts can: five seconds apart, while a payout takes W2, and ten seconds more without a bonded
    /// poster. `chain deploy` refuses such values, because on a chain that runs on, payouts would fall behind for ever. Here an epoch opens when a
    /// test or somebody at the demonstration has receipts to settle, some times in all, and payouts catch up in the pauses; epochs twenty seconds
    /// apart, which is all that these values lack, would only be waited for. A test holds that it is all.
    pub fn new(anvil: PathBuf) -> Self {
        let at = |role: Role| role.account().address();
        Self {
            anvil,
            port: None,
            block_time_s: 1,
            chain_id: 31_337,
            blocks_per_l1: 6,
            deploy: DeployConfig {
                w1_s: 15,
                w2_s: 10,
                epoch_min_s: 1,
                fallback_s: 10,
                poster_bond: Amount(5 * WEI_PER_OPEN),
                min_data_bps: 1_000,
                unbonding_s: 60,
                slash_delay_s: 5,
                stake_min: Amount(10 * WEI_PER_OPEN),
                poster_stake_min: Amount(5 * WEI_PER_OPEN),
                indexer_stake_min: Amount(WEI_PER_OPEN),
                thaw_s: 60,
                honour_s: 60,
                index_window_s: 5,
                rent_delay_s: 10,
                treasury_delay_s: 5,
                rent_price: Amount(WEI_PER_OPEN),
                grace_blocks: 16,
                max_age_blocks: 256,
                challenge_bond: Amount(WEI_PER_OPEN),
                answer_s: 4,
                payout_answer_s: 4,
                case_bond: Amount(WEI_PER_OPEN),
                case_answer_s: 12,
                case_age_blocks: 32,
                block_s: 1,
                protocol: at(Role::Protocol),
                governor: at(Role::Governor),
            },
        }
    }
}

/// Why the devnet did not start.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// The port is taken.
    #[error("port {port} on 127.0.0.1 is in use: stop what listens there or choose another port")]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// No program.
    #[error("anvil cannot be run from {}: {why}; install it with `npm ci` in chain-bridge/contracts or name it by TRIBUTARY_ANVIL", path.display())]
    NoAnvil {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It ended.
    #[error("anvil ended before it listened: {output}")]
    Ended {
        /// What it wrote to its error output.
        output: String,
    },
    /// It said nothing.
    #[error("anvil did not listen within {} s", START_TIMEOUT.as_secs())]
    Silent,
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// A running devnet. Dropping it ends the chain.
#[derive(Debug)]
pub struct Devnet {
    url: String,
    rpc: Rpc,
    deployment: Deployment,
    faucet: Sender,
    l1: l1::L1,
    child: Tied,
    tasks: Vec<JoinHandle<()>>,
}

impl Devnet {
    /// Starts anvil, sets its L1, deploys the suite.
    ///
    /// # Errors
    /// [`DevnetError`]; then nothing is left running.
    pub async fn start(config: DevnetConfig) -> Result<Self, DevnetError> {
        let (child, url, lines) = listen(&config).await?;
        // Nobody reads on: a full pipe would stop the chain.
        let drain = tokio::spawn(drain(lines));
        let rpc = Rpc::connect(&url).await?;
        let l1 = l1::L1::place(&rpc).await?;
        let deployment = deploy(&rpc, &Role::Deployer.account(), config.deploy.clone()).await?;
        let look = Duration::from_millis(config.block_time_s.saturating_mul(500).max(100));
        let (l1_rpc, advancing, every) = (rpc.clone(), l1.clone(), config.blocks_per_l1.max(1));
        let advance = tokio::spawn(async move { advancing.advance_every(&l1_rpc, every, look).await });
        let faucet = Sender::new(rpc.clone(), Role::Faucet.account());
        Ok(Self { url, rpc, deployment, faucet, l1, child, tasks: vec![drain, advance] })
    }

    /// The endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The endpoint's client.
    pub const fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Where the suite stands.
    pub const fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// anvil's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Pays accounts from the faucet, all in one or two blocks.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn fund(&self, accounts: &[(Address, Amount)]) -> Result<(), ChainError> {
        let mut sent = Vec::with_capacity(accounts.len());
        let mark = self.rpc.nonce(self.faucet.address(), true).await?;
        for (place, (to, amount)) in accounts.iter().enumerate() {
            let key = format!("fund/{mark}/{place}");
            let call = Call { to: Some(*to), data: vec![], value: *amount };
            let hash = self.faucet.hand_over("fund", &key, call, None).await?;
            sent.push((key, hash));
        }
        for (key, hash) in sent {
            self.faucet.await_inclusion("fund", &key, hash).await?;
        }
        Ok(())
    }

    /// Moves the L1 on by so many blocks at once; the chain stands on the last of them from its next block on. For who would else wait: beacons of checks are six
    /// L1 blocks away.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn advance_l1(&self, blocks: u64) -> Result<(), ChainError> {
        self.l1.advance(&self.rpc, blocks).await
    }

    /// Ends the chain and waits until its process is gone.
    pub async fn stop(mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // It may have ended by itself.
        let _ = self.child.kill().await;
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // `kill_on_drop` ends the process with the child.
    }
}

/// anvil, its endpoint and the rest of its output.
async fn listen(config: &DevnetConfig) -> Result<(Tied, String, Lines<BufReader<ChildStdout>>), DevnetError> {
    let port = config.port.unwrap_or(0);
    if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        tracing::debug!(%error, port, "the port cannot be bound");
        return Err(DevnetError::PortInUse { port });
    }
    let no_anvil = |why: String| DevnetError::NoAnvil { path: config.anvil.clone(), why };
    let mut command = tied::command(&config.anvil);
    command
        .args(["-n", "optimism", "--slots-in-an-epoch", "4", "--host", "127.0.0.1", "--balance", "1000000000"])
        .args(["--port", &port.to_string(), "--block-time", &config.block_time_s.to_string(), "--chain-id", &config.chain_id.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Tied::spawn(&mut command).map_err(|error| no_anvil(error.to_string()))?;
    let stdout = child.stdout().expect("stdout was piped above");
    let mut lines = BufReader::new(stdout).lines();
    let found = tokio::time::timeout(START_TIMEOUT, async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(address) = line.strip_prefix("Listening on ") {
                return Some(format!("http://{}", address.trim()));
            }
        }
        None
    });
    match found.await {
        Ok(Some(url)) => Ok((child, url, lines)),
        Ok(None) => Err(ended(child, config).await),
        Err(_) => Err(DevnetError::Silent),
    }
}

async fn ended(mut child: Tied, config: &DevnetConfig) -> DevnetError {
    let mut output = String::new();
    if let Some(stderr) = child.stderr() {
        let limit = u64::try_from(ERROR_MAX).unwrap_or(u64::MAX);
        // What cannot be read is left out of an error that stands anyway.
        let _ = stderr.take(limit).read_to_string(&mut output).await;
    }
    let output = output.trim().to_owned();
    match child.wait().await {
        Ok(status) if Tied::was_not_run(status) => {
            let why = output.rsplit(": ").next().unwrap_or_default().to_owned();
            DevnetError::NoAnvil { path: config.anvil.clone(), why }
        }
        _ if output.contains("in use") => DevnetError::PortInUse { port: config.port.unwrap_or(0) },
        _ => DevnetError::Ended { output },
    }
}

async fn drain(mut lines: Lines<BufReader<ChildStdout>>) {
    while let Ok(Some(_)) = lines.next_line().await {}
}
