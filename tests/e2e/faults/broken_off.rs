//! A fetch that is broken off: its reader is killed and goes on with what had come, a holder is killed and others serve.

use std::{collections::BTreeSet, future::ready, process::Stdio};

use harness::{Cluster, Party};
use tokio::{io::AsyncReadExt as _, process::Child};

use super::{ENOUGH, LOOK, Object, lying, running, signal, until};

/// The file's head, with the manifest in it, is shorter; a fragment is longer.
const HEAD_BYTES: u64 = 800;

/// Two readers are at two of three fragments when a holder that they ask is killed, and one of them; the other reads on, and so does the same command.
pub(super) async fn a_reader_and_a_holder_are_killed_while_they_fetch(cluster: &mut Cluster, object: &Object, round: usize) {
    let name = |who: &str| format!("{who}-{round}");
    let (killed, patient) = (cluster.join(&name("killed"), &[]).await, cluster.join(&name("patient"), &[]).await);
    let object = &Object { holders: super::one_record_of_five_who_hold_it(cluster, object).await, ..object.clone() };
    // Three of five stand still, none of them the one that everybody was told of: two fragments come, and no third.
    let still: Vec<usize> = object.holders.iter().copied().filter(|holder| *holder > 0).take(ENOUGH).collect();
    // A fragment that moved lately lies where it was as well: with a third one that is awake a reader has all of the object before anything is written down.
    until("two fragments with those who go on", LOOK, || {
        let awake = running(cluster).into_iter().filter(|number| !still.contains(number));
        let come: BTreeSet<u8> = awake.flat_map(|number| lying(&cluster.nodes[number].log_text(), number, object)).collect();
        ready((come.len() < ENOUGH).then_some(()).ok_or_else(|| format!("{come:?} of {object:?} without {still:?}")))
    })
    .await;
    let frozen: Vec<&Party> = still.iter().map(|number| &cluster.nodes[*number]).collect();
    signal(&frozen, "-STOP");
    let mut first = begin(cluster, &killed, object);
    let mut second = begin(cluster, &patient, object);
    for (reader, fetching) in [(&killed, &mut first), (&patient, &mut second)] {
        two_fragments_came(reader, fetching, object).await;
    }
    first.kill().await.expect("a reader is killed");
    let part = part(&killed, object).expect("what came lies in its folder");
    let dead = still[0];
    cluster.nodes[dead].kill().await;
    signal(&still[1..].iter().map(|number| &cluster.nodes[*number]).collect::<Vec<_>>(), "-CONT");
    cluster.say(&format!("a reader that had {part} bytes was killed, and a holder that it waited for"));

    let again = cluster.run(&killed, &["datanet", "fetch", "tides", "--contribution", &object.number]).await;
    let whole = second.wait_with_output().await.expect("its output");
    let whole: serde_json::Value = serde_json::from_slice(&whole.stdout)
        .unwrap_or_else(|error| panic!("the other reader printed no document ({error}): {}", String::from_utf8_lossy(&whole.stderr)));
    for (fetched, fragments) in [(&again, 1), (&whole, ENOUGH as u64)] {
        let holders = fetched["holders"].as_object().unwrap_or_else(|| panic!("no holders: {fetched}"));
        let bytes: u64 = holders.values().filter_map(serde_json::Value::as_u64).sum();
        assert_eq!(bytes, fragments * object.fragment_bytes, "what had come was fetched again, or something is missing: {fetched}");
        assert!(!holders.contains_key(&cluster.nodes[dead].node.to_string()), "the dead holder served: {fetched}");
        assert_eq!(fetched["contributions"][0]["documents"], super::DOCUMENTS, "{fetched}");
    }
    assert!(self::part(&killed, object).is_none() && self::part(&patient, object).is_none(), "what came halfway has served");
    cluster.start_node(dead).await;
    cluster.all_know_each_other().await;
    cluster.say("the same command fetched the fragment that was missing and no other; the reader that lived on found another holder");
}

fn begin(cluster: &Cluster, reader: &Party, object: &Object) -> Child {
    let arguments = ["datanet", "fetch", "tides", "--contribution", &object.number];
    cluster.tributary.command(&reader.folder, &arguments).stderr(Stdio::piped()).spawn().expect("the binary starts")
}

/// Bytes of what came of the object and was written down; nothing if nothing was.
fn part(reader: &Party, object: &Object) -> Option<u64> {
    let files = std::fs::read_dir(reader.folder.join("fetching")).ok()?.filter_map(Result::ok);
    let is_its = |name: &str| name.contains(object.id.trim_start_matches("0x"));
    files.filter(|file| file.file_name().to_str().is_some_and(is_its)).find_map(|file| Some(file.metadata().ok()?.len()))
}

/// What comes is written down a second later at the latest, two seconds after the beginning.
async fn two_fragments_came(reader: &Party, fetching: &mut Child, object: &Object) {
    let ended = until("two fragments", LOOK, || {
        let (came, ended) = (part(reader, object), fetching.try_wait().expect("its state"));
        let is_there = came.is_some_and(|bytes| bytes > 2 * object.fragment_bytes && object.fragment_bytes > HEAD_BYTES);
        ready(if is_there || ended.is_some() { Ok(ended) } else { Err(format!("{came:?} bytes")) })
    })
    .await;
    if let (Some(status), Some(mut errors)) = (ended, fetching.stderr.take()) {
        let mut said = String::new();
        errors.read_to_string(&mut said).await.expect("what it said");
        panic!("a reader ended before two fragments came, with {status}: {said}");
    }
}
