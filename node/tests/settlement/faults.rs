//! A node whose receipts show a fault is found by the poster, which nobody asked, while the fault still voids.

use attribution::{bundle::Bundle, epoch::build_payout};
use node::books::{Intent, Posting};
use serde_json::{Value, json};
use types::{amount::Amount, encoding::Document as _, key::Signed};

use super::world::{Operator, devnet, payer, until};

const FEE: Amount = Amount(10_001);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poster_proves_what_a_nodes_receipts_show_before_w1_ends_and_the_payout_leaves_it_out() {
    let devnet = devnet(24, 4).await;
    let mut faulty = Operator::new(&devnet, 1, false, &[]).await;
    let mut poster = Operator::new(&devnet, 3, true, &[&faulty]).await;
    let payer = payer(&devnet, 2).await;
    // Rule 3: the fee is not its quote's. F3: two answers are paid by the same wei of one lane.
    let dear = faulty.keep_changed(&payer, 1, FEE, |receipt| receipt.tokens_out -= 1).await;
    let first = faulty.keep_receipt(&payer, 2, FEE).await;
    let lane = first.lane.document.id();
    let second = faulty.keep_changed(&payer, 3, FEE, |receipt| receipt.lane = lane).await;
    let settling = faulty.settling(false, false);
    faulty.serve(&settling).await;
    let stake = faulty.client().slashable_of(faulty.address()).await.unwrap();
    let at_poster = poster.settling(true, false);
    poster.serve(&at_poster).await;
    poster.tasks.spawn(at_poster.run(0));
    faulty.tasks.spawn(settling.run(1));

    let void = [&dear, &first, &second].map(|bundle| bundle.receipt.document.hash());
    let are_void = async || {
        let state = poster.state().await;
        void.iter().all(|receipt| state.voided_at(*receipt).is_some()).then_some(state)
    };
    let state = until("every fault is proven", are_void).await;
    let epoch = state.epoch(1).unwrap();
    assert_eq!(epoch.roots[&faulty.address()].count, 3);
    for receipt in void {
        assert!(state.voided_at(receipt).unwrap() < epoch.payout_from, "{receipt} was void in time");
    }
    assert!(state.proven().iter().all(|proven| (proven.node, proven.reporter) == (faulty.address(), poster.address())));
    assert!(faulty.client().slashable_of(faulty.address()).await.unwrap() < stake);

    let posted = until("the payout is posted", async || poster.state().await.epoch(1).unwrap().payout).await;
    let nobody = build_payout(&std::collections::BTreeMap::new(), [], &[]).unwrap();
    assert_eq!((posted.root, posted.total, posted.poster), (nobody.root(), Amount::ZERO, poster.address()), "nothing of it is paid");
    devnet.stop().await;
}

/// Submits a root over this one receipt, number `number` of the node's books; gives its epoch.
async fn post(node: &Operator, number: u64, bundle: &Bundle) -> u64 {
    let epoch = node.client().submission_epoch().await.unwrap();
    let root = attribution::epoch::node_root(node.address(), epoch, std::slice::from_ref(&bundle.receipt)).unwrap();
    let intent = Intent { epoch, posting: Posting { numbers: vec![number] }, unfunded: vec![], seen: number + 1 };
    node.books.sign(&intent, root.receipts).unwrap();
    node.client().submit_node_root(&Signed::new(&node.account, &bundle.domains, root)).await.unwrap();
    epoch
}

/// The poster joins when the first of the two stands in a closed epoch: it asks for what it has not seen, and holds it against what it sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stretch_of_a_lane_that_was_billed_more_than_eight_epochs_ago_is_not_paid_again() {
    let w1_s = 60;
    let devnet = devnet(w1_s, 4).await;
    let mut faulty = Operator::new(&devnet, 1, false, &[]).await;
    let mut poster = Operator::new(&devnet, 3, true, &[&faulty]).await;
    let payer = payer(&devnet, 2).await;
    let settling = faulty.settling(false, false);
    faulty.serve(&settling).await;

    let first = faulty.keep_receipt(&payer, 1, FEE).await;
    let paid = post(&faulty, 0, &first).await;
    let mut epoch = paid;
    while epoch < paid + 9 {
        // Roots are taken for a third of W1; the next epoch opens with the next root.
        let _: Value = faulty.client().rpc().request("anvil_mine", json!(["0x1", format!("{:#x}", w1_s / 3 + 1)])).await.unwrap();
        epoch = faulty.client().submission_epoch().await.unwrap();
        if epoch < paid + 9 {
            let empty = attribution::epoch::node_root(poster.address(), epoch, &[]).unwrap();
            poster.client().submit_node_root(&Signed::new(&poster.account, &first.domains, empty)).await.unwrap();
        }
    }
    // Another request, its quote and its block are of today; the wei are those of the first.
    let lane = first.lane.document.id();
    let again = faulty.keep_changed(&payer, 3, FEE, |receipt| receipt.lane = lane).await;
    assert_eq!(post(&faulty, 1, &again).await, paid + 9);

    let at_poster = poster.settling(true, false);
    poster.serve(&at_poster).await;
    poster.tasks.spawn(at_poster.run(0));
    let (old, new) = (first.receipt.document.hash(), again.receipt.document.hash());
    let is_void = async || {
        let state = poster.state().await;
        state.voided_at(new).is_some().then_some(state)
    };
    let state = until("the second receipt is void", is_void).await;
    assert!(state.voided_at(new).unwrap() < state.epoch(paid + 9).unwrap().payout_from, "void in time: it is not paid");
    assert!(state.voided_at(old).unwrap() >= state.epoch(paid).unwrap().payout_from, "the first was paid, whatever it is now");
    assert!(state.proven().iter().all(|proven| (proven.node, proven.reporter) == (faulty.address(), poster.address())));
    devnet.stop().await;
}
