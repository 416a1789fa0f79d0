use std::io::BufReader;

use proptest::prelude::*;

use super::*;

fn read(input: &[u8]) -> Result<Vec<Document>, ReadError> {
    documents(input, Format::Jsonl, None)
}

#[track_caller]
fn check(input: &[u8], words: &[&str]) {
    let error = read(input).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}

#[test]
fn rows_become_documents_and_unknown_keys_stay_out() {
    let input = b"\xef\xbb\xbf{\"text\":\"a\"}\r\n\n{\"id\":7,\"title\":\"T\",\"text\":\"b\\nc\",\"source\":{\"deep\":[1]}}\n  \n{\"text\":\"d\",\"id\":\"x\",\"title\":\"\"}";
    let rows = read(input).unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.id(), row.title(), row.text())).collect();
    assert_eq!(rows, [(None, None, "a"), (Some("7"), Some("T"), "b\nc"), (Some("x"), None, "d")]);
}

#[test]
fn a_broken_line_is_named_with_its_column_and_its_fix() {
    check(b"{\"text\":\"a\"}\n{\"text\":\n", &["line 2: not a document: EOF while parsing", "one JSON object a line"]);
    check(b"{\"title\":\"a\"}", &["line 1", "missing field `text`"]);
    check(b"[1,2]", &["line 1", "not a document"]);
    check(b"{\"text\":5}", &["line 1", "invalid type: integer `5`"]);
    check(b"{\"text\":\"a\",\"id\":1.5}", &["\"id\" must be a string or an integer"]);
    check(b"{\"text\":\"a\"} {\"text\":\"b\"}", &["trailing characters at column 14"]);
}

#[test]
fn unacceptable_text_is_named_with_its_line() {
    check(b"{\"text\":\"a\"}\n{\"text\":\"\"}\n", &["line 2: the document is empty"]);
    check(b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}\n", &["line 2: invalid UTF-8 at byte 9"]);
    check(b"{\"text\":\"a\\u0007\"}", &["line 1: control character U+0007"]);
    check(b"{\"text\":\"\\ud800\"}", &["line 1: not a document", "hex escape"]);
    check(b"\n\n", &["the file holds no document"]);
}

#[test]
fn all_errors_of_a_file_are_shown_at_once_up_to_a_bound() {
    check(b"{\"text\":\"\"}\n{\"text\":\"a\"}\nx\n", &["line 1: the document is empty", "line 3: not a document"]);
    let many = "x\n".repeat(ERRORS_MAX + 7);
    let error = read(many.as_bytes()).unwrap_err();
    assert_eq!((error.errors.len(), error.unlisted), (ERRORS_MAX, 7));
    assert!(error.to_string().ends_with("and 7 more"));
}

/// Yields `left` bytes of one endless line and counts what was taken.
struct Endless<'a> {
    left: usize,
    taken: &'a std::cell::Cell<usize>,
}

impl Read for Endless<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out.len().min(self.left);
        out[..len].fill(b'a');
        self.left -= len;
        self.taken.set(self.taken.get() + len);
        Ok(len)
    }
}

#[test]
fn a_line_of_100_mb_is_refused_without_reading_it() {
    let taken = std::cell::Cell::new(0);
    let good = &b"{\"text\":\"a\"}\n{\"text\":\""[..];
    let input = good.chain(Endless { left: 100_000_000, taken: &taken });
    let error = documents(BufReader::new(input), Format::Jsonl, None).unwrap_err().to_string();
    assert!(error.contains("line 2: the line is longer than 4194304 bytes") && error.contains("split the document"), "{error}");
    assert!(taken.get() < LINE_BYTES_MAX + 100_000, "{} bytes were read", taken.get());
}

#[test]
fn a_text_of_1_mib_is_read_and_one_byte_more_is_refused() {
    let line = |len: usize| format!("{{\"text\":\"{}\"}}\n", "a".repeat(len));
    assert_eq!(read(line(TEXT_BYTES_MAX).as_bytes()).unwrap()[0].text().len(), TEXT_BYTES_MAX);
    check(line(TEXT_BYTES_MAX + 1).as_bytes(), &["line 1: text has 1048577 bytes, at most 1048576"]);
}

#[test]
fn a_line_of_exactly_the_cap_is_read_and_one_byte_more_is_not() {
    let line = |len: usize| format!("{{\"text\":\"a\"{}}}\n", " ".repeat(len - 12));
    assert_eq!(read(line(LINE_BYTES_MAX).as_bytes()).unwrap().len(), 1);
    check(line(LINE_BYTES_MAX + 1).as_bytes(), &["line 1: the line is longer"]);
}

#[test]
fn a_plain_text_is_one_document_and_its_errors_name_the_line() {
    let document = &documents(&b"a\r\n\r\nb"[..], Format::Text, Some("Notes")).unwrap()[0];
    assert_eq!((document.title(), document.text()), (Some("Notes"), "a\n\nb"));
    let error = documents(&b"a\nb\nc\xff"[..], Format::Text, None).unwrap_err().to_string();
    assert!(error.contains("line 3: invalid UTF-8"), "{error}");
    assert!(documents(&b"  \n"[..], Format::Text, None).is_err());
    assert!(documents(BufReader::new(io::repeat(b'a')), Format::Text, None).unwrap_err().to_string().contains("at most 1048576"));
    assert_eq!(
        (Format::of_extension("JSONL"), Format::of_extension("md"), Format::of_extension("pdf")),
        (Some(Format::Jsonl), Some(Format::Text), None)
    );
}

#[test]
fn a_failure_to_read_ends_the_file_with_its_error() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk went away"))
        }
    }
    let input = BufReader::new(b"{\"text\":\"a\"}\n".chain(Broken));
    let error = documents(input, Format::Jsonl, None).unwrap_err().to_string();
    assert_eq!(error, "line 2: cannot be read: the disk went away");
}

#[test]
fn a_file_of_more_than_one_contribution_is_not_read_on() {
    let row = |number: u64| {
        (
            number,
            Document::new(None, None, format!("document {number:04}").as_bytes())
                .map_err(|error| LineError { line: number, problem: error.into() }),
        )
    };
    let one = shard::row_len(&row(1).1.unwrap());
    let read = std::cell::Cell::new(0);
    let rows = || (1..=1_000).map(row).inspect(|(line, _)| read.set(*line));
    let room = shard::encoded_len(&[]) + 10 * one;
    let error = collect(rows(), room).unwrap_err().to_string();
    assert!(
        error.contains("line 11: ") && error.contains("more than one contribution holds") && error.contains("split the file"),
        "{error}"
    );
    assert_eq!(read.get(), 11, "nothing more is read");
    assert_eq!(collect(rows().take(10), room).unwrap().len(), 10);
}

proptest! {
    #[test]
    fn reading_never_panics(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&input);
        let _ = documents(&input[..], Format::Text, None);
    }

    #[test]
    fn what_was_written_as_json_is_read_back(texts in proptest::collection::vec("[a-zé\"\\\\ \t\n]{0,20}x", 1..10)) {
        let lines: String = texts.iter().map(|text| format!("{}\n", serde_json::json!({ "text": text }))).collect();
        let read = read(lines.as_bytes()).unwrap();
        prop_assert_eq!(read.iter().map(Document::text).collect::<Vec<_>>(), texts);
    }
}
