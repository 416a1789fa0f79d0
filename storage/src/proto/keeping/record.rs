//! The record of one object: its first placement and every handover since, each with its signatures.
//!
//! Canonical bytes, big-endian: placement length u16, placement, contributor's signature 65; handovers u16, each 85 bytes, the coordinator's signature 65,
//! the new holder's 65; in the order of [`HandedOver::key`].

use std::collections::{BTreeMap, BTreeSet};

use types::{
    encoding::{DecodeError, Document, Reader, Writer},
    id::{Address, BlobId, Hash32},
    key::{Domains, SignatureError, Signed, Signed65, verify},
    placement::{HANDOVER_BYTES, HOLDERS_MAX, Handover, Placement},
};

use crate::{
    erasure::{Profile, ProfileError},
    proto::{
        placement::{Assignment, Move, Rules},
        repair::coordinators,
    },
};

/// Most handovers in a record.
pub const MOVES_MAX: usize = 1_024;
const MOVE_BYTES: usize = HANDOVER_BYTES + 2 * 65;
/// Longest record.
pub const RECORD_BYTES_MAX: usize = 2 + 62 + 20 * HOLDERS_MAX + 65 + 2 + MOVES_MAX * MOVE_BYTES;

/// A handover and the two words that make it one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// What was handed over.
    pub handover: Handover,
    /// The coordinator's signature.
    pub by: Signed65,
    /// The new holder's, made once the fragment was on its disk.
    pub to: Signed65,
}

type Key = (u64, u8, u32, Address);

impl HandedOver {
    /// Epoch, fragment, generation, new holder: what tells handovers of one object apart.
    pub const fn key(&self) -> Key {
        let Handover { epoch, fragment, generation, to, .. } = self.handover;
        (epoch, fragment, generation, to)
    }

    const fn step(&self) -> Move {
        let Handover { object, fragment, generation, to, .. } = self.handover;
        Move { object, fragment, generation, to }
    }
}

/// What a record is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Whose signatures.
    pub domains: &'a Domains,
    /// Who contributed the object, by the registry.
    pub contributor: Address,
    /// The block of its commitment.
    pub block: u64,
    /// That block's hash.
    pub seed: Hash32,
    /// Seeds of the epochs that its handovers name ([`Record::epochs`]); one that is absent has not begun.
    pub epochs: &'a BTreeMap<u64, Hash32>,
}

/// Why a record says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not the bytes of one.
    #[error("not a record of holders: {0}")]
    Decode(#[from] DecodeError),
    /// A signature does not stand.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Not a code.
    #[error("a placement over {holders} holders, {data} of which suffice, is none")]
    Profile {
        /// Fragments that suffice.
        data: u8,
        /// Holders named.
        holders: usize,
    },
    /// The registry says otherwise.
    #[error("the registry has object {object} by {contributor} in block {block}, the record says otherwise")]
    Foreign {
        /// The object.
        object: BlobId,
        /// Its contributor.
        contributor: Address,
        /// The block of its commitment.
        block: u64,
    },
    /// One operator with two fragments.
    #[error("{0} is named as the holder of two fragments")]
    Twice(Address),
    /// Another object, or a fragment that there is none of.
    #[error("fragment {fragment} of object {object} is handed over in the record of another")]
    Stray {
        /// The object.
        object: BlobId,
        /// The fragment.
        fragment: u8,
    },
    /// The epoch has not begun.
    #[error("a handover of epoch {epoch}, which has not begun")]
    Early {
        /// The epoch.
        epoch: u64,
    },
    /// Whoever handed it over was no coordinator.
    #[error("{by} was no coordinator of object {object} in epoch {epoch}")]
    Unelected {
        /// Who.
        by: Address,
        /// The object.
        object: BlobId,
        /// The epoch.
        epoch: u64,
    },
    /// Two placements of one object.
    #[error("object {0} was placed otherwise before, and placement is for life: ask a holder for its record")]
    Placed(BlobId),
    /// More handovers than are kept.
    #[error("the record of object {0} is full: {MOVES_MAX} handovers")]
    Full(BlobId),
}

/// The record of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    placement: Signed<Placement>,
    moves: BTreeMap<Key, HandedOver>,
}

impl Record {
    /// A record of the first placement alone.
    pub const fn new(placement: Signed<Placement>) -> Self {
        Self { placement, moves: BTreeMap::new() }
    }

    /// The object.
    pub const fn object(&self) -> BlobId {
        self.placement.document.object
    }

    /// The first placement.
    pub const fn placement(&self) -> &Placement {
        &self.placement.document
    }

    /// The same with its contributor's signature, which is checked by nobody before [`Record::verify`].
    pub const fn signed_placement(&self) -> &Signed<Placement> {
        &self.placement
    }

    /// Handovers since, in order of epoch.
    pub fn handovers(&self) -> impl ExactSizeIterator<Item = &HandedOver> {
        self.moves.values()
    }

    /// Epochs in which something moved.
    pub fn epochs(&self) -> BTreeSet<u64> {
        self.moves.keys().map(|(epoch, ..)| *epoch).collect()
    }

    /// The code.
    ///
    /// # Errors
    /// [`RecordError::Profile`].
    pub fn profile(&self) -> Result<Profile, RecordError> {
        let Placement { data, holders, .. } = &self.placement.document;
        let none = RecordError::Profile { data: *data, holders: holders.len() };
        let total = u8::try_from(holders.len()).map_err(|_| none.clone())?;
        Profile::new(*data, total).map_err(|ProfileError { .. }| none)
    }

    /// Who holds what after every handover.
    ///
    /// # Errors
    /// [`RecordError::Profile`].
    pub fn assignment(&self, seed: Hash32, rules: Rules) -> Result<Assignment, RecordError> {
        self.assignment_before(u64::MAX, seed, rules)
    }

    /// Who held what when an epoch began: after the handovers of the epochs before it.
    ///
    /// # Errors
    /// [`RecordError::Profile`].
    pub fn assignment_before(&self, epoch: u64, seed: Hash32, rules: Rules) -> Result<Assignment, RecordError> {
        let Placement { object, holders, .. } = &self.placement.document;
        let mut assignment = Assignment::of_record(seed, *object, self.profile()?, rules, holders);
        // An operator that gave one fragment on and took another can do the second only after the first: as many rounds as change something.
        for _ in 0..=HOLDERS_MAX {
            let changed = self.moves.range(..(epoch, 0, 0, Address::ZERO)).filter(|(_, moved)| assignment.apply(moved.step())).count();
            if changed == 0 {
                break;
            }
        }
        Ok(assignment)
    }

    /// Whether everything in it is said by whom it must be: [`Record::verify_words`], then [`Record::verify_turns`].
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn verify(&self, known: &Known<'_>, checked: Option<&Self>) -> Result<(), RecordError> {
        self.verify_words(known, checked)?;
        self.verify_turns(known, checked)
    }

    /// Whether every word in it is signed by whom it names, the placement by the object's contributor and each handover by who held a fragment before its
    /// epoch. What `checked` has too was checked before. Needs no seed of an epoch: whoever would have to ask the chain for them does this first.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn verify_words(&self, known: &Known<'_>, checked: Option<&Self>) -> Result<(), RecordError> {
        let Placement { contributor, object, block, holders, .. } = &self.placement.document;
        let (object, profile) = (*object, self.profile()?);
        if (*contributor, *block) != (known.contributor, known.block) {
            return Err(RecordError::Foreign { object, contributor: known.contributor, block: known.block });
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = holders.iter().find(|holder| !seen.insert(**holder)) {
            return Err(RecordError::Twice(*twice));
        }
        if checked.is_none_or(|checked| checked.placement != self.placement) {
            self.placement.verify(known.domains, *contributor)?;
        }
        for epoch in self.new_epochs(checked) {
            let before = self.assignment_before(epoch, known.seed, Rules::default())?;
            for HandedOver { handover, by, to } in self.new_in(epoch, checked) {
                if handover.object != object || handover.fragment >= profile.total() {
                    return Err(RecordError::Stray { object: handover.object, fragment: handover.fragment });
                }
                if before.held_by(handover.by).is_none() {
                    return Err(RecordError::Unelected { by: handover.by, object, epoch });
                }
                verify(known.domains, handover, by, handover.by)?;
                verify(known.domains, handover, to, handover.to)?;
            }
        }
        Ok(())
    }

    /// Whether each handover that `checked` has not was made by a coordinator of its epoch.
    ///
    /// # Errors
    /// [`RecordError::Early`], [`RecordError::Unelected`].
    pub fn verify_turns(&self, known: &Known<'_>, checked: Option<&Self>) -> Result<(), RecordError> {
        let object = self.object();
        for epoch in self.new_epochs(checked) {
            let seed = *known.epochs.get(&epoch).ok_or(RecordError::Early { epoch })?;
            let before = self.assignment_before(epoch, known.seed, Rules::default())?;
            let elected = coordinators(seed, object, before.holders().map(|(_, holder)| holder));
            if let Some(moved) = self.new_in(epoch, checked).find(|moved| !elected.contains(&moved.handover.by)) {
                return Err(RecordError::Unelected { by: moved.handover.by, object, epoch });
            }
        }
        Ok(())
    }

    /// Epochs of handovers that `checked` has not.
    pub fn new_epochs(&self, checked: Option<&Self>) -> BTreeSet<u64> {
        self.epochs().into_iter().filter(|epoch| self.new_in(*epoch, checked).next().is_some()).collect()
    }

    fn new_in<'r>(&'r self, epoch: u64, checked: Option<&'r Self>) -> impl Iterator<Item = &'r HandedOver> {
        let of_epoch = self.moves.range((epoch, 0, 0, Address::ZERO)..).take_while(move |((at, ..), _)| *at == epoch);
        of_epoch.filter(move |(key, moved)| checked.is_none_or(|checked| checked.moves.get(*key) != Some(*moved))).map(|(_, moved)| moved)
    }

    /// Adds a handover that both have signed; true if it is new.
    ///
    /// # Errors
    /// [`RecordError::Full`].
    pub fn add(&mut self, moved: HandedOver) -> Result<bool, RecordError> {
        if self.moves.len() >= MOVES_MAX && !self.moves.contains_key(&moved.key()) {
            return Err(RecordError::Full(self.object()));
        }
        Ok(self.moves.insert(moved.key(), moved).is_none())
    }

    /// Takes in what `other`, which was verified, has and this one has not; true if anything is.
    ///
    /// # Errors
    /// [`RecordError::Placed`], [`RecordError::Full`].
    pub fn merge(&mut self, other: &Self) -> Result<bool, RecordError> {
        if self.placement.document != other.placement.document {
            return Err(RecordError::Placed(self.object()));
        }
        let mut is_changed = false;
        for moved in other.moves.values() {
            if !self.moves.contains_key(&moved.key()) {
                is_changed |= self.add(*moved)?;
            }
        }
        Ok(is_changed)
    }

    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let body = self.placement.document.encode();
        let length = u16::try_from(body.len()).expect("a placement has at most 255 holders");
        let moves: Vec<_> = self.moves.values().collect();
        let count = u16::try_from(moves.len()).expect("handovers are bounded");
        let head = Writer::new().u16(length).bytes(&body).bytes(&self.placement.signature.0).u16(count);
        head.each(&moves, |w, moved| w.bytes(&moved.handover.encode()).bytes(&moved.by.0).bytes(&moved.to.0)).finish()
    }

    /// Reads a peer's or the disk's bytes; signatures are checked by [`Record::verify`].
    ///
    /// # Errors
    /// [`RecordError::Decode`], also for bytes that [`Record::encode`] would not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::new(bytes);
        let length = r.u16("placement length")?;
        let document = Placement::decode(r.bytes("placement", length.into())?)?;
        let placement = Signed { document, signature: signature(&mut r)? };
        let count = usize::from(r.u16("handovers")?);
        if count > MOVES_MAX {
            let got = u64::try_from(count).unwrap_or(u64::MAX);
            return Err(DecodeError::Value { field: "handovers", got, expected: "at most 1024" }.into());
        }
        let moved = |r: &mut Reader<'_>| {
            let handover = Handover::decode(r.bytes("handover", HANDOVER_BYTES)?)?;
            Ok(HandedOver { handover, by: signature(r)?, to: signature(r)? })
        };
        let list = r.each("handovers", count, MOVE_BYTES, moved)?;
        r.finish()?;
        if list.windows(2).any(|pair| pair[0].key() >= pair[1].key()) {
            return Err(DecodeError::Value { field: "handovers", got: 0, expected: "ascending, each once" }.into());
        }
        Ok(Self { placement, moves: list.into_iter().map(|moved| (moved.key(), moved)).collect() })
    }
}

fn signature(r: &mut Reader<'_>) -> Result<Signed65, DecodeError> {
    let bytes = r.bytes("signature", 65)?;
    Ok(Signed65(bytes.try_into().expect("as many bytes as were asked for")))
}

#[cfg(test)]
mod tests;
