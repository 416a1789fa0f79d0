//! The text of a private Datanet: a root that tells nothing of it, and what is sealed in a shard's place.
//!
//! A root over plain leaves lets anybody confirm a guess of the text. So the leaves of private text carry a salt: leaf i is hashed behind
//! keccak("tributary/salt/v1" || salt || i u64), as leaves of prompts are, under the same tree. The registry opens such a root to the text's bytes like
//! any other, since it sees only the tree's top. The salt is 32 random bytes of the contributor, shown to the gate, and travels to members inside the seal.
//!
//! What is sealed: salt 32, then the shard. The segment bears the contribution's place: `version` is the block of its commitment, `segment` the ordinal in
//! it, so a member knows the name from the registry alone. Cost: hashing 352 bytes instead of 320 a leaf of 64.

use types::{
    id::{AssetId, Hash32},
    text::{prompt_root, prompt_top, text_root, text_top},
};

use super::{
    Place,
    shard::{self, Shard, ShardError},
};
use crate::seal::segment::Name;

/// Bytes of the salt before the shard.
const SALT_BYTES: usize = 32;

/// Why opened bytes are not the registered private contribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateError {
    /// Too short for a salt.
    #[error("{0} bytes stand under the seal, a salt alone has {SALT_BYTES}")]
    Short(usize),
    /// No shard, or another contribution's.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// A block that no segment can be named by.
    #[error("block {0} is beyond 32 bits: no segment can be named by it")]
    Block(u64),
}

/// Root of a contribution text: over salted leaves if there is a salt.
pub fn root(text: &[u8], salt: Option<Hash32>) -> Hash32 {
    salt.map_or_else(|| text_root(text), |salt| prompt_root(text, salt))
}

/// Top of the tree under [`root`]: what opens the root to the text's bytes when a contribution is accepted.
pub fn top(text: &[u8], salt: Option<Hash32>) -> Hash32 {
    salt.map_or_else(|| text_top(text), |salt| prompt_top(text, salt))
}

/// The root of a text of so many bytes over its [`top`]: who wants both hashes the text once.
pub fn root_over(text_bytes: usize, top: Hash32) -> Hash32 {
    types::text::root_over(text_bytes, top)
}

/// What is sealed: the salt and the shard.
pub fn pack(salt: Hash32, shard: &[u8]) -> Vec<u8> {
    [&salt.0, shard].concat()
}

/// The shard in opened bytes, under its salt: it must be the contribution registered with `text_root`.
///
/// # Errors
/// [`PrivateError`].
pub fn unpack(text_root: Hash32, bytes: &[u8]) -> Result<Shard, PrivateError> {
    let (salt, shard) = bytes.split_first_chunk::<SALT_BYTES>().ok_or(PrivateError::Short(bytes.len()))?;
    Ok(open(text_root, Some(Hash32(*salt)), shard)?)
}

/// Opens a shard that must be the contribution registered with `text_root`, under this salt if there is one. A salted text is hashed twice: a shard's head states
/// the plain root.
///
/// # Errors
/// [`ShardError`].
pub fn open(text_root: Hash32, salt: Option<Hash32>, bytes: &[u8]) -> Result<Shard, ShardError> {
    let shard = shard::decode(bytes)?;
    let shard = match salt {
        Some(salt) => shard.salted(salt),
        None => shard,
    };
    shard.expected(text_root)
}

/// The name under which the contribution at a place is sealed.
///
/// # Errors
/// [`PrivateError::Block`].
pub fn name(datanet: AssetId, place: Place) -> Result<Name, PrivateError> {
    let version = u32::try_from(place.block).map_err(|_| PrivateError::Block(place.block))?;
    Ok(Name { datanet, version, segment: place.ordinal })
}

#[cfg(test)]
mod tests {
    use types::{merkle, text::leaf_count};

    use super::*;
    use crate::datanet::{Document, contribution_text};

    fn documents_of(texts: &[&str]) -> Vec<Document> {
        texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect()
    }

    #[test]
    fn what_was_packed_is_unpacked_under_its_own_root_only() {
        let (rows, salt) = (documents_of(&["one", "two"]), Hash32([7; 32]));
        let (text, bytes) = (contribution_text(&rows), shard::encode(&rows).unwrap());
        let registered = root(text.as_bytes(), Some(salt));
        assert_ne!(registered, root(text.as_bytes(), None), "a guess of the text is not confirmed by the root");
        assert_ne!(registered, root(text.as_bytes(), Some(Hash32([8; 32]))));
        let opened = unpack(registered, &pack(salt, &bytes)).unwrap();
        assert_eq!((opened.text_root(), opened.text_salt(), opened.text_bytes()), (registered, Some(salt), 8));
        assert_eq!(opened.documents(), rows);
        assert!(matches!(unpack(registered, &pack(Hash32::ZERO, &bytes)), Err(PrivateError::Shard(ShardError::TextRoot { .. }))));
        assert_eq!(unpack(registered, &[1; 31]), Err(PrivateError::Short(31)));
        assert_eq!(open(root(text.as_bytes(), None), None, &bytes), Ok(Shard::of(rows.clone())));
        assert!(open(registered, None, &bytes).is_err() && open(root(text.as_bytes(), None), Some(salt), &bytes).is_err());
        assert_eq!(opened, Shard::of(rows).salted(salt));
    }

    #[test]
    fn a_salted_root_opens_to_its_bytes_as_a_plain_one_does() {
        let text = vec![b'x'; 1000];
        for salt in [None, Some(Hash32([3; 32]))] {
            let leaves = u64::try_from(leaf_count(text.len())).unwrap();
            assert_eq!(merkle::seal(leaves, 1000, top(&text, salt)), root(&text, salt));
            assert_eq!(root_over(1000, top(&text, salt)), root(&text, salt));
        }
    }

    #[test]
    fn a_place_names_one_segment() {
        let name_of = |block, ordinal| name(AssetId(4), Place { block, ordinal });
        assert_eq!(name_of(9, 2), Ok(Name { datanet: AssetId(4), version: 9, segment: 2 }));
        assert_eq!(name_of(1 << 32, 0), Err(PrivateError::Block(1 << 32)));
    }
}
