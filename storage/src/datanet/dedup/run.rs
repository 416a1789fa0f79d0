//! The layout of a run: sorted entries (key, document number), which never change once they are written.
//!
//! A run has 33 columns: one for each band, and one for the digests of whole texts, whose key is their first four bytes. Entries of a column ascend by
//! key, those of one key by the priority of their documents; a priority never changes, so neither does that order, whatever is accepted late. Keys are uniform,
//! so a column is cut into 2^p *pages* by their first p bits, with 256 to 511 entries to a page on average: a page of a key is found without a search, and of each
//! entry only the other bits are written.
//!
//! ```text
//! header          TRIBRUNS, version u8 (1), bits of a document number u8, entries of a band u32, of the digests u32, BLAKE3 of each section in its order
//! per column      starts: first entry of each page, and the end, u32 each
//!                 keys: the last 32 - p bits of each, packed
//!                 numbers: packed
//! ```
//!
//! Integers are big-endian; packed ones begin at the lowest bit of a byte. Back of the envelope: at 20 million documents a key takes 16 bits (p = 16) and a number
//! 25, so a document 170 bytes; the starts, all of a run that is kept in memory, half a byte. Keys lie apart from numbers, since a search reads
//! most keys and few numbers: 32,768 documents have a million keys to ask for, which touch each page of 20 million documents.

use types::encoding::{DecodeError, Reader, Writer};

use super::BANDS;

/// Columns of a run: the bands, then the digests.
pub(crate) const COLUMNS: usize = BANDS + 1;
/// The column of digests.
pub(crate) const DIGESTS: usize = BANDS;
/// Sections of a column.
pub(crate) const SECTIONS: usize = 3;
/// Bytes before the first section.
pub(crate) const HEADER_BYTES: usize = 18 + 32 * SECTIONS * COLUMNS;

const MAGIC: &[u8; 8] = b"TRIBRUNS";
const VERSION: u8 = 1;
/// Fewest entries of a page on average, where there are that many: its start in memory costs 4 bytes.
const PAGE_ENTRIES: u32 = 256;
const KEY_BITS: u32 = u32::BITS;

/// BLAKE3 of each section.
pub(crate) type Hashes = [[[u8; 32]; SECTIONS]; COLUMNS];

/// How much a run holds, which says where everything stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Entries of each band: documents with words.
    pub(crate) signed: u32,
    /// Entries of the digests: all documents.
    pub(crate) documents: u32,
    /// Bits of a document number, 1 to 32.
    pub(crate) number_bits: u32,
}

/// Where a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its entries.
    pub(crate) entries: u32,
    /// Bits of a key that are written: 32 less those that say the page.
    pub(crate) rest_bits: u32,
    /// First byte of each section, and the end of the last.
    pub(crate) at: [u64; SECTIONS + 1],
}

impl Shape {
    /// The shape of a run whose document numbers are all below `numbers`.
    pub(crate) fn new(signed: u32, documents: u32, numbers: u32) -> Self {
        Self { signed, documents, number_bits: (u32::BITS - numbers.saturating_sub(1).leading_zeros()).max(1) }
    }

    const fn entries(self, column: usize) -> u32 {
        if column == DIGESTS { self.documents } else { self.signed }
    }

    /// Where its columns stand.
    pub(crate) fn columns(self) -> [Column; COLUMNS] {
        let mut end = HEADER_BYTES as u64;
        std::array::from_fn(|column| {
            let entries = self.entries(column);
            let rest_bits = rest_bits(entries);
            let bytes = |bits: u32| (u64::from(entries) * u64::from(bits)).div_ceil(8);
            let starts = end;
            let keys = starts + 4 * (pages(rest_bits) as u64 + 1);
            let numbers = keys + bytes(rest_bits);
            end = numbers + bytes(self.number_bits);
            Column { entries, rest_bits, at: [starts, keys, numbers, end] }
        })
    }

    /// Bytes of the whole run.
    pub(crate) fn bytes(self) -> u64 {
        self.columns()[COLUMNS - 1].at[SECTIONS]
    }
}

/// Bits of each key that are written where there are so many of them.
fn rest_bits(entries: u32) -> u32 {
    KEY_BITS - (entries / PAGE_ENTRIES).checked_ilog2().unwrap_or(0)
}

/// Pages of a column.
pub(crate) const fn pages(rest_bits: u32) -> usize {
    1 << (KEY_BITS - rest_bits)
}

impl Column {
    /// The page of a key, and what of the key is written there.
    pub(crate) fn split(&self, key: u32) -> (usize, u32) {
        let (page, rest) = (u64::from(key) >> self.rest_bits, u64::from(key) & ((1 << self.rest_bits) - 1));
        (usize::try_from(page).expect("at most 2^23 pages"), u32::try_from(rest).expect("a part of 32 bits"))
    }

    /// The key that is `rest` in a page.
    pub(crate) fn key(&self, page: usize, rest: u32) -> u32 {
        u32::try_from((page as u64) << self.rest_bits | u64::from(rest)).expect("a page has the other bits")
    }
}

/// The header of a run.
pub(crate) fn header(shape: Shape, hashes: &Hashes) -> Vec<u8> {
    let bits = u8::try_from(shape.number_bits).expect("at most 32");
    let w = Writer::new().bytes(MAGIC).u8(VERSION).u8(bits).u32(shape.signed).u32(shape.documents);
    hashes.as_flattened().iter().fold(w, |w, hash| w.bytes(hash)).finish()
}

/// What a header says.
///
/// # Errors
/// [`DecodeError`] if it is none.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Shape, Hashes), DecodeError> {
    let mut r = Reader::new(bytes);
    let is_magic = r.bytes("magic", MAGIC.len())? == MAGIC;
    let version = r.u8("version")?;
    if !is_magic || version != VERSION {
        return Err(DecodeError::Value { field: "version", got: version.into(), expected: "TRIBRUNS version 1" });
    }
    let number_bits = u32::from(r.u8("bits of a number")?);
    if !(1..=u32::BITS).contains(&number_bits) {
        return Err(DecodeError::Value { field: "bits of a number", got: number_bits.into(), expected: "1 to 32" });
    }
    let shape = Shape { signed: r.u32("entries of a band")?, documents: r.u32("entries of the digests")?, number_bits };
    let mut hashes = [[[0; 32]; SECTIONS]; COLUMNS];
    for hash in hashes.as_flattened_mut() {
        *hash = *r.bytes("hash", 32)?.first_chunk().expect("32 bytes");
    }
    r.finish()?;
    Ok((shape, hashes))
}

/// Packs integers of few bits.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    bytes: Vec<u8>,
    held: u64,
    bits: u32,
}

impl Packer {
    /// Adds the lowest `width` bits, at most 32, of `value`, which has no others.
    pub(crate) fn push(&mut self, value: u32, width: u32) {
        self.held |= u64::from(value) << self.bits;
        self.bits += width;
        if self.bits >= 32 {
            self.bytes.extend_from_slice(&self.held.to_le_bytes()[..4]);
            self.held >>= 32;
            self.bits -= 32;
        }
    }

    /// Whole bytes that wait.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the whole bytes.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Takes everything, the last byte filled up with zeros.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let rest = usize::try_from(self.bits.div_ceil(8)).expect("at most 4");
        let mut bytes = self.take();
        bytes.extend_from_slice(&self.held.to_le_bytes()[..rest]);
        (self.held, self.bits) = (0, 0);
        bytes
    }
}

/// The integer of `width` bits, at most 32, from bit `bit` of `bytes` on; what lies behind the end reads as zero.
pub(crate) fn unpack(bytes: &[u8], bit: usize, width: u32) -> u32 {
    let at = bit / 8;
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk).map_or_else(
        || {
            let mut eight = [0; 8];
            let rest = bytes.get(at..).unwrap_or_default();
            eight[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(eight)
        },
        |eight| u64::from_le_bytes(*eight),
    );
    u32::try_from((word >> (bit % 8)) & ((1 << width) - 1)).expect("at most 32 bits")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_holds_256_to_511_entries_on_average() {
        for entries in [512, 1023, 1024, 100_000, 20_000_000, u32::MAX] {
            let pages = pages(rest_bits(entries)) as u64;
            assert!((256..512).contains(&(u64::from(entries) / pages)), "{entries}");
        }
        assert_eq!((pages(rest_bits(0)), pages(rest_bits(511))), (1, 1));
    }

    #[test]
    fn twenty_million_documents_take_a_hundred_and_seventy_bytes_each_and_half_a_byte_of_memory() {
        let shape = Shape::new(20_000_000, 20_000_000, 20_000_000);
        assert_eq!(shape.bytes() / 20_000_000, 169);
        let memory: u64 = shape.columns().iter().map(|column| column.at[1] - column.at[0]).sum();
        assert_eq!(memory, 33 * 4 * 65_537);
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_no_other_is() {
        let mut hashes = [[[0; 32]; SECTIONS]; COLUMNS];
        hashes[32][2] = [7; 32];
        let shape = Shape::new(3, 4, 5);
        let bytes = header(shape, &hashes);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(hex::encode(&bytes[..18]), format!("{}0103{}{}", hex::encode("TRIBRUNS"), "00000003", "00000004"));
        assert_eq!(parse(&bytes).unwrap(), (shape, hashes));
        (0..bytes.len()).for_each(|len| assert!(parse(&bytes[..len]).is_err(), "{len}"));
        for (at, byte) in [(0, b'X'), (8, 2), (9, 0), (9, 33)] {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            assert!(parse(&bytes).is_err(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(width in 1_u32..=32, values in proptest::collection::vec(any::<u32>(), 0..50), cut in 1_usize..9) {
            let values: Vec<u32> = values.into_iter().map(|value| u32::try_from(u64::from(value) & ((1 << width) - 1)).unwrap()).collect();
            let (mut packer, mut bytes) = (Packer::default(), Vec::new());
            for value in &values {
                packer.push(*value, width);
                if packer.len() > cut {
                    bytes.extend(packer.take());
                }
            }
            bytes.extend(packer.finish());
            prop_assert_eq!(bytes.len(), (values.len() * width as usize).div_ceil(8));
            let read: Vec<u32> = (0..values.len()).map(|at| unpack(&bytes, at * width as usize, width)).collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn a_key_is_its_page_and_its_rest(entries in any::<u32>(), key in any::<u32>()) {
            let column = Shape::new(entries, 0, 1).columns()[0];
            let (page, rest) = column.split(key);
            prop_assert!(page < pages(column.rest_bits));
            prop_assert_eq!(column.key(page, rest), key);
        }
    }
}
