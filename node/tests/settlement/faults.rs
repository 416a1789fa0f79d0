//! A node whose receipts show a fault is found by the poster, which nobody asked, while the fault still voids.

use attribution::epoch::build_payout;
use types::{amount::Amount, encoding::Document as _};

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
