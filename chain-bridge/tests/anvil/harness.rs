//! A devnet with funded accounts.

use std::{env, path::PathBuf};

use chain_bridge::{
    client::ChainClient,
    devnet::{Devnet, DevnetConfig},
    registry::money::{ROLE_INDEXER, ROLE_POSTER},
};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::NodeId,
    key::Account,
};

pub(crate) fn anvil() -> PathBuf {
    let installed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    let path = env::var_os("TRIBUTARY_ANVIL").map_or(installed, PathBuf::from);
    assert!(path.is_file(), "anvil is not at {}: run `npm ci` in chain-bridge/contracts or set TRIBUTARY_ANVIL", path.display());
    path
}

pub(crate) fn open(count: u128) -> Amount {
    Amount(count * WEI_PER_OPEN)
}

/// Windows of a few seconds, so that a whole epoch passes within a test.
pub(crate) fn quick() -> DevnetConfig {
    let mut config = DevnetConfig::new(anvil());
    (config.deploy.w1_s, config.deploy.w2_s, config.deploy.thaw_s, config.deploy.unbonding_s) = (6, 2, 2, 9);
    (config.deploy.slash_delay_s, config.deploy.fallback_s, config.deploy.honour_s) = (2, 3, 9);
    (config.deploy.case_answer_s, config.deploy.case_age_blocks) = (2, 6);
    config
}

pub(crate) struct World {
    pub(crate) devnet: Devnet,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self { devnet: Devnet::start(quick()).await.unwrap() }
    }

    pub(crate) fn account(byte: u8) -> Account {
        Account::from_bytes(&[byte; 32]).unwrap()
    }

    pub(crate) async fn client(&self, account: Account) -> ChainClient {
        ChainClient::connect(self.devnet.url(), self.devnet.deployment().clone(), Some(account)).await.unwrap()
    }

    /// Clients of funded accounts 1 to `count`.
    pub(crate) async fn clients(&self, count: u8) -> Vec<ChainClient> {
        let accounts: Vec<_> = (1..=count).map(|byte| (Self::account(byte).address(), open(1_000))).collect();
        self.devnet.fund(&accounts).await.unwrap();
        let mut clients = Vec::new();
        for byte in 1..=count {
            clients.push(self.client(Self::account(byte)).await);
        }
        clients
    }
}

pub(crate) async fn bond(client: &ChainClient, byte: u8) {
    let own = client.address().unwrap();
    client.stake(NodeId([byte; 32]), 1, own, open(100)).await.unwrap();
    client.join(ROLE_POSTER | ROLE_INDEXER, Amount::ZERO).await.unwrap();
}
