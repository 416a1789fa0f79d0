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
    let accepted = Accepted { contributor: given.contributor, text_root, documents: count, object: BlobId::ZERO, text_salt: None };
    datanet.accept(place, accepted, &Shard::of(given.documents.clone())).unwrap();
}

fn numbered(at: usize) -> String {
    (at + 1).to_string()
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
    let (given, shard) = (contribution(BEN, &["three", "two"]), Shard::of(documents(&["three", "two"])));
    let place = Place { block: 11, ordinal: 0 };
    assert_eq!(datanet.gate_shard(place, BEN, &given.licence, &shard), report, "an opened shard is looked at as its rows are");
    let salted = shard.salted(Hash32([1; 32]));
    let of_private = Report { text_root: salted.text_root(), ..report.clone() };
    assert_eq!(datanet.gate_shard(place, BEN, &given.licence, &salted), of_private, "under the root that was registered");
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
fn rows_are_held_against_those_of_the_contribution_before_while_neither_is_accepted() {
    let words = |from: usize| (from..from + 40).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ");
    let (long, nearly, other) = (words(0), words(0) + " more", words(500));
    let (_, sketch, is_copy) = datanet().gate_beside(Place::default(), &contribution(ANNA, &["one", &long]), None);
    assert!(!is_copy);
    let beside = |texts: &[&str]| {
        let given = contribution(ANNA, texts);
        let (report, _, is_copy) = datanet().gate_beside(Place::default(), &given, Some(&sketch));
        assert_eq!(report, datanet().gate(Place::default(), &given), "the report is that of the gate");
        is_copy
    };
    assert!(beside(&["two", &long]) && beside(&["two", &nearly]), "a near copy, or the same");
    assert!(beside(&["two", "one"]), "too short for a sketch, and the same");
    assert!(!beside(&["two", &other]) && !beside(&[]));
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
    let fitting = Contribution { licence: "MIT".parse().unwrap(), ..contribution(ANNA, &["a"]) };
    assert!(datanet().gate(Place::default(), &fitting).accepted);
    let other = Contribution { licence: "CC-BY-NC-4.0".parse().unwrap(), ..contribution(ANNA, &["a"]) };
    let report = datanet().gate(Place::default(), &other);
    assert_eq!(rules(&report), [(0, Rule::Licence)]);
    assert!(report.refusals[0].detail.contains("CC-BY-NC-4.0 forbids commercial use, CC-BY-4.0 does not"));
}

#[test]
fn a_report_has_one_json_form_and_its_digest_covers_every_field() {
    let report = datanet().gate(Place::default(), &contribution(ANNA, &["a", "a"]));
    let json = report.to_json();
    assert_eq!(
        json,
        format!(
            r#"{{"accepted":false,"contributor":"{ANNA}","text_root":"{}","text_bytes":4,"documents":2,"refusals":[{{"row":2,"rule":"repeated","action":"block","detail":"the same text as row 1 of this contribution","fix":"leave this row out","earlier":{{"owner":"{ANNA}","row":1,"per_mille":1000}}}}],"unlisted":0}}"#,
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
    let registered =
        Accepted { contributor: ANNA, text_root: types::text::text_root(b"one\0"), documents: 1, object: BlobId::ZERO, text_salt: None };
    let error = datanet.accept(Place::default(), registered, &Shard::of(documents(&["two"]))).unwrap_err();
    assert!(matches!(error, AcceptError::TextRoot { .. }));
    assert_eq!(datanet.accepted().count(), 0);
    datanet.accept(Place::default(), registered, &Shard::of(documents(&["one"]))).unwrap();
    datanet.accept(Place::default(), registered, &Shard::of(documents(&["one"]))).unwrap();
    let salted = Shard::of(documents(&["one"])).salted(Hash32([1; 32]));
    let private = Accepted { text_root: salted.text_root(), text_salt: salted.text_salt(), ..registered };
    let unsalted = Accepted { text_salt: None, ..private };
    let next = Place { block: 1, ordinal: 0 };
    assert!(matches!(datanet.accept(next, private, &Shard::of(documents(&["one"]))), Err(AcceptError::TextRoot { .. })));
    assert!(matches!(datanet.accept(next, unsalted, &salted), Err(AcceptError::TextRoot { .. })));
    datanet.accept(next, private, &salted).unwrap();
    assert_eq!(datanet.usage(ANNA), Usage { rows: 2, bytes: 8 });
    let other = Accepted { contributor: BEN, ..registered };
    assert!(matches!(datanet.accept(Place::default(), other, &Shard::of(documents(&["one"]))), Err(AcceptError::PlaceTaken { .. })));
}

fn with_policy(policy: GatePolicy) -> Datanet {
    Datanet::new(datanet().card().clone().with_policy(policy).unwrap())
}

const WORDS: &str = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen \
                     twenty and then some more of the same kind until there are thirty words or so";

#[test]
fn a_near_copy_is_a_note_or_a_refusal_as_the_card_says_and_shows_its_likeness() {
    let copy = format!("{WORDS}, at last");
    for (action, is_accepted) in [(Action::Note, true), (Action::Redact, false), (Action::Quarantine, false), (Action::Block, false)] {
        let mut datanet = with_policy(GatePolicy { near_copies: action, ..GatePolicy::default() });
        accept(&mut datanet, Place { block: 10, ordinal: 0 }, &contribution(ANNA, &["zero", WORDS]));
        let report = datanet.gate(Place { block: 11, ordinal: 0 }, &contribution(BEN, &["something else", &copy]));
        assert_eq!(report.accepted, is_accepted);
        let found = report.notes.iter().chain(&report.refusals).next().unwrap();
        assert_eq!((found.row, found.rule), (2, Rule::NearCopy));
        assert_eq!(found.action, if action == Action::Redact { Action::Quarantine } else { action });
        assert!(found.detail.starts_with("93.9 % of the shingles (31 of 33) are those of document 2"), "{}", found.detail);
        assert!(found.detail.contains(&ANNA.to_string()) && found.detail.contains("block 10"));
        // Nobody is told of a copy that came later than the original.
        assert!(datanet.gate(Place { block: 9, ordinal: 0 }, &contribution(BEN, &[&copy])).notes.is_empty());
    }
}

#[test]
fn near_copies_within_a_contribution_point_at_the_first_row() {
    let report = datanet()
        .gate(Place { block: 5, ordinal: 1 }, &contribution(ANNA, &["x", WORDS, &format!("{WORDS} x"), &format!("y {WORDS}"), WORDS]));
    let notes: Vec<_> = report.notes.iter().map(|note| (note.row, note.rule)).collect();
    assert_eq!(notes, [(3, Rule::NearCopy), (4, Rule::NearCopy)]);
    assert!(report.notes.iter().all(|note| note.detail.ends_with("row 2 of this contribution")), "{:?}", report.notes);
    assert_eq!(rules(&report), [(5, Rule::Repeated)], "an exact copy is told once, as such");
}

#[test]
fn clusters_are_read_off_the_accepted_contributions_whatever_came_first() {
    let mut datanet = datanet();
    accept(&mut datanet, Place { block: 20, ordinal: 0 }, &contribution(BEN, &["alone", &format!("{WORDS} x")]));
    accept(&mut datanet, Place { block: 10, ordinal: 0 }, &contribution(ANNA, &[WORDS]));
    let clusters: Vec<_> =
        datanet.clusters().iter().map(|member| (member.document.block, member.document.document, member.cluster.block)).collect();
    assert_eq!(clusters, [(10, 0, 10), (20, 0, 20), (20, 1, 10)]);
    let copied = format!("{WORDS} x");
    let contributions = [(20, vec!["alone", &copied]), (10, vec![WORDS])];
    let alone = contributions.map(|(block, texts)| (Place { block, ordinal: 0 }.of_document(0), texts));
    assert_eq!(dedup::clusters_of(alone).unwrap(), datanet.clusters());
}

#[test]
fn personal_data_is_masked_in_a_report_and_replaced_in_a_redaction() {
    let text = "For help write to ada.lovelace@example.org or call +44 20 7946 0958 before noon.";
    for (action, is_accepted) in [(Action::Note, true), (Action::Redact, false), (Action::Quarantine, false), (Action::Block, false)] {
        let datanet = with_policy(GatePolicy { personal_data: action, ..GatePolicy::default() });
        let given = contribution(ANNA, &["nothing here", text]);
        let report = datanet.gate(Place::default(), &given);
        assert_eq!(report.accepted, is_accepted);
        let found = report.notes.iter().chain(&report.refusals).next().unwrap();
        assert_eq!((found.row, found.rule, found.action), (2, Rule::PersonalData, action));
        assert_eq!(found.detail, "e-mail address a\u{2026} at bytes 18 to 42; telephone number \u{2026}58 at bytes 51 to 67");
        assert_eq!(found.preview.as_deref(), Some("For help write to [e-mail] or call [telephone] before noon."));
        let json = report.to_json();
        assert!(!json.contains("ada") && !json.contains("7946"), "{json}");
        let mended = redacted(&given.documents, numbered).unwrap();
        assert_eq!(mended[0], given.documents[0]);
        assert_eq!(mended[1].text(), "For help write to [e-mail] or call [telephone] before noon.");
        assert!(datanet.gate(Place::default(), &Contribution { documents: mended, ..given }).accepted);
    }
}

#[test]
fn a_report_of_a_private_datanet_holds_nothing_of_its_text() {
    for action in [Action::Note, Action::Block] {
        let card = with_policy(GatePolicy { personal_data: action, ..GatePolicy::default() }).card().clone().with_privacy(true);
        let given = contribution(ANNA, &["Ward 7, bed 3: write to ada@example.org about the biopsy."]);
        let report = Datanet::new(card).gate(Place::default(), &given);
        let found = report.notes.iter().chain(&report.refusals).next().unwrap();
        assert_eq!((found.detail.as_str(), &found.preview), ("e-mail address at bytes 24 to 39", &None));
        let json = report.to_json();
        assert!(["Ward", "ada", "a\u{2026}", "biopsy"].iter().all(|word| !json.contains(word)), "{json}");
    }
}

#[test]
fn a_redaction_that_would_make_a_text_too_long_names_the_document_instead_of_cutting_it() {
    let mut text = "1.1.1.1 ".repeat(131_071);
    text.push_str("8.8.8.8");
    let documents = [Document::new(None, None, b"short").unwrap(), Document::new(None, None, text.as_bytes()).unwrap()];
    let (at, error) = redacted(&documents, numbered).unwrap_err();
    assert!(at == 1 && error.to_string().contains("bytes"), "{at}: {error}");
}

#[test]
fn personal_data_in_a_title_is_found_and_redacted() {
    let document = Document::new(Some("1".into()), Some("Letter of ada@example.org".into()), b"Dear all").unwrap();
    let given = Contribution { documents: vec![document], ..contribution(ANNA, &[]) };
    let report = with_policy(GatePolicy { personal_data: Action::Block, ..GatePolicy::default() }).gate(Place::default(), &given);
    assert_eq!(rules(&report), [(1, Rule::PersonalData)]);
    assert_eq!(report.refusals[0].detail, "in the title: e-mail address a\u{2026} at bytes 10 to 25");
    assert_eq!(redacted(&given.documents, numbered).unwrap()[0].title(), Some("Letter of [e-mail]"));
}

fn with_id(id: &str, text: &str) -> Document {
    Document::new(Some(id.into()), None, text.as_bytes()).unwrap()
}

#[test]
fn personal_data_in_an_id_is_found_and_the_id_replaced_by_one_that_tells_nothing() {
    let ids = ["carol@example.com", "+49 30 901820", "row-1", "carol@example.com", "41", "DE89370400440532013000"];
    let texts = ["dear all", "the tide", "the fog", "the rain", "the snow", "the hail"];
    let documents = ids.iter().zip(texts).map(|(id, text)| with_id(id, text)).collect();
    let given = Contribution { documents, ..contribution(ANNA, &[]) };
    for (action, is_accepted) in [(Action::Note, true), (Action::Redact, false), (Action::Quarantine, false), (Action::Block, false)] {
        let datanet = with_policy(GatePolicy { personal_data: action, ..GatePolicy::default() });
        let report = datanet.gate(Place::default(), &given);
        let found: Vec<_> = report.notes.iter().chain(&report.refusals).map(|found| (found.row, found.part(), found.action)).collect();
        assert_eq!((found, report.accepted), ([1, 2, 4, 6].map(|row| (row, Part::Id, action)).to_vec(), is_accepted));
        let first = report.notes.iter().chain(&report.refusals).next().unwrap();
        assert_eq!(
            (first.detail.as_str(), first.preview.as_deref()),
            ("in the id: e-mail address c\u{2026} at bytes 0 to 17", Some("row-1"))
        );
        assert!(!report.to_json().contains("carol@") && !report.to_json().contains("901820"));
        let mended = redacted(&given.documents, numbered).unwrap();
        let ids: Vec<_> = mended.iter().map(|document| document.id().unwrap()).collect();
        assert_eq!(ids, ["row-1-2", "row-2", "row-1", "row-4", "41", "row-6"], "no two alike, and what somebody named so keeps its name");
        assert_eq!(redacted(&mended, numbered).unwrap(), mended, "done again it changes nothing");
        assert!(datanet.gate(Place::default(), &Contribution { documents: mended, ..given.clone() }).notes.is_empty());
    }
    let card = with_policy(GatePolicy { personal_data: Action::Block, ..GatePolicy::default() }).card().clone().with_privacy(true);
    let report = Datanet::new(card).gate(Place::default(), &given);
    assert_eq!((report.refusals[0].detail.as_str(), &report.refusals[0].preview), ("in the id: e-mail address at bytes 0 to 17", &None));
}

#[test]
fn a_contributor_who_brings_more_than_the_card_takes_is_told_what_is_left() {
    let mut datanet = with_policy(GatePolicy { contributor_rows_max: Some(3), contributor_bytes_max: Some(20), ..GatePolicy::default() });
    accept(&mut datanet, Place { block: 1, ordinal: 0 }, &contribution(ANNA, &["one", "two"]));
    assert_eq!(datanet.usage(ANNA), Usage { rows: 2, bytes: 8 });
    assert!(datanet.gate(Place { block: 2, ordinal: 0 }, &contribution(ANNA, &["three"])).accepted);
    let rows = datanet.gate(Place { block: 2, ordinal: 0 }, &contribution(ANNA, &["three", "four"]));
    assert_eq!(rules(&rows), [(0, Rule::ContributorLimit)]);
    assert_eq!(rows.refusals[0].fix, "bring at most 1 rows");
    let bytes = datanet.gate(Place { block: 2, ordinal: 0 }, &contribution(ANNA, &["thirteen more"]));
    assert_eq!((rules(&bytes), bytes.refusals[0].fix.as_str()), (vec![(0, Rule::ContributorLimit)], "bring at most 12 bytes of text"));
    assert!(datanet.gate(Place { block: 2, ordinal: 0 }, &contribution(BEN, &["thirteen more"])).accepted, "another's limit is another's");
}

#[test]
fn the_longest_report_fits_its_frame() {
    let row = |n: usize| format!("{n}\u{fffd} {} 9.9.9.9 8.8.8.8 7.7.7.7 6.6.6.6 5.5.5.5 {}", "\"\\".repeat(40), "\n\"".repeat(40));
    let documents = (0..2000).flat_map(|n| {
        let title = Some("\"9.9.9.9\" ".repeat(60));
        [Document::new(None, title, row(n).as_bytes()).unwrap(), Document::new(None, None, format!("same {}", n / 2).as_bytes()).unwrap()]
    });
    let given = Contribution { documents: documents.collect(), ..contribution(ANNA, &[]) };
    let report = datanet().gate(Place::default(), &given);
    assert_eq!((report.refusals.len(), report.notes.len()), (REFUSALS_MAX, NOTES_MAX));
    let block = with_policy(GatePolicy { personal_data: Action::Block, ..GatePolicy::default() }).gate(Place::default(), &given);
    for report in [report, block] {
        assert!(report.to_json().len() < crate::proto::gate::REPLY_BYTES_MAX - 1024, "{}", report.to_json().len());
    }
}

#[test]
fn more_findings_than_reviewers_are_shown_are_refused_with_the_limit_their_number_and_the_fix() {
    let quarantine = with_policy(GatePolicy { personal_data: Action::Quarantine, ..GatePolicy::default() });
    let given = |rows: usize| {
        let documents = (0..rows).map(|n| Document::new(None, None, format!("{n} anna@example.org").as_bytes()).unwrap());
        Contribution { documents: documents.collect(), ..contribution(ANNA, &[]) }
    };
    let fits = quarantine.gate(Place::default(), &given(REFUSALS_MAX));
    assert!(fits.can_wait() && fits.refusals.len() == REFUSALS_MAX);
    let report = quarantine.gate(Place::default(), &given(REFUSALS_MAX + 500));
    let first = &report.refusals[0];
    assert_eq!((first.row, first.rule, first.action), (0, Rule::TooLarge, Action::Block));
    assert!(first.detail.starts_with("1500 findings") && first.detail.contains("at most 1000"), "{}", first.detail);
    assert!(first.fix.starts_with("split the file"), "{}", first.fix);
    assert_eq!((report.can_wait(), report.refusals.len(), report.unlisted), (false, REFUSALS_MAX, 501));
    assert!(report.refusals.iter().all(|refusal| !refusal.fix.contains("wait")), "nothing of it can wait");
}
