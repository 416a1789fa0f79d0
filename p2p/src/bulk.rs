//! Bulk data between nodes: QUIC by iroh, frames as in the client protocol.
//!
//! Goals: streams to a node named by its key, one protocol name (ALPN) per service; connections are kept and shared, so a fetch of
//! a thousand ranges is one handshake per holder. Non-goals: what is carried, and verifying it (the hash trees of `storage` do).
//!
//! Everything iroh would ask of the outside is off: no relay, no discovery, no port mapping; the address comes from the peer's ad
//! and iroh checks that the node behind it holds the key. Its QUIC is a fork of quinn, with a socket of its own.
//!
//! Back of the envelope: a kept connection costs two packets a second and some 30 KiB; [`CACHE_MAX`] of them 2 MiB. A stream's
//! window of 1 MiB fills 1 Gbit/s at 8 ms round trip.

mod cache;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::endpoint::{Connection, Endpoint, IdleTimeout, Incoming, QuicTransportConfig, RelayMode, VarInt, presets};
use iroh::{EndpointAddr, PublicKey};
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::debug;
use types::id::NodeId;

use crate::identity::NodeSeed;
use crate::stream::{FrameStream, Loss, ReceiveHalf, SendHalf, code, iroh_code};
use cache::Cache;

/// Connections kept open for the next use.
pub const CACHE_MAX: usize = 64;
/// Streams of all peers waiting for [`BulkEndpoint::accept`]; beyond, peers wait for credit.
const ACCEPTED_MAX: usize = 64;
/// Shortest and longest names of protocols, in bytes.
const ALPN_LEN_MAX: usize = 64;

/// Bounds of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkLimits {
    /// Time for a whole handshake. 5 s.
    pub handshake: Duration,
    /// Time to wait for the peer to allow one more stream. 5 s: a holder that is busy for longer is slower than another.
    pub open: Duration,
    /// Silence after which a peer counts as gone. 4 s: a fetch then asks another holder.
    pub idle: Duration,
    /// How often a silent connection is kept alive. 1 s: a quarter of `idle`.
    pub keep_alive: Duration,
    /// Streams a peer may have open at once. 64.
    pub streams_max: u32,
    /// Connections of others at once, handshakes included; more are refused. 256.
    pub connections_max: usize,
    /// Bytes under way per stream and direction before the sender waits. 1 MiB.
    pub stream_window_bytes: u32,
}

impl Default for BulkLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            open: Duration::from_secs(5),
            idle: Duration::from_secs(4),
            keep_alive: Duration::from_secs(1),
            streams_max: 64,
            connections_max: 256,
            stream_window_bytes: 1 << 20,
        }
    }
}

impl BulkLimits {
    fn transport(&self) -> Result<QuicTransportConfig, BulkError> {
        let idle = IdleTimeout::try_from(self.idle).map_err(|_| BulkError::SetUp("idle is longer than quic can say".into()))?;
        if self.keep_alive >= self.idle {
            return Err(BulkError::SetUp("keep_alive must be below idle".into()));
        }
        Ok(QuicTransportConfig::builder()
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(self.keep_alive)
            .default_path_max_idle_timeout(self.idle)
            .default_path_keep_alive_interval(self.keep_alive)
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams_max))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            .receive_window(VarInt::from_u32(self.stream_window_bytes.saturating_mul(8)))
            .build())
    }
}

/// Why there is no endpoint or no stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// The socket could not be opened.
    #[error("cannot bind udp {addr}: {reason}; choose another address or stop what uses it")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// The system's answer.
        reason: String,
    },
    /// The configuration cannot be carried out.
    #[error("bulk set-up: {0}")]
    SetUp(String),
    /// The bytes are no ed25519 public key.
    #[error("{0} is not an ed25519 public key")]
    BadNode(NodeId),
    /// Nobody, or somebody else, or a node without this protocol answered at the address.
    #[error("no connection to {node} at {addr}: {reason}")]
    Connect {
        /// Who was wanted.
        node: NodeId,
        /// Where.
        addr: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The operator wants nothing to do with the peer.
    #[error("{0} is refused here: its operator's file of refused nodes names it")]
    Refused(NodeId),
    /// The peer allows no more streams for now.
    #[error("{0} allows no further stream for now")]
    Busy(NodeId),
    /// The connection ended before a stream was open.
    #[error("connection to {node}: {loss}")]
    Lost {
        /// The peer.
        node: NodeId,
        /// How it ended.
        loss: Loss,
    },
}

/// A stream that a peer opened.
#[derive(Debug)]
pub struct BulkStream {
    /// The protocol it speaks.
    pub alpn: Vec<u8>,
    /// The peer, proven by the handshake.
    pub remote: NodeId,
    /// The stream.
    pub stream: FrameStream,
}

/// A node's endpoint: accepts streams of every protocol it serves, and opens streams to others.
///
/// Shared by reference; [`BulkEndpoint::close`] ends it in order.
#[derive(Debug)]
pub struct BulkEndpoint {
    endpoint: Endpoint,
    local: SocketAddr,
    limits: BulkLimits,
    cache: Mutex<Cache<Connection>>,
    accepted: AsyncMutex<mpsc::Receiver<BulkStream>>,
    /// Nodes that this one has nothing to do with.
    refused: watch::Sender<BTreeSet<NodeId>>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

impl BulkEndpoint {
    /// Opens the socket (port 0 takes any) and serves the protocols named.
    ///
    /// # Errors
    /// [`BulkError::Bind`], [`BulkError::SetUp`].
    pub async fn start(seed: &NodeSeed, bind: SocketAddr, alpns: &[&[u8]], limits: BulkLimits) -> Result<Self, BulkError> {
        if let Some(alpn) = alpns.iter().find(|alpn| alpn.is_empty() || alpn.len() > ALPN_LEN_MAX) {
            return Err(BulkError::SetUp(format!("protocol name of {} bytes, 1 to {ALPN_LEN_MAX} allowed", alpn.len())));
        }
        let failed = |reason: String| BulkError::Bind { addr: bind, reason };
        let endpoint = Endpoint::builder(presets::Minimal)
            .secret_key(seed.iroh_secret())
            .alpns(alpns.iter().map(|alpn| alpn.to_vec()).collect())
            .relay_mode(RelayMode::Disabled)
            .clear_address_lookup()
            .transport_config(limits.transport()?)
            .clear_ip_transports()
            .bind_addr(bind)
            .map_err(|error| failed(error.to_string()))?
            .bind()
            .await
            .map_err(|error| failed(format!("{error:#}")))?;
        let local = endpoint.bound_sockets().into_iter().next().ok_or_else(|| failed("no socket".into()))?;
        let (queue, accepted) = mpsc::channel(ACCEPTED_MAX);
        let (refused, refused_reader) = watch::channel(BTreeSet::new());
        let acceptor = tokio::spawn(admit_all(endpoint.clone(), limits.clone(), queue, refused_reader));
        Ok(Self {
            endpoint,
            local,
            limits,
            cache: Mutex::new(Cache::new(CACHE_MAX)),
            accepted: AsyncMutex::new(accepted),
            refused,
            acceptor: Mutex::new(Some(acceptor)),
        })
    }

    /// The socket's address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// This node, as peers see it.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId(*self.endpoint.id().as_bytes())
    }

    /// The next stream that a peer opened, or `None` after [`BulkEndpoint::close`]. May be dropped half-way.
    pub async fn accept(&self) -> Option<BulkStream> {
        self.accepted.lock().await.recv().await
    }

    /// Names the nodes that this one has nothing to do with from now on: connections to and from them end, with all their streams, and none is opened or
    /// taken. Replaces the names given before; an empty set refuses nobody.
    pub fn refuse(&self, nodes: BTreeSet<NodeId>) {
        self.cache().end(|node| nodes.contains(&node), |connection| connection.close(iroh_code(code::CANCELLED), b""));
        self.refused.send_replace(nodes);
    }

    /// Opens a stream to `node`, on a kept connection when there is one, else to `addr`. The peer learns of the stream with its
    /// first frame. May be dropped half-way.
    ///
    /// # Errors
    /// [`BulkError::BadNode`], [`BulkError::Connect`], [`BulkError::Refused`], [`BulkError::Busy`], [`BulkError::Lost`].
    pub async fn connect(&self, node: NodeId, addr: SocketAddr, alpn: &[u8]) -> Result<FrameStream, BulkError> {
        if self.refused.borrow().contains(&node) {
            return Err(BulkError::Refused(node));
        }
        let kept = self.cache().get(node, alpn, |connection| connection.close_reason().is_none());
        if let Some(connection) = kept {
            match self.open(node, &connection).await {
                Err(BulkError::Lost { .. }) => {}
                done => return done,
            }
        }
        let connection = self.dial(node, addr, alpn).await?;
        let stream = self.open(node, &connection).await?;
        self.cache().put(node, alpn, connection.clone());
        // Refused while it was dialled: what was looked for among those kept was not there yet.
        if self.refused.borrow().contains(&node) {
            connection.close(iroh_code(code::CANCELLED), b"");
            return Err(BulkError::Refused(node));
        }
        Ok(stream)
    }

    async fn dial(&self, node: NodeId, addr: SocketAddr, alpn: &[u8]) -> Result<Connection, BulkError> {
        let key = PublicKey::from_bytes(&node.0).map_err(|_| BulkError::BadNode(node))?;
        let failed = |reason: String| BulkError::Connect { node, addr, reason };
        let dialling = self.endpoint.connect(EndpointAddr::new(key).with_ip_addr(addr), alpn);
        match tokio::time::timeout(self.limits.handshake, dialling).await {
            Ok(done) => done.map_err(|error| failed(format!("{error:#}"))),
            Err(_) => Err(failed(format!("no answer within {} ms", self.limits.handshake.as_millis()))),
        }
    }

    async fn open(&self, node: NodeId, connection: &Connection) -> Result<FrameStream, BulkError> {
        let opening = tokio::time::timeout(self.limits.open, connection.open_bi());
        let (send, receive) =
            opening.await.map_err(|_| BulkError::Busy(node))?.map_err(|error| BulkError::Lost { node, loss: error.into() })?;
        Ok(FrameStream::new(SendHalf::Iroh(send), ReceiveHalf::Iroh(receive)))
    }

    fn cache(&self) -> MutexGuard<'_, Cache<Connection>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes every connection, tells the peers, and waits until the acceptor ended.
    pub async fn close(&self) {
        self.cache().clear(|connection| connection.close(iroh_code(code::SHUTDOWN), b""));
        self.endpoint.close().await;
        let acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(acceptor) = acceptor
            && let Err(error) = acceptor.await
        {
            debug!(%error, "acceptor did not end cleanly");
        }
    }
}

async fn admit_all(endpoint: Endpoint, limits: BulkLimits, queue: mpsc::Sender<BulkStream>, refused: watch::Receiver<BTreeSet<NodeId>>) {
    let mut peers = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = peers.join_next() => {}
            incoming = endpoint.accept() => match incoming {
                Some(incoming) if peers.len() < limits.connections_max => {
                    peers.spawn(serve(incoming, limits.handshake, queue.clone(), refused.clone()));
                }
                Some(incoming) => incoming.refuse(),
                None => break,
            },
        }
    }
    peers.shutdown().await;
}

/// One peer: its handshake, then its streams until the connection ends. A full queue holds back this peer's next stream.
async fn serve(incoming: Incoming, handshake: Duration, queue: mpsc::Sender<BulkStream>, mut refused: watch::Receiver<BTreeSet<NodeId>>) {
    let connection = match tokio::time::timeout(handshake, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return debug!(%error, "handshake failed"),
        Err(_) => return debug!("handshake timed out"),
    };
    let remote = NodeId(*connection.remote_id().as_bytes());
    let alpn = connection.alpn().to_vec();
    let serving = async {
        while let Ok((send, receive)) = connection.accept_bi().await {
            let stream = FrameStream::new(SendHalf::Iroh(send), ReceiveHalf::Iroh(receive));
            if queue.send(BulkStream { alpn: alpn.clone(), remote, stream }).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = serving => {}
        // An error says that the endpoint is gone, and its connections with it.
        _ = refused.wait_for(|nodes| nodes.contains(&remote)) => connection.close(iroh_code(code::CANCELLED), b""),
    }
}
