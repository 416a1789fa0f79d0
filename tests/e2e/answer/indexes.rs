//! The index as files: built from text that is here, read back, damaged, mended; what was posted by the indexer is its root.

use std::path::PathBuf;

use harness::{Cluster, Party};
use serde_json::Value;

/// Somebody who runs no node builds the index of the Datanet, and finds a byte that changed in it.
pub(super) async fn are_built_verified_and_mended(cluster: &Cluster, person: &Party) {
    let build = ["index", "build", "surveys", "--memory", "64M", "--threads", "2"];
    let built = cluster.run(person, &build).await;
    let made = |printed: &Value| -> Vec<bool> {
        let segments = printed["segments"].as_array().unwrap_or_else(|| panic!("no segments: {printed}"));
        segments.iter().map(|segment| segment["is_built"] == true).collect()
    };
    assert_eq!((made(&built), &built["near_copies"]), (vec![true], &0.into()), "{built}");
    let whole = cluster.run(person, &["index", "verify", "surveys"]).await;
    assert_eq!((&whole["is_ok"], &whole["root"]), (&true.into(), &built["root"]), "{whole}");
    let posted = whole["posted"].as_array().unwrap_or_else(|| panic!("no posted roots: {whole}"));
    assert!(posted.len() >= 2 && posted.iter().all(|posted| posted["is_ours"] == true), "the adapters' indexes have this root: {whole}");

    let file = built["segments"][0]["file"].as_str().expect("a file's name");
    let path = PathBuf::from(built["folder"].as_str().expect("a folder")).join(file);
    let mut bytes = std::fs::read(&path).expect("the segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("a segment is written over");
    let damaged = cluster.outcome(person, &["index", "verify", "surveys"]).await;
    assert!(damaged.code != Some(0), "a changed byte is a fault");
    let mended = cluster.run(person, &build).await;
    assert_eq!((made(&mended), &mended["root"]), (vec![true], &built["root"]), "{mended}");
    assert!(mended["set_aside"][0].as_str().is_some_and(|said| said.contains(file) && said.contains("damaged")), "{mended}");
    assert_eq!(made(&cluster.run(person, &build).await), [false], "what is there is used");
    assert!(cluster.refused(person, &["index", "build", "surveys", "--version", "9"]).await.contains("has no version 9"));
    cluster.say("an index was built in files, damaged, found out and mended");
}
