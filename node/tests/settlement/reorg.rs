//! A reorganisation takes a posted root out, and its epoch closes without it.

use node::books::{Intent, Posting};
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
    let block = until("the root is on the chain", async || Some(node.state().await.epoch(1)?.roots.get(&node.address())?.block)).await;
    running.abort();

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
    let posted_again = async || node.state().await.epoch(2)?.roots.contains_key(&node.address()).then_some(());
    until("the receipts are posted again", posted_again).await;
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

/// The books hold a root that was signed and that no block has, as a crash or a refusal leaves it; its epoch closes in blocks that may still be replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_of_a_root_that_was_refused_stand_under_no_other_before_its_epoch_is_closed_for_good() {
    let devnet = devnet(18, 2).await;
    let node = Operator::new(&devnet, 1, false, &[]).await;
    let other = Operator::new(&devnet, 3, false, &[]).await;
    let payer = payer(&devnet, 2).await;
    let kept = node.keep_receipt(&payer, 1, FEE).await;
    let root = attribution::epoch::node_root(node.address(), 1, std::slice::from_ref(&kept.receipt)).unwrap();
    let intent = Intent { epoch: 1, posting: Posting { numbers: vec![0] }, unfunded: vec![], seen: 1 };
    node.books.sign(&intent, root.receipts).unwrap();

    let empty = attribution::epoch::node_root(other.address(), 1, &[]).unwrap();
    other.client().submit_node_root(&Signed::new(&other.account, &other.client().domains(), empty)).await.unwrap();
    let closes = other.state().await.epoch(1).unwrap().accepts_until;
    other.client().wait_for_time(closes, super::world::WAIT).await.unwrap();
    mine(node.client(), 1).await;
    let closed = node.client().heads().await.unwrap().latest.number;

    let running = tokio::spawn(node.settling(false, false).run(1));
    let mut is_final = false;
    until("the receipt stands under the next root", async || {
        let heads = node.client().heads().await.unwrap();
        // What is final was so before the books are looked at.
        let posted = node.books.posting(2).unwrap();
        is_final |= heads.finalized.number >= closed;
        assert!(posted.is_none() || is_final, "a branch that comes back could take the first root still");
        if posted.is_none() {
            mine(node.client(), 1).await;
        }
        posted
    })
    .await;
    running.abort();
    assert_eq!(node.books.posting(1).unwrap(), None);
    devnet.stop().await;
}
