use chain_bridge::{
    chain::error::ChainError,
    client::{ChainClient, send::Sent},
};
use types::{
    amount::Amount,
    contribution::Priority,
    id::{Address, Hash32, NodeId},
};

use super::harness::{World, open};

#[tokio::test]
async fn a_keyed_operation_happens_once_also_across_a_restart() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.json");
    assert!(client.keep_outbox(&path).await.unwrap().is_empty());
    let (first, sent) = client.commit(Hash32([5; 32])).await.unwrap();
    let (again, repeated) = client.commit(Hash32([5; 32])).await.unwrap();
    assert_eq!((first, sent.transaction), (again, repeated.transaction));
    let used = client.gas()["commit contribution"].count;
    drop(client);
    let restarted = world.client(World::account(1)).await;
    restarted.keep_outbox(&path).await.unwrap();
    let (after, found) = restarted.commit(Hash32([5; 32])).await.unwrap();
    assert_eq!((first, sent.transaction), (after, found.transaction));
    assert_eq!((used, !restarted.gas().contains_key("commit contribution")), (1, true));
    drop(restarted);
    let other = world.client(World::account(2)).await;
    let error = other.keep_outbox(&path).await.unwrap_err().to_string();
    assert!(error.contains("outbox.json") && error.contains("move the file away"), "{error}");
    let stranger = world.client(World::account(1)).await;
    let error = stranger.commit(Hash32([5; 32])).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("AlreadyCommitted"), "{error}");
}

#[tokio::test]
async fn what_is_committed_to_together_stands_in_its_order_and_is_paid_once() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let own = client.address().unwrap();
    let before = client.rpc().nonce(own, true).await.unwrap();
    let commitments: Vec<Hash32> = (1..=6).rev().map(|number| Hash32([number; 32])).collect();
    let made = client.commit_all(&commitments[..4]).await.unwrap();
    // Two of them again, with two more: nothing is sent for the former.
    let again = client.commit_all(&commitments[2..]).await.unwrap();
    assert_eq!(client.rpc().nonce(own, true).await.unwrap(), before + 6);
    let transaction = |made: &[(Priority, Sent)], at: usize| made[at].1.transaction;
    assert_eq!((transaction(&again, 0), transaction(&again, 1)), (transaction(&made, 2), transaction(&made, 3)));
    let places: Vec<_> = made.iter().chain(&again[2..]).map(|(priority, _)| *priority).collect();
    assert!(places.is_sorted() && places.windows(2).all(|pair| pair[0] != pair[1]), "{places:?}");
    for (commitment, place) in commitments.iter().zip(places) {
        assert_eq!(client.commitment_of(*commitment, own).await.unwrap(), Some(place));
    }
}

/// A process killed after it noted a transaction and before the chain took it, or right after: the next one finishes it under the same nonce, once.
#[tokio::test]
async fn a_kill_between_note_and_send_loses_nothing_and_sends_nothing_twice() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let (own, payee) = (client.address().unwrap(), Address([77; 20]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.json");
    client.keep_outbox(&path).await.unwrap();
    let sent = client.transfer(payee, open(1)).await.unwrap();
    let nonces = client.rpc().nonce(own, true).await.unwrap();
    // The file as it was when the process was killed right after the chain had taken the transaction: noted, and not yet seen in a block.
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let waiting = kept["outbox"]["waiting"].as_object_mut().unwrap();
    assert_eq!(waiting.len(), 1);
    let (key, entry) = waiting.iter_mut().next().unwrap();
    let key = key.clone();
    assert_eq!(entry["sent"].as_array().unwrap().len(), 1, "noted before it was sent");
    entry["included"] = serde_json::Value::Null;
    drop(client);
    std::fs::write(&path, kept.to_string()).unwrap();
    let next = world.client(World::account(1)).await;
    assert_eq!(next.keep_outbox(&path).await.unwrap(), std::slice::from_ref(&key));
    assert_eq!(next.rpc().nonce(own, true).await.unwrap(), nonces, "no second nonce");
    assert_eq!(next.balance(payee).await.unwrap(), open(1));
    drop(next);
    // Killed after the note and before the chain took it: the block that has it is taken out of the chain, and the pool forgets it.
    let depth = world.devnet.rpc().latest().await.unwrap().block.number - sent.block.number + 1;
    let _: serde_json::Value = world.devnet.rpc().request("anvil_reorg", serde_json::json!([depth, []])).await.unwrap();
    assert_eq!(world.devnet.rpc().nonce(own, true).await.unwrap(), nonces - 1);
    std::fs::write(&path, kept.to_string()).unwrap();
    let last = world.client(World::account(1)).await;
    assert_eq!(last.keep_outbox(&path).await.unwrap(), [key]);
    assert_eq!(last.rpc().nonce(own, true).await.unwrap(), nonces);
    assert_eq!(last.balance(payee).await.unwrap(), open(1), "paid once");
}

#[tokio::test]
async fn many_operations_of_one_account_at_once_are_all_included() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let sends: Vec<_> = (0..8_u8)
        .map(|byte| {
            let client = client.clone();
            tokio::spawn(async move { client.transfer(Address([byte + 100; 20]), Amount(u128::from(byte) + 1)).await.unwrap() })
        })
        .collect();
    for send in sends {
        send.await.unwrap();
    }
    for byte in 0..8_u8 {
        assert_eq!(client.balance(Address([byte + 100; 20])).await.unwrap(), Amount(u128::from(byte) + 1));
    }
    assert_eq!(client.gas()["transfer"].count, 8);
}

#[tokio::test]
async fn refusals_are_in_words_and_cost_nothing() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let own = client.address().unwrap();
    let before = client.balance(own).await.unwrap();
    let error = client.stake(NodeId([1; 32]), 1, own, Amount(5)).await.unwrap_err().to_string();
    assert!(
        error.contains("stake was refused") && error.contains("stake below minimum") && error.contains("got 0.000000000000000005 OPEN"),
        "{error}"
    );
    let error = client.request_withdraw(open(1)).await.unwrap_err().to_string();
    assert!(error.contains("not enough free"), "{error}");
    assert_eq!(client.balance(own).await.unwrap(), before);
    let poor = world.client(World::account(99)).await;
    let error = poor.deposit(open(1)).await.unwrap_err();
    assert!(matches!(error, ChainError::NoFunds { .. }), "{error}");
    let reader = ChainClient::connect(world.devnet.url(), world.devnet.deployment().clone(), None).await.unwrap();
    assert!(matches!(reader.deposit(open(1)).await, Err(ChainError::NoAccount { .. })));
    assert_eq!(reader.balance(own).await.unwrap(), before);
}

#[tokio::test]
async fn deposits_and_stake_come_back_after_their_waits() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let own = client.address().unwrap();
    let wait = std::time::Duration::from_secs(20);
    client.deposit(open(5)).await.unwrap();
    client.request_withdraw(open(2)).await.unwrap();
    assert_eq!(client.free_balance(own).await.unwrap(), open(3));
    let error = client.withdraw().await;
    assert!(error.as_ref().is_err_and(|error| error.contract_error() == Some("StillThawing")), "{error:?}");
    let until = client.escrow_of(own).await.unwrap().thawed_at;
    client.wait_for_time(until, wait).await.unwrap();
    client.withdraw().await.unwrap();
    assert_eq!(client.escrow_of(own).await.unwrap().balance, open(3));
    client.stake(NodeId([1; 32]), 1, own, open(20)).await.unwrap();
    client.unbond(open(10)).await.unwrap();
    let until = client.operator(own).await.unwrap().unwrap().unbonded_at;
    client.wait_for_time(until, wait).await.unwrap();
    client.withdraw_stake().await.unwrap();
    assert_eq!(client.slashable_of(own).await.unwrap(), open(10));
    assert!(client.is_bonded(own).await.unwrap());
}

#[tokio::test]
async fn an_operation_that_a_reorganisation_took_out_is_sent_again_under_its_key() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let (_, sent) = client.commit(Hash32([5; 32])).await.unwrap();
    let depth = client.latest().await.unwrap().block.number - sent.block.number + 1;
    let _: serde_json::Value = client.rpc().request("anvil_reorg", serde_json::json!([depth, []])).await.unwrap();
    let own = client.address().unwrap();
    assert_eq!(client.commitment_of(Hash32([5; 32]), own).await.unwrap(), None);
    let (priority, again) = client.commit(Hash32([5; 32])).await.unwrap();
    assert_eq!(client.commitment_of(Hash32([5; 32]), own).await.unwrap(), Some(priority));
    assert_ne!(again.block, sent.block);
}
