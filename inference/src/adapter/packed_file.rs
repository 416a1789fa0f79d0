//! A packed adapter as a file: what the store's disk holds, so that a second load neither parses nor packs.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | [`MAGIC`] with the version of packing |
//! | 32 | BLAKE3 of all that follows |
//! | 4 | bytes of the head, little endian |
//! | head | postcard of [`Head`] |
//! | rest | of each linear layer that has matrices: A's scales and codes, B's scales and codes, little endian |
//!
//! Every length follows from the head's ranks and the model; a file of another length is damaged. The digest finds bytes that a disk has
//! lost or a power cut has torn; it does not make a stranger's file true, and none is ever taken from one.

use serde::{Deserialize, Serialize};

use crate::backend::cpu::pack::{PANEL, PackedRows};
use crate::model::{ModelInfo, Site};

use super::{AdapterInfo, Packed8, PackedPair, RANK_MAX};

/// First bytes. The last one changes when codes or their order change: older files are then of no use.
const MAGIC: &[u8; 8] = b"TRIBPAK1";
/// Bytes before the head.
const FRONT: usize = MAGIC.len() + 32 + 4;
/// Bytes of the head: three for each linear layer of the deepest model, and a name.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of a name: what a folder's name may have.
const NAME_BYTES_MAX: usize = 255;

/// Why a packed file is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackedFileError {
    /// Written by another version, or no such file at all.
    #[error("it is not a packed adapter of this version")]
    Version,
    /// Packed for another base.
    #[error("it was packed for base {}", hex::encode(.0))]
    OtherBase([u8; 32]),
    /// Its bytes are not those that were written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// What a file says before its matrices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) id: [u8; 32],
    base: [u8; 32],
    name: String,
    is_base_recorded: bool,
    /// By layer, then by site; 0 where there is no matrix.
    ranks: Vec<u16>,
}

impl Head {
    /// Parses the front of a file and checks it against the model.
    pub(super) fn parse(bytes: &[u8], model: &ModelInfo) -> Result<(Self, usize), PackedFileError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(PackedFileError::Version)?;
        let length = rest.get(32..).and_then(<[u8]>::first_chunk).map(|length| u32::from_le_bytes(*length));
        let length = length.and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= HEAD_BYTES_MAX);
        let head = length.and_then(|length| bytes.get(FRONT..)?.get(..length)).ok_or(PackedFileError::Damaged("its head is cut off"))?;
        let end = FRONT + head.len();
        let head: Self = postcard::from_bytes(head).map_err(|_| PackedFileError::Damaged("its head is not readable"))?;
        if head.base != model.hash {
            return Err(PackedFileError::OtherBase(head.base));
        }
        let fits = head.ranks.len() == model.config.layers * Site::ALL.len()
            && head.ranks.iter().all(|rank| usize::from(*rank) <= RANK_MAX)
            && head.ranks.iter().any(|rank| *rank > 0)
            && head.name.len() <= NAME_BYTES_MAX
            && Site::ALL.iter().all(|site| site.shape(&model.config).1.is_multiple_of(PANEL));
        if fits { Ok((head, end)) } else { Err(PackedFileError::Damaged("its head does not fit the model")) }
    }

    /// Layer, site and rank of each linear layer that has matrices.
    fn pairs(&self) -> impl Iterator<Item = (usize, Site, usize)> + '_ {
        let places = (0..).flat_map(|layer| Site::ALL.map(|site| (layer, site)));
        places.zip(&self.ranks).filter(|(_, rank)| **rank > 0).map(|((layer, site), rank)| (layer, site, usize::from(*rank)))
    }

    /// Bytes of the matrices.
    pub(super) fn matrix_bytes(&self, model: &ModelInfo) -> u64 {
        let bytes = |[outputs, columns]: [usize; 2]| (outputs.next_multiple_of(PANEL) * (columns + 4)) as u64;
        self.pairs().map(|(_, site, rank)| shapes(model, site, rank)).map(|[a, b]| bytes(a) + bytes(b)).sum()
    }

    pub(super) fn info(&self, model: &ModelInfo) -> AdapterInfo {
        AdapterInfo {
            hash: self.id,
            rank: self.ranks.iter().copied().max().map_or(0, usize::from),
            name: self.name.clone(),
            bytes: self.matrix_bytes(model),
            is_base_recorded: self.is_base_recorded,
        }
    }
}

/// Rows and columns of A and of B.
fn shapes(model: &ModelInfo, site: Site, rank: usize) -> [[usize; 2]; 2] {
    let (out, input) = site.shape(&model.config);
    [[rank, input], [out, rank.next_multiple_of(PANEL)]]
}

impl Packed8 {
    /// The file's bytes. `base` is the hash of the model it was packed for.
    pub(super) fn encode(&self, base: [u8; 32]) -> Vec<u8> {
        let info = self.info();
        let places = (0..self.layers()).flat_map(|layer| Site::ALL.map(|site| (layer, site)));
        let rank = |pair: Option<&PackedPair>| pair.map_or(0, |pair| u16::try_from(pair.a.outputs()).expect("at most RANK_MAX"));
        let mut name = info.name.clone();
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        let ranks = places.clone().map(|(layer, site)| rank(self.pair(layer, site))).collect();
        let head = Head { id: info.hash, base, name, is_base_recorded: info.is_base_recorded, ranks };
        let head = postcard::to_allocvec(&head).expect("plain data");
        let mut out = Vec::with_capacity(FRONT + head.len() + self.bytes());
        out.extend(MAGIC);
        out.extend([0; 32]);
        out.extend(u32::try_from(head.len()).expect("a short head").to_le_bytes());
        out.extend(head);
        for pair in places.filter_map(|(layer, site)| self.pair(layer, site)) {
            for (scales, codes) in [pair.a.parts(), pair.b.parts()] {
                out.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
                out.extend_from_slice(codes);
            }
        }
        let digest = blake3::hash(&out[MAGIC.len() + 32..]);
        out[MAGIC.len()..][..32].copy_from_slice(digest.as_bytes());
        out
    }

    /// Takes a file's bytes.
    ///
    /// # Errors
    /// Any [`PackedFileError`].
    pub(super) fn decode(bytes: &[u8], model: &ModelInfo) -> Result<Self, PackedFileError> {
        const SHORT: PackedFileError = PackedFileError::Damaged("its matrices are cut off");
        let (head, end) = Head::parse(bytes, model)?;
        if bytes.len() as u64 != end as u64 + head.matrix_bytes(model) {
            return Err(SHORT);
        }
        let digest = blake3::hash(&bytes[MAGIC.len() + 32..]);
        if bytes[MAGIC.len()..][..32] != *digest.as_bytes() {
            return Err(PackedFileError::Damaged("its digest is another"));
        }
        let mut rest = &bytes[end..];
        let mut rows = |[outputs, columns]: [usize; 2]| -> Result<PackedRows, PackedFileError> {
            let filled = outputs.next_multiple_of(PANEL);
            let (scales, after) = rest.split_at_checked(filled * 4).ok_or(SHORT)?;
            let (codes, after) = after.split_at_checked(filled * columns).ok_or(SHORT)?;
            rest = after;
            let scales = scales.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            PackedRows::from_parts(outputs, columns, scales, codes).ok_or(PackedFileError::Damaged("a scale is not a number"))
        };
        let mut pairs: Vec<_> = std::iter::repeat_with(|| [const { None }; 7]).take(model.config.layers).collect();
        for (layer, site, rank) in head.pairs() {
            let [a, b] = shapes(model, site, rank);
            pairs[layer][site as usize] = Some(PackedPair { a: rows(a)?, b: rows(b)? });
        }
        Ok(Self::from_pairs(pairs, head.info(model)))
    }
}

#[cfg(test)]
mod tests;
