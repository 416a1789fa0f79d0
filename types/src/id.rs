//! Fixed-size ids: what they name, how they print, how they are read.
//!
//! All print as lower-case hex: [`Address`] and [`Hash32`] with `0x`, because wallets and contracts show them so; [`BlobId`] and
//! [`NodeId`] without. Reading accepts both forms and refuses any other length or digit.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Why a string is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {expected} hex digits, got {got:?}")]
pub struct IdError {
    kind: &'static str,
    expected: usize,
    got: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// All bytes zero.
            pub const ZERO: Self = Self([0; $len]);

            /// The bytes, most significant first.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::ZERO
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes)
                    .map_err(|_| IdError { kind: $kind, expected: 2 * $len, got: text.chars().take(80).collect() })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0[..].serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                    text.parse().map_err(D::Error::custom)
                } else {
                    let bytes = <&'de [u8]>::deserialize(deserializer)?;
                    Ok(Self(bytes.try_into().map_err(|_| D::Error::invalid_length(bytes.len(), &$kind))?))
                }
            }
        }
    };
}

id!(
    /// An account on the chain: the low 20 bytes of keccak over its public key, or a contract's address.
    Address, 20, "0x", "an account address"
);
id!(
    /// A keccak256 digest: tree roots, document hashes, request and lane ids.
    Hash32, 32, "0x", "a keccak hash"
);
id!(
    /// The BLAKE3 digest that names a blob: a model file, an adapter, a shard, an object manifest.
    BlobId, 32, "", "a blob id"
);
id!(
    /// A node's ed25519 public key: its libp2p peer id, its iroh endpoint id and its certificate key.
    NodeId, 32, "", "a node id"
);
id!(
    /// An X25519 public key: what a transcript's key is wrapped for.
    ExchangeKey, 32, "", "an exchange key"
);

impl BlobId {
    /// The name of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Number of a registered asset; they count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AssetId(pub u64);

impl fmt::Display for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One immutable version of an asset; versions count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetVersion {
    /// The asset.
    pub asset: AssetId,
    /// Its version.
    pub version: u32,
}

impl fmt::Display for AssetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.asset, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse_in_both_forms() {
        let id = Address([0xab; 20]);
        assert_eq!(id.to_string(), format!("0x{}", "ab".repeat(20)));
        assert_eq!("ab".repeat(20).parse::<Address>().unwrap(), id);
        assert_eq!(serde_json::from_str::<Address>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    }

    #[test]
    fn a_short_or_foreign_id_is_refused_by_name() {
        for text in ["0x12", "", "zz", &"g".repeat(40), &"ab".repeat(21)] {
            assert!(text.parse::<Address>().unwrap_err().to_string().starts_with("an account address must be 40 hex digits"));
        }
    }
}
