use std::{
    io::{Seek as _, SeekFrom, Write as _},
    sync::Barrier,
    time::{Duration, SystemTime},
};

use attribution::{
    index::{ReadError, Source, layout},
    parameters::Parameters,
    span,
};
use chain_bridge::registry::{Event, Logged};
use storage::datanet::{Document, contribution_text};
use tempfile::TempDir;
use types::{
    contribution::Priority,
    id::{Address, BlobId},
    manifest::{AssetKind, Manifest},
    split::SplitTable,
    text::{prompt_root, text_root},
    time::BlockRef,
};

use super::*;
use crate::{
    evidence,
    service::{
        index::{
            rereading,
            unneeded::{UNFINISHED, forget, listed},
        },
        inference::Offer,
    },
};

const NET: AssetId = AssetId(3);
const VERSION: AssetVersion = AssetVersion { asset: NET, version: 1 };

/// Contribution `number` of these documents, committed to in its order.
fn contribution(number: u64, texts: &[String]) -> LocalContribution {
    let documents: Vec<Document> = texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect();
    let text = contribution_text(&documents).into_bytes();
    let accepted = Accepted {
        datanet: NET,
        number,
        contributor: Address([u8::try_from(number).unwrap() + 1; 20]),
        text_root: text_root(&text),
        text_bytes: text.len() as u64,
        documents: u32::try_from(documents.len()).unwrap(),
        priority: Priority { block: 100 + number, ordinal: 0, document: 0 },
        licence: Hash32::ZERO,
        object: BlobId([u8::try_from(number).unwrap(); 32]),
        report: Hash32::ZERO,
        accepted: (200 + number, 0),
    };
    LocalContribution { accepted, documents, text, text_salt: None }
}

/// A text of `words` that stand nowhere else.
fn prose(seed: u64, words: u64) -> String {
    (0..words).map(|word| format!("w{:06x}", (seed * 10_007 + word) * 2_654_435_761 % 16_777_213)).collect::<Vec<_>>().join(" ")
}

fn contributions(count: u64) -> Vec<LocalContribution> {
    (0..count).map(|number| contribution(number, &[prose(number, 60), prose(100 + number, 60)])).collect()
}

/// The same contribution to a private Datanet.
fn private(local: LocalContribution) -> LocalContribution {
    let salt = Hash32([0x60 + u8::try_from(local.accepted.number).unwrap(); 32]);
    let accepted = Accepted { text_root: prompt_root(&local.text, salt), ..local.accepted.clone() };
    LocalContribution { accepted, text_salt: Some(salt), ..local }
}

fn plan_of(locals: &[LocalContribution]) -> Plan {
    Plan::new(VERSION, locals.iter().map(|local| local.accepted.clone()), [])
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// As a process that was just started has them.
    fn indexes(&self) -> Indexes {
        Indexes::of(&DataDir::new(self.0.path()), &Attribution::default())
    }

    fn folder(&self) -> PathBuf {
        self.indexes().folder(NET).unwrap()
    }

    /// Each file that is kept, with what tells whether it was written again.
    fn files(&self) -> BTreeMap<String, Stamp> {
        let kept = listed(&self.folder()).unwrap().into_iter().filter(|name| name != TURN);
        kept.map(|name| (name.clone(), Stamp::of(&File::open(self.folder().join(name)).unwrap()).unwrap())).collect()
    }
}

fn open(indexes: &Indexes, plan: &Plan, locals: &[LocalContribution]) -> Result<(Index, Made), StoreError> {
    let texts = &mut |accepted: &Accepted| {
        let found = locals.iter().find(|local| local.accepted.number == accepted.number);
        found.cloned().ok_or_else(|| anyhow::anyhow!("no copy of contribution {}", accepted.number))
    };
    let (datanet, made) = indexes.open(plan, texts, &mut go_on)?;
    Ok((Index::new(vec![Arc::new(datanet)])?, made))
}

#[test]
fn a_restart_opens_what_is_there_and_neither_reads_text_nor_writes_a_file() {
    let (place, locals) = (Place::new(), contributions(3));
    let plan = plan_of(&locals);
    let (first, made) = open(&place.indexes(), &plan, &locals).unwrap();
    assert_eq!((made.built.len(), made.is_searched), (plan.segments.len(), true));
    let files = place.files();
    assert_eq!(files.keys().cloned().collect::<BTreeSet<_>>(), plan.files().collect(), "nothing but what the plan names");
    let (again, made) = open(&place.indexes(), &plan, &[]).unwrap();
    assert_eq!((made, again.root(), place.files()), (Made::default(), first.root(), files));
    assert!(place.indexes().needed(&plan).unwrap().is_empty());
    let (in_memory, _) = open(&Indexes::in_memory(), &plan, &locals).unwrap();
    assert_eq!(in_memory.root(), first.root());
}

#[test]
fn one_segment_has_the_root_of_all_contributions_in_one() {
    let locals = contributions(4);
    let plan = plan_of(&locals);
    assert_eq!(plan.segments.len(), 1);
    let sources: Vec<Source<'_>> = locals
        .iter()
        .map(|LocalContribution { accepted, text, .. }| Source {
            contributor: accepted.contributor,
            block: accepted.priority.block,
            ordinal: 0,
            text_root: accepted.text_root,
            text,
        })
        .collect();
    let whole = DatanetIndex::new(VERSION, vec![Segment::build(&sources, 0).unwrap()]).unwrap();
    let (index, _) = open(&Place::new().indexes(), &plan, &locals).unwrap();
    assert_eq!(index.root(), Index::new(vec![Arc::new(whole)]).unwrap().root());
}

#[test]
fn a_new_version_builds_its_new_segments_alone_and_leaves_the_others_as_they_are() {
    let (place, locals) = (Place::new(), contributions(9));
    for count in 1..=locals.len() {
        let (plan, before) = (plan_of(&locals[..count]), place.files());
        let (index, made) = open(&place.indexes(), &plan, &locals).unwrap();
        let last = plan.segments.len() - 1;
        assert_eq!(made.built, [last], "{count}: what is accepted last joins the last segment");
        assert_eq!(plan.segments.len(), layout(&vec![1_000; count]).len());
        let after = place.files();
        assert!(before.iter().all(|(name, stamp)| after.get(name) == Some(stamp)), "{count}");
        let (at_once, _) = open(&Indexes::in_memory(), &plan, &locals).unwrap();
        assert_eq!(index.root(), at_once.root(), "{count}");
    }
}

#[test]
fn a_file_that_is_not_what_it_should_be_is_named_set_aside_and_built_again() {
    let (place, locals) = (Place::new(), contributions(2));
    let plan = plan_of(&locals);
    let root = open(&place.indexes(), &plan, &locals).unwrap().0.root();
    let path = place.folder().join(plan.segments[0].id.file_name());
    let whole = fs::read(&path).unwrap();
    let other = {
        let (place, locals) = (Place::new(), contributions(1));
        let plan = plan_of(&locals);
        open(&place.indexes(), &plan, &locals).unwrap();
        fs::read(place.folder().join(plan.segments[0].id.file_name())).unwrap()
    };
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes
    };
    let table = [
        (whole[..whole.len() - 1].to_vec(), "cut off"),
        ([&whole[..], b"x"].concat(), "added to"),
        (Vec::new(), "cut off"),
        (vec![0; whole.len()], "does not begin as one"),
        (other, "of other contributions"),
        (flipped(3), "does not begin as one"),
        (flipped(20), "header is damaged"),
        (flipped(4_096 + 7), "section text"),
        (flipped(whole.len() / 2), "is damaged"),
        (flipped(whole.len() - 40), "array tree"),
    ];
    for (bytes, says) in table {
        fs::write(&path, &bytes).unwrap();
        let (index, made) = open(&place.indexes(), &plan, &locals).unwrap();
        assert_eq!((index.root(), made.built), (root, vec![0]), "{says}");
        let said = &made.set_aside[0];
        assert!(said.contains(says) && said.contains(path.to_str().unwrap()), "{says}: {said}");
        assert_eq!(fs::read(path.with_extension("seg.damaged")).unwrap(), bytes, "{says}");
        assert_eq!(fs::read(&path).unwrap(), whole, "{says}");
    }
    // Without its text it is not built, and not answered from either.
    fs::write(&path, flipped(4_096 + 7)).unwrap();
    let error = open(&place.indexes(), &plan, &[]).unwrap_err();
    assert!(matches!(&error, StoreError::Missing { version: VERSION, .. }), "{error}");
    assert!(error.to_string().contains("no copy of contribution 0"), "{error}");
}

#[test]
fn text_that_changes_under_an_index_is_not_attributed_and_its_segment_is_built_again() {
    let (place, locals) = (Place::new(), contributions(2));
    let plan = plan_of(&locals);
    let indexes = Arc::new(place.indexes());
    let (index, _) = open(&indexes, &plan, &locals).unwrap();
    let manifest = Manifest { assets: vec![], split: SplitTable::default(), index: index.root(), parameters: 1, datanets: vec![] };
    let offer = |index| Offer { manifest: manifest.clone(), index: Arc::new(index), adapter: None, indexes: Arc::clone(&indexes) };
    let served = offer(index);
    let answer = format!("It reads: {}.", locals[0].documents[0].text());
    let found = evidence::attribute(&served, b"", &answer).unwrap();
    assert!(!found.1.is_empty());
    let (nothing, openings) = evidence::attribute(&served, b"", "Quite other words than those that somebody wrote.").unwrap();
    assert!(nothing.spans.is_empty() && openings.is_empty(), "an answer without a match has no spans");

    // The same file, another byte in it, at the end of the leaf that the span's first word stands in.
    let path = place.folder().join(plan.segments[0].id.file_name());
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(4_096 + 300)).unwrap();
    file.write_all(b"~").unwrap();
    drop(file);
    let refused = evidence::attribute(&served, b"", &answer).unwrap_err();
    let id = plan.segments[0].id;
    assert!(matches!(refused.downcast_ref(), Some(ReadError::Changed { segment, .. }) if *segment == id), "{refused:#}");
    assert_eq!(indexes.take_suspects(), BTreeSet::from([id]));
    let (again, made) = open(&indexes, &plan, &locals).unwrap();
    assert!(made.built == [0] && made.set_aside[0].contains("section text"), "{made:?}");
    let healed = evidence::attribute(&offer(again), b"", &answer).unwrap();
    assert_eq!(healed.0.spans, found.0.spans);
    assert!(indexes.take_suspects().is_empty());
}

/// Where a segment's array lies in its file.
fn array_in(file: &[u8], segment: &Segment) -> usize {
    let bytes: Vec<u8> = segment.array().iter().flat_map(u32::to_le_bytes).collect();
    file.windows(bytes.len()).position(|window| window == bytes).expect("the array lies in the file")
}

/// Changes bytes of a file in place.
fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(bytes).unwrap();
}

/// As if it had been written long ago: what is written from now on is written at another time.
fn aged(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
}

#[test]
fn an_array_that_changes_under_an_index_hides_a_match_and_no_receipt_is_made_of_that() {
    let (place, locals) = (Place::new(), contributions(2));
    let plan = plan_of(&locals);
    let path = place.folder().join(plan.segments[0].id.file_name());
    open(&place.indexes(), &plan, &locals).unwrap();
    aged(&path);
    let indexes = Arc::new(place.indexes());
    let (index, made) = open(&indexes, &plan, &locals).unwrap();
    assert_eq!(made.built, [] as [usize; 0]);
    let id = plan.segments[0].id;
    let answer = format!("It reads: {}.", locals[0].documents[0].text());
    let file = fs::read(&path).unwrap();
    let manifest = Manifest { assets: vec![], split: SplitTable::default(), index: index.root(), parameters: 1, datanets: vec![] };
    let offer = |index| Offer { manifest: manifest.clone(), index: Arc::new(index), adapter: None, indexes: Arc::clone(&indexes) };
    let served = offer(index);
    let (found, _) = evidence::attribute(&served, b"", &answer).unwrap();
    assert!(!found.spans.is_empty());

    // Every entry points at the text's end: nothing is found any more, and nothing that is found is false.
    let segment = &served.index.datanets()[0].segments()[0];
    let beyond = u32::try_from(segment.text().len()).unwrap().to_le_bytes().repeat(segment.array().len());
    overwrite(&path, array_in(&file, segment), &beyond);
    let parameters = Parameters::builtin(1).unwrap();
    let hidden = span::attribute(&served.index, parameters, b"", &answer).unwrap();
    assert_eq!(hidden.spans, [], "the search itself sees nothing");
    let refused = evidence::attribute(&served, b"", &answer).unwrap_err();
    assert!(matches!(refused.downcast_ref(), Some(ReadError::Written { datanet: 0, segment }) if *segment == id), "{refused:#}");
    assert_eq!(indexes.take_suspects(), BTreeSet::from([id]));
    let (again, made) = open(&indexes, &plan, &locals).unwrap();
    assert!(made.built == [0] && made.set_aside[0].contains("section array"), "{made:?}");
    assert_eq!(evidence::attribute(&offer(again), b"", &answer).unwrap().0.spans, found.spans);

    // The old file is nobody's concern any more; one that was only touched is read whole, and answered from again.
    aged(&path);
    let (index, made) = open(&indexes, &plan, &locals).unwrap();
    assert!(made.built.is_empty() && made.set_aside.is_empty(), "{made:?}");
    let served = offer(index);
    overwrite(&path, 0, &file[..1]);
    assert!(evidence::attribute(&served, b"", &answer).is_err());
    let (again, made) = open(&indexes, &plan, &locals).unwrap();
    assert!(made.built.is_empty() && made.set_aside.is_empty(), "{made:?}");
    assert_eq!(evidence::attribute(&offer(again), b"", &answer).unwrap().0.spans, found.spans);
}

#[test]
fn what_no_file_tells_of_is_found_when_its_segments_turn_comes_to_be_read_again() {
    let (place, locals) = (Place::new(), contributions(3));
    let plan = plan_of(&locals);
    open(&place.indexes(), &plan, &locals).unwrap();
    let paths: Vec<PathBuf> = plan.segments.iter().map(|planned| place.folder().join(planned.id.file_name())).collect();
    paths.iter().for_each(|path| aged(path));
    let indexes = Arc::new(place.indexes());
    let index = Arc::new(open(&indexes, &plan, &locals).unwrap().0);
    let served = [Arc::clone(&index)];
    let mut turns = Vec::new();
    for _ in 0..2 * paths.len() {
        let (_, id) = rereading::next(&served, turns.last().copied()).unwrap();
        rereading::read(&index, id, &indexes);
        turns.push(id);
    }
    let mut ids: Vec<_> = plan.segments.iter().map(|planned| planned.id).collect();
    ids.sort();
    assert_eq!(turns, [&ids[..], &ids[..]].concat(), "each has its turn");
    assert!(indexes.take_suspects().is_empty() && rereading::next(&[], None).is_none());

    // A disk that rots sets no time.
    let segment = &index.datanets()[0].segments()[0];
    let at = array_in(&fs::read(&paths[0]).unwrap(), segment);
    overwrite(&paths[0], at, &[0xff; 4]);
    aged(&paths[0]);
    assert_eq!(index.check_unwritten(), Ok(()));
    turns.iter().for_each(|id| rereading::read(&index, *id, &indexes));
    assert_eq!(indexes.take_suspects(), BTreeSet::from([segment.id()]));
    let (_, made) = open(&indexes, &plan, &locals).unwrap();
    assert!(made.built == [0] && made.set_aside[0].contains("section array"), "{made:?}");
}

#[test]
fn rows_that_change_under_an_index_are_read_again_too() {
    let (place, locals) = (Place::new(), contributions(2));
    let plan = plan_of(&locals);
    let indexes = Arc::new(place.indexes());
    let (index, _) = open(&indexes, &plan, &locals).unwrap();
    let segment = &index.datanets()[0].segments()[0];
    // Where its rows begin: behind the header, the text with what a window needs, and a record for each contribution.
    let rows = 4_096 + (segment.text().len() + 256).next_multiple_of(64) + (76 * locals.len()).next_multiple_of(64);
    let beyond = vec![0xff; 4 * segment.documents().len()];
    let manifest = Manifest { assets: vec![], split: SplitTable::default(), index: index.root(), parameters: 1, datanets: vec![] };
    let served = Offer { manifest, index: Arc::new(index), adapter: None, indexes: Arc::clone(&indexes) };
    let answer = format!("It reads: {}.", locals[0].documents[0].text());
    assert!(!evidence::attribute(&served, b"", &answer).unwrap().0.spans.is_empty());

    let path = place.folder().join(plan.segments[0].id.file_name());
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(rows as u64)).unwrap();
    file.write_all(&beyond).unwrap();
    drop(file);
    let refused = evidence::attribute(&served, b"", &answer).unwrap_err();
    assert!(refused.to_string().contains("has changed under the search"), "{refused:#}");
    assert_eq!(indexes.take_suspects(), BTreeSet::from([plan.segments[0].id]), "nothing is answered from it before it is read whole");
    let (_, made) = open(&indexes, &plan, &locals).unwrap();
    assert!(made.built == [0] && made.set_aside[0].contains("section documents"), "{made:?}");
}

#[test]
fn a_build_that_is_broken_off_goes_on_and_leaves_nothing_unfinished() {
    let (place, locals) = (Place::new(), contributions(2));
    let plan = plan_of(&locals);
    for breaks in [true, false] {
        let texts = &mut |accepted: &Accepted| Ok(locals[usize::try_from(accepted.number).unwrap()].clone());
        let told = &mut |step: Step| match step.progress {
            Progress::Laid { .. } if breaks => ControlFlow::Break(()),
            Progress::Sorted { .. } => ControlFlow::Break(()),
            Progress::Laid { .. } => ControlFlow::Continue(()),
        };
        let error = place.indexes().open(&plan, texts, told).unwrap_err();
        assert!(matches!(error, StoreError::Build { error: BuildFileError::Stopped, .. }), "{error}");
        assert!(place.files().keys().all(|name| UNFINISHED.contains(&name.as_str())), "{:?}", place.files());
    }
    let (index, made) = open(&place.indexes(), &plan, &locals).unwrap();
    assert_eq!(made.built, [0]);
    assert_eq!(index.root(), open(&Indexes::in_memory(), &plan, &locals).unwrap().0.root());
    assert_eq!(place.files().into_keys().collect::<BTreeSet<_>>(), plan.files().collect());
}

#[test]
fn of_two_that_want_one_index_at_once_one_builds_it() {
    let (place, locals) = (Place::new(), contributions(2));
    let (plan, start) = (plan_of(&locals), Barrier::new(2));
    let one = || {
        start.wait();
        open(&place.indexes(), &plan, &locals).unwrap().1.built.len()
    };
    let built: usize = std::thread::scope(|scope| [scope.spawn(one), scope.spawn(one)].map(|thread| thread.join().unwrap())).iter().sum();
    assert_eq!(built, plan.segments.len());
}

#[test]
fn what_cannot_be_an_index_is_refused_by_its_reason() {
    let (place, locals) = (Place::new(), contributions(2));
    let (plan, indexes) = (plan_of(&locals), place.indexes());
    let with = |change: &dyn Fn(&mut LocalContribution)| {
        let mut changed = locals.clone();
        change(&mut changed[1]);
        [open(&indexes, &plan, &changed).unwrap_err(), open(&Indexes::in_memory(), &plan, &changed).unwrap_err()]
    };
    let [on_disk, in_memory] = with(&|local| local.text_salt = Some(Hash32([1; 32])));
    assert!(matches!(on_disk, StoreError::Salted { number: 1, .. }), "{on_disk}");
    assert!(matches!(in_memory, StoreError::Contributions { error: BuildError::Mixed { source_number: 1, .. }, .. }), "{in_memory}");
    for error in with(&|local| local.text.push(0)) {
        assert!(matches!(error, StoreError::Length { number: 1, .. }), "{error}");
    }
    for error in with(&|local| local.text[3] ^= 1) {
        assert!(error.to_string().contains("registered is"), "{error}");
    }
    assert!(place.files().keys().all(|name| UNFINISHED.contains(&name.as_str())), "nothing that was refused is kept");
    fs::remove_dir_all(place.folder()).unwrap();
    fs::write(place.folder(), "no folder").unwrap();
    let error = open(&indexes, &plan, &locals).unwrap_err();
    assert!(matches!(error, StoreError::File { .. }), "{error}");
}

#[test]
fn a_private_datanet_is_indexed_by_its_salts_in_memory_and_a_client_is_shown_places_and_no_text() {
    let (place, locals) = (Place::new(), contributions(2).into_iter().map(private).collect::<Vec<_>>());
    let plan = plan_of(&locals).private(true);
    let (index, made) = open(&place.indexes(), &plan, &locals).unwrap();
    assert!(index.datanets()[0].is_private() && made.built == [0]);
    assert!(!place.folder().exists(), "no file shows its text");
    assert_eq!(place.indexes().needed(&plan).unwrap().len(), 2, "a restart reads its shards again");
    assert_eq!(open(&Indexes::in_memory(), &plan, &locals).unwrap().0.root(), index.root());
    assert_eq!(misread(&index.datanets()[0].segments()[0], &plan.segments[0]), None);
    let answer = format!("It reads: {}.", locals[0].documents[0].text());
    let manifest = Manifest { assets: vec![], split: SplitTable::default(), index: index.root(), parameters: 1, datanets: vec![] };
    let offer = Offer { manifest, index: Arc::new(index), adapter: None, indexes: Arc::new(place.indexes()) };
    let (found, openings) = evidence::attribute(&offer, b"", &answer).unwrap();
    assert!(!found.spans.is_empty() && openings.iter().all(|open| open.text.is_none() && open.is_private() == Some(true)));
    // Who has another salt has another text under the same root.
    let mut wrong = locals.clone();
    wrong[1].text_salt = Some(Hash32([1; 32]));
    let error = open(&place.indexes(), &plan, &wrong).unwrap_err();
    assert!(error.to_string().contains("registered is"), "{error}");
    // Books that do not say so do not bring its text onto a disk.
    let error = open(&place.indexes(), &plan_of(&locals), &locals).unwrap_err();
    assert!(matches!(error, StoreError::Salted { number: 0, .. }), "{error}");
    assert!(place.files().keys().all(|name| UNFINISHED.contains(&name.as_str())));
}

#[test]
fn a_datanet_of_no_text_has_an_index_in_which_nothing_is_found() {
    let (place, locals) = (Place::new(), contributions(1));
    let none = Plan::new(VERSION, [], []);
    let erased = Plan::new(VERSION, [], [locals[0].accepted.clone()]);
    for (plan, segments, rows) in [(&none, 0, 0), (&erased, 1, 1)] {
        let (index, made) = open(&place.indexes(), plan, &[]).unwrap();
        assert_eq!((made.built.len(), index.find_longest(b"w000000 w"), index.holder(b"w")), (segments, 0, None));
        let documents = |index: &Index| index.datanets()[0].segments().iter().map(|segment| segment.documents().len()).sum::<usize>();
        assert_eq!(documents(&index), rows);
        assert_eq!(index.root(), open(&Indexes::in_memory(), plan, &[]).unwrap().0.root());
        assert_eq!(open(&place.indexes(), plan, &[]).unwrap().1, Made::default());
    }
}

#[test]
fn a_near_copy_in_a_later_segment_is_paid_through_the_first_and_is_looked_for_once() {
    let original = prose(7, 120);
    let (copy, others) = (format!("{original} and a word"), prose(50, 20));
    let large: Vec<String> = (0..4).map(|seed| prose(seed, 120)).chain([original]).collect();
    let locals = [contribution(0, &large), contribution(1, &[copy, others.clone()])];
    let (place, plan) = (Place::new(), plan_of(&locals));
    assert_eq!(plan.segments.len(), 2);
    let (index, made) = open(&place.indexes(), &plan, &locals).unwrap();
    assert!(made.is_searched);
    let payee = |index: &Index, text: &[u8]| index.holder(text).unwrap().payee;
    let own = locals.each_ref().map(|local| local.accepted.contributor);
    assert_eq!((payee(&index, b"and a word"), payee(&index, others.as_bytes())), (own[0], own[1]));
    let file = place.folder().join(plan.rows_file());
    let bytes = fs::read(&file).unwrap();
    for damaged in [bytes[..bytes.len() - 1].to_vec(), vec![], vec![7; 100_000], near::encode("another", &Clusters::default())] {
        fs::write(&file, damaged).unwrap();
        let (again, made) = open(&place.indexes(), &plan, &[]).unwrap();
        assert!(made.is_searched && made.built.is_empty() && made.set_aside.len() == 1, "{made:?}");
        assert_eq!((again.root(), fs::read(&file).unwrap()), (index.root(), bytes.clone()));
    }
}

/// Books of a Datanet of these contributions, with a version after so many of them each, and requests to erase some before any version that is after more.
fn books(locals: &[LocalContribution], versions: &[usize], erased: &[u64]) -> State {
    let owner = Address([9; 20]);
    let uri = r#"{"name":"a","description":"","licence":"MIT","languages":[],"tags":[]}"#.to_owned();
    let mut events = vec![Event::Registered { asset: NET, kind: AssetKind::Datanet, owner, uri }];
    for (count, local) in (1..).zip(locals) {
        events.push(accepted(&local.accepted));
        publish(&mut events, versions.iter().filter(|after| **after == count).count());
    }
    let object = |number: u64| locals[usize::try_from(number).unwrap()].accepted.object;
    let reason = Hash32([1; 32]);
    events.extend(erased.iter().map(|number| Event::Erased { datanet: NET, number: *number, by: owner, object: object(*number), reason }));
    publish(&mut events, versions.iter().filter(|after| **after > locals.len()).count());
    let mut state = State::default();
    for (number, event) in (1..).zip(events) {
        let block = BlockRef { number: 200 + number, hash: Hash32::ZERO };
        state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
    }
    state
}

fn accepted(accepted: &Accepted) -> Event {
    let Accepted { datanet, number, contributor, text_root, text_bytes, documents, priority, licence, object, report, .. } = *accepted;
    let Priority { block, ordinal, .. } = priority;
    Event::Accepted { datanet, number, contributor, text_root, text_bytes, documents, block, ordinal, licence, object, report }
}

fn publish(events: &mut Vec<Event>, times: usize) {
    let (content, split, licence) = (BlobId([1; 32]), SplitTable::default(), Hash32::ZERO);
    for _ in 0..times {
        let before = events.iter().filter(|event| matches!(event, Event::Published { .. })).count();
        let version = AssetVersion { asset: NET, version: u32::try_from(before).unwrap() + 1 };
        let (parents, datanets) = (vec![], vec![]);
        events.push(Event::Published { version, content, parents, split, datanets, licence, parent_share_min: 0 });
    }
}

#[test]
fn files_that_no_version_in_use_names_are_deleted_and_erased_text_is_in_none() {
    let (place, locals) = (Place::new(), contributions(3));
    let at = |version| AssetVersion { asset: NET, version };
    let state = books(&locals, &[2, 3], &[]);
    for version in [1, 2] {
        open(&place.indexes(), &Plan::of(&state, at(version)).unwrap(), &locals).unwrap();
    }
    let (first, second) = (Plan::of(&state, at(1)).unwrap(), Plan::of(&state, at(2)).unwrap());
    assert_eq!(first.segments, second.segments[..1], "the second version keeps the first's segment");
    fs::write(place.folder().join("S0000000000000000.seg.damaged"), "set aside once").unwrap();
    assert_eq!(place.indexes().prune(&state).unwrap(), 2, "the first's near copies, and what was set aside of a segment that nobody needs");
    let left = |place: &Place| place.files().into_keys().collect::<BTreeSet<String>>();
    assert_eq!(left(&place), second.files().collect());
    assert_eq!(place.indexes().prune(&state).unwrap(), 0);

    // Somebody has the second contribution erased: its text stands in the first segment.
    fs::write(place.folder().join(UNFINISHED[0]), &locals[1].text).unwrap();
    let state = books(&locals, &[2, 3], &[1]);
    assert!(Plan::of(&state, at(2)).is_err());
    forget(&DataDir::new(place.0.path()), &state).unwrap();
    assert_eq!(left(&place), BTreeSet::new());
    let state = books(&locals, &[2, 3, 9], &[1]);
    let third = Plan::of(&state, at(3)).unwrap();
    assert_eq!(third.segments.iter().map(|planned| planned.pieces.len()).collect::<Vec<_>>(), [2, 1], "bounds stay where they were");
    let without: Vec<LocalContribution> = [0, 2].map(|kept: usize| locals[kept].clone()).into();
    let (index, _) = open(&place.indexes(), &third, &without).unwrap();
    assert_eq!(index.holder(locals[1].documents[0].text().split(' ').next().unwrap().as_bytes()), None);
    forget(&DataDir::new(place.0.path()), &state).unwrap();
    assert_eq!(left(&place), third.files().collect(), "what the next version needs stays");
}
