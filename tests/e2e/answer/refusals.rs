//! Questions that cannot be answered: each is refused in words, no receipt is signed and no deposit moves.

use std::path::PathBuf;

use harness::{Cluster, Party, cluster::text, files};
use serde_json::Value;

use super::{Assets, QUESTIONS, serve, version};
use crate::discovery;

/// Everything below, and that nothing was charged by it.
pub(super) async fn nothing_is_charged(cluster: &Cluster, assets: &Assets) {
    let client = cluster.person("client");
    let (receipts, wallet) = (receipts_of(cluster).await, cluster.run(client, &["wallet", "show"]).await);
    publish_unfit(cluster, assets).await;
    let stranger = discovery::stranger(cluster).await;
    let tries = [
        unknown_adapter(cluster, client).await,
        refused(cluster, client, &["--with", "tiny", &"How long is this prompt? ".repeat(100)], &["at most 512", "shorten it"]).await,
        refused(cluster, client, &["--with", "foreign", QUESTIONS[0]], &["trained on base", "use the adapter with its own base"]).await,
        refused(cluster, client, &["--with", "misshapen", QUESTIONS[0]], &["has shape", "expected"]).await,
        refused(cluster, client, &["--with", "tiny", "--limit", "5", QUESTIONS[0]], &["spending limit"]).await,
        refused(cluster, client, &["--with", "tiny", "--rate-in", "5", QUESTIONS[0]], &["input rate"]).await,
        refused(
            cluster,
            client,
            &["--with", "tiny", "--bootstrap", &stranger.bootstrap(), QUESTIONS[0]],
            &["no registered node", "--bootstrap"],
        )
        .await,
        refused(cluster, cluster.person("auditor"), &["--with", "tiny", QUESTIONS[0]], &["deposit"]).await,
    ];
    for (question, error) in &tries {
        println!("    {question}\n      {error}");
    }
    assert_eq!(receipts_of(cluster).await, receipts, "no receipt was signed");
    let after = cluster.run(client, &["wallet", "show"]).await;
    assert_eq!((&wallet["escrow"], &wallet["balance_wei"]), (&after["escrow"], &after["balance_wei"]), "nothing was paid");
    cluster.say(&format!("{} questions that cannot be answered were refused in words and cost nothing", tries.len()));
}

async fn refused(cluster: &Cluster, who: &Party, arguments: &[&str], words: &[&str]) -> (String, String) {
    let error = cluster.refused(who, &[&["ask"], arguments].concat()).await;
    let shown: String = arguments.join(" ").chars().take(80).collect();
    for word in words {
        assert!(error.contains(word), "`ask {shown}` was refused without {word:?}: {error}");
    }
    (shown, error)
}

/// Not even the folder changes: no nonce is spent on a name that nobody has.
async fn unknown_adapter(cluster: &Cluster, client: &Party) -> (String, String) {
    let before = files::listing(&client.folder);
    let outcome =
        refused(cluster, client, &["--with", "nobody", QUESTIONS[0]], &["no base, adapter or agent is called \"nobody\"", "tiny", "echo"])
            .await;
    assert_eq!(files::listing(&client.folder), before, "nothing is written");
    outcome
}

/// Receipts that all nodes have signed so far.
async fn receipts_of(cluster: &Cluster) -> u64 {
    let all = cluster.run_on_all(&["status"]).await;
    all.iter().map(|status| status["receipts"].as_u64().expect("a count")).sum()
}

/// Two adapters that no engine of these nodes can apply, registered and brought to every node all the same.
async fn publish_unfit(cluster: &Cluster, assets: &Assets) {
    let foreign = files::adapter(&cluster.path("foreign"), |settings, _, _| settings["tributary_base"] = "ab".repeat(32).into());
    let misshapen = files::adapter(&cluster.path("misshapen"), |_, header, _| {
        let tensors = header.as_object_mut().expect("an object of tensors");
        let (_, tensor) = tensors.iter_mut().find(|(name, _)| name.contains("q_proj.lora_A")).expect("a query matrix");
        tensor["shape"] = serde_json::json!([2, 32]);
    });
    let publish = async |folder: &PathBuf, name: &str| -> Value {
        let arguments = ["adapter", "publish", text(folder), "--name", name, "--base", &assets.base, "--datanet", &assets.datanet];
        if name == "foreign" {
            let error = cluster.refused(cluster.person("author"), &arguments).await;
            assert!(error.contains("trained on base") && error.contains(&assets.base) && error.contains("--force"), "{error}");
        }
        let arguments = [&arguments[..], &["--force"]].concat();
        cluster.run(cluster.person("author"), &arguments).await
    };
    for (folder, name) in [(&foreign, "foreign"), (&misshapen, "misshapen")] {
        assert!(version(&publish(folder, name).await).contains('@'));
        cluster.run_on_all(&["adapter", "import", text(folder)]).await;
    }
    serve(cluster, 5).await;
}
