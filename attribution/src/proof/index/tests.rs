use std::{ops::Range, path::Path, sync::Arc};

use proptest::prelude::*;
use types::{key::Signed, text::text_root};

use super::*;
use crate::{
    bundle,
    disk::{open_segment, write_segment},
    index::{Clusters, DatanetIndex, Entry, FormatError, Section, Segment, Source as Text, Tombstone},
    sample::{self, FIRST, sample},
};

/// Block in which every version was published.
const PUBLISHED: u64 = 1_000;

/// A contribution of a plan: its documents, or that it was erased; and the segment that it is in.
type Planned = (Option<Vec<String>>, usize);

/// An index as a plan says, and what the chain knows of it: contributions in an order of acceptance that is not that of their commitments.
fn built(plan: &[Vec<Planned>]) -> (Index, Posted) {
    let (mut datanets, mut contributions) = (Vec::new(), BTreeMap::new());
    for (asset, planned) in (1..).zip(plan) {
        let texts: Vec<String> =
            planned.iter().map(|(documents, _)| documents.iter().flatten().map(|document| format!("{document}\0")).collect()).collect();
        let mut known = Vec::new();
        let mut segments = vec![Vec::new(); 3];
        for (number, ((documents, segment), text)) in (0_u32..).zip(planned.iter().zip(&texts)) {
            let (block, ordinal, root) = (10 + u64::from(number / 2), number % 2, text_root(text.as_bytes()));
            let contributor = Address([u8::try_from(number + 1).unwrap(); 20]);
            let entry = match documents {
                Some(_) => Entry::Text(Text { contributor, block, ordinal, text_root: root, text: text.as_bytes() }),
                None => Entry::Erased(Tombstone { block, ordinal, text_root: root }),
            };
            segments[*segment].push(entry);
            let erased = documents.is_none().then_some(PUBLISHED - 1);
            known.push(Contribution { contributor, text_root: root, block, ordinal, erased });
        }
        known.reverse();
        contributions.insert(AssetId(asset), known);
        let version = AssetVersion { asset: AssetId(asset), version: 1 };
        let segments = segments.iter().map(|entries| Segment::build_entries(entries, 0).unwrap());
        datanets.push(Arc::new(DatanetIndex::clustered(version, segments.collect(), &Clusters::default()).unwrap()));
    }
    let declared: Vec<AssetVersion> = datanets.iter().map(|datanet| datanet.version()).collect();
    let published = declared.iter().map(|version| (*version, PUBLISHED)).collect();
    let index = Index::new(datanets).unwrap();
    let root = index.root();
    (index, Posted { root, declared, published, contributions })
}

fn document() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::string::string_regex("[abé学 .\u{301}-]{0,20}[abz]").unwrap(),
        proptest::string::string_regex("([a-c]{1,3}|学习|नि|é)( [a-d]{1,2}){30,120}").unwrap(),
        proptest::string::string_regex("[a-c]{60,70}(é|学|\u{1f600})[a-c]{0,3} (aa ){0,90}b").unwrap(),
    ]
}

fn plan() -> impl Strategy<Value = Vec<Vec<Planned>>> {
    let planned = (proptest::option::weighted(0.8, proptest::collection::vec(document(), 1..4)), 0..3_usize);
    proptest::collection::vec(proptest::collection::vec(planned, 0..7), 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn no_right_index_is_accused(plan in plan()) {
        let (index, posted) = built(&plan);
        let laid = Laid::new(Leaves::of(&index));
        prop_assert_eq!(laid.root(), index.root());
        let found = find_index(&laid, &posted, &Texts::of(&index), 10);
        prop_assert_eq!(found, vec![]);
        let whole = Whole(&index);
        for (datanet, segment) in laid.datanets().into_iter().flat_map(|datanet| laid.segments(datanet).into_iter().map(move |of| (datanet, of))) {
            prop_assert_eq!((whole.datanet(datanet), whole.segment(datanet, segment)), (laid.datanet(datanet), laid.segment(datanet, segment)));
            for part in [Part::Text, Part::Documents, Part::Array] {
                let numbers: Vec<u64> = laid.numbers(datanet, segment, part, 0).collect();
                prop_assert_eq!(&whole.numbers(datanet, segment, part, 0).collect::<Vec<_>>(), &numbers);
                for number in numbers.into_iter().chain([u64::MAX]) {
                    prop_assert_eq!(whole.show(datanet, segment, part, number), laid.show(datanet, segment, part, number));
                    prop_assert_eq!(whole.bare(datanet, segment, part, number), laid.bare(datanet, segment, part, number));
                }
            }
        }
        prop_assert_eq!((whole.datanets(), whole.segments(9)), (laid.datanets(), vec![]));
        prop_assert_eq!(find_index(&whole, &posted, &Texts::of(&index), 10), vec![]);
    }

    #[test]
    fn an_index_in_which_a_byte_is_changed_is_accused_wherever_it_stands(
        plan in plan(), which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let (index, mut posted) = built(&plan);
        let mut leaves = Leaves::of(&index);
        let all = leaves.0.iter_mut().flat_map(|datanet| &mut datanet.segments);
        let mut all: Vec<(&mut Vec<u8>, bool)> = all
            .flat_map(|segment| {
                let rows = segment.rows.iter_mut().map(|row| (row, true));
                segment.texts.iter_mut().chain(&mut segment.array).map(|leaf| (leaf, false)).chain(rows)
            })
            .collect();
        prop_assume!(!all.is_empty());
        let which = which.index(all.len());
        let (leaf, is_row) = &mut all[which];
        // The last eight bytes of a row say its cluster, to which nothing is committed.
        let at = at.index(leaf.len() - if *is_row { 8 } else { 0 });
        leaf[at] ^= 1_u8 << bit;
        let laid = Laid::new(leaves);
        posted.root = laid.root();
        let found = find_index(&laid, &posted, &Texts::of(&index), 10);
        prop_assert!(!found.is_empty());
    }
}

#[test]
fn a_receipt_under_a_wrong_root_shows_the_row_that_pays_another_than_the_contributor() {
    let sample = sample();
    let registered = posted_of(&sample.index);
    let honest = {
        let mut pieces = Pieces::default();
        assert!(pieces.add(&sample.bundle, registered.root));
        find_index(&pieces, &registered, &Texts::of(&sample.index), 10)
    };
    assert_eq!(honest, []);
    // The indexer lets itself be paid for the first text.
    let lying = Index::new(vec![
        sample::datanet(3, &[(0xa1, "Something unrelated about kidneys."), (0xee, FIRST), (0xa3, sample::COPY)]),
        Arc::clone(&sample.index.datanets()[1]),
    ])
    .unwrap();
    let mut bundle = sample.bundle.clone();
    bundle.openings = bundle::openings(&lying, &bundle.receipt.document.spans).unwrap();
    bundle.receipt.document.index = lying.root();
    bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
    let mut pieces = Pieces::default();
    assert!(!pieces.add(&bundle, registered.root), "it is of another root");
    assert!(pieces.add(&bundle, lying.root()));
    let posted = Posted { root: lying.root(), ..registered.clone() };
    let found = find_index(&pieces, &posted, &Texts::of(&sample.index), 10);
    assert!(matches!(&found[..], [IndexClaim::Segment { flaw: SegmentFlaw::Row { number: 1, .. }, .. }]), "{found:?}");
    assert_ne!(convicts(&found[0], &registered), Ok(true));
    let first = first_difference(&pieces, &sample.index).unwrap();
    assert_eq!((first.datanet, first.segment, first.leaf), (0, Some(0), Some((Part::Documents, 1))));
}

/// What the chain knows if it has what an index has.
fn posted_of(index: &Index) -> Posted {
    let known = |datanet: &DatanetIndex| {
        let rows = datanet.segments().iter().flat_map(|segment| segment.documents().iter()).filter(|row| row.priority.document == 0);
        let known = rows.map(|row| Contribution {
            contributor: row.payee,
            text_root: row.text_root,
            block: row.priority.block,
            ordinal: row.priority.ordinal,
            erased: None,
        });
        (datanet.version().asset, known.collect())
    };
    let declared: Vec<AssetVersion> = index.datanets().iter().map(|datanet| datanet.version()).collect();
    Posted {
        root: index.root(),
        published: declared.iter().map(|version| (*version, PUBLISHED)).collect(),
        declared,
        contributions: index.datanets().iter().map(|datanet| known(datanet)).collect(),
    }
}

/// A right index of one Datanet, the same whose second segment is made false and lies in a file, and what the chain says under the root of that.
fn with_false_file(folder: &Path, change: impl FnOnce(&dyn Fn(Section) -> Range<usize>, &mut [u8])) -> (Index, Index, Posted) {
    let prose = |from: usize| (from..from + 60).map(|word| format!("w{} ", word * 7 % 61)).collect::<String>() + "end";
    let (honest, posted) =
        built(&[vec![(Some(vec![prose(0)]), 0), (Some(vec![prose(5), prose(31)]), 1), (Some(vec![prose(77)]), 1), (None, 2)]]);
    let datanet = &honest.datanets()[0];
    let file = |segment: &Segment| open_segment(&write_segment(folder, segment).unwrap(), None).unwrap();
    let mut segments: Vec<Segment> = datanet.segments().iter().map(file).collect();
    segments[1] = file(&segments[1].remade(change));
    segments.iter().for_each(|segment| segment.verify().and_then(|()| segment.verify_trees()).unwrap());
    let lying = Index::new(vec![Arc::new(DatanetIndex::new(datanet.version(), segments).unwrap())]).unwrap();
    let posted = Posted { root: lying.root(), ..posted };
    (honest, lying, posted)
}

/// What is found wrong in that file: by mode, and where it first differs.
fn found_in_file(change: impl FnOnce(&dyn Fn(Section) -> Range<usize>, &mut [u8])) -> (Vec<u8>, Option<Difference>) {
    let folder = tempfile::tempdir().unwrap();
    let (honest, lying, posted) = with_false_file(folder.path(), change);
    let texts = Texts::and_segments_of(&honest);
    let found = find_index(&Whole(&lying), &posted, &texts, 64);
    let right = Posted { root: honest.root(), ..posted.clone() };
    for claim in &found {
        assert_eq!(convicts(claim, &posted), Ok(true), "{claim:?}");
        assert_ne!(convicts(claim, &right), Ok(true), "of another root it says nothing: {claim:?}");
    }
    assert_eq!(find_index(&Whole(&honest), &right, &texts, 64), []);
    let all = find_index(&Whole(&lying), &posted, &Texts::of(&honest), 64);
    assert_eq!(all, found, "nothing is wrong in the segments that are passed over");
    let mut modes: Vec<u8> = found.iter().map(IndexClaim::mode).collect();
    modes.dedup();
    (modes, first_difference(&Whole(&lying), &honest))
}

#[test]
fn a_lie_is_found_in_the_files_of_an_index_wherever_it_was_laid_into_them() {
    let at = |part, number| Some(Difference { datanet: 0, segment: Some(1), leaf: Some((part, number)) });
    let exchanged = found_in_file(|range, bytes| {
        let array = range(Section::Array).start;
        let (one, two) = bytes[array + 4 * 33..].split_at_mut(4);
        one.swap_with_slice(&mut two[..4]);
    });
    assert_eq!(exchanged, (vec![0], at(Part::Array, 2)), "two entries stand in the other's place");
    let robbed = found_in_file(|range, bytes| bytes[range(Section::Contributions).start + 32..][..20].fill(0xee));
    assert_eq!(robbed, (vec![6], at(Part::Documents, 0)), "a row pays another than the contributor");
    let (modes, difference) = found_in_file(|range, bytes| bytes[range(Section::Text).start + 70] ^= 1);
    assert!(modes.contains(&3) && difference == at(Part::Text, 0), "the text is not the registered one: {modes:?} {difference:?}");
}

#[test]
fn a_file_whose_trees_are_over_other_leaves_is_named_before_anything_is_shown_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (honest, _, _) = with_false_file(folder.path(), |_, _| {});
    let segment = &honest.datanets()[0].segments()[1];
    segment.verify_trees().unwrap();
    for (changed, named) in [(Section::Array, Section::ArrayTree), (Section::Text, Section::TextTree)] {
        let mut bytes = segment.to_bytes().to_vec();
        let at = segment.place_of(changed).start;
        bytes[at] ^= 1;
        let lying = Segment::from_bytes_unread(bytes);
        assert!(matches!(lying.verify_trees(), Err(FormatError::Root { name, .. }) if name == named), "{changed}");
    }
}
