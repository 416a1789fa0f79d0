use std::io::Cursor;

use proptest::prelude::*;

use super::{write::Writer, *};
use crate::datanet::{contribution_text, read::ERRORS_MAX};

/// Three documents (id as an integer; a title that is null) in two row groups, snappy and dictionaries: pyarrow's defaults, by
/// `tests/fixtures/make_parquet.py`.
const PYARROW: &[u8] = include_bytes!("../../../tests/fixtures/pyarrow.parquet");
/// The same rows, pages of the second version, zstd.
const PYARROW_V2: &[u8] = include_bytes!("../../../tests/fixtures/pyarrow-v2.parquet");

fn document(id: Option<&str>, title: Option<&str>, text: &str) -> Document {
    Document::new(id.map(str::to_owned), title.map(str::to_owned), text.as_bytes()).unwrap()
}

fn read(bytes: &[u8], format: Format) -> Vec<Result<Row, RowError>> {
    read_as(bytes, format, Columns::default())
}

fn read_as(bytes: &[u8], format: Format, columns: Columns) -> Vec<Result<Row, RowError>> {
    rows(Cursor::new(bytes.to_vec()), format, Naming { file: "f".into(), title: Some("f".into()), columns }).collect()
}

fn good(bytes: &[u8], format: Format) -> Vec<Document> {
    read(bytes, format).into_iter().map(|row| row.unwrap().document).collect()
}

fn written(documents: &[Document], format: Format) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), format).unwrap();
    documents.iter().for_each(|document| writer.push(document).unwrap());
    writer.finish().unwrap()
}

#[track_caller]
fn check(bytes: &[u8], format: Format, words: &[&str]) {
    let said: Vec<String> = read(bytes, format).into_iter().filter_map(|row| row.err().map(|error| error.to_string())).collect();
    for word in words {
        assert!(said.iter().any(|said| said.contains(word)), "{word:?} is not in {said:?}");
    }
}

fn three() -> [Document; 3] {
    [
        document(Some("7"), Some("A \"title\", quoted"), "one\ntwo, \"three\"\n\nfour"),
        document(None, None, "caf\u{e9} \u{1f30a}"),
        document(Some("x"), None, " a leading space, = a sign"),
    ]
}

#[test]
fn every_format_that_is_written_is_read_back_as_the_same_documents() {
    for format in [Format::Jsonl, Format::Csv, Format::Tsv, Format::Parquet] {
        let bytes = written(&three(), format);
        assert_eq!(good(&bytes, format), three(), "{format:?}");
        assert_eq!(written(&good(&bytes, format), format), bytes, "{format:?}: the same documents give the same bytes");
    }
    assert!(Writer::new(Vec::new(), Format::Text).is_err());
}

#[test]
fn csv_is_read_by_its_header() {
    let bytes = b"\xef\xbb\xbfsource,body,title,id\r\na,\"two\r\nlines, and a \"\"quote\"\"\",T,1\r\nb,plain,,\r\n";
    let columns = Columns { text: "body".into(), ..Columns::default() };
    let read: Vec<_> = read_as(bytes, Format::Csv, columns).into_iter().map(|row| row.unwrap().document).collect();
    assert_eq!(read, [document(Some("1"), Some("T"), "two\nlines, and a \"quote\""), document(None, None, "plain")]);
    check(bytes, Format::Csv, &["f: line 1: there is no column \"text\", the file has source, body, title, id: name", "--text-column"]);
}

#[test]
fn rows_that_end_with_a_separator_that_their_header_has_not_are_read() {
    let read = read(b"id,text\n1,a,\n2,\"b, c\",,\n", Format::Csv);
    let texts: Vec<_> = read.iter().map(|row| row.as_ref().unwrap().document.text()).collect();
    assert_eq!(texts, ["a", "b, c"]);
}

#[test]
fn a_bad_record_is_named_by_line_and_reading_goes_on() {
    let bytes = b"id,text\n1,a\n2\n3,\"b\n\nc\"\n4,\n5,\x07\n6,\xff\n7,d,e\n8,f\n";
    let read = read(bytes, Format::Csv);
    let texts: Vec<_> = read.iter().filter_map(|row| row.as_ref().ok()).map(|row| row.document.text()).collect();
    assert_eq!(texts, ["a", "b\n\nc", "f"]);
    check(
        bytes,
        Format::Csv,
        &[
            "line 3: not a record of CSV: it has 1 fields, the header has 2",
            "line 7: its text is missing",
            "line 8: control character U+0007",
            "line 9: invalid UTF-8",
            "line 10: not a record of CSV: it has 3 fields",
        ],
    );
    check(
        b"id,text\n1,\"a \"\"quote\"\", and\nmore\"\n2,\"never\nclosed, \"\" this\n",
        Format::Csv,
        &["f: line 4: a quotation mark is opened and never closed"],
    );
    assert_eq!(good(b"", Format::Csv), []);
}

#[test]
fn what_stands_behind_a_quoted_field_is_named_by_line_and_marks_within_a_field_are_letters() {
    let bytes = b"\xef\xbb\xbf\"id\",\"text\"\n1,a 5\" pipe\n2,\"said\n\"so\",b\"\n3,\"c\" \t\n4,\"d\"\r\n";
    let read = read(bytes, Format::Csv);
    let texts: Vec<_> = read.iter().filter_map(|row| row.as_ref().ok()).map(|row| row.document.text()).collect();
    assert_eq!(texts, ["a 5\" pipe", "c \t", "d"], "{read:?}");
    check(bytes, Format::Csv, &["f: line 4: something stands between the quotation mark that ends a field and the separator"]);
    check(b"\"id\" x,text\n1,a\n", Format::Csv, &["f: line 1: something stands between"]);
}

#[test]
fn a_file_in_another_encoding_says_so() {
    let wide = |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    for order in [u16::to_le_bytes, u16::to_be_bytes] {
        for text in ["\u{feff}id,text\n1,a\n", "id,text\n1,a\n"] {
            for format in [Format::Csv, Format::Tsv, Format::Jsonl, Format::Markdown, Format::Text] {
                let read = read(&wide(text, order), format);
                assert_eq!(read.len(), 1, "{format:?}: {read:?}");
                check(&wide(text, order), format, &["f: the file is UTF-16, not UTF-8: save it as UTF-8"]);
            }
        }
    }
}

#[test]
fn a_file_that_is_one_document_and_too_long_says_what_fits() {
    for format in [Format::Text, Format::Markdown] {
        check(&vec![b'a'; 4 << 20], format, &["has more than 3145728 bytes", "at most 1048576 bytes of text", "lines of a .jsonl file"]);
        check(&vec![b'a'; 3 << 20], format, &["text has 3145728 bytes, at most 1048576"]);
    }
}

#[test]
fn a_column_that_was_named_and_is_nowhere_is_refused_with_those_there_are() {
    let title = || Columns { title: "headlin".into(), is_title_named: true, ..Columns::default() };
    let id = || Columns { id: "nope".into(), is_id_named: true, ..Columns::default() };
    let jsonl = b"{\"text\":\"a\",\"headline\":\"T\"}\n{\"text\":\"b\",\"more\":1}\n";
    let csv = b"text,headline,more\na,T,1\n";
    for (bytes, format, has) in [
        (&jsonl[..], Format::Jsonl, "headline, more, text"),
        (csv, Format::Csv, "text, headline, more"),
        (PYARROW, Format::Parquet, "id, title, text"),
    ] {
        for (columns, words) in [(title(), "\"headlin\""), (id(), "\"nope\"")] {
            let last = read_as(bytes, format, columns).pop().unwrap().unwrap_err().to_string();
            assert!(last.starts_with("f: ") && last.contains(words) && last.contains(has), "{format:?}: {last}");
        }
    }
    let flag = read_as(csv, Format::Csv, id()).pop().unwrap().unwrap_err().to_string();
    assert!(flag.ends_with("name the one that holds the id with --id-column"), "{flag}");
    // One line that has the key is enough; a table has the column or not.
    let some = b"{\"text\":\"a\"}\n{\"text\":\"b\",\"headlin\":null}\n";
    assert!(read_as(some, Format::Jsonl, title()).iter().all(Result::is_ok));
    assert!(read_as(b"{\"text\":\"a\"}\n", Format::Jsonl, Columns::default()).iter().all(Result::is_ok));
}

#[test]
fn a_parquet_column_of_another_kind_is_named_with_what_is_read() {
    for (name, columns) in [
        ("score", Columns { id: "score".into(), ..Columns::default() }),
        ("score", Columns { title: "score".into(), ..Columns::default() }),
        ("score", Columns { text: "score".into(), ..Columns::default() }),
    ] {
        let error = read_as(&floats(), Format::Parquet, columns).remove(0).unwrap_err().to_string();
        assert!(error.contains(&format!("column {name:?} holds floating-point numbers")) && error.contains("-column"), "{error}");
    }
    let columns = Columns { text: "id".into(), ..Columns::default() };
    let error = read_as(PYARROW, Format::Parquet, columns).remove(0).unwrap_err().to_string();
    assert!(error.contains("column \"id\" holds integers, and as text texts are read"), "{error}");
}

/// A table of a text and a number with a point.
fn floats() -> Vec<u8> {
    use ::parquet::{
        data_type::{ByteArrayType, DoubleType},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };
    let schema = parse_message_type("message m { required binary text (UTF8); required double score; }").unwrap();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema.into(), WriterProperties::builder().build().into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[b"a".to_vec().into()], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<DoubleType>().write_batch(&[1.5], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn a_record_without_an_end_costs_no_more_than_its_cap() {
    struct Endless(std::sync::Arc<std::sync::atomic::AtomicUsize>, bool);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if std::mem::replace(&mut self.1, false) {
                buffer[..6].copy_from_slice(b"text\n\"");
                return Ok(6);
            }
            self.0.fetch_add(buffer.len(), std::sync::atomic::Ordering::Relaxed);
            buffer.fill(b'a');
            Ok(buffer.len())
        }
    }
    impl Seek for Endless {
        fn seek(&mut self, _: std::io::SeekFrom) -> std::io::Result<u64> {
            Ok(0)
        }
    }
    let taken = std::sync::Arc::default();
    let mut rows = rows(Endless(std::sync::Arc::clone(&taken), true), Format::Csv, Naming::default());
    let error = rows.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("line 2: the record is longer than 4194304 bytes, reading stopped"), "{error}");
    assert!(rows.next().is_none() && taken.load(std::sync::atomic::Ordering::Relaxed) < LINE_BYTES_MAX + (1 << 18));
}

#[test]
fn jsonl_may_have_keys_of_its_own() {
    let columns = Columns { text: "body".into(), title: "head".into(), id: "key".into(), is_title_named: true, is_id_named: true };
    let read = read_as(b"{\"body\":\"a\",\"head\":\"T\",\"key\":7,\"text\":1}\n{\"text\":\"b\"}\n", Format::Jsonl, columns);
    assert_eq!(read[0].as_ref().unwrap().document, document(Some("7"), Some("T"), "a"));
    let error = read[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("f: line 2: not a document: missing field `body`"), "{error}");
    check(b"{\"text\":\"a\",\"text\":\"b\"}", Format::Jsonl, &["duplicate field `text`"]);
}

#[test]
fn markdown_takes_its_title_from_its_front_matter_then_from_its_heading() {
    let one = |bytes: &[u8]| good(bytes, Format::Markdown).remove(0);
    assert_eq!(
        one(b"---\ntitle: \"On \\\"gout\\\"\"\nid: 'it''s'\ntags: [a]\n---\n# Heading\n\nText.\n"),
        document(Some("it's"), Some("On \"gout\""), "# Heading\n\nText.\n")
    );
    assert_eq!(one(b"Intro.\n\n# Gout #\nText."), document(None, Some("Gout"), "Intro.\n\n# Gout #\nText."));
    assert_eq!(one(b"---\nnot closed\n"), document(None, Some("f"), "---\nnot closed\n"));
    assert_eq!(one(b"---\ntitle: plain # remark\n---\nText"), document(None, Some("plain"), "Text"));
    check(b"---\ntitle: x\n---\n\nb\xff", Format::Markdown, &["f: line 5: invalid UTF-8"]);
    check(b"---\ntitle: x\n---\n", Format::Markdown, &["the document is empty"]);
}

#[test]
fn what_pyarrow_writes_is_read() {
    let rows = [
        document(Some("1"), Some("Ebb"), "The water falls."),
        document(Some("2"), None, "The water rises."),
        document(Some("3"), Some("Ebb"), "caf\u{e9}\nand more"),
    ];
    for bytes in [PYARROW, PYARROW_V2] {
        assert_eq!(good(bytes, Format::Parquet), rows);
    }
    let columns = Columns { text: "words".into(), ..Columns::default() };
    let error = read_as(PYARROW, Format::Parquet, columns).remove(0).unwrap_err().to_string();
    assert!(error.contains("f: there is no column \"words\", the file has id, title, text"), "{error}");
    let columns = Columns { text: "tags.list.element".into(), ..Columns::default() };
    let error = read_as(PYARROW, Format::Parquet, columns).remove(0).unwrap_err().to_string();
    assert!(error.contains("column tags.list.element is a list or part of one"), "{error}");
}

/// Every byte of three files set to five values in turn, and every length: no panic reaches the caller, no row that was not there, an end.
#[test]
fn a_mutated_parquet_file_is_read_or_refused() {
    let ours = written(&three(), Format::Parquet);
    let (mut read_all, mut refused) = (0, 0);
    for bytes in [&ours[..], PYARROW, PYARROW_V2] {
        let mut look = |bytes: Vec<u8>| {
            let found: Vec<_> = rows(Cursor::new(bytes), Format::Parquet, Naming::default()).take(1000).collect();
            if found.iter().any(Result::is_err) { refused += 1 } else { read_all += 1 }
        };
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = bytes.to_vec();
                bytes[at] = value;
                look(bytes);
            }
        }
        for length in 0..bytes.len() {
            look(bytes[..length].to_vec());
        }
    }
    assert!(refused > 1000 && read_all > 1000, "{refused} refused, {read_all} read");
}

#[test]
fn sizes_and_counts_that_a_parquet_file_claims_are_not_believed() {
    check(b"PAR1", Format::Parquet, &["too short"]);
    check(b"PAR1\xff\xff\xff\x7fPAR1", Format::Parquet, &["its footer has 2147483647 bytes, at most 4194304"]);
    // A schema that nests a thousand levels: version 1, then a list of structures of one child each.
    let mut footer = vec![0x15, 2, 0x19, 0xfc, 0xe8, 7];
    footer.extend((0..1000).flat_map(|_| [0x48, 1, b'a', 0x15, 2, 0]));
    footer.push(0);
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    let deep = [b"PAR1", &footer[..], &length, b"PAR1"].concat();
    check(&deep, Format::Parquet, &["deeper than 32 levels"]);
}

#[test]
fn errors_of_rows_do_not_end_a_file_of_rows() {
    let lines = "x\n".repeat(ERRORS_MAX + 5) + "{\"text\":\"a\"}\n";
    let read = read(lines.as_bytes(), Format::Jsonl);
    assert_eq!((read.len(), read.last().unwrap().as_ref().unwrap().number), (ERRORS_MAX + 6, 1));
}

/// The example that a script shows to `mlcroissant`: the bytes of an export.
#[test]
fn the_committed_croissant_is_what_is_written() {
    use sha2::{Digest as _, Sha256};

    use crate::datanet::{
        Card,
        croissant::{self, DescribedFile},
    };
    let contributions = [
        vec![document(Some("1"), Some("Ebb, \"and\" flow"), "One\n\ntwo, three."), document(None, None, "caf\u{e9}")],
        vec![document(None, Some("Flow"), " It rises.")],
    ];
    let paths = ["data/contribution-00000.parquet", "data/contribution-00001.parquet"];
    let tables = contributions.map(|documents| written(&documents, Format::Parquet));
    let described = |(path, table): (&str, &Vec<u8>)| DescribedFile {
        path: path.to_owned(),
        bytes: u64::try_from(table.len()).ok(),
        sha256: Some(hex::encode(Sha256::digest(table))),
    };
    let files: Vec<_> = paths.into_iter().zip(&tables).map(described).collect();
    let licence = "MIT OR Apache-2.0".parse().unwrap();
    let card = Card::new("tides".parse().unwrap(), "Of the sea.".into(), licence, vec!["en".into()], vec!["sea".into()]).unwrap();
    let text = croissant::write(&card, "2.0.0", "2026-11-21", "https://example.org/7", &files);
    assert_eq!(croissant::read(text.as_bytes()).unwrap().files, files);
    let committed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/croissant");
    let all = [("croissant.json", text.as_bytes()), (paths[0], &tables[0]), (paths[1], &tables[1])];
    for (name, bytes) in all {
        let path = committed.join(name);
        if std::env::var_os("TRIBUTARY_WRITE_FIXTURES").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
        let is_same = std::fs::read(&path).is_ok_and(|held| held == bytes);
        assert!(is_same, "{name} is another: run this test with TRIBUTARY_WRITE_FIXTURES=1, and validate.py beside them");
    }
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for format in [Format::Jsonl, Format::Csv, Format::Tsv, Format::Parquet, Format::Markdown, Format::Text] {
            let _ = rows(Cursor::new(bytes.clone()), format, Naming::default()).count();
        }
    }

    #[test]
    fn documents_round_trip(texts in proptest::collection::vec(("\\PC{0,8}", "[a-z\"', \n\t\u{e9}#-]{0,30}x"), 1..12)) {
        let title = |text: &str| (!text.trim().is_empty()).then(|| text.to_owned());
        let documents: Vec<_> = texts.iter().map(|(label, text)| Document::new(None, title(label), text.as_bytes()).unwrap()).collect();
        for format in [Format::Jsonl, Format::Csv, Format::Tsv, Format::Parquet] {
            let read = good(&written(&documents, format), format);
            prop_assert_eq!(contribution_text(&read), contribution_text(&documents));
            prop_assert_eq!(&read, &documents);
        }
    }
}
