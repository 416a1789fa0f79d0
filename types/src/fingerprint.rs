//! Fingerprints of an answer's activations: their bytes, and the root that a receipt names (P4).
//!
//! Of each [`POSITIONS`] output tokens of an attempt, counted from its first, there is one: the [`TOP`] numbers of largest magnitude that the model's
//! head read there, folded into a polynomial (TOPLOC, arXiv 2501.16007; what the numbers are and how two are compared is
//! `inference::verify::fingerprint`'s). The last may be of fewer tokens. Its bytes are those of the package `toploc`: the modulus as u16, then the
//! coefficients from the constant on as u16, big-endian: 258 bytes for 32 tokens, 8.1 a token.
//!
//! The **root** is a plain tree (P2) whose leaf i is the bytes of fingerprint i; 32 zero bytes if there is none.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, Visitor},
};

use crate::{
    encoding::DecodeError,
    id::Hash32,
    merkle::{leaf_digests, root as tree_root},
};

/// Output tokens that one fingerprint is of.
pub const POSITIONS: u32 = 32;
/// Most numbers that one is made of.
pub const TOP: usize = 128;
/// The field of the coefficients, and the largest modulus: above the bits of every finite bfloat16.
pub const PRIME: u16 = 65_497;
/// Longest fingerprint.
pub const FINGERPRINT_BYTES_MAX: usize = 2 + 2 * TOP;
/// Most fingerprints of one receipt: of 131,072 tokens, where a node answers with 4,096 at most.
pub const FINGERPRINTS_MAX: usize = 4_096;

/// One fingerprint. In JSON hex with `0x`, elsewhere a byte string.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(Box<[u8]>);

impl Fingerprint {
    /// Of this modulus and these coefficients, the constant first.
    ///
    /// # Errors
    /// As [`Fingerprint::read`].
    pub fn new(modulus: u16, coefficients: &[u16]) -> Result<Self, DecodeError> {
        let numbers = std::iter::once(&modulus).chain(coefficients);
        Self::read(&numbers.flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>())
    }

    /// Reads the bytes of one.
    ///
    /// # Errors
    /// [`DecodeError`]: no whole number of coefficients, none or more than [`TOP`], or a number that is not below what it may be.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if bytes.len() < 4 || bytes.len() > FINGERPRINT_BYTES_MAX || !bytes.len().is_multiple_of(2) {
            return Err(DecodeError::Value { field: "bytes of a fingerprint", got: len, expected: "an even number from 4 to 258" });
        }
        let fingerprint = Self(bytes.into());
        if fingerprint.modulus() > PRIME {
            return Err(DecodeError::Value { field: "modulus", got: fingerprint.modulus().into(), expected: "at most 65497" });
        }
        let wide = fingerprint.coefficients().find(|coefficient| *coefficient >= PRIME);
        match wide {
            Some(got) => Err(DecodeError::Value { field: "coefficient", got: got.into(), expected: "below 65497" }),
            None => Ok(fingerprint),
        }
    }

    /// What indices are taken modulo, so that they differ; 0 where none was found, which no comparison passes.
    pub fn modulus(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// Coefficients of the polynomial, the constant first; 1 to [`TOP`].
    pub fn coefficients(&self) -> impl DoubleEndedIterator<Item = u16> + ExactSizeIterator + '_ {
        self.0[2..].as_chunks().0.iter().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Its bytes: a leaf of the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The root of an answer's fingerprints, in their order.
pub fn root(fingerprints: &[Fingerprint]) -> Hash32 {
    if fingerprints.is_empty() {
        return Hash32::ZERO;
    }
    let bytes = fingerprints.iter().map(|fingerprint| fingerprint.0.len()).sum::<usize>();
    let bytes = u64::try_from(bytes).expect("a length in memory fits 64 bits");
    tree_root(leaf_digests(fingerprints.iter().map(Fingerprint::as_bytes)), bytes)
}

/// How many there are of an attempt with so many output tokens.
pub const fn count(tokens: u32) -> u32 {
    tokens.div_ceil(POSITIONS)
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(&self.0))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(&format_args!("{self:?}")) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return deserializer.deserialize_bytes(Bytes);
        }
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        let mut bytes = [0; FINGERPRINT_BYTES_MAX];
        let bytes = bytes.get_mut(..digits.len() / 2).ok_or_else(|| {
            D::Error::custom(format_args!("a fingerprint has at most {FINGERPRINT_BYTES_MAX} bytes, got {} hex digits", digits.len()))
        })?;
        hex::decode_to_slice(digits, bytes).map_err(|error| D::Error::custom(format_args!("a fingerprint is hex: {error}")))?;
        Self::read(bytes).map_err(D::Error::custom)
    }
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Fingerprint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a fingerprint")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Fingerprint, E> {
        Fingerprint::read(bytes).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbered(first: u16) -> Fingerprint {
        let coefficients: Vec<u16> = (first..).take(TOP).collect();
        Fingerprint::new(PRIME, &coefficients).unwrap()
    }

    #[test]
    fn a_fingerprint_is_its_modulus_and_its_coefficients_big_endian() {
        let two = Fingerprint::new(0x1234, &[1, 0xabc]).unwrap();
        assert_eq!(two.as_bytes(), [0x12, 0x34, 0, 1, 0x0a, 0xbc]);
        assert_eq!((two.modulus(), two.coefficients().collect::<Vec<u16>>()), (0x1234, vec![1, 0xabc]));
        assert_eq!(serde_json::to_string(&two).unwrap(), "\"0x123400010abc\"");
        assert_eq!(numbered(5).as_bytes().len(), 258);
    }

    #[test]
    fn what_no_model_gives_is_refused_by_name() {
        let refused = |modulus, coefficients: &[u16]| Fingerprint::new(modulus, coefficients).unwrap_err().to_string();
        assert!(refused(7, &[]).contains("bytes of a fingerprint holds 2"));
        assert!(refused(7, &[0; TOP + 1]).contains("bytes of a fingerprint holds 260"));
        assert!(refused(PRIME + 1, &[0]).contains("modulus holds 65498"));
        assert!(refused(7, &[0, PRIME]).contains("coefficient holds 65497"));
        assert!(Fingerprint::read(&[0; 5]).is_err());
        let long = format!("\"0x{}\"", "00".repeat(FINGERPRINT_BYTES_MAX + 1));
        assert!(serde_json::from_str::<Fingerprint>(&long).unwrap_err().to_string().contains("at most 258 bytes"));
        for odd in ["\"0x123\"", "\"0x12zz0000\"", "\"\"", "7"] {
            assert!(serde_json::from_str::<Fingerprint>(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_root_names_each_fingerprint_their_order_and_their_number() {
        let (a, b) = (numbered(1), numbered(2));
        assert_eq!(root(&[]), Hash32::ZERO);
        let roots =
            [vec![a.clone()], vec![b.clone()], vec![a.clone(), b.clone()], vec![b, a.clone()], vec![a.clone(), a]].map(|all| root(&all));
        for (at, one) in roots.iter().enumerate() {
            assert!(!roots[..at].contains(one) && *one != Hash32::ZERO);
        }
        // Every 32 tokens begin another.
        assert_eq!([0, 1, 32, 33, 4_096].map(count), [0, 1, 1, 2, 128]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_themselves_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(fingerprint) = Fingerprint::read(&bytes) {
                prop_assert_eq!(fingerprint.as_bytes(), &bytes);
                let text = serde_json::to_string(&fingerprint).unwrap();
                prop_assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), fingerprint);
            }
        }
    }
}
