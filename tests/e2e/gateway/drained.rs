//! A node that is told to stop while a client talks to it: it refuses what is new, waits for that client, and says what came of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use harness::{Cluster, http::ask, wire::Talk};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use types::id::Hash32;

/// How long the node may take to hear of it; it waits as long for a client that says nothing.
const LEAVING_WAIT: Duration = Duration::from_secs(25);

/// The cluster's one node; it has ended when this returns.
pub(super) async fn a_node_that_is_drained_begins_nothing_and_waits_for_who_is_there(cluster: &Cluster) {
    let node = &cluster.nodes[0];
    let status = cluster.run(node, &["status"]).await;
    let root: Hash32 =
        status["manifests"][0].as_str().and_then(|root| root.parse().ok()).unwrap_or_else(|| panic!("no manifest: {status}"));
    let quic = Client::bind(([127, 0, 0, 1], 0).into(), &NodeSeed::generate(), Limits::default()).expect("a socket");
    let addr = node.addresses.as_ref().expect("the node runs").clients;
    let connection = Arc::new(quic.connect(addr, Some(node.node)).await.expect("a connection"));
    let admin = node.addresses.as_ref().and_then(|at| at.admin).expect("its metrics are served");
    watched(admin).await;
    let mut early = Talk::open(&connection).await.expect("a stream");
    early.quote(root, 8).await.expect("an offer of a node that stays");

    let draining = cluster.tributary.command(&node.folder, &["drain"]).output();
    let refused = async {
        loop {
            let mut late = Talk::open(&connection).await.expect("a stream: the node waits for who is there");
            match late.quote(root, 8).await {
                Ok(_) => sleep(Duration::from_millis(20)).await,
                Err(why) => break why,
            }
        }
    };
    let leave = async {
        let why = timeout(LEAVING_WAIT, refused).await.expect("the node hears that it is to leave");
        assert!(why.contains("this node is leaving"), "{why}");
        let (status, why) = ask("GET", admin, "/readyz", "localhost").await;
        assert!(status == 503 && why.contains("the node is leaving"), "{status}: {why}");
        assert_eq!(
            ask("GET", admin, "/healthz", "localhost").await,
            (200, "ok\n".to_owned()),
            "who restarts what is unhealthy leaves it alone"
        );
        // Who was there before is told the same, and lets it go.
        let why = early.quote(root, 8).await.expect_err("an offer of a node that leaves");
        assert!(why.contains("this node is leaving"), "{why}");
    };
    let (drained, ()) = tokio::join!(draining, leave);
    let drained = drained.expect("the command runs");
    let told = String::from_utf8_lossy(&drained.stderr);
    assert!(drained.status.success(), "{told}");
    let said: Value = serde_json::from_slice(&drained.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert!(said["finished"].as_u64() >= Some(1) && said["broken_off"] == 0, "{said}");
    let again = cluster.refused(node, &["drain"]).await;
    assert!(again.contains("no node runs with this folder"), "{again}");
    cluster.say("the node was drained: it finished what it had begun, refused the rest, and ended");
}

/// What watches over a node reads what it did, and nobody else's page does.
async fn watched(admin: SocketAddr) {
    assert!(admin.ip().is_loopback());
    let here = admin.to_string();
    assert_eq!(ask("GET", admin, "/readyz", &here).await, (200, "ready\n".to_owned()));
    let (status, text) = ask("GET", admin, "/metrics", &here).await;
    let value = |series: &str| {
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok()).unwrap_or_else(|| panic!("no {series}: {text}"))
    };
    assert_eq!(status, 200, "{text}");
    for least_one in [
        "tributary_answers_total{reason=\"stop\"}",
        "tributary_tokens_total{direction=\"out\"}",
        "tributary_first_token_seconds_count",
        "tributary_ready",
        "tributary_manifests",
        "tributary_receipts",
        "tributary_memory_bytes",
        "tributary_chain_block{head=\"latest\"}",
        "tributary_engine_pages{state=\"free\"}",
    ] {
        assert!(value(&format!("{least_one} ")) >= 1.0, "{least_one}: {text}");
    }
    assert!(value("tributary_fees_open_total ") > 0.0);
    for (method, path, host, expected) in [
        ("GET", "/metrics", "metrics.example", 403),
        ("GET", "/readyz", "metrics.example:80", 403),
        ("GET", "/", "localhost", 404),
        ("GET", "/v1/models", "localhost", 404),
        ("POST", "/metrics", "localhost", 405),
    ] {
        assert_eq!(ask(method, admin, path, host).await.0, expected, "{method} {path} as {host}");
    }
}
