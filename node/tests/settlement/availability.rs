//! What a payout follows from is had after restarts, and from others or the chain where its owner is gone.

use std::{net::SocketAddr, sync::Arc};

use attribution::{
    epoch::replay::{Line, RootFacts, check_root},
    message::{Ask, ReceiptItem, Reply},
};
use chain_bridge::{availability::Calldata, registry::state::Payout};
use node::{
    books::Books,
    payouts::{Payouts, check_lines},
    service::settlement::{
        ask_once,
        lines::{fetch, from_chain},
    },
};
use p2p::{
    client::{Client, Connection, Limits},
    identity::NodeSeed,
};
use storage::store::{Config as StoreConfig, Store};
use types::amount::Amount;

use super::world::{Operator, devnet, payer, until};

const FEE: Amount = Amount(10_001);
const ROWS: usize = 1 << 16;

/// Where a node's ad says that it answers, once it is not at `before` any more.
async fn address(reader: &Operator, node: &Operator, before: Option<SocketAddr>) -> SocketAddr {
    let found = async || {
        let ads = reader.overlay.ads().await.unwrap();
        let ad = ads.iter().map(|signed| signed.ad()).find(|ad| ad.node == node.seed.node_id())?;
        (Some(ad.client_addr) != before).then_some(ad.client_addr)
    };
    until("the node's ad", found).await
}

async fn connect(node: &Operator, addr: SocketAddr) -> (Client, Connection) {
    let client = Client::bind(([127, 0, 0, 1], 0).into(), &NodeSeed::generate(), Limits::default()).unwrap();
    let connection = client.connect(addr, Some(node.seed.node_id())).await.unwrap();
    (client, connection)
}

async fn lines(node: &Operator, addr: SocketAddr, payout: &Payout) -> anyhow::Result<Vec<Line>> {
    let (_client, connection) = connect(node, addr).await;
    fetch(&connection, 1, payout, ROWS).await
}

async fn receipts(node: &Operator, addr: SocketAddr, ask: &Ask) -> Result<Vec<ReceiptItem>, String> {
    let (_client, connection) = connect(node, addr).await;
    match ask_once(connection.open_stream().await.unwrap(), ask).await.unwrap() {
        Reply::Receipts(items) => Ok(items),
        Reply::Refused(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

fn books(path: &std::path::Path) -> Arc<Books> {
    Arc::new(Books::new(Store::open(path, StoreConfig::default()).unwrap().records()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_payout_follows_from_is_had_after_a_restart_of_its_poster_and_when_a_node_or_the_poster_is_gone() {
    // Two roots within a third of W1.
    let devnet = devnet(30, 90).await;
    let mut gone = Operator::new(&devnet, 4, false, &[]).await;
    let mut poster = Operator::new(&devnet, 1, true, &[&gone]).await;
    let reader = Operator::new(&devnet, 3, false, &[&poster]).await;
    let payer = payer(&devnet, 2).await;
    for nonce in 1..4 {
        poster.keep_receipt(&payer, nonce, FEE).await;
        gone.keep_receipt(&payer, 10 + nonce, FEE).await;
    }
    let settling = gone.settling(false, false);
    gone.serve(&settling).await;
    gone.tasks.spawn(settling.run(1));
    let calldata = Calldata::own(poster.client().clone()).unwrap();
    let settling = poster.settling_with(true, false, Some(calldata));
    poster.tasks.spawn(settling.run(1));
    let payout = until("the payout is posted", async || reader.state().await.epoch(1)?.payout).await;
    // The chain is heard here before the poster has heard it and written its tree down.
    until("the poster's tree is written", async || poster.payouts().join("tree-1.json").exists().then_some(())).await;
    poster.tasks.shutdown().await;
    gone.tasks.shutdown().await;
    let state = reader.state().await;
    let epoch = state.epoch(1).unwrap();
    assert_eq!((payout.poster, epoch.roots.len()), (poster.address(), 2));

    // Nobody answers: the chain alone has the lines, posted before their root.
    let mut blocks = 0;
    let found = from_chain(reader.client(), &state, 1, &payout, ROWS, |_| blocks += 1).await.unwrap();
    assert!(found.blocks.0 >= epoch.opened_block && blocks < 64, "{blocks} blocks were read, the lowest is {}", found.blocks.0);
    let found = found.found().unwrap();
    check_lines(&found, payout.root).unwrap();
    assert!(found.len() > 1 && found.iter().map(|line| line.leaf.cumulative.0).sum::<u128>() == payout.total.0);
    let other = Payout { poster: reader.address(), ..payout };
    assert!(from_chain(reader.client(), &state, 1, &other, ROWS, |_| {}).await.unwrap().found().is_err(), "another account");
    assert!(from_chain(reader.client(), &state, 1, &payout, 1, |_| {}).await.unwrap().found().is_err(), "too few rows are taken");

    // The poster starts again with its lines alone.
    let kept = poster.store();
    let empty = tempfile::tempdir().unwrap();
    poster.books = books(&empty.path().join("store"));
    std::fs::remove_file(poster.payouts().join("tree-1.json")).unwrap();
    poster.serve(&poster.settling(true, false)).await;
    let first = address(&reader, &poster, None).await;
    // Its books of the chain come up to the payout first.
    assert_eq!(until("the lines are shown", async || lines(&poster, first, &payout).await.ok()).await, found);
    assert_eq!(Payouts::new(poster.payouts()).lines(payout.root).await.unwrap().as_deref(), Some(found.as_slice()));

    // And with its records: it shows its own receipts, and those of the node that is gone.
    poster.books = books(&kept);
    poster.serve(&poster.settling(true, false)).await;
    let addr = address(&reader, &poster, Some(first)).await;
    let domains = poster.chained.deployment().domains();
    for (node, root) in &epoch.roots {
        let items = receipts(&poster, addr, &Ask::ReceiptsOf { node: *node, epoch: 1, from: 0 }).await.unwrap();
        let facts = RootFacts { receipts: root.receipts, count: root.count, fees: root.fees, block: root.block };
        check_root(&domains, 1, *node, &facts, &items).unwrap();
        let rest = receipts(&poster, addr, &Ask::ReceiptsOf { node: *node, epoch: 1, from: 2 }).await.unwrap();
        assert_eq!((items.len(), rest.as_slice()), (3, &items[2..]));
    }
    let own = receipts(&poster, addr, &Ask::Receipts { epoch: 1, from: 0 }).await.unwrap();
    assert_eq!(own, receipts(&poster, addr, &Ask::ReceiptsOf { node: poster.address(), epoch: 1, from: 0 }).await.unwrap());
    for (node, from) in [(reader.address(), 0), (gone.address(), 64), (gone.address(), u64::MAX)] {
        let refused = receipts(&poster, addr, &Ask::ReceiptsOf { node, epoch: 1, from }).await;
        assert!(refused.is_err(), "{node} from {from}: {refused:?}");
    }
    devnet.stop().await;
}
