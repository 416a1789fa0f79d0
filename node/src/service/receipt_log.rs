//! The node's receipt log and its office as a witness of others' (`attribution::log`, Protocol P12).
//!
//! An entry is on disk with its receipt, in one step, before the client has it (`crate::books::log`). A head is made when somebody asks for one: the entries
//! so far are read, the head is kept, then it is signed; so what was signed is always covered by what is on disk, and a start that finds other entries under
//! the head it kept signs nothing more.
//!
//! What witnesses say of the head ([`witnesses`]) is kept beside it and served with it, through a restart too.
//!
//! Memory: hashes of full tiles, a hundredth of a megabyte for each 100,000 receipts. A start reads every entry once.

pub mod http;
pub mod witnesses;

use std::sync::{Arc, Mutex, PoisonError};

use attribution::log::{
    Head, LogHash,
    checkpoint::{self, Checkpoint},
    entry,
    note::{Key, Note, NoteError, Role, Signer, signature_lines},
    tile::{self, Resource, Tile, TileError, Tiles},
    tree::{Levels, consistency_ranges, leaf_hash},
    witness::{AddCheckpoint, Refusal},
};
use p2p::identity::NodeSeed;
use types::id::{Hash32, NodeId};

use crate::books::{Books, BooksError, log::PAGE};

/// Why the log is not served.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The books.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// Entries were lost.
    #[error(
        "a head of {signed} entries was signed and {found} are there: the store is older than what was signed; bring back the newest copy of the data folder, \
         because another head would convict this node of a fork"
    )]
    Short {
        /// Entries of the head signed last.
        signed: u64,
        /// Entries found.
        found: u64,
    },
    /// Entries were changed.
    #[error(
        "the first {0} entries give another root than the one that was signed over them: the store is damaged; bring back a sound copy of the data folder"
    )]
    Forked(u64),
}

/// Why a head is not cosigned.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// By the rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The books.
    #[error(transparent)]
    Books(#[from] BooksError),
}

/// Why nothing shows how the log goes on.
#[derive(Debug, thiserror::Error)]
pub enum ConsistencyError {
    /// The books.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// A tile is not there.
    #[error(transparent)]
    Tile(#[from] TileError),
}

/// Why a cosignature is not kept.
#[derive(Debug, thiserror::Error)]
pub enum CosignatureError {
    /// It is none of that witness for this head.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The books.
    #[error(transparent)]
    Books(#[from] BooksError),
}

/// The log.
#[derive(Debug)]
pub struct ReceiptLog {
    books: Arc<Books>,
    log: Signer,
    witness: Signer,
    state: Mutex<State>,
    /// Held while a head is judged and kept, so that no two are cosigned that fork.
    witnessing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    levels: Levels,
    signed: Checkpoint,
}

impl ReceiptLog {
    /// Reads the entries, and holds them against the head that was signed last.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(books: Arc<Books>, seed: &NodeSeed) -> Result<Self, LogError> {
        let (log, witness) = (Signer::new(Role::Log, seed.expose()), Signer::new(Role::Witness, seed.expose()));
        let filled = books.fill_log()?;
        if filled > 0 {
            tracing::info!(filled, "receipts of an earlier version have their entries in the log");
        }
        let kept = books.log_head()?;
        let mut levels = Levels::new();
        read(&books, &mut levels, kept.size)?;
        if levels.size() < kept.size {
            return Err(LogError::Short { signed: kept.size, found: levels.size() });
        }
        if levels.head() != kept {
            return Err(LogError::Forked(kept.size));
        }
        let mut signed = checkpoint::sign(&log, kept);
        if let Some(note) = books.log_cosigned()?.and_then(|bytes| Note::parse(&bytes).ok())
            && let Ok(cosigned) = Checkpoint::verified(note, log.key())
            && cosigned.head == kept
        {
            signed = cosigned;
        }
        Ok(Self { books, log, witness, state: Mutex::new(State { levels, signed }), witnessing: Mutex::new(()) })
    }

    /// The own key as a log.
    pub const fn key(&self) -> &Key {
        self.log.key()
    }

    /// The head over every entry that is on disk by now, signed.
    ///
    /// # Errors
    /// [`BooksError`]; then the head of before stands.
    pub fn checkpoint(&self) -> Result<Checkpoint, BooksError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        read(&self.books, &mut state.levels, self.books.log_len()?)?;
        let head = state.levels.head();
        if head != state.signed.head {
            self.books.keep_log_head(head)?;
            state.signed = checkpoint::sign(&self.log, head);
        }
        Ok(state.signed.clone())
    }

    /// The head signed last, with what witnesses have said of it.
    pub fn signed(&self) -> Checkpoint {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).signed.clone()
    }

    /// Keeps what a witness said of a head, and serves it with that; passed over where there is a newer head by now.
    ///
    /// # Errors
    /// [`CosignatureError`] if `lines` hold no signature of that witness for it.
    pub fn keep_cosignature(&self, head: Head, lines: &str, witness: NodeId) -> Result<(), CosignatureError> {
        let lines = signature_lines(lines)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.signed.head != head {
            return Ok(());
        }
        let (key, mut cosigned) = (Key::new(Role::Witness, witness), state.signed.clone());
        // Whatever else it sends is nobody's word, and more of its own would leave the others no place in the note.
        cosigned.note.add(lines.into_iter().find(|line| line.is_of(&key)));
        cosigned.note.signed_at(&key)?;
        self.books.keep_log_cosigned(cosigned.note.to_string().as_bytes())?;
        state.signed = cosigned;
        Ok(())
    }

    /// How a head goes on from `old` entries; nothing if it has fewer.
    ///
    /// # Errors
    /// [`ConsistencyError`].
    pub fn consistency(&self, old: u64, head: Head) -> Result<Option<Vec<LogHash>>, ConsistencyError> {
        let Some(ranges) = consistency_ranges(old, head.size) else { return Ok(None) };
        let mut tiles = Tiles::new(head.size);
        for tile in tiles.needed(&ranges) {
            if let Some(bytes) = self.resource(Resource::Tile(tile))? {
                tiles.insert(tile, &bytes)?;
            }
        }
        Ok(Some(tiles.consistency(old)?))
    }

    /// The bytes that a path names, as far as the head signed last covers them.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn resource(&self, resource: Resource) -> Result<Option<Vec<u8>>, BooksError> {
        let (Resource::Tile(tile) | Resource::Entries(tile)) = resource;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = Tile::at(tile.level(), tile.index(), state.signed.head.size);
        if whole.is_none_or(|whole| whole.width() < tile.width()) {
            return Ok(None);
        }
        if tile.level() > 0 {
            return Ok(state.levels.upper(tile).map(tile::to_bytes));
        }
        drop(state);
        let entries: Vec<_> = self.books.logged(tile.entries().start, tile.width().into())?.into_iter().map(entry::of_receipt).collect();
        Ok(Some(match resource {
            Resource::Entries(_) => entry::bundle(entries.iter().map(<[u8; entry::ENTRY_BYTES]>::as_slice)),
            Resource::Tile(_) => tile::to_bytes(&entries.iter().map(|entry| leaf_hash(entry)).collect::<Vec<_>>()),
        }))
    }

    /// Cosigns another log's head at `now_s` seconds since 1970, if it goes on from the one cosigned last; `is_witnessed` says whose logs are. The
    /// signature line.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn cosign(&self, body: &[u8], now_s: u64, is_witnessed: impl Fn(NodeId) -> bool) -> Result<String, WitnessError> {
        let request = AddCheckpoint::parse(body)?;
        let origin = request.origin()?;
        let node = Key::node_of_origin(origin).filter(|node| *node != self.key().node() && is_witnessed(*node));
        let node = node.ok_or_else(|| Refusal::Unknown(origin.chars().take(100).collect()))?;
        let _witnessing = self.witnessing.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.books.witnessed(node)?;
        let head: Head = request.judge(&Key::new(Role::Log, node), last).inspect_err(|refusal| {
            if matches!(refusal, Refusal::Inconsistent) {
                // Signed by its log: whoever has both heads can show the fork.
                tracing::warn!(%node, request = %request, ?last, "a log asked to have a head cosigned that does not go on from its last one");
            }
        })?;
        if last != Some(head) {
            self.books.keep_witnessed(node, head)?;
        }
        Ok(self.witness.sign(request.note.text(), now_s).to_string())
    }
}

/// Adds entries until there are `size`, or no more.
fn read(books: &Books, levels: &mut Levels, size: u64) -> Result<(), BooksError> {
    while levels.size() < size {
        let most = usize::try_from(size - levels.size()).unwrap_or(PAGE).min(PAGE);
        let hashes: Vec<Hash32> = books.logged(levels.size(), most)?;
        if hashes.is_empty() {
            break;
        }
        hashes.into_iter().for_each(|hash| levels.push(leaf_hash(&entry::of_receipt(hash))));
    }
    Ok(())
}
