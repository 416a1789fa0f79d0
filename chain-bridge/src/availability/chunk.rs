//! How bytes are cut into transactions and joined again by who finds them there. Pure.
//!
//! A chunk is the data of a transaction that its account sends to itself: `"tributary/blob/v1"`, the BLAKE3 of the whole (32 bytes), index u16, total u16,
//! and the chunk's bytes, [`CHUNK_BYTES`] in every one but the last. A reader joins them by name, in whatever order they are met, and believes the whole
//! by its BLAKE3 alone.

use std::collections::BTreeMap;

use types::{
    encoding::{Reader, Writer},
    id::{Address, BlobId},
};

use super::{AvailabilityError, len};

/// Most bytes of one transaction's data: nodes of OP chains take transactions of up to 128 KiB.
pub const CALLDATA_MAX: usize = 120 << 10;
/// What such data begins with.
const TAG: &[u8] = b"tributary/blob/v1";
/// Bytes before a chunk's own.
const HEAD: usize = TAG.len() + 32 + 2 + 2;
/// Bytes of every chunk but the last.
pub const CHUNK_BYTES: usize = CALLDATA_MAX - HEAD;
/// Most chunks of one blob, 31 MB: at five million gas each they are the gas of forty blocks of an OP chain.
pub const CHUNKS_MAX: u16 = 256;
/// Names that are joined at once: an account keeps one blob an epoch, and one that mixes more is not waited for.
const OPEN_MAX: usize = 8;

/// The data of the transactions that keep some bytes, in order; at least one.
///
/// # Errors
/// [`AvailabilityError::TooLong`] beyond [`CHUNKS_MAX`] chunks.
pub fn chunks(bytes: &[u8]) -> Result<impl Iterator<Item = Vec<u8>>, AvailabilityError> {
    let needed = bytes.len().div_ceil(CHUNK_BYTES).max(1);
    let total = u16::try_from(needed).ok().filter(|total| *total <= CHUNKS_MAX).ok_or_else(|| {
        let most = u64::from(CHUNKS_MAX) * u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX);
        AvailabilityError::TooLong { what: "what is to be kept in calldata".to_owned(), got: len(bytes), most }
    })?;
    let blob = BlobId::of(bytes);
    Ok((0..total).map(move |index| {
        let rest = bytes.get(usize::from(index) * CHUNK_BYTES..).unwrap_or_default();
        let own = &rest[..rest.len().min(CHUNK_BYTES)];
        Writer::sized(HEAD + own.len()).bytes(TAG).blob(blob).u16(index).u16(total).bytes(own).finish()
    }))
}

/// A chunk as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk<'d> {
    blob: BlobId,
    index: u16,
    total: u16,
    bytes: &'d [u8],
}

/// Reads a transaction's data; nothing if it is no chunk, or one that [`chunks`] does not make.
fn read(data: &[u8]) -> Option<Chunk<'_>> {
    let mut reader = Reader::new(data.strip_prefix(TAG)?);
    let (blob, index, total) = (reader.blob("blob").ok()?, reader.u16("index").ok()?, reader.u16("total").ok()?);
    let left = reader.left();
    let bytes = reader.bytes("chunk", left).ok()?;
    let is_last = index.checked_add(1)? == total;
    let fits = if is_last { left <= CHUNK_BYTES && (left > 0 || total == 1) } else { left == CHUNK_BYTES };
    (index < total && total <= CHUNKS_MAX && fits).then_some(Chunk { blob, index, total, bytes })
}

/// Chunks of one account, joined as they are met.
#[derive(Debug)]
pub struct Joining {
    owner: Address,
    most: u64,
    open: BTreeMap<BlobId, Open>,
}

#[derive(Debug)]
struct Open {
    total: u16,
    chunks: BTreeMap<u16, Vec<u8>>,
}

impl Joining {
    /// Of what `owner` sent to itself, blobs of at most `most` bytes. Holds no more than what arrived.
    pub const fn new(owner: Address, most: u64) -> Self {
        Self { owner, most, open: BTreeMap::new() }
    }

    /// Takes a transaction; returns the blob that it completes. What is not the owner's, no chunk, or a second one of its place is passed over, and
    /// chunks that together do not have their name's BLAKE3 are forgotten.
    pub fn take(&mut self, from: Address, to: Option<Address>, data: &[u8]) -> Option<(BlobId, Vec<u8>)> {
        if from != self.owner || to != Some(self.owner) {
            return None;
        }
        let chunk = read(data)?;
        let least = usize::from(chunk.total - 1).saturating_mul(CHUNK_BYTES);
        if u64::try_from(least).unwrap_or(u64::MAX) > self.most {
            return None;
        }
        if !self.open.contains_key(&chunk.blob) && self.open.len() >= OPEN_MAX {
            return None;
        }
        let open = self.open.entry(chunk.blob).or_insert_with(|| Open { total: chunk.total, chunks: BTreeMap::new() });
        if open.total != chunk.total {
            return None;
        }
        open.chunks.entry(chunk.index).or_insert_with(|| chunk.bytes.to_vec());
        if open.chunks.len() < usize::from(open.total) {
            return None;
        }
        let whole = self.open.remove(&chunk.blob)?.chunks.into_values().collect::<Vec<_>>().concat();
        (len(&whole) <= self.most && BlobId::of(&whole) == chunk.blob).then_some((chunk.blob, whole))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWNER: Address = Address([7; 20]);

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at * at % 251).unwrap()).collect()
    }

    fn cut(bytes: &[u8]) -> Vec<Vec<u8>> {
        chunks(bytes).unwrap().collect()
    }

    fn join<'d>(most: u64, data: impl IntoIterator<Item = &'d Vec<u8>>) -> Vec<(BlobId, Vec<u8>)> {
        let mut joining = Joining::new(OWNER, most);
        data.into_iter().filter_map(|data| joining.take(OWNER, Some(OWNER), data)).collect()
    }

    #[test]
    fn what_is_cut_is_joined_again_in_any_order_however_often_a_chunk_is_met() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5] {
            let whole = bytes(length);
            let cut = cut(&whole);
            assert_eq!(cut.len(), length.div_ceil(CHUNK_BYTES).max(1));
            assert!(cut.iter().all(|data| data.len() <= CALLDATA_MAX));
            let expected = vec![(BlobId::of(&whole), whole)];
            assert_eq!(join(u64::MAX, &cut), expected, "{length}");
            assert_eq!(join(u64::MAX, cut.iter().rev()), expected, "{length}, backwards");
            assert_eq!(join(u64::MAX, cut.iter().rev().skip(1).chain(cut.iter().rev().take(1))), expected, "{length}, the last one last");
            let mut repeated: Vec<&Vec<u8>> = cut[..cut.len() - 1].iter().flat_map(|data| [data, data]).collect();
            repeated.push(&cut[cut.len() - 1]);
            assert_eq!(join(u64::MAX, repeated), expected, "{length}, twice");
        }
    }

    #[test]
    fn a_missing_chunk_and_chunks_under_a_wrong_name_give_nothing() {
        let cut = cut(&bytes(3 * CHUNK_BYTES + 5));
        for missing in 0..cut.len() {
            let rest = (0..cut.len()).filter(|at| *at != missing).map(|at| &cut[at]);
            assert_eq!(join(u64::MAX, rest), [], "chunk {missing} is missing");
        }
        let mut wrong = cut.clone();
        wrong[1][HEAD] ^= 1;
        assert_eq!(join(u64::MAX, &wrong), [], "a byte of a chunk");
        assert_eq!(join(u64::MAX, wrong.iter().chain(&cut)).len(), 1, "what was wrong is forgotten, and does not stand in the way");
        wrong.clone_from(&cut);
        wrong.iter_mut().for_each(|data| data[TAG.len()] ^= 1);
        assert_eq!(join(u64::MAX, &wrong), [], "another name over all");
    }

    #[test]
    fn what_another_account_sent_or_what_went_to_another_one_is_passed_over() {
        let cut = cut(&bytes(9));
        let mut joining = Joining::new(OWNER, u64::MAX);
        let other = Address([8; 20]);
        for (from, to) in [(other, Some(other)), (other, Some(OWNER)), (OWNER, Some(other)), (OWNER, None)] {
            assert_eq!(joining.take(from, to, &cut[0]), None, "{from} to {to:?}");
        }
        assert!(joining.take(OWNER, Some(OWNER), &cut[0]).is_some());
    }

    #[test]
    fn what_is_too_long_is_neither_cut_nor_joined() {
        let most = usize::from(CHUNKS_MAX) * CHUNK_BYTES;
        assert!(matches!(chunks(&vec![0; most + 1]).err(), Some(AvailabilityError::TooLong { .. })));
        assert_eq!(chunks(&vec![0; most]).unwrap().count(), usize::from(CHUNKS_MAX));
        let whole = bytes(CHUNK_BYTES + 1);
        let cut = cut(&whole);
        assert_eq!(join(len(&whole), &cut).len(), 1);
        assert_eq!(join(len(&whole) - 1, &cut), [], "longer than asked for");
        let mut joining = Joining::new(OWNER, u64::try_from(CHUNK_BYTES).unwrap() - 1);
        assert_eq!(joining.take(OWNER, Some(OWNER), &cut[0]), None);
        assert!(joining.open.is_empty(), "what cannot fit is not even held");

        let head = |index: u16, total: u16, length: usize| {
            Writer::new().bytes(TAG).blob(BlobId([1; 32])).u16(index).u16(total).bytes(&vec![0; length]).finish()
        };
        for (index, total, length) in [
            (0, 2, CHUNK_BYTES + 1),
            (0, 2, CHUNK_BYTES - 1),
            (1, 2, CHUNK_BYTES + 1),
            (1, 2, 0),
            (2, 2, 1),
            (0, 0, 0),
            (u16::MAX, u16::MAX, 1),
            (0, CHUNKS_MAX + 1, CHUNK_BYTES),
        ] {
            assert_eq!(read(&head(index, total, length)), None, "{index} of {total} with {length} bytes");
        }
        assert!(read(&head(0, CHUNKS_MAX, CHUNK_BYTES)).is_some());
    }

    #[test]
    fn an_account_that_begins_many_blobs_is_not_held_in_memory() {
        let mut joining = Joining::new(OWNER, u64::MAX);
        for name in 0..100 {
            let data = Writer::new().bytes(TAG).blob(BlobId([name; 32])).u16(0).u16(2).bytes(&[0; CHUNK_BYTES]).finish();
            assert_eq!(joining.take(OWNER, Some(OWNER), &data), None);
        }
        assert_eq!(joining.open.len(), OPEN_MAX);
    }

    proptest! {
        #[test]
        fn reading_never_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&data);
            let _ = read(&[TAG, &data].concat());
            prop_assert!(Joining::new(OWNER, 1 << 20).take(OWNER, Some(OWNER), &data).is_none());
        }
    }
}
