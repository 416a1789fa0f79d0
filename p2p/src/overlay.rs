//! The overlay: every node and client in one gossip network, found from one bootstrap address.
//!
//! Goals: whoever is given one address learns every provider within seconds; a node starts while all bootstraps are down and
//! joins when one returns; no stranger's message is forwarded before it was checked. Non-goals: bulk data, a directory by key
//! (the registry and signed ads name everything), NAT traversal.
//!
//! Flow: libp2p over QUIC and TCP, one swarm per process. A connected peer subscribes to the topic of ads; we answer with our own
//! ad and a snapshot of those we know. Ads carry overlay addresses, which we dial until enough peers are connected. Messages are
//! anonymous to gossip (what needs an author is signed inside), named by the hash of topic and data, validated by hand: a bad one
//! costs its forwarder score, an old one is dropped without blame.
//!
//! Back of the envelope, 200 nodes, an ad of 300 bytes every 3.3 s, mesh of 8: 60 ads/s arrive about 3 times each, 55 KB/s and 60
//! signature checks (about 5 ms of processor time) a second.

mod actor;
mod behaviour;
mod pending;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub use libp2p::Multiaddr;
use tokio::sync::{mpsc, oneshot, watch};
use types::id::NodeId;

use crate::identity::NodeSeed;
use crate::proto::ads::{Ad, AdError, SignedAd};
use actor::{Actor, Command, Watches};
pub use behaviour::is_dialable;

/// Longest message on any topic, in bytes.
pub const MESSAGE_LEN_MAX: usize = 64 << 10;
/// Longest wait of [`OverlayHandle::publish`] for a peer that takes the message.
pub const PUBLISH_LIMIT: Duration = Duration::from_secs(10);
/// Topics one process subscribes to besides the ads.
pub const TOPICS_MAX: usize = 32;
/// Commands waiting for the actor; a caller waits beyond.
const COMMANDS_MAX: usize = 64;
/// Events and messages of a topic waiting for their reader; the newest are dropped beyond, and counted in the log.
const QUEUE_MAX: usize = 256;
/// Longest wait at the start for every listener to name its address.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);

/// How an overlay is started.
#[derive(Clone, Debug)]
pub struct OverlayConfig {
    /// The node's key.
    pub seed: NodeSeed,
    /// Counts the starts of this node, kept in its data folder: peers let go of an earlier start that still lingers.
    pub incarnation: u64,
    /// Where to listen: `/ip4/../udp/../quic-v1` or `/ip4/../tcp/..`, port 0 for any. Empty: only dial, as a client does.
    pub listen: Vec<Multiaddr>,
    /// Whom to dial first, each with or without `/p2p/<peer id>`. Tried for ever.
    pub bootstrap: Vec<Multiaddr>,
    /// False: connect, but neither tell nor hear ads. It exists to show that discovery rests on gossip.
    pub gossip: bool,
}

impl OverlayConfig {
    /// A node on loopback, QUIC and TCP on any port.
    #[must_use]
    pub fn loopback(seed: NodeSeed, bootstrap: Vec<Multiaddr>) -> Self {
        let listen = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"];
        let listen = listen.map(|addr| addr.parse().expect("constant multiaddress")).to_vec();
        Self { seed, incarnation: 0, listen, bootstrap, gossip: true }
    }

    /// A client: a key of its own for this run, listens nowhere, hears the ads.
    #[must_use]
    pub fn light(bootstrap: Vec<Multiaddr>) -> Self {
        Self { seed: NodeSeed::generate(), incarnation: 0, listen: Vec::new(), bootstrap, gossip: true }
    }
}

/// Why the overlay did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// An address is not of a form that can be listened on or dialled.
    #[error("{addr} is not /ip4|ip6/<address>/udp/<port>/quic-v1 or /ip4|ip6/<address>/tcp/<port>")]
    Address {
        /// The address.
        addr: Multiaddr,
    },
    /// A socket could not be opened.
    #[error("cannot listen on {addr}: {reason}; choose another port or stop what uses it")]
    Listen {
        /// The address.
        addr: Multiaddr,
        /// The system's answer.
        reason: String,
    },
    /// The swarm could not be built.
    #[error("overlay set-up: {0}")]
    SetUp(String),
    /// The ad is one that receivers would refuse.
    #[error(transparent)]
    Ad(#[from] AdError),
    /// The message is longer than receivers take.
    #[error("message of {got} bytes, at most {MESSAGE_LEN_MAX} allowed")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// No peer took the message within [`PUBLISH_LIMIT`].
    #[error("no peer took the message on {topic} within {} s", PUBLISH_LIMIT.as_secs())]
    NoPeers {
        /// The topic.
        topic: String,
    },
    /// A queue or table of this process is full.
    #[error("{what} is full: at most {max}")]
    Full {
        /// Which one.
        what: &'static str,
        /// Its bound.
        max: usize,
    },
    /// The topic is subscribed to already, or one of the overlay's own.
    #[error("topic {topic} is taken in this process")]
    TopicTaken {
        /// The topic.
        topic: String,
    },
    /// The ads looked for did not arrive in time.
    #[error("waited {} ms for ads, {have} known", limit.as_millis())]
    Timeout {
        /// The wait.
        limit: Duration,
        /// Live ads known at its end.
        have: usize,
    },
    /// The overlay was shut down.
    #[error("overlay is shut down")]
    Stopped,
}

/// What happens in the overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverlayEvent {
    /// A peer connected.
    PeerConnected(NodeId),
    /// The last connection to a peer ended.
    PeerLost(NodeId),
    /// A node's ad is new or has changed.
    AdHeard(NodeId),
    /// A node left or fell silent.
    AdLost(NodeId),
    /// A later incarnation of this very node is speaking: this process is the ghost and has stopped its own ads.
    Fenced {
        /// The other's incarnation.
        incarnation: u64,
    },
}

/// A message on a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who forwarded it; not its author.
    pub forwarder: NodeId,
    /// The data, at most [`MESSAGE_LEN_MAX`].
    pub data: Vec<u8>,
}

/// What a check says of a message before it is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Forward and deliver.
    Accept,
    /// Neither forward nor blame: old, or not for now.
    Ignore,
    /// Do not forward, and blame the forwarder: it should have checked.
    Reject,
}

/// Decides on a message; runs in the overlay's task, so it must be quick and must not block.
pub type Check = Box<dyn FnMut(&[u8]) -> Verdict + Send>;

/// A handle to a running overlay. Cheap to clone; when the last one is dropped, the overlay stops.
#[derive(Clone, Debug)]
pub struct OverlayHandle {
    commands: mpsc::Sender<Command>,
    listen: watch::Receiver<Vec<Multiaddr>>,
    version: watch::Receiver<u64>,
    node: NodeId,
}

/// The way to start one.
#[derive(Debug)]
pub struct Overlay;

impl Overlay {
    /// Starts the overlay's task; returns when every listener has its address. Bootstraps may be down.
    ///
    /// # Errors
    /// [`OverlayError::Address`], [`OverlayError::Listen`], [`OverlayError::SetUp`].
    pub async fn start(config: OverlayConfig) -> Result<(OverlayHandle, mpsc::Receiver<OverlayEvent>), OverlayError> {
        let node = config.seed.node_id();
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (events, event_reader) = mpsc::channel(QUEUE_MAX);
        let (mut actor, Watches { listen, version }) = Actor::new(config, inbox, events)?;
        tokio::time::timeout(LISTEN_LIMIT, actor.listen())
            .await
            .map_err(|_| OverlayError::SetUp(format!("no listener ready within {} s", LISTEN_LIMIT.as_secs())))??;
        tokio::spawn(actor.run());
        Ok((OverlayHandle { commands, listen, version, node }, event_reader))
    }
}

impl OverlayHandle {
    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where the overlay listens now, each with `/p2p/<peer id>`: what others are given as bootstrap.
    #[must_use]
    pub fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.listen.borrow().clone()
    }

    /// Says this of the node from now on, repeated every third of its time to live and to every new peer. `node`, `incarnation`,
    /// `seq` and, when empty, `overlay_addrs` are filled in.
    ///
    /// # Errors
    /// [`OverlayError::Ad`], [`OverlayError::Stopped`].
    pub async fn set_ad(&self, ad: Ad) -> Result<(), OverlayError> {
        self.ask(|reply| Command::SetAd { ad: Box::new(ad), reply }).await?
    }

    /// Names the nodes whose ads find room before those of strangers: a node whose operator has something to lose, say. Replaces the names given before.
    ///
    /// # Errors
    /// [`OverlayError::Stopped`].
    pub async fn prefer(&self, nodes: Vec<NodeId>) -> Result<(), OverlayError> {
        self.ask(|reply| Command::Prefer { nodes, reply }).await
    }

    /// Names the nodes that this one has nothing to do with from now on: no connection to them lasts, and no ad of theirs is taken, whoever forwards it.
    /// Replaces the names given before; an empty set refuses nobody.
    ///
    /// # Errors
    /// [`OverlayError::Stopped`].
    pub async fn refuse(&self, nodes: BTreeSet<NodeId>) -> Result<(), OverlayError> {
        self.ask(|reply| Command::Refuse { nodes, reply }).await
    }

    /// The live ads of other nodes, by node id.
    ///
    /// # Errors
    /// [`OverlayError::Stopped`].
    pub async fn ads(&self) -> Result<Vec<Arc<SignedAd>>, OverlayError> {
        self.ask(|reply| Command::Ads { reply }).await
    }

    /// Waits until the live ads satisfy `is_enough`, and returns them. May be dropped half-way.
    ///
    /// # Errors
    /// [`OverlayError::Timeout`] after `limit`, [`OverlayError::Stopped`].
    pub async fn wait_ads(
        &self,
        mut is_enough: impl FnMut(&[Arc<SignedAd>]) -> bool,
        limit: Duration,
    ) -> Result<Vec<Arc<SignedAd>>, OverlayError> {
        let mut version = self.version.clone();
        let mut have = 0;
        let waiting = async {
            loop {
                version.borrow_and_update();
                let ads = self.ads().await?;
                if is_enough(&ads) {
                    return Ok(ads);
                }
                have = ads.len();
                version.changed().await.map_err(|_| OverlayError::Stopped)?;
            }
        };
        match tokio::time::timeout(limit, waiting).await {
            Ok(done) => done,
            Err(_) => Err(OverlayError::Timeout { limit, have }),
        }
    }

    /// The peers connected now, by node id.
    ///
    /// # Errors
    /// [`OverlayError::Stopped`].
    pub async fn peers(&self) -> Result<Vec<NodeId>, OverlayError> {
        self.ask(|reply| Command::Peers { reply }).await
    }

    /// Publishes on a topic; returns when at least one peer has it queued, waiting for one up to [`PUBLISH_LIMIT`].
    ///
    /// # Errors
    /// [`OverlayError::NoPeers`], [`OverlayError::TooLong`], [`OverlayError::TopicTaken`] for the overlay's own topics,
    /// [`OverlayError::Full`], [`OverlayError::Stopped`].
    pub async fn publish(&self, topic: &str, data: Vec<u8>) -> Result<(), OverlayError> {
        if data.len() > MESSAGE_LEN_MAX {
            return Err(OverlayError::TooLong { got: data.len() });
        }
        self.ask(|reply| Command::Publish { topic: topic.to_owned(), data, reply }).await?
    }

    /// Subscribes to a topic. `check` decides on each message before it is forwarded or delivered; messages beyond a full
    /// receiver are dropped. Dropping the receiver ends the subscription with the next message.
    ///
    /// # Errors
    /// [`OverlayError::TopicTaken`], [`OverlayError::Full`], [`OverlayError::Stopped`].
    pub async fn subscribe(&self, topic: &str, check: Check) -> Result<mpsc::Receiver<Message>, OverlayError> {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        self.ask(|reply| Command::Subscribe { topic: topic.to_owned(), check, sender, reply }).await??;
        Ok(receiver)
    }

    /// Says that the node leaves, if it had an ad, and stops. Returns when the sockets are closed.
    pub async fn shutdown(&self) {
        // Already stopped is what was asked for.
        let _stopped = self.ask(|reply| Command::Shutdown { reply }).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, OverlayError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| OverlayError::Stopped)?;
        answer.await.map_err(|_| OverlayError::Stopped)
    }
}
