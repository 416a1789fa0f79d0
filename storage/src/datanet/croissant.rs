//! Datanets described for others: Croissant 1.1 (JSON-LD of MLCommons) out and in.
//!
//! Out: the card, each file with its size and SHA-256 (`FileObject`), all of them as one `FileSet`, and one record set `documents` with the fields id,
//! title and text. In: what a description says is data, not trust: only files beside it are named, a stated SHA-256 must be the file's, and the columns
//! are those that its fields extract. What is not understood is passed over, so a description with more in it reads as well.
//!
//! A committed example of the output is shown to the reference library, `mlcroissant`, by `tests/fixtures/croissant/validate.py`.

use serde_json::{Map, Value, json};

use super::{Card, CardError, Licence, read::Columns};

/// Longest description that is read.
pub const CROISSANT_BYTES_MAX: u64 = 16 << 20;
/// What `conditionsOfAccess` says of a private Datanet.
const MEMBERS_ONLY: &str = "Members of the Datanet only";
/// And of an open one.
const EVERYBODY: &str = "Everybody";
/// Most files that a description names.
pub const FILES_MAX: usize = 1 << 16;

/// A file of a described dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedFile {
    /// Where it lies beside the description, parts by `/`; may hold `*`.
    pub path: String,
    /// Its bytes, as far as stated.
    pub bytes: Option<u64>,
    /// Its SHA-256 in hex, as far as stated.
    pub sha256: Option<String>,
}

/// What a description says of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name, as somebody wrote it.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Its licence, if it has one that can be written as an SPDX expression.
    pub licence: Option<Licence>,
    /// Languages, as BCP 47 tags.
    pub languages: Vec<String>,
    /// What it may be found by.
    pub tags: Vec<String>,
    /// Its files.
    pub files: Vec<DescribedFile>,
    /// What holds the documents in them.
    pub columns: Columns,
    /// Whether members alone may read it; nothing where that is not stated.
    pub is_private: Option<bool>,
    /// What it describes besides, and nobody reads: further configurations or record sets, by name.
    pub others: Vec<String>,
}

/// Why a description does not become a Datanet.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// Not of its format.
    #[error("not a {format} description: {problem}")]
    Format {
        /// Which format.
        format: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A file somewhere else.
    #[error("it names {0:?}: only files beside the description are read, download it there first")]
    Elsewhere(String),
    /// Who may read it is stated in words that are not clear.
    #[error("{place} says {got:?} of who may read it, which is not clear: write {fix}")]
    Privacy {
        /// Where, such as a line.
        place: String,
        /// What stands there, cut short.
        got: String,
        /// What is clear.
        fix: &'static str,
    },
    /// More files than are read.
    #[error("it names more than {FILES_MAX} files: put small ones together")]
    TooManyFiles,
    /// No licence that can be taken over.
    #[error("it states no licence that is known: give one with --licence, as an SPDX expression")]
    Licence,
    /// Not a card.
    #[error(transparent)]
    Card(#[from] CardError),
}

impl Described {
    /// The card of a Datanet of it, an open one where nothing is stated. `name` and `licence` go before what it says itself.
    ///
    /// # Errors
    /// [`DescribeError`] if it states no licence and none is given, or a part is nothing that a card may hold.
    pub fn card(&self, name: Option<&str>, licence: Option<Licence>) -> Result<Card, DescribeError> {
        let name = name.map_or_else(|| slug(&self.name), str::to_owned).parse()?;
        let licence = licence.or_else(|| self.licence.clone()).ok_or(DescribeError::Licence)?;
        let tags = self.tags.iter().map(|tag| slug(tag)).filter(|tag| !tag.is_empty()).collect();
        Ok(Card::new(name, self.description.clone(), licence, self.languages.clone(), tags)?
            .with_privacy(self.is_private.unwrap_or_default()))
    }
}

/// A name in the letters that a card allows.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for letter in text.chars().map(|letter| letter.to_ascii_lowercase()) {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() == super::NAME_LEN_MAX {
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// A path beside the description.
pub(super) fn beside(path: &str) -> Result<String, DescribeError> {
    let path = path.strip_prefix("./").unwrap_or(path);
    let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    if path.split('/').all(is_part) { Ok(path.to_owned()) } else { Err(DescribeError::Elsewhere(path.chars().take(200).collect())) }
}

/// A licence as others write it: an SPDX expression, an id of SPDX in any case, or the address of one of its pages.
pub(super) fn licence_of(text: &str) -> Option<Licence> {
    let text = text.trim().trim_end_matches('/');
    let id = text.strip_prefix("https://spdx.org/licenses/").map_or(text, |page| page.trim_end_matches(".html").trim_end_matches(".json"));
    let known = spdx::identifiers::LICENSES.iter().find(|known| known.name.eq_ignore_ascii_case(id));
    known.map_or_else(|| id.parse().ok(), |known| known.name.parse().ok())
}

/// The context of Croissant 1.1.
fn context() -> Value {
    json!({
        "@language": "en", "@vocab": "https://schema.org/", "arrayShape": "cr:arrayShape", "citeAs": "cr:citeAs", "column": "cr:column",
        "conformsTo": "dct:conformsTo", "containedIn": "cr:containedIn", "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
        "description": {"@container": "@language"}, "equivalentProperty": "cr:equivalentProperty",
        "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
        "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
        "includes": "cr:includes", "isArray": "cr:isArray", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
        "key": "cr:key", "md5": "cr:md5", "name": {"@container": "@language"}, "parentField": "cr:parentField", "path": "cr:path",
        "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
        "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator",
        "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform"
    })
}

/// Describes Parquet files of columns id, title, text. `published`: a date, YYYY-MM-DD. `url`: where the Datanet is registered.
pub fn write(card: &Card, version: &str, published: &str, url: &str, files: &[DescribedFile]) -> String {
    let object = |file: &DescribedFile| {
        let mut object = Map::new();
        object.insert("@type".into(), "cr:FileObject".into());
        object.insert("@id".into(), file.path.clone().into());
        object.insert("name".into(), file.path.clone().into());
        object.insert("contentUrl".into(), file.path.clone().into());
        object.insert("encodingFormat".into(), "application/x-parquet".into());
        object.extend(file.bytes.map(|bytes| ("contentSize".to_owned(), Value::from(format!("{bytes} B")))));
        object.extend(file.sha256.clone().map(|sha256| ("sha256".to_owned(), Value::from(sha256))));
        Value::Object(object)
    };
    let all = json!({
        "@type": "cr:FileSet", "@id": "all-files", "name": "all-files", "encodingFormat": "application/x-parquet", "includes": "data/*.parquet"
    });
    let field = |column: &str, words: &str| {
        json!({
            "@type": "cr:Field", "@id": format!("documents/{column}"), "name": format!("documents/{column}"), "description": words,
            "dataType": "sc:Text", "source": {"fileSet": {"@id": "all-files"}, "extract": {"column": column}}
        })
    };
    let description = if card.description().is_empty() { card.name().as_str() } else { card.description() };
    let mut whole = json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": card.name().as_str(),
        "description": description,
        "license": card.licence().as_str(),
        "version": version,
        "datePublished": published,
        "url": url,
        "citeAs": format!("Datanet {}, version {version}, {url}", card.name()),
        "inLanguage": card.languages(),
        "keywords": card.tags(),
        "isLiveDataset": false,
        "distribution": files.iter().map(object).chain([all]).collect::<Vec<_>>(),
        "recordSet": [{
            "@type": "cr:RecordSet", "@id": "documents", "name": "documents", "description": "One document a row, in the order of their contributors.",
            "field": [
                field("id", "The contributor's own name for it."),
                field("title", "Its title: the prompt when a model is trained on it."),
                field("text", "Its text in canonical form.")
            ]
        }]
    });
    // Said of open ones too, so that an export from which it was lost is known to have lost it.
    whole["conditionsOfAccess"] = if card.is_private() { MEMBERS_ONLY } else { EVERYBODY }.into();
    // Equal bytes whether or not a crate of the same build has `serde_json` keep keys in the order of their insertion.
    whole.sort_all_objects();
    serde_json::to_string_pretty(&whole).expect("strings and lists always serialise") + "\n"
}

/// Reads a description.
///
/// # Errors
/// [`DescribeError`] if it is none, or names files elsewhere.
pub fn read(bytes: &[u8]) -> Result<Described, DescribeError> {
    let bad = |problem: String| DescribeError::Format { format: "Croissant", problem };
    let whole: Value = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    let conforms = strings(&whole["conformsTo"]).into_iter().chain(strings(&whole["dct:conformsTo"]));
    if !conforms.into_iter().any(|version| version.contains("mlcommons.org/croissant/1.")) {
        return Err(bad("conformsTo is not http://mlcommons.org/croissant/1.0 or 1.1".into()));
    }
    let name = strings(&whole["name"]).into_iter().next().ok_or_else(|| bad("it has no name".into()))?;
    let licence = strings(&whole["license"]);
    let licence = if licence.len() > 1 { licence_of(&licence.join(" AND ")) } else { licence.first().and_then(|text| licence_of(text)) };
    let mut files = Vec::new();
    for object in list(&whole["distribution"]).iter().filter(|object| is_a(object, "FileObject")) {
        let path = object["contentUrl"].as_str().ok_or_else(|| bad("a FileObject has no contentUrl".into()))?;
        let bytes = strings(&object["contentSize"]).first().and_then(|size| size.strip_suffix(" B").unwrap_or(size).parse().ok());
        let sha256 = object["sha256"].as_str().map(str::to_ascii_lowercase);
        files.push(DescribedFile { path: beside(path)?, bytes, sha256 });
        if files.len() > FILES_MAX {
            return Err(DescribeError::TooManyFiles);
        }
    }
    Ok(Described {
        name,
        description: strings(&whole["description"]).into_iter().next().unwrap_or_default(),
        licence,
        languages: strings(&whole["inLanguage"]),
        tags: strings(&whole["keywords"]).iter().flat_map(|tags| tags.split(',')).map(|tag| tag.trim().to_owned()).collect(),
        files,
        columns: columns(&whole["recordSet"]),
        is_private: privacy(&whole)?,
        others: others(&whole["recordSet"]),
    })
}

/// Who may read it. Only our own two sentences are known, however they are written; whatever else is a condition that somebody meant, so it is never taken for none.
fn privacy(whole: &Value) -> Result<Option<bool>, DescribeError> {
    let unclear = |got: String| DescribeError::Privacy {
        place: "conditionsOfAccess".into(),
        got: got.chars().take(100).collect(),
        fix: "\"Members of the Datanet only\" or \"Everybody\"",
    };
    let keys = [
        "conditionsOfAccess",
        "sc:conditionsOfAccess",
        "schema:conditionsOfAccess",
        "https://schema.org/conditionsOfAccess",
        "http://schema.org/conditionsOfAccess",
    ];
    let stated: Vec<&Value> = keys.iter().filter_map(|key| whole.get(*key)).collect();
    let mut is_private = None;
    for value in &stated {
        let words = strings(value);
        // What is no text, and a list of which a part is none, says something that is not read.
        if words.is_empty() || words.len() != list(value).len() {
            return Err(unclear(value.to_string()));
        }
        for words in words {
            let folded = words.trim().to_lowercase();
            let is = match folded.trim_end_matches('.') {
                words if words == MEMBERS_ONLY.to_lowercase() => true,
                words if words == EVERYBODY.to_lowercase() => false,
                _ => return Err(unclear(words)),
            };
            if is_private.replace(is).is_some_and(|before| before != is) {
                return Err(unclear(value.to_string()));
            }
        }
    }
    Ok(is_private)
}

/// Record sets behind the first one.
fn others(sets: &Value) -> Vec<String> {
    let name = |set: &Value| {
        set["@id"].as_str().or_else(|| set["name"].as_str()).unwrap_or("without a name").chars().take(100).collect::<String>()
    };
    list(sets).iter().skip(1).map(|set| format!("record set {}", name(set))).collect()
}

/// Columns by the names of the first record set's fields: the last part of `documents/text` is `text`.
fn columns(sets: &Value) -> Columns {
    let mut columns = Columns::default();
    for field in list(sets).first().map(|set| list(&set["field"])).unwrap_or_default() {
        let id = field["@id"].as_str().or_else(|| field["name"].as_str()).unwrap_or_default();
        let Some(column) = field["source"]["extract"]["column"].as_str() else { continue };
        match id.rsplit('/').next() {
            Some("text") => columns.text = column.to_owned(),
            Some("title") => (columns.title, columns.is_title_named) = (column.to_owned(), true),
            Some("id") => (columns.id, columns.is_id_named) = (column.to_owned(), true),
            _ => {}
        }
    }
    columns
}

fn is_a(object: &Value, kind: &str) -> bool {
    object["@type"].as_str().is_some_and(|given| given.rsplit([':', '/']).next() == Some(kind))
}

/// JSON-LD writes a list of one as its element.
fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.clone(),
        one => vec![one.clone()],
    }
}

/// Strings, be it one, a list, or `{"@value": ...}`, `{"en": ...}`.
fn strings(value: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(parts) => parts.get("@value").or_else(|| parts.values().next()).and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    list(value).iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn card() -> Card {
        let licence = "CC-BY-4.0 AND MIT".parse().unwrap();
        Card::new("tides".parse().unwrap(), "Of the sea.".into(), licence, vec!["en".into()], vec!["sea".into(), "moon".into()]).unwrap()
    }

    fn files() -> Vec<DescribedFile> {
        (0..2)
            .map(|number| DescribedFile { path: format!("data/{number}.parquet"), bytes: Some(12), sha256: Some("ab".repeat(32)) })
            .collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = write(&card(), "1.0.0", "2026-11-21", "urn:tributary:1", &files());
        let read = read(text.as_bytes()).unwrap();
        let columns = Columns { is_title_named: true, is_id_named: true, ..Columns::default() };
        assert_eq!((read.card(None, None).unwrap(), &read.files, &read.columns, &read.others[..]), (card(), &files(), &columns, &[][..]));
        let private = card().with_privacy(true);
        let text = write(&private, "1.0.0", "2026-11-21", "urn:tributary:1", &files());
        assert_eq!(super::read(text.as_bytes()).unwrap().card(None, None).unwrap(), private, "it stays private without our manifest");
    }

    #[test]
    fn who_may_read_is_taken_from_our_own_words_and_any_others_are_asked_about() {
        let text = write(&card().with_privacy(true), "1.0.0", "2026-11-21", "urn:tributary:1", &files());
        let of = |words: &str| {
            read(text.replace("\"Members of the Datanet only\"", words).as_bytes())
                .map(|described| described.is_private)
                .map_err(|error| error.to_string())
        };
        for words in [
            "\"Members of the Datanet only\"",
            "\" members of the datanet ONLY.\"",
            "[\"Members of the Datanet only\"]",
            "{\"@value\": \"Members of the Datanet only\"}",
        ] {
            assert_eq!(of(words), Ok(Some(true)), "{words}");
        }
        assert_eq!(of("\"Everybody\""), Ok(Some(false)));
        for words in [
            "\"Members only\"",
            "true",
            "null",
            "[]",
            "[\"Everybody\", 1]",
            "[\"Everybody\", \"Members of the Datanet only\"]",
            "\"On request\"",
        ] {
            let error = of(words).unwrap_err();
            assert!(error.contains("conditionsOfAccess says") && error.contains("\"Everybody\""), "{words}: {error}");
        }
        let key = |key: &str| read(text.replace("conditionsOfAccess", key).as_bytes()).unwrap().is_private;
        assert_eq!((key("sc:conditionsOfAccess"), key("more")), (Some(true), None));
    }

    #[test]
    fn descriptions_of_others_are_understood() {
        let text = r#"{"conformsTo": ["http://mlcommons.org/croissant/1.0", "x"], "name": {"en": "My Tides!  2"}, "license": "https://spdx.org/licenses/cc-by-4.0.html",
            "keywords": "sea, The Moon", "inLanguage": "en", "more": [1],
            "distribution": {"@type": "https://mlcommons.org/croissant/FileObject", "contentUrl": "./a.csv", "sha256": "AB"},
            "recordSet": [{"field": [{"name": "text", "source": {"extract": {"column": "body"}}}, {"@id": "x/y"}]}, {"@id": "labels"}]}"#;
        let read = read(text.as_bytes()).unwrap();
        let card = read.card(None, None).unwrap();
        assert_eq!(
            (card.name().as_str(), card.licence().as_str(), card.tags()),
            ("my-tides-2", "CC-BY-4.0", &["sea".into(), "the-moon".into()][..])
        );
        assert_eq!(
            (read.files[0].path.as_str(), read.files[0].sha256.as_deref(), read.columns.text.as_str()),
            ("a.csv", Some("ab"), "body")
        );
        assert_eq!(read.others, ["record set labels"]);
        assert_eq!(read.card(Some("other"), Some("MIT".parse().unwrap())).unwrap().licence().as_str(), "MIT");
    }

    #[test]
    fn files_elsewhere_and_what_is_no_description_are_refused() {
        let check = |from: &str, to: &str, words: &str| {
            let text = write(&card(), "1", "2026-11-21", "urn:x", &files()).replace(from, to);
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        for path in ["../0.parquet", "/etc/0.parquet", "https://a/0.parquet", "data//0.parquet", "data\\\\0.parquet", "data/../0.parquet"] {
            check("data/0.parquet", path, "only files beside the description");
        }
        check("croissant/1.1", "croissant/2", "conformsTo");
        assert!(read(b"[]").is_err() && read(b"{").is_err());
        let none = Described { licence: None, ..read(write(&card(), "1", "2026-11-21", "urn:x", &files()).as_bytes()).unwrap() };
        assert!(none.card(None, None).unwrap_err().to_string().contains("--licence"));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,200}") {
            let _ = read(text.as_bytes());
            let _ = read(format!("{{\"conformsTo\":\"http://mlcommons.org/croissant/1.1\",\"name\":{text:?},\"distribution\":[{{\"@type\":\"FileObject\",\"contentUrl\":{text:?}}}]}}").as_bytes());
        }
    }
}
