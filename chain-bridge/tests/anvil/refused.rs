//! What a chain may do to a transaction: find its fee too low, lose it, refuse it; and what stops one before it is signed.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chain_bridge::{
    chain::{Call, Chain as _, error::ChainError},
    client::{
        ChainClient,
        approval::Approval,
        quote::{CALLDATA_MAX, Quote},
        send::Sent,
    },
};
use serde_json::{Value, json};
use types::{amount::Amount, id::Address};

use super::harness::{World, open};

const PAYEE: Address = Address([77; 20]);
const PATIENCE: Duration = Duration::from_secs(30);

/// Notes what is asked and told; says no to everything if `is_no`.
#[derive(Debug, Default)]
struct Witness {
    is_no: bool,
    asked: Mutex<Vec<Quote>>,
    told: Mutex<Vec<(String, bool)>>,
}

impl Approval for Witness {
    fn approve(&self, _: &str, quote: &Quote) -> Result<(), ChainError> {
        self.asked.lock().unwrap().push(quote.clone());
        if self.is_no { Err(ChainError::NotSent { what: quote.what.clone(), why: "no".into() }) } else { Ok(()) }
    }

    fn included(&self, _: &str, sent: &Sent, is_success: bool) {
        self.told.lock().unwrap().push((sent.transaction.to_string(), is_success));
    }
}

async fn nonce(client: &ChainClient) -> u64 {
    client.rpc().nonce(client.address().unwrap(), true).await.unwrap()
}

#[tokio::test]
async fn the_fees_shown_before_signing_are_those_that_are_paid_to_the_wei() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let own = client.address().unwrap();
    let witness = Arc::new(Witness::default());
    client.ask_before_sending(witness.clone()).unwrap();
    // A short call, and a long one whose bytes hardly compress.
    let long: Vec<u8> = (0..4_000_u32).flat_map(|number| types::merkle::keccak(&[&number.to_be_bytes()]).0).take(20_000).collect();
    for call in [Call { to: Some(PAYEE), data: vec![], value: open(1) }, Call { to: Some(PAYEE), data: long, value: Amount(5) }] {
        let before = client.balance(own).await.unwrap();
        let value = call.value;
        let hash = client.submit(&format!("call of {value}"), call).await.unwrap();
        let outcome = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(outcome) = client.rpc().outcome(hash.0).await.unwrap() {
                    return outcome;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let outcome = outcome.await.unwrap();
        let quote = witness.asked.lock().unwrap().pop().unwrap();
        let spent = before.minus(client.balance(own).await.unwrap()).unwrap();
        let gas = Amount(outcome.gas_price * u128::from(outcome.gas_used));
        assert!(quote.l1_fee > Amount(100_000_000_000), "{quote:?}");
        assert_eq!(spent, Amount::sum([value, gas, quote.l1_fee, quote.operator_fee]).unwrap(), "{quote:?}");
        assert!(spent <= quote.most() && outcome.gas_used <= quote.gas);
        assert_eq!((quote.balance, quote.account), (before, own));
    }
}

#[tokio::test]
async fn what_is_not_agreed_to_or_cannot_be_carried_is_never_sent() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let folder = tempfile::tempdir().unwrap();
    client.keep_outbox(&folder.path().join("outbox.json")).await.unwrap();
    let before = nonce(&client).await;
    let oversized = Call { to: Some(PAYEE), data: vec![1; CALLDATA_MAX + 1], value: Amount::ZERO };
    let error = client.submit("oversized", oversized).await.unwrap_err().to_string();
    assert!(error.contains(&(CALLDATA_MAX + 1).to_string()) && error.contains("nothing was sent"), "{error}");
    client.ask_before_sending(Arc::new(Witness { is_no: true, ..Witness::default() })).unwrap();
    let error = client.deposit(open(1)).await.unwrap_err();
    assert!(matches!(error, ChainError::NotSent { .. }), "{error}");
    assert_eq!(nonce(&client).await, before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "what was never sent is kept nowhere");
}

/// A process was killed before it sent, and the chain's price rose meanwhile: the next one offers more under the same nonce.
#[tokio::test]
async fn an_underpriced_transaction_is_offered_for_more_under_its_nonce() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.json");
    client.keep_outbox(&path).await.unwrap();
    client.transfer(PAYEE, open(1)).await.unwrap();
    let next = nonce(&client).await;
    drop(client);
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let entry = kept["outbox"]["waiting"].as_object_mut().unwrap().values_mut().next().unwrap();
    (entry["included"], entry["sent"]) = (Value::Null, json!([]));
    (entry["nonce"], entry["fees"]) = (json!(next), json!({ "most": 1, "tip": 1 }));
    std::fs::write(&path, kept.to_string()).unwrap();
    let again = world.client(World::account(1)).await;
    assert_eq!(again.keep_outbox(&path).await.unwrap().len(), 1);
    assert_eq!(nonce(&again).await, next + 1, "one nonce");
    assert_eq!(again.balance(PAYEE).await.unwrap(), open(2));
}

#[tokio::test]
async fn a_transaction_that_the_pool_lost_comes_again_for_more_under_its_nonce() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let before = nonce(&client).await;
    let rpc = client.rpc().clone();
    let _: Value = rpc.request("evm_setIntervalMining", json!([0])).await.unwrap();
    let offered = rpc.fees().await.unwrap();
    let sending = tokio::spawn({
        let client = client.clone();
        async move { client.transfer(PAYEE, open(1)).await }
    });
    tokio::time::timeout(PATIENCE, async {
        while nonce(&client).await == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    let _: Value = rpc.request("anvil_dropAllTransactions", json!([])).await.unwrap();
    assert_eq!(nonce(&client).await, before, "the pool has forgotten it");
    let _: Value = rpc.request("evm_setIntervalMining", json!([1])).await.unwrap();
    let sent = sending.await.unwrap().unwrap();
    assert_eq!((nonce(&client).await, client.balance(PAYEE).await.unwrap()), (before + 1, open(1)), "sent once");
    let found: Value = rpc.request("eth_getTransactionByHash", json!([sent.transaction])).await.unwrap();
    let most = u128::from_str_radix(found["maxFeePerGas"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert!(most > offered.most, "a quarter more than {} was offered: {most}", offered.most);
}
