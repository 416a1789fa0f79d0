//! What the index commits to, leaf by leaf (P5), and the openings that lead from a span to the index root.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use types::{
    contribution::Priority,
    encoding::{Writer, read_u40},
    id::{Address, AssetVersion, Hash32},
    merkle::Opening,
    text::LEAF_BYTES,
};

use super::salted::{SALT_BYTES, veiled};

/// Something with canonical leaf bytes.
pub trait Leaf {
    /// The bytes that are hashed.
    fn bytes(&self) -> Vec<u8>;
}

/// A leaf with its way to a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened<T> {
    /// What stands there.
    pub leaf: T,
    /// The way up.
    pub opening: Opening,
}

impl<T: Leaf> Opened<T> {
    /// The root this leads to; nothing if the opening's shape is impossible.
    pub fn root(&self) -> Option<Hash32> {
        self.opening.root(&self.leaf.bytes())
    }
}

/// Bytes of a leaf, hex in JSON: at most [`LEAF_BYTES`] of text, in a private Datanet [`SALT_BYTES`] of salt before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextLeaf(pub Vec<u8>);

impl TextLeaf {
    /// The text in a leaf, behind its salt if the Datanet is private; nothing of a leaf that is too short or too long for one.
    pub fn text(&self, is_private: bool) -> Option<&[u8]> {
        let text = if is_private { self.0.get(SALT_BYTES..)? } else { &self.0 };
        (text.len() <= LEAF_BYTES).then_some(text)
    }
}

impl Leaf for TextLeaf {
    fn bytes(&self) -> Vec<u8> {
        self.0.clone()
    }
}

impl Serialize for TextLeaf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for TextLeaf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        if text.len() > 2 * TEXT_LEAF_BYTES_MAX {
            let got = text.len();
            return Err(D::Error::custom(format_args!("a text leaf must be at most {TEXT_LEAF_BYTES_MAX} bytes in hex, got {got} digits")));
        }
        hex::decode(text.as_ref()).map(Self).map_err(|error| D::Error::custom(format_args!("a text leaf must be hex: {error}")))
    }
}

/// Most bytes of a text leaf: a salt and the text.
const TEXT_LEAF_BYTES_MAX: usize = SALT_BYTES + LEAF_BYTES;

/// Most entries of an array leaf.
pub const ARRAY_LEAF_ENTRIES: usize = 16;

/// Entries of the array in their order, the last also the next leaf's first: offsets in the segment, 1 to 16 of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArrayLeaf(pub Vec<u64>);

impl Leaf for ArrayLeaf {
    /// Five bytes an entry. One beyond 40 bits, which no JSON is read with, is written as the largest there is.
    fn bytes(&self) -> Vec<u8> {
        self.0.iter().fold(Writer::new(), |writer, entry| writer.u40((*entry).min((1 << 40) - 1))).finish()
    }
}

impl<'de> Deserialize<'de> for ArrayLeaf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::<u64>::deserialize(deserializer)?;
        if entries.is_empty() || entries.len() > ARRAY_LEAF_ENTRIES {
            return Err(D::Error::custom(format_args!("an array leaf must hold 1 to {ARRAY_LEAF_ENTRIES} entries, got {}", entries.len())));
        }
        match entries.iter().find(|entry| **entry >> 40 != 0) {
            Some(entry) => Err(D::Error::custom(format_args!("an array entry must be below 2^40, got {entry}"))),
            None => Ok(Self(entries)),
        }
    }
}

/// One document of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentRow {
    /// Root of the contribution it came in.
    pub text_root: Hash32,
    /// First byte in the segment (40 bits).
    #[serde(deserialize_with = "read_u40")]
    pub start: u64,
    /// Bytes, the zero after it not counted.
    pub length: u32,
    /// Who is paid.
    pub payee: Address,
    /// When it was committed.
    pub priority: Priority,
    /// Row number in the Datanet of the first document of its cluster.
    pub cluster: u64,
}

impl DocumentRow {
    /// First byte after it in the segment: where its zero stands.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(u64::from(self.length))
    }
}

impl Leaf for DocumentRow {
    /// 85 bytes. A start beyond 40 bits, possible only in a stranger's JSON, is written as the largest there is.
    fn bytes(&self) -> Vec<u8> {
        Writer::new()
            .hash(self.text_root)
            .u40(self.start.min((1 << 40) - 1))
            .u32(self.length)
            .address(self.payee)
            .u64(self.priority.block)
            .u32(self.priority.ordinal)
            .u32(self.priority.document)
            .u64(self.cluster)
            .finish()
    }
}

/// What a segment commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentLeaf {
    /// Root of its text.
    pub text: Hash32,
    /// Root of its document rows.
    pub documents: Hash32,
    /// Root of its array.
    pub array: Hash32,
    /// First byte in the Datanet.
    pub start: u64,
    /// Bytes of text.
    pub length: u64,
    /// Entries of the array.
    pub entries: u64,
}

impl Leaf for SegmentLeaf {
    /// 120 bytes.
    fn bytes(&self) -> Vec<u8> {
        Writer::new().hash(self.text).hash(self.documents).hash(self.array).u64(self.start).u64(self.length).u64(self.entries).finish()
    }
}

/// What a Datanet's version commits to in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatanetLeaf {
    /// Asset and version.
    pub version: AssetVersion,
    /// Bytes of all its segments.
    pub bytes: u64,
    /// Root of its segments; of a private one hashed once more.
    pub segments: Hash32,
}

impl DatanetLeaf {
    /// Whether this Datanet, whose segments have that root, is private; nothing if that is not the root of its segments.
    pub fn kind(&self, segments: Hash32) -> Option<bool> {
        if segments == self.segments {
            return Some(false);
        }
        (veiled(segments) == self.segments).then_some(true)
    }
}

impl Leaf for DatanetLeaf {
    /// 52 bytes.
    fn bytes(&self) -> Vec<u8> {
        Writer::new().asset(self.version).u64(self.bytes).hash(self.segments).finish()
    }
}

/// From a span's bytes to the index root, and to the row that says whom it pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanOpenings {
    /// The text leaf in whose stride the span starts, under the segment's text root. That of a private Datanet has its salt before the text, and is absent
    /// from what is shown to others than grant holders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Opened<TextLeaf>>,
    /// The document that holds it, under the segment's document root.
    pub document: Opened<DocumentRow>,
    /// The segment, under the Datanet's segments root.
    pub segment: Opened<SegmentLeaf>,
    /// The Datanet, under the index root.
    pub datanet: Opened<DatanetLeaf>,
    /// The first document of the cluster that the document joined; absent where it leads its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadOpenings>,
}

impl SpanOpenings {
    /// Whether the Datanet is private; nothing if what is shown does not lead to it.
    pub fn is_private(&self) -> Option<bool> {
        let kind = self.datanet.leaf.kind(self.segment.root()?)?;
        let leads = |head: &HeadOpenings| head.segment.root().and_then(|root| self.datanet.leaf.kind(root)) == Some(kind);
        self.head.as_ref().is_none_or(leads).then_some(kind)
    }

    /// The text that is shown, without its salt; nothing of what is hidden, or leads nowhere.
    pub fn shown_text(&self) -> Option<&[u8]> {
        self.text.as_ref()?.leaf.text(self.is_private()?)
    }
}

/// The document that is paid for its near copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadOpenings {
    /// Its row, under its segment's document root.
    pub document: Opened<DocumentRow>,
    /// Its segment, under the same Datanet's segments root.
    pub segment: Opened<SegmentLeaf>,
}
