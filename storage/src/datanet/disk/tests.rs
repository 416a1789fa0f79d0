use proptest::prelude::*;
use types::id::Address;

use super::{super::*, *};
use crate::store::crash::{CrashDisk, Plight};

const ROOM: u64 = 1 << 40;

fn card() -> Card {
    Card::new("medical".parse().unwrap(), "Terms.".into(), "CC-BY-4.0".parse().unwrap(), vec![], vec![]).unwrap()
}

fn opened(disk: &CrashDisk) -> Result<Datanet<OnDisk>, DiskError> {
    Ok(Datanet::of(card(), OnDisk::on(Arc::new(disk.clone()), ROOM)?))
}

/// `count` words that no other `family` has, the last `changed` of them of this `version` only.
fn text(family: u32, count: u32, changed: u32, version: u32) -> String {
    let word = |n: u32| if n < count - changed { format!("w{family}x{n}") } else { format!("v{version}x{n}") };
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

#[derive(Debug, Clone)]
struct Given {
    place: Place,
    contribution: Contribution,
}

impl Given {
    fn new(block: u64, texts: &[String]) -> Self {
        let documents = texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect();
        let contributor = Address([u8::try_from(block % 5).unwrap(); 20]);
        Self {
            place: Place { block, ordinal: 1 },
            contribution: Contribution { contributor, licence: "CC-BY-4.0".parse().unwrap(), documents },
        }
    }

    fn accepted(&self) -> Accepted {
        let documents = &self.contribution.documents;
        Accepted {
            contributor: self.contribution.contributor,
            text_root: shard::text_root(documents),
            documents: u32::try_from(documents.len()).unwrap(),
            object: BlobId::ZERO,
            text_salt: None,
        }
    }

    fn shard(&self) -> Shard {
        Shard::of(self.contribution.documents.clone())
    }

    fn enter(&self, datanet: &mut Datanet<OnDisk>) -> Result<(), AcceptError> {
        datanet.accept(self.place, self.accepted(), &self.shard())?;
        Ok(datanet.commit()?)
    }
}

/// What the index in memory says of `asked` when it knows `entered`.
fn model(entered: &[Given], asked: &Given) -> String {
    let mut datanet = Datanet::new(card());
    entered.iter().for_each(|given| datanet.accept(given.place, given.accepted(), &given.shard()).unwrap());
    datanet.gate(asked.place, &asked.contribution).to_json()
}

/// Ten contributions that hold copies and near copies of each other, not in the order of their places.
fn life() -> Vec<Given> {
    [7_u64, 3, 9, 1, 8, 2, 6, 4, 10, 5]
        .map(|block| {
            let version = u32::try_from(block).unwrap();
            // Sets of 32 to 46 shingles: some have broad outlines.
            let texts = (0..8).map(|family| text(family, 36 + 2 * family, (version * family) % 9, version % 3)).collect::<Vec<_>>();
            Given::new(block, &texts)
        })
        .to_vec()
}

fn asked() -> Given {
    Given::new(11, &(0..8).map(|family| text(family, 36 + 2 * family, family % 4, 77)).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_gate_over_a_folder_says_what_the_one_in_memory_says(
        documents in proptest::collection::vec((0_u32..5, 0_u32..12, 0_u32..3), 12..60),
        order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(),
        commits in proptest::collection::vec(any::<bool>(), 12),
        asked_at in 0_u64..14,
    ) {
        let mut texts: Vec<Vec<String>> = vec![Vec::new(); 12];
        for (at, (family, changed, version)) in documents.into_iter().enumerate() {
            // One of no words now and then: it is no near copy, and may be an exact one.
            // Near copies on either side of where outlines become broad.
            texts[at % 12].push(if changed == 11 { "...".into() } else { text(family, 38 + 2 * version, changed, version) });
        }
        let given: Vec<Given> = order.iter().map(|at| Given::new(*at as u64, &texts[*at])).collect();
        let (entered, asked) = given.split_at(9);
        let disk = CrashDisk::default();
        let mut datanet = opened(&disk).unwrap();
        for (given, is_commit) in entered.iter().zip(&commits) {
            datanet.accept(given.place, given.accepted(), &given.shard()).unwrap();
            if *is_commit {
                datanet.commit().unwrap();
            }
        }
        datanet.commit().unwrap();
        for reopened in [false, true] {
            if reopened {
                datanet = opened(&disk).unwrap();
            }
            for asked in asked {
                let asked = Given { place: Place { block: asked_at, ordinal: 0 }, ..asked.clone() };
                let Given { place, contribution: Contribution { contributor, licence, .. } } = &asked;
                let report = datanet.gate(*place, &asked.contribution).unwrap();
                prop_assert_eq!(report.to_json(), model(entered, &asked), "opened again: {}", reopened);
                prop_assert_eq!(report, datanet.gate_shard(*place, *contributor, licence, &asked.shard()).unwrap());
            }
        }
        prop_assert_eq!(datanet.accepted().count(), 9);
    }
}

#[test]
fn runs_are_merged_and_usage_is_there_after_opening_again() {
    let disk = CrashDisk::default();
    let mut datanet = opened(&disk).unwrap();
    for given in life() {
        given.enter(&mut datanet).unwrap();
        given.enter(&mut datanet).unwrap();
    }
    assert!(datanet.index().runs.len() <= 3, "{}", datanet.index().runs.len());
    assert_eq!(datanet.index().documents(), 80);
    let names = disk.names().unwrap();
    assert_eq!(names.len(), 5 + datanet.index().runs.len(), "a manifest, documents, outlines, broad ones, sets and the runs: {names:?}");
    let again = opened(&disk).unwrap();
    assert_eq!(again.usage(Address([1; 20])), datanet.usage(Address([1; 20])));
    assert_eq!(again.index().bytes(), datanet.index().bytes());
    assert!(matches!(
        datanet.accept(Place { block: 7, ordinal: 1 }, asked().accepted(), &asked().shard()),
        Err(AcceptError::PlaceTaken { .. })
    ));
}

/// Enters `life` on a disk until it fails; how many contributions were entered for certain.
fn run(disk: &CrashDisk) -> usize {
    let Ok(mut datanet) = opened(disk) else { return 0 };
    life().iter().take_while(|given| given.enter(&mut datanet).is_ok()).count()
}

/// That a disk holds `least` contributions, or the one under way as well, answers as the model, and takes the rest.
fn check(disk: &CrashDisk, least: usize, case: &str) {
    let mut datanet = opened(disk).unwrap_or_else(|error| panic!("{case}: {error}"));
    let (all, held) = (life(), datanet.accepted().count());
    assert!(held == least || held == least + 1, "{case}: {held} contributions, {least} were acknowledged");
    assert!(all[..held].iter().all(|given| datanet.accepted.contains_key(&given.place)), "{case}");
    let asked = asked();
    assert_eq!(datanet.gate(asked.place, &asked.contribution).unwrap().to_json(), model(&all[..held], &asked), "{case}");
    for given in &all {
        given.enter(&mut datanet).unwrap_or_else(|error| panic!("{case}: {error}"));
    }
    assert_eq!(datanet.gate(asked.place, &asked.contribution).unwrap().to_json(), model(&all, &asked), "{case}");
}

#[test]
fn what_was_committed_survives_a_power_cut_at_any_write() {
    let whole = CrashDisk::default();
    assert_eq!(run(&whole), 10);
    // A commit has some hundred changes, most of them in columns of a run that are written alike; the last ones of each are hit one by one below.
    for nth in (0..whole.changes()).step_by(31) {
        for seed in [0, 1, 2 + nth] {
            let disk = CrashDisk::default();
            disk.power_off_at(nth);
            let acknowledged = run(&disk);
            check(&disk.reboot(seed), acknowledged, &format!("power off at change {nth}, seed {seed}"));
        }
    }
}

#[test]
fn what_was_committed_survives_a_power_cut_at_any_of_the_last_writes_of_a_commit_that_merges() {
    // The fourth commit merges its run with the third one's, and what that makes with the first two's: three runs, the growing files, names, manifest, and what is removed.
    let (three, four) = (CrashDisk::default(), CrashDisk::default());
    for (disk, count) in [(&three, 3), (&four, 4)] {
        let mut datanet = opened(disk).unwrap();
        life()[..count].iter().for_each(|given| given.enter(&mut datanet).unwrap());
        assert_eq!(datanet.index().runs.len(), if count == 3 { 2 } else { 1 });
    }
    for nth in (four.changes() - 32)..four.changes() {
        for seed in [0, 1, 2 + nth] {
            let disk = CrashDisk::default();
            disk.power_off_at(nth);
            let acknowledged = run(&disk);
            check(&disk.reboot(seed), acknowledged, &format!("power off at change {nth}, seed {seed}"));
        }
    }
}

#[test]
fn a_full_disk_is_an_error_after_which_the_index_opens_as_it_was() {
    let whole = CrashDisk::default();
    run(&whole);
    for plight in [Plight::Full, Plight::Unsynced] {
        for nth in (0..whole.changes()).step_by(29) {
            let (disk, case) = (CrashDisk::default(), format!("{plight:?} at change {nth}"));
            disk.strike_at(nth, plight);
            let acknowledged = match opened(&disk) {
                Err(error) => {
                    assert!(!error.is_damage(), "{case}: {error}");
                    0
                }
                Ok(mut datanet) => {
                    let mut entered = 0;
                    for given in life() {
                        match given.enter(&mut datanet) {
                            Ok(()) => entered += 1,
                            Err(error) => {
                                assert!(matches!(&error, AcceptError::Disk(DiskError::Io { .. })), "{case}: {error}");
                                let next = given.enter(&mut datanet).unwrap_err();
                                assert!(matches!(next, AcceptError::Disk(DiskError::Stopped)), "{case}: {next}");
                                break;
                            }
                        }
                    }
                    entered
                }
            };
            disk.mend();
            check(&disk, acknowledged, &case);
        }
    }
}

#[test]
fn a_byte_that_rots_is_named_and_never_changes_an_answer() {
    let whole = CrashDisk::default();
    run(&whole);
    let asked = asked();
    let expected = model(&life(), &asked);
    let mut damaged = 0;
    for name in whole.names().unwrap() {
        let len = whole.len_of(&name);
        for at in (0..len).step_by((len / 37).max(1)).chain([len - 1]) {
            let disk = whole.copy();
            disk.rot(&name, at);
            match opened(&disk).and_then(|mut datanet| datanet.gate(asked.place, &asked.contribution)) {
                Ok(report) => assert_eq!(report.to_json(), expected, "{name}, byte {at}"),
                Err(error) => {
                    assert!(error.is_damage(), "{name}, byte {at}: {error}");
                    assert!(error.to_string().contains(&name) && error.to_string().contains("made anew from the shards"), "{error}");
                    damaged += 1;
                }
            }
        }
        let disk = whole.copy();
        disk.shorten(&name, len - 1);
        assert!(opened(&disk).is_err_and(|error| error.is_damage()), "{name} cut short");
        disk.delete(&name);
        let is_manifest = name.ends_with(".manifest");
        assert_eq!(opened(&disk).is_err_and(|error| error.is_damage()), !is_manifest, "{name} missing");
    }
    assert!(damaged > 100, "{damaged}");
}

#[test]
fn an_index_that_would_outgrow_its_room_takes_nothing_of_what_does_not_fit() {
    let disk = CrashDisk::default();
    let mut datanet = Datanet::of(card(), OnDisk::on(Arc::new(disk.clone()), 50_000).unwrap());
    let all = life();
    let entered = all.iter().take_while(|given| given.enter(&mut datanet).is_ok()).count();
    assert!((1..all.len()).contains(&entered), "{entered}");
    let error = all[entered].enter(&mut datanet).unwrap_err().to_string();
    assert!(error.contains("may take 50000 bytes and would need") && error.contains("give it more room"), "{error}");
    let asked = asked();
    assert_eq!(datanet.gate(asked.place, &asked.contribution).unwrap().to_json(), model(&all[..entered], &asked));
}

#[test]
fn a_bucket_longer_than_a_buffer_is_searched_and_only_the_earliest_candidates_are_compared() {
    // 30,000 equal short rows make a page of 97 kB; 600 templated ones share bands and are no copies.
    let equal = vec!["the same six words once more".to_owned(); 30_000];
    let templated: Vec<String> = (0..600).map(|version| text(1, 60, 18, version)).collect();
    let entered = [Given::new(5, &equal), Given::new(2, &templated), Given::new(3, &["the same six words once more".into()])];
    let disk = CrashDisk::default();
    let mut datanet = opened(&disk).unwrap();
    entered.iter().for_each(|given| given.enter(&mut datanet).unwrap());
    let asked = Given::new(6, &["the same six words once more again".into(), text(1, 60, 18, 999), "the same six words once more".into()]);
    let report = datanet.gate(asked.place, &asked.contribution).unwrap();
    assert_eq!(report.to_json(), model(&entered, &asked));
    assert!(report.refusals.iter().any(|refusal| refusal.detail.contains("block 3")), "{report:?}");
}

#[test]
fn a_folder_is_held_by_one_process_and_is_gone_when_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut datanet = Datanet::open(card(), &path, ROOM).unwrap();
    asked().enter(&mut datanet).unwrap();
    assert!(matches!(Datanet::open(card(), &path, ROOM), Err(DiskError::Folder(StoreError::Locked { .. }))));
    drop(datanet);
    assert_eq!(Datanet::open(card(), &path, ROOM).unwrap().accepted().count(), 1);
    OnDisk::remove(&path).unwrap();
    OnDisk::remove(&path).unwrap();
    assert_eq!(Datanet::open(card(), &path, ROOM).unwrap().accepted().count(), 0);
}

#[test]
fn rows_that_are_sifted_and_rows_that_are_walked_are_told_the_same() {
    // Families of 1 to 40 near copies and of as many that share a half: few candidates are sifted, many are walked, whatever was merged.
    let given: Vec<Given> = (1..=8)
        .map(|block| {
            let version = u32::try_from(block).unwrap();
            let near = (1..9).flat_map(|family| (0..family * 5 / 8).map(move |copy| text(family, 60, copy % 5, 100 * version + copy)));
            let half = (1..9).flat_map(|family| (0..family * 5 / 8).map(move |copy| text(50 + family, 60, 16, 100 * version + copy)));
            Given::new(block, &near.chain(half).collect::<Vec<_>>())
        })
        .collect();
    let disk = CrashDisk::default();
    let mut datanet = opened(&disk).unwrap();
    given.iter().for_each(|given| given.enter(&mut datanet).unwrap());
    let rows = (1..9).flat_map(|family| [text(family, 60, 3, 7), text(50 + family, 60, 16, 7), text(90 + family, 60, 0, 0)]);
    for block in [0, 4, 9] {
        let asked = Given { place: Place { block, ordinal: 0 }, ..Given::new(9, &rows.clone().collect::<Vec<_>>()) };
        assert_eq!(datanet.gate(asked.place, &asked.contribution).unwrap().to_json(), model(&given, &asked), "{block}");
    }
}

#[test]
fn documents_that_a_run_holds_are_found_before_they_are_committed() {
    let texts: Vec<String> = (0..70_000).map(|number| format!("row {number}")).collect();
    let (given, disk) = (Given::new(1, &texts), CrashDisk::default());
    let mut datanet = opened(&disk).unwrap();
    datanet.accept(given.place, given.accepted(), &given.shard()).unwrap();
    let asked = Given::new(2, &["row 7".into(), "row 65000".into(), "no row".into()]);
    let report = datanet.gate(asked.place, &asked.contribution).unwrap();
    assert!(report.refusals.iter().any(|refusal| refusal.row == 1), "{report:?}");
    datanet.commit().unwrap();
    assert_eq!(datanet.gate(asked.place, &asked.contribution).unwrap().to_json(), model(&[given], &asked));
}

#[test]
fn a_folder_of_an_earlier_version_says_that_it_has_to_be_made_anew() {
    let disk = CrashDisk::default();
    run(&disk);
    let name = disk.names().unwrap().into_iter().find(|name| name.ends_with(".manifest")).unwrap();
    let file = disk.open(&name).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read(0, &mut bytes).unwrap();
    bytes[8] = 1;
    let body = bytes.len() - 32;
    let hash = blake3::hash(&bytes[..body]);
    bytes[body..].copy_from_slice(hash.as_bytes());
    file.write(0, &bytes).unwrap();
    let error = opened(&disk).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("made anew from the shards"), "{error}");
}

#[test]
fn a_near_copy_behind_more_candidates_than_may_be_compared_is_found_neither_on_disk_nor_in_memory() {
    let row = text(1, 60, 14, 999_999);
    let copy = Given::new(9, &[format!("{row} more")]);
    for (count, is_found) in [(600, true), (8_000, false)] {
        // Three fifths alike: most share a band with the row, so of 8,000 more than are compared.
        let templated: Vec<String> = (0..count).map(|version| text(1, 60, 14, version)).collect();
        let (given, disk) = ([Given::new(3, &templated), copy.clone()], CrashDisk::default());
        let mut datanet = opened(&disk).unwrap();
        given.iter().for_each(|given| given.enter(&mut datanet).unwrap());
        let asked = Given::new(11, std::slice::from_ref(&row));
        let report = datanet.gate(asked.place, &asked.contribution).unwrap();
        assert_eq!(report.notes.iter().any(|note| note.detail.contains("block 9")), is_found, "{report:?}");
        assert_eq!(report.to_json(), model(&given, &asked));
    }
}

/// Where a file of the index holds any of these bytes.
fn holds(disk: &CrashDisk, wanted: &[u8]) -> Vec<String> {
    let names = disk.names().unwrap();
    let held = names.into_iter().filter(|name| {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read(0, &mut bytes).unwrap();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    });
    held.collect()
}

/// Digest and some shingles of each document: what would answer whether its text was there.
fn marks(given: &Given) -> Vec<Vec<u8>> {
    let documents = &given.contribution.documents;
    let batch = Batch::new(&Permutations::new(), Priority::default(), documents.iter().map(Document::text));
    let shingles = (0..batch.len()).flat_map(|row| batch.set(row).iter().step_by(7).map(|shingle| shingle.to_be_bytes().to_vec()));
    documents.iter().map(|document| document.digest().0.to_vec()).chain(shingles).collect()
}

/// Contributions without a phrase in common, the last of one very long document.
fn apart() -> Vec<Given> {
    let texts = |block: u32| (0..6).map(|row| text(100 * block + row, 30, 0, 0)).collect::<Vec<_>>();
    let mut all: Vec<Given> = (1..8).map(|block| Given::new(block.into(), &texts(block))).collect();
    all.push(Given::new(8, &[text(900, 1200, 0, 0), text(901, 40, 0, 0)]));
    all
}

#[test]
fn what_is_taken_out_has_left_every_file_and_the_rest_answers_as_if_it_had_never_been_there() {
    let (disk, all) = (CrashDisk::default(), apart());
    let mut datanet = opened(&disk).unwrap();
    all.iter().for_each(|given| given.enter(&mut datanet).unwrap());
    let (gone, left): (Vec<Given>, Vec<Given>) = all.into_iter().partition(|given| [1, 4, 8].contains(&given.place.block));
    for mark in gone.iter().flat_map(marks) {
        assert!(!holds(&disk, &mark).is_empty(), "what is looked for below is there before");
    }
    let usage = |datanet: &Datanet<OnDisk>| (0..5).map(|number| datanet.usage(Address([number; 20]))).collect::<Vec<_>>();
    datanet.forget(&gone.iter().map(|given| given.place).chain([Place { block: 99, ordinal: 0 }]).collect::<Vec<_>>()).unwrap();
    for is_reopened in [false, true] {
        if is_reopened {
            drop(datanet);
            datanet = opened(&disk).unwrap();
        }
        for mark in gone.iter().flat_map(marks) {
            assert_eq!(holds(&disk, &mark), Vec::<String>::new(), "{}", hex::encode(&mark));
        }
        assert!(left.iter().flat_map(marks).all(|mark| !holds(&disk, &mark).is_empty()));
        for asked in gone.iter().chain(&left).map(|given| Given { place: Place { block: 50, ordinal: 0 }, ..given.clone() }) {
            assert_eq!(datanet.gate(asked.place, &asked.contribution).unwrap().to_json(), model(&left, &asked));
        }
        assert_eq!((datanet.accepted().count(), datanet.index().forgotten()), (5, 14));
    }
    assert_eq!(usage(&datanet), usage(&opened_with(&left)), "limits count what is left");
    // It comes back as anything new does.
    gone.iter().for_each(|given| given.enter(&mut datanet).unwrap());
    let asked = Given { place: Place { block: 50, ordinal: 0 }, ..gone[2].clone() };
    assert_eq!(datanet.gate(asked.place, &asked.contribution).unwrap().to_json(), model(&apart(), &asked));
}

fn opened_with(given: &[Given]) -> Datanet<OnDisk> {
    let mut datanet = opened(&CrashDisk::default()).unwrap();
    given.iter().for_each(|given| given.enter(&mut datanet).unwrap());
    datanet
}

#[test]
fn a_power_cut_while_something_is_taken_out_leaves_it_entered_until_nothing_of_it_is_on_the_disk() {
    let begun = || {
        let disk = CrashDisk::default();
        let mut datanet = opened(&disk).unwrap();
        life().iter().for_each(|given| given.enter(&mut datanet).unwrap());
        (disk, datanet)
    };
    let gone = life()[3].place;
    let (first, last) = {
        let (disk, mut datanet) = begun();
        let first = disk.changes();
        datanet.forget(&[gone]).unwrap();
        (first, disk.changes())
    };
    let left: Vec<Given> = life().into_iter().filter(|given| given.place != gone).collect();
    for nth in (first..last).step_by(7).chain(last - 12..last) {
        for seed in [0, 1, 2 + nth] {
            let case = format!("power off at change {nth} of {first} to {last}, seed {seed}");
            let (disk, mut datanet) = begun();
            disk.power_off_at(nth - first);
            assert!(datanet.forget(&[gone]).is_err(), "{case}");
            let disk = disk.reboot(seed);
            let mut datanet = opened(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
            datanet.forget(&[gone]).unwrap_or_else(|error| panic!("{case}: {error}"));
            let asked = asked();
            assert_eq!(datanet.gate(asked.place, &asked.contribution).unwrap().to_json(), model(&left, &asked), "{case}");
            let digests = life()[3].contribution.documents.iter().map(|document| document.digest().0).collect::<Vec<_>>();
            let shared: Vec<_> =
                left.iter().flat_map(|given| given.contribution.documents.iter().map(|document| document.digest().0)).collect();
            for digest in digests.iter().filter(|digest| !shared.contains(digest)) {
                assert_eq!(holds(&disk, digest), Vec::<String>::new(), "{case}");
            }
        }
    }
}
