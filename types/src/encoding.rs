//! The one canonical encoding of whatever is hashed or signed: big-endian integers and fixed-size fields in a stated order, arrays after a count.
//!
//! [`Reader`] takes bytes from strangers: each read is bounds-checked, a count is compared with the bytes left before anything is
//! allocated, and [`Reader::finish`] refuses what is left over, so a document has exactly one encoding.

mod body;

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::{
    amount::Amount,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32, NodeId},
    time::BlockRef,
};

pub use body::Body;

/// Why bytes are not the document they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("bytes end inside {field}: {need} needed, {left} left")]
    Short {
        /// The field being read.
        field: &'static str,
        /// Bytes it takes.
        need: usize,
        /// Bytes there were.
        left: usize,
    },
    /// Bytes follow the last field.
    #[error("{0} bytes follow the end of the document")]
    Trailing(usize),
    /// A value outside its range.
    #[error("{field} holds {got}, which is not allowed: {expected}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it held.
        got: u64,
        /// What may stand there.
        expected: &'static str,
    },
}

/// Appends fields in canonical form.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty document.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty document with room for `bytes`, so that a long one is not moved while it grows.
    pub fn sized(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// The encoded bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// Raw bytes, without a length.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// One byte.
    #[must_use]
    pub fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    /// Two bytes.
    #[must_use]
    pub fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Four bytes.
    #[must_use]
    pub fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Five bytes.
    ///
    /// # Panics
    /// If `value` needs more than 40 bits: positions are checked where they arise.
    #[must_use]
    pub fn u40(self, value: u64) -> Self {
        assert!(value < 1 << 40, "u40 field holds {value}");
        self.bytes(&value.to_be_bytes()[3..])
    }

    /// Eight bytes.
    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Sixteen bytes.
    #[must_use]
    pub fn amount(self, value: Amount) -> Self {
        self.bytes(&value.0.to_be_bytes())
    }

    /// Twenty bytes.
    #[must_use]
    pub fn address(self, value: Address) -> Self {
        self.bytes(&value.0)
    }

    /// Thirty-two bytes.
    #[must_use]
    pub fn hash(self, value: Hash32) -> Self {
        self.bytes(&value.0)
    }

    /// Thirty-two bytes.
    #[must_use]
    pub fn blob(self, value: BlobId) -> Self {
        self.bytes(&value.0)
    }

    /// Thirty-two bytes.
    #[must_use]
    pub fn node(self, value: NodeId) -> Self {
        self.bytes(&value.0)
    }

    /// Number and hash: forty bytes.
    #[must_use]
    pub fn block(self, value: BlockRef) -> Self {
        self.u64(value.number).hash(value.hash)
    }

    /// Asset and version: twelve bytes.
    #[must_use]
    pub fn asset(self, value: AssetVersion) -> Self {
        self.u64(value.asset.0).u32(value.version)
    }

    /// Appends each item by `put`.
    #[must_use]
    pub fn each<T>(self, items: &[T], put: impl Fn(Self, &T) -> Self) -> Self {
        items.iter().fold(self, put)
    }
}

/// Takes fields off the front of untrusted bytes.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes not read yet.
    pub const fn left(&self) -> usize {
        self.0.len()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn bytes(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Short { field, need: len, left: self.0.len() })?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(DecodeError::Short { field, need: N, left: self.0.len() })?;
        self.0 = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Short`], as for every reader below.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_be_bytes)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Five bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u40(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let [a, b, c, d, e] = self.array(field)?;
        Ok(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// Sixteen bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn amount(&mut self, field: &'static str) -> Result<Amount, DecodeError> {
        self.array(field).map(|bytes| Amount(u128::from_be_bytes(bytes)))
    }

    /// Twenty bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn address(&mut self, field: &'static str) -> Result<Address, DecodeError> {
        self.array(field).map(Address)
    }

    /// Thirty-two bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn hash(&mut self, field: &'static str) -> Result<Hash32, DecodeError> {
        self.array(field).map(Hash32)
    }

    /// Thirty-two bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn blob(&mut self, field: &'static str) -> Result<BlobId, DecodeError> {
        self.array(field).map(BlobId)
    }

    /// Thirty-two bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn node(&mut self, field: &'static str) -> Result<NodeId, DecodeError> {
        self.array(field).map(NodeId)
    }

    /// Number and hash.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn block(&mut self, field: &'static str) -> Result<BlockRef, DecodeError> {
        Ok(BlockRef { number: self.u64(field)?, hash: self.hash(field)? })
    }

    /// Asset and version.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn asset(&mut self, field: &'static str) -> Result<AssetVersion, DecodeError> {
        Ok(AssetVersion { asset: AssetId(self.u64(field)?), version: self.u32(field)? })
    }

    /// `count` items of `item_len` bytes each; the bytes are there before anything is allocated.
    ///
    /// # Errors
    /// [`DecodeError::Short`], or what `item` returns.
    pub fn each<T>(
        &mut self,
        field: &'static str,
        count: usize,
        item_len: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let need = count.saturating_mul(item_len);
        if need > self.0.len() {
            return Err(DecodeError::Short { field, need, left: self.0.len() });
        }
        (0..count).map(|_| item(self)).collect()
    }

    /// Refuses what is left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.0.len())) }
    }
}

/// A number of at most 40 bits, for serde: what stands in a document's five bytes.
///
/// # Errors
/// The deserializer's own, or a larger number.
pub fn read_u40<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = u64::deserialize(deserializer)?;
    if value < 1 << 40 { Ok(value) } else { Err(D::Error::custom(format_args!("{value} does not fit 40 bits"))) }
}

/// A list of at most `MOST` items, for serde: an array of a document, whose count has one or two bytes.
///
/// # Errors
/// The deserializer's own, or a longer list; it is read no further than that.
pub fn read_list<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(AtMost::<T, MOST>(PhantomData))
}

struct AtMost<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for AtMost<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == MOST {
                return Err(A::Error::custom(format_args!("more than {MOST} items, which is the most of this list")));
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// `len` of an array as the count of a `u16` field.
///
/// # Panics
/// If it does not fit: builders bound their arrays.
pub(crate) fn count_u16(len: usize) -> u16 {
    u16::try_from(len).expect("array lengths are bounded where they are built")
}

/// `len` of an array as the count of a `u8` field.
///
/// # Panics
/// If it does not fit: builders bound their arrays.
pub(crate) fn count_u8(len: usize) -> u8 {
    u8::try_from(len).expect("array lengths are bounded where they are built")
}

/// A document with a canonical body (P4).
pub trait Document: Sized {
    /// Name in the EIP-712 type `<NAME>(bytes body)`.
    const NAME: &'static str;
    /// Contract whose domain its signature names.
    const CONTRACT: Contract;

    /// The canonical body.
    fn encode(&self) -> Vec<u8>;

    /// Reads a canonical body.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Document::encode`] would not write.
    fn decode(body: &[u8]) -> Result<Self, DecodeError>;

    /// keccak of the body: the document's hash.
    fn hash(&self) -> Hash32 {
        crate::merkle::keccak(&[&self.encode()])
    }
}

/// The contracts whose EIP-712 domains sign documents (P1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contract {
    /// `InferenceEscrow`.
    Escrow,
    /// `AssetRegistry`.
    Registry,
    /// `Settlement`.
    Settlement,
    /// `StakeManager`.
    Stake,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_are_not_there_are_refused_before_the_first_is_read() {
        let mut reader = Reader::new(&[0; 40]);
        let read = reader.each("assets", 4, 12, |_| -> Result<(), _> { panic!("no item is read while bytes are missing") });
        assert_eq!(read, Err(DecodeError::Short { field: "assets", need: 48, left: 40 }));
        assert_eq!(reader.each("assets", 3, 12, |r| r.asset("asset")).map(|items| items.len()), Ok(3));
        assert_eq!(reader.left(), 4);
    }
}
