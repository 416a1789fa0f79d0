use super::*;

const ANNA: Address = Address([0xaa; 20]);
const BEN: Address = Address([0xbb; 20]);

fn documents(texts: &[&str]) -> Vec<Document> {
    texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect()
}

fn contribution(contributor: Address, texts: &[&str]) -> Contribution {
    Contribution { contributor, licence: "CC-BY-4.0".parse().unwrap(), documents: documents(texts) }
}

fn datanet() -> Datanet {
    Datanet::new(Card::new("medical".parse().unwrap(), "Terms.".into(), "CC-BY-4.0".parse().unwrap(), vec!["en".into()], vec![]).unwrap())
}

fn accept(datanet: &mut Datanet, place: Place, given: &Contribution) {
    let text_root = types::text::text_root(contribution_text(&given.documents).as_bytes());
    let count = u32::try_from(given.documents.len()).unwrap();
    let accepted = Accepted { contributor: given.contributor, text_root, documents: count, object: BlobId::ZERO };
    datanet.accept(place, accepted, &given.documents).unwrap();
}

fn rules(report: &Report) -> Vec<(u32, Rule)> {
    report.refusals.iter().map(|refusal| (refusal.row, refusal.rule)).collect()
}

#[test]
fn an_exact_copy_is_refused_and_the_first_owner_named() {
    let mut datanet = datanet();
    accept(&mut datanet, Place { block: 10, ordinal: 0 }, &contribution(ANNA, &["one", "two"]));
    let report = datanet.gate(Place { block: 11, ordinal: 0 }, &contribution(BEN, &["three", "two"]));
    assert!(!report.accepted);
    assert_eq!(rules(&report), [(2, Rule::Duplicate)]);
    let refusal = &report.refusals[0];
    assert!(refusal.detail.contains("document 2") && refusal.detail.contains(&ANNA.to_string()) && refusal.detail.contains("block 10"));
    assert!(refusal.fix.contains("leave this row out"));
}

#[test]
fn copies_are_found_in_canonical_form_and_within_a_contribution() {
    let report = datanet().gate(Place::default(), &contribution(ANNA, &["caf\u{e9}", "x", "cafe\u{301}", "x", "x"]));
    assert_eq!(rules(&report), [(3, Rule::Repeated), (4, Rule::Repeated), (5, Rule::Repeated)]);
    assert!(report.refusals[2].detail.contains("row 2"), "every copy points at the first row");
}

#[test]
fn an_earlier_commitment_accepted_later_takes_the_document_over() {
    let mut datanet = datanet();
    accept(&mut datanet, Place { block: 20, ordinal: 0 }, &contribution(BEN, &["one"]));
    let early = contribution(ANNA, &["zero", "one"]);
    assert!(datanet.gate(Place { block: 10, ordinal: 3 }, &early).accepted);
    accept(&mut datanet, Place { block: 10, ordinal: 3 }, &early);
    let first = datanet.first(&early.documents[1]).unwrap();
    assert_eq!((first.owner, first.priority), (ANNA, Priority { block: 10, ordinal: 3, document: 1 }));
    assert_eq!(datanet.accepted().map(|(place, _)| place.block).collect::<Vec<_>>(), [10, 20]);
}

#[test]
fn the_whole_contribution_is_looked_at_too() {
    let none = datanet().gate(Place::default(), &contribution(ANNA, &[]));
    assert_eq!(rules(&none), [(0, Rule::Empty)]);
    let other = Contribution { licence: "MIT".parse().unwrap(), ..contribution(ANNA, &["a"]) };
    let report = datanet().gate(Place::default(), &other);
    assert_eq!(rules(&report), [(0, Rule::Licence)]);
    assert!(report.refusals[0].detail.contains("MIT") && report.refusals[0].detail.contains("CC-BY-4.0"));
}

#[test]
fn a_report_has_one_json_form_and_its_digest_covers_every_field() {
    let report = datanet().gate(Place::default(), &contribution(ANNA, &["a", "a"]));
    let json = report.to_json();
    assert_eq!(
        json,
        format!(
            r#"{{"accepted":false,"contributor":"{ANNA}","text_root":"{}","text_bytes":4,"documents":2,"refusals":[{{"row":2,"rule":"repeated","detail":"the same text as row 1 of this contribution","fix":"leave this row out"}}],"unlisted":0}}"#,
            report.text_root
        )
    );
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    assert_eq!(report.digest(), types::merkle::keccak(&[json.as_bytes()]));
    assert_ne!(report.digest(), Report { accepted: true, ..report.clone() }.digest());
}

#[test]
fn a_report_lists_a_bounded_number_of_refusals_and_counts_the_rest() {
    let texts = vec!["same"; REFUSALS_MAX + 6];
    let report = datanet().gate(Place::default(), &contribution(ANNA, &texts));
    assert_eq!((report.refusals.len(), report.unlisted, report.accepted), (REFUSALS_MAX, 5, false));
}

#[test]
fn documents_other_than_the_registered_ones_are_not_entered() {
    let mut datanet = datanet();
    let registered = Accepted { contributor: ANNA, text_root: types::text::text_root(b"one\0"), documents: 1, object: BlobId::ZERO };
    let error = datanet.accept(Place::default(), registered, &documents(&["two"])).unwrap_err();
    assert!(matches!(error, AcceptError::TextRoot { .. }));
    assert_eq!(datanet.accepted().count(), 0);
    datanet.accept(Place::default(), registered, &documents(&["one"])).unwrap();
    datanet.accept(Place::default(), registered, &documents(&["one"])).unwrap();
    let other = Accepted { contributor: BEN, ..registered };
    assert!(matches!(datanet.accept(Place::default(), other, &documents(&["one"])), Err(AcceptError::PlaceTaken { .. })));
}
