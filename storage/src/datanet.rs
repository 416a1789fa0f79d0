//! A Datanet: a dataset with a card, an order of who came first, and a gate.
//!
//! Flow: [`read`] turns a file into [`Document`]s; the contributor registers a salted commitment to their text root, which fixes the
//! [`Place`]; [`Datanet::gate`] reports which rows may not enter, with the fix for each; what passes is written as a [`shard`], spread as
//! fragments and, once accepted on chain, entered by [`Datanet::accept`].
//!
//! Exact copies earn once: the document belongs to the earliest place that brought it, whatever the order of acceptance. The table holds
//! 32 bytes of digest and 20 of owner per document, about 100 MB for a million documents. Near copies are found by [`dedup`], personal data by
//! [`scan`]; what follows from either is the card's [`GatePolicy`]. [`croissant`] and [`huggingface`] describe a Datanet to others, and theirs to us.

mod card;
pub mod croissant;
pub mod dedup;
mod document;
mod gate;
pub mod huggingface;
mod licence;
mod policy;
pub mod private;
pub mod read;
pub mod review;
pub mod scan;
pub mod shard;

use std::collections::BTreeMap;

use types::{
    contribution::Priority,
    id::{Address, BlobId, Hash32},
};

pub use self::{
    card::{Card, CardError, DESCRIPTION_BYTES_MAX, DatanetName, LABELS_MAX, LICENCE_BYTES_MAX, Licence, NAME_LEN_MAX},
    document::{Document, DocumentError, ID_BYTES_MAX, TEXT_BYTES_MAX, TITLE_BYTES_MAX, contribution_text},
    gate::{IN_TITLE, NOTES_MAX, REFUSALS_MAX, Refusal, Report, Rule, redacted},
    policy::{Action, Contributors, GatePolicy},
};
use dedup::{Batch, Index, IndexError, Member, Permutations};

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

/// A Datanet's accepted contributions and who was first with each document.
#[derive(Debug, Clone)]
pub struct Datanet {
    card: Card,
    accepted: BTreeMap<Place, Accepted>,
    firsts: BTreeMap<BlobId, First>,
    near: Index,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
}

impl Datanet {
    /// A Datanet without contributions.
    pub fn new(card: Card) -> Self {
        let (near, permutations) = (Index::new(), Permutations::new());
        Self { card, accepted: BTreeMap::new(), firsts: BTreeMap::new(), near, permutations, usage: BTreeMap::new() }
    }

    /// Its card.
    pub const fn card(&self) -> &Card {
        &self.card
    }

    /// The accepted contributions, earliest place first.
    pub fn accepted(&self) -> impl Iterator<Item = (Place, &Accepted)> {
        self.accepted.iter().map(|(place, accepted)| (*place, accepted))
    }

    /// The earliest accepted bringer of exactly this text.
    pub fn first(&self, document: &Document) -> Option<&First> {
        self.firsts.get(&document.digest())
    }

    /// Every accepted document's cluster, in the order of priority.
    pub fn clusters(&self) -> Vec<Member> {
        self.near.clusters()
    }

    /// What a contributor has in it.
    pub fn usage(&self, contributor: Address) -> Usage {
        self.usage.get(&contributor).copied().unwrap_or_default()
    }

    /// Enters a contribution that the chain accepted. Entering the same one again changes nothing.
    ///
    /// # Errors
    /// [`AcceptError`] if the documents are not the registered ones, the place is another's or the Datanet is full; nothing is entered then.
    pub fn accept(&mut self, place: Place, contribution: Accepted, documents: &[Document]) -> Result<(), AcceptError> {
        let text = contribution_text(documents);
        let derived = private::root(text.as_bytes(), contribution.text_salt);
        if derived != contribution.text_root {
            return Err(AcceptError::TextRoot { registered: contribution.text_root, derived });
        }
        match self.accepted.get(&place) {
            Some(held) if *held != contribution => return Err(AcceptError::PlaceTaken { place, held: held.text_root }),
            Some(_) => return Ok(()),
            None => {}
        }
        self.near.insert(&Batch::new(&self.permutations, place.of_document(0), documents.iter().map(Document::text)))?;
        self.accepted.insert(place, contribution);
        let usage = self.usage.entry(contribution.contributor).or_default();
        usage.rows = usage.rows.saturating_add(u64::from(contribution.documents));
        usage.bytes = usage.bytes.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        for (number, document) in (0..).zip(documents) {
            let first = First { owner: contribution.contributor, contribution: derived, priority: place.of_document(number) };
            let held = self.firsts.entry(document.digest()).or_insert(first);
            if first.priority < held.priority {
                *held = first;
            }
        }
        Ok(())
    }

    /// Looks at a contribution committed at `place`: which rows may not enter, why, and what would mend them.
    pub fn gate(&self, place: Place, contribution: &Contribution) -> Report {
        gate::report(self, place, contribution)
    }
}

#[cfg(test)]
mod tests;
