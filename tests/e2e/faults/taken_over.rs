//! The coordinator of a repair is killed while what it rebuilt is on its way to the new holders.

use std::time::{Duration, Instant};

use futures::future::ready;
use harness::{Cluster, Party};

use super::{FRAGMENTS, Object, one_record, one_record_of_five_who_hold_it, rebuilds, running, signal, until};

/// A coordinator that works is found by its log within this time; what it hands to nodes that stand still is on its way for four seconds.
const GLANCE: Duration = Duration::from_millis(50);
/// Nodes stand still so long, below the sixteen seconds after which they are not heard, and are awake so long, enough for an advert each.
const STILL: Duration = Duration::from_secs(6);
const AWAKE: Duration = Duration::from_secs(2);

pub(super) async fn a_coordinator_is_killed_while_it_hands_fragments_over(cluster: &mut Cluster, object: &Object, round: usize) {
    let reader = cluster.join(&format!("after-all-{round}"), &[]).await;
    let holders = one_record_of_five_who_hold_it(cluster, object).await;
    let gone: Vec<usize> = holders.iter().copied().filter(|holder| *holder > 0).take(2).collect();
    let left: Vec<usize> = holders.iter().copied().filter(|holder| !gone.contains(holder)).collect();
    let done: Vec<usize> = cluster.nodes.iter().map(|node| rebuilds(node, object)).collect();
    for number in &gone {
        cluster.stop_node(*number).await;
    }
    // Whoever could take a fragment over stands still: a coordinator that has rebuilt what is lost cannot put it anywhere. Who stands still is soon not heard
    // any more, and who hears less than half of all mends nothing, so that they are woken now and then.
    let idle: Vec<usize> = running(cluster).into_iter().filter(|number| !left.contains(number)).collect();
    let waiting: Vec<&Party> = idle.iter().map(|number| &cluster.nodes[*number]).collect();
    let begun = || left.iter().copied().find(|number| rebuilds(&cluster.nodes[*number], object) > done[*number]);
    let (started, mut stands_still) = (Instant::now(), None);
    let worker = until("a rebuild", GLANCE, || {
        let is_still = started.elapsed().as_secs() % (STILL.as_secs() + AWAKE.as_secs()) < STILL.as_secs();
        if stands_still.replace(is_still) != Some(is_still) {
            signal(&waiting, if is_still { "-STOP" } else { "-CONT" });
        }
        ready(begun().ok_or_else(|| "no log tells of one".to_owned()))
    })
    .await;
    signal(&waiting, "-STOP");
    cluster.nodes[worker].kill().await;
    cluster
        .say(&format!("{gone:?} left, and the coordinator {worker} was killed while it handed their fragments to nodes that stood still"));
    let waiting: Vec<&Party> = idle.iter().map(|number| &cluster.nodes[*number]).collect();
    signal(&waiting, "-CONT");
    // With one of those who left there are three again, as many as suffice.
    cluster.start_node(gone[0]).await;

    // What had reached a new holder before its sender died counts. Then the dead one's own fragment is the only one that is gone, and is left alone.
    let mut now = one_record(cluster, object, &[worker]).await;
    let mut away = vec![worker, gone[1]];
    if took_over(cluster, object, &done, worker).is_none() {
        let third = now.iter().copied().find(|holder| *holder > 0 && cluster.nodes[*holder].is_running()).expect("four hold it");
        cluster.stop_node(third).await;
        away.push(third);
        cluster.say(&format!("all that it sent had arrived; {third} left too, so that another has something to mend"));
        now = one_record_of_five_who_hold_it(cluster, object).await;
    }
    let second = took_over(cluster, object, &done, worker).expect("another coordinator");
    assert!(!now.contains(&gone[1]), "{now:?}");
    cluster.say(&format!("{second} took over: {now:?} hold it now"));
    for number in &away {
        let checked = cluster.run(&cluster.nodes[*number], &["storage", "check"]).await;
        assert_eq!(checked["is_damaged"], false, "{checked}");
    }
    // All come back with what they know from before, and learn what moved.
    for number in away {
        cluster.start_node(number).await;
    }
    cluster.all_know_each_other().await;
    assert_eq!(one_record_of_five_who_hold_it(cluster, object).await, now, "what has moved stays where it is");
    let through = cluster.nodes[0].bootstrap();
    let verified = cluster.run(&reader, &["datanet", "verify", "tides", "--contribution", &object.number, "--bootstrap", &through]).await;
    assert_eq!(verified[0]["fragments"].as_object().map(serde_json::Map::len), Some(FRAGMENTS), "{verified}");
    cluster.say("every object has all its fragments again, and nobody holds or serves a half of one");
}

/// Somebody else who has begun to rebuild an object since as many times were counted in each log.
fn took_over(cluster: &Cluster, object: &Object, done: &[usize], worker: usize) -> Option<usize> {
    (0..done.len()).find(|number| *number != worker && rebuilds(&cluster.nodes[*number], object) > done[*number])
}
