//! A chain, the settlement services of some nodes in this process, and receipts as they would have signed them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use attribution::bundle::Bundle;
use chain_bridge::{
    availability::Calldata,
    client::ChainClient,
    devnet::{Devnet, DevnetConfig},
    registry::{State, money::ROLE_POSTER},
};
use node::{
    books::Books,
    chain::Chained,
    payouts::Payouts,
    service::{
        SETTLEMENT_TAG,
        settlement::{
            Settling,
            own::OwnRoots,
            sealed::{Draws, NoDraws},
            trees::Trees,
        },
    },
};
use p2p::{
    client::{Connection, Limits, Server},
    identity::NodeSeed,
    overlay::{Overlay, OverlayConfig, OverlayHandle},
    proto::ads::{Ad, AdSite, Services},
    stream::FrameStream,
};
use serde_json::{Value, json};
use storage::store::{Config as StoreConfig, Store};
use tokio::task::JoinSet;
use types::{
    amount::{Amount, WEI_PER_OPEN},
    encoding::{Body, Document as _},
    id::{Address, Hash32, NodeId},
    key::{Account, Signed},
    manifest::Manifest,
    quote::{Class, Profile, Quote},
    receipt::{Reason, Receipt, token_ids_hash},
    request::{Request, SamplingRule},
    split::SplitTable,
    time::BlockRef,
    voucher::{Lane, Voucher},
};

pub(crate) const WAIT: Duration = Duration::from_secs(120);

pub(crate) fn account(byte: u8) -> Account {
    Account::from_bytes(&[byte; 32]).unwrap()
}

pub(crate) fn anvil() -> PathBuf {
    let bundled =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain-bridge/contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    std::env::var_os("TRIBUTARY_ANVIL").map_or(bundled, PathBuf::from)
}

/// A chain with windows of `w1_s` and `w2_s` seconds.
pub(crate) async fn devnet(w1_s: u64, w2_s: u64) -> Devnet {
    devnet_answering(w1_s, w2_s, 4).await
}

/// The same, where a poster has `payout_answer_s` seconds to answer.
pub(crate) async fn devnet_answering(w1_s: u64, w2_s: u64, payout_answer_s: u64) -> Devnet {
    let mut config = DevnetConfig::new(anvil());
    config.deploy.payout_answer_s = payout_answer_s;
    (config.deploy.w1_s, config.deploy.w2_s, config.deploy.answer_s) = (w1_s, w2_s, 4);
    config.deploy.unbonding_s = config.deploy.unbonding_s.max(2 * (w1_s + w2_s));
    config.deploy.honour_s = config.deploy.unbonding_s;
    Devnet::start(config).await.unwrap()
}

pub(crate) async fn mine(client: &ChainClient, blocks: u64) {
    let _: Value = client.rpc().request("anvil_mine", json!([format!("0x{blocks:x}")])).await.unwrap();
}

/// Waits for something; `what` names it.
pub(crate) async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come about within {} s", WAIT.as_secs());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Somebody with an account, a node key and a staked place among the operators.
pub(crate) struct Operator {
    pub(crate) account: Account,
    pub(crate) seed: NodeSeed,
    pub(crate) chained: Chained,
    pub(crate) books: Arc<Books>,
    pub(crate) overlay: OverlayHandle,
    folder: tempfile::TempDir,
    /// Who is drawn to check its answers: nobody, unless a test says so.
    pub(crate) draws: Arc<dyn Draws>,
    /// What runs for it, as long as it is there.
    pub(crate) tasks: JoinSet<()>,
}

impl Operator {
    /// Funded and staked; a poster too if it `is_poster`. Knows the overlay of `peers`.
    pub(crate) async fn new(devnet: &Devnet, byte: u8, is_poster: bool, peers: &[&Self]) -> Self {
        let (account, seed) = (account(byte), NodeSeed::new([byte; 32]));
        devnet.fund(&[(account.address(), Amount(1_000 * WEI_PER_OPEN))]).await.unwrap();
        let chained = Chained::open(devnet.url(), devnet.deployment().clone(), Some(account.clone())).await.unwrap();
        chained.client.stake(seed.node_id(), 1, account.address(), Amount(100 * WEI_PER_OPEN)).await.unwrap();
        if is_poster {
            chained.client.join(ROLE_POSTER, Amount::ZERO).await.unwrap();
        }
        let bootstrap = peers.iter().flat_map(|peer| peer.overlay.listen_addrs()).collect();
        let (overlay, mut events) = Overlay::start(OverlayConfig::loopback(seed.clone(), bootstrap)).await.unwrap();
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), StoreConfig::default()).unwrap();
        let books = Arc::new(Books::new(store.records()));
        Self { account, seed, chained, books, overlay, folder, draws: Arc::new(NoDraws), tasks: JoinSet::new() }
    }

    pub(crate) fn address(&self) -> Address {
        self.account.address()
    }

    pub(crate) fn client(&self) -> &ChainClient {
        &self.chained.client
    }

    /// Where its records lie.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Where it keeps payouts.
    pub(crate) fn payouts(&self) -> PathBuf {
        self.folder.path().join("payouts")
    }

    /// Its settlement service.
    pub(crate) fn settling(&self, is_poster: bool, watches: bool) -> Arc<Settling> {
        self.settling_with(is_poster, watches, None)
    }

    /// The same, putting the lines of its payouts into calldata too.
    pub(crate) fn settling_with(&self, is_poster: bool, watches: bool, calldata: Option<Calldata>) -> Arc<Settling> {
        Arc::new(Settling {
            account: self.account.clone(),
            node: self.seed.node_id(),
            deployment: self.chained.deployment().clone(),
            chain: self.chained.client.clone(),
            books: Arc::clone(&self.books),
            payouts: Payouts::new(self.payouts()),
            calldata,
            overlay: self.overlay.clone(),
            seed: self.seed.clone(),
            is_poster,
            watches,
            is_relaying: false,
            snapshots: self.chained.snapshots(),
            turn: tokio::sync::Mutex::new(()),
            notes: std::sync::Mutex::default(),
            trees: Trees::default(),
            own_roots: OwnRoots::default(),
            draws: Arc::clone(&self.draws),
        })
    }

    /// Answers questions about settlement at an address that its ad names.
    pub(crate) async fn answer_with<F>(
        &mut self,
        answer: impl Fn(NodeId, FrameStream, Vec<u8>) -> F + Send + Sync + Clone + 'static,
    ) -> SocketAddr
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut server = Server::bind(([127, 0, 0, 1], 0).into(), &self.seed, Limits::default()).unwrap();
        let address = server.local_addr().unwrap();
        self.advertise(address).await;
        self.tasks.spawn(async move {
            while let Some(connection) = server.accept().await {
                tokio::spawn(serve(connection, answer.clone()));
            }
        });
        address
    }

    /// Serves what a settlement service answers.
    pub(crate) async fn serve(&mut self, settling: &Arc<Settling>) -> SocketAddr {
        let settling = Arc::clone(settling);
        self.answer_with(move |remote, stream, frame| {
            let settling = Arc::clone(&settling);
            async move { settling.serve(remote, stream, &frame).await }
        })
        .await
    }

    async fn advertise(&self, client_addr: SocketAddr) {
        let ad = Ad {
            node: self.seed.node_id(),
            account: self.address(),
            incarnation: 0,
            seq: 0,
            ttl_s: 30,
            client_addr,
            bulk_addr: client_addr,
            overlay_addrs: Vec::new(),
            site: AdSite::default(),
            services: Services::default(),
            bases: Vec::new(),
            adapters: Vec::new(),
            profile: None,
            rin: Amount::ZERO,
            rout: Amount::ZERO,
            queue: 0,
            ttft_ms: 0,
            tokens_per_s: 0,
            leaving: false,
        };
        self.overlay.set_ad(ad).await.unwrap();
    }

    /// The books at the chain's latest block.
    pub(crate) async fn state(&self) -> Arc<State> {
        self.chained.state().await.unwrap()
    }

    /// A receipt of `fee` wei on a lane of its own, kept as the node keeps one that it signed; `payer` has the deposit for it.
    pub(crate) async fn keep_receipt(&self, payer: &Account, nonce: u64, fee: Amount) -> Bundle {
        self.keep_changed(payer, nonce, fee, |_| {}).await
    }

    /// The same with a receipt that is not what was agreed, signed anew by the node.
    pub(crate) async fn keep_changed(&self, payer: &Account, nonce: u64, fee: Amount, change: impl FnOnce(&mut Receipt)) -> Bundle {
        let block = self.client().latest().await.unwrap().block;
        let mut bundle = bundle(self, payer, nonce, fee, block);
        let mut receipt = bundle.receipt.document.clone();
        change(&mut receipt);
        bundle.receipt = Signed::new(&self.account, &bundle.domains, receipt);
        self.books.keep_receipt(&bundle, &bundle.lane, &bundle.voucher).unwrap();
        bundle
    }
}

async fn serve<F: Future<Output = ()> + Send + 'static>(connection: Connection, answer: impl Fn(NodeId, FrameStream, Vec<u8>) -> F) {
    while let Ok(mut stream) = connection.accept_stream().await {
        let Ok(Some(mut frame)) = stream.recv(1 << 16).await else { continue };
        if !frame.is_empty() && frame.remove(0) == SETTLEMENT_TAG {
            tokio::spawn(answer(connection.remote(), stream, frame));
        }
    }
}

/// A funded payer with a deposit.
pub(crate) async fn payer(devnet: &Devnet, byte: u8) -> Account {
    let payer = account(byte);
    devnet.fund(&[(payer.address(), Amount(1_000 * WEI_PER_OPEN))]).await.unwrap();
    let client = ChainClient::connect(devnet.url(), devnet.deployment().clone(), Some(payer.clone())).await.unwrap();
    client.deposit(Amount(10 * WEI_PER_OPEN)).await.unwrap();
    payer
}

pub(crate) fn bundle(node: &Operator, payer: &Account, nonce: u64, fee: Amount, block: BlockRef) -> Bundle {
    let domains = node.chained.deployment().domains();
    let split = SplitTable { node: 6_000, stakers: 4_000, ..SplitTable::default() };
    let manifest = Manifest { assets: vec![], split, index: Hash32::ZERO, parameters: 1, datanets: vec![] };
    let quote = Quote {
        node: node.address(),
        manifest: manifest.root(),
        profile: Profile::Exact,
        class: Class::Open,
        rate_in: Amount(0),
        rate_out: Amount(1_000),
        protocol_fee: Amount(1),
        tokens_max: 1 << 30,
        block,
        expiry: block.number + 100,
    };
    let request = Request {
        client: payer.address(),
        nonce,
        manifest: manifest.root(),
        rate_in_max: Amount(1 << 60),
        rate_out_max: Amount(1 << 60),
        profile: Profile::Exact,
        class: Class::Open,
        sampling: SamplingRule::default(),
        options: Hash32::ZERO,
        prompt_root: Hash32::ZERO,
        tokens_max: 1 << 30,
        spending_limit: Amount(WEI_PER_OPEN),
    };
    let lane = Lane { payer: payer.address(), node: node.address(), cap: Amount(WEI_PER_OPEN), expiry: block.number + 10_000, nonce };
    let tokens = u32::try_from(fee.0 - 1).unwrap();
    let voucher = Voucher {
        lane: lane.id(),
        request: request.id(),
        attempt: 0,
        quote: quote.hash(),
        first_token: 0,
        tokens_in: 10,
        tokens_out: tokens,
        token_ids: token_ids_hash(&[1, 2, 3]),
        base: Amount::ZERO,
        cumulative: fee,
    };
    let receipt = Receipt {
        request: request.id(),
        attempt: 0,
        client: payer.address(),
        node: node.address(),
        lane: lane.id(),
        cumulative_after: fee,
        manifest: manifest.root(),
        index: Hash32::ZERO,
        parameters: 1,
        profile: Profile::Exact,
        class: Class::Open,
        block,
        prompt_root: Hash32::ZERO,
        answer_root: Hash32::ZERO,
        token_ids: token_ids_hash(&[1, 2, 3]),
        tokens_in: 10,
        first_token: 0,
        tokens_out: tokens,
        quote: quote.hash(),
        fee,
        reason: Reason::Stop,
        weight_total: 0,
        fingerprint_root: Hash32::ZERO,
        assets: vec![],
        spans: vec![],
        masks: vec![],
    };
    Bundle {
        domains,
        receipt: Signed::new(&node.account, &domains, receipt),
        request: Signed::new(payer, &domains, request),
        options: Body::default(),
        quote: Signed::new(&node.account, &domains, quote),
        lane: Signed::new(payer, &domains, lane),
        session: None,
        voucher: Signed::new(payer, &domains, voucher),
        manifest,
        messages: vec![],
        prompt_salt: Hash32::ZERO,
        answer: String::new(),
        answer_salt: Hash32::ZERO,
        continued: vec![],
        token_ids: vec![1, 2, 3],
        openings: vec![],
        fingerprints: vec![],
    }
}
