//! What audits do to nodes that lost what they hold: one whose disk has rotted fails, is asked on the chain, mends itself and answers; one that fails and stays silent loses stake.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use harness::{Cluster, cluster::text};
use serde_json::Value;

use super::{Object, running, status, until};
use crate::storage::damage::rot;

/// A bit of a fragment rots on two disks: both nodes fail their next audit. The first is asked on the chain and answers; the second is dead when it is asked, and falls.
pub(super) async fn rot_is_found_mended_and_asked_for_on_the_chain(cluster: &mut Cluster, dying: &[usize], objects: &[Object]) {
    let (asked, silent) = victims(cluster, dying, objects);
    passed(cluster, asked).await;
    passed(cluster, silent).await;
    for (number, object) in [(asked, &objects[0]), (silent, &objects[1])] {
        let fragment = rot(&cluster.nodes[number].folder.join("store"), &object.id);
        cluster.say(&format!("a bit of fragment {fragment} has rotted on node {number}"));
    }
    let mut evidence = BTreeMap::new();
    for number in [silent, asked] {
        evidence.insert(number, convicting(cluster, number).await);
        if number == silent {
            cluster.nodes[number].kill().await;
        }
    }
    cluster.say(&format!("two of three auditors failed {asked} and {silent}, and {silent} was killed"));
    let mut cases = BTreeMap::new();
    for (number, (auditor, path)) in &evidence {
        let printed = cluster.run(&cluster.nodes[*auditor], &["audit", "case", "open", text(path)]).await;
        assert_eq!(printed["case"]["node"], cluster.nodes[*number].account.to_string(), "{printed}");
        assert!(printed["case"]["deadline"].as_u64().is_some() && printed["bond_wei"].as_str().is_some(), "{printed}");
        cases.insert(*number, printed["case"]["id"].as_str().expect("an id").to_owned());
    }
    it_answers(cluster, asked, evidence[&asked].0).await;
    it_falls(cluster, silent, evidence[&silent].0, &cases[&silent]).await;
    everything_is_intact(cluster).await;
}

/// A holder of each object that runs and was not killed before; nobody twice, and not the one that everybody was told of.
fn victims(cluster: &Cluster, dying: &[usize], objects: &[Object]) -> (usize, usize) {
    let of = |object: &Object, but: usize| {
        let mut live = running(cluster).into_iter();
        live.find(|number| object.holders.contains(number) && ![0, but].contains(number) && !dying.contains(number))
    };
    let first = of(&objects[0], 0).expect("three of its five holders were left");
    (first, of(&objects[1], first).expect("three of its five holders were left"))
}

async fn passed(cluster: &Cluster, number: usize) {
    until("a passed audit", || async {
        let status = status(cluster, number).await.ok_or("the node does not answer")?;
        let has_passed = status["audits"].as_array().is_some_and(|audits| audits.iter().any(|audit| audit["outcome"] == "passed"));
        if !has_passed {
            return Err(status["audits"].to_string());
        }
        // What it grants others, and whom that catches.
        let pace = &status["pace"];
        let micros = |name: &str| pace[name].as_u64().unwrap_or_default();
        assert!(micros("read_us") >= 5_000 && micros("caught_from_us") >= 36_554 && micros("caught_from_if_plain_us") >= 11_554, "{pace}");
        Ok(())
    })
    .await;
}

/// The auditor that keeps evidence of a node's failed audit, and the file.
async fn convicting(cluster: &Cluster, number: usize) -> (usize, PathBuf) {
    let end = format!("-{}.json", cluster.nodes[number].account);
    until("evidence of a failed audit", || async {
        for (auditor, node) in cluster.nodes.iter().enumerate().filter(|(_, node)| node.is_running()) {
            for entry in std::fs::read_dir(node.folder.join("evidence")).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.to_str().is_some_and(|path| path.ends_with(&end)) && tells(&path) {
                    return Ok((auditor, path));
                }
            }
        }
        Err("no auditor keeps any".to_owned())
    })
    .await
}

/// Whether a file of evidence says what the node did not show.
fn tells(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str::<Value>(&text).is_ok_and(|evidence| evidence["unshown"]["range"].is_u64())
}

async fn cases_against(cluster: &Cluster, by: usize, number: usize) -> Vec<Value> {
    let account = cluster.nodes[number].account.to_string();
    let listed = cluster.run(&cluster.nodes[by], &["audit", "case", "list", "--node", &account]).await;
    listed.as_array().expect("a list").clone()
}

async fn slashable(cluster: &Cluster, number: usize) -> u128 {
    let status = cluster.run(&cluster.nodes[number], &["stake", "status"]).await;
    status["slashable_wei"].as_str().and_then(|wei| wei.parse().ok()).unwrap_or_else(|| panic!("{status}"))
}

/// It mends its disk and answers: its stake is whole, and its opener is given back what the answer left of the bond.
async fn it_answers(cluster: &Cluster, number: usize, opener: usize) {
    let stake = slashable(cluster, number).await;
    until("an answered case", || async {
        let open = cases_against(cluster, opener, number).await;
        // The chain knows it before whoever sent it has heard so.
        let log = cluster.nodes[number].log_text();
        let is_told = log.contains("a slash case against this node is answered");
        if open.is_empty() && is_told { Ok(()) } else { Err(format!("{open:?}, told by the node: {is_told}")) }
    })
    .await;
    assert_eq!(slashable(cluster, number).await, stake, "an answer costs no stake");
    let kept = cluster.run(&cluster.nodes[opener], &["claim", "--kept"]).await;
    assert!(kept.to_string().contains("slash cases"), "the rest of the bond is the opener's: {kept}");
    cluster.say(&format!("{number} has mended its disk and answered on the chain"));
}

/// Nobody answers for it, and who opened the case closes it: too early is refused, then it is slashed.
async fn it_falls(cluster: &Cluster, number: usize, opener: usize, id: &str) {
    let stake = slashable(cluster, number).await;
    let rehearsed = cluster.outcome(&cluster.nodes[opener], &["audit", "case", "close", id, "--dry-run"]).await;
    let is_over = cases_against(cluster, opener, number).await[0]["is_over"] == true;
    assert!(is_over || rehearsed.code != Some(0), "it was closed before its deadline: {:?}", rehearsed.json);
    until("a deadline that has passed", || async {
        let open = cases_against(cluster, opener, number).await;
        if open.iter().all(|case| case["is_over"] == true) { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    let printed = cluster.run(&cluster.nodes[opener], &["audit", "case", "close", id]).await;
    let after = slashable(cluster, number).await;
    assert!(after < stake, "{number} had {stake} wei at stake and has {after}: {printed}");
    assert_eq!(printed["stake"]["before_wei"].as_str().and_then(|wei| wei.parse().ok()), Some(stake), "{printed}");
    assert_eq!(printed["stake"]["after_wei"].as_str().and_then(|wei| wei.parse().ok()), Some(after), "{printed}");
    let error = cluster.refused(&cluster.nodes[opener], &["audit", "case", "close", id]).await;
    assert!(error.contains("no case") && error.contains("audit case list"), "{error}");
    cluster.say(&format!("{number} did not answer and lost {} wei of its stake", stake - after));
}

async fn everything_is_intact(cluster: &Cluster) {
    let reader = cluster.join("careful", &[]).await;
    until("intact fragments", || async {
        let outcome = cluster.outcome(&reader, &["datanet", "verify", "tides"]).await;
        let damaged = outcome.json["error"].as_str().unwrap_or_default().contains("damaged");
        if damaged { Err(outcome.json["error"].to_string()) } else { Ok(()) }
    })
    .await;
    cluster.say("no holder that answers has a damaged fragment");
}
