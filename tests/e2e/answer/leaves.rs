//! A node commits to leaves that are not those of its answer: they state no word, so that nothing in it weighs anything. Its bundle leads to no root, which says that
//! something is wrong and not what; whoever was shown the leaves proves it.

use std::path::Path;

use harness::{Cluster, cluster::text};
use serde_json::json;
use types::{
    id::Hash32,
    merkle::{Tree, leaf_digests},
    text::{leaf_salt, leaves},
};

use super::tamper;

/// The answer's leaves without a row: salt, running weight, number of rows, text (P3).
fn wordless(answer: &str, salt: Hash32) -> Vec<Vec<u8>> {
    let leaf = |(number, text): (usize, &[u8])| [&leaf_salt(salt, number).0[..], &[0; 9], text].concat();
    leaves(answer.as_bytes()).enumerate().map(leaf).collect()
}

/// The stake of who committed to them falls by one command.
pub(super) async fn who_was_shown_an_answers_leaves_proves_what_its_bundle_hides(cluster: &Cluster, receipt: &Path) {
    let bundle = tamper::read(receipt);
    let answer = bundle["answer"].as_str().expect("an answer");
    let salt: Hash32 = serde_json::from_value(bundle["answer_salt"].clone()).expect("a salt");
    let (false_ones, byte_length) = (wordless(answer, salt), answer.len() as u64);
    let root = Tree::new(leaf_digests(&false_ones), byte_length).root();
    let lying = tamper::signed_anew(&bundle, &tamper::keys(cluster), |receipt| receipt.answer_root = root);
    let path = tamper::write(&cluster.path("wordless.json"), &lying);
    let shown = json!({ "byte_length": byte_length, "leaves": false_ones.iter().map(hex::encode).collect::<Vec<_>>() });
    let shown = tamper::write(&cluster.path("leaves.json"), &shown);
    let auditor = cluster.person("auditor");

    let error = cluster.refused(auditor, &["audit", "prove", text(&path), "--dry-run"]).await;
    assert!(error.contains(&root.to_string()), "the bundle alone shows two roots, and no leaf: {error}");
    let honest = cluster.refused(auditor, &["audit", "prove", text(receipt), "--leaves", text(&shown), "--dry-run"]).await;
    assert!(honest.contains(&root.to_string()), "they are not those of the honest receipt: {honest}");

    let proven = cluster.run(auditor, &["audit", "prove", text(&path), "--leaves", text(&shown)]).await;
    assert_eq!((&proven["faults"][0]["fault"], &proven["faults"][0]["mode"]), (&"F10".into(), &"leaf".into()), "{proven}");
    assert!(proven["transaction"].is_string() && proven["slash"]["taken_wei"] != "0", "{proven}");
    cluster.say("false leaves were proven by who was shown them");
}
