//! The lines of a posted payout are had from its poster after a restart, and from the chain where that is gone.

use std::sync::Arc;

use attribution::epoch::replay::Line;
use chain_bridge::{availability::Calldata, registry::state::Payout};
use node::{
    books::Books,
    payouts::{Payouts, check_lines},
    service::settlement::lines::{fetch, from_chain},
};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
};
use storage::store::{Config as StoreConfig, Store};
use types::amount::Amount;

use super::world::{Operator, devnet, payer, until};

const FEE: Amount = Amount(10_001);
const ROWS: usize = 1 << 16;

async fn asked(reader: &Operator, poster: &Operator, payout: &Payout) -> anyhow::Result<Vec<Line>> {
    let ad_of = async || reader.overlay.ads().await.unwrap().into_iter().find(|ad| ad.ad().node == poster.seed.node_id());
    let addr = until("the poster's ad", ad_of).await.ad().client_addr;
    let client = Client::bind(([127, 0, 0, 1], 0).into(), &NodeSeed::generate(), Limits::default()).unwrap();
    let connection = client.connect(addr, Some(poster.seed.node_id())).await.unwrap();
    fetch(&connection, 1, payout, ROWS).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_in_calldata_before_their_root_is_posted_and_shown_by_a_poster_that_kept_nothing_else() {
    let devnet = devnet(6, 60).await;
    let mut poster = Operator::new(&devnet, 1, true, &[]).await;
    let reader = Operator::new(&devnet, 3, false, &[&poster]).await;
    let payer = payer(&devnet, 2).await;
    for nonce in 1..4 {
        poster.keep_receipt(&payer, nonce, FEE).await;
    }
    let calldata = Calldata::own(poster.client().clone()).unwrap();
    let settling = poster.settling_with(true, false, Some(calldata));
    poster.tasks.spawn(settling.run(1));
    let payout = until("the payout is posted", async || reader.state().await.epoch(1)?.payout).await;
    poster.tasks.shutdown().await;

    let state = reader.state().await;
    let mut blocks = 0;
    let found = from_chain(reader.client(), &state, 1, &payout, ROWS, |_| blocks += 1).await.unwrap();
    assert!(found.blocks.0 >= state.epoch(1).unwrap().opened_block && blocks < 64, "{blocks} blocks were read to find {:?}", found.blocks);
    let found = found.found().unwrap();
    check_lines(&found, payout.root).unwrap();
    assert!(found.len() > 1 && found.iter().map(|line| line.leaf.cumulative.0).sum::<u128>() == payout.total.0);
    // Too few rows taken, another root, another account: then the chain has none.
    let other = Payout { poster: reader.address(), ..payout };
    assert!(from_chain(reader.client(), &state, 1, &other, ROWS, |_| {}).await.unwrap().found().is_err());
    assert!(from_chain(reader.client(), &state, 1, &payout, 1, |_| {}).await.unwrap().found().is_err());

    // Nothing but the lines is left on its disk.
    let folder = tempfile::tempdir().unwrap();
    poster.books = Arc::new(Books::new(Store::open(&folder.path().join("store"), StoreConfig::default()).unwrap().records()));
    std::fs::remove_file(poster.payouts().join("tree-1.json")).unwrap();
    let settling = poster.settling(true, false);
    poster.serve(&settling).await;
    assert_eq!(asked(&reader, &poster, &payout).await.unwrap(), found);
    assert_eq!(Payouts::new(poster.payouts()).lines(payout.root).await.unwrap().as_deref(), Some(found.as_slice()));
    devnet.stop().await;
}
