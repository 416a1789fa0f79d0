//! Connections: who is there, whom to dial, and when to start afresh.
//!
//! Gossip greets a peer (tells its topics) on the first connection only, and shares one queue among all. When a peer's process
//! died and came back while its old connection had not yet timed out here, the new connection is not its first for us: the
//! newcomer is never greeted, and what is meant for it may go into the dead connection. Likewise when two processes run under one
//! key. Each connection tells, in its first exchange, its process's incarnation, and these rules heal both cases:
//! - a later incarnation than known: all connections of the peer are dropped; whoever lives dials again;
//! - an earlier one: that connection is dropped;
//! - the same one, long after the first connection: as a later one, for a node that does not count its starts;
//! - a peer that has not greeted us within [`GREETING_LIMIT`] is dropped.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tracing::debug;
use types::id::NodeId;
use types::time::Time;

use super::super::OverlayEvent;
use super::super::behaviour::is_dialable;
use super::Actor;
use crate::identity::{node_of_peer, peer_of_node};
use crate::proto::ads::Ad;
use crate::proto::dial::{Bootstrap, DialBook, Facts, PEERS_TARGET, Target};

/// Two connections begun within this time are two nodes that dialled each other at once; later, the first is a dead one.
const DUPLICATE_GRACE: Duration = Duration::from_secs(2);
/// Peers remembered for having had two incarnations: the forgotten one's ghost costs one more round of dropping.
const INCARNATIONS_MAX: usize = 1024;
/// Time a peer has to subscribe to the ads.
const GREETING_LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Links {
    me: NodeId,
    book: DialBook,
    under_way: BTreeMap<ConnectionId, Target>,
    bootstraps: Vec<Known>,
    peers: BTreeMap<PeerId, Peer>,
    connected: BTreeSet<NodeId>,
    /// The latest incarnation seen of peers that had two: at most [`INCARNATIONS_MAX`].
    incarnations: BTreeMap<PeerId, u64>,
}

/// A configured address and who answered there last.
#[derive(Debug)]
struct Known {
    addr: Multiaddr,
    peer: Option<PeerId>,
    is_own: bool,
}

#[derive(Debug)]
struct Peer {
    node: NodeId,
    since: Time,
    has_greeted: bool,
    incarnation: Option<u64>,
    connections: u32,
    /// What we dialled to reach it, if we did.
    target: Option<Target>,
}

impl Links {
    pub(super) fn new(me: NodeId, bootstrap: &[Multiaddr]) -> Self {
        let known = |addr: &Multiaddr| {
            let peer = addr.iter().find_map(|part| if let Protocol::P2p(peer) = part { Some(peer) } else { None });
            Known { addr: addr.clone(), peer, is_own: false }
        };
        Self {
            me,
            book: DialBook::new(),
            under_way: BTreeMap::new(),
            bootstraps: bootstrap.iter().map(known).collect(),
            peers: BTreeMap::new(),
            connected: BTreeSet::new(),
            incarnations: BTreeMap::new(),
        }
    }

    pub(super) fn connected(&self) -> &BTreeSet<NodeId> {
        &self.connected
    }

    pub(super) fn node(&self, peer: &PeerId) -> Option<NodeId> {
        self.peers.get(peer).map(|peer| peer.node)
    }

    pub(super) fn peers_where(&self, is_wanted: impl Fn(NodeId) -> bool) -> Vec<PeerId> {
        self.peers.iter().filter(|(_, peer)| is_wanted(peer.node)).map(|(id, _)| *id).collect()
    }

    pub(super) fn has_greeted(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.has_greeted = true;
            if let Some(target) = peer.target {
                self.book.proved(target);
            }
        }
    }

    fn remember_incarnation(&mut self, peer: PeerId, incarnation: u64) {
        if self.incarnations.len() >= INCARNATIONS_MAX {
            self.incarnations.pop_first();
        }
        self.incarnations.insert(peer, incarnation);
    }

    fn bootstrap_states(&self) -> Vec<Bootstrap> {
        let state = |known: &Known| match known.peer {
            _ if known.is_own => Bootstrap::Own,
            Some(peer) if self.peers.contains_key(&peer) => Bootstrap::Connected,
            _ => Bootstrap::Missing,
        };
        self.bootstraps.iter().map(state).collect()
    }

    fn mute(&self, now: Time) -> Vec<PeerId> {
        let is_mute = |peer: &Peer| !peer.has_greeted && now.since(peer.since) > GREETING_LIMIT;
        self.peers.iter().filter(|(_, peer)| is_mute(peer)).map(|(id, _)| *id).collect()
    }
}

impl Actor {
    pub(super) fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, connections: u32) {
        let now = self.now();
        let target = self.links.under_way.remove(&connection);
        if let Some(target) = target {
            self.links.book.connected(target);
            if let Target::Bootstrap(index) = target
                && let Some(known) = self.links.bootstraps.get_mut(index)
            {
                known.peer = Some(peer);
            }
        }
        let Ok(node) = node_of_peer(peer) else { return self.disconnect(peer, "has no ed25519 key") };
        if self.gossip.is_refused(node) {
            self.disconnect(peer, "is refused here");
        }
        match self.links.peers.get_mut(&peer) {
            Some(known) => {
                known.connections = connections;
                known.target = known.target.or(target);
            }
            None => {
                let incarnation = self.links.incarnations.get(&peer).copied();
                let newcomer = Peer { node, since: now, has_greeted: false, incarnation, connections, target };
                self.links.peers.insert(peer, newcomer);
                self.links.connected.insert(node);
                self.emit(OverlayEvent::PeerConnected(node));
            }
        }
    }

    pub(super) fn on_identified(&mut self, peer: PeerId, connection: ConnectionId, incarnation: u64) {
        let now = self.now();
        let Some(known) = self.links.peers.get_mut(&peer) else { return };
        let is_late_duplicate = known.connections > 1 && now.since(known.since) > DUPLICATE_GRACE;
        match known.incarnation.map(|latest| incarnation.cmp(&latest)) {
            None => known.incarnation = Some(incarnation),
            Some(Ordering::Less) => {
                debug!(%peer, incarnation, "let an earlier incarnation go");
                self.swarm.close_connection(connection);
            }
            Some(Ordering::Greater) => {
                self.links.remember_incarnation(peer, incarnation);
                self.disconnect(peer, "has a later incarnation");
            }
            Some(Ordering::Equal) if is_late_duplicate => self.disconnect(peer, "connected anew while an old connection lingered"),
            Some(Ordering::Equal) => {}
        }
    }

    pub(super) fn on_connection_closed(&mut self, peer: PeerId, remaining: u32) {
        if remaining > 0 {
            if let Some(known) = self.links.peers.get_mut(&peer) {
                known.connections = remaining;
            }
            return;
        }
        self.gossip.forget(&peer);
        let Some(lost) = self.links.peers.remove(&peer) else { return };
        self.links.connected.remove(&lost.node);
        if let Some(target) = lost.target.filter(|_| !lost.has_greeted) {
            let now = self.now();
            self.links.book.failed(now, target);
        }
        self.emit(OverlayEvent::PeerLost(lost.node));
    }

    pub(super) fn on_dial_error(&mut self, connection: ConnectionId, error: &DialError) {
        let Some(target) = self.links.under_way.remove(&connection) else { return };
        debug!(?target, %error, "dial failed");
        self.dial_failed(target, error);
    }

    fn dial_failed(&mut self, target: Target, error: &DialError) {
        let now = self.now();
        self.links.book.failed(now, target);
        if let (Target::Bootstrap(index), DialError::LocalPeerId { .. }) = (target, error)
            && let Some(known) = self.links.bootstraps.get_mut(index)
        {
            known.is_own = true;
        }
    }

    pub(super) fn disconnect(&mut self, peer: PeerId, why: &'static str) {
        debug!(%peer, why, "let a peer go");
        // An error says that it is gone already.
        let _gone = self.swarm.disconnect_peer_id(peer);
    }

    pub(super) fn drop_mute_peers(&mut self, now: Time) {
        if self.config.gossip {
            for peer in self.links.mute(now) {
                self.disconnect(peer, "did not subscribe to the ads");
            }
        }
    }

    pub(super) fn dial_due(&mut self, now: Time) {
        let is_seeking = self.links.connected.len() < PEERS_TARGET;
        let candidates = if is_seeking { self.gossip.nodes_where(|ad| !dialable_addrs(ad).is_empty()) } else { BTreeSet::new() };
        let states = self.links.bootstrap_states();
        let Links { me, book, connected, .. } = &mut self.links;
        let facts = Facts { me: *me, connected, bootstraps: &states, candidates: &candidates };
        for target in book.plan(now, &facts) {
            self.dial(target);
        }
    }

    fn dial(&mut self, target: Target) {
        let options = match target {
            Target::Bootstrap(index) => self.links.bootstraps.get(index).map(|known| DialOpts::from(known.addr.clone())),
            Target::Node(node) => self.gossip.get(node).and_then(|signed| {
                let peer = peer_of_node(node).ok()?;
                Some(DialOpts::peer_id(peer).addresses(dialable_addrs(signed.ad())).build())
            }),
        };
        let now = self.now();
        let Some(options) = options else { return self.links.book.failed(now, target) };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.links.under_way.insert(connection, target)),
            Err(error) => self.dial_failed(target, &error),
        }
    }
}

/// The addresses of an ad that we are willing to dial.
fn dialable_addrs(ad: &Ad) -> Vec<Multiaddr> {
    ad.overlay_addrs.iter().filter_map(|addr| addr.parse().ok()).filter(is_dialable).collect()
}
