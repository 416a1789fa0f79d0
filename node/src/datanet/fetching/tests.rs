use std::fs;

use p2p::{bulk::BulkLimits, identity::NodeSeed};
use storage::{
    erasure::{Encoded, Profile, encode},
    proto::{
        message::MESSAGE_BYTES_MAX,
        provide::Pace,
        range::{GROUP_BYTES, Run},
    },
    store::{Config as StoreConfig, Store},
};
use types::id::Hash32;

use super::*;
use crate::datanet::{
    exchange::{STORAGE_ALPN, recv_message, send_message},
    serving::Reads,
};

/// A fragment is longer than a stream's window.
const GROUPS: usize = 80;

struct Holder {
    node: NodeId,
    bulk: Arc<BulkEndpoint>,
    serving: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

async fn endpoint(seed: u8) -> (NodeId, Arc<BulkEndpoint>) {
    let seed = NodeSeed::new([seed; 32]);
    let bind = "127.0.0.1:0".parse().unwrap();
    (seed.node_id(), Arc::new(BulkEndpoint::start(&seed, bind, &[STORAGE_ALPN], BulkLimits::default()).await.unwrap()))
}

/// Holds one fragment; sends so many bytes of a range and then breaks off, if that is said.
async fn holder(object: &Encoded, index: u8, breaks_after: Option<usize>) -> Holder {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), StoreConfig::default()).unwrap();
    let bytes = object.fragments[usize::from(index)].clone();
    store.put_fragment(&object.manifest, &object.manifest.verify(index, bytes).unwrap()).unwrap();
    let (node, bulk) = endpoint(index + 1).await;
    let (accepting, reads) = (Arc::clone(&bulk), Arc::new(Reads::new(store.clone(), Pace::default())));
    let serving = tokio::spawn(async move {
        while let Some(open) = accepting.accept().await {
            let (store, reads) = (store.clone(), Arc::clone(&reads));
            tokio::spawn(async move {
                let (mut sender, mut receiver) = open.stream.split();
                let request = recv_message(&mut receiver, MESSAGE_BYTES_MAX, None).await.unwrap();
                match (Request::decode(&request).unwrap(), breaks_after) {
                    (Request::Read { object, index, run }, Some(bytes)) => {
                        let mut reading = store.read_range(object, index, run, None).unwrap();
                        let mut piece = Vec::new();
                        reading.piece(&mut piece).unwrap();
                        sender.send(&reading.head().encode()).await.unwrap();
                        sender.send_raw(&piece[..bytes.min(piece.len())]).await.unwrap();
                        sender.finish().await.unwrap();
                        drop(sender.closed().await);
                    }
                    // A reader that has heard enough may be gone.
                    (Request::Read { object, index, run }, None) => drop(reads.serve(open.remote, object, index, run, &mut sender).await),
                    (request, _) => send_message(&mut sender, &store.serve(request, |_| None).encode()).await.unwrap(),
                }
            });
        }
    });
    Holder { node, bulk, serving, _folder: folder }
}

impl Holder {
    fn at(&self) -> (NodeId, SocketAddr) {
        (self.node, self.bulk.local_addr())
    }

    async fn stop(self) {
        self.bulk.close().await;
        self.serving.abort();
    }
}

fn object() -> (Vec<u8>, Encoded) {
    let bytes: Vec<u8> = (0..3 * GROUPS * GROUP_BYTES).map(|i| u8::try_from((i * 5 + i / 3_000) % 256).unwrap()).collect();
    let encoded = encode(&bytes, Hash32::ZERO, Profile::DEVNET).unwrap();
    (bytes, encoded)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_off_fetch_left_is_gone_on_with_by_another_process_and_then_removed() {
    let (bytes, encoded) = object();
    let id = encoded.manifest.id();
    let (_, reader) = endpoint(100).await;
    let folder = tempfile::tempdir().unwrap();
    let halves = folder.path().join("fetching");
    // One whole fragment, and ten groups of another behind seven pairs at most.
    let (first, second) = (holder(&encoded, 0, None).await, holder(&encoded, 3, Some(10 * GROUP_BYTES + 16 * 64)).await);
    let outcome = fetch(&reader, id, &[first.at(), second.at()], Some(&halves), None).await;
    assert!(matches!(outcome.result, Err(FetchError::TooFew { found: 1, needed: 3, .. })), "{:?}", outcome.result);
    drop(outcome);
    let file = halves.join(format!("{id}.part"));
    let left = fs::metadata(&file).unwrap().len();
    assert!(left > ((GROUPS + 10) * GROUP_BYTES) as u64, "{left}");
    first.stop().await;
    second.stop().await;

    // A torn record at the end costs itself only.
    fs::OpenOptions::new().append(true).open(&file).map(|mut file| std::io::Write::write_all(&mut file, &[3; 1_000])).unwrap().unwrap();
    let (third, fourth) = (holder(&encoded, 1, None).await, holder(&encoded, 4, None).await);
    let outcome = fetch(&reader, id, &[third.at(), fourth.at()], Some(&halves), None).await;
    let fetched = outcome.result.unwrap();
    assert!(fetched.bytes == bytes && outcome.blamed.is_empty());
    assert_eq!(fetched.received.values().sum::<u64>(), 2 * (GROUPS * GROUP_BYTES) as u64, "the whole fragment was not fetched again");
    assert!(!file.exists());

    // A file that is not what it says costs nothing.
    fs::write(&file, b"TRIBPART and then something else").unwrap();
    let fifth = holder(&encoded, 2, None).await;
    let outcome = fetch(&reader, id, &[third.at(), fourth.at(), fifth.at()], Some(&halves), None).await;
    assert!(outcome.result.unwrap().bytes == bytes);
    for holder in [third, fourth, fifth] {
        holder.stop().await;
    }
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_nothing_holds_up_nobody() {
    let (bytes, encoded) = object();
    let all = [holder(&encoded, 0, None).await, holder(&encoded, 1, None).await, holder(&encoded, 2, None).await];
    let (_, idle) = endpoint(101).await;
    let (_, reader) = endpoint(102).await;
    let request = Request::Read { object: encoded.manifest.id(), index: 0, run: Run::all(GROUPS * GROUP_BYTES) };
    let (node, addr) = all[1].at();
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let mut stream = idle.connect(node, addr, STORAGE_ALPN).await.unwrap();
        stream.send(&request.encode()).await.unwrap();
        stuck.push(stream);
    }
    let holders: Vec<_> = all.iter().map(Holder::at).collect();
    let outcome = fetch(&reader, encoded.manifest.id(), &holders, None, None).await;
    assert!(outcome.result.unwrap().bytes == bytes);
    drop(stuck);
    for holder in all {
        holder.stop().await;
    }
    idle.close().await;
    reader.close().await;
}
