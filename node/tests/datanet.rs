//! A Datanet's life over five real nodes, a real chain and real disks: contributed, copies refused, published, fetched with two holders down,
//! damage on a disk named, and what happens when too few holders are left; two owners publish one document, and liars claim to hold everything; near copies, as they are indexed, need no node. Over a minute, most
//! of it blocks of one second.

#![expect(clippy::unwrap_used, reason = "a test asserts by unwrapping, also in its helpers")]

#[path = "datanet/copies.rs"]
mod copies;
#[path = "datanet/flood.rs"]
mod flood;
#[path = "datanet/liar.rs"]
mod liar;
#[path = "datanet/twice.rs"]
mod twice;
#[path = "datanet/upkept.rs"]
mod upkept;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use chain_bridge::{
    client::ChainClient,
    devnet::{Devnet, DevnetConfig},
};
use node::{
    config::Config,
    datanet::exchange::{ask, read_fragment},
};
use p2p::{
    bulk::{BulkEndpoint, BulkLimits},
    identity::NodeSeed,
};
use serde_json::Value;
use storage::{
    erasure::{self, ObjectManifest, Profile},
    proto::message::{Refusal, Reply, Request},
};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::{Address, BlobId, Hash32},
};

const PASSWORD: &str = "a password of the test";

struct World {
    folder: tempfile::TempDir,
    devnet: Devnet,
    chain: ChainClient,
    nodes: Vec<Party>,
}

struct Party {
    folder: PathBuf,
    account: Address,
    node: String,
    child: Option<Child>,
    overlay: String,
    bulk: String,
}

impl Drop for Party {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn anvil() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain-bridge/contracts/node_modules/.bin/anvil");
    let bundled =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain-bridge/contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    std::env::var_os("TRIBUTARY_ANVIL").map_or_else(|| if bundled.exists() { bundled } else { installed }, PathBuf::from)
}

impl World {
    async fn start() -> Self {
        Self::start_as(|_| {}).await
    }

    async fn start_as(configured: impl Fn(&mut Config)) -> Self {
        let devnet = Devnet::start(DevnetConfig::new(anvil())).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        devnet.deployment().write(&folder.path().join("registry.json")).unwrap();
        let chain = ChainClient::connect(devnet.url(), devnet.deployment().clone(), None).await.unwrap();
        let mut world = Self { folder, devnet, chain, nodes: Vec::new() };
        for number in 0..5 {
            let mut party = world.party(&format!("node-{number}"));
            let path = party.folder.join("tributary.toml");
            let mut config = Config::load(&path).unwrap();
            configured(&mut config);
            fs::write(&path, config.to_toml().unwrap()).unwrap();
            world.devnet.fund(&[(party.account, Amount(100 * WEI_PER_OPEN))]).await.unwrap();
            world.ok(&party.folder, &["stake", "add", "20 OPEN"]);
            world.run(&mut party);
            world.nodes.push(party);
        }
        world
    }

    fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
        command.arg("--data-dir").arg(folder).arg("--registry").arg(self.folder.path().join("registry.json"));
        command.arg("--rpc").arg(self.devnet.url()).arg("--json").args(arguments);
        command.env("TRIBUTARY_PASSWORD", PASSWORD).stdin(Stdio::null());
        command
    }

    fn output(&self, folder: &Path, arguments: &[&str]) -> (bool, Value) {
        let done = self.command(folder, arguments).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        let value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{arguments:?} printed {text:?} ({error}): {}", String::from_utf8_lossy(&done.stderr)));
        (done.status.success(), value)
    }

    /// The document of a command that succeeds.
    #[track_caller]
    fn ok(&self, folder: &Path, arguments: &[&str]) -> Value {
        let (is_done, value) = self.output(folder, arguments);
        assert!(is_done, "{arguments:?}: {value}");
        value
    }

    /// The error of a command that fails.
    #[track_caller]
    fn error(&self, folder: &Path, arguments: &[&str]) -> String {
        let (is_done, value) = self.output(folder, arguments);
        assert!(!is_done, "{arguments:?} succeeded: {value}");
        value["error"].as_str().unwrap().to_owned()
    }

    /// A participant that joins through the first node.
    fn party(&self, name: &str) -> Party {
        let folder = self.folder.path().join(name);
        let mut arguments = vec!["init", "--port", "0"];
        if let Some(first) = self.nodes.first() {
            arguments.extend(["--bootstrap", &first.overlay]);
        }
        let made = self.ok(&folder, &arguments);
        let field = |name: &str| made[name].as_str().unwrap().to_owned();
        Party {
            folder,
            account: field("account").parse().unwrap(),
            node: field("node"),
            child: None,
            overlay: String::new(),
            bulk: String::new(),
        }
    }

    fn run(&self, party: &mut Party) {
        let log = fs::OpenOptions::new().create(true).append(true).open(party.folder.join("node.log")).unwrap();
        let mut command = self.command(&party.folder, &["run"]);
        let mut child = command.env("TRIBUTARY_LOG", "info").stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.ends_with("\n}\n") {
            assert!(output.read_line(&mut text).unwrap() > 0, "{}", fs::read_to_string(party.folder.join("node.log")).unwrap());
        }
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()).unwrap());
        let printed: Value = serde_json::from_str(&text).unwrap();
        party.overlay = printed["overlay"][0].as_str().unwrap().to_owned();
        party.bulk = printed["bulk"].as_str().unwrap().to_owned();
        party.child = Some(child);
    }

    fn stop(&mut self, number: usize) {
        let mut child = self.nodes[number].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn restart(&mut self, number: usize) {
        let mut party = self.nodes.remove(number);
        self.run(&mut party);
        self.nodes.insert(number, party);
    }

    fn file(&self, name: &str, lines: &[String]) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, lines.join("\n")).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Documents of about 12 kB, so that a shard of sixty is several frames long.
fn documents(range: std::ops::Range<u32>) -> Vec<String> {
    let text = |number: u32| (0..1_500).map(|word| format!("w{}", (number * 7_919 + word * 31) % 50_021)).collect::<Vec<_>>().join(" ");
    range.map(|number| format!(r#"{{"id": {number}, "title": "Term {number}", "text": "{number} {}"}}"#, text(number))).collect()
}

/// Flips a byte in the middle of every segment of a store, under the feet of the node that has it open.
fn damage(store: &Path) {
    let mut damaged = 0;
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            use std::os::unix::fs::FileExt as _;
            let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let (at, mut byte) = (file.metadata().unwrap().len() / 2, [0]);
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0, "no segment in {}", store.display());
}

/// What a node keeps for strangers: nothing that is not registered, and of what is, the fragment that is its own.
async fn holders_keep_only_what_is_theirs(world: &World, object: BlobId) {
    let bulk = BulkEndpoint::start(&NodeSeed::generate(), "127.0.0.1:0".parse().unwrap(), &[], BulkLimits::default()).await.unwrap();
    let limit = std::time::Duration::from_secs(60);
    let to = |number: usize| (world.nodes[number].node.parse().unwrap(), world.nodes[number].bulk.parse().unwrap());
    let ((first, at), (second, beside)) = (to(0), to(1));
    let Reply::Located { manifest, indices, .. } = ask(&bulk, first, at, &Request::Locate { object }, limit).await.unwrap() else {
        panic!("not located")
    };
    let [index] = indices[..] else { panic!("{indices:?}") };
    let known = ObjectManifest::decode_as(object, &manifest).unwrap();
    let fragment = read_fragment(&bulk, first, at, &known, index).await.unwrap().into_bytes();
    // Who has a record of the object goes by that.
    let put = Request::Put { manifest, index, fragment, holders: vec![] };
    assert_eq!(ask(&bulk, first, at, &put, limit).await.unwrap(), Reply::Stored { object, index }, "putting again is harmless");
    assert_eq!(ask(&bulk, second, beside, &put, limit).await.unwrap(), Reply::Refused(Refusal::NotHolder { object, index }));
    let foreign = erasure::encode(b"nobody registered this", Hash32([5; 32]), Profile::DEVNET).unwrap();
    let (object, manifest) = (foreign.manifest.id(), foreign.manifest.encode());
    let holders: Vec<_> = world.nodes.iter().map(|party| party.account).collect();
    let put = |(index, fragment)| Request::Put { manifest: manifest.clone(), index, fragment, holders: holders.clone() };
    let puts = (0..).zip(foreign.fragments).map(put);
    for put in puts.take(1) {
        assert_eq!(ask(&bulk, first, at, &put, limit).await.unwrap(), Reply::Refused(Refusal::NotHolder { object, index: 0 }));
    }
    bulk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datanet_lives_on_five_nodes() {
    let mut world = World::start().await;
    let (owner, anna, ben) = (world.nodes[0].folder.clone(), world.nodes[1].folder.clone(), world.nodes[2].folder.clone());

    let error = world.error(&owner, &["datanet", "create", "../medical", "--licence", "CC-BY-4.0"]);
    assert!(error.contains("../medical") && error.contains("lower-case letters"), "{error}");
    let made = world.ok(&owner, &["datanet", "create", "medical", "--licence", "CC-BY-4.0", "--language", "en"]);
    assert_eq!((made["asset"].as_u64(), made["name"].as_str()), (Some(1), Some("medical")));
    let error = world.error(&anna, &["datanet", "create", "medical", "--licence", "MIT"]);
    assert!(error.contains("called medical already"), "{error}");

    // A broken line is named; nothing is paid for it.
    let before = world.chain.balance(world.nodes[1].account).await.unwrap();
    let broken = world.file("broken.jsonl", &[r#"{"text": "fine"}"#.into(), r#"{"text": "#.into(), r#"{"text": " "}"#.into()]);
    let error = world.error(&anna, &["datanet", "contribute", "medical", &broken]);
    assert!(error.contains("broken.jsonl") && error.contains("line 2") && error.contains("line 3"), "{error}");
    let twice = world.file("twice.jsonl", &[documents(0..1), documents(0..1)].concat());
    let error = world.error(&anna, &["datanet", "contribute", "medical", &twice]);
    assert!(error.contains("nothing was sent") && error.contains("row 2: repeated"), "{error}");
    let error = world.error(&anna, &["datanet", "contribute", "medical", &twice, "--licence", "CC-BY-SA-4.0"]);
    assert!(error.contains("CC-BY-SA-4.0") && error.contains("CC-BY-4.0"), "{error}");
    assert_eq!(world.chain.balance(world.nodes[1].account).await.unwrap(), before, "a refused file costs nothing");

    let first = world.file("first.jsonl", &documents(0..60));
    let printed = world.ok(&anna, &["datanet", "contribute", "medical", &first]);
    assert_eq!((printed["contribution"].as_u64(), printed["documents"].as_u64()), (Some(0), Some(60)));
    let mut holders: Vec<&str> = printed["holders"].as_array().unwrap().iter().map(|placed| placed["node"].as_str().unwrap()).collect();
    holders.sort_unstable();
    let mut nodes: Vec<&str> = world.nodes.iter().map(|party| party.node.as_str()).collect();
    nodes.sort_unstable();
    assert_eq!(holders, nodes, "each of five nodes holds one fragment");
    let object = printed["object"].as_str().unwrap().to_owned();
    let holders = printed["holders"].as_array().unwrap();
    let absent = holders.iter().find(|placed| placed["node"] == world.nodes[3].node.as_str()).unwrap()["fragment"].as_u64().unwrap();

    holders_keep_only_what_is_theirs(&world, object.parse().unwrap()).await;

    // Asked again, the same contribution is found whole and nothing is paid.
    let again = world.ok(&anna, &["datanet", "contribute", "medical", &first]);
    assert_eq!((again["contribution"].as_u64(), again["transactions"].as_array().unwrap().len()), (Some(0), 0));
    let error = world.error(&ben, &["datanet", "contribute", "medical", &first]);
    assert!(error.contains(&world.nodes[1].account.to_string()), "{error}");

    // A copy is refused by row, with its first owner; without it the rest enters.
    let second = world.file("second.jsonl", &documents(58..70));
    let error = world.error(&ben, &["datanet", "contribute", "medical", &second]);
    assert!(
        error.contains("row 1: duplicate") && error.contains("row 2: duplicate") && error.contains(&world.nodes[1].account.to_string()),
        "{error}"
    );
    assert!(error.contains("leave this row out") && !error.contains("row 3"), "{error}");
    let printed = world.ok(&ben, &["datanet", "contribute", "medical", &second, "--drop-refused"]);
    assert_eq!((printed["contribution"].as_u64(), printed["documents"].as_u64()), (Some(1), Some(10)));
    assert_eq!(printed["dropped"].as_array().unwrap().iter().map(|dropped| dropped["row"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);

    let error = world.error(&ben, &["datanet", "publish", "medical"]);
    assert!(error.contains(&world.nodes[0].account.to_string()), "{error}");
    let published = world.ok(&owner, &["datanet", "publish", "medical"]);
    assert_eq!((published["version"].as_str(), published["documents"].as_u64()), (Some("1@1"), Some(70)));
    let error = world.error(&owner, &["datanet", "publish", "medical"]);
    assert!(error.contains("nothing new"), "{error}");
    let listed = world.ok(&ben, &["datanet", "list"]);
    assert_eq!((listed[0]["name"].as_str(), listed[0]["contributions"].as_u64()), (Some("medical"), Some(2)));

    twice::the_order_on_the_chain_says_whose_a_document_is(&world).await;

    // Three holders suffice: the contributor's node and another one are down.
    world.stop(1);
    world.stop(3);
    let sixth = world.party("sixth");
    let out = world.folder.path().join("out");
    let fetched = world.ok(&sixth.folder, &["datanet", "fetch", "medical", "--contribution", "0", "--out", out.to_str().unwrap()]);
    let by_holder = fetched["holders"].as_object().unwrap();
    assert_eq!(by_holder.len(), 3, "{by_holder:?}");
    assert!(by_holder.values().all(|bytes| bytes.as_u64().unwrap() > 20_000), "{by_holder:?}");
    let rows = fs::read_to_string(out.join("contribution-0.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), 60);
    assert_eq!(serde_json::from_str::<Value>(rows.lines().nth(7).unwrap()).unwrap()["title"], "Term 7");
    let again = world.ok(&sixth.folder, &["datanet", "fetch", "1", "--contribution", "0"]);
    assert!(again["holders"].as_object().unwrap().is_empty(), "what is here is not fetched again");

    // Two are left: too few, and it says so.
    world.stop(4);
    let seventh = world.party("seventh");
    let error = world.error(&seventh.folder, &["datanet", "fetch", "medical", "--contribution", "0"]);
    assert!(error.contains(&object) && error.contains("needs 3 fragments, 2 were found"), "{error}");
    assert!(!seventh.folder.join("shards").exists(), "nothing half-fetched is kept");

    // What a third one sends in their place is not what was registered.
    let liar = liar::wrong_bytes_on_the_wire_name_their_sender(&world, object.parse().unwrap(), u8::try_from(absent).unwrap()).await;

    for number in [1, 3, 4] {
        world.restart(number);
    }
    liar::enough_honest_holders_suffice(&world, &liar);
    liar.stop().await;
    let verified = world.ok(&sixth.folder, &["datanet", "verify", "medical", "--contribution", "0"]);
    assert_eq!((verified[0]["fragments"].as_object().unwrap().len(), verified[0]["shard"].as_bool()), (5, Some(true)));

    // A disk changes bytes: the holder says so rather than send them, and others give the contribution back.
    damage(&world.nodes[4].folder.join("store"));
    let error = world.error(&sixth.folder, &["datanet", "verify", "medical", "--contribution", "0"]);
    assert!(error.contains(&world.nodes[4].node) && error.contains(&object) && error.contains("damaged"), "{error}");
    let fetched = world.ok(&seventh.folder, &["datanet", "fetch", "medical", "--contribution", "0"]);
    assert!(!fetched["holders"].as_object().unwrap().contains_key(&world.nodes[4].node));

    flood::false_records_cost_a_bounded_table_and_no_read(&world, object.parse().unwrap(), world.nodes[1].account).await;
}
