//! What a poster showed of its tree on the chain, read again from the events.
//!
//! The contract has checked each answer against the payout that was pending then. A tree may say that it has up to 2^64 leaves: such openings are read too,
//! since one that is passed over would leave a question that was answered unanswered here.

use std::collections::BTreeMap;

use types::{
    amount::Amount,
    encoding::{DecodeError, Reader},
    id::Hash32,
    merkle::{SumOpening, Summed, keccak},
    payout::{PartLeaf, PayoutLeaf},
};

use super::super::{
    pack::Packer,
    payout::{read_leaf, read_part},
};

/// Bytes of a sum tree's head: count, total, top.
pub(super) const HEAD_BYTES: usize = 8 + 16 + 32;
/// Bytes of an opening in a tree of one leaf.
pub(super) const ALONE_BYTES: usize = 16;
/// Bytes of a sibling.
const SIBLING_BYTES: usize = 48;
/// Bytes of a leaf's body.
pub(super) const LEAF_BYTES: usize = 84;

/// What a poster showed of its tree.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    pub(super) is_empty: bool,
    pub(super) leaves: BTreeMap<u64, (PayoutLeaf, SumOpening)>,
    pub(super) parts: BTreeMap<u64, BTreeMap<u64, (PartLeaf, SumOpening)>>,
}

fn opening(reader: &mut Reader<'_>) -> Result<SumOpening, DecodeError> {
    let (leaves, index) = (reader.u64("leaves")?, reader.u64("index")?);
    let depth = leaves.checked_sub(1).and_then(u64::checked_ilog2).map_or(0, |level| level + 1);
    let mut siblings = Vec::new();
    for _ in 0..depth {
        siblings.push(Summed { digest: reader.hash("sibling")?, sum: reader.amount("sum")? });
    }
    Ok(SumOpening { leaves, index, siblings })
}

/// Total of the tree that an opening leads to, and its packed head, whose digest is the root. Nothing if the sums do not fit.
pub(super) fn head_of(leaf: Summed, opening: &SumOpening) -> Option<(Amount, Vec<u8>)> {
    let mut top = leaf;
    for (level, sibling) in opening.siblings.iter().enumerate() {
        let (left, right) = if opening.index >> level & 1 == 0 { (top, *sibling) } else { (*sibling, top) };
        let digest = keccak(&[&[1], &left.digest.0, &left.sum.0.to_be_bytes(), &right.digest.0, &right.sum.0.to_be_bytes()]);
        top = Summed { digest, sum: left.sum.plus(right.sum).ok()? };
    }
    let packed = Packer::new().u64(opening.leaves).raw(&top.sum.0.to_be_bytes()).raw(&top.digest.0);
    Some((top.sum, packed.finish()))
}

/// Whether an opening leads to a root.
fn leads_to(leaf: Summed, opening: &SumOpening, root: Hash32) -> bool {
    opening.index < opening.leaves && head_of(leaf, opening).is_some_and(|(_, head)| keccak(&[&[3], &head]) == root)
}

/// The leaf that evidence begins with, if it is one of the tree with this root, and how many bytes it takes.
fn leaf_of(evidence: &[u8], posted: Hash32) -> Option<(PayoutLeaf, SumOpening, usize)> {
    let (body, rest) = evidence.split_at_checked(LEAF_BYTES)?;
    let leaf = read_leaf(body)?;
    let place = opening(&mut Reader::new(rest)).ok()?;
    let used = LEAF_BYTES + ALONE_BYTES + SIBLING_BYTES * place.siblings.len();
    leads_to(leaf.summed(), &place, posted).then_some((leaf, place, used))
}

/// The part that follows, if it is one of the leaf's.
fn part_of(rest: &[u8], parts: Hash32) -> Option<(PartLeaf, SumOpening)> {
    let length = rest.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))?;
    let end = usize::try_from(length).ok()?.checked_add(4)?;
    let part = rest.get(4..end).and_then(read_part)?;
    let place = opening(&mut Reader::new(rest.get(end..)?)).ok()?;
    leads_to(part.summed(), &place, parts).then_some((part, place))
}

impl Answers {
    /// Takes what was shown on the chain. What is of another tree than `posted` (an earlier payout's), or of none, is passed over.
    pub fn take(&mut self, evidence: &[u8], posted: Hash32) {
        if evidence.len() == HEAD_BYTES {
            self.is_empty |= keccak(&[&[3], evidence]) == posted;
            return;
        }
        let Some((leaf, place, used)) = leaf_of(evidence, posted) else { return };
        let at = place.index;
        self.leaves.insert(at, (leaf, place));
        if let Some((part, place)) = evidence.get(used..).and_then(|rest| part_of(rest, leaf.parts)) {
            self.parts.entry(at).or_default().insert(place.index, (part, place));
        }
    }

    pub(super) fn pack_leaf(&self, packer: Packer, place: u64) -> Option<Packer> {
        let (leaf, opening) = self.leaves.get(&place)?;
        Some(packer.raw(&leaf.encode()).sum_opening(opening))
    }

    pub(super) fn part(&self, leaf: u64, place: u64) -> Option<&(PartLeaf, SumOpening)> {
        self.parts.get(&leaf)?.get(&place)
    }

    pub(super) fn pack_part(&self, packer: Packer, leaf: u64, place: u64) -> Option<Packer> {
        let (part, opening) = self.part(leaf, place)?;
        Some(packer.blob(&part.encode()).sum_opening(opening))
    }
}
