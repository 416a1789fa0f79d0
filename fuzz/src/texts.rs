//! Texts of receipt logs: notes, checkpoints, proofs, requests to witnesses, paths and bundles of entries.

use attribution::log::{
    Head, base64,
    checkpoint::{self, Checkpoint},
    entry,
    note::{Key, Note, Role, Signer, signature_lines},
    proof::Proof,
    quorum::cosigned,
    tile::Resource,
    tree::{Levels, leaf_hash},
    witness::AddCheckpoint,
};
use types::{id::NodeId, merkle::keccak};

/// The log whose texts they are said to be.
fn signer() -> Signer {
    Signer::new(Role::Log, &[5; 32])
}

fn node() -> NodeId {
    Key::node_of_origin(signer().key().name()).expect("a log is named after its node")
}

/// A byte that says which, and the text.
pub(crate) fn run(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    let text = std::str::from_utf8(body).ok();
    match which % 8 {
        0 => {
            if let Ok(note) = Note::parse(body) {
                assert_eq!(note.to_string().as_bytes(), body, "a note has one form");
                let _ = (note.signed_at(signer().key()), checkpoint::read(note.text()));
            }
        }
        1 => {
            if let Ok(read) = Checkpoint::open(body, node()) {
                assert_eq!(read.note.to_string().as_bytes(), body);
                let _ = cosigned(&read, &[node()], 1);
            }
        }
        2 => {
            if let Ok(proof) = Proof::open(body, node()) {
                let _ = proof.verify(b"entry");
                assert_eq!(Proof::open(proof.to_text().as_bytes(), node()).as_ref().map(Proof::to_text), Ok(proof.to_text()));
            }
        }
        3 => {
            if let Ok(request) = AddCheckpoint::parse(body) {
                assert_eq!(AddCheckpoint::parse(request.to_string().as_bytes()).map(|again| again.to_string()), Ok(request.to_string()));
                let _ = (
                    request.origin().map(str::len),
                    request.judge(signer().key(), None),
                    request.judge(signer().key(), Some(Head::empty())),
                );
            }
        }
        4 => {
            if let Some(path) = text
                && let Some(resource) = Resource::parse(path)
            {
                assert_eq!(resource.to_string().strip_prefix("tile/"), Some(path));
            }
        }
        5 => {
            let Some((width, body)) = body.split_first() else { return };
            if let Ok(entries) = entry::entries(body, u16::from(*width)) {
                assert_eq!(entry::bundle(entries), body);
            }
        }
        6 => {
            if let Some(decoded) = text.and_then(base64::decode) {
                assert_eq!(base64::encode(&decoded).as_bytes(), body);
            }
            let _ = text.map(|text| (Key::witness(text), Key::node_of_origin(text), signature_lines(text).map(|lines| lines.len())));
        }
        _ => {
            if let Some(head) = Head::from_bytes(body) {
                assert_eq!(head.to_bytes()[..], *body);
            }
            let _ = text.map(|text| checkpoint::read(text).map(|(origin, head)| (origin.len(), head)));
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut levels = Levels::new();
    let entries: Vec<Vec<u8>> = (0..3_u8).map(|number| entry::of_receipt(keccak(&[&[number]])).to_vec()).collect();
    entries.iter().for_each(|entry| levels.push(leaf_hash(entry)));
    let signed = checkpoint::sign(&signer(), levels.head());
    let mut twice = signed.note.clone();
    twice.add([Signer::new(Role::Witness, &[6; 32]).sign(signed.note.text(), 1_700_000_000)]);
    let proof = Proof { index: 2, path: vec![leaf_hash(b"path")], checkpoint: signed.clone() };
    let add = AddCheckpoint { old: 0, proof: vec![leaf_hash(b"path")], note: signed.note.clone() };
    let bundle = entry::bundle(entries.iter().map(Vec::as_slice));
    let mut seeds = vec![
        (0, signed.note.to_string().into_bytes()),
        (0, twice.to_string().into_bytes()),
        (1, signed.note.to_string().into_bytes()),
        (1, twice.to_string().into_bytes()),
        (2, proof.to_text().into_bytes()),
        (3, add.to_string().into_bytes()),
        (5, [&[3][..], &bundle].concat()),
        (6, b"aGVsbG8gd29ybGQ=".to_vec()),
        (6, signer().key().verifier().into_bytes()),
        (6, signer().key().name().as_bytes().to_vec()),
        (7, levels.head().to_bytes().to_vec()),
        (7, signed.note.text().as_bytes().to_vec()),
    ];
    seeds.extend(["0/000", "1/x001/x234/067.p/9", "entries/x001/000", "entries/000.p/255"].map(|path| (4, path.as_bytes().to_vec())));
    seeds.into_iter().map(|(which, text)| [&[which][..], &text].concat()).collect()
}
