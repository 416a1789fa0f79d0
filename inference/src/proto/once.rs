//! Asking once under a key of the caller's: the same key and the same content give the same answer, and are never paid for again.
//!
//! A key that was seen is remembered for [`KEPT_S`] at least, whatever comes in between: when [`KEYS_MAX`] younger ones are kept a new key is
//! refused rather than an old one forgotten, because a forgotten key would be asked and paid a second time. After that time it may be used anew.
//! A client that died in the middle goes on with the request it had signed ([`Draft`]), so that no token of it is billed twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{id::Hash32, manifest::Manifest, merkle::keccak};

use super::draft::Draft;

/// Seconds a key is remembered: a day, in which every automatic retry has long given up.
pub const KEPT_S: u64 = 86_400;
/// Most keys remembered at once; with answers of 4 KB they take 16 MB.
pub const KEYS_MAX: usize = 4_096;
/// Longest key, bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// What decides an answer, by name, in words or digests: two contents are the same if all of it is.
pub type Content = BTreeMap<String, String>;

/// What is kept for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What was asked.
    pub content: Content,
    /// When, in seconds since 1970.
    pub since_s: u64,
    /// What was to answer: names may have moved on to a newer version since.
    pub manifest: Manifest,
    /// The request, as far as it got.
    pub draft: Draft,
    /// What was answered to the caller, as JSON, once that is so.
    pub answer: Option<String>,
}

/// What is to be done under a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// It was never used, or so long ago that it may be again.
    New,
    /// It was begun: go on with its request.
    Begun(Box<Record>),
    /// It was answered: that is the answer.
    Answered(String),
}

/// Why nothing is done under a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnceError {
    /// Not a key.
    #[error("the idempotency key has {0} bytes: 1 to {KEY_BYTES_MAX} are allowed")]
    Key(usize),
    /// Something else was asked under it.
    #[error("the idempotency key was used for something else: {0}; take a new key for a new question")]
    Differs(String),
    /// No room.
    #[error("{KEYS_MAX} idempotency keys of the last {} hours are remembered, no more fit: ask without one, or wait", KEPT_S / 3_600)]
    Full,
}

/// The name a key is kept under.
///
/// # Errors
/// [`OnceError::Key`].
pub fn name(key: &str) -> Result<Hash32, OnceError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(OnceError::Key(key.len()));
    }
    Ok(keccak(&[b"tributary/idempotency/v1", key.as_bytes()]))
}

/// What is to be done under a key whose record is `record`, at `now_s`.
///
/// # Errors
/// [`OnceError::Differs`], naming what differs.
pub fn look(record: Option<Record>, content: &Content, now_s: u64) -> Result<Known, OnceError> {
    let Some(record) = record.filter(|record| !is_old(record.since_s, now_s)) else { return Ok(Known::New) };
    let names: std::collections::BTreeSet<&String> = record.content.keys().chain(content.keys()).collect();
    let shown = |content: &Content, name: &String| content.get(name).map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"));
    let differing: Vec<String> = names
        .into_iter()
        .filter(|name| record.content.get(*name) != content.get(*name))
        .map(|name| format!("{name} was {}, is {}", shown(&record.content, name), shown(content, name)))
        .collect();
    if !differing.is_empty() {
        return Err(OnceError::Differs(differing.join(", ")));
    }
    Ok(match record.answer {
        Some(answer) => Known::Answered(answer),
        None => Known::Begun(Box::new(record)),
    })
}

/// Whether a record may be dropped. A clock set back drops nothing.
pub const fn is_old(since_s: u64, now_s: u64) -> bool {
    now_s > since_s.saturating_add(KEPT_S)
}

#[cfg(test)]
mod tests {
    use types::split::SplitTable;

    use super::{super::draft::tests::draft, *};

    fn content(question: &str) -> Content {
        [("question", question), ("tokens", "64")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn record(answer: Option<&str>) -> Record {
        let manifest = Manifest { assets: vec![], split: SplitTable::default(), index: Hash32::ZERO, parameters: 1, datanets: vec![] };
        Record { content: content("a"), since_s: 1_000, manifest, draft: draft(10), answer: answer.map(str::to_owned) }
    }

    #[test]
    fn the_same_content_is_answered_from_the_record_or_gone_on_with() {
        assert_eq!(look(None, &content("a"), 1_000), Ok(Known::New));
        assert_eq!(look(Some(record(Some("{}"))), &content("a"), 1_001), Ok(Known::Answered("{}".into())));
        assert_eq!(look(Some(record(None)), &content("a"), 1_001), Ok(Known::Begun(Box::new(record(None)))));
    }

    #[test]
    fn other_content_is_refused_by_the_name_of_what_differs() {
        let mut other = content("b");
        other.insert("session".into(), "phone".into());
        let error = look(Some(record(Some("{}"))), &other, 1_001).unwrap_err().to_string();
        assert!(error.contains("question was \"a\", is \"b\"") && error.contains("session was nothing, is \"phone\""), "{error}");
        assert!(!error.contains("tokens"), "{error}");
    }

    #[test]
    fn a_key_is_remembered_for_its_time_and_free_afterwards_whatever_the_clock_does() {
        let at = |now| look(Some(record(Some("{}"))), &content("b"), now);
        assert!(matches!(at(1_000 + KEPT_S), Err(OnceError::Differs(_))));
        assert_eq!(at(1_001 + KEPT_S), Ok(Known::New));
        assert!(at(0).is_err());
    }

    #[test]
    fn keys_have_bounds_and_names_of_their_own() {
        assert_eq!(name(""), Err(OnceError::Key(0)));
        assert_eq!(name(&"k".repeat(256)), Err(OnceError::Key(256)));
        assert_ne!(name("a"), name("b"));
    }

    #[test]
    fn a_record_comes_back_from_its_text() {
        let text = serde_json::to_string(&record(Some("{}"))).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record(Some("{}")));
    }
}
