//! What hides the text of a private Datanet in its index (P5).
//!
//! Whoever has a root can try texts against it, so nothing that follows from the text alone may stand under one. Text leaves lie behind the salts of
//! their contributions, as they do under the contributions' own roots, and array leaves, which tell the order of the words, behind one that follows from all of
//! these. Rows say where documents begin and whom they pay, and are plain. The root of the segments is hashed once more: what is read under the root
//! of a private Datanet is never taken for plain leaves, neither by a contract that knows no other nor by a reader who was told a lie.
//!
//! Cost: 32 bytes more in each leaf that is hashed, one hash for its salt, and 32 bytes a contribution in a segment's file.

use types::{
    id::Hash32,
    merkle::{keccak, leaf_digests},
    text::leaf_salt,
};

use super::array::Array;

/// Bytes of the salt before the text in a leaf.
pub const SALT_BYTES: usize = 32;
/// What the salts of a segment's contributions are hashed behind.
const ARRAY_SALT_DOMAIN: &[u8] = b"tributary/array-salt/v1";
/// What the root of a private Datanet's segments is hashed behind.
const PRIVATE_DOMAIN: &[u8] = b"tributary/private-segments/v1";

/// The salt of a segment's array: from those of its contributions in their order, zero for one that was erased.
pub(super) fn array_salt(salts: &[Hash32]) -> Hash32 {
    let parts: Vec<&[u8]> = std::iter::once(ARRAY_SALT_DOMAIN).chain(salts.iter().map(|salt| salt.0.as_slice())).collect();
    keccak(&parts)
}

/// Digests of the first `count` leaves that `entries` make, the first of which is leaf `first` of the array.
pub(super) fn array_digests(entries: Array<'_>, salt: Hash32, first: usize, count: usize) -> Vec<Hash32> {
    leaf_digests((0..count).map(|leaf| [&leaf_salt(salt, first + leaf).0[..], entries.leaf_bytes(leaf).as_ref()].concat()))
}

/// What stands for the root of a private Datanet's segments in its leaf.
pub fn veiled(segments: Hash32) -> Hash32 {
    keccak(&[PRIVATE_DOMAIN, &segments.0])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use types::{
        contribution::Priority,
        id::{Address, AssetId, AssetVersion},
        text::{prompt_root, text_root},
    };

    use super::*;
    use crate::index::{BuildError, Clusters, DatanetIndex, Entry, Index, IndexError, ReadError, Segment, Source, Tombstone};

    const VERSION: AssetVersion = AssetVersion { asset: AssetId(1), version: 1 };

    fn source(block: u64, text: &str, salt: Option<Hash32>) -> Source<'_> {
        let text = text.as_bytes();
        let text_root = salt.map_or_else(|| text_root(text), |salt| prompt_root(text, salt));
        Source { contributor: Address([u8::try_from(block).unwrap(); 20]), block, ordinal: 0, text_root, text }
    }

    fn salted(block: u64, text: &str) -> Entry<'_> {
        let salt = Hash32([0x50 + u8::try_from(block).unwrap(); 32]);
        Entry::Salted(source(block, text, Some(salt)), salt)
    }

    fn plain(block: u64, text: &str) -> Entry<'_> {
        Entry::Text(source(block, text, None))
    }

    fn index(segments: &[&[Entry<'_>]]) -> Index {
        let built = segments.iter().map(|entries| Segment::build_entries(entries, 0).unwrap()).collect();
        let near = Clusters::new([(Priority { block: 9, ..Priority::default() }, Priority { block: 2, ..Priority::default() })]).unwrap();
        Index::new(vec![Arc::new(DatanetIndex::clustered(VERSION, built, &near).unwrap())]).unwrap()
    }

    /// Texts of several leaves, one of them a near copy in a later segment.
    fn texts() -> [String; 3] {
        let long: String = (0..90).map(|word| format!("word{} ", word * 7 % 31)).collect();
        [format!("{long}\0"), "the same words here\0a second document\0".to_owned(), format!("{long}and more\0")]
    }

    #[test]
    fn every_salted_leaf_is_hashed_again_where_a_file_is_verified_whole() {
        let [first, second, copy] = texts();
        let gone = Entry::Erased(Tombstone { block: 4, ordinal: 0, text_root: Hash32([9; 32]) });
        for entries in [vec![salted(2, &first), gone, salted(5, &second)], vec![salted(9, &copy)], vec![gone]] {
            let segment = Segment::build_entries(&entries, 0).unwrap();
            assert_eq!(segment.verify_trees(), Ok(()), "{} contributions", entries.len());
        }
    }

    #[test]
    fn a_private_datanet_is_searched_and_opened_as_an_open_one_and_shares_no_root_with_it() {
        let [first, second, copy] = texts();
        let gone = Entry::Erased(Tombstone { block: 4, ordinal: 0, text_root: Hash32([9; 32]) });
        let hidden = index(&[&[salted(2, &first), gone, salted(5, &second)], &[salted(9, &copy)]]);
        let open = index(&[&[plain(2, &first), gone, plain(5, &second)], &[plain(9, &copy)]]);
        assert!(hidden.datanets()[0].is_private() && !open.datanets()[0].is_private());
        for pattern in ["word0 word7 word14", "second document", "and more", "word", "nowhere"] {
            let found = |index: &Index| index.holder(pattern.as_bytes()).map(|holder| (holder.position, holder.payee));
            assert_eq!((found(&hidden), hidden.count(pattern.as_bytes())), (found(&open), open.count(pattern.as_bytes())), "{pattern}");
        }
        let leaves = |index: &Index| index.datanets()[0].segments().iter().map(|segment| segment.leaf(0)).collect::<Vec<_>>();
        for (hidden, open) in leaves(&hidden).iter().zip(leaves(&open)) {
            assert!(hidden.text != open.text && hidden.array != open.array);
            assert_eq!((hidden.length, hidden.entries), (open.length, open.entries));
        }
        for position in (0..hidden.datanets()[0].bytes()).step_by(17) {
            let (Ok(shown), Ok(plain)) = (hidden.open_span(0, position), open.open_span(0, position)) else {
                assert!(open.open_span(0, position).is_err(), "{position}");
                continue;
            };
            assert_eq!((shown.is_private(), plain.is_private()), (Some(true), Some(false)));
            assert_eq!(shown.shown_text(), plain.shown_text(), "{position}");
            let text = shown.text.unwrap();
            assert_eq!((text.root(), text.leaf.0.len()), (Some(shown.segment.leaf.text), plain.text.unwrap().leaf.0.len() + SALT_BYTES));
            assert_eq!(shown.datanet.root(), Some(hidden.root()));
            assert_eq!(shown.head.is_some(), plain.head.is_some());
            assert_ne!(shown.segment.root(), Some(shown.datanet.leaf.segments), "no contract reads a segment of it as a plain one");
        }
        let position = hidden.holder(b"second document").unwrap().position;
        assert_eq!(hidden.begins_word(0, position), Ok(true));
        let refused = ReadError::Private { datanet: 0 };
        assert_eq!((hidden.show_source(0, position), hidden.show_passage(0, position)), (Err(refused), Err(refused)));
        assert_eq!((hidden.show_row(0, position), hidden.show_head(0, position)), (Err(refused), Err(refused)));
        assert!(hidden.open_array(0, 0, 1).is_none() && open.open_array(0, 0, 1).is_some());
    }

    #[test]
    fn bytes_of_a_private_segment_are_read_back_and_say_so_in_their_header() {
        let [first, second, _] = texts();
        let segment = Segment::build_entries(&[salted(2, &first), salted(5, &second)], 0).unwrap();
        let bytes = segment.to_bytes().to_vec();
        let again = Segment::from_bytes(bytes.clone()).unwrap();
        assert_eq!((again.leaf(0), again.is_salted()), (segment.leaf(0), true));
        let root = |number: usize, from: usize, text: &str| again.text_root(number, from..from + text.len());
        let start = first.len().next_multiple_of(64);
        let registered = [0, 1].map(|row| again.documents().get(row).map(|row| row.text_root));
        assert_eq!([root(0, 0, &first), root(1, start, &second)], registered);
        assert_ne!(root(0, start, &second), root(1, start, &second), "each contribution has a salt of its own");
        for mode in [0_u8, 2] {
            let mut wrong = bytes.clone();
            wrong[8] = mode;
            assert!(Segment::from_bytes(wrong).is_err(), "{mode}");
        }
    }

    #[test]
    fn what_is_private_in_part_is_refused() {
        let [first, second, _] = texts();
        let mixed = Segment::build_entries(&[salted(2, &first), plain(5, &second)], 0).unwrap_err();
        assert_eq!(mixed, BuildError::Mixed { source_number: 1, is_salted: false });
        let segments = [salted(2, &first), plain(5, &second)].map(|entry| Segment::build_entries(&[entry], 0).unwrap());
        assert_eq!(DatanetIndex::new(VERSION, segments.into()).unwrap_err(), IndexError::Mixed(VERSION));
        let Entry::Salted(source, salt) = salted(2, &first) else { unreachable!("it was made with a salt") };
        for wrong in [Entry::Text(source), Entry::Salted(source, Hash32(salt.0.map(|byte| byte ^ 1)))] {
            assert!(matches!(Segment::build_entries(&[wrong], 0), Err(BuildError::TextRoot { source_number: 0, .. })));
        }
        let gone = Entry::Erased(Tombstone { block: 1, ordinal: 0, text_root: Hash32([9; 32]) });
        let erased_alone = Segment::build_entries(&[gone], 0).unwrap();
        let datanet = DatanetIndex::new(VERSION, vec![erased_alone, Segment::build_entries(&[salted(5, &second)], 0).unwrap()]).unwrap();
        assert!(datanet.is_private(), "what was erased has neither text nor salt");
    }
}
