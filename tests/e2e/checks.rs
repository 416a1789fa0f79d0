//! Nodes that check one another's answers: an epoch of the chain from its roots to what checkers show, between processes that share nothing else.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chain_bridge::client::checks::ORIGIN_BLOCKS;
use futures::future::join_all;
use harness::{Cluster, Setup, chain, cluster::text, files};
use node::config::Checks;
use serde_json::{Value, json};
use types::id::Address;

use super::answer::money::settle;

/// A third of W1: long enough for a beacon and some checks, however busy the machine is. What is left of it is skipped.
const THIRD_S: u64 = 240;
/// Longest wait for anything.
const WAIT: Duration = Duration::from_secs(200);
/// Every receipt is drawn, and so often that everybody else is drawn for it.
const RULE: Checks = Checks { enabled: true, rate: u32::MAX, checkers: 32, eligible_min: 1 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_check_one_anothers_open_and_checked_answers_and_agree() {
    let _alone = harness::alone().await;
    let setup = Setup { nodes: 3, model: Some(files::tiny_model()), people: vec!["author", "client"] };
    let cluster = Cluster::start_on(chain::devnet_checking(THIRD_S), setup, |config| config.checks = RULE).await;
    let client = cluster.person("client");
    let model = files::tiny_model();
    let publish = ["model", "publish", text(&model), "--name", "tiny"];
    tokio::join!(cluster.run(cluster.person("author"), &publish), cluster.run(client, &["wallet", "deposit", "5 OPEN"]));
    cluster.all_nodes(60, "serving the base", |status| status["manifests"].as_array().is_some_and(|all| !all.is_empty())).await;
    cluster.until_final(client).await;
    let asked = [&["--open"][..], &[], &["--open"], &[]];
    let asked = asked.map(|class| [&["ask", "--with", "tiny", "--tokens", "24"], class, &["What is gout?"]].concat());
    let answers = join_all(asked.iter().map(|ask| cluster.run(client, ask))).await;
    cluster.say("four answers, two of them open, two for their client and for who is drawn");

    let epoch = cluster.chain.submission_epoch().await.expect("the chain answers");
    settle(&cluster).await;
    let opened = cluster.chain.epoch(epoch).await.expect("the chain answers").opened_at;
    skip_to(&cluster, opened + THIRD_S).await;
    until("the beacon is announced", async || cluster.chain.check_beacon(epoch).await.expect("the chain answers").0.is_some()).await;
    cluster.devnet.advance_l1(ORIGIN_BLOCKS).await.expect("the L1 goes on");
    let answering: BTreeSet<Address> = answers.iter().map(answered_by).collect();
    // Who answered all of it has nothing to check.
    let checking: Vec<_> = cluster.nodes.iter().filter(|node| answering.iter().any(|other| *other != node.account)).collect();
    for node in &checking {
        let said = async || cluster.chain.checks_of(epoch, node.account).await.expect("the chain answers");
        until("what was found is sealed", async || said().await.is_some()).await;
    }
    cluster.say("everybody who was drawn sealed what it found");
    skip_to(&cluster, opened + 2 * THIRD_S).await;
    for node in &checking {
        let said = async || cluster.chain.checks_of(epoch, node.account).await.expect("the chain answers");
        until("what was found is shown", async || said().await.is_some_and(|said| said.shown.is_some())).await;
    }

    for node in checking {
        let expected = answers.iter().filter(|answer| answered_by(answer) != node.account).count();
        let of_epoch = epoch.to_string();
        // Its file is written after the chain took the root.
        let rounds = until_some("the round is on the disk", async || {
            let rounds = cluster.run(node, &["audit", "rounds", "--epoch", &of_epoch]).await;
            rounds[0]["revealed"].is_string().then_some(rounds)
        })
        .await;
        let round = &rounds[0];
        assert_eq!((&round["own"], &round["agreed"]), (&json!(expected), &json!(expected)), "{rounds:#}");
        assert_eq!((&round["found"], &round["withheld"], &round["unable"]), (&json!(0), &json!(0), &json!(0)), "{rounds:#}");
        let status = cluster.run(node, &["status"]).await;
        assert_eq!((&status["checks"]["epoch"], &status["checks"]["agreed"]), (&json!(epoch), &json!(expected)), "{status:#}");
    }
    cluster.say("all of it agrees");
    cluster.stop().await;
}

/// The account of the node that gave an answer.
fn answered_by(answer: &Value) -> Address {
    let path = answer["receipt"].as_str().unwrap_or_else(|| panic!("no receipt was kept: {answer}"));
    let bundle: Value = serde_json::from_slice(&std::fs::read(path).expect("a receipt was kept")).expect("a bundle is JSON");
    bundle["receipt"]["document"]["node"].as_str().expect("a receipt names its node").parse().expect("an address")
}

/// Moves the chain's clock to a time.
async fn skip_to(cluster: &Cluster, time: u64) {
    let now = cluster.chain.latest().await.expect("the chain answers").timestamp;
    let seconds = format!("{:#x}", time.saturating_sub(now).max(1));
    let _: Value = cluster.devnet.rpc().request("anvil_mine", json!(["0x1", seconds])).await.expect("the chain's clock moves");
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    until_some(what, async || is_so().await.then_some(())).await;
}

async fn until_some<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", WAIT.as_secs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
