//! A client that cheats, frame by frame, against the real service over real streams: what it promised stands, what it forged is refused by name,
//! and nothing is charged that it did not sign.
//!
//! No chain is needed: deposits come from a fake, offers are given. The tiny model answers in milliseconds.

#![expect(clippy::unwrap_used, reason = "a test asserts by unwrapping, also in its helpers")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicU64, atomic::Ordering},
    time::{Duration, Instant},
};

use attribution::{bundle, index::Index};
use chain_bridge::{
    follow::Snapshot,
    lanes::SessionRight,
    registry::{Event, Logged, State},
};
use inference::{
    engine::{EngineConfig, EngineHandle},
    proto::{
        message::{Begin, CLIENT_FRAME_MAX, FromClient, FromNode, NODE_FRAME_MAX, RefusalCode, Turn, encode},
        payment::Terms,
    },
};
use node::{
    books::Books,
    evidence,
    service::inference::{Answering, Escrow, Ledger, Offer},
};
use p2p::{
    client::{Client, Connection, Limits, Server},
    identity::NodeSeed,
    stream::FrameStream,
};
use storage::store::{Config as StoreConfig, Store};
use tokio::{
    sync::{RwLock, watch},
    time::timeout,
};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    encoding::Document as _,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    key::{Account, Domains, Signed},
    manifest::{AssetKind, Manifest, ManifestAsset},
    quote::{Class, Profile, Quote},
    receipt::Reason,
    request::{Request, SamplingRule},
    split::SplitTable,
    text,
    time::BlockRef,
    voucher::{Lane, Voucher},
};

/// Tokens asked for: less than what one voucher covers, so the honest course is three vouchers at most.
const TOKENS: u32 = 24;
/// Longest wait for one frame.
const WAIT: Duration = Duration::from_secs(20);

/// What the escrow says: every payer's deposit, and its session keys.
#[derive(Debug, Default)]
struct Desk {
    deposit: Amount,
    sessions: BTreeMap<(Address, Address), SessionRight>,
}

#[derive(Debug)]
struct Deposit(Arc<Mutex<Desk>>);

impl Escrow for Deposit {
    async fn free_balance(&self, _: Address, _: Amount) -> anyhow::Result<Amount> {
        Ok(self.0.lock().unwrap().deposit)
    }

    async fn session(&self, payer: Address, signer: Address) -> anyhow::Result<Option<SessionRight>> {
        Ok(self.0.lock().unwrap().sessions.get(&(payer, signer)).copied())
    }
}

/// What one client may cost the node: some hundred answers of one unpaid token.
const WILLING: Amount = Amount(30_000_000_000_000_000);

/// A node's answering service behind a socket, and a client's connection to it.
struct World {
    connection: Connection,
    books: Arc<Books>,
    node: Address,
    client: Account,
    domains: Domains,
    manifest: Manifest,
    nonce: AtomicU64,
    deposit: Arc<Mutex<Desk>>,
    chain: watch::Sender<Arc<Snapshot>>,
    _client: Client,
    _folder: tempfile::TempDir,
}

fn account(byte: u8) -> Account {
    Account::from_bytes(&[byte; 32]).unwrap()
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny.gguf");
        inference::tiny::write_model(&model, 1).unwrap();
        let engine = EngineHandle::start(EngineConfig::new(&model)).unwrap();
        let index = Arc::new(Index::new(vec![]).unwrap());
        let base = ManifestAsset {
            kind: AssetKind::Base,
            version: AssetVersion { asset: AssetId(1), version: 1 },
            content: BlobId(engine.info().hash),
        };
        let split = SplitTable { node: 4_000, base: 2_500, data: 3_000, stakers: 500, ..SplitTable::default() };
        let manifest = Manifest { assets: vec![base], split, index: index.root(), parameters: 1, datanets: vec![] };
        let offer = Offer { manifest: manifest.clone(), index, adapter: None };
        let domains = Domains {
            chain_id: 31_337,
            escrow: Address([1; 20]),
            registry: Address([2; 20]),
            settlement: Address([3; 20]),
            stake: Address([4; 20]),
        };
        let store = Store::open(&folder.path().join("store"), StoreConfig::default()).unwrap();
        let books = Arc::new(Books::new(store.records()));
        let tip = BlockRef { number: 100, hash: Hash32([9; 32]) };
        let (chain, snapshots) = watch::channel(Arc::new(Snapshot { tip, ..Snapshot::default() }));
        let deposit = Arc::new(Mutex::new(Desk { deposit: Amount(WEI_PER_OPEN), ..Desk::default() }));
        let answering = Arc::new(Answering {
            engine,
            account: account(1),
            domains,
            rates: (Amount(2_000_000_000_000_000), Amount(6_000_000_000_000_000)),
            offers: Arc::new(RwLock::new(BTreeMap::from([(manifest.root(), Arc::new(offer))]))),
            snapshots,
            books: Arc::clone(&books),
            escrow: Deposit(Arc::clone(&deposit)),
            ledger: Ledger::new(WILLING),
        });
        let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
        let seed = NodeSeed::generate();
        let mut server = Server::bind(loopback, &seed, Limits::default()).unwrap();
        let addr = server.local_addr().unwrap();
        tokio::spawn(async move {
            while let Some(connection) = server.accept().await {
                while let Ok(mut stream) = connection.accept_stream().await {
                    let answering = Arc::clone(&answering);
                    tokio::spawn(async move {
                        if let Ok(Some(first)) = stream.recv(CLIENT_FRAME_MAX).await {
                            answering.serve(stream, first).await;
                        }
                    });
                }
            }
        });
        let client = Client::bind(loopback, &NodeSeed::generate(), Limits::default()).unwrap();
        let connection = client.connect(addr, Some(seed.node_id())).await.unwrap();
        Self {
            connection,
            books,
            node: account(1).address(),
            client: account(2),
            domains,
            manifest,
            nonce: AtomicU64::new(1),
            deposit,
            chain,
            _client: client,
            _folder: folder,
        }
    }

    async fn talk(&self) -> Talk {
        Talk(self.connection.open_stream().await.unwrap())
    }

    /// A lane to this node with that cap.
    fn lane(&self, cap: u128, nonce: u64) -> Signed<Lane> {
        let lane = Lane { payer: self.client.address(), node: self.node, cap: Amount(cap), expiry: 10_000, nonce };
        Signed::new(&self.client, &self.domains, lane)
    }

    /// An honest beginning on that lane.
    fn begin(&self, quote: Signed<Quote>, lane: Signed<Lane>) -> Begin {
        let turns = vec![Turn { role: 2, content: "What is gout?".into() }];
        let prompt_salt = Hash32([7; 32]);
        let request = Request {
            client: self.client.address(),
            nonce: self.nonce.fetch_add(1, Ordering::Relaxed),
            manifest: self.manifest.root(),
            rate_in_max: quote.document.rate_in,
            rate_out_max: quote.document.rate_out,
            profile: Profile::CandleF32B1,
            class: Class::Open,
            sampling: SamplingRule::default(),
            prompt_root: text::prompt_root(&evidence::prompt_bytes(&turns).unwrap(), prompt_salt),
            tokens_max: TOKENS,
            spending_limit: Amount(WEI_PER_OPEN),
        };
        let request = Signed::new(&self.client, &self.domains, request);
        Begin { request, attempt: 0, quote, lane, session: None, manifest: self.manifest.clone(), turns, prompt_salt, continued: vec![] }
    }

    /// Quote, beginning and the first token of an answer on a lane.
    async fn first_token(&self, lane: Signed<Lane>) -> Answer {
        self.first_token_by(lane, None).await
    }

    /// The same with a session key named.
    async fn first_token_by(&self, lane: Signed<Lane>, session: Option<Address>) -> Answer {
        let mut talk = self.talk().await;
        let quote = talk.quote(&self.manifest).await;
        let begin = Begin { session, ..self.begin(quote, lane) };
        talk.send(&FromClient::Begin(Box::new(begin.clone()))).await;
        let FromNode::Begun { tokens_in, base } = talk.recv().await else { panic!("no beginning") };
        let quote = &begin.quote.document;
        let terms = Terms {
            lane: begin.lane.document.id(),
            request: begin.request.document.id(),
            attempt: 0,
            quote: quote.hash(),
            continued: vec![],
            tokens_in,
            base,
            rate_in: quote.rate_in,
            rate_out: quote.rate_out,
            protocol_fee: quote.protocol_fee,
        };
        let mut answer = Answer { talk, begin, terms, tokens: vec![] };
        answer.token().await;
        answer
    }

    fn sign(&self, voucher: Voucher) -> FromClient {
        FromClient::Voucher(Box::new(Signed::new(&self.client, &self.domains, voucher)))
    }

    /// An answer paid to its end; its last voucher.
    async fn honest(&self, lane: &Signed<Lane>) -> (Answer, Voucher) {
        let mut answer = self.first_token(lane.clone()).await;
        answer.talk.send(&self.sign(answer.due())).await;
        let reason = answer.rest_of_it().await;
        assert!(matches!(reason, Reason::Length | Reason::Stop), "{reason:?}");
        let last = answer.due();
        answer.talk.send(&self.sign(last)).await;
        let FromNode::Receipt(delivered) = answer.talk.recv().await else { panic!("no receipt") };
        let voucher = Signed::new(&self.client, &self.domains, last);
        let kept = evidence::assemble(&self.domains, &answer.begin, &voucher, *delivered, &answer.tokens).unwrap();
        bundle::verify(&kept).unwrap();
        (answer, last)
    }

    /// Receipts kept, and what a lane stands at.
    fn charged(&self, lane: &Signed<Lane>) -> (u64, Amount) {
        let record = self.books.lane(lane.document.id()).unwrap();
        (self.books.counts().unwrap().0, record.map_or(Amount::ZERO, |record| record.voucher.document.cumulative))
    }

    /// Waits until so many receipts are kept: the node may still be writing when the client has its refusal.
    async fn receipts(&self, count: u64) {
        let deadline = Instant::now() + WAIT;
        while self.books.counts().unwrap().0 < count {
            assert!(Instant::now() < deadline, "{count} receipts were due, {} are kept", self.books.counts().unwrap().0);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// An answer under way on the client's side.
struct Answer {
    talk: Talk,
    begin: Begin,
    terms: Terms,
    tokens: Vec<u32>,
}

impl Answer {
    async fn token(&mut self) {
        let FromNode::Token { index, id, .. } = self.talk.recv().await else { panic!("no token") };
        assert_eq!(usize::try_from(index).unwrap(), self.tokens.len());
        self.tokens.push(id);
    }

    /// The voucher for all tokens so far.
    fn due(&self) -> Voucher {
        self.terms.voucher(&self.tokens).unwrap()
    }

    async fn rest_of_it(&mut self) -> Reason {
        loop {
            match self.talk.recv().await {
                FromNode::Token { id, .. } => self.tokens.push(id),
                FromNode::Finished { reason } => return reason,
                other => panic!("{other:?}"),
            }
        }
    }
}

struct Talk(FrameStream);

impl Talk {
    async fn send(&mut self, message: &FromClient) {
        self.0.send(&encode(message)).await.unwrap();
    }

    async fn recv(&mut self) -> FromNode {
        let frame = timeout(WAIT, self.0.recv(NODE_FRAME_MAX)).await.unwrap().unwrap().expect("the stream ended");
        FromNode::decode(&frame).unwrap()
    }

    async fn quote(&mut self, manifest: &Manifest) -> Signed<Quote> {
        let ask = FromClient::QuoteAsk { manifest: manifest.root(), profile: Profile::CandleF32B1, class: Class::Open, tokens_max: TOKENS };
        self.send(&ask).await;
        let FromNode::Quote(quote) = self.recv().await else { panic!("no quote") };
        quote
    }

    /// The refusal that must come, behind tokens that were under way.
    async fn refusal(&mut self, code: RefusalCode, words: &str) {
        loop {
            match self.recv().await {
                FromNode::Token { .. } | FromNode::Finished { .. } => {}
                FromNode::Refused(refusal) => {
                    assert!(refusal.code == code && refusal.message.contains(words), "expected {code:?}, {words:?}, got {refusal:?}");
                    return;
                }
                other => panic!("expected a refusal with {words:?}, got {other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_client_is_served_and_its_lane_goes_on_where_it_stood() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let (_, first) = world.honest(&lane).await;
    world.receipts(1).await;
    assert_eq!(world.charged(&lane), (1, first.cumulative));
    let (answer, second) = world.honest(&lane).await;
    world.receipts(2).await;
    assert_eq!((answer.terms.base, second.base), (first.cumulative, first.cumulative));
}

/// The books of a chain on which version 1 of asset 1 was published in block 3 and frozen in block 4.
fn frozen_version(owner: Address) -> State {
    let (asset, version) = (AssetId(1), AssetVersion { asset: AssetId(1), version: 1 });
    let published = Event::Published {
        version,
        content: BlobId([7; 32]),
        parents: vec![],
        split: SplitTable { node: 4_000, base: 2_500, data: 3_000, stakers: 500, ..SplitTable::default() },
        datanets: vec![],
        licence: Hash32::ZERO,
        parent_share_min: 0,
    };
    let registered = Event::Registered { asset, kind: AssetKind::Base, owner, uri: "tributary:base:tiny".into() };
    let mut state = State::default();
    for (number, event) in (1..).zip([Event::Transferred { asset, to: owner }, registered, published, Event::Frozen { version }]) {
        let block = BlockRef { number, hash: Hash32::ZERO };
        state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
    }
    state
}

/// The offers are rebuilt when every Datanet of every version is there, which may take minutes: until then the freeze alone must count, or the node
/// would bill what is void and be slashed for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_version_is_refused_while_it_is_still_offered() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let latest = Arc::new(frozen_version(world.client.address()));
    world.chain.send_replace(Arc::new(Snapshot { tip: quote.document.block, latest, ..Snapshot::default() }));
    let begin = world.begin(quote, lane.clone());
    talk.send(&FromClient::Begin(Box::new(begin))).await;
    talk.refusal(RefusalCode::NotServed, "version 1@1 was frozen in block 4").await;
    let mut talk = world.talk().await;
    let ask =
        FromClient::QuoteAsk { manifest: world.manifest.root(), profile: Profile::CandleF32B1, class: Class::Open, tokens_max: TOKENS };
    talk.send(&ask).await;
    talk.refusal(RefusalCode::NotServed, "frozen in block 4").await;
    assert_eq!(world.charged(&lane), (0, Amount::ZERO));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_voucher_that_is_not_what_is_due_is_refused_by_field_and_charges_nothing() {
    type Forge = fn(&mut Voucher);
    let forged: [(&str, Forge); 9] = [
        ("above the lane's cap", |voucher| voucher.cumulative = Amount(WEI_PER_OPEN + 1)),
        ("cumulative", |voucher| voucher.cumulative.0 -= 1),
        ("lane", |voucher| voucher.lane = Hash32([8; 32])),
        ("request", |voucher| voucher.request = Hash32([8; 32])),
        ("quote", |voucher| voucher.quote = Hash32([8; 32])),
        ("token", |voucher| voucher.token_ids = Hash32([8; 32])),
        ("input tokens", |voucher| voucher.tokens_in -= 1),
        ("covers 9 tokens", |voucher| voucher.tokens_out = 9),
        ("covers 0 tokens", |voucher| voucher.tokens_out = 0),
    ];
    let world = World::start().await;
    for (number, (words, forge)) in (1..).zip(forged) {
        let lane = world.lane(WEI_PER_OPEN, number);
        let mut answer = world.first_token(lane.clone()).await;
        let mut voucher = answer.due();
        forge(&mut voucher);
        answer.talk.send(&world.sign(voucher)).await;
        answer.talk.refusal(RefusalCode::Voucher, words).await;
        assert_eq!(world.charged(&lane), (0, Amount::ZERO), "{words}");
    }
    let lane = world.lane(WEI_PER_OPEN, 99);
    let mut answer = world.first_token(lane.clone()).await;
    let stranger = Signed::new(&account(3), &world.domains, answer.due());
    answer.talk.send(&FromClient::Voucher(Box::new(stranger))).await;
    answer.talk.refusal(RefusalCode::Voucher, &world.client.address().to_string()).await;
    assert_eq!(world.charged(&lane), (0, Amount::ZERO));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_key_pays_while_the_escrow_lets_it_and_as_far_as_its_cap_reaches() {
    let world = World::start().await;
    let (payer, session) = (world.client.address(), account(7));
    let lane = |nonce| {
        let lane = Lane { payer, node: world.node, cap: Amount(WEI_PER_OPEN), expiry: 10_000, nonce };
        Signed::new(&session, &world.domains, lane)
    };
    let refused = async |nonce, words: &str| {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        let begin = Begin { session: Some(session.address()), ..world.begin(quote, lane(nonce)) };
        talk.send(&FromClient::Begin(Box::new(begin))).await;
        talk.refusal(RefusalCode::Voucher, words).await;
    };
    let allow = |right| world.deposit.lock().unwrap().sessions.insert((payer, session.address()), right);
    refused(1, "lets no session key").await;
    let right = SessionRight { cap: Amount(WEI_PER_OPEN), spent: Amount::ZERO, expiry: 10_000, revoked_at: None };
    allow(SessionRight { revoked_at: Some(u64::MAX), ..right });
    refused(2, "is revoked").await;
    allow(SessionRight { expiry: 900, ..right });
    refused(3, "ends at block 900").await;
    allow(SessionRight { spent: right.cap, ..right });
    refused(4, "is good for 0 wei").await;
    allow(right);

    // The payer's own signature is not what this answer was begun with.
    let mut answer = world.first_token_by(lane(5), Some(session.address())).await;
    answer.talk.send(&world.sign(answer.due())).await;
    answer.talk.refusal(RefusalCode::Voucher, &session.address().to_string()).await;
    assert_eq!(world.charged(&lane(5)), (0, Amount::ZERO));

    let mut answer = world.first_token_by(lane(6), Some(session.address())).await;
    let promised = answer.due();
    answer.talk.send(&FromClient::Voucher(Box::new(Signed::new(&session, &world.domains, promised)))).await;
    answer.token().await;
    answer.talk.0.reset(p2p::stream::code::CANCELLED);
    world.receipts(1).await;
    assert_eq!(world.charged(&lane(6)), (1, promised.cumulative));
    let kept = world.books.receipts(&[0]).unwrap();
    assert_eq!(kept[0].session, Some(session.address()));
    bundle::verify(&kept[0]).unwrap();
    // What it owes and the chain has not collected counts against its cap, and against no other key's.
    allow(SessionRight { cap: Amount(promised.cumulative.0 + 1), ..right });
    refused(7, "is good for 1 wei").await;
    world.honest(&world.lane(WEI_PER_OPEN, 8)).await;
    // A lane that a session signed is nobody else's: without the session named, the payer's signature is due.
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    talk.send(&FromClient::Begin(Box::new(world.begin(quote, lane(6))))).await;
    talk.refusal(RefusalCode::Voucher, "the Lane is signed by").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_promised_before_a_forged_frame_is_receipted() {
    let world = World::start().await;
    let forged: [fn(&World, &Answer) -> Vec<u8>; 3] = [
        |world, answer| encode(&world.sign(Voucher { cumulative: Amount(1), ..answer.due() })),
        |_, _| vec![0xff; 40],
        |_, answer| encode(&FromClient::Begin(Box::new(answer.begin.clone()))),
    ];
    for (number, forge) in (1..).zip(forged) {
        let lane = world.lane(WEI_PER_OPEN, number);
        let mut answer = world.first_token(lane.clone()).await;
        let promised = answer.due();
        answer.talk.send(&world.sign(promised)).await;
        answer.token().await;
        let frame = forge(&world, &answer);
        answer.talk.0.send(&frame).await.unwrap();
        world.receipts(number).await;
        assert_eq!(world.charged(&lane), (number, promised.cumulative), "the first token was promised, the others were not");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_promised_before_a_reset_is_receipted() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut answer = world.first_token(lane.clone()).await;
    let promised = answer.due();
    answer.talk.send(&world.sign(promised)).await;
    answer.token().await;
    answer.talk.0.reset(p2p::stream::code::CANCELLED);
    world.receipts(1).await;
    assert_eq!(world.charged(&lane), (1, promised.cumulative));
    let kept = world.books.receipts(&[0]).unwrap();
    assert_eq!((kept[0].receipt.document.reason, kept[0].receipt.document.tokens_out), (Reason::Cancelled, 1));
    bundle::verify(&kept[0]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_vouchers_and_requests_pay_for_nothing_and_get_nothing() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let (first, last) = world.honest(&lane).await;
    world.receipts(1).await;
    // A voucher of an earlier answer on the same lane.
    let mut answer = world.first_token(lane.clone()).await;
    let old = first.terms.voucher(&first.tokens[..1]).unwrap();
    answer.talk.send(&world.sign(old)).await;
    answer.talk.refusal(RefusalCode::Voucher, "request").await;
    // The same voucher twice in one answer.
    let other = world.lane(WEI_PER_OPEN, 2);
    let mut answer = world.first_token(other.clone()).await;
    let due = answer.due();
    answer.talk.send(&world.sign(due)).await;
    answer.token().await;
    answer.talk.send(&world.sign(due)).await;
    answer.talk.refusal(RefusalCode::Voucher, "covers 1 tokens").await;
    world.receipts(2).await;
    // A request that was answered, sent again in a stream of its own.
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let again = Begin { quote, ..first.begin.clone() };
    talk.send(&FromClient::Begin(Box::new(again))).await;
    talk.refusal(RefusalCode::Duplicate, "was billed here").await;
    assert_eq!(world.charged(&lane), (2, last.cumulative), "neither replay moved the lane");
    assert_eq!(world.charged(&other).1, due.cumulative);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beginnings_that_are_not_meant_for_this_node_are_refused_before_a_token() {
    type Forge = fn(&World, &mut Begin);
    let forged: [(RefusalCode, &str, Forge); 8] = [
        (RefusalCode::Voucher, "the lane is from", |world, begin| {
            let lane = Lane { node: Address([5; 20]), ..begin.lane.document };
            begin.lane = Signed::new(&world.client, &world.domains, lane);
        }),
        (RefusalCode::Voucher, "the lane is from", |world, begin| {
            let lane = Lane { payer: account(3).address(), ..begin.lane.document };
            begin.lane = Signed::new(&account(3), &world.domains, lane);
        }),
        (RefusalCode::Voucher, "expires at block 999", |world, begin| {
            // One block less than an answer and its collect may take.
            begin.lane = Signed::new(&world.client, &world.domains, Lane { expiry: 999, ..begin.lane.document });
        }),
        (RefusalCode::Voucher, "Lane", |world, begin| {
            begin.lane.signature = Signed::new(&account(3), &world.domains, begin.lane.document).signature
        }),
        (RefusalCode::Quote, "Quote", |world, begin| {
            let quote = Quote { node: account(3).address(), ..begin.quote.document };
            begin.quote = Signed::new(&account(3), &world.domains, quote);
        }),
        (RefusalCode::Quote, "Quote", |_, begin| begin.quote.document.rate_out = Amount(1)),
        (RefusalCode::Invalid, "Request", |_, begin| begin.request.document.spending_limit = Amount(u128::MAX)),
        (RefusalCode::Invalid, "commits to", |_, begin| begin.turns[0].content.push('!')),
    ];
    let world = World::start().await;
    for (number, (code, words, forge)) in (1..).zip(forged) {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        let lane = world.lane(WEI_PER_OPEN, number);
        let mut begin = world.begin(quote, lane.clone());
        forge(&world, &mut begin);
        talk.send(&FromClient::Begin(Box::new(begin))).await;
        talk.refusal(code, words).await;
        assert_eq!(world.charged(&lane), (0, Amount::ZERO), "{words}");
    }
    // A lane that pays one answer pays no second one meanwhile.
    let lane = world.lane(WEI_PER_OPEN, 50);
    let first = world.first_token(lane.clone()).await;
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let begin = world.begin(quote, lane);
    talk.send(&FromClient::Begin(Box::new(begin))).await;
    talk.refusal(RefusalCode::Busy, "is paying another answer").await;
    // A voucher without an answer, and bytes that are no frame.
    let mut talk = world.talk().await;
    let voucher = first.due();
    talk.send(&world.sign(voucher)).await;
    talk.refusal(RefusalCode::Invalid, "before the answer began").await;
    let mut talk = world.talk().await;
    talk.0.send(&[0xff; 9]).await.unwrap();
    talk.refusal(RefusalCode::Invalid, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_attempt_over_tokens_already_billed_would_convict_the_node_and_is_refused() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let (first, last) = world.honest(&lane).await;
    world.receipts(1).await;
    for (attempt, continued) in [(1, vec![]), (2, first.tokens[..first.tokens.len() - 1].to_vec())] {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        talk.send(&FromClient::Begin(Box::new(Begin { quote, attempt, continued, ..first.begin.clone() }))).await;
        talk.refusal(RefusalCode::Duplicate, "was billed here up to token").await;
    }
    assert_eq!(world.charged(&lane), (1, last.cumulative));
    // The same request on two lanes at once: one of them would be the overlap.
    let mut answer = world.first_token(world.lane(WEI_PER_OPEN, 2)).await;
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let again = Begin { quote, attempt: 1, lane: world.lane(WEI_PER_OPEN, 3), ..answer.begin.clone() };
    talk.send(&FromClient::Begin(Box::new(again))).await;
    talk.refusal(RefusalCode::Duplicate, "is being answered here").await;
    answer.talk.0.reset(p2p::stream::code::CANCELLED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_deposit_backs_answers_at_once_only_as_far_as_it_reaches() {
    let world = World::start().await;
    let first = world.first_token(world.lane(WEI_PER_OPEN, 1)).await;
    let most = first.terms.due(TOKENS).unwrap();
    world.deposit.lock().unwrap().deposit = Amount(2 * most.0);
    let _second = world.first_token(world.lane(WEI_PER_OPEN, 2)).await;
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let begin = world.begin(quote, world.lane(WEI_PER_OPEN, 3));
    talk.send(&FromClient::Begin(Box::new(begin.clone()))).await;
    talk.refusal(RefusalCode::Voucher, "beside its other answers here").await;
    // What an answer no longer needs is free again, less what it was receipted for.
    let mut first = first;
    first.talk.0.reset(p2p::stream::code::CANCELLED);
    let deadline = Instant::now() + WAIT;
    loop {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        talk.send(&FromClient::Begin(Box::new(world.begin(quote, world.lane(WEI_PER_OPEN, 3))))).await;
        if matches!(talk.recv().await, FromNode::Begun { .. }) {
            return;
        }
        assert!(Instant::now() < deadline, "the first answer's share of the deposit never came free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_first_tokens_and_pays_none_is_let_wait_and_others_are_served() {
    let world = World::start().await;
    let mut taken = 0_u64;
    loop {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        talk.send(&FromClient::Begin(Box::new(world.begin(quote, world.lane(WEI_PER_OPEN, 1_000 + taken))))).await;
        match talk.recv().await {
            FromNode::Begun { .. } => {
                assert!(matches!(talk.recv().await, FromNode::Token { .. }));
                talk.0.reset(p2p::stream::code::CANCELLED);
            }
            FromNode::Refused(refusal) => {
                assert_eq!(refusal.code, RefusalCode::Busy, "{refusal:?}");
                if refusal.message.contains("without paying") {
                    break;
                }
                // The engine is still letting go of earlier ones.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => panic!("{other:?}"),
        }
        taken += 1;
        assert!(taken < 2_000, "prompts and first tokens were given away without bound");
    }
    assert!(taken > 1);
    assert_eq!(world.books.counts().unwrap().0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beginnings_that_could_never_be_paid_are_refused_before_a_prompt_is_read() {
    type Forge = fn(&World, &mut Begin);
    let forged: [(RefusalCode, &str, Forge); 3] = [
        (RefusalCode::Invalid, "no output token is left", |world, begin| {
            begin.request = Signed::new(&world.client, &world.domains, Request { tokens_max: 0, ..begin.request.document });
        }),
        (RefusalCode::Voucher, "raise the limit", |world, begin| {
            begin.request = Signed::new(&world.client, &world.domains, Request { spending_limit: Amount(1), ..begin.request.document });
        }),
        (RefusalCode::Invalid, "no output token is left", |_, begin| begin.continued = vec![1; 24]),
    ];
    let world = World::start().await;
    for (number, (code, words, forge)) in (1..).zip(forged) {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        let mut begin = world.begin(quote, world.lane(WEI_PER_OPEN, number));
        forge(&world, &mut begin);
        talk.send(&FromClient::Begin(Box::new(begin))).await;
        talk.refusal(code, words).await;
    }
    // Tokens that no vocabulary holds fail the engine, not the node: it signs that nothing is charged, and why stands in its refusal.
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let mut begin = world.begin(quote, world.lane(WEI_PER_OPEN, 20));
    begin.continued = vec![u32::MAX; 3];
    talk.send(&FromClient::Begin(Box::new(begin))).await;
    let ended = loop {
        match talk.recv().await {
            FromNode::Begun { .. } => {}
            other => break other,
        }
    };
    let FromNode::Receipt(delivered) = ended else { panic!("{ended:?}") };
    let receipt = Signed { document: delivered.receipt, signature: delivered.signature };
    assert_eq!(receipt.verify(&world.domains, world.node), Ok(()));
    let said = &receipt.document;
    assert_eq!((said.reason, said.fee, said.tokens_out, said.cumulative_after), (Reason::EngineFailure, Amount::ZERO, 0, Amount::ZERO));
    talk.refusal(RefusalCode::Internal, "the node failed").await;
    assert_eq!(world.books.counts().unwrap().0, 0, "it is not kept: it pays nobody");
    world.honest(&world.lane(WEI_PER_OPEN, 21)).await;
    // Quotes are made on one stream only so often.
    let mut talk = world.talk().await;
    for _ in 0..4 {
        talk.quote(&world.manifest).await;
    }
    let ask = FromClient::QuoteAsk { manifest: world.manifest.root(), profile: Profile::CandleF32B1, class: Class::Open, tokens_max: 1 };
    talk.send(&ask).await;
    talk.refusal(RefusalCode::Invalid, "quotes were made on this stream").await;
}
