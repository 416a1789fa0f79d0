//! Real iroh endpoints over loopback.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use p2p::bulk::{BulkEndpoint, BulkError, BulkLimits};
use p2p::identity::NodeSeed;
use p2p::stream::{StreamError, code};
use types::id::NodeId;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const FETCH: &[u8] = b"tributary/fetch/1";
const AUDIT: &[u8] = b"tributary/audit/1";

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("answer before the deadline")
}

fn node(byte: u8) -> NodeId {
    NodeSeed::new([byte; 32]).node_id()
}

async fn endpoint(byte: u8, limits: BulkLimits) -> BulkEndpoint {
    within(BulkEndpoint::start(&NodeSeed::new([byte; 32]), LOOPBACK, &[FETCH, AUDIT], limits)).await.unwrap()
}

async fn two() -> (BulkEndpoint, BulkEndpoint) {
    (endpoint(1, BulkLimits::default()).await, endpoint(2, BulkLimits::default()).await)
}

#[tokio::test]
async fn a_stream_carries_frames_under_its_protocol_and_proven_names() {
    let (near, far) = two().await;
    assert!(near.local_addr().ip().is_loopback());
    let mut asking = within(near.connect(node(2), far.local_addr(), AUDIT)).await.unwrap();
    asking.send(b"range").await.unwrap();
    let mut got = within(far.accept()).await.unwrap();
    assert_eq!((got.alpn.as_slice(), got.remote), (AUDIT, node(1)));
    assert_eq!(within(got.stream.recv(64)).await.unwrap().unwrap(), b"range");
    let long = vec![3; 5 << 20];
    let sending = tokio::spawn(async move {
        got.stream.send(&long).await.unwrap();
        got.stream.finish().await.unwrap();
        let (mut sender, _receiver) = got.stream.split();
        sender.closed().await
    });
    assert_eq!(within(asking.recv(8 << 20)).await.unwrap().unwrap(), vec![3; 5 << 20]);
    assert_eq!(within(asking.recv(64)).await.unwrap(), None);
    assert_eq!(within(sending).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn many_streams_share_one_connection_and_resets_end_one_only() {
    let (near, far) = two().await;
    let mut streams = Vec::new();
    for number in 0..20u8 {
        let mut stream = within(near.connect(node(2), far.local_addr(), FETCH)).await.unwrap();
        stream.send(&[number]).await.unwrap();
        streams.push(stream);
    }
    // The address is of no further use: what is kept is used.
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let mut kept = within(near.connect(node(2), nowhere, FETCH)).await.unwrap();
    kept.send(&[20]).await.unwrap();
    streams[0].reset(code::CANCELLED);
    let mut seen = Vec::new();
    for _ in 0..21 {
        let mut got = within(far.accept()).await.unwrap();
        match within(got.stream.recv(16)).await {
            Ok(Some(body)) => seen.push(body[0]),
            Err(error) => assert_eq!(error, StreamError::Reset { code: code::CANCELLED }),
            Ok(None) => panic!("nobody finished"),
        }
    }
    seen.sort_unstable();
    seen.retain(|number| *number != 0);
    assert_eq!(seen, (1..=20).collect::<Vec<u8>>());
}

#[tokio::test]
async fn another_node_at_the_address_is_refused() {
    let (near, far) = two().await;
    let error = within(near.connect(node(3), far.local_addr(), FETCH)).await.unwrap_err();
    assert!(matches!(&error, BulkError::Connect { node, .. } if *node == self::node(3)), "{error}");
}

#[tokio::test]
async fn a_protocol_nobody_serves_is_refused() {
    let (near, far) = two().await;
    let error = within(near.connect(node(2), far.local_addr(), b"tributary/none/1")).await.unwrap_err();
    assert!(matches!(error, BulkError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_holder_that_closed_is_an_error_and_its_successor_is_dialled_anew() {
    let (near, far) = two().await;
    let mut open = within(near.connect(node(2), far.local_addr(), FETCH)).await.unwrap();
    open.send(b"x").await.unwrap();
    within(far.accept()).await.unwrap();
    within(far.close()).await;
    assert!(within(far.accept()).await.is_none());
    let error = within(open.recv(16)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let again = endpoint(2, BulkLimits::default()).await;
    let mut stream = within(near.connect(node(2), again.local_addr(), FETCH)).await.unwrap();
    stream.send(b"y").await.unwrap();
    assert_eq!(within(again.accept()).await.unwrap().remote, node(1));
}

#[tokio::test]
async fn streams_to_and_from_a_refused_node_end_and_none_is_opened_until_it_is_refused_no_longer() {
    let (near, far) = two().await;
    let mut out = within(near.connect(node(2), far.local_addr(), FETCH)).await.unwrap();
    out.send(b"out").await.unwrap();
    let mut theirs = within(far.accept()).await.unwrap();
    let mut into = within(far.connect(node(1), near.local_addr(), FETCH)).await.unwrap();
    into.send(b"in").await.unwrap();
    within(near.accept()).await.unwrap();
    assert_eq!(within(theirs.stream.recv(16)).await.unwrap().unwrap(), b"out");
    near.refuse(BTreeSet::from([node(2)]));
    for stream in [&mut out, &mut theirs.stream, &mut into] {
        assert!(within(stream.recv(16)).await.is_err(), "a stream outlived the refusal");
    }
    let error = within(near.connect(node(2), far.local_addr(), FETCH)).await.unwrap_err();
    assert_eq!(error, BulkError::Refused(node(2)));
    // The other side may dial; what it sends is answered by nobody.
    if let Ok(mut stream) = within(far.connect(node(1), near.local_addr(), FETCH)).await {
        drop(stream.send(b"let me in").await);
        assert!(within(stream.recv(16)).await.is_err());
    }
    near.refuse(BTreeSet::new());
    let mut again = within(near.connect(node(2), far.local_addr(), FETCH)).await.unwrap();
    again.send(b"again").await.unwrap();
    assert_eq!(within(far.accept()).await.unwrap().remote, node(1));
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_in_time() {
    let near = endpoint(1, BulkLimits { handshake: Duration::from_millis(300), ..BulkLimits::default() }).await;
    let silent = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
    let error = within(near.connect(node(2), silent.local_addr().unwrap(), FETCH)).await.unwrap_err();
    assert!(error.to_string().contains("300 ms"), "{error}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
    let addr = taken.local_addr().unwrap();
    let seed = NodeSeed::new([1; 32]);
    let error = within(BulkEndpoint::start(&seed, addr, &[FETCH], BulkLimits::default())).await.unwrap_err();
    assert!(matches!(&error, BulkError::Bind { addr: named, .. } if *named == addr), "{error}");
}
