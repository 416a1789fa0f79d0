use proptest::prelude::*;

use super::*;

fn found(text: &str) -> Vec<(Kind, &str)> {
    scan(text).into_iter().map(|finding| (finding.kind, &text[finding.span])).collect()
}

fn check(text: &str, expected: &[(Kind, &str)]) {
    assert_eq!(found(text), expected, "{text}");
}

fn id(country: Country) -> Kind {
    Kind::NationalId(country)
}

#[test]
fn e_mail_addresses_are_found_with_their_ends() {
    check("Write to ada.lovelace+x@mail.example.org, or call.", &[(Kind::Email, "ada.lovelace+x@mail.example.org")]);
    check("<o'brien@example.ie>.", &[(Kind::Email, "o'brien@example.ie")]);
    check("josé@españa.es", &[(Kind::Email, "josé@españa.es")]);
    check("a@b.de b@c.fr", &[(Kind::Email, "a@b.de"), (Kind::Email, "b@c.fr")]);
    for none in ["@property", "a @ b.c", "x@y", "icon@2x.png", "user@host", "a.@b.de", "me@-x.com", "a@b..com", "pkg@1.2.3", "a@b.c@d.e"] {
        check(none, &[]);
    }
}

#[test]
fn accounts_need_their_checksums() {
    // The examples of the IBAN registry.
    for iban in [
        "DE89 3704 0044 0532 0130 00",
        "GB29NWBK60161331926819",
        "FR14 2004 1010 0505 0001 3M02 606",
        "IT60X0542811101000000123456",
        "NO9386011117947",
    ] {
        check(&format!("Pay to {iban}."), &[(Kind::Iban, iban)]);
    }
    check("DE89 3704 0044 0532 0130 01", &[]);
    for card in
        ["4111 1111 1111 1111", "5500-0055-5555-5559", "378282246310005", "6011111111111117", "3530111333300000", "2223003122003222"]
    {
        check(&format!("Charged {card} yesterday"), &[(Kind::Card, card)]);
    }
    for none in ["4111 1111 1111 1112", "3.4028234663852886", "1234567812345670", "0.4111111111111111", "4111.1111.1111.1111"] {
        check(none, &[]);
    }
}

#[test]
fn addresses_of_machines_are_told_from_versions_and_slices() {
    check("from 81.2.69.160 to 2a02:c7f:4e1::1234:5", &[(Kind::Ip, "81.2.69.160"), (Kind::Ip, "2a02:c7f:4e1::1234:5")]);
    check("Host: fe80::1ff:fe23:4567:890a.", &[(Kind::Ip, "fe80::1ff:fe23:4567:890a")]);
    for none in [
        "version 10.2.1.3",
        "1.2.3.4.5",
        "127.0.0.1",
        "0.0.0.0",
        "255.255.255.0",
        "256.1.1.1",
        "x[::2]",
        "std::net::Ipv4Addr",
        "12:30:45",
        "::1",
        "a::b",
        "dead::beef",
        "1.3.6.1.4.1.311",
    ] {
        check(none, &[]);
    }
}

#[test]
fn telephone_numbers_are_found_by_form_or_by_the_word_beside_them() {
    for phone in [
        "+44 20 7946 0958",
        "+49 (0)30 901820",
        "(212) 736-5000",
        "212-736-5000",
        "1-212-736-5000",
        "001-212-736-5000x123",
        "+1.212.736.5000",
        "01 42 68 53 00",
        "030/901820-15",
        "(0228) 997799",
        "+34 912 345 678",
        "+39 06 6982",
    ] {
        check(&format!("so {phone} it is"), &[(Kind::Phone, phone)]);
    }
    check("Tel.: 6982 4567", &[(Kind::Phone, "6982 4567")]);
    check("mobile 347 1234567, home", &[(Kind::Phone, "347 1234567")]);
    check("Téléphone 612345678", &[(Kind::Phone, "612345678")]);
    for none in [
        "a total of 6982 4567",
        "2024-01-15 10:00",
        "ISBN 0-306-40615-2",
        "01.02.2003 - 05.06.2007",
        "1 000 000 000",
        "OMIM 1234567",
        "HP:0000005",
        "0.123456789012",
        "x+12345678901",
        "100-200-300",
        "123-456-7890",
        "1,234,567.89",
    ] {
        check(none, &[]);
    }
}

#[test]
fn national_ids_pass_their_own_rules() {
    // Published examples, or built by the published rule.
    for (country, number) in [
        (Country::Us, "212-09-5551"),
        (Country::De, "86 095 742 719"),
        (Country::De, "47036892816"),
        (Country::De, "65180539W001"),
        (Country::Gb, "AB 12 34 56 C"),
        (Country::Gb, "AB123456C"),
        (Country::Es, "X-1234567-L"),
        (Country::Fr, "2 55 08 14 168 025 38"),
        (Country::Fr, "255081416802538"),
        (Country::Es, "12345678Z"),
        (Country::Es, "X1234567L"),
        (Country::It, "RSSMRA85T10A562S"),
        (Country::Br, "390.533.447-05"),
        (Country::In, "2341 2341 2346"),
        (Country::Ch, "756.9217.0769.85"),
    ] {
        check(&format!("and {number} too"), &[(id(country), number)]);
    }
    check("PESEL 44051401359", &[(id(Country::Pl), "44051401359")]);
    check("NHS number 943 476 5919", &[(id(Country::Gb), "943 476 5919")]);
    check("BSN 111222333", &[(id(Country::Nl), "111222333")]);
    check("his SSN is 212 09 5551", &[(id(Country::Us), "212 09 5551")]);
    for none in [
        "000-12-3456",
        "666-12-3456",
        "219-09-9999",
        "212-00-1234",
        "86095742710",
        "QQ123456C",
        "255081416802539",
        "12345678A",
        "RSSMRA85T10A562T",
        "390.533.447-06",
        "2341 2341 2347",
        "44051401359",
        "756.9217.0769.84",
        "111222333",
        "11111111111",
    ] {
        check(none, &[]);
    }
}

#[test]
fn a_name_as_long_as_names_may_be_ends_there_whatever_follows() {
    for (letters, rest) in [(58, " b"), (59, " b"), (60, " b"), (59, ""), (59, "-Berg"), (57, " B c")] {
        let text = format!("Mr A{}{rest}", "a".repeat(letters));
        assert_eq!(scan(&text).first().map(|found| (found.kind, found.span.start)), Some((Kind::Name, 3)), "{letters} {rest}");
    }
}

#[test]
fn names_are_found_after_a_salutation_only() {
    check("Dear Mrs Ada King, the", &[(Kind::Name, "Ada King")]);
    check("Herr von Neumann kam", &[(Kind::Name, "von Neumann")]);
    check("Dr. Marie Curie.", &[(Kind::Name, "Marie Curie")]);
    for none in ["Ada King", "Mr. and", "Drought", "Sr. no", "MRSA Infection", "PhD. Thesis", "Herring Bay", "Ms 5"] {
        check(none, &[]);
    }
}

#[test]
fn disguises_that_a_reader_does_not_see_do_not_help() {
    check("ada\u{200b}@exam\u{ad}ple.org", &[(Kind::Email, "ada\u{200b}@exam\u{ad}ple.org")]);
    check("ａｄａ＠example．org", &[(Kind::Email, "ａｄａ＠example．org")]);
    check("4111\u{a0}1111\u{a0}1111\u{a0}1111", &[(Kind::Card, "4111\u{a0}1111\u{a0}1111\u{a0}1111")]);
    check("212\u{2011}736\u{2011}5000", &[(Kind::Phone, "212\u{2011}736\u{2011}5000")]);
    check("هاتف ٠٣٠ ١٢٣ ٤٥٦٧", &[(Kind::Phone, "٠٣٠ ١٢٣ ٤٥٦٧")]);
    // Letters of other scripts are still letters: this is one word.
    check("日本4111111111111111", &[]);
}

#[test]
fn findings_that_overlap_are_one() {
    // A card's groups are also digits of a telephone number's length, an IBAN's tail a card's.
    check("call 4111 1111 1111 1111 now", &[(Kind::Card, "4111 1111 1111 1111")]);
    check("Tel. GB29 NWBK 6016 1331 9268 19", &[(Kind::Iban, "GB29 NWBK 6016 1331 9268 19")]);
    check("SSN and phone 212-09-5551", &[(id(Country::Us), "212-09-5551")]);
}

#[test]
fn a_redacted_text_holds_nothing_more_to_find() {
    let text = "Mr. Ada King, ada@example.org, +44 20 7946 0958, 81.2.69.160, DE89 3704 0044 0532 0130 00, 212-09-5551.";
    let redacted = redact(text, &scan(text));
    assert_eq!(redacted, "Mr. [name], [e-mail], [telephone], [IP address], [IBAN], [national id].");
    assert_eq!(scan(&redacted), []);
}

#[test]
fn a_report_shows_two_characters_at_most() {
    let text = "ada@example.org and 4111 1111 1111 1111";
    let masked: Vec<_> = scan(text).iter().map(|finding| finding.masked(text)).collect();
    assert_eq!(masked, ["a\u{2026}", "\u{2026}11"]);
}

#[test]
fn hostile_texts_cost_no_more_than_their_length() {
    // Doubling the length of each must not make a scan quadratic; these would then take minutes.
    let size = 2 << 20;
    let texts = [
        "x",
        "1",
        "1 ",
        "12-",
        "@",
        "a@",
        "a@b.",
        ":",
        "a:",
        "1.",
        "1.2.3.",
        "+",
        "(0",
        "Mr. A",
        "DE89",
        "a1",
        "\u{200b}",
        "é1",
        "4111 1111 ",
    ];
    for piece in texts {
        let text = piece.repeat(size / piece.len());
        let found = scan(&text);
        assert!(found.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start), "{piece}");
    }
}

proptest! {
    #[test]
    fn any_text_is_scanned_without_panic_and_spans_are_whole_characters(text in "\\PC{0,120}") {
        let found = scan(&text);
        for finding in &found {
            prop_assert!(!text[finding.span.clone()].is_empty());
            prop_assert!(finding.masked(&text).chars().count() <= 3);
        }
        prop_assert!(found.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start));
        let _ = redact(&text, &found);
    }

    #[test]
    fn digits_and_marks_in_any_order_are_scanned_without_panic(text in "[0-9A-Za-z@:.+()/ \\-\u{a0}\u{200b}é\n]{0,200}") {
        for finding in scan(&text) {
            prop_assert!(!text[finding.span].is_empty());
        }
    }

    #[test]
    fn a_found_number_is_found_between_any_words(before in "[a-zé ,;]{0,20}", after in "[,; ][a-zé ]{0,20}") {
        let text = format!("{before} 4111111111111111{after}");
        prop_assert_eq!(found(&text), [(Kind::Card, "4111111111111111")]);
    }
}

#[derive(serde::Deserialize)]
struct Oracle {
    rows: usize,
    presidio_recall: f64,
    presidio_precision: f64,
}

#[derive(serde::Deserialize)]
struct Row {
    text: String,
    labels: Vec<(usize, usize, String)>,
    source: String,
    presidio: Vec<(usize, usize)>,
}

/// Values, of them found; findings, of them right.
#[derive(Debug, Default)]
struct Score {
    values: u32,
    found: u32,
    findings: u32,
    right: u32,
}

impl Score {
    /// A value is found if findings cover four fifths of its bytes; a finding is right if it touches a value.
    fn add(&mut self, labels: &[(usize, usize, String)], findings: &[(usize, usize)]) {
        for (start, end, _) in labels {
            let covered = (*start..*end).filter(|at| findings.iter().any(|(low, high)| (low..high).contains(&at))).count();
            self.values += 1;
            self.found += u32::from(5 * covered >= 4 * (end - start));
        }
        for (low, high) in findings {
            self.findings += 1;
            self.right += u32::from(labels.iter().any(|(start, end, _)| low < end && start < high));
        }
    }

    fn recall(&self) -> f64 {
        f64::from(self.found) / f64::from(self.values)
    }

    fn precision(&self) -> f64 {
        f64::from(self.right) / f64::from(self.findings)
    }
}

/// Made by `tests/fixtures/gate/personal.py`: Faker's values in sentences of six locales, real rows without personal data, and Presidio's findings.
#[test]
fn personal_data_is_found_at_least_as_well_as_by_presidios_patterns() {
    let mut lines = include_str!("../../../../tests/fixtures/gate/personal.jsonl").lines();
    let oracle: Oracle = serde_json::from_str(lines.next().unwrap()).unwrap();
    let rows: Vec<Row> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), oracle.rows);
    let (mut ours, mut theirs) = (Score::default(), Score::default());
    let mut kinds: BTreeMap<String, (Score, Score)> = BTreeMap::new();
    for row in &rows {
        // The figures are those of pattern types: a sentence of the set holds a name after a salutation, which has no label and no pattern there.
        let found = scan(&row.text).into_iter().filter(|finding| finding.kind != Kind::Name);
        let found: Vec<_> = found.map(|finding| (finding.span.start, finding.span.end)).collect();
        ours.add(&row.labels, &found);
        theirs.add(&row.labels, &row.presidio);
        let kind = row.labels.first().map_or_else(|| row.source.clone(), |(.., kind)| format!("{kind} {}", row.source));
        let (our, their) = kinds.entry(kind).or_default();
        our.add(&row.labels, &found);
        their.add(&row.labels, &row.presidio);
    }
    println!("{:<14} {:>6} {:>6} {:>9}   findings, of them right", "", "values", "found", "presidio");
    for (kind, (our, their)) in &kinds {
        println!("{kind:<14} {:>6} {:>6} {:>9}   {} {}", our.values, our.found, their.found, our.findings, our.right);
    }
    println!("storage.pii_recall    {:.4}  presidio {:.4}", ours.recall(), oracle.presidio_recall);
    println!("storage.pii_precision {:.4}  presidio {:.4}", ours.precision(), oracle.presidio_precision);
    assert!((theirs.recall() - oracle.presidio_recall).abs() < 1e-3 && (theirs.precision() - oracle.presidio_precision).abs() < 1e-3);
    assert!(ours.recall() >= 0.95 && ours.recall() >= theirs.recall(), "{ours:?}");
    assert!(ours.precision() >= 0.90 && ours.precision() >= theirs.precision(), "{ours:?}");
}

#[test]
fn numbers_that_databases_count_by_are_no_telephone_numbers_in_an_id() {
    let kinds = |id: &str| scan_id(id).into_iter().map(|finding| finding.kind).collect::<Vec<_>>();
    // A thousand in a row of each length, with and without leading zeros: one in ten 16 digits passes Luhn, and 4 begins a card's.
    for (first, width) in
        [(1_u64, 10), (100_000_000_000, 12), (3_090_182_000, 11), (309_018_200, 10), (20_240_101_000, 14), (1_700_000_000_000, 13)]
    {
        let found: Vec<_> = (first..first + 1000).map(|id| format!("{id:0width$}")).filter(|id| !scan_id(id).is_empty()).collect();
        assert!(found.len() <= 5, "{found:?}");
    }
    for id in ["text:0301234567", "call:03012345678", "550e8400-e29b-41d4-a716-446655440000", "2024-01-02/000123", "doc_0301234567"] {
        assert_eq!(kinds(id), [], "{id}");
    }
    for (id, kind) in [
        ("+49 30 901820", Kind::Phone),
        ("+4930901820", Kind::Phone),
        ("030 901 8200", Kind::Phone),
        ("tel:03012345678", Kind::Phone),
        ("(212) 555-0123", Kind::Phone),
        ("4111111111111111", Kind::Card),
        ("carol@example.com", Kind::Email),
        ("user/81.2.69.160", Kind::Ip),
    ] {
        assert_eq!(kinds(id), [kind], "{id}");
    }
}
