//! The client protocol's transport: QUIC (quinn), one bidirectional stream per generation.
//!
//! Goals: both sides proven by their ed25519 key in the handshake; a killed server noticed within [`Limits::detection`];
//! cancel by reset, seen by the other side as a typed error; every table bounded before a stranger is believed.
//! Non-goals: NAT traversal (that is [`crate::bulk`]'s), 0-RTT (a replayed generation must not run twice), the messages.
//!
//! Flow: client connects (TLS 1.3, raw public keys, ALPN [`ALPN`]); opens a stream per request; frames go both ways; each side
//! finishes or resets. A connection is kept open by the client's keep-alives for as long as it holds the handle.
//!
//! Back of the envelope: a keep-alive and its answer are two packets of about 40 bytes, so an idle connection costs
//! 8 packets/s at 250 ms. A token frame of 40 bytes fits one packet of about 80.

mod connection;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};
use types::id::NodeId;

pub use connection::{Client, ConnectError, Connection, OpenError};
pub use server::Server;

/// Protocol name and major version, compared in the handshake.
pub const ALPN: &[u8] = b"tributary/1";

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken or not of this machine.
    #[error("cannot bind udp {addr}: {source}; choose another address or stop what uses it")]
    Socket {
        /// The address asked for.
        addr: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The limits contradict each other.
    #[error("limits: {0}")]
    Limits(&'static str),
    /// TLS could not be set up.
    #[error("tls: {0}")]
    Tls(String),
}

/// Bounds of the transport, the same struct for both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How often a client shows that it lives, and makes the server show it. 250 ms: a third of the detection time.
    pub keep_alive: Duration,
    /// Silence after which the peer counts as gone. 500 ms: two keep-alives lost in a row and their answers.
    pub idle: Duration,
    /// Time for the whole handshake. 5 s: a lossy mobile path takes about 3 round trips of a second.
    pub handshake: Duration,
    /// Time [`Connection::open_stream`] waits for the peer to allow one more stream. 2 s: longer, another server is quicker.
    pub open: Duration,
    /// Streams a peer may have open at once. 64: above what one engine batches.
    pub streams_max: u32,
    /// Handshakes under way at once; more are refused. 128.
    pub handshakes_max: usize,
    /// Handshakes under way above which a client must first prove its address (one more round trip). 32: below, honest
    /// clients keep the short handshake; above, a forged source address costs the forger as much as us.
    pub retry_above: usize,
    /// Connections at once, handshakes included; more are refused. 4096: about 64 KiB each, 256 MiB.
    pub connections_max: usize,
    /// Bytes under way per stream and direction before the sender waits. 256 KiB.
    pub stream_window_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_millis(250),
            idle: Duration::from_millis(500),
            handshake: Duration::from_secs(5),
            open: Duration::from_secs(2),
            streams_max: 64,
            handshakes_max: 128,
            retry_above: 32,
            connections_max: 4096,
            stream_window_bytes: 256 << 10,
        }
    }
}

/// Streams' worth of window that one connection may have under way: a reader that stops reading pins at most this much.
const CONNECTION_WINDOW_STREAMS: u32 = 16;

impl Limits {
    /// Longest time from a server's sudden death to the client's error, while both processes get to run: the silence limit
    /// counts from the first keep-alive sent after the last packet heard.
    #[must_use]
    pub fn detection(&self) -> Duration {
        self.keep_alive + self.idle
    }

    fn check(&self) -> Result<(), BindError> {
        if self.keep_alive.is_zero() || self.keep_alive >= self.idle {
            return Err(BindError::Limits("keep_alive must be above zero and below idle"));
        }
        if self.streams_max == 0 || self.handshakes_max == 0 || self.connections_max == 0 || self.stream_window_bytes == 0 {
            return Err(BindError::Limits("streams_max, handshakes_max, connections_max and stream_window_bytes must be above zero"));
        }
        Ok(())
    }

    fn transport(&self) -> Result<TransportConfig, BindError> {
        self.check()?;
        let idle = IdleTimeout::try_from(self.idle).map_err(|_| BindError::Limits("idle is longer than quic can say"))?;
        let connection_window = self.stream_window_bytes.saturating_mul(CONNECTION_WINDOW_STREAMS);
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(idle))
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams_max))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            .receive_window(VarInt::from_u32(connection_window))
            .send_window(u64::from(connection_window));
        Ok(transport)
    }

    fn client_transport(&self) -> Result<Arc<TransportConfig>, BindError> {
        let mut transport = self.transport()?;
        transport.keep_alive_interval(Some(self.keep_alive)).max_concurrent_bidi_streams(VarInt::from_u32(0));
        Ok(Arc::new(transport))
    }
}

/// The peer's name as its handshake proved it.
fn proven_node(connection: &quinn::Connection) -> Option<NodeId> {
    let identity = connection.peer_identity()?;
    let keys = identity.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok()?;
    crate::identity::node_of_spki(keys.first()?).ok()
}
