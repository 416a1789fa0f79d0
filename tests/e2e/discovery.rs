//! Who finds whom: nodes and clients are given one address, and learn the rest from signed ads that travel by gossip.
//!
//! Steps of the clusters in [`super::storage`] and [`super::answer`]. That nothing is learnt with gossip switched off is `p2p`'s test: a node has no
//! switch for it.

use harness::{Cluster, Party};
use serde_json::Value;

/// Nodes 1 to 4 were told of node 0 alone, node 0 of nobody: whatever they know beyond that, they learnt by gossip.
pub(super) async fn everybody_was_given_one_address(cluster: &Cluster) {
    for (number, node) in cluster.nodes.iter().enumerate() {
        let config = node::config::Config::load(&node.folder.join("tributary.toml")).expect("a configuration");
        let given = if number == 0 { vec![] } else { vec![cluster.nodes[0].bootstrap()] };
        assert_eq!(config.bootstrap, given);
        let status = cluster.run(node, &["status"]).await;
        assert!(status["providers"].as_u64() >= Some(4), "{} knows too few: {status}", node.name);
    }
    cluster.say("nodes that were given one address know four providers each");
}

/// A newcomer who knows only node 3 fetches from whoever holds.
pub(super) async fn a_client_finds_everything_through_any_node(cluster: &Cluster) {
    let newcomer = cluster.join("newcomer", &[]).await;
    let other = cluster.nodes[3].bootstrap();
    let fetched = cluster.run(&newcomer, &["datanet", "fetch", "tides", "--bootstrap", &other]).await;
    assert_eq!(fetched["contributions"].as_array().map(Vec::len), Some(2), "{fetched}");
    assert_eq!(fetched["blamed"], Value::Array(vec![]));
    cluster.say("a newcomer who knows one node fetched both contributions");
}

/// Node 4's folder is copied, as from a backup, and both are started: the later one runs, the earlier one ends and its log says why.
pub(super) async fn a_folder_that_was_copied_runs_once(cluster: &mut Cluster) {
    const NUMBER: usize = 4;
    cluster.stop_node(NUMBER).await;
    let mut copy = cluster.copy(&cluster.nodes[NUMBER], "copy").await;
    // One start ahead of the other.
    copy.start(&cluster.tributary).await;
    copy.stop().await;
    cluster.start_node(NUMBER).await;
    cluster.all_know_each_other().await;
    copy.start(&cluster.tributary).await;
    let ended = cluster.nodes[NUMBER].reap().await;
    let log = cluster.nodes[NUMBER].log_text();
    assert_eq!(ended.code(), Some(1), "{log}");
    assert!(log.contains("a later incarnation of this node is running"), "{log}");
    let others = cluster.nodes.len() as u64 - 1;
    cluster.wait_status(&copy, 60, "knowing all the others", |status| status["providers"].as_u64() >= Some(others)).await;
    cluster.nodes[NUMBER] = copy;
    cluster.say("of a folder and its copy the one that was started last runs on; the other one ended");
}

/// A node of the same chain that nobody knows and that knows nobody.
pub(super) async fn stranger(cluster: &Cluster) -> Party {
    let mut stranger = cluster.join("stranger", &[]).await;
    stranger.configure(|config| config.bootstrap.clear());
    stranger.start(&cluster.tributary).await;
    stranger
}
