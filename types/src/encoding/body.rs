//! The body of a document as bytes, kept as it came: what is named by a hash need not be the document it is named as.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, Visitor},
};

use super::{DecodeError, Document};
use crate::{id::Hash32, merkle::keccak};

/// Bytes that some hash names. Prints, and stands in JSON, as hex with `0x`; elsewhere it is a byte string.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Body(pub Vec<u8>);

impl Body {
    /// The canonical body of `document`.
    pub fn of(document: &impl Document) -> Self {
        Self(document.encode())
    }

    /// What names it: keccak of the bytes.
    pub fn hash(&self) -> Hash32 {
        keccak(&[&self.0])
    }

    /// The document that the bytes are.
    ///
    /// # Errors
    /// [`DecodeError`] if they are none.
    pub fn read<D: Document>(&self) -> Result<D, DecodeError> {
        D::decode(&self.0)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(&self.0))
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(&format_args!("{self:?}")) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = <Cow<'de, str>>::deserialize(deserializer)?;
            let bytes = hex::decode(text.strip_prefix("0x").unwrap_or(&text));
            return bytes.map(Self).map_err(|error| D::Error::custom(format_args!("a body is hex: {error}")));
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Body, E> {
        Ok(Body(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::Address, voucher::Lane};

    #[test]
    fn a_body_is_hex_in_json_and_is_read_as_what_it_is_or_not_at_all() {
        let lane = Lane { payer: Address([1; 20]), node: Address([2; 20]), cap: crate::amount::Amount(3), expiry: 4, nonce: 5 };
        let body = Body::of(&lane);
        assert_eq!((body.hash(), body.read::<Lane>()), (lane.hash(), Ok(lane)));
        let text = serde_json::to_string(&body).unwrap();
        assert!(text.starts_with("\"0x01"), "{text}");
        assert_eq!(serde_json::from_str::<Body>(&text).unwrap(), body);
        assert!(serde_json::from_str::<Body>("\"0x0\"").is_err());
        assert!(Body(vec![0; 71]).read::<Lane>().is_err());
    }
}
