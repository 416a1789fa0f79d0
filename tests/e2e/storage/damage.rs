//! A bit that rots on a holder's disk after its node has started.

use std::path::Path;

use harness::{Cluster, cluster::text, files};
use serde_json::Value;

/// A record of the store: this mark, kind (2 is a fragment), index, two zero bytes, object, payload length u32, and 40 bytes of hashes.
const MARK: &[u8; 4] = b"TREC";
const HEAD_BYTES: usize = 84;

/// Damage in a store and in a reader's own copy: named, and mended from what is left.
pub(super) async fn a_damaged_fragment_is_named_and_the_others_suffice(cluster: &Cluster, contributed: &Value) {
    let object = contributed["object"].as_str().expect("an object id");
    let (holder, index) = (&cluster.nodes[1], rot(&cluster.nodes[1].folder.join("store"), object));
    let reader = super::reader(cluster, "careful").await;
    let error = cluster.refused(&reader, &["datanet", "verify", "tides"]).await;
    for word in [&holder.node.to_string(), object, &format!("fragment {index}"), "damaged"] {
        assert!(error.contains(word), "the damage was reported without {word}: {error}");
    }
    cluster.say("a fragment damaged on a running node's disk is named with holder, object and number");
    let fetched = cluster.run(&reader, &["datanet", "fetch", "tides"]).await;
    assert_eq!(fetched["contributions"][0]["text_root"], contributed["text_root"], "{fetched}");
    let path = fetched["contributions"][0]["path"].as_str().expect("where the shard lies");
    let mut bytes = std::fs::read(path).expect("the shard");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("the shard is damaged");
    let error = cluster.refused(&reader, &["datanet", "verify", "tides", "--contribution", "0"]).await;
    assert!(error.contains(text(Path::new(path))) && error.contains("fetch it"), "{error}");
    let damaged = files::listing(&reader.folder);
    cluster.run(&reader, &["datanet", "fetch", "tides"]).await;
    assert_ne!(files::listing(&reader.folder), damaged, "the damaged copy was replaced");
    cluster.say("the others sufficed, and a reader's own damaged copy was fetched anew");
    let file = cluster.path("tides.jsonl");
    let spread = cluster.run(&cluster.nodes[2], &["datanet", "contribute", "tides", text(&file)]).await;
    assert_eq!(
        (&spread["object"], &spread["transactions"]),
        (&contributed["object"], &Value::Array(vec![])),
        "only fragments are sent: {spread}"
    );
    let whole = cluster.run(&reader, &["datanet", "verify", "tides"]).await;
    assert_eq!(whole[0]["fragments"].as_object().map(serde_json::Map::len), Some(5), "{whole}");
    cluster.say("the contributor's same command mended the damaged disk without a transaction");
}

/// Flips one bit in the middle of the object's fragment in a store; returns the fragment's number.
pub(crate) fn rot(store: &Path, object: &str) -> u8 {
    let object = hex::decode(object.trim_start_matches("0x")).expect("an object id in hex");
    for number in 1..100 {
        let path = store.join(format!("{number:08}.seg"));
        let mut bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}: no fragment of the object is in this store", path.display()));
        let is_record = |at: &usize| bytes[*at..].starts_with(MARK) && bytes[at + 4] == 2 && bytes[at + 8..].starts_with(&object);
        let Some(at) = (0..bytes.len().saturating_sub(HEAD_BYTES)).find(is_record) else { continue };
        let (index, length) = (bytes[at + 5], bytes[at + 40..at + 44].try_into().expect("four bytes"));
        let middle = at + HEAD_BYTES + usize::try_from(u32::from_be_bytes(length)).expect("a length in memory") / 2;
        bytes[middle] ^= 1;
        // In place, as a disk rots: the node keeps the file open.
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| std::os::unix::fs::FileExt::write_all_at(&file, &bytes[middle..=middle], middle as u64))
            .expect("a byte is written");
        return index;
    }
    unreachable!("a missing segment ends the search")
}
