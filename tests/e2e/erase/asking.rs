//! Asking wrongly: each is refused in words that name what and the fix, before anything is signed.

use harness::{Cluster, Party, files};

use super::REASON;

/// Every bad way to ask, by somebody who may and by somebody who may not.
pub(super) async fn wrongly(cluster: &Cluster) {
    let (contributor, stranger) = (&cluster.nodes[3], &cluster.nodes[4]);
    let gone = "http://127.0.0.1:1";
    let [first, third, fifth] = [2, 3, 4].map(|number: usize| cluster.nodes[number].account.to_string());
    let owner = cluster.nodes[0].account.to_string();
    let long = "x".repeat(5_000);
    let table: [(&Party, &[&str], &[&str]); 9] = [
        (contributor, &["nothing", "--contribution", "1", "--reason", REASON], &["no Datanet is called \"nothing\"", "surveys"]),
        (contributor, &["surveys", "--contribution", "2", "--reason", REASON], &["has no contribution 2", "it holds 2"]),
        (contributor, &["surveys", "--contribution", "0", "--reason", REASON], &[&first, &owner, &third]),
        (stranger, &["surveys", "--contribution", "1", "--reason", REASON], &[&third, &owner, &fifth]),
        (contributor, &["surveys", "--contribution", "1", "--reason", "  "], &["reason is empty"]),
        (contributor, &["surveys", "--contribution", "1", "--reason", &long], &["5000 bytes", "4096"]),
        (contributor, &["surveys", "--contribution", "1", "--wait"], &["is not erased", "--reason"]),
        (contributor, &["surveys", "--contribution", "1", "--reason", REASON, "--rpc", gone], &[gone]),
        (contributor, &["surveys", "--contribution", "1", "--reason", REASON, "--dry-run"], &[]),
    ];
    for (party, arguments, words) in table {
        let listing = files::listing(&party.folder.join("shards"));
        let arguments: Vec<&str> = ["datanet", "erase"].iter().chain(arguments).copied().collect();
        // Of two --rpc the parser takes none: the chain that is down is named instead of the cluster's.
        let outcome = match arguments.iter().position(|word| *word == "--rpc") {
            Some(at) => {
                cluster.tributary.on(&cluster.path("registry.json"), arguments[at + 1]).outcome(&party.folder, &arguments[..at]).await
            }
            None => cluster.outcome(party, &arguments).await,
        };
        if words.is_empty() {
            continue;
        }
        let shown = outcome.shown.clone();
        let error = outcome.refusal();
        for word in words {
            assert!(error.contains(word), "`{shown}` was refused without {word:?}: {error}");
        }
        assert_eq!(files::listing(&party.folder.join("shards")), listing, "{shown}");
    }
    // Another key than the contributor's, in a folder of its own.
    let thief = cluster.join("thief", &[]).await;
    let error = cluster.refused(&thief, &["datanet", "erase", "surveys", "--contribution", "1", "--reason", REASON]).await;
    assert!(error.contains(&thief.account.to_string()) && error.contains(&third), "{error}");
    let shown = cluster.run(stranger, &["datanet", "show", "surveys"]).await;
    assert!(shown["contributions"].as_array().is_some_and(|all| all.iter().all(|row| row.get("erased").is_none())), "{shown}");
    cluster.say("every wrong way of asking was refused, and nothing was erased");
}
