//! API keys: who may ask, who may change what is offered. Only a digest of a key is kept, and no key is ever logged.
//!
//! A key is 32 random bytes, so one BLAKE3 pass is enough: nobody finds them by trying. Looking up goes by the digest of what was presented, whose
//! comparison tells a stranger nothing about the digest that is kept.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    errors::{Kind, Refusal},
    limits::Limits,
};

/// What every key begins with, so that scanners for lost secrets know one.
const PREFIX: &str = "trib-";
/// Most keys of one gateway: each has a meter of 100 bytes and a line in one file.
pub const KEYS_MAX: usize = 1_024;
/// Longest name.
const NAME_MAX: usize = 64;

/// A key in the clear: shown once where it is made, and forgotten.
pub struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// From 32 random bytes.
    pub fn new(random: &[u8; 32]) -> Self {
        Self(Zeroizing::new(format!("{PREFIX}{}", hex::encode(random))))
    }

    /// The key, for whom it was made.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn digest(presented: &str) -> String {
        blake3::Hasher::new_derive_key("tributary gateway 2026 api key").update(presented.as_bytes()).finalize().to_hex().to_string()
    }
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Who has it; appears in the log.
    pub name: String,
    /// Digest of the key.
    pub digest: String,
    /// Whether it may load and unload adapters.
    pub is_admin: bool,
    /// What it may do.
    pub limits: Limits,
}

/// All keys of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Each with a name of its own.
    pub keys: Vec<Key>,
}

/// Why a key is not taken into the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The name cannot stand in a log.
    #[error("the name {0:?} is not taken: 1 to {NAME_MAX} letters, digits, `-`, `_` or `.`")]
    Name(String),
    /// The name is used.
    #[error("there is a key named {0} already: remove it first, or take another name")]
    Taken(String),
    /// No such key.
    #[error("there is no key named {0}: `tributary gateway key list` shows them")]
    Unknown(String),
    /// Too many.
    #[error("there are {KEYS_MAX} keys, no more fit: remove one")]
    Full,
    /// A digest is not one.
    #[error("the digest of key {0} is damaged: remove the key and make a new one")]
    Digest(String),
    /// A limit that lets nothing pass.
    #[error("the limits of key {0} let nothing pass: each must be 1 or more")]
    Limits(String),
}

impl Keys {
    /// Adds a key.
    ///
    /// # Errors
    /// [`KeysError`]; then nothing has changed.
    pub fn add(&mut self, name: &str, secret: &Secret, is_admin: bool, limits: Limits) -> Result<(), KeysError> {
        if self.keys.len() >= KEYS_MAX {
            return Err(KeysError::Full);
        }
        let key = Key { name: name.to_owned(), digest: Secret::digest(secret.reveal()), is_admin, limits };
        let mut with = self.clone();
        with.keys.push(key);
        with.check()?;
        *self = with;
        Ok(())
    }

    /// Removes a key.
    ///
    /// # Errors
    /// [`KeysError::Unknown`].
    pub fn remove(&mut self, name: &str) -> Result<(), KeysError> {
        let before = self.keys.len();
        self.keys.retain(|key| key.name != name);
        if self.keys.len() == before { Err(KeysError::Unknown(name.to_owned())) } else { Ok(()) }
    }

    /// Whether a list that was read can stand.
    ///
    /// # Errors
    /// [`KeysError`] with the first that cannot.
    pub fn check(&self) -> Result<(), KeysError> {
        if self.keys.len() > KEYS_MAX {
            return Err(KeysError::Full);
        }
        let mut names = BTreeSet::new();
        for key in &self.keys {
            let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
            if key.name.is_empty() || key.name.len() > NAME_MAX || !key.name.chars().all(is_plain) {
                return Err(KeysError::Name(key.name.clone()));
            }
            if !names.insert(&key.name) {
                return Err(KeysError::Taken(key.name.clone()));
            }
            if key.digest.len() != 64 || !key.digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(KeysError::Digest(key.name.clone()));
            }
            let Limits { requests_per_minute, tokens_per_minute, running_max } = key.limits;
            if requests_per_minute == 0 || tokens_per_minute == 0 || running_max == 0 {
                return Err(KeysError::Limits(key.name.clone()));
            }
        }
        Ok(())
    }

    /// Whose key an `Authorization` header holds: its number in the list.
    ///
    /// # Errors
    /// If it holds none that is known. What was presented is not repeated.
    pub fn find(&self, authorization: Option<&str>) -> Result<usize, Refusal> {
        let no = |message: &str| Refusal::new(Kind::Key, "invalid_api_key", message);
        let Some(header) = authorization else {
            return Err(no("no API key was given: send it as `Authorization: Bearer KEY`; `tributary gateway key add` makes one"));
        };
        let Some(presented) = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim())
        else {
            return Err(no("the Authorization header is not `Bearer KEY`: send the key so"));
        };
        let digest = Secret::digest(presented);
        let found = self.keys.iter().position(|key| key.digest == digest);
        found.ok_or_else(|| no("this API key is not known here: check it, or ask who runs this gateway for one"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (Keys, Secret) {
        let mut keys = Keys::default();
        let secret = Secret::new(&[7; 32]);
        keys.add("laptop", &secret, false, Limits::default()).unwrap();
        keys.add("ops", &Secret::new(&[8; 32]), true, Limits::default()).unwrap();
        (keys, secret)
    }

    #[test]
    fn a_key_is_found_by_its_header_and_nothing_else_is() {
        let (keys, secret) = keys();
        let key = secret.reveal();
        assert_eq!(keys.find(Some(&format!("Bearer {key}"))), Ok(0));
        assert_eq!(keys.find(Some(&format!("bearer  {key} "))), Ok(0));
        let half = &key[..key.len() - 1];
        let bad = [
            None,
            Some(String::new()),
            Some(key.to_owned()),
            Some(format!("Basic {key}")),
            Some("Bearer ".into()),
            Some(format!("Bearer {half}")),
        ];
        for header in bad {
            let refusal = keys.find(header.as_deref()).unwrap_err();
            assert_eq!((refusal.kind, refusal.code), (Kind::Key, "invalid_api_key"));
            assert!(!refusal.message.contains(half), "what was presented is not repeated: {}", refusal.message);
        }
    }

    #[test]
    fn neither_the_list_nor_its_text_holds_a_key() {
        let (keys, secret) = keys();
        let random = &secret.reveal()[PREFIX.len()..];
        let text = format!("{keys:?} {} {secret:?}", serde_json::to_string(&keys).unwrap());
        assert!(!text.contains(random), "{text}");
    }

    #[test]
    fn a_list_that_cannot_stand_is_refused() {
        let (mut list, secret) = keys();
        assert_eq!(list.add("laptop", &secret, true, Limits::default()), Err(KeysError::Taken("laptop".into())));
        assert_eq!(list.add("a b", &secret, true, Limits::default()), Err(KeysError::Name("a b".into())));
        assert_eq!(list.add("c", &secret, true, Limits { running_max: 0, ..Limits::default() }), Err(KeysError::Limits("c".into())));
        assert_eq!(list, keys().0, "a refused key changes nothing");
        list.keys[1].digest.truncate(10);
        assert_eq!(list.check(), Err(KeysError::Digest("ops".into())));
        assert_eq!(list.remove("nobody"), Err(KeysError::Unknown("nobody".into())));
        list.remove("ops").unwrap();
        assert_eq!(list.check(), Ok(()));
    }
}
