//! A Datanet on five disks: found through one address, fetched with two of them gone, honest about damage and loss.

pub(crate) mod damage;
mod interrupted;
mod many;

use futures::future::join_all;
use harness::{Cluster, Party, Setup, cluster::text, files};
use serde_json::Value;

use super::discovery;

/// Documents of the contribution: about 80 kB, compressed to a fragment of some kB.
const DOCUMENTS: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_of_five_disks_give_a_contribution_back_and_two_do_not() {
    let _alone = harness::alone().await;
    let mut cluster = Cluster::start(Setup { nodes: 5, ..Setup::default() }).await;
    discovery::everybody_was_given_one_address(&cluster).await;
    let contributed = contribute(&cluster).await;
    copies_are_refused_with_their_first_owner(&cluster, &contributed).await;
    discovery::a_client_finds_everything_through_any_node(&cluster).await;
    discovery::a_folder_that_was_copied_runs_once(&mut cluster).await;
    interrupted::a_contribution_killed_twice_is_finished_by_the_same_command(&cluster).await;
    many::a_folder_enters_file_by_file_and_leaves_as_what_it_was(&cluster).await;
    two_may_be_gone_but_not_three(&mut cluster, &contributed).await;
    damage::a_damaged_fragment_is_named_and_the_others_suffice(&cluster, &contributed).await;
    cluster.stop().await;
}

/// Node 2 brings documents to a Datanet of node 0.
async fn contribute(cluster: &Cluster) -> Value {
    cluster.run(&cluster.nodes[0], &["datanet", "create", "tides", "--licence", "CC0-1.0"]).await;
    let file = files::jsonl(&cluster.path("tides.jsonl"), &files::documents("tide", DOCUMENTS));
    let printed = cluster.run(&cluster.nodes[2], &["datanet", "contribute", "tides", text(&file)]).await;
    let holders = printed["holders"].as_array().expect("a list of holders");
    let nodes: std::collections::BTreeSet<_> = holders.iter().map(|holder| holder["node"].to_string()).collect();
    assert_eq!((nodes.len(), &printed["documents"]), (5, &DOCUMENTS.into()), "five fragments on five nodes: {printed}");
    cluster.say("a contribution lies on five disks");
    printed
}

/// The same file, and a file that shares one row, from somebody else: nothing new enters, and the first owner is named.
async fn copies_are_refused_with_their_first_owner(cluster: &Cluster, contributed: &Value) {
    let (owner, file) = (contributed["contributor"].as_str().expect("an account"), cluster.path("tides.jsonl"));
    let error = cluster.refused(&cluster.nodes[3], &["datanet", "contribute", "tides", text(&file)]).await;
    assert!(error.contains("already, by") && error.contains(owner), "{error}");
    let mut documents = files::documents("wind", 3);
    documents.insert(1, files::documents("tide", 8).remove(7));
    let mixed = files::jsonl(&cluster.path("mixed.jsonl"), &documents);
    let error = cluster.refused(&cluster.nodes[3], &["datanet", "contribute", "tides", text(&mixed)]).await;
    assert!(error.contains("row 2") && error.contains("document 8 of contribution 0") && error.contains(owner), "{error}");
    let kept = cluster.run(&cluster.nodes[3], &["datanet", "contribute", "tides", text(&mixed), "--drop-refused"]).await;
    assert_eq!((&kept["documents"], &kept["dropped"][0]["row"]), (&3.into(), &2.into()), "{kept}");
    cluster.say("copies were refused with their first owner's name; the rest entered");
}

/// Somebody with an empty disk.
async fn reader(cluster: &Cluster, name: &str) -> Party {
    cluster.join(name, &[]).await
}

/// First the contributor and another holder are gone, then a third; then all come back.
async fn two_may_be_gone_but_not_three(cluster: &mut Cluster, contributed: &Value) {
    cluster.stop_node(2).await;
    cluster.stop_node(4).await;
    let fetch = ["datanet", "fetch", "tides", "--contribution", "0"];
    let fetched = cluster.run(&reader(cluster, "third").await, &fetch).await;
    let holders = fetched["holders"].as_object().expect("bytes by holder");
    let running: Vec<String> = [0, 1, 3].map(|number: usize| cluster.nodes[number].node.to_string()).to_vec();
    assert_eq!(holders.len(), 3, "three fragments were left: {fetched}");
    assert!(holders.iter().all(|(holder, bytes)| running.contains(holder) && bytes.as_u64() > Some(100)), "{fetched}");
    assert_eq!(fetched["contributions"][0]["text_root"], contributed["text_root"]);
    cluster.say("with the contributor and another holder gone, three fragments sufficed");

    cluster.stop_node(1).await;
    let poor = reader(cluster, "fourth").await;
    let before = files::listing(&poor.folder);
    let error = cluster.refused(&poor, &fetch).await;
    assert!(error.contains("needs 3 fragments, 2 were found") && error.contains("start more of its holders"), "{error}");
    let mut after = files::listing(&poor.folder);
    let halves = poor.folder.join("fetching");
    after.retain(|path, _| !path.starts_with(&halves));
    assert_eq!(after, before, "what came is kept apart, for the next try");
    cluster.say("two fragments are too few, and that was said");

    for number in [1, 2, 4] {
        cluster.start_node(number).await;
    }
    cluster.all_know_each_other().await;
    let again = join_all([cluster.run(&poor, &fetch)]).await;
    assert_eq!(
        again[0]["contributions"][0]["text_root"], contributed["text_root"],
        "what could not be fetched can be once holders are back"
    );
    cluster.say("the holders came back, and so did the contribution");

    // It comes back at another port, so nobody's configuration leads to it, and its own names nobody.
    let told = cluster.nodes[0].bootstrap();
    cluster.stop_node(0).await;
    cluster.start_node(0).await;
    assert_ne!(cluster.nodes[0].bootstrap(), told, "every start takes free ports");
    cluster.all_know_each_other().await;
    cluster.say("the node that everybody was told of came back through those that it remembers");
}
