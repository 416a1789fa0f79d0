//! Wire messages of keeping: one question and one reply per stream. Canonical bytes, big-endian; parts after a length u32 each.

use types::{
    encoding::{DecodeError, Document, Reader, Writer},
    id::{Address, BlobId},
    key::Signed65,
    placement::{HANDOVER_BYTES, Handover},
};

use super::record::RECORD_BYTES_MAX;
use crate::erasure::{FRAGMENT_BYTES_MAX, FRAGMENTS_MAX, MANIFEST_BYTES_MAX};

/// Longest question: a fragment with all that leads to it.
pub const ASK_BYTES_MAX: usize = FRAGMENT_BYTES_MAX + MANIFEST_BYTES_MAX + RECORD_BYTES_MAX + 1024;
/// Longest reply.
pub const REPLY_BYTES_MAX: usize = RECORD_BYTES_MAX + 1024;
/// Most operators that are told as suspended; more of them would be no network any more.
pub const SUSPENDED_MAX: usize = 4_096;
/// Longest reason of a refusal.
pub const REASON_BYTES_MAX: usize = 512;

/// What a node is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The record of an object, and the fragments of it that lie here.
    Record(BlobId),
    /// Keep this record, or what is new of it.
    Tell(Vec<u8>),
    /// The sender mends an object.
    Announce(BlobId),
    /// Hold a fragment from now on.
    Take(Box<Take>),
    /// Who takes no new fragments by your books of audits?
    Suspended,
}

/// A fragment that changes hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// The object's record before.
    pub record: Vec<u8>,
    /// What is handed over.
    pub handover: Handover,
    /// The coordinator's signature over that.
    pub by: Signed65,
    /// Canonical bytes of the object's manifest.
    pub manifest: Vec<u8>,
    /// The fragment's bytes.
    pub fragment: Vec<u8>,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The record, empty if there is none, and the fragments of the object that lie here.
    Record {
        /// Its bytes.
        record: Vec<u8>,
        /// Indices, ascending.
        indices: Vec<u8>,
    },
    /// It was heard, and is on the disk if it is to be kept.
    Heard,
    /// The fragment is on the disk: the new holder's signature over the handover.
    Taken(Signed65),
    /// These take none, ascending; at most [`SUSPENDED_MAX`].
    Suspended(Vec<Address>),
    /// No, with the reason.
    Refused(String),
    /// There is no room for the fragment.
    Full {
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        need: u64,
    },
}

fn part(w: Writer, bytes: &[u8]) -> Writer {
    // A part of 4 GiB does not fit a message; its reader finds the rest missing.
    w.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).bytes(bytes)
}

fn read_part(r: &mut Reader<'_>, field: &'static str, most: usize) -> Result<Vec<u8>, DecodeError> {
    let length = r.u32(field)?;
    match usize::try_from(length) {
        Ok(length) if length <= most => Ok(r.bytes(field, length)?.to_vec()),
        _ => Err(DecodeError::Value { field, got: length.into(), expected: "fewer bytes" }),
    }
}

fn signature(r: &mut Reader<'_>) -> Result<Signed65, DecodeError> {
    let bytes = r.bytes("signature", 65)?;
    Ok(Signed65(bytes.try_into().expect("as many bytes as were asked for")))
}

impl Ask {
    /// The question's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Record(object) => Writer::new().u8(0).blob(*object).finish(),
            Self::Tell(record) => part(Writer::new().u8(1), record).finish(),
            Self::Announce(object) => Writer::new().u8(2).blob(*object).finish(),
            Self::Take(take) => {
                let head = part(Writer::new().u8(3), &take.record).bytes(&take.handover.encode()).bytes(&take.by.0);
                part(part(head, &take.manifest), &take.fragment).finish()
            }
            Self::Suspended => Writer::new().u8(4).finish(),
        }
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let ask = match r.u8("kind")? {
            0 => Self::Record(r.blob("object")?),
            1 => Self::Tell(read_part(&mut r, "record", RECORD_BYTES_MAX)?),
            2 => Self::Announce(r.blob("object")?),
            3 => Self::Take(Box::new(Take {
                record: read_part(&mut r, "record", RECORD_BYTES_MAX)?,
                handover: Handover::decode(r.bytes("handover", HANDOVER_BYTES)?)?,
                by: signature(&mut r)?,
                manifest: read_part(&mut r, "manifest", MANIFEST_BYTES_MAX)?,
                fragment: read_part(&mut r, "fragment", FRAGMENT_BYTES_MAX)?,
            })),
            4 => Self::Suspended,
            got => return Err(DecodeError::Value { field: "kind", got: got.into(), expected: "0 to 4" }),
        };
        r.finish().map(|()| ask)
    }
}

impl Reply {
    /// The reply's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Record { record, indices } => part(part(Writer::new().u8(0), record), indices).finish(),
            Self::Heard => Writer::new().u8(1).finish(),
            Self::Taken(signature) => Writer::new().u8(2).bytes(&signature.0).finish(),
            Self::Refused(reason) => {
                let end = (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
                part(Writer::new().u8(3), &reason.as_bytes()[..end]).finish()
            }
            Self::Suspended(operators) => {
                let told = &operators[..operators.len().min(SUSPENDED_MAX)];
                let count = u16::try_from(told.len()).expect("a bounded list");
                Writer::new().u8(4).u16(count).each(told, |w, operator| w.address(*operator)).finish()
            }
            Self::Full { free, need } => Writer::new().u8(5).u64(*free).u64(*need).finish(),
        }
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let reply = match r.u8("kind")? {
            0 => Self::Record {
                record: read_part(&mut r, "record", RECORD_BYTES_MAX)?,
                indices: read_part(&mut r, "indices", FRAGMENTS_MAX)?,
            },
            1 => Self::Heard,
            2 => Self::Taken(signature(&mut r)?),
            3 => Self::Refused(String::from_utf8_lossy(&read_part(&mut r, "reason", REASON_BYTES_MAX)?).into_owned()),
            4 => {
                let count = r.u16("suspended operators")?;
                if usize::from(count) > SUSPENDED_MAX {
                    return Err(DecodeError::Value { field: "suspended operators", got: count.into(), expected: "at most 4096" });
                }
                let operators = r.each("suspended operators", count.into(), 20, |r| r.address("operator"))?;
                if !operators.is_sorted_by(|one, other| one < other) {
                    return Err(DecodeError::Value {
                        field: "suspended operators",
                        got: count.into(),
                        expected: "ascending ones, each once",
                    });
                }
                Self::Suspended(operators)
            }
            5 => Self::Full { free: r.u64("free")?, need: r.u64("need")? },
            got => return Err(DecodeError::Value { field: "kind", got: got.into(), expected: "0 to 5" }),
        };
        r.finish().map(|()| reply)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::id::Address;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..40)
    }

    proptest! {
        #[test]
        fn messages_round_trip_and_decoding_never_panics(a in bytes(), b in bytes(), c in bytes(), object in any::<[u8; 32]>(), text in "\\PC{0,20}") {
            let handover = Handover { by: Address([1; 20]), epoch: 2, object: BlobId(object), fragment: 3, generation: 4, to: Address([5; 20]) };
            let take = Take { record: a.clone(), handover, by: Signed65([6; 65]), manifest: b.clone(), fragment: c.clone() };
            for ask in [Ask::Record(BlobId(object)), Ask::Tell(a.clone()), Ask::Announce(BlobId(object)), Ask::Take(Box::new(take)), Ask::Suspended] {
                prop_assert_eq!(Ask::decode(&ask.encode()), Ok(ask));
            }
            let full = Reply::Full { free: u64::from_be_bytes(object[..8].try_into().unwrap()), need: 7 };
            let record = Reply::Record { record: a.clone(), indices: b };
            for reply in [record, Reply::Heard, Reply::Taken(Signed65([7; 65])), Reply::Refused(text), full] {
                prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
            }
            let suspended = Reply::Suspended((0..a.len()).map(|at| Address([u8::try_from(at).unwrap(); 20])).collect());
            prop_assert_eq!(Reply::decode(&suspended.encode()), Ok(suspended));
            let _ = (Ask::decode(&c), Reply::decode(&a), Reply::decode(&[&[4], c.as_slice()].concat()));
        }
    }

    #[test]
    fn parts_beyond_their_bounds_are_refused_by_name() {
        let asked = Ask::Tell(vec![0; RECORD_BYTES_MAX + 1]).encode();
        assert!(Ask::decode(&asked).unwrap_err().to_string().contains("record"));
        let long = Reply::decode(&Reply::Refused("ä".repeat(400)).encode()).unwrap();
        assert!(matches!(long, Reply::Refused(reason) if reason.len() == REASON_BYTES_MAX), "cut between two letters");
        assert!(Reply::decode(&Reply::Record { record: vec![], indices: vec![0; 49] }.encode()).is_err());
        let many = Reply::Suspended(
            (0..=SUSPENDED_MAX).map(|at| Address(types::merkle::keccak(&[&at.to_be_bytes()]).0[..20].try_into().unwrap())).collect(),
        );
        assert!(many.encode().len() <= REPLY_BYTES_MAX);
        assert!(Reply::decode(&many.encode()).is_err(), "not in order");
        let twice = Reply::Suspended(vec![Address([1; 20]); 2]).encode();
        assert!(Reply::decode(&twice).unwrap_err().to_string().contains("ascending"));
    }
}
