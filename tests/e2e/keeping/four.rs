//! Any four of twelve: no choice of four nodes takes more than six of the nine holders that an object has, and three suffice.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU8, Ordering},
};

use futures::future::join_all;
use harness::{Cluster, Setup, chain};
use node::config::Config;

use super::{NODES, contribute_on, everything_is_read, quick};

/// Holders of one object, where twelve operators stand in networks of their own.
const HOLDERS: usize = 9;
/// The nodes that die, both contributors among them: what these keep whole is gone too.
const KILLED: [usize; 4] = [1, 2, 6, 11];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_four_of_twelve_nodes_die_and_every_document_is_still_read() {
    let _alone = harness::alone().await;
    let networks = AtomicU8::new(0);
    let apart = |config: &mut Config| {
        quick(config);
        let number = networks.fetch_add(1, Ordering::Relaxed);
        config.keeping.network = Some(IpAddr::V4(Ipv4Addr::new(10, 0, number, 1)));
    };
    let mut cluster = Cluster::start_on(chain::devnet(), Setup { nodes: NODES, ..Setup::default() }, apart).await;
    cluster.run(&cluster.nodes[0], &["datanet", "create", "tides", "--licence", "CC0-1.0"]).await;
    let objects = join_all([1, 2].map(|number| contribute_on(&cluster, number, HOLDERS))).await;
    let lost = objects.iter().map(|object| KILLED.iter().filter(|number| object.holders.contains(number)).count());
    cluster.say(&format!("two contributions lie on nine disks each, of which {:?} will be gone", lost.collect::<Vec<_>>()));
    for number in KILLED {
        cluster.nodes[number].kill().await;
    }
    everything_is_read(&cluster, "reader").await;
    cluster.stop().await;
}
