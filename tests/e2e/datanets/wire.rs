//! What goes over the wire of a private Datanet: everything that any process hands to its transports, taken down before they encrypt it (`p2p::tap`), is
//! searched for the texts, as they are and as shards hold them, which may be compressed. They are in the streams to the owner's gate, which is to read them, and in
//! nothing else that anybody sends; sealed bytes are. Brought to an open Datanet afterwards, the same texts are found on their way to holders and readers.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use harness::{Cluster, cluster::text};

use super::{file, private};

/// Any 31 bytes of what is looked for hold one of its pieces, and none stands in other bytes by chance.
const WINDOW: usize = 16;
/// Bytes at a shard's beginning that others have too.
const SHARD_HEAD: usize = 64;
/// Different bytes in a piece: what is looked for must not be filling.
const DIFFERENT_MIN: usize = 8;

/// What was sent, stream by stream.
type Sent = Vec<(PathBuf, Vec<u8>)>;

fn sent(wire: &Path) -> Sent {
    let entries = std::fs::read_dir(wire).expect("what was sent was taken down").map(|entry| entry.expect("an entry").path());
    entries.map(|path| (path.clone(), std::fs::read(path).expect("a readable file"))).collect()
}

/// The streams that hold a piece of `bytes`.
fn holding<'s>(sent: &'s Sent, bytes: &[u8]) -> Vec<&'s (PathBuf, Vec<u8>)> {
    let is_telling = |piece: &&[u8]| piece.iter().collect::<BTreeSet<_>>().len() >= DIFFERENT_MIN;
    let pieces: BTreeSet<&[u8]> = bytes.chunks_exact(WINDOW).filter(is_telling).collect();
    assert!(!pieces.is_empty(), "nothing to look for in {} bytes", bytes.len());
    sent.iter().filter(|(_, sent)| sent.windows(WINDOW).any(|window| pieces.contains(window))).collect()
}

fn is_of(path: &Path, transport: &str) -> bool {
    path.extension().is_some_and(|extension| extension == transport)
}

/// A stream that somebody opened to a gate: its first frame says so.
fn is_to_gate((path, sent): &&(PathBuf, Vec<u8>)) -> bool {
    is_of(path, "client") && sent.first() == Some(&node::service::GATE_TAG)
}

/// After [`private::only_members_read`]: two private texts were contributed, one of them was read by a member, both by their owner.
pub(super) async fn shows_private_texts_to_their_gate_alone(cluster: &Cluster) {
    let before = sent(&cluster.wire());
    let sealed = std::fs::read_dir(cluster.nodes[1].folder.join("shards")).expect("shards");
    let sealed = sealed.map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a shard"));
    let sealed: Vec<Vec<u8>> = sealed.filter(|bytes| node::datanet::seals::is_sealed(bytes)).collect();
    assert!(!sealed.is_empty(), "the contributor keeps its sealed segment");
    for bytes in &sealed {
        let bulk = holding(&before, &bytes[SHARD_HEAD..]).into_iter().filter(|(path, _)| is_of(path, "bulk")).count();
        assert!(bulk >= 3, "three data fragments of the sealed segment went to their holders, and the tap saw {bulk}");
    }
    assert!(before.iter().any(|(path, _)| is_of(path, "gossip")), "what is published is taken down too");

    // The same rows, open: their shards are what the gate was shown.
    let (owner, anna) = (&cluster.nodes[0], &cluster.nodes[1]);
    cluster.run(owner, &["datanet", "create", "open", "--licence", "CC0-1.0"]).await;
    for (name, words) in [("one", private::FIRST), ("two", private::SECOND)] {
        let rows = file(cluster, &format!("open-{name}.jsonl"), &[private::row(name, words)]);
        let brought = cluster.run(anna, &["datanet", "contribute", "open", &rows]).await;
        let root = brought["text_root"].as_str().expect("a text root").trim_start_matches("0x").to_owned();
        let shard = std::fs::read(anna.folder.join("shards").join(format!("{root}.shard"))).expect("the open shard");
        for (what, bytes) in [("its shard", &shard[SHARD_HEAD.min(shard.len() / 2)..]), ("its words", words.as_bytes())] {
            let elsewhere: Vec<&PathBuf> =
                holding(&before, bytes).into_iter().filter(|stream| !is_to_gate(stream)).map(|(path, _)| path).collect();
            assert!(elsewhere.is_empty(), "{what} of {words:?} went out in {elsewhere:?}");
        }
        let shard = &shard[SHARD_HEAD.min(shard.len() / 2)..];
        let shown = holding(&before, shard).into_iter().filter(is_to_gate).count();
        assert!(shown >= 1, "its contributor showed it to the gate, and the tap has that");
        let after = sent(&cluster.wire());
        let bulk = holding(&after, shard).into_iter().filter(|(path, _)| is_of(path, "bulk")).count();
        assert!(bulk >= 1, "brought to an open Datanet, the same text is found on its way to holders");
    }
    let (reader, out) = (cluster.join("wire-reader", &[]).await, cluster.path("open-out"));
    cluster.run(&reader, &["datanet", "fetch", "open", "--out", text(&out)]).await;
    cluster.say("private texts went to their gate, sealed to holders, and nowhere else; open ones are found");
}
