//! A reorganisation takes a posted root out, and its epoch closes without it.

use serde_json::{Value, json};
use types::{amount::Amount, key::Signed};

use super::world::{Operator, devnet, mine, payer, until};

const FEE: Amount = Amount(10_001);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_whose_root_a_reorganisation_dropped_stand_under_the_next_root() {
    // Roots are taken for a third of W1.
    let devnet = devnet(18, 2).await;
    let node = Operator::new(&devnet, 1, false, &[]).await;
    let other = Operator::new(&devnet, 3, false, &[]).await;
    let payer = payer(&devnet, 2).await;
    let kept = node.keep_receipt(&payer, 1, FEE).await;

    let running = tokio::spawn(node.settling(false, false).run(1));
    until("the books note the root", async || node.books.posting(1).unwrap()).await;
    running.abort();
    let block = node.state().await.epoch(1).unwrap().roots[&node.address()].block;

    let heads = node.client().heads().await.unwrap();
    let depth = heads.latest.number + 1 - block;
    assert!(heads.finalized.number < block, "the root is not final yet");
    let _: Value = node.client().rpc().request("anvil_reorg", json!([depth, []])).await.unwrap();
    mine(node.client(), 2).await;
    assert!(node.state().await.epoch(1).is_none(), "the root was the first of its epoch: both are gone");
    assert!(node.books.posting(1).unwrap().is_some(), "and the books do not know");

    // Another node opens the epoch again, and it closes.
    let empty = attribution::epoch::node_root(other.address(), 1, &[]).unwrap();
    other.client().submit_node_root(&Signed::new(&other.account, &other.client().domains(), empty)).await.unwrap();
    let closes = other.state().await.epoch(1).unwrap().accepts_until;
    other.client().wait_for_time(closes, super::world::WAIT).await.unwrap();
    mine(node.client(), 16).await;

    let running = tokio::spawn(node.settling(false, false).run(1));
    until("the receipts are posted again", async || node.books.posting(2).unwrap()).await;
    running.abort();
    assert_eq!(node.books.posting(1).unwrap(), None);
    let state = node.state().await;
    assert!(!state.epoch(1).unwrap().roots.contains_key(&node.address()));
    let root = state.epoch(2).unwrap().roots[&node.address()];
    assert_eq!((root.count, root.fees), (1, FEE));
    assert_eq!(state.lane_collected(kept.lane.document.id()), FEE, "collected once");
    assert_eq!(node.books.counts().unwrap(), (1, 1), "nothing is left unposted");
    devnet.stop().await;
}
