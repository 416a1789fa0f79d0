//! A contributor reads what nodes publish of open answers, and finds in it what is kept from it, and nothing where nothing is.

use std::path::PathBuf;

use harness::{Cluster, cluster::text};
use serde_json::Value;
use types::receipt::Receipt;

use super::{QUESTIONS, tamper};

/// How long transcripts are shown behind both windows: longer than the test takes.
pub(super) const SHOWN_S: u64 = 3_600;

/// What a node may sign instead of what it found.
type Lie = fn(&mut Receipt);

/// One that its client lets everybody read.
pub(super) async fn an_open_answer(cluster: &Cluster) -> Value {
    cluster.run(cluster.person("client"), &["ask", "--with", "echo", "--open", "--tokens", "96", QUESTIONS[0]]).await
}

/// Every root is posted. The contributor of the first answer's words looks at what the nodes show; then somebody who was handed false receipts looks for it.
pub(super) async fn a_contributor_finds_what_published_answers_keep_from_it(cluster: &Cluster, receipts: &[PathBuf]) {
    let contributor = &cluster.nodes[2];
    let seen = cluster.run(contributor, &["datanet", "watch", "surveys", "--mine", "--once"]).await;
    assert_eq!((&seen["contributions"], &seen["answers"]), (&1.into(), &1.into()), "one answer is open: {seen}");
    assert!(seen["closed"].as_u64() >= Some(4), "the others are their clients' alone: {seen}");
    for nothing in ["withheld", "unread", "found"] {
        assert_eq!(seen[nothing], Value::Array(vec![]), "{seen}");
    }

    let (folder, kept) = (cluster.path("handed-over"), cluster.path("kept"));
    std::fs::create_dir(&folder).expect("a folder is made");
    // Answers of that contributor's words; one that is proven here cannot be proven again, and the first one is needed later.
    let lies: [(&str, usize, Lie); 2] = [
        ("omitted", 5, |receipt| {
            receipt.spans.remove(0);
        }),
        ("reassigned", 6, |receipt| receipt.spans[0].payee.0[0] ^= 1),
    ];
    for (name, answer, lie) in lies {
        let bundle = tamper::read(&receipts[answer]);
        tamper::write(&folder.join(format!("{name}.json")), &tamper::signed_anew(&bundle, &tamper::keys(cluster), lie));
    }
    let (auditor, account) = (cluster.person("auditor"), contributor.account.to_string());
    let watch = ["datanet", "watch", "surveys", "--contributor", &account, "--once", "--receipts", text(&folder)];
    let found = cluster.run(auditor, &[&watch[..], &["--keep", text(&kept)]].concat()).await;
    let rows = found["found"].as_array().expect("a list of answers");
    let faults: Vec<&Value> = rows.iter().map(|row| &row["missed"][0]["fault"]).collect();
    assert_eq!(faults, ["F2", "F9"], "{found}");
    for row in rows {
        assert_eq!((&row["proof"]["is_provable"], &row["proof"]["transaction"]), (&true.into(), &Value::Null), "{found}");
        // Two were contributed at once: which one was accepted first is chance.
        assert_eq!(row["missed"][0]["contribution"], rows[0]["missed"][0]["contribution"], "{found}");
        assert!(kept.join(format!("{}.json", row["receipt"].as_str().expect("a hash"))).exists(), "{found}");
    }
    std::fs::remove_file(folder.join("reassigned.json")).expect("one is left");
    let filed = cluster.run(auditor, &[&watch[..], &["--file"]].concat()).await;
    let proof = &filed["found"][0]["proof"];
    assert!(proof["transaction"].is_string() && proof["slash"]["taken_wei"] != "0", "{filed}");
    cluster.say("a contributor found what answers keep from it, and nothing in honest ones");
}
