//! Wire messages: postcard, one request and one reply per stream.
//!
//! A range of a fragment follows its reply in the bytes of [`range`](super::range); everything else is in messages.
//! postcard writes lengths and codes as varints, so these are not the canonical bytes of anything: what must have one form (the manifest) travels
//! as opaque bytes. A decoder looks at the message's length first, then at each part's; nothing larger than the message is allocated.

use std::fmt;

use serde::{Deserialize, Serialize};
use types::{
    id::{Address, BlobId},
    placement::HOLDERS_MAX,
};

use super::range::Run;
use crate::erasure::{FRAGMENT_BYTES_MAX, FRAGMENTS_MAX, MANIFEST_BYTES_MAX};

/// Bytes of an operator's address.
const ADDRESS_BYTES: usize = 20;
/// Longest message: the largest fragment, the longest manifest, as many holders as there can be, and room for codes and lengths.
pub const MESSAGE_BYTES_MAX: usize = FRAGMENT_BYTES_MAX + MANIFEST_BYTES_MAX + HOLDERS_MAX * ADDRESS_BYTES + 1024;
/// Longest reply: the longest manifest, all indices, and room for codes and lengths.
pub const REPLY_BYTES_MAX: usize = MANIFEST_BYTES_MAX + 1024;
/// Longest explanation in a refusal.
pub const DETAIL_BYTES_MAX: usize = 512;

/// What one node asks of another.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Keep this fragment.
    Put {
        /// Canonical bytes of the object's manifest.
        #[serde(with = "raw")]
        manifest: Vec<u8>,
        /// Which fragment.
        index: u8,
        /// Its bytes.
        #[serde(with = "raw")]
        fragment: Vec<u8>,
        /// The holder of each fragment of the object, by index, as the sender would have it: a holder without a record of the object checks all of them
        /// ([`super::placement::check`]).
        #[serde(with = "addresses")]
        holders: Vec<Address>,
    },
    /// Say what you hold of this object.
    Locate {
        /// The object.
        object: BlobId,
    },
    /// Send these groups of a fragment.
    Read {
        /// The object.
        object: BlobId,
        /// Which fragment.
        index: u8,
        /// Which groups.
        run: Run,
    },
}

/// What comes back.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The fragment is on the disk.
    Stored {
        /// The object.
        object: BlobId,
        /// Which fragment.
        index: u8,
    },
    /// What is held of an object.
    Located {
        /// The object.
        object: BlobId,
        /// Canonical bytes of its manifest.
        #[serde(with = "raw")]
        manifest: Vec<u8>,
        /// Fragments held, ascending.
        #[serde(with = "raw")]
        indices: Vec<u8>,
    },
    /// Groups of a fragment follow, on the same stream and in no message: [`Run::encoded_len`] bytes, then its end.
    Range {
        /// The object.
        object: BlobId,
        /// Which fragment.
        index: u8,
        /// Which groups: those that were asked for.
        run: Run,
    },
    /// No.
    Refused(Refusal),
}

/// Why a request was not met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// This node is not the fragment's holder.
    #[error("this node is not the holder of fragment {index} of object {object}")]
    NotHolder {
        /// The object.
        object: BlobId,
        /// Which fragment.
        index: u8,
    },
    /// Nothing of the object is here.
    #[error("nothing is known of object {object}")]
    Unknown {
        /// The object.
        object: BlobId,
    },
    /// The fragment was here and its bytes have changed; the holder says so rather than send them.
    #[error("fragment {index} of object {object} is damaged on its holder's disk")]
    Corrupt {
        /// The object.
        object: BlobId,
        /// Which fragment.
        index: u8,
    },
    /// What was sent to be kept is not what it says.
    #[error("refused: {}", one_line(.detail))]
    Invalid {
        /// What is wrong, at most [`DETAIL_BYTES_MAX`].
        detail: String,
    },
    /// No room.
    #[error("{free} bytes are free, {need} are needed")]
    Full {
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        need: u64,
    },
    /// Too much at once; try again later.
    #[error("busy: try again in a moment")]
    Busy,
    /// The holder's own failure, told without detail.
    #[error("the holder's disk failed")]
    Failed,
    /// Who contributed the object, or owns its Datanet, asked that it be erased: nobody serves or takes it any more.
    #[error("object {object} was erased on request at block {block}{}", if *.is_gone { "" } else { "; its bytes go when the request is final" })]
    Erased {
        /// The object.
        object: BlobId,
        /// Block of the request.
        block: u64,
        /// Whether the request is final and nothing of the object is on the holder's disk.
        is_gone: bool,
    },
    /// The holders that were named with the fragment are not those that placement gives by what this node hears.
    #[error("object {object} is not placed by the rule: {}", one_line(.detail))]
    Misplaced {
        /// The object.
        object: BlobId,
        /// What is wrong, at most [`DETAIL_BYTES_MAX`].
        detail: String,
    },
}

/// A peer's words within a line of ours: its line breaks would begin lines that look like ours.
fn one_line(detail: &str) -> String {
    detail.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Refusal {
    /// Whether asking the same holder again may help.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Busy | Self::Failed)
    }
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than a message may be.
    #[error("a message of {got} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes.
        got: usize,
        /// [`MESSAGE_BYTES_MAX`].
        max: usize,
    },
    /// Not the encoding.
    #[error("not a storage message: {0}")]
    Encoding(#[from] postcard::Error),
    /// Bytes after the end.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    /// A part outside its bound.
    #[error("{part} holds {got} bytes, at most {max} are allowed")]
    Part {
        /// Which part.
        part: &'static str,
        /// Its bytes.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
}

fn bounded(parts: &[(&'static str, usize, usize)]) -> Result<(), MessageError> {
    match parts.iter().find(|(_, got, max)| got > max) {
        Some(&(part, got, max)) => Err(MessageError::Part { part, got, max }),
        None => Ok(()),
    }
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, MessageError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(MessageError::TooLong { got: bytes.len(), max: MESSAGE_BYTES_MAX });
    }
    match postcard::take_from_bytes(bytes)? {
        (message, []) => Ok(message),
        (_, rest) => Err(MessageError::Trailing(rest.len())),
    }
}

fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).expect("plain data always serialises")
}

impl Request {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let request = decode(bytes)?;
        if let Self::Put { manifest, fragment, holders, .. } = &request {
            let parts = [
                ("manifest", manifest.len(), MANIFEST_BYTES_MAX),
                ("fragment", fragment.len(), FRAGMENT_BYTES_MAX),
                ("holders", holders.len(), HOLDERS_MAX),
            ];
            bounded(&parts)?;
        }
        Ok(request)
    }
}

impl Reply {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let reply = decode(bytes)?;
        match &reply {
            Self::Located { manifest, indices, .. } => {
                bounded(&[("manifest", manifest.len(), MANIFEST_BYTES_MAX), ("indices", indices.len(), FRAGMENTS_MAX)])?;
            }
            Self::Refused(Refusal::Invalid { detail } | Refusal::Misplaced { detail, .. }) => {
                bounded(&[("detail", detail.len(), DETAIL_BYTES_MAX)])?
            }
            Self::Stored { .. } | Self::Range { .. } | Self::Refused(_) => {}
        }
        Ok(reply)
    }
}

// Lengths instead of contents: a log line must not hold a fragment.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { manifest, index, fragment, .. } => f
                .debug_struct("Put")
                .field("object", &BlobId::of(manifest))
                .field("index", index)
                .field("fragment", &fragment.len())
                .finish_non_exhaustive(),
            Self::Locate { object } => f.debug_struct("Locate").field("object", object).finish(),
            Self::Read { object, index, run } => {
                f.debug_struct("Read").field("object", object).field("index", index).field("run", run).finish()
            }
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored { object, index } => f.debug_struct("Stored").field("object", object).field("index", index).finish(),
            Self::Located { object, indices, .. } => {
                f.debug_struct("Located").field("object", object).field("indices", indices).finish_non_exhaustive()
            }
            Self::Range { object, index, run } => {
                f.debug_struct("Range").field("object", object).field("index", index).field("run", run).finish()
            }
            Self::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
        }
    }
}

/// Byte arrays in one piece; serde's own way is byte by byte.
mod raw {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        <&[u8]>::deserialize(deserializer).map(<[u8]>::to_vec)
    }
}

/// Addresses in one piece.
mod addresses {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use types::id::Address;

    use super::ADDRESS_BYTES;

    pub(super) fn serialize<S: Serializer>(list: &[Address], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&list.iter().flat_map(|address| address.0).collect::<Vec<_>>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Address>, D::Error> {
        let (list, rest) = <&[u8]>::deserialize(deserializer)?.as_chunks::<ADDRESS_BYTES>();
        if rest.is_empty() { Ok(list.iter().copied().map(Address).collect()) } else { Err(D::Error::custom("addresses of twenty bytes")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OBJECT: BlobId = BlobId([0xab; 32]);

    #[test]
    fn the_bytes_of_messages_are_pinned() {
        let id = format!("20{}", "ab".repeat(32));
        let check = |got: Vec<u8>, expected: &str| assert_eq!(hex::encode(got), expected);
        let put = Request::Put { manifest: vec![1, 2], index: 3, fragment: vec![4], holders: vec![Address([5; 20])] };
        check(put.encode(), &format!("0002010203010414{}", "05".repeat(20)));
        check(Request::Locate { object: OBJECT }.encode(), &format!("01{id}"));
        check(Request::Read { object: OBJECT, index: 4, run: Run { first: 5, count: 300 } }.encode(), &format!("02{id}0405ac02"));
        check(Reply::Stored { object: OBJECT, index: 4 }.encode(), &format!("00{id}04"));
        check(Reply::Located { object: OBJECT, manifest: vec![9], indices: vec![0, 4] }.encode(), &format!("01{id}0109020004"));
        check(Reply::Range { object: OBJECT, index: 1, run: Run { first: 0, count: 7 } }.encode(), &format!("02{id}010007"));
        check(Reply::Refused(Refusal::NotHolder { object: OBJECT, index: 1 }).encode(), &format!("0300{id}01"));
        check(Reply::Refused(Refusal::Corrupt { object: OBJECT, index: 1 }).encode(), &format!("0302{id}01"));
        check(Reply::Refused(Refusal::Busy).encode(), "0305");
        check(Reply::Refused(Refusal::Erased { object: OBJECT, block: 300, is_gone: true }).encode(), &format!("0307{id}ac0201"));
        check(Reply::Refused(Refusal::Erased { object: OBJECT, block: 7, is_gone: false }).encode(), &format!("0307{id}0700"));
        check(Reply::Refused(Refusal::Misplaced { object: OBJECT, detail: "no".into() }).encode(), &format!("0308{id}026e6f"));
    }

    #[test]
    fn parts_beyond_their_bounds_are_refused_by_name() {
        let put = |manifest, fragment, holders| {
            let holders = vec![Address([7; 20]); holders];
            Request::Put { manifest: vec![0; manifest], index: 0, fragment: vec![0; fragment], holders }.encode()
        };
        assert!(Request::decode(&put(MANIFEST_BYTES_MAX, FRAGMENT_BYTES_MAX, HOLDERS_MAX)).is_ok());
        assert!(matches!(Request::decode(&put(MANIFEST_BYTES_MAX + 1, 0, 0)), Err(MessageError::Part { part: "manifest", .. })));
        assert!(matches!(Request::decode(&put(0, FRAGMENT_BYTES_MAX + 1, 0)), Err(MessageError::Part { part: "fragment", .. })));
        assert!(matches!(Request::decode(&put(0, 0, HOLDERS_MAX + 1)), Err(MessageError::Part { part: "holders", .. })));
        // One address less a byte.
        let cut = [vec![0, 0, 0, 0, 19], vec![7; 19]].concat();
        assert!(matches!(Request::decode(&cut), Err(MessageError::Encoding(_))));
        assert!(matches!(Request::decode(&vec![0; MESSAGE_BYTES_MAX + 1]), Err(MessageError::TooLong { .. })));
        let located = Reply::Located { object: OBJECT, manifest: vec![], indices: vec![0; FRAGMENTS_MAX + 1] };
        assert!(matches!(Reply::decode(&located.encode()), Err(MessageError::Part { part: "indices", .. })));
        let refused = Reply::Refused(Refusal::Invalid { detail: "x".repeat(DETAIL_BYTES_MAX + 1) });
        assert!(matches!(Reply::decode(&refused.encode()), Err(MessageError::Part { part: "detail", .. })));
        let trailing = [Request::Locate { object: OBJECT }.encode(), vec![0]].concat();
        assert_eq!(Request::decode(&trailing), Err(MessageError::Trailing(1)));
    }

    #[test]
    fn a_length_that_promises_more_than_arrived_is_refused() {
        assert!(matches!(Request::decode(&[0, 0xff, 0xff, 0xff, 0x7f]), Err(MessageError::Encoding(_))));
    }

    fn runs() -> impl Strategy<Value = Run> {
        any::<(u32, u32)>().prop_map(|(first, count)| Run { first, count })
    }

    fn requests() -> impl Strategy<Value = Request> {
        let object = any::<[u8; 32]>().prop_map(BlobId);
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            (bytes(), any::<u8>(), bytes(), proptest::collection::vec(any::<[u8; 20]>().prop_map(Address), 0..5))
                .prop_map(|(manifest, index, fragment, holders)| Request::Put { manifest, index, fragment, holders }),
            object.clone().prop_map(|object| Request::Locate { object }),
            (object, any::<u8>(), runs()).prop_map(|(object, index, run)| Request::Read { object, index, run }),
        ]
    }

    fn replies() -> impl Strategy<Value = Reply> {
        let object = || any::<[u8; 32]>().prop_map(BlobId);
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        let refusals = prop_oneof![
            (object(), any::<u8>()).prop_map(|(object, index)| Refusal::NotHolder { object, index }),
            object().prop_map(|object| Refusal::Unknown { object }),
            (object(), any::<u8>()).prop_map(|(object, index)| Refusal::Corrupt { object, index }),
            "\\PC{0,20}".prop_map(|detail| Refusal::Invalid { detail }),
            (any::<u64>(), any::<u64>()).prop_map(|(free, need)| Refusal::Full { free, need }),
            Just(Refusal::Busy),
            Just(Refusal::Failed),
            (object(), any::<u64>(), any::<bool>()).prop_map(|(object, block, is_gone)| Refusal::Erased { object, block, is_gone }),
            (object(), "\\PC{0,20}").prop_map(|(object, detail)| Refusal::Misplaced { object, detail }),
        ];
        let indices = proptest::collection::vec(any::<u8>(), 0..FRAGMENTS_MAX);
        prop_oneof![
            (object(), any::<u8>()).prop_map(|(object, index)| Reply::Stored { object, index }),
            (object(), bytes(), indices).prop_map(|(object, manifest, indices)| Reply::Located { object, manifest, indices }),
            (object(), any::<u8>(), runs()).prop_map(|(object, index, run)| Reply::Range { object, index, run }),
            refusals.prop_map(Reply::Refused),
        ]
    }

    proptest! {
        #[test]
        fn messages_round_trip(request in requests(), reply in replies()) {
            prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
            prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Request::decode(&bytes);
            let _ = Reply::decode(&bytes);
        }
    }
}
