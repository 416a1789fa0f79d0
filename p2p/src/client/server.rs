//! The accepting side: admits handshakes within bounds, hands out proven connections.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, Incoming, ServerConfig};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tracing::debug;

use super::{ALPN, BindError, Connection, Limits};
use crate::identity::{NodeSeed, tls_server};
use crate::stream::{code, quinn_code};

/// Proven connections waiting for [`Server::accept`]; when full, the newest is closed with [`code::BUSY`].
const ACCEPTED_MAX: usize = 64;

/// Bytes buffered for one handshake before it is admitted, and for all.
const INCOMING_BUFFER_BYTES: u64 = 16 << 10;

/// A listening socket and the task that admits connections. Dropping it stops both; [`Server::close`] does so in order.
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    accepted: mpsc::Receiver<Connection>,
    acceptor: JoinHandle<()>,
}

impl Server {
    /// Listens; port 0 takes any. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(addr: SocketAddr, seed: &NodeSeed, limits: Limits) -> Result<Self, BindError> {
        let tls = tls_server(seed, ALPN).map_err(|error| BindError::Tls(error.to_string()))?;
        let quic = QuicServerConfig::try_from(tls).map_err(|error| BindError::Tls(error.to_string()))?;
        let mut config = ServerConfig::with_crypto(Arc::new(quic));
        config
            .transport_config(Arc::new(limits.transport()?))
            .max_incoming(limits.handshakes_max)
            .incoming_buffer_size(INCOMING_BUFFER_BYTES)
            .incoming_buffer_size_total(INCOMING_BUFFER_BYTES.saturating_mul(limits.handshakes_max as u64));
        let endpoint = Endpoint::server(config, addr).map_err(|source| BindError::Socket { addr, source })?;
        let (sender, accepted) = mpsc::channel(ACCEPTED_MAX);
        let acceptor = tokio::spawn(admit_all(endpoint.clone(), limits, sender));
        Ok(Self { endpoint, accepted, acceptor })
    }

    /// The socket's address.
    ///
    /// # Errors
    /// The system's answer when the socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next proven connection, or `None` after the socket closed. May be dropped half-way.
    pub async fn accept(&mut self) -> Option<Connection> {
        self.accepted.recv().await
    }

    /// Closes every connection with `code`, waits until the peers were told and the acceptor ended.
    pub async fn close(mut self, code: u64) {
        self.endpoint.close(quinn_code(code), b"");
        self.accepted.close();
        self.endpoint.wait_idle().await;
        if let Err(error) = (&mut self.acceptor).await {
            debug!(%error, "acceptor did not end cleanly");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.endpoint.close(quinn_code(code::SHUTDOWN), b"");
        self.acceptor.abort();
    }
}

/// What to do with a first packet.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Handshake,
    ProveAddress,
    Refuse,
}

/// Decides by load alone: who it is shows only later.
fn admit(limits: &Limits, handshakes: usize, connections: usize, may_retry: bool) -> Admission {
    if handshakes >= limits.handshakes_max || connections >= limits.connections_max {
        Admission::Refuse
    } else if handshakes >= limits.retry_above && may_retry {
        Admission::ProveAddress
    } else {
        Admission::Handshake
    }
}

async fn admit_all(endpoint: Endpoint, limits: Limits, accepted: mpsc::Sender<Connection>) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = handshakes.join_next() => {}
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => {
                    let admission = admit(&limits, handshakes.len(), endpoint.open_connections(), incoming.may_retry());
                    if let Some(incoming) = carry_out(admission, incoming) {
                        handshakes.spawn(handshake(incoming, limits.clone(), accepted.clone()));
                    }
                }
                None => break,
            },
        }
    }
    handshakes.shutdown().await;
}

fn carry_out(admission: Admission, incoming: Incoming) -> Option<Incoming> {
    match admission {
        Admission::Handshake => Some(incoming),
        Admission::ProveAddress => match incoming.retry() {
            Ok(()) => None,
            Err(error) => {
                error.into_incoming().refuse();
                None
            }
        },
        Admission::Refuse => {
            incoming.refuse();
            None
        }
    }
}

async fn handshake(incoming: Incoming, limits: Limits, accepted: mpsc::Sender<Connection>) {
    let addr = incoming.remote_address();
    let connection = match tokio::time::timeout(limits.handshake, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return debug!(%addr, %error, "handshake failed"),
        Err(_) => return debug!(%addr, "handshake timed out"),
    };
    let Some(connection) = Connection::new(connection, &limits) else {
        return debug!(%addr, "peer showed no key");
    };
    if let Err(mpsc::error::TrySendError::Full(connection)) = accepted.try_send(connection) {
        debug!(%addr, "too many connections wait to be accepted");
        connection.close(code::BUSY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_decides_between_handshake_address_proof_and_refusal() {
        let limits = Limits { handshakes_max: 4, retry_above: 2, connections_max: 10, ..Limits::default() };
        assert_eq!(admit(&limits, 0, 0, true), Admission::Handshake);
        assert_eq!(admit(&limits, 2, 2, true), Admission::ProveAddress);
        assert_eq!(admit(&limits, 2, 2, false), Admission::Handshake, "an address already proven goes on");
        assert_eq!(admit(&limits, 4, 4, false), Admission::Refuse);
        assert_eq!(admit(&limits, 0, 10, true), Admission::Refuse);
    }
}
