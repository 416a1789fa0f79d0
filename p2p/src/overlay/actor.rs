//! The one task that owns the swarm: receives an event, calls one function, carries out what comes back.

mod gossip;
mod links;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, identify};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, warn};
use types::id::NodeId;
use types::time::Time;

use super::behaviour::{self, Behaviour, BehaviourEvent, PROTOCOL, is_dialable};
use super::pending::{Pending, Publication};
use super::{Check, Message, OverlayConfig, OverlayError, OverlayEvent};
use crate::proto::ads::{Ad, SignedAd};
use gossip::{Gossip, TOPIC_ADS, TOPIC_SNAPSHOT};
use links::Links;

/// How often what is due is looked for: dials, repeated ads, expiry, unsent messages.
const TICK: Duration = Duration::from_millis(100);
/// Time given to the last messages at the end: courtesy only, ads expire by themselves.
const FAREWELL: Duration = Duration::from_millis(200);

pub(super) enum Command {
    SetAd { ad: Box<Ad>, reply: oneshot::Sender<Result<(), OverlayError>> },
    Prefer { nodes: Vec<NodeId>, reply: oneshot::Sender<()> },
    Refuse { nodes: BTreeSet<NodeId>, reply: oneshot::Sender<()> },
    Ads { reply: oneshot::Sender<Vec<Arc<SignedAd>>> },
    Peers { reply: oneshot::Sender<Vec<NodeId>> },
    Publish { topic: String, data: Vec<u8>, reply: oneshot::Sender<Result<(), OverlayError>> },
    Subscribe { topic: String, check: Check, sender: mpsc::Sender<Message>, reply: oneshot::Sender<Result<(), OverlayError>> },
    Shutdown { reply: oneshot::Sender<()> },
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::SetAd { .. } => "SetAd",
            Self::Prefer { .. } => "Prefer",
            Self::Refuse { .. } => "Refuse",
            Self::Ads { .. } => "Ads",
            Self::Peers { .. } => "Peers",
            Self::Publish { .. } => "Publish",
            Self::Subscribe { .. } => "Subscribe",
            Self::Shutdown { .. } => "Shutdown",
        };
        f.write_str(name)
    }
}

pub(super) struct Actor {
    swarm: Swarm<Behaviour>,
    config: OverlayConfig,
    start: Instant,
    inbox: mpsc::Receiver<Command>,
    events: mpsc::Sender<OverlayEvent>,
    listen: watch::Sender<Vec<Multiaddr>>,
    /// Counts changes of the live ads.
    version: watch::Sender<u64>,
    links: Links,
    gossip: Gossip,
    pending: Pending,
}

/// What handles look at without asking.
pub(super) struct Watches {
    pub(super) listen: watch::Receiver<Vec<Multiaddr>>,
    pub(super) version: watch::Receiver<u64>,
}

impl Actor {
    pub(super) fn new(
        config: OverlayConfig,
        inbox: mpsc::Receiver<Command>,
        events: mpsc::Sender<OverlayEvent>,
    ) -> Result<(Self, Watches), OverlayError> {
        if let Some(addr) = config.bootstrap.iter().chain(&config.listen).find(|addr| !is_dialable(addr)) {
            return Err(OverlayError::Address { addr: addr.clone() });
        }
        let own_topics = [IdentTopic::new(TOPIC_ADS), IdentTopic::new(TOPIC_SNAPSHOT)];
        let mut swarm = behaviour::swarm(&config.seed, config.incarnation, &own_topics)?;
        if config.gossip {
            for topic in &own_topics {
                swarm.behaviour_mut().gossip.subscribe(topic).map_err(|error| OverlayError::SetUp(error.to_string()))?;
            }
        }
        let (listen, listen_reader) = watch::channel(Vec::new());
        let (version, version_reader) = watch::channel(0);
        let links = Links::new(config.seed.node_id(), &config.bootstrap);
        let gossip = Gossip::new(config.seed.clone(), config.incarnation);
        let pending = Pending::default();
        let actor = Self { swarm, config, start: Instant::now(), inbox, events, listen, version, links, gossip, pending };
        Ok((actor, Watches { listen: listen_reader, version: version_reader }))
    }

    /// Opens the listeners and waits until each has its address.
    pub(super) async fn listen(&mut self) -> Result<(), OverlayError> {
        let mut opening: Vec<(ListenerId, Multiaddr)> = Vec::new();
        for addr in self.config.listen.clone() {
            let failed = |reason: String| OverlayError::Listen { addr: addr.clone(), reason };
            let id = self.swarm.listen_on(addr.clone()).map_err(|error| failed(error.to_string()))?;
            opening.push((id, addr));
        }
        while !opening.is_empty() {
            let event = self.swarm.select_next_some().await;
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => opening.retain(|(id, _)| id != listener_id),
                SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                    if let Some((_, addr)) = opening.iter().find(|(id, _)| id == listener_id) {
                        return Err(OverlayError::Listen { addr: addr.clone(), reason: format!("listener closed: {reason:?}") });
                    }
                }
                _ => {}
            }
            self.on_swarm(event);
        }
        Ok(())
    }

    pub(super) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stopped = loop {
            tokio::select! {
                biased;
                command = self.inbox.recv() => match command {
                    Some(Command::Shutdown { reply }) => break Some(reply),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                _ = tick.tick() => self.on_tick(),
                event = self.swarm.select_next_some() => self.on_swarm(event),
            }
        };
        self.say_farewell().await;
        drop(self);
        if let Some(reply) = stopped {
            // The caller may have stopped waiting.
            let _unheard = reply.send(());
        }
    }

    fn now(&self) -> Time {
        Time::default().after(self.start.elapsed())
    }

    fn emit(&self, event: OverlayEvent) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            debug!(?event, "event dropped: its reader is behind");
        }
    }

    fn on_command(&mut self, command: Command) {
        let now = self.now();
        // A caller that stopped waiting needs no answer; what it asked for is done all the same.
        match command {
            Command::SetAd { ad, reply } => drop(reply.send(self.set_ad(now, *ad))),
            Command::Prefer { nodes, reply } => {
                self.gossip.prefer(nodes);
                let _unheard = reply.send(());
            }
            Command::Refuse { nodes, reply } => {
                self.refuse(nodes);
                let _unheard = reply.send(());
            }
            Command::Ads { reply } => drop(reply.send(self.gossip.live())),
            Command::Peers { reply } => drop(reply.send(self.links.connected().iter().copied().collect())),
            Command::Publish { topic, reply, .. } if gossip::is_own_topic(&topic) => {
                drop(reply.send(Err(OverlayError::TopicTaken { topic })));
            }
            Command::Publish { topic, data, reply } => {
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                let publication = Publication { topic, data, reply };
                self.pending.add(now, publication, |topic, data| gossip::publish(gossip, topic, data));
            }
            Command::Subscribe { topic, check, sender, reply } => drop(reply.send(self.subscribe(topic, check, sender))),
            Command::Shutdown { .. } => unreachable!("the loop takes it"),
        }
    }

    fn on_tick(&mut self) {
        let now = self.now();
        self.expire_ads(now);
        self.drop_mute_peers(now);
        self.dial_due(now);
        self.say_due(now);
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        self.pending.retry(now, |topic, data| gossip::publish(gossip, topic, data));
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, num_established, .. } => {
                self.on_connected(peer_id, connection_id, num_established.get());
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, .. } => self.on_connection_closed(peer_id, num_established),
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => self.on_dial_error(connection_id, &error),
            SwarmEvent::NewListenAddr { address, .. } => {
                let address = address.with(Protocol::P2p(*self.swarm.local_peer_id()));
                self.listen.send_modify(|known| known.push(address));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let address = address.with(Protocol::P2p(*self.swarm.local_peer_id()));
                self.listen.send_modify(|known| known.retain(|addr| *addr != address));
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => warn!(?addresses, ?reason, "a listener closed"),
            SwarmEvent::ListenerError { error, .. } => warn!(%error, "a listener reports an error"),
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_message(propagation_source, &message_id, message);
            }
            BehaviourEvent::Gossip(gossipsub::Event::Subscribed { peer_id, topic, .. }) => self.on_subscribed(peer_id, &topic),
            BehaviourEvent::Gossip(gossipsub::Event::GossipsubNotSupported { peer_id }) => self.disconnect(peer_id, "speaks no gossip"),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, connection_id, info }) => {
                match behaviour::incarnation_of(&info.agent_version).filter(|_| info.protocol_version == PROTOCOL) {
                    Some(incarnation) => self.on_identified(peer_id, connection_id, incarnation),
                    None => self.disconnect(peer_id, "is of another network or version"),
                }
            }
            BehaviourEvent::Ping(ping) if ping.result.is_err() => {
                debug!(peer = %ping.peer, "ping failed");
                self.swarm.close_connection(ping.connection);
            }
            _ => {}
        }
    }

    async fn say_farewell(&mut self) {
        let now = self.now();
        if self.leave(now) {
            let flush = async {
                loop {
                    self.swarm.select_next_some().await;
                }
            };
            // Its end is the time limit.
            let _elapsed: Result<(), _> = tokio::time::timeout(FAREWELL, flush).await;
        }
    }
}
