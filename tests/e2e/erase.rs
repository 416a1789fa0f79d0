//! A contribution is erased on request, from the command to the last byte: nobody serves it, no disk has it, no index is answered under that holds it, and
//! what was signed before still verifies. The same of a private Datanet, and every way of asking wrongly.

mod asking;

use std::{os::unix::fs::MetadataExt as _, path::PathBuf, time::SystemTime};

use harness::{Cluster, Party, Setup, cluster::text, files};
use serde_json::{Value, json};

const QUESTION: &str = "What is gout?";
/// Documents of the contribution that is erased: a fragment of some kB.
const DOCUMENTS: usize = 300;
/// Bytes of each piece that disks are searched for: none stands in other bytes by chance.
const WINDOW: usize = 16;
const REASON: &str = "the surveyor withdrew consent";

/// What is asked about.
struct Named {
    base: String,
    datanet: String,
    adapter: String,
    receipt: PathBuf,
    /// What `contribute` printed of the contribution that is erased, and its file.
    contributed: Value,
    file: PathBuf,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contribution_is_erased_from_disks_and_indexes_and_its_receipts_still_verify() {
    let _alone = harness::alone().await;
    let people = vec!["author", "client"];
    let mut cluster = Cluster::start(Setup { nodes: 5, model: Some(files::tiny_model()), people }).await;
    let (named, fragments) = prepared(&cluster).await;
    asking::wrongly(&cluster).await;
    let block = erased(&cluster, &named).await;
    no_disk_has(&cluster, &fragments);
    said_by_every_command(&cluster, &named, block).await;
    answered_under_no_more(&cluster, &named).await;
    the_receipt_verifies(&cluster, &named, block).await;
    next_versions_leave_it_out(&cluster, &named).await;
    private_too(&cluster).await;
    a_restart_brings_nothing_back(&mut cluster, &fragments).await;
    cluster.stop().await;
}

fn version(printed: &Value) -> String {
    printed["version"].as_str().unwrap_or_else(|| panic!("no version was printed: {printed}")).to_owned()
}

async fn serve(cluster: &Cluster, versions: usize) {
    let is_so = |status: &Value| status["manifests"].as_array().is_some_and(|all| all.len() == versions);
    cluster.all_nodes(90, &format!("serving {versions} versions"), is_so).await;
}

async fn ask(cluster: &Cluster, with: &str) -> Value {
    cluster.run(cluster.person("client"), &["ask", "--with", with, "--tokens", "96", QUESTION]).await
}

/// The segments of a node's store, one after another, in order of name.
fn segments(node: &Party) -> Vec<u8> {
    let files = files::walk(&node.folder.join("store"), &<[u8]>::to_vec).into_iter();
    files.filter(|(path, _)| path.extension().is_some_and(|extension| extension == "seg")).flat_map(|(_, bytes)| bytes).collect()
}

fn windows(bytes: &[u8]) -> Vec<[u8; WINDOW]> {
    bytes.chunks_exact(WINDOW).map(|window| window.try_into().expect("as long")).collect()
}

/// How many windows stand in bytes, wherever.
fn held(bytes: &[u8], windows: &[[u8; WINDOW]]) -> usize {
    let wanted: std::collections::BTreeSet<&[u8]> = windows.iter().map(<[u8; WINDOW]>::as_slice).collect();
    let found: std::collections::BTreeSet<&[u8]> = bytes.windows(WINDOW).filter(|window| wanted.contains(window)).collect();
    found.len()
}

/// A base, a Datanet of two contributors, an adapter of zeros on it, an answer that draws on the second; and, of each disk, bytes of its fragment of that one.
async fn prepared(cluster: &Cluster) -> (Named, Vec<Vec<[u8; WINDOW]>>) {
    let (author, client, owner) = (cluster.person("author"), cluster.person("client"), &cluster.nodes[0]);
    let model = files::tiny_model();
    cluster.run(client, &["wallet", "deposit", "5 OPEN"]).await;
    let base = version(&cluster.run(author, &["model", "publish", text(&model), "--name", "tiny"]).await);
    serve(cluster, 1).await;
    cluster.until_final(client).await;
    let plain = ask(cluster, "tiny").await;

    cluster.run(owner, &["datanet", "create", "surveys", "--licence", "CC0-1.0"]).await;
    let kept = files::jsonl(&cluster.path("kept.jsonl"), &files::documents("harbour", 40));
    cluster.run(&cluster.nodes[2], &["datanet", "contribute", "surveys", text(&kept)]).await;
    let before: Vec<usize> = cluster.nodes.iter().map(|node| segments(node).len()).collect();
    let mut documents = files::documents("river", DOCUMENTS);
    documents.push(json!({ "id": "said", "text": plain["answer"] }));
    let file = files::jsonl(&cluster.path("river.jsonl"), &documents);
    let contributed = cluster.run(&cluster.nodes[3], &["datanet", "contribute", "surveys", text(&file)]).await;
    assert_eq!((&contributed["contribution"], contributed["holders"].as_array().map(Vec::len)), (&1.into(), Some(5)), "{contributed}");
    // A manifest of some hundred bytes and a fragment of some thousand were added, whichever came first: the middle is the fragment's.
    let fragments: Vec<_> = cluster
        .nodes
        .iter()
        .zip(&before)
        .map(|(node, before)| {
            let bytes = segments(node);
            let added = &bytes[*before..];
            windows(&added[added.len() * 2 / 5..added.len() * 3 / 5])
        })
        .collect();
    for (node, fragment) in cluster.nodes.iter().zip(&fragments) {
        assert!(fragment.len() >= 10 && held(&segments(node), fragment) == fragment.len(), "{} shows what is looked for", node.name);
    }
    let datanet = version(&cluster.run(owner, &["datanet", "publish", "surveys"]).await);
    cluster.say("a Datanet of two contributors lies on five disks");

    let zeros = files::adapter_of_zeros(&cluster.path("zeros"));
    let publish = ["adapter", "publish", text(&zeros), "--name", "echo", "--base", &base, "--datanet", &datanet];
    let adapter = version(&cluster.run(author, &publish).await);
    cluster.run_on_all(&["adapter", "import", text(&zeros)]).await;
    serve(cluster, 2).await;
    let answer = ask(cluster, "echo").await;
    let account = cluster.nodes[3].account.to_string();
    let sources = answer["sources"].as_array().expect("sources");
    assert!(!sources.is_empty() && sources.iter().all(|source| source["contributor"] == account.as_str()), "{answer}");
    cluster.say("an answer drew on the second contribution");
    let receipt = PathBuf::from(answer["receipt"].as_str().expect("a receipt"));
    (Named { base, datanet, adapter, receipt, contributed, file }, fragments)
}

/// Its contributor asks; returns the request's block.
async fn erased(cluster: &Cluster, named: &Named) -> u64 {
    let contributor = &cluster.nodes[3];
    let shard = |node: &Party| {
        let root = named.contributed["text_root"].as_str().expect("a text root").trim_start_matches("0x");
        node.folder.join("shards").join(format!("{root}.shard"))
    };
    for place in [0, 3] {
        assert!(shard(&cluster.nodes[place]).exists(), "the gate and the contributor's folder have a copy");
    }
    let dry = cluster.outcome(contributor, &["datanet", "erase", "surveys", "--contribution", "1", "--reason", REASON, "--dry-run"]).await;
    // A look at something else brings the gate's index up to the chain.
    let copy = files::jsonl(&cluster.path("copy.jsonl"), &files::documents("harbour", 3));
    let refused = cluster.refused(&cluster.nodes[2], &["datanet", "contribute", "surveys", text(&copy)]).await;
    assert!(refused.contains("duplicate"), "{refused}");
    let digests: Vec<[u8; WINDOW]> = files::documents("river", DOCUMENTS).iter().map(digest).collect();
    assert_eq!(indexed(cluster, &digests), digests.len(), "the gate's index shows what is looked for");
    let texts: Vec<[u8; WINDOW]> = files::documents("river", DOCUMENTS).iter().map(of_river).collect();
    assert!(in_segments(cluster, &texts) >= 5 * DOCUMENTS / 2, "the nodes' indexes show what is looked for");
    assert!(!shown(cluster, contributor).await["contributions"][1]["erased"].is_object(), "a dry run asks for nothing: {dry}");

    let erase = ["datanet", "erase", "surveys", "--contribution", "1", "--reason", REASON, "--wait"];
    let printed = cluster.run(contributor, &erase).await;
    assert_eq!((&printed["is_final"], &printed["erased_by"]), (&true.into(), &contributor.account.to_string().into()), "{printed}");
    let holders = printed["holders"].as_array().expect("holders");
    assert!(holders.len() == 5 && holders.iter().all(|holder| holder["word"] == "gone"), "five nodes confirm: {printed}");
    assert_eq!(printed["versions_hit"], json!([named.datanet, named.adapter]), "{printed}");
    assert!(printed["reason_salt"].is_string() && printed["reason_hash"].is_string(), "{printed}");
    for node in &cluster.nodes {
        assert!(!shard(node).exists(), "{} still has the shard", node.name);
    }
    assert_eq!(indexed(cluster, &digests), 0, "the gate's index holds digests of what its node says is gone");
    assert_eq!(in_segments(cluster, &texts), 0, "text of what is gone stands in a node's index");
    let kept: Vec<[u8; WINDOW]> = files::documents("harbour", 40).iter().map(digest).collect();
    assert_eq!(indexed(cluster, &kept), kept.len(), "and it was not made anew: nobody has contributed since");
    cluster.say("the contributor asked, and five holders confirmed");
    printed["block"].as_u64().expect("a block")
}

/// Bytes of a document that stand in none of another subject.
fn of_river(document: &Value) -> [u8; WINDOW] {
    let text = text_of(document);
    let at = text.windows(13).position(|window| window == b"marker river-").expect("a marker");
    text[at..at + WINDOW].try_into().expect("as long")
}

fn text_of(document: &Value) -> &[u8] {
    document["text"].as_str().expect("a text").as_bytes()
}

/// The first bytes of what the gate's index knows a document by.
fn digest(document: &Value) -> [u8; WINDOW] {
    types::id::BlobId::of(text_of(document)).0[..WINDOW].try_into().expect("32 bytes hold 16")
}

/// How many of these stand in files of the indexes that the nodes answer under, each counted once a file.
fn in_segments(cluster: &Cluster, wanted: &[[u8; WINDOW]]) -> usize {
    let of = |node: &Party| files::walk(&node.folder.join("attribution"), &|bytes| held(bytes, wanted)).into_values().sum::<usize>();
    cluster.nodes.iter().map(of).sum()
}

/// The files of a node's indexes, each with what tells whether it was written again.
fn index_files(node: &Party) -> Vec<(PathBuf, u64, SystemTime)> {
    let known = |path: PathBuf| {
        let known = std::fs::metadata(&path).expect("a file that was listed");
        (path, known.ino(), known.modified().expect("a time"))
    };
    files::walk(&node.folder.join("attribution"), &|_| ()).into_keys().filter(|path| !path.ends_with("turn")).map(known).collect()
}

/// How many of these stand in files of the gate's indexes.
fn indexed(cluster: &Cluster, digests: &[[u8; WINDOW]]) -> usize {
    files::walk(&cluster.nodes[0].folder.join("indexes"), &|bytes| held(bytes, digests)).into_values().sum()
}

async fn shown(cluster: &Cluster, party: &Party) -> Value {
    let mut shown = cluster.run(party, &["datanet", "show", "surveys"]).await;
    // In the order of acceptance.
    if let Some(rows) = shown["contributions"].as_array_mut() {
        rows.sort_by_key(|row| row["contribution"].as_u64());
    }
    shown
}

fn no_disk_has(cluster: &Cluster, fragments: &[Vec<[u8; WINDOW]>]) {
    let all: Vec<[u8; WINDOW]> = fragments.iter().flatten().copied().collect();
    for node in &cluster.nodes {
        for (path, found) in files::walk(&node.folder, &|bytes| held(bytes, &all)) {
            assert_eq!(found, 0, "{} holds {found} pieces of a fragment that was erased", path.display());
        }
    }
    cluster.say("no file of any node holds a piece of a fragment");
}

async fn said_by_every_command(cluster: &Cluster, named: &Named, block: u64) {
    let (owner, contributor, reader) = (&cluster.nodes[0], &cluster.nodes[3], cluster.join("reader", &[]).await);
    let at = format!("contribution 1 of Datanet {} was erased on request at block {block}", named.contributed["datanet"]);
    let told = shown(cluster, owner).await;
    assert_eq!(told["contributions"][1]["erased"]["block"], block, "{told}");
    assert!(told["contributions"][0].get("erased").is_none() && told["versions"][0]["erased"] == json!([1]), "{told}");
    let error = cluster.refused(&reader, &["datanet", "fetch", "surveys", "--contribution", "1"]).await;
    assert!(error.contains(&at), "{error}");
    let fetched = cluster.run(&reader, &["datanet", "fetch", "surveys"]).await;
    assert_eq!(fetched["contributions"].as_array().map(Vec::len), Some(1), "{fetched}");
    let out = cluster.path("exported");
    let exported = cluster.run(&reader, &["datanet", "export", "surveys", "--out", text(&out)]).await;
    assert_eq!(exported["documents"], 40, "{exported}");
    let found = cluster.run(&reader, &["datanet", "search", "surveys"]).await;
    assert_eq!(found[0]["documents"], 40, "{found}");
    let rows = cluster.run(owner, &["datanet", "verify", "surveys"]).await;
    let row = rows.as_array().expect("rows").iter().find(|row| row["contribution"] == 1).expect("its row");
    assert_eq!((&row["erased"]["confirmed"], &row["erased"]["open"]), (&5.into(), &json!([])), "{rows}");
    let registered = cluster.run(&reader, &["registry", "show", "echo"]).await;
    assert!(registered["versions"][0]["erased"][0].as_str().is_some_and(|words| words.contains(&at)), "{registered}");
    let again = cluster.refused(contributor, &["datanet", "contribute", "surveys", text(&named.file)]).await;
    assert!(again.contains(&at), "{again}");
    let twice = cluster.refused(contributor, &["datanet", "erase", "surveys", "--contribution", "1", "--reason", REASON]).await;
    assert!(twice.contains(&at) && twice.contains("--wait"), "{twice}");
    let heard = cluster.run(contributor, &["datanet", "erase", "surveys", "--contribution", "1", "--wait"]).await;
    assert_eq!((heard["holders"].as_array().map(Vec::len), &heard["transaction"]), (Some(5), &Value::Null), "{heard}");
    cluster.say("every command tells that it is erased");
}

/// The version whose index held the text is offered by nobody, in words.
async fn answered_under_no_more(cluster: &Cluster, named: &Named) {
    serve(cluster, 1).await;
    let status = cluster.run(&cluster.nodes[1], &["status"]).await;
    let waits = status["waiting"].as_array().expect("what waits");
    let told = waits.iter().filter_map(Value::as_str).any(|why| why.contains(&named.adapter) && why.contains("erased on request"));
    assert!(told, "{status}");
    let error = cluster.refused(cluster.person("client"), &["ask", "--with", "echo", "--tokens", "8", QUESTION]).await;
    assert!(!error.is_empty(), "{error}");
    cluster.say("no node answers under the index that held it");
}

async fn the_receipt_verifies(cluster: &Cluster, named: &Named, block: u64) {
    let client = cluster.person("client");
    let verified = cluster.run(client, &["receipt", "verify", text(&named.receipt)]).await;
    assert_eq!(verified["is_ok"], true, "{verified}");
    let full = cluster.run(client, &["receipt", "verify", text(&named.receipt), "--full"]).await;
    assert_eq!((&full["is_ok"], &full["is_full"]), (&true.into(), &false.into()), "{full}");
    let left = full["unchecked"].as_array().expect("what was not looked at");
    let words = format!("erased on request at block {block}");
    assert!(left.iter().filter_map(Value::as_str).any(|left| left.contains(&words)), "{full}");
    cluster.say("the receipt of before verifies, and says what cannot be searched again");
}

/// The next versions hold a tombstone in its place: five nodes and the indexer agree on the root, and nobody is paid for it.
async fn next_versions_leave_it_out(cluster: &Cluster, named: &Named) {
    let (owner, author) = (&cluster.nodes[0], cluster.person("author"));
    let again = ["registry", "publish", "echo", "--parent", &named.base, "--datanet", &named.datanet, "--least-share", "1"];
    let error = cluster.refused(author, &again).await;
    assert!(error.contains("nothing was sent") && error.contains("erased on request"), "{error}");
    let printed = cluster.run(owner, &["datanet", "publish", "surveys"]).await;
    assert_eq!((&printed["contributions"], &printed["documents"]), (&1.into(), &40.into()), "{printed}");
    let datanet = version(&printed);
    cluster.run(author, &["registry", "publish", "echo", "--parent", &named.base, "--datanet", &datanet]).await;
    serve(cluster, 2).await;
    let answer = ask(cluster, "echo").await;
    let account = cluster.nodes[3].account.to_string();
    let sources = answer["sources"].as_array().expect("sources");
    assert!(sources.iter().all(|source| source["contributor"] != account.as_str()), "{answer}");
    let registered = cluster.run(owner, &["registry", "show", "echo"]).await;
    let marks: Vec<usize> =
        registered["versions"].as_array().expect("versions").iter().map(|row| row["erased"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(marks, [1, 1], "the same weights are marked under their new number: {registered}");
    let listed = cluster.run(owner, &["adapter", "list"]).await;
    assert!(listed[0]["erased"][0].as_str().is_some_and(|words| words.contains("erased on request")), "{listed}");
    cluster.say("the next versions are served without it");
}

/// A private Datanet's owner has erased what somebody else contributed.
async fn private_too(cluster: &Cluster) {
    let (owner, contributor) = (&cluster.nodes[0], &cluster.nodes[1]);
    cluster.run(owner, &["datanet", "create", "wards", "--licence", "CC0-1.0", "--private"]).await;
    let file = files::jsonl(&cluster.path("wards.jsonl"), &files::documents("ward", 30));
    let brought = cluster.run(contributor, &["datanet", "contribute", "wards", text(&file)]).await;
    let sealed = contributor
        .folder
        .join("shards")
        .join(format!("{}.shard", brought["text_root"].as_str().expect("a text root").trim_start_matches("0x")));
    let bytes = std::fs::read(&sealed).expect("the sealed shard");
    let wanted = windows(&bytes[bytes.len() / 2..]);
    let everywhere = || cluster.nodes.iter().map(|node| held(&segments(node), &wanted)).sum::<usize>();
    assert!(everywhere() > 0, "the search finds what is there");
    let erase = ["datanet", "erase", "wards", "--contribution", "0", "--reason", REASON, "--wait"];
    let printed = cluster.run(owner, &erase).await;
    assert!(printed["is_record_told"] == true && printed["unheard"] == json!([]), "who held it is still told: {printed}");
    assert!(
        printed["holders"].as_array().is_some_and(|all| all.len() == 5 && all.iter().all(|holder| holder["word"] == "gone")),
        "{printed}"
    );
    assert_eq!(everywhere(), 0);
    assert!(!sealed.exists());
    let log = cluster.run(owner, &["datanet", "log", "wards"]).await;
    assert!(log["erased"][0].as_str().is_some_and(|words| words.contains("erased on request")), "{log}");
    cluster.say("a private contribution is erased too");
}

async fn a_restart_brings_nothing_back(cluster: &mut Cluster, fragments: &[Vec<[u8; WINDOW]>]) {
    let indexed = index_files(&cluster.nodes[4]);
    assert!(indexed.iter().any(|(path, ..)| path.extension().is_some_and(|kind| kind == "seg")), "{indexed:?}");
    cluster.stop_node(4).await;
    let log = cluster.nodes[4].log_text();
    assert!(!log.contains("Endpoint dropped without calling"), "its sockets were closed in order: {log}");
    cluster.start_node(4).await;
    cluster.all_know_each_other().await;
    no_disk_has(cluster, fragments);
    let heard = cluster.run(&cluster.nodes[3], &["datanet", "erase", "surveys", "--contribution", "1", "--wait"]).await;
    assert!(heard["holders"].as_array().is_some_and(|all| all.len() == 5), "{heard}");
    cluster.say("a node that starts again has nothing of it, and says so");
    serve(cluster, 2).await;
    assert_eq!(index_files(&cluster.nodes[4]), indexed, "a node that starts again opens its index, and builds none");
}
