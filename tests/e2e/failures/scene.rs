//! Where failures happen: the nodes' doors, a payer with a deposit for every class, and the table of what was injected.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chain_bridge::client::ChainClient;
use futures::{StreamExt as _, future::join_all, stream};
use harness::{
    Cluster, Party,
    cluster::text,
    files,
    wire::{Payer, Talk},
};
use inference::proto::message::{Begin, FromClient, Refusal, RefusalCode};
use node::chain::Chained;
use p2p::{
    client::{Client, Connection, Limits},
    identity::NodeSeed,
};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::{Address, AssetVersion, Hash32, NodeId},
    key::{Account, Signed},
    manifest::Manifest,
    merkle::keccak,
    quote::Quote,
};

use super::{Plan, adapters, left, process, refused};

/// What is asked everywhere: prompts are short because reading them is what an answer costs first.
pub(super) const WORDS: &str = "Hi";
/// Tokens asked for.
pub(super) const TOKENS: u32 = 12;
/// Failures under way at once in one class.
const TOGETHER: usize = 12;
/// Times a failure is injected again where the connection under it broke: on a machine that is busy with other things it does, after half a second.
const TRIES: usize = 20;
/// Longest wait for a node to serve something.
const SERVED_WAIT: Duration = Duration::from_secs(60);
/// Deposit of a payer.
const DEPOSIT: Amount = Amount(5 * WEI_PER_OPEN);

/// A kind of failure.
#[derive(Debug)]
pub(super) struct Class {
    /// What happens.
    pub(super) name: &'static str,
    /// How many of ten thousand.
    share: usize,
    /// What its payer has in escrow.
    deposit: Amount,
}

impl Class {
    pub(super) const fn new(name: &'static str, share: usize) -> Self {
        Self { name, share, deposit: DEPOSIT }
    }

    pub(super) const fn with_deposit(self, deposit: Amount) -> Self {
        Self { deposit, ..self }
    }
}

/// A class's line of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) class: &'static str,
    pub(super) count: usize,
    pub(super) took: Duration,
    /// Injected again because a connection broke.
    pub(super) again: usize,
}

/// A node as clients reach it, over one connection that is made anew when it breaks.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) account: Address,
    node: NodeId,
    addr: Mutex<SocketAddr>,
    quic: Client,
    connection: tokio::sync::Mutex<Option<Connection>>,
}

impl Door {
    fn to(party: &Party) -> Self {
        let addr = party.addresses.as_ref().expect("the node runs").clients;
        Self::of(party.account, party.node, addr)
    }

    fn of(account: Address, node: NodeId, addr: SocketAddr) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let quic = Client::bind(loopback, &NodeSeed::generate(), Limits::default()).expect("a socket");
        Self { account, node, addr: Mutex::new(addr), quic, connection: tokio::sync::Mutex::new(None) }
    }

    /// Another client's connection to the same node.
    pub(super) fn another(&self) -> Self {
        Self::of(self.account, self.node, *self.addr.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The node was started again and listens elsewhere.
    pub(super) fn moved(&self, party: &Party) {
        *self.addr.lock().unwrap_or_else(PoisonError::into_inner) = party.addresses.as_ref().expect("the node runs").clients;
    }

    pub(super) async fn connection(&self) -> Result<Connection, String> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref().filter(|connection| connection.loss().is_none()) {
            return Ok(connection.clone());
        }
        let addr = *self.addr.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = self.quic.connect(addr, Some(self.node)).await.map_err(|error| format!("no stream: {error}"))?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    pub(super) async fn talk(&self) -> Result<Talk, String> {
        Talk::open(&self.connection().await?).await.ok_or_else(|| "no stream".to_owned())
    }

    /// A stream on which an offer was made.
    pub(super) async fn quoted(&self, manifest: &Manifest) -> Result<(Talk, Signed<Quote>), String> {
        let mut talk = self.talk().await?;
        let quote = talk.quote(manifest.root(), TOKENS).await?;
        Ok((talk, quote))
    }

    /// An offer, over as many connections as it takes.
    pub(super) async fn offer(&self, manifest: &Manifest) -> Signed<Quote> {
        for _ in 0..TRIES {
            match self.quoted(manifest).await {
                Ok((_, quote)) => return quote,
                Err(why) => assert!(is_broken(&why), "{} makes no offer: {why}", self.account),
            }
        }
        panic!("{}: the connection broke {TRIES} times", self.account)
    }

    /// Waits until the node makes offers for something.
    pub(super) async fn serves(&self, manifest: &Manifest) {
        let deadline = Instant::now() + SERVED_WAIT;
        while let Err(why) = self.quoted(manifest).await {
            assert!(Instant::now() < deadline, "{} does not serve: {why}", self.account);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The place of a campaign.
pub(super) struct Scene<'c> {
    pub(super) cluster: &'c Cluster,
    pub(super) plan: Plan,
    /// The two nodes that take every failure of requests.
    pub(super) doors: [Door; 2],
    /// The node that is killed.
    pub(super) third: Door,
    /// The base's.
    pub(super) manifest: Manifest,
    payers: BTreeMap<&'static str, Payer>,
    rows: RefCell<Vec<Row>>,
}

/// What a campaign leaves behind.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) rows: Vec<Row>,
}

impl Ended {
    pub(super) fn failures(&self) -> usize {
        self.rows.iter().filter(|row| row.class != left::PAID.name).map(|row| row.count).sum()
    }
}

impl<'c> Scene<'c> {
    /// Publishes the base, deposits for every payer, and waits until every node serves.
    pub(super) async fn set(cluster: &'c Cluster, third: &Party, plan: Plan) -> Self {
        let domains = cluster.chain.domains();
        let classes = [refused::CLASSES.as_slice(), &left::CLASSES, &adapters::CLASSES, &process::CLASSES].concat();
        let payers: BTreeMap<_, _> = classes.iter().map(|class| (class.name, Payer::new(account(class.name), domains))).collect();
        assert_eq!(payers.len(), classes.len(), "every class has a name of its own");
        let gifts: Vec<_> = payers.values().map(|payer| (payer.address(), Amount(10 * WEI_PER_OPEN))).collect();
        let model = files::tiny_model();
        let publish = ["model", "publish", text(&model), "--name", "tiny"];
        let (published, funded) = tokio::join!(cluster.run(cluster.person("author"), &publish), cluster.devnet.fund(&gifts));
        funded.expect("the faucet pays");
        join_all(
            classes.iter().filter(|class| class.deposit > Amount::ZERO).map(async |class| {
                client(cluster, payers[class.name].account.clone()).await.deposit(class.deposit).await.expect("a deposit")
            }),
        )
        .await;
        let version = node::command::adapter::parse_version(published["version"].as_str().expect("a version")).expect("a version");
        let manifest = manifest(cluster, version).await;
        let [first, second] = [&cluster.nodes[0], &cluster.nodes[1]].map(Door::to);
        let scene =
            Self { cluster, plan, doors: [first, second], third: Door::to(third), manifest, payers, rows: RefCell::new(Vec::new()) };
        join_all(scene.doors.iter().chain([&scene.third]).map(|door| door.serves(&scene.manifest))).await;
        cluster.say(&format!("{} payers have deposits, every node serves", scene.payers.len()));
        scene
    }

    pub(super) fn payer(&self, class: &Class) -> &Payer {
        &self.payers[class.name]
    }

    /// Every payer, by class.
    pub(super) const fn payers(&self) -> &BTreeMap<&'static str, Payer> {
        &self.payers
    }

    /// What an honest client would send under an offer.
    pub(super) fn begin(&self, door: &Door, payer: &Payer, quote: &Signed<Quote>) -> Begin {
        payer.begin(quote, payer.request(&quote.document, WORDS), payer.lane(door.account), &self.manifest, WORDS)
    }

    /// Injects as many failures of a class as the plan has, in turns at both nodes.
    pub(super) async fn run(&self, class: &Class, inject: impl AsyncFn(&Door, &Payer, usize) -> Result<(), String>) {
        let (count, started) = (self.plan.of(class.share), Instant::now());
        let payer = self.payer(class);
        let tries = stream::iter(0..count).map(|number| {
            let (inject, door) = (&inject, &self.doors[number % self.doors.len()]);
            async move { tried(class, number, async || inject(door, payer, number).await).await }
        });
        let again = tries.buffer_unordered(TOGETHER).collect::<Vec<_>>().await.into_iter().sum();
        self.note(class, count, started, again);
    }

    /// So many failures of a class came about since `started`.
    pub(super) fn note(&self, class: &Class, count: usize, started: Instant, again: usize) {
        let took = started.elapsed();
        self.cluster.say(&format!("{count} x {}, {:.1} s", class.name, took.as_secs_f64()));
        self.rows.borrow_mut().push(Row { class: class.name, count, took, again });
    }

    /// How many of a class the plan has.
    pub(super) fn count(&self, class: &Class) -> usize {
        self.plan.of(class.share)
    }

    pub(super) fn ended(self) -> Ended {
        Ended { rows: self.rows.into_inner() }
    }
}

/// Injects one failure; returns how often it had to be done again.
pub(super) async fn tried(class: &Class, number: usize, inject: impl AsyncFn() -> Result<(), String>) -> usize {
    for again in 0..TRIES {
        match inject().await {
            Ok(()) => return again,
            // The connection, not the failure.
            Err(why) if is_broken(&why) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(why) => panic!("{}, number {number}: {why}", class.name),
        }
    }
    panic!("{}, number {number}: its connection broke {TRIES} times", class.name)
}

/// Whether it was the connection that failed.
fn is_broken(why: &str) -> bool {
    why.contains("Broke(") || why.contains("no stream")
}

/// A key that follows from a name.
pub(super) fn account(name: &str) -> Account {
    Account::from_bytes(&keccak(&[b"failures", name.as_bytes()]).0).expect("a hash below the order")
}

/// The chain, with the key of whoever sends.
pub(super) async fn client(cluster: &Cluster, account: Account) -> ChainClient {
    ChainClient::connect(cluster.devnet.url(), cluster.devnet.deployment().clone(), Some(account)).await.expect("the chain answers")
}

/// What answers of a version name, once its index root is on the chain.
pub(super) async fn manifest(cluster: &Cluster, version: AssetVersion) -> Manifest {
    let chain = Chained::open(cluster.devnet.url(), cluster.devnet.deployment().clone(), None).await.expect("the chain answers");
    let deadline = Instant::now() + SERVED_WAIT;
    loop {
        match chain.state().await.expect("the books follow the chain").manifest(version) {
            Ok(manifest) => return manifest,
            Err(why) => assert!(Instant::now() < deadline, "{version} has no manifest: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Begins, and is refused as expected.
pub(super) async fn is_refused(talk: &mut Talk, begin: &Begin, code: RefusalCode, words: &str) -> Result<(), String> {
    talk.send(&FromClient::Begin(Box::new(begin.clone()))).await;
    says(&talk.refusal().await?, code, words)
}

/// Whether a refusal is the expected one.
pub(super) fn says(refusal: &Refusal, code: RefusalCode, words: &str) -> Result<(), String> {
    let is_it = refusal.code == code && refusal.message.contains(words);
    if is_it { Ok(()) } else { Err(format!("expected {code:?} with {words:?}, came {refusal:?}")) }
}

/// Numbers that look like chance and are the same in every run.
pub(super) fn mixed(class: &Class, number: usize, field: &str) -> u64 {
    let digest = keccak(&[class.name.as_bytes(), &number.to_be_bytes(), field.as_bytes()]);
    u64::from_be_bytes(digest.0[..8].try_into().expect("eight bytes"))
}

/// A hash that names nothing.
pub(super) const NOWHERE: Hash32 = Hash32([0xee; 32]);
