//! Which contributions make which segments of a Datanet version (P5): one function for indexers, nodes, commands and exported texts.
//!
//! A plan is a function of the books alone: what was accepted before the version was published, in the order of acceptance, with its registered
//! bytes. It names every segment before a byte of text is read, so that whoever has the file needs no text.

use attribution::index::{Label, SegmentId, layout};
use chain_bridge::registry::{State, state::Accepted};
use types::{
    id::{Address, AssetVersion, Hash32},
    merkle::keccak,
};

use crate::datanet::{
    card_of,
    erased::{self, Erased},
};

/// A contribution in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What the registry says of it.
    pub accepted: Accepted,
    /// Whether it was erased before the version was published: a row without text.
    pub is_erased: bool,
}

impl Piece {
    /// What it is without its text.
    fn label(&self) -> Label {
        let Accepted { priority, text_root, contributor, text_bytes, .. } = self.accepted;
        let (contributor, bytes) = if self.is_erased { (Address::ZERO, 0) } else { (contributor, text_bytes) };
        Label { block: priority.block, ordinal: priority.ordinal, text_root, contributor, bytes }
    }
}

/// A segment that an index needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Names it, and its file.
    pub id: SegmentId,
    /// What stands in it, in order of priority.
    pub pieces: Vec<Piece>,
}

impl Planned {
    fn of(pieces: &[Piece]) -> Self {
        let mut pieces = pieces.to_vec();
        pieces.sort_by_key(|piece| piece.accepted.priority);
        Self { id: SegmentId::of(pieces.iter().map(Piece::label)), pieces }
    }

    /// Contributions whose text stands in it.
    pub fn texts(&self) -> impl Iterator<Item = &Accepted> {
        self.pieces.iter().filter(|piece| !piece.is_erased).map(|piece| &piece.accepted)
    }

    /// Registered bytes of these.
    pub fn text_bytes(&self) -> u64 {
        self.texts().map(|accepted| accepted.text_bytes).sum()
    }
}

/// The segments of one Datanet version, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Datanet and version.
    pub version: AssetVersion,
    /// Its segments; none of a Datanet into which nothing was accepted.
    pub segments: Vec<Planned>,
    /// Whether the Datanet is private: its index is kept in no file, since that would show its text.
    pub is_private: bool,
}

impl Plan {
    /// Of an open Datanet, from what a version holds, and what was erased before it was published.
    pub fn new(version: AssetVersion, held: impl IntoIterator<Item = Accepted>, erased: impl IntoIterator<Item = Accepted>) -> Self {
        let piece = |is_erased| move |accepted| Piece { accepted, is_erased };
        let mut pieces: Vec<Piece> = held.into_iter().map(piece(false)).chain(erased.into_iter().map(piece(true))).collect();
        pieces.sort_by_key(|piece| piece.accepted.number);
        let bytes: Vec<u64> = pieces.iter().map(|piece| piece.accepted.text_bytes).collect();
        Self { version, segments: layout(&bytes).into_iter().map(|range| Planned::of(&pieces[range])).collect(), is_private: false }
    }

    /// The same of a private Datanet, or of none.
    #[must_use]
    pub fn private(self, is_private: bool) -> Self {
        Self { is_private, ..self }
    }

    /// From the books.
    ///
    /// # Errors
    /// [`Erased`] if the version's index holds what was erased since: nobody builds such a one.
    pub fn of(state: &State, version: AssetVersion) -> Result<Self, Erased> {
        erased::check(state, version)?;
        let is_private = state.asset(version.asset).is_some_and(|asset| card_of(asset).is_ok_and(|card| card.is_private()));
        let plan = Self::new(version, state.contributions_of(version).cloned(), state.tombstones_of(version).cloned());
        Ok(plan.private(is_private))
    }

    /// Names what follows from all segments together: which of their documents are near copies.
    pub fn rows_file(&self) -> String {
        let ids: Vec<u8> = self.segments.iter().flat_map(|planned| planned.id.0.0).collect();
        let Hash32(name) = keccak(&[b"tributary/rows/v1", &ids]);
        format!("R{}.rows", hex::encode(&name[..8]))
    }

    /// The names of its files.
    pub fn files(&self) -> impl Iterator<Item = String> {
        self.segments.iter().map(|planned| planned.id.file_name()).chain([self.rows_file()])
    }
}
