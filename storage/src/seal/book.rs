//! A log with its entries, as it is kept and sent: what a member opens keys from, and what the owner adds to.
//!
//! On disk: per entry its length u32, big-endian, and [`Signed::encode`]. A book is replayed when it is read, so bytes that were changed on the way end the
//! reading by name. Each read entry is 190 bytes: [`ENTRIES_MAX`] of them are 12.5 MB.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer as _, SigningKey};
use types::{
    encoding::{DecodeError, Reader},
    id::{AssetId, NodeId},
};
use zeroize::Zeroizing;

use super::{
    key::{BadMember, DataKey, MemberSecret, unwrap, wrap},
    log::{Entry, Event, Head, Log, LogError, Purposes, Signed},
};

/// Most entries of a log. A Datanet that was read so often needs a new one.
pub const ENTRIES_MAX: usize = 1 << 16;
/// Most entries with which reads may be added: the rest is kept for the owner, who must be able to revoke whatever readers do.
pub const READS_MAX: usize = ENTRIES_MAX / 8 * 7;
/// Most reads of one member, so that none shuts the others out.
pub const READS_EACH_MAX: usize = ENTRIES_MAX / 8;

/// Largest book on disk: entries, and re-keyings for many members among them.
pub const BOOK_BYTES_MAX: usize = 64 << 20;

/// A log and its entries.
#[derive(Debug, Clone)]
pub struct Book {
    log: Log,
    entries: Vec<Signed>,
    bytes: usize,
    /// Read entries by reader.
    reads: BTreeMap<NodeId, usize>,
}

/// Why a book cannot be read or added to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// Not the layout.
    #[error("broken log: {0}")]
    Layout(#[from] DecodeError),
    /// An entry does not follow.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Full.
    #[error("the log holds {ENTRIES_MAX} entries or {BOOK_BYTES_MAX} bytes: start a new Datanet")]
    Full,
    /// No room for reads.
    #[error(
        "the log has no more room for reads of {reader}: a member is given {READS_EACH_MAX}, all together {READS_MAX} entries; what was fetched before can be read"
    )]
    Reads {
        /// Who would read.
        reader: NodeId,
    },
    /// No key for somebody.
    #[error(transparent)]
    Member(#[from] BadMember),
}

/// Who signs entries: a node's identity.
#[derive(Debug)]
pub struct Author {
    signing: SigningKey,
    secret: MemberSecret,
}

impl Author {
    /// The identity with this ed25519 seed.
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(seed), secret: MemberSecret::of_seed(seed) }
    }

    /// Its node id.
    pub const fn id(&self) -> NodeId {
        self.secret.id()
    }

    /// Signs an entry.
    pub fn sign(&self, entry: Entry) -> Signed {
        let signature = self.signing.sign(&entry.message()).to_bytes();
        Signed { entry, signature }
    }

    /// Signs a head.
    pub fn sign_head(&self, head: &Head) -> [u8; 64] {
        self.signing.sign(&head.message()).to_bytes()
    }
}

impl Book {
    /// The empty book of a Datanet and its owner's node.
    pub const fn new(datanet: AssetId, owner: NodeId) -> Self {
        Self { log: Log::new(datanet, owner), entries: Vec::new(), bytes: 0, reads: BTreeMap::new() }
    }

    /// Reads and replays a book.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn decode(datanet: AssetId, owner: NodeId, bytes: &[u8]) -> Result<Self, BookError> {
        let (mut book, mut r) = (Self::new(datanet, owner), Reader::new(bytes));
        while r.left() > 0 {
            let len = usize::try_from(r.u32("entry length")?).unwrap_or(usize::MAX);
            book.append(Signed::decode(r.bytes("entry", len)?)?)?;
        }
        Ok(book)
    }

    /// The book's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes);
        for entry in &self.entries {
            let entry = entry.encode();
            bytes.extend_from_slice(&u32::try_from(entry.len()).expect("entries are bounded").to_be_bytes());
            bytes.extend_from_slice(&entry);
        }
        bytes
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// [`BookError::Log`], [`BookError::Full`], [`BookError::Reads`]; nothing is added then.
    pub fn append(&mut self, entry: Signed) -> Result<(), BookError> {
        let bytes = self.bytes.saturating_add(4 + entry.encode().len());
        if self.entries.len() >= ENTRIES_MAX || bytes > BOOK_BYTES_MAX {
            return Err(BookError::Full);
        }
        let reader = matches!(entry.entry.event, Event::Read { .. }).then_some(entry.entry.author);
        if let Some(reader) = reader {
            let own = self.reads.get(&reader).copied().unwrap_or(0);
            if own >= READS_EACH_MAX || self.entries.len() >= READS_MAX || bytes > BOOK_BYTES_MAX / 8 * 7 {
                return Err(BookError::Reads { reader });
            }
        }
        self.log.append(&entry)?;
        if let Some(reader) = reader {
            *self.reads.entry(reader).or_default() += 1;
        }
        self.entries.push(entry);
        self.bytes = bytes;
        Ok(())
    }

    /// The log.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Its entries.
    pub fn entries(&self) -> &[Signed] {
        &self.entries
    }

    /// The keys that a member can open, by epoch. A wrap that does not open, or holds another key than the log says, counts for nothing.
    pub fn keys(&self, member: &Author) -> BTreeMap<u32, DataKey> {
        let mut keys = BTreeMap::new();
        let datanet = self.log.head().datanet;
        for entry in &self.entries {
            let wraps: Vec<_> = match &entry.entry.event {
                Event::Granted { member: to, keys, .. } if *to == member.id() => keys.clone(),
                Event::Rekeyed { epoch, keys, .. } => {
                    keys.iter().filter(|(to, _)| *to == member.id()).map(|(_, wrapped)| (*epoch, *wrapped)).collect()
                }
                _ => Vec::new(),
            };
            for (epoch, wrapped) in wraps {
                if let Ok(key) = unwrap(&wrapped, &member.secret, datanet, epoch)
                    && self.log.commitment(epoch) == Some(key.commitment())
                {
                    keys.insert(epoch, key);
                }
            }
        }
        keys
    }

    /// The owner's next key for everybody who may have it at a block; `fresh` are 32 bytes drawn at random.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn rekey(&mut self, owner: &Author, block: u64, fresh: &Zeroizing<[u8; 32]>) -> Result<DataKey, BookError> {
        let epoch = self.log.epoch().map_or(0, |epoch| epoch.saturating_add(1));
        let key = DataKey::new(self.log.head().datanet, epoch, **fresh);
        let keys =
            self.log.recipients(block).into_iter().map(|member| Ok((member, wrap(&key, member)?))).collect::<Result<_, BadMember>>()?;
        let entry = self.log.draft(owner.id(), block, Event::Rekeyed { epoch, commitment: key.commitment(), keys });
        self.append(owner.sign(entry))?;
        Ok(key)
    }

    /// The owner lets a member read, with every key so far.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn grant(&mut self, owner: &Author, block: u64, member: NodeId, purposes: Purposes, expiry: u64) -> Result<(), BookError> {
        let keys = self.keys(owner);
        let keys = keys.iter().map(|(epoch, key)| Ok((*epoch, wrap(key, member)?))).collect::<Result<_, BadMember>>()?;
        let entry = self.log.draft(owner.id(), block, Event::Granted { member, purposes, expiry, keys });
        self.append(owner.sign(entry))
    }

    /// The owner lets a member read no longer.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn revoke(&mut self, owner: &Author, block: u64, member: NodeId) -> Result<(), BookError> {
        let entry = self.log.draft(owner.id(), block, Event::Revoked { member });
        self.append(owner.sign(entry))
    }

    /// Whether a node is or was let in by this log.
    pub fn has_member(&self, node: NodeId) -> bool {
        let is_granted = |entry: &Signed| matches!(&entry.entry.event, Event::Granted { member, .. } if *member == node);
        node == self.log.owner() || self.entries.iter().any(is_granted)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::log::Purpose, *};

    const NET: AssetId = AssetId(42);

    fn author(index: u8) -> Author {
        Author::of_seed(&[index; 32])
    }

    fn fresh(byte: u8) -> Zeroizing<[u8; 32]> {
        Zeroizing::new([byte; 32])
    }

    fn book() -> Book {
        let mut book = Book::new(NET, author(0).id());
        book.rekey(&author(0), 10, &fresh(1)).unwrap();
        book.grant(&author(0), 11, author(1).id(), Purposes::of(&[Purpose::Read]), 100).unwrap();
        book.grant(&author(0), 11, author(2).id(), Purposes::of(&[Purpose::Read, Purpose::Review]), 20).unwrap();
        book
    }

    #[test]
    fn a_book_is_read_back_and_gives_each_member_its_keys() {
        let book = book();
        let again = Book::decode(NET, author(0).id(), &book.encode()).unwrap();
        assert_eq!((again.entries(), again.log().head()), (book.entries(), book.log().head()));
        let keys: Vec<_> = (0..4).map(|index| again.keys(&author(index)).len()).collect();
        assert_eq!(keys, [1, 1, 1, 0]);
        assert!(again.has_member(author(2).id()) && !again.has_member(author(3).id()));
        assert_eq!(again.log().grant(author(2).id(), 20).unwrap().purposes.words(), "read, review");
    }

    #[test]
    fn who_was_revoked_or_whose_grant_ran_out_has_no_later_key() {
        let mut book = book();
        book.revoke(&author(0), 12, author(1).id()).unwrap();
        book.rekey(&author(0), 12, &fresh(2)).unwrap();
        book.rekey(&author(0), 30, &fresh(3)).unwrap();
        let epochs = |index| book.keys(&author(index)).into_keys().collect::<Vec<_>>();
        assert_eq!((epochs(0), epochs(1), epochs(2)), (vec![0, 1, 2], vec![0], vec![0, 1]));
    }

    #[test]
    fn a_reader_fills_its_own_room_and_shuts_neither_others_nor_the_owner_out() {
        let mut book = book();
        let read = Event::Read { version: 1, segment: 0, purpose: Purpose::Read };
        let enter = |book: &mut Book, index: u8| {
            let entry = author(index).sign(book.log().draft(author(index).id(), 12, read.clone()));
            book.append(entry)
        };
        for _ in 0..READS_EACH_MAX {
            enter(&mut book, 1).unwrap();
        }
        let before = book.entries().len();
        assert_eq!(enter(&mut book, 1), Err(BookError::Reads { reader: author(1).id() }));
        assert_eq!(book.entries().len(), before);
        enter(&mut book, 2).unwrap();
        book.revoke(&author(0), 12, author(1).id()).unwrap();
        let again = Book::decode(NET, author(0).id(), &book.encode()).unwrap();
        assert_eq!(again.reads, book.reads);
    }

    #[test]
    fn a_changed_or_cut_book_ends_by_name_and_never_panics() {
        let bytes = book().encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Book::decode(NET, author(0).id(), &changed).is_err(), "byte {at}");
        }
        assert!(matches!(Book::decode(NET, author(0).id(), &bytes[..bytes.len() - 1]), Err(BookError::Layout(_))));
        assert!(matches!(Book::decode(NET, author(9).id(), &bytes), Err(BookError::Log(_))));
    }
}
