//! A node that shows nobody its receipts: its poster asks for them on the chain, it is slashed, and the epoch goes on without it.

use std::time::{Duration, Instant};

use chain_bridge::client::ChainClient;
use harness::{Cluster, cluster::Setup};
use node::chain::Chained;
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Hash32,
    key::Signed,
    merkle::sum_root,
    operator::{NodeRoot, receipt_leaf},
};

/// Longest from a root to its epoch's payout: W1 of 15 s, a fallback of 10 s, and blocks.
const PAID_WAIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_withholds_its_receipts_is_slashed_and_its_epoch_goes_on() {
    let cluster = Cluster::start(Setup { nodes: 1, model: None, people: vec!["silent"] }).await;
    let silent = cluster.person("silent");
    cluster.run(silent, &["stake", "add", "100 OPEN"]).await;
    let (url, deployment) = (cluster.devnet.url(), cluster.devnet.deployment().clone());
    let client = ChainClient::connect(url, deployment.clone(), Some(silent.key())).await.expect("the chain answers");
    // A root over one receipt that nobody will ever see: its node runs nowhere.
    let epoch = client.submission_epoch().await.expect("the chain answers");
    let (receipts, fees) = sum_root(vec![receipt_leaf(Hash32([7; 32]), Amount(1_000))]).expect("one fee sums");
    let root = NodeRoot { node: silent.account, epoch, receipts, count: 1, fees };
    client.submit_node_root(&Signed::new(&silent.key(), &client.domains(), root)).await.expect("a bonded node's root is taken");
    cluster.say("a root is submitted whose receipts nobody shows");

    let chained = Chained::open(url, deployment, None).await.expect("the chain is followed");
    let deadline = Instant::now() + PAID_WAIT;
    let state = loop {
        let state = chained.state().await.expect("the books are current");
        if state.epoch(epoch).is_some_and(|epoch| epoch.payout.is_some()) {
            break state;
        }
        assert!(Instant::now() < deadline, "no payout came; challenges: {:?}", state.open_challenges().collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let withheld_at = state.withheld_at(epoch, silent.account).expect("it was found to withhold a receipt");
    assert!(withheld_at < state.epoch(epoch).expect("it opened").payout_from, "while W1 ran");
    let slash = state.slashes().iter().find(|slash| slash.account == silent.account).expect("it was slashed");
    assert_eq!((slash.amount, slash.reporter), (Amount(10 * WEI_PER_OPEN), cluster.nodes[0].account), "a tenth of its stake");
    let payout = state.epoch(epoch).and_then(|epoch| epoch.payout).expect("just seen");
    assert_eq!((payout.total, payout.root != Hash32::ZERO), (Amount::ZERO, true), "nothing of it is paid");
    cluster.say("it was slashed, and the epoch has its payout");
    cluster.stop().await;
}
