use storage::datanet::{
    Document,
    review::{Act, Rejection, ReviewAct},
};
use types::{
    id::NodeId,
    key::{Signed, Signed65},
};

use super::*;

const NET: AssetId = AssetId(4);
const KEY: [u8; 32] = [5; 32];

fn shard(texts: &[&str]) -> Arc<Shard> {
    Arc::new(Shard::of(texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect()))
}

/// Has a case wait with a row of its own.
async fn add(queue: &Queue, case: Case, bytes: &str) -> anyhow::Result<Result<(), FullError>> {
    let row = format!("row of {}", case.commitment);
    queue.add(case, shard(&[&row]), BTreeSet::new(), bytes.as_bytes().to_vec()).await
}

fn case(number: u8, since: u64) -> Case {
    let report = Report {
        accepted: false,
        contributor: Address([number; 20]),
        text_root: Hash32([number; 32]),
        text_bytes: 3,
        documents: 1,
        refusals: vec![],
        unlisted: 0,
        notes: vec![],
        notes_unlisted: 0,
        approvals: vec![],
    };
    Case { datanet: NET, commitment: Hash32([number; 32]), since, shard_bytes: 3, report, approvals: vec![], rejection: None }
}

#[tokio::test]
async fn what_waits_is_there_after_a_restart_and_a_damaged_file_is_passed_over() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("reviews");
    let queue = Queue::open(folder.clone(), KEY).unwrap();
    add(&queue, case(2, 9), "two").await.unwrap().unwrap();
    add(&queue, case(1, 7), "one").await.unwrap().unwrap();
    std::fs::write(folder.join("4-00.json"), b"{").unwrap();
    std::fs::write(folder.join("4-00.shard"), b"rows of nobody's").unwrap();
    let again = Queue::open(folder.clone(), KEY).unwrap();
    assert!(!folder.join("4-00.shard").exists(), "a node was killed before it wrote the case");
    assert_eq!(again.list(NET).await, (vec![case(1, 7), case(2, 9)], vec![]));
    assert_eq!(again.list(AssetId(5)).await, (vec![], vec![]));
    assert_eq!(again.shard(&case(2, 9)).await.unwrap(), b"two");
    assert_eq!(again.of(NET, Address([1; 20]), Hash32([1; 32])).await, Some(Became::Case(Box::new(case(1, 7)))));
    assert_eq!(again.of(NET, Address([2; 20]), Hash32([1; 32])).await, None);
}

#[tokio::test]
async fn a_change_that_fails_leaves_the_case_and_one_that_does_not_is_on_disk() {
    let outer = tempfile::tempdir().unwrap();
    let queue = Queue::open(outer.path().to_owned(), KEY).unwrap();
    add(&queue, case(1, 7), "one").await.unwrap().unwrap();
    let since = |queue: Option<Became>| match queue {
        Some(Became::Case(case)) => case.since,
        other => panic!("{other:?}"),
    };
    let key = Hash32([1; 32]);
    let refused = queue.change(NET, key, |case| {
        case.since = 99;
        Err("no")
    });
    assert_eq!(refused.await.unwrap(), Err("no"));
    assert_eq!(since(queue.get(NET, key).await), 7);
    let changed = queue.change(NET, key, |case| {
        case.since = 8;
        Ok::<(), ()>(())
    });
    assert_eq!(changed.await.unwrap().unwrap().since, 8);
    assert_eq!(since(Queue::open(outer.path().to_owned(), KEY).unwrap().get(NET, key).await), 8);
}

/// An account's case; all of them may be taken for one contributor's by their number.
fn of(contributor: u8, number: u16) -> Case {
    let mut commitment = [0; 32];
    commitment[..2].copy_from_slice(&number.to_be_bytes());
    let mut case = case(contributor, number.into());
    (case.commitment, case.report.text_root) = (Hash32(commitment), Hash32(commitment));
    case
}

#[tokio::test]
async fn one_account_with_many_files_leaves_the_queue_to_the_others_and_is_told_what_it_has() {
    let outer = tempfile::tempdir().unwrap();
    let queue = Queue::open(outer.path().to_owned(), KEY).unwrap();
    for number in 0..262 {
        let added = add(&queue, of(1, number), "one").await.unwrap();
        assert_eq!(added.is_ok(), number < 16, "{number}");
    }
    assert!(queue.may_wait(NET, Address([1; 20]), 3).await.is_err(), "no draw that it could not wait for");
    assert_eq!(queue.may_wait(NET, Address([2; 20]), 3).await, Ok(()));
    let full = add(&queue, of(1, 300), "one").await.unwrap().unwrap_err().to_string();
    assert!(full.contains("16 of your contributions") && full.contains("at most 16"), "{full}");
    assert_eq!((queue.room(Address([1; 20])).await.cases, queue.room(Address([2; 20])).await), (0, shares::OF_CONTRIBUTOR));
    add(&queue, of(2, 301), "two").await.unwrap().unwrap();
    assert_eq!(queue.list(NET).await.0.len(), 17);
}

fn rejection(case: &Case) -> Rejection {
    let act = ReviewAct {
        datanet: case.datanet,
        commitment: case.commitment,
        report: case.report.digest(),
        act: Act::Reject,
        reason: Hash32::ZERO,
        gate: NodeId([9; 32]),
        block: 9,
    };
    Rejection { act: Signed { document: act, signature: Signed65([7; 65]) }, by: Address([8; 20]), reason: "a copy".into() }
}

#[tokio::test]
async fn a_rejection_is_known_after_its_rows_have_left_the_disk_and_however_much_waits() {
    let outer = tempfile::tempdir().unwrap();
    let queue = Queue::open(outer.path().to_owned(), KEY).unwrap();
    add(&queue, case(1, 7), "rows of a person").await.unwrap().unwrap();
    let reject = |case: &mut Case| {
        case.rejection = Some(rejection(case));
        Ok::<(), ()>(())
    };
    let rejected = queue.change(NET, Hash32([1; 32]), reject).await.unwrap().unwrap();
    assert_eq!(rejected.state(), "rejected");
    let names =
        || std::fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    let mut left = names();
    left.sort();
    assert_eq!(left, ["decided", "rows"].map(|kind| format!("4-{}.{kind}", "01".repeat(32))), "neither case nor shard is left");
    for number in 0..300 {
        let is_taken = add(&queue, of(1, 1000 + number), "one").await.unwrap().is_ok();
        assert_eq!(is_taken, number < 16, "a contributor's share");
    }
    let again = Queue::open(outer.path().to_owned(), KEY).unwrap();
    let Some(Became::Rejected(decided)) = again.of(NET, Address([1; 20]), Hash32([1; 32])).await else { panic!("it is known") };
    assert_eq!(decided.words(), format!("reviewer {} rejected it: a copy", Address([8; 20])));
    assert_eq!((again.list(NET).await.1.len(), again.list(NET).await.0.len()), (1, 16));
    again.prune(&State::default(), 8 + EXPIRY_BLOCKS + 2000).await;
    assert_eq!(again.of(NET, Address([1; 20]), Hash32([1; 32])).await, None, "its commitment is void");
    assert!(names().is_empty());
}

#[tokio::test]
async fn a_node_killed_after_a_rejection_was_written_ends_the_case_when_it_starts() {
    let outer = tempfile::tempdir().unwrap();
    let queue = Queue::open(outer.path().to_owned(), KEY).unwrap();
    add(&queue, case(1, 7), "rows").await.unwrap().unwrap();
    let half = Case { rejection: Some(rejection(&case(1, 7))), ..case(1, 7) };
    queue.write(&half).unwrap();
    let again = Queue::open(outer.path().to_owned(), KEY).unwrap();
    assert!(matches!(again.get(NET, Hash32([1; 32])).await, Some(Became::Rejected(_))));
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 2, "the decision, and what has its rows known");
}

fn drawn(number: u8) -> Case {
    let case = case(number, number.into());
    let report = Report { accepted: true, ..case.report.clone() }.sampled(9, 50);
    Case { report, ..case }
}

/// What a gate finds of these rows.
async fn found(queue: &Queue, texts: &[&str]) -> (Vec<u32>, Vec<Again>) {
    let (rows, found) = queue.again(NET, shard(texts)).await.unwrap();
    (rows.into_iter().collect(), found)
}

#[tokio::test]
async fn rows_that_were_drawn_or_rejected_are_known_among_fillers_of_anybody_after_a_restart_until_they_are_let_in() {
    let outer = tempfile::tempdir().unwrap();
    let queue = Queue::open(outer.path().to_owned(), KEY).unwrap();
    queue.add(drawn(1), shard(&["one", "two"]), BTreeSet::new(), b"shard".to_vec()).await.unwrap().unwrap();
    let brought = ["filler", "two", "one"];
    let waits =
        Again { row: 2, earlier_row: 2, more: 1, commitment: Hash32([1; 32]), contributor: Address([1; 20]), since: 1, rejected_by: None };
    assert_eq!(found(&queue, &brought).await, (vec![2, 3], vec![waits]));
    assert_eq!(found(&queue, &["filler"]).await, (vec![], vec![]));
    assert_eq!(queue.again(AssetId(5), shard(&brought)).await.unwrap().1, [], "another Datanet");
    // What waits for having such a row waits with that row, not with its fillers.
    queue.add(case(2, 2), shard(&brought), BTreeSet::from([2, 3]), b"shard".to_vec()).await.unwrap().unwrap();
    assert_eq!(found(&queue, &["filler"]).await, (vec![], vec![]));
    assert_eq!(found(&queue, &["two"]).await.1.len(), 2);
    let reject = |case: &mut Case| {
        case.rejection = Some(rejection(case));
        Ok::<(), ()>(())
    };
    queue.change(NET, Hash32([1; 32]), reject).await.unwrap().unwrap();
    queue.change(NET, Hash32([2; 32]), reject).await.unwrap().unwrap();
    let queue = Queue::open(outer.path().to_owned(), KEY).unwrap();
    let (rows, rejected) = found(&queue, &brought).await;
    assert_eq!((rows, rejected.len()), (vec![1, 2, 3], 2), "of what was rejected every row counts");
    assert_eq!(rejected[0], Again { rejected_by: Some(Address([8; 20])), ..waits });
    // Two reviewers let rows in that others had rejected.
    queue.add(case(3, 3), shard(&["two", "filler"]), BTreeSet::from([1, 2]), b"shard".to_vec()).await.unwrap().unwrap();
    let approve = |case: &mut Case| {
        let act = rejection(case).act;
        case.approvals = vec![act.clone(), act];
        Ok::<(), ()>(())
    };
    queue.change(NET, Hash32([3; 32]), approve).await.unwrap().unwrap();
    assert_eq!(found(&queue, &brought).await.0, [3], "the row that nobody let in");
    queue.settle(NET, shard(&["one"])).await.unwrap();
    assert_eq!(found(&queue, &brought).await, (vec![], vec![]), "what the chain has is the index's");
    let rows = std::fs::read_dir(outer.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().extension().unwrap() == "rows");
    assert_eq!(rows.count(), 1, "those of what is approved, until it is on the chain");
}

#[tokio::test]
async fn rows_go_with_their_text_when_it_is_erased_and_with_what_makes_room_and_damage_is_said() {
    let outer = tempfile::tempdir().unwrap();
    let queue = Queue::open(outer.path().to_owned(), KEY).unwrap();
    for number in [1, 2] {
        let row = format!("row {number}");
        queue.add(drawn(number), shard(&[&row]), BTreeSet::new(), b"shard".to_vec()).await.unwrap().unwrap();
    }
    queue.forget_texts(|datanet, text_root| datanet == NET && text_root == Hash32([1; 32])).await.unwrap();
    assert_eq!(found(&queue, &["row 1", "row 2"]).await.0, [2]);
    let path = queue.path((NET, Hash32([2; 32])), "rows");
    std::fs::write(&path, b"trirows1 else").unwrap();
    let error = format!("{:#}", queue.again(NET, shard(&["row 2"])).await.unwrap_err());
    assert!(error.contains(&path.display().to_string()) && error.contains("damaged"), "{error}");
    let queue = Queue::open(outer.path().to_owned(), KEY).unwrap();
    assert!(!path.exists() && found(&queue, &["row 2"]).await.0.is_empty());
    queue.prune(&State::default(), 10 + EXPIRY_BLOCKS).await;
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn rejected_rows_beyond_the_bound_are_forgotten_oldest_first_and_their_decisions_stay() {
    let outer = tempfile::tempdir().unwrap();
    let queue = Queue::open(outer.path().to_owned(), KEY).unwrap();
    for number in [1, 2] {
        let row = format!("row {number}");
        queue.add(drawn(number), shard(&[&row]), BTreeSet::new(), b"shard".to_vec()).await.unwrap().unwrap();
        let reject = |case: &mut Case| {
            case.rejection = Some(Rejection { by: Address([8; 20]), ..rejection(case) });
            Ok::<(), ()>(())
        };
        queue.change(NET, Hash32([number; 32]), reject).await.unwrap().unwrap();
    }
    queue.held.lock().await.decisions.bound_rows(outer.path(), 20).unwrap();
    assert_eq!(found(&queue, &["row 1", "row 2"]).await.0.len(), 1);
    assert_eq!(queue.list(NET).await.1.len(), 2);
}
