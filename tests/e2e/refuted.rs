//! A bonded indexer posts a root under which he is paid for another's text. Nobody answers under it; somebody who has his index files and the texts finds the
//! row, proves it, and takes his stake; and a next version, whose root is right, is served.
//!
//! The lie is made with the program's own builder, of books in which one contributor is another, and posted with the indexer's key. Until the root is on the
//! chain no node has the adapter, so none of the honest ones comes before him.

use std::{path::PathBuf, time::Duration};

use chain_bridge::{client::ChainClient, follow::Follower, registry::state::Accepted};
use harness::{Cluster, Party, Setup, cluster::text, files};
use node::{
    config::Attribution,
    data::DataDir,
    datanet,
    service::index::{
        plan::Plan,
        store::{Indexes, go_on},
    },
};
use serde_json::{Value, json};
use types::id::{AssetId, AssetVersion, Hash32};

const DOCUMENTS: usize = 20;
/// Longest wait for what a follower of the chain is to see.
const SEEN_WAIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_indexer_who_has_himself_paid_for_anothers_text_loses_stake_by_his_own_files() {
    let _alone = harness::alone().await;
    let people = vec!["author", "auditor"];
    let cluster = Cluster::start(Setup { nodes: 5, model: Some(files::tiny_model()), people }).await;
    let (author, auditor, liar) = (cluster.person("author"), cluster.person("auditor"), &cluster.nodes[1]);
    let (base, datanet) = published(&cluster).await;
    let zeros = files::adapter_of_zeros(&cluster.path("zeros"));
    let publish = ["adapter", "publish", text(&zeros), "--name", "echo", "--base", &base, "--datanet", &datanet];
    let answering = version(&cluster.run(author, &publish).await);

    for (name, words) in
        [("nothing", "no base, adapter or agent is called \"nothing\""), (&answering, "no index root was posted for version")]
    {
        let error = cluster.refused(auditor, &["audit", "index", name]).await;
        assert!(error.contains(words), "{error}");
    }
    cluster.run(auditor, &["datanet", "fetch", "surveys"]).await;
    let (files, root) = posted_falsely(&cluster, liar, (&datanet, &answering)).await;
    cluster.run_on_all(&["adapter", "import", text(&zeros)]).await;
    all_wait(&cluster, &answering, "rebuilt from the contributions it is").await;
    cluster.say("a false root stands on the chain, and no node answers under it");

    found_and_proven(&cluster, &answering, &files, &root).await;
    all_wait(&cluster, &answering, "was refuted in block").await;
    cluster.say("every node knows that the root was refuted");

    let again = cluster.run(auditor, &["audit", "index", &answering, "--from", text(&files)]).await;
    assert_eq!((&again["transactions"], again["refuted_in_block"].is_u64()), (&json!([]), true), "one proof is enough: {again}");
    // What is published already is not published again: this version says something else than the one before.
    let next = ["registry", "publish", "echo", "--parent", &base, "--datanet", &datanet, "--least-share", "1"];
    assert_ne!(version(&cluster.run(author, &next).await), answering, "a version of its own");
    serve(&cluster, 2).await;
    let right = cluster.run(auditor, &["audit", "index", "echo"]).await;
    assert_eq!((&right["is_equal"], &right["rebuilt"]), (&true.into(), &again["rebuilt"]), "{right}");
    assert_ne!(right["version"], again["version"], "{right}");
    cluster.say("the next version has a right root, and every node serves it");
    cluster.stop().await;
}

fn version(printed: &Value) -> String {
    printed["version"].as_str().unwrap_or_else(|| panic!("no version was printed: {printed}")).to_owned()
}

async fn serve(cluster: &Cluster, versions: usize) {
    let is_so = |status: &Value| status["manifests"].as_array().is_some_and(|all| all.len() == versions);
    cluster.all_nodes(90, &format!("serving {versions} versions"), is_so).await;
}

/// Waits until every node says of a version why it is not served.
async fn all_wait(cluster: &Cluster, of: &str, why: &str) {
    let is_told = |status: &Value| {
        let waiting = status["waiting"].as_array().into_iter().flatten().filter_map(Value::as_str);
        waiting.into_iter().any(|line| line.contains(of) && line.contains(why))
    };
    cluster.all_nodes(90, why, is_told).await;
    for node in &cluster.nodes {
        let status = cluster.run(node, &["status"]).await;
        assert_eq!(status["manifests"].as_array().map(Vec::len), Some(1), "the base alone is served: {status}");
    }
}

/// A base, and a Datanet to which nodes 2 and 3 contributed.
async fn published(cluster: &Cluster) -> (String, String) {
    let model = files::tiny_model();
    let base = version(&cluster.run(cluster.person("author"), &["model", "publish", text(&model), "--name", "tiny"]).await);
    serve(cluster, 1).await;
    let owner = &cluster.nodes[0];
    cluster.run(owner, &["datanet", "create", "surveys", "--licence", "CC0-1.0"]).await;
    for (node, subject) in [(2, "river"), (3, "harbour")] {
        let file = files::jsonl(&cluster.path(&format!("{subject}.jsonl")), &files::documents(subject, DOCUMENTS));
        cluster.run(&cluster.nodes[node], &["datanet", "contribute", "surveys", text(&file)]).await;
    }
    let datanet = version(&cluster.run(owner, &["datanet", "publish", "surveys"]).await);
    cluster.say("a base and a Datanet of two contributors are published");
    (base, datanet)
}

/// ASSET@VERSION.
fn parsed(text: &str) -> AssetVersion {
    let (asset, version) = text.split_once('@').expect("an asset and a version");
    AssetVersion { asset: AssetId(asset.parse().expect("a number")), version: version.parse().expect("a number") }
}

/// Builds the index in which the liar is paid for what node 2 contributed, in a folder of its own, and posts its root; that folder and the root.
async fn posted_falsely(cluster: &Cluster, liar: &Party, (datanet, answering): (&str, &str)) -> (PathBuf, Hash32) {
    let [datanet, answering] = [datanet, answering].map(parsed);
    let client = ChainClient::connect(cluster.devnet.url(), cluster.devnet.deployment().clone(), Some(liar.key())).await;
    let client = client.expect("the chain answers");
    let follower = Follower::start(client.clone(), cluster.devnet.deployment().block, Duration::from_millis(100));
    let seen = follower.wait_for(SEEN_WAIT, |seen| seen.latest.version(answering).is_some()).await.expect("the chain is followed");
    let contributions: Vec<Accepted> = seen.latest.contributions_of(datanet).cloned().collect();
    follower.stop().await;

    let robbed = cluster.nodes[2].account;
    assert!(contributions.iter().any(|accepted| accepted.contributor == robbed), "{contributions:?}");
    let falsely = contributions.iter().map(|accepted| {
        let contributor = if accepted.contributor == robbed { liar.account } else { accepted.contributor };
        Accepted { contributor, ..accepted.clone() }
    });
    let (plan, texts) = (Plan::new(datanet, falsely, []), DataDir::new(&cluster.person("auditor").folder));
    let folder = cluster.path("published-by-the-indexer");
    std::fs::create_dir(&folder).expect("a folder is made");
    let indexes = Indexes::of(&DataDir::new(&folder), &Attribution::default());
    let mut text_of = |accepted: &Accepted| Ok(datanet::local(&texts, accepted)?.expect("it was fetched"));
    indexes.open(&plan, &mut text_of, &mut go_on).expect("an index is built");
    let root = indexes.rows_of(&plan).expect("its files").expect("they are whole").expect("they are there");
    client.post_index_root(answering, root, 1).await.expect("a bonded indexer may post a root");
    (folder.join("attribution"), root)
}

/// What somebody who runs no node makes of the root: nothing without evidence, nothing from files of another root, a proof from the indexer's own.
async fn found_and_proven(cluster: &Cluster, answering: &str, files: &std::path::Path, root: &Hash32) {
    let (auditor, liar) = (cluster.person("auditor"), &cluster.nodes[1]);
    let compared = cluster.run(auditor, &["audit", "index", answering]).await;
    assert_eq!((&compared["root"], &compared["is_equal"]), (&root.to_string().into(), &false.into()), "{compared}");
    assert_eq!((&compared["faults"], &compared["difference"]), (&json!([]), &Value::Null), "nobody shows a leaf: {compared}");

    // The right index, which the comparison has built here.
    let own = auditor.folder.join("attribution");
    let error = cluster.refused(auditor, &["audit", "index", answering, "--from", text(&own)]).await;
    assert!(["nothing is proven from them", "Each is as the texts give it", ".seg"].iter().all(|words| error.contains(words)), "{error}");

    let from = ["audit", "index", answering, "--from", text(files)];
    let before = cluster.chain.stake_of(liar.account).await.expect("the chain answers");
    let dry = cluster.run(auditor, &[&from[..], &["--dry-run"]].concat()).await;
    assert_eq!((&dry["is_provable"], &dry["refuted_in_block"]), (&true.into(), &Value::Null), "{dry}");
    assert_eq!((&dry["faults"][0]["fault"], &dry["faults"][0]["mode"]), (&"X5".into(), &6.into()), "{dry}");
    assert!(dry["difference"].as_str().is_some_and(|text| text.starts_with("row ")), "{dry}");
    assert_eq!(cluster.chain.stake_of(liar.account).await.expect("the chain answers"), before, "a dry run costs nobody anything");

    let proven = cluster.run(auditor, &from).await;
    let after = cluster.chain.stake_of(liar.account).await.expect("the chain answers");
    assert!(after < before && proven["refuted_in_block"].is_u64(), "{before} {after} {proven}");
    assert_eq!(
        (&proven["slash"]["stake_before_wei"], &proven["slash"]["stake_after_wei"]),
        (&before.to_string().into(), &after.to_string().into()),
        "{proven}"
    );
    assert!(proven["files"].as_array().is_some_and(|files| files.len() == 1), "{proven}");
    cluster.say("the indexer's own files convicted him");
}
