//! OpenAI's own client, unmodified, before a gateway over a real node: answers are paid and receipted as those of `tributary ask`.
//!
//! At the end the node is drained. Takes about 40 s: a chain with its contracts, one node, two publications, and 98 cases with some 60 answers of the tiny model.

mod drained;

use std::time::Duration;

use harness::{
    Cluster, Setup,
    chain::root,
    cluster::text,
    files,
    gateway::{Gateway, openai_python},
};
use serde_json::Value;
use tokio::time::timeout;

/// Fewest cases: a list that shrinks is a mistake.
const CASES_MIN: usize = 98;
/// Those of them that name embeddings.
const EMBEDDINGS_MIN: usize = 9;
/// Fewest answers that they have, each with a receipt.
const RECEIPTS_MIN: usize = 30;
/// How long all of them may take.
const CASES_WAIT: Duration = Duration::from_secs(240);
/// Options beside temperature, top-k and top-p that the wire carries, by the fields of a request.
const CARRIED: &str = "min_p,repetition_penalty,presence_penalty,frequency_penalty,logit_bias,stop,logprobs,response_format";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_own_client_is_served_by_the_network() {
    let _alone = harness::alone().await;
    let cluster = Cluster::start(Setup { nodes: 1, model: Some(files::tiny_model()), people: vec!["author", "client"] }).await;
    let adapter = publish(&cluster).await;
    let client = cluster.person("client");
    let no_key = cluster.refused(client, &["gateway"]).await;
    assert!(no_key.contains("there is no API key"), "{no_key}");
    let open = cluster.refused(client, &["gateway", "--listen", "0.0.0.0:0"]).await;
    assert!(open.contains("--exposed"), "{open}");

    let generous = ["--requests", "100000", "--tokens", "10000000", "--at-once", "64"];
    let key = key(&cluster, "laptop", &generous).await;
    let admin = self::key(&cluster, "ops", &[&generous[..], &["--admin"]].concat()).await;
    let narrow = self::key(&cluster, "narrow", &["--requests", "1"]).await;
    let listed = cluster.run(client, &["gateway", "key", "list"]).await;
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
    assert!(!listed.to_string().contains(&key), "a key is shown once: {listed}");
    let twice = cluster.refused(client, &["gateway", "key", "add", "laptop"]).await;
    assert!(twice.contains("there is a key named laptop already"), "{twice}");

    let embeddings = root().join("tests/fixtures/embeddings");
    let nothing = cluster.refused(client, &["gateway", "--listen", "127.0.0.1:0", "--embeddings", text(&embeddings)]).await;
    assert!(nothing.contains("--embeddings") && nothing.contains("config.json"), "{nothing}");
    let encoder = embeddings.join("tiny-bert");
    let gateway = Gateway::start(&cluster.tributary, &client.folder, &["--embeddings", text(&encoder)]).await;
    cluster.say("a gateway serves");
    let mut python = openai_python();
    python.arg(root().join("tests/fixtures/openai/cases.py"));
    for (name, value) in [
        ("URL", gateway.url.as_str()),
        ("KEY", &key),
        ("ADMIN_KEY", &admin),
        ("NARROW_KEY", &narrow),
        ("MODEL", "tiny"),
        ("ADAPTER", "tiny:echo"),
        ("ADAPTER_PATH", &adapter),
        ("EMBEDDINGS", "tiny-bert"),
        ("VECTORS", text(&embeddings.join("vectors.json"))),
        ("CARRIED", CARRIED),
    ] {
        python.env(format!("GATEWAY_{name}"), value);
    }
    let ran = timeout(CASES_WAIT, python.output()).await.expect("the cases end in time").expect("Python runs");
    let shown = || format!("{}\n{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown()));
    let failed = told["failed"].as_object().expect("a list of failures");
    let names: Vec<&str> = told["passed"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let passed = names.len();
    for (name, why) in failed {
        eprintln!("== {name}\n{}", why.as_str().unwrap_or_default());
    }
    assert!(failed.is_empty() && ran.status.success(), "{} cases failed, see above; the gateway says:\n{}", failed.len(), tail(&gateway));
    assert!(passed >= CASES_MIN, "{passed} cases passed, there must be {CASES_MIN}");
    let embeddings = names.iter().filter(|name| name.contains("embedding")).count();
    assert!(embeddings >= EMBEDDINGS_MIN, "{embeddings} cases of embeddings passed, there must be {EMBEDDINGS_MIN}");
    cluster.say(&format!("{passed} cases of openai {} passed", told["client"]));

    every_answer_is_receipted(&cluster).await;
    let log = gateway.stop().await;
    for secret in [&key, &admin, &narrow] {
        assert!(!log.contains(secret.as_str()), "a key is in the log");
    }
    assert!(log.contains("key=\"ops\"") && log.contains("an adapter is offered"), "the log names who changed what is offered:\n{log}");
    drained::a_node_that_is_drained_begins_nothing_and_waits_for_who_is_there(&cluster).await;
    drop(cluster.stop().await);
}

/// A base and an adapter of zeros, served; the adapter's number and version.
async fn publish(cluster: &Cluster) -> String {
    let (model, zeros) = (files::tiny_model(), files::adapter_of_zeros(&cluster.path("zeros")));
    let (author, client) = (cluster.person("author"), cluster.person("client"));
    let publish = ["model", "publish", text(&model), "--name", "tiny"];
    let (base, _) = tokio::join!(cluster.run(author, &publish), cluster.run(client, &["wallet", "deposit", "50 OPEN"]));
    let base = base["version"].as_str().expect("a version").to_owned();
    let adapter = cluster.run(author, &["adapter", "publish", text(&zeros), "--name", "echo", "--base", &base]).await;
    cluster.run_on_all(&["adapter", "import", text(&zeros)]).await;
    cluster.all_nodes(60, "serving base and adapter", |status| status["manifests"].as_array().is_some_and(|all| all.len() == 2)).await;
    cluster.until_final(client).await;
    adapter["version"].as_str().expect("a version").to_owned()
}

/// A new key of the client's.
async fn key(cluster: &Cluster, name: &str, options: &[&str]) -> String {
    let made = cluster.run(cluster.person("client"), &[&["gateway", "key", "add", name], options].concat()).await;
    made["key"].as_str().unwrap_or_else(|| panic!("no key was printed: {made}")).to_owned()
}

/// Receipts lie where `ask` keeps them and stand.
async fn every_answer_is_receipted(cluster: &Cluster) {
    let client = cluster.person("client");
    let kept: Vec<_> = std::fs::read_dir(client.folder.join("receipts"))
        .expect("receipts are kept")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    assert!(kept.len() >= RECEIPTS_MIN, "{} receipts are kept", kept.len());
    for path in [&kept[0], &kept[kept.len() - 1]] {
        let verified = cluster.run(client, &["receipt", "verify", text(path)]).await;
        assert_eq!(verified["is_ok"], true, "{verified}");
    }
    cluster.say("the gateway's receipts stand");
}

/// The end of a gateway's log.
fn tail(gateway: &Gateway) -> String {
    let text = gateway.log_text();
    let lines: Vec<&str> = text.lines().rev().take(40).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
