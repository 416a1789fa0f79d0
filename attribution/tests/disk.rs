//! Segments as files: the same bytes whatever builds them, taken up where a build was broken off, damage named.
#![cfg(feature = "disk")]
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod texts;

use std::{convert::Infallible, fs, num::NonZeroUsize, ops::ControlFlow, path::Path, sync::Arc};

use attribution::{
    disk::{BuildFileError, BuildOptions, OpenError, OwnedEntry, Progress, build_segment, open_segment, write_segment},
    index::{DatanetIndex, Entry, FormatError, Index, Segment, SegmentId, Tombstone, layout},
};
use proptest::prelude::*;
use types::{
    id::{Address, AssetId, AssetVersion, Hash32},
    merkle::{self, keccak},
    text::{leaf_salt, prompt_root, text_root},
};

const MIB: u64 = 1 << 20;

fn owned(texts: &[String]) -> Vec<OwnedEntry> {
    let entry = |(text, block): (&String, u64)| OwnedEntry::Text {
        contributor: Address([u8::try_from(block % 200).unwrap(); 20]),
        block,
        ordinal: 0,
        text_root: text_root(text.as_bytes()),
        text: text.clone().into_bytes(),
        salt: None,
    };
    texts.iter().zip(1..).map(entry).collect()
}

fn borrowed(entries: &[OwnedEntry]) -> Vec<Entry<'_>> {
    entries.iter().map(OwnedEntry::as_entry).collect()
}

fn in_memory(entries: &[OwnedEntry]) -> Segment {
    Segment::build_entries(&borrowed(entries), 0).unwrap()
}

fn options(memory_bytes: u64, threads: usize) -> BuildOptions {
    BuildOptions { memory_bytes, threads: NonZeroUsize::new(threads).unwrap() }
}

fn build(
    folder: &Path,
    entries: &[OwnedEntry],
    options: &BuildOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<u8>, BuildFileError> {
    let path = build_segment(folder, entries.iter().cloned().map(Ok::<_, Infallible>), options, progress)?;
    Ok(fs::read(path).unwrap())
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_file_has_the_same_bytes_in_any_memory_with_any_threads_and_as_built_in_memory() {
    let mut entries = owned(&texts::prose(3, 400_000));
    entries.insert(0, OwnedEntry::Erased(Tombstone { block: 0, ordinal: 7, text_root: Hash32([9; 32]) }));
    entries.push(OwnedEntry::Erased(Tombstone { block: 90, ordinal: 0, text_root: Hash32([8; 32]) }));
    let expected = in_memory(&entries);
    for (memory, threads) in [(20, 1), (24, 2), (64, 1), (64, 8), (1_024, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let mut sorted = Vec::new();
        let bytes = build(folder.path(), &entries, &options(memory * MIB, threads), &mut |progress| {
            sorted.extend(matches!(progress, Progress::Sorted { .. }).then_some(progress));
            ControlFlow::Continue(())
        });
        assert!(bytes.unwrap() == expected.to_bytes(), "{memory} MiB, {threads} threads");
        let all = u64::try_from(expected.array().len()).unwrap();
        assert_eq!(sorted.last(), Some(&Progress::Sorted { entries: all, of: all }));
        assert!(memory > 24 || sorted.len() > 2, "{sorted:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the segment is left");
    }
}

#[test]
fn salted_leaves_are_the_same_in_a_file_and_in_memory_and_in_every_piece_of_the_array() {
    let salted = |entry: OwnedEntry| match entry {
        OwnedEntry::Text { contributor, block, ordinal, text, .. } => {
            let salt = Hash32([u8::try_from(block % 251).unwrap(); 32]);
            OwnedEntry::Text { contributor, block, ordinal, text_root: prompt_root(&text, salt), text, salt: Some(salt) }
        }
        erased @ OwnedEntry::Erased(_) => erased,
    };
    let entries: Vec<OwnedEntry> = owned(&texts::prose(3, 400_000)).into_iter().map(salted).collect();
    let expected = in_memory(&entries);
    assert!(expected.is_salted() && expected.array().len() > 61_440, "{} entries, a piece has 61,440", expected.array().len());
    for threads in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let bytes = build(folder.path(), &entries, &options(64 * MIB, threads), &mut go_on).unwrap();
        assert!(bytes == expected.to_bytes(), "{threads} threads");
        let opened = open_segment(&folder.path().join(expected.id().file_name()), Some(expected.id())).unwrap();
        assert_eq!((opened.verify(), opened.leaf(0)), (Ok(()), expected.leaf(0)));
    }
    // The array's root is that of its leaves one by one, each behind its salt.
    let salts: Vec<u8> = (1..=entries.len()).flat_map(|block| [u8::try_from(block % 251).unwrap(); 32]).collect();
    let salt = keccak(&[b"tributary/array-salt/v1", &salts]);
    let ranks = |leaf: usize| 15 * leaf..(15 * leaf + 16).min(expected.array().len());
    let entry = |start: u32| [&[0][..], &start.to_be_bytes()].concat();
    let leaf =
        |leaf: usize| [leaf_salt(salt, leaf).0.to_vec(), expected.array().slice(ranks(leaf)).iter().flat_map(entry).collect()].concat();
    let leaves = expected.array().len().div_ceil(15);
    let bytes = u64::try_from(5 * (expected.array().len() + leaves - 1)).unwrap();
    assert_eq!(merkle::root(merkle::leaf_digests((0..leaves).map(leaf)), bytes), expected.leaf(0).array);
}

#[test]
fn text_that_is_hard_to_sort_is_sorted_in_little_memory() {
    for (name, texts) in texts::pathological(60_000) {
        let entries = owned(&texts);
        let expected = in_memory(&entries);
        let folder = tempfile::tempdir().unwrap();
        let bytes = build(folder.path(), &entries, &options(20 * MIB, 1), &mut go_on).unwrap();
        assert!(bytes == expected.to_bytes(), "{name}");
    }
}

#[test]
fn a_group_that_no_key_divides_is_sorted_in_slices_and_merged() {
    // 240,000 equal beginnings, and room for some 50,000.
    let text = format!("{}\0{}\0", "a ".repeat(120_000), "a ".repeat(120_000));
    let entries = owned(&[text]);
    let folder = tempfile::tempdir().unwrap();
    let bytes = build(folder.path(), &entries, &options(20 * MIB, 1), &mut go_on).unwrap();
    assert!(bytes == in_memory(&entries).to_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]
    #[test]
    fn a_build_broken_off_at_any_groups_ends_with_the_same_bytes(stops in proptest::collection::vec(0..4_usize, 1..5), damage in proptest::option::of((any::<bool>(), any::<prop::sample::Index>()))) {
        let entries = owned(&texts::prose(5, 300_000));
        let expected = in_memory(&entries);
        let folder = tempfile::tempdir().unwrap();
        let options = options(20 * MIB, 1);
        let mut before = 0;
        for stop in stops {
            let mut left = stop;
            let broken = build(folder.path(), &entries, &options, &mut |progress| match progress {
                Progress::Sorted { entries, .. } if left == 0 => {
                    before = before.max(entries);
                    ControlFlow::Break(())
                }
                Progress::Sorted { entries, .. } => {
                    assert!(entries > before, "what is done is not done again");
                    left -= 1;
                    ControlFlow::Continue(())
                }
                Progress::Laid { .. } => ControlFlow::Continue(()),
            });
            match broken {
                Err(BuildFileError::Stopped) => {}
                other => {
                    prop_assert!(other.unwrap() == expected.to_bytes());
                    return Ok(());
                }
            }
        }
        if let Some((is_journal, at)) = damage {
            let path = folder.path().join(if is_journal { "building.journal" } else { "building.part" });
            let mut bytes = fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 0x10;
            fs::write(&path, bytes).unwrap();
        }
        prop_assert!(build(folder.path(), &entries, &options, &mut go_on).unwrap() == expected.to_bytes());
    }
}

#[test]
fn another_builds_leftovers_do_not_show() {
    let (first, second) = (owned(&texts::prose(1, 300_000)), owned(&texts::prose(2, 200_000)));
    let folder = tempfile::tempdir().unwrap();
    let stopped = build(folder.path(), &first, &options(20 * MIB, 1), &mut |progress| match progress {
        Progress::Sorted { .. } => ControlFlow::Break(()),
        Progress::Laid { .. } => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(BuildFileError::Stopped)));
    assert!(build(folder.path(), &second, &options(20 * MIB, 1), &mut go_on).unwrap() == in_memory(&second).to_bytes());
}

#[test]
fn a_build_that_cannot_be_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let entries = owned(&texts::prose(1, 10_000));
    let Err(BuildFileError::Memory { least, got }) = build(folder.path(), &entries, &options(MIB, 1), &mut go_on) else {
        panic!("too little")
    };
    assert!(got == MIB && build(folder.path(), &entries, &options(least, 1), &mut go_on).is_ok(), "{least}");
    let unread = [Err("no such shard")];
    let failed = build_segment(folder.path(), unread, &options(64 * MIB, 1), &mut go_on).unwrap_err();
    assert_eq!(failed.to_string(), "the next contribution cannot be read: no such shard");
    let twice = [entries[0].clone(), entries[0].clone()];
    assert!(matches!(build(folder.path(), &twice, &options(64 * MIB, 1), &mut go_on), Err(BuildFileError::Build(_))));
    let empty = build(folder.path(), &[], &options(64 * MIB, 1), &mut go_on).unwrap();
    assert!(empty == in_memory(&[]).to_bytes());
    assert_eq!(Segment::from_bytes(empty).unwrap().array().len(), 0);
}

/// The index over one segment.
fn index(segment: Segment) -> Index {
    let version = AssetVersion { asset: AssetId(1), version: 1 };
    Index::new(vec![Arc::new(DatanetIndex::new(version, vec![segment]).unwrap())]).unwrap()
}

#[test]
fn a_flipped_byte_is_named_and_nothing_opens_to_another_root() {
    let texts = [
        "the first words of these\0and the others, of which some are the first words\0",
        "of the first words none is left, of the others one or two are\0",
    ];
    let entries = owned(&texts.map(|text| text.repeat(3)));
    let folder = tempfile::tempdir().unwrap();
    let path = write_segment(folder.path(), &in_memory(&entries)).unwrap();
    let (whole, root) = (fs::read(&path).unwrap(), index(in_memory(&entries)).root());
    let damaged = folder.path().join("damaged.seg");
    let mut opened = 0;
    // Most of the header is zeros, every one of which counts alike.
    for at in (0..500).chain((500..4_096).step_by(61)).chain(4_096..whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&damaged, &bytes).unwrap();
        assert!(Segment::from_bytes(bytes).is_err(), "{at}");
        let Ok(segment) = open_segment(&damaged, None) else { continue };
        opened += 1;
        let named = segment.verify().unwrap_err();
        assert!(matches!(named, FormatError::Section { .. }), "{at}: {named}");
        // Nobody looked, and it is asked all the same.
        let index = index(segment);
        for pattern in [&b"the"[..], b"zz", b"a", b"of the"] {
            let _ = (index.find_longest(pattern), index.count(pattern), index.holder(pattern));
        }
        let _ = index.longest_all("one of the words of these", &[0, 4, 7, 11, 17, 20]);
        for context in ["the", "of the", "a"] {
            let _ = (index.documents(context.as_bytes(), 9, 20), index.next_words(context), index.next_bytes(context.as_bytes()));
        }
        let _ = index.longest_suffix("one or two of the first words");
        for position in [0, 63, 100, 64 * 4] {
            let _ = (index.show_row(0, position), index.show_head(0, position), index.show_passage(0, position));
            let _ = index.begins_word(0, position);
        }
        for position in [0, 100, 64 * 4] {
            let shown = index.open_span(0, position).ok().filter(|_| index.root() == root);
            assert!(shown.is_none_or(|shown| shown.text.unwrap().root() == Some(shown.segment.leaf.text)
                && shown.document.root() == Some(shown.segment.leaf.documents)));
        }
        let _ = index.open_array(0, 0, 20);
    }
    assert!(opened > 1_000, "{opened}: all but the header and the tops of trees is read later");
}

#[test]
fn damaged_marks_and_tops_are_refused_by_name() {
    let segment = in_memory(&owned(&texts::prose(2, 20_000)));
    let whole = segment.to_bytes();
    // Behind the array: marks of 12 bits for every fourth entry, then 18 bytes for every 1,024th.
    let (entries, array) = (segment.array().len(), segment.array().iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    let array = whole.windows(array.len()).position(|bytes| bytes == array).unwrap();
    let marks = (array + 4 * entries).next_multiple_of(64);
    let tops = (marks + entries.div_ceil(8) * 3).next_multiple_of(64);
    for (at, name) in [
        (marks, "marks"),
        (marks + entries.div_ceil(8) * 3 - 1, "marks"),
        (tops, "tops"),
        (tops + entries.div_ceil(1_024) * 18 - 1, "tops"),
    ] {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        assert_eq!(
            Segment::from_bytes(bytes).unwrap_err().to_string(),
            format!("section {name} of the segment is damaged: build it again")
        );
    }
}

#[test]
fn a_file_that_is_short_long_foreign_or_none_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let segment = in_memory(&owned(&texts::prose(1, 700)));
    let path = write_segment(folder.path(), &segment).unwrap();
    let opened = open_segment(&path, Some(segment.id())).unwrap();
    assert_eq!((opened.leaf(0), opened.verify(), opened.to_bytes() == segment.to_bytes()), (segment.leaf(0), Ok(()), true));
    let refused = |expected| match open_segment(&path, expected).unwrap_err() {
        OpenError::Format { error, .. } => error,
        OpenError::File { error, .. } => panic!("{error}"),
    };
    let other = SegmentId(Hash32([1; 32]));
    assert_eq!(refused(Some(other)), FormatError::Foreign { expected: other, got: segment.id() });
    let whole = fs::read(&path).unwrap();
    for len in [0, 100, 4_096, whole.len() - 1, whole.len() + 1] {
        let mut bytes = whole.clone();
        bytes.resize(len, 0);
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(refused(None), FormatError::Length { got, .. } if got == u64::try_from(len).unwrap()), "{len}");
    }
    fs::write(&path, vec![b'x'; 9_000]).unwrap();
    assert!(matches!(refused(None), FormatError::Header(_)));
    let mut older = whole.clone();
    older[7] -= 1;
    fs::write(&path, older).unwrap();
    assert_eq!(refused(None).to_string(), "no segment of this form (it is of another version's form): build it again");
    assert!(matches!(open_segment(&folder.path().join("none.seg"), None), Err(OpenError::File { .. })));
}

#[test]
fn a_datanet_grown_step_by_step_has_the_segments_of_one_built_at_once() {
    let entries = owned(&texts::prose(12, 900));
    let labels: Vec<_> = borrowed(&entries).iter().map(Entry::label).collect();
    let sizes: Vec<u64> = labels.iter().map(|label| label.bytes).collect();
    let folder = tempfile::tempdir().unwrap();
    for len in 1..=entries.len() {
        for range in layout(&sizes[..len]) {
            let id = SegmentId::of(labels[range.clone()].iter().copied());
            if !folder.path().join(id.file_name()).exists() {
                assert_eq!(range.end, len, "only what holds the newest is new");
                build(folder.path(), &entries[range], &options(64 * MIB, 1), &mut go_on).unwrap();
            }
        }
    }
    let version = AssetVersion { asset: AssetId(1), version: 1 };
    let at_once: Vec<Segment> = layout(&sizes).into_iter().map(|range| in_memory(&entries[range])).collect();
    let grown = at_once.iter().map(|segment| open_segment(&folder.path().join(segment.id().file_name()), Some(segment.id())).unwrap());
    let grown = DatanetIndex::new(version, grown.collect()).unwrap();
    assert_eq!(grown.leaf(), DatanetIndex::new(version, at_once).unwrap().leaf());
}
