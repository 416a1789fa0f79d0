//! Ten thousand false records of who holds what: ads of nodes that are none, each pointing at a peer that claims to hold every fragment of everything, and
//! records of holders that nobody signed, or the liar itself. A reader reads all the same, honest nodes grow by what their tables are bounded to, and
//! nothing is read from the liar.
//!
//! A peer may bring some 500 nodes that nobody has heard of, so the ads come from twenty peers. `TRIBUTARY_FALSE_RECORDS` names another number of them: their peers come
//! one after another, twenty at a time, since nodes refuse more connections than they have places for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, SwarmBuilder, gossipsub, identify, noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use node::datanet::{
    exchange::{STORAGE_ALPN, ask, recv_message, send_message},
    keeping,
};
use p2p::{
    bulk::{BulkEndpoint, BulkLimits, BulkStream},
    identity::NodeSeed,
    overlay::{Overlay, OverlayConfig},
    proto::ads::{SignedAd, TABLE_LIVE_MAX},
};
use storage::{
    erasure::ObjectManifest,
    proto::{
        keeping::{Ask, Record, Reply as Word},
        message::{MESSAGE_BYTES_MAX, Refusal, Reply, Request},
    },
};
use types::{
    id::{Address, BlobId, NodeId},
    key::{Account, Domains, Signed},
    placement::Placement,
};

use super::{
    Party, World,
    liar::{LIMIT, ad},
};

/// False ads where nobody names a number; of false records a tenth.
const FALSE: usize = 10_000;
/// Ads that one peer brings: below what it may bring of nodes unheard of.
const PER_PEER: usize = 500;
/// Times that a node is asked again to hear one false record.
const ASKED_MAX: u32 = 5;
/// Peers that are connected at once.
const PEERS: usize = 20;
/// Most by which an honest node may grow: 16 MiB of ads, the names of twice as many nodes, and what an allocator keeps.
const GROWTH_MAX: u64 = 96 << 20;
/// Longest wait for the ads to arrive, once all were said.
const ARRIVAL: Duration = Duration::from_secs(30);
const ADS: &str = "tributary/ads/v1";

#[derive(NetworkBehaviour)]
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

/// Says all these ads to one node, as fast as it takes them, and stays connected for a while.
async fn say(victim: Multiaddr, ads: Vec<Vec<u8>>) {
    let swarm = SwarmBuilder::with_new_identity().with_tokio().with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default);
    let mut swarm = swarm.unwrap().with_quic().with_behaviour(hostile).unwrap().build();
    let topic = gossipsub::IdentTopic::new(ADS);
    swarm.behaviour_mut().gossip.subscribe(&topic).unwrap();
    swarm.dial(victim.clone()).unwrap();
    let (mut is_heard, mut tries) = (false, 1);
    while !is_heard {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(HostileEvent::Gossip(gossipsub::Event::Subscribed { topic, .. })) => is_heard |= topic.as_str() == ADS,
            // Beside everything else that runs on this machine a handshake may take longer than it may.
            SwarmEvent::OutgoingConnectionError { error, .. } => {
                assert!(tries < 20, "a node was not reached: {error}");
                tries += 1;
                swarm.dial(victim.clone()).unwrap();
            }
            _ => {}
        }
    }
    for ad in ads {
        // A full queue takes more once the connection has carried some of it.
        while swarm.behaviour_mut().gossip.publish(topic.clone(), ad.clone()).is_err() {
            assert!(swarm.connected_peers().next().is_some(), "a node ended the connection: it takes no more than that");
            drop(tokio::time::timeout(Duration::from_millis(5), swarm.select_next_some()).await);
        }
    }
    drop(tokio::time::timeout(Duration::from_secs(2), async { while swarm.next().await.is_some() {} }).await);
}

/// Claims to hold every fragment of every object, and sends noise for all of them.
struct Liar {
    bulk: Arc<BulkEndpoint>,
    reads: Arc<AtomicUsize>,
    seed: NodeSeed,
}

impl Liar {
    async fn start(world: &World, object: BlobId) -> Self {
        let seed = NodeSeed::generate();
        let bulk =
            Arc::new(BulkEndpoint::start(&seed, "127.0.0.1:0".parse().unwrap(), &[STORAGE_ALPN], BulkLimits::default()).await.unwrap());
        let (first, at) = at(&world.nodes[0]);
        let Reply::Located { manifest, .. } = ask(&bulk, first, at, &Request::Locate { object }, LIMIT).await.unwrap() else {
            panic!("the first node does not have it")
        };
        let reads = Arc::new(AtomicUsize::new(0));
        tokio::spawn(serve(Arc::clone(&bulk), object, manifest, Arc::clone(&reads)));
        Self { bulk, reads, seed }
    }
}

async fn serve(bulk: Arc<BulkEndpoint>, object: BlobId, manifest: Vec<u8>, reads: Arc<AtomicUsize>) {
    let known = ObjectManifest::decode_as(object, &manifest).unwrap();
    let all: Vec<u8> = (0..known.profile().total()).collect();
    while let Some(BulkStream { stream, .. }) = bulk.accept().await {
        let (mut sender, mut receiver) = stream.split();
        let Ok(frame) = recv_message(&mut receiver, MESSAGE_BYTES_MAX, None).await else { continue };
        let reply = match Request::decode(&frame) {
            Ok(Request::Locate { object }) => Reply::Located { object, manifest: manifest.clone(), indices: all.clone() },
            Ok(Request::Read { object, index, run }) => {
                reads.fetch_add(1, Ordering::Relaxed);
                drop(sender.send(&Reply::Range { object, index, run }.encode()).await);
                drop(sender.send_raw(&vec![0x5a; run.encoded_len(known.fragment_len())]).await);
                drop(sender.finish().await);
                continue;
            }
            _ => Reply::Refused(Refusal::Unknown { object }),
        };
        drop(send_message(&mut sender, &reply.encode()).await);
        tokio::spawn(async move { drop(tokio::time::timeout(LIMIT, sender.closed()).await) });
    }
}

fn at(party: &Party) -> (NodeId, std::net::SocketAddr) {
    (party.node.parse().unwrap(), party.bulk.parse().unwrap())
}

/// Resident bytes of a node.
fn resident(party: &Party) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", party.child.as_ref().unwrap().id())).unwrap();
    4_096 * text.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
}

/// Records of `object` that do not stand: by the liar, under the contributor's name, and of an object that nobody registered.
fn records(object: BlobId, domains: &Domains, contributor: Address, count: usize) -> Vec<Vec<u8>> {
    let liar = Account::from_bytes(&[7; 32]).unwrap();
    let record = |number: usize| {
        let number_bytes = u32::try_from(number).unwrap().to_be_bytes();
        let of = BlobId::of(&number_bytes);
        let holders = (1..=5_u8).map(|byte| Address([byte; 20])).collect();
        let (object, contributor) = match number % 3 {
            0 => (object, liar.address()),
            1 => (object, contributor),
            _ => (of, liar.address()),
        };
        let placement = Placement { contributor, object, block: number as u64, data: 3, holders };
        Record::new(Signed::new(&liar, domains, placement)).encode()
    };
    (0..count).map(record).collect()
}

/// Every node is told; what it has of objects stays as it is. The Datanet "medical" is read at the end.
pub(super) async fn false_records_cost_a_bounded_table_and_no_read(world: &World, object: BlobId, contributor: Address) {
    let count = std::env::var("TRIBUTARY_FALSE_RECORDS").map_or(FALSE, |text| text.parse().expect("TRIBUTARY_FALSE_RECORDS is a number"));
    let held = |party: &Party| world.ok(&party.folder, &["storage", "status"])["objects"].clone();
    let objects: Vec<_> = world.nodes.iter().map(|party| held(party).as_array().unwrap().len()).collect();
    let before: Vec<u64> = world.nodes.iter().map(resident).collect();
    let liar = Liar::start(world, object).await;
    let bootstrap = world.nodes[0].overlay.parse().unwrap();
    let (overlay, mut events) = Overlay::start(OverlayConfig::loopback(liar.seed.clone(), vec![bootstrap])).await.unwrap();
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    overlay.set_ad(ad(liar.seed.node_id(), liar.bulk.local_addr())).await.unwrap();

    let started = Instant::now();
    let saying = (0..count).step_by(PER_PEER).enumerate().map(|(number, first)| {
        let victim: Multiaddr = world.nodes[number % world.nodes.len()].overlay.parse().unwrap();
        let at = liar.bulk.local_addr();
        async move {
            let signed = (first..count.min(first + PER_PEER)).map(|_| {
                let seed = NodeSeed::generate();
                SignedAd::sign(&seed, p2p::proto::ads::Ad { ttl_s: 30, incarnation: 1, seq: 1, ..ad(seed.node_id(), at) })
                    .unwrap()
                    .bytes()
                    .to_vec()
            });
            let signed = signed.collect();
            tokio::spawn(async move { tokio::time::timeout(LIMIT, say(victim, signed)).await.unwrap() }).await.unwrap();
        }
    });
    let domains = world.chain.domains();
    let told = async {
        for (number, record) in records(object, &domains, contributor, count / 10).into_iter().enumerate() {
            let (node, at) = at(&world.nodes[number % world.nodes.len()]);
            // With ads coming in as fast as they are signed, a handshake may not be done in its time.
            let mut asked = 0;
            let word = loop {
                match keeping::ask(&liar.bulk, node, at, &Ask::Tell(record.clone()), LIMIT).await {
                    Ok(word) => break word,
                    Err(error) if asked == ASKED_MAX => panic!("record {number} was not heard: {error:#}"),
                    Err(_) => asked += 1,
                }
            };
            assert!(matches!(word, Word::Refused(_)), "a false record was taken: {word:?}");
        }
    };
    let said = futures::stream::iter(saying).buffer_unordered(PEERS).collect::<()>();
    tokio::join!(told, said);
    println!("{:.1} s: everything was said", started.elapsed().as_secs_f64());
    let said = Instant::now();
    let providers = |party: &Party| world.ok(&party.folder, &["status"])["providers"].as_u64().unwrap();
    let least = u64::try_from(count.min(TABLE_LIVE_MAX) / 4).unwrap();
    while providers(&world.nodes[0]) < least {
        assert!(said.elapsed() < ARRIVAL, "{} ads have reached the first node, {least} were to", providers(&world.nodes[0]));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let reader = world.party("reader-in-a-flood");
    let fetched = world.ok(&reader.folder, &["datanet", "fetch", "medical", "--contribution", "0"]);
    let honest: Vec<&str> = world.nodes.iter().map(|party| party.node.as_str()).collect();
    let holders = fetched["holders"].as_object().unwrap();
    assert!(holders.len() >= 3 && holders.keys().all(|holder| honest.contains(&holder.as_str())), "{fetched}");
    assert_eq!(
        (fetched["blamed"].as_array().map(Vec::len), liar.reads.load(Ordering::Relaxed)),
        (Some(0), 0),
        "the liar was asked before others"
    );
    for (number, party) in world.nodes.iter().enumerate() {
        let (known, now) = (providers(party), resident(party));
        assert!(known <= TABLE_LIVE_MAX as u64, "node {number} knows {known}");
        let growth = now.saturating_sub(before[number]);
        println!("node {number}: {known} ads of {count} false ones and the others', {} KiB more than before", growth >> 10);
        assert!(growth < GROWTH_MAX, "node {number} grew by {growth} bytes");
        assert_eq!(held(party).as_array().unwrap().len(), objects[number], "a false record was taken down");
    }
    println!("{count} false ads and {} false records in {:.1} s", count / 10, started.elapsed().as_secs_f64());
    overlay.shutdown().await;
    liar.bulk.close().await;
}
