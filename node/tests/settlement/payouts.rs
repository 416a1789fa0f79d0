//! A poster that posts a tree with one wei moved meets an honest node, which nobody asked.

use std::{collections::BTreeMap, sync::Arc};

use attribution::{
    epoch::{
        Parts, Payout, divide, one_by_one,
        replay::{Facts as _, lines},
    },
    message::ReceiptItem,
};
use chain_bridge::{
    availability::{Calldata, DataAvailability as _},
    devnet::Devnet,
    registry::State,
};
use node::{
    facts::{ChainFacts, accounts},
    payouts::{Payouts, encode_lines},
};
use serde_json::json;
use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use super::world::{Operator, WAIT, devnet, payer, until};

const FEE: Amount = Amount(10_001);

/// The parts that the receipts of `node` in epoch 1 give.
pub(crate) async fn honest_parts(node: &Operator) -> Parts {
    let state = node.state().await;
    let bundles = node.books.receipts(&node.books.posting(1).unwrap().unwrap().numbers).unwrap();
    let item = |bundle: attribution::bundle::Bundle| ReceiptItem::new(bundle.receipt, &bundle.quote.document, &bundle.manifest);
    let items = BTreeMap::from([(node.address(), bundles.into_iter().map(item).collect())]);
    let (facts, accounts) = (ChainFacts(&state), accounts(node.chained.deployment()));
    let refunds = facts.epoch(1).unwrap().refunds;
    divide(&facts, &accounts, 1, &items, &refunds, &mut BTreeMap::new(), &one_by_one).parts
}

/// The same, one wei of them moved from the first payee to the second.
async fn one_wei_moved(node: &Operator) -> Parts {
    let mut parts = honest_parts(node).await;
    let mut rich: Vec<_> = parts.values_mut().filter(|parts| parts[0].amount > Amount(1)).collect();
    assert!(rich.len() > 1, "two payees at least");
    rich[0][0].amount.0 -= 1;
    rich[1][0].amount.0 += 1;
    parts
}

/// Where a poster shows the lines of its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// To who asks it.
    Lines,
    /// On the chain, to who challenges it there.
    Answers,
    /// In calldata before it posts the root; then it is gone.
    Calldata,
}

/// An honest node with receipts under a root, and a poster that posts a tree of its own making.
async fn posted(devnet: &Devnet, shows: Shows) -> (Operator, Operator, Hash32, Amount) {
    let mut honest = Operator::new(devnet, 1, false, &[]).await;
    let mut rogue = Operator::new(devnet, 3, true, &[&honest]).await;
    let payer = payer(devnet, 2).await;
    for nonce in 1..4 {
        honest.keep_receipt(&payer, nonce, FEE).await;
    }
    let settling = honest.settling(false, true);
    honest.serve(&settling).await;
    honest.tasks.spawn(settling.run(1));
    let payout_from = until("the honest node's root", async || {
        let state = honest.state().await;
        state.epoch(1).filter(|epoch| epoch.roots.contains_key(&honest.address())).map(|epoch| epoch.payout_from)
    });
    honest.client().wait_for_time(payout_from.await, WAIT).await.unwrap();

    let parts = one_wei_moved(&honest).await;
    let wrong = Payout::over(&BTreeMap::new(), parts.clone(), &one_by_one).unwrap();
    let kept = json!({ "previous": BTreeMap::<Address, Amount>::new(), "parts": parts, "standing": {} });
    Payouts::new(rogue.payouts()).keep_tree(1, &serde_json::to_vec(&kept).unwrap()).unwrap();
    let settling = rogue.settling(false, false);
    match shows {
        Shows::Lines => drop(rogue.serve(&settling).await),
        Shows::Answers => {}
        Shows::Calldata => {
            let bytes = encode_lines(&lines(&wrong).collect::<Vec<_>>());
            Calldata::own(rogue.client().clone()).unwrap().put(&bytes).await.unwrap();
        }
    }
    let stake = rogue.client().slashable_of(rogue.address()).await.unwrap();
    rogue.client().post_payout(1, Hash32::ZERO, wrong.root(), wrong.total()).await.unwrap();
    if shows != Shows::Calldata {
        // It answers what it is asked for on the chain.
        rogue.tasks.spawn(settling.run(0));
    }
    (honest, rogue, wrong.root(), stake)
}

async fn check_overturned(devnet: Devnet, honest: &Operator, rogue: &Operator, root: Hash32, stake: Amount) -> Arc<State> {
    let first = async || honest.state().await.epoch(1).unwrap().overturned.first().copied();
    let overturned = until("the payout is overturned", first).await;
    assert_eq!((overturned.root, overturned.poster, overturned.reporter), (root, rogue.address(), honest.address()));
    let left = rogue.client().slashable_of(rogue.address()).await.unwrap();
    assert!(left < stake, "{left} of {stake} wei are left of the poster's stake");
    let state = honest.state().await;
    assert!(state.slashes().iter().any(|slash| (slash.account, slash.reporter) == (rogue.address(), honest.address())));
    assert_eq!(state.epoch(1).unwrap().payout, None);
    devnet.stop().await;
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_with_one_wei_moved_is_overturned_and_its_poster_slashed_by_a_node_that_watches() {
    let devnet = devnet(6, 30).await;
    let (honest, rogue, root, stake) = posted(&devnet, Shows::Lines).await;
    check_overturned(devnet, &honest, &rogue, root, stake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poster_that_shows_a_wrong_tree_only_where_it_must_is_overturned_by_what_it_shows_there() {
    let devnet = devnet(6, 90).await;
    let (honest, rogue, root, stake) = posted(&devnet, Shows::Answers).await;
    check_overturned(devnet, &honest, &rogue, root, stake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_tree_whose_poster_is_gone_is_overturned_by_the_lines_that_it_left_in_calldata_and_nothing_is_asked() {
    let devnet = devnet(6, 60).await;
    let (honest, rogue, root, stake) = posted(&devnet, Shows::Calldata).await;
    let state = check_overturned(devnet, &honest, &rogue, root, stake).await;
    assert_eq!(state.challenges().count(), 0, "no question was put on the chain");
}
