//! The outlines of documents' sets, one after another in a file: what candidates are sifted by before their sets are read.
//!
//! 32 bytes each: parity 24, shingles u32, check u32. A search reads hundreds of them for each document it asks for, so the check is three multiplications instead of a hash: a disk
//! errs, it does not choose its errors. Candidates of many rows are sifted together, in the order of their numbers, so that the file is read from front to back: 290 MB at 9 million documents,
//! whatever the number of candidates, instead of a system call for each.

use super::{DiskError, files::Window, io_error};
use crate::datanet::dedup::outline::Outline;

/// The file.
pub(super) const OUTLINES: &str = "outlines";
/// Bytes of one.
pub(super) const OUTLINE_BYTES: usize = 32;

/// What stands in the file for the document of this number.
pub(super) fn encode(number: u32, outline: &Outline) -> Vec<u8> {
    let mut bytes: Vec<u8> = outline.parity.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend_from_slice(&outline.count.to_be_bytes());
    bytes.extend_from_slice(&check(number, outline).to_be_bytes());
    bytes
}

/// Each step maps 64 bits one to one, so whatever differs in one word differs at the end but for once in 2^32.
fn check(number: u32, outline: &Outline) -> u32 {
    let own = u64::from(outline.count) << 32 | u64::from(number);
    let mixed = outline.parity.iter().chain([&own]).fold(0x243f_6a88_85a3_08d3_u64, |mixed, word| {
        let mixed = (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 32)
    });
    u32::try_from(mixed >> 32).expect("32 bits")
}

/// Outlines that are read.
pub(super) struct Outlines<'f> {
    window: Window<'f>,
    /// The last one and whose it is.
    last: Option<(u32, Outline)>,
}

impl<'f> Outlines<'f> {
    pub(super) const fn new(window: Window<'f>) -> Self {
        Self { window, last: None }
    }

    /// The outline of a document.
    pub(super) fn get(&mut self, number: u32) -> Result<Outline, DiskError> {
        if let Some((last, outline)) = self.last
            && last == number
        {
            return Ok(outline);
        }
        let damaged = || DiskError::Damaged {
            file: OUTLINES.into(),
            problem: format!("the outline of document {number} is not the one that was written"),
        };
        let bytes = self.window.get(u64::from(number) * OUTLINE_BYTES as u64, OUTLINE_BYTES).map_err(io_error("read", OUTLINES))?;
        let ([a, b, c, own], []) = bytes.as_chunks::<8>() else { return Err(damaged()) };
        let own = u64::from_be_bytes(*own);
        let halves = [own >> 32, own & 0xffff_ffff].map(|half| u32::try_from(half).expect("32 bits"));
        let outline = Outline { count: halves[0], parity: [a, b, c].map(|word| u64::from_be_bytes(*word)) };
        if check(number, &outline) != halves[1] {
            return Err(damaged());
        }
        self.last = Some((number, outline));
        Ok(outline)
    }
}
