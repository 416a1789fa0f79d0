//! A client that lost the file of a checked answer has it back from the node that answered, by the key that lay beside it.

use std::path::Path;

use harness::{Cluster, cluster::text};

use super::tamper;

/// The answer's client alone: the key says nothing, and to whom it is handed nothing is shown.
pub(super) async fn a_lost_receipt_is_had_back_by_its_client_alone(cluster: &Cluster, receipt: &Path) {
    let (kept, key) = (tamper::read(receipt), receipt.with_extension("key"));
    let answer = kept["answer"].as_str().expect("an answer");
    assert!(!std::fs::read_to_string(&key).expect("a key was kept").contains(answer), "the key tells nothing of the answer");
    let (lost, strangers) = (cluster.path("had-back.json"), cluster.path("a-strangers.json"));
    let recover = ["receipt", "recover", text(&key), "--out", text(&lost)];
    let printed = cluster.run(cluster.person("client"), &recover).await;
    assert_eq!(tamper::read(&lost), kept, "{printed}");
    assert_eq!((&printed["file"], &printed["node"]), (&text(&lost).into(), &kept["receipt"]["document"]["node"]), "{printed}");
    let error = cluster.refused(cluster.person("client"), &recover).await;
    assert!(error.contains(text(&lost)), "a file that is there is not written over: {error}");

    let error = cluster.refused(cluster.person("auditor"), &["receipt", "recover", text(&key), "--out", text(&strangers)]).await;
    assert!(error.contains("was not had back") && !strangers.exists(), "{error}");
    cluster.say("a lost receipt was had back by its client, and by nobody else");
}
