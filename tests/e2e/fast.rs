//! Answers in the profile `fast` from end to end: two nodes that serve it, a client that asks for it, and the one node that holds the other's receipt to its
//! activations; and both receipts in their nodes' logs ([`super::log`]).
//!
//! Takes about half a minute, most of it the chain's: no node computes for more than a second.

use harness::{Cluster, Setup, Tributary, chain, cluster::text, files};
use node::config::Computed;
use serde_json::Value;
use types::id::Address;

use super::log;

const QUESTIONS: [&str; 2] = ["What is gout?", "Who are you?"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_answer_is_paid_and_another_node_holds_it_to_its_activations() {
    let _alone = harness::alone().await;
    let setup = Setup { nodes: 2, model: Some(files::tiny_model()), people: vec!["author", "client"] };
    let cluster = Cluster::start_on(chain::devnet(), setup, |config| config.profile = Computed::Fast).await;
    let (author, client, model) = (cluster.person("author"), cluster.person("client"), files::tiny_model());
    let publish = ["model", "publish", text(&model), "--name", "tiny"];
    tokio::join!(cluster.run(author, &publish), cluster.run(client, &["wallet", "deposit", "5 OPEN"]));
    cluster.all_nodes(60, "serving the base", |status| status["manifests"].as_array().is_some_and(|all| all.len() == 1)).await;
    cluster.until_final(client).await;

    let mut bundles = Vec::new();
    for question in QUESTIONS {
        let asked = ["ask", "--with", "tiny", "--profile", "fast", "--tokens", "80", question];
        let answer = cluster.run(client, &asked).await;
        let path = answer["receipt"].as_str().unwrap_or_else(|| panic!("no receipt was kept: {answer}")).to_owned();
        let verified = cluster.run(client, &["receipt", "verify", &path]).await;
        assert_eq!(verified["is_ok"], true, "{verified}");
        let bundle: Value = serde_json::from_slice(&std::fs::read(&path).expect("a bundle")).expect("JSON");
        assert_eq!(bundle["receipt"]["document"]["profile"], "fast", "{bundle}");
        assert!(bundle["fingerprints"].as_array().is_some_and(|all| !all.is_empty()), "{bundle}");
        bundles.push((path, bundle));
    }
    cluster.say("two answers in fast are receipted and stand");

    for (at, (path, bundle)) in bundles.iter().enumerate() {
        let account: Address = bundle["receipt"]["document"]["node"].as_str().and_then(|text| text.parse().ok()).expect("an account");
        let answered = cluster.nodes.iter().position(|node| node.account == account).expect("one of the two");
        let (asker, checker) = (&cluster.nodes[answered], cluster.nodes[1 - answered].node.to_string());
        let found = cluster.run(asker, &["audit", "check", path, "--node", &checker]).await;
        assert_eq!((&found["finding"], &found["profile"]), (&"agrees".into(), &"fast".into()), "{found}");
        // What the other answer's activations were: its words are not these.
        let mut false_one = bundle.clone();
        false_one["fingerprints"][0] = bundles[1 - at].1["fingerprints"][0].clone();
        let altered = cluster.path(&format!("altered-{at}.json"));
        std::fs::write(&altered, false_one.to_string()).expect("a bundle is written");
        let found = cluster.run(asker, &["audit", "check", text(&altered), "--node", &checker]).await;
        assert_eq!((&found["finding"], &found["position"]), (&"activations".into(), &0.into()), "{found}");
    }
    cluster.say("the other node found them near, and those of another answer far");

    // Nobody serves it: that is known once ads are, and not when the longest wait for ads is over.
    let refused = cluster.refused(client, &["ask", "--with", "tiny", "--tokens", "8", QUESTIONS[0]]).await;
    let words = ["no registered node offers this in the profile exact", "it is offered in fast: ask with --profile fast", "waited 1000 ms"];
    assert!(words.iter().all(|words| refused.contains(words)), "{refused}");
    let proved = log::each_receipt_is_in_its_nodes_log(&cluster, &bundles).await;
    let client = client.folder.clone();
    let _folder = cluster.stop().await;
    log::proofs_stand_without_network(&Tributary::find(), &client, &proved).await;
}
