//! A Datanet: a dataset with a card, an order of who came first, and a gate.
//!
//! Flow: [`read`] turns a file into [`Document`]s; the contributor registers a salted commitment to their text root, which fixes the
//! [`Place`]; [`Datanet::gate`] reports which rows may not enter, with the fix for each; what passes is written as a [`shard`], spread as
//! fragments and, once accepted on chain, entered by [`Datanet::accept`].
//!
//! Exact copies earn once: the document belongs to the earliest place that brought it, whatever the order of acceptance. Near copies are found by
//! [`dedup`], both among the documents of a folder by `disk`, in 64 MiB of memory; a [`Datanet`] in memory holds 400 bytes a document and 8 a word. Personal data is found by
//! [`scan`]; what follows from either is the card's [`GatePolicy`]. [`croissant`] and [`huggingface`] describe a Datanet to others, and theirs to us.

mod card;
pub mod croissant;
pub mod dedup;
#[cfg(feature = "disk")]
mod disk;
mod document;
mod gate;
pub mod huggingface;
mod known;
mod licence;
mod policy;
pub mod private;
pub mod read;
pub mod reserve;
pub mod review;
pub mod scan;
pub mod shard;

#[cfg(feature = "disk")]
use std::path::Path;
use std::{collections::BTreeMap, convert::Infallible};

use types::{
    contribution::Priority,
    id::{Address, BlobId, Hash32},
};

#[cfg(feature = "disk")]
pub use self::disk::{DiskError, MEMORY_BYTES, OnDisk};
pub use self::{
    card::{Card, CardError, DESCRIPTION_BYTES_MAX, DatanetName, LABELS_MAX, LICENCE_BYTES_MAX, Licence, NAME_LEN_MAX},
    document::{Document, DocumentError, ID_BYTES_MAX, TEXT_BYTES_MAX, TITLE_BYTES_MAX, contribution_text},
    gate::{Earlier, NOTES_MAX, Part, REFUSALS_MAX, Refusal, Report, Rule, Sketch, redacted},
    known::{Known, Memory},
    licence::not_within,
    policy::{Action, Contributors, GatePolicy},
};
use self::{gate::Shown, shard::Shard};
use dedup::{Batch, IndexError, Member, Permutations};

/// Most documents of one contribution: their rows stay below 100 MB in memory.
pub const DOCUMENTS_MAX: usize = 1 << 20;

/// What one contributor brings at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contribution {
    /// Who contributes and is paid.
    pub contributor: Address,
    /// The licence the contributor gives, which must be the Datanet's.
    pub licence: Licence,
    /// The documents, in the order that numbers them.
    pub documents: Vec<Document>,
}

/// Where a commitment stands in the order of all: earlier wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// L2 block of the commitment.
    pub block: u64,
    /// Place among that block's commitments.
    pub ordinal: u32,
}

impl Place {
    /// Priority of document `document` of the contribution at this place.
    pub const fn of_document(self, document: u32) -> Priority {
        Priority { block: self.block, ordinal: self.ordinal, document }
    }
}

/// A contribution that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Who is paid.
    pub contributor: Address,
    /// Root of the contribution's text.
    pub text_root: Hash32,
    /// Its documents.
    pub documents: u32,
    /// The object that carries its shard.
    pub object: BlobId,
    /// Salt of its leaves, if the Datanet is private.
    pub text_salt: Option<Hash32>,
}

/// The earliest bringer of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct First {
    /// Who is paid for it.
    pub owner: Address,
    /// Text root of the contribution.
    pub contribution: Hash32,
    /// Its priority: place of the contribution, and number in it, counted from 0.
    pub priority: Priority,
}

/// A Datanet's accepted contributions and who was first with each document: in memory, or in a folder (`Datanet<OnDisk>`).
#[derive(Debug, Clone)]
pub struct Datanet<K = Memory> {
    card: Card,
    accepted: BTreeMap<Place, Accepted>,
    known: K,
    permutations: Permutations,
    usage: BTreeMap<Address, Usage>,
}

/// What one contributor has in a Datanet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Documents.
    pub rows: u64,
    /// Contribution text, in bytes.
    pub bytes: u64,
}

/// Why a contribution cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The documents are not those whose root was registered.
    #[error("the documents' text root is {derived}, {registered} was registered: fetch the shard again from another holder")]
    TextRoot {
        /// What was registered.
        registered: Hash32,
        /// What the documents give.
        derived: Hash32,
    },
    /// Two contributions at one place.
    #[error("block {} commitment {} already holds contribution {held}", place.block, place.ordinal)]
    PlaceTaken {
        /// The place.
        place: Place,
        /// Text root of what stands there.
        held: Hash32,
    },
    /// No room to find near copies of it later.
    #[error(transparent)]
    Near(#[from] IndexError),
    /// The index on disk refused.
    #[cfg(feature = "disk")]
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl<K> Datanet<K> {
    fn with(card: Card, known: K) -> Self {
        Self { card, accepted: BTreeMap::new(), known, permutations: Permutations::new(), usage: BTreeMap::new() }
    }

    /// Its card.
    pub const fn card(&self) -> &Card {
        &self.card
    }

    /// The accepted contributions, earliest place first.
    pub fn accepted(&self) -> impl Iterator<Item = (Place, &Accepted)> {
        self.accepted.iter().map(|(place, accepted)| (*place, accepted))
    }

    /// What a contributor has in it.
    pub fn usage(&self, contributor: Address) -> Usage {
        self.usage.get(&contributor).copied().unwrap_or_default()
    }

    /// The bytes of text of a contribution that may be entered; nothing if it was before.
    fn admitted(&self, place: Place, contribution: &Accepted, shard: &Shard) -> Result<Option<u64>, AcceptError> {
        if (shard.text_root(), shard.text_salt()) != (contribution.text_root, contribution.text_salt) {
            return Err(AcceptError::TextRoot { registered: contribution.text_root, derived: shard.text_root() });
        }
        match self.accepted.get(&place) {
            Some(held) if held != contribution => Err(AcceptError::PlaceTaken { place, held: held.text_root }),
            Some(_) => Ok(None),
            None => Ok(Some(shard.text_bytes())),
        }
    }

    fn enter(&mut self, place: Place, contribution: Accepted, text_bytes: u64) {
        self.accepted.insert(place, contribution);
        let usage = self.usage.entry(contribution.contributor).or_default();
        usage.rows = usage.rows.saturating_add(u64::from(contribution.documents));
        usage.bytes = usage.bytes.saturating_add(text_bytes);
    }

    /// Who brought the document of a priority.
    fn first_at(&self, priority: Priority) -> First {
        let place = Place { block: priority.block, ordinal: priority.ordinal };
        let accepted = self.accepted.get(&place).expect("what is known was accepted");
        First { owner: accepted.contributor, contribution: accepted.text_root, priority }
    }
}

impl Datanet {
    /// A Datanet without contributions.
    pub fn new(card: Card) -> Self {
        Self::with(card, Memory::default())
    }

    /// The earliest accepted bringer of exactly this text.
    pub fn first(&self, document: &Document) -> Option<First> {
        self.known.firsts.get(&document.digest()).map(|priority| self.first_at(*priority))
    }

    /// Every accepted document's cluster, in the order of priority.
    pub fn clusters(&self) -> Vec<Member> {
        self.known.near.clusters()
    }

    /// Enters a contribution that the chain accepted. Entering the same one again changes nothing.
    ///
    /// # Errors
    /// [`AcceptError`] if the documents are not the registered ones, the place is another's or the Datanet is full; nothing is entered then.
    pub fn accept(&mut self, place: Place, contribution: Accepted, shard: &Shard) -> Result<(), AcceptError> {
        let Some(text_bytes) = self.admitted(place, &contribution, shard)? else { return Ok(()) };
        let documents = shard.documents();
        let batch = Batch::new(&self.permutations, place.of_document(0), documents.iter().map(Document::text));
        self.known.near.insert(&batch)?;
        for (number, document) in (0..).zip(documents) {
            let priority = place.of_document(number);
            let held = self.known.firsts.entry(document.digest()).or_insert(priority);
            *held = priority.min(*held);
        }
        self.enter(place, contribution, text_bytes);
        Ok(())
    }

    /// Looks at a contribution committed at `place`: which rows may not enter, why, and what would mend them.
    pub fn gate(&self, place: Place, contribution: &Contribution) -> Report {
        gate::report(self, place, Shown::of(contribution)).unwrap_or_else(|never: Infallible| match never {})
    }

    /// The same of an opened shard, whose text is not hashed again.
    pub fn gate_shard(&self, place: Place, contributor: Address, licence: &Licence, shard: &Shard) -> Report {
        let shown = Shown::opened(contributor, licence, shard);
        gate::report(self, place, shown).unwrap_or_else(|never: Infallible| match never {})
    }

    /// The same, with the rows' own sketch, and whether any of them is a copy, exact or near, of a row of `other`: what a contributor asks of the shard before,
    /// which no gate knows until it is accepted. It costs one search more, no second sketch.
    pub fn gate_beside(&self, place: Place, contribution: &Contribution, other: Option<&Sketch>) -> (Report, Sketch, bool) {
        gate::beside(self, place, Shown::of(contribution), other).unwrap_or_else(|never: Infallible| match never {})
    }
}

#[cfg(feature = "disk")]
impl Datanet<OnDisk> {
    /// The Datanet whose documents stand in a folder, with what was committed there; one without contributions if there is none. Its files take at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`DiskError`] if another process has the folder, or a file in it is not what was written.
    pub fn open(card: Card, folder: &Path, bytes_max: u64) -> Result<Self, DiskError> {
        Ok(Self::of(card, OnDisk::open(folder, bytes_max)?))
    }

    fn of(card: Card, known: OnDisk) -> Self {
        let entered: Vec<_> = known.entered().map(|entered| (entered.place, entered.accepted, entered.text_bytes)).collect();
        let mut datanet = Self::with(card, known);
        entered.into_iter().for_each(|(place, accepted, text_bytes)| datanet.enter(place, accepted, text_bytes));
        datanet
    }

    /// What is in its folder.
    pub const fn index(&self) -> &OnDisk {
        &self.known
    }

    /// Enters a contribution that the chain accepted. Entering the same one again changes nothing. It is durable after [`Datanet::commit`], or when enough was entered.
    ///
    /// # Errors
    /// As the one in memory. After an error of the disk it has to be opened again, and is as it was at the last commit.
    pub fn accept(&mut self, place: Place, contribution: Accepted, shard: &Shard) -> Result<(), AcceptError> {
        let Some(text_bytes) = self.admitted(place, &contribution, shard)? else { return Ok(()) };
        let permutations = &self.permutations;
        let batches = (0..).zip(shard.documents().chunks(gate::BLOCK_ROWS)).map(|(block, rows)| {
            let first = place.of_document(u32::try_from(block * gate::BLOCK_ROWS).unwrap_or(u32::MAX));
            (Batch::new(permutations, first, rows.iter().map(Document::text)), rows.iter().map(Document::digest).collect())
        });
        self.known.insert(place, contribution, text_bytes, batches)?;
        self.enter(place, contribution, text_bytes);
        if self.known.is_due() { Ok(self.known.commit()?) } else { Ok(()) }
    }

    /// Takes contributions out that were erased or that the chain has taken back: nothing of them is in a file of the folder when this returns. Places where none stands are
    /// passed over.
    ///
    /// # Errors
    /// As [`Datanet::accept`]; after damage nothing but removing the folder helps.
    pub fn forget(&mut self, places: &[Place]) -> Result<(), DiskError> {
        let held: Vec<Place> = places.iter().filter(|place| self.accepted.contains_key(place)).copied().collect();
        if held.is_empty() {
            return Ok(());
        }
        let bytes: Vec<(Place, u64)> = self.known.entered().map(|entered| (entered.place, entered.text_bytes)).collect();
        self.known.forget(&held)?;
        for (place, text_bytes) in bytes.into_iter().filter(|(place, _)| held.contains(place)) {
            let Some(accepted) = self.accepted.remove(&place) else { continue };
            if let Some(usage) = self.usage.get_mut(&accepted.contributor) {
                usage.rows = usage.rows.saturating_sub(u64::from(accepted.documents));
                usage.bytes = usage.bytes.saturating_sub(text_bytes);
            }
        }
        Ok(())
    }

    /// Makes what was entered durable.
    ///
    /// # Errors
    /// What the disk says.
    pub fn commit(&mut self) -> Result<(), DiskError> {
        self.known.commit()
    }

    /// Looks at a contribution as the one in memory does, after a commit.
    ///
    /// # Errors
    /// What the disk says.
    pub fn gate(&mut self, place: Place, contribution: &Contribution) -> Result<Report, DiskError> {
        self.commit()?;
        gate::report(self, place, Shown::of(contribution))
    }

    /// The same of an opened shard, whose text is not hashed again.
    ///
    /// # Errors
    /// What the disk says.
    pub fn gate_shard(&mut self, place: Place, contributor: Address, licence: &Licence, shard: &Shard) -> Result<Report, DiskError> {
        self.commit()?;
        gate::report(self, place, Shown::opened(contributor, licence, shard))
    }
}

#[cfg(test)]
mod tests;
