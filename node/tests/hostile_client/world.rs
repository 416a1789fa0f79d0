//! A node's answering service behind a socket, and a client's side of its frames.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use attribution::{bundle, index::Index};
use chain_bridge::{follow::Snapshot, lanes::SessionRight};
use inference::{
    engine::{EngineConfig, EngineHandle},
    proto::{
        message::{Begin, CLIENT_FRAME_MAX, FromClient, FromNode, NODE_FRAME_MAX, RefusalCode, Turn, encode},
        payment::Terms,
        resume::{Bounds, Resume},
    },
};
use node::{
    ask::Candidate,
    books::Books,
    evidence,
    service::{
        index::store::Indexes,
        inference::{Answering, Escrow, Ledger, Offer, Seats, Speed},
    },
};
use p2p::{
    client::{Client, Connection, Limits, Server},
    identity::NodeSeed,
    stream::FrameStream,
};
use storage::store::{Config as StoreConfig, Store};
use tokio::{
    net::UdpSocket,
    sync::{RwLock, watch},
    time::timeout,
};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    encoding::{Body, Document as _},
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
pub(super) const TOKENS: u32 = 24;
/// Longest wait for one frame.
pub(super) const WAIT: Duration = Duration::from_secs(20);

/// What the escrow says: every payer's deposit, and its session keys.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) deposit: Amount,
    pub(super) sessions: BTreeMap<(Address, Address), SessionRight>,
}

#[derive(Debug)]
pub(super) struct Deposit(Arc<Mutex<Desk>>);

impl Escrow for Deposit {
    async fn free_balance(&self, _: Address, _: Amount) -> anyhow::Result<Amount> {
        Ok(self.0.lock().unwrap().deposit)
    }

    async fn session(&self, payer: Address, signer: Address) -> anyhow::Result<Option<SessionRight>> {
        Ok(self.0.lock().unwrap().sessions.get(&(payer, signer)).copied())
    }
}

/// What one client may cost the node: some hundred answers of one unpaid token.
pub(super) const WILLING: Amount = Amount(30_000_000_000_000_000);

/// A node's answering service behind a socket, and a client's connection to it.
pub(super) struct World {
    pub(super) connection: Connection,
    pub(super) books: Arc<Books>,
    pub(super) node: Address,
    pub(super) client: Account,
    pub(super) domains: Domains,
    pub(super) manifest: Manifest,
    pub(super) nonce: AtomicU64,
    pub(super) deposit: Arc<Mutex<Desk>>,
    pub(super) chain: watch::Sender<Arc<Snapshot>>,
    /// Where this crate's own client asks: its first frame bears the service's tag, which a node's front door takes off.
    pub(super) front: Candidate,
    /// The same service without tags, as `connection` reaches it.
    pub(super) bare: Candidate,
    pub(super) answering: Arc<Answering<Deposit>>,
    quic: Client,
    folder: tempfile::TempDir,
}

pub(super) fn account(byte: u8) -> Account {
    Account::from_bytes(&[byte; 32]).unwrap()
}

/// Serves what comes to a port of its own, without the first `tag` bytes of each stream.
fn serve(answering: Arc<Answering<Deposit>>, tag: usize) -> Candidate {
    let seed = NodeSeed::generate();
    let mut server = Server::bind(([127, 0, 0, 1], 0).into(), &seed, Limits::default()).unwrap();
    let addr = server.local_addr().unwrap();
    let account = answering.account.address();
    tokio::spawn(async move {
        while let Some(connection) = server.accept().await {
            let answering = Arc::clone(&answering);
            tokio::spawn(async move {
                while let Ok(mut stream) = connection.accept_stream().await {
                    let answering = Arc::clone(&answering);
                    tokio::spawn(async move {
                        if let Ok(Some(first)) = stream.recv(CLIENT_FRAME_MAX).await {
                            answering.serve(stream, first[tag..].to_vec()).await;
                        }
                    });
                }
            });
        }
    });
    Candidate { node: seed.node_id(), account, addr }
}

impl World {
    pub(super) async fn start() -> Self {
        Self::start_with(Bounds::default()).await
    }

    /// With other bounds on what is kept for clients that are gone.
    pub(super) async fn start_with(bounds: Bounds) -> Self {
        Self::start_under(Profile::Exact, bounds).await
    }

    /// Under other numeric rules.
    pub(super) async fn start_in(profile: Profile) -> Self {
        Self::start_under(profile, Bounds::default()).await
    }

    async fn start_under(profile: Profile, bounds: Bounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny.gguf");
        inference::tiny::write_model(&model, 1).unwrap();
        let engine = EngineHandle::start(EngineConfig { profile, ..EngineConfig::new(&model) }).unwrap();
        let index = Arc::new(Index::new(vec![]).unwrap());
        let base = ManifestAsset {
            kind: AssetKind::Base,
            version: AssetVersion { asset: AssetId(1), version: 1 },
            content: BlobId(engine.info().hash),
        };
        let split = SplitTable { node: 4_000, base: 2_500, data: 3_000, stakers: 500, ..SplitTable::default() };
        let manifest = Manifest { assets: vec![base], split, index: index.root(), parameters: 1, datanets: vec![] };
        let offer = Offer { manifest: manifest.clone(), index, adapter: None, indexes: Arc::new(Indexes::in_memory()) };
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
            metrics: Arc::default(),
            engine,
            account: account(1),
            domains,
            rates: (Amount(2_000_000_000_000_000), Amount(6_000_000_000_000_000)),
            offers: Arc::new(RwLock::new(BTreeMap::from([(manifest.root(), Arc::new(offer))]))),
            snapshots,
            books: Arc::clone(&books),
            escrow: Deposit(Arc::clone(&deposit)),
            ledger: Ledger::new(WILLING),
            speed: Speed::default(),
            seats: Seats::new(bounds),
        });
        let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
        let front = serve(Arc::clone(&answering), 1);
        let bare = serve(Arc::clone(&answering), 0);
        let quic = Client::bind(loopback, &NodeSeed::generate(), Limits::default()).unwrap();
        let connection = quic.connect(bare.addr, Some(bare.node)).await.unwrap();
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
            front,
            bare,
            answering,
            quic,
            folder,
        }
    }

    /// Another node's engine with the same model and profile, and its offer of the same manifest.
    pub(super) fn elsewhere(&self) -> (EngineHandle, Arc<Offer>) {
        let config = EngineConfig::new(self.folder.path().join("tiny.gguf"));
        let engine = EngineHandle::start(EngineConfig { profile: self.answering.profile(), ..config }).unwrap();
        let index = Arc::new(Index::new(vec![]).unwrap());
        (engine, Arc::new(Offer { manifest: self.manifest.clone(), index, adapter: None, indexes: Arc::new(Indexes::in_memory()) }))
    }

    pub(super) async fn talk(&self) -> Talk {
        Talk(self.connection.open_stream().await.unwrap())
    }

    /// A stream of a connection through a cable.
    pub(super) async fn talk_by(&self, cable: &Cable) -> Talk {
        let connection = self.quic.connect(cable.addr, Some(self.bare.node)).await.unwrap();
        Talk(connection.open_stream().await.unwrap())
    }

    /// Waits until so many answers are kept for clients that are gone.
    pub(super) async fn kept(&self, count: usize) {
        let deadline = Instant::now() + WAIT;
        while self.answering.seats.kept() != count {
            assert!(Instant::now() < deadline, "{count} answers were to be kept, {} are", self.answering.seats.kept());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A lane to this node with that cap.
    pub(super) fn lane(&self, cap: u128, nonce: u64) -> Signed<Lane> {
        let lane = Lane { payer: self.client.address(), node: self.node, cap: Amount(cap), expiry: 10_000, nonce };
        Signed::new(&self.client, &self.domains, lane)
    }

    /// An honest beginning on that lane.
    pub(super) fn begin(&self, quote: Signed<Quote>, lane: Signed<Lane>) -> Begin {
        let turns = vec![Turn { role: 2, content: "What is gout?".into() }];
        let prompt_salt = Hash32([7; 32]);
        let request = Request {
            client: self.client.address(),
            nonce: self.nonce.fetch_add(1, Ordering::Relaxed),
            manifest: self.manifest.root(),
            rate_in_max: quote.document.rate_in,
            rate_out_max: quote.document.rate_out,
            profile: quote.document.profile,
            class: quote.document.class,
            sampling: SamplingRule::default(),
            options: Hash32::ZERO,
            prompt_root: text::prompt_root(&evidence::prompt_bytes(&turns).unwrap(), prompt_salt),
            tokens_max: TOKENS,
            spending_limit: Amount(WEI_PER_OPEN),
        };
        let request = Signed::new(&self.client, &self.domains, request);
        let (options, manifest) = (Body::default(), self.manifest.clone());
        Begin { request, options, attempt: 0, quote, lane, session: None, manifest, turns, prompt_salt, continued: vec![] }
    }

    /// Quote, beginning and the first token of an answer on a lane.
    pub(super) async fn first_token(&self, lane: Signed<Lane>) -> Answer {
        self.first_token_by(lane, None).await
    }

    /// The same with a session key named.
    pub(super) async fn first_token_by(&self, lane: Signed<Lane>, session: Option<Address>) -> Answer {
        self.first_token_over(self.talk().await, lane, session).await
    }

    /// The same over a stream of its own.
    pub(super) async fn first_token_over(&self, mut talk: Talk, lane: Signed<Lane>, session: Option<Address>) -> Answer {
        let quote = talk.quote(&self.manifest).await;
        self.first_token_by_quote(talk, quote, lane, session).await
    }

    /// The same by a quote that was made on that stream.
    pub(super) async fn first_token_by_quote(
        &self,
        mut talk: Talk,
        quote: Signed<Quote>,
        lane: Signed<Lane>,
        session: Option<Address>,
    ) -> Answer {
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

    pub(super) fn sign(&self, voucher: Voucher) -> FromClient {
        FromClient::Voucher(Box::new(Signed::new(&self.client, &self.domains, voucher)))
    }

    /// An answer paid to its end; its last voucher.
    pub(super) async fn honest(&self, lane: &Signed<Lane>) -> (Answer, Voucher) {
        let mut answer = self.first_token(lane.clone()).await;
        answer.talk.send(&self.sign(answer.due())).await;
        let last = self.end(&mut answer).await;
        (answer, last)
    }

    /// Takes the rest of an answer and pays it; the receipt stands.
    pub(super) async fn end(&self, answer: &mut Answer) -> Voucher {
        let reason = answer.rest_of_it().await;
        assert!(matches!(reason, Reason::Length | Reason::Stop), "{reason:?}");
        let last = answer.due();
        answer.talk.send(&self.sign(last)).await;
        let FromNode::Receipt(delivered) = answer.talk.recv().await else { panic!("no receipt") };
        let voucher = Signed::new(&self.client, &self.domains, last);
        let kept = evidence::assemble(&self.domains, &answer.begin, &voucher, *delivered, &answer.tokens).unwrap();
        bundle::verify(&kept).unwrap();
        last
    }

    /// What is asked to take an answer up from a token on.
    pub(super) fn resume(&self, by: &Account, request: Hash32, index: usize) -> FromClient {
        let asked = Resume { node: self.node, request, attempt: 0, index: u32::try_from(index).unwrap() };
        FromClient::Resume(Box::new(Signed::new(by, &self.domains, asked)))
    }

    /// Goes on with an answer by another stream, where its client stands: the tokens that the node has vouchers for. The stream before is let go only then: that
    /// would be a farewell.
    pub(super) async fn take_up(&self, answer: &mut Answer, mut talk: Talk) -> u32 {
        talk.send(&self.resume(&self.client, answer.terms.request, answer.tokens.len())).await;
        let vouched = match talk.recv().await {
            FromNode::Resumed { vouched } => vouched,
            other => panic!("it is not taken up: {other:?}"),
        };
        answer.talk = talk;
        vouched
    }

    /// Receipts kept, and what a lane stands at.
    pub(super) fn charged(&self, lane: &Signed<Lane>) -> (u64, Amount) {
        let record = self.books.lane(lane.document.id()).unwrap();
        (self.books.counts().unwrap().0, record.map_or(Amount::ZERO, |record| record.voucher.document.cumulative))
    }

    /// Waits until so many receipts are kept: the node may still be writing when the client has its refusal.
    pub(super) async fn receipts(&self, count: u64) {
        let deadline = Instant::now() + WAIT;
        while self.books.counts().unwrap().0 < count {
            assert!(Instant::now() < deadline, "{count} receipts were due, {} are kept", self.books.counts().unwrap().0);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// An answer under way on the client's side.
pub(super) struct Answer {
    pub(super) talk: Talk,
    pub(super) begin: Begin,
    pub(super) terms: Terms,
    pub(super) tokens: Vec<u32>,
}

impl Answer {
    pub(super) async fn token(&mut self) {
        let FromNode::Token { index, id, .. } = self.talk.recv().await else { panic!("no token") };
        assert_eq!(usize::try_from(index).unwrap(), self.tokens.len());
        self.tokens.push(id);
    }

    /// The voucher for all tokens so far.
    pub(super) fn due(&self) -> Voucher {
        self.terms.voucher(&self.tokens).unwrap()
    }

    pub(super) async fn rest_of_it(&mut self) -> Reason {
        loop {
            match self.talk.recv().await {
                FromNode::Token { id, .. } => self.tokens.push(id),
                FromNode::Finished { reason } => return reason,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A line between a client and a node that can be pulled: then packets of a direction, or of both, are lost without a word.
pub(super) struct Cable {
    pub(super) addr: SocketAddr,
    is_cut: Arc<[AtomicBool; 2]>,
}

impl Cable {
    pub(super) async fn to(node: SocketAddr) -> Self {
        let bind = async || UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let (near, far) = (bind().await, bind().await);
        far.connect(node).await.unwrap();
        let (addr, is_cut) = (near.local_addr().unwrap(), Arc::new([AtomicBool::new(false), AtomicBool::new(false)]));
        let cuts = Arc::clone(&is_cut);
        tokio::spawn(async move {
            let (mut there, mut back, mut client) = ([0; 1 << 16], [0; 1 << 16], None);
            loop {
                tokio::select! {
                    Ok((len, from)) = near.recv_from(&mut there) => {
                        client = Some(from);
                        if !cuts[0].load(Ordering::SeqCst) {
                            drop(far.send(&there[..len]).await);
                        }
                    }
                    Ok(len) = far.recv(&mut back) => {
                        if let Some(client) = client.filter(|_| !cuts[1].load(Ordering::SeqCst)) {
                            drop(near.send_to(&back[..len], client).await);
                        }
                    }
                    else => return,
                }
            }
        });
        Self { addr, is_cut }
    }

    /// Loses what the client sends, and what the node sends.
    pub(super) fn cut(&self, there: bool, back: bool) {
        self.is_cut[0].store(there, Ordering::SeqCst);
        self.is_cut[1].store(back, Ordering::SeqCst);
    }
}

pub(super) struct Talk(pub(super) FrameStream);

impl Talk {
    pub(super) async fn send(&mut self, message: &FromClient) {
        self.0.send(&encode(message)).await.unwrap();
    }

    pub(super) async fn recv(&mut self) -> FromNode {
        let frame = timeout(WAIT, self.0.recv(NODE_FRAME_MAX)).await.unwrap().unwrap().expect("the stream ended");
        FromNode::decode(&frame).unwrap()
    }

    pub(super) async fn quote(&mut self, manifest: &Manifest) -> Signed<Quote> {
        self.quote_in(manifest, Class::Open).await
    }

    pub(super) async fn quote_in(&mut self, manifest: &Manifest, class: Class) -> Signed<Quote> {
        let ask = FromClient::QuoteAsk { manifest: manifest.root(), profile: Profile::Exact, class, tokens_max: TOKENS };
        self.send(&ask).await;
        let FromNode::Quote(quote) = self.recv().await else { panic!("no quote") };
        quote
    }

    /// The refusal that must come, behind tokens that were under way.
    pub(super) async fn refusal(&mut self, code: RefusalCode, words: &str) {
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
