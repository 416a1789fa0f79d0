//! Checked answers: who is given the sealed transcript of one, over real sockets, and who is not.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use attribution::{
    bundle::Bundle,
    message::{Ask, Reply},
    transcript::{
        ask::{TranscriptAsk, Withheld},
        sealed::OpenError,
        wrap::ExchangeSecret,
    },
};
use chain_bridge::registry::State;
use node::{
    books::texts::Text,
    service::settlement::{
        Settling, ask_once,
        sealed::{Draws, FetchError, NotDrawable, fetch_sealed},
    },
};
use p2p::{
    client::{Client, Connection, Limits},
    identity::NodeSeed,
};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;
use types::{
    encoding::Document as _,
    id::{Address, ExchangeKey, Hash32},
    key::{Account, Signed},
    quote::Class,
};

use super::{
    watched::{made, post},
    world::{Operator, account, devnet, mine, payer, until},
};

/// Fixed draws, from the moment on in which there is a beacon.
#[derive(Debug, Default)]
struct Fixed {
    has_beacon: AtomicBool,
    drawn: Mutex<BTreeSet<(u64, Hash32, Address)>>,
}

impl Draws for Fixed {
    fn is_drawn(&self, epoch: u64, receipt: Hash32, account: Address) -> Result<bool, NotDrawable> {
        if !self.has_beacon.load(Ordering::Relaxed) {
            return Err(NotDrawable::NoBeacon(epoch));
        }
        Ok(self.drawn.lock().unwrap().contains(&(epoch, receipt, account)))
    }
}

/// Everything that is logged in this process.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logged {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Keeps an answer of a class as its node does; `client` gave a key to wrap for, or not.
pub(super) fn keep(node: &Operator, bundle: &Bundle, client: Option<&Account>) {
    let own = ExchangeSecret::of(&node.account).public();
    let client = client.map(|client| ExchangeSecret::of(client).public());
    let text = match bundle.receipt.document.class {
        Class::Open => {
            node.books.keep_receipt(bundle, &bundle.lane, &bundle.voucher).unwrap();
            return;
        }
        Class::Checked => Some(Text::of(bundle, own, client, &[5; 32]).unwrap()),
        Class::Sealed => None,
    };
    node.books.keep_closed(bundle, &bundle.lane, &bundle.voucher, text.as_ref()).unwrap();
}

/// Somebody with a connection to the node.
struct Asker {
    account: Account,
    connection: Connection,
    _client: Client,
}

impl Asker {
    async fn new(byte: u8, at: std::net::SocketAddr, node: &Operator) -> Self {
        let client = Client::bind(([127, 0, 0, 1], 0).into(), &NodeSeed::new([byte; 32]), Limits::default()).unwrap();
        let connection = client.connect(at, Some(node.seed.node_id())).await.unwrap();
        Self { account: account(byte), connection, _client: client }
    }

    async fn fetch(&self, node: &Operator, epoch: u64, bundle: &Bundle) -> Result<Bundle, FetchError> {
        fetch_sealed(&self.connection, &self.account, &node.chained.deployment().domains(), epoch, &bundle.receipt).await
    }

    async fn withheld(&self, node: &Operator, epoch: u64, bundle: &Bundle) -> Withheld {
        match self.fetch(node, epoch, bundle).await {
            Err(FetchError::Withheld(why)) => why,
            other => panic!("not withheld: {other:?}"),
        }
    }

    /// What is answered to a question as it is.
    async fn ask(&self, asked: Signed<TranscriptAsk>) -> Reply {
        ask_once(self.connection.open_stream().await.unwrap(), &Ask::Sealed(Box::new(asked))).await.unwrap()
    }
}

async fn root_seen(settling: &Settling, own: Address, epoch: u64) {
    let has_root = |state: &State| state.epoch(epoch).is_some_and(|epoch| epoch.roots.contains_key(&own));
    settling.snapshots.clone().wait_for(|snapshot| has_root(&snapshot.latest)).await.unwrap();
}

/// Lets the chain's time pass, until that is final.
async fn pass(node: &Operator, seconds: u64) {
    let _: Value = node.client().rpc().request("anvil_mine", json!(["0x2", format!("{seconds:#x}")])).await.unwrap();
    mine(node.client(), 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checked_answer_is_read_by_its_client_and_its_drawn_checkers_alone_and_is_gone_behind_its_windows() {
    let logged = Logged::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(logged.clone()).finish();
    // Under a runner with one process for all tests another one's may stand; then this one looks at less.
    let _ = tracing::subscriber::set_global_default(subscriber);

    let (w1_s, w2_s) = (3_600, 600);
    let devnet = devnet(w1_s, w2_s).await;
    let mut node = Operator::new(&devnet, 1, false, &[]).await;
    let draws = Arc::new(Fixed::default());
    node.draws = Arc::clone(&draws) as Arc<dyn Draws>;
    let (payer, other_payer) = (payer(&devnet, 2).await, payer(&devnet, 3).await);
    let settling = node.settling(false, false);
    let at = node.serve(&settling).await;

    let checked = made(&node, &payer, 1, Class::Checked, |_| {}).await;
    let other = made(&node, &other_payer, 2, Class::Checked, |_| {}).await;
    let open = made(&node, &payer, 3, Class::Open, |_| {}).await;
    let sealed = made(&node, &payer, 4, Class::Sealed, |_| {}).await;
    keep(&node, &checked, Some(&payer));
    [&other, &open, &sealed].into_iter().for_each(|bundle| keep(&node, bundle, None));
    let (hash, other_hash) = (checked.receipt.document.hash(), other.receipt.document.hash());
    let kept = node.books.receipts(&[0, 1, 2, 3]).unwrap();
    assert_eq!(kept.iter().map(Bundle::is_without_text).collect::<Vec<_>>(), [true, true, false, true]);
    assert!(node.books.text(hash).unwrap().is_some_and(|(number, text)| number == 0 && text.client_wrap().is_some()));
    assert!(node.books.text(sealed.receipt.document.hash()).unwrap().is_none(), "of a sealed answer nothing is kept");

    let (client, other_client, drawn, undrawn) =
        tokio::join!(Asker::new(2, at, &node), Asker::new(3, at, &node), Asker::new(5, at, &node), Asker::new(6, at, &node));
    // The client has it back before any root; nobody else is drawn before there is one.
    assert_eq!(client.fetch(&node, 0, &checked).await.unwrap(), checked);
    assert_eq!(drawn.withheld(&node, 1, &checked).await, Withheld::Unknown { epoch: 1, receipt: hash });
    let epoch = post(&node, &[checked.clone(), other.clone(), open.clone(), sealed.clone()]).await;
    root_seen(&settling, node.address(), epoch).await;
    assert_eq!(drawn.withheld(&node, epoch, &checked).await, Withheld::NoBeacon(epoch));
    draws.drawn.lock().unwrap().insert((epoch, hash, drawn.account.address()));
    draws.has_beacon.store(true, Ordering::Relaxed);

    let read = drawn.fetch(&node, epoch, &checked).await.unwrap();
    assert_eq!(read, checked, "what a checker executes again is what the client signed and the node answered");
    assert_eq!(client.fetch(&node, epoch, &checked).await.unwrap(), checked);
    assert_eq!(other_client.fetch(&node, epoch, &other).await.unwrap(), other, "also a client that gave no key before");
    let not_drawn = |who: &Asker, receipt| Withheld::NotDrawn { account: who.account.address(), epoch, receipt };
    assert_eq!(undrawn.withheld(&node, epoch, &checked).await, not_drawn(&undrawn, hash));
    assert_eq!(other_client.withheld(&node, epoch, &checked).await, not_drawn(&other_client, hash), "a client of another answer");
    assert_eq!(client.withheld(&node, epoch, &other).await, not_drawn(&client, other_hash));
    assert_eq!(
        drawn.withheld(&node, epoch, &other).await,
        not_drawn(&drawn, other_hash),
        "drawn for one receipt is not drawn for the next"
    );
    assert_eq!(drawn.withheld(&node, epoch, &open).await, Withheld::Class(Class::Open));
    assert_eq!(drawn.withheld(&node, epoch, &sealed).await, Withheld::Class(Class::Sealed));
    let elsewhere = drawn.withheld(&node, epoch + 1, &checked).await;
    assert_eq!(elsewhere, Withheld::Unknown { epoch: epoch + 1, receipt: hash });

    // What is asked badly.
    let domains = node.chained.deployment().domains();
    let asked = |reader| TranscriptAsk { node: node.address(), epoch, receipt: hash, reader };
    let own_key = ExchangeSecret::of(&drawn.account).public();
    let elsewhere = TranscriptAsk { node: Address([9; 20]), ..asked(own_key) };
    let named = drawn.ask(Signed::new(&drawn.account, &domains, elsewhere)).await;
    assert_eq!(named, Reply::Withheld(Withheld::OtherNode { asked: Address([9; 20]), own: node.address() }));
    let bad_key = ExchangeKey::ZERO;
    let named = drawn.ask(Signed::new(&drawn.account, &domains, asked(bad_key))).await;
    assert_eq!(named, Reply::Withheld(Withheld::Key(bad_key)));
    let mut unsigned = Signed::new(&drawn.account, &domains, asked(own_key));
    unsigned.signature.0[64] = 0;
    assert_eq!(drawn.ask(unsigned).await, Reply::Withheld(Withheld::Signature));
    // A question that was overheard, put by somebody else: what is sent opens for who signed it alone; with another key in it nobody signed it.
    let overheard = Signed::new(&drawn.account, &domains, asked(own_key));
    let Reply::Sealed(shown) = undrawn.ask(overheard.clone()).await else { panic!("the question stands by itself") };
    let opened = shown.read(&ExchangeSecret::of(&undrawn.account), &checked.receipt, &domains);
    assert!(matches!(opened, Err(OpenError::Wrap(_))), "{opened:?}");
    let mut exchanged = overheard;
    exchanged.document.reader = ExchangeSecret::of(&undrawn.account).public();
    assert!(matches!(undrawn.ask(exchanged).await, Reply::Withheld(Withheld::NotDrawn { .. } | Withheld::Signature)));

    // A ciphertext that was changed on the way, or by the node, is named.
    let record = node.books.records().get("transcripts", &hash.0).unwrap().unwrap();
    let mut changed = record.clone();
    *changed.last_mut().unwrap() ^= 1;
    node.books.records().put("transcripts", &hash.0, &changed).unwrap();
    let told = drawn.fetch(&node, epoch, &checked).await.unwrap_err();
    assert!(matches!(&told, FetchError::Opens(OpenError::Changed(of)) if *of == hash), "{told}");
    node.books.records().put("transcripts", &hash.0, &record).unwrap();

    // Behind both windows the text is still shown to who was drawn, for as long as stake takes to leave; then nothing is shown, and then nothing is there.
    let unbonding_s = node.chained.deployment().config.unbonding_s;
    pass(&node, w1_s + w2_s + 60).await;
    let head = node.client().latest().await.unwrap().timestamp;
    until("the clock moves", async || settling.snapshots.borrow().heads.filter(|heads| heads.timestamp >= head)).await;
    assert_eq!(drawn.fetch(&node, epoch, &checked).await.unwrap(), checked, "an appeal is heard by what was said");
    pass(&node, unbonding_s + 60).await;
    let head = node.client().latest().await.unwrap().timestamp;
    until("the clock moves", async || settling.snapshots.borrow().heads.filter(|heads| heads.timestamp >= head)).await;
    let past = drawn.withheld(&node, epoch, &checked).await;
    assert!(matches!(past, Withheld::Past { epoch: of, .. } if of == epoch), "{past}");
    let running = tokio::spawn(Arc::clone(&settling).run(0));
    until("the texts are forgotten", async || node.books.terms().unwrap().is_empty().then_some(())).await;
    assert!(node.books.text(hash).unwrap().is_none());
    let gone = client.withheld(&node, epoch, &checked).await;
    assert!(matches!(gone, Withheld::Past { .. }), "{gone}");
    assert_eq!(node.books.receipts(&[0]).unwrap()[0].receipt, checked.receipt, "the receipt stands");
    running.abort();

    let logs = String::from_utf8_lossy(&logged.0.lock().unwrap()).into_owned();
    for said in ["What is it?", "sensorineural", &hex::encode(ExchangeSecret::of(&node.account).public().0)] {
        assert!(!logs.contains(said), "{said} is in the logs");
    }
    devnet.stop().await;
}
