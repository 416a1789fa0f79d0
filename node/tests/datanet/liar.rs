//! A holder that sends wrong bytes: it advertises, locates truthfully, and answers for groups of a fragment with bytes that it made up, as many
//! as they would be.

use std::{path::Path, sync::Arc, time::Duration};

use node::datanet::exchange::{STORAGE_ALPN, ask, recv_message, send_message};
use p2p::{
    bulk::{BulkEndpoint, BulkLimits, BulkStream},
    identity::NodeSeed,
    overlay::{Overlay, OverlayConfig, OverlayHandle},
    proto::ads::{Ad, AdSite, Services},
};
use storage::{
    erasure::ObjectManifest,
    proto::message::{MESSAGE_BYTES_MAX, Refusal, Reply, Request},
};
use tokio::task::JoinHandle;
use types::{
    amount::Amount,
    id::{Address, BlobId, NodeId},
};

use super::World;

/// Longest wait for an honest node's words.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// The liar, while it runs.
pub(super) struct Liar {
    pub(super) node: NodeId,
    overlay: OverlayHandle,
    bulk: Arc<BulkEndpoint>,
    serving: JoinHandle<()>,
}

impl Liar {
    /// Claims to hold fragment `absent` of `object`.
    pub(super) async fn start(world: &World, object: BlobId, absent: u8) -> Self {
        let seed = NodeSeed::generate();
        let bind = "127.0.0.1:0".parse().unwrap();
        let bulk = Arc::new(BulkEndpoint::start(&seed, bind, &[STORAGE_ALPN], BulkLimits::default()).await.unwrap());
        let first = &world.nodes[0];
        let located =
            ask(&bulk, first.node.parse().unwrap(), first.bulk.parse().unwrap(), &Request::Locate { object }, LIMIT).await.unwrap();
        let Reply::Located { manifest, .. } = located else { panic!("the first node does not have it: {located:?}") };
        let (overlay, mut events) =
            Overlay::start(OverlayConfig::loopback(seed.clone(), vec![first.overlay.parse().unwrap()])).await.unwrap();
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        overlay.set_ad(ad(seed.node_id(), bulk.local_addr())).await.unwrap();
        let serving = tokio::spawn(serve(Arc::clone(&bulk), object, manifest, absent));
        Self { node: seed.node_id(), overlay, bulk, serving }
    }

    pub(super) async fn stop(self) {
        self.overlay.shutdown().await;
        self.serving.abort();
        self.bulk.close().await;
    }
}

pub(super) fn ad(node: NodeId, at: std::net::SocketAddr) -> Ad {
    Ad {
        node,
        account: Address([0x11; 20]),
        incarnation: 0,
        seq: 0,
        ttl_s: 12,
        client_addr: at,
        bulk_addr: at,
        overlay_addrs: Vec::new(),
        site: AdSite::default(),
        services: Services::STORAGE.with(Services::ROOM),
        bases: Vec::new(),
        adapters: Vec::new(),
        profile: None,
        rin: Amount::ZERO,
        rout: Amount::ZERO,
        queue: 0,
        ttft_ms: 0,
        tokens_per_s: 0,
        leaving: false,
    }
}

async fn serve(bulk: Arc<BulkEndpoint>, object: BlobId, manifest: Vec<u8>, index: u8) {
    let bytes = ObjectManifest::decode_as(object, &manifest).unwrap().fragment_len();
    while let Some(BulkStream { stream, .. }) = bulk.accept().await {
        let (mut sender, mut receiver) = stream.split();
        let Ok(frame) = recv_message(&mut receiver, MESSAGE_BYTES_MAX, None).await else { continue };
        let reply = match Request::decode(&frame) {
            Ok(Request::Locate { object: asked }) if asked == object => {
                Reply::Located { object, manifest: manifest.clone(), indices: vec![index] }
            }
            Ok(Request::Read { object: asked, index: wanted, run }) if asked == object && wanted == index => {
                drop(sender.send(&Reply::Range { object, index, run }.encode()).await);
                drop(sender.send_raw(&vec![0x5a; run.encoded_len(bytes)]).await);
                drop(sender.finish().await);
                continue;
            }
            _ => Reply::Refused(Refusal::Unknown { object }),
        };
        // A reader that has heard enough may be gone.
        drop(send_message(&mut sender, &reply.encode()).await);
        tokio::spawn(async move { drop(tokio::time::timeout(LIMIT, sender.closed()).await) });
    }
}

/// Two honest holders and the liar: one fragment too few, and the error says who sent what. `absent` is a fragment that nobody else has.
pub(super) async fn wrong_bytes_on_the_wire_name_their_sender(world: &World, object: BlobId, absent: u8) -> Liar {
    let liar = Liar::start(world, object, absent).await;
    let reader = world.party("reader-of-lies");
    let mut error = String::new();
    for _ in 0..6 {
        // The ad may not have come round yet.
        error = world.error(&reader.folder, &["datanet", "fetch", "medical", "--contribution", "0"]);
        if error.contains(&liar.node.to_string()) {
            break;
        }
    }
    for word in [&liar.node.to_string(), &object.to_string(), &format!("fragment {absent}"), "the manifest names", "needs 3 fragments"] {
        assert!(error.contains(word), "wrong bytes were reported without {word}: {error}");
    }
    assert!(!reader.folder.join("shards").exists(), "nothing of a lie is kept");
    let error = world.error(&reader.folder, &["datanet", "verify", "medical", "--contribution", "0"]);
    let place = format!("holder {}, object {object}, fragment {absent}: damaged", liar.node);
    assert!(error.contains(&place), "{place} is not in {error}");
    liar
}

/// With enough honest holders the same liar costs nothing but a line that names it, and what they sent before is not asked for again.
pub(super) fn enough_honest_holders_suffice(world: &World, liar: &Liar) {
    let fetch = |folder: &Path| world.ok(folder, &["datanet", "fetch", "medical", "--contribution", "0"]);
    let fetched = [fetch(&world.folder.path().join("reader-of-lies")), fetch(&world.party("reader-of-truth").folder)];
    for (fetched, least) in fetched.iter().zip([1, 3]) {
        let holders = fetched["holders"].as_object().unwrap();
        assert!(holders.len() >= least && !holders.contains_key(&liar.node.to_string()), "{fetched}");
        let blamed = fetched["blamed"].as_array().unwrap();
        assert!(blamed.iter().all(|line| line.as_str().unwrap().contains(&liar.node.to_string())), "{fetched}");
    }
}
