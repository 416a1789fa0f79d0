//! Segments of an index: a file as it comes, and the same with lengths, digests and roots that go with what it says, as a liar makes it.
//!
//! An input is a segment without what every header repeats: its 400 bytes that say something, then the sections.

use std::sync::Arc;

use attribution::{
    index::{DatanetIndex, Entry, Index, Label, Segment, SegmentId, Tombstone},
    parameters::Parameters,
    span::attribute,
};
use types::{
    id::{Address, AssetId, AssetVersion, Hash32},
    merkle::{CrownView, crown_len},
    text::prompt_root,
};

use crate::bundles::source;

const SAID_BYTES: usize = 400;
const SUM_AT: usize = 4_064;
const HEADER_BYTES: usize = 4_096;
/// Bytes of a contribution's record and of the salts behind them.
const RECORD_BYTES: usize = 76;
/// Largest file that is made of an input.
const FILE_BYTES_MAX: usize = 64 << 10;

/// The file that an input stands for, under a header whose sum is right.
fn file(input: &[u8]) -> Vec<u8> {
    let (said, sections) = input.split_at(input.len().min(SAID_BYTES));
    let mut file = said.to_vec();
    file.resize(SUM_AT, 0);
    let sum = blake3::hash(&file);
    file.extend(sum.as_bytes());
    file.extend(sections);
    file
}

fn count(file: &[u8], place: usize) -> usize {
    let bytes = *file[16 + 8 * place..].first_chunk().expect("a whole header");
    usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX)
}

/// Bytes of the eight sections by the counts (P5); nothing of a file that would be too large.
fn sections(file: &[u8]) -> Option<[usize; 8]> {
    let [text, contributions, documents, entries] = [0, 1, 2, 3].map(|place| count(file, place));
    if [text, contributions, documents, entries].iter().any(|count| *count > FILE_BYTES_MAX) {
        return None;
    }
    let crown = |leaves: usize| crown_len(u64::try_from(leaves).expect("small")) * 32;
    let salts = usize::from(file[8] == 1) * 32 * contributions;
    // Smallest entries of blocks of 64, then a table over every 64 of them, a row for each power of two.
    let (blocks, groups) = (entries.div_ceil(64), entries.div_ceil(64).div_ceil(64));
    let table: usize =
        (0..usize::BITS).map(|power| 1_usize << power).take_while(|span| *span <= groups).map(|span| groups + 1 - span).sum();
    let sizes = [
        text + 256,
        contributions * RECORD_BYTES + salts,
        documents * 4,
        crown(text.div_ceil(64)),
        entries * 4,
        entries.div_ceil(32) * 8,
        (blocks + table) * 4,
        crown(entries.div_ceil(15)),
    ];
    (sizes.iter().sum::<usize>() <= FILE_BYTES_MAX).then_some(sizes)
}

/// The file with mode, length, digests, roots and identifier as its counts and sections make them.
fn mended(input: &[u8]) -> Option<Vec<u8>> {
    let mut file = file(input);
    file[..8].copy_from_slice(b"TRIBSEG\x01");
    let mode = file[8] & 1;
    file[8..16].copy_from_slice(&[mode, 0, 0, 0, 0, 0, 0, 0]);
    let sizes = sections(&file)?;
    let mut at = HEADER_BYTES;
    let places = sizes.map(|bytes| {
        let start = at;
        at += bytes.next_multiple_of(64);
        start..at
    });
    file.resize(at, 0);
    // Text ends with zeros.
    let text = count(&file, 0);
    file[HEADER_BYTES + text..HEADER_BYTES + text + 256].fill(0);
    let entries = count(&file, 3);
    let leaves = entries.div_ceil(15);
    let trees = [(3, text.div_ceil(64), text, 48), (7, leaves, 5 * (entries + leaves.saturating_sub(1)), 80)];
    for (section, leaves, bytes, root_at) in trees {
        let digests = file[places[section].start..places[section].start + sizes[section]].as_chunks().0;
        let root = CrownView::new(u64::try_from(leaves).ok()?, u64::try_from(bytes).ok()?, digests)?.root();
        file[root_at..root_at + 32].copy_from_slice(&root.0);
    }
    let records = &file[places[1].start..][..count(&file, 1) * RECORD_BYTES];
    let id = SegmentId::of(records.as_chunks::<RECORD_BYTES>().0.iter().map(label));
    file[112..144].copy_from_slice(&id.0.0);
    for (number, place) in places.iter().enumerate() {
        let digest = *blake3::hash(&file[place.clone()]).as_bytes();
        file[144 + 32 * number..176 + 32 * number].copy_from_slice(&digest);
    }
    file[SAID_BYTES..SUM_AT].fill(0);
    let sum = *blake3::hash(&file[..SUM_AT]).as_bytes();
    file[SUM_AT..HEADER_BYTES].copy_from_slice(&sum);
    Some(file)
}

/// Root, payee, block, ordinal, first byte, bytes, first row.
fn label(record: &[u8; RECORD_BYTES]) -> Label {
    let number = |at: usize| u32::from_le_bytes(*record[at..].first_chunk().expect("within the record"));
    Label {
        text_root: Hash32(*record.first_chunk().expect("within the record")),
        contributor: Address(*record[32..].first_chunk().expect("within the record")),
        block: u64::from_le_bytes(*record[52..].first_chunk().expect("within the record")),
        ordinal: number(60),
        bytes: number(68).into(),
    }
}

pub(crate) fn run(input: &[u8]) {
    let _ = Segment::from_bytes(file(input));
    let Some(file) = mended(input) else { return };
    match Segment::from_bytes(file) {
        Ok(segment) => ask(segment, input),
        // A check that this target cannot pass hides all that lies behind it.
        Err(error) => assert!(!error.to_string().contains("section"), "a file that was mended is refused: {error}"),
    }
}

/// Every question to an index, of a segment that says what a stranger likes.
fn ask(segment: Segment, input: &[u8]) {
    let _ = (segment.verify_trees(), segment.is_unwritten(), segment.memory_bytes(), segment.leaf(7));
    let text = segment.text().to_vec();
    let rows = segment.documents();
    for number in [0, 1, rows.len() / 2, rows.len().wrapping_sub(1), rows.len()] {
        let _ = rows.get(number).map(|row| segment.document_at(row.start));
        let _ = segment.text_root(number, 0..text.len().min(100));
    }
    let entries = segment.array().len();
    for ranks in [0..entries, 0..1, entries / 2..entries, entries..entries, 1..usize::MAX] {
        let _ = segment.earliest(ranks);
    }
    for leaf in [0, 1, text.len() / 64, usize::MAX] {
        let _ = segment.text_leaf(leaf).len();
    }
    let begins = |at: usize| text.get(at..(at + 40).min(text.len())).unwrap_or_default();
    let tail = &input[input.len().saturating_sub(20)..];
    let patterns = [begins(0), begins(text.len() / 3), tail, b"a", b"", &[0xff; 256]];
    let _ = (segment.range_all(&patterns), segment.longest_all(&patterns));
    let version = AssetVersion { asset: AssetId(3), version: 1 };
    let Ok(datanet) = DatanetIndex::new(version, vec![segment]) else { return };
    let index = Index::new(vec![Arc::new(datanet)]).expect("one Datanet");
    let _ = (index.root(), index.top(), index.check_unwritten(), index.holders(&patterns));
    for pattern in patterns {
        let _ = (index.count(pattern), index.holder(pattern), index.find_longest(pattern), index.documents(pattern, 5, 30).listed.len());
        let _ = index.next_bytes(pattern);
        if let Ok(text) = std::str::from_utf8(pattern) {
            let _ = (index.next_words(text), index.count_words(text), index.longest_suffix(text).len());
        }
    }
    for position in [0, 1, 63, 64, u64::try_from(text.len()).expect("small") / 2, u64::MAX] {
        let _ = (index.open_span(0, position), index.open_text(0, position), index.open_array(0, 0, position));
    }
    let answer = String::from_utf8_lossy(&text[..text.len().min(600)]).replace(|c: char| c.is_control(), " ");
    let _ = attribute(&index, Parameters::builtin(1).expect("built in"), b"", &answer);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let prose = "Bilateral sensorineural hearing impairment of congenital onset affecting speech development.\0Gout is an arthritis; \u{fc}ber gout.\0";
    let (same, han) = ("a ".repeat(700) + "\0", "学而时习之不亦说乎 kanjiかな\0".repeat(20));
    let salted = |text: &'static str| Entry::Salted(types_source(text), Hash32([9; 32]));
    let tombstone = Entry::Erased(Tombstone { block: 0, ordinal: 1, text_root: Hash32([8; 32]) });
    let segments = [
        Segment::build(&[], 0),
        Segment::build(&[source(1, prose)], 0),
        Segment::build(&[source(1, prose), source(2, &same), source(3, &han)], 0),
        Segment::build_entries(&[tombstone, Entry::Text(source(1, prose))], 0),
        Segment::build_entries(&[salted("A private text that nobody reads.\0")], 0),
    ];
    segments.into_iter().map(|segment| short(segment.expect("canonical documents").to_bytes())).collect()
}

fn types_source(text: &'static str) -> attribution::index::Source<'static> {
    attribution::index::Source { text_root: prompt_root(text.as_bytes(), Hash32([9; 32])), ..source(1, text) }
}

/// The input that stands for a file.
fn short(file: &[u8]) -> Vec<u8> {
    [&file[..SAID_BYTES], &file[HEADER_BYTES..]].concat()
}
