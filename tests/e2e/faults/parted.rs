//! Four nodes and six that hear nothing of each other for a while.

use std::{collections::BTreeSet, fmt::Write as _, future::ready};

use futures::future::join_all;
use harness::{Cluster, Party};

use super::{LOOK, NODES, Object, lying, one_record_of_five_who_hold_it, rebuilds, row, until};

/// Nodes of the smaller side.
const FEW: usize = 4;
/// Coordinators of an object in one epoch: no loss is mended more often.
const COORDINATORS: usize = 3;

/// The smaller side, and what it holds of whom.
struct Cut<'o> {
    few: Vec<usize>,
    many: Vec<usize>,
    /// One of its holders is among the few, and no other fragment of it lies with them: enough are left for the many to leave it alone.
    whole: &'o Object,
    /// Two are: the many mend it.
    mended: &'o Object,
    /// Three are: the few read it, the many do not, and nobody mends it.
    far: &'o Object,
}

/// Two sides that have what each scene needs.
///
/// # Errors
/// That no four nodes leave such sides, or not yet: a fragment that moved lies where it was as well for some epochs, and the few would read more of an object than they hold of it.
fn choose<'o>(cluster: &Cluster, objects: &'o [Object]) -> Result<Cut<'o>, String> {
    let logs: Vec<String> = cluster.nodes.iter().map(Party::log_text).collect();
    let lie = |object: &Object| -> Vec<BTreeSet<u8>> { (0..).zip(&logs).map(|(number, log)| lying(log, number, object)).collect() };
    let lie: Vec<Vec<BTreeSet<u8>>> = objects.iter().map(lie).collect();
    for choice in 0_u32..1 << NODES {
        let (few, many): (Vec<usize>, Vec<usize>) = (0..NODES).partition(|number| choice >> number & 1 == 1);
        // The one that everybody was told of, and whose gate the others ask, is among the many.
        if few.len() != FEW || few.contains(&0) {
            continue;
        }
        let held = |object: &Object| object.holders.iter().filter(|holder| few.contains(holder)).count();
        let lying = |lie: &[BTreeSet<u8>]| few.iter().flat_map(|number| &lie[*number]).collect::<BTreeSet<_>>().len();
        let with = |count| objects.iter().find(|object| held(object) == count);
        let whole = objects.iter().zip(&lie).find(|(object, lie)| held(object) == 1 && lying(lie) == 1);
        if let (Some((whole, _)), Some(mended), Some(far)) = (whole, with(2), with(3)) {
            return Ok(Cut { few, many, whole, mended, far });
        }
    }
    let held: Vec<_> = objects.iter().zip(&lie).map(|(object, lie)| (&object.holders, lie)).collect();
    Err(format!("no four of ten nodes hold one, two and three fragments of three objects, and no more than the one: {held:?}"))
}

pub(super) async fn four_and_six_are_apart_for_a_while(cluster: &Cluster, objects: &[Object], round: usize) {
    // As they lie now: on a busy machine nodes that stood still may have counted as lost.
    let objects: Vec<Object> = join_all(
        objects.iter().map(|object| async { Object { holders: one_record_of_five_who_hold_it(cluster, object).await, ..object.clone() } }),
    )
    .await;
    let cut = until("two sides", LOOK, || ready(choose(cluster, &objects))).await;
    let all: Vec<usize> = (0..NODES).collect();
    let (quiet, busy) = ([cut.whole, cut.far], [cut.mended]);
    let count = |objects: &[&Object], nodes: &[usize]| -> usize {
        nodes.iter().flat_map(|number| objects.iter().map(|object| rebuilds(&cluster.nodes[*number], object))).sum()
    };
    let before = [count(&busy, &cut.many), count(&busy, &cut.few), count(&quiet, &all)];

    part(cluster, &cut.few, &cut.many);
    part(cluster, &cut.many, &cut.few);
    for side in [&cut.few, &cut.many] {
        let others = side.len() as u64 - 1;
        let apart = |number: &usize| {
            cluster.wait_status(&cluster.nodes[*number], 30, "a side by itself", move |status| status["providers"] == others)
        };
        join_all(side.iter().map(apart)).await;
    }
    cluster.say(&format!("{:?} and the others hear nothing of each other", cut.few));
    both_sides_serve_what_they_can(cluster, &cut, round).await;

    let watcher = *cut.mended.holders.iter().find(|holder| cut.many.contains(holder)).expect("three of its holders are there");
    until("an object of the larger side that is whole again", LOOK, || async {
        let row = row(cluster, watcher, cut.mended).await?.ok_or("its holder holds nothing")?;
        let is_whole = row.held == super::FRAGMENTS && !row.is_due && !row.is_mending;
        is_whole.then_some(()).ok_or_else(|| format!("{} held, by {:?}", row.held, row.holders))
    })
    .await;
    let works = count(&busy, &cut.many) - before[0];
    assert!((1..=COORDINATORS).contains(&works), "one object was below its floor, and rebuilds were begun {works} times");
    assert_eq!(count(&busy, &cut.few), before[1], "the smaller side mended what the larger one holds");
    assert_eq!(count(&quiet, &all), before[2], "what the other side still holds was rebuilt");
    cluster.say(&format!("the larger side mended the one object that fell below its floor, begun {works} times, the smaller one none"));

    for node in &cluster.nodes {
        std::fs::remove_file(node.folder.join("refused")).expect("the file is there");
    }
    cluster.all_know_each_other().await;
    cluster.say("the sides hear each other again");
    let after: Vec<Vec<usize>> =
        join_all([cut.whole, cut.mended, cut.far].map(|object| one_record_of_five_who_hold_it(cluster, object))).await;
    assert_eq!((&after[0], &after[2]), (&cut.whole.holders, &cut.far.holders), "placement is for life: nothing of these was lost");
    let moved = cut.mended.holders.iter().zip(&after[1]).filter(|(before, after)| before != after).count();
    assert_eq!(moved, 2, "the two fragments of the few stay with those who took them over: {:?}, {:?}", cut.mended.holders, after[1]);
    assert!(after[1].iter().all(|holder| cut.many.contains(holder)), "{:?}", after[1]);
    let is_told = |(fragment, holder): (u8, &usize)| lying(&cluster.nodes[*holder].log_text(), *holder, cut.mended).contains(&fragment);
    assert!((0..).zip(&after[1]).all(is_told), "a log does not tell of a fragment that its node took: {:?}", after[1]);
    let reader = cluster.join(&format!("afterwards-{round}"), &[]).await;
    let verified = cluster.run(&reader, &["datanet", "verify", "tides"]).await;
    let whole = |row: &serde_json::Value| row["fragments"].as_object().map(serde_json::Map::len) == Some(super::FRAGMENTS);
    assert!(verified.as_array().is_some_and(|rows| rows.len() == objects.len() && rows.iter().all(whole)), "{verified}");
    cluster.say(&format!("every object has one record and five intact fragments; two of one moved to {:?}", after[1]));
}

/// Lets nodes refuse others.
fn part(cluster: &Cluster, side: &[usize], others: &[usize]) {
    for number in side {
        refuse(cluster, &cluster.nodes[*number], others);
    }
}

fn refuse(cluster: &Cluster, party: &Party, others: &[usize]) {
    let mut text = String::from("# the other side\n");
    for other in others {
        writeln!(text, "{}", cluster.nodes[*other].node).expect("a string takes text");
    }
    std::fs::write(party.folder.join("refused"), text).expect("the file is written");
}

/// A reader on each side reads what three of its nodes hold, and is told what they do not.
async fn both_sides_serve_what_they_can(cluster: &Cluster, cut: &Cut<'_>, round: usize) {
    let name = |side: &str| format!("reader-of-{side}-{round}");
    let (far, near) = (cluster.join(&name("few"), &[]).await, cluster.join(&name("many"), &[]).await);
    refuse(cluster, &far, &cut.many);
    refuse(cluster, &near, &cut.few);
    let address = cluster.nodes[cut.few[0]].bootstrap();
    let fetch = async |reader: &Party, object: &Object, address: &str| {
        let arguments = ["datanet", "fetch", "tides", "--contribution", &object.number, "--bootstrap", address];
        cluster.outcome(reader, &arguments).await
    };
    let near_address = cluster.nodes[0].bootstrap();
    let on_few = async {
        let served = fetch(&far, cut.far, &address).await.success();
        let error = fetch(&far, cut.whole, &address).await.refusal();
        (served, error)
    };
    let on_many = async {
        let whole = fetch(&near, cut.whole, &near_address).await.success();
        (whole, fetch(&near, cut.mended, &near_address).await.success())
    };
    let ((far_read, error), (whole, mended)) = tokio::join!(on_few, on_many);
    assert!(error.contains("needs 3 fragments, 1 were found"), "{error}");
    for (fetched, side) in [(&far_read, &cut.few), (&whole, &cut.many), (&mended, &cut.many)] {
        let own: BTreeSet<String> = side.iter().map(|number| cluster.nodes[*number].node.to_string()).collect();
        let holders = fetched["holders"].as_object().unwrap_or_else(|| panic!("no holders: {fetched}"));
        assert!(!holders.is_empty() && holders.keys().all(|holder| own.contains(holder)), "{fetched}");
    }
    cluster.say("each side reads what three of its nodes hold");
}
