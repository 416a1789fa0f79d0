//! Two real QUIC endpoints over loopback.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use p2p::client::{BindError, Client, ConnectError, Connection, Limits, OpenError, Server};
use p2p::frame::FrameError;
use p2p::identity::NodeSeed;
use p2p::stream::{Loss, StreamError, code};
use tokio::net::UdpSocket;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Every wait has a deadline far above what it takes, so that a hang is a failure and not a stuck run.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("answer before the deadline")
}

fn seed(byte: u8) -> NodeSeed {
    NodeSeed::new([byte; 32])
}

fn server(limits: Limits) -> (Server, SocketAddr) {
    let server = Server::bind(LOOPBACK, &seed(1), limits).unwrap();
    let addr = server.local_addr().unwrap();
    (server, addr)
}

async fn connected(limits: Limits) -> (Server, Client, Connection, Connection) {
    let (mut server, addr) = server(limits.clone());
    let client = Client::bind(LOOPBACK, &seed(2), limits).unwrap();
    let near = within(client.connect(addr, Some(seed(1).node_id()))).await.unwrap();
    let far = within(server.accept()).await.unwrap();
    (server, client, near, far)
}

#[tokio::test]
async fn two_peers_prove_their_keys_and_exchange_frames() {
    let (_server, _client, near, far) = connected(Limits::default()).await;
    assert_eq!(near.remote(), seed(1).node_id());
    assert_eq!(far.remote(), seed(2).node_id());
    let mut asking = within(near.open_stream()).await.unwrap();
    asking.send(b"question").await.unwrap();
    let mut answering = within(far.accept_stream()).await.unwrap();
    assert_eq!(within(answering.recv(64)).await.unwrap().unwrap(), b"question");
    let long = vec![5; 1 << 20];
    let sending = tokio::spawn(async move {
        answering.send(&long).await.unwrap();
        answering.finish().await.unwrap();
        let (mut sender, _receiver) = answering.split();
        sender.closed().await
    });
    assert_eq!(within(asking.recv(2 << 20)).await.unwrap().unwrap(), vec![5; 1 << 20]);
    assert_eq!(within(asking.recv(16)).await.unwrap(), None);
    assert_eq!(within(sending).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn another_node_at_the_address_is_refused_by_name() {
    let (_server, addr) = server(Limits::default());
    let client = Client::bind(LOOPBACK, &seed(2), Limits::default()).unwrap();
    let error = within(client.connect(addr, Some(seed(9).node_id()))).await.unwrap_err();
    let ConnectError::WrongNode { expected, got, .. } = error else { panic!("{error}") };
    assert_eq!((expected, got), (seed(9).node_id(), seed(1).node_id()));
}

#[tokio::test]
async fn without_an_expectation_the_proven_name_is_told() {
    let (_server, addr) = server(Limits::default());
    let client = Client::bind(LOOPBACK, &seed(2), Limits::default()).unwrap();
    assert_eq!(within(client.connect(addr, None)).await.unwrap().remote(), seed(1).node_id());
}

#[tokio::test]
async fn a_cancel_reaches_a_sender_that_is_only_waiting() {
    let (_server, _client, near, far) = connected(Limits::default()).await;
    let mut asking = within(near.open_stream()).await.unwrap();
    asking.send(b"go").await.unwrap();
    let (mut sender, mut receiver) = within(far.accept_stream()).await.unwrap().split();
    assert_eq!(within(receiver.recv(16)).await.unwrap().unwrap(), b"go");
    asking.reset(code::CANCELLED);
    assert_eq!(within(sender.closed()).await, Err(StreamError::Reset { code: code::CANCELLED }));
    assert_eq!(within(receiver.recv(16)).await, Err(StreamError::Reset { code: code::CANCELLED }));
    let mut again = within(near.open_stream()).await.expect("the connection lives on");
    again.send(b"more").await.unwrap();
    assert_eq!(within(within(far.accept_stream()).await.unwrap().recv(16)).await.unwrap().unwrap(), b"more");
}

#[tokio::test]
async fn an_oversized_frame_is_refused_and_its_sender_told() {
    let (_server, _client, near, far) = connected(Limits::default()).await;
    let mut asking = within(near.open_stream()).await.unwrap();
    asking.send(&[0; 5000]).await.unwrap();
    let mut answering = within(far.accept_stream()).await.unwrap();
    let error = within(answering.recv(4096)).await.unwrap_err();
    assert_eq!(error, StreamError::Frame(FrameError::TooLong { got: 5000, max: 4096 }));
    let (mut sender, _receiver) = asking.split();
    assert_eq!(within(sender.closed()).await, Err(StreamError::Reset { code: code::PROTOCOL }));
}

/// Forwards datagrams both ways until it is cut: to either side, the other one died without a word.
async fn relay(server: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let front = UdpSocket::bind(LOOPBACK).await.unwrap();
    let back = UdpSocket::bind(LOOPBACK).await.unwrap();
    let addr = front.local_addr().unwrap();
    let is_cut = Arc::new(AtomicBool::new(false));
    let cut = Arc::clone(&is_cut);
    tokio::spawn(async move {
        let (mut up, mut down) = ([0; 65536], [0; 65536]);
        let mut client = addr;
        loop {
            tokio::select! {
                got = front.recv_from(&mut up) => {
                    let (count, from) = got.unwrap();
                    client = from;
                    if !cut.load(Ordering::SeqCst) { back.send_to(&up[..count], server).await.unwrap(); }
                }
                got = back.recv_from(&mut down) => {
                    let (count, _) = got.unwrap();
                    if !cut.load(Ordering::SeqCst) { front.send_to(&down[..count], client).await.unwrap(); }
                }
            }
        }
    });
    (addr, is_cut)
}

#[tokio::test]
async fn a_peer_that_dies_without_a_word_is_noticed_by_both_sides() {
    let limits = Limits::default();
    assert!(limits.detection() <= Duration::from_millis(750));
    let (mut server, server_addr) = server(limits.clone());
    let (addr, is_cut) = relay(server_addr).await;
    let client = Client::bind(LOOPBACK, &seed(2), limits).unwrap();
    let near = within(client.connect(addr, None)).await.unwrap();
    let far = within(server.accept()).await.unwrap();
    let mut asking = within(near.open_stream()).await.unwrap();
    asking.send(b"go").await.unwrap();
    let mut answering = within(far.accept_stream()).await.unwrap();
    assert_eq!(within(answering.recv(64)).await.unwrap().unwrap(), b"go");
    answering.send(b"first token").await.unwrap();
    assert_eq!(within(asking.recv(64)).await.unwrap().unwrap(), b"first token");

    is_cut.store(true, Ordering::SeqCst);
    let start = Instant::now();
    assert_eq!(within(asking.recv(64)).await, Err(StreamError::Lost(Loss::Silent)));
    // Far above the limit because the machine may be busy, far below the transports' own defaults of 10 and 30 s.
    assert!(start.elapsed() < Duration::from_secs(5), "noticed after {:?}", start.elapsed());
    assert_eq!(within(answering.recv(64)).await, Err(StreamError::Lost(Loss::Silent)));
    assert_eq!(within(far.closed()).await, Loss::Silent);
}

#[tokio::test]
async fn a_silent_but_living_server_is_not_given_up() {
    let limits = Limits { keep_alive: Duration::from_millis(50), idle: Duration::from_millis(600), ..Limits::default() };
    let (_server, _client, near, far) = connected(limits.clone()).await;
    let mut asking = within(near.open_stream()).await.unwrap();
    asking.send(b"think").await.unwrap();
    let mut answering = within(far.accept_stream()).await.unwrap();
    // The wait is the thing under test: several idle limits without a frame.
    tokio::time::sleep(3 * limits.idle).await;
    answering.send(b"answer").await.unwrap();
    assert_eq!(within(asking.recv(64)).await.unwrap().unwrap(), b"answer");
}

#[tokio::test]
async fn a_closing_server_says_so() {
    let (server, _client, near, far) = connected(Limits::default()).await;
    within(server.close(code::SHUTDOWN)).await;
    assert_eq!(within(near.closed()).await, Loss::ClosedByPeer { code: code::SHUTDOWN });
    assert_eq!(within(far.accept_stream()).await.unwrap_err(), Loss::ClosedHere);
    assert_eq!(near.loss(), Some(Loss::ClosedByPeer { code: code::SHUTDOWN }));
}

#[tokio::test]
async fn streams_above_the_limit_are_answered_busy_until_one_ends() {
    let limits = Limits { streams_max: 2, open: Duration::from_millis(100), ..Limits::default() };
    let (_server, _client, near, far) = connected(limits).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = within(near.open_stream()).await.unwrap();
        stream.send(b"x").await.unwrap();
        open.push(stream);
    }
    assert_eq!(within(near.open_stream()).await.unwrap_err(), OpenError::Busy);
    for mut stream in open {
        stream.reset(code::CANCELLED);
        let mut seen = within(far.accept_stream()).await.unwrap();
        seen.reset(code::CANCELLED);
    }
    let freed = within(async {
        loop {
            match near.open_stream().await {
                Err(OpenError::Busy) => {}
                other => break other,
            }
        }
    });
    assert!(freed.await.is_ok());
}

#[tokio::test]
async fn a_server_that_demands_proof_of_address_still_serves() {
    let (_server, _client, near, _far) = connected(Limits { retry_above: 0, ..Limits::default() }).await;
    assert_eq!(near.remote(), seed(1).node_id());
}

#[tokio::test]
async fn a_full_server_refuses_further_connections() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let (server, _client, _near, _far) = connected(limits.clone()).await;
    let second = Client::bind(LOOPBACK, &seed(3), limits).unwrap();
    let error = within(second.connect(server.local_addr().unwrap(), None)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_a_timeout() {
    let silent = UdpSocket::bind(LOOPBACK).await.unwrap();
    let limits = Limits { handshake: Duration::from_millis(200), ..Limits::default() };
    let client = Client::bind(LOOPBACK, &seed(2), limits).unwrap();
    let error = within(client.connect(silent.local_addr().unwrap(), None)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { limit_ms: 200, .. }), "{error}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = UdpSocket::bind(LOOPBACK).await.unwrap();
    let addr = taken.local_addr().unwrap();
    let error = Server::bind(addr, &seed(1), Limits::default()).unwrap_err();
    assert!(matches!(error, BindError::Socket { .. }));
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[tokio::test]
async fn garbage_datagrams_do_not_disturb_a_server() {
    let (mut server, addr) = server(Limits::default());
    let noise = UdpSocket::bind(LOOPBACK).await.unwrap();
    for byte in 0..=255u8 {
        noise.send_to(&[byte; 1200], addr).await.unwrap();
    }
    let client = Client::bind(LOOPBACK, &seed(2), Limits::default()).unwrap();
    within(client.connect(addr, None)).await.unwrap();
    assert_eq!(within(server.accept()).await.unwrap().remote(), seed(2).node_id());
}
