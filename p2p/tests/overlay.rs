//! Real overlays over loopback: every node is given one bootstrap address at most.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use libp2p::futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, SwarmBuilder, gossipsub, identify, ping};
use p2p::identity::NodeSeed;
use p2p::overlay::{MESSAGE_LEN_MAX, Overlay, OverlayConfig, OverlayError, OverlayEvent, OverlayHandle, Verdict};
use p2p::proto::ads::{Ad, AdAsset, AdSite, Services, SignedAd};
use tokio::sync::{mpsc, oneshot};
use types::amount::Amount;
use types::id::{Address, AssetId, Hash32, NodeId};
use types::quote::Profile;

/// Every wait ends here: far above what it takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("answer before the deadline")
}

fn seed(byte: u8) -> NodeSeed {
    NodeSeed::new([byte; 32])
}

fn node(byte: u8) -> NodeId {
    seed(byte).node_id()
}

fn ad() -> Ad {
    Ad {
        node: NodeId::ZERO,
        account: Address([1; 20]),
        incarnation: 0,
        seq: 0,
        ttl_s: 6,
        client_addr: "127.0.0.1:1".parse().unwrap(),
        bulk_addr: "127.0.0.1:2".parse().unwrap(),
        overlay_addrs: vec![],
        site: AdSite::default(),
        services: Services::INFERENCE,
        bases: vec![AdAsset { asset: AssetId(1), version: 1, hash: Hash32([1; 32]) }],
        adapters: vec![],
        profile: Some(Profile::Exact),
        rin: Amount(1),
        rout: Amount(2),
        queue: 0,
        ttft_ms: 10,
        tokens_per_s: 100,
        leaving: false,
    }
}

type Running = (OverlayHandle, mpsc::Receiver<OverlayEvent>);

async fn start(byte: u8, bootstrap: &[Multiaddr]) -> Running {
    let config = OverlayConfig::loopback(seed(byte), bootstrap.to_vec());
    Overlay::start(OverlayConfig { incarnation: 1, ..config }).await.unwrap()
}

async fn start_again(byte: u8, bootstrap: &[Multiaddr]) -> Running {
    let config = OverlayConfig::loopback(seed(byte), bootstrap.to_vec());
    Overlay::start(OverlayConfig { incarnation: 2, ..config }).await.unwrap()
}

fn is_second_incarnation(ads: &[Arc<SignedAd>]) -> bool {
    ads.iter().any(|signed| signed.ad().node == node(2) && signed.ad().incarnation == 2)
}

/// The QUIC address alone, or the TCP address alone.
fn one_address(overlay: &OverlayHandle, kind: &str) -> Vec<Multiaddr> {
    overlay.listen_addrs().into_iter().filter(|addr| addr.to_string().contains(kind)).take(1).collect()
}

async fn hears(overlay: &OverlayHandle, expected: &[u8]) -> Vec<Arc<SignedAd>> {
    let expected: BTreeSet<NodeId> = expected.iter().map(|byte| node(*byte)).collect();
    overlay
        .wait_ads(|ads| ads.iter().map(|signed| signed.ad().node).collect::<BTreeSet<_>>() == expected, LIMIT)
        .await
        .unwrap_or_else(|error| panic!("{} did not hear exactly {expected:?}: {error}", overlay.node()))
}

async fn is_connected_to(events: &mut mpsc::Receiver<OverlayEvent>, expected: &[u8]) {
    let mut missing: BTreeSet<NodeId> = expected.iter().map(|byte| node(*byte)).collect();
    within(async {
        while !missing.is_empty() {
            match events.recv().await.expect("overlay runs") {
                OverlayEvent::PeerConnected(node) => drop(missing.remove(&node)),
                OverlayEvent::PeerLost(node) if expected.iter().any(|byte| self::node(*byte) == node) => drop(missing.insert(node)),
                _ => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn three_nodes_given_one_address_learn_each_other_and_outlive_the_bootstrap() {
    let (first, _first_events) = start(1, &[]).await;
    let address = one_address(&first, "quic");
    let (second, mut second_events) = start(2, &address).await;
    let (third, _third_events) = start(3, &address).await;
    for overlay in [&first, &second, &third] {
        overlay.set_ad(ad()).await.unwrap();
    }
    hears(&first, &[2, 3]).await;
    hears(&second, &[1, 3]).await;
    let ads = hears(&third, &[1, 2]).await;
    assert!(ads.iter().all(|signed| signed.ad().overlay_addrs.len() == 2), "the overlay fills in where it listens");

    is_connected_to(&mut second_events, &[1, 3]).await;
    first.shutdown().await;
    hears(&second, &[3]).await;
    hears(&third, &[2]).await;
    assert_eq!(second.peers().await.unwrap(), [node(3)]);
}

#[tokio::test]
async fn a_refused_node_is_neither_connected_to_nor_heard_of_through_others_until_it_is_refused_no_longer() {
    let (first, mut first_events) = start(1, &[]).await;
    let address = one_address(&first, "quic");
    let (second, mut second_events) = start(2, &address).await;
    let (third, _third_events) = start(3, &address).await;
    for overlay in [&first, &second, &third] {
        overlay.set_ad(ad()).await.unwrap();
    }
    hears(&second, &[1, 3]).await;
    is_connected_to(&mut second_events, &[1, 3]).await;
    second.refuse(BTreeSet::from([node(1)])).await.unwrap();
    assert_eq!(hears(&second, &[3]).await.len(), 1);
    within(async { while first_events.recv().await.unwrap() != OverlayEvent::PeerLost(node(2)) {} }).await;
    // The third goes on telling of the first, and the second dials it as its bootstrap: three repetitions of the ad.
    let until = tokio::time::Instant::now() + Duration::from_secs(6);
    while tokio::time::Instant::now() < until {
        let known: Vec<NodeId> = second.ads().await.unwrap().iter().map(|signed| signed.ad().node).collect();
        assert!(!known.contains(&node(1)), "a refused node's ad was taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    second.refuse(BTreeSet::new()).await.unwrap();
    hears(&second, &[1, 3]).await;
    hears(&first, &[2, 3]).await;
}

#[tokio::test]
async fn without_gossip_nothing_is_learnt() {
    let config = |byte, bootstrap| OverlayConfig { gossip: false, ..OverlayConfig::loopback(seed(byte), bootstrap) };
    let (first, mut first_events) = Overlay::start(config(1, vec![])).await.unwrap();
    let address = one_address(&first, "quic");
    let (second, _second_events) = Overlay::start(config(2, address.clone())).await.unwrap();
    let (third, mut third_events) = Overlay::start(config(3, address)).await.unwrap();
    for overlay in [&first, &second, &third] {
        overlay.set_ad(ad()).await.unwrap();
    }
    is_connected_to(&mut first_events, &[2, 3]).await;
    is_connected_to(&mut third_events, &[1]).await;
    // Longer than the pause between two ads: with gossip they would have come.
    let error = third.wait_ads(|ads| !ads.is_empty(), Duration::from_secs(4)).await.unwrap_err();
    assert!(matches!(error, OverlayError::Timeout { have: 0, .. }), "{error}");
    assert_eq!(third.peers().await.unwrap(), [node(1)], "nobody told it of the second node");
}

#[tokio::test]
async fn a_late_client_over_tcp_catches_up_without_an_ad_of_its_own() {
    let (first, _first_events) = start(1, &[]).await;
    let (second, _second_events) = start(2, &one_address(&first, "quic")).await;
    first.set_ad(ad()).await.unwrap();
    second.set_ad(ad()).await.unwrap();
    hears(&first, &[2]).await;
    let (late, _late_events) = Overlay::start(OverlayConfig::light(one_address(&first, "tcp"))).await.unwrap();
    assert!(late.listen_addrs().is_empty());
    hears(&late, &[1, 2]).await;
    assert!(!first.ads().await.unwrap().iter().any(|signed| signed.ad().node == late.node()));
}

#[tokio::test]
async fn a_node_starts_while_its_bootstrap_is_down_and_joins_when_it_comes() {
    let reserved = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = reserved.local_addr().unwrap().port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap();
    let (early, mut early_events) = start(1, std::slice::from_ref(&address)).await;
    early.set_ad(ad()).await.unwrap();
    let silent = early.wait_ads(|ads| !ads.is_empty(), Duration::from_secs(1)).await;
    assert!(matches!(silent, Err(OverlayError::Timeout { .. })));
    drop(reserved);
    let config = OverlayConfig { listen: vec![address], ..OverlayConfig::loopback(seed(2), vec![]) };
    let (late, _late_events) = Overlay::start(config).await.unwrap();
    late.set_ad(ad()).await.unwrap();
    is_connected_to(&mut early_events, &[2]).await;
    hears(&early, &[2]).await;
    hears(&late, &[1]).await;
}

#[tokio::test]
async fn a_later_incarnation_displaces_its_ghost() {
    let (first, _first_events) = start(1, &[]).await;
    let address = one_address(&first, "quic");
    first.set_ad(ad()).await.unwrap();
    let (ghost, _ghost_events) = start(2, &address).await;
    ghost.set_ad(ad()).await.unwrap();
    hears(&first, &[2]).await;
    // The same key starts again while the first process still runs: as after a copied data folder.
    let (second, _second_events) = start_again(2, &address).await;
    second.set_ad(ad()).await.unwrap();
    first.wait_ads(is_second_incarnation, LIMIT).await.unwrap();
    hears(&second, &[1]).await;
}

#[tokio::test]
async fn a_ghost_that_hears_of_its_successor_falls_silent() {
    let (first, _first_events) = start(1, &[]).await;
    let (third, _third_events) = start(3, &one_address(&first, "quic")).await;
    let (ghost, mut ghost_events) = start(2, &one_address(&first, "quic")).await;
    ghost.set_ad(ad()).await.unwrap();
    hears(&third, &[2]).await;
    // It knows the third node only: the first has no ad that would lead there.
    let (second, _second_events) = start_again(2, &one_address(&third, "quic")).await;
    second.set_ad(ad()).await.unwrap();
    within(async { while ghost_events.recv().await.unwrap() != (OverlayEvent::Fenced { incarnation: 2 }) {} }).await;
    first.wait_ads(is_second_incarnation, LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_node_killed_without_a_word_rejoins_after_its_restart() {
    let (first, _first_events) = start(1, &[]).await;
    let address = one_address(&first, "quic");
    first.set_ad(ad()).await.unwrap();
    // A runtime of its own, dropped at once: no farewell, no closing of connections.
    let (kill, killed) = oneshot::channel::<()>();
    let doomed = std::thread::spawn({
        let address = address.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let running = runtime.block_on(async {
                let running = start(2, &address).await;
                running.0.set_ad(ad()).await.unwrap();
                hears(&running.0, &[1]).await;
                killed.await.unwrap();
                running
            });
            runtime.shutdown_background();
            drop(running);
        }
    });
    hears(&first, &[2]).await;
    kill.send(()).unwrap();
    tokio::task::spawn_blocking(move || doomed.join().unwrap()).await.unwrap();
    let (again, mut again_events) = start_again(2, &address).await;
    again.set_ad(ad()).await.unwrap();
    hears(&again, &[1]).await;
    first.wait_ads(is_second_incarnation, LIMIT).await.unwrap();
    is_connected_to(&mut again_events, &[1]).await;
}

#[tokio::test]
async fn a_silent_node_disappears_within_its_time_to_live() {
    let (first, mut events) = start(1, &[]).await;
    let (second, _second_events) = start(2, &one_address(&first, "tcp")).await;
    second.set_ad(Ad { ttl_s: 1, ..ad() }).await.unwrap();
    hears(&first, &[2]).await;
    // Dropping the handle stops the node; it says farewell, and would expire without.
    drop(second);
    hears(&first, &[]).await;
    within(async { while events.recv().await.unwrap() != OverlayEvent::AdLost(node(2)) {} }).await;
}

#[tokio::test]
async fn messages_wait_for_a_peer_and_bad_ones_are_not_forwarded() {
    let (first, _first_events) = start(1, &[]).await;
    let publishing = tokio::spawn({
        let first = first.clone();
        async move { first.publish("audit", b"good".to_vec()).await }
    });
    let (second, _second_events) = start(2, &one_address(&first, "quic")).await;
    let check = |data: &[u8]| if data.starts_with(b"good") { Verdict::Accept } else { Verdict::Reject };
    let mut inbox = second.subscribe("audit", Box::new(check)).await.unwrap();
    within(publishing).await.unwrap().unwrap();
    let message = within(inbox.recv()).await.unwrap();
    assert_eq!((message.forwarder, message.data.as_slice()), (node(1), b"good".as_slice()));

    first.publish("audit", b"bad".to_vec()).await.unwrap();
    let long = [b"good".as_slice(), &vec![7; MESSAGE_LEN_MAX - 4]].concat();
    first.publish("audit", long.clone()).await.unwrap();
    assert_eq!(within(inbox.recv()).await.unwrap().data, long, "the longest message arrives, the bad one did not");

    let again = second.subscribe("audit", Box::new(check)).await.unwrap_err();
    assert!(matches!(again, OverlayError::TopicTaken { .. }));
    let too_long = first.publish("audit", vec![0; MESSAGE_LEN_MAX + 1]).await.unwrap_err();
    assert!(matches!(too_long, OverlayError::TooLong { .. }));
}

#[tokio::test]
async fn a_taken_port_and_a_foreign_address_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port()).parse().unwrap();
    let config = OverlayConfig { listen: vec![address.clone()], ..OverlayConfig::loopback(seed(1), vec![]) };
    let error = Overlay::start(config).await.unwrap_err();
    assert!(matches!(&error, OverlayError::Listen { addr, .. } if *addr == address), "{error}");
    let named: Multiaddr = "/dns4/example.org/tcp/1".parse().unwrap();
    let error = Overlay::start(OverlayConfig::light(vec![named])).await.unwrap_err();
    assert!(matches!(error, OverlayError::Address { .. }), "{error}");
}

#[tokio::test]
async fn a_stopped_overlay_answers_so() {
    let (overlay, _events) = start(1, &[]).await;
    overlay.shutdown().await;
    assert!(matches!(overlay.ads().await, Err(OverlayError::Stopped)));
    assert!(matches!(overlay.publish("audit", vec![]).await, Err(OverlayError::Stopped)));
}

#[tokio::test]
async fn a_bootstrap_given_its_own_address_serves_and_does_not_meet_itself() {
    let reserved = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address: Multiaddr = format!("/ip4/127.0.0.1/udp/{}/quic-v1", reserved.local_addr().unwrap().port()).parse().unwrap();
    drop(reserved);
    let config = OverlayConfig { listen: vec![address.clone()], ..OverlayConfig::loopback(seed(1), vec![address.clone()]) };
    let (first, _first_events) = Overlay::start(config).await.unwrap();
    first.set_ad(ad()).await.unwrap();
    let (second, _second_events) = start(2, std::slice::from_ref(&address)).await;
    second.set_ad(ad()).await.unwrap();
    hears(&second, &[1]).await;
    hears(&first, &[2]).await;
    assert_eq!(first.peers().await.unwrap(), [node(2)]);
}

/// A peer that speaks the protocols but obeys no rule of ours.
#[derive(libp2p::swarm::NetworkBehaviour)]
struct Hostile {
    gossip: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

fn hostile(keypair: &libp2p::identity::Keypair) -> Hostile {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .max_transmit_size(1 << 20)
        .message_id_fn(|message| gossipsub::MessageId::new(&message.data))
        .build()
        .unwrap();
    let agent = "tributary/0 incarnation/0".to_owned();
    Hostile {
        gossip: gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, config).unwrap(),
        identify: identify::Behaviour::new(identify::Config::new("tributary/1".into(), keypair.public()).with_agent_version(agent)),
        ping: ping::Behaviour::default(),
    }
}

/// Sends the messages in order as soon as the victim takes both topics, then says so and stays connected.
async fn attack(victim: Multiaddr, messages: Vec<(&'static str, Vec<u8>)>, sent: oneshot::Sender<()>) {
    let mut swarm = SwarmBuilder::with_new_identity().with_tokio().with_quic().with_behaviour(hostile).unwrap().build();
    for topic in [ADS, SNAPSHOT] {
        swarm.behaviour_mut().gossip.subscribe(&gossipsub::IdentTopic::new(topic)).unwrap();
    }
    swarm.dial(victim).unwrap();
    let mut topics = 0;
    while topics < 2 {
        let event = swarm.select_next_some().await;
        topics += usize::from(matches!(event, SwarmEvent::Behaviour(HostileEvent::Gossip(gossipsub::Event::Subscribed { .. }))));
    }
    for (topic, data) in messages {
        swarm.behaviour_mut().gossip.publish(gossipsub::IdentTopic::new(topic), data).unwrap();
    }
    sent.send(()).unwrap();
    loop {
        swarm.select_next_some().await;
    }
}

const ADS: &str = "tributary/ads/v1";
const SNAPSHOT: &str = "tributary/ads-snapshot/v1";

#[tokio::test]
async fn forged_and_broken_ads_are_not_believed() {
    let (first, mut events) = start(1, &[]).await;
    let honest = SignedAd::sign(&seed(5), ad()).unwrap();
    let mut forged = SignedAd::sign(&seed(6), ad()).unwrap().bytes().to_vec();
    forged[10] ^= 1;
    let mut snapshot = vec![0; 40];
    p2p::frame::encode(SignedAd::sign(&seed(7), ad()).unwrap().bytes(), &mut snapshot).unwrap();
    snapshot.extend([0xff; 5]);
    let messages = vec![(ADS, forged), (SNAPSHOT, snapshot), (ADS, honest.bytes().to_vec())];
    let (sent, _sent) = oneshot::channel();
    let attacker = tokio::spawn(attack(one_address(&first, "quic").remove(0), messages, sent));
    // Messages of one peer arrive in order: when the last is heard, the others were judged.
    within(async { while events.recv().await.unwrap() != OverlayEvent::AdHeard(node(5)) {} }).await;
    let known: Vec<NodeId> = first.ads().await.unwrap().iter().map(|signed| signed.ad().node).collect();
    assert!(!known.contains(&node(6)), "a forged ad was believed");
    assert!(known.contains(&node(7)), "what stands before the broken end of a snapshot is signed, and counts");
    attacker.abort();
}

#[tokio::test]
async fn a_peer_that_keeps_sending_broken_ads_is_no_longer_listened_to() {
    let (first, _first_events) = start(1, &[]).await;
    let (witness, _witness_events) = start(2, &one_address(&first, "quic")).await;
    let mut messages: Vec<_> = (0..12u8).map(|number| (ADS, vec![number; 300])).collect();
    messages.push((ADS, SignedAd::sign(&seed(5), ad()).unwrap().bytes().to_vec()));
    let (sent, was_sent) = oneshot::channel();
    let attacker = tokio::spawn(attack(one_address(&first, "quic").remove(0), messages, sent));
    within(was_sent).await.unwrap();
    // What must not happen needs time to happen: without scores the last ad is known a few milliseconds later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(first.ads().await.unwrap(), [], "an ad from a peer in disgrace was taken");
    witness.set_ad(ad()).await.unwrap();
    hears(&first, &[2]).await;
    attacker.abort();
}
