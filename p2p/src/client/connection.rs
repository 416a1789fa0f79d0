//! A proven connection, and the side that dials it.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use types::id::NodeId;

use super::{ALPN, BindError, Limits, proven_node};
use crate::identity::{NodeSeed, tls_client};
use crate::stream::{FrameStream, Loss, ReceiveHalf, SendHalf, quinn_code};

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Another node answers at this address.
    #[error("{addr} is node {got}, expected {expected}")]
    WrongNode {
        /// The address dialled.
        addr: SocketAddr,
        /// Who was wanted.
        expected: NodeId,
        /// Who answered.
        got: NodeId,
    },
    /// The handshake did not end in time.
    #[error("no answer from {addr} within {limit_ms} ms")]
    Timeout {
        /// The address dialled.
        addr: SocketAddr,
        /// The limit, in milliseconds.
        limit_ms: u128,
    },
    /// The address cannot be dialled from here.
    #[error("cannot dial {addr}: {reason}")]
    Address {
        /// The address dialled.
        addr: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// The peer refused or broke off the handshake.
    #[error("handshake with {addr} failed: {loss}")]
    Handshake {
        /// The address dialled.
        addr: SocketAddr,
        /// How it ended.
        loss: Loss,
    },
    /// TLS could not be set up here.
    #[error("tls: {0}")]
    Tls(String),
}

/// Why no stream was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The peer allows no more streams for now.
    #[error("peer allows no further stream for now")]
    Busy,
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] Loss),
}

/// The dialling side: one UDP socket for all its connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    seed: NodeSeed,
    limits: Limits,
}

impl Client {
    /// Opens a socket; port 0 takes any. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(addr: SocketAddr, seed: &NodeSeed, limits: Limits) -> Result<Self, BindError> {
        limits.check()?;
        let endpoint = Endpoint::client(addr).map_err(|source| BindError::Socket { addr, source })?;
        Ok(Self { endpoint, seed: seed.clone(), limits })
    }

    /// The socket's address.
    ///
    /// # Errors
    /// The system's answer when the socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Connects; with `expected`, only to that node. May be dropped half-way.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, addr: SocketAddr, expected: Option<NodeId>) -> Result<Connection, ConnectError> {
        let (tls, seen) = tls_client(&self.seed, ALPN, expected).map_err(|error| ConnectError::Tls(error.to_string()))?;
        let quic = QuicClientConfig::try_from(tls).map_err(|error| ConnectError::Tls(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(quic));
        config.transport_config(self.limits.client_transport().map_err(|error| ConnectError::Tls(error.to_string()))?);
        let connecting = self
            .endpoint
            .connect_with(config, addr, "tributary")
            .map_err(|error| ConnectError::Address { addr, reason: error.to_string() })?;
        let limit = self.limits.handshake;
        let timeout = ConnectError::Timeout { addr, limit_ms: limit.as_millis() };
        match tokio::time::timeout(limit, connecting).await {
            Err(_) | Ok(Err(quinn::ConnectionError::TimedOut)) => Err(timeout),
            Ok(Ok(connection)) => Connection::new(connection, &self.limits)
                .ok_or_else(|| ConnectError::Handshake { addr, loss: Loss::Transport("peer showed no key".into()) }),
            Ok(Err(error)) => Err(match (expected, seen.get()) {
                (Some(expected), Some(&got)) if got != expected => ConnectError::WrongNode { addr, expected, got },
                _ => ConnectError::Handshake { addr, loss: error.into() },
            }),
        }
    }

    /// Closes every connection of this client and waits until the peers were told.
    pub async fn close(&self, code: u64) {
        self.endpoint.close(quinn_code(code), b"");
        self.endpoint.wait_idle().await;
    }
}

/// A connection to a proven peer. Cheap to clone; it closes when the last clone and stream are dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: quinn::Connection,
    remote: NodeId,
    open: std::time::Duration,
}

impl Connection {
    pub(super) fn new(inner: quinn::Connection, limits: &Limits) -> Option<Self> {
        let remote = proven_node(&inner)?;
        Some(Self { inner, remote, open: limits.open })
    }

    /// Who is at the other end, proven by the handshake.
    #[must_use]
    pub fn remote(&self) -> NodeId {
        self.remote
    }

    /// The address from which the other end speaks now.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// Time for a packet there and an answer back, as last estimated.
    #[must_use]
    pub fn round_trip(&self) -> std::time::Duration {
        self.inner.rtt()
    }

    /// Opens a stream. The peer learns of it with the first frame. May be dropped half-way.
    ///
    /// # Errors
    /// [`OpenError::Busy`] when the peer's limit of streams stays reached for [`Limits::open`]; [`OpenError::Lost`].
    pub async fn open_stream(&self) -> Result<FrameStream, OpenError> {
        let (send, receive) =
            tokio::time::timeout(self.open, self.inner.open_bi()).await.map_err(|_| OpenError::Busy)?.map_err(Loss::from)?;
        Ok(FrameStream::new(SendHalf::Quinn(send), ReceiveHalf::Quinn(receive)))
    }

    /// The next stream that the peer opened. May be dropped half-way.
    ///
    /// # Errors
    /// [`Loss`]: how the connection ended.
    pub async fn accept_stream(&self) -> Result<FrameStream, Loss> {
        let (send, receive) = self.inner.accept_bi().await?;
        Ok(FrameStream::new(SendHalf::Quinn(send), ReceiveHalf::Quinn(receive)))
    }

    /// Waits for the end of the connection. May be dropped half-way.
    pub async fn closed(&self) -> Loss {
        self.inner.closed().await.into()
    }

    /// How the connection ended, if it has: a caller that keeps connections asks before using one.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        self.inner.close_reason().map(Loss::from)
    }

    /// Closes the connection with every stream on it.
    pub fn close(&self, code: u64) {
        self.inner.close(quinn_code(code), b"");
    }
}
