//! The coordinator of a repair is killed while what it rebuilt is on its way to the new holders.

use std::{collections::BTreeSet, time::Duration};

use harness::{Cluster, Party};

use super::{FRAGMENTS, Object, one_record_of_five_who_hold_it, rebuilds, running, signal, until};

/// A coordinator that works is found by its log within this time; what it hands to nodes that stand still is on its way for four seconds.
const GLANCE: Duration = Duration::from_millis(50);

pub(super) async fn a_coordinator_is_killed_while_it_hands_fragments_over(cluster: &mut Cluster, object: &Object, round: usize) {
    // Made before anybody dies: the coordinator may be the node that everybody is told of.
    let readers = [cluster.join(&format!("after-one-{round}"), &[]).await, cluster.join(&format!("after-all-{round}"), &[]).await];
    let holders = one_record_of_five_who_hold_it(cluster, object).await;
    let gone: Vec<usize> = holders.iter().copied().filter(|holder| *holder > 0).take(2).collect();
    let left: Vec<usize> = holders.iter().copied().filter(|holder| !gone.contains(holder)).collect();
    let done: Vec<usize> = cluster.nodes.iter().map(|node| rebuilds(node, object)).collect();
    for number in &gone {
        cluster.stop_node(*number).await;
    }
    // Whoever could take a fragment over stands still: a coordinator that has rebuilt what is lost cannot put it anywhere.
    let idle: Vec<usize> = running(cluster).into_iter().filter(|number| !left.contains(number)).collect();
    signal(&idle.iter().map(|number| &cluster.nodes[*number]).collect::<Vec<_>>(), "-STOP");
    let seen: &Cluster = cluster;
    let worker = until("a rebuild", GLANCE, || async {
        left.iter()
            .copied()
            .find(|number| rebuilds(&seen.nodes[*number], object) > done[*number])
            .ok_or_else(|| "no log tells of one".to_owned())
    })
    .await;
    cluster.nodes[worker].kill().await;
    cluster
        .say(&format!("{gone:?} left, and the coordinator {worker} was killed while it handed their fragments to nodes that stood still"));
    let waiting: Vec<&Party> = idle.iter().map(|number| &cluster.nodes[*number]).collect();
    signal(&waiting, "-CONT");
    // With one of those who left there are three again, as many as suffice.
    cluster.start_node(gone[0]).await;

    let others: BTreeSet<usize> = left.iter().copied().filter(|number| *number != worker).chain([gone[0]]).collect();
    let seen: &Cluster = cluster;
    let second = until("a rebuild by another", GLANCE, || async {
        let other = others.iter().copied().find(|number| rebuilds(&seen.nodes[*number], object) > done[*number]);
        other.ok_or_else(|| "no other log tells of one".to_owned())
    })
    .await;
    let now = one_record_of_five_who_hold_it(cluster, object).await;
    assert!(!now.contains(&worker) && !now.contains(&gone[1]), "{now:?}");
    cluster.say(&format!("{second} took over: {now:?} hold it now"));
    every_fragment_is_whole(cluster, object, &readers[0]).await;
    for number in [worker, gone[1]] {
        let checked = cluster.run(&cluster.nodes[number], &["storage", "check"]).await;
        assert_eq!(checked["is_damaged"], false, "{checked}");
    }
    // Both come back with what they know from before, and learn what moved.
    cluster.start_node(worker).await;
    cluster.start_node(gone[1]).await;
    cluster.all_know_each_other().await;
    assert_eq!(one_record_of_five_who_hold_it(cluster, object).await, now, "what has moved stays where it is");
    every_fragment_is_whole(cluster, object, &readers[1]).await;
    cluster.say("nobody holds or serves a half of a fragment, also once both are back");
}

/// Somebody new reads and hashes every fragment that anybody has.
async fn every_fragment_is_whole(cluster: &Cluster, object: &Object, reader: &Party) {
    let through = cluster.nodes[running(cluster)[0]].bootstrap();
    let verified = cluster.run(reader, &["datanet", "verify", "tides", "--contribution", &object.number, "--bootstrap", &through]).await;
    assert_eq!(verified[0]["fragments"].as_object().map(serde_json::Map::len), Some(FRAGMENTS), "{verified}");
}
