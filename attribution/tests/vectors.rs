//! The golden vectors of an independent script: contributions to index root, parameters, prompt and answer trees, openings, spans and masks,
//! parts and the payout tree.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use attribution::{
    answer::{answer_tree, open_answer},
    check::{
        Check, Draw, DrawRule, Operators, Outcome, Stacked, draw,
        round::{Drawn, Facts, Round, Step},
        searched, trace_digest,
    },
    epoch::{Refund, build_payout},
    index::{Clusters, DatanetIndex, Entry, Index, Leaf, Segment, Source, Tombstone},
    parameters::{Parameters, WordTable, weight},
    prompt::{Message, prompt_bytes},
    shares::{RolePayees, payees},
    span::{Attribution, attribute, weigh},
};
use serde_json::Value;
use types::{
    amount::Amount,
    contribution::Priority,
    encoding::Document as _,
    id::{Address, AssetId, AssetVersion, Hash32},
    manifest::Manifest,
    merkle::Opening,
    payout::Witness,
    receipt::Receipt,
    text::prompt_root,
};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/vectors.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
}

fn hash(value: &Value) -> Hash32 {
    value.as_str().unwrap().parse().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn segment(vector: &Value, first_row: u64) -> Segment {
    let texts: Vec<Vec<u8>> = list(&vector["contributions"]).iter().map(|c| bytes(&c["text"])).collect();
    let source = |(c, text): (&Value, &'static [u8])| Source {
        contributor: c["contributor"].as_str().unwrap().parse().unwrap(),
        block: number(&c["block"]),
        ordinal: u32::try_from(number(&c["ordinal"])).unwrap(),
        text_root: hash(&c["textRoot"]),
        text,
    };
    for (text, vector) in texts.iter().zip(list(&vector["contributions"])) {
        assert_eq!(types::text::text_top(text), hash(&vector["textTop"]));
    }
    let texts: Vec<&'static [u8]> = texts.into_iter().map(|text| &*text.leak()).collect();
    let sources: Vec<_> = list(&vector["contributions"]).iter().zip(texts).map(source).collect();
    let segment = Segment::build(&sources, first_row).unwrap();
    assert_eq!(hex::encode(segment.text()), hex::encode(bytes(&vector["text"])));
    assert_eq!(segment.array().iter().map(u64::from).collect::<Vec<_>>(), list(&vector["array"]).iter().map(number).collect::<Vec<_>>());
    for rank in 0..=segment.array().len() as u64 {
        assert_eq!(segment.open_array(rank).unwrap().root(), Some(hash(&vector["arrayRoot"])), "{rank}");
    }
    segment
}

/// Clusters by the rows of a Datanet's segments: a row ends with block, ordinal and document number, and the number of its cluster's first row.
fn clusters(segments: &[Value]) -> Clusters {
    let rows: Vec<(Priority, u64)> = segments
        .iter()
        .flat_map(|segment| list(&segment["rows"]))
        .map(|row| {
            let row = bytes(row);
            let u32_at = |at: usize| u32::from_be_bytes(*row[at..].first_chunk().unwrap());
            let u64_at = |at: usize| u64::from_be_bytes(*row[at..].first_chunk().unwrap());
            (Priority { block: u64_at(61), ordinal: u32_at(69), document: u32_at(73) }, u64_at(77))
        })
        .collect();
    Clusters::new(rows.iter().map(|(document, cluster)| (*document, rows[usize::try_from(*cluster).unwrap()].0))).unwrap()
}

#[test]
fn a_segment_with_tombstones_is_what_the_vectors_say() {
    let vectors = vectors();
    let (erased, vector) = (&vectors["tombstones"]["erased"], &vectors["tombstones"]["segment"]);
    let texts: Vec<Vec<u8>> = list(&vector["contributions"]).iter().map(|c| bytes(&c["text"])).collect();
    let source = |(c, text): (&Value, &'static [u8])| Source {
        contributor: c["contributor"].as_str().unwrap().parse().unwrap(),
        block: number(&c["block"]),
        ordinal: u32::try_from(number(&c["ordinal"])).unwrap(),
        text_root: hash(&c["textRoot"]),
        text,
    };
    let texts = list(&vector["contributions"]).iter().zip(texts.into_iter().map(|text| &*text.leak())).map(source);
    let mut entries: Vec<(u64, Entry<'_>)> = texts.map(|source| (source.block, Entry::Text(source))).collect();
    entries.extend(list(erased).iter().map(|erased| {
        let tombstone = Tombstone { block: number(&erased["block"]), ordinal: 0, text_root: hash(&erased["textRoot"]) };
        (tombstone.block, Entry::Erased(tombstone))
    }));
    entries.sort_by_key(|(block, _)| *block);
    let entries: Vec<Entry<'_>> = entries.into_iter().map(|(_, entry)| entry).collect();
    let segment = Segment::build_entries(&entries, 0).unwrap();
    assert_eq!(hex::encode(segment.text()), hex::encode(bytes(&vector["text"])));
    let rows: Vec<Vec<u8>> = segment.documents().iter().map(|row| row.bytes()).collect();
    assert_eq!(rows, list(&vector["rows"]).iter().map(bytes).collect::<Vec<_>>());
    assert_eq!(segment.leaf(0).bytes(), bytes(&vector["leaf"]));
}

fn index(vectors: &Value) -> Index {
    let datanets = list(&vectors["index"]["datanets"]).iter().map(|vector| {
        let mut rows = 0;
        let segments = list(&vector["segments"]).iter().map(|vector| {
            let segment = segment(vector, rows);
            rows += segment.documents().len() as u64;
            segment
        });
        let version =
            AssetVersion { asset: AssetId(number(&vector["asset"])), version: u32::try_from(number(&vector["version"])).unwrap() };
        let datanet = DatanetIndex::clustered(version, segments.collect(), &clusters(list(&vector["segments"]))).unwrap();
        for (segment, vector) in datanet.segments().iter().zip(list(&vector["segments"])) {
            assert_eq!(
                segment.documents().iter().map(|row| row.bytes()).collect::<Vec<_>>(),
                list(&vector["rows"]).iter().map(bytes).collect::<Vec<_>>()
            );
            assert_eq!(segment.leaf(number(&vector["start"])).bytes(), bytes(&vector["leaf"]));
        }
        assert_eq!(datanet.leaf().bytes(), bytes(&vector["leaf"]));
        Arc::new(datanet)
    });
    Index::new(datanets.collect()).unwrap()
}

fn parameters(vectors: &Value) -> Parameters {
    let vector = &vectors["index"]["parameters"];
    let narrow = |value: &Value| u32::try_from(number(value)).unwrap();
    let rows =
        list(&vector["words"]).iter().map(|row| (Cow::Owned(String::from_utf8(bytes(&row["word"])).unwrap()), narrow(&row["weight"])));
    let table = WordTable::new(rows.collect()).unwrap();
    for (place, row) in list(&vector["rows"]).iter().enumerate() {
        assert_eq!(table.row_bytes(place), Some(bytes(row)));
    }
    let parameters = Parameters::new(
        narrow(&vector["id"]),
        u8::try_from(number(&vector["leastWords"])).unwrap(),
        narrow(&vector["theta"]),
        narrow(&vector["unknownWeight"]),
        table,
    );
    assert_eq!((parameters.table_root(), parameters.hash()), (hash(&vector["tableRoot"]), hash(&vector["hash"])));
    parameters
}

fn prompt(vectors: &Value) -> Vec<u8> {
    let messages: Vec<Message> = serde_json::from_value(vectors["answer"]["messages"].clone()).unwrap();
    prompt_bytes(&messages)
}

fn attributed(vectors: &Value) -> Attribution {
    attribute(&index(vectors), &parameters(vectors), &prompt(vectors), vectors["answer"]["answer"].as_str().unwrap()).unwrap()
}

fn opening(value: &Value) -> Opening {
    Opening {
        leaves: number(&value["count"]),
        byte_length: number(&value["length"]),
        index: number(&value["index"]),
        siblings: list(&value["siblings"]).iter().map(hash).collect(),
    }
}

#[test]
fn the_index_has_the_root_of_the_vectors() {
    let vectors = vectors();
    assert_eq!(index(&vectors).root(), hash(&vectors["index"]["root"]));
    assert_eq!(index(&vectors).top(), hash(&vectors["answer"]["indexTop"]));
}

#[test]
fn weights_are_those_of_the_vectors() {
    for case in list(&vectors()["money"]["wordWeights"]) {
        assert_eq!(weight(number(&case["total"]), number(&case["count"])).map(u64::from), Some(number(&case["weight"])), "{case}");
    }
}

#[test]
fn prompt_and_answer_have_the_roots_of_the_vectors() {
    let vectors = vectors();
    let vector = &vectors["answer"];
    let prompt = prompt(&vectors);
    assert_eq!(hex::encode(&prompt), hex::encode(bytes(&vector["promptBytes"])));
    assert_eq!(prompt_root(&prompt, hash(&vector["promptSalt"])), hash(&vector["prompt"]["root"]));
    let answer = vector["answer"].as_str().unwrap();
    let words = weigh(&parameters(&vectors), answer);
    assert_eq!(
        words.iter().map(|word| (word.range.start as u64, word.range.len() as u64, u64::from(word.weight))).collect::<Vec<_>>(),
        list(&vector["words"]).iter().map(|word| (number(&word[0]), number(&word[1]), number(&word[2]))).collect::<Vec<_>>()
    );
    let tree = answer_tree(answer, &words, hash(&vector["answerSalt"]));
    assert_eq!((tree.root(), tree.top()), (hash(&vector["answerTree"]["root"]), hash(&vector["answerTop"])));
}

#[test]
fn spans_masks_and_weight_are_those_of_the_vectors_receipt() {
    let vectors = vectors();
    let found = attributed(&vectors);
    let receipt = &list(&vectors["documents"]).iter().find(|document| document["name"] == "Receipt").unwrap()["fields"];
    assert_eq!(found.weight_total, number(&receipt["totalWeight"]));
    let masks: Vec<_> = found.masks.iter().map(|mask| (u64::from(mask.start), u64::from(mask.length), u64::from(mask.prompt))).collect();
    assert_eq!(
        masks,
        list(&receipt["masks"]).iter().map(|m| (number(&m["start"]), number(&m["length"]), number(&m["promptOffset"]))).collect::<Vec<_>>()
    );
    let spans: Vec<_> = found
        .spans
        .iter()
        .map(|s| (u64::from(s.start), u64::from(s.length), u64::from(s.datanet), s.position, u64::from(s.weight), s.payee))
        .collect();
    let stated = |s: &Value| {
        let payee: Address = s["payee"].as_str().unwrap().parse().unwrap();
        (number(&s["start"]), number(&s["length"]), number(&s["datanet"]), number(&s["position"]), number(&s["weight"]), payee)
    };
    assert_eq!(spans, list(&receipt["spans"]).iter().map(stated).collect::<Vec<_>>());
}

#[test]
fn openings_are_those_of_the_vectors() {
    let vectors = vectors();
    let (index, found) = (index(&vectors), attributed(&vectors));
    let (answer, salt) = (vectors["answer"]["answer"].as_str().unwrap(), hash(&vectors["answer"]["answerSalt"]));
    for (vector, span) in list(&vectors["answer"]["spanOpenings"]).iter().zip(&found.spans) {
        let shown = index.open_span(span.datanet, span.position).unwrap();
        assert_eq!((shown.text.leaf.bytes(), shown.text.opening), (bytes(&vector["textLeaf"]), opening(&vector["text"])));
        assert_eq!((shown.segment.leaf.bytes(), shown.segment.opening), (bytes(&vector["segmentLeaf"]), opening(&vector["segment"])));
        assert_eq!((shown.datanet.leaf.bytes(), shown.datanet.opening), (bytes(&vector["datanetLeaf"]), opening(&vector["datanet"])));
        let shown = open_answer(answer, &found.words, salt, span.start as usize).unwrap();
        assert_eq!((shown.leaf.bytes(), shown.opening), (bytes(&vector["answerLeaf"]), opening(&vector["answer"])));
    }
}

#[test]
fn the_payout_tree_is_that_of_the_vectors() {
    let vectors = vectors();
    let body = |name: &str| bytes(&list(&vectors["documents"]).iter().find(|document| document["name"] == name).unwrap()["body"]);
    let (receipt, manifest) = (Receipt::decode(&body("Receipt")).unwrap(), Manifest::decode(&body("Manifest")).unwrap());
    let account = |name: &str| -> Address { vectors["accounts"][name].as_str().unwrap().parse().unwrap() };
    let roles = RolePayees {
        protocol: account("protocol"),
        node: Some(account("node")),
        agent: None,
        base: Some(account("base-owner")),
        adapter: Some(account("adapter-owner")),
        stakers: account("stakers"),
        insurance: account("insurance"),
    };
    let shares = payees(&receipt, 0, Amount(1_000_000_000_000), &manifest, &roles, |_| false).unwrap();
    let previous = BTreeMap::from([(account("node"), Amount(5_000_000)), (account("second-node"), Amount(777))]);
    let refund = |value: &Value| Refund {
        node: value["node"].as_str().unwrap().parse().unwrap(),
        lane: hash(&value["lane"]),
        client: value["client"].as_str().unwrap().parse().unwrap(),
        amount: value["amount"].as_str().unwrap().parse().unwrap(),
        witness: Witness {
            epoch: value["witness"]["epoch"].as_str().unwrap().parse().unwrap(),
            node: value["witness"]["node"].as_str().unwrap().parse().unwrap(),
            index: value["witness"]["index"].as_str().unwrap().parse().unwrap(),
        },
    };
    let refunds: Vec<Refund> = list(&vectors["payout"]["refunds"]).iter().map(refund).collect();
    let payout = build_payout(&previous, shares, &refunds).unwrap();
    assert_eq!(
        (payout.root(), payout.total().to_string()),
        (hash(&vectors["payout"]["root"]), vectors["payout"]["total"].as_str().unwrap().to_owned())
    );
    for claim in list(&vectors["payout"]["claims"]) {
        let own = payout.claim(claim["account"].as_str().unwrap().parse().unwrap()).unwrap();
        assert_eq!(
            (own.leaf.cumulative.to_string(), own.leaf.parts),
            (claim["cumulative"].as_str().unwrap().to_owned(), hash(&claim["partsRoot"]))
        );
        assert_eq!(
            own.opening.siblings.iter().map(|s| s.digest).collect::<Vec<_>>(),
            list(&claim["digests"]).iter().map(hash).collect::<Vec<_>>()
        );
    }
}

#[test]
fn draws_of_checkers_are_those_of_the_vectors() {
    let vectors = vectors();
    assert!(list(&vectors["draws"]).len() > 9);
    for vector in list(&vectors["draws"]) {
        let account = |value: &Value| -> Address { value.as_str().unwrap().parse().unwrap() };
        let operators: Vec<_> =
            list(&vector["operators"]).iter().map(|o| (account(&o["account"]), o["stake"].as_str().unwrap().parse().unwrap())).collect();
        let rule = DrawRule {
            rate: u32::try_from(number(&vector["rate"])).unwrap(),
            checkers: u8::try_from(number(&vector["checkers"])).unwrap(),
            eligible_min: usize::try_from(number(&vector["eligibleMin"])).unwrap(),
        };
        let expected = match vector["outcome"].as_str().unwrap() {
            "unchecked" => Draw::Unchecked,
            "notDrawn" => Draw::NotDrawn,
            _ => Draw::Checkers(list(&vector["drawn"]).iter().map(account).collect()),
        };
        let (beacon, epoch, receipt) = (hash(&vector["beacon"]), number(&vector["epoch"]), hash(&vector["receipt"]));
        let got = draw(beacon, epoch, receipt, rule, &Operators::new(&operators).unwrap(), account(&vector["answering"]));
        assert_eq!(got, expected, "{}", vector["name"]);
    }
}

#[test]
fn what_a_checker_recomputes_is_what_the_vectors_find_in_every_window() {
    let vectors = vectors();
    let vector = &vectors["answer"]["checks"];
    let said = searched(&index(&vectors), vectors["answer"]["answer"].as_str().unwrap());
    assert_eq!(hex::encode(&said), hex::encode(bytes(&vector["searched"])));
    let checker = vector["checker"].as_str().unwrap().parse().unwrap();
    assert_eq!(trace_digest(checker, &[&said]), hash(&vector["digest"]));
}

#[test]
fn checks_and_their_two_roots_are_those_of_the_vectors() {
    let vectors = vectors();
    let vector = &vectors["answer"]["checks"];
    let account = |value: &Value| -> Address { value.as_str().unwrap().parse().unwrap() };
    let checks: Vec<Check> = list(&vector["checks"]).iter().map(|check| Check::decode(&bytes(&check["body"])).unwrap()).collect();
    for (check, vector) in checks.iter().zip(list(&vector["checks"])) {
        assert_eq!(
            (check.node, check.index, check.receipt),
            (account(&vector["node"]), number(&vector["index"]), hash(&vector["receipt"]))
        );
        assert_eq!((check.salt, check.seal()), (hash(&vector["salt"]), hash(&vector["seal"])));
        assert_eq!(hex::encode(check.encode()), hex::encode(bytes(&vector["body"])));
    }
    let (sealed, shown) = (hash(&vector["sealedRoot"]), hash(&vector["shownRoot"]));
    let stacked = Stacked::new(checks.iter().rev().copied().collect());
    assert_eq!((stacked.checks(), stacked.sealed(), stacked.shown()), (&checks[..], sealed, shown));
    for pair in list(&vector["openings"]) {
        let opened = stacked.open(number(&pair[0]["index"])).unwrap();
        assert_eq!((&opened.sealed, &opened.shown), (&opening(&pair[0]), &opening(&pair[1])));
        assert_eq!(opened.verify(sealed, shown, 5), Ok(()));
    }
}

#[test]
fn a_round_salts_what_it_seals_as_the_vectors_do() {
    let vectors = vectors();
    let vector = &vectors["answer"]["checks"];
    let (checker, epoch) = (vector["checker"].as_str().unwrap().parse().unwrap(), number(&vector["epoch"]));
    let expected: Vec<Check> = list(&vector["checks"]).iter().map(|check| Check::decode(&bytes(&check["body"])).unwrap()).collect();
    // All stake is the checker's, and one operator beside it does.
    let operators = Operators::new(&[(checker, u128::MAX - 1), (Address([9; 20]), 1)]).unwrap();
    let rule = DrawRule { rate: u32::MAX, checkers: 1, eligible_min: 1 };
    let mut round = Round::new(epoch, checker, rule, hash(&vector["secret"]));
    let node = expected[0].node;
    let receipts: Vec<Hash32> = expected.iter().map(|check| check.receipt).collect();
    assert_eq!(round.fetched(node, &receipts, Hash32([1; 32]), &operators), 5);
    for (check, receipt) in expected.iter().zip(&receipts) {
        let (index, _) = (0..).zip(&receipts).find(|(_, other)| *other == receipt).unwrap();
        round.checked(&Drawn { node, index, receipt: *receipt }, check.outcome);
    }
    let facts = Facts {
        time: 1,
        accepts_until: 1,
        sealed_until: 9,
        shown_until: 10,
        is_ripe: Some(true),
        beacon: Some(Hash32([1; 32])),
        nodes: &[node],
        operators: &operators,
        said: None,
    };
    assert!(matches!(round.steps(&facts)[..], [Step::Seal { count: 5, .. }]));
    let sealed: BTreeMap<Hash32, (Hash32, Outcome)> =
        round.sealed().unwrap().checks().iter().map(|check| (check.receipt, (check.salt, check.outcome))).collect();
    assert!(expected.iter().all(|check| sealed[&check.receipt] == (check.salt, check.outcome)));
}
