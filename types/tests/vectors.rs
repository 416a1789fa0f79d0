//! The golden vectors of the Protocol chapter, made by an independent script, hold this crate to every byte of it.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize,
    de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use types::{
    amount::Amount,
    contribution::{Contribution, GateReport},
    encoding::Document,
    id::{Address, Hash32},
    key::{self, Account, Domains, Signed65},
    manifest::Manifest,
    merkle::{self, Opening, SumOpening, SumTree, Summed, Tree},
    operator::{NodeBinding, NodeRoot},
    payout::{PartLeaf, PayoutLeaf, Witness, parts_tree, payout_tree},
    quote::Quote,
    receipt::{CheckReport, Receipt, token_ids_hash},
    request::Request,
    split::{self, SplitTable},
    text,
    voucher::{CreditNote, Lane, Voucher},
};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/vectors.json")).unwrap()
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
}

fn number<T: std::str::FromStr<Err: fmt::Debug>>(value: &Value) -> T {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).parse().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn domains(vectors: &Value) -> Domains {
    let contracts = &vectors["contracts"];
    Domains {
        chain_id: number(&vectors["chainId"]),
        escrow: read(&contracts["InferenceEscrow"]),
        registry: read(&contracts["AssetRegistry"]),
        settlement: read(&contracts["Settlement"]),
        stake: read(&contracts["StakeManager"]),
    }
}

/// All scalars of a JSON text in their order, names left out: two spellings of one document flatten alike.
struct Flat(Vec<String>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalars;
        impl<'de> Visitor<'de> for Scalars {
            type Value = Flat;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Flat, E> {
                Ok(Flat(vec![u8::from(value).to_string()]))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Flat, E> {
                Ok(Flat(vec![value.to_string()]))
            }
            fn visit_str<E>(self, value: &str) -> Result<Flat, E> {
                Ok(Flat(vec![code_of(value).to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Flat, A::Error> {
                let mut all = Vec::new();
                while let Some(Flat(more)) = items.next_element()? {
                    all.extend(more);
                }
                Ok(Flat(all))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Flat, A::Error> {
                let mut all = Vec::new();
                while let Some((name, Flat(more))) = fields.next_entry::<String, Flat>()? {
                    // Spare bytes are part of the body, not of the document.
                    if name != "spare" {
                        all.extend(more);
                    }
                }
                Ok(Flat(all))
            }
        }
        deserializer.deserialize_any(Scalars)
    }
}

fn code_of(text: &str) -> &str {
    match text {
        "candle-f32-b1" | "open" | "base" | "length" | "token" => "1",
        "exact" | "checked" | "adapter" | "cancelled" | "text" => "2",
        "fast" | "sealed" | "datanet" | "no-voucher" | "attribution" => "3",
        "agent" | "split" => "4",
        "signature" => "5",
        "activations" => "6",
        "engine-failure" => "16",
        "empty" => "17",
        "stop" | "agrees" => "0",
        other => other.trim_start_matches("0x"),
    }
}

/// The documents in the order of the file, with their fields in the order of the text.
fn ordered_fields() -> Vec<Vec<String>> {
    #[derive(Deserialize)]
    struct File {
        documents: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        fields: Flat,
    }
    let file: File = serde_json::from_str(include_str!("../../tests/fixtures/vectors.json")).unwrap();
    file.documents.into_iter().map(|case| case.fields.0).collect()
}

fn check_document<D: Document + serde::Serialize + PartialEq + fmt::Debug>(vectors: &Value, case: &Value, fields: &[String]) {
    let (name, body) = (case["name"].as_str().unwrap(), bytes(&case["body"]));
    let document = D::decode(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(document.encode(), body, "{name}");
    assert_eq!(D::NAME, name);
    assert_eq!(document.hash(), read(&case["hash"]), "{name}");
    let Flat(ours) = serde_json::from_str(&serde_json::to_string(&document).unwrap()).unwrap();
    assert_eq!(ours, fields, "{name}: fields in order");
    if case["digest"].is_null() {
        return;
    }
    let domains = domains(vectors);
    assert_eq!(domains.digest(&document), read(&case["digest"]), "{name}");
    let signer = &vectors["keys"][case["signer"].as_str().unwrap()];
    let account = Account::from_bytes(&bytes(&signer["secret"]).try_into().unwrap()).unwrap();
    let signature: Signed65 = read(&case["signature"]);
    assert_eq!(account.address(), read::<Address>(&signer["account"]), "{name}");
    assert_eq!(account.sign(&domains, &document), signature, "{name}: RFC 6979");
    assert_eq!(key::recover(&domains, &document, &signature), Ok(account.address()), "{name}");
}

#[test]
fn documents_have_the_bytes_hashes_digests_and_signatures_of_the_vectors() {
    let vectors = vectors();
    let mut seen = BTreeMap::new();
    for (case, fields) in list(&vectors["documents"]).iter().zip(ordered_fields()) {
        let name = case["name"].as_str().unwrap();
        *seen.entry(name.to_owned()).or_insert(0) += 1;
        match name {
            "Lane" => check_document::<Lane>(&vectors, case, &fields),
            "Voucher" => check_document::<Voucher>(&vectors, case, &fields),
            "Quote" => check_document::<Quote>(&vectors, case, &fields),
            "Request" => check_document::<Request>(&vectors, case, &fields),
            "Receipt" => check_document::<Receipt>(&vectors, case, &fields),
            "Manifest" => check_document::<Manifest>(&vectors, case, &fields),
            "NodeRoot" => check_document::<NodeRoot>(&vectors, case, &fields),
            "Contribution" => check_document::<Contribution>(&vectors, case, &fields),
            "GateReport" => check_document::<GateReport>(&vectors, case, &fields),
            "CheckReport" => check_document::<CheckReport>(&vectors, case, &fields),
            "NodeBinding" => check_document::<NodeBinding>(&vectors, case, &fields),
            "CreditNote" => check_document::<CreditNote>(&vectors, case, &fields),
            other => panic!("no test for document {other}"),
        }
    }
    assert_eq!(seen.len(), 12);
}

#[test]
fn bodies_that_are_no_documents_are_refused() {
    for case in list(&vectors()["refusedDocuments"]) {
        let body = bytes(&case["body"]);
        let is_refused = match case["name"].as_str().unwrap() {
            "Lane" => Lane::decode(&body).is_err(),
            "Voucher" => Voucher::decode(&body).is_err(),
            "Quote" => Quote::decode(&body).is_err(),
            "Request" => Request::decode(&body).is_err(),
            "Receipt" => Receipt::decode(&body).is_err(),
            "Manifest" => Manifest::decode(&body).is_err(),
            "NodeRoot" => NodeRoot::decode(&body).is_err(),
            "Contribution" => Contribution::decode(&body).is_err(),
            "GateReport" => GateReport::decode(&body).is_err(),
            "CheckReport" => CheckReport::decode(&body).is_err(),
            "NodeBinding" => NodeBinding::decode(&body).is_err(),
            "CreditNote" => CreditNote::decode(&body).is_err(),
            other => panic!("no test for document {other}"),
        };
        assert!(is_refused, "{}: {}", case["name"], case["why"]);
    }
}

#[test]
fn signatures_in_another_form_are_refused() {
    let vectors = vectors();
    let lane = list(&vectors["documents"]).iter().find(|case| case["name"] == "Lane" && case["case"] == "usual").unwrap();
    let document = Lane::decode(&bytes(&lane["body"])).unwrap();
    let signer: Address = read(&vectors["accounts"][lane["signer"].as_str().unwrap()]);
    for case in list(&vectors["refusedSignatures"]) {
        assert_eq!(case["digest"], lane["digest"]);
        let raw = bytes(&case["signature"]);
        let Ok(raw) = <[u8; 65]>::try_from(raw.as_slice()) else {
            assert!(serde_json::from_value::<Signed65>(case["signature"].clone()).is_err(), "{}", case["why"]);
            continue;
        };
        assert!(key::verify(&domains(&vectors), &document, &Signed65(raw), signer).is_err(), "{}", case["why"]);
    }
}

#[test]
fn trees_and_openings_equal_the_vectors() {
    for case in list(&vectors()["trees"]) {
        let leaves: Vec<_> = list(&case["leaves"]).iter().map(bytes).collect();
        let tree = Tree::over(leaves.iter().map(Vec::as_slice));
        assert_eq!(tree.root(), read(&case["root"]));
        for (index, opening) in list(&case["openings"]).iter().enumerate() {
            let expected = Opening {
                leaves: number(&opening["count"]),
                byte_length: number(&opening["length"]),
                index: number(&opening["index"]),
                siblings: read(&opening["siblings"]),
            };
            assert_eq!(tree.open(index as u64), Some(expected.clone()));
            assert_eq!(expected.root(&leaves[index]), Some(tree.root()));
        }
    }
}

#[test]
fn sum_trees_and_openings_equal_the_vectors() {
    for case in list(&vectors()["sumTrees"]) {
        let leaves: Vec<_> = list(&case["leaves"]).iter().map(|leaf| Summed::leaf(&bytes(&leaf["leaf"]), read(&leaf["amount"]))).collect();
        let tree = SumTree::new(leaves.clone()).unwrap();
        assert_eq!((tree.root(), tree.total()), (read(&case["root"]), read(&case["total"])));
        for (index, opening) in list(&case["openings"]).iter().enumerate() {
            let siblings = list(&opening["digests"])
                .iter()
                .zip(list(&opening["sums"]))
                .map(|(digest, sum)| Summed { digest: read(digest), sum: read(sum) })
                .collect();
            let expected = SumOpening { leaves: number(&case["count"]), index: number(&opening["index"]), siblings };
            assert_eq!(tree.open(index as u64), Some(expected.clone()));
            assert_eq!(expected.root(leaves[index]), Some((tree.root(), tree.total())));
        }
    }
}

#[test]
fn text_is_canonical_cut_into_words_and_hashed_as_in_the_vectors() {
    let text_vectors = &vectors()["text"];
    for case in list(&text_vectors["canonical"]) {
        let input = bytes(&case["input"]);
        assert_eq!(text::canonical_lossy(&input).into_bytes(), bytes(&case["answer"]), "{}", case["name"]);
        match (text::canonical_document(&input), case.get("document")) {
            (Ok(document), Some(expected)) => assert_eq!(document.into_bytes(), bytes(expected), "{}", case["name"]),
            (Err(_), None) => {}
            (got, _) => panic!("{}: {got:?}", case["name"]),
        }
    }
    for case in list(&text_vectors["words"]) {
        let words: Vec<[usize; 2]> = text::words(case["text"].as_str().unwrap()).into_iter().map(|word| [word.start, word.len()]).collect();
        let expected: Vec<[usize; 2]> = list(&case["words"])
            .iter()
            .map(|word| {
                let pair: Vec<usize> = read(word);
                [pair[0], pair[1]]
            })
            .collect();
        assert_eq!(words, expected, "{}", case["script"]);
    }
    for case in list(&text_vectors["leaves"]) {
        let bytes = bytes(&case["text"]);
        assert_eq!(text::leaves(&bytes).map(<[u8]>::len).collect::<Vec<_>>(), read::<Vec<usize>>(&case["leafLengths"]));
        assert_eq!(text::text_root(&bytes), read(&case["root"]));
    }
}

#[test]
fn money_is_divided_as_in_the_vectors() {
    let money = &vectors()["money"];
    for case in list(&money["fees"]) {
        let fee = split::fee(
            number(&case["tokensIn"]),
            number(&case["tokensOut"]),
            read(&case["rateIn"]),
            read(&case["rateOut"]),
            read(&case["protocolFee"]),
        );
        assert_eq!(fee, Ok(read(&case["fee"])));
    }
    for case in list(&money["sequentialRemainders"]) {
        let weights: Vec<u64> = list(&case["weights"]).iter().map(number).collect();
        let shares = split::sequential_remainder(read(&case["total"]), &weights);
        assert_eq!(shares, (!case["shares"].is_null()).then(|| read::<Vec<Amount>>(&case["shares"])), "{case}");
    }
    for case in list(&money["shares"]) {
        let rows: Vec<u16> = read(&case["split"]);
        let spans: Vec<u32> = list(&case["spanWeights"]).iter().map(number).collect();
        let treasuries: Vec<u64> = list(&case["treasuryWeights"]).iter().map(number).collect();
        let table = SplitTable::from_rows(rows.try_into().unwrap());
        let parts = split::parts(read(&case["fee"]), read(&case["protocolFee"]), &table, &spans, number(&case["totalWeight"]), &treasuries)
            .unwrap();
        let got: Vec<(u32, Amount)> = parts.into_iter().map(|(part, amount)| (part.code(), amount)).collect();
        let expected: Vec<(u32, Amount)> = list(&case["parts"]).iter().map(|part| (number(&part["code"]), read(&part["amount"]))).collect();
        assert_eq!(got, expected, "{}", case["name"]);
    }
}

#[test]
fn the_answer_of_the_vectors_has_their_ids_seed_and_prompt_root() {
    let vectors = vectors();
    let answer = &vectors["answer"];
    let tokens: Vec<u32> = read(&answer["tokenIds"]);
    assert_eq!(token_ids_hash(&tokens), read::<Hash32>(&answer["tokenIdHash"]));
    assert_eq!(text::prompt_root(&bytes(&answer["promptBytes"]), read(&answer["promptSalt"])), read(&answer["prompt"]["root"]));
    let request = list(&vectors["documents"]).iter().find(|case| case["name"] == "Request" && case["case"] == "usual").unwrap();
    let request = key::Signed {
        document: Request::decode(&bytes(&request["body"])).unwrap(),
        signature: read::<Signed65>(&answer["requestSignature"]),
    };
    assert_eq!(request.document.id(), read(&answer["requestId"]));
    assert_eq!(request.seed(), read(&answer["seed"]));
    let options = bytes(&answer["options"]);
    let asked = request.document.asked(&options).unwrap();
    assert_eq!((asked.min_p_ppm, asked.stop.as_slice()), (50_000, ["\n\n".to_owned(), "Frage:".to_owned()].as_slice()));
    assert_eq!((asked.encode(), asked.digest()), (options, request.document.options));
}

#[test]
fn payout_leaves_parts_and_claims_lead_to_the_root_of_the_vectors() {
    let payout = &vectors()["payout"];
    let mut leaves = Vec::new();
    for claim in list(&payout["claims"]) {
        let parts: Vec<PartLeaf> = list(&claim["parts"]).iter().map(|part| PartLeaf::decode(&bytes(&part["leaf"])).unwrap()).collect();
        let tree = parts_tree(&parts).unwrap();
        let leaf = PayoutLeaf {
            account: read(&claim["account"]),
            previous: read(&claim["previous"]),
            cumulative: read(&claim["cumulative"]),
            parts: read(&claim["partsRoot"]),
        };
        assert_eq!(tree.root(), leaf.parts);
        assert_eq!(tree.total(), leaf.cumulative.minus(leaf.previous).unwrap());
        leaves.push(leaf);
    }
    let tree = payout_tree(&leaves).unwrap();
    assert_eq!((tree.root(), tree.total()), (read(&payout["root"]), read(&payout["total"])));
    for (claim, leaf) in list(&payout["claims"]).iter().zip(&leaves) {
        let siblings = list(&claim["digests"])
            .iter()
            .zip(list(&claim["sums"]))
            .map(|(digest, sum)| Summed { digest: read(digest), sum: read(sum) })
            .collect();
        let opening = SumOpening { leaves: number(&payout["count"]), index: number(&claim["index"]), siblings };
        assert_eq!(opening.root(leaf.summed()), Some((tree.root(), tree.total())));
    }
}

#[test]
fn parts_and_refunds_have_the_bytes_of_the_vectors() {
    let (mut refunds, mut parts) = (0, 0);
    let vectors = vectors();
    for value in list(&vectors["payout"]["claims"]).iter().flat_map(|claim| list(&claim["parts"])) {
        let leaf = bytes(&value["leaf"]);
        let part = PartLeaf::decode(&leaf).unwrap();
        assert_eq!((hex::encode(part.encode()), part.amount), (hex::encode(&leaf), read(&value["amount"])));
        match part.refund {
            Some(of) => {
                assert_eq!(part, PartLeaf::refund(part.node, of.lane, part.amount, of.witness));
                let shown = list(&vectors["payout"]["refunds"]).iter().find(|refund| read::<Hash32>(&refund["lane"]) == of.lane).unwrap();
                let witness = &shown["witness"];
                let expected = Witness { epoch: number(&witness["epoch"]), node: read(&witness["node"]), index: number(&witness["index"]) };
                assert_eq!((of.witness, part.amount), (expected, read(&shown["amount"])));
                refunds += 1;
            }
            None => parts += 1,
        }
    }
    assert!(refunds == 4 && parts > 9, "{refunds} refunds, {parts} parts");
}

#[test]
fn receipts_open_under_the_node_root_of_the_vectors_with_their_fees() {
    let vectors = vectors();
    let receipts = &vectors["answer"]["receipts"];
    let body = list(&vectors["documents"]).iter().find(|case| case["name"] == "NodeRoot" && case["case"] == "usual").unwrap();
    let root = NodeRoot::decode(&bytes(&body["body"])).unwrap();
    assert_eq!((root.receipts, root.count, root.fees), (read(&receipts["root"]), number(&receipts["count"]), read(&receipts["total"])));
    for (index, (leaf, opening)) in list(&receipts["leaves"]).iter().zip(list(&receipts["openings"])).enumerate() {
        let siblings: Vec<Summed> = list(&opening["digests"])
            .iter()
            .zip(list(&opening["sums"]))
            .map(|(digest, sum)| Summed { digest: read(digest), sum: read(sum) })
            .collect();
        let opening = SumOpening { leaves: root.count, index: index as u64, siblings };
        let (hash, fee): (Hash32, Amount) = (read(&leaf["leaf"]), read(&leaf["amount"]));
        assert!(root.holds(hash, fee, &opening));
        assert!(!root.holds(hash, Amount(fee.0 + 1), &opening), "another fee stands at no place");
        assert!(!NodeRoot { fees: Amount(root.fees.0 + 1), ..root }.holds(hash, fee, &opening), "a sum that lies opens nothing");
        assert!(!NodeRoot { count: 4, ..root }.holds(hash, fee, &opening), "nor does another count");
    }
}

#[test]
fn node_roots_have_the_slots_of_the_vectors() {
    let vectors = vectors();
    for case in list(&vectors["nodeRootSlots"]) {
        let root = NodeRoot::decode(&bytes(&case["body"])).unwrap();
        assert_eq!((root.node, root.epoch), (read(&case["node"]), number(&case["epoch"])));
        assert_eq!(root.slot(number(&case["block"])), read(&case["slot"]));
    }
    assert_eq!(list(&vectors["nodeRootSlots"]).len(), 6);
}

#[test]
fn leaf_digests_are_those_of_the_tree() {
    assert_eq!(merkle::root(vec![merkle::leaf(b"a"), merkle::leaf(b"b")], 2), Tree::over([b"a".as_slice(), b"b"]).root());
}
