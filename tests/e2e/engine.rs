//! What the real engine of a real node delivers is what is charged: an answer without a token, one that its client leaves in the middle, one whose engine
//! fails in the middle, and a session key that two nodes were promised more of than it is good for. Deposits are compared on the chain.

mod failing;
mod llama;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use chain_bridge::client::ChainClient;
use harness::{
    Cluster, Party, Setup,
    cluster::text,
    files,
    wire::{self, Heard, Payer, Talk},
};
use inference::{
    Finish, Message, Role, Sampling,
    engine::{EngineConfig, EngineHandle, Start, Step},
    proto::message::{Begin, Delivered, FromClient, FromNode},
};
use node::chain::Chained;
use p2p::{
    client::{Client, Connection, Limits},
    identity::NodeSeed,
};
use types::{
    amount::Amount,
    id::{Address, AssetVersion},
    key::{Account, Signed},
    manifest::Manifest,
    merkle::keccak,
    quote::Quote,
    receipt::{Reason, Receipt},
    voucher::Lane,
};

const WORDS: &str = "Hi";
/// Tokens asked for.
const TOKENS: u32 = 12;
const WAIT: Duration = Duration::from_secs(90);
/// Questions tried until the likeliest first token is the end of text: about one in a thousand is.
const QUESTIONS_MAX: u32 = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_charged_beyond_what_an_engine_delivered_and_nothing_is_collected_beyond_what_a_key_is_good_for() {
    let _alone = harness::alone().await;
    let people = vec!["author", "client", "leaver", "unlucky", "holder"];
    let cluster = Cluster::start(Setup { nodes: 2, model: Some(files::tiny_model()), people }).await;
    let model = files::tiny_model();
    let published = cluster.run(cluster.person("author"), &["model", "publish", text(&model), "--name", "tiny"]).await;
    for name in ["client", "leaver", "unlucky", "holder"] {
        cluster.run(cluster.person(name), &["wallet", "deposit", "5 OPEN"]).await;
    }
    let manifest = manifest(&cluster, version(&published["version"])).await;
    let doors = [Door::open(&cluster.nodes[0], &manifest).await, Door::open(&cluster.nodes[1], &manifest).await];
    cluster.say("two nodes serve the base");

    let before = deposits(&cluster).await;
    an_answer_without_a_token(&cluster).await;
    let left = left_in_the_middle(&cluster, &doors[0], &manifest).await;
    failing::in_the_middle(&cluster, &doors[0], &manifest).await;
    let (fee, lanes) = promised_beyond_the_key(&cluster, &doors, &manifest).await;

    // The second node is the first to collect: what is left of the key covers one of the first node's two answers.
    settled(&cluster.nodes[1], &cluster, 0).await;
    settled(&cluster.nodes[0], &cluster, 1).await;
    let collected = async |lane: &Lane| cluster.chain.lane_collected(lane.id()).await.expect("the chain answers");
    assert_eq!((collected(&lanes[1]).await, collected(&lanes[0]).await), (fee, fee), "of the first node's two answers one is collected");
    let after = deposits(&cluster).await;
    let charged: Vec<u128> = before.iter().zip(&after).map(|(before, after)| before - after).collect();
    assert_eq!(charged, [0, left.0, 0, 2 * fee.0 + PRIMING * fee.0], "client, leaver, unlucky, holder");
    cluster.say("deposits fell by what was delivered and vouched for, to the wei");
    llama::an_adapter_in_its_format_is_served_by_who_has_it_and_by_who_fetches_it(&cluster, &published["version"]).await;
    drop(cluster.stop().await);
}

/// Answers that the holder pays for by itself first, to learn what one costs.
const PRIMING: u128 = 1;

/// A node's door for one client.
struct Door {
    account: Address,
    connection: Connection,
    _quic: Client,
}

impl Door {
    /// Connects once the node makes offers for the manifest.
    async fn open(node: &Party, manifest: &Manifest) -> Self {
        let quic = Client::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &NodeSeed::generate(), Limits::default()).expect("a socket");
        let addr = node.addresses.as_ref().expect("the node runs").clients;
        let connection = quic.connect(addr, Some(node.node)).await.expect("a connection");
        let door = Self { account: node.account, connection, _quic: quic };
        door.quoted(manifest).await;
        door
    }

    /// A stream with an offer, as soon as there is one.
    async fn quoted(&self, manifest: &Manifest) -> (Talk, Signed<Quote>) {
        let deadline = Instant::now() + WAIT;
        loop {
            let mut talk = Talk::open(&self.connection).await.expect("a stream");
            match talk.quote(manifest.root(), TOKENS).await {
                Ok(quote) => return (talk, quote),
                Err(why) => assert!(Instant::now() < deadline, "{} makes no offer: {why}", self.account),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn version(value: &serde_json::Value) -> AssetVersion {
    node::command::adapter::parse_version(value.as_str().expect("a version")).expect("a version")
}

/// What answers of a version name, once its index root is on the chain.
async fn manifest(cluster: &Cluster, version: AssetVersion) -> Manifest {
    let chain = Chained::open(cluster.devnet.url(), cluster.devnet.deployment().clone(), None).await.expect("the chain answers");
    let deadline = Instant::now() + WAIT;
    loop {
        match chain.state().await.expect("the books follow the chain").manifest(version) {
            Ok(manifest) => return manifest,
            Err(why) => assert!(Instant::now() < deadline, "{version} has no manifest: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn payer(cluster: &Cluster, name: &str) -> Payer {
    Payer::new(cluster.person(name).key(), cluster.chain.domains())
}

/// The deposits of client, leaver, unlucky and holder.
async fn deposits(cluster: &Cluster) -> Vec<u128> {
    let mut found = Vec::new();
    for name in ["client", "leaver", "unlucky", "holder"] {
        found.push(cluster.chain.escrow_of(cluster.person(name).account).await.expect("the chain answers").balance.0);
    }
    found
}

/// Has a node collect and post until so many of its receipts are left.
async fn settled(node: &Party, cluster: &Cluster, left: u64) {
    let deadline = Instant::now() + WAIT;
    loop {
        let last = cluster.outcome(node, &["settle"]).await;
        if cluster.run(node, &["status"]).await["receipts_unposted"] == left {
            return;
        }
        assert!(Instant::now() < deadline, "{} has other than {left} receipts that are not posted: {last}", node.name);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Asked through the command, a question at which the likeliest first token is the end of text.
async fn an_answer_without_a_token(cluster: &Cluster) {
    let engine = EngineHandle::start(EngineConfig::new(files::tiny_model())).expect("the committed model");
    let mut found = None;
    for number in 0..QUESTIONS_MAX {
        let question = format!("What is {number}?");
        let turns = [Message { role: Role::User, content: question.clone() }];
        let prompt = engine.prompt_tokens(&turns).expect("a short question");
        let greedy = Sampling { temperature_milli: 0, top_k: 0, top_p_ppm: 0 };
        let mut generation = engine.begin(Start::new(prompt, greedy, [0; 32], 1)).await.expect("the engine is idle");
        if matches!(generation.next().await, Ok(Step::End(Finish::Stop))) {
            found = Some(question);
            break;
        }
    }
    let question = found.expect("the model ends no question at once");
    let client = cluster.person("client");
    let outcome = cluster.outcome(client, &["ask", "--with", "tiny", &question]).await;
    let notice = &outcome.json["notice"];
    assert_eq!((&notice["charged_wei"], &notice["promised_wei"]), (&"0".into(), &"0".into()), "{outcome}");
    let failed = &notice["failed"][0];
    assert_eq!((&failed["cause"], &failed["is_signed"], &failed["tokens"]), (&"empty".into(), &true.into(), &0.into()), "{outcome}");
    assert_eq!(notice["signed"][0]["document"]["reason"], "empty", "{outcome}");
    assert!(outcome.refusal().contains("nothing more to say"));
    cluster.say(&format!("{question:?} was answered with nothing, and the node signed that it costs nothing"));
}

/// The first token is paid for, the second one comes, and the client leaves: the first one is charged.
async fn left_in_the_middle(cluster: &Cluster, door: &Door, manifest: &Manifest) -> Amount {
    let payer = payer(cluster, "leaver");
    let (mut talk, quote) = door.quoted(manifest).await;
    let lane = payer.lane(door.account);
    let begin = payer.begin(&quote, payer.request(&quote.document, WORDS), lane, manifest, WORDS);
    let mut answer = talk.begun(&begin).await.expect("a beginning");
    answer.token(&mut talk).await.expect("a token");
    let voucher = answer.due();
    answer.pay(&mut talk, &payer, voucher).await;
    answer.token(&mut talk).await.expect("a second token");
    talk.reset();
    cluster.wait_status(&cluster.nodes[0], 20, "a receipt for the one token", |status| status["receipts"] == 1).await;
    cluster.say("a client left in the middle of its answer");
    voucher.cumulative
}

/// An answer paid to its end by `signer` on a lane of the payer's.
async fn paid_by(talk: &mut Talk, begin: &Begin, payer: &Payer, signer: &Account, cluster: &Cluster) -> Result<Receipt, String> {
    let domains = cluster.chain.domains();
    let mut begin = begin.clone();
    begin.session = Some(signer.address()).filter(|signer| *signer != payer.address());
    begin.lane = Signed::new(signer, &domains, begin.lane.document);
    let voucher = |answer: &wire::Answer| FromClient::Voucher(Box::new(Signed::new(signer, &domains, answer.due())));
    let mut answer = talk.begun(&begin).await?;
    answer.token(talk).await.expect("a token");
    talk.send(&voucher(&answer)).await;
    answer.rest(talk).await.expect("the rest");
    if answer.tokens.len() > 1 {
        talk.send(&voucher(&answer)).await;
    }
    match talk.hear().await {
        Heard::Said(FromNode::Receipt(delivered)) => Ok(delivered.receipt),
        other => panic!("no receipt but {other:?}"),
    }
}

/// A session key good for one wei less than three answers signs two at the first node, on one lane, and one at the second: neither sees the other's.
async fn promised_beyond_the_key(cluster: &Cluster, doors: &[Door; 2], manifest: &Manifest) -> (Amount, [Lane; 2]) {
    let holder = payer(cluster, "holder");
    let session = Account::from_bytes(&keccak(&[b"a session of the engine's test"]).0).expect("a hash below the order");
    let chain = ChainClient::connect(cluster.devnet.url(), cluster.devnet.deployment().clone(), Some(holder.account.clone())).await;
    let chain = chain.expect("the chain answers");
    let asked = async |door: &Door, lane: &Lane, signer: &Account| {
        // Nodes count on a session's key from the safe block on, and say so until then.
        for _ in 0..240 {
            let (mut talk, quote) = door.quoted(manifest).await;
            let begin = holder.begin(&quote, holder.request(&quote.document, WORDS), *lane, manifest, WORDS);
            match paid_by(&mut talk, &begin, &holder, signer, cluster).await {
                Ok(receipt) => return receipt,
                Err(why) => assert!(why.contains("authorised in a block that may still be replaced"), "{why}"),
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        panic!("the key is not counted on after a minute");
    };
    let fee = asked(&doors[1], &holder.lane(doors[1].account), &holder.account).await.fee;
    let head = chain.latest().await.expect("the chain answers").block.number;
    chain.set_signer(session.address(), Amount(3 * fee.0 - 1), head + 100_000).await.expect("a session");
    let lanes = [&doors[0], &doors[1]].map(|door| Lane { expiry: head + 90_000, ..holder.lane(door.account) });
    for (number, lane) in [(0, &lanes[0]), (0, &lanes[0]), (1, &lanes[1])] {
        assert_eq!(asked(&doors[number], lane, &session).await.fee, fee, "the same words, the same model");
    }
    cluster.say("a session key was promised to two nodes beyond what it is good for");
    (fee, lanes)
}

/// What a node signs of an answer that failed.
fn is_unbilled(delivered: &Delivered, reason: Reason) -> bool {
    wire::bills_nothing(delivered) && delivered.receipt.reason == reason
}
