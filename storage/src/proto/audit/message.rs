//! Wire messages of audits. Canonical bytes, big-endian; parts after a length u32 each. One question and one reply per stream; what all must hear goes by
//! gossip ([`Told`]).

use types::{
    audit::{AuditCommit, AuditVerdict},
    encoding::{DecodeError, Document, Reader, Writer},
    id::{Address, BlobId, Hash32},
    key::{Signed, Signed65},
};

use super::answer::ANSWER_BYTES_MAX;
use crate::{erasure::MANIFEST_BYTES_MAX, proto::keeping::record::RECORD_BYTES_MAX};

/// Longest question: an answer on its way to a witness.
pub const ASK_BYTES_MAX: usize = ANSWER_BYTES_MAX + 256;
/// Fragments on one page of a node's list.
pub const PAGE: usize = 64;
/// Bytes after which a page ends.
pub const PAGE_BYTES: usize = 1 << 20;
/// Longest reply: a page, whose last entry may be the longest, or an answer.
pub const REPLY_BYTES_MAX: usize = PAGE_BYTES + RECORD_BYTES_MAX + MANIFEST_BYTES_MAX + ANSWER_BYTES_MAX + 256;
/// Longest word to all.
pub const TOLD_BYTES_MAX: usize = 256;
/// Longest reason of a refusal.
const REASON_BYTES_MAX: usize = 512;
/// Purpose of the chatter by which a node signs its answer.
pub const ANSWER_PURPOSE: &str = "audit-answer";
/// Bytes of that signature.
const CHATTER_BYTES: usize = 64;

/// An answer with its node's word that it is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAnswer {
    /// Bytes of [`super::Answer`].
    pub bytes: Vec<u8>,
    /// Chatter of purpose [`ANSWER_PURPOSE`] over [`answer_body`].
    pub signature: [u8; CHATTER_BYTES],
}

/// What a node signs of its answer: epoch u64, nonce, digest of the answer.
pub fn answer_body(epoch: u64, nonce: Hash32, answer: &[u8]) -> Vec<u8> {
    Writer::new().u64(epoch).hash(nonce).hash(super::answer::digest(answer)).finish()
}

/// What a node is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Are you there?
    Ping,
    /// What you committed to in an epoch, from an object on.
    Holdings {
        /// The epoch.
        epoch: u64,
        /// Objects from this one on.
        from: BlobId,
    },
    /// Walk from this nonce: the opener to the audited node.
    Challenge {
        /// The epoch.
        epoch: u64,
        /// What the walk starts from.
        nonce: Hash32,
    },
    /// A node was challenged: the opener to a witness.
    Opened {
        /// The epoch.
        epoch: u64,
        /// The audited node.
        node: Address,
        /// What its walk starts from.
        nonce: Hash32,
    },
    /// The answer to a challenge: the audited node to a witness.
    Answered {
        /// The epoch.
        epoch: u64,
        /// The challenge's nonce.
        nonce: Hash32,
        /// The answer.
        answer: Box<SignedAnswer>,
    },
    /// What you have seen of a node in an epoch, once more: it was away when you told all.
    Verdict {
        /// The epoch.
        epoch: u64,
        /// The audited node.
        node: Address,
    },
    /// What have you committed to in an epoch? I heard nothing of it, and my records name you a holder.
    Commitment {
        /// The epoch.
        epoch: u64,
    },
}

/// One fragment of a list, with what shows that it is assigned and what its bytes must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The object's record of holders.
    pub record: Vec<u8>,
    /// Its manifest.
    pub manifest: Vec<u8>,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// I am; or: I heard it.
    Here,
    /// A page of the list, in order of object; the last one if it is not full.
    Holdings {
        /// At most [`PAGE`] fragments.
        page: Vec<Listed>,
        /// Whether others follow.
        is_more: bool,
    },
    /// The answer to a challenge.
    Answer(Box<SignedAnswer>),
    /// What was seen.
    Verdict(Box<Signed<AuditVerdict>>),
    /// What was committed to.
    Commitment(Box<Signed<AuditCommit>>),
    /// No, with the reason.
    Refused(String),
}

/// What all operators hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A node binds itself to what it holds.
    Commit(Signed<AuditCommit>),
    /// An auditor has seen something.
    Verdict(Signed<AuditVerdict>),
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

fn put_answer(w: Writer, answer: &SignedAnswer) -> Writer {
    part(w.bytes(&answer.signature), &answer.bytes)
}

fn read_answer(r: &mut Reader<'_>) -> Result<Box<SignedAnswer>, DecodeError> {
    let signature = r.bytes("signature", CHATTER_BYTES)?.try_into().expect("as many bytes as were asked for");
    Ok(Box::new(SignedAnswer { signature, bytes: read_part(r, "answer", ANSWER_BYTES_MAX)? }))
}

impl Ask {
    /// The question's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ping => Writer::new().u8(0).finish(),
            Self::Holdings { epoch, from } => Writer::new().u8(1).u64(*epoch).blob(*from).finish(),
            Self::Challenge { epoch, nonce } => Writer::new().u8(2).u64(*epoch).hash(*nonce).finish(),
            Self::Opened { epoch, node, nonce } => Writer::new().u8(3).u64(*epoch).address(*node).hash(*nonce).finish(),
            Self::Answered { epoch, nonce, answer } => put_answer(Writer::new().u8(4).u64(*epoch).hash(*nonce), answer).finish(),
            Self::Verdict { epoch, node } => Writer::new().u8(5).u64(*epoch).address(*node).finish(),
            Self::Commitment { epoch } => Writer::new().u8(6).u64(*epoch).finish(),
        }
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let ask = match r.u8("kind")? {
            0 => Self::Ping,
            1 => Self::Holdings { epoch: r.u64("epoch")?, from: r.blob("object")? },
            2 => Self::Challenge { epoch: r.u64("epoch")?, nonce: r.hash("nonce")? },
            3 => Self::Opened { epoch: r.u64("epoch")?, node: r.address("node")?, nonce: r.hash("nonce")? },
            4 => Self::Answered { epoch: r.u64("epoch")?, nonce: r.hash("nonce")?, answer: read_answer(&mut r)? },
            5 => Self::Verdict { epoch: r.u64("epoch")?, node: r.address("node")? },
            6 => Self::Commitment { epoch: r.u64("epoch")? },
            got => return Err(DecodeError::Value { field: "kind", got: got.into(), expected: "0 to 6" }),
        };
        r.finish().map(|()| ask)
    }
}

impl Reply {
    /// The reply's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Here => Writer::new().u8(0).finish(),
            Self::Holdings { page, is_more } => {
                let count = u8::try_from(page.len()).unwrap_or(u8::MAX);
                let head = Writer::new().u8(1).u8(u8::from(*is_more)).u8(count);
                head.each(page, |w, listed| part(part(w, &listed.record), &listed.manifest)).finish()
            }
            Self::Answer(answer) => put_answer(Writer::new().u8(2), answer).finish(),
            Self::Verdict(signed) => part(Writer::new().u8(4), &Told::Verdict((**signed).clone()).encode()).finish(),
            Self::Commitment(signed) => part(Writer::new().u8(5), &Told::Commit((**signed).clone()).encode()).finish(),
            Self::Refused(reason) => {
                let end = (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
                part(Writer::new().u8(3), &reason.as_bytes()[..end]).finish()
            }
        }
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let reply = match r.u8("kind")? {
            0 => Self::Here,
            1 => {
                let more = r.u8("more")?;
                if more > 1 {
                    return Err(DecodeError::Value { field: "more", got: more.into(), expected: "0 or 1" });
                }
                let count = r.u8("fragments")?;
                if usize::from(count) > PAGE {
                    return Err(DecodeError::Value { field: "fragments", got: count.into(), expected: "at most 64" });
                }
                let listed = |r: &mut Reader<'_>| {
                    let record = read_part(r, "record", RECORD_BYTES_MAX)?;
                    Ok(Listed { record, manifest: read_part(r, "manifest", MANIFEST_BYTES_MAX)? })
                };
                Self::Holdings { page: r.each("fragments", count.into(), 8, listed)?, is_more: more == 1 }
            }
            2 => Self::Answer(read_answer(&mut r)?),
            3 => Self::Refused(String::from_utf8_lossy(&read_part(&mut r, "reason", REASON_BYTES_MAX)?).into_owned()),
            4 => match Told::decode(&read_part(&mut r, "verdict", TOLD_BYTES_MAX)?)? {
                Told::Verdict(signed) => Self::Verdict(Box::new(signed)),
                Told::Commit(_) => return Err(DecodeError::Value { field: "verdict", got: 0, expected: "a verdict" }),
            },
            5 => match Told::decode(&read_part(&mut r, "commitment", TOLD_BYTES_MAX)?)? {
                Told::Commit(signed) => Self::Commitment(Box::new(signed)),
                Told::Verdict(_) => return Err(DecodeError::Value { field: "commitment", got: 1, expected: "a commitment" }),
            },
            got => return Err(DecodeError::Value { field: "kind", got: got.into(), expected: "0 to 5" }),
        };
        r.finish().map(|()| reply)
    }
}

impl Told {
    /// The word's bytes: kind, body, signature.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Commit(signed) => Writer::new().u8(0).bytes(&signed.document.encode()).bytes(&signed.signature.0).finish(),
            Self::Verdict(signed) => Writer::new().u8(1).bytes(&signed.document.encode()).bytes(&signed.signature.0).finish(),
        }
    }

    /// Reads a peer's bytes; the signature is not checked.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        fn signed<D: Document>(r: &mut Reader<'_>) -> Result<Signed<D>, DecodeError> {
            let length = r.left().saturating_sub(65);
            let document = D::decode(r.bytes("document", length)?)?;
            let signature = Signed65(r.bytes("signature", 65)?.try_into().expect("as many bytes as were asked for"));
            Ok(Signed { document, signature })
        }
        let mut r = Reader::new(bytes);
        match r.u8("kind")? {
            0 => signed(&mut r).map(Self::Commit),
            1 => signed(&mut r).map(Self::Verdict),
            got => Err(DecodeError::Value { field: "kind", got: got.into(), expected: "0 or 1" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::audit::Verdict;

    use super::*;

    proptest! {
        #[test]
        fn messages_round_trip_and_decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), hash in any::<[u8; 32]>(), epoch: u64) {
            let (nonce, node) = (Hash32(hash), Address([7; 20]));
            let answer = Box::new(SignedAnswer { bytes: bytes.clone(), signature: [3; 64] });
            let asks = [
                Ask::Ping,
                Ask::Holdings { epoch, from: BlobId(hash) },
                Ask::Challenge { epoch, nonce },
                Ask::Opened { epoch, node, nonce },
                Ask::Answered { epoch, nonce, answer: answer.clone() },
                Ask::Verdict { epoch, node },
                Ask::Commitment { epoch },
            ];
            for ask in asks {
                prop_assert_eq!(Ask::decode(&ask.encode()), Ok(ask));
            }
            let page = vec![Listed { record: bytes.clone(), manifest: hash.to_vec() }; 3];
            for reply in [Reply::Here, Reply::Holdings { page, is_more: true }, Reply::Answer(answer), Reply::Refused("no".to_owned())] {
                prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
            }
            let _ = (Ask::decode(&bytes), Reply::decode(&bytes), Told::decode(&bytes));
        }
    }

    #[test]
    fn words_to_all_round_trip_and_are_short() {
        let commit = AuditCommit { node: Address([1; 20]), epoch: 2, holdings: Hash32([3; 32]), ranges: 4, block: 5 };
        let verdict = AuditVerdict {
            auditor: Address([1; 20]),
            node: Address([2; 20]),
            epoch: 3,
            holdings: Hash32([4; 32]),
            nonce: Hash32([5; 32]),
            verdict: Verdict::Passed,
            right: 20,
            digest: Hash32([6; 32]),
            round_trip_us: 7,
            elapsed_us: 8,
        };
        let signature = Signed65([9; 65]);
        for told in [Told::Commit(Signed { document: commit, signature }), Told::Verdict(Signed { document: verdict, signature })] {
            let bytes = told.encode();
            assert!(bytes.len() <= TOLD_BYTES_MAX);
            assert_eq!(Told::decode(&bytes), Ok(told.clone()));
            let (reply, crossed) = match told {
                Told::Verdict(signed) => (Reply::Verdict(Box::new(signed)), 5),
                Told::Commit(signed) => (Reply::Commitment(Box::new(signed)), 4),
            };
            let mut body = reply.encode();
            assert_eq!(Reply::decode(&body), Ok(reply));
            body[0] = crossed;
            assert!(Reply::decode(&body).is_err(), "one document is not taken for the other");
            assert!(Told::decode(&bytes[1..]).is_err() && Told::decode(&[bytes, vec![0]].concat()).is_err());
        }
    }
}
