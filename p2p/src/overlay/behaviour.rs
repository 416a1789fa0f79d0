//! The swarm: which protocols run, with which limits.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{
    self, Config, ConfigBuilder, IdentTopic, MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, TopicScoreParams,
    ValidationMode,
};
use libp2p::identity::PublicKey;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, identify, noise, ping, tcp, yamux};

use super::{MESSAGE_LEN_MAX, OverlayError};
use crate::identity::NodeSeed;

/// The network's name and major version: a peer that says another is let go.
pub(super) const PROTOCOL: &str = "tributary/1";

/// Connections at once: about 100 KiB each, 25 MiB. A quarter is kept for those we dial, so that strangers cannot fill the table.
const ESTABLISHED_MAX: u32 = 256;
const ESTABLISHED_IN_MAX: u32 = 192;
const PENDING_MAX: u32 = 64;
/// Two nodes that dial each other at once hold two; a third is an attack or a defect.
const PER_PEER_MAX: u32 = 3;
/// Connections without any use are closed after this. Gossip keeps those of its mesh.
const UNUSED_LIMIT: Duration = Duration::from_secs(300);
/// Silence after which a QUIC connection is gone: a restarted peer can only be greeted anew when its old connection has ended.
const QUIC_IDLE_MS: u32 = 4_000;
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// What gossip adds to a message on the wire: topic and lengths.
const ENVELOPE_LEN: usize = 1024;

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(super) gossip: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

pub(super) fn swarm(seed: &NodeSeed, incarnation: u64, scored: &[IdentTopic]) -> Result<Swarm<Behaviour>, OverlayError> {
    let set_up = |error: String| OverlayError::SetUp(error);
    let keypair = seed.libp2p_keypair();
    let behaviour = behaviour(keypair.public(), incarnation, scored).map_err(set_up)?;
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| set_up(error.to_string()))?
        .with_quic_config(|mut quic| {
            quic.max_idle_timeout = QUIC_IDLE_MS;
            quic.keep_alive_interval = QUIC_KEEP_ALIVE;
            quic
        })
        .with_behaviour(|_| behaviour)
        .expect("the behaviour is already built")
        .with_swarm_config(|config| config.with_idle_connection_timeout(UNUSED_LIMIT))
        .build();
    Ok(swarm)
}

fn behaviour(key: PublicKey, incarnation: u64, scored: &[IdentTopic]) -> Result<Behaviour, String> {
    let mut gossip = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, gossip_config()?)?;
    gossip.with_peer_score(score(scored), PeerScoreThresholds::default())?;
    let limits = ConnectionLimits::default()
        .with_max_established(Some(ESTABLISHED_MAX))
        .with_max_established_incoming(Some(ESTABLISHED_IN_MAX))
        .with_max_established_per_peer(Some(PER_PEER_MAX))
        .with_max_pending_incoming(Some(PENDING_MAX))
        .with_max_pending_outgoing(Some(PENDING_MAX));
    let agent = agent(incarnation);
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        gossip,
        identify: identify::Behaviour::new(identify::Config::new(PROTOCOL.into(), key).with_agent_version(agent).with_cache_size(0)),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_secs(5)).with_timeout(Duration::from_secs(10))),
    })
}

/// What a peer says of its software: name, version, and which start of it this is.
fn agent(incarnation: u64) -> String {
    format!("tributary/{} incarnation/{incarnation}", env!("CARGO_PKG_VERSION"))
}

/// The incarnation in a peer's words; `None` when it is no peer of ours.
pub(super) fn incarnation_of(agent: &str) -> Option<u64> {
    agent.strip_prefix("tributary/")?.split_once(" incarnation/")?.1.parse().ok()
}

/// Values are those of Ethereum's consensus network where not said otherwise.
fn gossip_config() -> Result<Config, String> {
    ConfigBuilder::default()
        .mesh_n(8)
        .mesh_n_low(6)
        .mesh_n_high(12)
        .mesh_outbound_min(3)
        .gossip_lazy(6)
        .heartbeat_interval(Duration::from_millis(700))
        // The default of 5 s would leave a young network without lazy gossip for that long.
        .heartbeat_initial_delay(Duration::from_millis(100))
        .history_length(6)
        .history_gossip(3)
        .duplicate_cache_time(Duration::from_secs(300))
        .flood_publish(false)
        .validate_messages()
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(message_id)
        .max_transmit_size(MESSAGE_LEN_MAX + ENVELOPE_LEN)
        // The default of 5000 would hold up to 320 MiB for one slow peer.
        .connection_handler_queue_len(256)
        .max_publish_messages(500)
        .build()
        .map_err(|error| error.to_string())
}

/// The topic stands apart from the data, so that no pair of topics can share a name for a message.
fn message_id(message: &gossipsub::Message) -> MessageId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(message.topic.as_str().as_bytes()).update(&[0]).update(&message.data);
    MessageId::new(&hasher.finalize().as_bytes()[..20])
}

/// Mild: only invalid messages and abuse of the protocol cost score. Slow or idle meshes (P3) cost none, for topics here are
/// sparse and ordinary delay would get honest peers banned.
pub(super) fn topic_score() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 100.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: 0.9,
        first_message_deliveries_cap: 50.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // Squared by gossipsub: the second invalid message costs gossip, the fourth everything, until it decays over a minute.
        invalid_message_deliveries_weight: -5.0,
        invalid_message_deliveries_decay: 0.97,
        ..TopicScoreParams::default()
    }
}

fn score(scored: &[IdentTopic]) -> PeerScoreParams {
    PeerScoreParams {
        topics: scored.iter().map(|name| (name.hash(), topic_score())).collect(),
        ip_colocation_factor_threshold: 16.0,
        ip_colocation_factor_whitelist: HashSet::from([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]),
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: 0.9,
        ..PeerScoreParams::default()
    }
}

/// True for what we listen on and dial: an IP address with QUIC or TCP, perhaps with the peer's id. Anything else in a stranger's
/// ad (a name to resolve, a relay) is not followed.
#[must_use]
pub fn is_dialable(addr: &Multiaddr) -> bool {
    let mut parts = addr.iter();
    let is_ip = matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
    let is_transport = match parts.next() {
        Some(Protocol::Tcp(_)) => true,
        Some(Protocol::Udp(_)) => parts.next() == Some(Protocol::QuicV1),
        _ => false,
    };
    let is_end = match parts.next() {
        None => true,
        Some(Protocol::P2p(_)) => parts.next().is_none(),
        Some(_) => false,
    };
    is_ip && is_transport && is_end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ip_addresses_are_dialled() {
        let peer = NodeSeed::new([1; 32]).peer_id();
        for good in ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/udp/2/quic-v1", &format!("/ip4/10.0.0.1/tcp/1/p2p/{peer}")] {
            assert!(is_dialable(&good.parse().unwrap()), "{good}");
        }
        let relayed = format!("/ip4/10.0.0.1/tcp/1/p2p/{peer}/p2p-circuit");
        for bad in ["/dns4/example.org/tcp/1", "/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/2", "/ip4/1.2.3.4/tcp/1/ws", &relayed] {
            assert!(!is_dialable(&bad.parse().unwrap()), "{bad}");
        }
    }

    #[test]
    fn the_incarnation_is_read_back_and_other_software_has_none() {
        assert_eq!(incarnation_of(&agent(u64::MAX)), Some(u64::MAX));
        for other in ["", "go-libp2p/1", "tributary/1", "tributary/1 incarnation/", "tributary/1 incarnation/-1"] {
            assert_eq!(incarnation_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_message_name_separates_topic_from_data() {
        let named = |topic: &str, data: &[u8]| {
            let topic = IdentTopic::new(topic).hash();
            message_id(&gossipsub::Message { source: None, data: data.to_vec(), sequence_number: None, topic })
        };
        assert_ne!(named("ab", b"c"), named("a", b"bc"));
        assert_eq!(named("ab", b"c"), named("ab", b"c"));
        assert_eq!(named("ab", b"c").0.len(), 20);
    }
}
