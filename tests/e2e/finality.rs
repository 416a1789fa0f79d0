//! A chain that changes what was final: nodes and commands notice, over restarts too, and move no money until a person has looked.

use std::time::{Duration, Instant};

use harness::{Cluster, cluster::Setup};
use node::{data::DataDir, finalized::LastFinal};
use serde_json::{Value, json};
use types::time::BlockRef;

/// How long a node may take to keep or notice something: it looks twice a second.
const NOTICED: Duration = Duration::from_secs(60);

async fn ask(cluster: &Cluster, method: &'static str, params: Value) {
    let _: Value = cluster.chain.rpc().request(method, params).await.expect("the chain does it");
}

/// Waits until the folder of a node knows a finalized block as late as the chain's; returns it.
async fn kept(cluster: &Cluster, number: u64) -> BlockRef {
    let folder = DataDir::new(&cluster.nodes[0].folder);
    let kept = LastFinal::of(&folder, cluster.devnet.deployment());
    let deadline = Instant::now() + NOTICED;
    loop {
        if let Some(block) = kept.read().expect("the file is whole").filter(|block| block.number >= number) {
            return block;
        }
        assert!(Instant::now() < deadline, "the node did not keep finalized block {number}: {:?}", kept.read());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_finalized_block_stops_all_money_until_a_person_accepts_it() {
    let mut cluster = Cluster::start(Setup { nodes: 1, model: None, people: vec!["somebody"] }).await;
    // Stake and contracts are deep below what is replaced.
    ask(&cluster, "anvil_mine", json!(["0x18"])).await;
    let heads = cluster.chain.heads().await.expect("the chain answers");
    kept(&cluster, heads.finalized.number).await;
    cluster.run(cluster.person("somebody"), &["wallet", "deposit", "1 OPEN"]).await;
    cluster.run(cluster.person("somebody"), &["wallet", "show"]).await;

    let heads = cluster.chain.heads().await.expect("the chain answers");
    ask(&cluster, "anvil_reorg", json!([heads.latest.number - heads.finalized.number + 6, []])).await;
    let is_alarmed = |status: &Value| status["waiting"][0].as_str().is_some_and(|why| why.starts_with("ALARM"));
    let status = cluster.wait_status(&cluster.nodes[0], 20, "the alarm", is_alarmed).await;
    cluster.say("the node runs on, and says that a finalized block changed");
    let pid = cluster.nodes[0].addresses.as_ref().map(|addresses| u64::from(addresses.pid));
    assert_eq!(status["addresses"]["pid"].as_u64(), pid, "the same process");
    assert!(cluster.nodes[0].log_text().contains("ALARM: finalized block"), "the log says so too");

    nothing_moves(&cluster).await;
    cluster.stop_node(0).await;
    cluster.start_node(0).await;
    let status = cluster.wait_status(&cluster.nodes[0], 20, "the alarm", is_alarmed).await;
    nothing_moves(&cluster).await;
    cluster.say("nothing moves, after a restart neither");

    let new = status["alarm"]["now"]["hash"].as_str().expect("the alarm names the block").to_owned();
    let old = status["alarm"]["was"]["hash"].as_str().expect("the alarm names the block").to_owned();
    let running = cluster.refused(&cluster.nodes[0], &["chain", "accept-finalized", &new]).await;
    assert!(running.contains("in use by another tributary process"), "{running}");
    cluster.stop_node(0).await;
    let wrong = cluster.refused(&cluster.nodes[0], &["chain", "accept-finalized", &old]).await;
    assert!(wrong.contains(&new) && wrong.contains("nothing was changed"), "{wrong}");
    let accepted = cluster.run(&cluster.nodes[0], &["chain", "accept-finalized", &new]).await;
    assert_eq!(accepted["was"]["hash"], old);
    let again = cluster.refused(&cluster.nodes[0], &["chain", "accept-finalized", &new]).await;
    assert!(again.contains("nothing was changed"), "{again}");
    cluster.start_node(0).await;
    let status = cluster.run(&cluster.nodes[0], &["status"]).await;
    assert!(status["alarm"].is_null() && !is_alarmed(&status), "{status}");
    let settled = cluster.run(&cluster.nodes[0], &["settle"]).await;
    cluster.say(&format!("accepted: the node settles again: {settled}"));

    let somebody = cluster.person("somebody");
    let alarm = cluster.refused(somebody, &["wallet", "show"]).await;
    let hash = alarm.split("accept-finalized ").nth(1).and_then(|rest| rest.get(..66)).expect("the alarm names the command");
    cluster.run(somebody, &["chain", "accept-finalized", hash]).await;
    cluster.run(somebody, &["wallet", "deposit", "1 OPEN"]).await;
    cluster.stop().await;
}

/// Every command about money is refused with the alarm, and no account sends anything.
async fn nothing_moves(cluster: &Cluster) {
    let (node, somebody) = (&cluster.nodes[0], cluster.person("somebody"));
    let sent = async || {
        let rpc = cluster.chain.rpc();
        let of = async |account| rpc.nonce(account, true).await.expect("the chain answers");
        (of(node.account).await, of(somebody.account).await)
    };
    let before = sent().await;
    let commands = [
        &["wallet", "deposit", "1 OPEN"][..],
        &["wallet", "withdraw", "0.5 OPEN"],
        &["wallet", "show"],
        &["stake", "add", "20 OPEN"],
        &["claim"],
        &["epoch", "show"],
    ];
    for party in [node, somebody] {
        for command in commands {
            let refusal = cluster.refused(party, command).await;
            assert!(refusal.contains("ALARM: finalized block") && refusal.contains("accept-finalized 0x"), "{command:?}: {refusal}");
        }
    }
    let refusal = cluster.refused(node, &["settle"]).await;
    assert!(refusal.contains("ALARM: finalized block"), "{refusal}");
    assert_eq!(sent().await, before, "no transaction left");
}
