//! An object of 64 MiB at 16 of 48, fetched from its holders over loopback, beside a copy of the same bytes by iroh alone.
//!
//! `cargo bench -p node --bench fetch`: prints rows as JSON lines, medians of [`ROUNDS`]. 48 holders in this process, each with its own endpoint and
//! store on disk, at the default pace; the reader has one endpoint and keeps its connections, as a node does; the first fetch, with 48 handshakes,
//! has a row of its own. The peer, in the same rounds: two endpoints of iroh with its own settings, one stream and sixteen, the faster
//! one counts; it hashes, places and checks nothing. Both write into memory that was not touched before.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails says where")]

use std::{sync::Arc, time::Instant};

use iroh::{
    EndpointAddr,
    endpoint::{Connection, Endpoint, RelayMode, presets},
};
use node::datanet::{
    exchange::{STORAGE_ALPN, recv_message, send_message},
    fetching::fetch,
    serving::Reads,
};
use p2p::{
    bulk::{BulkEndpoint, BulkLimits},
    identity::NodeSeed,
};
use storage::{
    erasure::{Encoded, OBJECT_BYTES_MAX, Profile, encode},
    proto::{
        message::{MESSAGE_BYTES_MAX, Request},
        provide::Pace,
    },
    store::{Config, Store},
};
use types::id::{Hash32, NodeId};

const ROUNDS: usize = 9;
const RAW_ALPN: &[u8] = b"raw/1";
const STREAMS: usize = 16;

struct Holder {
    bulk: Arc<BulkEndpoint>,
    _folder: tempfile::TempDir,
}

async fn endpoint(seed: u8, alpn: &[&[u8]]) -> Arc<BulkEndpoint> {
    let seed = NodeSeed::new([seed; 32]);
    Arc::new(BulkEndpoint::start(&seed, "127.0.0.1:0".parse().unwrap(), alpn, BulkLimits::default()).await.unwrap())
}

/// Keeps one fragment and answers for it, as the node's service does.
async fn holder(object: &Encoded, index: u8) -> Holder {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Config { cache_bytes: 1 << 20, ..Config::default() }).unwrap();
    let fragment = object.manifest.verify(index, object.fragments[usize::from(index)].clone()).unwrap();
    store.put_fragment(&object.manifest, &fragment).unwrap();
    let bulk = endpoint(index + 1, &[STORAGE_ALPN]).await;
    let (accepting, reads) = (Arc::clone(&bulk), Arc::new(Reads::new(store.clone(), Pace::default())));
    tokio::spawn(async move {
        while let Some(open) = accepting.accept().await {
            let (store, reads) = (store.clone(), Arc::clone(&reads));
            tokio::spawn(async move {
                let (mut sender, mut receiver) = open.stream.split();
                let request = recv_message(&mut receiver, MESSAGE_BYTES_MAX, None).await?;
                match Request::decode(&request)? {
                    Request::Read { object, index, run } => reads.serve(open.remote, object, index, run, &mut sender).await?,
                    request => {
                        let reply = tokio::task::spawn_blocking(move || store.serve(request, |_| None)).await?;
                        send_message(&mut sender, &reply.encode()).await?;
                    }
                }
                anyhow::Ok(())
            });
        }
    });
    Holder { bulk, _folder: folder }
}

async fn raw_endpoint() -> Endpoint {
    let builder = Endpoint::builder(presets::Minimal).alpns(vec![RAW_ALPN.to_vec()]).relay_mode(RelayMode::Disabled);
    builder.clear_address_lookup().clear_ip_transports().bind_addr("127.0.0.1:0").unwrap().bind().await.unwrap()
}

/// One connection between two endpoints, both ends.
async fn raw_pair() -> (Endpoint, Endpoint, Connection, Connection) {
    let (from, to) = (raw_endpoint().await, raw_endpoint().await);
    let addr = EndpointAddr::new(from.id()).with_ip_addr(from.bound_sockets()[0]);
    let (incoming, outgoing) = tokio::join!(async { from.accept().await.unwrap().await.unwrap() }, to.connect(addr, RAW_ALPN));
    (from, to, incoming, outgoing.unwrap())
}

/// Seconds to copy `bytes` over so many streams.
async fn raw(bytes: &Arc<Vec<u8>>, from: &Connection, to: &Connection, streams: usize) -> f64 {
    let start = Instant::now();
    let part = bytes.len() / streams;
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..streams {
        let (mut send, _) = from.open_bi().await.unwrap();
        let bytes = Arc::clone(bytes);
        tokio::spawn(async move {
            send.write_all(&bytes[number * part..(number + 1) * part]).await.unwrap();
            send.finish().unwrap();
            send.stopped().await.unwrap();
        });
    }
    for _ in 0..streams {
        let (_, mut receive) = to.accept_bi().await.unwrap();
        readers.spawn(async move {
            let (mut place, mut at) = (vec![0; part], 0);
            while let Some(count) = receive.read(&mut place[at..]).await.unwrap() {
                at += count;
                if at == part {
                    break;
                }
            }
            assert_eq!(at, part);
            place
        });
    }
    let all: usize = readers.join_all().await.iter().map(Vec::len).sum();
    assert_eq!(all, bytes.len());
    start.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let bytes: Arc<Vec<u8>> =
        Arc::new((0..OBJECT_BYTES_MAX / 4).flat_map(|i| u32::try_from(i).unwrap().wrapping_mul(2_654_435_761).to_be_bytes()).collect());
    let object = encode(&bytes, Hash32::ZERO, Profile::new(16, 48).unwrap()).unwrap();
    let mut holders = Vec::new();
    for index in 0..48 {
        holders.push(holder(&object, index).await);
    }
    let addrs: Vec<(NodeId, _)> =
        (0..48_u8).zip(&holders).map(|(index, holder)| (NodeSeed::new([index + 1; 32]).node_id(), holder.bulk.local_addr())).collect();
    let reader = endpoint(200, &[]).await;
    let (_from, _to, from, to) = raw_pair().await;
    let (mut ours, mut one, mut many, mut cold) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for round in 0..=ROUNDS {
        let start = Instant::now();
        let outcome = fetch(&reader, object.manifest.id(), &addrs, None, None).await;
        let took = start.elapsed().as_secs_f64();
        let fetched = outcome.result.unwrap();
        assert!(fetched.bytes == *bytes && outcome.blamed.is_empty());
        let (single, several) = (raw(&bytes, &from, &to, 1).await, raw(&bytes, &from, &to, STREAMS).await);
        if round == 0 {
            cold = took;
        } else {
            ours.push(took);
            one.push(single);
            many.push(several);
        }
    }
    let (ours, one, many) = (middle(ours), middle(one), middle(many));
    let megabytes = f64::from(u32::try_from(OBJECT_BYTES_MAX).unwrap()) / 1e6;
    row("storage.fetch_mb_s", megabytes / ours, "MB/s");
    row("storage.fetch_mb_s.first", megabytes / cold, "MB/s");
    row("storage.fetch_mb_s.raw_one_stream", megabytes / one, "MB/s");
    row("storage.fetch_mb_s.raw_sixteen_streams", megabytes / many, "MB/s");
    row("storage.fetch_ratio", one.min(many) / ours, "of the raw copy");
    for holder in holders {
        holder.bulk.close().await;
    }
}

fn middle(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn row(figure: &str, ours: f64, unit: &str) {
    println!("{}", serde_json::json!({ "figure": figure, "ours": ours, "unit": unit, "n": ROUNDS }));
}
