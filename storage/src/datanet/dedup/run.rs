//! The layout of a run: sorted entries (key, document number), which never change once they are written.
//!
//! A run has 33 columns: one for each band, and one for the digests of whole texts, whose key is their first four bytes. Entries of a column ascend by
//! key, those of one key by the priority of their documents; a priority never changes, so neither does that order, whatever is accepted late. Keys are uniform,
//! so a column is cut into 2^p *pages* by their first p bits, with 256 to 511 entries to a page on average, and a page into 256 *slots* by the next eight. A page of a key is found without a
//! search, its slot by counting bits, and of each entry only the last 24 - p bits are written.
//!
//! ```text
//! header          TRIBRUNS, version u8 (2), bits of a document number u8, entries of a band u32, of the digests u32, BLAKE3 of each section in its order
//! per column      starts: first entry of each page, and the end, u32 each
//!                 slots: for each in turn a one per entry, then a zero; filled up with zeros to a multiple of 32 bits
//!                 rests: the last 24 - p bits of each key, packed
//!                 numbers: packed
//! ```
//!
//! Integers are big-endian; packed ones begin at the lowest bit of a byte. Back of the envelope: at 20 million documents (p = 16) a key takes 9.8 bits, 1.8 of them in slots, and a number
//! 25, so a document 145 bytes; the starts, all of a run that is kept in memory, half a byte. Keys lie apart from numbers, since a search reads
//! most keys and few numbers: 32,768 documents have a million keys to ask for, which touch each page of 20 million documents. Nine in ten of those that are asked for are not there, and two
//! of five end at an empty slot: a search takes few branches that cannot be foreseen, which a search by halves of a page is made of.

use types::encoding::{DecodeError, Reader, Writer};

use super::BANDS;

/// Columns of a run: the bands, then the digests.
pub(crate) const COLUMNS: usize = BANDS + 1;
/// The column of digests.
pub(crate) const DIGESTS: usize = BANDS;
/// Sections of a column.
pub(crate) const SECTIONS: usize = 4;
/// Bytes before the first section.
pub(crate) const HEADER_BYTES: usize = 18 + 32 * SECTIONS * COLUMNS;

const MAGIC: &[u8; 8] = b"TRIBRUNS";
const VERSION: u8 = 2;
/// Fewest entries of a page on average, where there are that many: its start in memory costs 4 bytes.
const PAGE_ENTRIES: u32 = 256;
const KEY_BITS: u32 = u32::BITS;
/// Bits of a key that say the slot within its page.
const SLOT_BITS: u32 = 8;

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
    /// Bits of a key that are written: 32 less those that say page and slot.
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
            let slots = starts + 4 * (pages(rest_bits) as u64 + 1);
            let rests = slots + 4 * u64::from(slot_words(entries, rest_bits));
            let numbers = rests + bytes(rest_bits);
            end = numbers + bytes(self.number_bits);
            Column { entries, rest_bits, at: [starts, slots, rests, numbers, end] }
        })
    }

    /// Bytes of the whole run.
    pub(crate) fn bytes(self) -> u64 {
        self.columns()[COLUMNS - 1].at[SECTIONS]
    }
}

/// Bits of each key that are written where there are so many of them.
fn rest_bits(entries: u32) -> u32 {
    KEY_BITS - SLOT_BITS - (entries / PAGE_ENTRIES).checked_ilog2().unwrap_or(0)
}

/// Words of 32 bits of a column's slots.
pub(crate) fn slot_words(entries: u32, rest_bits: u32) -> u32 {
    let bits = u64::from(entries) + ((pages(rest_bits) as u64) << SLOT_BITS);
    u32::try_from(bits.div_ceil(32)).expect("a thirty-second of less than 2^33")
}

/// Pages of a column.
pub(crate) const fn pages(rest_bits: u32) -> usize {
    1 << (KEY_BITS - SLOT_BITS - rest_bits)
}

/// The page of a slot.
pub(crate) const fn page(slot: u32) -> usize {
    (slot >> SLOT_BITS) as usize // at most 2^23 pages
}

/// The first slot of a page; of the one behind the last, where the slots end.
pub(crate) const fn first_slot(page: usize) -> u64 {
    (page as u64) << SLOT_BITS
}

impl Column {
    /// The slot of a key, and what of the key is written there.
    pub(crate) const fn split(&self, key: u32) -> (u32, u32) {
        (key >> self.rest_bits, key & ((1 << self.rest_bits) - 1))
    }

    /// The key that is `rest` in a slot.
    pub(crate) const fn key(&self, slot: u32, rest: u32) -> u32 {
        slot << self.rest_bits | rest
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
        return Err(DecodeError::Value { field: "version", got: version.into(), expected: "TRIBRUNS version 2" });
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

/// The bits of eight bytes from bit `bit` of `bytes` on; what lies behind the end reads as zero.
#[inline]
fn word(bytes: &[u8], bit: usize) -> u64 {
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
    word >> (bit % 8)
}

/// The integer of `width` bits, at most 32, from bit `bit` of `bytes` on; what lies behind the end reads as zero.
#[inline]
pub(crate) fn unpack(bytes: &[u8], bit: usize, width: u32) -> u32 {
    u32::try_from(word(bytes, bit) & ((1 << width) - 1)).expect("at most 32 bits")
}

/// As many bits from bit `bit` on, before bit `end`, as a word holds: 64 from each first bit of a byte on.
#[inline]
fn bits(bit: usize, end: usize) -> u32 {
    u32::try_from((end - bit).min(64 - bit % 8)).expect("at most 64")
}

/// Goes `slots` zeros ahead from bit `from` of `bytes` on, or to the bit before which they end: the zeros and the ones that were passed.
#[inline]
pub(crate) fn pass(bytes: &[u8], from: usize, end: usize, slots: u32) -> (u32, u32) {
    let (mut bit, mut left, mut entries) = (from, slots, 0);
    while left > 0 && bit < end {
        // Four words at once where a byte begins and more than their zeros are passed: none waits for the one before.
        if let Some(four) = bytes.get(bit / 8..).and_then(<[u8]>::first_chunk::<32>)
            && bit.is_multiple_of(8)
            && bit + 256 <= end
        {
            let ones: u32 = four.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word).count_ones()).sum();
            if 256 - ones < left {
                (bit, left, entries) = (bit + 256, left - (256 - ones), entries + ones);
                continue;
            }
        }
        let some = bits(bit, end);
        let word = word(bytes, bit) & (u64::MAX >> (64 - some));
        let ones = word.count_ones();
        let zeros = some - ones;
        if zeros < left {
            (bit, left, entries) = (bit + some as usize, left - zeros, entries + ones);
            continue;
        }
        // The last zero that is to be passed is in this word.
        let mut open = !word;
        for _ in 1..left {
            open &= open - 1;
        }
        entries += open.trailing_zeros() + 1 - left;
        left = 0;
    }
    (slots - left, entries)
}

/// Ones from bit `from` of `bytes` on, up to a zero or the bit before which they end.
#[inline]
pub(crate) fn ones(bytes: &[u8], from: usize, end: usize) -> u32 {
    let (mut bit, mut count) = (from, 0);
    while bit < end {
        let some = bits(bit, end);
        let ones = word(bytes, bit).trailing_ones().min(some);
        count += ones;
        if ones < some {
            break;
        }
        bit += some as usize;
    }
    count
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
    fn twenty_million_documents_take_a_hundred_and_forty_five_bytes_each_and_half_a_byte_of_memory() {
        let shape = Shape::new(20_000_000, 20_000_000, 20_000_000);
        assert_eq!(shape.bytes().div_ceil(20_000_000), 145);
        let memory: u64 = shape.columns().iter().map(|column| column.at[1] - column.at[0]).sum();
        assert_eq!(memory, 33 * 4 * 65_537);
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_no_other_is() {
        let mut hashes = [[[0; 32]; SECTIONS]; COLUMNS];
        hashes[32][3] = [7; 32];
        let shape = Shape::new(3, 4, 5);
        let bytes = header(shape, &hashes);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(hex::encode(&bytes[..18]), format!("{}0203{}{}", hex::encode("TRIBRUNS"), "00000003", "00000004"));
        assert_eq!(parse(&bytes).unwrap(), (shape, hashes));
        (0..bytes.len()).for_each(|len| assert!(parse(&bytes[..len]).is_err(), "{len}"));
        for (at, byte) in [(0, b'X'), (8, 1), (9, 0), (9, 33)] {
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
        fn a_key_is_its_slot_and_its_rest(entries in any::<u32>(), key in any::<u32>()) {
            let column = Shape::new(entries, 0, 1).columns()[0];
            let (slot, rest) = column.split(key);
            prop_assert!(page(slot) < pages(column.rest_bits));
            prop_assert_eq!(column.key(slot, rest), key);
        }

        #[test]
        fn slots_are_passed_as_if_bit_by_bit(bits in proptest::collection::vec(any::<bool>(), 0..2000), from in 0_usize..100, slots in 0_u32..1200) {
            let (mut packer, from) = (Packer::default(), from.min(bits.len()));
            bits.iter().for_each(|bit| packer.push(u32::from(*bit), 1));
            let bytes = packer.finish();
            let (mut passed, mut entries, mut at) = (0, 0, from);
            while passed < slots && at < bits.len() {
                if bits[at] { entries += 1 } else { passed += 1 }
                at += 1;
            }
            prop_assert_eq!(pass(&bytes, from, bits.len(), slots), (passed, entries));
            let run = bits[from..].iter().take_while(|bit| **bit).count();
            prop_assert_eq!(ones(&bytes, from, bits.len()) as usize, run);
        }
    }
}
