//! What a storing node does by itself: rot is found by reading, marked and mended; an object whose manifest lies is proved so by its reader and given up by every
//! holder, one that was away included; the room it took is freed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use chain_bridge::client::ChainClient;
use node::datanet::{
    exchange::ask,
    keeping::{show, tell},
};
use p2p::{
    bulk::{BulkEndpoint, BulkLimits},
    identity::NodeSeed,
};
use serde_json::Value;
use storage::{
    erasure::{Encoded, ObjectManifest, Profile, Proof, encode},
    proto::{
        keeping::Record,
        message::{Refusal, Reply, Request},
        placement::{Misplaced, Rules, Site, View, check, place},
    },
};
use types::{
    contribution::{Contribution, GateReport, commitment},
    id::{Address, AssetId, BlobId, Hash32, NodeId},
    key::{Account, Signed},
    merkle::keccak,
    placement::Placement,
    text::{text_root, text_top},
};

use super::{PASSWORD, World, documents};

const DATANET: AssetId = AssetId(1);
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_find_and_mend_rot_give_up_what_is_a_lie_and_free_its_room() {
    let mut world = World::start_as(|config| {
        let keeping = &mut config.keeping;
        keeping.store.segment_bytes = 64 << 10;
        (keeping.repair.look_every_s, keeping.repair.retry_after_s) = (1, 1);
    })
    .await;
    let folder = |number: usize| world.nodes[number].folder.clone();
    let (owner, anna) = (folder(0), folder(1));
    world.ok(&owner, &["datanet", "create", "medical", "--licence", "CC-BY-4.0"]);
    let file = world.file("first.jsonl", &documents(0..60));
    let printed = world.ok(&anna, &["datanet", "contribute", "medical", &file]);
    let object = printed["object"].as_str().unwrap().to_owned();

    rot_is_found_by_reading_and_mended(&world, 4, &object);
    a_damaged_manifest_is_had_from_others(&world, 2, &object);

    let (lie, told_to_one) = (Lie::contribute(&world, 1).await, Lie::contribute(&world, 2).await);
    told_to_one.is_passed_on(&world, 4).await;
    world.stop(3);
    let reader = world.party("reader");
    let error = world.error(&reader.folder, &["datanet", "fetch", "medical", "--contribution", "1"]);
    assert!(error.contains("manifest is false") && error.contains("the object is void, and "), "{error}");
    // Whom the reader has not reached is told by those it has.
    assert!(!error.contains("void, and 0 of "), "{error}");
    for number in [0, 1, 2, 4] {
        let what = format!("a void object (its reader said: {error})");
        let status = until(&world, number, &what, |status| voids(status, lie.object));
        assert!(!status["objects"].to_string().contains(&lie.object.to_string()), "it is watched no more: {status}");
    }
    lie.is_kept_by_nobody(&world, 0).await;

    // Who was away is told by the others when they look.
    world.restart(3);
    until(&world, 3, "the lie on the disk of who was away", |status| !voids(status, lie.object));
    let deadline = Instant::now() + LIMIT;
    while !voids(&world.ok(&folder_of(&world, 3), &["storage", "status"]), lie.object) {
        assert!(Instant::now() < deadline, "who was away was not shown the proof");
        world.ok(&owner, &["storage", "repair"]);
        std::thread::sleep(Duration::from_millis(500));
    }
    let status = until(&world, 0, "freed room", |status| status["upkeep"]["collected_bytes"].as_u64() > Some(90_000));
    assert_eq!(status["upkeep"]["scrub"]["days"], 14, "{status}");
    records_lost_with_an_index_are_had_from_other_holders(&mut world, 2, &object);
    world.ok(&reader.folder, &["datanet", "verify", "medical", "--contribution", "0"]);
}

fn folder_of(world: &World, number: usize) -> std::path::PathBuf {
    world.nodes[number].folder.clone()
}

fn voids(status: &Value, object: BlobId) -> bool {
    status["upkeep"]["void"].as_array().is_some_and(|void| void.iter().any(|one| *one == object.to_string()))
}

/// A node's status once it is so.
#[track_caller]
fn until(world: &World, number: usize, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let (is_done, status) = world.output(&folder_of(world, number), &["storage", "status"]);
        if is_done && is_so(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{what} did not come about on node {number}: {status}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Nobody asks for the fragment; the operator asks for a look.
fn rot_is_found_by_reading_and_mended(world: &World, number: usize, object: &str) {
    let folder = folder_of(world, number);
    rot(&folder.join("store"), object, FRAGMENT);
    world.ok(&folder, &["storage", "repair"]);
    let log = || fs::read_to_string(folder.join("node.log")).unwrap();
    let status = until(world, number, "rot that is found and mended", |status| {
        status["upkeep"]["scrub"]["corrupt"] == 1 && status["upkeep"]["rotten"] == Value::Array(vec![])
    });
    assert!(log().contains("is no longer what was stored: it is marked"), "{status}");
    let reader = world.party("careful");
    let deadline = Instant::now() + LIMIT;
    while !world.output(&reader.folder, &["datanet", "verify", "medical"]).0 {
        assert!(Instant::now() < deadline, "not mended: {}", log());
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Without it the fragment beside it can be shown to nobody.
fn a_damaged_manifest_is_had_from_others(world: &World, number: usize, object: &str) {
    let folder = folder_of(world, number);
    rot(&folder.join("store"), object, BLOB);
    world.ok(&folder, &["storage", "repair"]);
    let manifest = format!("blob {object}");
    let is_told = |line: &str| line.contains("it is marked") && line.contains(&manifest);
    let is_marked = || fs::read_to_string(folder.join("node.log")).unwrap().lines().any(is_told);
    let status = until(world, number, "a manifest that is found damaged and mended", |status| {
        is_marked() && status["upkeep"]["rotten_items"] == 0 && status["upkeep"]["rotten"] == Value::Array(vec![])
    });
    assert_eq!(status["upkeep"]["lost_bytes"], 0, "{status}");
}

/// A salvage saves no records of an index that cannot be read: the fragments it saved are this node's all the same.
fn records_lost_with_an_index_are_had_from_other_holders(world: &mut World, number: usize, object: &str) {
    let folder = folder_of(world, number);
    let (store, saved) = (folder.join("store"), folder.join("saved"));
    world.stop(number);
    let index = fs::OpenOptions::new().read(true).write(true).open(store.join("index.redb")).unwrap();
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&index, &mut byte, 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&index, &[byte[0] ^ 0xff], 20).unwrap();
    drop(index);
    let (is_sound, checked) = world.output(&folder, &["storage", "check", "--salvage", saved.to_str().unwrap()]);
    assert!(!is_sound && checked["salvaged"]["records"] == 0, "an index that still tells its records is no test: {checked}");
    fs::rename(&store, folder.join("broken")).unwrap();
    fs::rename(&saved, &store).unwrap();
    world.restart(number);
    let account = world.nodes[number].account.to_string();
    let is_watched = |status: &Value| {
        let row = status["objects"].as_array().and_then(|all| all.iter().find(|row| row["object"] == object));
        let own = row.and_then(|row| row["fragments"].as_array()?.iter().find(|fragment| fragment["holder"] == *account));
        own.is_some_and(|own| own["stands"] == "held") && status["upkeep"]["unrecorded"] == 0
    };
    until(world, number, "a record that is had anew", is_watched);
    let looked = world.ok(&folder_of(world, 0), &["storage", "repair", object]);
    assert_eq!((&looked["objects"], &looked["damaged"]), (&1.into(), &Value::Array(vec![])), "{looked}");
}

/// Kinds of records.
const BLOB: u8 = 1;
const FRAGMENT: u8 = 2;

/// Flips a bit in the middle of the object's fragment or manifest under the node that has the store open.
fn rot(store: &Path, object: &str, kind: u8) {
    let object = hex::decode(object.trim_start_matches("0x")).unwrap();
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "seg") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        // Mark, kind, index, two zero bytes, object, payload length, 40 bytes of hashes.
        let is_record = |at: &usize| bytes[*at..].starts_with(&[b"TREC", &[kind][..]].concat()) && bytes[at + 8..].starts_with(&object);
        if let Some(at) = (0..bytes.len().saturating_sub(84)).find(is_record) {
            let length = u32::from_be_bytes(bytes[at + 40..at + 44].try_into().unwrap());
            let middle = at + 84 + length as usize / 2;
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            return std::os::unix::fs::FileExt::write_all_at(&file, &[bytes[middle] ^ 1], middle as u64).unwrap();
        }
    }
    panic!("no fragment of the object is in {}", store.display());
}

/// A contribution whose manifest names another content than its fragments give, spread and recorded like any other.
struct Lie {
    object: BlobId,
    encoded: Encoded,
    bulk: Arc<BulkEndpoint>,
    holders: Vec<Address>,
}

impl Lie {
    async fn contribute(world: &World, seed: u8) -> Self {
        let key =
            |number: usize| -> Account { chain_bridge::wallet::load(&folder_of(world, number).join("wallet.json"), PASSWORD).unwrap() };
        let (owner, me) = (key(0), key(1));
        let text = format!("nobody will read text {seed}");
        let root = text_root(text.as_bytes());
        let bytes: Vec<u8> = (u32::from(seed) << 16..).take(10_000).flat_map(|number| BlobId::of(&number.to_be_bytes()).0).collect();
        let mut encoded = encode(&bytes, root, Profile::DEVNET).unwrap();
        let mut manifest = encoded.manifest.encode();
        manifest[20] ^= 1;
        encoded.manifest = ObjectManifest::decode(&manifest).unwrap();
        let object = encoded.manifest.id();

        let chain = ChainClient::connect(world.devnet.url(), world.devnet.deployment().clone(), Some(me.clone())).await.unwrap();
        let (domains, salt) = (chain.domains(), Hash32([seed; 32]));
        let made = commitment(salt, root, me.address());
        chain.commit(made).await.unwrap();
        let document = Contribution {
            datanet: DATANET,
            contributor: me.address(),
            text_root: root,
            text_bytes: text.len() as u64,
            documents: 1,
            salt,
            licence: keccak(&[b"CC-BY-4.0"]),
            object,
        };
        let report = GateReport { datanet: DATANET, text_root: root, commitment: made, report: Hash32([1; 32]), object, is_accepted: true };
        let (document, report) = (Signed::new(&me, &domains, document), Signed::new(&owner, &domains, report));
        let (_, sent) = chain.accept(&document, &report, text_top(text.as_bytes())).await.unwrap();

        let bulk = BulkEndpoint::start(&NodeSeed::generate(), "127.0.0.1:0".parse().unwrap(), &[], BulkLimits::default()).await;
        let bulk = Arc::new(bulk.unwrap());
        let sites: BTreeMap<_, _> = world.nodes.iter().map(|party| (party.account, Site::default())).collect();
        let holders = place(sent.block.hash, object, Profile::DEVNET, &sites, &Rules::of(Profile::DEVNET, BTreeSet::new())).unwrap();
        let wished = wish(sent.block.hash, object, &holders, &sites);
        let mut lie = Self { object, encoded, bulk, holders };
        lie.is_not_placed_by_a_wish(world, wished.clone()).await;
        for (index, holder) in (0..).zip(&lie.holders) {
            for number in 0..5 {
                let reply = lie.put(world, number, index).await;
                let object = lie.object;
                let expected = if world.nodes[number].account == *holder {
                    Reply::Stored { object, index }
                } else {
                    Reply::Refused(Refusal::NotHolder { object, index })
                };
                assert_eq!(reply, expected, "the rule gives it to {holder}");
            }
        }
        let placement = |holders: &[Address]| {
            let holders = holders.to_vec();
            Record::new(Signed::new(
                &me,
                &domains,
                Placement { contributor: me.address(), object, block: sent.block.number, data: 3, holders },
            ))
        };
        // Its holder has fragment 0 and does not take down the rest.
        let first = world.nodes.iter().find(|party| party.account == lie.holders[0]).unwrap();
        let said = tell(&lie.bulk, vec![at(first)], &placement(&wished)).await;
        assert!(
            matches!(&said[..], [(_, reason)] if reason.contains("not those of the rule") && reason.contains("rank better")),
            "{said:?}"
        );
        let to = world.nodes.iter().map(at).collect();
        let refused = tell(&lie.bulk, to, &placement(&lie.holders)).await;
        assert!(refused.is_empty(), "{refused:?}");
        lie
    }

    /// A contributor that names holders by its own wish is refused by each of them, with the reason: nobody keeps anything.
    async fn is_not_placed_by_a_wish(&mut self, world: &World, wished: Vec<Address>) {
        let rule = self.holders.clone();
        let twice = [rule[0], rule[1], rule[2], rule[3], rule[0]].to_vec();
        for (wished, reason) in [
            (wished, "rank better than the holders that are named"),
            (twice, "holder of two fragments"),
            (rule[..4].to_vec(), "4 holders are named for 5"),
        ] {
            self.holders = wished;
            for (index, holder) in (0..).zip(self.holders.clone()) {
                let number = world.nodes.iter().position(|party| party.account == holder).unwrap();
                let reply = self.put(world, number, index).await;
                assert!(
                    matches!(&reply, Reply::Refused(Refusal::Misplaced { detail, .. }) if detail.contains(reason)),
                    "{reason}: {reply:?}"
                );
            }
        }
        // Not named at all: whose fragment it is nobody says.
        self.holders = vec![];
        let reply = self.put(world, 0, 0).await;
        assert_eq!(reply, Reply::Refused(Refusal::NotHolder { object: self.object, index: 0 }));
        self.holders = rule;
    }

    async fn put(&self, world: &World, number: usize, index: u8) -> Reply {
        let fragment = self.encoded.fragments[usize::from(index)].clone();
        let request = Request::Put { manifest: self.encoded.manifest.encode(), index, fragment, holders: self.holders.clone() };
        let (node, addr) = at(&world.nodes[number]);
        ask(&self.bulk, node, addr, &request, LIMIT).await.unwrap()
    }

    /// One holder is shown the proof, and shows it to the others without being asked to.
    async fn is_passed_on(&self, world: &World, number: usize) {
        let fragment = |index| self.encoded.manifest.verify(index, self.encoded.fragments[usize::from(index)].clone()).unwrap();
        let fragments: Vec<_> = (0..3).map(fragment).collect();
        let proof = Proof::find(&self.encoded.manifest, &fragments).unwrap().unwrap();
        let said = show(&self.bulk, vec![at(&world.nodes[number])], &proof).await;
        assert!(said.is_empty(), "{said:?}");
        for number in 0..5 {
            until(world, number, "a void object that another holder was told of", |status| voids(status, self.object));
        }
    }

    /// Not told of, not read, not taken again; and a proof says nothing to who holds nothing of its object.
    async fn is_kept_by_nobody(&self, world: &World, number: usize) {
        let (node, addr) = at(&world.nodes[number]);
        let located = ask(&self.bulk, node, addr, &Request::Locate { object: self.object }, LIMIT).await.unwrap();
        assert_eq!(located, Reply::Refused(Refusal::Unknown { object: self.object }));
        let mut refused = 0;
        for index in 0..5 {
            match self.put(world, number, index).await {
                Reply::Refused(Refusal::Invalid { detail }) => {
                    assert!(detail.contains("void"), "{detail}");
                    refused += 1;
                }
                Reply::Refused(Refusal::NotHolder { .. }) => {}
                reply => panic!("{reply:?}"),
            }
        }
        assert_eq!(refused, 1, "its own fragment is not taken again");
        let other = encode(b"held by nobody", Hash32::ZERO, Profile::DEVNET).unwrap();
        let mut manifest = other.manifest.encode();
        manifest[20] ^= 1;
        let manifest = ObjectManifest::decode(&manifest).unwrap();
        let fragments: Vec<_> = (0..3).map(|index| manifest.verify(index, other.fragments[usize::from(index)].clone()).unwrap()).collect();
        let proof = Proof::find(&manifest, &fragments).unwrap().unwrap();
        let said = show(&self.bulk, vec![(node, addr)], &proof).await;
        assert!(matches!(&said[..], [(_, reason)] if reason.contains("nothing of object")), "{said:?}");
    }
}

/// Fragment 0 where the rule has it, the others with the same operators in another order, which passes over more than views may differ by.
fn wish(seed: Hash32, object: BlobId, rule: &[Address], sites: &BTreeMap<Address, Site>) -> Vec<Address> {
    let (none, rules) = (BTreeSet::new(), Rules::of(Profile::DEVNET, BTreeSet::new()));
    let orders = (0..256_usize).map(|number| [0, 1 + number % 4, 1 + number / 4 % 4, 1 + number / 16 % 4, 1 + number / 64]);
    let is_refused = |holders: &Vec<Address>| {
        let view = View { sites, full: &none };
        matches!(check(seed, object, Profile::DEVNET, holders, view, &rules), Err(Misplaced::PassedOver { .. }))
    };
    // Whoever gets fragment 1 last of four has three better ones beside it.
    orders.map(|order| order.map(|place| rule[place]).to_vec()).find(is_refused).unwrap()
}

fn at(party: &super::Party) -> (NodeId, std::net::SocketAddr) {
    (party.node.parse().unwrap(), party.bulk.parse().unwrap())
}
