//! Receipt logs over HTTP alone: a receipt's place in its node's log proved, the head cosigned by the other node, and neither taken for another's.
//!
//! A step of the cluster in [`super::fast`]; what a log does at a stop, and that forks are refused, are tests of `node/tests/settlement` and `attribution::log`.

use std::path::PathBuf;

use harness::{Cluster, Party, Tributary, cluster::text};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use types::id::Address;

/// A receipt with a proof that needs no network any more.
#[derive(Debug)]
pub(super) struct Proved {
    receipt: String,
    proof: PathBuf,
    node: String,
    witness: String,
}

fn url(party: &Party) -> String {
    let at = party.addresses.as_ref().and_then(|addresses| addresses.log).expect("its log is served");
    format!("http://{at}")
}

/// Head and body of what a node's log answers.
async fn fetched(party: &Party, request: &str) -> String {
    let at = party.addresses.as_ref().and_then(|addresses| addresses.log).expect("its log is served");
    let mut stream = TcpStream::connect(at).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("a request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer comes");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(party: &Party, path: &str) -> String {
    fetched(party, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
}

/// Every receipt is proved in the log of the node that signed it, and in no other.
pub(super) async fn each_receipt_is_in_its_nodes_log(cluster: &Cluster, bundles: &[(String, Value)]) -> Vec<Proved> {
    let (client, mut proved) = (cluster.person("client"), Vec::new());
    for (number, (receipt, bundle)) in bundles.iter().enumerate() {
        let account: Address = bundle["receipt"]["document"]["node"].as_str().and_then(|text| text.parse().ok()).expect("an account");
        let answered = cluster.nodes.iter().position(|node| node.account == account).expect("one of the two");
        let (node, other) = (&cluster.nodes[answered], &cluster.nodes[1 - answered]);
        let (log, id, witness) = (url(node), node.node.to_string(), format!("{}@{}", other.node, url(other)));
        let out = cluster.path(&format!("proof-{number}.tlog-proof"));
        // Without --node the chain says whose log it must be.
        let found =
            cluster.run(client, &["receipt", "log", "prove", receipt, "--log", &log, "--witness", &witness, "--out", text(&out)]).await;
        assert_eq!(
            (&found["node"], &found["witnesses"][0]["node"]),
            (&Value::from(id.as_str()), &other.node.to_string().into()),
            "{found}"
        );
        assert!(found["index"].as_u64() < found["entries"].as_u64(), "{found}");
        let again = cluster.run(client, &["receipt", "log", "verify", "--log", &log, "--node", &id, "--witness", &witness]).await;
        assert_eq!((&again["root"], &again["seen_entries"]), (&found["root"], &found["entries"]), "{again}");
        // Nobody answers at the address of the second; one of the two is enough where one is asked for.
        let away = format!("{}@http://127.0.0.1:1", "ab".repeat(32));
        let trusted = ["receipt", "log", "verify", "--log", &log, "--node", &id, "--witness", &witness, "--witness", &away, "--quorum"];
        let enough = cluster.run(client, &[&trusted[..], &["1"]].concat()).await;
        assert_eq!(enough["witnesses"].as_array().map(Vec::len), Some(1), "{enough}");
        let short = cluster.refused(client, &[&trusted[..], &["2"]].concat()).await;
        assert!(short.contains("is cosigned by 1 of the 2 witnesses that must"), "{short}");
        proved.push(Proved { receipt: receipt.clone(), proof: out, node: id.clone(), witness: other.node.to_string() });

        let foreign = cluster.refused(client, &["receipt", "log", "prove", receipt, "--log", &url(other)]).await;
        assert!(foreign.contains("the checkpoint is of the log"), "another node's log is not taken for its own: {foreign}");
        let elsewhere = ["receipt", "log", "prove", receipt, "--log", &url(other), "--node", &other.node.to_string()];
        let missing = cluster.refused(client, &elsewhere).await;
        assert!(missing.contains("is none of the"), "{missing}");
        let own = cluster.run(node, &["receipt", "log", "show"]).await;
        assert_eq!(own["root"], found["root"], "the operator's own view is the same");
    }
    let node = &cluster.nodes[0];
    let checkpoint = get(node, "/checkpoint").await;
    let words = ["HTTP/1.1 200", "content-type: text/plain; charset=utf-8", "cache-control: no-cache", "tributary.receipts/", "\u{2014} "];
    assert!(words.iter().all(|word| checkpoint.contains(word)), "{checkpoint}");
    for path in ["/tile/0/x001/000", "/tile/0/00", "/tile/entries/000.p/0", "/tile/64/000", "/entries"] {
        let answer = get(node, path).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    let entries = proved.iter().filter(|one| one.node == node.node.to_string()).count();
    if entries > 0 {
        for path in [format!("/tile/0/000.p/{entries}"), format!("/tile/entries/000.p/{entries}")] {
            let tile = get(node, &path).await;
            assert!(["HTTP/1.1 200", "application/octet-stream", "immutable"].iter().all(|word| tile.contains(word)), "{path}: {tile}");
        }
    }
    for (body, status) in [("old 0\n\nnobody\n0\n", 400), ("nothing", 400)] {
        let length = body.len();
        let posted =
            format!("POST /add-checkpoint HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        let answer = fetched(node, &posted).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{body:?}: {answer}");
    }
    cluster.say("each receipt is proved in its node's log, over HTTP, under a head that the other node cosigned");
    proved
}

/// With no process left, the proofs still stand, each for its own receipt and log.
pub(super) async fn proofs_stand_without_network(offline: &Tributary, folder: &std::path::Path, proved: &[Proved]) {
    for Proved { receipt, proof, node, witness } in proved {
        let verify = ["receipt", "log", "verify", receipt.as_str(), "--proof", text(proof), "--node"];
        let stands = offline.run(folder, &[&verify[..], &[node.as_str(), "--witness", witness]].concat()).await;
        assert_eq!(
            (&stands["node"], &stands["witnesses"][0]["node"]),
            (&Value::from(node.as_str()), &Value::from(witness.as_str())),
            "{stands}"
        );
        let foreign = offline.refused(folder, &[&verify[..], &[witness.as_str()]].concat()).await;
        assert!(foreign.contains("the checkpoint is of the log"), "{foreign}");
        let uncosigned = offline.refused(folder, &[&verify[..], &[node.as_str(), "--witness", node]].concat()).await;
        assert!(uncosigned.contains("no signature of tributary.witness/"), "{uncosigned}");
        for other in proved.iter().filter(|other| other.receipt != *receipt) {
            let crossed = ["receipt", "log", "verify", &other.receipt, "--proof", text(proof), "--node", node];
            let refused = offline.refused(folder, &crossed).await;
            assert!(refused.contains("it is no proof of") && refused.contains("does not lead to the root"), "{refused}");
        }
    }
}
