//! The poster on a real chain: money that a lane brought in and no receipt speaks for goes back to who paid it.
//!
//! anvil comes with `npm ci` in `chain-bridge/contracts`, or is named by `TRIBUTARY_ANVIL`.

#![expect(clippy::unwrap_used, reason = "a test asserts by unwrapping, also in its helpers")]

#[path = "settlement/availability.rs"]
mod availability;
#[path = "settlement/checked.rs"]
mod checked;
#[path = "settlement/faults.rs"]
mod faults;
#[path = "settlement/payouts.rs"]
mod payouts;
#[path = "settlement/questions.rs"]
mod questions;
#[path = "settlement/receipt_log.rs"]
mod receipt_log;
#[path = "settlement/reorg.rs"]
mod reorg;
#[path = "settlement/sealed.rs"]
mod sealed;
#[path = "settlement/watched.rs"]
mod watched;
#[path = "settlement/world.rs"]
mod world;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use attribution::epoch::{self, Refund};
use chain_bridge::{
    client::ChainClient,
    devnet::{Devnet, DevnetConfig},
};
use node::{
    books::Books,
    chain::Chained,
    payouts::Payouts,
    service::settlement::{Settling, own::OwnRoots, sealed::NoDraws, trees::Trees},
};
use p2p::{
    identity::NodeSeed,
    overlay::{Overlay, OverlayConfig},
};
use storage::store::{Config as StoreConfig, Store};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Hash32,
    key::{Account, Signed},
    payout::Witness,
    receipt::token_ids_hash,
    voucher::{Lane, Voucher},
};

/// What the node takes without ever showing a receipt for it.
const TAKEN: Amount = Amount(12_345);
const WAIT: Duration = Duration::from_secs(60);

fn anvil() -> PathBuf {
    let bundled =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain-bridge/contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    std::env::var_os("TRIBUTARY_ANVIL").map_or(bundled, PathBuf::from)
}

fn account(byte: u8) -> Account {
    Account::from_bytes(&[byte; 32]).unwrap()
}

async fn wait_posted(chain: &ChainClient, epoch: u64) {
    let deadline = Instant::now() + WAIT;
    while chain.epoch(epoch).await.unwrap().posted_at == 0 {
        assert!(Instant::now() < deadline, "the payout of epoch {epoch} was not posted");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A node that collects and then loses its disk, or never meant to show a receipt: the payer has the money back after the receipts' term.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_collected_and_never_receipted_returns_to_its_payer() {
    let mut config = DevnetConfig::new(anvil());
    (config.deploy.w1_s, config.deploy.w2_s) = (6, 2);
    let devnet = Devnet::start(config).await.unwrap();
    let (node, payer) = (account(1), account(2));
    let rich = |account: &Account| (account.address(), Amount(1_000 * WEI_PER_OPEN));
    devnet.fund(&[rich(&node), rich(&payer)]).await.unwrap();
    let connect =
        async |account: &Account| ChainClient::connect(devnet.url(), devnet.deployment().clone(), Some(account.clone())).await.unwrap();
    let (at_node, at_payer) = (connect(&node).await, connect(&payer).await);
    let seed = NodeSeed::new([7; 32]);
    at_node.stake(seed.node_id(), 1, node.address(), Amount(100 * WEI_PER_OPEN)).await.unwrap();
    at_payer.deposit(Amount(WEI_PER_OPEN)).await.unwrap();

    let domains = at_payer.domains();
    let expiry = at_node.latest().await.unwrap().block.number + 30;
    let lane = Lane { payer: payer.address(), node: node.address(), cap: Amount(WEI_PER_OPEN), expiry, nonce: 1 };
    let voucher = Voucher {
        lane: lane.id(),
        request: Hash32([1; 32]),
        attempt: 0,
        quote: Hash32([2; 32]),
        first_token: 0,
        tokens_in: 10,
        tokens_out: 3,
        token_ids: token_ids_hash(&[1, 2, 3]),
        base: Amount::ZERO,
        cumulative: TAKEN,
    };
    let item = (Signed::new(&payer, &domains, lane), Signed::new(&payer, &domains, voucher));
    assert_eq!(at_node.collect_many(&[item]).await.unwrap().0, TAKEN);

    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store"), StoreConfig::default()).unwrap();
    let (overlay, _events) = Overlay::start(OverlayConfig::loopback(seed.clone(), vec![])).await.unwrap();
    let chained = Chained::open(devnet.url(), devnet.deployment().clone(), Some(node.clone())).await.unwrap();
    let settling = Arc::new(Settling {
        account: node.clone(),
        node: seed.node_id(),
        deployment: devnet.deployment().clone(),
        chain: chained.client.clone(),
        books: Arc::new(Books::new(store.records())),
        payouts: Payouts::new(folder.path().join("payouts")),
        calldata: None,
        overlay,
        seed,
        is_poster: true,
        is_relaying: false,
        watches: false,
        snapshots: chained.snapshots(),
        turn: tokio::sync::Mutex::new(()),
        notes: std::sync::Mutex::default(),
        trees: Trees::default(),
        own_roots: OwnRoots::default(),
        draws: Arc::new(NoDraws),
    });
    let running = tokio::spawn(settling.run(0));

    // While its receipt may still come, nothing can be asked back; the tree of no leaves pays nobody.
    let empty = |epoch| Signed::new(&node, &domains, epoch::node_root(node.address(), epoch, &[]).unwrap());
    assert!(at_payer.request_refund(&lane, &[]).await.is_err(), "the lane stands");
    at_node.submit_node_root(&empty(1)).await.unwrap();
    wait_posted(&at_node, 1).await;
    assert_eq!(at_node.epoch(1).await.unwrap().total, Amount::ZERO);

    let blocks = format!("{:#x}", 32 + devnet.deployment().config.max_age_blocks);
    let _mined: serde_json::Value = at_node.rpc().request("anvil_mine", serde_json::json!([blocks])).await.unwrap();
    let (epoch, _) = at_payer.request_refund(&lane, &[]).await.unwrap();
    assert_eq!(epoch, 2);
    at_node.submit_node_root(&empty(epoch)).await.unwrap();
    wait_posted(&at_node, epoch).await;
    let posted = at_node.epoch(epoch).await.unwrap();
    assert_eq!(posted.total, TAKEN);
    let refund = Refund { node: node.address(), lane: lane.id(), client: payer.address(), amount: TAKEN, witness: Witness::NONE };
    let tree = epoch::build_payout(&BTreeMap::new(), [], &[refund]).unwrap();
    assert_eq!(tree.root(), posted.root);

    // A third epoch refunds it no second time.
    let deadline = Instant::now() + WAIT;
    while at_node.last_final().await.unwrap() < epoch {
        assert!(Instant::now() < deadline, "the payout never became final");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let claim = tree.claim(payer.address()).unwrap();
    assert_eq!(at_payer.claim(&claim.leaf, &claim.opening).await.unwrap().0, TAKEN);
    at_node.submit_node_root(&empty(epoch + 1)).await.unwrap();
    wait_posted(&at_node, epoch + 1).await;
    assert_eq!(at_node.epoch(epoch + 1).await.unwrap().total, TAKEN);
    running.abort();
    devnet.stop().await;
}
