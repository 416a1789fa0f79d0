//! Agents by command: registered over an adapter with a split by roles, answered by any node that has the adapter, their owner paid; and what the
//! poster claims for who claims nothing by themselves.

use std::time::{Duration, Instant};

use harness::{Cluster, Setup, chain, cluster::text, files};
use serde_json::Value;
use types::{amount::Amount, split::sequential_remainder};

/// What an owner asks for, in an order of their own.
const SPLIT: &str = "agent=700,node=2800,base=1000,adapter=1000,data=4000,stakers=500";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_published_by_command_served_by_its_adapter_and_its_owner_has_a_share() {
    let _alone = harness::alone().await;
    let setup = Setup { nodes: 1, model: Some(files::tiny_model()), people: vec!["author", "broker", "client"] };
    // It settles by itself, and so does all that follows.
    let cluster = Cluster::start_on(chain::devnet_of(9, 3), setup, |config| config.settle_every_s = 1).await;
    let (author, broker, client) = (cluster.person("author"), cluster.person("broker"), cluster.person("client"));
    let (model, zeros) = (files::tiny_model(), files::adapter_of_zeros(&cluster.path("zeros")));
    let least = ["model", "publish", text(&model), "--name", "tiny", "--least-share", "600"];

    let twice = cluster.outcome(author, &[&least[..], &["--split", "node=6500,data=3000,stakers=500,data=0"]].concat()).await;
    assert!(
        twice.code == Some(2) && twice.json["error"].as_str().is_some_and(|why| why.contains("the data row is given twice")),
        "{twice}"
    );
    let published = cluster.run(author, &[&least[..], &["--split", "node=4500,base=2000,data=3000,stakers=500"]].concat()).await;
    assert_eq!(published["version"], "1@1", "{published}");
    let adapter = ["adapter", "publish", text(&zeros), "--name", "echo", "--base", "1@1"];
    let low = "node=3500,base=599,adapter=1401,data=4000,stakers=500";
    let refused = cluster.refused(author, &[&adapter[..], &["--split", low]].concat()).await;
    assert!(refused.contains("the base row is 599 basis points, the owner of 1@1 asks for at least 600"), "{refused}");
    let published =
        cluster.run(author, &[&adapter[..], &["--split", "node=3400,base=600,adapter=1500,data=4000,stakers=500"]].concat()).await;
    assert_eq!(published["version"], "2@1", "{published}");

    let card = cluster.path("guide.md");
    std::fs::write(&card, "Answers questions about the surveys.\n").expect("a description is written");
    let agent = ["agent", "publish", text(&card), "--name", "guide", "--adapter", "2@1"];
    let refused =
        cluster.refused(broker, &[&agent[..], &["--split", "node=4000,base=600,adapter=1000,data=900,agent=3500"]].concat()).await;
    assert!(refused.contains("the data row is 900 basis points, this chain asks for at least 1000"), "{refused}");
    let published = cluster.run(broker, &[&agent[..], &["--split", SPLIT]].concat()).await;
    assert_eq!((&published["version"], &published["uri"]), (&"3@1".into(), &"tributary:agent:guide".into()), "{published}");
    let again = cluster.run(broker, &[&agent[..], &["--split", SPLIT]].concat()).await;
    assert_eq!((&again["version"], &again["transactions"]), (&"3@1".into(), &Value::Array(vec![])), "nothing is paid again: {again}");
    let shown = cluster.run(broker, &["registry", "show", "guide"]).await;
    let version = &shown["versions"][0];
    assert_eq!((&shown["kind"], &version["parents"]), (&"agent".into(), &serde_json::json!(["1@1", "2@1"])), "{shown}");
    let split = serde_json::json!({"node": 2800, "agent": 700, "base": 1000, "adapter": 1000, "data": 4000, "stakers": 500});
    assert_eq!(version["split"], split, "{shown}");

    cluster.run_on_all(&["adapter", "import", text(&zeros)]).await;
    cluster.run(client, &["wallet", "deposit", "5 OPEN"]).await;
    cluster
        .all_nodes(60, "serving base, adapter and agent", |status| status["manifests"].as_array().is_some_and(|all| all.len() == 3))
        .await;
    cluster.until_final(client).await;
    let question = ["--tokens", "24", "What is gout?"];
    let ask = async |with: &str| cluster.run(client, &[&["ask", "--with", with][..], &question].concat()).await;
    let (of_adapter, of_agent) = (ask("echo").await, ask("guide").await);
    assert_eq!(of_agent["answer"], of_adapter["answer"], "an agent answers with its adapter");

    let receipt = of_agent["receipt"].as_str().expect("a receipt was kept").to_owned();
    let shown = cluster.run(client, &["receipt", "show", &receipt]).await;
    let wei = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).map(Amount).unwrap_or_else(|| panic!("no wei: {shown}"));
    let parts = shown["parts"].as_array().expect("parts");
    let part = |role: &str| {
        wei(&parts.iter().find(|row| row["role"] == role).unwrap_or_else(|| panic!("no part of {role}: {shown}"))["amount_wei"])
    };
    let divided = wei(&shown["fee_wei"]).minus(part("protocol")).expect("the fee covers it");
    let shares = sequential_remainder(divided, &[2_800, 700, 1_000, 1_000, 4_000, 500]).expect("shares");
    assert_eq!(["node", "agent", "base model", "adapter"].map(part), [shares[0], shares[1], shares[2], shares[3]], "{shown}");
    let verified = cluster.run(client, &["receipt", "verify", &receipt]).await;
    assert_eq!(verified["is_ok"], true, "{verified}");
    let adapters = of_adapter["receipt"].as_str().expect("a receipt was kept");
    let both = [shown, cluster.run(client, &["receipt", "show", adapters]).await];
    nobody_claims_for_themselves_and_all_is_there(&cluster, &both).await;
    drop(cluster.stop().await);
}

/// The vault, the pool and the protocol have their parts of the receipts without a command: the poster claimed them.
async fn nobody_claims_for_themselves_and_all_is_there(cluster: &Cluster, receipts: &[Value]) {
    let deployment = cluster.devnet.deployment();
    let deadline = Instant::now() + Duration::from_secs(90);
    for (account, role) in [(deployment.rewards, "stakers"), (deployment.insurance, "insurance"), (deployment.config.protocol, "protocol")]
    {
        let parts = receipts.iter().flat_map(|shown| shown["parts"].as_array().expect("parts")).filter(|row| row["role"] == role);
        let wei = |row: &Value| Amount(row["amount_wei"].as_str().and_then(|text| text.parse().ok()).expect("wei"));
        let due = Amount::sum(parts.map(wei)).expect("a sum");
        assert!(due > Amount::ZERO, "{role} has parts: {receipts:?}");
        loop {
            let claimed = cluster.chain.claimed_of(account).await.expect("the chain answers");
            assert!(claimed <= due, "{role} was paid {claimed}, the receipts give it {due}");
            if claimed == due {
                break;
            }
            assert!(Instant::now() < deadline, "{role} has {claimed} of {due}; the poster says:\n{}", cluster.nodes[0].log_text());
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    let pool = cluster.chain.balance(deployment.insurance).await.expect("the chain answers");
    assert_eq!(
        pool,
        cluster.chain.claimed_of(deployment.insurance).await.expect("the chain answers"),
        "the pool holds what was claimed for it"
    );
    let own = cluster.chain.claimed_of(cluster.nodes[0].account).await.expect("the chain answers");
    assert_eq!(own, Amount::ZERO, "the poster claims its own part when its operator says so");
    let (received, claimed) = cluster.chain.settled_totals().await.expect("the chain answers");
    let left = cluster.chain.balance(deployment.settlement).await.expect("the chain answers");
    assert_eq!(received.minus(claimed).expect("no more is claimed than came in"), left);
    cluster.say("the stakers' vault, the insurance pool and the protocol were paid without a command");
}
