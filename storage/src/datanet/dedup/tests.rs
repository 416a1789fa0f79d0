use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use types::contribution::Priority;

const fn at(block: u64, document: u32) -> Priority {
    Priority { block, ordinal: 0, document }
}

fn batch(block: u64, texts: &[String]) -> Batch {
    Batch::new(&Permutations::new(), at(block, 0), texts.iter().map(String::as_str))
}

fn index(contributions: &[(u64, Vec<String>)]) -> Index {
    let mut index = Index::new();
    for (block, texts) in contributions {
        index.insert(&batch(*block, texts)).unwrap();
    }
    index
}

/// The rule, as plainly as it can be said: every pair compared, in the order of priority.
fn plain(contributions: &[(u64, Vec<String>)]) -> Vec<(Priority, Priority)> {
    let mut ordered: Vec<_> = contributions.iter().collect();
    ordered.sort_by_key(|(block, _)| *block);
    let documents = ordered.iter().flat_map(|(block, texts)| (0..).zip(texts).map(|(number, text)| (at(*block, number), text)));
    let mut seen: Vec<(Priority, Priority, BTreeSet<u64>)> = Vec::new();
    for (priority, text) in documents {
        let set: BTreeSet<u64> = Shingler::default().shingles(text).into_iter().collect();
        let is_near = |other: &BTreeSet<u64>| {
            let shared = set.intersection(other).count();
            shared > 0 && 5 * shared >= 4 * set.union(other).count()
        };
        let cluster = seen.iter().find(|(.., other)| is_near(other)).map_or(priority, |(_, cluster, _)| *cluster);
        seen.push((priority, cluster, set));
    }
    seen.into_iter().map(|(priority, cluster, _)| (priority, cluster)).collect()
}

fn clusters(index: &Index) -> Vec<(Priority, Priority)> {
    index.clusters().into_iter().map(|member| (member.document, member.cluster)).collect()
}

/// `count` words that no other `family` has, the last `changed` of them of this `version` only.
fn text(family: u32, count: u32, changed: u32, version: u32) -> String {
    let word = |n: u32| if n < count - changed { format!("w{family}x{n}") } else { format!("v{version}x{n}") };
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn shingles_ignore_ascii_case_and_punctuation_and_nothing_else() {
    let set = |text: &str| Shingler::default().shingles(text);
    assert_eq!(set("The cat, sat on THE mat!"), set("the cat sat; on the\nmat"));
    assert_ne!(set("a b c d É"), set("a b c d é"));
    assert_eq!(set("one two three").len(), 1);
    assert_eq!(set("a b c d e a b c d e").len(), 5);
    assert_eq!(set("- \u{200b} -"), Vec::<u64>::new());
    // Each Han character is a word, with and without spaces.
    assert_eq!(set("学习一二三四"), set("学 习 一 二 三 四"));
    assert_eq!(set("ab学cd"), set("ab 学 cd"));
    let long = "x".repeat(5000);
    assert_eq!(set(&long)[0].to_be_bytes(), blake3::hash(long.as_bytes()).as_bytes()[..8]);
}

#[test]
fn the_cut_into_words_is_the_protocols() {
    let text = "Zero\u{200b}width, naïve café 学习kanji かな ไทย 12٣4 e\u{301} \u{1F600}ok ﬁn";
    let joined: Vec<String> = types::text::words(text).into_iter().map(|range| text[range].to_ascii_lowercase()).collect();
    let plain: BTreeSet<u64> = joined
        .windows(SHINGLE_WORDS)
        .map(|words| u64::from_be_bytes(blake3::hash(words.join(" ").as_bytes()).as_bytes()[..8].try_into().unwrap()))
        .collect();
    assert_eq!(Shingler::default().shingles(text), plain.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_near_copy_is_found_at_the_threshold_and_not_below() {
    let sets = |shared: u64, left: u64, right: u64| {
        let a: Vec<u64> = (0..shared).chain(1000..1000 + left).collect();
        let b: Vec<u64> = (0..shared).chain(2000..2000 + right).collect();
        near(&a, &b)
    };
    assert_eq!(sets(8, 1, 1), Some(Overlap { shared: 8, union: 10 }));
    assert_eq!(sets(8, 2, 0), Some(Overlap { shared: 8, union: 10 }));
    assert_eq!(sets(8, 2, 1), None);
    assert_eq!(sets(79, 10, 11), None);
    assert_eq!(sets(0, 0, 0), None);
    assert_eq!(sets(80, 10, 10).unwrap().per_mille(), 800);
}

#[test]
fn copies_join_the_earliest_and_clusters_never_merge() {
    // B is near A, C is near B but not near A: C joins B's cluster, which is A's.
    let chain = [(1, vec![text(1, 60, 0, 0)]), (2, vec![text(1, 60, 6, 1)]), (3, vec![text(2, 40, 0, 0)])];
    let found = clusters(&index(&chain));
    assert_eq!(found, [(at(1, 0), at(1, 0)), (at(2, 0), at(1, 0)), (at(3, 0), at(3, 0))]);
    assert_eq!(found, plain(&chain));
}

#[test]
fn an_earlier_contribution_that_comes_late_gives_the_same_clusters() {
    let contributions: Vec<(u64, Vec<String>)> =
        (0..6).map(|block| (u64::from(block), (0..20).map(|family| text(family, 50, block, block + 1)).collect())).collect();
    let forward = clusters(&index(&contributions));
    assert_eq!(forward, plain(&contributions));
    for order in [[5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2], [1, 5, 0, 2, 4, 3]] {
        let shuffled: Vec<_> = order.iter().map(|at: &usize| contributions[*at].clone()).collect();
        assert_eq!(clusters(&index(&shuffled)), forward, "{order:?}");
    }
}

#[test]
fn a_batch_that_reaches_across_a_document_is_refused() {
    let mut index = index(&[(7, vec!["a b c d e f".into()])]);
    let error = index.insert(&batch(7, &["x".into(), "y".into()])).unwrap_err();
    assert_eq!(error, IndexError::Interleaved { first: at(7, 0) });
    assert_eq!(index.len(), 1);
}

#[test]
fn equal_documents_cost_one_comparison_each() {
    let texts = vec![text(1, 30, 0, 0); 5000];
    let members = index(&[(1, texts)]).clusters();
    assert!(members.iter().all(|member| member.cluster == at(1, 0)));
    assert_eq!(members[4999].nearest, Some((at(1, 0), Overlap { shared: 26, union: 26 })));
}

#[test]
fn documents_that_only_share_bands_are_given_up_after_a_bound() {
    // Templated rows, about half alike: buckets are full of documents that are no copies.
    let texts: Vec<String> = (0..600).map(|version| text(1, 60, 18, version)).collect();
    let members = index(&[(1, texts)]).clusters();
    assert!(members.iter().all(|member| member.cluster == member.document));
}

#[test]
fn a_word_of_ten_megabytes_is_one_shingle() {
    let word = "x".repeat(10 << 20);
    let set = Shingler::default().shingles(&word);
    assert_eq!(set.len(), 1);
    assert!(Permutations::new().signature(&set).is_some());
    assert!(Permutations::new().signature(&[]).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_order_of_entering_gives_the_plain_rules_clusters(
        documents in proptest::collection::vec((0_u32..4, 0_u32..12, 0_u32..3), 1..30),
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut contributions: Vec<(u64, Vec<String>)> = (0..6).map(|block| (block, Vec::new())).collect();
        for (at, (family, changed, version)) in documents.into_iter().enumerate() {
            contributions[at % 6].1.push(text(family, 40, changed, version));
        }
        let expected = plain(&contributions);
        let shuffled: Vec<_> = order.into_iter().map(|at| contributions[at].clone()).filter(|(_, texts)| !texts.is_empty()).collect();
        prop_assert_eq!(clusters(&index(&shuffled)), expected);
    }

    #[test]
    fn early_exits_do_not_change_the_exact_check(a in proptest::collection::btree_set(0_u64..40, 0..40), b in proptest::collection::btree_set(0_u64..40, 0..40)) {
        let (shared, union) = (a.intersection(&b).count(), a.union(&b).count());
        let plain = (shared > 0 && 5 * shared >= 4 * union)
            .then(|| Overlap { shared: u32::try_from(shared).unwrap(), union: u32::try_from(union).unwrap() });
        let (a, b): (Vec<_>, Vec<_>) = (a.into_iter().collect(), b.into_iter().collect());
        prop_assert_eq!(near(&a, &b), plain);
    }

    #[test]
    fn any_text_has_shingles_without_panic(text in "\\PC{0,80}") {
        let set = Shingler::default().shingles(&text);
        prop_assert_eq!(set.is_empty(), types::text::words(&text).is_empty());
    }
}

#[derive(serde::Deserialize)]
struct Vector {
    text: String,
    shingles: usize,
    least: Option<String>,
    signature: Option<String>,
}

/// Made by `tests/fixtures/gate/minhash.py`, which knows nothing of this crate.
#[test]
fn signatures_are_those_of_the_independent_script() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../../../../tests/fixtures/gate/minhash.json")).unwrap();
    assert_eq!(vectors.len(), 14);
    let permutations = Permutations::new();
    for Vector { text, shingles, least, signature } in vectors {
        let set = Shingler::default().shingles(&text);
        assert_eq!(set.len(), shingles, "{text}");
        assert_eq!(set.first().map(|least| format!("{least:016x}")), least, "{text}");
        let packed = permutations.signature(&set).map(|Signature(minima)| minima.map(u64::to_be_bytes).concat());
        // Long ones stand there by their BLAKE3.
        let shown = packed.map(|packed| {
            if signature.as_ref().is_some_and(|wanted| wanted.len() == 64) {
                blake3::hash(&packed).to_string()
            } else {
                hex::encode(packed)
            }
        });
        assert_eq!(shown, signature, "{text}");
    }
}

#[derive(serde::Deserialize)]
struct Oracle {
    pairs: usize,
    datatrove_recall: f64,
    datatrove_precision: f64,
}

#[derive(serde::Deserialize)]
struct Pair {
    original: String,
    copy: String,
    shared: u32,
    union: u32,
}

/// Made by `tests/fixtures/gate/pairs.py`: real documents and copies at a Jaccard of 0.75 to 0.85, as an independent script measures it.
#[test]
fn near_copies_are_found_at_least_as_well_as_by_datatrove() {
    let mut lines = include_str!("../../../../tests/fixtures/gate/pairs.jsonl").lines();
    let oracle: Oracle = serde_json::from_str(lines.next().unwrap()).unwrap();
    let pairs: Vec<Pair> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(pairs.len(), oracle.pairs);
    let texts: Vec<String> = pairs.iter().flat_map(|pair| [pair.original.clone(), pair.copy.clone()]).collect();
    let members = index(&[(1, texts)]).clusters();
    let (mut near, mut found, mut right) = (0, 0, 0);
    for (pair, members) in pairs.iter().zip(members.chunks(2)) {
        let is_near = 5 * pair.shared >= 4 * pair.union;
        let is_found = members[1].cluster == members[0].cluster;
        if let Some((priority, overlap)) = members[1].nearest
            && priority == members[0].document
        {
            assert_eq!((overlap.shared, overlap.union), (pair.shared, pair.union), "the script measures another likeness");
        }
        (near, found, right) = (near + u32::from(is_near), found + u32::from(is_found), right + u32::from(is_near && is_found));
    }
    let (recall, precision) = (f64::from(right) / f64::from(near), f64::from(right) / f64::from(found));
    println!("storage.dedup_recall    {recall:.4}  datatrove {:.4}", oracle.datatrove_recall);
    println!("storage.dedup_precision {precision:.4}  datatrove {:.4}", oracle.datatrove_precision);
    assert!(near >= 50, "{near} pairs are near copies");
    assert!(recall >= 0.95 && recall >= oracle.datatrove_recall, "{recall}");
    assert!(precision >= 0.95 && precision >= oracle.datatrove_precision, "{precision}");
}
