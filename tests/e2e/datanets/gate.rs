//! A gate under pressure, spoken to frame by frame: many verdicts before any acceptance, and shards that arrive a byte at a time.

use std::time::Duration;

use chain_bridge::client::ChainClient;
use harness::{Cluster, Party};
use node::service::GATE_TAG;
use p2p::{
    client::{Client, Connection, Limits},
    identity::NodeSeed,
    stream::FrameStream,
};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use types::{
    contribution::commitment,
    id::{Address, AssetId, Hash32},
    text,
};

use super::{file, survey};

/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(60);
const SALT: Hash32 = Hash32([5; 32]);
/// First bytes of the answers that are looked at.
const PROCEED: u8 = 0;
const REVIEWED: u8 = 1;

/// A contribution as its contributor has it: text root and shard without compression.
struct Own {
    root: Hash32,
    shard: Vec<u8>,
}

fn own(documents: &[Value]) -> Own {
    let texts: Vec<&str> = documents.iter().map(|document| document["text"].as_str().expect("a text")).collect();
    let whole: Vec<u8> = texts.iter().flat_map(|text| [text.as_bytes(), &[0]].concat()).collect();
    let root = text::text_root(&whole);
    let mut shard = b"TRIBSHRD\x01\x00".to_vec();
    shard.extend_from_slice(&u32::try_from(texts.len()).expect("a few").to_be_bytes());
    shard.extend_from_slice(&(whole.len() as u64).to_be_bytes());
    shard.extend_from_slice(&root.0);
    for text in texts {
        shard.extend_from_slice(&[0; 4]);
        shard.extend_from_slice(&u32::try_from(text.len()).expect("a short text").to_be_bytes());
        shard.extend_from_slice(text.as_bytes());
    }
    Own { root, shard }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
    bytes
}

/// The opening of a contribution: postcard's bytes, as `storage`'s tests pin them.
fn opening(datanet: AssetId, contributor: Address, root: Hash32, shard_bytes: u64) -> Vec<u8> {
    let licence = b"CC0-1.0";
    let mut bytes = vec![GATE_TAG, 0];
    bytes.extend(varint(datanet.0));
    for part in [&contributor.0[..], &SALT.0, &root.0, licence] {
        bytes.extend(varint(part.len() as u64));
        bytes.extend_from_slice(part);
    }
    bytes.extend(varint(shard_bytes));
    bytes.push(0);
    bytes
}

async fn commit(cluster: &Cluster, party: &Party, root: Hash32) {
    let client = ChainClient::connect(cluster.devnet.url(), cluster.devnet.deployment().clone(), Some(party.key())).await;
    client.expect("the chain answers").commit(commitment(SALT, root, party.account)).await.expect("a commitment");
}

async fn gate(owner: &Party) -> (Client, Connection) {
    let addresses = owner.addresses.as_ref().expect("the owner's node runs");
    let client = Client::bind(([127, 0, 0, 1], 0).into(), &NodeSeed::generate(), Limits::default()).expect("an endpoint");
    let connection = client.connect(addresses.clients, Some(owner.node)).await.expect("the gate is reached");
    (client, connection)
}

async fn answer(stream: &mut FrameStream) -> Vec<u8> {
    timeout(WAIT, stream.recv(2 << 20)).await.expect("an answer in time").expect("a frame").expect("an answer")
}

/// Offers what was committed to, up to the gate's word to go on.
async fn offered(connection: &Connection, datanet: AssetId, contributor: Address, root: Hash32, shard_bytes: u64) -> FrameStream {
    let mut stream = connection.open_stream().await.expect("a stream");
    stream.send(&opening(datanet, contributor, root, shard_bytes)).await.expect("the opening is sent");
    let word = answer(&mut stream).await;
    assert_eq!(word, [PROCEED], "{}", String::from_utf8_lossy(&word));
    stream
}

/// The report on a contribution that is shown whole.
async fn reviewed(connection: &Connection, datanet: AssetId, contributor: Address, own: &Own) -> Value {
    let mut stream = offered(connection, datanet, contributor, own.root, own.shard.len() as u64).await;
    stream.send(&own.shard).await.expect("the shard is sent");
    let word = answer(&mut stream).await;
    assert_eq!(word[0], REVIEWED, "{}", String::from_utf8_lossy(&word));
    let start = word.iter().position(|byte| *byte == b'{').expect("a report");
    let mut reports = serde_json::Deserializer::from_slice(&word[start..]).into_iter::<Value>();
    reports.next().expect("a report").expect("JSON")
}

/// Verdicts are signed for as many rows as a contributor may bring, however many are asked for before one is accepted; two who send a byte a second through all of it
/// hold nobody up.
pub(super) async fn keeps_limits_and_slots(cluster: &Cluster) {
    let [owner, anna, ben, carol, _] = &cluster.nodes[..] else { panic!("five nodes") };
    let made = cluster.run(owner, &["datanet", "create", "bounded", "--licence", "CC0-1.0", "--rows-max", "5"]).await;
    let datanet = AssetId(made["asset"].as_u64().expect("a number"));
    let (_client, connection) = gate(owner).await;

    let mut slow = Vec::new();
    for party in [ben, carol] {
        let root = own(&[survey("never", usize::from(party.account.0[0]))]).root;
        commit(cluster, party, root).await;
        slow.push(offered(&connection, datanet, party.account, root, 4 << 20).await);
    }
    let trickle = tokio::spawn(async move {
        // Until it is ended: the gate turns them away in its own time.
        for _ in 0..600 {
            for stream in &mut slow {
                drop(stream.send(&[0]).await);
            }
            sleep(Duration::from_millis(500)).await;
        }
    });

    let all: Vec<Own> = (0..3).map(|number| own(&[survey("race", number * 2), survey("race", number * 2 + 1)])).collect();
    for own in &all {
        commit(cluster, anna, own.root).await;
    }
    // A contributor has one place in the gate's waiting room: one after another, and none is accepted meanwhile.
    let mut verdicts = Vec::new();
    for own in &all {
        verdicts.push(reviewed(&connection, datanet, anna.account, own).await);
    }
    let accepted: Vec<&Value> = verdicts.iter().map(|report| &report["accepted"]).collect();
    assert_eq!(accepted, [true, true, false], "{verdicts:#?}");
    let refusal = &verdicts[2]["refusals"][0];
    assert_eq!(refusal["rule"], "contributor-limit", "{refusal}");
    assert!(refusal["detail"].as_str().is_some_and(|detail| detail.contains("has 0 rows here") && detail.contains("hold 4")), "{refusal}");
    let again = reviewed(&connection, datanet, anna.account, &all[0]).await;
    assert_eq!(again["accepted"], true, "the same text is the same verdict: {again}");

    let rows = file(cluster, "bounded.jsonl", &[survey("honest", 1)]);
    let done = cluster.run(&cluster.nodes[4], &["datanet", "contribute", "bounded", &rows]).await;
    assert_eq!(done["documents"], 1, "{done}");
    trickle.abort();
    cluster.say("verdicts before any acceptance kept to the limit, and two slow shards held nobody up");
}
