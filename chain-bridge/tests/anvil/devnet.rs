use std::{net::TcpListener, time::Duration};

use chain_bridge::{
    chain::error::ChainError,
    client::ChainClient,
    devnet::{Devnet, DevnetConfig, DevnetError, l1::l1_number},
    follow::Follower,
};
use types::{amount::Amount, id::Address};

use super::harness::{World, anvil, open, quick};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_l1_advances_by_deposits_and_its_fee_is_charged() {
    let mut config = quick();
    config.blocks_per_l1 = 2;
    let devnet = Devnet::start(config).await.unwrap();
    let start = l1_number(devnet.rpc()).await.unwrap();
    let head = devnet.rpc().latest().await.unwrap().block.number;
    let (payer, payee) = (World::account(1), Address([9; 20]));
    devnet.fund(&[(payer.address(), open(5))]).await.unwrap();
    let client = ChainClient::connect(devnet.url(), devnet.deployment().clone(), Some(payer.clone())).await.unwrap();
    let sent = client.transfer(payee, open(1)).await.unwrap();
    let left = client.balance(payer.address()).await.unwrap();
    let gas = Amount(sent.gas_price * u128::from(sent.gas_used));
    let l1_fee = open(4).minus(left).unwrap().minus(gas).unwrap();
    assert!(l1_fee > Amount(100_000_000_000), "the L1 data fee must be charged beside {gas} wei of gas, was {l1_fee}");
    client.wait_for_block(head + 6, PATIENCE).await.unwrap();
    let now = l1_number(devnet.rpc()).await.unwrap();
    assert!(now >= start + 2, "after 6 L2 blocks at 2 per L1 block the L1 went from {start} to {now}");
    devnet.stop().await;
}

#[tokio::test]
async fn the_chain_ends_with_its_handle_and_a_dead_endpoint_is_named() {
    let world = World::start().await;
    let client = world.client(World::account(1)).await;
    let url = world.devnet.url().to_owned();
    drop(world);
    let error = loop {
        // The process is gone once the kernel has carried out the kill.
        match client.heads().await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, ChainError::Down { .. }) && error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = DevnetConfig { port: Some(port), ..quick() };
    let error = Devnet::start(config).await.unwrap_err();
    assert!(matches!(error, DevnetError::PortInUse { port: named } if named == port), "{error}");
}

#[tokio::test]
async fn a_missing_anvil_is_named() {
    let error = Devnet::start(DevnetConfig::new("no/such/anvil".into())).await.unwrap_err();
    assert!(error.to_string().contains("no/such/anvil") && error.to_string().contains("npm ci"), "{error}");
}

#[tokio::test]
async fn a_deployment_of_another_chain_is_refused_with_both_ids_or_the_missing_contract() {
    let devnet = Devnet::start(DevnetConfig { chain_id: 4_242, ..DevnetConfig::new(anvil()) }).await.unwrap();
    let good = devnet.deployment().clone();
    let mut other = good.clone();
    other.chain_id = 1;
    let error = ChainClient::connect(devnet.url(), other, None).await.unwrap_err().to_string();
    assert!(error.contains("has id 4242") && error.contains("on chain 1"), "{error}");
    let mut gone = good;
    gone.escrow = Address([7; 20]);
    let error = ChainClient::connect(devnet.url(), gone, None).await.unwrap_err().to_string();
    assert!(error.contains("InferenceEscrow") && error.contains("0x0707"), "{error}");
}

#[tokio::test]
async fn a_deployment_survives_its_file() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.json");
    world.devnet.deployment().write(&path).unwrap();
    assert_eq!(&chain_bridge::deploy::Deployment::read(&path).unwrap(), world.devnet.deployment());
    std::fs::write(&path, "{}").unwrap();
    assert!(chain_bridge::deploy::Deployment::read(&path).unwrap_err().to_string().contains("registry.json"));
}

#[tokio::test]
async fn a_reorganisation_of_the_chain_takes_a_deposit_out_of_the_books() {
    let world = World::start().await;
    let clients = world.clients(1).await;
    let payer = clients[0].address().unwrap();
    let follower = Follower::start(clients[0].clone(), world.devnet.deployment().block, Duration::from_millis(100));
    let sent = clients[0].deposit(open(3)).await.unwrap();
    let seen = follower.wait_for(PATIENCE, |snapshot| snapshot.latest.free(payer) == open(3)).await;
    assert!(seen.is_some(), "the deposit must be seen: {:?}", follower.snapshot().problem);
    let depth = world.devnet.rpc().latest().await.unwrap().block.number - sent.block.number + 1;
    let _: serde_json::Value = world.devnet.rpc().request("anvil_reorg", serde_json::json!([depth, []])).await.unwrap();
    let gone = follower.wait_for(PATIENCE, |snapshot| snapshot.latest.free(payer) == Amount::ZERO).await;
    assert!(gone.is_some(), "the deposit was reorganised away: {:?}", follower.snapshot().problem);
    assert_eq!(clients[0].free_balance(payer).await.unwrap(), Amount::ZERO);
    follower.stop().await;
}
