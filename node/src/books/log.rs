//! What the books keep for the receipt log: its entries, the head signed last, and the heads of other logs that this node cosigned.
//!
//! Entry number n is receipt number n, and [`Books::keep_receipt`] writes both in one step: no crash leaves a receipt without its entry or logs one twice.
//! 32 bytes an entry, 40 a head, some hundred for each cosignature of the own one.

use attribution::log::Head;
use types::{
    encoding::Document as _,
    id::{Hash32, NodeId},
};

use super::{Books, BooksError, MARKS, SIGNED, damaged};

/// By receipt number: the receipt's hash.
pub(super) const ENTRIES: &str = "receipt-log";
/// By node: the head of its log that this node cosigned last.
const WITNESSED: &str = "witnessed-heads";
/// The head of the own log that was signed last.
const HEAD: &[u8] = b"log-head";
/// That head as a note, with what witnesses said of it.
const COSIGNED: &[u8] = b"log-cosigned";
/// Entries read in one step.
pub const PAGE: usize = 4_096;

impl Books {
    /// Receipts signed so far: the entries that the log has.
    pub fn log_len(&self) -> Result<u64, BooksError> {
        self.mark(SIGNED)
    }

    /// Up to `most` entries from one on, in order; fewer at the end.
    ///
    /// # Errors
    /// [`BooksError::Damaged`] if one is missing before it.
    pub fn logged(&self, from: u64, most: usize) -> Result<Vec<Hash32>, BooksError> {
        let rows = self.records.scan(ENTRIES, &from.to_be_bytes(), most)?;
        let numbered = rows.iter().zip(from..).map(|((key, hash), number)| {
            if key.as_slice() != number.to_be_bytes() {
                return Err(damaged(ENTRIES, &number.to_be_bytes(), "missing"));
            }
            hash.as_slice().try_into().map(Hash32).map_err(|_| damaged(ENTRIES, key, "not 32 bytes"))
        });
        numbered.collect()
    }

    /// Gives an entry to receipts that an earlier version of the program kept without one; says how many.
    pub fn fill_log(&self) -> Result<u64, BooksError> {
        let _writing = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (signed, mut number, mut filled) = (self.mark(SIGNED)?, 0, 0);
        while number < signed {
            let rows = self.records.scan(ENTRIES, &u64::to_be_bytes(number), PAGE)?;
            for (key, _) in &rows {
                let there = key.as_slice().try_into().map(u64::from_be_bytes).map_err(|_| damaged(ENTRIES, key, "not eight bytes"))?;
                filled += self.fill(number..there.min(signed))?;
                number = there + 1;
            }
            if rows.len() < PAGE {
                filled += self.fill(number..signed)?;
                break;
            }
        }
        Ok(filled)
    }

    fn fill(&self, numbers: std::ops::Range<u64>) -> Result<u64, BooksError> {
        let count = numbers.end.saturating_sub(numbers.start);
        for number in numbers {
            for bundle in self.receipts(&[number])? {
                self.records.put(ENTRIES, &number.to_be_bytes(), &bundle.receipt.document.hash().0)?;
            }
        }
        Ok(count)
    }

    /// The head of the own log that was signed last; of no entries if none was.
    pub fn log_head(&self) -> Result<Head, BooksError> {
        let Some(bytes) = self.records.get(MARKS, HEAD)? else { return Ok(Head::empty()) };
        Head::from_bytes(&bytes).ok_or_else(|| damaged(MARKS, HEAD, "not 40 bytes"))
    }

    /// Keeps a head of the own log, before it is signed.
    pub fn keep_log_head(&self, head: Head) -> Result<(), BooksError> {
        Ok(self.records.put(MARKS, HEAD, &head.to_bytes())?)
    }

    /// The head signed last with its cosignatures, or an earlier one.
    pub fn log_cosigned(&self) -> Result<Option<Vec<u8>>, BooksError> {
        Ok(self.records.get(MARKS, COSIGNED)?)
    }

    /// Keeps it, in place of the one before.
    pub fn keep_log_cosigned(&self, note: &[u8]) -> Result<(), BooksError> {
        Ok(self.records.put(MARKS, COSIGNED, note)?)
    }

    /// The head of another node's log that this one cosigned last.
    pub fn witnessed(&self, node: NodeId) -> Result<Option<Head>, BooksError> {
        let Some(bytes) = self.records.get(WITNESSED, &node.0)? else { return Ok(None) };
        Head::from_bytes(&bytes).map(Some).ok_or_else(|| damaged(WITNESSED, &node.0, "not 40 bytes"))
    }

    /// Keeps it, before the cosignature is shown.
    pub fn keep_witnessed(&self, node: NodeId, head: Head) -> Result<(), BooksError> {
        Ok(self.records.put(WITNESSED, &node.0, &head.to_bytes())?)
    }
}
