//! The log of a private Datanet: who may read, under which keys, and who said they read what.
//!
//! Each entry names its number, the hash of the one before, a block, its author and an event, and is signed by its author as chatter of purpose
//! `seal-log`. Members replay it ([`Log::append`]): an entry out of place, by the wrong author, or against the rules below ends the replay by name. The owner orders
//! entries and signs heads (purpose `seal-head`); two heads of one length and different hash, or a log that does not pass through a head once signed, convict it.
//!
//! Rules. Only the owner grants, revokes and re-keys. A re-keying wraps the next epoch's key for exactly the owner and the members with a grant at that
//! block, so nobody is left out silently and nobody stays in. A grant names purposes and the block after which it is void. Reads are entered by
//! their reader, who must have a grant for the purpose. New segments are sealed under [`Log::sealing_epoch`], which is none as long as somebody who
//! has the current key no longer may: after a revocation or an expiry the owner must re-key first.
//!
//! Entry, big-endian: Datanet u64, number u64, previous hash, block u64, author id 32, event u8, then: 0 granted: member 32, purposes u8, expiry block
//! u64, keys u32 x (epoch u32, wrap 80); 1 revoked: member 32; 2 re-keyed: epoch u32, commitment 32, keys u32 x (member 32, wrap 80); 3 read: version u32,
//! segment u32, purpose u8. Hash = keccak of these bytes and the signature. Head: Datanet u64, length u64, hash.

use std::{collections::BTreeMap, str::FromStr};

use ed25519_dalek::{Signature, VerifyingKey};
use types::{
    encoding::{DecodeError, Reader, Writer},
    id::{AssetId, Hash32, NodeId},
    merkle::keccak,
};

use super::key::{WRAPPED_BYTES, Wrapped};

/// Most wraps in one entry: a re-keying for so many members is 459 KB.
pub const WRAPS_MAX: usize = 4_096;
const WRAP_OF_EPOCH: usize = 4 + WRAPPED_BYTES;
const WRAP_OF_MEMBER: usize = 32 + WRAPPED_BYTES;

/// What a grant is for. Purposes bind by contract and by this log, not by cryptography: who can open can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// To read it.
    Read,
    /// To train an adapter on it.
    Train,
    /// To serve attribution over it.
    Serve,
    /// To review contributions.
    Review,
}

/// A set of purposes, one bit each: 1 read, 2 train, 4 serve, 8 review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purposes(u8);

impl Purpose {
    const ALL: [Self; 4] = [Self::Read, Self::Train, Self::Serve, Self::Review];

    /// Its name on the command line.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Train => "train",
            Self::Serve => "serve",
            Self::Review => "review",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// No purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no purpose: use read, train, serve or review")]
pub struct NoPurpose(String);

impl FromStr for Purpose {
    type Err = NoPurpose;

    fn from_str(text: &str) -> Result<Self, NoPurpose> {
        Self::ALL.into_iter().find(|purpose| purpose.label() == text).ok_or_else(|| NoPurpose(text.chars().take(20).collect()))
    }
}

impl Purposes {
    /// The set of these.
    pub fn of(purposes: &[Purpose]) -> Self {
        Self(purposes.iter().fold(0, |bits, purpose| bits | purpose.bit()))
    }

    /// Its purposes in words, such as `read, train`.
    pub fn words(self) -> String {
        let held: Vec<_> = Purpose::ALL.into_iter().filter(|purpose| self.holds(*purpose)).map(Purpose::label).collect();
        held.join(", ")
    }

    /// Whether a purpose is in it.
    pub const fn holds(self, purpose: Purpose) -> bool {
        self.0 & purpose.bit() != 0
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member may read; a second grant replaces its first.
    Granted {
        /// Who.
        member: NodeId,
        /// What for; at least one.
        purposes: Purposes,
        /// Last block in which it holds.
        expiry: u64,
        /// Keys of the epochs it may open, ascending, none beyond the current.
        keys: Vec<(u32, Wrapped)>,
    },
    /// A member may no longer.
    Revoked {
        /// Who.
        member: NodeId,
    },
    /// What is sealed from now on needs another key.
    Rekeyed {
        /// One more than before; 0 for the first.
        epoch: u32,
        /// [`super::key::DataKey::commitment`].
        commitment: [u8; 32],
        /// The key for the owner and every member with a grant, ascending by id.
        keys: Vec<(NodeId, Wrapped)>,
    },
    /// The author read a segment.
    Read {
        /// Version.
        version: u32,
        /// Segment of it.
        segment: u32,
        /// What for.
        purpose: Purpose,
    },
}

/// One entry, before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The Datanet.
    pub datanet: AssetId,
    /// Its place, counted from 0.
    pub number: u64,
    /// Hash of the entry before; zero for the first.
    pub previous: Hash32,
    /// Block at which it was written; never before that of the entry before.
    pub block: u64,
    /// Who signs it.
    pub author: NodeId,
    /// What happened.
    pub event: Event,
}

/// An entry with its author's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The entry.
    pub entry: Entry,
    /// ed25519 over [`Entry::message`].
    pub signature: [u8; 64],
}

/// Where a log stands: what its owner signs after each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The Datanet.
    pub datanet: AssetId,
    /// Entries.
    pub length: u64,
    /// Hash of the last one; zero if there is none.
    pub hash: Hash32,
}

/// Why an entry does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Not the next entry of this log.
    #[error("entry {got} of Datanet {datanet} does not follow entry {expected} of the log at hand: fetch the log again from its owner")]
    Order {
        /// The Datanet the entry names.
        datanet: AssetId,
        /// Its number.
        got: u64,
        /// The number that is next.
        expected: u64,
    },
    /// The signature does not hold.
    #[error("entry {number} is not signed by {author}")]
    Signature {
        /// Which.
        number: u64,
        /// Who should have signed.
        author: NodeId,
    },
    /// Signed by somebody who may not.
    #[error("entry {number} by {author}: {rule}")]
    Author {
        /// Which.
        number: u64,
        /// Who.
        author: NodeId,
        /// What they may not.
        rule: &'static str,
    },
    /// Against a rule.
    #[error("entry {number}: {rule}")]
    Rule {
        /// Which.
        number: u64,
        /// Which rule.
        rule: &'static str,
    },
}

/// Nothing may be sealed under the current key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MustRekey {
    /// There is no key yet.
    #[error("the Datanet has no key yet: its owner enters the first one")]
    NoKey,
    /// Somebody who has it no longer may.
    #[error("{member} has the key of epoch {epoch} and no grant any more: re-key before sealing")]
    Outsider {
        /// Who.
        member: NodeId,
        /// The epoch.
        epoch: u32,
    },
}

impl Entry {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let count = |len: usize| u32::try_from(len).expect("wraps are bounded where an entry is accepted");
        let w = Writer::new().u64(self.datanet.0).u64(self.number).hash(self.previous).u64(self.block).node(self.author);
        let w = match &self.event {
            Event::Granted { member, purposes, expiry, keys } => {
                let w = w.u8(0).node(*member).u8(purposes.0).u64(*expiry).u32(count(keys.len()));
                w.each(keys, |w, (epoch, wrap)| w.u32(*epoch).bytes(&wrap.0))
            }
            Event::Revoked { member } => w.u8(1).node(*member),
            Event::Rekeyed { epoch, commitment, keys } => {
                let w = w.u8(2).u32(*epoch).bytes(commitment).u32(count(keys.len()));
                w.each(keys, |w, (member, wrap)| w.node(*member).bytes(&wrap.0))
            }
            Event::Read { version, segment, purpose } => w.u8(3).u32(*version).u32(*segment).u8(purpose.bit()),
        };
        w.finish()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for any others.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let (datanet, number, previous) = (AssetId(r.u64("Datanet")?), r.u64("number")?, r.hash("previous")?);
        let (block, author) = (r.u64("block")?, r.node("author")?);
        let event = match r.u8("event")? {
            0 => {
                let (member, purposes, expiry) = (r.node("member")?, r.u8("purposes")?, r.u64("expiry")?);
                if purposes == 0 || purposes > 15 {
                    return Err(DecodeError::Value {
                        field: "purposes",
                        got: purposes.into(),
                        expected: "one to four of the bits 1, 2, 4, 8",
                    });
                }
                let keys = r.u32("keys")?;
                let keys = wraps(&mut r, keys, WRAP_OF_EPOCH, |r| Ok((r.u32("epoch")?, wrap(r)?)))?;
                Event::Granted { member, purposes: Purposes(purposes), expiry, keys }
            }
            1 => Event::Revoked { member: r.node("member")? },
            2 => {
                let (epoch, commitment, keys) = (r.u32("epoch")?, r.hash("commitment")?.0, r.u32("keys")?);
                let keys = wraps(&mut r, keys, WRAP_OF_MEMBER, |r| Ok((r.node("member")?, wrap(r)?)))?;
                Event::Rekeyed { epoch, commitment, keys }
            }
            3 => {
                let (version, segment, bit) = (r.u32("version")?, r.u32("segment")?, r.u8("purpose")?);
                let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.bit() == bit);
                let unknown = DecodeError::Value { field: "purpose", got: bit.into(), expected: "1, 2, 4 or 8" };
                Event::Read { version, segment, purpose: purpose.ok_or(unknown)? }
            }
            got => return Err(DecodeError::Value { field: "event", got: got.into(), expected: "0 to 3" }),
        };
        r.finish().map(|()| Self { datanet, number, previous, block, author, event })
    }

    /// What the author signs: chatter of purpose `seal-log`.
    pub fn message(&self) -> Vec<u8> {
        message("seal-log", &self.encode())
    }
}

fn wraps<T>(
    r: &mut Reader<'_>,
    count: u32,
    len: usize,
    item: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let most = usize::try_from(count).ok().filter(|count| *count <= WRAPS_MAX);
    r.each("keys", most.ok_or_else(|| DecodeError::Value { field: "keys", got: count.into(), expected: "at most 4096" })?, len, item)
}

fn wrap(r: &mut Reader<'_>) -> Result<Wrapped, DecodeError> {
    Ok(Wrapped(*r.bytes("wrap", WRAPPED_BYTES)?.first_chunk().expect("as many bytes as were asked for")))
}

fn message(purpose: &str, body: &[u8]) -> Vec<u8> {
    [b"tributary/", purpose.as_bytes(), b"/v1", blake3::hash(body).as_bytes().as_slice()].concat()
}

fn holds(author: NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
    let key = VerifyingKey::from_bytes(&author.0);
    key.and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature))).is_ok()
}

impl Signed {
    /// The entry's bytes and the signature.
    pub fn encode(&self) -> Vec<u8> {
        [self.entry.encode().as_slice(), &self.signature].concat()
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`DecodeError`]. Whether the signature holds is for [`Log::append`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let short = DecodeError::Short { field: "signature", need: 64, left: bytes.len() };
        let (entry, signature) = bytes.split_last_chunk::<64>().ok_or(short)?;
        Ok(Self { entry: Entry::decode(entry)?, signature: *signature })
    }

    /// The hash that the next entry names.
    pub fn hash(&self) -> Hash32 {
        keccak(&[&self.entry.encode(), &self.signature])
    }
}

impl Head {
    /// What the owner signs: chatter of purpose `seal-head`.
    pub fn message(&self) -> Vec<u8> {
        message("seal-head", &Writer::new().u64(self.datanet.0).u64(self.length).hash(self.hash).finish())
    }

    /// Whether `owner` signed this head.
    pub fn is_signed_by(&self, owner: NodeId, signature: &[u8; 64]) -> bool {
        holds(owner, &self.message(), signature)
    }

    /// Whether no log can pass through both: signed by one owner, they convict it.
    pub fn contradicts(&self, other: &Self) -> bool {
        self.datanet == other.datanet && self.length == other.length && self.hash != other.hash
    }
}

/// A member's grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// What for.
    pub purposes: Purposes,
    /// Last block in which it holds.
    pub expiry: u64,
}

/// A log as far as it was replayed: what members believe.
#[derive(Debug, Clone)]
pub struct Log {
    datanet: AssetId,
    owner: NodeId,
    hashes: Vec<Hash32>,
    block: u64,
    grants: BTreeMap<NodeId, Grant>,
    /// By epoch.
    commitments: Vec<[u8; 32]>,
    /// Who was given the key of the current epoch.
    has_key: Vec<NodeId>,
}

impl Log {
    /// The empty log of a Datanet and its owner.
    pub const fn new(datanet: AssetId, owner: NodeId) -> Self {
        Self { datanet, owner, hashes: Vec::new(), block: 0, grants: BTreeMap::new(), commitments: Vec::new(), has_key: Vec::new() }
    }

    /// Where it stands.
    pub fn head(&self) -> Head {
        let length = u64::try_from(self.hashes.len()).expect("a log in memory is short");
        Head { datanet: self.datanet, length, hash: self.hashes.last().copied().unwrap_or_default() }
    }

    /// Whether the log passes through a head: false convicts the owner that signed it, if the log is at least as long.
    pub fn passes(&self, head: &Head) -> bool {
        let Ok(length) = usize::try_from(head.length) else { return false };
        let at = if length == 0 { Some(Hash32::ZERO) } else { self.hashes.get(length - 1).copied() };
        head.datanet == self.datanet && at == Some(head.hash)
    }

    /// The next entry, for its author to sign.
    pub fn draft(&self, author: NodeId, block: u64, event: Event) -> Entry {
        let head = self.head();
        Entry { datanet: self.datanet, number: head.length, previous: head.hash, block, author, event }
    }

    /// The grant of a member at a block, if it has one.
    pub fn grant(&self, member: NodeId, block: u64) -> Option<Grant> {
        self.grants.get(&member).copied().filter(|grant| block <= grant.expiry)
    }

    /// Every grant that was not revoked, expired ones too.
    pub fn grants(&self) -> impl Iterator<Item = (NodeId, Grant)> {
        self.grants.iter().map(|(member, grant)| (*member, *grant))
    }

    /// Block of the last entry; 0 if there is none. The next one may not be before it.
    pub const fn block(&self) -> u64 {
        self.block
    }

    /// The owner's node.
    pub const fn owner(&self) -> NodeId {
        self.owner
    }

    /// Whom a re-keying at a block must wrap for, ascending: the owner and all with a grant.
    pub fn recipients(&self, block: u64) -> Vec<NodeId> {
        let mut all: Vec<_> = self.grants.keys().copied().filter(|member| self.grant(*member, block).is_some()).collect();
        if let Err(at) = all.binary_search(&self.owner) {
            all.insert(at, self.owner);
        }
        all
    }

    /// What the key of an epoch must be by its commitment; nothing if there is no such epoch.
    pub fn commitment(&self, epoch: u32) -> Option<[u8; 32]> {
        self.commitments.get(usize::try_from(epoch).ok()?).copied()
    }

    /// The key epoch under which new segments are sealed at a block.
    ///
    /// # Errors
    /// [`MustRekey`].
    pub fn sealing_epoch(&self, block: u64) -> Result<u32, MustRekey> {
        let epoch = self.epoch().ok_or(MustRekey::NoKey)?;
        let outsider = self.has_key.iter().find(|member| **member != self.owner && self.grant(**member, block).is_none());
        outsider.map_or(Ok(epoch), |member| Err(MustRekey::Outsider { member: *member, epoch }))
    }

    /// The current key epoch; none before the first key.
    pub fn epoch(&self) -> Option<u32> {
        self.commitments.len().checked_sub(1).and_then(|epoch| u32::try_from(epoch).ok())
    }

    /// Takes in the next entry.
    ///
    /// # Errors
    /// [`LogError`]; the log stays as it was.
    pub fn append(&mut self, signed: &Signed) -> Result<(), LogError> {
        let Entry { datanet, number, previous, block, author, event } = &signed.entry;
        let (number, author, block, head) = (*number, *author, *block, self.head());
        if (*datanet, number, *previous) != (head.datanet, head.length, head.hash) {
            return Err(LogError::Order { datanet: *datanet, got: number, expected: head.length });
        }
        let rule = |rule, is_kept: bool| if is_kept { Ok(()) } else { Err(LogError::Rule { number, rule }) };
        rule("its block lies before that of the entry before", block >= self.block)?;
        self.may_write(number, author, block, event)?;
        match event {
            Event::Granted { expiry, keys, .. } => {
                rule("a grant must hold at its own block at least", *expiry >= block)?;
                rule("keys must be of ascending epochs", keys.windows(2).all(|pair| pair[0].0 < pair[1].0))?;
                rule("a grant holds at most 4096 keys", keys.len() <= WRAPS_MAX)?;
                rule("a key of an epoch that has not begun", keys.last().is_none_or(|(epoch, _)| self.commitment(*epoch).is_some()))?;
            }
            Event::Revoked { member } => rule("nobody is revoked who has no grant", self.grants.contains_key(member))?,
            Event::Rekeyed { epoch, keys, .. } => {
                let next = self.epoch().map_or(Some(0), |epoch| epoch.checked_add(1));
                rule("key epochs follow each other", next == Some(*epoch))?;
                let members: Vec<_> = keys.iter().map(|(member, _)| *member).collect();
                rule("a key is wrapped for the owner and exactly those with a grant, ascending", members == self.recipients(block))?;
            }
            Event::Read { .. } => {}
        }
        if !holds(author, &signed.entry.message(), &signed.signature) {
            return Err(LogError::Signature { number, author });
        }
        self.take(signed);
        Ok(())
    }

    fn may_write(&self, number: u64, author: NodeId, block: u64, event: &Event) -> Result<(), LogError> {
        let by = |rule, may: bool| if may { Ok(()) } else { Err(LogError::Author { number, author, rule }) };
        match event {
            Event::Read { purpose, .. } => {
                let grant = self.grant(author, block);
                let may = author == self.owner || grant.is_some_and(|grant| grant.purposes.holds(*purpose));
                by("only members with a grant for the purpose read", may)
            }
            Event::Granted { .. } | Event::Revoked { .. } | Event::Rekeyed { .. } => {
                by("only the owner grants, revokes and re-keys", author == self.owner)
            }
        }
    }

    fn take(&mut self, signed: &Signed) {
        match &signed.entry.event {
            Event::Granted { member, purposes, expiry, keys } => {
                self.grants.insert(*member, Grant { purposes: *purposes, expiry: *expiry });
                let is_current = keys.last().is_some_and(|(epoch, _)| Some(*epoch) == self.epoch());
                if is_current && !self.has_key.contains(member) {
                    self.has_key.push(*member);
                }
            }
            Event::Revoked { member } => drop(self.grants.remove(member)),
            Event::Rekeyed { commitment, keys, .. } => {
                self.commitments.push(*commitment);
                self.has_key = keys.iter().map(|(member, _)| *member).collect();
            }
            Event::Read { .. } => {}
        }
        self.block = signed.entry.block;
        self.hashes.push(signed.hash());
    }
}
